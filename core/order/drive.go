package order

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/stanchion-queue/stanchion/core/bus"
	"github.com/stanchion-queue/stanchion/core/payment"
)

// maxSteps bounds one drive. An order needs about ten steps from checkout to
// tickets; one that needs more is looked at again later.
const maxSteps = 64

// drive takes an order as far as it goes now and returns it. The caller holds
// the order's lock of this process.
func (s *Service) drive(ctx context.Context, id uuid.UUID) (o Order, err error) {
	began := time.Now()
	ctx, span := s.tracer.Start(ctx, "drive order", trace.WithAttributes(attribute.String("stanchion.order", id.String())))
	defer func() {
		s.met.driven.Observe(time.Since(began).Seconds())
		span.SetAttributes(attribute.String("stanchion.order.state", string(o.State)))
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}()
	for range maxSteps {
		if o, err = s.store.Order(ctx, id); err != nil {
			return Order{}, err
		}
		p := decide(&o, s.now(), s.t)
		if p.do == actWait {
			return o, s.sleep(ctx, &o, p.at)
		}
		span.AddEvent(string(p.do))
		again, err := s.perform(ctx, &o, p)
		switch {
		case errors.Is(err, errChanged):
			continue
		case err != nil:
			return o, fmt.Errorf("order %s: %s: %w", id, p.do, err)
		case !again.IsZero():
			if o, err = s.store.Order(ctx, id); err != nil {
				return Order{}, err
			}
			return o, s.sleep(ctx, &o, again)
		}
	}
	return s.store.Order(ctx, id)
}

func (s *Service) sleep(ctx context.Context, o *Order, at time.Time) error {
	if o.NextAt.Equal(at.Truncate(time.Millisecond)) {
		return nil
	}
	if err := s.store.Sleep(ctx, o.ID, o.Version, at); err != nil {
		return err
	}
	o.NextAt = at
	s.nudge()
	return nil
}

// perform does one step. again, if set, is when to try once more: nothing
// else can be done before.
func (s *Service) perform(ctx context.Context, o *Order, p plan) (again time.Time, err error) {
	switch p.do {
	case actMove:
		return time.Time{}, s.doMove(ctx, o, p)
	case actPin:
		return s.doPin(ctx, o)
	case actExtendPin:
		return s.doExtendPin(ctx, o)
	case actCreate:
		return time.Time{}, s.doCreate(ctx, o, p.pay.ID)
	case actFetch:
		return time.Time{}, s.doFetch(ctx, o, p.pay.ID)
	case actLetGo:
		return time.Time{}, s.doLetGo(ctx, o, p.pay.ID)
	case actVoid:
		return time.Time{}, s.doVoid(ctx, o, p.pay.ID)
	case actCapture:
		return time.Time{}, s.doCapture(ctx, o, p.pay.ID)
	case actDrop:
		return time.Time{}, s.change(ctx, o, func(tx Tx, cur *Order) error {
			q := cur.payment(p.pay.ID)
			if err := s.step(q, payment.Drop); err != nil {
				return err
			}
			if err := tx.UpdatePayment(ctx, q); err != nil {
				return err
			}
			_, err := s.settle(ctx, tx, cur, q)
			return err
		})
	case actSettle:
		return s.doSettle(ctx, o, p.pay.ID)
	case actSell:
		return s.doSell(ctx, o)
	case actTidy:
		return s.doTidy(ctx, o)
	case actRescue:
		return time.Time{}, s.doRescue(ctx, o)
	case actRefund:
		return time.Time{}, s.doRefund(ctx, o, *p.ref)
	case actRefundMore:
		return time.Time{}, s.change(ctx, o, func(tx Tx, cur *Order) error { return s.refundMore(ctx, tx, cur, cur.payment(p.pay.ID)) })
	}
	return time.Time{}, fmt.Errorf("no such step: %s", p.do)
}

// step moves a payment and forgets when to look at it; the caller sets that.
func (s *Service) step(p *payment.Payment, ev payment.Event) error {
	to, err := payment.Next(p.State, ev)
	if err != nil {
		return err
	}
	p.State, p.LookAt, p.NextAction = to, time.Time{}, ""
	return nil
}

// cause names a payment in a certain version as the cause of a transition.
func cause(p *payment.Payment) string {
	if p == nil {
		return ""
	}
	return p.ID.String() + "." + strconv.FormatInt(p.Version, 10)
}

func (s *Service) doMove(ctx context.Context, o *Order, p plan) error {
	err := s.change(ctx, o, func(tx Tx, cur *Order) error {
		id := "v" + strconv.FormatInt(cur.Version, 10)
		if p.pay != nil {
			id = cause(p.pay)
		}
		if err := s.move(ctx, tx, cur, p.ev, id); err != nil {
			return err
		}
		switch p.ev {
		case PinNearlyOver:
			return s.hurry(ctx, tx, cur)
		case MoneySafe:
			return s.paid(ctx, tx, cur)
		case CaptureRefused:
			return tx.SetClaimsSold(ctx, cur.ID, false)
		}
		return nil
	})
	if err == nil && p.ev == MoneyAppears {
		s.log.Warn("money appeared for an order that is over", "order", o.ID, "state", o.State)
		s.at(PointLateStored)
	}
	return err
}

