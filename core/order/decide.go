package order

import (
	"time"

	"github.com/stanchion-queue/stanchion/core/payment"
)

// Timing holds the durations of the saga. The zero value of a field is
// replaced by the default in its comment.
type Timing struct {
	HoldLease     time.Duration // a hold's first and each further lease; 8 min
	HoldCap       time.Duration // from the hold's birth to its last possible end; 30 min
	Pin           time.Duration // lease from checkout on; 10 min
	MinLease      time.Duration // shorter leases are refused; 5 s
	CloseBefore   time.Duration // pin left when the provider is asked to let go; 45 s
	ExtendBefore  time.Duration // pin left when a silent provider makes us extend it; 15 s
	AttemptNeeds  time.Duration // pin left for another attempt to pay; 60 s
	PollMin       time.Duration // between looks at a payment the fan is busy with, at first; 5 s
	PollMax       time.Duration // and later; 60 s
	RetryMin      time.Duration // between repetitions of an unknown call, at first; 500 ms
	RetryMax      time.Duration // and later; 10 s
	DriveLease    time.Duration // another process takes over an order after this; 10 s
	UnknownAlarm  time.Duration // an outcome unknown for longer is an alarm; 10 min
	RefundPoll    time.Duration // between looks at a refund that is on its way; 30 s
	WebhookRetry  time.Duration // between attempts to match stored webhooks; 10 s
	ProviderCalls time.Duration // time limit of one call to the provider; 10 s
	SeatCalls     time.Duration // time limit of one call to the inventory; 5 s
}

func (t Timing) withDefaults() Timing {
	for _, f := range []struct {
		d *time.Duration
		v time.Duration
	}{
		{&t.HoldLease, 8 * time.Minute}, {&t.HoldCap, 30 * time.Minute}, {&t.Pin, 10 * time.Minute}, {&t.MinLease, 5 * time.Second},
		{&t.CloseBefore, 45 * time.Second}, {&t.ExtendBefore, 15 * time.Second}, {&t.AttemptNeeds, time.Minute},
		{&t.PollMin, 5 * time.Second}, {&t.PollMax, time.Minute}, {&t.RetryMin, 500 * time.Millisecond}, {&t.RetryMax, 10 * time.Second},
		{&t.DriveLease, 10 * time.Second}, {&t.UnknownAlarm, 10 * time.Minute}, {&t.RefundPoll, 30 * time.Second},
		{&t.WebhookRetry, 10 * time.Second}, {&t.ProviderCalls, 10 * time.Second}, {&t.SeatCalls, 5 * time.Second},
	} {
		if *f.d <= 0 {
			*f.d = f.v
		}
	}
	return t
}

// act names what the saga does next with an order.
type act string

const (
	actWait       act = "wait"        // until plan.at (zero: until woken)
	actMove       act = "move"        // a transition that needs no I/O: plan.ev
	actPin        act = "pin"         // pin the holds before the provider is asked
	actExtendPin  act = "extend-pin"  // the provider is silent
	actCreate     act = "create"      // ask the provider for an intent
	actFetch      act = "fetch"       // look at the provider's object
	actLetGo      act = "let-go"      // look, and ask the provider to cancel
	actVoid       act = "void"        // undo at the provider
	actCapture    act = "capture"     // take the money
	actDrop       act = "drop"        // give up a payment the provider was never asked for
	actSettle     act = "settle"      // draw the consequences of a payment's state
	actSell       act = "sell"        // turn claimed seats into sold ones
	actTidy       act = "tidy"        // give seats back
	actRescue     act = "rescue"      // decide about late money
	actRefund     act = "refund"      // send a refund
	actRefundMore act = "refund-more" // order a refund of money that has no other use
)

type plan struct {
	do  act
	ev  Event
	pay *payment.Payment
	ref *payment.Refund
	at  time.Time
}

