// Package inventory owns the seats of every performance: which are free, held, sold or out of sale.
//
// A performance's chart is split into blocks (inventory/chart). One goroutine per block, its owner, merges the changes
// that wait into one conditional batch and sends it to the Stock (inventory/sqlitestock or inventory/cqlstock). Safety
// never depends on the owner: each batch names the version of the block it was made from and, for every seat, the
// state it expects, so two owners, a late duplicate or a lost answer can not sell a seat twice.
//
// Start with Desk (what callers may do), then Service (the implementation), then Stock (what a store must promise).
package inventory

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// Desk is the whole of what other roles may ask of the inventory. Service implements it in this process, api.Client
// over HTTP; one test runs against both.
//
// A seat is named by its block and its number in the block (chart.Layout maps seat ids to them). All seats of one call
// lie in one block. Hold, order and performance ids are never the zero UUID. A hold id belongs to one acquisition and
// is never used for a second one.
//
// All errors are *Error. Only ErrUnknownOutcome leaves open whether the change was made; after it the caller asks
// LookHold or LookOrder, which answer only when the outcome is settled, or repeats the very same call: every change is
// idempotent under the same ids.
//
// All methods may be called concurrently.
type Desk interface {
	// ImportPerformance stores a seating plan (either format of chart.Import) and starts to create its seats in the
	// background, closed for sale. blockSeats 0 means chart.DefaultBlockSeats. channels maps category names to sale
	// channels (absent: 0, public). Repeating the same call is harmless; another plan for the same performance is
	// ErrConflict. A malformed plan is ErrBadRequest wrapping a *chart.FormatError.
	ImportPerformance(ctx context.Context, performance uuid.UUID, plan []byte, blockSeats int, channels map[string]int16) error
	// AwaitImport returns when all seats of the performance exist.
	AwaitImport(ctx context.Context, performance uuid.UUID) error
	// ImportProgress counts the blocks that exist and all blocks.
	ImportProgress(ctx context.Context, performance uuid.UUID) (done, total int, err error)
	// Performances lists all known performances, oldest import first.
	Performances(ctx context.Context) ([]uuid.UUID, error)
	// Chart gives the canonical plan document (chart.Decode reads it), its content hash in hex, and the block size
	// to give to chart.Chart.Layout.
	Chart(ctx context.Context, performance uuid.UUID) (document []byte, hash string, blockSeats int, err error)

	// OpenSale lets every block that is not frozen take holds. AwaitImport first, or blocks that do not exist yet are
	// opened as they are created.
	OpenSale(ctx context.Context, performance uuid.UUID) error
	// PauseSale refuses new holds; sales of existing holds go on.
	PauseSale(ctx context.Context, performance uuid.UUID) error
	// DrainSale is PauseSale with the intention not to come back.
	DrainSale(ctx context.Context, performance uuid.UUID) error
	// CloseSale refuses holds and sales.
	CloseSale(ctx context.Context, performance uuid.UUID) error
	// SaleState is "closed", "open", "paused" or "draining".
	SaleState(ctx context.Context, performance uuid.UUID) (string, error)
	// FreezeBlock refuses holds and sales in one block until UnfreezeBlock, which puts it back into the
	// performance's sale state. For the auditor and for operators.
	FreezeBlock(ctx context.Context, performance uuid.UUID, block int16) error
	UnfreezeBlock(ctx context.Context, performance uuid.UUID, block int16) error

	// Hold leases free seats to hold for the promised duration (the store's lease is a little longer). expires is the
	// end of the promise. channels are the sale channels the buyer may use; nil means public only.
	Hold(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold uuid.UUID, lease time.Duration, channels []int16) (expires time.Time, err error)
	// HoldBest leases the best adjacent qty seats of a category (offer; "" for any). accessible asks for an accessible
	// place and companions beside it. ErrUnknownOutcome names the block tried. Repeated with the same hold id, it gives the
	// same seats as long as this process remembers them; after a restart ask LookHold instead.
	HoldBest(ctx context.Context, performance uuid.UUID, qty int, offer string, accessible bool, hold uuid.UUID, lease time.Duration, channels []int16) (block int16, seats []int16, expires time.Time, err error)
	// SuggestBest names the seats HoldBest would take, without taking them. For about a second the same seats are
	// not suggested to others.
	SuggestBest(ctx context.Context, performance uuid.UUID, qty int, offer string, accessible bool, channels []int16) (block int16, seats []int16, err error)
	// Extend renews the lease of a live hold, Pin does the same while the buyer pays. ErrHoldExpired when the hold is
	// not on all of the seats.
	Extend(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold uuid.UUID, lease time.Duration) (expires time.Time, err error)
	Pin(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold uuid.UUID, lease time.Duration) (expires time.Time, err error)
	// Release gives held seats back. Seats the hold has already lost are no error. ErrConflict when one is sold.
	Release(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold uuid.UUID) error
	// Sell turns held seats into sold ones. ErrHoldExpired when the hold is gone: Rescue may still succeed.
	Sell(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold, order uuid.UUID) error
	// Rescue sells seats that are free, for an order whose hold ran out. ErrSeatsTaken when they are not.
	Rescue(ctx context.Context, performance uuid.UUID, block int16, seats []int16, order uuid.UUID) error
	// Unsell takes seats back from an order; they stay out of sale, cooling, until OpenSeats(…, chart.KillCooling).
	// Seats that are not the order's are no error. A seat sold a short time ago still carries the lease it was sold under
	// and is not free before that ends, or before Release with that hold id.
	Unsell(ctx context.Context, performance uuid.UUID, block int16, seats []int16, order uuid.UUID) error
	// Kill takes free seats out of sale for a reason (chart.Kill…, never 0).
	Kill(ctx context.Context, performance uuid.UUID, block int16, seats []int16, reason int16) error
	// OpenSeats puts seats killed for that reason back on sale.
	OpenSeats(ctx context.Context, performance uuid.UUID, block int16, seats []int16, reason int16) error

	// LookHold gives the unsold seats that carry the hold now, and how long the store will still keep them.
	// No seats: the hold is not, and after its caller got ErrUnknownOutcome never will be, on any seat.
	LookHold(ctx context.Context, performance uuid.UUID, block int16, hold uuid.UUID) (seats []int16, left time.Duration, err error)
	// LookOrder gives the seats that are sold to the order.
	LookOrder(ctx context.Context, performance uuid.UUID, block int16, order uuid.UUID) (seats []int16, err error)
	// Sold lists every sold seat of a block with its order, by the strongest read the store has. For the auditor.
	Sold(ctx context.Context, performance uuid.UUID, block int16) (seats []int16, orders []uuid.UUID, err error)

	// Availability gives the blocks whose free seats changed after version since (0: all of them).
	Availability(ctx context.Context, performance uuid.UUID, since int64) (chart.Availability, error)
	// Counts gives the numbers of seats that are free for the public, held and sold.
	Counts(ctx context.Context, performance uuid.UUID) (sellable, held, sold int, err error)
}
