package inventory

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// owner is the goroutine that speaks to the store for one block. It keeps at most one batch under way. Two owners of a
// block, in two processes, waste work and are not wrong: the version refuses the batch of one of them.
type owner struct {
	key   Key
	seats int // in the chart
	stock Stock
	best  chooser
	opt   *Options
	m     *metrics
	log   *slog.Logger

	wake chan struct{} // capacity 1

	mu      sync.Mutex
	waiting []*request
	closed  bool

	// memory is written by the goroutine alone, under memMu, and read by others under it.
	memMu  sync.RWMutex
	memory memory

	refusals  int                // merged batches refused in a row
	singly    map[*request]bool  // what is now sent one by one, after two refusals
	absent    map[uuid.UUID]bool // ids not found, and fenced off: they need no second fence
	suggested []time.Time        // by seat: not suggested to others until then
	pubMu     sync.Mutex
	published atomic.Pointer[view]
}

// view is what an owner shows of its block, at most once a second.
type view struct {
	at                   time.Time
	ver                  int64
	head                 Head
	free                 chart.Bits
	seats                int
	sellable, held, sold int
}

const (
	mostWaiting = 20_000 // requests of one block; a herd of 10,000 must fit
	mostAbsent  = 10_000 // ids remembered as absent
	mostTries   = 20     // batches a request may be part of without effect
	viewAge     = time.Second
	suggestFor  = time.Second
)

// submit queues a request. False when the owner has stopped or too much waits.
func (o *owner) submit(r *request) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || len(o.waiting) >= mostWaiting {
		return false
	}
	o.waiting = append(o.waiting, r)
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return true
}

// ask queues a request and waits for its answer.
func (o *owner) ask(ctx context.Context, r *request) answer {
	if !o.submit(r) {
		return answer{err: ErrUnavailable.because("too much waits for this block")}
	}
	return r.wait(ctx)
}

// run serves until ctx ends. What waits then is answered without effect.
func (o *owner) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			o.mu.Lock()
			o.closed = true
			rest := o.waiting
			o.waiting = nil
			o.mu.Unlock()
			for _, r := range rest {
				r.answer(answer{err: ErrUnavailable.because("the inventory is stopping")})
			}
			return
		case <-o.wake:
		}
		for ctx.Err() == nil && o.step(ctx) {
		}
	}
}

// take takes all that waits.
func (o *owner) take() []*request {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := o.waiting
	o.waiting = nil
	return all
}

// putBack puts requests in front of what has come meanwhile.
func (o *owner) putBack(rest []*request) {
	if len(rest) == 0 {
		return
	}
	o.mu.Lock()
	o.waiting = append(rest, o.waiting...)
	o.mu.Unlock()
}

// step serves what waits as far as one batch goes. False when nothing waits.
func (o *owner) step(ctx context.Context) bool {
	all := o.take()
	if len(all) == 0 {
		return false
	}
	o.m.waiting.Observe(float64(len(all)))
	if err := o.refresh(ctx, all); err != nil {
		for _, r := range all {
			r.answer(answer{err: err})
		}
		return true
	}
	all = o.looks(ctx, all)
	all = o.suggestions(all)
	limit := MaxBatchChanges
	if len(o.singly) > 0 {
		limit = 1
	}
	p := o.memory.plan(all, limit, o.best, o.opt.Now())
	o.m.remembered.Add(float64(len(all) - len(p.rest) - len(p.riders)))
	o.putBack(p.rest)
	if len(p.riders) > 0 {
		o.send(ctx, p)
	}
	return true
}

// refresh makes memory fit to answer these requests.
func (o *owner) refresh(ctx context.Context, all []*request) error {
	now := o.opt.Now()
	old := o.memory.sureAt.IsZero() || o.opt.Shared && now.Sub(o.memory.sureAt) >= viewAge
	if !old && !o.memory.doubtful(onlyChanges(all), now) {
		return nil
	}
	return o.reread(ctx, ReadRecent)
}

// onlyChanges leaves out what plan does not see.
func onlyChanges(all []*request) []*request {
	var c []*request
	for _, r := range all {
		if r.look == nil && !r.suggest {
			c = append(c, r)
		}
	}
	return c
}

