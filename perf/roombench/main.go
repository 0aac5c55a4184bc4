// Command roombench compares the waiting room with the closest open-source one in Go, pyama86/waitingroom, in one run on the same cores, and
// measures what a room costs its Redis: commands per join and poll, commands a second with 1,000 and with 10,000 waiting, memory, and
// claims per second of Redis' processor time.
//
// The peer is brought by whoever runs this: -peer (or ROOM_BENCH_PEER) names its binary. Without it only our own numbers are printed.
//
// Rounds alternate between the two servers and the median counts. Requests per second of processor time (of the server, its helpers and
// its Redis together) are what other work on the machine disturbs least; requests per second of wall time are printed beside
// them.
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
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "room-bench:", err)
		os.Exit(1)
	}
}

type options struct {
	peer, consul, binary string
	rounds, connections  int
	phase                time.Duration
	few, many            int
	poll                 time.Duration
}

// report is what a run prints.
type report struct {
	Go          string     `json:"go"`
	CPUs        int        `json:"cpus"`
	LoadAverage [2]string  `json:"load_average"` // before and after
	Peer        string     `json:"peer"`         // its binary; empty: not given
	Rounds      int        `json:"rounds"`
	Connections int        `json:"connections"`
	Ours        *roomCosts `json:"ours"`
	Theirs      *roomCosts `json:"theirs,omitempty"`
	Ratios      *ratios    `json:"ratios,omitempty"`
	Store       storeCosts `json:"store"`
}

// roomCosts is one waiting room under load.
type roomCosts struct {
	Join     cost    `json:"join"`   // from nothing to a place in line
	Number   *cost   `json:"number"` // the peer's second request alone, which takes the number
	Status   cost    `json:"status"` // where am I, how far is the line
	Shared   *cost   `json:"shared"` // our public status object, the same for every fan
	IdlePerS float64 `json:"idle_commands_per_second"`
	Few      waiting `json:"few_waiting"`
	Many     waiting `json:"many_waiting"`
	// BytesPerWaiting is what one more waiting fan adds to what Redis stores: the growth while many join, less that while few join in
	// the same time, per fan.
	BytesPerWaiting float64 `json:"bytes_per_waiting"`
}

// cost is what one kind of request costs. A value is the median of the rounds.
type cost struct {
	PerSecond    float64 `json:"per_second"`
	PerCPUSecond float64 `json:"per_cpu_second"`
	Steps        float64 `json:"redis_steps"`    // commands and scripts that the server sent, per request, without what it sends when idle
	Commands     float64 `json:"redis_commands"` // the same with the commands inside scripts
	Requests     int     `json:"requests"`
}

// waiting is a room in which fans wait and each asks once per poll interval.
type waiting struct {
	Fans         int     `json:"fans"`
	StepsPerS    float64 `json:"redis_steps_per_second"`
	CommandsPerS float64 `json:"redis_commands_per_second"`
	PollsPerS    float64 `json:"polls_per_second"`
	StoredBytes  int64   `json:"stored_bytes"`
}

// ratios are ours to theirs.
type ratios struct {
	Join       ratio `json:"join"`        // whole joins
	JoinNumber ratio `json:"join_number"` // our whole join to the peer's second request alone
	Status     ratio `json:"status"`      // place to their only endpoint
	Shared     ratio `json:"shared"`      // status object to the same
}

type ratio struct {
	PerSecond    float64 `json:"per_second"`
	PerCPUSecond float64 `json:"per_cpu_second"`
}

