//go:build it

package cqlstock_test

import (
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gocql/gocql"
	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory"
	"github.com/stanchion-queue/stanchion/inventory/cqlstock"
	"github.com/stanchion-queue/stanchion/inventory/stocktest"
)

// options reads the address of a real server, and makes a keyspace for this test alone.
func options(t testing.TB) cqlstock.Options {
	t.Helper()
	address, dc := os.Getenv("STANCHION_TEST_CASSANDRA"), os.Getenv("STANCHION_TEST_CASSANDRA_DC")
	if address == "" || dc == "" {
		t.Fatal("STANCHION_TEST_CASSANDRA and STANCHION_TEST_CASSANDRA_DC must name a server: make services")
	}
	opt := cqlstock.Options{
		Addresses: strings.Split(address, ","), Datacenter: dc,
		Keyspace: "stock_it_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:12],
	}
	if err := cqlstock.CreateSchema(t.Context(), opt, cqlstock.Schema{Replicas: map[string]int{dc: 1}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c := gocql.NewCluster(opt.Addresses...)
		c.Timeout = 20 * time.Second
		session, err := c.CreateSession()
		if err != nil {
			t.Error(err)
			return
		}
		defer session.Close()
		if err := session.Query("DROP KEYSPACE " + opt.Keyspace).Exec(); err != nil {
			t.Error(err)
		}
	})
	return opt
}

func TestConformance(t *testing.T) {
	s, err := cqlstock.Open(options(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	stocktest.Run(t, stocktest.Harness{
		Store: s, Shared: true, Now: time.Now,
		Pass:  func(d time.Duration) { <-time.After(d) }, // leases end by the server's clock
		Races: 256 * stocktest.Rounds(t), Together: 128, Unknowns: 250 * stocktest.Rounds(t),
	})
}

// impatient is a store that often does not wait for the server's answer, so that the driver itself loses it.
type impatient struct {
	inventory.Store
	mu    sync.Mutex
	share float64
	lost  int
}

func (s *impatient) Set(f stocktest.Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.share = f.AppliedLater
}

func (s *impatient) Unknowns() (int, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost, 0
}

// Flush has nothing to send: what is late is in the server's own queue, and a read behind it sees the end of it.
func (s *impatient) Flush(context.Context) (int, error) { return 0, nil }

func (s *impatient) Apply(ctx context.Context, key inventory.Key, b inventory.Batch) (inventory.Outcome, error) {
	s.mu.Lock()
	hurry := rand.Float64() < s.share
	s.mu.Unlock()
	if hurry {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(500+rand.IntN(2500))*time.Microsecond)
		defer cancel()
	}
	out, err := s.Store.Apply(ctx, key, b)
	if err != nil {
		s.mu.Lock()
		s.lost++
		s.mu.Unlock()
	}
	return out, err
}

// The driver gives up on requests that are then carried out after all.
func TestImpatientClient(t *testing.T) {
	s, err := cqlstock.Open(options(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	h := stocktest.Harness{Store: s, Shared: true, Now: time.Now, Unknowns: 100 * stocktest.Rounds(t)}
	stocktest.LostAnswers(t, h, &impatient{Store: s})
}
