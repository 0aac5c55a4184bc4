package order_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/bus"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/payment"
	"github.com/stanchion-queue/stanchion/core/storetest"
)

const back = "http://shop.test/orders/back"

func world(t *testing.T) *storetest.World {
	return storetest.NewWorld(t, storetest.SQLite, storetest.WorldOptions{})
}

func request(w *storetest.World, who string, block int, seats ...int) order.HoldRequest {
	r := order.HoldRequest{ID: uuid.New(), Principal: order.Principal(who), Pass: w.Pass("session-" + who), Performance: w.Perf}
	for _, n := range seats {
		r.Seats = append(r.Seats, order.Seat{Block: block, Seat: n})
	}
	return r
}

func mustHold(t *testing.T, w *storetest.World, r order.HoldRequest) order.Hold {
	t.Helper()
	h, err := w.Shop.CreateHold(t.Context(), r)
	if err != nil || h.State != order.HoldHeld {
		t.Fatalf("hold: %+v, %v", h, err)
	}
	return h
}

func mustOrder(t *testing.T, w *storetest.World, who string, seats ...int) order.Order {
	t.Helper()
	h := mustHold(t, w, request(w, who, 1, seats...))
	o, err := w.Shop.CreateOrder(t.Context(), order.OrderRequest{ID: uuid.New(), Principal: h.Principal, Holds: []uuid.UUID{h.ID},
		Quote: order.Quote{Currency: "EUR", Total: 4500 * int64(len(seats))}})
	if err != nil || o.State != order.Draft {
		t.Fatalf("order: %+v, %v", o, err)
	}
	return o
}

func mustCheckout(t *testing.T, w *storetest.World, o order.Order) order.Order {
	t.Helper()
	o, err := w.Shop.Checkout(t.Context(), order.CheckoutRequest{Principal: o.Principal, OrderID: o.ID, PaymentID: uuid.New(), ReturnURL: back})
	if err != nil || o.NextAction() == "" {
		t.Fatalf("check out: %s, page %q, %v", o.State, o.NextAction(), err)
	}
	return o
}

// is compares errors by value or, for the ones with details, by type.
func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func TestCreateHoldRefuses(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	mustHold(t, w, request(w, "owner", 2, 50))
	for name, tc := range map[string]struct {
		change func(r *order.HoldRequest)
		want   func(error) bool
	}{
		"no pass":           {func(r *order.HoldRequest) { r.Pass = nil }, func(err error) bool { return errors.Is(err, order.ErrPassRequired) }},
		"another room":      {func(r *order.HoldRequest) { r.Pass.Room = "other" }, func(err error) bool { return errors.Is(err, order.ErrPassInvalid) }},
		"no seats":          {func(r *order.HoldRequest) { r.Seats = nil }, func(err error) bool { return errors.Is(err, order.ErrNoSeats) }},
		"a seat twice":      {func(r *order.HoldRequest) { r.Seats = append(r.Seats, r.Seats[0]) }, func(err error) bool { return errors.Is(err, order.ErrNoSeats) }},
		"two blocks":        {func(r *order.HoldRequest) { r.Seats = append(r.Seats, order.Seat{Block: 9, Seat: 1}) }, func(err error) bool { return errors.Is(err, order.ErrManyBlocks) }},
		"no such seat":      {func(r *order.HoldRequest) { r.Seats[0].Seat = 100 }, is[*order.NoSuchSeat]},
		"no performance":    {func(r *order.HoldRequest) { r.Performance = uuid.New() }, func(err error) bool { return errors.Is(err, order.ErrNoPerformance) }},
		"too many seats":    {func(r *order.HoldRequest) { r.Pass.SeatLimit = 1 }, is[*order.PassLimit]},
		"taken seats":       {func(r *order.HoldRequest) { r.Seats = []order.Seat{{Block: 2, Seat: 49}, {Block: 2, Seat: 50}} }, is[*order.SeatsTaken]},
		"a block is closed": {func(r *order.HoldRequest) { w.House.SetBlock(1, order.NotOpen) }, func(err error) bool { return errors.Is(err, order.ErrSaleNotOpen) }},
		"a block is frozen": {func(r *order.HoldRequest) { w.House.SetBlock(1, order.Frozen) }, func(err error) bool { return errors.Is(err, order.ErrBlockFrozen) }},
	} {
		r := request(w, "fan "+name, 1, 10, 11)
		tc.change(&r)
		h, err := w.Shop.CreateHold(ctx, r)
		if !tc.want(err) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
		w.House.SetBlock(1, order.Done)
	}
	var taken *order.SeatsTaken
	_, err := w.Shop.CreateHold(ctx, request(w, "late", 2, 49, 50))
	if !errors.As(err, &taken) || len(taken.Seats) != 1 || taken.Seats[0] != (order.Seat{Block: 2, Seat: 50}) {
		t.Errorf("which seats are taken: %v", err)
	}
	w.Box.Change(func(p *order.Performance, _ *order.SeatPrice) { p.SaleOpen = false })
	if _, err := w.Shop.CreateHold(ctx, request(w, "early", 1, 1)); !errors.Is(err, order.ErrSaleNotOpen) {
		t.Errorf("before the sale: %v", err)
	}
	if busy := w.House.Busy(); len(busy) != 1 {
		t.Errorf("refused holds keep seats: %v", busy)
	}
}

