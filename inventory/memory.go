package inventory

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// memory is what an owner remembers of its block. It answers "taken" and proposes batches; it never decides a "yes".
type memory struct {
	head   Head
	sureAt time.Time // when it was last known to be right: read, or a batch made from it was applied; zero: never
	seats  []remembered
}

type remembered struct {
	channel, kill int16
	order, hold   uuid.UUID
	until         time.Time // the store has ended the lease by then, perhaps a second earlier
}

// learn replaces the memory by what was just read.
func (m *memory) learn(b Block, now time.Time) {
	m.head, m.sureAt = b.Head, now
	m.seats = make([]remembered, len(b.Seats))
	for i, s := range b.Seats {
		m.seats[i] = remembered{s.Channel, s.Kill, s.Order, s.Hold, now.Add(s.Left)}
	}
}

func (m *memory) seat(n int16, now time.Time) Seat {
	r := &m.seats[n]
	s := Seat{Seat: n, Channel: r.channel, Kill: r.kill, Order: r.order}
	if r.hold != uuid.Nil && r.until.After(now) {
		s.Hold, s.Left = r.hold, r.until.Sub(now)
	}
	return s
}

// record notes an applied batch. It named the version that memory has, so the state is the one remembered, too.
func (m *memory) record(b *Batch, head Head, now time.Time) {
	m.head.Ver, m.head.Last, m.head.Epoch = head.Ver, head.Last, head.Epoch
	m.sureAt = now
	if b.Set != nil {
		m.head.State = *b.Set
	}
	for i := range b.Changes {
		c := &b.Changes[i]
		for _, n := range c.Seats {
			s := &m.seats[n]
			switch c.Kind {
			case Hold, Pin:
				s.hold, s.until = c.Hold, now.Add(c.Lease.Duration())
			case Release:
				s.hold = uuid.Nil
			case Sell, Rescue:
				s.order = c.Order
			case Unsell:
				s.order, s.kill = uuid.Nil, c.Kill
			case SetKill:
				s.kill = c.Kill
			}
		}
	}
}

// verdicts of judge.
type ruling uint8

const (
	send    ruling = iota // worth a batch
	already               // it is so already
	never                 // refused; err says why
)

// judge says what memory thinks of a change, and narrows it to the seats it still has to touch. Seats must exist.
func (m *memory) judge(c Change, now time.Time) (Change, ruling, *Error) {
	var todo, done, taken []int16
	for _, n := range c.Seats {
		s := m.seat(n, now)
		switch {
		case c.fulfilledBy(s):
			done = append(done, n)
		case c.Admits(s):
			todo = append(todo, n)
		default:
			taken = append(taken, n)
		}
	}
	switch c.Kind {
	case Release, Unsell:
		// What is not this hold's or order's is given back already; but a seat sold under the hold is not.
		if c.Kind == Release {
			sold := slices.DeleteFunc(slices.Clone(taken), func(n int16) bool { return m.seat(n, now).Hold != c.Hold })
			if len(sold) > 0 {
				return c, never, ErrConflict.because("the seats are sold").with(uuid.Nil, 0, sold, nil)
			}
		}
		taken = nil
	}
	if len(taken) > 0 {
		return c, never, m.refusal(&c, taken, now)
	}
	if len(todo) == 0 && (len(done) > 0 || c.Kind == Release || c.Kind == Unsell) {
		return c, already, nil
	}
	if len(done) > 0 && c.Kind != SetKill && c.Kind != Unsell && c.Kind != Release {
		// One acquisition or sale is one batch, so half of it means that the caller asks for other seats than before.
		return c, never, ErrConflict.because("some of the seats have it already, others have not").with(uuid.Nil, 0, done, nil)
	}
	if !slices.Contains(c.Kind.States(), m.head.State) {
		if m.head.State == Frozen {
			return c, never, ErrBlockFrozen
		}
		return c, never, ErrSaleNotOpen.because("the sale is %v", m.head.State)
	}
	c.Seats = todo
	return c, send, nil
}

// fulfilledBy tells whether the seat already is as the change would make it. A pin always renews.
func (c *Change) fulfilledBy(s Seat) bool {
	switch c.Kind {
	case Hold:
		return s.Hold == c.Hold && s.Order == uuid.Nil
	case Sell, Rescue:
		return s.Order == c.Order
	case SetKill:
		return s.Kill == c.Kill && s.Order == uuid.Nil
	}
	return false
}

// refusal is the error for seats that do not admit a change.
func (m *memory) refusal(c *Change, taken []int16, now time.Time) *Error {
	switch c.Kind {
	case Pin, Sell:
		for _, n := range taken {
			if s := m.seat(n, now); s.Order != uuid.Nil {
				return ErrSeatsTaken.with(uuid.Nil, 0, taken, nil)
			}
		}
		return ErrHoldExpired.with(uuid.Nil, 0, taken, nil)
	}
	return ErrSeatsTaken.with(uuid.Nil, 0, taken, nil)
}

