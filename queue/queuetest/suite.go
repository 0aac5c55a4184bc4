package queuetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// Run runs the suite. open makes a fixture for one test and cleans up after it.
func Run(t *testing.T, open func(testing.TB) Fixture) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, open func(testing.TB) Fixture)
	}{
		{"create makes a room once", testCreate},
		{"an unknown room is named so by every step", testNoRoom},
		{"lead needs the old token and a silent leader", testLead},
		{"only the leader leads", testNotLeader},
		{"another gen changes nothing", testGen},
		{"a leader prepares a room without gen", testPrepare},
		{"settings and forecast come back as they went in", testSettings},
		{"a flush may be repeated, a cloned process is found", testFlushNumbers},
		{"rows grow and are read until they are sealed", testRows},
		{"late rows are counted once and change nothing", testLateRows},
		{"a watermark speaks of one line", testComplete},
		{"seals are chained", testSeal},
		{"sealed windows reach the edges", testSealFeed},
		{"the ledger is encoded as everywhere", testLedger},
		{"lanes are called forwards, all or none", testCall},
		{"due follows called after the grace period", testDue},
		{"arrivals are handed out once, parked fans summed", testGauges},
		{"verdicts come in their order", testVerdicts},
		{"a refusal has no effect", testRefusals},
		{"a lost reply to a claim costs nothing", testLostReply},
		{"a shared rank does not spend others", testSharedRank},
		{"ten thousand claims on one place", testOnePlace},
		{"grants are spaced and burst", testRate},
		{"a network has a share of the minute", testShare},
		{"late fans have a budget while others wait", testLateBudget},
		{"a holder claims once per line", testHolder},
		{"honoured lines stay claimable, others end", testHonoured},
		{"the first lease is short and grows with use", testLeases},
		{"a lapsed fan comes back with the same stay", testReturn},
		{"a return before the sweep counts both places", testReturnUnswept},
		{"a session reaped from two homes is one place", testReapedTwice},
		{"no lease outlives the stay", testStayBoundsLease},
		{"who left, or stayed to the end, does not come back", testNoReturn},
		{"a session moves once its home has heard of it", testMove},
		{"a silent home keeps its sessions", testSilentHome},
		{"an edge's sessions end up to its own mark", testSweep},
		{"an ended place is free when every edge knows", testFreeByCursor},
		{"an ended place is free when its home's mark has passed it", testFreeByMark},
		{"a silent home of an ended session waits for reap", testFreeBlocked},
		{"the end feed comes in pieces and in order", testFeedPages},
		{"a silent edge is reaped after its time", testReap},
		{"an edge that said bye is reaped at once", testBye},
		{"restore adds and never removes", testRestore},
		{"restore into an emptied store", testRestoreEmpty},
		{"cursors count within one gen", testRegenCursors},
		{"the room opens when nobody waits", testOpen},
		{"enter needs an open room with places", testEnter},
		{"claims stop without a controller", testStale},
		{"a lower cap puts nobody out", testLowerCap},
		{"what was admitted without a store is merged", testOutage},
		{"lines are published and updated", testLines},
		{"rooms do not mix", testRooms},
		{"large numbers survive", testLargeNumbers},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open) })
	}
}

func testCreate(t *testing.T, open func(testing.TB) Fixture) {
	r := newRoom(t, open)
	c := r.control()
	if c.Gen != "" || c.Token != "" || len(c.Lines) != 0 || c.Active != 0 || c.RunID == "" || c.StoreMs == 0 {
		t.Fatalf("fresh room: %+v", c)
	}
	r.ok(r.s.Lead(r.ctx, r.room, "", "t"))
	r.ok(r.s.Create(r.ctx, r.room))
	r.equal("token after a second create", r.control().Token, "t")
	for _, bad := range []string{"", "UPPER", "a b", "x{y}", string(bytes.Repeat([]byte("a"), 33))} {
		if err := r.s.Create(r.ctx, bad); err == nil {
			t.Errorf("created a room named %q", bad)
		}
	}
}

func testNoRoom(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	for name, err := range r.everyStep("no-such-room", "g", "t") {
		if !errors.Is(err, queue.ErrNoRoom) {
			t.Errorf("%s: %v, want ErrNoRoom", name, err)
		}
	}
}

// everyStep runs each step on a room with a gen and token and returns the errors by name.
func (r *rig) everyStep(room, gen, token string) map[string]error {
	out := map[string]error{}
	_, out["control"] = r.s.Control(r.ctx, room)
	for name, err := range r.genSteps(room, gen, token) {
		out[name] = err
	}
	out["lead"] = r.s.Lead(r.ctx, room, "x", token)
	out["beat"] = r.s.Beat(r.ctx, room, token)
	out["regen"] = r.s.Regen(r.ctx, room, token, gen)
	out["restore"] = r.s.Restore(r.ctx, room, queue.Restore{Edge: edgeB})
	_, out["unsealed"] = r.s.Unsealed(r.ctx, room, r.line, 0, 10)
	_, out["edges"] = r.s.Edges(r.ctx, room)
	_, out["line"] = r.s.Line(r.ctx, room, r.line)
	_, out["ledger"] = r.s.LedgerChunk(r.ctx, room, r.line, 0, 0)
	return out
}

// genSteps runs the steps that check gen.
func (r *rig) genSteps(room, gen, token string) map[string]error {
	out := map[string]error{}
	_, out["flush"] = r.s.Flush(r.ctx, room, queue.Flush{Gen: gen, Edge: edgeB, No: 1, Rows: []queue.Row{{Line: r.line, Edge: edgeB, Win: r.sealed + 5, Count: 9}}})
	_, out["claim"] = r.s.Claim(r.ctx, room, queue.ClaimBatch{Gen: gen, Edge: edgeA, Claims: []queue.Claim{r.fan()}})
	for name, err := range r.leaderSteps(room, gen, token) {
		out[name] = err
	}
	return out
}

// leaderSteps runs the steps that check gen and token.
func (r *rig) leaderSteps(room, gen, token string) map[string]error {
	out := map[string]error{}
	out["seal"] = r.s.Seal(r.ctx, room, queue.Seal{
		Gen: gen, Token: token, Line: r.line, From: r.sealed, To: r.sealed + 1, Counts: slices.Repeat([][]uint64{{1}}, max(1, r.lanes)), Prev: r.chain, Next: [32]byte{9},
	})
	_, out["call"] = r.s.Call(r.ctx, room, queue.Call{Gen: gen, Token: token, Line: r.line})
	_, out["free"] = r.s.Free(r.ctx, room, gen, token)
	_, out["reap"] = r.s.Reap(r.ctx, room, gen, token, edgeA, 0, true)
	out["open"] = r.s.Open(r.ctx, room, gen, token)
	out["configure"] = r.s.Configure(r.ctx, room, gen, token, queue.Settings{Cap: 1})
	out["start line"] = r.s.StartLine(r.ctx, room, gen, token, queue.LineState{Line: line.ID{7}, Lanes: make([]queue.LaneControl, 1)})
	out["update line"] = r.s.UpdateLine(r.ctx, room, gen, token, queue.LineState{Line: r.line})
	return out
}

func testLead(t *testing.T, open func(testing.TB) Fixture) {
	r := newRoom(t, open)
	r.ok(r.s.Lead(r.ctx, r.room, "", "t1"))
	r.ok(r.s.Lead(r.ctx, r.room, "", "t1")) // a lost reply
	r.advance(1500 * time.Millisecond)
	if err := r.s.Lead(r.ctx, r.room, "t1", "t2"); !errors.Is(err, queue.ErrNotLeader) {
		t.Fatalf("lead 1.5 s after the beat: %v", err)
	}
	r.ok(r.s.Beat(r.ctx, r.room, "t1"))
	r.advance(1501 * time.Millisecond)
	for _, old := range []string{"", "t0"} {
		if err := r.s.Lead(r.ctx, r.room, old, "t2"); !errors.Is(err, queue.ErrNotLeader) {
			t.Fatalf("lead with old token %q: %v", old, err)
		}
	}
	r.ok(r.s.Lead(r.ctx, r.room, "t1", "t2"))
	if err := r.s.Beat(r.ctx, r.room, "t1"); !errors.Is(err, queue.ErrNotLeader) {
		t.Fatalf("the old leader beats: %v", err)
	}
	c := r.control()
	r.equal("token", c.Token, "t2")
	r.equal("beat", c.BeatMs, c.StoreMs)
	if err := r.s.Lead(r.ctx, r.room, "t2", ""); err == nil {
		t.Fatal("an empty token leads")
	}
}

func testNotLeader(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	before := r.control()
	for _, token := range []string{"", "other"} {
		for name, err := range r.leaderSteps(r.room, r.gen, token) {
			if !errors.Is(err, queue.ErrNotLeader) {
				t.Errorf("%s with token %q: %v", name, token, err)
			}
		}
		if err := r.s.Regen(r.ctx, r.room, token, ""); !errors.Is(err, queue.ErrNotLeader) {
			t.Errorf("regen with token %q: %v", token, err)
		}
	}
	r.sameControl(before)
}

// sameControl fails if the room has changed.
func (r *rig) sameControl(want queue.Control) {
	r.Helper()
	got := r.control()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		r.Fatalf("room has changed:\n%s\nwas\n%s", g, w)
	}
}

func testGen(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.fill(3)
	before := r.control()
	for _, gen := range []string{"", "gen-0"} {
		for name, err := range r.genSteps(r.room, gen, r.token) {
			var g *queue.GenError
			if !errors.As(err, &g) || g.Gen != r.gen || g.RunID != before.RunID {
				t.Errorf("%s with gen %q: %v (%+v)", name, gen, err, g)
			}
		}
	}
	r.sameControl(before)
	r.ok(r.s.Regen(r.ctx, r.room, r.token, ""))
	for name, err := range r.genSteps(r.room, r.gen, r.token) {
		var g *queue.GenError
		if !errors.As(err, &g) || g.Gen != "" {
			t.Errorf("%s while gen is unset: %v", name, err)
		}
	}
	r.ok(r.s.Beat(r.ctx, r.room, r.token))
	r.ok(r.s.Regen(r.ctx, r.room, r.token, "gen-2"))
	r.ok(r.s.Regen(r.ctx, r.room, r.token, "gen-2"))
	r.gen = "gen-2"
	r.admit(edgeA, r.fan())
}

