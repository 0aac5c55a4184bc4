package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// Pace of the flush loop.
const (
	flushEvery = 100 * time.Millisecond
	idleEvery  = time.Second
	retryMax   = 5 * time.Second // an unconfirmed renewal is asked for again after 0.2, 0.4, … 5 s
	maxSpent   = 500_000         // used tickets remembered for a store that comes back empty: 36 MB
	restoreMs  = 60_000          // grants and renewals given back after a failover
	// While there is no generation, restoring is repeated: a controller that has just taken over cannot know what came before.
	restoreEvery = time.Second
)

// flusher is the state of a room's flush loop. Only the loop touches it, but for the fields marked as guarded by the room's mutex.
type flusher struct {
	no         uint64
	markMs     int64 // highest mark ever sent: it may have been applied even when no answer came
	cursor     int64
	pending    *queue.Flush // sent, outcome unknown: repeated as it is
	registered bool         // the store knows this incarnation
	restored   bool         // Restore was sent since the fence went up
	restoredTo line.ID      // the store's line then: a line that is given back later has to be told too
	restoredAt time.Time
	emptied    bool   // since the fence went up, the store was seen without our line
	runID      string // the store process that gen was learned from
	published  uint64 // the forecast's counter when the current line was last read
	lastAnswer time.Time
	retries    map[line.SessionID]retry
	sweptAt    time.Time

	// guarded by Room.mu
	genNow   string
	fenced   bool
	history  map[laneRef][]callPoint
	longer   map[line.SessionID]int64 // Extend
	spent    []spentAt
	byeAsked bool
	byeDone  chan struct{}
}

type laneRef struct {
	line line.ID
	lane uint8
}

// callPoint says that at store time ms the lane was called up to called.
type callPoint struct {
	ms     int64
	called uint64
}

type spentAt struct {
	queue.SpentStamp
	ms int64
}

type retry struct {
	due   time.Time
	delay time.Duration
}

func (f *flusher) init() {
	f.retries = map[line.SessionID]retry{}
	f.history = map[laneRef][]callPoint{}
	f.longer = map[line.SessionID]int64{}
	f.byeDone = make(chan struct{})
	f.lastAnswer = time.Now()
}

// extend notes a lease the core asks for; the room's mutex is held.
func (f *flusher) extend(id line.SessionID, untilMs int64) { f.longer[id] = max(f.longer[id], untilMs) }

// calledAt is when a rank was called, as far as this agent remembers; the room's mutex is held.
func (f *flusher) calledAt(id line.ID, lane uint8, rank uint64) (ms int64, ok bool) {
	for _, p := range f.history[laneRef{id, lane}] {
		if rank < p.called {
			return p.ms, true
		}
	}
	return 0, false
}

// gen is the store's generation; ok is false while the agent has none or is fenced off after a failover.
func (r *Room) gen() (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flush.genNow, r.flush.genNow != "" && !r.flush.fenced
}

// fence stops claims and flushes until the store has a generation that this agent has restored to or learned anew.
func (r *Room) fence(gen string) {
	r.mu.Lock()
	if r.flush.genNow == gen {
		r.flush.fenced = true
	}
	r.mu.Unlock()
	r.kickFlush()
}

// runFlush is the room's flush loop.
func (r *Room) runFlush(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	idle := false
	for {
		var wake chan struct{}
		if idle {
			wake = r.wake
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-timer.C:
		}
		start := time.Now()
		var done bool
		idle, done = r.step(ctx)
		if done {
			return
		}
		every := flushEvery
		if idle {
			every = idleEvery
		}
		timer.Reset(max(time.Until(start.Add(every)), time.Millisecond))
	}
}

