// Package cqlstock keeps seats in ScyllaDB or Apache Cassandra. It passes the same conformance suite as
// inventory/sqlitestock.
//
// A block is a partition. Every change is one unlogged conditional batch in it, whose first statement moves the block's
// version; see the statements below. A lease is a TTL. The driver never repeats a statement by itself: a change whose
// answer is lost is unknown, and the caller settles it with a fence.
//
// The region that owns a performance writes with LOCAL_SERIAL, which does not protect against writers in another data
// centre: exactly one region may own a performance. Services on this store run with inventory.Options.Shared.
package cqlstock

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/gocql/gocql"
	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory"
)

// Options of a connection.
type Options struct {
	Addresses  []string // host:port of some nodes
	Keyspace   string   // default "stock"; lower case letters, digits, _
	Datacenter string   // the local one
	// Timeout of one request; it must exceed the server's timeout for conditional writes, or answers get lost that were
	// about to come. Default 6 s.
	Timeout            time.Duration
	Connections        int // per node and session; default 2
	Username, Password string
	TLS                *tls.Config
	Logger             *slog.Logger // default: discards
}

func (o *Options) fill() error {
	if o.Keyspace == "" {
		o.Keyspace = "stock"
	}
	if o.Timeout == 0 {
		o.Timeout = 6 * time.Second
	}
	if o.Connections == 0 {
		o.Connections = 2
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case len(o.Addresses) == 0:
		return errors.New("seat store: no address of a node given")
	case o.Datacenter == "":
		return errors.New("seat store: the local data centre is not named")
	case !name.MatchString(o.Keyspace):
		return fmt.Errorf("seat store: keyspace %q is not of the form %v", o.Keyspace, name)
	case o.Timeout < 0 || o.Connections < 0:
		return fmt.Errorf("seat store: timeout %v and %d connections must be positive", o.Timeout, o.Connections)
	}
	return nil
}

func cluster(o Options) *gocql.ClusterConfig {
	c := gocql.NewCluster(o.Addresses...)
	c.Keyspace = o.Keyspace
	c.Timeout, c.ConnectTimeout, c.WriteTimeout = o.Timeout, o.Timeout, o.Timeout
	c.NumConns = o.Connections
	c.Consistency = gocql.LocalQuorum
	c.SerialConsistency = gocql.LocalSerial // unset would mean SERIAL, across data centres
	c.DefaultTimestamp = false              // a clock of ours must not order writes
	c.RetryPolicy = nil                     // a repeated conditional write may find its own first attempt
	c.PageSize = 1000                       // a block is one page
	// Without shuffling, all clients ask the same replica first, which then has less to agree on.
	c.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(gocql.DCAwareRoundRobinPolicy(o.Datacenter))
	c.Logger = logger{o.Logger}
	if o.Username != "" {
		c.Authenticator = gocql.PasswordAuthenticator{Username: o.Username, Password: o.Password}
	}
	if o.TLS != nil {
		c.SslOpts = &gocql.SslOptions{Config: o.TLS, EnableHostVerification: !o.TLS.InsecureSkipVerify}
	}
	return c
}

// logger passes the driver's messages on.
type logger struct{ log *slog.Logger }

func (l logger) Print(v ...any) { l.log.Warn("cql driver", "message", fmt.Sprint(v...)) }
func (l logger) Printf(format string, v ...any) {
	l.log.Warn("cql driver", "message", strings.TrimSpace(fmt.Sprintf(format, v...)))
}
func (l logger) Println(v ...any) { l.Print(v...) }

// Stock is the store, safe for concurrent use.
type Stock struct {
	writes *gocql.Session
	reads  *gocql.Session // its own connections, so that a crowd of reads never waits in front of a hold
}

var _ inventory.Store = (*Stock)(nil)

// Open connects. The schema must exist: CreateSchema.
func Open(opt Options) (*Stock, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	writes, err := cluster(opt).CreateSession()
	if err != nil {
		return nil, fmt.Errorf("seat store: connect to %v: %w", opt.Addresses, err)
	}
	reads, err := cluster(opt).CreateSession()
	if err != nil {
		writes.Close()
		return nil, fmt.Errorf("seat store: connect to %v: %w", opt.Addresses, err)
	}
	return &Stock{writes: writes, reads: reads}, nil
}