func testPrepare(t *testing.T, open func(testing.TB) Fixture) {
	r := newRoom(t, open)
	r.ok(r.s.Lead(r.ctx, r.room, "", r.token))
	r.set = defaults()
	id := line.ID{3}
	l := queue.LineState{Line: id, Lanes: make([]queue.LaneControl, 1), Published: line.Published{Chain: "x"}}
	r.ok(r.s.Configure(r.ctx, r.room, "", r.token, r.set))
	r.ok(r.s.StartLine(r.ctx, r.room, "", r.token, l))
	r.ok(r.s.UpdateLine(r.ctx, r.room, "", r.token, l))
	if err := r.s.Configure(r.ctx, r.room, "", "other", r.set); !errors.Is(err, queue.ErrNotLeader) {
		t.Fatalf("somebody else prepares: %v", err)
	}
	var g *queue.GenError
	if _, err := r.s.Flush(r.ctx, r.room, queue.Flush{Edge: edgeA, No: 1}); !errors.As(err, &g) {
		t.Fatalf("flush without gen: %v", err)
	}
	if _, err := r.s.Claim(r.ctx, r.room, queue.ClaimBatch{Edge: edgeA}); !errors.As(err, &g) {
		t.Fatalf("claim without gen: %v", err)
	}
	r.ok(r.s.Regen(r.ctx, r.room, r.token, r.gen))
	if err := r.s.Configure(r.ctx, r.room, "", r.token, r.set); !errors.As(err, &g) {
		t.Fatalf("prepared after gen was set: %v", err)
	}
	c := r.control()
	if c.Line() != id || c.Settings.Cap != r.set.Cap || c.Gen != r.gen {
		t.Fatalf("prepared room: %+v", c)
	}
}

func testSettings(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	check := func(c queue.Control) {
		t.Helper()
		if got, want := fmt.Sprintf("%+v", c.Settings), fmt.Sprintf("%+v", r.set.WithDefaults()); got != want {
			t.Fatalf("settings\n%s, want\n%s", got, want)
		}
	}
	check(r.control())
	check(r.flush(edgeA, queue.Flush{}).Control)
	check(r.flush(edgeA, queue.Flush{}).Control)
	r.configure(func(s *queue.Settings) {
		*s = queue.Settings{Version: 2, Cap: 7, RatePerSecond: 0.3, Pause: "paused", LateShare: 0.123456789, Document: []byte("{\"x\":\"\\u0000é\"}")}
	})
	check(r.flush(edgeA, queue.Flush{}).Control)
	check(r.control())
	// The same version with other content, as after a failover that lost the first one.
	r.configure(func(s *queue.Settings) { s.Document = []byte(`{}`) })
	check(r.flush(edgeA, queue.Flush{}).Control)
	for _, forecast := range []string{`{"a":1}`, `{"a":2}`, ``} {
		_, err := r.s.Call(r.ctx, r.room, queue.Call{Gen: r.gen, Token: r.token, Line: r.line, Forecast: []byte(forecast)})
		r.ok(err)
		for range 2 {
			r.equal("forecast in a flush", string(r.flush(edgeA, queue.Flush{}).Control.Forecast), forecast)
		}
		r.equal("forecast", string(r.control().Forecast), forecast)
		r.advance(250 * time.Millisecond)
	}
}

func testFlushNumbers(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.fill(10)
	now := r.now()
	f := queue.Flush{Gen: r.gen, Edge: edgeB, Label: "eu-1", No: 1, MarkMs: now, Rows: []queue.Row{{Line: r.line, Edge: edgeB, Win: 9, Count: 4}},
		Arrivals: []queue.Arrival{{Lane: 0, AgeMs: 500, Count: 3}}, Parked: []int64{2}}
	for range 3 {
		_, err := r.s.Flush(r.ctx, r.room, f)
		r.ok(err)
	}
	reply := r.tick()
	if len(reply.Arrivals) != 1 || reply.Arrivals[0] != (queue.Arrival{AgeMs: 500, Count: 3}) {
		t.Fatalf("arrivals of a repeated flush: %+v", reply.Arrivals)
	}
	other := f
	other.Parked = []int64{3}
	if _, err := r.s.Flush(r.ctx, r.room, other); !errors.Is(err, queue.ErrClone) {
		t.Fatalf("known number, other content: %v", err)
	}
	f.No = 2
	_, err := r.s.Flush(r.ctx, r.room, f)
	r.ok(err)
	other.No = 1
	if _, err := r.s.Flush(r.ctx, r.room, other); !errors.Is(err, queue.ErrClone) {
		t.Fatalf("older number: %v", err)
	}
	if reply, err := r.s.Flush(r.ctx, r.room, queue.Flush{Gen: r.gen, Edge: edgeC, No: 2}); err != nil || !reply.Reaped || reply.Control.Gen != r.gen {
		t.Fatalf("second flush of an unknown edge: %+v, %v", reply, err)
	}
	edges, err := r.s.Edges(r.ctx, r.room)
	r.ok(err)
	if len(edges) != 2 {
		t.Fatalf("edges: %+v", edges)
	}
	for _, e := range edges {
		if e.Edge == edgeB && (e.Label != "eu-1" || e.No != 2 || e.MarkMs != now || e.SeenMs != r.now() || len(e.Parked) != 1 || e.Parked[0] != 2) {
			t.Fatalf("edge B: %+v", e)
		}
	}
	if _, err := r.s.Flush(r.ctx, r.room, queue.Flush{Gen: r.gen, No: 1}); err == nil {
		t.Fatal("a flush without an edge was taken")
	}
	if _, err := r.s.Claim(r.ctx, r.room, queue.ClaimBatch{Gen: r.gen, Edge: edgeC, Claims: []queue.Claim{r.fan()}}); !errors.Is(err, queue.ErrUnknownEdge) {
		t.Fatalf("claim of an unknown edge: %v", err)
	}
}

func (r *rig) unsealed(from, to line.Window) []queue.Row {
	r.Helper()
	rows, err := r.s.Unsealed(r.ctx, r.room, r.line, from, to)
	r.ok(err)
	return rows
}

func testRows(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 2)
	row := func(inc line.Incarnation, w line.Window, lane uint8, n uint32) queue.Row {
		return queue.Row{Line: r.line, Edge: inc, Win: w, Lane: lane, Count: n}
	}
	r.flush(edgeA, queue.Flush{Rows: []queue.Row{row(edgeA, 3, 0, 5), row(edgeA, 12, 1, 1)}})
	r.flush(edgeB, queue.Flush{Rows: []queue.Row{row(edgeB, 3, 0, 7), row(0, 3, 1, 2)}})
	r.flush(edgeA, queue.Flush{Rows: []queue.Row{row(edgeA, 3, 0, 4), row(edgeA, 4, 0, 0), row(edgeA, 4, 9, 3), {Line: line.ID{0xff}, Edge: edgeA, Win: 4, Count: 1}}})
	want := []queue.Row{row(edgeB, 3, 0, 7), row(edgeA, 3, 0, 5), row(edgeB, 3, 1, 2), row(edgeA, 12, 1, 1)}
	if got := r.unsealed(0, 100); !slices.Equal(got, want) {
		t.Fatalf("rows %+v\nwant %+v", got, want)
	}
	if got := r.unsealed(3, 12); !slices.Equal(got, want[:3]) {
		t.Fatalf("rows of [3, 12): %+v", got)
	}
	if got := r.unsealed(12, 13); !slices.Equal(got, want[3:]) {
		t.Fatalf("rows of [12, 13): %+v", got)
	}
	for range 4 {
		r.seal([]uint64{0, 0})
	}
	if got := r.unsealed(0, 100); !slices.Equal(got, want[3:]) {
		t.Fatalf("rows after sealing 4 windows: %+v", got)
	}
	if _, err := r.s.Unsealed(r.ctx, r.room, line.ID{0xff}, 0, 9); !errors.Is(err, queue.ErrNoLine) {
		t.Fatalf("rows of an unknown line: %v", err)
	}
}

func testLateRows(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	row := func(n uint32) []queue.Row { return []queue.Row{{Line: r.line, Edge: edgeA, Win: 0, Count: n}} }
	r.flush(edgeA, queue.Flush{Rows: row(2)})
	r.seal([]uint64{2})
	r.call([]uint64{2})
	r.ok(r.s.Open(r.ctx, r.room, r.gen, r.token))
	r.flush(edgeA, queue.Flush{Rows: row(2)}) // the edge has not heard of the seal yet
	c := r.control()
	if !c.Open || c.Late != 0 {
		t.Fatalf("a repeated row counts as late: %+v", c)
	}
	for range 2 {
		r.flush(edgeA, queue.Flush{Rows: row(5)})
		c = r.control()
		if c.Open || c.Late != 3 || c.Lanes[0].Total != 2 || len(r.unsealed(0, 9)) != 0 {
			t.Fatalf("after a late row: %+v", c)
		}
	}
}

func testComplete(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	complete := func() line.Window {
		t.Helper()
		edges, err := r.s.Edges(r.ctx, r.room)
		r.ok(err)
		return edges[0].Complete
	}
	r.flush(edgeA, queue.Flush{Complete: 50})
	r.equal("watermark", complete(), line.Window(50))
	r.flush(edgeA, queue.Flush{Complete: 40})
	r.equal("watermark does not fall", complete(), line.Window(50))
	old := r.line
	r.startLine(line.ID{0xbb}, 1)
	r.equal("watermark of another line", complete(), line.Window(0))
	next := r.line
	r.line = old
	r.flush(edgeA, queue.Flush{Complete: 60})
	r.equal("watermark of an edge that still speaks of the old line", complete(), line.Window(0))
	r.line = next
	r.flush(edgeA, queue.Flush{Complete: 2})
	r.equal("watermark of the new line", complete(), line.Window(2))
}

func testSeal(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 2)
	r.seal([]uint64{3, 1})
	seal := func(from, to line.Window, prev, next byte, counts ...[]uint64) error {
		s := queue.Seal{Gen: r.gen, Token: r.token, Line: r.line, From: from, To: to, Counts: counts, Prev: r.chain, Next: [32]byte{next}}
		if prev != 0 {
			s.Prev = [32]byte{prev}
		}
		return r.s.Seal(r.ctx, r.room, s)
	}
	two := []uint64{1, 1}
	for name, err := range map[string]error{
		"a gap":          seal(2, 4, 0, 1, two, two),
		"again":          seal(0, 2, 0, 1, two, two),
		"another chain":  seal(1, 3, 77, 1, two, two),
		"the empty seal": seal(1, 1, 0, 1, nil, nil),
		"a missing lane": seal(1, 3, 0, 1, two),
		"a short lane":   seal(1, 3, 0, 1, two, two[:1]),
	} {
		if err == nil {
			t.Errorf("sealed %s", name)
		}
	}
	if err := seal(2, 4, 0, 1, two, two); !errors.Is(err, queue.ErrChain) {
		t.Errorf("a gap: %v", err)
	}
	if err := seal(1, 3, 77, 1, two, two); !errors.Is(err, queue.ErrChain) {
		t.Errorf("another chain: %v", err)
	}
	r.ok(seal(1, 3, 0, 9, []uint64{0, 4}, []uint64{2, 0}))
	r.ok(seal(1, 3, 0, 9, []uint64{0, 4}, []uint64{2, 0})) // a lost reply
	c := r.control()
	if c.Sealed != 3 || c.Chain != [32]byte{9} || c.Lanes[0].Total != 7 || c.Lanes[1].Total != 3 {
		t.Fatalf("after sealing: %+v", c)
	}
	s := queue.Seal{Gen: r.gen, Token: r.token, Line: line.ID{0xff}, To: 1, Counts: [][]uint64{{1}, {1}}}
	if err := r.s.Seal(r.ctx, r.room, s); !errors.Is(err, queue.ErrNoLine) {
		t.Fatalf("seal of an unknown line: %v", err)
	}
}

