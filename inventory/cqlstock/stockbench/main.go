// Command stockbench measures the inventory on a real CQL server against the obvious way of doing it, one lightweight
// transaction per seat, in the same run. Only ratios count: absolute numbers belong to the machine.
//
//	go run ./inventory/cqlstock/stockbench -address 127.0.0.11:19242 -dc dc1
//
// It prints every measurement and each goal with what was reached, and exits with 1 when a goal was missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gocql/gocql"
	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory"
	"github.com/stanchion-queue/stanchion/inventory/chart"
	"github.com/stanchion-queue/stanchion/inventory/cqlstock"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "stockbench:", err)
		os.Exit(1)
	}
}

const (
	blockSeats = 250
	rowSeats   = 25
	leaseTime  = 10 * time.Minute
)

type bench struct {
	out     io.Writer
	raw     *gocql.Session
	store   *counting
	clients int
	length  time.Duration
	rounds  int
	missed  int
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("stockbench", flag.ContinueOnError)
	address := flags.String("address", os.Getenv("STANCHION_TEST_CASSANDRA"), "host:port of a node, or several with commas")
	dc := flags.String("dc", os.Getenv("STANCHION_TEST_CASSANDRA_DC"), "local data centre")
	length := flags.Duration("length", 2500*time.Millisecond, "of one measurement")
	rounds := flags.Int("rounds", 3, "measurements of each kind; the median counts")
	clients := flags.Int("clients", 256, "concurrent buyers")
	expired := flags.Int("expired", 5000, "holds that expire before the read is measured; 0 leaves that out")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *address == "" || *dc == "" {
		return errors.New("name a server with -address and -dc")
	}
	opt := cqlstock.Options{
		Addresses: strings.Split(*address, ","), Datacenter: *dc, Timeout: 20 * time.Second,
		Keyspace: "stock_bench_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:12],
	}
	if err := cqlstock.CreateSchema(ctx, opt, cqlstock.Schema{Replicas: map[string]int{*dc: 1}}); err != nil {
		return err
	}
	store, err := cqlstock.Open(opt)
	if err != nil {
		return err
	}
	defer store.Close()
	c := gocql.NewCluster(opt.Addresses...)
	c.Keyspace, c.Timeout, c.Consistency, c.SerialConsistency = opt.Keyspace, opt.Timeout, gocql.LocalQuorum, gocql.LocalSerial
	c.DefaultTimestamp = false
	raw, err := c.CreateSession()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer raw.Close()
	defer func() {
		if err := raw.Query("DROP KEYSPACE " + opt.Keyspace).Exec(); err != nil {
			fmt.Fprintln(out, "could not drop the keyspace:", err)
		}
	}()
	b := &bench{out: out, raw: raw, store: &counting{Store: store}, clients: *clients, length: *length, rounds: *rounds}
	if err := errors.Join(b.throughput(ctx), b.herd(ctx), b.overlaps(ctx)); err != nil {
		return err
	}
	if *expired > 0 {
		if err := b.afterExpiry(ctx, *expired); err != nil {
			return err
		}
	}
	if b.missed > 0 {
		return fmt.Errorf("%d goals missed", b.missed)
	}
	return nil
}

// counting counts batches.
type counting struct {
	inventory.Store
	batches atomic.Int64
}

func (c *counting) Apply(ctx context.Context, key inventory.Key, b inventory.Batch) (inventory.Outcome, error) {
	c.batches.Add(1)
	return c.Store.Apply(ctx, key, b)
}

func (b *bench) goal(met bool, format string, args ...any) {
	word := "met   "
	if !met {
		word = "MISSED"
		b.missed++
	}
	fmt.Fprintf(b.out, "%s  %s\n", word, fmt.Sprintf(format, args...))
}

// house is a performance of some blocks on sale, with what the ways without an owner need: one change at a time a block.
type house struct {
	performance uuid.UUID
	service     *inventory.Service
	locks       []sync.Mutex
	vers        []int64
}

