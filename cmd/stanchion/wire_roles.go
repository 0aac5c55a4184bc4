package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stanchion-queue/stanchion/admin/health"
	"github.com/stanchion-queue/stanchion/config"
	"github.com/stanchion-queue/stanchion/edge"
	"github.com/stanchion-queue/stanchion/inventory"
	"github.com/stanchion-queue/stanchion/inventory/sqlitestock"
	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/pass/keyring"
	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/agent"
	queueapi "github.com/stanchion-queue/stanchion/queue/api"
	"github.com/stanchion-queue/stanchion/queue/beacon"
	"github.com/stanchion-queue/stanchion/queue/controller"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/localqueue"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// issuer is the `iss` of passes.
const issuer = "stanchion"

// runRoles runs l's roles until ctx ends or one of them fails, then stops them gracefully.
func runRoles(ctx context.Context, l *launch) error {
	p := newPlant(ctx, l)
	err := p.build(ctx)
	switch {
	case ctx.Err() != nil: // told to stop while starting: what failed, failed because of that
		l.log.Info("stopped while starting", "err", err)
		err = nil
	case err == nil:
		p.wg.Go(func() { l.reloadOnHangup(p.life, p.take) })
		l.board.SetPhase(health.Serving)
		l.log.Info("ready")
		select {
		case <-ctx.Done():
		case err = <-p.failed:
		}
	}
	l.board.SetPhase(health.Draining)
	draining, cancel := l.drainContext(ctx)
	defer cancel()
	err = errors.Join(err, p.stop(draining), l.tracing.Shutdown(draining))
	closeAll(l.listeners) // those that nothing came to serve
	return err
}

// has says whether the process runs a role.
func (p *plant) has(r config.Role) bool { return slices.Contains(p.roles, r) }

// build puts the roles together, each on what the one before it offers. Parts stop in the reverse order.
func (p *plant) build(ctx context.Context) error {
	if err := p.serves("operations", p.cfg.Listeners.Operations, p.listeners["operations"], p.operations()); err != nil {
		return err
	}
	ring, err := p.keys()
	if err != nil {
		return err
	}
	passes, err := pass.NewKeys(ring.Pass...)
	if err != nil {
		return fmt.Errorf("load pass keys: %w", err)
	}
	internal := http.NewServeMux()

	var rooms *waiting
	if p.has(config.EdgeRole) || p.has(config.QueueRole) {
		if rooms, err = p.buildRooms(ctx, ring, passes, internal); err != nil {
			return err
		}
	}
	p.goes("keys", func(ctx context.Context) error {
		return p.followKeys(ctx, func(r *keyring.Ring) error {
			err := passes.Replace(r.Pass...)
			if rooms != nil {
				err = errors.Join(err, rooms.agent.SetTicketKeys(r.Tickets...))
			}
			return err
		})
	})
	var seats inventory.Desk
	if p.has(config.InventoryRole) {
		if seats, err = p.buildInventory(ctx, internal); err != nil {
			return err
		}
	}
	if p.has(config.PSPSimulator) {
		if err := p.buildProvider(ctx); err != nil {
			return err
		}
	}
	var shop *core
	var coreURLs []string
	if p.has(config.CoreRole) {
		if shop, err = p.buildCore(ctx, ring, passes, rooms, seats); err != nil {
			return err
		}
		if p.has(config.EdgeRole) {
			url, err := p.servesLoopback("core", shop.handler)
			if err != nil {
				return err
			}
			coreURLs = []string{url}
		}
		internal.Handle("/", shop.handler)
	}
	if ln := p.listeners["internal"]; ln != nil {
		if err := p.serves("internal", p.cfg.Listeners.Internal, ln, internal); err != nil {
			return err
		}
	}
	if err := p.announce(); err != nil {
		return err
	}
	p.background()
	if p.has(config.AdminRole) {
		if err := p.buildConsole(ctx, rooms, shop, seats); err != nil {
			return err
		}
	}
	if p.has(config.EdgeRole) {
		if err := p.buildEdge(rooms, passes, coreURLs); err != nil {
			return err
		}
	}
	if p.demo {
		return p.buildDemo(ctx, shop, seats, rooms)
	}
	return nil
}

