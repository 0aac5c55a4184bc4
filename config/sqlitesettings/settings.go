// Package sqlitesettings keeps rooms' settings documents in a SQLite file (settings.db in data_dir). One process owns
// the file, so a change is announced inside it; every version is kept with who made it, when and why.
package sqlitesettings

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // driver "sqlite", without cgo

	"github.com/stanchion-queue/stanchion/config"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is a config.Settings. It may be used from many goroutines.
type Store struct {
	db *sql.DB

	mu       sync.Mutex
	watchers map[chan struct{}]bool // each has room for one announcement
}

var _ config.Settings = (*Store)(nil)

// Open opens the file at path, made if it is not there. The caller holds the lock of its directory.
func Open(ctx context.Context, path string) (*Store, error) {
	query := url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)"}, "_txlock": {"immediate"}}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("open settings %s: %w", path, err)
	}
	db.SetMaxOpenConns(1) // a few documents, changed by hand: one connection is simple and fast enough
	if err := migrate(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("open settings %s: %w", path, err), db.Close())
	}
	return &Store{db: db, watchers: map[chan struct{}]bool{}}, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("find schema: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, dir)
	if err != nil {
		return fmt.Errorf("prepare schema: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("bring schema up to date: %w", err)
	}
	return nil
}

// Close closes the file. Watches end with their contexts.
func (s *Store) Close() error { return s.db.Close() }

// Ping tells whether the file can be read.
func (s *Store) Ping(ctx context.Context) error {
	var n int
	if err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM settings WHERE version = 0").Scan(&n); err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	return nil
}

// Get implements config.Settings.
func (s *Store) Get(ctx context.Context, room string) (doc []byte, version string, err error) {
	doc, number, err := current(ctx, s.db, room)
	if err != nil {
		return nil, "", err
	}
	return doc, strconv.FormatInt(number, 10), nil
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func current(ctx context.Context, q querier, room string) (doc []byte, version int64, err error) {
	err = q.QueryRowContext(ctx, "SELECT doc, version FROM settings WHERE room = ? ORDER BY version DESC LIMIT 1", room).Scan(&doc, &version)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, 0, fmt.Errorf("room %q: %w", room, config.ErrNoSettings)
	case err != nil:
		return nil, 0, fmt.Errorf("read settings of room %q: %w", room, err)
	}
	return doc, version, nil
}

// Put implements config.Settings.
func (s *Store) Put(ctx context.Context, room string, doc []byte, ifVersion, who, why string) (version string, err error) {
	if err := config.CheckPut(room, doc, who, why); err != nil {
		return "", err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("write settings of room %q: %w", room, err)
	}
	defer func() {
		if rolled := tx.Rollback(); rolled != nil && !errors.Is(rolled, sql.ErrTxDone) {
			err = errors.Join(err, fmt.Errorf("roll settings back: %w", rolled))
		}
	}()
	_, now, err := current(ctx, tx, room)
	if err != nil && !errors.Is(err, config.ErrNoSettings) {
		return "", err
	}
	if have := versionText(now); have != ifVersion {
		return "", fmt.Errorf("room %q is at version %q, not %q: %w", room, have, ifVersion, config.ErrConflict)
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO settings (room, version, doc, who, why, at_ms) VALUES (?, ?, ?, ?, ?, ?)",
		room, now+1, doc, who, why, time.Now().UnixMilli()); err != nil {
		return "", fmt.Errorf("write settings of room %q: %w", room, err)
	}
	if err := tx.Commit(); err != nil {
		return "", fmt.Errorf("write settings of room %q: %w", room, err)
	}
	s.announce()
	return versionText(now + 1), nil
}

// versionText is a version as callers see it: "" for none.
func versionText(v int64) string {
	if v == 0 {
		return ""
	}
	return strconv.FormatInt(v, 10)
}

func (s *Store) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		select {
		case w <- struct{}{}:
		default: // one is there already; the watcher will read the newest
		}
	}
}

// Watch implements config.Settings.
func (s *Store) Watch(ctx context.Context, changed func(room string, doc []byte, version string)) error {
	news := make(chan struct{}, 1)
	news <- struct{}{}
	s.mu.Lock()
	s.watchers[news] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watchers, news)
		s.mu.Unlock()
	}()
	told := map[string]int64{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news:
			latest, err := s.latest(ctx)
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return err
			}
			for _, r := range latest {
				if r.version > told[r.room] {
					told[r.room] = r.version
					changed(r.room, r.doc, versionText(r.version))
				}
			}
		}
	}
}

type row struct {
	room    string
	version int64
	doc     []byte
}

func (s *Store) latest(ctx context.Context) ([]row, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT room, version, doc FROM settings AS s
		WHERE version = (SELECT max(version) FROM settings WHERE room = s.room) ORDER BY room`)
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	defer rows.Close()
	var all []row
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.room, &r.version, &r.doc); err != nil {
			return nil, fmt.Errorf("read settings: %w", err)
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	return all, nil
}

// History implements config.Settings.
func (s *Store) History(ctx context.Context, room string, limit int) ([]config.Revision, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT version, doc, who, why, at_ms FROM settings WHERE room = ? ORDER BY version DESC LIMIT ?", room, min(max(limit, 1), 1000))
	if err != nil {
		return nil, fmt.Errorf("read history of room %q: %w", room, err)
	}
	defer rows.Close()
	var all []config.Revision
	for rows.Next() {
		var version, atMS int64
		r := config.Revision{Room: room}
		if err := rows.Scan(&version, &r.Doc, &r.Who, &r.Why, &atMS); err != nil {
			return nil, fmt.Errorf("read history of room %q: %w", room, err)
		}
		r.Version, r.At = versionText(version), time.UnixMilli(atMS).UTC()
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read history of room %q: %w", room, err)
	}
	return all, nil
}
