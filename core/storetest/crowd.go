package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/payment/pspsim"
)

// Crowd lets many fans buy at the same time from two services that share a
// store and know nothing of each other, with workers, webhooks and the fan's own requests all driving the
// same orders, and answers lost on all sides. Afterwards everything must add
// up.
func Crowd(t *testing.T, open Open, fans int) {
	w := NewWorld(t, open, WorldOptions{Hooks: true, Real: true, Seed: 5, Faults: pspsim.Faults{LoseRequest: 0.05, LoseAnswer: 0.05, LoseHook: 0.1, DoubleHook: 0.2, DelayHook: 0.2, DelayMaxMS: 50},
		Timing: order.Timing{RetryMin: 5 * time.Millisecond, RetryMax: 100 * time.Millisecond, PollMin: 50 * time.Millisecond, PollMax: 200 * time.Millisecond, WebhookRetry: 50 * time.Millisecond}})
	w.House.Faults(0.05)
	shops := []*order.Service{w.Shop, w.process(w.Store, func(string) {})}
	ctx, cancel := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	for _, s := range shops {
		workers.Go(func() {
			if err := s.Run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("a worker ended with %v", err)
			}
		})
	}
	stop := sync.OnceFunc(func() {
		cancel()
		workers.Wait()
	})
	defer stop()

	cards := []string{cardPays, cardPays, cardChallenges, cardLosesAnswer, cardNoCapture, cardStolen, cardSelfCaptures}
	var crowd sync.WaitGroup
	for i := range fans {
		crowd.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(i), 3))
			f := newFan(w, fmt.Sprint(i))
			if err := f.rush(ctx, shops, dice, cards); err != nil {
				t.Errorf("fan %d: %v", i, err)
			}
		})
	}
	crowd.Wait()
	w.House.Faults(0)
	if err := w.Sim.SetFaults(pspsim.Faults{}); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * time.Minute)
	for {
		var busy int
		if err := w.Store.Read().QueryRowContext(ctx, `SELECT count(*) FROM orders WHERE next_at_ms IS NOT NULL`).Scan(&busy); err != nil {
			t.Fatal(err)
		}
		if busy == 0 {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d orders never come to rest", busy)
		}
	}
	stop()
	w.Check()
	if w.House.Sales == 0 {
		t.Error("nobody bought anything")
	}
}

// rush buys as a fan in a hurry does: every request goes to any process, some
// twice at once.
func (f *fan) rush(ctx context.Context, shops []*order.Service, dice *rand.Rand, cards []string) error {
	w := f.w
	shop := func() *order.Service { return shops[dice.IntN(len(shops))] }
	const patience = 2 * time.Minute
	end := time.Now().Add(patience)
	var hold uuid.UUID
	var n int
	for hold == uuid.Nil { // some seats are taken: others, then
		if time.Now().After(end) {
			return errors.New("no seats in two minutes")
		}
		r := order.HoldRequest{ID: uuid.New(), Principal: f.who, Pass: f.pass, Performance: w.Perf}
		block, first := dice.IntN(4), dice.IntN(12)
		n = 1 + dice.IntN(3)
		for i := range n {
			r.Seats = append(r.Seats, order.Seat{Block: block, Seat: first + i})
		}
		var taken *order.SeatsTaken
		var limit *order.PassLimit
		h, err := shop().CreateHold(ctx, r)
		for err == nil && h.State == order.HoldPlacing {
			h, err = shop().GetHold(ctx, f.who, r.ID)
		}
		switch {
		case err == nil:
			hold = r.ID
		case errors.As(err, &taken) && dice.IntN(4) == 0:
			return nil // nothing for this fan
		case errors.As(err, &taken):
		case errors.As(err, &limit):
			return fmt.Errorf("refused holds count: %w", err)
		default:
			return fmt.Errorf("hold: %w", err)
		}
	}
	if _, err := shop().CreateOrder(ctx, order.OrderRequest{ID: f.order, Principal: f.who, Holds: []uuid.UUID{hold}, Quote: order.Quote{Currency: "EUR", Total: 4500 * int64(n)}}); err != nil {
		return fmt.Errorf("order: %w", err)
	}
	tries, paid := 0, false
	for {
		o, err := shop().GetOrder(ctx, f.who, f.order)
		if err != nil {
			return fmt.Errorf("get: %w", err)
		}
		page := o.NextAction()
		switch {
		case o.State == order.Draft, o.State == order.Paying && o.Attempt().State.Settled() && tries < 3:
			if tries == 3 || time.Now().After(end) {
				_, err := shop().Cancel(ctx, f.who, f.order)
				return err
			}
			tries++
			f.payment = uuid.New()
			r := order.CheckoutRequest{Principal: f.who, OrderID: f.order, PaymentID: f.payment, ReturnURL: shopURL}
			var twice sync.WaitGroup
			a, b := shop(), shop()
			for _, s := range []*order.Service{a, b} { // a double click
				twice.Go(func() { _, _ = s.Checkout(ctx, r) })
			}
			twice.Wait()
			paid = false
		case page != "" && !paid:
			to, err := w.PayOnPage(page, cards[dice.IntN(len(cards))])
			if err == nil && to != shopURL {
				_, _ = w.Press(page, map[string][]string{"do": {"confirm"}})
			}
			paid = true
			if dice.IntN(2) == 0 {
				_, _ = shop().Look(ctx, f.who, f.order)
			}
			if dice.IntN(8) == 0 {
				_, _ = shop().Cancel(ctx, f.who, f.order)
			}
		case o.State == order.Paying && (time.Now().After(end) || o.Attempt().State.Settled()):
			_, err := shop().Cancel(ctx, f.who, f.order)
			return err
		case o.State.Over():
			return nil
		case time.Now().After(end):
			return fmt.Errorf("still %s after two minutes", o.State)
		default: // the page of the order asks again
			t := time.NewTimer(5 * time.Millisecond)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return ctx.Err()
			}
		}
	}
}