func testSealFeed(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 2)
	for i := range uint64(5) {
		r.seal([]uint64{i, 2 * i})
	}
	check := func(seen line.Window) line.Window {
		t.Helper()
		reply := r.flush(edgeA, queue.Flush{SealedSeen: seen})
		for i, g := range reply.Seals {
			if (i > 0 && g.From != seen) || g.To <= g.From || g.Line != r.line || len(g.Counts) != 2 || len(g.Counts[0]) != int(g.To-g.From) {
				t.Fatalf("seals from %d: %+v", seen, reply.Seals)
			}
			for w := g.From; w < g.To; w++ {
				want := [2]uint64{uint64(w), 2 * uint64(w)}
				if w >= 5 {
					want = [2]uint64{0, 0}
				}
				if w >= 7005 {
					want = [2]uint64{0, 1}
				}
				if got := [2]uint64{g.Counts[0][w-g.From], g.Counts[1][w-g.From]}; got != want {
					t.Fatalf("counts of window %d: %v, want %v", w, got, want)
				}
			}
			if i > 0 && line.SealChain(reply.Seals[i-1].Chain, r.line, g.From, g.To, g.Counts) != g.Chain {
				t.Fatalf("seal of [%d, %d) does not continue the one before", g.From, g.To)
			}
			seen = g.To
		}
		if seen == r.sealed && len(reply.Seals) > 0 && reply.Seals[len(reply.Seals)-1].Chain != r.chain {
			t.Fatalf("the last link is not the chain's: %+v", reply.Seals)
		}
		return seen
	}
	r.equal("windows seen", check(0), line.Window(5))
	r.equal("windows seen", check(3), line.Window(5))
	if reply := r.flush(edgeA, queue.Flush{SealedSeen: 5}); len(reply.Seals) != 0 {
		t.Fatalf("nothing new: %+v", reply.Seals)
	}
	if reply := r.flush(edgeA, queue.Flush{SealedSeen: 3}); len(reply.Seals) != 2 {
		t.Fatalf("one range per seal: %+v", reply.Seals)
	}
	// One long seal and many short ones: an edge that keeps up gets them in pieces.
	zeros := make([]uint64, 7000)
	next := line.SealChain(r.chain, r.line, r.sealed, r.sealed+7000, [][]uint64{zeros, zeros})
	r.ok(r.s.Seal(r.ctx, r.room, queue.Seal{Gen: r.gen, Token: r.token, Line: r.line, From: r.sealed, To: r.sealed + 7000, Counts: [][]uint64{zeros, zeros}, Prev: r.chain, Next: next}))
	r.sealed, r.chain = r.sealed+7000, next
	seen := check(5)
	r.equal("windows seen after a long seal", seen, r.sealed)
	for range 300 {
		r.seal([]uint64{0, 1})
	}
	for range 5 {
		seen = check(seen)
	}
	r.equal("windows seen at last", seen, r.sealed)
	for range 400 {
		r.seal([]uint64{0, 1})
	}
	if reply := r.flush(edgeA, queue.Flush{SealedSeen: 5}); reply.Seals[0].From <= 5 || reply.Seals[0].From > 7005+700-600 {
		t.Fatalf("an edge that is far behind is not told: first seal from %d", reply.Seals[0].From)
	}
	// An edge that speaks of another line starts from the beginning of the current one.
	reply, err := r.s.Flush(r.ctx, r.room, queue.Flush{Gen: r.gen, Edge: edgeC, No: 1, Line: line.ID{0xee}, SealedSeen: r.sealed})
	r.ok(err)
	if len(reply.Seals) == 0 {
		t.Fatal("an edge that spoke of another line got no seals")
	}
}

func testLedger(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 2)
	var want [2]line.Ledger
	for i := range 13 {
		n := []int{1, 599, 1, 600, 1200, 7, 3, 590, 1, 0, 299, 300, 1}[i]
		if n == 0 {
			continue
		}
		counts := make([][]uint64, 2)
		for w := range n {
			counts[0] = append(counts[0], uint64(w%7))
			counts[1] = append(counts[1], uint64(w%5)*1_000_003)
		}
		next := line.SealChain(r.chain, r.line, r.sealed, r.sealed+line.Window(n), counts)
		r.ok(r.s.Seal(r.ctx, r.room, queue.Seal{Gen: r.gen, Token: r.token, Line: r.line, From: r.sealed, To: r.sealed + line.Window(n), Counts: counts, Prev: r.chain, Next: next}))
		r.sealed, r.chain = r.sealed+line.Window(n), next
		for lane := range want {
			want[lane] = want[lane].Append(counts[lane]...)
		}
	}
	for lane := range want {
		for c := range uint32(10) {
			got, err := r.s.LedgerChunk(r.ctx, r.room, r.line, uint8(lane), c)
			r.ok(err)
			if w := want[lane].AppendChunk(nil, c); !bytes.Equal(got, w) {
				t.Fatalf("lane %d chunk %d: %d bytes, want %d (equal content: %v)", lane, c, len(got), len(w), bytes.Equal(got, w))
			}
		}
		r.equal("total", r.control().Lanes[lane].Total, want[lane].Total())
	}
	if got, err := r.s.LedgerChunk(r.ctx, r.room, r.line, 9, 0); err != nil || len(got) != 0 {
		t.Fatalf("a lane that is not there: %d bytes, %v", len(got), err)
	}
	if _, err := r.s.LedgerChunk(r.ctx, r.room, line.ID{0xff}, 0, 0); !errors.Is(err, queue.ErrNoLine) {
		t.Fatalf("a line that is not there: %v", err)
	}
}

func testCall(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 2)
	r.seal([]uint64{10, 5})
	r.call([]uint64{4, 5})
	for _, bad := range [][]uint64{{3, 5}, {11, 5}, {5, 4}, {5, 6}} {
		_, err := r.s.Call(r.ctx, r.room, queue.Call{Gen: r.gen, Token: r.token, Line: r.line, Called: bad})
		if !errors.Is(err, queue.ErrBackwards) {
			t.Errorf("call %v: %v", bad, err)
		}
	}
	if c := r.control(); c.Lanes[0].Called != 4 || c.Lanes[1].Called != 5 {
		t.Fatalf("a refused call had an effect: %+v", c.Lanes)
	}
	if _, err := r.s.Call(r.ctx, r.room, queue.Call{Gen: r.gen, Token: r.token, Line: r.line, Called: []uint64{4, 5, 0}}); err == nil {
		t.Error("called a lane that is not there")
	}
	if _, err := r.s.Call(r.ctx, r.room, queue.Call{Gen: r.gen, Token: r.token, Line: line.ID{0xff}}); !errors.Is(err, queue.ErrNoLine) {
		t.Errorf("called a line that is not there: %v", err)
	}
	r.advance(time.Second)
	reply := r.call([]uint64{10})
	c := r.control()
	if c.Lanes[0].Called != 10 || c.Lanes[1].Called != 5 || c.TickMs != c.StoreMs || reply.StoreMs != c.StoreMs {
		t.Fatalf("after the call: %+v", c)
	}
}

func testDue(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1, func(s *queue.Settings) { s.GraceMs = 10_000 })
	r.seal([]uint64{100})
	due := func(want uint64) {
		t.Helper()
		r.equal("due", r.control().Lanes[0].Due, want)
	}
	r.call([]uint64{10}) // 0 s
	r.advance(4 * time.Second)
	r.call([]uint64{30}) // 4 s
	due(0)
	r.advance(5999 * time.Millisecond)
	r.tick()
	due(0)
	r.advance(time.Millisecond)
	r.tick()
	due(0) // an empty call moves no lane
	r.call([]uint64{30})
	due(10)
	r.advance(4 * time.Second)
	r.call([]uint64{40}) // 14 s
	due(30)
	r.advance(100 * time.Second)
	r.call([]uint64{40})
	due(40)
}

func testGauges(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 2)
	r.flush(edgeA, queue.Flush{Parked: []int64{3, 1}, Arrivals: []queue.Arrival{{Lane: 0, AgeMs: 500, Count: 2}, {Lane: 1, AgeMs: 500, Count: 1}}})
	r.flush(edgeB, queue.Flush{Parked: []int64{0, 10}, Arrivals: []queue.Arrival{{Lane: 0, AgeMs: 500, Count: 5}, {Lane: 0, AgeMs: 80_000, Count: 1}}})
	edges, err := r.s.Edges(r.ctx, r.room)
	r.ok(err)
	for _, e := range edges {
		if want := map[line.Incarnation]int{edgeA: 2, edgeB: 2}[e.Edge]; len(e.Arrivals) != want {
			t.Fatalf("arrivals of edge %s: %+v", e.Edge, e.Arrivals)
		}
	}
	reply := r.tick()
	want := []queue.Arrival{{Lane: 0, AgeMs: 500, Count: 7}, {Lane: 0, AgeMs: 80_000, Count: 1}, {Lane: 1, AgeMs: 500, Count: 1}}
	if !slices.Equal(reply.Arrivals, want) || !slices.Equal(reply.Parked, []int64{3, 11}) {
		t.Fatalf("%+v", reply)
	}
	r.advance(2 * time.Second)
	r.flush(edgeA, queue.Flush{Parked: []int64{1}})
	r.advance(1001 * time.Millisecond)
	if reply = r.tick(); len(reply.Arrivals) != 0 || !slices.Equal(reply.Parked, []int64{1}) {
		t.Fatalf("an edge that is silent for 3 s counts: %+v", reply)
	}
	r.fill(2)
	f := r.fan()
	r.admit(edgeA, f)
	r.admit(edgeA, r.fan())
	r.flush(edgeA, queue.Flush{Ends: []line.SessionID{f.Session}, Cursor: 1 << 60})
	r.flush(edgeB, queue.Flush{Cursor: 1 << 60})
	r.equal("freed", r.free(), 1)
	if reply = r.tick(); reply.Active != 1 || reply.GrantedTotal != 2 || reply.FreedTotal != 1 {
		t.Fatalf("totals: %+v", reply)
	}
	r.equal("grants in the last minute", r.control().Granted60, int64(2))
	r.advance(61 * time.Second)
	r.equal("grants in the last minute", r.control().Granted60, int64(0))
}

