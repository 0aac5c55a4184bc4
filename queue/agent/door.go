package agent

import (
	"container/heap"
	"context"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// Of the door.
const (
	maxBatch    = 64
	gatherFor   = 2 * time.Millisecond  // claims that come this close together share a batch
	parkFor     = 8 * time.Second       // longest a claim waits for its answer
	fullPause   = 50 * time.Millisecond // between two tries while no place is free
	stalePause  = 250 * time.Millisecond
	errorPause  = 100 * time.Millisecond
	minimumHold = 5 * time.Millisecond

	storeTimeout = time.Second
)

// outcome is the answer to a parked claim.
type outcome struct {
	status queue.ClaimStatus // ClaimOK: let in
	endMs  int64
	stayMs int64
	retry  time.Duration
	called uint64
}

// parked is one called fan at the door. Several requests of one ticket (tabs, retries) wait for one answer.
type parked struct {
	claim   queue.Claim
	called  int64                 // store time at which it was called; 0: long ago, or not known
	waiters map[chan outcome]bool // true: may wait, false: wants the first verdict
	since   time.Time
	held    time.Time // by the network share: not tried before
	last    outcome   // why the last try did not succeed
	at      int       // index in the heap; -1 while a batch holds it
}

// door is where called fans wait. Claims are tried in rank order; those of fans who enter without a ticket come after.
type door struct {
	mu      sync.Mutex
	byID    map[line.SessionID]*parked
	queue   parkedHeap
	enters  []*parked
	hold    time.Time // no batch before this
	changed chan struct{}

	// Who has come to the door lately, in two generations, so that a ticket that does not keep its door state counts once.
	seen, seenBefore map[line.SessionID]struct{}
	seenSince        time.Time
}

func newDoor() *door {
	return &door{byID: map[line.SessionID]*parked{}, changed: make(chan struct{}, 1), seen: map[line.SessionID]struct{}{}}
}

// signal wakes the door's loop.
func (d *door) signal() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// release ends a pause: a place may have become free.
func (d *door) release() {
	d.mu.Lock()
	d.hold = time.Time{}
	d.mu.Unlock()
	d.signal()
}

// park adds a claim, or a waiter to the claim that is parked already. ok is false when the door is full.
func (d *door) park(c queue.Claim, called int64, patient bool, most int) (wait chan outcome, ok bool) {
	wait = make(chan outcome, 1)
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.byID[c.Session]
	if p == nil {
		if len(d.byID) >= most {
			return nil, false
		}
		p = &parked{claim: c, called: called, waiters: map[chan outcome]bool{}, since: time.Now(), at: -1}
		d.byID[c.Session] = p
		if c.Enter {
			d.enters = append(d.enters, p)
		} else {
			heap.Push(&d.queue, p)
		}
	}
	p.waiters[wait] = patient
	d.signal()
	return wait, true
}

// give up one waiter; returns why the fan was not let in so far.
func (d *door) leave(id line.SessionID, wait chan outcome) outcome {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.byID[id]
	if p == nil {
		select {
		case o := <-wait: // answered in the same moment
			return o
		default:
			return outcome{}
		}
	}
	delete(p.waiters, wait)
	if len(p.waiters) == 0 {
		d.drop(p)
	}
	return p.last
}

// drop takes a claim off the door; d.mu is held.
func (d *door) drop(p *parked) {
	delete(d.byID, p.claim.Session)
	if p.at >= 0 {
		heap.Remove(&d.queue, p.at)
	}
}

// answer sends the outcome to all who wait for a claim and takes it off the door; d.mu is held.
func (d *door) answer(p *parked, o outcome) {
	for w := range p.waiters {
		w <- o
	}
	clear(p.waiters)
	d.drop(p)
}

// take removes up to n claims from the front whose turn it is, in rank order, then those who enter. Claims come back by putBack or answer.
// others says whether anybody stays parked.
func (d *door) take(n int, now time.Time) (batch []*parked, others bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var held []*parked
	for len(batch) < n && len(d.queue) > 0 {
		p := heap.Pop(&d.queue).(*parked)
		if p.held.After(now) {
			held = append(held, p)
			continue
		}
		batch = append(batch, p)
	}
	for _, p := range held {
		heap.Push(&d.queue, p)
	}
	for len(batch) < n && len(d.enters) > 0 {
		if p := d.enters[0]; len(p.waiters) > 0 {
			batch = append(batch, p)
		}
		d.enters = d.enters[1:]
	}
	return batch, len(d.byID) > len(batch) || len(batch) > 1
}

// putBack returns a claim to the door; d.mu is held. Those who would not wait get the verdict; a claim whose fans all gave up is gone.
func (d *door) putBack(p *parked) {
	if d.byID[p.claim.Session] != p {
		return
	}
	for w, patient := range p.waiters {
		if !patient {
			w <- p.last
			delete(p.waiters, w)
		}
	}
	if len(p.waiters) == 0 {
		d.drop(p)
		return
	}
	if p.claim.Enter {
		d.enters = append(d.enters, p)
		return
	}
	heap.Push(&d.queue, p)
}

// count is the number parked per lane, without those the network share holds.
func (d *door) count(lanes int, now time.Time) (perLane []int64, total int) {
	perLane = make([]int64, lanes)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.byID {
		if !p.claim.Enter && int(p.claim.Lane) < lanes && !(p.last.status == queue.ClaimShare && p.held.After(now)) {
			perLane[p.claim.Lane]++
		}
	}
	return perLane, len(d.byID)
}

// first reports whether a fan comes to the door for the first time, as far as this edge remembers.
func (d *door) first(id line.SessionID, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.seenSince) > 2*time.Minute || len(d.seen) > 200_000 {
		d.seen, d.seenBefore, d.seenSince = map[line.SessionID]struct{}{}, d.seen, now
	}
	_, a := d.seen[id]
	_, b := d.seenBefore[id]
	d.seen[id] = struct{}{}
	return !a && !b
}

