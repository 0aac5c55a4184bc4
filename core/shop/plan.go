package shop

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// wholeHouse is up to how many seats a house is drawn seat by seat at once; in a larger one a part of it is chosen first.
const wholeHouse = 1500

// plan is the picture of a house: its parts as shapes. It follows from the chart alone and is made once.
type plan struct {
	ViewBox   string
	Pitch     float64 // usual distance between neighbours
	Parts     []part  // as the sections of the chart
	Landmarks []landmark
	Font      float64 // of the parts' names
	Big       bool
}

type part struct {
	Shape string  // path data
	Short string  // name without what all names begin with
	X, Y  float64 // middle of its name
	Class string  // of its category's colour; empty when it has several
	Count int
}

type landmark struct {
	Label               string
	X, Y, Width, Height float64
	TextX, TextY        float64
}

type point struct{ X, Y float64 }

type box struct{ x0, y0, x1, y1 float64 }

func (b *box) add(x, y float64) {
	b.x0, b.y0, b.x1, b.y1 = min(b.x0, x), min(b.y0, y), max(b.x1, x), max(b.y1, y)
}

func emptyBox() box { return box{math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)} }

// drawPlan draws a house.
func drawPlan(hall *catalog.Hall) *plan {
	c := hall.Chart
	p := &plan{Pitch: pitch(c), Big: c.SeatCount() > wholeHouse}
	all := emptyBox()
	names := commonStart(c)
	for i := range c.Sections {
		s := &c.Sections[i]
		d := part{Short: strings.TrimPrefix(s.Name, names), Class: oneCategory(s)}
		outline, middle := outline(s)
		for _, q := range outline {
			all.add(q.X, q.Y)
		}
		for j := range s.Rows {
			d.Count += len(s.Rows[j].Seats)
		}
		d.Shape, d.X, d.Y = shape(outline), middle.X, middle.Y
		p.Parts = append(p.Parts, d)
	}
	for _, l := range c.Landmarks {
		a := l.Area
		p.Landmarks = append(p.Landmarks, landmark{l.Label, a.X, a.Y, a.Width, a.Height, a.X + a.Width/2, a.Y + a.Height/2})
		all.add(a.X, a.Y)
		all.add(a.X+a.Width, a.Y+a.Height)
	}
	margin := 2.2 * p.Pitch
	if p.Big {
		margin = max(margin, (all.x1-all.x0)/60)
	}
	p.ViewBox = fmt.Sprintf("%.4g %.4g %.4g %.4g", all.x0-margin, all.y0-margin, all.x1-all.x0+2*margin, all.y1-all.y0+2*margin)
	p.Font = (all.x1 - all.x0) / 30
	if p.Big {
		p.Font = (all.x1 - all.x0) / 85
	}
	return p
}

// pitch is the median distance of neighbours in a row; 20 in a house without any.
func pitch(c *chart.Chart) float64 {
	var ds []float64
	for i := range c.Sections {
		for j := range c.Sections[i].Rows {
			row := &c.Sections[i].Rows[j]
			if row.General != nil {
				continue
			}
			for k := 1; k < len(row.Seats) && len(ds) < 5000; k++ {
				ds = append(ds, math.Hypot(row.Seats[k].X-row.Seats[k-1].X, row.Seats[k].Y-row.Seats[k-1].Y))
			}
		}
	}
	if len(ds) == 0 {
		return 20
	}
	slices.Sort(ds)
	return max(ds[len(ds)/2], 0.1)
}

