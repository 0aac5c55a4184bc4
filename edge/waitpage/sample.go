package waitpage

import (
	"time"

	"github.com/stanchion-queue/stanchion/queue/line"
)

// Variants of states that have a look of their own; Sample and previews know them beside States.
const (
	slower  State = "slower"  // waiting, and it takes longer than planned
	offline State = "offline" // waiting, and there is no network
	closing State = "form"    // waiting after a form that was not sent
)

// Previews are the names of everything a fan can see: all states and their variants.
func Previews() []State { return append(States(), slower, offline, closing) }

// Sample is a page in the given state, or variant, with everything on it that the state can show, for previews and tests.
func Sample(state State, room, title, organiser string, now time.Time) *Page {
	opens, said := now.Add(12*time.Minute+30*time.Second), now.Add(-4*time.Minute)
	stock := int64(1840)
	p := &Page{
		State: state, Room: room, Title: title, Organiser: organiser, Back: "/", Lang: "en", Now: now, ReturnWithin: 2 * time.Minute,
		Status: &line.Status{
			Room: room, Line: line.ID{0xa1, 0xb2}, Phase: line.PhaseWaiting, ServerTime: now, OpensAt: &opens, Stock: &stock,
			Lanes:   []line.LaneStatus{{Name: "general", Called: 1200, Total: 48000, PerMinute: 240, ETA: line.ETA{Kind: "velocity", PerSecond: 4, Low: 0.85, High: 1.2}}},
			Message: "There are still seats in all blocks.", MessageAt: &said, Draw: &line.DrawStatus{Kind: "drand", Round: 4242},
		},
	}
	switch state {
	case slower:
		p.State, p.Status.Lanes[0].ETA.Cause, p.Status.Version = Waiting, "slower-core", 2
	case offline:
		p.State, p.offline = Waiting, true
	case closing:
		p.State, p.Note = Waiting, "form"
	}
	switch p.State {
	case SoldOut, Ended:
		p.Status.Message, p.Status.MessageAt = "", nil
	case Maintenance:
		p.Status.Message = "We are back at about eight."
	}
	switch p.State {
	case Lobby, Drawing, Called, Door, Moment:
		p.ticket, p.lane = "sample", "general"
	case Waiting, Paused, Draining, SoldOut, Maintenance:
		p.ticket, p.lane, p.known, p.rank, p.ahead = "sample", "general", true, 14321, 13121
	case Near:
		p.ticket, p.lane, p.known, p.rank, p.ahead = "sample", "general", true, 1263, 63
	case Inside:
		p.StayUntil = now.Add(14*time.Minute + 7*time.Second)
	}
	return p
}
