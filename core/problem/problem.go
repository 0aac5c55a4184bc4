// Package problem is how the core says no: RFC 9457 problem details with stable types, and the one table that maps the core's
// errors to them. docs/reference/problems.md explains each type.
package problem

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/guest"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/payment"
	"github.com/stanchion-queue/stanchion/core/ticketing"
)

// TypePrefix precedes the code in a problem's type, a URI relative to the host that the docs explain.
const TypePrefix = "/problems/"

// Problem is one RFC 9457 answer.
type Problem struct {
	Type       string  `json:"type" doc:"Stable URI of the kind of problem, relative to the host." example:"/problems/seats-taken"`
	Title      string  `json:"title" doc:"The kind of problem in words."`
	Status     int     `json:"status" doc:"HTTP status."`
	Detail     string  `json:"detail,omitempty" doc:"What happened this time, and what to do."`
	Instance   string  `json:"instance,omitempty" doc:"Path of the request."`
	Trace      string  `json:"trace,omitempty" doc:"Trace id, to be named in a report."`
	RetryAfter int64   `json:"retry_after_ms,omitempty" doc:"Repeating the very same request is safe, and may help after so long."`
	Seats      []Seat  `json:"seats,omitempty" doc:"The seats that this is about."`
	Errors     []Field `json:"errors,omitempty" doc:"Each wrong field."`
	NextAction string  `json:"next_action,omitempty" doc:"Where the payment that is already open goes on."`
	Total      *int64  `json:"total,omitempty" doc:"The price now, in minor units."`
	Currency   string  `json:"currency,omitempty" doc:"Currency of total."`
}

// Seat names a seat by its address; ID is filled in by who knows the chart.
type Seat struct {
	ID    string `json:"id,omitempty"`
	Block int    `json:"block"`
	Seat  int    `json:"seat"`
}