func testVerdicts(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1, func(s *queue.Settings) { s.Cap = 1; s.RatePerSecond = 0.5; s.NetworkFloor, s.NetworkShare = 1, 0.01 })
	r.fill(50)
	inside := r.fan()
	inside.Group = "g"
	r.admit(edgeA, inside)

	// A claim that everything speaks against, and one objection fewer each time: the verdicts come in the order of the contract.
	worst := func() queue.Claim {
		c := r.fan()
		c.Rank, c.Group, c.Who = 99, "g", inside.Who
		c.Door = line.DoorLate
		return c
	}
	spent := worst()
	spent.Stamp, spent.Session = inside.Stamp, inside.Session
	r.flush(edgeA, queue.Flush{Ends: []line.SessionID{inside.Session}})
	batch := func(c queue.Claim) queue.ClaimResult {
		t.Helper()
		out, err := r.s.Claim(r.ctx, r.room, queue.ClaimBatch{Gen: r.gen, Edge: edgeA, Claims: []queue.Claim{c}, Parked: true})
		r.ok(err)
		return out[0]
	}
	expect := func(c queue.Claim, want queue.ClaimStatus) queue.ClaimResult {
		t.Helper()
		got := batch(c)
		if got.Status != want {
			t.Fatalf("got status %d, want %d", got.Status, want)
		}
		return got
	}
	r.configure(func(s *queue.Settings) { s.Pause = "paused"; s.LateFloor, s.LateShare = 0, 0 })
	r.advance(3001 * time.Millisecond)
	foreign := spent
	foreign.Line = line.ID{0xff}
	expect(foreign, queue.ClaimStale)
	r.tick()
	expect(foreign, queue.ClaimOtherLine)
	expect(spent, queue.ClaimPaused)
	r.configure(func(s *queue.Settings) { s.Pause = "" })
	expect(spent, queue.ClaimSpent)
	c := worst()
	if got := expect(c, queue.ClaimEarly); got.Called != 50 {
		t.Fatalf("early without how far the lane was called: %+v", got)
	}
	c.Rank = 49
	expect(c, queue.ClaimFull)
	r.configure(func(s *queue.Settings) { s.Cap = 10 })
	r.advance(1000 * time.Millisecond)
	r.tick()
	r.configure(func(s *queue.Settings) { s.RatePerSecond = 0.1; s.BurstS = 10 })
	c2 := r.fan()
	r.admit(edgeA, c2) // uses the burst
	if got := expect(c, queue.ClaimRate); got.RetryMs <= 0 || got.RetryMs > 20_000 {
		t.Fatalf("rate without a sensible wait: %+v", got)
	}
	r.configure(func(s *queue.Settings) { s.RatePerSecond = 0 })
	if got := expect(c, queue.ClaimShare); got.RetryMs <= 0 || got.RetryMs > 60_000 {
		t.Fatalf("share without a sensible wait: %+v", got)
	}
	c.Group = "h"
	if got := expect(c, queue.ClaimLate); got.RetryMs <= 0 || got.RetryMs > 60_000 {
		t.Fatalf("late without a sensible wait: %+v", got)
	}
	c.Door = line.DoorInTime
	expect(c, queue.ClaimHolder)
	c.Who[1]++
	expect(c, queue.ClaimOK)
}

func testRefusals(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1, func(s *queue.Settings) { s.Cap = 1; s.RatePerSecond = 100 })
	r.fill(10)
	r.admit(edgeA, r.fan())
	c := r.fan()
	for range 300 { // more than any budget of the minute
		r.want(edgeA, c, queue.ClaimFull)
	}
	r.configure(func(s *queue.Settings) { s.Cap = 100 })
	if res := r.admit(edgeA, c); res.Again {
		t.Fatal("a refusal spent the stamp")
	}
	r.equal("sessions", r.active(), int64(2))
	r.equal("grants", r.control().Granted60, int64(2))
	taken := r.fan()
	taken.Who = c.Who
	r.want(edgeA, taken, queue.ClaimHolder)
	taken.Who[3]++
	taken.Who[14]++
	r.admit(edgeA, taken) // the refused stamp is not spent
}

func testLostReply(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1, func(s *queue.Settings) { s.Cap = 1; s.RatePerSecond = 1 })
	r.flush(edgeB, queue.Flush{})
	r.fill(1)
	c := r.fan()
	first := r.admit(edgeA, c)
	r.equal("first answer says again", first.Again, false)
	r.equal("lease", first.EndMs, r.now()+30_000)
	for i := range 5 {
		r.advance(time.Second)
		r.tick()
		res := r.admit([]line.Incarnation{edgeA, edgeB}[i%2], c)
		if res.EndMs != first.EndMs || res.StayMs != first.StayMs || !res.Again {
			t.Fatalf("repeated claim: %+v, first was %+v", res, first)
		}
	}
	// Twice in one batch.
	r.configure(func(s *queue.Settings) { s.Cap = 2 })
	c = r.fan()
	out := r.claim(edgeA, c, c)
	if out[0].Status != queue.ClaimOK || out[1].Status != queue.ClaimOK || out[0].EndMs != out[1].EndMs || !out[1].Again {
		t.Fatalf("twice in one batch: %+v", out)
	}
	r.equal("sessions", r.active(), int64(2))
}

func testSharedRank(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.fill(1)
	for range 80 { // late tickets: all of rank 0
		if res := r.admit(edgeA, r.fan()); res.Again {
			t.Fatal("somebody else's stamp was taken for this one")
		}
	}
	r.equal("sessions", r.active(), int64(80))
	// The same sequence number of another edge, and the neighbours at the border of a bitmap, are other stamps.
	for _, s := range []line.Stamp{{Inc: edgeB, Seq: 1}, {Inc: edgeA, Seq: 131_071}, {Inc: edgeA, Seq: 131_072}, {Inc: edgeA, Seq: 131_073}, {Inc: edgeA, Seq: 1<<32 - 1}} {
		c := r.fan()
		c.Stamp = s
		if res := r.admit(edgeA, c); res.Again {
			t.Fatalf("stamp %+v counts as spent", s)
		}
	}
}

func testOnePlace(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1, func(s *queue.Settings) { s.Cap = 1 })
	r.fill(10_000)
	incs := []line.Incarnation{edgeA, edgeB, edgeC}
	r.flush(edgeB, queue.Flush{})
	r.flush(edgeC, queue.Flush{})
	var batches []queue.ClaimBatch
	for i := 0; i < 10_000; i += queue.MaxClaims {
		b := queue.ClaimBatch{Gen: r.gen, Edge: incs[len(batches)%3]}
		for range min(queue.MaxClaims, 10_000-i) {
			b.Claims = append(b.Claims, r.fan())
		}
		batches = append(batches, b)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	granted, refused := 0, 0
	work := make(chan queue.ClaimBatch)
	for range 16 {
		wg.Go(func() {
			for b := range work {
				out, err := r.s.Claim(r.ctx, r.room, b)
				mu.Lock()
				if err != nil {
					t.Errorf("claim: %v", err)
				}
				for _, res := range out {
					switch res.Status {
					case queue.ClaimOK:
						granted++
					case queue.ClaimFull:
						refused++
					default:
						t.Errorf("status %d", res.Status)
					}
				}
				mu.Unlock()
			}
		})
	}
	for _, b := range batches {
		work <- b
	}
	close(work)
	wg.Wait()
	r.equal("granted", granted, 1)
	r.equal("refused", refused, 9_999)
	r.equal("sessions", r.active(), int64(1))
}

func testRate(t *testing.T, open func(testing.TB) Fixture) {
	const rate = 4
	r := newRig(t, open, 1, func(s *queue.Settings) { s.Cap = 10_000; s.RatePerSecond = rate })
	r.fill(10_000)
	var at []int64
	now := int64(0)
	try := func() bool {
		res := r.claim1(edgeA, r.fan())
		switch res.Status {
		case queue.ClaimOK:
			at = append(at, now)
			return true
		case queue.ClaimRate:
			if res.RetryMs < 1 || res.RetryMs > 1000 {
				t.Fatalf("wait of %d ms", res.RetryMs)
			}
			return false
		}
		t.Fatalf("status %d", res.Status)
		return false
	}
	step := func(ms int64) {
		r.advance(time.Duration(ms) * time.Millisecond)
		now += ms
		r.tick()
	}
	for try() {
	}
	r.equal("burst", len(at), rate)
	step(249)
	r.equal("just before the next is due", try(), false)
	step(1)
	r.equal("when it is due", try(), true)
	r.equal("and another at once", try(), false)
	for _, pause := range []int64{100, 700, 30, 5000, 250, 250, 1, 900, 2000, 333, 333, 333} {
		step(pause)
		for try() {
		}
	}
	for i := range at {
		for j := i; j < len(at); j++ {
			if limit := float64(rate)*float64(at[j]-at[i])/1000 + rate; float64(j-i+1) > limit {
				t.Fatalf("%d grants in %d ms, at most %.2f", j-i+1, at[j]-at[i], limit)
			}
		}
	}
	r.configure(func(s *queue.Settings) { s.RatePerSecond = 0 })
	for range 30 {
		r.equal("without a rate", try(), true)
	}
}

func testShare(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1, func(s *queue.Settings) { s.NetworkFloor, s.NetworkShare = 3, 0.5; s.Cap = 1000 })
	r.fill(1000)
	grouped := func(g string) queue.Claim {
		c := r.fan()
		c.Group = g
		return c
	}
	for range 3 {
		r.admit(edgeA, grouped("g"))
	}
	res := r.want(edgeA, grouped("g"), queue.ClaimShare)
	r.equal("wait", res.RetryMs, int64(60_000))
	for range 4 {
		r.admit(edgeA, grouped(""))
	}
	r.admit(edgeA, grouped("h"))
	r.admit(edgeA, grouped("g")) // 8 grants in the minute: half of them is 4
	r.admit(edgeA, grouped("g"))
	r.want(edgeA, grouped("g"), queue.ClaimShare) // 5 of 10
	r.advance(59_999 * time.Millisecond)
	r.tick()
	r.want(edgeA, grouped("g"), queue.ClaimShare)
	r.advance(time.Millisecond)
	r.tick()
	r.admit(edgeA, grouped("g"))
	r.configure(func(s *queue.Settings) { s.NetworkShare = 0 })
	for range 10 {
		r.admit(edgeA, grouped("g"))
	}
}

func testLateBudget(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1, func(s *queue.Settings) { s.LateFloor, s.LateShare = 2, 0.5; s.Cap = 1000 })
	r.fill(1000)
	late := func(parked bool) queue.ClaimStatus {
		t.Helper()
		c := r.fan()
		c.Door = line.DoorLate
		out, err := r.s.Claim(r.ctx, r.room, queue.ClaimBatch{Gen: r.gen, Edge: edgeA, Claims: []queue.Claim{c}, Parked: parked})
		r.ok(err)
		return out[0].Status
	}
	r.equal("first", late(true), queue.ClaimOK)
	r.equal("second", late(true), queue.ClaimOK)
	r.equal("third, others wait", late(true), queue.ClaimLate)
	r.equal("third, nobody else waits", late(false), queue.ClaimOK)
	for range 5 {
		r.admit(edgeA, r.fan()) // in time: no budget
	}
	r.equal("half of 8 grants is 4", late(true), queue.ClaimOK)
	r.equal("4 late of 9", late(true), queue.ClaimOK)
	r.equal("5 late of 10", late(true), queue.ClaimLate)
	r.advance(61 * time.Second)
	r.tick()
	r.equal("a minute later", late(true), queue.ClaimOK)
}

func testHolder(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.fill(20)
	c := r.fan()
	r.admit(edgeA, c)
	again := r.fan()
	again.Who = c.Who
	r.want(edgeA, again, queue.ClaimHolder)
	both := [2]queue.Claim{r.fan(), r.fan()}
	both[1].Who = both[0].Who
	out := r.claim(edgeA, both[0], both[1])
	if out[0].Status != queue.ClaimOK || out[1].Status != queue.ClaimHolder {
		t.Fatalf("one holder twice in one batch: %+v", out)
	}
	// Without anything scarce there is nothing to hold.
	for range 2 {
		none := r.fan()
		none.WhoKind, none.Who = line.WhoNone, c.Who
		r.admit(edgeA, none)
	}
	r.equal("sessions", r.active(), int64(4))
	old := r.line
	r.startLine(line.ID{0xbb}, 1, old)
	r.fill(5)
	next := r.fan()
	next.Who = c.Who
	r.admit(edgeA, next) // one claim per holder and line
}

