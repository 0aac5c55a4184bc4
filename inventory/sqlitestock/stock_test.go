package sqlitestock_test

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory"
	"github.com/stanchion-queue/stanchion/inventory/sqlitestock"
	"github.com/stanchion-queue/stanchion/inventory/stocktest"
)

// clock is a time that only moves when told.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Date(2030, 5, 1, 12, 0, 0, 400_000_000, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time       { return time.Unix(0, c.at.Load()) }
func (c *clock) pass(d time.Duration) { c.at.Add(int64(d)) }
func (c *clock) goTo(t time.Time)     { c.at.Store(t.UnixNano()) }

func open(t *testing.T, path string, c *clock) *sqlitestock.Stock {
	t.Helper()
	s, err := sqlitestock.Open(t.Context(), path, c.now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	c := newClock()
	s := open(t, filepath.Join(t.TempDir(), "seats.db"), c)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	stocktest.Run(t, stocktest.Harness{Store: s, Pass: c.pass, Now: c.now, Races: 100 * stocktest.Rounds(t), Together: 1, Unknowns: 150 * stocktest.Rounds(t)})
}

func heldBlock(t *testing.T, s *sqlitestock.Stock, lease time.Duration) (inventory.Key, uuid.UUID) {
	t.Helper()
	key, id := inventory.Key{Performance: uuid.New()}, uuid.New()
	if _, err := s.CreateBlock(t.Context(), key, inventory.BlockSpec{Seats: make([]inventory.SeatSpec, 2)}); err != nil {
		t.Fatal(err)
	}
	l, err := inventory.MakeLease(lease)
	if err != nil {
		t.Fatal(err)
	}
	batch := inventory.NewBatch(inventory.Head{Ver: 1}, uuid.New(), inventory.Change{
		Kind: inventory.Hold, Seats: []int16{1}, Hold: id, Lease: l, Channels: []int16{0},
	})
	open := []inventory.State{inventory.Closed}
	batch.States = open
	if out, err := s.Apply(t.Context(), key, batch); err != nil || out.Verdict != inventory.Applied {
		t.Fatalf("%v, %v", out.Verdict, err)
	}
	return key, id
}

func TestRestartKeepsEverything(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "seats.db")
	s := open(t, path, c)
	key, id := heldBlock(t, s, time.Minute)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(t.Context(), key, inventory.ReadRecent); err == nil {
		t.Error("a closed store still reads")
	}
	if out, err := s.Apply(t.Context(), key, inventory.Fence(2, 0, uuid.New())); err == nil || out.Verdict != inventory.NoEffect {
		t.Errorf("a closed store answers %v, %v", out.Verdict, err)
	}
	s = open(t, path, c)
	defer s.Close()
	b, err := s.Read(t.Context(), key, inventory.ReadRecent)
	if err != nil || b.Ver != 2 || b.Seats[1].Hold != id || b.Seats[1].Left != time.Minute {
		t.Fatalf("after a restart %+v, %v", b, err)
	}
}

// A lease of n seconds ends between n-1 and n seconds after it was given: at whole seconds of the clock.
func TestLeaseEndsAtWholeSeconds(t *testing.T) {
	c := newClock() // 0.4 s past a second
	s := open(t, filepath.Join(t.TempDir(), "seats.db"), c)
	defer s.Close()
	key, id := heldBlock(t, s, 3*time.Second)
	start := c.now()
	for _, step := range []struct {
		after time.Duration
		held  bool
	}{{0, true}, {2590 * time.Millisecond, true}, {2600 * time.Millisecond, false}, {time.Hour, false}} {
		c.goTo(start.Add(step.after))
		b, err := s.Read(t.Context(), key, inventory.ReadRecent)
		if err != nil {
			t.Fatal(err)
		}
		if held := b.Seats[1].Hold == id; held != step.held {
			t.Errorf("after %v held is %v, want %v", step.after, held, step.held)
		}
	}
}

// When the clock is set back, leases live longer, but never beyond the longest lease there is.
func TestClockSetBack(t *testing.T) {
	c := newClock()
	s := open(t, filepath.Join(t.TempDir(), "seats.db"), c)
	defer s.Close()
	key, id := heldBlock(t, s, time.Minute)
	c.pass(-time.Hour)
	b, err := s.Read(t.Context(), key, inventory.ReadRecent)
	if err != nil || b.Seats[1].Hold != id {
		t.Fatalf("an hour back: %+v, %v", b.Seats, err)
	}
	c.pass(-24 * time.Hour)
	b, err = s.Read(t.Context(), key, inventory.ReadRecent)
	if err != nil || b.Seats[1].Hold != uuid.Nil || b.Seats[1].Left != 0 {
		t.Fatalf("a day back: %+v, %v", b.Seats, err)
	}
}

func TestOpenRefusesWhatIsNoDatabase(t *testing.T) {
	if _, err := sqlitestock.Open(t.Context(), t.TempDir(), nil); err == nil {
		t.Error("a directory was opened as a seat store")
	}
}
