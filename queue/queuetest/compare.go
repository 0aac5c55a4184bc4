package queuetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// Compare runs random steps against two stores at once and fails at the first answer in which they differ. Both must serve
// any number of rooms, and their store time must stand still.
func Compare(t *testing.T, a, b Fixture) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &pair{T: rt, t: t, ctx: context.Background(), fix: [2]Fixture{a, b}, edges: map[line.Incarnation]*pairEdge{}}
		m.begin()
		steps := []func(){
			m.flush, m.flush, m.flush, m.claim, m.claim, m.claim, m.advance, m.advance, m.seal, m.call, m.call, m.free, m.reap, m.open,
			m.configure, m.startLine, m.failover, m.foreign, m.read,
		}
		for range rapid.IntRange(20, 80).Draw(rt, "steps") {
			steps[rapid.IntRange(0, len(steps)-1).Draw(rt, "step")]()
			m.control()
		}
		m.read()
	})
}

// pair is one room in two stores.
type pair struct {
	*rapid.T
	t     *testing.T
	ctx   context.Context
	fix   [2]Fixture
	rooms [2]string

	gen, token string
	gens       int
	set        queue.Settings
	lines      []line.ID
	lanes      map[line.ID]int
	last       queue.Control
	edges      map[line.Incarnation]*pairEdge
	alive      []line.Incarnation
	drawn      int
}

type pairEdge struct {
	no     uint64
	cursor int64
	flush  queue.Flush
}

// both runs a step on both stores and compares answers and errors; it returns the first store's.
func both[R any](m *pair, what string, do func(s queue.Store, room string) (R, error)) (R, error) {
	var out [2]R
	var errs [2]error
	for i := range m.fix {
		out[i], errs[i] = do(m.fix[i].Store, m.rooms[i])
	}
	if a, b := errorName(errs[0]), errorName(errs[1]); a != b {
		m.Fatalf("%s: %v\nagainst\n%v", what, errs[0], errs[1])
	}
	if a, b := plain(out[0]), plain(out[1]); !reflect.DeepEqual(a, b) {
		m.Fatalf("%s:\n%+v\nagainst\n%+v", what, a, b)
	}
	m.Logf("%s: %+v %v", what, out[0], errs[0])
	return out[0], errs[0]
}

func errorName(err error) string {
	var g *queue.GenError
	if errors.As(err, &g) {
		return "gen " + g.Gen
	}
	for _, e := range []error{
		queue.ErrNotLeader, queue.ErrClone, queue.ErrReplication, queue.ErrChain, queue.ErrBackwards, queue.ErrNotIdle, queue.ErrNoLine,
		queue.ErrNoRoom, queue.ErrGenSet, queue.ErrUnknownEdge,
	} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	if err != nil {
		return "another error"
	}
	return ""
}

// plain takes out what may differ: the run id, and whether an empty list is nil.
func plain(v any) string {
	switch x := v.(type) {
	case queue.Control:
		x.RunID = ""
		return fmt.Sprintf("%+v", x)
	case queue.FlushReply:
		x.Control.RunID = ""
		return fmt.Sprintf("%+v", x)
	}
	return fmt.Sprintf("%+v", v)
}

func nothing(do func(s queue.Store, room string) error) func(queue.Store, string) (struct{}, error) {
	return func(s queue.Store, room string) (struct{}, error) { return struct{}{}, do(s, room) }
}

func (m *pair) ok(err error) {
	if err != nil {
		m.Fatalf("unexpected error: %v", err)
	}
}

func (m *pair) begin() {
	m.gen, m.token, m.lanes = "g0", "token", map[line.ID]int{}
	var now [2]int64
	for i, f := range m.fix {
		m.rooms[i] = fmt.Sprintf("pair-%d", m.t.Name()[0])
		if f.Room != nil {
			m.rooms[i] = f.Room()
		}
		m.ok(f.Store.Create(m.ctx, m.rooms[i]))
		if f.Freeze != nil {
			f.Freeze(m.t, m.rooms[i])
		}
		c, err := f.Store.Control(m.ctx, m.rooms[i])
		m.ok(err)
		now[i] = c.StoreMs
	}
	for i, f := range m.fix { // one time for both, at a fixed place in its second
		f.Advance(m.t, m.rooms[i], time.Duration((max(now[0], now[1])/1000+1)*1000-now[i])*time.Millisecond)
	}
	for _, f := range []func(s queue.Store, room string) error{
		func(s queue.Store, room string) error { return s.Lead(m.ctx, room, "", m.token) },
		func(s queue.Store, room string) error { return s.Regen(m.ctx, room, m.token, m.gen) },
	} {
		_, err := both(m, "begin", nothing(f))
		m.ok(err)
	}
	m.configure()
	m.startLine()
	m.control()
	m.seal()
	m.control()
	m.call()
	for range 3 {
		m.flush()
	}
}

