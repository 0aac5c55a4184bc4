package simulate

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/pace"
)

// How the world turns, in milliseconds.
const (
	flushEveryMs         = 100
	tickEveryMs          = 250
	batchMs              = 3      // a claim joins the next micro-batch
	parkMs               = 8_000  // a claim is held at the door this long
	staleMs              = 3_000  // claims stop when the controller has not called for so long
	silentMs             = 3_000  // an edge that silent is not waited for in sealing
	passMarginMs         = 500    // a pass ends this much before its lease
	renewEveryMs         = 20_000 // a session in use is renewed this often
	statusCacheMs        = 1_000  // the status object is at most this old in a shared cache
	hiddenPollMs         = 60_000 // browsers wake background tabs once a minute
	noScriptLeast        = 5_000  // a page without script asks again no sooner
	clockErrorMs         = 4      // an edge's estimate of store time is at most this wrong
	reapMarginMs         = 1_000
	horizonS             = 16 * 60 // fans nearer than this poll sooner than once a minute
	outageScheduleFactor = 1.1
)

// state of a fan.
type state uint8

const (
	waiting  state = iota
	coming         // has heard of being called, the claim is on its way
	parkedAt       // stands at an edge's door
	inside
	ending // has said goodbye; the place is not free yet
	done
)

type flags uint16

const (
	absent flags = 1 << iota
	hidden
	noScript
	silent
	idler
	far      // polls once a minute: not simulated until the line has come near
	late     // the stamp missed its seal
	honoured // some edge may let this fan's pass through
	stored   // the store knows the session
	returning
	admitted // has been let in before
	localEnd
)

type fan struct {
	arrive, called, come, leave int32 // ms; -1: not yet
	lease, pass, stay           int32 // ends, ms
	rank                        uint32
	win                         line.Window
	seq                         uint32
	holder                      int32 // 0: nobody else's
	home                        int16 // edge, or controllerHome
	edge                        uint8
	lane                        uint8
	state                       state
	epoch                       uint8
	flags                       flags
}

const (
	noRank         = ^uint32(0)
	controllerHome = -1
)

func (f *fan) is(x flags) bool { return f.flags&x != 0 }

type world struct {
	sc    *Scenario
	rng   *rand.Rand
	now   int32
	end   int32
	wheel *wheel
	fans  []fan
	edges []*edge
	lanes []*lane
	store store
	ctl   control
	m     measures

	opening   line.Opening
	lobbyEnd  int32
	drawAt    int32
	downUntil int32 // the store answers nobody before this
	downFrom  int32
	gone      bool // it is gone, not failing over: edges go on alone
	ctlUntil  int32
	sigma, mu float64 // of ln(dwell in ms)
}

// Run simulates a scenario. It returns early with ctx's error when ctx ends.
func Run(ctx context.Context, sc Scenario, seed uint64) (*Result, error) {
	if err := sc.Validate(); err != nil {
		return nil, err
	}
	w, err := newWorld(&sc, seed)
	if err != nil {
		return nil, err
	}
	faults := slices.Clone(sc.Faults)
	slices.SortStableFunc(faults, func(a, b Fault) int { return int(ms(a.AtS) - ms(b.AtS)) })
	next := 0
	for w.now = 0; w.now <= w.end; {
		if w.now%1000 == 0 && ctx.Err() != nil {
			return nil, fmt.Errorf("simulate %s: %w", sc.Name, ctx.Err())
		}
		for len(faults) > 0 && ms(faults[0].AtS) <= w.now {
			w.fault(faults[0])
			faults = faults[1:]
		}
		for next < len(w.fans) && w.fans[next].arrive <= w.now {
			w.stamp(int32(next))
			next++
		}
		for {
			e, ok := w.wheel.take(w.now)
			if !ok {
				break
			}
			w.handle(e)
		}
		if w.now%tickEveryMs == 0 {
			w.tick()
		}
		// On to the next millisecond in which something happens.
		to := min(w.now-w.now%tickEveryMs+tickEveryMs, w.end+1)
		if next < len(w.fans) {
			to = min(to, max(w.fans[next].arrive, w.now+1))
		}
		if len(faults) > 0 {
			to = min(to, max(ms(faults[0].AtS), w.now+1))
		}
		to = w.wheel.next(w.now+1, to)
		w.m.pass(w, to-w.now)
		w.now = to
	}
	return w.result(seed), nil
}

func ms(s float64) int32 { return int32(math.Round(s * 1000)) }

