package stocktest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// insist sends a change until it is applied or refused, as an owner does after a stale version. It gives up after ctx.
func insist(ctx context.Context, store inventory.Store, key inventory.Key, c inventory.Change) (bool, error) {
	head := inventory.Head{Ver: 1, Epoch: 7}
	for {
		out, err := store.Apply(ctx, key, inventory.NewBatch(head, uuid.New(), c))
		switch {
		case err != nil:
			return false, err
		case out.Verdict == inventory.Stale:
			head = out.Head
		default:
			return out.Verdict == inventory.Applied, nil
		}
	}
}

// testRaces lets a sale, the end of the lease it relies on, and a second fan's hold and sale run against each other.
// Afterwards every seat belongs to exactly the order that was told so, all three together, and no lease stays.
func testRaces(t *testing.T, h Harness) {
	const seats = 3
	var first, second atomic.Int32
	race := func(ctx context.Context, round int) error {
		rng := rand.New(rand.NewPCG(uint64(round), 7))
		key := inventory.Key{Performance: uuid.New(), Block: 1}
		if _, err := h.Store.CreateBlock(ctx, key, spec(0, 0, 0)); err != nil {
			return err
		}
		open := inventory.Open
		batch := inventory.NewBatch(inventory.Head{Ver: 1, Epoch: 7}, uuid.New())
		batch.Set = &open
		if out, err := h.Store.Apply(ctx, key, batch); err != nil || out.Verdict != inventory.Applied {
			return fmt.Errorf("open: %v, %w", out.Verdict, err)
		}
		a, b, orderA, orderB := uuid.New(), uuid.New(), uuid.New(), uuid.New()
		all := []int16{0, 1, 2}
		if ok, err := insist(ctx, h.Store, key, hold(t, a, 2*time.Second, all...)); err != nil || !ok {
			return fmt.Errorf("first hold: %v, %w", ok, err)
		}
		var soldA, soldB bool
		var errA, errB error
		var wg sync.WaitGroup
		start := make(chan struct{})
		wg.Go(func() { // the slow payer, at some moment around the end of the lease
			<-start
			h.Pass(time.Duration(1+rng.IntN(2)) * time.Second)
			soldA, errA = insist(ctx, h.Store, key, sell(a, orderA, all...))
		})
		wg.Go(func() { // the second fan, who tries until the seats are free or sold
			rng := rand.New(rand.NewPCG(uint64(round), 8))
			<-start
			for try := 0; errB == nil && try < 60; try++ {
				var held bool
				if held, errB = insist(ctx, h.Store, key, hold(t, b, long, all...)); errB != nil || !held {
					h.Pass(time.Duration(100+rng.IntN(200)) * time.Millisecond)
					continue
				}
				soldB, errB = insist(ctx, h.Store, key, sell(b, orderB, all...))
				return
			}
		})
		close(start)
		wg.Wait()
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		read, err := h.Store.Read(ctx, key, inventory.ReadSettled)
		if err != nil {
			return err
		}
		if soldA == soldB {
			return fmt.Errorf("round %d: sold to the first %v and to the second %v", round, soldA, soldB)
		}
		owner := orderB
		if soldA {
			owner = orderA
			first.Add(1)
		} else {
			second.Add(1)
		}
		for _, s := range read.Seats {
			if s.Order != owner {
				return fmt.Errorf("round %d: torn: seat %d belongs to %v, the buyer is %v", round, s.Seat, s.Order, owner)
			}
		}
		return nil
	}
	var wg sync.WaitGroup
	rounds := make(chan int)
	for range min(h.Together, h.Races) {
		wg.Go(func() {
			for round := range rounds {
				if err := race(t.Context(), round); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for round := range h.Races {
		rounds <- round
	}
	close(rounds)
	wg.Wait()
	t.Logf("%d races of %d seats: %d sold to the first, %d to the second", h.Races, seats, first.Load(), second.Load())
	if h.Races >= 20 && (first.Load() == 0 || second.Load() == 0) {
		t.Error("the races never ended both ways, so they raced nothing")
	}
}

// house is a service with one performance on sale.
type house struct {
	desk        *inventory.Service
	performance uuid.UUID
}

// plan is a seating plan of rows of ten seats.
func plan(rows int) []byte {
	c := chart.Chart{Name: "Test house", Categories: []chart.Category{{Name: "all"}}}
	s := chart.Section{ID: "s", Name: "Section"}
	for r := range rows {
		row := chart.Row{Label: strconv.Itoa(r + 1)}
		for n := range 10 {
			label := strconv.Itoa(n + 1)
			row.Seats = append(row.Seats, chart.Seat{
				ID: chart.DefaultSeatID(s.ID, row.Label, label), Label: label, X: float64(n), Y: float64(r),
			})
		}
		s.Rows = append(s.Rows, row)
	}
	c.Sections = []chart.Section{s}
	document, err := c.Encode()
	if err != nil {
		panic(err) // the chart above is valid
	}
	return document
}

func openHouse(t *testing.T, h Harness, store inventory.Store, performance uuid.UUID, rows int) *house {
	t.Helper()
	s, err := inventory.New(t.Context(), inventory.Options{
		Store: store, Shared: h.Shared, Epoch: 7, Grace: time.Millisecond, ShortestPromise: time.Second, Now: h.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.ImportPerformance(t.Context(), performance, plan(rows), 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitImport(t.Context(), performance); err != nil {
		t.Fatal(err)
	}
	if err := s.OpenSale(t.Context(), performance); err != nil {
		t.Fatal(err)
	}
	return &house{desk: s, performance: performance}
}

// testTwoOwners lets two services that know nothing of each other sell the same block.
func testTwoOwners(t *testing.T, h Harness) {
	h.Shared = true
	performance := uuid.New()
	a := openHouse(t, h, h.Store, performance, 10)
	b := openHouse(t, h, h.Store, performance, 10)
	sold := make([]atomic.Int32, 100)
	var wg sync.WaitGroup
	for i := range 200 {
		desk := a.desk
		if i%2 == 1 {
			desk = b.desk
		}
		wg.Go(func() {
			seat, id, order := int16(i*37%100), uuid.New(), uuid.New()
			_, err := desk.Hold(t.Context(), performance, 0, []int16{seat}, id, time.Minute, nil)
			if errors.Is(err, inventory.ErrSeatsTaken) {
				return
			}
			if err == nil {
				err = desk.Sell(t.Context(), performance, 0, []int16{seat}, id, order)
			}
			if err != nil {
				t.Errorf("seat %d: %v", seat, err)
				return
			}
			sold[seat].Add(1)
		})
	}
	wg.Wait()
	for seat := range sold {
		if n := sold[seat].Load(); n != 1 {
			t.Errorf("seat %d was sold %d times", seat, n)
		}
	}
}

// Lossy is a store whose answers get lost, such as Faulty.
type Lossy interface {
	inventory.Store
	// Set changes the chances of a loss. They start at zero.
	Set(Faults)
	// Unknowns counts the lost answers, and the late batches that were applied in time.
	Unknowns() (unknowns, alive int)
	// Flush lets all late batches arrive and counts those that were applied.
	Flush(context.Context) (int, error)
}

func testLostAnswers(t *testing.T, h Harness) {
	LostAnswers(t, h, WithFaults(h.Store, 42, Faults{}))
}

// LostAnswers sells through a store that loses answers, until h.Unknowns are lost. Whatever the buyers were told must be
// so in the end, and what was declared dead must stay dead when the late batches arrive.
func LostAnswers(t *testing.T, h Harness, faulty Lossy) {
	performance := uuid.New()
	house := openHouse(t, h, faulty, performance, 20)
	faulty.Set(Faults{AppliedButError: 0.12, NotAppliedButError: 0.12, AppliedLater: 0.12})
	var mu sync.Mutex
	owner := map[int16]uuid.UUID{} // by seat, as the buyers were told
	var told, refused int
	buyer := func(ctx context.Context, rng *rand.Rand) error {
		qty := 1 + rng.IntN(3)
		row := rng.IntN(20)
		seat := int16(10*row + rng.IntN(11-qty))
		seats := []int16{seat, seat + 1, seat + 2}[:qty]
		id, order := uuid.New(), uuid.New()
		_, err := house.desk.Hold(ctx, performance, 0, seats, id, time.Minute, nil)
		mu.Lock()
		told++
		mu.Unlock()
		if errors.Is(err, inventory.ErrSeatsTaken) {
			if rng.IntN(10) == 0 { // a look that finds nothing costs a fence
				if left, _, err := house.desk.LookHold(ctx, performance, 0, id); err != nil || len(left) > 0 {
					return fmt.Errorf("refused, but the hold is on %v (%w)", left, err)
				}
			}
			mu.Lock()
			refused++
			mu.Unlock()
			return nil
		}
		if err != nil {
			return fmt.Errorf("hold: %w", err)
		}
		if rng.IntN(2) == 0 {
			return house.desk.Release(ctx, performance, 0, seats, id)
		}
		if err := house.desk.Sell(ctx, performance, 0, seats, id, order); err != nil {
			return fmt.Errorf("sell what was held: %w", err)
		}
		sold, err := house.desk.LookOrder(ctx, performance, 0, order)
		if err != nil || !slices.Equal(sold, seats) {
			return fmt.Errorf("sold %v, but the order has %v (%w)", seats, sold, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, s := range seats {
			if other, ok := owner[s]; ok {
				return fmt.Errorf("seat %d is sold to %v and to %v", s, other, order)
			}
			owner[s] = order
		}
		if rng.IntN(20) > 0 { // most give their seats back, or there would soon be nothing to fight for
			for _, s := range seats {
				delete(owner, s)
			}
			mu.Unlock()
			defer mu.Lock()
			return errors.Join(
				house.desk.Unsell(ctx, performance, 0, seats, order),
				house.desk.Release(ctx, performance, 0, seats, id),
				house.desk.OpenSeats(ctx, performance, 0, seats, chart.KillCooling),
			)
		}
		return nil
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 99))
			for {
				if n, _ := faulty.Unknowns(); n >= h.Unknowns || t.Failed() {
					return
				}
				if err := buyer(t.Context(), rng); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	faulty.Set(Faults{})
	alive, err := faulty.Flush(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if alive != 0 {
		t.Errorf("%d batches that had been declared dead were applied after all", alive)
	}
	read, err := h.Store.Read(t.Context(), inventory.Key{Performance: performance}, inventory.ReadSettled)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range read.Seats {
		if s.Order != owner[s.Seat] {
			t.Errorf("seat %d belongs to %v in the store and to %v by what its buyer was told", s.Seat, s.Order, owner[s.Seat])
		}
	}
	n, cameLate := faulty.Unknowns()
	t.Logf("%d holds asked for, %d refused, %d answers lost, %d of the batches came late and were applied in time", told, refused, n, cameLate)
}

// testReadSettlesNothing is the counter-proof: a resolver that believes a read declares dead what then is applied.
func testReadSettlesNothing(t *testing.T, h Harness) {
	faulty := WithFaults(h.Store, 1, Faults{AppliedLater: 1})
	b := fresh(t, h, inventory.Open, 0)
	me := uuid.New()
	out, err := faulty.Apply(t.Context(), b.key, b.batch(hold(t, me, long, 0)))
	if out.Verdict != inventory.Unknown || !errors.Is(err, ErrLost) {
		t.Fatalf("%v, %v", out.Verdict, err)
	}
	if s := b.read().Seats[0]; s.Hold != uuid.Nil {
		t.Fatalf("the batch came early: %+v", s)
	}
	if n, err := faulty.Flush(t.Context()); err != nil || n != 1 {
		t.Fatalf("%d late batches applied, %v", n, err)
	}
	if s := b.read().Seats[0]; s.Hold != me {
		t.Fatalf("the read was right by chance: %+v", s)
	}
	// With a fence in between the same batch stays dead.
	b.ver++
	late := b.batch(release(me, 0))
	if out, _ := faulty.Apply(t.Context(), b.key, late); out.Verdict != inventory.Unknown {
		t.Fatal(out.Verdict)
	}
	b.must(inventory.Fence(b.ver, 7, uuid.New()))
	if n, err := faulty.Flush(t.Context()); err != nil || n != 0 {
		t.Fatalf("after a fence %d late batches applied, %v", n, err)
	}
}

// testOverlaps lets a crowd ask for overlapping seats at once: every yes must own its seats.
func testOverlaps(t *testing.T, h Harness) {
	performance := uuid.New()
	house := openHouse(t, h, h.Store, performance, 20)
	var mu sync.Mutex
	owner := map[int16]uuid.UUID{}
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			id := uuid.New()
			first := int16(i * 7 % 198)
			seats := []int16{first, first + 1, first + 2}
			_, err := house.desk.Hold(t.Context(), performance, 0, seats, id, time.Minute, nil)
			if errors.Is(err, inventory.ErrSeatsTaken) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, s := range seats {
				if other, ok := owner[s]; ok {
					t.Errorf("seat %d was given to %v and to %v", s, other, id)
				}
				owner[s] = id
			}
		})
	}
	wg.Wait()
	read, err := h.Store.Read(t.Context(), inventory.Key{Performance: performance}, inventory.ReadSettled)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range read.Seats {
		if s.Hold != owner[s.Seat] {
			t.Errorf("seat %d is held by %v, told was %v", s.Seat, s.Hold, owner[s.Seat])
		}
	}
	if len(owner) < 100 {
		t.Errorf("only %d seats were held by 1000 buyers", len(owner))
	}
}
