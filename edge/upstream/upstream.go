// Package upstream speaks HTTP to the origins: connection pools, the choice of a target, retries within a budget, and the
// health of targets.
//
// No request is sent twice unless its sender says that this is safe: another try is made when connecting failed, that is when not
// a byte was written, or when a request that may be repeated got no answer because its connection broke; and only while the
// retry budget lasts.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/time/rate"
)

// Options of a Pool. All durations are positive.
type Options struct {
	Name            string
	Targets         []string // base URLs, http or https
	TLS             *tls.Config
	ResponseTimeout time.Duration
	StallTimeout    time.Duration
	ConnectTimeout  time.Duration
	IdleTimeout     time.Duration
	MaxConns        int // per target
	HealthPath      string
	HealthEvery     time.Duration
	Logger          *slog.Logger
}

// Ejection of targets that fail: after ejectAfter failures in a row for ejectFor times the number of ejections, at most
// ejectMax, and never more than half of the targets.
const (
	ejectAfter = 5
	ejectFor   = 30 * time.Second
	ejectMax   = 300 * time.Second
)

// A target that comes back, from ejection or sickness, gets its share of the requests by and by: at first warmLeast of it, all
// of it after warmFor. A server that has just started is slow until its caches are full and its connections made.
const (
	warmFor   = 10 * time.Second
	warmLeast = 0.1
)

// Retry budget: each success earns a tenth of a retry, at most budgetCap are saved.
const (
	budgetEarn = 0.1
	budgetCap  = 100
)

// ErrUnavailable is returned when no target could be connected to; nothing was sent.
var ErrUnavailable = errors.New("no target of the upstream can be reached")

// Pool is all targets of one upstream. It is safe for concurrent use.
type Pool struct {
	o       Options
	targets []*Target

	mu      sync.Mutex
	budget  float64
	retries atomic.Uint64
	denied  atomic.Uint64
	replace atomic.Uint64
}

// Target is one origin server.
type Target struct {
	URL  string
	host string // host:port
	tls  *tls.Config
	hc   *fasthttp.HostClient
	pool *Pool

	inflight  atomic.Int64
	failures  atomic.Int64 // in a row
	ejections atomic.Int64
	until     atomic.Int64 // ejected until, Unix ns
	back      atomic.Int64 // when the active check found it well again, Unix ns
	sick      atomic.Bool  // says the active check
}

// New makes a pool. Call Run for active health checks.
func New(o Options) (*Pool, error) {
	p := &Pool{o: o, budget: 10}
	for _, raw := range o.Targets {
		u, err := url.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("upstream %s: read target: %w", o.Name, err)
		}
		t := &Target{URL: strings.TrimSuffix(raw, "/"), host: u.Host, pool: p}
		port := u.Port()
		if u.Scheme == "https" {
			t.tls = &tls.Config{MinVersion: tls.VersionTLS12}
			if o.TLS != nil {
				t.tls = o.TLS.Clone()
			}
			if t.tls.ServerName == "" {
				t.tls.ServerName = u.Hostname()
			}
			t.tls.NextProtos = []string{"http/1.1"}
			if port == "" {
				port = "443"
			}
		} else if port == "" {
			port = "80"
		}
		t.host = net.JoinHostPort(u.Hostname(), port)
		t.hc = &fasthttp.HostClient{
			Addr:                          t.host,
			Dial:                          func(string) (net.Conn, error) { return t.open() },
			MaxConns:                      o.MaxConns,
			MaxIdleConnDuration:           o.IdleTimeout,
			MaxIdemponentCallAttempts:     1, // retries are decided here, see Do
			RetryIfErr:                    func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
			ReadBufferSize:                16 << 10, // bounds a response's header section
			WriteBufferSize:               8 << 10,
			NoDefaultUserAgentHeader:      true,
			DisableHeaderNamesNormalizing: true,
			DisablePathNormalizing:        true,
			SecureErrorLogMessage:         true,
			StreamResponseBody:            true,
		}
		p.targets = append(p.targets, t)
	}
	if len(p.targets) == 0 {
		return nil, fmt.Errorf("upstream %s: no targets", o.Name)
	}
	return p, nil
}

