package line

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// Hash inputs are frozen: the tag, then each field, each preceded by its length as a big-endian u16; integers are
// fixed-width big-endian. Lengths make the encoding injective, tags keep one use from being replayed as another.
const (
	tagWindowOrder = "window-order1"
	tagDraw        = "draw1"
	tagSession     = "session1"
	tagWho         = "who1"
	tagTicket      = "ticket1"
	tagSeal        = "seal1"
	tagRecord      = "record1"
	tagAmendment   = "amendment1"
	tagRoomKey     = "room-key1"
)

// appendField appends one length-prefixed field. Fields are short by construction; a longer one is cut nowhere but
// refused by the callers that accept outside input.
func appendField(dst, field []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(field)))
	return append(dst, field...)
}

func appendString(dst []byte, field string) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(field)))
	return append(dst, field...)
}

func appendU64(dst []byte, v uint64) []byte {
	dst = binary.BigEndian.AppendUint16(dst, 8)
	return binary.BigEndian.AppendUint64(dst, v)
}

func appendU32(dst []byte, v uint32) []byte {
	dst = binary.BigEndian.AppendUint16(dst, 4)
	return binary.BigEndian.AppendUint32(dst, v)
}

func appendU8(dst []byte, v uint8) []byte { return append(dst, 0, 1, v) }

func first8(sum [32]byte) uint64 { return binary.BigEndian.Uint64(sum[:8]) }

// windowOrder is the position of a stamp among those of its window, as a fraction of 2^64.
func windowOrder(inc Incarnation, seq uint32) uint64 {
	var buf [48]byte
	b := appendString(buf[:0], tagWindowOrder)
	b = appendU64(b, uint64(inc))
	b = appendU32(b, seq)
	return first8(sha256.Sum256(b))
}

// DrawScore is the lot a holder draws in a lobby, as a fraction of 2^64: the first 8 bytes of a hash over the public
// randomness and `who`. All tickets of one holder have one score, so a hundred tickets have the odds of one.
func DrawScore(room string, id ID, round uint64, randomness []byte, who Who) uint64 {
	var buf [160]byte
	b := appendString(buf[:0], tagDraw)
	b = appendString(b, room)
	b = appendField(b, id[:])
	b = appendU64(b, round)
	b = appendField(b, randomness)
	b = appendField(b, who[:])
	return first8(sha256.Sum256(b))
}

// Who is the hash of the scarce thing that stands behind a ticket (account, code, invited key, solved work); random where
// nothing scarce is asked for. A line honours one claim per Who.
type Who [16]byte

// WhoKind says what a Who was made of.
type WhoKind uint8

// The kinds of holder, in the order of the frozen ticket format.
const (
	WhoNone    WhoKind = 0 // nothing scarce: 16 random bytes
	WhoAccount WhoKind = 1 // the `sub` of a verified account token
	WhoInvite  WhoKind = 2 // an invite or presale code from the room's list
	WhoWork    WhoKind = 3 // a solved challenge
	WhoPrivate WhoKind = 4 // a private access token
)

// HashWho makes the holder's hash from the scarce value. It is bound to the room, so that holders of two rooms cannot be
// matched by their tickets.
func HashWho(room string, kind WhoKind, value string) (w Who) {
	b := appendString(nil, tagWho)
	b = appendString(b, room)
	b = appendU8(b, uint8(kind))
	inner := sha256.Sum256([]byte(value)) // bounds the field whatever the value's length
	b = appendField(b, inner[:])
	sum := sha256.Sum256(b)
	copy(w[:], sum[:16])
	return w
}

// NewSessionID derives the one session a stamp can become: the first 16 bytes of HMAC-SHA256 under the room's key, which
// never changes within a line.
func NewSessionID(roomKey []byte, id ID, inc Incarnation, seq uint32) (s SessionID) {
	var buf [64]byte
	b := appendString(buf[:0], tagSession)
	b = appendField(b, id[:])
	b = appendU64(b, uint64(inc))
	b = appendU32(b, seq)
	m := hmac.New(sha256.New, roomKey)
	m.Write(b)
	copy(s[:], m.Sum(nil))
	return s
}
