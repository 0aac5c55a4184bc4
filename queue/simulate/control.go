package simulate

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/stanchion-queue/stanchion/queue/forecast"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/pace"
)

// lane is one order: its ledger, and its fans by rank.
type lane struct {
	weight     uint32
	ledger     line.Ledger
	rows       [][]int32 // fans by window, from the first unsealed one on
	stragglers []int32   // late tickets without a rank yet
	lobby      []int32   // sealed lobby tickets, until the draw
	order      []int32   // fans by rank
	outOfOrder door      // late tickets by rank, not called yet

	called    uint64 // in the store
	published uint64 // as edges tell fans: the same, or while the store is gone the schedule
	next      int    // of order: the first not called
	near      int    // of order: the first that may be far
	horizon   uint64
	maxArrive int32 // latest arrival among all earlier windows

	history  [8]calledAt // of published
	minute   []calledAt
	velocity float64 // ranks a second, last minute
	willCome int     // called, will come, have not yet
	waiting  int     // ranked, not called, would come
	forecast forecast.Lane
	eta      line.ETA
	came     float64 // to the door
	presence *forecast.Presence
	guesses  guesses
}

type calledAt struct {
	at     int32
	called uint64
}

// seen is how far the lane was called as a page that asked at a time in the last two seconds was told.
func (l *lane) seen(at int32) uint64 {
	best := uint64(0)
	for _, h := range l.history {
		if h.at <= at {
			best = max(best, h.called)
		}
	}
	return best
}

type control struct {
	law    *pace.Law
	sealed line.Window
	status line.Status
	filled bool
	out    pace.Output

	drawnMs int32
}

// afterDrawMs is how long the first call waits after the draw: pages ask for it every eight seconds or so, and must know their place before
// those in front can come when they are called.
const afterDrawMs = 10_000

// tick is the controller: seal, free, reap, call, publish.
func (w *world) tick() {
	if w.storeDown() || w.now < w.ctlUntil {
		if w.storeDown() && w.gone && w.now-w.downFrom >= silentMs {
			w.schedule()
		}
		w.m.sample(w)
		return
	}
	c, s := &w.ctl, &w.store
	w.seal()
	w.draw()
	w.freeEnds()
	w.reap()
	for _, l := range w.lanes { // an edge that went on alone has called by schedule
		if l.published > l.called {
			l.called = l.published
		}
	}
	in := pace.Input{
		NowMs: int64(w.now), Cap: int64(w.sc.Room.Cap), Active: int64(s.act), FreedTotal: s.freed,
		OperatorRate: w.sc.Room.RatePerSecond, Hold: w.now < w.lobbyEnd || !w.opening.Drawn || w.lobbyEnd > 0 && w.now < c.drawnMs+afterDrawMs,
	}
	for _, e := range w.edges {
		if e.deadAt < 0 {
			in.Parked += int64(e.parked)
		}
	}
	for b, n := range s.arrivals {
		if n > 0 && b < len(pace.AgeBoundsMs) {
			in.Arrivals = append(in.Arrivals, pace.Arrival{AgeMs: pace.AgeBoundsMs[b], Count: n})
		}
		s.arrivals[b] = 0
	}
	if w.sc.Stock != nil {
		seats := float64(w.sc.Crowd.SeatsEach)
		if s.ended >= 100 {
			seats = max(float64(s.sold)/float64(s.ended), 0.01)
		}
		in.Stock = &pace.Stock{Sellable: float64(s.seats), SeatsPerSession: seats}
	}
	for _, l := range w.lanes {
		in.Lanes = append(in.Lanes, pace.Lane{Called: l.called, Total: l.ledger.Total(), Weight: l.weight})
	}
	before := w.m.coming(w)
	c.out = c.law.Tick(in)
	s.tickMs = w.now
	for i, l := range w.lanes {
		switch {
		case c.out.Called[i] < l.called:
			w.m.violate(w, "3 called went back")
		case c.out.Called[i] > l.ledger.Total():
			w.m.violate(w, "3 called beyond the sealed total")
		}
		l.called = c.out.Called[i]
		l.published = max(l.published, l.called)
		w.advance(l)
	}
	w.m.idleTick(w, in, before)
	w.publish()
	w.m.sample(w)
}

// schedule is how far edges that are alone call: as fast as in the last minute, and a little faster.
func (w *world) schedule() {
	for _, l := range w.lanes {
		since := float64(w.now-w.store.tickMs) / 1000
		next := l.called + uint64(outageScheduleFactor*l.velocity*since)
		l.published = max(l.published, min(next, l.ledger.Total()))
		w.advance(l)
		l.history[int(w.now/tickEveryMs)%len(l.history)] = calledAt{w.now, l.published}
	}
}

