package localqueue

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// room is one room's state in memory. It knows no clock and does no I/O: the decisions in decide.go are handed the store time,
// and what they change they change through the mutators in this file, each of which also appends a record to rec. Replaying
// the records gives the same durable state; decisions are never replayed, so a newer program reads an older journal.
//
// The process that wrote the journal is dead when it is replayed and so are all its edges. Homes, marks and cursors are
// therefore not recorded: a replayed session belongs to the controller's own set until an edge renews it.
type room struct {
	name string
	rec  *encoder             // records of the step under way; nil while replaying
	mod  map[partKey]struct{} // parts of the snapshot that are out of date

	gen, token string
	beat, tick int64
	open       bool
	lines      []line.ID // claimable, honoured ones first, the current one last
	byLine     map[line.ID]*lineState

	settings queue.Settings
	tat      float64 // GCRA: theoretical arrival time of the next grant, store ms
	ring     ring

	edges  map[line.Incarnation]*edge
	slots  map[line.Incarnation]*leases // places by home; 0 is the controller's own set
	sx     map[line.SessionID]*session
	ended  map[line.SessionID]struct{}
	lapsed *leases
	feed   []queue.FeedEntry
	pos    int64 // last position handed out
	active int64

	granted, freed, late int64
	groups               map[string]groupCount
	arrivals             map[arrivalKey]uint32
	forecast             []byte
}

// feedUnit is how many feed positions one millisecond of store time has. Positions are made of the time, so that they grow
// through restarts and failovers and the feed can be trimmed by age.
const (
	feedUnit    = 1024
	feedKeepMs  = 600_000
	keepSeals   = 600  // recent links of the seal chain
	keepRows    = 1200 // windows for which a sealed row is remembered, to tell a repeated row from a late one
	spentChunk  = 131_072
	retiredKeep = 7 * 24 * time.Hour
)

type session struct {
	home  line.Incarnation
	stay  int64
	ended bool
	end   int64 // lease end when it ended
	pos   int64 // feed position of its end
	move  *move
}

type move struct {
	to    line.Incarnation
	pos   int64
	until int64
}

type edge struct {
	label    string
	no       uint64
	digest   uint64
	mark     int64
	cursor   int64
	seen     int64
	line     line.ID
	complete line.Window
	parked   []int64
	bye      bool
	moves    map[line.SessionID]int64 // sessions that are about to leave, by feed position
}

type groupCount struct{ start, n int64 }

type arrivalKey struct {
	edge line.Incarnation
	lane uint8
	age  int64
}

type lineState struct {
	id        line.ID
	published line.Published
	honours   []line.ID
	lanes     []lane
	sealed    line.Window
	chain     [32]byte
	seals     []link
	rowEnd    line.Window // end of the last window with a row
	rows      map[line.Window]map[rowKey]uint32
	rowsFrom  line.Window // rows before it were forgotten
	spent     map[spentKey][]byte
	holders   holders
	retired   int64 // store ms at which it stopped being claimable
}

type lane struct {
	called, due uint64
	bases       []uint64 // as in line.Ledger
	history     []calledAt
}

func (l *lane) total() uint64 {
	if len(l.bases) == 0 {
		return 0
	}
	return l.bases[len(l.bases)-1]
}

type calledAt struct {
	ms     int64
	called uint64
}

// link is one seal: the windows [from, to) and the link of the chain after them.
type link struct {
	from, to line.Window
	chain    [32]byte
}

// holders are those who claimed, by first byte.
type holders [256]map[line.Who]struct{}

func (h *holders) add(w line.Who) {
	if h[w[0]] == nil {
		h[w[0]] = map[line.Who]struct{}{}
	}
	h[w[0]][w] = struct{}{}
}

func (h *holders) has(w line.Who) bool {
	_, ok := h[w[0]][w]
	return ok
}

type rowKey struct {
	lane uint8
	edge line.Incarnation
}

type spentKey struct {
	inc   line.Incarnation
	chunk uint32
}

// ring counts grants per second over the last 60 s.
type ring struct {
	sec             int64
	all, late       [60]int64
	sumAll, sumLate int64
}

