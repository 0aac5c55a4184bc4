package controller_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/agent"
	"github.com/stanchion-queue/stanchion/queue/controller"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/localqueue"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// busy is a full room of 60 places with a long line behind it, on three edges and two controllers, each with its own cable to the store.
type busy struct {
	*world
	c           *crowd
	edges       []part[*agent.Room]
	controllers []part[*controller.Controller]
	cables      map[string]*switchboard
	set         room.Settings
}

func newBusy(t *testing.T, store queue.Store, edit func(*room.Settings)) *busy {
	t.Helper()
	b := &busy{world: newWorld(t, store), cables: map[string]*switchboard{}}
	b.set = settings(func(s *room.Settings) {
		s.Cap, s.RatePerSecond, s.IdleS, s.FirstLeaseS, s.StayMaxS = 60, 100, 20, 15, 300
		if edit != nil {
			edit(s)
		}
	})
	for _, name := range []string{"c1", "c2"} {
		b.cables[name] = plug(store)
		b.controllers = append(b.controllers, b.controller(name, b.cables[name], b.set))
	}
	b.c = &crowd{w: b.world, passes: newPasses(), absent: 0.2, silent: 0.3, dwell: 25 * time.Second}
	for _, name := range []string{"e1", "e2", "e3"} {
		b.cables[name] = plug(store)
		e := b.agent(name, b.cables[name])
		b.edges = append(b.edges, e)
		b.c.edges = append(b.c.edges, e.it)
	}
	b.until("open room", 5*time.Second, func() bool {
		for _, e := range b.edges {
			if !e.it.View().Open {
				return false
			}
		}
		return true
	})
	return b
}

// all cuts every process off, or joins them again.
func (b *busy) all(down bool) {
	for _, s := range b.cables {
		s.down.Store(down)
	}
}

// moveTo gives every process another store.
func (b *busy) moveTo(s queue.Store) {
	for _, c := range b.cables {
		c.to.Store(&s)
	}
}

func (b *busy) leader() int {
	for i, c := range b.controllers {
		if c.it.Leading(roomName) {
			return i
		}
	}
	return -1
}

// waitDone waits until n fans are through.
func (b *busy) waitDone(n int, within time.Duration) {
	b.t.Helper()
	b.until("fans through", within, func() bool { return b.c.done() >= n })
}

func TestControllerKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		b := newBusy(t, store, nil)
		wg := b.c.send(t.Context(), 300, 10*time.Second, 2)
		time.Sleep(60 * time.Second)
		old := b.leader()
		called := b.edges[0].it.View().Status.Lanes[0].Called
		b.controllers[old].kill()
		killed := time.Now()
		b.until("another leader", 5*time.Second, func() bool { return b.leader() == 1-old })
		b.until("calls go on", 5*time.Second, func() bool {
			v := b.edges[0].it.View()
			return !v.Stale && v.Status.Lanes[0].Called > called
		})
		if d := time.Since(killed); d > 5*time.Second {
			t.Errorf("a successor called after %s", d)
		}
		wg.Wait()
		b.c.check(60)
	})
}

// A controller that is cut off, or paused, and comes back finds itself replaced and changes nothing.
func TestControllerPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		b := newBusy(t, store, nil)
		wg := b.c.send(t.Context(), 400, 10*time.Second, 3)
		time.Sleep(40 * time.Second)
		old := b.leader()
		name := []string{"c1", "c2"}[old]
		b.cables[name].down.Store(true)
		b.until("another leader", 5*time.Second, func() bool { return b.controllers[1-old].it.Leading(roomName) })
		b.cables[name].down.Store(false)
		b.until("the old one stands by", 5*time.Second, func() bool { return !b.controllers[old].it.Leading(roomName) })
		if _, err := b.controllers[old].it.SetRate(t.Context(), roomName, 5, "op", "try"); err == nil {
			t.Error("a controller that stands by took a change")
		}
		if _, err := b.controllers[1-old].it.SetRate(t.Context(), roomName, 90, "op", "try"); err != nil {
			t.Errorf("the leader refused a change: %v", err)
		}
		wg.Wait()
		b.c.check(60)
	})
}

