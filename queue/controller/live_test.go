package controller_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stanchion-queue/stanchion/queue/controller"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// A console reads the origin's last word and exact admissions, also from a process that stands by; pages in front of free places are told to
// ask often.
func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := volatile(t)
		defer store.Close()
		w := newWorld(t, store)
		s := settings(func(s *room.Settings) { s.Cap, s.Mode = 5, room.ModeQueueAll })
		leads := w.controller("c1", store, s).it
		w.until("a leader", 5*time.Second, func() bool { return leads.Leading(roomName) })
		stands := w.controller("c2", store, s).it
		edge := w.agent("e1", store).it
		w.until("line", 5*time.Second, func() bool { return !edge.View().Stale && len(edge.View().Status.Lanes) > 0 })
		if f := edge.View().Status.Poll.Front; f != 10 {
			t.Errorf("polls of the first %d ranks are quick, want twice the free places", f)
		}
		var tickets []string
		for range 8 {
			p, err := edge.Join(t.Context(), line.JoinRequest{})
			if err != nil {
				t.Fatal(err)
			}
			tickets = append(tickets, p.Ticket)
		}
		in := 0
		w.until("a full room", 10*time.Second, func() bool {
			for _, tk := range tickets {
				if _, p, err := edge.Claim(t.Context(), line.ClaimRequest{Ticket: tk}); err == nil && p.State == line.StateAdmitted {
					in++
				}
			}
			c, err := store.Control(t.Context(), roomName)
			return err == nil && c.Active == 5
		})
		w.until("a quiet front", time.Second, func() bool { return edge.View().Status.Poll.Front == 0 })
		if err := leads.Report(t.Context(), roomName, controller.Report{Source: "core", P99MS: 120, ErrorRatio: 0.01}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for name, c := range map[string]*controller.Controller{"leader": leads, "standby": stands} {
			live, err := c.Live(t.Context(), roomName)
			if err != nil {
				t.Fatal(err)
			}
			if live.GrantedTotal != 5 {
				t.Errorf("%s: %d granted, want 5", name, live.GrantedTotal)
			}
			o := live.Origin
			if o == nil || o.P99MS != 120 || o.ErrorRatio != 0.01 || live.StoreMs-o.AtMs < 500 || live.StoreMs-o.AtMs > 2000 {
				t.Errorf("%s: origin %+v at %d", name, o, live.StoreMs)
			}
		}
	})
}
