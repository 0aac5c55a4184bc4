package storetest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/core/sqlitestore"
	"github.com/stanchion-queue/stanchion/core/sqlstore"
)

// Dir makes a folder for files that are flushed thousands of times: in memory,
// where there is a place for that.
func Dir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "stanchion-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// SQLite is the embedded store in a file of its own.
func SQLite(t *testing.T) func(now func() time.Time) *sqlstore.Store {
	t.Helper()
	path := filepath.Join(Dir(t), "orders.db")
	return func(now func() time.Time) *sqlstore.Store {
		db, err := sqlitestore.Open(t.Context(), path, now)
		if err != nil {
			t.Fatal(err)
		}
		return sqlstore.NewStore(db)
	}
}
