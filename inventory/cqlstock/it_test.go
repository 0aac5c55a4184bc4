//go:build it

package cqlstock_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

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
