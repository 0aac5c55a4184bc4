package main

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/inventory"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// seatDesk is the inventory as the order service sees it.
type seatDesk struct{ desk inventory.Desk }

var _ order.Seats = seatDesk{}

// answer translates the inventory's refusals. What it does not know for certain stays an error, and so unknown.
func answer(err error) (order.Answer, error) {
	var e *inventory.Error
	if err == nil {
		return order.Answer{Outcome: order.Done}, nil
	}
	if !errors.As(err, &e) {
		return order.Answer{}, err
	}
	out := map[string]order.Outcome{
		inventory.ErrSeatsTaken.Code():   order.Taken,
		inventory.ErrConflict.Code():     order.Taken,
		inventory.ErrNoSuchSeat.Code():   order.NoSeat,
		inventory.ErrSaleNotOpen.Code():  order.NotOpen,
		inventory.ErrBlockFrozen.Code():  order.Frozen,
		inventory.ErrHoldExpired.Code():  order.Gone,
		inventory.ErrLeaseRefused.Code(): order.TooShort,
	}[e.Code()]
	if out == order.Unknown {
		return order.Answer{}, err
	}
	a := order.Answer{Outcome: out}
	for _, n := range e.Seats() {
		a.Seats = append(a.Seats, int(n))
	}
	return a, nil
}

func small(ns []int) []int16 {
	out := make([]int16, len(ns))
	for i, n := range ns {
		out[i] = int16(n)
	}
	return out
}

func (s seatDesk) Hold(ctx context.Context, g order.Grip, lease time.Duration) (order.Answer, error) {
	_, err := s.desk.Hold(ctx, g.Performance, int16(g.Block), small(g.Seats), g.Hold, lease, nil)
	return answer(err)
}

func (s seatDesk) Extend(ctx context.Context, g order.Grip, lease time.Duration) (order.Answer, error) {
	_, err := s.desk.Extend(ctx, g.Performance, int16(g.Block), small(g.Seats), g.Hold, lease)
	return answer(err)
}

func (s seatDesk) Pin(ctx context.Context, g order.Grip, lease time.Duration) (order.Answer, error) {
	_, err := s.desk.Pin(ctx, g.Performance, int16(g.Block), small(g.Seats), g.Hold, lease)
	return answer(err)
}

func (s seatDesk) Release(ctx context.Context, g order.Grip) (order.Answer, error) {
	return answer(s.desk.Release(ctx, g.Performance, int16(g.Block), small(g.Seats), g.Hold))
}

func (s seatDesk) Sell(ctx context.Context, g order.Grip, id uuid.UUID) (order.Answer, error) {
	return answer(s.desk.Sell(ctx, g.Performance, int16(g.Block), small(g.Seats), g.Hold, id))
}

func (s seatDesk) Rescue(ctx context.Context, g order.Grip, id uuid.UUID) (order.Answer, error) {
	return answer(s.desk.Rescue(ctx, g.Performance, int16(g.Block), small(g.Seats), id))
}

func (s seatDesk) Unsell(ctx context.Context, g order.Grip, id uuid.UUID) (order.Answer, error) {
	return answer(s.desk.Unsell(ctx, g.Performance, int16(g.Block), small(g.Seats), id))
}

func (s seatDesk) Reopen(ctx context.Context, g order.Grip) (order.Answer, error) {
	return answer(s.desk.OpenSeats(ctx, g.Performance, int16(g.Block), small(g.Seats), chart.KillCooling))
}
