package controller_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/agent"
	"github.com/stanchion-queue/stanchion/queue/controller"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// desk is a room with one edge and one controller, open from the start unless the settings say otherwise.
type desk struct {
	*world
	edge *agent.Room
	c    *controller.Controller
}

func newDesk(t *testing.T, edit func(*room.Settings)) *desk {
	t.Helper()
	store := volatile(t)
	t.Cleanup(func() { store.Close() })
	w := newWorld(t, store)
	d := &desk{world: w, c: w.controller("c1", store, settings(edit)).it, edge: w.agent("e1", store).it}
	d.until("room", 5*time.Second, func() bool { v := d.edge.View(); return !v.Stale && d.edge.Forecast().Status.Version > 0 })
	return d
}

func (d *desk) phase(p line.Phase, within time.Duration) {
	d.t.Helper()
	d.until("phase "+string(p), within, func() bool { return d.edge.View().Phase == p })
}

// ticket joins and waits until the place is known.
func (d *desk) ticket(lane string) string {
	d.t.Helper()
	p, err := d.edge.Join(d.t.Context(), line.JoinRequest{Lane: lane})
	if err != nil {
		d.t.Fatal(err)
	}
	d.until("place", 3*time.Second, func() bool {
		q, err := d.edge.Place(d.t.Context(), p.Ticket)
		return err == nil && q.Known
	})
	return p.Ticket
}

func TestOperatorsActions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, func(s *room.Settings) { s.Cap = 1 })
		ctx := t.Context()
		d.phase(line.PhaseOpen, 5*time.Second)
		mode := func(m room.Mode) {
			t.Helper()
			if _, err := d.c.SetMode(ctx, roomName, m, "op", "test"); err != nil {
				t.Fatal(err)
			}
		}
		tk := d.ticket("")
		d.until("called", 3*time.Second, func() bool { p, err := d.edge.Place(ctx, tk); return err == nil && p.State == line.StateCalled })
		for _, want := range []struct {
			mode  room.Mode
			phase line.Phase
			code  line.RefusalCode
		}{
			{room.ModePaused, line.PhasePaused, line.RefusedMoment},
			{room.ModeDraining, line.PhaseDraining, line.RefusedMoment},
			{room.ModeMaintenance, line.PhaseMaintenance, line.RefusedMoment},
			{room.ModeEnded, line.PhaseEnded, line.RefusedClosed},
		} {
			m := want.mode
			mode(m)
			d.phase(want.phase, time.Second)
			if _, _, err := d.edge.Claim(ctx, line.ClaimRequest{Ticket: tk, Wait: true}); code(err) != want.code {
				t.Errorf("%s: claim: %v, want %s", m, err, want.code)
			}
			if by := d.edge.View().Status.LimitedBy; by != line.LimitPaused {
				t.Errorf("%s: limited by %q", m, by)
			}
		}
		if _, err := d.edge.Join(ctx, line.JoinRequest{}); code(err) != line.RefusedClosed {
			t.Errorf("join after the end: %v", err)
		}
		mode(room.ModeQueueAll)
		d.phase(line.PhaseWaiting, time.Second)
		if _, _, err := d.edge.Claim(ctx, line.ClaimRequest{Ticket: tk, Wait: true}); err != nil {
			t.Errorf("queue-all: claim: %v", err)
		}
		time.Sleep(5 * time.Second)
		if d.edge.View().Open {
			t.Error("queue-all: the room opened")
		}
		mode(room.ModeAdmitAll)
		d.until("bypass", time.Second, func() bool { return d.edge.View().Bypass })
		mode(room.ModeNormal)
		d.until("no bypass", time.Second, func() bool { return !d.edge.View().Bypass })

		before := d.edge.View().Status.Version
		if _, err := d.c.SetMessage(ctx, roomName, "Doors at eight.", "op", "news"); err != nil {
			t.Fatal(err)
		}
		d.until("message", time.Second, func() bool {
			st := d.edge.View().Status
			return st.Message == "Doors at eight." && st.MessageAt != nil && st.Version > before
		})
		ch, err := d.c.SetCap(ctx, roomName, 7, "op", "bigger hall")
		if err != nil || len(ch.Changes) != 1 || ch.Changes[0].Key != "cap" || ch.Who != "op" || ch.Reason != "bigger hall" {
			t.Errorf("change = %+v, %v", ch, err)
		}
		if _, err := d.c.SetCap(ctx, roomName, 0, "op", "oops"); !errors.Is(err, room.ErrSettings) {
			t.Errorf("cap of 0: %v", err)
		}
		if _, err := d.c.SetCap(ctx, roomName, 5, "", ""); !errors.Is(err, controller.ErrReason) {
			t.Errorf("without a name: %v", err)
		}
		if _, err := d.c.SetCap(ctx, "elsewhere", 5, "op", "x"); !errors.Is(err, controller.ErrNoRoom) {
			t.Errorf("in another room: %v", err)
		}
	})
}

func TestSettingsDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		ctx := t.Context()
		doc, err := d.c.Settings(ctx, roomName)
		if err != nil || doc.Version != 1 || doc.Settings.Cap != 10 {
			t.Fatalf("settings = %+v, %v", doc, err)
		}
		next := doc.Settings
		next.Cap, next.IdleS = 20, 60
		body, err := next.Document()
		if err != nil {
			t.Fatal(err)
		}
		if ch, err := d.c.Preview(ctx, roomName, body); err != nil || len(ch) != 2 {
			t.Errorf("preview = %v, %v", ch, err)
		}
		if _, err := d.c.Apply(ctx, roomName, body, 5, "op", "x"); !errors.Is(err, controller.ErrConflict) {
			t.Errorf("another version: %v", err)
		}
		ch, err := d.c.Apply(ctx, roomName, body, 1, "op", "x")
		if err != nil || ch.Version != 2 {
			t.Fatalf("apply = %+v, %v", ch, err)
		}
		if again, err := d.c.Apply(ctx, roomName, body, 2, "op", "x"); err != nil || again.Version != 2 || len(again.Changes) != 0 {
			t.Errorf("the same again = %+v, %v", again, err)
		}
		d.until("the edge has it", time.Second, func() bool { return d.edge.View().IdleS == 60 && d.edge.Settings().Cap == 20 })
		next.Who = room.WhoWork
		body, _ = next.Document()
		if _, err := d.c.Apply(ctx, roomName, body, 2, "op", "x"); !errors.Is(err, room.ErrSettings) {
			t.Errorf("another holder kind in the same line: %v", err)
		}
		if _, err := d.c.Preview(ctx, roomName, body); !errors.Is(err, room.ErrSettings) {
			t.Errorf("preview of it: %v", err)
		}
		if _, err := d.c.Apply(ctx, roomName, []byte(`{"cap": -1}`), 2, "op", "x"); !errors.Is(err, room.ErrSettings) {
			t.Errorf("an impossible document: %v", err)
		}
		live, err := d.c.Live(ctx, roomName)
		if err != nil || live.Settings.Version != 2 || len(live.Edges) != 1 || !live.Leading || live.Forecast.Gauges.Cap != 20 {
			t.Errorf("live = %+v, %v", live, err)
		}
		if _, err := json.Marshal(live); err != nil {
			t.Error(err)
		}
	})
}

