package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// fakeRoom is a room whose answers the test sets. Its tickets are words, its passes are real.
type fakeRoom struct {
	name string
	keys *pass.Keys

	mu      sync.Mutex
	view    line.View
	n       int
	joins   []line.JoinRequest
	claims  []line.ClaimRequest
	left    []line.SessionID
	gone    []string
	uses    int
	places  map[string]line.Place
	enter   error
	claim   func(line.ClaimRequest) error
	use     func(pass.Claims) line.Use
	joinErr error
}

func newFakeRoom(t testing.TB, name string) *fakeRoom {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := pass.NewKeys(pass.Key{Private: priv})
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeRoom{name: name, keys: keys, places: map[string]line.Place{}, enter: &line.Refusal{Code: line.RefusedNotOpen}}
	f.set(line.PhaseWaiting, false)
	return f
}

func (f *fakeRoom) set(p line.Phase, open bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := time.Now().UTC().Truncate(time.Millisecond)
	opens := at.Add(10 * time.Minute)
	st := line.Status{
		Room: f.name, Line: line.ID{1}, Phase: p, ServerTime: at, OpensAt: &opens, Version: 7, SampleOneIn: 100,
		Lanes: []line.LaneStatus{{Name: "general", Called: 100, Total: 5000, PerMinute: 60, ETA: line.ETA{Kind: "velocity", PerSecond: 1, Low: 0.9, High: 1.2}}},
		Poll:  line.Poll{MinMs: 2000, MaxMs: 60000, Spread: 0.2},
	}
	raw, _ := json.Marshal(st)
	f.view = line.View{Room: f.name, Line: st.Line, Phase: p, Open: open, Status: st, StatusRaw: raw, ETag: `W/"7-1"`}
	if open {
		f.enter = nil
	} else {
		f.enter = &line.Refusal{Code: line.RefusedNotOpen}
	}
}

func (f *fakeRoom) grant(session byte) line.Grant {
	now := time.Now().Truncate(time.Second)
	g := line.Grant{Session: line.SessionID{session}, ExpiresAt: now.Add(2 * time.Minute), StayUntil: now.Add(15 * time.Minute)}
	g.Pass = f.sign(pass.Claims{Session: g.Session.String(), Room: f.name, IssuedAt: now, NotBefore: now, ExpiresAt: g.ExpiresAt, StayUntil: g.StayUntil})
	return g
}

func (f *fakeRoom) sign(c pass.Claims) string {
	if c.Line == "" {
		c.Line = line.ID{1}.String()
	}
	if c.Issuer == "" {
		c.Issuer = "stanchion"
	}
	if c.Home == "" {
		c.Home = "e"
	}
	s, err := f.keys.Sign(c)
	if err != nil {
		panic(err)
	}
	return s
}

func (f *fakeRoom) View() *line.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.view
	return &v
}

func (f *fakeRoom) Join(_ context.Context, r line.JoinRequest) (line.Place, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.joins = append(f.joins, r)
	if f.joinErr != nil {
		return line.Place{}, f.joinErr
	}
	if p, ok := f.places[r.Ticket]; ok {
		return p, nil
	}
	if r.Admit && f.view.Open {
		g := f.grant(9)
		return line.Place{State: line.StateAdmitted, Pass: &g}, nil
	}
	f.n++
	p := line.Place{Ticket: fmt.Sprintf("ticket-%d", f.n), State: line.StateWaiting, Lane: "general"}
	f.places[p.Ticket] = p
	return p, nil
}

func (f *fakeRoom) Enter(context.Context, string) (line.Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.enter != nil {
		return line.Grant{}, f.enter
	}
	return f.grant(8), nil
}

func (f *fakeRoom) Place(_ context.Context, ticket string) (line.Place, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p, ok := f.places[ticket]; ok {
		return p, nil
	}
	return line.Place{}, &line.Refusal{Code: line.RefusedTicket, Detail: "The ticket is not valid."}
}

func (f *fakeRoom) Claim(_ context.Context, r line.ClaimRequest) (line.Grant, line.Place, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.claims = append(f.claims, r)
	p, ok := f.places[r.Ticket]
	if !ok {
		return line.Grant{}, line.Place{Ticket: r.Ticket}, &line.Refusal{Code: line.RefusedTicket, Detail: "The ticket is not valid."}
	}
	if f.claim != nil {
		if err := f.claim(r); err != nil {
			return line.Grant{}, p, err
		}
	} else if p.State != line.StateCalled {
		return line.Grant{}, p, &line.Refusal{Code: line.RefusedEarly, Ahead: 41, RetryAfter: 5 * time.Second, Detail: "Not yet."}
	}
	return f.grant(7), p, nil
}

func (f *fakeRoom) Use(c pass.Claims, _ time.Time) line.Use {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.uses++
	if f.use != nil {
		return f.use(c)
	}
	return line.Use{Alive: true}
}

