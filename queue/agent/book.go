package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// book is one line as this agent knows it. It is immutable; every change makes another.
type book struct {
	published line.Published
	opened    line.Opened
	opening   line.Opening
	key       []byte // derives session ids
	ledgers   []line.Ledger
	sealed    line.Window
	chain     [32]byte
	lanes     []queue.LaneControl
}

var (
	errSealGap   = errors.New("seals are missing in between")
	errSealChain = errors.New("seal does not continue the chain")
)

// newBook reads a line's published part.
func newBook(master []byte, room string, s queue.LineState) (*book, error) {
	opened, err := s.Published.Open()
	if err != nil {
		return nil, fmt.Errorf("line %s: %w", s.Line, err)
	}
	if opened.Record.Line != s.Line || opened.Record.Room != room {
		return nil, fmt.Errorf("line %s: its record is of room %q, line %s", s.Line, opened.Record.Room, opened.Record.Line)
	}
	opening, err := opened.Opening(s.Published.Result)
	if err != nil {
		return nil, fmt.Errorf("line %s: %w", s.Line, err)
	}
	key, err := line.RoomKey(master, room, s.Line)
	if err != nil {
		return nil, err
	}
	n := len(opened.Record.Lanes)
	b := &book{published: s.Published, opened: opened, opening: opening, key: key, ledgers: make([]line.Ledger, n), lanes: make([]queue.LaneControl, n)}
	copy(b.lanes, s.Lanes)
	return b, nil
}

// loadBook reads a line and its whole sealed ledger from the store.
func loadBook(ctx context.Context, store queue.Store, master []byte, room string, id line.ID) (*book, error) {
	state, err := store.Line(ctx, room, id)
	if err != nil {
		return nil, fmt.Errorf("read line %s: %w", id, err)
	}
	b, err := newBook(master, room, state)
	if err != nil {
		return nil, err
	}
	for lane := range b.ledgers {
		if b.ledgers[lane], err = loadLedger(ctx, store, room, id, uint8(lane), state.Sealed); err != nil {
			return nil, err
		}
	}
	b.sealed, b.chain = state.Sealed, state.Chain
	return b, nil
}

// loadLedger reads the first sealed windows of a lane; chunks may hold more by now, which is left to the seals that follow.
func loadLedger(ctx context.Context, store queue.Store, room string, id line.ID, lane uint8, sealed line.Window) (line.Ledger, error) {
	var l line.Ledger
	for c := uint32(0); uint64(c)*line.ChunkWindows < uint64(sealed); c++ {
		chunk, err := store.LedgerChunk(ctx, room, id, lane, c)
		if err != nil {
			return l, fmt.Errorf("read ledger of line %s, lane %d, chunk %d: %w", id, lane, c, err)
		}
		want := min(line.ChunkWindows, uint64(sealed)-uint64(c)*line.ChunkWindows)
		if have := uint64(len(chunk)); have < 8*(want+1) {
			return l, fmt.Errorf("ledger of line %s, lane %d, chunk %d: %d bytes, want %d: %w", id, lane, c, have, 8*(want+1), errSealGap)
		}
		if l, err = l.AppendChunkBytes(chunk[:8*(want+1)]); err != nil {
			return l, err
		}
	}
	return l, nil
}

// with returns the book after some seals; those it holds already are skipped. errSealGap asks for a reload, errSealChain means
// that the store contradicts what this agent has told fans.
func (b *book) with(seals []queue.SealedRange) (*book, error) {
	next := b
	for _, s := range seals {
		if s.Line != b.opened.Record.Line || s.To <= next.sealed {
			continue
		}
		if s.From != next.sealed || len(s.Counts) != len(next.ledgers) {
			return nil, fmt.Errorf("windows %d to %d, sealed up to %d: %w", s.From, s.To, next.sealed, errSealGap)
		}
		for _, counts := range s.Counts {
			if len(counts) != int(s.To-s.From) {
				return nil, fmt.Errorf("windows %d to %d have %d counts: %w", s.From, s.To, len(counts), errSealGap)
			}
		}
		if line.SealChain(next.chain, s.Line, s.From, s.To, s.Counts) != s.Chain {
			return nil, fmt.Errorf("windows %d to %d: %w", s.From, s.To, errSealChain)
		}
		c := *next
		c.ledgers = make([]line.Ledger, len(next.ledgers))
		for lane := range c.ledgers {
			c.ledgers[lane] = next.ledgers[lane].Append(s.Counts[lane]...)
		}
		c.sealed, c.chain = s.To, s.Chain
		next = &c
	}
	return next, nil
}

// continues reports whether this book says the same as an older one about all windows that one holds.
func (b *book) continues(old *book) bool {
	if b.sealed < old.sealed || len(b.ledgers) != len(old.ledgers) {
		return false
	}
	for lane := range b.ledgers {
		if !slices.Equal(b.ledgers[lane].Counts(0, old.sealed), old.ledgers[lane].Counts(0, old.sealed)) {
			return false
		}
	}
	return true
}

// withLanes returns the book with the lanes' frontiers moved; a frontier never goes back, whatever a store says.
func (b *book) withLanes(lanes []queue.LaneControl) *book {
	c := *b
	c.lanes = make([]queue.LaneControl, len(b.lanes))
	copy(c.lanes, lanes)
	for i := range c.lanes {
		c.lanes[i].Called = max(c.lanes[i].Called, b.lanes[i].Called)
		c.lanes[i].Due = max(c.lanes[i].Due, b.lanes[i].Due)
	}
	return &c
}

// rank is a ticket's place; ok is false while it cannot be known.
func (b *book) rank(t line.Ticket) (uint64, bool) {
	if int(t.Lane) >= len(b.ledgers) {
		return line.NoRank, false
	}
	return line.Rank(b.opening, b.ledgers[t.Lane], t.Stamp, t.Who)
}

// session is the one session a ticket can become.
func (b *book) session(s line.Stamp) line.SessionID {
	return line.NewSessionID(b.key, b.opened.Record.Line, s.Inc, s.Seq)
}

// lobby reports whether a ticket stands in a lobby whose order is not known yet.
func (b *book) lobby(t line.Ticket) bool {
	return !b.opening.Drawn && t.Stamp.Win < b.opening.LobbyEnd
}

// publish is what others may verify: the published part with the sealed counts as this agent holds them.
func (b *book) publish() line.Published {
	p := b.published
	p.Sealed, p.Chain = b.sealed, fmt.Sprintf("%x", b.chain)
	p.Totals, p.Lobby = make([]uint64, len(b.ledgers)), nil
	for lane, l := range b.ledgers {
		p.Totals[lane] = l.Total()
	}
	if end := b.opened.Record.LobbyEnd(); end > 0 && b.sealed >= end {
		p.Lobby = make([]uint64, len(b.ledgers))
		for lane, l := range b.ledgers {
			p.Lobby[lane], _ = l.Before(end)
		}
	}
	return p
}