// Dial opens a connection of its own to a target, for upgrades. The caller closes it.
func (t *Target) Dial() (net.Conn, error) {
	c, err := net.DialTimeout("tcp", t.host, t.pool.o.ConnectTimeout)
	if err != nil {
		return nil, &DialError{t.URL, err}
	}
	if t.tls == nil {
		return c, nil
	}
	tc := tls.Client(c, t.tls)
	ctx, cancel := context.WithTimeout(context.Background(), t.pool.o.ConnectTimeout)
	defer cancel()
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, &DialError{t.URL, err}
	}
	return tc, nil
}

func (t *Target) open() (net.Conn, error) {
	c, err := t.Dial()
	if err != nil {
		return nil, err
	}
	o := &t.pool.o
	return &conn{Conn: c, dial: t.Dial, check: newLiveness(c), fresh: true, response: o.ResponseTimeout, stall: o.StallTimeout,
		writing: max(o.ConnectTimeout, 10*time.Second), replaced: &t.pool.replace}, nil
}

// Do sends req to a target and reads the head of the response. touched reports whether the request's body has been read from;
// once it has, no other target is tried, unless repeatable says that the request holds its whole body and may take effect
// twice, because the origin recognises a repetition. A repeatable request is also tried again, once, when its connection
// broke before the answer; not when the answer was late, since the first try may still be worked on. The response's body
// streams and must be closed.
func (p *Pool) Do(req *fasthttp.Request, resp *fasthttp.Response, touched func() bool, repeatable bool) error {
	var tried *Target
	maybe := false // an earlier try may have taken effect
	for attempt := 0; ; attempt++ {
		t := p.Pick(tried)
		t.inflight.Add(1)
		err := t.hc.Do(req, resp)
		t.inflight.Add(-1)
		t.note(err, resp.StatusCode())
		if err == nil {
			p.earn()
			return nil
		}
		var dial *DialError
		if !errors.As(err, &dial) {
			if attempt > 0 || !repeatable || TimedOut(err) || errors.Is(err, fasthttp.ErrNoFreeConns) || !p.spend() {
				return fmt.Errorf("ask %s: %w", t.URL, err)
			}
			maybe = true
		} else if attempt > 0 || len(p.targets) == 1 || !repeatable && touched != nil && touched() || !p.spend() {
			if maybe {
				return fmt.Errorf("ask again after a broken connection: %w", dial.Err)
			}
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		tried = t
	}
}

// Pick chooses a target: of two random healthy ones the less busy. not is avoided when there is another.
func (p *Pool) Pick(not *Target) *Target {
	if len(p.targets) == 1 {
		return p.targets[0]
	}
	now := time.Now().UnixNano()
	var healthy [64]*Target
	n := 0
	for _, t := range p.targets {
		if t != not && t.usable(now) && n < len(healthy) {
			healthy[n] = t
			n++
		}
	}
	if n == 0 { // all are said to be sick: perhaps it is the judge
		for _, t := range p.targets {
			if t != not && n < len(healthy) {
				healthy[n] = t
				n++
			}
		}
	}
	a, b := draw(healthy[:n], now), draw(healthy[:n], now)
	if b.inflight.Load() < a.inflight.Load() {
		return b
	}
	return a
}

// draw picks a random target. One that is warming up gives way to another, more often the colder it is.
func draw(from []*Target, now int64) *Target {
	i := rand.IntN(len(from))
	if w := from[i].warmth(now); w < 1 && len(from) > 1 && rand.Float64() > w {
		i = (i + 1 + rand.IntN(len(from)-1)) % len(from)
	}
	return from[i]
}

// warmth is the share of its requests that a target gets for having come back lately.
func (t *Target) warmth(now int64) float64 {
	since := max(t.until.Load(), t.back.Load())
	if since == 0 || now-since >= int64(warmFor) {
		return 1
	}
	return max(warmLeast, float64(now-since)/float64(warmFor))
}

func (t *Target) usable(now int64) bool { return !t.sick.Load() && t.until.Load() <= now }

// note keeps the count of failures in a row. An origin's own 503 is an answer, not a failure of the target.
func (t *Target) note(err error, status int) {
	if err == nil && status != fasthttp.StatusBadGateway && status != fasthttp.StatusGatewayTimeout {
		t.failures.Store(0)
		return
	}
	if errors.Is(err, fasthttp.ErrNoFreeConns) {
		return // our own limit
	}
	if t.failures.Add(1) < ejectAfter {
		return
	}
	p := t.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	out := 0
	for _, o := range p.targets {
		if o != t && !o.usable(now.UnixNano()) {
			out++
		}
	}
	if out+1 > len(p.targets)/2 || t.until.Load() > now.UnixNano() {
		return
	}
	t.failures.Store(0)
	n := t.ejections.Add(1)
	d := min(time.Duration(n)*ejectFor, ejectMax)
	t.until.Store(now.Add(d).UnixNano())
	p.o.Logger.Warn("target ejected", "upstream", p.o.Name, "target", t.URL, "for", d, "error", err, "status", status)
}

func (p *Pool) earn() {
	p.mu.Lock()
	p.budget = min(p.budget+budgetEarn, budgetCap)
	p.mu.Unlock()
}

func (p *Pool) spend() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.budget < 1 {
		p.denied.Add(1)
		return false
	}
	p.budget--
	p.retries.Add(1)
	return true
}

