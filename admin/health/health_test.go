package health

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func fixed(name string, s State, message string) Check {
	return Check{Name: name, Probe: func(context.Context) Result { return Result{State: s, Message: message} }}
}

func serve(t *testing.T, b *Board, method, target string, header ...string) (int, string, http.Header) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "stanchion_test_total", Help: "x"}))
	h := NewHandler(Options{Board: b, Gatherer: registry, Version: "1.2.3", Logger: slog.New(slog.DiscardHandler),
		Config: func() ([]byte, error) { return []byte("node: a\n"), nil }, Digest: func() string { return "sha256:abc" }})
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body), w.Result().Header
}

func TestReadiness(t *testing.T) {
	for _, c := range []struct {
		name   string
		phase  Phase
		checks []Check
		status int
		text   string
	}{
		{"starting", Starting, nil, 503, "not ready (starting)\n"},
		{"serving", Serving, nil, 200, "ready (serving)\n"},
		{"draining", Draining, []Check{fixed("rooms", OK, "")}, 503, "not ready (draining)\nok       rooms\n"},
		{"degraded parts keep taking traffic", Serving, []Check{fixed("rooms", OK, ""), fixed("bus", Degraded, "no broker\nfor 5 s"), fixed("admin", OK, "")}, 200,
			"ready (serving)\ndegraded bus: no broker for 5 s\nok       admin\nok       rooms\n"},
		{"a failed part does not", Serving, []Check{fixed("b", Degraded, "slow"), fixed("a", Failed, "gone")}, 503,
			"not ready (serving)\nfailed   a: gone\ndegraded b: slow\n"},
	} {
		b := NewBoard()
		b.SetPhase(c.phase)
		b.Add(c.checks...)
		status, text, _ := serve(t, b, "GET", "/readyz")
		if status != c.status || text != c.text {
			t.Errorf("%s: %d %q, want %d %q", c.name, status, text, c.status, c.text)
		}
		status, body, header := serve(t, b, "GET", "/readyz", "Accept", "application/json")
		var got Readiness
		if err := json.Unmarshal([]byte(body), &got); err != nil || status != c.status || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s (%v)", c.name, status, body, err)
		}
		if got.Ready != (c.status == 200) || got.Phase != c.phase || len(got.Parts) != len(c.checks) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestSlowCheckFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBoard()
		b.SetPhase(Serving)
		release := make(chan struct{})
		b.Add(Check{"deaf", func(context.Context) Result { <-release; return Result{State: OK} }},
			Check{"slow", func(ctx context.Context) Result { <-ctx.Done(); return Result{State: Degraded, Message: "slow"} }},
			fixed("quick", OK, ""))
		began := time.Now()
		r := b.Readiness(t.Context())
		if took := time.Since(began); took != probeTimeout {
			t.Errorf("took %s, want %s for all together", took, probeTimeout)
		}
		if r.Ready || r.Parts[0].State != Failed || r.Parts[0].Message != "no answer within 1s" || r.Parts[1].State != OK {
			t.Errorf("%+v", r)
		}
		close(release)
	})
}

func TestAnswersAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBoard()
		b.SetPhase(Serving)
		var probes atomic.Int32
		b.Add(Check{"store", func(context.Context) Result {
			probes.Add(1)
			time.Sleep(100 * time.Millisecond) // virtual: a store that takes its time
			return Result{State: OK}
		}})
		impatient, cancel := context.WithCancel(t.Context())
		cancel() // an asker that is gone must not spoil the answer of the others
		if r := b.Readiness(impatient); !r.Ready {
			t.Errorf("%+v", r)
		}
		var askers sync.WaitGroup
		for range 50 {
			askers.Go(func() {
				if r := b.Readiness(t.Context()); !r.Ready {
					t.Errorf("%+v", r)
				}
			})
		}
		askers.Wait()
		if n := probes.Load(); n != 1 {
			t.Errorf("%d probes for 51 askers at once, want 1", n)
		}
		time.Sleep(probeEvery)
		b.Readiness(t.Context())
		if n := probes.Load(); n != 2 {
			t.Errorf("%d probes after half a second, want 2", n)
		}
		b.SetPhase(Draining)
		if r := b.Readiness(t.Context()); r.Ready {
			t.Error("a phase must count at once, not when the answer is old")
		}
		b.Add(fixed("new", Failed, "x"))
		if r := b.Readiness(t.Context()); len(r.Parts) != 2 {
			t.Error("a new check must be asked at once")
		}
	})
}

