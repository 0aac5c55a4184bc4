package line

import "errors"

// Door says how a ticket's holder first came to the door after being called.
type Door uint8

// The door states of the frozen ticket format.
const (
	DoorNever  Door = 0 // has not come yet
	DoorInTime Door = 1 // came within the grace period
	DoorLate   Door = 2 // came after it: served through the late budget
)

// Ticket is a fan's signed place in line. Waiting fans are stored nowhere else: everything their place depends on travels in
// the ticket. A ticket is bound to its room by the signature.
type Ticket struct {
	Line     ID
	Lane     uint8 // index into the record's lanes
	Stamp    Stamp
	Who      Who
	WhoKind  WhoKind
	Coarse   bool     // stamped while the edge's clock was uncertain by more than a window
	Key      [16]byte // hash of the fan's public key, zero when the ticket is not key-bound
	IssuedAt uint32   // Unix seconds
	Rank     uint64   // NoRank until the window is sealed; a hint only, never trusted over the ledger
	Door     Door
}

// Errors of Tickets.Parse; test with errors.Is.
var (
	ErrTicketMalformed = errors.New("ticket is malformed")
	ErrTicketKey       = errors.New("ticket is signed by an unknown key")
	ErrTicketForged    = errors.New("ticket signature does not match")
)

// TicketKey is one HMAC-SHA256 key of the ticket ring. KID 0 is not used.
type TicketKey struct {
	KID    uint8
	Secret []byte // 32 bytes
}

// Tickets signs and checks tickets with a ring of keys: the first signs, all verify. It is immutable and safe for concurrent
// use; rotation makes a new ring.
type Tickets struct {
	byKID [256][]byte
	sign  uint8
}
