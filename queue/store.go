// Package queue is the virtual waiting room behind the edge: rooms, their store and the two halves that run them.
//
// A waiting fan costs no store memory and no store call: the place travels in the fan's signed ticket (package line). The store
// keeps only how many tickets were stamped when, how far each lane has been called, and who is inside. Package agent is the half
// that runs in every edge, package controller the half that runs once per room, package pace the law by which fans are
// called. Two stores implement Store and pass one suite (queuetest): localqueue, embedded and durable, and redisqueue.
package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"

	"github.com/stanchion-queue/stanchion/queue/line"
)

// Store is the shared state of rooms. Every method is one atomic step in the store (a script on Redis, one journalled
// transaction embedded) and judges by store time, never by a caller's clock. All methods are safe for concurrent use.
//
// Except for Lead, Regen, Beat, Restore and Create, each step carries the generation (gen) that the caller believes in; in a store that
// has another, or none, it changes nothing and returns a *GenError. A gen belongs to one store process: after a failover or a restart
// of a server it counts as unset. While none is set, the leader may prepare the room with an empty gen: Configure, StartLine and
// UpdateLine accept it. A room that is not there (not made yet, or the store was emptied) is ErrNoRoom for every step. An error that is
// neither *GenError nor one of the sentinels below means the outcome is unknown: every step may be repeated as it is.
type Store interface {
	// Create makes the room's control record when there is none, without gen; it changes nothing otherwise.
	Create(ctx context.Context, room string) error
	// Control reads the control record and the store's time.
	Control(ctx context.Context, room string) (Control, error)

	// The edge's half.

	// Flush reports what an edge stamped, renewed and ended since the last flush and brings back what changed. It may be
	// repeated with the same No and content; a known No with other content returns ErrClone: the process was cloned and must
	// draw a new incarnation. An edge is registered by its first flush, whose No is 0 or 1; a later No of an edge that is not
	// registered is answered with Reaped and changes nothing.
	Flush(ctx context.Context, room string, f Flush) (FlushReply, error)
	// Claim decides up to 64 claims in order. Results are in the order of the claims. When replication was not met the error is
	// ErrReplication and the results must not become passes; the same claims may be repeated (idempotent). An edge that is not
	// registered gets ErrUnknownEdge.
	Claim(ctx context.Context, room string, c ClaimBatch) ([]ClaimResult, error)

	// The controller's half. Token proves leadership; another token than the stored one returns ErrNotLeader.

	// Lead takes leadership: it succeeds when old is the stored token and the leader has not beaten for 1.5 s (an empty old
	// matches a room that never had a leader).
	Lead(ctx context.Context, room, old, token string) error
	// Beat says that the leader lives. It works without gen.
	Beat(ctx context.Context, room, token string) error
	// Regen unsets gen (next empty) or sets it.
	Regen(ctx context.Context, room, token, next string) error
	// Restore gives back what an edge knows after a failover; only while gen is unset. It adds what is missing and removes nothing.
	Restore(ctx context.Context, room string, r Restore) error
	// Unsealed reads the rows of the windows in [from, to) and what each edge reported.
	Unsealed(ctx context.Context, room string, id line.ID, from, to line.Window) ([]Row, error)
	// Edges reads the registered edges.
	Edges(ctx context.Context, room string) ([]EdgeState, error)
	// Seal freezes windows [Sealed, To) of a line; a seal that does not continue the stored chain returns ErrChain.
	Seal(ctx context.Context, room string, s Seal) error
	// Call moves lanes forward and publishes the forecast. A lane that would move back, or beyond its sealed total, fails the
	// whole call with ErrBackwards.
	Call(ctx context.Context, room string, c Call) (CallReply, error)
	// Free releases ended places whose end every living edge has seen.
	Free(ctx context.Context, room, gen, token string) (freed int, err error)
	// Reap takes over the sessions of an edge silent for longer than silentMs, or at once when its death is proven (now) or it
	// has said bye. An edge that is not silent for so long keeps everything, and one that is not registered has nothing: moved is 0.
	Reap(ctx context.Context, room, gen, token string, edge line.Incarnation, silentMs int64, now bool) (moved int, err error)
	// Open lets arrivals enter without a ticket again; ErrNotIdle unless every lane is called out, nothing is unsealed,
	// nobody is parked and the room is less than 90% full.
	Open(ctx context.Context, room, gen, token string) error
	// Configure replaces the room's settings document and the limits the scripts judge by.
	Configure(ctx context.Context, room, gen, token string, s Settings) error
	// StartLine makes a line current and publishes its record; of the claimable lines those it honours stay so. The others lose what
	// claims need; their record and ledger can be read for another week.
	StartLine(ctx context.Context, room, gen, token string, l LineState) error
	// UpdateLine replaces a line's published part (amendments, result, end).
	UpdateLine(ctx context.Context, room, gen, token string, l LineState) error

	// Line reads what is known about a line; ErrNoLine when it is unknown.
	Line(ctx context.Context, room string, id line.ID) (LineState, error)
	// LedgerChunk reads one chunk of sealed bases as line.Ledger.AppendChunk encodes it; empty when nothing of it is sealed.
	LedgerChunk(ctx context.Context, room string, id line.ID, lane uint8, chunk uint32) ([]byte, error)

	// Close releases the connection or file. Rooms keep their state.
	Close() error
}