func (g *ring) advance(nowMs int64) {
	sec := nowMs / 1000
	if sec-g.sec >= 60 {
		*g = ring{sec: sec}
		return
	}
	for g.sec < sec {
		g.sec++
		i := g.sec % 60
		g.sumAll -= g.all[i]
		g.sumLate -= g.late[i]
		g.all[i], g.late[i] = 0, 0
	}
}

func (g *ring) add(nowMs int64, late bool) {
	g.advance(nowMs)
	i := g.sec % 60
	g.all[i]++
	g.sumAll++
	if late {
		g.late[i]++
		g.sumLate++
	}
}

func newRoom(name string) *room {
	return &room{
		name:     name,
		mod:      map[partKey]struct{}{{kind: partControl}: {}},
		byLine:   map[line.ID]*lineState{},
		edges:    map[line.Incarnation]*edge{},
		slots:    map[line.Incarnation]*leases{0: newLeases()},
		sx:       map[line.SessionID]*session{},
		ended:    map[line.SessionID]struct{}{},
		lapsed:   newLeases(),
		groups:   map[string]groupCount{},
		arrivals: map[arrivalKey]uint32{},
	}
}

// op names a record.
type op byte

// Records of the journal. Their numbers and fields are a file format: append, never reuse.
const (
	opGen      op = 1  // gen
	opToken    op = 2  // token
	opOpen     op = 3  // bool
	opSettings op = 4  // JSON
	opStart    op = 5  // line state as JSON: becomes the current line
	opUpdate   op = 6  // line, published part as JSON
	opRow      op = 7  // line, window, lane, edge, count
	opSeal     op = 8  // line, from, to, lanes, counts, chain
	opCalled   op = 9  // line, lane, called, due
	opGrant    op = 10 // line, edge, seq, holder, session, end, stay, tat, time, late
	opLease    op = 11 // session, end
	opEnd      op = 12 // session, position, end
	opFree     op = 13 // session
	opLapse    op = 14 // session, end
	opForget   op = 15 // session
	opSpent    op = 16 // line, edge, seq, holder
	opPlace    op = 17 // session, end, stay
	opLate     op = 18 // tickets
	opTime     op = 19 // store time
	// Only in snapshots.
	opCounters op = 32 // granted, freed, late, tat, ring
	opLines    op = 33 // claimable lines
	opLine     op = 34 // line state, sealed, chain, recent seals, called and due per lane
	opBases    op = 35 // line, lane, chunk, bases
	opBits     op = 36 // line, edge, chunk, bitmap
	opHolder   op = 37 // line, who
	opEnded    op = 38 // session, end, stay, position
	opLapsed   op = 39 // session, end, stay
	opFeed     op = 40 // position, session
)

func (r *room) touch(k partKey) { r.mod[k] = struct{}{} }

func (r *room) setGen(gen string) {
	r.gen = gen
	if e := r.rec; e != nil {
		e.op(opGen)
		e.str(gen)
	}
	r.touch(partKey{kind: partControl})
}

func (r *room) setToken(token string) {
	r.token = token
	if e := r.rec; e != nil {
		e.op(opToken)
		e.str(token)
	}
	r.touch(partKey{kind: partControl})
}

func (r *room) setOpen(open bool) {
	if r.open == open {
		return
	}
	r.open = open
	if e := r.rec; e != nil {
		e.op(opOpen)
		e.bool(open)
	}
	r.touch(partKey{kind: partControl})
}

func (r *room) setSettings(s queue.Settings) error {
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode settings: %w", err)
	}
	s.Document = slices.Clone(s.Document)
	r.settings = s
	if e := r.rec; e != nil {
		e.op(opSettings)
		e.bytes(body)
	}
	r.touch(partKey{kind: partControl})
	return nil
}

// startLine makes a line current. Lines that it does not honour stop being claimable and lose what only claims need.
func (r *room) startLine(s queue.LineState, nowMs int64) error {
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode line: %w", err)
	}
	l := &lineState{
		id: s.Line, published: s.Published, honours: s.Honours, lanes: make([]lane, len(s.Lanes)),
		rows: map[line.Window]map[rowKey]uint32{}, spent: map[spentKey][]byte{},
	}
	r.byLine[l.id] = l
	var lines []line.ID
	for _, id := range s.Honours {
		if id != s.Line && contains(r.lines, id) && !contains(lines, id) {
			lines = append(lines, id)
		}
	}
	lines = append(lines, s.Line)
	for _, id := range r.lines {
		if !contains(lines, id) {
			r.retire(r.byLine[id], nowMs)
		}
	}
	r.lines = lines
	r.setOpen(false)
	if e := r.rec; e != nil {
		e.op(opStart)
		e.i64(nowMs)
		e.bytes(body)
	}
	r.touch(partKey{kind: partControl})
	r.touch(partKey{kind: partLine, line: l.id})
	return nil
}

