package outboxbus_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/core/bus"
	"github.com/stanchion-queue/stanchion/core/bus/bustest"
	"github.com/stanchion-queue/stanchion/core/bus/outboxbus"
	"github.com/stanchion-queue/stanchion/core/sqlstore"
)

func open(t *testing.T) (bustest.Bench, *sqlstore.Store) {
	s := bustest.Store(t)
	sub := func() bus.Subscriber {
		return &outboxbus.Bus{Spool: s, Poll: 2 * time.Millisecond, RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = (&outboxbus.Bus{Spool: s}).Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return bustest.Bench{Emit: bustest.Emit(s), Subscriber: sub, Topics: [2]string{"one", "two"}}, s
}

func TestBus(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Bench { b, _ := open(t); return b })
}

// What everybody has handled does not stay in the file.
func TestSweep(t *testing.T) {
	b, s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan bus.Event, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = b.Subscriber().Subscribe(ctx, "mail", b.Topics[:1], func(_ context.Context, e bus.Event) error { got <- e; return nil })
	})
	defer wg.Wait()
	defer cancel()
	for v := int64(1); v <= 20; v++ {
		if err := b.Emit(ctx, bus.Event{Topic: b.Topics[0], Key: "k", Type: "x", Version: v, At: time.Now(), Payload: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var events, handled int
		if err := s.Read().QueryRowContext(ctx, `SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM bus_handled)`).Scan(&events, &handled); err != nil {
			t.Fatal(err)
		}
		if events == 0 && handled == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d events and %d marks are left", events, handled)
		}
	}
}
