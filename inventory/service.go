package inventory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// Options of a Service. Only Store is required.
type Options struct {
	Store Store
	// Shared says that other processes may change the same seats. Their changes are then looked for at least every
	// second, and a hold that is not found is fenced off before it is called gone. With the embedded store it is false.
	Shared bool
	// Epoch of the region that owns the seats.
	Epoch int32
	// Grace is how much longer the store keeps a hold than was promised to its buyer, against clocks that differ.
	// Default 30 s; a second is added for rounding.
	Grace time.Duration
	// ShortestPromise and LongestPromise bound the leases asked for. Defaults 5 s and 30 min.
	ShortestPromise, LongestPromise time.Duration
	// ApplyTimeout is the longest one batch may take; above the store's own timeout. Default 10 s.
	ApplyTimeout time.Duration
	// ImportConcurrency is how many blocks are created at once, of all performances together. Default 2.
	ImportConcurrency int
	// Now is the clock. Default time.Now.
	Now        func() time.Time
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: a registry of its own
}

func (o *Options) fill() error {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.Grace, 30*time.Second)
	def(&o.ShortestPromise, 5*time.Second)
	def(&o.LongestPromise, 30*time.Minute)
	def(&o.ApplyTimeout, 10*time.Second)
	if o.ImportConcurrency == 0 {
		o.ImportConcurrency = 2
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	switch {
	case o.Store == nil:
		return errors.New("inventory: a store is needed")
	case o.Grace < 0 || o.ShortestPromise < time.Second || o.LongestPromise < o.ShortestPromise:
		return fmt.Errorf("inventory: grace %v, shortest promise %v and longest %v do not fit together", o.Grace, o.ShortestPromise, o.LongestPromise)
	case o.LongestPromise+o.Grace+time.Second > LongestLease:
		return fmt.Errorf("inventory: a promise of %v with a grace of %v exceeds the longest lease %v", o.LongestPromise, o.Grace, LongestLease)
	case o.ImportConcurrency < 1 || o.ApplyTimeout < 0:
		return fmt.Errorf("inventory: import concurrency %d and apply timeout %v must be positive", o.ImportConcurrency, o.ApplyTimeout)
	}
	return nil
}

// Service is the Desk of this process.
type Service struct {
	opt Options
	m   *metrics
	log *slog.Logger

	stop context.CancelFunc
	life context.Context // ends with Close
	wg   sync.WaitGroup
	ver  atomic.Int64 // last version of availability given out

	importSlots chan struct{}

	mu      sync.Mutex
	venues  map[uuid.UUID]*venue
	layouts map[layoutKey]*chart.Layout
	closed  bool
}

var _ Desk = (*Service)(nil)

type layoutKey struct {
	hash  [32]byte
	seats int
}

// venue is a performance as this process knows it.
type venue struct {
	id     uuid.UUID
	hash   [32]byte
	layout *chart.Layout

	saleMu sync.Mutex // held while an operator's wish is stored and brought to the blocks

	mu       sync.Mutex
	entry    Performance
	entryAt  time.Time
	owners   []*owner
	imported chan struct{} // closed when Complete
	running  bool          // an import of it runs here
	created  int           // blocks created or found
	failure  error         // of the last import attempt

	bestMu sync.Mutex
	best   map[uuid.UUID]int16 // the block last tried for a best-available hold

	viewMu sync.Mutex // views get their versions one after the other
}

// New starts a service and resumes imports and sale changes that were interrupted. It reads the list of performances
// first, so an unreachable store is an error at once.
func New(ctx context.Context, opt Options) (*Service, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	m, err := newMetrics(opt.Registerer)
	if err != nil {
		return nil, fmt.Errorf("inventory: register metrics: %w", err)
	}
	s := &Service{
		opt: opt, m: m, log: opt.Logger,
		importSlots: make(chan struct{}, opt.ImportConcurrency),
		venues:      map[uuid.UUID]*venue{}, layouts: map[layoutKey]*chart.Layout{},
	}
	all, err := opt.Store.Performances(ctx)
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	s.life, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, p := range all {
		if p.Complete && p.Settled {
			continue
		}
		v, err := s.open(ctx, p)
		if err != nil {
			s.log.Error("resume a performance", "performance", p.ID, "error", err)
			continue
		}
		s.resume(v)
	}
	return s, nil
}