// Run asks each target's health path until ctx ends. Without a health path it only waits.
func (p *Pool) Run(ctx context.Context) {
	defer p.CloseIdle()
	if p.o.HealthPath == "" {
		<-ctx.Done()
		return
	}
	pace := rate.NewLimiter(rate.Every(p.o.HealthEvery), 1)
	bad := make([]int, len(p.targets))
	for pace.Wait(ctx) == nil {
		var wg sync.WaitGroup
		for i, t := range p.targets {
			wg.Go(func() {
				if t.healthy(p.o.HealthPath, p.o.ConnectTimeout) {
					bad[i] = min(bad[i]-1, -1)
				} else {
					bad[i] = max(bad[i]+1, 1)
				}
				// Two in a row decide, in both directions.
				if sick := bad[i] >= 2; sick != t.sick.Load() && (bad[i] >= 2 || bad[i] <= -2) {
					t.sick.Store(sick)
					if !sick {
						t.back.Store(time.Now().UnixNano())
					}
					p.o.Logger.Info("target health changed", "upstream", p.o.Name, "target", t.URL, "healthy", !sick)
				}
			})
		}
		wg.Wait()
	}
}

func (t *Target) healthy(path string, timeout time.Duration) bool {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://" + t.host + path)
	req.Header.SetUserAgent("stanchion-health")
	req.SetTimeout(timeout)
	err := t.hc.Do(req, resp)
	ok := err == nil && resp.StatusCode() < 400
	_ = resp.CloseBodyStream()
	return ok
}

// CloseIdle closes connections that are not in use.
func (p *Pool) CloseIdle() {
	for _, t := range p.targets {
		t.hc.CloseIdleConnections()
	}
}

// Stats are a pool's counters.
type Stats struct {
	Retries, RetriesDenied, Replaced uint64
	Targets                          []TargetStats
}

// TargetStats is one target's state.
type TargetStats struct {
	URL       string
	Inflight  int64
	Healthy   bool
	Ejections int64
}

// Stats returns the pool's counters.
func (p *Pool) Stats() Stats {
	s := Stats{Retries: p.retries.Load(), RetriesDenied: p.denied.Load(), Replaced: p.replace.Load()}
	now := time.Now().UnixNano()
	for _, t := range p.targets {
		s.Targets = append(s.Targets, TargetStats{t.URL, t.inflight.Load(), t.usable(now), t.ejections.Load()})
	}
	return s
}
