package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func testSite(t *testing.T) site {
	t.Helper()
	root, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	return site{cache: t.TempDir(), root: root, fsync: true}
}

func TestRecipesDoNotCollide(t *testing.T) {
	names, listens, variables := map[string]string{}, map[string]string{}, map[string]string{}
	claim := func(what map[string]string, key, by string) {
		if other, taken := what[key]; taken {
			t.Errorf("%s and %s both claim %s", other, by, key)
		}
		what[key] = by
	}
	for _, e := range testSite(t).engines() {
		claim(names, e.name, e.name)
		for _, address := range e.listens {
			claim(listens, address, e.name)
			if !strings.HasPrefix(address, "127.") {
				t.Errorf("%s listens on %s, which is not loopback", e.name, address)
			}
		}
		if len(e.env) == 0 {
			t.Errorf("%s tells the tests no address", e.name)
		}
		for _, v := range e.env {
			claim(variables, v.name, e.name)
			if !strings.HasPrefix(v.name, "STANCHION_TEST_") {
				t.Errorf("%s sets %s", e.name, v.name)
			}
		}
		if e.ready == nil || e.dir == "" || e.version == "" {
			t.Errorf("%s is incomplete", e.name)
		}
		processes := map[string]string{}
		for _, p := range e.processes {
			claim(processes, p.name, e.name+"/"+p.name)
		}
	}
}

func TestConfigurationIsFilledIn(t *testing.T) {
	for _, e := range testSite(t).engines() {
		for name, content := range e.files {
			for line := range strings.Lines(content) {
				if strings.Contains(line, "@") && !strings.HasPrefix(line, "controller.quorum.voters=1@127.0.0.1:") {
					t.Errorf("%s: %s still has a placeholder: %s", e.name, name, line)
				}
			}
		}
	}
}

func TestFill(t *testing.T) {
	if got := fill("1@@A@ @B@ @C@ a@b", "A", "x", "B", "y"); got != "1@x y @C@ a@b" {
		t.Errorf("got %q", got)
	}
}

func TestFingerprintFollowsTheRecipe(t *testing.T) {
	s := testSite(t)
	before := s.postgres().fingerprint()
	if before != s.postgres().fingerprint() {
		t.Error("the same recipe has two fingerprints")
	}
	s.fsync = false
	if before == s.postgres().fingerprint() {
		t.Error("turning fsync off does not change the fingerprint")
	}
}

func TestChoose(t *testing.T) {
	all := []engine{{name: "a"}, {name: "b"}, {name: "c", onRequest: true}}
	tests := []struct {
		wanted   []string
		starting bool
		want     []string
		err      string
	}{
		{nil, true, []string{"a", "b"}, ""},
		{nil, false, []string{"a", "b", "c"}, ""},
		{[]string{"c", "a"}, true, []string{"c", "a"}, ""},
		{[]string{"a", "x"}, true, nil, `no engine is called "x"; there are: a b c`},
		{[]string{"a", "a"}, true, nil, `"a" is named twice`},
	}
	for _, test := range tests {
		got, err := choose(all, test.wanted, test.starting)
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("%v: error %v", test.wanted, err)
			}
			continue
		}
		if err != nil || !slices.Equal(names(got), test.want) {
			t.Errorf("%v: got %v, %v", test.wanted, names(got), err)
		}
	}
}