// Sold out within 3 s of the core's report, and back when something is returned; silence of the core is not a verdict.
func TestStock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, func(s *room.Settings) { s.Cap, s.SeatLimit = 100, 4 })
		ctx := t.Context()
		d.phase(line.PhaseOpen, 5*time.Second)
		report := func(sellable, held int64) {
			t.Helper()
			if err := d.c.Report(ctx, roomName, controller.Report{Source: "core", Sellable: &sellable, Held: held}); err != nil {
				t.Fatal(err)
			}
		}
		report(1000, 0)
		time.Sleep(300 * time.Millisecond)
		report(40, 0) // room for ten fans of four seats
		time.Sleep(300 * time.Millisecond)
		var tickets []string
		for range 60 {
			p, err := d.edge.Join(ctx, line.JoinRequest{})
			if err != nil {
				t.Fatal(err)
			}
			tickets = append(tickets, p.Ticket)
		}
		time.Sleep(3 * time.Second)
		st := d.edge.View().Status
		if st.LimitedBy != line.LimitStock || st.Lanes[0].Called == 0 || st.Lanes[0].Called > 45 {
			t.Errorf("limited by %q, called %d; want the stock to bind at about 10 who come; nobody comes here", st.LimitedBy, st.Lanes[0].Called)
		}
		if st.Stock == nil || *st.Stock != 40 || st.Poll.FrontMaxMs != 12_000 {
			t.Errorf("stock %v, polls in front at most %d ms", st.Stock, st.Poll.FrontMaxMs)
		}
		front := ""
		for _, tk := range tickets {
			if p, err := d.edge.Place(ctx, tk); err == nil && p.State == line.StateCalled {
				front = tk
			}
		}
		report(0, 0)
		told := time.Now()
		d.phase(line.PhaseSoldOut, 3*time.Second)
		if since := time.Since(told); since > 3*time.Second {
			t.Errorf("sold out after %s", since)
		}
		if _, _, err := d.edge.Claim(ctx, line.ClaimRequest{Ticket: front, Wait: true}); code(err) != line.RefusedClosed {
			t.Errorf("claim when sold out: %v", err)
		}
		report(8, 0)
		d.phase(line.PhaseWaiting, 3*time.Second)
		if _, _, err := d.edge.Claim(ctx, line.ClaimRequest{Ticket: front, Wait: true}); err != nil {
			t.Errorf("claim after a return: %v", err)
		}
		// The core falls silent: its last word is forgotten.
		time.Sleep(10 * time.Second)
		if st := d.edge.View().Status; st.Stock != nil || st.Lanes[0].Called < 60 {
			t.Errorf("after the core fell silent: stock %v, called %d", st.Stock, st.Lanes[0].Called)
		}
		bad := int64(-1)
		if err := d.c.Report(ctx, roomName, controller.Report{Sellable: &bad}); !errors.Is(err, room.ErrSettings) {
			t.Errorf("an impossible report: %v", err)
		}
	})
}

// A core in trouble halves the rate, within the store's own count too, and gets it back in small steps.
func TestCoreRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, func(s *room.Settings) { s.Cap, s.RatePerSecond = 1000, 40 })
		ctx := t.Context()
		rate := func() float64 {
			c, err := d.store.Control(ctx, roomName)
			if err != nil {
				t.Fatal(err)
			}
			return c.Settings.RatePerSecond
		}
		say := func(p99 float64, for_ time.Duration) {
			for end := time.Now().Add(for_); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
				if err := d.c.Report(ctx, roomName, controller.Report{Source: "core", P99MS: p99}); err != nil {
					t.Fatal(err)
				}
			}
		}
		say(100, 3*time.Second)
		if r := rate(); r != 40 {
			t.Fatalf("rate of a healthy core %v", r)
		}
		say(5000, 2*time.Second)
		if r := rate(); r != 20 {
			t.Errorf("after one cut %v, want 20", r)
		}
		say(5000, 2*time.Second)
		if r := rate(); r != 10 {
			t.Errorf("after two cuts %v, want 10", r)
		}
		say(100, 11*time.Second)
		if r := rate(); r < 13 || r > 15 {
			t.Errorf("after 11 s of health %v, want 14", r)
		}
		say(100, 3*time.Minute)
		if r := rate(); r != 40 {
			t.Errorf("after minutes of health %v, want all of it", r)
		}
	})
}

