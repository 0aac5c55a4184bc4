// Package officetest opens a whole box office in one process for tests: catalog, seats, orders, the payment provider's simulator,
// the shop's pages and the JSON API, all real, on embedded stores in a folder of their own, with a clock that can be moved on.
//
// The core and the inventory are families that never import each other, so what needs both is tested here and not beside the code.
package officetest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/api"
	"github.com/stanchion-queue/stanchion/core/buyer"
	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/catalogsql"
	"github.com/stanchion-queue/stanchion/core/counter"
	"github.com/stanchion-queue/stanchion/core/guest"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/payment"
	"github.com/stanchion-queue/stanchion/core/payment/pspclient"
	"github.com/stanchion-queue/stanchion/core/payment/pspsim"
	"github.com/stanchion-queue/stanchion/core/shop"
	"github.com/stanchion-queue/stanchion/core/sqlitestore"
	"github.com/stanchion-queue/stanchion/core/sqlstore"
	"github.com/stanchion-queue/stanchion/core/ticketing"
	"github.com/stanchion-queue/stanchion/inventory"
	"github.com/stanchion-queue/stanchion/inventory/chart"
	"github.com/stanchion-queue/stanchion/inventory/sqlitestock"
	"github.com/stanchion-queue/stanchion/pass"
)

// What every office has.
const (
	StaffToken = "staff-token-of-the-tests"
	Room       = "onsale"
	Gala       = "gala"    // a performance behind the waiting room
	Matinee    = "matinee" // one without a room, cheap enough to be free
	HoldLease  = 8 * time.Minute
	HoldCap    = 20 * time.Minute
	Pin        = 10 * time.Minute
	SeatLimit  = 4

	HookSecret = "whsec_office" // signs the provider's webhooks

	issuer = "stanchion"
	pspKey = "sk_test_office"
)

// Clock runs with the real time and can be moved on.
type Clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

// Now tells the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// Advance moves the clock on.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// Office is an open box office.
type Office struct {
	T       testing.TB
	Clock   *Clock
	URL     string // of pages and API
	Handler http.Handler
	Orders  *order.Service
	Catalog *catalog.Service
	Stock   *inventory.Service
	Store   *sqlstore.Store
	Tickets *ticketing.Service
	Guests  guest.Keys
	Sim     *pspsim.Server
	SimURL  string
	Log     *Log

	passes *pass.Keys
	spec   *spec
}

// Log keeps what the office logs, for tests that look for an error, or for none.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all that was logged.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Hall is the house of the tests: two categories in three rows of ten, in blocks of ten seats, so that each row is a block; row A has
// a wheelchair space with a companion's seat, row B an aisle in its middle. Behind it a standing area.
func Hall() *chart.Chart {
	c := &chart.Chart{Name: "Small house", Width: 300, Height: 200,
		Categories: []chart.Category{{Name: "Front", Color: "#b3403a"}, {Name: "Rear", Color: "#2f6f9f"}, {Name: "Standing"}},
		Landmarks:  []chart.Landmark{{Label: "Stage", Area: chart.Area{X: 50, Y: 0, Width: 200, Height: 20}}}}
	stalls := chart.Section{ID: "stalls", Name: "Stalls"}
	for i, letter := range []string{"A", "B", "C"} {
		row := chart.Row{Label: letter}
		for k := range 10 {
			label := fmt.Sprint(k + 1)
			s := chart.Seat{ID: chart.DefaultSeatID("stalls", letter, label), Label: label, X: float64(20 + 25*k), Y: float64(50 + 25*i)}
			if i == 2 {
				s.Category = 1
			}
			if i == 0 {
				s.Accessible, s.Companion = k == 0, k == 1
			}
			s.Gap = i == 1 && k == 5
			row.Seats = append(row.Seats, s)
		}
		stalls.Rows = append(stalls.Rows, row)
	}
	floor := chart.Area{X: 20, Y: 150, Width: 260, Height: 40}
	arena := chart.Section{ID: "arena", Name: "Arena", Rows: []chart.Row{{Label: "Standing", General: &floor, Seats: chart.GeneralUnits("arena", "Standing", floor, 2, 30)}}}
	c.Sections = []chart.Section{stalls, arena}
	return c
}

// ID is a performance's id, the same in every office.
func ID(slug string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceURL, []byte("office/"+slug)) }

// Options changes how an Office is opened.
type Options struct {
	Title  string // of the event; default "Gala at the theatre"
	Faults pspsim.Faults
	Hall   *chart.Chart // default Hall()
	Block  int          // seats of a block; default 10

	usual bool // as most tests have it
}

func (o Options) withDefaults() Options {
	o.usual = o.Title == "" && o.Hall == nil && o.Block == 0
	if o.Title == "" {
		o.Title = "Gala at the theatre"
	}
	if o.Hall == nil {
		o.Hall = Hall()
	}
	if o.Block == 0 {
		o.Block = chart.MinBlockSeats
	}
	return o
}

