package chart_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/stanchion-queue/stanchion/inventory/chart"
)

const small = `{"format":"stanchion-seating-plan","version":1,"name":"Cellar","width":100,"height":50.5,
"categories":[{"name":"Seats","color":"#aabbcc"},{"name":"Floor"}],
"landmarks":[{"label":"Stage","x":0,"y":0,"width":100,"height":10}],
"sections":[
 {"id":"main","name":"Main","rows":[
  {"label":"A","category":"Seats","seats":[
   {"label":"1","x":1,"y":2},{"label":"3","x":2,"y":2},{"label":"2","x":5,"y":2,"gap":true},
   {"label":"W","x":6,"y":2,"accessible":true},{"label":"C","x":7,"y":2,"companion":true,"category":"Floor","id":"x-1"}]},
  {"label":"","category":"Seats","seats":[]},
  {"label":"Floor","category":"Floor","general":{"units":3,"x":0,"y":20,"width":100,"height":30}}]}]}`

func decode(t *testing.T, document string) *chart.Chart {
	t.Helper()
	c, err := chart.Import(strings.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func theatre(t *testing.T) *chart.Chart {
	t.Helper()
	document, err := os.ReadFile("../testdata/theatre.json")
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, string(document))
}

func TestDecode(t *testing.T) {
	c := decode(t, small)
	if c.Name != "Cellar" || c.Height != 50.5 || len(c.Sections) != 1 || c.SeatCount() != 8 {
		t.Fatalf("%+v with %d seats", c, c.SeatCount())
	}
	row := c.Sections[0].Rows[0]
	want := []chart.Seat{
		{ID: "main-A-1", Label: "1", X: 1, Y: 2}, {ID: "main-A-3", Label: "3", X: 2, Y: 2},
		{ID: "main-A-2", Label: "2", X: 5, Y: 2, Gap: true}, {ID: "main-A-W", Label: "W", X: 6, Y: 2, Accessible: true},
		{ID: "x-1", Label: "C", X: 7, Y: 2, Category: 1, Companion: true},
	}
	if !slices.Equal(row.Seats, want) {
		t.Errorf("row A is %+v", row.Seats)
	}
	floor := c.Sections[0].Rows[2]
	if floor.General == nil || len(floor.Seats) != 3 || floor.Seats[2].ID != "main-Floor-3" || floor.Seats[0].Y != 35 {
		t.Errorf("the floor is %+v", floor)
	}
}

func TestEncodeIsCanonical(t *testing.T) {
	for name, c := range map[string]*chart.Chart{"cellar": decode(t, small), "theatre": theatre(t)} {
		document, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := chart.Decode(document)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := back.Encode()
		if err != nil || !bytes.Equal(document, again) || chart.Hash(document) != chart.Hash(again) {
			t.Errorf("%s does not survive its own format (%v)", name, err)
		}
	}
}

// Every error names where it is, and the offending value where there is one.
func TestRefusals(t *testing.T) {
	for _, c := range []struct{ old, new, path, value string }{
		{`"version":1`, `"version":2`, "/version", "2"},
		{`"version":1`, `"version":"1"`, "/version", `"1"`},
		{`"version":1,`, ``, "/version", ""},
		{`"stanchion-seating-plan"`, `"other"`, "/format", `"other"`},
		{`"name":"Cellar"`, `"name":" "`, "/name", `" "`},
		{`"name":"Cellar"`, `"name":"a\u0007"`, "/name", `"a\a"`},
		{`"name":"Cellar"`, `"name":"Cellar","name":"Attic"`, "/name", ""},
		{`"name":"Cellar"`, `"name":"Cellar","price":3`, "/price", ""},
		{`"width":100,"height":50.5`, `"width":-1`, "/width", "-1"},
		{`"#aabbcc"`, `"red"`, "/categories/0/color", `"red"`},
		{`{"name":"Floor"}`, `{"name":"Seats"}`, "/categories/1/name", `"Seats"`},
		{`{"name":"Floor"}`, `{}`, "/categories/1/name", ""},
		{`{"name":"Floor"}`, `7`, "/categories/1", "7"},
		{`"id":"main",`, ``, "/sections/0/rows", ""},
		{`"x":1,"y":2}`, `"x":1e9,"y":2}`, "/sections/0/rows/0/seats/0/x", "1e9"},
		{`"x":1,"y":2}`, `"x":1}`, "/sections/0/rows/0/seats/0/y", ""},
		{`"x":1,"y":2}`, `"x":null,"y":2}`, "/sections/0/rows/0/seats/0/x", "null"},
		{`{"label":"3"`, `{"label":"1"`, "/sections/0/rows/0/seats/1/id", `"main-A-1"`},
		{`"gap":true`, `"gap":"yes"`, "/sections/0/rows/0/seats/2/gap", `"yes"`},
		{`"companion":true,"category":"Floor"`, `"category":"Attic"`, "/sections/0/rows/0/seats/4/category", `"Attic"`},
		{`"accessible":true`, `"accessible":true,"companion":true`, "/sections/0/rows/0/seats/3/companion", "true"},
		{`"units":3`, `"units":0`, "/sections/0/rows/2/general/units", "0"},
		{`"units":3`, `"units":2.5`, "/sections/0/rows/2/general/units", "2.5"},
		{`"units":3,`, ``, "/sections/0/rows/2/general/units", ""},
		{`"category":"Floor","general"`, `"general"`, "/sections/0/rows/2/category", ""},
		{`"general":{`, `"seats":[],"general":{`, "/sections/0/rows/2", ""},
		{`"seats":[]`, `"seats":{}`, "/sections/0/rows/1/seats", "an object"},
	} {
		if !strings.Contains(small, c.old) {
			t.Fatalf("the plan does not contain %s", c.old)
		}
		got, err := chart.Import(strings.NewReader(strings.Replace(small, c.old, c.new, 1)))
		var f *chart.FormatError
		if !errors.As(err, &f) || f.Path != c.path || f.Value != c.value || got != nil {
			t.Errorf("%s instead of %s: %v; want path %q and value %q", c.new, c.old, err, c.path, c.value)
		}
	}
	for name, c := range map[string]struct{ document, says string }{
		"nothing":       {"", "not a JSON object"},
		"a list":        {"[]", "not a JSON object"},
		"cut off":       {small[:200], "line 3"},
		"two documents": {small + small, "not a JSON document"},
		"foreign":       {`{"rows":[]}`, "neither our own format"},
		"no seats":      {`{"format":"stanchion-seating-plan","version":1,"name":"x","categories":[{"name":"a"}],"sections":[]}`, "no seats"},
		"too large":     {strings.Repeat(" ", chart.MaxDocumentBytes+1), "larger than"},
		"not UTF-8":     {strings.Replace(small, "Cellar", "Cel\xfflar", 1), "/name"},
		"many seats":    {strings.Replace(small, `"units":3`, `"units":10001`, 1), "10000"},
	} {
		if _, err := chart.Import(strings.NewReader(c.document)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want something about %q", name, err, c.says)
		}
	}
}

func TestReadErrorsAreNotFormatErrors(t *testing.T) {
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var format *chart.FormatError
	if _, err := chart.Import(f); err == nil || errors.As(err, &format) {
		t.Errorf("reading a directory: %v", err)
	}
}

// genChart draws a chart of a few sections with rows of all lengths, gaps, accessible places and an admission area.
func genChart(t *rapid.T) *chart.Chart {
	c := &chart.Chart{Name: "x", Categories: []chart.Category{{Name: "a"}, {Name: "b"}}}
	for s := range rapid.IntRange(1, 4).Draw(t, "sections") {
		section := chart.Section{ID: fmt.Sprint("s", s), Name: "S"}
		for r := range rapid.IntRange(1, 12).Draw(t, "rows") {
			row := chart.Row{Label: fmt.Sprint(r)}
			n := rapid.IntRange(1, 60).Draw(t, "seats")
			if rapid.IntRange(0, 9).Draw(t, "general") == 0 {
				row.General = &chart.Area{Width: 5, Height: 5}
				row.Seats = chart.GeneralUnits(section.ID, row.Label, *row.General, 1, n*5)
			} else {
				for k := range n {
					seat := chart.Seat{Label: fmt.Sprint(k), X: float64(k), Y: float64(r), ID: chart.DefaultSeatID(section.ID, row.Label, fmt.Sprint(k))}
					seat.Gap = rapid.IntRange(0, 9).Draw(t, "gap") == 0
					seat.Accessible = rapid.IntRange(0, 9).Draw(t, "accessible") == 0
					seat.Companion = !seat.Accessible && rapid.IntRange(0, 9).Draw(t, "companion") == 0
					seat.Category = rapid.IntRange(0, 1).Draw(t, "category")
					row.Seats = append(row.Seats, seat)
				}
			}
			section.Rows = append(section.Rows, row)
		}
		c.Sections = append(c.Sections, section)
	}
	return c
}

func TestLayoutProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := genChart(t)
		size := rapid.IntRange(chart.MinBlockSeats, 100).Draw(t, "block")
		l, err := c.Layout(size)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		rowBlocks := map[[2]int]map[int]bool{}
		for b, block := range l.Blocks {
			if len(block.Seats) == 0 || len(block.Seats) > size {
				t.Fatalf("block %d has %d seats, at most %d are allowed", b, len(block.Seats), size)
			}
			for n, ref := range block.Seats {
				count++
				p := chart.Place{Block: int16(b), Seat: int16(n)}
				_, _, seat, ok := l.At(p)
				found, known := l.Find(seat.ID)
				if !ok || !known || found != p {
					t.Fatalf("seat %s is at %v and found at %v", seat.ID, p, found)
				}
				key := [2]int{ref.Section, ref.Row}
				if rowBlocks[key] == nil {
					rowBlocks[key] = map[int]bool{}
				}
				rowBlocks[key][b] = true
			}
		}
		if count != c.SeatCount() {
			t.Fatalf("%d seats in blocks, %d in the chart", count, c.SeatCount())
		}
		for key, blocks := range rowBlocks {
			if n := len(c.Sections[key[0]].Rows[key[1]].Seats); n <= size && len(blocks) > 1 {
				t.Fatalf("a row of %d seats is split over %d blocks of %d", n, len(blocks), size)
			}
		}
	})
}