// doPin makes sure of the seats for as long as a payment may take, before the
// provider is asked for anything.
func (s *Service) doPin(ctx context.Context, o *Order) (again time.Time, err error) {
	now := s.now()
	until := now.Add(s.t.Pin)
	if c := o.capAt(); until.After(c) {
		until = c
	}
	out := s.pinAll(ctx, o, until.Sub(now))
	s.at(PointPinned)
	if out == Unknown {
		return now.Add(s.t.RetryMin), nil
	}
	return time.Time{}, s.change(ctx, o, func(tx Tx, cur *Order) error {
		p := cur.open()
		if out == Gone {
			if p != nil && p.State == payment.New {
				if err := s.step(p, payment.Drop); err != nil {
					return err
				}
				if err := tx.UpdatePayment(ctx, p); err != nil {
					return err
				}
			}
			return s.move(ctx, tx, cur, FailedForGood, "pin")
		}
		if err := s.pinned(ctx, tx, cur, until); err != nil {
			return err
		}
		if p != nil && p.State == payment.New {
			return s.toCreate(ctx, tx, p)
		}
		return nil
	})
}

// pinAll pins all holds: Done, Gone, or Unknown.
func (s *Service) pinAll(ctx context.Context, o *Order, lease time.Duration) Outcome {
	if lease < s.t.MinLease {
		return Gone
	}
	for _, h := range o.Holds {
		a := s.ask(ctx, "pin", func(ctx context.Context) (Answer, error) { return s.seats.Pin(ctx, h.grip(), lease) })
		switch a.Outcome {
		case Done:
		case Gone, Taken, TooShort, NoSeat:
			return Gone
		default:
			return Unknown
		}
	}
	return Done
}

func (s *Service) pinned(ctx context.Context, tx Tx, cur *Order, until time.Time) error {
	cur.PinUntil = until
	for i := range cur.Holds {
		h := &cur.Holds[i]
		h.State, h.Until = HoldPinned, until
		if err := tx.UpdateHold(ctx, *h); err != nil {
			return err
		}
	}
	return nil
}

func (o *Order) capAt() time.Time {
	c := o.Holds[0].CapAt
	for _, h := range o.Holds[1:] {
		if h.CapAt.Before(c) {
			c = h.CapAt
		}
	}
	return c
}

// doExtendPin keeps the seats of an order whose provider does not answer, up
// to the cap.
func (s *Service) doExtendPin(ctx context.Context, o *Order) (again time.Time, err error) {
	now := s.now()
	until := now.Add(s.t.Pin)
	if c := o.capAt(); until.After(c) {
		until = c
	}
	out := Gone
	if until.After(o.PinUntil) {
		out = s.pinAll(ctx, o, until.Sub(now))
	}
	if out == Unknown {
		return now.Add(s.t.RetryMin), nil
	}
	err = s.change(ctx, o, func(tx Tx, cur *Order) error {
		if out == Gone {
			return s.move(ctx, tx, cur, ProviderSilentAtCap, "v"+strconv.FormatInt(cur.Version, 10))
		}
		if err := s.pinned(ctx, tx, cur, until); err != nil {
			return err
		}
		return s.move(ctx, tx, cur, ProviderSilent, "v"+strconv.FormatInt(cur.Version, 10))
	})
	if err == nil {
		s.at(PointExtendPinStored)
	}
	return time.Time{}, err
}

// call notes that a call to the provider is about to be sent.
func (s *Service) call(ctx context.Context, tx Tx, pay uuid.UUID, k payment.Kind, key string) error {
	now := s.now()
	_, err := tx.RecordCall(ctx, payment.Call{ID: uuid.New(), PaymentID: pay, Kind: k, Key: key, State: "sent", First: now, Last: now, Tries: 1})
	return err
}

// toCreate makes a new payment ready to be asked for.
func (s *Service) toCreate(ctx context.Context, tx Tx, p *payment.Payment) error {
	if err := s.step(p, payment.Send); err != nil {
		return err
	}
	p.LookAt = s.now()
	if err := s.call(ctx, tx, p.ID, payment.KindCreate, payment.Key(p.ID, payment.KindCreate, 1)); err != nil {
		return err
	}
	return tx.UpdatePayment(ctx, p)
}