// seal freezes the windows that are complete and gives their fans a rank.
func (w *world) seal() {
	c := &w.ctl
	to := w.sealable()
	for ; c.sealed < to; c.sealed++ {
		for _, l := range w.lanes {
			var fans []int32
			if len(l.rows) > 0 {
				fans = l.rows[0]
				l.rows[0] = nil
				l.rows = l.rows[1:]
			}
			l.ledger = l.ledger.Append(uint64(len(fans)))
			if len(fans) == 0 {
				continue
			}
			if c.sealed < w.opening.LobbyEnd {
				l.lobby = append(l.lobby, fans...)
				continue
			}
			w.rankAll(l, fans)
		}
		w.m.sealLag(w.now - int32(c.sealed.StartMs(0)+line.WindowMs))
	}
	for _, l := range w.lanes {
		rest := l.stragglers[:0]
		for _, i := range l.stragglers {
			if !w.rank(l, i) {
				rest = append(rest, i)
				continue
			}
			f := &w.fans[i]
			if uint64(f.rank) < l.published {
				w.call(l, i)
			} else {
				l.outOfOrder.push(parked{rank: uint64(f.rank), fan: i})
				w.counted(l, f, 1)
			}
			if f.is(far) {
				f.flags &^= far
				w.wheel.add(w.now+w.between(0, hiddenPollMs), evPoll, i, f.epoch)
			}
		}
		l.stragglers = rest
	}
}

func (w *world) counted(l *lane, f *fan, n int) {
	if !f.is(absent) {
		l.waiting += n
	}
}

// rank asks the product's own code.
func (w *world) rank(l *lane, i int32) bool {
	f := &w.fans[i]
	r, ok := line.Rank(w.opening, l.ledger, line.Stamp{Win: f.win, Inc: w.edges[f.edge].inc, Seq: f.seq}, w.who(i))
	if !ok {
		return false
	}
	f.rank = uint32(r)
	return true
}

// who is a fan's holder hash: their own, or that of the holder who has many tickets and something scarce behind them.
func (w *world) who(i int32) (who line.Who) {
	binary.BigEndian.PutUint32(who[:], uint32(i)+1)
	if h := w.fans[i].holder; h > 0 && w.sc.Room.OnePerHolder {
		binary.BigEndian.PutUint32(who[:], 0)
		binary.BigEndian.PutUint32(who[4:], uint32(h))
	}
	return who
}