func (o *owner) reread(ctx context.Context, mode ReadMode) error {
	o.m.reads.Inc()
	b, err := o.stock.Read(ctx, o.key, mode)
	switch {
	case errors.Is(err, ErrNoBlock):
		return ErrSaleNotOpen.because("the seats are still being created")
	case err != nil:
		return ErrUnavailable.with(o.key.Performance, o.key.Block, nil, err)
	}
	return o.learn(b)
}

func (o *owner) learn(b Block) error {
	if len(b.Seats) != o.seats || b.Seats[o.seats-1].Seat != int16(o.seats-1) {
		return ErrConflict.because("the store has %d seats in block %v, the chart %d", len(b.Seats), o.key, o.seats)
	}
	o.memMu.Lock()
	defer o.memMu.Unlock()
	o.memory.learn(b, o.opt.Now())
	return nil
}

// looks answers the requests for a look, and returns the others.
func (o *owner) looks(ctx context.Context, all []*request) []*request {
	var rest []*request
	for _, r := range all {
		if r.look == nil {
			rest = append(rest, r)
			continue
		}
		b, err := o.look(ctx, r.look)
		r.answer(answer{block: b, err: err})
	}
	return rest
}

func (o *owner) look(ctx context.Context, l *look) (Block, error) {
	o.m.reads.Inc()
	for range mostTries {
		b, err := o.stock.Read(ctx, o.key, l.mode)
		if errors.Is(err, ErrNoBlock) {
			return Block{}, ErrSaleNotOpen.because("the seats are still being created")
		}
		if err != nil {
			return Block{}, ErrUnavailable.with(o.key.Performance, o.key.Block, nil, err)
		}
		if err := o.learn(b); err != nil {
			return Block{}, err
		}
		if l.enough == nil || l.enough(b) || !o.opt.Shared || o.absent[l.id] {
			return b, nil
		}
		// Not there; but another process, or this one before it was restarted, may have sent a batch that is still on its
		// way. After a fence no batch made from this or an earlier version can be applied.
		out, err := o.fence(ctx, b.Head)
		if err != nil {
			return Block{}, err
		}
		if out.Verdict == Applied {
			if o.absent == nil || len(o.absent) >= mostAbsent {
				o.absent = map[uuid.UUID]bool{}
			}
			o.absent[l.id] = true
			b.Ver, b.Last = out.Head.Ver, out.Head.Last
			return b, o.learn(b)
		}
	}
	return Block{}, ErrUnavailable.because("the block keeps changing")
}

// fence sends a fence until its outcome is known.
func (o *owner) fence(ctx context.Context, head Head) (Outcome, error) {
	op := newOp()
	for attempt := 0; ; attempt++ {
		o.m.fences.Inc()
		out, err := o.apply(ctx, Fence(head.Ver, head.Epoch, op))
		switch out.Verdict {
		case Unknown, NoEffect:
			o.log.Warn("fence a block", "block", o.key, "attempt", attempt+1, "error", err)
			if pause(ctx, attempt) != nil {
				return Outcome{}, ErrUnavailable.with(o.key.Performance, o.key.Block, nil, ctx.Err())
			}
		case Stale:
			if out.Head.Last == op {
				out.Verdict = Applied // by an earlier attempt
			}
			return out, nil
		default:
			return out, nil
		}
	}
}

func newOp() uuid.UUID { return uuid.Must(uuid.NewRandom()) }

