package order

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/bus"
)

// The types of the events this package emits.
const (
	EventOrder    = "order"     // payload OrderFact, on TopicOrders: any change of state
	EventPassDone = "pass.done" // payload PassDone, on TopicPasses: the fan has bought, the place inside is free
	EventTicket   = "ticket"    // payload TicketFact, on TopicTickets: issued or revoked
)

// OrderFact is the whole public state of an order. It names no person.
type OrderFact struct {
	ID          uuid.UUID  `json:"id"`
	Performance uuid.UUID  `json:"performance"`
	Room        string     `json:"room,omitempty"`
	State       State      `json:"state"`
	Cause       Cause      `json:"cause,omitempty"`
	Version     int64      `json:"version"`
	Currency    string     `json:"currency"`
	Total       int64      `json:"total_minor"`
	Units       []UnitFact `json:"units"`
	At          time.Time  `json:"at"`
}

// UnitFact is one line of an OrderFact.
type UnitFact struct {
	Unit  int       `json:"unit"`
	Block int       `json:"block"`
	Seat  int       `json:"seat"`
	Offer string    `json:"offer"`
	Total int64     `json:"total_minor"`
	State UnitState `json:"state"`
}

// PassDone says that the fan with this pass has bought and needs the place
// inside no more.
type PassDone struct {
	Room    string    `json:"room"`
	PassID  string    `json:"pass"`
	OrderID uuid.UUID `json:"order"`
}

// TicketFact says that a unit's ticket was issued or revoked.
type TicketFact struct {
	Order   uuid.UUID `json:"order"`
	Ticket  uuid.UUID `json:"ticket,omitzero"`
	Unit    int       `json:"unit"`
	Revoked string    `json:"revoked,omitempty"` // why
}

func (s *Service) emit(ctx context.Context, tx Tx, o *Order, topic, key, kind string, subject uuid.UUID, payload any) error {
	body, err := json.Marshal(payload)
	if err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	return tx.Emit(ctx, bus.Event{
		Shard: bus.ShardOf(key), Topic: topic, Key: key, Type: kind, Version: o.Version, Subject: subject,
		At: s.now(), Traceparent: bus.Traceparent(ctx), Payload: body,
	})
}

func (s *Service) emitOrder(ctx context.Context, tx Tx, o *Order) error {
	f := OrderFact{ID: o.ID, Performance: o.Performance, Room: o.Room, State: o.State, Cause: o.Cause, Version: o.Version,
		Currency: o.Currency, Total: o.Total, Units: make([]UnitFact, len(o.Units)), At: s.now().UTC()}
	for i, u := range o.Units {
		f.Units[i] = UnitFact{Unit: u.Unit, Block: u.Seat.Block, Seat: u.Seat.Seat, Offer: u.Offer, Total: u.Total(), State: u.State}
	}
	return s.emit(ctx, tx, o, bus.TopicOrders, o.ID.String(), EventOrder, o.ID, f)
}

// PlaceBack is the bus handler that gives the place inside back to the waiting
// room once its fan has bought. Subscribe it to bus.TopicPasses.
func PlaceBack(rooms Rooms) bus.Handler {
	return func(ctx context.Context, e bus.Event) error {
		if e.Type != EventPassDone {
			return nil
		}
		var d PassDone
		if err := json.Unmarshal(e.Payload, &d); err != nil {
			return fmt.Errorf("decode %s: %w", e.Type, err)
		}
		if err := rooms.EndSession(ctx, d.Room, d.PassID); err != nil {
			return fmt.Errorf("give the place in room %s back: %w", d.Room, err)
		}
		return nil
	}
}