// step does one exchange with the store. idle says that nothing is going on; done that goodbye was said.
func (r *Room) step(ctx context.Context) (idle, done bool) {
	callCtx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	gen, ok := r.gen()
	if !ok {
		if err := r.attach(callCtx); err != nil && ctx.Err() == nil {
			r.log.Warn("room's store cannot be reached", "error", err)
		}
		r.watchOutage()
		return false, false
	}
	f := &r.flush
	if f.pending == nil {
		f.pending = r.build(gen)
	}
	fl := f.pending
	sent := time.Now()
	reply, err := r.o.Store.Flush(callCtx, r.name, *fl)
	received := time.Now()
	if err == nil {
		r.m.flushSeconds.WithLabelValues(r.name).Observe(received.Sub(sent).Seconds())
		f.lastAnswer = received
		r.clock.observe(sent, received, reply.Control.StoreMs)
		f.pending = nil
		idle = r.apply(ctx, *fl, reply)
		r.watchOutage()
		if fl.Bye && !reply.Reaped {
			close(f.byeDone)
			return false, true
		}
		return idle, false
	}
	var g *queue.GenError
	switch {
	case errors.As(err, &g), errors.Is(err, queue.ErrNoRoom):
		f.lastAnswer = received
		r.requeue(fl)
		f.pending = nil
		r.heal()
		r.fence(gen)
	case errors.Is(err, queue.ErrClone):
		f.lastAnswer = received
		r.requeue(fl)
		f.pending = nil
		r.heal() // places refilled alone may be the twin's
		r.reincarnate("clone")
	case ctx.Err() == nil:
		r.log.Warn("flush not answered", "no", fl.No, "error", err)
	}
	r.watchOutage()
	return false, false
}