// Grants keep to the rate, with one second's burst.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		w := newWorld(t, store)
		w.controller("c1", store, settings(func(s *room.Settings) { s.Cap, s.RatePerSecond = 10_000, 2 }))
		c := &crowd{w: w, passes: newPasses(), dwell: 10 * time.Second}
		for _, name := range []string{"e1", "e2"} {
			c.edges = append(c.edges, w.agent(name, store).it)
		}
		w.until("open", 5*time.Second, func() bool { return c.edges[0].View().Open && c.edges[1].View().Open })
		ctx, stop := context.WithCancel(t.Context())
		wg := c.send(ctx, 600, time.Second, 3)
		time.Sleep(2 * time.Minute)
		for end := 60; end <= 120; end += 10 {
			n := 0
			c.passes.mu.Lock()
			for _, at := range c.passes.late {
				if at.Before(time.Now().Add(time.Duration(end-120)*time.Second)) && !at.Before(time.Now().Add(time.Duration(end-180)*time.Second)) {
					n++
				}
			}
			c.passes.mu.Unlock()
			if n > 122 {
				t.Errorf("%d grants in the 60 s before second %d, at most 122 are allowed", n, end)
			}
		}
		if n := c.passes.since(time.Now().Add(-60 * time.Second)); n < 118 {
			t.Errorf("%d grants in the last minute, 120 were possible", n)
		}
		if by := c.edges[0].View().Status.LimitedBy; by != line.LimitRate {
			t.Errorf("limited by %q", by)
		}
		stop()
		wg.Wait()
		c.check(10_000)
	})
}

// Lanes share by weight while both have somebody waiting, and a lane alone takes all.
func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, func(s *room.Settings) {
			s.Cap, s.RatePerSecond = 10_000, 20
			s.Lanes = []room.Lane{{Name: "general", Weight: 1}, {Name: "members", Weight: 3}}
		})
		ctx := t.Context()
		for i := range 400 {
			lane := []string{"general", "members"}[i%2]
			p, err := d.edge.Join(ctx, line.JoinRequest{Lane: lane})
			if err != nil || p.Lane != lane {
				t.Fatalf("join = %+v, %v", p, err)
			}
			d.wg.Go(func() {
				for tk := p.Ticket; ctx.Err() == nil; time.Sleep(time.Second) {
					if _, _, err := d.edge.Claim(ctx, line.ClaimRequest{Ticket: tk, Wait: true}); err == nil {
						return
					}
				}
			})
		}
		time.Sleep(5 * time.Second)
		l := d.edge.View().Status.Lanes
		if g, m := float64(l[0].Called), float64(l[1].Called); m < 2.5*g || m > 3.5*g || m > 195 {
			t.Errorf("called %v and %v, want 1 : 3", g, m)
		}
		d.until("everybody", 60*time.Second, func() bool { l := d.edge.View().Status.Lanes; return l[0].Called == 200 && l[1].Called == 200 })
	})
}

