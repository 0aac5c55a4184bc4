//go:build it

package controller_test

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/redisqueue"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// redisServer is a Redis of the test's own, to be killed and stopped.
type redisServer struct {
	t    *testing.T
	port string
	dir  string
	cmd  *exec.Cmd
}

func startRedis(t *testing.T) *redisServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close()
	r := &redisServer{t: t, port: port, dir: t.TempDir()}
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *redisServer) start() {
	r.t.Helper()
	exe, err := exec.LookPath("redis-server")
	if err != nil {
		r.t.Fatalf("redis-server is needed (make services installs it): %v", err)
	}
	log, err := os.OpenFile(filepath.Join(r.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	r.cmd = exec.Command(exe, "--port", r.port, "--bind", "127.0.0.1", "--dir", r.dir, "--save", "", "--appendonly", "yes", "--appendfsync", "always",
		"--maxmemory-policy", "noeviction")
	r.cmd.Stdout, r.cmd.Stderr = log, log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+r.port)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("redis-server does not listen: %v", err)
		}
	}
}

func (r *redisServer) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

func (r *redisServer) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

// open connects one process to the server.
func (r *redisServer) open() queue.Store {
	r.t.Helper()
	s, err := redisqueue.Open(r.t.Context(), redisqueue.Options{Addresses: []string{"127.0.0.1:" + r.port}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = s.Close() })
	return s
}

// Three edges and two controllers on a real Redis that hangs for five seconds and is killed once: everybody is served, never more than
// the cap.
func TestCrowdOnRedis(t *testing.T) {
	r := startRedis(t)
	w := newWorld(t, nil)
	set := settings(func(s *room.Settings) {
		s.Cap, s.RatePerSecond, s.IdleS, s.FirstLeaseS, s.StayMaxS, s.ReturnS = 25, 200, 8, 5, 120, 30
	})
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	cs := []part[interface{ Leading(string) bool }]{}
	for _, name := range []string{"c1", "c2"} {
		c := w.controller(name, r.open(), set)
		cs = append(cs, part[interface{ Leading(string) bool }]{c.it, c.kill, nil})
	}
	c := &crowd{w: w, passes: newPasses(), absent: 0.2, silent: 0.2, roams: 0.1, dwell: 3 * time.Second}
	for _, name := range []string{"e1", "e2", "e3"} {
		c.edges = append(c.edges, w.agent(name, r.open()).it)
	}
	w.until("open", 10*time.Second, func() bool { return c.edges[0].View().Open && c.edges[1].View().Open && c.edges[2].View().Open })
	start := time.Now()
	const fans = 120
	for i := range fans {
		rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(i)))
		w.wg.Go(func() { c.fan(ctx, rnd) })
	}
	time.Sleep(6 * time.Second)
	r.signal(syscall.SIGSTOP)
	time.Sleep(5 * time.Second)
	if !c.edges[0].View().Stale {
		t.Error("the room does not say that its store hangs")
	}
	r.signal(syscall.SIGCONT)
	time.Sleep(4 * time.Second)
	r.kill()
	time.Sleep(time.Second)
	r.start()
	killed := time.Now()
	w.until("somebody let in after the restart", 20*time.Second, func() bool { return c.passes.since(killed) > 0 })
	closed := time.Since(killed)
	w.until("everybody through", 100*time.Second, func() bool { return c.done()+len(c.failed) >= fans })
	t.Logf("%d fans in %s, door closed %s after the restart, at most %d inside", fans, time.Since(start), closed, c.passes.highest)
	if closed > 10*time.Second { // 8 s, and some for a place to become free
		t.Errorf("the door was closed for %s", closed)
	}
	leaders := 0
	for _, x := range cs {
		if x.it.Leading(roomName) {
			leaders++
		}
	}
	if leaders != 1 {
		t.Errorf("%d controllers lead", leaders)
	}
	stop()
	c.check(25)
}
