// Package waitpage is what a fan sees: one page for every state of waiting, rendered on the server so that it is complete
// without JavaScript, and one small script that keeps it live from the room's public status.
//
// The words are in lang, one file per language, which the page and the script share. The script and the style are built by go
// generate from client and src into built and served under names that hold their hash. The script is TypeScript; client is the part
// that other programs may use as well.
package waitpage

import (
	"time"

	"github.com/stanchion-queue/stanchion/queue/line"
)

//go:generate go run ./build

// CSP is the page's content security policy: nothing from elsewhere, nothing inline, and no page may frame it but its own.
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"

// State is what the page has to say. It is also the key of its words.
type State string

// The states of the page.
const (
	Probe          State = "probe"   // first visit: does this browser keep cookies?
	Lobby          State = "lobby"   // before the opening
	Drawing        State = "drawing" // the lobby is closed, the draw is not known yet
	Waiting        State = "waiting"
	Near           State = "near"   // called within minutes
	Called         State = "called" // may come in
	Door           State = "door"   // called, and the room is full
	Moment         State = "moment" // called, and it did not work this second
	Inside         State = "inside"
	Paused         State = "paused"
	Draining       State = "draining"
	SoldOut        State = "sold_out"
	Maintenance    State = "maintenance"
	Ended          State = "ended"
	Left           State = "left"  // gave the place up
	Spent          State = "spent" // the place became a session that is over
	HolderUsed     State = "holder_used"
	Refused        State = "refused" // the ticket is not valid here
	NeedsAccount   State = "needs_account"
	CookiesBlocked State = "cookies_blocked"
)

// States are all states, in the order a fan may meet them.
func States() []State {
	return []State{Probe, Lobby, Drawing, Waiting, Near, Called, Door, Moment, Inside, Paused, Draining, SoldOut, Maintenance, Ended, Left, Spent,
		HolderUsed, Refused, NeedsAccount, CookiesBlocked}
}

// nearAhead and nearWithin say when a fan should stay at the page.
const (
	nearAhead  = 100
	nearWithin = 5 * time.Minute
)

// OfPhase is the state of a fan without a place in a phase.
func OfPhase(p line.Phase) State {
	switch p {
	case line.PhaseLobby:
		return Lobby
	case line.PhaseDrawing:
		return Drawing
	case line.PhasePaused:
		return Paused
	case line.PhaseDraining:
		return Draining
	case line.PhaseSoldOut:
		return SoldOut
	case line.PhaseMaintenance:
		return Maintenance
	case line.PhaseEnded:
		return Ended
	}
	return Waiting
}

// OfRefusal is the state after a room's refusal.
func OfRefusal(code line.RefusalCode, phase line.Phase) State {
	switch code {
	case line.RefusedFull:
		return Door
	case line.RefusedMoment, line.RefusedShare:
		if s := OfPhase(phase); s == Paused || s == Draining || s == Maintenance {
			return s
		}
		return Moment
	case line.RefusedHolder:
		return HolderUsed
	case line.RefusedSpent:
		return Spent
	case line.RefusedAccount, line.RefusedInvite, line.RefusedWork:
		return NeedsAccount
	case line.RefusedClosed:
		if phase == line.PhaseSoldOut {
			return SoldOut
		}
		return Ended
	}
	return Refused
}

// Page is one page to render.
type Page struct {
	State     State
	Room      string
	Title     string // the event
	Organiser string
	Status    *line.Status // not nil
	Stale     bool         // the room has not heard from its store for a while
	Back      string       // the path that the fan wants
	Note      string       // how the fan came here: "form", "left" or a refusal's code
	Lang      string       // one of Languages; see Pages.Language
	Script    bool         // the page's script has run in this browser before
	Preview   bool         // only to be looked at: the page comes without its script
	Now       time.Time

	Refusal    line.RefusalCode
	RetryAfter time.Duration

	ReturnWithin time.Duration // how long a called fan has to come
	StayUntil    time.Time     // with Inside

	ticket  string
	lane    string
	sample  bool
	known   bool
	offline bool // previews only
	rank    uint64
	ahead   uint64
}

// SetPlace fills in a fan's place and the state that follows from it.
func (p *Page) SetPlace(pl line.Place) {
	p.ticket, p.lane, p.sample, p.known, p.rank, p.ahead = pl.Ticket, pl.Lane, pl.Sample, pl.Known, pl.Rank, pl.Ahead
	switch s := OfPhase(p.Status.Phase); {
	case s == Paused || s == Draining || s == SoldOut || s == Maintenance || s == Ended:
		p.State = s
	case pl.State == line.StateCalled:
		p.State = Called
	case pl.State == line.StateAdmitted:
		p.State = Inside
	case s == Drawing:
		p.State = Drawing
	case pl.State == line.StateLobby:
		p.State = Lobby
	default:
		p.State = Waiting
		if i, ok := p.interval(); pl.Known && (pl.Ahead <= nearAhead || ok && i.High <= nearWithin) {
			p.State = Near
		}
	}
}

// LaneIndex is the place of the fan's lane in the status, 0 when it is not known.
func (p *Page) LaneIndex() int {
	for i, l := range p.Status.Lanes {
		if l.Name == p.lane {
			return i
		}
	}
	return 0
}

// RankOr is the fan's rank, or d while it is not known.
func (p *Page) RankOr(d uint64) uint64 {
	if p.known {
		return p.rank
	}
	return d
}

func (p *Page) interval() (line.Interval, bool) {
	i := p.LaneIndex()
	if !p.known || i >= len(p.Status.Lanes) {
		return line.Interval{}, false
	}
	return p.Status.Lanes[i].Estimate(p.rank)
}
