package agent

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// Room is one waiting room at this edge. All methods are safe for concurrent use.
type Room struct {
	name    string
	o       Options
	log     *slog.Logger
	m       *metrics
	tickets ticketRing

	clock    storeClock
	snap     atomic.Pointer[snapshot]
	sessions *sessions
	door     *door
	outage   atomic.Pointer[outage] // set while the store does not answer
	alone    atomic.Bool            // fans were let in without the store, and it may not have heard of all
	wake     chan struct{}          // the flush loop has something to do

	mu       sync.Mutex // guards what follows; held for a few microseconds at a time
	inc      line.Incarnation
	seq      uint32
	rows     map[rowKey]uint32 // stamps of windows not sealed yet, as absolute counts
	ends     []line.SessionID
	arrivals map[arrivalKey]uint32
	draining bool

	flush flusher // owned by the flush loop
}

type rowKey struct {
	line line.ID
	inc  line.Incarnation
	win  line.Window
	lane uint8
}

type arrivalKey struct {
	lane  uint8
	ageMs int64
}

func newRoom(name string, o Options, tickets *line.Tickets, m *metrics) *Room {
	r := &Room{
		name: name, o: o, log: o.Logger.With("room", name), m: m,
		sessions: newSessions(), wake: make(chan struct{}, 1),
		inc: newIncarnation(), rows: map[rowKey]uint32{}, arrivals: map[arrivalKey]uint32{},
	}
	r.tickets.now.Store(tickets)
	r.door = newDoor()
	r.flush.init()
	r.snap.Store(firstSnapshot(name))
	return r
}

// View is the room as this edge knows it; never nil.
func (r *Room) View() *line.View { return r.snap.Load().view }

