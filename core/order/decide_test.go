package order

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/stanchion-queue/stanchion/core/payment"
)

// anyOrder draws an order as the store could hold it, and many that it could
// not: the decision must be sound for all of them.
func anyOrder(t *rapid.T, now time.Time) *Order {
	moment := func(name string) time.Time {
		if rapid.IntRange(0, 3).Draw(t, name+" set") == 0 {
			return time.Time{}
		}
		return now.Add(time.Duration(rapid.Int64Range(-3600, 3600).Draw(t, name)) * time.Second)
	}
	o := &Order{ID: uuid.New(), State: rapid.SampledFrom(States).Draw(t, "state"), Total: rapid.SampledFrom([]int64{0, 9000}).Draw(t, "total"), PinUntil: moment("pin until")}
	switch o.State {
	case Closing:
		o.Cause = rapid.SampledFrom([]Cause{ByFan, ByTimer}).Draw(t, "cause")
	case Expired:
		o.Cause = ByTimer
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "holds") {
		h := Hold{ID: uuid.New(), Until: now.Add(time.Duration(rapid.Int64Range(-600, 600).Draw(t, "until")) * time.Second), CapAt: now.Add(time.Hour),
			State: rapid.SampledFrom([]HoldState{HoldHeld, HoldPinned, HoldSelling, HoldSold, HoldReleased}).Draw(t, "hold")}
		o.Holds = append(o.Holds, h)
		o.Units = append(o.Units, Unit{Unit: i + 1, HoldID: h.ID, Price: 3000, State: rapid.SampledFrom([]UnitState{UnitLive, UnitRefunding, UnitRefunded, UnitCooling, UnitReturned}).Draw(t, "unit")})
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "payments") {
		p := payment.Payment{ID: uuid.New(), Attempt: i + 1, State: rapid.SampledFrom(payment.States).Draw(t, "payment"), Amount: 9000, LookAt: moment("look at"), Spare: rapid.Bool().Draw(t, "spare")}
		if p.State == payment.Captured {
			p.Authorised, p.Captured = 9000, 9000
			p.Refunded = rapid.Int64Range(0, 9000).Draw(t, "refunded")
		}
		o.Payments = append(o.Payments, p)
		if rapid.Bool().Draw(t, "refund") {
			o.Refunds = append(o.Refunds, payment.Refund{ID: uuid.New(), PaymentID: p.ID, Amount: 1, LookAt: moment("refund at"),
				State: rapid.SampledFrom([]payment.RefundState{payment.RefundAsked, payment.RefundSent, payment.RefundDone, payment.RefundFailed}).Draw(t, "refund state")})
		}
	}
	return o
}

// Whatever is stored, the saga never wants what its machine refuses, never
// asks a provider for what the payment's machine refuses, and never waits for
// a moment that has passed.
func TestDecisionsAreSound(t *testing.T) {
	timing := Timing{}.withDefaults()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		o := anyOrder(t, now)
		p := decide(o, now, timing)
		may := func(ev payment.Event) {
			if _, err := payment.Next(p.pay.State, ev); err != nil {
				t.Fatalf("%s for a payment in %s: %v", p.do, p.pay.State, err)
			}
		}
		switch p.do {
		case actMove:
			if _, err := Next(o.State, o.Cause, p.ev); err != nil {
				t.Fatalf("wants %s: %v", p.ev, err)
			}
		case actWait:
			if !p.at.IsZero() && !p.at.After(now) {
				t.Fatalf("waits for %s, which was %s ago", p.at, now.Sub(p.at))
			}
		case actDrop:
			may(payment.Drop)
		case actLetGo:
			may(payment.Void)
		case actCreate:
			if !p.pay.State.Open() {
				t.Fatalf("asks for an intent in %s", p.pay.State)
			}
			if o.State == Paying {
				for _, h := range o.Holds {
					if h.State != HoldPinned {
						t.Fatalf("asks the provider while a hold is %s", h.State)
					}
				}
			}
		case actCapture:
			if o.State != Secured && p.pay.State == payment.Authorised {
				t.Fatalf("captures in %s", o.State)
			}
		case actTidy:
			if o.State == Paying || o.State == Closing || o.State == Securing || o.State == Secured || o.State == Refunding {
				t.Fatalf("gives seats back in %s", o.State)
			}
			for _, u := range o.toTidy() {
				if o.State.HasTickets() && u.State == UnitLive {
					t.Fatalf("gives back a seat that was paid for")
				}
			}
		case actRefundMore:
			if p.pay.Undecided() <= 0 {
				t.Fatal("refunds money that is not there")
			}
		}
	})
}

// sleepyKeys counts how often old keys are forgotten.
type sleepyKeys struct {
	KeyStore
	before []time.Time
}

func (k *sleepyKeys) PruneKeys(_ context.Context, before time.Time) error {
	k.before = append(k.before, before)
	return nil
}

func TestOldKeysAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &sleepyKeys{}
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
		defer cancel()
		start := time.Now()
		if err := (&Idempotency{Store: k, Now: time.Now}).Run(ctx); err != context.DeadlineExceeded {
			t.Errorf("ended with %v", err)
		}
		if len(k.before) != 3 || !k.before[2].Equal(start.Add(20*time.Minute-48*time.Hour)) {
			t.Errorf("forgot what is older than %v", k.before)
		}
	})
}
