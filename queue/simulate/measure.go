package simulate

import (
	"fmt"
	"math"
	"slices"

	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/pace"
)

// Measures are what operators and fans notice of a run. Times are seconds; measures that a run cannot give are null.
type Measures struct {
	CapUse      float64  `json:"cap_use" yaml:"cap_use"`                                               // share of the places the store counted as taken, from filled on, while fans wait and the store answers
	IdleP50     float64  `json:"idle_place_s_p50" yaml:"idle_place_s_p50"`                             // from a place becoming free to its next fan
	IdleP95     float64  `json:"idle_place_s_p95" yaml:"idle_place_s_p95"`                             //
	DoorP50     float64  `json:"door_wait_s_p50" yaml:"door_wait_s_p50"`                               // from coming to the door to being let in
	DoorP95     float64  `json:"door_wait_s_p95" yaml:"door_wait_s_p95"`                               //
	Fill98      float64  `json:"fill_98_s" yaml:"fill_98_s"`                                           // from the opening to 98% of the places taken
	OutageRatio *float64 `json:"admissions_during_outage_ratio" yaml:"admissions_during_outage_ratio"` // admissions while the store was gone, of those in as long a time before
}

// Result is one run.
type Result struct {
	Scenario string `json:"scenario"`
	Title    string `json:"title"`
	Seed     uint64 `json:"seed"`
	Runs     int    `json:"runs"`
	Measures
	Overshoot      int      `json:"overshoot"`        // most sessions over the cap at any instant
	ETACoverage    *float64 `json:"eta_coverage"`     // share of forecasts whose 80% interval held, after the first dwell time
	ETAMedianError *float64 `json:"eta_median_error"` // median of |forecast - actual| / actual of the same
	ETAForecasts   int      `json:"eta_forecasts"`    //
	Inversions     int      `json:"inversions"`       // fans ranked before one of an earlier window
	InversionS     float64  `json:"inversion_s"`      // longest time by which a fan came earlier than one ranked before them in another window
	Violations     int      `json:"violations"`       // broken invariants
	ViolationKinds []string `json:"violation_kinds"`  // the first of each kind
	Stamped        int      `json:"stamped"`          //
	Admitted       int64    `json:"admitted"`         //
	Called         uint64   `json:"called"`           //
	DoorOpening    int      `json:"door_at_opening"`  // most fans at the doors in the first two minutes
	LateTickets    int      `json:"late_tickets"`     // stamps that missed their seal
	SealLagP99     float64  `json:"seal_lag_s_p99"`   //
	DoorLongest    int      `json:"door_longest"`     // most fans at the doors
	DoorP99        float64  `json:"door_wait_s_p99"`  //
	FrozenPlaces   int      `json:"frozen_places"`    // most places of a dead edge that nobody could use
	RateUse        *float64 `json:"rate_use"`         // of the operator's rate, while it was the limit
	HolderShare    *float64 `json:"holder_share"`     // share of admissions that went to holders of many tickets
	RefusedHolders int      `json:"refused_holders"`  // claims by a holder who had been let in
	Sold           int      `json:"sold"`             //
	series         series
	protocol       *Measures
}

type series struct {
	stepS                                                               float64
	at, act, honoured, door, coming, show, freed, called, total, grants []float64
}

type measures struct {
	stamped, late  int
	honoured       int
	overshoot      int
	inversions     int
	inversionMs    int32
	violations     int
	kinds          map[string]string
	refusedHolders int
	atDoor         int
	calledMs       int32 // last call
	doorLongest    int
	openDoor       int // in the first two minutes after the opening
	frozen         int

	faultFrom, faultTo int32
	openedAt           int32
	filledAt           int32
	steady             bool
	actSum, steadyMs   int64
	emptySince         []int32 // FIFO: since when each empty place is empty; -1: not measured
	idle, doorWait     []float32
	lags               []int32
	grantTimes         []int32
	holderGrants       int

	rateMs, rateGrants int64
	rateTick           bool

	stepMs   int32
	grantsIn int
	series   series
}

func (m *measures) init(w *world) {
	m.kinds = map[string]string{}
	m.filledAt = -1
	m.faultFrom = -1
	m.openedAt = w.drawAt
	if w.drawAt == 0 && len(w.fans) > 0 {
		m.openedAt = w.fans[0].arrive
	}
	m.stepMs = max(w.end/360/tickEveryMs, 1) * tickEveryMs
	m.series.stepS = float64(m.stepMs) / 1000
}

func (m *measures) violate(w *world, what string) {
	m.violations++
	if _, ok := m.kinds[what]; !ok {
		m.kinds[what] = fmt.Sprintf("%s, at %.3f s", what, float64(w.now)/1000)
	}
}

