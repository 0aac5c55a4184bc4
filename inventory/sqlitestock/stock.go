// Package sqlitestock keeps seats, charts and the list of performances in one SQLite file, for the program that runs
// alone. It passes the same conformance suite as inventory/cqlstock.
//
// One goroutine writes. It takes the batches that wait, of whatever blocks, into one transaction, so they share one
// flush to disk; each is still applied or refused by itself. A commit is durable before anyone is answered
// (synchronous=FULL). Leases end by the clock given to Open, in whole seconds rounded down, as a TTL does in Cassandra.
package sqlitestock

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/stanchion-queue/stanchion/inventory"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Stock is the store. It is safe for concurrent use by one process; a second process must be kept out by a lock on the
// data directory.
type Stock struct {
	now    func() time.Time
	writer *sql.DB // one connection
	reader *sql.DB
	conn   *sql.Conn // the writer's connection, used by the writing goroutine alone

	jobs    chan *job
	stop    chan struct{}
	stopped chan struct{}
	closing sync.Once
}

var _ inventory.Store = (*Stock)(nil)

// Open opens or creates the file and brings its schema up to date. now is the clock leases end by; nil means time.Now.
func Open(ctx context.Context, path string, now func() time.Time) (*Stock, error) {
	if now == nil {
		now = time.Now
	}
	s := &Stock{now: now, jobs: make(chan *job), stop: make(chan struct{}), stopped: make(chan struct{})}
	var err error
	if s.writer, err = open(path, "rwc", 1); err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.writer.Close())
	}
	if s.conn, err = s.writer.Conn(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the seat store %s: %w", path, err), s.writer.Close())
	}
	if s.reader, err = open(path, "ro", 4); err != nil {
		return nil, errors.Join(err, s.conn.Close(), s.writer.Close())
	}
	go s.write()
	return s, nil
}

