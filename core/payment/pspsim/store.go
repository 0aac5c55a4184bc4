package pspsim

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	_ "modernc.org/sqlite" // the driver of the file
)

// schema is made at the start if it is not there. The file belongs to the
// simulator alone and has had one form only.
const schema = `
CREATE TABLE IF NOT EXISTS intent (
    id         TEXT PRIMARY KEY,
    payment_id TEXT NOT NULL,           -- metadata.payment_id
    object     TEXT NOT NULL,           -- JSON
    private    TEXT NOT NULL,           -- JSON
    due_ms     INTEGER                  -- when the slow bank answers
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS intent_payment ON intent (payment_id);
CREATE INDEX IF NOT EXISTS intent_due ON intent (due_ms) WHERE due_ms IS NOT NULL;
CREATE TABLE IF NOT EXISTS refund (
    id        TEXT PRIMARY KEY,
    intent_id TEXT NOT NULL REFERENCES intent (id),
    object    TEXT NOT NULL,
    due_ms    INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS refund_due ON refund (due_ms) WHERE due_ms IS NOT NULL;
CREATE TABLE IF NOT EXISTS answered (
    key         TEXT PRIMARY KEY,       -- Idempotency-Key
    fingerprint TEXT NOT NULL,
    status      INTEGER NOT NULL,
    body        BLOB NOT NULL,
    silent      INTEGER NOT NULL DEFAULT 0, -- an answer was lost on purpose already
    at_ms       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hook (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    id      TEXT NOT NULL,              -- event id; a doubled webhook has it twice
    body    BLOB NOT NULL,
    tries   INTEGER NOT NULL,
    next_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS hook_next ON hook (next_ms);
`

func openFile(ctx context.Context, path string) (*sql.DB, error) {
	q := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("pspsim: open %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("pspsim: open %s: %w", path, err), db.Close())
	}
	return db, nil
}

func (s *Server) tx(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

type txKey struct{}

// txOf is the transaction that once1 began for a call.
func txOf(ctx context.Context) *sql.Tx {
	tx, _ := ctx.Value(txKey{}).(*sql.Tx)
	return tx
}

// once1 does a write once per idempotency key: its effect and its answer are
// stored in one transaction, refusals too. Our own errors are not stored.
func (s *Server) once1(ctx context.Context, c call, f func(context.Context, call) (any, error)) (status int, body []byte, err error) {
	sum := sha256.Sum256(append([]byte(c.r.Method+" "+c.r.URL.Path+"\n"), c.body...))
	print := hex.EncodeToString(sum[:])
	err = s.tx(ctx, func(tx *sql.Tx) error {
		var old string
		err := tx.QueryRowContext(ctx, `SELECT fingerprint, status, body FROM answered WHERE key = $1`, c.key).Scan(&old, &status, &body)
		if err == nil {
			if old != print {
				e := &APIError{Type: "idempotency_error", Code: "key_reused", Message: "the Idempotency-Key was used for another request"}
				status, body = http.StatusConflict, errorBody(e)
			}
			return nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		v, err := f(context.WithValue(ctx, txKey{}, tx), c)
		var e *APIError
		switch {
		case errors.As(err, &e):
			status, body = e.status, errorBody(e)
		case err != nil:
			return err
		default:
			status = http.StatusOK
			if body, err = json.Marshal(v); err != nil {
				return fmt.Errorf("encode the answer: %w", err)
			}
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO answered (key, fingerprint, status, body, at_ms) VALUES ($1, $2, $3, $4, $5)`, c.key, print, status, body, s.now().UnixMilli())
		return err
	})
	if err == nil {
		s.wakeUp()
	}
	return status, body, err
}

func ms(t *time.Time) sql.NullInt64 {
	if t == nil {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: t.UnixMilli(), Valid: true}
}

func putIntent(ctx context.Context, tx *sql.Tx, in *Intent) error {
	obj, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode an intent: %w", err)
	}
	priv, err := json.Marshal(in.Private)
	if err != nil {
		return fmt.Errorf("encode an intent: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO intent (id, payment_id, object, private, due_ms) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (id) DO UPDATE SET object = excluded.object, private = excluded.private, due_ms = excluded.due_ms`,
		in.ID, in.Metadata["payment_id"], string(obj), string(priv), ms(in.Private.DueAt))
	return err
}

var errNoIntent = bad(http.StatusNotFound, "resource_missing", "there is no such object")

type row interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func readIntent(ctx context.Context, q row, where string, arg any) (*Intent, error) {
	var obj, priv []byte
	err := q.QueryRowContext(ctx, `SELECT object, private FROM intent WHERE `+where+` LIMIT 1`, arg).Scan(&obj, &priv)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNoIntent
	}
	if err != nil {
		return nil, err
	}
	var in Intent
	if err := errors.Join(json.Unmarshal(obj, &in), json.Unmarshal(priv, &in.Private)); err != nil {
		return nil, fmt.Errorf("decode an intent: %w", err)
	}
	return &in, nil
}

func putRefund(ctx context.Context, tx *sql.Tx, r *Refund) error {
	obj, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode a refund: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO refund (id, intent_id, object, due_ms) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO UPDATE SET object = excluded.object, due_ms = excluded.due_ms`, r.ID, r.PaymentIntent, string(obj), ms(r.dueAt))
	return err
}

func readRefund(ctx context.Context, q row, id string) (*Refund, error) {
	var obj []byte
	var due sql.NullInt64
	err := q.QueryRowContext(ctx, `SELECT object, due_ms FROM refund WHERE id = $1`, id).Scan(&obj, &due)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNoIntent
	}
	if err != nil {
		return nil, err
	}
	var r Refund
	if err := json.Unmarshal(obj, &r); err != nil {
		return nil, fmt.Errorf("decode a refund: %w", err)
	}
	if due.Valid {
		at := time.UnixMilli(due.Int64)
		r.dueAt = &at
	}
	return &r, nil
}
