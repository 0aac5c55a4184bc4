// Package sqlitestore opens the core's store in one SQLite file, for the
// embedded mode: no server, and nothing acknowledged is lost.
package sqlitestore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/stanchion-queue/stanchion/core/sqlstore"
)

//go:embed migrations/*.sql
var migrations embed.FS

// readers is how many reads may run beside the one writer.
const readers = 4

// Open opens or creates the file. The write-ahead log is flushed at every
// commit, so that a commit survives a power cut. Only one process may use the
// file; its lock is the caller's business. now is the store's clock, nil:
// time.Now.
func Open(ctx context.Context, path string, now func() time.Time) (*sqlstore.DB, error) {
	if now == nil {
		now = time.Now
	}
	dsn := func(extra ...string) string {
		q := url.Values{"_pragma": append([]string{"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"}, extra...)}
		return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
	}
	write, err := sql.Open("sqlite", dsn()+"&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	write.SetMaxOpenConns(1) // SQLite has one writer; waiting here is fair, waiting for its lock is not
	if err := write.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), write.Close())
	}
	read, err := sql.Open("sqlite", dsn("query_only(1)"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), write.Close())
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, errors.Join(err, write.Close(), read.Close())
	}
	db, err := sqlstore.Open(ctx, write, read, dialect(), sub, now)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}

func dialect() sqlstore.Dialect {
	var mu sync.Mutex
	taken := map[int]bool{}
	return sqlstore.Dialect{
		Goose:      goose.DialectSQLite3,
		Generation: "1",
		Prepare:    true,
		Retry:      func(err error) bool { return code(err)&0xff == sqlite3.SQLITE_BUSY },
		Duplicate: func(err error) bool {
			c := code(err)
			return c == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY || c == sqlite3.SQLITE_CONSTRAINT_UNIQUE
		},
		// The file belongs to this process, so a lock inside of it will do.
		Guard: func(_ context.Context, _ *sql.DB, n int) (func(context.Context) error, func(), bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if taken[n] {
				return nil, nil, false, nil
			}
			taken[n] = true
			release := func() {
				mu.Lock()
				defer mu.Unlock()
				delete(taken, n)
			}
			return func(context.Context) error { return nil }, release, true, nil
		},
	}
}

// code is SQLite's extended result code of an error, or 0.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}