// Errors of Store; test with errors.Is.
var (
	ErrNotLeader   = errors.New("queue: another controller leads this room")
	ErrClone       = errors.New("queue: flush number was used by another process")
	ErrReplication = errors.New("queue: not enough replicas confirmed in time")
	ErrChain       = errors.New("queue: seal does not continue the stored chain")
	ErrBackwards   = errors.New("queue: a lane may only be called forwards, within its sealed total")
	ErrNotIdle     = errors.New("queue: room is not idle")
	ErrNoLine      = errors.New("queue: no such line")
	ErrNoRoom      = errors.New("queue: no such room")
	ErrGenSet      = errors.New("queue: restore is only possible while gen is unset")
	ErrUnknownEdge = errors.New("queue: edge is not registered, or was reaped")
)

// GenError is returned when the caller's generation is not the store's: the store failed over, was emptied, or is being restored.
type GenError struct {
	Gen   string // the store's gen; empty while it is being restored
	RunID string // identity of the store process that answered
}

// Error implements error.
func (e *GenError) Error() string { return "queue: store is at another generation" }

// Control is a room's control record.
type Control struct {
	Gen       string
	RunID     string
	Token     string    // leader
	BeatMs    int64     // last beat, store time
	TickMs    int64     // last call, store time; claims stop when it is 3 s old
	StoreMs   int64     // store time of this answer
	Lines     []line.ID // claimable lines, honoured ones first, the current one last; empty before the first line
	Open      bool
	Active    int64         // sessions
	Lanes     []LaneControl // of the current line, by lane index
	Honoured  map[line.ID][]LaneControl
	Sealed    line.Window
	Chain     [32]byte
	Granted60 int64 // grants in the last 60 s
	Late      int64 // tickets reported after their window was sealed, since the room was created
	Settings  Settings
	Forecast  []byte // JSON the controller published with its last call (agent and controller share its type)
}

// Line is the current line; zero before the first.
func (c Control) Line() line.ID {
	if len(c.Lines) == 0 {
		return line.ID{}
	}
	return c.Lines[len(c.Lines)-1]
}

// LaneControl is how far a lane has come.
type LaneControl struct {
	Called uint64
	Due    uint64 // called as of grace_s ago
	Total  uint64 // sealed
}

// Settings is the part of a room's settings that the store judges by, and the whole document for edges.
type Settings struct {
	Version       uint64
	Cap           int64
	RatePerSecond float64 // grants per second, 0: unlimited
	BurstS        float64 // GCRA burst, seconds of rate; 1 by default
	Pause         string  // empty, or why nobody is admitted (paused, maintenance, draining, ended, sold_out, schedule)
	FirstLeaseMs  int64
	EnterLeaseMs  int64
	IdleMs        int64
	StayMaxMs     int64
	GraceMs       int64
	ReturnMs      int64
	OutageBoundMs int64
	LateShare     float64
	LateFloor     int64
	NetworkShare  float64
	NetworkFloor  int64
	Document      []byte // JSON settings document; opaque to the store
}

// Row is how many tickets an edge has stamped for one lane in one window, as an absolute count.
type Row struct {
	Line  line.ID
	Edge  line.Incarnation
	Win   line.Window
	Lane  uint8
	Count uint32
}

// Flush is an edge's report.
type Flush struct {
	Gen        string
	Edge       line.Incarnation
	Label      string      // configured name of the edge, for people
	No         uint64      // grows by one per new flush
	MarkMs     int64       // every renewal honoured up to this store time is in this or an earlier flush
	Cursor     int64       // last end-feed position applied
	Line       line.ID     // the line that Complete and SealedSeen speak of; zero: the store's current line
	Complete   line.Window // every stamp before this window of Line is reported
	Rows       []Row
	Renewals   []Renewal
	Ends       []line.SessionID
	Outage     []OutageGrant
	Parked     []int64 // claims parked at this edge's door per lane, without those held by the network share
	Arrivals   []Arrival
	Bye        bool        // last flush of a draining edge
	SealedSeen line.Window // windows of Line whose seal the edge holds; another line than the current one counts as 0
	LobbySeen  int64       // reserved for gauges: fans seen in the lobby during the last minute
}