func newWorld(sc *Scenario, seed uint64) (*world, error) {
	w := &world{sc: sc, rng: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)), end: ms(sc.DurationS)}
	w.wheel = newWheel(w.end)
	w.sigma = sc.Crowd.DwellSigma
	w.mu = math.Log(sc.Crowd.DwellMeanS*1000) - w.sigma*w.sigma/2
	w.downUntil, w.downFrom, w.ctlUntil = -1, -1, -1
	for _, l := range sc.Room.Lanes {
		w.lanes = append(w.lanes, &lane{weight: l.Weight})
	}
	w.opening = line.Opening{Room: "simulated", Line: line.ID{15: 1}}
	if sc.Room.LobbyS > 0 {
		w.lobbyEnd = ms(sc.Room.LobbyS)
		w.drawAt = w.lobbyEnd + ms(sc.Room.DrawAfterS)
		w.opening.LobbyEnd = line.WindowAt(0, int64(w.lobbyEnd)+line.WindowMs-1)
		w.opening.Randomness = make([]byte, 32)
		for i := range w.opening.Randomness {
			w.opening.Randomness[i] = byte(w.rng.Uint32())
		}
	} else {
		w.opening.Drawn = true
	}
	for i := range sc.Edges {
		e := &edge{id: i, inc: line.Incarnation(w.rng.Uint64()), offset: w.rng.Int32N(2*clockErrorMs+1) - clockErrorMs, deadAt: -1, pausedUntil: -1, cutAt: -1}
		w.edges = append(w.edges, e)
		w.wheel.add(1+w.rng.Int32N(flushEveryMs), evFlush, int32(i), 0)
	}
	constants := pace.Defaults()
	constants.Dial = sc.Room.DoorDial
	law, err := pace.NewLaw(constants)
	if err != nil {
		return nil, err
	}
	w.ctl = control{law: law}
	w.store = newStore(sc)
	w.makeFans()
	w.m.init(w)
	return w, nil
}

// makeFans decides who comes and when, and how each will behave.
func (w *world) makeFans() {
	sc := w.sc
	arrivals := make([]int32, 0, sc.Fans)
	if tr := sc.Arrivals.Trace; len(tr) > 0 {
		sum := 0.0
		for _, n := range tr {
			sum += n
		}
		step := sc.Arrivals.TraceStepS * 1000
		acc, made := 0.0, 0
		for i, n := range tr {
			acc += n / sum * float64(sc.Fans)
			for ; made < int(math.Round(acc)); made++ {
				arrivals = append(arrivals, int32((float64(i)+w.rng.Float64())*step))
			}
		}
	} else {
		spike := int(math.Round(float64(sc.Fans) * sc.Arrivals.SpikeShare))
		for i := range sc.Fans {
			span := sc.Arrivals.SpreadS
			if i < spike {
				span = sc.Arrivals.SpikeS
			}
			arrivals = append(arrivals, int32(w.rng.Float64()*span*1000))
		}
	}
	slices.Sort(arrivals)

	hoarded := 0.0
	if sc.Fans > 0 {
		hoarded = float64(sc.Crowd.Holders*sc.Crowd.HolderTickets) / float64(sc.Fans)
	}
	inLane := make([]int, len(w.lanes))
	w.fans = make([]fan, len(arrivals))
	for i, at := range arrivals {
		f := &w.fans[i]
		*f = fan{arrive: at, called: -1, come: -1, rank: noRank, edge: uint8(w.rng.IntN(sc.Edges)), home: controllerHome}
		r := w.rng.Float64()
		for l, spec := range sc.Room.Lanes {
			if r -= spec.Share; r < 0 || l == len(sc.Room.Lanes)-1 {
				f.lane = uint8(l)
				break
			}
		}
		if w.rng.Float64() < w.absentShare(inLane[f.lane]) {
			f.flags |= absent
		}
		inLane[f.lane]++
		if hoarded > 0 && w.rng.Float64() < hoarded {
			f.holder = int32(w.rng.IntN(sc.Crowd.Holders)) + 1
			f.flags &^= absent
		}
		switch r := w.rng.Float64(); {
		case r < sc.Crowd.HiddenShare:
			f.flags |= hidden
		case r < sc.Crowd.HiddenShare+sc.Crowd.NoScriptShare:
			f.flags |= noScript
		}
		if w.rng.Float64() < sc.Crowd.SilentShare {
			f.flags |= silent
		}
		if w.rng.Float64() < sc.Crowd.IdlerShare {
			f.flags |= idler
		}
	}
}

