// Package halls generates seating plans of invented venues: a theatre for demonstrations and a stadium of 60,000 seats
// for tests at full size. The same call always gives the same chart.
package halls

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// Theatre is a house of 836 seats: stalls with a centre aisle and curved rows, and a circle numbered odd on the left
// and even on the right, so that printed numbers say nothing about neighbours.
func Theatre() *chart.Chart {
	c := &chart.Chart{
		Name: "The Playhouse", Width: 1000, Height: 900,
		Categories: []chart.Category{
			{Name: "Premium", Color: "#b3403a"},
			{Name: "Stalls", Color: "#2f6f9f"},
			{Name: "Circle", Color: "#4b8b57"},
		},
		Landmarks: []chart.Landmark{{Label: "Stage", Area: chart.Area{X: 300, Y: 20, Width: 400, Height: 70}}},
	}
	stalls := chart.Section{ID: "stalls", Name: "Stalls"}
	for i, letter := range rowLetters(20) {
		n := 24 + 2*min(i/3, 5)
		category := 1
		if i < 6 {
			category = 0
		}
		row := arc(letter, n, category, 500, -500, 640+24*float64(i), 22)
		row.Seats[n/2].Gap = true // the centre aisle
		if i == len(rowLetters(20))-1 {
			accessible(row.Seats, 0, n-2)
		}
		for k := range row.Seats {
			number(&row.Seats[k], "stalls", letter, strconv.Itoa(k+1))
		}
		stalls.Rows = append(stalls.Rows, row)
	}
	circle := chart.Section{ID: "circle", Name: "Circle"}
	for i, letter := range rowLetters(7) {
		n := 36 - 2*(i%2)
		row := arc(letter, n, 2, 500, -500, 1190+26*float64(i), 22)
		row.Seats[n/4].Gap, row.Seats[n-n/4].Gap = true, true
		if i == 0 {
			accessible(row.Seats, 0, n-2)
		}
		for k := range row.Seats {
			// 17 15 … 3 1 2 4 … 16 18, seen from the stage's left.
			label := 2*(n/2-k) - 1
			if k >= n/2 {
				label = 2 * (k - n/2 + 1)
			}
			number(&row.Seats[k], "circle", letter, strconv.Itoa(label))
		}
		circle.Rows = append(circle.Rows, row)
	}
	c.Sections = []chart.Section{stalls, circle}
	return c
}

// Stadium is an oval of 60,000 seats: three tiers of 40 sections with 20 rows of 25 seats. The front row of every lower
// section has accessible places, each with a companion's seat beside it.
func Stadium() *chart.Chart {
	const (
		sections = 40
		rows     = 20
		seats    = 25
	)
	c := &chart.Chart{
		Name: "The Oval", Width: 3000, Height: 2400,
		Landmarks: []chart.Landmark{{Label: "Pitch", Area: chart.Area{X: 1100, Y: 950, Width: 800, Height: 500}}},
	}
	tiers := []struct {
		name, color string
		first       int     // number of its first section
		inner       float64 // distance of the front row from the pitch's middle, along the short axis
	}{
		{"Lower tier", "#b3403a", 101, 420},
		{"Middle tier", "#2f6f9f", 201, 680},
		{"Upper tier", "#4b8b57", 301, 940},
	}
	for t, tier := range tiers {
		c.Categories = append(c.Categories, chart.Category{Name: tier.name, Color: tier.color})
		for s := range sections {
			id := strconv.Itoa(tier.first + s)
			section := chart.Section{ID: id, Name: "Block " + id}
			from := 2 * math.Pi * float64(s) / sections
			width := 2 * math.Pi / sections
			for r := range rows {
				label := strconv.Itoa(r + 1)
				short := tier.inner + 11*float64(r)
				row := chart.Row{Label: label, Seats: make([]chart.Seat, seats)}
				for k := range seats {
					// A gangway of one seat's width lies between sections.
					angle := from + width*(float64(k)+1)/(seats+1)
					row.Seats[k] = chart.Seat{
						X:        round(1500 + (short+250)*math.Cos(angle)),
						Y:        round(1200 + short*math.Sin(angle)),
						Category: t,
					}
					number(&row.Seats[k], id, label, strconv.Itoa(k+1))
				}
				if t == 0 && r == 0 {
					for k := 0; k+1 < seats; k += 6 {
						row.Seats[k].Accessible, row.Seats[k+1].Companion = true, true
					}
				}
				section.Rows = append(section.Rows, row)
			}
			c.Sections = append(c.Sections, section)
		}
	}
	return c
}

