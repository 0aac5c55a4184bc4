// Package payment keeps what we know of a fan's money: one Payment per intent
// at the provider, its state machine, the calls we made and the webhooks we
// were sent. It never decides whether an order may have its seats; the order
// service does, and it applies a payment's change in its own transaction.
//
// Three rules hold everywhere. A payment's row exists before the provider is
// asked, and the provider's idempotency key derives from our id, so that a
// repeated call can never charge twice. An error of a call is unknown, never
// no. A webhook only says "look": the truth is always a fresh Fetch.
package payment

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// Payment is one attempt to pay an order: one intent at one provider.
// Amounts are minor units of Currency.
type Payment struct {
	ID       uuid.UUID
	OrderID  uuid.UUID
	Attempt  int    // 1 for the first, counted per order
	Provider string // Provider.Name
	Ref      string // the provider's own id; empty until it answered
	State    State
	Version  int64

	Currency   string
	Amount     int64 // what the order asks for
	Authorised int64
	Captured   int64 // <= Authorised
	Refunding  int64 // reserved by refunds on their way
	Refunded   int64 // Refunding + Refunded <= Captured

	Method        string // opaque token of the payment method, may be empty
	ReturnURL     string // where the provider sends the fan back, by GET
	NextAction    string // the provider's page the fan must visit, while Asked
	FailureCode   string // the provider's word for a refusal, such as card_declined
	CaptureBefore time.Time
	UnknownSince  time.Time // zero unless the last call's outcome is unknown
	LookAt        time.Time // when to fetch the provider's object next; zero = never
	Spare         bool      // another attempt pays the order; whatever this one holds goes back
	Created       time.Time
}

// Undecided says how much captured money is neither refunded nor on its way
// back.
func (p Payment) Undecided() int64 { return p.Captured - p.Refunding - p.Refunded }

// RefundState is where one refund stands.
type RefundState string

// The states of a refund. RefundFailed waits for a person; RefundReversed is
// money the provider took back after it was done.
const (
	RefundAsked    RefundState = "ASKED"
	RefundSent     RefundState = "SENT"
	RefundDone     RefundState = "DONE"
	RefundFailed   RefundState = "FAILED"
	RefundReversed RefundState = "REVERSED"
)

// Refund is money going back. It names the units of the order it pays for;
// their amounts were fixed when the order was made.
type Refund struct {
	ID        uuid.UUID
	OrderID   uuid.UUID
	PaymentID uuid.UUID
	Amount    int64
	Units     []int
	State     RefundState
	Reason    string
	Ref       string // the provider's id of it
	Attempt   int    // raised by a retry; part of the provider's key
	LookAt    time.Time
	Created   time.Time
}

// Kind names a call to the provider.
type Kind string

// The kinds of calls that change something at the provider.
const (
	KindCreate  Kind = "create"
	KindCapture Kind = "capture"
	KindVoid    Kind = "void"
	KindRefund  Kind = "refund"
)

// Call is the record of a call to the provider, written before it is sent.
type Call struct {
	ID        uuid.UUID
	PaymentID uuid.UUID
	Kind      Kind
	Key       string // the provider's idempotency key: derived, never random
	State     string // sent, answered, unknown
	First     time.Time
	Last      time.Time
	Tries     int
}

// Status is what the provider's object shows.
type Status string

// The statuses a Snapshot may carry.
const (
	StatusAsked      Status = "asked"      // waits for the fan
	StatusProcessing Status = "processing" // the provider itself does not know yet
	StatusAuthorised Status = "authorised"
	StatusCaptured   Status = "captured"
	StatusFailed     Status = "failed"
	StatusVoided     Status = "voided"
	StatusLapsed     Status = "lapsed"
)

// Snapshot is one look at the provider's object.
type Snapshot struct {
	Ref           string
	PaymentID     uuid.UUID // from the metadata we sent; zero if it carries none
	Status        Status
	Currency      string
	Amount        int64
	Authorised    int64
	Captured      int64
	Refunded      int64
	NextAction    string
	FailureCode   string
	CaptureBefore time.Time
}

// RefundSnapshot is one look at a refund.
type RefundSnapshot struct {
	Ref   string
	State RefundState // RefundSent, RefundDone or RefundFailed
	Code  string
}

// Intent is what Provider.Create asks for.
type Intent struct {
	PaymentID   uuid.UUID // travels as metadata
	OrderID     uuid.UUID
	Key         string // idempotency key
	Currency    string
	Amount      int64
	Description string
	Method      string
	ReturnURL   string
}

// Notice is a verified webhook: a hint to look at one object.
type Notice struct {
	EventID   string
	Type      string
	Ref       string
	PaymentID uuid.UUID // zero if the event carries none
}

// ErrBadSignature is returned by Provider.Verify for a webhook that is not the
// provider's, or is too old.
var ErrBadSignature = errors.New("webhook signature does not match")

// ErrNoObject is returned by Fetch and Find when the provider has no such
// object.
var ErrNoObject = errors.New("the provider has no such payment")

// Refusal is a definite no of the provider: the call had no effect and never
// will. Every other error of a Provider leaves the outcome unknown.
type Refusal struct {
	Code    string // stable word, such as card_declined or intent_not_capturable
	Message string // for logs and staff
}

func (r *Refusal) Error() string { return "provider refused: " + r.Code + ": " + r.Message }

// Provider is a payment service. Every call is idempotent by its key; an error
// that is not a *Refusal (or ErrNoObject) means the outcome is unknown.
// Implementations are safe for concurrent use and honour ctx.
type Provider interface {
	// Name is a short stable word, part of webhook paths.
	Name() string
	// Create makes an intent that reserves money but does not take it.
	Create(ctx context.Context, in Intent) (Snapshot, error)
	// Capture takes the reserved money.
	Capture(ctx context.Context, ref, key string, amount int64) (Snapshot, error)
	// Void undoes an intent that took no money.
	Void(ctx context.Context, ref, key string) (Snapshot, error)
	// Refund gives taken money back.
	Refund(ctx context.Context, ref, key string, amount int64) (RefundSnapshot, error)
	// Fetch looks at an intent.
	Fetch(ctx context.Context, ref string) (Snapshot, error)
	// Find looks for the intent that carries our payment id.
	Find(ctx context.Context, id uuid.UUID) (Snapshot, error)
	// Verify checks a webhook's signature over its raw body and reads it.
	Verify(header map[string][]string, body []byte) (Notice, error)
}
