package sqlitesettings

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stanchion-queue/stanchion/config"
	"github.com/stanchion-queue/stanchion/config/settingstest"
)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	settingstest.Run(t, func(t *testing.T) config.Settings { return open(t, filepath.Join(t.TempDir(), "settings.db")) })
}

func TestSurvivesReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a?b %23.db") // a name that means something in a URL
	doc := settingstest.Document(t, 7)
	s, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Put(t.Context(), "main", doc, "", "ada", "first")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the file is elsewhere: %v", err)
	}
	again := open(t, path)
	got, version, err := again.Get(t.Context(), "main")
	if err != nil || version != v || !bytes.Equal(got, doc) {
		t.Fatalf("after reopening: %s at %q, %v", got, version, err)
	}
	if err := again.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestForeignFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "settings.db")
	if err := os.WriteFile(path, bytes.Repeat([]byte("not a database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), path); err == nil {
		t.Fatalf("a foreign file was opened: %v", s.Close())
	}
}
