package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/stanchion-queue/stanchion/perf/roomlive/rig"
	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/redisqueue"
)

// storeCosts is what Redis keeps and does, measured through the product's store adapter.
type storeCosts struct {
	BytesPerSession    float64 `json:"bytes_per_session"`
	BytesPerHolder     float64 `json:"bytes_per_holder"`
	BytesPerBitmap     float64 `json:"bytes_per_131072_stamps"`
	LedgerPerHour      float64 `json:"ledger_bytes_per_hour"`
	ClaimsPerCPUSecond float64 `json:"claims_per_redis_cpu_second"`
	ClaimsPerSecond    float64 `json:"claims_per_second"`
}

const (
	sessions   = 65_536 // twice as many fill a bitmap
	claimers   = 4
	benchEdge  = line.Incarnation(0xe1)
	benchToken = "bench"
	benchGen   = "bench"
)

// storeRoom is a room that this program drives as its controller and its only edge.
type storeRoom struct {
	store *redisqueue.Store
	name  string
	line  line.ID
}

// measureStore runs on a Redis server without durability, whose processor time is then that of the scripts.
func measureStore(ctx context.Context, dir string) (out storeCosts, err error) {
	process, address, err := rig.NewRedis(ctx, dir)
	if err != nil {
		return out, err
	}
	defer process.Kill()
	raw, err := redisClient(address)
	if err != nil {
		return out, err
	}
	defer raw.Close()
	store, err := redisqueue.Open(ctx, redisqueue.Options{Addresses: []string{address}, WaitFor: 5 * time.Second, DialTimeout: 5 * time.Second, WriteTimeout: 20 * time.Second})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	r, err := openRoom(ctx, store)
	if err != nil {
		return out, fmt.Errorf("prepare a room: %w", err)
	}
	memory := func() (float64, error) { return infoNumber(ctx, raw, "memory", "used_memory") }
	cpu := func() (float64, error) {
		user, err1 := infoNumber(ctx, raw, "cpu", "used_cpu_user_main_thread")
		system, err2 := infoNumber(ctx, raw, "cpu", "used_cpu_sys_main_thread")
		return user + system, errors.Join(err1, err2)
	}
	began, err1 := memory()
	used, err2 := cpu()
	if err := errors.Join(err1, err2); err != nil {
		return out, err
	}
	start := time.Now()
	if err := r.admit(ctx, 0, line.WhoNone); err != nil {
		return out, err
	}
	took := time.Since(start).Seconds()
	after, err1 := cpu()
	grown, err2 := memory()
	if err := errors.Join(err1, err2); err != nil {
		return out, err
	}
	out.ClaimsPerCPUSecond, out.ClaimsPerSecond = sessions/(after-used), sessions/took
	out.BytesPerSession = (grown - began) / sessions
	if err := r.admit(ctx, sessions, line.WhoAccount); err != nil {
		return out, err
	}
	prefix := "stanchion:{" + r.name + "}:"
	holders, err := sizes(ctx, raw, prefix+"who:*")
	if err != nil {
		return out, err
	}
	out.BytesPerHolder = holders / sessions
	bits, err := raw.Do(ctx, raw.B().MemoryUsage().Key(prefix+"sp:"+r.line.String()+":"+benchEdge.String()+":0").Samples(0).Build()).AsInt64()
	if err != nil {
		return out, fmt.Errorf("ask for a key's size: %w", err)
	}
	out.BytesPerBitmap = float64(bits)
	// An hour of windows, sealed four at a time as a controller does.
	counts := make([]uint64, 36_000)
	for i := range counts {
		counts[i] = uint64(i % 13)
	}
	for w := 0; w < len(counts); w += 4 {
		if err := store.Seal(ctx, r.name, queue.Seal{Gen: benchGen, Token: benchToken, Line: r.line, From: line.Window(w + 1), To: line.Window(w + 5), Counts: [][]uint64{counts[w : w+4]},
			Prev: [32]byte{1}, Next: [32]byte{1}}); err != nil {
			return out, fmt.Errorf("seal: %w", err)
		}
	}
	out.LedgerPerHour, err = sizes(ctx, raw, prefix+"led:*")
	return out, err
}