func (m *pair) chance(what string, oneIn int) bool {
	return rapid.IntRange(1, oneIn).Draw(m.T, what) == 1
}

func (m *pair) edge() line.Incarnation {
	if len(m.alive) == 0 || (len(m.alive) < 3 && m.chance("new edge", 4)) {
		m.drawn++
		inc := line.Incarnation(uint64(m.drawn) * 0x1111_0000_0000_0001)
		m.alive = append(m.alive, inc)
		m.edges[inc] = &pairEdge{}
	}
	return rapid.SampledFrom(m.alive).Draw(m.T, "edge")
}

func (m *pair) someLine() line.ID {
	if m.chance("foreign line", 20) {
		return line.ID{0xff}
	}
	if m.chance("old line", 4) {
		return rapid.SampledFrom(m.lines).Draw(m.T, "line")
	}
	return m.lines[len(m.lines)-1]
}

// stamp numbers a small set of fans, so that they meet again.
func (m *pair) stamp() uint32 { return rapid.Uint32Range(1, 25).Draw(m.T, "fan") }

func session(id line.ID, seq uint32) (s line.SessionID) {
	copy(s[:], id[:4])
	s[4], s[15] = byte(seq), 's'
	return s
}

func (m *pair) someSession() line.SessionID { return session(m.someLine(), m.stamp()) }

func (m *pair) flush() {
	inc := m.edge()
	e := m.edges[inc]
	f := queue.Flush{Gen: m.gen, Edge: inc, Label: "l", No: e.no + 1, Line: m.lines[len(m.lines)-1], MarkMs: m.last.StoreMs, Cursor: e.cursor}
	switch {
	case e.no > 0 && m.chance("repeat", 12):
		f = e.flush
	case e.no > 0 && m.chance("clone", 25):
		f.No = e.no
	case m.chance("late mark", 4):
		f.MarkMs -= int64(rapid.IntRange(0, 100_000).Draw(m.T, "mark lag"))
	}
	if f.No != e.no || f.Cursor != e.flush.Cursor {
		if m.chance("slow cursor", 5) {
			f.Cursor = 0
		}
		for range rapid.IntRange(0, 2).Draw(m.T, "rows") {
			f.Rows = append(f.Rows, queue.Row{
				Line: m.someLine(), Edge: inc, Win: m.last.Sealed + line.Window(rapid.IntRange(0, 12).Draw(m.T, "window")) - min(m.last.Sealed, 3),
				Lane: uint8(rapid.IntRange(0, 2).Draw(m.T, "lane")), Count: rapid.Uint32Range(0, 9).Draw(m.T, "count"),
			})
		}
		for range rapid.IntRange(0, 4).Draw(m.T, "renewals") {
			until := m.last.StoreMs + int64(rapid.SampledFrom([]int{1, 20_000, 1_000_000}).Draw(m.T, "until"))
			f.Renewals = append(f.Renewals, queue.Renewal{Session: m.someSession(), UntilMs: until})
		}
		for range rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(m.T, "ends") {
			f.Ends = append(f.Ends, m.someSession())
		}
		if m.chance("parked", 6) {
			f.Parked = []int64{int64(rapid.IntRange(0, 2).Draw(m.T, "parked 0")), 1}
		}
		if m.chance("arrivals", 4) {
			f.Arrivals = []queue.Arrival{{Lane: 0, AgeMs: rapid.SampledFrom([]int64{500, 4000}).Draw(m.T, "age"), Count: 2}}
		}
		if m.chance("outage", 6) {
			seq := m.stamp()
			g := queue.OutageGrant{Spent: queue.SpentStamp{Line: m.someLine(), Stamp: line.Stamp{Inc: 5, Seq: seq}, Who: line.Who{byte(seq % 20)}, WhoKind: line.WhoAccount}}
			g.Lease = queue.Lease{Session: session(g.Spent.Line, seq), EndMs: m.last.StoreMs + 90_000, StayMs: m.last.StoreMs + 800_000}
			f.Outage = append(f.Outage, g)
		}
		f.Complete = line.Window(rapid.IntRange(0, 100).Draw(m.T, "complete"))
		f.SealedSeen = m.last.Sealed - min(m.last.Sealed, line.Window(rapid.IntRange(0, 5).Draw(m.T, "seals behind")))
		f.Bye = m.chance("bye", 40)
	}
	m.Logf("flush %+v", f)
	reply, err := both(m, "flush", func(s queue.Store, room string) (queue.FlushReply, error) { return s.Flush(m.ctx, room, f) })
	switch {
	case reply.Reaped:
		m.bury(inc)
	case err == nil:
		e.no, e.flush = f.No, f
		for _, x := range reply.Feed {
			e.cursor = x.Position
		}
	}
}