// OutageGrant is a session that an edge admitted while the store did not answer, into one of its own places whose pass had run
// out. It is merged before the flush's renewals, ends and sweep, by session id and without looking at the cap: an unknown session
// is added with this edge as home and counted; of a known one the lease becomes the later one, with its edge as home. Its
// stamp is spent and its holder noted, so a ticket that two cut-off edges admitted is one session again.
type OutageGrant struct {
	Lease Lease
	Spent SpentStamp
}

// Renewal asks for a longer lease for a session in use.
type Renewal struct {
	Session line.SessionID
	UntilMs int64 // wished lease end, store time
}

// Arrival counts fans who came to the door for the first time, by how long ago they had been called.
type Arrival struct {
	Lane  uint8
	AgeMs int64 // upper bound of the age bucket
	Count uint32
}

// FlushReply is what changed.
type FlushReply struct {
	Control Control
	Seals   []SealedRange // seals of the current line from SealedSeen on, oldest first, at most 64 seals; more follow
	Feed    []FeedEntry   // after Cursor, oldest first, at most 4,096 entries; more follow
	// Leases answers this flush's renewals once replication was met. A session that is over or unknown comes back with EndMs 0.
	// One that is missing keeps its old lease for now, because its home is just changing: ask again with the next flush.
	Leases     []Lease
	Replicated bool // replication was met, or this flush needed none
	Reaped     bool // this incarnation is no longer registered: draw a new one
}

// Lease is a session's lease end in the store.
type Lease struct {
	Session line.SessionID
	EndMs   int64
	StayMs  int64 // stay_until
	Home    line.Incarnation
}

// SealedRange is one seal: a run of windows, and the link of the seal chain after the last of them. The links of the last 600
// seals are kept: for an edge that is further behind the first range begins after its SealedSeen, and it reads Line and LedgerChunk.
type SealedRange struct {
	Line     line.ID
	From, To line.Window
	Counts   [][]uint64 // per lane
	Chain    [32]byte
}

// FeedEntry is one entry of the end feed.
type FeedEntry struct {
	Position int64
	Session  line.SessionID
	Kind     FeedKind
	NewHome  line.Incarnation // with FeedMoved
}

// FeedKind says what a feed entry means.
type FeedKind uint8

// The kinds of feed entries.
const (
	FeedEnded FeedKind = 1 // the session is over: its pass is no longer honoured
	FeedMoved FeedKind = 2 // the session's home is about to change: the old home stops extending it
)

// MaxClaims is the largest batch of claims.
const MaxClaims = 64

// ClaimBatch is up to MaxClaims claims of one edge.
type ClaimBatch struct {
	Gen    string
	Edge   line.Incarnation
	Claims []Claim
	Parked bool // other claims are parked at this edge (the late budget binds only then)
}

// Claim asks to turn a stamp into a session.
type Claim struct {
	Line    line.ID
	Lane    uint8
	Rank    uint64
	Stamp   line.Stamp
	Who     line.Who
	WhoKind line.WhoKind // WhoNone: Who is random and is not kept; the stamp alone makes the ticket single-use
	Session line.SessionID
	Group   string // client network, empty: no share limit
	Door    line.Door
	Enter   bool // no ticket: the room must be open; rank and holder are not looked at
}

// ClaimStatus is the store's verdict on one claim.
type ClaimStatus uint8

// The verdicts, in the order in which they are decided.
const (
	ClaimOK        ClaimStatus = 1
	ClaimOtherLine ClaimStatus = 2
	ClaimPaused    ClaimStatus = 3
	ClaimSpent     ClaimStatus = 4
	ClaimEarly     ClaimStatus = 5
	ClaimFull      ClaimStatus = 6
	ClaimRate      ClaimStatus = 7
	ClaimShare     ClaimStatus = 8
	ClaimLate      ClaimStatus = 9
	ClaimHolder    ClaimStatus = 10
	ClaimStale     ClaimStatus = 11 // no controller tick for 3 s
	ClaimQueue     ClaimStatus = 12 // enter refused: take a place
)

// ClaimResult is the answer to one claim. Only ClaimOK with a met replication may become a pass.
type ClaimResult struct {
	Status  ClaimStatus
	EndMs   int64  // lease end, with ClaimOK
	StayMs  int64  // stay_until, with ClaimOK
	RetryMs int64  // with ClaimRate, ClaimLate, ClaimShare
	Called  uint64 // with ClaimEarly
	Again   bool   // with ClaimOK: the session was alive already (repeat or return)
}

