// Package api is the core's public JSON API under /api/v1, described by OpenAPI 3.1 at /api/openapi.json.
//
// Handlers translate and nothing else: who asks (buyer), what they ask for (catalog, order, ticketing), and how a refusal reads
// (problem). Every write may carry an Idempotency-Key; the same key with the same body gets the same answer, whatever broke in
// between.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/buyer"
	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/counter"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/problem"
	"github.com/stanchion-queue/stanchion/core/ticketing"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// MaxBodyBytes bounds a request body.
const MaxBodyBytes = 64 << 10

// Orders is the order service as the API needs it; order.Service implements it.
type Orders interface {
	CreateHold(ctx context.Context, r order.HoldRequest) (order.Hold, error)
	GetHold(ctx context.Context, who order.Principal, id uuid.UUID) (order.Hold, error)
	ExtendHold(ctx context.Context, who order.Principal, id uuid.UUID) (order.Hold, error)
	ReleaseHold(ctx context.Context, who order.Principal, id uuid.UUID) error
	QuoteHolds(ctx context.Context, who order.Principal, holds []uuid.UUID) (order.Quote, []order.Unit, error)
	CreateOrder(ctx context.Context, r order.OrderRequest) (order.Order, error)
	GetOrder(ctx context.Context, who order.Principal, id uuid.UUID) (order.Order, error)
	Checkout(ctx context.Context, r order.CheckoutRequest) (order.Order, error)
	Look(ctx context.Context, who order.Principal, id uuid.UUID) (order.Order, error)
	Cancel(ctx context.Context, who order.Principal, id uuid.UUID) (order.Order, error)
	Refund(ctx context.Context, who order.Principal, id uuid.UUID, units []int, reason string) (order.Order, error)
	Webhook(ctx context.Context, provider string, header map[string][]string, body []byte) error
}

// Seats is what the inventory says is free.
type Seats interface {
	Availability(ctx context.Context, performance uuid.UUID, since int64) (chart.Availability, error)
}

// Options are what the API is built from.
type Options struct {
	Orders      Orders
	Catalog     *catalog.Service
	Seats       Seats
	Counter     *counter.Counter
	Tickets     *ticketing.Service
	Buyers      *buyer.Desk
	Idempotency *order.Idempotency
	StaffToken  string // bearer token that may change the catalog and scan; empty: nobody may
	Version     string
	Log         *slog.Logger
	Now         func() time.Time
}

type api struct{ Options }

// New returns the handler of /api/.
func New(o Options) http.Handler {
	a := &api{o}
	mux := http.NewServeMux()
	config := huma.DefaultConfig("Stanchion core", o.Version)
	config.OpenAPIPath = "/api/openapi"
	config.DocsPath = ""    // the built-in page loads scripts from elsewhere
	config.SchemasPath = "" // no $schema links in answers
	config.CreateHooks = nil
	config.Info.Description = "Events, seats, orders, payments and tickets. Errors are RFC 9457 problem details; see docs/reference/problems.md."
	h := humago.New(mux, config)
	a.register(h)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, r, o.Log, problem.New(http.StatusNotFound, "not-found", "There is no such resource", "See /api/openapi.json for what there is."))
	})
	return a.guarded(mux)
}

func init() {
	// huma has one constructor for the errors that it makes itself (malformed JSON, failed validation); ours gives them the
	// same shape and a type.
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		p := problem.New(status, codeOf(status), http.StatusText(status), msg)
		for _, e := range errs {
			f := problem.Field{Want: e.Error()}
			if d, ok := e.(huma.ErrorDetailer); ok {
				detail := d.ErrorDetail()
				f = problem.Field{Field: detail.Location, Want: detail.Message}
			}
			p.Errors = append(p.Errors, f)
		}
		return p
	}
}

func codeOf(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "malformed"
	case http.StatusRequestEntityTooLarge:
		return "too-large"
	case http.StatusUnsupportedMediaType:
		return "media-type"
	case http.StatusRequestTimeout:
		return "too-slow"
	case http.StatusUnprocessableEntity:
		return "invalid"
	case http.StatusNotFound:
		return "not-found"
	case http.StatusNotAcceptable:
		return "not-acceptable"
	}
	return "internal"
}

// fail turns an error into what huma writes, and logs what a client is not told.
func (a *api) fail(ctx context.Context, err error) error {
	p := problem.From(err)
	if p.Code() == "internal" {
		a.Log.ErrorContext(ctx, "request failed", "err", err)
	}
	if p.RetryAfter > 0 {
		h := http.Header{}
		problem.SetRetryAfter(h, p)
		return huma.ErrorWithHeaders(p, h)
	}
	return p
}
