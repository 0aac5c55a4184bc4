// Package queuetest is the one suite that every room store passes: what each step needs and leaves behind, and the traps that
// a store has to survive. Store time stands still unless a test moves it, so nothing here sleeps or depends on speed.
package queuetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// Fixture is a store under test.
type Fixture struct {
	Store queue.Store
	// Freeze stops the store time of a room that was just created; nil when it stands still anyway.
	Freeze func(t testing.TB, room string)
	// Advance moves the store time of a room forward. It stands still otherwise.
	Advance func(t testing.TB, room string, d time.Duration)
	// Room makes a name that no other test uses; nil when each fixture is a store of its own.
	Room func() string
}

// rig is a room with a leader, a line and edges.
type rig struct {
	testing.TB
	fix    Fixture
	s      queue.Store
	ctx    context.Context
	room   string
	gen    string
	token  string
	set    queue.Settings
	line   line.ID
	lanes  int
	sealed line.Window
	chain  [32]byte
	totals []uint64
	edges  map[line.Incarnation]*rigEdge
	seq    uint32
}

type rigEdge struct {
	no     uint64
	cursor int64
}

const (
	edgeA line.Incarnation = 0xa000000000000001
	edgeB line.Incarnation = 0x0b00000000000002
	edgeC line.Incarnation = 0x00c0000000000003
)

func defaults() queue.Settings {
	return queue.Settings{
		Version: 1, Cap: 100, FirstLeaseMs: 30_000, EnterLeaseMs: 10_000, IdleMs: 120_000, StayMaxMs: 900_000, GraceMs: 120_000,
		ReturnMs: 600_000, OutageBoundMs: 240_000, BurstS: 1, LateShare: 0.1, LateFloor: 20, NetworkShare: 0.05, NetworkFloor: 20,
		Document: []byte(`{"name":"onsale"}`),
	}
}

// newRoom makes a room without a leader.
func newRoom(t testing.TB, open func(testing.TB) Fixture) *rig {
	fix := open(t)
	r := &rig{TB: t, fix: fix, s: fix.Store, ctx: context.Background(), room: "onsale", gen: "gen-1", token: "token-1", edges: map[line.Incarnation]*rigEdge{}}
	if fix.Room != nil {
		r.room = fix.Room()
	}
	r.ok(r.s.Create(r.ctx, r.room))
	if fix.Freeze != nil {
		fix.Freeze(t, r.room)
	}
	return r
}

// newRig makes a room with a leader, settings, a line of so many lanes, and edge A.
func newRig(t testing.TB, open func(testing.TB) Fixture, lanes int, change ...func(*queue.Settings)) *rig {
	r := newRoom(t, open)
	r.ok(r.s.Lead(r.ctx, r.room, "", r.token))
	r.ok(r.s.Regen(r.ctx, r.room, r.token, r.gen))
	r.configure(append([]func(*queue.Settings){func(s *queue.Settings) { *s = defaults() }}, change...)...)
	r.startLine(line.ID{0xaa, 1}, lanes)
	r.flush(edgeA, queue.Flush{})
	return r
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("unexpected error: %v", err)
	}
}

func (r *rig) configure(change ...func(*queue.Settings)) {
	r.Helper()
	for _, f := range change {
		f(&r.set)
	}
	r.ok(r.s.Configure(r.ctx, r.room, r.gen, r.token, r.set))
}

func (r *rig) startLine(id line.ID, lanes int, honours ...line.ID) {
	r.Helper()
	r.ok(r.s.StartLine(r.ctx, r.room, r.gen, r.token, queue.LineState{
		Line: id, Honours: honours, Lanes: make([]queue.LaneControl, lanes),
		Published: line.Published{Record: line.Signed{KID: "k", Body: "record of " + id.String(), Sig: "s"}},
	}))
	r.line, r.lanes, r.sealed, r.chain, r.totals = id, lanes, 0, [32]byte{}, make([]uint64, lanes)
}

func (r *rig) advance(d time.Duration) {
	r.Helper()
	r.fix.Advance(r.TB, r.room, d)
}

func (r *rig) control() queue.Control {
	r.Helper()
	c, err := r.s.Control(r.ctx, r.room)
	r.ok(err)
	return c
}

func (r *rig) now() int64 { r.Helper(); return r.control().StoreMs }

func (r *rig) active() int64 { r.Helper(); return r.control().Active }

// flush sends the next flush of an edge, with its mark at the store's time and its cursor at what it has seen, unless f says otherwise.
func (r *rig) flush(inc line.Incarnation, f queue.Flush) queue.FlushReply {
	r.Helper()
	reply, err := r.tryFlush(inc, f)
	r.ok(err)
	if reply.Reaped {
		r.Fatalf("edge %s is not registered", inc)
	}
	return reply
}

