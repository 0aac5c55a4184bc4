// Package pace is the law by which a room's controller calls fans: how many ranks to call now, so that places inside are filled
// as they become free, few called fans stand at the door, and no rate or stock is overrun.
//
// It is a forecast with feedback. Fans who are called come after a while or never; the law learns from the arrivals at the door
// how fast they come (the response curve F) and what share comes at all (the show-up s), and keeps calling so that those still
// to come (P) match the places that will become free meanwhile (mu*L). A wrong guess only shifts the length of the door (D),
// which is measured, so errors correct themselves within seconds; absent fans leave P as the curve says, and cost nothing.
//
// The package is pure: no clock, no I/O. A Law belongs to one goroutine.
package pace

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/stanchion-queue/stanchion/queue/line"
)

// AgeBoundsMs are the upper bounds, in milliseconds since a fan's rank was called, of the buckets in which edges count arrivals
// at the door. Later arrivals teach nothing.
var AgeBoundsMs = [...]int64{500, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 12000, 20000, 40000, 80000}

const (
	buckets   = len(AgeBoundsMs)
	leastWant = 1e-9 // calls one rank

	// patienceMs is how long a free place may wait for the forecast to come true before one more rank is called whatever it says.
	patienceMs = 2000
)

// Constants tune the law. The zero value is not usable; start from Defaults.
type Constants struct {
	// Prior is the response curve to start from: fans by age bucket, usually Law.Curve of the last sale. PriorWeight is how many
	// fans it counts for against the arrivals of this one.
	Prior       [buckets]float64
	PriorWeight float64

	LearnAgeS   float64 // the curve learns only from ranks called this long ago: earlier only the quick have come
	CurveDecayS float64 // how fast the curve forgets
	// HorizonS is how far ahead the law looks. Fans who will come later than that are not counted on yet: while a room fills, a
	// place kept for a tab that wakes in a minute would stay empty for that minute.
	HorizonS float64

	// ShowLagS is how much later than the curve says fans may come before the law thinks them absent. Without it, a crowd that is a
	// second slower than the last one looks like a crowd that stays away, and an opening calls far too many.
	ShowLagS   float64
	ShowFallS  float64 // the show-up falls to 1/e in no less than this: one slow moment is no proof
	ShowDecayS float64 // how fast the show-up forgets
	ShowPrior  float64 // fans who count as having shown up before any did
	ShowMin    float64 // lower bound of s: at most 1/ShowMin ranks are called for a place

	FreedDecayS float64 // averaging of mu, the places freed per second
	Dial        float64 // k: standard deviations of extra fans at the door
	HeldWeight  float64 // share of the held stock that is expected to come back
	TickS       float64 // nominal time between ticks
}

// Defaults are the constants that the protocol's measurements were made with.
func Defaults() Constants {
	return Constants{
		Prior:       [buckets]float64{10, 30, 45, 35, 30, 8, 5, 5, 6, 8, 10, 8},
		PriorWeight: 200,
		LearnAgeS:   90, CurveDecayS: 120, HorizonS: 12,
		ShowLagS: 1, ShowFallS: 5, ShowDecayS: 60, ShowPrior: 20, ShowMin: 0.15,
		FreedDecayS: 20, Dial: 0.5, HeldWeight: 0.3, TickS: 0.25,
	}
}

// ErrConstants is wrapped by NewLaw's error.
var ErrConstants = errors.New("pace constants are out of range")

// Validate names the first constant that is out of range.
func (c Constants) Validate() error {
	sum := 0.0
	for i, p := range c.Prior {
		if !(p >= 0) || math.IsInf(p, 0) {
			return fmt.Errorf("%w: prior[%d] is %v, want 0 or more", ErrConstants, i, p)
		}
		sum += p
	}
	for _, f := range []struct {
		name        string
		v, min, max float64
	}{
		{"sum of prior", sum, 1e-9, 1e12},
		{"prior_weight", c.PriorWeight, 1, 1e9},
		{"learn_age_s", c.LearnAgeS, 80, 3600},
		{"curve_decay_s", c.CurveDecayS, 1, 86400},
		{"horizon_s", c.HorizonS, 1, 80},
		{"show_lag_s", c.ShowLagS, 0, 9},
		{"show_fall_s", c.ShowFallS, 0.1, 3600},
		{"show_decay_s", c.ShowDecayS, 1, 86400},
		{"show_prior", c.ShowPrior, 0.1, 1e9},
		{"show_min", c.ShowMin, 0.001, 1},
		{"freed_decay_s", c.FreedDecayS, 0.1, 86400},
		{"dial", c.Dial, 0, 100},
		{"held_weight", c.HeldWeight, 0, 1},
		{"tick_s", c.TickS, 0.01, 10},
	} {
		if !(f.v >= f.min && f.v <= f.max) {
			return fmt.Errorf("%w: %s is %v, want %v to %v", ErrConstants, f.name, f.v, f.min, f.max)
		}
	}
	return nil
}

