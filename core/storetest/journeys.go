package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/order"
)

// Test cards of the simulator.
const (
	cardPays         = "4242424242424242"
	cardDeclined     = "4000000000000002"
	cardStolen       = "4000000000009979"
	cardChallenges   = "4000000000003220"
	cardSlow         = "4000000000000077"
	cardLosesAnswer  = "4000000000000341"
	cardNoCapture    = "4000000000000101"
	cardSelfCaptures = "4000000000000127"
	cardRefundPends  = "4000000000007726"
)

// fan is one buyer with fixed ids, so that a repeated request is the same
// request.
type fan struct {
	w       *World
	who     order.Principal
	pass    *order.Pass
	holds   []uuid.UUID
	order   uuid.UUID
	payment uuid.UUID
	quote   order.Quote
}

func newFan(w *World, name string) *fan {
	return &fan{w: w, who: order.Principal("guest:" + name), pass: w.Pass("session-" + name), order: uuid.New(), payment: uuid.New()}
}

// hold takes seats of a block.
func (f *fan) hold(block int, seats ...int) error {
	r := order.HoldRequest{ID: uuid.New(), Principal: f.who, Pass: f.pass, Performance: f.w.Perf}
	for _, n := range seats {
		r.Seats = append(r.Seats, order.Seat{Block: block, Seat: n})
	}
	err := f.w.Try(func(ctx context.Context) error {
		h, err := f.w.Shop.CreateHold(ctx, r)
		if err == nil && h.State == order.HoldPlacing {
			return order.ErrNotNow
		}
		return err
	})
	if err == nil {
		f.holds = append(f.holds, r.ID)
		f.quote.Currency, f.quote.Total = "EUR", f.quote.Total+4500*int64(len(seats))
	}
	return err
}

func (f *fan) makeOrder() error {
	return f.w.Try(func(ctx context.Context) error {
		_, err := f.w.Shop.CreateOrder(ctx, order.OrderRequest{ID: f.order, Principal: f.who, Holds: f.holds, Quote: f.quote})
		return err
	})
}

func (f *fan) checkout() (o order.Order, err error) {
	err = f.w.Try(func(ctx context.Context) (err error) {
		o, err = f.w.Shop.Checkout(ctx, order.CheckoutRequest{Principal: f.who, OrderID: f.order, PaymentID: f.payment, ReturnURL: shopURL})
		return err
	})
	return o, err
}

// toPage holds two seats in each of the blocks, makes an order and goes to the
// provider's page.
func (f *fan) toPage(blocks ...int) (page string, err error) {
	for _, b := range blocks {
		if err := f.hold(b, 10, 11); err != nil {
			return "", fmt.Errorf("hold: %w", err)
		}
	}
	if err := f.makeOrder(); err != nil {
		return "", fmt.Errorf("order: %w", err)
	}
	o, err := f.checkout()
	if err != nil {
		return "", fmt.Errorf("check out: %w", err)
	}
	if o.NextAction() == "" { // the answer was not known; the fan's page asks again
		f.w.Settle(5 * time.Second)
		if o, err = f.get(); err != nil {
			return "", err
		}
	}
	if o.NextAction() == "" {
		return "", fmt.Errorf("no page to pay on in %s", o.State)
	}
	return o.NextAction(), nil
}

func (f *fan) get() (o order.Order, err error) {
	return f.w.Shop.GetOrder(f.w.T.Context(), f.who, f.order)
}

// back is the fan coming back from the provider's page.
func (f *fan) back() (o order.Order, err error) {
	err = f.w.Try(func(ctx context.Context) (err error) {
		o, err = f.w.Shop.Look(ctx, f.who, f.order)
		return err
	})
	return o, err
}

func (f *fan) cancel() (o order.Order, err error) {
	err = f.w.Try(func(ctx context.Context) (err error) {
		o, err = f.w.Shop.Cancel(ctx, f.who, f.order)
		return err
	})
	return o, err
}

