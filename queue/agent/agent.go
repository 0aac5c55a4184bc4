package agent

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// Signer makes passes; *pass.Keys is one.
type Signer interface {
	Sign(c pass.Claims) (string, error)
}

// Options are what an agent needs. All but Codes, Logger and Registerer are required.
type Options struct {
	Store      queue.Store
	Rooms      []string         // names of the rooms this edge serves
	TicketKeys []line.TicketKey // the first signs
	RoomMaster []byte           // 32 bytes or more; session ids derive from it. The same on all edges, for ever
	Passes     Signer
	Issuer     string // `iss` of passes
	Label      string // the edge's configured name, for people

	// Codes says whether a code, by its SHA-256, is accepted beside those that the room's settings list; lists too long for
	// a settings document come from a file on each edge. Nil: no others.
	Codes func(room string, sum [32]byte) bool

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Agent serves the waiting rooms of one edge process.
type Agent struct {
	rooms map[string]*Room
	keys  sync.Mutex // one exchange of keys at a time
}

// New checks the options and makes the agent; nothing runs before Run.
func New(o Options) (*Agent, error) {
	switch {
	case o.Store == nil:
		return nil, errors.New("agent: a store is needed")
	case o.Passes == nil:
		return nil, errors.New("agent: a signer of passes is needed")
	case o.Issuer == "":
		return nil, errors.New("agent: an issuer is needed")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m := newMetrics(o.Registerer)
	a := &Agent{rooms: map[string]*Room{}}
	for _, name := range o.Rooms {
		if !room.ValidName(name) {
			return nil, fmt.Errorf("agent: room %q: a name has 1 to 32 of a-z 0-9 -", name)
		}
		if a.rooms[name] != nil {
			return nil, fmt.Errorf("agent: room %q is named twice", name)
		}
		tickets, err := line.NewTickets(name, o.TicketKeys...)
		if err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
		if _, err := line.RoomKey(o.RoomMaster, name, line.ID{1}); err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
		a.rooms[name] = newRoom(name, o, tickets, m)
	}
	return a, nil
}

// Room finds a room by name.
func (a *Agent) Room(name string) (*Room, bool) {
	r, ok := a.rooms[name]
	return r, ok
}

// Run keeps all rooms until ctx ends. It may be called once. Rooms answer from their last state afterwards; call Drain
// before ctx ends for an orderly goodbye.
func (a *Agent) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, r := range a.rooms {
		wg.Go(func() { r.runFlush(ctx) })
		wg.Go(func() { r.runDoor(ctx) })
	}
	wg.Wait()
	return nil
}

// Drain says goodbye in every room: what is left to report is flushed with a last `bye`, after which the controller takes over
// this edge's sessions at once. Afterwards rooms refuse joins and claims; passes are still judged. It returns when every
// room has said goodbye or ctx has ended.
func (a *Agent) Drain(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, 0, len(a.rooms))
	var mu sync.Mutex
	for _, r := range a.rooms {
		wg.Go(func() {
			if err := r.drain(ctx); err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("room %s: %w", r.name, err))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// newIncarnation draws an edge's identity.
func newIncarnation() line.Incarnation {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:]) // never fails
		if i := binary.BigEndian.Uint64(b[:]); i != 0 {
			return line.Incarnation(i)
		}
	}
}
