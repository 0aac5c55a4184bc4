// Package localqueue is the embedded room store: what Redis would hold, in one process and one file.
//
// Decisions are made in memory, by the same rules as the scripts of package redisqueue. What a step changes is one row of a journal
// in SQLite, and the step's answer leaves only after the commit that holds the row; rows that arrive while a commit is under
// way share the next one. A snapshot replaces the journal now and then. Killing the process or the machine loses nothing
// that was answered.
//
// The file has one owner. When it is opened its last owner is dead, and with it every edge that the store knew: their sessions
// keep their leases and belong to the controller's own set until an edge of the new process renews them, gen is unset, and
// Lead succeeds at once.
package localqueue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// Options configure a Store.
type Options struct {
	Path       string                // the file, usually rooms.db; its folder must exist
	Volatile   bool                  // keep nothing: no file, for tests and simulation
	Clock      func() time.Time      // time.Now when nil; store time never goes back even if it does
	Logger     *slog.Logger          // discarded when nil
	Registerer prometheus.Registerer // no metrics when nil

	SnapshotEvery time.Duration // at most so long between snapshots while the room is in use; 60 s when zero
	SnapshotRows  int           // and at most so many journal rows; 10,000 when zero
}

// ErrClosed is returned by every step after Close.
var ErrClosed = errors.New("localqueue: store is closed")

// errBacklog is returned before anything is decided when the disk does not take what was decided before.
var errBacklog = errors.New("localqueue: the journal cannot be written at the moment")

const maxBacklog = 8192 // steps decided and not yet durable

// Store implements queue.Store in one process. It is safe for concurrent use.
type Store struct {
	opt     Options
	log     *slog.Logger
	metrics metrics
	file    *file // nil when volatile
	runID   string

	mu       sync.Mutex
	rooms    map[string]*room
	lastMs   int64 // store time handed out last
	filling  *batch
	flying   *batch
	journal  int // rows since the last snapshot
	closed   bool
	wroteMs  int64 // store time written last
	rec      encoder
	wake     chan struct{}
	finished chan struct{}
}

// batch is what one commit makes durable. err is set before done is closed.
type batch struct {
	rows []entry
	done chan struct{}
	err  error
}

var _ queue.Store = (*Store)(nil)

// Open opens or makes the file. A file that is in use, damaged or not a room store is refused by name.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.SnapshotEvery <= 0 {
		o.SnapshotEvery = time.Minute
	}
	if o.SnapshotRows <= 0 {
		o.SnapshotRows = 10_000
	}
	s := &Store{
		opt: o, log: o.Logger, rooms: map[string]*room{}, wake: make(chan struct{}, 1), finished: make(chan struct{}),
		runID: fmt.Sprintf("local-%016x", rand.Uint64()),
	}
	if err := s.metrics.register(o.Registerer, s); err != nil {
		return nil, fmt.Errorf("localqueue: register metrics: %w", err)
	}
	if o.Volatile {
		close(s.finished)
		return s, nil
	}
	f, err := openFile(ctx, o.Path)
	if err != nil {
		return nil, fmt.Errorf("localqueue: %w", err)
	}
	rooms, last, err := f.load(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("localqueue: %w", err), f.close())
	}
	s.file, s.rooms, s.lastMs, s.wroteMs = f, rooms, last+1, last
	for _, r := range rooms {
		s.resurrect(r)
	}
	go s.write()
	return s, nil
}

// resurrect makes a room that a dead process left behind usable: no gen, no beat, no edge. Nothing of it needs to be
// written; the next start would do the same.
func (s *Store) resurrect(r *room) {
	r.gen = ""
	r.dropRetired(s.lastMs)
	s.log.Info("room restored", "room", r.name, "sessions", r.active, "lines", len(r.lines))
}

// now is the store's time: the clock, but never less than a moment after what was handed out before.
func (s *Store) now() int64 {
	s.lastMs = max(s.opt.Clock().UnixMilli(), s.lastMs)
	return s.lastMs
}

