// Command peers compares an admitted request through the edge, all checks on, with the same request through a bare fasthttp
// proxy, net/http's ReverseProxy, HAProxy and nginx, and with the cost of a refusal: in one run, on the same core, in front of
// the same origin. It prints a table and, with -json, the numbers.
//
// Each server is a process of its own on the first core; the load generator (wrk) and the origin (nginx) share the second.
// Rounds alternate between the servers, and the median of each server's rounds counts. A server's speed is requests per second
// of its own processor time, which other work on the machine disturbs least; requests per second of wall time are printed too.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stanchion-queue/stanchion/perf/peers/stand"
)

//go:embed wrk.lua
var script []byte

func main() {
	stand.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

type options struct {
	rounds      int
	duration    time.Duration
	connections int
	serverCore  int
	otherCore   int
	json        string
	profile     string
	only        string
}

// Report is the result of a run.
type Report struct {
	Go          string             `json:"go"`
	CPUs        int                `json:"cpus"`
	LoadAverage string             `json:"load_average"`
	Rounds      int                `json:"rounds"`
	RoundS      float64            `json:"round_s"`
	Connections int                `json:"connections"`
	Peers       []Result           `json:"peers"`
	Ratios      map[string]float64 `json:"ratios"` // of speed per core; refusal: cost of proxying over cost of refusing
}

// Result is the median of one server's rounds.
type Result struct {
	Name            string    `json:"name"`
	PerCPUSecond    float64   `json:"requests_per_cpu_second"`
	CPUMicroseconds float64   `json:"cpu_us_per_request"`
	Kernel          float64   `json:"kernel_us_per_request"` // part of it spent in the kernel
	PerSecond       float64   `json:"requests_per_second"`
	CoreUsed        float64   `json:"core_used"` // share of its core
	P50us           float64   `json:"p50_us"`
	P99us           float64   `json:"p99_us"`
	Rounds          []float64 `json:"cpu_us_per_request_by_round"`
}

// contender is a server with the request it gets.
type contender struct {
	*stand.Server
	env     []string
	refuses bool
	rounds  []round
}

type round struct{ cpu, kernel, perSecond, used, p50, p99 float64 }

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	f := flag.NewFlagSet("peers", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 5, "rounds for each server, at least 3")
	f.DurationVar(&o.duration, "duration", 3*time.Second, "length of one round")
	f.IntVar(&o.connections, "connections", 64, "connections of the load generator")
	f.IntVar(&o.serverCore, "server-core", 0, "the core of the servers")
	f.IntVar(&o.otherCore, "other-core", 1, "the core of the load generator and the origin")
	f.StringVar(&o.json, "json", "", "file for the numbers")
	f.StringVar(&o.profile, "profile", "", "file for a processor profile of the edge's last round")
	f.StringVar(&o.only, "only", "", "only these, with commas: "+strings.Join(names, ", "))
	if err := f.Parse(args); err != nil {
		return fmt.Errorf("arguments: %w", err)
	}
	if o.rounds < 1 || o.duration < time.Second || o.connections < 1 {
		return errors.New("arguments: want at least one round of at least 1 s with at least one connection")
	}
	if o.serverCore == o.otherCore || runtime.NumCPU() < 2 {
		return errors.New("two cores are needed, one of them for the servers alone")
	}
	if err := stand.Tools("taskset", "wrk", "haproxy", "nginx"); err != nil {
		return err
	}
	rep, err := compare(ctx, o)
	if err != nil {
		return err
	}
	rep.print(out)
	if o.json == "" {
		return nil
	}
	raw, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return fmt.Errorf("write numbers: %w", err)
	}
	if err := os.WriteFile(o.json, append(raw, '\n'), 0o644); err != nil { //nolint:gosec // no secret
		return fmt.Errorf("write numbers: %w", err)
	}
	return nil
}

// The contenders. The edge's cost of a refusal is measured on the edge itself.
const (
	theEdge  = "edge"
	refusal  = "edge refusing"
	fasthttp = "fasthttp"
	nethttp  = "net/http"
	haproxy  = "HAProxy"
	nginx    = "nginx"
)

var names = []string{theEdge, refusal, fasthttp, nethttp, haproxy, nginx}