func (s *Service) doCreate(ctx context.Context, o *Order, id uuid.UUID) error {
	if o.payment(id).State == payment.New {
		if err := s.change(ctx, o, func(tx Tx, cur *Order) error { return s.toCreate(ctx, tx, cur.payment(id)) }); err != nil {
			return err
		}
		return nil // the next step sends it
	}
	s.at(PointCreateStored)
	p := *o.payment(id)
	prov, err := s.providerOf(p)
	if err != nil {
		return err
	}
	snap, err := s.provide(ctx, payment.KindCreate, func(ctx context.Context) (payment.Snapshot, error) {
		if s.now().Sub(p.Created) > payment.KeyLifetime {
			snap, err := prov.Find(ctx, p.ID)
			if errors.Is(err, payment.ErrNoObject) {
				return snap, &payment.Refusal{Code: "never_created", Message: "the provider has no such payment"}
			}
			return snap, err
		}
		title := "Tickets"
		if perf, err := s.prices.Performance(ctx, o.Performance); err == nil && perf.Title != "" {
			title = perf.Title
		}
		return prov.Create(ctx, payment.Intent{PaymentID: p.ID, OrderID: o.ID, Key: payment.Key(p.ID, payment.KindCreate, 1), Currency: p.Currency,
			Amount: p.Amount, Description: title, Method: p.Method, ReturnURL: p.ReturnURL})
	})
	s.at(PointCreated)
	if r := refusal(err); r != nil {
		snap, err = payment.Snapshot{Status: payment.StatusFailed, FailureCode: r.Code, Amount: p.Amount, Currency: p.Currency}, nil
	}
	return s.applyLook(ctx, o, id, payment.Key(id, payment.KindCreate, 1), snap, err, "")
}

func (s *Service) providerOf(p payment.Payment) (payment.Provider, error) {
	prov, ok := s.providers[p.Provider]
	if !ok {
		s.met.alarms.WithLabelValues("no-provider").Inc()
		return nil, fmt.Errorf("payment %s: no provider is called %q here", p.ID, p.Provider)
	}
	return prov, nil
}

func refusal(err error) *payment.Refusal {
	var r *payment.Refusal
	if errors.As(err, &r) {
		return r
	}
	return nil
}

// provide calls the provider with a time limit and counts what came of it.
func (s *Service) provide(ctx context.Context, k payment.Kind, f func(context.Context) (payment.Snapshot, error)) (payment.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, s.t.ProviderCalls)
	defer cancel()
	snap, err := f(ctx)
	s.count(k, err)
	return snap, err
}

func (s *Service) count(k payment.Kind, err error) {
	outcome := "ok"
	switch {
	case refusal(err) != nil:
		outcome = "refused"
	case err != nil:
		outcome = "unknown"
	}
	s.met.calls.WithLabelValues(string(k), outcome).Inc()
}

const kindFetch payment.Kind = "fetch"

func (s *Service) fetch(ctx context.Context, prov payment.Provider, ref string) (payment.Snapshot, error) {
	snap, err := s.provide(ctx, kindFetch, func(ctx context.Context) (payment.Snapshot, error) { return prov.Fetch(ctx, ref) })
	s.at(PointFetched)
	return snap, err
}

func (s *Service) doFetch(ctx context.Context, o *Order, id uuid.UUID) error {
	p := *o.payment(id)
	if p.Ref == "" { // never created at the provider: nothing to see
		return s.change(ctx, o, func(tx Tx, cur *Order) error {
			q := cur.payment(id)
			q.LookAt = time.Time{}
			return tx.UpdatePayment(ctx, q)
		})
	}
	prov, err := s.providerOf(p)
	if err != nil {
		return err
	}
	snap, err := s.fetch(ctx, prov, p.Ref)
	return s.applyLook(ctx, o, id, "", snap, err, "")
}

// doLetGo asks the provider to forget a payment the fan has not completed;
// but one that was completed meanwhile is not thrown away.
func (s *Service) doLetGo(ctx context.Context, o *Order, id uuid.UUID) error {
	p := *o.payment(id)
	prov, err := s.providerOf(p)
	if err != nil {
		return err
	}
	snap, err := s.fetch(ctx, prov, p.Ref)
	if err != nil || snap.Status != payment.StatusAsked {
		return s.applyLook(ctx, o, id, "", snap, err, "")
	}
	return s.change(ctx, o, func(tx Tx, cur *Order) error { return s.toVoid(ctx, tx, cur.payment(id)) })
}

// toVoid makes a payment ready to be undone.
func (s *Service) toVoid(ctx context.Context, tx Tx, p *payment.Payment) error {
	if err := s.step(p, payment.Void); err != nil {
		return err
	}
	p.LookAt = s.now()
	if err := s.call(ctx, tx, p.ID, payment.KindVoid, payment.Key(p.ID, payment.KindVoid, 1)); err != nil {
		return err
	}
	return tx.UpdatePayment(ctx, p)
}

func (s *Service) doVoid(ctx context.Context, o *Order, id uuid.UUID) error {
	s.at(PointVoidStored)
	p := *o.payment(id)
	prov, err := s.providerOf(p)
	if err != nil {
		return err
	}
	key := payment.Key(id, payment.KindVoid, 1)
	snap, err := s.provide(ctx, payment.KindVoid, func(ctx context.Context) (payment.Snapshot, error) {
		if !p.UnknownSince.IsZero() && s.now().Sub(p.UnknownSince) > payment.KeyLifetime {
			return prov.Fetch(ctx, p.Ref)
		}
		return prov.Void(ctx, p.Ref, key)
	})
	s.at(PointVoided)
	if refusal(err) != nil { // it was captured, or is gone: the object says which
		snap, err = s.fetch(ctx, prov, p.Ref)
	}
	return s.applyLook(ctx, o, id, key, snap, err, "")
}

