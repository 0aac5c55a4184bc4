package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"
)

// readyDeadline is how long a started engine may take to answer. Cassandra is
// up in 4 s on a quiet machine; a busy one can take ten times as long.
const readyDeadline = 90 * time.Second

// An engine is the whole recipe for one real server, or for a small group of
// servers that only make sense together. The recipe is mostly data: the
// functions exist where a server needs a step of its own.
type engine struct {
	name      string
	version   string
	onRequest bool // started only when named
	dir       string
	needs     []tool
	listens   []string                    // host:port of everything that will listen
	files     map[string]string           // name in dir to content, written anew before each start
	obtain    func(context.Context) error // download or build, once per machine
	prepare   func(context.Context) error // after files are written, before the processes start
	processes []process
	setup     func(context.Context) error // after the processes have started
	ready     func(context.Context) error // nil when the engine does real work
	env       []variable                  // for the tests; the first decides whether the engine is given
}

type variable struct{ name, value string }

// A state is what an engine is found in.
type state string

const (
	off     state = "off"
	running state = "running"
	given   state = "given"
	broken  state = "broken" // some process gone, not answering, or another configuration
)

// fingerprint changes whenever the recipe does, so that a server started from
// an older recipe is never taken for the one asked for.
func (e engine) fingerprint() string {
	var argv [][]string
	for _, p := range e.processes {
		argv = append(argv, p.argv)
	}
	text, err := json.Marshal(map[string]any{"version": e.version, "files": e.files, "argv": argv})
	if err != nil {
		panic(err) // strings and maps of strings always marshal
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func (e engine) missing() []tool {
	var out []tool
	for _, t := range e.needs {
		if _, err := find(t.program); err != nil {
			out = append(out, t)
		}
	}
	return out
}

func (s site) given(e engine) bool {
	return os.Getenv(e.env[0].name) != "" && !s.ours(e)
}

// alive counts the processes of the engine that run.
func (e engine) alive() int {
	n := 0
	for _, p := range e.processes {
		if _, ok := recall(e.dir, p.name); ok {
			n++
		}
	}
	return n
}

// ended describes the first process that should run and does not.
func (e engine) ended() error {
	for _, p := range e.processes {
		if _, ok := recall(e.dir, p.name); !ok {
			return fmt.Errorf("%s has ended; its log says:\n%s", p.name, lastLines(p.logFile(e.dir), 12))
		}
	}
	return nil
}

// ours reports whether the variable in the environment is merely our own
// services.env, sourced by the caller.
func (s site) ours(e engine) bool {
	return os.Getenv(e.env[0].name) == e.env[0].value
}

func (s site) value(e engine) string {
	if s.given(e) {
		return os.Getenv(e.env[0].name)
	}
	return e.env[0].value
}

func (s site) state(ctx context.Context, e engine) (state, error) {
	if s.given(e) {
		return given, nil
	}
	mark, err := os.ReadFile(filepath.Join(e.dir, "fingerprint"))
	if errors.Is(err, os.ErrNotExist) {
		return off, nil
	} else if err != nil {
		return broken, err
	}
	alive := e.alive()
	switch {
	case len(e.processes) > 0 && alive == 0:
		return off, nil
	case alive < len(e.processes):
		return broken, fmt.Errorf("%d of %d processes run", alive, len(e.processes))
	case string(mark) != e.fingerprint():
		return broken, errors.New("it runs with another configuration")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := e.ready(ctx); err != nil {
		return broken, err
	}
	return running, nil
}

// bringUp leaves the engine answering, or says why it cannot. It returns how
// it came to be up.
func (s site) bringUp(ctx context.Context, e engine, install func() error, out io.Writer) (string, error) {
	found, why := s.state(ctx, e)
	switch found {
	case given:
		return "given", nil
	case running:
		return "running", nil
	case broken:
		report(out, e, "restart", why.Error())
	}
	if _, err := s.bringDown(ctx, e); err != nil {
		return "", err
	}
	for _, address := range e.listens {
		if err := free(address); err != nil {
			return "", fmt.Errorf("%w; stop that program, or set %s to use it", err, e.env[0].name)
		}
	}
	if len(e.missing()) > 0 {
		if err := install(); err != nil {
			return "", err
		}
	}
	if e.obtain != nil {
		if err := e.obtain(ctx); err != nil {
			return "", fmt.Errorf("obtain: %w", err)
		}
	}
	if err := s.start(ctx, e); err != nil {
		_, stopErr := s.bringDown(context.WithoutCancel(ctx), e) // its logs stay
		return "", errors.Join(err, stopErr)
	}
	return "started", nil
}

func (s site) start(ctx context.Context, e engine) error {
	if err := freshFolder(e.dir, e.files); err != nil {
		return err
	}
	if e.prepare != nil {
		if err := e.prepare(ctx); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(e.dir, "fingerprint"), []byte(e.fingerprint()), 0o644); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyDeadline)
	defer cancel()
	for _, p := range e.processes {
		if p.after != nil {
			if err := until(ctx, p.after); err != nil {
				return fmt.Errorf("before %s can start: %w", p.name, err)
			}
		}
		if err := p.start(e.dir); err != nil {
			return err
		}
	}
	if e.setup != nil {
		if err := e.setup(ctx); err != nil {
			return fmt.Errorf("set up: %w", err)
		}
	}
	return poll(ctx, 50*time.Millisecond, func() (bool, error) {
		if err := e.ended(); err != nil {
			return false, err
		}
		if err := e.ready(ctx); err != nil {
			return false, retry{fmt.Errorf("not ready: %w; logs are in %s", err, e.dir)}
		}
		return true, nil
	})
}

// until calls check until it returns nil or ctx ends.
func until(ctx context.Context, check func(context.Context) error) error {
	return poll(ctx, 50*time.Millisecond, func() (bool, error) {
		if err := check(ctx); err != nil {
			return false, retry{err}
		}
		return true, nil
	})
}

// bringDown stops the processes of the engine that this program has started,
// and returns how many there were.
func (s site) bringDown(ctx context.Context, e engine) (stopped int, err error) {
	for _, p := range e.processes {
		ok, err := p.stop(ctx, e.dir)
		if err != nil {
			return stopped, fmt.Errorf("stop %s: %w", p.name, err)
		}
		if ok {
			stopped++
		}
	}
	err = os.Remove(filepath.Join(e.dir, "fingerprint"))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return stopped, err
}

// freshFolder empties dir and writes the files into it: every start of an
// engine is its first, so no test can lean on what an earlier one left.
func freshFolder(dir string, files map[string]string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func free(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("%s is taken: %w", address, err)
	}
	return listener.Close()
}

// retry marks an error that poll may see again and again until its deadline.
type retry struct{ error }

func (r retry) Unwrap() error { return r.error }

// poll calls check until it reports true, returns an error that is not a
// retry, or ctx ends; then the last error says what was still wrong.
func poll(ctx context.Context, every time.Duration, check func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		done, err := check()
		var again retry
		switch {
		case done:
			return nil
		case err != nil && !errors.As(err, &again):
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-ticker.C:
		}
	}
}
