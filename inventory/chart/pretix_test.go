package chart_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// cabaret uses every corner of the format: nested positions, odd numbers before even ones, tables, all kinds of areas,
// nulls, categories after the zones, a zone without seats and two of the same name.
const cabaret = `{
 "name": "Cabaret", "size": {"width": 800, "height": 600},
 "zones": [
  {"name": "Floor", "zone_id": "floor", "uuid": "0b4f", "position": {"x": 100, "y": 50}, "rows": [
    {"row_number": "1", "row_label": "Row 1", "seat_label": null, "row_number_position": "both", "uuid": "9", "position": {"x": 10, "y": 5}, "seats": [
      {"seat_guid": "f1-1", "seat_number": "1", "uuid": "a", "position": {"x": 0, "y": 0}, "category": "Chairs", "radius": 10, "start_direction": "<>"},
      {"seat_guid": "f1-3", "seat_number": "3", "position": {"x": 40, "y": 0}, "category": "Chairs", "start_direction": null},
      {"seat_guid": "f1-2", "seat_number": "2", "position": {"x": 20.5, "y": 0}, "category": "Chairs"},
      {"seat_guid": "f1-4", "seat_number": "4", "position": {"x": 60, "y": 0}, "category": "Chairs"},
      {"seat_guid": "f1-9", "seat_number": "9", "position": {"x": 140, "y": 0}, "category": "Balcony & co"}]},
    {"row_number": "empty", "row_number_position": null, "seats": []}],
   "areas": [
    {"shape": "rectangle", "position": {"x": 1, "y": 2}, "rectangle": {"width": 30, "height": 40}, "rotation": 45, "color": "red", "border_color": "#000", "text": {"text": "Bar", "size": 12, "color": "#fff", "position": {"x": 0, "y": 0}}},
    {"shape": "circle", "position": {"x": 50, "y": 50}, "circle": {"radius": 10}},
    {"shape": "ellipse", "position": {"x": 50, "y": 50}, "ellipse": {"radius": {"x": 10, "y": 5}}},
    {"shape": "polygon", "position": {"x": 0, "y": 0}, "polygon": {"points": [{"x": 5, "y": 6}, {"x": 1, "y": 9}]}},
    {"shape": "text", "position": {"x": 0, "y": 0}, "text": {"text": "Exit", "position": {"x": 0, "y": 0}}},
    {"width": 5, "height": 6, "position": {"x": 0, "y": 0}, "text": "Oldest form"}]},
  {"name": "Floor", "displayed": true, "position": {"x": 0, "y": 300}, "rows": [
    {"row_number": "T1", "number_of_seats": 4, "seats_spacing": 20, "seats": [
      {"seat_guid": "t1-1", "seat_number": "1", "position": {"x": 0, "y": 0}, "category": "Chairs"},
      {"seat_guid": "t1-2", "seat_number": "2", "position": {"x": 20, "y": 0}, "category": "Chairs"},
      {"seat_guid": "t1-3", "seat_number": "3", "position": {"x": 20, "y": 20}, "category": "Chairs"},
      {"seat_guid": "t1-4", "seat_number": "", "position": {"x": 0, "y": 20}, "category": "Chairs"}]}]},
  {"position": {"x": 0, "y": 0}, "rows": []}],
 "categories": [{"name": "Chairs", "color": "#123456"}, {"name": "Balcony & co", "color": "rgb(1,2,3)"}]
}`

