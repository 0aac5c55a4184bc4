// Package api is the core's public JSON API under /api/v1, described by OpenAPI 3.1 at /api/openapi.json.
//
// Handlers translate and nothing else: who asks (buyer), what they ask for (catalog, order, ticketing), and how a refusal reads
// (problem). Every write may carry an Idempotency-Key; the same key with the same body gets the same answer, whatever broke in
// between. What every request has in common, before an operation sees it, is in guard.go.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
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

// Limits of a request body.
const (
	MaxBodyBytes    = 64 << 10
	MaxWebhookBytes = 256 << 10
)

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
	Stage       Stage
	BlockSeats  int // seats of a block of a new plan; 0: the inventory's default
	Counter     *counter.Counter
	Tickets     *ticketing.Service
	Buyers      *buyer.Desk
	Idempotency *order.Idempotency
	StaffToken  string // bearer token that may change the catalog and scan; empty: nobody may
	Version     string
	Log         *slog.Logger
	Now         func() time.Time
}

type api struct {
	Options
	mux *http.ServeMux
}

// New returns the handler of /api/.
func New(o Options) http.Handler {
	a := &api{Options: o, mux: http.NewServeMux()}
	config := huma.DefaultConfig("Stanchion core", o.Version)
	config.OpenAPIPath = "/api/openapi"
	config.DocsPath = ""    // the built-in page loads scripts from elsewhere
	config.SchemasPath = "" // no $schema links in answers
	config.CreateHooks = nil
	config.Transformers = append(config.Transformers, a.ours)
	config.Info.Description = "Events, seats, orders, payments and tickets. Errors are RFC 9457 problem details; docs/reference/problems.md explains " +
		"every type, and x-problem-types lists those that an operation answers with a status. Every write may carry an Idempotency-Key, " +
		"except webhooks and scans, which bring their own."
	h := humago.New(a.mux, config)
	a.register(h)
	a.mux.HandleFunc("/api/", a.nothing)
	return a.guarded(conditional(a.mux))
}

var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}

