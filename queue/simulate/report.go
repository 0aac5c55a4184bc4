package simulate

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Mean joins runs of one scenario with different seeds: measures are averaged, counts of broken rules added up, extremes kept.
func Mean(runs []*Result) *Result {
	if len(runs) == 1 {
		return runs[0]
	}
	m := *runs[0]
	m.ViolationKinds = append([]string{}, m.ViolationKinds...)
	n := float64(len(runs))
	mean := func(get func(*Result) *float64) *float64 {
		sum, have := 0.0, 0.0
		for _, r := range runs {
			if v := get(r); v != nil {
				sum, have = sum+*v, have+1
			}
		}
		if have == 0 {
			return nil
		}
		sum /= have
		return &sum
	}
	for _, r := range runs[1:] {
		m.CapUse += r.CapUse
		m.IdleP50 += r.IdleP50
		m.IdleP95 += r.IdleP95
		m.DoorP50 += r.DoorP50
		m.DoorP95 += r.DoorP95
		m.DoorP99 += r.DoorP99
		m.Fill98 += r.Fill98
		m.SealLagP99 += r.SealLagP99
		m.Inversions += r.Inversions
		m.Violations += r.Violations
		m.ViolationKinds = append(m.ViolationKinds, r.ViolationKinds...)
		m.ETAForecasts += r.ETAForecasts
		m.RefusedHolders += r.RefusedHolders
		m.Admitted += r.Admitted
		m.Called += r.Called
		m.Stamped += r.Stamped
		m.LateTickets += r.LateTickets
		m.Sold += r.Sold
		m.Overshoot = max(m.Overshoot, r.Overshoot)
		m.InversionS = max(m.InversionS, r.InversionS)
		m.DoorLongest = max(m.DoorLongest, r.DoorLongest)
		m.DoorOpening = max(m.DoorOpening, r.DoorOpening)
		m.FrozenPlaces = max(m.FrozenPlaces, r.FrozenPlaces)
	}
	for _, v := range []*float64{&m.CapUse, &m.IdleP50, &m.IdleP95, &m.DoorP50, &m.DoorP95, &m.DoorP99, &m.Fill98, &m.SealLagP99} {
		*v /= n
	}
	m.OutageRatio = mean(func(r *Result) *float64 { return r.OutageRatio })
	m.ETACoverage = mean(func(r *Result) *float64 { return r.ETACoverage })
	m.ETAMedianError = mean(func(r *Result) *float64 { return r.ETAMedianError })
	m.RateUse = mean(func(r *Result) *float64 { return r.RateUse })
	m.HolderShare = mean(func(r *Result) *float64 { return r.HolderShare })
	m.Runs = len(runs)
	return &m
}

// row is one measure of the table.
type row struct {
	Name, Value, Protocol, Note string
	Bad                         bool
}

func (r *Result) rows() []row {
	opt := func(v *float64, digits int) string {
		if v == nil {
			return "–"
		}
		return strconv.FormatFloat(*v, 'f', digits, 64)
	}
	f := func(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }
	rows := []row{
		{Name: "cap use", Value: f(r.CapUse, 4), Note: "share of places taken, from filled on"},
		{Name: "overshoot", Value: strconv.Itoa(r.Overshoot), Note: "most sessions over the cap", Bad: r.Overshoot > 0},
		{Name: "idle place p50 / p95, s", Value: f(r.IdleP50, 2) + " / " + f(r.IdleP95, 2), Note: "from free to taken"},
		{Name: "door wait p50 / p95, s", Value: f(r.DoorP50, 2) + " / " + f(r.DoorP95, 1), Note: "from coming to being let in"},
		{Name: "fill to 98%, s", Value: f(r.Fill98, 1), Note: "from the opening"},
		{Name: "admissions during the outage", Value: opt(r.OutageRatio, 3), Note: "of those in as long a time before"},
		{Name: "80% interval held", Value: opt(r.ETACoverage, 3), Note: fmt.Sprintf("%d forecasts after the first dwell time", r.ETAForecasts)},
		{Name: "forecast, median error", Value: opt(r.ETAMedianError, 3), Note: "of the actual time"},
		{Name: "inversions", Value: strconv.Itoa(r.Inversions), Note: "longest against true arrival: " + f(r.InversionS, 3) + " s", Bad: r.Inversions > 0},
		{Name: "door, longest / at opening", Value: fmt.Sprintf("%d / %d", r.DoorLongest, r.DoorOpening), Note: "fans"},
		{Name: "stamped / called / let in", Value: fmt.Sprintf("%d / %d / %d", r.Stamped, r.Called, r.Admitted), Note: fmt.Sprintf("%d late tickets", r.LateTickets)},
		{Name: "violations", Value: strconv.Itoa(r.Violations), Note: strings.Join(r.ViolationKinds, "; "), Bad: r.Violations > 0},
	}
	if p := r.protocol; p != nil {
		rows[0].Protocol = f(p.CapUse, 4)
		rows[2].Protocol = f(p.IdleP50, 2) + " / " + f(p.IdleP95, 2)
		rows[3].Protocol = f(p.DoorP50, 2) + " / " + f(p.DoorP95, 1)
		rows[4].Protocol = f(p.Fill98, 1)
		if p.OutageRatio != nil {
			rows[5].Protocol = opt(p.OutageRatio, 2)
		}
	}
	return rows
}