// Before the opening the operator can move it, by a signed amendment; afterwards only pause.
func TestMovedOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opens := time.Now().Add(60 * time.Second)
		d := newDesk(t, func(s *room.Settings) {
			s.Opening = room.Opening{Lobby: true, OpensAtMs: opens.UnixMilli(), Draw: room.Draw{Kind: line.DrawAnnounced, Source: "the lottery's first number", DueInS: 5}}
		})
		ctx := t.Context()
		move := func(to time.Time) error {
			doc, err := d.c.Settings(ctx, roomName)
			if err != nil {
				t.Fatal(err)
			}
			doc.Settings.Opening.OpensAtMs = to.UnixMilli()
			body, err := doc.Settings.Document()
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.c.Apply(ctx, roomName, body, doc.Version, "op", "the band is late")
			return err
		}
		tk := func() string {
			p, err := d.edge.Join(ctx, line.JoinRequest{})
			if err != nil || p.State != line.StateLobby {
				t.Fatalf("join the lobby = %+v, %v", p, err)
			}
			return p.Ticket
		}()
		if err := move(opens.Add(-30 * time.Second)); !errors.Is(err, room.ErrSettings) {
			t.Errorf("an earlier draw: %v", err)
		}
		later := opens.Add(30 * time.Second)
		if err := move(later); err != nil {
			t.Fatal(err)
		}
		d.until("the edge knows", 2*time.Second, func() bool {
			st := d.edge.View().Status
			return st.OpensAt != nil && st.OpensAt.Equal(later.Truncate(time.Millisecond))
		})
		time.Sleep(time.Until(opens) + 10*time.Second)
		if p := d.edge.View().Phase; p != line.PhaseLobby {
			t.Errorf("phase at the old opening: %s", p)
		}
		value := strings.Repeat("ab", 16)
		if err := d.c.Announce(ctx, roomName, line.DrawResult{Value: value}, "op", "drawn"); !errors.Is(err, controller.ErrNoDraw) {
			t.Errorf("a value before it is due: %v", err)
		}
		time.Sleep(time.Until(later) + 7*time.Second)
		if p := d.edge.View().Phase; p != line.PhaseDrawing {
			t.Errorf("phase before the value: %s", p)
		}
		if err := move(later.Add(time.Hour)); !errors.Is(err, room.ErrSettings) {
			t.Errorf("moving after the opening: %v", err)
		}
		if err := d.c.Announce(ctx, roomName, line.DrawResult{Value: "17"}, "op", "drawn"); !errors.Is(err, room.ErrSettings) {
			t.Errorf("a value too short to be random: %v", err)
		}
		if err := d.c.Announce(ctx, roomName, line.DrawResult{Value: value}, "op", "drawn"); err != nil {
			t.Fatal(err)
		}
		d.until("called", 3*time.Second, func() bool { p, err := d.edge.Place(ctx, tk); return err == nil && p.State == line.StateCalled })
		if err := d.c.Announce(ctx, roomName, line.DrawResult{Value: value}, "op", "again"); !errors.Is(err, controller.ErrNoDraw) {
			t.Errorf("a second value: %v", err)
		}
		// What is published can be checked by anybody.
		raw, err := d.edge.Record(ctx, d.edge.View().Line)
		if err != nil {
			t.Fatal(err)
		}
		var p line.Published
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		key := ed25519.NewKeyFromSeed([]byte(strings.Repeat("r", 32))).Public().(ed25519.PublicKey)
		o, err := p.Open(key)
		if err != nil || len(o.Amendments) != 1 || o.Record.OpensAtMs != later.UnixMilli() {
			t.Fatalf("published: %+v, %v", o, err)
		}
		if len(p.Lobby) != 1 || p.Lobby[0] != 1 || p.Totals[0] != 1 || p.Result == nil || p.Result.Value != value {
			t.Errorf("published: lobby %v, totals %v, result %+v", p.Lobby, p.Totals, p.Result)
		}
		body, full, err := d.edge.LedgerChunk(ctx, d.edge.View().Line, 0, 0)
		if err != nil || !full || len(body) != 8*(line.ChunkWindows+1) {
			t.Errorf("ledger chunk: %d bytes, full %v, %v", len(body), full, err)
		}
	})
}

// beacon is public randomness that becomes known at a time.
type beacon struct {
	tries atomic.Int32
	value string
}

func (b *beacon) Fix(d line.Draw, afterMs int64) (line.Draw, error) {
	d.Round, d.DueAt = 7, afterMs+3000
	return d, nil
}

func (b *beacon) Value(_ context.Context, d line.Draw) (line.DrawResult, error) {
	switch b.tries.Add(1) {
	case 1:
		return line.DrawResult{}, controller.ErrNotYet
	case 2:
		return line.DrawResult{}, errors.New("network away")
	}
	return line.DrawResult{Round: d.Round, Value: b.value}, nil
}

func (b *beacon) Check(line.Draw, line.DrawResult) error { return errors.New("forged") }

