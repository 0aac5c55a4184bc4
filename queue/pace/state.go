package pace

import (
	"errors"
	"fmt"
	"math"
)

// State is what a law has learned, small enough to be published with every call, so that another controller goes on where this
// one stopped: without it the fans it called would be forgotten and called for a second time.
type State struct {
	AtMs     int64            `json:"at_ms"`
	FreedAt  int64            `json:"freed_at"`
	Freed    float64          `json:"freed"`
	Arrived  float64          `json:"arrived"`
	Show     float64          `json:"show"`
	Expected float64          `json:"expected"`
	Curve    [buckets]float64 `json:"curve"`
	Cohorts  []StateCohort    `json:"cohorts,omitempty"` // by second
}

// StateCohort is how many ranks were called around a time.
type StateCohort struct {
	AgoMs int64   `json:"ago_ms"`
	N     float64 `json:"n"`
}

// ErrState is wrapped by Restore's error.
var ErrState = errors.New("pace state is malformed")

// State reads the law's memory. Cohorts of one second are merged; arrivals that were waiting to be learned from are left out.
func (l *Law) State() State {
	s := State{AtMs: l.lastMs, FreedAt: l.freedAt, Freed: l.freed, Arrived: l.arrived, Show: l.show, Expected: l.expected, Curve: l.curve}
	for _, c := range l.cohorts {
		ago := l.lastMs - c.atMs
		if n := len(s.Cohorts); n > 0 && s.Cohorts[n-1].AgoMs/1000 == ago/1000 {
			s.Cohorts[n-1].N += c.n
			continue
		}
		s.Cohorts = append(s.Cohorts, StateCohort{AgoMs: ago, N: c.n})
	}
	return s
}

// Restore continues from another law's memory. On an error the law is unchanged.
func (l *Law) Restore(s State) error {
	bad := func(v float64) bool { return !(v >= 0) || math.IsInf(v, 0) }
	for _, v := range append([]float64{s.Freed, s.Arrived, s.Expected, s.Show}, s.Curve[:]...) {
		if bad(v) {
			return fmt.Errorf("%w: %v is not a count", ErrState, v)
		}
	}
	if len(s.Cohorts) > 4000 {
		return fmt.Errorf("%w: %d cohorts", ErrState, len(s.Cohorts))
	}
	cohorts := make([]cohort, 0, len(s.Cohorts))
	for i, c := range s.Cohorts {
		if bad(c.N) || c.AgoMs < 0 || i > 0 && c.AgoMs > s.Cohorts[i-1].AgoMs {
			return fmt.Errorf("%w: cohort %d", ErrState, i)
		}
		cohorts = append(cohorts, cohort{atMs: s.AtMs - c.AgoMs, n: c.N})
	}
	l.started, l.lastMs, l.freedAt = true, s.AtMs, s.FreedAt
	l.freed, l.arrived, l.expected, l.show, l.curve = s.Freed, s.Arrived, s.Expected, min(s.Show, 1), s.Curve
	l.cohorts, l.pending = cohorts, nil
	return nil
}
