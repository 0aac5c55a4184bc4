// Package catalog knows what is on sale: venues, events, performances and the price of every category of seats.
//
// It answers the shop's pages and the API, and it is the order service's price list. Where a seat is, and whether it is free,
// is the inventory's business: the catalog only asks it for the chart.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// Venue is a house.
type Venue struct {
	ID       uuid.UUID `json:"id" required:"false"`
	Slug     string    `json:"slug"`
	Name     string    `json:"name"`
	City     string    `json:"city" required:"false"`
	Country  string    `json:"country"`   // ISO 3166-1 alpha-2
	TimeZone string    `json:"time_zone"` // IANA name; performances are shown in it
	Version  int64     `json:"version" required:"false"`
}

// Event is what is played; its performances say when and where.
type Event struct {
	ID      uuid.UUID `json:"id" required:"false"`
	Slug    string    `json:"slug"`
	Title   string    `json:"title"`
	Summary string    `json:"summary" required:"false"`
	Version int64     `json:"version" required:"false"`
}

// Performance is one evening of an event in a venue.
type Performance struct {
	ID       uuid.UUID `json:"id" required:"false"`
	Slug     string    `json:"slug"`
	Event    uuid.UUID `json:"event_id"`
	Venue    uuid.UUID `json:"venue_id"`
	Starts   time.Time `json:"starts_at"`
	Room     string    `json:"room,omitempty"` // passes for this room buy here; empty: none is needed
	Currency string    `json:"currency"`       // ISO 4217
	Offers   []Offer   `json:"offers"`
	SaleOpen bool      `json:"sale_open" required:"false"`
	Version  int64     `json:"version" required:"false"`
}

// Offer is the price of one category of the chart. Amounts are minor units of the performance's currency; Tax is contained in
// Price + Fee.
type Offer struct {
	Category string `json:"category"` // name of a category of the chart
	Price    int64  `json:"price"`
	Fee      int64  `json:"fee"`
	Tax      int64  `json:"tax"`
}

// Total is what a fan pays for one seat.
func (o Offer) Total() int64 { return o.Price + o.Fee }

// Offer finds the price of a category.
func (p Performance) Offer(category string) (Offer, bool) {
	for _, o := range p.Offers {
		if o.Category == category {
			return o, true
		}
	}
	return Offer{}, false
}

// Errors of this package; test with errors.Is.
var (
	ErrNotFound = errors.New("catalog: no such venue, event or performance")
	ErrStale    = errors.New("catalog: it was changed meanwhile") // the version did not match
	ErrExists   = errors.New("catalog: the id or slug exists already")
)

// Invalid lists everything that is wrong with a venue, event or performance.
type Invalid struct{ Problems []Problem }

// Problem is one wrong field.
type Problem struct{ Field, Value, Want string }

