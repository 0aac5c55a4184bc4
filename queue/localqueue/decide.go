package localqueue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// Limits of one step, the same in every store.
const (
	sweepAtOnce  = 2000 // sessions freed by one flush or free
	trimAtOnce   = 200  // lapsed sessions forgotten by one flush
	feedAtOnce   = 4096
	sealsAtOnce  = 6000 // windows of seals in one reply
	sealRanges   = 64
	livingMs     = 3000 // an edge heard of so recently counts as living
	staleMs      = 3000 // claims stop when the last call is older
	leaderDeadMs = 1500
)

// checkGen lets a step through when the caller believes in the store's gen.
func (r *room) checkGen(gen string) error {
	if gen == "" || gen != r.gen {
		return &queue.GenError{Gen: r.gen}
	}
	return nil
}

// checkPrepare is checkGen for the steps by which a leader prepares a room whose gen is unset.
func (r *room) checkPrepare(gen, token string) error {
	if gen != r.gen {
		return &queue.GenError{Gen: r.gen}
	}
	return r.checkToken(token)
}

func (r *room) checkToken(token string) error {
	if token == "" || token != r.token {
		return queue.ErrNotLeader
	}
	return nil
}

func (r *room) checkLeader(gen, token string) error {
	if err := r.checkGen(gen); err != nil {
		return err
	}
	return r.checkToken(token)
}

// current is the current line's state; nil before the first.
func (r *room) current() *lineState {
	if len(r.lines) == 0 {
		return nil
	}
	return r.byLine[r.lines[len(r.lines)-1]]
}

// claimable is a current or honoured line.
func (r *room) claimable(id line.ID) *lineState {
	if !contains(r.lines, id) {
		return nil
	}
	return r.byLine[id]
}

func (l *lineState) control() []queue.LaneControl {
	out := make([]queue.LaneControl, len(l.lanes))
	for i := range l.lanes {
		x := &l.lanes[i]
		out[i] = queue.LaneControl{Called: x.called, Due: x.due, Total: x.total()}
	}
	return out
}

func (r *room) control(nowMs int64) queue.Control {
	c := queue.Control{
		Gen: r.gen, Token: r.token, BeatMs: r.beat, TickMs: r.tick, StoreMs: nowMs, Lines: slices.Clone(r.lines), Open: r.open,
		Active: r.active, Late: r.late, Settings: r.settings, Forecast: r.forecast,
	}
	r.ring.advance(nowMs)
	c.Granted60 = r.ring.sumAll
	if l := r.current(); l != nil {
		c.Lanes, c.Sealed, c.Chain = l.control(), l.sealed, l.chain
	}
	if len(r.lines) > 1 {
		c.Honoured = map[line.ID][]queue.LaneControl{}
		for _, id := range r.lines[:len(r.lines)-1] {
			c.Honoured[id] = r.byLine[id].control()
		}
	}
	return c
}

// flush applies an edge's report.
func (r *room) flush(nowMs int64, f *queue.Flush) (queue.FlushReply, error) {
	if err := r.checkGen(f.Gen); err != nil {
		return queue.FlushReply{}, err
	}
	digest := f.Digest()
	e := r.edges[f.Edge]
	repeat := false
	switch {
	case f.Edge == 0:
		return queue.FlushReply{}, errors.New("flush without an edge")
	case e == nil && f.No > 1:
		return queue.FlushReply{Control: r.control(nowMs), Reaped: true, Replicated: true}, nil
	case e == nil:
		e = &edge{moves: map[line.SessionID]int64{}}
		r.edges[f.Edge] = e
	case f.No == e.no && e.digest == digest && e.seen != 0:
		repeat = true
	case f.No <= e.no && e.digest != 0:
		return queue.FlushReply{}, queue.ErrClone
	}
	e.label, e.no, e.digest, e.seen = f.Label, f.No, digest, nowMs
	e.mark, e.cursor = max(e.mark, f.MarkMs), max(e.cursor, f.Cursor)
	e.parked, e.bye = slices.Clone(f.Parked), e.bye || f.Bye
	cur := r.current()
	var sealedSeen line.Window
	if cur != nil && (f.Line.IsZero() || f.Line == cur.id) {
		if e.line != cur.id {
			e.line, e.complete = cur.id, 0
		}
		e.complete = max(e.complete, f.Complete)
		sealedSeen = f.SealedSeen
	} else {
		e.line, e.complete = f.Line, f.Complete
	}
	r.report(f, repeat)
	r.applyMoves(f.Edge, e)
	for i := range f.Outage {
		r.restoreSession(f.Edge, f.Outage[i].Lease)
		r.restoreStamp(&f.Outage[i].Spent)
	}
	reply := queue.FlushReply{Replicated: true}
	for _, ren := range f.Renewals {
		if lease, ok := r.renew(nowMs, f.Edge, ren); ok {
			reply.Leases = append(reply.Leases, lease)
		}
	}
	for _, sid := range f.Ends {
		r.end(nowMs, sid)
	}
	r.sweep(f.Edge, min(e.mark, nowMs))
	r.trim(nowMs)

	reply.Control = r.control(nowMs)
	if cur != nil {
		reply.Seals = cur.sealsFrom(sealedSeen)
	}
	reply.Feed = r.feedAfter(f.Cursor)
	return reply, nil
}

