//go:build it

package redisqueue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// process is a server that a test starts, stops and kills by itself.
type process struct {
	t    testing.TB
	port string
	args []string
	dir  string
	cmd  *exec.Cmd
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// serve starts a Redis server with the durability that rooms ask for.
func serve(t testing.TB, args ...string) *process {
	t.Helper()
	p := &process{t: t, port: freePort(t), dir: t.TempDir(), args: args}
	p.start()
	t.Cleanup(p.kill)
	return p
}

func (p *process) addr() string { return "127.0.0.1:" + p.port }

func (p *process) start() {
	p.t.Helper()
	exe, err := exec.LookPath("redis-server")
	if err != nil {
		p.t.Fatalf("redis-server is needed: %v", err)
	}
	args := append([]string{"--port", p.port, "--bind", "127.0.0.1", "--dir", p.dir, "--save", "", "--appendonly", "yes", "--appendfsync", "always",
		"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}, p.args...)
	p.launch(exe, args...)
}

func (p *process) launch(exe string, args ...string) {
	p.t.Helper()
	p.cmd = exec.Command(exe, args...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	until(p.t, "server on "+p.port, func() error {
		c, err := net.DialTimeout("tcp", p.addr(), time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // with the children that save or send its data; it may be gone already
	_ = p.cmd.Wait()                                      // killed
	p.cmd = nil
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// until repeats a question until it is answered without an error.
func until(t testing.TB, what string, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// room is a room in use on a real clock.
type room struct {
	t    testing.TB
	s    *Store
	name string
	gen  string
	line line.ID
	no   uint64
}

const testEdge line.Incarnation = 0xe1

func useRoom(t testing.TB, s *Store, set queue.Settings) *room {
	t.Helper()
	ctx := context.Background()
	r := &room{t: t, s: s, name: "real", gen: "gen-1", line: line.ID{1}}
	counts := [][]uint64{{1 << 40}}
	for _, step := range []func() error{
		func() error { return s.Create(ctx, r.name) },
		func() error { return s.Lead(ctx, r.name, "", "token") },
		func() error { return s.Regen(ctx, r.name, "token", r.gen) },
		func() error { return s.Configure(ctx, r.name, r.gen, "token", set) },
		func() error {
			return s.StartLine(ctx, r.name, r.gen, "token", queue.LineState{Line: r.line, Lanes: make([]queue.LaneControl, 1)})
		},
		func() error {
			return s.Seal(ctx, r.name, queue.Seal{Gen: r.gen, Token: "token", Line: r.line, To: 1, Counts: counts, Next: [32]byte{1}})
		},
		func() error { _, err := r.flush(queue.Flush{}); return err },
		r.call,
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *room) flush(f queue.Flush) (queue.FlushReply, error) {
	r.no++
	f.Gen, f.Edge, f.No = r.gen, testEdge, r.no
	return r.s.Flush(context.Background(), r.name, f)
}

func (r *room) call() error {
	_, err := r.s.Call(context.Background(), r.name, queue.Call{Gen: r.gen, Token: "token", Line: r.line, Called: []uint64{1 << 40}})
	return err
}

func (r *room) fan(seq uint32) queue.Claim {
	c := queue.Claim{Line: r.line, Stamp: line.Stamp{Inc: testEdge, Seq: seq}, WhoKind: line.WhoAccount}
	copy(c.Session[:], fmt.Sprintf("%016d", seq))
	spread := uint64(seq+1) * 0x9e3779b97f4a7c15 // a hash is spread evenly over the holders' sets
	binary.BigEndian.PutUint64(c.Who[:], spread)
	return c
}

func (r *room) claim(seqs ...uint32) ([]queue.ClaimResult, error) {
	b := queue.ClaimBatch{Gen: r.gen, Edge: testEdge}
	for _, n := range seqs {
		b.Claims = append(b.Claims, r.fan(n))
	}
	return r.s.Claim(context.Background(), r.name, b)
}

// ticked claims right after a call, so that a slow machine does not make the claim stale.
func (r *room) ticked(seq uint32) (queue.ClaimResult, error) {
	if err := r.call(); err != nil {
		return queue.ClaimResult{}, err
	}
	out, err := r.claim(seq)
	if len(out) == 0 {
		return queue.ClaimResult{}, err
	}
	return out[0], err
}

func settings() queue.Settings {
	return queue.Settings{Cap: 1 << 40, FirstLeaseMs: 3600_000, IdleMs: 3600_000, StayMaxMs: 7200_000, ReturnMs: 600_000}
}

func TestRestartedServer(t *testing.T) {
	p := serve(t)
	s := open(t, patient(Options{Addresses: []string{p.addr()}}))
	r := useRoom(t, s, settings())
	before, err := s.Control(context.Background(), r.name)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := r.ticked(1); err != nil || res.Status != queue.ClaimOK {
		t.Fatalf("%+v, %v", res, err)
	}
	p.kill()
	if _, err := r.claim(2); err == nil {
		t.Fatal("a dead server let somebody in")
	}
	p.start()
	// The same data under another process: nothing runs by the old gen, for nobody, whatever connection it comes by.
	var g *queue.GenError
	until(t, "first answer of the new process", func() error {
		if _, err := r.claim(2); !errors.As(err, &g) {
			return fmt.Errorf("want a gen error, got %w", err)
		}
		return nil
	})
	if g.Gen != "" || g.RunID == "" || g.RunID == before.RunID {
		t.Fatalf("%+v, run id was %s", g, before.RunID)
	}
	other := open(t, patient(Options{Addresses: []string{p.addr()}}))
	if _, err := other.Claim(context.Background(), r.name, queue.ClaimBatch{Gen: r.gen, Edge: testEdge, Claims: []queue.Claim{r.fan(2)}}); !errors.As(err, &g) {
		t.Fatalf("another edge that still has the old gen: %v", err)
	}
	var c queue.Control
	until(t, "control", func() (err error) { // old connections break at their first use
		c, err = s.Control(context.Background(), r.name)
		return err
	})
	if c.Gen != "" || c.RunID != g.RunID || c.Active != 1 {
		t.Fatalf("%+v", c)
	}
	until(t, "flush", func() error {
		if _, err := r.flush(queue.Flush{}); !errors.As(err, &g) {
			return fmt.Errorf("want a gen error, got %w", err)
		}
		return nil
	})
	r.gen = "gen-2"
	until(t, "regen", func() error { return s.Regen(context.Background(), r.name, "token", r.gen) })
	var res queue.ClaimResult
	until(t, "claim", func() (err error) { res, err = r.ticked(1); return err })
	if res.Status != queue.ClaimOK || !res.Again {
		t.Fatalf("the session of before: %+v", res)
	}
}

func TestFlushedScripts(t *testing.T) {
	p := serve(t)
	s := open(t, patient(Options{Addresses: []string{p.addr()}}))
	r := useRoom(t, s, settings())
	for range 3 {
		if err := s.client.Do(context.Background(), s.client.B().ScriptFlush().Build()).Error(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ticked(1); err != nil {
			t.Fatalf("after SCRIPT FLUSH: %v", err)
		}
	}
}

func TestEmptiedServer(t *testing.T) {
	p := serve(t)
	s := open(t, patient(Options{Addresses: []string{p.addr()}}))
	r := useRoom(t, s, settings())
	if err := s.client.Do(context.Background(), s.client.B().Flushall().Build()).Error(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.claim(1); !errors.Is(err, queue.ErrNoRoom) {
		t.Fatalf("claim: %v", err)
	}
	if err := s.Create(context.Background(), r.name); err != nil {
		t.Fatal(err)
	}
	var g *queue.GenError
	if _, err := r.flush(queue.Flush{}); !errors.As(err, &g) || g.Gen != "" {
		t.Fatalf("flush: %v", err)
	}
}

func TestUnfitServers(t *testing.T) {
	primary := serve(t)
	evicting := serve(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	replica := serve(t, "--replicaof", "127.0.0.1 "+primary.port)
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"eviction":      {Options{Addresses: []string{evicting.addr()}}, "maxmemory-policy"},
		"a replica":     {Options{Addresses: []string{replica.addr()}}, "not a primary"},
		"nobody":        {Options{Addresses: []string{"127.0.0.1:1"}}, "127.0.0.1:1"},
		"no address":    {Options{}, "no addresses"},
		"two masters":   {Options{Addresses: []string{primary.addr()}, Cluster: true, SentinelMaster: "m1"}, "sentinel"},
		"a bad prefix":  {Options{Addresses: []string{primary.addr()}, Prefix: "a{b}"}, "prefix"},
		"less than 0":   {Options{Addresses: []string{primary.addr()}, MinReplicas: -1}, "min_replicas"},
		"no such group": {Options{Addresses: []string{primary.addr()}, SentinelMaster: "nobody"}, ""},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		s, err := Open(ctx, patient(c.o))
		cancel()
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: opened", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	// The same is found later, when a server was restarted with another configuration.
	s := open(t, patient(Options{Addresses: []string{primary.addr()}}))
	r := useRoom(t, s, settings())
	primary.kill()
	primary.args = append(primary.args, "--maxmemory-policy", "volatile-lru")
	primary.start()
	until(t, "refusal of the changed server", func() error {
		if _, err := r.claim(1); !errors.Is(err, errServer) {
			return fmt.Errorf("claim: %w", err)
		}
		return nil
	})
}

// pairOf starts a primary and a replica that is in sync.
func pairOf(t testing.TB) (primary, replica *process) {
	t.Helper()
	primary = serve(t)
	replica = serve(t, "--replicaof", "127.0.0.1 "+primary.port)
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{primary.addr()}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	until(t, "replica in sync", func() error {
		text, err := c.Do(context.Background(), c.B().Info().Section("replication").Build()).ToString()
		if err != nil {
			return err
		}
		if n := parseInfo(text).inSync(); n != 1 {
			return fmt.Errorf("%d replicas in sync", n)
		}
		return nil
	})
	return primary, replica
}

func TestReplicationUnmet(t *testing.T) {
	primary, replica := pairOf(t)
	o := patient(Options{Addresses: []string{primary.addr()}, MinReplicas: 1})
	s := open(t, o)
	r := useRoom(t, s, settings())
	if res, err := r.ticked(1); err != nil || res.Status != queue.ClaimOK {
		t.Fatalf("%+v, %v", res, err)
	}
	s.opt.WaitFor = 30 * time.Millisecond
	replica.signal(syscall.SIGSTOP)
	res, err := r.claim(2)
	if !errors.Is(err, queue.ErrReplication) || len(res) != 1 || res[0].Status != queue.ClaimOK {
		t.Fatalf("claim while the replica sleeps: %+v, %v", res, err)
	}
	reply, err := r.flush(queue.Flush{Renewals: []queue.Renewal{{Session: r.fan(1).Session}}, Ends: []line.SessionID{{9}}})
	if err != nil || reply.Replicated || len(reply.Leases) != 0 {
		t.Fatalf("renewal while the replica sleeps: %+v, %v", reply, err)
	}
	if err := s.Regen(context.Background(), r.name, "token", "gen-2"); !errors.Is(err, queue.ErrReplication) {
		t.Fatalf("regen while the replica sleeps: %v", err)
	}
	r.gen = "gen-2"
	if reply, err := r.flush(queue.Flush{}); err != nil || !reply.Replicated {
		t.Fatalf("a flush that needs no replica: %v", err)
	}
	replica.signal(syscall.SIGCONT)
	s.opt.WaitFor = o.WaitFor
	again, err := r.ticked(2)
	if err != nil || again.Status != queue.ClaimOK || !again.Again || again.EndMs != res[0].EndMs {
		t.Fatalf("the same claim once the replica is back: %+v, %v", again, err)
	}
	until(t, "renewal", func() error {
		reply, err := r.flush(queue.Flush{Renewals: []queue.Renewal{{Session: r.fan(1).Session}}})
		if err == nil && (!reply.Replicated || len(reply.Leases) != 1) {
			err = fmt.Errorf("%+v", reply)
		}
		return err
	})
}

// TestWaitsForEveryReplica has more replicas in sync than are required: each of them could be promoted, so each is waited for.
func TestWaitsForEveryReplica(t *testing.T) {
	primary, replica := pairOf(t)
	o := patient(Options{Addresses: []string{primary.addr()}})
	s := open(t, o)
	r := useRoom(t, s, settings())
	s.opt.WaitFor = 30 * time.Millisecond
	replica.signal(syscall.SIGSTOP)
	if _, err := r.claim(1); !errors.Is(err, queue.ErrReplication) {
		t.Fatalf("claim while the only replica sleeps: %v", err)
	}
	replica.kill()
	// Gone for good: after the next look nobody waits for it.
	until(t, "claims without the replica", func() error {
		_, err := r.ticked(1)
		return err
	})
}

func TestMinReplicasToWrite(t *testing.T) {
	primary, replica := pairOf(t)
	s := open(t, patient(Options{Addresses: []string{primary.addr()}, MinReplicas: 1}))
	r := useRoom(t, s, settings())
	for _, kv := range [][2]string{{"min-replicas-max-lag", "2"}, {"min-replicas-to-write", "1"}} {
		if err := s.client.Do(context.Background(), s.client.B().ConfigSet().ParameterValue().ParameterValue(kv[0], kv[1]).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	replica.kill()
	until(t, "refusal by the server", func() error {
		if _, err := r.claim(1); !errors.Is(err, queue.ErrReplication) {
			return fmt.Errorf("claim: %w", err)
		}
		return nil
	})
	if c, err := s.Control(context.Background(), r.name); err != nil || c.Gen != r.gen {
		t.Fatalf("the control record can no longer be read: %v", err)
	}
}

// TestSentinelFailover kills the primary in a storm of claims. What was acknowledged is known to the new primary, and the new
// primary lets nobody in until it has been told to.
func TestSentinelFailover(t *testing.T) {
	primary, replica := pairOf(t)
	var sentinels []string
	for range 3 {
		p := &process{t: t, port: freePort(t), dir: t.TempDir()}
		conf := filepath.Join(p.dir, "sentinel.conf")
		text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor rooms 127.0.0.1 %s 2\nsentinel down-after-milliseconds rooms 1000\n"+
			"sentinel failover-timeout rooms 4000\n", p.port, p.dir, primary.port)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		exe, err := exec.LookPath("redis-server")
		if err != nil {
			t.Fatal(err)
		}
		p.launch(exe, conf, "--sentinel")
		t.Cleanup(p.kill)
		sentinels = append(sentinels, p.addr())
	}
	sc, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: sentinels[:1], ForceSingleClient: true, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sc.Close()
	until(t, "quorum", func() error {
		return sc.Do(context.Background(), sc.B().Arbitrary("SENTINEL", "CKQUORUM", "rooms").Build()).Error()
	})
	until(t, "sentinel knows the replica", func() error {
		list, err := sc.Do(context.Background(), sc.B().Arbitrary("SENTINEL", "REPLICAS", "rooms").Build()).ToArray()
		if err == nil && len(list) != 1 {
			err = fmt.Errorf("%d replicas", len(list))
		}
		return err
	})
	s := open(t, Options{Addresses: sentinels, SentinelMaster: "rooms", MinReplicas: 1, WaitFor: 2 * time.Second, WriteTimeout: 3 * time.Second})
	r := useRoom(t, s, settings())

	acknowledged := map[uint32]int64{}
	kill := time.AfterFunc(300*time.Millisecond, primary.kill)
	defer kill.Stop()
	var g *queue.GenError
	seq := uint32(0)
	until(t, "the new primary's answer", func() error {
		for {
			var seqs []uint32
			for range 16 {
				seq++
				seqs = append(seqs, seq)
			}
			if err := r.call(); err != nil && errors.As(err, &g) {
				return nil
			}
			out, err := r.claim(seqs...)
			if errors.As(err, &g) {
				return nil
			}
			if err != nil {
				return err
			}
			for i, res := range out {
				if res.Status == queue.ClaimOK {
					acknowledged[seqs[i]] = res.EndMs
				}
			}
		}
	})
	if len(acknowledged) < 100 {
		t.Fatalf("only %d claims before the failover", len(acknowledged))
	}
	c, err := s.Control(context.Background(), r.name)
	if err != nil {
		t.Fatal(err)
	}
	if c.Gen != "" || c.RunID != g.RunID || c.Active < int64(len(acknowledged)) {
		t.Fatalf("after the failover: %+v, %d acknowledged", c, len(acknowledged))
	}
	if info := s.servers.get(r.name); info == nil || info.runID != g.RunID {
		t.Fatal("the store does not know the new server")
	}
	r.gen = "gen-2"
	s.opt.MinReplicas = 0 // the second replica of a real deployment
	until(t, "regen", func() error { return s.Regen(context.Background(), r.name, "token", r.gen) })
	for n, end := range acknowledged {
		res, err := r.ticked(n)
		if err != nil || res.Status != queue.ClaimOK || !res.Again || res.EndMs != end {
			t.Fatalf("claim %d was acknowledged until %d and is now %+v, %v", n, end, res, err)
		}
	}
	_ = replica // promoted; stopped by its clean-up
}

func TestBusy(t *testing.T) {
	p := serve(t)
	s := open(t, patient(Options{Addresses: []string{p.addr()}}))
	for range maxInFlight {
		s.flying <- struct{}{}
	}
	if _, err := s.Control(context.Background(), "a"); !errors.Is(err, ErrBusy) {
		t.Fatalf("step beyond the limit: %v", err)
	}
	for range maxInFlight {
		<-s.flying
	}
	if _, err := s.Control(context.Background(), "a"); !errors.Is(err, queue.ErrNoRoom) {
		t.Fatal(err)
	}
	// A context that is over is not an answer.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Control(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
}

// TestOldLineIsCleaned looks for the memory of a line that nothing honours.
func TestOldLineIsCleaned(t *testing.T) {
	p := serve(t)
	s := open(t, patient(Options{Addresses: []string{p.addr()}}))
	r := useRoom(t, s, settings())
	ctx := context.Background()
	for n := range uint32(3) {
		if res, err := r.ticked(n * 131_072); err != nil || res.Status != queue.ClaimOK {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	if _, err := r.flush(queue.Flush{Rows: []queue.Row{{Line: r.line, Edge: testEdge, Win: 7, Count: 3}}}); err != nil {
		t.Fatal(err)
	}
	keys := func() (all []string) {
		t.Helper()
		all, err := s.client.Do(ctx, s.client.B().Keys().Pattern("*"+r.line.String()+"*").Build()).AsStrSlice()
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if len(keys()) < 8 {
		t.Fatalf("keys of the line in use: %v", keys())
	}
	if err := s.StartLine(ctx, r.name, r.gen, "token", queue.LineState{Line: line.ID{2}, Lanes: make([]queue.LaneControl, 1)}); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys() {
		ttl, err := s.client.Do(ctx, s.client.B().Ttl().Key(k).Build()).AsInt64()
		if err != nil || ttl < 6*24*3600 {
			t.Errorf("%s stays for %d s, %v", k, ttl, err)
		}
		if !strings.Contains(k, ":led:") && !strings.Contains(k, ":line:") {
			t.Errorf("%s stays", k)
		}
	}
	if l, err := s.Line(ctx, r.name, r.line); err != nil || l.Sealed != 1 || l.Lanes[0].Called != 1<<40 {
		t.Fatalf("the old line: %+v, %v", l, err)
	}
}

// TestClusterFailover runs on a cluster of one primary and one replica: WAIT goes where the room lives, and the promoted replica is
// another process.
func TestClusterFailover(t *testing.T) {
	ctx := context.Background()
	mode := []string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000"}
	primary, replica := serve(t, mode...), serve(t, mode...)
	var nodes [2]rueidis.Client
	for i, p := range []*process{primary, replica} {
		c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{p.addr()}, ForceSingleClient: true, DisableCache: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		nodes[i] = c
	}
	do := func(node int, args ...string) (string, error) {
		return nodes[node].Do(ctx, nodes[node].B().Arbitrary(args...).Build()).ToString()
	}
	id, err := do(0, "CLUSTER", "MYID")
	if err != nil {
		t.Fatal(err)
	}
	for node, cmd := range map[int][]string{0: {"CLUSTER", "ADDSLOTSRANGE", "0", "16383"}, 1: {"CLUSTER", "MEET", "127.0.0.1", primary.port}} {
		if _, err := do(node, cmd...); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "replication", func() error { _, err := do(1, "CLUSTER", "REPLICATE", id); return err })
	until(t, "replica in sync", func() error {
		text, err := do(0, "INFO", "replication")
		if err == nil && parseInfo(text).inSync() != 1 {
			err = errors.New("no replica in sync")
		}
		return err
	})
	for node := range nodes {
		until(t, "cluster", func() error {
			text, err := do(node, "CLUSTER", "INFO")
			if err == nil && !strings.Contains(text, "cluster_state:ok") {
				err = errors.New(text)
			}
			return err
		})
	}
	s := open(t, patient(Options{Addresses: []string{primary.addr(), replica.addr()}, Cluster: true, MinReplicas: 1}))
	r := useRoom(t, s, settings())
	if res, err := r.ticked(1); err != nil || res.Status != queue.ClaimOK {
		t.Fatalf("%+v, %v", res, err)
	}
	s.opt.WaitFor = 30 * time.Millisecond
	replica.signal(syscall.SIGSTOP)
	if _, err := r.claim(2); !errors.Is(err, queue.ErrReplication) {
		t.Fatalf("claim while the replica sleeps: %v", err)
	}
	replica.signal(syscall.SIGCONT)
	s.opt.WaitFor = 5 * time.Second
	until(t, "claim", func() error { _, err := r.ticked(2); return err })
	promote := func(node int) {
		t.Helper()
		until(t, "promotion", func() error { // a replica that is not in sync yet does not take over
			text, err := do(node, "INFO", "replication")
			if err == nil && !strings.Contains(text, "role:master") {
				_, err = do(node, "CLUSTER", "FAILOVER")
				err = errors.Join(errors.New(text), err)
			}
			return err
		})
	}
	promote(1)
	var g *queue.GenError
	until(t, "answer of the promoted replica", func() error {
		if _, err := r.ticked(3); !errors.As(err, &g) {
			return fmt.Errorf("want a gen error, got %w", err)
		}
		return nil
	})
	r.gen = "gen-2"
	until(t, "regen", func() error { return s.Regen(ctx, r.name, "token", r.gen) })
	for n := range uint32(2) {
		var res queue.ClaimResult
		until(t, "claim", func() (err error) { res, err = r.ticked(n + 1); return err })
		if res.Status != queue.ClaimOK || !res.Again {
			t.Fatalf("claim %d was acknowledged and is now %+v", n+1, res)
		}
	}
	// And back: the old process knows the scripts of its own run, but the gen is not its own.
	promote(0)
	until(t, "answer of the old primary", func() error {
		if _, err := r.ticked(3); !errors.As(err, &g) {
			return fmt.Errorf("want a gen error, got %w", err)
		}
		return nil
	})
}