// Close ends all connections. What is under way then has an unknown outcome.
func (s *Stock) Close() {
	s.writes.Close()
	s.reads.Close()
}

// The statements. All that write to seat are conditional: a plain write beside lightweight transactions would be ordered
// by a clock, and could hide a later sale. No statement with a TTL sets anything but the lease.
const (
	where = ` WHERE performance_id = ? AND block = ?`

	createHead = `UPDATE seat SET ver = 1, last = ?, epoch = ?, state = 0, chart = ?` + where + ` IF ver = null`
	createSeat = `INSERT INTO seat (performance_id, block, seat, channel, kill, order_id) VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS`

	// The condition on last always holds; it makes a refusal say what the last op was.
	moveVer   = `UPDATE seat SET ver = ?, last = ?` + where + ` IF ver = ? AND last != ? AND epoch = ? AND state IN ?`
	moveState = `UPDATE seat SET ver = ?, last = ?, state = ?` + where + ` IF ver = ? AND last != ? AND epoch = ? AND state IN ?`

	holdSeat    = `UPDATE seat USING TTL ? SET hold_id = ?` + where + ` AND seat = ? IF hold_id = null AND order_id = ? AND kill = 0 AND channel IN ?`
	pinSeat     = `UPDATE seat USING TTL ? SET hold_id = ?` + where + ` AND seat = ? IF hold_id = ? AND order_id = ? AND kill = 0`
	releaseSeat = `UPDATE seat SET hold_id = null` + where + ` AND seat = ? IF hold_id = ? AND order_id = ?`
	sellSeat    = `UPDATE seat SET order_id = ?` + where + ` AND seat = ? IF hold_id = ? AND order_id = ?`
	rescueSeat  = `UPDATE seat SET order_id = ?` + where + ` AND seat = ? IF hold_id = null AND order_id = ? AND kill = 0`
	unsellSeat  = `UPDATE seat SET order_id = ?, kill = ?` + where + ` AND seat = ? IF order_id = ?`
	killSeat    = `UPDATE seat SET kill = ?` + where + ` AND seat = ? IF hold_id = null AND order_id = ? AND kill = ?`

	readBlock = `SELECT ver, last, epoch, state, chart, seat, channel, kill, order_id, hold_id, TTL(hold_id) FROM seat` + where
)

var unsold = gocql.UUID{} // also the "no order" of every condition

// CreateBlock implements inventory.Stock.
func (s *Stock) CreateBlock(ctx context.Context, key inventory.Key, spec inventory.BlockSpec) (bool, error) {
	if err := spec.Check(); err != nil {
		return false, err
	}
	p := gocql.UUID(key.Performance)
	b := s.newBatch(ctx)
	b.Query(createHead, unsold, spec.Epoch, spec.Chart[:], p, key.Block)
	for n, seat := range spec.Seats {
		b.Query(createSeat, p, key.Block, int16(n), seat.Channel, seat.Kill, unsold)
	}
	_, applied, err := s.cas(b)
	if err != nil {
		return false, fmt.Errorf("create block %v: %w", key, err)
	}
	if applied {
		return true, nil
	}
	there, err := s.Read(ctx, key, inventory.ReadSettled)
	if err != nil {
		return false, fmt.Errorf("create block %v: %w", key, err)
	}
	if there.Chart != spec.Chart || there.Epoch != spec.Epoch || len(there.Seats) != len(spec.Seats) {
		return false, inventory.ErrConflict
	}
	return false, nil
}

func (s *Stock) newBatch(ctx context.Context) *gocql.Batch {
	b := s.writes.NewBatch(gocql.UnloggedBatch).WithContext(ctx)
	b.SetConsistency(gocql.LocalQuorum)
	return b.SerialConsistency(gocql.LocalSerial).DefaultTimestamp(false)
}

// Apply implements inventory.Stock.
func (s *Stock) Apply(ctx context.Context, key inventory.Key, batch inventory.Batch) (inventory.Outcome, error) {
	if err := batch.Check(); err != nil {
		return inventory.Outcome{Verdict: inventory.NoEffect}, err
	}
	if err := ctx.Err(); err != nil {
		return inventory.Outcome{Verdict: inventory.NoEffect}, fmt.Errorf("change block %v: %w", key, err)
	}
	rows, applied, err := s.cas(s.statements(ctx, key, batch))
	if err != nil {
		return inventory.Outcome{Verdict: verdictOf(err)}, fmt.Errorf("change block %v: %w", key, err)
	}
	if applied {
		head := inventory.Head{Ver: batch.Ver + 1, Last: batch.Op, Epoch: batch.Epoch}
		return inventory.Outcome{Verdict: inventory.Applied, Head: head}, nil
	}
	return refusal(batch, rows), nil
}