func (c cost) to(d cost) ratio {
	return ratio{c.PerSecond / d.PerSecond, c.PerCPUSecond / d.PerCPUSecond}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	flags := flag.NewFlagSet("roombench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.peer, "peer", os.Getenv("ROOM_BENCH_PEER"), "binary of pyama86/waitingroom; empty: only our own numbers")
	flags.StringVar(&o.consul, "consul", os.Getenv("STANCHION_TEST_CONSUL"), "Consul for the settings, http://host:port")
	flags.StringVar(&o.binary, "binary", "", "our program; empty: built from this module")
	flags.IntVar(&o.rounds, "rounds", 3, "rounds, 1 to 20")
	flags.IntVar(&o.connections, "connections", 32, "connections of the load generator, 1 to 1000")
	flags.DurationVar(&o.phase, "phase", 4*time.Second, "length of a measurement")
	flags.IntVar(&o.few, "few", 1000, "waiting fans of the first comparison")
	flags.IntVar(&o.many, "many", 10_000, "waiting fans of the second")
	flags.DurationVar(&o.poll, "poll", 10*time.Second, "each waiting fan asks once in so long")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if o.peer == "" {
		log.Warn("the peer is not given (-peer or ROOM_BENCH_PEER): only our own numbers follow, without ratios")
	}
	dir, err := os.MkdirTemp("", "stanchion-room-bench-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	r := report{Go: runtime.Version(), CPUs: runtime.NumCPU(), Peer: o.peer, Rounds: o.rounds, Connections: o.connections}
	r.LoadAverage[0] = loadAverage()
	if err := measure(ctx, o, dir, &r, log); err != nil {
		return fmt.Errorf("%w (logs in %s)", err, dir)
	}
	r.LoadAverage[1] = loadAverage()
	if err := writeTable(stderr, &r); err != nil {
		return err
	}
	doc, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if _, err := fmt.Fprintf(stdout, "%s\n", doc); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

func (o options) check() error {
	switch {
	case o.consul == "":
		return errors.New("no Consul: start the engines (make services) and set STANCHION_TEST_CONSUL, or give -consul")
	case o.rounds < 1 || o.rounds > 20:
		return fmt.Errorf("-rounds %d: allowed 1 to 20", o.rounds)
	case o.connections < 1 || o.connections > 1000:
		return fmt.Errorf("-connections %d: allowed 1 to 1000", o.connections)
	case o.phase < time.Second || o.phase > time.Minute:
		return fmt.Errorf("-phase %s: allowed 1s to 1m", o.phase)
	case o.few < 1 || o.many <= o.few || o.many > 200_000:
		return fmt.Errorf("-few %d, -many %d: allowed 1 to 200000, few below many", o.few, o.many)
	case o.poll < time.Second || o.poll > time.Minute:
		return fmt.Errorf("-poll %s: allowed 1s to 1m", o.poll)
	}
	if o.peer != "" {
		if _, err := os.Stat(o.peer); err != nil {
			return fmt.Errorf("the peer: %w", err)
		}
	}
	return nil
}

// measure runs both rooms side by side.
func measure(ctx context.Context, o options, dir string, r *report, log *slog.Logger) error {
	us, err := startOurs(ctx, o, dir)
	if err != nil {
		return err
	}
	defer us.stop()
	rooms := []*contender{us}
	if o.peer != "" {
		them, err := startPeer(ctx, o, dir)
		if err != nil {
			return err
		}
		defer them.stop()
		rooms = append(rooms, them)
	}
	for _, c := range slices.Backward(rooms) { // ours has to settle first
		log.Info("waiting fans", "of", c.name)
		if err := pause(ctx, time.Until(c.settled)); err != nil {
			return err
		}
		if c.idle, err = c.during(ctx, func() error { return pause(ctx, o.phase) }); err != nil {
			return err
		}
		if err := c.crowds(ctx, o); err != nil {
			return err
		}
	}
	for n := range o.rounds {
		for _, c := range rooms {
			log.Info("round", "no", n+1, "of", c.name)
			if err := c.round(ctx, o.phase); err != nil {
				return err
			}
		}
	}
	r.Ours = us.costs()
	if len(rooms) == 2 {
		r.Theirs = rooms[1].costs()
		r.Ratios = &ratios{Join: r.Ours.Join.to(r.Theirs.Join), JoinNumber: r.Ours.Join.to(*r.Theirs.Number), Status: r.Ours.Status.to(r.Theirs.Status), Shared: r.Ours.Shared.to(r.Theirs.Status)}
	}
	for _, c := range rooms {
		c.stop()
	}
	log.Info("store")
	r.Store, err = measureStore(ctx, dir)
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

func writeTable(w io.Writer, r *report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s, %d CPUs, load average %s before and %s after; median of %d rounds, %d connections\n", r.Go, r.CPUs, r.LoadAverage[0], r.LoadAverage[1], r.Rounds, r.Connections)
	fmt.Fprintln(t, "request\tper second\tper CPU second\tRedis steps\tRedis commands\t")
	row := func(name string, c cost) {
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.3f\t%.3f\t\n", name, c.PerSecond, c.PerCPUSecond, c.Steps, c.Commands)
	}
	row("join, ours", r.Ours.Join)
	row("place (one fan's), ours", r.Ours.Status)
	row("status (all fans'), ours", *r.Ours.Shared)
	if r.Theirs != nil {
		row("join (two requests), peer", r.Theirs.Join)
		row("  its second request alone", *r.Theirs.Number)
		row("status, peer", r.Theirs.Status)
		fmt.Fprintln(t, "ratio, ours to the peer's\tper second\tper CPU second\tgoal\t")
		for _, x := range []struct {
			name string
			r    ratio
		}{{"join", r.Ratios.Join}, {"join to its second request alone", r.Ratios.JoinNumber}, {"place to status", r.Ratios.Status}, {"status to status", r.Ratios.Shared}} {
			fmt.Fprintf(t, "%s\t%.2f\t%.2f\t>= 2\t\n", x.name, x.r.PerSecond, x.r.PerCPUSecond)
		}
	} else {
		fmt.Fprintln(t, "the peer was not given: no ratios")
	}
	fmt.Fprintln(t, "waiting fans, each asking once per interval\tpolls per second\tRedis steps per second\tRedis commands per second\tstored, B\t")
	crowd := func(name string, c *roomCosts) {
		fmt.Fprintf(t, "%s, nobody asks\t0\t\t%.1f\t\t\n", name, c.IdlePerS)
		for _, x := range []waiting{c.Few, c.Many} {
			fmt.Fprintf(t, "%s, %d\t%.0f\t%.1f\t%.1f\t%d\t\n", name, x.Fans, x.PollsPerS, x.StepsPerS, x.CommandsPerS, x.StoredBytes)
		}
	}
	crowd("ours", r.Ours)
	if r.Theirs != nil {
		crowd("peer", r.Theirs)
	}
	fmt.Fprintln(t, "our store\tmeasured\tgoal\t")
	s := r.Store
	for _, x := range []struct {
		name, format string
		v            float64
		goal         string
	}{
		{"B per waiting fan", "%.1f", r.Ours.BytesPerWaiting, "0 (+-0.5: keys grow in steps)"},
		{"B per session", "%.0f", s.BytesPerSession, "<= 300"},
		{"B per admitted holder", "%.0f", s.BytesPerHolder, "<= 60"},
		{"B per 131,072 stamps", "%.0f", s.BytesPerBitmap, "16 KB"},
		{"B of ledger an hour and lane", "%.0f", s.LedgerPerHour, "<= 1 MB"},
		{"claims per second of Redis' processor time", "%.0f", s.ClaimsPerCPUSecond, ">= 50,000"},
	} {
		fmt.Fprintf(t, "%s\t"+x.format+"\t%s\t\n", x.name, x.v, x.goal)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	return nil
}