// naiveRuns says whether any qty seats side by side are free, by looking at every window of every row.
func naiveRuns(l *chart.Layout, block int, free chart.Bits, w chart.Want) bool {
	seats := l.Blocks[block].Seats
	fits := func(n int) bool {
		_, _, s, ok := l.At(chart.Place{Block: int16(block), Seat: int16(n)})
		return ok && free.Has(n) && (w.Category < 0 || s.Category == w.Category) && w.Accessible == (s.Accessible || s.Companion)
	}
	for from := range seats {
		_, row, _, _ := l.At(chart.Place{Block: int16(block), Seat: int16(from)})
		got, wheelchair := 0, false
		for n := from; n < len(seats) && got < w.Qty; n++ {
			if seats[n].Section != seats[from].Section || seats[n].Row != seats[from].Row {
				break
			}
			if row.General != nil {
				if fits(n) {
					got++
				}
				continue
			}
			_, _, s, _ := l.At(chart.Place{Block: int16(block), Seat: int16(n)})
			if !fits(n) || n > from && s.Gap {
				break
			}
			wheelchair = wheelchair || s.Accessible
			got++
		}
		if got == w.Qty && (!w.Accessible || wheelchair) {
			return true
		}
	}
	return false
}

func TestBestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, err := genChart(t).Layout(100)
		if err != nil {
			t.Fatal(err)
		}
		block := rapid.IntRange(0, len(l.Blocks)-1).Draw(t, "block")
		n := len(l.Blocks[block].Seats)
		free := chart.NewBits(n)
		share := rapid.IntRange(0, 10).Draw(t, "free")
		for i := range n {
			if rapid.IntRange(0, 9).Draw(t, "f") < share {
				free.Set(i)
			}
		}
		w := chart.Want{
			Qty: rapid.IntRange(1, 6).Draw(t, "qty"), Category: rapid.IntRange(-1, 1).Draw(t, "category"),
			Accessible: rapid.Bool().Draw(t, "accessible"),
		}
		seats, ok := l.Best(block, free, w)
		if want := naiveRuns(l, block, free, w); ok != want {
			t.Fatalf("found is %v, want %v", ok, want)
		}
		if !ok {
			return
		}
		if len(seats) != w.Qty {
			t.Fatalf("%d seats, want %d", len(seats), w.Qty)
		}
		first := l.Blocks[block].Seats[seats[0]]
		for i, s := range seats {
			ref := l.Blocks[block].Seats[s]
			_, row, seat, _ := l.At(chart.Place{Block: int16(block), Seat: s})
			switch {
			case !free.Has(int(s)):
				t.Fatalf("seat %d is not free", s)
			case ref.Section != first.Section || ref.Row != first.Row:
				t.Fatal("the seats lie in different rows")
			case w.Category >= 0 && seat.Category != w.Category:
				t.Fatal("a seat of another category")
			case w.Accessible != (seat.Accessible || seat.Companion):
				t.Fatal("accessible places were mixed up")
			case row.General == nil && i > 0 && (s != seats[i-1]+1 || seat.Gap):
				t.Fatalf("seats %v are not side by side", seats)
			}
		}
	})
}

