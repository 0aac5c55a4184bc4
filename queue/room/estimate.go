package room

import (
	"math"
	"slices"

	"github.com/stanchion-queue/stanchion/queue/line"
)

// Constants of the estimator.
const (
	speedOverMs  = 300_000 // the speed is that of the last 5 minutes
	guessEveryMs = 10_000  // a forecast is made for itself this often, to learn from
	maxGuesses   = 512     // forecasts not yet come true, per lane
	maxErrors    = 256     // errors remembered
	coverage     = 0.8     // share of forecasts the interval should hold
	widthStep    = 0.03    // by how much one forecast widens or narrows the interval
	leastWidth   = 0.04    // the interval is never narrower than +-4%
	earlyLow     = 0.5     // interval before anything was learned
	earlyHigh    = 2.5
)

// horizons at which an estimator forecasts for itself, in seconds.
var horizons = [...]float64{30, 60, 120, 300, 600, 1200}

// Estimator forecasts when a lane's ranks are called: the speed of the last minutes, and an interval from how wrong its own
// forecasts have been. It belongs to one goroutine; the zero value knows nothing.
//
// The interval's ends are the 10% and 90% quantiles of the log-errors of past forecasts, widened or narrowed a little by each hit
// and miss so that in the long run 80% of forecasts hold (adaptive conformal prediction, Gibbs and Candès 2021).
type Estimator struct {
	points  []point
	startMs int64 // speed counts from here: the fill of an empty room says nothing about the line behind it
	guesses []guess
	guessMs int64
	errors  []float64
	width   float64 // added to the log-interval on both sides
}

type point struct {
	ms     int64
	called uint64
}

type guess struct {
	madeMs    int64
	rank      uint64
	inS       float64
	low, high float64
}

// Steady tells the estimator that the room has been filled: from now on the speed means something.
func (e *Estimator) Steady(nowMs int64) {
	if e.startMs == 0 {
		e.startMs = nowMs
	}
}

// Observe notes how far the lane is called. Calls are a quarter of a second apart, or rarer.
func (e *Estimator) Observe(nowMs int64, called uint64) {
	if n := len(e.points); n == 0 || nowMs-e.points[n-1].ms >= 1000 {
		e.points = append(e.points, point{nowMs, called})
	}
	for len(e.points) > 1 && e.points[1].ms <= nowMs-speedOverMs {
		e.points = e.points[1:]
	}
	e.learn(nowMs, called)
}

// Rate is the ranks called per second over the last overMs, by the points observed since Steady unless all is true.
func (e *Estimator) Rate(nowMs, overMs int64, called uint64, all bool) float64 {
	from := nowMs - overMs
	if !all {
		from = max(from, e.startMs)
	}
	for _, p := range e.points {
		if p.ms < from {
			continue
		}
		if dt := nowMs - p.ms; dt >= 1000 {
			return float64(called-min(p.called, called)) / float64(dt) * 1000
		}
		break
	}
	return 0
}

// learn compares forecasts that have come true with what happened.
func (e *Estimator) learn(nowMs int64, called uint64) {
	open := e.guesses[:0]
	for _, g := range e.guesses {
		if called <= g.rank {
			open = append(open, g)
			continue
		}
		took := max(float64(nowMs-g.madeMs)/1000, 0.5)
		e.errors = append(e.errors, math.Log(took/g.inS))
		if len(e.errors) > maxErrors {
			e.errors = e.errors[1:]
		}
		if took < g.low || took > g.high {
			e.width += widthStep * coverage
		} else {
			e.width = max(e.width-widthStep*(1-coverage), -1)
		}
	}
	e.guesses = open
}

// ETA is the lane's forecast. earlyPerSecond is the speed to assume while nothing is known, by the room's size and stay.
func (e *Estimator) ETA(nowMs int64, called, total uint64, earlyPerSecond float64) line.ETA {
	eta := line.ETA{Kind: line.ETAVelocity, PerSecond: e.Rate(nowMs, speedOverMs, called, false)}
	if e.startMs == 0 || nowMs-e.startMs < 30_000 || eta.PerSecond <= 0 {
		eta.Kind, eta.PerSecond = line.ETAEarly, max(earlyPerSecond, 0)
	}
	if math.IsNaN(eta.PerSecond) || math.IsInf(eta.PerSecond, 0) {
		eta.PerSecond = 0
	}
	eta.Low, eta.High = e.interval()
	if eta.PerSecond > 0 && nowMs-e.guessMs >= guessEveryMs && total > called {
		e.guessMs = nowMs
		for _, h := range horizons {
			ahead := uint64(math.Ceil(eta.PerSecond * h))
			if called+ahead < total && len(e.guesses) < maxGuesses {
				in := float64(ahead) / eta.PerSecond
				e.guesses = append(e.guesses, guess{madeMs: nowMs, rank: called + ahead, inS: in, low: in * eta.Low, high: in * eta.High})
			}
		}
	}
	return eta
}

// interval is the factors of the 80% interval.
func (e *Estimator) interval() (low, high float64) {
	if len(e.errors) < 10 {
		return earlyLow, earlyHigh
	}
	sorted := slices.Clone(e.errors)
	slices.Sort(sorted)
	at := func(q float64) float64 { return sorted[int(q*float64(len(sorted)-1))] }
	lo, hi := at((1-coverage)/2)-e.width, at((1+coverage)/2)+e.width
	mid := min(max((lo+hi)/2, -2.9), 2.9)
	return math.Exp(max(min(lo, mid-leastWidth), -3)), math.Exp(min(max(hi, mid+leastWidth), 3))
}

// MedianError is the median of |ln(actual/forecast)| over what was learned; ok is false before the first.
func (e *Estimator) MedianError() (float64, bool) {
	if len(e.errors) == 0 {
		return 0, false
	}
	abs := make([]float64, len(e.errors))
	for i, x := range e.errors {
		abs[i] = math.Abs(x)
	}
	slices.Sort(abs)
	return abs[len(abs)/2], true
}