// pause waits a little, longer with each attempt, at most a second.
func pause(ctx context.Context, attempt int) error {
	d := min(time.Second, 5*time.Millisecond<<min(attempt, 8))
	t := time.NewTimer(d/2 + rand.N(d/2))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// suggestions answers the requests for a suggestion, and returns the others.
func (o *owner) suggestions(all []*request) []*request {
	var rest []*request
	for _, r := range all {
		if !r.suggest {
			rest = append(rest, r)
			continue
		}
		now := o.opt.Now()
		if len(o.suggested) != len(o.memory.seats) {
			o.suggested = make([]time.Time, len(o.memory.seats))
		}
		inUse := make([]bool, len(o.suggested))
		for n, until := range o.suggested {
			inUse[n] = until.After(now)
		}
		if o.memory.head.State != Open {
			r.answer(answer{err: notOpen(o.memory.head.State)})
			continue
		}
		seats, ok := o.best(o.memory.free(r.change.Channels, inUse, now), *r.want)
		if !ok { // rather the same seats twice than none
			seats, ok = o.best(o.memory.free(r.change.Channels, nil, now), *r.want)
		}
		if !ok {
			r.answer(answer{err: ErrNoSeatsLeft})
			continue
		}
		for _, n := range seats {
			o.suggested[n] = now.Add(suggestFor)
		}
		r.answer(answer{seats: seats})
	}
	return rest
}

func notOpen(s State) *Error {
	if s == Frozen {
		return ErrBlockFrozen
	}
	return ErrSaleNotOpen.because("the sale is %v", s)
}

// apply sends one batch. It is not cut short when the inventory stops: half a second more is better than an unknown.
func (o *owner) apply(ctx context.Context, b Batch) (Outcome, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.opt.ApplyTimeout)
	defer cancel()
	start := time.Now()
	out, err := o.stock.Apply(ctx, o.key, b)
	o.m.applySeconds.Observe(time.Since(start).Seconds())
	o.m.batches.WithLabelValues(out.Verdict.String()).Inc()
	return out, err
}

// send applies a planned batch and deals with whatever comes of it.
func (o *owner) send(ctx context.Context, p planned) {
	sent := o.opt.Now()
	o.m.merged.Observe(float64(len(p.riders)))
	out, err := o.apply(ctx, p.batch)
	switch out.Verdict {
	case Applied:
		o.applied(p, out.Head, sent)
	case Refused:
		o.refused(ctx, p, out)
	case Stale:
		// Another owner was faster.
		o.m.stale.Inc()
		o.again(ctx, p, ReadRecent)
	case Missing:
		for _, r := range p.riders {
			r.answer(answer{err: ErrSaleNotOpen.because("the seats are still being created")})
		}
	case NoEffect:
		o.log.Warn("change a block", "block", o.key, "changes", len(p.riders), "error", err)
		for _, r := range p.riders {
			r.answer(answer{err: asError(err, ErrUnavailable)})
		}
	default:
		o.log.Warn("the outcome of a batch is unknown", "block", o.key, "changes", len(p.riders), "error", err)
		o.settle(ctx, p, sent)
	}
}

// asError keeps an *Error and wraps anything else.
func asError(err error, otherwise *Error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return otherwise.with(uuid.Nil, 0, nil, err)
}

// applied answers yes to all. The promise counts from the moment the batch was sent.
func (o *owner) applied(p planned, head Head, sent time.Time) {
	o.memMu.Lock()
	o.memory.record(&p.batch, head, o.opt.Now())
	o.memMu.Unlock()
	o.refusals = 0
	for i, r := range p.riders {
		delete(o.singly, r)
		a := answer{}
		if r.set == nil {
			a = answer{seats: p.batch.Changes[i].Seats, expires: sent.Add(r.promise)}
		}
		r.answer(a)
	}
}

// refused looks at the block again, so that the losers are told by the next plan and the others go again: merged once
// more, then one by one.
func (o *owner) refused(ctx context.Context, p planned, out Outcome) {
	if len(p.riders) == 1 && p.riders[0].tries >= 2 && p.riders[0].want == nil {
		// Alone and still refused although memory let it pass: believe the refusal.
		o.m.lost.Inc()
		r := p.riders[0]
		delete(o.singly, r)
		if r.set != nil || len(p.batch.Changes) == 0 {
			r.answer(answer{err: ErrConflict})
			return
		}
		r.answer(answer{err: o.verdict(&p.batch.Changes[0], out)})
		return
	}
	if o.refusals++; o.refusals >= 2 && len(p.riders) > 1 {
		if o.singly == nil {
			o.singly = map[*request]bool{}
		}
		for _, r := range p.riders {
			o.singly[r] = true
		}
		o.refusals = 0
	}
	o.again(ctx, p, ReadRecent)
}

// verdict explains a refusal by the seats that came with it.
func (o *owner) verdict(c *Change, out Outcome) *Error {
	found := map[int16]Seat{}
	for _, s := range out.Seats {
		found[s.Seat] = s
	}
	var taken []int16
	for _, n := range c.Seats {
		if s, ok := found[n]; !ok || !c.Admits(s) {
			taken = append(taken, n)
		}
	}
	if len(taken) == 0 {
		return notOpen(out.Head.State)
	}
	return o.memory.refusal(c, taken, o.opt.Now())
}