// toCapture makes a payment ready to be captured.
func (s *Service) toCapture(ctx context.Context, tx Tx, p *payment.Payment) error {
	if err := s.step(p, payment.Capture); err != nil {
		return err
	}
	p.LookAt = s.now()
	if err := s.call(ctx, tx, p.ID, payment.KindCapture, payment.Key(p.ID, payment.KindCapture, 1)); err != nil {
		return err
	}
	return tx.UpdatePayment(ctx, p)
}

func (s *Service) doCapture(ctx context.Context, o *Order, id uuid.UUID) error {
	if o.payment(id).State == payment.Authorised {
		return s.change(ctx, o, func(tx Tx, cur *Order) error { return s.toCapture(ctx, tx, cur.payment(id)) })
	}
	s.at(PointSecured)
	p := *o.payment(id)
	prov, err := s.providerOf(p)
	if err != nil {
		return err
	}
	key := payment.Key(id, payment.KindCapture, 1)
	snap, err := s.provide(ctx, payment.KindCapture, func(ctx context.Context) (payment.Snapshot, error) {
		if !p.UnknownSince.IsZero() && s.now().Sub(p.UnknownSince) > payment.KeyLifetime {
			return prov.Fetch(ctx, p.Ref)
		}
		return prov.Capture(ctx, p.Ref, key, p.Amount)
	})
	s.at(PointCaptured)
	over := ""
	if r := refusal(err); r != nil {
		over = r.Code
		snap, err = s.fetch(ctx, prov, p.Ref)
	}
	return s.applyLook(ctx, o, id, key, snap, err, over)
}

// applyLook stores what a look at the provider's object, or the lack of one,
// says about a payment, and draws the consequences in the same transaction.
// key is the call's that led here, if any. over is the code of a capture that
// was refused for good.
func (s *Service) applyLook(ctx context.Context, o *Order, id uuid.UUID, key string, snap payment.Snapshot, lookErr error, over string) error {
	var state State
	err := s.change(ctx, o, func(tx Tx, cur *Order) error {
		p, now := cur.payment(id), s.now()
		if lookErr != nil {
			return s.unknown(ctx, tx, p, key, lookErr)
		}
		next, err := payment.Apply(*p, snap)
		if err != nil {
			s.met.alarms.WithLabelValues("payment-mismatch").Inc()
			s.log.Error("a payment does not fit the provider's object", "payment", id, "error", err)
			p.LookAt = now.Add(s.t.PollMax)
			return tx.UpdatePayment(ctx, p)
		}
		if next.State == payment.Capturing && over != "" {
			if err := s.step(&next, payment.SawCaptureOver); err != nil {
				return err
			}
			next.FailureCode = over
		}
		if m := cur.money(); m != nil && m.ID != id && next.State.HoldsMoney() {
			next.Spare = true
		}
		switch next.State {
		case payment.Asked, payment.Authorising:
			next.LookAt = now.Add(min(max(now.Sub(p.Created)/4, s.t.PollMin), s.t.PollMax))
		case payment.Capturing, payment.Voiding:
			next.LookAt = now.Add(s.t.RetryMin)
		default:
			next.LookAt = time.Time{}
		}
		*p = next
		if p.Spare && p.State == payment.Authorised {
			if err := s.toVoid(ctx, tx, p); err != nil {
				return err
			}
		} else if err := tx.UpdatePayment(ctx, p); err != nil {
			return err
		}
		if key != "" {
			if err := tx.AnswerCall(ctx, key, "answered"); err != nil {
				return err
			}
		}
		if _, err := s.settle(ctx, tx, cur, p); err != nil {
			return err
		}
		state = cur.State
		return nil
	})
	if err == nil {
		switch state {
		case Securing:
			s.at(PointSecuring)
		case Paid:
			s.at(PointPaid)
		}
	}
	return err
}

// unknown keeps a payment where it is and looks again, less and less often.
func (s *Service) unknown(ctx context.Context, tx Tx, p *payment.Payment, key string, why error) error {
	now := s.now()
	if p.UnknownSince.IsZero() {
		p.UnknownSince = now
	}
	age := now.Sub(p.UnknownSince)
	p.LookAt = now.Add(min(max(age/2, s.t.RetryMin), s.t.RetryMax))
	s.log.Warn("the provider's answer is not known", "payment", p.ID, "state", p.State, "unknown_s", age.Seconds(), "error", why)
	if age > s.t.UnknownAlarm {
		s.met.alarms.WithLabelValues("payment-unknown").Inc()
	}
	if key != "" {
		if err := tx.AnswerCall(ctx, key, "unknown"); err != nil {
			return err
		}
	}
	return tx.UpdatePayment(ctx, p)
}

