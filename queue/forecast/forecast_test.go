package forecast

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stanchion-queue/stanchion/queue/line"
	"pgregory.net/rapid"
)

// track drives a lane along which share(rank) of the fans are still there, at a steady number of fans a second.
func track(l *Lane, fans float64, share func(rank uint64) float64, seconds int, each func(now int64, called uint64, eta line.ETA)) {
	const total, block = 200_000, 800
	called, came := 0.0, 0.0
	for now := int64(1000); now < int64(seconds)*1000; now += 250 {
		s := share(uint64(called))
		called += fans * 0.25 / s
		came += fans * 0.25
		p := &Presence{BlockSize: block, FromBlock: uint64(called) / block}
		for b := p.FromBlock; b < total/block; b++ {
			p.Shares = append(p.Shares, share(b*block+block/2))
		}
		eta := l.Observe(Input{NowMs: now, Called: uint64(called), Total: total, Came: came, FilledMs: 1000, StayMs: 60_000, EarlyPerSecond: 7, Presence: p})
		if each != nil {
			each(now, uint64(called), eta)
		}
	}
}

func TestEarlyUntilTheFirstFansLeave(t *testing.T) {
	var l Lane
	track(&l, 5, func(uint64) float64 { return 1 }, 120, func(now int64, _ uint64, eta line.ETA) {
		early := now < 61_000
		if (eta.Kind == line.ETAEarly) != early {
			t.Fatalf("at %d ms the kind is %q", now, eta.Kind)
		}
		if early && (eta.PerSecond != 7 || eta.High/eta.Low < 3) {
			t.Fatalf("early forecast %+v, want the room's own speed and a wide interval", eta)
		}
	})
}

func TestSteadyLine(t *testing.T) {
	var l Lane
	var last line.ETA
	track(&l, 6, func(uint64) float64 { return 0.6 }, 900, func(_ int64, _ uint64, eta line.ETA) { last = eta })
	if last.Low < 0.9 || last.High > 1.1 {
		t.Errorf("in a line that moves like a clock the interval is still %v to %v", last.Low, last.High)
	}
	want := map[string]float64{line.ETAVelocity: 10, line.ETASample: 6}[last.Kind]
	if math.Abs(last.PerSecond-want) > 0.2 {
		t.Errorf("%s of %v a second, want %v", last.Kind, last.PerSecond, want)
	}
}

// A small room after its fill: nobody is called, then a few, then as many as the room turns over. The first forecasts are no promise of a
// moment for those far behind, and the first errors, all of short waits, do not narrow the interval.
func TestSlowStart(t *testing.T) {
	var l Lane
	called := 200.0
	for now := int64(1000); now < 300_000; now += 250 {
		if now > 70_000 {
			called += 0.25 * min(float64(now-70_000)/100_000, 1) // one a second in the end
		}
		eta := l.Observe(Input{NowMs: now, Called: uint64(called), Total: 600, FilledMs: 1000, StayMs: 60_000, EarlyPerSecond: 1})
		if now < 75_000 {
			continue
		}
		if eta.PerSecond < 0.3 || eta.PerSecond > 1.3 {
			t.Fatalf("at %d ms the speed is %v, want about the room's own, 1", now, eta.PerSecond)
		}
		if eta.Low < 0.13 || eta.Low > 0.8 || eta.High < 1.04 || eta.High > 7.5 || now < 150_000 && eta.High/eta.Low < 2 {
			t.Fatalf("at %d ms the interval is %v to %v", now, eta.Low, eta.High)
		}
	}
}

// Where a hoarder's tickets lie in the line, the speed of the line means little: the sample is shown and is right.
func TestSampleSeesHoards(t *testing.T) {
	share := func(rank uint64) float64 {
		if rank/5000%2 == 1 {
			return 0.02
		}
		return 0.6
	}
	var l Lane
	type guess struct {
		at   int64
		rank uint64
		eta  line.LaneStatus
	}
	var guesses []guess
	var errs []float64
	samples, all := 0, 0
	track(&l, 5, share, 4000, func(now int64, called uint64, eta line.ETA) {
		rest := guesses[:0]
		for _, g := range guesses {
			if called <= g.rank {
				rest = append(rest, g)
				continue
			}
			i, _ := g.eta.Estimate(g.rank)
			errs = append(errs, math.Abs(i.Point.Seconds()*1000-float64(now-g.at))/float64(now-g.at))
		}
		guesses = rest
		if now < 600_000 {
			return
		}
		all++
		if eta.Kind == line.ETASample {
			samples++
		}
		if now%20_000 == 0 {
			st := line.LaneStatus{Called: called, ETA: eta}
			guesses = append(guesses, guess{now, called + 4000, st})
		}
	})
	if samples < all*8/10 {
		t.Errorf("the sample was shown in %d of %d moments", samples, all)
	}
	good := 0
	for _, e := range errs {
		if e < 0.25 {
			good++
		}
	}
	if len(errs) < 100 || good < len(errs)*8/10 {
		t.Errorf("%d of %d forecasts were within 25%%", good, len(errs))
	}
}

