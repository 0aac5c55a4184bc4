package order

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/bus"
	"github.com/stanchion-queue/stanchion/core/payment"
)

// Store is where orders live. Reads outside of a transaction see committed
// rows and lock nothing. Missing rows are ErrNotFound.
//
// An error of Tx leaves open whether the transaction took place: a connection
// may break during its commit. Everything written in one is therefore guarded
// by an order's version or a natural key, and whoever gets an error reads
// again before doing anything.
type Store interface {
	// Tx runs f in one transaction, and commits if f returns nil. f may run
	// more than once, and must not do I/O of its own.
	Tx(ctx context.Context, f func(Tx) error) error

	Hold(ctx context.Context, id uuid.UUID) (Hold, error)
	// Order returns an order with units, holds, payments and refunds.
	Order(ctx context.Context, id uuid.UUID) (Order, error)
	History(ctx context.Context, id uuid.UUID) ([]Transition, error)
	// Due hands out orders whose NextAt is over, and moves it to now + lease,
	// so that another process does not take them meanwhile.
	Due(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]uuid.UUID, error)
	// NextDue returns the earliest NextAt of all orders, zero if none waits.
	NextDue(ctx context.Context) (time.Time, error)
	// Sleep sets NextAt (zero: never) of an order that still has the version.
	Sleep(ctx context.Context, id uuid.UUID, version int64, at time.Time) error

	payment.WebhookStore
}

// PassUse is the one row per pass that limits what it buys.
type PassUse struct {
	PassID string
	Room   string
	Max    int
	Burned bool
}

// Conflict is a seat that another order has claimed.
type Conflict struct {
	Seat    Seat
	OrderID uuid.UUID
	Sold    bool
}

// Tx is a running transaction. It locks an aggregate's row (pass, hold, order)
// before it writes to it or emits an event about it; locks are taken in that
// order.
type Tx interface {
	payment.Tx
	bus.Emitter

	// Now is the store's own clock: one clock for all processes that count
	// live holds.
	Now(ctx context.Context) (time.Time, error)

	// LockPass makes the pass's row if need be, and locks it.
	LockPass(ctx context.Context, passID, room string, limit int) (PassUse, error)
	// SeatsInUse counts the seats of the pass's holds that are alive at now,
	// being sold or sold.
	SeatsInUse(ctx context.Context, passID string, now time.Time) (int, error)
	BurnPass(ctx context.Context, passID string) error

	InsertHold(ctx context.Context, h Hold) error
	LockHold(ctx context.Context, id uuid.UUID) (Hold, error)
	UpdateHold(ctx context.Context, h Hold) error

	// InsertOrder stores a new order with its units.
	InsertOrder(ctx context.Context, o Order) error
	// LockOrder locks an order's row and returns it with all that belongs to
	// it.
	LockOrder(ctx context.Context, id uuid.UUID) (Order, error)
	// SaveOrder stores the order's own row, without its children.
	SaveOrder(ctx context.Context, o Order) error
	UpdateUnit(ctx context.Context, id uuid.UUID, u Unit) error
	AddTransition(ctx context.Context, t Transition) error

	// Claim claims all seats for the order, or none: then it names what is in
	// the way. Seats the order already has claimed are no conflict.
	Claim(ctx context.Context, performance, id uuid.UUID, seats []Seat) ([]Conflict, error)
	// SetClaimsSold marks the order's claims.
	SetClaimsSold(ctx context.Context, id uuid.UUID, sold bool) error
	// DropClaims removes the order's claims on the seats.
	DropClaims(ctx context.Context, performance, id uuid.UUID, seats []Seat) error

	IssueTickets(ctx context.Context, ts []Ticket) error
	// RevokeTickets voids the tickets of the units.
	RevokeTickets(ctx context.Context, id uuid.UUID, units []int, reason string) error
}

// KeyState is what is known of an idempotency key.
type KeyState struct {
	Fingerprint string
	Done        bool
	Owner       uuid.UUID
	LockedUntil time.Time
	Subject     uuid.UUID
	Answer      Answered
}

// KeyStore keeps idempotency keys.
type KeyStore interface {
	// TakeKey makes the key for owner, or takes it over if its owner's lock is
	// over, or returns it as it is. taken says which.
	TakeKey(ctx context.Context, principal Principal, key string, k KeyState, now time.Time) (state KeyState, taken bool, err error)
	// FinishKey stores the answer if owner still has the key.
	FinishKey(ctx context.Context, principal Principal, key string, owner uuid.UUID, a Answered) error
	// LeaveKey gives the key free for a repetition, keeping its subject.
	LeaveKey(ctx context.Context, principal Principal, key string, owner uuid.UUID) error
	// PruneKeys forgets keys older than before.
	PruneKeys(ctx context.Context, before time.Time) error
}