// settle draws the consequences of a payment's state for its order, in the
// transaction that stores it. waiting says that another order has the seats
// claimed but not yet sold: the consequence must wait.
func (s *Service) settle(ctx context.Context, tx Tx, cur *Order, p *payment.Payment) (waiting bool, err error) {
	gone := p.State == payment.Failed || p.State == payment.Voided || p.State == payment.Lapsed
	switch cur.State {
	case Paying:
		if p.State.HoldsMoney() && !p.Spare {
			return s.secure(ctx, tx, cur, Authorised, cause(p))
		}
		if gone && cur.open() == nil && cur.money() == nil {
			ev := FailedForGood
			if cur.PinUntil.Add(-s.t.CloseBefore).Sub(s.now()) >= s.t.AttemptNeeds {
				ev = AttemptFailed
			}
			return false, s.move(ctx, tx, cur, ev, cause(p))
		}
	case Closing:
		if p.State.HoldsMoney() && !p.Spare {
			if cur.Cause != ByFan {
				return s.secure(ctx, tx, cur, Authorised, cause(p))
			}
			if err := s.move(ctx, tx, cur, Authorised, cause(p)); err != nil {
				return false, err
			}
			if p.State == payment.Authorised {
				return false, s.toVoid(ctx, tx, p)
			}
			return false, nil
		}
		if gone && cur.open() == nil {
			return false, s.move(ctx, tx, cur, ProviderCancelled, cause(p))
		}
	case Secured:
		if p.Spare {
			return false, nil
		}
		if p.State == payment.Captured {
			if err := s.move(ctx, tx, cur, MoneySafe, cause(p)); err != nil {
				return false, err
			}
			return false, s.paid(ctx, tx, cur)
		}
		if gone && cur.money() == nil {
			if err := s.move(ctx, tx, cur, CaptureRefused, cause(p)); err != nil {
				return false, err
			}
			return false, tx.SetClaimsSold(ctx, cur.ID, false)
		}
	}
	return false, nil
}

func (s *Service) doSettle(ctx context.Context, o *Order, id uuid.UUID) (again time.Time, err error) {
	var waiting bool
	var state State
	err = s.change(ctx, o, func(tx Tx, cur *Order) (err error) {
		waiting, err = s.settle(ctx, tx, cur, cur.payment(id))
		state = cur.State
		return err
	})
	if err == nil && state == Securing {
		s.at(PointSecuring)
	}
	if err == nil && waiting {
		return s.now().Add(time.Second), nil
	}
	return time.Time{}, err
}

// secure claims the seats and takes the order to SECURING. A seat that is sold
// to another order loses it at once; one that another order is securing is
// waited for while our pin lives.
func (s *Service) secure(ctx context.Context, tx Tx, cur *Order, ev Event, causeID string) (waiting bool, err error) {
	seats := make([]Seat, len(cur.Units))
	for i, u := range cur.Units {
		seats[i] = u.Seat
	}
	conflicts, err := tx.Claim(ctx, cur.Performance, cur.ID, seats)
	if err != nil {
		return false, err
	}
	if len(conflicts) > 0 {
		sold := slices.ContainsFunc(conflicts, func(c Conflict) bool { return c.Sold })
		if ev == RescueOK {
			return false, s.rescueNo(ctx, tx, cur)
		}
		if !sold && s.now().Before(cur.PayBy()) {
			return true, nil
		}
		s.met.alarms.WithLabelValues("claim-conflict").Inc()
		s.log.Error("seats that were held are claimed by another order", "order", cur.ID, "conflicts", len(conflicts), "first", conflicts[0].Seat, "other", conflicts[0].OrderID)
		if err := s.move(ctx, tx, cur, ev, causeID); err != nil {
			return false, err
		}
		return false, s.lost(ctx, tx, cur)
	}
	if err := s.move(ctx, tx, cur, ev, causeID); err != nil {
		return false, err
	}
	for i := range cur.Holds {
		h := &cur.Holds[i]
		h.State = HoldSelling
		if err := tx.UpdateHold(ctx, *h); err != nil {
			return false, err
		}
	}
	for i := range cur.Units {
		if u := &cur.Units[i]; u.State != UnitLive {
			u.State = UnitLive
			if err := tx.UpdateUnit(ctx, cur.ID, *u); err != nil {
				return false, err
			}
		}
	}
	return false, s.hurry(ctx, tx, cur)
}

// lost gives up an order that is being secured.
func (s *Service) lost(ctx context.Context, tx Tx, cur *Order) error {
	m := cur.money()
	id := "v" + strconv.FormatInt(cur.Version, 10)
	if m != nil && m.State == payment.Captured {
		return s.move(ctx, tx, cur, SecureLostCaptured, id)
	}
	if err := s.move(ctx, tx, cur, SecureLost, id); err != nil {
		return err
	}
	if m != nil && m.State == payment.Authorised {
		return s.toVoid(ctx, tx, m)
	}
	return nil
}