// again puts the riders of a batch that can not be applied any more back in front of the queue. With ReadSettled it may
// have been applied already; the next plan sees that on the seats.
func (o *owner) again(ctx context.Context, p planned, mode ReadMode) {
	err := o.reread(ctx, mode)
	for attempt := 0; err != nil && mode == ReadSettled; attempt++ {
		// Only the seats can tell what became of the batch.
		if pause(ctx, attempt) != nil {
			err = ErrUnknownOutcome.with(o.key.Performance, o.key.Block, nil, err)
			break
		}
		err = o.reread(ctx, mode)
	}
	var rest []*request
	for _, r := range p.riders {
		r.tries++
		switch {
		case !r.land():
			delete(o.singly, r)
		case err != nil:
			delete(o.singly, r)
			r.answer(answer{err: err})
		case r.tries >= mostTries:
			delete(o.singly, r)
			r.answer(answer{err: ErrUnavailable.because("the block keeps changing")})
		default:
			rest = append(rest, r)
		}
	}
	o.putBack(rest)
}

// settle finds out what became of a batch without an answer. A read cannot tell: the batch may still be on its way. A
// fence can: it takes the version the batch needs, so either the fence is applied and the batch never will be, or the
// block's last op says whether the batch was. Nothing else is sent for the block meanwhile.
func (o *owner) settle(ctx context.Context, p planned, sent time.Time) {
	o.m.unsettled.Inc()
	defer o.m.unsettled.Dec()
	started := time.Now()
	defer func() { o.m.settleSeconds.Observe(time.Since(started).Seconds()) }()
	out, err := o.fence(ctx, Head{Ver: p.batch.Ver, Epoch: p.batch.Epoch})
	switch {
	case err != nil: // stopping
		for _, r := range p.riders {
			r.answer(answer{err: ErrUnknownOutcome.with(o.key.Performance, o.key.Block, nil, err)})
		}
	case out.Verdict == Stale && out.Head.Last == p.batch.Op:
		o.applied(p, out.Head, sent)
	case out.Verdict == Stale:
		// Others have moved the block on since. Ids are unique, so the seats themselves show what was applied, and what
		// is not there now can not come later.
		o.again(ctx, p, ReadSettled)
	default:
		o.again(ctx, p, ReadRecent)
	}
}

// view gives what the block shows, no older than a second as far as this process knows.
func (o *owner) view(ctx context.Context, next func() int64) (*view, error) {
	now := o.opt.Now()
	if v := o.published.Load(); v != nil && now.Sub(v.at) < viewAge && !now.Before(v.at) {
		return v, nil
	}
	o.memMu.RLock()
	sureAt, unread := o.memory.sureAt, o.memory.sureAt.IsZero()
	o.memMu.RUnlock()
	if unread || o.opt.Shared && now.Sub(sureAt) >= viewAge {
		r := newRequest()
		r.look = &look{}
		patience := ctx
		if !unread { // an owner that waits for its store must not stop the seat map
			var cancel context.CancelFunc
			patience, cancel = context.WithTimeout(ctx, viewAge/4)
			defer cancel()
		}
		if a := o.ask(patience, r); a.err != nil && unread {
			return nil, a.err
		}
	}
	o.pubMu.Lock()
	defer o.pubMu.Unlock()
	old := o.published.Load()
	v := o.compute(o.opt.Now())
	if old != nil && old.head.State == v.head.State && string(old.free) == string(v.free) {
		v.ver = old.ver
	} else {
		v.ver = next()
	}
	o.published.Store(v)
	return v, nil
}

func (o *owner) compute(now time.Time) *view {
	o.memMu.RLock()
	defer o.memMu.RUnlock()
	v := &view{at: now, head: o.memory.head, seats: len(o.memory.seats), free: o.memory.free([]int16{0}, nil, now)}
	for n := range o.memory.seats {
		switch s := o.memory.seat(int16(n), now); {
		case s.Order != uuid.Nil:
			v.sold++
		case s.Hold != uuid.Nil:
			v.held++
		case v.free.Has(n):
			v.sellable++
		}
	}
	return v
}
