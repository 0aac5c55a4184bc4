//go:build ui

package journeys

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"crypto/ed25519"

	"github.com/makiuchi-d/gozxing"
	zxing "github.com/makiuchi-d/gozxing/qrcode"

	"github.com/stanchion-queue/stanchion/core/ticketing"
	"github.com/stanchion-queue/stanchion/pass/keyring"
)

const (
	root      = "../.."
	artifacts = root + "/artifacts/journeys" // pictures of every step; not kept in the repository
	patience  = 3 * time.Minute              // the longest that one journey may take
)

var (
	program           string // the built stanchion
	chromium, modules string
	slowness          time.Duration // what warmup.js takes here and now
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	for name, v := range map[string]*string{"STANCHION_TEST_CHROMIUM": &chromium, "STANCHION_TEST_NODE_MODULES": &modules} {
		if *v = os.Getenv(name); *v == "" {
			fmt.Fprintf(os.Stderr, "%s is not set: run make ui, or eval \"$(go run ./tools/services env)\"\n", name)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "stanchion-ui-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder; what is left of it does no harm
	program = filepath.Join(dir, "stanchion")
	build := exec.Command("go", "build", "-o", program, "./cmd/stanchion")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		return 1
	}
	began := time.Now()
	warm := exec.Command("node", "warmup.js")
	warm.Env = append(os.Environ(), "NODE_PATH="+modules, "JOURNEY_BASE=none", "JOURNEY_OUT="+dir)
	if out, err := warm.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "start the browser: %v\n%s", err, out)
		return 1
	}
	slowness = time.Since(began)
	return m.Run()
}

// demo is a running `stanchion demo` on free ports and a folder of its own.
type demo struct {
	fans, console, operations, provider, login string
	data                                       string
	log                                        *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var printed = regexp.MustCompile(`^  (fans|operators|metrics and health|payment provider simulator|operators sign in here) +(http://\S+)$`)

// startDemo starts the demo and waits until it is ready. It is stopped, and must stop cleanly, with the test.
func startDemo(t *testing.T, flags ...string) *demo {
	t.Helper()
	d := &demo{data: t.TempDir(), log: &lockedBuffer{}}
	args := []string{"demo", "--data_dir=" + d.data}
	for _, l := range []string{"public", "console", "operations", "provider"} {
		args = append(args, "--listeners."+l+".address=127.0.0.1:0")
	}
	cmd := exec.Command(program, append(args, flags...)...)
	for _, e := range os.Environ() { // a variable of the tests would be taken for a setting
		if !strings.HasPrefix(e, "STANCHION_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, d.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		_ = w.Close() // never fails
		ended <- err
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the demo ended with %v", err)
			}
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill() // it is our own child
			t.Error("the demo did not stop in 30 s")
		}
		if t.Failed() {
			t.Logf("the demo logged:\n%s", tail(d.log.String(), 60))
		}
	})
	found := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(io.TeeReader(r, d.log))
		n := 0
		for lines.Scan() {
			m := printed.FindStringSubmatch(lines.Text())
			if m == nil {
				continue
			}
			*map[string]*string{"fans": &d.fans, "operators": &d.console, "metrics and health": &d.operations, "payment provider simulator": &d.provider,
				"operators sign in here": &d.login}[m[1]] = m[2]
			if n++; n == 5 {
				close(found)
			}
		}
	}()
	select {
	case <-found:
	case <-time.After(30 * time.Second):
		t.Fatalf("the demo printed no addresses:\n%s", d.log)
	}
	await(t, "the demo to be ready", func() bool {
		res, err := http.Get(d.operations + "/readyz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return d
}

func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(30 * time.Second)
	for !f() {
		if time.Now().After(end) {
			t.Fatalf("waited 30 s for %s", what)
		}
		<-tick.C
	}
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(len(all)-lines, 0):], "\n")
}

