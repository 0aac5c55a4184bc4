package sqlitestore_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/core/sqlitestore"
	"github.com/stanchion-queue/stanchion/core/sqlstore"
	"github.com/stanchion-queue/stanchion/core/storetest"
)

// open makes a file of its own, in memory where there is a place for that: the
// suite flushes thousands of commits.
func open(t *testing.T) func(now func() time.Time) *sqlstore.Store {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "orders-")
	if err != nil {
		dir = t.TempDir()
	} else {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	return func(now func() time.Time) *sqlstore.Store {
		db, err := sqlitestore.Open(t.Context(), filepath.Join(dir, "orders.db"), now)
		if err != nil {
			t.Fatal(err)
		}
		return sqlstore.NewStore(db)
	}
}

func TestStore(t *testing.T) { storetest.Run(t, open) }

func TestOpenSaysWhatIsWrong(t *testing.T) {
	if _, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "no", "such", "folder.db"), nil); err == nil {
		t.Error("a folder that is not there was opened")
	}
	junk := filepath.Join(t.TempDir(), "orders.db")
	if err := os.WriteFile(junk, []byte("this is not a database, it is a text that is long enough to be looked at"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlitestore.Open(t.Context(), junk, nil); err == nil {
		t.Error("a text was opened as a database")
	}
}

func TestAnOddPathIsOnePath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c=d&e#f%20.db")
	db, err := sqlitestore.Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestJourneys(t *testing.T) { storetest.Journeys(t, open) }