// report takes rows and arrivals.
func (r *room) report(f *queue.Flush, repeat bool) {
	for _, row := range f.Rows {
		l := r.byLine[row.Line]
		if l == nil || l.retired != 0 || int(row.Lane) >= len(l.lanes) || row.Count == 0 {
			continue
		}
		k := rowKey{row.Lane, row.Edge}
		if k.edge == 0 {
			k.edge = f.Edge
		}
		had := l.rows[row.Win][k]
		if row.Count <= had {
			continue
		}
		if row.Win < l.sealed {
			if !repeat {
				r.addLate(int64(row.Count - had))
			}
			if row.Win >= l.rowsFrom {
				r.setRow(l, row.Win, k, row.Count)
			}
		} else {
			r.setRow(l, row.Win, k, row.Count)
		}
		r.setOpen(false)
	}
	if repeat {
		return
	}
	for _, a := range f.Arrivals {
		r.arrivals[arrivalKey{f.Edge, a.Lane, a.AgeMs}] += a.Count
	}
}

// applyMoves lets sessions go whose old home has seen the move.
func (r *room) applyMoves(home line.Incarnation, e *edge) {
	for sid, pos := range e.moves {
		if pos > e.cursor {
			continue
		}
		r.applyMove(sid)
	}
}

func (r *room) applyMove(sid line.SessionID) {
	s := r.sx[sid]
	m := s.move
	_, end, _ := r.where(sid, s)
	r.rehome(sid, s, m.to, max(end, min(m.until, s.stay)))
}

// renew decides one renewal. ok is false while the answer has to wait for the session's home.
func (r *room) renew(nowMs int64, from line.Incarnation, ren queue.Renewal) (lease queue.Lease, ok bool) {
	gone := queue.Lease{Session: ren.Session}
	s := r.sx[ren.Session]
	if s == nil || s.ended {
		return gone, true
	}
	set, end, own := r.where(ren.Session, s)
	if set == nil {
		return gone, true
	}
	until := min(nowMs+r.settings.IdleMs, s.stay)
	if ren.UntilMs > 0 {
		until = min(until, ren.UntilMs)
	}
	until = max(until, end)
	switch {
	case own && s.home == from:
		r.setLease(ren.Session, s, until)
	case !own:
		r.rehome(ren.Session, s, from, until)
	case s.move == nil:
		pos := r.nextPosition(nowMs)
		s.move = &move{to: from, pos: pos, until: until}
		r.edges[s.home].moves[ren.Session] = pos
		r.feed = append(r.feed, queue.FeedEntry{Position: pos, Session: ren.Session, Kind: queue.FeedMoved, NewHome: from})
		return queue.Lease{}, false
	case s.move.to == from:
		s.move.until = max(s.move.until, until)
		return queue.Lease{}, false
	default:
		return queue.Lease{}, false
	}
	return queue.Lease{Session: ren.Session, EndMs: until, StayMs: s.stay, Home: from}, true
}

// end ends a session, wherever it lives. One that has lapsed may no longer return.
func (r *room) end(nowMs int64, sid line.SessionID) {
	s := r.sx[sid]
	if s == nil || s.ended {
		return
	}
	set, end, _ := r.where(sid, s)
	if set == nil {
		r.forget(sid)
		return
	}
	r.endSession(sid, s, end, r.nextPosition(nowMs))
}

