package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// spawner starts processes from one thread: the kernel kills a child when the thread that started it ends, and Go ends threads.
type spawner struct {
	work chan func()
	once sync.Once
}

func newSpawner() *spawner {
	s := &spawner{work: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range s.work {
			f()
		}
	}()
	return s
}

func (s *spawner) do(f func() error) error {
	done := make(chan error, 1)
	s.work <- func() { done <- f() }
	return <-done
}

func (s *spawner) close() { s.once.Do(func() { close(s.work) }) }

// Process is a program that can be killed and started again. It dies with us. Its methods are for one goroutine.
type Process struct {
	Name  string
	path  string
	args  []string
	env   []string
	log   string
	ready func(context.Context) error
	spawn *spawner
	cmd   *exec.Cmd
	done  chan struct{}
}

// startTimeout is generous: the machine may be busy.
const startTimeout = 60 * time.Second

// Start starts the process and waits until it is ready.
func (p *Process) Start(ctx context.Context) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, p.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.spawn.do(cmd.Start); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.cmd, p.done = cmd, make(chan struct{})
	go func(done chan struct{}) { _ = cmd.Wait(); close(done) }(p.done)
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %s", p.Name, lastLines(p.log))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.Name, errors.Join(err, ctx.Err()))
		case <-time.After(20 * time.Millisecond): // poll
		}
	}
}

func lastLines(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-1000):])
}

// Kill kills the process and its children with SIGKILL and waits for its end.
func (p *Process) Kill() {
	if p.cmd == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may be gone
	<-p.done
	p.cmd = nil
}

// Pause stops the process with SIGSTOP.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Continue lets a paused process go on.
func (p *Process) Continue() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) error {
	if p.cmd == nil {
		return fmt.Errorf("%s is not running", p.Name)
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Running reports whether the process runs; it may be paused.
func (p *Process) Running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// CPU is the processor time that the process has used.
func (p *Process) CPU() (time.Duration, error) {
	if p.cmd == nil {
		return 0, fmt.Errorf("%s is not running", p.Name)
	}
	return cpuOf(p.cmd.Process.Pid)
}

// ticksPerSecond is USER_HZ, which is 100 on every Linux that Go runs on.
const ticksPerSecond = 100

func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	return parseStat(string(text))
}

// parseStat sums user and system time of a /proc stat line. The second field, in parentheses, may hold anything.
func parseStat(text string) (time.Duration, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("read processor time: too few fields")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	return time.Duration(user+system) * time.Second / ticksPerSecond, nil
}

// Other makes a process of another program, to be started like the rig's own. Nothing of STANCHION_ is in its environment.
func Other(name, dir, path string, args, env []string, ready func(context.Context) error) *Process {
	return &Process{Name: name, path: path, args: args, env: append(environment(), env...), log: filepath.Join(dir, name+".log"), ready: ready, spawn: newSpawner()}
}

// NewRedis starts a Redis server of its own in dir, without durability.
func NewRedis(ctx context.Context, dir string) (p *Process, address string, err error) {
	return startRedis(ctx, newSpawner(), dir, "no")
}

// startRedis starts a server as rooms ask for: nothing evicted, and by default nothing acknowledged that a crash could lose.
func startRedis(ctx context.Context, s *spawner, dir, sync string) (p *Process, address string, err error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, "", fmt.Errorf("redis-server is needed: %w", err)
	}
	if sync == "" {
		sync = "always"
	}
	free, err := FreeAddresses(1)
	if err != nil {
		return nil, "", err
	}
	address = free[0]
	_, port, _ := net.SplitHostPort(address)
	data := filepath.Join(dir, "redis-"+port)
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, "", fmt.Errorf("start redis: %w", err)
	}
	p = &Process{
		Name: "redis", spawn: s, path: path, log: filepath.Join(dir, "redis-"+port+".log"), env: environment(),
		args:  []string{"--port", port, "--bind", "127.0.0.1", "--dir", data, "--save", "", "--appendonly", "yes", "--appendfsync", sync, "--maxmemory-policy", "noeviction"},
		ready: func(ctx context.Context) error { return ping(ctx, address) },
	}
	return p, address, p.Start(ctx)
}

// ping asks for the server's answer, since a server that loads its data accepts connections before.
func ping(ctx context.Context, address string) error {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer := make([]byte, 64)
	n, err := c.Read(answer)
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(answer[:n])); got != "+PONG" {
		return fmt.Errorf("redis says %s", got)
	}
	return nil
}
