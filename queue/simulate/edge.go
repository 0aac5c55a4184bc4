package simulate

import (
	"slices"

	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/pace"
)

// edge is one edge process: what it has not reported yet, its door, and the places it is home to.
type edge struct {
	id          int
	inc         line.Incarnation
	seq         uint32
	offset      int32 // error of its clock, ms
	deadAt      int32
	reaped      bool
	pausedUntil int32

	unreported []int32 // stamps
	complete   line.Window
	renewals   []renewal
	ends       []int32
	expired    []slot // places whose pass is over and whose lease soon is
	arrivals   [len(pace.AgeBoundsMs) + 1]float64

	door       door
	attempting bool
	parked     int // as last reported

	seenMs   int32 // last flush that the store answered
	applied  int64 // end feed position applied
	reported int64 // and reported

	// While the store is gone.
	cutAt  int32 // first flush without an answer; -1: none
	markMs int32 // highest mark ever sent
	local  bool  // goes on alone
	free   int   // places of its own that may be refilled
	grants []int32
}

// slot is a place on its way to becoming free.
type slot struct {
	lease  int32
	fan    int32 // -1: the fan has gone on to another place
	local  bool  // the edge may have refilled it while it was alone
	stored bool  // the store counts it
}

type renewal struct {
	fan   int32
	until int32
}

func (w *world) attemptSoon(e *edge, in int32) {
	if !e.attempting {
		e.attempting = true
		w.wheel.add(w.now+in, evAttempt, int32(e.id), 0)
	}
}

// flush is an edge's report to the store and the store's answer.
func (w *world) flush(e *edge) {
	if e.deadAt >= 0 {
		return
	}
	if e.pausedUntil > w.now {
		w.wheel.add(e.pausedUntil, evFlush, int32(e.id), 0)
		return
	}
	w.wheel.add(w.now+flushEveryMs, evFlush, int32(e.id), 0)
	e.door.expire(w.now-parkMs, func(i int32) { // asked to come again
		f := &w.fans[i]
		f.state = coming
		w.wheel.add(w.now+w.between(1000, 1500), evCome, i, f.epoch)
	})
	if w.storeDown() {
		if e.cutAt < 0 {
			e.cutAt, e.markMs = w.now, w.now // this flush may have been applied; repeats carry the same mark
		}
		if w.gone && !e.local && w.now-e.cutAt >= silentMs {
			w.goLocal(e)
		}
		w.attempt(e)
		return
	}
	if e.cutAt >= 0 {
		w.heal(e)
	}
	for _, i := range e.unreported {
		w.report(i)
	}
	e.unreported = e.unreported[:0]
	e.complete = line.WindowAt(0, int64(w.now+e.offset))
	for _, r := range e.renewals {
		f := &w.fans[r.fan]
		if f.state != inside || !f.is(stored) || int(f.home) != e.id && f.home != controllerHome {
			continue
		}
		f.home = int16(e.id) // a session of a reaped home finds a new one
		f.lease = max(f.lease, r.until)
		f.pass = f.lease - passMarginMs
		if !f.is(honoured) { // the pass ran out while the renewal was on its way, the lease did not
			e.expired = slices.DeleteFunc(e.expired, func(s slot) bool { return s.fan == r.fan })
			f.flags |= honoured
			w.m.honoured++
			w.wheel.add(f.pass, evLease, r.fan, f.epoch)
		}
	}
	e.renewals = e.renewals[:0]
	for _, i := range e.ends {
		w.store.end(i)
	}
	e.ends = e.ends[:0]
	e.expired = w.sweep(e.expired)
	for b := range e.arrivals {
		w.store.arrivals[b] += e.arrivals[b]
		e.arrivals[b] = 0
	}
	e.parked = e.door.len()
	e.reported = e.applied
	e.applied = w.store.feed
	e.seenMs = w.now
	w.settleEnds()
	w.attempt(e)
}

