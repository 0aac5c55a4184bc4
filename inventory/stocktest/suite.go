package stocktest

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory"
)

// Harness is a store under test.
type Harness struct {
	Store inventory.Store
	// Pass returns when at least d has passed for the store's leases: by a clock of its own, or by waiting.
	Pass func(d time.Duration)
	// Shared is inventory.Options.Shared for the services that the suite starts on the store.
	Shared bool
	// Now is the clock for those services.
	Now func() time.Time
	// Races is how often expiry, sale and re-hold race, Together how many of these races run at a time (1 when Pass moves
	// a clock that all would share). Unknowns is how many lost answers are forced.
	Races, Together, Unknowns int
}

// Run runs the whole suite. Every test uses performances of its own, so one store serves all.
func Run(t *testing.T, h Harness) {
	t.Run("create", func(t *testing.T) { testCreate(t, h) })
	t.Run("statements", func(t *testing.T) { testStatements(t, h) })
	t.Run("effects", func(t *testing.T) { testEffects(t, h) })
	t.Run("versions", func(t *testing.T) { testVersions(t, h) })
	t.Run("refusals", func(t *testing.T) { testRefusals(t, h) })
	t.Run("leases", func(t *testing.T) { testLeases(t, h) })
	t.Run("merged", func(t *testing.T) { testMerged(t, h) })
	t.Run("late duplicates", func(t *testing.T) { testLateDuplicates(t, h) })
	t.Run("fence", func(t *testing.T) { testFence(t, h) })
	t.Run("states", func(t *testing.T) { testStates(t, h) })
	t.Run("refused before sending", func(t *testing.T) { testNotSent(t, h) })
	t.Run("registry", func(t *testing.T) { testRegistry(t, h) })
	t.Run("races", func(t *testing.T) { testRaces(t, h) })
	t.Run("two owners", func(t *testing.T) { testTwoOwners(t, h) })
	t.Run("lost answers", func(t *testing.T) { testLostAnswers(t, h) })
	t.Run("a read settles nothing", func(t *testing.T) { testReadSettlesNothing(t, h) })
	t.Run("overlapping herd", func(t *testing.T) { testOverlaps(t, h) })
}

// Rounds is the factor by which callers multiply Races and Unknowns: 1, or what STANCHION_TEST_ROUNDS says. 20 makes a
// thorough run of some minutes.
func Rounds(t *testing.T) int {
	t.Helper()
	s := os.Getenv("STANCHION_TEST_ROUNDS")
	if s == "" {
		return 1
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("STANCHION_TEST_ROUNDS=%q is not a number above 0", s)
	}
	return n
}

// block is a block under test, with the version the tests expect next.
type block struct {
	t     *testing.T
	store inventory.Store
	key   inventory.Key
	ver   int64
}

var chartHash = [32]byte{1, 2, 3}

func spec(channels ...int16) inventory.BlockSpec {
	s := inventory.BlockSpec{Epoch: 7, Chart: chartHash}
	for _, c := range channels {
		s.Seats = append(s.Seats, inventory.SeatSpec{Channel: c})
	}
	return s
}

// fresh creates a block of free seats, in the given state.
func fresh(t *testing.T, h Harness, state inventory.State, channels ...int16) *block {
	t.Helper()
	b := &block{t: t, store: h.Store, key: inventory.Key{Performance: uuid.New(), Block: 3}, ver: 1}
	created, err := h.Store.CreateBlock(t.Context(), b.key, spec(channels...))
	if err != nil || !created {
		t.Fatalf("create: %v, %v", created, err)
	}
	if state != inventory.Closed {
		b.must(b.set(state))
	}
	return b
}

func (b *block) batch(changes ...inventory.Change) inventory.Batch {
	return inventory.NewBatch(inventory.Head{Ver: b.ver, Epoch: 7}, uuid.New(), changes...)
}

func (b *block) set(to inventory.State) inventory.Batch {
	batch := b.batch()
	batch.Set = &to
	return batch
}

