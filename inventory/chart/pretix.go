package chart

import (
	"fmt"
	"math"
	"slices"
)

// DecodePretix reads a seating plan as the pretix ticketing system and its plan editors write it: zones with rows of
// seats and with areas, every position relative to its parent. The keys of all published versions of that format are
// known, others are refused.
//
// pretix has no notion of neighbours, so they are found by geometry: two seats of a row are neighbours when they follow
// each other along the row and stand no further apart than 1.6 times the usual distance in it. It has no accessible
// places either; none are invented from names.
func DecodePretix(document []byte) (*Chart, error) {
	if len(document) > MaxDocumentBytes {
		return nil, refuse("", "", "larger than %d bytes", MaxDocumentBytes)
	}
	if err := wellFormed(document); err != nil {
		return nil, err
	}
	d := pretixDecoder{walker: newWalker(document), guids: map[string]string{}, zones: map[string]bool{}}
	if err := d.document(); err != nil {
		return nil, err
	}
	if err := d.resolve(); err != nil {
		return nil, err
	}
	if err := d.c.Validate(); err != nil {
		return nil, err
	}
	return &d.c, nil
}

type pretixDecoder struct {
	*walker
	c     Chart
	guids map[string]string // seat_guid -> where it was seen
	zones map[string]bool   // section ids in use
	named []namedSeat       // categories may be declared after the zones
	rows  int
}

type namedSeat struct {
	section, row, seat int
	category, where    string
}

type point struct{ x, y float64 }

func (d *pretixDecoder) document() error {
	var name, zones, categories bool
	err := d.object(func(key string) error {
		switch key {
		case "name":
			name = true
			return d.text(&d.c.Name, MaxNameBytes, true)
		case "size":
			return d.object(func(key string) error {
				switch key {
				case "width":
					return d.size(&d.c.Width)
				case "height":
					return d.size(&d.c.Height)
				}
				return d.unknown()
			})
		case "categories":
			categories = true
			return d.array(MaxCategories, d.category)
		case "zones":
			zones = true
			return d.array(MaxSections, d.zone)
		}
		return d.unknown()
	})
	switch {
	case err != nil:
		return err
	case !name:
		return d.missing("name")
	case !categories:
		return d.missing("categories")
	case !zones:
		return d.missing("zones")
	}
	return nil
}

func (d *pretixDecoder) category(int) error {
	var k Category
	err := d.object(func(key string) error {
		switch key {
		case "name":
			if err := d.text(&k.Name, MaxLabelBytes, true); err != nil {
				return err
			}
			if d.c.CategoryIndex(k.Name) >= 0 {
				return d.walker.refuse(quote(k.Name), "this category exists already")
			}
			return nil
		case "color":
			if err := d.text(&k.Color, MaxNameBytes, false); err != nil {
				return err
			}
			// Any CSS colour is legal there; we only take the form that all drawing code understands.
			if !isColor(k.Color) {
				k.Color = ""
			}
			return nil
		}
		return d.unknown()
	})
	if err == nil && k.Name == "" {
		err = d.missing("name")
	}
	d.c.Categories = append(d.c.Categories, k)
	return err
}

// resolve fills in the seats' categories once all are known.
func (d *pretixDecoder) resolve() error {
	index := map[string]int{}
	for i, k := range d.c.Categories {
		index[k.Name] = i
	}
	for _, n := range d.named {
		i, ok := index[n.category]
		if !ok {
			return refuse(n.where, quote(n.category), "no such category in this plan")
		}
		d.c.Sections[n.section].Rows[n.row].Seats[n.seat].Category = i
	}
	return nil
}

func (d *pretixDecoder) position(p *point) error {
	var x, y bool
	err := d.object(func(key string) error {
		switch key {
		case "x":
			x = true
			return d.number(&p.x)
		case "y":
			y = true
			return d.number(&p.y)
		}
		return d.unknown()
	})
	switch {
	case err != nil:
		return err
	case !x:
		return d.missing("x")
	case !y:
		return d.missing("y")
	}
	return nil
}

type pretixRow struct {
	label string
	at    point
	seats []pretixSeat
}

type pretixSeat struct {
	guid, number, category, where string
	at                            point
}

func (d *pretixDecoder) zone(i int) error {
	var name, id, skip string
	var at point
	var rows []pretixRow
	var marks []Landmark
	var hasRows, hasPosition, displayed bool
	err := d.object(func(key string) error {
		switch key {
		case "name":
			return d.text(&name, MaxNameBytes, false)
		case "zone_id":
			return d.text(&id, MaxNameBytes, false)
		case "uuid":
			return d.text(&skip, MaxNameBytes, false)
		case "displayed":
			return d.flag(&displayed)
		case "position":
			hasPosition = true
			return d.position(&at)
		case "rows":
			hasRows = true
			return d.array(MaxRows, func(int) error {
				r, err := d.row()
				if err == nil && len(r.seats) > 0 {
					rows = append(rows, r)
				}
				return err
			})
		case "areas":
			return d.array(MaxLandmarks, func(int) error {
				l, err := d.areaMark()
				marks = append(marks, l)
				return err
			})
		}
		return d.unknown()
	})
	switch {
	case err != nil:
		return err
	case !hasPosition:
		return d.missing("position")
	case !hasRows:
		return d.missing("rows")
	}
	for _, l := range marks {
		l.Area.X += at.x
		l.Area.Y += at.y
		if !coordinateOK(l.Area.X) || !coordinateOK(l.Area.Y) {
			return d.walker.refuse("", "an area lies outside the drawing")
		}
		d.c.Landmarks = append(d.c.Landmarks, l)
	}
	if len(d.c.Landmarks) > MaxLandmarks {
		return d.walker.refuse("", "more than %d areas in the plan", MaxLandmarks)
	}
	if len(rows) == 0 {
		return nil
	}
	return d.addSection(i, name, id, at, rows)
}