// walk runs a journey in the browser and decodes what it reports at its end.
func (d *demo) walk(t *testing.T, script string, report any) {
	t.Helper()
	out, err := filepath.Abs(filepath.Join(artifacts, strings.ReplaceAll(t.Name(), "/", "-")))
	if err == nil {
		err = errors.Join(os.RemoveAll(out), os.MkdirAll(out, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", script)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules, "JOURNEY_BASE="+d.fans, "JOURNEY_CONSOLE="+d.console, "JOURNEY_LOGIN="+d.login, "JOURNEY_OUT="+out)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = 5 * time.Second
	stdout, err := cmd.Output()
	lines := strings.Split(strings.TrimSpace(string(stdout)), "\n")
	for _, l := range lines[:len(lines)-1] {
		t.Log(l)
	}
	last := lines[len(lines)-1]
	if err != nil {
		t.Fatalf("node %s: %v (%v)\n%s\n%s", script, err, ctx.Err(), last, stderr.String())
	}
	if err := json.Unmarshal([]byte(last), report); err != nil {
		t.Fatalf("node %s reports %q: %v", script, last, err)
	}
}

// bought is what a fan's journey reports.
type bought struct {
	Places  []int    // people ahead, as the fan saw it
	Seats   []string // names on the tickets
	Tickets []string // addresses of their pictures
	Order   string   // address of the order's page
}

// check holds what a fan has in the hand to what a gate accepts: the picture is read as a scanner does and its signature verified
// with the public key of the installation alone.
func (b bought) check(t *testing.T, d *demo) {
	t.Helper()
	ring, err := keyring.Load(filepath.Join(d.data, "keys"), keyring.Options{Now: time.Now(), Keep: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	gate := ticketing.NewCodes(0, nil, map[uint8]ed25519.PublicKey{1: ring.Entry.Public().(ed25519.PublicKey)})
	if len(b.Tickets) != 2 || len(b.Seats) != 2 {
		t.Fatalf("bought %+v, want two tickets", b)
	}
	units := map[uint32]bool{}
	for _, address := range b.Tickets {
		res, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(res.Body)
		_ = res.Body.Close()
		if err != nil {
			t.Fatalf("%s: %v", address, err)
		}
		bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
		if err != nil {
			t.Fatal(err)
		}
		code, err := zxing.NewQRCodeReader().Decode(bitmap, nil)
		if err != nil {
			t.Fatalf("no scanner reads %s: %v", address, err)
		}
		ticket, err := gate.Parse(code.GetText())
		if err != nil {
			t.Fatalf("the gate refuses %s: %v", address, err)
		}
		if !strings.Contains(address, ticket.ID.String()) || units[ticket.Unit] {
			t.Errorf("the picture at %s is that of ticket %s, unit %d", address, ticket.ID, ticket.Unit)
		}
		units[ticket.Unit] = true
	}
	t.Logf("people ahead: %v; seats: %v", b.Places, b.Seats)
}

// adjacent fails unless the two seats have neighbouring numbers in one row of the stalls.
func (b bought) adjacent(t *testing.T) {
	t.Helper()
	var row [2]string
	var number [2]int
	for i, s := range b.Seats {
		if _, err := fmt.Sscanf(s, "Stalls, row %1s, seat %d", &row[i], &number[i]); err != nil {
			t.Fatalf("seat %q: %v", s, err)
		}
	}
	if row[0] != row[1] || number[1]-number[0] != 1 && number[0]-number[1] != 1 {
		t.Errorf("%s and %s are not neighbours", b.Seats[0], b.Seats[1])
	}
}

// shrank fails unless the number of people ahead was seen to fall, and never to rise.
func (b bought) shrank(t *testing.T) {
	t.Helper()
	for i := 1; i < len(b.Places); i++ {
		if b.Places[i] > b.Places[i-1] {
			t.Errorf("the place got worse: %v", b.Places)
		}
	}
	if len(b.Places) < 2 || b.Places[0] == 0 {
		t.Errorf("the place was not seen to shrink: %v", b.Places)
	}
}

// crowd is a slow on-sale with enough fans in its lobby that a place takes some seconds to come up. It opens when our fans have had
// the time to come in and look around, which on a busy machine is later.
func crowd(fans int, lobby time.Duration) []string {
	return []string{fmt.Sprintf("--demo.fans=%d", fans), "--demo.lobby_share=1", "--demo.absent_share=0", "--demo.buy_share=0.2", "--demo.stadium=false",
		"--set", fmt.Sprintf("rooms.onsale.opening.opens_in_s=%d", int(lobby/time.Second)), "--set", "rooms.onsale.rate_per_second=0.5"}
}

func TestFanWithScript(t *testing.T) {
	t.Parallel() // most of it is waiting in line
	d := startDemo(t, crowd(16, 6*time.Second+4*slowness)...)
	var b bought
	d.walk(t, "fan.js", &b)
	b.shrank(t)
	b.adjacent(t)
	b.check(t, d)
}

func TestFanWithoutScript(t *testing.T) {
	t.Parallel() // most of it is waiting in line
	d := startDemo(t, crowd(20, 8*time.Second+4*slowness)...)
	var b bought
	d.walk(t, "noscript.js", &b)
	b.shrank(t)
	b.adjacent(t)
	b.check(t, d)
}

func TestFanWithKeyboardOnly(t *testing.T) {
	d := startDemo(t, "--demo.fans=0", "--demo.stadium=false", "--set", "rooms.onsale.opening.opens_in_s=1")
	var b bought
	d.walk(t, "keyboard.js", &b)
	b.adjacent(t)
	b.check(t, d)
}

func TestStadium(t *testing.T) {
	d := startDemo(t, "--demo.fans=0", "--set", "rooms.onsale.opening.opens_in_s=1")
	var b bought
	d.walk(t, "stadium.js", &b)
	b.check(t, d)
}

func TestOperator(t *testing.T) {
	d := startDemo(t, crowd(100, 3*time.Second)...)
	var seen struct {
		Before, After float64 // rate, as the console showed it
		Paused        bool    // the fan saw it
		Resumed       bool
	}
	d.walk(t, "operator.js", &seen)
	if seen.Before == seen.After || !seen.Paused || !seen.Resumed {
		t.Errorf("the operator saw %+v", seen)
	}
}