func (b *block) apply(batch inventory.Batch) inventory.Outcome {
	b.t.Helper()
	out, err := b.store.Apply(b.t.Context(), b.key, batch)
	if err != nil {
		b.t.Fatalf("apply: %v, %v", out.Verdict, err)
	}
	if out.Verdict == inventory.Applied {
		b.ver++
		if out.Head.Ver != b.ver || out.Head.Last != batch.Op {
			b.t.Fatalf("applied, but the head is %+v; want version %d and op %v", out.Head, b.ver, batch.Op)
		}
	}
	return out
}

func (b *block) want(verdict inventory.Verdict, batch inventory.Batch) inventory.Outcome {
	b.t.Helper()
	out := b.apply(batch)
	if out.Verdict != verdict {
		b.t.Fatalf("verdict %v, want %v (head %+v, seats %+v)", out.Verdict, verdict, out.Head, out.Seats)
	}
	return out
}

func (b *block) must(batch inventory.Batch) {
	b.t.Helper()
	b.want(inventory.Applied, batch)
}

func (b *block) read() inventory.Block {
	b.t.Helper()
	read, err := b.store.Read(b.t.Context(), b.key, inventory.ReadRecent)
	if err != nil {
		b.t.Fatalf("read: %v", err)
	}
	return read
}

