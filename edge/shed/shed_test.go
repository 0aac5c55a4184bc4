package shed

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// origin is a model of a server: so many requests at a time, the rest waits in its own unbounded queue.
type origin struct {
	mu      sync.Mutex
	servers int
	busy    int
	queue   []chan struct{}
	service time.Duration
}

func (o *origin) resize(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.servers = n
	o.wake()
}

func (o *origin) wake() {
	for len(o.queue) > 0 && o.busy < o.servers {
		close(o.queue[0])
		o.queue = o.queue[1:]
		o.busy++
	}
}

func (o *origin) serve() {
	o.mu.Lock()
	service := o.service
	if o.busy < o.servers {
		o.busy++
		o.mu.Unlock()
	} else {
		c := make(chan struct{})
		o.queue = append(o.queue, c)
		o.mu.Unlock()
		<-c
	}
	time.Sleep(time.Duration(float64(service) * (0.8 + 0.4*rand.Float64()))) // virtual
	o.mu.Lock()
	o.busy--
	o.wake()
	o.mu.Unlock()
}

// run offers requests at a rate for a time and returns the latencies of those that were served, and how many of each class
// came and were served.
type load struct {
	perSecond float64
	class     int
	from, to  time.Duration
}

type result struct {
	latency []time.Duration // of those that came after the first half second
	offered [Classes]int
	served  [Classes]int
}

func run(l *Limiter, o *origin, loads []load, at map[time.Duration]func()) result {
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		res result
	)
	start := time.Now()
	for _, ld := range loads {
		wg.Go(func() {
			time.Sleep(ld.from)
			gap := time.Duration(float64(time.Second) / ld.perSecond)
			for time.Since(start) < ld.to {
				wg.Go(func() {
					begin := time.Now()
					ok := l.Acquire(ld.class)
					if ok {
						sent := time.Now()
						o.serve()
						l.Release(0, time.Since(sent), OK, time.Now())
					}
					mu.Lock()
					defer mu.Unlock()
					res.offered[ld.class]++
					if ok {
						res.served[ld.class]++
						if begin.Sub(start) > time.Second/2 {
							res.latency = append(res.latency, time.Since(begin))
						}
					}
				})
				time.Sleep(gap)
			}
		})
	}
	for d, f := range at {
		wg.Go(func() {
			time.Sleep(d)
			f()
		})
	}
	wg.Wait()
	slices.Sort(res.latency)
	return res
}

func (r result) total() (n int) {
	for _, s := range r.served {
		n += s
	}
	return n
}

func (r result) p99() time.Duration { return r.latency[len(r.latency)*99/100] }

// TestGoodputUnderOverload: at many times what the origin can do, it still does nearly all it can, for requests that wait
// little.
func TestGoodputUnderOverload(t *testing.T) {
	const capacity = 1000 // 10 servers, 10 ms each
	offer := func(times float64) (res result) {
		synctest.Test(t, func(*testing.T) {
			o := &origin{servers: 10, service: 10 * time.Millisecond}
			l := New(Options{Min: 4, Max: 512})
			run(l, o, []load{{perSecond: capacity / 3, class: 3, to: time.Second}}, nil) // an ordinary hour before the rush
			res = run(l, o, []load{{perSecond: capacity * times, class: 3, to: 3 * time.Second}}, nil)
		})
		return res
	}
	calm := offer(0.5)
	for _, tt := range []struct{ times, goodput float64 }{{2, 0.95}, {5, 0.93}, {10, 0.90}} {
		r := offer(tt.times)
		share := float64(r.total()) / (3 * capacity)
		t.Logf("%gx: goodput %.1f%%, p99 %v (calm %v)", tt.times, 100*share, r.p99(), calm.p99())
		if share < tt.goodput {
			t.Errorf("%gx: goodput %.3f of capacity, want %.2f", tt.times, share, tt.goodput)
		}
		if most := calm.p99() * 22 / 10; r.p99() > most { // about twice, with room for chance
			t.Errorf("%gx: p99 %v, want at most %v", tt.times, r.p99(), most)
		}
	}
}