func plan(blocks int) ([]byte, error) {
	c := chart.Chart{Name: "Bench", Categories: []chart.Category{{Name: "all"}}}
	for s := range blocks {
		section := chart.Section{ID: fmt.Sprint(s), Name: fmt.Sprint(s)}
		for r := range blockSeats / rowSeats {
			row := chart.Row{Label: fmt.Sprint(r)}
			for n := range rowSeats {
				label := fmt.Sprint(n)
				row.Seats = append(row.Seats, chart.Seat{
					ID: chart.DefaultSeatID(section.ID, row.Label, label), Label: label, X: float64(n), Y: float64(r),
				})
			}
			section.Rows = append(section.Rows, row)
		}
		c.Sections = append(c.Sections, section)
	}
	return c.Encode()
}

func (b *bench) open(ctx context.Context, blocks int) (*house, error) {
	document, err := plan(blocks)
	if err != nil {
		return nil, err
	}
	s, err := inventory.New(ctx, inventory.Options{Store: b.store, Shared: true, ApplyTimeout: 30 * time.Second})
	if err != nil {
		return nil, err
	}
	h := &house{performance: uuid.New(), service: s, locks: make([]sync.Mutex, blocks), vers: make([]int64, blocks)}
	for _, step := range []func() error{
		func() error { return s.ImportPerformance(ctx, h.performance, document, blockSeats, nil) },
		func() error { return s.AwaitImport(ctx, h.performance) },
		func() error { return s.OpenSale(ctx, h.performance) },
	} {
		if err := step(); err != nil {
			s.Close()
			return nil, err
		}
	}
	for i := range h.vers {
		read, err := b.store.Read(ctx, h.key(i), inventory.ReadSettled)
		if err != nil {
			s.Close()
			return nil, err
		}
		h.vers[i] = read.Ver
	}
	return h, nil
}

func (h *house) key(block int) inventory.Key {
	return inventory.Key{Performance: h.performance, Block: int16(block)}
}

// A way holds some seats and gives them back; ok is false when they were taken.
type way func(ctx context.Context, h *house, block int, seats []int16) (ok bool, err error)

const (
	naiveHold    = `UPDATE seat USING TTL ? SET hold_id = ? WHERE performance_id = ? AND block = ? AND seat = ? IF hold_id = null AND order_id = ? AND kill = 0`
	naiveRelease = `UPDATE seat SET hold_id = null WHERE performance_id = ? AND block = ? AND seat = ? IF hold_id = ?`
)

// naive is one conditional statement for each seat, undone at the first refusal.
func (b *bench) naive(ctx context.Context, h *house, block int, seats []int16) (bool, error) {
	id := gocql.UUID(uuid.New())
	p := gocql.UUID(h.performance)
	one := func(statement string, args ...any) (bool, error) {
		h.locks[block].Lock()
		defer h.locks[block].Unlock()
		return b.raw.Query(statement, args...).WithContext(ctx).MapScanCAS(map[string]any{})
	}
	got := 0
	for _, n := range seats {
		ok, err := one(naiveHold, int(leaseTime.Seconds()), id, p, block, n, gocql.UUID{})
		if err != nil {
			return false, err
		}
		if !ok {
			break
		}
		got++
	}
	for _, n := range seats[:got] {
		if _, err := one(naiveRelease, p, block, n, id); err != nil {
			return false, err
		}
	}
	return got == len(seats), nil
}

