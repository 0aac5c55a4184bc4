package bus

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The mark never passes an id before the lag is over, and is forgotten at
// every full look.
func TestLowWaterLagsBehind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const lag, full = 30 * time.Second, time.Minute
		l := newLowWater(lag, full)
		now := time.Unix(1_000_000, 0)
		at := map[int64]time.Time{}
		id := int64(0)
		lastFull := now
		l.after(now)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "passes")))
			if rapid.Bool().Draw(t, "publish") {
				id += rapid.Int64Range(1, 5).Draw(t, "ids")
				at[id] = now
				l.published(now, id)
				continue
			}
			got := l.after(now)
			if now.Sub(lastFull) >= full {
				if got != 0 {
					t.Fatalf("no full look after %s", now.Sub(lastFull))
				}
				lastFull = now
				continue
			}
			if got != 0 && now.Sub(at[got]) < lag {
				t.Fatalf("passed id %d only %s after it was published", got, now.Sub(at[got]))
			}
		}
	})
}

func TestLowWaterMoves(t *testing.T) {
	l := newLowWater(30*time.Second, time.Hour)
	now := time.Unix(1_000_000, 0)
	l.after(now)
	for i := range 100 {
		l.published(now.Add(time.Duration(i)*time.Second), int64(i+1))
	}
	if n := len(l.marks); n > 60 {
		t.Errorf("%d marks are remembered", n)
	}
	if got := l.after(now.Add(99 * time.Second)); got < 60 || got > 70 {
		t.Errorf("after 99 s the mark is at %d", got)
	}
}
