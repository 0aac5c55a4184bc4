package edge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"golang.org/x/time/rate"

	"github.com/stanchion-queue/stanchion/edge/guard"
	"github.com/stanchion-queue/stanchion/edge/limit"
	"github.com/stanchion-queue/stanchion/edge/pressure"
	"github.com/stanchion-queue/stanchion/edge/shed"
	"github.com/stanchion-queue/stanchion/edge/upstream"
	"github.com/stanchion-queue/stanchion/edge/waitpage"
)

// Server is one edge. Its methods are safe for concurrent use.
type Server struct {
	o     Options // those that hold until the end; see live for the others
	log   *slog.Logger
	live  atomic.Pointer[live]
	known *known
	pages *waitpage.Pages

	http     *fasthttp.Server
	listener *guard.Listener
	metrics  *metrics
	access   *accessLog

	mu         sync.Mutex      // of reloads
	health     context.Context // of health checks; nil before Run
	background sync.WaitGroup

	strain strain // how near the process is to the end of what it may use

	upgrades upgrades
	base     context.Context // of calls into rooms; ends when a drain is over
	stop     context.CancelFunc
	draining atomic.Bool
}

// live is what a reload changes as one: a request sees one live from its beginning to its end.
type live struct {
	o       Options
	routes  routes
	origins map[string]*origin
	rooms   map[string]*roomServer

	networks *limit.Limiter // nil: no limit
	outside  *rate.Limiter
}

// origin is an upstream with its concurrency limit.
type origin struct {
	name        string
	of          Upstream
	pool        *upstream.Pool
	shed        *shed.Limiter
	seconds     prometheus.Observer // time to the head of a response
	authorities []authority         // of its targets
	stop        context.CancelFunc  // ends its health checks; nil until they run
}

// roomServer is a room as the edge serves it.
type roomServer struct {
	RoomOptions
	name   string
	plain  cookieNames
	secure cookieNames

	joins    *limit.Limiter // nil: no limit
	sessions *limit.Limiter
}

func (r *roomServer) cookies(secure bool) *cookieNames {
	if secure {
		return &r.secure
	}
	return &r.plain
}

// New validates the options (all problems are reported at once), opens the listener and returns an edge that serves nothing
// until Run.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("edge options: %w", err)
	}
	s := &Server{o: o, log: o.Logger, known: newKnown(o.Passes, o.KnownPasses)}
	s.base, s.stop = context.WithCancel(context.Background())
	s.metrics = newMetrics()
	l, err := s.makeLive(o, &live{})
	if err != nil {
		return nil, err
	}
	s.live.Store(l)
	if s.pages, err = waitpage.New(o.Prefix); err != nil {
		return nil, fmt.Errorf("prepare pages: %w", err)
	}
	if err = s.metrics.register(s, o.Registerer); err != nil {
		return nil, fmt.Errorf("register edge metrics: %w", err)
	}
	s.access = newAccessLog(o.AccessLog)

	inner := o.Listener
	if inner == nil {
		if inner, err = net.Listen("tcp", o.Address); err != nil {
			return nil, fmt.Errorf("open public listener: %w", err)
		}
	}
	cfg := &guard.Config{
		Limits:   guard.Limits{HeadBytes: o.Limits.HeadBytes, Fields: o.Limits.Headers, TargetBytes: o.Limits.TargetBytes, BodyBytes: o.Limits.BodyBytes},
		Timeouts: guard.Timeouts{Idle: o.Timeouts.Idle, Head: o.Timeouts.Head, Body: o.Timeouts.Body, Write: o.Timeouts.Write},
		Refused:  s.refused,
		Broken:   s.metrics.broken,
	}
	if o.ProxyProtocol {
		cfg.Proxied = s.isHop
	}
	if o.TLS != nil {
		cfg.TLS = o.TLS.Clone()
		cfg.TLS.NextProtos = []string{"http/1.1"}
		cfg.TLS.MinVersion = max(cfg.TLS.MinVersion, 0x0303)
	}
	s.listener = guard.NewListener(inner, cfg, guard.Caps{
		Total: o.Limits.Connections, PerNetwork: o.Limits.ConnectionsPerNetwork, Exempt: s.isHop, Dropped: s.metrics.dropped,
		Full: func() bool { return s.pressure() >= pressure.Critical }, Starved: s.starving,
	})
	s.http = &fasthttp.Server{
		Handler:                       s.serve,
		Concurrency:                   o.Limits.Connections + 1,
		ReadBufferSize:                2048, // only stand-ins for heads pass through it, see package guard
		WriteBufferSize:               4096,
		DisablePreParseMultipartForm:  true,
		NoDefaultServerHeader:         true,
		NoDefaultDate:                 true,
		NoDefaultContentType:          true,
		DisableHeaderNamesNormalizing: true,
		SecureErrorLogMessage:         true,
		CloseOnShutdown:               true,
		LazyRequestTime:               true,
		Logger:                        serverLogger{o.Logger},
	}
	return s, nil
}

