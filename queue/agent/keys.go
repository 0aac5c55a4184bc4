package agent

import (
	"fmt"
	"sync/atomic"

	"github.com/stanchion-queue/stanchion/queue/line"
)

// ticketRing is a room's ticket keys, which may be exchanged while requests use them.
type ticketRing struct{ now atomic.Pointer[line.Tickets] }

func (k *ticketRing) Parse(text string) (line.Ticket, error) { return k.now.Load().Parse(text) }
func (k *ticketRing) Issue(t line.Ticket) string             { return k.now.Load().Issue(t) }

// SetTicketKeys exchanges the ticket keys of all rooms while they run; the first signs. Either all rooms take the ring or, with an error,
// none does. A ring that would refuse the tickets signed at this moment is line.ErrTicketRing: it has to hold the key that signs now,
// with the same secret.
//
// With several edges a new key is first added behind the old ones everywhere, then moved to the front, so that no edge meets a
// ticket whose key it does not know. An old key may go once no ticket of it is in line any more: tickets are signed anew only when their
// rank becomes known and at the door. Safe for concurrent use.
func (a *Agent) SetTicketKeys(keys ...line.TicketKey) error {
	a.keys.Lock()
	defer a.keys.Unlock()
	next := make(map[*Room]*line.Tickets, len(a.rooms))
	for name, r := range a.rooms {
		ring, err := line.NewTickets(name, keys...)
		if err != nil {
			return fmt.Errorf("agent: %w", err)
		}
		if _, err := ring.Parse(r.tickets.Issue(line.Ticket{})); err != nil {
			return fmt.Errorf("agent: %w: it would refuse tickets signed now: %w", line.ErrTicketRing, err)
		}
		next[r] = ring
	}
	for r, ring := range next {
		r.tickets.now.Store(ring)
	}
	return nil
}