// sweep frees the places of one set whose lease ended at or before until.
func (r *room) sweep(home line.Incarnation, until int64) int {
	n := 0
	r.holds(home).popUntil(until, sweepAtOnce, func(sid line.SessionID, end int64) {
		n++
		r.active--
		r.freed++
		s := r.sx[sid]
		if s == nil || s.ended {
			return
		}
		if other, _, _ := r.where(sid, s); other != nil {
			return // this was an old place of a session that lives elsewhere
		}
		if _, done := r.lapsed.get(sid); !done {
			r.lapse(sid, s, end)
		}
	})
	return n
}

// trim forgets what is too old.
func (r *room) trim(nowMs int64) {
	r.lapsed.popUntil(nowMs-r.settings.ReturnMs, trimAtOnce, func(sid line.SessionID, _ int64) { r.forget(sid) })
	old := 0
	for old < len(r.feed) && r.feed[old].Position < (nowMs-feedKeepMs)*feedUnit {
		old++
	}
	if old > 0 {
		r.feed = slices.Delete(r.feed, 0, old)
		r.touch(partKey{kind: partFeed})
	}
}

func (r *room) feedAfter(cursor int64) []queue.FeedEntry {
	i, _ := slices.BinarySearchFunc(r.feed, cursor+1, func(e queue.FeedEntry, pos int64) int {
		switch {
		case e.Position < pos:
			return -1
		case e.Position > pos:
			return 1
		}
		return 0
	})
	return slices.Clone(r.feed[i:min(len(r.feed), i+feedAtOnce)])
}

// sealsFrom returns the seals after the first seen windows, as they were made. The links of older ones are not kept: then the
// first range begins later.
func (l *lineState) sealsFrom(seen line.Window) []queue.SealedRange {
	var out []queue.SealedRange
	kept := l.seals[max(0, len(l.seals)-keepSeals):]
	for i := range kept {
		s := &kept[i]
		if s.to <= seen {
			continue
		}
		if len(out) == sealRanges || (len(out) > 0 && s.to-out[0].From > sealsAtOnce) {
			break
		}
		out = append(out, l.sealedRange(s.from, s.to, s.chain))
	}
	return out
}

func (l *lineState) sealedRange(from, to line.Window, chain [32]byte) queue.SealedRange {
	g := queue.SealedRange{Line: l.id, From: from, To: to, Chain: chain, Counts: make([][]uint64, len(l.lanes))}
	for i := range l.lanes {
		b := l.lanes[i].bases
		for w := from; w < to; w++ {
			g.Counts[i] = append(g.Counts[i], b[w+1]-b[w])
		}
	}
	return g
}

// claim decides a batch of claims, in order. No refusal has a partial effect.
func (r *room) claim(nowMs int64, b *queue.ClaimBatch) ([]queue.ClaimResult, error) {
	if err := r.checkGen(b.Gen); err != nil {
		return nil, err
	}
	if _, ok := r.edges[b.Edge]; !ok {
		return nil, queue.ErrUnknownEdge
	}
	r.ring.advance(nowMs)
	out := make([]queue.ClaimResult, len(b.Claims))
	for i := range b.Claims {
		out[i] = r.claimOne(nowMs, b, &b.Claims[i])
	}
	return out, nil
}