func testHonoured(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.fill(5)
	r.seal([]uint64{5})
	first := r.line
	inside := r.fan()
	r.admit(edgeA, inside)
	waiting := r.fan()
	waiting.Rank = 7
	r.startLine(line.ID{0xbb}, 2, first)
	r.seal([]uint64{3, 3})
	c := r.control()
	if len(c.Lines) != 2 || c.Lines[0] != first || c.Line() != r.line || len(c.Lanes) != 2 || c.Lanes[0].Total != 3 || c.Sealed != 1 {
		t.Fatalf("after starting a second line: %+v", c)
	}
	if h := c.Honoured[first]; len(h) != 1 || h[0].Total != 10 || h[0].Called != 5 {
		t.Fatalf("honoured: %+v", c.Honoured)
	}
	if res := r.admit(edgeA, inside); !res.Again {
		t.Fatal("an admitted stamp of the honoured line was admitted again")
	}
	r.want(edgeA, waiting, queue.ClaimEarly)
	call := func(n uint64) error {
		_, err := r.s.Call(r.ctx, r.room, queue.Call{Gen: r.gen, Token: r.token, Line: r.line, Called: []uint64{0, 0}, Honoured: map[line.ID][]uint64{first: {n}}})
		return err
	}
	if err := call(11); !errors.Is(err, queue.ErrBackwards) {
		t.Fatalf("honoured line called beyond its total: %v", err)
	}
	r.ok(call(8))
	r.admit(edgeA, waiting)
	fresh := r.fan()
	r.want(edgeA, fresh, queue.ClaimEarly)
	// A row of the honoured line is still taken, and its tail can still be sealed.
	r.flush(edgeA, queue.Flush{Rows: []queue.Row{{Line: first, Edge: edgeA, Win: 2, Count: 4}}})
	rows, err := r.s.Unsealed(r.ctx, r.room, first, 0, 100)
	r.ok(err)
	r.equal("rows of the honoured line", len(rows), 1)

	r.startLine(line.ID{0xcc}, 1, line.ID{0xbb}, line.ID{0x99})
	c = r.control()
	if len(c.Lines) != 2 || c.Lines[0] != (line.ID{0xbb}) {
		t.Fatalf("after starting a third line: %+v", c.Lines)
	}
	for _, old := range []queue.Claim{inside, waiting} {
		r.want(edgeA, old, queue.ClaimOtherLine)
	}
	if err := call(9); err == nil {
		t.Fatal("called a line that is no longer honoured")
	}
	r.equal("sessions of the old line go on", r.active(), int64(2))
	if _, err := r.s.Line(r.ctx, r.room, first); err != nil {
		t.Fatalf("the record of an old line is gone at once: %v", err)
	}
}

func testLeases(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.fill(10)
	c := r.fan()
	res := r.admit(edgeA, c)
	start := r.now()
	r.equal("first lease", res.EndMs, start+30_000)
	r.equal("stay until", res.StayMs, start+900_000)
	r.advance(5 * time.Second)
	reply := r.flush(edgeA, queue.Flush{Renewals: []queue.Renewal{{Session: c.Session, UntilMs: r.now() + 60_000}}})
	if len(reply.Leases) != 1 || reply.Leases[0] != (queue.Lease{Session: c.Session, EndMs: r.now() + 60_000, StayMs: res.StayMs, Home: edgeA}) || !reply.Replicated {
		t.Fatalf("lease: %+v", reply.Leases)
	}
	r.equal("lease is bounded by idle", r.renew(edgeA, c.Session, queue.Flush{}), r.now()+120_000)
	reply = r.flush(edgeA, queue.Flush{Renewals: []queue.Renewal{{Session: c.Session, UntilMs: r.now() + 1}}})
	r.equal("lease never shrinks", reply.Leases[0].EndMs, r.now()+120_000)
	for range 10 {
		r.advance(85 * time.Second)
		r.renew(edgeA, c.Session, queue.Flush{})
	}
	r.equal("lease is bounded by the stay", r.renew(edgeA, c.Session, queue.Flush{}), res.StayMs)
	r.equal("unknown session", r.renew(edgeA, line.SessionID{0xff}, queue.Flush{}), int64(0))
	r.advance(120 * time.Second)
	r.equal("after the stay", r.renew(edgeA, line.SessionID(c.Session), queue.Flush{}), res.StayMs) // over, counted until this very flush
	r.equal("sessions", r.active(), int64(0))
	r.equal("swept", r.renew(edgeA, c.Session, queue.Flush{}), int64(0))
}

func testReturn(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1, func(s *queue.Settings) { s.Cap = 1 })
	r.flush(edgeB, queue.Flush{})
	r.fill(5)
	c := r.fan()
	first := r.admit(edgeA, c)
	r.advance(40 * time.Second)
	r.tick()
	r.flush(edgeA, queue.Flush{})
	r.equal("sessions after the sweep", r.active(), int64(0))
	c.Rank, c.Door = line.NoRank, line.DoorNever // neither is looked at
	res := r.admit(edgeB, c)
	if res.StayMs != first.StayMs || !res.Again || res.EndMs != r.now()+30_000 {
		t.Fatalf("return: %+v, first was %+v at %d", res, first, r.now())
	}
	r.equal("sessions", r.active(), int64(1))
	r.equal("lease at the new home", r.renew(edgeB, c.Session, queue.Flush{}), r.now()+120_000)
	// The cap holds for those who return.
	r.advance(130 * time.Second)
	r.flush(edgeB, queue.Flush{})
	r.tick()
	other := r.fan()
	r.admit(edgeA, other)
	r.want(edgeB, c, queue.ClaimFull)
	r.flush(edgeA, queue.Flush{Ends: []line.SessionID{other.Session}})
	r.flush(edgeA, queue.Flush{})
	r.flush(edgeB, queue.Flush{})
	r.flush(edgeB, queue.Flush{})
	r.equal("freed", r.free(), 1)
	r.admit(edgeB, c)
	// The way back is open for return_s.
	r.advance(31 * time.Second)
	r.flush(edgeB, queue.Flush{})
	r.advance(600*time.Second - time.Second - time.Millisecond)
	r.tick()
	r.admit(edgeA, c)
	r.advance(31 * time.Second)
	r.flush(edgeA, queue.Flush{})
	r.configure(func(s *queue.Settings) { s.ReturnMs = 10_000 })
	r.advance(9 * time.Second)
	r.tick()
	r.want(edgeA, c, queue.ClaimSpent)
}

func testReturnUnswept(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.flush(edgeB, queue.Flush{})
	r.fill(5)
	c := r.fan()
	first := r.admit(edgeA, c)
	r.advance(31 * time.Second)
	r.tick()
	// Edge A is silent: the old place stays counted, the fan gets the next free one at edge B.
	r.configure(func(s *queue.Settings) { s.Cap = 1 })
	r.want(edgeB, c, queue.ClaimFull)
	r.configure(func(s *queue.Settings) { s.Cap = 2 })
	res := r.admit(edgeB, c)
	r.equal("stay until", res.StayMs, first.StayMs)
	r.equal("places counted", r.active(), int64(2))
	r.flush(edgeA, queue.Flush{})
	r.equal("places after the old home's sweep", r.active(), int64(1))
	r.equal("the session lives on", r.renew(edgeB, c.Session, queue.Flush{}), r.now()+120_000)
	r.configure(func(s *queue.Settings) { s.ReturnMs = 1000 }) // what lapsed is forgotten; this session has not
	r.flush(edgeA, queue.Flush{})
	r.equal("the session lives on", r.renew(edgeB, c.Session, queue.Flush{}), r.now()+120_000)
	r.configure(func(s *queue.Settings) { s.ReturnMs = 600_000 })
	// Under the same home the old place is the new one.
	d := r.fan()
	r.admit(edgeA, d)
	r.advance(31 * time.Second)
	r.tick()
	r.configure(func(s *queue.Settings) { s.Cap = 3 })
	r.admit(edgeA, d)
	r.equal("places counted", r.active(), int64(2))
	r.flush(edgeA, queue.Flush{})
	r.equal("places counted", r.active(), int64(2))
	// Ended while an old place still waits to be swept: both are given back, once each.
	r.advance(31 * time.Second)
	r.tick()
	r.admit(edgeB, d)
	r.equal("places counted", r.active(), int64(3))
	r.flush(edgeB, queue.Flush{Ends: []line.SessionID{d.Session}})
	r.flush(edgeA, queue.Flush{})
	r.flush(edgeB, queue.Flush{})
	r.flush(edgeA, queue.Flush{})
	r.equal("freed", r.free(), 1)
	r.equal("places counted", r.active(), int64(1))
	r.want(edgeA, d, queue.ClaimSpent)
}

func testReapedTwice(t *testing.T, open func(testing.TB) Fixture) {
	for _, order := range [][2]line.Incarnation{{edgeA, edgeB}, {edgeB, edgeA}} {
		r := newRig(t, open, 1)
		r.flush(edgeB, queue.Flush{})
		r.fill(5)
		c := r.fan()
		r.admit(edgeA, c)
		r.advance(31 * time.Second)
		r.tick()
		res := r.admit(edgeB, c)
		r.equal("places counted", r.active(), int64(2))
		r.equal("taken over", r.reap(order[0], 0, true), 1)
		r.equal("places counted", r.active(), int64(2))
		r.equal("taken over", r.reap(order[1], 0, true), 1)
		r.equal("one session is one place", r.active(), int64(1))
		r.flush(edgeC, queue.Flush{})
		if got := r.admit(edgeC, c); got.EndMs != res.EndMs || !got.Again {
			t.Fatalf("the later lease counts: %+v, was %+v", got, res)
		}
		r.advance(31 * time.Second)
		r.tick()
		r.equal("swept", r.free(), 1)
		r.equal("places counted", r.active(), int64(0))
	}
}

func testStayBoundsLease(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1, func(s *queue.Settings) { s.StayMaxMs = 50_000 })
	r.fill(5)
	c := r.fan()
	first := r.admit(edgeA, c)
	r.advance(31 * time.Second)
	r.tick()
	r.flush(edgeA, queue.Flush{})
	res := r.admit(edgeA, c)
	if res.EndMs != first.StayMs || res.StayMs != first.StayMs {
		t.Fatalf("19 s before the end of the stay: %+v, first was %+v", res, first)
	}
}