// WriteTable prints a run for people. Where the scenario is one of the protocol's own, its numbers stand beside.
func WriteTable(w io.Writer, r *Result) error {
	seeds := fmt.Sprintf("seed %d", r.Seed)
	if r.Runs > 1 {
		seeds = fmt.Sprintf("mean of %d runs from seed %d", r.Runs, r.Seed)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s: %s (%s)\n", r.Scenario, r.Title, seeds)
	fmt.Fprintln(t, "measure\tsimulated\tprotocol\t")
	for _, row := range r.rows() {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", row.Name, row.Value, row.Protocol, row.Note)
	}
	return t.Flush()
}

//go:embed report.html
var reportHTML string

var reportTemplate = template.Must(template.New("report").Parse(reportHTML))

// WriteHTML writes one run as a page that needs nothing else: table and charts.
func WriteHTML(w io.Writer, r *Result) error {
	s := r.series
	page := struct {
		*Result
		Rows   []row
		Charts []chart
	}{r, r.rows(), []chart{
		newChart("Sessions", "as the store counts them, and those that some edge lets through", s.at, []string{"store", "let through"}, s.act, s.honoured),
		newChart("Line", "ranks called, and tickets in the line", s.at, []string{"called", "tickets"}, s.called, s.total),
		newChart("Door", "fans at the doors, and called fans expected within the law's horizon", s.at, []string{"at the door", "expected"}, s.door, s.coming),
		newChart("Let in", "fans a second, and places freed a second", s.at, []string{"let in", "freed"}, s.grants, s.freed),
		newChart("Show-up", "share of called fans who come, as the law sees it", s.at, []string{"show-up"}, s.show),
	}}
	if err := reportTemplate.Execute(w, page); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// chart is an SVG line chart in a 720 x 200 box.
type chart struct {
	Title, About string
	Lines        []chartLine
	YTicks       []tick
	XTicks       []tick
}

type chartLine struct {
	Name, Points string
	Class        int
}

type tick struct {
	At    float64
	Label string
}

const (
	chartW, chartH = 720.0, 200.0
)

func newChart(title, about string, at []float64, names []string, lines ...[]float64) chart {
	c := chart{Title: title, About: about}
	top := 0.0
	for _, line := range lines {
		for _, v := range line {
			top = max(top, v)
		}
	}
	step := niceStep(top)
	top = max(math.Ceil(top/step)*step, step)
	end := 1.0
	if len(at) > 0 {
		end = max(at[len(at)-1], 1)
	}
	for v := 0.0; v <= top+step/2; v += step {
		c.YTicks = append(c.YTicks, tick{chartH - v/top*chartH, strconv.FormatFloat(v, 'g', 6, 64)})
	}
	xStep := niceStep(end/60) * 60
	for v := 0.0; v <= end; v += xStep {
		c.XTicks = append(c.XTicks, tick{v / end * chartW, strconv.FormatFloat(v/60, 'g', 4, 64)})
	}
	for i, line := range lines {
		var b strings.Builder
		for j, v := range line {
			fmt.Fprintf(&b, "%.1f,%.1f ", at[j]/end*chartW, chartH-v/top*chartH)
		}
		c.Lines = append(c.Lines, chartLine{names[i], strings.TrimSpace(b.String()), i})
	}
	return c
}

// niceStep is a round number of which about four make the given range.
func niceStep(top float64) float64 {
	if !(top > 0) {
		return 1
	}
	raw := top / 4
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5} {
		if m*unit >= raw {
			return m * unit
		}
	}
	return 10 * unit
}