// bury forgets an edge: its process has to draw a new incarnation.
func (m *pair) bury(inc line.Incarnation) {
	m.alive = slices.DeleteFunc(m.alive, func(x line.Incarnation) bool { return x == inc })
}

func (m *pair) claim() {
	if !m.chance("no tick", 5) {
		both(m, "tick", func(s queue.Store, room string) (queue.CallReply, error) {
			return s.Call(m.ctx, room, queue.Call{Gen: m.gen, Token: m.token})
		})
	}
	b := queue.ClaimBatch{Gen: m.gen, Edge: m.edge(), Parked: m.chance("others parked", 2)}
	for range rapid.IntRange(1, 6).Draw(m.T, "claims") {
		seq := m.stamp()
		c := queue.Claim{
			Line: m.someLine(), Lane: uint8(rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(m.T, "lane")), Rank: uint64(rapid.IntRange(0, 15).Draw(m.T, "rank")),
			Stamp: line.Stamp{Inc: 5, Seq: seq}, WhoKind: line.WhoKind(rapid.IntRange(0, 1).Draw(m.T, "who kind")), Who: line.Who{byte(seq % 20)},
			Group: rapid.SampledFrom([]string{"", "g", "h"}).Draw(m.T, "group"), Door: line.Door(rapid.IntRange(0, 2).Draw(m.T, "door")), Enter: m.chance("enter", 5),
		}
		c.Session = session(c.Line, seq)
		b.Claims = append(b.Claims, c)
	}
	m.Logf("claim %+v", b)
	both(m, "claim", func(s queue.Store, room string) ([]queue.ClaimResult, error) { return s.Claim(m.ctx, room, b) })
}

func (m *pair) advance() {
	d := time.Duration(rapid.SampledFrom([]int{1, 50, 99, 250, 250, 1000, 3001, 10_000, 31_000, 61_000, 125_000, 300_000, 700_000}).Draw(m.T, "ms")) * time.Millisecond
	for i, f := range m.fix {
		f.Advance(m.t, m.rooms[i], d)
	}
}

func (m *pair) seal() {
	id := m.lines[len(m.lines)-1]
	lanes := m.lanes[id]
	s := queue.Seal{Gen: m.gen, Token: m.token, Line: id, From: m.last.Sealed, Prev: m.last.Chain}
	n := rapid.SampledFrom([]int{1, 1, 2, 5, 700}).Draw(m.T, "windows")
	s.To = s.From + line.Window(n)
	for range lanes {
		c := make([]uint64, n)
		c[n/2] = rapid.Uint64Range(0, 30).Draw(m.T, "count")
		s.Counts = append(s.Counts, c)
	}
	s.Next = line.SealChain(s.Prev, s.Line, s.From, s.To, s.Counts)
	switch rapid.IntRange(0, 11).Draw(m.T, "fault") {
	case 0:
		s.From++
		s.To++
	case 1:
		s.Prev[0]++
	case 2:
		s.Counts = s.Counts[1:]
	case 3:
		s.Line = m.someLine()
	}
	for range rapid.IntRange(1, 2).Draw(m.T, "times") {
		both(m, "seal", nothing(func(st queue.Store, room string) error { return st.Seal(m.ctx, room, s) }))
	}
}

