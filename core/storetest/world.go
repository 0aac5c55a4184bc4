package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/payment"
	"github.com/stanchion-queue/stanchion/core/payment/pspclient"
	"github.com/stanchion-queue/stanchion/core/payment/pspsim"
	"github.com/stanchion-queue/stanchion/core/sqlstore"
)

// Clock is a clock that moves only when told, or a real one.
type Clock struct {
	mu   sync.Mutex
	t    time.Time
	real bool
}

// Now tells the time.
func (c *Clock) Now() time.Time {
	if c.real {
		return time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

// Advance moves the clock forward.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// to moves the clock forward to t.
func (c *Clock) to(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.t) {
		c.t = t
	}
}

// killed is what a crash point panics with.
type killed struct{ point string }

// World is one shop: the order service on a store, the payment simulator over
// real HTTP, a model of the inventory, a clock. Kill ends the service's
// process at a named point; Revive starts a new one on what is stored.
type World struct {
	T     *testing.T
	Clock *Clock
	House *House
	Box   *Box
	Foyer *Foyer
	Sim   *pspsim.Server
	Store *sqlstore.Store
	Shop  *order.Service
	Perf  uuid.UUID
	Room  string

	open   func(func() time.Time) *sqlstore.Store
	psp    *httptest.Server
	client *pspclient.Client
	hooks  *httptest.Server
	hooked chan error // one for each webhook that arrived
	mu     sync.Mutex
	killAt string
	seen   []string
	cut    bool
	timing order.Timing
}

const (
	pspKey     = "sk_test_1"
	hookSecret = "whsec_test_1"
	shopURL    = "http://shop.test/orders/back"
)

// WorldOptions changes how a World is made.
type WorldOptions struct {
	Hooks  bool // let the simulator send webhooks
	Faults pspsim.Faults
	Seed   uint64
	Timing order.Timing
	Real   bool // time passes by itself
}

// NewWorld makes a World on a database of its own.
func NewWorld(t *testing.T, open Open, o WorldOptions) *World {
	t.Helper()
	w := &World{T: t, Clock: &Clock{t: time.Now().UTC().Truncate(time.Millisecond), real: o.Real}, Perf: uuid.New(), Room: "onsale", hooked: make(chan error, 1000), Foyer: &Foyer{}}
	w.House = NewHouse(w.Clock.Now, o.Seed)
	w.Box = NewBox(order.Performance{ID: w.Perf, Room: w.Room, Currency: "EUR", Title: "Gala", SaleOpen: true}, 4000, 500)
	w.open = open(t)

	var err error
	w.hooks = httptest.NewServer(http.HandlerFunc(w.takeHook))
	t.Cleanup(w.hooks.Close)
	w.psp = httptest.NewUnstartedServer(nil)
	so := pspsim.Options{Path: filepath.Join(Dir(t), "psp.db"), PublicURL: "http://" + w.psp.Listener.Addr().String(), SecretKey: pspKey, Seed: o.Seed, Faults: o.Faults, Now: w.Clock.Now, Retry: 20 * time.Millisecond}
	if o.Hooks {
		so.WebhookURL, so.WebhookSecret = w.hooks.URL, hookSecret
	}
	if w.Sim, err = pspsim.New(t.Context(), so); err != nil {
		t.Fatal(err)
	}
	w.psp.Config.Handler = w.Sim.Handler()
	w.psp.Config.ErrorLog = nil
	w.psp.Start()
	t.Cleanup(func() {
		if err := w.Sim.Close(); err != nil {
			t.Errorf("close the simulator: %v", err)
		}
	})
	t.Cleanup(w.psp.Close)
	if o.Hooks {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { _ = w.Sim.Run(ctx) })
		t.Cleanup(func() { cancel(); wg.Wait() })
	}
	w.client, err = pspclient.New(pspclient.Options{URL: w.psp.URL, SecretKey: pspKey, WebhookSecrets: []string{"whsec_old", hookSecret},
		HTTP: &http.Client{Timeout: 10 * time.Second, Transport: cable{w}}, Now: w.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	w.timing = o.Timing
	w.revive()
	t.Cleanup(func() {
		if err := w.Store.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return w
}

// cable is the way from the shop to the provider; it can be cut.
type cable struct{ w *World }

func (c cable) RoundTrip(r *http.Request) (*http.Response, error) {
	c.w.mu.Lock()
	cut := c.w.cut
	c.w.mu.Unlock()
	if cut {
		return nil, errors.New("the cable is cut")
	}
	return wire.RoundTrip(r)
}

// wire makes a connection for each call: on one that was used before, net/http
// would repeat a call with an idempotency key by itself, and hide most faults.
var wire = &http.Transport{DisableKeepAlives: true}

// Cut cuts the cable between the shop and the provider, or mends it.
func (w *World) Cut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
}

// revive starts a process on what is stored.
func (w *World) revive() {
	w.T.Helper()
	store := w.open(w.Clock.Now)
	shop := w.process(store, w.at)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Store, w.Shop = store, shop
}

// process makes a service on a store.
func (w *World) process(store *sqlstore.Store, at func(string)) *order.Service {
	w.T.Helper()
	shop, err := order.New(order.Options{Store: store, Seats: w.House, Prices: w.Box, Rooms: w.Foyer, Providers: []payment.Provider{w.client},
		Timing: w.timing, SeatLimit: 8, Now: w.Clock.Now, At: at})
	if err != nil {
		w.T.Fatal(err)
	}
	return shop
}

func (w *World) at(point string) {
	w.mu.Lock()
	w.seen = append(w.seen, point)
	die := w.killAt == point
	if die {
		w.killAt = ""
	}
	w.mu.Unlock()
	if die {
		panic(killed{point})
	}
}

// KillAt makes the process die when it next comes to the point.
func (w *World) KillAt(point string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.killAt = point
}

// Seen returns the points the process came through.
func (w *World) Seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.seen...)
}

// Do runs f as a request to the shop and says whether the process died in it.
// If so, a new process has been started.
func (w *World) Do(f func(ctx context.Context) error) (err error, died bool) {
	w.T.Helper()
	defer func() {
		switch k := recover().(type) {
		case nil:
		case killed:
			err, died = fmt.Errorf("died at %s", k.point), true
			if cerr := w.Store.Close(); cerr != nil {
				w.T.Errorf("close what died: %v", cerr)
			}
			w.revive()
		default:
			panic(k)
		}
	}()
	return f(w.T.Context()), false
}

// Try is Do, again if the process died: a client repeats what got no answer.
func (w *World) Try(f func(ctx context.Context) error) error {
	w.T.Helper()
	err, died := w.Do(f)
	if died {
		err, died = w.Do(f)
	}
	if died {
		w.T.Fatal("the process died twice")
	}
	return err
}

func (w *World) takeHook(rw http.ResponseWriter, r *http.Request) {
	body := make([]byte, 1<<20)
	n, _ := r.Body.Read(body) // small, in one piece
	for n < len(body) {
		m, err := r.Body.Read(body[n:])
		n += m
		if err != nil {
			break
		}
	}
	err := func() (err error) {
		defer func() {
			if k, ok := recover().(killed); ok {
				err = fmt.Errorf("died at %s", k.point)
			}
		}()
		w.mu.Lock()
		shop := w.Shop
		w.mu.Unlock()
		return shop.Webhook(r.Context(), w.client.Name(), r.Header, body[:n])
	}()
	if err != nil {
		rw.WriteHeader(http.StatusServiceUnavailable)
	}
	select {
	case w.hooked <- err:
	default:
	}
}

// AwaitHook waits for a webhook that was stored.
func (w *World) AwaitHook() {
	w.T.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case err := <-w.hooked:
			if err == nil {
				return
			}
			w.Clock.Advance(time.Second) // the simulator sends it again
		case <-deadline:
			w.T.Fatal("no webhook came in 10 s")
		}
	}
}