func wait(ts ...time.Time) plan {
	var at time.Time
	for _, t := range ts {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	return plan{do: actWait, at: at}
}

// decide is the saga's brain: from what is stored, what to do next. It is
// pure, and the same after a crash as before.
func decide(o *Order, now time.Time, t Timing) plan {
	switch o.State {
	case Draft:
		if until := o.PayBy(); !now.Before(until) {
			return plan{do: actMove, ev: LeaseOver}
		} else {
			return wait(until)
		}
	case Paying:
		return decidePaying(o, now, t)
	case Closing:
		return decideClosing(o, now, t)
	case Securing:
		return plan{do: actSell}
	case Secured:
		return decideSecured(o, now)
	case Late:
		return plan{do: actRescue}
	case Refunding:
		if p, ok := duePayment(o, now); ok {
			return p
		}
		if p, ok := dueRefund(o, now); ok {
			return p
		}
		if money := o.undecided(); money != nil {
			return plan{do: actRefundMore, pay: money}
		}
		if o.allRefunded() {
			return plan{do: actMove, ev: AllRefunded}
		}
		return wait(o.nextLook(), o.nextRefund())
	case Paid, PartRefunded, Refunded, Cancelled, Expired, Revoked:
		return decideOver(o, now)
	}
	return wait()
}

func decidePaying(o *Order, now time.Time, t Timing) plan {
	if o.money() != nil {
		return plan{do: actSettle, pay: o.money()}
	}
	for i := range o.Holds {
		if o.Holds[i].State != HoldPinned {
			return plan{do: actPin}
		}
	}
	last := o.PinUntil.Add(-t.CloseBefore)
	if !now.Before(last) {
		return plan{do: actMove, ev: PinNearlyOver}
	}
	if p, ok := duePayment(o, now); ok {
		return p
	}
	return wait(last, o.nextLook())
}

func decideClosing(o *Order, now time.Time, t Timing) plan {
	if o.money() != nil {
		return plan{do: actSettle, pay: o.money()}
	}
	open := o.open()
	if open == nil {
		return plan{do: actMove, ev: ProviderCancelled}
	}
	if open.State == payment.New {
		return plan{do: actDrop, pay: open}
	}
	last := o.PinUntil.Add(-t.ExtendBefore)
	if !now.Before(last) {
		return plan{do: actExtendPin}
	}
	if p, ok := duePayment(o, now); ok {
		return p
	}
	return wait(last, o.nextLook())
}

func decideSecured(o *Order, now time.Time) plan {
	if o.Total == 0 {
		return plan{do: actMove, ev: MoneySafe}
	}
	if p, ok := duePayment(o, now); ok {
		return p
	}
	m := o.money()
	switch {
	case m == nil:
		return plan{do: actMove, ev: CaptureRefused}
	case m.State == payment.Captured:
		return plan{do: actMove, ev: MoneySafe}
	case m.State == payment.Authorised:
		return plan{do: actCapture, pay: m}
	}
	return wait(o.nextLook())
}

// decideOver handles orders that are over but for what follows: seats to give
// back, payments to undo, refunds to send, late money to notice.
func decideOver(o *Order, now time.Time) plan {
	if p, ok := duePayment(o, now); ok {
		return p
	}
	if p, ok := dueRefund(o, now); ok {
		return p
	}
	if m := o.undecided(); m != nil && (m.Spare || o.State == Refunded || o.State == Revoked) {
		return plan{do: actRefundMore, pay: m}
	}
	if o.State == Cancelled || o.State == Expired {
		if m := o.money(); m != nil && (m.State != payment.Captured || m.Undecided() > 0) {
			return plan{do: actMove, ev: MoneyAppears, pay: m}
		}
		if p := o.open(); p != nil && p.State == payment.New {
			return plan{do: actDrop, pay: p}
		}
	}
	if len(o.toTidy()) > 0 {
		return plan{do: actTidy}
	}
	return wait(o.nextLook(), o.nextRefund())
}

// duePayment finds the first payment whose object must be looked at or acted
// upon now.
func duePayment(o *Order, now time.Time) (plan, bool) {
	for i := range o.Payments {
		p := &o.Payments[i]
		if p.LookAt.IsZero() || now.Before(p.LookAt) {
			continue
		}
		switch p.State {
		case payment.New:
			if o.State == Paying {
				return plan{do: actCreate, pay: p}, true
			}
			return plan{do: actDrop, pay: p}, true
		case payment.Authorising:
			return plan{do: actCreate, pay: p}, true
		case payment.Asked:
			if o.State == Paying {
				return plan{do: actFetch, pay: p}, true
			}
			return plan{do: actLetGo, pay: p}, true
		case payment.Capturing:
			return plan{do: actCapture, pay: p}, true
		case payment.Voiding:
			return plan{do: actVoid, pay: p}, true
		default:
			return plan{do: actFetch, pay: p}, true
		}
	}
	return plan{}, false
}

func dueRefund(o *Order, now time.Time) (plan, bool) {
	for i := range o.Refunds {
		r := &o.Refunds[i]
		if (r.State == payment.RefundAsked || r.State == payment.RefundSent) && !now.Before(r.LookAt) {
			return plan{do: actRefund, ref: r}, true
		}
	}
	return plan{}, false
}

func (o *Order) nextLook() time.Time {
	var at time.Time
	for _, p := range o.Payments {
		if !p.LookAt.IsZero() && (at.IsZero() || p.LookAt.Before(at)) {
			at = p.LookAt
		}
	}
	return at
}

func (o *Order) nextRefund() time.Time {
	var at time.Time
	for _, r := range o.Refunds {
		if r.State != payment.RefundAsked && r.State != payment.RefundSent {
			continue
		}
		if at.IsZero() || r.LookAt.Before(at) {
			at = r.LookAt
		}
	}
	return at
}

// money is the payment that holds the fan's money for the seats, if any.
func (o *Order) money() *payment.Payment {
	for i := range o.Payments {
		if p := &o.Payments[i]; p.State.HoldsMoney() && !p.Spare {
			return p
		}
	}
	return nil
}

// undecided is a payment with captured money that is neither kept nor on its
// way back.
func (o *Order) undecided() *payment.Payment {
	for i := range o.Payments {
		p := &o.Payments[i]
		if p.State == payment.Captured && p.Undecided() > 0 && (p.Spare || !o.State.HasTickets()) {
			return p
		}
	}
	return nil
}

// open is the payment the fan may still complete or whose outcome is not
// known.
func (o *Order) open() *payment.Payment {
	for i := range o.Payments {
		if p := &o.Payments[i]; p.State.Open() || p.State == payment.Voiding {
			return p
		}
	}
	return nil
}

func (o *Order) allRefunded() bool {
	for _, r := range o.Refunds {
		if r.State != payment.RefundDone {
			return false
		}
	}
	return true
}

// toTidy lists the units whose seats must go back on offer.
func (o *Order) toTidy() []Unit {
	var us []Unit
	for _, u := range o.Units {
		switch {
		case u.State == UnitReturned:
		case u.State == UnitRefunded, u.State == UnitCooling:
			us = append(us, u)
		case u.State == UnitLive && (o.State == Cancelled || o.State == Expired):
			us = append(us, u)
		}
	}
	return us
}
