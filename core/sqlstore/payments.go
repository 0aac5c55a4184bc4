package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/payment"
)

const paymentColumns = `id, order_id, attempt, provider, ref, state, version, currency, amount, authorised, captured, refunding, refunded,
	method, return_url, next_action, failure_code, capture_before_ms, unknown_since_ms, look_at_ms, spare, created_ms`

func scanPayment(r scanner) (payment.Payment, error) {
	var p payment.Payment
	var ref sql.NullString
	var before, unknown, look, created int64
	err := r.Scan(&p.ID, &p.OrderID, &p.Attempt, &p.Provider, &ref, &p.State, &p.Version, &p.Currency, &p.Amount, &p.Authorised, &p.Captured, &p.Refunding,
		&p.Refunded, &p.Method, &p.ReturnURL, &p.NextAction, &p.FailureCode, &before, &unknown, &look, &p.Spare, &created)
	p.Ref = ref.String
	p.CaptureBefore, p.UnknownSince, p.LookAt, p.Created = FromMS(before), FromMS(unknown), FromMS(look), FromMS(created)
	return p, err
}

func (t *tx) InsertPayment(ctx context.Context, p payment.Payment) error {
	_, err := t.q.ExecContext(ctx, `INSERT INTO payment (`+paymentColumns+`) VALUES (`+params(1, 22)+`)`,
		p.ID, p.OrderID, p.Attempt, p.Provider, nullText(p.Ref), string(p.State), p.Version, p.Currency, p.Amount, p.Authorised, p.Captured, p.Refunding, p.Refunded,
		p.Method, p.ReturnURL, p.NextAction, p.FailureCode, MS(p.CaptureBefore), MS(p.UnknownSince), MS(p.LookAt), p.Spare, MS(p.Created))
	return wrap("insert a payment", err)
}

func (t *tx) UpdatePayment(ctx context.Context, p *payment.Payment) error {
	res, err := t.q.ExecContext(ctx, `UPDATE payment SET ref = $3, state = $4, version = version + 1, authorised = $5, captured = $6, refunding = $7, refunded = $8,
		next_action = $9, failure_code = $10, capture_before_ms = $11, unknown_since_ms = $12, look_at_ms = $13, spare = $14 WHERE id = $1 AND version = $2`,
		p.ID, p.Version, nullText(p.Ref), string(p.State), p.Authorised, p.Captured, p.Refunding, p.Refunded, p.NextAction, p.FailureCode, MS(p.CaptureBefore),
		MS(p.UnknownSince), MS(p.LookAt), p.Spare)
	if err := changed(res, err, order.ErrStale); err != nil {
		return fmt.Errorf("update a payment: %w", err)
	}
	p.Version++
	return nil
}

func (t *tx) RecordCall(ctx context.Context, c payment.Call) (time.Time, error) {
	var first int64
	err := t.q.QueryRowContext(ctx, `INSERT INTO provider_call (id, payment_id, kind, key, state, tries, first_ms, last_ms) VALUES (`+params(1, 8)+`)
		ON CONFLICT (key) DO UPDATE SET state = 'sent', tries = provider_call.tries + 1, last_ms = excluded.last_ms RETURNING first_ms`,
		c.ID, c.PaymentID, string(c.Kind), c.Key, c.State, c.Tries, MS(c.First), MS(c.Last)).Scan(&first)
	return FromMS(first), wrap("record a provider call", err)
}

func (t *tx) AnswerCall(ctx context.Context, key, state string) error {
	_, err := t.q.ExecContext(ctx, `UPDATE provider_call SET state = $2 WHERE key = $1`, key, state)
	return wrap("record a provider's answer", err)
}

const refundColumns = `id, order_id, payment_id, amount, state, reason, ref, attempt, look_at_ms, created_ms`

func scanRefund(r *sql.Rows) (payment.Refund, error) {
	var x payment.Refund
	var look, created int64
	err := r.Scan(&x.ID, &x.OrderID, &x.PaymentID, &x.Amount, &x.State, &x.Reason, &x.Ref, &x.Attempt, &look, &created)
	x.LookAt, x.Created = FromMS(look), FromMS(created)
	return x, err
}

