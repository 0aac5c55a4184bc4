package order

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// HoldRequest asks for seats of one block.
type HoldRequest struct {
	// ID of the hold to make. A request that is repeated with the same ID
	// finds what the first one did: take it from Idempotency, or a new random
	// one.
	ID          uuid.UUID
	Principal   Principal
	Pass        *Pass // nil: none was shown
	Performance uuid.UUID
	Seats       []Seat // all in one block
}

func (h Hold) grip() Grip {
	return Grip{Performance: h.Performance, Block: h.Block, Seats: h.Seats, Hold: h.ID}
}

func (h Hold) seatList() []Seat {
	ss := make([]Seat, len(h.Seats))
	for i, n := range h.Seats {
		ss[i] = Seat{Block: h.Block, Seat: n}
	}
	return ss
}

func seatsOf(block int, ns []int) []Seat { return Hold{Block: block, Seats: ns}.seatList() }

// CreateHold takes seats. A hold that comes back as HoldPlacing is not known
// yet (202): GetHold, or the same request again, settles it. Errors:
// ErrPassRequired, ErrPassInvalid, ErrPassUsed, *PassLimit, ErrSaleNotOpen,
// *SeatsTaken, *NoSuchSeat, ErrBlockFrozen, ErrNoSeats, ErrManyBlocks,
// ErrNoPerformance, ErrIDTaken, ErrNotNow.
func (s *Service) CreateHold(ctx context.Context, r HoldRequest) (Hold, error) {
	block, numbers, err := oneBlock(r.Seats)
	if err != nil {
		return Hold{}, err
	}
	perf, err := s.prices.Performance(ctx, r.Performance)
	if err != nil {
		return Hold{}, err
	}
	passID, limit := "principal:"+string(r.Principal), s.limit
	if perf.Room != "" {
		if r.Pass == nil {
			return Hold{}, ErrPassRequired
		}
		if r.Pass.Room != perf.Room {
			return Hold{}, ErrPassInvalid
		}
		passID = r.Pass.ID
		if r.Pass.SeatLimit > 0 {
			limit = r.Pass.SeatLimit
		}
	}
	if !perf.SaleOpen {
		return Hold{}, ErrSaleNotOpen
	}
	if _, err := s.prices.Prices(ctx, r.Performance, r.Seats); err != nil {
		return Hold{}, err
	}

	var h Hold
	err = s.store.Tx(ctx, func(tx Tx) error {
		use, err := tx.LockPass(ctx, passID, perf.Room, limit)
		if err != nil {
			return err
		}
		switch h, err = tx.LockHold(ctx, r.ID); {
		case err == nil:
			if h.Principal != r.Principal || h.Performance != r.Performance || h.Block != block || !slices.Equal(h.Seats, numbers) {
				return ErrIDTaken
			}
			if h.State != HoldRefused {
				return nil // the same request again
			}
			// Refused for certain: nothing of it is left, so it may try anew.
		case !errors.Is(err, ErrNotFound):
			return err
		}
		if use.Burned {
			return ErrPassUsed
		}
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		inUse, err := tx.SeatsInUse(ctx, passID, now)
		if err != nil {
			return err
		}
		if inUse+len(numbers) > use.Max {
			return &PassLimit{Limit: use.Max, InUse: inUse, Asked: len(numbers)}
		}
		again := h.State == HoldRefused
		h = Hold{ID: r.ID, Principal: r.Principal, PassID: passID, Room: perf.Room, Performance: r.Performance, Block: block, Seats: numbers,
			State: HoldPlacing, Until: now.Add(s.t.HoldLease), CapAt: now.Add(s.t.HoldCap), Created: now}
		if again {
			return tx.UpdateHold(ctx, h)
		}
		return tx.InsertHold(ctx, h)
	})
	if err != nil {
		return Hold{}, err
	}
	s.at(PointHoldStored)
	return s.place(ctx, h)
}

// oneBlock checks the seats of a request and returns them in ascending order.
func oneBlock(seats []Seat) (block int, numbers []int, err error) {
	if len(seats) == 0 {
		return 0, nil, ErrNoSeats
	}
	block = seats[0].Block
	for _, st := range seats {
		if st.Block != block {
			return 0, nil, ErrManyBlocks
		}
		numbers = append(numbers, st.Seat)
	}
	slices.Sort(numbers)
	if len(slices.Compact(slices.Clone(numbers))) != len(numbers) {
		return 0, nil, ErrNoSeats
	}
	return block, numbers, nil
}

