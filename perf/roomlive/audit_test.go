package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/perf/load"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/simulate"
)

// story builds a history in which everything is as it should be: two fans wait, are called, come in and leave, one after the other,
// in a room of one place.
type story struct {
	t *testing.T
	h history
}

const begin = 1_800_000_000 * second

func at(s float64) int64 { return begin + int64(s*1e6) }

func newStory(t *testing.T) *story {
	s := &story{t: t, h: history{Cap: 1, EpochMs: begin / 1000}}
	active := func(i int) int64 {
		if i >= 2 && i < 18 {
			return 1
		}
		return 0
	}
	for i := range 40 {
		when := at(float64(i))
		x := sample{At: when, OK: true, StoreMs: when / 1000, TickMs: when/1000 - 100, Active: active(i), Counted: active(i), Line: "aa", Total: 2, Sealed: uint32(i * 10), LimitedBy: line.LimitCap}
		if i >= 2 {
			x.Granted, x.Called = 1, 1
		}
		if i >= 10 {
			x.Granted, x.Freed, x.Called = 2, 1, 2
		}
		if i >= 18 {
			x.Freed = 2
		}
		s.h.Samples = append(s.h.Samples, x)
	}
	s.fan(0, 1, 0, 2, 9)
	s.fan(1, 3, 1, 10, 17)
	return s
}

// fan joins in a window, is let in and leaves.
func (s *story) fan(id int, win line.Window, rank uint64, in, out float64) {
	joined := at(float64(win) / 10)
	s.fact(fact{Fan: id, Kind: load.FactPlace, Sent: joined - 1000, At: joined + 1000, Text: ticket(s.t, id, win)})
	s.fact(fact{Fan: id, Kind: load.FactRank, Sent: joined + second, At: joined + second, Text: ticket(s.t, id, win), Rank: rank})
	s.fact(fact{Fan: id, Kind: load.FactDoor, At: at(in - 0.5)})
	s.fact(fact{Fan: id, Kind: load.FactGrant, Sent: at(in - 0.5), At: at(in) - 1000, Text: passOf(fmt.Sprint("session", id), at(in)/second+30)})
	s.fact(fact{Fan: id, Kind: load.FactLeave, Sent: at(out), At: at(out), Text: passOf(fmt.Sprint("session", id), at(in)/second+30)})
}

func (s *story) fact(f fact) { s.h.Facts = append(s.h.Facts, f) }

