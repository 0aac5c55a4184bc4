// Package admit decides what becomes of a request to a path inside a room. It is a pure function of what the edge knows: no I/O,
// no lock, no clock of its own, no allocation.
package admit

import (
	"time"

	"github.com/stanchion-queue/stanchion/queue/line"
)

// Kind is what a request is to its browser.
type Kind uint8

// The kinds. A page may only ever be the answer to a navigation: a script could paste it into another page.
const (
	Other      Kind = iota // a script's call, a style, an image, an API client
	Navigation             // GET or HEAD that will be shown as a page
	Form                   // a navigation with another method
	Prefetch               // a navigation that nobody may ever see
)

// Pass is what is known of the pass a request brought.
type Pass uint8

// The states of a pass.
const (
	PassNone    Pass = iota
	PassGenuine      // signed by us, for this room; its time is judged by Decide
	PassInvalid      // forged, malformed, or for another room
)

// Facts are what the decision needs to know of one request.
type Facts struct {
	Kind Kind
	Head bool // the method is HEAD

	Pass      Pass
	ExpiresAt time.Time // of a genuine pass
	Alive     bool      // the room's agent says that the session lives here
	Ended     bool      // the room's agent says that the session is over

	Ticket bool // a ticket came with the request (not yet looked at)
	Probe  bool // our probe cookie came back
}

// Snapshot is what the decision needs to know of the room.
type Snapshot struct {
	Phase  line.Phase
	Open   bool // a fan may try to enter at once
	Bypass bool // the room is switched off
	Closed bool // nobody passes: the room's store is gone for too long and the operator chose closed
}

// Of takes the snapshot from a view.
func Of(v *line.View) Snapshot {
	return Snapshot{Phase: v.Phase, Open: v.Open, Bypass: v.Bypass, Closed: v.Closed}
}

// Action is what to do.
type Action uint8

// The actions.
const (
	Forward   Action = iota // to the origin
	Enter                   // try to let the fan in at once; then Forward, Refuse or what Decide says with Open unset
	ShowPlace               // the waiting page for the fan's ticket; a called fan is let in
	Join                    // give a place, then the page
	Probe                   // the page with a probe cookie, no place yet
	ShowState               // the page of a room that gives no places at the moment
	ToRoom                  // 303 to the room's own page
	Refuse                  // 503 admission-required
	Close                   // 503: the room is closed
)

// Word is the Stanchion-Decision of a verdict.
type Word string

// The words of the contract that a room's decision can be.
const (
	WordPass   Word = "pass"
	WordOpen   Word = "open"
	WordWait   Word = "wait"
	WordBypass Word = "bypass"
)

// Verdict is the decision with its reason.
type Verdict struct {
	Action Action
	Word   Word
	Reason string // for Stanchion-Reason; empty when the word says all
}

// Decide is the whole admission policy of the edge.
func Decide(f Facts, s Snapshot, now time.Time) Verdict {
	genuine, expired := f.Pass == PassGenuine, f.Pass == PassGenuine && !now.Before(f.ExpiresAt)
	switch {
	case s.Bypass:
		return Verdict{Forward, WordBypass, ""}
	case genuine && !expired && !f.Ended:
		return Verdict{Forward, WordPass, ""}
	case expired && f.Alive && !f.Ended:
		return Verdict{Forward, WordPass, "renewed"}
	case s.Closed:
		return Verdict{Close, WordWait, "room-closed"}
	}

	reason := ""
	switch {
	case f.Ended:
		reason = "session-ended"
	case expired:
		reason = "pass-expired"
	case f.Pass == PassInvalid:
		reason = "pass-invalid"
	}

	switch f.Kind {
	case Navigation:
		switch {
		case f.Ticket:
			return Verdict{ShowPlace, WordWait, reason}
		case s.Open && !f.Head:
			return Verdict{Enter, WordOpen, reason}
		case !givesPlaces(s.Phase):
			return Verdict{ShowState, WordWait, string(s.Phase)}
		case f.Probe && !f.Head:
			return Verdict{Join, WordWait, reason}
		}
		return Verdict{Probe, WordWait, reason}
	case Form:
		if s.Open && !f.Ticket {
			return Verdict{Enter, WordOpen, reason}
		}
		return Verdict{ToRoom, WordWait, orElse(reason, "form")}
	case Prefetch:
		return Verdict{Refuse, WordWait, "prefetch"}
	}
	return Verdict{Refuse, WordWait, orElse(reason, "no-pass")}
}

// givesPlaces reports whether joining makes sense in a phase.
func givesPlaces(p line.Phase) bool {
	switch p {
	case line.PhaseEnded, line.PhaseSoldOut, line.PhaseDraining:
		return false
	}
	return true
}

func orElse(s, d string) string {
	if s == "" {
		return d
	}
	return s
}