func contains(ids []line.ID, id line.ID) bool {
	for _, x := range ids {
		if x == id {
			return true
		}
	}
	return false
}

func (r *room) retire(l *lineState, nowMs int64) {
	for k := range l.spent {
		r.touch(partKey{kind: partSpent, line: l.id, inc: k.inc, n: k.chunk})
	}
	for i := range uint32(256) {
		r.touch(partKey{kind: partHolders, line: l.id, n: i})
	}
	l.spent, l.holders, l.rows = map[spentKey][]byte{}, holders{}, map[line.Window]map[rowKey]uint32{}
	l.retired = nowMs
	r.touch(partKey{kind: partRows, line: l.id})
	r.touch(partKey{kind: partLine, line: l.id})
}

// dropRetired forgets lines that stopped being claimable a week ago. It changes nothing that a step can see but the line's
// published record, so it is not journalled; a snapshot carries it.
func (r *room) dropRetired(nowMs int64) {
	for id, l := range r.byLine {
		if l.retired == 0 || nowMs-l.retired < retiredKeep.Milliseconds() {
			continue
		}
		r.touch(partKey{kind: partLine, line: id})
		for lane := range l.lanes {
			for c := uint32(0); uint64(c)*line.ChunkWindows < uint64(l.sealed); c++ {
				r.touch(partKey{kind: partLedger, line: id, lane: uint8(lane), n: c})
			}
		}
		delete(r.byLine, id)
	}
}

func (r *room) updateLine(l *lineState, p line.Published) error {
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode line: %w", err)
	}
	l.published = p
	if e := r.rec; e != nil {
		e.op(opUpdate)
		e.raw(l.id[:])
		e.bytes(body)
	}
	r.touch(partKey{kind: partLine, line: l.id})
	return nil
}

func (r *room) setRow(l *lineState, w line.Window, k rowKey, n uint32) {
	if l.rows[w] == nil {
		l.rows[w] = map[rowKey]uint32{}
	}
	l.rows[w][k] = n
	if n > 0 {
		l.rowEnd = max(l.rowEnd, w+1)
	}
	if e := r.rec; e != nil {
		e.op(opRow)
		e.raw(l.id[:])
		e.u64(uint64(w))
		e.u8(k.lane)
		e.fixed64(uint64(k.edge))
		e.u64(uint64(n))
	}
	r.touch(partKey{kind: partRows, line: l.id})
}

func (r *room) addLate(n int64) {
	r.late += n
	if e := r.rec; e != nil {
		e.op(opLate)
		e.i64(n)
	}
	r.touch(partKey{kind: partControl})
}

func (r *room) seal(l *lineState, from, to line.Window, counts [][]uint64, chain [32]byte) {
	for i := range l.lanes {
		b := l.lanes[i].bases
		if len(b) == 0 {
			b = append(b, 0)
		}
		total := b[len(b)-1]
		for _, c := range counts[i] {
			total += c
			b = append(b, total)
		}
		l.lanes[i].bases = b
		for c := uint32(from / line.ChunkWindows); c <= uint32((to-1)/line.ChunkWindows); c++ {
			r.touch(partKey{kind: partLedger, line: l.id, lane: uint8(i), n: c})
		}
	}
	l.sealed, l.chain = to, chain
	l.seals = append(l.seals, link{from, to, chain})
	if len(l.seals) > 2*keepSeals {
		l.seals = append([]link(nil), l.seals[len(l.seals)-keepSeals:]...)
	}
	if l.sealed > l.rowsFrom+keepRows {
		l.rowsFrom = l.sealed - keepRows
		for w := range l.rows {
			if w < l.rowsFrom {
				delete(l.rows, w)
			}
		}
	}
	if e := r.rec; e != nil {
		e.op(opSeal)
		e.raw(l.id[:])
		e.u64(uint64(from))
		e.u64(uint64(to))
		e.u64(uint64(len(counts)))
		for _, lane := range counts {
			for _, c := range lane {
				e.u64(c)
			}
		}
		e.raw(chain[:])
	}
	r.touch(partKey{kind: partLine, line: l.id})
	r.touch(partKey{kind: partRows, line: l.id})
}