// Arrival counts fans who came to the door for the first time, by how long ago they had been called.
type Arrival struct {
	AgeMs int64 // upper bound of the age bucket, one of AgeBoundsMs; anything later is ignored
	Count float64
}

// Lane is one lane's state. With honoured lines, Called and Total count their ranks too: they come first.
type Lane struct {
	Called uint64
	Total  uint64 // sealed
	Weight uint32
}

// Stock is what the core has to sell.
type Stock struct {
	Sellable        float64
	Held            float64
	SeatsPerSession float64 // mean sold per ended session; below 1/1000 counts as 1/1000
}

// Input is what the law sees in one tick.
type Input struct {
	NowMs      int64
	Cap        int64
	Active     int64     // sessions
	Parked     int64     // D: called fans at the doors, without those held by the network share
	FreedTotal int64     // places freed since the room was created
	Arrivals   []Arrival // since the last tick
	Lanes      []Lane

	OperatorRate float64 // fans a second; 0: unlimited
	CoreRate     float64 // fans a second the core can bear; 0: unlimited
	Stock        *Stock  // nil: the core says nothing

	// Hold calls nobody, but keeps learning: paused, not open yet, the store does not answer.
	Hold bool
}

// Output is the law's decision and what it was made from.
type Output struct {
	Called    []uint64 // per lane, absolute; never below the input's, never above its total
	Added     uint64   // ranks called in this tick, over all lanes
	LimitedBy line.Limit
	Gauges    Gauges
}

// Gauges are the law's quantities, for metrics and the console.
type Gauges struct {
	LeadS     float64 // L: mean response time
	ShowUp    float64 // s: share of called fans who come
	FreedRate float64 // mu: places freed per second
	Door      float64 // D: fans at the door
	Coming    float64 // P: fans called and still to come
	Want      float64 // fans to bring for the cap's sake
	Limit     float64 // fans the rates allow; +Inf without one
	Stock     float64 // fans the stock allows; +Inf without one
}

// Law is the controller's memory of one room. Not safe for concurrent use.
type Law struct {
	c Constants

	lastMs  int64
	started bool

	curve   [buckets]float64 // arrivals learned, decaying
	pending []pendingArrival // arrivals of cohorts still too young to learn from, by due time
	cohorts []cohort         // ranks called, oldest first, at most LearnAgeS old

	arrived  float64 // A, decaying
	expected float64 // C, decaying
	show     float64 // s
	freed    float64 // mu
	freedAt  int64   // FreedTotal at the last tick
	credit   []float64
}

type cohort struct {
	atMs int64
	n    float64
}

type pendingArrival struct {
	dueMs  int64
	counts [buckets]float64
}

// NewLaw starts a law with nothing learned.
func NewLaw(c Constants) (*Law, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Law{c: c}, nil
}

// SetDial changes k between ticks.
func (l *Law) SetDial(k float64) error {
	c := l.c
	c.Dial = k
	if err := c.Validate(); err != nil {
		return err
	}
	l.c = c
	return nil
}

