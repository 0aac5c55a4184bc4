package localqueue

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/queue/queuetest"
)

// clock stands still until it is moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func openStore(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSuite(t *testing.T) {
	queuetest.Run(t, func(t testing.TB) queuetest.Fixture {
		c := newClock()
		s := openStore(t, Options{Path: filepath.Join(t.TempDir(), "rooms.db"), Clock: c.now})
		return queuetest.Fixture{Store: s, Advance: func(_ testing.TB, _ string, d time.Duration) { c.add(d) }}
	})
}

func TestSuiteVolatile(t *testing.T) {
	queuetest.Run(t, func(t testing.TB) queuetest.Fixture {
		c := newClock()
		s := openStore(t, Options{Volatile: true, Clock: c.now})
		return queuetest.Fixture{Store: s, Advance: func(_ testing.TB, _ string, d time.Duration) { c.add(d) }}
	})
}