func (r *room) setCalled(l *lineState, lane uint8, called, due uint64) {
	x := &l.lanes[lane]
	if x.called == called && x.due == due {
		return
	}
	x.called, x.due = called, due
	if e := r.rec; e != nil {
		e.op(opCalled)
		e.raw(l.id[:])
		e.u8(lane)
		e.u64(called)
		e.u64(due)
	}
	r.touch(partKey{kind: partLine, line: l.id})
}

// spend sets a stamp's bit and adds its holder, if it has one.
func (r *room) spend(l *lineState, s line.Stamp, who *line.Who) {
	k := spentKey{s.Inc, s.Seq / spentChunk}
	bits := l.spent[k]
	at := s.Seq % spentChunk / 8
	if int(at) >= len(bits) {
		bits = append(bits, make([]byte, int(at)+1-len(bits))...)
	}
	bits[at] |= 1 << (s.Seq % 8)
	l.spent[k] = bits
	r.touch(partKey{kind: partSpent, line: l.id, inc: k.inc, n: k.chunk})
	if who != nil {
		l.holders.add(*who)
		r.touch(partKey{kind: partHolders, line: l.id, n: uint32(who[0])})
	}
}

func (l *lineState) isSpent(s line.Stamp) bool {
	bits := l.spent[spentKey{s.Inc, s.Seq / spentChunk}]
	at := s.Seq % spentChunk / 8
	return int(at) < len(bits) && bits[at]&(1<<(s.Seq%8)) != 0
}

// holds is the set in which places under a home are counted: its own while it is registered, else the controller's.
func (r *room) holds(home line.Incarnation) *leases {
	if _, ok := r.edges[home]; ok {
		if r.slots[home] == nil {
			r.slots[home] = newLeases()
		}
		return r.slots[home]
	}
	return r.slots[0]
}

// where finds the set in which a session is counted; nil when it has no place. own says that the set is that of its living home;
// otherwise the controller has taken the session over.
func (r *room) where(sid line.SessionID, s *session) (set *leases, end int64, own bool) {
	set = r.holds(s.home)
	if end, ok := set.get(sid); ok {
		return set, end, set != r.slots[0]
	}
	if end, ok := r.slots[0].get(sid); ok {
		return r.slots[0], end, false
	}
	return nil, 0, false
}

// place gives a session a place under home. A place of the same session that waits under the same home to be swept is reused;
// one under another home stays counted there.
func (r *room) place(sid line.SessionID, home line.Incarnation, end, stay int64) {
	if r.holds(home).set(sid, end) {
		r.active++
	}
	r.lapsed.remove(sid)
	if old := r.sx[sid]; old != nil {
		r.dropMove(sid, old)
	}
	r.sx[sid] = &session{home: home, stay: stay}
	r.touch(partKey{kind: partSessions, n: uint32(sid[0])})
}

type grant struct {
	stamp     line.Stamp
	who       *line.Who
	sid       line.SessionID
	end, stay int64
	tat       float64
	late      bool
}

func (r *room) grant(l *lineState, home line.Incarnation, g grant, nowMs int64) {
	r.spend(l, g.stamp, g.who)
	r.place(g.sid, home, g.end, g.stay)
	r.tat = g.tat
	r.ring.add(nowMs, g.late)
	r.granted++
	if e := r.rec; e != nil {
		e.op(opGrant)
		e.raw(l.id[:])
		e.spent(g.stamp, g.who)
		e.raw(g.sid[:])
		e.i64(g.end)
		e.i64(g.stay)
		e.f64(g.tat)
		e.i64(nowMs)
		e.bool(g.late)
	}
	r.touch(partKey{kind: partControl})
}

func (e *encoder) spent(s line.Stamp, who *line.Who) {
	e.fixed64(uint64(s.Inc))
	e.u64(uint64(s.Seq))
	e.bool(who != nil)
	if who != nil {
		e.raw(who[:])
	}
}

