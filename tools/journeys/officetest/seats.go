package officetest

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/inventory"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// seats is the inventory as the order service sees it; the program has the same adapter.
type seats struct{ desk inventory.Desk }

var _ order.Seats = seats{}

var outcomes = map[string]order.Outcome{
	inventory.ErrSeatsTaken.Code():   order.Taken,
	inventory.ErrConflict.Code():     order.Taken,
	inventory.ErrNoSuchSeat.Code():   order.NoSeat,
	inventory.ErrSaleNotOpen.Code():  order.NotOpen,
	inventory.ErrBlockFrozen.Code():  order.Frozen,
	inventory.ErrHoldExpired.Code():  order.Gone,
	inventory.ErrLeaseRefused.Code(): order.TooShort,
}

func answer(err error) (order.Answer, error) {
	if err == nil {
		return order.Answer{Outcome: order.Done}, nil
	}
	var e *inventory.Error
	if !errors.As(err, &e) || outcomes[e.Code()] == order.Unknown {
		return order.Answer{}, err
	}
	a := order.Answer{Outcome: outcomes[e.Code()]}
	for _, n := range e.Seats() {
		a.Seats = append(a.Seats, int(n))
	}
	return a, nil
}

func at(g order.Grip) (uuid.UUID, int16, []int16) {
	out := make([]int16, len(g.Seats))
	for i, n := range g.Seats {
		out[i] = int16(n)
	}
	return g.Performance, int16(g.Block), out
}

func (s seats) Hold(ctx context.Context, g order.Grip, lease time.Duration) (order.Answer, error) {
	p, b, n := at(g)
	_, err := s.desk.Hold(ctx, p, b, n, g.Hold, lease, nil)
	return answer(err)
}

func (s seats) Extend(ctx context.Context, g order.Grip, lease time.Duration) (order.Answer, error) {
	p, b, n := at(g)
	_, err := s.desk.Extend(ctx, p, b, n, g.Hold, lease)
	return answer(err)
}

func (s seats) Pin(ctx context.Context, g order.Grip, lease time.Duration) (order.Answer, error) {
	p, b, n := at(g)
	_, err := s.desk.Pin(ctx, p, b, n, g.Hold, lease)
	return answer(err)
}

func (s seats) Release(ctx context.Context, g order.Grip) (order.Answer, error) {
	p, b, n := at(g)
	return answer(s.desk.Release(ctx, p, b, n, g.Hold))
}

func (s seats) Sell(ctx context.Context, g order.Grip, id uuid.UUID) (order.Answer, error) {
	p, b, n := at(g)
	return answer(s.desk.Sell(ctx, p, b, n, g.Hold, id))
}

func (s seats) Rescue(ctx context.Context, g order.Grip, id uuid.UUID) (order.Answer, error) {
	p, b, n := at(g)
	return answer(s.desk.Rescue(ctx, p, b, n, id))
}

func (s seats) Unsell(ctx context.Context, g order.Grip, id uuid.UUID) (order.Answer, error) {
	p, b, n := at(g)
	return answer(s.desk.Unsell(ctx, p, b, n, id))
}

func (s seats) Reopen(ctx context.Context, g order.Grip) (order.Answer, error) {
	p, b, n := at(g)
	return answer(s.desk.OpenSeats(ctx, p, b, n, chart.KillCooling))
}
