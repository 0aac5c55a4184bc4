package ui

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/stanchion-queue/stanchion/admin/desk"
)

// A chart is drawn in a plane of plotW by plotH that the page stretches to its width; the script draws in the same plane.
const (
	plotW   = 1000
	plotH   = 100
	columns = 500 // most points in a path; each is the peak of what it stands for
)

// series is one line of a chart.
type series struct {
	Key   string
	Name  string
	Unit  string
	Class string
	Right bool // on the scale at the right edge
	D     string
	Now   string // newest value
	of    func(desk.Point) float32
}

// chart is one picture. Least bounds the scale from below, so that noise around zero looks like noise.
type chart struct {
	ID, Title   string
	Unit        string
	Empty       string // what will be here, and how to make it so
	Series      []series
	Least       float64
	RightLeast  float64
	RightUnit   string
	Top, Middle string // labels of the scale
	RightTop    string
	Blank       bool // nothing was ever known
}

// charts are the four of the room's page.
func charts() []chart {
	return []chart{
		{ID: "flow", Title: "Arrivals and admissions", Unit: "fans a second", Least: 1,
			Empty: "Who comes and who is let in appears here from the first second on that the room's controller reports.",
			Series: []series{
				{Key: "arrivals", Name: "Arrivals", Unit: "/s", Class: "s2", of: func(p desk.Point) float32 { return p.Arrivals }},
				{Key: "admissions", Name: "Let in", Unit: "/s", Class: "s1", of: func(p desk.Point) float32 { return p.Admissions }},
				{Key: "rate", Name: "Rate allowed", Unit: "/s", Class: "s3", of: func(p desk.Point) float32 { return p.Rate }},
			}},
		{ID: "waiting", Title: "Waiting", Unit: "fans", Least: 10,
			Empty: "The length of the line appears here once the room's controller reports.",
			Series: []series{
				{Key: "waiting", Name: "Waiting", Class: "s1", of: func(p desk.Point) float32 { return p.Waiting }},
			}},
		{ID: "inside", Title: "Inside against the cap", Unit: "fans", Least: 10,
			Empty: "How full the room is appears here once the room's controller reports.",
			Series: []series{
				{Key: "inside", Name: "Inside", Class: "s1", of: func(p desk.Point) float32 { return p.Inside }},
				{Key: "at_door", Name: "At the door", Class: "s2", of: func(p desk.Point) float32 { return p.AtDoor }},
				{Key: "cap", Name: "Cap", Class: "s3", of: func(p desk.Point) float32 { return p.Cap }},
			}},
		{ID: "origin", Title: "Origin: latency and errors", Unit: "ms, 99th percentile", Least: 10, RightLeast: 1, RightUnit: "%",
			Empty: "How the origin is doing appears here when it reports: the core role does each second; another origin can by PUT to /internal/v1/rooms/ROOM/report.",
			Series: []series{
				{Key: "p99_ms", Name: "Latency", Unit: " ms", Class: "s1", of: func(p desk.Point) float32 { return p.P99MS }},
				{Key: "errors_percent", Name: "Errors", Unit: " %", Class: "s4", Right: true, of: func(p desk.Point) float32 { return p.Errors * 100 }},
			}},
	}
}

// tick is a labelled time on the shared axis.
type tick struct {
	X    string // percent
	Time time.Time
	Text string
}

// line is a mark on the charts.
type line struct {
	X string // percent
	desk.Mark
}

// drawing is the four charts over one time axis.
type drawing struct {
	Charts  []chart
	From    int64
	To      int64
	Minutes int
	Ticks   []tick
	Marks   []line
	Rows    []row
	Newest  []desk.Mark // newest first
}

// row is one line of the table that says the same as the charts.
type row struct {
	Time  time.Time
	Cells []string
}