func (t *tx) InsertRefund(ctx context.Context, r payment.Refund) error {
	_, err := t.q.ExecContext(ctx, `INSERT INTO refund (`+refundColumns+`) VALUES (`+params(1, 10)+`)`,
		r.ID, r.OrderID, r.PaymentID, r.Amount, string(r.State), r.Reason, r.Ref, r.Attempt, MS(r.LookAt), MS(r.Created))
	if err != nil {
		return fmt.Errorf("insert a refund: %w", err)
	}
	for _, u := range r.Units {
		_, err := t.q.ExecContext(ctx, `INSERT INTO refund_unit (order_id, unit, refund_id) VALUES ($1, $2, $3)`, r.OrderID, u, r.ID)
		if t.db.d.Duplicate(err) {
			return order.ErrUnitRefunded
		}
		if err != nil {
			return fmt.Errorf("insert a refunded unit: %w", err)
		}
	}
	return nil
}

func (t *tx) UpdateRefund(ctx context.Context, r payment.Refund) error {
	res, err := t.q.ExecContext(ctx, `UPDATE refund SET state = $2, ref = $3, attempt = $4, look_at_ms = $5 WHERE id = $1`, r.ID, string(r.State), r.Ref, r.Attempt, MS(r.LookAt))
	return wrap("update a refund", changed(res, err, order.ErrNotFound))
}

// AddWebhook implements payment.WebhookStore.
func (s *Store) AddWebhook(ctx context.Context, w payment.Webhook) (bool, error) {
	// The update changes nothing; it makes the row come back.
	var state string
	err := s.write.QueryRowContext(ctx, `INSERT INTO webhook (provider, event_id, type, ref, payment_id, body, state, received_ms) VALUES (`+params(1, 6)+`, 'open', $7)
		ON CONFLICT (provider, event_id) DO UPDATE SET state = webhook.state RETURNING state`, w.Provider, w.EventID, w.Type, w.Ref, nullID(w.PaymentID), w.Body, MS(w.Received)).Scan(&state)
	return state == "open", wrap("store a webhook", err)
}

// OpenWebhooks implements payment.WebhookStore.
func (s *Store) OpenWebhooks(ctx context.Context, limit int) ([]payment.Webhook, error) {
	ws, err := all(ctx, s.read, func(r *sql.Rows) (w payment.Webhook, err error) {
		var id uuid.NullUUID
		var at int64
		err = r.Scan(&w.Provider, &w.EventID, &w.Type, &w.Ref, &id, &w.Body, &at)
		w.PaymentID, w.Received = id.UUID, FromMS(at)
		return w, err
	}, `SELECT provider, event_id, type, ref, payment_id, body, received_ms FROM webhook WHERE state = 'open' ORDER BY received_ms LIMIT $1`, limit)
	return ws, wrap("read open webhooks", err)
}

// CloseWebhook implements payment.WebhookStore.
func (s *Store) CloseWebhook(ctx context.Context, provider, eventID string, pay uuid.UUID) error {
	_, err := s.write.ExecContext(ctx, `UPDATE webhook SET state = 'done', payment_id = $3 WHERE provider = $1 AND event_id = $2`, provider, eventID, nullID(pay))
	return wrap("close a webhook", err)
}

// OrderOf implements payment.WebhookStore.
func (s *Store) OrderOf(ctx context.Context, provider, ref string, id uuid.UUID) (ord, pay uuid.UUID, ok bool, err error) {
	row := s.read.QueryRowContext(ctx, `SELECT order_id, id FROM payment WHERE id = $1 AND provider = $2`, id, provider)
	if id == uuid.Nil {
		row = s.read.QueryRowContext(ctx, `SELECT order_id, id FROM payment WHERE ref = $1 AND provider = $2`, ref, provider)
	}
	err = row.Scan(&ord, &pay)
	if errors.Is(err, sql.ErrNoRows) {
		return ord, pay, false, nil
	}
	return ord, pay, err == nil, wrap("find a payment's order", err)
}
