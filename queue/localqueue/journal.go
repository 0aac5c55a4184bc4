package localqueue

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // driver "sqlite"
)

// file is rooms.db: a journal of records, the snapshot that it continues, and the last store time. One process owns it.
//
// Every body carries a checksum, because a damaged room must be refused and never guessed.
type file struct {
	path string
	db   *sql.DB
	conn *sql.Conn
	next int64 // next journal id
	lazy bool  // the last write of the store time may have left commits without force
}

// Marks in the file's header that tell a room store from any other SQLite file.
const (
	applicationID = 0x53_54_52_4d // "STRM"
	formatVersion = 1
)

const schema = `
CREATE TABLE room (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE part (room INTEGER NOT NULL REFERENCES room(id), key BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY (room, key)) STRICT, WITHOUT ROWID;
CREATE TABLE journal (id INTEGER PRIMARY KEY, room INTEGER NOT NULL REFERENCES room(id), body BLOB NOT NULL) STRICT;
CREATE TABLE clock (id INTEGER PRIMARY KEY CHECK (id = 1), store_ms INTEGER NOT NULL) STRICT;
INSERT INTO clock VALUES (1, 0);
`

// entry is one journal row.
type entry struct {
	room string
	ms   int64 // store time of the step
	body []byte
}

func openFile(ctx context.Context, path string) (*file, error) {
	if dir := filepath.Dir(path); dir != "." {
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
	}
	q := url.Values{"_pragma": {"busy_timeout(200)", "locking_mode(EXCLUSIVE)"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	f := &file{path: path, db: db}
	if err := f.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), f.close())
	}
	return f, nil
}

// prepare takes the file's lock, checks that it is a room store, and makes one of an empty file.
func (f *file) prepare(ctx context.Context) error {
	conn, err := f.db.Conn(ctx)
	if err != nil {
		return describe(err)
	}
	f.conn = conn
	var app, version, tables int64
	for _, p := range []struct {
		query string
		dst   *int64
	}{
		{"PRAGMA application_id", &app}, {"PRAGMA user_version", &version}, {"SELECT count(*) FROM sqlite_schema", &tables},
	} {
		if err := conn.QueryRowContext(ctx, p.query).Scan(p.dst); err != nil {
			return describe(err)
		}
	}
	fresh := app == 0 && version == 0 && tables == 0
	switch {
	case !fresh && app != applicationID:
		return errors.New("the file is an SQLite database, but not a room store of this program")
	case version > formatVersion:
		return fmt.Errorf("the file has format %d, this program knows formats up to %d: it was written by a newer version", version, formatVersion)
	}
	// The order matters: the journal mode decides which kind of lock the first transaction takes.
	for _, s := range []string{"PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON", "BEGIN IMMEDIATE"} {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return describe(err)
		}
	}
	if fresh {
		for _, s := range []string{schema, fmt.Sprintf("PRAGMA application_id=%d", applicationID), fmt.Sprintf("PRAGMA user_version=%d", formatVersion)} {
			if _, err := conn.ExecContext(ctx, s); err != nil {
				return errors.Join(describe(err), f.rollback(ctx))
			}
		}
	}
	// A write in this transaction is what takes the exclusive lock, which is then kept until the file is closed.
	for _, s := range []string{"UPDATE clock SET store_ms = store_ms", "COMMIT"} {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return errors.Join(describe(err), f.rollback(ctx))
		}
	}
	return nil
}

// describe puts SQLite's words for the usual accidents into ours.
func describe(err error) error {
	var coded interface{ Code() int }
	if !errors.As(err, &coded) {
		return err
	}
	switch coded.Code() & 0xff {
	case 5, 6: // SQLITE_BUSY, SQLITE_LOCKED
		return fmt.Errorf("another process uses the file: %w", err)
	case 11: // SQLITE_CORRUPT
		return fmt.Errorf("the file is damaged; restore it from a backup: %w", err)
	case 26: // SQLITE_NOTADB
		return fmt.Errorf("the file is not a room store: %w", err)
	}
	return err
}

func (f *file) rollback(ctx context.Context) error {
	_, err := f.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	return err
}

// load reads everything: the snapshot, then the journal. It returns the last store time written.
func (f *file) load(ctx context.Context) (rooms map[string]*room, storeMs int64, err error) {
	rooms = map[string]*room{}
	byID := map[int64]*room{}
	fail := func(what string, err error) (map[string]*room, int64, error) {
		return nil, 0, fmt.Errorf("read %s: %s: %w", f.path, what, describe(err))
	}
	if err := f.conn.QueryRowContext(ctx, "SELECT store_ms FROM clock").Scan(&storeMs); err != nil {
		return fail("clock", err)
	}
	err = f.each(ctx, "SELECT id, name FROM room", func(rows *sql.Rows) error {
		var id int64
		var name string
		if err := rows.Scan(&id, &name); err != nil {
			return err
		}
		r := newRoom(name)
		clear(r.mod)
		rooms[name], byID[id] = r, r
		return nil
	})
	if err != nil {
		return fail("rooms", err)
	}
	apply := func(room int64, body []byte) error {
		r := byID[room]
		if r == nil {
			return errors.New("record of an unknown room")
		}
		b, err := unseal(body)
		if err != nil {
			return err
		}
		return r.replay(b)
	}
	err = f.each(ctx, "SELECT room, key, body FROM part ORDER BY room, key", func(rows *sql.Rows) error {
		var room int64
		var key, body []byte
		if err := rows.Scan(&room, &key, &body); err != nil {
			return err
		}
		if err := apply(room, body); err != nil {
			return fmt.Errorf("part %x: %w", key, err)
		}
		return nil
	})
	if err != nil {
		return fail("snapshot", err)
	}
	for _, r := range rooms {
		clear(r.mod) // what the snapshot holds is up to date; the journal makes parts of it old again
	}
	err = f.each(ctx, "SELECT id, room, body FROM journal ORDER BY id", func(rows *sql.Rows) error {
		var id, room int64
		var body []byte
		if err := rows.Scan(&id, &room, &body); err != nil {
			return err
		}
		f.next = id + 1
		if err := apply(room, body); err != nil {
			return fmt.Errorf("row %d: %w", id, err)
		}
		return nil
	})
	if err != nil {
		return fail("journal", err)
	}
	for _, r := range rooms {
		if err := r.checkLedgers(); err != nil {
			return fail("room "+r.name, err)
		}
	}
	return rooms, storeMs, nil
}