func (f *fan) pay(page, card string) error {
	to, err := f.w.PayOnPage(page, card)
	if err == nil && to != shopURL {
		err = fmt.Errorf("the provider leads to %q", to)
	}
	return err
}

// journey is a way through the shop. It must come to the same end however
// often, and wherever, the process dies.
type journey struct {
	name    string
	options WorldOptions
	run     func(w *World) (want []wanted, err error)
}

type wanted struct {
	fan   *fan
	state order.State
}

func one(f *fan, s order.State) []wanted { return []wanted{{f, s}} }

// Journeys are all ways that are killed at every point they pass.
var journeys = []journey{
	{name: "pay", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1, 2)
		if err == nil {
			err = f.pay(page, cardPays)
		}
		if err == nil {
			_, err = f.back()
		}
		return one(f, order.Paid), err
	}},
	{name: "pay with 3-D Secure and never come back", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1)
		if err != nil {
			return nil, err
		}
		if to, err := w.PayOnPage(page, cardChallenges); err != nil || to == shopURL {
			return nil, fmt.Errorf("no challenge: %q, %w", to, err)
		}
		if to, err := w.Press(page, url.Values{"do": {"confirm"}}); err != nil || to != shopURL {
			return nil, fmt.Errorf("the challenge leads to %q, %w", to, err)
		}
		return one(f, order.Paid), nil
	}},
	{name: "a webhook says it first", options: WorldOptions{Hooks: true}, run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1)
		if err == nil {
			err = f.pay(page, cardPays)
		}
		if err == nil {
			w.AwaitHook()
		}
		return one(f, order.Paid), err
	}},
	{name: "a slow bank", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1)
		if err == nil {
			_, err = w.PayOnPage(page, cardSlow)
		}
		if err == nil {
			w.Clock.Advance(2 * time.Second)
			_, err = f.back()
		}
		return one(f, order.Paid), err
	}},
	{name: "the capture's answer is lost", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1)
		if err == nil {
			err = f.pay(page, cardLosesAnswer)
		}
		if err == nil {
			_, err = f.back()
		}
		return one(f, order.Paid), err
	}},
	{name: "the bank will not give the money", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1, 2)
		if err == nil {
			err = f.pay(page, cardNoCapture)
		}
		if err == nil {
			_, err = f.back()
		}
		return one(f, order.Cancelled), err
	}},
	{name: "declined, then another attempt", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1)
		if err == nil {
			_, err = w.PayOnPage(page, cardStolen)
		}
		if err == nil {
			_, err = f.back()
		}
		if err != nil {
			return nil, err
		}
		f.payment = uuid.New()
		o, err := f.checkout()
		if err == nil && o.NextAction() == "" {
			w.Settle(5 * time.Second)
			o, err = f.get()
		}
		if err == nil {
			err = f.pay(o.NextAction(), cardPays)
		}
		if err == nil {
			_, err = f.back()
		}
		return one(f, order.Paid), err
	}},
	{name: "never pay", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		_, err := f.toPage(1)
		return one(f, order.Expired), err
	}},
	{name: "never check out", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		err := f.hold(1, 10)
		if err == nil {
			err = f.makeOrder()
		}
		return one(f, order.Expired), err
	}},
	{name: "hold and let go", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		err := f.hold(1, 10)
		if err == nil {
			err = w.Try(func(ctx context.Context) error { return w.Shop.ReleaseHold(ctx, f.who, f.holds[0]) })
		}
		if err == nil && len(w.House.Busy()) > 0 {
			err = errors.New("seats that were let go are not free")
		}
		return nil, err
	}},
	{name: "cancel on the page", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		_, err := f.toPage(1)
		if err == nil {
			_, err = f.cancel()
		}
		return one(f, order.Cancelled), err
	}},
	{name: "cancel after paying", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1)
		if err == nil {
			err = f.pay(page, cardPays)
		}
		if err == nil {
			_, err = f.cancel()
		}
		return one(f, order.Cancelled), err
	}},
	{name: "cancel after a transfer", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1)
		if err == nil {
			err = f.pay(page, cardSelfCaptures)
		}
		if err == nil {
			_, err = f.cancel()
		}
		return one(f, order.Refunded), err
	}},
	{name: "the seats are lost", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1, 2)
		if err == nil {
			err = f.pay(page, cardPays)
		}
		if err == nil {
			w.House.Steal(order.Seat{Block: 2, Seat: 10}, uuid.New())
			_, err = f.back()
		}
		return one(f, order.Cancelled), err
	}},
	{name: "the seats are lost after a transfer", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1, 2)
		if err == nil {
			err = f.pay(page, cardSelfCaptures)
		}
		if err == nil {
			w.House.Steal(order.Seat{Block: 2, Seat: 10}, uuid.New())
			_, err = f.back()
		}
		return one(f, order.Refunded), err
	}},
	{name: "the lease is over but the seats are free", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1, 2)
		if err == nil {
			err = f.pay(page, cardPays)
		}
		if err == nil {
			w.House.Lapse(f.holds[0])
			_, err = f.back()
		}
		return one(f, order.Paid), err
	}},
	{name: "paid while the provider is away, late", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1)
		if err == nil {
			w.Cut(true)
			err = f.pay(page, cardPays)
		}
		if err == nil {
			w.Settle(40 * time.Minute) // closing, extending, at last expired
			w.Cut(false)
		}
		return one(f, order.Paid), err
	}},
	{name: "paid too late, the seats are gone", run: func(w *World) ([]wanted, error) {
		f, g := newFan(w, "a"), newFan(w, "b")
		page, err := f.toPage(1)
		if err == nil {
			w.Cut(true)
			err = f.pay(page, cardPays)
		}
		if err != nil {
			return nil, err
		}
		w.Settle(40 * time.Minute)
		if err := g.hold(1, 11, 12); err != nil {
			return nil, err
		}
		w.Cut(false)
		return one(f, order.Cancelled), g.makeOrder()
	}},
	{name: "paid too late, the sale is over", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1)
		if err == nil {
			w.Cut(true)
			err = f.pay(page, cardSelfCaptures)
		}
		if err == nil {
			w.Settle(40 * time.Minute)
			w.Box.Change(func(p *order.Performance, _ *order.SeatPrice) { p.SaleOpen = false })
			w.Cut(false)
		}
		return one(f, order.Refunded), err
	}},
	{name: "refund one seat, then the rest", run: func(w *World) ([]wanted, error) {
		f := newFan(w, "a")
		page, err := f.toPage(1)
		if err == nil {
			err = f.pay(page, cardRefundPends)
		}
		if err == nil {
			_, err = f.back()
		}
		if err != nil {
			return nil, err
		}
		w.Settle(time.Minute)
		refund := func(units ...int) error {
			err := w.Try(func(ctx context.Context) error {
				_, err := w.Shop.Refund(ctx, order.Staff, f.order, units, "asked for")
				return err
			})
			var wrong *order.WrongState
			if errors.Is(err, order.ErrUnitRefunded) || (errors.As(err, &wrong) && wrong.State != order.Paid) { // the first try had done it
				return nil
			}
			return err
		}
		if err := refund(2); err != nil {
			return nil, err
		}
		w.Settle(5 * time.Minute)
		if o, err := f.get(); err != nil || o.State != order.PartRefunded {
			return nil, fmt.Errorf("after a part: %s, %w", o.State, err)
		}
		if busy := w.House.Busy(); len(busy) != 1 || busy[0] != (order.Seat{Block: 1, Seat: 10}) {
			return nil, fmt.Errorf("after a part, not on offer: %v", busy)
		}
		return one(f, order.Refunded), refund()
	}},
	{name: "two fans, one seat after the other", run: func(w *World) ([]wanted, error) {
		f, g := newFan(w, "a"), newFan(w, "b")
		_, err := f.toPage(1)
		if err != nil {
			return nil, err
		}
		if err := g.hold(1, 11, 12); err == nil {
			return nil, errors.New("two fans hold one seat")
		}
		if _, err := f.cancel(); err != nil {
			return nil, err
		}
		w.Settle(time.Minute)
		page, err := g.toPage(1)
		if err == nil {
			err = g.pay(page, cardPays)
		}
		if err == nil {
			_, err = g.back()
		}
		return []wanted{{f, order.Cancelled}, {g, order.Paid}}, err
	}},
	{name: "nothing to pay", run: func(w *World) ([]wanted, error) {
		w.Box.Change(func(_ *order.Performance, p *order.SeatPrice) { p.Price, p.Fee, p.Tax = 0, 0, 0 })
		f := newFan(w, "a")
		if err := f.hold(1, 10, 11); err != nil {
			return nil, err
		}
		f.quote.Total = 0
		err := f.makeOrder()
		if err == nil {
			_, err = f.checkout()
			var wrong *order.WrongState
			if errors.As(err, &wrong) && wrong.State != order.Draft { // the first try had done it
				err = nil
			}
		}
		return one(f, order.Paid), err
	}},
}