func (m *measures) over(w *world, n int) {
	m.overshoot = max(m.overshoot, n)
	m.violate(w, "1 more sessions than places")
}

func (m *measures) inverted(ms int32) { m.inversionMs = max(m.inversionMs, ms) }

func (m *measures) sealLag(ms int32) { m.lags = append(m.lags, ms) }

// pass integrates over some milliseconds in which nothing happens.
func (m *measures) pass(w *world, ms int32) {
	if m.steady {
		m.actSum += int64(w.store.act) * int64(ms)
		m.steadyMs += int64(ms)
	}
}

func (m *measures) freePlace(w *world) {
	if m.filledAt >= 0 {
		m.emptySince = append(m.emptySince, w.now)
	}
}

// resync forgets since when places are empty, after they changed hands without the store.
func (m *measures) resync(w *world) {
	m.emptySince = m.emptySince[:0]
	for range w.sc.Room.Cap - w.store.act {
		m.emptySince = append(m.emptySince, -1)
	}
}

func (m *measures) taken(w *world) {
	if m.filledAt < 0 {
		if w.store.act >= (w.sc.Room.Cap*98+99)/100 {
			m.filledAt = w.now
			m.resync(w)
		}
		return
	}
	if len(m.emptySince) == 0 {
		return // over the cap: reported as such
	}
	if since := m.emptySince[0]; since >= 0 && m.steady {
		m.idle = append(m.idle, float32(w.now-since)/1000)
	}
	m.emptySince = m.emptySince[1:]
}

func (m *measures) grant(w *world, f *fan) {
	m.atDoor--
	m.grantsIn++
	m.grantTimes = append(m.grantTimes, w.now)
	m.doorWait = append(m.doorWait, float32(w.now-f.come)/1000)
	if f.holder > 0 {
		m.holderGrants++
	}
	if m.rateTick {
		m.rateGrants++
	}
	if r := w.sc.Room.RatePerSecond; r > 0 && !w.storeDown() && float64(w.store.last60.count(w.now)+1) > 61*r+1 {
		m.violate(w, "9 more grants in 60 s than the rate allows")
	}
}

// coming counts fans who were called and will come, or stand at the door.
func (m *measures) coming(w *world) (n int) {
	for _, l := range w.lanes {
		n += l.willCome
	}
	return n + m.atDoor
}

// idlePatienceMs is how long the law may hope before it calls one more for a free place.
const idlePatienceMs = 2500

// idleTick checks that somebody is called while there is room and nobody on the way.
func (m *measures) idleTick(w *world, in pace.Input, before int) {
	wait := 0
	for _, l := range w.lanes {
		wait += l.waiting
	}
	if in.Hold || w.ctl.out.Added > 0 {
		m.calledMs = w.now
	}
	rateFree := in.OperatorRate <= 0 || w.store.tat-1000 <= float64(w.now)
	if !in.Hold && before == 0 && wait > 0 && w.store.act < w.sc.Room.Cap && rateFree && w.ctl.out.LimitedBy != line.LimitStock && w.now-m.calledMs > idlePatienceMs {
		m.violate(w, "6 room, nobody on the way, and nobody called")
	}
	m.rateTick = w.ctl.out.LimitedBy == line.LimitRate
	if m.rateTick {
		m.rateMs += tickEveryMs
	}
}

func (m *measures) sample(w *world) {
	m.steady = m.filledAt >= 0 && !w.storeDown() && w.now >= w.ctlUntil && w.ctl.out.LimitedBy == line.LimitCap
	if m.steady {
		left := m.coming(w)
		for _, l := range w.lanes {
			left += l.waiting
		}
		m.steady = left > 0
	}
	door, frozen := 0, 0
	for _, e := range w.edges {
		door += e.door.len()
		if e.deadAt >= 0 {
			frozen += len(e.expired)
		}
	}
	m.doorLongest = max(m.doorLongest, door)
	if w.now < m.openedAt+120_000 {
		m.openDoor = max(m.openDoor, door)
	}
	m.frozen = max(m.frozen, frozen)
	if w.now%m.stepMs != 0 {
		return
	}
	called, total := uint64(0), uint64(0)
	for _, l := range w.lanes {
		called += l.published
		total += l.ledger.Total()
	}
	s := &m.series
	for p, v := range map[*[]float64]float64{
		&s.at: float64(w.now) / 1000, &s.act: float64(w.store.act), &s.honoured: float64(m.honoured), &s.door: float64(door),
		&s.coming: w.ctl.out.Gauges.Coming, &s.show: w.ctl.out.Gauges.ShowUp, &s.freed: w.ctl.out.Gauges.FreedRate,
		&s.called: float64(called), &s.total: float64(total), &s.grants: float64(m.grantsIn) / s.stepS,
	} {
		*p = append(*p, v)
	}
	m.grantsIn = 0
}

