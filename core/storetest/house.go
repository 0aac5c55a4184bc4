package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/order"
)

// House is a model of the inventory with the rules that core.md gives it: a
// seat is sold, cooling or free, a lease ends by the clock, a block is a unit
// of change. It also has the fault that matters: an error after which nobody
// knows whether the change was made.
type House struct {
	Now func() time.Time

	mu     sync.Mutex
	seats  map[order.Seat]*seat
	state  map[int]order.Outcome // of blocks: NotOpen refuses holds, Frozen refuses holds and sales
	faults float64               // of calls whose answer is lost, half of them without effect
	dice   *rand.Rand
	down   bool
	Sales  int // how often a seat went from free to sold
}

type seat struct {
	hold    uuid.UUID
	until   time.Time
	order   uuid.UUID
	cooling bool
}

var _ order.Seats = (*House)(nil)

// NewHouse returns a house with all seats free, in every block, 0 to 99.
func NewHouse(now func() time.Time, seed uint64) *House {
	return &House{Now: now, seats: map[order.Seat]*seat{}, state: map[int]order.Outcome{}, dice: rand.New(rand.NewPCG(seed, 1))}
}

// Faults sets the share of calls whose answer is lost.
func (h *House) Faults(share float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = share
}

// Down makes every call fail without effect.
func (h *House) Down(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

// SetBlock makes a block refuse: order.NotOpen, order.Frozen; order.Done opens
// it.
func (h *House) SetBlock(block int, o order.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state[block] = o
}

// Steal ends the lease on a seat and gives it to somebody else.
func (h *House) Steal(s order.Seat, hold uuid.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := h.at(s)
	st.hold, st.until = hold, h.Now().Add(time.Hour)
}

// Lapse ends the leases of a hold.
func (h *House) Lapse(hold uuid.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, st := range h.seats {
		if st.hold == hold {
			st.hold = uuid.Nil
		}
	}
}

// Sold returns every sold seat and its order.
func (h *House) Sold() map[order.Seat]uuid.UUID {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[order.Seat]uuid.UUID{}
	for s, st := range h.seats {
		if st.order != uuid.Nil {
			out[s] = st.order
		}
	}
	return out
}

// Busy returns the seats that are not on offer: sold, cooling or under a
// lease.
func (h *House) Busy() []order.Seat {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []order.Seat
	for s, st := range h.seats {
		if st.order != uuid.Nil || st.cooling || h.leased(st) {
			out = append(out, s)
		}
	}
	return out
}

func (h *House) at(s order.Seat) *seat {
	st, ok := h.seats[s]
	if !ok {
		st = &seat{}
		h.seats[s] = st
	}
	return st
}

func (h *House) leased(st *seat) bool { return st.hold != uuid.Nil && h.Now().Before(st.until) }

var errLost = errors.New("the answer was lost")

// change does one change of a block's seats, all or none.
func (h *House) change(ctx context.Context, g order.Grip, open func(order.Outcome) bool, check func(*seat) order.Outcome, apply func(*seat)) (order.Answer, error) {
	if err := ctx.Err(); err != nil {
		return order.Answer{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	lost := h.dice.Float64() < h.faults
	if h.down || (lost && h.dice.IntN(2) == 0) {
		return order.Answer{}, errLost
	}
	a := order.Answer{Outcome: order.Done}
	if st, ok := h.state[g.Block]; ok && !open(st) {
		a.Outcome = st
	}
	if a.Outcome == order.Done {
		for _, n := range g.Seats {
			if n < 0 || n > 99 {
				a.Outcome, a.Seats = order.NoSeat, append(a.Seats, n)
				continue
			}
			if o := check(h.at(order.Seat{Block: g.Block, Seat: n})); o != order.Done {
				a.Outcome, a.Seats = o, append(a.Seats, n)
			}
		}
	}
	if a.Outcome == order.Done {
		for _, n := range g.Seats {
			apply(h.at(order.Seat{Block: g.Block, Seat: n}))
		}
	}
	if lost {
		return order.Answer{}, errLost
	}
	return a, nil
}

func always(order.Outcome) bool     { return true }
func unfrozen(o order.Outcome) bool { return o != order.Frozen }
func onSale(o order.Outcome) bool   { return o == order.Done }

// Hold implements order.Seats.
func (h *House) Hold(ctx context.Context, g order.Grip, lease time.Duration) (order.Answer, error) {
	return h.change(ctx, g, onSale, func(s *seat) order.Outcome {
		if s.order != uuid.Nil || s.cooling || (h.leased(s) && s.hold != g.Hold) {
			return order.Taken
		}
		return order.Done
	}, func(s *seat) { s.hold, s.until = g.Hold, h.Now().Add(lease) })
}

// Extend implements order.Seats.
func (h *House) Extend(ctx context.Context, g order.Grip, lease time.Duration) (order.Answer, error) {
	return h.Pin(ctx, g, lease)
}

// Pin implements order.Seats.
func (h *House) Pin(ctx context.Context, g order.Grip, lease time.Duration) (order.Answer, error) {
	return h.change(ctx, g, always, func(s *seat) order.Outcome {
		if s.hold != g.Hold || !h.leased(s) || s.order != uuid.Nil {
			return order.Gone
		}
		return order.Done
	}, func(s *seat) { s.until = h.Now().Add(lease) })
}

// Release implements order.Seats.
func (h *House) Release(ctx context.Context, g order.Grip) (order.Answer, error) {
	return h.change(ctx, g, always, func(*seat) order.Outcome { return order.Done }, func(s *seat) {
		if s.hold == g.Hold && s.order == uuid.Nil {
			s.hold = uuid.Nil
		}
	})
}

// Sell implements order.Seats.
func (h *House) Sell(ctx context.Context, g order.Grip, id uuid.UUID) (order.Answer, error) {
	return h.change(ctx, g, unfrozen, func(s *seat) order.Outcome {
		switch {
		case s.order == id:
			return order.Done
		case s.order != uuid.Nil:
			return order.Taken
		case s.hold != g.Hold || !h.leased(s):
			return order.Gone
		}
		return order.Done
	}, func(s *seat) { h.sold(s, id) })
}

// Rescue implements order.Seats.
func (h *House) Rescue(ctx context.Context, g order.Grip, id uuid.UUID) (order.Answer, error) {
	return h.change(ctx, g, unfrozen, func(s *seat) order.Outcome {
		if s.order != id && (s.order != uuid.Nil || s.cooling || h.leased(s)) {
			return order.Taken
		}
		return order.Done
	}, func(s *seat) { h.sold(s, id) })
}

func (h *House) sold(s *seat, id uuid.UUID) {
	if s.order != id {
		h.Sales++
	}
	s.order, s.hold = id, uuid.Nil
}

// Unsell implements order.Seats.
func (h *House) Unsell(ctx context.Context, g order.Grip, id uuid.UUID) (order.Answer, error) {
	return h.change(ctx, g, always, func(*seat) order.Outcome { return order.Done }, func(s *seat) {
		if s.order == id {
			s.order, s.cooling = uuid.Nil, true
		}
	})
}

// Reopen implements order.Seats.
func (h *House) Reopen(ctx context.Context, g order.Grip) (order.Answer, error) {
	return h.change(ctx, g, always, func(*seat) order.Outcome { return order.Done }, func(s *seat) { s.cooling = false })
}

// Box is a price list: everything costs the same.
type Box struct {
	mu   sync.Mutex
	perf order.Performance
	each order.SeatPrice
}

// NewBox returns the price list of one performance.
func NewBox(perf order.Performance, price, fee int64) *Box {
	return &Box{perf: perf, each: order.SeatPrice{Offer: "Standard", Price: price, Fee: fee, Tax: price / 10}}
}

// Change changes the performance or the price.
func (b *Box) Change(f func(*order.Performance, *order.SeatPrice)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.perf, &b.each)
}

// Performance implements order.Prices.
func (b *Box) Performance(_ context.Context, id uuid.UUID) (order.Performance, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id != b.perf.ID {
		return order.Performance{}, order.ErrNoPerformance
	}
	return b.perf, nil
}

// Prices implements order.Prices.
func (b *Box) Prices(_ context.Context, id uuid.UUID, seats []order.Seat) ([]order.SeatPrice, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id != b.perf.ID {
		return nil, order.ErrNoPerformance
	}
	var none order.NoSuchSeat
	out := make([]order.SeatPrice, len(seats))
	for i, s := range seats {
		if s.Seat < 0 || s.Seat > 99 {
			none.Seats = append(none.Seats, s)
		}
		out[i] = b.each
		out[i].Seat, out[i].Label = s, fmt.Sprintf("Block %d, seat %d", s.Block, s.Seat)
	}
	if none.Seats != nil {
		return nil, &none
	}
	return out, nil
}

// Foyer is a waiting room that remembers what it was told.
type Foyer struct {
	mu       sync.Mutex
	Ended    []string
	Extended []string
	fail     int
}

// FailNext makes the next n calls fail.
func (f *Foyer) FailNext(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = n
}

func (f *Foyer) note(list *[]string, room, session string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail > 0 {
		f.fail--
		return errors.New("the waiting room does not answer")
	}
	*list = append(*list, room+"/"+session)
	return nil
}

// EndSession implements order.Rooms.
func (f *Foyer) EndSession(_ context.Context, room, session string) error {
	return f.note(&f.Ended, room, session)
}

// ExtendSession implements order.Rooms.
func (f *Foyer) ExtendSession(_ context.Context, room, session string, _ time.Time) error {
	return f.note(&f.Extended, room, session)
}
