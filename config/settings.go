package config

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Settings keeps each room's settings document, versioned and audited. Implementations: sqlitesettings (embedded) and
// consulkv; settingstest holds what both must do. All methods may be used from many goroutines.
type Settings interface {
	// Get returns the current document and its version. ErrNoSettings: the room has none yet.
	Get(ctx context.Context, room string) (doc []byte, version string, err error)

	// Put stores doc (JSON) if the current version is ifVersion ("" for a room that has none yet) and returns the new one;
	// otherwise it changes nothing and returns ErrConflict. White space outside of texts may be lost. who and why (1 to 1,000 bytes each) go into the audit row.
	// An error other than ErrConflict and ErrInvalid leaves open whether the document was stored: Get again.
	Put(ctx context.Context, room string, doc []byte, ifVersion, who, why string) (version string, err error)

	// Watch calls changed with the current document of every room, then with each newer one, in order of version per
	// room; versions in between may be skipped. While the store cannot be reached it keeps silent and tries again; the
	// caller goes on with the last good document. It returns when ctx ends, with ctx's error.
	Watch(ctx context.Context, changed func(room string, doc []byte, version string)) error

	// History lists the versions of a room's document, newest first, at most limit (1 to 1,000). At least the last 100
	// are kept.
	History(ctx context.Context, room string, limit int) ([]Revision, error)
}

// Revision is one stored version of a settings document.
type Revision struct {
	Room    string
	Version string
	Doc     []byte
	Who     string
	Why     string
	At      time.Time
}

// Errors of Settings.
var (
	ErrNoSettings = errors.New("room has no settings document")
	ErrConflict   = errors.New("settings document was changed meanwhile")
	ErrInvalid    = errors.New("settings document refused")
)

// CheckPut refuses what no implementation of Settings stores: the error wraps ErrInvalid and says why.
func CheckPut(room string, doc []byte, who, why string) error {
	if !formats["name"].ok(room) {
		return fmt.Errorf("%w: room %s: allowed are %s", ErrInvalid, show(room), formats["name"].words)
	}
	for _, text := range []struct{ name, value string }{{"who", who}, {"why", why}} {
		if n := len(text.value); n < 1 || n > 1000 || !isUTF8(text.value) {
			return fmt.Errorf("%w: %s has %d bytes; allowed are 1 to 1000 of UTF-8", ErrInvalid, text.name, n)
		}
	}
	if !json.Valid(doc) {
		return fmt.Errorf("%w: it is not JSON", ErrInvalid)
	}
	if _, err := ParseRoom(room, doc); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}