// rowLetters gives A, B, C, … without I and O, which read as digits.
func rowLetters(n int) []string {
	var letters []string
	for r := 'A'; len(letters) < n; r++ {
		if r != 'I' && r != 'O' {
			letters = append(letters, string(r))
		}
	}
	return letters
}

// arc places n seats, step apart, on a circle around (x, y) with the given radius, symmetric about the house's axis.
func arc(row string, n, category int, x, y, radius, step float64) chart.Row {
	r := chart.Row{Label: row, Seats: make([]chart.Seat, n)}
	for k := range n {
		angle := (float64(k) - float64(n-1)/2) * step / radius
		r.Seats[k] = chart.Seat{X: round(x + radius*math.Sin(angle)), Y: round(y + radius*math.Cos(angle)), Category: category}
	}
	return r
}

// accessible makes a wheelchair space with a companion's seat beside it at each of two places of a row.
func accessible(seats []chart.Seat, places ...int) {
	for _, p := range places {
		seats[p].Accessible, seats[p+1].Companion = true, true
	}
}

func number(s *chart.Seat, section, row, label string) {
	s.Label = label
	s.ID = chart.DefaultSeatID(section, row, label)
}

func round(v float64) float64 { return math.Round(v*10) / 10 }

// WritePretix writes a chart as a pretix seating plan. Companions, accessible places and gaps have no place in that
// format and are left out; admission areas become rows of units.
func WritePretix(w io.Writer, c *chart.Chart) error {
	type object = map[string]any
	at := func(x, y float64) object { return object{"x": x, "y": y} }
	var categories, zones []object
	for _, k := range c.Categories {
		categories = append(categories, object{"name": k.Name, "color": k.Color})
	}
	for _, s := range c.Sections {
		var rows []object
		for _, r := range s.Rows {
			seats := make([]object, len(r.Seats))
			for i, seat := range r.Seats {
				seats[i] = object{
					"seat_guid": seat.ID, "seat_number": seat.Label, "position": at(seat.X, seat.Y),
					"category": c.Categories[seat.Category].Name,
				}
			}
			rows = append(rows, object{"row_number": r.Label, "row_number_position": "both", "position": at(0, 0), "seats": seats})
		}
		zones = append(zones, object{"name": s.Name, "zone_id": s.ID, "position": at(0, 0), "rows": rows, "areas": []object{}})
	}
	var areas []object
	for _, l := range c.Landmarks {
		areas = append(areas, object{
			"shape": "rectangle", "color": "#cccccc", "border_color": "#888888", "rotation": 0,
			"position":  at(l.Area.X, l.Area.Y),
			"rectangle": object{"width": int(l.Area.Width), "height": int(l.Area.Height)},
			"text":      object{"text": l.Label, "position": at(l.Area.Width/2, l.Area.Height/2), "size": 16},
		})
	}
	if len(areas) > 0 {
		zones = append(zones, object{"name": "Surroundings", "position": at(0, 0), "rows": []object{}, "areas": areas})
	}
	plan := object{
		"name": c.Name, "categories": categories, "zones": zones,
		"size": object{"width": int(c.Width), "height": int(c.Height)},
	}
	if err := json.NewEncoder(w).Encode(plan); err != nil {
		return fmt.Errorf("write the pretix plan: %w", err)
	}
	return nil
}