func (d *decoder) spent() (s line.Stamp, who *line.Who) {
	s.Inc = line.Incarnation(d.fixed64())
	s.Seq = uint32(d.u64())
	if d.bool() {
		who = new(line.Who)
		d.raw(who[:])
	}
	return s, who
}

// restoreSpent gives back an admitted stamp and its holder.
func (r *room) restoreSpent(l *lineState, s line.Stamp, who *line.Who) {
	r.spend(l, s, who)
	if e := r.rec; e != nil {
		e.op(opSpent)
		e.raw(l.id[:])
		e.spent(s, who)
	}
}

// restorePlace gives back a session.
func (r *room) restorePlace(sid line.SessionID, home line.Incarnation, end, stay int64) {
	r.place(sid, home, end, stay)
	if e := r.rec; e != nil {
		e.op(opPlace)
		e.raw(sid[:])
		e.i64(end)
		e.i64(stay)
	}
}

// setLease changes a session's lease end where it is counted now.
func (r *room) setLease(sid line.SessionID, s *session, end int64) {
	set, old, _ := r.where(sid, s)
	if set == nil || old == end {
		return
	}
	set.set(sid, end)
	if e := r.rec; e != nil {
		e.op(opLease)
		e.raw(sid[:])
		e.i64(end)
	}
	r.touch(partKey{kind: partSessions, n: uint32(sid[0])})
}

// rehome moves a session's place to another edge with a lease that ends at end.
func (r *room) rehome(sid line.SessionID, s *session, to line.Incarnation, end int64) {
	if set, _, _ := r.where(sid, s); set != nil {
		set.remove(sid)
		r.active--
	}
	r.dropMove(sid, s)
	s.home = to
	if r.holds(to).set(sid, end) {
		r.active++
	}
	if e := r.rec; e != nil {
		e.op(opLease)
		e.raw(sid[:])
		e.i64(end)
	}
	r.touch(partKey{kind: partSessions, n: uint32(sid[0])})
}

func (r *room) dropMove(sid line.SessionID, s *session) {
	if s.move == nil {
		return
	}
	if e := r.edges[s.home]; e != nil {
		delete(e.moves, sid)
	}
	s.move = nil
}

// nextPosition draws a feed position.
func (r *room) nextPosition(nowMs int64) int64 {
	r.pos = max(r.pos+1, nowMs*feedUnit)
	return r.pos
}

// endSession ends a session: its place stays counted until it is freed.
func (r *room) endSession(sid line.SessionID, s *session, end, pos int64) {
	if set, _, _ := r.where(sid, s); set != nil {
		set.remove(sid)
	}
	r.lapsed.remove(sid)
	r.dropMove(sid, s)
	s.ended, s.end, s.pos = true, end, pos
	r.ended[sid] = struct{}{}
	r.pos = max(r.pos, pos)
	r.feed = append(r.feed, queue.FeedEntry{Position: pos, Session: sid, Kind: queue.FeedEnded})
	if e := r.rec; e != nil {
		e.op(opEnd)
		e.raw(sid[:])
		e.i64(pos)
		e.i64(end)
	}
	r.touch(partKey{kind: partSessions, n: uint32(sid[0])})
	r.touch(partKey{kind: partFeed})
}

// freeEnded gives an ended session's place back.
func (r *room) freeEnded(sid line.SessionID) {
	delete(r.ended, sid)
	delete(r.sx, sid)
	r.active--
	r.freed++
	if e := r.rec; e != nil {
		e.op(opFree)
		e.raw(sid[:])
	}
	r.touch(partKey{kind: partSessions, n: uint32(sid[0])})
}

// lapse is for a session whose place was just swept.
func (r *room) lapse(sid line.SessionID, s *session, end int64) {
	r.dropMove(sid, s)
	if end < s.stay {
		r.lapsed.set(sid, end)
	} else {
		delete(r.sx, sid)
	}
	if e := r.rec; e != nil {
		e.op(opLapse)
		e.raw(sid[:])
		e.i64(end)
	}
	r.touch(partKey{kind: partSessions, n: uint32(sid[0])})
}

// forget drops a lapsed session that can no longer return.
func (r *room) forget(sid line.SessionID) {
	r.lapsed.remove(sid)
	delete(r.sx, sid)
	if e := r.rec; e != nil {
		e.op(opForget)
		e.raw(sid[:])
	}
	r.touch(partKey{kind: partSessions, n: uint32(sid[0])})
}

