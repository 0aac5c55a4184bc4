// Package shed keeps an origin from being asked for more than it can do at a time: a concurrency limit that follows measured
// latency, a short queue in front of it, and priorities that say who is turned away first.
//
// The limit moves by the gradient of latency (the form that Netflix' concurrency-limits and Envoy use): every 100 ms
//
//	fair  = max(base * (1 + tolerance), base + slack)
//	g     = clamp(fair / median, 0.5, 1)
//	limit = clamp(g * limit + sqrt(limit) / 2, Min, Max)   when g < 1
//	limit = clamp(limit + sqrt(limit) / 2, Min, Max)       when g = 1 and the limit was being used
//
// base is a low quantile of the latencies measured while the origin was at most half used, over the last minute; so no traffic
// has to be held back to measure it. The floor of g makes the limit halve within one interval when the origin becomes
// slow, and the root lets it grow while latency stays fair. slack keeps the noise of very fast origins from being
// taken for load.
//
// A request that finds the limit used up waits for at most about half a base latency in a queue of its class; a slot that
// becomes free goes to the highest class first. The queue is bounded: a higher class takes the place of the youngest of
// the lowest class.
package shed

import (
	"math"
	"slices"
	"sync"
	"time"
)

// Classes is how many priorities there are; 0 is turned away last.
const Classes = 6

// shares of the limit that each class may fill. What lower classes cannot fill is the headroom of the higher ones: a sudden
// flood of page views leaves room for the payments under way.
var shares = [Classes]float64{1, 0.97, 0.93, 0.88, 0.82, 0.7}

const (
	interval     = 100 * time.Millisecond
	tolerance    = 0.3
	slack        = 0.005 // seconds
	baseQuantile = 0.1
	baseBuckets  = 6
	baseBucket   = 10 * time.Second
	maxSamples   = 256 // per interval; more are thinned by overwriting

	leastWait = 5 * time.Millisecond
	mostWait  = 50 * time.Millisecond
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
	queue    [Classes][]*waiter
	waiting  int

	next    time.Time
	samples []float64 // seconds, of this interval
	seen    int
	quiet   []float64 // of those, measured while at most half used
	bases   [baseBuckets]float64
	baseAt  int64
	cut     time.Time // no second cut for overload before this
	shed    [Classes]uint64
}

// waiter is one request in the queue. Whoever takes it out of the queue sends the answer, once.
type waiter struct {
	answer chan bool
}

// New makes a limiter.
func New(o Options) *Limiter {
	if o.Min <= 0 {
		o.Min = 4
	}
	o.Min = min(o.Min, o.Max)
	if o.Initial <= 0 {
		o.Initial = max(o.Min, min(o.Max, 64))
	}
	return &Limiter{min: float64(o.Min), max: float64(o.Max), limit: float64(o.Initial)}
}

// Acquire takes a slot for a request of the given priority, waiting a moment for one if need be. Every Acquire that returns
// true needs one Release.
func (l *Limiter) Acquire(priority int) bool {
	priority = min(max(priority, 0), Classes-1)
	l.mu.Lock()
	if l.free(priority) && !l.waitingBefore(priority) {
		l.take()
		l.mu.Unlock()
		return true
	}
	w := l.enqueue(priority)
	if w == nil {
		l.shed[priority]++
		l.mu.Unlock()
		return false
	}
	wait := min(max(time.Duration(l.base()/2*float64(time.Second)), leastWait), mostWait)
	l.mu.Unlock()

	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case ok := <-w.answer:
		return ok
	case <-t.C:
	}
	l.mu.Lock()
	if i := slices.Index(l.queue[priority], w); i >= 0 {
		l.queue[priority] = slices.Delete(l.queue[priority], i, i+1)
		l.waiting--
		l.shed[priority]++
		l.mu.Unlock()
		return false
	}
	l.mu.Unlock()
	return <-w.answer // it was taken out in the same moment
}

// free reports whether a class may take a slot now.
func (l *Limiter) free(priority int) bool {
	return float64(l.inflight) < max(1, math.Floor(l.limit*shares[priority]))
}

// waitingBefore reports whether somebody of the same or a higher class waits.
func (l *Limiter) waitingBefore(priority int) bool {
	for c := range priority + 1 {
		if len(l.queue[c]) > 0 {
			return true
		}
	}
	return false
}

func (l *Limiter) take() {
	l.inflight++
	l.peak = max(l.peak, l.inflight)
}

// enqueue finds a place in the queue, if need be the one of a lower class; nil when there is none.
func (l *Limiter) enqueue(priority int) *waiter {
	if room := max(4, int(l.limit/2)); l.waiting >= room {
		lowest := Classes - 1
		for lowest > priority && len(l.queue[lowest]) == 0 {
			lowest--
		}
		if lowest <= priority {
			return nil
		}
		q := l.queue[lowest]
		q[len(q)-1].answer <- false
		l.queue[lowest] = q[:len(q)-1]
		l.shed[lowest]++
		l.waiting--
	}
	w := &waiter{answer: make(chan bool, 1)}
	l.queue[priority] = append(l.queue[priority], w)
	l.waiting++
	return w
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
	for c := range Classes {
		for len(l.queue[c]) > 0 && l.free(c) {
			w := l.queue[c][0]
			l.queue[c] = slices.Delete(l.queue[c], 0, 1)
			l.waiting--
			l.take()
			w.answer <- true
		}
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
	if len(l.samples) > 0 {
		slices.Sort(l.samples)
		base := l.base()
		if base == 0 {
			// Never at rest in the last minute: the smallest latency seen is the best base there is.
			base = l.samples[0]
			l.bases[bucket%baseBuckets] = base
		}
		g := max(0.5, max(base*(1+tolerance), base+slack)/l.samples[len(l.samples)/2])
		switch {
		case g < 1:
			l.limit = g*l.limit + math.Sqrt(l.limit)/2
		case float64(l.peak) > l.limit/2: // a limit that nobody reaches is no evidence for a higher one
			l.limit += math.Sqrt(l.limit) / 2
		}
		l.limit = min(max(l.limit, l.min), l.max)
	}
	l.samples, l.quiet, l.seen, l.peak = l.samples[:0], l.quiet[:0], 0, l.inflight
}

// base is the latency at rest in seconds, 0 while it is not known.
func (l *Limiter) base() float64 {
	base := 0.0
	for _, b := range l.bases {
		if b > 0 && (base == 0 || b < base) {
			base = b
		}
	}
	return base
}

// State is a limiter at one moment.
type State struct {
	Limit    float64
	Inflight int
	Waiting  int
	BaseS    float64
	Shed     [Classes]uint64
}

// State returns the limiter's numbers for metrics and pages.
func (l *Limiter) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return State{Limit: l.limit, Inflight: l.inflight, Waiting: l.waiting, BaseS: l.base(), Shed: l.shed}
}