func (m *pair) call() {
	c := queue.Call{Gen: m.gen, Token: m.token, Line: m.last.Line(), Forecast: []byte(rapid.SampledFrom([]string{"", "a", "b"}).Draw(m.T, "forecast"))}
	called := func(lanes []queue.LaneControl) (out []uint64) {
		for _, l := range lanes {
			x := l.Called + uint64(rapid.IntRange(0, int(l.Total-l.Called)).Draw(m.T, "called"))
			if m.chance("bad call", 15) {
				x = uint64(rapid.IntRange(0, 100).Draw(m.T, "bad"))
			}
			out = append(out, x)
		}
		return out
	}
	c.Called = called(m.last.Lanes)
	if len(m.last.Honoured) > 0 && m.chance("honoured", 2) {
		id := m.last.Lines[0]
		c.Honoured = map[line.ID][]uint64{id: called(m.last.Honoured[id])}
	}
	both(m, "call", func(s queue.Store, room string) (queue.CallReply, error) { return s.Call(m.ctx, room, c) })
}

func (m *pair) free() {
	both(m, "free", func(s queue.Store, room string) (int, error) { return s.Free(m.ctx, room, m.gen, m.token) })
}

func (m *pair) reap() {
	inc := m.edge()
	silent := int64(rapid.SampledFrom([]int{0, 5_000, 100_000}).Draw(m.T, "silent"))
	now := m.chance("now", 4)
	both(m, "reap", func(s queue.Store, room string) (int, error) {
		return s.Reap(m.ctx, room, m.gen, m.token, inc, silent, now)
	})
}

func (m *pair) open() {
	both(m, "open", nothing(func(s queue.Store, room string) error { return s.Open(m.ctx, room, m.gen, m.token) }))
}

func (m *pair) configure() {
	m.set = queue.Settings{
		Version: m.set.Version + 1, Cap: rapid.SampledFrom([]int64{1, 5, 20, 100, 100}).Draw(m.T, "cap"),
		RatePerSecond: rapid.SampledFrom([]float64{0, 0, 0.7, 3}).Draw(m.T, "rate"), BurstS: rapid.SampledFrom([]float64{0, 3}).Draw(m.T, "burst"),
		Pause: rapid.SampledFrom([]string{"", "", "", "", "paused"}).Draw(m.T, "pause"), FirstLeaseMs: 30_000, EnterLeaseMs: 10_000,
		IdleMs: 120_000, StayMaxMs: rapid.SampledFrom([]int64{60_000, 900_000}).Draw(m.T, "stay"), GraceMs: 5_000,
		ReturnMs: rapid.SampledFrom([]int64{0, 50_000, 600_000}).Draw(m.T, "return"), LateShare: 0.3, LateFloor: 1,
		NetworkShare: rapid.SampledFrom([]float64{0, 0.25}).Draw(m.T, "share"), NetworkFloor: 2, Document: []byte(`{"v":1}`),
	}
	both(m, "configure", nothing(func(s queue.Store, room string) error { return s.Configure(m.ctx, room, m.gen, m.token, m.set) }))
}

func (m *pair) startLine() {
	if len(m.lines) > 0 && !m.chance("really", 4) {
		return
	}
	l := queue.LineState{Line: line.ID{byte(len(m.lines) + 1), 1}, Lanes: make([]queue.LaneControl, rapid.IntRange(1, 2).Draw(m.T, "lanes"))}
	for _, old := range m.lines {
		if m.chance("honour", 2) {
			l.Honours = append(l.Honours, old)
		}
	}
	if _, err := both(m, "start line", nothing(func(s queue.Store, room string) error { return s.StartLine(m.ctx, room, m.gen, m.token, l) })); err == nil {
		m.lines = append(m.lines, l.Line)
		m.lanes[l.Line] = len(l.Lanes)
	}
}

