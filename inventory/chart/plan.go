package chart

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// Name and version of our own plan format. docs/reference/seating-plan.md describes it.
const (
	FormatName    = "stanchion-seating-plan"
	FormatVersion = 1
)

// Import reads a seating plan in our own format or in pretix's, whichever it is, and reads it whole or not at all.
// Errors about the plan are *FormatError.
func Import(r io.Reader) (*Chart, error) {
	document, err := io.ReadAll(io.LimitReader(r, MaxDocumentBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the seating plan: %w", err)
	}
	if len(document) > MaxDocumentBytes {
		return nil, refuse("", "", "larger than %d bytes", MaxDocumentBytes)
	}
	var head map[string]json.RawMessage
	if err := json.Unmarshal(document, &head); err != nil {
		if bytes.HasPrefix(bytes.TrimSpace(document), []byte("{")) {
			return nil, syntax(document, err)
		}
		return nil, refuse("", "", "not a JSON object")
	}
	switch {
	case head["format"] != nil:
		return Decode(document)
	case head["zones"] != nil:
		return DecodePretix(document)
	}
	return nil, refuse("", "", `neither our own format (a key "format") nor a pretix seating plan (a key "zones")`)
}

// Decode reads a plan in our own format, strictly: unknown, repeated and missing keys are errors.
func Decode(document []byte) (*Chart, error) {
	if len(document) > MaxDocumentBytes {
		return nil, refuse("", "", "larger than %d bytes", MaxDocumentBytes)
	}
	if err := wellFormed(document); err != nil {
		return nil, err
	}
	d := planDecoder{walker: newWalker(document)}
	if err := d.document(); err != nil {
		return nil, err
	}
	if err := d.c.Validate(); err != nil {
		return nil, err
	}
	return &d.c, nil
}

// wellFormed refuses what is not exactly one JSON value.
func wellFormed(document []byte) error {
	var any json.RawMessage
	if err := json.Unmarshal(document, &any); err != nil {
		return syntax(document, err)
	}
	return nil
}

type planDecoder struct {
	*walker
	c     Chart
	seats int
}

func (d *planDecoder) document() error {
	var format string
	version := 0
	// Format and version are checked where they stand; both first in every plan we write, so that a plan of a later
	// version is refused by its version and not by its first new key.
	err := d.object(func(key string) error {
		switch key {
		case "format":
			if err := d.text(&format, MaxNameBytes, true); err != nil {
				return err
			}
			if format != FormatName {
				return d.walker.refuse(quote(format), "not %q", FormatName)
			}
			return nil
		case "version":
			if err := d.integer(&version, 0, MaxCoordinate); err != nil {
				return err
			}
			if version != FormatVersion {
				return d.walker.refuse(fmt.Sprint(version), "this program reads version %d", FormatVersion)
			}
			return nil
		case "name":
			return d.text(&d.c.Name, MaxNameBytes, true)
		case "width":
			return d.size(&d.c.Width)
		case "height":
			return d.size(&d.c.Height)
		case "categories":
			return d.array(MaxCategories, d.category)
		case "landmarks":
			return d.array(MaxLandmarks, d.landmark)
		case "sections":
			if len(d.c.Categories) == 0 {
				return d.walker.refuse("", "categories must come before sections")
			}
			return d.array(MaxSections, d.section)
		}
		return d.unknown()
	})
	switch {
	case err != nil:
		return err
	case format == "":
		return d.missing("format")
	case version == 0:
		return d.missing("version")
	}
	return nil
}

func (d *planDecoder) category(int) error {
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
			return d.text(&k.Color, 7, true)
		}
		return d.unknown()
	})
	if err == nil && k.Name == "" {
		err = d.missing("name")
	}
	d.c.Categories = append(d.c.Categories, k)
	return err
}

func (d *planDecoder) landmark(int) error {
	var l Landmark
	err := d.object(func(key string) error {
		if key == "label" {
			return d.text(&l.Label, MaxNameBytes, false)
		}
		return d.area(key, &l.Area)
	})
	d.c.Landmarks = append(d.c.Landmarks, l)
	return err
}

