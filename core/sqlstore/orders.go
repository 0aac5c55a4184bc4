package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/bus"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/payment"
)

// Store implements order.Store, order.KeyStore, payment.WebhookStore and the
// bus's stores.
type Store struct{ *DB }

// NewStore returns the core's store in db.
func NewStore(db *DB) *Store { return &Store{db} }

var (
	_ order.Store          = (*Store)(nil)
	_ order.KeyStore       = (*Store)(nil)
	_ payment.WebhookStore = (*Store)(nil)
	_ bus.Outbox           = (*Store)(nil)
	_ bus.Spool            = (*Store)(nil)
	_ bus.Inbox            = (*Store)(nil)
)

// tx implements order.Tx.
type tx struct {
	db *DB
	q  Querier
}

// Tx implements order.Store.
func (s *Store) Tx(ctx context.Context, f func(order.Tx) error) error {
	return s.InTx(ctx, func(q Querier) error { return f(&tx{db: s.DB, q: q}) })
}

func (t *tx) Now(ctx context.Context) (time.Time, error) { return t.db.Now(ctx, t.q) }

func (t *tx) LockPass(ctx context.Context, passID, room string, limit int) (order.PassUse, error) {
	u := order.PassUse{PassID: passID}
	var state string
	// The update takes the row's lock, also if nothing changes.
	err := t.q.QueryRowContext(ctx, `INSERT INTO pass_use (pass_id, room, max_seats, state) VALUES ($1, $2, $3, 'live')
		ON CONFLICT (pass_id) DO UPDATE SET room = excluded.room, max_seats = excluded.max_seats RETURNING room, max_seats, state`,
		passID, room, limit).Scan(&u.Room, &u.Max, &state)
	if err != nil {
		return u, fmt.Errorf("lock a pass: %w", err)
	}
	u.Burned = state == "burned"
	return u, nil
}

func (t *tx) SeatsInUse(ctx context.Context, passID string, now time.Time) (int, error) {
	var n int
	err := t.q.QueryRowContext(ctx, `SELECT coalesce(sum(seat_count), 0) FROM hold WHERE pass_id = $1
		AND (state IN ('selling', 'sold') OR (state IN ('placing', 'held', 'pinned') AND until_ms > $2))`, passID, MS(now)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count a pass's seats: %w", err)
	}
	return n, nil
}