func ticket(t *testing.T, id int, win line.Window) string {
	t.Helper()
	ring, err := line.NewTickets("live", line.TicketKey{KID: 1, Secret: bytes.Repeat([]byte{7}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	return ring.Issue(line.Ticket{Line: line.ID{0xaa}, Stamp: line.Stamp{Win: win, Inc: 5, Seq: uint32(id)}, Rank: line.NoRank})
}

func passOf(session string, exp int64) string {
	doc, _ := json.Marshal(pass{Session: session, Exp: exp})
	return "e30." + base64.RawURLEncoding.EncodeToString(doc) + ".c2ln"
}

func TestAuditFindsEveryBrokenPromise(t *testing.T) {
	for _, c := range []struct {
		name   string
		break_ func(*story)
		want   string // start of the only kind of violation; empty: none
		over   int64
	}{
		{"as it should be", func(*story) {}, "", 0},
		{"the store counts too many", func(s *story) { s.h.Samples[20].Active, s.h.Samples[20].Counted = 3, 3 }, "1 more sessions than places in the store", 2},
		{"the counter is not what the sets hold", func(s *story) { s.h.Samples[20].Counted = 1 }, "8 the store's count", 0},
		{"two passes at once", func(s *story) {
			s.fact(fact{Fan: 9, Kind: load.FactGrant, At: at(5), Text: passOf("other", at(6)/second)})
		}, "1 more passes honoured", 1},
		{"a pass after its end is none", func(s *story) {
			s.fact(fact{Fan: 9, Kind: load.FactGrant, At: at(20), Text: passOf("other", at(25)/second)})
			s.fact(fact{Fan: 8, Kind: load.FactGrant, At: at(25), Text: passOf("another", at(30)/second)})
		}, "", 0},
		{"a pass is honoured after the goodbye, beside the next one", func(s *story) {
			s.fact(fact{Fan: 0, Kind: load.FactUse, Sent: at(11), At: at(11), Text: passOf("session0", at(2)/second+30)})
		}, "1 more passes honoured", 1},
		{"a pass is honoured after the goodbye, before the next one", func(s *story) {
			s.fact(fact{Fan: 0, Kind: load.FactUse, Sent: at(9.5), At: at(9.6), Text: passOf("session0", at(2)/second+30)})
		}, "", 0},
		{"two fans with one session", func(s *story) {
			s.fact(fact{Fan: 1, Kind: load.FactGrant, At: at(12), Text: passOf("session0", at(2)/second+30)})
			s.h.Facts = append(s.h.Facts[:8], s.h.Facts[9:]...) // fan 1's own grant
		}, "2 two fans", 0},
		{"a place is lost", func(s *story) { s.fact(fact{Fan: 7, Kind: load.FactGone, At: at(5), Text: "/problems/place-spent"}) }, "2 a place was lost", 0},
		{"a frontier goes back", func(s *story) { s.h.Samples[30].Called = 1 }, "3 a frontier went back", 0},
		{"more called than there are", func(s *story) {
			for i := 30; i < 40; i++ {
				s.h.Samples[i].Called = 5
			}
		}, "3 more called", 0},
		{"grants are forgotten", func(s *story) { s.h.Samples[39].Granted = 1 }, "3 grants were forgotten", 0},
		{"let in before being called", func(s *story) {
			for i := 10; i < 15; i++ {
				s.h.Samples[i].Called = 1
			}
		}, "3 a fan was let in before", 0},
		{"an inversion", func(s *story) {
			s.fact(fact{Fan: 5, Kind: load.FactPlace, Sent: at(1), At: at(1), Text: ticket(s.t, 5, 10)})
			s.fact(fact{Fan: 5, Kind: load.FactRank, Sent: at(2), At: at(2), Text: ticket(s.t, 5, 10), Rank: 0})
		}, "4 a fan ranks before", 0},
		{"a rank changes", func(s *story) {
			s.fact(fact{Fan: 1, Kind: load.FactRank, At: at(6), Text: ticket(s.t, 1, 3), Rank: 0})
		}, "5 a rank changed", 0},
		{"nobody is called although there is room", func(s *story) {
			for i := range s.h.Samples {
				s.h.Samples[i].Total = 3
				if i >= 25 {
					s.h.Samples[i].Active, s.h.Samples[i].Counted = 0, 0
				}
			}
		}, "6 room, somebody waiting", 0},
		{"an edge takes a call back", func(s *story) {
			s.h.Told = []told{{At: at(5), Edge: 1, Line: "aa", Called: 9}, {At: at(6), Edge: 0, Line: "aa", Called: 8}, {At: at(7), Edge: 1, Line: "aa", Called: 8}}
		}, "5 an edge takes back", 0},
		{"early refills are merged", func(s *story) {
			s.h.Early = true
			s.h.Faults = []fault{{Store: true, From: at(18), To: at(19)}}
			s.h.Samples[20].Active, s.h.Samples[20].Counted, s.h.Samples[20].Ended = 3, 3, 2
		}, "", 0},
		{"early refills are no excuse elsewhere", func(s *story) {
			s.h.Early = true
			s.h.Faults = []fault{{Store: true, From: at(1), To: at(2)}}
			s.h.Samples[20].Active, s.h.Samples[20].Counted, s.h.Samples[20].Ended = 3, 3, 2
		}, "1 more sessions than places in the store", 2},
		{"nobody is called while the store is away", func(s *story) {
			for i := range s.h.Samples {
				s.h.Samples[i].Total = 3
				s.h.Samples[i].OK = i < 20 || i > 34
			}
		}, "", 0},
		{"more grants than the rate allows", func(s *story) {
			for i := 30; i < 40; i++ {
				s.h.Samples[i].Granted, s.h.Samples[i].Freed = 700, 700
			}
		}, "9 more grants", 0},
		{"a ticket that is none", func(s *story) { s.fact(fact{Fan: 6, Kind: load.FactPlace, Text: "x", At: at(3)}) }, "a ticket cannot be read", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStory(t)
			c.break_(s)
			r := audit(&s.h, 1, 10)
			if r.Overshoot != c.over {
				t.Errorf("overshoot %d, want %d", r.Overshoot, c.over)
			}
			switch {
			case c.want == "" && r.Violations > 0:
				t.Errorf("violations %v, want none", r.ViolationKinds)
			case c.want != "" && (len(r.ViolationKinds) != 1 || !strings.HasPrefix(r.ViolationKinds[0], c.want)):
				t.Errorf("violations %v, want only %q", r.ViolationKinds, c.want)
			}
		})
	}
}

func TestAuditMeasures(t *testing.T) {
	s := newStory(t)
	for i := range s.h.Samples {
		s.h.Samples[i].Total = 10 // somebody waits all the time
		if i >= 18 {
			s.h.Samples[i].Called = 3
		}
		if i >= 20 {
			s.h.Samples[i].Active, s.h.Samples[i].Counted, s.h.Samples[i].Granted = 1, 1, 3
		}
	}
	s.h.Guesses = []guess{
		{At: at(5), Rank: 1, Low: 4, Point: 5.5, High: 6}, // called at 10 s
		{At: at(5), Rank: 2, Low: 1, Point: 26, High: 30}, // called at 18 s
		{At: at(5), Rank: 9, Low: 1, Point: 2, High: 3},   // not within the run
	}
	s.h.Faults = []fault{{Kind: storePause, Store: true, From: at(9.5), To: at(18)}}
	r := audit(&s.h, 1, 0)
	near := func(what string, got, want float64) {
		t.Helper()
		if got < want-0.01 || got > want+0.01 {
			t.Errorf("%s is %.4f, want %.4f", what, got, want)
		}
	}
	near("fill_98_s", r.Fill98, 2-0.099)
	near("cap_use", r.CapUse, 35.0/37)     // empty from 18 to 20 of 2 to 39
	near("idle_place_s_p95", r.IdleP95, 3) // freed after the sample at 17, granted at 20
	near("door_wait_s_p50", r.DoorP50, 0.499)
	near("outage", *r.OutageRatio, 1)
	near("eta_coverage", *r.ETACoverage, 1)
	near("eta_median_error", *r.ETAMedianError, 1)
	near("seal lag", r.SealLagP99, 0)
	if r.ETAForecasts != 2 || r.Stamped != 2 || r.Admitted != 2 || r.Called != 3 || r.Violations != 0 {
		t.Errorf("forecasts %d, stamped %d, admitted %d, called %d, violations %v", r.ETAForecasts, r.Stamped, r.Admitted, r.Called, r.ViolationKinds)
	}
	var out bytes.Buffer
	r.Simulated = &simulate.Result{}
	if err := writeTable(&out, r); err != nil || strings.Contains(out.String(), "%!") {
		t.Errorf("table: %v\n%s", err, out.String())
	}
	// The fields are the simulator's.
	doc, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(doc, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cap_use", "overshoot", "idle_place_s_p50", "idle_place_s_p95", "door_wait_s_p50", "door_wait_s_p95", "fill_98_s", "admissions_during_outage_ratio",
		"eta_coverage", "eta_median_error", "inversions", "violations"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestFaults(t *testing.T) {
	got, err := parseFaults("store-pause@120+20, edge-kill@60+5")
	if err != nil || fmt.Sprint(got) != "[edge-kill@60+5 store-pause@120+20]" {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := parseFaults("none"); err != nil || len(got) != 0 {
		t.Errorf("none: %v, %v", got, err)
	}
	for _, bad := range []string{"fire@1+2", "edge-kill@60", "edge-kill@x+1", "edge-kill@-1+1", "edge-kill@1+NaN", "edge-kill@1+0", "edge-kill@10+5,edge-pause@12+1"} {
		if got, err := parseFaults(bad); err == nil {
			t.Errorf("%q is accepted as %v", bad, got)
		}
	}
}

func TestAbsence(t *testing.T) {
	for _, c := range []struct {
		a    absence
		rank uint64
		want float64
	}{
		{absence{Kind: "even", Share: 0.4}, 77, 0.4},
		{absence{Kind: "blocky", Low: 0.1, High: 0.9, Block: 10}, 9, 0.1},
		{absence{Kind: "blocky", Low: 0.1, High: 0.9, Block: 10}, 10, 0.9},
		{absence{Kind: "hoard", Share: 0.4, High: 0.99, Block: 10, Gap: 5}, 4, 0.4},
		{absence{Kind: "hoard", Share: 0.4, High: 0.99, Block: 10, Gap: 5}, 5, 0.99},
	} {
		if got := c.a.at(c.rank); got != c.want {
			t.Errorf("%+v at %d is %v, want %v", c.a, c.rank, got, c.want)
		}
	}
}

func TestImpossibleRunsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"no-such"}, {"-fans=-3"}, {"-fans=50000"}, {"-edges=1", "edge-crash"}, {"-seconds=30"}, {"-outage=maybe"}, {"-hidden=2"}, {"-faults=x"}, {"-consul="}} {
		ctx := t.Context()
		var out bytes.Buffer
		began := time.Now()
		if err := run(ctx, args, &out, &out); err == nil || time.Since(began) > 5*time.Second {
			t.Errorf("%v: %v", args, err)
		}
	}
}
