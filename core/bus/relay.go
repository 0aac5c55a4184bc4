package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Outbox is the queue of events that are not published yet.
type Outbox interface {
	// Head returns the shard's first events with an id above after, in the
	// order of their ids.
	Head(ctx context.Context, shard int, after int64, limit int) ([]Event, error)
	// Delete removes published events.
	Delete(ctx context.Context, ids []int64) error
	// Guard makes the caller the only relay of the shard, until release, or
	// until alive fails: then another may already have taken over. ok is false
	// if another has it.
	Guard(ctx context.Context, shard int) (alive func(context.Context) error, release func(), ok bool, err error)
}

// Inbox remembers what a consumer has handled.
type Inbox interface {
	Seen(ctx context.Context, consumer, dedupe string) (bool, error)
	Mark(ctx context.Context, consumer, dedupe string, at time.Time) error
}

// Once makes a handler react once to each fact, as far as that is possible
// outside of a transaction: the effect may happen again if the process dies
// before the inbox is marked. A handler whose effect is in the same database
// marks the inbox in its own transaction instead.
func Once(in Inbox, consumer string, now func() time.Time, h Handler) Handler {
	return func(ctx context.Context, e Event) error {
		key := e.DedupeKey()
		seen, err := in.Seen(ctx, consumer, key)
		if err != nil {
			return fmt.Errorf("look into the inbox of %s: %w", consumer, err)
		}
		if seen {
			return nil
		}
		if err := h(ctx, e); err != nil {
			return err
		}
		if err := in.Mark(ctx, consumer, key, now()); err != nil {
			return fmt.Errorf("mark the inbox of %s: %w", consumer, err)
		}
		return nil
	}
}

// Relay publishes the outbox. Events are read by id, published, and exactly
// those are deleted, so nothing can be skipped and no horizon is needed. Ids
// are drawn under the lock of the event's subject, so that per key their
// order is the order of versions. Run one or several; each shard has one at a
// time.
type Relay struct {
	Outbox    Outbox
	Publisher Publisher
	Log       *slog.Logger
	Now       func() time.Time
	// Batch is how many events are published at once; 0 = 256.
	Batch int
	// Poll is how long an empty outbox is left alone; 0 = 50 ms.
	Poll time.Duration
	// Lag is how far the low-water mark stays behind: longer than any writing
	// transaction takes. 0 = 30 s.
	Lag time.Duration
	// Full is how often the whole outbox is read, whatever the low-water mark
	// says; 0 = 1 min.
	Full    time.Duration
	Metrics prometheus.Registerer

	once      sync.Once
	published prometheus.Counter
	failures  prometheus.Counter
	lag       prometheus.Gauge
	err       error
}

func (r *Relay) prepare() error {
	r.once.Do(func() {
		set := func(d *time.Duration, v time.Duration) {
			if *d <= 0 {
				*d = v
			}
		}
		set(&r.Poll, 50*time.Millisecond)
		set(&r.Lag, 30*time.Second)
		set(&r.Full, time.Minute)
		if r.Batch <= 0 {
			r.Batch = 256
		}
		if r.Now == nil {
			r.Now = time.Now
		}
		if r.Log == nil {
			r.Log = slog.New(slog.DiscardHandler)
		}
		r.published = prometheus.NewCounter(prometheus.CounterOpts{Name: "stanchion_bus_published_total", Help: "Events published from the outbox."})
		r.failures = prometheus.NewCounter(prometheus.CounterOpts{Name: "stanchion_bus_publish_failures_total", Help: "Batches that could not be published."})
		r.lag = prometheus.NewGauge(prometheus.GaugeOpts{Name: "stanchion_bus_lag_seconds", Help: "Age of the oldest event in the last batch published."})
		if r.Metrics == nil {
			return
		}
		for _, c := range []prometheus.Collector{r.published, r.failures, r.lag} {
			if r.err = r.Metrics.Register(c); r.err != nil {
				return
			}
		}
	})
	return r.err
}

// Run publishes until ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	if err := r.prepare(); err != nil {
		return fmt.Errorf("bus: register metrics: %w", err)
	}
	var wg sync.WaitGroup
	for shard := range Shards {
		wg.Go(func() { r.shard(ctx, shard) })
	}
	wg.Wait()
	return ctx.Err()
}

// shard is the relay of one shard whenever nobody else is.
func (r *Relay) shard(ctx context.Context, shard int) {
	for ctx.Err() == nil {
		alive, release, ok, err := r.Outbox.Guard(ctx, shard)
		if err == nil && ok {
			err = r.publish(ctx, shard, alive)
			release()
		}
		if err != nil && ctx.Err() == nil {
			r.Log.Error("the relay of a shard stopped", "shard", shard, "error", err)
		}
		pause(ctx, time.Second)
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// errNoGuard ends a relay that may have a successor.
var errNoGuard = errors.New("the shard's guard is lost")

func (r *Relay) publish(ctx context.Context, shard int, alive func(context.Context) error) error {
	low := newLowWater(r.Lag, r.Full)
	checked := r.Now()
	backoff := r.Poll
	for ctx.Err() == nil {
		now := r.Now()
		if now.Sub(checked) >= time.Second {
			if err := alive(ctx); err != nil {
				return errors.Join(errNoGuard, err)
			}
			checked = now
		}
		es, err := r.Outbox.Head(ctx, shard, low.after(now), r.Batch)
		if err != nil {
			return err
		}
		if len(es) == 0 {
			pause(ctx, r.Poll)
			continue
		}
		if err := r.Publisher.Publish(ctx, es); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.failures.Inc()
			r.Log.Warn("events could not be published, trying again", "shard", shard, "events", len(es), "error", err)
			pause(ctx, backoff)
			backoff = min(backoff*2, 5*time.Second)
			continue
		}
		backoff = r.Poll
		ids := make([]int64, len(es))
		for i, e := range es {
			ids[i] = e.ID
		}
		if err := r.Outbox.Delete(ctx, ids); err != nil {
			return err
		}
		low.published(r.Now(), ids[len(ids)-1])
		r.published.Add(float64(len(es)))
		r.lag.Set(now.Sub(es[0].At).Seconds())
	}
	return ctx.Err()
}

// lowWater remembers below which id nothing can appear any more, so that the
// dead rows of a long queue are not read again and again. It lags behind,
// because a transaction that is still open may hold a smaller id, and is
// forgotten from time to time, in case one was open for longer.
type lowWater struct {
	lag, full time.Duration
	low       int64
	marks     []mark // published ids that are not old enough yet
	reset     time.Time
}

type mark struct {
	at time.Time
	id int64
}

func newLowWater(lag, full time.Duration) *lowWater { return &lowWater{lag: lag, full: full} }

func (l *lowWater) published(now time.Time, id int64) {
	if n := len(l.marks); n > 0 && now.Sub(l.marks[n-1].at) < l.lag/16 {
		return // sixteen marks are enough
	}
	l.marks = append(l.marks, mark{now, id})
}

func (l *lowWater) after(now time.Time) int64 {
	if l.reset.IsZero() {
		l.reset = now
	}
	if now.Sub(l.reset) >= l.full {
		l.reset = now
		return 0
	}
	for len(l.marks) > 0 && now.Sub(l.marks[0].at) >= l.lag {
		l.low = l.marks[0].id
		l.marks = l.marks[1:]
	}
	return l.low
}