func (d *pretixDecoder) addSection(i int, name, id string, at point, rows []pretixRow) error {
	if name == "" {
		name = fmt.Sprintf("Zone %d", i+1)
	}
	if id == "" {
		id = name
	}
	if len(id) > MaxLabelBytes-8 {
		id = fmt.Sprintf("zone-%d", i+1)
	}
	unique := id
	for n := 2; d.zones[unique]; n++ {
		unique = fmt.Sprintf("%s-%d", id, n)
	}
	d.zones[unique] = true
	s := Section{ID: unique, Name: name, Rows: make([]Row, len(rows))}
	for j, r := range rows {
		along(r.seats)
		row := Row{Label: r.label, Seats: make([]Seat, len(r.seats))}
		apart := usualDistance(r.seats) * 1.6
		for k, p := range r.seats {
			row.Seats[k] = Seat{
				ID: p.guid, Label: p.number,
				X: at.x + r.at.x + p.at.x, Y: at.y + r.at.y + p.at.y,
				Gap: k > 0 && distance(r.seats[k-1].at, p.at) > apart,
			}
			if !coordinateOK(row.Seats[k].X) || !coordinateOK(row.Seats[k].Y) {
				return refuse(p.where+"/position", "", "the seat lies outside the drawing")
			}
			d.named = append(d.named, namedSeat{len(d.c.Sections), j, k, p.category, p.where + "/category"})
		}
		s.Rows[j] = row
	}
	if len(d.named) > MaxSeats {
		return d.walker.refuse("", "more than %d seats in the plan", MaxSeats)
	}
	d.c.Sections = append(d.c.Sections, s)
	return nil
}

func (d *pretixDecoder) row() (pretixRow, error) {
	var r pretixRow
	var skip string
	var n int
	var hasNumber, hasSeats bool
	if d.rows++; d.rows > MaxRows {
		return r, d.walker.refuse("", "more than %d rows in the plan", MaxRows)
	}
	err := d.object(func(key string) error {
		switch key {
		case "row_number":
			hasNumber = true
			return d.text(&r.label, MaxLabelBytes, false)
		case "row_label", "seat_label", "row_number_position":
			return d.textOrNull(&skip, MaxNameBytes)
		case "uuid":
			return d.text(&skip, MaxNameBytes, false)
		case "number_of_seats", "seats_spacing":
			return d.integer(&n, -MaxCoordinate, MaxCoordinate)
		case "position":
			return d.position(&r.at)
		case "seats":
			hasSeats = true
			return d.array(MaxRowSeats, func(int) error {
				s, err := d.seat()
				r.seats = append(r.seats, s)
				return err
			})
		}
		return d.unknown()
	})
	switch {
	case err != nil:
		return r, err
	case !hasNumber:
		return r, d.missing("row_number")
	case !hasSeats:
		return r, d.missing("seats")
	}
	return r, nil
}

func (d *pretixDecoder) seat() (pretixSeat, error) {
	s := pretixSeat{where: d.where()}
	var skip string
	var radius float64
	var hasNumber, hasPosition bool
	err := d.object(func(key string) error {
		switch key {
		case "seat_guid":
			if err := d.text(&s.guid, MaxIDBytes, true); err != nil {
				return err
			}
			if first, ok := d.guids[s.guid]; ok {
				return d.walker.refuse(quote(s.guid), "this seat_guid exists already, at %s", first)
			}
			d.guids[s.guid] = s.where
			return nil
		case "seat_number":
			hasNumber = true
			return d.text(&s.number, MaxLabelBytes, false)
		case "uuid":
			return d.text(&skip, MaxNameBytes, false)
		case "start_direction":
			return d.textOrNull(&skip, 8)
		case "radius":
			return d.size(&radius)
		case "position":
			hasPosition = true
			return d.position(&s.at)
		case "category":
			return d.text(&s.category, MaxLabelBytes, true)
		}
		return d.unknown()
	})
	switch {
	case err != nil:
		return s, err
	case s.guid == "":
		return s, d.missing("seat_guid")
	case !hasNumber:
		return s, d.missing("seat_number")
	case !hasPosition:
		return s, d.missing("position")
	case s.category == "":
		return s, d.missing("category")
	}
	if s.number == "" {
		s.number = "–" // a seat without a printed number
	}
	return s, nil
}