// Restore is what one edge knows, given back after a failover.
type Restore struct {
	Edge     line.Incarnation
	Label    string
	All      bool // the store was empty: Sessions and Spent are complete for this edge and line
	Sessions []Lease
	Spent    []SpentStamp
	Called   map[line.ID][]uint64
	Current  line.ID
	Seals    []SealedRange // the tail of seals that the edge holds, one range per seal
}

// SpentStamp is an admitted stamp and its holder.
type SpentStamp struct {
	Line    line.ID
	Stamp   line.Stamp
	Who     line.Who
	WhoKind line.WhoKind
}

// EdgeState is what the store knows about an edge.
type EdgeState struct {
	Edge     line.Incarnation
	Label    string
	No       uint64
	MarkMs   int64
	Cursor   int64
	Complete line.Window // of the current line; 0 while the edge still speaks of another
	SeenMs   int64
	Parked   []int64
	Sessions int64
	Arrivals []Arrival // not yet taken by a call
	Bye      bool
}

// Seal freezes windows.
type Seal struct {
	Gen, Token string
	Line       line.ID
	From, To   line.Window
	Counts     [][]uint64 // per lane, To-From entries each
	Prev, Next [32]byte   // links of the seal chain
}

// Call moves the frontier of each lane.
type Call struct {
	Gen, Token string
	Line       line.ID
	Called     []uint64 // per lane of the current line, absolute
	Honoured   map[line.ID][]uint64
	Forecast   []byte
}

// CallReply is what the controller's law feeds on.
type CallReply struct {
	StoreMs      int64
	Active       int64
	Parked       []int64   // sum over living edges, per lane
	Arrivals     []Arrival // since the last call, summed over edges; handed out once
	FreedTotal   int64     // places freed since the room was created
	GrantedTotal int64     // grants since the room was created
}

// LineState is a line's published part and its call state. For StartLine the length of Lanes says how many lanes the line has
// (at least 1); what they, Sealed and Chain hold is the store's own and is not taken from the caller.
type LineState struct {
	Line      line.ID
	Published line.Published
	Honours   []line.ID // older lines that stay claimable, oldest first, as the record says
	Lanes     []LaneControl
	Sealed    line.Window
	Chain     [32]byte
}

// WithDefaults fills the lease and burst lengths that are zero with the product's defaults. Stores keep settings in this form.
func (s Settings) WithDefaults() Settings {
	for _, d := range []struct {
		v   *int64
		def int64
	}{
		{&s.FirstLeaseMs, 30_000}, {&s.EnterLeaseMs, 10_000}, {&s.IdleMs, 300_000}, {&s.StayMaxMs, 900_000},
		{&s.GraceMs, 120_000}, {&s.OutageBoundMs, 240_000},
	} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	if s.BurstS <= 0 {
		s.BurstS = 1
	}
	return s
}

// Digest is a fingerprint of the flush's content without Gen: a store tells a repeated flush from a cloned process by it.
func (f *Flush) Digest() uint64 {
	h := fnv.New64a()
	var buf [8]byte
	num := func(v uint64) {
		binary.BigEndian.PutUint64(buf[:], v)
		h.Write(buf[:])
	}
	num(uint64(f.Edge))
	num(f.No)
	num(uint64(f.MarkMs))
	num(uint64(f.Cursor))
	h.Write(f.Line[:])
	num(uint64(f.Complete))
	num(uint64(len(f.Rows)))
	for _, r := range f.Rows {
		h.Write(r.Line[:])
		num(uint64(r.Edge))
		num(uint64(r.Win)<<32 | uint64(r.Count))
		num(uint64(r.Lane))
	}
	num(uint64(len(f.Renewals)))
	for _, r := range f.Renewals {
		h.Write(r.Session[:])
		num(uint64(r.UntilMs))
	}
	num(uint64(len(f.Ends)))
	for _, e := range f.Ends {
		h.Write(e[:])
	}
	num(uint64(len(f.Outage)))
	for _, g := range f.Outage {
		h.Write(g.Lease.Session[:])
		num(uint64(g.Lease.EndMs))
	}
	num(uint64(len(f.Arrivals)))
	for _, a := range f.Arrivals {
		num(uint64(a.AgeMs))
		num(uint64(a.Lane)<<32 | uint64(a.Count))
	}
	num(uint64(len(f.Parked)))
	for _, p := range f.Parked {
		num(uint64(p))
	}
	if f.Bye {
		num(1)
	}
	return h.Sum64()
}
