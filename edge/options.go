package edge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/stanchion-queue/stanchion/edge/pressure"
)

// DefaultPrefix is where the edge's own endpoints live on every host.
const DefaultPrefix = "/.stanchion"

// Options is everything an edge needs to know. The zero value of an optional field means its default.
type Options struct {
	// Address is where to listen, host:port. Ignored when Listener is set.
	Address string
	// Listener takes the place of Address; the edge closes it.
	Listener net.Listener
	// TLS ends TLS at the edge. Only HTTP/1.1 is spoken; ALPN is set accordingly. Nil: plain HTTP.
	TLS *tls.Config

	// TrustedHops are the networks of proxies in front of the edge. Only from them are Forwarded and X-Forwarded-* (client
	// address, scheme, host), X-Request-Id and traceparent believed; they are also exempt from per-network connection caps.
	TrustedHops []netip.Prefix
	// ProxyProtocol expects a PROXY protocol head, version 1 or 2, on connections from TrustedHops, and believes it.
	ProxyProtocol bool

	// Routes in order; the first match wins. A request that matches none is answered 404.
	Routes []Route
	// Upstreams by name.
	Upstreams map[string]Upstream
	// Rooms by name ([a-z0-9-]{1,32}).
	Rooms map[string]RoomOptions

	// Passes verifies passes. Required when there is a room.
	Passes Verifier
	// JWKS returns the current public pass keys as a JSON Web Key Set. Required when there is a room.
	JWKS func() []byte
	// KnownPasses bounds the memory of verified passes, in passes; default 65,536.
	KnownPasses int

	// Prefix of the edge's own endpoints, default DefaultPrefix. Starts with a slash, does not end with one.
	Prefix string

	Limits   Limits
	Timeouts Timeouts

	// AccessLog is how requests are logged.
	AccessLog AccessLog

	// Logger for everything but access lines. Required.
	Logger *slog.Logger
	// Registerer for metrics. Required.
	Registerer prometheus.Registerer
	// Tracer makes one span per request and hands its context to the origin. Nil: no spans, and a client's traceparent
	// passes through.
	Tracer trace.Tracer
	// Now is the clock; nil: time.Now.
	Now func() time.Time

	usage      func() (pressure.Usage, error) // nil: that of this process
	usageEvery time.Duration
}

// RoomOptions is one room as the edge serves it.
type RoomOptions struct {
	Room Room
	// Entry is the path a fan is led to when it is not known where they came from, such as "/performances/gala".
	Entry string
	// Title is what the fan's page calls the event; default: the room's name.
	Title string
	// Organiser is who sells, shown on the fan's page. Optional.
	Organiser string
	// ReturnWithin is how long a fan who is called has to come; the page counts it down. Default 120 s.
	ReturnWithin time.Duration
	// Limits of this room; values of 0 are those of Options.Limits.
	JoinPerSecond, JoinBurst       float64
	SessionPerSecond, SessionBurst float64
	// Account reads the account (`sub`) from a request's account token, for rooms that ask for one. It gets the value of a
	// named cookie or header through get. Nil: no accounts.
	Account func(cookie, header func(name string) string) (sub string, ok bool)
}

// Route sends requests to an upstream, and through a room when it names one.
type Route struct {
	// Host as in the Host header without port, any case. Empty: every host.
	Host string
	// Paths are exact ("/a"), or prefixes when they end in a star ("/a/*", "/a*"). Empty: every path.
	Paths []string
	// Methods are upper case. Empty: all that the edge allows.
	Methods []string
	// Headers must all be present with exactly these values.
	Headers map[string]string

	Upstream string
	// Room asks for a pass. Empty: the route passes freely.
	Room string

	// Priority when the upstream is overloaded: 0 (served last to die, finishing a payment) to 5 (shed first). The zero
	// Route has priority 0, so callers set it; see PriorityDefault.
	Priority int
	// Cost of a request in the limits, in requests; 0 means 1.
	Cost float64
	// MaxBody in bytes; 0 means Limits.BodyBytes.
	MaxBody int64
	// WebSocket lets Upgrade: websocket pass.
	WebSocket bool
}

// PriorityDefault is the priority of a route that has no reason for another.
const PriorityDefault = 3