func TestUnknownCommandIsRefused(t *testing.T) {
	t.Setenv("STANCHION_CACHE", t.TempDir())
	for _, args := range [][]string{{}, {"start"}, {"up", "-nosuch"}, {"up", "oracle"}} {
		if err := run(t.Context(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

func TestParseBirth(t *testing.T) {
	line := func(state, threads string) string {
		return "42 (a) b (c) " + state + " 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 " + threads + " 0 98765 11 12"
	}
	for _, running := range []string{line("S", "1"), line("R", "9"), line("Z", "3")} {
		if got, err := parseBirth(running); err != nil || got != "98765" {
			t.Errorf("%q: got %q, %v", running, got, err)
		}
	}
	for _, gone := range []string{line("Z", "1"), line("Z", "0"), line("X", "0")} {
		if _, err := parseBirth(gone); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("%q: got %v", gone, err)
		}
	}
	for _, garbage := range []string{"", "42", "42 (a) S 1 2"} {
		if _, err := parseBirth(garbage); err == nil {
			t.Errorf("%q is accepted", garbage)
		}
	}
}

func TestProcessIsStartedOnceAndStoppedByRecord(t *testing.T) {
	dir := t.TempDir()
	p := process{name: "sleeper", argv: []string{"sleep", "600"}}
	if err := p.start(dir); err != nil {
		t.Fatal(err)
	}
	pid, alive := recall(dir, p.name)
	if !alive {
		t.Fatal("a started process is not remembered")
	}
	if stopped, err := p.stop(t.Context(), dir); !stopped || err != nil {
		t.Fatalf("stop: %v, %v", stopped, err)
	}
	if _, err := birth(pid); err == nil {
		t.Error("the process still runs")
	}
	if stopped, err := p.stop(t.Context(), dir); stopped || err != nil {
		t.Errorf("a second stop: %v, %v", stopped, err)
	}
}

func TestForeignProcessIsNeverStopped(t *testing.T) {
	dir := t.TempDir()
	p := process{name: "server", argv: []string{"sleep", "600"}}
	if err := p.start(dir); err != nil {
		t.Fatal(err)
	}
	record, err := os.ReadFile(pidFile(dir, p.name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(pidFile(dir, p.name), record, 0o644); err != nil {
			t.Error(err)
		}
		if stopped, err := p.stop(context.Background(), dir); !stopped || err != nil {
			t.Errorf("the process was gone: %v, %v", stopped, err)
		}
	}()
	pid := strings.Fields(string(record))[0]
	for _, record := range []string{pid + " 1\n", pid + "\n", "1 1\n", "-1 1\n", "0 1\n", "x y\n", ""} {
		if err := os.WriteFile(pidFile(dir, p.name), []byte(record), 0o644); err != nil {
			t.Fatal(err)
		}
		if stopped, err := p.stop(t.Context(), dir); stopped || err != nil {
			t.Errorf("record %q: %v, %v", record, stopped, err)
		}
	}
}

func TestStopPrefersTheGentleSignal(t *testing.T) {
	dir := t.TempDir()
	said := filepath.Join(dir, "said")
	ready := filepath.Join(dir, "ready")
	p := process{name: "gentle", quit: syscall.SIGTERM}
	p.argv = []string{"bash", "-c", "trap 'echo bye >" + said + "; kill $!; exit' TERM; sleep 600 & echo >" + ready + "; wait"}
	if err := p.start(dir); err != nil {
		t.Fatal(err)
	}
	exists := func(context.Context) error { _, err := os.Stat(ready); return err }
	if err := until(t.Context(), exists); err != nil {
		t.Fatal(err)
	}
	if stopped, err := p.stop(t.Context(), dir); !stopped || err != nil {
		t.Fatalf("stop: %v, %v", stopped, err)
	}
	if _, err := os.Stat(said); err != nil {
		t.Error("the process had no chance to say goodbye")
	}
}

// fake is an engine of one process that does nothing, ready when wanted.
func fake(t *testing.T, s site, ready func(context.Context) error) engine {
	e := engine{
		name: "fake", version: "1", dir: s.run("fake"), ready: ready,
		processes: []process{{name: "fake", argv: []string{"sleep", "600"}}},
		files:     map[string]string{"conf": "a"},
		env:       []variable{{"STANCHION_TEST_FAKE", "127.0.0.1:1"}},
	}
	t.Cleanup(func() {
		if _, err := s.bringDown(context.Background(), e); err != nil {
			t.Error(err)
		}
	})
	return e
}

func willing(context.Context) error { return nil }

func noInstall() error { return errors.New("nothing should be installed here") }

func TestBringUpReusesWhatRuns(t *testing.T) {
	s := testSite(t)
	e := fake(t, s, willing)
	bring := func(e engine, want string) int {
		t.Helper()
		how, err := s.bringUp(t.Context(), e, noInstall, &bytes.Buffer{})
		if err != nil || how != want {
			t.Fatalf("got %q, %v; want %q", how, err, want)
		}
		pid, alive := recall(e.dir, "fake")
		if !alive {
			t.Fatal("nothing runs")
		}
		return pid
	}
	first := bring(e, "started")
	if again := bring(e, "running"); again != first {
		t.Error("a healthy engine was started anew")
	}
	e.files = map[string]string{"conf": "b"}
	if third := bring(e, "started"); third == first {
		t.Error("a changed recipe kept the old process")
	}
	if n, err := s.bringDown(t.Context(), e); n != 1 || err != nil {
		t.Errorf("down: %d, %v", n, err)
	}
	if found, err := s.state(t.Context(), e); found != off || err != nil {
		t.Errorf("after down: %s, %v", found, err)
	}
}

func TestBringUpRestartsWhatIsHalfDead(t *testing.T) {
	s := testSite(t)
	e := fake(t, s, willing)
	e.processes = append(e.processes, process{name: "second", argv: []string{"sleep", "600"}})
	if _, err := s.bringUp(t.Context(), e, noInstall, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	defer s.bringDown(context.Background(), e)
	if _, err := e.processes[1].stop(t.Context(), e.dir); err != nil {
		t.Fatal(err)
	}
	if found, _ := s.state(t.Context(), e); found != broken {
		t.Errorf("half dead is %q", found)
	}
	if how, err := s.bringUp(t.Context(), e, noInstall, &bytes.Buffer{}); how != "started" || err != nil {
		t.Errorf("got %q, %v", how, err)
	}
	if e.alive() != 2 {
		t.Errorf("%d processes run", e.alive())
	}
}

func TestFailedStartSaysWhyAndLeavesNothing(t *testing.T) {
	s := testSite(t)
	e := fake(t, s, func(context.Context) error { return errors.New("not yet") })
	e.processes = []process{{name: "fake", argv: []string{"sh", "-c", "echo cannot open the door; exit 3"}}}
	_, err := s.bringUp(t.Context(), e, noInstall, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "cannot open the door") {
		t.Errorf("got %v", err)
	}

	e.processes = []process{{name: "fake", argv: []string{"sleep", "600"}}}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = s.bringUp(ctx, e, noInstall, &bytes.Buffer{})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "not ready: not yet") {
		t.Errorf("got %v", err)
	}
	if e.alive() != 0 {
		t.Error("an engine that never got ready still runs")
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	s := testSite(t)
	e := fake(t, s, willing)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	taken := listener.Addr().String()
	e.listens = []string{taken}
	_, err = s.bringUp(t.Context(), e, noInstall, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), taken+" is taken") || !strings.Contains(err.Error(), "set STANCHION_TEST_FAKE to use it") {
		t.Errorf("got %v", err)
	}
}

func TestGivenEngineIsLeftAlone(t *testing.T) {
	s := testSite(t)
	e := fake(t, s, func(context.Context) error { return errors.New("must not be asked") })
	t.Setenv("STANCHION_TEST_FAKE", "10.0.0.7:6379")
	if how, err := s.bringUp(t.Context(), e, noInstall, &bytes.Buffer{}); how != "given" || err != nil {
		t.Errorf("got %q, %v", how, err)
	}
	if e.alive() != 0 {
		t.Error("a given engine was started")
	}
	// Our own address, from a sourced services.env, is not a given engine.
	t.Setenv("STANCHION_TEST_FAKE", "127.0.0.1:1")
	if s.given(e) {
		t.Error("our own address counts as given")
	}
}

func TestMissingToolsAreInstalledOnlyWhenMissing(t *testing.T) {
	s := testSite(t)
	e := fake(t, s, willing)
	e.needs = []tool{{"sh", "dash"}}
	if _, err := s.bringUp(t.Context(), e, noInstall, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	e.version = "2"
	e.needs = []tool{{"no-such-program-here", "no-such-package"}}
	asked := errors.New("asked")
	if _, err := s.bringUp(t.Context(), e, func() error { return asked }, &bytes.Buffer{}); !errors.Is(err, asked) {
		t.Errorf("got %v", err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "java-17-amd64", "java")
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := find(dir + "/java-17-*/java"); got != program || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	for _, absent := range []string{dir + "/java-21-*/java", "no-such-program-here"} {
		if got, err := find(absent); err == nil {
			t.Errorf("found %q at %q", absent, got)
		}
	}
}

func TestInstallCommand(t *testing.T) {
	got := strings.Join(installCommand([]string{"maven", "nginx"}), " ")
	if got != "apt-get install -y --no-install-recommends maven nginx" {
		t.Errorf("got %q", got)
	}
	if got := programs([]tool{{"/usr/bin/b", ""}, {"a", ""}, {"/opt/b", ""}}); got != "a, b" {
		t.Errorf("got %q", got)
	}
}

func TestQuote(t *testing.T) {
	tests := map[string]string{
		"127.0.0.1:16390":          "127.0.0.1:16390",
		"a,b":                      "a,b",
		"postgres://u@h/d?a=b&c=d": "'postgres://u@h/d?a=b&c=d'",
		"it's":                     `'it'\''s'`,
		"two words":                "'two words'",
		"$HOME":                    "'$HOME'",
		"":                         "''",
	}
	for value, want := range tests {
		if got := quote(value); got != want {
			t.Errorf("%q: got %s", value, got)
		}
		text, err := output(t.Context(), "", "sh", "-c", "v="+quote(value)+"; printf %s \"$v\"")
		if err != nil || text != value {
			t.Errorf("%q: the shell reads %q, %v", value, text, err)
		}
	}
}

func TestEnvFileHoldsWhatRuns(t *testing.T) {
	s := testSite(t)
	if _, err := s.envLines(); err == nil || !strings.Contains(err.Error(), "make services") {
		t.Errorf("without a file: %v", err)
	}
	// The browser has no process: being set up is enough. Nothing else is up.
	e := s.browser()
	if err := freshFolder(e.dir, map[string]string{"fingerprint": e.fingerprint()}); err != nil {
		t.Fatal(err)
	}
	if err := freshFolder(s.run("redis"), map[string]string{"fingerprint": "left by a crash", "redis.pid": "1 1"}); err != nil {
		t.Fatal(err)
	}
	if err := s.writeEnv(); err != nil {
		t.Fatal(err)
	}
	lines, err := s.envLines()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"STANCHION_TEST_CHROMIUM=/usr/bin/chromium",
		"STANCHION_TEST_NODE_MODULES=" + quote(filepath.Join(s.root, "tools", "browser", "node_modules")),
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got %q", lines)
	}
}

func TestNewSite(t *testing.T) {
	env := map[string]string{}
	get := func(name string) string { return env[name] }
	if _, err := newSite(get); err == nil {
		t.Error("no place for the cache, and no error")
	}
	env["HOME"] = "/srv/x"
	if s, err := newSite(get); err != nil || s.cache != "/srv/x/.cache/stanchion" {
		t.Errorf("got %q, %v", s.cache, err)
	}
	env["STANCHION_CACHE"] = "/var/cache/st"
	if s, err := newSite(get); err != nil || s.cache != "/var/cache/st" {
		t.Errorf("got %q, %v", s.cache, err)
	}
}

func TestOneRunAtATime(t *testing.T) {
	s := testSite(t)
	unlock, err := lock(t.Context(), s, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var said bytes.Buffer
	if _, err := lock(ctx, s, &said); !errors.Is(err, context.DeadlineExceeded) || said.Len() == 0 {
		t.Errorf("a second run got the lock: %v, said %q", err, said.String())
	}
	unlock()
	unlock, err = lock(t.Context(), s, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestParseSums(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	got, err := parseSums(a + "  x.jar\n" + b + "  y.jar\n")
	if err != nil || len(got) != 2 || got["x.jar"] != a || got["y.jar"] != b {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", a, "abc x.jar", a + " x.jar z\n", a + " x.jar\n" + b + " x.jar\n"} {
		if _, err := parseSums(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	for name, committed := range map[string]string{"kafka": kafkaSums, "cassandra": cassandraSums} {
		if _, err := parseSums(committed); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckJars(t *testing.T) {
	const sumOfA = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.jar"), []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := checkJars(dir, map[string]string{"a.jar": sumOfA}); err != nil {
		t.Error(err)
	}
	tests := map[string]map[string]string{
		"a.jar has checksum " + sumOfA: {"a.jar": strings.Repeat("0", 64)},
		"a.jar is not listed":          {"b.jar": sumOfA},
		"b.jar is missing":             {"a.jar": sumOfA, "b.jar": sumOfA},
	}
	for want, sums := range tests {
		if err := checkJars(dir, sums); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if err := checkJars(filepath.Join(dir, "absent"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestPoll(t *testing.T) {
	calls := 0
	err := poll(t.Context(), time.Millisecond, func() (bool, error) {
		calls++
		return calls == 3, retry{errors.New("again")}
	})
	if err != nil || calls != 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
	final := errors.New("final")
	if err := poll(t.Context(), time.Millisecond, func() (bool, error) { return false, final }); err != final {
		t.Errorf("got %v", err)
	}
}

func TestOutputCarriesTheLastLines(t *testing.T) {
	_, err := output(t.Context(), "", "sh", "-c", "seq 1 40; exit 4")
	if err == nil || !strings.HasSuffix(err.Error(), "39\n40") || strings.Contains(err.Error(), "\n28\n") {
		t.Errorf("got %v", err)
	}
	if got := tail("a\nb\nc\n", 2); got != "b\nc" {
		t.Errorf("got %q", got)
	}
}

func TestNewEnough(t *testing.T) {
	for version, want := range map[string]bool{"v20.20.2\n": true, "v22.0.0": true, "v18.19.0\n": false, "": false, "20": true, "vx": false} {
		if newEnough(version) != want {
			t.Errorf("%q: got %v", version, !want)
		}
	}
}
