package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory"
	"github.com/stanchion-queue/stanchion/inventory/api"
	"github.com/stanchion-queue/stanchion/inventory/chart"
	"github.com/stanchion-queue/stanchion/inventory/sqlitestock"
)

func service(t *testing.T) *inventory.Service {
	t.Helper()
	store, err := sqlitestock.Open(t.Context(), filepath.Join(t.TempDir(), "seats.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := inventory.New(t.Context(), inventory.Options{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func serve(t *testing.T, desk inventory.Desk) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(api.Handler(desk, slog.New(slog.DiscardHandler)))
	t.Cleanup(srv.Close)
	return srv
}

func client(t *testing.T, nodes ...string) *api.Client {
	t.Helper()
	c, err := api.NewClient(nodes, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The desk in the process and the desk behind HTTP are the same desk.
func TestDesk(t *testing.T) {
	t.Run("in process", func(t *testing.T) { testDesk(t, service(t)) })
	t.Run("over HTTP", func(t *testing.T) { testDesk(t, client(t, serve(t, service(t)).URL)) })
}

func theatre(t *testing.T) (*chart.Chart, []byte) {
	t.Helper()
	document, err := os.ReadFile("../testdata/theatre.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := chart.Decode(document)
	if err != nil {
		t.Fatal(err)
	}
	return c, document
}

func testDesk(t *testing.T, d inventory.Desk) {
	ctx := t.Context()
	ok := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	is := func(what string, err, want error, seats ...int16) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("%s: %v, want %v", what, err, want)
		}
		var e *inventory.Error
		if errors.As(err, &e) && len(seats) > 0 && !slices.Equal(e.Seats(), seats) {
			t.Fatalf("%s: names the seats %v, want %v", what, e.Seats(), seats)
		}
	}
	plan, document := theatre(t)
	p := uuid.New()
	_, err := d.SaleState(ctx, p)
	is("state of an unknown performance", err, inventory.ErrNoSuchPerformance)
	is("import of nonsense", d.ImportPerformance(ctx, p, []byte("{]"), 0, nil), inventory.ErrBadRequest)
	is("import with a channel of no category", d.ImportPerformance(ctx, p, document, 0, map[string]int16{"Attic": 1}), inventory.ErrBadRequest)
	ok("import", d.ImportPerformance(ctx, p, document, 0, map[string]int16{"Premium": 5}))
	ok("import again", d.ImportPerformance(ctx, p, document, 0, map[string]int16{"Premium": 5}))
	is("import of another block size", d.ImportPerformance(ctx, p, document, 100, map[string]int16{"Premium": 5}), inventory.ErrConflict)
	ok("await", d.AwaitImport(ctx, p))
	done, total, err := d.ImportProgress(ctx, p)
	if err != nil || done != total || total != 4 {
		t.Fatalf("progress %d of %d, %v", done, total, err)
	}
	all, err := d.Performances(ctx)
	if err != nil || !slices.Equal(all, []uuid.UUID{p}) {
		t.Fatalf("performances %v, %v", all, err)
	}
	stored, hash, size, err := d.Chart(ctx, p)
	if err != nil || string(stored) != string(document) || hash != chart.Hash(document) || size != chart.DefaultBlockSeats {
		t.Fatalf("chart: %d bytes, %s, %d, %v", len(stored), hash, size, err)
	}
	layout, err := plan.Layout(size)
	ok("layout", err)
	a, err := d.Availability(ctx, p, 0)
	if err != nil || a.State != "closed" || a.Chart != hash || len(a.Blocks) != 4 || a.Blocks[2].Free.Has(0) {
		t.Fatalf("availability before the sale: %+v, %v", a, err)
	}
	hold, order := uuid.New(), uuid.New()
	last := int16(len(layout.Blocks) - 1) // in the circle, open to the public
	_, err = d.Hold(ctx, p, last, []int16{0, 1}, hold, time.Minute, nil)
	is("hold before the sale", err, inventory.ErrSaleNotOpen)
	ok("open", d.OpenSale(ctx, p))
	if state, err := d.SaleState(ctx, p); err != nil || state != "open" {
		t.Fatalf("state %q, %v", state, err)
	}

	before := time.Now()
	expires, err := d.Hold(ctx, p, last, []int16{10, 11}, hold, time.Minute, nil)
	ok("hold", err)
	if expires.Before(before.Add(59*time.Second)) || expires.After(time.Now().Add(time.Minute)) {
		t.Fatalf("a hold of a minute expires at %v, now is %v", expires, before)
	}
	_, err = d.Hold(ctx, p, last, []int16{10, 11}, hold, time.Minute, nil)
	ok("the same hold again", err)
	_, err = d.Hold(ctx, p, last, []int16{11, 12}, uuid.New(), time.Minute, nil)
	is("an overlapping hold", err, inventory.ErrSeatsTaken, 11)
	_, err = d.Hold(ctx, p, last, []int16{10, 11, 12}, hold, time.Minute, nil)
	is("the same hold with another seat", err, inventory.ErrConflict)
	_, err = d.Hold(ctx, p, 0, []int16{0}, uuid.New(), time.Minute, nil)
	is("a hold in a channel that is not public", err, inventory.ErrSeatsTaken, 0)
	_, err = d.Hold(ctx, p, 0, []int16{0}, uuid.New(), time.Minute, []int16{5})
	ok("a hold in its channel", err)
	_, err = d.Hold(ctx, p, last, []int16{5000, 1}, uuid.New(), time.Minute, nil)
	is("a hold of no seat", err, inventory.ErrNoSuchSeat, 5000)
	_, err = d.Hold(ctx, p, 99, []int16{1}, uuid.New(), time.Minute, nil)
	is("a hold in no block", err, inventory.ErrNoSuchSeat)
	_, err = d.Hold(ctx, p, last, []int16{20, 20}, uuid.New(), time.Minute, nil)
	is("a hold of a seat twice", err, inventory.ErrBadRequest)
	_, err = d.Hold(ctx, p, last, nil, uuid.New(), time.Minute, nil)
	is("a hold of nothing", err, inventory.ErrBadRequest)
	_, err = d.Hold(ctx, p, last, []int16{20}, uuid.Nil, time.Minute, nil)
	is("a hold without an id", err, inventory.ErrBadRequest)
	for _, lease := range []time.Duration{-time.Minute, 0, time.Second, time.Hour} {
		_, err = d.Hold(ctx, p, last, []int16{20}, uuid.New(), lease, nil)
		is("a hold for "+lease.String(), err, inventory.ErrLeaseRefused)
	}

	seats, left, err := d.LookHold(ctx, p, last, hold)
	if err != nil || !slices.Equal(seats, []int16{10, 11}) || left < time.Minute || left > 91*time.Second {
		t.Fatalf("look at the hold: %v, %v, %v", seats, left, err)
	}
	if seats, _, err := d.LookHold(ctx, p, last, uuid.New()); err != nil || len(seats) != 0 {
		t.Fatalf("look at no hold: %v, %v", seats, err)
	}
	_, err = d.Extend(ctx, p, last, []int16{10, 11}, hold, 2*time.Minute)
	ok("extend", err)
	_, err = d.Pin(ctx, p, last, []int16{10, 11}, hold, 10*time.Minute)
	ok("pin", err)
	_, err = d.Pin(ctx, p, last, []int16{10}, uuid.New(), 10*time.Minute)
	is("pin of another's seat", err, inventory.ErrHoldExpired, 10)
	is("sale by another hold", d.Sell(ctx, p, last, []int16{10, 11}, uuid.New(), order), inventory.ErrHoldExpired, 10, 11)
	ok("sell", d.Sell(ctx, p, last, []int16{10, 11}, hold, order))
	ok("sell again", d.Sell(ctx, p, last, []int16{10, 11}, hold, order))
	is("sell to another order", d.Sell(ctx, p, last, []int16{10, 11}, hold, uuid.New()), inventory.ErrSeatsTaken, 10, 11)
	is("release what is sold", d.Release(ctx, p, last, []int16{10, 11}, hold), inventory.ErrConflict, 10, 11)
	if seats, err := d.LookOrder(ctx, p, last, order); err != nil || !slices.Equal(seats, []int16{10, 11}) {
		t.Fatalf("look at the order: %v, %v", seats, err)
	}
	sold, orders, err := d.Sold(ctx, p, last)
	if err != nil || !slices.Equal(sold, []int16{10, 11}) || !slices.Equal(orders, []uuid.UUID{order, order}) {
		t.Fatalf("sold: %v to %v, %v", sold, orders, err)
	}
	is("rescue of sold seats", d.Rescue(ctx, p, last, []int16{10}, uuid.New()), inventory.ErrSeatsTaken, 10)
	ok("unsell", d.Unsell(ctx, p, last, []int16{10, 11}, order))
	ok("unsell again", d.Unsell(ctx, p, last, []int16{10, 11}, order))
	_, err = d.Hold(ctx, p, last, []int16{10}, uuid.New(), time.Minute, nil)
	is("hold of a cooling seat", err, inventory.ErrSeatsTaken, 10)
	ok("release the rest of the lease", d.Release(ctx, p, last, []int16{10, 11}, hold))
	ok("release again", d.Release(ctx, p, last, []int16{10, 11}, hold))
	ok("open seats", d.OpenSeats(ctx, p, last, []int16{10, 11}, chart.KillCooling))
	ok("open seats again", d.OpenSeats(ctx, p, last, []int16{10, 11}, chart.KillCooling))
	ok("rescue", d.Rescue(ctx, p, last, []int16{10, 11}, order))
	ok("rescue again", d.Rescue(ctx, p, last, []int16{10, 11}, order))
	ok("kill", d.Kill(ctx, p, last, []int16{12}, chart.KillHouse))
	is("kill of a sold seat", d.Kill(ctx, p, last, []int16{10}, chart.KillHouse), inventory.ErrSeatsTaken, 10)
	is("kill for no reason", d.Kill(ctx, p, last, []int16{13}, 0), inventory.ErrBadRequest)

	best := uuid.New()
	suggestedBlock, suggested, err := d.SuggestBest(ctx, p, 4, "Stalls", false, nil)
	ok("suggest", err)
	_, other, err := d.SuggestBest(ctx, p, 4, "Stalls", false, nil)
	if err != nil || slices.ContainsFunc(other, func(n int16) bool { return slices.Contains(suggested, n) }) {
		t.Fatalf("two suggestions at once: %v and %v, %v", suggested, other, err)
	}
	block, seats, _, err := d.HoldBest(ctx, p, 4, "Stalls", false, best, time.Minute, nil)
	if err != nil || block != suggestedBlock || !slices.Equal(seats, suggested) {
		t.Fatalf("best: block %d %v, %v; suggested were block %d %v", block, seats, err, suggestedBlock, suggested)
	}
	_, row, first, _ := layout.At(chart.Place{Block: block, Seat: seats[0]})
	if plan.Categories[first.Category].Name != "Stalls" || row.Label != "G" {
		t.Fatalf("best seat is %+v in row %s", first, row.Label)
	}
	_, _, _, err = d.HoldBest(ctx, p, 40, "Circle", false, uuid.New(), time.Minute, nil)
	is("best of more seats than a row has", err, inventory.ErrNoSeatsLeft)
	_, _, _, err = d.HoldBest(ctx, p, 2, "Attic", false, uuid.New(), time.Minute, nil)
	is("best of no category", err, inventory.ErrBadRequest)
	block, seats, _, err = d.HoldBest(ctx, p, 2, "", true, uuid.New(), time.Minute, nil)
	ok("best accessible", err)
	if _, _, s, _ := layout.At(chart.Place{Block: block, Seat: seats[0]}); !s.Accessible {
		t.Fatalf("the best accessible place is %+v", s)
	}

	ok("freeze", d.FreezeBlock(ctx, p, last))
	_, err = d.Hold(ctx, p, last, []int16{30}, uuid.New(), time.Minute, nil)
	is("hold in a frozen block", err, inventory.ErrBlockFrozen)
	ok("pause", d.PauseSale(ctx, p))
	is("sale in a frozen block", d.Rescue(ctx, p, last, []int16{30}, order), inventory.ErrBlockFrozen)
	ok("unfreeze", d.UnfreezeBlock(ctx, p, last))
	_, err = d.Hold(ctx, p, last, []int16{30}, uuid.New(), time.Minute, nil)
	is("hold while paused", err, inventory.ErrSaleNotOpen)
	ok("sale while paused", d.Sell(ctx, p, suggestedBlock, suggested, best, order))
	ok("drain", d.DrainSale(ctx, p))
	ok("close", d.CloseSale(ctx, p))
	is("sale while closed", d.Rescue(ctx, p, last, []int16{31}, order), inventory.ErrSaleNotOpen)
	ok("open again", d.OpenSale(ctx, p))

	eventually(t, func() bool { // availability may be a second old
		sellable, held, sold, err := d.Counts(ctx, p)
		ok("counts", err)
		return sold == 6 && held == 3 && sellable > 0 && sellable+held+sold < plan.SeatCount()
	})
	a, err = d.Availability(ctx, p, a.Ver)
	if err != nil || a.State != "open" || len(a.Blocks) != 4 {
		t.Fatalf("availability: %d blocks, %s, %v", len(a.Blocks), a.State, err)
	}
	for _, n := range []int{10, 11, 12} {
		if a.Blocks[last].Free.Has(n) {
			t.Errorf("seat %d is shown as free", n)
		}
	}
	if !a.Blocks[last].Free.Has(40) || a.Blocks[0].Free.Has(0) {
		t.Error("a free seat is not shown as free, or a seat of another channel is")
	}
	if again, err := d.Availability(ctx, p, a.Ver); err != nil || len(again.Blocks) != 0 || again.Ver != a.Ver {
		t.Errorf("availability since version %d: %+v, %v", a.Ver, again, err)
	}
}

// eventually waits for something that becomes true within a few seconds.
func eventually(t *testing.T, f func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	end := time.After(5 * time.Second)
	for !f() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("it did not become true within 5 s")
		}
	}
}

func TestClientTellsUnsentFromUnknown(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://" + dead.Addr().String()
	dead.Close()
	rude := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
	}))
	defer rude.Close()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "bad gateway", http.StatusBadGateway)
	}))
	defer proxy.Close()
	p := uuid.New()
	for name, c := range map[string]struct {
		node      string
		hold, get error
	}{
		"refused connection": {gone, inventory.ErrUnavailable, inventory.ErrUnavailable},
		"broken connection":  {rude.URL, inventory.ErrUnknownOutcome, inventory.ErrUnavailable},
		"a proxy's error":    {proxy.URL, inventory.ErrUnknownOutcome, inventory.ErrUnavailable},
	} {
		_, err := client(t, c.node).Hold(t.Context(), p, 3, []int16{4}, uuid.New(), time.Minute, nil)
		if !errors.Is(err, c.hold) {
			t.Errorf("%s: hold gives %v, want %v", name, err, c.hold)
		}
		var e *inventory.Error
		if errors.Is(err, inventory.ErrUnknownOutcome) && (!errors.As(err, &e) || !slices.Equal(e.Seats(), []int16{4}) || e.Block() != 3) {
			t.Errorf("%s: the unknown outcome does not name its seats: %v", name, err)
		}
		if _, err := client(t, c.node).SaleState(t.Context(), p); !errors.Is(err, c.get) {
			t.Errorf("%s: a read gives %v, want %v", name, err, c.get)
		}
	}
	// With a second node behind it a dead one does not matter.
	good := serve(t, service(t)).URL
	if _, err := client(t, gone, good).Performances(t.Context()); err != nil {
		t.Errorf("with one of two nodes gone: %v", err)
	}
}

