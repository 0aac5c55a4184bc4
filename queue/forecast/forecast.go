// Package forecast tells waiting fans when they will be called, as an interval that says how sure it is.
//
// Two estimates run side by side for each lane. The velocity divides the ranks ahead by the ranks called per second; it is right
// while the share of absent fans is the same all along the line. The sample divides the fans who are still there, counted block by
// block from a small sample of tickets, by the fans who come per second; it is right also where somebody hoards tickets or a part of the line
// has gone home. Both are made for a few ranks every ten seconds and compared with what happened; the better one of late is shown. The
// interval is that of its own past errors, and widens or narrows with every miss or hit so that in the long run 80% of the
// forecasts hold (adaptive conformal prediction, Gibbs and Candès 2021).
//
// The package is pure. A Lane belongs to one goroutine.
package forecast

import (
	"math"
	"slices"

	"github.com/stanchion-queue/stanchion/queue/line"
)

const (
	speedOverMs  = 300_000 // speeds are those of the last five minutes
	pointEveryMs = 1_000
	guessEveryMs = 10_000
	maxGuesses   = 1024
	maxErrors    = 256 // of each estimate
	choiceOf     = 64  // the better of so many last forecasts is shown
	coverage     = 0.8
	widthStep    = 0.03
	leastWidth   = 0.04 // the interval is never narrower than 4% to each side
	enoughErrors = 12   // from here on errors count, at first a little
	manyErrors   = 64   // and from here on nothing else: the first ones are all of short waits
	mostWidth    = 2    // in logarithms
	earlyWeightS = 60
	earlyLow     = 0.5
	earlyHigh    = 2.5
	worseBy      = 0.8 // a speed that fell below this share of that of a minute ago needs a cause
)

// horizons at which a lane forecasts for itself, in seconds.
var horizons = [...]float64{30, 60, 120, 300, 600, 1200}

// Presence is the share of fans who are still there, by blocks of ranks.
type Presence struct {
	BlockSize uint64
	FromBlock uint64    // block of the first share
	Shares    []float64 // 0 to 1
}

// Input is what a lane's forecast is made from, a quarter of a second apart or more.
type Input struct {
	NowMs  int64
	Called uint64
	Total  uint64  // sealed
	Came   float64 // fans of the lane who have come to the door so far

	// FilledMs is when the room was first full, 0 before. Until the first fans leave, the line stands still and its speed means
	// nothing: for StayMs from then on the forecast is EarlyPerSecond, the ranks a second that the room's size and stay allow.
	FilledMs       int64
	StayMs         int64
	EarlyPerSecond float64

	Presence  *Presence // nil: no sample
	LimitedBy line.Limit
	Paused    bool
}

// Lane forecasts one lane. The zero value knows nothing.
type Lane struct {
	points  []point
	guesses []guess
	guessMs int64
	by      [2]estimate // velocity, sample
	minute  []speedAt
	early   estimate
}

const (
	velocity = 0
	sample   = 1
)

type point struct {
	ms     int64
	called uint64
	came   float64
}

type speedAt struct {
	ms    int64
	speed float64
}

// guess is a forecast for a rank, waiting to come true.
type guess struct {
	madeMs int64
	rank   uint64
	inS    [2]float64 // by each estimate; 0: none
	low    [2]float64
	high   [2]float64
}

// estimate is how one way of forecasting has done.
type estimate struct {
	errors []float64 // ln(actual / forecast)
	width  float64
}

// Observe takes in the lane's state and returns its part of the status object.
func (l *Lane) Observe(in Input) line.ETA {
	if n := len(l.points); n == 0 || in.NowMs-l.points[n-1].ms >= pointEveryMs {
		l.points = append(l.points, point{in.NowMs, in.Called, in.Came})
	}
	for len(l.points) > 1 && l.points[1].ms <= in.NowMs-speedOverMs {
		l.points = l.points[1:]
	}
	l.learn(in)

	ranks, fans := l.speeds(in)
	early := in.FilledMs == 0 || in.NowMs < in.FilledMs+in.StayMs || ranks <= 0
	eta := line.ETA{Kind: line.ETAVelocity, PerSecond: ranks}
	shown := &l.by[velocity]
	if p := in.Presence; p != nil && fans > 0 && p.BlockSize > 0 && len(p.Shares) > 0 {
		eta.BlockSize, eta.FromBlock, eta.Present = p.BlockSize, p.FromBlock, line.EncodePresent(p.Shares)
		if l.sampleIsBetter() {
			eta.Kind, eta.PerSecond = line.ETASample, fans
			shown = &l.by[sample]
		}
	}
	if early {
		eta = line.ETA{Kind: line.ETAEarly, PerSecond: finite(in.EarlyPerSecond)}
		shown = &l.early
	}
	eta.Low, eta.High = shown.interval()
	if !early {
		l.guess(in, eta, ranks, fans)
	}
	eta.Cause = l.worsened(in, ranks)
	return eta
}

// Rate is how many ranks were called per second over the last overMs, at most five minutes; 0 while a second has not passed.
func (l *Lane) Rate(nowMs, overMs int64, called uint64) float64 {
	for _, p := range l.points {
		if p.ms < nowMs-overMs {
			continue
		}
		if s := float64(nowMs-p.ms) / 1000; s >= 1 {
			return float64(called-min(p.called, called)) / s
		}
		break
	}
	return 0
}

