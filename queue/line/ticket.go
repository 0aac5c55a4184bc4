package line

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"
)

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

// Errors of Tickets.Parse and NewTickets; test with errors.Is.
var (
	ErrTicketMalformed = errors.New("ticket is malformed")
	ErrTicketKey       = errors.New("ticket is signed by an unknown key")
	ErrTicketForged    = errors.New("ticket signature does not match")
	ErrTicketRing      = errors.New("ticket key ring is unusable")
)

// The frozen ticket layout, version 1. All integers are big-endian.
const (
	ticketVersion = 1

	atVersion  = 0
	atKID      = 1
	atLane     = 2
	atFlags    = 3
	atWhoKind  = 4
	atLine     = 5
	atWho      = 21
	atKey      = 37
	atWin      = 53
	atInc      = 57
	atSeq      = 65
	atIssued   = 69
	atRank     = 73
	ticketBody = 81
	ticketMAC  = 16
	ticketLen  = ticketBody + ticketMAC

	// TicketChars is the length of every ticket as text: 97 bytes in unpadded base64url.
	TicketChars = (ticketLen*8 + 5) / 6

	flagCoarse    = 0x01
	flagDoorShift = 1
	flagDoorMask  = 0x06
	flagsKnown    = flagCoarse | flagDoorMask
)

var ticketText = base64.RawURLEncoding.Strict() // one text per ticket: trailing bits must be zero

// TicketKey is one HMAC-SHA256 key of the ticket ring. KID 0 is not used.
type TicketKey struct {
	KID    uint8
	Secret []byte // 32 bytes
}

// Tickets signs and checks the tickets of one room with a ring of keys: the first signs, all verify. It is immutable and
// safe for concurrent use; rotation makes a new ring.
type Tickets struct {
	room  string
	byKID [256]*ticketMACs
	sign  uint8
}

// NewTickets makes the ring of one room. The first key signs. It refuses an empty ring, key id 0, a key id used twice and
// secrets that are not 32 bytes with ErrTicketRing.
func NewTickets(room string, ring ...TicketKey) (*Tickets, error) {
	if len(ring) == 0 {
		return nil, fmt.Errorf("%w: it holds no key", ErrTicketRing)
	}
	t := &Tickets{room: room, sign: ring[0].KID}
	for _, k := range ring {
		switch {
		case k.KID == 0:
			return nil, fmt.Errorf("%w: key id 0 is reserved", ErrTicketRing)
		case t.byKID[k.KID] != nil:
			return nil, fmt.Errorf("%w: key id %d appears twice", ErrTicketRing, k.KID)
		case len(k.Secret) != sha256.Size:
			return nil, fmt.Errorf("%w: key %d has %d bytes, want %d", ErrTicketRing, k.KID, len(k.Secret), sha256.Size)
		}
		t.byKID[k.KID] = newTicketMACs(room, k.Secret)
	}
	return t, nil
}

// Room is the room these tickets belong to.
func (ts *Tickets) Room() string { return ts.room }

// Issue signs a ticket. The result has TicketChars characters and needs no escaping in cookies, URLs or JSON.
func (ts *Tickets) Issue(t Ticket) string {
	var raw [ticketLen]byte
	raw[atVersion] = ticketVersion
	raw[atKID] = ts.sign
	raw[atLane] = t.Lane
	if t.Coarse {
		raw[atFlags] |= flagCoarse
	}
	raw[atFlags] |= uint8(t.Door) << flagDoorShift & flagDoorMask
	raw[atWhoKind] = uint8(t.WhoKind)
	copy(raw[atLine:], t.Line[:])
	copy(raw[atWho:], t.Who[:])
	copy(raw[atKey:], t.Key[:])
	binary.BigEndian.PutUint32(raw[atWin:], uint32(t.Stamp.Win))
	binary.BigEndian.PutUint64(raw[atInc:], uint64(t.Stamp.Inc))
	binary.BigEndian.PutUint32(raw[atSeq:], t.Stamp.Seq)
	binary.BigEndian.PutUint32(raw[atIssued:], t.IssuedAt)
	binary.BigEndian.PutUint64(raw[atRank:], t.Rank)
	ts.byKID[ts.sign].sum(raw[ticketBody:], raw[:ticketBody])

	var text [TicketChars]byte
	ticketText.Encode(text[:], raw[:])
	return string(text[:])
}

