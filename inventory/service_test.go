package inventory_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/inventory"
	"github.com/stanchion-queue/stanchion/inventory/chart"
	"github.com/stanchion-queue/stanchion/inventory/sqlitestock"
)

// spy is a store that counts batches and can be told what to do with them.
type spy struct {
	inventory.Store
	batches, changes, reads, fences, creates atomic.Int32
	mu                                       sync.Mutex
	before                                   func(inventory.Batch) error // an error becomes an unknown outcome, unsent
	answer                                   func(inventory.Batch) (inventory.Outcome, bool)
	create                                   func(block int16) error
}

func (s *spy) set(before func(inventory.Batch) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func (s *spy) Apply(ctx context.Context, key inventory.Key, b inventory.Batch) (inventory.Outcome, error) {
	s.batches.Add(1)
	s.changes.Add(int32(len(b.Changes)))
	if len(b.Changes) == 0 && b.Set == nil {
		s.fences.Add(1)
	}
	s.mu.Lock()
	before, answer := s.before, s.answer
	s.mu.Unlock()
	if answer != nil {
		if out, ok := answer(b); ok {
			return out, nil
		}
	}
	if before != nil {
		if err := before(b); err != nil {
			return inventory.Outcome{}, err
		}
	}
	return s.Store.Apply(ctx, key, b)
}

func (s *spy) Read(ctx context.Context, key inventory.Key, mode inventory.ReadMode) (inventory.Block, error) {
	s.reads.Add(1)
	return s.Store.Read(ctx, key, mode)
}

func (s *spy) CreateBlock(ctx context.Context, key inventory.Key, spec inventory.BlockSpec) (bool, error) {
	s.creates.Add(1)
	s.mu.Lock()
	create := s.create
	s.mu.Unlock()
	if create != nil {
		if err := create(key.Block); err != nil {
			return false, err
		}
	}
	return s.Store.CreateBlock(ctx, key, spec)
}

// clock is a time that only moves when told.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time       { return time.Unix(0, c.at.Load()) }
func (c *clock) pass(d time.Duration) { c.at.Add(int64(d)) }

func openStore(t *testing.T, path string, c *clock) *sqlitestock.Stock {
	t.Helper()
	store, err := sqlitestock.Open(t.Context(), path, c.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func start(t *testing.T, store inventory.Store, c *clock) *inventory.Service {
	t.Helper()
	s, err := inventory.New(t.Context(), inventory.Options{Store: store, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func theatre(t testing.TB) []byte {
	t.Helper()
	document, err := os.ReadFile("testdata/theatre.json")
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// arena is a plan of 60,000 seats in 240 blocks, a third of them in each of three tiers.
func arena(t testing.TB) []byte {
	t.Helper()
	c := chart.Chart{Name: "Arena"}
	for tier, name := range []string{"Lower tier", "Middle tier", "Upper tier"} {
		c.Categories = append(c.Categories, chart.Category{Name: name})
		s := chart.Section{ID: name, Name: name}
		for r := range 800 {
			row := chart.Row{Label: strconv.Itoa(r)}
			for n := range 25 {
				label := strconv.Itoa(n)
				row.Seats = append(row.Seats, chart.Seat{
					ID: chart.DefaultSeatID(s.ID, row.Label, label), Label: label, X: float64(n), Y: float64(r), Category: tier,
				})
			}
			s.Rows = append(s.Rows, row)
		}
		c.Sections = append(c.Sections, s)
	}
	document, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// house is a service with the theatre on sale.
func house(t *testing.T) (*inventory.Service, *spy, *clock, uuid.UUID) {
	t.Helper()
	c := newClock()
	store := &spy{Store: openStore(t, filepath.Join(t.TempDir(), "seats.db"), c)}
	s := start(t, store, c)
	p := uuid.New()
	if err := s.ImportPerformance(t.Context(), p, theatre(t), 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitImport(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := s.OpenSale(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return s, store, c, p
}

// Ten thousand fans want the same seat. One gets it; the others hear so from memory.
func TestHerdOnOneSeat(t *testing.T) {
	s, store, _, p := house(t)
	before := store.batches.Load()
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for range 10_000 {
		wg.Go(func() {
			switch _, err := s.Hold(t.Context(), p, 1, []int16{7}, uuid.New(), time.Minute, nil); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, inventory.ErrSeatsTaken):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 9_999 {
		t.Errorf("%d won and %d lost", won.Load(), lost.Load())
	}
	if n := store.batches.Load() - before; n > 5 {
		t.Errorf("%d batches were sent, want at most 5", n)
	}
}

// While one batch is under way all that comes is merged into the next.
func TestMergesWhatWaits(t *testing.T) {
	s, store, _, p := house(t)
	release, arrived := make(chan struct{}), make(chan struct{})
	var first sync.Once
	store.set(func(inventory.Batch) error {
		first.Do(func() { close(arrived); <-release })
		return nil
	})
	before := store.batches.Load()
	var wg sync.WaitGroup
	hold := func(n int16) {
		wg.Go(func() {
			if _, err := s.Hold(t.Context(), p, 2, []int16{n}, uuid.New(), time.Minute, nil); err != nil {
				t.Error(err)
			}
		})
	}
	hold(0)
	<-arrived
	for n := int16(1); n <= 50; n++ {
		hold(n)
	}
	waitFor(t, func() bool { return s.Waiting(p, 2) == 50 })
	close(release)
	wg.Wait()
	if n := store.batches.Load() - before; n != 2 {
		t.Errorf("51 holds took %d batches, want 2", n)
	}
}

func waitFor(t *testing.T, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(10 * time.Second)
	for !f() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("it did not become true within 10 s")
		}
	}
}

// A remembered "taken" ends with its lease, and the seat is given again.
func TestTakenLapses(t *testing.T) {
	s, store, c, p := house(t)
	hold := func() error {
		_, err := s.Hold(t.Context(), p, 0, []int16{3}, uuid.New(), time.Minute, nil)
		return err
	}
	if err := hold(); err != nil {
		t.Fatal(err)
	}
	before := store.batches.Load()
	c.pass(time.Minute) // the promise is over, the grace is not
	if err := hold(); !errors.Is(err, inventory.ErrSeatsTaken) {
		t.Fatalf("within the grace: %v", err)
	}
	if n := store.batches.Load() - before; n != 0 {
		t.Errorf("a refusal from memory sent %d batches", n)
	}
	c.pass(32 * time.Second)
	if err := hold(); err != nil {
		t.Fatalf("after the lease: %v", err)
	}
	sellable, held, sold, err := s.Counts(t.Context(), p)
	if err != nil || held != 1 || sold != 0 || sellable != 835 {
		t.Errorf("counts %d, %d, %d, %v", sellable, held, sold, err)
	}
	c.pass(2 * time.Minute)
	if _, held, _, err = s.Counts(t.Context(), p); err != nil || held != 0 {
		t.Errorf("after that lease %d are held, %v", held, err)
	}
}

var errLost = errors.New("the answer was lost")

// The caller gives up while the outcome is open, and later learns it.
func TestUnknownOutcome(t *testing.T) {
	s, store, _, p := house(t)
	lost := make(chan struct{})
	var once sync.Once
	store.set(func(inventory.Batch) error { once.Do(func() { close(lost) }); return errLost })
	hold := uuid.New()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-lost; cancel() }()
	_, err := s.Hold(ctx, p, 1, []int16{4, 5}, hold, time.Minute, nil)
	var e *inventory.Error
	if !errors.As(err, &e) || e.Code() != "unknown-outcome" || !slices.Equal(e.Seats(), []int16{4, 5}) || e.Block() != 1 {
		t.Fatalf("%v", err)
	}
	// Nothing else is sent for the block meanwhile, and who gives up before being sent has had no effect.
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	before := store.changes.Load()
	if _, err := s.Hold(ctx, p, 1, []int16{9}, uuid.New(), time.Minute, nil); !errors.Is(err, inventory.ErrUnavailable) {
		t.Fatalf("a hold behind an open outcome: %v", err)
	}
	if n := store.changes.Load() - before; n != 0 {
		t.Errorf("%d changes were sent while an outcome was open", n)
	}
	// Other blocks go on; the availability of this one is still answered.
	store.set(nil)
	seats, _, err := s.LookHold(t.Context(), p, 1, hold)
	if err != nil || len(seats) != 0 {
		t.Fatalf("the hold never arrived and its caller has left, but it is on %v (%v)", seats, err)
	}
	if store.fences.Load() == 0 {
		t.Error("no fence was sent")
	}
	if _, err := s.Hold(t.Context(), p, 1, []int16{4, 5, 9}, uuid.New(), time.Minute, nil); err != nil {
		t.Errorf("the seats are not free: %v", err)
	}
}

// A caller who waits long enough gets the answer although an answer was lost.
func TestLostAnswerIsSettled(t *testing.T) {
	s, store, _, p := house(t)
	for name, lose := range map[string]func(inventory.Batch) error{
		"not applied": func(b inventory.Batch) error { return errLost },
		"applied": func(b inventory.Batch) error {
			if out, err := store.Store.Apply(t.Context(), inventory.Key{Performance: p, Block: 0}, b); err != nil || out.Verdict != inventory.Applied {
				t.Errorf("%v, %v", out.Verdict, err)
			}
			return errLost
		},
	} {
		var once sync.Once
		store.set(func(b inventory.Batch) (err error) {
			once.Do(func() { err = lose(b) })
			return err
		})
		hold, order := uuid.New(), uuid.New()
		seats := []int16{20, 21}
		if _, err := s.Hold(t.Context(), p, 0, seats, hold, time.Minute, nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := s.Sell(t.Context(), p, 0, seats, hold, order); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := errors.Join(s.Unsell(t.Context(), p, 0, seats, order), s.Release(t.Context(), p, 0, seats, hold),
			s.OpenSeats(t.Context(), p, 0, seats, chart.KillCooling)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// Memory that is wrong, because another process changed the block, costs tries and nothing else.
func TestWrongMemory(t *testing.T) {
	s, store, _, p := house(t)
	key := inventory.Key{Performance: p, Block: 0}
	if _, err := s.Hold(t.Context(), p, 0, []int16{0}, uuid.New(), time.Minute, nil); err != nil {
		t.Fatal(err)
	}
	b, err := store.Store.Read(t.Context(), key, inventory.ReadRecent)
	if err != nil {
		t.Fatal(err)
	}
	lease, err := inventory.MakeLease(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	foreign := inventory.NewBatch(b.Head, uuid.New(), inventory.Change{
		Kind: inventory.Hold, Seats: []int16{1, 2}, Hold: uuid.New(), Lease: lease, Channels: []int16{0},
	})
	if out, err := store.Store.Apply(t.Context(), key, foreign); err != nil || out.Verdict != inventory.Applied {
		t.Fatal(out.Verdict, err)
	}
	_, err = s.Hold(t.Context(), p, 0, []int16{2, 3}, uuid.New(), time.Minute, nil)
	var e *inventory.Error
	if !errors.As(err, &e) || e.Code() != "seats-taken" || !slices.Equal(e.Seats(), []int16{2}) {
		t.Fatalf("a hold over a foreign one: %v", err)
	}
	if _, err := s.Hold(t.Context(), p, 0, []int16{3, 4}, uuid.New(), time.Minute, nil); err != nil {
		t.Fatal(err)
	}
}

// The store refuses one seat although neither memory nor a read can see why, as with clocks that differ: its buyer is
// refused, all who were merged with it get their seats, and it takes few batches.
func TestRefusalOfOneAmongMany(t *testing.T) {
	s, store, _, p := house(t)
	const cursed = 13
	release, arrived := make(chan struct{}), make(chan struct{})
	var first sync.Once
	store.set(func(inventory.Batch) error {
		first.Do(func() { close(arrived); <-release })
		return nil
	})
	store.mu.Lock()
	store.answer = func(b inventory.Batch) (inventory.Outcome, bool) {
		out := inventory.Outcome{Verdict: inventory.Refused, Head: inventory.Head{Ver: b.Ver, State: inventory.Open}}
		refused := false
		for _, c := range b.Changes {
			for _, n := range c.Seats {
				seat := inventory.Seat{Seat: n}
				if n == cursed {
					seat.Hold, refused = uuid.New(), true
				}
				out.Seats = append(out.Seats, seat)
			}
		}
		return out, refused
	}
	store.mu.Unlock()
	var wg sync.WaitGroup
	hold := func(n int16) {
		wg.Go(func() {
			_, err := s.Hold(t.Context(), p, 2, []int16{n}, uuid.New(), time.Minute, nil)
			if n == cursed && !errors.Is(err, inventory.ErrSeatsTaken) || n != cursed && err != nil {
				t.Errorf("seat %d: %v", n, err)
			}
		})
	}
	hold(0)
	<-arrived
	before := store.batches.Load()
	for n := int16(1); n <= 30; n++ {
		hold(n)
	}
	waitFor(t, func() bool { return s.Waiting(p, 2) == 30 })
	close(release)
	wg.Wait()
	// Two merged attempts, then one by one, with the refused seat tried a third time alone.
	if n := store.batches.Load() - before; n > 2+30+1 {
		t.Errorf("%d batches for 30 holds", n)
	}
}

// Everybody wants the best seats, and everybody gets other ones.
func TestHoldBestForACrowd(t *testing.T) {
	s, _, _, p := house(t)
	var mu sync.Mutex
	given := map[[2]int16]bool{}
	var wg sync.WaitGroup
	var refused atomic.Int32
	for range 300 {
		wg.Go(func() {
			block, seats, _, err := s.HoldBest(t.Context(), p, 3, "", false, uuid.New(), time.Minute, nil)
			if errors.Is(err, inventory.ErrNoSeatsLeft) {
				refused.Add(1)
				return
			}
			if err != nil || len(seats) != 3 {
				t.Errorf("%v, %v", seats, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, n := range seats {
				if given[[2]int16{block, n}] {
					t.Errorf("seat %d/%d was given twice", block, n)
				}
				given[[2]int16{block, n}] = true
			}
		})
	}
	wg.Wait()
	// 828 seats are not kept for accessible places; a row of 24 … 34 with an aisle leaves at most a few singles.
	if len(given) < 700 || refused.Load() == 0 {
		t.Errorf("%d seats given, %d refused", len(given), refused.Load())
	}
}

// The same call again gives the same seats, also when better ones have become free.
func TestHoldBestRepeated(t *testing.T) {
	s, _, _, p := house(t)
	ctx := t.Context()
	first := uuid.New()
	block, seats, _, err := s.HoldBest(ctx, p, 2, "", false, first, time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	hold := uuid.New()
	wantBlock, want, _, err := s.HoldBest(ctx, p, 2, "", false, hold, time.Minute, nil)
	if err != nil || slices.Equal(want, seats) {
		t.Fatalf("%v, %v", want, err)
	}
	if err := s.Release(ctx, p, block, seats, first); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		block, seats, _, err = s.HoldBest(ctx, p, 2, "", false, hold, time.Minute, nil)
		if err != nil || block != wantBlock || !slices.Equal(seats, want) {
			t.Fatalf("repeated: block %d %v, %v; want block %d %v", block, seats, err, wantBlock, want)
		}
	}
	if _, held, _, err := s.Counts(ctx, p); err != nil || held != 2 {
		t.Errorf("%d seats are held, %v", held, err)
	}
}

// An import that is cut off goes on where it was, in another process, without being asked.
func TestImportResumes(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "seats.db")
	store := &spy{Store: openStore(t, path, c)}
	cut := errors.New("cut off")
	store.create = func(block int16) error {
		if block >= 2 {
			return cut
		}
		return nil
	}
	s := start(t, store, c)
	p := uuid.New()
	if err := s.ImportPerformance(t.Context(), p, theatre(t), 0, nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return store.creates.Load() >= 3 })
	// The wish to sell is stored meanwhile and follows the seats.
	if err := s.OpenSale(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Hold(t.Context(), p, 3, []int16{0}, uuid.New(), time.Minute, nil); !errors.Is(err, inventory.ErrSaleNotOpen) {
		t.Errorf("a hold of a seat that is still to be created: %v", err)
	}
	if a, err := s.Availability(t.Context(), p, 0); err != nil || len(a.Blocks) != 0 {
		t.Errorf("availability during the import: %+v, %v", a, err)
	}
	if _, _, _, err := s.Counts(t.Context(), p); err == nil {
		t.Error("counts during the import look like a sold-out house")
	}
	s.Close()

	store.mu.Lock()
	store.create = nil
	store.mu.Unlock()
	s = start(t, store, c)
	if err := s.AwaitImport(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool {
		_, err := s.Hold(t.Context(), p, 3, []int16{0}, uuid.New(), time.Minute, nil)
		return err == nil
	})
}

func TestRestartKeepsTheSale(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "seats.db")
	store := openStore(t, path, c)
	s := start(t, store, c)
	p, hold, order := uuid.New(), uuid.New(), uuid.New()
	steps := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	steps(s.ImportPerformance(t.Context(), p, theatre(t), 0, nil), s.AwaitImport(t.Context(), p), s.OpenSale(t.Context(), p))
	_, err := s.Hold(t.Context(), p, 0, []int16{1, 2}, hold, time.Minute, nil)
	steps(err)
	_, err = s.Hold(t.Context(), p, 0, []int16{8}, uuid.New(), time.Minute, nil)
	steps(err, s.FreezeBlock(t.Context(), p, 3))
	s.Close()
	if _, err := s.Hold(t.Context(), p, 0, []int16{5}, uuid.New(), time.Minute, nil); !errors.Is(err, inventory.ErrUnavailable) {
		t.Errorf("a stopped service answers %v", err)
	}
	s = start(t, store, c)
	steps(s.Sell(t.Context(), p, 0, []int16{1, 2}, hold, order))
	if _, err := s.Hold(t.Context(), p, 0, []int16{8}, uuid.New(), time.Minute, nil); !errors.Is(err, inventory.ErrSeatsTaken) {
		t.Errorf("a seat held before the restart: %v", err)
	}
	steps(s.PauseSale(t.Context(), p), s.OpenSale(t.Context(), p))
	if _, err := s.Hold(t.Context(), p, 3, []int16{1}, uuid.New(), time.Minute, nil); !errors.Is(err, inventory.ErrBlockFrozen) {
		t.Errorf("a frozen block after pause and open: %v", err)
	}
}

// The arena is created in the background while the theatre sells.
func TestArenaInTheBackground(t *testing.T) {
	s, store, _, small := house(t)
	arenaID := uuid.New()
	begin := time.Now()
	if err := s.ImportPerformance(t.Context(), arenaID, arena(t), 0, map[string]int16{"Lower tier": 1}); err != nil {
		t.Fatal(err)
	}
	registered := time.Since(begin)
	holds := 0
	var slowest time.Duration
	for n := int16(0); ; n++ {
		done, total, err := s.ImportProgress(t.Context(), arenaID)
		if err != nil || total != 240 {
			t.Fatalf("%d of %d, %v", done, total, err)
		}
		if done == total {
			break
		}
		at := time.Now()
		if _, err := s.Hold(t.Context(), small, 0, []int16{n % 200}, uuid.New(), time.Minute, nil); err != nil && !errors.Is(err, inventory.ErrSeatsTaken) {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(at))
		holds++
	}
	if err := s.AwaitImport(t.Context(), arenaID); err != nil {
		t.Fatal(err)
	}
	t.Logf("registered in %v, created in %v; %d holds meanwhile, the slowest took %v", registered, time.Since(begin), holds, slowest)
	if store.creates.Load() != 244 || holds == 0 {
		t.Errorf("%d blocks created, %d holds meanwhile", store.creates.Load(), holds)
	}
	if err := s.OpenSale(t.Context(), arenaID); err != nil {
		t.Fatal(err)
	}
	sellable, held, sold, err := s.Counts(t.Context(), arenaID)
	if err != nil || sellable != 40_000 || held != 0 || sold != 0 { // the lower tier is not for the public
		t.Errorf("counts %d, %d, %d, %v", sellable, held, sold, err)
	}
	block, _, _, err := s.HoldBest(t.Context(), arenaID, 4, "Upper tier", false, uuid.New(), time.Minute, nil)
	if err != nil || block < 160 {
		t.Errorf("best in the upper tier: block %d, %v", block, err)
	}
}

func TestOptions(t *testing.T) {
	store := openStore(t, filepath.Join(t.TempDir(), "seats.db"), newClock())
	for name, o := range map[string]inventory.Options{
		"no store":             {},
		"promises upside down": {Store: store, ShortestPromise: time.Hour, LongestPromise: time.Minute},
		"beyond every lease":   {Store: store, LongestPromise: 3 * time.Hour},
		"promise of nothing":   {Store: store, ShortestPromise: time.Millisecond},
		"negative grace":       {Store: store, Grace: -1},
	} {
		if s, err := inventory.New(t.Context(), o); err == nil {
			s.Close()
			t.Errorf("%s was accepted", name)
		}
	}
	reg := prometheus.NewRegistry()
	s, err := inventory.New(t.Context(), inventory.Options{Store: store, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := inventory.New(t.Context(), inventory.Options{Store: store, Registerer: reg}); err == nil {
		t.Error("two services share one registry")
	}
	if all, err := reg.Gather(); err != nil || len(all) < 8 {
		t.Errorf("%d metrics, %v", len(all), err)
	}
}