// Nobody leads: after 3 s nobody is let in, those inside notice nothing.
func TestNoController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		b := newBusy(t, store, nil)
		ctx, stop := context.WithCancel(t.Context())
		wg := b.c.send(ctx, 400, 10*time.Second, 4)
		time.Sleep(60 * time.Second)
		for _, c := range b.controllers {
			c.kill()
		}
		time.Sleep(4 * time.Second)
		from := time.Now()
		time.Sleep(30 * time.Second)
		if n := b.c.passes.since(from); n > 0 {
			t.Errorf("%d fans were let in without a controller", n)
		}
		if !b.edges[0].it.View().Stale {
			t.Error("the room does not say that it stands still")
		}
		b.controller("c3", store, b.set)
		b.until("admission goes on", 10*time.Second, func() bool { return b.c.passes.since(from) > 0 })
		stop()
		wg.Wait()
		b.c.check(60)
	})
}

// An edge dies: its places are frozen until they are known to be free, the others go on, and its fans come in by other edges.
func TestEdgeKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		b := newBusy(t, store, func(s *room.Settings) { s.OutageBoundS = 30 })
		b.c.roams = 0.2
		wg := b.c.send(t.Context(), 300, 10*time.Second, 5)
		time.Sleep(60 * time.Second)
		b.edges[2].kill()
		b.c.mu.Lock()
		b.c.edges = b.c.edges[:2]
		b.c.mu.Unlock()
		from := time.Now()
		time.Sleep(20 * time.Second)
		if n := b.c.passes.since(from); n == 0 {
			t.Error("nobody was let in after one of three edges died")
		}
		b.until("edge reaped", 60*time.Second, func() bool {
			edges, err := store.Edges(t.Context(), roomName)
			return err == nil && len(edges) == 2
		})
		wg.Wait()
		b.c.check(60)
	})
}

// An edge says goodbye: its sessions live on elsewhere at once.
func TestEdgeDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		w := newWorld(t, store)
		w.controller("c1", store, settings(nil))
		one := w.agent("e1", store)
		two := w.agent("e2", store)
		w.until("open", 5*time.Second, func() bool { return one.it.View().Open && two.it.View().Open })
		g, err := one.it.Enter(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		claims := w.verify(g)
		one.it.Use(claims, time.Now())
		time.Sleep(500 * time.Millisecond)
		start := time.Now()
		if err := one.drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("goodbye took %s", d)
		}
		if _, err := one.it.Join(t.Context(), line.JoinRequest{}); code(err) != line.RefusedMoment {
			t.Errorf("join at an edge that said goodbye: %v", err)
		}
		one.kill()
		w.until("the other edge has the session", 3*time.Second, func() bool { return two.it.Use(claims, time.Now()).Renewed != nil })
	})
}

// A session whose fan moves to another edge moves with them, and its old edge lets go.
func TestSessionMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		w := newWorld(t, store)
		w.controller("c1", store, settings(nil))
		one, two := w.agent("e1", store).it, w.agent("e2", store).it
		w.until("open", 5*time.Second, func() bool { return one.View().Open && two.View().Open })
		g, err := one.Enter(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		claims := w.verify(g)
		if u := two.Use(claims, time.Now()); u.Alive || u.Ended {
			t.Fatalf("first use at another edge = %+v, want: judge by the pass", u)
		}
		w.until("moved", 2*time.Second, func() bool { return two.Use(claims, time.Now()).Alive })
		if u := one.Use(claims, time.Now()); u.Alive {
			t.Errorf("the old home still holds the session: %+v", u)
		}
		if err := one.Leave(t.Context(), g.Session); err != nil {
			t.Fatal(err)
		}
		w.until("both know of the end", 2*time.Second, func() bool { return two.Use(claims, time.Now()).Ended })
	})
}