func (f *fakeRoom) Leave(_ context.Context, id line.SessionID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = append(f.left, id)
	return nil
}

func (f *fakeRoom) Abandon(ticket string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.places[ticket]; !ok {
		return &line.Refusal{Code: line.RefusedTicket, Detail: "The ticket is not valid."}
	}
	f.gone = append(f.gone, ticket)
	return nil
}

func (f *fakeRoom) Record(_ context.Context, id line.ID) ([]byte, error) {
	if id != (line.ID{1}) {
		return nil, &line.Refusal{Code: line.RefusedLineOver, Detail: "Not a line of this room."}
	}
	return []byte(`{"record":true}`), nil
}

func (f *fakeRoom) LedgerChunk(_ context.Context, _ line.ID, _ uint8, chunk uint32) ([]byte, bool, error) {
	return []byte{1, 2, 3}, chunk == 0, nil
}

func (f *fakeRoom) put(p line.Place) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.places[p.Ticket] = p
}

// rig is an edge in front of a real origin.
type rig struct {
	t      testing.TB
	edge   *Server
	room   *fakeRoom
	origin *httptest.Server
	url    string
	addr   string
	hits   atomic.Int64
	last   atomic.Pointer[http.Request]
	logs   *syncBuffer
	reg    *prometheus.Registry
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// newRig starts an edge. handler is the origin's; nil answers "origin says hello".
func newRig(t testing.TB, handler http.HandlerFunc, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, room: newFakeRoom(t, "onsale"), logs: &syncBuffer{}, reg: prometheus.NewRegistry()}
	if handler == nil {
		handler = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "origin says hello")
		}
	}
	r.origin = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.hits.Add(1)
		c := req.Clone(context.Background())
		r.last.Store(c)
		handler(w, req)
	}))
	t.Cleanup(r.origin.Close)
	o := Options{
		Address: "127.0.0.1:0",
		Routes: []Route{
			{Paths: []string{"/free", "/free/*", "/static/*"}, Upstream: "shop", Priority: PriorityDefault},
			{Paths: []string{"/ws"}, Upstream: "shop", WebSocket: true, Priority: PriorityDefault},
			{Paths: []string{"/gala", "/gala/*"}, Upstream: "shop", Room: "onsale", WebSocket: true, Priority: PriorityDefault},
			{Paths: []string{"/*"}, Upstream: "shop", Priority: PriorityDefault},
		},
		Upstreams:  map[string]Upstream{"shop": {Targets: []string{r.origin.URL}}},
		Rooms:      map[string]RoomOptions{"onsale": {Room: r.room, Entry: "/gala", Title: "The Gala", Organiser: "City Opera"}},
		Passes:     r.room.keys.Verifier(),
		JWKS:       r.room.keys.JWKS,
		Logger:     slog.New(slog.NewTextHandler(r.logs, nil)),
		Registerer: r.reg,
		AccessLog:  AccessLog{Logger: slog.New(slog.NewJSONHandler(r.logs, nil))},
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	if r.edge, err = New(o); err != nil {
		t.Fatal(err)
	}
	r.addr = r.edge.Addr().String()
	r.url = "http://" + r.addr
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.edge.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return r
}

// ask sends a request without following redirects. Headers are given as name, value pairs.
func (r *rig) ask(method, path string, body io.Reader, headers ...string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		} else {
			req.Header.Add(headers[i], headers[i+1])
		}
	}
	resp, err := noRedirects.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(raw))
	return resp
}

var noRedirects = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Second},
}

func text(resp *http.Response) string {
	b, _ := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return string(b)
}

func cookie(resp *http.Response, name string) *http.Cookie {
	for _, c := range resp.Cookies() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// raw sends bytes as they are and returns everything that comes back until the edge closes or the wait is over.
func (r *rig) raw(send string) string {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, send); err != nil {
		r.t.Fatal(err)
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	b, _ := io.ReadAll(bufio.NewReader(c))
	return string(b)
}

const nav = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

func wantProblem(t *testing.T, resp *http.Response, status int, code string) map[string]any {
	t.Helper()
	if resp.StatusCode != status {
		t.Errorf("status %d, want %d: %s", resp.StatusCode, status, text(resp))
	}
	if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q, want application/problem+json", ct)
	}
	var p map[string]any
	if err := json.Unmarshal([]byte(text(resp)), &p); err != nil {
		t.Fatalf("problem: %v: %q", err, text(resp))
	}
	if p["type"] != "/problems/"+code {
		t.Errorf("type %v, want /problems/%s", p["type"], code)
	}
	if resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("a problem may be cached: %q", resp.Header.Get("Cache-Control"))
	}
	if ms, ok := p["retry_after_ms"]; ok && resp.Header.Get("Retry-After") == "" {
		t.Errorf("retry_after_ms %v without Retry-After", ms)
	}
	return p
}

func wantContains(t *testing.T, s string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(s, p) {
			t.Errorf("%q is missing in:\n%s", p, s)
		}
	}
}