func (t *tx) BurnPass(ctx context.Context, passID string) error {
	_, err := t.q.ExecContext(ctx, `UPDATE pass_use SET state = 'burned' WHERE pass_id = $1`, passID)
	return wrap("burn a pass", err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

const holdColumns = `id, principal, pass_id, room, performance_id, block, seats, state, until_ms, cap_at_ms, order_id, created_ms`

type scanner interface{ Scan(dest ...any) error }

func scanHold(r scanner) (order.Hold, error) {
	var h order.Hold
	var seats []byte
	var until, capAt, created int64
	var ord uuid.NullUUID
	err := r.Scan(&h.ID, &h.Principal, &h.PassID, &h.Room, &h.Performance, &h.Block, &seats, &h.State, &until, &capAt, &ord, &created)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(seats, &h.Seats); err != nil {
		return h, fmt.Errorf("decode the seats of hold %s: %w", h.ID, err)
	}
	h.Until, h.CapAt, h.Created, h.OrderID = FromMS(until), FromMS(capAt), FromMS(created), ord.UUID
	return h, nil
}

func (db *DB) hold(ctx context.Context, q Querier, id uuid.UUID, suffix string) (order.Hold, error) {
	h, err := scanHold(q.QueryRowContext(ctx, `SELECT `+holdColumns+` FROM hold WHERE id = $1`+suffix, id))
	if errors.Is(err, sql.ErrNoRows) {
		return h, order.ErrNotFound
	}
	return h, wrap("read a hold", err)
}

// Hold implements order.Store.
func (s *Store) Hold(ctx context.Context, id uuid.UUID) (order.Hold, error) {
	return s.hold(ctx, s.read, id, "")
}

func (t *tx) LockHold(ctx context.Context, id uuid.UUID) (order.Hold, error) {
	return t.db.hold(ctx, t.q, id, t.db.d.ForUpdate)
}

func (t *tx) InsertHold(ctx context.Context, h order.Hold) error {
	_, err := t.q.ExecContext(ctx, `INSERT INTO hold (`+holdColumns+`, seat_count) VALUES (`+params(1, 13)+`)`,
		h.ID, string(h.Principal), h.PassID, h.Room, h.Performance, h.Block, jsonOf(h.Seats), string(h.State), MS(h.Until), MS(h.CapAt), nullID(h.OrderID), MS(h.Created), len(h.Seats))
	return wrap("insert a hold", err)
}

func (t *tx) UpdateHold(ctx context.Context, h order.Hold) error {
	res, err := t.q.ExecContext(ctx, `UPDATE hold SET state = $2, until_ms = $3, cap_at_ms = $4, order_id = $5 WHERE id = $1`,
		h.ID, string(h.State), MS(h.Until), MS(h.CapAt), nullID(h.OrderID))
	return wrap("update a hold", changed(res, err, order.ErrNotFound))
}

const orderColumns = `id, principal, pass_id, room, performance_id, state, close_reason, version, generation, currency, total, pin_until_ms, dispute, next_at_ms, created_ms, updated_ms`

func (db *DB) order(ctx context.Context, q Querier, id uuid.UUID, suffix string) (order.Order, error) {
	var o order.Order
	var pin, created, updated int64
	var next sql.NullInt64
	err := q.QueryRowContext(ctx, `SELECT `+orderColumns+` FROM orders WHERE id = $1`+suffix, id).Scan(&o.ID, &o.Principal, &o.PassID, &o.Room,
		&o.Performance, &o.State, &o.Cause, &o.Version, &o.Generation, &o.Currency, &o.Total, &pin, &o.Dispute, &next, &created, &updated)
	if errors.Is(err, sql.ErrNoRows) {
		return o, order.ErrNotFound
	}
	if err != nil {
		return o, fmt.Errorf("read an order: %w", err)
	}
	o.PinUntil, o.NextAt, o.Created, o.Updated = FromMS(pin), FromMS(next.Int64), FromMS(created), FromMS(updated)
	if o.Units, err = all(ctx, q, func(r *sql.Rows) (u order.Unit, err error) {
		err = r.Scan(&u.Unit, &u.HoldID, &u.Seat.Block, &u.Seat.Seat, &u.Label, &u.Offer, &u.Price, &u.Fee, &u.Tax, &u.State)
		return u, err
	}, `SELECT unit, hold_id, block, seat, label, offer, price, fee, tax, state FROM order_unit WHERE order_id = $1 ORDER BY unit`, id); err != nil {
		return o, fmt.Errorf("read an order's units: %w", err)
	}
	if o.Holds, err = all(ctx, q, func(r *sql.Rows) (order.Hold, error) { return scanHold(r) },
		`SELECT `+holdColumns+` FROM hold WHERE order_id = $1 ORDER BY block, id`, id); err != nil {
		return o, fmt.Errorf("read an order's holds: %w", err)
	}
	if o.Payments, err = all(ctx, q, func(r *sql.Rows) (payment.Payment, error) { return scanPayment(r) },
		`SELECT `+paymentColumns+` FROM payment WHERE order_id = $1 ORDER BY attempt`, id); err != nil {
		return o, fmt.Errorf("read an order's payments: %w", err)
	}
	if len(o.Payments) == 0 {
		return o, nil // nothing paid, nothing refunded
	}
	if o.Refunds, err = all(ctx, q, scanRefund, `SELECT `+refundColumns+` FROM refund WHERE order_id = $1 ORDER BY created_ms, id`, id); err != nil {
		return o, fmt.Errorf("read an order's refunds: %w", err)
	}
	if len(o.Refunds) == 0 {
		return o, nil
	}
	type line struct {
		unit   int
		refund uuid.UUID
	}
	lines, err := all(ctx, q, func(r *sql.Rows) (l line, err error) { err = r.Scan(&l.unit, &l.refund); return l, err },
		`SELECT unit, refund_id FROM refund_unit WHERE order_id = $1 ORDER BY unit`, id)
	if err != nil {
		return o, fmt.Errorf("read an order's refunded units: %w", err)
	}
	for i := range o.Refunds {
		for _, l := range lines {
			if l.refund == o.Refunds[i].ID {
				o.Refunds[i].Units = append(o.Refunds[i].Units, l.unit)
			}
		}
	}
	return o, nil
}

// Order implements order.Store.
func (s *Store) Order(ctx context.Context, id uuid.UUID) (order.Order, error) {
	return s.order(ctx, s.read, id, "")
}

// History implements order.Store.
func (s *Store) History(ctx context.Context, id uuid.UUID) ([]order.Transition, error) {
	ts, err := all(ctx, s.read, func(r *sql.Rows) (t order.Transition, err error) {
		var at int64
		t.OrderID = id
		err = r.Scan(&t.Seq, &t.From, &t.To, &t.Event, &t.CauseID, &at)
		t.At = FromMS(at)
		return t, err
	}, `SELECT seq, from_state, to_state, event, cause_id, at_ms FROM order_transition WHERE order_id = $1 ORDER BY seq`, id)
	return ts, wrap("read an order's history", err)
}

// Due implements order.Store.
func (s *Store) Due(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]uuid.UUID, error) {
	at, err := s.NextDue(ctx)
	if err != nil || at.IsZero() || at.After(now) {
		return nil, err // the common case takes no lock
	}
	ids, err := all(ctx, s.write, func(r *sql.Rows) (id uuid.UUID, err error) { err = r.Scan(&id); return id, err },
		`UPDATE orders SET next_at_ms = $2 WHERE id IN (SELECT id FROM orders WHERE next_at_ms <= $1 ORDER BY next_at_ms LIMIT $3`+
			s.d.ForUpdate+s.d.SkipLocked+`) RETURNING id`, MS(now), MS(now.Add(lease)), limit)
	return ids, wrap("take the orders that are due", err)
}

// NextDue implements order.Store.
func (s *Store) NextDue(ctx context.Context) (time.Time, error) {
	var at sql.NullInt64
	err := s.read.QueryRowContext(ctx, `SELECT min(next_at_ms) FROM orders WHERE next_at_ms IS NOT NULL`).Scan(&at)
	return FromMS(at.Int64), wrap("read when an order is due", err)
}

// Sleep implements order.Store.
func (s *Store) Sleep(ctx context.Context, id uuid.UUID, version int64, at time.Time) error {
	_, err := s.write.ExecContext(ctx, `UPDATE orders SET next_at_ms = $3 WHERE id = $1 AND version = $2`, id, version, nullMS(at))
	return wrap("store when an order is due", err)
}

func (t *tx) InsertOrder(ctx context.Context, o order.Order) error {
	_, err := t.q.ExecContext(ctx, `INSERT INTO orders (`+orderColumns+`) VALUES (`+params(1, 8)+`, `+t.db.d.Generation+`, `+params(9, 7)+`)`,
		o.ID, string(o.Principal), o.PassID, o.Room, o.Performance, string(o.State), string(o.Cause), o.Version,
		o.Currency, o.Total, MS(o.PinUntil), o.Dispute, nullMS(o.NextAt), MS(o.Created), MS(o.Updated))
	if err != nil {
		return fmt.Errorf("insert an order: %w", err)
	}
	for _, u := range o.Units {
		_, err := t.q.ExecContext(ctx, `INSERT INTO order_unit (order_id, unit, hold_id, block, seat, label, offer, price, fee, tax, state) VALUES (`+params(1, 11)+`)`,
			o.ID, u.Unit, u.HoldID, u.Seat.Block, u.Seat.Seat, u.Label, u.Offer, u.Price, u.Fee, u.Tax, string(u.State))
		if err != nil {
			return fmt.Errorf("insert an order's unit: %w", err)
		}
	}
	return nil
}

func (t *tx) LockOrder(ctx context.Context, id uuid.UUID) (order.Order, error) {
	return t.db.order(ctx, t.q, id, t.db.d.ForUpdate)
}

func (t *tx) SaveOrder(ctx context.Context, o order.Order) error {
	res, err := t.q.ExecContext(ctx, `UPDATE orders SET state = $2, close_reason = $3, version = $4, pin_until_ms = $5, dispute = $6, next_at_ms = $7, updated_ms = $8
		WHERE id = $1`, o.ID, string(o.State), string(o.Cause), o.Version, MS(o.PinUntil), o.Dispute, nullMS(o.NextAt), MS(o.Updated))
	return wrap("save an order", changed(res, err, order.ErrNotFound))
}

func (t *tx) UpdateUnit(ctx context.Context, id uuid.UUID, u order.Unit) error {
	res, err := t.q.ExecContext(ctx, `UPDATE order_unit SET state = $3 WHERE order_id = $1 AND unit = $2`, id, u.Unit, string(u.State))
	return wrap("update a unit", changed(res, err, order.ErrNotFound))
}

func (t *tx) AddTransition(ctx context.Context, x order.Transition) error {
	_, err := t.q.ExecContext(ctx, `INSERT INTO order_transition (order_id, seq, from_state, to_state, event, cause_id, at_ms) VALUES (`+params(1, 7)+`)`,
		x.OrderID, x.Seq, string(x.From), string(x.To), string(x.Event), x.CauseID, MS(x.At))
	return wrap("add a transition", err)
}

// seatList renders seats for a row-value IN.
func seatList(seats []order.Seat) string {
	var b strings.Builder
	for i, s := range seats {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "(%d,%d)", s.Block, s.Seat)
	}
	return b.String()
}

