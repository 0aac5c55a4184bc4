package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestParseCalls(t *testing.T) {
	got := parseCalls("# Commandstats\r\ncmdstat_get:calls=21,usec=175,usec_per_call=8.33\r\ncmdstat_memory|usage:calls=2,usec=9\r\nother:calls=x\r\n")
	if len(got) != 2 || got["get"] != 21 || got["memory|usage"] != 2 {
		t.Errorf("got %v", got)
	}
}

// room is a server that gives numbered tickets and counts what it is asked.
func room(t *testing.T) (p *pump, join, status move, count func(path string) int) {
	t.Helper()
	var mu sync.Mutex
	asked, seen := map[string]int{}, map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked[r.URL.Path]++
		if r.URL.Path == "/join" {
			http.SetCookie(w, &http.Cookie{Name: "ticket", Value: fmt.Sprint(asked["/join"])})
			return
		}
		c, err := r.Cookie("ticket")
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		seen[c.Value]++
		asked["distinct"] = len(seen)
	}))
	t.Cleanup(s.Close)
	p = newPump(strings.TrimPrefix(s.URL, "http://"), 4)
	join = move{request: func(string) call { return call{method: "POST", path: "/join", json: "{}"} }, response: func(a answer) (string, error) { return a.cookie("ticket"), a.want(200) }}
	status = move{request: func(ticket string) call { return call{method: "GET", path: "/status", cookie: "ticket=" + ticket} }, response: func(a answer) (string, error) { return "", a.want(200) }}
	return p, join, status, func(path string) int { mu.Lock(); defer mu.Unlock(); return asked[path] }
}

func TestPump(t *testing.T) {
	p, join, status, count := room(t)
	ctx := t.Context()
	tickets, err := p.flat(ctx, join, nil, false, 50*time.Millisecond)
	if err != nil || len(tickets) == 0 || len(tickets) != count("/join") {
		t.Fatalf("%d tickets of %d joins, %v", len(tickets), count("/join"), err)
	}
	tickets = append(tickets, tickets...)[:3]
	used, err := p.flat(ctx, status, tickets, true, time.Minute)
	if err != nil || len(used) != 3 || count("/status") != 3 {
		t.Errorf("each ticket once: %d answers of %d, %v", len(used), count("/status"), err)
	}
	n, err := p.cycle(ctx, status, tickets, 50*time.Millisecond)
	if err != nil || n < 1 || count("/status") != 3+n {
		t.Errorf("cycle: %d answers of %d, %v", n, count("/status")-3, err)
	}
	began := time.Now()
	kept, err := p.paced(ctx, status, tickets, true, 60*time.Millisecond)
	if took := time.Since(began); err != nil || took < 40*time.Millisecond || fmt.Sprint(kept) != fmt.Sprint(tickets) {
		t.Errorf("paced: %v in %s, %v, want the same tickets", kept, took, err)
	}
	if _, err := p.cycle(ctx, status, nil, time.Second); err == nil {
		t.Error("cycle without tickets is accepted")
	}
	bad := status
	bad.request = func(string) call { return call{method: "GET", path: "/status"} }
	if _, err := p.flat(ctx, bad, tickets, true, time.Second); err == nil || !strings.Contains(err.Error(), "status 400") {
		t.Errorf("a refusal is not an error: %v", err)
	}
}

func TestCosts(t *testing.T) {
	r := func(n int, seconds, cpu, steps float64) reading {
		return reading{usage{seconds: seconds, cpu: cpu, steps: steps, commands: steps * 2}, n}
	}
	c := contender{
		idle:  usage{seconds: 10, steps: 20, commands: 40}, // 2 a second
		joins: [][]reading{{r(100, 1, 0.5, 2), r(400, 1, 1, 2), r(200, 1, 1, 2)}, {r(200, 1, 1, 602)}},
		polls: []reading{r(1000, 2, 1, 4)},
	}
	out := c.costs()
	near := func(what string, got, want float64) {
		t.Helper()
		if got < want*0.999 || got > want*1.001 {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	near("two requests of 200/s", out.Join.PerSecond, 100)
	near("their processor time", out.Join.PerCPUSecond, 100)
	near("steps", out.Join.Steps, 3)
	near("second request", out.Number.PerSecond, 200)
	near("polls", out.Status.PerSecond, 500)
	if out.Status.Steps != 0 || out.Shared != nil {
		t.Errorf("steps of a poll %v, want none beyond those of an idle room", out.Status.Steps)
	}
	near("ratio", out.Status.to(out.Join).PerSecond, 5)
}

func TestTable(t *testing.T) {
	ours := &roomCosts{Shared: &cost{}}
	for _, r := range []*report{{Ours: ours}, {Ours: ours, Theirs: &roomCosts{Number: &cost{}}, Ratios: &ratios{}}} {
		var out bytes.Buffer
		if err := writeTable(&out, r); err != nil || strings.Contains(out.String(), "%!") {
			t.Errorf("%v\n%s", err, out.String())
		}
		if got := strings.Contains(out.String(), "not given"); got != (r.Theirs == nil) {
			t.Errorf("says that the peer is missing: %v", got)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	}
}

func TestImpossibleRunsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-consul="}, {"-rounds=0"}, {"-connections=0"}, {"-phase=1ms"}, {"-few=10", "-many=5"}, {"-poll=1h"}, {"-peer=" + filepath.Join(t.TempDir(), "none")}} {
		var out bytes.Buffer
		if err := run(t.Context(), append([]string{"-consul=http://127.0.0.1:1"}, args...), &out, &out); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "stanchion-room-bench-*")); len(left) > 0 {
		t.Logf("folders of other runs: %v", left)
	}
}