// doSell turns the claimed seats into sold ones in the inventory.
func (s *Service) doSell(ctx context.Context, o *Order) (again time.Time, err error) {
	now := s.now()
	unknown, lost := false, false
	for _, h := range o.Holds {
		if h.State == HoldSold {
			continue
		}
		a := s.ask(ctx, "sell", func(ctx context.Context) (Answer, error) { return s.seats.Sell(ctx, h.grip(), o.ID) })
		if a.Outcome == Gone || a.Outcome == Taken {
			a = s.ask(ctx, "rescue", func(ctx context.Context) (Answer, error) { return s.seats.Rescue(ctx, h.grip(), o.ID) })
		}
		switch a.Outcome {
		case Done:
			s.at(PointSoldSome)
		case Gone, Taken, NoSeat:
			lost = true
		case NotOpen: // closed by an operator: it may open again
			unknown = unknown || now.Before(o.capAt())
			lost = lost || !now.Before(o.capAt())
		default:
			unknown = true
		}
		if lost || unknown {
			break
		}
	}
	if unknown && !lost {
		return s.securingUnknown(ctx, o)
	}
	s.at(PointSold)
	err = s.change(ctx, o, func(tx Tx, cur *Order) error {
		if lost {
			return s.lost(ctx, tx, cur)
		}
		m := cur.money()
		if err := s.move(ctx, tx, cur, AllSold, "v"+strconv.FormatInt(cur.Version, 10)); err != nil {
			return err
		}
		if err := tx.SetClaimsSold(ctx, cur.ID, true); err != nil {
			return err
		}
		for i := range cur.Holds {
			cur.Holds[i].State = HoldSold
			if err := tx.UpdateHold(ctx, cur.Holds[i]); err != nil {
				return err
			}
		}
		if m != nil && m.State == payment.Authorised {
			return s.toCapture(ctx, tx, m)
		}
		return nil
	})
	return time.Time{}, err
}

// securingUnknown waits for an inventory that does not answer, and meanwhile
// keeps the leases alive.
func (s *Service) securingUnknown(ctx context.Context, o *Order) (again time.Time, err error) {
	now := s.now()
	if now.Sub(o.Updated) > s.t.UnknownAlarm {
		s.met.alarms.WithLabelValues("seats-unknown").Inc()
	}
	again = now.Add(min(max(now.Sub(o.Updated)/2, s.t.RetryMin), s.t.RetryMax))
	if until := o.PayBy(); until.Sub(now) > s.t.CloseBefore || !now.Before(until) {
		return again, nil // no need, or too late
	}
	until := now.Add(s.t.Pin)
	if c := o.capAt(); until.After(c) {
		until = c
	}
	if !until.After(o.PayBy()) || s.pinAll(ctx, o, until.Sub(now)) != Done {
		return again, nil
	}
	return again, s.change(ctx, o, func(tx Tx, cur *Order) error {
		cur.PinUntil = until
		for i := range cur.Holds {
			cur.Holds[i].Until = until
			if err := tx.UpdateHold(ctx, cur.Holds[i]); err != nil {
				return err
			}
		}
		return s.move(ctx, tx, cur, SecureUnknown, "v"+strconv.FormatInt(cur.Version, 10))
	})
}

// paid is what happens in the transaction that makes an order PAID: the
// tickets exist, the pass is used up, its place inside is free again.
func (s *Service) paid(ctx context.Context, tx Tx, cur *Order) error {
	var ts []Ticket
	for _, u := range cur.Units {
		if u.State == UnitLive {
			ts = append(ts, Ticket{ID: uuid.New(), OrderID: cur.ID, Performance: cur.Performance, Unit: u.Unit, Version: 1, Seat: u.Seat, Label: u.Label, Issued: s.now()})
		}
	}
	if err := tx.IssueTickets(ctx, ts); err != nil {
		return err
	}
	for _, t := range ts {
		f := TicketFact{Order: cur.ID, Ticket: t.ID, Unit: t.Unit}
		if err := s.emit(ctx, tx, cur, bus.TopicTickets, cur.ID.String(), EventTicket, unitSubject(cur.ID, t.Unit), f); err != nil {
			return err
		}
	}
	if cur.Room == "" {
		return nil
	}
	if err := tx.BurnPass(ctx, cur.PassID); err != nil {
		return err
	}
	return s.emit(ctx, tx, cur, bus.TopicPasses, cur.PassID, EventPassDone, cur.ID, PassDone{Room: cur.Room, PassID: cur.PassID, OrderID: cur.ID})
}

// doTidy gives seats back: taken from the sale, then unclaimed, then on offer.
func (s *Service) doTidy(ctx context.Context, o *Order) (again time.Time, err error) {
	retry := func() (time.Time, error) {
		now := s.now()
		return now.Add(min(max(now.Sub(o.Updated)/2, s.t.RetryMin), s.t.RetryMax)), nil
	}
	todo := o.toTidy()
	var taken []Unit // still sold, claimed or held
	for _, u := range todo {
		if u.State != UnitCooling {
			taken = append(taken, u)
		}
	}
	if len(taken) > 0 {
		sold := false
		for _, h := range o.Holds {
			g := h.gripOf(taken)
			if len(g.Seats) == 0 {
				continue
			}
			if h.State == HoldSelling || h.State == HoldSold {
				sold = true
				if a := s.ask(ctx, "unsell", func(ctx context.Context) (Answer, error) { return s.seats.Unsell(ctx, g, o.ID) }); a.Outcome != Done {
					return retry()
				}
			}
			if h.State != HoldSold {
				if a := s.release(ctx, g); a.Outcome != Done {
					return retry()
				}
			}
		}
		s.at(PointTidyUnsold)
		to := UnitReturned
		if sold {
			to = UnitCooling
		}
		err := s.tidied(ctx, o, taken, to, sold)
		if err == nil {
			s.at(PointTidyDropped)
		}
		return time.Time{}, err
	}
	for _, h := range o.Holds {
		g := h.gripOf(todo)
		if len(g.Seats) == 0 {
			continue
		}
		if a := s.ask(ctx, "reopen", func(ctx context.Context) (Answer, error) { return s.seats.Reopen(ctx, g) }); a.Outcome != Done {
			return retry()
		}
	}
	s.at(PointTidyReopened)
	return time.Time{}, s.tidied(ctx, o, todo, UnitReturned, false)
}

