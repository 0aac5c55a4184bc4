package agent

import (
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// BenchmarkJoin is a place in line: a stamp and a signature.
func BenchmarkJoin(b *testing.B) {
	r := testRoom(b, room.Defaults())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Join(b.Context(), line.JoinRequest{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPlace is a question for a place.
func BenchmarkPlace(b *testing.B) {
	r := testRoom(b, room.Defaults())
	p, err := r.Join(b.Context(), line.JoinRequest{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Place(b.Context(), p.Ticket); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUse is a request with a pass, on all cores.
func BenchmarkUse(b *testing.B) {
	r := testRoom(b, room.Defaults())
	now := time.Now()
	id := line.SessionID{7}
	r.admitted(queue.Claim{Session: id}, queue.ClaimResult{EndMs: now.Add(time.Hour).UnixMilli(), StayMs: now.Add(time.Hour).UnixMilli()}, now.UnixMilli())
	c := pass.Claims{Session: id.String(), ExpiresAt: now.Add(time.Hour).Truncate(time.Second)}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Use(c, now)
		}
	})
}