// free are the seats that the buyer of some channels could hold now, without those in use.
func (m *memory) free(channels []int16, inUse []bool, now time.Time) chart.Bits {
	bits := chart.NewBits(len(m.seats))
	probe := Change{Kind: Hold, Channels: channels}
	for n := range m.seats {
		if (inUse == nil || !inUse[n]) && probe.Admits(m.seat(int16(n), now)) {
			bits.Set(n)
		}
	}
	return bits
}

// planned is a batch to send, with the requests it is made of: changes[i] belongs to riders[i].
type planned struct {
	batch  Batch
	riders []*request
	rest   []*request // to be looked at again afterwards
}

// plan goes through the waiting requests in their order, answers those that memory can answer, and merges the others
// into one batch of at most limit changes that never names a seat twice: conditions see the state before the batch, so
// two holds of one seat would both be told yes.
func (m *memory) plan(waiting []*request, limit int, best chooser, now time.Time) (p planned) {
	inUse := make([]bool, len(m.seats))
	seats := 0
	var changes []Change
	barrier := false
	for i, r := range waiting {
		if barrier {
			p.rest = append(p.rest, waiting[i:]...)
			break
		}
		if r.set != nil {
			// A change of state travels alone, and nothing overtakes it.
			if len(changes) > 0 {
				p.rest = append(p.rest, waiting[i:]...)
				break
			}
			barrier = m.planState(r, &p)
			continue
		}
		if len(changes) >= limit {
			if r.want != nil || r.change.Kind != Hold {
				p.rest = append(p.rest, r)
				continue
			}
		}
		c := r.change
		if c.Seats = m.heldBy(&r.change, r.want, now); c.Seats == nil && r.want != nil {
			chosen, ok := best(m.free(c.Channels, inUse, now), *r.want)
			if !ok {
				if len(changes) > 0 {
					p.rest = append(p.rest, r) // what this batch leaves may fit
				} else {
					r.answer(answer{err: ErrNoSeatsLeft})
				}
				continue
			}
			c.Seats = chosen
		}
		c, what, err := m.judge(c, now)
		switch what {
		case already:
			r.answer(answer{seats: c.Seats, expires: m.expires(&c, r.promise, now)})
			continue
		case never:
			r.answer(answer{err: err})
			continue
		}
		if len(changes) >= limit || seats+len(c.Seats) > MaxBatchSeats ||
			slices.ContainsFunc(c.Seats, func(n int16) bool { return inUse[n] }) {
			p.rest = append(p.rest, r)
			continue
		}
		if !r.fly() {
			continue // its caller has left
		}
		for _, n := range c.Seats {
			inUse[n] = true
		}
		seats += len(c.Seats)
		changes = append(changes, c)
		p.riders = append(p.riders, r)
	}
	if len(changes) > 0 {
		p.batch = NewBatch(m.head, uuid.Must(uuid.NewRandom()), changes...)
	}
	return p
}

// doubtful tells whether plan would answer something that needs a fresher look than memory: only the refusal of a hold
// is given from memory alone.
func (m *memory) doubtful(waiting []*request, now time.Time) bool {
	return slices.ContainsFunc(waiting, func(r *request) bool {
		switch {
		case r.set != nil:
			return true
		case r.want != nil:
			return len(m.heldBy(&r.change, r.want, now)) > 0
		case r.change.Kind == Hold:
			return m.seat(r.change.Seats[0], now).Hold == r.change.Hold // a repeated call
		}
		_, what, _ := m.judge(r.change, now)
		return what != send
	})
}

// expires is the end of the promise of a hold that is on the seats already: no later than the lease allows.
func (m *memory) expires(c *Change, promise time.Duration, now time.Time) time.Time {
	at := now.Add(promise)
	if c.Kind != Hold {
		return at
	}
	slack := c.Lease.Duration() - promise
	for _, n := range c.Seats {
		if end := now.Add(m.seat(n, now).Left - slack); end.Before(at) {
			at = end
		}
	}
	return at
}

// heldBy are the seats of a change; for a best-available hold those that it has got already, if any.
func (m *memory) heldBy(c *Change, want *chart.Want, now time.Time) []int16 {
	if want == nil {
		return c.Seats
	}
	var seats []int16
	for n := range m.seats {
		if m.seats[n].hold == c.Hold && c.fulfilledBy(m.seat(int16(n), now)) {
			seats = append(seats, int16(n))
		}
	}
	return seats
}

// planState makes the batch of a change of state; false when the request is answered instead.
func (m *memory) planState(r *request, p *planned) bool {
	switch {
	case m.head.State == r.set.to:
		r.answer(answer{})
		return false
	case !slices.Contains(r.set.from, m.head.State):
		if m.head.State == Frozen {
			r.answer(answer{err: ErrBlockFrozen})
		} else {
			r.answer(answer{err: ErrConflict.because("the block is %v", m.head.State)})
		}
		return false
	case !r.fly():
		return false
	}
	p.batch = NewBatch(m.head, uuid.Must(uuid.NewRandom()))
	p.batch.States, p.batch.Set = r.set.from, &r.set.to
	p.riders = []*request{r}
	return true
}

// chooser is chart.Layout.Best for one block.
type chooser func(free chart.Bits, want chart.Want) ([]int16, bool)