// guess is a forecast shown to a fan, waiting to come true.
type guess struct {
	at               int32
	low, point, high float32
}

type guesses struct {
	open   door // rank -> index into made
	made   []guess
	errors []float32
	held   int
}

const guessEveryMs = 10_000

// make notes what some fans of a lane are told at this moment.
func (g *guesses) make(w *world, st line.LaneStatus, l *lane) {
	firstDwell := w.m.filledAt + ms(w.sc.Crowd.DwellMeanS)
	if w.now%guessEveryMs != 0 || w.m.filledAt < 0 || w.now < firstDwell || l.next >= len(l.order) {
		return
	}
	// Only fans who are called within the run can be compared; take those the line should reach in the next half hour.
	reach := min(len(l.order)-l.next, int(l.velocity*1800)+1)
	for range 12 {
		f := &w.fans[l.order[l.next+w.rng.IntN(reach)]]
		i, ok := st.Estimate(uint64(f.rank))
		if !ok || i.Point < 1e9 {
			continue
		}
		g.made = append(g.made, guess{w.now, float32(i.Low.Seconds()), float32(i.Point.Seconds()), float32(i.High.Seconds())})
		g.open.push(parked{rank: uint64(f.rank), fan: int32(len(g.made) - 1)})
	}
}

func (g *guesses) check(w *world, l *lane) {
	for g.open.len() > 0 && g.open.heap[0].rank < l.published {
		made := g.made[g.open.pop().fan]
		took := max(float32(w.now-made.at)/1000, 0.25)
		g.errors = append(g.errors, float32(math.Abs(float64(made.point-took)/float64(took))))
		if made.low <= took && took <= made.high {
			g.held++
		}
	}
}

func quantile[T int32 | float32](v []T, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return float64(v[int(q*float64(len(v)-1)+0.5)])
}

func (w *world) result(seed uint64) *Result {
	m := &w.m
	r := &Result{
		Scenario: w.sc.Name, Title: w.sc.Title, Seed: seed, Runs: 1,
		Measures: Measures{
			IdleP50: quantile(m.idle, 0.5), IdleP95: quantile(m.idle, 0.95), DoorP50: quantile(m.doorWait, 0.5), DoorP95: quantile(m.doorWait, 0.95),
		},
		Overshoot: m.overshoot, Inversions: m.inversions, InversionS: float64(m.inversionMs) / 1000, Violations: m.violations, ViolationKinds: []string{},
		Stamped: m.stamped, Admitted: w.store.granted, LateTickets: m.late, SealLagP99: quantile(m.lags, 0.99) / 1000,
		DoorLongest: m.doorLongest, DoorP99: quantile(m.doorWait, 0.99), FrozenPlaces: m.frozen, RefusedHolders: m.refusedHolders, Sold: w.store.sold,
		DoorOpening: m.openDoor, series: m.series, protocol: w.sc.Protocol,
	}
	if m.steadyMs > 0 {
		r.CapUse = float64(m.actSum) / float64(m.steadyMs) / float64(w.sc.Room.Cap)
	}
	if m.filledAt >= 0 {
		r.Fill98 = float64(m.filledAt-m.openedAt) / 1000
	}
	if m.faultFrom >= 0 {
		span := m.faultTo - m.faultFrom
		during, before := 0, 0
		for _, t := range m.grantTimes {
			switch {
			case t >= m.faultFrom && t < m.faultTo:
				during++
			case t >= m.faultFrom-span && t < m.faultFrom:
				before++
			}
		}
		if before > 0 {
			ratio := float64(during) / float64(before)
			r.OutageRatio = &ratio
		}
	}
	var errs []float32
	held := 0
	for _, l := range w.lanes {
		errs = append(errs, l.guesses.errors...)
		held += l.guesses.held
		r.Called += l.published
	}
	if r.ETAForecasts = len(errs); len(errs) > 0 {
		coverage, median := float64(held)/float64(len(errs)), quantile(errs, 0.5)
		r.ETACoverage, r.ETAMedianError = &coverage, &median
	}
	if m.rateMs > 0 {
		use := float64(m.rateGrants) / (float64(m.rateMs) / 1000 * w.sc.Room.RatePerSecond)
		r.RateUse = &use
	}
	if w.sc.Crowd.Holders > 0 && w.store.granted > 0 {
		share := float64(m.holderGrants) / float64(w.store.granted)
		r.HolderShare = &share
	}
	for _, k := range m.kinds {
		r.ViolationKinds = append(r.ViolationKinds, k)
	}
	slices.Sort(r.ViolationKinds)
	return r
}