func lease(t testing.TB, d time.Duration) inventory.Lease {
	t.Helper()
	l, err := inventory.MakeLease(d)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func hold(t testing.TB, id uuid.UUID, d time.Duration, seats ...int16) inventory.Change {
	return inventory.Change{Kind: inventory.Hold, Seats: seats, Hold: id, Lease: lease(t, d), Channels: []int16{0}}
}

func pin(t testing.TB, id uuid.UUID, d time.Duration, seats ...int16) inventory.Change {
	return inventory.Change{Kind: inventory.Pin, Seats: seats, Hold: id, Lease: lease(t, d)}
}

func release(id uuid.UUID, seats ...int16) inventory.Change {
	return inventory.Change{Kind: inventory.Release, Seats: seats, Hold: id}
}

func sell(id, order uuid.UUID, seats ...int16) inventory.Change {
	return inventory.Change{Kind: inventory.Sell, Seats: seats, Hold: id, Order: order}
}

func rescue(order uuid.UUID, seats ...int16) inventory.Change {
	return inventory.Change{Kind: inventory.Rescue, Seats: seats, Order: order}
}

func unsell(order uuid.UUID, seats ...int16) inventory.Change {
	return inventory.Change{Kind: inventory.Unsell, Seats: seats, Order: order, Kill: 2}
}

func setKill(from, to int16, seats ...int16) inventory.Change {
	return inventory.Change{Kind: inventory.SetKill, Seats: seats, OldKill: from, Kill: to}
}

const long = 10 * time.Minute // a lease that does not end during a test

func testCreate(t *testing.T, h Harness) {
	key := inventory.Key{Performance: uuid.New(), Block: 0}
	if _, err := h.Store.Read(t.Context(), key, inventory.ReadRecent); !errors.Is(err, inventory.ErrNoBlock) {
		t.Fatalf("read of a block that does not exist: %v", err)
	}
	out, err := h.Store.Apply(t.Context(), key, inventory.NewBatch(inventory.Head{Ver: 1}, uuid.New(), hold(t, uuid.New(), long, 0)))
	if err != nil || out.Verdict != inventory.Missing {
		t.Fatalf("change of a block that does not exist: %v, %v", out.Verdict, err)
	}
	big := make([]int16, 250)
	big[249] = 4
	for i, want := range []bool{true, false, false} {
		created, err := h.Store.CreateBlock(t.Context(), key, spec(big...))
		if err != nil || created != want {
			t.Fatalf("create, time %d: %v, %v", i+1, created, err)
		}
	}
	other := spec(big...)
	other.Chart[0]++
	for name, s := range map[string]inventory.BlockSpec{"chart": other, "fewer seats": spec(0, 0)} {
		if _, err := h.Store.CreateBlock(t.Context(), key, s); !errors.Is(err, inventory.ErrConflict) {
			t.Errorf("create with another %s: %v, want a conflict", name, err)
		}
	}
	for _, mode := range []inventory.ReadMode{inventory.ReadRecent, inventory.ReadSettled} {
		b, err := h.Store.Read(t.Context(), key, mode)
		if err != nil {
			t.Fatal(err)
		}
		if b.Ver != 1 || b.Epoch != 7 || b.State != inventory.Closed || b.Chart != chartHash || len(b.Seats) != 250 {
			t.Fatalf("read mode %d: %+v with %d seats", mode, b.Head, len(b.Seats))
		}
		for n, s := range b.Seats {
			want := inventory.Seat{Seat: int16(n), Channel: big[n]}
			if s != want {
				t.Fatalf("seat %d is %+v, want %+v", n, s, want)
			}
		}
	}
	// A block that has moved on is still the same block, and a repeated creation leaves it alone.
	b := &block{t: t, store: h.Store, key: key, ver: 1}
	b.must(b.set(inventory.Open))
	b.must(b.batch(hold(t, uuid.New(), long, 5)))
	if created, err := h.Store.CreateBlock(t.Context(), key, spec(big...)); err != nil || created {
		t.Fatalf("create again after changes: %v, %v", created, err)
	}
	if after := b.read(); after.Ver != 3 || after.State != inventory.Open || after.Seats[5].Hold == uuid.Nil {
		t.Fatalf("a repeated creation changed the block: %+v", after.Head)
	}
}

// situations of a seat, each one seat of the block that testStatements prepares.
const (
	free = iota
	heldByMe
	heldByOther
	soldToMeHeldByMe
	soldToOther
	killed
	otherChannel
	missing
)

var situations = []string{"free", "held by me", "held by another", "sold to me", "sold to another", "killed", "in another channel", "missing"}

// testStatements tries every kind of change on every situation of a seat in every state of the block.
func testStatements(t *testing.T, h Harness) {
	me, other, mine, foreign := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	any := []inventory.State{0, 1, 2, 3, 4}
	for _, row := range []struct {
		name   string
		change func(seat int16) inventory.Change
		states []inventory.State // in which it is allowed
		admits []int             // situations that let it through
	}{
		{"hold", func(n int16) inventory.Change { return hold(t, uuid.New(), long, n) }, []inventory.State{1}, []int{free}},
		{"pin", func(n int16) inventory.Change { return pin(t, me, long, n) }, []inventory.State{1, 2, 3, 4}, []int{heldByMe}},
		{"release", func(n int16) inventory.Change { return release(me, n) }, any, []int{heldByMe}},
		{"sell", func(n int16) inventory.Change { return sell(me, mine, n) }, []inventory.State{1, 2, 3}, []int{heldByMe}},
		{"rescue", func(n int16) inventory.Change { return rescue(mine, n) }, []inventory.State{1, 2, 3}, []int{free, otherChannel}},
		{"unsell", func(n int16) inventory.Change { return unsell(mine, n) }, any, []int{soldToMeHeldByMe}},
		{"kill", func(n int16) inventory.Change { return setKill(0, 1, n) }, any, []int{free, otherChannel}},
		{"open", func(n int16) inventory.Change { return setKill(3, 0, n) }, any, []int{killed}},
	} {
		for _, state := range any {
			b := fresh(t, h, inventory.Open, 0, 0, 0, 0, 0, 0, 9)
			b.must(b.batch(
				hold(t, me, long, heldByMe, soldToMeHeldByMe), hold(t, other, long, heldByOther, soldToOther), setKill(0, 3, killed)))
			b.must(b.batch(sell(me, mine, soldToMeHeldByMe), sell(other, foreign, soldToOther)))
			if state != inventory.Open {
				b.must(b.set(state))
			}
			for situation, name := range situations {
				want := inventory.Refused
				if slices.Contains(row.states, state) && slices.Contains(row.admits, situation) {
					want = inventory.Applied
				}
				before := b.read()
				out := b.apply(b.batch(row.change(int16(situation))))
				if out.Verdict != want {
					t.Errorf("%s of a seat %s, block %v: %v, want %v", row.name, name, state, out.Verdict, want)
				}
				if after := b.read(); want == inventory.Refused && !sameSeats(before, after) {
					t.Errorf("%s of a seat %s, block %v: refused, but the block changed", row.name, name, state)
				}
			}
			if n := len(b.read().Seats); n != 7 {
				t.Fatalf("%s: the block has %d seats, want 7: a phantom was made", row.name, n)
			}
		}
	}
}

// sameSeats compares all but the rest of the leases.
func sameSeats(a, b inventory.Block) bool {
	return a.Head == b.Head && slices.EqualFunc(a.Seats, b.Seats, func(x, y inventory.Seat) bool {
		x.Left, y.Left = 0, 0
		return x == y
	})
}

// testEffects follows one seat through its whole life.
func testEffects(t *testing.T, h Harness) {
	b := fresh(t, h, inventory.Open, 0, 0)
	me, order := uuid.New(), uuid.New()
	for _, step := range []struct {
		name   string
		change inventory.Change
		want   inventory.Seat
	}{
		{"hold", hold(t, me, long, 1), inventory.Seat{Seat: 1, Hold: me}},
		{"pin", pin(t, me, 2*long, 1), inventory.Seat{Seat: 1, Hold: me}},
		{"release", release(me, 1), inventory.Seat{Seat: 1}},
		{"hold again", hold(t, order, long, 1), inventory.Seat{Seat: 1, Hold: order}},
		{"sell", sell(order, me, 1), inventory.Seat{Seat: 1, Hold: order, Order: me}},
		{"unsell", unsell(me, 1), inventory.Seat{Seat: 1, Hold: order, Kill: 2}},
		{"release of what was sold", release(order, 1), inventory.Seat{Seat: 1, Kill: 2}},
		{"open", setKill(2, 0, 1), inventory.Seat{Seat: 1}},
		{"rescue", rescue(me, 1), inventory.Seat{Seat: 1, Order: me}},
	} {
		b.must(b.batch(step.change))
		seat := b.read().Seats[1]
		left := seat.Left
		seat.Left = 0
		if seat != step.want {
			t.Fatalf("after %s the seat is %+v, want %+v", step.name, seat, step.want)
		}
		if step.change.Kind == inventory.Pin && (left <= long || left > 2*long) {
			t.Fatalf("after the pin %v are left of %v", left, 2*long)
		}
	}
}

func testVersions(t *testing.T, h Harness) {
	b := fresh(t, h, inventory.Open, 0, 0, 0)
	me := uuid.New()
	first := b.batch(hold(t, me, long, 0))
	b.must(first)
	stale := b.batch(hold(t, uuid.New(), long, 1))
	for _, off := range []int64{-1, 1, 1000} {
		stale.Ver = b.ver + off
		out := b.want(inventory.Stale, stale)
		if out.Head.Ver != b.ver || out.Head.Last != first.Op {
			t.Fatalf("a stale batch came back with head %+v, want version %d and op %v", out.Head, b.ver, first.Op)
		}
	}
	epoch := b.batch(hold(t, uuid.New(), long, 1))
	epoch.Epoch = 8
	if out := b.want(inventory.Refused, epoch); out.Head.Epoch != 7 {
		t.Fatalf("refused for its epoch, with head %+v", out.Head)
	}
	if s := b.read().Seats[1]; s.Hold != uuid.Nil {
		t.Fatalf("seat 1 is held: %+v", s)
	}
}

// testRefusals looks at what a refusal brings back.
func testRefusals(t *testing.T, h Harness) {
	b := fresh(t, h, inventory.Open, make([]int16, 20)...)
	me, order := uuid.New(), uuid.New()
	b.must(b.batch(hold(t, me, long, 11, 12)))
	b.must(b.batch(sell(me, order, 12)))
	// Neither in order nor complete: 25 does not exist, 3 and 10 are free.
	out := b.want(inventory.Refused, b.batch(hold(t, uuid.New(), long, 12, 10), hold(t, uuid.New(), long, 11, 25, 3)))
	if out.Head.Ver != b.ver || out.Head.State != inventory.Open {
		t.Fatalf("refused with head %+v", out.Head)
	}
	slices.SortFunc(out.Seats, func(a, b inventory.Seat) int { return int(a.Seat) - int(b.Seat) })
	want := []inventory.Seat{{Seat: 3}, {Seat: 10}, {Seat: 11, Hold: me}, {Seat: 12, Hold: me, Order: order}}
	if !slices.Equal(out.Seats, want) {
		t.Fatalf("refused with seats\n%+v, want\n%+v", out.Seats, want)
	}
	for _, n := range []int16{3, 10} {
		if s := b.read().Seats[n]; s.Hold != uuid.Nil {
			t.Fatalf("a refused batch left a hold on seat %d", n)
		}
	}
}

func testLeases(t *testing.T, h Harness) {
	b := fresh(t, h, inventory.Open, 0, 0, 0, 0)
	short, kept, sold, order := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	b.must(b.batch(hold(t, short, 2*time.Second, 0), hold(t, kept, long, 1), hold(t, sold, 2*time.Second, 2)))
	// The version travels with leases of different lengths in one batch and must outlive them all.
	b.must(b.batch(sell(sold, order, 2), pin(t, kept, long, 1)))
	read := b.read()
	if left := read.Seats[0].Left; read.Seats[0].Hold == uuid.Nil || left <= 0 || left > 2*time.Second {
		t.Fatalf("of a lease of 2 s %v are left (hold %v)", left, read.Seats[0].Hold)
	}
	h.Pass(2 * time.Second)
	read = b.read()
	if read.Ver != b.ver || read.State != inventory.Open || read.Chart != chartHash {
		t.Fatalf("after the leases the block is %+v, want version %d", read.Head, b.ver)
	}
	want := []inventory.Seat{{Seat: 0}, {Seat: 1, Hold: kept}, {Seat: 2, Order: order}, {Seat: 3}}
	for n := range read.Seats {
		read.Seats[n].Left = 0
	}
	if !slices.Equal(read.Seats, want) {
		t.Fatalf("after the leases the seats are\n%+v, want\n%+v", read.Seats, want)
	}
	b.want(inventory.Refused, b.batch(sell(short, order, 0)))
	b.want(inventory.Refused, b.batch(pin(t, short, long, 0)))
	b.want(inventory.Refused, b.batch(release(short, 0)))
	b.must(b.batch(rescue(order, 0)))
	b.must(b.batch(hold(t, uuid.New(), time.Second, 3)))
	// A pin renews: the seat is still held when the first lease would have ended.
	again := fresh(t, h, inventory.Open, 0)
	again.must(again.batch(hold(t, kept, 2*time.Second, 0)))
	again.must(again.batch(pin(t, kept, long, 0)))
	h.Pass(2 * time.Second)
	again.must(again.batch(sell(kept, order, 0)))
}

// testMerged puts everything into one batch.
func testMerged(t *testing.T, h Harness) {
	b := fresh(t, h, inventory.Open, make([]int16, 250)...)
	a, c, d, order := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	b.must(b.batch(hold(t, a, long, 0, 1), hold(t, c, long, 2, 3), hold(t, d, long, 4), setKill(0, 1, 5)))
	x := uuid.New()
	b.must(b.batch(sell(a, order, 0, 1), release(c, 2, 3), pin(t, d, 2*long, 4), setKill(1, 0, 5), hold(t, x, long, 6, 7)))
	got := b.read().Seats
	for n, want := range []inventory.Seat{{Order: order, Hold: a}, {Order: order, Hold: a}, {}, {}, {Hold: d}, {}, {Hold: x}, {Hold: x}, {}} {
		want.Seat = int16(n)
		got[n].Left = 0
		if got[n] != want {
			t.Errorf("seat %d is %+v, want %+v", n, got[n], want)
		}
	}
	// As large as allowed, and one loser refuses all of it.
	full := b.batch()
	full.States = []inventory.State{inventory.Open}
	for i := range inventory.MaxBatchChanges {
		n := int16(50 + 3*i)
		full.Changes = append(full.Changes, hold(t, uuid.New(), long, n, n+1, n+2))
	}
	loser := full
	loser.Changes = slices.Clone(full.Changes)
	loser.Changes[63] = hold(t, uuid.New(), long, 6, 240, 241)
	if out := b.want(inventory.Refused, loser); len(out.Seats) != 192 {
		t.Fatalf("a refused batch of 192 seats came back with %d", len(out.Seats))
	}
	b.must(full)
	if s := b.read().Seats[241]; s.Hold != full.Changes[63].Hold {
		t.Fatalf("seat 241 is %+v", s)
	}
}

// testLateDuplicates sends batches that were answered long ago a second time.
func testLateDuplicates(t *testing.T, h Harness) {
	b := fresh(t, h, inventory.Open, 0)
	me := uuid.New()
	b.must(b.batch(hold(t, me, long, 0)))
	duplicate := b.batch(release(me, 0))
	b.must(duplicate)
	// The same id once more on the same seat: it must not happen, and even then the duplicate frees nothing.
	b.must(b.batch(hold(t, me, long, 0)))
	b.want(inventory.Stale, duplicate)
	if s := b.read().Seats[0]; s.Hold != me {
		t.Fatalf("a late duplicate of a release freed the seat: %+v", s)
	}
	order := uuid.New()
	b.must(b.batch(sell(me, order, 0)))
	lateUnsell := b.batch(unsell(order, 0))
	b.must(lateUnsell)
	b.must(b.batch(release(me, 0)))
	b.must(b.batch(setKill(2, 0, 0)))
	b.must(b.batch(rescue(order, 0)))
	b.want(inventory.Stale, lateUnsell)
	if s := b.read().Seats[0]; s.Order != order {
		t.Fatalf("a late duplicate of an unsell took the seat back: %+v", s)
	}
}

func testFence(t *testing.T, h Harness) {
	for _, state := range []inventory.State{0, 1, 2, 3, 4} {
		b := fresh(t, h, state, 0, 0)
		late := b.batch(setKill(0, 1, 0))
		f := inventory.Fence(b.ver, 7, uuid.New())
		b.must(f)
		out := b.want(inventory.Stale, late)
		if out.Head.Last != f.Op {
			t.Fatalf("state %v: the last op is %v, want the fence's %v", state, out.Head.Last, f.Op)
		}
		b.want(inventory.Stale, f) // repeated
		if got := b.read(); got.State != state || got.Seats[0].Kill != 0 {
			t.Fatalf("a fence changed the block: %+v %+v", got.Head, got.Seats[0])
		}
		// And the other way round: what was applied shows as the last op.
		applied := b.batch(setKill(0, 1, 0))
		b.must(applied)
		out = b.want(inventory.Stale, inventory.Fence(applied.Ver, 7, uuid.New()))
		if out.Head.Last != applied.Op {
			t.Fatalf("state %v: the fence found op %v, want %v", state, out.Head.Last, applied.Op)
		}
	}
}

func testStates(t *testing.T, h Harness) {
	b := fresh(t, h, inventory.Closed, 0)
	open := b.set(inventory.Open)
	open.States = []inventory.State{inventory.Closed, inventory.Paused}
	b.must(open)
	open.Ver = b.ver
	if out := b.want(inventory.Refused, open); out.Head.State != inventory.Open || len(out.Seats) != 0 {
		t.Fatalf("refused with %+v", out)
	}
	b.must(b.set(inventory.Frozen))
	if got := b.read().State; got != inventory.Frozen {
		t.Fatalf("the state is %v, want frozen", got)
	}
}

func testNotSent(t *testing.T, h Harness) {
	b := fresh(t, h, inventory.Open, 0, 0)
	good := func() inventory.Batch { return b.batch(hold(t, uuid.New(), long, 0)) }
	for name, spoil := range map[string]func(*inventory.Batch){
		"a seat twice in one change": func(x *inventory.Batch) { x.Changes[0].Seats = []int16{1, 1} },
		"a seat in two changes":      func(x *inventory.Batch) { x.Changes = append(x.Changes, hold(t, uuid.New(), long, 0)) },
		"no lease":                   func(x *inventory.Batch) { x.Changes[0].Lease = inventory.Lease{} },
		"no hold id":                 func(x *inventory.Batch) { x.Changes[0].Hold = uuid.Nil },
		"no channels":                func(x *inventory.Batch) { x.Changes[0].Channels = nil },
		"no op":                      func(x *inventory.Batch) { x.Op = uuid.Nil },
		"no states":                  func(x *inventory.Batch) { x.States = nil },
		"a negative seat":            func(x *inventory.Batch) { x.Changes[0].Seats = []int16{-1} },
		"version 0":                  func(x *inventory.Batch) { x.Ver = 0 },
		"a sale to nobody":           func(x *inventory.Batch) { x.Changes[0] = sell(uuid.New(), uuid.Nil, 0) },
		"an unsell straight on sale": func(x *inventory.Batch) { x.Changes[0] = unsell(uuid.New(), 0); x.Changes[0].Kill = 0 },
	} {
		batch := good()
		spoil(&batch)
		out, err := h.Store.Apply(t.Context(), b.key, batch)
		if out.Verdict != inventory.NoEffect || !errors.Is(err, inventory.ErrBadRequest) {
			t.Errorf("%s: %v, %v", name, out.Verdict, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if out, err := h.Store.Apply(ctx, b.key, good()); err == nil {
		t.Errorf("with a context that has ended: %v without an error", out.Verdict)
	}
	if got := b.read(); got.Ver != b.ver {
		t.Fatalf("something was applied: %+v", got.Head)
	}
}

func testRegistry(t *testing.T, h Harness) {
	ctx := t.Context()
	document := make([]byte, 700_000)
	for i := range document {
		document[i] = byte(i * i >> 3)
	}
	hash := [32]byte(slices.Concat(uuid.NodeID(), make([]byte, 32))[:32])
	copy(hash[16:], func() []byte { u := uuid.New(); return u[:] }())
	if _, err := h.Store.Chart(ctx, hash); !errors.Is(err, inventory.ErrNoSuchPerformance) {
		t.Fatalf("a chart that is not there: %v", err)
	}
	for range 2 {
		if err := h.Store.PutChart(ctx, hash, document); err != nil {
			t.Fatal(err)
		}
		got, err := h.Store.Chart(ctx, hash)
		if err != nil || !slices.Equal(got, document) {
			t.Fatalf("the chart came back with %d bytes, %v", len(got), err)
		}
	}
	p := inventory.Performance{
		ID: uuid.New(), Chart: hash, BlockSeats: 250, Blocks: 4, Channels: map[string]int16{"Box": 2},
		ImportedAt: time.UnixMilli(1_700_000_000_123).UTC(), Settled: true,
	}
	if _, err := h.Store.Performance(ctx, p.ID); !errors.Is(err, inventory.ErrNoSuchPerformance) {
		t.Fatalf("a performance that is not there: %v", err)
	}
	stored, err := h.Store.AddPerformance(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	p.Version = 1
	equal := func(got inventory.Performance) {
		t.Helper()
		if got.Channels["Box"] != 2 || len(got.Channels) != 1 || !got.ImportedAt.Equal(p.ImportedAt) {
			t.Fatalf("stored %+v, want %+v", got, p)
		}
		got.Channels, got.ImportedAt = nil, time.Time{}
		want := p
		want.Channels, want.ImportedAt = nil, time.Time{}
		if got.ID != want.ID || got.Chart != want.Chart || got.BlockSeats != want.BlockSeats || got.Blocks != want.Blocks ||
			got.Complete != want.Complete || got.Sale != want.Sale || got.Settled != want.Settled || got.Version != want.Version {
			t.Fatalf("stored %+v, want %+v", got, want)
		}
	}
	equal(stored)
	other := p
	other.Blocks = 99
	if stored, err = h.Store.AddPerformance(ctx, other); err != nil {
		t.Fatal(err)
	}
	equal(stored)
	change := p
	change.Complete, change.Sale, change.Settled = true, inventory.Paused, false
	if err := h.Store.UpdatePerformance(ctx, change); err != nil {
		t.Fatal(err)
	}
	if err := h.Store.UpdatePerformance(ctx, change); !errors.Is(err, inventory.ErrVersion) {
		t.Fatalf("an update of an old version: %v", err)
	}
	p.Complete, p.Sale, p.Settled, p.Version = true, inventory.Paused, false, 2
	all, err := h.Store.Performances(ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(q inventory.Performance) bool { return q.ID == p.ID })
	if i < 0 {
		t.Fatal("the performance is not listed")
	}
	equal(all[i])
	unknown := p
	unknown.ID = uuid.New()
	if err := h.Store.UpdatePerformance(ctx, unknown); !errors.Is(err, inventory.ErrVersion) {
		t.Fatalf("an update of nothing: %v", err)
	}
}
