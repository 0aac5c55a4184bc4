package agent

import (
	"sync"
	"time"
)

// Bounds of the estimate of store time.
const (
	coarseMs    = 100   // beyond a window of uncertainty, stamps say so
	uncertainMs = 3_000 // beyond this, the store is asked for its time before stamping

	driftPPM   = 200.0 // two ordinary clocks drift apart by less
	slewFactor = 0.5   // how fast the estimate is held back when it ran ahead
)

// storeClock estimates the store's time from its answers. Every answer bounds the difference between the store's clock and this
// machine's monotonic one; the estimate is the middle of the intersection of those bounds, widened by drift. Readings never go
// back: an estimate that ran ahead is slowed down until the truth has caught up. Safe for concurrent use.
type storeClock struct {
	mu     sync.Mutex
	anchor time.Time // local times count from here, on the monotonic clock
	known  bool
	lo, hi float64 // bounds of store minus local, ms
	at     float64 // local ms of the last observation, for drift
	shown  float64 // offset in use, ms; at or above the middle of the bounds
	shownT float64 // local ms when shown was brought up to date
	last   int64   // highest reading
}

func (c *storeClock) local(t time.Time) float64 {
	if c.anchor.IsZero() {
		c.anchor = t
	}
	return float64(t.Sub(c.anchor)) / 1e6
}

// observe takes one answer: the store read storeMs on its clock at some moment between sent and received.
func (c *storeClock) observe(sent, received time.Time, storeMs int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ts, tr := c.local(sent), c.local(received)
	lo, hi := float64(storeMs)-tr, float64(storeMs+1)-ts
	if c.known {
		drift := max(0, tr-c.at) * driftPPM / 1e6
		wideLo, wideHi := max(lo, c.lo-drift), min(hi, c.hi+drift)
		if wideLo <= wideHi {
			lo, hi = wideLo, wideHi
		} // else one of the clocks was stepped: only the newest answer counts
	}
	c.slew(tr)
	c.lo, c.hi, c.at = lo, hi, tr
	if mid := (lo + hi) / 2; !c.known || c.shown < mid {
		c.shown = mid
	}
	c.known = true
}

// slew lets the offset in use sink towards the middle of the bounds, at most half of the time that passed.
func (c *storeClock) slew(local float64) {
	passed := max(0, local-c.shownT)
	c.shownT = local
	if mid := (c.lo + c.hi) / 2; c.known && c.shown > mid {
		c.shown = max(mid, c.shown-passed*slewFactor)
	}
}

// now reads the estimate in Unix milliseconds and how far it may be off. ok is false before the first answer.
func (c *storeClock) now() (ms, offMs int64, ok bool) {
	t := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known {
		return 0, 0, false
	}
	local := c.local(t)
	c.slew(local)
	if read := int64(local + c.shown); read > c.last {
		c.last = read
	}
	drift := max(0, local-c.at) * driftPPM / 1e6
	lo, hi := local+c.lo-drift, local+c.hi+drift
	return c.last, int64(max(float64(c.last)-lo, hi-float64(c.last)) + 1), true
}
