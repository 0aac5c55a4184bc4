package chart

import (
	"fmt"
	"math"
	"sync"
)

// Block sizes. A block is the unit the store changes at once.
const (
	DefaultBlockSeats = 250
	MinBlockSeats     = 10
	MaxBlockSeats     = 500
)

// Layout says which block and number every seat of a chart has. It follows from the chart and the block size alone, and
// sold tickets depend on it: the rule of Chart.Layout must never change. It is safe for concurrent use.
type Layout struct {
	Chart      *Chart
	BlockSeats int
	Blocks     []Block

	index  sync.Once // most users never look for an id, and the index of a stadium is large
	places map[string]Place
}

// Place is a seat's address in the store.
type Place struct{ Block, Seat int16 }

// Block is a run of seats in chart order; seat number n is Seats[n].
type Block struct{ Seats []Ref }

// Ref is a seat's address in the chart.
type Ref struct{ Section, Row, Seat int }

// Layout splits the chart into blocks of at most blockSeats seats (0: the default), in chart order. A row stays in one
// block when it fits into one at all; a section starts a new block once the present one is at least half full.
func (c *Chart) Layout(blockSeats int) (*Layout, error) {
	if blockSeats == 0 {
		blockSeats = DefaultBlockSeats
	}
	if blockSeats < MinBlockSeats || blockSeats > MaxBlockSeats {
		return nil, fmt.Errorf("split the chart into blocks: %d seats a block is not between %d and %d", blockSeats, MinBlockSeats, MaxBlockSeats)
	}
	l := &Layout{Chart: c, BlockSeats: blockSeats}
	var present []Ref
	flush := func() {
		if len(present) > 0 {
			l.Blocks = append(l.Blocks, Block{Seats: present})
			present = nil
		}
	}
	for i := range c.Sections {
		if len(present) >= blockSeats/2 {
			flush()
		}
		for j := range c.Sections[i].Rows {
			n := len(c.Sections[i].Rows[j].Seats)
			if n <= blockSeats && len(present)+n > blockSeats {
				flush()
			}
			for k := range n {
				if len(present) == blockSeats {
					flush()
				}
				present = append(present, Ref{i, j, k})
			}
		}
	}
	flush()
	if len(l.Blocks) > math.MaxInt16 {
		return nil, fmt.Errorf("split the chart into blocks: %d blocks of %d seats are more than %d", len(l.Blocks), blockSeats, math.MaxInt16)
	}
	return l, nil
}

func (c *Chart) seat(r Ref) *Seat { return &c.Sections[r.Section].Rows[r.Row].Seats[r.Seat] }

// Find gives the place of the seat with this id.
func (l *Layout) Find(id string) (Place, bool) {
	l.index.Do(func() {
		l.places = make(map[string]Place, l.Chart.SeatCount())
		for b := range l.Blocks {
			for n, r := range l.Blocks[b].Seats {
				l.places[l.Chart.seat(r).ID] = Place{int16(b), int16(n)}
			}
		}
	})
	p, ok := l.places[id]
	return p, ok
}

// At gives the section, row and seat at a place; ok is false when the chart has no such place.
func (l *Layout) At(p Place) (section *Section, row *Row, seat *Seat, ok bool) {
	if p.Block < 0 || int(p.Block) >= len(l.Blocks) || p.Seat < 0 || int(p.Seat) >= len(l.Blocks[p.Block].Seats) {
		return nil, nil, nil, false
	}
	r := l.Blocks[p.Block].Seats[p.Seat]
	s := &l.Chart.Sections[r.Section]
	return s, &s.Rows[r.Row], l.Chart.seat(r), true
}