// A pass that ran out in a session that lives is replaced at once.
func TestExpiredPassOfLivingSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		w := newWorld(t, store)
		w.controller("c1", store, settings(nil))
		edge := w.agent("e1", store).it
		w.until("open", 5*time.Second, func() bool { return edge.View().Open })
		g, err := edge.Enter(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		claims := w.verify(g)
		edge.Use(claims, time.Now())
		time.Sleep(15 * time.Second) // the pass of the first lease, 10 s, is over; the lease is not
		if _, err := w.passes.Verifier().Verify(g.Pass, roomName, time.Now()); err == nil {
			t.Fatal("the pass still lives")
		}
		u := edge.Use(claims, time.Now())
		if !u.Alive || u.Renewed == nil {
			t.Fatalf("use of an expired pass = %+v", u)
		}
		w.verify(*u.Renewed)
		time.Sleep(130 * time.Second)
		if u := edge.Use(claims, time.Now()); u.Alive || u.Renewed != nil {
			t.Errorf("use after the lease = %+v", u)
		}
	})
}

// The store is away for as long as edges may go on alone, and a little longer.
func testStoreGone(t *testing.T, mode room.OutageMode, least float64) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		b := newBusy(t, store, func(s *room.Settings) { s.OutageMode, s.OutageBoundS = mode, 240 })
		ctx, stop := context.WithCancel(t.Context())
		wg := b.c.send(ctx, 1250, 10*time.Second, 6)
		time.Sleep(180 * time.Second)
		before := b.c.passes.since(time.Now().Add(-120 * time.Second)) // long enough that chance moves it by a few percent only
		b.all(true)
		gone := time.Now()
		time.Sleep(230 * time.Second)
		during := b.c.passes.since(gone)
		ratio := float64(during) / 230 / (float64(before) / 120)
		t.Logf("%s: %d admitted in two minutes before, ratio during the outage %.2f", mode, before, ratio)
		if ratio < least {
			t.Errorf("admissions during the outage are %.2f of those before, want %.2f", ratio, least)
		}
		if !b.edges[0].it.View().Stale || b.edges[0].it.View().Status.LimitedBy != line.LimitStore {
			t.Error("the room does not say that its store is away")
		}
		time.Sleep(40 * time.Second)
		over := time.Now()
		time.Sleep(20 * time.Second)
		if n := b.c.passes.since(over); n > 0 {
			t.Errorf("%d fans were let in after the outage bound", n)
		}
		b.all(false)
		healed := time.Now()
		time.Sleep(20 * time.Second)
		if n := b.c.passes.since(healed); n == 0 {
			t.Error("nobody is let in after the outage")
		}
		// Everything is reported: the store knows no more sessions than passes that live.
		w := b.world
		w.until("the store counts right", 60*time.Second, func() bool {
			c, err := store.Control(ctx, roomName)
			return err == nil && c.Active <= 60
		})
		stop()
		wg.Wait()
		b.c.check(60)
	})
}

func TestStoreGoneStrict(t *testing.T) { testStoreGone(t, room.OutageStrict, 0.55) }
func TestStoreGoneEarly(t *testing.T)  { testStoreGone(t, room.OutageEarly, 0.80) }

// Only one edge is cut off, the others fill the room meanwhile: both sides never own one place.
func TestEdgeCutOff(t *testing.T) {
	for _, mode := range []room.OutageMode{room.OutageStrict, room.OutageEarly} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := volatile(t)
				defer store.Close()
				b := newBusy(t, store, func(s *room.Settings) { s.OutageMode, s.OutageBoundS = mode, 60 })
				ctx, stop := context.WithCancel(t.Context())
				wg := b.c.send(ctx, 1000, 10*time.Second, 7)
				time.Sleep(90 * time.Second)
				for _, away := range []time.Duration{20 * time.Second, 90 * time.Second, 5 * time.Second} {
					b.cables["e2"].down.Store(true)
					time.Sleep(away)
					b.cables["e2"].down.Store(false)
					time.Sleep(40 * time.Second)
				}
				stop()
				wg.Wait()
				b.c.check(60)
			})
		})
	}
}

