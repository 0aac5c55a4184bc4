package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stanchion-queue/stanchion/perf/roomlive/rig"
)

// The kinds of faults. A number after + says how long the fault lasts.
const (
	edgeKill       = "edge-kill"       // SIGKILL, started again afterwards
	edgePause      = "edge-pause"      // SIGSTOP, then SIGCONT
	controllerKill = "controller-kill" // SIGKILL of the queue process that leads
	storeKill      = "store-kill"      // SIGKILL of Redis, started again on its files
	storePause     = "store-pause"     // SIGSTOP of Redis
)

// planned is a fault with its time from the first fan on.
type planned struct {
	kind     string
	at, for_ time.Duration
}

func (p planned) String() string {
	return fmt.Sprintf("%s@%g+%g", p.kind, p.at.Seconds(), p.for_.Seconds())
}

// parseFaults reads "kind@at+for,..." with seconds; faults must not overlap.
func parseFaults(text string) (out []planned, err error) {
	if text == "" || text == "none" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		kind, times, _ := strings.Cut(strings.TrimSpace(part), "@")
		at, lasts, _ := strings.Cut(times, "+")
		if !slices.Contains([]string{edgeKill, edgePause, controllerKill, storeKill, storePause}, kind) {
			return nil, fmt.Errorf("fault %q: want edge-kill, edge-pause, controller-kill, store-kill or store-pause", part)
		}
		from, err1 := strconv.ParseFloat(at, 64)
		long, err2 := strconv.ParseFloat(lasts, 64)
		if err1 != nil || err2 != nil || !(from >= 0 && from <= 86_400) || !(long > 0 && long <= 3600) {
			return nil, fmt.Errorf("fault %q: want kind@seconds+seconds, e.g. %s@60+5", part, kind)
		}
		out = append(out, planned{kind, seconds(from), seconds(long)})
	}
	slices.SortFunc(out, func(a, b planned) int { return int(a.at - b.at) })
	for i := 1; i < len(out); i++ {
		if out[i].at < out[i-1].at+out[i-1].for_ {
			return nil, fmt.Errorf("faults %s and %s overlap", out[i-1], out[i])
		}
	}
	return out, nil
}

// breaker breaks things on time and mends them.
type breaker struct {
	rig *rig.Rig
	log *slog.Logger
}

// run performs faults one after the other from start on.
func (b *breaker) run(ctx context.Context, start time.Time, faults []planned) (done []fault, err error) {
	for n, p := range faults {
		if !sleepUntil(ctx, start.Add(p.at)) {
			return done, nil
		}
		f, err := b.perform(ctx, p, n)
		if err != nil {
			return done, fmt.Errorf("%s: %w", p, err)
		}
		b.log.Info("fault", "kind", p.kind, "at_s", p.at.Seconds(), "lasted_s", float64(f.To-f.From)/1e6)
		done = append(done, f)
	}
	return done, nil
}

func (b *breaker) perform(ctx context.Context, p planned, n int) (f fault, err error) {
	edge := b.rig.Edges[(n+1)%len(b.rig.Edges)]
	f = fault{Kind: p.kind, From: time.Now().UnixMicro(), Store: p.kind == storeKill || p.kind == storePause}
	end := time.Now().Add(p.for_)
	stopped, kill := edge, true
	switch p.kind {
	case edgePause:
		kill = false
	case controllerKill:
		if stopped, err = b.rig.Leader(ctx); err != nil {
			return f, err
		}
	case storeKill:
		stopped = b.rig.Redis
	case storePause:
		stopped, kill = b.rig.Redis, false
	}
	if !stopped.Running() {
		return f, fmt.Errorf("%s has ended by itself", stopped.Name)
	}
	if kill {
		stopped.Kill()
	} else if err := stopped.Pause(); err != nil {
		return f, err
	}
	whole := sleepUntil(ctx, end)
	// Mended in any case, so that the run's end finds everything as it was.
	if kill {
		err = stopped.Start(context.WithoutCancel(ctx))
	} else {
		err = stopped.Continue()
	}
	f.To = time.Now().UnixMicro()
	if !whole {
		return f, ctx.Err()
	}
	return f, err
}

func sleepUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
