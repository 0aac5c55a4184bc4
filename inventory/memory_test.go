package inventory

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// Whatever waits and whatever is remembered, a planned batch may be sent: it passes Check, every seat in it admits its
// change, and no request is lost or answered twice.
func TestPlanProperties(t *testing.T) {
	ids := make([]uuid.UUID, 6)
	for i := range ids {
		ids[i] = uuid.UUID{15: byte(i + 1)}
	}
	now := time.Unix(1_900_000_000, 0)
	lease, err := MakeLease(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		id := func(name string) uuid.UUID { return ids[rapid.IntRange(0, 5).Draw(t, name)] }
		m := memory{head: Head{Ver: 5, State: State(rapid.IntRange(0, 4).Draw(t, "state"))}, sureAt: now}
		seats := rapid.IntRange(10, 250).Draw(t, "seats")
		for range seats {
			var s remembered
			switch rapid.IntRange(0, 9).Draw(t, "seat") {
			case 0:
				s.kill = 1
			case 1:
				s.order = id("order")
			case 2, 3:
				s.hold, s.until = id("hold"), now.Add(time.Duration(rapid.IntRange(-5, 60).Draw(t, "left"))*time.Second)
			}
			m.seats = append(m.seats, s)
		}
		var all []*request
		for range rapid.IntRange(0, 120).Draw(t, "requests") {
			r := newRequest()
			switch kind := Kind(rapid.IntRange(0, 7).Draw(t, "kind")); kind {
			case 0:
				r.set = &transition{from: []State{Closed, Open, Paused}, to: Draining}
			default:
				first := rapid.IntRange(0, seats-4).Draw(t, "first")
				r.change = Change{Kind: kind}
				for n := range rapid.IntRange(1, 4).Draw(t, "qty") {
					r.change.Seats = append(r.change.Seats, int16(first+n))
				}
				switch kind {
				case Hold:
					r.change.Hold, r.change.Lease, r.change.Channels = id("hold"), lease, []int16{0}
					if rapid.Bool().Draw(t, "best") {
						r.change.Seats, r.want = nil, &chart.Want{Qty: len(r.change.Seats)}
					}
				case Pin:
					r.change.Hold, r.change.Lease = id("hold"), lease
				case Release:
					r.change.Hold = id("hold")
				case Sell:
					r.change.Hold, r.change.Order = id("hold"), id("order")
				case Rescue:
					r.change.Order = id("order")
				case Unsell:
					r.change.Order, r.change.Kill = id("order"), 2
				case SetKill:
					r.change.Kill = 1
				}
			}
			if rapid.IntRange(0, 9).Draw(t, "gone") == 0 {
				r.phase = gone
			}
			all = append(all, r)
		}
		best := func(free chart.Bits, want chart.Want) (chosen []int16, ok bool) {
			for n := range seats {
				if free.Has(n) && len(chosen) < want.Qty {
					chosen = append(chosen, int16(n))
				}
			}
			return chosen, len(chosen) == want.Qty
		}
		limit := rapid.SampledFrom([]int{1, MaxBatchChanges}).Draw(t, "limit")
		p := m.plan(all, limit, best, now)

		where := map[*request]int{}
		for _, r := range p.riders {
			where[r]++
		}
		for _, r := range p.rest {
			where[r]++
		}
		for i, r := range all {
			answered := len(r.done)
			if r.phase == gone && where[r]+answered == 0 {
				continue // dropped
			}
			if where[r]+answered != 1 {
				t.Fatalf("request %d is in the batch or the rest %d times and has %d answers", i, where[r], answered)
			}
		}
		if len(p.riders) == 0 {
			// One that was put back must have a reason: something in the batch.
			if len(p.rest) > 0 {
				t.Fatalf("%d requests wait for nothing", len(p.rest))
			}
			return
		}
		if len(p.riders) > limit {
			t.Fatalf("%d changes, at most %d were asked for", len(p.riders), limit)
		}
		if err := p.batch.Check(); err != nil {
			t.Fatal(err)
		}
		if p.batch.Ver != 5 || (p.batch.Set == nil) != (len(p.batch.Changes) == len(p.riders)) {
			t.Fatalf("%+v", p.batch)
		}
		for i := range p.batch.Changes {
			for _, n := range p.batch.Changes[i].Seats {
				if !p.batch.Changes[i].Admits(m.seat(n, now)) {
					t.Fatalf("change %d is sent although memory refuses seat %d", i, n)
				}
			}
		}
	})
}

func TestMakeLease(t *testing.T) {
	for _, d := range []time.Duration{-time.Second, 0, 999 * time.Millisecond, LongestLease + 1, 1<<63 - 1} {
		if l, err := MakeLease(d); err == nil || l.Seconds() != 0 {
			t.Errorf("a lease of %v was made: %d s", d, l.Seconds())
		}
	}
	for d, want := range map[time.Duration]int{time.Second: 1, 1001 * time.Millisecond: 2, LongestLease: 7200} {
		if l, err := MakeLease(d); err != nil || l.Seconds() != want || l.Duration() != time.Duration(want)*time.Second {
			t.Errorf("a lease of %v has %d s, want %d (%v)", d, l.Seconds(), want, err)
		}
	}
}

// An answer with a code nobody knows must never be read as a "no".
func TestErrorByCode(t *testing.T) {
	for _, s := range sentinels {
		e := ErrorByCode(s.code, "why", uuid.Nil, 2, []int16{3})
		if e.Code() != s.code || e.Detail() != "why" || e.Block() != 2 || len(e.Seats()) != 1 {
			t.Errorf("%s came back as %+v", s.code, e)
		}
	}
	if e := ErrorByCode("teapot", "", uuid.Nil, 0, nil); e.Code() != ErrUnknownOutcome.code {
		t.Errorf("an unknown code became %q", e.Code())
	}
}