// What edges do after the outage bound, if not hold.
func TestAfterOutage(t *testing.T) {
	for _, after := range []room.AfterOutage{room.AfterHold, room.AfterOpen, room.AfterClosed} {
		t.Run(string(after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := volatile(t)
				defer store.Close()
				w := newWorld(t, store)
				w.controller("c1", store, settings(func(s *room.Settings) { s.AfterOutage, s.OutageBoundS = after, 20 }))
				cable := plug(store)
				edge := w.agent("e1", cable).it
				w.until("open", 5*time.Second, func() bool { return edge.View().Open })
				cable.down.Store(true)
				time.Sleep(10 * time.Second)
				if v := edge.View(); v.Bypass || v.Closed || v.Open || !v.Stale {
					t.Errorf("view within the bound = %+v", v)
				}
				time.Sleep(15 * time.Second)
				if v := edge.View(); v.Bypass != (after == room.AfterOpen) || v.Closed != (after == room.AfterClosed) {
					t.Errorf("view after the bound: bypass %v, closed %v", v.Bypass, v.Closed)
				}
				cable.down.Store(false)
				w.until("normal again", 5*time.Second, func() bool { v := edge.View(); return !v.Stale && !v.Bypass && !v.Closed && v.Open })
			})
		})
	}
}

// openFile opens an embedded store on a file.
func openFile(t *testing.T, path string) *localqueue.Store {
	t.Helper()
	s, err := localqueue.Open(t.Context(), localqueue.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The program is restarted on its file: places, sessions and the line are what they were.
func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rooms.db")
	synctest.Test(t, func(t *testing.T) {
		store := openFile(t, path)
		w := newWorld(t, store)
		set := settings(func(s *room.Settings) { s.Cap, s.IdleS = 3, 60 })
		c := w.controller("c1", store, set)
		e := w.agent("e1", store)
		w.until("open", 5*time.Second, func() bool { return e.it.View().Open })
		ctx := t.Context()
		// Admit is not asked for: everybody takes a place.
		var tickets []string
		for range 8 {
			p, err := e.it.Join(ctx, line.JoinRequest{})
			if err != nil {
				t.Fatal(err)
			}
			tickets = append(tickets, p.Ticket)
			time.Sleep(200 * time.Millisecond)
		}
		var grants []line.Grant
		for _, tk := range tickets[:3] {
			var g line.Grant
			var err error
			w.until("claim", 10*time.Second, func() bool {
				g, _, err = e.it.Claim(ctx, line.ClaimRequest{Ticket: tk, Wait: true})
				return err == nil
			})
			grants = append(grants, g)
			e.it.Use(w.verify(g), time.Now())
		}
		time.Sleep(time.Second)
		ranks := map[string]uint64{}
		for _, tk := range tickets {
			p, err := e.it.Place(ctx, tk)
			if err != nil || !p.Known {
				t.Fatalf("place = %+v, %v", p, err)
			}
			ranks[tk] = p.Rank
		}
		called := e.it.View().Status.Lanes[0].Called
		c.kill()
		e.kill()
		w.wg.Wait()
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}

		store = openFile(t, path)
		defer store.Close()
		w.controller("c2", store, set)
		e = w.agent("e2", store)
		down := time.Now()
		w.until("room answers", 5*time.Second, func() bool { return e.it.View().Phase == line.PhaseWaiting && !e.it.View().Stale })
		if d := time.Since(down); d > 3*time.Second {
			t.Errorf("the room was back after %s", d)
		}
		for i, tk := range tickets {
			p, err := e.it.Place(ctx, tk)
			if err != nil || !p.Known || p.Rank != ranks[tk] {
				t.Errorf("place of ticket %d after the restart = %+v, %v; want rank %d", i, p, err, ranks[tk])
			}
		}
		if now := e.it.View().Status.Lanes[0].Called; now < called {
			t.Errorf("called went back from %d to %d", called, now)
		}
		for _, g := range grants {
			claims := w.verify(g)
			w.until("session known again", 3*time.Second, func() bool { return e.it.Use(claims, time.Now()).Alive })
		}
		if _, _, err := e.it.Claim(ctx, line.ClaimRequest{Ticket: tickets[4], Wait: true}); code(err) != line.RefusedFull && code(err) != line.RefusedEarly {
			t.Errorf("claim of a fourth fan with a cap of 3: %v", err)
		}
		if err := e.it.Leave(ctx, grants[0].Session); err != nil {
			t.Fatal(err)
		}
		w.until("the place is refilled", 10*time.Second, func() bool {
			for _, tk := range tickets[3:] {
				if _, _, err := e.it.Claim(ctx, line.ClaimRequest{Ticket: tk, Wait: true}); err == nil {
					return true
				}
			}
			return false
		})
	})
}