// Pass is a pass of the room for a session.
func (w *World) Pass(id string) *order.Pass {
	return &order.Pass{ID: id, Room: w.Room, SeatLimit: 8, StayUntil: w.Clock.Now().Add(time.Hour)}
}

// PayOnPage is the fan on the provider's page: it types the card and presses
// the button, and confirms what the bank asks. It returns where the fan is
// sent.
func (w *World) PayOnPage(page, card string) (to string, err error) {
	form := url.Values{"do": {"pay"}, "card": {card}, "expiry": {"12/60"}, "cvc": {"123"}}
	return w.Press(page, form)
}

// Press sends a form to the provider's page and returns where it leads.
func (w *World) Press(page string, form url.Values) (to string, err error) {
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 10 * time.Second}
	res, err := c.PostForm(page, form)
	if err != nil {
		return "", err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusSeeOther {
		return "", fmt.Errorf("the page answered %d", res.StatusCode)
	}
	return res.Header.Get("Location"), nil
}

// Settle lets time pass until no order waits for anything, at most horizon.
// The process may die meanwhile; a new one goes on.
func (w *World) Settle(horizon time.Duration) {
	w.T.Helper()
	end := w.Clock.Now().Add(horizon)
	for range 2000 {
		at, err := w.Store.NextDue(w.T.Context())
		if err != nil {
			w.T.Fatal(err)
		}
		if at.IsZero() || at.After(end) {
			return
		}
		w.Clock.to(at)
		_, _ = w.Do(func(ctx context.Context) error { // what cannot go on now is due again later
			ids, err := w.Store.Due(ctx, w.Clock.Now(), 10*time.Second, 100)
			for _, id := range ids {
				_, derr := w.Shop.Drive(ctx, id)
				err = errors.Join(err, derr)
			}
			return err
		})
	}
	w.T.Fatal("orders never come to rest")
}