func TestAPassLimitsSeatsHoweverTheyAreHeld(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	first := mustHold(t, w, request(w, "a", 1, 1, 2, 3, 4))
	mustHold(t, w, request(w, "a", 2, 1, 2, 3))
	_, err := w.Shop.CreateHold(ctx, request(w, "a", 3, 1, 2))
	var limit *order.PassLimit
	if !errors.As(err, &limit) || limit.Limit != 8 || limit.InUse != 7 || limit.Asked != 2 {
		t.Fatalf("the ninth seat: %v", err)
	}
	if err := w.Shop.ReleaseHold(ctx, first.Principal, first.ID); err != nil {
		t.Fatal(err)
	}
	mustHold(t, w, request(w, "a", 3, 1, 2))
	w.Clock.Advance(9 * time.Minute) // all leases are over
	mustHold(t, w, request(w, "a", 4, 1, 2, 3, 4, 5, 6, 7, 8))
}

func TestARepeatedHoldIsTheSameHold(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	r := request(w, "a", 1, 10, 11)
	h := mustHold(t, w, r)
	again := mustHold(t, w, r)
	if again.ID != h.ID || !again.Until.Equal(h.Until) {
		t.Errorf("the same request made another hold: %+v", again)
	}
	other := r
	other.Seats = []order.Seat{{Block: 1, Seat: 12}}
	if _, err := w.Shop.CreateHold(ctx, other); !errors.Is(err, order.ErrIDTaken) {
		t.Errorf("an id was used for other seats: %v", err)
	}
	other = r
	other.Principal = "b"
	if _, err := w.Shop.CreateHold(ctx, other); !errors.Is(err, order.ErrIDTaken) {
		t.Errorf("another fan used the id: %v", err)
	}
	// Refused for certain, the id may try again.
	blocked := request(w, "c", 1, 11)
	if _, err := w.Shop.CreateHold(ctx, blocked); !is[*order.SeatsTaken](err) {
		t.Fatal(err)
	}
	if err := w.Shop.ReleaseHold(ctx, h.Principal, h.ID); err != nil {
		t.Fatal(err)
	}
	mustHold(t, w, blocked)
}

func TestAnUnknownHoldIsNeitherYesNorNo(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	w.House.Down(true)
	r := request(w, "a", 1, 10)
	h, err := w.Shop.CreateHold(ctx, r)
	if err != nil || h.State != order.HoldPlacing {
		t.Fatalf("with the inventory away: %+v, %v", h, err)
	}
	if h, err = w.Shop.GetHold(ctx, "a", r.ID); err != nil || h.State != order.HoldPlacing {
		t.Errorf("asked again: %+v, %v", h, err)
	}
	if _, err := w.Shop.GetHold(ctx, "b", r.ID); !errors.Is(err, order.ErrNotFound) {
		t.Errorf("another fan sees it: %v", err)
	}
	w.House.Down(false)
	if h, err = w.Shop.GetHold(ctx, "a", r.ID); err != nil || h.State != order.HoldHeld {
		t.Errorf("with the inventory back: %+v, %v", h, err)
	}
	// And one that is only asked about when its lease is over.
	w.House.Down(true)
	late := request(w, "a", 1, 20)
	if _, err := w.Shop.CreateHold(ctx, late); err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(8 * time.Minute)
	w.House.Down(false)
	if _, err := w.Shop.GetHold(ctx, "a", late.ID); !errors.Is(err, order.ErrHoldExpired) {
		t.Errorf("nobody asked for 8 minutes: %v", err)
	}
}