func TestPretix(t *testing.T) {
	c := decode(t, cabaret)
	if c.Name != "Cabaret" || c.Width != 800 || len(c.Sections) != 2 || c.SeatCount() != 9 || len(c.Landmarks) != 6 {
		t.Fatalf("%+v", c)
	}
	if c.Sections[0].ID != "floor" || c.Sections[1].ID != "Floor" || c.Sections[1].Name != "Floor" {
		t.Errorf("sections %q and %q", c.Sections[0].ID, c.Sections[1].ID)
	}
	if c.Categories[0].Color != "#123456" || c.Categories[1].Color != "" {
		t.Errorf("categories %+v", c.Categories)
	}
	var got []string
	for _, s := range c.Sections[0].Rows[0].Seats {
		mark := s.ID
		if s.Gap {
			mark = "|" + mark
		}
		got = append(got, mark)
	}
	if order := strings.Join(got, " "); order != "f1-1 f1-2 f1-3 f1-4 |f1-9" {
		t.Errorf("row 1 is %s", order)
	}
	first, last := c.Sections[0].Rows[0].Seats[1], c.Sections[0].Rows[0].Seats[4]
	if first.X != 130.5 || first.Y != 55 || last.Category != 1 {
		t.Errorf("seats %+v and %+v", first, last)
	}
	for i, s := range c.Sections[1].Rows[0].Seats { // around a table the file's order is the physical one
		if s.Gap || s.Label == "" || i < 3 && s.Label != string(rune('1'+i)) {
			t.Errorf("seat %d of the table is %+v", i, s)
		}
	}
	want := []chart.Landmark{
		{Label: "Bar", Area: chart.Area{X: 101, Y: 52, Width: 30, Height: 40}},
		{Label: "", Area: chart.Area{X: 140, Y: 90, Width: 20, Height: 20}},
		{Label: "", Area: chart.Area{X: 140, Y: 95, Width: 20, Height: 10}},
		{Label: "", Area: chart.Area{X: 101, Y: 56, Width: 4, Height: 3}},
		{Label: "Exit", Area: chart.Area{X: 100, Y: 50}},
		{Label: "Oldest form", Area: chart.Area{X: 100, Y: 50, Width: 5, Height: 6}},
	}
	for i, l := range c.Landmarks {
		if l != want[i] {
			t.Errorf("landmark %d is %+v, want %+v", i, l, want[i])
		}
	}
	if _, err := c.Encode(); err != nil {
		t.Errorf("the imported plan has no form in our own format: %v", err)
	}
}

func TestPretixRefusals(t *testing.T) {
	for _, c := range []struct{ old, new, path, value string }{
		{`"name": "Cabaret", `, ``, "/name", ""},
		{`"name": "Cabaret"`, `"name": ["Cabaret"]`, "/name", "an array"},
		{`"seat_guid": "f1-3"`, `"seat_guid": "f1-1"`, "/zones/0/rows/0/seats/1/seat_guid", `"f1-1"`},
		{`"seat_guid": "f1-3", `, ``, "/zones/0/rows/0/seats/1/seat_guid", ""},
		{`"seat_number": "3", `, ``, "/zones/0/rows/0/seats/1/seat_number", ""},
		{`"seat_number": "3"`, `"seat_number": 3`, "/zones/0/rows/0/seats/1/seat_number", "3"},
		{`"category": "Balcony & co"`, `"category": "Attic"`, "/zones/0/rows/0/seats/4/category", `"Attic"`},
		{`{"x": 40, "y": 0}`, `{"x": 40}`, "/zones/0/rows/0/seats/1/position/y", ""},
		{`{"x": 40, "y": 0}`, `{"x": 40, "y": "0"}`, "/zones/0/rows/0/seats/1/position/y", `"0"`},
		{`{"x": 40, "y": 0}`, `{"x": 40, "y": 1e300}`, "/zones/0/rows/0/seats/1/position/y", "1e300"},
		{`{"x": 40, "y": 0}`, `{"x": 1000000, "y": 0}`, "/zones/0/rows/0/seats/1/position", ""},
		{`"row_number": "1", `, ``, "/zones/0/rows/0/row_number", ""},
		{`"shape": "circle"`, `"shape": "star"`, "/zones/0/areas/1/shape", `"star"`},
		{`"circle": {"radius": 10}`, `"circle": {"radius": -1}`, "/zones/0/areas/1/circle/radius", "-1"},
		{`"displayed": true`, `"shown": true`, "/zones/1/shown", ""},
		{`"displayed": true`, `"displayed": true, "displayed": true`, "/zones/1/displayed", ""},
		{`"name": "Balcony & co"`, `"name": "Chairs"`, "/categories/1/name", `"Chairs"`},
		{`"width": 800`, `"depth": 800`, "/size/depth", ""},
	} {
		if !strings.Contains(cabaret, c.old) {
			t.Fatalf("the plan does not contain %s", c.old)
		}
		got, err := chart.Import(strings.NewReader(strings.Replace(cabaret, c.old, c.new, 1)))
		var f *chart.FormatError
		if !errors.As(err, &f) || f.Path != c.path || f.Value != c.value || got != nil {
			t.Errorf("%s instead of %s: %v; want path %q and value %q", c.new, c.old, err, c.path, c.value)
		}
	}
	if _, err := chart.Import(strings.NewReader(`{"zones":[],"name":"x","categories":[]}`)); err == nil {
		t.Error("a plan without seats was accepted")
	}
}
