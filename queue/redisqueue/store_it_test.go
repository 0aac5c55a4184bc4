//go:build it

package redisqueue

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/stanchion-queue/stanchion/queue/queuetest"
)

func env(t testing.TB, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s is not set: start the engines first (make services)", name)
	}
	return v
}

// deployment is one kind of Redis that the suite runs on.
type deployment struct {
	name string
	opt  func(t testing.TB) Options
}

// The machine may be busy; timeouts are not what the suite tests.
func patient(o Options) Options {
	o.WaitFor, o.DialTimeout, o.WriteTimeout = 5*time.Second, 10*time.Second, 20*time.Second
	return o
}

var deployments = []deployment{
	{"single", func(t testing.TB) Options {
		return patient(Options{Addresses: []string{env(t, "STANCHION_TEST_REDIS")}})
	}},
	{"sentinel", func(t testing.TB) Options {
		return patient(Options{
			Addresses: strings.Split(env(t, "STANCHION_TEST_REDIS_SENTINELS"), ","), SentinelMaster: env(t, "STANCHION_TEST_REDIS_SENTINEL_MASTER"), MinReplicas: 1,
		})
	}},
	{"cluster", func(t testing.TB) Options {
		return patient(Options{Addresses: strings.Split(env(t, "STANCHION_TEST_REDIS_CLUSTER"), ","), Cluster: true})
	}},
}

var rooms atomic.Int64

// fixture is a store whose rooms stand still in time: scripts never let the store's time go back, so a room whose last time lies
// in the future stays there until it is moved.
func fixture(t testing.TB, o Options) queuetest.Fixture {
	t.Helper()
	s := open(t, o)
	run := time.Now().UnixNano() / 1000 % 1e12
	freeze := func(t testing.TB, room string, ms int64) {
		t.Helper()
		c := s.client
		if err := c.Do(context.Background(), c.B().Hset().Key(s.key(room)).FieldValue().FieldValue("last", itoa(ms)).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	return queuetest.Fixture{
		Store: s,
		Room: func() string {
			name := fmt.Sprintf("t-%d-%d", run, rooms.Add(1))
			t.Cleanup(func() { remove(t, s, name) })
			return name
		},
		Freeze: func(t testing.TB, room string) { freeze(t, room, time.Now().Add(24*time.Hour).UnixMilli()) },
		Advance: func(t testing.TB, room string, d time.Duration) {
			t.Helper()
			c, err := s.Control(context.Background(), room)
			if err != nil {
				t.Fatal(err)
			}
			freeze(t, room, c.StoreMs+d.Milliseconds())
		},
	}
}

func open(t testing.TB, o Options) *Store {
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

// remove drops a test's room.
func remove(t testing.TB, s *Store, room string) {
	for _, node := range s.client.Nodes() {
		if role, err := node.Do(context.Background(), node.B().Role().Build()).ToArray(); err != nil || len(role) == 0 {
			t.Errorf("role: %v", err)
		}
		if err := s.unlink(context.Background(), node, strings.TrimSuffix(s.key(room), "c")+"*"); err != nil {
			t.Errorf("remove room: %v", err)
		}
	}
}

func TestSuite(t *testing.T) {
	for _, d := range deployments {
		t.Run(d.name, func(t *testing.T) {
			queuetest.Run(t, func(t testing.TB) queuetest.Fixture { return fixture(t, d.opt(t)) })
		})
	}
}

var _ = rueidis.Nil