func open(path, mode string, connections int) (*sql.DB, error) {
	q := url.Values{"mode": {mode}, "_pragma": {"busy_timeout(5000)", "synchronous(FULL)"}}
	if mode == "rwc" {
		q["_pragma"] = append(q["_pragma"], "journal_mode(WAL)")
	}
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, fmt.Errorf("open the seat store %s: %w", path, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

func (s *Stock) migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, s.writer, dir)
	if err != nil {
		return fmt.Errorf("prepare the seat store's schema: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("bring the seat store's schema up to date: %w", err)
	}
	return nil
}

// Close lets the writes under way finish and closes the file. Later calls fail without effect.
func (s *Stock) Close() error {
	var err error
	s.closing.Do(func() {
		close(s.stop)
		<-s.stopped
		err = errors.Join(s.reader.Close(), s.conn.Close(), s.writer.Close())
	})
	return err
}

// errClosed is answered without effect.
var errClosed = errors.New("the seat store is closed")

// job is one unit of the writing goroutine. do runs inside the transaction and must not write when it fails.
type job struct {
	do      func(ctx context.Context) error
	claimed atomic.Bool // by the writer, or by a caller that gave up
	done    chan error
}

// errCommit marks that a commit failed: whether it is on disk is unknown.
type errCommit struct{ error }

func (e errCommit) Unwrap() error { return e.error }

// submit runs do in a write transaction. Before the writer has taken the job up, a cancelled ctx withdraws it.
func (s *Stock) submit(ctx context.Context, do func(ctx context.Context) error) error {
	j := &job{do: do, done: make(chan error, 1)}
	select {
	case s.jobs <- j:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stop:
		return errClosed
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		if j.claimed.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		return <-j.done // under way; the disk is soon done
	}
}

func (s *Stock) write() {
	defer close(s.stopped)
	const mostJobs = 64
	for {
		var group []*job
		select {
		case j := <-s.jobs:
			group = append(group, j)
		case <-s.stop:
			return
		}
	collect:
		for len(group) < mostJobs {
			select {
			case j := <-s.jobs:
				group = append(group, j)
			default:
				break collect
			}
		}
		group = slices.DeleteFunc(group, func(j *job) bool { return !j.claimed.CompareAndSwap(false, true) })
		err := s.transact(group)
		for _, j := range group {
			if err != nil && len(group) > 1 && !errors.As(err, new(errCommit)) {
				// Rolled back. One of them is at fault; the others must not suffer.
				j.done <- s.transact([]*job{j})
				continue
			}
			j.done <- err
		}
	}
}

// transact runs the jobs in one transaction. An error that is not an errCommit means that nothing was written.
func (s *Stock) transact(group []*job) error {
	if len(group) == 0 {
		return nil
	}
	ctx := context.Background() // a half-cancelled transaction would be an unknown outcome for nothing
	if _, err := s.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	for _, j := range group {
		if err := j.do(ctx); err != nil {
			return errors.Join(err, s.rollback(ctx))
		}
	}
	if _, err := s.conn.ExecContext(ctx, "COMMIT"); err != nil {
		// The connection may still be inside the transaction, then nothing of it is durable; or it is not, and we cannot know.
		return errCommit{errors.Join(fmt.Errorf("commit: %w", err), s.rollback(ctx))}
	}
	return nil
}

func (s *Stock) rollback(ctx context.Context) error {
	if _, err := s.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}

// CreateBlock implements inventory.Stock.
func (s *Stock) CreateBlock(ctx context.Context, key inventory.Key, spec inventory.BlockSpec) (bool, error) {
	if err := spec.Check(); err != nil {
		return false, err
	}
	var created bool
	err := s.submit(ctx, func(ctx context.Context) error {
		created = false
		head, chart, ok, err := s.head(ctx, key)
		if err != nil {
			return err
		}
		if ok {
			return s.sameBlock(ctx, key, head, chart, spec)
		}
		_, err = s.conn.ExecContext(ctx, `INSERT INTO block (performance, block, ver, last, epoch, state, chart) VALUES (?, ?, 1, ?, ?, ?, ?)`,
			key.Performance[:], key.Block, uuid.Nil[:], spec.Epoch, inventory.Closed, spec.Chart[:])
		if err != nil {
			return fmt.Errorf("create block %v: %w", key, err)
		}
		insert, err := s.conn.PrepareContext(ctx, `INSERT INTO seat (performance, block, seat, channel, kill, order_id) VALUES (?, ?, ?, ?, ?, ?)`)
		if err != nil {
			return fmt.Errorf("create block %v: %w", key, err)
		}
		defer insert.Close()
		for n, seat := range spec.Seats {
			if _, err := insert.ExecContext(ctx, key.Performance[:], key.Block, n, seat.Channel, seat.Kill, uuid.Nil[:]); err != nil {
				return fmt.Errorf("create block %v, seat %d: %w", key, n, err)
			}
		}
		created = true
		return nil
	})
	var other errConflict
	if errors.As(err, &other) {
		return false, inventory.ErrConflict
	}
	return created && err == nil, err
}

// errConflict carries a conflict through a transaction that is rolled back because of it.
type errConflict struct{ error }

// sameBlock compares what exists with what was asked for.
func (s *Stock) sameBlock(ctx context.Context, key inventory.Key, head inventory.Head, chart [32]byte, spec inventory.BlockSpec) error {
	var seats int
	err := s.conn.QueryRowContext(ctx, `SELECT count(*) FROM seat WHERE performance = ? AND block = ?`, key.Performance[:], key.Block).Scan(&seats)
	if err != nil {
		return fmt.Errorf("count the seats of block %v: %w", key, err)
	}
	if chart != spec.Chart || head.Epoch != spec.Epoch || seats != len(spec.Seats) {
		return errConflict{fmt.Errorf("block %v exists with other seats", key)}
	}
	return nil
}

func (s *Stock) head(ctx context.Context, key inventory.Key) (inventory.Head, [32]byte, bool, error) {
	var h inventory.Head
	var last, chart []byte
	row := s.conn.QueryRowContext(ctx, `SELECT ver, last, epoch, state, chart FROM block WHERE performance = ? AND block = ?`, key.Performance[:], key.Block)
	err := row.Scan(&h.Ver, &last, &h.Epoch, &h.State, &chart)
	if errors.Is(err, sql.ErrNoRows) {
		return h, [32]byte{}, false, nil
	}
	if err != nil {
		return h, [32]byte{}, false, fmt.Errorf("read the head of block %v: %w", key, err)
	}
	copy(h.Last[:], last)
	var sum [32]byte
	copy(sum[:], chart)
	return h, sum, true, nil
}

// Apply implements inventory.Stock. Its verdict is Unknown only when a commit to disk failed.
func (s *Stock) Apply(ctx context.Context, key inventory.Key, batch inventory.Batch) (inventory.Outcome, error) {
	if err := batch.Check(); err != nil {
		return inventory.Outcome{Verdict: inventory.NoEffect}, err
	}
	var out inventory.Outcome
	err := s.submit(ctx, func(ctx context.Context) (err error) {
		out, err = s.apply(ctx, key, batch)
		return err
	})
	switch {
	case err == nil:
		return out, nil
	case errors.As(err, new(errCommit)):
		return inventory.Outcome{Verdict: inventory.Unknown}, fmt.Errorf("change block %v: %w", key, err)
	}
	return inventory.Outcome{Verdict: inventory.NoEffect}, fmt.Errorf("change block %v: %w", key, err)
}

func (s *Stock) apply(ctx context.Context, key inventory.Key, batch inventory.Batch) (inventory.Outcome, error) {
	head, _, ok, err := s.head(ctx, key)
	switch {
	case err != nil:
		return inventory.Outcome{}, err
	case !ok:
		return inventory.Outcome{Verdict: inventory.Missing}, nil
	case head.Ver != batch.Ver:
		return inventory.Outcome{Verdict: inventory.Stale, Head: head}, nil
	}
	now := s.now().Unix()
	seats, err := s.seats(ctx, key, batch.Changes, now)
	if err != nil {
		return inventory.Outcome{}, err
	}
	if head.Epoch != batch.Epoch || !slices.Contains(batch.States, head.State) || !admits(batch.Changes, seats) {
		return inventory.Outcome{Verdict: inventory.Refused, Head: head, Seats: seats}, nil
	}
	head.Ver, head.Last = head.Ver+1, batch.Op
	if batch.Set != nil {
		head.State = *batch.Set
	}
	_, err = s.conn.ExecContext(ctx, `UPDATE block SET ver = ?, last = ?, state = ? WHERE performance = ? AND block = ?`,
		head.Ver, head.Last[:], head.State, key.Performance[:], key.Block)
	if err != nil {
		return inventory.Outcome{}, fmt.Errorf("move the version: %w", err)
	}
	for i := range batch.Changes {
		if err := s.change(ctx, key, &batch.Changes[i], now); err != nil {
			return inventory.Outcome{}, err
		}
	}
	return inventory.Outcome{Verdict: inventory.Applied, Head: head}, nil
}

// seats reads the seats that a batch names; those that do not exist are left out.
func (s *Stock) seats(ctx context.Context, key inventory.Key, changes []inventory.Change, now int64) ([]inventory.Seat, error) {
	var numbers []int16
	for i := range changes {
		numbers = append(numbers, changes[i].Seats...)
	}
	if len(numbers) == 0 {
		return nil, nil
	}
	list, err := json.Marshal(numbers)
	if err != nil {
		return nil, err
	}
	rows, err := s.conn.QueryContext(ctx, `SELECT seat, channel, kill, order_id, hold_id, until FROM seat
		WHERE performance = ? AND block = ? AND seat IN (SELECT value FROM json_each(?))`, key.Performance[:], key.Block, string(list))
	if err != nil {
		return nil, fmt.Errorf("read seats: %w", err)
	}
	defer rows.Close()
	seats := make([]inventory.Seat, 0, len(numbers))
	for rows.Next() {
		var seat inventory.Seat
		var order, hold []byte
		var until sql.NullInt64
		if err := rows.Scan(&seat.Seat, &seat.Channel, &seat.Kill, &order, &hold, &until); err != nil {
			return nil, fmt.Errorf("read seats: %w", err)
		}
		fill(&seat, order, hold, until, now)
		seat.Left = 0
		seats = append(seats, seat)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read seats: %w", err)
	}
	return seats, nil
}

// fill sets order, and the hold while its lease lives. A lease that seems to end further away than any lease may was
// given before the clock was set back, and counts as over.
func fill(seat *inventory.Seat, order, hold []byte, until sql.NullInt64, now int64) {
	copy(seat.Order[:], order)
	left := time.Duration(until.Int64-now) * time.Second
	if until.Valid && left > 0 && left <= inventory.LongestLease {
		copy(seat.Hold[:], hold)
		seat.Left = left
	}
}

func admits(changes []inventory.Change, seats []inventory.Seat) bool {
	at := make(map[int16]inventory.Seat, len(seats))
	for _, s := range seats {
		at[s.Seat] = s
	}
	for i := range changes {
		for _, n := range changes[i].Seats {
			if s, ok := at[n]; !ok || !changes[i].Admits(s) {
				return false
			}
		}
	}
	return true
}

func (s *Stock) change(ctx context.Context, key inventory.Key, c *inventory.Change, now int64) error {
	var set string
	var args []any
	switch c.Kind {
	case inventory.Hold, inventory.Pin:
		set, args = "hold_id = ?, until = ?", []any{c.Hold[:], now + int64(c.Lease.Seconds())}
	case inventory.Release:
		set = "hold_id = NULL, until = NULL"
	case inventory.Sell, inventory.Rescue:
		set, args = "order_id = ?", []any{c.Order[:]}
	case inventory.Unsell:
		set, args = "order_id = ?, kill = ?", []any{uuid.Nil[:], c.Kill}
	case inventory.SetKill:
		set, args = "kill = ?", []any{c.Kill}
	}
	list, err := json.Marshal(c.Seats)
	if err != nil {
		return err
	}
	args = append(args, key.Performance[:], key.Block, string(list))
	res, err := s.conn.ExecContext(ctx, "UPDATE seat SET "+set+" WHERE performance = ? AND block = ? AND seat IN (SELECT value FROM json_each(?))", args...)
	if err != nil {
		return fmt.Errorf("%v: %w", c.Kind, err)
	}
	if n, err := res.RowsAffected(); err != nil || n != int64(len(c.Seats)) {
		return fmt.Errorf("%v of %d seats changed %d rows (%v)", c.Kind, len(c.Seats), n, err)
	}
	return nil
}

// Read implements inventory.Stock. Both modes are the same here.
func (s *Stock) Read(ctx context.Context, key inventory.Key, _ inventory.ReadMode) (inventory.Block, error) {
	var b inventory.Block
	// One statement, so one snapshot.
	rows, err := s.reader.QueryContext(ctx, `SELECT b.ver, b.last, b.epoch, b.state, b.chart, s.seat, s.channel, s.kill, s.order_id, s.hold_id, s.until
		FROM block b JOIN seat s ON s.performance = b.performance AND s.block = b.block
		WHERE b.performance = ? AND b.block = ? ORDER BY s.seat`, key.Performance[:], key.Block)
	if err != nil {
		return b, fmt.Errorf("read block %v: %w", key, err)
	}
	defer rows.Close()
	now := s.now().Unix()
	for rows.Next() {
		var seat inventory.Seat
		var last, chart, order, hold []byte
		var until sql.NullInt64
		err := rows.Scan(&b.Ver, &last, &b.Epoch, &b.State, &chart, &seat.Seat, &seat.Channel, &seat.Kill, &order, &hold, &until)
		if err != nil {
			return b, fmt.Errorf("read block %v: %w", key, err)
		}
		copy(b.Last[:], last)
		copy(b.Chart[:], chart)
		fill(&seat, order, hold, until, now)
		b.Seats = append(b.Seats, seat)
	}
	if err := rows.Err(); err != nil {
		return b, fmt.Errorf("read block %v: %w", key, err)
	}
	if len(b.Seats) == 0 {
		return b, inventory.ErrNoBlock
	}
	return b, nil
}
