// Package restart kills the whole demo with SIGKILL at random moments of many fans' journeys, starts it again, and audits that
// nothing the server had acknowledged is lost: places, ranks, holds, orders, payments, tickets.
//
// The drill is the test of this package under the build tag `kill` (make kill-test). The ledger of what was acknowledged is kept
// outside the killed process, by the simulated fans themselves.
package restart

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stanchion-queue/stanchion/perf/load"
)

// Ledger collects what the server acknowledged. Safe for concurrent use.
type Ledger struct {
	mu     sync.Mutex
	counts map[load.FactKind]int
	fans   map[int]*history
}

// history is one fan's evening.
type history struct {
	ticket string // the first one given
	ranks  []uint64
	pass   time.Time
	holds  []load.Fact
	orders []load.Fact
	paid   []load.Fact
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{counts: map[load.FactKind]int{}, fans: map[int]*history{}}
}

// Witness is load.Options.Witness.
func (l *Ledger) Witness(f load.Fact) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[f.Kind]++
	h := l.fans[f.Fan]
	if h == nil {
		h = &history{}
		l.fans[f.Fan] = h
	}
	switch f.Kind {
	case load.FactPlace:
		if h.ticket == "" {
			h.ticket = f.Text
		}
	case load.FactRank:
		h.ticket, h.ranks = f.Text, append(h.ranks, f.Rank)
	case load.FactPass:
		h.pass = f.At
	case load.FactHold:
		h.holds = append(h.holds, f)
	case load.FactOrder:
		h.orders = append(h.orders, f)
	case load.FactPaid:
		h.paid = append(h.paid, f)
	}
}

// Counts returns how many facts of each kind there are.
func (l *Ledger) Counts() map[load.FactKind]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[load.FactKind]int{}
	for k, v := range l.counts {
		out[k] = v
	}
	return out
}

// Server answers the audit's questions; the test asks over HTTP.
type Server interface {
	// Rank returns a ticket's rank, known false while it is not sealed; ok false when the server does not know the ticket.
	Rank(ticket string) (rank uint64, known, ok bool, err error)
	// Hold returns a hold's state; ok false when there is none.
	Hold(guest, id string) (state string, ok bool, err error)
	// Order returns an order's state, the labels of its good tickets, and the money captured; ok false when there is none.
	Order(link, id string) (o Order, ok bool, err error)
}

// Order is what the audit looks at.
type Order struct {
	State    string
	Total    int64
	Captured int64 // over all payments of the order, minus what was refunded
	Tickets  []string
}

// alive are the states in which a hold whose promise still stands may be.
var alive = []string{"placing", "held", "pinned", "selling", "sold"}

// final are the states an order may end in.
var final = []string{"PAID", "CANCELLED", "EXPIRED", "REFUNDED"}

// Audit compares the ledger with what the server says and lists every loss. now is the time of the comparison.
func (l *Ledger) Audit(s Server, now time.Time) (losses []string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := func(format string, args ...any) { losses = append(losses, fmt.Sprintf(format, args...)) }
	seats := map[string]string{} // label -> order
	for fan, h := range l.fans {
		if len(h.ranks) > 0 && !same(h.ranks) {
			lost("fan %d: rank changed: %v", fan, h.ranks)
		}
		if h.ticket != "" && h.pass.IsZero() {
			rank, known, ok, err := s.Rank(h.ticket)
			switch {
			case err != nil:
				return nil, fmt.Errorf("ask for the place of fan %d: %w", fan, err)
			case !ok:
				lost("fan %d: the place is gone", fan)
			case known && len(h.ranks) > 0 && rank != h.ranks[0]:
				lost("fan %d: rank was %d, is %d", fan, h.ranks[0], rank)
			}
		}
		ordered := len(h.orders) > 0
		for _, f := range h.holds {
			state, ok, err := s.Hold(f.Guest, f.ID)
			switch {
			case err != nil:
				return nil, fmt.Errorf("ask for hold %s: %w", f.ID, err)
			case !ok:
				lost("fan %d: hold %s is gone", fan, f.ID)
			case !ordered && now.Before(f.Until) && !slices.Contains(alive, state):
				lost("fan %d: hold %s is %s before its promised end", fan, f.ID, state)
			}
		}
		paid := map[string]int{}
		for _, f := range h.paid {
			paid[f.ID] = f.Seats
		}
		for _, f := range h.orders {
			o, ok, err := s.Order(f.Text, f.ID)
			if err != nil {
				return nil, fmt.Errorf("ask for order %s: %w", f.ID, err)
			}
			if !ok {
				lost("fan %d: order %s is gone", fan, f.ID)
				continue
			}
			want, wasPaid := paid[f.ID]
			switch {
			case wasPaid && o.State != "PAID":
				lost("fan %d: order %s was paid and is %s", fan, f.ID, o.State)
			case wasPaid && len(o.Tickets) != want:
				lost("fan %d: order %s has %d tickets, paid for %d", fan, f.ID, len(o.Tickets), want)
			case o.State == "PAID" && o.Captured != o.Total:
				lost("fan %d: order %s took %d of %d", fan, f.ID, o.Captured, o.Total)
			case o.State != "PAID" && o.Captured != 0 && slices.Contains(final, o.State):
				lost("fan %d: order %s is %s and keeps %d", fan, f.ID, o.State, o.Captured)
			case !slices.Contains(final, o.State):
				lost("fan %d: order %s is still %s", fan, f.ID, o.State)
			}
			for _, label := range o.Tickets {
				if other, taken := seats[label]; taken {
					lost("seat %s is sold twice: orders %s and %s", label, other, f.ID)
				}
				seats[label] = f.ID
			}
		}
	}
	slices.Sort(losses)
	return losses, nil
}

func same(ranks []uint64) bool {
	for _, r := range ranks {
		if r != ranks[0] {
			return false
		}
	}
	return true
}
