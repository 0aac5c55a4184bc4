package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

func newPool(t *testing.T, change func(*Options), targets ...string) *Pool {
	t.Helper()
	o := Options{
		Name: "shop", Targets: targets, ResponseTimeout: 2 * time.Second, StallTimeout: 2 * time.Second, ConnectTimeout: time.Second,
		IdleTimeout: time.Minute, MaxConns: 100, HealthEvery: 5 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.CloseIdle)
	return p
}

func ask(p *Pool) (status int, body string, err error) { return send(p, false) }

func send(p *Pool, repeatable bool) (status int, body string, err error) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://shop.example/x")
	if err := p.Do(req, resp, nil, repeatable); err != nil {
		return 0, "", err
	}
	var b []byte
	if s := resp.BodyStream(); s != nil {
		b, err = io.ReadAll(s)
	}
	return resp.StatusCode(), string(b), err
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal("it did not happen in time")
		case <-tick.C:
		}
	}
}

func deadAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// TestLiveness: silence is life; an end or bytes that nobody asked for are death.
func TestLiveness(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, tt := range map[string]struct {
		do   func(net.Conn)
		want bool
	}{
		"silent":            {func(net.Conn) {}, true},
		"closed":            {func(c net.Conn) { _ = c.Close() }, false},
		"reset":             {func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); _ = c.Close() }, false},
		"unsolicited bytes": {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\n\r\n") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			live := newLiveness(c)
			tt.do(s)
			waitFor(t, func() bool { return live.alive() == tt.want })
			if a := testing.AllocsPerRun(10, func() { live.alive() }); a != 0 {
				t.Errorf("%v allocations", a)
			}
		})
	}
}

// TestIdleConnectionIsReplaced: a connection that died while idle is replaced before the request is written.
func TestIdleConnectionIsReplaced(t *testing.T) {
	var conns, requests atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	closed := make(chan struct{}, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			go func() { // one answer that promises to keep the connection, then closes it
				br := bufio.NewReader(c)
				if _, err := http.ReadRequest(br); err == nil {
					requests.Add(1)
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
				_ = c.Close()
				closed <- struct{}{}
			}()
		}
	}()
	p := newPool(t, nil, "http://"+l.Addr().String())
	for i := range 5 {
		if s, b, err := ask(p); err != nil || s != 200 || b != "ok" {
			t.Fatalf("%d: %d %q %v", i, s, b, err)
		}
		<-closed
	}
	if requests.Load() != 5 || conns.Load() != 5 || p.Stats().Replaced == 0 {
		t.Errorf("%d requests over %d connections, %d replaced", requests.Load(), conns.Load(), p.Stats().Replaced)
	}
}

func TestUnreachable(t *testing.T) {
	p := newPool(t, nil, deadAddr(t))
	_, _, err := ask(p)
	var dial *DialError
	if !errors.Is(err, ErrUnavailable) || !errors.As(err, &dial) {
		t.Errorf("%v", err)
	}
}

// TestEjection: a target that fails five times in a row is left alone, but never more than half of them.
func TestEjection(t *testing.T) {
	var good, bad atomic.Int64
	g := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { good.Add(1) }))
	defer g.Close()
	b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { bad.Add(1); w.WriteHeader(502) }))
	defer b.Close()
	p := newPool(t, nil, g.URL, b.URL)
	for range 200 {
		if _, _, err := ask(p); err != nil {
			t.Fatal(err)
		}
	}
	if bad.Load() > 2*ejectAfter+5 || good.Load() < 150 {
		t.Errorf("good %d, bad %d", good.Load(), bad.Load())
	}
	st := p.Stats()
	if st.Targets[0].Healthy != true || st.Targets[1].Healthy != false || st.Targets[1].Ejections != 1 {
		t.Errorf("%+v", st.Targets)
	}

	worse := newPool(t, nil, b.URL, b.URL+"/")
	for range 100 {
		if s, _, err := ask(worse); err != nil || s != 502 {
			t.Fatal(s, err)
		}
	}
	healthy := 0
	for _, x := range worse.Stats().Targets {
		if x.Healthy {
			healthy++
		}
	}
	if healthy != 1 {
		t.Errorf("%d of 2 targets take part, want 1", healthy)
	}

	alone := newPool(t, nil, b.URL)
	for range 20 {
		if s, _, err := ask(alone); err != nil || s != 502 {
			t.Fatal(s, err)
		}
	}
	if !alone.Stats().Targets[0].Healthy {
		t.Error("the only target was ejected")
	}
}

// TestRetryBudget: retries are a tenth of successes at most.
func TestRetryBudget(t *testing.T) {
	p := newPool(t, nil, "http://127.0.0.1:1", "http://127.0.0.1:2")
	n := 0
	for p.spend() {
		n++
	}
	if n != 10 {
		t.Errorf("%d retries saved at the start", n)
	}
	for range 1000 {
		p.earn()
	}
	n = 0
	for p.spend() {
		n++
	}
	if n < 99 || n > 100 {
		t.Errorf("1000 successes earned %d retries", n)
	}
	if st := p.Stats(); st.RetriesDenied != 2 {
		t.Errorf("%+v", st)
	}
}

// TestNoRetryOnceTouched: when the body has been read from, no other target is tried.
func TestNoRetryOnceTouched(t *testing.T) {
	p := newPool(t, nil, deadAddr(t), deadAddr(t))
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://x/")
	if err := p.Do(req, resp, func() bool { return true }, false); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if p.Stats().Retries != 0 {
		t.Error("a touched request was retried")
	}
}

