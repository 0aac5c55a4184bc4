package agent

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// outageAfter is how long the store may be silent before the edge goes on alone.
const outageAfter = 3 * time.Second

// scheduleFactor is how much faster than in the last minute a cut-off edge calls at most.
const scheduleFactor = 1.1

// outage is what a cut-off edge may do by itself.
//
// Let m be the highest mark this edge ever sent: it may have reached the store, so the store may have given away places whose lease
// ended by m. Leases of this edge that end after m are untouched until the store has not heard of it for the outage bound D,
// counted from m at the earliest. So until m+D each such place belongs to this edge alone. It is free for another fan once its
// lease has run out, because no edge honours its pass any more then (strict), or when its fan says they are done here
// (early: another cut-off edge could still honour the pass, so a fan who comes back through there is one too many). Every pass made
// or prolonged meanwhile ends by m+D: the bound is a time inside the pass, so it holds however long this process is paused.
type outage struct {
	since    time.Time
	markMs   int64 // m
	boundMs  int64 // m+D
	early    bool
	answerMs int64 // store time of the last answer
	called   []uint64
	totals   []uint64
	perS     []float64 // ranks called per second and lane in the minute before
	perGrant int64     // ms between two grants of this edge, by its share of the room's rate
	admits   bool

	healed atomic.Bool // the store answers again: nothing more is granted or prolonged alone

	mu     sync.Mutex
	free   int   // places to refill
	nextMs int64 // no grant before
}

// schedule is how far a lane counts as called by now: by the speed of the last minute, and never beyond what is sealed.
func (o *outage) schedule(lane uint8, nowMs int64) uint64 {
	if int(lane) >= len(o.called) || !o.admits {
		return 0
	}
	more := scheduleFactor * o.perS[lane] * float64(max(nowMs-o.answerMs, 0)) / 1000
	return min(o.called[lane]+uint64(math.Ceil(more)), max(o.totals[lane], o.called[lane]))
}

// left notes a session that ended here; it reports whether its place can be refilled at once. The session's shard is locked.
func (o *outage) left(s *session, nowMs int64) (free bool) {
	if !o.early || o.healed.Load() || !s.home || s.endMs <= max(o.markMs, nowMs) {
		return false
	}
	s.home = false
	o.mu.Lock()
	o.free++
	o.mu.Unlock()
	return true
}

// watchOutage begins an outage when the store has been silent for 3 s, and keeps the view honest during one.
func (r *Room) watchOutage() {
	silent := time.Since(r.flush.lastAnswer)
	if silent < outageAfter {
		r.m.outageSeconds.WithLabelValues(r.name).Set(0)
		return
	}
	r.m.outageSeconds.WithLabelValues(r.name).Set(silent.Seconds())
	snap := r.snap.Load()
	o := r.outage.Load()
	if o == nil && snap.ready() && r.flush.registered {
		o = r.beginOutage(snap)
		r.outage.Store(o)
		r.log.Warn("store does not answer: this edge goes on with its own places", "silent", silent, "until_ms", o.boundMs, "early", o.early)
	}
	over := o != nil && r.storeNow() >= o.boundMs
	next := *snap
	next.view = next.makeView(r.name, snap.view.StoreMs, true, over)
	r.snap.Store(&next)
	r.door.signal()
}

func (r *Room) beginOutage(snap *snapshot) *outage {
	b, set := snap.books[snap.current()], snap.control.Settings
	o := &outage{
		since: time.Now(), markMs: r.flush.markMs, boundMs: r.flush.markMs + set.OutageBoundMs,
		early: snap.settings.OutageMode == room.OutageEarly, answerMs: snap.control.StoreMs,
		admits: snap.settings.Mode.Admits() && set.Pause == "",
		called: make([]uint64, len(b.lanes)), totals: make([]uint64, len(b.lanes)), perS: make([]float64, len(b.lanes)),
	}
	copy(o.perS, snap.forecast.Velocity)
	for i, l := range b.lanes {
		o.called[i], o.totals[i] = l.Called, b.ledgers[i].Total()
	}
	home := int64(0)
	r.sessions.each(func(s *session) bool {
		if s.home {
			home++
		}
		return true
	})
	if set.RatePerSecond > 0 {
		share := float64(max(home, 1)) / float64(max(snap.control.Active, home, 1))
		o.perGrant = int64(1000 / (set.RatePerSecond * share))
	}
	return o
}

// heal ends an outage; the next flush carries what was done alone. The caller has an answer from the store.
func (r *Room) heal() {
	o := r.outage.Load()
	if o == nil {
		return
	}
	o.mu.Lock() // waits for a grant in progress
	o.healed.Store(true)
	o.mu.Unlock()
	r.outage.Store(nil)
	now := r.storeNow()
	// Leases that were prolonged alone must reach the store in the same flush as the next mark, or they would be swept.
	for i := range r.sessions.shards {
		sh := &r.sessions.shards[i]
		sh.mu.Lock()
		for _, s := range sh.byID {
			if s.alone && s.home && s.renewable(now) {
				sh.wish(s, now)
			}
			if s.ended {
				s.home = false
			}
		}
		sh.mu.Unlock()
	}
	r.log.Info("store answers again", "away", time.Since(o.since))
}