// Upstream is one origin with one or more equal targets.
type Upstream struct {
	// Targets are base URLs, http or https, without path.
	Targets []string
	// TLS for https targets; nil: the system's roots.
	TLS *tls.Config
	// ResponseTimeout bounds the wait for the first byte of a response after the request has been sent; default 30 s.
	ResponseTimeout time.Duration
	// StallTimeout bounds the silence inside a response body; default 5 min, long enough for event streams with heartbeats.
	StallTimeout time.Duration
	// ConnectTimeout, default 2 s.
	ConnectTimeout time.Duration
	// IdleTimeout after which an idle connection is closed; keep it below the origin's own. Default 20 s.
	IdleTimeout time.Duration
	// MinConcurrent and MaxConcurrent bound requests in flight to all targets together; the adaptive limit moves between
	// them. Default 16 and 512.
	MinConcurrent, MaxConcurrent int
	// HealthPath is asked every HealthEvery (default 2 s) on each target; empty: passive health only.
	HealthPath  string
	HealthEvery time.Duration
}

// Limits bound what one client and all clients together may ask for.
type Limits struct {
	HeadBytes   int   // request line and headers together; default 16384
	Headers     int   // header lines; default 100
	TargetBytes int   // request target; default 8192
	BodyBytes   int64 // request body; default 100 MiB

	Connections           int // open connections; default 20000
	ConnectionsPerNetwork int // per IPv4 /24 or IPv6 /48; default 2000; below 0: no cap

	// Requests per client network (IPv4 /24, IPv6 /48).
	NetworkPerSecond float64 // default 500; below 0: no limit
	NetworkBurst     float64 // default 2000
	// New places (joins and entries) per client network and room.
	JoinPerSecond float64 // default 20; below 0: no limit
	JoinBurst     float64 // default 600
	// Requests per admitted session of a room; sub-resources cost a quarter.
	SessionPerSecond float64 // default 5; below 0: no limit
	SessionBurst     float64 // default 40
	// Requests of the whole process per second that are not made with a pass. Default 0: no limit.
	OutsidePerSecond float64

	// MemoryBytes is what the process may use, if less than the Go runtime's soft limit and the control group's. Near it, and near
	// the limit of descriptors or of goroutines, the edge lets go of those who wait and takes nobody new in. Default 0: no
	// limit of its own.
	MemoryBytes int64
	Goroutines  int // default 4 for each of Connections, and 4096

	// Keys is how many networks and sessions each limiter remembers; default 131072.
	Keys int
}

// Timeouts against slow clients.
type Timeouts struct {
	Idle  time.Duration // between requests of one connection; default 30 s
	Head  time.Duration // from the first byte of a request to the end of its headers; default 5 s
	Body  time.Duration // silence inside a request body; default 10 s
	Write time.Duration // one write of a response; default 10 s
	Claim time.Duration // how long a claim may wait at the door; default 9 s
	Drain time.Duration // how long Run waits for open requests once its context ends; default 15 s
}

// AccessLog is how requests are logged.
type AccessLog struct {
	// Logger gets one record per logged request; nil: none.
	Logger *slog.Logger
	// Combined writes lines in Combined Log Format to Writer instead of records.
	Combined bool
	Writer   interface{ Write([]byte) (int, error) }
	// OneIn logs 1 request in so many; requests refused as HTTP and errors are always logged, those who wait or are turned away
	// for load are not. 0 and 1: all.
	OneIn int
}

