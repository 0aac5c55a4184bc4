package agent

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Whatever the network does, the estimate is within the uncertainty it states, and never goes back.
func TestClockBounds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ahead := time.Duration(rapid.Int64Range(-1e6, 1e6).Draw(rt, "ahead")) * time.Millisecond
		ways := rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(0, 300_000), 3, 3), 1, 30).Draw(rt, "µs out, back and after")
		trouble := ""
		synctest.Test(t, func(*testing.T) {
			var c storeClock
			truth := func() int64 { return time.Now().Add(ahead).UnixMilli() }
			last := int64(0)
			for _, way := range ways {
				sent := time.Now()
				time.Sleep(time.Duration(way[0]) * time.Microsecond)
				storeMs := truth()
				time.Sleep(time.Duration(way[1]) * time.Microsecond)
				c.observe(sent, time.Now(), storeMs)
				for range 3 {
					ms, off, ok := c.now()
					d := ms - truth()
					switch {
					case !ok:
						trouble = "no reading after an answer"
					case ms < last:
						trouble = fmt.Sprintf("went back from %d to %d", last, ms)
					case d > off || d < -off:
						trouble = fmt.Sprintf("off by %d ms, stated %d", d, off)
					}
					last = ms
					time.Sleep(time.Duration(way[2]) * time.Microsecond)
				}
			}
		})
		if trouble != "" {
			rt.Fatal(trouble)
		}
	})
}

// The store's clock is stepped back by a minute: readings slow down instead of jumping back, say how far they are off, and meet the truth.
func TestClockSlews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c storeClock
		step := time.Duration(0)
		observe := func() { c.observe(time.Now(), time.Now(), time.Now().Add(step).UnixMilli()) }
		observe()
		before, _, _ := c.now()
		step = -time.Minute
		met := time.Duration(0)
		start := time.Now()
		for met == 0 {
			time.Sleep(100 * time.Millisecond)
			observe()
			ms, off, _ := c.now()
			if ms < before {
				t.Fatalf("went back from %d to %d", before, ms)
			}
			before = ms
			wrong := ms - time.Now().Add(step).UnixMilli()
			if wrong > off {
				t.Fatalf("off by %d ms, stated %d", wrong, off)
			}
			if wrong <= 2 {
				met = time.Since(start)
			}
			if time.Since(start) > 5*time.Minute {
				t.Fatalf("still off by %d ms after 5 minutes", wrong)
			}
		}
		if met < time.Minute || met > 3*time.Minute {
			t.Errorf("met the truth after %s, want about 2 minutes at half speed", met)
		}
		// Forwards it follows at once.
		step = time.Minute
		observe()
		if ms, _, _ := c.now(); ms < time.Now().Add(step).UnixMilli()-2 {
			t.Error("did not follow a clock that was stepped forwards")
		}
	})
}

// Without answers the stated uncertainty grows with the drift.
func TestClockDrifts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c storeClock
		if _, _, ok := c.now(); ok {
			t.Fatal("a reading before the first answer")
		}
		c.observe(time.Now(), time.Now(), time.Now().UnixMilli())
		time.Sleep(time.Hour)
		if _, off, _ := c.now(); off < 700 || off > 800 {
			t.Errorf("uncertain by %d ms after an hour, want about 720 (200 ppm)", off)
		}
	})
}