// parkedHeap orders by when fans were called, which inside a lane is the order of ranks; those who came late stand behind.
type parkedHeap []*parked

func (h parkedHeap) Len() int { return len(h) }
func (h parkedHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if late := a.claim.Door == line.DoorLate; late != (b.claim.Door == line.DoorLate) {
		return !late
	}
	if a.claim.Lane != b.claim.Lane && a.called != b.called {
		return a.called < b.called
	}
	return a.claim.Rank < b.claim.Rank
}
func (h parkedHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}
func (h *parkedHeap) Push(x any) {
	p := x.(*parked)
	p.at = len(*h)
	*h = append(*h, p)
}
func (h *parkedHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	*h = old[:len(old)-1]
	p.at = -1
	return p
}

// Claim lets a called fan in, waiting at the door for up to 8 s when the request allows it. It is idempotent: one ticket is one session. The
// place carries the ticket to keep, also with a refusal. Errors are *line.Refusal.
func (r *Room) Claim(ctx context.Context, req line.ClaimRequest) (line.Grant, line.Place, error) {
	snap := r.snap.Load()
	t, b, err := r.parse(snap, req.Ticket)
	if err != nil {
		return line.Grant{}, line.Place{Ticket: req.Ticket}, err
	}
	place := r.place(snap, t, req.Ticket)
	refused := func(x *line.Refusal) (line.Grant, line.Place, error) {
		x.Ticket = ""
		if place.Ticket != req.Ticket {
			x.Ticket = place.Ticket
		}
		r.m.claims.WithLabelValues(r.name, string(x.Code)).Inc()
		return line.Grant{}, place, x
	}
	if !place.Known {
		return refused(refuse(line.RefusedEarly, r.nextTry(snap, 0), "Your place is not known yet."))
	}
	out := r.outage.Load()
	if place.State == line.StateWaiting && (out == nil || place.Rank >= out.schedule(t.Lane, r.storeNow())) {
		x := refuse(line.RefusedEarly, r.nextTry(snap, place.Ahead), "Your turn has not come yet.")
		x.Ahead = place.Ahead
		return refused(x)
	}
	if t.Key != ([16]byte{}) {
		if err := checkProof(r.name, b.session(t.Stamp), t.Key, req.Proof, r.storeNow()); err != nil {
			return refused(refuse(line.RefusedKeyProof, 0, proofDetail(err)))
		}
	}
	if x := closedDoor(snap); x != nil {
		return refused(x)
	}
	id := b.session(t.Stamp)
	called := int64(0)
	if place.Rank < b.lanes[t.Lane].Called {
		called = r.arrive(b, &t, id, place.Rank)
	}
	t.Rank = place.Rank
	if text := r.tickets.Issue(t); text != place.Ticket {
		place.Ticket = text
	}
	o, x := r.stand(ctx, snap, queue.Claim{
		Line: t.Line, Lane: t.Lane, Rank: place.Rank, Stamp: t.Stamp, Who: t.Who, WhoKind: t.WhoKind, Session: id, Group: req.Group, Door: t.Door,
	}, called, req.Wait)
	if x != nil {
		return refused(x)
	}
	if now := r.storeNow(); passEnd(o.endMs) <= now { // alive, but for less than a pass can say: ask for more
		sh := r.sessions.shard(id)
		sh.mu.Lock()
		if s := sh.byID[id]; s != nil {
			sh.wish(s, now)
		}
		sh.mu.Unlock()
		return refused(refuse(line.RefusedMoment, time.Second, "One moment, please. Your place is kept."))
	}
	keyHash := ""
	if t.Key != ([16]byte{}) {
		keyHash = hex.EncodeToString(t.Key[:])
	}
	g, err := r.sign(t.Line.String(), t.Lane, keyHash, id, o.endMs, o.stayMs, r.storeNow())
	if err != nil {
		r.log.Error("pass not signed", "session", id.String(), "error", err)
		return refused(refuse(line.RefusedMoment, time.Second, "The pass could not be made."))
	}
	place.State, place.Pass = line.StateAdmitted, &g
	r.m.claims.WithLabelValues(r.name, "ok").Inc()
	return g, place, nil
}