var roomName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// withDefaults validates o and fills defaults in. All problems are reported at once.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if o.Listener == nil && o.Address == "" {
		bad("listener: neither an address nor a listener is given")
	}
	if o.Logger == nil {
		bad("logger: missing")
	}
	if o.Registerer == nil {
		bad("registerer: missing")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if !strings.HasPrefix(o.Prefix, "/") || strings.HasSuffix(o.Prefix, "/") {
		bad("prefix %q: must start with a slash and not end with one", o.Prefix)
	}
	setDefault(&o.usageEvery, 250*time.Millisecond)
	if o.KnownPasses == 0 {
		o.KnownPasses = 65536
	}

	if len(o.Upstreams) == 0 {
		bad("upstreams: none given")
	}
	for name, u := range o.Upstreams {
		if len(u.Targets) == 0 {
			bad("upstream %s: no targets", name)
		}
		for _, t := range u.Targets {
			p, err := url.Parse(t)
			if err != nil || (p.Scheme != "http" && p.Scheme != "https") || p.Host == "" || (p.Path != "" && p.Path != "/") || p.User != nil || p.RawQuery != "" {
				bad("upstream %s: target %q: want http://host:port or https://host:port", name, t)
			}
		}
		setDefault(&u.ResponseTimeout, 30*time.Second)
		setDefault(&u.StallTimeout, 5*time.Minute)
		setDefault(&u.ConnectTimeout, 2*time.Second)
		setDefault(&u.IdleTimeout, 20*time.Second)
		setDefault(&u.HealthEvery, 2*time.Second)
		setDefault(&u.MinConcurrent, 16)
		setDefault(&u.MaxConcurrent, 512)
		if u.MaxConcurrent < 1 || u.MinConcurrent < 1 || u.MaxConcurrent > 100000 {
			bad("upstream %s: concurrency %d to %d: allowed 1 to 100000", name, u.MinConcurrent, u.MaxConcurrent)
		}
		o.Upstreams = cloneWith(o.Upstreams, name, u)
	}
	for name, r := range o.Rooms {
		if !roomName.MatchString(name) {
			bad("room %q: names match %s", name, roomName)
		}
		if r.Room == nil {
			bad("room %s: no implementation given", name)
		}
		if r.Entry == "" {
			r.Entry = "/"
		}
		if !safeReturn(r.Entry) {
			bad("room %s: entry %q: must be a path of the same host", name, r.Entry)
		}
		if r.Title == "" {
			r.Title = name
		}
		setDefault(&r.ReturnWithin, 120*time.Second)
		o.Rooms = cloneWith(o.Rooms, name, r)
	}
	if len(o.Rooms) > 0 && (o.Passes == nil || o.JWKS == nil) {
		bad("passes: a verifier and its key set are needed when there is a room")
	}
	if len(o.Routes) == 0 {
		bad("routes: none given")
	}
	for i, r := range o.Routes {
		if _, ok := o.Upstreams[r.Upstream]; !ok {
			bad("route %d: unknown upstream %q", i, r.Upstream)
		}
		if _, ok := o.Rooms[r.Room]; r.Room != "" && !ok {
			bad("route %d: unknown room %q", i, r.Room)
		}
		if r.Priority < 0 || r.Priority > 5 {
			bad("route %d: priority %d: allowed 0 to 5", i, r.Priority)
		}
		if r.Cost < 0 {
			bad("route %d: cost %g: must not be negative", i, r.Cost)
		}
		for _, p := range r.Paths {
			if !strings.HasPrefix(p, "/") || strings.Contains(strings.TrimSuffix(p, "*"), "*") {
				bad("route %d: path %q: must start with a slash; a star may only end it", i, p)
			}
		}
	}

	l := &o.Limits
	setDefault(&l.HeadBytes, 16<<10)
	setDefault(&l.Headers, 100)
	setDefault(&l.TargetBytes, 8<<10)
	setDefault(&l.BodyBytes, 100<<20)
	setDefault(&l.Connections, 20000)
	setDefault(&l.ConnectionsPerNetwork, 2000)
	setDefault(&l.NetworkPerSecond, 500)
	setDefault(&l.NetworkBurst, 2000)
	setDefault(&l.JoinPerSecond, 20)
	setDefault(&l.JoinBurst, 600)
	setDefault(&l.SessionPerSecond, 5)
	setDefault(&l.SessionBurst, 40)
	setDefault(&l.Keys, 131072)
	setDefault(&l.Goroutines, 4*l.Connections+4096)
	if l.HeadBytes < 1024 || l.HeadBytes > 1<<20 {
		bad("limits: head %d bytes: allowed 1024 to 1048576", l.HeadBytes)
	}
	t := &o.Timeouts
	setDefault(&t.Idle, 30*time.Second)
	setDefault(&t.Head, 5*time.Second)
	setDefault(&t.Body, 10*time.Second)
	setDefault(&t.Write, 10*time.Second)
	setDefault(&t.Claim, 9*time.Second)
	setDefault(&t.Drain, 15*time.Second)
	return o, errors.Join(errs...)
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// cloneWith returns m with one entry changed, without touching the caller's map.
func cloneWith[V any](m map[string]V, key string, v V) map[string]V {
	c := make(map[string]V, len(m))
	for k, old := range m {
		c[k] = old
	}
	c[key] = v
	return c
}