func (r *room) claimOne(nowMs int64, b *queue.ClaimBatch, c *queue.Claim) queue.ClaimResult {
	if nowMs-r.tick > staleMs {
		return queue.ClaimResult{Status: queue.ClaimStale}
	}
	l := r.claimable(c.Line)
	if l == nil {
		return queue.ClaimResult{Status: queue.ClaimOtherLine}
	}
	set := &r.settings
	if set.Pause != "" && !c.Enter {
		return queue.ClaimResult{Status: queue.ClaimPaused}
	}
	stay := nowMs + set.StayMaxMs
	returning := false
	if l.isSpent(c.Stamp) {
		alive, end, old := r.known(nowMs, c.Session)
		switch {
		case alive:
			return queue.ClaimResult{Status: queue.ClaimOK, EndMs: end, StayMs: old, Again: true}
		case old == 0:
			return queue.ClaimResult{Status: queue.ClaimSpent}
		}
		returning, stay = true, old
	}
	lease := set.FirstLeaseMs
	if c.Enter {
		lease = set.EnterLeaseMs
		if !r.open || set.Pause != "" || c.Line != r.lines[len(r.lines)-1] || float64(r.active) >= 0.95*float64(set.Cap) {
			return queue.ClaimResult{Status: queue.ClaimQueue}
		}
	} else if !returning {
		var called uint64
		if int(c.Lane) < len(l.lanes) {
			called = l.lanes[c.Lane].called
		}
		if c.Rank >= called {
			return queue.ClaimResult{Status: queue.ClaimEarly, Called: called}
		}
	}
	if r.active >= set.Cap {
		return queue.ClaimResult{Status: queue.ClaimFull}
	}
	tat := r.tat
	if set.RatePerSecond > 0 {
		gap := 1000 / set.RatePerSecond
		tat = max(tat, float64(nowMs)) + gap
		if wait := tat - float64(nowMs) - max(set.BurstS*1000, gap); wait > 0 {
			return queue.ClaimResult{Status: queue.ClaimRate, RetryMs: int64(math.Ceil(wait))}
		}
	}
	group, wait := r.share(nowMs, c.Group)
	if wait > 0 {
		return queue.ClaimResult{Status: queue.ClaimShare, RetryMs: wait}
	}
	late := c.Door == line.DoorLate && !c.Enter
	if late && b.Parked && float64(r.ring.sumLate) >= max(float64(set.LateFloor), set.LateShare*float64(r.ring.sumAll)) {
		return queue.ClaimResult{Status: queue.ClaimLate, RetryMs: 1000 - nowMs%1000}
	}
	var who *line.Who
	if c.WhoKind != line.WhoNone && !c.Enter {
		if l.holders.has(c.Who) && !returning {
			return queue.ClaimResult{Status: queue.ClaimHolder}
		}
		who = &c.Who
	}
	end := min(nowMs+lease, stay)
	r.grant(l, b.Edge, grant{stamp: c.Stamp, who: who, sid: c.Session, end: end, stay: stay, tat: tat, late: late}, nowMs)
	if c.Group != "" {
		group.n++
		r.groups[c.Group] = group
	}
	return queue.ClaimResult{Status: queue.ClaimOK, EndMs: end, StayMs: stay, Again: returning}
}

// known says what a spent stamp's session is: alive with its lease end; or free to return (stay is set); or over for good.
func (r *room) known(nowMs int64, sid line.SessionID) (alive bool, end, stay int64) {
	s := r.sx[sid]
	if s == nil || s.ended {
		return false, 0, 0
	}
	set, end, _ := r.where(sid, s)
	if set == nil {
		end, _ = r.lapsed.get(sid)
	} else if end > nowMs {
		return true, end, s.stay
	}
	if s.stay <= nowMs || nowMs-end >= r.settings.ReturnMs {
		return false, 0, 0
	}
	return false, end, s.stay
}

// share says how long a network group has to wait because it used its share of the grants; 0: it may go on.
func (r *room) share(nowMs int64, group string) (groupCount, int64) {
	if group == "" {
		return groupCount{}, 0
	}
	g := r.groups[group]
	if nowMs-g.start >= 60_000 {
		g = groupCount{start: nowMs}
	}
	set := &r.settings
	if set.NetworkShare > 0 && float64(g.n) >= max(float64(set.NetworkFloor), set.NetworkShare*float64(r.ring.sumAll)) {
		return g, g.start + 60_000 - nowMs
	}
	return g, 0
}

// dropGroups forgets network groups whose minute is over.
func (r *room) dropGroups(nowMs int64) {
	for k, g := range r.groups {
		if nowMs-g.start >= 60_000 {
			delete(r.groups, k)
		}
	}
}

func (r *room) lead(nowMs int64, old, token string) error {
	if token == "" {
		return errors.New("lead: empty token")
	}
	if r.token != token && (r.token != old || nowMs-r.beat <= leaderDeadMs) {
		return queue.ErrNotLeader
	}
	if r.token != token {
		r.setToken(token)
	}
	r.beat = nowMs
	return nil
}