// The interval widens until it holds four forecasts in five, however noisy the line.
func TestIntervalHolds(t *testing.T) {
	for _, noise := range []float64{0.05, 0.3, 1} {
		rng := rand.New(rand.NewPCG(1, 2))
		var e estimate
		held, n := 0, 0
		for i := range 3000 {
			low, high := e.interval()
			ratio := math.Exp(rng.NormFloat64() * noise)
			if i > 500 {
				n++
				if low <= ratio && ratio <= high {
					held++
				}
			}
			e.note(ratio, low, high)
		}
		if c := float64(held) / float64(n); c < 0.74 || c > 0.9 {
			t.Errorf("with noise %v the interval held %v", noise, c)
		}
	}
}

func TestCauses(t *testing.T) {
	slower := func(by line.Limit, paused bool) string {
		var l Lane
		track(&l, 10, func(uint64) float64 { return 0.5 }, 600, nil)
		cause := ""
		for now := int64(600_000); now < 700_000; now += 250 {
			eta := l.Observe(Input{NowMs: now, Called: 11_980, Total: 200_000, Came: 6000, FilledMs: 1000, StayMs: 60_000, LimitedBy: by, Paused: paused})
			if eta.Cause != "" {
				cause = eta.Cause
			}
		}
		return cause
	}
	for _, tc := range []struct {
		by     line.Limit
		paused bool
		want   string
	}{
		{line.LimitCore, false, "slower-core"}, {line.LimitRate, false, "rate"}, {line.LimitCap, false, "fewer-absent"}, {line.LimitPaused, true, "paused"},
	} {
		if got := slower(tc.by, tc.paused); got != tc.want {
			t.Errorf("limited by %q, paused %v: %q, want %q", tc.by, tc.paused, got, tc.want)
		}
	}
	var steady Lane
	track(&steady, 10, func(uint64) float64 { return 0.5 }, 600, func(_ int64, _ uint64, eta line.ETA) {
		if eta.Cause != "" {
			t.Fatalf("a steady line has a cause: %q", eta.Cause)
		}
	})
}

// Whatever it is told, a forecast is a number that JSON can hold and an interval around 1.
func TestForecastIsAlwaysSane(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l Lane
		now, called := int64(0), uint64(0)
		for range rapid.IntRange(1, 100).Draw(t, "ticks") {
			now += rapid.Int64Range(-1000, 30_000).Draw(t, "dt")
			called += rapid.Uint64Range(0, 500).Draw(t, "moved")
			in := Input{NowMs: now, Called: called, Total: called + rapid.Uint64Range(0, 5000).Draw(t, "waiting"), Came: rapid.Float64().Draw(t, "came"),
				FilledMs: rapid.Int64Range(0, 50_000).Draw(t, "filled"), StayMs: rapid.Int64Range(0, 50_000).Draw(t, "stay"),
				EarlyPerSecond: rapid.Float64().Draw(t, "early"), Paused: rapid.Bool().Draw(t, "paused")}
			if rapid.Bool().Draw(t, "sampled") {
				in.Presence = &Presence{BlockSize: rapid.Uint64Range(0, 100).Draw(t, "size"), FromBlock: rapid.Uint64().Draw(t, "from"), Shares: rapid.SliceOfN(rapid.Float64(), 0, 300).Draw(t, "shares")}
			}
			eta := l.Observe(in)
			if !(eta.PerSecond >= 0) || math.IsInf(eta.PerSecond, 0) || !(eta.Low > 0 && eta.Low <= 1 && eta.High >= 1) || math.IsInf(eta.High, 0) {
				t.Fatalf("%+v", eta)
			}
		}
	})
}