// failover unsets gen, lets some edges restore, and sets another.
func (m *pair) failover() {
	if !m.chance("really", 3) {
		return
	}
	both(m, "unset gen", nothing(func(s queue.Store, room string) error { return s.Regen(m.ctx, room, m.token, "") }))
	for range rapid.IntRange(0, 2).Draw(m.T, "restores") {
		id := m.lines[len(m.lines)-1]
		in := queue.Restore{Edge: m.edge(), Label: "r", Current: id, Called: map[line.ID][]uint64{id: {rapid.Uint64Range(0, 60).Draw(m.T, "called")}}}
		for range rapid.IntRange(0, 3).Draw(m.T, "sessions") {
			in.Sessions = append(in.Sessions, queue.Lease{
				Session: m.someSession(), EndMs: m.last.StoreMs + int64(rapid.IntRange(-50_000, 100_000).Draw(m.T, "end")), StayMs: m.last.StoreMs + 300_000,
			})
		}
		for range rapid.IntRange(0, 3).Draw(m.T, "spent") {
			seq := m.stamp()
			in.Spent = append(in.Spent, queue.SpentStamp{Line: m.someLine(), Stamp: line.Stamp{Inc: 5, Seq: seq}, Who: line.Who{byte(seq)}, WhoKind: line.WhoKind(rapid.IntRange(0, 1).Draw(m.T, "kind"))})
		}
		if m.chance("seals", 2) {
			from := m.last.Sealed - min(m.last.Sealed, 2)
			g := queue.SealedRange{Line: id, From: from, To: from + 4, Chain: [32]byte{1, byte(from)}}
			for range m.lanes[id] {
				g.Counts = append(g.Counts, []uint64{1, 0, 2, 3})
			}
			in.Seals = append(in.Seals, g)
		}
		m.Logf("restore %+v", in)
		both(m, "restore", nothing(func(s queue.Store, room string) error { return s.Restore(m.ctx, room, in) }))
		both(m, "claim while gen is unset", func(s queue.Store, room string) ([]queue.ClaimResult, error) {
			return s.Claim(m.ctx, room, queue.ClaimBatch{Gen: m.gen, Edge: in.Edge})
		})
	}
	m.gens++
	m.gen = fmt.Sprintf("g%d", m.gens)
	both(m, "set gen", nothing(func(s queue.Store, room string) error { return s.Regen(m.ctx, room, m.token, m.gen) }))
	for _, e := range m.edges {
		e.cursor = 0
	}
}

// foreign tries steps that belong to somebody else.
func (m *pair) foreign() {
	gen, token := m.gen, m.token
	if m.chance("other gen", 2) {
		gen = rapid.SampledFrom([]string{"", "x"}).Draw(m.T, "gen")
	} else {
		token = rapid.SampledFrom([]string{"", "x"}).Draw(m.T, "token")
	}
	both(m, "foreign free", func(s queue.Store, room string) (int, error) { return s.Free(m.ctx, room, gen, token) })
	both(m, "foreign configure", nothing(func(s queue.Store, room string) error { return s.Configure(m.ctx, room, gen, token, m.set) }))
	both(m, "foreign beat", nothing(func(s queue.Store, room string) error { return s.Beat(m.ctx, room, token) }))
	old := rapid.SampledFrom([]string{m.token, "", "x"}).Draw(m.T, "old token")
	if _, err := both(m, "lead", nothing(func(s queue.Store, room string) error { return s.Lead(m.ctx, room, old, "other") })); err == nil {
		m.token = "other"
	}
	if _, err := both(m, "lead back", nothing(func(s queue.Store, room string) error { return s.Lead(m.ctx, room, m.token, "token") })); err == nil {
		m.token = "token"
	}
}

func (m *pair) control() {
	m.last, _ = both(m, "control", func(s queue.Store, room string) (queue.Control, error) { return s.Control(m.ctx, room) })
}

// read compares everything that can be read.
func (m *pair) read() {
	m.control()
	both(m, "edges", func(s queue.Store, room string) ([]queue.EdgeState, error) {
		edges, err := s.Edges(m.ctx, room)
		return edges, err
	})
	for _, id := range append(slices.Clone(m.lines), line.ID{0xff}) {
		both(m, "line", func(s queue.Store, room string) (queue.LineState, error) { return s.Line(m.ctx, room, id) })
		both(m, "unsealed", func(s queue.Store, room string) ([]queue.Row, error) { return s.Unsealed(m.ctx, room, id, 0, 1<<20) })
		for lane := range uint8(2) {
			for c := range uint32(3) {
				both(m, "ledger", func(s queue.Store, room string) (string, error) {
					b, err := s.LedgerChunk(m.ctx, room, id, lane, c)
					return string(bytes.Clone(b)), err
				})
			}
		}
	}
}