func (r *room) beatNow(nowMs int64, token string) error {
	if err := r.checkToken(token); err != nil {
		return err
	}
	r.beat = nowMs
	return nil
}

func (r *room) regen(token, next string) error {
	if err := r.checkToken(token); err != nil {
		return err
	}
	if r.gen == next {
		return nil
	}
	r.setGen(next)
	if next != "" { // cursors count within one gen
		for _, e := range r.edges {
			e.cursor = 0
		}
	}
	return nil
}

// restore adds what an edge knows after a failover.
func (r *room) restore(nowMs int64, in *queue.Restore) error {
	if r.gen != "" {
		return queue.ErrGenSet
	}
	if in.Edge == 0 {
		return errors.New("restore without an edge")
	}
	e := r.edges[in.Edge]
	if e == nil {
		e = &edge{moves: map[line.SessionID]int64{}}
		r.edges[in.Edge] = e
	}
	e.label, e.seen = in.Label, nowMs
	for _, s := range in.Seals {
		l := r.byLine[s.Line]
		if l == nil || s.To <= l.sealed || s.From > l.sealed || len(s.Counts) != len(l.lanes) || !evenCounts(s.Counts, s.From, s.To) {
			continue
		}
		counts := make([][]uint64, len(s.Counts))
		for i := range counts {
			counts[i] = s.Counts[i][l.sealed-s.From:]
		}
		r.seal(l, l.sealed, s.To, counts, s.Chain)
	}
	for id, called := range in.Called {
		l := r.byLine[id]
		if l == nil {
			continue
		}
		for i, x := range called {
			if i < len(l.lanes) && x > l.lanes[i].called && x <= l.lanes[i].total() {
				r.setCalled(l, uint8(i), x, l.lanes[i].due)
			}
		}
	}
	for _, s := range in.Sessions {
		r.restoreSession(in.Edge, s)
	}
	for i := range in.Spent {
		r.restoreStamp(&in.Spent[i])
	}
	return nil
}

func (r *room) restoreStamp(s *queue.SpentStamp) {
	l := r.claimable(s.Line)
	if l == nil {
		return
	}
	var who *line.Who
	if s.WhoKind != line.WhoNone {
		who = &s.Who
	}
	r.restoreSpent(l, s.Stamp, who)
}

func evenCounts(counts [][]uint64, from, to line.Window) bool {
	for _, c := range counts {
		if len(c) != int(to-from) {
			return false
		}
	}
	return true
}

// restoreSession adds a session that an edge says is its own, or gives a known one the later lease and its home.
func (r *room) restoreSession(from line.Incarnation, in queue.Lease) {
	s := r.sx[in.Session]
	if s == nil {
		r.restorePlace(in.Session, from, in.EndMs, in.StayMs)
		return
	}
	if s.ended {
		return
	}
	set, end, _ := r.where(in.Session, s)
	if set == nil { // lapsed here, alive there
		r.restorePlace(in.Session, from, in.EndMs, max(in.StayMs, s.stay))
		return
	}
	if in.EndMs > end {
		r.rehome(in.Session, s, from, in.EndMs)
	}
}

func (r *room) seals(s *queue.Seal) error {
	if err := r.checkLeader(s.Gen, s.Token); err != nil {
		return err
	}
	l := r.byLine[s.Line]
	switch {
	case l == nil:
		return queue.ErrNoLine
	case s.To <= s.From || len(s.Counts) != len(l.lanes) || !evenCounts(s.Counts, s.From, s.To):
		return fmt.Errorf("seal of windows [%d, %d) has counts for %d of %d lanes or of the wrong length", s.From, s.To, len(s.Counts), len(l.lanes))
	case s.To == l.sealed && s.Next == l.chain: // a repetition
		return nil
	case s.From != l.sealed || s.Prev != l.chain || l.retired != 0:
		return queue.ErrChain
	}
	r.seal(l, s.From, s.To, s.Counts, s.Next)
	return nil
}