var roomName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// step runs one atomic step on a room and returns once everything that it changed or saw is durable.
func (s *Store) step(ctx context.Context, name string, do func(r *room, nowMs int64) error) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	if s.filling != nil && len(s.filling.rows) >= maxBacklog {
		s.mu.Unlock()
		return errBacklog
	}
	r := s.rooms[name]
	if r == nil {
		s.mu.Unlock()
		return queue.ErrNoRoom
	}
	now := s.now()
	s.rec.buf = s.rec.buf[:0]
	r.rec = &s.rec
	err := do(r, now)
	r.rec = nil
	if len(s.rec.buf) > 0 {
		s.enqueue(entry{room: name, ms: now, body: append([]byte(nil), s.rec.buf...)})
	}
	b := s.pending(now)
	s.mu.Unlock()
	var gen *queue.GenError
	if errors.As(err, &gen) {
		gen.RunID = s.runID
	}
	if werr := b.wait(ctx); werr != nil {
		return werr
	}
	return err
}

// enqueue adds a row to the commit that comes next.
func (s *Store) enqueue(e entry) {
	if s.file == nil {
		return
	}
	if s.filling == nil {
		s.filling = &batch{done: make(chan struct{})}
	}
	s.filling.rows = append(s.filling.rows, e)
	s.signal()
}

// pending is the commit that a step has to wait for: an answer may show what an earlier step changed, so it waits for that, too.
func (s *Store) pending(nowMs int64) *batch {
	if s.file == nil {
		return nil
	}
	if nowMs-s.wroteMs >= 1000 {
		s.signal()
	}
	if s.filling != nil {
		return s.filling
	}
	return s.flying
}

func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// wait returns once the batch is durable.
func (b *batch) wait(ctx context.Context) error {
	if b == nil {
		return nil
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("localqueue: waiting for the journal: %w", ctx.Err())
	}
}

// write is the goroutine that owns the file.
func (s *Store) write() {
	defer close(s.finished)
	timer := time.NewTimer(s.opt.SnapshotEvery)
	defer timer.Stop()
	due := false
	for {
		select {
		case <-s.wake:
		case <-timer.C:
			due = true
		}
		s.mu.Lock()
		b, closed := s.filling, s.closed
		s.filling, s.flying = nil, b
		now, written := s.lastMs, s.wroteMs
		if b != nil {
			s.journal += len(b.rows)
		}
		var rooms []roomParts
		var err error
		cut := s.journal > 0 && (due || closed || s.journal >= s.opt.SnapshotRows)
		if cut {
			if rooms, err = s.takeParts(now); err != nil {
				s.log.Error("no snapshot, the journal goes on", "error", err)
				cut, err = false, nil
			}
		}
		s.mu.Unlock()

		switch {
		case cut:
			err = s.persist(closed, func() error { return s.file.snapshot(context.Background(), rooms, now) })
			if err == nil {
				s.metrics.snapshots.Inc()
			}
		case b != nil:
			err = s.persist(closed, func() error { return s.file.append(context.Background(), b.rows) })
		case now-written >= 1000 || (closed && now > written):
			if terr := s.file.writeTime(context.Background(), now); terr != nil {
				s.log.Error("store time not written", "error", terr)
			}
		}
		s.mu.Lock()
		if err == nil {
			s.wroteMs = max(s.wroteMs, now)
		}
		if cut && err == nil {
			s.journal = 0
			due = false
			timer.Reset(s.opt.SnapshotEvery)
		} else if due && !cut { // nothing to do; the next row starts the clock again
			due = false
			timer.Reset(s.opt.SnapshotEvery)
		}
		s.flying = nil
		stop := closed && s.filling == nil
		s.mu.Unlock()
		if b != nil {
			b.err = err
			close(b.done)
		}
		if stop {
			return
		}
		if closed {
			s.signal()
		}
	}
}

