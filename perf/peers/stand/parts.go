package stand

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/http/pprof"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/valyala/fasthttp"

	"github.com/stanchion-queue/stanchion/edge"
	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue/line"
)

const partFlag = "-part"

// Main runs a part when the program was started as one, and then never returns. Call it first in main.
func Main() {
	if len(os.Args) < 3 || os.Args[1] != partFlag {
		return
	}
	parts := map[string]func(args []string) error{"edge": edgePart, "fasthttp": fasthttpPart, "nethttp": nethttpPart, "capacity": capacityPart}
	run, ok := parts[os.Args[2]]
	if !ok {
		fmt.Fprintf(os.Stderr, "there is no part %q\n", os.Args[2])
		os.Exit(2)
	}
	if err := run(os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Paths of the edge part. All but Free lie behind a room. Top to Low are the classes of the overload table.
const (
	Free   = "/free"
	Inside = "/gala"
	Top    = "/pay"
	Low    = "/look"
)

// edgePart is an edge with everything on: guard, limits, a room with passes, access log, metrics.
func edgePart(args []string) error {
	f := flag.NewFlagSet("edge", flag.ContinueOnError)
	origin := f.String("origin", "", "host:port")
	least := f.Int("min", 16, "smallest concurrency")
	most := f.Int("max", 512, "largest concurrency")
	if err := f.Parse(args); err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("edge: make a key: %w", err)
	}
	keys, err := pass.NewKeys(pass.Key{Private: key})
	if err != nil {
		return fmt.Errorf("edge: make keys: %w", err)
	}
	now := time.Now()
	token, err := keys.Sign(pass.Claims{
		Issuer: "stanchion", Session: line.SessionID{7}.String(), Room: "gala", Line: line.ID{1}.String(), Home: "e",
		IssuedAt: now, NotBefore: now.Add(-time.Minute), ExpiresAt: now.Add(time.Hour), StayUntil: now.Add(time.Hour),
	})
	if err != nil {
		return fmt.Errorf("edge: sign a pass: %w", err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	ops, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	e, err := edge.New(edge.Options{
		Address: "127.0.0.1:0",
		Routes: []edge.Route{
			{Paths: []string{Top, Top + "/*"}, Upstream: "origin", Priority: 0},
			{Paths: []string{Low, Low + "/*"}, Upstream: "origin", Priority: 5},
			{Paths: []string{Free, Free + "/*"}, Upstream: "origin", Priority: edge.PriorityDefault},
			{Upstream: "origin", Room: "gala", Priority: edge.PriorityDefault},
		},
		Upstreams: map[string]edge.Upstream{"origin": {Targets: []string{"http://" + *origin}, MinConcurrent: *least, MaxConcurrent: *most}},
		Rooms:     map[string]edge.RoomOptions{"gala": {Room: &room{view: line.View{Room: "gala", Phase: line.PhaseWaiting, Status: line.Status{Poll: line.Poll{MinMs: 2000}}}}, Entry: Inside}},
		Passes:    keys.Verifier(),
		JWKS:      keys.JWKS,
		// The limits are on, and so wide that one client with one pass does not reach them.
		Limits: edge.Limits{
			NetworkPerSecond: 1e9, NetworkBurst: 1e9, SessionPerSecond: 1e9, SessionBurst: 1e9, JoinPerSecond: 1e9, JoinBurst: 1e9,
			ConnectionsPerNetwork: 20000,
		},
		AccessLog:  edge.AccessLog{Logger: slog.New(slog.NewJSONHandler(io.Discard, nil)), OneIn: 100},
		Logger:     log,
		Registerer: reg,
	})
	if err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("/profile", pprof.Profile)
	go func() {
		s := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
		_ = s.Serve(ops)
	}()
	fmt.Println(e.Addr(), ops.Addr(), token)
	return e.Run(context.Background())
}

// fasthttpPart is the least that can be called a proxy with fasthttp.
func fasthttpPart(args []string) error {
	origin, err := originFlag("fasthttp", args)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("fasthttp: %w", err)
	}
	hc := &fasthttp.HostClient{Addr: origin, MaxConns: 16384, MaxIdemponentCallAttempts: 1}
	s := &fasthttp.Server{Logger: silent{}, Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.Request.Header.Del("Connection")
		if err := hc.Do(&ctx.Request, &ctx.Response); err != nil {
			ctx.Error("Bad Gateway", fasthttp.StatusBadGateway)
			return
		}
		ctx.Response.Header.Del("Connection")
	}}
	fmt.Println(l.Addr())
	return s.Serve(l)
}

// nethttpPart is net/http's own ReverseProxy.
func nethttpPart(args []string) error {
	origin, err := originFlag("nethttp", args)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("nethttp: %w", err)
	}
	target := &url.URL{Scheme: "http", Host: origin}
	p := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded(); r.Out.Host = r.In.Host },
		Transport: &http.Transport{MaxIdleConnsPerHost: 16384, MaxIdleConns: 16384, DisableCompression: true},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	s := &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second, ErrorLog: p.ErrorLog}
	fmt.Println(l.Addr())
	return s.Serve(l)
}