// call moves lanes forward: all of them or none.
func (r *room) call(nowMs int64, c *queue.Call) (queue.CallReply, error) {
	if err := r.checkLeader(c.Gen, c.Token); err != nil {
		return queue.CallReply{}, err
	}
	type step struct {
		l      *lineState
		called []uint64
	}
	var steps []step
	add := func(id line.ID, called []uint64) error {
		l := r.claimable(id)
		if l == nil {
			return queue.ErrNoLine
		}
		if len(called) > len(l.lanes) {
			return fmt.Errorf("call of %d lanes, line has %d", len(called), len(l.lanes))
		}
		for i, x := range called {
			if x < l.lanes[i].called || x > l.lanes[i].total() {
				return queue.ErrBackwards
			}
		}
		steps = append(steps, step{l, called})
		return nil
	}
	if !c.Line.IsZero() {
		if err := add(c.Line, c.Called); err != nil {
			return queue.CallReply{}, err
		}
	}
	for id, called := range c.Honoured {
		if err := add(id, called); err != nil {
			return queue.CallReply{}, err
		}
	}
	for _, s := range steps {
		for i, x := range s.called {
			r.callLane(nowMs, s.l, uint8(i), x)
		}
	}
	r.tick, r.beat, r.forecast = nowMs, nowMs, slices.Clone(c.Forecast)
	reply := queue.CallReply{StoreMs: nowMs, Active: r.active, Parked: r.parked(nowMs), FreedTotal: r.freed, GrantedTotal: r.granted}
	sum := map[arrivalKey]uint32{}
	for k, n := range r.arrivals {
		sum[arrivalKey{lane: k.lane, age: k.age}] += n
	}
	clear(r.arrivals)
	for k, n := range sum {
		reply.Arrivals = append(reply.Arrivals, queue.Arrival{Lane: k.lane, AgeMs: k.age, Count: n})
	}
	sortArrivals(reply.Arrivals)
	r.dropGroups(nowMs)
	return reply, nil
}

func sortArrivals(a []queue.Arrival) {
	slices.SortFunc(a, func(x, y queue.Arrival) int {
		if x.Lane != y.Lane {
			return int(x.Lane) - int(y.Lane)
		}
		return int(x.AgeMs - y.AgeMs)
	})
}

// callLane moves one lane and remembers when, so that `due` follows it a grace period later.
func (r *room) callLane(nowMs int64, l *lineState, i uint8, called uint64) {
	x := &l.lanes[i]
	if called != x.called || (len(x.history) == 0 && x.due < x.called) {
		x.history = append(x.history, calledAt{nowMs, called})
	}
	due, old := x.due, 0
	for old < len(x.history) && x.history[old].ms <= nowMs-r.settings.GraceMs {
		due = x.history[old].called
		old++
	}
	x.history = slices.Delete(x.history, 0, old)
	r.setCalled(l, i, called, max(due, x.due))
}

// parked sums the claims that wait at the doors of living edges, per lane.
func (r *room) parked(nowMs int64) []int64 {
	var out []int64
	for _, e := range r.edges {
		if e.bye || nowMs-e.seen > livingMs {
			continue
		}
		for i, n := range e.parked {
			for len(out) <= i {
				out = append(out, 0)
			}
			out[i] += n
		}
	}
	return out
}

// free gives back ended places that every edge has heard of, or whose lease is over for their home too, and sweeps the
// controller's own set.
func (r *room) free(nowMs int64) int {
	all := int64(math.MaxInt64)
	for _, e := range r.edges {
		all = min(all, e.cursor)
	}
	n := 0
	for sid := range r.ended {
		s := r.sx[sid]
		mark := nowMs
		if e := r.edges[s.home]; e != nil {
			mark = min(e.mark, nowMs)
		}
		if s.pos <= all || s.end <= mark {
			r.freeEnded(sid)
			n++
		}
	}
	return n + r.sweep(0, nowMs)
}

// reap takes an edge's sessions over.
func (r *room) reap(nowMs int64, inc line.Incarnation, silentMs int64, at bool) int {
	e := r.edges[inc]
	if e == nil || (!at && !e.bye && nowMs-e.seen <= silentMs) {
		return 0
	}
	n := r.holds(inc).len()
	moves := make([]line.SessionID, 0, len(e.moves))
	for sid := range e.moves {
		moves = append(moves, sid)
	}
	for _, sid := range moves {
		r.applyMove(sid)
	}
	delete(r.edges, inc)
	if set := r.slots[inc]; set != nil {
		for sid, end := range set.end {
			if old, ok := r.slots[0].get(sid); ok {
				end = max(end, old)
				r.active--
			}
			r.slots[0].set(sid, end)
		}
		delete(r.slots, inc)
	}
	for k := range r.arrivals {
		if k.edge == inc {
			delete(r.arrivals, k)
		}
	}
	return n
}