func (t *tx) Claim(ctx context.Context, performance, id uuid.UUID, seats []order.Seat) ([]order.Conflict, error) {
	seats = slices.Clone(seats)
	slices.SortFunc(seats, func(a, b order.Seat) int { // one order for all, against deadlocks
		if a.Block != b.Block {
			return a.Block - b.Block
		}
		return a.Seat - b.Seat
	})
	var values strings.Builder
	for i, s := range seats {
		if i > 0 {
			values.WriteByte(',')
		}
		fmt.Fprintf(&values, "($1, %d, %d, $2, $3)", s.Block, s.Seat)
	}
	for range 3 {
		_, err := once(t.q).ExecContext(ctx, `INSERT INTO seat_claim (performance_id, block, seat, order_id, sold) VALUES `+values.String()+
			` ON CONFLICT (performance_id, block, seat) DO NOTHING`, performance, id, false)
		if err != nil {
			return nil, fmt.Errorf("claim seats: %w", err)
		}
		var conflicts []order.Conflict
		mine := 0
		cs, err := all(ctx, once(t.q), func(r *sql.Rows) (c order.Conflict, err error) {
			err = r.Scan(&c.Seat.Block, &c.Seat.Seat, &c.OrderID, &c.Sold)
			return c, err
		}, `SELECT block, seat, order_id, sold FROM seat_claim WHERE performance_id = $1 AND (block, seat) IN (VALUES `+seatList(seats)+`) ORDER BY block, seat`, performance)
		if err != nil {
			return nil, fmt.Errorf("read claims: %w", err)
		}
		for _, c := range cs {
			if c.OrderID == id {
				mine++
			} else {
				conflicts = append(conflicts, c)
			}
		}
		if mine == len(seats) {
			return nil, nil
		}
		if len(conflicts) > 0 {
			return conflicts, t.DropClaims(ctx, performance, id, seats)
		}
		// Another order's claim went away between the two statements.
	}
	return nil, errors.New("claim seats: claims come and go")
}

