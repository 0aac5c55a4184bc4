package pace

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"github.com/stanchion-queue/stanchion/queue/line"
	"pgregory.net/rapid"
)

func newLaw(t testing.TB) *Law {
	t.Helper()
	l, err := NewLaw(Defaults())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func one(called, total uint64) []Lane { return []Lane{{Called: called, Total: total, Weight: 1}} }

// An opening starts by calling the free places and a few fans for the door, nobody knows of absentees yet.
func TestOpeningCallsTheFreePlaces(t *testing.T) {
	out := newLaw(t).Tick(Input{NowMs: 1, Cap: 1000, Lanes: one(0, 60_000)})
	if out.Added < 1000 || out.Added > 1010 || out.LimitedBy != line.LimitCap {
		t.Fatalf("called %d, limited by %q; want the 1000 places and a handful", out.Added, out.LimitedBy)
	}
	if math.Abs(out.Gauges.ShowUp-1) > 1e-9 {
		t.Errorf("show-up %v, want 1 while nothing is known", out.Gauges.ShowUp)
	}
}

// L worked out another way: the mean of the response time, cut at the horizon, by adding up small steps of the prior's curve.
func TestLeadIsTheMeanWithinTheHorizon(t *testing.T) {
	for _, horizon := range []float64{3, 12, 80} {
		c := Defaults()
		c.HorizonS = horizon
		l, err := NewLaw(c)
		if err != nil {
			t.Fatal(err)
		}
		got := l.Tick(Input{NowMs: 1, Cap: 1, Lanes: one(0, 0)}).Gauges.LeadS
		bounds := []float64{0, .5, 1, 1.5, 2, 3, 4, 6, 8, 12, 20, 40, 80}
		want, total := 0.0, 0.0
		for i, n := range []float64{10, 30, 45, 35, 30, 8, 5, 5, 6, 8, 10, 8} {
			const steps = 1000
			for j := range steps {
				at := bounds[i] + (bounds[i+1]-bounds[i])*(float64(j)+.5)/steps
				want += n / steps * min(at, horizon)
			}
			total += n
		}
		if want /= total; math.Abs(got-want) > 1e-3 {
			t.Errorf("horizon %v s: L = %v, want %v", horizon, got, want)
		}
	}
}

// A crowd that comes a second later than the last one is not taken for one that stays away.
func TestSlowCrowdIsNotAbsent(t *testing.T) {
	l := newLaw(t)
	called := l.Tick(Input{NowMs: 0, Cap: 1000, Lanes: one(0, 60_000)}).Called[0]
	for now := int64(250); now <= 1500; now += 250 {
		out := l.Tick(Input{NowMs: now, Cap: 1000, Lanes: one(called, 60_000)})
		called = out.Called[0]
	}
	if called > 2000 {
		t.Errorf("%d called for 1000 places before anybody had time to come", called)
	}
}

// Whatever it forecasts, the law does not leave a free place with nobody at the door alone for longer than it takes to come.
func TestFreePlaceIsNotLeftAlone(t *testing.T) {
	l := newLaw(t)
	called, last := uint64(0), int64(0)
	for now := int64(0); now <= 60_000; now += 250 {
		out := l.Tick(Input{NowMs: now, Cap: 10, Active: 9, Lanes: one(called, 60_000)})
		if out.Added > 0 {
			last = now
		}
		if now-last > 2000 {
			t.Fatalf("nobody called from %d to %d ms with a free place: %+v", last, now, out.Gauges)
		}
		called = out.Called[0]
	}
}

func TestEachBoundBinds(t *testing.T) {
	base := Input{NowMs: 1, Cap: 1000, Lanes: one(0, 100_000)}
	for _, tc := range []struct {
		name   string
		change func(*Input)
		by     line.Limit
		most   uint64
	}{
		{"cap", func(in *Input) {}, line.LimitCap, 1010},
		{"full", func(in *Input) { in.Active = 1000; in.Parked = 1 }, line.LimitCap, 2},
		{"operator's rate", func(in *Input) { in.OperatorRate = 2; in.CoreRate = 50 }, line.LimitRate, 20},
		{"core's rate", func(in *Input) { in.OperatorRate = 50; in.CoreRate = 2 }, line.LimitCore, 20},
		{"core's rate alone", func(in *Input) { in.CoreRate = 2 }, line.LimitCore, 20},
		{"stock", func(in *Input) { in.Stock = &Stock{Sellable: 100, Held: 100, SeatsPerSession: 2} }, line.LimitStock, 65},
		{"sold out", func(in *Input) { in.Stock = &Stock{SeatsPerSession: 2} }, line.LimitStock, 0},
		{"nobody waits", func(in *Input) { in.Lanes = one(10, 10) }, line.LimitNobody, 0},
		{"all are called at once", func(in *Input) { in.Lanes = one(0, 10) }, line.LimitNobody, 10},
		{"the door is long", func(in *Input) { in.Parked = 2000 }, line.LimitCap, 0},
		{"held", func(in *Input) { in.Hold = true }, line.LimitCap, 0},
	} {
		in := base
		tc.change(&in)
		out := newLaw(t).Tick(in)
		if out.LimitedBy != tc.by || out.Added > tc.most {
			t.Errorf("%s: called %d, limited by %q; want at most %d by %q", tc.name, out.Added, out.LimitedBy, tc.most, tc.by)
		}
	}
}

// world drives a law with arrivals, departures and settings that follow no plan.
func drawInput(t *rapid.T, now int64, lanes []Lane) Input {
	in := Input{
		NowMs:        now,
		Cap:          rapid.Int64Range(0, 5000).Draw(t, "cap"),
		Active:       rapid.Int64Range(0, 5000).Draw(t, "active"),
		Parked:       rapid.Int64Range(0, 300).Draw(t, "parked"),
		FreedTotal:   rapid.Int64Range(0, 100_000).Draw(t, "freed"),
		Lanes:        lanes,
		OperatorRate: rapid.Float64Range(0, 200).Draw(t, "rate"),
		CoreRate:     rapid.Float64Range(0, 200).Draw(t, "core"),
		Hold:         rapid.IntRange(0, 9).Draw(t, "hold") == 0,
	}
	for range rapid.IntRange(0, 3).Draw(t, "arrivals") {
		in.Arrivals = append(in.Arrivals, Arrival{AgeMs: rapid.Int64Range(-5, 100_000).Draw(t, "age"), Count: rapid.Float64Range(-1, 500).Draw(t, "n")})
	}
	if rapid.Bool().Draw(t, "stocked") {
		in.Stock = &Stock{Sellable: rapid.Float64Range(0, 5000).Draw(t, "sellable"), Held: rapid.Float64Range(0, 500).Draw(t, "held"), SeatsPerSession: rapid.Float64Range(0, 6).Draw(t, "seats")}
	}
	return in
}

func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, err := NewLaw(Defaults())
		if err != nil {
			t.Fatal(err)
		}
		lanes := make([]Lane, rapid.IntRange(1, 4).Draw(t, "lanes"))
		for i := range lanes {
			lanes[i].Weight = uint32(rapid.IntRange(1, 10).Draw(t, "weight"))
		}
		now := int64(0)
		for range rapid.IntRange(1, 80).Draw(t, "ticks") {
			now += rapid.Int64Range(-100, 2000).Draw(t, "dt")
			for i := range lanes {
				lanes[i].Total += rapid.Uint64Range(0, 2000).Draw(t, "joined")
			}
			in := drawInput(t, now, lanes)
			out := l.Tick(in)
			added, waiting := uint64(0), uint64(0)
			for i, lane := range lanes {
				if out.Called[i] < lane.Called {
					t.Fatalf("lane %d went back from %d to %d", i, lane.Called, out.Called[i])
				}
				if out.Called[i] > lane.Total {
					t.Fatalf("lane %d called %d of %d", i, out.Called[i], lane.Total)
				}
				added += out.Called[i] - lane.Called
				waiting += lane.Total - lane.Called
				lanes[i].Called = out.Called[i]
			}
			g := out.Gauges
			bound := min(g.Want, g.Limit, g.Stock)
			switch {
			case added != out.Added:
				t.Fatalf("added %d, lanes moved by %d", out.Added, added)
			case added > 0 && float64(added-1)*g.ShowUp >= bound:
				t.Fatalf("called %d with show-up %v beyond %v", added, g.ShowUp, bound)
			case bound <= 0 && added > 0, in.Hold && added > 0:
				t.Fatalf("called %d with bound %v, hold %v", added, bound, in.Hold)
			case bound > 0 && !in.Hold && waiting > 0 && added == 0:
				t.Fatalf("room for %v, %d waiting, nobody called", bound, waiting)
			case g.ShowUp < 0.15 || g.ShowUp > 1 || g.LeadS <= 0 || g.LeadS > 20 || math.IsNaN(g.Coming) || g.Coming < 0:
				t.Fatalf("gauges out of range: %+v", g)
			}
			want := map[float64]line.Limit{g.Want: line.LimitCap, g.Stock: line.LimitStock, g.Limit: line.LimitRate}[bound]
			if out.LimitedBy != line.LimitNobody && out.LimitedBy != want && !(want == line.LimitRate && out.LimitedBy == line.LimitCore) {
				t.Fatalf("limited by %q, but %q is the smallest of %+v", out.LimitedBy, want, g)
			}
		}
	})
}

