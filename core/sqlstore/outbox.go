package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/stanchion-queue/stanchion/core/bus"
)

const eventColumns = `o.id, o.shard, o.topic, o.key, o.type, o.version, o.generation, o.subject, o.traceparent, o.at_ms, o.payload`

func scanEvent(r *sql.Rows) (bus.Event, error) {
	var e bus.Event
	var at int64
	var payload []byte
	err := r.Scan(&e.ID, &e.Shard, &e.Topic, &e.Key, &e.Type, &e.Version, &e.Generation, &e.Subject, &e.Traceparent, &at, &payload)
	e.At, e.Payload = FromMS(at), payload
	return e, err
}

// Head implements bus.Outbox.
func (s *Store) Head(ctx context.Context, shard int, after int64, limit int) ([]bus.Event, error) {
	es, err := all(ctx, s.read, scanEvent, `SELECT `+eventColumns+` FROM outbox o WHERE o.shard = $1 AND o.id > $2 ORDER BY o.id LIMIT $3`, shard, after, limit)
	return es, wrap("read the outbox", err)
}

// Delete implements bus.Outbox.
func (s *Store) Delete(ctx context.Context, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := once(s.write).ExecContext(ctx, `DELETE FROM outbox WHERE id IN (`+numbers(ids)+`)`)
	return wrap("delete published events", err)
}

// Guard implements bus.Outbox.
func (s *Store) Guard(ctx context.Context, shard int) (alive func(context.Context) error, release func(), ok bool, err error) {
	return s.d.Guard(ctx, s.pools[0], shard)
}

// Enrol implements bus.Spool.
func (s *Store) Enrol(ctx context.Context, consumer string, topics []string) error {
	return s.InTx(ctx, func(q Querier) error {
		if _, err := q.ExecContext(ctx, `DELETE FROM bus_consumer WHERE consumer = $1`, consumer); err != nil {
			return fmt.Errorf("enrol a consumer: %w", err)
		}
		for _, t := range topics {
			if _, err := q.ExecContext(ctx, `INSERT INTO bus_consumer (consumer, topic) VALUES ($1, $2)`, consumer, t); err != nil {
				return fmt.Errorf("enrol a consumer: %w", err)
			}
		}
		return nil
	})
}

// Unhandled implements bus.Spool.
func (s *Store) Unhandled(ctx context.Context, consumer string, limit int) ([]bus.Event, error) {
	es, err := all(ctx, s.read, scanEvent, `SELECT `+eventColumns+` FROM outbox o JOIN bus_consumer c ON c.topic = o.topic AND c.consumer = $1
		WHERE NOT EXISTS (SELECT 1 FROM bus_handled h WHERE h.outbox_id = o.id AND h.consumer = $1) ORDER BY o.id LIMIT $2`, consumer, limit)
	return es, wrap("read the outbox", err)
}

// Handled implements bus.Spool.
func (s *Store) Handled(ctx context.Context, consumer string, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	return s.InTx(ctx, func(q Querier) error {
		for _, id := range ids {
			if _, err := q.ExecContext(ctx, `INSERT INTO bus_handled (outbox_id, consumer) VALUES ($1, $2) ON CONFLICT DO NOTHING`, id, consumer); err != nil {
				return fmt.Errorf("note handled events: %w", err)
			}
		}
		return nil
	})
}

// Sweep implements bus.Spool.
func (s *Store) Sweep(ctx context.Context, limit int) (int, error) {
	n := 0
	err := s.InTx(ctx, func(q Querier) error {
		ids, err := all(ctx, q, func(r *sql.Rows) (id int64, err error) { err = r.Scan(&id); return id, err },
			`SELECT o.id FROM outbox o WHERE NOT EXISTS (SELECT 1 FROM bus_consumer c WHERE c.topic = o.topic
				AND NOT EXISTS (SELECT 1 FROM bus_handled h WHERE h.outbox_id = o.id AND h.consumer = c.consumer)) ORDER BY o.id LIMIT $1`, limit)
		if n = len(ids); err != nil || n == 0 {
			return err
		}
		for part := range slices.Chunk(ids, 500) {
			if _, err := once(q).ExecContext(ctx, `DELETE FROM bus_handled WHERE outbox_id IN (`+numbers(part)+`)`); err != nil {
				return err
			}
			if _, err := once(q).ExecContext(ctx, `DELETE FROM outbox WHERE id IN (`+numbers(part)+`)`); err != nil {
				return err
			}
		}
		return nil
	})
	return n, wrap("delete handled events", err)
}

// Seen implements bus.Inbox.
func (s *Store) Seen(ctx context.Context, consumer, dedupe string) (bool, error) {
	var n int
	err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM inbox WHERE consumer = $1 AND dedupe = $2`, consumer, dedupe).Scan(&n)
	return n > 0, wrap("read an inbox", err)
}

// Mark implements bus.Inbox.
func (s *Store) Mark(ctx context.Context, consumer, dedupe string, at time.Time) error {
	_, err := Mark(ctx, s.write, consumer, dedupe, at)
	return err
}

// Mark notes in a consumer's inbox that it has handled an event, in the
// transaction that holds the effect, and says whether it is the first time: if
// not, the effect must not happen again.
func Mark(ctx context.Context, q Querier, consumer, dedupe string, at time.Time) (first bool, err error) {
	res, err := q.ExecContext(ctx, `INSERT INTO inbox (consumer, dedupe, at_ms) VALUES ($1, $2, $3) ON CONFLICT (consumer, dedupe) DO NOTHING`, consumer, dedupe, MS(at))
	if err != nil {
		return false, fmt.Errorf("write an inbox: %w", err)
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

// Advance moves a projection of a subject to (generation, version) in the
// transaction that applies it, and says whether it is newer than what is
// there: if not, the event must not be applied.
func Advance(ctx context.Context, q Querier, consumer, key string, generation, version int64) (newer bool, err error) {
	res, err := q.ExecContext(ctx, `INSERT INTO projection_version (consumer, key, generation, version) VALUES ($1, $2, $3, $4)
		ON CONFLICT (consumer, key) DO UPDATE SET generation = excluded.generation, version = excluded.version
		WHERE (projection_version.generation, projection_version.version) < (excluded.generation, excluded.version)`, consumer, key, generation, version)
	if err != nil {
		return false, fmt.Errorf("advance a projection: %w", err)
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

// PruneInbox forgets what was handled before a time. Keep it longer than any
// topic is kept.
func (s *Store) PruneInbox(ctx context.Context, before time.Time) error {
	_, err := s.write.ExecContext(ctx, `DELETE FROM inbox WHERE at_ms < $1`, MS(before))
	return wrap("forget old inbox entries", err)
}