// place asks the inventory for the seats of a hold that is not known yet, and
// stores the answer. Other holds come back as they are.
func (s *Service) place(ctx context.Context, h Hold) (Hold, error) {
	if h.State == HoldRefused {
		return h, s.refusal(h, Answer{Outcome: Taken, Seats: h.Seats})
	}
	if h.State != HoldPlacing {
		return h, nil
	}
	lease := h.Until.Sub(s.now())
	if lease < s.t.MinLease {
		// Nobody asked in time. Make sure that nothing is left of it.
		if a := s.release(ctx, h.grip()); a.Outcome != Done {
			return h, nil
		}
		return s.settleHold(ctx, h, Answer{Outcome: Gone})
	}
	a := s.ask(ctx, "hold", func(ctx context.Context) (Answer, error) { return s.seats.Hold(ctx, h.grip(), lease) })
	s.at(PointHoldAsked)
	if a.Outcome == Unknown {
		s.met.holds.WithLabelValues("unknown").Inc()
		return h, nil
	}
	return s.settleHold(ctx, h, a)
}

// settleHold stores what the inventory said about a hold that is being placed.
func (s *Service) settleHold(ctx context.Context, h Hold, a Answer) (Hold, error) {
	err := s.store.Tx(ctx, func(tx Tx) error {
		cur, err := tx.LockHold(ctx, h.ID)
		if err != nil {
			return err
		}
		if cur.State != HoldPlacing { // settled by another request
			h = cur
			return nil
		}
		cur.State = HoldRefused
		switch a.Outcome {
		case Done:
			cur.State = HoldHeld
		case Gone:
			cur.State = HoldReleased
		}
		h = cur
		return tx.UpdateHold(ctx, cur)
	})
	if err != nil {
		return Hold{}, err
	}
	s.met.holds.WithLabelValues(a.Outcome.String()).Inc()
	switch h.State {
	case HoldRefused:
		return h, s.refusal(h, a)
	case HoldReleased:
		return h, ErrHoldExpired
	}
	return h, nil
}

func (s *Service) refusal(h Hold, a Answer) error {
	seats := seatsOf(h.Block, a.Seats)
	switch a.Outcome {
	case NotOpen:
		return ErrSaleNotOpen
	case Frozen:
		return ErrBlockFrozen
	case NoSeat:
		return &NoSuchSeat{Seats: seats}
	case Busy, TooShort:
		return ErrNotNow
	}
	return &SeatsTaken{Seats: seats}
}

// ask calls the inventory with a time limit; an error is Unknown.
func (s *Service) ask(ctx context.Context, what string, f func(context.Context) (Answer, error)) Answer {
	ctx, cancel := context.WithTimeout(ctx, s.t.SeatCalls)
	defer cancel()
	a, err := f(ctx)
	if err != nil {
		s.log.Warn("the inventory's answer is not known", "call", what, "error", err)
		return Answer{Outcome: Unknown}
	}
	return a
}

func (s *Service) release(ctx context.Context, g Grip) Answer {
	return s.ask(ctx, "release", func(ctx context.Context) (Answer, error) { return s.seats.Release(ctx, g) })
}

// ownHold reads a hold of the principal.
func (s *Service) ownHold(ctx context.Context, who Principal, id uuid.UUID) (Hold, error) {
	h, err := s.store.Hold(ctx, id)
	if err != nil {
		return Hold{}, err
	}
	if who != Staff && who != h.Principal {
		return Hold{}, ErrNotFound
	}
	return h, nil
}

// GetHold returns a hold as it is now, asking the inventory again if it was
// not known. A hold that is over is ErrHoldExpired; one that an order has is
// returned as it is.
func (s *Service) GetHold(ctx context.Context, who Principal, id uuid.UUID) (Hold, error) {
	h, err := s.ownHold(ctx, who, id)
	if err != nil {
		return Hold{}, err
	}
	if h, err = s.place(ctx, h); err != nil || h.OrderID != uuid.Nil || h.State == HoldPlacing {
		return h, err
	}
	if !h.Live(s.now()) {
		return h, ErrHoldExpired
	}
	return h, nil
}

