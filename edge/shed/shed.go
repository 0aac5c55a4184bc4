// Package shed keeps an origin from being asked for more than it can do at a time: a concurrency limit that follows measured
// latency, a short queue in front of it, and priorities that say who is turned away first.
//
// The limit moves by the gradient of latency (the form that Netflix' concurrency-limits and Envoy use): every 100 ms, if
// at least half of it was in use,
//
//	load  = median of latency / max(base * (1 + tolerance), base + slack)
//	limit = clamp(max(1/load, 0.5) * limit + sqrt(limit) / 2, Min, Max)   when load > 1
//	limit = clamp(limit + sqrt(limit) / 2, Min, Max)                      otherwise
//
// base is what a request of the same kind takes at rest: the lowest median of the last minute, over requests that were
// answered while the origin was at most half used, or while the limit was at its minimum, since it gets no quieter than that. In
// an overload that lasts there are none, and the last base that was known holds on; taking what is measured then for rest would
// let the limit creep up for as long as the overload goes on. A limiter that starts in the middle of an overload has never seen
// rest; it goes down to its minimum once, for as long as it takes to measure there. Otherwise no traffic has to be held back to measure it, and a shift from quick
// requests to dear ones is not taken for load, as long as they are of different kinds. The floor of the factor makes the
// limit halve within one interval when the origin becomes slow, and the root lets it grow while latency stays fair. slack
// keeps the noise of very fast origins from being taken for load.
//
// A request that finds the limit used up waits for at most about a quarter of the usual latency in a queue of its class; a slot that
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
	interval    = 100 * time.Millisecond
	tolerance   = 0.25
	slack       = 0.005 // seconds
	baseBuckets = 6
	baseBucket  = 10 * time.Second
	maxSamples  = 256 // per interval; more are thinned by overwriting
	minSamples  = 8   // fewer prove nothing; they wait for more
	kinds       = 64  // of requests; more share
	enoughCalm  = 5   // intervals at rest prove that the bases are those of rest
	longestLook = 10  // intervals

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
	Min     int // default 16
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
	loads   []float64 // of this interval
	seen    int
	rest    [kinds]atRest
	typical float64 // seconds: median latency of the last interval
	recent  []float64
	cut     time.Time // no second cut for overload before this
	shed    [Classes]uint64

	calm   int     // intervals at rest so far, up to enoughCalm
	probed bool    // has gone down to look for rest
	held   float64 // the limit to go back to while it does, otherwise 0
	tried  int     // intervals that the look has taken
}

// atRest is what requests of one kind take while the origin is at most half used, in seconds.
type atRest struct {
	quiet []float64 // not yet counted, at most maxSamples
	busy  []float64 // while there is no base: latencies at any load
	bases [baseBuckets]float64
	at    int64   // the bucket up to which bases are valid
	last  float64 // base in force when the bases of a whole minute had been forgotten
}

// base is the lowest median of the last minute, or of the last minute in which there was one; 0 while none is known.
func (r *atRest) base() float64 {
	base := 0.0
	for _, b := range r.bases {
		if b > 0 && (base == 0 || b < base) {
			base = b
		}
	}
	if base == 0 {
		return r.last
	}
	return base
}

// sample takes one latency and returns how it compares with rest, 0 while that is not known.
func (r *atRest) sample(s float64, quiet bool, bucket int64) float64 {
	if quiet && len(r.quiet) < maxSamples {
		r.quiet = append(r.quiet, s)
	}
	base := r.base()
	if base == 0 {
		// Never at rest so far: the smallest of many latencies is the best base there is.
		if r.busy = append(r.busy, s); len(r.busy) < 4*minSamples {
			return 0
		}
		r.put(slices.Min(r.busy), bucket)
		r.busy = r.busy[:0]
		base = r.base()
	}
	return s / max(base*(1+tolerance), base+slack)
}

// update counts the quiet latencies once there are enough of them, and says whether there were.
func (r *atRest) update(bucket int64) bool {
	r.forget(bucket)
	if len(r.quiet) >= minSamples {
		slices.Sort(r.quiet)
		r.put(r.quiet[len(r.quiet)/2], bucket)
		r.quiet = r.quiet[:0]
		return true
	}
	return false
}