// cas executes a conditional batch. After a refusal it gives the rows that came with it.
func (s *Stock) cas(b *gocql.Batch) (rows []casRow, applied bool, err error) {
	defer func() {
		if p := recover(); p != nil { // the driver panics on an answer that does not start with [applied]
			rows, applied, err = nil, false, fmt.Errorf("unreadable answer to a conditional batch: %v", p)
		}
	}()
	first := newCASRow()
	applied, iter, err := s.writes.MapExecuteBatchCAS(b, first)
	if err != nil {
		if iter != nil {
			err = errors.Join(err, iter.Close())
		}
		return nil, false, err
	}
	if applied { // ScyllaDB adds the rows as they were; nobody needs them
		return nil, true, iter.Close()
	}
	for row := first; ; {
		rows = append(rows, readCASRow(row))
		if row = newCASRow(); !iter.MapScan(row) {
			return rows, false, iter.Close()
		}
	}
}

// refusal sorts out why a batch was not applied. Cassandra sends one row for each seat that exists, in clustering order;
// ScyllaDB one for each statement. Both may send a row for the version alone. So seats are told apart by their number.
func refusal(batch inventory.Batch, rows []casRow) inventory.Outcome {
	out := inventory.Outcome{Verdict: inventory.Missing}
	wanted := map[int16]bool{}
	for i := range batch.Changes {
		for _, n := range batch.Changes[i].Seats {
			wanted[n] = true
		}
	}
	for _, r := range rows {
		if r.hasHead {
			out.Head = r.head
			out.Verdict = inventory.Refused
			if r.head.Ver != batch.Ver {
				out.Verdict = inventory.Stale
			}
		}
		if r.hasSeat && wanted[r.seat.Seat] {
			wanted[r.seat.Seat] = false
			out.Seats = append(out.Seats, r.seat)
		}
	}
	if out.Verdict != inventory.Refused {
		out.Seats = nil
	}
	return out
}

// verdictOf tells errors that surely mean "not done" from all others. A timeout, a lost connection and an overloaded
// replica are all unknown: the statement may still be on its way.
func verdictOf(err error) inventory.Verdict {
	if errors.Is(err, gocql.ErrNoConnections) || errors.Is(err, gocql.ErrSessionClosed) {
		return inventory.NoEffect // never sent
	}
	var r gocql.RequestError
	if errors.As(err, &r) {
		switch r.Code() {
		case gocql.ErrCodeSyntax, gocql.ErrCodeInvalid, gocql.ErrCodeUnauthorized, gocql.ErrCodeConfig, gocql.ErrCodeCredentials, gocql.ErrCodeProtocol:
			return inventory.NoEffect // refused before it was carried out
		}
	}
	return inventory.Unknown
}

func (s *Stock) statements(ctx context.Context, key inventory.Key, batch inventory.Batch) *gocql.Batch {
	b := s.newBatch(ctx)
	p, op := gocql.UUID(key.Performance), gocql.UUID(batch.Op)
	states := make([]int8, len(batch.States))
	for i, st := range batch.States {
		states[i] = int8(st)
	}
	if batch.Set != nil {
		b.Query(moveState, batch.Ver+1, op, int8(*batch.Set), p, key.Block, batch.Ver, op, batch.Epoch, states)
	} else {
		b.Query(moveVer, batch.Ver+1, op, p, key.Block, batch.Ver, op, batch.Epoch, states)
	}
	for i := range batch.Changes {
		c := &batch.Changes[i]
		hold, order := gocql.UUID(c.Hold), gocql.UUID(c.Order)
		ttl := int32(c.Lease.Seconds())
		for _, n := range c.Seats {
			switch c.Kind {
			case inventory.Hold:
				b.Query(holdSeat, ttl, hold, p, key.Block, n, unsold, c.Channels)
			case inventory.Pin:
				b.Query(pinSeat, ttl, hold, p, key.Block, n, hold, unsold)
			case inventory.Release:
				b.Query(releaseSeat, p, key.Block, n, hold, unsold)
			case inventory.Sell:
				b.Query(sellSeat, order, p, key.Block, n, hold, unsold)
			case inventory.Rescue:
				b.Query(rescueSeat, order, p, key.Block, n, unsold)
			case inventory.Unsell:
				b.Query(unsellSeat, unsold, c.Kill, p, key.Block, n, order)
			case inventory.SetKill:
				b.Query(killSeat, c.Kill, p, key.Block, n, unsold, c.OldKill)
			}
		}
	}
	return b
}