// nothing answers for paths without an operation, and for methods that a path has none for.
func (a *api) nothing(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range methods {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := a.mux.Handler(other); pattern != "/api/" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 {
		problem.Write(w, r, a.Log, problem.New(problem.NotFound, "See /api/openapi.json for what there is."))
		return
	}
	if slices.Contains(allowed, http.MethodGet) {
		allowed = append(allowed, http.MethodHead)
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	problem.Write(w, r, a.Log, problem.New(problem.MethodNotAllowed, "It takes "+strings.Join(allowed, ", ")+"."))
}

// ours gives the errors that huma makes itself (malformed JSON, failed validation) our shape, and tells every problem which
// request it answers. It is a transformer, because huma's own hook for errors is one variable for the whole process, in which
// other APIs live too.
func (a *api) ours(ctx huma.Context, _ string, v any) (any, error) {
	var p *problem.Problem
	switch e := v.(type) {
	case *problem.Problem:
		p = e
	case *huma.ErrorModel:
		p = problem.New(kindOf(e.Status), sentence(e.Detail))
		p.Status = e.Status
		for _, d := range e.Errors {
			f := problem.Field{Field: strings.TrimPrefix(d.Location, "body."), Want: d.Message}
			p.Errors = append(p.Errors, f)
		}
	default:
		return v, nil
	}
	if r := requestOf(ctx.Context()); r != nil {
		p.About(r)
	}
	return p, nil
}

// sentence makes one of huma's lower-case remarks.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

func kindOf(status int) *problem.Kind {
	switch status {
	case http.StatusBadRequest:
		return problem.Malformed
	case http.StatusNotFound:
		return problem.NotFound
	case http.StatusRequestTimeout:
		return problem.TooSlow
	case http.StatusRequestEntityTooLarge:
		return problem.TooLarge
	case http.StatusUnsupportedMediaType:
		return problem.MediaType
	case http.StatusUnprocessableEntity:
		return problem.Invalid
	}
	return problem.Internal
}

// fail turns an error into what huma writes, and logs what a client is not told.
func (a *api) fail(ctx context.Context, err error) error {
	p := problem.From(err)
	if p.Of(problem.Internal) {
		a.Log.ErrorContext(ctx, "request failed", "err", err)
	}
	h := http.Header{"Cache-Control": {"no-store"}}
	problem.SetRetryAfter(h, p)
	return huma.ErrorWithHeaders(p, h)
}

// Problems that many operations answer.
var (
	always  = []*problem.Kind{problem.Internal}
	guests  = []*problem.Kind{problem.GuestInvalid}
	aBody   = []*problem.Kind{problem.Malformed, problem.TooLarge, problem.TooSlow, problem.MediaType, problem.Invalid}
	keys    = []*problem.Kind{problem.CrossSite, problem.BadKey, problem.GuestNeeded, problem.KeyReused, problem.KeyInFlight, problem.Malformed, problem.TooLarge}
	holding = []*problem.Kind{problem.PassRequired, problem.PassInvalid, problem.PassUsed, problem.PassLimit, problem.SaleNotOpen, problem.SeatsTaken,
		problem.NoSeatsLeft, problem.NoSuchSeat, problem.NoSeats, problem.TooManySeats, problem.ManyBlocks, problem.HoldExpired, problem.IDTaken,
		problem.BlockFrozen, problem.OneMoment}
)

// operation describes one operation; its problems become responses by status.
func operation(method, id, path, summary, tag string, status int, lists ...[]*problem.Kind) huma.Operation {
	lists = append(lists, always)
	if method != http.MethodGet {
		lists = append(lists, []*problem.Kind{problem.CrossSite})
	}
	op := huma.Operation{OperationID: id, Method: method, Path: "/api/v1" + path, Summary: summary, Tags: []string{tag}, DefaultStatus: status,
		MaxBodyBytes: MaxBodyBytes, Responses: map[string]*huma.Response{}}
	byStatus := map[int][]*problem.Kind{}
	for _, k := range slices.Concat(lists...) {
		if !slices.Contains(byStatus[k.Status], k) {
			byStatus[k.Status] = append(byStatus[k.Status], k)
		}
	}
	for status, kinds := range byStatus {
		slices.SortFunc(kinds, func(a, b *problem.Kind) int { return strings.Compare(a.Code, b.Code) })
		var types, titles []string
		for _, k := range kinds {
			types, titles = append(types, k.Type()), append(titles, "`"+k.Code+"`: "+k.Title+".")
		}
		op.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: strings.Join(titles, " "),
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}},
			Extensions:  map[string]any{"x-problem-types": types},
		}
	}
	return op
}

func kinds(k ...*problem.Kind) []*problem.Kind { return k }