// In balance the fans on their way are those whose places become free meanwhile: P = mu*L, with a few at the door.
func TestBalance(t *testing.T) {
	l := newLaw(t)
	const perTick, total = 10, 1 << 40 // 40 places a second
	called, active, freed := uint64(0), int64(5000), int64(0)
	type visit struct {
		at  int64
		age int64
	}
	var coming []visit
	var out Output
	for now := int64(0); now < 400_000; now += 250 {
		active -= perTick
		freed += perTick
		var arrivals []Arrival
		rest := coming[:0]
		for _, v := range coming {
			if v.at <= now {
				arrivals = append(arrivals, Arrival{AgeMs: v.age, Count: 1})
				active++
			} else {
				rest = append(rest, v)
			}
		}
		coming = rest
		parked := max(active-5000, 0) // those over the cap stand at the door
		out = l.Tick(Input{NowMs: now, Cap: 5000, Active: active - parked, Parked: parked, FreedTotal: freed, Arrivals: arrivals, Lanes: one(called, total)})
		for i := range out.Added {
			if (called+i)%2 == 0 { // every second fan has left
				coming = append(coming, visit{at: now + 1750, age: 2000})
			}
		}
		called = out.Called[0]
	}
	g := out.Gauges
	if math.Abs(g.ShowUp-0.5) > 0.05 || math.Abs(g.FreedRate-40) > 1 {
		t.Errorf("show-up %v, freed %v; want 0.5 and 40 a second", g.ShowUp, g.FreedRate)
	}
	if d := math.Abs(g.Coming+g.Door-g.FreedRate*g.LeadS) / (g.FreedRate * g.LeadS); d > 0.15 {
		t.Errorf("P + D = %v, mu*L = %v: out of balance by %.0f%%", g.Coming+g.Door, g.FreedRate*g.LeadS, d*100)
	}
	if active < 4975 {
		t.Errorf("%d of 5000 places are used", active)
	}
	if math.Abs(g.LeadS-1.75) > 0.6 {
		t.Errorf("L = %v, all fans come after 1.75 s", g.LeadS)
	}
}

