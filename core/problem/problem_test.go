package problem_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/guest"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/payment"
	"github.com/stanchion-queue/stanchion/core/problem"
	"github.com/stanchion-queue/stanchion/core/ticketing"
)

// stock is an error as the inventory makes them.
type stock string

func (s stock) Error() string { return "inventory: " + string(s) }
func (s stock) Code() string  { return string(s) }

func TestEveryErrorHasItsKind(t *testing.T) {
	for _, test := range []struct {
		err  error
		want *problem.Kind
	}{
		{order.ErrNotFound, problem.NotFound}, {order.ErrNoPerformance, problem.NotFound}, {catalog.ErrNotFound, problem.NotFound},
		{ticketing.ErrNoTicket, problem.NotFound}, {order.ErrPassRequired, problem.PassRequired}, {order.ErrPassInvalid, problem.PassInvalid},
		{order.ErrPassUsed, problem.PassUsed}, {guest.ErrForged, problem.GuestInvalid}, {order.ErrSaleNotOpen, problem.SaleNotOpen},
		{order.ErrBlockFrozen, problem.BlockFrozen}, {order.ErrHoldExpired, problem.HoldExpired}, {order.ErrHoldAtCap, problem.AtTheCap},
		{order.ErrManyBlocks, problem.ManyBlocks}, {order.ErrTooManyHolds, problem.TooManyHolds}, {order.ErrNoSeats, problem.NoSeats},
		{order.ErrMixedHolds, problem.MixedHolds}, {order.ErrBadReturnURL, problem.BadReturnURL}, {order.ErrUnitRefunded, problem.UnitRefunded}, {order.ErrDisputeOpen, problem.DisputeOpen}, {order.ErrStale, problem.ChangedMeanwhile},
		{catalog.ErrStale, problem.ChangedMeanwhile}, {catalog.ErrExists, problem.Exists}, {order.ErrIDTaken, problem.IDTaken},
		{order.ErrKeyReused, problem.KeyReused}, {order.ErrNotNow, problem.OneMoment}, {payment.ErrBadSignature, problem.BadSignature},
		{ticketing.ErrRevoked, problem.Revoked}, {ticketing.ErrBadScan, problem.Invalid},
		{ticketing.ErrNotPaid, problem.NotPaid},
		{&order.SeatsTaken{}, problem.SeatsTaken}, {&order.NoSuchSeat{}, problem.NoSuchSeat}, {&order.PassLimit{}, problem.PassLimit},
		{&order.PriceChanged{}, problem.PriceChanged}, {&order.HoldInOrder{}, problem.HoldInCheckout}, {&order.WrongState{}, problem.WrongState},
		{&order.AttemptOpen{}, problem.AttemptOpen}, {&order.Declined{}, problem.PaymentDeclined}, {&order.KeyInFlight{}, problem.KeyInFlight},
		{&catalog.Invalid{Problems: []catalog.Problem{{}}}, problem.Invalid},
		{stock("no-seats-left"), problem.NoSeatsLeft}, {stock("no-such-performance"), problem.NotFound}, {stock("sale-not-open"), problem.SaleNotOpen},
		{stock("block-frozen"), problem.BlockFrozen}, {stock("unavailable"), problem.OneMoment}, {stock("unknown-outcome"), problem.OneMoment},
		{stock("bad-request"), problem.Invalid}, {stock("something-new"), problem.Internal},
		{errors.New("disk full"), problem.Internal},
		{problem.New(problem.CrossSite, ""), problem.CrossSite},
	} {
		for _, err := range []error{test.err, fmt.Errorf("wrapped: %w", test.err), errors.Join(test.err, errors.New("and another"))} {
			if p := problem.From(err); !p.Of(test.want) || p.Status != test.want.Status || p.Title != test.want.Title {
				t.Errorf("From(%v) = %+v, want %s", err, p, test.want.Code)
			}
		}
	}
}

func TestDetailsAreCarried(t *testing.T) {
	p := problem.From(&order.PriceChanged{Now: order.Quote{Currency: "EUR", Total: 4711}})
	if *p.Total != 4711 || p.Currency != "EUR" {
		t.Errorf("price %+v", p)
	}
	if p := problem.From(&order.AttemptOpen{NextAction: "https://pay.example/1"}); p.NextAction != "https://pay.example/1" {
		t.Errorf("next action %+v", p)
	}
	if p := problem.From(&order.PassLimit{Limit: 4, InUse: 3, Asked: 2}); p.Detail != "It allows 4 in all; 3 are held or bought already, and 2 more were asked for." {
		t.Errorf("limit %q", p.Detail)
	}
	if p := problem.From(&order.KeyInFlight{RetryAfter: 1500 * time.Millisecond}); p.RetryAfter != 1500 {
		t.Errorf("in flight %+v", p)
	}
	id := uuid.New()
	if p := problem.From(&order.HoldInOrder{OrderID: id}); !strings.Contains(p.Detail, id.String()) {
		t.Errorf("in order %+v", p)
	}
	if p := problem.From(&catalog.Invalid{Problems: []catalog.Problem{{Field: "slug", Value: "X", Want: "a-z"}}}); len(p.Errors) != 1 || p.Errors[0] != (problem.Field{Field: "slug", Value: "X", Want: "a-z"}) {
		t.Errorf("fields %+v", p.Errors)
	}
}

// One error value may be answered to many requests at once, each with its own path.
func TestFromGivesACopy(t *testing.T) {
	shared := problem.New(problem.CrossSite, "")
	problem.From(shared).Instance = "/mine"
	if shared.Instance != "" {
		t.Error("a shared problem was changed")
	}
}

func TestWrite(t *testing.T) {
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	r := httptest.NewRequest("POST", "/api/v1/orders?k=secret", nil)
	r.Header.Set("X-Request-Id", "req-1")
	w := httptest.NewRecorder()
	problem.Write(w, r, log, errors.New("disk full at /var/lib"))
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if w.Code != 500 || got["type"] != "/problems/internal" || got["instance"] != "/api/v1/orders" || got["trace"] != "req-1" {
		t.Errorf("wrote %d %s", w.Code, w.Body)
	}
	if strings.Contains(w.Body.String(), "disk") || !strings.Contains(logged.String(), "disk full") {
		t.Errorf("the inside belongs into the log alone: %s / %s", w.Body, logged.String())
	}
	if h := w.Header(); h.Get("Content-Type") != "application/problem+json" || h.Get("Cache-Control") != "no-store" || h.Get("Retry-After") != "" {
		t.Errorf("headers %v", h)
	}

	logged.Reset()
	w = httptest.NewRecorder()
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3}})
	problem.Write(w, r.WithContext(trace.ContextWithSpanContext(r.Context(), span)), log, &order.KeyInFlight{RetryAfter: 1100 * time.Millisecond})
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if w.Header().Get("Retry-After") != "2" || got["retry_after_ms"] != 1100.0 || got["trace"] != span.TraceID().String() {
		t.Errorf("wrote %v %s", w.Header(), w.Body)
	}
	if logged.Len() > 0 {
		t.Errorf("an ordinary refusal was logged: %s", logged.String())
	}
}