// Tick advances the law to in.NowMs and decides whom to call. Times that go back count as no time passed.
func (l *Law) Tick(in Input) Output {
	prevMs := l.advance(in)
	f := l.distribution()

	// Show-up: compare who came with who should have come by the curve if everybody came.
	lag := int64(l.c.ShowLagS * 1000)
	for _, c := range l.cohorts {
		l.expected += c.n * (f.at(in.NowMs-c.atMs-lag) - f.at(prevMs-c.atMs-lag))
	}
	s := min(max((l.arrived+l.c.ShowPrior)/(l.expected+l.c.ShowPrior), l.c.ShowMin), 1)
	s = max(s, l.show*math.Exp(-max(float64(in.NowMs-prevMs)/1000, 0)/l.c.ShowFallS))
	l.show = s

	horizon := int64(l.c.HorizonS * 1000)
	coming := 0.0
	for _, c := range l.cohorts {
		age := in.NowMs - c.atMs
		coming += c.n * s * (f.at(age+horizon) - f.at(age))
	}
	lead := f.meanWithin(l.c.HorizonS)
	door := float64(max(in.Parked, 0))
	g := Gauges{LeadS: lead, ShowUp: s, FreedRate: l.freed, Door: door, Coming: coming}
	g.Want = float64(in.Cap-in.Active) + l.freed*lead + l.c.Dial*math.Sqrt(max(l.freed, 0.2)*lead) - door - coming
	if n := len(l.cohorts); in.Active < in.Cap && in.Parked <= 0 && (n == 0 || in.NowMs-l.cohorts[n-1].atMs >= patienceMs) {
		g.Want = max(g.Want, leastWant) // whatever the forecast: a free place, nobody at the door and nobody just called: call somebody
	}
	g.Limit, g.Stock = math.Inf(1), math.Inf(1)
	rateLimit := line.LimitRate
	rate := in.OperatorRate
	if in.CoreRate > 0 && (rate <= 0 || in.CoreRate < rate) {
		rate, rateLimit = in.CoreRate, line.LimitCore
	}
	if rate > 0 {
		g.Limit = rate*(lead+l.c.TickS) + l.c.Dial*math.Sqrt(rate*lead) - door - coming
	}
	if st := in.Stock; st != nil {
		g.Stock = (max(st.Sellable, 0)+l.c.HeldWeight*max(st.Held, 0))/max(st.SeatsPerSession, 1e-3) - float64(in.Active) - door - coming
	}

	bound, by := g.Want, line.LimitCap
	if g.Limit < bound {
		bound, by = g.Limit, rateLimit
	}
	if g.Stock < bound {
		bound, by = g.Stock, line.LimitStock
	}
	out := Output{Called: make([]uint64, len(in.Lanes)), Gauges: g}
	for i, lane := range in.Lanes {
		out.Called[i] = lane.Called
	}
	if bound > 0 && !in.Hold {
		n := math.Ceil(bound / s)
		out.Added = l.split(out.Called, in.Lanes, uint64(min(n, 1<<53)))
		if out.Added > 0 {
			l.cohorts = append(l.cohorts, cohort{in.NowMs, float64(out.Added)})
			out.Gauges.Coming += float64(out.Added) * s * f.at(horizon)
		}
	}
	out.LimitedBy = by
	if left(out.Called, in.Lanes) == 0 && in.Parked <= 0 {
		out.LimitedBy = line.LimitNobody
	}
	return out
}

// advance moves the averages to now, takes in the arrivals and forgets what is too old. It returns the time of the last tick.
func (l *Law) advance(in Input) (prevMs int64) {
	if !l.started {
		l.started, l.lastMs, l.freedAt, l.show = true, in.NowMs, in.FreedTotal, 1
	}
	prevMs = l.lastMs
	dt := max(float64(in.NowMs-prevMs)/1000, 0)
	l.lastMs = max(l.lastMs, in.NowMs)

	if dt > 0 {
		freed := float64(max(in.FreedTotal-l.freedAt, 0)) / dt
		l.freed += (1 - math.Exp(-dt/l.c.FreedDecayS)) * (freed - l.freed)
		l.freedAt = in.FreedTotal
		fade := math.Exp(-dt / l.c.ShowDecayS)
		l.arrived *= fade
		l.expected *= fade
		fade = math.Exp(-dt / l.c.CurveDecayS)
		for i := range l.curve {
			l.curve[i] *= fade
		}
	}

	learnMs := int64(l.c.LearnAgeS * 1000)
	for _, a := range in.Arrivals {
		b := bucket(a.AgeMs)
		if b < 0 || !(a.Count > 0) {
			continue
		}
		l.arrived += a.Count
		l.learnLater(in.NowMs+learnMs-AgeBoundsMs[b], b, a.Count)
	}
	for len(l.pending) > 0 && l.pending[0].dueMs <= in.NowMs {
		for i, n := range l.pending[0].counts {
			l.curve[i] += n
		}
		l.pending = l.pending[1:]
	}
	for len(l.cohorts) > 0 && in.NowMs-l.cohorts[0].atMs > learnMs {
		l.cohorts = l.cohorts[1:]
	}
	return prevMs
}