// makeLive prepares what can change while the edge runs. Of old it keeps the upstreams that have not changed, with their
// connections and measurements, and the memory of the limiters.
func (s *Server) makeLive(o Options, old *live) (*live, error) {
	l := &live{o: o, origins: map[string]*origin{}, rooms: map[string]*roomServer{}}
	for name, u := range o.Upstreams {
		if was := old.origins[name]; was != nil && reflect.DeepEqual(was.of, u) {
			l.origins[name] = was
			continue
		}
		pool, err := upstream.New(upstream.Options{
			Name: name, Targets: u.Targets, TLS: u.TLS, ResponseTimeout: u.ResponseTimeout, StallTimeout: u.StallTimeout,
			ConnectTimeout: u.ConnectTimeout, IdleTimeout: u.IdleTimeout, MaxConns: 4 * u.MaxConcurrent,
			HealthPath: u.HealthPath, HealthEvery: u.HealthEvery, Logger: o.Logger,
		})
		if err != nil {
			return nil, err
		}
		l.origins[name] = &origin{name: name, of: u, pool: pool, shed: shed.New(shed.Options{Min: u.MinConcurrent, Max: u.MaxConcurrent}), seconds: s.metrics.originSeconds.WithLabelValues(name), authorities: authorities(u.Targets)}
	}
	now := s.o.Now()
	for name, r := range o.Rooms {
		was := old.rooms[name]
		if was == nil {
			was = &roomServer{}
		}
		l.rooms[name] = &roomServer{
			RoomOptions: r, name: name, plain: namesFor(name, false), secure: namesFor(name, true),
			joins:    newLimiter(was.joins, cmp.Or(r.JoinPerSecond, o.Limits.JoinPerSecond), cmp.Or(r.JoinBurst, o.Limits.JoinBurst), s.o.Limits.Keys, now),
			sessions: newLimiter(was.sessions, cmp.Or(r.SessionPerSecond, o.Limits.SessionPerSecond), cmp.Or(r.SessionBurst, o.Limits.SessionBurst), s.o.Limits.Keys, now),
		}
	}
	for i, r := range o.Routes {
		t := &route{Route: r, index: i, host: lowerASCII(r.Host), upstream: l.origins[r.Upstream], room: l.rooms[r.Room], cost: r.Cost}
		if t.cost == 0 {
			t.cost = 1
		}
		if t.MaxBody == 0 {
			t.MaxBody = o.Limits.BodyBytes
		}
		for _, m := range r.Methods {
			g := guard.ParseMethod(m)
			if g == guard.MethodNone {
				return nil, fmt.Errorf("edge options: route %d: method %q is not one the edge serves", i, m)
			}
			t.methods |= 1 << g
		}
		l.routes = append(l.routes, t)
	}
	l.networks = newLimiter(old.networks, o.Limits.NetworkPerSecond, o.Limits.NetworkBurst, s.o.Limits.Keys, now)
	if r := o.Limits.OutsidePerSecond; r > 0 {
		l.outside = rate.NewLimiter(rate.Limit(r), max(1, int(r)))
	}
	return l, nil
}

