package order

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/bus"
	"github.com/stanchion-queue/stanchion/core/payment"
)

// OrderRequest makes an order of holds.
type OrderRequest struct {
	ID        uuid.UUID // as in HoldRequest
	Principal Principal
	Holds     []uuid.UUID // 1 to 4
	Quote     Quote       // what the fan agreed to
}

// CheckoutRequest begins an attempt to pay.
type CheckoutRequest struct {
	Principal    Principal
	OrderID      uuid.UUID
	PaymentID    uuid.UUID // as in HoldRequest: the attempt's id
	PaymentToken string    // the provider's name for a payment method; may be empty
	ReturnURL    string    // absolute; the provider sends the fan there by GET
}

// CreateOrder makes a DRAFT of live holds. Errors: ErrHoldExpired,
// *HoldInOrder, *PriceChanged, ErrMixedHolds, ErrTooManyHolds, ErrNotFound,
// ErrSaleNotOpen is not one of them: who holds may buy.
func (s *Service) CreateOrder(ctx context.Context, r OrderRequest) (Order, error) {
	if o, err := s.store.Order(ctx, r.ID); err == nil {
		if o.Principal != r.Principal {
			return Order{}, ErrIDTaken
		}
		return o, nil // the same request again
	} else if !errors.Is(err, ErrNotFound) {
		return Order{}, err
	}
	perf, holds, q, us, err := s.quote(ctx, r.Principal, r.Holds)
	if err != nil {
		return Order{}, err
	}
	if q != r.Quote {
		return Order{}, &PriceChanged{Now: q}
	}
	err = s.store.Tx(ctx, func(tx Tx) error {
		now := s.now()
		o := Order{ID: r.ID, Principal: r.Principal, PassID: holds[0].PassID, Room: perf.Room, Performance: perf.ID, Currency: q.Currency, Total: q.Total,
			Units: us, Created: now, Updated: now}
		o.Holds = nil
		for _, h := range holds {
			cur, err := tx.LockHold(ctx, h.ID)
			switch {
			case err != nil:
				return err
			case cur.OrderID != uuid.Nil:
				return &HoldInOrder{OrderID: cur.OrderID}
			case cur.State != HoldHeld || !cur.Live(now):
				return ErrHoldExpired
			}
			cur.OrderID = o.ID
			o.Holds = append(o.Holds, cur)
		}
		if err := tx.InsertOrder(ctx, o); err != nil {
			return err
		}
		for _, h := range o.Holds {
			if err := tx.UpdateHold(ctx, h); err != nil {
				return err
			}
		}
		return s.save(ctx, tx, &o, func(tx Tx, o *Order) error { return s.move(ctx, tx, o, Create, "") })
	})
	if err != nil {
		return Order{}, err
	}
	s.at(PointOrderStored)
	s.nudge()
	return s.store.Order(ctx, r.ID)
}