func compare(ctx context.Context, o options) (*Report, error) {
	dir, err := os.MkdirTemp("", "stanchion-wrk-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	lua := filepath.Join(dir, "wrk.lua")
	if err := os.WriteFile(lua, script, 0o600); err != nil {
		return nil, fmt.Errorf("write script: %w", err)
	}
	var st stand.Stand
	defer st.Close()
	all, err := start(ctx, &st, o)
	if err != nil {
		return nil, err
	}
	for i := range o.rounds + 1 { // the first only warms up
		for _, c := range all {
			d := o.duration
			if i == 0 {
				d = time.Second
			}
			done := make(chan error, 1)
			if c.Name == theEdge && i == o.rounds && o.profile != "" {
				go func() { done <- c.Profile(ctx, o.profile, o.duration) }()
			} else {
				done <- nil
			}
			r, err := c.round(ctx, o, lua, d)
			if err := errors.Join(err, <-done); err != nil {
				return nil, err
			}
			if i > 0 {
				c.rounds = append(c.rounds, r)
			}
		}
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil, fmt.Errorf("read load average: %w", err)
	}
	rep := &Report{
		Go: runtime.Version(), CPUs: runtime.NumCPU(), LoadAverage: strings.Join(strings.Fields(string(load))[:3], " "),
		Rounds: o.rounds, RoundS: o.duration.Seconds(), Connections: o.connections, Ratios: map[string]float64{},
	}
	speed := map[string]float64{}
	for _, c := range all {
		r := c.result()
		speed[r.Name] = r.PerCPUSecond
		rep.Peers = append(rep.Peers, r)
	}
	for _, peer := range []string{fasthttp, nethttp, haproxy, nginx} {
		if speed[peer] > 0 && speed[theEdge] > 0 {
			rep.Ratios["edge/"+peer] = speed[theEdge] / speed[peer]
		}
	}
	if speed[refusal] > 0 && speed[theEdge] > 0 {
		rep.Ratios["proxying/refusing"] = speed[refusal] / speed[theEdge]
	}
	return rep, nil
}

func start(ctx context.Context, st *stand.Stand, o options) ([]*contender, error) {
	origin, err := st.NginxOrigin(ctx, o.otherCore)
	if err != nil {
		return nil, err
	}
	e, err := st.Part(ctx, o.serverCore, theEdge, "edge", "-origin", origin.Addr, "-min", "256")
	if err != nil {
		return nil, err
	}
	cookie := "PEERS_COOKIE=; stanchion-pass-gala=" + e.Pass // everybody gets the same bytes
	refuser := *e
	refuser.Name = refusal
	all := []*contender{
		{Server: e, env: []string{cookie}},
		{Server: &refuser, env: []string{"PEERS_ACCEPT=application/json", "PEERS_MODE=cors"}, refuses: true},
	}
	for _, p := range []struct {
		name  string
		start func() (*stand.Server, error)
	}{
		{fasthttp, func() (*stand.Server, error) {
			return st.Part(ctx, o.serverCore, fasthttp, "fasthttp", "-origin", origin.Addr)
		}},
		{nethttp, func() (*stand.Server, error) {
			return st.Part(ctx, o.serverCore, nethttp, "nethttp", "-origin", origin.Addr)
		}},
		{haproxy, func() (*stand.Server, error) { return st.HAProxy(ctx, o.serverCore, haproxy, origin.Addr, "", "") }},
		{nginx, func() (*stand.Server, error) { return st.Nginx(ctx, o.serverCore, origin.Addr) }},
	} {
		v, err := p.start()
		if err != nil {
			return nil, err
		}
		all = append(all, &contender{Server: v, env: []string{cookie}})
	}
	if o.only != "" {
		only := strings.Split(o.only, ",")
		all = slices.DeleteFunc(all, func(c *contender) bool { return !slices.Contains(only, c.Name) })
		if len(all) == 0 {
			return nil, fmt.Errorf("-only %q: there is none of these: %s", o.only, strings.Join(names, ", "))
		}
	}
	return all, nil
}

// round drives the server for d.
func (c *contender) round(ctx context.Context, o options, lua string, d time.Duration) (round, error) {
	cmd := exec.CommandContext(ctx, "taskset", "-c", strconv.Itoa(o.otherCore), "wrk", "-t1", "-c"+strconv.Itoa(o.connections),
		"-d"+strconv.Itoa(int(d.Seconds()))+"s", "--latency", "-s", lua, "http://"+c.Addr)
	cmd.Env = append(os.Environ(), c.env...)
	userBefore, kernelBefore, err := c.CPU()
	if err != nil {
		return round{}, err
	}
	text, err := cmd.CombinedOutput()
	if err != nil {
		return round{}, fmt.Errorf("wrk on %s: %w\n%s", c.Name, err, text)
	}
	user, kernel, err := c.CPU()
	if err != nil {
		return round{}, err
	}
	_, line, ok := strings.Cut(string(text), "RESULT ")
	var r struct {
		Requests   float64 `json:"requests"`
		DurationUs float64 `json:"duration_us"`
		P50        float64 `json:"p50_us"`
		P99        float64 `json:"p99_us"`
		Refused    float64 `json:"refused"`
		Broken     float64 `json:"broken"`
	}
	if err := json.Unmarshal([]byte(strings.TrimSpace(line)), &r); err != nil || !ok {
		return round{}, fmt.Errorf("read what wrk says: %w\n%s", err, text)
	}
	wantRefused := 0.0
	if c.refuses {
		wantRefused = r.Requests
	}
	if r.Requests < 1000 || r.Broken > 0 || r.Refused != wantRefused {
		return round{}, fmt.Errorf("%s: of %.0f requests %.0f were refused and %.0f broke off", c.Name, r.Requests, r.Refused, r.Broken)
	}
	inKernel := float64((kernel - kernelBefore).Microseconds())
	cpu := float64((user - userBefore).Microseconds()) + inKernel
	return round{cpu / r.Requests, inKernel / r.Requests, r.Requests / r.DurationUs * 1e6, cpu / r.DurationUs, r.P50, r.P99}, nil
}

func (c *contender) result() Result {
	r := Result{Name: c.Name}
	pick := func(of func(round) float64) float64 {
		var v []float64
		for _, x := range c.rounds {
			v = append(v, of(x))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	r.CPUMicroseconds = pick(func(x round) float64 { return x.cpu })
	r.PerCPUSecond = 1e6 / r.CPUMicroseconds
	r.Kernel = pick(func(x round) float64 { return x.kernel })
	r.PerSecond = pick(func(x round) float64 { return x.perSecond })
	r.CoreUsed = pick(func(x round) float64 { return x.used })
	r.P50us = pick(func(x round) float64 { return x.p50 })
	r.P99us = pick(func(x round) float64 { return x.p99 })
	for _, x := range c.rounds {
		r.Rounds = append(r.Rounds, x.cpu)
	}
	return r
}

func (r *Report) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %d cores, load average %s; medians of %d rounds of %.0f s, %d connections, keep-alive both sides, 512-byte answers\n\n",
		r.Go, r.CPUs, r.LoadAverage, r.Rounds, r.RoundS, r.Connections)
	fmt.Fprintf(w, "%-16s %12s %12s %12s %12s %10s %9s %9s\n", "", "req/core-s", "µs/request", "in kernel", "req/s", "core used", "p50 ms", "p99 ms")
	for _, p := range r.Peers {
		fmt.Fprintf(w, "%-16s %12.0f %12.1f %12.1f %12.0f %9.0f%% %9.2f %9.2f\n", p.Name, p.PerCPUSecond, p.CPUMicroseconds, p.Kernel, p.PerSecond, 100*p.CoreUsed, p.P50us/1000, p.P99us/1000)
	}
	fmt.Fprintln(w)
	for _, t := range []struct {
		ratio string
		aim   float64
	}{{"edge/" + fasthttp, 0.85}, {"edge/" + nethttp, 2}, {"edge/" + haproxy, 0.7}, {"edge/" + nginx, 0}, {"proxying/refusing", 3}} {
		v, ok := r.Ratios[t.ratio]
		switch {
		case !ok:
		case t.aim == 0:
			fmt.Fprintf(w, "%-20s %5.2f\n", t.ratio, v)
		case v >= t.aim:
			fmt.Fprintf(w, "%-20s %5.2f  (aim %.2f: met)\n", t.ratio, v, t.aim)
		default:
			fmt.Fprintf(w, "%-20s %5.2f  (aim %.2f: missed)\n", t.ratio, v, t.aim)
		}
	}
}