func TestExtendAndRelease(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	h := mustHold(t, w, request(w, "a", 1, 10))
	if _, err := w.Shop.ExtendHold(ctx, "b", h.ID); !errors.Is(err, order.ErrNotFound) {
		t.Errorf("another fan extends it: %v", err)
	}
	var err error
	extended := 0
	for err == nil {
		w.Clock.Advance(3 * time.Minute)
		if _, err = w.Shop.ExtendHold(ctx, "a", h.ID); err == nil {
			extended++
		}
	}
	if !errors.Is(err, order.ErrHoldAtCap) || extended != 8 {
		t.Errorf("extended %d times, then %v", extended, err)
	}
	w.Clock.Advance(10 * time.Minute)
	if _, err := w.Shop.ExtendHold(ctx, "a", h.ID); !errors.Is(err, order.ErrHoldExpired) {
		t.Errorf("an expired hold was extended: %v", err)
	}
	if _, err := w.Shop.GetHold(ctx, "a", h.ID); !errors.Is(err, order.ErrHoldExpired) {
		t.Errorf("an expired hold: %v", err)
	}
	for range 2 {
		if err := w.Shop.ReleaseHold(ctx, "a", h.ID); err != nil {
			t.Errorf("release: %v", err)
		}
	}
	lost := mustHold(t, w, request(w, "a", 1, 30))
	w.House.Lapse(lost.ID)
	if _, err := w.Shop.ExtendHold(ctx, "a", lost.ID); !errors.Is(err, order.ErrHoldExpired) {
		t.Errorf("a lost hold was extended: %v", err)
	}
	w.House.Down(true)
	kept := mustAway(t, w)
	if err := w.Shop.ReleaseHold(ctx, "a", kept.ID); !errors.Is(err, order.ErrNotNow) {
		t.Errorf("released with the inventory away: %v", err)
	}
	w.House.Down(false)
	if err := w.Shop.ReleaseHold(ctx, "a", kept.ID); err != nil {
		t.Errorf("released again: %v", err)
	}
}

// mustAway makes a hold just before the inventory goes away.
func mustAway(t *testing.T, w *storetest.World) order.Hold {
	t.Helper()
	w.House.Down(false)
	defer w.House.Down(true)
	return mustHold(t, w, request(w, "a", 1, 40))
}

func TestCreateOrderRefuses(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	h := mustHold(t, w, request(w, "a", 1, 10, 11))
	ask := func(who order.Principal, total int64, holds ...uuid.UUID) error {
		_, err := w.Shop.CreateOrder(ctx, order.OrderRequest{ID: uuid.New(), Principal: who, Holds: holds, Quote: order.Quote{Currency: "EUR", Total: total}})
		return err
	}
	if err := ask("b", 9000, h.ID); !errors.Is(err, order.ErrNotFound) {
		t.Errorf("another fan's hold: %v", err)
	}
	if err := ask("a", 0); !errors.Is(err, order.ErrNoSeats) {
		t.Errorf("no holds: %v", err)
	}
	if err := ask("a", 9000, uuid.New(), uuid.New(), uuid.New(), uuid.New(), uuid.New()); !errors.Is(err, order.ErrTooManyHolds) {
		t.Errorf("five holds: %v", err)
	}
	w.Box.Change(func(_ *order.Performance, p *order.SeatPrice) { p.Price = 5000 })
	var changed *order.PriceChanged
	if err := ask("a", 9000, h.ID); !errors.As(err, &changed) || changed.Now != (order.Quote{Currency: "EUR", Total: 11000}) {
		t.Errorf("the price went up: %v", err)
	}
	q, units, err := w.Shop.QuoteHolds(ctx, "a", []uuid.UUID{h.ID, h.ID})
	if err != nil || q.Total != 11000 || len(units) != 2 || units[0].Total() != 5500 {
		t.Errorf("quote: %+v, %+v, %v", q, units, err)
	}
	if err := ask("a", 11000, h.ID); err != nil {
		t.Fatal(err)
	}
	if err := ask("a", 11000, h.ID); !is[*order.HoldInOrder](err) {
		t.Errorf("a hold in two orders: %v", err)
	}
	if err := w.Shop.ReleaseHold(ctx, "a", h.ID); !is[*order.HoldInOrder](err) {
		t.Errorf("a hold was taken out of its order: %v", err)
	}
	late := mustHold(t, w, request(w, "a", 2, 1))
	w.Clock.Advance(9 * time.Minute)
	if err := ask("a", 5500, late.ID); !errors.Is(err, order.ErrHoldExpired) {
		t.Errorf("an expired hold: %v", err)
	}
}

