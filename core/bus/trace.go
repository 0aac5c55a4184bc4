package bus

import (
	"context"
	"hash/fnv"

	"go.opentelemetry.io/otel/propagation"
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
