//go:build kill

package restart

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/perf/load"
)

var (
	seed  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the crowd and of the kills")
	kills = flag.Int("kills", 12, "how often the demo is killed")
	fans  = flag.Int("fans", 150, "simulated fans")
)

// demo is one data directory and the process that has it at the moment.
type demo struct {
	t       *testing.T
	binary  string
	dir     string
	ports   [4]int
	log     *os.File
	process *exec.Cmd
	starts  []time.Duration
}

func (d *demo) address(i int) string { return fmt.Sprintf("127.0.0.1:%d", d.ports[i]) }

func (d *demo) start() {
	d.t.Helper()
	cmd := exec.Command(d.binary, "demo", "--data_dir="+d.dir,
		"--listeners.public.address="+d.address(0), "--listeners.console.address="+d.address(1),
		"--listeners.operations.address="+d.address(2), "--listeners.provider.address="+d.address(3),
		"--demo.fans=0", "--demo.stadium=false", "--log.level=info",
		"--set=rooms.onsale.opening.opens_in_s=4", "--set=rooms.onsale.cap=40", "--set=rooms.onsale.rate_per_second=10",
		"--set=rooms.onsale.idle_s=20", "--set=rooms.onsale.first_lease_s=10",
		"--set=seats.hold_s=60", "--set=core.order_pay_s=60") // so that an order whose fan has gone ends within the audit
	cmd.Stdout, cmd.Stderr = d.log, d.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.process = cmd
	for {
		r, err := http.Get("http://" + d.address(2) + "/readyz")
		if err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				break
			}
		}
		if time.Since(began) > 30*time.Second {
			d.t.Fatalf("the demo is not ready after 30 s; its log is %s", d.log.Name())
		}
		<-time.After(20 * time.Millisecond) // poll
	}
	d.starts = append(d.starts, time.Since(began))
}

func (d *demo) kill() {
	_ = d.process.Process.Kill()
	_ = d.process.Wait()
}

func TestKill(t *testing.T) {
	t.Logf("repeat with: go test -tags kill -run TestKill ./chaos/restart -args -seed=%d -kills=%d -fans=%d", *seed, *kills, *fans)
	dir, err := os.MkdirTemp("", "stanchion-kill-")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "stanchion")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/stanchion-queue/stanchion/cmd/stanchion").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(dir, "demo.log"))
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{t: t, binary: binary, dir: filepath.Join(dir, "data"), log: log}
	for i := range d.ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		d.ports[i] = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	d.start()
	defer d.kill()

	ledger := NewLedger()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	type result struct {
		report *load.Report
		err    error
	}
	done := make(chan result, 1)
	go func() {
		r, err := load.Run(ctx, load.Options{
			Target: "http://" + d.address(0), Entry: "/performances/gala", Room: "onsale", Performance: "gala",
			Fans: *fans, PerSecond: float64(*fans) / 40, LobbyShare: 0.3, LobbyFor: 4 * time.Second, AbsentShare: 0.15, NoScriptShare: 0.1,
			BuyShare: 0.85, SilentShare: 0.5, StayMean: 3 * time.Second, Seed: *seed, Source: netip.MustParsePrefix("127.16.0.0/12"),
			Timeout: 12 * time.Second, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Witness: ledger.Witness,
		})
		done <- result{r, err}
	}()

	dice := rand.New(rand.NewPCG(*seed, 99))
	var end *result
	for range *kills {
		wait := time.NewTimer(time.Duration(500+dice.IntN(5000)) * time.Millisecond)
		select {
		case <-wait.C:
		case r := <-done:
			end = &r
		}
		if end != nil {
			break
		}
		d.kill()
		d.start()
	}
	if end == nil {
		r := <-done
		end = &r
	}
	if end.err != nil {
		t.Fatal(end.err)
	}
	var text bytes.Buffer
	if _, err := end.report.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	t.Logf("after %d starts (slowest ready in %v):\n%s", len(d.starts), slowest(d.starts), text.String())
	counts := ledger.Counts()
	t.Logf("acknowledged: %v", counts)

	// A drill without traffic proves nothing.
	for kind, least := range map[load.FactKind]int{load.FactPlace: *fans / 4, load.FactPass: *fans / 4, load.FactHold: *fans / 5, load.FactOrder: *fans / 5, load.FactPaid: *fans / 6} {
		if counts[kind] < least {
			t.Errorf("only %d facts of kind %q, want at least %d", counts[kind], kind, least)
		}
	}
	if n := end.report.Outcomes()[load.Failed]; n > *fans/50 {
		t.Errorf("%d of %d fans failed", n, *fans)
	}

	s := &server{base: "http://" + d.address(0), room: "onsale"}
	settleBy := time.Now().Add(150 * time.Second) // every order ends within its time to pay and a minute
	var losses []string
	for {
		if losses, err = ledger.Audit(s, time.Now()); err != nil {
			t.Fatal(err)
		}
		if len(losses) == 0 || time.Now().After(settleBy) {
			break
		}
		<-time.After(time.Second) // poll
	}
	for _, l := range losses {
		t.Error("LOST: " + l)
	}
	if t.Failed() {
		t.Logf("data, log and program are kept in %s", dir)
		return
	}
	d.kill()
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}