func (r *Room) storeNow() int64 {
	ms, _, _ := r.clock.now()
	return ms
}

// nextTry is when a fan who came early may usefully ask again.
func (r *Room) nextTry(snap *snapshot, ahead uint64) time.Duration {
	if ahead == 0 {
		return 2 * time.Second
	}
	v := 0.0
	for _, x := range snap.forecast.Velocity {
		v += x
	}
	if v <= 0 {
		return 10 * time.Second
	}
	return min(max(time.Duration(float64(ahead)/v/8*float64(time.Second)), 2*time.Second), time.Minute)
}

// closedDoor refuses what the store would refuse, without asking it.
func closedDoor(snap *snapshot) *line.Refusal {
	if snap.view.Closed {
		return refuse(line.RefusedMoment, 30*time.Second, "The waiting room cannot be reached.")
	}
	switch snap.control.Settings.Pause {
	case "":
		return nil
	case string(line.PhaseEnded):
		return refuse(line.RefusedClosed, 0, closedDetail(line.PhaseEnded))
	case string(line.PhaseSoldOut):
		return refuse(line.RefusedClosed, 30*time.Second, closedDetail(line.PhaseSoldOut))
	case string(line.PhaseMaintenance):
		return refuse(line.RefusedMoment, 15*time.Second, "The site is being worked on. Your place is kept.")
	case string(line.PhaseDraining):
		return refuse(line.RefusedMoment, 15*time.Second, "Nobody new is let in for now. Your place is kept.")
	}
	return refuse(line.RefusedMoment, 5*time.Second, "The line is paused. Your place is kept.")
}

// arrive notes a fan's first coming to the door: in time or late, and how long after the call. It returns when the rank was called, 0 if
// that is longer ago than this agent remembers.
func (r *Room) arrive(b *book, t *line.Ticket, id line.SessionID, rank uint64) (called int64) {
	now := r.storeNow()
	r.mu.Lock()
	called, known := r.flush.calledAt(t.Line, t.Lane, rank)
	r.mu.Unlock()
	if t.Door != line.DoorNever {
		return called
	}
	t.Door = line.DoorInTime
	if rank < b.lanes[t.Lane].Due {
		t.Door = line.DoorLate
	}
	if known && r.door.first(id, time.Now()) {
		r.mu.Lock()
		r.arrivals[arrivalKey{t.Lane, ageBucket(now - called)}]++
		r.mu.Unlock()
	}
	return called
}

// ageBuckets are the upper bounds of the ages at which called fans come, in milliseconds: those of the controller's law.
var ageBuckets = [...]int64{500, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 12_000, 20_000, 40_000, 80_000}

func ageBucket(ageMs int64) int64 {
	for _, b := range ageBuckets {
		if ageMs <= b {
			return b
		}
	}
	return ageBuckets[len(ageBuckets)-1]
}

