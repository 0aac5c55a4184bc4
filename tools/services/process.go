package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// quitDeadline is how long a process may take to end after a signal.
const quitDeadline = 30 * time.Second

// A process is one server program. It outlives this program in a session of
// its own, with a log and a record of its pid in the engine's folder.
type process struct {
	name string
	argv []string
	user string         // run as this user when we are root; empty: as ourselves
	quit syscall.Signal // how to stop it; 0: SIGKILL, since nothing here is kept
	home string         // working folder; empty: the engine's folder

	after func(context.Context) error // start only once this returns nil
}

func (p process) logFile(dir string) string { return filepath.Join(dir, p.name+".log") }

// command resolves the program, which may be a pattern such as
// /usr/lib/jvm/java-17-*/bin/java, and the user.
func (p process) command(ctx context.Context, dir string) (*exec.Cmd, error) {
	program, err := find(p.argv[0])
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, p.argv[1:]...)
	cmd.Dir = dir
	if p.home != "" {
		cmd.Dir = p.home
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if p.user != "" && os.Getuid() == 0 {
		uid, gid, err := account(p.user)
		if err != nil {
			return nil, err
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return cmd, nil
}

func (p process) start(dir string) error {
	cmd, err := p.command(context.Background(), dir) // it must outlive us
	if err != nil {
		return err
	}
	log, err := os.OpenFile(p.logFile(dir), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr.Setsid = true
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	go cmd.Wait() // reap it, should it end before we do
	born, err := birth(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("start %s: it ended at once; its log says:\n%s", p.name, lastLines(p.logFile(dir), 12))
	}
	return os.WriteFile(pidFile(dir, p.name), fmt.Appendf(nil, "%d %s\n", cmd.Process.Pid, born), 0o644)
}

// stop ends the process if the record in dir still describes a living one.
func (p process) stop(ctx context.Context, dir string) (bool, error) {
	pid, ok := recall(dir, p.name)
	if !ok {
		return false, nil
	}
	signals := []syscall.Signal{syscall.SIGKILL}
	if p.quit != 0 {
		signals = []syscall.Signal{p.quit, syscall.SIGKILL}
	}
	for _, signal := range signals {
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return false, err
		}
		wait, cancel := context.WithTimeout(ctx, quitDeadline)
		err := poll(wait, 5*time.Millisecond, func() (bool, error) {
			_, alive := recall(dir, p.name)
			return !alive, nil
		})
		cancel()
		if err == nil {
			return true, os.Remove(pidFile(dir, p.name))
		}
	}
	return false, fmt.Errorf("process %d does not end", pid)
}

func pidFile(dir, name string) string { return filepath.Join(dir, name+".pid") }

// recall returns the pid on record if that very process still runs. The record
// holds the time of birth too, so that a reused pid is never taken for ours.
func recall(dir, name string) (pid int, alive bool) {
	text, err := os.ReadFile(pidFile(dir, name))
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text))
	if len(fields) != 2 {
		return 0, false
	}
	pid, err = strconv.Atoi(fields[0])
	if err != nil || pid <= 1 {
		return 0, false
	}
	born, err := birth(pid)
	return pid, err == nil && born == fields[1]
}

// birth returns when the process started, in the kernel's ticks since boot. A
// process that has ended but was not yet reaped counts as gone.
func birth(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	return parseBirth(string(stat))
}

func parseBirth(stat string) (string, error) {
	// The second field is the program's name in parentheses and may hold
	// anything, so count from the last one. State is field 3, the number of threads 20, birth 22.
	end := strings.LastIndexByte(stat, ')')
	if end < 0 {
		return "", errors.New("not a /proc stat line")
	}
	fields := strings.Fields(stat[end+1:])
	if len(fields) < 20 {
		return "", errors.New("not a /proc stat line")
	}
	// A zombie still holds its ports while any thread but the first lives on.
	if threads := fields[17]; fields[0] == "X" || fields[0] == "Z" && (threads == "0" || threads == "1") {
		return "", os.ErrProcessDone
	}
	return fields[19], nil
}

// output runs a program to its end and returns what it printed. An error
// carries the last lines of it.
func output(ctx context.Context, dir string, argv ...string) (string, error) {
	return process{argv: argv}.output(ctx, dir)
}

func (p process) output(ctx context.Context, dir string) (string, error) {
	cmd, err := p.command(ctx, dir)
	if err != nil {
		return "", err
	}
	text, err := cmd.CombinedOutput()
	if err != nil {
		return string(text), fmt.Errorf("%s: %w\n%s", filepath.Base(p.argv[0]), err, tail(string(text), 12))
	}
	return string(text), nil
}

func lastLines(file string, n int) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return tail(string(text), n)
}

func tail(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func account(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}
