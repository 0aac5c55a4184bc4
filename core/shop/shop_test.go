package shop

import (
	"fmt"
	"math"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/problem"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// What needs seats, orders and money is tested with all of them in tools/journeys/officetest.

func TestColorsAreSeenOnBothGrounds(t *testing.T) {
	declared := regexp.MustCompile(`\.k(\d+)\{color:#([0-9a-f]{6})\}`)
	rapid.Check(t, func(t *rapid.T) {
		c := &chart.Chart{}
		n := rapid.IntRange(1, 8).Draw(t, "categories")
		for range n {
			color := ""
			if rapid.Bool().Draw(t, "coloured") {
				color = fmt.Sprintf("#%06X", rapid.IntRange(0, 0xffffff).Draw(t, "colour"))
			}
			c.Categories = append(c.Categories, chart.Category{Name: "x", Color: color})
		}
		css, ok := colorSheet(colorsOf(c))
		if !ok {
			t.Fatalf("%s is not understood", colorsOf(c))
		}
		day, night, ok := strings.Cut(string(css), "@media (prefers-color-scheme:dark)")
		if !ok {
			t.Fatal("no colours for the dark")
		}
		for _, part := range []struct {
			css    string
			ground rgb
		}{{day, light}, {night, dark}} {
			found := declared.FindAllStringSubmatch(part.css, -1)
			if len(found) != n {
				t.Fatalf("%d colours for %d categories: %s", len(found), n, part.css)
			}
			for _, m := range found {
				color, _ := parseColor(m[2])
				if got := contrast(color, part.ground); got < 3 {
					t.Errorf("#%s on #%s has a contrast of %.2f, want 3", m[2], part.ground, got)
				}
			}
		}
	})
}

func TestContrastIsThatOfWCAG(t *testing.T) {
	for _, test := range []struct {
		a, b rgb
		want float64
	}{{black, white, 21}, {white, white, 1}, {rgb{0x77, 0x77, 0x77}, white, 4.48}, {rgb{0, 0, 255}, white, 8.59}} {
		if got := contrast(test.a, test.b); math.Abs(got-test.want) > 0.01 {
			t.Errorf("contrast(%s, %s) = %.2f, want %.2f", test.a, test.b, got, test.want)
		}
	}
}

func TestForeignColorSheetsAreRefused(t *testing.T) {
	for _, name := range []string{"", "seats-.css", "seats-b3403a", "seats-B3403A.css", "seats-b3403.css", "seats-b3403a-.css", "seats-zzzzzz.css", "shop.css",
		"seats-" + strings.Repeat("b3403a-", 64) + "b3403a.css", "seats-b3403a}body{display:none.css"} {
		if css, ok := colorSheet(name); ok {
			t.Errorf("%q gave %s", name, css)
		}
	}
}

func FuzzColorSheet(f *testing.F) {
	f.Add("seats-b3403a-2f6f9f.css")
	f.Add("seats-.css")
	whole := regexp.MustCompile(`^(\.k\d+\{color:#[0-9a-f]{6}\}\n)+@media \(prefers-color-scheme:dark\)\{\n(\.k\d+\{color:#[0-9a-f]{6}\}\n)+\}\n$`)
	f.Fuzz(func(t *testing.T, name string) {
		if css, ok := colorSheet(name); ok && !whole.Match(css) {
			t.Fatalf("%q wrote %s", name, css)
		}
	})
}

// house is a hall of a curved section, one without rows, and a standing area.
func house(t *testing.T) *catalog.Hall {
	t.Helper()
	c := &chart.Chart{Name: "House", Categories: []chart.Category{{Name: "A"}, {Name: "B"}},
		Landmarks: []chart.Landmark{{Label: "Stage", Area: chart.Area{X: 10, Y: -50, Width: 100, Height: 20}}}}
	stalls := chart.Section{ID: "s", Name: "Stalls"}
	for i := range 3 {
		row := chart.Row{Label: fmt.Sprint(i)}
		for k := range 10 + 2*i {
			row.Seats = append(row.Seats, chart.Seat{ID: fmt.Sprintf("%d-%d", i, k), Label: fmt.Sprint(k), X: float64(20*k - 20*i), Y: float64(20 * i), Category: i / 2})
		}
		stalls.Rows = append(stalls.Rows, row)
	}
	floor := chart.Area{X: 0, Y: 100, Width: 200, Height: 50}
	c.Sections = []chart.Section{stalls, {ID: "e", Name: "Empty"}, {ID: "f", Name: "Floor",
		Rows: []chart.Row{{Label: "standing", General: &floor, Seats: chart.GeneralUnits("f", "standing", floor, 1, 12)}}}}
	layout, err := c.Layout(10)
	if err != nil {
		t.Fatal(err)
	}
	return &catalog.Hall{Chart: c, Layout: layout}
}

func TestPlan(t *testing.T) {
	p := drawPlan(house(t))
	if p.Big || p.Pitch != 20 || len(p.Parts) != 3 || len(p.Landmarks) != 1 {
		t.Fatalf("drew %+v", p)
	}
	path := regexp.MustCompile(`^M-?[\d.]+ -?[\d.]+(L-?[\d.]+ -?[\d.]+)+Z$`)
	for i, want := range []struct {
		class string
		count int
		drawn bool
	}{{"", 36, true}, {"", 0, false}, {"k1", 12, true}} {
		got := p.Parts[i]
		if got.Class != want.class || got.Count != want.count || path.MatchString(got.Shape) != want.drawn {
			t.Errorf("part %d: %+v", i, got)
		}
	}
	if p.Parts[2].Shape != "M0 100L200 100L200 150L0 150Z" {
		t.Errorf("the floor is %s", p.Parts[2].Shape)
	}
	// Everything lies inside the picture.
	var x, y, w, h float64
	if _, err := fmt.Sscan(p.ViewBox, &x, &y, &w, &h); err != nil || x > -40 || y > -50 || x+w < 240 || y+h < 150 {
		t.Errorf("the picture is %s: %v", p.ViewBox, err)
	}
}

func TestFreeSeats(t *testing.T) {
	hall := house(t)
	bits := chart.NewBits(10)
	for n := range 10 {
		bits.Set(n)
	}
	free := freeSeats(hall, chart.Availability{Blocks: []chart.BlockAvailability{{Block: 0, Free: bits}, {Block: 999, Free: bits}}})
	if sum(free[0]) != 10 || free[0][0] != 10 || sum(free[1]) != 0 || sum(free[2]) != 0 {
		t.Errorf("free %v", free)
	}
}

func TestCommonStart(t *testing.T) {
	for _, test := range []struct {
		names []string
		want  string
	}{
		{[]string{"Block 101", "Block 102", "Block 103"}, "Block "},
		{[]string{"Block 101", "Block 102"}, ""},
		{[]string{"Block 101", "Block 102", "North"}, ""},
		{[]string{"Block ", "Block 1", "Block 2"}, ""},
		{[]string{"A", "B", "C"}, ""},
		{nil, ""},
	} {
		c := &chart.Chart{}
		for _, n := range test.names {
			c.Sections = append(c.Sections, chart.Section{Name: n})
		}
		if got := commonStart(c); got != test.want {
			t.Errorf("commonStart(%q) = %q", test.names, got)
		}
	}
}

func TestLevel(t *testing.T) {
	for _, test := range []struct{ free, of, want int }{{0, 100, 0}, {1, 100, 1}, {19, 100, 1}, {20, 100, 2}, {100, 100, 2}, {0, 0, 0}, {1, 1, 2}} {
		if got := level(test.free, test.of); got != test.want {
			t.Errorf("level(%d, %d) = %d, want %d", test.free, test.of, got, test.want)
		}
	}
}

func TestMoney(t *testing.T) {
	for _, test := range []struct {
		accept, code string
		minor        int64
		want         string
	}{
		{"", "EUR", 8925, "€89.25"},
		{"de-DE,de;q=0.9", "EUR", 123456, "1.234,56\u00a0€"},
		{"fr", "EUR", 8925, "89,25\u00a0€"},
		{"en", "JPY", 500, "¥500"},
		{"en", "BHD", 1234, "BHD\u00a01.234"},
		{"not a language;;", "EUR", 1, "€0.01"},
		{"en", "EUR", 0, "€0.00"},
		{"en", "???", 7, "7 ???"},
		{"ja", "EUR", 8925, "€89.25"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Language", test.accept)
		if got := Money(r, test.minor, test.code); got != test.want {
			t.Errorf("Money(%d %s) for %q = %q, want %q", test.minor, test.code, test.accept, got, test.want)
		}
	}
}

// Every kind that a page can show reads as a sentence to a fan: no codes, no blame.
func TestWords(t *testing.T) {
	for _, k := range problem.Kinds() {
		w := inWords(problem.New(k, "What happened this time."))
		if w.Title == "" || w.Text == "" || strings.ContainsAny(w.Title+w.Text, "!_`") {
			t.Errorf("%s reads %+v", k.Code, w)
		}
	}
	for _, code := range []string{"card_declined", "insufficient_funds", "stolen_card", "authentication_failed", "something_new", ""} {
		if w := declined(code); !strings.HasSuffix(w, ".") || strings.Contains(w, "_") {
			t.Errorf("%s reads %q", code, w)
		}
	}
	for _, s := range order.States {
		if title := orderTitle(s); title == "" || strings.Contains(title, string(s)) {
			t.Errorf("an order in %s is called %q", s, title)
		}
	}
	for _, s := range []order.UnitState{order.UnitRefunding, order.UnitRefunded, order.UnitCooling, order.UnitReturned} {
		if refundWords[s] == "" {
			t.Errorf("a unit in %s says nothing", s)
		}
	}
}

func TestAssets(t *testing.T) {
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"shop.css", "shop.js", "icon.svg"} {
		path := s.hashed[name]
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 200 || w.Body.Len() == 0 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || strings.Contains(w.Header().Get("Content-Type"), "plain") {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
		ext := path[strings.LastIndex(path, "."):]
		w = httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", strings.TrimSuffix(path, ext)+"0"+ext, nil))
		if w.Code != 404 {
			t.Errorf("another hash of %s: %d", name, w.Code)
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/static/seats-b3403a.css", nil))
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("colours: %d %v", w.Code, w.Header())
	}
}