// Open opens an office and closes it with the test.
func Open(t testing.TB, o Options) *Office {
	t.Helper()
	o = o.withDefaults()
	f := &Office{T: t, Clock: &Clock{}, Log: &Log{}}
	log := slog.New(slog.NewTextHandler(f.Log, nil))
	ctx := t.Context()
	dir := quickDir(t)
	if o.usual {
		copyTemplate(t, dir)
	}

	stock, err := sqlitestock.Open(ctx, filepath.Join(dir, "seats.db"), f.Clock.Now)
	must(t, err)
	t.Cleanup(func() { check(t, "close the seat store", stock.Close()) })
	f.Stock, err = inventory.New(ctx, inventory.Options{Store: stock, Now: f.Clock.Now, Logger: log})
	must(t, err)
	t.Cleanup(f.Stock.Close)

	db, err := sqlitestore.Open(ctx, filepath.Join(dir, "orders.db"), f.Clock.Now)
	must(t, err)
	t.Cleanup(func() { check(t, "close the order store", db.Close()) })
	f.Store = sqlstore.NewStore(db)
	tables := catalogsql.New(db)
	f.Catalog = catalog.New(tables, f.Stock, time.Millisecond)

	// The two servers know each other's address before either serves.
	public := listen(t)
	f.URL = "http://" + public.Addr().String()
	f.openProvider(ctx, dir, o.Faults)
	provider, err := pspclient.New(pspclient.Options{URL: f.SimURL, SecretKey: pspKey, WebhookSecrets: []string{HookSecret}, Now: f.Clock.Now})
	must(t, err)

	f.Orders, err = order.New(order.Options{Store: f.Store, Seats: seats{f.Stock}, Prices: f.Catalog, Providers: []payment.Provider{provider},
		Timing: order.Timing{HoldLease: HoldLease, HoldCap: HoldCap, Pin: Pin}, SeatLimit: SeatLimit, Now: f.Clock.Now, Log: log})
	must(t, err)

	secret := bytes.Repeat([]byte{7}, 32)
	f.Guests, err = guest.NewKeys(secret)
	must(t, err)
	f.passes, err = pass.NewKeys(pass.Key{Private: ed25519.NewKeyFromSeed(secret)})
	must(t, err)
	desk := &buyer.Desk{Guests: f.Guests, Passes: f.passes.Verifier().Issuer(issuer), Now: f.Clock.Now}
	f.Tickets = &ticketing.Service{Store: tables, Codes: ticketing.NewCodes(1, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32)), nil), Now: f.Clock.Now}
	box := &counter.Counter{Orders: f.Orders, Catalog: f.Catalog, Seats: f.Stock}
	keys := &order.Idempotency{Store: f.Store, Now: f.Clock.Now, Lock: 30 * time.Second}
	pages, err := shop.New(shop.Options{Name: "Stanchion Tickets", Orders: f.Orders, Catalog: f.Catalog, Counter: box, Seats: f.Stock, Tickets: f.Tickets,
		Buyers: desk, Idempotency: keys, ProviderOrigin: f.SimURL, Prefix: "/.stanchion", Log: log, Now: f.Clock.Now})
	must(t, err)
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.Handle("/api/", api.New(api.Options{Orders: f.Orders, Catalog: f.Catalog, Counter: box, Seats: f.Stock, Tickets: f.Tickets, Buyers: desk,
		Idempotency: keys, StaffToken: StaffToken, Version: "test", Log: log, Now: f.Clock.Now}))
	f.Handler = mux
	server := &httptest.Server{Listener: public, Config: &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError)}}
	server.Start()
	t.Cleanup(server.Close)

	if !o.usual {
		must(t, put(ctx, f.Catalog, f.Stock, f.Clock.Now(), o))
	}
	f.spec = readSpec(t, f.URL)
	return f
}

// template is the folder of a usual office that was opened and closed once: to copy its files is quicker than to make them anew.
var template = sync.OnceValues(func() (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "office-template-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder; what is left of it does no harm
	ctx := context.Background()
	stock, err := sqlitestock.Open(ctx, filepath.Join(dir, "seats.db"), nil)
	if err != nil {
		return nil, err
	}
	desk, err := inventory.New(ctx, inventory.Options{Store: stock})
	if err != nil {
		return nil, errors.Join(err, stock.Close())
	}
	db, err := sqlitestore.Open(ctx, filepath.Join(dir, "orders.db"), nil)
	if err != nil {
		desk.Close()
		return nil, errors.Join(err, stock.Close())
	}
	err = put(ctx, catalog.New(catalogsql.New(db), desk, time.Millisecond), desk, time.Now(), Options{}.withDefaults())
	desk.Close()
	if err = errors.Join(err, db.Close(), stock.Close()); err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, name := range []string{"seats.db", "orders.db"} {
		if files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	return files, nil
})

func copyTemplate(t testing.TB, dir string) {
	t.Helper()
	files, err := template()
	must(t, err)
	for name, b := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
}

func (f *Office) openProvider(ctx context.Context, dir string, faults pspsim.Faults) {
	ln := listen(f.T)
	f.SimURL = "http://" + ln.Addr().String()
	var err error
	f.Sim, err = pspsim.New(ctx, pspsim.Options{Path: filepath.Join(dir, "psp.db"), PublicURL: f.SimURL, SecretKey: pspKey, WebhookURL: f.URL + "/api/v1/webhooks/simulator",
		WebhookSecret: HookSecret, Now: f.Clock.Now, Faults: faults, Retry: 20 * time.Millisecond})
	must(f.T, err)
	f.T.Cleanup(func() { check(f.T, "close the simulator", f.Sim.Close()) })
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.Sim.Run(run) }) // its only error is that it was stopped
	f.T.Cleanup(func() { stop(); wg.Wait() })
	server := &httptest.Server{Listener: ln, Config: &http.Server{Handler: f.Sim.Handler()}}
	server.Start()
	f.T.Cleanup(server.Close)
}