// outline goes round a section: along its first row, down the ends of the rows, back along the last one and up the other ends. An
// admission area is its own outline. middle is where a name fits.
func outline(s *chart.Section) (around []point, middle point) {
	var rows []*chart.Row
	b := emptyBox()
	for j := range s.Rows {
		row := &s.Rows[j]
		if a := row.General; a != nil {
			b.add(a.X, a.Y)
			b.add(a.X+a.Width, a.Y+a.Height)
		} else if len(row.Seats) > 0 {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		if math.IsInf(b.x0, 1) {
			return nil, point{}
		}
		return []point{{b.x0, b.y0}, {b.x1, b.y0}, {b.x1, b.y1}, {b.x0, b.y1}}, point{(b.x0 + b.x1) / 2, (b.y0 + b.y1) / 2}
	}
	first, last := rows[0], rows[len(rows)-1]
	around = along(first)
	for _, row := range rows {
		s := row.Seats[len(row.Seats)-1]
		around = append(around, point{s.X, s.Y})
	}
	back := along(last)
	slices.Reverse(back)
	around = append(around, back...)
	for i := len(rows) - 1; i >= 0; i-- {
		around = append(around, point{rows[i].Seats[0].X, rows[i].Seats[0].Y})
	}
	mid := rows[len(rows)/2]
	seat := mid.Seats[len(mid.Seats)/2]
	return around, point{seat.X, seat.Y}
}

// along is a row's course, in at most a dozen points.
func along(row *chart.Row) (out []point) {
	step := max(len(row.Seats)/12, 1)
	for k := 0; k < len(row.Seats); k += step {
		out = append(out, point{row.Seats[k].X, row.Seats[k].Y})
	}
	s := row.Seats[len(row.Seats)-1]
	return append(out, point{s.X, s.Y})
}

func shape(ps []point) string {
	var b strings.Builder
	last := point{math.NaN(), math.NaN()}
	for _, p := range ps {
		if p == last {
			continue
		}
		command := byte('L')
		if b.Len() == 0 {
			command = 'M'
		}
		fmt.Fprintf(&b, "%c%.5g %.5g", command, p.X, p.Y)
		last = p
	}
	if b.Len() > 0 {
		b.WriteByte('Z')
	}
	return b.String()
}

// oneCategory is the class of a section's category, empty when its seats are of several.
func oneCategory(s *chart.Section) string {
	category := -1
	for j := range s.Rows {
		for k := range s.Rows[j].Seats {
			switch c := s.Rows[j].Seats[k].Category; {
			case category < 0:
				category = c
			case category != c:
				return ""
			}
		}
	}
	if category < 0 {
		return ""
	}
	return categoryClass(category)
}

// commonStart is the word that all sections' names begin with ("Block "), if there are many of them.
func commonStart(c *chart.Chart) string {
	if len(c.Sections) < 3 {
		return ""
	}
	word, _, found := strings.Cut(c.Sections[0].Name, " ")
	if !found {
		return ""
	}
	word += " "
	for i := range c.Sections {
		if rest, ok := strings.CutPrefix(c.Sections[i].Name, word); !ok || rest == "" {
			return ""
		}
	}
	return word
}

// freeSeats counts the free seats of each row of each section, in one walk through the blocks: a stadium has 60,000.
func freeSeats(hall *catalog.Hall, av chart.Availability) [][]int {
	out := make([][]int, len(hall.Chart.Sections))
	for i := range hall.Chart.Sections {
		out[i] = make([]int, len(hall.Chart.Sections[i].Rows))
	}
	for _, b := range av.Blocks {
		if int(b.Block) >= len(hall.Layout.Blocks) {
			continue
		}
		for n, ref := range hall.Layout.Blocks[b.Block].Seats {
			if b.Free.Has(n) {
				out[ref.Section][ref.Row]++
			}
		}
	}
	return out
}

func sum(ns []int) (total int) {
	for _, n := range ns {
		total += n
	}
	return total
}

// level says how full a part is, for its shade: 0 none free, 1 few, 2 many.
func level(free, of int) int {
	switch {
	case free == 0:
		return 0
	case free*5 < of:
		return 1
	}
	return 2
}

// lowHigh are the cheapest and dearest offers of a section.
func lowHigh(hall *catalog.Hall, s *chart.Section, show catalog.Show) (low, high int64, ok bool) {
	seen := map[int]bool{}
	for j := range s.Rows {
		for k := range s.Rows[j].Seats {
			seen[s.Rows[j].Seats[k].Category] = true
		}
	}
	var prices []int64
	for c := range seen {
		if o, found := show.Offer(hall.Chart.Categories[c].Name); found {
			prices = append(prices, o.Total())
		}
	}
	if len(prices) == 0 {
		return 0, 0, false
	}
	slices.SortFunc(prices, cmp.Compare[int64])
	return prices[0], prices[len(prices)-1], true
}
