// Package sqlstore keeps orders, payments, idempotency keys and the outbox in
// a SQL database. It is one set of statements for both engines; what differs
// between PostgreSQL (core/pgstore) and SQLite (core/sqlitestore) is in the
// Dialect those packages pass in, and in their migrations.
//
// Other services of the core keep their tables in the same database: they
// declare their own Store and build it on DB.
package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/pressly/goose/v3"
)

// Dialect is what differs between the engines. Statements number their
// parameters $1, $2, … in both.
type Dialect struct {
	Goose      goose.Dialect
	ForUpdate  string // suffix of a SELECT that locks rows
	SkipLocked string // suffix of a ForUpdate that passes over locked rows
	Generation string // expression: number of the database's promotions
	NowMS      string // expression: the database's clock in Unix ms; empty: Options' clock
	// Retry says that a transaction failed for a reason that a repetition may
	// cure, and had no effect.
	Retry func(error) bool
	// Duplicate says that a row exists already.
	Duplicate func(error) bool
	// Prepare says that statements should be kept prepared.
	Prepare bool
	// Guard takes a lock that one session in the world can have.
	Guard func(ctx context.Context, db *sql.DB, n int) (alive func(context.Context) error, release func(), ok bool, err error)
}

// DB is a database with its dialect. It is safe for concurrent use.
type DB struct {
	pools  [2]*sql.DB // writing, reading; may be the same
	write  Querier
	read   Querier
	writes *statements // nil: not kept
	reads  *statements
	d      Dialect
	now    func() time.Time
}

// Querier is what *sql.DB and *sql.Tx have in common.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Open takes two pools of one database (they may be the same), brings its
// schema up to date and returns it. now is the clock where the dialect has
// none. On an error the pools are closed.
func Open(ctx context.Context, write, read *sql.DB, d Dialect, migrations fs.FS, now func() time.Time, opts ...goose.ProviderOption) (*DB, error) {
	db := &DB{pools: [2]*sql.DB{write, read}, write: write, read: read, d: d, now: now}
	if d.Prepare {
		db.writes, db.reads = newStatements(write), newStatements(read)
		db.write, db.read = prepared{write, db.writes, nil}, prepared{read, db.reads, nil}
	}
	// Services number their migrations in ranges of their own.
	p, err := goose.NewProvider(d.Goose, write, migrations, append(opts, goose.WithAllowOutofOrder(true))...)
	if err == nil {
		_, err = p.Up(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bring the schema up to date: %w", err), db.Close())
	}
	return db, nil
}

// Close closes the pools.
func (db *DB) Close() error {
	if db.writes != nil {
		db.writes.close()
		db.reads.close()
	}
	err := db.pools[0].Close()
	if db.pools[1] != db.pools[0] {
		err = errors.Join(err, db.pools[1].Close())
	}
	return err
}

// Read returns the pool for single statements that change nothing.
func (db *DB) Read() Querier { return db.read }

// Write returns the pool for single statements that are transactions of their
// own.
func (db *DB) Write() Querier { return db.write }

// Dialect returns the engine's peculiarities.
func (db *DB) Dialect() Dialect { return db.d }

// Ping says whether the database answers.
func (db *DB) Ping(ctx context.Context) error { return db.pools[1].PingContext(ctx) }

// Pools returns the pools' statistics for metrics, by name.
func (db *DB) Pools() map[string]sql.DBStats {
	return map[string]sql.DBStats{"write": db.pools[0].Stats(), "read": db.pools[1].Stats()}
}

const maxTries = 8

// InTx runs f in a writing transaction, again from the start if another one
// was in the way. An error of the commit itself leaves the outcome open.
func (db *DB) InTx(ctx context.Context, f func(q Querier) error) error {
	for try := 1; ; try++ {
		err := db.try(ctx, f)
		if err == nil || try == maxTries || !db.d.Retry(err) {
			return err
		}
		t := time.NewTimer(time.Duration(rand.Int64N(int64(5*time.Millisecond) << min(try, 5))))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

func (db *DB) try(ctx context.Context, f func(q Querier) error) error {
	if db.writes != nil {
		db.writes.prepare(ctx)
	}
	tx, err := db.pools[0].BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	var q Querier = tx
	if db.writes != nil {
		q = prepared{tx, db.writes, tx}
	}
	defer func() { _ = tx.Rollback() }() // also when f panics; after Commit it does nothing
	if err := f(q); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// Now is the store's clock inside a transaction.
func (db *DB) Now(ctx context.Context, q Querier) (time.Time, error) {
	if db.d.NowMS == "" {
		return db.now().Truncate(time.Millisecond), nil
	}
	var ms int64
	if err := q.QueryRowContext(ctx, "SELECT "+db.d.NowMS).Scan(&ms); err != nil {
		return time.Time{}, fmt.Errorf("read the database's clock: %w", err)
	}
	return FromMS(ms), nil
}

// SetClock makes now the store's clock, also where the engine has one of its
// own: for tests under virtual time. Call it before the store is used.
func (db *DB) SetClock(now func() time.Time) { db.now, db.d.NowMS = now, "" }

// MS is how times are stored: Unix milliseconds, 0 for the zero time.
func MS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// FromMS reads what MS wrote.
func FromMS(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func nullID(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: id != uuid.Nil} }

func nullMS(t time.Time) sql.NullInt64 { return sql.NullInt64{Int64: MS(t), Valid: !t.IsZero()} }

func nullText(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

// jsonOf encodes what cannot fail to encode.
func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("sqlstore: encode %T: %v", v, err)) // only numbers and strings come here
	}
	return string(b)
}

// numbers renders whole numbers for an IN list.
func numbers(ns []int64) string {
	var b strings.Builder
	for i, n := range ns {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(n, 10))
	}
	return b.String()
}

// params renders $from, $from+1, … of n parameters.
func params(from, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(from + i))
	}
	return b.String()
}

// all reads every row of a query.
func all[T any](ctx context.Context, q Querier, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var ts []T
	for rows.Next() {
		t, err := scan(rows)
		if err != nil {
			return nil, err
		}
		ts = append(ts, t)
	}
	return ts, rows.Err()
}

// changed is an error unless the statement changed exactly one row.
func changed(res sql.Result, err error, otherwise error) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n != 1 {
		return otherwise
	}
	return nil
}