func TestPinged(t *testing.T) {
	if r := Pinged("x", func(context.Context) error { return nil }).Probe(t.Context()); r.State != OK {
		t.Errorf("%+v", r)
	}
	if r := Pinged("x", func(context.Context) error { return errors.New("refused") }).Probe(t.Context()); r.State != Failed || r.Message != "refused" {
		t.Errorf("%+v", r)
	}
}

func TestEndpoints(t *testing.T) {
	b := NewBoard()
	b.SetPhase(Serving)
	b.AddTable("rooms", func(context.Context) (Table, error) {
		return Table{Columns: []string{"room", "inside"}, Rows: [][]string{{"<script>alert(1)</script>", "5"}}}, nil
	})
	b.AddTable("empty", func(context.Context) (Table, error) { return Table{Columns: []string{"x"}}, nil })
	b.AddTable("broken", func(context.Context) (Table, error) { return Table{}, errors.New("store <gone>") })
	for _, c := range []struct {
		method, target string
		status         int
		has            []string
		hasNot         []string
	}{
		{"GET", "/healthz", 200, []string{"ok\n", "version 1.2.3\n"}, nil},
		{"GET", "/metrics", 200, []string{"stanchion_test_total 0"}, nil},
		{"GET", "/config", 200, []string{"# digest: sha256:abc\nnode: a\n"}, nil},
		{"GET", "/", 302, nil, nil},
		{"GET", "/debug/", 200, []string{"/debug/rooms", "/debug/pprof/", "/readyz", "1.2.3", "sha256:abc"}, nil},
		{"GET", "/debug/rooms", 200, []string{"&lt;script&gt;", `<th scope="col">inside</th>`, "<td>5</td>"}, []string{"<script>"}},
		{"GET", "/debug/empty", 200, []string{"<td>nothing</td>"}, nil},
		{"GET", "/debug/broken", 500, []string{"store &lt;gone&gt;"}, nil},
		{"GET", "/debug/unknown", 404, nil, nil},
		{"GET", "/debug/pprof/", 200, []string{"goroutine"}, nil},
		{"GET", "/debug/pprof/goroutine?debug=1", 200, []string{"goroutine profile"}, nil},
		{"GET", "/debug/pprof/cmdline", 200, nil, nil},
		{"POST", "/config", 405, nil, nil},
		{"GET", "/nothing", 404, nil, nil},
	} {
		status, body, header := serve(t, b, c.method, c.target)
		if status != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.target, status, c.status)
		}
		for _, want := range c.has {
			if !strings.Contains(body, want) {
				t.Errorf("%s: lacks %q:\n%.600s", c.target, want, body)
			}
		}
		for _, no := range c.hasNot {
			if strings.Contains(body, no) {
				t.Errorf("%s: holds %q", c.target, no)
			}
		}
		if header.Get("Cache-Control") != "no-store" || header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: headers %v", c.target, header)
		}
	}
}

func TestConfigThatCannotBeShown(t *testing.T) {
	var logs bytes.Buffer
	h := NewHandler(Options{Board: NewBoard(), Gatherer: prometheus.NewRegistry(), Version: "1", Logger: slog.New(slog.NewTextHandler(&logs, nil)),
		Config: func() ([]byte, error) { return nil, errors.New("no") }, Digest: func() string { return "" }})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/config", nil))
	if w.Code != 500 || !strings.Contains(logs.String(), "show configuration") {
		t.Errorf("%d, log %q", w.Code, &logs)
	}
}

func TestTablesAreListedByName(t *testing.T) {
	b := NewBoard()
	for _, name := range []string{"c", "a", "b"} {
		b.AddTable(name, func(context.Context) (Table, error) { return Table{}, nil })
	}
	if got := b.tableNames(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("%v", got)
	}
}
