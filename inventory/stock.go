package inventory

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
)

// State of a block. The numbers are stored.
type State int8

// The states of a block.
const (
	Closed   State = 0 // not on sale
	Open     State = 1 // holds and sales
	Paused   State = 2 // sales of existing holds only
	Draining State = 3 // as Paused, and meant to end closed
	Frozen   State = 4 // stopped by the auditor: holds live on, nothing is sold
)

var stateNames = [...]string{"closed", "open", "paused", "draining", "frozen"}

func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("state %d", int8(s))
	}
	return stateNames[s]
}

// AnyState lists all states of a block.
func AnyState() []State { return []State{Closed, Open, Paused, Draining, Frozen} }

// Bounds of a lease. The longest must stay below the store's tombstone grace of three hours.
const (
	ShortestLease = time.Second
	LongestLease  = 2 * time.Hour
)

// Lease is how long the store keeps a hold without renewal, in whole seconds. MakeLease is the only way to get one, so
// no statement can be written with the TTLs 0 or null, which never expire. The store may end a lease of n seconds at
// any time between n-1 and n seconds.
type Lease struct{ seconds int32 }

// MakeLease rounds d up to whole seconds. Below ShortestLease and above LongestLease it fails.
func MakeLease(d time.Duration) (Lease, error) {
	if d < ShortestLease || d > LongestLease {
		return Lease{}, ErrLeaseRefused.because("a lease of %v is not between %v and %v", d, ShortestLease, LongestLease)
	}
	return Lease{int32((d + time.Second - 1) / time.Second)}, nil
}

// Seconds is 0 only for the zero Lease, which no Batch with a hold or pin may carry.
func (l Lease) Seconds() int { return int(l.seconds) }

// Duration is Seconds as a time.Duration.
func (l Lease) Duration() time.Duration { return time.Duration(l.seconds) * time.Second }

// Kind is what a Change does.
type Kind uint8

// The kinds of change. Beside each: what it demands of every seat, and the block states it is allowed in.
const (
	Hold      Kind = iota + 1 // free, in one of the channels | open
	Pin                       // carries Hold, unsold, not killed | all but closed
	Release                   // carries Hold, unsold | any
	Sell                      // carries Hold, unsold | open, paused, draining
	Rescue                    // free of hold, unsold, not killed | open, paused, draining
	Unsell                    // sold to Order; becomes killed by Kill | any
	SetKill                   // no hold, unsold, killed by OldKill; becomes killed by Kill | any
	kindLimit                 // not a kind
)

var kindNames = [...]string{"none", "hold", "pin", "release", "sell", "rescue", "unsell", "kill"}