func TestCheckoutRefuses(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	o := mustOrder(t, w, "a", 10)
	r := order.CheckoutRequest{Principal: "a", OrderID: o.ID, PaymentID: uuid.New(), ReturnURL: back}
	for _, u := range []string{"", "/orders/1", "javascript:alert(1)", "ftp://shop.test/", "http://"} {
		bad := r
		bad.ReturnURL = u
		if _, err := w.Shop.Checkout(ctx, bad); !errors.Is(err, order.ErrBadReturnURL) {
			t.Errorf("return to %q: %v", u, err)
		}
	}
	foreign := r
	foreign.Principal = "b"
	if _, err := w.Shop.Checkout(ctx, foreign); !errors.Is(err, order.ErrNotFound) {
		t.Errorf("another fan pays: %v", err)
	}
	first, err := w.Shop.Checkout(ctx, r)
	if err != nil || first.State != order.Paying {
		t.Fatal(first.State, err)
	}
	if len(w.Foyer.Extended) != 1 {
		t.Errorf("the waiting room was told %v", w.Foyer.Extended)
	}
	again, err := w.Shop.Checkout(ctx, r) // a double click
	if err != nil || again.NextAction() != first.NextAction() || len(again.Payments) != 1 {
		t.Errorf("the same checkout again: %+v, %v", again.Payments, err)
	}
	other := r
	other.PaymentID = uuid.New()
	var open *order.AttemptOpen
	if _, err := w.Shop.Checkout(ctx, other); !errors.As(err, &open) || open.NextAction != first.NextAction() {
		t.Errorf("a second attempt beside an open one: %v", err)
	}
	if _, err := w.Shop.ExtendHold(ctx, "a", first.Holds[0].ID); !is[*order.HoldInOrder](err) {
		t.Errorf("a pinned hold was extended: %v", err)
	}
	if _, err := w.PayOnPage(first.NextAction(), "4242 4242 4242 4242"); err != nil {
		t.Fatal(err)
	}
	paid, err := w.Shop.Look(ctx, "a", o.ID)
	if err != nil || paid.State != order.Paid {
		t.Fatal(paid.State, err)
	}
	if _, err := w.Shop.Checkout(ctx, other); !is[*order.WrongState](err) {
		t.Errorf("a paid order was paid again: %v", err)
	}
	if _, err := w.Shop.Cancel(ctx, "a", o.ID); !is[*order.WrongState](err) {
		t.Errorf("a paid order was cancelled: %v", err)
	}
	if again, err := w.Shop.Look(ctx, "a", o.ID); err != nil || again.Version != paid.Version { // the back button
		t.Errorf("looking at a paid order changed it: %d, %v", again.Version, err)
	}
	// The pass is used up.
	if _, err := w.Shop.CreateHold(ctx, request(w, "a", 5, 1)); !errors.Is(err, order.ErrPassUsed) {
		t.Errorf("a used pass holds seats: %v", err)
	}
	late := mustOrder(t, w, "c", 30)
	w.Clock.Advance(8*time.Minute - 2*time.Second)
	if _, err := w.Shop.Checkout(ctx, order.CheckoutRequest{Principal: "c", OrderID: late.ID, PaymentID: uuid.New(), ReturnURL: back}); !errors.Is(err, order.ErrHoldExpired) {
		t.Errorf("checked out with two seconds left: %v", err)
	}
}

