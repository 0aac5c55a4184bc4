package simulate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// small scales a scenario to a quarter of an hour, so that all of them run in seconds. Faults move to the middle.
func small(t *testing.T, name string) Scenario {
	t.Helper()
	s, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	s.DurationS = 900
	s.Arrivals.SpreadS = 900
	s.Fans = max(min(s.Fans, 15_000), s.Room.Cap*15)
	s.Fans = min(s.Fans, 60_000)
	if s.Room.Cap > 2000 {
		s.Room.Cap = 2000
	}
	for i := range s.Faults {
		s.Faults[i].AtS = 420
	}
	return s
}

func run(t *testing.T, s Scenario, seed uint64) *Result {
	t.Helper()
	r, err := Run(context.Background(), s, seed)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The protocol's invariants hold in every committed scenario, and its goals are met, at a quarter of the size and time.
func TestScenarios(t *testing.T) {
	type goal struct{ use, idleP95, doorP95, fill, opening float64 }
	goals := map[string]goal{
		"even":              {0.997, 4, 8, 25, 0.25},
		"blocky":            {0.993, 5, 12, 25, 0.25},
		"hoard":             {0.985, 6, 25, 25, 0.25},
		"hidden-tabs":       {0.99, 6, 250, 25, 0.60}, // two tabs in five wake once a minute: the opening's door is theirs
		"small-cap":         {0.995, 4, 120, 25, 0.35},
		"large-cap":         {0.993, 6, 20, 25, 0.25},
		"edge-crash":        {0.995, 4, 60, 25, 0.25},
		"failover":          {0.995, 4, 12, 25, 0.25},
		"store-gone-strict": {0.99, 4, 200, 25, 0.25},
		"store-gone-early":  {0.99, 4, 200, 25, 0.25},
	}
	for name, g := range goals {
		t.Run(name, func(t *testing.T) {
			s := small(t, name)
			r := run(t, s, 3)
			if r.Overshoot != 0 || r.Violations != 0 || r.Inversions != 0 {
				t.Errorf("overshoot %d, inversions %d, violations %v", r.Overshoot, r.Inversions, r.ViolationKinds)
			}
			for _, c := range []struct {
				what        string
				got, lo, hi float64
			}{
				{"cap use", r.CapUse, g.use, 1},
				{"idle place p50", r.IdleP50, 0, 0.2},
				{"idle place p95", r.IdleP95, 0, g.idleP95},
				{"door wait p95", r.DoorP95, 0, g.doorP95},
				{"fill", r.Fill98, 0.1, g.fill},
				{"door at the opening", float64(r.DoorOpening), 0, g.opening * float64(s.Room.Cap)},
				{"inversion", r.InversionS, 0, 0.15},
				{"seal lag", r.SealLagP99, 0, math.Max(0.5, faultLength(s)+3.5)},
				{"admitted", float64(r.Admitted), float64(s.Room.Cap) * 1.5, 1e9},
			} {
				if !(c.got >= c.lo && c.got <= c.hi) {
					t.Errorf("%s is %v, want %v to %v", c.what, c.got, c.lo, c.hi)
				}
			}
		})
	}
}

func faultLength(s Scenario) (longest float64) {
	for _, f := range s.Faults {
		longest = max(longest, f.ForS)
	}
	return longest
}

// While the store is gone, edges go on from their own places: as much as the protocol says, and never one too many.
func TestOutage(t *testing.T) {
	for name, least := range map[string]float64{"store-gone-strict": 0.55, "store-gone-early": 0.85} {
		s, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		s.DurationS, s.Arrivals.SpreadS, s.Fans = 1500, 1500, 25_000
		s.Faults[0].AtS = 900
		r := run(t, s, 1)
		if r.Overshoot != 0 || r.Violations != 0 {
			t.Errorf("%s: overshoot %d, %v", name, r.Overshoot, r.ViolationKinds)
		}
		if r.OutageRatio == nil || *r.OutageRatio < least || *r.OutageRatio > 1.3 {
			t.Errorf("%s: %v of the admissions of before, want %v or more", name, *r.OutageRatio, least)
		}
	}
}

func TestFaultsOfProcesses(t *testing.T) {
	s := small(t, "even")
	s.Faults = []Fault{
		{Kind: FaultEdgePause, AtS: 100, ForS: 5, Edge: 1},
		{Kind: FaultControllerPause, AtS: 200, ForS: 20},
		{Kind: FaultEdgeCrash, AtS: 300, Edge: 2},
		{Kind: FaultFailover, AtS: 400, ForS: 6},
		{Kind: FaultStoreGone, AtS: 500, ForS: 100},
	}
	r := run(t, s, 5)
	if r.Overshoot != 0 || r.Violations != 0 {
		t.Errorf("overshoot %d, %v", r.Overshoot, r.ViolationKinds)
	}
	if r.InversionS < 3 || r.InversionS > 5.5 {
		t.Errorf("longest inversion %v s: fans of the edge that stood still for 5 s were stamped when it woke", r.InversionS)
	}
	if r.FrozenPlaces == 0 {
		t.Error("no place of the dead edge was frozen")
	}
}

func TestForecastsHold(t *testing.T) {
	for _, name := range []string{"even", "hoard"} {
		s, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		s.DurationS, s.Arrivals.SpreadS, s.Fans = 2000, 2000, 40_000
		r := run(t, s, 2)
		if r.ETACoverage == nil || *r.ETACoverage < 0.65 || *r.ETACoverage > 0.97 {
			t.Errorf("%s: the 80%% interval held in %v", name, *r.ETACoverage)
		}
		if *r.ETAMedianError > 0.12 {
			t.Errorf("%s: median error %v", name, *r.ETAMedianError)
		}
	}
}

func TestRateIsKeptAndUsed(t *testing.T) {
	s := small(t, "even")
	s.Room.RatePerSecond = 2
	r := run(t, s, 1)
	if r.Violations != 0 {
		t.Errorf("%v", r.ViolationKinds)
	}
	if r.RateUse == nil || *r.RateUse < 0.97 {
		t.Errorf("%v of the rate is used while fans wait", r.RateUse)
	}
	if most := int64(2*900 + 2); r.Admitted > most {
		t.Errorf("%d let in, at most %d", r.Admitted, most)
	}
}

// With a draw by holder, those with a hundred tickets get no more than their share of people; by ticket they would get most.
func TestDrawByHolder(t *testing.T) {
	s := small(t, "even")
	s.DurationS, s.Fans, s.Room.Cap = 400, 20_000, 400
	s.Room.LobbyS, s.Room.DrawAfterS = 100, 10
	s.Arrivals = Arrivals{SpikeShare: 1, SpikeS: 95, SpreadS: 95}
	s.Absence.Share = 0
	s.Crowd.Holders, s.Crowd.HolderTickets = 100, 100 // half of the tickets, 1% of the people
	byTicket := run(t, s, 1)
	s.Room.OnePerHolder = true
	byHolder := run(t, s, 1)
	if *byTicket.HolderShare < 0.4 {
		t.Errorf("drawn by ticket the holders get %v of the places, want about half", *byTicket.HolderShare)
	}
	if *byHolder.HolderShare > 0.03 {
		t.Errorf("drawn by holder they get %v, want about 1%%", *byHolder.HolderShare)
	}
	if byHolder.Violations != 0 || byTicket.Violations != 0 {
		t.Error(byHolder.ViolationKinds, byTicket.ViolationKinds)
	}
}

func TestStockEndsTheLine(t *testing.T) {
	s := small(t, "even")
	s.Stock = &Stock{Seats: 600}
	r := run(t, s, 1)
	if r.Sold < 540 || r.Sold > 600 {
		t.Errorf("%d of 600 seats sold", r.Sold)
	}
	if unbound := run(t, small(t, "even"), 1); r.Admitted > unbound.Admitted/2 || r.Violations != 0 {
		t.Errorf("%d fans let in for 600 seats, %v", r.Admitted, r.ViolationKinds)
	}
}

func TestTrace(t *testing.T) {
	s := small(t, "even")
	s.Arrivals.Trace, s.Arrivals.TraceStepS = []float64{0, 10, 1, 0, 5}, 60
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	w, err := newWorld(&s, 1)
	if err != nil {
		t.Fatal(err)
	}
	var got [5]int
	for i := range w.fans {
		got[w.fans[i].arrive/60_000]++
	}
	if len(w.fans) != s.Fans || got[0] != 0 || got[3] != 0 || math.Abs(float64(got[1])/float64(got[4])-2) > 0.01 {
		t.Errorf("%d fans in steps of %v", len(w.fans), got)
	}
}

func TestSameSeedSameRun(t *testing.T) {
	s := small(t, "blocky")
	s.DurationS, s.Arrivals.SpreadS, s.Fans = 200, 200, 5000
	var docs [3][]byte
	for i, seed := range []uint64{7, 7, 8} {
		doc, err := json.Marshal(run(t, s, seed))
		if err != nil {
			t.Fatal(err)
		}
		docs[i] = bytes.Replace(doc, []byte(`"seed":8`), []byte(`"seed":7`), 1)
	}
	if !bytes.Equal(docs[0], docs[1]) {
		t.Errorf("two runs of one seed differ:\n%s\n%s", docs[0], docs[1])
	}
	if bytes.Equal(docs[0], docs[2]) {
		t.Error("another seed gives the same run")
	}
}

func TestStopsWhenAsked(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if _, err := Run(ctx, small(t, "even"), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
}

// The checks themselves notice what they are there for.
func TestChecksNotice(t *testing.T) {
	s := small(t, "even")
	world := func() *world {
		w, err := newWorld(&s, 1)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := world()
	w.store.act = s.Room.Cap + 1
	w.checkCap()
	if w.m.overshoot != 1 {
		t.Error("a session too many in the store goes unnoticed")
	}
	w = world()
	w.m.honoured = s.Room.Cap + 2
	w.checkCap()
	if w.m.overshoot != 2 {
		t.Error("passes that outlive their places go unnoticed")
	}
	w = world()
	w.store.spent[0] = true
	w.store.tickMs = w.now
	w.claim(w.edges[0], 0)
	if w.m.violations != 1 {
		t.Error("a stamp claimed twice goes unnoticed")
	}
	w = world()
	w.fans[0].win, w.fans[1].win = 9, 3
	w.lanes[0].ledger = w.lanes[0].ledger.Append(make([]uint64, 20)...)
	w.lanes[0].order = []int32{0}
	w.fans[0].rank = 1
	w.rankAll(w.lanes[0], []int32{1})
	if w.m.inversions != 1 {
		t.Error("a later window in front goes unnoticed")
	}
}

func TestLoadRefusals(t *testing.T) {
	for name, tc := range map[string]struct{ doc, want string }{
		"not YAML":           {"a: [", ""},
		"unknown key":        {"fanns: 3", "fanns"},
		"wrong type":         {"fans: many", "Fans"},
		"no fans":            {"fans: 0", "fans is 0, want 1 to"},
		"endless":            {"duration_s: 1e9", "duration_s"},
		"not a number":       {"room: {cap: .nan}", "NaN"},
		"negative rate":      {"room: {rate_per_second: -1}", "room.rate_per_second is -1"},
		"share over 1":       {"crowd: {silent_share: 1.5}", "crowd.silent_share is 1.5, want 0 to 1"},
		"shares over 1":      {"crowd: {hidden_share: 0.6, noscript_share: 0.6}", "add up"},
		"lane shares":        {"room: {lanes: [{name: a, weight: 1, share: 0.5}]}", "add up to 0.5"},
		"unknown absence":    {"absence: {kind: lunar}", `"lunar", want even, blocky or hoard`},
		"unknown fault":      {"faults: [{kind: flood, at_s: 1, for_s: 1}]", `"flood"`},
		"fault of no edge":   {"faults: [{kind: edge-crash, at_s: 1, edge: 99}]", "faults[0].edge is 99"},
		"fault too late":     {"faults: [{kind: failover, at_s: 99999, for_s: 1}]", "faults[0].at_s"},
		"store gone twice":   {"faults: [{kind: store-gone, at_s: 10, for_s: 100}, {kind: failover, at_s: 50, for_s: 5}]", "twice"},
		"the only edge":      {"edges: 1\nfaults: [{kind: edge-crash, at_s: 1}]", "only edge"},
		"unknown mode":       {"room: {outage_mode: brave}", `"brave"`},
		"empty trace":        {"arrivals: {trace: [0, 0], trace_step_s: 1}", "nobody comes"},
		"too many holders":   {"crowd: {holders: 1000, holder_tickets: 1000}", "more than"},
		"all named together": {"fans: 0\nedges: 0", "edges is 0"},
	} {
		_, err := Parse("test", []byte(tc.doc))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q in it", name, err, tc.want)
		}
	}
	if _, err := Parse("huge", make([]byte, MaxScenarioBytes+1)); err == nil {
		t.Error("a huge file is read")
	}
	if _, err := Load("no-such-scenario"); err == nil || !strings.Contains(err.Error(), "even") {
		t.Errorf("an unknown name does not list the known ones: %v", err)
	}
}

func TestPartsKeepDefaults(t *testing.T) {
	s, err := Parse("test", []byte("room: {cap: 7}"))
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Room.Cap = 7
	if s.Room.IdleS != want.Room.IdleS || s.Room.Cap != 7 || s.Crowd != want.Crowd {
		t.Errorf("a room of one key lost its defaults: %+v", s.Room)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		doc, err := scenarios.ReadFile("scenarios/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
	}
	f.Add([]byte("arrivals: {trace: [1, 2], trace_step_s: 5}\nstock: {seats: 3}"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := Parse("fuzz", doc)
		if err == nil && s.Validate() != nil {
			t.Fatal("accepted what it does not accept")
		}
	})
}

func TestReports(t *testing.T) {
	s := small(t, "store-gone-early")
	s.Title = `<script>alert("x")</script>`
	a, b := run(t, s, 1), run(t, s, 2)
	mean := Mean([]*Result{a, b})
	if mean.Runs != 2 || math.Abs(mean.CapUse-(a.CapUse+b.CapUse)/2) > 1e-12 || mean.Admitted != a.Admitted+b.Admitted {
		t.Errorf("mean of two runs: %+v", mean)
	}
	var table, page bytes.Buffer
	if err := WriteTable(&table, mean); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"cap use", "mean of 2 runs", "0.9990"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
	if err := WriteHTML(&page, a); err != nil {
		t.Fatal(err)
	}
	for _, never := range []string{"http:", "https:", "src=", "url(", "<script", "NaN", "ZgotmplZ"} {
		if strings.Contains(page.String(), never) {
			t.Errorf("the page is not self-contained or not whole: it holds %q", never)
		}
	}
	if n := strings.Count(page.String(), "<svg"); n != 5 {
		t.Errorf("%d charts, want 5", n)
	}
}

// The published names of a run's measures.
func TestJSONFields(t *testing.T) {
	s := small(t, "even")
	s.DurationS, s.Arrivals.SpreadS, s.Fans = 60, 60, 500
	doc, err := json.Marshal(run(t, s, 1))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(doc, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cap_use", "overshoot", "idle_place_s_p50", "idle_place_s_p95", "door_wait_s_p50", "door_wait_s_p95", "fill_98_s",
		"admissions_during_outage_ratio", "eta_coverage", "eta_median_error", "inversions", "violations"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestWheelKeepsTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWheel(200)
		want := map[int32][]int32{}
		n := int32(0)
		for now := int32(0); now <= 200; now++ {
			for range rapid.IntRange(0, 3).Draw(t, "adds") {
				at := now + int32(rapid.IntRange(0, 250).Draw(t, "in"))
				w.add(at, evPoll, n, 0)
				want[at] = append(want[at], n)
				n++
			}
			var got []int32
			for e, ok := w.take(now); ok; e, ok = w.take(now) {
				got = append(got, e.who)
			}
			slices.Sort(got)
			if !slices.Equal(got, want[now]) {
				t.Fatalf("at %d: %v, want %v", now, got, want[now])
			}
		}
	})
}

func TestDoorServesByRank(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d door
		var want []uint64
		for i := range rapid.IntRange(0, 50).Draw(t, "n") {
			r := rapid.Uint64Range(0, 20).Draw(t, "rank")
			since := int32(rapid.IntRange(0, 10).Draw(t, "since"))
			d.push(parked{rank: r, fan: int32(i), sinceMs: since})
			if since >= 3 {
				want = append(want, r)
			}
		}
		d.expire(3, func(int32) {})
		slices.Sort(want)
		for _, r := range want {
			if got := d.pop(); got.rank != r {
				t.Fatalf("rank %d, want %d", got.rank, r)
			}
		}
		if d.len() != 0 {
			t.Fatal("somebody who should have gone is left")
		}
	})
}