func TestDrand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		w := newWorld(t, store)
		opens := time.Now().Add(10 * time.Second)
		set := settings(func(s *room.Settings) {
			s.Opening = room.Opening{Lobby: true, OpensAtMs: opens.UnixMilli(), Draw: room.Draw{Kind: line.DrawDrand, Chain: strings.Repeat("ab", 32)}}
		})
		o := controller.Options{Store: store, Rooms: map[string]room.Settings{roomName: set}, RecordKey: ed25519.NewKeyFromSeed(make([]byte, 32))}
		if _, err := controller.New(o); err == nil {
			t.Error("a drand room without a beacon was accepted")
		}
		b := &beacon{value: strings.Repeat("cd", 32)}
		o.Beacon = b
		c, err := controller.New(o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w.wg.Go(func() { _ = c.Run(ctx) })
		edge := w.agent("e1", store).it
		w.until("drawing", 20*time.Second, func() bool { return edge.View().Phase == line.PhaseDrawing })
		if err := c.Announce(ctx, roomName, line.DrawResult{Value: strings.Repeat("ee", 32)}, "op", "typed in"); err == nil {
			t.Error("a forged value was taken")
		}
		w.until("drawn", 20*time.Second, func() bool { return edge.View().Phase != line.PhaseDrawing })
		if d := edge.View().Status.Draw; d == nil || d.Round != 7 || d.Value != b.value {
			t.Errorf("draw = %+v", d)
		}
		if since := time.Since(opens); since < 3*time.Second || since > 10*time.Second {
			t.Errorf("drawn %s after the opening; the value was due after 3 s, and late", since)
		}
	})
}

// A new line honours the old one: its fans are called first, with the tickets they have.
func TestNewLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, func(s *room.Settings) { s.Cap = 2 })
		ctx := t.Context()
		var old []string
		for range 6 {
			old = append(old, d.ticket(""))
		}
		first := d.edge.View().Line
		doc, err := d.c.Settings(ctx, roomName)
		if err != nil {
			t.Fatal(err)
		}
		doc.Settings.Who, doc.Settings.Lanes = room.WhoAccount, []room.Lane{{Name: "members", Weight: 1}}
		body, err := doc.Settings.Document()
		if err != nil {
			t.Fatal(err)
		}
		last, err := d.edge.Join(ctx, line.JoinRequest{}) // not sealed when the line changes
		if err != nil {
			t.Fatal(err)
		}
		old = append(old, last.Ticket)
		if _, err := d.c.NewLine(ctx, roomName, body, doc.Version, true, "op", "members only from now on"); err != nil {
			t.Fatal(err)
		}
		d.until("another line", 3*time.Second, func() bool { return d.edge.View().Line != first && !d.edge.View().Line.IsZero() })
		if _, err := d.edge.Join(ctx, line.JoinRequest{}); code(err) != line.RefusedAccount {
			t.Errorf("join of the new line without an account: %v", err)
		}
		p, err := d.edge.Join(ctx, line.JoinRequest{Account: "ann"})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := d.edge.Join(ctx, line.JoinRequest{Ticket: old[0]}); err != nil || again.Ticket == "" {
			t.Errorf("join with an honoured ticket = %+v, %v", again, err)
		}
		d.until("the late ticket of the old line has a place", 6*time.Second, func() bool {
			q, err := d.edge.Place(ctx, last.Ticket)
			return err == nil && q.Known
		})
		admit := func(tk string) line.Grant {
			t.Helper()
			var g line.Grant
			d.until("let in", 60*time.Second, func() bool {
				var err error
				g, _, err = d.edge.Claim(ctx, line.ClaimRequest{Ticket: tk, Wait: true})
				return err == nil
			})
			return g
		}
		var q line.Place
		d.until("the newcomer has a place", 3*time.Second, func() bool { q, err = d.edge.Place(ctx, p.Ticket); return err == nil && q.Known })
		if q.State != line.StateWaiting || q.Ahead == 0 {
			t.Errorf("place of the newcomer = %+v, %v", q, err)
		}
		for _, tk := range old {
			g := admit(tk)
			if _, _, err := d.edge.Claim(ctx, line.ClaimRequest{Ticket: p.Ticket}); err == nil && tk != old[len(old)-1] {
				t.Fatal("the newcomer was let in before those of the old line")
			}
			if err := d.edge.Leave(ctx, g.Session); err != nil {
				t.Fatal(err)
			}
		}
		admit(p.Ticket)
		if _, err := d.c.NewLine(ctx, roomName, body, 1, false, "op", "x"); !errors.Is(err, controller.ErrConflict) {
			t.Errorf("new line on an old version: %v", err)
		}
		if _, err := d.c.NewLine(ctx, roomName, body, 2, false, "op", "start over"); err != nil {
			t.Fatal(err)
		}
		d.until("the old tickets are over", 3*time.Second, func() bool {
			_, err := d.edge.Place(ctx, old[0])
			return code(err) == line.RefusedLineOver
		})
		if raw, err := d.edge.Record(ctx, first); err != nil || len(raw) == 0 {
			t.Errorf("record of an old line: %v", err)
		}
	})
}

