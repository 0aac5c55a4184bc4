package order

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/stanchion-queue/stanchion/core/payment"
)

// Options wires a Service. Store, Seats, Prices and one Provider are needed.
type Options struct {
	Store     Store
	Seats     Seats
	Prices    Prices
	Rooms     Rooms              // nil: nobody waits in a room
	Providers []payment.Provider // the first one takes new payments; all take webhooks
	Timing    Timing
	SeatLimit int              // seats of a pass that names no limit, and of a fan without a pass; default 8
	Now       func() time.Time // nil: time.Now
	Log       *slog.Logger     // nil: discard
	Metrics   prometheus.Registerer
	Tracer    trace.Tracer // makes a span for each drive of an order; nil: none
	// At, if set, is called at each named point of the saga (Points); kill
	// tests stop the process there.
	At func(point string)
}

// maxHolds is how many holds one order takes.
const maxHolds = 4

// Service is the order service. All methods are safe for concurrent use, in
// this process and beside other processes on the same Store.
type Service struct {
	store     Store
	seats     Seats
	prices    Prices
	rooms     Rooms
	provider  payment.Provider
	providers map[string]payment.Provider
	t         Timing
	limit     int
	now       func() time.Time
	log       *slog.Logger
	at        func(string)
	tracer    trace.Tracer
	met       *metrics
	wake      chan struct{}

	mu   sync.Mutex
	busy map[uuid.UUID]chan struct{} // orders this process is driving
}

// New makes a Service. Run must run somewhere, in this process or another.
func New(o Options) (*Service, error) {
	switch {
	case o.Store == nil, o.Seats == nil, o.Prices == nil:
		return nil, errors.New("order: Store, Seats and Prices are needed")
	case len(o.Providers) == 0:
		return nil, errors.New("order: a payment provider is needed")
	}
	s := &Service{
		store: o.Store, seats: o.Seats, prices: o.Prices, rooms: o.Rooms, provider: o.Providers[0],
		providers: map[string]payment.Provider{}, t: o.Timing.withDefaults(), limit: o.SeatLimit, now: o.Now, log: o.Log, at: o.At, tracer: o.Tracer,
		wake: make(chan struct{}, 1), busy: map[uuid.UUID]chan struct{}{},
	}
	for _, p := range o.Providers {
		if _, twice := s.providers[p.Name()]; twice {
			return nil, fmt.Errorf("order: two payment providers are called %q", p.Name())
		}
		s.providers[p.Name()] = p
	}
	if s.limit <= 0 {
		s.limit = 8
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.tracer == nil {
		s.tracer = noop.NewTracerProvider().Tracer("")
	}
	if s.at == nil {
		s.at = func(string) {}
	}
	var err error
	if s.met, err = newMetrics(o.Metrics); err != nil {
		return nil, fmt.Errorf("order: register metrics: %w", err)
	}
	return s, nil
}

// nudge wakes the worker of this process.
func (s *Service) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// lock makes this process drive an order once at a time. Other processes may
// drive it too; that is safe, only wasteful.
func (s *Service) lock(ctx context.Context, id uuid.UUID) (unlock func(), err error) {
	for {
		s.mu.Lock()
		other, taken := s.busy[id]
		if !taken {
			mine := make(chan struct{})
			s.busy[id] = mine
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.busy, id)
				s.mu.Unlock()
				close(mine)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// GetOrder returns an order with its units, holds, payments and refunds.
func (s *Service) GetOrder(ctx context.Context, who Principal, id uuid.UUID) (Order, error) {
	o, err := s.store.Order(ctx, id)
	if err != nil {
		return Order{}, err
	}
	if who != Staff && who != o.Principal {
		return Order{}, ErrNotFound
	}
	return o, nil
}

// History returns the order's transitions, oldest first.
func (s *Service) History(ctx context.Context, who Principal, id uuid.UUID) ([]Transition, error) {
	if _, err := s.GetOrder(ctx, who, id); err != nil {
		return nil, err
	}
	return s.store.History(ctx, id)
}

// errChanged says that the order changed since it was read: read again.
var errChanged = errors.New("the order changed meanwhile")

// change runs f under the order's lock if the order still is what was decided
// upon, and stores the order with a new version.
func (s *Service) change(ctx context.Context, o *Order, f func(tx Tx, cur *Order) error) error {
	return s.store.Tx(ctx, func(tx Tx) error {
		cur, err := tx.LockOrder(ctx, o.ID)
		if err != nil {
			return err
		}
		if cur.Version != o.Version {
			return errChanged
		}
		return s.save(ctx, tx, &cur, f)
	})
}

// save runs f on a locked order and stores it. The caller drives the order on;
// another process does if this one has not within the lease.
func (s *Service) save(ctx context.Context, tx Tx, cur *Order, f func(tx Tx, cur *Order) error) error {
	return s.saveFor(ctx, tx, cur, s.t.DriveLease, f)
}

// saveFor is save for a caller that drives the order on within lease; 0: any
// worker may at once.
func (s *Service) saveFor(ctx context.Context, tx Tx, cur *Order, lease time.Duration, f func(tx Tx, cur *Order) error) error {
	before := cur.Version
	if err := f(tx, cur); err != nil {
		return err
	}
	now := s.now()
	if cur.Version == before {
		cur.Version++
	}
	cur.Updated = now
	cur.NextAt = now.Add(lease)
	if p := decide(cur, now, s.t); p.do == actWait { // known already: one write less
		cur.NextAt = p.at
	}
	return tx.SaveOrder(ctx, *cur)
}

// move takes a transition inside a transaction: the order's new state, a line
// of history and an event. causeID tells repetitions of an event apart.
func (s *Service) move(ctx context.Context, tx Tx, cur *Order, ev Event, causeID string) error {
	m, err := Next(cur.State, cur.Cause, ev)
	if err != nil {
		return err
	}
	from := cur.State
	cur.State = m.To
	if m.Cause != ByNobody {
		cur.Cause = m.Cause
	}
	cur.Version++
	cur.Updated = s.now()
	if err := tx.AddTransition(ctx, Transition{OrderID: cur.ID, Seq: cur.Version, From: from, To: m.To, Event: ev, CauseID: causeID, At: cur.Updated}); err != nil {
		return err
	}
	s.met.transitions.WithLabelValues(string(m.To), string(ev)).Inc()
	return s.emitOrder(ctx, tx, cur)
}
