// Package counter is the box office: it turns what a fan asks for (named seats, or "four together") into holds.
//
// A hold lies in one block of the inventory, so seats of several blocks become several holds, taken in block order; when a later
// one fails the earlier ones are given back, and the fan has all or nothing.
package counter

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/problem"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// MaxSeats bounds the seats of one request, and maxBlocks the blocks they lie in: an order takes that many holds.
const (
	MaxSeats  = 20
	maxBlocks = 4
)

// bestTries is how often a suggestion that somebody else took is replaced by another.
const bestTries = 4

// Orders takes and releases holds; order.Service implements it.
type Orders interface {
	CreateHold(ctx context.Context, r order.HoldRequest) (order.Hold, error)
	ReleaseHold(ctx context.Context, who order.Principal, id uuid.UUID) error
}

// Seats suggests seats; the inventory implements it.
type Seats interface {
	SuggestBest(ctx context.Context, performance uuid.UUID, qty int, offer string, accessible bool, channels []int16) (block int16, seats []int16, err error)
}

// Counter takes holds. Safe for concurrent use.
type Counter struct {
	Orders  Orders
	Catalog *catalog.Service
	Seats   Seats
}

// Wish is what a fan asks for: named seats (ids of the chart) or Qty adjacent ones.
type Wish struct {
	IDs        []string
	Qty        int
	Offer      string // category, with Qty; empty: any
	Accessible bool   // an accessible place and companions beside it, with Qty
	OneBlock   bool   // refuse seats of several blocks instead of taking one hold in each
}

// Hold takes what is wished for. base carries who asks, their pass, the performance and the id of the first hold; the ids of
// further ones derive from it, so that a repeated request finds its own holds. A seat that does not exist is *order.NoSuchSeat or
// a problem naming the id; a seat that somebody else has, *order.SeatsTaken.
func (c *Counter) Hold(ctx context.Context, base order.HoldRequest, w Wish) ([]order.Hold, error) {
	if len(w.IDs) > 0 {
		return c.named(ctx, base, w)
	}
	if w.Qty < 1 || w.Qty > MaxSeats {
		return nil, order.ErrNoSeats
	}
	h, err := c.best(ctx, base, w)
	if err != nil {
		return nil, err
	}
	return []order.Hold{h}, nil
}

func (c *Counter) named(ctx context.Context, base order.HoldRequest, w Wish) ([]order.Hold, error) {
	if len(w.IDs) > MaxSeats {
		return nil, problem.New(problem.TooManySeats, fmt.Sprintf("At most %d in one request.", MaxSeats))
	}
	hall, err := c.Catalog.Hall(ctx, base.Performance)
	if err != nil {
		return nil, err
	}
	byBlock := map[int][]order.Seat{}
	var missing []problem.Seat
	for _, id := range w.IDs {
		place, ok := hall.Layout.Find(id)
		if !ok {
			missing = append(missing, problem.Seat{ID: id, Block: -1, Seat: -1})
			continue
		}
		b := int(place.Block)
		byBlock[b] = append(byBlock[b], order.Seat{Block: b, Seat: int(place.Seat)})
	}
	if missing != nil {
		p := problem.New(problem.NoSuchSeat, "")
		p.Seats = missing
		return nil, p
	}
	blocks := make([]int, 0, len(byBlock))
	for b := range byBlock {
		blocks = append(blocks, b)
	}
	slices.Sort(blocks)
	switch {
	case w.OneBlock && len(blocks) > 1:
		return nil, order.ErrManyBlocks
	case len(blocks) > maxBlocks:
		return nil, order.ErrTooManyHolds
	}
	var holds []order.Hold
	for i, b := range blocks {
		r := base
		r.Seats = byBlock[b]
		if i > 0 {
			r.ID = derived(base.ID, b)
		}
		h, err := c.Orders.CreateHold(ctx, r)
		if err != nil {
			return nil, errors.Join(err, c.release(context.WithoutCancel(ctx), base.Principal, holds))
		}
		holds = append(holds, h)
	}
	return holds, nil
}

// release gives earlier holds back; what cannot be given back now runs out by itself.
func (c *Counter) release(ctx context.Context, who order.Principal, holds []order.Hold) error {
	var errs []error
	for _, h := range holds {
		if err := c.Orders.ReleaseHold(ctx, who, h.ID); err != nil && !errors.Is(err, order.ErrHoldExpired) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func derived(first uuid.UUID, n int) uuid.UUID {
	return uuid.NewSHA1(first, []byte{byte(n >> 8), byte(n)})
}

func (c *Counter) best(ctx context.Context, base order.HoldRequest, w Wish) (order.Hold, error) {
	var last error
	for try := range bestTries {
		block, seats, err := c.Seats.SuggestBest(ctx, base.Performance, w.Qty, w.Offer, w.Accessible, nil)
		if err != nil {
			return order.Hold{}, err
		}
		r := base
		r.Seats = make([]order.Seat, len(seats))
		for i, n := range seats {
			r.Seats[i] = order.Seat{Block: int(block), Seat: int(n)}
		}
		if try > 0 { // a refused hold's id is spent
			r.ID = derived(base.ID, 1<<15+try)
		}
		h, err := c.Orders.CreateHold(ctx, r)
		var taken *order.SeatsTaken
		if err == nil || !errors.As(err, &taken) {
			return h, err
		}
		last = err
	}
	return order.Hold{}, last
}

// SeatsOf names the seats of a hold as the chart knows them.
func SeatsOf(hall *catalog.Hall, h order.Hold) (ids, labels []string) {
	for _, n := range h.Seats {
		if section, row, seat, ok := hall.Layout.At(chart.Place{Block: int16(h.Block), Seat: int16(n)}); ok {
			ids = append(ids, seat.ID)
			labels = append(labels, catalog.Label(section, row, seat))
		}
	}
	return ids, labels
}