// A room that is open for days does not keep every window since its first day; who is inside notices nothing.
func TestLineIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		w := newWorld(t, store)
		c, err := controller.New(controller.Options{
			Store: store, Rooms: map[string]room.Settings{roomName: settings(nil)}, RecordKey: ed25519.NewKeyFromSeed(make([]byte, 32)), LineMaxAge: 30 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w.wg.Go(func() { _ = c.Run(ctx) })
		edge := w.agent("e1", store).it
		w.until("open", 5*time.Second, func() bool { return edge.View().Open })
		p, err := edge.Join(ctx, line.JoinRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var g line.Grant
		w.until("let in", 10*time.Second, func() bool {
			g, _, err = edge.Claim(ctx, line.ClaimRequest{Ticket: p.Ticket, Wait: true})
			return err == nil
		})
		first := edge.View().Line
		w.until("another line", 60*time.Second, func() bool { edge.Use(w.verify(g), time.Now()); return edge.View().Line != first })
		w.until("open again", 3*time.Second, func() bool { return edge.View().Open })
		claims := w.verify(g)
		if u := edge.Use(claims, time.Now()); !u.Alive {
			t.Errorf("a session of the line before = %+v", u)
		}
		if again, _, err := edge.Claim(ctx, line.ClaimRequest{Ticket: p.Ticket, Wait: true}); err != nil || again.Session != g.Session {
			t.Errorf("its ticket gave session %s, %v", again.Session, err)
		}
		if _, err := edge.Enter(ctx, ""); err != nil {
			t.Errorf("enter: %v", err)
		}
	})
}

// The page names why it got slower.
func TestCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, func(s *room.Settings) { s.Cap, s.RatePerSecond = 10_000, 10 })
		ctx := t.Context()
		c := &crowd{w: d.world, edges: []*agent.Room{d.edge}, passes: newPasses(), dwell: time.Minute}
		wg := c.send(ctx, 1500, time.Second, 1)
		time.Sleep(50 * time.Second)
		if cause := d.edge.View().Status.Lanes[0].ETA.Cause; cause != "" {
			t.Errorf("nothing is wrong, yet the cause is %q", cause)
		}
		if _, err := d.c.SetRate(ctx, roomName, 3, "op", "the shop is slow"); err != nil {
			t.Fatal(err)
		}
		d.until("a cause", 2*time.Minute, func() bool { return d.edge.View().Status.Lanes[0].ETA.Cause == "rate" })
		if _, err := d.c.SetMode(ctx, roomName, room.ModePaused, "op", "break"); err != nil {
			t.Fatal(err)
		}
		d.until("another cause", time.Second, func() bool { return d.edge.View().Status.Lanes[0].ETA.Cause == "paused" })
		if _, err := d.c.SetRate(ctx, roomName, 500, "op", "let them in"); err != nil {
			t.Fatal(err)
		}
		if _, err := d.c.SetMode(ctx, roomName, room.ModeNormal, "op", "go"); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
	})
}