// replay applies records. A record that does not fit the state is an error: the file was damaged or is another program's.
func (r *room) replay(body []byte) error {
	d := &decoder{buf: body}
	for d.more() {
		o := d.op()
		if err := r.replayOne(o, d); err != nil {
			return fmt.Errorf("record %d: %w", o, err)
		}
	}
	return d.err
}

func (r *room) replayOne(o op, d *decoder) error {
	switch o {
	case opGen:
		r.setGen(d.str())
	case opToken:
		r.setToken(d.str())
	case opOpen:
		r.setOpen(d.bool())
	case opSettings:
		var s queue.Settings
		if err := json.Unmarshal(d.bytes(), &s); err != nil && d.err == nil {
			return err
		}
		return r.setSettings(s)
	case opStart:
		now := d.i64()
		var s queue.LineState
		if err := json.Unmarshal(d.bytes(), &s); err != nil && d.err == nil {
			return err
		}
		return r.startLine(s, now)
	case opLate:
		r.addLate(d.i64())
	case opTime:
		d.i64()
	case opCounters:
		r.granted, r.freed, r.late, r.tat = d.i64(), d.i64(), d.i64(), d.f64()
		r.ring.sec = d.i64()
		for i := range r.ring.all {
			r.ring.all[i], r.ring.late[i] = d.i64(), d.i64()
			r.ring.sumAll += r.ring.all[i]
			r.ring.sumLate += r.ring.late[i]
		}
	case opLines:
		r.lines = nil
		for range d.count() {
			var id line.ID
			d.raw(id[:])
			r.lines = append(r.lines, id)
		}
	case opLine:
		return r.replayLine(d)
	case opUpdate, opRow, opSeal, opCalled, opGrant, opSpent, opBases, opBits, opHolder:
		var id line.ID
		d.raw(id[:])
		l := r.byLine[id]
		if l == nil {
			return fmt.Errorf("line %s is not there", id)
		}
		return r.replayOnLine(o, l, d)
	case opLease, opEnd, opFree, opLapse, opForget, opPlace, opEnded, opLapsed:
		var sid line.SessionID
		d.raw(sid[:])
		return r.replayOnSession(o, sid, d)
	case opFeed:
		e := queue.FeedEntry{Position: d.i64(), Kind: queue.FeedEnded}
		d.raw(e.Session[:])
		r.feed = append(r.feed, e)
		r.pos = max(r.pos, e.Position)
		r.touch(partKey{kind: partFeed})
	default:
		return fmt.Errorf("unknown kind")
	}
	return d.err
}

func (r *room) replayLine(d *decoder) error {
	var s queue.LineState
	if err := json.Unmarshal(d.bytes(), &s); err != nil {
		return err
	}
	l := &lineState{
		id: s.Line, published: s.Published, honours: s.Honours, lanes: make([]lane, len(s.Lanes)), sealed: s.Sealed, chain: s.Chain,
		rows: map[line.Window]map[rowKey]uint32{}, spent: map[spentKey][]byte{},
	}
	for i, c := range s.Lanes {
		l.lanes[i].called, l.lanes[i].due = c.Called, c.Due
	}
	l.retired = d.i64()
	l.rowsFrom = line.Window(d.u64())
	for range d.count() {
		e := link{from: line.Window(d.u64()), to: line.Window(d.u64())}
		d.raw(e.chain[:])
		l.seals = append(l.seals, e)
	}
	r.byLine[l.id] = l
	r.touch(partKey{kind: partLine, line: l.id})
	return d.err
}

