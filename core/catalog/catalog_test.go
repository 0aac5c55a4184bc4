package catalog_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/catalogsql"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/sqlitestore"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

func fields(err error) (out []string) {
	var invalid *catalog.Invalid
	if errors.As(err, &invalid) {
		for _, p := range invalid.Problems {
			out = append(out, p.Field)
		}
	}
	return out
}

func TestValidationListsEverything(t *testing.T) {
	long := strings.Repeat("x", 201)
	offer := catalog.Offer{Category: "A", Price: 100}
	good := catalog.Performance{Slug: "p", Event: uuid.New(), Venue: uuid.New(), Starts: time.Now(), Currency: "EUR", Offers: []catalog.Offer{offer}}
	with := func(change func(*catalog.Performance)) catalog.Performance {
		p := good
		p.Offers = slices.Clone(good.Offers)
		change(&p)
		return p
	}
	for _, test := range []struct {
		name string
		of   interface{ Validate() error }
		want []string
	}{
		{"a venue", catalog.Venue{Slug: "a-1", Name: "N", Country: "DE", TimeZone: "Europe/Berlin"}, nil},
		{"an empty venue", catalog.Venue{}, []string{"slug", "name", "country", "time_zone"}},
		{"a bad venue", catalog.Venue{Slug: "-a", Name: long, City: long, Country: "de", TimeZone: "Mars"}, []string{"slug", "name", "city", "country", "time_zone"}},
		{"an event", catalog.Event{Slug: "e", Title: "T"}, nil},
		{"a bad event", catalog.Event{Slug: strings.Repeat("e", 65), Title: "", Summary: strings.Repeat("x", 4001)}, []string{"slug", "title", "summary"}},
		{"a performance", good, nil},
		{"one in a room", with(func(p *catalog.Performance) { p.Room = "on-sale-1" }), nil},
		{"an empty one", catalog.Performance{}, []string{"slug", "event_id", "venue_id", "starts_at", "currency", "offers"}},
		{"a bad room and currency", with(func(p *catalog.Performance) { p.Room, p.Currency = "On Sale", "eur" }), []string{"room", "currency"}},
		{"bad offers", with(func(p *catalog.Performance) {
			p.Offers = []catalog.Offer{{Category: "A", Price: -1}, {Category: "A", Fee: catalog.MaxMinorUnits + 1, Tax: -1}, {Category: "", Price: 10, Fee: 5, Tax: 16}}
		}), []string{"offers[0].price", "offers[0].tax", "offers[1].category", "offers[1].fee", "offers[1].tax", "offers[2].category", "offers[2].tax"}},
		{"tax up to the whole price", with(func(p *catalog.Performance) {
			p.Offers[0] = catalog.Offer{Category: "A", Price: 10, Fee: 5, Tax: 15}
		}), nil},
		{"too many offers", with(func(p *catalog.Performance) { p.Offers = make([]catalog.Offer, chart.MaxCategories+1) }), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.of.Validate()
			if test.name == "too many offers" {
				if !slices.Contains(fields(err), "offers") {
					t.Errorf("Validate: %v", err)
				}
				return
			}
			if !slices.Equal(fields(err), test.want) || (err == nil) != (test.want == nil) {
				t.Errorf("wrong fields %v, want %v (%v)", fields(err), test.want, err)
			}
		})
	}
	err := catalog.Venue{Slug: "X"}.Validate()
	if msg := err.Error(); !strings.Contains(msg, `slug: "X": want a-z`) || !strings.Contains(msg, "and 3 more") {
		t.Errorf("the error reads %q", msg)
	}
}

// plans gives every performance but one a chart, and counts how often it is asked.
type plans struct {
	doc   []byte
	asked int
	err   error
}

func (p *plans) Chart(context.Context, uuid.UUID) ([]byte, string, int, error) {
	p.asked++
	return p.doc, "hash", 10, p.err
}

