package limit

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestBurstThenRate(t *testing.T) {
	l := New(Rate{PerSecond: 2, Burst: 5}, 100, start)
	k := l.KeyString("a")
	for i := range 5 {
		if v := l.Allow(k, 1, start); !v.OK || int(v.Remaining) != 4-i {
			t.Fatalf("request %d of the burst: %+v", i, v)
		}
	}
	v := l.Allow(k, 1, start)
	if v.OK || v.RetryAfter != 500*time.Millisecond || v.Remaining != 0 {
		t.Fatalf("over the burst: %+v", v)
	}
	if v := l.Allow(k, 1, start.Add(v.RetryAfter-1)); v.OK {
		t.Error("a nanosecond early")
	}
	if v := l.Allow(k, 1, start.Add(v.RetryAfter)); !v.OK {
		t.Error("the exact time that was told")
	}
	if v := l.Allow(l.KeyString("b"), 1, start); !v.OK {
		t.Error("another key")
	}
	if v := l.Allow(k, 1, start.Add(time.Hour)); !v.OK || int(v.Remaining) != 4 {
		t.Errorf("after a rest the whole burst is back: %+v", v)
	}
}

func TestCost(t *testing.T) {
	l := New(Rate{PerSecond: 1, Burst: 2}, 100, start)
	k := l.KeyString("a")
	for range 8 {
		if !l.Allow(k, 0.25, start).OK {
			t.Fatal("eight quarters are two")
		}
	}
	if l.Allow(k, 0.25, start).OK {
		t.Error("nine quarters are more than two")
	}
	if v := l.Allow(l.KeyString("b"), 3, start); v.OK || v.RetryAfter <= 0 {
		t.Errorf("dearer than the burst: %+v", v)
	}
}

// TestNeverOverRate: in any interval no more passes than burst + rate * interval, and a client at its rate is never refused.
func TestNeverOverRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := Rate{PerSecond: rapid.Float64Range(0.1, 1000).Draw(t, "rate"), Burst: rapid.Float64Range(1, 50).Draw(t, "burst")}
		l := New(rate, 8, start)
		k := l.KeyString("k")
		at := start
		var passed []time.Time
		for range rapid.IntRange(1, 300).Draw(t, "n") {
			at = at.Add(time.Duration(rapid.Int64Range(0, int64(2e9/rate.PerSecond)).Draw(t, "gap")))
			if l.Allow(k, 1, at).OK {
				passed = append(passed, at)
			}
		}
		for i := range passed {
			for j := i; j < len(passed); j++ {
				n, span := float64(j-i+1), passed[j].Sub(passed[i]).Seconds()
				if most := rate.Burst + span*rate.PerSecond + 1e-6*n; n > most+1e-3 {
					t.Fatalf("%v passed in %v s, at most %v may", n, span, most)
				}
			}
		}
		polite := New(rate, 8, start)
		for i := range 50 {
			if v := polite.Allow(k, 1, start.Add(time.Duration(float64(i)*1e9/rate.PerSecond)+time.Duration(i))); !v.OK {
				t.Fatalf("request %d of a client at its rate was refused: %+v", i, v)
			}
		}
	})
}

// TestFloodDoesNotFreeTheLimited: new keys push out keys that are at rest, not one that is over its limit.
func TestFloodDoesNotFreeTheLimited(t *testing.T) {
	l := New(Rate{PerSecond: 1, Burst: 10}, 64, start)
	abuser := l.KeyString("abuser")
	for l.Allow(abuser, 1, start).OK {
	}
	for i := range 100000 {
		l.Allow(l.Key([]byte{byte(i), byte(i >> 8), byte(i >> 16)}), 1, start)
	}
	if l.Allow(abuser, 1, start).OK {
		t.Error("a flood of keys reset the abuser")
	}
}

func TestSetRate(t *testing.T) {
	l := New(Rate{PerSecond: 1, Burst: 1}, 10, start)
	k := l.KeyString("a")
	l.Allow(k, 1, start)
	if l.Allow(k, 1, start).OK {
		t.Fatal("over the burst")
	}
	l.SetRate(Rate{PerSecond: 1, Burst: 3})
	if !l.Allow(k, 1, start).OK {
		t.Error("the new burst is not in force")
	}
}

func TestHeaders(t *testing.T) {
	v := Verdict{Remaining: 3.9, Reset: 1500 * time.Millisecond}
	limit, policy := v.AppendHeaders(nil, nil, "join", Rate{PerSecond: 20, Burst: 600})
	if string(limit) != `"join";r=3;t=2` || string(policy) != `"join";q=600;w=30` {
		t.Errorf("%s, %s", limit, policy)
	}
}

func TestAllowDoesNotAllocate(t *testing.T) {
	l := New(Rate{PerSecond: 1, Burst: 10}, 1000, start)
	key := []byte("some key")
	if a := testing.AllocsPerRun(1000, func() { l.Allow(l.Key(key), 1, start) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

func BenchmarkAllow(b *testing.B) {
	l := New(Rate{PerSecond: 1000, Burst: 1000}, 1<<20, start)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var k [8]byte
		for i := 0; pb.Next(); i++ {
			k[0], k[1], k[2] = byte(i), byte(i>>8), byte(i>>16)
			l.Allow(l.Key(k[:]), 1, start.Add(time.Duration(i)))
		}
	})
}