func testNoReturn(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.fill(5)
	left, lapsedThenLeft, stayed := r.fan(), r.fan(), r.fan()
	for _, c := range []queue.Claim{left, lapsedThenLeft, stayed} {
		r.admit(edgeA, c)
	}
	r.flush(edgeA, queue.Flush{Ends: []line.SessionID{left.Session, left.Session, {0xfe}}})
	r.want(edgeA, left, queue.ClaimSpent)
	r.renew(edgeA, stayed.Session, queue.Flush{})
	r.advance(40 * time.Second)
	r.tick()
	r.flush(edgeA, queue.Flush{}) // lapsedThenLeft lapses
	r.flush(edgeA, queue.Flush{Ends: []line.SessionID{lapsedThenLeft.Session}})
	r.want(edgeA, lapsedThenLeft, queue.ClaimSpent)
	for range 10 {
		r.advance(85 * time.Second)
		r.renew(edgeA, stayed.Session, queue.Flush{})
	}
	r.advance(60 * time.Second)
	r.tick()
	r.want(edgeA, stayed, queue.ClaimSpent)
	r.flush(edgeA, queue.Flush{})
	r.want(edgeA, stayed, queue.ClaimSpent)
	r.free()
	r.equal("sessions", r.active(), int64(0))
}

func testMove(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.flush(edgeB, queue.Flush{})
	r.flush(edgeC, queue.Flush{})
	r.fill(5)
	c := r.fan()
	first := r.admit(edgeA, c)
	r.equal("renewal by another edge", r.renew(edgeB, c.Session, queue.Flush{}), int64(-1))
	asked := r.now()
	r.equal("asked again", r.renew(edgeB, c.Session, queue.Flush{}), int64(-1))
	r.equal("a third edge", r.renew(edgeC, c.Session, queue.Flush{}), int64(-1))
	reply := r.flush(edgeA, queue.Flush{})
	if len(reply.Feed) != 1 || reply.Feed[0].Kind != queue.FeedMoved || reply.Feed[0].Session != c.Session || reply.Feed[0].NewHome != edgeB {
		t.Fatalf("feed: %+v", reply.Feed)
	}
	// The old home has been told but has not said so: it may still extend.
	r.equal("not moved yet", r.renew(edgeB, c.Session, queue.Flush{}), int64(-1))
	r.advance(time.Second)
	r.flush(edgeA, queue.Flush{}) // its cursor is past the entry now
	edges, err := r.s.Edges(r.ctx, r.room)
	r.ok(err)
	for _, e := range edges {
		if want := map[line.Incarnation]int64{edgeB: 1}[e.Edge]; e.Sessions != want {
			t.Fatalf("edge %s has %d sessions, want %d", e.Edge, e.Sessions, want)
		}
	}
	if res := r.admit(edgeB, c); res.EndMs != asked+120_000 {
		t.Fatalf("the lease that was asked for came with the move: %d, want %d (first %d)", res.EndMs, asked+120_000, first.EndMs)
	}
	r.equal("renewed by the new home", r.renew(edgeB, c.Session, queue.Flush{}), r.now()+120_000)
	r.equal("no longer by the old one", r.renew(edgeA, c.Session, queue.Flush{}), int64(-1))
	r.equal("sessions", r.active(), int64(1))
}

func testSilentHome(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.flush(edgeB, queue.Flush{})
	r.fill(5)
	c := r.fan()
	r.admit(edgeA, c)
	for range 20 {
		r.advance(10 * time.Second)
		r.tick()
		r.equal("renewal while the home is silent", r.renew(edgeB, c.Session, queue.Flush{}), int64(-1))
		r.free()
	}
	r.equal("the place stays counted", r.active(), int64(1))
	r.equal("not silent for long enough", r.reap(edgeA, 241*time.Second, false), 0)
	r.advance(42 * time.Second)
	r.tick()
	r.equal("reaped", r.reap(edgeA, 241*time.Second, false), 1)
	// The move that was under way happens with the reaping, with the lease that was asked for.
	edges, err := r.s.Edges(r.ctx, r.room)
	r.ok(err)
	if len(edges) != 1 || edges[0].Edge != edgeB || edges[0].Sessions != 1 {
		t.Fatalf("edges: %+v", edges)
	}
	r.equal("renewed", r.renew(edgeB, c.Session, queue.Flush{}), r.now()+120_000)
	r.equal("sessions", r.active(), int64(1))
}

func testSweep(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.flush(edgeB, queue.Flush{})
	r.fill(5)
	a, b := r.fan(), r.fan()
	res := r.admit(edgeA, a)
	r.admit(edgeB, b)
	r.advance(60 * time.Second)
	r.tick()
	r.equal("nobody's free frees them", r.free(), 0)
	r.flush(edgeA, queue.Flush{MarkMs: res.EndMs - 1})
	r.equal("sessions, mark just before the end", r.active(), int64(2))
	r.flush(edgeA, queue.Flush{MarkMs: res.EndMs})
	r.equal("sessions, mark at the end", r.active(), int64(1))
	r.flush(edgeA, queue.Flush{MarkMs: r.now() + 3600_000})
	r.equal("one edge frees only its own", r.active(), int64(1))
	// A mark from the future is not believed.
	c := r.fan()
	r.admit(edgeA, c)
	r.flush(edgeA, queue.Flush{MarkMs: r.now() + 3600_000})
	r.equal("sessions", r.active(), int64(2))
	// A renewal in the same flush comes before the sweep.
	r.advance(40 * time.Second)
	r.equal("renewed in time", r.renew(edgeA, c.Session, queue.Flush{}), r.now()+120_000)
	r.equal("sessions", r.active(), int64(2))
}

func testFreeByCursor(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.flush(edgeB, queue.Flush{})
	r.flush(edgeC, queue.Flush{})
	r.fill(5)
	c := r.fan()
	r.admit(edgeA, c)
	r.flush(edgeB, queue.Flush{Ends: []line.SessionID{c.Session}}) // the fan left at another edge
	r.equal("free before anybody knows", r.free(), 0)
	for _, inc := range []line.Incarnation{edgeA, edgeB} {
		reply := r.flush(inc, queue.Flush{})
		if inc == edgeA && (len(reply.Feed) != 1 || reply.Feed[0].Kind != queue.FeedEnded || reply.Feed[0].Session != c.Session) {
			t.Fatalf("feed: %+v", reply.Feed)
		}
		r.flush(inc, queue.Flush{})
		r.equal("free before all know", r.free(), 0)
	}
	r.flush(edgeC, queue.Flush{})
	r.equal("C has read, but not said so", r.free(), 0)
	r.equal("counted", r.active(), int64(1))
	r.equal("renewal of an ended session", r.renew(edgeA, c.Session, queue.Flush{}), int64(0))
	r.flush(edgeC, queue.Flush{})
	r.equal("free", r.free(), 1)
	r.equal("free again", r.free(), 0)
	r.equal("counted", r.active(), int64(0))
	r.want(edgeA, c, queue.ClaimSpent)
}

func testFreeByMark(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.flush(edgeB, queue.Flush{})
	r.fill(5)
	c := r.fan()
	res := r.admit(edgeA, c)
	r.flush(edgeA, queue.Flush{Ends: []line.SessionID{c.Session}})
	r.advance(30 * time.Second)
	// Edge B never reads the feed. The pass is over at the lease's end; the home's mark says that it was not extended.
	r.flush(edgeA, queue.Flush{MarkMs: res.EndMs - 1})
	r.equal("free before the mark", r.free(), 0)
	r.flush(edgeA, queue.Flush{MarkMs: res.EndMs})
	r.equal("free at the mark", r.free(), 1)
	r.equal("counted", r.active(), int64(0))
}

func testFreeBlocked(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.flush(edgeB, queue.Flush{})
	r.fill(5)
	c := r.fan()
	r.admit(edgeA, c)
	r.flush(edgeB, queue.Flush{Ends: []line.SessionID{c.Session}})
	for range 4 {
		r.advance(50 * time.Second)
		r.flush(edgeB, queue.Flush{})
		r.equal("free while the home is silent", r.free(), 0)
	}
	r.equal("counted", r.active(), int64(1))
	r.reap(edgeA, 0, true)
	r.equal("free once the home is reaped", r.free(), 1)
	r.equal("counted", r.active(), int64(0))
}

func testFeedPages(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1, func(s *queue.Settings) { s.Cap = 10_000; s.NetworkShare = 0 })
	r.fill(10_000)
	var sids []line.SessionID
	for range 70 {
		var batch []queue.Claim
		for range 60 {
			c := r.fan()
			c.Group = ""
			batch = append(batch, c)
			sids = append(sids, c.Session)
		}
		for _, res := range r.claim(edgeA, batch...) {
			r.equal("status", res.Status, queue.ClaimOK)
		}
	}
	first := r.flush(edgeA, queue.Flush{Ends: sids[:2100]})
	second := r.flush(edgeA, queue.Flush{Ends: sids[2100:]})
	r.equal("entries of the flush that ends them", len(first.Feed), 2100)
	r.equal("and of the next", len(second.Feed), 2100)
	r.flush(edgeA, queue.Flush{})
	seen := map[line.SessionID]bool{}
	last := int64(0)
	for n := range 4 {
		reply := r.flush(edgeB, queue.Flush{})
		if n == 0 {
			r.equal("entries of the first page", len(reply.Feed), 4096)
		}
		for _, e := range reply.Feed {
			if e.Position <= last || seen[e.Session] {
				t.Fatalf("entry %+v after %d", e, last)
			}
			last = e.Position
			seen[e.Session] = true
		}
	}
	r.equal("entries", len(seen), len(sids))
	freed := 0
	for range 20 {
		freed += r.free()
	}
	r.equal("freed", freed, len(sids))
	r.equal("sessions", r.active(), int64(0))
	// Ten minutes later the feed is empty.
	r.advance(601 * time.Second)
	r.flush(edgeC, queue.Flush{})
	for range 2 {
		c := r.fan()
		r.tick()
		r.admit(edgeA, c)
		r.flush(edgeA, queue.Flush{Ends: []line.SessionID{c.Session}})
	}
	if reply, err := r.s.Flush(r.ctx, r.room, queue.Flush{Gen: r.gen, Edge: 99, No: 1}); err != nil || len(reply.Feed) > 4096 {
		t.Fatalf("%d entries, %v", len(reply.Feed), err)
	} else if reply.Feed[len(reply.Feed)-1].Position <= last {
		t.Fatal("the feed's positions went back")
	}
}

func testReap(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.flush(edgeB, queue.Flush{})
	r.fill(20)
	a, b := r.fan(), r.fan()
	r.admit(edgeA, a)
	res := r.admit(edgeA, b)
	r.renew(edgeA, a.Session, queue.Flush{})
	end := r.now() + 120_000
	r.advance(10 * time.Second)
	r.flush(edgeB, queue.Flush{})
	r.equal("silent for 10 s", r.reap(edgeA, 10*time.Second, false), 0)
	r.equal("no such edge", r.reap(edgeC, 0, true), 0)
	r.advance(time.Millisecond)
	r.equal("silent for longer", r.reap(edgeA, 10*time.Second, false), 2)
	r.equal("again", r.reap(edgeA, 10*time.Second, false), 0)
	r.equal("sessions", r.active(), int64(2))
	reply, err := r.tryFlush(edgeA, queue.Flush{})
	if err != nil || !reply.Reaped {
		t.Fatalf("flush of a reaped edge: %+v, %v", reply, err)
	}
	if _, err := r.s.Claim(r.ctx, r.room, queue.ClaimBatch{Gen: r.gen, Edge: edgeA, Claims: []queue.Claim{r.fan()}}); !errors.Is(err, queue.ErrUnknownEdge) {
		t.Fatalf("claim of a reaped edge: %v", err)
	}
	// The controller's own set is swept at the end of each lease.
	r.advance(time.Duration(res.EndMs-r.now()-1) * time.Millisecond)
	r.equal("just before the end", r.free(), 0)
	r.advance(time.Millisecond)
	r.equal("at the end", r.free(), 1)
	// What is left goes to the edge that renews it, at once.
	r.tick()
	if got := r.admit(edgeB, a); got.EndMs != end || !got.Again {
		t.Fatalf("claim of a living session whose home was reaped: %+v", got)
	}
	r.equal("adopted", r.renew(edgeB, a.Session, queue.Flush{}), r.now()+120_000)
	r.advance(125 * time.Second)
	r.equal("the adopted session is its new home's to sweep", r.free(), 0)
	r.flush(edgeB, queue.Flush{})
	r.equal("sessions", r.active(), int64(0))
	r.tick()
	r.admit(edgeB, b) // lapsed under the controller, and back
	r.equal("sessions", r.active(), int64(1))
}

