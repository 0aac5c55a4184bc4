package controller_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/agent"
	"github.com/stanchion-queue/stanchion/queue/controller"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/localqueue"
	"github.com/stanchion-queue/stanchion/queue/room"
)

const roomName = "onsale"

// world is a store, its edges and its controllers, under virtual time.
type world struct {
	t      *testing.T
	store  queue.Store
	passes *pass.Keys
	log    *slog.Logger
	wg     sync.WaitGroup
}

func newWorld(t *testing.T, store queue.Store) *world {
	t.Helper()
	keys, err := pass.NewKeys(pass.Key{Private: ed25519.NewKeyFromSeed([]byte(strings.Repeat("p", 32)))})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: store, passes: keys, log: slog.New(slog.DiscardHandler)}
	if os.Getenv("ROOM_LOG") != "" {
		w.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	t.Cleanup(w.wg.Wait)
	return w
}

// volatile is an embedded store that keeps nothing.
func volatile(t *testing.T) *localqueue.Store {
	t.Helper()
	s, err := localqueue.Open(t.Context(), localqueue.Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// part is a running agent or controller that a test can kill.
type part[T any] struct {
	it    T
	kill  context.CancelFunc
	drain func(context.Context) error
}

func (w *world) agent(label string, store queue.Store) part[*agent.Room] {
	w.t.Helper()
	a, err := agent.New(agent.Options{
		Store: store, Rooms: []string{roomName}, TicketKeys: []line.TicketKey{{KID: 1, Secret: []byte(strings.Repeat("t", 32))}},
		RoomMaster: []byte(strings.Repeat("m", 32)), Passes: w.passes, Issuer: "test", Label: label, Logger: w.log.With("edge", label),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	w.wg.Go(func() { _ = a.Run(ctx) })
	r, _ := a.Room(roomName)
	return part[*agent.Room]{r, cancel, a.Drain}
}

func (w *world) controller(label string, store queue.Store, s room.Settings) part[*controller.Controller] {
	w.t.Helper()
	c, err := controller.New(controller.Options{
		Store: store, Rooms: map[string]room.Settings{roomName: s}, RecordKey: ed25519.NewKeyFromSeed([]byte(strings.Repeat("r", 32))),
		Label: label, Logger: w.log.With("controller", label),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	w.wg.Go(func() { _ = c.Run(ctx) })
	return part[*controller.Controller]{c, cancel, nil}
}

// until polls a condition in virtual time.
func (w *world) until(what string, within time.Duration, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%s: not within %s", what, within)
		}
	}
}

// verify checks a pass as an edge would, and returns its claims.
func (w *world) verify(g line.Grant) pass.Claims {
	w.t.Helper()
	c, err := w.passes.Verifier().Verify(g.Pass, roomName, time.Now())
	if err != nil {
		w.t.Fatalf("fresh pass: %v", err)
	}
	return c
}

func settings(edit func(*room.Settings)) room.Settings {
	s := room.Defaults()
	s.Cap, s.RatePerSecond, s.IdleS = 10, 1000, 120
	if edit != nil {
		edit(&s)
	}
	return s
}

func code(err error) line.RefusalCode {
	if r, ok := line.AsRefusal(err); ok {
		return r.Code
	}
	return line.RefusalCode(fmt.Sprint(err))
}

// The whole way of a fan: lobby, draw, called, claim, inside, renewal, leaving, and the place going to the next.
func TestWholePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		w := newWorld(t, store)
		opens := time.Now().Add(30 * time.Second)
		w.controller("c1", store, settings(func(s *room.Settings) {
			s.Cap = 2
			s.Opening = room.Opening{Lobby: true, OpensAtMs: opens.UnixMilli(), Draw: room.Draw{Kind: line.DrawOperator}}
		}))
		edge := w.agent("e1", store)
		ctx := t.Context()
		w.until("lobby", 5*time.Second, func() bool { return edge.it.View().Phase == line.PhaseLobby })

		var tickets []string
		for range 5 {
			p, err := edge.it.Join(ctx, line.JoinRequest{Admit: true})
			if err != nil {
				t.Fatal(err)
			}
			if p.State != line.StateLobby || p.Known {
				t.Fatalf("place in the lobby = %+v", p)
			}
			tickets = append(tickets, p.Ticket)
			time.Sleep(time.Second)
		}
		if p, err := edge.it.Join(ctx, line.JoinRequest{Ticket: tickets[0]}); err != nil || p.Ticket != tickets[0] {
			t.Fatalf("joining with a ticket gave %+v, %v; want the same ticket back", p, err)
		}
		if _, _, err := edge.it.Claim(ctx, line.ClaimRequest{Ticket: tickets[0], Wait: true}); code(err) != line.RefusedEarly {
			t.Fatalf("claim in the lobby: %v", err)
		}

		w.until("line", 40*time.Second, func() bool { return edge.it.View().Phase == line.PhaseWaiting })
		if d := time.Since(opens); d < 0 || d > 2*time.Second {
			t.Errorf("the line began %s after the opening", d)
		}
		st := edge.it.View().Status
		if st.Draw == nil || st.Draw.Kind != line.DrawOperator || st.Draw.Value == "" {
			t.Errorf("draw in the status = %+v", st.Draw)
		}
		var doors, outside []string
		w.until("two fans called", 3*time.Second, func() bool {
			doors, outside = nil, nil
			for _, tk := range tickets {
				p, err := edge.it.Place(ctx, tk)
				if err != nil {
					t.Fatal(err)
				}
				if p.State == line.StateCalled {
					doors = append(doors, p.Ticket)
				} else {
					outside = append(outside, p.Ticket)
				}
			}
			return len(doors) >= 2
		})
		if lobby := edge.it.View().Status.Lanes[0].LobbyCount; lobby != 5 {
			t.Errorf("lobby count %d, want 5", lobby)
		}
		g1, p1, err := edge.it.Claim(ctx, line.ClaimRequest{Ticket: doors[0], Wait: true})
		if err != nil || p1.State != line.StateAdmitted {
			t.Fatalf("claim: %+v, %v", p1, err)
		}
		g2, _, err := edge.it.Claim(ctx, line.ClaimRequest{Ticket: doors[1], Wait: true})
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := edge.it.Claim(ctx, line.ClaimRequest{Ticket: doors[0], Wait: true})
		if err != nil || again.Session != g1.Session {
			t.Fatalf("repeated claim gave session %s, %v; want %s", again.Session, err, g1.Session)
		}
		if ttl := time.Until(g1.ExpiresAt); ttl > 30*time.Second || ttl < 27*time.Second {
			t.Errorf("first pass lives %s, want the first lease of 30 s less a little", ttl)
		}

		// The first use asks for the idle time; the next brings the new pass.
		claims := w.verify(g1)
		if u := edge.it.Use(claims, time.Now()); !u.Alive || u.Ended {
			t.Fatalf("first use = %+v", u)
		}
		var renewed *line.Grant
		w.until("renewed pass", time.Second, func() bool {
			renewed = edge.it.Use(claims, time.Now()).Renewed
			return renewed != nil
		})
		if ttl := time.Until(renewed.ExpiresAt); ttl < 115*time.Second || ttl > 120*time.Second {
			t.Errorf("renewed pass lives %s, want idle_s less a little", ttl)
		}

		// Full: the next fan waits at the door for a place, and gets it when one leaves.
		rest := append(doors[2:], outside...)
		type answer struct {
			g   line.Grant
			err error
		}
		answers := make(chan answer, len(rest))
		for _, tk := range rest {
			go func() {
				for {
					g, p, err := edge.it.Claim(ctx, line.ClaimRequest{Ticket: tk, Wait: true})
					if c := code(err); c == line.RefusedEarly || c == line.RefusedFull {
						tk = p.Ticket
						time.Sleep(time.Second)
						continue
					}
					answers <- answer{g, err}
					return
				}
			}()
		}
		time.Sleep(5 * time.Second)
		select {
		case a := <-answers:
			t.Fatalf("somebody came into a full room: %+v", a)
		default:
		}
		left := time.Now()
		if err := edge.it.Leave(ctx, g2.Session); err != nil {
			t.Fatal(err)
		}
		if u := edge.it.Use(w.verify(g2), time.Now()); !u.Ended {
			t.Errorf("use of an ended session = %+v", u)
		}
		a := <-answers
		if a.err != nil {
			t.Fatal(a.err)
		}
		if d := time.Since(left); d > 2*time.Second {
			t.Errorf("the place was free for %s", d)
		}
		// Everybody leaves: everybody gets in, and the room opens again.
		edge.it.Leave(ctx, g1.Session)
		edge.it.Leave(ctx, a.g.Session)
		for range len(rest) - 1 {
			a := <-answers
			if a.err != nil {
				t.Fatal(a.err)
			}
			edge.it.Leave(ctx, a.g.Session)
		}
		w.until("open, empty room", 20*time.Second, func() bool {
			c, err := store.Control(ctx, roomName)
			return err == nil && c.Active == 0 && edge.it.View().Open
		})
		p, err := edge.it.Join(ctx, line.JoinRequest{Admit: true})
		if err != nil || p.State != line.StateAdmitted || p.Pass == nil {
			t.Fatalf("join of an open room = %+v, %v", p, err)
		}
		if _, err := edge.it.Enter(ctx, "203.0.113.0/24"); err != nil {
			t.Fatalf("enter: %v", err)
		}
		if _, _, err := edge.it.Claim(ctx, line.ClaimRequest{Ticket: doors[0]}); code(err) != line.RefusedSpent {
			t.Errorf("claim with a used ticket: %v", err)
		}
	})
}