// Check looks for what must never be, when everything is at rest: an order
// that is not over, money without a decision, a seat without a claim, a claim
// or a ticket without its seat, a second capture.
func (w *World) Check() {
	w.T.Helper()
	ctx := w.T.Context()
	q := w.Store.Read()
	rows, err := q.QueryContext(ctx, `SELECT id FROM orders`)
	if err != nil {
		w.T.Fatal(err)
	}
	var ids []uuid.UUID
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			w.T.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		w.T.Fatal(err)
	}
	_ = rows.Close()

	entitled := map[order.Seat]uuid.UUID{}
	for _, id := range ids {
		o, err := w.Store.Order(ctx, id)
		if err != nil {
			w.T.Fatal(err)
		}
		w.checkOrder(&o, entitled)
	}
	sold := w.House.Sold()
	for s, id := range sold {
		if entitled[s] != id {
			w.T.Errorf("seat %v is sold to %s, which has no right to it", s, id)
		}
	}
	for s, id := range entitled {
		if sold[s] != id {
			w.T.Errorf("order %s has paid for seat %v, which is not sold to it", id, s)
		}
	}
	claims, err := q.QueryContext(ctx, `SELECT block, seat, order_id, sold FROM seat_claim`)
	if err != nil {
		w.T.Fatal(err)
	}
	n := 0
	for claims.Next() {
		var s order.Seat
		var id uuid.UUID
		var done bool
		if err := claims.Scan(&s.Block, &s.Seat, &id, &done); err != nil {
			w.T.Fatal(err)
		}
		n++
		if entitled[s] != id || !done {
			w.T.Errorf("seat %v: a claim of %s (sold: %v) without a right", s, id, done)
		}
	}
	if err := claims.Err(); err != nil {
		w.T.Fatal(err)
	}
	_ = claims.Close()
	if n != len(entitled) {
		w.T.Errorf("%d claims for %d paid seats", n, len(entitled))
	}
}

func (w *World) checkOrder(o *order.Order, entitled map[order.Seat]uuid.UUID) {
	w.T.Helper()
	ctx := w.T.Context()
	if !o.State.Over() {
		w.T.Errorf("order %s came to rest in %s", o.ID, o.State)
	}
	var owed, kept int64
	live := 0
	for _, u := range o.Units {
		if o.State.HasTickets() && u.State == order.UnitLive {
			entitled[u.Seat] = o.ID
			owed += u.Total()
			live++
		}
	}
	captures := 0
	for _, p := range o.Payments {
		snap, err := w.client.Find(ctx, p.ID)
		if errors.Is(err, payment.ErrNoObject) {
			continue
		}
		if err != nil {
			w.T.Errorf("look at payment %s: %v", p.ID, err)
			continue
		}
		if snap.Status == payment.StatusAuthorised || snap.Status == payment.StatusAsked || snap.Status == payment.StatusProcessing {
			w.T.Errorf("order %s is %s, but its payment at the provider is still %s", o.ID, o.State, snap.Status)
		}
		if snap.Captured > 0 {
			captures++
		}
		if snap.Captured != p.Captured || snap.Refunded != p.Refunded || p.Refunding != 0 {
			w.T.Errorf("payment %s: the provider took %d and gave back %d, we know of %d and %d (%d on the way)", p.ID, snap.Captured, snap.Refunded, p.Captured, p.Refunded, p.Refunding)
		}
		kept += snap.Captured - snap.Refunded
	}
	if captures > 1 {
		w.T.Errorf("order %s was captured %d times", o.ID, captures)
	}
	if kept != owed {
		w.T.Errorf("order %s is %s (%s): %d was kept, %d is owed", o.ID, o.State, o.Cause, kept, owed)
	}
	var tickets int
	err := w.Store.Read().QueryRowContext(ctx, `SELECT count(*) FROM ticket t WHERE order_id = $1
		AND NOT EXISTS (SELECT 1 FROM ticket_revoked r WHERE r.ticket_id = t.id AND r.version >= t.version)`, o.ID).Scan(&tickets)
	if err != nil {
		w.T.Fatal(err)
	}
	if tickets != live {
		w.T.Errorf("order %s is %s with %d tickets for %d seats", o.ID, o.State, tickets, live)
	}
	hist, err := w.Store.History(ctx, o.ID)
	if err != nil {
		w.T.Fatal(err)
	}
	state := order.None
	for _, h := range hist {
		if h.From != state {
			w.T.Errorf("order %s: the history jumps from %q to %q", o.ID, state, h.From)
		}
		state = h.To
	}
	if state != o.State {
		w.T.Errorf("order %s is %s, its history ends in %q", o.ID, o.State, state)
	}
	if paid := strings.Count(fmt.Sprint(hist), string(order.MoneySafe)); paid > 1 {
		w.T.Errorf("order %s became PAID %d times", o.ID, paid)
	}
}