// ExtendHold gives a hold a new lease. Errors: ErrHoldExpired, ErrHoldAtCap,
// *HoldInOrder (its checkout has begun), ErrNotNow.
func (s *Service) ExtendHold(ctx context.Context, who Principal, id uuid.UUID) (Hold, error) {
	h, err := s.GetHold(ctx, who, id)
	if err != nil {
		return Hold{}, err
	}
	if h.State == HoldPlacing {
		return Hold{}, ErrNotNow
	}
	if h.State != HoldHeld {
		return Hold{}, &HoldInOrder{OrderID: h.OrderID}
	}
	now := s.now()
	if !h.Live(now) {
		return Hold{}, ErrHoldExpired
	}
	if h.CapAt.Sub(h.Until) < time.Second {
		return Hold{}, ErrHoldAtCap
	}
	until := now.Add(s.t.HoldLease)
	if until.After(h.CapAt) {
		until = h.CapAt
	}
	a := s.ask(ctx, "extend", func(ctx context.Context) (Answer, error) { return s.seats.Extend(ctx, h.grip(), until.Sub(now)) })
	switch a.Outcome {
	case Done:
	case Gone, Taken:
		return Hold{}, ErrHoldExpired
	default:
		return Hold{}, ErrNotNow // the old promise stands, the seats may be kept longer
	}
	err = s.store.Tx(ctx, func(tx Tx) error {
		cur, err := tx.LockHold(ctx, id)
		if err != nil {
			return err
		}
		if cur.State != HoldHeld {
			h = cur
			return nil
		}
		cur.Until = until
		h = cur
		return tx.UpdateHold(ctx, cur)
	})
	if err != nil {
		return Hold{}, err
	}
	if h.State != HoldHeld {
		return Hold{}, &HoldInOrder{OrderID: h.OrderID}
	}
	return h, nil
}

// ReleaseHold frees the seats of a hold that no order has. It may be repeated.
// Errors: *HoldInOrder, ErrNotNow.
func (s *Service) ReleaseHold(ctx context.Context, who Principal, id uuid.UUID) error {
	h, err := s.ownHold(ctx, who, id)
	if err != nil {
		return err
	}
	if h.State == HoldReleased || h.State == HoldRefused {
		return nil
	}
	if h.OrderID != uuid.Nil {
		return &HoldInOrder{OrderID: h.OrderID}
	}
	// First the row, so that no order can take the hold any more; should we
	// stop between the two, the seats' own lease ends.
	err = s.store.Tx(ctx, func(tx Tx) error {
		cur, err := tx.LockHold(ctx, id)
		if err != nil {
			return err
		}
		if cur.OrderID != uuid.Nil {
			return &HoldInOrder{OrderID: cur.OrderID}
		}
		cur.State = HoldPlacing // not known until the inventory answered
		cur.Until = s.now()
		return tx.UpdateHold(ctx, cur)
	})
	if err != nil {
		return err
	}
	s.at(PointHoldLetGo)
	if a := s.release(ctx, h.grip()); a.Outcome != Done {
		return ErrNotNow
	}
	_, err = s.settleHold(ctx, h, Answer{Outcome: Gone})
	if errors.Is(err, ErrHoldExpired) {
		return nil
	}
	return err
}

// QuoteHolds prices live holds as CreateOrder would now.
func (s *Service) QuoteHolds(ctx context.Context, who Principal, ids []uuid.UUID) (Quote, []Unit, error) {
	_, _, q, us, err := s.quote(ctx, who, ids)
	return q, us, err
}

func (s *Service) quote(ctx context.Context, who Principal, ids []uuid.UUID) (Performance, []Hold, Quote, []Unit, error) {
	fail := func(err error) (Performance, []Hold, Quote, []Unit, error) {
		return Performance{}, nil, Quote{}, nil, err
	}
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) })
	ids = slices.Compact(ids)
	switch {
	case len(ids) == 0:
		return fail(ErrNoSeats)
	case len(ids) > maxHolds:
		return fail(ErrTooManyHolds)
	}
	var holds []Hold
	for _, id := range ids {
		h, err := s.ownHold(ctx, who, id)
		if err != nil {
			return fail(err)
		}
		if h.OrderID != uuid.Nil {
			return fail(&HoldInOrder{OrderID: h.OrderID})
		}
		if !h.Live(s.now()) {
			return fail(ErrHoldExpired)
		}
		if h.Performance != holdsPerformance(holds, h) {
			return fail(ErrMixedHolds)
		}
		holds = append(holds, h)
	}
	slices.SortStableFunc(holds, func(a, b Hold) int { return a.Block - b.Block })
	perf, err := s.prices.Performance(ctx, holds[0].Performance)
	if err != nil {
		return fail(err)
	}
	q := Quote{Currency: perf.Currency}
	var us []Unit
	for _, h := range holds {
		ps, err := s.prices.Prices(ctx, perf.ID, h.seatList())
		if err != nil {
			return fail(err)
		}
		for _, p := range ps {
			u := Unit{Unit: len(us) + 1, HoldID: h.ID, Seat: p.Seat, Label: p.Label, Offer: p.Offer, Price: p.Price, Fee: p.Fee, Tax: p.Tax, State: UnitLive}
			us = append(us, u)
			q.Total += u.Total()
		}
	}
	return perf, holds, q, us, nil
}

func holdsPerformance(holds []Hold, h Hold) uuid.UUID {
	if len(holds) == 0 {
		return h.Performance
	}
	return holds[0].Performance
}