// The quick must not teach the law that the rest are absent: ages count only when their whole cohort had time to come.
func TestLearnsFromOldCohortsOnly(t *testing.T) {
	l := newLaw(t)
	before := l.Curve()
	l.Tick(Input{NowMs: 0, Cap: 1000, Lanes: one(0, 10_000)})
	l.Tick(Input{NowMs: 500, Cap: 1000, Active: 900, Arrivals: []Arrival{{AgeMs: 500, Count: 900}}, Lanes: one(1000, 10_000)})
	l.Tick(Input{NowMs: 89_000, Cap: 1000, Active: 900, Lanes: one(1000, 10_000)})
	if l.Curve() != before {
		t.Error("learned from a cohort younger than 90 s")
	}
	l.Tick(Input{NowMs: 92_000, Cap: 1000, Active: 900, Lanes: one(1000, 10_000)})
	if after := l.Curve(); after[0] < before[0]+800 {
		t.Errorf("after 90 s the first bucket holds %v, want the 900 who came", after[0])
	}
}

func TestLanesShareByWeight(t *testing.T) {
	l := newLaw(t)
	lanes := []Lane{{Total: 1 << 30, Weight: 3}, {Total: 1 << 30, Weight: 1}, {Total: 5, Weight: 4}}
	for now := int64(0); now < 100_000; now += 250 { // about one call a tick
		out := l.Tick(Input{NowMs: now, Cap: 1 << 40, OperatorRate: 4, Lanes: lanes, Arrivals: []Arrival{{AgeMs: 500, Count: 1}}})
		for i := range lanes {
			lanes[i].Called = out.Called[i]
		}
	}
	if lanes[2].Called != 5 {
		t.Errorf("the short lane is called to %d, want all 5", lanes[2].Called)
	}
	if r := float64(lanes[0].Called) / float64(lanes[1].Called); r < 2.8 || r > 3.2 {
		t.Errorf("lanes of weight 3 and 1 are called %d and %d", lanes[0].Called, lanes[1].Called)
	}
}