// areaMark reads an area as the upright rectangle around it; its rotation is not drawn.
func (d *pretixDecoder) areaMark() (Landmark, error) {
	var l Landmark
	var at, radius point
	var box Area // relative to at
	var skip, shape string
	var angle, r, size float64
	var points []point
	err := d.object(func(key string) error {
		switch key {
		case "color", "border_color", "uuid":
			return d.text(&skip, MaxNameBytes, false)
		case "shape":
			if err := d.text(&shape, MaxNameBytes, true); err != nil {
				return err
			}
			if !slices.Contains([]string{"polygon", "rectangle", "ellipse", "circle", "text"}, shape) {
				return d.walker.refuse(quote(shape), "no such shape")
			}
			return nil
		case "rotation":
			return d.number(&angle)
		case "position":
			return d.position(&at)
		case "width":
			return d.size(&box.Width)
		case "height":
			return d.size(&box.Height)
		case "rectangle":
			return d.object(func(key string) error {
				switch key {
				case "width":
					return d.size(&box.Width)
				case "height":
					return d.size(&box.Height)
				}
				return d.unknown()
			})
		case "circle":
			return d.object(func(key string) error {
				if key != "radius" {
					return d.unknown()
				}
				return d.size(&r)
			})
		case "ellipse":
			return d.object(func(key string) error {
				if key != "radius" {
					return d.unknown()
				}
				return d.position(&radius)
			})
		case "polygon":
			return d.object(func(key string) error {
				if key != "points" {
					return d.unknown()
				}
				return d.array(MaxRowSeats, func(int) error {
					var p point
					err := d.position(&p)
					points = append(points, p)
					return err
				})
			})
		case "text":
			return d.label(&l.Label, &size)
		}
		return d.unknown()
	})
	if err != nil {
		return l, err
	}
	switch {
	case r > 0:
		box = Area{-r, -r, 2 * r, 2 * r}
	case radius != point{}:
		x, y := math.Abs(radius.x), math.Abs(radius.y)
		box = Area{-x, -y, 2 * x, 2 * y}
	case len(points) > 0:
		box = around(points)
	}
	if box.Width > MaxCoordinate || box.Height > MaxCoordinate {
		return l, d.walker.refuse("", "the area is larger than the drawing may be")
	}
	l.Area = Area{at.x + box.X, at.y + box.Y, box.Width, box.Height}
	return l, nil
}

// label reads an area's text: an object, or a plain string in the oldest version of the format.
func (d *pretixDecoder) label(into *string, size *float64) error {
	t, err := d.token()
	if err != nil {
		return err
	}
	if s, ok := t.(string); ok {
		*into = s
		return text(d.where(), s, MaxNameBytes, false)
	}
	if fmt.Sprint(t) != "{" {
		return d.walker.refuse(show(t), "an object or a string is needed here")
	}
	var skip string
	var at point
	return d.members(func(key string) error {
		switch key {
		case "text":
			return d.text(into, MaxNameBytes, false)
		case "color":
			return d.text(&skip, MaxNameBytes, false)
		case "size":
			return d.number(size)
		case "position":
			return d.position(&at)
		}
		return d.unknown()
	})
}

func around(points []point) Area {
	lo, hi := points[0], points[0]
	for _, p := range points {
		lo = point{math.Min(lo.x, p.x), math.Min(lo.y, p.y)}
		hi = point{math.Max(hi.x, p.x), math.Max(hi.y, p.y)}
	}
	return Area{lo.x, lo.y, hi.x - lo.x, hi.y - lo.y}
}

func distance(a, b point) float64 { return math.Hypot(a.x-b.x, a.y-b.y) }

// along puts a row's seats into physical order. The order in the file is nearly always that already (also around a
// table); but some plans list odd numbers first, and then the order along the row's longest extent is the shorter walk.
func along(seats []pretixSeat) {
	if len(seats) < 3 {
		return
	}
	walk := func(s []pretixSeat) float64 {
		sum := 0.0
		for i := 1; i < len(s); i++ {
			sum += distance(s[i-1].at, s[i].at)
		}
		return sum
	}
	positions := make([]point, len(seats))
	for i, s := range seats {
		positions[i] = s.at
	}
	box := around(positions)
	sorted := slices.Clone(seats)
	slices.SortStableFunc(sorted, func(a, b pretixSeat) int {
		d := a.at.x - b.at.x
		if box.Height > box.Width {
			d = a.at.y - b.at.y
		}
		switch {
		case d < 0:
			return -1
		case d > 0:
			return 1
		}
		return 0
	})
	if walk(sorted) < walk(seats)*0.99 {
		copy(seats, sorted)
	}
}

// usualDistance is the median distance between seats that follow each other.
func usualDistance(seats []pretixSeat) float64 {
	if len(seats) < 2 {
		return 0
	}
	d := make([]float64, 0, len(seats)-1)
	for i := 1; i < len(seats); i++ {
		d = append(d, distance(seats[i-1].at, seats[i].at))
	}
	slices.Sort(d)
	return d[(len(d)-1)/2]
}
