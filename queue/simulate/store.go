package simulate

import (
	"slices"

	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/pace"
)

// store is the room's state as the store's scripts keep it.
type store struct {
	act     int // sessions
	freed   int64
	granted int64
	tickMs  int32

	feed    int64 // last position of the end feed
	endq    []ended
	settled int    // of endq: no edge lets them through any more
	expired []slot // of reaped homes

	tat        float64 // GCRA, ms
	last60     window
	late60     window
	holders    map[int32]bool
	arrivals   [len(pace.AgeBoundsMs) + 1]float64
	seats      int
	sold       int
	ended      int
	spent      map[int32]bool
	lateBudget float64
	lateFloor  int
}

type ended struct {
	fan int32
	pos int64
}

func newStore(sc *Scenario) store {
	s := store{holders: map[int32]bool{}, spent: map[int32]bool{}, lateBudget: sc.Room.LateShare, lateFloor: sc.Room.LateMin}
	if sc.Stock != nil {
		s.seats = sc.Stock.Seats
	}
	return s
}

// window counts events of the last 60 s.
type window struct{ at []int32 }

func (c *window) count(now int32) int {
	i, _ := slices.BinarySearch(c.at, now-60_000+1)
	c.at = c.at[i:]
	return len(c.at)
}

func (c *window) add(now int32) { c.at = append(c.at, now) }

type verdict uint8

const (
	claimOK verdict = iota
	claimFull
	claimRate
	claimStale
	claimEarly
	claimLate
	claimRefused // for good
)

// claim is the claim script for one stamp.
func (w *world) claim(e *edge, i int32) (verdict, int32) {
	f, s, r := &w.fans[i], &w.store, &w.sc.Room
	if w.now-s.tickMs > staleMs {
		return claimStale, 0
	}
	again := f.is(returning)
	if s.spent[i] && !again {
		w.m.violate(w, "2 a stamp claimed twice")
		return claimRefused, 0
	}
	if !again && uint64(f.rank) >= w.lanes[f.lane].called {
		return claimEarly, 0
	}
	if s.act >= r.Cap {
		return claimFull, 0
	}
	if r.RatePerSecond > 0 {
		if due := s.tat - 1000; float64(w.now) < due { // burst of one second
			return claimRate, int32(due-float64(w.now)) + 1
		}
	}
	isLate := !again && f.called >= 0 && f.come-f.called > ms(r.GraceS)
	if isLate && e.door.len() > 0 {
		budget := max(int(s.lateBudget*float64(s.last60.count(w.now))), s.lateFloor)
		if s.late60.count(w.now) >= budget {
			return claimLate, 0
		}
	}
	if r.OnePerHolder && f.holder > 0 && !again {
		if s.holders[f.holder] {
			f.state = done
			w.m.refusedHolders++
			w.m.atDoor--
			return claimRefused, 0
		}
		s.holders[f.holder] = true
	}
	if r.RatePerSecond > 0 {
		s.tat = max(s.tat, float64(w.now)) + 1000/r.RatePerSecond
	}
	if isLate {
		s.late60.add(w.now)
	}
	s.act++
	w.m.taken(w)
	f.flags |= stored
	w.enterRoom(e, i)
	f.lease = min(w.now+ms(r.FirstLeaseS), f.stay)
	f.pass = f.lease - passMarginMs
	w.wheel.add(f.pass, evLease, i, f.epoch)
	w.checkCap()
	return claimOK, 0
}

// enterRoom is what a grant means for a fan, whoever made it.
func (w *world) enterRoom(e *edge, i int32) {
	f := &w.fans[i]
	f.state, f.home = inside, int16(e.id)
	f.flags |= honoured
	w.m.honoured++
	w.store.spent[i] = true
	if !f.is(admitted) {
		f.flags |= admitted
		f.stay = w.now + ms(w.sc.Room.StayMaxS)
		f.leave = min(w.now+w.dwell(), f.stay-1000) // whose stay is over is told so, and leaves
		w.store.granted++
		w.m.grant(w, f)
	}
	f.flags &^= returning | localEnd
	w.store.last60.add(w.now)
	if !f.is(idler) {
		w.wheel.add(min(w.now+w.between(500, 3000), max(f.leave, w.now+1)), evUse, i, f.epoch)
	}
}

