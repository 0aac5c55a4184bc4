package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/payment/pspsim"
)

// Storm lets fans fight for a few seats with everything going wrong at once:
// the inventory and the provider lose answers, webhooks are lost, doubled and
// late, fans change their minds and repeat themselves, and the process dies
// again and again. Afterwards everything must add up. The name of the subtest
// is the seed that repeats it.
func Storm(t *testing.T, open Open, seeds int) {
	reached := map[order.State]int{}
	if underRace {
		seeds = 1
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			for s, n := range storm(t, open, seed+1) {
				reached[s] += n
			}
		})
	}
	if t.Failed() || underRace {
		return
	}
	// A storm in which nobody sells, loses or gives back proves nothing. The
	// seed decides most of it; the order of equal moments and of ids does not.
	for _, s := range []order.State{order.Paid, order.Cancelled, order.Expired, order.Late, order.Closing, order.Refunded, order.Securing} {
		if reached[s] == 0 {
			t.Errorf("no order ever was %s: %v", s, reached)
		}
	}
	t.Logf("states reached: %v", reached)
}

func storm(t *testing.T, open Open, seed uint64) map[order.State]int {
	const fans, steps = 12, 160
	dice := rand.New(rand.NewPCG(seed, 7))
	w := NewWorld(t, open, WorldOptions{Seed: seed, Faults: pspsim.Faults{LoseRequest: 0.1, LoseAnswer: 0.1}})
	w.House.Faults(0.15)
	cards := []string{cardPays, cardPays, cardPays, cardChallenges, cardStolen, cardSlow, cardLosesAnswer, cardNoCapture, cardSelfCaptures, cardRefundPends}

	all := make([]*fan, fans)
	for i := range all {
		all[i] = newFan(w, fmt.Sprint(i))
	}
	// try is a request; a fan who gets an error thinks again.
	try := func(f func(ctx context.Context) error) error {
		err, _ := w.Do(f)
		return err
	}
	var orders []*fan
	act := func(f *fan) {
		o, err := f.get()
		if errors.Is(err, order.ErrNotFound) {
			if len(f.holds) > 0 && dice.IntN(4) > 0 {
				if try(func(ctx context.Context) error {
					_, err := w.Shop.CreateOrder(ctx, order.OrderRequest{ID: f.order, Principal: f.who, Holds: f.holds, Quote: f.quote})
					return err
				}) == nil {
					orders = append(orders, f)
				}
				return
			}
			r := order.HoldRequest{ID: uuid.New(), Principal: f.who, Pass: f.pass, Performance: w.Perf}
			block, first, n := dice.IntN(3), dice.IntN(6), 1+dice.IntN(3)
			for i := range n {
				r.Seats = append(r.Seats, order.Seat{Block: block, Seat: first + i})
			}
			for range 2 { // a repetition must find the first one's hold
				err = try(func(ctx context.Context) error {
					h, err := w.Shop.CreateHold(ctx, r)
					if err == nil && h.State == order.HoldPlacing {
						return order.ErrNotNow
					}
					return err
				})
			}
			if err == nil {
				f.holds = append(f.holds, r.ID)
				f.quote.Currency, f.quote.Total = "EUR", f.quote.Total+4500*int64(n)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		switch page := o.NextAction(); {
		case o.State == order.Draft || (o.State == order.Paying && page == ""):
			if dice.IntN(5) == 0 {
				_ = try(func(ctx context.Context) error { _, err := w.Shop.Cancel(ctx, f.who, f.order); return err })
				return
			}
			if p := o.Attempt(); p != nil && p.State.Settled() {
				f.payment = uuid.New()
			}
			_ = try(func(ctx context.Context) error {
				_, err := w.Shop.Checkout(ctx, order.CheckoutRequest{Principal: f.who, OrderID: f.order, PaymentID: f.payment, ReturnURL: shopURL})
				return err
			})
		case page != "":
			switch dice.IntN(6) {
			case 0:
				_ = try(func(ctx context.Context) error { _, err := w.Shop.Cancel(ctx, f.who, f.order); return err })
			case 1: // closes the tab, for now
			default:
				to, err := w.PayOnPage(page, cards[dice.IntN(len(cards))])
				if err == nil && to != shopURL {
					_, _ = w.Press(page, map[string][]string{"do": {"confirm"}})
				}
			}
			if dice.IntN(2) == 0 {
				_ = try(func(ctx context.Context) error { _, err := w.Shop.Look(ctx, f.who, f.order); return err })
			}
		case o.State == order.Paid && dice.IntN(4) == 0:
			_ = try(func(ctx context.Context) error {
				_, err := w.Shop.Refund(ctx, order.Staff, f.order, nil, "asked for")
				return err
			})
		}
	}
	for range steps {
		if dice.IntN(6) == 0 {
			w.KillAt(order.Points[dice.IntN(len(order.Points))])
		}
		switch dice.IntN(12) {
		case 0:
			w.Settle(time.Duration(dice.IntN(60)) * time.Second)
		case 1:
			w.Clock.Advance(time.Duration(dice.IntN(40)) * time.Second)
		case 2:
			if dice.IntN(2) == 0 {
				w.Cut(true)
				for _, f := range orders { // some pay while we cannot see it
					if o, err := f.get(); err == nil && o.NextAction() != "" && dice.IntN(2) == 0 {
						_, _ = w.PayOnPage(o.NextAction(), cards[dice.IntN(len(cards))])
					}
				}
				w.Settle(time.Duration(dice.IntN(60)) * time.Minute)
				w.Cut(false)
			}
		case 3:
			if len(orders) > 0 {
				f := orders[dice.IntN(len(orders))]
				if len(f.holds) > 0 && dice.IntN(3) == 0 {
					w.House.Lapse(f.holds[0])
				}
			}
		default:
			act(all[dice.IntN(fans)])
		}
	}
	// The weather clears.
	w.KillAt("")
	w.House.Faults(0)
	if err := w.Sim.SetFaults(pspsim.Faults{}); err != nil {
		t.Fatal(err)
	}
	w.Settle(4 * time.Hour)
	w.Check()
	w.Clock.Advance(2 * time.Hour)
	sold := w.House.Sold()
	for _, s := range w.House.Busy() {
		if _, ok := sold[s]; !ok {
			t.Errorf("seat %v is neither sold nor on offer", s)
		}
	}
	reached := map[order.State]int{}
	for _, f := range orders {
		hist, err := w.Store.History(t.Context(), f.order)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[order.State]bool{}
		for _, h := range hist {
			if !seen[h.To] {
				seen[h.To] = true
				reached[h.To]++
			}
		}
	}
	return reached
}