func (r *room) replayOnLine(o op, l *lineState, d *decoder) error {
	switch o {
	case opUpdate:
		var p line.Published
		if err := json.Unmarshal(d.bytes(), &p); err != nil {
			return err
		}
		return r.updateLine(l, p)
	case opRow:
		w, lane := line.Window(d.u64()), d.u8()
		inc, n := line.Incarnation(d.fixed64()), uint32(d.u64())
		if d.err == nil {
			r.setRow(l, w, rowKey{lane, inc}, n)
		}
	case opSeal:
		from, to, lanes := line.Window(d.u64()), line.Window(d.u64()), d.u64()
		if d.err == nil && (from != l.sealed || to <= from || lanes != uint64(len(l.lanes))) {
			return fmt.Errorf("windows [%d, %d) do not follow %d", from, to, l.sealed)
		}
		counts := make([][]uint64, len(l.lanes))
		for i := range counts {
			for w := from; w < to && d.err == nil; w++ {
				counts[i] = append(counts[i], d.u64())
			}
		}
		var chain [32]byte
		d.raw(chain[:])
		if d.err == nil {
			r.seal(l, from, to, counts, chain)
		}
	case opCalled:
		lane, called, due := d.u8(), d.u64(), d.u64()
		if d.err == nil {
			if int(lane) >= len(l.lanes) {
				return fmt.Errorf("lane %d of %d", lane, len(l.lanes))
			}
			r.setCalled(l, lane, called, due)
		}
	case opGrant:
		var g grant
		g.stamp, g.who = d.spent()
		d.raw(g.sid[:])
		g.end, g.stay, g.tat = d.i64(), d.i64(), d.f64()
		now := d.i64()
		g.late = d.bool()
		if d.err == nil {
			r.grant(l, 0, g, now)
		}
	case opSpent:
		s, who := d.spent()
		if d.err == nil {
			r.spend(l, s, who)
		}
	case opBases:
		lane, chunk := d.u8(), d.u64()
		body := d.bytes()
		if d.err != nil {
			return d.err
		}
		if int(lane) >= len(l.lanes) || len(body)%8 != 0 || len(body) < 16 {
			return fmt.Errorf("ledger chunk of %d bytes in lane %d", len(body), lane)
		}
		x := &l.lanes[lane]
		if len(x.bases) == 0 {
			x.bases = append(x.bases, 0)
		}
		if uint64(len(x.bases)-1) != chunk*line.ChunkWindows || binary.BigEndian.Uint64(body) != x.total() {
			return fmt.Errorf("ledger chunk %d of lane %d does not follow %d windows", chunk, lane, len(x.bases)-1)
		}
		for ; len(body) > 8; body = body[8:] {
			x.bases = append(x.bases, binary.BigEndian.Uint64(body[8:]))
		}
		r.touch(partKey{kind: partLedger, line: l.id, lane: lane, n: uint32(chunk)})
	case opBits:
		k := spentKey{inc: line.Incarnation(d.fixed64()), chunk: uint32(d.u64())}
		l.spent[k] = d.bytes()
		r.touch(partKey{kind: partSpent, line: l.id, inc: k.inc, n: k.chunk})
	case opHolder:
		var w line.Who
		d.raw(w[:])
		l.holders.add(w)
		r.touch(partKey{kind: partHolders, line: l.id, n: uint32(w[0])})
	}
	return d.err
}

func (r *room) replayOnSession(o op, sid line.SessionID, d *decoder) error {
	s := r.sx[sid]
	r.touch(partKey{kind: partSessions, n: uint32(sid[0])})
	switch o {
	case opPlace:
		end, stay := d.i64(), d.i64()
		if d.err == nil {
			r.place(sid, 0, end, stay)
		}
		return d.err
	case opEnded:
		s = &session{stay: 0, ended: true}
		s.end, s.stay, s.pos = d.i64(), d.i64(), d.i64()
		r.sx[sid] = s
		r.ended[sid] = struct{}{}
		r.active++
		r.pos = max(r.pos, s.pos)
		return d.err
	case opLapsed:
		end, stay := d.i64(), d.i64()
		r.sx[sid] = &session{stay: stay}
		r.lapsed.set(sid, end)
		return d.err
	}
	if s == nil {
		return fmt.Errorf("session %s is not there", sid)
	}
	switch o {
	case opLease:
		end := d.i64()
		if d.err == nil {
			r.setLease(sid, s, end)
		}
	case opEnd:
		pos, end := d.i64(), d.i64()
		if d.err == nil {
			r.endSession(sid, s, end, pos)
		}
	case opFree:
		r.freeEnded(sid)
	case opLapse:
		end := d.i64()
		if d.err != nil {
			return d.err
		}
		if r.slots[0].remove(sid) {
			r.active--
		}
		r.freed++
		r.lapse(sid, s, end)
	case opForget:
		r.forget(sid)
	}
	return d.err
}
