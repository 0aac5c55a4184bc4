package load

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is what a run has seen so far. Safe for concurrent use.
type Report struct {
	mu       sync.Mutex
	outcomes map[Outcome]int
	kinds    map[string]*kind
	waits    *hdrhistogram.Histogram // ms from arrival to being inside
	doors    *hdrhistogram.Histogram // ms from knowing to be called to being inside
	lags     *hdrhistogram.Histogram // ms a fan set out later than planned
	seats    int
}

type kind struct {
	latency  *hdrhistogram.Histogram // µs
	statuses map[int]int
	lost     int
}

func newReport() *Report {
	ms := func() *hdrhistogram.Histogram { return hdrhistogram.New(1, 24*3600*1000, 3) }
	return &Report{outcomes: map[Outcome]int{}, kinds: map[string]*kind{}, waits: ms(), doors: ms(), lags: ms()}
}

func record(h *hdrhistogram.Histogram, v int64) {
	_ = h.RecordValue(min(max(v, h.LowestTrackableValue()), h.HighestTrackableValue())) // clamped, so it cannot fail
}

func (r *Report) request(name string, d time.Duration, status int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.kinds[name]
	if k == nil {
		k = &kind{latency: hdrhistogram.New(1, 120*1000*1000, 3), statuses: map[int]int{}}
		r.kinds[name] = k
	}
	if err != nil {
		k.lost++
		return
	}
	record(k.latency, d.Microseconds())
	k.statuses[status]++
}

func (r *Report) outcome(o Outcome) { r.mu.Lock(); r.outcomes[o]++; r.mu.Unlock() }
func (r *Report) waited(d time.Duration) {
	r.mu.Lock()
	record(r.waits, d.Milliseconds())
	r.mu.Unlock()
}
func (r *Report) door(d time.Duration) { r.mu.Lock(); record(r.doors, d.Milliseconds()); r.mu.Unlock() }
func (r *Report) lag(d time.Duration)  { r.mu.Lock(); record(r.lags, d.Milliseconds()); r.mu.Unlock() }
func (r *Report) sold(n int)           { r.mu.Lock(); r.seats += n; r.mu.Unlock() }

// Outcomes counts how the evenings ended so far.
func (r *Report) Outcomes() map[Outcome]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[Outcome]int{}
	for k, v := range r.outcomes {
		out[k] = v
	}
	return out
}

// Requests counts the requests so far, lost ones included.
func (r *Report) Requests() (n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.kinds {
		n += k.latency.TotalCount() + int64(k.lost)
	}
	return n
}

// WriteTo prints the report as plain tables. Latencies are those of requests; waits count from a fan's planned arrival.
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var n int64
	var failed error
	p := func(format string, args ...any) {
		if failed != nil {
			return
		}
		m, err := fmt.Fprintf(w, format, args...)
		n, failed = n+int64(m), err
	}
	p("%-24s %10s\n", "outcome", "fans")
	for _, o := range sortedKeys(r.outcomes) {
		p("%-24s %10d\n", o, r.outcomes[o])
	}
	p("%-24s %10d\n\n", "seats sold", r.seats)
	for _, h := range []struct {
		name string
		h    *hdrhistogram.Histogram
	}{{"wait for a place inside", r.waits}, {"wait at the door", r.doors}, {"generator lag", r.lags}} {
		p("%-24s %8d fans   p50 %6d ms   p95 %6d ms   max %6d ms\n", h.name, h.h.TotalCount(), h.h.ValueAtQuantile(50), h.h.ValueAtQuantile(95), h.h.Max())
	}
	p("\n%-14s %9s %6s %10s %10s %10s  %s\n", "request", "answers", "lost", "p50 µs", "p99 µs", "max µs", "statuses")
	for _, name := range sortedKeys(r.kinds) {
		k := r.kinds[name]
		p("%-14s %9d %6d %10d %10d %10d ", name, k.latency.TotalCount(), k.lost, k.latency.ValueAtQuantile(50), k.latency.ValueAtQuantile(99), k.latency.Max())
		for _, s := range sortedKeys(k.statuses) {
			p(" %d:%d", s, k.statuses[s])
		}
		p("\n")
	}
	return n, failed
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func sortByArrival(p []plan) {
	slices.SortStableFunc(p, func(a, b plan) int { return cmp.Compare(a.at, b.at) })
}
