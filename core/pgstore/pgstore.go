// Package pgstore opens the core's store in PostgreSQL. The server must commit
// synchronously, with one synchronous standby if it has a standby at all: the
// store assumes that what was acknowledged is there after a failover.
package pgstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/stanchion-queue/stanchion/core/sqlstore"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Open connects to the database that url names and brings its schema up to
// date; processes that start together do that one after another. connections
// bounds the pool (0 = 16). The relay's locks live in sessions: no pooler that
// shares sessions between transactions may stand in between.
func Open(ctx context.Context, url string, connections int) (*sqlstore.DB, error) {
	if connections <= 0 {
		connections = 16
	}
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the PostgreSQL address: %w", err)
	}
	pool := stdlib.OpenDB(*cfg)
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the migration lock: %w", err), pool.Close())
	}
	db, err := sqlstore.Open(ctx, pool, pool, dialect, sub, time.Now, goose.WithSessionLocker(locker))
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL at %s:%d: %w", cfg.Host, cfg.Port, err)
	}
	return db, nil
}

// guardClass keeps our advisory locks apart from others' in the database.
const guardClass int32 = 0x57A9C41

var dialect = sqlstore.Dialect{
	Goose:      goose.DialectPostgres,
	ForUpdate:  " FOR UPDATE",
	SkipLocked: " SKIP LOCKED",
	// The timeline grows with each promotion of a standby.
	Generation: "(('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int)",
	NowMS:      "(extract(epoch FROM clock_timestamp()) * 1000)::bigint",
	Retry: func(err error) bool {
		switch code(err) {
		case "40001", "40P01", "55P03": // serialization_failure, deadlock_detected, lock_not_available
			return true
		}
		return false
	},
	Duplicate: func(err error) bool { return code(err) == "23505" },
	Guard:     guard,
}

func code(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func guard(ctx context.Context, db *sql.DB, n int) (alive func(context.Context) error, release func(), ok bool, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, nil, false, fmt.Errorf("connect for a guard: %w", err)
	}
	class := guardClass
	if err := conn.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1, $2)`, class, n).Scan(&ok); err != nil || !ok {
		return nil, nil, false, errors.Join(err, conn.Close())
	}
	alive = func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return conn.PingContext(ctx)
	}
	release = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		// If this fails the session is broken, and its locks end with it.
		_, _ = conn.ExecContext(ctx, `SELECT pg_advisory_unlock($1, $2)`, class, n)
		_ = conn.Close()
	}
	return alive, release, true, nil
}