// speeds are the ranks called and the fans come per second, since the room's first fans began to leave.
func (l *Lane) speeds(in Input) (ranks, fans float64) {
	from := max(in.NowMs-speedOverMs, in.FilledMs+in.StayMs/2)
	for _, p := range l.points {
		if p.ms < from {
			continue
		}
		if s := float64(in.NowMs-p.ms) / 1000; s >= 10 {
			ranks = float64(in.Called-min(p.called, in.Called)) / s
			// The line gets going slowly after its standstill: at first the room's own speed counts for a minute of what was seen.
			if guessed := finite(in.EarlyPerSecond); ranks > 0 && guessed > ranks {
				weight := earlyWeightS * max(1-s*1000/speedOverMs, 0)
				ranks += (guessed - ranks) * (weight / (s + weight))
			}
			return ranks, finite((in.Came - p.came) / s)
		}
		break
	}
	return 0, 0
}

// sampleIsBetter compares the last errors of both estimates; without any the sample is trusted, because where it is wrong it is
// less so.
func (l *Lane) sampleIsBetter() bool {
	v, s := l.by[velocity].median(), l.by[sample].median()
	return !(v < s)
}

// guess forecasts for some ranks ahead, to learn from.
func (l *Lane) guess(in Input, eta line.ETA, ranks, fans float64) {
	if in.NowMs-l.guessMs < guessEveryMs || in.Paused {
		return
	}
	l.guessMs = in.NowMs
	status := line.LaneStatus{Called: in.Called, Total: in.Total, ETA: eta}
	for _, h := range horizons {
		rank := in.Called + uint64(math.Ceil(ranks*h))
		if rank >= in.Total || len(l.guesses) >= maxGuesses {
			return
		}
		g := guess{madeMs: in.NowMs, rank: rank}
		status.ETA.Kind, status.ETA.PerSecond = line.ETAVelocity, ranks
		if i, ok := status.Estimate(rank); ok {
			g.set(velocity, i.Point.Seconds(), &l.by[velocity])
		}
		if eta.BlockSize > 0 && fans > 0 {
			status.ETA.Kind, status.ETA.PerSecond = line.ETASample, fans
			if i, ok := status.Estimate(rank); ok {
				g.set(sample, i.Point.Seconds(), &l.by[sample])
			}
		}
		l.guesses = append(l.guesses, g)
	}
}

func (g *guess) set(which int, inS float64, e *estimate) {
	low, high := e.interval()
	g.inS[which], g.low[which], g.high[which] = max(inS, 0.5), low, high
}

// learn compares forecasts that have come true with what happened.
func (l *Lane) learn(in Input) {
	open := l.guesses[:0]
	for _, g := range l.guesses {
		if in.Called <= g.rank {
			open = append(open, g)
			continue
		}
		took := max(float64(in.NowMs-g.madeMs)/1000, 0.5)
		for which := range g.inS {
			if g.inS[which] > 0 {
				l.by[which].note(took/g.inS[which], g.low[which], g.high[which])
			}
		}
	}
	l.guesses = open
}

func (e *estimate) note(ratio, low, high float64) {
	e.errors = append(e.errors, math.Log(ratio))
	if len(e.errors) > maxErrors {
		e.errors = e.errors[1:]
	}
	if ratio < low || ratio > high {
		e.width += widthStep * coverage
	} else {
		e.width -= widthStep * (1 - coverage)
	}
	e.width = min(max(e.width, -0.5), 2)
}

// interval is the factors of the 80% interval.
func (e *estimate) interval() (low, high float64) {
	if len(e.errors) < enoughErrors {
		return earlyLow, earlyHigh
	}
	sorted := slices.Clone(e.errors)
	slices.Sort(sorted)
	at := func(q float64) float64 { return sorted[int(math.Round(q*float64(len(sorted)-1)))] }
	lo, hi := at((1-coverage)/2)-e.width, at((1+coverage)/2)+e.width
	mid := (lo + hi) / 2
	lo, hi = min(lo, mid-leastWidth, -leastWidth), max(hi, mid+leastWidth, leastWidth)
	sure := min(float64(len(e.errors)-enoughErrors)/(manyErrors-enoughErrors), 1)
	lo, hi = sure*lo+(1-sure)*math.Log(earlyLow), sure*hi+(1-sure)*math.Log(earlyHigh)
	return math.Exp(max(lo, -mostWidth)), math.Exp(min(hi, mostWidth))
}

// median is the median size of the last errors; +Inf before the first.
func (e *estimate) median() float64 {
	last := e.errors[max(len(e.errors)-choiceOf, 0):]
	if len(last) == 0 {
		return math.Inf(1)
	}
	abs := make([]float64, len(last))
	for i, x := range last {
		abs[i] = math.Abs(x)
	}
	slices.Sort(abs)
	return abs[len(abs)/2]
}

// MedianError is the median of |ln(actual/forecast)| of the estimate that does better of late; ok is false before the first.
func (l *Lane) MedianError() (err float64, ok bool) {
	err = min(l.by[velocity].median(), l.by[sample].median())
	return err, !math.IsInf(err, 1)
}

// worsened names why the line has become slower within the last minute; empty when it has not.
func (l *Lane) worsened(in Input, speed float64) string {
	l.minute = append(l.minute, speedAt{in.NowMs, speed})
	for l.minute[0].ms < in.NowMs-60_000 {
		l.minute = l.minute[1:]
	}
	switch {
	case in.Paused:
		return "paused"
	case speed >= worseBy*l.minute[0].speed:
		return ""
	case in.LimitedBy == line.LimitCore:
		return "slower-core"
	case in.LimitedBy == line.LimitRate:
		return "rate"
	}
	return "fewer-absent"
}

func finite(v float64) float64 {
	if v > 0 && !math.IsInf(v, 0) {
		return v
	}
	return 0
}