// One claim a holder, whichever edge and ticket; and a network gets its share.
func TestHoldersAndNetworks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, func(s *room.Settings) {
			s.Cap, s.Who, s.NetworkShare, s.NetworkMin = 100, room.WhoAccount, 0.05, 3
		})
		ctx := t.Context()
		join := func(account string) string {
			t.Helper()
			p, err := d.edge.Join(ctx, line.JoinRequest{Account: account})
			if err != nil {
				t.Fatal(err)
			}
			return p.Ticket
		}
		claim := func(tk, group string) error {
			var err error
			d.until("an answer", 20*time.Second, func() bool {
				_, _, err = d.edge.Claim(ctx, line.ClaimRequest{Ticket: tk, Group: group})
				return code(err) != line.RefusedEarly
			})
			return err
		}
		a, b := join("ann"), join("ann")
		if err := claim(a, ""); err != nil {
			t.Fatal(err)
		}
		if err := claim(b, ""); code(err) != line.RefusedHolder {
			t.Errorf("a second claim of one account: %v", err)
		}
		for i, name := range []string{"b", "c", "d", "e"} {
			err := claim(join(name), "203.0.113.0/24")
			if i < 3 && err != nil {
				t.Errorf("claim %d of a network: %v", i, err)
			}
			if i == 3 && code(err) != line.RefusedShare {
				t.Errorf("a claim over the network's share: %v", err)
			}
		}
	})
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		w := newWorld(t, store)
		c, err := controller.New(controller.Options{
			Store: store, Rooms: map[string]room.Settings{roomName: settings(nil)}, RecordKey: ed25519.NewKeyFromSeed(make([]byte, 32)), Registerer: reg,
		})
		if err != nil {
			t.Fatal(err)
		}
		a, err := agent.New(agent.Options{
			Store: store, Rooms: []string{roomName}, TicketKeys: []line.TicketKey{{KID: 1, Secret: make([]byte, 32)}},
			RoomMaster: make([]byte, 32), Passes: w.passes, Issuer: "test", Registerer: reg,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		w.wg.Go(func() { _ = c.Run(ctx) })
		w.wg.Go(func() { _ = a.Run(ctx) })
		r, _ := a.Room(roomName)
		w.until("open", 5*time.Second, func() bool { return r.View().Open })
		if _, err := r.Enter(ctx, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		cancel()
	})
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			have[f.GetName()] += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	for name, want := range map[string]float64{"stanchion_room_inside_sessions": 1, "stanchion_room_overshoot_sessions": 0, "stanchion_room_leading": 1, "stanchion_room_claims_total": 1} {
		if got, ok := have[name]; !ok || got != want {
			t.Errorf("%s = %v, %v; want %v", name, got, ok, want)
		}
	}
	if have["stanchion_room_flush_seconds"] == 0 || have["stanchion_room_seal_age_seconds"] == 0 {
		t.Error("nothing was measured")
	}
}

func TestNewRefuses(t *testing.T) {
	store := struct{ queue.Store }{}
	good := controller.Options{Store: store, Rooms: map[string]room.Settings{"a": room.Defaults()}, RecordKey: ed25519.NewKeyFromSeed(make([]byte, 32))}
	if _, err := controller.New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*controller.Options){
		"no store":         func(o *controller.Options) { o.Store = nil },
		"no key":           func(o *controller.Options) { o.RecordKey = nil },
		"bad room name":    func(o *controller.Options) { o.Rooms = map[string]room.Settings{"A": room.Defaults()} },
		"invalid settings": func(o *controller.Options) { o.Rooms = map[string]room.Settings{"a": {}} },
	} {
		o := good
		spoil(&o)
		if _, err := controller.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
