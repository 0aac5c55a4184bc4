package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/config"
)

// output is a writer that a test may read while the program writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// command runs one command line to its end.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs output
	err := run(t.Context(), args, nil, &out, &errs)
	code = exitCode(err, &errs)
	return code, out.String(), errs.String()
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommandLine(t *testing.T) {
	bad := write(t, "drain_timeout_s: -1\nlog: {level: loud}\n")
	demo := filepath.Join("..", "..", "config", "examples", "demo.yaml")
	split := filepath.Join("..", "..", "config", "examples", "split.yaml")
	for _, c := range []struct {
		args []string
		code int
		out  string // in what is said, on either stream
	}{
		{nil, 0, "Usage: stanchion"},
		{[]string{"--help"}, 0, "psp-simulator"},
		{[]string{"edge", "--help"}, 0, "--protect=URL"},
		{[]string{"version"}, 0, runtime.Version()},
		{[]string{"sing"}, 2, "unexpected argument sing"},
		{[]string{"edge", "--protekt=x"}, 2, "unknown flag --protekt"},
		{[]string{"edge", "--protect=nowhere"}, 2, `--protect: names no origin: "nowhere"`},
		{[]string{"edge", "--stores.rooms.engine=redis"}, 2, "stores.rooms.addresses: is needed by engine redis"},
		{[]string{"queue"}, 2, `stores.rooms.engine = "embedded": exists inside one process only, and role queue runs apart`},
		{[]string{"all", "--rooms.a.opening.opens_in_s=5"}, 2, "is for the demo only"},
		{[]string{"all", "--config=/does/not/exist.yaml"}, 2, `--config: cannot read "/does/not/exist.yaml": no such file or directory`},
		{[]string{"config", "reference"}, 0, "# Configuration reference"},
		{[]string{"config", "check"}, 0, "valid: defaults, environment and flags"},
		{[]string{"config", "check", "--config", bad}, 2, "drain_timeout_s = \"-1\": is out of range; allowed: 0 to 3600"},
		{[]string{"config", "check", "--config", bad}, 2, bad + ":2: log.level = \"loud\""},
		{[]string{"config", "check", "--config", bad, "--set", "log.levle=info"}, 2, "3 problems"},
		{[]string{"config", "check", "--config", split}, 0, "runs as: all, demo, edge, queue, core, inventory, admin, psp-simulator"},
		{[]string{"config", "check", "--config", split}, 0, "digest: sha256:"},
		{[]string{"config", "check", "--config", demo}, 0, "not as: all (rooms.onsale.opening.opens_in_s is for the demo only"},
		{[]string{"config", "check", "--config", demo, "--as", "queue"}, 2, "stores.settings.engine"},
		{[]string{"config", "check", "--as", "king"}, 2, "must be one of"},
	} {
		code, stdout, stderr := command(t, c.args...)
		if code != c.code || !strings.Contains(stdout+stderr, c.out) {
			t.Errorf("stanchion %s: exit %d, said:\n%s%s\nwant exit %d and %q", strings.Join(c.args, " "), code, stdout, stderr, c.code, c.out)
		}
	}
}

func TestEnvironmentAndFlagsReachTheConfiguration(t *testing.T) {
	var out output
	path := write(t, "node: from-file\n")
	err := run(t.Context(), []string{"config", "check"}, []string{"STANCHION_CONFIG=" + path, "STANCHION_LOG_LEVEL=loud"}, &out, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "STANCHION_LOG_LEVEL: log.level") {
		t.Errorf("a variable was not read: %v", err)
	}
	if err := run(t.Context(), []string{"config", "check", "--log.level=debug"}, []string{"STANCHION_CONFIG=" + path}, &out, io.Discard); err != nil || !strings.Contains(out.String(), "valid: "+path) {
		t.Errorf("%v, said %s", err, out.String())
	}
}

