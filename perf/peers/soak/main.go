// Command soak drives an edge for a long time with what a long day brings: fans inside, fans who are turned away, new connections
// all the time, clients that leave in the middle of a request or of a response, malformed requests, uploads. It samples the edge's
// goroutines, descriptors and memory, prints them, and exits 1 if one of them grows from the second fifth of the run to
// the last, or if fans inside were not served.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stanchion-queue/stanchion/perf/peers/stand"
)

func main() {
	stand.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// sample is the edge at one moment.
type sample struct {
	AtS         float64 `json:"at_s"`
	Goroutines  float64 `json:"goroutines"`
	Descriptors float64 `json:"descriptors"`
	HeapMiB     float64 `json:"heap_mib"`
	ResidentMiB float64 `json:"resident_mib"`
}

// Report is the result of a run.
type Report struct {
	DurationS float64            `json:"duration_s"`
	Requests  map[string]uint64  `json:"requests"` // by kind
	Failed    uint64             `json:"failed"`   // of the fans inside
	Growth    map[string]float64 `json:"growth"`   // last fifth over second fifth
	Samples   []sample           `json:"samples"`
}

func run(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	duration := f.Duration("duration", 10*time.Minute, "length of the run, at least 30 s")
	file := f.String("json", "", "file for the numbers")
	if err := f.Parse(args); err != nil {
		return fmt.Errorf("arguments: %w", err)
	}
	if *duration < 30*time.Second {
		return errors.New("arguments: a run takes at least 30 s")
	}
	if err := stand.Tools("taskset"); err != nil {
		return err
	}
	var st stand.Stand
	defer st.Close()
	origin, err := st.Part(ctx, 1, "origin", "capacity", "-workers", "64", "-takes", "2ms")
	if err != nil {
		return err
	}
	e, err := st.Part(ctx, 0, "edge", "edge", "-origin", origin.Addr)
	if err != nil {
		return err
	}
	rep, err := soak(ctx, e, *duration, out)
	if err != nil {
		return err
	}
	if *file != "" {
		raw, err := json.MarshalIndent(rep, "", "  ")
		if err != nil {
			return fmt.Errorf("write numbers: %w", err)
		}
		if err := os.WriteFile(*file, append(raw, '\n'), 0o644); err != nil { //nolint:gosec // no secret
			return fmt.Errorf("write numbers: %w", err)
		}
	}
	return rep.judge(out)
}

// kind is one kind of client, so many times a second.
type kind struct {
	name      string
	perSecond float64
	do        func(addr, pass string) error
	must      bool // succeed
	n, failed atomic.Uint64
}

const wait = 10 * time.Second

func kinds(client *http.Client) []*kind {
	get := func(path string, status int, c *http.Client, header func(http.Header)) func(addr, pass string) error {
		return func(addr, pass string) error {
			req, err := http.NewRequest(http.MethodGet, "http://"+addr+path, nil)
			if err != nil {
				return err
			}
			req.Header.Set("Accept", "*/*")
			if status == http.StatusOK {
				req.Header.Set("Cookie", "stanchion-pass-gala="+pass)
			}
			if header != nil {
				header(req.Header)
			}
			return expect(c, req, status)
		}
	}
	raw := func(text string) func(addr, pass string) error {
		return func(addr, pass string) error {
			c, err := net.DialTimeout("tcp", addr, wait)
			if err != nil {
				return err
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(wait))
			if _, err := io.WriteString(c, strings.ReplaceAll(text, "PASS", pass)); err != nil {
				return err
			}
			_, err = c.Read(make([]byte, 16))
			return err
		}
	}
	fresh := &http.Client{Timeout: wait, Transport: &http.Transport{DisableKeepAlives: true}}
	return []*kind{
		{name: "inside", perSecond: 300, must: true, do: get(stand.Inside, 200, client, nil)},
		{name: "inside, new connection", perSecond: 40, must: true, do: get(stand.Inside, 200, fresh, nil)},
		{name: "turned away", perSecond: 150, do: get(stand.Inside, 503, client, nil)},
		{name: "upload", perSecond: 10, must: true, do: func(addr, pass string) error {
			req, err := http.NewRequest(http.MethodPost, "http://"+addr+stand.Inside, bytes.NewReader(make([]byte, 100_000)))
			if err != nil {
				return err
			}
			req.Header.Set("Cookie", "stanchion-pass-gala="+pass)
			return expect(client, req, 200)
		}},
		{name: "malformed", perSecond: 20, do: raw("GET /gala HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")},
		{name: "leaves in the head", perSecond: 20, do: leave("GET /gala HTTP/1.1\r\nHost: a\r\nAcc")},
		{name: "leaves in the body", perSecond: 20, do: leave("POST /gala HTTP/1.1\r\nHost: a\r\nCookie: stanchion-pass-gala=PASS\r\nContent-Length: 100000\r\n\r\nhalf")},
		{name: "leaves before the answer", perSecond: 20, do: leave("GET /gala HTTP/1.1\r\nHost: a\r\nCookie: stanchion-pass-gala=PASS\r\n\r\n")},
	}
}

func expect(c *http.Client, req *http.Request, status int) error {
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != status {
		return fmt.Errorf("status %d, want %d", resp.StatusCode, status)
	}
	return nil
}

// leave sends something and goes.
func leave(text string) func(addr, pass string) error {
	return func(addr, pass string) error {
		c, err := net.DialTimeout("tcp", addr, wait)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.WriteString(c, strings.ReplaceAll(text, "PASS", pass))
		return err
	}
}

func soak(ctx context.Context, e *stand.Server, d time.Duration, out io.Writer) (*Report, error) {
	client := &http.Client{Timeout: wait, Transport: &http.Transport{MaxIdleConnsPerHost: 200, DisableCompression: true}}
	all := kinds(client)
	var wg, working sync.WaitGroup
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var trouble atomic.Pointer[error]
	for _, k := range all {
		wg.Go(func() {
			tick := time.NewTicker(time.Duration(float64(time.Second) / k.perSecond))
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				working.Go(func() {
					k.n.Add(1)
					if err := k.do(e.Addr, e.Pass); err != nil && k.must {
						k.failed.Add(1)
						trouble.Store(&err)
					}
				})
			}
		})
	}
	rep := &Report{DurationS: d.Seconds(), Requests: map[string]uint64{}, Growth: map[string]float64{}}
	start := time.Now()
	every := max(d/200, time.Second)
	tick := time.NewTicker(every)
	defer tick.Stop()
	fmt.Fprintf(out, "%8s %12s %12s %10s %14s\n", "time", "goroutines", "descriptors", "heap MiB", "resident MiB")
	for i := 0; ; i++ {
		select {
		case <-tick.C:
			s, err := measure(ctx, e)
			if ctx.Err() != nil {
				continue
			} else if err != nil {
				return nil, err
			}
			s.AtS = time.Since(start).Seconds()
			rep.Samples = append(rep.Samples, s)
			if i%10 == 9 {
				fmt.Fprintf(out, "%7.0fs %12.0f %12.0f %10.1f %14.1f\n", s.AtS, s.Goroutines, s.Descriptors, s.HeapMiB, s.ResidentMiB)
			}
			continue
		case <-ctx.Done():
		}
		break
	}
	wg.Wait()
	working.Wait()
	for _, k := range all {
		rep.Requests[k.name] = k.n.Load()
		rep.Failed += k.failed.Load()
	}
	if t := trouble.Load(); t != nil {
		fmt.Fprintf(out, "the last failure inside: %v\n", *t)
	}
	return rep, nil
}

