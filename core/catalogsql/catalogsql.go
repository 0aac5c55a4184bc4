// Package catalogsql keeps the catalog and the scans of tickets in the core's SQL database: PostgreSQL or SQLite, by the same
// statements. It implements catalog.Store and ticketing.Store.
//
// Catalog documents are small and read whole, so they are stored as JSON beside the few columns that are looked for. The tables come
// with the core's migrations.
package catalogsql

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/sqlstore"
	"github.com/stanchion-queue/stanchion/core/ticketing"
)

// Store is the adapter. Safe for concurrent use.
type Store struct{ db *sqlstore.DB }

var (
	_ catalog.Store   = (*Store)(nil)
	_ ticketing.Store = (*Store)(nil)
)

// New returns a Store over an open database; it does not own db.
func New(db *sqlstore.DB) *Store { return &Store{db} }

// put inserts a document under version 1, or replaces the one of the given version.
func (s *Store) put(ctx context.Context, table string, id uuid.UUID, slug string, version int64, document any, startsMs *int64) error {
	doc, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("encode %s: %w", table, err)
	}
	args := []any{id.String(), slug, version + 1, string(doc)}
	insert := "INSERT INTO " + table + " (id, slug, version, document) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
	update := "UPDATE " + table + " SET slug = $2, version = $3, document = $4 WHERE id = $1 AND version = $5"
	if startsMs != nil {
		insert = "INSERT INTO " + table + " (id, slug, version, document, starts_ms) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING"
		update = "UPDATE " + table + " SET slug = $2, version = $3, document = $4, starts_ms = $5 WHERE id = $1 AND version = $6"
		args = append(args, *startsMs)
	}
	statement, refusal := insert, catalog.ErrExists
	if version != 0 {
		statement, refusal = update, catalog.ErrStale
		args = append(args, version)
	}
	r, err := s.db.Write().ExecContext(ctx, statement, args...)
	if err != nil {
		return fmt.Errorf("write %s: %w", table, err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return fmt.Errorf("write %s: %w", table, err)
	}
	if n == 0 {
		return refusal
	}
	return nil
}

// PutVenue implements catalog.Store.
func (s *Store) PutVenue(ctx context.Context, v catalog.Venue) error {
	version := v.Version
	v.Version++
	return s.put(ctx, "venue", v.ID, v.Slug, version, v, nil)
}

// PutEvent implements catalog.Store.
func (s *Store) PutEvent(ctx context.Context, e catalog.Event) error {
	version := e.Version
	e.Version++
	return s.put(ctx, "event", e.ID, e.Slug, version, e, nil)
}

// PutPerformance implements catalog.Store.
func (s *Store) PutPerformance(ctx context.Context, p catalog.Performance) error {
	version, starts := p.Version, p.Starts.UnixMilli()
	p.Version++
	return s.put(ctx, "performance", p.ID, p.Slug, version, p, &starts)
}