// openRoom lets arrivals enter without a ticket.
func (r *room) openRoom(nowMs int64) error {
	if len(r.lines) == 0 {
		return queue.ErrNoLine
	}
	for _, id := range r.lines {
		l := r.byLine[id]
		if l.rowEnd > l.sealed {
			return queue.ErrNotIdle
		}
		for i := range l.lanes {
			if l.lanes[i].called != l.lanes[i].total() {
				return queue.ErrNotIdle
			}
		}
	}
	for _, n := range r.parked(nowMs) {
		if n > 0 {
			return queue.ErrNotIdle
		}
	}
	if float64(r.active) >= 0.9*float64(r.settings.Cap) {
		return queue.ErrNotIdle
	}
	r.setOpen(true)
	return nil
}

func (r *room) start(nowMs int64, s *queue.LineState) error {
	if s.Line.IsZero() || len(s.Lanes) == 0 || len(s.Lanes) > 256 {
		return fmt.Errorf("start line %s with %d lanes: want an id and 1 to 256 lanes", s.Line, len(s.Lanes))
	}
	if l := r.byLine[s.Line]; l != nil {
		if r.current() != l {
			return fmt.Errorf("start line %s: it was started before and is not current", s.Line)
		}
		return r.updateLine(l, s.Published)
	}
	return r.startLine(*s, nowMs)
}

func (r *room) lineState(id line.ID) (queue.LineState, error) {
	l := r.byLine[id]
	if l == nil {
		return queue.LineState{}, queue.ErrNoLine
	}
	return queue.LineState{
		Line: id, Published: l.published, Honours: slices.Clone(l.honours), Lanes: l.control(), Sealed: l.sealed, Chain: l.chain,
	}, nil
}

// chunk encodes ledger chunk c of a lane as line.Ledger.AppendChunk does.
func (l *lineState) chunk(lane uint8, c uint32) []byte {
	from := uint64(c) * line.ChunkWindows
	if int(lane) >= len(l.lanes) || from >= uint64(l.sealed) {
		return nil
	}
	bases := l.lanes[lane].bases[from : min(from+line.ChunkWindows, uint64(l.sealed))+1]
	out := make([]byte, 0, 8*len(bases))
	for _, b := range bases {
		out = binary.BigEndian.AppendUint64(out, b)
	}
	return out
}

func (l *lineState) unsealed(from, to line.Window) []queue.Row {
	var out []queue.Row
	for w, rows := range l.rows {
		if w < max(from, l.sealed) || w >= to {
			continue
		}
		for k, n := range rows {
			out = append(out, queue.Row{Line: l.id, Edge: k.edge, Win: w, Lane: k.lane, Count: n})
		}
	}
	slices.SortFunc(out, func(a, b queue.Row) int {
		switch {
		case a.Win != b.Win:
			return int(a.Win) - int(b.Win)
		case a.Lane != b.Lane:
			return int(a.Lane) - int(b.Lane)
		case a.Edge < b.Edge:
			return -1
		case a.Edge > b.Edge:
			return 1
		}
		return 0
	})
	return out
}

func (r *room) edgeStates() []queue.EdgeState {
	cur := r.current()
	out := make([]queue.EdgeState, 0, len(r.edges))
	for inc, e := range r.edges {
		s := queue.EdgeState{
			Edge: inc, Label: e.label, No: e.no, MarkMs: e.mark, Cursor: e.cursor, SeenMs: e.seen, Parked: slices.Clone(e.parked), Bye: e.bye,
		}
		if cur != nil && e.line == cur.id {
			s.Complete = e.complete
		}
		if set := r.slots[inc]; set != nil {
			s.Sessions = int64(set.len())
		}
		for k, n := range r.arrivals {
			if k.edge == inc {
				s.Arrivals = append(s.Arrivals, queue.Arrival{Lane: k.lane, AgeMs: k.age, Count: n})
			}
		}
		sortArrivals(s.Arrivals)
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b queue.EdgeState) int {
		if a.Edge < b.Edge {
			return -1
		}
		return 1
	})
	return out
}
