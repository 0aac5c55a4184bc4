package line

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"math/big"
)

// This file is a second implementation of the frozen formats, written from docs/reference/formats.md and sharing nothing with
// the package but its types. It is slow and plain on purpose: where the two disagree, one of them has left the document.

func secondField(b []byte) []byte {
	return append([]byte{byte(len(b) / 256), byte(len(b) % 256)}, b...)
}

func secondInt(v uint64, width int) []byte {
	b := make([]byte, width)
	new(big.Int).SetUint64(v).FillBytes(b)
	return b
}

func secondHash(fields ...[]byte) []byte {
	var msg []byte
	for _, f := range fields {
		msg = append(msg, secondField(f)...)
	}
	sum := sha256.Sum256(msg)
	return sum[:]
}

// secondHMAC follows RFC 2104 letter by letter.
func secondHMAC(key, msg []byte) []byte {
	if len(key) > 64 {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	inner, outer := bytes.Repeat([]byte{0x36}, 64), bytes.Repeat([]byte{0x5c}, 64)
	for i, k := range key {
		inner[i] ^= k
		outer[i] ^= k
	}
	in := sha256.Sum256(append(inner, msg...))
	out := sha256.Sum256(append(outer, in[:]...))
	return out[:]
}

// secondScale is floor(hash * n / 2^64), for a hash of which the first 8 bytes count.
func secondScale(hash []byte, n uint64) uint64 {
	product := new(big.Int).Mul(new(big.Int).SetBytes(hash[:8]), new(big.Int).SetUint64(n))
	return product.Rsh(product, 64).Uint64()
}

// secondRank takes the counts of the sealed windows themselves, not a ledger.
func secondRank(o Opening, counts []uint64, s Stamp, who Who) (uint64, bool) {
	before := func(w Window) (n uint64) {
		for _, c := range counts[:w] {
			n += c
		}
		return n
	}
	if s.Win < o.LobbyEnd {
		if !o.Drawn || int(o.LobbyEnd) > len(counts) {
			return 0, false
		}
		return secondScale(secondScore(o.Room, o.Line, o.Round, o.Randomness, who), before(o.LobbyEnd)), true
	}
	if int(s.Win) >= len(counts) {
		return 0, false
	}
	h := secondHash([]byte("window-order1"), secondInt(uint64(s.Inc), 8), secondInt(uint64(s.Seq), 4))
	return before(s.Win) + secondScale(h, counts[s.Win]), true
}

func secondScore(room string, id ID, round uint64, randomness []byte, who Who) []byte {
	return secondHash([]byte("draw1"), []byte(room), id[:], secondInt(round, 8), randomness, who[:])[:8]
}

func secondWho(room string, kind WhoKind, value string) []byte {
	inner := sha256.Sum256([]byte(value))
	return secondHash([]byte("who1"), []byte(room), []byte{byte(kind)}, inner[:])[:16]
}

// secondRoomKey is HKDF-SHA256 (RFC 5869) with no salt and one block of output.
func secondRoomKey(master []byte, room string, id ID) []byte {
	prk := secondHMAC(make([]byte, 32), master)
	info := append(append(secondField([]byte("room-key1")), secondField([]byte(room))...), secondField(id[:])...)
	return secondHMAC(prk, append(info, 1))
}

func secondSession(roomKey []byte, id ID, inc Incarnation, seq uint32) []byte {
	msg := secondField([]byte("session1"))
	msg = append(msg, secondField(id[:])...)
	msg = append(msg, secondField(secondInt(uint64(inc), 8))...)
	msg = append(msg, secondField(secondInt(uint64(seq), 4))...)
	return secondHMAC(roomKey, msg)[:16]
}

func secondTicket(room string, kid uint8, secret []byte, t Ticket) string {
	flags := byte(0)
	if t.Coarse {
		flags = 1
	}
	flags += 2 * byte(t.Door)
	body := []byte{1, kid, t.Lane, flags, byte(t.WhoKind)}
	for _, part := range [][]byte{
		t.Line[:], t.Who[:], t.Key[:], secondInt(uint64(t.Stamp.Win), 4), secondInt(uint64(t.Stamp.Inc), 8),
		secondInt(uint64(t.Stamp.Seq), 4), secondInt(uint64(t.IssuedAt), 4), secondInt(t.Rank, 8),
	} {
		body = append(body, part...)
	}
	msg := append(append(secondField([]byte("ticket1")), secondField([]byte(room))...), secondField(body)...)
	return base64.RawURLEncoding.EncodeToString(append(body, secondHMAC(secret, msg)[:16]...))
}

func secondChain(id ID, counts [][]uint64) string {
	link := make([]byte, 32)
	for w := range counts[0] {
		fields := [][]byte{[]byte("seal1"), link, id[:], secondInt(uint64(w), 4)}
		for _, lane := range counts {
			fields = append(fields, secondInt(lane[w], 8))
		}
		link = secondHash(fields...)
	}
	return hex.EncodeToString(link)
}