// unversioned is one conditional batch for each hold, without the block's version.
func (b *bench) unversioned(ctx context.Context, h *house, block int, seats []int16) (bool, error) {
	id := gocql.UUID(uuid.New())
	p := gocql.UUID(h.performance)
	one := func(add func(batch *gocql.Batch, n int16)) (bool, error) {
		batch := b.raw.NewBatch(gocql.UnloggedBatch).WithContext(ctx)
		for _, n := range seats {
			add(batch, n)
		}
		h.locks[block].Lock()
		defer h.locks[block].Unlock()
		ok, iter, err := b.raw.MapExecuteBatchCAS(batch, map[string]any{})
		if err != nil {
			return false, err
		}
		return ok, iter.Close()
	}
	ok, err := one(func(batch *gocql.Batch, n int16) {
		batch.Query(naiveHold, int(leaseTime.Seconds()), id, p, block, n, gocql.UUID{})
	})
	if err != nil || !ok {
		return false, err
	}
	_, err = one(func(batch *gocql.Batch, n int16) { batch.Query(naiveRelease, p, block, n, id) })
	return true, err
}

// single is our batch, one for each hold.
func (b *bench) single(ctx context.Context, h *house, block int, seats []int16) (bool, error) {
	lease, err := inventory.MakeLease(leaseTime)
	if err != nil {
		return false, err
	}
	id := uuid.New()
	one := func(c inventory.Change) (inventory.Verdict, error) {
		h.locks[block].Lock()
		defer h.locks[block].Unlock()
		out, err := b.store.Apply(ctx, h.key(block), inventory.NewBatch(inventory.Head{Ver: h.vers[block]}, uuid.New(), c))
		if out.Verdict == inventory.Applied {
			h.vers[block]++
		}
		return out.Verdict, err
	}
	verdict, err := one(inventory.Change{Kind: inventory.Hold, Seats: seats, Hold: id, Lease: lease, Channels: []int16{0}})
	if err != nil || verdict != inventory.Applied {
		return false, err
	}
	if verdict, err = one(inventory.Change{Kind: inventory.Release, Seats: seats, Hold: id}); verdict != inventory.Applied {
		return false, fmt.Errorf("a release was %v: %w", verdict, err)
	}
	return true, nil
}

// merged goes through the blocks' owners.
func (b *bench) merged(ctx context.Context, h *house, block int, seats []int16) (bool, error) {
	id := uuid.New()
	_, err := h.service.Hold(ctx, h.performance, int16(block), seats, id, leaseTime, nil)
	if errors.Is(err, inventory.ErrSeatsTaken) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, h.service.Release(ctx, h.performance, int16(block), seats, id)
}

type result struct {
	perSecond float64
	p50, p99  time.Duration
}

// measure lets clients hold 2 to 4 seats side by side and give them back, as fast as they can.
func (b *bench) measure(ctx context.Context, name string, f way, blocks, clients, round int) (result, error) {
	h, err := b.open(ctx, blocks)
	if err != nil {
		return result{}, err
	}
	defer h.service.Close()
	var mu sync.Mutex
	var took []time.Duration
	var failure error
	var wg sync.WaitGroup
	begin := time.Now()
	end := begin.Add(b.length)
	for i := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), uint64(round)))
			var mine []time.Duration
			for time.Now().Before(end) && ctx.Err() == nil {
				qty := 2 + rng.IntN(3)
				first := int16(rng.IntN(blockSeats/rowSeats)*rowSeats + rng.IntN(rowSeats-qty+1))
				seats := []int16{first, first + 1, first + 2, first + 3}[:qty]
				at := time.Now()
				ok, err := f(ctx, h, rng.IntN(blocks), seats)
				if err != nil {
					mu.Lock()
					failure = errors.Join(failure, err)
					mu.Unlock()
					return
				}
				if ok {
					mine = append(mine, time.Since(at)/2) // a hold and a release
				}
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if failure != nil {
		return result{}, fmt.Errorf("%s on %d blocks: %w", name, blocks, failure)
	}
	if len(took) == 0 {
		return result{}, fmt.Errorf("%s on %d blocks: nothing was held", name, blocks)
	}
	slices.Sort(took)
	return result{float64(len(took)) / time.Since(begin).Seconds(), took[len(took)/2], took[len(took)*99/100]}, nil
}