func plan(t *testing.T) []byte {
	t.Helper()
	c := chart.Chart{Name: "House", Categories: []chart.Category{{Name: "A"}, {Name: "B"}},
		Landmarks: []chart.Landmark{{Label: "Stage", Area: chart.Area{Width: 10, Height: 2}}}}
	for s, name := range []string{"stalls", "circle"} {
		row := chart.Row{Label: "1"}
		for k := range 8 {
			label := string(rune('1' + k))
			row.Seats = append(row.Seats, chart.Seat{ID: chart.DefaultSeatID(name, "1", label), Label: label, Category: s})
		}
		c.Sections = append(c.Sections, chart.Section{ID: name, Name: strings.ToUpper(name[:1]) + name[1:], Rows: []chart.Row{row}})
	}
	floor := chart.Area{X: 1, Y: 1, Width: 5, Height: 5}
	c.Sections = append(c.Sections, chart.Section{ID: "arena", Name: "Arena", Rows: []chart.Row{{Label: "standing", General: &floor, Seats: chart.GeneralUnits("arena", "standing", floor, 0, 12)}}})
	doc, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// store is the real one, which the test can switch off.
type store struct {
	catalog.Store
	down  error
	reads int
}

func (s *store) Venues(ctx context.Context) ([]catalog.Venue, error) {
	s.reads++
	if s.down != nil {
		return nil, s.down
	}
	return s.Store.Venues(ctx)
}

func open(t *testing.T) *store {
	t.Helper()
	db, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "orders.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &store{Store: catalogsql.New(db)}
}

type world struct {
	venue catalog.Venue
	event catalog.Event
	perf  catalog.Performance
}

func fill(t *testing.T, s *catalog.Service) world {
	t.Helper()
	w := world{
		venue: catalog.Venue{ID: uuid.New(), Slug: "house", Name: "House", City: "Köln", Country: "DE", TimeZone: "Europe/Berlin"},
		event: catalog.Event{ID: uuid.New(), Slug: "gala", Title: "Gala", Summary: "One evening."},
	}
	w.perf = catalog.Performance{ID: uuid.New(), Slug: "gala-1", Event: w.event.ID, Venue: w.venue.ID, Room: "onsale", Currency: "EUR", SaleOpen: true,
		Starts: time.Date(2027, 1, 23, 19, 30, 0, 0, time.UTC), Offers: []catalog.Offer{{Category: "A", Price: 8500, Fee: 425, Tax: 584}}}
	for _, err := range []error{s.PutVenue(t.Context(), w.venue), s.PutEvent(t.Context(), w.event), s.PutPerformance(t.Context(), w.perf)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func TestFindAndShow(t *testing.T) {
	s := catalog.New(open(t), &plans{}, time.Hour)
	w := fill(t, s)
	for _, key := range []string{"gala-1", w.perf.ID.String()} {
		show, err := s.Find(t.Context(), key)
		if err != nil || show.Title != "Gala" || show.Summary != "One evening." || show.House.Name != "House" {
			t.Errorf("Find(%s) = %+v, %v", key, show, err)
		}
		if got := show.Local().Format("15:04 MST"); got != "20:30 CET" {
			t.Errorf("in the house it begins at %s", got)
		}
	}
	for _, key := range []string{"", "gala", uuid.NewString()} {
		if _, err := s.Find(t.Context(), key); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("Find(%q): %v", key, err)
		}
	}
	// Writing what is wrong, or twice, changes nothing and says so.
	if err := s.PutVenue(t.Context(), catalog.Venue{}); fields(err) == nil {
		t.Errorf("an empty venue: %v", err)
	}
	if err := s.PutPerformance(t.Context(), w.perf); !errors.Is(err, catalog.ErrExists) {
		t.Errorf("made twice: %v", err)
	}
	perf, err := s.Performance(t.Context(), w.perf.ID)
	if err != nil || perf.Room != "onsale" || perf.Title != "Gala" || !perf.SaleOpen || perf.Currency != "EUR" {
		t.Errorf("the order service sees %+v, %v", perf, err)
	}
	if _, err := s.Performance(t.Context(), uuid.New()); !errors.Is(err, order.ErrNoPerformance) {
		t.Errorf("an unknown performance: %v", err)
	}
	all, err := s.Shows(t.Context())
	if err != nil || len(all) != 1 {
		t.Errorf("Shows = %+v, %v", all, err)
	}
}

func TestRefreshAndTheLastGood(t *testing.T) {
	// The database is opened outside: its connections are not the bubble's.
	st := open(t)
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st.Store = &snapshot{of: st.Store}
		s := catalog.New(st, &plans{}, time.Second)
		if _, err := s.Venues(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Venues(ctx); err != nil || st.reads != 1 {
			t.Errorf("%d reads of a fresh catalog, %v", st.reads, err)
		}
		// What another process writes is seen after the refresh.
		st.Store.(*snapshot).venues = []catalog.Venue{{Name: "New house"}}
		if v, _ := s.Venues(ctx); len(v) != 0 {
			t.Error("seen at once: nothing is held in memory")
		}
		time.Sleep(time.Second)
		if v, err := s.Venues(ctx); err != nil || len(v) != 1 {
			t.Errorf("after the refresh %v, %v", v, err)
		}
		// The store goes away: the last good catalog stays.
		st.down = errors.New("the store is gone")
		time.Sleep(time.Minute)
		if v, err := s.Venues(ctx); err != nil || len(v) != 1 {
			t.Errorf("without the store %v, %v", v, err)
		}
		// One that never was good is an error.
		if _, err := catalog.New(st, &plans{}, time.Second).Venues(ctx); !errors.Is(err, st.down) {
			t.Errorf("never read: %v", err)
		}
	})
}

// snapshot answers reads from memory.
type snapshot struct {
	of     catalog.Store
	venues []catalog.Venue
}

func (s *snapshot) PutVenue(context.Context, catalog.Venue) error             { return nil }
func (s *snapshot) PutEvent(context.Context, catalog.Event) error             { return nil }
func (s *snapshot) PutPerformance(context.Context, catalog.Performance) error { return nil }
func (s *snapshot) Venues(context.Context) ([]catalog.Venue, error)           { return s.venues, nil }
func (s *snapshot) Events(context.Context) ([]catalog.Event, error)           { return nil, nil }
func (s *snapshot) Performances(context.Context) ([]catalog.Performance, error) {
	return nil, nil
}

func TestAWriteIsSeenAtOnce(t *testing.T) {
	s := catalog.New(open(t), &plans{}, time.Hour)
	w := fill(t, s)
	w.perf.Version, w.perf.SaleOpen = 1, false
	if err := s.PutPerformance(t.Context(), w.perf); err != nil {
		t.Fatal(err)
	}
	if show, err := s.Find(t.Context(), "gala-1"); err != nil || show.SaleOpen || show.Version != 2 {
		t.Errorf("Find = %+v, %v", show, err)
	}
}

func TestPrices(t *testing.T) {
	p := &plans{doc: plan(t)}
	s := catalog.New(open(t), p, time.Hour)
	w := fill(t, s)
	ctx := t.Context()
	got, err := s.Prices(ctx, w.perf.ID, []order.Seat{{Block: 0, Seat: 3}, {Block: 0, Seat: 0}})
	if err != nil || len(got) != 2 || got[0].Label != "Stalls, row 1, seat 4" || got[1].Seat.Seat != 0 || got[0].Price != 8500 || got[0].Fee != 425 || got[0].Tax != 584 || got[0].Offer != "A" {
		t.Errorf("Prices = %+v, %v", got, err)
	}
	// The circle is of category B, which has no price.
	for _, seat := range []order.Seat{{Block: 1, Seat: 0}, {Block: 0, Seat: 99}, {Block: 77, Seat: 0}, {Block: -1, Seat: 0}, {Block: 0, Seat: 1 << 16}, {Block: 1 << 16, Seat: 0}} {
		_, err := s.Prices(ctx, w.perf.ID, []order.Seat{{Block: 0, Seat: 1}, seat})
		var missing *order.NoSuchSeat
		if !errors.As(err, &missing) || !slices.Equal(missing.Seats, []order.Seat{seat}) {
			t.Errorf("the price of %+v: %v", seat, err)
		}
	}
	if _, err := s.Prices(ctx, uuid.New(), nil); !errors.Is(err, order.ErrNoPerformance) {
		t.Errorf("an unknown performance: %v", err)
	}
	if p.asked != 1 {
		t.Errorf("the chart was read %d times", p.asked)
	}
}

func TestHallAndItsParts(t *testing.T) {
	doc := plan(t)
	s := catalog.New(open(t), &plans{doc: doc}, time.Hour)
	hall, err := s.Hall(t.Context(), uuid.New())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(hall.SectionStarts, []int{0, 8, 16}) || !slices.Equal(hall.BlockStarts, []int{0, 8, 16, 26}) {
		t.Errorf("sections start at %v, blocks at %v", hall.SectionStarts, hall.BlockStarts)
	}
	whole, err := hall.Document("")
	if err != nil || !bytes.Equal(whole.Plain, doc) {
		t.Errorf("the whole: %v", err)
	}
	part, err := hall.Document("circle")
	if err != nil {
		t.Fatal(err)
	}
	c, err := chart.Decode(part.Plain)
	if err != nil || len(c.Sections) != 1 || c.Sections[0].ID != "circle" || len(c.Landmarks) != 1 || len(c.Categories) != 2 {
		t.Errorf("the circle alone: %+v, %v", c, err)
	}
	if again, err := hall.Document("circle"); again != part || err != nil {
		t.Error("a part is made more than once")
	}
	if _, err := hall.Document("balcony"); !errors.Is(err, catalog.ErrNotFound) || hall.Section("balcony") != -1 || hall.Section("arena") != 2 {
		t.Errorf("an unknown section: %v", err)
	}
	for _, d := range []*catalog.Document{whole, part} {
		r, err := gzip.NewReader(bytes.NewReader(d.Gzip))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, d.Plain) {
			t.Errorf("compressed it is another: %v", err)
		}
	}
	if label := catalog.Label(&hall.Chart.Sections[2], &hall.Chart.Sections[2].Rows[0], &hall.Chart.Sections[2].Rows[0].Seats[3]); label != "Arena, standing" {
		t.Errorf("a standing place is called %q", label)
	}
}

func TestAChartThatCannotBeReadIsAskedAgain(t *testing.T) {
	p := &plans{err: errors.New("the inventory is gone")}
	s := catalog.New(open(t), p, time.Hour)
	id := uuid.New()
	if _, err := s.Hall(t.Context(), id); !errors.Is(err, p.err) {
		t.Errorf("Hall: %v", err)
	}
	p.err, p.doc = nil, []byte(`{"format":"other"}`)
	if _, err := s.Hall(t.Context(), id); err == nil {
		t.Error("a foreign document was accepted")
	}
	p.doc = plan(t)
	if _, err := s.Hall(t.Context(), id); err != nil {
		t.Errorf("Hall: %v", err)
	}
}