func TestADeclinedTokenIsSaidAtOnce(t *testing.T) {
	w := world(t)
	o := mustOrder(t, w, "a", 10)
	var declined *order.Declined
	o, err := w.Shop.Checkout(t.Context(), order.CheckoutRequest{Principal: "a", OrderID: o.ID, PaymentID: uuid.New(), PaymentToken: "4000000000009979", ReturnURL: back})
	if !errors.As(err, &declined) || declined.Code != "stolen_card" || o.State != order.Paying {
		t.Fatalf("%s, %v", o.State, err)
	}
	o, err = w.Shop.Checkout(t.Context(), order.CheckoutRequest{Principal: "a", OrderID: o.ID, PaymentID: uuid.New(), PaymentToken: "4242424242424242", ReturnURL: back})
	if err != nil || o.State != order.Paid {
		t.Errorf("with another token: %s, %v", o.State, err)
	}
	o = mustOrder(t, w, "b", 20)
	o, err = w.Shop.Checkout(t.Context(), order.CheckoutRequest{Principal: "b", OrderID: o.ID, PaymentID: uuid.New(), PaymentToken: "1234", ReturnURL: back})
	if !errors.As(err, &declined) || declined.Code != "payment_method" || o.State != order.Paying {
		t.Errorf("with a token that nobody knows: %s, %v", o.State, err)
	}
}

func TestTheLeaseIsGoneAtCheckout(t *testing.T) {
	w := world(t)
	o := mustOrder(t, w, "a", 10)
	w.House.Lapse(o.Holds[0].ID)
	o, err := w.Shop.Checkout(t.Context(), order.CheckoutRequest{Principal: "a", OrderID: o.ID, PaymentID: uuid.New(), ReturnURL: back})
	if !errors.Is(err, order.ErrHoldExpired) || o.State != order.Cancelled {
		t.Errorf("%s, %v", o.State, err)
	}
	if p := o.Attempt(); p.State != payment.Failed || p.Ref != "" {
		t.Errorf("the provider was asked before the seats were sure: %+v", p)
	}
	w.Settle(time.Hour)
	w.Check()
}