// Now is the estimate of the store's time by which leases and passes are judged; the zero time before the store has answered
// once. It never goes back.
func (r *Room) Now() time.Time {
	ms, _, ok := r.clock.now()
	if !ok {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// Settings are the room's settings in force at this edge.
func (r *Room) Settings() room.Settings { return r.snap.Load().settings }

// Forecast is what the controller published last.
func (r *Room) Forecast() room.Forecast { return r.snap.Load().forecast }

func (r *Room) incarnation() line.Incarnation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inc
}

// kickFlush wakes the flush loop out of its idle pace.
func (r *Room) kickFlush() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func refuse(code line.RefusalCode, after time.Duration, detail string) *line.Refusal {
	return &line.Refusal{Code: code, RetryAfter: after, Detail: detail}
}

var errNoLine = refuse(line.RefusedMoment, 2*time.Second, "The room is starting.")

// Join gives the fan a place in line: that of the ticket in the request, if it is good for a line that is still called; else, when
// the room is open and the request wants it, a pass at once; else a new stamp. Only the latter may ask the store, for its
// time, and only while this edge's clock is uncertain by more than 3 s. Errors are *line.Refusal.
func (r *Room) Join(ctx context.Context, req line.JoinRequest) (line.Place, error) {
	snap := r.snap.Load()
	if !snap.ready() {
		return line.Place{}, errNoLine
	}
	if req.Ticket != "" {
		if t, err := r.tickets.Parse(req.Ticket); err == nil && snap.books[t.Line] != nil {
			return r.place(snap, t, req.Ticket), nil
		} // a ticket of an ended line, or a broken one, is replaced
	}
	switch snap.view.Phase {
	case line.PhaseEnded, line.PhaseSoldOut:
		return line.Place{}, refuse(line.RefusedClosed, 0, closedDetail(snap.view.Phase))
	}
	if snap.view.Closed {
		return line.Place{}, refuse(line.RefusedMoment, 30*time.Second, "The waiting room cannot be reached.")
	}
	lane, err := snap.lane(req.Lane)
	if err != nil {
		return line.Place{}, err
	}
	if req.Admit && snap.view.Open {
		if g, err := r.Enter(ctx, req.Group); err == nil {
			return line.Place{State: line.StateAdmitted, Lane: snap.laneName(lane), Pass: &g}, nil
		}
	}
	who, kind, err := snap.holder(r.name, lane, req, r.o.Codes)
	if err != nil {
		return line.Place{}, err
	}
	return r.stamp(ctx, uint8(lane), who, kind, req.Key)
}

func closedDetail(p line.Phase) string {
	if p == line.PhaseSoldOut {
		return "Everything is sold."
	}
	return "The sale is over."
}

// lane finds a lane of the current line by name; the empty name is the first lane.
func (s *snapshot) lane(name string) (int, error) {
	lanes := s.books[s.current()].opened.Record.Lanes
	if name == "" {
		return 0, nil
	}
	for i, l := range lanes {
		if l.Name == name {
			return i, nil
		}
	}
	return 0, refuse(line.RefusedLane, 0, "The line has no such lane.")
}

func (s *snapshot) laneName(lane int) string {
	if b := s.books[s.current()]; b != nil && lane < len(b.opened.Record.Lanes) {
		return b.opened.Record.Lanes[lane].Name
	}
	return ""
}

// stamp makes a ticket of the current line.
func (r *Room) stamp(ctx context.Context, lane uint8, who line.Who, kind line.WhoKind, key [16]byte) (line.Place, error) {
	if _, off, ok := r.clock.now(); !ok || off > uncertainMs {
		if err := r.askTime(ctx); err != nil {
			return line.Place{}, refuse(line.RefusedMoment, 2*time.Second, "The room's clock cannot be read.")
		}
	}
	snap := r.snap.Load()
	b := snap.books[snap.current()]
	if b == nil {
		return line.Place{}, errNoLine
	}
	r.mu.Lock()
	if r.draining || r.seq == ^uint32(0) {
		r.mu.Unlock()
		return line.Place{}, refuse(line.RefusedMoment, time.Second, "This edge is going away.")
	}
	// The time is read under the lock that the flush takes its "complete up to" under: no stamp can fall behind it.
	now, off, _ := r.clock.now()
	t := line.Ticket{
		Line: snap.current(), Lane: lane, Who: who, WhoKind: kind, Coarse: off > coarseMs, Key: key,
		IssuedAt: uint32(now / 1000), Rank: line.NoRank,
		Stamp: line.Stamp{Win: line.WindowAt(b.opened.Record.EpochMs, now), Inc: r.inc, Seq: r.seq},
	}
	r.seq++
	r.rows[rowKey{t.Line, r.inc, t.Stamp.Win, lane}]++
	r.mu.Unlock()
	r.kickFlush()
	clock := "certain"
	if t.Coarse {
		clock = "coarse"
	}
	r.m.joins.WithLabelValues(r.name, clock).Inc()
	p := line.Place{Ticket: r.tickets.Issue(t), State: line.StateWaiting, Lane: snap.laneName(int(lane)), Sample: snap.sampled(t)}
	if b.lobby(t) {
		p.State = line.StateLobby
	}
	return p, nil
}

// askTime reads the store's clock; joins that ask at once share nothing but the answer.
func (r *Room) askTime(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	sent := time.Now()
	c, err := r.o.Store.Control(ctx, r.name)
	if err != nil {
		return fmt.Errorf("read store time: %w", err)
	}
	r.clock.observe(sent, time.Now(), c.StoreMs)
	return nil
}

// sampled reports whether a ticket is one of those whose fan is asked to call `place` each minute.
func (s *snapshot) sampled(t line.Ticket) bool {
	k := s.forecast.Status.SampleOneIn
	return k > 0 && (uint64(t.Stamp.Inc)*0x9E3779B97F4A7C15^uint64(t.Stamp.Seq)*0xD1B54A32D192ED03)>>33%uint64(k) == 0
}

// place describes a ticket; text is the ticket as it came.
func (r *Room) place(snap *snapshot, t line.Ticket, text string) line.Place {
	b := snap.books[t.Line]
	p := line.Place{Ticket: text, State: line.StateWaiting, Lane: r.recordLane(b, t.Lane), Sample: snap.sampled(t)}
	rank, ok := b.rank(t)
	if !ok {
		if b.lobby(t) {
			p.State = line.StateLobby
		}
		return p
	}
	p.Known, p.Rank = true, rank
	if called := b.lanes[t.Lane].Called; rank < called {
		p.State = line.StateCalled
	} else {
		p.Ahead = rank - called + snap.before(t)
	}
	if t.Rank != rank {
		t.Rank = rank
		p.Ticket = r.tickets.Issue(t)
	}
	if p.State == line.StateCalled {
		now, _, _ := r.clock.now()
		r.sessions.with(b.session(t.Stamp), false, func(s *session) {
			if s != nil && !s.ended && s.endMs > now {
				p.State = line.StateAdmitted
			}
		})
	}
	return p
}

// before is how many ranks of older lines are called before a ticket's own line, as far as this agent knows.
func (s *snapshot) before(t line.Ticket) (n uint64) {
	for _, id := range s.control.Lines {
		if id == t.Line {
			break
		}
		if b := s.books[id]; b != nil && int(t.Lane) < len(b.lanes) {
			n += b.lanes[t.Lane].Total - min(b.lanes[t.Lane].Called, b.lanes[t.Lane].Total)
		}
	}
	return n
}

func (r *Room) recordLane(b *book, lane uint8) string {
	if int(lane) < len(b.opened.Record.Lanes) {
		return b.opened.Record.Lanes[lane].Name
	}
	return ""
}

// parse reads a ticket and finds its line. The errors are refusals.
func (r *Room) parse(snap *snapshot, text string) (line.Ticket, *book, error) {
	t, err := r.tickets.Parse(text)
	if err != nil {
		return t, nil, refuse(line.RefusedTicket, 0, ticketDetail(err))
	}
	b := snap.books[t.Line]
	switch {
	case b == nil && !snap.ready():
		return t, nil, errNoLine
	case b == nil:
		return t, nil, refuse(line.RefusedLineOver, 0, "The line of this ticket is over.")
	case int(t.Lane) >= len(b.ledgers):
		return t, nil, refuse(line.RefusedTicket, 0, "The ticket names a lane that its line does not have.")
	}
	return t, b, nil
}

func ticketDetail(err error) string {
	switch {
	case errors.Is(err, line.ErrTicketKey):
		return "The ticket is signed by a key that is not in use."
	case errors.Is(err, line.ErrTicketForged):
		return "The ticket's signature does not match."
	}
	return "This is not a ticket of this room."
}

// Place says where a ticket stands; the ticket comes back re-signed with its rank once that is known. Errors are *line.Refusal.
func (r *Room) Place(_ context.Context, ticket string) (line.Place, error) {
	snap := r.snap.Load()
	t, _, err := r.parse(snap, ticket)
	if err != nil {
		return line.Place{}, err
	}
	return r.place(snap, t, ticket), nil
}

// Leave ends a session: its pass is not honoured here any more, and its place is free as soon as every edge knows.
func (r *Room) Leave(_ context.Context, id line.SessionID) error {
	now, _, ok := r.clock.now()
	if !ok {
		return errNoLine
	}
	keep := r.snap.Load().keepMs()
	free := false
	r.sessions.with(id, true, func(s *session) {
		if s.ended {
			return
		}
		if o := r.outage.Load(); o != nil {
			free = o.left(s, now)
		}
		s.ended, s.keepMs = true, now+keep
		if !free && r.outage.Load() == nil {
			s.home = false
		}
	})
	r.mu.Lock()
	r.ends = append(r.ends, id)
	r.mu.Unlock()
	r.kickFlush()
	if free {
		r.door.signal()
	}
	return nil
}

// keepMs is how long a pass of an ended session could live at some edge.
func (s *snapshot) keepMs() int64 {
	c := s.control.Settings
	return max(c.IdleMs, c.FirstLeaseMs) + c.OutageBoundMs
}

// Extend asks for a longer lease for a session, until a store time in Unix milliseconds; the core does so while a payment is
// in progress. The store grants no more than the session's stay.
func (r *Room) Extend(_ context.Context, id line.SessionID, until time.Time) error {
	r.mu.Lock()
	r.flush.extend(id, until.UnixMilli())
	r.mu.Unlock()
	r.kickFlush()
	return nil
}

// Abandon gives a place in line up. A fan who has not been called owns nothing that could be given back; one who has may
// have a session, which ends.
func (r *Room) Abandon(ticket string) error {
	snap := r.snap.Load()
	t, b, err := r.parse(snap, ticket)
	if err != nil {
		return err
	}
	if rank, ok := b.rank(t); !ok || rank >= b.lanes[t.Lane].Called {
		return nil
	}
	return r.Leave(context.Background(), b.session(t.Stamp))
}

func noSuchLine() error {
	return refuse(line.RefusedLineOver, 0, "The room does not know this line, or not any more.")
}

// Record is the signed record of a line with its amendments and what is sealed so far, as JSON. A line that nobody knows is
// line.RefusedLineOver.
func (r *Room) Record(ctx context.Context, id line.ID) ([]byte, error) {
	if b := r.snap.Load().books[id]; b != nil {
		return encodePublished(b.publish())
	}
	state, err := r.o.Store.Line(ctx, r.name, id)
	switch {
	case errors.Is(err, queue.ErrNoLine):
		return nil, noSuchLine()
	case err != nil:
		return nil, fmt.Errorf("read line %s: %w", id, err)
	}
	p := state.Published
	p.Sealed, p.Chain = state.Sealed, hex.EncodeToString(state.Chain[:])
	p.Totals = make([]uint64, len(state.Lanes))
	for i, l := range state.Lanes {
		p.Totals[i] = l.Total
	}
	return encodePublished(p)
}

func encodePublished(p line.Published) ([]byte, error) {
	if p.Amendments == nil {
		p.Amendments = []line.Signed{}
	}
	doc, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode line record: %w", err)
	}
	return doc, nil
}

// LedgerChunk is one chunk of a lane's sealed bases, as line.Ledger.AppendChunk encodes it; empty when nothing of it is sealed. A
// full chunk never changes. Lines this agent does not follow are read from the store; one that nobody knows is line.RefusedLineOver.
func (r *Room) LedgerChunk(ctx context.Context, id line.ID, lane uint8, chunk uint32) (body []byte, full bool, err error) {
	const fullBytes = 8 * (line.ChunkWindows + 1)
	if b := r.snap.Load().books[id]; b != nil {
		if int(lane) >= len(b.ledgers) {
			return nil, false, refuse(line.RefusedLane, 0, "The line has no such lane.")
		}
		body = b.ledgers[lane].AppendChunk(nil, chunk)
		return body, len(body) == fullBytes, nil
	}
	body, err = r.o.Store.LedgerChunk(ctx, r.name, id, lane, chunk)
	switch {
	case errors.Is(err, queue.ErrNoLine):
		return nil, false, noSuchLine()
	case err != nil:
		return nil, false, fmt.Errorf("read ledger of line %s: %w", id, err)
	}
	return body, len(body) == fullBytes, nil
}
