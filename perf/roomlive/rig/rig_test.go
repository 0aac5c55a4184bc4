package rig

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	got, err := parseStat("42 (a ) b) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 5 0 0")
	if err != nil || got != 2*time.Second {
		t.Errorf("got %s, %v, want 2 s", got, err)
	}
	for _, bad := range []string{"", "1 (x) S 1", "1 (x) S 1 1 1 0 -1 0 0 0 0 0 a b 0"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestProcess(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	p := Other("sleeper", t.TempDir(), sleep, []string{"60"}, nil, func(context.Context) error { return nil })
	for range 2 { // it can be started again
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(p.Pause(), p.Continue()); err != nil {
			t.Error(err)
		}
		if _, err := p.CPU(); err != nil || !p.Running() {
			t.Errorf("running: %v, %v", p.Running(), err)
		}
		p.Kill()
		p.Kill()
		if _, err := p.CPU(); err == nil || p.Running() || p.Pause() == nil {
			t.Error("it goes on after being killed")
		}
	}
	q := Other("short", t.TempDir(), sleep, []string{"0"}, nil, func(context.Context) error { return errors.New("not yet") })
	if err := q.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("a process that ends before it is ready: %v", err)
	}
}

func TestTheProgramsVariablesStayOut(t *testing.T) {
	t.Setenv("STANCHION_CAP", "1")
	t.Setenv("RIG_TEST", "1")
	env := strings.Join(environment(), "\n")
	if strings.Contains(env, "STANCHION_") || !strings.Contains(env, "RIG_TEST=1") {
		t.Errorf("environment %q", env)
	}
	if len(environment()) >= len(os.Environ()) {
		t.Error("nothing was left out")
	}
}