// authorities reads validated targets.
func authorities(targets []string) (all []authority) {
	for _, t := range targets {
		if u, err := url.Parse(t); err == nil {
			a := authority{host: u.Host}
			if p := u.Port(); p != "" {
				a.port = ":" + p
			}
			all = append(all, a)
		}
	}
	return all
}

// newLimiter keeps an old limiter's memory of who has used what.
func newLimiter(old *limit.Limiter, perSecond, burst float64, keys int, now time.Time) *limit.Limiter {
	r := limit.Rate{PerSecond: perSecond, Burst: burst}
	switch {
	case perSecond < 0:
		return nil
	case old != nil:
		old.SetRate(r)
		return old
	}
	return limit.New(r, keys, now)
}

// Reload swaps the routes, upstreams, rooms, trusted hops, rate limits and the claim timeout for those of o, all at once or,
// with an error, not at all. Requests under way go on with the old. What else differs in o is ignored: it needs a new edge.
func (s *Server) Reload(o Options) error {
	o.Listener, o.Address = s.o.Listener, s.o.Address
	o.Logger, o.Registerer, o.Passes, o.JWKS, o.Now = s.o.Logger, s.o.Registerer, s.o.Passes, s.o.JWKS, s.o.Now
	o, err := o.withDefaults()
	if err != nil {
		return fmt.Errorf("edge options: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.live.Load()
	l, err := s.makeLive(o, old)
	if err != nil {
		return err
	}
	s.runPools(l)
	s.live.Store(l)
	for name, was := range old.origins {
		if l.origins[name] != was && was.stop != nil {
			was.stop()
		}
	}
	return nil
}

// runPools starts the health checks of origins that have none yet, once Run has been called. The caller holds mu.
func (s *Server) runPools(l *live) {
	if s.health == nil {
		return
	}
	for _, o := range l.origins {
		if o.stop == nil {
			var ctx context.Context
			ctx, o.stop = context.WithCancel(s.health)
			s.background.Go(func() { o.pool.Run(ctx) })
		}
	}
}

// Addr is the address the edge listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, then drains for at most Timeouts.Drain and returns. Its error is nil after a drain that let every
// open request finish.
func (s *Server) Run(ctx context.Context) error {
	health, stopHealth := context.WithCancel(context.WithoutCancel(ctx))
	s.mu.Lock()
	s.health = health
	s.runPools(s.live.Load())
	s.mu.Unlock()
	defer s.background.Wait()
	defer stopHealth()

	s.background.Go(func() { s.watchPressure(health) })

	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	select {
	case err := <-failed:
		s.stop()
		if s.draining.Load() {
			return nil
		}
		return fmt.Errorf("serve public listener: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.Timeouts.Drain)
	defer cancel()
	return s.Drain(drain)
}

// Drain stops accepting, lets open requests finish until ctx ends, then closes what is left. It says how long that took.
func (s *Server) Drain(ctx context.Context) error {
	if s.draining.Swap(true) {
		return nil
	}
	start := time.Now()
	s.log.Info("edge drains", "connections", s.listener.Open())
	s.upgrades.closeAll()
	_ = s.listener.Close() // the server closes it too, if it has been served
	err := s.http.ShutdownWithContext(ctx)
	s.stop()
	s.log.Info("edge drained", "duration_ms", time.Since(start).Milliseconds(), "connections_left", s.listener.Open())
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("drain edge: %w", err)
	}
	return nil
}

// refused is told of the requests that guard answered itself.
func (s *Server) refused(c *guard.Conn, ref *guard.Refusal) {
	s.metrics.refused.WithLabelValues(ref.Reason).Inc()
	s.access.refused(c.Peer(), ref)
}

// serverLogger passes what the HTTP server has to say on. Its messages are about connections that broke, never about requests.
type serverLogger struct{ log *slog.Logger }

func (l serverLogger) Printf(format string, args ...any) {
	l.log.Debug("http server", "message", fmt.Sprintf(format, args...))
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}