// Two orders claim one seat: one that is late, and the one that holds it now.
// The second waits while the first may still lose.
func TestAClaimInTheWayIsWaitedFor(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	a, b := mustOrder(t, w, "a", 10), mustOrder(t, w, "b", 20)
	a, b = mustCheckout(t, w, a), mustCheckout(t, w, b)
	// The impossible happened: b's seat is a's, too, in the claims.
	if err := w.Store.Tx(ctx, func(tx order.Tx) error {
		_, err := tx.Claim(ctx, w.Perf, a.ID, []order.Seat{{Block: 1, Seat: 20}})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.PayOnPage(b.NextAction(), "4242424242424242"); err != nil {
		t.Fatal(err)
	}
	got, err := w.Shop.Look(ctx, "b", b.ID)
	if err != nil || got.State != order.Paying || got.Attempt().State != payment.Authorised {
		t.Fatalf("beside a claim that is not sold: %s, payment %s, %v", got.State, got.Attempt().State, err)
	}
	w.Settle(30 * time.Second)
	if err := w.Store.Tx(ctx, func(tx order.Tx) error { return tx.DropClaims(ctx, w.Perf, a.ID, []order.Seat{{Block: 1, Seat: 20}}) }); err != nil {
		t.Fatal(err)
	}
	w.Settle(30 * time.Second)
	if got, err = w.Shop.GetOrder(ctx, "b", b.ID); err != nil || got.State != order.Paid {
		t.Errorf("after the claim went away: %s, %v", got.State, err)
	}
}

func TestASoldClaimInTheWayLosesAtOnce(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	a, b := mustOrder(t, w, "a", 10), mustCheckout(t, w, mustOrder(t, w, "b", 20))
	if err := w.Store.Tx(ctx, func(tx order.Tx) error {
		_, err := tx.Claim(ctx, w.Perf, a.ID, []order.Seat{{Block: 1, Seat: 20}})
		return errors.Join(err, tx.SetClaimsSold(ctx, a.ID, true))
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.PayOnPage(b.NextAction(), "4242424242424242"); err != nil {
		t.Fatal(err)
	}
	got, err := w.Shop.Look(ctx, "b", b.ID)
	if err != nil || got.State != order.Cancelled || got.Cause != order.BySeats || got.Attempt().State != payment.Voided {
		t.Errorf("%s (%s), payment %s, %v", got.State, got.Cause, got.Attempt().State, err)
	}
}

func TestAFrozenBlockWaitsWithTheMoneyUntaken(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	o := mustCheckout(t, w, mustOrder(t, w, "a", 10))
	w.House.SetBlock(1, order.Frozen)
	if _, err := w.PayOnPage(o.NextAction(), "4242424242424242"); err != nil {
		t.Fatal(err)
	}
	got, err := w.Shop.Look(ctx, "a", o.ID)
	if err != nil || got.State != order.Securing {
		t.Fatalf("%s, %v", got.State, err)
	}
	w.Settle(20 * time.Minute)
	if got, err = w.Shop.GetOrder(ctx, "a", o.ID); err != nil || got.State != order.Securing || got.Attempt().State != payment.Authorised {
		t.Fatalf("after 20 minutes: %s, payment %s, %v", got.State, got.Attempt().State, err)
	}
	if !got.Holds[0].Until.After(w.Clock.Now()) {
		t.Error("the pin was let go while the block is frozen")
	}
	w.House.SetBlock(1, order.Done)
	w.Settle(time.Minute)
	if got, err = w.Shop.GetOrder(ctx, "a", o.ID); err != nil || got.State != order.Paid {
		t.Errorf("after the thaw: %s, %v", got.State, err)
	}
	w.Check()
}

func TestRefundRefuses(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	o := mustCheckout(t, w, mustOrder(t, w, "a", 10, 11, 12))
	if _, err := w.Shop.Refund(ctx, order.Staff, o.ID, nil, "x"); !is[*order.WrongState](err) {
		t.Errorf("an unpaid order was refunded: %v", err)
	}
	if _, err := w.PayOnPage(o.NextAction(), "4000000000005126"); err != nil { // refunds fail
		t.Fatal(err)
	}
	if _, err := w.Shop.Look(ctx, "a", o.ID); err != nil {
		t.Fatal(err)
	}
	for name, units := range map[string][]int{"unknown": {4}, "one of two unknown": {1, 9}} {
		if _, err := w.Shop.Refund(ctx, order.Staff, o.ID, units, "x"); !errors.Is(err, order.ErrUnitRefunded) {
			t.Errorf("%s unit: %v", name, err)
		}
	}
	got, err := w.Shop.Refund(ctx, order.Staff, o.ID, []int{2}, "x")
	if err != nil || got.State != order.PartRefunded || got.Refunds[0].State != payment.RefundFailed {
		t.Fatalf("a refund that fails: %s, %+v, %v", got.State, got.Refunds, err)
	}
	if _, err := w.Shop.Refund(ctx, order.Staff, o.ID, []int{2}, "x"); !errors.Is(err, order.ErrUnitRefunded) {
		t.Errorf("a unit was refunded twice: %v", err)
	}
	again, err := w.Shop.RetryRefund(ctx, o.ID, got.Refunds[0].ID)
	if err != nil || again.Refunds[0].Attempt != 2 || again.Refunds[0].State != payment.RefundFailed {
		t.Errorf("a second try: %+v, %v", again.Refunds, err)
	}
	if got.Attempt().Refunding != 4500 || got.Attempt().Refunded != 0 {
		t.Errorf("the money that did not go: %+v", got.Attempt())
	}
}

func TestEventsTellTheStory(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	o := mustCheckout(t, w, mustOrder(t, w, "a", 10, 11))
	if _, err := w.PayOnPage(o.NextAction(), "4242424242424242"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Shop.Look(ctx, "a", o.ID); err != nil {
		t.Fatal(err)
	}
	tickets, passes, last := 0, 0, int64(0)
	seen := map[string]bool{}
	var done bus.Event
	for shard := range bus.Shards {
		es, err := w.Store.Head(ctx, shard, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if seen[e.DedupeKey()] {
				t.Errorf("two events share the key %s", e.DedupeKey())
			}
			seen[e.DedupeKey()] = true
			switch e.Topic {
			case bus.TopicOrders:
				if e.Version <= last {
					t.Errorf("version %d after %d", e.Version, last)
				}
				last = e.Version
			case bus.TopicTickets:
				tickets++
			case bus.TopicPasses:
				passes++
				done = e
			}
		}
	}
	if tickets != 2 || passes != 1 || last == 0 {
		t.Fatalf("%d tickets, %d passes, last version %d", tickets, passes, last)
	}
	h := order.PlaceBack(w.Foyer)
	w.Foyer.FailNext(1)
	if err := h(ctx, done); err == nil {
		t.Error("the waiting room was away, and the event is taken for handled")
	}
	if err := h(ctx, done); err != nil || len(w.Foyer.Ended) != 1 || w.Foyer.Ended[0] != "onsale/session-a" {
		t.Errorf("place back: %v, %v", w.Foyer.Ended, err)
	}
	if err := h(ctx, bus.Event{Type: "other"}); err != nil || len(w.Foyer.Ended) != 1 {
		t.Errorf("another event: %v, %v", w.Foyer.Ended, err)
	}
	if err := h(ctx, bus.Event{Type: order.EventPassDone, Payload: []byte("{")}); err == nil {
		t.Error("a broken event is taken for handled")
	}
}

func TestAnAuthorisationLapsesBeforeTheCapture(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	o := mustCheckout(t, w, mustOrder(t, w, "a", 10))
	w.House.SetBlock(1, order.Frozen)
	if _, err := w.PayOnPage(o.NextAction(), "4242424242424242"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Shop.Look(ctx, "a", o.ID); err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(8 * 24 * time.Hour)
	w.House.SetBlock(1, order.Done)
	w.Settle(time.Hour)
	got, err := w.Shop.GetOrder(ctx, "a", o.ID)
	if err != nil || got.State != order.Cancelled || got.Cause != order.ByCapture {
		t.Errorf("%s (%s), %v", got.State, got.Cause, err)
	}
	w.Check()
}

func TestWebhooksAreStoredAndMatchedLater(t *testing.T) {
	w := world(t)
	ctx := t.Context()
	if err := w.Shop.Webhook(ctx, "nobody", nil, nil); !errors.Is(err, order.ErrNotFound) {
		t.Errorf("an unknown provider: %v", err)
	}
	if err := w.Shop.Webhook(ctx, "simulator", map[string][]string{"Psp-Signature": {"t=1,v1=00"}}, []byte("{}")); !errors.Is(err, payment.ErrBadSignature) {
		t.Errorf("a forged webhook: %v", err)
	}
	o := mustCheckout(t, w, mustOrder(t, w, "a", 10))
	if _, err := w.PayOnPage(o.NextAction(), "4242424242424242"); err != nil {
		t.Fatal(err)
	}
	// Stored by a process that died before it told anybody.
	if _, err := w.Store.AddWebhook(ctx, payment.Webhook{Provider: "simulator", EventID: "evt_1", Type: "x", Ref: o.Attempt().Ref, Body: []byte("{}"), Received: w.Clock.Now()}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Store.AddWebhook(ctx, payment.Webhook{Provider: "simulator", EventID: "evt_2", Type: "x", Ref: "pi_of_nobody", Body: []byte("{}"), Received: w.Clock.Now()}); err != nil {
		t.Fatal(err)
	}
	run, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Shop.Run(run) }()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for state := order.None; state != order.Paid; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the order is %s", state)
		}
		got, err := w.Shop.GetOrder(ctx, "a", o.ID)
		if err != nil {
			t.Fatal(err)
		}
		state = got.State
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the worker ended with %v", err)
	}
	open, err := w.Store.OpenWebhooks(ctx, 10)
	if err != nil || len(open) != 1 || open[0].EventID != "evt_2" {
		t.Errorf("open webhooks: %+v, %v", open, err)
	}
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	w := world(t)
	for name, o := range map[string]order.Options{
		"nothing":     {},
		"no provider": {Store: w.Store, Seats: w.House, Prices: w.Box},
	} {
		if _, err := order.New(o); err == nil {
			t.Errorf("%s: made", name)
		}
	}
}