// breaker is an origin that reads a whole request and then breaks the connection, so many times; then it answers.
func breaker(t *testing.T, breaks int64) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		if requests.Add(1) <= breaks {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = c.Close()
			}
			return
		}
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(s.Close)
	return s.URL, requests
}

// TestRepeatable: a request that may be repeated is, once, when its connection broke; any other is sent once at most.
func TestRepeatable(t *testing.T) {
	for _, k := range []struct {
		name       string
		breaks     int64
		repeatable bool
		ok         bool
		requests   int64
	}{
		{"not repeatable", 1, false, false, 1},
		{"repeatable", 1, true, true, 2},
		{"breaks twice", 2, true, false, 2},
		{"does not break", 0, true, true, 1},
	} {
		u, requests := breaker(t, k.breaks)
		_, body, err := send(newPool(t, nil, u), k.repeatable)
		if (err == nil) != k.ok || k.ok && body != "ok" || requests.Load() != k.requests {
			t.Errorf("%s: %q %v, %d requests", k.name, body, err, requests.Load())
		}
		if err != nil && (errors.Is(err, ErrUnavailable) || NotSent(err)) {
			t.Errorf("%s: said to be not sent: %v", k.name, err)
		}
	}
	late := make(chan struct{})
	var requests atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1); <-late }))
	defer s.Close()
	defer close(late)
	p := newPool(t, func(o *Options) { o.ResponseTimeout = 50 * time.Millisecond }, s.URL)
	if _, _, err := send(p, true); !TimedOut(err) || requests.Load() != 1 {
		t.Errorf("late: %v, %d requests", err, requests.Load())
	}
}

// TestBrownOut: when an origin breaks every connection, repetitions stay within a tenth of what went well before.
func TestBrownOut(t *testing.T) {
	var sick atomic.Bool
	var requests atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		if sick.Load() {
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = c.Close()
			}
		}
	}))
	defer s.Close()
	p := newPool(t, nil, s.URL)
	for range 500 {
		if _, _, err := send(p, true); err != nil {
			t.Fatal(err)
		}
	}
	sick.Store(true)
	requests.Store(0)
	const n = 1000
	for range n {
		if _, _, err := send(p, true); err == nil {
			t.Fatal("answered")
		}
	}
	if got := float64(requests.Load()) / n; got > 1.1 {
		t.Errorf("%.3f requests reached the origin for each that was made", got)
	}
}

// TestSlowStart: a target that comes back gets little at first and its share in the end.
func TestSlowStart(t *testing.T) {
	p := newPool(t, nil, "http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3")
	cold := p.targets[0]
	share := func(since time.Duration) float64 {
		cold.back.Store(time.Now().Add(-since).UnixNano())
		n := 0
		for range 20_000 {
			if p.Pick(nil) == cold {
				n++
			}
		}
		return float64(n) / 20_000
	}
	for _, k := range []struct {
		since     time.Duration
		low, high float64
	}{{0, 0.01, 0.06}, {warmFor / 2, 0.12, 0.22}, {warmFor, 0.30, 0.37}, {time.Hour, 0.30, 0.37}} {
		if s := share(k.since); s < k.low || s > k.high {
			t.Errorf("%v after its return a target gets %.3f, want %.2f to %.2f", k.since, s, k.low, k.high)
		}
	}
	alone := newPool(t, nil, "http://127.0.0.1:1")
	alone.targets[0].back.Store(time.Now().UnixNano())
	if alone.Pick(nil) != alone.targets[0] {
		t.Error("nobody was picked")
	}
}

func TestActiveHealth(t *testing.T) {
	var sick atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/healthz" && sick.Load() {
			w.WriteHeader(503)
		}
	}))
	defer s.Close()
	p := newPool(t, func(o *Options) { o.HealthPath = "/healthz" }, s.URL)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { p.Run(ctx); close(done) }()
	wait := func(want bool) {
		t.Helper()
		waitFor(t, func() bool { return p.Stats().Targets[0].Healthy == want })
	}
	wait(true)
	sick.Store(true)
	wait(false)
	if status, _, err := ask(p); err != nil || status != 200 {
		t.Errorf("when all are said to be sick, they are asked all the same: %d %v", status, err)
	}
	sick.Store(false)
	wait(true)
	stop()
	<-done
}

func TestTimeouts(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/stall" {
			_, _ = io.WriteString(w, "begin")
			w.(http.Flusher).Flush()
		}
		<-hold
	}))
	defer s.CloseClientConnections()
	p := newPool(t, func(o *Options) { o.ResponseTimeout, o.StallTimeout = 50*time.Millisecond, 50*time.Millisecond }, s.URL)
	if _, _, err := ask(p); !TimedOut(err) {
		t.Errorf("no response: %v", err)
	}
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://x/stall")
	if err := p.Do(req, resp, nil, false); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.BodyStream()); string(b) != "begin" || err == nil {
		t.Errorf("a response that stalls: %q %v", b, err)
	}
}

func TestBadTargets(t *testing.T) {
	for _, targets := range [][]string{nil, {"http://\x00"}} {
		if _, err := New(Options{Targets: targets}); err == nil {
			t.Errorf("%q were taken", targets)
		}
	}
}