func (t *tx) SetClaimsSold(ctx context.Context, id uuid.UUID, sold bool) error {
	_, err := t.q.ExecContext(ctx, `UPDATE seat_claim SET sold = $2 WHERE order_id = $1`, id, sold)
	return wrap("mark claims", err)
}

func (t *tx) DropClaims(ctx context.Context, performance, id uuid.UUID, seats []order.Seat) error {
	if len(seats) == 0 {
		return nil
	}
	_, err := once(t.q).ExecContext(ctx, `DELETE FROM seat_claim WHERE performance_id = $1 AND order_id = $2 AND (block, seat) IN (VALUES `+seatList(seats)+`)`, performance, id)
	return wrap("drop claims", err)
}

func (t *tx) IssueTickets(ctx context.Context, ts []order.Ticket) error {
	for _, k := range ts {
		_, err := t.q.ExecContext(ctx, `INSERT INTO ticket (id, order_id, performance_id, unit, version, block, seat, label, issued_ms) VALUES (`+params(1, 9)+`)`,
			k.ID, k.OrderID, k.Performance, k.Unit, k.Version, k.Seat.Block, k.Seat.Seat, k.Label, MS(k.Issued))
		if err != nil {
			return fmt.Errorf("issue a ticket: %w", err)
		}
	}
	return nil
}

func (t *tx) RevokeTickets(ctx context.Context, id uuid.UUID, units []int, reason string) error {
	now, err := t.Now(ctx)
	if err != nil {
		return err
	}
	for _, u := range units {
		_, err := t.q.ExecContext(ctx, `INSERT INTO ticket_revoked (ticket_id, version, reason, revoked_ms)
			SELECT id, version, CAST($3 AS TEXT), CAST($4 AS BIGINT) FROM ticket WHERE order_id = $1 AND unit = $2
			ON CONFLICT (ticket_id, version) DO NOTHING`, id, u, reason, MS(now))
		if err != nil {
			return fmt.Errorf("revoke a ticket: %w", err)
		}
	}
	return nil
}

// Emit implements bus.Emitter.
func (t *tx) Emit(ctx context.Context, e bus.Event) error {
	_, err := t.q.ExecContext(ctx, `INSERT INTO outbox (shard, topic, key, type, version, generation, subject, traceparent, at_ms, payload)
		VALUES (`+params(1, 5)+`, `+t.db.d.Generation+`, `+params(6, 4)+`)`,
		e.Shard, e.Topic, e.Key, e.Type, e.Version, e.Subject, e.Traceparent, MS(e.At), string(e.Payload))
	return wrap("write an event", err)
}