// absentShare is how likely the n-th fan of a lane is gone when called.
func (w *world) absentShare(n int) float64 {
	a := w.sc.Absence
	switch a.Kind {
	case "blocky":
		if n/a.Block%2 == 0 {
			return a.Low
		}
		return a.High
	case "hoard":
		if n%(a.Block+a.Gap) >= a.Gap {
			return a.High
		}
	}
	return a.Share
}

func (w *world) between(lo, hi float64) int32 { return int32(lo + w.rng.Float64()*(hi-lo)) }

func (w *world) handle(e event) {
	switch e.kind {
	case evFlush:
		w.flush(w.edges[e.who])
		return
	case evAttempt:
		w.edges[e.who].attempting = false
		w.attempt(w.edges[e.who])
		return
	}
	f := &w.fans[e.who]
	if f.epoch != e.epoch {
		return
	}
	switch e.kind {
	case evStamp:
		w.stamp(e.who)
	case evPoll:
		w.poll(e.who)
	case evCome:
		w.comes(e.who)
	case evUse:
		w.use(e.who)
	case evLease:
		w.leaseOver(e.who)
	}
}

// stamp gives a fan a place: nothing but a number of the edge's own.
func (w *world) stamp(i int32) {
	f := &w.fans[i]
	e := w.living(f)
	if e.pausedUntil > w.now {
		w.wheel.add(e.pausedUntil, evStamp, i, f.epoch)
		return
	}
	f.win = line.WindowAt(0, int64(w.now+e.offset))
	f.seq = e.seq
	e.seq++
	e.unreported = append(e.unreported, i)
	w.m.stamped++
	if !f.is(absent) {
		if f.is(hidden) {
			w.wheel.add(w.now+w.between(0, hiddenPollMs), evPoll, i, f.epoch)
			return
		}
		w.wheel.add(w.now+int32(w.ctl.status.NextPoll(int(f.lane), line.NoRank, w.rng.Float64()).Milliseconds()), evPoll, i, f.epoch)
	}
}

// living is the fan's edge; when it has died, another that the fan's next connection reaches.
func (w *world) living(f *fan) *edge {
	e := w.edges[f.edge]
	for e.deadAt >= 0 {
		f.edge = uint8(w.rng.IntN(len(w.edges)))
		e = w.edges[f.edge]
	}
	return e
}

// poll is a page asking for the status object and computing its own place from it.
func (w *world) poll(i int32) {
	f := &w.fans[i]
	if f.state != waiting {
		return
	}
	l := w.lanes[f.lane]
	if f.rank != noRank && uint64(f.rank) < l.seen(w.now-w.between(flushEveryMs, flushEveryMs+statusCacheMs)) {
		f.state = coming
		w.wheel.add(w.now+w.between(50, 250), evCome, i, f.epoch)
		return
	}
	rank := line.NoRank
	if f.rank != noRank {
		rank = uint64(f.rank)
	}
	wait := int32(w.ctl.status.NextPoll(int(f.lane), rank, w.rng.Float64()).Milliseconds())
	switch {
	case f.is(hidden):
		wait = hiddenPollMs
	case f.is(noScript):
		wait = max(wait, noScriptLeast)
	case rank != line.NoRank && rank >= l.horizon && wait >= 45_000:
		f.flags |= far // until the line has come near, nothing depends on when exactly it asks
		return
	}
	w.wheel.add(w.now+wait, evPoll, i, f.epoch)
}

// comes is a fan's claim reaching an edge.
func (w *world) comes(i int32) {
	f := &w.fans[i]
	if f.state != coming {
		return
	}
	e := w.living(f)
	if e.pausedUntil > w.now {
		w.wheel.add(e.pausedUntil, evCome, i, f.epoch)
		return
	}
	if f.come < 0 {
		f.come = w.now
		e.arrivals[ageBucket(w.now-f.called)]++
		w.lanes[f.lane].willCome--
		w.lanes[f.lane].came++
		w.m.atDoor++
	}
	if e.door.len() >= w.sc.Room.ParkedPerEdge {
		w.wheel.add(w.now+w.between(1000, 3000), evCome, i, f.epoch)
		return
	}
	f.state = parkedAt
	rank := uint64(f.rank) + 1
	if f.is(returning) {
		rank = 0 // whose session lapsed through no fault of theirs comes first
	}
	e.door.push(parked{rank: rank, fan: i, sinceMs: w.now})
	w.attemptSoon(e, batchMs)
}