// extendAlone prolongs a session in use without the store, within the outage bound. The session's shard is locked.
func (r *Room) extendAlone(s *session, nowMs int64) {
	o := r.outage.Load()
	if o == nil || o.healed.Load() || s.endMs <= o.markMs {
		return
	}
	end := min(nowMs+r.snap.Load().control.Settings.IdleMs, s.stayMs, o.boundMs)
	if end > s.endMs {
		s.endMs, s.grantedMs, s.alone = end, nowMs, true
	}
}

// admitAlone refills this edge's own places with the first of those parked.
func (r *Room) admitAlone(o *outage) {
	const leastMs = 2_000 // a pass shorter than this helps nobody
	now := r.storeNow()
	r.reclaim(o, now)
	set := r.snap.Load().control.Settings
	for {
		o.mu.Lock()
		able := o.free > 0 && !o.healed.Load() && o.admits && now >= o.nextMs && o.boundMs-now >= leastMs
		o.mu.Unlock()
		if !able {
			break
		}
		batch, _ := r.door.take(1, time.Now())
		if len(batch) == 0 {
			break
		}
		p := batch[0]
		if p.claim.Enter {
			r.answerAlone(p, outcome{status: queue.ClaimQueue})
			continue
		}
		if p.claim.Rank >= o.schedule(p.claim.Lane, now) {
			r.door.mu.Lock()
			p.last = outcome{status: queue.ClaimEarly, retry: 2 * time.Second}
			r.door.putBack(p)
			r.door.mu.Unlock()
			break
		}
		r.answerAlone(p, r.grantAlone(o, p.claim, now, set))
	}
	r.door.pause(errorPause)
}

func (r *Room) answerAlone(p *parked, out outcome) {
	if out.status == queue.ClaimOK {
		r.m.doorSeconds.WithLabelValues(r.name).Observe(time.Since(p.since).Seconds())
	}
	r.door.mu.Lock()
	r.door.answer(p, out)
	r.door.mu.Unlock()
}

// reclaim counts the places of this edge whose lease has run out since the mark.
func (r *Room) reclaim(o *outage, nowMs int64) {
	freed := 0
	r.sessions.each(func(s *session) bool {
		// A renewal whose answer was lost may have reached the store: the place is as long as that not ours to give.
		if end := max(s.endMs, s.maybeMs); !s.home || s.endMs <= o.markMs || end > nowMs {
			return true
		}
		s.home = false
		freed++
		return s.outage != nil || s.ended // still to be reported, or remembered
	})
	o.mu.Lock()
	o.free += freed
	o.mu.Unlock()
}

// grantAlone turns one free place of this edge into a session.
func (r *Room) grantAlone(o *outage, c queue.Claim, now int64, set queue.Settings) (out outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.healed.Load() {
		return outcome{retry: time.Second}
	}
	r.sessions.with(c.Session, true, func(s *session) {
		switch {
		case s.ended:
			out = outcome{status: queue.ClaimSpent}
			return
		case s.endMs > now: // inside already
			out = outcome{status: queue.ClaimOK, endMs: s.endMs, stayMs: s.stayMs}
			return
		}
		s.stayMs = now + set.StayMaxMs
		s.endMs = min(now+set.FirstLeaseMs, s.stayMs, o.boundMs)
		s.grantedMs, s.home, s.used, s.alone = now, true, false, true
		s.outage = &queue.OutageGrant{Spent: queue.SpentStamp{Line: c.Line, Stamp: c.Stamp, Who: c.Who, WhoKind: c.WhoKind}}
		o.free--
		o.nextMs = max(o.nextMs, now-1000) + o.perGrant
		out = outcome{status: queue.ClaimOK, endMs: s.endMs, stayMs: s.stayMs}
		r.alone.Store(true)
		r.m.outageGrants.WithLabelValues(r.name).Inc()
	})
	return out
}

// collectAlone lists the sessions granted alone that the store has not confirmed yet, once it answers again.
func (r *Room) collectAlone() (grants []queue.OutageGrant) {
	if r.outage.Load() != nil || !r.alone.Load() {
		return nil
	}
	inc := r.incarnation()
	r.sessions.each(func(s *session) bool {
		if s.outage != nil {
			g := *s.outage
			g.Lease = queue.Lease{Session: s.id, EndMs: s.endMs, StayMs: s.stayMs, Home: inc}
			grants = append(grants, g)
		}
		return true
	})
	if len(grants) == 0 {
		r.alone.Store(false)
	}
	return grants
}

// outageReported forgets the grants that a flush has brought to the store.
func (r *Room) outageReported(grants []queue.OutageGrant) {
	for _, g := range grants {
		r.sessions.with(g.Lease.Session, false, func(s *session) {
			if s != nil {
				s.outage = nil
			}
		})
	}
}

// tail is what this agent holds of the ledger beyond what the store knows, as one seal.
func (b *book) tail(c queue.Control) []queue.SealedRange {
	from := c.Sealed
	if c.Line() != b.opened.Record.Line {
		from = 0
	}
	if b.sealed <= from {
		return nil
	}
	s := queue.SealedRange{Line: b.opened.Record.Line, From: from, To: b.sealed, Chain: b.chain}
	for _, l := range b.ledgers {
		s.Counts = append(s.Counts, l.Counts(from, b.sealed))
	}
	return []queue.SealedRange{s}
}
