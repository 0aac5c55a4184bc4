package admit

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stanchion-queue/stanchion/queue/line"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func TestDecide(t *testing.T) {
	valid, expired := now.Add(time.Second), now
	tests := []struct {
		name string
		f    Facts
		s    Snapshot
		want Verdict
	}{
		{"valid pass", Facts{Pass: PassGenuine, ExpiresAt: valid}, Snapshot{Phase: line.PhaseWaiting}, Verdict{Forward, WordPass, ""}},
		{"valid pass while closed", Facts{Pass: PassGenuine, ExpiresAt: valid}, Snapshot{Closed: true}, Verdict{Forward, WordPass, ""}},
		{"valid pass of an ended session", Facts{Pass: PassGenuine, ExpiresAt: valid, Ended: true}, Snapshot{}, Verdict{Refuse, WordWait, "session-ended"}},
		{"pass at its last moment", Facts{Pass: PassGenuine, ExpiresAt: now.Add(time.Nanosecond)}, Snapshot{}, Verdict{Forward, WordPass, ""}},
		{"expired pass", Facts{Pass: PassGenuine, ExpiresAt: expired}, Snapshot{}, Verdict{Refuse, WordWait, "pass-expired"}},
		{"expired pass of a living session", Facts{Pass: PassGenuine, ExpiresAt: expired, Alive: true}, Snapshot{}, Verdict{Forward, WordPass, "renewed"}},
		{"expired pass of an ended session", Facts{Pass: PassGenuine, ExpiresAt: expired, Alive: true, Ended: true}, Snapshot{}, Verdict{Refuse, WordWait, "session-ended"}},
		{"forged pass", Facts{Pass: PassInvalid, ExpiresAt: valid, Alive: true}, Snapshot{}, Verdict{Refuse, WordWait, "pass-invalid"}},
		{"no pass", Facts{}, Snapshot{}, Verdict{Refuse, WordWait, "no-pass"}},
		{"admit-all", Facts{Pass: PassInvalid}, Snapshot{Bypass: true, Closed: true}, Verdict{Forward, WordBypass, ""}},
		{"closed", Facts{Kind: Navigation, Ticket: true}, Snapshot{Closed: true}, Verdict{Close, WordWait, "room-closed"}},
		{"open room", Facts{Kind: Navigation}, Snapshot{Phase: line.PhaseOpen, Open: true}, Verdict{Enter, WordOpen, ""}},
		{"open room, ticket", Facts{Kind: Navigation, Ticket: true}, Snapshot{Phase: line.PhaseOpen, Open: true}, Verdict{ShowPlace, WordWait, ""}},
		{"open room, HEAD", Facts{Kind: Navigation, Head: true}, Snapshot{Phase: line.PhaseOpen, Open: true}, Verdict{Probe, WordWait, ""}},
		{"open room, form", Facts{Kind: Form}, Snapshot{Open: true}, Verdict{Enter, WordOpen, ""}},
		{"open room, script", Facts{Kind: Other}, Snapshot{Open: true}, Verdict{Refuse, WordWait, "no-pass"}},
		{"open room, prefetch", Facts{Kind: Prefetch}, Snapshot{Open: true}, Verdict{Refuse, WordWait, "prefetch"}},
		{"first visit", Facts{Kind: Navigation}, Snapshot{Phase: line.PhaseWaiting}, Verdict{Probe, WordWait, ""}},
		{"came back", Facts{Kind: Navigation, Probe: true}, Snapshot{Phase: line.PhaseWaiting}, Verdict{Join, WordWait, ""}},
		{"came back, HEAD", Facts{Kind: Navigation, Probe: true, Head: true}, Snapshot{Phase: line.PhaseWaiting}, Verdict{Probe, WordWait, ""}},
		{"in line", Facts{Kind: Navigation, Probe: true, Ticket: true}, Snapshot{Phase: line.PhaseWaiting}, Verdict{ShowPlace, WordWait, ""}},
		{"in line, paused", Facts{Kind: Navigation, Ticket: true}, Snapshot{Phase: line.PhasePaused}, Verdict{ShowPlace, WordWait, ""}},
		{"form without pass", Facts{Kind: Form, Ticket: true}, Snapshot{Phase: line.PhaseWaiting}, Verdict{ToRoom, WordWait, "form"}},
		{"form with expired pass", Facts{Kind: Form, Pass: PassGenuine, ExpiresAt: expired}, Snapshot{Phase: line.PhaseWaiting}, Verdict{ToRoom, WordWait, "pass-expired"}},
		{"sold out", Facts{Kind: Navigation, Probe: true}, Snapshot{Phase: line.PhaseSoldOut}, Verdict{ShowState, WordWait, "sold_out"}},
		{"ended", Facts{Kind: Navigation, Probe: true}, Snapshot{Phase: line.PhaseEnded}, Verdict{ShowState, WordWait, "ended"}},
		{"maintenance still gives places", Facts{Kind: Navigation, Probe: true}, Snapshot{Phase: line.PhaseMaintenance}, Verdict{Join, WordWait, ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Decide(tt.f, tt.s, now); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestNobodyPassesWithoutARight: the origin is only asked for a genuine pass of a session that lives, or when the room is off.
func TestNobodyPassesWithoutARight(t *testing.T) {
	phases := []line.Phase{line.PhaseOpen, line.PhaseLobby, line.PhaseDrawing, line.PhaseWaiting, line.PhasePaused, line.PhaseDraining, line.PhaseSoldOut, line.PhaseMaintenance, line.PhaseEnded}
	rapid.Check(t, func(t *rapid.T) {
		f := Facts{
			Kind: Kind(rapid.IntRange(0, 3).Draw(t, "kind")), Head: rapid.Bool().Draw(t, "head"), Pass: Pass(rapid.IntRange(0, 2).Draw(t, "pass")),
			ExpiresAt: now.Add(time.Duration(rapid.Int64Range(-10, 10).Draw(t, "exp"))), Alive: rapid.Bool().Draw(t, "alive"), Ended: rapid.Bool().Draw(t, "ended"),
			Ticket: rapid.Bool().Draw(t, "ticket"), Probe: rapid.Bool().Draw(t, "probe"),
		}
		s := Snapshot{Phase: rapid.SampledFrom(phases).Draw(t, "phase"), Open: rapid.Bool().Draw(t, "open"), Bypass: rapid.Bool().Draw(t, "bypass"), Closed: rapid.Bool().Draw(t, "closed")}
		v := Decide(f, s, now)
		right := s.Bypass || f.Pass == PassGenuine && !f.Ended && (f.ExpiresAt.After(now) || f.Alive)
		if (v.Action == Forward) != right {
			t.Fatalf("%+v %+v: %+v", f, s, v)
		}
		page := v.Action == ShowPlace || v.Action == Join || v.Action == Probe || v.Action == ShowState
		if page && f.Kind != Navigation {
			t.Fatalf("a page for what is not a navigation: %+v %+v", f, v)
		}
		if (v.Action == Join || v.Action == Enter) && (f.Head || f.Kind == Prefetch || f.Kind == Other) && v.Action != Enter {
			t.Fatalf("a stamp for what nobody looks at: %+v %+v", f, v)
		}
		if v.Action == Enter && (!s.Open || f.Head && f.Kind == Navigation || f.Kind == Other || f.Kind == Prefetch) {
			t.Fatalf("an entry that must not be: %+v %+v %+v", f, s, v)
		}
	})
}

func TestDecideDoesNotAllocate(t *testing.T) {
	f := Facts{Kind: Navigation, Pass: PassGenuine, ExpiresAt: now.Add(time.Minute)}
	s := Snapshot{Phase: line.PhaseSoldOut}
	if a := testing.AllocsPerRun(1000, func() { Decide(f, s, now); f.Pass ^= PassGenuine }); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

func BenchmarkDecide(b *testing.B) {
	f := Facts{Kind: Navigation, Pass: PassGenuine, ExpiresAt: now.Add(time.Minute)}
	b.ReportAllocs()
	for b.Loop() {
		if v := Decide(f, Snapshot{Phase: line.PhaseWaiting}, now); v.Action != Forward {
			b.Fatal(v)
		}
	}
}