func testBye(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.flush(edgeB, queue.Flush{})
	r.fill(20)
	c := r.fan()
	r.admit(edgeA, c)
	r.flush(edgeA, queue.Flush{Bye: true, Parked: []int64{5}})
	edges, err := r.s.Edges(r.ctx, r.room)
	r.ok(err)
	for _, e := range edges {
		r.equal(fmt.Sprintf("edge %s said bye", e.Edge), e.Bye, e.Edge == edgeA)
	}
	if p := r.tick().Parked; len(p) > 0 && p[0] != 0 {
		t.Fatalf("fans parked at an edge that is gone: %v", p)
	}
	r.equal("reaped", r.reap(edgeA, time.Hour, false), 1)
	r.equal("adopted", r.renew(edgeB, c.Session, queue.Flush{}), r.now()+120_000)
}

func testRestore(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 2)
	r.seal([]uint64{10, 10})
	r.call([]uint64{5, 0})
	known, ended, lapsed := r.fan(), r.fan(), r.fan()
	for _, c := range []queue.Claim{known, ended, lapsed} {
		r.admit(edgeA, c)
	}
	r.flush(edgeA, queue.Flush{Ends: []line.SessionID{ended.Session}, Renewals: []queue.Renewal{{Session: known.Session, UntilMs: r.now() + 60_000}}})
	r.advance(31 * time.Second)
	r.tick()
	r.flush(edgeA, queue.Flush{})
	r.equal("sessions", r.active(), int64(2))
	in := queue.Restore{Edge: edgeB, Label: "b"}
	if err := r.s.Restore(r.ctx, r.room, in); !errors.Is(err, queue.ErrGenSet) {
		t.Fatalf("restore with a gen: %v", err)
	}
	r.ok(r.s.Regen(r.ctx, r.room, r.token, ""))

	now := r.now()
	lost := r.fan()
	counts := [][]uint64{{0, 2, 3}, {1, 0, 0}}
	in.Sessions = []queue.Lease{
		{Session: lost.Session, EndMs: now + 100_000, StayMs: now + 500_000},
		{Session: known.Session, EndMs: now + 110_000, StayMs: now + 500_000}, // later than known: the new home
		{Session: ended.Session, EndMs: now + 110_000, StayMs: now + 500_000},
		{Session: lapsed.Session, EndMs: now + 90_000, StayMs: now + 500_000},
	}
	in.Spent = []queue.SpentStamp{{Line: r.line, Stamp: lost.Stamp, Who: lost.Who, WhoKind: lost.WhoKind}, {Line: line.ID{0xff}, Stamp: lost.Stamp}}
	in.Called = map[line.ID][]uint64{r.line: {8, 0, 4}, {0xff}: {1}}
	in.Seals = []queue.SealedRange{
		{Line: r.line, From: 0, To: 1, Counts: [][]uint64{{10}, {10}}, Chain: r.chain},
		{Line: r.line, From: 1, To: 4, Counts: counts, Chain: [32]byte{4}},
		{Line: r.line, From: 3, To: 5, Counts: [][]uint64{{3, 1}, {0, 1}}, Chain: [32]byte{5}}, // overlaps
		{Line: r.line, From: 9, To: 10, Counts: [][]uint64{{1}, {1}}, Chain: [32]byte{6}},      // a gap
	}
	for range 2 { // the reply may be lost
		r.ok(r.s.Restore(r.ctx, r.room, in))
	}
	// An older opinion of another edge takes nothing away.
	r.ok(r.s.Restore(r.ctx, r.room, queue.Restore{
		Edge: edgeC, Sessions: []queue.Lease{{Session: known.Session, EndMs: now + 1000, StayMs: now + 500_000}}, Called: map[line.ID][]uint64{r.line: {2, 0}},
	}))
	r.gen = "gen-2"
	r.ok(r.s.Regen(r.ctx, r.room, r.token, r.gen))
	c := r.control()
	if c.Sealed != 5 || c.Chain != [32]byte{5} || c.Lanes[0] != (queue.LaneControl{Called: 8, Total: 16}) || c.Lanes[1] != (queue.LaneControl{Total: 12}) {
		t.Fatalf("after restore: %+v", c)
	}
	r.equal("places", c.Active, int64(4))
	r.tick()
	for _, x := range []struct {
		c   queue.Claim
		end int64
	}{{lost, now + 100_000}, {known, now + 110_000}, {lapsed, now + 90_000}} {
		if res := r.admit(edgeB, x.c); res.EndMs != x.end || !res.Again {
			t.Fatalf("restored session: %+v, want end %d", res, x.end)
		}
		r.equal("home", r.renew(edgeB, x.c.Session, queue.Flush{}), now+120_000)
	}
	r.want(edgeB, ended, queue.ClaimSpent)
	holder := r.fan()
	holder.Who = lost.Who
	r.want(edgeB, holder, queue.ClaimHolder)
	if res := r.flush(edgeB, queue.Flush{SealedSeen: 1}); len(res.Seals) == 0 || res.Seals[len(res.Seals)-1].To != 5 {
		t.Fatalf("restored seals: %+v", res.Seals)
	}
}

func testRestoreEmpty(t *testing.T, open func(testing.TB) Fixture) {
	r := newRoom(t, open) // as after FLUSHALL and a new Create
	r.ok(r.s.Lead(r.ctx, r.room, "", r.token))
	r.set = defaults()
	r.ok(r.s.Configure(r.ctx, r.room, "", r.token, r.set))
	id := line.ID{0xaa, 1}
	r.line = id
	r.ok(r.s.StartLine(r.ctx, r.room, "", r.token, queue.LineState{Line: id, Lanes: make([]queue.LaneControl, 1)}))
	now := r.now()
	in := queue.Restore{Edge: edgeA, All: true, Current: id, Called: map[line.ID][]uint64{id: {1500}},
		Seals: []queue.SealedRange{{Line: id, From: 0, To: 2000, Counts: [][]uint64{slices.Repeat([]uint64{1}, 2000)}, Chain: [32]byte{1}}}}
	var fans []queue.Claim
	for range 1500 {
		c := r.fan()
		fans = append(fans, c)
		in.Sessions = append(in.Sessions, queue.Lease{Session: c.Session, EndMs: now + 60_000, StayMs: now + 500_000})
		in.Spent = append(in.Spent, queue.SpentStamp{Line: id, Stamp: c.Stamp, Who: c.Who, WhoKind: c.WhoKind})
	}
	r.ok(r.s.Restore(r.ctx, r.room, in))
	r.ok(r.s.Regen(r.ctx, r.room, r.token, r.gen))
	r.edges[edgeA] = &rigEdge{no: 500} // the edge goes on counting
	r.flush(edgeA, queue.Flush{})
	r.tick()
	r.equal("sessions", r.active(), int64(1500))
	for _, i := range []int{0, 777, 1499} {
		if res := r.admit(edgeA, fans[i]); !res.Again || res.EndMs != now+60_000 {
			t.Fatalf("fan %d: %+v", i, res)
		}
	}
	r.want(edgeA, r.fan(), queue.ClaimFull)
	if l, err := r.s.LedgerChunk(r.ctx, r.room, id, 0, 3); err != nil || len(l) != 8*201 {
		t.Fatalf("restored ledger: %d bytes, %v", len(l), err)
	}
}

func testRegenCursors(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.flush(edgeB, queue.Flush{})
	r.fill(5)
	c := r.fan()
	r.admit(edgeA, c)
	r.flush(edgeA, queue.Flush{Ends: []line.SessionID{c.Session}})
	r.flush(edgeA, queue.Flush{})
	r.flush(edgeB, queue.Flush{})
	r.flush(edgeB, queue.Flush{})
	r.gen = "gen-2"
	r.ok(r.s.Regen(r.ctx, r.room, r.token, ""))
	r.ok(r.s.Regen(r.ctx, r.room, r.token, r.gen))
	r.equal("cursors of the old gen count", r.free(), 0)
	for _, inc := range []line.Incarnation{edgeA, edgeB} {
		r.edges[inc].cursor = 0
		if reply := r.flush(inc, queue.Flush{}); len(reply.Feed) != 1 {
			t.Fatalf("the feed does not start over: %+v", reply.Feed)
		}
		r.flush(inc, queue.Flush{})
	}
	r.equal("free", r.free(), 1)
}

func testOpen(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 2, func(s *queue.Settings) { s.Cap = 10 })
	tryOpen := func() error { return r.s.Open(r.ctx, r.room, r.gen, r.token) }
	r.ok(tryOpen())
	r.ok(tryOpen())
	r.equal("open", r.control().Open, true)
	refuse := func(why string) {
		t.Helper()
		if err := tryOpen(); !errors.Is(err, queue.ErrNotIdle) {
			t.Fatalf("%s: %v", why, err)
		}
		r.equal("open", r.control().Open, false)
	}
	r.flush(edgeA, queue.Flush{Rows: []queue.Row{{Line: r.line, Edge: edgeA, Win: 1, Lane: 1, Count: 1}}})
	r.equal("a stamp closes the room", r.control().Open, false)
	refuse("an unsealed row")
	r.seal([]uint64{0, 0})
	refuse("an unsealed row")
	r.seal([]uint64{0, 1})
	refuse("a lane not called out")
	r.call([]uint64{0, 1})
	r.flush(edgeA, queue.Flush{Parked: []int64{0, 1}})
	refuse("somebody parked")
	r.flush(edgeA, queue.Flush{Parked: []int64{0, 0}})
	for range 9 {
		r.admit(edgeA, func() queue.Claim { c := r.fan(); c.Lane = 1; return c }())
	}
	refuse("nine places of ten taken")
	r.configure(func(s *queue.Settings) { s.Cap = 11 })
	r.ok(tryOpen())
	r.equal("open", r.control().Open, true)
	r.startLine(line.ID{0xbb}, 1, r.line)
	r.equal("a new line closes the room", r.control().Open, false)
}