// Error implements error.
func (e *Invalid) Error() string {
	p := e.Problems[0]
	s := fmt.Sprintf("%s: %q: want %s", p.Field, p.Value, p.Want)
	if n := len(e.Problems) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

var (
	slugPattern     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	currencyPattern = regexp.MustCompile(`^[A-Z]{3}$`)
	countryPattern  = regexp.MustCompile(`^[A-Z]{2}$`)
	roomPattern     = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
)

type checker struct{ problems []Problem }

func (c *checker) want(ok bool, field string, value any, want string) {
	if !ok {
		c.problems = append(c.problems, Problem{field, fmt.Sprint(value), want})
	}
}

func (c *checker) text(field, s string, most int, required bool) {
	c.want(len(s) <= most && (!required || s != ""), field, s, fmt.Sprintf("1 to %d bytes of text", most))
}

func (c *checker) err() error {
	if c.problems == nil {
		return nil
	}
	return &Invalid{c.problems}
}

// Validate checks every field and reports all problems at once as *Invalid.
func (v Venue) Validate() error {
	var c checker
	c.want(slugPattern.MatchString(v.Slug), "slug", v.Slug, "a-z, 0-9 and -, at most 64")
	c.text("name", v.Name, 200, true)
	c.text("city", v.City, 100, false)
	c.want(countryPattern.MatchString(v.Country), "country", v.Country, "two letters (ISO 3166-1)")
	_, err := time.LoadLocation(v.TimeZone)
	c.want(err == nil && v.TimeZone != "", "time_zone", v.TimeZone, "an IANA time zone such as Europe/Berlin")
	return c.err()
}

// Validate checks every field and reports all problems at once as *Invalid.
func (e Event) Validate() error {
	var c checker
	c.want(slugPattern.MatchString(e.Slug), "slug", e.Slug, "a-z, 0-9 and -, at most 64")
	c.text("title", e.Title, 200, true)
	c.text("summary", e.Summary, 4000, false)
	return c.err()
}

// MaxMinorUnits bounds a price: ten million in a currency of two digits.
const MaxMinorUnits = 1_000_000_000

// Validate checks every field and reports all problems at once as *Invalid.
func (p Performance) Validate() error {
	var c checker
	c.want(slugPattern.MatchString(p.Slug), "slug", p.Slug, "a-z, 0-9 and -, at most 64")
	c.want(p.Event != uuid.Nil, "event_id", p.Event, "an event's id")
	c.want(p.Venue != uuid.Nil, "venue_id", p.Venue, "a venue's id")
	c.want(!p.Starts.IsZero(), "starts_at", p.Starts, "a time")
	c.want(p.Room == "" || roomPattern.MatchString(p.Room), "room", p.Room, "[a-z0-9-], at most 32, or empty")
	c.want(currencyPattern.MatchString(p.Currency), "currency", p.Currency, "three letters (ISO 4217)")
	c.want(len(p.Offers) > 0 && len(p.Offers) <= chart.MaxCategories, "offers", len(p.Offers), fmt.Sprintf("1 to %d offers", chart.MaxCategories))
	seen := map[string]bool{}
	for i, o := range p.Offers {
		at := func(f string) string { return fmt.Sprintf("offers[%d].%s", i, f) }
		c.text(at("category"), o.Category, chart.MaxLabelBytes, true)
		c.want(!seen[o.Category], at("category"), o.Category, "each category once")
		seen[o.Category] = true
		money := fmt.Sprintf("0 to %d minor units", MaxMinorUnits)
		c.want(o.Price >= 0 && o.Price <= MaxMinorUnits, at("price"), o.Price, money)
		c.want(o.Fee >= 0 && o.Fee <= MaxMinorUnits, at("fee"), o.Fee, money)
		c.want(o.Tax >= 0 && o.Tax <= o.Price+o.Fee, at("tax"), o.Tax, "0 to price + fee")
	}
	return c.err()
}

// Store keeps the catalog. Put makes a row when version is 0 (ErrExists when the id or slug is taken) and otherwise replaces
// the row of that version (ErrStale); the stored version is one higher. Lookups answer ErrNotFound.
type Store interface {
	PutVenue(ctx context.Context, v Venue) error
	PutEvent(ctx context.Context, e Event) error
	PutPerformance(ctx context.Context, p Performance) error
	Venues(ctx context.Context) ([]Venue, error)
	Events(ctx context.Context) ([]Event, error)
	Performances(ctx context.Context) ([]Performance, error)
}

// Charts is the inventory as the catalog sees it.
type Charts interface {
	// Chart gives the canonical plan document, its content hash in hex and the block size.
	Chart(ctx context.Context, performance uuid.UUID) (document []byte, hash string, blockSeats int, err error)
}

// Service is the catalog. A catalog is small and read all the time, so it is held in memory and read again from the store
// when it is older than Refresh, or at once after a write of our own. Safe for concurrent use.
type Service struct {
	store   Store
	charts  Charts
	refresh time.Duration
	now     func() time.Time

	mu     sync.Mutex
	loaded *contents
	halls  map[uuid.UUID]*Hall // a chart never changes once a performance has it
}

type contents struct {
	at           time.Time
	venues       []Venue
	events       []Event
	performances []Performance
}

// New returns the catalog over a store. What another process writes is seen after refresh.
func New(store Store, charts Charts, refresh time.Duration) *Service {
	return &Service{store: store, charts: charts, refresh: refresh, now: time.Now, halls: map[uuid.UUID]*Hall{}}
}

func (s *Service) contents(ctx context.Context) (*contents, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded != nil && s.now().Sub(s.loaded.at) < s.refresh {
		return s.loaded, nil
	}
	c := &contents{at: s.now()}
	var err error
	if c.venues, err = s.store.Venues(ctx); err != nil {
		return s.lastGood(fmt.Errorf("read venues: %w", err))
	}
	if c.events, err = s.store.Events(ctx); err != nil {
		return s.lastGood(fmt.Errorf("read events: %w", err))
	}
	if c.performances, err = s.store.Performances(ctx); err != nil {
		return s.lastGood(fmt.Errorf("read performances: %w", err))
	}
	s.loaded = c
	return c, nil
}

// lastGood keeps pages alive through a short outage of the store: prices are checked again when an order is made.
func (s *Service) lastGood(err error) (*contents, error) {
	if s.loaded == nil {
		return nil, err
	}
	return s.loaded, nil
}

func (s *Service) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loaded = nil
}