// The store fails over to a replica that lost the last half second: what edges granted meanwhile is given back to it before anybody
// is let in again.
func TestFailoverWithLoss(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		store := openFile(t, filepath.Join(dir, "primary.db"))
		b := newBusy(t, store, nil)
		ctx, stop := context.WithCancel(t.Context())
		wg := b.c.send(ctx, 600, 10*time.Second, 8)
		time.Sleep(60 * time.Second)
		copyDB(t, filepath.Join(dir, "primary.db"), filepath.Join(dir, "replica.db"))
		time.Sleep(1500 * time.Millisecond) // these are lost
		b.all(true)
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		replica := openFile(t, filepath.Join(dir, "replica.db"))
		defer replica.Close()
		b.moveTo(replica)
		b.all(false)
		failed := time.Now()
		b.until("door opens again", 12*time.Second, func() bool { return b.c.passes.since(failed.Add(time.Second)) > 0 })
		if d := time.Since(failed); d > 8*time.Second {
			t.Errorf("the door was closed for %s", d)
		}
		time.Sleep(120 * time.Second)
		stop()
		wg.Wait()
		b.c.check(60)
	})
}

// copyDB copies an SQLite file and its write-ahead log.
func copyDB(t *testing.T, from, to string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal"} {
		body, err := os.ReadFile(from + suffix)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to+suffix, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The store comes back empty: the line, its ledger, the sessions and the used tickets are given back by those who remember them.
func TestStoreEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		b := newBusy(t, store, nil)
		ctx, stop := context.WithCancel(t.Context())
		wg := b.c.send(ctx, 600, 10*time.Second, 9)
		time.Sleep(60 * time.Second)
		before, err := store.Control(ctx, roomName)
		if err != nil {
			t.Fatal(err)
		}
		record, err := b.edges[0].it.Record(ctx, before.Line())
		if err != nil || len(record) == 0 {
			t.Fatalf("record: %v", err)
		}
		empty := volatile(t)
		defer empty.Close()
		b.moveTo(empty)
		emptied := time.Now()
		b.until("door opens again", 40*time.Second, func() bool { return b.c.passes.since(emptied.Add(time.Second)) > 0 })
		if d := time.Since(emptied); d < time.Duration(b.set.IdleS)*time.Second {
			t.Errorf("the door was open after %s, when passes of forgotten edges could still live", d)
		}
		after, err := empty.Control(ctx, roomName)
		if err != nil {
			t.Fatal(err)
		}
		if after.Line() != before.Line() || after.Lanes[0].Called < before.Lanes[0].Called || after.Sealed+10 < before.Sealed { // the last seals may not have reached an edge
			t.Errorf("after: line %s, sealed %d, lanes %+v; before: line %s, sealed %d, lanes %+v",
				after.Line(), after.Sealed, after.Lanes, before.Line(), before.Sealed, before.Lanes)
		}
		time.Sleep(60 * time.Second)
		stop()
		wg.Wait()
		b.c.check(60)
	})
}