func (r *rig) tryFlush(inc line.Incarnation, f queue.Flush) (queue.FlushReply, error) {
	e := r.edges[inc]
	if e == nil {
		e = &rigEdge{}
		r.edges[inc] = e
	}
	e.no++
	f.Gen, f.Edge, f.No, f.Line = r.gen, inc, e.no, r.line
	if f.MarkMs == 0 {
		f.MarkMs = r.now()
	}
	if f.Cursor == 0 {
		f.Cursor = e.cursor
	}
	reply, err := r.s.Flush(r.ctx, r.room, f)
	for _, x := range reply.Feed {
		e.cursor = x.Position
	}
	return reply, err
}

// fill seals n more tickets of lane 0, in one window, and calls them all.
func (r *rig) fill(n uint64) {
	r.Helper()
	counts := make([]uint64, r.lanes)
	counts[0] = n
	r.seal(counts)
	r.call(r.totals)
}

// seal seals one window with the given counts.
func (r *rig) seal(counts []uint64) {
	r.Helper()
	per := make([][]uint64, len(counts))
	for i, c := range counts {
		per[i] = []uint64{c}
		r.totals[i] += c
	}
	next := line.SealChain(r.chain, r.line, r.sealed, r.sealed+1, per)
	r.ok(r.s.Seal(r.ctx, r.room, queue.Seal{
		Gen: r.gen, Token: r.token, Line: r.line, From: r.sealed, To: r.sealed + 1, Counts: per, Prev: r.chain, Next: next,
	}))
	r.sealed, r.chain = r.sealed+1, next
}

func (r *rig) call(called []uint64) queue.CallReply {
	r.Helper()
	reply, err := r.s.Call(r.ctx, r.room, queue.Call{Gen: r.gen, Token: r.token, Line: r.line, Called: called})
	r.ok(err)
	return reply
}

// tick calls nothing, which keeps claims going.
func (r *rig) tick() queue.CallReply { r.Helper(); return r.call(nil) }

// fan makes a claim with the next stamp and holder, called long ago.
func (r *rig) fan() queue.Claim {
	r.seq++
	c := queue.Claim{
		Line: r.line, Stamp: line.Stamp{Win: 0, Inc: edgeA, Seq: r.seq}, WhoKind: line.WhoAccount, Group: fmt.Sprintf("198.51.%d.%d/24", r.seq>>8&255, r.seq&255),
		Door: line.DoorInTime,
	}
	binary.BigEndian.PutUint32(c.Who[:], r.seq)
	c.Who[15] = 'w'
	binary.BigEndian.PutUint32(c.Session[12:], r.seq)
	copy(c.Session[:8], r.line[:8])
	c.Session[8] = byte(r.seq)
	return c
}

func (r *rig) claim(inc line.Incarnation, claims ...queue.Claim) []queue.ClaimResult {
	r.Helper()
	out, err := r.s.Claim(r.ctx, r.room, queue.ClaimBatch{Gen: r.gen, Edge: inc, Claims: claims})
	r.ok(err)
	if len(out) != len(claims) {
		r.Fatalf("%d results for %d claims", len(out), len(claims))
	}
	return out
}

// claim1 is one claim's result.
func (r *rig) claim1(inc line.Incarnation, c queue.Claim) queue.ClaimResult {
	r.Helper()
	return r.claim(inc, c)[0]
}

// admit claims at an edge and fails the test unless the fan comes in.
func (r *rig) admit(inc line.Incarnation, c queue.Claim) queue.ClaimResult {
	r.Helper()
	res := r.claim1(inc, c)
	if res.Status != queue.ClaimOK {
		r.Fatalf("claim got status %d, want ok", res.Status)
	}
	return res
}

// want fails unless a claim gets a status.
func (r *rig) want(inc line.Incarnation, c queue.Claim, want queue.ClaimStatus) queue.ClaimResult {
	r.Helper()
	res := r.claim1(inc, c)
	if res.Status != want {
		r.Fatalf("claim got status %d, want %d", res.Status, want)
	}
	return res
}

// renew renews one session at an edge and returns its lease end; -1 when the store left it open.
func (r *rig) renew(inc line.Incarnation, sid line.SessionID, f queue.Flush) int64 {
	r.Helper()
	f.Renewals = []queue.Renewal{{Session: sid, UntilMs: r.now() + 10*3600_000}}
	reply := r.flush(inc, f)
	for _, l := range reply.Leases {
		if l.Session == sid {
			if l.EndMs > 0 && l.Home != inc {
				r.Fatalf("renewed lease has home %s, want %s", l.Home, inc)
			}
			return l.EndMs
		}
	}
	return -1
}

func (r *rig) free() int {
	r.Helper()
	n, err := r.s.Free(r.ctx, r.room, r.gen, r.token)
	r.ok(err)
	return n
}

func (r *rig) reap(inc line.Incarnation, silent time.Duration, at bool) int {
	r.Helper()
	n, err := r.s.Reap(r.ctx, r.room, r.gen, r.token, inc, silent.Milliseconds(), at)
	r.ok(err)
	return n
}

func (r *rig) equal(what string, got, want any) {
	r.Helper()
	if got != want {
		r.Fatalf("%s: got %v, want %v", what, got, want)
	}
}
