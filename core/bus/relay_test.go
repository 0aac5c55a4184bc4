package bus_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/core/bus"
	"github.com/stanchion-queue/stanchion/core/bus/bustest"
)

// press is a publisher that fails when it likes, also after it has published a
// part.
type press struct {
	mu     sync.Mutex
	dice   *rand.Rand
	fail   float64
	got    []bus.Event
	change chan struct{}
}

func newPress(fail float64) *press {
	return &press{dice: rand.New(rand.NewPCG(1, 2)), fail: fail, change: make(chan struct{}, 1)}
}

func (p *press) Publish(_ context.Context, es []bus.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() {
		select {
		case p.change <- struct{}{}:
		default:
		}
	}()
	if p.dice.Float64() < p.fail {
		p.got = append(p.got, es[:p.dice.IntN(len(es)+1)]...)
		return errors.New("the broker is away")
	}
	p.got = append(p.got, es...)
	return nil
}

func (p *press) distinct() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]bool{}
	for _, e := range p.got {
		out[e.DedupeKey()] = true
	}
	return out
}

// Two relays on one outbox, a broker that fails half of the time: nothing is
// lost, and a consumer that drops what is not newer sees every key in order.
func TestRelay(t *testing.T) {
	s := bustest.Store(t)
	p := newPress(0.5)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			r := &bus.Relay{Outbox: s, Publisher: p, Poll: time.Millisecond, Batch: 7, Metrics: prometheus.NewRegistry()}
			if err := r.Run(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("the relay ended with %v", err)
			}
		})
	}
	defer wg.Wait()
	defer cancel()
	const keys, versions = 6, 15
	emit := bustest.Emit(s)
	for v := int64(1); v <= versions; v++ {
		for k := range keys {
			key := fmt.Sprintf("order-%d", k)
			if err := emit(ctx, bus.Event{Shard: bus.ShardOf(key), Topic: "t", Key: key, Type: "x", Version: v, At: time.Now(), Payload: []byte("{}")}); err != nil {
				t.Fatal(err)
			}
		}
	}
	deadline := time.After(30 * time.Second)
	for len(p.distinct()) < keys*versions {
		select {
		case <-p.change:
		case <-deadline:
			t.Fatalf("%d of %d events were published", len(p.distinct()), keys*versions)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	last := map[string]int64{}
	for _, e := range p.got {
		if e.Version > last[e.Key]+1 {
			t.Fatalf("%s: version %d after %d", e.Key, e.Version, last[e.Key])
		}
		last[e.Key] = max(last[e.Key], e.Version)
	}
}

// A guard that is lost stops the relay of its shard, and it begins anew.
func TestRelayStopsWithoutItsGuard(t *testing.T) {
	o := &lostGuard{guarded: make(chan int, 100)}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = (&bus.Relay{Outbox: o, Publisher: newPress(0), Poll: time.Millisecond}).Run(ctx) })
	defer wg.Wait()
	defer cancel()
	times := map[int]int{}
	deadline := time.After(30 * time.Second)
	for times[0] < 2 {
		select {
		case shard := <-o.guarded:
			times[shard]++
		case <-deadline:
			t.Fatal("the relay went on without its guard")
		}
	}
}

type lostGuard struct{ guarded chan int }

func (*lostGuard) Head(context.Context, int, int64, int) ([]bus.Event, error) { return nil, nil }
func (*lostGuard) Delete(context.Context, []int64) error                      { return nil }
func (o *lostGuard) Guard(_ context.Context, shard int) (func(context.Context) error, func(), bool, error) {
	o.guarded <- shard
	return func(context.Context) error { return errors.New("the session is gone") }, func() {}, true, nil
}

func TestShardOfIsFixed(t *testing.T) {
	// A key that moves to another shard while its events wait is overtaken.
	for key, want := range map[string]int{"": 1, "order-1": bus.ShardOf("order-1"), "018f6b6e-0000-7000-8000-000000000001": bus.ShardOf("018f6b6e-0000-7000-8000-000000000001")} {
		if got := bus.ShardOf(key); got != want || got < 0 || got >= bus.Shards {
			t.Errorf("shard of %q: %d, want %d", key, got, want)
		}
	}
}