func list[T any](ctx context.Context, s *Store, query string) ([]T, error) {
	rows, err := s.db.Read().QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := []T{}
	for rows.Next() {
		var doc []byte
		var v T
		if err := rows.Scan(&doc); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(doc, &v); err != nil {
			return nil, fmt.Errorf("decode stored document: %w", err)
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// Venues implements catalog.Store.
func (s *Store) Venues(ctx context.Context) ([]catalog.Venue, error) {
	return list[catalog.Venue](ctx, s, "SELECT document FROM venue ORDER BY slug")
}

// Events implements catalog.Store.
func (s *Store) Events(ctx context.Context) ([]catalog.Event, error) {
	return list[catalog.Event](ctx, s, "SELECT document FROM event ORDER BY slug")
}

// Performances implements catalog.Store.
func (s *Store) Performances(ctx context.Context) ([]catalog.Performance, error) {
	return list[catalog.Performance](ctx, s, "SELECT document FROM performance ORDER BY starts_ms, slug")
}

const issuedColumns = `SELECT t.id, t.version, t.performance_id, t.unit, t.order_id, t.label, t.issued_ms,
	EXISTS (SELECT 1 FROM ticket_revoked r WHERE r.ticket_id = t.id AND r.version >= t.version) FROM ticket t `

func scanIssued(scan func(...any) error) (ticketing.Issued, error) {
	var t ticketing.Issued
	var issuedMs int64
	if err := scan(&t.ID, &t.Version, &t.Performance, &t.Unit, &t.OrderID, &t.Label, &issuedMs, &t.Revoked); err != nil {
		return ticketing.Issued{}, err
	}
	t.Issued = time.UnixMilli(issuedMs).UTC()
	return t, nil
}

// IssuedTicket implements ticketing.Store.
func (s *Store) IssuedTicket(ctx context.Context, id uuid.UUID) (ticketing.Issued, error) {
	t, err := scanIssued(s.db.Read().QueryRowContext(ctx, issuedColumns+"WHERE t.id = $1", id.String()).Scan)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return t, ticketing.ErrNoTicket
	case err != nil:
		return t, fmt.Errorf("read ticket: %w", err)
	}
	return t, nil
}

// IssuedTickets implements ticketing.Store.
func (s *Store) IssuedTickets(ctx context.Context, order uuid.UUID) ([]ticketing.Issued, error) {
	rows, err := s.db.Read().QueryContext(ctx, issuedColumns+"WHERE t.order_id = $1 ORDER BY t.unit", order.String())
	if err != nil {
		return nil, fmt.Errorf("read tickets: %w", err)
	}
	defer rows.Close()
	var out []ticketing.Issued
	for rows.Next() {
		t, err := scanIssued(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("read tickets: %w", err)
		}
		out = append(out, t)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read tickets: %w", err)
	}
	return out, nil
}

// RecordScan implements ticketing.Store. Two statements, each guarded by a unique key, need no transaction: whichever gate
// inserts its accepted scan first has let the fan in.
func (s *Store) RecordScan(ctx context.Context, scan ticketing.Scan) (ticketing.Scan, error) {
	inserted, err := s.insertScan(ctx, scan)
	if err != nil {
		return ticketing.Scan{}, err
	}
	if !inserted {
		known, err := s.scan(ctx, "nonce = $1", scan.Nonce)
		switch {
		case err == nil:
			return s.withFirst(ctx, known)
		case !errors.Is(err, sql.ErrNoRows):
			return ticketing.Scan{}, fmt.Errorf("read scan: %w", err)
		}
		scan.Accepted, scan.Reason = false, ticketing.ReasonUsed
		if _, err := s.insertScan(ctx, scan); err != nil {
			return ticketing.Scan{}, err
		}
	}
	return s.withFirst(ctx, scan)
}

func (s *Store) insertScan(ctx context.Context, scan ticketing.Scan) (bool, error) {
	var ticket any
	if scan.Ticket != uuid.Nil {
		ticket = scan.Ticket.String()
	}
	accepted := 0
	if scan.Accepted {
		accepted = 1
	}
	r, err := s.db.Write().ExecContext(ctx, `INSERT INTO scan (nonce, gate, ticket_id, accepted, reason, at_ms)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`, scan.Nonce, scan.Gate, ticket, accepted, string(scan.Reason), scan.At.UnixMilli())
	if err != nil {
		return false, fmt.Errorf("write scan: %w", err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("write scan: %w", err)
	}
	return n == 1, nil
}

func (s *Store) scan(ctx context.Context, where string, arg any) (ticketing.Scan, error) {
	var out ticketing.Scan
	var ticket uuid.NullUUID
	var accepted int
	var atMs int64
	err := s.db.Read().QueryRowContext(ctx, "SELECT nonce, gate, ticket_id, accepted, reason, at_ms FROM scan WHERE "+where, arg).
		Scan(&out.Nonce, &out.Gate, &ticket, &accepted, &out.Reason, &atMs)
	out.Ticket, out.Accepted, out.At = ticket.UUID, accepted == 1, time.UnixMilli(atMs).UTC()
	return out, err
}

// withFirst adds to a refusal when and where the ticket was let in.
func (s *Store) withFirst(ctx context.Context, scan ticketing.Scan) (ticketing.Scan, error) {
	if scan.Reason != ticketing.ReasonUsed {
		return scan, nil
	}
	first, err := s.scan(ctx, "accepted = 1 AND ticket_id = $1", scan.Ticket.String())
	if err != nil {
		return ticketing.Scan{}, fmt.Errorf("read first scan: %w", err)
	}
	scan.FirstAt, scan.FirstAtG = first.At, first.Gate
	return scan, nil
}