// row makes a chart of one row from a picture: '.' free, 'x' taken, '|' a gap before the next seat, 'w' and 'c' free
// accessible and companion's places.
func row(t *testing.T, picture string) (*chart.Layout, chart.Bits) {
	t.Helper()
	c := &chart.Chart{Name: "x", Categories: []chart.Category{{Name: "a"}}}
	r := chart.Row{Label: "A"}
	gap := false
	var free []int
	for _, p := range picture {
		if p == '|' {
			gap = true
			continue
		}
		n := len(r.Seats)
		r.Seats = append(r.Seats, chart.Seat{
			ID: fmt.Sprint("s-A-", n), Label: fmt.Sprint(n), Gap: gap, Accessible: p == 'w', Companion: p == 'c',
		})
		if gap = false; p != 'x' {
			free = append(free, n)
		}
	}
	c.Sections = []chart.Section{{ID: "s", Name: "S", Rows: []chart.Row{r}}}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	l, err := c.Layout(0)
	if err != nil {
		t.Fatal(err)
	}
	bits := chart.NewBits(len(r.Seats))
	for _, n := range free {
		bits.Set(n)
	}
	return l, bits
}

func TestBestChoice(t *testing.T) {
	for _, c := range []struct {
		picture    string
		qty        int
		accessible bool
		want       []int16
	}{
		{".........", 1, false, []int16{4}},         // the middle
		{"..........", 2, false, []int16{4, 5}},     // the middle, leaving four on each side
		{".....", 3, false, []int16{0, 1, 2}},       // the middle would leave two single seats
		{"..|...|....", 3, false, []int16{2, 3, 4}}, // not across a gap
		{"xx...xx..", 2, false, []int16{7, 8}},      // fills the pair rather than breaking the three
		{"x.x.x", 2, false, nil},
		{"..wc..", 2, false, []int16{0, 1}}, // those places are kept
		{"..wc..", 2, true, []int16{2, 3}},
		{"..wc..", 1, true, []int16{2}},
		{"..cc..", 1, true, nil}, // a companion's seat alone helps nobody
		{"...", 4, false, nil},
	} {
		l, free := row(t, c.picture)
		got, ok := l.Best(0, free, chart.Want{Qty: c.qty, Category: chart.AnyCategory, Accessible: c.accessible})
		if !slices.Equal(got, c.want) || ok != (c.want != nil) {
			t.Errorf("%d of %q (accessible %v): %v, want %v", c.qty, c.picture, c.accessible, got, c.want)
		}
	}
}

func TestLayoutRefusesBlockSizes(t *testing.T) {
	for _, size := range []int{-1, 1, 9, 501} {
		if _, err := theatre(t).Layout(size); err == nil {
			t.Errorf("blocks of %d seats were accepted", size)
		}
	}
}
