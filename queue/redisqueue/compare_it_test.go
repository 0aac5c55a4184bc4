//go:build it

package redisqueue

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/queue/localqueue"
	"github.com/stanchion-queue/stanchion/queue/queuetest"
)

// TestSameAsEmbedded runs random steps on Redis and on the embedded store: whatever happens, they answer alike.
func TestSameAsEmbedded(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) // the embedded store's clock is moved by one goroutine alone
	local, err := localqueue.Open(context.Background(), localqueue.Options{Volatile: true, Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := local.Close(); err != nil {
			t.Error(err)
		}
	})
	var n atomic.Int64
	redis := fixture(t, deployments[0].opt(t))
	queuetest.Compare(t, redis, queuetest.Fixture{
		Store: local, Room: func() string { return fmt.Sprintf("room-%d", n.Add(1)) },
		Advance: func(_ testing.TB, _ string, d time.Duration) { now = now.Add(d) },
	})
}