func draw(points []desk.Point, marks []desk.Mark, now time.Time, minutes int) drawing {
	to := now.Unix()
	d := drawing{Charts: charts(), From: to - int64(minutes)*60, To: to, Minutes: minutes}
	for i := range d.Charts {
		d.Charts[i].draw(points, d.From, d.To)
	}
	step := map[int]int64{5: 60, 15: 180, 60: 600}[minutes]
	for t := (d.From/step + 1) * step; t < d.To; t += step {
		at := time.Unix(t, 0).UTC()
		d.Ticks = append(d.Ticks, tick{percent(t, d.From, d.To), at, at.Format("15:04")})
	}
	for _, m := range marks {
		if t := m.At.Unix(); t >= d.From && t <= d.To {
			d.Marks = append(d.Marks, line{percent(t, d.From, d.To), m})
			d.Newest = append([]desk.Mark{m}, d.Newest...)
		}
	}
	d.Rows = d.table(points)
	return d
}

func percent(t, from, to int64) string {
	return strconv.FormatFloat(100*float64(t-from)/float64(to-from), 'f', 2, 64) + "%"
}

func (c *chart) draw(points []desk.Point, from, to int64) {
	var top, right float64
	c.Blank = true
	for _, p := range points {
		for _, s := range c.Series {
			v := float64(s.of(p))
			if math.IsNaN(v) {
				continue
			}
			c.Blank = false
			if s.Right {
				right = max(right, v)
			} else {
				top = max(top, v)
			}
		}
	}
	top, right = nice(max(top, c.Least)), nice(max(right, c.RightLeast))
	c.Top, c.Middle, c.RightTop = label(top), label(top/2), label(right)
	for i := range c.Series {
		s := &c.Series[i]
		scale := top
		if s.Right {
			scale = right
		}
		s.D = trace(points, s.of, from, to, scale)
		s.Now = dash
		if n := len(points); n > 0 && to-points[n-1].At <= gapS {
			s.Now = s.show(points[n-1])
		}
	}
}

// nice is the next of 1, 2 or 5 times a power of ten.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*power*(1+1e-9) {
			return m * power
		}
	}
	return 10 * power
}

func label(v float64) string {
	if v >= 10 || v == math.Trunc(v) {
		return desk.Count(int64(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// gapS is how long nothing may be known before a line is broken, in seconds.
const gapS = 5

// trace is the path of a series. Each column shows the peak of its seconds; where nothing is known the line is broken.
func trace(points []desk.Point, of func(desk.Point) float32, from, to int64, scale float64) string {
	width := max(1, (to-from+columns-1)/columns)
	var b strings.Builder
	pen := false
	var last int64
	for i := 0; i < len(points); {
		column := (points[i].At - from) / width
		peak := math.NaN()
		t := points[i].At
		for ; i < len(points) && (points[i].At-from)/width == column; i++ {
			if v := float64(of(points[i])); !math.IsNaN(v) && !(v <= peak) {
				peak, t = v, points[i].At
			}
		}
		if t < from || t > to {
			continue
		}
		if math.IsNaN(peak) || pen && t-last > gapS+2*width {
			pen = false
		}
		if math.IsNaN(peak) {
			continue
		}
		x := float64(plotW) * float64(t-from) / float64(to-from)
		y := plotH - plotH*min(peak/scale, 1)
		word := "L"
		if !pen {
			word = "M"
		}
		fmt.Fprintf(&b, "%s%.1f %.1f", word, x, y)
		pen, last = true, t
	}
	return b.String()
}

// tableRows is how many moments the table shows.
const tableRows = 15

// table shows the newest known values at evenly spaced moments, newest first.
func (d drawing) table(points []desk.Point) []row {
	var rows []row
	step := max((d.To-d.From)/tableRows, 1)
	i := len(points) - 1
	for t := d.To; t > d.From && i >= 0; t -= step {
		for i >= 0 && points[i].At > t {
			i--
		}
		if i < 0 || t-points[i].At >= step {
			continue
		}
		r := row{Time: time.Unix(points[i].At, 0).UTC()}
		for _, c := range d.Charts {
			for _, s := range c.Series {
				r.Cells = append(r.Cells, s.show(points[i]))
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// show is a value as people read it.
func (s series) show(p desk.Point) string {
	v := s.of(p)
	if math.IsNaN(float64(v)) {
		return dash
	}
	if s.Unit == "" {
		return desk.Count(int64(math.Round(float64(v))))
	}
	return rate(v)
}
