package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/time/rate"

	"github.com/stanchion-queue/stanchion/edge/guard"
	"github.com/stanchion-queue/stanchion/edge/limit"
	"github.com/stanchion-queue/stanchion/edge/shed"
	"github.com/stanchion-queue/stanchion/edge/upstream"
	"github.com/stanchion-queue/stanchion/edge/waitpage"
)

// Server is one edge. Its methods are safe for concurrent use.
type Server struct {
	o       Options
	log     *slog.Logger
	routes  routes
	origins map[string]*origin
	rooms   map[string]*roomServer
	known   *known
	pages   *waitpage.Pages

	networks *limit.Limiter // nil: no limit
	joins    *limit.Limiter
	sessions *limit.Limiter
	outside  *rate.Limiter

	http     *fasthttp.Server
	listener *guard.Listener
	metrics  *metrics
	access   *accessLog

	upgrades upgrades
	base     context.Context // of calls into rooms; ends when a drain is over
	stop     context.CancelFunc
	draining atomic.Bool
}

// origin is an upstream with its concurrency limit.
type origin struct {
	name string
	pool *upstream.Pool
	shed *shed.Limiter
}

// roomServer is a room as the edge serves it.
type roomServer struct {
	RoomOptions
	name   string
	plain  cookieNames
	secure cookieNames
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
	s := &Server{o: o, log: o.Logger, origins: map[string]*origin{}, rooms: map[string]*roomServer{}}
	s.base, s.stop = context.WithCancel(context.Background())

	for name, u := range o.Upstreams {
		pool, err := upstream.New(upstream.Options{
			Name: name, Targets: u.Targets, TLS: u.TLS, ResponseTimeout: u.ResponseTimeout, StallTimeout: u.StallTimeout,
			ConnectTimeout: u.ConnectTimeout, IdleTimeout: u.IdleTimeout, MaxConns: 4 * u.MaxConcurrent,
			HealthPath: u.HealthPath, HealthEvery: u.HealthEvery, Logger: o.Logger,
		})
		if err != nil {
			return nil, err
		}
		s.origins[name] = &origin{name: name, pool: pool, shed: shed.New(shed.Options{Min: u.MinConcurrent, Max: u.MaxConcurrent})}
	}
	for name, r := range o.Rooms {
		s.rooms[name] = &roomServer{RoomOptions: r, name: name, plain: namesFor(name, false), secure: namesFor(name, true)}
	}
	for _, r := range o.Routes {
		t := &route{Route: r, upstream: s.origins[r.Upstream], room: s.rooms[r.Room], cost: r.Cost}
		t.host = lowerASCII(r.Host)
		if t.cost == 0 {
			t.cost = 1
		}
		if t.MaxBody == 0 {
			t.MaxBody = o.Limits.BodyBytes
		}
		for _, m := range r.Methods {
			g := guard.ParseMethod(m)
			if g == guard.MethodNone {
				return nil, fmt.Errorf("edge options: route with method %q: not a method the edge serves", m)
			}
			t.methods |= 1 << g
		}
		s.routes = append(s.routes, t)
	}
	s.known = newKnown(o.Passes, o.KnownPasses)

	now := o.Now()
	s.networks = newLimiter(o.Limits.NetworkPerSecond, o.Limits.NetworkBurst, o.Limits.Keys, now)
	s.joins = newLimiter(o.Limits.JoinPerSecond, o.Limits.JoinBurst, o.Limits.Keys, now)
	s.sessions = newLimiter(o.Limits.SessionPerSecond, o.Limits.SessionBurst, o.Limits.Keys, now)
	if r := o.Limits.OutsidePerSecond; r > 0 {
		s.outside = rate.NewLimiter(rate.Limit(r), max(1, int(r)))
	}
	if s.pages, err = waitpage.New(o.Prefix); err != nil {
		return nil, fmt.Errorf("prepare pages: %w", err)
	}
	if s.metrics, err = newMetrics(s, o.Registerer); err != nil {
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
	}
	if o.TLS != nil {
		cfg.TLS = o.TLS.Clone()
		cfg.TLS.NextProtos = []string{"http/1.1"}
		cfg.TLS.MinVersion = max(cfg.TLS.MinVersion, 0x0303)
	}
	s.listener = guard.NewListener(inner, cfg, guard.Caps{
		Total: o.Limits.Connections, PerNetwork: o.Limits.ConnectionsPerNetwork, Exempt: o.TrustedHops, Dropped: s.metrics.dropped,
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

func newLimiter(perSecond, burst float64, keys int, now time.Time) *limit.Limiter {
	if perSecond < 0 {
		return nil
	}
	return limit.New(limit.Rate{PerSecond: perSecond, Burst: burst}, keys, now)
}

// Addr is the address the edge listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, then drains for at most Timeouts.Drain and returns. Its error is nil after a drain that let every
// open request finish.
func (s *Server) Run(ctx context.Context) error {
	health, stopHealth := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	for _, o := range s.origins {
		background.Go(func() { o.pool.Run(health) })
	}
	defer background.Wait()
	defer stopHealth()

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
