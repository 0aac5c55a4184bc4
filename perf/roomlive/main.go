// Command roomlive is the live counterpart of `stanchion simulate`: real edge and queue processes on a real Redis, thousands of simulated
// fans over HTTP in a process of their own, and faults. It prints the simulator's fields, as a table and as one JSON object.
//
// The verdict rests on a recorded history alone: what the store held, read by a script of its own every 50 ms, and every pass, place and
// refusal that fans were given. It ends with 1 when there ever were more sessions than places, a fan ranked before one of an
// earlier window, or another promise of the protocol was broken.
//
// It needs redis-server on the path and the address of a Consul in STANCHION_TEST_CONSUL.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stanchion-queue/stanchion/perf/roomlive/rig"
	"github.com/stanchion-queue/stanchion/queue/line"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) == 2 && os.Args[1] == crowdArg {
		err = playCrowd(ctx, os.Stdin, os.Stdout)
	} else {
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "room-live:", err)
		os.Exit(1)
	}
}

// errBroken is returned when a promise was broken.
var errBroken = errors.New("the protocol's promises were broken")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("roomlive", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: roomlive [flags] [%s]\n", strings.Join(scenarioNames(), "|"))
		flags.PrintDefaults()
	}
	var (
		fans   = flags.Int("fans", 0, "fans; 0: the scenario's")
		limit  = flags.Int("cap", 0, "places inside; 0: the scenario's")
		edges  = flags.Int("edges", 3, "edge processes")
		length = flags.Float64("seconds", 0, "length of the run, from the first fan on; 0: the scenario's")
		dwell  = flags.Float64("dwell", 0, "mean time inside, s; 0: the scenario's")
		hidden = flags.Float64("hidden", -1, "share of tabs in the background, which ask once a minute; negative: the scenario's")
		faults = flags.String("faults", "", `what breaks when: "edge-kill@60+5,..." (s), of edge-kill, edge-pause, controller-kill, store-kill, store-pause; "none"; empty: the scenario's`)
		outage = flags.String("outage", "", "strict or early; empty: the scenario's")
		rate   = flags.Float64("rate", 10_000, "fans let in a second, at most")
		seed   = flags.Uint64("seed", 1, "seed of the crowd")
		consul = flags.String("consul", os.Getenv("STANCHION_TEST_CONSUL"), "Consul for the settings, http://host:port")
		binary = flags.String("binary", "", "the program; empty: built from this module")
		keep   = flags.Bool("keep", false, "keep the folder with logs and facts")
		aof    = flags.String("appendfsync", "always", "of Redis; anything but always may lose grants when it is killed")
	)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	sc, err := scenarioOf(flags.Arg(0))
	if err != nil {
		return err
	}
	override(&sc.fans, *fans)
	override(&sc.cap, *limit)
	override(&sc.seconds, *length)
	override(&sc.dwell, *dwell)
	override(&sc.outage, *outage)
	override(&sc.faults, *faults)
	if *hidden >= 0 {
		sc.hidden = *hidden
	}
	plan, err := parseFaults(sc.faults)
	if err != nil {
		return err
	}
	if err := sc.check(*edges, plan); err != nil {
		return err
	}
	if *consul == "" {
		return errors.New("no Consul: start the engines (make services) and set STANCHION_TEST_CONSUL, or give -consul")
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	sim, err := sc.simulated(ctx, *edges, plan, *rate, *seed)
	if err != nil {
		return err
	}

	origin, err := serveOrigin()
	if err != nil {
		return err
	}
	defer origin.Close()
	before := loadAverage()
	log.Info("starting", "scenario", sc.name, "fans", sc.fans, "cap", sc.cap, "edges", *edges, "seconds", sc.seconds)
	r, err := rig.New(ctx, rig.Options{Binary: *binary, Consul: *consul, Edges: *edges, Queues: 2, Origin: origin.url, AOFSync: *aof, Room: map[string]any{
		"mode": "queue-all", "cap": sc.cap, "rate_per_second": *rate, "first_lease_s": sc.idle / 3, "idle_s": sc.idle, "outage_bound_s": sc.bound, "outage_mode": sc.outage,
		"grace_s": 30, "origin": map[string]any{"p99_ms": 60_000, "error_ratio": 1}, // the origin is not what is measured
	}})
	if err != nil {
		return err
	}
	defer r.Stop()
	h, end, err := live(ctx, r, sc, plan, *seed, log)
	if err != nil {
		return fmt.Errorf("%w (logs in %s)", err, r.Dir)
	}
	h.Cap, h.Early = int64(sc.cap), sc.outage == "early"
	if err := h.save(filepath.Join(r.Dir, "samples.jsonl")); err != nil {
		return err
	}
	res := audit(h, sc.dwell, *rate)
	res.Scenario, res.Title, res.Seed = sc.name, sc.title, *seed
	res.Outcomes, res.Requests, res.LoadAverage = end.Outcomes, end.Requests, [2]float64{before, loadAverage()}
	res.Simulated, res.Faults = sim, []string{}
	for _, p := range plan {
		res.Faults = append(res.Faults, p.String())
	}
	res.Setting = map[string]any{"fans": sc.fans, "cap": sc.cap, "edges": *edges, "seconds": sc.seconds, "dwell_s": sc.dwell, "idle_s": sc.idle, "outage_bound_s": sc.bound,
		"outage_mode": sc.outage, "hidden_share": sc.hidden, "absence": sc.absence}
	if unknown := origin.strangers(h.Facts); unknown > 0 {
		res.Violations += unknown
		res.ViolationKinds = append(res.ViolationKinds, fmt.Sprintf("2 the origin saw %d sessions that no fan was given", unknown))
	}
	if _, err := io.WriteString(stderr, end.Table+"\n"); err != nil {
		return err
	}
	if err := writeTable(stderr, res); err != nil {
		return err
	}
	doc, err := json.Marshal(res)
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	if _, err := fmt.Fprintf(stdout, "%s\n", doc); err != nil {
		return err
	}
	if res.Admitted == 0 {
		return fmt.Errorf("nobody was let in (logs in %s)", r.Dir)
	}
	if res.Overshoot > 0 || res.Inversions > 0 || res.Violations > 0 {
		return fmt.Errorf("%w: %s (logs, facts and samples in %s)", errBroken, strings.Join(res.ViolationKinds, "; "), r.Dir)
	}
	if *keep {
		log.Info("kept", "dir", r.Dir)
		return nil
	}
	r.Stop()
	return r.Remove()
}