func (d *planDecoder) area(key string, a *Area) error {
	switch key {
	case "x":
		return d.number(&a.X)
	case "y":
		return d.number(&a.Y)
	case "width":
		return d.size(&a.Width)
	case "height":
		return d.size(&a.Height)
	}
	return d.unknown()
}

func (d *planDecoder) section(int) error {
	var s Section
	err := d.object(func(key string) error {
		switch key {
		case "id":
			return d.text(&s.ID, MaxLabelBytes, true)
		case "name":
			return d.text(&s.Name, MaxNameBytes, true)
		case "rows":
			if s.ID == "" {
				return d.walker.refuse("", "a section's id must come before its rows")
			}
			return d.array(MaxRows, func(int) error { return d.row(&s) })
		}
		return d.unknown()
	})
	switch {
	case err != nil:
		return err
	case s.ID == "":
		return d.missing("id")
	case s.Name == "":
		return d.missing("name")
	}
	d.c.Sections = append(d.c.Sections, s)
	return nil
}

func (d *planDecoder) row(s *Section) error {
	var r Row
	category, units := -1, 0
	seats := false
	err := d.object(func(key string) error {
		switch key {
		case "label":
			return d.text(&r.Label, MaxLabelBytes, false)
		case "category":
			return d.categoryName(&category)
		case "seats":
			seats = true
			return d.array(MaxRowSeats, func(int) error { return d.seat(s.ID, &r, category) })
		case "general":
			r.General = new(Area)
			return d.object(func(key string) error {
				if key == "units" {
					return d.integer(&units, 1, MaxRowSeats)
				}
				return d.area(key, r.General)
			})
		}
		return d.unknown()
	})
	switch {
	case err != nil:
		return err
	case r.General != nil && seats:
		return d.walker.refuse("", `a row has either "seats" or "general"`)
	case r.General == nil && !seats:
		return d.missing("seats")
	case r.General != nil && units == 0:
		return d.missing("general/units")
	case r.General != nil && category < 0:
		return d.missing("category")
	}
	if d.seats += len(r.Seats) + units; d.seats > MaxSeats {
		return d.walker.refuse("", "more than %d seats in the plan", MaxSeats)
	}
	if r.General != nil {
		r.Seats = GeneralUnits(s.ID, r.Label, *r.General, category, units)
	}
	s.Rows = append(s.Rows, r)
	return nil
}

func (d *planDecoder) categoryName(into *int) error {
	var name string
	if err := d.text(&name, MaxLabelBytes, true); err != nil {
		return err
	}
	*into = d.c.CategoryIndex(name)
	if *into < 0 {
		return d.walker.refuse(quote(name), "no such category in this plan")
	}
	return nil
}

func (d *planDecoder) seat(section string, r *Row, category int) error {
	s := Seat{Category: category}
	var x, y bool
	err := d.object(func(key string) error {
		switch key {
		case "id":
			return d.text(&s.ID, MaxIDBytes, true)
		case "label":
			return d.text(&s.Label, MaxLabelBytes, true)
		case "x":
			x = true
			return d.number(&s.X)
		case "y":
			y = true
			return d.number(&s.Y)
		case "category":
			return d.categoryName(&s.Category)
		case "accessible":
			return d.flag(&s.Accessible)
		case "companion":
			return d.flag(&s.Companion)
		case "gap":
			return d.flag(&s.Gap)
		}
		return d.unknown()
	})
	switch {
	case err != nil:
		return err
	case s.Label == "":
		return d.missing("label")
	case !x:
		return d.missing("x")
	case !y:
		return d.missing("y")
	case s.Category < 0:
		return d.missing("category")
	}
	if s.ID == "" {
		s.ID = DefaultSeatID(section, r.Label, s.Label)
	}
	r.Seats = append(r.Seats, s)
	return nil
}

// DefaultSeatID is the id of a seat whose plan names none.
func DefaultSeatID(section, row, seat string) string { return section + "-" + row + "-" + seat }

