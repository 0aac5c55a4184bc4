package sqlitestore_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/sqlitestore"
	"github.com/stanchion-queue/stanchion/core/storetest"
)

func TestStore(t *testing.T) { storetest.Run(t, storetest.SQLite) }

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

func TestJourneys(t *testing.T) { storetest.Journeys(t, storetest.SQLite) }

func TestEveryPointIsPassed(t *testing.T) {
	passed := storetest.Points(t, storetest.SQLite)
	for _, p := range order.Points {
		if !slices.Contains(passed, p) {
			t.Errorf("no journey passes %s: nobody is killed there", p)
		}
	}
}

func TestStorm(t *testing.T) { storetest.Storm(t, storetest.SQLite, 12) }
