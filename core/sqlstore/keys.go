package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/order"
)

// TakeKey implements order.KeyStore.
func (s *Store) TakeKey(ctx context.Context, who order.Principal, key string, k order.KeyState, now time.Time) (got order.KeyState, taken bool, err error) {
	err = s.InTx(ctx, func(q Querier) error {
		res, err := q.ExecContext(ctx, `INSERT INTO idempotency (principal, key, fingerprint, state, owner, locked_until_ms, subject_id, created_ms)
			VALUES ($1, $2, $3, 'working', $4, $5, $6, $7) ON CONFLICT (principal, key) DO NOTHING`,
			string(who), key, k.Fingerprint, k.Owner, MS(k.LockedUntil), k.Subject, MS(now))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 1 {
			got, taken = k, true
			return nil
		}
		taken = false
		var state string
		var locked int64
		var header, body []byte
		err = q.QueryRowContext(ctx, `SELECT fingerprint, state, owner, locked_until_ms, subject_id, status, header, response FROM idempotency
			WHERE principal = $1 AND key = $2`+s.d.ForUpdate, string(who), key).
			Scan(&got.Fingerprint, &state, &got.Owner, &locked, &got.Subject, &got.Answer.Status, &header, &body)
		if err != nil {
			return err
		}
		got.Done, got.LockedUntil, got.Answer.Body, got.Answer.Header = state == "done", FromMS(locked), body, nil
		if err := json.Unmarshal(header, &got.Answer.Header); err != nil {
			return fmt.Errorf("decode the stored headers: %w", err)
		}
		if got.Done || got.Fingerprint != k.Fingerprint || now.Before(got.LockedUntil) {
			return nil
		}
		got.Owner, got.LockedUntil, taken = k.Owner, k.LockedUntil, true
		_, err = q.ExecContext(ctx, `UPDATE idempotency SET owner = $3, locked_until_ms = $4 WHERE principal = $1 AND key = $2`, string(who), key, k.Owner, MS(k.LockedUntil))
		return err
	})
	return got, taken, wrap("take an idempotency key", err)
}

// FinishKey implements order.KeyStore.
func (s *Store) FinishKey(ctx context.Context, who order.Principal, key string, owner uuid.UUID, a order.Answered) error {
	if a.Header == nil {
		a.Header = map[string]string{}
	}
	_, err := s.write.ExecContext(ctx, `UPDATE idempotency SET state = 'done', status = $4, header = $5, response = $6
		WHERE principal = $1 AND key = $2 AND owner = $3`, string(who), key, owner, a.Status, jsonOf(a.Header), a.Body)
	return wrap("finish an idempotency key", err)
}

// LeaveKey implements order.KeyStore.
func (s *Store) LeaveKey(ctx context.Context, who order.Principal, key string, owner uuid.UUID) error {
	_, err := s.write.ExecContext(ctx, `UPDATE idempotency SET locked_until_ms = 0 WHERE principal = $1 AND key = $2 AND owner = $3`, string(who), key, owner)
	return wrap("leave an idempotency key", err)
}

// PruneKeys implements order.KeyStore.
func (s *Store) PruneKeys(ctx context.Context, before time.Time) error {
	_, err := s.write.ExecContext(ctx, `DELETE FROM idempotency WHERE created_ms < $1`, MS(before))
	return wrap("forget old idempotency keys", err)
}
