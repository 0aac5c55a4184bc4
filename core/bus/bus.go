// Package bus carries facts from the core's transactions to whoever needs
// them. A fact is written to the outbox in the transaction that makes it true;
// a relay publishes it and deletes it afterwards, in the order of its id.
// Delivery is at least once and ordered per key; an event carries the whole
// state of its subject with (generation, version), and consumers keep an
// inbox, so repeats and gaps do not matter.
package bus

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// The topics of the core.
const (
	TopicOrders  = "stanchion.orders"  // key: order id
	TopicTickets = "stanchion.tickets" // key: order id
	TopicPasses  = "stanchion.passes"  // key: pass id (the waiting room's session)
)

// Event is one fact. Key decides its place in the order; events of one key
// arrive in the order in which their transactions locked the subject.
type Event struct {
	ID          int64 // place in the outbox; set by the store
	Shard       int
	Topic       string
	Key         string
	Type        string // such as order.paid
	Version     int64  // of the subject, rising
	Generation  int64  // of the database, raised at each promotion of a standby
	Subject     uuid.UUID
	At          time.Time
	Traceparent string // W3C trace context, may be empty
	Payload     json.RawMessage
}

// DedupeKey names the event for an inbox: the same fact always has the same.
func (e Event) DedupeKey() string { return dedupeKey(e) }

// Emitter writes events into the outbox of a running transaction.
type Emitter interface {
	Emit(ctx context.Context, e Event) error
}

// Publisher hands events to a broker. Publish returns only when all of them
// are safe there; after an error any part of them may have been published.
type Publisher interface {
	Publish(ctx context.Context, events []Event) error
}

// Handler reacts to one event. An error makes the bus deliver it again later;
// events of the same key wait meanwhile.
type Handler func(ctx context.Context, e Event) error

// Subscriber delivers events of the topics to h until ctx ends, keeping its
// place under the name of the consumer: one that comes back continues where it
// was. It returns ctx's error, or the reason it cannot go on.
type Subscriber interface {
	Subscribe(ctx context.Context, consumer string, topics []string, h Handler) error
}