func originFlag(name string, args []string) (string, error) {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	origin := f.String("origin", "", "host:port")
	if err := f.Parse(args); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return *origin, nil
}

type silent struct{}

func (silent) Printf(string, ...any) {}

// capacityPart is an origin that can do so much and no more: a number of workers, each busy for a fixed time per request, and in
// front of them a queue without end, as most origins have. It works on for clients that have left. PUT /-/workers?n=N changes
// the number of workers; GET /-/done says how many requests have been worked on.
func capacityPart(args []string) error {
	f := flag.NewFlagSet("capacity", flag.ContinueOnError)
	workers := f.Int("workers", 16, "requests at once")
	takes := f.Duration("takes", 20*time.Millisecond, "time per request")
	if err := f.Parse(args); err != nil {
		return fmt.Errorf("capacity: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("capacity: %w", err)
	}
	q := &work{workers: *workers, free: *workers}
	body := make([]byte, 512)
	s := &fasthttp.Server{Logger: silent{}, Concurrency: 19000, Handler: func(ctx *fasthttp.RequestCtx) {
		switch string(ctx.Path()) {
		case "/-/workers":
			n, err := strconv.Atoi(string(ctx.QueryArgs().Peek("n")))
			if err != nil || n < 1 {
				ctx.SetStatusCode(fasthttp.StatusBadRequest)
				return
			}
			q.resize(n)
			return
		case "/-/done":
			fmt.Fprint(ctx, q.count())
			return
		}
		q.begin()
		time.Sleep(*takes) // the work
		q.end()
		ctx.SetBody(body)
	}}
	fmt.Println(l.Addr())
	return s.Serve(l)
}

// work is a first-in-first-out queue for a number of workers that can change.
type work struct {
	mu      sync.Mutex
	workers int
	free    int // below 0: so many must go when they have finished
	line    []chan struct{}
	done    int
}

func (w *work) resize(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free += n - w.workers
	w.workers = n
	w.serve()
}

func (w *work) begin() {
	w.mu.Lock()
	if w.free > 0 && len(w.line) == 0 {
		w.free--
		w.mu.Unlock()
		return
	}
	c := make(chan struct{})
	w.line = append(w.line, c)
	w.mu.Unlock()
	<-c
}

func (w *work) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done++
	w.free++
	w.serve()
}

// serve hands free workers out. The caller holds mu.
func (w *work) serve() {
	for w.free > 0 && len(w.line) > 0 {
		w.free--
		close(w.line[0])
		w.line = w.line[1:]
	}
}

func (w *work) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}

// room is a waiting room in which nobody waits and whose one pass is good: the edge is compared, not the room.
type room struct{ view line.View }

var errNobody = errors.New("nobody is let into this room")

func (r *room) View() *line.View { return &r.view }
func (r *room) Join(context.Context, line.JoinRequest) (line.Place, error) {
	return line.Place{}, errNobody
}
func (r *room) Enter(context.Context, string) (line.Grant, error) { return line.Grant{}, errNobody }
func (r *room) Place(context.Context, string) (line.Place, error) { return line.Place{}, errNobody }
func (r *room) Claim(context.Context, line.ClaimRequest) (line.Grant, line.Place, error) {
	return line.Grant{}, line.Place{}, errNobody
}
func (r *room) Use(pass.Claims, time.Time) line.Use             { return line.Use{Alive: true} }
func (r *room) Leave(context.Context, line.SessionID) error     { return errNobody }
func (r *room) Abandon(string) error                            { return errNobody }
func (r *room) Record(context.Context, line.ID) ([]byte, error) { return nil, errNobody }
func (r *room) LedgerChunk(context.Context, line.ID, uint8, uint32) ([]byte, bool, error) {
	return nil, false, errNobody
}
