// Command overload shows what becomes of an origin of known capacity when it is asked for more than it can do: behind the edge,
// and behind a bare fasthttp proxy, nginx and HAProxy (as it comes, and with limits set by hand for this very origin), at one, two,
// five and ten times its capacity; what the top class gets while a lower one asks for twelve times as much; and how the
// edge's limit follows when the capacity halves and comes back. It prints tables and, with -json, the numbers.
//
// The servers under comparison run on the first core, the load generator and the origin on the second, each a process of
// its own. Good is an answer 200 within one second of its planned time; the origin goes on working for clients that have left.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stanchion-queue/stanchion/perf/peers/stand"
)

func main() {
	stand.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "overload:", err)
		os.Exit(1)
	}
}

type options struct {
	workers    int
	takes      time.Duration
	duration   time.Duration
	settle     time.Duration
	serverCore int
	otherCore  int
	peers      bool
	json       string
}

// Report is the result of a run.
type Report struct {
	Go          string             `json:"go"`
	LoadAverage string             `json:"load_average"`
	Capacity    float64            `json:"capacity_per_second"` // measured
	AtRest      summary            `json:"at_rest"`             // the edge at 0.3 times the capacity
	Goodput     []row              `json:"goodput"`
	Spike       map[string]phase   `json:"spike"`
	Halving     halving            `json:"halving"`
	Peak        map[string]float64 `json:"peak_per_second"` // highest goodput of each server
}

type row struct {
	Server string  `json:"server"`
	Times  float64 `json:"times_capacity"`
	summary
	OfPeak float64 `json:"of_peak"`
}

// phase is both classes before and in the spike.
type phase struct {
	Top summary `json:"top"`
	Low summary `json:"low"`
}