// servesLoopback serves a handler on a port of this machine that only this process knows, with the internal listener's limits.
func (p *plant) servesLoopback(name string, h http.Handler) (url string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("open a loopback port for the %s role: %w", name, err)
	}
	limits := p.cfg.Listeners.Internal
	limits.TLS = config.TLS{}
	return "http://" + ln.Addr().String(), p.serves(name, limits, ln, h)
}

// drand is the public beacon as controllers ask for it.
type drand struct{ *beacon.Net }

func (d drand) Value(ctx context.Context, draw line.Draw) (line.DrawResult, error) {
	r, err := d.Net.Value(ctx, draw)
	if errors.Is(err, beacon.ErrNotYet) {
		err = controller.ErrNotYet
	}
	return r, err
}

// waiting is the waiting room's halves in this process.
type waiting struct {
	store      queue.Store
	agent      *agent.Agent
	controller *controller.Controller // nil without the queue role
	service    queueapi.Service
	settings   config.Settings // nil without the queue role
	first      map[string]config.Room
}

func (p *plant) buildRooms(ctx context.Context, ring *keyring.Ring, passes *pass.Keys, internal *http.ServeMux) (*waiting, error) {
	w := &waiting{first: p.cfg.Rooms}
	var err error
	if w.store, err = p.openRoomStore(ctx); err != nil {
		return nil, err
	}
	p.closing("room store", func(context.Context) error { return w.store.Close() })

	names := make([]string, 0, len(p.cfg.Rooms))
	for name := range p.cfg.Rooms {
		names = append(names, name)
		if err := w.store.Create(ctx, name); err != nil {
			return nil, fmt.Errorf("create room %s: %w", name, err)
		}
	}
	slices.Sort(names)
	w.agent, err = agent.New(agent.Options{
		Store: w.store, Rooms: names, TicketKeys: ring.Tickets, RoomMaster: ring.RoomMaster, Passes: passes, Issuer: issuer,
		Label: p.node, Logger: p.log, Registerer: p.registry,
	})
	if err != nil {
		return nil, err
	}
	if p.has(config.QueueRole) {
		if w.settings, err = p.openSettings(ctx); err != nil {
			return nil, err
		}
		if w.first, err = p.firstSettings(ctx, w.settings); err != nil {
			return nil, err
		}
		first := map[string]room.Settings{}
		for name, r := range w.first {
			first[name] = roomSettings(r, p.cfg.Beacon.Chain, time.Now())
		}
		w.controller, err = controller.New(controller.Options{
			Store: w.store, Rooms: first, RecordKey: ring.Record, Beacon: drand{beacon.New(beacon.Options{URLs: p.cfg.Beacon.URLs, Timeout: seconds(p.cfg.Beacon.TimeoutS)})}, Label: p.node, Logger: p.log, Registerer: p.registry,
		})
		if err != nil {
			return nil, err
		}
		local := queueapi.NewLocal(w.controller, func(name string) (queueapi.Sessions, bool) { return w.agent.Room(name) })
		w.service = local
		internal.Handle("/internal/v1/rooms", queueapi.Handler(local, p.log))
		internal.Handle("/internal/v1/rooms/", queueapi.Handler(local, p.log))
		p.goes("controller", w.controller.Run)
		p.goes("settings", func(ctx context.Context) error { return p.followSettings(ctx, w.settings, w.controller) })
	}
	p.goes("agent", w.agent.Run)
	p.board.Add(health.Check{Name: "waiting rooms", Probe: func(context.Context) health.Result {
		for _, name := range names {
			if r, _ := w.agent.Room(name); r.View().Stale {
				return health.Result{State: health.Degraded, Message: "room " + name + ": its store has not answered for 3 s; fans inside notice nothing"}
			}
		}
		return health.Result{State: health.OK}
	}})
	return w, nil
}

