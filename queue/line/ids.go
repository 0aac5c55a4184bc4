package line

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
)

// WindowMs is the length of a window in milliseconds of store time. Frozen.
const WindowMs = 100

// ChunkWindows is how many consecutive windows one ledger chunk holds (one minute). Frozen.
const ChunkWindows = 600

// NoRank marks a ticket whose window has not been sealed yet. It is never a place.
const NoRank = ^uint64(0)

// ID names a line: the order of one room and one opening. It is 16 random bytes drawn when the line is created.
type ID [16]byte

// IsZero reports whether the id is unset.
func (id ID) IsZero() bool { return id == ID{} }

// String is the id in 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error { return unhex("line id", id[:], b) }

// ParseID reads 32 hexadecimal digits.
func ParseID(s string) (id ID, err error) {
	err = id.UnmarshalText([]byte(s))
	return id, err
}

// SessionID names one admitted fan's session. It is a function of the stamp (see NewSessionID), so one ticket can only
// ever become one session, whichever edge admits it.
type SessionID [16]byte

// String is the id in unpadded base64url, 22 characters: the `sub` of a pass.
func (s SessionID) String() string { return base64.RawURLEncoding.EncodeToString(s[:]) }

// MarshalText implements encoding.TextMarshaler.
func (s SessionID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *SessionID) UnmarshalText(b []byte) error {
	id, err := ParseSessionID(string(b))
	*s = id
	return err
}

// ParseSessionID reads the `sub` of a pass.
func ParseSessionID(s string) (id SessionID, err error) {
	if len(s) != 22 {
		return id, fmt.Errorf("session id: %d characters, want 22", len(s))
	}
	n, err := base64.RawURLEncoding.Strict().Decode(id[:], []byte(s))
	if err != nil {
		return SessionID{}, fmt.Errorf("session id: %w", err)
	}
	if n != len(id) { // the decoder skips line breaks
		return SessionID{}, errors.New("session id: want base64url alone")
	}
	return id, nil
}

// Incarnation is 64 random bits that an edge process draws when it starts; it names the edge in the store and makes its
// stamps unique without asking anyone. Zero is never drawn.
type Incarnation uint64

// String is the incarnation in 16 hexadecimal digits.
func (i Incarnation) String() string { return fmt.Sprintf("%016x", uint64(i)) }

// Window counts 100 ms steps of store time from the line record's epoch.
type Window uint32

// WindowAt is the window that holds store time nowMs, both in Unix milliseconds. Times before the epoch are window 0.
func WindowAt(epochMs, nowMs int64) Window {
	d := nowMs - epochMs
	if d < 0 {
		return 0
	}
	return Window(min(d/WindowMs, int64(^Window(0))))
}

// StartMs is the store time, in Unix milliseconds, at which the window begins.
func (w Window) StartMs(epochMs int64) int64 { return epochMs + int64(w)*WindowMs }

// Stamp is a ticket's identity inside its line. It says when (Win) and who stamped (Inc, Seq); (Inc, Seq) alone is unique.
type Stamp struct {
	Win Window
	Inc Incarnation
	Seq uint32
}

// Hi64 is the upper half of the 128-bit product of two unsigned integers: it scales a uniform 64-bit hash to [0, n).
func Hi64(a, b uint64) uint64 {
	hi, _ := bits.Mul64(a, b)
	return hi
}

func unhex(what string, dst, src []byte) error {
	if len(src) != 2*len(dst) {
		return fmt.Errorf("%s: %d characters, want %d", what, len(src), 2*len(dst))
	}
	for _, c := range src { // one text per id: no capitals
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("%s: %q is not a hexadecimal digit (0-9, a-f)", what, c)
		}
	}
	if _, err := hex.Decode(dst, src); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