// gripOf is the part of a hold that lies in the units.
func (h Hold) gripOf(us []Unit) Grip {
	g := h.grip()
	g.Seats = nil
	for _, u := range us {
		if u.HoldID == h.ID {
			g.Seats = append(g.Seats, u.Seat.Seat)
		}
	}
	slices.Sort(g.Seats)
	return g
}

// tidied stores that the units' seats are cooling or back on offer.
func (s *Service) tidied(ctx context.Context, o *Order, us []Unit, to UnitState, drop bool) error {
	return s.change(ctx, o, func(tx Tx, cur *Order) error {
		var seats []Seat
		for i := range cur.Units {
			u := &cur.Units[i]
			if !slices.ContainsFunc(us, func(x Unit) bool { return x.Unit == u.Unit }) {
				continue
			}
			u.State = to
			seats = append(seats, u.Seat)
			if err := tx.UpdateUnit(ctx, cur.ID, *u); err != nil {
				return err
			}
		}
		if drop {
			if err := tx.DropClaims(ctx, cur.Performance, cur.ID, seats); err != nil {
				return err
			}
		}
		if to != UnitReturned {
			return nil
		}
		for i := range cur.Holds {
			h := &cur.Holds[i]
			left := slices.ContainsFunc(cur.Units, func(u Unit) bool { return u.HoldID == h.ID && u.State != UnitReturned })
			if left || h.State == HoldReleased {
				continue
			}
			h.State = HoldReleased
			if err := tx.UpdateHold(ctx, *h); err != nil {
				return err
			}
		}
		return nil
	})
}

// doRescue decides about money that came after the end.
func (s *Service) doRescue(ctx context.Context, o *Order) error {
	usable := o.money() != nil && (o.Cause == ByTimer || o.Cause == ByPayment)
	if usable {
		same, err := s.samePrice(ctx, o)
		if err != nil {
			return err
		}
		usable = same
	}
	err := s.change(ctx, o, func(tx Tx, cur *Order) error {
		if !usable {
			return s.rescueNo(ctx, tx, cur)
		}
		_, err := s.secure(ctx, tx, cur, RescueOK, cause(cur.money()))
		return err
	})
	if err == nil {
		s.at(PointRescueStored)
	}
	return err
}

func (s *Service) samePrice(ctx context.Context, o *Order) (bool, error) {
	perf, err := s.prices.Performance(ctx, o.Performance)
	if errors.Is(err, ErrNoPerformance) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !perf.SaleOpen || perf.Currency != o.Currency {
		return false, nil
	}
	seats := make([]Seat, len(o.Units))
	for i, u := range o.Units {
		seats[i] = u.Seat
	}
	ps, err := s.prices.Prices(ctx, o.Performance, seats)
	var none *NoSuchSeat
	if errors.As(err, &none) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for i, p := range ps {
		if p.Price+p.Fee != o.Units[i].Total() {
			return false, nil
		}
	}
	return true, nil
}

// rescueNo sends late money back.
func (s *Service) rescueNo(ctx context.Context, tx Tx, cur *Order) error {
	m := cur.money()
	if m != nil && m.State == payment.Captured {
		return s.move(ctx, tx, cur, RescueNoCaptured, cause(m))
	}
	if err := s.move(ctx, tx, cur, RescueNo, cause(m)+"v"+strconv.FormatInt(cur.Version, 10)); err != nil {
		return err
	}
	if m != nil && m.State == payment.Authorised {
		return s.toVoid(ctx, tx, m)
	}
	return nil
}

// refundMore orders a refund of captured money that has no use: of a spare
// payment, or of an order that did not get its seats.
func (s *Service) refundMore(ctx context.Context, tx Tx, cur *Order, p *payment.Payment) error {
	now := s.now()
	r := payment.Refund{ID: uuid.New(), OrderID: cur.ID, PaymentID: p.ID, Amount: p.Undecided(), State: payment.RefundAsked, Reason: string(cur.Cause),
		Attempt: 1, Created: now, LookAt: now}
	if p.Spare {
		r.Reason = "paid twice"
	} else {
		for i := range cur.Units {
			u := &cur.Units[i]
			if u.State != UnitLive {
				continue
			}
			u.State = UnitRefunding
			r.Units = append(r.Units, u.Unit)
			if err := tx.UpdateUnit(ctx, cur.ID, *u); err != nil {
				return err
			}
		}
	}
	p.Refunding += r.Amount
	if err := tx.UpdatePayment(ctx, p); err != nil {
		return err
	}
	cur.Refunds = append(cur.Refunds, r)
	return tx.InsertRefund(ctx, r)
}