func slowest(ds []time.Duration) (most time.Duration) {
	for _, d := range ds {
		most = max(most, d)
	}
	return most.Round(time.Millisecond)
}

// server asks the running demo over HTTP, as fans do.
type server struct{ base, room string }

func (s *server) get(path string, header map[string]string, v any) (status int, err error) {
	req, err := http.NewRequest(http.MethodGet, s.base+path, nil)
	if err != nil {
		return 0, err
	}
	for k, h := range header {
		req.Header.Set(k, h)
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err
	}
	if r.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, v); err != nil {
			return r.StatusCode, fmt.Errorf("%s: %w: %.200s", path, err, body)
		}
	}
	if r.StatusCode >= 500 || r.StatusCode == http.StatusTooManyRequests {
		return r.StatusCode, fmt.Errorf("%s: status %d: %.200s", path, r.StatusCode, body)
	}
	return r.StatusCode, nil
}

func (s *server) Rank(ticket string) (uint64, bool, bool, error) {
	var p struct {
		Rank *uint64 `json:"rank"`
	}
	status, err := s.get("/.stanchion/rooms/"+s.room+"/place", map[string]string{"Authorization": "Stanchion " + ticket}, &p)
	if err != nil || status != http.StatusOK {
		return 0, false, false, err
	}
	if p.Rank == nil {
		return 0, false, true, nil
	}
	return *p.Rank, true, true, nil
}

func (s *server) Hold(guest, id string) (string, bool, error) {
	var h struct {
		State string `json:"state"`
	}
	status, err := s.get("/api/v1/holds/"+id, map[string]string{"Authorization": "Bearer " + guest}, &h)
	return h.State, status == http.StatusOK, err
}

func (s *server) Order(link, id string) (Order, bool, error) {
	u, err := url.Parse(link)
	if err != nil {
		return Order{}, false, err
	}
	k := "?k=" + url.QueryEscape(u.Query().Get("k"))
	var o struct {
		State string `json:"state"`
		Total int64  `json:"total"`
	}
	base := "/api/v1/orders/" + id
	status, err := s.get(base+k, nil, &o)
	if err != nil || status != http.StatusOK {
		return Order{}, false, err
	}
	out := Order{State: o.State, Total: o.Total}
	var payments []struct{ Captured, Refunded int64 }
	if _, err := s.get(base+"/payments"+k, nil, &payments); err != nil {
		return Order{}, false, err
	}
	for _, p := range payments {
		out.Captured += p.Captured - p.Refunded
	}
	if strings.HasPrefix(o.State, "PAID") {
		var tickets []struct{ Label string }
		if _, err := s.get(base+"/tickets"+k, nil, &tickets); err != nil {
			return Order{}, false, err
		}
		for _, t := range tickets {
			out.Tickets = append(out.Tickets, t.Label)
		}
	}
	return out, true, nil
}