// early are the points on the way to the provider's page.
var early = []string{order.PointHoldStored, order.PointHoldAsked, order.PointOrderStored, order.PointPayingStored, order.PointPinned, order.PointCreateStored, order.PointCreated}

// Journeys goes every way, and again with the process killed at each point
// that it passes.
func Journeys(t *testing.T, open Open) {
	for _, j := range journeys {
		t.Run(j.name, func(t *testing.T) {
			t.Parallel()
			points := slices.Compact(slices.Sorted(slices.Values(travel(t, open, j, ""))))
			if len(points) < 2 {
				t.Fatalf("the journey passes only %v", points)
			}
			if underRace {
				return
			}
			for _, p := range points {
				if slices.Contains(early, p) && j.name != journeys[0].name {
					continue // the way to the provider's page is the same for all
				}
				t.Run("killed at "+p, func(t *testing.T) { travel(t, open, j, p) })
			}
		})
	}
}

// Points returns the points that the journeys pass, without killing anybody.
func Points(t *testing.T, open Open) []string {
	var all []string
	for _, j := range journeys {
		all = append(all, travel(t, open, j, "")...)
	}
	return slices.Compact(slices.Sorted(slices.Values(all)))
}

func travel(t *testing.T, open Open, j journey, kill string) (points []string) {
	t.Helper()
	w := NewWorld(t, open, j.options)
	w.KillAt(kill)
	want, err := j.run(w)
	if err != nil {
		t.Fatalf("%s: %v", j.name, err)
	}
	w.Settle(2 * time.Hour)
	if w.killAt != "" {
		t.Fatalf("the journey did not pass %s this time", kill)
	}
	for _, x := range want {
		o, err := x.fan.get()
		if err != nil {
			t.Fatalf("%s: %v", x.fan.who, err)
		}
		if o.State != x.state {
			hist, _ := w.Store.History(t.Context(), o.ID)
			for _, h := range hist {
				t.Logf("%d %s -> %s by %s (%s)", h.Seq, h.From, h.To, h.Event, h.CauseID)
			}
			for _, p := range o.Payments {
				t.Logf("payment %d: %s captured %d refunded %d unknown since %s", p.Attempt, p.State, p.Captured, p.Refunded, p.UnknownSince)
			}
			t.Errorf("%s's order is %s (%s), want %s", x.fan.who, o.State, o.Cause, x.state)
		}
	}
	w.Check()
	w.Clock.Advance(2 * time.Hour) // all leases are over
	sold := w.House.Sold()
	for _, s := range w.House.Busy() {
		if _, ok := sold[s]; !ok {
			t.Errorf("seat %v is neither sold nor on offer", s)
		}
	}
	return w.Seen()
}
