package localqueue

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

func TestSmoke(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "rooms.db")
	s, err := Open(ctx, Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.Create(ctx, "a"))
	must(s.Lead(ctx, "a", "", "tok"))
	must(s.Regen(ctx, "a", "tok", "g1"))
	must(s.Configure(ctx, "a", "g1", "tok", queue.Settings{Cap: 10}))
	id := line.ID{1}
	must(s.StartLine(ctx, "a", "g1", "tok", queue.LineState{Line: id, Lanes: make([]queue.LaneControl, 1)}))
	_, err = s.Flush(ctx, "a", queue.Flush{Gen: "g1", Edge: 7, No: 1, Rows: []queue.Row{{Line: id, Edge: 7, Win: 3, Count: 20}}})
	must(err)
	must(s.Seal(ctx, "a", queue.Seal{Gen: "g1", Token: "tok", Line: id, From: 0, To: 5, Counts: [][]uint64{{0, 0, 0, 20, 0}}, Next: [32]byte{1}}))
	_, err = s.Call(ctx, "a", queue.Call{Gen: "g1", Token: "tok", Line: id, Called: []uint64{15}})
	must(err)
	for i := range 12 {
		res, err := s.Claim(ctx, "a", queue.ClaimBatch{Gen: "g1", Edge: 7, Claims: []queue.Claim{{Line: id, Rank: uint64(i), Stamp: line.Stamp{Win: 3, Inc: 7, Seq: uint32(i)}, Session: line.SessionID{byte(i), 1}}}})
		must(err)
		want := queue.ClaimOK
		if i >= 10 {
			want = queue.ClaimFull
		}
		if res[0].Status != want {
			t.Fatalf("%d: %v", i, res)
		}
	}
	for range 2 {
		c, err := s.Control(ctx, "a")
		must(err)
		if c.Active != 10 || c.Lanes[0].Called != 15 || c.Lanes[0].Total != 20 {
			t.Fatalf("%+v", c)
		}
		must(s.Close())
		s, err = Open(ctx, Options{Path: path})
		must(err)
	}
	must(s.Close())
}