func override[T comparable](v *T, with T) {
	var zero T
	if with != zero {
		*v = with
	}
}

// live lets the crowd come, breaks what is to be broken, and returns what was recorded.
func live(ctx context.Context, r *rig.Rig, sc scenario, plan []planned, seed uint64, log *slog.Logger) (*history, crowdEnd, error) {
	look, err := newLooker(r, seed)
	if err != nil {
		return nil, crowdEnd{}, err
	}
	defer look.redis.Close()
	looking, stopLooking := context.WithCancel(ctx)
	defer stopLooking()
	var wg sync.WaitGroup
	wg.Go(func() { look.run(looking) })
	defer wg.Wait()
	defer stopLooking()

	epoch, err := awaitLine(ctx, r, look)
	if err != nil {
		return nil, crowdEnd{}, err
	}
	errlog, err := os.Create(filepath.Join(r.Dir, "crowd.log"))
	if err != nil {
		return nil, crowdEnd{}, fmt.Errorf("make the crowd's log: %w", err)
	}
	defer errlog.Close()
	facts := filepath.Join(r.Dir, "facts.jsonl")
	crowd, err := startCrowd(crowdPlan{
		Targets: r.Targets(), Room: rig.RoomName, Fans: sc.fans, Seed: seed, SpikeS: sc.spikeS, Spike: sc.spike, PerSecond: float64(sc.fans) * (1 - sc.spike) / sc.spread(),
		Absence: sc.absence, NoScript: sc.noScript, Hidden: sc.hidden, Silent: sc.silent, Ghosts: sc.ghosts, DwellS: sc.dwell, BrowseS: float64(sc.idle) / 4, LeaveS: sc.leave, Facts: facts,
	}, errlog)
	if err != nil {
		return nil, crowdEnd{}, err
	}
	start := time.Now()
	ending, stopFaults := context.WithDeadline(ctx, start.Add(seconds(sc.seconds)))
	defer stopFaults()
	b := breaker{rig: r, log: log}
	done, err := b.run(ending, start, plan)
	if err != nil {
		crowd.kill()
		return nil, crowdEnd{}, err
	}
	progress(ending, start, look, log)
	end, err := crowd.stop()
	if err != nil {
		return nil, end, err
	}
	if ctx.Err() != nil {
		return nil, end, ctx.Err()
	}
	stopLooking()
	wg.Wait()
	h := &history{EpochMs: epoch, Faults: done, Samples: look.samples, Guesses: look.guesses, Told: look.told}
	if h.Facts, err = readFacts(facts); err != nil {
		return nil, end, err
	}
	return h, end, nil
}

// progress waits for the end of the run and says from time to time how it stands.
func progress(ctx context.Context, start time.Time, look *looker, log *slog.Logger) {
	t := time.NewTicker(30 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s := look.last()
			log.Info("running", "after_s", int(time.Since(start).Seconds()), "inside", s.Active, "granted", s.Granted, "called", s.Called, "stamped", s.Total, "load", loadAverage())
		}
	}
}

// awaitLine waits until the room has a line and an edge knows it, and returns the line's epoch.
func awaitLine(ctx context.Context, r *rig.Rig, look *looker) (epochMs int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		var st line.Status
		if err = r.Status(ctx, 0, &st); err == nil && !st.Line.IsZero() && look.last().Line == st.Line.String() {
			var published line.Published
			if err = r.Record(ctx, st.Line.String(), &published); err == nil {
				record, err := line.VerifyRecord(published.Record)
				if err != nil {
					return 0, err
				}
				return record.EpochMs, nil
			}
		}
		if !sleepUntil(ctx, time.Now().Add(100*time.Millisecond)) {
			return 0, fmt.Errorf("the room has no line: %w", errors.Join(err, ctx.Err()))
		}
	}
}

// origin is what the edges protect. It notes which sessions were let through to it.
type origin struct {
	*http.Server
	url  string
	mu   sync.Mutex
	seen map[string]int
}

func serveOrigin() (*origin, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the origin: %w", err)
	}
	o := &origin{url: "http://" + l.Addr().String(), seen: map[string]int{}}
	o.Server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s := r.Header.Get("Stanchion-Session"); s != "" {
			o.mu.Lock()
			o.seen[s]++
			o.mu.Unlock()
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!doctype html><title>Inside</title><p>You are inside.") // the edge may be gone
	})}
	go func() { _ = o.Serve(l) }() // until Close
	return o, nil
}

// strangers counts sessions that the origin saw and no fan was ever given.
func (o *origin) strangers(facts []fact) (n int) {
	given := map[string]bool{}
	for _, f := range facts {
		if p, err := readPass(f.Text); err == nil {
			given[p.Session] = true
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for s := range o.seen {
		if !given[s] {
			n++
		}
	}
	return n
}
