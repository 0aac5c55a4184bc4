package localqueue

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// use makes a room with a line, a leader and an edge, ready for claims.
func use(t testing.TB, s *Store, name string, limit int64) {
	t.Helper()
	ctx := context.Background()
	id := line.ID{1}
	for what, err := range map[string]error{
		"create":    s.Create(ctx, name),
		"lead":      s.Lead(ctx, name, "", "token"),
		"regen":     s.Regen(ctx, name, "token", "gen"),
		"configure": s.Configure(ctx, name, "gen", "token", queue.Settings{Cap: limit}),
		"line":      s.StartLine(ctx, name, "gen", "token", queue.LineState{Line: id, Lanes: make([]queue.LaneControl, 1)}),
		"seal":      s.Seal(ctx, name, queue.Seal{Gen: "gen", Token: "token", Line: id, To: 1, Counts: [][]uint64{{1 << 30}}, Next: [32]byte{1}}),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if _, err := s.Flush(ctx, name, queue.Flush{Gen: "gen", Edge: 1, No: 1}); err != nil {
		t.Fatal(err)
	}
	call(t, s, name)
}

func call(t testing.TB, s *Store, name string) {
	t.Helper()
	if _, err := s.Call(context.Background(), name, queue.Call{Gen: "gen", Token: "token", Line: line.ID{1}, Called: []uint64{1 << 30}}); err != nil {
		t.Fatal(err)
	}
}

func fan(seq uint32) queue.Claim {
	c := queue.Claim{Line: line.ID{1}, Stamp: line.Stamp{Inc: 1, Seq: seq}}
	copy(c.Session[:], fmt.Sprintf("session%09d", seq))
	return c
}

func claim(s *Store, name string, seqs ...uint32) ([]queue.ClaimResult, error) {
	b := queue.ClaimBatch{Gen: "gen", Edge: 1}
	for _, n := range seqs {
		b.Claims = append(b.Claims, fan(n))
	}
	return s.Claim(context.Background(), name, b)
}

func rowsOf(t *testing.T, path, query string) int {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n int
	if err := db.QueryRow(query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRestartKeepsSessionsAndTime(t *testing.T) {
	ctx := context.Background()
	c := newClock()
	o := Options{Path: filepath.Join(t.TempDir(), "rooms.db"), Clock: c.now}
	s := openStore(t, o)
	use(t, s, "a", 10)
	res, err := claim(s, "a", 1, 2)
	if err != nil || res[1].Status != queue.ClaimOK {
		t.Fatalf("%+v, %v", res, err)
	}
	before, err := s.Control(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Control(ctx, "a"); !errors.Is(err, ErrClosed) {
		t.Fatalf("closed store answers: %v", err)
	}

	c.add(-time.Hour) // somebody set the clock back while we were down
	s = openStore(t, o)
	after, err := s.Control(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if after.StoreMs <= before.StoreMs {
		t.Errorf("store time %d after %d", after.StoreMs, before.StoreMs)
	}
	if after.Gen != "" || after.Token != "token" || after.Active != 2 || after.RunID == before.RunID || after.Lanes[0] != before.Lanes[0] {
		t.Errorf("after restart: %+v", after)
	}
	// The lock proved the old leader dead: no waiting for its beat to grow old.
	if err := s.Lead(ctx, "a", "token", "token"); err != nil {
		t.Fatal(err)
	}
	if err := s.Lead(ctx, "a", "wrong", "next"); !errors.Is(err, queue.ErrNotLeader) {
		t.Fatalf("lead without the old token: %v", err)
	}
	if err := s.Regen(ctx, "a", "token", "gen"); err != nil {
		t.Fatal(err)
	}
	if edges, err := s.Edges(ctx, "a"); err != nil || len(edges) != 0 {
		t.Fatalf("edges of the dead process: %+v, %v", edges, err)
	}
	reply, err := s.Flush(ctx, "a", queue.Flush{Gen: "gen", Edge: 9, No: 1, Renewals: []queue.Renewal{{Session: fan(1).Session}}})
	if err != nil || len(reply.Leases) != 1 || reply.Leases[0].Home != 9 || reply.Leases[0].EndMs != after.StoreMs+300_000 {
		t.Fatalf("renewal by the new edge: %+v, %v", reply.Leases, err)
	}
	if err := s.Lead(ctx, "a", "token", "other"); !errors.Is(err, queue.ErrNotLeader) {
		t.Fatalf("lead beside a living leader: %v", err)
	}
}

func TestLockedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rooms.db")
	s := openStore(t, Options{Path: path})
	use(t, s, "a", 10)
	_, err := Open(context.Background(), Options{Path: path})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("a second store on the same file: %v", err)
	}
	if _, err := claim(s, "a", 1); err != nil {
		t.Fatalf("the first store was disturbed: %v", err)
	}
}

func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	sqlite := func(name string, statements ...string) string {
		path := filepath.Join(dir, name)
		db, err := sql.Open("sqlite", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for _, s := range statements {
			if _, err := db.Exec(s); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	plain := filepath.Join(dir, "plain.db")
	if err := os.WriteFile(plain, bytes.Repeat([]byte("not a database. "), 300), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ path, want string }{
		"text":         {plain, "not a room store"},
		"other sqlite": {sqlite("other.db", "CREATE TABLE x (y)"), "not a room store"},
		"other id":     {sqlite("id.db", "PRAGMA application_id=7", "CREATE TABLE x (y)"), "not a room store"},
		"newer":        {sqlite("newer.db", fmt.Sprintf("PRAGMA application_id=%d", applicationID), "PRAGMA user_version=2"), "newer version"},
		"no folder":    {filepath.Join(dir, "no", "rooms.db"), "no such file or directory"},
		"a folder":     {dir, ""},
	} {
		before, _ := os.ReadFile(c.path)
		_, err := Open(context.Background(), Options{Path: c.path})
		if err == nil || !strings.Contains(err.Error(), c.path) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want the path and %q", name, err, c.want)
		}
		if after, _ := os.ReadFile(c.path); !bytes.Equal(before, after) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if _, err := Open(context.Background(), Options{Path: filepath.Join(dir, "odd ?#%.db")}); err != nil {
		t.Errorf("an odd name: %v", err)
	}
}

// TestDamagedFile changes single bytes of a file. The store either refuses it by name or, where the byte meant nothing, knows all.
func TestDamagedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "rooms.db")
	c := newClock()
	s := openStore(t, Options{Path: path, Clock: c.now})
	use(t, s, "a", 100)
	for i := range uint32(40) {
		if _, err := claim(s, "a", i); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := func(path string) (string, error) {
		s, err := Open(context.Background(), Options{Path: path, Clock: c.now})
		if err != nil {
			return "", err
		}
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		if s.rooms["a"] == nil {
			return "", errors.New("no room " + path) // the damage hit the room's name
		}
		return dump(s.rooms["a"], s.lastMs), nil
	}
	whole, err := want(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for at := 100; at < len(image); at += 97 {
		bad := bytes.Clone(image)
		bad[at] ^= 0x55
		p := filepath.Join(dir, fmt.Sprintf("bad-%d.db", at))
		if err := os.WriteFile(p, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		switch got, err := want(p); {
		case err != nil && strings.Contains(err.Error(), p):
			refused++
		case err != nil:
			t.Fatalf("byte %d: the error does not name the file: %v", at, err)
		case got != whole:
			t.Fatalf("byte %d was believed:\n%s", at, difference(got, whole))
		}
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	if refused < 5 {
		t.Fatalf("only %d damaged files were refused", refused)
	}
	short := filepath.Join(dir, "short.db")
	if err := os.WriteFile(short, image[:len(image)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := want(short); err == nil || !strings.Contains(err.Error(), short) {
		t.Fatalf("half a file: %v", err)
	}
}

func TestIdleCostsNothing(t *testing.T) {
	ctx := context.Background()
	c := newClock()
	path := filepath.Join(t.TempDir(), "rooms.db")
	s := openStore(t, Options{Path: path, Clock: c.now})
	use(t, s, "a", 10)
	if _, err := claim(s, "a", 1); err != nil {
		t.Fatal(err)
	}
	rows := s.journalRows()
	for i := range 200 {
		c.add(100 * time.Millisecond)
		if _, err := s.Flush(ctx, "a", queue.Flush{Gen: "gen", Edge: 1, No: uint64(i + 2), MarkMs: int64(i), Complete: line.Window(i), Parked: []int64{int64(i)}}); err != nil {
			t.Fatal(err)
		}
		call(t, s, "a")
		if err := s.Beat(ctx, "a", "token"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Free(ctx, "a", "gen", "token"); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.journalRows(); got != rows {
		t.Fatalf("%d journal rows for nothing", got-rows)
	}
	if _, err := s.Flush(ctx, "a", queue.Flush{Gen: "gen", Edge: 1, No: 300, Renewals: []queue.Renewal{{Session: fan(1).Session}}, Rows: []queue.Row{{Line: line.ID{1}, Edge: 1, Win: 5, Count: 1}}}); err != nil {
		t.Fatal(err)
	}
	if got := s.journalRows(); got != rows+1 {
		t.Fatalf("%d journal rows for one flush", got-rows)
	}
}

// TestSnapshotReplacesJournal lets rows pile up to the limit.
func TestSnapshotReplacesJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rooms.db")
	reg := prometheus.NewRegistry()
	s := openStore(t, Options{Path: path, SnapshotRows: 50, Registerer: reg})
	use(t, s, "a", 1000)
	for i := range uint32(120) {
		if _, err := claim(s, "a", i); err != nil {
			t.Fatal(err)
		}
	}
	if n := testutil.ToFloat64(s.metrics.snapshots); n < 2 {
		t.Errorf("%v snapshots after 120 rows", n)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := rowsOf(t, path, "SELECT count(*) FROM journal"); n != 0 {
		t.Errorf("%d journal rows after Close", n)
	}
	if n, err := testutil.GatherAndCount(reg); err != nil || n != 0 {
		t.Errorf("%d metrics after Close, %v", n, err)
	}
	s = openStore(t, Options{Path: path})
	if c, err := s.Control(context.Background(), "a"); err != nil || c.Active != 120 {
		t.Errorf("%d sessions, %v", c.Active, err)
	}
}

// TestSnapshotByTime needs no more than one row and the interval.
func TestSnapshotByTime(t *testing.T) {
	s := openStore(t, Options{Path: filepath.Join(t.TempDir(), "rooms.db"), SnapshotEvery: 20 * time.Millisecond})
	use(t, s, "a", 10)
	for deadline := time.Now().Add(20 * time.Second); s.journalRows() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no snapshot")
		}
	}
}

// TestFullDisk makes the file refuse writes for a while: nothing is answered, nothing is lost, and it goes on by itself.
func TestFullDisk(t *testing.T) {
	ctx := context.Background()
	s := openStore(t, Options{Path: filepath.Join(t.TempDir(), "rooms.db")})
	use(t, s, "a", 1000)
	limit := func(pages int) {
		t.Helper()
		if _, err := s.file.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA max_page_count=%d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // SQLite takes the present size as the lower limit
	seq := uint32(0)
	var err error
	for seq = range uint32(1000) {
		short, cancel := context.WithTimeout(ctx, time.Second)
		b := queue.ClaimBatch{Gen: "gen", Edge: 1, Claims: []queue.Claim{fan(seq)}}
		_, err = s.Claim(short, "a", b)
		cancel()
		if err != nil {
			break
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the disk is full and the claim says %v", err)
	}
	if n := testutil.ToFloat64(s.metrics.failures); n == 0 {
		t.Error("no failure was counted")
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.Control(ctx, "a") // sees the undecided claim, so it waits for the disk, too
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("an answer shows what may be lost: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	limit(1 << 20)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	res, err := claim(s, "a", seq)
	if err != nil || res[0].Status != queue.ClaimOK || !res[0].Again {
		t.Fatalf("the claim that waited: %+v, %v", res, err)
	}
}

// BenchmarkClaims claims in full batches from many goroutines; every claim is on the disk before it is answered.
func BenchmarkClaims(b *testing.B) {
	s := openStore(b, Options{Path: filepath.Join(b.TempDir(), "rooms.db")})
	use(b, s, "a", 1<<40)
	var seq atomic.Uint32
	b.ResetTimer()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			first := seq.Add(queue.MaxClaims)
			if first%(64*queue.MaxClaims) == 0 {
				call(b, s, "a")
			}
			seqs := make([]uint32, queue.MaxClaims)
			for i := range seqs {
				seqs[i] = first + uint32(i)
			}
			if _, err := claim(s, "a", seqs...); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)*queue.MaxClaims/b.Elapsed().Seconds(), "claims/s")
}