type halving struct {
	Before     float64 `json:"limit_before"`
	HalvedMs   float64 `json:"limit_halved_after_ms"` // -1: never
	Lowest     float64 `json:"limit_lowest"`
	RecoverMs  float64 `json:"limit_recovered_after_ms"` // -1: never
	GoodHalved float64 `json:"good_per_second_while_halved"`
	P99Halved  float64 `json:"p99_ms_while_halved"`
	LagMs      float64 `json:"generator_lag_p99_ms"`
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	f := flag.NewFlagSet("overload", flag.ContinueOnError)
	f.IntVar(&o.workers, "workers", 16, "requests that the origin works on at once")
	f.DurationVar(&o.takes, "takes", 20*time.Millisecond, "time that the origin works on a request")
	f.DurationVar(&o.duration, "duration", 6*time.Second, "length of a measurement")
	f.DurationVar(&o.settle, "settle", 3*time.Second, "time before a measurement begins to count")
	f.IntVar(&o.serverCore, "server-core", 0, "the core of the servers")
	f.IntVar(&o.otherCore, "other-core", 1, "the core of the load generator and the origin")
	f.BoolVar(&o.peers, "peers", true, "measure the peers too")
	f.StringVar(&o.json, "json", "", "file for the numbers")
	if err := f.Parse(args); err != nil {
		return fmt.Errorf("arguments: %w", err)
	}
	if o.workers < 2 || o.takes < time.Millisecond || o.duration < time.Second || o.serverCore == o.otherCore || runtime.NumCPU() < 2 {
		return errors.New("arguments: want two workers, 1 ms of work and 1 s of measurement at least, and two cores")
	}
	tools := []string{"taskset"}
	if o.peers {
		tools = append(tools, "haproxy", "nginx")
	}
	if err := stand.Tools(tools...); err != nil {
		return err
	}
	if err := stand.PinSelf(o.otherCore); err != nil {
		return err
	}
	rep, err := measure(ctx, o)
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

func measure(ctx context.Context, o options) (*Report, error) {
	rep := &Report{Go: runtime.Version(), Spike: map[string]phase{}, Peak: map[string]float64{}}
	var err error
	if rep.Capacity, err = capacity(ctx, o); err != nil {
		return nil, err
	}
	names := []string{"edge"}
	if o.peers {
		names = append(names, "fasthttp", "nginx", "HAProxy", "HAProxy, tuned")
	}
	for _, name := range names {
		if err := goodput(ctx, o, name, rep); err != nil {
			return nil, err
		}
	}
	for range tries {
		if err := with(ctx, o, "edge", func(_, e *stand.Server) error { return spike(ctx, o, e, rep) }); err != nil {
			return nil, err
		}
		if rep.Spike["spike"].Top.LagMs < mostLagMs {
			break
		}
	}
	for range tries {
		if err := with(ctx, o, "edge", func(origin, e *stand.Server) error { return halve(ctx, o, origin, e, rep) }); err != nil {
			return nil, err
		}
		if rep.Halving.LagMs < mostLagMs {
			break
		}
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil, fmt.Errorf("read load average: %w", err)
	}
	rep.LoadAverage = strings.Join(strings.Fields(string(load))[:3], " ")
	return rep, ctx.Err()
}

// with starts an origin and one server in front of it.
func with(ctx context.Context, o options, name string, do func(origin, server *stand.Server) error) error {
	var st stand.Stand
	defer st.Close()
	origin, err := st.Part(ctx, o.otherCore, "origin", "capacity", "-workers", strconv.Itoa(o.workers), "-takes", o.takes.String())
	if err != nil {
		return err
	}
	var v *stand.Server
	switch name {
	case "origin":
		v = origin
	case "edge":
		v, err = st.Part(ctx, o.serverCore, name, "edge", "-origin", origin.Addr, "-min", "4", "-max", "512")
	case "nginx":
		v, err = st.Nginx(ctx, o.serverCore, origin.Addr)
	case "HAProxy":
		v, err = st.HAProxy(ctx, o.serverCore, name, origin.Addr, "", "")
	case "HAProxy, tuned": // by somebody who knows the origin: as many as it has workers, a short queue, no work for those who left
		v, err = st.HAProxy(ctx, o.serverCore, name, origin.Addr, "maxconn "+strconv.Itoa(o.workers), "timeout queue 50ms\n    option abortonclose")
	default:
		v, err = st.Part(ctx, o.serverCore, name, name, "-origin", origin.Addr)
	}
	if err != nil {
		return err
	}
	return do(origin, v)
}

// capacity is what the origin does when it always has enough to do, and never more than twice that waiting.
func capacity(ctx context.Context, o options) (perSecond float64, err error) {
	err = with(ctx, o, "origin", func(origin, _ *stand.Server) error {
		c := newCrowd(origin.Addr)
		defer c.close()
		start := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		n, end := 0, start.Add(3*time.Second)
		for range 2 * o.workers {
			wg.Go(func() {
				for time.Now().Before(end) && ctx.Err() == nil {
					if c.ask(time.Now(), 0, "/").status == http.StatusOK {
						mu.Lock()
						n++
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		perSecond = float64(n) / time.Since(start).Seconds()
		if perSecond < 10 {
			return errors.New("measure the origin's capacity: it hardly answers")
		}
		return nil
	})
	return perSecond, err
}

var times = []float64{1, 2, 5, 10}

// A generator that cannot keep to its plan measures itself. Such a measurement is made anew; of all tries the one with the
// smallest lag counts, and the table says how large it was.
const (
	mostLagMs = 10
	tries     = 3
)

func goodput(ctx context.Context, o options, name string, rep *Report) error {
	if name == "edge" {
		if err := with(ctx, o, name, func(_, v *stand.Server) error {
			c := newCrowd(v.Addr)
			defer c.close()
			a := c.drive(ctx, o.settle+o.duration, stream{stand.Free, 0.3 * rep.Capacity})
			rep.AtRest = summarise(a[0], o.settle, o.settle+o.duration)
			return nil
		}); err != nil {
			return err
		}
	}
	first := len(rep.Goodput)
	for _, x := range times {
		var s summary
		for try := range tries {
			// A fresh origin for each: what the last load has left in its queue is not this one's fault.
			if err := with(ctx, o, name, func(_, v *stand.Server) error {
				c := newCrowd(v.Addr)
				defer c.close()
				a := c.drive(ctx, o.settle+o.duration, stream{stand.Free, x * rep.Capacity})
				next := summarise(a[0], o.settle, o.settle+o.duration)
				if try == 0 || next.LagMs < s.LagMs {
					s = next
				}
				return nil
			}); err != nil {
				return err
			}
			if s.LagMs < mostLagMs {
				break
			}
		}
		rep.Goodput = append(rep.Goodput, row{Server: name, Times: x, summary: s})
		rep.Peak[name] = max(rep.Peak[name], s.Good)
	}
	for i := first; i < len(rep.Goodput); i++ {
		rep.Goodput[i].OfPeak = rep.Goodput[i].Good / max(rep.Peak[name], 1)
	}
	return nil
}

// spike asks for a third of the capacity in the top class all the time, and in the lowest class for a third, then twelve
// times that.
func spike(ctx context.Context, o options, e *stand.Server, rep *Report) error {
	c := newCrowd(e.Addr)
	defer c.close()
	third := rep.Capacity / 3
	var before, during [][]answer
	for _, p := range []struct {
		into *[][]answer
		low  float64
	}{{&before, third}, {&during, 12 * third}} {
		*p.into = c.drive(ctx, o.duration, stream{stand.Top, third}, stream{stand.Low, p.low})
	}
	rep.Spike["before"] = phase{summarise(before[0], o.duration/3, o.duration), summarise(before[1], o.duration/3, o.duration)}
	rep.Spike["spike"] = phase{summarise(during[0], 0, o.duration), summarise(during[1], 0, o.duration)}
	return ctx.Err()
}

// halve takes half of the origin's workers away under load at 1.5 times the capacity, and gives them back.
func halve(ctx context.Context, o options, origin, e *stand.Server, rep *Report) error {
	const lead, half, back = 6 * time.Second, 6 * time.Second, 8 * time.Second
	c := newCrowd(e.Addr)
	defer c.close()
	start := time.Now()
	type sample struct {
		at    time.Duration
		limit float64
	}
	var samples []sample
	var at [2]time.Duration
	watch, stop := context.WithCancel(ctx)
	watched := make(chan error, 1)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		step := 0
		for {
			select {
			case <-watch.Done():
				watched <- nil
				return
			case <-tick.C:
			}
			now := time.Since(start)
			for i, when := range []time.Duration{lead, lead + half} {
				if step == i && now >= when {
					n := o.workers
					if i == 0 {
						n /= 2
					}
					if _, err := fetch(watch, "http://"+origin.Addr+"/-/workers?n="+strconv.Itoa(n)); err != nil {
						watched <- err
						return
					}
					at[i], step = time.Since(start), i+1
				}
			}
			limit, err := gauge(watch, e, "stanchion_edge_origin_concurrency_limit")
			if err != nil && watch.Err() == nil {
				watched <- err
				return
			}
			samples = append(samples, sample{time.Since(start), limit})
		}
	}()
	a := c.drive(ctx, lead+half+back, stream{stand.Free, 1.5 * rep.Capacity})
	stop()
	if err := <-watched; err != nil {
		return err
	}
	h := &rep.Halving
	*h = halving{HalvedMs: -1, RecoverMs: -1}
	n := 0.0
	for _, s := range samples {
		if s.at > at[0]-2*time.Second && s.at < at[0] {
			h.Before += s.limit
			n++
		}
	}
	h.Before /= max(n, 1)
	h.Lowest = h.Before
	for _, s := range samples {
		switch {
		case s.at < at[0]:
		case s.at < at[1]:
			h.Lowest = min(h.Lowest, s.limit)
			if h.HalvedMs < 0 && s.limit <= h.Before*0.55 {
				h.HalvedMs = float64((s.at - at[0]).Milliseconds())
			}
		case h.RecoverMs < 0 && s.limit >= h.Before*0.9:
			h.RecoverMs = float64((s.at - at[1]).Milliseconds())
		}
	}
	halved := summarise(a[0], at[0]+time.Second, at[1])
	h.GoodHalved, h.P99Halved, h.LagMs = halved.Good, halved.P99ms, halved.LagMs
	return nil
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", url, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("ask %s: status %d", url, resp.StatusCode), err)
	}
	return b, nil
}

// gauge reads one metric of the edge.
func gauge(ctx context.Context, e *stand.Server, name string) (float64, error) {
	text, err := fetch(ctx, "http://"+e.Ops+"/metrics")
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(strings.NewReader(string(text)))
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), name) {
			f := strings.Fields(lines.Text())
			v, err := strconv.ParseFloat(f[len(f)-1], 64)
			if err != nil {
				return 0, fmt.Errorf("read metric %s: %w", name, err)
			}
			return v, nil
		}
	}
	return 0, fmt.Errorf("the edge has no metric %s", name)
}

func (r *Report) print(w io.Writer) {
	fmt.Fprintf(w, "%s, load average %s; the origin does %.0f requests/s; at 0.3 of that p50 %.1f ms, p99 %.1f ms\n\n", r.Go, r.LoadAverage, r.Capacity, r.AtRest.P50ms, r.AtRest.P99ms)
	fmt.Fprintf(w, "%-16s %6s %10s %10s %9s %9s %9s %9s %8s %9s\n", "", "load", "offered/s", "good/s", "of peak", "p50 ms", "p99 ms", "refused", "lost", "gen lag")
	for _, g := range r.Goodput {
		fmt.Fprintf(w, "%-16s %5gx %10.0f %10.0f %8.1f%% %9.1f %9.1f %8.1f%% %7.1f%% %7.1fms%s\n", g.Server, g.Times, g.Offered, g.Good, 100*g.OfPeak, g.P50ms, g.P99ms, 100*g.Refused, 100*g.Lost, g.LagMs, late(g.LagMs))
	}
	fmt.Fprintln(w)
	aims := map[float64]float64{2: 0.95, 5: 0.93, 10: 0.9}
	for _, g := range r.Goodput {
		if aim := aims[g.Times]; g.Server == "edge" && aim > 0 {
			fmt.Fprintf(w, "edge at %gx: %.1f%% of its peak (aim %.0f%%: %s), p99 %.2f times that at rest (aim 2: %s)\n", g.Times, 100*g.OfPeak, 100*aim, met(g.OfPeak >= aim), g.P99ms/r.AtRest.P99ms, met(g.P99ms <= 2*r.AtRest.P99ms))
		}
	}
	s := r.Spike["spike"]
	fmt.Fprintf(w, "top class while the lowest asks for 12 times as much: %.2f%% of %.0f/s served (aim 99.4%%: %s), p99 %.1f ms (before: %.1f); lowest class: %.0f of %.0f/s%s\n",
		100*s.Top.Share, s.Top.Offered, met(s.Top.Share >= 0.994), s.Top.P99ms, r.Spike["before"].Top.P99ms, s.Low.Good, s.Low.Offered, late(s.Top.LagMs))
	h := r.Halving
	fmt.Fprintf(w, "capacity halves: limit %.1f halved after %.0f ms (aim 500: %s), lowest %.1f; capacity is back: limit recovers after %.0f ms (aim 5000: %s); meanwhile %.0f/s good, p99 %.1f ms%s\n",
		h.Before, h.HalvedMs, met(h.HalvedMs >= 0 && h.HalvedMs < 500), h.Lowest, h.RecoverMs, met(h.RecoverMs >= 0 && h.RecoverMs < 5000), h.GoodHalved, h.P99Halved, late(h.LagMs))
}

// late marks what was measured by a generator that could not keep to its plan: the machine had other things to do.
func late(lagMs float64) string {
	if lagMs < mostLagMs {
		return ""
	}
	return "  (generator late: not valid)"
}

func met(ok bool) string {
	if ok {
		return "met"
	}
	return "missed"
}