// put brings two performances in and opens their sale.
func put(ctx context.Context, c *catalog.Service, desk *inventory.Service, now time.Time, o Options) error {
	venue := catalog.Venue{ID: ID("venue"), Slug: "theatre", Name: "Stadttheater", City: "Köln", Country: "DE", TimeZone: "Europe/Berlin"}
	event := catalog.Event{ID: ID("event"), Slug: "gala", Title: o.Title, Summary: "One evening, one orchestra."}
	plan, err := o.Hall.Encode()
	if err = errors.Join(err, c.PutVenue(ctx, venue), c.PutEvent(ctx, event)); err != nil {
		return err
	}
	for i, slug := range []string{Gala, Matinee} {
		p := catalog.Performance{ID: ID(slug), Slug: slug, Event: event.ID, Venue: venue.ID, Currency: "EUR", SaleOpen: true,
			Starts: now.Add(time.Duration(30+i) * 24 * time.Hour).Truncate(time.Hour)}
		for k, category := range o.Hall.Categories {
			price := int64(8500 - 2000*k)
			p.Offers = append(p.Offers, catalog.Offer{Category: category.Name, Price: price, Fee: 425, Tax: 500})
		}
		if slug == Gala {
			p.Room = Room
		} else {
			p.Offers[0] = catalog.Offer{Category: o.Hall.Categories[0].Name} // given away
		}
		if err := desk.ImportPerformance(ctx, p.ID, plan, o.Block, nil); err != nil {
			return err
		}
		if err := errors.Join(desk.AwaitImport(ctx, p.ID), desk.OpenSale(ctx, p.ID), c.PutPerformance(ctx, p)); err != nil {
			return err
		}
	}
	return nil
}

// Change changes a performance.
func (f *Office) Change(slug string, change func(*catalog.Performance)) {
	f.T.Helper()
	show, err := f.Catalog.Find(f.T.Context(), slug)
	must(f.T, err)
	change(&show.Performance)
	must(f.T, f.Catalog.PutPerformance(f.T.Context(), show.Performance))
}

// Place finds a seat of the hall.
func (f *Office) Place(slug, seat string) chart.Place {
	f.T.Helper()
	hall, err := f.Catalog.Hall(f.T.Context(), ID(slug))
	must(f.T, err)
	place, ok := hall.Layout.Find(seat)
	if !ok {
		f.T.Fatalf("there is no seat %s", seat)
	}
	return place
}

// Settle drives every order whose time comes within horizon, moving the clock on to it.
func (f *Office) Settle(horizon time.Duration) {
	f.T.Helper()
	ctx := f.T.Context()
	end := f.Clock.Now().Add(horizon)
	for range 1000 {
		at, err := f.Store.NextDue(ctx)
		must(f.T, err)
		if at.IsZero() || at.After(end) {
			return
		}
		if d := at.Sub(f.Clock.Now()); d > 0 {
			f.Clock.Advance(d)
		}
		due, err := f.Store.Due(ctx, f.Clock.Now(), 10*time.Second, 100)
		must(f.T, err)
		for _, id := range due {
			_, err := f.Orders.Drive(ctx, id)
			must(f.T, err)
		}
	}
	f.T.Fatal("orders never come to rest")
}

// Pass signs a pass of a room.
func (f *Office) Pass(session, room string, seats int) string {
	f.T.Helper()
	now := f.Clock.Now()
	token, err := f.passes.Sign(pass.Claims{Issuer: issuer, Room: room, Session: session, IssuedAt: now.Add(-time.Second), ExpiresAt: now.Add(time.Hour), StayUntil: now.Add(2 * time.Hour), SeatLimit: seats})
	must(f.T, err)
	return token
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	return ln
}

// quickDir is a folder in memory where there is one: the stores wait for the disk at every commit.
func quickDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "office-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { check(t, "remove the folder", os.RemoveAll(dir)) })
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func check(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("%s: %v", what, err)
	}
}
