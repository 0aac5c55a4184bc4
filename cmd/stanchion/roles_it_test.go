//go:build it

package main

import (
	"bytes"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
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

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/stanchion-queue/stanchion/core/api"
	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/perf/load"
)

// engine is the address of a real engine.
func engine(t *testing.T, name string) string {
	t.Helper()
	v := os.Getenv("STANCHION_TEST_" + name)
	if v == "" {
		t.Fatalf("STANCHION_TEST_%s is not set; run make services", name)
	}
	return v
}

// rig is an installation of roles in processes of their own.
type rig struct {
	t      *testing.T
	binary string
	dir    string
	config string
	env    []string
}

// run starts a role and waits until its readiness is 200.
func (r *rig) run(role, operations string, flags ...string) {
	r.t.Helper()
	log, err := os.Create(filepath.Join(r.dir, role+".log"))
	if err != nil {
		r.t.Fatal(err)
	}
	args := append([]string{role, "--config=" + r.config, "--node=" + role, "--listeners.operations.address=" + operations, "--data_dir=" + filepath.Join(r.dir, role)}, flags...)
	cmd := exec.Command(r.binary, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, r.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	r.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			r.t.Errorf("%s does not stop", role)
			_ = cmd.Process.Kill()
		}
		if r.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			r.t.Logf("%s:\n%s", role, tail(text, 4000))
		}
	})
	deadline := time.Now().Add(60 * time.Second)
	for {
		if resp, err := http.Get("http://" + operations + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-done:
			r.t.Fatalf("%s ended", role)
		case <-time.After(50 * time.Millisecond): // poll
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s is not ready after a minute", role)
		}
	}
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestRolesApart runs each role alone on the real engines and lets fans wait, buy and leave through them.
func TestRolesApart(t *testing.T) {
	dir := t.TempDir()
	run := strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
	r := &rig{t: t, dir: dir, binary: filepath.Join(dir, "stanchion"), config: filepath.Join(dir, "config.yaml")}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "STANCHION_") {
			r.env = append(r.env, e)
		}
	}
	build := exec.Command("go", "build", "-o", r.binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}

	postgres := engine(t, "POSTGRES")
	admin, err := sql.Open("pgx", postgres)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.ExecContext(t.Context(), "CREATE DATABASE roles_"+run); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = admin.Exec("DROP DATABASE roles_" + run + " WITH (FORCE)")
		admin.Close()
	})
	u, err := url.Parse(postgres)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/roles_" + run
	if err := os.WriteFile(filepath.Join(dir, "postgres-url"), []byte(u.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(dir, "keys")
	if out, err := exec.Command(r.binary, "keys", "init", keys).CombinedOutput(); err != nil {
		t.Fatalf("keys init: %v\n%s", err, out)
	}

	public, console, provider := freeAddress(t), freeAddress(t), freeAddress(t)
	inner := map[string]string{"core": freeAddress(t), "queue": freeAddress(t), "inventory": freeAddress(t)}
	consul, err := url.Parse(engine(t, "CONSUL"))
	if err != nil {
		t.Fatal(err)
	}
	room := "r" + run
	text := fmt.Sprintf(`
public_url: http://%[1]s
keys: {dir: %[2]s}
listeners:
  public:   {address: %[1]s}
  console:  {address: %[3]s}
  provider: {address: %[4]s}
stores:
  rooms:    {engine: redis, addresses: ["%[5]s"]}
  seats:    {engine: cql, addresses: ["%[6]s"], datacenter: %[7]s, keyspace: roles_%[8]s, replication: 1, timeout_ms: 6000}
  orders:   {engine: postgres, url_file: %[9]s}
  bus:      {engine: kafka, addresses: ["%[10]s"], topic_prefix: roles.%[8]s., partitions: 3, replication: 1}
  settings: {engine: consul, prefix: roles/%[8]s, consul: {address: "%[11]s"}}
  discovery: {engine: consul, prefix: roles-%[8]s, consul: {address: "%[11]s"}}
core: {provider_url: "http://%[4]s"}
upstreams:
  shop: {role: core}
rooms:
  %[12]s: {host: 127.0.0.1, entry: /performances/%[8]s, cap: 6, rate_per_second: 50, idle_s: 300, mode: queue-all}
routes:
  - {paths: ["/orders/*", "/tickets/*", "/api/v1/orders/*", "/api/v1/tickets/*", "/api/v1/webhooks/*", "/api/v1/scans", "/static/*"], upstream: shop, priority: pay}
  - {paths: ["/performances/*", "/api/v1/performances/*", "/api/v1/holds*", "/api/v1/orders"], methods: [GET, POST], upstream: shop, room: %[12]s, priority: hold}
  - {paths: ["/*"], upstream: shop}
`, public, keys, console, provider, engine(t, "REDIS"), engine(t, "CASSANDRA"), engine(t, "CASSANDRA_DC"), run, filepath.Join(dir, "postgres-url"),
		engine(t, "KAFKA"), consul.Host, room)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := func() ([]byte, error) {
		c := exec.Command(r.binary, "config", "check", "--config="+r.config)
		c.Env = r.env
		return c.CombinedOutput()
	}(); err != nil {
		t.Fatalf("config check: %v\n%s", err, out)
	}

	r.run("inventory", freeAddress(t), "--listeners.internal.address="+inner["inventory"])
	r.run("queue", freeAddress(t), "--listeners.internal.address="+inner["queue"])
	r.run("psp-simulator", freeAddress(t))
	r.run("core", freeAddress(t), "--listeners.internal.address="+inner["core"])
	r.run("admin", freeAddress(t))
	r.run("edge", freeAddress(t))

	r.stage(t, inner, keys, run, room)
	report, err := load.Run(t.Context(), load.Options{
		Target: "http://" + public, Entry: "/performances/" + run, Room: room, Performance: run, Fans: 20, PerSecond: 10, AbsentShare: 0.1, BuyShare: 1,
		StayMean: 500 * time.Millisecond, Seed: 5, Source: netip.MustParsePrefix("127.16.0.0/12"), Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := report.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	outcomes := report.Outcomes()
	if outcomes[load.Failed] > 0 || outcomes[load.Bought] < 12 {
		t.Fatalf("outcomes %v: want nobody failed and most to have bought", outcomes)
	}
	r.settled(t, inner, room)
}

// stage brings a small hall in over the API of the staff, as docs/operating/selling.md tells a ticket office to.
func (r *rig) stage(t *testing.T, inner map[string]string, keys, slug, room string) {
	t.Helper()
	staff, err := os.ReadFile(filepath.Join(keys, "staff.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hex.DecodeString(strings.TrimSpace(string(staff))); err != nil {
		t.Fatal(err)
	}
	call := func(method, path string, text []byte) []byte {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+inner["core"]+path, bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Stanchion-Staff-Token", strings.TrimSpace(string(staff)))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %d %s, %v", method, path, resp.StatusCode, answer, err)
		}
		return answer
	}
	put := func(path string, body any) {
		t.Helper()
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		call(http.MethodPut, path, text)
	}
	get := func(path string) (s api.StageState) {
		t.Helper()
		if err := json.Unmarshal(call(http.MethodGet, path, nil), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	show := demoTheatre()
	venue, event, id := show.venue, show.event, uuid.New()
	venue.ID, venue.Slug, event.ID, event.Slug = uuid.New(), "v-"+slug, uuid.New(), "e-"+slug
	put("/api/v1/venues/"+venue.ID.String(), venue)
	put("/api/v1/events/"+event.ID.String(), event)
	plan, err := show.hall.Encode()
	if err != nil {
		t.Fatal(err)
	}
	base := "/api/v1/performances/" + id.String()
	put(base+"/plan", json.RawMessage(plan))
	var state api.StageState
	for deadline := time.Now().Add(time.Minute); state.BlocksTotal == 0 || state.BlocksMade < state.BlocksTotal; {
		if time.Now().After(deadline) {
			t.Fatalf("the seats are not made: %+v", state)
		}
		<-time.After(100 * time.Millisecond) // poll
		state = get(base + "/plan")
	}
	put(base+"/sale", map[string]string{"sale": "open"})
	p := catalog.Performance{Slug: slug, Event: event.ID, Venue: venue.ID, Room: room, Currency: "EUR", SaleOpen: true, Starts: time.Now().Add(24 * time.Hour)}
	for _, k := range show.hall.Categories {
		p.Offers = append(p.Offers, catalog.Offer{Category: k.Name, Price: 5000})
	}
	put("/api/v1/performances/"+id.String(), p)
}

// settled waits until the room is empty: every place came back over the bus or by a fan's own word.
func (r *rig) settled(t *testing.T, inner map[string]string, room string) {
	t.Helper()
	deadline := time.Now().Add(45 * time.Second)
	for {
		resp, err := http.Get("http://" + inner["queue"] + "/internal/v1/rooms/" + room + "/live")
		if err != nil {
			t.Fatal(err)
		}
		var live struct {
			Active int64 `json:"active"`
		}
		err = json.NewDecoder(resp.Body).Decode(&live)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if live.Active == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d places inside did not come back", live.Active)
		}
		<-time.After(200 * time.Millisecond) // poll
	}
}
