package line

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

// Ledger is the sealed part of one lane: how many tickets were stamped before each window. It only grows at its end, and a
// sealed window never changes. Bases[w] is the number of tickets stamped before window w; Bases has one more entry
// than there are sealed windows, so Bases[w+1]-Bases[w] is window w's count. The zero value holds no window.
//
// A Ledger value is immutable: Append returns a new one, which shares memory with the receiver when nobody has appended to the
// receiver before. Values may be read and appended to from several goroutines.
type Ledger struct {
	bases []uint64
	used  *atomic.Int64 // entries of the shared array that some Ledger value owns
}

// Sealed is the number of sealed windows: windows [0, Sealed) have a base.
func (l Ledger) Sealed() Window {
	if len(l.bases) == 0 {
		return 0
	}
	return Window(len(l.bases) - 1)
}

// Total is the number of tickets in all sealed windows.
func (l Ledger) Total() uint64 {
	if len(l.bases) == 0 {
		return 0
	}
	return l.bases[len(l.bases)-1]
}

// Window returns the base and the count of window w; ok is false when it is not sealed yet. A base that is not there is
// "not yet", never a number.
func (l Ledger) Window(w Window) (base, count uint64, ok bool) {
	if w >= l.Sealed() {
		return 0, 0, false
	}
	return l.bases[w], l.bases[w+1] - l.bases[w], true
}

// Before is the number of tickets stamped before window w; ok is false while some window before w is not sealed.
func (l Ledger) Before(w Window) (n uint64, ok bool) {
	if w > l.Sealed() {
		return 0, false
	}
	if len(l.bases) == 0 {
		return 0, true
	}
	return l.bases[w], true
}

// Append seals the next len(counts) windows with the given counts. The receiver stays valid. Appending to the newest value costs
// amortised O(len(counts)); appending to an older one copies.
func (l Ledger) Append(counts ...uint64) Ledger {
	if len(counts) == 0 {
		return l
	}
	n := len(l.bases)
	if n == 0 {
		l = Ledger{bases: make([]uint64, 1, 64+len(counts)), used: new(atomic.Int64)}
		l.used.Store(1)
		n = 1
	}
	grown := n + len(counts)
	if grown > cap(l.bases) || !l.used.CompareAndSwap(int64(n), int64(grown)) {
		fresh := make([]uint64, n, max(grown, n+n/2, 64))
		copy(fresh, l.bases)
		l = Ledger{bases: fresh, used: new(atomic.Int64)}
		l.used.Store(int64(grown))
	}
	b, total := l.bases, l.bases[n-1]
	for _, c := range counts {
		total += c
		b = append(b, total) // within capacity: entries from n on belong to this call alone
	}
	return Ledger{bases: b, used: l.used}
}

// Counts returns the counts of windows [from, to), clipped to what is sealed.
func (l Ledger) Counts(from, to Window) []uint64 {
	to = min(to, l.Sealed())
	if from >= to {
		return nil
	}
	out := make([]uint64, 0, to-from)
	for w := from; w < to; w++ {
		out = append(out, l.bases[w+1]-l.bases[w])
	}
	return out
}

// AppendChunk encodes chunk c (windows c*600 to c*600+599, as far as they are sealed): the base at the chunk's first window,
// then the base after each of its sealed windows, 8 bytes big-endian each. Nothing is appended for a chunk with no sealed window.
func (l Ledger) AppendChunk(dst []byte, c uint32) []byte {
	from := uint64(c) * ChunkWindows
	if from >= uint64(l.Sealed()) {
		return dst
	}
	to := min(from+ChunkWindows, uint64(l.Sealed()))
	for _, b := range l.bases[from : to+1] {
		dst = binary.BigEndian.AppendUint64(dst, b)
	}
	return dst
}

// AppendChunkBytes continues the ledger with an encoded chunk, which must be the next one and begin with the ledger's own
// total. It refuses bases that shrink, odd lengths and more than one chunk.
func (l Ledger) AppendChunkBytes(chunk []byte) (Ledger, error) {
	n := len(chunk) / 8
	if len(chunk)%8 != 0 || n < 2 || n > ChunkWindows+1 {
		return l, fmt.Errorf("ledger chunk: %d bytes, want a multiple of 8 from 16 to %d", len(chunk), 8*(ChunkWindows+1))
	}
	if got, want := binary.BigEndian.Uint64(chunk), l.Total(); got != want {
		return l, fmt.Errorf("ledger chunk: starts at base %d, want %d", got, want)
	}
	counts := make([]uint64, 0, n-1)
	prev := binary.BigEndian.Uint64(chunk)
	for i := 1; i < n; i++ {
		next := binary.BigEndian.Uint64(chunk[8*i:])
		if next < prev {
			return l, fmt.Errorf("ledger chunk: base %d at entry %d is below %d", next, i, prev)
		}
		counts = append(counts, next-prev)
		prev = next
	}
	return l.Append(counts...), nil
}

// SealChain continues a line's seal chain over windows [from, to): each window is one link, a hash over the previous link, the
// line, the window and each lane's count in it. The chain therefore depends on the ledger alone, not on how many windows were sealed at a
// time: two ledgers with the same last link are the same ledger. counts holds to-from entries per lane. A chain starts from the zero link.
func SealChain(prev [32]byte, id ID, from, to Window, counts [][]uint64) [32]byte {
	b := make([]byte, 0, 80+10*len(counts))
	for w := from; w < to; w++ {
		b = appendString(b[:0], tagSeal)
		b = appendField(b, prev[:])
		b = appendField(b, id[:])
		b = appendU32(b, uint32(w))
		for _, lane := range counts {
			if i := int(w - from); i < len(lane) { // a count that is missing makes another link than any count
				b = appendU64(b, lane[i])
			}
		}
		prev = sha256.Sum256(b)
	}
	return prev
}

// Opening is what ranks depend on beside the ledger: where the lobby ends and what the draw gave. Lobby windows are those
// before LobbyEnd; a line without a lobby has LobbyEnd 0.
type Opening struct {
	Room       string
	Line       ID
	LobbyEnd   Window
	Drawn      bool // false: lobby places are not known yet
	Round      uint64
	Randomness []byte
}

// Rank is a ticket's place in its lane, counted from 0; ok is false while it cannot be known ("not yet"). Lobby tickets are
// ordered by their draw score over the lane's sealed lobby count; later ones by window, and inside a window by a hash of the
// stamp, so numbers inside one window may be shared. A ticket whose row came too late uses the sealed count.
func Rank(o Opening, l Ledger, s Stamp, who Who) (rank uint64, ok bool) {
	if s.Win < o.LobbyEnd {
		n, sealed := l.Before(o.LobbyEnd)
		if !sealed || !o.Drawn {
			return NoRank, false
		}
		return Hi64(DrawScore(o.Room, o.Line, o.Round, o.Randomness, who), n), true
	}
	base, count, ok := l.Window(s.Win)
	if !ok {
		return NoRank, false
	}
	return base + Hi64(windowOrder(s.Inc, s.Seq), count), true
}
