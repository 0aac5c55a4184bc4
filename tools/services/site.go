package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A site is where this run of the program works, and how.
type site struct {
	cache string // downloads, binaries, run folders, services.env
	root  string // the repository
	fsync bool
}

func newSite(getenv func(string) string) (site, error) {
	cache := getenv("STANCHION_CACHE")
	if cache == "" {
		home := getenv("HOME")
		if home == "" {
			return site{}, errors.New("neither STANCHION_CACHE nor HOME is set")
		}
		cache = filepath.Join(home, ".cache", "stanchion")
	}
	cache, err := filepath.Abs(cache)
	if err != nil {
		return site{}, err
	}
	root, err := repository()
	return site{cache: cache, root: root, fsync: true}, err
}

// repository finds the folder of the module from the working folder upwards.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "tools", "services", "consul", "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("run this inside the repository")
		}
		dir = parent
	}
}

// engines lists all recipes. Cassandra comes first because it takes longest.
func (s site) engines() []engine {
	return []engine{
		s.cassandra(),
		s.consul(),
		s.kafka(),
		s.postgres(),
		s.redis(),
		s.redisSentinel(),
		s.redisCluster(),
		s.browser(),
	}
}

func (s site) run(name string) string  { return filepath.Join(s.cache, "run", name) }
func (s site) kept(name string) string { return filepath.Join(s.cache, "kept", name) }
func (s site) envFile() string         { return filepath.Join(s.cache, "services.env") }

// writeEnv records the addresses of everything that is up, and nothing of what
// is given. Tests source the file, so it is replaced in one step.
func (s site) writeEnv() error {
	var text strings.Builder
	text.WriteString("# Addresses of the engines that tools/services has started.\n")
	for _, e := range s.engines() {
		_, err := os.Stat(filepath.Join(e.dir, "fingerprint"))
		if err != nil || e.alive() < len(e.processes) || s.given(e) {
			continue
		}
		for _, v := range e.env {
			fmt.Fprintf(&text, "%s=%s\n", v.name, quote(v.value))
		}
	}
	if err := os.MkdirAll(s.cache, 0o755); err != nil {
		return err
	}
	next := s.envFile() + ".next"
	if err := os.WriteFile(next, []byte(text.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(next, s.envFile())
}

func (s site) envLines() ([]string, error) {
	file, err := os.Open(s.envFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("no engine has been started yet; run: make services")
	} else if err != nil {
		return nil, err
	}
	defer file.Close()
	var lines []string
	scan := bufio.NewScanner(file)
	for scan.Scan() {
		if line := scan.Text(); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines, scan.Err()
}

// quote makes a value safe for the shell and leaves plain ones readable.
func quote(value string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("_-.,:/@%+=", r)
	}
	if value != "" && strings.IndexFunc(value, func(r rune) bool { return !plain(r) }) < 0 {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

// lock keeps two runs from starting or stopping the same engine at once. The
// kernel lets go of it however this program ends.
func lock(ctx context.Context, s site, out io.Writer) (unlock func(), err error) {
	if err := os.MkdirAll(s.cache, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(s.cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	told := false
	err = poll(ctx, 100*time.Millisecond, func() (bool, error) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			if !told {
				fmt.Fprintln(out, "another run of services is at work; waiting for it")
				told = true
			}
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return func() { file.Close() }, nil
}