// Checkout begins to pay and drives the order until it waits for the fan
// (Order.NextAction), is paid, or waits for something unknown. Errors:
// *WrongState, *AttemptOpen, ErrHoldExpired, *Declined (with the order),
// ErrBadReturnURL, ErrNotFound.
func (s *Service) Checkout(ctx context.Context, r CheckoutRequest) (Order, error) {
	if u, err := url.Parse(r.ReturnURL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return Order{}, ErrBadReturnURL
	}
	if _, err := s.GetOrder(ctx, r.Principal, r.OrderID); err != nil {
		return Order{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*s.t.DriveLease)
	defer cancel()
	unlock, err := s.lock(ctx, r.OrderID)
	if err != nil {
		return Order{}, err
	}
	defer unlock()
	var o Order
	err = s.store.Tx(ctx, func(tx Tx) error {
		cur, err := tx.LockOrder(ctx, r.OrderID)
		if err != nil {
			return err
		}
		o = cur
		if cur.payment(r.PaymentID) != nil {
			return nil // the same request again
		}
		now := s.now()
		switch cur.State {
		case Draft:
			if !now.Add(s.t.MinLease).Before(cur.PayBy()) {
				return ErrHoldExpired
			}
			if cur.Total == 0 {
				return s.save(ctx, tx, &cur, func(tx Tx, cur *Order) error {
					waiting, err := s.secure(ctx, tx, cur, CheckOutFree, "")
					if err == nil && waiting {
						err = ErrNotNow
					}
					return err
				})
			}
		case Paying:
			if cur.money() != nil || cur.open() != nil {
				return &AttemptOpen{NextAction: cur.NextAction()}
			}
			if cur.PinUntil.Add(-s.t.CloseBefore).Sub(now) < s.t.AttemptNeeds {
				return ErrHoldExpired
			}
		default:
			return &WrongState{State: cur.State}
		}
		return s.save(ctx, tx, &cur, func(tx Tx, cur *Order) error {
			if cur.State == Draft {
				if err := s.move(ctx, tx, cur, CheckOut, ""); err != nil {
					return err
				}
			}
			p := payment.Payment{ID: r.PaymentID, OrderID: cur.ID, Attempt: len(cur.Payments) + 1, Provider: s.provider.Name(), State: payment.New,
				Currency: cur.Currency, Amount: cur.Total, Method: r.PaymentToken, ReturnURL: r.ReturnURL, LookAt: now, Created: now}
			cur.Payments = append(cur.Payments, p)
			return tx.InsertPayment(ctx, p)
		})
	})
	if err != nil {
		return o, err
	}
	s.at(PointPayingStored)
	if o, err = s.drive(ctx, r.OrderID); err != nil {
		return o, err
	}
	if p := o.payment(r.PaymentID); p != nil && p.State == payment.Failed && (o.State == Paying || o.State == Cancelled) && p.FailureCode != "" {
		return o, &Declined{Code: p.FailureCode}
	}
	if o.State == Cancelled && o.Cause == ByPayment {
		return o, ErrHoldExpired
	}
	if o.State == Paying {
		s.keepInside(ctx, &o)
	}
	return o, nil
}

// keepInside tells the waiting room that a payment is on its way. It is a
// courtesy: an error changes nothing here.
func (s *Service) keepInside(ctx context.Context, o *Order) {
	if s.rooms == nil || o.Room == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := s.rooms.ExtendSession(ctx, o.Room, o.PassID, o.PinUntil); err != nil {
		s.log.Warn("could not extend the fan's session", "room", o.Room, "order", o.ID, "error", err)
	}
}

func (o *Order) payment(id uuid.UUID) *payment.Payment {
	for i := range o.Payments {
		if o.Payments[i].ID == id {
			return &o.Payments[i]
		}
	}
	return nil
}

// Look fetches what the provider knows of the order's payment and drives the
// order on. Call it when the fan comes back from the provider's page.
func (s *Service) Look(ctx context.Context, who Principal, id uuid.UUID) (Order, error) {
	o, err := s.GetOrder(ctx, who, id)
	if err != nil {
		return Order{}, err
	}
	if p := o.Attempt(); p != nil && !o.State.HasTickets() {
		if err := s.look(ctx, id, p.ID); err != nil {
			return Order{}, err
		}
	}
	return s.driveAlone(ctx, id)
}

// look makes the saga fetch the provider's object at once. It raises the
// order's version, so that a look that began earlier is not applied.
func (s *Service) look(ctx context.Context, id, pay uuid.UUID) error {
	err := s.store.Tx(ctx, func(tx Tx) error {
		cur, err := tx.LockOrder(ctx, id)
		if err != nil {
			return err
		}
		p := cur.payment(pay)
		if p == nil {
			return ErrNotFound
		}
		return s.saveFor(ctx, tx, &cur, 0, func(tx Tx, cur *Order) error {
			p := cur.payment(pay)
			p.LookAt = s.now()
			return tx.UpdatePayment(ctx, p)
		})
	})
	s.nudge()
	return err
}

// Cancel asks for the end of an unpaid order: CANCELLED, or CLOSING while the
// provider is being asked. It may be repeated. Errors: *WrongState,
// ErrNotFound.
func (s *Service) Cancel(ctx context.Context, who Principal, id uuid.UUID) (Order, error) {
	if _, err := s.GetOrder(ctx, who, id); err != nil {
		return Order{}, err
	}
	var state State
	err := s.store.Tx(ctx, func(tx Tx) error {
		cur, err := tx.LockOrder(ctx, id)
		if err != nil {
			return err
		}
		state = cur.State
		switch cur.State {
		case Draft, Paying:
			return s.save(ctx, tx, &cur, func(tx Tx, cur *Order) error {
				if err := s.move(ctx, tx, cur, Cancel, ""); err != nil {
					return err
				}
				return s.hurry(ctx, tx, cur)
			})
		case Closing, Cancelled, Expired, Late, Refunding, Refunded:
			return nil // it is ending already
		}
		return &WrongState{State: cur.State}
	})
	if err != nil {
		return Order{}, err
	}
	if state == Draft || state == Paying {
		s.at(PointCancelStored)
	}
	return s.driveAlone(ctx, id)
}

// hurry makes the saga act on the order's open payments at once.
func (s *Service) hurry(ctx context.Context, tx Tx, cur *Order) error {
	for i := range cur.Payments {
		p := &cur.Payments[i]
		if p.State.Settled() || p.UnknownSince != (time.Time{}) {
			continue
		}
		p.LookAt = s.now()
		if err := tx.UpdatePayment(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// driveAlone drives an order as its only driver in this process, detached from
// the request that asked for it.
func (s *Service) driveAlone(ctx context.Context, id uuid.UUID) (Order, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*s.t.DriveLease)
	defer cancel()
	unlock, err := s.lock(ctx, id)
	if err != nil {
		return Order{}, err
	}
	defer unlock()
	return s.drive(ctx, id)
}

// Refund gives units of a paid order back: their tickets are void at once, the
// money follows, the seats last. No units: all that are left. Errors:
// *WrongState, ErrUnitRefunded, ErrDisputeOpen, ErrNotFound.
func (s *Service) Refund(ctx context.Context, who Principal, id uuid.UUID, units []int, reason string) (Order, error) {
	if _, err := s.GetOrder(ctx, who, id); err != nil {
		return Order{}, err
	}
	err := s.store.Tx(ctx, func(tx Tx) error {
		cur, err := tx.LockOrder(ctx, id)
		if err != nil {
			return err
		}
		if !cur.State.HasTickets() {
			return &WrongState{State: cur.State}
		}
		if cur.Dispute == "opened" {
			return ErrDisputeOpen
		}
		return s.save(ctx, tx, &cur, func(tx Tx, cur *Order) error { return s.orderRefund(ctx, tx, cur, units, reason) })
	})
	if err != nil {
		return Order{}, err
	}
	s.at(PointRefundStored)
	return s.driveAlone(ctx, id)
}

// orderRefund voids the tickets of the units and reserves their money.
func (s *Service) orderRefund(ctx context.Context, tx Tx, cur *Order, units []int, reason string) error {
	left, r := 0, payment.Refund{ID: uuid.New(), OrderID: cur.ID, State: payment.RefundAsked, Reason: reason, Attempt: 1, Created: s.now(), LookAt: s.now()}
	for i := range cur.Units {
		u := &cur.Units[i]
		if u.State != UnitLive {
			continue
		}
		if len(units) > 0 && !slices.Contains(units, u.Unit) {
			left++
			continue
		}
		u.State = UnitRefunding
		r.Units = append(r.Units, u.Unit)
		r.Amount += u.Total()
		if err := tx.UpdateUnit(ctx, cur.ID, *u); err != nil {
			return err
		}
	}
	if len(r.Units) == 0 || (len(units) > 0 && len(r.Units) != len(units)) {
		return ErrUnitRefunded
	}
	if err := tx.RevokeTickets(ctx, cur.ID, r.Units, reason); err != nil {
		return err
	}
	if p := cur.money(); p != nil && r.Amount > 0 {
		r.PaymentID = p.ID
		p.Refunding += r.Amount
		if err := tx.UpdatePayment(ctx, p); err != nil {
			return err
		}
		if err := tx.InsertRefund(ctx, r); err != nil {
			return err
		}
		cur.Refunds = append(cur.Refunds, r)
	} else { // nothing was paid: nothing to wait for
		if err := s.unitsRefunded(ctx, tx, cur, r.Units); err != nil {
			return err
		}
	}
	ev := RefundAll
	if left > 0 {
		ev = RefundSome
	}
	if err := s.move(ctx, tx, cur, ev, r.ID.String()); err != nil {
		return err
	}
	for _, n := range r.Units {
		f := TicketFact{Order: cur.ID, Unit: n, Revoked: reason}
		if err := s.emit(ctx, tx, cur, bus.TopicTickets, cur.ID.String(), EventTicket, unitSubject(cur.ID, n), f); err != nil {
			return err
		}
	}
	return nil
}

// unitSubject names a unit for the inbox of those who handle its events.
func unitSubject(id uuid.UUID, unit int) uuid.UUID {
	return uuid.NewSHA1(id, []byte{byte(unit >> 8), byte(unit)})
}

func (s *Service) unitsRefunded(ctx context.Context, tx Tx, cur *Order, units []int) error {
	for i := range cur.Units {
		u := &cur.Units[i]
		if !slices.Contains(units, u.Unit) {
			continue
		}
		u.State = UnitRefunded
		if err := tx.UpdateUnit(ctx, cur.ID, *u); err != nil {
			return err
		}
	}
	return nil
}