func (p *plant) openRoomStore(ctx context.Context) (queue.Store, error) {
	s := p.cfg.Stores.Rooms
	if s.Engine == "redis" {
		return p.openRedis(ctx, s)
	}
	store, err := localqueue.Open(ctx, localqueue.Options{Path: filepath.Join(p.cfg.DataDir, "rooms.db"), Logger: p.log, Registerer: p.registry})
	if err != nil {
		return nil, fmt.Errorf("stores.rooms: %w", err)
	}
	return store, nil
}

func (p *plant) buildInventory(ctx context.Context, internal *http.ServeMux) (inventory.Desk, error) {
	store, closeStore, err := p.openSeatStore(ctx)
	if err != nil {
		return nil, err
	}
	p.closing("seat store", func(context.Context) error { return closeStore() })
	s, err := inventory.New(ctx, inventory.Options{
		Store: store, Shared: p.cfg.Stores.Seats.Engine != "embedded", LongestPromise: 2*time.Hour - 2*time.Minute,
		Logger: p.log, Registerer: p.registry,
	})
	if err != nil {
		return nil, err
	}
	p.closing("inventory", func(context.Context) error { s.Close(); return nil })
	p.serveInventory(internal, s)
	return s, nil
}

func (p *plant) openSeatStore(ctx context.Context) (inventory.Store, func() error, error) {
	if s := p.cfg.Stores.Seats; s.Engine == "cql" {
		return p.openCQL(ctx, s)
	}
	s, err := sqlitestock.Open(ctx, filepath.Join(p.cfg.DataDir, "seats.db"), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("stores.seats: %w", err)
	}
	return s, s.Close, nil
}

// take brings a new configuration to the parts that can change while they run.
func (p *plant) take(next config.Config) error {
	for _, f := range p.takes {
		if err := f(next); err != nil {
			return err
		}
	}
	return nil
}

// usesCore says whether an upstream forwards to the core role.
func usesCore(cfg config.Config) bool {
	for _, u := range cfg.Upstreams {
		if u.Role == string(config.CoreRole) {
			return true
		}
	}
	return false
}

func (p *plant) buildEdge(w *waiting, passes *pass.Keys, coreURLs []string) error {
	rooms := map[string]edge.Room{}
	for name := range p.cfg.Rooms {
		r, _ := w.agent.Room(name)
		rooms[name] = r
	}
	var server atomic.Pointer[edge.Server]
	var mu sync.Mutex // a reload and a change of peers do not cross
	cfg := p.cfg
	apply := func(next config.Config, core []string) error {
		s := server.Load()
		if s == nil {
			return nil
		}
		o, err := p.edgeOptions(next, rooms, core)
		if err != nil {
			return err
		}
		return s.Reload(o)
	}
	if coreURLs == nil && usesCore(cfg) {
		ps, err := p.peersOf(config.CoreRole)
		if err != nil {
			return err
		}
		coreURLs = ps.urls(func(urls []string) {
			mu.Lock()
			defer mu.Unlock()
			coreURLs = urls
			if err := apply(cfg, urls); err != nil {
				p.log.Error("the core's addresses changed, and the edge keeps the old ones", "err", err)
			}
		})
	}
	mu.Lock()
	defer mu.Unlock()
	o, err := p.edgeOptions(cfg, rooms, coreURLs)
	if err != nil {
		return err
	}
	o.Passes, o.JWKS = passes.Verifier().Issuer(issuer), passes.JWKS
	s, err := edge.New(o)
	if err != nil {
		return err
	}
	server.Store(s)
	p.takes = append(p.takes, func(next config.Config) error {
		mu.Lock()
		defer mu.Unlock()
		if err := apply(next, coreURLs); err != nil {
			return err
		}
		cfg = next
		return nil
	})
	// The agent says goodbye before the last requests are answered: nobody new is let in by an edge that is going away.
	p.goes("edge", s.Run)
	p.closing("edge", s.Drain)
	p.closing("waiting rooms", w.agent.Drain)
	return nil
}
