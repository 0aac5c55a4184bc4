// Package shed keeps an origin from being asked for more than it can do at a time: a concurrency limit that follows measured
// latency, and priorities that say who is turned away first.
//
// The limit moves by the gradient of latency (the form Envoy and Netflix use): every 100 ms
//
//	g     = clamp(base * (1 + tolerance) / median, 0.5, 1)
//	limit = clamp(g * limit + sqrt(limit), Min, Max)
//
// base is a low quantile of the latencies measured while the origin was at most half used, over the last minute; so no traffic
// has to be held back to measure it. The floor of g makes the limit halve within one interval when the origin becomes
// slow, and the root lets it grow while latency stays near the base.
package shed

import (
	"math"
	"slices"
	"sync"
	"time"
)

// Classes is how many priorities there are; 0 is turned away last.
const Classes = 6

// shares of the limit that each class may fill. What lower classes cannot fill is the headroom of the higher ones: at
// the default limit a sudden flood of page views leaves room for the payments under way.
var shares = [Classes]float64{1, 0.97, 0.93, 0.88, 0.82, 0.7}

const (
	interval     = 100 * time.Millisecond
	tolerance    = 0.5 // latency may rise by so much over the base before the limit shrinks
	baseQuantile = 0.1
	baseBuckets  = 6
	baseBucket   = 10 * time.Second
	maxSamples   = 256 // per interval; more are thinned by overwriting
)

// Outcome is how a request to the origin ended.
type Outcome uint8

// The outcomes.
const (
	OK       Outcome = iota // a response that says something about latency
	Ignore                  // a response that does not (an error, a client that left)
	Overload                // the origin said that it is overloaded, or did not answer in time
)

// Options of a Limiter.
type Options struct {
	Min     int // default 4
	Max     int // more than 0
	Initial int // default min(Max, 64)
}

// Limiter is the limit of one origin. It is safe for concurrent use.
type Limiter struct {
	mu       sync.Mutex
	min, max float64
	limit    float64
	inflight int
	peak     int // highest inflight since the last update

	next    time.Time
	samples []float64 // seconds, of this interval
	seen    int
	quiet   []float64 // of those, measured while at most half used
	bases   [baseBuckets]float64
	baseAt  int64
	cut     time.Time // no second cut for overload before this
	shed    [Classes]uint64
}

// New makes a limiter.
func New(o Options) *Limiter {
	if o.Min <= 0 {
		o.Min = 4
	}
	o.Min = min(o.Min, o.Max)
	if o.Initial <= 0 {
		o.Initial = min(o.Max, 64)
	}
	return &Limiter{min: float64(o.Min), max: float64(o.Max), limit: float64(o.Initial)}
}

// Acquire takes a slot for a request of the given priority. Every Acquire that returns true needs one Release.
func (l *Limiter) Acquire(priority int) bool {
	priority = min(max(priority, 0), Classes-1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if float64(l.inflight) >= max(1, math.Floor(l.limit*shares[priority])) {
		l.shed[priority]++
		return false
	}
	l.inflight++
	l.peak = max(l.peak, l.inflight)
	return true
}

// Release gives the slot back. latency is from sending the request to the first byte of the response.
func (l *Limiter) Release(latency time.Duration, outcome Outcome, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	used := l.inflight
	l.inflight--
	switch outcome {
	case OK:
		l.sample(latency.Seconds(), float64(used) <= l.limit/2)
	case Overload:
		// One cut per interval: a burst of refusals is one piece of news.
		if now.After(l.cut) {
			l.limit = max(l.min, l.limit*0.7)
			l.cut = now.Add(interval)
		}
	}
	if l.next.IsZero() {
		l.next = now.Add(interval)
	}
	if now.After(l.next) {
		l.update(now)
		l.next = now.Add(interval)
	}
}

func (l *Limiter) sample(s float64, quiet bool) {
	if len(l.samples) < maxSamples {
		l.samples = append(l.samples, s)
	} else {
		l.samples[l.seen%maxSamples] = s
	}
	l.seen++
	if quiet && len(l.quiet) < maxSamples {
		l.quiet = append(l.quiet, s)
	}
}

func (l *Limiter) update(now time.Time) {
	bucket := now.UnixNano() / int64(baseBucket)
	for b := max(l.baseAt+1, bucket-baseBuckets+1); b <= bucket; b++ {
		l.bases[b%baseBuckets] = 0
	}
	l.baseAt = bucket
	if len(l.quiet) > 0 {
		slices.Sort(l.quiet)
		q := l.quiet[int(baseQuantile*float64(len(l.quiet)))]
		if b := &l.bases[bucket%baseBuckets]; *b == 0 || q < *b {
			*b = q
		}
	}
	base := 0.0
	for _, b := range l.bases {
		if b > 0 && (base == 0 || b < base) {
			base = b
		}
	}
	if len(l.samples) > 0 && base > 0 {
		slices.Sort(l.samples)
		median := l.samples[len(l.samples)/2]
		g := min(1, max(0.5, base*(1+tolerance)/median))
		switch {
		case g < 1:
			l.limit = max(l.min, g*l.limit+math.Sqrt(l.limit))
		case float64(l.peak) > l.limit/2: // a limit that nobody reaches is no evidence for a higher one
			l.limit = min(l.max, l.limit+math.Sqrt(l.limit))
		}
		l.limit = min(l.limit, l.max)
	} else if base == 0 && len(l.samples) > 0 && float64(l.peak) > l.limit/2 {
		// Never at rest since the start: the smallest latency seen is the best base there is.
		l.bases[bucket%baseBuckets] = slices.Min(l.samples)
	}
	l.samples, l.quiet, l.seen, l.peak = l.samples[:0], l.quiet[:0], 0, l.inflight
}

// State is a limiter at one moment.
type State struct {
	Limit    float64
	Inflight int
	BaseS    float64
	Shed     [Classes]uint64
}

// State returns the limiter's numbers for metrics and pages.
func (l *Limiter) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	base := 0.0
	for _, b := range l.bases {
		if b > 0 && (base == 0 || b < base) {
			base = b
		}
	}
	return State{Limit: l.limit, Inflight: l.inflight, BaseS: base, Shed: l.shed}
}
