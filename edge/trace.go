package edge

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/stanchion-queue/stanchion/edge/guard"
)

var w3c propagation.TraceContext

// incoming reads trace context from a request.
type incoming struct{ r *guard.Request }

// Get implements propagation.TextMapCarrier.
func (c incoming) Get(key string) string { return string(c.r.Find(key)) }

// Set implements propagation.TextMapCarrier; requests are not written to.
func (c incoming) Set(string, string) {}

// Keys implements propagation.TextMapCarrier.
func (c incoming) Keys() []string { return w3c.Fields() }

// outgoing collects trace context for the origin.
type outgoing func(name string, value []byte)

// Get implements propagation.TextMapCarrier.
func (c outgoing) Get(string) string { return "" }

// Set implements propagation.TextMapCarrier.
func (c outgoing) Set(key, value string) { c(key, []byte(value)) }

// Keys implements propagation.TextMapCarrier.
func (c outgoing) Keys() []string { return w3c.Fields() }

// startSpan begins the request's span when there is a tracer. A client's own trace is only continued when a trusted hop
// handed it over; strangers must not decide what is sampled.
func (x *exchange) startSpan() {
	if x.s.o.Tracer == nil {
		return
	}
	ctx := context.Background()
	if x.trusted {
		ctx = w3c.Extract(ctx, incoming{x.req})
	}
	_, x.span = x.s.o.Tracer.Start(ctx, x.req.Method.String(), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", x.req.Method.String()),
		attribute.String("url.path", string(x.req.Path)),
		attribute.String("server.address", string(x.req.Hostname)),
		attribute.String("stanchion.request_id", x.requestID),
	))
}

// inject hands the span to the origin.
func (x *exchange) inject(add func(name string, value []byte)) {
	if x.span != nil {
		w3c.Inject(trace.ContextWithSpan(context.Background(), x.span), outgoing(add))
	}
}

func (x *exchange) endSpan() {
	if x.span == nil {
		return
	}
	x.span.SetAttributes(attribute.Int("http.response.status_code", x.status), attribute.String("stanchion.decision", x.word))
	if x.room != nil {
		x.span.SetAttributes(attribute.String("stanchion.room", x.room.name))
	}
	if x.status >= 500 && x.word != "wait" {
		x.span.SetStatus(codes.Error, x.reason)
	}
	x.span.End()
}