// compare measures several ways in turn, round by round, so that a ratio is always between neighbours in time. It gives
// for each way the median over the rounds of its throughput and of its p99, both relative to the first way.
func (b *bench) compare(ctx context.Context, blocks, clients int, names ...string) (throughput, tail map[string]float64, err error) {
	ways := map[string]way{"naive": b.naive, "unversioned": b.unversioned, "single": b.single, "merged": b.merged}
	fast, slow := map[string][]float64{}, map[string][]float64{}
	for round := range b.rounds {
		var base result
		for i, name := range names {
			r, err := b.measure(ctx, name, ways[name], blocks, clients, round)
			if err != nil {
				return nil, nil, err
			}
			fmt.Fprintf(b.out, "        %-12s %3d blocks %4d clients  %8.0f holds/s  p50 %9v  p99 %9v\n",
				name, blocks, clients, r.perSecond, r.p50.Round(10*time.Microsecond), r.p99.Round(10*time.Microsecond))
			if i == 0 {
				base = r
			}
			fast[name] = append(fast[name], r.perSecond/base.perSecond)
			slow[name] = append(slow[name], float64(r.p99)/float64(base.p99))
		}
	}
	throughput, tail = map[string]float64{}, map[string]float64{}
	for _, name := range names {
		slices.Sort(fast[name])
		slices.Sort(slow[name])
		throughput[name], tail[name] = fast[name][b.rounds/2], slow[name][b.rounds/2]
	}
	return throughput, tail, nil
}

func (b *bench) throughput(ctx context.Context) error {
	for _, blocks := range []int{10, 100} {
		x, _, err := b.compare(ctx, blocks, 64, "naive", "single")
		if err != nil {
			return err
		}
		b.goal(x["single"] >= 1.8, "one batch a hold on %d blocks: %.1f times naive (goal 1.8)", blocks, x["single"])
		if x, _, err = b.compare(ctx, blocks, 64, "unversioned", "single"); err != nil {
			return err
		}
		b.goal(x["single"] >= 0.9, "the version condition on %d blocks leaves %.2f of the throughput (goal 0.90)", blocks, x["single"])
	}
	for _, g := range []struct {
		blocks int
		want   float64
	}{{1, 30}, {10, 8}, {100, 2}} {
		x, tail, err := b.compare(ctx, g.blocks, b.clients, "naive", "merged")
		if err != nil {
			return err
		}
		b.goal(x["merged"] >= g.want, "merged on %d blocks: %.1f times naive (goal %.0f)", g.blocks, x["merged"], g.want)
		if g.blocks <= 10 {
			b.goal(tail["merged"] <= 0.2, "p99 of a merged hold on %d blocks: 1/%.0f of naive (goal 1/5)", g.blocks, 1/tail["merged"])
		}
	}
	return nil
}

func p99(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)*99/100]
}

// herd lets ten thousand buyers ask for one seat at once.
func (b *bench) herd(ctx context.Context) error {
	h, err := b.open(ctx, 1)
	if err != nil {
		return err
	}
	defer h.service.Close()
	// The sale has been open for a moment: the owner knows its block.
	if _, _, _, err := h.service.Counts(ctx, h.performance); err != nil {
		return err
	}
	const buyers = 10_000
	before := b.store.batches.Load()
	var mu sync.Mutex
	var refused []time.Duration
	winners := 0
	var failure error
	var wg sync.WaitGroup
	for range buyers {
		wg.Go(func() {
			at := time.Now()
			_, err := h.service.Hold(ctx, h.performance, 0, []int16{60}, uuid.New(), leaseTime, nil)
			took := time.Since(at)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				winners++
			case errors.Is(err, inventory.ErrSeatsTaken):
				refused = append(refused, took)
			default:
				failure = errors.Join(failure, err)
			}
		})
	}
	wg.Wait()
	if failure != nil {
		return failure
	}
	batches := b.store.batches.Load() - before
	b.goal(winners == 1 && len(refused) == buyers-1, "%d buyers of one seat: %d winner, %d refused", buyers, winners, len(refused))
	b.goal(batches <= 5, "the herd cost %d batches (goal 5)", batches)
	slow := p99(refused)
	b.goal(slow <= 100*time.Millisecond, "p99 of a refusal: %v (goal 100 ms)", slow.Round(100*time.Microsecond))
	return nil
}

