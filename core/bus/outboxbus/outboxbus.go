// Package outboxbus is the bus inside one process: consumers read the outbox
// itself. What each has handled is stored beside the events, so a restart
// loses nothing, and one consumer that is stuck does not hold up the others.
package outboxbus

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/stanchion-queue/stanchion/core/bus"
)

// Bus delivers the outbox to consumers in this process. It implements
// bus.Subscriber; nothing has to be published, and no relay may run beside it.
type Bus struct {
	Spool bus.Spool
	Log   *slog.Logger // nil: discard
	// Tracer makes a span for each event that is handled; nil: none.
	Tracer trace.Tracer
	// Poll is how long an empty outbox is left alone; 0 = 50 ms.
	Poll time.Duration
	// Batch is how many events are read at once; 0 = 64.
	Batch int
	// RetryMin and RetryMax bound the wait after a handler's error; 0 = 100 ms
	// and 10 s.
	RetryMin, RetryMax time.Duration
}

var _ bus.Subscriber = (*Bus)(nil)

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Subscribe implements bus.Subscriber. From a consumer's first subscription
// on, events wait for it, also while nothing runs. One subscription per
// consumer at a time.
func (b *Bus) Subscribe(ctx context.Context, consumer string, topics []string, h bus.Handler) error {
	if err := b.Spool.Enrol(ctx, consumer, topics); err != nil {
		return fmt.Errorf("enrol %s: %w", consumer, err)
	}
	log := or(b.Log, slog.New(slog.DiscardHandler)).With("consumer", consumer)
	poll, wait := or(b.Poll, 50*time.Millisecond), or(b.RetryMin, 100*time.Millisecond)
	for ctx.Err() == nil {
		es, err := b.Spool.Unhandled(ctx, consumer, or(b.Batch, 64))
		if err == nil && len(es) == 0 {
			pause(ctx, poll)
			continue
		}
		if err == nil {
			err = b.handle(ctx, consumer, es, h)
		}
		if err == nil {
			wait = or(b.RetryMin, 100*time.Millisecond)
			continue
		}
		if ctx.Err() == nil {
			log.Warn("events wait: a consumer failed", "error", err)
			pause(ctx, wait)
			wait = min(2*wait, or(b.RetryMax, 10*time.Second))
		}
	}
	return ctx.Err()
}

// handle gives events to a handler up to the first error, and stores how far
// it came.
func (b *Bus) handle(ctx context.Context, consumer string, es []bus.Event, h bus.Handler) error {
	var done []int64
	var failed error
	for _, e := range es {
		if failed = bus.Handle(ctx, b.Tracer, consumer, e, h); failed != nil {
			failed = fmt.Errorf("%s of %s: %w", e.Type, e.Key, failed)
			break
		}
		done = append(done, e.ID)
	}
	if err := b.Spool.Handled(context.WithoutCancel(ctx), consumer, done); err != nil {
		return err // they will come again
	}
	return failed
}

// Run deletes what everybody has handled, until ctx ends. Run it once.
func (b *Bus) Run(ctx context.Context) error {
	const batch = 500
	log := or(b.Log, slog.New(slog.DiscardHandler))
	for ctx.Err() == nil {
		n, err := b.Spool.Sweep(ctx, batch)
		if err != nil && ctx.Err() == nil {
			log.Warn("handled events could not be deleted", "error", err)
		}
		if n < batch {
			pause(ctx, time.Second)
		}
	}
	return ctx.Err()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