// Close stops all owners. Batches under way are finished; what waits is answered without effect.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
}

// goes starts a goroutine that Close waits for; false after Close.
func (s *Service) goes(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
}

// venue finds a performance.
func (s *Service) venue(ctx context.Context, id uuid.UUID) (*venue, error) {
	s.mu.Lock()
	v := s.venues[id]
	s.mu.Unlock()
	if v != nil {
		return v, nil
	}
	p, err := s.opt.Store.Performance(ctx, id)
	if err != nil {
		return nil, asError(err, ErrUnavailable).with(id, 0, nil, err)
	}
	return s.open(ctx, p)
}

// open makes the venue of a stored entry.
func (s *Service) open(ctx context.Context, p Performance) (*venue, error) {
	layout, err := s.layout(ctx, p)
	if err != nil {
		return nil, err
	}
	v := &venue{
		id: p.ID, hash: p.Chart, layout: layout, entry: p, entryAt: s.opt.Now(),
		owners: make([]*owner, len(layout.Blocks)), imported: make(chan struct{}), best: map[uuid.UUID]int16{},
	}
	if p.Complete {
		v.created = len(v.owners)
		close(v.imported)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.venues[p.ID]; known != nil {
		return known, nil
	}
	s.venues[p.ID] = v
	return v, nil
}

func (s *Service) layout(ctx context.Context, p Performance) (*chart.Layout, error) {
	key := layoutKey{p.Chart, p.BlockSeats}
	s.mu.Lock()
	l := s.layouts[key]
	s.mu.Unlock()
	if l != nil {
		return l, nil
	}
	document, err := s.opt.Store.Chart(ctx, p.Chart)
	if err != nil {
		return nil, asError(err, ErrUnavailable).with(p.ID, 0, nil, err)
	}
	c, err := chart.Decode(document)
	if err != nil {
		return nil, ErrConflict.because("the stored chart is not readable").with(p.ID, 0, nil, err)
	}
	if l, err = c.Layout(p.BlockSeats); err != nil {
		return nil, ErrConflict.because("the stored chart can not be split").with(p.ID, 0, nil, err)
	}
	if len(l.Blocks) != p.Blocks {
		return nil, ErrConflict.because("the chart has %d blocks, the performance %d", len(l.Blocks), p.Blocks)
	}
	return s.keepLayout(key, l), nil
}

func (s *Service) keepLayout(key layoutKey, l *chart.Layout) *chart.Layout {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.layouts[key]; known != nil {
		return known
	}
	s.layouts[key] = l
	return l
}

// owner finds or starts the owner of a block.
func (s *Service) owner(v *venue, block int16) (*owner, error) {
	if block < 0 || int(block) >= len(v.owners) {
		return nil, ErrNoSuchSeat.because("no such block").with(v.id, block, nil, nil)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if o := v.owners[block]; o != nil {
		return o, nil
	}
	o := &owner{
		key:   Key{v.id, block},
		seats: len(v.layout.Blocks[block].Seats),
		stock: s.opt.Store,
		opt:   &s.opt, m: s.m, log: s.log,
		wake: make(chan struct{}, 1),
		best: func(free chart.Bits, want chart.Want) ([]int16, bool) {
			return v.layout.Best(int(block), free, want)
		},
	}
	if !s.goes(func() { o.run(s.life) }) {
		return nil, ErrUnavailable.because("the inventory is stopping")
	}
	v.owners[block] = o
	return o, nil
}

// find is the beginning of every change: it checks the arguments and finds the owner.
func (s *Service) find(ctx context.Context, performance uuid.UUID, block int16, seats []int16, ids ...uuid.UUID) (*owner, error) {
	if slices.Contains(ids, uuid.Nil) || performance == uuid.Nil {
		return nil, ErrBadRequest.because("an id is the zero UUID")
	}
	if len(seats) == 0 || len(seats) > MaxBatchSeats {
		return nil, ErrBadRequest.because("%d seats; 1 to %d are allowed", len(seats), MaxBatchSeats)
	}
	v, err := s.venue(ctx, performance)
	if err != nil {
		return nil, err
	}
	o, err := s.owner(v, block)
	if err != nil {
		return nil, err
	}
	seen := make(map[int16]bool, len(seats))
	var none []int16
	for _, n := range seats {
		switch {
		case n < 0 || int(n) >= o.seats:
			none = append(none, n)
		case seen[n]:
			return nil, ErrBadRequest.because("seat %d occurs twice", n)
		}
		seen[n] = true
	}
	if len(none) > 0 {
		return nil, ErrNoSuchSeat.with(performance, block, none, nil)
	}
	return o, nil
}

// lease turns a promise into the store's lease.
func (s *Service) lease(promise time.Duration) (Lease, error) {
	if promise < s.opt.ShortestPromise || promise > s.opt.LongestPromise {
		return Lease{}, ErrLeaseRefused.because("a lease of %v is not between %v and %v", promise, s.opt.ShortestPromise, s.opt.LongestPromise)
	}
	return MakeLease(promise + s.opt.Grace + time.Second)
}

// do sends one change through its owner.
func (s *Service) do(ctx context.Context, o *owner, r *request) (answer, error) {
	a := o.ask(ctx, r)
	if a.err == nil {
		return a, nil
	}
	e := asError(a.err, ErrUnavailable)
	seats := e.seats
	if e.code == ErrUnknownOutcome.code && len(seats) == 0 {
		seats = r.change.Seats
	}
	return a, e.with(o.key.Performance, o.key.Block, seats, e.cause)
}

func (s *Service) change(ctx context.Context, performance uuid.UUID, c Change, block int16, promise time.Duration, ids ...uuid.UUID) (answer, error) {
	o, err := s.find(ctx, performance, block, c.Seats, ids...)
	if err != nil {
		return answer{}, err
	}
	if promise != 0 {
		if c.Lease, err = s.lease(promise); err != nil {
			return answer{}, err
		}
	}
	r := newRequest()
	c.Seats = slices.Clone(c.Seats)
	r.change, r.promise = c, promise
	return s.do(ctx, o, r)
}

func public(channels []int16) []int16 {
	if len(channels) == 0 {
		return []int16{0}
	}
	return slices.Clone(channels)
}

// orOne keeps a zero promise from looking like "no lease wanted".
func orOne(promise time.Duration) time.Duration {
	if promise == 0 {
		return 1
	}
	return promise
}

// Hold implements Desk.
func (s *Service) Hold(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold uuid.UUID, lease time.Duration, channels []int16) (time.Time, error) {
	a, err := s.change(ctx, performance, Change{Kind: Hold, Seats: seats, Hold: hold, Channels: public(channels)}, block, orOne(lease), hold)
	return a.expires, err
}

// Extend implements Desk.
func (s *Service) Extend(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold uuid.UUID, lease time.Duration) (time.Time, error) {
	a, err := s.change(ctx, performance, Change{Kind: Pin, Seats: seats, Hold: hold}, block, orOne(lease), hold)
	return a.expires, err
}

// Pin implements Desk.
func (s *Service) Pin(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold uuid.UUID, lease time.Duration) (time.Time, error) {
	return s.Extend(ctx, performance, block, seats, hold, lease)
}

// Release implements Desk.
func (s *Service) Release(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold uuid.UUID) error {
	_, err := s.change(ctx, performance, Change{Kind: Release, Seats: seats, Hold: hold}, block, 0, hold)
	return err
}

// Sell implements Desk.
func (s *Service) Sell(ctx context.Context, performance uuid.UUID, block int16, seats []int16, hold, order uuid.UUID) error {
	_, err := s.change(ctx, performance, Change{Kind: Sell, Seats: seats, Hold: hold, Order: order}, block, 0, hold, order)
	return err
}

// Rescue implements Desk.
func (s *Service) Rescue(ctx context.Context, performance uuid.UUID, block int16, seats []int16, order uuid.UUID) error {
	_, err := s.change(ctx, performance, Change{Kind: Rescue, Seats: seats, Order: order}, block, 0, order)
	return err
}

// Unsell implements Desk.
func (s *Service) Unsell(ctx context.Context, performance uuid.UUID, block int16, seats []int16, order uuid.UUID) error {
	_, err := s.change(ctx, performance, Change{Kind: Unsell, Seats: seats, Order: order, Kill: chart.KillCooling}, block, 0, order)
	return err
}

// Kill implements Desk.
func (s *Service) Kill(ctx context.Context, performance uuid.UUID, block int16, seats []int16, reason int16) error {
	if reason <= 0 {
		return ErrBadRequest.because("a reason to be out of sale is a number above 0, not %d", reason)
	}
	_, err := s.change(ctx, performance, Change{Kind: SetKill, Seats: seats, Kill: reason}, block, 0)
	return err
}

// OpenSeats implements Desk.
func (s *Service) OpenSeats(ctx context.Context, performance uuid.UUID, block int16, seats []int16, reason int16) error {
	if reason <= 0 {
		return ErrBadRequest.because("a reason to be out of sale is a number above 0, not %d", reason)
	}
	_, err := s.change(ctx, performance, Change{Kind: SetKill, Seats: seats, OldKill: reason}, block, 0)
	return err
}

// want checks the arguments of the best-available calls.
func (s *Service) want(ctx context.Context, performance uuid.UUID, qty int, offer string, accessible bool) (*venue, chart.Want, error) {
	w := chart.Want{Qty: qty, Category: chart.AnyCategory, Accessible: accessible}
	if qty < 1 || qty > MaxBatchSeats {
		return nil, w, ErrBadRequest.because("%d seats; 1 to %d are allowed", qty, MaxBatchSeats)
	}
	v, err := s.venue(ctx, performance)
	if err != nil {
		return nil, w, err
	}
	if offer != "" {
		if w.Category = v.layout.Chart.CategoryIndex(offer); w.Category < 0 {
			return nil, w, ErrBadRequest.because("the chart has no category %q", offer)
		}
	}
	return v, w, nil
}

// everyBlock offers a request to one block after the other until one has seats. What memory shows is enough to pass over
// a block that is full.
func (s *Service) everyBlock(ctx context.Context, v *venue, w chart.Want, hold uuid.UUID, make func() *request) (int16, answer, error) {
	if b, again := v.triedBest(hold); again { // a repeated call: its seats are in that block, or nowhere
		o, err := s.owner(v, b)
		if err != nil {
			return 0, answer{}, err
		}
		if a, err := s.do(ctx, o, make()); !errors.Is(err, ErrNoSeatsLeft) {
			return b, a, err
		}
	}
	full := chart.NewBits(chart.MaxBlockSeats)
	for i := range full {
		full[i] = 0xff
	}
	var shut error // why a block took no holds
	open := false
	for b := range v.layout.Blocks {
		if _, ok := v.layout.Best(b, full, w); !ok {
			continue // not even when it is empty
		}
		o, err := s.owner(v, int16(b))
		if err != nil {
			return 0, answer{}, err
		}
		if seen := o.published.Load(); seen != nil && seen.head.State == Open && seen.sellable == 0 && s.opt.Now().Sub(seen.at) < viewAge {
			open = true
			continue
		}
		v.tryBest(hold, int16(b))
		a, err := s.do(ctx, o, make())
		switch {
		case err == nil:
			return int16(b), a, nil
		case errors.Is(err, ErrNoSeatsLeft):
			open = true
		case errors.Is(err, ErrSaleNotOpen), errors.Is(err, ErrBlockFrozen):
			shut = err
		default:
			return int16(b), a, err
		}
	}
	if shut != nil && !open {
		return 0, answer{}, shut
	}
	return 0, answer{}, ErrNoSeatsLeft.with(v.id, 0, nil, nil)
}

// mostTriedBest bounds what is remembered of best-available holds; it is enough for many times as many as can be under
// way.
const mostTriedBest = 100_000

func (v *venue) tryBest(hold uuid.UUID, block int16) {
	v.bestMu.Lock()
	defer v.bestMu.Unlock()
	if len(v.best) >= mostTriedBest {
		clear(v.best)
	}
	if hold != uuid.Nil {
		v.best[hold] = block
	}
}

func (v *venue) triedBest(hold uuid.UUID) (int16, bool) {
	v.bestMu.Lock()
	defer v.bestMu.Unlock()
	b, ok := v.best[hold]
	return b, ok
}

// HoldBest implements Desk.
func (s *Service) HoldBest(ctx context.Context, performance uuid.UUID, qty int, offer string, accessible bool, hold uuid.UUID, promise time.Duration, channels []int16) (int16, []int16, time.Time, error) {
	if hold == uuid.Nil {
		return 0, nil, time.Time{}, ErrBadRequest.because("an id is the zero UUID")
	}
	lease, err := s.lease(promise)
	if err != nil {
		return 0, nil, time.Time{}, err
	}
	v, w, err := s.want(ctx, performance, qty, offer, accessible)
	if err != nil {
		return 0, nil, time.Time{}, err
	}
	block, a, err := s.everyBlock(ctx, v, w, hold, func() *request {
		r := newRequest()
		r.want, r.promise = &w, promise
		r.change = Change{Kind: Hold, Hold: hold, Lease: lease, Channels: public(channels)}
		return r
	})
	return block, a.seats, a.expires, err
}

// SuggestBest implements Desk.
func (s *Service) SuggestBest(ctx context.Context, performance uuid.UUID, qty int, offer string, accessible bool, channels []int16) (int16, []int16, error) {
	v, w, err := s.want(ctx, performance, qty, offer, accessible)
	if err != nil {
		return 0, nil, err
	}
	block, a, err := s.everyBlock(ctx, v, w, uuid.Nil, func() *request {
		r := newRequest()
		r.want, r.suggest = &w, true
		r.change.Channels = public(channels)
		return r
	})
	return block, a.seats, err
}

func (s *Service) lookAt(ctx context.Context, performance uuid.UUID, block int16, l look) (Block, error) {
	v, err := s.venue(ctx, performance)
	if err != nil {
		return Block{}, err
	}
	o, err := s.owner(v, block)
	if err != nil {
		return Block{}, err
	}
	r := newRequest()
	r.look = &l
	a, err := s.do(ctx, o, r)
	return a.block, err
}

// LookHold implements Desk.
func (s *Service) LookHold(ctx context.Context, performance uuid.UUID, block int16, hold uuid.UUID) ([]int16, time.Duration, error) {
	if hold == uuid.Nil {
		return nil, 0, ErrBadRequest.because("an id is the zero UUID")
	}
	var seats []int16
	var left time.Duration
	_, err := s.lookAt(ctx, performance, block, look{id: hold, enough: func(b Block) bool {
		seats, left = nil, 0
		for _, seat := range b.Seats {
			if seat.Hold == hold && seat.Order == uuid.Nil {
				if seats = append(seats, seat.Seat); left == 0 || seat.Left < left {
					left = seat.Left
				}
			}
		}
		return len(seats) > 0
	}})
	if err != nil {
		return nil, 0, err
	}
	return seats, left, nil
}

// LookOrder implements Desk.
func (s *Service) LookOrder(ctx context.Context, performance uuid.UUID, block int16, order uuid.UUID) ([]int16, error) {
	if order == uuid.Nil {
		return nil, ErrBadRequest.because("an id is the zero UUID")
	}
	var seats []int16
	_, err := s.lookAt(ctx, performance, block, look{id: order, enough: func(b Block) bool {
		seats = nil
		for _, seat := range b.Seats {
			if seat.Order == order {
				seats = append(seats, seat.Seat)
			}
		}
		return len(seats) > 0
	}})
	if err != nil {
		return nil, err
	}
	return seats, nil
}

// Sold implements Desk.
func (s *Service) Sold(ctx context.Context, performance uuid.UUID, block int16) ([]int16, []uuid.UUID, error) {
	b, err := s.lookAt(ctx, performance, block, look{mode: ReadSettled})
	if err != nil {
		return nil, nil, err
	}
	var seats []int16
	var orders []uuid.UUID
	for _, seat := range b.Seats {
		if seat.Order != uuid.Nil {
			seats, orders = append(seats, seat.Seat), append(orders, seat.Order)
		}
	}
	return seats, orders, nil
}

func hashOf(document []byte) [32]byte { return sha256.Sum256(document) }

func hexOf(hash [32]byte) string { return hex.EncodeToString(hash[:]) }

// Performances implements Desk.
func (s *Service) Performances(ctx context.Context) ([]uuid.UUID, error) {
	all, err := s.opt.Store.Performances(ctx)
	if err != nil {
		return nil, asError(err, ErrUnavailable)
	}
	ids := make([]uuid.UUID, len(all))
	for i, p := range all {
		ids[i] = p.ID
	}
	return ids, nil
}

// Chart implements Desk.
func (s *Service) Chart(ctx context.Context, performance uuid.UUID) ([]byte, string, int, error) {
	v, err := s.venue(ctx, performance)
	if err != nil {
		return nil, "", 0, err
	}
	document, err := s.opt.Store.Chart(ctx, v.hash)
	if err != nil {
		return nil, "", 0, asError(err, ErrUnavailable)
	}
	return document, hexOf(v.hash), v.layout.BlockSeats, nil
}