// openRoom makes a room with one line of many called tickets and room for all.
func openRoom(ctx context.Context, s *redisqueue.Store) (*storeRoom, error) {
	r := &storeRoom{store: s, name: "bench", line: line.ID{1}}
	for _, step := range []func() error{
		func() error { return s.Create(ctx, r.name) },
		func() error { return s.Lead(ctx, r.name, "", benchToken) },
		func() error { return s.Regen(ctx, r.name, benchToken, benchGen) },
		func() error {
			return s.Configure(ctx, r.name, benchGen, benchToken, queue.Settings{Cap: 1 << 40, FirstLeaseMs: 3_600_000, IdleMs: 3_600_000, StayMaxMs: 7_200_000, ReturnMs: 600_000})
		},
		func() error {
			return s.StartLine(ctx, r.name, benchGen, benchToken, queue.LineState{Line: r.line, Lanes: make([]queue.LaneControl, 1)})
		},
		func() error {
			return s.Seal(ctx, r.name, queue.Seal{Gen: benchGen, Token: benchToken, Line: r.line, To: 1, Counts: [][]uint64{{1 << 40}}, Next: [32]byte{1}})
		},
		func() error {
			_, err := s.Flush(ctx, r.name, queue.Flush{Gen: benchGen, Edge: benchEdge, No: 1})
			return err
		},
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// admit claims for as many fans as there are sessions, in full batches from several connections; every claim must be granted.
func (r *storeRoom) admit(ctx context.Context, first uint32, kind line.WhoKind) error {
	batches := make(chan uint32)
	failed := make(chan error, claimers)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range claimers {
		go func() {
			var err error
			for n := range batches {
				if err == nil {
					err = r.claim(ctx, n, min(queue.MaxClaims, first+sessions-n), kind)
				}
				if err != nil {
					cancel()
				}
			}
			failed <- err
		}()
	}
	for n := first; n < first+sessions; n += queue.MaxClaims {
		if (n-first)%(64*queue.MaxClaims) == 0 { // claims stop when nothing was called for 3 s
			if _, err := r.store.Call(ctx, r.name, queue.Call{Gen: benchGen, Token: benchToken, Line: r.line, Called: []uint64{1 << 40}}); err != nil && ctx.Err() == nil {
				close(batches)
				return fmt.Errorf("call: %w", err)
			}
		}
		batches <- n
	}
	close(batches)
	var errs []error
	for range claimers {
		errs = append(errs, <-failed)
	}
	return errors.Join(errs...)
}

func (r *storeRoom) claim(ctx context.Context, first, n uint32, kind line.WhoKind) error {
	b := queue.ClaimBatch{Gen: benchGen, Edge: benchEdge}
	for i := first; i < first+n; i++ {
		c := queue.Claim{Line: r.line, Stamp: line.Stamp{Inc: benchEdge, Seq: i}, WhoKind: kind}
		copy(c.Session[:], fmt.Sprintf("%016d", i))
		binary.BigEndian.PutUint64(c.Who[:], uint64(i+1)*0x9e3779b97f4a7c15) // holders are hashes, spread evenly
		b.Claims = append(b.Claims, c)
	}
	out, err := r.store.Claim(ctx, r.name, b)
	if err != nil {
		return fmt.Errorf("claim: %w", err)
	}
	for _, res := range out {
		if res.Status != queue.ClaimOK {
			return fmt.Errorf("claim: status %d", res.Status)
		}
	}
	return nil
}

// sizes sums what the keys of a pattern take.
func sizes(ctx context.Context, c rueidis.Client, pattern string) (total float64, err error) {
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		page, err := c.Do(ctx, c.B().Scan().Cursor(cursor).Match(pattern).Count(1000).Build()).AsScanEntry()
		if err != nil {
			return 0, fmt.Errorf("list keys: %w", err)
		}
		cursor = page.Cursor
		for _, key := range page.Elements {
			n, err := c.Do(ctx, c.B().MemoryUsage().Key(key).Samples(0).Build()).AsInt64()
			if rueidis.IsRedisNil(err) {
				continue // it has gone meanwhile
			}
			if err != nil {
				return 0, fmt.Errorf("ask for a key's size: %w", err)
			}
			total += float64(n)
		}
	}
	return total, nil
}

// infoNumber reads one field of INFO.
func infoNumber(ctx context.Context, c rueidis.Client, section, field string) (float64, error) {
	text, err := c.Do(ctx, c.B().Info().Section(section).Build()).ToString()
	if err != nil {
		return 0, fmt.Errorf("ask redis: %w", err)
	}
	for l := range strings.Lines(text) {
		if name, v, ok := strings.Cut(strings.TrimSpace(l), ":"); ok && name == field {
			n, err := strconv.ParseFloat(v, 64)
			if err != nil {
				return 0, fmt.Errorf("redis' %s: %w", field, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("redis does not say %s", field)
}