func (w *world) checkCap() {
	if over := w.store.act - w.sc.Room.Cap; over > 0 {
		w.m.over(w, over)
	}
	if over := w.m.honoured - w.sc.Room.Cap; over > 0 {
		w.m.over(w, over)
	}
}

// end takes a goodbye into the feed.
func (s *store) end(i int32) {
	s.feed++
	s.endq = append(s.endq, ended{i, s.feed})
}

// settleEnds notes the ends that every living edge has applied: no pass of theirs is honoured from now on.
func (w *world) settleEnds() {
	least := w.store.feed
	for _, e := range w.edges {
		if e.deadAt < 0 {
			least = min(least, e.applied)
		}
	}
	s := &w.store
	for s.settled < len(s.endq) && s.endq[s.settled].pos <= least {
		if f := &w.fans[s.endq[s.settled].fan]; f.state == ending {
			w.notHonoured(f)
		}
		s.settled++
	}
}

// freeEnds is the free script: places whose end every edge not yet reaped has reported to have applied.
func (w *world) freeEnds() {
	s := &w.store
	least := s.feed
	for _, e := range w.edges {
		if !e.reaped {
			least = min(least, e.reported)
		}
	}
	n := 0
	for n < len(s.endq) && s.endq[n].pos <= least {
		i := s.endq[n].fan
		if f := &w.fans[i]; f.state == ending && f.is(stored) {
			w.freePlace(slot{fan: i, stored: true})
		}
		n++
	}
	s.endq = s.endq[n:]
	s.settled = max(s.settled-n, 0)
	s.expired = w.sweep(s.expired)
}

// sweep frees the places whose lease is over and returns the others.
func (w *world) sweep(slots []slot) []slot {
	rest := slots[:0]
	for _, s := range slots {
		if s.lease <= w.now {
			w.freePlace(s)
		} else {
			rest = append(rest, s)
		}
	}
	return rest
}

func (w *world) freePlace(s slot) {
	if s.fan >= 0 {
		f := &w.fans[s.fan]
		if f.state != inside && f.state != ending {
			return // freed before, by the other way
		}
		f.state = done
		w.notHonoured(f)
	}
	if !s.stored {
		return
	}
	w.store.act--
	w.store.freed++
	w.m.freePlace(w)
}

// crash ends an edge for good. Stamps of the last 100 ms become late tickets, its fans go to other edges.
func (w *world) crash(e *edge) {
	e.deadAt = w.now
	for _, i := range e.unreported {
		w.fans[i].flags |= late
		w.report(i)
	}
	e.unreported = nil
	for e.door.len() > 0 {
		p := e.door.pop()
		f := &w.fans[p.fan]
		f.state = coming
		w.wheel.add(w.now+w.between(1000, 3000), evCome, p.fan, f.epoch)
	}
}

// reap takes over the sessions of edges that have been dead for longer than their passes can live.
func (w *world) reap() {
	for _, e := range w.edges {
		if e.deadAt < 0 || e.reaped || w.now-e.seenMs <= ms(w.sc.Room.OutageBoundS)+reapMarginMs {
			continue
		}
		e.reaped = true
		w.store.expired = append(w.store.expired, e.expired...)
		e.expired = nil
		for i := range w.fans {
			if f := &w.fans[i]; int(f.home) == e.id {
				f.home = controllerHome
			}
		}
	}
}

// report adds a stamp to its window's row.
func (w *world) report(i int32) {
	f := &w.fans[i]
	l := w.lanes[f.lane]
	if f.win < w.ctl.sealed || f.is(late) {
		f.flags |= late
		w.m.late++
		l.stragglers = append(l.stragglers, i)
		return
	}
	n := int(f.win - w.ctl.sealed)
	for len(l.rows) <= n {
		l.rows = append(l.rows, nil)
	}
	l.rows[n] = append(l.rows[n], i)
}

// sealable is the window up to which all edges that are not silent have reported.
func (w *world) sealable() line.Window {
	to := line.WindowAt(0, int64(w.now))
	for _, e := range w.edges {
		if w.now-e.seenMs < silentMs {
			to = min(to, e.complete)
		}
	}
	return to
}
