package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/stanchion-queue/stanchion/perf/load"
)

// crowdPlan is what the process that plays the fans is told on its standard input. Times are seconds.
type crowdPlan struct {
	Targets   []string `json:"targets"`
	Room      string   `json:"room"`
	Fans      int      `json:"fans"`
	Seed      uint64   `json:"seed"`
	SpikeS    float64  `json:"spike_s"`
	Spike     float64  `json:"spike_share"`
	PerSecond float64  `json:"per_second"`
	Absence   absence  `json:"absence"`
	NoScript  float64  `json:"noscript_share"`
	Hidden    float64  `json:"hidden_share"`
	Silent    float64  `json:"silent_share"`
	Ghosts    float64  `json:"ghost_share"`
	DwellS    float64  `json:"dwell_s"`
	BrowseS   float64  `json:"browse_s"`
	LeaveS    float64  `json:"leave_s"`
	Facts     string   `json:"facts"` // file for the facts
}

// absence is who is gone when called, as in a scenario of the simulator.
type absence struct {
	Kind  string  `json:"kind"`  // even, blocky or hoard
	Share float64 `json:"share"` // even: of all; hoard: of the fans between the blocks
	Low   float64 `json:"low"`   // blocky: share in every other block
	High  float64 `json:"high"`  // blocky, hoard: share in the blocks
	Block uint64  `json:"block"` // ranks in a block
	Gap   uint64  `json:"gap"`   // hoard: ranks between blocks
}

// at is the share of absent fans around a rank.
func (a absence) at(rank uint64) float64 {
	switch a.Kind {
	case "blocky":
		if rank/a.Block%2 == 0 {
			return a.Low
		}
		return a.High
	case "hoard":
		if rank%(a.Block+a.Gap) >= a.Gap {
			return a.High
		}
	}
	return a.Share
}

// mean is the share over all ranks, for fans who do not know theirs.
func (a absence) mean() float64 {
	switch a.Kind {
	case "blocky":
		return (a.Low + a.High) / 2
	case "hoard":
		return (a.Share*float64(a.Gap) + a.High*float64(a.Block)) / float64(a.Gap+a.Block)
	}
	return a.Share
}

// crowdEnd is what the fans' process says when it ends.
type crowdEnd struct {
	Outcomes map[load.Outcome]int `json:"outcomes"`
	Requests int64                `json:"requests"`
	Table    string               `json:"table"`
}

// playCrowd is the process of the fans: it reads a plan from in, lets them live until SIGTERM or until all are gone, and writes its end to
// out.
func playCrowd(ctx context.Context, in io.Reader, out io.Writer) error {
	var p crowdPlan
	if err := json.NewDecoder(in).Decode(&p); err != nil {
		return fmt.Errorf("read the crowd's plan: %w", err)
	}
	file, err := os.Create(p.Facts)
	if err != nil {
		return fmt.Errorf("make the file of facts: %w", err)
	}
	defer file.Close()
	w := &witness{w: bufio.NewWriterSize(file, 1<<20)}
	report, err := load.Run(ctx, load.Options{
		Target: p.Targets[0], Others: p.Targets[1:], Entry: "/", Room: p.Room, Fans: p.Fans, PerSecond: p.PerSecond, LobbyShare: p.Spike, LobbyFor: seconds(p.SpikeS),
		AbsentShare: p.Absence.mean(), Absent: p.Absence.at, LeaveMean: seconds(p.LeaveS), NoScriptShare: p.NoScript, HiddenShare: p.Hidden, SilentShare: p.Silent,
		GhostShare: p.Ghosts, StayMean: seconds(p.DwellS), BrowseEvery: seconds(p.BrowseS), Seed: p.Seed, Source: netip.MustParsePrefix("127.16.0.0/12"), InFlight: 2048,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})), Witness: w.note,
	})
	if err != nil {
		return err
	}
	if err := w.end(); err != nil {
		return err
	}
	var table bytes.Buffer
	if _, err := report.WriteTo(&table); err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(crowdEnd{Outcomes: report.Outcomes(), Requests: report.Requests(), Table: table.String()}); err != nil {
		return fmt.Errorf("write the crowd's end: %w", err)
	}
	return nil
}

// witness writes facts to a file as they happen.
type witness struct {
	mu  sync.Mutex
	w   *bufio.Writer
	err error
}

func (w *witness) note(f load.Fact) {
	line, err := json.Marshal(fact{Fan: f.Fan, Kind: f.Kind, Sent: f.Sent.UnixMicro(), At: f.At.UnixMicro(), Text: f.Text, Rank: f.Rank})
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && w.err == nil {
		_, err = w.w.Write(append(line, '\n'))
	}
	if w.err == nil {
		w.err = err
	}
}

func (w *witness) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = w.w.Flush()
	}
	if w.err != nil {
		return fmt.Errorf("write facts: %w", w.err)
	}
	return nil
}

func readFacts(path string) (facts []fact, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read facts: %w", err)
	}
	defer file.Close()
	dec := json.NewDecoder(bufio.NewReaderSize(file, 1<<20))
	for dec.More() {
		var f fact
		if err := dec.Decode(&f); err != nil {
			return nil, fmt.Errorf("read facts: %w", err)
		}
		facts = append(facts, f)
	}
	return facts, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// crowdProcess is the fans' process seen from outside.
type crowdProcess struct {
	cmd  *exec.Cmd
	out  bytes.Buffer
	done chan error
}

// crowdArg makes this program play the fans.
const crowdArg = "play-crowd"

func startCrowd(p crowdPlan, log io.Writer) (*crowdProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	plan, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("write the crowd's plan: %w", err)
	}
	c := &crowdProcess{cmd: exec.Command(self, crowdArg), done: make(chan error, 1)}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = bytes.NewReader(plan), &c.out, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the child is killed when the thread that started it ends
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.done <- c.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the crowd: %w", err)
	}
	return c, nil
}

// stop ends the evening of those who are still there and reads what became of all.
func (c *crowdProcess) stop() (end crowdEnd, err error) {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case err = <-c.done:
	case <-time.After(30 * time.Second):
		_ = c.cmd.Process.Kill()
		err = <-c.done
	}
	if err != nil {
		return end, fmt.Errorf("the crowd's process: %w", err)
	}
	if err := json.Unmarshal(c.out.Bytes(), &end); err != nil {
		return end, fmt.Errorf("read the crowd's end: %w", err)
	}
	return end, nil
}

func (c *crowdProcess) kill() { _ = c.cmd.Process.Kill() }