// PutVenue stores a venue; see Store for versions. *Invalid names what is wrong.
func (s *Service) PutVenue(ctx context.Context, v Venue) error {
	if err := v.Validate(); err != nil {
		return err
	}
	defer s.forget()
	return s.store.PutVenue(ctx, v)
}

// PutEvent stores an event; see Store for versions. *Invalid names what is wrong.
func (s *Service) PutEvent(ctx context.Context, e Event) error {
	if err := e.Validate(); err != nil {
		return err
	}
	defer s.forget()
	return s.store.PutEvent(ctx, e)
}

// PutPerformance stores a performance; see Store for versions. *Invalid names what is wrong.
func (s *Service) PutPerformance(ctx context.Context, p Performance) error {
	if err := p.Validate(); err != nil {
		return err
	}
	defer s.forget()
	return s.store.PutPerformance(ctx, p)
}

// Venues lists all venues by name.
func (s *Service) Venues(ctx context.Context) ([]Venue, error) {
	c, err := s.contents(ctx)
	if err != nil {
		return nil, err
	}
	return c.venues, nil
}

// Events lists all events by title.
func (s *Service) Events(ctx context.Context) ([]Event, error) {
	c, err := s.contents(ctx)
	if err != nil {
		return nil, err
	}
	return c.events, nil
}

// Performances lists all performances by time.
func (s *Service) Performances(ctx context.Context) ([]Performance, error) {
	c, err := s.contents(ctx)
	if err != nil {
		return nil, err
	}
	return c.performances, nil
}

// Show is a performance with what a person reads about it.
type Show struct {
	Performance
	Title   string
	Summary string
	House   Venue
}

// Local is the start in the venue's time zone.
func (s Show) Local() time.Time {
	if loc, err := time.LoadLocation(s.House.TimeZone); err == nil {
		return s.Starts.In(loc)
	}
	return s.Starts
}

// Find looks a performance up by its id or slug.
func (s *Service) Find(ctx context.Context, idOrSlug string) (Show, error) {
	c, err := s.contents(ctx)
	if err != nil {
		return Show{}, err
	}
	for _, p := range c.performances {
		if p.Slug == idOrSlug || p.ID.String() == idOrSlug {
			return c.show(p), nil
		}
	}
	return Show{}, ErrNotFound
}

// Shows lists all performances by time, with what a person reads about them.
func (s *Service) Shows(ctx context.Context) ([]Show, error) {
	c, err := s.contents(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Show, 0, len(c.performances))
	for _, p := range c.performances {
		out = append(out, c.show(p))
	}
	return out, nil
}

func (c *contents) show(p Performance) Show {
	sh := Show{Performance: p}
	for _, e := range c.events {
		if e.ID == p.Event {
			sh.Title, sh.Summary = e.Title, e.Summary
		}
	}
	for _, v := range c.venues {
		if v.ID == p.Venue {
			sh.House = v
		}
	}
	return sh
}

// Performance implements order.Prices.
func (s *Service) Performance(ctx context.Context, id uuid.UUID) (order.Performance, error) {
	sh, err := s.Find(ctx, id.String())
	if errors.Is(err, ErrNotFound) {
		return order.Performance{}, order.ErrNoPerformance
	}
	if err != nil {
		return order.Performance{}, err
	}
	return order.Performance{ID: sh.ID, Room: sh.Room, Currency: sh.Currency, Title: sh.Title, SaleOpen: sh.SaleOpen, Starts: sh.Starts}, nil
}

// Prices implements order.Prices: one price per seat, in the order asked. Seats that are not in the chart, or whose category has no
// offer, are a *order.NoSuchSeat.
func (s *Service) Prices(ctx context.Context, id uuid.UUID, seats []order.Seat) ([]order.SeatPrice, error) {
	sh, err := s.Find(ctx, id.String())
	if errors.Is(err, ErrNotFound) {
		return nil, order.ErrNoPerformance
	}
	if err != nil {
		return nil, err
	}
	hall, err := s.Hall(ctx, id)
	if err != nil {
		return nil, err
	}
	out := make([]order.SeatPrice, 0, len(seats))
	var missing []order.Seat
	for _, seat := range seats {
		p, ok := hall.price(sh.Performance, seat)
		if !ok {
			missing = append(missing, seat)
			continue
		}
		out = append(out, p)
	}
	if missing != nil {
		return nil, &order.NoSuchSeat{Seats: missing}
	}
	return out, nil
}
