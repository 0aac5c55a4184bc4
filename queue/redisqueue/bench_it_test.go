//go:build it

package redisqueue

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// number reads one field of INFO.
func number(t testing.TB, s *Store, section, field string) float64 {
	t.Helper()
	text, err := s.client.Do(context.Background(), s.client.B().Info().Section(section).Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseFloat(parseInfo(text)[field], 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// cpu is the processor time that the server's main thread has used, in seconds.
func cpu(t testing.TB, s *Store) float64 {
	return number(t, s, "cpu", "used_cpu_user_main_thread") + number(t, s, "cpu", "used_cpu_sys_main_thread")
}

// BenchmarkClaims claims in full batches from 8 goroutines and reports what one Redis core could do: claims per second of the
// server's own processor time. Every claim is granted, and so pays for its bit, holder, session and lease.
func BenchmarkClaims(b *testing.B) {
	p := serve(b, "--appendfsync", "no")
	s := open(b, patient(Options{Addresses: []string{p.addr()}}))
	r := useRoom(b, s, settings())
	var mu sync.Mutex
	seq, failed := uint32(0), error(nil)
	began, claims := cpu(b, s), 0
	b.SetParallelism(4)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			first := seq
			seq += queue.MaxClaims
			tick := first%(queue.MaxClaims*64) == 0
			mu.Unlock()
			if tick {
				if err := r.call(); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
			seqs := make([]uint32, queue.MaxClaims)
			for i := range seqs {
				seqs[i] = first + uint32(i)
			}
			out, err := r.claim(seqs...)
			mu.Lock()
			if err != nil {
				failed = err
			}
			for _, res := range out {
				if res.Status == queue.ClaimOK {
					claims++
				} else {
					failed = fmt.Errorf("claim got status %d", res.Status)
				}
			}
			mu.Unlock()
		}
	})
	b.StopTimer()
	if failed != nil {
		b.Fatal(failed)
	}
	used := cpu(b, s) - began
	b.ReportMetric(float64(claims)/used, "claims/cpu-s")
	b.ReportMetric(used/float64(claims)*1e6, "cpu-µs/claim")
}

// BenchmarkFlush is the usual report of an edge: two rows, five renewals, a reply with one new seal.
func BenchmarkFlush(b *testing.B) {
	p := serve(b, "--appendfsync", "no")
	s := open(b, patient(Options{Addresses: []string{p.addr()}}))
	r := useRoom(b, s, settings())
	var seqs []uint32
	for n := range uint32(64) {
		seqs = append(seqs, n)
	}
	if err := r.call(); err != nil {
		b.Fatal(err)
	}
	if _, err := r.claim(seqs...); err != nil {
		b.Fatal(err)
	}
	began := cpu(b, s)
	b.ResetTimer()
	for i := range b.N {
		f := queue.Flush{MarkMs: int64(i), Rows: []queue.Row{{Line: r.line, Win: line.Window(i/10 + 1), Count: uint32(i + 1)}, {Line: r.line, Win: line.Window(i/10 + 2), Count: uint32(i + 1)}}}
		for n := range uint32(5) {
			f.Renewals = append(f.Renewals, queue.Renewal{Session: r.fan((uint32(i) + n) % 64).Session})
		}
		if _, err := r.flush(f); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric((cpu(b, s)-began)/float64(b.N)*1e6, "cpu-µs/flush")
}

// TestMemory measures what a room costs in a server's memory and holds it to its goals: at most 300 B a session with its lease
// and home, 60 B a holder, 16 KB for 131,072 stamps, 1 MB of ledger an hour and lane, and nothing for those who wait.
func TestMemory(t *testing.T) {
	const sessions = 50_000
	p := serve(t, "--appendonly", "no")
	s := open(t, patient(Options{Addresses: []string{p.addr()}}))
	ctx := context.Background()
	grow := func(name string, work func()) float64 {
		t.Helper()
		before := number(t, s, "memory", "used_memory")
		work()
		grown := number(t, s, "memory", "used_memory") - before
		t.Logf("%s: %.0f B", name, grown)
		return grown
	}
	r := useRoom(t, s, settings())
	claimAll := func(first uint32, kind line.WhoKind) {
		t.Helper()
		for n := uint32(0); n < sessions; n += queue.MaxClaims {
			b := queue.ClaimBatch{Gen: r.gen, Edge: testEdge}
			for i := n; i < min(n+queue.MaxClaims, sessions); i++ {
				c := r.fan(first + i)
				c.WhoKind = kind
				b.Claims = append(b.Claims, c)
			}
			if err := r.call(); err != nil {
				t.Fatal(err)
			}
			out, err := s.Claim(ctx, r.name, b)
			if err != nil {
				t.Fatal(err)
			}
			for _, res := range out {
				if res.Status != queue.ClaimOK {
					t.Fatalf("claim got status %d", res.Status)
				}
			}
		}
	}
	plain := grow("sessions", func() { claimAll(0, line.WhoNone) })
	held := grow("sessions with holders", func() { claimAll(1<<20, line.WhoAccount) })
	var holders float64
	cursor := uint64(0)
	for first := true; first || cursor != 0; first = false {
		page, err := s.client.Do(ctx, s.client.B().Scan().Cursor(cursor).Match("*:who:*").Count(1000).Build()).AsScanEntry()
		if err != nil {
			t.Fatal(err)
		}
		cursor = page.Cursor
		for _, key := range page.Elements {
			n, err := s.client.Do(ctx, s.client.B().MemoryUsage().Key(key).Samples(0).Build()).AsInt64()
			if err != nil {
				t.Fatal(err)
			}
			holders += float64(n)
		}
	}
	bits, err := s.client.Do(ctx, s.client.B().MemoryUsage().Key(s.opt.Prefix+"{"+r.name+"}:sp:"+r.line.String()+":"+testEdge.String()+":0").Build()).AsInt64()
	if err != nil {
		t.Fatal(err)
	}
	hour := make([]uint64, 36_000)
	for i := range hour {
		hour[i] = uint64(i % 13)
	}
	ledger := grow("an hour of ledger", func() {
		for w := 0; w < len(hour); w += 4 { // sealed as a controller does
			seal := queue.Seal{Gen: r.gen, Token: "token", Line: r.line, From: line.Window(w + 1), To: line.Window(w + 5), Counts: [][]uint64{hour[w : w+4]}, Prev: [32]byte{1}, Next: [32]byte{1}}
			if err := s.Seal(ctx, r.name, seal); err != nil {
				t.Fatal(err)
			}
		}
	})
	waiting := grow("a million who wait", func() {
		for w := range line.Window(100) {
			if _, err := r.flush(queue.Flush{Rows: []queue.Row{{Line: r.line, Win: 40_000 + w, Count: 10_000}}}); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, g := range []struct {
		what       string
		got, limit float64
	}{
		{"B a session", plain / sessions, 300},
		{"B a session with its holder", held / sessions, 360},
		{"B a holder", holders / sessions, 60},
		{"B of a bitmap of 131,072 stamps", float64(bits), 17_000},
		{"B of ledger an hour", ledger, 1 << 20},
		{"B a fan who waits", waiting / 1e6, 0.05},
	} {
		t.Logf("%-32s %10.2f, at most %10.2f", g.what, g.got, g.limit)
		if g.got > g.limit {
			t.Errorf("%s: %.2f, at most %.2f", g.what, g.got, g.limit)
		}
	}
}
