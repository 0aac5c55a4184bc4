package order

import (
	"context"
	"errors"

	"github.com/google/uuid"
)

// HoldRequest asks for seats of one block.
type HoldRequest struct {
	// ID of the hold to make. A request that is repeated with the same ID
	// finds what the first one did: take it from Idempotency, or a new random
	// one.
	ID          uuid.UUID
	Principal   Principal
	Pass        *Pass // nil: none was shown
	Performance uuid.UUID
	Seats       []Seat // all in one block
}

// OrderRequest makes an order of holds.
type OrderRequest struct {
	ID        uuid.UUID // as in HoldRequest
	Principal Principal
	Holds     []uuid.UUID // 1 to 4
	Quote     Quote       // what the fan agreed to
}

// CheckoutRequest begins an attempt to pay.
type CheckoutRequest struct {
	Principal    Principal
	OrderID      uuid.UUID
	PaymentID    uuid.UUID // as in HoldRequest: the attempt's id
	PaymentToken string    // the provider's name for a payment method; may be empty
	ReturnURL    string    // absolute; the provider sends the fan there by GET
}

// Service is the order service.
type Service struct{}

var errUnbuilt = errors.New("order: not built yet")

// CreateHold takes seats. A hold whose State is HoldPlacing is not known yet
// (202): GetHold settles it.
func (s *Service) CreateHold(ctx context.Context, r HoldRequest) (Hold, error) {
	return Hold{}, errUnbuilt
}

// GetHold returns a hold as it is now, asking the inventory again if it was
// not known.
func (s *Service) GetHold(ctx context.Context, who Principal, id uuid.UUID) (Hold, error) {
	return Hold{}, errUnbuilt
}

// ExtendHold gives a hold a new lease.
func (s *Service) ExtendHold(ctx context.Context, who Principal, id uuid.UUID) (Hold, error) {
	return Hold{}, errUnbuilt
}

// ReleaseHold frees the seats of a hold that no order has. It may be repeated.
func (s *Service) ReleaseHold(ctx context.Context, who Principal, id uuid.UUID) error {
	return errUnbuilt
}

// QuoteHolds prices holds as CreateOrder would now.
func (s *Service) QuoteHolds(ctx context.Context, who Principal, holds []uuid.UUID) (Quote, []Unit, error) {
	return Quote{}, nil, errUnbuilt
}

// CreateOrder makes a DRAFT of live holds.
func (s *Service) CreateOrder(ctx context.Context, r OrderRequest) (Order, error) {
	return Order{}, errUnbuilt
}

// GetOrder returns an order with its units, holds, payments and refunds.
func (s *Service) GetOrder(ctx context.Context, who Principal, id uuid.UUID) (Order, error) {
	return Order{}, errUnbuilt
}

// Checkout begins to pay and drives the order until it waits for the fan
// (Order.NextAction), is paid, or waits for something unknown.
func (s *Service) Checkout(ctx context.Context, r CheckoutRequest) (Order, error) {
	return Order{}, errUnbuilt
}

// Look fetches what the provider knows of the order's payment and drives the
// order on. Call it when the fan comes back from the provider's page.
func (s *Service) Look(ctx context.Context, who Principal, id uuid.UUID) (Order, error) {
	return Order{}, errUnbuilt
}

// Cancel asks for the end of an unpaid order: CANCELLED, or CLOSING while the
// provider is being asked.
func (s *Service) Cancel(ctx context.Context, who Principal, id uuid.UUID) (Order, error) {
	return Order{}, errUnbuilt
}

// Refund gives units of a paid order back: their tickets are void at once, the
// money follows, the seats last.
func (s *Service) Refund(ctx context.Context, who Principal, id uuid.UUID, units []int, reason string) (Order, error) {
	return Order{}, errUnbuilt
}

// History returns the order's transitions, oldest first.
func (s *Service) History(ctx context.Context, who Principal, id uuid.UUID) ([]Transition, error) {
	return nil, errUnbuilt
}

// Webhook takes a provider's webhook: nil means it is stored and will be acted
// upon (200). payment.ErrBadSignature is 400.
func (s *Service) Webhook(ctx context.Context, provider string, header map[string][]string, body []byte) error {
	return errUnbuilt
}