func testEnter(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1, func(s *queue.Settings) { s.Cap = 20; s.NetworkFloor = 50 })
	r.call(nil)
	enter := func() queue.Claim {
		c := r.fan()
		c.Enter, c.Rank, c.WhoKind, c.Who = true, line.NoRank, line.WhoNone, line.Who{}
		return c
	}
	r.want(edgeA, enter(), queue.ClaimQueue)
	r.ok(r.s.Open(r.ctx, r.room, r.gen, r.token))
	c := enter()
	res := r.admit(edgeA, c)
	r.equal("lease", res.EndMs, r.now()+10_000)
	r.configure(func(s *queue.Settings) { s.Pause = "paused" })
	r.want(edgeA, enter(), queue.ClaimQueue)
	if again := r.admit(edgeA, c); again.EndMs != res.EndMs || !again.Again {
		t.Fatalf("lost reply to enter: %+v", again)
	}
	r.configure(func(s *queue.Settings) { s.Pause = "" })
	other := enter()
	other.Line = line.ID{0xff}
	r.want(edgeA, other, queue.ClaimOtherLine)
	for range 18 {
		r.admit(edgeA, enter())
	}
	r.want(edgeA, enter(), queue.ClaimQueue) // 19 of 20
	r.configure(func(s *queue.Settings) { s.Cap = 100; s.NetworkFloor, s.NetworkShare = 1, 0.001; s.RatePerSecond = 1 })
	c, d, e := enter(), enter(), enter()
	c.Group, d.Group = "g", "g"
	r.admit(edgeA, c)
	r.want(edgeA, e, queue.ClaimRate)
	r.configure(func(s *queue.Settings) { s.RatePerSecond = 0 })
	r.want(edgeA, d, queue.ClaimShare)
	r.flush(edgeA, queue.Flush{Rows: []queue.Row{{Line: r.line, Edge: edgeA, Win: 0, Count: 1}}})
	r.want(edgeA, e, queue.ClaimQueue)
	r.equal("sessions", r.active(), int64(20))
}

func testStale(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.fill(5)
	c := r.fan()
	r.admit(edgeA, c)
	r.advance(3 * time.Second)
	r.admit(edgeA, r.fan())
	r.advance(time.Millisecond)
	r.want(edgeA, r.fan(), queue.ClaimStale)
	r.want(edgeA, c, queue.ClaimStale)
	r.ok(r.s.Beat(r.ctx, r.room, r.token))
	r.want(edgeA, r.fan(), queue.ClaimStale)
	r.equal("a session lives on", r.renew(edgeA, c.Session, queue.Flush{}), r.now()+120_000)
	r.tick()
	r.admit(edgeA, r.fan())
}

func testLowerCap(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1, func(s *queue.Settings) { s.Cap = 10 })
	r.fill(50)
	var fans []queue.Claim
	for range 10 {
		fans = append(fans, r.fan())
		r.admit(edgeA, fans[len(fans)-1])
	}
	r.configure(func(s *queue.Settings) { s.Cap = 4 })
	r.equal("nobody is put out", r.active(), int64(10))
	r.equal("they renew", r.renew(edgeA, fans[9].Session, queue.Flush{}), r.now()+120_000)
	r.want(edgeA, r.fan(), queue.ClaimFull)
	for i := range 6 {
		r.flush(edgeA, queue.Flush{Ends: []line.SessionID{fans[i].Session}})
	}
	r.flush(edgeA, queue.Flush{})
	r.equal("freed", r.free(), 6)
	r.want(edgeA, r.fan(), queue.ClaimFull)
	r.flush(edgeA, queue.Flush{Ends: []line.SessionID{fans[6].Session}})
	r.flush(edgeA, queue.Flush{})
	r.free()
	r.admit(edgeA, r.fan())
}

func testOutage(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1, func(s *queue.Settings) { s.Cap = 1 })
	r.flush(edgeB, queue.Flush{})
	r.fill(10)
	inside, fresh, shared := r.fan(), r.fan(), r.fan()
	r.admit(edgeA, inside)
	now := r.now()
	grant := func(c queue.Claim, end int64) queue.OutageGrant {
		return queue.OutageGrant{
			Lease: queue.Lease{Session: c.Session, EndMs: end, StayMs: now + 500_000},
			Spent: queue.SpentStamp{Line: c.Line, Stamp: c.Stamp, Who: c.Who, WhoKind: c.WhoKind},
		}
	}
	r.advance(10 * time.Second)
	r.flush(edgeA, queue.Flush{Outage: []queue.OutageGrant{grant(fresh, now+60_000), grant(shared, now+70_000)}, Renewals: []queue.Renewal{{Session: fresh.Session, UntilMs: now + 90_000}}})
	r.equal("counted without looking at the cap", r.active(), int64(3))
	// Two cut-off edges let one ticket in: one session, with the later lease.
	r.flush(edgeB, queue.Flush{Outage: []queue.OutageGrant{grant(shared, now+80_000), grant(inside, now+1)}})
	r.equal("one ticket is one session", r.active(), int64(3))
	r.tick()
	for _, x := range []struct {
		c    queue.Claim
		end  int64
		home line.Incarnation
	}{{inside, now + 30_000, edgeA}, {fresh, now + 90_000, edgeA}, {shared, now + 80_000, edgeB}} {
		if res := r.admit(edgeB, x.c); res.EndMs != x.end || !res.Again {
			t.Fatalf("claim of a session admitted without a store: %+v, want lease end %d", res, x.end)
		}
		r.equal("home", r.renew(x.home, x.c.Session, queue.Flush{}), r.now()+120_000)
	}
	r.configure(func(s *queue.Settings) { s.Cap = 10 })
	holder := r.fan()
	holder.Who = fresh.Who
	r.want(edgeA, holder, queue.ClaimHolder)
}

func testLines(t *testing.T, open func(testing.TB) Fixture) {
	r := newRoom(t, open)
	r.ok(r.s.Lead(r.ctx, r.room, "", r.token))
	r.ok(r.s.Regen(r.ctx, r.room, r.token, r.gen))
	r.configure(func(s *queue.Settings) { *s = defaults() })
	if err := r.s.Open(r.ctx, r.room, r.gen, r.token); !errors.Is(err, queue.ErrNoLine) {
		t.Fatalf("open without a line: %v", err)
	}
	r.startLine(line.ID{1}, 3)
	r.seal([]uint64{1, 2, 3})
	r.call([]uint64{1, 0, 2})
	l, err := r.s.Line(r.ctx, r.room, line.ID{1})
	r.ok(err)
	if l.Line != r.line || len(l.Lanes) != 3 || l.Lanes[2] != (queue.LaneControl{Called: 2, Total: 3}) || l.Sealed != 1 || l.Chain != r.chain || l.Published.Record.Body != "record of "+r.line.String() {
		t.Fatalf("line: %+v", l)
	}
	p := line.Published{Record: line.Signed{Body: "b"}, Result: &line.DrawResult{Round: 7, Value: "ff"}, Amendments: []line.Signed{{Body: "a"}}}
	r.ok(r.s.UpdateLine(r.ctx, r.room, r.gen, r.token, queue.LineState{Line: r.line, Published: p}))
	l, err = r.s.Line(r.ctx, r.room, line.ID{1})
	r.ok(err)
	if l.Published.Result == nil || l.Published.Result.Round != 7 || len(l.Published.Amendments) != 1 || l.Lanes[2].Called != 2 || l.Sealed != 1 {
		t.Fatalf("updated line: %+v", l)
	}
	// Starting the current line again, as after a lost reply, resets nothing.
	r.ok(r.s.StartLine(r.ctx, r.room, r.gen, r.token, queue.LineState{Line: r.line, Lanes: make([]queue.LaneControl, 3), Published: p}))
	if c := r.control(); c.Lanes[2].Called != 2 || c.Sealed != 1 || len(c.Lines) != 1 {
		t.Fatalf("started again: %+v", c)
	}
	start := func(l queue.LineState) error { return r.s.StartLine(r.ctx, r.room, r.gen, r.token, l) }
	if err := start(queue.LineState{Line: line.ID{2}}); err == nil {
		t.Error("started a line without lanes")
	}
	if err := start(queue.LineState{Lanes: make([]queue.LaneControl, 1)}); err == nil {
		t.Error("started a line without an id")
	}
	r.startLine(line.ID{2}, 1)
	if err := start(queue.LineState{Line: line.ID{1}, Lanes: make([]queue.LaneControl, 1)}); err == nil {
		t.Error("started an old line again")
	}
	if _, err := r.s.Line(r.ctx, r.room, line.ID{9}); !errors.Is(err, queue.ErrNoLine) {
		t.Errorf("unknown line: %v", err)
	}
	if err := r.s.UpdateLine(r.ctx, r.room, r.gen, r.token, queue.LineState{Line: line.ID{9}}); !errors.Is(err, queue.ErrNoLine) {
		t.Errorf("update of an unknown line: %v", err)
	}
}

func testRooms(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1)
	r.fill(5)
	c := r.fan()
	r.admit(edgeA, c)
	other := *r
	other.room = r.room + "-b"
	if r.fix.Room != nil {
		other.room = r.fix.Room()
	}
	other.edges = map[line.Incarnation]*rigEdge{}
	r.ok(r.s.Create(r.ctx, other.room))
	if r.fix.Freeze != nil {
		r.fix.Freeze(t, other.room)
	}
	before := r.control()
	other.ok(other.s.Lead(r.ctx, other.room, "", other.token))
	other.ok(other.s.Regen(r.ctx, other.room, other.token, other.gen))
	other.configure()
	other.startLine(r.line, 1)
	other.flush(edgeA, queue.Flush{})
	other.fill(5)
	if res := other.admit(edgeA, c); res.Again {
		t.Fatal("the other room's stamp is spent here")
	}
	other.flush(edgeA, queue.Flush{Ends: []line.SessionID{c.Session}})
	r.sameControl(before)
}

func testLargeNumbers(t *testing.T, open func(testing.TB) Fixture) {
	r := newRig(t, open, 1, func(s *queue.Settings) { s.Cap = 1 << 40 })
	const big = 1 << 45
	r.seal([]uint64{big})
	r.seal([]uint64{1})
	r.call([]uint64{big - 1})
	c := r.fan()
	c.Rank = big - 1
	if res := r.want(edgeA, c, queue.ClaimEarly); res.Called != big-1 {
		t.Fatalf("%+v", res)
	}
	c.Rank = big - 2
	r.admit(edgeA, c)
	c = r.fan()
	c.Rank = line.NoRank
	r.want(edgeA, c, queue.ClaimEarly)
	c.Rank, c.Lane = 0, 200
	r.want(edgeA, c, queue.ClaimEarly)
	got := r.control()
	r.equal("total", got.Lanes[0].Total, uint64(big+1))
	r.equal("cap", got.Settings.Cap, int64(1<<40))
	r.flush(line.Incarnation(^uint64(0)), queue.Flush{Rows: []queue.Row{{Line: r.line, Edge: line.Incarnation(^uint64(0)), Win: 5, Count: 1<<32 - 1}}})
	rows := r.unsealed(2, 10)
	if len(rows) != 1 || rows[0].Count != 1<<32-1 || rows[0].Edge != line.Incarnation(^uint64(0)) {
		t.Fatalf("rows: %+v", rows)
	}
}
