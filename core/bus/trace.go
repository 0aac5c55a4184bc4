package bus

import (
	"context"
	"hash/fnv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Shards is how many independent queues the outbox has. It is fixed: a key
// must stay in its shard.
const Shards = 4

// ShardOf puts all events of a key into one shard.
func ShardOf(key string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	return int(h.Sum32() % Shards)
}

// Traceparent is the W3C trace context of ctx, or "".
func Traceparent(ctx context.Context) string {
	c := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, c)
	return c["traceparent"]
}

// WithTraceparent returns ctx with the trace context of an event.
func WithTraceparent(ctx context.Context, traceparent string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}

// Handle gives an event to a handler, in a span of its own that continues the
// trace of whoever wrote the event. tracer may be nil.
func Handle(ctx context.Context, tracer trace.Tracer, consumer string, e Event, h Handler) error {
	ctx = WithTraceparent(ctx, e.Traceparent)
	if tracer == nil {
		return h(ctx, e)
	}
	ctx, span := tracer.Start(ctx, "process "+e.Topic, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("messaging.destination.name", e.Topic), attribute.String("messaging.consumer.group.name", consumer),
		attribute.String("stanchion.event.type", e.Type)))
	defer span.End()
	err := h(ctx, e)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	return err
}