// overlaps makes ten thousand holds whose seats overlap, and looks whether every yes owns its seats.
func (b *bench) overlaps(ctx context.Context) error {
	h, err := b.open(ctx, 1)
	if err != nil {
		return err
	}
	defer h.service.Close()
	before := b.store.batches.Load()
	var yes, no, wrong atomic.Int64
	var owner [blockSeats]atomic.Pointer[uuid.UUID]
	var mu sync.Mutex
	var failure error
	var wg sync.WaitGroup
	limit := make(chan struct{}, b.clients)
	for i := range 10_000 {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			first := int16(i * 7 % (blockSeats - 2))
			seats := []int16{first, first + 1, first + 2}
			id := uuid.New()
			_, err := h.service.Hold(ctx, h.performance, 0, seats, id, leaseTime, nil)
			if errors.Is(err, inventory.ErrSeatsTaken) {
				no.Add(1)
				return
			}
			if err == nil {
				yes.Add(1)
				for _, n := range seats {
					if !owner[n].CompareAndSwap(nil, &id) {
						wrong.Add(1)
					}
				}
				for _, n := range seats {
					owner[n].CompareAndSwap(&id, nil)
				}
				err = h.service.Release(ctx, h.performance, 0, seats, id)
			}
			if err != nil {
				mu.Lock()
				failure = errors.Join(failure, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if failure != nil {
		return failure
	}
	b.goal(wrong.Load() == 0 && yes.Load() > 0 && no.Load() > 0, "10000 overlapping holds in %d batches: %d granted, %d refused, %d seats granted twice",
		b.store.batches.Load()-before, yes.Load(), no.Load(), wrong.Load())
	return nil
}

// afterExpiry reads a whole block before and after many holds have run out in it.
func (b *bench) afterExpiry(ctx context.Context, holds int) error {
	h, err := b.open(ctx, 1)
	if err != nil {
		return err
	}
	defer h.service.Close()
	read := func() (time.Duration, error) {
		var took []time.Duration
		for range 200 {
			at := time.Now()
			if _, err := b.store.Read(ctx, h.key(0), inventory.ReadRecent); err != nil {
				return 0, err
			}
			took = append(took, time.Since(at))
		}
		slices.Sort(took)
		return took[len(took)/2], nil
	}
	fresh, err := read()
	if err != nil {
		return err
	}
	lease, err := inventory.MakeLease(time.Second)
	if err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for done := 0; done < holds; {
		head := inventory.Head{Ver: h.vers[0]}
		var changes []inventory.Change
		for n := int16(0); n+3 <= blockSeats && len(changes) < inventory.MaxBatchChanges; n += 3 {
			changes = append(changes, inventory.Change{Kind: inventory.Hold, Seats: []int16{n, n + 1, n + 2}, Hold: uuid.New(), Lease: lease, Channels: []int16{0}})
		}
		out, err := b.store.Apply(ctx, h.key(0), inventory.NewBatch(head, uuid.New(), changes...))
		if err != nil {
			return err
		}
		if out.Verdict == inventory.Applied {
			h.vers[0]++
			done += len(changes)
			continue
		}
		select { // the last leases still live
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	after, err := read()
	if err != nil {
		return err
	}
	x := float64(after) / float64(fresh)
	b.goal(x <= 2.5, "a block read after %d expired holds takes %.1f times as long as fresh (goal 2.5)", holds, x)
	return nil
}
