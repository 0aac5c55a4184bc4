package inventory

import (
	"fmt"
	"slices"

	"github.com/google/uuid"
)

// Error is what every operation of this family answers when it does not succeed.
//
// Only the code "unknown-outcome" leaves open whether the change was made. Every other code is a promise that the
// change was not made. Callers compare with errors.Is against the Err… sentinels, or read Code, Seats and Block through
// interfaces of their own without importing this package.
type Error struct {
	code        string
	detail      string
	performance uuid.UUID
	block       int16
	seats       []int16
	cause       error
}

// The sentinels. errors.Is(err, ErrX) is true for every *Error with the same code.
var (
	// ErrSeatsTaken: at least one seat is held, sold, killed or in a channel the buyer may not use; Seats names them.
	ErrSeatsTaken = &Error{code: "seats-taken", detail: "some of these seats are taken"}
	// ErrNoSeatsLeft: best available found no free seats that fit.
	ErrNoSeatsLeft = &Error{code: "no-seats-left", detail: "no free seats fit this request"}
	// ErrUnknownOutcome: the change may or may not have been made. LookHold and LookOrder settle it.
	ErrUnknownOutcome = &Error{code: "unknown-outcome", detail: "whether the change was made is not known yet"}
	// ErrNoSuchSeat: the seat is not in the chart. Seats names it.
	ErrNoSuchSeat = &Error{code: "no-such-seat", detail: "no such seat"}
	// ErrNoSuchPerformance: the performance was never imported.
	ErrNoSuchPerformance = &Error{code: "no-such-performance", detail: "no such performance"}
	// ErrSaleNotOpen: the block is closed, paused or draining and the change is not allowed in that state.
	ErrSaleNotOpen = &Error{code: "sale-not-open", detail: "the sale is not open"}
	// ErrBlockFrozen: the block was frozen by the auditor; holds and sales wait until an operator unfreezes it.
	ErrBlockFrozen = &Error{code: "block-frozen", detail: "the block is frozen"}
	// ErrHoldExpired: the hold is not, or no longer, on the seats. Seats names them.
	ErrHoldExpired = &Error{code: "hold-expired", detail: "the hold is no longer on these seats"}
	// ErrLeaseRefused: the lease asked for is shorter than the shortest, or longer than the cap.
	ErrLeaseRefused = &Error{code: "lease-refused", detail: "the lease is out of range"}
	// ErrUnavailable: the store cannot be reached, or too much waits for the block. Nothing was done.
	ErrUnavailable = &Error{code: "unavailable", detail: "the seat store cannot be reached"}
	// ErrConflict: the performance exists with another chart, or the seats are in a state the change does not fit.
	ErrConflict = &Error{code: "conflict", detail: "the change does not fit the present state"}
	// ErrBadRequest: the call itself is malformed.
	ErrBadRequest = &Error{code: "bad-request", detail: "malformed request"}
)

var sentinels = []*Error{
	ErrSeatsTaken, ErrNoSeatsLeft, ErrUnknownOutcome, ErrNoSuchSeat, ErrNoSuchPerformance, ErrSaleNotOpen,
	ErrBlockFrozen, ErrHoldExpired, ErrLeaseRefused, ErrUnavailable, ErrConflict, ErrBadRequest,
}

// ErrorByCode rebuilds an error from its parts, as a client of the HTTP API does. An unknown code gives
// ErrUnknownOutcome, because an answer we cannot read must never be taken for a "no".
func ErrorByCode(code, detail string, performance uuid.UUID, block int16, seats []int16) *Error {
	for _, s := range sentinels {
		if s.code == code {
			e := *s
			if detail != "" {
				e.detail = detail
			}
			e.performance, e.block, e.seats = performance, block, slices.Clone(seats)
			return &e
		}
	}
	return ErrUnknownOutcome.with(performance, block, seats, fmt.Errorf("unreadable answer: code %q: %s", code, detail))
}

func (e *Error) with(performance uuid.UUID, block int16, seats []int16, cause error) *Error {
	c := *e
	c.performance, c.block, c.seats, c.cause = performance, block, slices.Clone(seats), cause
	return &c
}

func (e *Error) because(format string, args ...any) *Error {
	c := *e
	c.detail = fmt.Sprintf(format, args...)
	return &c
}

// Error implements error.
func (e *Error) Error() string {
	s := e.code + ": " + e.detail
	if len(e.seats) > 0 {
		s += fmt.Sprintf(" (block %d, seats %v)", e.block, e.seats)
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap gives the cause, if any.
func (e *Error) Unwrap() error { return e.cause }

// Is compares by code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.code == e.code
}

// Code is the stable name of the problem, as the HTTP APIs use it.
func (e *Error) Code() string { return e.code }

// Detail is the sentence for people, without the cause.
func (e *Error) Detail() string { return e.detail }

// Seats are the seat numbers within Block that the problem is about; may be empty.
func (e *Error) Seats() []int16 { return slices.Clone(e.seats) }

// Block is the block the problem is about; meaningful together with Seats and for ErrUnknownOutcome.
func (e *Error) Block() int16 { return e.block }

// Performance is the performance the problem is about; the zero UUID when there is none.
func (e *Error) Performance() uuid.UUID { return e.performance }
