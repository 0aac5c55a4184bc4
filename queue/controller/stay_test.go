package controller

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// A full room whose fans stay for a time that nobody told the controller: what it guesses comes near soon, and is never longer than expected.
func TestTurnoverLearnsTheStay(t *testing.T) {
	const inside, expectedS = 200, 390.0
	for _, meanS := range []float64{20, 60, 200, 2000} {
		var u turnover
		rnd := rand.New(rand.NewPCG(1, uint64(meanS)))
		freed := int64(1000) // before this leader
		for ms := int64(1000); ms <= 61_000; ms += 250 {
			for range inside {
				if rnd.Float64() < 0.25/meanS {
					freed++
				}
			}
			u.observe(ms, inside, freed)
		}
		got, want := u.stayS(inside, expectedS), min(meanS, expectedS)
		if math.Abs(got-want) > 0.35*want {
			t.Errorf("mean stay of %v s: guessed %.0f s after a minute, want about %.0f", meanS, got, want)
		}
	}
	var none turnover
	if got := none.stayS(inside, expectedS); got != expectedS {
		t.Errorf("nothing seen: %v, want %v", got, expectedS)
	}
	none.observe(1000, 5, 100)
	none.observe(2000, 5, 3) // a store that forgot
	none.observe(1500, 5, 2)
	if got := none.stayS(inside, expectedS); !(got > 0 && got <= expectedS) {
		t.Errorf("counters that went back: %v", got)
	}
}

func TestFront(t *testing.T) {
	for _, x := range []struct {
		free int64
		rate float64
		want uint64
	}{{0, 0, 0}, {-5, 0, 0}, {10, 0, 20}, {10, 1000, 20}, {10_000, 10, 80}, {3, 0.1, 2}} {
		if got := front(x.free, x.rate); got != x.want {
			t.Errorf("front of %d free places at rate %v is %d, want %d", x.free, x.rate, got, x.want)
		}
	}
}

func TestSettle(t *testing.T) {
	for _, x := range []struct {
		lobby uint64
		cap   int64
		want  time.Duration
	}{{0, 100, 0}, {100, 100, 0}, {400, 100, 300 * time.Millisecond}, {5000, 1000, 4 * time.Second}, {1_000_000, 1000, 9 * time.Second}} {
		if got := settle(x.lobby, x.cap); got != x.want {
			t.Errorf("a lobby of %d before %d places waits %s, want %s", x.lobby, x.cap, got, x.want)
		}
	}
}

// The speed counts once the room has been full for as long as it takes the first to leave; a line that ends begins anew.
func TestFill(t *testing.T) {
	l := &leader{}
	at := func(ms, active int64, phase line.Phase, by line.Limit) room.Filled {
		c := &queue.Control{StoreMs: ms, Active: active}
		c.Settings.Cap = 100
		l.fill(c, line.Status{Phase: phase, LimitedBy: by}, 60, 1)
		return l.filled
	}
	steps := []struct {
		ms, active int64
		phase      line.Phase
		by         line.Limit
		want       room.Filled
	}{
		{1000, 0, line.PhaseLobby, line.LimitSchedule, room.Filled{}},
		{2000, 10, line.PhaseWaiting, line.LimitCap, room.Filled{}},
		{5000, 50, line.PhaseWaiting, line.LimitRate, room.Filled{AtMs: 5000}},
		{9000, 96, line.PhaseWaiting, line.LimitCap, room.Filled{AtMs: 9000, Full: true}},
		{20_000, 50, line.PhasePaused, line.LimitPaused, room.Filled{AtMs: 9000, Full: true}},
		{90_000, 100, line.PhaseWaiting, line.LimitCap, room.Filled{AtMs: 9000, Full: true}},
		{99_000, 3, line.PhaseOpen, line.LimitNobody, room.Filled{}},
		{100_000, 30, line.PhaseWaiting, line.LimitCore, room.Filled{AtMs: 100_000}},
		{200_000, 99, line.PhaseWaiting, line.LimitCap, room.Filled{AtMs: 100_000, Full: true}}, // filled slowly: it moved all along
		{210_000, 0, line.PhaseOpen, line.LimitNobody, room.Filled{}},
		{220_000, 1, line.PhaseWaiting, line.LimitCap, room.Filled{}},
		{280_000, 1, line.PhaseWaiting, line.LimitCap, room.Filled{AtMs: 280_000}},
	}
	for _, s := range steps {
		if got := at(s.ms, s.active, s.phase, s.by); got != s.want {
			t.Fatalf("at %d ms: %+v, want %+v", s.ms, got, s.want)
		}
	}
}

// The worst of the living reports counts; when all have stopped, the last word stays, with its age.
func TestOriginState(t *testing.T) {
	var r reports
	now := time.Now()
	if r.origin(now) != nil {
		t.Error("nobody reported")
	}
	r.put(Report{Source: "a", P99MS: 900, ErrorRatio: 0.5}, now.Add(-time.Minute))
	r.put(Report{Source: "b", P99MS: 100, ErrorRatio: 0.02}, now.Add(-2*time.Second))
	r.put(Report{Source: "c", P99MS: 300, ErrorRatio: 0.01}, now.Add(-time.Second))
	if got := r.origin(now); *got != (room.OriginState{P99MS: 300, ErrorRatio: 0.02, AtMs: 1000}) {
		t.Errorf("origin = %+v", *got)
	}
	if got := r.origin(now.Add(10 * time.Second)); *got != (room.OriginState{P99MS: 300, ErrorRatio: 0.01, AtMs: 11_000}) {
		t.Errorf("after all fell silent: %+v", *got)
	}
}