// newCASRow is what a row of a refused batch is scanned into: pointers, or nulls would look like zeros.
func newCASRow() map[string]any {
	return map[string]any{
		"seat": new(*int16), "ver": new(*int64), "last": new(*gocql.UUID), "epoch": new(*int32), "state": new(*int8),
		"channel": new(*int16), "kill": new(*int16), "order_id": new(*gocql.UUID), "hold_id": new(*gocql.UUID),
	}
}

// casRow is a row of a refused batch. It only has the columns that the batch had conditions on.
type casRow struct {
	head             inventory.Head
	seat             inventory.Seat
	hasHead, hasSeat bool
}

// column gives a column's value; ok is false when it is null or was not sent.
func column[T any](row map[string]any, name string) (v T, ok bool) {
	if p, is := row[name].(*T); is && p != nil { // a column that was not sent is still a **T
		return *p, true
	}
	return v, false
}

func readCASRow(row map[string]any) casRow {
	var r casRow
	r.head.Ver, r.hasHead = column[int64](row, "ver")
	last, _ := column[gocql.UUID](row, "last")
	state, _ := column[int8](row, "state")
	r.head.Epoch, _ = column[int32](row, "epoch")
	r.head.Last, r.head.State = uuid.UUID(last), inventory.State(state)
	r.seat.Seat, r.hasSeat = column[int16](row, "seat")
	order, exists := column[gocql.UUID](row, "order_id") // never null in a seat that exists
	hold, _ := column[gocql.UUID](row, "hold_id")
	r.hasSeat = r.hasSeat && exists
	r.seat.Order, r.seat.Hold = uuid.UUID(order), uuid.UUID(hold)
	r.seat.Channel, _ = column[int16](row, "channel")
	r.seat.Kill, _ = column[int16](row, "kill")
	return r
}

// Read implements inventory.Stock.
func (s *Stock) Read(ctx context.Context, key inventory.Key, mode inventory.ReadMode) (inventory.Block, error) {
	q := s.reads.Query(readBlock, gocql.UUID(key.Performance), key.Block).WithContext(ctx).Consistency(gocql.LocalQuorum)
	if mode == inventory.ReadSettled {
		q = q.Consistency(gocql.Consistency(gocql.LocalSerial))
	}
	iter := q.Iter()
	var b inventory.Block
	for {
		var ver *int64
		var last, order, hold *gocql.UUID
		var epoch *int32
		var state *int8
		var chart []byte
		var seat, channel, kill *int16
		var ttl *int32
		if !iter.Scan(&ver, &last, &epoch, &state, &chart, &seat, &channel, &kill, &order, &hold, &ttl) {
			break
		}
		if ver == nil || last == nil || epoch == nil || state == nil || seat == nil || channel == nil || kill == nil || order == nil {
			return b, errors.Join(fmt.Errorf("read block %v: a row with a null that must not be", key), iter.Close())
		}
		b.Ver, b.Last, b.Epoch, b.State = *ver, uuid.UUID(*last), *epoch, inventory.State(*state)
		copy(b.Chart[:], chart)
		n := inventory.Seat{Seat: *seat, Channel: *channel, Kill: *kill, Order: uuid.UUID(*order)}
		if hold != nil {
			n.Hold = uuid.UUID(*hold)
			if ttl != nil {
				n.Left = time.Duration(*ttl) * time.Second
			}
		}
		b.Seats = append(b.Seats, n)
	}
	if err := iter.Close(); err != nil {
		return b, fmt.Errorf("read block %v: %w", key, err)
	}
	if len(b.Seats) == 0 {
		return b, inventory.ErrNoBlock
	}
	return b, nil
}