// stand waits at the door.
func (r *Room) stand(ctx context.Context, snap *snapshot, c queue.Claim, called int64, wait bool) (outcome, *line.Refusal) {
	r.mu.Lock()
	draining := r.draining
	r.mu.Unlock()
	if draining {
		return outcome{}, refuse(line.RefusedMoment, time.Second, "This edge is going away.")
	}
	ch, ok := r.door.park(c, called, wait, snap.settings.ParkedPerEdge)
	if !ok {
		return outcome{}, refuse(line.RefusedMoment, 2*time.Second, "Too many fans stand at the door. Your place is kept.")
	}
	r.kickFlush()
	timer := time.NewTimer(parkFor)
	defer timer.Stop()
	var o outcome
	select {
	case o = <-ch:
	case <-timer.C:
		o = r.door.leave(c.Session, ch)
	case <-ctx.Done():
		o = r.door.leave(c.Session, ch)
	}
	return o, refusalOf(o)
}

// refusalOf turns a verdict into what the fan is told; nil when the fan is let in.
func refusalOf(o outcome) *line.Refusal {
	after := func(d time.Duration) time.Duration { return max(o.retry, d) }
	switch o.status {
	case queue.ClaimOK:
		return nil
	case queue.ClaimOtherLine:
		return refuse(line.RefusedLineOver, 0, "The line of this ticket is over.")
	case queue.ClaimSpent:
		return refuse(line.RefusedSpent, 0, "This place has been used.")
	case queue.ClaimEarly:
		return refuse(line.RefusedEarly, after(2*time.Second), "Your turn has not come yet.")
	case queue.ClaimFull:
		return refuse(line.RefusedFull, after(time.Second), "All places inside are taken at the moment. You are next at the door.")
	case queue.ClaimRate:
		return refuse(line.RefusedMoment, after(time.Second), "Fans are let in one after the other. You are next at the door.")
	case queue.ClaimShare:
		return refuse(line.RefusedShare, after(time.Second), "Many fans of your network were let in just now.")
	case queue.ClaimLate:
		return refuse(line.RefusedMoment, after(2*time.Second), "You were called a while ago; fans who came in time go first.")
	case queue.ClaimHolder:
		return refuse(line.RefusedHolder, 0, "Somebody was let in on this account or code before.")
	case queue.ClaimPaused:
		return refuse(line.RefusedMoment, after(5*time.Second), "The line is paused. Your place is kept.")
	case queue.ClaimQueue:
		return refuse(line.RefusedNotOpen, 0, "There is a line: take a place.")
	}
	return refuse(line.RefusedMoment, after(time.Second), "One moment, please. Your place is kept.")
}

// Enter lets a fan in without a ticket while the room is open. line.RefusedNotOpen means "take a place". The fan gets a session of a
// sequence number of its own, as if from a ticket, with a short first lease.
func (r *Room) Enter(ctx context.Context, group string) (line.Grant, error) {
	snap := r.snap.Load()
	b := snap.books[snap.current()]
	if b == nil || !snap.view.Open || r.outage.Load() != nil {
		return line.Grant{}, refuse(line.RefusedNotOpen, 0, "There is a line: take a place.")
	}
	r.mu.Lock()
	now, _, _ := r.clock.now()
	stamp := line.Stamp{Win: line.WindowAt(b.opened.Record.EpochMs, now), Inc: r.inc, Seq: r.seq}
	r.seq++
	r.mu.Unlock()
	c := queue.Claim{Line: snap.current(), Stamp: stamp, Session: b.session(stamp), Group: group, Enter: true}
	o, x := r.stand(ctx, snap, c, 0, false)
	if x != nil {
		r.m.claims.WithLabelValues(r.name, "enter-"+string(x.Code)).Inc()
		return line.Grant{}, x
	}
	g, err := r.sign(c.Line.String(), 0, "", c.Session, o.endMs, o.stayMs, r.storeNow())
	if err != nil {
		r.log.Error("pass not signed", "session", c.Session.String(), "error", err)
		return line.Grant{}, refuse(line.RefusedMoment, time.Second, "The pass could not be made.")
	}
	r.m.claims.WithLabelValues(r.name, "enter").Inc()
	return g, nil
}

