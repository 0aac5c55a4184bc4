// Package storetest holds what every store of the core must do: one suite for
// PostgreSQL and SQLite, and a bench (World) on which the order service is run
// against a store, the real payment simulator and a model of the inventory,
// and killed at every step.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/bus"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/payment"
	"github.com/stanchion-queue/stanchion/core/sqlstore"
)

// Open makes a database of its own for a test and returns how to open it; what
// was opened before may still be open or may have been closed. now is the
// clock for stores that have none.
type Open func(t *testing.T) (open func(now func() time.Time) *sqlstore.Store)

// Run runs the suite.
func Run(t *testing.T, open Open) {
	for name, f := range map[string]func(*testing.T, *sqlstore.Store){
		"holds":        testHolds,
		"pass limit":   testPassLimit,
		"orders":       testOrders,
		"claims":       testClaims,
		"claim races":  testClaimRaces,
		"payments":     testPayments,
		"refund units": testRefundUnits,
		"calls":        testCalls,
		"tickets":      testTickets,
		"due":          testDue,
		"keys":         testKeys,
		"webhooks":     testWebhooks,
		"outbox":       testOutbox,
		"outbox order": testOutboxOrder,
		"spool":        testSpool,
		"inbox":        testInbox,
		"rollback":     testRollback,
		"guard":        testGuard,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)(time.Now)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			f(t, s)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func got[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// stamp is a time as stores keep it.
func stamp() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func aHold(seats ...int) order.Hold {
	now := stamp()
	return order.Hold{ID: uuid.New(), Principal: "guest:1", PassID: "pass-" + uuid.NewString(), Room: "onsale", Performance: uuid.New(), Block: 3, Seats: seats,
		State: order.HoldHeld, Until: now.Add(8 * time.Minute), CapAt: now.Add(30 * time.Minute), Created: now}
}

func anOrder(holds ...order.Hold) order.Order {
	now := stamp()
	o := order.Order{ID: uuid.New(), Principal: holds[0].Principal, PassID: holds[0].PassID, Room: holds[0].Room, Performance: holds[0].Performance,
		State: order.Draft, Version: 1, Currency: "EUR", Created: now, Updated: now}
	for _, h := range holds {
		h.OrderID = o.ID
		o.Holds = append(o.Holds, h)
		for _, n := range h.Seats {
			o.Units = append(o.Units, order.Unit{Unit: len(o.Units) + 1, HoldID: h.ID, Seat: order.Seat{Block: h.Block, Seat: n}, Label: "Row 1", Offer: "Standard",
				Price: 4000, Fee: 500, Tax: 700, State: order.UnitLive})
			o.Total += 4500
		}
	}
	return o
}

func putOrder(t *testing.T, s *sqlstore.Store, o order.Order) {
	t.Helper()
	must(t, s.Tx(t.Context(), func(tx order.Tx) error {
		for _, h := range o.Holds {
			bare := h
			bare.OrderID = uuid.Nil
			if err := tx.InsertHold(t.Context(), bare); err != nil {
				return err
			}
			if err := tx.UpdateHold(t.Context(), h); err != nil {
				return err
			}
		}
		return tx.InsertOrder(t.Context(), o)
	}))
}

func aPayment(o order.Order, attempt int) payment.Payment {
	now := stamp()
	return payment.Payment{ID: uuid.New(), OrderID: o.ID, Attempt: attempt, Provider: "sim", State: payment.New, Currency: o.Currency, Amount: o.Total,
		ReturnURL: "http://shop.test/back", LookAt: now, Created: now}
}

func same(t *testing.T, what string, want, have any) {
	t.Helper()
	a, err := json.Marshal(want)
	must(t, err)
	b, err := json.Marshal(have)
	must(t, err)
	if string(a) != string(b) {
		t.Errorf("%s:\nwant %s\ngot  %s", what, a, b)
	}
}

func testHolds(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	h := aHold(4, 5, 6)
	must(t, s.Tx(ctx, func(tx order.Tx) error { return tx.InsertHold(ctx, h) }))
	same(t, "a hold", h, got[order.Hold](t)(s.Hold(ctx, h.ID)))
	h.State, h.Until, h.OrderID = order.HoldPinned, h.Until.Add(time.Minute), uuid.New()
	must(t, s.Tx(ctx, func(tx order.Tx) error { return tx.UpdateHold(ctx, h) }))
	same(t, "a changed hold", h, got[order.Hold](t)(s.Hold(ctx, h.ID)))
	if _, err := s.Hold(ctx, uuid.New()); !errors.Is(err, order.ErrNotFound) {
		t.Errorf("a hold that is not there: %v", err)
	}
	err := s.Tx(ctx, func(tx order.Tx) error { return tx.InsertHold(ctx, h) })
	if err == nil || !s.Dialect().Duplicate(err) {
		t.Errorf("a hold id was used twice: %v", err)
	}
}

func testPassLimit(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	const limit, each, tries = 6, 2, 12
	pass := "pass-" + uuid.NewString()
	var wg sync.WaitGroup
	var mu sync.Mutex
	granted := 0
	refused := errors.New("limit")
	for range tries {
		wg.Go(func() {
			err := s.Tx(ctx, func(tx order.Tx) error {
				use, err := tx.LockPass(ctx, pass, "onsale", limit)
				if err != nil {
					return err
				}
				now, err := tx.Now(ctx)
				if err != nil {
					return err
				}
				n, err := tx.SeatsInUse(ctx, pass, now)
				if err != nil {
					return err
				}
				if n+each > use.Max {
					return refused
				}
				h := aHold(1, 2)
				h.PassID, h.State, h.Until = pass, order.HoldPlacing, now.Add(time.Minute)
				return tx.InsertHold(ctx, h)
			})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				granted++
			} else if !errors.Is(err, refused) {
				t.Errorf("take seats: %v", err)
			}
		})
	}
	wg.Wait()
	if granted != limit/each {
		t.Errorf("%d holds of %d seats were granted to a pass for %d", granted, each, limit)
	}
	var in int
	must(t, s.Tx(ctx, func(tx order.Tx) (err error) {
		in, err = tx.SeatsInUse(ctx, pass, time.Now().Add(2*time.Minute))
		return err
	}))
	if in != 0 {
		t.Errorf("%d seats of holds that are over still count", in)
	}
	must(t, s.Tx(ctx, func(tx order.Tx) error { return tx.BurnPass(ctx, pass) }))
	must(t, s.Tx(ctx, func(tx order.Tx) error {
		use, err := tx.LockPass(ctx, pass, "onsale", limit)
		if err == nil && !use.Burned {
			t.Error("a burned pass is whole again")
		}
		return err
	}))
}

func testOrders(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	o := anOrder(aHold(4, 5))
	putOrder(t, s, o)
	have := got[order.Order](t)(s.Order(ctx, o.ID))
	if have.Generation < 1 {
		t.Errorf("generation is %d", have.Generation)
	}
	o.Generation = have.Generation
	same(t, "an order", o, have)
	o.State, o.Cause, o.Version, o.PinUntil, o.NextAt, o.Dispute = order.Closing, order.ByTimer, 7, stamp(), stamp().Add(time.Second), "opened"
	must(t, s.Tx(ctx, func(tx order.Tx) error {
		if err := tx.AddTransition(ctx, order.Transition{OrderID: o.ID, Seq: 7, From: order.Paying, To: order.Closing, Event: order.PinNearlyOver, CauseID: "x", At: stamp()}); err != nil {
			return err
		}
		u := o.Units[1]
		u.State = order.UnitCooling
		o.Units[1] = u
		if err := tx.UpdateUnit(ctx, o.ID, u); err != nil {
			return err
		}
		return tx.SaveOrder(ctx, o)
	}))
	must(t, s.Tx(ctx, func(tx order.Tx) error {
		locked, err := tx.LockOrder(ctx, o.ID)
		if err == nil {
			same(t, "a changed order", o, locked)
		}
		return err
	}))
	hist := got[[]order.Transition](t)(s.History(ctx, o.ID))
	if len(hist) != 1 || hist[0].To != order.Closing || hist[0].CauseID != "x" {
		t.Errorf("history: %+v", hist)
	}
	err := s.Tx(ctx, func(tx order.Tx) error {
		return tx.AddTransition(ctx, order.Transition{OrderID: o.ID, Seq: 8, From: order.Paying, To: order.Closing, Event: order.PinNearlyOver, CauseID: "x", At: stamp()})
	})
	if err == nil || !s.Dialect().Duplicate(err) {
		t.Errorf("one cause moved an order twice: %v", err)
	}
	if _, err := s.Order(ctx, uuid.New()); !errors.Is(err, order.ErrNotFound) {
		t.Errorf("an order that is not there: %v", err)
	}
}

func claim(ctx context.Context, s *sqlstore.Store, o order.Order) (cs []order.Conflict, err error) {
	seats := make([]order.Seat, len(o.Units))
	for i, u := range o.Units {
		seats[i] = u.Seat
	}
	err = s.Tx(ctx, func(tx order.Tx) error {
		cs, err = tx.Claim(ctx, o.Performance, o.ID, seats)
		return err
	})
	return cs, err
}

func testClaims(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	a, b := anOrder(aHold(4, 5)), anOrder(aHold(5, 6))
	b.Performance = a.Performance
	putOrder(t, s, a)
	putOrder(t, s, b)
	for range 2 { // the second time they are already its own
		if cs := got[[]order.Conflict](t)(claim(ctx, s, a)); len(cs) != 0 {
			t.Fatalf("free seats are claimed: %+v", cs)
		}
	}
	want := []order.Conflict{{Seat: order.Seat{Block: 3, Seat: 5}, OrderID: a.ID}}
	same(t, "conflicts", want, got[[]order.Conflict](t)(claim(ctx, s, b)))
	must(t, s.Tx(ctx, func(tx order.Tx) error { return tx.SetClaimsSold(ctx, a.ID, true) }))
	want[0].Sold = true
	same(t, "conflicts with a sold seat", want, got[[]order.Conflict](t)(claim(ctx, s, b)))
	must(t, s.Tx(ctx, func(tx order.Tx) error {
		return tx.DropClaims(ctx, b.Performance, b.ID, []order.Seat{{Block: 3, Seat: 5}})
	}))
	same(t, "another order's claim was dropped", want, got[[]order.Conflict](t)(claim(ctx, s, b)))
	must(t, s.Tx(ctx, func(tx order.Tx) error {
		return tx.DropClaims(ctx, a.Performance, a.ID, []order.Seat{{Block: 3, Seat: 5}})
	}))
	if cs := got[[]order.Conflict](t)(claim(ctx, s, b)); len(cs) != 0 {
		t.Errorf("a dropped claim is in the way, or a refused one left something: %+v", cs)
	}
}

func testClaimRaces(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	perf := uuid.New()
	var orders []order.Order
	for i := range 8 {
		o := anOrder(aHold(i, i+1, i+2)) // neighbours overlap
		o.Performance = perf
		putOrder(t, s, o)
		orders = append(orders, o)
	}
	won := make([]bool, len(orders))
	var wg sync.WaitGroup
	for i, o := range orders {
		wg.Go(func() {
			cs, err := claim(ctx, s, o)
			if err != nil {
				t.Errorf("claim: %v", err)
			}
			won[i] = err == nil && len(cs) == 0
		})
	}
	wg.Wait()
	if !slices.Contains(won, true) {
		t.Fatal("nobody has the seats")
	}
	for i := range won {
		for j := i + 1; j < min(i+3, len(won)); j++ {
			if won[i] && won[j] {
				t.Errorf("orders %d and %d have one seat", i, j)
			}
		}
	}
}

func testPayments(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	o := anOrder(aHold(4, 5))
	putOrder(t, s, o)
	p := aPayment(o, 1)
	must(t, s.Tx(ctx, func(tx order.Tx) error { return tx.InsertPayment(ctx, p) }))
	same(t, "a payment", []payment.Payment{p}, got[order.Order](t)(s.Order(ctx, o.ID)).Payments)

	second := aPayment(o, 2)
	if err := s.Tx(ctx, func(tx order.Tx) error { return tx.InsertPayment(ctx, second) }); err == nil || !s.Dialect().Duplicate(err) {
		t.Errorf("two attempts are open at once: %v", err)
	}
	stale := p
	p.State, p.Ref, p.Authorised, p.UnknownSince, p.CaptureBefore, p.LookAt = payment.Authorised, "pi_1", o.Total, stamp(), stamp().Add(time.Hour), time.Time{}
	must(t, s.Tx(ctx, func(tx order.Tx) error { return tx.UpdatePayment(ctx, &p) }))
	same(t, "a changed payment", []payment.Payment{p}, got[order.Order](t)(s.Order(ctx, o.ID)).Payments)
	if err := s.Tx(ctx, func(tx order.Tx) error { return tx.UpdatePayment(ctx, &stale) }); !errors.Is(err, order.ErrStale) {
		t.Errorf("an old version was written: %v", err)
	}
	must(t, s.Tx(ctx, func(tx order.Tx) error { return tx.InsertPayment(ctx, second) }))
	second.State, second.Authorised = payment.Authorised, o.Total
	loser := second
	if err := s.Tx(ctx, func(tx order.Tx) error { return tx.UpdatePayment(ctx, &loser) }); err == nil || !s.Dialect().Duplicate(err) {
		t.Errorf("two attempts hold the money of one order: %v", err)
	}
	second.Spare, second.Ref = true, "pi_2"
	must(t, s.Tx(ctx, func(tx order.Tx) error { return tx.UpdatePayment(ctx, &second) }))
	for what, change := range map[string]func(*payment.Payment){
		"more captured than authorised": func(p *payment.Payment) { p.Captured = p.Authorised + 1 },
		"more refunded than captured":   func(p *payment.Payment) { p.Captured, p.Refunded, p.Refunding = 10, 6, 5 },
	} {
		q := p
		change(&q)
		if err := s.Tx(ctx, func(tx order.Tx) error { return tx.UpdatePayment(ctx, &q) }); err == nil {
			t.Errorf("stored %s", what)
		}
	}
	for _, tc := range []struct {
		ref string
		id  uuid.UUID
		ok  bool
	}{{"pi_1", uuid.Nil, true}, {"", p.ID, true}, {"pi_9", uuid.Nil, false}, {"", uuid.New(), false}} {
		ord, pay, ok, err := s.OrderOf(ctx, "sim", tc.ref, tc.id)
		if err != nil || ok != tc.ok || (ok && (ord != o.ID || pay != p.ID)) {
			t.Errorf("order of %q %s: %v %v %v %v", tc.ref, tc.id, ord, pay, ok, err)
		}
	}
}

func testRefundUnits(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	o := anOrder(aHold(4, 5))
	putOrder(t, s, o)
	p := aPayment(o, 1)
	must(t, s.Tx(ctx, func(tx order.Tx) error { return tx.InsertPayment(ctx, p) }))
	r := payment.Refund{ID: uuid.New(), OrderID: o.ID, PaymentID: p.ID, Amount: 4500, Units: []int{2}, State: payment.RefundAsked, Reason: "asked", Attempt: 1, LookAt: stamp(), Created: stamp()}
	must(t, s.Tx(ctx, func(tx order.Tx) error { return tx.InsertRefund(ctx, r) }))
	same(t, "a refund", []payment.Refund{r}, got[order.Order](t)(s.Order(ctx, o.ID)).Refunds)
	again := r
	again.ID = uuid.New()
	if err := s.Tx(ctx, func(tx order.Tx) error { return tx.InsertRefund(ctx, again) }); !errors.Is(err, order.ErrUnitRefunded) {
		t.Errorf("a unit was refunded twice: %v", err)
	}
	r.State, r.Ref, r.Attempt = payment.RefundDone, "re_1", 2
	must(t, s.Tx(ctx, func(tx order.Tx) error { return tx.UpdateRefund(ctx, r) }))
	same(t, "a changed refund", []payment.Refund{r}, got[order.Order](t)(s.Order(ctx, o.ID)).Refunds)
}

func testCalls(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	o := anOrder(aHold(4))
	putOrder(t, s, o)
	p := aPayment(o, 1)
	first := stamp()
	key := payment.Key(p.ID, payment.KindCapture, 1)
	must(t, s.Tx(ctx, func(tx order.Tx) error { return tx.InsertPayment(ctx, p) }))
	for i := range 3 {
		at := first.Add(time.Duration(i) * time.Second)
		must(t, s.Tx(ctx, func(tx order.Tx) error {
			was, err := tx.RecordCall(ctx, payment.Call{ID: uuid.New(), PaymentID: p.ID, Kind: payment.KindCapture, Key: key, State: "sent", First: at, Last: at, Tries: 1})
			if err == nil && !was.Equal(first) {
				t.Errorf("call %d: first sent at %s, want %s", i, was, first)
			}
			return errors.Join(err, tx.AnswerCall(ctx, key, "unknown"))
		}))
	}
}

func testTickets(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	o := anOrder(aHold(4, 5))
	putOrder(t, s, o)
	ts := []order.Ticket{
		{ID: uuid.New(), OrderID: o.ID, Performance: o.Performance, Unit: 1, Version: 1, Seat: o.Units[0].Seat, Label: "Row 1", Issued: stamp()},
		{ID: uuid.New(), OrderID: o.ID, Performance: o.Performance, Unit: 2, Version: 1, Seat: o.Units[1].Seat, Label: "Row 1", Issued: stamp()},
	}
	must(t, s.Tx(ctx, func(tx order.Tx) error { return tx.IssueTickets(ctx, ts) }))
	twice := []order.Ticket{ts[0]}
	twice[0].ID = uuid.New()
	if err := s.Tx(ctx, func(tx order.Tx) error { return tx.IssueTickets(ctx, twice) }); err == nil || !s.Dialect().Duplicate(err) {
		t.Errorf("a unit has two tickets: %v", err)
	}
	for range 2 {
		must(t, s.Tx(ctx, func(tx order.Tx) error { return tx.RevokeTickets(ctx, o.ID, []int{2}, "refund") }))
	}
	var n int
	must(t, s.Read().QueryRowContext(ctx, `SELECT count(*) FROM ticket_revoked r JOIN ticket t ON t.id = r.ticket_id WHERE t.order_id = $1`, o.ID).Scan(&n))
	if n != 1 {
		t.Errorf("%d revocations, want 1", n)
	}
}

func testDue(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	now := stamp()
	if at := got[time.Time](t)(s.NextDue(ctx)); !at.IsZero() {
		t.Errorf("an empty store is due at %s", at)
	}
	var ids []uuid.UUID
	for i := range 6 {
		o := anOrder(aHold(i))
		o.NextAt = now.Add(time.Duration(i-3) * time.Second)
		putOrder(t, s, o)
		ids = append(ids, o.ID)
	}
	if at := got[time.Time](t)(s.NextDue(ctx)); !at.Equal(now.Add(-3 * time.Second)) {
		t.Errorf("next due at %s, want %s", at, now.Add(-3*time.Second))
	}
	taken := map[uuid.UUID]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 6 { // several processes ask at once
		wg.Go(func() {
			due, err := s.Due(ctx, now, time.Minute, 2)
			if err != nil {
				t.Errorf("due: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, id := range due {
				taken[id]++
			}
		})
	}
	wg.Wait()
	for i, id := range ids {
		if want := map[bool]int{true: 1, false: 0}[i <= 3]; taken[id] != want {
			t.Errorf("order %d was handed out %d times, want %d", i, taken[id], want)
		}
	}
	must(t, s.Sleep(ctx, ids[5], 99, now.Add(-time.Hour))) // another version: not ours to put to sleep
	must(t, s.Sleep(ctx, ids[4], 1, time.Time{}))
	if at := got[time.Time](t)(s.NextDue(ctx)); !at.Equal(now.Add(2 * time.Second)) {
		t.Errorf("next due at %s, want %s", at, now.Add(2*time.Second))
	}
}

func testKeys(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	now := stamp()
	idem := order.Idempotency{Store: s, Lock: time.Minute, Now: func() time.Time { return now }}
	print := order.Fingerprint("POST", "/api/v1/orders", []byte("{}"))
	var subjects []uuid.UUID
	runs := 0
	work := func(a order.Answered, keep bool) func(context.Context, uuid.UUID) (order.Answered, bool) {
		return func(_ context.Context, id uuid.UUID) (order.Answered, bool) {
			runs++
			subjects = append(subjects, id)
			return a, keep
		}
	}
	answer := order.Answered{Status: 201, Header: map[string]string{"Location": "/x"}, Body: []byte(`{"a":1}`)}

	a, replayed, err := idem.Do(ctx, "guest:1", "k", print, work(order.Answered{Status: 202}, false))
	if err != nil || replayed || a.Status != 202 {
		t.Fatalf("an answer that is not final: %+v %v %v", a, replayed, err)
	}
	a, replayed, err = idem.Do(ctx, "guest:1", "k", print, work(answer, true))
	if err != nil || replayed {
		t.Fatalf("the second attempt: %v %v", replayed, err)
	}
	same(t, "the answer", answer, a)
	if len(subjects) != 2 || subjects[0] != subjects[1] {
		t.Errorf("a repetition has another subject: %v", subjects)
	}
	a, replayed, err = idem.Do(ctx, "guest:1", "k", print, work(order.Answered{Status: 500}, true))
	if err != nil || !replayed || runs != 2 {
		t.Errorf("a finished key worked again: %v %v", replayed, err)
	}
	same(t, "the replayed answer", answer, a)
	if _, _, err := idem.Do(ctx, "guest:1", "k", order.Fingerprint("POST", "/api/v1/orders", []byte("{2}")), work(answer, true)); !errors.Is(err, order.ErrKeyReused) {
		t.Errorf("the key was used for another request: %v", err)
	}
	if _, replayed, err := idem.Do(ctx, "guest:2", "k", print, work(answer, true)); err != nil || replayed {
		t.Errorf("another principal's answer was read: %v %v", replayed, err)
	}

	// While one works, others wait; whoever dies loses the key in time.
	var inner error
	_, _, err = idem.Do(ctx, "guest:1", "k2", print, func(ctx context.Context, id uuid.UUID) (order.Answered, bool) {
		_, _, inner = idem.Do(ctx, "guest:1", "k2", print, work(answer, true))
		return answer, true
	})
	must(t, err)
	var busy *order.KeyInFlight
	if !errors.As(inner, &busy) || busy.RetryAfter <= 0 {
		t.Errorf("two work on one key: %v", inner)
	}
	owner := uuid.New()
	first, taken, err := s.TakeKey(ctx, "guest:1", "k3", order.KeyState{Fingerprint: print, Owner: owner, LockedUntil: now.Add(time.Second), Subject: uuid.New()}, now)
	if err != nil || !taken {
		t.Fatalf("take a key: %v %v", taken, err)
	}
	late, taken, err := s.TakeKey(ctx, "guest:1", "k3", order.KeyState{Fingerprint: print, Owner: uuid.New(), LockedUntil: now.Add(time.Minute), Subject: uuid.New()}, now.Add(2*time.Second))
	if err != nil || !taken || late.Subject != first.Subject {
		t.Errorf("a dead owner's key: %v %v %v", taken, late.Subject == first.Subject, err)
	}
	must(t, s.FinishKey(ctx, "guest:1", "k3", owner, order.Answered{Status: 418})) // it was only slow
	if st, _, err := s.TakeKey(ctx, "guest:1", "k3", order.KeyState{Fingerprint: print, Owner: uuid.New(), Subject: uuid.New()}, now.Add(3*time.Second)); err != nil || st.Done {
		t.Errorf("an owner that lost its key stored its answer: %+v %v", st, err)
	}
	must(t, s.PruneKeys(ctx, now.Add(time.Hour)))
	if _, taken, err := s.TakeKey(ctx, "guest:1", "k", order.KeyState{Fingerprint: "other", Owner: uuid.New(), Subject: uuid.New()}, now); err != nil || !taken {
		t.Errorf("an old key is still there: %v %v", taken, err)
	}
}

func testWebhooks(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	w := payment.Webhook{Provider: "sim", EventID: "evt_1", Type: "t", Ref: "pi_1", PaymentID: uuid.New(), Body: []byte(`{}`), Received: stamp()}
	for i := range 3 {
		if open, err := s.AddWebhook(ctx, w); err != nil || !open {
			t.Errorf("delivery %d: open %v, %v", i, open, err)
		}
	}
	other := w
	other.EventID, other.PaymentID = "evt_2", uuid.Nil
	if open, err := s.AddWebhook(ctx, other); err != nil || !open {
		t.Errorf("another event: %v %v", open, err)
	}
	same(t, "open webhooks", []payment.Webhook{w, other}, got[[]payment.Webhook](t)(s.OpenWebhooks(ctx, 10)))
	must(t, s.CloseWebhook(ctx, "sim", "evt_1", w.PaymentID))
	same(t, "open webhooks", []payment.Webhook{other}, got[[]payment.Webhook](t)(s.OpenWebhooks(ctx, 10)))
	if open, err := s.AddWebhook(ctx, w); err != nil || open {
		t.Errorf("a closed webhook came again and is open: %v %v", open, err)
	}
}

func emit(ctx context.Context, s *sqlstore.Store, es ...bus.Event) error {
	return s.Tx(ctx, func(tx order.Tx) error {
		for _, e := range es {
			if err := tx.Emit(ctx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

func anEvent(topic, key string, version int64) bus.Event {
	return bus.Event{Shard: bus.ShardOf(key), Topic: topic, Key: key, Type: "thing", Version: version, Subject: uuid.New(), At: stamp(), Payload: json.RawMessage(`{"n":1}`)}
}

func testOutbox(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	a, b := anEvent("t", "k1", 1), anEvent("t", "k1", 2)
	a.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	must(t, emit(ctx, s, a, b))
	es := got[[]bus.Event](t)(s.Head(ctx, a.Shard, 0, 10))
	if len(es) != 2 || es[0].ID >= es[1].ID || es[0].Generation < 1 {
		t.Fatalf("the outbox: %+v", es)
	}
	a.ID, a.Generation = es[0].ID, es[0].Generation
	var want, have any
	must(t, json.Unmarshal(a.Payload, &want))
	must(t, json.Unmarshal(es[0].Payload, &have))
	same(t, "a payload", want, have)
	a.Payload, es[0].Payload = nil, nil
	same(t, "an event", a, es[0])
	if rest := got[[]bus.Event](t)(s.Head(ctx, a.Shard, es[0].ID, 10)); len(rest) != 1 || rest[0].Version != 2 {
		t.Errorf("after the first: %+v", rest)
	}
	if other := got[[]bus.Event](t)(s.Head(ctx, (a.Shard+1)%bus.Shards, 0, 10)); len(other) != 0 {
		t.Errorf("another shard has them too: %+v", other)
	}
	must(t, s.Delete(ctx, []int64{es[0].ID}))
	must(t, s.Delete(ctx, nil))
	if rest := got[[]bus.Event](t)(s.Head(ctx, a.Shard, 0, 10)); len(rest) != 1 || rest[0].ID != es[1].ID {
		t.Errorf("after a deletion: %+v", rest)
	}
}

// testOutboxOrder lets many transactions change a few orders at once, with
// their idempotency key as first write (the normal case, and the one that
// turns the order of transaction ids around), and reads the queue meanwhile.
func testOutboxOrder(t *testing.T, s *sqlstore.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	const writers, orders, each = 8, 3, 12
	var ids []uuid.UUID
	for i := range orders {
		o := anOrder(aHold(i))
		putOrder(t, s, o)
		ids = append(ids, o.ID)
	}
	last := map[string]int64{}
	read := func() int {
		n := 0
		for shard := range bus.Shards {
			es, err := s.Head(t.Context(), shard, 0, 1000)
			if err != nil {
				t.Errorf("read the outbox: %v", err)
				return n
			}
			var done []int64
			for _, e := range es {
				if e.Version != last[e.Key]+1 {
					t.Errorf("order %s: version %d after %d", e.Key, e.Version, last[e.Key])
				}
				last[e.Key] = e.Version
				done = append(done, e.ID)
			}
			if err := s.Delete(t.Context(), done); err != nil {
				t.Errorf("delete: %v", err)
			}
			n += len(es)
		}
		return n
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				id := ids[(w+i)%orders]
				err := s.InTx(t.Context(), func(q sqlstore.Querier) error {
					_, err := q.ExecContext(t.Context(), `INSERT INTO inbox (consumer, dedupe, at_ms) VALUES ($1, $2, 0)`, "w", uuid.NewString())
					return err
				})
				if err == nil {
					err = s.Tx(t.Context(), func(tx order.Tx) error {
						o, err := tx.LockOrder(t.Context(), id)
						if err != nil {
							return err
						}
						o.Version++
						e := anEvent("t", id.String(), o.Version-1)
						return errors.Join(tx.Emit(t.Context(), e), tx.SaveOrder(t.Context(), o))
					})
				}
				if err != nil {
					t.Errorf("write: %v", err)
				}
			}
		})
	}
	total := 0
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for ctx.Err() == nil {
			total += read()
		}
	}()
	wg.Wait()
	cancel()
	<-finished
	total += read()
	if total != writers*each {
		t.Errorf("%d events came, %d were written", total, writers*each)
	}
}

func testSpool(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	must(t, s.Enrol(ctx, "mail", []string{"orders", "tickets"}))
	must(t, s.Enrol(ctx, "room", []string{"orders"}))
	must(t, emit(ctx, s, anEvent("orders", "a", 1), anEvent("tickets", "a", 2), anEvent("other", "a", 3), anEvent("orders", "b", 1)))
	topics := func(es []bus.Event) (out []string) {
		for _, e := range es {
			out = append(out, e.Topic)
		}
		return out
	}
	mail := got[[]bus.Event](t)(s.Unhandled(ctx, "mail", 10))
	room := got[[]bus.Event](t)(s.Unhandled(ctx, "room", 10))
	same(t, "for mail", []string{"orders", "tickets", "orders"}, topics(mail))
	same(t, "for room", []string{"orders", "orders"}, topics(room))
	if n := got[int](t)(s.Sweep(ctx, 100)); n != 1 {
		t.Errorf("%d events that nobody reads were swept, want 1", n)
	}
	must(t, s.Handled(ctx, "room", []int64{room[0].ID, room[1].ID}))
	must(t, s.Handled(ctx, "mail", []int64{mail[0].ID, mail[1].ID}))
	must(t, s.Handled(ctx, "mail", []int64{mail[0].ID})) // said twice
	same(t, "left for mail", []string{"orders"}, topics(got[[]bus.Event](t)(s.Unhandled(ctx, "mail", 10))))
	if left := got[[]bus.Event](t)(s.Unhandled(ctx, "room", 10)); len(left) != 0 {
		t.Errorf("left for room: %+v", left)
	}
	if n := got[int](t)(s.Sweep(ctx, 100)); n != 2 {
		t.Errorf("%d handled events were swept, want 2", n)
	}
	must(t, s.Enrol(ctx, "mail", []string{"orders", "tickets"})) // it came back
	same(t, "left for mail", []string{"orders"}, topics(got[[]bus.Event](t)(s.Unhandled(ctx, "mail", 10))))
}

func testInbox(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	e := anEvent("orders", "a", 4)
	calls := 0
	fail := errors.New("no")
	h := bus.Once(s, "mail", time.Now, func(context.Context, bus.Event) error {
		calls++
		if calls == 1 {
			return fail
		}
		return nil
	})
	if err := h(ctx, e); !errors.Is(err, fail) {
		t.Errorf("the handler's error was lost: %v", err)
	}
	for range 3 {
		must(t, h(ctx, e))
	}
	if calls != 2 {
		t.Errorf("the handler ran %d times, want 2", calls)
	}
	if seen := got[bool](t)(s.Seen(ctx, "room", e.DedupeKey())); seen {
		t.Error("one consumer's inbox is another's")
	}
	must(t, s.PruneInbox(ctx, time.Now().Add(time.Hour)))
	if seen := got[bool](t)(s.Seen(ctx, "mail", e.DedupeKey())); seen {
		t.Error("a pruned entry is still there")
	}
	for _, tc := range []struct {
		generation, version int64
		newer               bool
	}{{1, 5, true}, {1, 5, false}, {1, 4, false}, {1, 6, true}, {2, 1, true}, {1, 9, false}} {
		must(t, s.InTx(ctx, func(q sqlstore.Querier) error {
			newer, err := sqlstore.Advance(ctx, q, "search", "order-1", tc.generation, tc.version)
			if err == nil && newer != tc.newer {
				t.Errorf("(%d, %d): newer %v, want %v", tc.generation, tc.version, newer, tc.newer)
			}
			return err
		}))
	}
}

func testRollback(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	o := anOrder(aHold(4))
	putOrder(t, s, o)
	stop := errors.New("stop")
	spoil := func(tx order.Tx) error {
		o, err := tx.LockOrder(ctx, o.ID)
		if err != nil {
			return err
		}
		o.Version = 50
		return errors.Join(tx.SaveOrder(ctx, o), tx.Emit(ctx, anEvent("t", "k", 1)))
	}
	if err := s.Tx(ctx, func(tx order.Tx) error { return errors.Join(spoil(tx), stop) }); !errors.Is(err, stop) {
		t.Errorf("the transaction's error: %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = s.Tx(ctx, func(tx order.Tx) error {
			must(t, spoil(tx))
			panic("died")
		})
	}()
	if have := got[order.Order](t)(s.Order(ctx, o.ID)); have.Version != o.Version {
		t.Errorf("a transaction that failed left version %d", have.Version)
	}
	for shard := range bus.Shards {
		if es := got[[]bus.Event](t)(s.Head(ctx, shard, 0, 10)); len(es) != 0 {
			t.Errorf("a transaction that failed left events: %+v", es)
		}
	}
	must(t, s.Tx(ctx, func(tx order.Tx) error { _, err := tx.LockOrder(ctx, o.ID); return err })) // and no lock
}

func testGuard(t *testing.T, s *sqlstore.Store) {
	ctx := t.Context()
	alive, release, ok, err := s.Guard(ctx, 1)
	if err != nil || !ok {
		t.Fatalf("guard: %v %v", ok, err)
	}
	must(t, alive(ctx))
	if _, _, ok, err := s.Guard(ctx, 1); err != nil || ok {
		t.Errorf("a shard has two relays: %v", err)
	}
	_, other, ok, err := s.Guard(ctx, 2)
	if err != nil || !ok {
		t.Fatalf("another shard: %v %v", ok, err)
	}
	other()
	release()
	_, release, ok, err = s.Guard(ctx, 1)
	if err != nil || !ok {
		t.Fatalf("after release: %v %v", ok, err)
	}
	release()
}