// rankAll ranks fans who come after all that are in order.
func (w *world) rankAll(l *lane, fans []int32) {
	for _, i := range fans {
		if !w.rank(l, i) {
			w.m.violate(w, "7 a sealed stamp has no rank")
		}
	}
	slices.SortFunc(fans, func(a, b int32) int {
		if c := cmp.Compare(w.fans[a].rank, w.fans[b].rank); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	latest := l.maxArrive
	for _, i := range fans {
		f := &w.fans[i]
		if n := len(l.order); n > 0 {
			before := &w.fans[l.order[n-1]]
			if before.rank > f.rank || f.win >= w.opening.LobbyEnd && before.win > f.win {
				w.m.inversions++
				w.m.violate(w, "4 a later window comes first")
			}
		}
		if f.win >= w.opening.LobbyEnd {
			w.m.inverted(l.maxArrive - f.arrive)
		}
		latest = max(latest, f.arrive)
		l.order = append(l.order, i)
		w.counted(l, f, 1)
	}
	l.maxArrive = latest
}

// draw gives the lobby its order when the randomness is public.
func (w *world) draw() {
	if w.opening.Drawn || w.now < w.drawAt || w.ctl.sealed < w.opening.LobbyEnd {
		return
	}
	w.opening.Drawn = true
	w.ctl.drawnMs = w.now
	for _, l := range w.lanes {
		later := l.order // those who came after the opening have their ranks already
		l.order = nil
		for _, i := range later {
			w.counted(l, &w.fans[i], -1)
		}
		arrive := l.maxArrive
		w.rankAll(l, l.lobby)
		for _, i := range l.lobby {
			if f := &w.fans[i]; f.is(far) {
				f.flags &^= far
				w.wheel.add(w.now+w.between(0, hiddenPollMs), evPoll, i, f.epoch)
			}
		}
		l.maxArrive = arrive
		l.lobby = nil
		for _, i := range later {
			w.counted(l, &w.fans[i], 1)
		}
		l.order = append(l.order, later...)
	}
}

// advance tells the fans below a lane's frontier that they are called.
func (w *world) advance(l *lane) {
	for l.next < len(l.order) && uint64(w.fans[l.order[l.next]].rank) < l.published {
		i := l.order[l.next]
		w.counted(l, &w.fans[i], -1)
		w.call(l, i)
		l.next++
	}
	for l.outOfOrder.len() > 0 && l.outOfOrder.heap[0].rank < l.published {
		i := l.outOfOrder.pop().fan
		w.counted(l, &w.fans[i], -1)
		w.call(l, i)
	}
	l.horizon = max(l.horizon, l.published+uint64(max(l.velocity, l.eta.PerSecond)*horizonS)+w.ctl.status.Poll.Front)
	for l.near < len(l.order) && uint64(w.fans[l.order[l.near]].rank) < l.horizon {
		i := l.order[l.near]
		if f := &w.fans[i]; f.is(far) {
			f.flags &^= far
			w.wheel.add(w.now+w.between(0, hiddenPollMs), evPoll, i, f.epoch)
		}
		l.near++
	}
	l.guesses.check(w, l)
}

func (w *world) call(l *lane, i int32) {
	f := &w.fans[i]
	f.called = w.now
	if !f.is(absent) {
		l.willCome++
	}
}

// publish makes the status object and everything that is forecast from it.
func (w *world) publish() {
	c := &w.ctl
	if !c.filled && w.store.act >= w.sc.Room.Cap*98/100 {
		c.filled = true
	}
	st := line.Status{Room: "simulated", Phase: line.PhaseWaiting, LimitedBy: c.out.LimitedBy, Poll: line.Poll{MinMs: 2000, MaxMs: 60_000, Spread: 0.2}}
	switch {
	case w.now < w.lobbyEnd:
		st.Phase = line.PhaseLobby
	case !w.opening.Drawn:
		st.Phase = line.PhaseDrawing
	}
	st.Poll.Front = 2 * uint64(max(w.sc.Room.Cap-w.store.act, 0))
	crowd := w.sc.Crowd
	early := float64(w.sc.Room.Cap) / (crowd.DwellMeanS + w.sc.Room.IdleS*crowd.SilentShare) / c.out.Gauges.ShowUp
	for _, l := range w.lanes {
		l.history[int(w.now/tickEveryMs)%len(l.history)] = calledAt{w.now, l.published}
		l.minute = append(l.minute, calledAt{w.now, l.called})
		for l.minute[0].at < w.now-60_000 {
			l.minute = l.minute[1:]
		}
		l.velocity = float64(l.called-l.minute[0].called) / max(float64(w.now-l.minute[0].at)/1000, 1)
		if w.now%presenceEveryMs == 0 {
			w.samplePresence(l)
		}
		l.eta = l.forecast.Observe(forecast.Input{
			NowMs: int64(w.now), Called: l.called, Total: l.ledger.Total(), Came: l.came, FilledMs: int64(max(w.m.filledAt, 0)),
			StayMs: int64(crowd.DwellMeanS * 1000), EarlyPerSecond: early * l.share(w), Presence: l.presence, LimitedBy: c.out.LimitedBy,
		})
		st.Lanes = append(st.Lanes, line.LaneStatus{
			Called: l.published, Total: l.ledger.Total(), PerMinute: l.velocity * 60, ETA: l.eta,
		})
	}
	c.status = st
	if c.filled {
		for i, l := range w.lanes {
			l.guesses.make(w, st.Lanes[i], l)
		}
	}
}

const (
	presenceEveryMs = 15_000
	samplesPerS     = 200 // of the whole room
)

// samplePresence counts, in a sample of the tickets waiting, whose fans are still there. One ticket in k asks for its place each minute.
func (w *world) samplePresence(l *lane) {
	waiting := len(l.order) - l.next
	if waiting <= 0 {
		l.presence = nil
		return
	}
	k := max((waiting*len(w.lanes)+60*samplesPerS-1)/(60*samplesPerS), 1)
	size := max((l.ledger.Total()-l.called)/(line.MaxPresentBlocks-1)+1, 1)
	p := &forecast.Presence{BlockSize: size, FromBlock: l.called / size}
	var seen, asked [line.MaxPresentBlocks + 1]float64
	last := 0
	for j := l.next + w.rng.IntN(k); j < len(l.order); j += k {
		f := &w.fans[l.order[j]]
		b := int(uint64(f.rank)/size - p.FromBlock)
		if b < 0 || b >= line.MaxPresentBlocks {
			continue
		}
		asked[b]++
		last = max(last, b)
		if !f.is(absent) || w.now < w.goneAt(f) {
			seen[b]++
		}
	}
	for b := range last + 1 {
		share := 0.0
		if asked[b] > 0 {
			share = seen[b] / asked[b]
		} else if b > 0 {
			share = p.Shares[b-1]
		}
		p.Shares = append(p.Shares, share)
	}
	l.presence = p
}

// goneAt is when an absent fan closed the page.
func (w *world) goneAt(f *fan) int32 {
	u := float64((uint32(f.arrive)*2654435761+f.seq*40503)>>8) / (1 << 24)
	return f.arrive + int32(min(-math.Log(1-u)*w.sc.Absence.LeaveMeanS*1000, 1e9))
}

// share is the lane's part of what is called.
func (l *lane) share(w *world) float64 {
	sum := uint32(0)
	for _, other := range w.lanes {
		sum += other.weight
	}
	return float64(l.weight) / float64(sum)
}