// learnLater keeps an arrival until its cohort is old enough. Entries are a second apart, sorted by due time.
func (l *Law) learnLater(dueMs int64, b int, n float64) {
	dueMs = (dueMs + 999) / 1000 * 1000
	i, found := slices.BinarySearchFunc(l.pending, dueMs, func(p pendingArrival, due int64) int { return int(p.dueMs - due) })
	if !found {
		l.pending = slices.Insert(l.pending, i, pendingArrival{dueMs: dueMs})
	}
	l.pending[i].counts[b] += n
}

func bucket(ageMs int64) int {
	i, _ := slices.BinarySearch(AgeBoundsMs[:], ageMs)
	if i == buckets {
		return -1
	}
	return i
}

// split hands n calls to the lanes with somebody waiting, in proportion to their weights. What a lane cannot use goes to the
// others; fractions are carried over, so that single calls take turns by weight too. It returns how many were handed out.
func (l *Law) split(called []uint64, lanes []Lane, n uint64) uint64 {
	if len(l.credit) != len(lanes) {
		l.credit = make([]float64, len(lanes))
	}
	n = min(n, left(called, lanes))
	given := uint64(0)
	for given < n {
		weights := 0.0
		for i, lane := range lanes {
			if called[i] < lane.Total {
				weights += float64(max(lane.Weight, 1))
			}
		}
		round := n - given
		best := -1
		for i, lane := range lanes {
			if called[i] >= lane.Total {
				l.credit[i] = 0
				continue
			}
			l.credit[i] += float64(round) * float64(max(lane.Weight, 1)) / weights
			whole := min(uint64(max(math.Floor(l.credit[i]), 0)), lane.Total-called[i], n-given)
			called[i] += whole
			given += whole
			l.credit[i] -= float64(whole)
			if called[i] < lane.Total && (best < 0 || l.credit[i] > l.credit[best]) {
				best = i
			}
		}
		if given < n && best >= 0 { // rounding left some over: the lane nearest to its next call has it
			called[best]++
			given++
			l.credit[best]--
		}
		for i := range l.credit {
			l.credit[i] = min(max(l.credit[i], -1), 1) // a debt or claim older than one call is not fair but stale
		}
	}
	return given
}

// left is the number of ranks not called yet.
func left(called []uint64, lanes []Lane) (n uint64) {
	for i, lane := range lanes {
		if lane.Total > called[i] {
			n += lane.Total - called[i]
		}
	}
	return n
}

// distribution is the response curve at one moment.
type distribution struct {
	cum [buckets]float64 // share that has come by each bound
}

func (l *Law) distribution() (d distribution) {
	counts := l.counts()
	total := 0.0
	for _, n := range counts {
		total += n
	}
	sum := 0.0
	for i, n := range counts {
		sum += n
		d.cum[i] = sum / total
	}
	return d
}

// meanWithin is the mean of the response time, cut off at a horizon: in balance the number of fans who will come within the
// horizon is the rate at which they come times this.
func (d *distribution) meanWithin(horizonS float64) (meanS float64) {
	from, low := 0.0, 0.0
	for i := range d.cum {
		to, high := float64(AgeBoundsMs[i])/1000, d.cum[i]
		if to > horizonS {
			high = low + (high-low)*(horizonS-from)/(to-from)
			to = horizonS
		}
		meanS += (to - from) * (1 - (low+high)/2)
		if to == horizonS {
			break
		}
		from, low = to, high
	}
	return meanS
}

// counts is the prior and what was learned.
func (l *Law) counts() (counts [buckets]float64) {
	sum := 0.0
	for _, p := range l.c.Prior {
		sum += p
	}
	for i, p := range l.c.Prior {
		counts[i] = p/sum*l.c.PriorWeight + l.curve[i]
	}
	return counts
}

// at is the share that has come by an age, linear inside buckets.
func (d *distribution) at(ageMs int64) float64 {
	if ageMs <= 0 {
		return 0
	}
	i, _ := slices.BinarySearch(AgeBoundsMs[:], ageMs)
	if i == buckets {
		return 1
	}
	from, low := int64(0), 0.0
	if i > 0 {
		from, low = AgeBoundsMs[i-1], d.cum[i-1]
	}
	return low + (d.cum[i]-low)*float64(ageMs-from)/float64(AgeBoundsMs[i]-from)
}

// Curve is the response curve as learned so far, for the Prior of the next sale.
func (l *Law) Curve() [buckets]float64 { return l.counts() }