// forget makes room for bucket and drops what is older than a minute.
func (r *atRest) forget(bucket int64) {
	r.last = r.base()
	for b := max(r.at+1, bucket-baseBuckets+1); b <= bucket; b++ {
		r.bases[b%baseBuckets] = 0
	}
	r.at = max(r.at, bucket)
}

func (r *atRest) put(s float64, bucket int64) {
	r.forget(bucket)
	if b := &r.bases[bucket%baseBuckets]; *b == 0 || s < *b {
		*b = s
	}
}

// waiter is one request in the queue. Whoever takes it out of the queue sends the answer, once.
type waiter struct {
	answer chan bool
}

// New makes a limiter.
func New(o Options) *Limiter {
	if o.Min <= 0 {
		o.Min = 16
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
	wait := min(max(time.Duration(l.typical/4*float64(time.Second)), leastWait), mostWait)
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

// Release gives the slot back. kind groups requests that take about the same time, such as those of one route and method;
// latency is from sending the request to the first byte of the response.
func (l *Limiter) Release(kind uint8, latency time.Duration, outcome Outcome, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	used := l.inflight
	l.inflight--
	switch outcome {
	case OK:
		bucket := now.UnixNano() / int64(baseBucket)
		load := l.rest[kind%kinds].sample(latency.Seconds(), float64(used) <= l.limit/2 || l.limit <= l.min && float64(used) <= l.min, bucket)
		l.loads, l.recent = keep(l.loads, l.seen, load), keep(l.recent, l.seen, latency.Seconds())
		l.seen++
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

// keep appends to a bounded sample, overwriting when it is full.
func keep(sample []float64, seen int, v float64) []float64 {
	if len(sample) < maxSamples {
		return append(sample, v)
	}
	sample[seen%maxSamples] = v
	return sample
}

func (l *Limiter) update(now time.Time) {
	bucket := now.UnixNano() / int64(baseBucket)
	rested := false
	if l.held > 0 && l.tried == 0 {
		for i := range l.rest { // requests from before the look were still under way
			l.rest[i].quiet = l.rest[i].quiet[:0]
		}
	}
	for i := range l.rest {
		rested = l.rest[i].update(bucket) || rested
	}
	if l.held > 0 {
		if l.tried++; rested || l.tried >= longestLook {
			l.limit, l.held = l.held, 0
		}
		l.loads, l.recent, l.seen, l.peak = l.loads[:0], l.recent[:0], 0, l.inflight
		return
	}
	if len(l.recent) < minSamples {
		return
	}
	slices.Sort(l.recent)
	l.typical = l.recent[len(l.recent)/2]
	slices.Sort(l.loads)
	known := l.loads
	for len(known) > 0 && known[0] == 0 {
		known = known[1:]
	}
	busy := float64(l.peak) > l.limit/2
	switch {
	case !busy:
		l.calm = min(l.calm+1, enoughCalm)
	case l.calm < enoughCalm && !l.probed && l.limit > l.min:
		l.probed, l.held, l.limit = true, l.limit, l.min
	}
	// A limit that nobody reaches is no evidence for a higher one, and slowness without load none for a lower one.
	if len(known) >= minSamples && busy && l.held == 0 {
		factor := min(1, max(0.5, 1/known[len(known)/2]))
		l.limit = min(max(factor*l.limit+math.Sqrt(l.limit)/2, l.min), l.max)
	}
	l.loads, l.recent, l.seen, l.peak = l.loads[:0], l.recent[:0], 0, l.inflight
}

// State is a limiter at one moment.
type State struct {
	Limit    float64
	Inflight int
	Waiting  int
	TypicalS float64 // median latency of the last interval with traffic, in seconds
	Shed     [Classes]uint64
}

// State returns the limiter's numbers for metrics and pages.
func (l *Limiter) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return State{Limit: l.limit, Inflight: l.inflight, Waiting: l.waiting, TypicalS: l.typical, Shed: l.shed}
}