func TestStateCarriesOver(t *testing.T) {
	a := newLaw(t)
	called, freed := uint64(0), int64(0)
	step := func(l *Law, now int64) Output {
		freed += 5
		return l.Tick(Input{NowMs: now, Cap: 1000, Active: 990, FreedTotal: freed, Arrivals: []Arrival{{AgeMs: 1500, Count: 4}}, Lanes: one(called, 1<<40)})
	}
	now := int64(0)
	for ; now < 200_000; now += 250 {
		called = step(a, now).Called[0]
	}
	raw, err := json.Marshal(a.State())
	if err != nil {
		t.Fatal(err)
	}
	var s State
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	b := newLaw(t)
	if err := b.Restore(s); err != nil {
		t.Fatal(err)
	}
	wantFreed := freed
	got, want := step(b, now), Output{}
	freed = wantFreed
	want = step(a, now)
	if d := math.Abs(got.Gauges.Coming-want.Gauges.Coming) / want.Gauges.Coming; d > 0.02 {
		t.Errorf("another controller thinks %v are coming, the first %v", got.Gauges.Coming, want.Gauges.Coming)
	}
	if math.Abs(got.Gauges.ShowUp-want.Gauges.ShowUp) > 0.01 || math.Abs(got.Gauges.FreedRate-want.Gauges.FreedRate) > 0.01 {
		t.Errorf("gauges %+v, want %+v", got.Gauges, want.Gauges)
	}
	for _, broken := range []State{{Freed: math.NaN()}, {Cohorts: []StateCohort{{AgoMs: -1}}}, {Cohorts: []StateCohort{{AgoMs: 1}, {AgoMs: 2}}}} {
		if err := b.Restore(broken); !errors.Is(err, ErrState) {
			t.Errorf("Restore(%+v) = %v, want ErrState", broken, err)
		}
	}
}

func TestConstantsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Constants){
		"no prior":      func(c *Constants) { c.Prior = [buckets]float64{} },
		"negative":      func(c *Constants) { c.Prior[3] = -1 },
		"not a number":  func(c *Constants) { c.Dial = math.NaN() },
		"show_min of 0": func(c *Constants) { c.ShowMin = 0 },
	} {
		c := Defaults()
		change(&c)
		if _, err := NewLaw(c); !errors.Is(err, ErrConstants) {
			t.Errorf("%s: %v, want ErrConstants", name, err)
		}
	}
	l := newLaw(t)
	if err := l.SetDial(-1); !errors.Is(err, ErrConstants) {
		t.Errorf("SetDial(-1) = %v", err)
	}
}

func TestBear(t *testing.T) {
	var b Bear
	observe := func(from, to int64, over bool) (rate float64) {
		for ms := from; ms < to; ms += 250 {
			rate = b.Observe(Report{NowMs: ms, Over: over, Max: 100})
		}
		return rate
	}
	if r := observe(1000, 1750, true); r != 0 {
		t.Errorf("cut to %v before trouble lasted 1 s", r)
	}
	if r := observe(1750, 3000, true); r != 50 {
		t.Errorf("after 1 s of trouble %v, want half of 100", r)
	}
	if r := observe(3000, 4500, true); r != 25 {
		t.Errorf("2 s after the first cut %v, want one more", r)
	}
	if r := observe(4500, 9000, false); r != 25 {
		t.Errorf("raised to %v less than 5 s after trouble", r)
	}
	if r := observe(9000, 9750, false); r != 30 {
		t.Errorf("5 s after trouble %v, want 5%% of the maximum more", r)
	}
	if r := observe(9750, 100_000, false); r != 0 {
		t.Errorf("long after %v, want no limit of its own", r)
	}

	var free Bear // without an operator's rate the first cut starts from what is used
	for ms := int64(1000); ms <= 2000; ms += 500 {
		free.Observe(Report{NowMs: ms, Over: true, Using: 40})
	}
	if r := free.Observe(Report{NowMs: 2100, Over: true, Using: 40}); r != 20 {
		t.Errorf("without an operator's rate cut to %v, want half of the 40 in use", r)
	}
}

// However it is driven, the rate never falls by more than half in 2 s nor grows by more than 5% of the maximum in 5 s.
func TestBearIsGentle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b Bear
		const top = 100.0
		effective := func(r float64) float64 {
			if r == 0 {
				return top
			}
			return r
		}
		now, cut, last := int64(0), int64(-1<<40), top
		for range rapid.IntRange(1, 300).Draw(t, "reports") {
			now += rapid.Int64Range(100, 1500).Draw(t, "dt")
			r := effective(b.Observe(Report{NowMs: now, Over: rapid.Bool().Draw(t, "over"), Max: top}))
			switch {
			case r < last*0.5 && r > top/1000:
				t.Fatalf("fell from %v to %v at once", last, r)
			case r < last && now-cut < 2000:
				t.Fatalf("cut twice in %d ms", now-cut)
			case r > last+top*0.05+1e-9:
				t.Fatalf("grew from %v to %v", last, r)
			}
			if r < last {
				cut = now
			}
			last = r
		}
	})
}

func BenchmarkTick(b *testing.B) {
	l := newLaw(b)
	called := uint64(0)
	now := int64(0)
	for b.Loop() {
		now += 250
		out := l.Tick(Input{NowMs: now, Cap: 1000, Active: 990, FreedTotal: now / 50, Arrivals: []Arrival{{AgeMs: 1500, Count: 3}}, Lanes: one(called, 1<<50)})
		called = out.Called[0]
	}
}
