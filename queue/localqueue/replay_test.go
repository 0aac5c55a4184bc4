package localqueue

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/queuetest"
)

// dump writes down what of a room has to survive its process, in one order.
func dump(r *room, nowMs int64) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("token %s open %v lines %v granted %d late %d tat %v", r.token, r.open, r.lines, r.granted, r.late, r.tat)
	p("settings %+v", r.settings)
	g := r.ring
	g.advance(nowMs)
	p("last minute %d %d", g.sumAll, g.sumLate)
	for _, id := range slices.SortedFunc(maps.Keys(r.byLine), func(a, b line.ID) int { return strings.Compare(a.String(), b.String()) }) {
		l := r.byLine[id]
		p("line %s published %+v honours %v sealed %d chain %x retired %d", id, l.published, l.honours, l.sealed, l.chain, l.retired)
		for i := range l.lanes {
			p("  lane %d called %d due %d bases %v", i, l.lanes[i].called, l.lanes[i].due, l.lanes[i].bases)
		}
		p("  seals %v", l.seals[max(0, len(l.seals)-keepSeals):])
		p("  rows %v", l.unsealed(0, 1<<31))
		for _, k := range slices.SortedFunc(maps.Keys(l.spent), func(a, b spentKey) int {
			return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
		}) {
			p("  spent %v %x", k, l.spent[k])
		}
		for i := range l.holders {
			for _, w := range slices.SortedFunc(maps.Keys(l.holders[i]), func(a, b line.Who) int { return strings.Compare(string(a[:]), string(b[:])) }) {
				p("  holder %x", w)
			}
		}
	}
	for _, sid := range slices.SortedFunc(maps.Keys(r.sx), func(a, b line.SessionID) int { return strings.Compare(string(a[:]), string(b[:])) }) {
		s := r.sx[sid]
		set, end, _ := r.where(sid, s)
		switch {
		case s.ended:
			p("session %s stay %d ended %d at %d", sid, s.stay, s.end, s.pos)
		case set != nil && end > nowMs:
			p("session %s stay %d lease %d", sid, s.stay, end)
		case set != nil:
			p("session %s stay %d over", sid, s.stay)
		default:
			end, _ = r.lapsed.get(sid)
			p("session %s stay %d lapsed %d", sid, s.stay, end)
		}
	}
	for _, f := range r.feed {
		if f.Kind == queue.FeedEnded && f.Position >= (nowMs-feedKeepMs)*feedUnit { // older ones go with the next flush
			p("feed %d %s", f.Position, f.Session)
		}
	}
	return b.String()
}

// difference lists the lines that only one of two texts has.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	var b strings.Builder
	for _, l := range g {
		if !slices.Contains(w, l) {
			b.WriteString("+ " + l + "\n")
		}
	}
	for _, l := range w {
		if !slices.Contains(g, l) {
			b.WriteString("- " + l + "\n")
		}
	}
	return b.String()
}

// revived is a store that is now and then closed and opened again, with what it then knows compared to what it knew. After that
// it goes on with the edges it had, which no real process could.
type revived struct {
	*Store
	t     testing.TB
	calls int
	seen  int
}

func (v *revived) Control(ctx context.Context, room string) (queue.Control, error) {
	if v.calls++; v.calls%25 == 0 {
		v.revive()
	}
	return v.Store.Control(ctx, room)
}

func (v *revived) revive() {
	old := v.Store
	var rows int
	if v.calls%2 == 0 { // as if killed: no last snapshot
		old.mu.Lock()
		rows, old.journal = old.journal, 0
		old.mu.Unlock()
	}
	if err := old.Close(); err != nil {
		v.t.Fatal(err)
	}
	s, err := Open(context.Background(), old.opt)
	if err != nil {
		v.t.Fatal(err)
	}
	if s.lastMs < old.lastMs-1000 {
		v.t.Fatalf("store time %d after %d", s.lastMs, old.lastMs)
	}
	for name, r := range old.rooms {
		n := s.rooms[name]
		if n == nil {
			v.t.Fatalf("room %s is gone", name)
		}
		if got, want := dump(n, old.lastMs), dump(r, old.lastMs); got != want {
			v.t.Fatalf("reopened with a journal of %d rows:\n%s", rows, difference(got, want))
		}
		if n.active > r.active || n.active != int64(n.slots[0].len()+len(n.ended)) {
			v.t.Fatalf("%d places after reopening, %d before, %d counted", n.active, r.active, n.slots[0].len()+len(n.ended))
		}
		v.seen += len(r.sx)
	}
	s.rooms, s.lastMs, s.journal = old.rooms, old.lastMs, rows
	v.Store = s
}

// TestReplay runs random histories and opens the file again and again: journal and snapshots give back what was known.
func TestReplay(t *testing.T) {
	c := newClock()
	base := Options{Path: filepath.Join(t.TempDir(), "rooms.db"), Clock: c.now, SnapshotRows: 40}
	v := &revived{Store: openStore(t, base), t: t}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	n := 0
	name := func() string { n++; return fmt.Sprintf("room-%d", n) }
	d := newClock()
	queuetest.Compare(t,
		queuetest.Fixture{Store: v, Room: name, Advance: func(_ testing.TB, _ string, x time.Duration) { c.add(x) }},
		queuetest.Fixture{Store: openStore(t, Options{Volatile: true, Clock: d.now}), Room: name, Advance: func(_ testing.TB, _ string, x time.Duration) { d.add(x) }})
	if v.seen < 100 {
		t.Fatalf("only %d sessions were given back: the histories are too poor", v.seen)
	}
}
