package payment

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Tx is what the service that owns payments writes inside its transaction,
// under the lock of the payment's order.
type Tx interface {
	InsertPayment(ctx context.Context, p Payment) error
	// UpdatePayment stores p and raises its version.
	UpdatePayment(ctx context.Context, p *Payment) error
	// RecordCall notes that a call is about to be sent and returns when it was
	// sent first under this key.
	RecordCall(ctx context.Context, c Call) (first time.Time, err error)
	// AnswerCall notes what came of it: answered or unknown.
	AnswerCall(ctx context.Context, key, state string) error
	InsertRefund(ctx context.Context, r Refund) error
	UpdateRefund(ctx context.Context, r Refund) error
}

// Webhook is a verified webhook as it is stored.
type Webhook struct {
	Provider  string
	EventID   string
	Type      string
	Ref       string
	PaymentID uuid.UUID // zero until it is matched
	Body      []byte
	Received  time.Time
}

// WebhookStore keeps webhooks until they have been acted upon.
type WebhookStore interface {
	// AddWebhook stores w and says whether it must still be acted upon: a
	// provider sends the same event more than once.
	AddWebhook(ctx context.Context, w Webhook) (open bool, err error)
	// OpenWebhooks returns webhooks that have not been acted upon, oldest
	// first.
	OpenWebhooks(ctx context.Context, limit int) ([]Webhook, error)
	// CloseWebhook marks one as acted upon.
	CloseWebhook(ctx context.Context, provider, eventID string, payment uuid.UUID) error
	// OrderOf finds the order of a payment by its id or, if that is zero, by
	// the provider's reference. ok is false if there is none (yet).
	OrderOf(ctx context.Context, provider, ref string, id uuid.UUID) (order, payment uuid.UUID, ok bool, err error)
}
