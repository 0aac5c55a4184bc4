//go:build it

package kafkabus_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/bus"
	"github.com/stanchion-queue/stanchion/core/bus/bustest"
	"github.com/stanchion-queue/stanchion/core/bus/kafkabus"
)

// open makes a bench with topics of its own on the broker that
// STANCHION_TEST_KAFKA names: an outbox, its relay, and consumer groups.
func open(t *testing.T) bustest.Bench {
	addr := os.Getenv("STANCHION_TEST_KAFKA")
	if addr == "" {
		t.Fatal("STANCHION_TEST_KAFKA is not set: this test needs a Kafka broker")
	}
	o := kafkabus.Options{Addresses: strings.Split(addr, ","), Prefix: "test-" + uuid.NewString()[:8] + ".", ClientID: "bustest",
		RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond, Poll: 50 * time.Millisecond}
	topics := [2]string{"one", "two"}
	for range 2 { // the second time they exist
		if err := kafkabus.EnsureTopics(t.Context(), o, 4, 1, topics[:]...); err != nil {
			t.Fatal(err)
		}
	}
	s := bustest.Store(t)
	p, err := kafkabus.NewPublisher(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = (&bus.Relay{Outbox: s, Publisher: p, Poll: 5 * time.Millisecond}).Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return bustest.Bench{Emit: bustest.Emit(s), Topics: topics, Subscriber: func() bus.Subscriber {
		sub, err := kafkabus.NewSubscriber(o)
		if err != nil {
			t.Error(err)
		}
		return sub
	}}
}

func TestBus(t *testing.T) { bustest.Run(t, open) }