// use is a fan inside asking for something, or leaving.
func (w *world) use(i int32) {
	f := &w.fans[i]
	if f.state != inside {
		return
	}
	e := w.living(f)
	own := int(f.home) == e.id
	if w.now >= f.pass {
		w.lapse(i)
		return
	}
	if w.now >= f.leave {
		if f.is(silent) {
			return // nobody hears of it: the place is free when the lease is over
		}
		f.state = ending
		e.ends = append(e.ends, i)
		if e.local {
			w.endLocally(e, i)
		}
		w.bought(f)
		return
	}
	if own || f.home == controllerHome {
		wish := min(w.now+ms(w.sc.Room.IdleS), f.stay)
		if e.local {
			f.pass = max(f.pass, min(wish-passMarginMs, e.markMs+ms(w.sc.Room.OutageBoundS)))
		} else {
			e.renewals = append(e.renewals, renewal{i, wish})
		}
	}
	w.wheel.add(min(w.now+renewEveryMs+w.between(0, 4000), max(f.leave, w.now+1)), evUse, i, f.epoch)
}

// leaseOver is the end of a pass; the place follows with its lease, when the home edge's mark has passed it.
func (w *world) leaseOver(i int32) {
	f := &w.fans[i]
	if f.state != inside && f.state != ending {
		return
	}
	if f.pass > w.now {
		w.wheel.add(f.pass, evLease, i, f.epoch)
		return
	}
	w.notHonoured(f)
	if f.is(localEnd) {
		return
	}
	w.placeOver(f, i)
}

// placeOver puts a fan's place on its way to becoming free.
func (w *world) placeOver(f *fan, i int32) {
	s := slot{lease: f.lease, fan: i, stored: f.is(stored)}
	if f.home == controllerHome {
		w.store.expired = append(w.store.expired, s)
		return
	}
	e := w.edges[f.home]
	if e.local && e.deadAt < 0 && w.now > e.markMs {
		s.local = true
		e.free++
		w.attemptSoon(e, batchMs)
	}
	e.expired = append(e.expired, s) // frozen, if the edge is dead, until it is reaped
}

// lapse is a fan whose pass ran out because its home is gone: the next free place is theirs.
func (w *world) lapse(i int32) {
	f := &w.fans[i]
	if f.is(honoured) {
		w.notHonoured(f)
		w.placeOver(f, i)
	}
	list := &w.store.expired
	if f.home != controllerHome {
		list = &w.edges[f.home].expired
	}
	for j := range *list {
		if (*list)[j].fan == i {
			(*list)[j].fan = -1 // the old place is counted until its home frees it
		}
	}
	f.epoch++
	f.state = coming
	f.flags |= returning
	f.flags &^= stored
	f.home = controllerHome
	w.wheel.add(w.now+w.between(50, 250), evCome, i, f.epoch)
}

func (w *world) notHonoured(f *fan) {
	if f.is(honoured) {
		f.flags &^= honoured
		w.m.honoured--
	}
}

// bought sells seats to a fan who leaves by the till.
func (w *world) bought(f *fan) {
	if w.sc.Stock == nil {
		return
	}
	w.store.ended++
	if w.rng.Float64() < w.sc.Crowd.BuyShare {
		n := min(w.sc.Crowd.SeatsEach, w.store.seats)
		w.store.seats -= n
		w.store.sold += n
	}
}

func (w *world) fault(f Fault) {
	until := w.now + ms(f.ForS)
	switch f.Kind {
	case FaultEdgeCrash:
		w.crash(w.edges[f.Edge])
	case FaultEdgePause:
		w.edges[f.Edge].pausedUntil = until
	case FaultStoreGone, FaultFailover:
		w.downFrom, w.downUntil, w.gone = w.now, until, f.Kind == FaultStoreGone
		w.m.faultFrom, w.m.faultTo = w.now, until
	case FaultControllerPause:
		w.ctlUntil = until
	}
}

func (w *world) storeDown() bool { return w.now < w.downUntil }

func ageBucket(age int32) int {
	i, _ := slices.BinarySearch(pace.AgeBoundsMs[:], int64(age))
	return i // len(AgeBoundsMs): too late to learn from
}

// dwell is how long a fan stays inside.
func (w *world) dwell() int32 {
	return int32(min(math.Exp(w.mu+w.sigma*w.rng.NormFloat64()), 1e9))
}