// GeneralUnits makes the units of a general admission area, labelled 1 … units.
func GeneralUnits(section, row string, a Area, category, units int) []Seat {
	seats := make([]Seat, units)
	for i := range seats {
		label := fmt.Sprint(i + 1)
		seats[i] = Seat{
			ID: DefaultSeatID(section, row, label), Label: label,
			X: a.X + a.Width/2, Y: a.Y + a.Height/2, Category: category,
		}
	}
	return seats
}

type planJSON struct {
	Format     string         `json:"format"`
	Version    int            `json:"version"`
	Name       string         `json:"name"`
	Width      float64        `json:"width,omitempty"`
	Height     float64        `json:"height,omitempty"`
	Categories []categoryJSON `json:"categories"`
	Landmarks  []landmarkJSON `json:"landmarks,omitempty"`
	Sections   []sectionJSON  `json:"sections"`
}

type categoryJSON struct {
	Name  string `json:"name"`
	Color string `json:"color,omitempty"`
}

type areaJSON struct {
	X      float64 `json:"x"`
	Y      float64 `json:"y"`
	Width  float64 `json:"width"`
	Height float64 `json:"height"`
}

type landmarkJSON struct {
	Label string `json:"label"`
	areaJSON
}

type sectionJSON struct {
	ID   string    `json:"id"`
	Name string    `json:"name"`
	Rows []rowJSON `json:"rows"`
}

type generalJSON struct {
	Units int `json:"units"`
	areaJSON
}

type rowJSON struct {
	Label    string       `json:"label"`
	Category string       `json:"category,omitempty"`
	General  *generalJSON `json:"general,omitempty"`
	Seats    *[]seatJSON  `json:"seats,omitempty"`
}

type seatJSON struct {
	ID         string  `json:"id,omitempty"`
	Label      string  `json:"label"`
	X          float64 `json:"x"`
	Y          float64 `json:"y"`
	Category   string  `json:"category,omitempty"`
	Accessible bool    `json:"accessible,omitempty"`
	Companion  bool    `json:"companion,omitempty"`
	Gap        bool    `json:"gap,omitempty"`
}

// Encode writes the canonical document of a valid chart: the same chart always gives the same bytes, and Decode gives
// the chart back.
func (c *Chart) Encode() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	p := planJSON{
		Format: FormatName, Version: FormatVersion, Name: c.Name, Width: c.Width, Height: c.Height,
		Sections: make([]sectionJSON, 0, len(c.Sections)),
	}
	for _, k := range c.Categories {
		p.Categories = append(p.Categories, categoryJSON(k))
	}
	for _, l := range c.Landmarks {
		p.Landmarks = append(p.Landmarks, landmarkJSON{l.Label, areaJSON(l.Area)})
	}
	for i := range c.Sections {
		s := &c.Sections[i]
		out := sectionJSON{ID: s.ID, Name: s.Name, Rows: make([]rowJSON, 0, len(s.Rows))}
		for j := range s.Rows {
			out.Rows = append(out.Rows, c.encodeRow(s.ID, &s.Rows[j]))
		}
		p.Sections = append(p.Sections, out)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("encode the seating plan: %w", err)
	}
	return b.Bytes(), nil
}

func (c *Chart) encodeRow(section string, r *Row) rowJSON {
	out := rowJSON{Label: r.Label}
	common := -1
	if len(r.Seats) > 0 {
		common = r.Seats[0].Category
		out.Category = c.Categories[common].Name
	}
	if r.General != nil {
		out.General = &generalJSON{len(r.Seats), areaJSON(*r.General)}
		return out
	}
	seats := make([]seatJSON, len(r.Seats))
	for i, s := range r.Seats {
		seats[i] = seatJSON{
			Label: s.Label, X: s.X, Y: s.Y, Accessible: s.Accessible, Companion: s.Companion, Gap: s.Gap,
		}
		if s.ID != DefaultSeatID(section, r.Label, s.Label) {
			seats[i].ID = s.ID
		}
		if s.Category != common {
			seats[i].Category = c.Categories[s.Category].Name
		}
	}
	out.Seats = &seats
	return out
}

// Hash is the content hash of a canonical document, in hex.
func Hash(document []byte) string {
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}
