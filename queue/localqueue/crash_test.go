package localqueue

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

const crashFile = "STANCHION_TEST_CRASH_FILE"

// TestMain turns the test binary into the victim of TestKill when it is asked to.
func TestMain(m *testing.M) {
	if path := os.Getenv(crashFile); path != "" {
		if err := storm(path, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// storm claims and leaves in several rooms at once until it is killed, and prints each answer after it was given.
func storm(path string, out io.Writer) error {
	ctx := context.Background()
	s, err := Open(ctx, Options{Path: path, SnapshotRows: 100})
	if err != nil {
		return err
	}
	base := uint32(time.Now().UnixMilli())
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, format+"\n", args...) // a line is one write: whole or not at all
	}
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for i := range 4 {
		wg.Go(func() {
			name := "room-" + strconv.Itoa(i)
			if err := stormRoom(ctx, s, name, base+uint32(i)<<20, say); err != nil {
				errs <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	wg.Wait()
	return <-errs
}

func stormRoom(ctx context.Context, s *Store, name string, seq uint32, say func(string, ...any)) error {
	id := line.ID{1}
	if err := s.Create(ctx, name); err != nil {
		return err
	}
	c, err := s.Control(ctx, name)
	if err != nil {
		return err
	}
	gen := "gen-" + strconv.Itoa(int(seq))
	if err := s.Lead(ctx, name, c.Token, "token"); err != nil {
		return err
	}
	if err := s.Regen(ctx, name, "token", gen); err != nil {
		return err
	}
	if err := s.Configure(ctx, name, gen, "token", queue.Settings{Cap: 1 << 30, StayMaxMs: 1 << 40, FirstLeaseMs: 1 << 40}); err != nil {
		return err
	}
	if err := s.StartLine(ctx, name, gen, "token", queue.LineState{Line: id, Lanes: make([]queue.LaneControl, 1)}); err != nil {
		return err
	}
	edge := line.Incarnation(seq) + 1
	sealed, chain, called := c.Sealed, c.Chain, uint64(0)
	if len(c.Lanes) > 0 {
		called = c.Lanes[0].Called
	}
	for no := uint64(1); ; no++ {
		var ends []line.SessionID
		if no%3 == 0 {
			ends = append(ends, fan(seq-2).Session)
		}
		f := queue.Flush{Gen: gen, Edge: edge, No: no, Ends: ends, Rows: []queue.Row{{Line: id, Edge: edge, Win: sealed, Count: uint32(no)}}}
		if _, err := s.Flush(ctx, name, f); err != nil {
			return err
		}
		for _, sid := range ends {
			say("%s end %s", name, sid)
		}
		next := [32]byte{byte(no), byte(seq)}
		if err := s.Seal(ctx, name, queue.Seal{Gen: gen, Token: "token", Line: id, From: sealed, To: sealed + 1, Counts: [][]uint64{{100}}, Prev: chain, Next: next}); err != nil {
			return err
		}
		sealed, chain = sealed+1, next
		say("%s sealed %d %x", name, sealed, chain)
		called += 50
		r, err := s.Call(ctx, name, queue.Call{Gen: gen, Token: "token", Line: id, Called: []uint64{called}})
		if err != nil {
			return err
		}
		say("%s called %d", name, called)
		say("%s time %d", name, r.StoreMs)
		b := queue.ClaimBatch{Gen: gen, Edge: edge}
		for range 8 {
			seq++
			b.Claims = append(b.Claims, fan(seq))
		}
		out, err := s.Claim(ctx, name, b)
		if err != nil {
			return err
		}
		for i, res := range out {
			if res.Status == queue.ClaimOK {
				say("%s ok %d", name, b.Claims[i].Stamp.Seq)
			}
		}
	}
}

// said is what a victim's answers promised for one room.
type said struct {
	ok     []uint32
	ended  map[string]bool
	sealed line.Window
	chain  string
	called uint64
	timeMs int64
}

func (s *said) hear(verb, arg, more string) error {
	n, err := strconv.ParseUint(arg, 10, 64)
	switch verb {
	case "ok":
		s.ok = append(s.ok, uint32(n))
	case "end":
		s.ended[arg], err = true, nil
	case "sealed":
		s.sealed, s.chain = line.Window(n), more
	case "called":
		s.called = n
	case "time":
		s.timeMs = int64(n)
	default:
		err = fmt.Errorf("unknown word %q", verb)
	}
	return err
}

// TestKill kills a process in the middle of a storm, again and again, and looks for everything that it had answered.
func TestKill(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rooms.db")
	promised := map[string]*said{}
	for round := range 4 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), crashFile+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, enough := 0, 300+rand.IntN(1500)
		in := bufio.NewScanner(out)
		for in.Scan() {
			f := strings.Fields(in.Text())
			s := promised[f[0]]
			if s == nil {
				s = &said{ended: map[string]bool{}}
				promised[f[0]] = s
			}
			if err := s.hear(f[1], f[2], strings.Join(f[3:], "")); err != nil {
				t.Fatalf("%q: %v", in.Text(), err)
			}
			if lines++; lines == enough {
				if err := cmd.Process.Kill(); err != nil { // SIGKILL; what is in the pipe was answered and is still read
					t.Fatal(err)
				}
			}
		}
		if lines < enough {
			t.Fatalf("the victim died by itself after %d answers", lines)
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the victim was not killed")
		}
		verify(t, path, round, promised)
	}
}

func verify(t *testing.T, path string, round int, promised map[string]*said) {
	t.Helper()
	s, err := Open(context.Background(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	total := 0
	for name, p := range promised {
		r := s.rooms[name]
		if r == nil {
			t.Fatalf("round %d: %s is gone", round, name)
		}
		l := r.current()
		for _, seq := range p.ok {
			sid := fan(seq).Session
			x := r.sx[sid]
			if !l.isSpent(line.Stamp{Inc: 1, Seq: seq}) || x == nil {
				t.Fatalf("round %d: %s: acknowledged claim %d is lost", round, name, seq)
			}
			if p.ended[sid.String()] && !x.ended {
				t.Fatalf("round %d: %s: acknowledged end of %d is lost", round, name, seq)
			}
		}
		total += len(p.ok)
		if l.lanes[0].called < p.called {
			t.Fatalf("round %d: %s: called %d, was %d", round, name, l.lanes[0].called, p.called)
		}
		if l.sealed < p.sealed || (l.sealed == p.sealed && fmt.Sprintf("%x", l.chain) != p.chain) {
			t.Fatalf("round %d: %s: sealed %d, was %d", round, name, l.sealed, p.sealed)
		}
		if s.lastMs <= p.timeMs {
			t.Fatalf("round %d: %s: store time %d, was %d", round, name, s.lastMs, p.timeMs)
		}
	}
	if total < 100 {
		t.Fatalf("round %d: only %d claims were acknowledged", round, total)
	}
}