func TestHandlerRefusesBadRequests(t *testing.T) {
	srv := serve(t, service(t))
	p := api.Prefix + "/" + uuid.NewString()
	for _, c := range []struct {
		name, method, path, contentType, body string
		status                                int
	}{
		{"no such path", "POST", p + "/explode", "application/json", "{}", 404},
		{"performance is no UUID", "GET", api.Prefix + "/gala/sale", "", "", 400},
		{"block too large", "POST", p + "/blocks/70000/hold", "application/json", "{}", 400},
		{"not JSON", "POST", p + "/blocks/0/hold", "application/json", "{", 400},
		{"unknown key", "POST", p + "/blocks/0/hold", "application/json", `{"sets":[1]}`, 400},
		{"two values", "POST", p + "/blocks/0/hold", "application/json", `{} {}`, 400},
		{"a form", "POST", p + "/blocks/0/hold", "application/x-www-form-urlencoded", "seats=1", 415},
		{"too large", "POST", p + "/blocks/0/hold", "application/json", `{"seats":[` + strings.Repeat("1,", 40_000) + `1]}`, 413},
		{"since is no number", "GET", p + "/availability?since=now", "", "", 400},
		{"unknown performance", "GET", p + "/sale", "", "", 404},
		{"wrong method", "GET", p + "/blocks/0/hold", "", "", 405},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, srv.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", c.contentType)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d: %s (%v)", c.name, resp.StatusCode, c.status, body, err)
		}
		router := c.status == 404 && c.path == p+"/explode" || c.status == 405
		if !router && resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: answered as %q", c.name, resp.Header.Get("Content-Type"))
		}
	}
}

func TestClientGivesUpWithItsContext(t *testing.T) {
	release := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer slow.Close()
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := client(t, slow.URL).Sell(ctx, uuid.New(), 0, []int16{1}, uuid.New(), uuid.New()); !errors.Is(err, inventory.ErrUnknownOutcome) {
		t.Errorf("a sale without an answer: %v, want an unknown outcome", err)
	}
}

func TestNewClientRefusesBadNodes(t *testing.T) {
	for _, nodes := range [][]string{nil, {"127.0.0.1:9093"}, {"ftp://x"}, {"http://"}} {
		if _, err := api.NewClient(nodes, nil); err == nil {
			t.Errorf("nodes %q were accepted", nodes)
		}
	}
}
