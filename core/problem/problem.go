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

	"go.opentelemetry.io/otel/trace"

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
	Trace      string  `json:"trace,omitempty" doc:"Names this request in our logs; to be given in a report."`
	RetryAfter int64   `json:"retry_after_ms,omitempty" doc:"Repeating the very same request is safe, and may help after so long."`
	Seats      []Seat  `json:"seats,omitempty" doc:"The seats that this is about."`
	Errors     []Field `json:"errors,omitempty" doc:"Each wrong field."`
	NextAction string  `json:"next_action,omitempty" doc:"Where the payment that is already open goes on."`
	Total      *int64  `json:"total,omitempty" doc:"The price now, in minor units."`
	Currency   string  `json:"currency,omitempty" doc:"Currency of total."`
}

// Seat names a seat by its id in the chart, which is filled in by who knows the chart; until then by its address.
type Seat struct {
	ID    string `json:"id"`
	Block int    `json:"-"`
	Seat  int    `json:"-"`
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

// Of says whether the problem is of a kind.
func (p *Problem) Of(k *Kind) bool { return p.Type == k.Type() }

// New makes a problem of a kind. detail says what happened this time, or what to do; it may be empty.
func New(k *Kind, detail string) *Problem {
	p := &Problem{Type: k.Type(), Title: k.Title, Status: k.Status, Detail: detail}
	if k.Status == http.StatusServiceUnavailable {
		p.RetryAfter = retryMs
	}
	return p
}

// retryMs is when a request that was refused for the moment may be repeated.
const retryMs = 1000

// row is one line of the table: an error without details, its kind, and what is special about it.
type row struct {
	err    error
	kind   *Kind
	detail string
}

var table = []row{
	{order.ErrNotFound, NotFound, "There is no such hold or order of yours."},
	{order.ErrNoPerformance, NotFound, "There is no such performance."},
	{catalog.ErrNotFound, NotFound, "There is no such venue, event or performance."},
	{ticketing.ErrNoTicket, NotFound, "There is no such ticket, or the link is not complete."},
	{order.ErrPassRequired, PassRequired, ""},
	{order.ErrPassInvalid, PassInvalid, ""},
	{order.ErrPassUsed, PassUsed, "To buy more, take a new place in line."},
	{guest.ErrForged, GuestInvalid, ""},
	{order.ErrSaleNotOpen, SaleNotOpen, ""},
	{order.ErrBlockFrozen, BlockFrozen, "Please try again in a moment, or choose seats elsewhere."},
	{order.ErrHoldExpired, HoldExpired, "Nothing was charged. Choose seats again."},
	{order.ErrHoldAtCap, AtTheCap, "Pay now, or let the seats go."},
	{order.ErrManyBlocks, ManyBlocks, "Make one hold for each block."},
	{order.ErrTooManyHolds, TooManyHolds, "Choose seats that lie closer together."},
	{order.ErrNoSeats, NoSeats, ""},
	{order.ErrMixedHolds, MixedHolds, ""},
	{order.ErrBadReturnURL, BadReturnURL, ""},
	{order.ErrUnitRefunded, UnitRefunded, ""},
	{order.ErrDisputeOpen, DisputeOpen, ""},
	{order.ErrStale, ChangedMeanwhile, ""},
	{catalog.ErrStale, ChangedMeanwhile, ""},
	{catalog.ErrExists, Exists, ""},
	{order.ErrIDTaken, IDTaken, ""},
	{order.ErrKeyReused, KeyReused, "Draw a new key for each new request."},
	{order.ErrNotNow, OneMoment, "Please try again in a moment."},
	{payment.ErrBadSignature, BadSignature, ""},
	{ticketing.ErrRevoked, Revoked, ""},
	{ticketing.ErrBadScan, Invalid, "A scan needs a gate and a nonce of 1 to 64 letters, digits, dots, dashes or underscores."},
	{ticketing.ErrNotPaid, NotPaid, ""},
}

// From maps an error of the core to what a client is told. An error it does not know becomes a 500 that says nothing of its
// inside; the caller logs it. The problem is the caller's own, to be completed as it likes.
func From(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		own := *p
		return &own
	}
	if p := fromDetailed(err); p != nil {
		return p
	}
	for _, r := range table {
		if errors.Is(err, r.err) {
			return New(r.kind, r.detail)
		}
	}
	if p := fromStock(err); p != nil {
		return p
	}
	return New(Internal, "Nothing was lost. Repeating the request with the same idempotency key is safe.")
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
		p := New(SeatsTaken, "Choose other seats.")
		p.Seats = seats(taken.Seats)
		return p
	case errors.As(err, &noSeat):
		p := New(NoSuchSeat, "")
		p.Seats = seats(noSeat.Seats)
		return p
	case errors.As(err, &limit):
		return New(PassLimit, "It allows "+strconv.Itoa(limit.Limit)+" in all; "+strconv.Itoa(limit.InUse)+" are held or bought already, and "+
			strconv.Itoa(limit.Asked)+" more were asked for.")
	case errors.As(err, &changed):
		p := New(PriceChanged, "Look at the new price and order again.")
		p.Total, p.Currency = &changed.Now.Total, changed.Now.Currency
		return p
	case errors.As(err, &inOrder):
		return New(HoldInCheckout, "It is order "+inOrder.OrderID.String()+".")
	case errors.As(err, &wrong):
		return New(WrongState, "It is "+string(wrong.State)+".")
	case errors.As(err, &open):
		p := New(AttemptOpen, "Finish it, or cancel the order.")
		p.NextAction = open.NextAction
		return p
	case errors.As(err, &declined):
		return New(PaymentDeclined, declined.Code)
	case errors.As(err, &inFlight):
		p := New(KeyInFlight, "")
		p.RetryAfter = max(inFlight.RetryAfter.Milliseconds(), 1)
		return p
	case errors.As(err, &invalid):
		p := New(Invalid, "")
		for _, f := range invalid.Problems {
			p.Errors = append(p.Errors, Field{f.Field, f.Value, f.Want})
		}
		return p
	}
	return nil
}

// fromStock maps the inventory's errors, which are told apart by their code: the core does not import the inventory.
func fromStock(err error) *Problem {
	var coded interface{ Code() string }
	if !errors.As(err, &coded) {
		return nil
	}
	switch coded.Code() {
	case "no-seats-left":
		return New(NoSeatsLeft, "Ask for fewer seats, or for another category.")
	case "no-such-performance":
		return New(NotFound, "The seats of this performance are not in yet.")
	case "sale-not-open":
		return New(SaleNotOpen, "")
	case "block-frozen":
		return New(BlockFrozen, "Please try again in a moment, or choose seats elsewhere.")
	case "unavailable", "unknown-outcome":
		return New(OneMoment, "Please try again in a moment.")
	case "bad-request":
		return New(Invalid, "There is no such category, or nobody can sit like that.")
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

// About completes a problem with the request that it answers: its path, and what names it in the logs.
func (p *Problem) About(r *http.Request) {
	p.Instance = r.URL.Path
	if s := trace.SpanContextFromContext(r.Context()); s.HasTraceID() {
		p.Trace = s.TraceID().String()
	} else if id := r.Header.Get("X-Request-Id"); len(id) <= 64 { // the edge's
		p.Trace = id
	}
}

// Write answers a request with a problem.
func Write(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	p := From(err)
	if p.Of(Internal) {
		log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	p.About(r)
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