func (f *file) each(ctx context.Context, query string, do func(*sql.Rows) error) error {
	rows, err := f.conn.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := do(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// transact runs do between BEGIN and COMMIT.
func (f *file) transact(ctx context.Context, do func() error) error {
	if err := f.strict(ctx); err != nil {
		return err
	}
	if _, err := f.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return describe(err)
	}
	err := do()
	if err == nil {
		_, err = f.conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		// After some failures SQLite has rolled back by itself; then this ROLLBACK has nothing to do.
		if rerr := f.rollback(ctx); rerr != nil {
			return fmt.Errorf("%w (rollback: %w)", describe(err), rerr)
		}
		return describe(err)
	}
	return nil
}

// append writes rows and makes them durable.
func (f *file) append(ctx context.Context, rows []entry) error {
	next := f.next
	err := f.transact(ctx, func() error {
		last := int64(0)
		for _, e := range rows {
			last = max(last, e.ms)
			if len(e.body) == 0 { // the room is new, and nothing else
				if _, err := f.conn.ExecContext(ctx, "INSERT OR IGNORE INTO room(name) VALUES (?)", e.room); err != nil {
					return err
				}
				continue
			}
			if _, err := f.conn.ExecContext(ctx, "INSERT INTO journal SELECT ?, id, ? FROM room WHERE name = ?", next, seal(e.body), e.room); err != nil {
				return err
			}
			next++
		}
		_, err := f.conn.ExecContext(ctx, "UPDATE clock SET store_ms = max(store_ms, ?)", last)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	f.next = next
	return nil
}

// roomParts are the changed parts of one room.
type roomParts struct {
	name  string
	parts []part
}

// snapshot replaces the journal by parts.
func (f *file) snapshot(ctx context.Context, rooms []roomParts, storeMs int64) error {
	err := f.transact(ctx, func() error {
		for _, r := range rooms {
			if _, err := f.conn.ExecContext(ctx, "INSERT OR IGNORE INTO room(name) VALUES (?)", r.name); err != nil {
				return err
			}
			for _, p := range r.parts {
				query, args := "INSERT OR REPLACE INTO part SELECT id, ?, ? FROM room WHERE name = ?", []any{p.key, seal(p.body), r.name}
				if len(p.body) == 0 {
					query, args = "DELETE FROM part WHERE key = ? AND room = (SELECT id FROM room WHERE name = ?)", []any{p.key, r.name}
				}
				if _, err := f.conn.ExecContext(ctx, query, args...); err != nil {
					return err
				}
			}
		}
		if _, err := f.conn.ExecContext(ctx, "DELETE FROM journal"); err != nil {
			return err
		}
		_, err := f.conn.ExecContext(ctx, "UPDATE clock SET store_ms = max(store_ms, ?)", storeMs)
		return err
	})
	if err != nil {
		return fmt.Errorf("write snapshot to %s: %w", f.path, err)
	}
	return nil
}

// writeTime notes the store time without forcing it to the disk. It survives the end of the process; a power cut may lose it, and
// then the clock serves.
func (f *file) writeTime(ctx context.Context, storeMs int64) error {
	f.lazy = true
	_, err := f.conn.ExecContext(ctx, "PRAGMA synchronous=NORMAL")
	if err == nil {
		_, err = f.conn.ExecContext(ctx, "UPDATE clock SET store_ms = max(store_ms, ?)", storeMs)
	}
	if err = errors.Join(err, f.strict(ctx)); err != nil {
		return fmt.Errorf("write store time to %s: %w", f.path, describe(err))
	}
	return nil
}

// strict makes commits durable again. No row is written before it has succeeded.
func (f *file) strict(ctx context.Context) error {
	if !f.lazy {
		return nil
	}
	if _, err := f.conn.ExecContext(ctx, "PRAGMA synchronous=FULL"); err != nil {
		return describe(err)
	}
	f.lazy = false
	return nil
}

func (f *file) close() error {
	var errs []error
	if f.conn != nil {
		errs = append(errs, f.conn.Close())
	}
	return errors.Join(append(errs, f.db.Close())...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts a checksum before a body.
func seal(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), crc32.Checksum(body, castagnoli)), body...)
}

// unseal checks and removes it.
func unseal(b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, errTruncated
	}
	if binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) {
		return nil, errors.New("checksum does not match: the file is damaged; restore it from a backup")
	}
	return b[4:], nil
}