// doRefund sends a refund, or asks again what became of it.
func (s *Service) doRefund(ctx context.Context, o *Order, r payment.Refund) error {
	key := payment.Key(r.ID, payment.KindRefund, r.Attempt)
	if r.State == payment.RefundAsked {
		return s.change(ctx, o, func(tx Tx, cur *Order) error {
			q := cur.refund(r.ID)
			q.State = payment.RefundSent
			if err := s.call(ctx, tx, r.PaymentID, payment.KindRefund, key); err != nil {
				return err
			}
			return tx.UpdateRefund(ctx, *q)
		})
	}
	s.at(PointRefundSent)
	p := *o.payment(r.PaymentID)
	prov, err := s.providerOf(p)
	if err != nil {
		return err
	}
	var snap payment.RefundSnapshot
	_, err = s.provide(ctx, payment.KindRefund, func(ctx context.Context) (payment.Snapshot, error) {
		if s.now().Sub(r.Created) > payment.KeyLifetime && r.Ref == "" {
			return payment.Snapshot{}, errors.New("the refund is unknown for longer than the provider remembers its key")
		}
		var err error
		snap, err = prov.Refund(ctx, p.Ref, key, r.Amount)
		return payment.Snapshot{}, err
	})
	s.at(PointRefundDone)
	if ref := refusal(err); ref != nil {
		snap, err = payment.RefundSnapshot{State: payment.RefundFailed, Code: ref.Code}, nil
	}
	err = s.change(ctx, o, func(tx Tx, cur *Order) error {
		q, now := cur.refund(r.ID), s.now()
		age := now.Sub(q.Created)
		if err != nil {
			s.log.Warn("the provider's answer is not known", "refund", q.ID, "error", err)
			if age > s.t.UnknownAlarm {
				s.met.alarms.WithLabelValues("refund-unknown").Inc()
			}
			q.LookAt = now.Add(min(max(age/2, s.t.RetryMin), s.t.RetryMax))
			if err := tx.AnswerCall(ctx, key, "unknown"); err != nil {
				return err
			}
			return tx.UpdateRefund(ctx, *q)
		}
		if err := tx.AnswerCall(ctx, key, "answered"); err != nil {
			return err
		}
		if snap.Ref != "" {
			q.Ref = snap.Ref
		}
		switch snap.State {
		case payment.RefundDone:
			q.State = payment.RefundDone
			pay := cur.payment(q.PaymentID)
			pay.Refunding -= q.Amount
			pay.Refunded += q.Amount
			if err := tx.UpdatePayment(ctx, pay); err != nil {
				return err
			}
			if err := s.unitsRefunded(ctx, tx, cur, q.Units); err != nil {
				return err
			}
			if err := tx.UpdateRefund(ctx, *q); err != nil {
				return err
			}
			cur.Version++
			return s.emitOrder(ctx, tx, cur)
		case payment.RefundFailed:
			q.State = payment.RefundFailed
			s.met.alarms.WithLabelValues("refund-failed").Inc()
			s.log.Error("a refund failed; a person must decide", "order", o.ID, "refund", q.ID, "code", snap.Code)
			if err := tx.UpdateRefund(ctx, *q); err != nil {
				return err
			}
			if cur.State == Refunding {
				return s.move(ctx, tx, cur, RefundFailed, q.ID.String()+"."+strconv.Itoa(q.Attempt))
			}
			return nil
		default:
			q.LookAt = now.Add(s.t.RefundPoll)
			return tx.UpdateRefund(ctx, *q)
		}
	})
	if err == nil && snap.State == payment.RefundDone {
		s.at(PointRefunded)
	}
	return err
}

func (o *Order) refund(id uuid.UUID) *payment.Refund {
	for i := range o.Refunds {
		if o.Refunds[i].ID == id {
			return &o.Refunds[i]
		}
	}
	return nil
}

// RetryRefund sends a failed refund again, under a new key: the old attempt
// is known to have failed. For staff.
func (s *Service) RetryRefund(ctx context.Context, id, refund uuid.UUID) (Order, error) {
	err := s.store.Tx(ctx, func(tx Tx) error {
		cur, err := tx.LockOrder(ctx, id)
		if err != nil {
			return err
		}
		r := cur.refund(refund)
		if r == nil {
			return ErrNotFound
		}
		if r.State != payment.RefundFailed {
			return &WrongState{State: cur.State}
		}
		return s.save(ctx, tx, &cur, func(tx Tx, cur *Order) error {
			r.State, r.Attempt, r.LookAt = payment.RefundAsked, r.Attempt+1, s.now()
			return tx.UpdateRefund(ctx, *r)
		})
	})
	if err != nil {
		return Order{}, err
	}
	return s.driveAlone(ctx, id)
}