// TestColdOverload: an edge that starts in the middle of an overload, and never sees its origin at rest, finds the limit all the
// same and keeps it: it does not take what it measures under load for rest, minute after minute.
func TestColdOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{servers: 10, service: 10 * time.Millisecond}
		l := New(Options{Min: 4, Max: 512})
		var limits []float64
		at := map[time.Duration]func(){}
		for d := 5 * time.Second; d < 4*time.Minute; d += 5 * time.Second {
			at[d] = func() { limits = append(limits, l.State().Limit) }
		}
		r := run(l, o, []load{{perSecond: 2000, class: 3, to: 4 * time.Minute}}, at)
		t.Logf("limits %.0f, p50 %v, p99 %v", limits, r.latency[len(r.latency)/2], r.p99())
		if most := slices.Max(limits); most > 30 {
			t.Errorf("the limit rose to %.0f for an origin of 10 servers", most)
		}
		if share := float64(r.total()) / (240 * 1000); share < 0.95 {
			t.Errorf("goodput %.3f of capacity", share)
		}
	})
}

// TestColdOrigin: the same when the first answers are slow, because everything is cold.
func TestColdOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{servers: 16, service: 45 * time.Millisecond}
		l := New(Options{Min: 4, Max: 512})
		var limit float64
		r := run(l, o, []load{{perSecond: 8000, class: 3, to: 6 * time.Second}}, map[time.Duration]func(){
			150 * time.Millisecond:  func() { o.mu.Lock(); o.service = 20 * time.Millisecond; o.mu.Unlock() },
			5900 * time.Millisecond: func() { limit = l.State().Limit },
		})
		t.Logf("limit %.1f, p50 %v, %d served", limit, r.latency[len(r.latency)/2], r.total())
		if limit > 32 {
			t.Errorf("the limit is %.1f for an origin of 16 servers", limit)
		}
		if share := float64(r.total()) / (6 * 800); share < 0.9 {
			t.Errorf("goodput %.3f of capacity", share)
		}
	})
}

// TestSlowForGood: when an origin becomes slower for good under a load that never rests, the base follows.
func TestSlowForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{servers: 10, service: 10 * time.Millisecond}
		l := New(Options{Min: 4, Max: 512})
		run(l, o, []load{{perSecond: 300, class: 3, to: time.Second}}, nil)
		var end float64
		run(l, o, []load{{perSecond: 3000, class: 3, to: 150 * time.Second}}, map[time.Duration]func(){
			5 * time.Second:   func() { o.mu.Lock(); o.service = 40 * time.Millisecond; o.mu.Unlock() },
			149 * time.Second: func() { end = l.State().Limit },
		})
		t.Logf("limit %.1f", end)
		if end < 8 {
			t.Errorf("limit %.1f two minutes after the origin became slower, at which its 10 servers cannot all be busy", end)
		}
	})
}

// TestHighestClassSurvivesAFlood: a flood of the lowest class costs the highest almost nothing.
func TestHighestClassSurvivesAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{servers: 10, service: 10 * time.Millisecond}
		l := New(Options{Min: 4, Max: 512})
		r := run(l, o, []load{
			{perSecond: 200, class: 0, to: 4 * time.Second},
			{perSecond: 400, class: 5, to: time.Second},
			{perSecond: 4800, class: 5, from: time.Second, to: 4 * time.Second},
		}, nil)
		top := float64(r.served[0]) / float64(r.offered[0])
		t.Logf("top class %.2f%%, lowest %.2f%%", 100*top, 100*float64(r.served[5])/float64(r.offered[5]))
		if top < 0.994 {
			t.Errorf("the highest class got %.4f of its requests through", top)
		}
	})
}

// TestLimitFollowsCapacity: the limit halves within half a second when the origin's capacity does, and comes back within five.
func TestLimitFollowsCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{servers: 40, service: 10 * time.Millisecond}
		l := New(Options{Min: 4, Max: 512})
		run(l, o, []load{{perSecond: 500, class: 3, to: time.Second}}, nil)
		var before, after, healed float64
		run(l, o, []load{{perSecond: 8000, class: 3, to: 9 * time.Second}}, map[time.Duration]func(){
			3 * time.Second:         func() { before = l.State().Limit; o.resize(10) },
			3500 * time.Millisecond: func() { after = l.State().Limit },
			4 * time.Second:         func() { o.resize(40) },
			9 * time.Second:         func() { healed = l.State().Limit },
		})
		t.Logf("limit %.0f, half a second after the loss %.0f, five seconds after the repair %.0f", before, after, healed)
		if after > before/2 {
			t.Errorf("limit %.1f half a second after the origin lost most of its capacity, was %.1f", after, before)
		}
		if healed < 0.8*before {
			t.Errorf("limit %.1f five seconds after the repair, was %.1f", healed, before)
		}
	})
}

func TestPrioritiesShareTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{Max: 10, Initial: 10})
		n := 0
		for l.Acquire(5) {
			n++
		}
		if n != 7 {
			t.Errorf("the lowest class took %d of 10 slots, want 7", n)
		}
		for l.Acquire(0) {
			n++
		}
		if n != 10 {
			t.Errorf("the highest class stopped at %d of 10", n)
		}
		// A slot that becomes free goes to the higher class, however long the lower has waited.
		got := make(chan int, 2)
		go func() { l.Acquire(4); got <- 4 }()
		synctest.Wait()
		go func() { l.Acquire(0); got <- 0 }()
		synctest.Wait()
		l.Release(0, time.Millisecond, Ignore, time.Now())
		if c := <-got; c != 0 {
			t.Errorf("class %d was served first", c)
		}
		<-got
		if w := l.State().Waiting; w != 0 {
			t.Errorf("%d still wait", w)
		}
	})
}

func TestOverloadCutsOncePerInterval(t *testing.T) {
	l := New(Options{Max: 100, Initial: 100})
	now := time.Now()
	for range 5 {
		if !l.Acquire(0) {
			t.Fatal("no slot")
		}
		l.Release(0, time.Millisecond, Overload, now)
	}
	if got := l.State().Limit; got != 70 {
		t.Errorf("limit %v after a burst of refusals, want 70", got)
	}
}

// TestMixShift: a change from quick requests to dear ones at the same load is not taken for overload.
func TestMixShift(t *testing.T) { synctest.Test(t, mixShift) }

func mixShift(t *testing.T) {
	l := New(Options{Min: 4, Max: 64, Initial: 20})
	now := time.Now()
	ask := func(kind uint8, latency time.Duration) {
		n := 0
		for l.Acquire(3) {
			n++
		}
		for range n {
			l.Release(kind, latency, OK, now)
		}
		now = now.Add(interval + 1)
	}
	calm := func(kind uint8, latency time.Duration) {
		for range 2 * minSamples {
			if !l.Acquire(3) {
				t.Fatal("no slot")
			}
			l.Release(kind, latency, OK, now)
		}
		now = now.Add(interval + 1)
		l.Acquire(3)
		l.Release(kind, latency, OK, now)
	}
	calm(1, 100*time.Microsecond)
	calm(2, 80*time.Millisecond)
	before := l.State().Limit
	for range 20 {
		ask(2, 80*time.Millisecond)
	}
	if got := l.State().Limit; got < before {
		t.Errorf("dear requests at their usual pace lowered the limit from %v to %v", before, got)
	}
	for range 20 {
		ask(1, 80*time.Millisecond)
	}
	if got := l.State().Limit; got > before {
		t.Errorf("quick requests that became 800 times slower left the limit at %v", got)
	}
}

// TestSlowButIdle: an origin that is slow while hardly anybody asks keeps its limit.
func TestSlowButIdle(t *testing.T) {
	l := New(Options{Min: 4, Max: 64, Initial: 40})
	now := time.Now()
	for i := range 1000 {
		latency := time.Millisecond
		if i > 100 {
			latency = time.Second
		}
		if !l.Acquire(3) {
			t.Fatal("no slot")
		}
		l.Release(0, latency, OK, now)
		now = now.Add(10 * time.Millisecond)
	}
	if got := l.State().Limit; got != 40 {
		t.Errorf("limit %v", got)
	}
}

func TestFloorAndCeiling(t *testing.T) {
	l := New(Options{Min: 6, Max: 8, Initial: 8})
	now := time.Now()
	for range 100 {
		now = now.Add(time.Second)
		if !l.Acquire(0) {
			t.Fatal("no slot")
		}
		l.Release(0, time.Second, Overload, now)
	}
	if got := l.State().Limit; got != 6 {
		t.Errorf("limit %v, want the floor", got)
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	l := New(Options{Max: 1000, Initial: 1000})
	now := time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if l.Acquire(3) {
				l.Release(0, time.Millisecond, OK, now)
			}
		}
	})
}