// attach learns the store's generation, and gives back what this agent knows while there is none.
func (r *Room) attach(ctx context.Context) error {
	f := &r.flush
	sent := time.Now()
	c, err := r.o.Store.Control(ctx, r.name)
	if errors.Is(err, queue.ErrNoRoom) {
		if err := r.o.Store.Create(ctx, r.name); err != nil {
			return fmt.Errorf("create room: %w", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("read control record: %w", err)
	}
	f.lastAnswer = time.Now()
	r.clock.observe(sent, f.lastAnswer, c.StoreMs)
	r.heal()
	r.mu.Lock()
	gen := f.genNow
	r.mu.Unlock()
	switch {
	case c.Gen == "" && f.registered && (!f.restored || f.restoredTo != c.Line() || time.Since(f.restoredAt) >= restoreEvery):
		f.emptied = f.emptied || c.Line() != r.snap.Load().current()
		if err := r.o.Store.Restore(ctx, r.name, r.restore(c)); err != nil && !errors.Is(err, queue.ErrGenSet) {
			return fmt.Errorf("restore: %w", err)
		}
		f.restored, f.restoredTo, f.restoredAt = true, c.Line(), time.Now()
		return nil
	case c.Gen == "":
		return nil
	case c.Gen == gen && c.RunID != f.runID && f.runID != "":
		return nil // another store process with the old generation: wait for the controller to fence it
	}
	if c.Gen != gen {
		if f.registered && !f.restored {
			r.log.Warn("store has a new generation that this edge gave nothing back to", "run_id", c.RunID)
		}
		f.cursor = 0 // positions of the end feed count within one generation
	}
	f.runID, f.restored, f.emptied = c.RunID, false, false
	r.mu.Lock()
	f.genNow, f.fenced = c.Gen, false
	r.mu.Unlock()
	return nil
}

// restore is what this agent knows, for a store that came back without it.
func (r *Room) restore(c queue.Control) queue.Restore {
	snap, now := r.snap.Load(), r.storeNow()
	out := queue.Restore{Label: r.o.Label, Current: snap.current(), Called: map[line.ID][]uint64{}}
	out.All = r.flush.emptied && !snap.current().IsZero()
	for id, b := range snap.books {
		called := make([]uint64, len(b.lanes))
		for i, l := range b.lanes {
			called[i] = l.Called
		}
		out.Called[id] = called
	}
	r.mu.Lock()
	out.Edge = r.inc
	for _, s := range r.flush.spent {
		if out.All || now-s.ms <= restoreMs {
			out.Spent = append(out.Spent, s.SpentStamp)
		}
	}
	r.mu.Unlock()
	r.sessions.each(func(s *session) bool {
		if s.home && !s.ended && s.endMs > now && (out.All || now-s.grantedMs <= restoreMs) {
			out.Sessions = append(out.Sessions, queue.Lease{Session: s.id, EndMs: s.endMs, StayMs: s.stayMs, Home: out.Edge})
		}
		return true
	})
	if b := snap.books[snap.current()]; b != nil {
		out.Seals = b.tail(c)
	}
	return out
}

// build makes the next flush from all that has come up.
func (r *Room) build(gen string) *queue.Flush {
	f, snap := &r.flush, r.snap.Load()
	b := snap.books[snap.current()]
	set := snap.control.Settings
	r.mu.Lock()
	now, off, _ := r.clock.now()
	f.no++
	// The mark must not run ahead of the store's own clock, or leases would be swept before their time.
	f.markMs = max(f.markMs, now-off)
	fl := &queue.Flush{Gen: gen, Edge: r.inc, Label: r.o.Label, No: f.no, MarkMs: f.markMs, Cursor: f.cursor, Bye: f.byeAsked}
	if b != nil {
		fl.Line = snap.current()
		fl.Complete, fl.SealedSeen = line.WindowAt(b.opened.Record.EpochMs, now), b.sealed
	}
	for k, n := range r.rows {
		fl.Rows = append(fl.Rows, queue.Row{Line: k.line, Edge: k.inc, Win: k.win, Lane: k.lane, Count: n})
	}
	fl.Ends, r.ends = r.ends, nil
	for k, n := range r.arrivals {
		fl.Arrivals = append(fl.Arrivals, queue.Arrival{Lane: k.lane, AgeMs: k.ageMs, Count: n})
	}
	clear(r.arrivals)
	longer := f.longer
	f.longer = map[line.SessionID]int64{}
	r.mu.Unlock()

	wall := time.Now()
	fl.Renewals = r.sessions.takeWishes(now, now+set.IdleMs)
	asked := make(map[line.SessionID]struct{}, len(fl.Renewals))
	for i, w := range fl.Renewals {
		asked[w.Session] = struct{}{}
		if until := longer[w.Session]; until > w.UntilMs {
			fl.Renewals[i].UntilMs = until
		}
		delete(longer, w.Session)
	}
	for id, until := range longer {
		fl.Renewals = append(fl.Renewals, queue.Renewal{Session: id, UntilMs: until})
	}
	for id, try := range f.retries {
		if _, twice := asked[id]; !twice && !try.due.After(wall) {
			live := false
			r.sessions.with(id, false, func(s *session) {
				if live = s != nil && s.renewable(now); live {
					s.maybeMs = max(s.maybeMs, now+set.IdleMs)
				}
			})
			if !live {
				delete(f.retries, id)
				continue
			}
			fl.Renewals = append(fl.Renewals, queue.Renewal{Session: id, UntilMs: now + set.IdleMs})
		}
	}
	fl.Outage = r.collectAlone()
	lanes := 0
	if b != nil {
		lanes = len(b.lanes)
	}
	var total int
	fl.Parked, total = r.door.count(lanes, wall)
	r.m.parked.WithLabelValues(r.name).Set(float64(total))
	r.m.clockOff.WithLabelValues(r.name).Set(float64(off) / 1000)
	return fl
}

// requeue takes back a flush that changed nothing, so that the next one carries its news. Rows are still there: they are absolute.
func (r *Room) requeue(fl *queue.Flush) {
	r.mu.Lock()
	r.ends = append(fl.Ends, r.ends...)
	for _, a := range fl.Arrivals {
		r.arrivals[arrivalKey{a.Lane, a.AgeMs}] += a.Count
	}
	r.mu.Unlock()
	for _, w := range fl.Renewals {
		r.flush.retries[w.Session] = retry{due: time.Now()}
	}
}

// reincarnate draws a new identity: this one was cloned, or taken for dead. Its sessions have another home now, and come back one
// by one as they are used.
func (r *Room) reincarnate(cause string) {
	r.mu.Lock()
	old := r.inc
	r.inc, r.seq = newIncarnation(), 0
	now := r.inc
	r.mu.Unlock()
	f := &r.flush
	f.no, f.cursor, f.registered = 0, 0, false
	r.sessions.each(func(s *session) bool { s.home = false; return true })
	r.m.incarnations.WithLabelValues(r.name, cause).Inc()
	r.log.Warn("edge draws a new identity", "cause", cause, "old", old.String(), "new", now.String())
}

// apply takes in a flush reply. It reports whether the room is idle.
func (r *Room) apply(ctx context.Context, fl queue.Flush, reply queue.FlushReply) (idle bool) {
	f := &r.flush
	r.heal()
	if reply.Reaped {
		r.requeue(&fl)
		r.reincarnate("reaped")
		return false
	}
	f.registered = true
	c := reply.Control
	snap := r.snap.Load()
	r.confirm(reply.Leases, fl.Edge, c.StoreMs)
	f.cursor = max(f.cursor, r.feed(reply.Feed, fl.Edge, c.StoreMs, snap.keepMs()))
	r.outageReported(fl.Outage)
	r.m.renewals.WithLabelValues(r.name).Add(float64(len(reply.Leases)))
	r.retryUnconfirmed(fl.Renewals, reply.Leases, c.StoreMs)

	next := &snapshot{control: c, settings: snap.settings, codes: snap.codes, forecast: snap.forecast, books: maps.Clone(snap.books)}
	if !bytes.Equal(c.Settings.Document, snap.control.Settings.Document) && len(c.Settings.Document) > 0 {
		s, err := room.Parse(c.Settings.Document)
		if err != nil {
			r.log.Error("settings of the room cannot be read, the old ones stay", "version", c.Settings.Version, "error", err)
		} else {
			next.settings, next.codes = s, codeSet(s.CodeHashes)
		}
	}
	if !bytes.Equal(c.Forecast, snap.control.Forecast) {
		fc, err := room.ParseForecast(c.Forecast)
		if err != nil {
			r.log.Error("forecast cannot be read", "error", err)
		} else {
			next.forecast = fc
		}
	}
	r.follow(ctx, next, reply)
	stale := c.StoreMs-c.TickMs > staleMs
	next.view = next.makeView(r.name, c.StoreMs, stale, false)
	r.remember(next)
	r.snap.Store(next)

	r.mu.Lock()
	b := next.books[next.current()]
	for k := range r.rows {
		if kb := next.books[k.line]; kb == nil || k.win < kb.sealed {
			delete(r.rows, k)
		}
	}
	rows := len(r.rows)
	news := rows > 0 || len(r.ends) > 0 || len(r.arrivals) > 0
	r.mu.Unlock()

	parked := false
	for _, n := range fl.Parked {
		parked = parked || n > 0
	}
	waiting := b == nil
	if b != nil {
		for i, l := range b.lanes {
			waiting = waiting || l.Called < b.ledgers[i].Total()
		}
	}
	if c.Active < c.Settings.Cap && parked {
		r.door.release()
	}
	if now := time.Now(); now.Sub(f.sweptAt) > time.Second {
		f.sweptAt = now
		r.m.homeSessions.WithLabelValues(r.name).Set(float64(r.sweep(c.StoreMs)))
	}
	return !news && !parked && !waiting && c.Active == 0 && !f.byeAskedNow(r)
}

func (f *flusher) byeAskedNow(r *Room) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return f.byeAsked
}

// retryUnconfirmed asks again for leases that a reply did not confirm: replication was not met, or another edge is still the
// home. A pass that runs out meanwhile ends the asking.
func (r *Room) retryUnconfirmed(asked []queue.Renewal, got []queue.Lease, nowMs int64) {
	f, now := &r.flush, time.Now()
	for _, l := range got {
		delete(f.retries, l.Session)
	}
	confirmed := make(map[line.SessionID]struct{}, len(got))
	for _, l := range got {
		confirmed[l.Session] = struct{}{}
	}
	for _, w := range asked {
		if _, ok := confirmed[w.Session]; ok {
			continue
		}
		live := false
		r.sessions.with(w.Session, false, func(s *session) { live = s != nil && s.renewable(nowMs) })
		if !live {
			delete(f.retries, w.Session)
			continue
		}
		delay := min(max(2*f.retries[w.Session].delay, 2*flushEvery), retryMax)
		f.retries[w.Session] = retry{due: now.Add(delay), delay: delay}
	}
}

// follow brings the books up to the store's lines, seals and frontiers.
func (r *Room) follow(ctx context.Context, next *snapshot, reply queue.FlushReply) {
	f, c := &r.flush, reply.Control
	ctx, cancel := context.WithTimeout(ctx, 5*storeTimeout)
	defer cancel()
	claimable := map[line.ID]bool{}
	for _, id := range c.Lines {
		claimable[id] = true
		if next.books[id] != nil {
			continue
		}
		b, err := loadBook(ctx, r.o.Store, r.o.RoomMaster, r.name, id)
		if err != nil {
			r.log.Error("line cannot be read", "line", id.String(), "error", err)
			continue
		}
		next.books[id] = b
		if id == c.Line() {
			f.published = next.forecast.Published
		}
	}
	for id := range next.books {
		if !claimable[id] && len(c.Lines) > 0 {
			delete(next.books, id)
		}
	}
	b := next.books[c.Line()]
	if b == nil {
		return
	}
	if f.published != next.forecast.Published {
		if fresh, err := r.reread(ctx, b, c.Line()); err != nil {
			r.log.Error("line cannot be read again", "line", c.Line().String(), "error", err)
		} else {
			b, f.published = fresh, next.forecast.Published
		}
	}
	sealed, err := b.with(reply.Seals)
	switch {
	case err != nil: // far behind, so that seals came merged or not at all
		sealed = r.reload(ctx, b, err)
	case sealed.sealed > b.sealed:
		lag := c.StoreMs - sealed.sealed.StartMs(sealed.opened.Record.EpochMs)
		r.m.sealLag.WithLabelValues(r.name).Observe(float64(max(lag, 0)) / 1000)
	}
	next.books[c.Line()] = sealed.withLanes(c.Lanes)
	for id, lanes := range c.Honoured {
		h := next.books[id]
		if h == nil {
			continue
		}
		for i, l := range lanes {
			if i < len(h.ledgers) && l.Total > h.ledgers[i].Total() { // seals of honoured lines are not sent
				h = r.reload(ctx, h, errSealGap)
				break
			}
		}
		next.books[id] = h.withLanes(lanes)
	}
}

// reload reads a line's ledger again. What fans were told cannot be taken back: when the store contradicts it, this agent keeps its own
// ledger and says so loudly.
func (r *Room) reload(ctx context.Context, b *book, why error) *book {
	id := b.opened.Record.Line
	fresh, err := loadBook(ctx, r.o.Store, r.o.RoomMaster, r.name, id)
	switch {
	case err != nil:
		r.log.Warn("ledger cannot be read again", "line", id.String(), "why", why, "error", err)
		return b
	case !fresh.continues(b):
		r.log.Error("the store seals differently from what this edge has shown to fans", "line", id.String())
		return b
	}
	fresh.lanes = b.lanes
	return fresh
}

// reread takes over amendments and the draw's result, and keeps the ledger.
func (r *Room) reread(ctx context.Context, b *book, id line.ID) (*book, error) {
	state, err := r.o.Store.Line(ctx, r.name, id)
	if err != nil {
		return nil, err
	}
	fresh, err := newBook(r.o.RoomMaster, r.name, state)
	if err != nil {
		return nil, err
	}
	fresh.ledgers, fresh.sealed, fresh.chain, fresh.lanes = b.ledgers, b.sealed, b.chain, b.lanes
	return fresh, nil
}

// remember keeps when each rank was called, for the ages at which called fans come.
func (r *Room) remember(next *snapshot) {
	const keepMs = 130_000
	now := next.control.StoreMs
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, b := range next.books {
		for lane, l := range b.lanes {
			k := laneRef{id, uint8(lane)}
			h := r.flush.history[k]
			if len(h) == 0 || h[len(h)-1].called != l.Called {
				h = append(h, callPoint{now, l.Called})
			}
			for len(h) > 1 && h[1].ms < now-keepMs {
				h = h[1:]
			}
			r.flush.history[k] = h
		}
	}
	for k := range r.flush.history {
		if next.books[k.line] == nil {
			delete(r.flush.history, k)
		}
	}
	if n := len(r.flush.spent); n > maxSpent+maxSpent/10 {
		r.flush.spent = append([]spentAt(nil), r.flush.spent[n-maxSpent:]...)
	}
}

// drain says goodbye.
func (r *Room) drain(ctx context.Context) error {
	r.mu.Lock()
	r.draining, r.flush.byeAsked = true, true
	r.mu.Unlock()
	r.door.mu.Lock()
	for _, p := range r.door.byID {
		r.door.answer(p, outcome{retry: time.Second})
	}
	r.door.mu.Unlock()
	r.kickFlush()
	select {
	case <-r.flush.byeDone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("say goodbye to the store: %w", ctx.Err())
	}
}
