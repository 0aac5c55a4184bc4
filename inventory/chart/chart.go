// Package chart is the model of a venue's seating: sections, rows, seats, and general admission areas.
//
// It knows nothing of sales and does no I/O, so every part of the program may import it. Start with Chart, Import
// (reads a plan in either known format) and Chart.Layout (which block and number a seat has in the store). Best chooses
// adjacent free seats.
package chart

import (
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a chart. A plan beyond one of them is refused whole.
const (
	MaxDocumentBytes = 32 << 20
	MaxSeats         = 200_000
	MaxSections      = 2_000
	MaxRows          = 20_000
	MaxRowSeats      = 10_000
	MaxCategories    = 64
	MaxLandmarks     = 500
	MaxNameBytes     = 200
	MaxLabelBytes    = 64
	MaxIDBytes       = 160
	MaxCoordinate    = 1_000_000
)

// Reasons for which a seat is out of sale. Zero means that it is not.
const (
	KillAdmin   int16 = 1 // taken out by an operator
	KillCooling int16 = 2 // given back by an order, waits until its claim is gone
	KillHouse   int16 = 3 // house seats
)

// Chart is a venue's seating plan. It is treated as immutable once it is decoded: its content hash is its identity.
type Chart struct {
	Name          string
	Width, Height float64 // of the drawing, in the unit of the coordinates; 0 = unknown
	Categories    []Category
	Landmarks     []Landmark
	Sections      []Section
}

// Category groups seats that are sold under one offer.
type Category struct {
	Name  string // unique within the chart
	Color string // #rrggbb, or empty
}

// Landmark is something to draw that is not a seat: the stage, the pitch, a bar.
type Landmark struct {
	Label string
	Area  Area
}

// Area is an upright rectangle; X and Y are its upper left corner.
type Area struct{ X, Y, Width, Height float64 }

// Section is a part of the house with its own name, such as "Stalls" or "Block 114".
type Section struct {
	ID   string // unique within the chart
	Name string
	Rows []Row // best first
}

// Row is a line of seats in physical order, or a general admission area whose units are numbered.
type Row struct {
	Label string
	// General is set for an admission area without places: its Seats are units, all alike, labelled 1, 2, 3, …
	General *Area
	Seats   []Seat
}

// Seat is one sellable place. Its neighbours are the seats before and after it in the row, unless Gap parts them. The
// printed label never says who sits beside whom: odd and even numbers, and missing ones, are common.
type Seat struct {
	ID         string // unique within the chart
	Label      string
	X, Y       float64
	Category   int  // index into Chart.Categories
	Accessible bool // a wheelchair space
	Companion  bool // kept for the companion of someone in an accessible place
	Gap        bool // an aisle, wall or post lies between the seat before it and this one
}

// SeatCount counts the sellable places.
func (c *Chart) SeatCount() int {
	n := 0
	for i := range c.Sections {
		for j := range c.Sections[i].Rows {
			n += len(c.Sections[i].Rows[j].Seats)
		}
	}
	return n
}

// CategoryIndex finds a category by name; -1 if there is none.
func (c *Chart) CategoryIndex(name string) int {
	for i := range c.Categories {
		if c.Categories[i].Name == name {
			return i
		}
	}
	return -1
}

// FormatError says what is wrong with a plan, and where.
type FormatError struct {
	Path    string // JSON pointer to the offending value, "" for the document
	Value   string // the value, shortened; may be empty
	Problem string
}

func (e *FormatError) Error() string {
	where := e.Path
	if where == "" {
		where = "the document"
	}
	if e.Value == "" {
		return fmt.Sprintf("seating plan: %s: %s", where, e.Problem)
	}
	return fmt.Sprintf("seating plan: %s: %s: %s", where, e.Value, e.Problem)
}

func refuse(path, value, problem string, args ...any) *FormatError {
	const most = 80
	if len(value) > most {
		value = strings.ToValidUTF8(value[:most], "") + "…"
	}
	return &FormatError{Path: path, Value: value, Problem: fmt.Sprintf(problem, args...)}
}

// Validate checks every rule and limit of a chart. Paths in its errors are those of the plan format of Encode.
func (c *Chart) Validate() error {
	if err := text("/name", c.Name, MaxNameBytes, true); err != nil {
		return err
	}
	if err := extent("/width", c.Width); err != nil {
		return err
	}
	if err := extent("/height", c.Height); err != nil {
		return err
	}
	if len(c.Categories) == 0 {
		return refuse("/categories", "", "a plan needs at least one category")
	}
	if len(c.Categories) > MaxCategories {
		return refuse("/categories", fmt.Sprint(len(c.Categories)), "more than %d categories", MaxCategories)
	}
	names := map[string]bool{}
	for i, k := range c.Categories {
		path := fmt.Sprintf("/categories/%d", i)
		if err := text(path+"/name", k.Name, MaxLabelBytes, true); err != nil {
			return err
		}
		if names[k.Name] {
			return refuse(path+"/name", quote(k.Name), "this category exists already")
		}
		names[k.Name] = true
		if k.Color != "" && !isColor(k.Color) {
			return refuse(path+"/color", quote(k.Color), "not a colour of the form #rrggbb")
		}
	}
	if len(c.Landmarks) > MaxLandmarks {
		return refuse("/landmarks", fmt.Sprint(len(c.Landmarks)), "more than %d landmarks", MaxLandmarks)
	}
	for i, l := range c.Landmarks {
		path := fmt.Sprintf("/landmarks/%d", i)
		if err := text(path+"/label", l.Label, MaxNameBytes, false); err != nil {
			return err
		}
		if err := area(path, l.Area); err != nil {
			return err
		}
	}
	return c.validateSeats()
}

func (c *Chart) validateSeats() error {
	if len(c.Sections) > MaxSections {
		return refuse("/sections", fmt.Sprint(len(c.Sections)), "more than %d sections", MaxSections)
	}
	var seats, rows int
	sections := map[string]bool{}
	ids := make(map[string]string)
	for i := range c.Sections {
		s := &c.Sections[i]
		path := fmt.Sprintf("/sections/%d", i)
		if err := text(path+"/id", s.ID, MaxLabelBytes, true); err != nil {
			return err
		}
		if sections[s.ID] {
			return refuse(path+"/id", quote(s.ID), "this section exists already")
		}
		sections[s.ID] = true
		if err := text(path+"/name", s.Name, MaxNameBytes, true); err != nil {
			return err
		}
		if rows += len(s.Rows); rows > MaxRows {
			return refuse(path+"/rows", "", "more than %d rows in the plan", MaxRows)
		}
		for j := range s.Rows {
			r := &s.Rows[j]
			path := fmt.Sprintf("%s/rows/%d", path, j)
			if err := text(path+"/label", r.Label, MaxLabelBytes, r.General != nil); err != nil {
				return err
			}
			if r.General != nil {
				if err := area(path+"/area", *r.General); err != nil {
					return err
				}
			}
			if len(r.Seats) > MaxRowSeats {
				return refuse(path+"/seats", fmt.Sprint(len(r.Seats)), "more than %d seats in a row", MaxRowSeats)
			}
			if seats += len(r.Seats); seats > MaxSeats {
				return refuse(path+"/seats", "", "more than %d seats in the plan", MaxSeats)
			}
			if r.General != nil {
				if err := validateUnits(path, s.ID, r); err != nil {
					return err
				}
			}
			for k := range r.Seats {
				if err := c.validateSeat(&r.Seats[k], path, k, ids); err != nil {
					return err
				}
			}
		}
	}
	if seats == 0 {
		return refuse("/sections", "", "the plan has no seats")
	}
	return nil
}

// validateUnits makes sure that an admission area is no more than its area, category and number of units.
func validateUnits(path, section string, r *Row) error {
	if len(r.Seats) == 0 {
		return refuse(path+"/general/units", "0", "an admission area needs at least one unit")
	}
	for k, unit := range GeneralUnits(section, r.Label, *r.General, r.Seats[0].Category, len(r.Seats)) {
		if r.Seats[k] != unit {
			return refuse(fmt.Sprintf("%s/seats/%d", path, k), quote(r.Seats[k].ID), "the units of an admission area must be alike and numbered from 1")
		}
	}
	return nil
}

func (c *Chart) validateSeat(s *Seat, row string, k int, ids map[string]string) error {
	at := func(field string) string { return fmt.Sprintf("%s/seats/%d/%s", row, k, field) }
	if !textOK(s.ID, MaxIDBytes, true) {
		return text(at("id"), s.ID, MaxIDBytes, true)
	}
	if !textOK(s.Label, MaxLabelBytes, true) {
		return text(at("label"), s.Label, MaxLabelBytes, true)
	}
	if first, ok := ids[s.ID]; ok {
		return refuse(at("id"), quote(s.ID), "this seat id exists already, in %s", first)
	}
	ids[s.ID] = row
	if !coordinateOK(s.X) {
		return coordinate(at("x"), s.X)
	}
	if !coordinateOK(s.Y) {
		return coordinate(at("y"), s.Y)
	}
	if s.Category < 0 || s.Category >= len(c.Categories) {
		return refuse(at("category"), fmt.Sprint(s.Category), "no such category")
	}
	if s.Accessible && s.Companion {
		return refuse(at("companion"), "true", "a seat is either an accessible place or a companion's, not both")
	}
	return nil
}

func quote(s string) string { return fmt.Sprintf("%q", s) }

func textOK(s string, most int, required bool) bool { return text("", s, most, required) == nil }

// text returns a *FormatError as error only when there is one, so that callers may compare with nil.
func text(path, s string, most int, required bool) error {
	switch {
	case required && strings.TrimSpace(s) == "":
		return refuse(path, quote(s), "must not be empty")
	case len(s) > most:
		return refuse(path, quote(s), "longer than %d bytes", most)
	case !utf8.ValidString(s):
		return refuse(path, quote(s), "not valid UTF-8")
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || unicode.Is(unicode.Bidi_Control, r) {
			return refuse(path, quote(s), "contains a control character")
		}
	}
	return nil
}

func coordinateOK(v float64) bool { return !math.IsNaN(v) && math.Abs(v) <= MaxCoordinate }

func coordinate(path string, v float64) error {
	if coordinateOK(v) {
		return nil
	}
	return refuse(path, fmt.Sprint(v), "not a coordinate between -%d and %d", MaxCoordinate, MaxCoordinate)
}

func extent(path string, v float64) error {
	if coordinateOK(v) && v >= 0 {
		return nil
	}
	return refuse(path, fmt.Sprint(v), "not a size between 0 and %d", MaxCoordinate)
}

func area(path string, a Area) error {
	for _, f := range []struct {
		name  string
		value float64
		check func(string, float64) error
	}{{"x", a.X, coordinate}, {"y", a.Y, coordinate}, {"width", a.Width, extent}, {"height", a.Height, extent}} {
		if err := f.check(path+"/"+f.name, f.value); err != nil {
			return err
		}
	}
	return nil
}

func isColor(s string) bool {
	if len(s) != 7 || s[0] != '#' {
		return false
	}
	for _, r := range s[1:] {
		if !strings.ContainsRune("0123456789abcdefABCDEF", r) {
			return false
		}
	}
	return true
}