// takeParts encodes what changed in all rooms.
func (s *Store) takeParts(nowMs int64) ([]roomParts, error) {
	began := time.Now()
	var out []roomParts
	for name, r := range s.rooms {
		r.dropRetired(nowMs)
		parts, err := r.takeParts()
		if err != nil {
			return nil, fmt.Errorf("localqueue: snapshot of room %s: %w", name, err)
		}
		if len(parts) > 0 {
			out = append(out, roomParts{name, parts})
		}
	}
	for _, r := range s.rooms {
		clear(r.mod)
	}
	s.metrics.encode.Observe(time.Since(began).Seconds())
	return out, nil
}

// persist repeats a write until it succeeds: what was decided in memory must not be lost because the disk was full for a while,
// and nothing is answered meanwhile. When the store is being closed it gives up after a few tries.
func (s *Store) persist(closing bool, do func() error) error {
	pause := 10 * time.Millisecond
	for try := 1; ; try++ {
		began := time.Now()
		err := do()
		if err == nil {
			s.metrics.commit.Observe(time.Since(began).Seconds())
			return nil
		}
		s.metrics.failures.Inc()
		s.log.Error("room store not written, trying again", "error", err, "try", try)
		if closing && try >= 5 {
			return err
		}
		s.mu.Lock()
		closing = closing || s.closed
		s.mu.Unlock()
		time.Sleep(pause) // back-off of a failing disk, not synchronisation
		pause = min(2*pause, time.Second)
	}
}

// Close writes a last snapshot and gives the file back.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.metrics.unregister(s.opt.Registerer)
	if s.file == nil {
		return nil
	}
	s.signal()
	<-s.finished
	if err := s.file.close(); err != nil {
		return fmt.Errorf("localqueue: close %s: %w", s.file.path, err)
	}
	return nil
}