// Field is one wrong field of a request.
type Field struct {
	Field string `json:"field"`
	Value string `json:"value,omitempty"`
	Want  string `json:"want"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Title + ": " + p.Detail }

// GetStatus is the HTTP status, for huma.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457, for huma.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// Code is the last part of the type.
func (p *Problem) Code() string { return p.Type[len(TypePrefix):] }

// New makes a problem.
func New(status int, code, title, detail string) *Problem {
	return &Problem{Type: TypePrefix + code, Title: title, Status: status, Detail: detail}
}

// row is one line of the table: an error and what a client is told.
type row struct {
	err    error
	status int
	code   string
	title  string
}

var table = []row{
	{order.ErrNotFound, 404, "not-found", "There is no such hold or order, or it is not yours"},
	{order.ErrNoPerformance, 404, "not-found", "There is no such performance"},
	{catalog.ErrNotFound, 404, "not-found", "There is no such event or performance"},
	{ticketing.ErrNoTicket, 404, "not-found", "There is no such ticket, or it is not yours"},
	{order.ErrPassRequired, 401, "pass-required", "A pass of the waiting room is required"},
	{order.ErrPassInvalid, 403, "pass-invalid", "The pass is not valid here"},
	{order.ErrPassUsed, 403, "pass-used", "The pass has bought its tickets"},
	{guest.ErrForged, 401, "guest-invalid", "The guest token is not valid"},
	{order.ErrSaleNotOpen, 409, "sale-not-open", "The sale is not open"},
	{order.ErrBlockFrozen, 503, "block-frozen", "These seats are being checked"},
	{order.ErrHoldExpired, 410, "hold-expired", "The hold has expired"},
	{order.ErrHoldAtCap, 409, "at-the-cap", "The hold cannot be extended any further"},
	{order.ErrManyBlocks, 422, "many-blocks", "The seats of one hold lie in one block"},
	{order.ErrTooManyHolds, 422, "too-many-holds", "An order takes at most four holds"},
	{order.ErrNoSeats, 422, "no-seats", "No seats were named, or one was named twice"},
	{order.ErrMixedHolds, 422, "mixed-holds", "The holds are for different performances"},
	{order.ErrBadReturnURL, 422, "bad-return-url", "The return address is not an absolute URL"},
	{order.ErrManyPrices, 422, "many-currencies", "The seats of an order are priced in one currency"},
	{order.ErrUnitRefunded, 409, "unit-refunded", "A unit is already refunded or unknown"},
	{order.ErrDisputeOpen, 409, "dispute-open", "The payment is disputed"},
	{order.ErrStale, 412, "changed-meanwhile", "It was changed meanwhile"},
	{catalog.ErrStale, 412, "changed-meanwhile", "It was changed meanwhile"},
	{catalog.ErrExists, 409, "exists", "The id or slug exists already"},
	{order.ErrIDTaken, 409, "id-taken", "The id belongs to something else"},
	{order.ErrKeyReused, 422, "key-reused", "The idempotency key was used for another request"},
	{order.ErrNotNow, 503, "one-moment", "The outcome is not known yet"},
	{payment.ErrBadSignature, 400, "bad-signature", "The webhook's signature does not match"},
	{ticketing.ErrCodeMalformed, 400, "code-malformed", "The ticket code is malformed"},
	{ticketing.ErrRevoked, 410, "revoked", "The ticket was revoked"},
	{ticketing.ErrBadScan, 422, "invalid", "A scan needs a gate and a nonce"},
	{ticketing.ErrNotPaid, 409, "not-paid", "The order is not paid, so it has no tickets"},
}

// retryable are the codes whose request may be repeated as it is.
const retryMs = 1000

// From maps an error of the core to what a client is told. An error it does not know becomes a 500 that says nothing of its
// inside; the caller logs it.
func From(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	if p := fromDetailed(err); p != nil {
		return p
	}
	for _, r := range table {
		if errors.Is(err, r.err) {
			p := New(r.status, r.code, r.title, "")
			if r.status == http.StatusServiceUnavailable {
				p.RetryAfter = retryMs
			}
			return p
		}
	}
	return New(http.StatusInternalServerError, "internal", "Something went wrong on our side", "Nothing was lost. Repeating the request with the same idempotency key is safe.")
}

func fromDetailed(err error) *Problem {
	var (
		taken    *order.SeatsTaken
		noSeat   *order.NoSuchSeat
		limit    *order.PassLimit
		changed  *order.PriceChanged
		inOrder  *order.HoldInOrder
		wrong    *order.WrongState
		open     *order.AttemptOpen
		declined *order.Declined
		inFlight *order.KeyInFlight
		invalid  *catalog.Invalid
	)
	switch {
	case errors.As(err, &taken):
		p := New(409, "seats-taken", "Some of these seats are taken", "Choose other seats.")
		p.Seats = seats(taken.Seats)
		return p
	case errors.As(err, &noSeat):
		p := New(422, "no-such-seat", "Some of these seats do not exist", "")
		p.Seats = seats(noSeat.Seats)
		return p
	case errors.As(err, &limit):
		return New(409, "pass-limit", "That is more seats than your pass allows", limit.Error())
	case errors.As(err, &changed):
		p := New(409, "price-changed", "The price has changed", "Look at the new price and order again.")
		p.Total, p.Currency = &changed.Now.Total, changed.Now.Currency
		return p
	case errors.As(err, &inOrder):
		return New(409, "hold-in-checkout", "The hold belongs to an order", inOrder.Error())
	case errors.As(err, &wrong):
		return New(409, "wrong-state", "The order cannot do that now", wrong.Error())
	case errors.As(err, &open):
		p := New(409, "attempt-open", "A payment is already open", "Finish it, or cancel the order.")
		p.NextAction = open.NextAction
		return p
	case errors.As(err, &declined):
		return New(402, "payment-declined", "The payment was declined", declined.Code)
	case errors.As(err, &inFlight):
		p := New(409, "key-in-flight", "The same request is being worked on", "")
		p.RetryAfter = max(inFlight.RetryAfter.Milliseconds(), 1)
		return p
	case errors.As(err, &invalid):
		p := New(422, "invalid", "Some fields are not as they must be", "")
		for _, f := range invalid.Problems {
			p.Errors = append(p.Errors, Field{f.Field, f.Value, f.Want})
		}
		return p
	}
	return nil
}

func seats(in []order.Seat) []Seat {
	out := make([]Seat, len(in))
	for i, s := range in {
		out[i] = Seat{Block: s.Block, Seat: s.Seat}
	}
	return out
}

// Write answers a request with a problem.
func Write(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	p := From(err)
	if p.Status >= 500 && p.Code() == "internal" {
		log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	p.Instance = r.URL.Path
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	SetRetryAfter(h, p)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone when this fails
}

// SetRetryAfter adds the Retry-After header where waiting helps: whole seconds, rounded up.
func SetRetryAfter(h http.Header, p *Problem) {
	if p.RetryAfter > 0 {
		d := time.Duration(p.RetryAfter) * time.Millisecond
		h.Set("Retry-After", strconv.Itoa(int((d+time.Second-1)/time.Second)))
	}
}

// Rows lists code, status and title of every problem that comes from the table, for the documentation.
func Rows() (out []Problem) {
	seen := map[string]bool{}
	for _, r := range table {
		if !seen[r.code] {
			seen[r.code] = true
			out = append(out, *New(r.status, r.code, r.title, ""))
		}
	}
	return out
}
