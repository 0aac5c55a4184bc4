package line

import (
	"encoding/base64"
	"math"
	"math/bits"
	"time"
)

// This file turns the public status object into what one fan wants to know. Pages and the simulator compute the same.

// Kinds of ETA.
const (
	ETASample   = "sample"   // ranks differ in how many of their holders are still there: count those present
	ETAVelocity = "velocity" // they do not: the speed of the line is enough
	ETAEarly    = "early"    // nobody had time to leave yet: a wide guess from the room's size and stay
)

// Bounds of a page's polls. What a status object asks for outside of them is not followed: a mistake there must neither silence all
// pages nor let them loose.
const (
	leastPollMs   = 1_000
	mostPollMs    = 300_000
	defaultPollMs = 2_000
	defaultMaxMs  = 60_000
	mostSpread    = 0.5
	pollsPerWait  = 16 // a page asks again after a sixteenth of its wait, so that it notices in time when the line becomes so much faster
)

// Interval is an 80% interval for the time until a place is called.
type Interval struct {
	Low, Point, High time.Duration
}

// Ahead is the number of ranks that will be called before this one: 0 when it has been called.
func (s LaneStatus) Ahead(rank uint64) uint64 {
	if rank < s.Called {
		return 0
	}
	return rank - s.Called
}

// Estimate is how long a rank still waits; ok is false when nobody can say (nothing is moving, or the place is not known).
func (s LaneStatus) Estimate(rank uint64) (i Interval, ok bool) {
	if rank == NoRank {
		return Interval{}, false
	}
	if rank < s.Called {
		return Interval{}, true
	}
	if !(s.ETA.PerSecond > 0) {
		return Interval{}, false
	}
	t := s.ETA.ahead(s.Called, rank) / s.ETA.PerSecond
	return Interval{Low: seconds(t * s.ETA.Low), Point: seconds(t), High: seconds(t * s.ETA.High)}, true
}

// ahead counts who is in the way of a rank, in the unit of PerSecond: ranks, or with ETASample fans who are still there.
func (e ETA) ahead(called, rank uint64) float64 {
	n := float64(rank - called)
	if e.Kind != ETASample || e.BlockSize == 0 {
		return n
	}
	shares, err := DecodePresent(e.Present)
	if err != nil || len(shares) == 0 {
		return n
	}
	// Blocks before the first described one count like it, those after the last like the last.
	present := 0.0
	for i, share := range shares {
		from, to := uint64(0), rank
		if i > 0 {
			from = blockStart(e, i)
		}
		if i < len(shares)-1 {
			to = blockStart(e, i+1)
		}
		if from, to = max(from, called), min(to, rank); from < to {
			present += float64(to-from) * share
		}
	}
	return present
}

// blockStart is the first rank of the i-th described block, saturating.
func blockStart(e ETA, i int) uint64 {
	block := e.FromBlock + uint64(i)
	if hi, lo := bits.Mul64(block, e.BlockSize); block >= e.FromBlock && hi == 0 {
		return lo
	}
	return math.MaxUint64
}

// MaxPresentBlocks is how many blocks a status object may describe.
const MaxPresentBlocks = 256

// EncodePresent encodes shares in [0, 1], one per block, as ETA.Present. Blocks beyond MaxPresentBlocks are left out.
func EncodePresent(shares []float64) string {
	shares = shares[:min(len(shares), MaxPresentBlocks)]
	raw := make([]byte, len(shares))
	for i, s := range shares {
		if s > 0 { // also false for NaN
			raw[i] = byte(math.Round(min(s, 1) * 255))
		}
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// DecodePresent reads ETA.Present.
func DecodePresent(s string) ([]float64, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, err
	}
	shares := make([]float64, min(len(raw), MaxPresentBlocks))
	for i := range shares {
		shares[i] = float64(raw[i]) / 255
	}
	return shares, nil
}

// NextPoll is how long a page waits before it asks for the status again, given its rank (NoRank: not known yet) and a uniform
// random number u in [0, 1). Near the front pages ask often, far behind rarely: a sixteenth of the remaining time,
// clamped to the status object's bounds. Phases in which no place moves use the upper bound; while a place is about to become
// known, or somebody may be called at any moment, the lower ones.
func (s Status) NextPoll(lane int, rank uint64, u float64) time.Duration {
	lo, hi := s.Poll.MinMs, s.Poll.MaxMs
	if lo <= 0 {
		lo = defaultPollMs
	}
	if hi <= 0 {
		hi = defaultMaxMs
	}
	lo = min(max(lo, leastPollMs), mostPollMs)
	hi = min(max(lo, hi), mostPollMs)
	ms := float64(hi)
	switch s.Phase {
	case PhaseDrawing:
		ms = max(float64(lo), float64(hi)/8)
	case PhaseOpen:
		ms = float64(lo)
	case PhaseWaiting:
		if lane < 0 || lane >= len(s.Lanes) {
			break
		}
		l := s.Lanes[lane]
		if rank == NoRank {
			ms = leastPollMs // sealed within half a second, usually
			break
		}
		ahead := l.Ahead(rank)
		if f := s.Poll.FrontMaxMs; f > 0 && l.Total > l.Called && ahead <= (l.Total-l.Called)/10 {
			hi = max(lo, min(hi, f))
			ms = float64(hi)
		}
		// The line may have stood still for a minute and move on at any moment: the faster of its speeds counts.
		speed := max(l.PerMinute/60, l.ETA.PerSecond)
		ahead -= min(ahead, s.Poll.Front)
		switch {
		case ahead == 0:
			ms = float64(lo)
		case speed > 0:
			ms = min(max(float64(ahead)/speed/pollsPerWait*1000, float64(lo)), float64(hi))
		}
	}
	spread := 0.0
	if s.Poll.Spread > 0 { // also false for NaN
		spread = min(s.Poll.Spread, mostSpread)
	}
	return time.Duration(ms * (1 + spread*(2*u-1)) * float64(time.Millisecond))
}

// seconds saturates instead of overflowing: an estimate of centuries is still an estimate. What is not a time is none.
func seconds(s float64) time.Duration {
	switch {
	case s >= math.MaxInt64/1e9:
		return math.MaxInt64
	case s > 0:
		return time.Duration(s * 1e9)
	}
	return 0
}
