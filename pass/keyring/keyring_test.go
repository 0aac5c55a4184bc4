package keyring

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue/line"
)

var start = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string, now time.Time) *Ring {
	t.Helper()
	r, err := Load(dir, Options{Now: now, Keep: time.Hour, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCreateThenLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	if _, err := Load(dir, Options{Now: start}); !errors.Is(err, ErrMissing) {
		t.Fatalf("without create: %v, want ErrMissing", err)
	}
	made := open(t, dir, start)
	again, err := Load(dir, Options{Now: start.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if !again.Record.Equal(made.Record) || !again.Entry.Equal(made.Entry) || string(again.RoomMaster) != string(made.RoomMaster) {
		t.Error("the second load found other keys")
	}
	if made.Record.Equal(made.Entry) {
		t.Error("two keys are the same")
	}
	if _, err := line.NewTickets("onsale", made.Tickets...); err != nil {
		t.Error(err)
	}
	keys, err := pass.NewKeys(made.Pass...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Sign(pass.Claims{Issuer: "i", Room: "r", Session: "s", IssuedAt: start, ExpiresAt: start.Add(time.Minute), StayUntil: start.Add(time.Hour)}); err != nil {
		t.Errorf("a fresh key does not sign at once: %v", err)
	}
}

// Nodes that start together on one directory end with the same keys.
func TestConcurrentCreate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	rings := make([]*Ring, 8)
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() {
			r, err := Load(dir, Options{Now: start, Create: true})
			if err != nil {
				t.Error(err)
			}
			rings[i] = r
		})
	}
	wg.Wait()
	for _, r := range rings[1:] {
		if r == nil || !r.Record.Equal(rings[0].Record) || string(r.Tickets[0].Secret) != string(rings[0].Tickets[0].Secret) {
			t.Fatal("two nodes made different keys")
		}
	}
}

func TestRotate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first := open(t, dir, start)
	day := start.Add(24 * time.Hour)
	if err := Rotate(dir, day); err != nil {
		t.Fatal(err)
	}
	before := open(t, dir, day.Add(pass.PublishLead-time.Second))
	if before.Tickets[0].KID != first.Tickets[0].KID || len(before.Tickets) != 2 || len(before.Pass) != 2 {
		t.Errorf("a key signs before it was published for %v: %+v", pass.PublishLead, before.Tickets)
	}
	after := open(t, dir, day.Add(pass.PublishLead))
	if after.Tickets[0].KID == first.Tickets[0].KID {
		t.Error("the new ticket key does not sign after its time has come")
	}
	if !after.Pass[1].SignsFrom.Equal(day.Add(pass.PublishLead)) || !after.Pass[0].Until.Equal(day.Add(pass.PublishLead+time.Hour)) {
		t.Errorf("pass keys: %v, %v", after.Pass[1].SignsFrom, after.Pass[0].Until)
	}
	late := open(t, dir, day.Add(pass.PublishLead+time.Hour))
	if len(late.Pass) != 1 || len(late.Tickets) != 2 {
		t.Errorf("%d pass keys and %d ticket keys, want the old pass key gone and both ticket keys kept", len(late.Pass), len(late.Tickets))
	}
}

func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(dir string) error
		want  error
	}{
		"readable by the group": {func(dir string) error { return os.Chmod(filepath.Join(dir, "room.key"), 0o640) }, ErrOpen},
		"open directory":        {func(dir string) error { return os.Chmod(dir, 0o755) }, ErrOpen},
		"missing key":           {func(dir string) error { return os.Remove(filepath.Join(dir, "record.pem")) }, ErrMissing},
		"truncated secret":      {func(dir string) error { return os.WriteFile(filepath.Join(dir, "room.key"), []byte("abc"), 0o600) }, ErrBad},
		"not PEM":               {func(dir string) error { return os.WriteFile(filepath.Join(dir, "entry.pem"), []byte("abc"), 0o600) }, ErrBad},
		"key id 0": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "ticket-0-20270101T000000Z.key"), nil, 0o600)
		}, ErrBad},
		"key id twice": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "ticket-1-20260101T000000Z.key"), nil, 0o600)
		}, ErrBad},
		"key id too large": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "ticket-256-20270101T000000Z.key"), nil, 0o600)
		}, ErrBad},
		"no such month": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "pass-20271301T000000Z.pem"), nil, 0o600)
		}, ErrBad},
	} {
		dir := filepath.Join(t.TempDir(), "keys")
		open(t, dir, start)
		if err := tc.spoil(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir, Options{Now: start}); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}