// Create implements queue.Store.
func (s *Store) Create(ctx context.Context, name string) error {
	if !roomName.MatchString(name) {
		return fmt.Errorf("localqueue: room name %q: want 1 to 32 of a-z, 0-9 and -", name)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	now := s.now()
	if s.rooms[name] == nil {
		s.rooms[name] = newRoom(name)
		s.enqueue(entry{room: name, ms: now})
	}
	b := s.pending(now)
	s.mu.Unlock()
	return b.wait(ctx)
}

// Control implements queue.Store.
func (s *Store) Control(ctx context.Context, name string) (c queue.Control, err error) {
	err = s.step(ctx, name, func(r *room, now int64) error {
		c = r.control(now)
		c.RunID = s.runID
		return nil
	})
	return c, err
}

// Flush implements queue.Store. A flush that changes nothing durable costs no write.
func (s *Store) Flush(ctx context.Context, name string, f queue.Flush) (reply queue.FlushReply, err error) {
	err = s.step(ctx, name, func(r *room, now int64) (err error) {
		reply, err = r.flush(now, &f)
		reply.Control.RunID = s.runID
		return err
	})
	if err != nil {
		return queue.FlushReply{}, err
	}
	return reply, nil
}

// Claim implements queue.Store.
func (s *Store) Claim(ctx context.Context, name string, b queue.ClaimBatch) (out []queue.ClaimResult, err error) {
	if len(b.Claims) > queue.MaxClaims {
		return nil, fmt.Errorf("localqueue: batch of %d claims, at most %d", len(b.Claims), queue.MaxClaims)
	}
	err = s.step(ctx, name, func(r *room, now int64) (err error) {
		out, err = r.claim(now, &b)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Lead implements queue.Store.
func (s *Store) Lead(ctx context.Context, name, old, token string) error {
	return s.step(ctx, name, func(r *room, now int64) error { return r.lead(now, old, token) })
}

// Beat implements queue.Store.
func (s *Store) Beat(ctx context.Context, name, token string) error {
	return s.step(ctx, name, func(r *room, now int64) error { return r.beatNow(now, token) })
}

// Regen implements queue.Store.
func (s *Store) Regen(ctx context.Context, name, token, next string) error {
	return s.step(ctx, name, func(r *room, _ int64) error { return r.regen(token, next) })
}

// Restore implements queue.Store.
func (s *Store) Restore(ctx context.Context, name string, in queue.Restore) error {
	return s.step(ctx, name, func(r *room, now int64) error { return r.restore(now, &in) })
}

// Unsealed implements queue.Store.
func (s *Store) Unsealed(ctx context.Context, name string, id line.ID, from, to line.Window) (rows []queue.Row, err error) {
	err = s.step(ctx, name, func(r *room, _ int64) error {
		l := r.byLine[id]
		if l == nil {
			return queue.ErrNoLine
		}
		rows = l.unsealed(from, to)
		return nil
	})
	return rows, err
}

// Edges implements queue.Store.
func (s *Store) Edges(ctx context.Context, name string) (edges []queue.EdgeState, err error) {
	err = s.step(ctx, name, func(r *room, _ int64) error {
		edges = r.edgeStates()
		return nil
	})
	return edges, err
}

// Seal implements queue.Store.
func (s *Store) Seal(ctx context.Context, name string, in queue.Seal) error {
	return s.step(ctx, name, func(r *room, _ int64) error { return r.seals(&in) })
}

// Call implements queue.Store. A call that moves nothing costs no write.
func (s *Store) Call(ctx context.Context, name string, c queue.Call) (reply queue.CallReply, err error) {
	err = s.step(ctx, name, func(r *room, now int64) (err error) {
		reply, err = r.call(now, &c)
		return err
	})
	if err != nil {
		return queue.CallReply{}, err
	}
	return reply, nil
}

// Free implements queue.Store.
func (s *Store) Free(ctx context.Context, name, gen, token string) (freed int, err error) {
	err = s.step(ctx, name, func(r *room, now int64) error {
		if err := r.checkLeader(gen, token); err != nil {
			return err
		}
		freed = r.free(now)
		return nil
	})
	return freed, err
}

// Reap implements queue.Store.
func (s *Store) Reap(ctx context.Context, name, gen, token string, inc line.Incarnation, silentMs int64, at bool) (moved int, err error) {
	err = s.step(ctx, name, func(r *room, now int64) error {
		if err := r.checkLeader(gen, token); err != nil {
			return err
		}
		moved = r.reap(now, inc, silentMs, at)
		return nil
	})
	return moved, err
}

// Open implements queue.Store.
func (s *Store) Open(ctx context.Context, name, gen, token string) error {
	return s.step(ctx, name, func(r *room, now int64) error {
		if err := r.checkLeader(gen, token); err != nil {
			return err
		}
		return r.openRoom(now)
	})
}

// Configure implements queue.Store.
func (s *Store) Configure(ctx context.Context, name, gen, token string, in queue.Settings) error {
	return s.step(ctx, name, func(r *room, _ int64) error {
		if err := r.checkPrepare(gen, token); err != nil {
			return err
		}
		return r.setSettings(in.WithDefaults())
	})
}

// StartLine implements queue.Store.
func (s *Store) StartLine(ctx context.Context, name, gen, token string, l queue.LineState) error {
	return s.step(ctx, name, func(r *room, now int64) error {
		if err := r.checkPrepare(gen, token); err != nil {
			return err
		}
		return r.start(now, &l)
	})
}

// UpdateLine implements queue.Store.
func (s *Store) UpdateLine(ctx context.Context, name, gen, token string, l queue.LineState) error {
	return s.step(ctx, name, func(r *room, _ int64) error {
		if err := r.checkPrepare(gen, token); err != nil {
			return err
		}
		known := r.byLine[l.Line]
		if known == nil {
			return queue.ErrNoLine
		}
		return r.updateLine(known, l.Published)
	})
}

// Line implements queue.Store.
func (s *Store) Line(ctx context.Context, name string, id line.ID) (l queue.LineState, err error) {
	err = s.step(ctx, name, func(r *room, _ int64) (err error) {
		l, err = r.lineState(id)
		return err
	})
	return l, err
}

// LedgerChunk implements queue.Store.
func (s *Store) LedgerChunk(ctx context.Context, name string, id line.ID, lane uint8, chunk uint32) (body []byte, err error) {
	err = s.step(ctx, name, func(r *room, _ int64) error {
		l := r.byLine[id]
		if l == nil {
			return queue.ErrNoLine
		}
		body = l.chunk(lane, chunk)
		return nil
	})
	return body, err
}