// runDoor sends parked claims in batches, until ctx ends.
func (r *Room) runDoor(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		d := r.door
		d.mu.Lock()
		waiting, hold := len(d.byID), time.Until(d.hold)
		d.mu.Unlock()
		switch {
		case waiting == 0:
			select {
			case <-ctx.Done():
				return
			case <-d.changed:
			}
			hold = gatherFor
		case hold > 0:
		default:
			hold = gatherFor
		}
		if !timer.Stop() {
			select {
			case <-timer.C:
			default:
			}
		}
		timer.Reset(hold)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		r.tryDoor(ctx)
	}
}

// tryDoor sends one batch, to the store or, while it is away, to this agent's own places.
func (r *Room) tryDoor(ctx context.Context) {
	d := r.door
	if d.pausedUntil(time.Now()) {
		return
	}
	if out := r.outage.Load(); out != nil {
		r.admitAlone(out)
		return
	}
	gen, ok := r.gen()
	if !ok {
		d.pause(errorPause)
		return
	}
	batch, others := d.take(maxBatch, time.Now())
	if len(batch) == 0 {
		d.pause(fullPause) // all are held by the network share
		return
	}
	b := queue.ClaimBatch{Gen: gen, Edge: r.incarnation(), Claims: make([]queue.Claim, len(batch)), Parked: others}
	for i, p := range batch {
		b.Claims[i] = p.claim
	}
	callCtx, cancel := context.WithTimeout(ctx, storeTimeout)
	sent := time.Now()
	results, err := r.o.Store.Claim(callCtx, r.name, b)
	cancel()
	r.m.claimSeconds.WithLabelValues(r.name).Observe(time.Since(sent).Seconds())
	if err == nil && len(results) != len(batch) {
		err = errors.New("store answered another number of claims")
	}
	if err != nil {
		var g *queue.GenError
		if errors.As(err, &g) || errors.Is(err, queue.ErrNoRoom) {
			r.fence(gen)
		} else if !errors.Is(err, queue.ErrReplication) && ctx.Err() == nil {
			r.log.Warn("claims not answered", "claims", len(batch), "error", err)
		}
		d.mu.Lock()
		for _, p := range batch {
			p.last = outcome{retry: time.Second}
			d.putBack(p)
		}
		d.hold = time.Now().Add(errorPause)
		d.mu.Unlock()
		return
	}
	r.settle(batch, results)
}

func (d *door) pausedUntil(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hold.After(now)
}

func (d *door) pause(for_ time.Duration) {
	d.mu.Lock()
	d.hold = time.Now().Add(for_)
	d.mu.Unlock()
}

// settle hands out a batch's results. Those who may still succeed stay parked.
func (r *Room) settle(batch []*parked, results []queue.ClaimResult) {
	d, now, storeMs := r.door, time.Now(), r.storeNow()
	for i, p := range batch {
		if results[i].Status == queue.ClaimOK {
			r.admitted(p.claim, results[i], storeMs)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var hold time.Duration
	for i, p := range batch {
		res := results[i]
		o := outcome{status: res.Status, endMs: res.EndMs, stayMs: res.StayMs, called: res.Called, retry: time.Duration(res.RetryMs) * time.Millisecond}
		p.last = o
		switch {
		case res.Status == queue.ClaimOK:
			r.m.doorSeconds.WithLabelValues(r.name).Observe(now.Sub(p.since).Seconds())
			d.answer(p, o)
		case p.claim.Enter:
			d.answer(p, o)
		case res.Status == queue.ClaimFull:
			hold = max(hold, fullPause)
			d.putBack(p)
		case res.Status == queue.ClaimRate:
			hold = max(hold, min(max(o.retry, minimumHold), stalePause))
			d.putBack(p)
		case res.Status == queue.ClaimStale:
			hold = max(hold, stalePause)
			d.putBack(p)
		case res.Status == queue.ClaimShare && o.retry < parkFor, res.Status == queue.ClaimLate && o.retry < parkFor:
			p.held = now.Add(max(o.retry, fullPause))
			d.putBack(p)
		default:
			d.answer(p, o)
		}
	}
	d.hold = now.Add(hold)
	if hold > 0 && r.snap.Load().control.Settings.Pause != "" {
		d.hold = now.Add(stalePause)
	}
}