func (k Kind) String() string {
	if k >= kindLimit {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return kindNames[k]
}

// States lists the block states a kind of change is allowed in.
func (k Kind) States() []State {
	switch k {
	case Hold:
		return []State{Open}
	case Pin:
		return []State{Open, Paused, Draining, Frozen}
	case Sell, Rescue:
		return []State{Open, Paused, Draining}
	}
	return AnyState()
}

// Change is one part of a batch: the same thing done to a few seats.
type Change struct {
	Kind     Kind
	Seats    []int16
	Hold     uuid.UUID // Hold, Pin, Release, Sell
	Order    uuid.UUID // Sell, Rescue, Unsell
	Lease    Lease     // Hold, Pin
	Channels []int16   // Hold: the channels its buyer may use
	OldKill  int16     // SetKill: the reason it must have now, 0 = none
	Kill     int16     // Unsell, SetKill: the reason it gets, 0 = none
}

// Admits tells whether a seat in this state lets the change through. It is the condition of the store, in Go.
func (c *Change) Admits(s Seat) bool {
	held := s.Hold != uuid.Nil
	sold := s.Order != uuid.Nil
	switch c.Kind {
	case Hold:
		return !held && !sold && s.Kill == 0 && slices.Contains(c.Channels, s.Channel)
	case Pin:
		return s.Hold == c.Hold && !sold && s.Kill == 0
	case Release, Sell:
		return s.Hold == c.Hold && !sold
	case Rescue:
		return !held && !sold && s.Kill == 0
	case Unsell:
		return s.Order == c.Order
	case SetKill:
		return !held && !sold && s.Kill == c.OldKill
	}
	return false
}

// Key names a block.
type Key struct {
	Performance uuid.UUID
	Block       int16
}

func (k Key) String() string { return fmt.Sprintf("%v/%d", k.Performance, k.Block) }

// Head is the part of a block that all its seats share.
type Head struct {
	Ver   int64     // every applied batch adds one; 0: the block does not exist
	Last  uuid.UUID // the op of the batch that made Ver
	Epoch int32     // of the region the block belongs to
	State State
}

// Seat is one seat of a block as the store has it. A lease that ran out shows as no hold.
type Seat struct {
	Seat    int16
	Channel int16
	Kill    int16     // 0: on sale
	Order   uuid.UUID // zero: unsold
	Hold    uuid.UUID // zero: no live hold. A sold seat may still carry the hold it was sold under
	// Left is the rest of the lease, only from Read; 0 without a hold.
	Left time.Duration
}

// Block is a whole block.
type Block struct {
	Head
	Chart [32]byte // content hash of the pinned chart
	Seats []Seat   // by number
}

// Limits of one batch.
const (
	MaxBatchChanges = 64
	MaxBatchSeats   = 200
)

// Batch is one conditional change of one block: applied whole, when the block still has version Ver and Epoch, is in
// one of the States and every seat admits its change; else not at all. Applied, it gives the block the version Ver+1 and
// Last = Op. A batch without changes and without SetState is a fence: it only moves the version, so that whatever was
// sent before with the same Ver can never be applied any more.
type Batch struct {
	Ver     int64
	Op      uuid.UUID
	Epoch   int32
	States  []State
	Set     *State // new state of the block; nil leaves it
	Changes []Change
}

// NewBatch makes a batch whose States are those that all its changes allow.
func NewBatch(head Head, op uuid.UUID, changes ...Change) Batch {
	b := Batch{Ver: head.Ver, Op: op, Epoch: head.Epoch, States: AnyState(), Changes: changes}
	for i := range changes {
		allowed := changes[i].Kind.States()
		b.States = slices.DeleteFunc(b.States, func(s State) bool { return !slices.Contains(allowed, s) })
	}
	return b
}

// Fence makes the batch that settles an unknown outcome: see Batch.
func Fence(ver int64, epoch int32, op uuid.UUID) Batch {
	return Batch{Ver: ver, Op: op, Epoch: epoch, States: AnyState()}
}

// Check refuses a batch that no store may send. Every Stock calls it first.
func (b *Batch) Check() error {
	bad := func(format string, args ...any) error {
		return ErrBadRequest.because("batch: "+format, args...)
	}
	if b.Ver < 1 || b.Ver == math.MaxInt64 || b.Op == uuid.Nil || len(b.States) == 0 {
		return bad("needs a version above 0, an op id and at least one allowed state")
	}
	if len(b.Changes) > MaxBatchChanges {
		return bad("%d changes are more than %d", len(b.Changes), MaxBatchChanges)
	}
	seen := map[int16]bool{}
	for i := range b.Changes {
		c := &b.Changes[i]
		if len(c.Seats) == 0 {
			return bad("change %d has no seats", i)
		}
		for _, s := range c.Seats {
			// Conditions see the state before the batch, so two changes of one seat would both be told yes.
			if s < 0 || seen[s] {
				return bad("seat %d is negative or occurs twice", s)
			}
			seen[s] = true
		}
		needsHold := c.Kind == Hold || c.Kind == Pin || c.Kind == Release || c.Kind == Sell
		needsOrder := c.Kind == Sell || c.Kind == Rescue || c.Kind == Unsell
		needsLease := c.Kind == Hold || c.Kind == Pin
		switch {
		case c.Kind == 0 || c.Kind >= kindLimit:
			return bad("change %d has no kind", i)
		case needsHold != (c.Hold != uuid.Nil) || needsOrder != (c.Order != uuid.Nil):
			return bad("a %v needs its ids and no others", c.Kind)
		case needsLease != (c.Lease != Lease{}):
			return bad("a %v without a lease, or a lease without need", c.Kind)
		case (c.Kind == Hold) != (len(c.Channels) > 0):
			return bad("a %v has channels or lacks them", c.Kind)
		case c.Kind == Unsell && c.Kill == 0:
			return bad("a seat taken back must first stay out of sale")
		case c.Kind != SetKill && c.OldKill != 0, c.Kind != SetKill && c.Kind != Unsell && c.Kill != 0:
			return bad("a %v names a reason to be out of sale", c.Kind)
		}
	}
	if len(seen) > MaxBatchSeats {
		return bad("%d seats are more than %d", len(seen), MaxBatchSeats)
	}
	return nil
}

// Verdict is what a store says about a batch.
type Verdict uint8

// The verdicts. The zero value is Unknown: whoever forgets to say so must not be read as a "no".
const (
	Unknown  Verdict = iota // may have been applied, or may still be
	Applied                 // applied, whole
	Refused                 // not applied and never will be: state, epoch or seats; Outcome has them
	Stale                   // not applied and never will be: the block has another version
	Missing                 // not applied: no such block
	NoEffect                // not applied and never will be: it was not sent
)

var verdictNames = [...]string{"unknown", "applied", "refused", "stale", "missing", "no-effect"}

func (v Verdict) String() string { return verdictNames[v] }

// Outcome is the answer to a batch.
type Outcome struct {
	Verdict Verdict
	// Head as found, after Refused and Stale. After Applied its new Ver, Last and Epoch; State is not said: it is
	// Batch.Set or as it was.
	Head Head
	// Seats are those of the batch as found, after Refused, in any order. They have no Left, and only the fields that the
	// batch's changes set conditions on. A seat of the batch that is not among them does not exist.
	Seats []Seat
}

// BlockSpec is a block to be created: closed, version 1, all seats free.
type BlockSpec struct {
	Epoch int32
	Chart [32]byte
	Seats []SeatSpec // numbered 0, 1, 2, … without holes
}

// SeatSpec is one seat to be created.
type SeatSpec struct{ Channel, Kill int16 }

// Check refuses a block that no store may create.
func (s *BlockSpec) Check() error {
	if len(s.Seats) == 0 || len(s.Seats) > 500 {
		return ErrBadRequest.because("a block of %d seats; 1 to 500 are allowed", len(s.Seats))
	}
	return nil
}

// ReadMode says how fresh a Read must be.
type ReadMode uint8

// The ways to read.
const (
	// ReadRecent sees every batch that was answered before the read began.
	ReadRecent ReadMode = iota
	// ReadSettled also finishes or supersedes batches in flight. It is a round of consensus: one at a time a block.
	ReadSettled
)

// ErrNoBlock is what Read answers for a block that was never created.
var ErrNoBlock = errors.New("inventory: no such block")

// Stock keeps the seats. Implementations are safe for concurrent use; the conformance suite is inventory/stocktest.
type Stock interface {
	// CreateBlock creates a block once. It is idempotent: created is false when the very same block exists already;
	// another one under the same key is ErrConflict. After any other error the block exists wholly or not at all, and
	// the call may be repeated.
	CreateBlock(ctx context.Context, key Key, spec BlockSpec) (created bool, err error)
	// Apply sends one batch. With Unknown and NoEffect comes the error that says why; with the others none.
	Apply(ctx context.Context, key Key, batch Batch) (Outcome, error)
	// Read gives a whole block, or ErrNoBlock.
	Read(ctx context.Context, key Key, mode ReadMode) (Block, error)
}

// Performance is the registry's entry of one performance.
type Performance struct {
	ID         uuid.UUID
	Chart      [32]byte // content hash; Registry.Chart gives the document
	BlockSeats int
	Blocks     int              // number of blocks
	Channels   map[string]int16 // sale channel of each category that is not in channel 0
	ImportedAt time.Time        // when it was registered
	Complete   bool             // every block exists
	Sale       State            // wanted state: Closed, Open, Paused or Draining
	Settled    bool             // every block has been brought to Sale
	Version    int64            // every change adds one; 1 when registered
}

// ErrVersion is what UpdatePerformance answers when the entry has moved on.
var ErrVersion = errors.New("inventory: the performance's entry has another version")

// Registry keeps charts and the list of performances.
type Registry interface {
	// PutChart stores a document under its content hash; storing it again changes nothing.
	PutChart(ctx context.Context, hash [32]byte, document []byte) error
	// Chart gives a document, or ErrNoSuchPerformance.
	Chart(ctx context.Context, hash [32]byte) ([]byte, error)
	// AddPerformance stores an entry unless one exists, and gives the entry that is stored now.
	AddPerformance(ctx context.Context, p Performance) (Performance, error)
	// Performance gives one entry, or ErrNoSuchPerformance.
	Performance(ctx context.Context, id uuid.UUID) (Performance, error)
	// Performances gives all entries, oldest first.
	Performances(ctx context.Context) ([]Performance, error)
	// UpdatePerformance stores Complete, Sale and Settled of p, if the entry still has p.Version, and gives it the next. Else
	// ErrVersion. After any other error the caller reads again.
	UpdatePerformance(ctx context.Context, p Performance) error
}

// Store is a Stock with the Registry beside it. Both adapters are.
type Store interface {
	Stock
	Registry
}
