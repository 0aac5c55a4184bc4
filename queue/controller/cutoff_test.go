package controller_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/agent"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// lossy is a cable that breaks between the store's deed and its answer: when armed, the next flush still reaches the store, and nothing
// comes back from then on.
type lossy struct {
	*switchboard
	armed atomic.Bool
}

func (l *lossy) Flush(ctx context.Context, room string, f queue.Flush) (queue.FlushReply, error) {
	reply, err := l.switchboard.Flush(ctx, room, f)
	if err == nil && l.armed.CompareAndSwap(true, false) {
		l.down.Store(true)
		return queue.FlushReply{}, errors.New("answer lost")
	}
	return reply, err
}

// pair is a room of one place with two edges, of which the first can be cut off.
type pair struct {
	*world
	cable    *lossy
	one, two *agent.Room
	passes   *ledgerOfPasses
}

func newPair(t *testing.T, store queue.Store, mode room.OutageMode) *pair {
	t.Helper()
	p := &pair{world: newWorld(t, store), cable: &lossy{switchboard: plug(store)}, passes: newPasses()}
	p.controller("c1", store, settings(func(s *room.Settings) {
		s.Cap, s.IdleS, s.FirstLeaseS, s.OutageMode, s.OutageBoundS = 1, 20, 15, mode, 120
		s.Mode = room.ModeQueueAll
	}))
	p.one, p.two = p.agent("e1", p.cable).it, p.agent("e2", store).it
	p.until("line", 5*time.Second, func() bool {
		a, b := p.one.View(), p.two.View()
		return !a.Stale && !b.Stale && !a.Line.IsZero() && a.Line == b.Line && len(a.Status.Lanes) > 0 && len(b.Status.Lanes) > 0
	})
	return p
}

// ticket stamps a fan at an edge.
func (p *pair) ticket(at *agent.Room) string {
	p.t.Helper()
	place, err := at.Join(p.t.Context(), line.JoinRequest{})
	if err != nil {
		p.t.Fatal(err)
	}
	return place.Ticket
}

// enter claims until the fan is in.
func (p *pair) enter(at *agent.Room, ticket string) (g line.Grant) {
	p.t.Helper()
	p.until("let in", 60*time.Second, func() bool {
		var err error
		if g, _, err = at.Claim(p.t.Context(), line.ClaimRequest{Ticket: ticket, Wait: true}); err == nil {
			p.passes.grant(g)
		}
		return err == nil
	})
	return g
}

// stays uses a session of the second edge every few seconds, until stop.
func (p *pair) stays(ctx context.Context, g line.Grant) {
	claims := p.verify(g)
	for ctx.Err() == nil {
		if u := p.two.Use(claims, time.Now()); u.Renewed != nil {
			p.passes.grant(*u.Renewed)
			claims = p.verify(*u.Renewed)
		}
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Second):
		}
	}
}

// both lets one fan wait at each edge's door while the first edge is alone, and judges by the passes that live.
func (p *pair) both(atOne, atTwo string, away time.Duration) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.t.Context(), away)
	defer stop()
	var wg sync.WaitGroup
	wait := func(at *agent.Room, ticket string, in func(line.Grant)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				if g, _, err := at.Claim(ctx, line.ClaimRequest{Ticket: ticket, Wait: true}); err == nil {
					p.passes.grant(g)
					in(g)
					return
				}
				time.Sleep(200 * time.Millisecond)
			}
		})
	}
	let := 0
	wait(p.two, atTwo, func(g line.Grant) { let++; p.stays(ctx, g) })
	wait(p.one, atOne, func(line.Grant) { let++ })
	wg.Wait()
	if let == 0 {
		p.t.Error("nobody had the place")
	}
	if p.passes.highest > 1 {
		p.t.Errorf("%d passes lived at one moment in a room of one place", p.passes.highest)
	}
}

// The end of a session is heard of, and the store may have heard so: the place is the store's to give, not the cut-off edge's.
func TestCutOffAfterAnEndWasHeard(t *testing.T) {
	for _, mode := range []room.OutageMode{room.OutageStrict, room.OutageEarly} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := volatile(t)
				defer store.Close()
				p := newPair(t, store, mode)
				first := p.ticket(p.one)
				time.Sleep(time.Second)
				atOne, atTwo := p.ticket(p.one), p.ticket(p.two)
				g := p.enter(p.one, first)
				claims := p.verify(g)
				p.one.Use(claims, time.Now())
				time.Sleep(time.Second)
				p.passes.leave(g.Session)
				if err := p.two.Leave(t.Context(), g.Session); err != nil {
					t.Fatal(err)
				}
				p.until("the end is heard of", 2*time.Second, func() bool { return p.one.Use(claims, time.Now()).Ended })
				p.cable.armed.Store(true)
				p.both(atOne, atTwo, 100*time.Second)
				p.cable.down.Store(false)
			})
		})
	}
}

// A session lapsed, and came back through another edge: its old home may not take it for one of its own again because the fan asks there
// too.
func TestCutOffAfterAReturnElsewhere(t *testing.T) {
	for _, mode := range []room.OutageMode{room.OutageStrict, room.OutageEarly} {
		// Edges forget sessions once a second: at some of these moments the old home still remembers.
		for _, after := range []time.Duration{1600 * time.Millisecond, 1900 * time.Millisecond, 2200 * time.Millisecond} {
			t.Run(string(mode)+" "+after.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := volatile(t)
					defer store.Close()
					p := newPair(t, store, mode)
					first := p.ticket(p.one)
					g := p.enter(p.one, first)
					time.Sleep(time.Until(g.ExpiresAt.Add(after)))
					back := p.enter(p.two, first)
					again := p.enter(p.one, first)
					if back.Session != g.Session || again.Session != g.Session {
						t.Fatal("one ticket became several sessions")
					}
					atOne, atTwo := p.ticket(p.one), p.ticket(p.two)
					p.until("places known", 2*time.Second, func() bool {
						a, errA := p.one.Place(t.Context(), atOne)
						b, errB := p.two.Place(t.Context(), atTwo)
						return errA == nil && errB == nil && a.State == line.StateCalled && b.State == line.StateCalled
					})
					p.cable.armed.Store(true)
					p.both(atOne, atTwo, 100*time.Second)
					p.cable.down.Store(false)
				})
			})
		}
	}
}