// Parse checks a ticket's signature and reads it. Exactly one text is accepted for each ticket. Errors are ErrTicketMalformed,
// ErrTicketKey or ErrTicketForged; a ticket of another room is forged. The usual case allocates nothing.
func (ts *Tickets) Parse(text string) (Ticket, error) {
	if len(text) != TicketChars {
		return Ticket{}, ErrTicketMalformed
	}
	var raw [ticketLen]byte
	var src [TicketChars]byte
	copy(src[:], text)
	if n, err := ticketText.Decode(raw[:], src[:]); err != nil || n != ticketLen || raw[atVersion] != ticketVersion {
		return Ticket{}, ErrTicketMalformed // n is short when the text holds line breaks, which the decoder skips
	}
	key := ts.byKID[raw[atKID]]
	if key == nil {
		return Ticket{}, ErrTicketKey
	}
	var want [ticketMAC]byte
	key.sum(want[:], raw[:ticketBody])
	if subtle.ConstantTimeCompare(want[:], raw[ticketBody:]) != 1 {
		return Ticket{}, ErrTicketForged
	}
	return readTicket(&raw)
}

// PeekTicket reads a ticket without checking its signature, as anybody can: good for computing a place, never for trusting one.
func PeekTicket(text string) (Ticket, error) {
	if len(text) != TicketChars {
		return Ticket{}, ErrTicketMalformed
	}
	var raw [ticketLen]byte
	if n, err := ticketText.Decode(raw[:], []byte(text)); err != nil || n != ticketLen || raw[atVersion] != ticketVersion {
		return Ticket{}, ErrTicketMalformed
	}
	return readTicket(&raw)
}

func readTicket(raw *[ticketLen]byte) (Ticket, error) {
	flags := raw[atFlags]
	t := Ticket{
		Lane:    raw[atLane],
		WhoKind: WhoKind(raw[atWhoKind]),
		Coarse:  flags&flagCoarse != 0,
		Door:    Door(flags & flagDoorMask >> flagDoorShift),
		Stamp: Stamp{
			Win: Window(binary.BigEndian.Uint32(raw[atWin:])),
			Inc: Incarnation(binary.BigEndian.Uint64(raw[atInc:])),
			Seq: binary.BigEndian.Uint32(raw[atSeq:]),
		},
		IssuedAt: binary.BigEndian.Uint32(raw[atIssued:]),
		Rank:     binary.BigEndian.Uint64(raw[atRank:]),
	}
	copy(t.Line[:], raw[atLine:])
	copy(t.Who[:], raw[atWho:])
	copy(t.Key[:], raw[atKey:])
	if flags&^flagsKnown != 0 || t.Door > DoorLate || t.WhoKind > WhoPrivate {
		return Ticket{}, ErrTicketMalformed
	}
	return t, nil
}

// ticketMACs computes one key's MACs. Keyed hash states and their buffers are pooled, because making one costs four
// allocations and two hash blocks, and an edge checks a ticket on every poll.
type ticketMACs struct{ pool sync.Pool }

type ticketMACState struct {
	h   hash.Hash
	buf []byte // the message's fixed start, then room for body and sum
	pre int
}

func newTicketMACs(room string, secret []byte) *ticketMACs {
	secret = append([]byte(nil), secret...)
	prefix := appendString(appendString(nil, tagTicket), room)
	m := &ticketMACs{}
	m.pool.New = func() any {
		buf := make([]byte, 0, len(prefix)+2+ticketBody+sha256.Size)
		return &ticketMACState{h: hmac.New(sha256.New, secret), buf: append(buf, prefix...), pre: len(prefix)}
	}
	return m
}

// sum writes the first len(dst) bytes of the MAC over body.
func (m *ticketMACs) sum(dst, body []byte) {
	s := m.pool.Get().(*ticketMACState)
	msg := appendField(s.buf[:s.pre], body)
	s.h.Reset()
	s.h.Write(msg)
	copy(dst, s.h.Sum(msg)[len(msg):])
	m.pool.Put(s)
}

// RoomKey derives the key that turns a line's stamps into session ids (see NewSessionID): HKDF-SHA256 of the room master key,
// 32 bytes or more, over room and line. It stays the same for the whole life of the line, or one stamp would become two sessions.
func RoomKey(master []byte, room string, id ID) ([]byte, error) {
	if len(master) < sha256.Size {
		return nil, fmt.Errorf("derive room key: master key has %d bytes, want at least %d", len(master), sha256.Size)
	}
	info := appendString(nil, tagRoomKey)
	info = appendString(info, room)
	info = appendField(info, id[:])
	key, err := hkdf.Key(sha256.New, master, nil, string(info), sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive room key: %w", err)
	}
	return key, nil
}
