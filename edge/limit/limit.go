// Package limit bounds how often somebody may do something: the generic cell rate algorithm (GCRA) over a fixed-size table.
//
// A limiter remembers one number per key, the theoretical arrival time of the next conforming request. The table never grows:
// when a set is full, the key that is nearest to being unlimited anyway gives way, so a flood of new keys cannot make the
// table forget somebody who is over the limit.
package limit

import (
	"hash/maphash"
	"math"
	"strconv"
	"sync"
	"time"
)

const (
	ways    = 8
	maxRate = 1e9
)

// Rate is a sustained rate with a burst on top of it.
type Rate struct {
	PerSecond float64 // more than 0, at most 1e9
	Burst     float64 // requests that may come at once, at least 1
}

// Verdict is the answer to one request.
type Verdict struct {
	OK         bool
	RetryAfter time.Duration // when not OK: when a request of the same cost would conform
	Remaining  float64       // requests that may still come at once
	Reset      time.Duration // until the whole burst is available again
}

// Limiter is safe for concurrent use.
type Limiter struct {
	seed  maphash.Seed
	start time.Time
	sets  []set
	mask  uint64

	mu   sync.RWMutex
	rate Rate
	t    float64 // nanoseconds between requests at the sustained rate
	tau  float64 // nanoseconds of burst
}

// set is one group of keys under one lock. Keys are 64-bit hashes: two that collide share a limit, which with 131,072 keys
// has odds of one in two thousand million.
type set struct {
	mu   sync.Mutex
	keys [ways]uint64
	tats [ways]int64 // nanoseconds since start
}

// New makes a limiter that remembers at least keys keys, in 136 bytes for each eight. now is its clock's origin.
func New(rate Rate, keys int, now time.Time) *Limiter {
	n := 1
	for n*ways < keys {
		n *= 2
	}
	l := &Limiter{seed: maphash.MakeSeed(), start: now, sets: make([]set, n), mask: uint64(n - 1)}
	l.SetRate(rate)
	return l
}

// SetRate changes the rate for all keys; what they have used counts on.
func (l *Limiter) SetRate(r Rate) {
	r.PerSecond = min(max(r.PerSecond, 1e-6), maxRate)
	r.Burst = max(r.Burst, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = r
	l.t = float64(time.Second) / r.PerSecond
	l.tau = l.t * r.Burst
}

// Rate is the rate in force.
func (l *Limiter) Rate() Rate {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.rate
}

// Key hashes a key for Allow.
func (l *Limiter) Key(b []byte) uint64 { return maphash.Bytes(l.seed, b) }

// KeyString hashes a key for Allow.
func (l *Limiter) KeyString(s string) uint64 { return maphash.String(l.seed, s) }

// Allow takes cost requests from the key's budget, or nothing when they do not fit. It does not allocate.
func (l *Limiter) Allow(key uint64, cost float64, now time.Time) Verdict {
	l.mu.RLock()
	t, tau := l.t, l.tau
	l.mu.RUnlock()

	if key == 0 {
		key = 1 // zero marks a free slot
	}
	n := int64(now.Sub(l.start))
	s := &l.sets[key&l.mask]
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, found, oldest := 0, false, int64(math.MaxInt64)
	for i := range ways {
		if s.keys[i] == key {
			slot, found = i, true
			break
		}
		tat := s.tats[i]
		if s.keys[i] == 0 {
			tat = math.MinInt64
		}
		if tat < oldest {
			slot, oldest = i, tat
		}
	}
	tat := n
	if found {
		tat = max(s.tats[slot], n)
	}
	next := tat + int64(cost*t)
	if over := next - n - int64(tau); over > 0 {
		return Verdict{RetryAfter: time.Duration(over), Remaining: remaining(tat-n, t, tau), Reset: time.Duration(tat - n)}
	}
	s.keys[slot], s.tats[slot] = key, next
	return Verdict{OK: true, Remaining: remaining(next-n, t, tau), Reset: time.Duration(next - n)}
}

func remaining(used int64, t, tau float64) float64 {
	return max(0, (tau-float64(used))/t)
}

// AppendHeaders formats the verdict for the RateLimit and RateLimit-Policy fields (draft-ietf-httpapi-ratelimit-headers-10):
// both values are structured fields with one item called name.
func (v Verdict) AppendHeaders(limit, policy []byte, name string, r Rate) ([]byte, []byte) {
	limit = append(append(append(limit, '"'), name...), `";r=`...)
	limit = strconv.AppendInt(limit, int64(v.Remaining), 10)
	limit = append(limit, ";t="...)
	limit = strconv.AppendInt(limit, int64(math.Ceil(max(v.RetryAfter, v.Reset).Seconds())), 10)

	policy = append(append(append(policy, '"'), name...), `";q=`...)
	policy = strconv.AppendInt(policy, int64(r.Burst), 10)
	policy = append(policy, ";w="...)
	policy = strconv.AppendInt(policy, max(1, int64(math.Ceil(r.Burst/r.PerSecond))), 10)
	return limit, policy
}