// attempt sends the claims at an edge's door, lowest rank first, until the store says no.
func (w *world) attempt(e *edge) {
	if e.deadAt >= 0 || e.pausedUntil > w.now || e.door.len() == 0 {
		return
	}
	if e.local {
		for e.free > 0 && e.door.len() > 0 {
			p := e.door.pop()
			f := &w.fans[p.fan]
			if uint64(f.rank) >= w.lanes[f.lane].published {
				w.m.violate(w, "3 a grant beyond the schedule")
			}
			e.free--
			w.admitLocally(e, p.fan)
		}
		return
	}
	if w.storeDown() {
		return
	}
	var kept []parked
	for e.door.len() > 0 {
		p := e.door.pop()
		verdict, waitMs := w.claim(e, p.fan)
		if verdict == claimOK || verdict == claimRefused {
			continue
		}
		kept = append(kept, p)
		if verdict == claimLate {
			continue
		}
		if waitMs > 0 {
			w.attemptSoon(e, waitMs)
		}
		break
	}
	for _, p := range kept {
		e.door.push(p)
	}
}

// goLocal begins to go on without the store: from now on each place of this edge's own sessions is the edge's to refill.
func (w *world) goLocal(e *edge) {
	e.local = true
	e.free = 0
	// A place whose end this edge has seen in the feed, and has told or may have told the store so, may have been freed there: it is no
	// longer the edge's to refill.
	told := map[int32]bool{}
	for _, end := range w.store.endq {
		if f := &w.fans[end.fan]; end.pos <= e.applied && int(f.home) == e.id && f.state == ending {
			f.flags |= localEnd
			told[end.fan] = true
		}
	}
	for i := range e.expired { // whose pass ran out between the mark and now
		s := &e.expired[i]
		if s.fan >= 0 && (told[s.fan] || w.fans[s.fan].state == done) {
			continue
		}
		if s.lease-passMarginMs > e.markMs {
			s.local = true
			e.free++
		}
	}
	for _, i := range e.ends {
		if f := &w.fans[i]; f.leave > e.markMs && f.is(honoured) {
			w.endLocally(e, i)
		}
	}
	limit := e.markMs + ms(w.sc.Room.OutageBoundS)
	for _, r := range e.renewals { // not confirmed by the store: granted locally, within the bound
		if f := &w.fans[r.fan]; f.state == inside && f.is(honoured) && int(f.home) == e.id {
			f.pass = max(f.pass, min(r.until-passMarginMs, limit))
		}
	}
	e.renewals = e.renewals[:0]
}

func (w *world) admitLocally(e *edge, i int32) {
	f := &w.fans[i]
	limit := e.markMs + ms(w.sc.Room.OutageBoundS)
	w.enterRoom(e, i)
	f.pass = min(w.now+ms(w.sc.Room.FirstLeaseS), limit)
	f.lease = f.pass + passMarginMs
	f.flags &^= stored
	e.grants = append(e.grants, i)
	w.wheel.add(f.pass, evLease, i, f.epoch)
	w.checkCap()
}

// endLocally frees the place of a fan who said goodbye while the edge was alone, if the room's mode allows it.
func (w *world) endLocally(e *edge, i int32) {
	f := &w.fans[i]
	if w.sc.Room.OutageMode != "early" || int(f.home) != e.id {
		return
	}
	w.notHonoured(f) // here fans stay at their edge; the protocol counts on those who do not
	f.flags |= localEnd
	e.expired = append(e.expired, slot{lease: f.lease, fan: i, local: true, stored: f.is(stored)})
	e.free++
	w.attemptSoon(e, batchMs)
}

// heal is the first flush after an outage: what the edge did alone becomes the store's. Places that were refilled, or could have
// been, are freed first; then the sessions in them come in. There are never more of the latter.
func (w *world) heal(e *edge) {
	e.cutAt = -1
	if !e.local {
		return
	}
	e.local, e.free = false, 0
	rest := e.expired[:0]
	for _, s := range e.expired {
		switch {
		case !s.local:
			rest = append(rest, s)
		case s.stored:
			w.freePlace(s)
		case s.fan >= 0:
			w.fans[s.fan].state = done
		}
	}
	e.expired = rest
	for _, i := range e.grants {
		f := &w.fans[i]
		if f.state != inside && f.state != ending || f.is(stored) || int(f.home) != e.id {
			continue
		}
		f.flags |= stored
		w.store.act++
	}
	e.grants = e.grants[:0]
	for i := range w.fans { // renewals it made
		if f := &w.fans[i]; f.state == inside && int(f.home) == e.id && f.is(stored) {
			f.lease = max(f.lease, f.pass+passMarginMs)
		}
	}
	w.m.resync(w)
	w.checkCap()
}