// taken is an address somebody else listens at.
func taken(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestTakenPortsAreNamed(t *testing.T) {
	a, b := taken(t), taken(t)
	dir := t.TempDir()
	code, _, stderr := command(t, "psp-simulator", "--data_dir", dir, "--listeners.operations.address="+a, "--listeners.provider.address="+b)
	for _, want := range []string{
		"listeners.operations.address: " + a + " is taken by another program; stop that one, or choose another with --listeners.operations.address=HOST:PORT",
		"listeners.provider.address: " + b + " is taken",
	} {
		if code != exitFailure || !strings.Contains(stderr, want) {
			t.Errorf("exit %d, said %s\nwant %q", code, stderr, want)
		}
	}
	unlock, err := lockDataDir(dir) // the failed start has given everything back
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

func TestPortErrors(t *testing.T) {
	_, err := listenAll(t.Context(), []port{{"public", config.Listener{Address: "192.0.2.1:0"}, "fans"}})
	if err == nil || !strings.Contains(err.Error(), "listeners.public.address: 192.0.2.1:0 is no address of this machine") {
		t.Errorf("%v", err)
	}
}

func TestDataDirHasOneOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	unlock, err := lockDataDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockDataDir(dir)
	want := fmt.Sprintf("data_dir: %s is in use by process %d; stop that one, or give this one another with --data_dir=DIR", dir, os.Getpid())
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	again, err := lockDataDir(dir)
	if err != nil {
		t.Fatalf("after it was given back: %v", err)
	}
	if err := again(); err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lockDataDir(file); err == nil || !strings.Contains(err.Error(), "choose another with --data_dir=DIR") {
		t.Errorf("a file as data_dir: %v", err)
	}
}

func TestWhoNeedsTheDataDir(t *testing.T) {
	shared, _, err := config.Load([]string{"--config", "../../config/examples/split.yaml"}, nil, os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	embedded, _, err := config.Load(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range config.AllRoles() {
		if needsDataDir(shared, []config.Role{role}) {
			t.Errorf("%s on shared engines needs data_dir", role)
		}
		if !needsDataDir(embedded, []config.Role{role}) {
			t.Errorf("%s on embedded engines needs no data_dir", role)
		}
	}
}

func TestPortsOfRoles(t *testing.T) {
	cfg, _, err := config.Load(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		roles []config.Role
		want  string
	}{
		{append(config.AllRoles(), config.PSPSimulator), "public console operations provider"},
		{config.AllRoles(), "public console operations"},
		{config.ProtectRoles(), "public console operations"},
		{[]config.Role{config.EdgeRole}, "public operations"},
		{[]config.Role{config.QueueRole}, "operations internal"},
		{[]config.Role{config.CoreRole}, "operations internal"},
		{[]config.Role{config.AdminRole}, "console operations"},
		{[]config.Role{config.PSPSimulator}, "operations provider"},
	} {
		var got []string
		for _, p := range ports(cfg, c.roles) {
			got = append(got, p.name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v open %v, want %s", c.roles, got, c.want)
		}
	}
}

func TestAddressesForPeople(t *testing.T) {
	for _, c := range []struct {
		tls  bool
		addr string
		want string
	}{{false, "127.0.0.1:80", "http://127.0.0.1:80"}, {true, "[::1]:443", "https://[::1]:443"}, {false, "0.0.0.0:80", "http://localhost:80"}, {false, "[::]:80", "http://localhost:80"}} {
		p := port{}
		if c.tls {
			p.TLS.CertFile = "x"
		}
		a, err := net.ResolveTCPAddr("tcp", c.addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.url(a); got != c.want {
			t.Errorf("%s is shown as %s, want %s", c.addr, got, c.want)
		}
	}
}

// TestRunUntilToldToStop starts a real role, asks its operations listener, and stops it.
func TestRunUntilToldToStop(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var stdout, stderr output
	ended := make(chan error, 1)
	dir := t.TempDir()
	go func() {
		ended <- run(ctx, []string{"psp-simulator", "--data_dir=" + dir, "--listeners.operations.address=127.0.0.1:0", "--listeners.provider.address=127.0.0.1:0"}, nil, &stdout, &stderr)
	}()
	address := regexp.MustCompile(`metrics and health +(http://127\.0\.0\.1:\d+)`)
	var base string
	eventually(t, ended, func() bool {
		m := address.FindStringSubmatch(stdout.String())
		if m == nil {
			return false
		}
		base = m[1]
		response, err := http.Get(base + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	for path, want := range map[string]string{"/healthz": "ok", "/metrics": "stanchion_build_info", "/config": "data_dir: " + dir, "/debug/": "/debug/pprof/"} {
		response, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err := errors.Join(err, response.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d, lacks %q", path, response.StatusCode, want)
		}
	}
	code, _, said := command(t, "psp-simulator", "--data_dir="+dir, "--listeners.operations.address=127.0.0.1:0", "--listeners.provider.address=127.0.0.1:0")
	if code != exitFailure || !strings.Contains(said, fmt.Sprintf("%s is in use by process %d", dir, os.Getpid())) {
		t.Errorf("a second process on the same data_dir: exit %d, %s", code, said)
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("ended with %v\n%s", err, stderr.String())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("did not stop")
	}
	if !strings.Contains(stderr.String(), "msg=stopped took=") {
		t.Errorf("the stop was not logged with its duration:\n%s", stderr.String())
	}
	if _, err := http.Get(base + "/healthz"); err == nil {
		t.Error("still answers after the stop")
	}
}

// eventually polls until ok, the program ends, or ten seconds have gone.
func eventually(t *testing.T, ended <-chan error, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case err := <-ended:
			t.Fatalf("the program ended: %v", err)
		case <-deadline:
			t.Fatal("did not become ready")
		case <-tick.C:
		}
	}
}

func TestReload(t *testing.T) {
	load := func(yaml string) func() (config.Config, config.Report, error) {
		return func() (config.Config, config.Report, error) {
			return config.Load([]string{"--config=c.yaml"}, nil, func(string) ([]byte, error) { return []byte(yaml), nil })
		}
	}
	const base = "upstreams: {a: {targets: ['http://a:1']}}\nroutes: [{upstream: a}]\n"
	for _, c := range []struct {
		name, yaml string
		apply      error
		err        string
		log        string
		level      slog.Level
	}{
		{"nothing", base, nil, "", "nothing changed", slog.LevelInfo},
		{"hot", base + "log: {level: debug}", nil, "", "key=log.level was=info now=debug", slog.LevelDebug},
		{"cold", base + "node: b\nlog: {level: debug}", nil, "c.yaml:3: node = b: cannot change while the program runs (now ); restart, or take it back", "", slog.LevelInfo},
		{"broken", "node: [", nil, "is not valid YAML", "", slog.LevelInfo},
		{"refused by a role", base + "log: {level: debug}", errors.New("room onsale: no"), "room onsale: no", "", slog.LevelInfo},
	} {
		before, _, err := load(base)()
		if err != nil {
			t.Fatal(err)
		}
		var logs output
		l := &launch{log: slog.New(slog.NewTextHandler(&logs, nil)), level: new(slog.LevelVar), current: new(atomic.Pointer[config.Config]), reload: load(c.yaml)}
		l.current.Store(&before)
		err = l.reloadOnce(func(config.Config) error { return c.apply })
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
		if !strings.Contains(logs.String(), c.log) || l.level.Level() != c.level {
			t.Errorf("%s: level %s, log %s", c.name, l.level.Level(), logs.String())
		}
		if (l.current.Load().Digest() == before.Digest()) != (err != nil || c.name == "nothing") {
			t.Errorf("%s: the configuration in force is not what it should be", c.name)
		}
	}
}
