package line

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestEstimate(t *testing.T) {
	base := LaneStatus{Called: 100, Total: 10_000, ETA: ETA{Kind: ETAVelocity, PerSecond: 10, Low: 0.5, High: 2}}
	sampled := base
	sampled.ETA.Kind, sampled.ETA.BlockSize, sampled.ETA.Present = ETASample, 100, EncodePresent([]float64{1, 0, 1, 0.2})
	for _, tc := range []struct {
		name string
		s    LaneStatus
		rank uint64
		want time.Duration
		ok   bool
	}{
		{"called", base, 99, 0, true},
		{"next", base, 100, 0, true},
		{"hundred ahead", base, 200, 10 * time.Second, true},
		{"place not known", base, NoRank, 0, false},
		{"nothing moves", LaneStatus{Called: 1}, 5, 0, false},
		{"block with nobody present", sampled, 200, 0, true},
		{"half into a full block", sampled, 250, 5 * time.Second, true},
		{"beyond the last block", sampled, 600, 10*time.Second + 6*time.Second, true},
	} {
		i, ok := tc.s.Estimate(tc.rank)
		if ok != tc.ok || i.Point.Round(time.Millisecond) != tc.want {
			t.Errorf("%s: %+v, %v; want %v, %v", tc.name, i, ok, tc.want, tc.ok)
		}
		if ok && (i.Low > i.Point || i.High < i.Point) {
			t.Errorf("%s: the interval %+v misses its point", tc.name, i)
		}
	}
}

// Counting by blocks is the sum over ranks of their block's share.
func TestPresentAhead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Float64Range(0, 1), 1, 12).Draw(t, "shares")
		e := ETA{Kind: ETASample, BlockSize: rapid.Uint64Range(1, 9).Draw(t, "size"), FromBlock: rapid.Uint64Range(0, 9).Draw(t, "from"), Present: EncodePresent(raw)}
		shares, err := DecodePresent(e.Present)
		if err != nil {
			t.Fatal(err)
		}
		called := rapid.Uint64Range(0, 100).Draw(t, "called")
		rank := called + rapid.Uint64Range(0, 200).Draw(t, "ahead")
		want := 0.0
		for r := called; r < rank; r++ {
			i := int(r/e.BlockSize) - int(e.FromBlock)
			want += shares[min(max(i, 0), len(shares)-1)]
		}
		if got := e.ahead(called, rank); math.Abs(got-want) > 1e-6 {
			t.Fatalf("ahead = %v, want %v", got, want)
		}
	})
}

func TestNextPoll(t *testing.T) {
	lane := LaneStatus{Called: 1000, Total: 31_000, PerMinute: 300}
	base := Status{Phase: PhaseWaiting, Lanes: []LaneStatus{lane}, Poll: Poll{MinMs: 2000, MaxMs: 60_000, Spread: 0.2}}
	with := func(change func(*Status)) Status { s := base; s.Lanes = []LaneStatus{lane}; change(&s); return s }
	scarce := with(func(s *Status) { s.Poll.FrontMaxMs = 12_000 })
	for _, tc := range []struct {
		name string
		s    Status
		lane int
		rank uint64
		want time.Duration
	}{
		{"called", base, 0, 5, 2 * time.Second},
		{"soon", base, 0, 1010, 2 * time.Second},
		{"a sixteenth of the time", base, 0, 1000 + 1600, 20 * time.Second},
		{"standing still for now", with(func(s *Status) { s.Lanes[0].PerMinute = 1; s.Lanes[0].ETA.PerSecond = 10 }), 0, 1000 + 3200, 20 * time.Second},
		{"an opening: half of these are called next", with(func(s *Status) { s.Poll.Front = 3000 }), 0, 4000, 2 * time.Second},
		{"behind them", with(func(s *Status) { s.Poll.Front = 3000 }), 0, 4000 + 1600, 20 * time.Second},
		{"far", base, 0, 30_000, 60 * time.Second},
		{"not sealed", base, 0, NoRank, time.Second},
		{"little stock, front", scarce, 0, 3900, 12 * time.Second},
		{"little stock, back", scarce, 0, 30_000, 60 * time.Second},
		{"standing still", with(func(s *Status) { s.Lanes[0].PerMinute = 0 }), 0, 1010, 60 * time.Second},
		{"unknown lane", base, 3, 1010, 60 * time.Second},
		{"paused", with(func(s *Status) { s.Phase = PhasePaused }), 0, 1010, 60 * time.Second},
		{"lobby", with(func(s *Status) { s.Phase = PhaseLobby }), 0, NoRank, 60 * time.Second},
		{"drawing", with(func(s *Status) { s.Phase = PhaseDrawing }), 0, NoRank, 7500 * time.Millisecond},
		{"open", with(func(s *Status) { s.Phase = PhaseOpen }), 0, NoRank, 2 * time.Second},
		{"nothing said", with(func(s *Status) { s.Poll = Poll{} }), 0, 30_000, 60 * time.Second},
	} {
		if got := tc.s.NextPoll(tc.lane, tc.rank, 0.5); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
	if lo, hi := base.NextPoll(0, 30_000, 0), base.NextPoll(0, 30_000, 0.999999); lo != 48*time.Second || hi < 71*time.Second || hi > 72*time.Second {
		t.Errorf("jitter gives %v to %v, want 48 s to 72 s", lo, hi)
	}
}
