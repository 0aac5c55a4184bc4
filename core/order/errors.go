package order

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// The refusals without details. The HTTP layer gives each its problem type.
var (
	ErrNotFound     = errors.New("no such hold or order of this principal")          // 404
	ErrPassRequired = errors.New("a pass of the waiting room is required")           // 401 pass-required
	ErrPassInvalid  = errors.New("the pass is for another room")                     // 403 pass-invalid
	ErrPassUsed     = errors.New("the pass has bought its tickets")                  // 403 pass-used
	ErrSaleNotOpen  = errors.New("the sale is not open")                             // 409 sale-not-open
	ErrBlockFrozen  = errors.New("these seats are being checked, please wait")       // 503 block-frozen
	ErrHoldExpired  = errors.New("the hold has expired")                             // 410 hold-expired
	ErrHoldAtCap    = errors.New("the hold cannot be extended any further")          // 409 at-the-cap
	ErrManyBlocks   = errors.New("the seats of one hold lie in one block")           // 422 many-blocks
	ErrTooManyHolds = errors.New("an order takes at most four holds")                // 422 too-many-holds
	ErrNoSeats      = errors.New("no seats were named, or one was named twice")      // 422 no-seats
	ErrMixedHolds   = errors.New("the holds are for different performances")         // 422 mixed-holds
	ErrBadReturnURL = errors.New("return_url must be an absolute http or https URL") // 422 bad-return-url
	ErrUnitRefunded = errors.New("a unit is already refunded or unknown")            // 409 unit-refunded
	ErrDisputeOpen  = errors.New("the payment is disputed; no refund meanwhile")     // 409 dispute-open
	ErrStale        = errors.New("the order changed meanwhile")                      // 412
	ErrNotNow       = errors.New("the outcome is not known yet; ask again")          // 503 one-moment
	ErrManyPrices   = errors.New("the seats of an order are priced in one currency") // 422
	ErrIDTaken      = errors.New("the id belongs to something else")                 // 409
)

// SeatsTaken says which seats another fan has. 409 seats-taken.
type SeatsTaken struct{ Seats []Seat }

func (e *SeatsTaken) Error() string { return fmt.Sprintf("%d of the seats are taken", len(e.Seats)) }

// NoSuchSeat says which seats do not exist. 422 no-such-seat.
type NoSuchSeat struct{ Seats []Seat }

func (e *NoSuchSeat) Error() string { return fmt.Sprintf("%d of the seats do not exist", len(e.Seats)) }

// PassLimit says how many seats the pass may have and has. 409 pass-limit.
type PassLimit struct{ Limit, InUse, Asked int }

func (e *PassLimit) Error() string {
	return fmt.Sprintf("the pass allows %d seats, %d are in use, %d more were asked for", e.Limit, e.InUse, e.Asked)
}

// PriceChanged carries the price of now. 409 price-changed.
type PriceChanged struct{ Now Quote }

func (e *PriceChanged) Error() string { return "the price has changed" }

// HoldInOrder says which order has the hold. 409 hold-in-checkout.
type HoldInOrder struct{ OrderID uuid.UUID }

func (e *HoldInOrder) Error() string { return "the hold belongs to order " + e.OrderID.String() }

// WrongState says that the order cannot do that now. 409 wrong-state.
type WrongState struct{ State State }

func (e *WrongState) Error() string { return "the order is " + string(e.State) }

// AttemptOpen says that a payment is already on its way. 409 attempt-open.
type AttemptOpen struct{ NextAction string }

func (e *AttemptOpen) Error() string { return "a payment is already open" }

// Declined is a payment that was refused at once. 402 payment-declined.
type Declined struct{ Code string }

func (e *Declined) Error() string { return "the payment was declined: " + e.Code }

// KeyInFlight says that the same request is being worked on. 409
// key-in-flight.
type KeyInFlight struct{ RetryAfter time.Duration }

func (e *KeyInFlight) Error() string { return "the same request is being worked on" }

// ErrKeyReused says that the idempotency key came with another request. 422
// key-reused.
var ErrKeyReused = errors.New("the idempotency key was used for another request")
