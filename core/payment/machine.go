package payment

import "fmt"

// State is where one payment (one intent at the provider) stands. The -ING
// states remember what was being tried, so that an unknown outcome can be
// settled by asking again for exactly that.
type State string

// The states of a payment. New exists here alone; the provider has not been
// asked. Failed, Voided and Lapsed hold no money, and only a fresh look at
// the provider's own object leads out of them.
const (
	New         State = "NEW"
	Authorising State = "AUTHORISING"
	Asked       State = "ASKED" // the fan must act on the provider's page
	Authorised  State = "AUTHORISED"
	Capturing   State = "CAPTURING"
	Captured    State = "CAPTURED"
	Voiding     State = "VOIDING"
	Voided      State = "VOIDED"
	Failed      State = "FAILED"
	Lapsed      State = "LAPSED"
)

// States lists every state, in the order of a payment's life.
var States = []State{New, Authorising, Asked, Authorised, Capturing, Captured, Voiding, Voided, Failed, Lapsed}

// Open says whether the fan may still complete this payment: a second attempt
// must wait until it is not.
func (s State) Open() bool { return s == New || s == Authorising || s == Asked }

// HoldsMoney says whether the provider holds or has taken the fan's money for
// this payment.
func (s State) HoldsMoney() bool { return s == Authorised || s == Capturing || s == Captured }

// Settled says whether nothing more is going to happen unless the provider
// changes its mind.
func (s State) Settled() bool { return s == Captured || s == Voided || s == Failed || s == Lapsed }

// Event is something that happened to a payment. Send, Capture and Void are
// our own decisions; the rest is what the provider's object shows.
type Event string

// The events of a payment.
const (
	Send           Event = "send"            // we are about to ask the provider
	Drop           Event = "drop"            // given up before the provider was asked
	Capture        Event = "capture"         // the order service wants the money
	Void           Event = "void"            // the order service wants it undone
	SawAsked       Event = "saw-asked"       // the provider waits for the fan
	SawAuthorised  Event = "saw-authorised"  // the money is reserved
	SawCaptured    Event = "saw-captured"    // the money is taken
	SawFailed      Event = "saw-failed"      // declined, abandoned or refused for good
	SawVoided      Event = "saw-voided"      // cancelled at the provider
	SawLapsed      Event = "saw-lapsed"      // the reservation ran out
	SawCaptureOver Event = "capture-refused" // a capture was refused for good
)

// Events lists every event.
var Events = []Event{Send, Drop, Capture, Void, SawAsked, SawAuthorised, SawCaptured, SawFailed, SawVoided, SawLapsed, SawCaptureOver}

type step struct {
	from State
	ev   Event
}

// table is the whole machine. A pair that is not here is refused.
var table = map[step]State{
	{New, Send}: Authorising,
	{New, Drop}: Failed,

	{Authorising, SawAsked}:      Asked,
	{Authorising, SawAuthorised}: Authorised,
	{Authorising, SawCaptured}:   Captured, // methods that take the money by themselves
	{Authorising, SawFailed}:     Failed,
	{Authorising, SawVoided}:     Failed,

	{Asked, SawAsked}:      Asked,
	{Asked, SawAuthorised}: Authorised,
	{Asked, SawCaptured}:   Captured,
	{Asked, SawFailed}:     Failed,
	{Asked, SawVoided}:     Voided,
	{Asked, Void}:          Voiding,

	{Authorised, SawAuthorised}: Authorised,
	{Authorised, SawCaptured}:   Captured,
	{Authorised, SawVoided}:     Lapsed, // undone at the provider without us
	{Authorised, SawLapsed}:     Lapsed,
	{Authorised, Capture}:       Capturing,
	{Authorised, Void}:          Voiding,

	{Capturing, SawAuthorised}:  Capturing, // not taken yet; ask again with the same key
	{Capturing, SawCaptured}:    Captured,
	{Capturing, SawVoided}:      Failed,
	{Capturing, SawLapsed}:      Failed,
	{Capturing, SawFailed}:      Failed,
	{Capturing, SawCaptureOver}: Failed,

	{Captured, SawCaptured}: Captured,

	{Voiding, SawAsked}:      Voiding,
	{Voiding, SawAuthorised}: Voiding,
	{Voiding, SawVoided}:     Voided,
	{Voiding, SawFailed}:     Voided,
	{Voiding, SawLapsed}:     Voided,
	{Voiding, SawCaptured}:   Captured,

	// Late truths: only a fresh look may move a settled payment.
	{Failed, SawFailed}:     Failed,
	{Failed, SawAuthorised}: Authorised,
	{Failed, SawCaptured}:   Captured,
	{Voided, SawVoided}:     Voided,
	{Voided, SawAuthorised}: Authorised,
	{Voided, SawCaptured}:   Captured,
	{Lapsed, SawLapsed}:     Lapsed,
	{Lapsed, SawAuthorised}: Authorised,
	{Lapsed, SawCaptured}:   Captured,
	{Failed, SawVoided}:     Failed,
	{Failed, SawLapsed}:     Failed,
	{Voided, SawFailed}:     Voided,
	{Voided, SawLapsed}:     Voided,
	{Lapsed, SawVoided}:     Lapsed,
	{Lapsed, SawFailed}:     Lapsed,
}

// ErrWrongState is returned by Next for a pair the machine does not know.
type ErrWrongState struct {
	From  State
	Event Event
}

func (e *ErrWrongState) Error() string {
	return fmt.Sprintf("payment in %s cannot take %s", e.From, e.Event)
}

// Next is the payment state machine: pure, total, and the only place that
// knows which change is allowed.
func Next(from State, ev Event) (State, error) {
	to, ok := table[step{from, ev}]
	if !ok {
		return from, &ErrWrongState{From: from, Event: ev}
	}
	return to, nil
}