// The store's clock jumps forwards by minutes and back again: nothing goes backwards, nobody is let in over the cap.
func TestClockStepped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var step atomic.Int64
		store, err := localqueue.Open(t.Context(), localqueue.Options{Volatile: true, Clock: func() time.Time { return time.Now().Add(time.Duration(step.Load())) }})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		b := newBusy(t, store, nil)
		ctx, stop := context.WithCancel(t.Context())
		wg := b.c.send(ctx, 1000, 60*time.Second, 10)
		for _, by := range []time.Duration{400 * time.Millisecond, -300 * time.Millisecond, 3 * time.Second, -3 * time.Second, 0} {
			time.Sleep(20 * time.Second)
			step.Store(int64(by))
		}
		stop()
		wg.Wait()
		b.c.mu.Lock()
		defer b.c.mu.Unlock()
		for _, err := range b.c.failed {
			t.Errorf("a fan's trouble: %v", err)
		}
		// Passes are judged by the store's time here, not by the machine's: see the store's own count.
		if c, err := store.Control(context.Background(), roomName); err != nil || c.Active > 60 {
			t.Errorf("%d sessions, %v; the cap is 60", c.Active, err)
		}
	})
}

// cloned answers one flush as a store does whose edge exists twice.
type cloned struct {
	queue.Store
	next atomic.Bool
}

func (c *cloned) Flush(ctx context.Context, room string, f queue.Flush) (queue.FlushReply, error) {
	if c.next.CompareAndSwap(true, false) {
		twin := f
		twin.MarkMs++ // another process with the same identity was quicker
		if _, err := c.Store.Flush(ctx, room, twin); err != nil {
			return queue.FlushReply{}, err
		}
	}
	return c.Store.Flush(ctx, room, f)
}

func TestClone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &cloned{Store: volatile(t)}
		defer store.Close()
		w := newWorld(t, store)
		w.controller("c1", store, settings(nil))
		edge := w.agent("e1", store).it
		w.until("open", 5*time.Second, func() bool { return edge.View().Open })
		g, err := edge.Enter(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		claims := w.verify(g)
		edges, err := store.Edges(t.Context(), roomName)
		if err != nil || len(edges) != 1 {
			t.Fatalf("edges = %v, %v", edges, err)
		}
		store.next.Store(true)
		w.until("another identity", 3*time.Second, func() bool {
			now, err := store.Edges(t.Context(), roomName)
			return err == nil && len(now) == 2
		})
		// The session's home is the twin now; the twin is silent, so the pass counts until it runs out, and stamps go on under the new name.
		if u := edge.Use(claims, time.Now()); u.Ended {
			t.Errorf("use = %+v", u)
		}
		p, err := edge.Join(t.Context(), line.JoinRequest{})
		if err != nil {
			t.Fatal(err)
		}
		w.until("place", 5*time.Second, func() bool {
			p, err := edge.Place(t.Context(), p.Ticket)
			return err == nil && p.Known
		})
	})
}

// Random cuts of edges, controllers and everything at once, with fans who change edges: never one too many inside, and after the last
// fault the line drains.
func TestRandomFaults(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := volatile(t)
				defer store.Close()
				b := newBusy(t, store, func(s *room.Settings) { s.OutageBoundS = 40 })
				b.c.roams = 0.15
				rnd := rand.New(rand.NewPCG(seed, 99))
				wg := b.c.send(t.Context(), 400, 20*time.Second, 100+seed)
				time.Sleep(30 * time.Second)
				names := []string{"c1", "c2", "e1", "e2", "e3"}
				for range 8 {
					switch rnd.IntN(3) {
					case 0:
						b.all(true)
						time.Sleep(time.Duration(rnd.IntN(60_000)) * time.Millisecond)
						b.all(false)
					default:
						for range 1 + rnd.IntN(3) {
							b.cables[names[rnd.IntN(len(names))]].down.Store(true)
						}
						time.Sleep(time.Duration(rnd.IntN(60_000)) * time.Millisecond)
						b.all(false)
					}
					time.Sleep(time.Duration(rnd.IntN(8_000)) * time.Millisecond)
				}
				b.waitDone(400, 8*time.Minute)
				wg.Wait()
				b.c.check(60)
			})
		})
	}
}