// measure reads the edge's own metrics.
func measure(ctx context.Context, e *stand.Server) (sample, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.Ops+"/metrics", nil)
	if err != nil {
		return sample{}, fmt.Errorf("read metrics: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return sample{}, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close()
	var s sample
	found := 0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue
		}
		found++
		switch name {
		case "go_goroutines":
			s.Goroutines = v
		case "process_open_fds":
			s.Descriptors = v
		case "go_memstats_heap_alloc_bytes":
			s.HeapMiB = v / (1 << 20)
		case "process_resident_memory_bytes":
			s.ResidentMiB = v / (1 << 20)
		default:
			found--
		}
	}
	if err := lines.Err(); err != nil || found != 4 {
		return sample{}, errors.Join(fmt.Errorf("read metrics: %d of 4 found", found), err)
	}
	return s, nil
}

// judge prints the sums and says whether something grew. Of what rises and falls with each collection and each crowd the
// lowest value of a fifth counts; what leaks raises that too.
func (r *Report) judge(out io.Writer) error {
	n := len(r.Samples)
	if n < 20 {
		return fmt.Errorf("%d samples are too few", n)
	}
	var errs []error
	for _, m := range []struct {
		name  string
		of    func(sample) float64
		slack float64 // what it may differ by chance
	}{
		{"goroutines", func(s sample) float64 { return s.Goroutines }, 50},
		{"descriptors", func(s sample) float64 { return s.Descriptors }, 50},
		{"heap MiB", func(s sample) float64 { return s.HeapMiB }, 2},
		{"resident MiB", func(s sample) float64 { return s.ResidentMiB }, 8},
	} {
		lowest := func(part []sample) float64 {
			low := math.Inf(1)
			for _, s := range part {
				low = min(low, m.of(s))
			}
			return low
		}
		early, late := lowest(r.Samples[n/5:2*n/5]), lowest(r.Samples[4*n/5:])
		r.Growth[m.name] = late / max(early, 1e-9)
		fmt.Fprintf(out, "%-14s %10.1f %10.1f\n", m.name, early, late)
		if late > early*1.1+m.slack {
			errs = append(errs, fmt.Errorf("%s grew from %.1f to %.1f", m.name, early, late))
		}
	}
	total := uint64(0)
	for name, n := range r.Requests {
		total += n
		if n == 0 {
			errs = append(errs, fmt.Errorf("nobody of kind %q came", name))
		}
	}
	fmt.Fprintf(out, "%d requests, %d of those inside failed\n", total, r.Failed)
	if r.Failed > total/1000 {
		errs = append(errs, fmt.Errorf("%d requests of fans inside failed", r.Failed))
	}
	return errors.Join(errs...)
}