func (a *api) register(h huma.API) {
	h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[problem.Problem](), true, "Problem")
	const (
		get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	)
	notFound := kinds(problem.NotFound)
	inPath := kinds(problem.NotFound, problem.Invalid) // ids in paths are checked
	unclear := kinds(problem.OneMoment)
	staff := slices.Concat(keys, aBody, guests, kinds(problem.StaffOnly, problem.Exists, problem.ChangedMeanwhile))

	huma.Register(h, operation(get, "list-events", "/events", "All events with their performances", "catalog", 200, guests), a.listEvents)
	huma.Register(h, operation(get, "get-event", "/events/{event}", "One event with its performances", "catalog", 200, guests, inPath), a.getEvent)
	huma.Register(h, operation(get, "get-event-performance", "/events/{event}/performances/{performance}", "One performance of an event", "catalog", 200, guests, inPath), a.getEventPerformance)
	huma.Register(h, operation(get, "get-performance", "/performances/{performance}", "One performance", "catalog", 200, guests, inPath), a.getPerformance)
	huma.Register(h, operation(get, "get-chart", "/performances/{performance}/chart", "The seating plan; immutable by hash", "catalog", 200, guests, inPath, unclear), a.getChart)
	huma.Register(h, operation(get, "get-availability", "/performances/{performance}/availability", "Free seats per block since a version", "seats", 200, guests, inPath, unclear), a.getAvailability)
	huma.Register(h, operation(get, "list-venues", "/venues", "All venues", "catalog", 200, guests), a.listVenues)
	huma.Register(h, operation(put, "put-venue", "/venues/{id}", "Make or replace a venue", "staff", 200, staff), a.putVenue)
	huma.Register(h, operation(put, "put-event", "/events/{event}", "Make or replace an event", "staff", 200, staff), a.putEvent)
	huma.Register(h, operation(put, "put-performance", "/performances/{performance}", "Make or replace a performance", "staff", 200, staff), a.putPerformance)
	a.registerStage(h, staff)

	huma.Register(h, operation(post, "create-hold", "/performances/{performance}/holds", "Hold seats of one block", "seats", 201, guests, keys, aBody, inPath, holding), a.createHold)
	huma.Register(h, operation(get, "get-hold", "/holds/{hold}", "A hold and the seconds it has left", "seats", 200, guests, inPath,
		kinds(problem.HoldExpired, problem.SeatsTaken, problem.SaleNotOpen, problem.NoSuchSeat, problem.BlockFrozen, problem.OneMoment)), a.getHold)
	huma.Register(h, operation(post, "extend-hold", "/holds/{hold}/extend", "Extend a hold", "seats", 200, guests, keys, inPath,
		kinds(problem.HoldExpired, problem.AtTheCap, problem.HoldInCheckout, problem.OneMoment)), a.extendHold)
	huma.Register(h, operation(del, "release-hold", "/holds/{hold}", "Release a hold; may be repeated", "seats", 204, guests, keys, inPath,
		kinds(problem.HoldInCheckout, problem.OneMoment)), a.releaseHold)
	quoting := kinds(problem.NotFound, problem.HoldExpired, problem.HoldInCheckout, problem.TooManyHolds, problem.MixedHolds, problem.NoSeats, problem.NoSuchSeat, problem.OneMoment)
	huma.Register(h, operation(post, "quote-holds", "/holds/quote", "What holds cost now", "orders", 200, guests, keys, aBody, quoting), a.quoteHolds)

	huma.Register(h, operation(post, "create-order", "/orders", "Make an order of holds", "orders", 201, guests, keys, aBody, quoting,
		kinds(problem.PriceChanged, problem.IDTaken)), a.createOrder)
	huma.Register(h, operation(get, "get-order", "/orders/{order}", "An order", "orders", 200, guests, inPath), a.getOrder)
	huma.Register(h, operation(post, "checkout", "/orders/{order}/checkout", "Begin to pay", "orders", 202, guests, keys, aBody, notFound,
		kinds(problem.PaymentDeclined, problem.WrongState, problem.AttemptOpen, problem.HoldExpired, problem.BadReturnURL, problem.OneMoment)), a.checkout)
	huma.Register(h, operation(post, "cancel-order", "/orders/{order}/cancel", "Cancel an unpaid order", "orders", 200, guests, keys, inPath,
		kinds(problem.WrongState, problem.OneMoment)), a.cancelOrder)
	huma.Register(h, operation(get, "list-payments", "/orders/{order}/payments", "The order's attempts to pay", "orders", 200, guests, inPath), a.listPayments)
	huma.Register(h, operation(post, "refund", "/orders/{order}/refunds", "Give units back", "orders", 202, guests, keys, aBody, notFound,
		kinds(problem.WrongState, problem.UnitRefunded, problem.DisputeOpen)), a.refund)
	huma.Register(h, operation(get, "list-tickets", "/orders/{order}/tickets", "The order's tickets", "tickets", 200, guests, inPath, kinds(problem.NotPaid)), a.listTickets)
	huma.Register(h, operation(get, "get-ticket", "/tickets/{ticket}", "A ticket", "tickets", 200, guests, inPath, kinds(problem.Revoked)), a.getTicket)
	huma.Register(h, operation(post, "scan", "/scans", "Judge a code at a gate", "staff", 200, aBody, kinds(problem.StaffOnly)), a.scan)
	webhook := operation(post, "webhook", "/webhooks/{provider}", "A payment provider's webhook", "provider", 200, inPath,
		kinds(problem.Malformed, problem.TooLarge, problem.TooSlow, problem.BadSignature))
	webhook.MaxBodyBytes = MaxWebhookBytes
	huma.Register(h, webhook, a.webhook)
}
