package order

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// Grip names the seats of one hold in the inventory. All of them lie in one
// block, so that one change of theirs is atomic.
type Grip struct {
	Performance uuid.UUID
	Block       int
	Seats       []int // ascending
	Hold        uuid.UUID
}

// Outcome is what came of a call to the inventory. The zero value is Unknown:
// whoever does not know must not say no.
type Outcome int

// The outcomes.
const (
	Unknown  Outcome = iota // it may or may not have happened; ask again
	Done                    // it is so, now or already before
	Taken                   // another fan has at least one of the seats (or it is not for sale)
	Gone                    // our lease is over; the seats may be free or not
	NotOpen                 // the block does not sell now
	Frozen                  // the block is frozen by the auditor; ask again later
	NoSeat                  // there is no such seat
	TooShort                // the lease asked for is shorter than the inventory can keep
	Busy                    // nothing was done and nothing will be; try later
)

func (o Outcome) String() string {
	switch o {
	case Done:
		return "done"
	case Taken:
		return "taken"
	case Gone:
		return "gone"
	case NotOpen:
		return "not-open"
	case Frozen:
		return "frozen"
	case NoSeat:
		return "no-seat"
	case TooShort:
		return "too-short"
	case Busy:
		return "busy"
	}
	return "unknown"
}

// Answer is an Outcome with the seats it is about (Taken, NoSeat).
type Answer struct {
	Outcome Outcome
	Seats   []int
}

// Seats is the inventory as the order service sees it. A non-nil error means
// Unknown, whatever the Answer says. Every call may be repeated with the same
// arguments and then settles what an earlier one left unknown; a seat that is
// already as asked is Done. Lease lengths include no grace: the inventory adds
// its own.
type Seats interface {
	// Hold takes free seats for lease under g.Hold. Seats already under
	// g.Hold: Done.
	Hold(ctx context.Context, g Grip, lease time.Duration) (Answer, error)
	// Extend gives a held, unpinned hold a new lease from now.
	Extend(ctx context.Context, g Grip, lease time.Duration) (Answer, error)
	// Pin gives a hold a new lease from now, also while the block is paused,
	// draining or frozen. It may be repeated to lengthen the pin.
	Pin(ctx context.Context, g Grip, lease time.Duration) (Answer, error)
	// Release frees what is held under g.Hold and is Done if nothing is.
	Release(ctx context.Context, g Grip) (Answer, error)
	// Sell turns held or pinned seats into seats sold to order. Already sold
	// to it: Done. Lease over: Gone.
	Sell(ctx context.Context, g Grip, order uuid.UUID) (Answer, error)
	// Rescue sells free seats to order without a lease. Already sold to it:
	// Done. Held by or sold to others: Taken.
	Rescue(ctx context.Context, g Grip, order uuid.UUID) (Answer, error)
	// Unsell takes seats back from order; they cool until Reopen. Not sold
	// to it: Done.
	Unsell(ctx context.Context, g Grip, order uuid.UUID) (Answer, error)
	// Reopen offers cooling seats again. Not cooling: Done.
	Reopen(ctx context.Context, g Grip) (Answer, error)
}

// Performance is what the order service must know of one.
type Performance struct {
	ID       uuid.UUID
	Room     string // passes for this room buy here; empty: no pass is needed
	Currency string // ISO 4217
	Title    string // for the provider's page and the statement
	SaleOpen bool
	Starts   time.Time
}

// SeatPrice is what a seat costs now. Amounts are minor units.
type SeatPrice struct {
	Seat  Seat
	Label string
	Offer string
	Price int64
	Fee   int64
	Tax   int64 // contained in Price + Fee
}

// ErrNoPerformance is returned by Prices for an unknown performance.
var ErrNoPerformance = errors.New("no such performance")

// Prices is the catalog as the order service sees it.
type Prices interface {
	// Performance returns ErrNoPerformance if there is none.
	Performance(ctx context.Context, id uuid.UUID) (Performance, error)
	// Prices returns one price per seat, in the order asked; a seat that is
	// not in the chart is a *NoSuchSeat error.
	Prices(ctx context.Context, id uuid.UUID, seats []Seat) ([]SeatPrice, error)
}

// Rooms is the waiting room as the order service sees it. Both calls may be
// repeated; a session that is unknown or over is no error.
type Rooms interface {
	// EndSession gives the fan's place inside back.
	EndSession(ctx context.Context, room, session string) error
	// ExtendSession keeps the fan inside while a payment is on its way.
	ExtendSession(ctx context.Context, room, session string, until time.Time) error
}
