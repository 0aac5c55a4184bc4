package line

import (
	"errors"
	"time"
)

// This file holds what an edge asks a room's agent and what it is told: the vocabulary both exchange.

// View is one room as an edge sees it at one moment. It is immutable; a newer one replaces it every 100 ms or less.
type View struct {
	Room      string
	Line      ID
	Phase     Phase
	Open      bool // an arriving fan may try to enter at once
	Bypass    bool // admit-all: the room is switched off by an operator
	Closed    bool // after_outage=closed has taken effect
	Stale     bool // the store has not answered for 3 s or more
	Status    Status
	StatusRaw []byte // Status as JSON; server_time is that of the store's answer it was made from
	ETag      string
	StoreMs   int64 // store time of this view, Unix milliseconds

	// IdleS and StayMaxS are the lease lengths in force, in seconds.
	IdleS, StayMaxS int
}

// JoinRequest asks for a place. Ticket is the fan's own ticket, if any: then it is returned and nothing is stamped.
type JoinRequest struct {
	Ticket  string
	Lane    string // name; empty: the first lane
	Group   string // client network, for the limits of the door ("203.0.113.0/24")
	Invite  string
	Account string // `sub` of an account token the edge has verified
	Work    string
	Key     [16]byte // hash of the fan's public key, or zero
	Admit   bool     // the fan may be let in at once when the room is open
}

// Place is a fan's situation. Rank and Ahead are valid when Known.
type Place struct {
	Ticket string // to be kept by the fan; may be newer than the one sent
	State  State
	Known  bool
	Rank   uint64
	Ahead  uint64
	Lane   string
	Sample bool // this ticket is one of those asked to call `place` each minute
	Pass   *Grant
}

// State is a fan's state as JSON and pages call it.
type State string

// The states of a fan.
const (
	StateLobby    State = "lobby"
	StateWaiting  State = "waiting"
	StateCalled   State = "called"
	StateAdmitted State = "admitted"
)

// Grant is an admission: the pass and what it means.
type Grant struct {
	Pass      string
	Session   SessionID
	ExpiresAt time.Time
	StayUntil time.Time
}

// Refusal says why a request for a place or a pass was not met. Its Code is the stable word of the HTTP contract.
type Refusal struct {
	Code       RefusalCode
	Ahead      uint64        // with RefusedEarly
	RetryAfter time.Duration // zero: retrying cannot help
	Detail     string        // one sentence for a person; never holds a secret
	Ticket     string        // the ticket to keep, when it changed (its door state)
}

// Error implements error.
func (r *Refusal) Error() string { return "room refused: " + string(r.Code) + ": " + r.Detail }

// RefusalCode is the last part of a problem type.
type RefusalCode string

// The refusals of the room endpoints.
const (
	RefusedEarly    RefusalCode = "not-called"     // 409
	RefusedFull     RefusalCode = "room-full"      // 409
	RefusedMoment   RefusalCode = "one-moment"     // 503: rate, late budget, paused, replication, stale store, parking full
	RefusedShare    RefusalCode = "share"          // 429
	RefusedHolder   RefusalCode = "holder-used"    // 403
	RefusedSpent    RefusalCode = "place-spent"    // 410
	RefusedLineOver RefusalCode = "line-over"      // 410
	RefusedTicket   RefusalCode = "ticket-invalid" // 400
	RefusedInvite   RefusalCode = "invite-invalid" // 403
	RefusedAccount  RefusalCode = "account-needed" // 401
	RefusedWork     RefusalCode = "work-invalid"   // 403
	RefusedLane     RefusalCode = "no-such-lane"   // 422
	RefusedKeyProof RefusalCode = "key-proof"      // 403
	RefusedNotOpen  RefusalCode = "not-open"       // 409: enter refused, take a place instead
	RefusedClosed   RefusalCode = "room-closed"    // 410: ended, sold out
)

// AsRefusal finds the refusal in an error.
func AsRefusal(err error) (*Refusal, bool) {
	var r *Refusal
	ok := errors.As(err, &r)
	return r, ok
}

// ClaimRequest asks to be let in with a called ticket.
type ClaimRequest struct {
	Ticket string
	Group  string
	Proof  string // key proof for key-bound tickets
	Wait   bool   // may be parked at the door for up to 8 s
}

// Use is what a room's agent says about a request that carries a pass.
type Use struct {
	Alive   bool   // the session lives as far as this edge knows; false with Ended false: not known here, judge by the pass alone
	Ended   bool   // the session is over although its pass may not have run out
	Renewed *Grant // a fresh pass to hand to the fan, when the lease has grown
}
