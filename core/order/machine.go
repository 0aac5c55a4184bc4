package order

import "fmt"

// State is where an order stands.
type State string

// The states of an order. Secured means the seats are safe, Paid means the
// money is; they are different things at different moments.
const (
	None         State = "" // before it exists
	Draft        State = "DRAFT"
	Paying       State = "PAYING"
	Closing      State = "CLOSING" // the provider is being asked to let go
	Securing     State = "SECURING"
	Secured      State = "SECURED"
	Paid         State = "PAID"
	PartRefunded State = "PART_REFUNDED"
	Refunding    State = "REFUNDING"
	Refunded     State = "REFUNDED"
	Cancelled    State = "CANCELLED"
	Expired      State = "EXPIRED"
	Late         State = "LATE" // money appeared after the end
	Revoked      State = "REVOKED"
)

// States lists every state of an existing order.
var States = []State{Draft, Paying, Closing, Securing, Secured, Paid, PartRefunded, Refunding, Refunded, Cancelled, Expired, Late, Revoked}

// HasTickets says whether the fan of an order in this state owns tickets (of a
// partly refunded order: those that were not).
func (s State) HasTickets() bool { return s == Paid || s == PartRefunded }

// Over says whether the order came to an end from which only a fact from
// outside (late money, a refund, a dispute) leads out.
func (s State) Over() bool {
	switch s {
	case Paid, PartRefunded, Refunded, Cancelled, Expired, Revoked:
		return true
	}
	return false
}

// Cause says why an order is being or was closed. Closing and Late depend on
// it: what a fan cancelled is never sold to them after all.
type Cause string

// The causes.
const (
	ByNobody   Cause = ""
	ByFan      Cause = "fan"      // the fan cancelled
	ByTimer    Cause = "timer"    // the lease or pin ran out
	ByPayment  Cause = "payment"  // no attempt to pay succeeded
	BySeats    Cause = "seats"    // the seats were lost
	ByReview   Cause = "review"   // a person, or the end of their time, said no
	ByCapture  Cause = "capture"  // the provider would not give the money
	ByLateness Cause = "lateness" // late money could not be used
	ByEvent    Cause = "event"    // the event was cancelled
)

// Event is something that happens to an order.
type Event string

// The events, named after who causes them in the comment: F fan, O order
// service, P payment service, A admin, T timer.
const (
	Create              Event = "create"               // F
	LeaseOver           Event = "lease-over"           // T
	Cancel              Event = "cancel"               // F
	CheckOut            Event = "check-out"            // F
	CheckOutFree        Event = "check-out-free"       // F, nothing to pay
	AttemptFailed       Event = "attempt-failed"       // P, another attempt is possible
	FailedForGood       Event = "failed-for-good"      // P
	PinNearlyOver       Event = "pin-nearly-over"      // T
	ProviderCancelled   Event = "provider-cancelled"   // P, nothing can be paid any more
	ProviderSilent      Event = "provider-silent"      // T, the pin was extended
	ProviderSilentAtCap Event = "provider-silent-cap"  // T, the pin cannot be extended
	Authorised          Event = "authorised"           // P, authorised or captured by itself
	AllSold             Event = "all-sold"             // O
	SecureLost          Event = "secure-lost"          // O, nothing was captured
	SecureLostCaptured  Event = "secure-lost-captured" // O, the money was already taken
	SecureUnknown       Event = "secure-unknown"       // O
	ReviewNo            Event = "review-no"            // A, T
	MoneySafe           Event = "captured"             // P; O if there was nothing to pay
	CaptureRefused      Event = "capture-refused"      // P
	MoneyAppears        Event = "money-appears"        // P
	RescueOK            Event = "rescue-ok"            // O
	RescueNo            Event = "rescue-no"            // O, only authorised
	RescueNoCaptured    Event = "rescue-no-captured"   // O
	RefundSome          Event = "refund-some"          // F, A
	RefundAll           Event = "refund-all"           // F, A
	AllRefunded         Event = "all-refunded"         // P
	RefundFailed        Event = "refund-failed"        // P
	EventCancelled      Event = "event-cancelled"      // A
	DisputeOpened       Event = "dispute-opened"       // P
	DisputeWon          Event = "dispute-won"          // P
	DisputeLostBefore   Event = "dispute-lost-before"  // P, before the doors open
	DisputeLostAfter    Event = "dispute-lost-after"   // P
)

// Events lists every event.
var Events = []Event{Create, LeaseOver, Cancel, CheckOut, CheckOutFree, AttemptFailed, FailedForGood, PinNearlyOver, ProviderCancelled,
	ProviderSilent, ProviderSilentAtCap, Authorised, AllSold, SecureLost, SecureLostCaptured, SecureUnknown, ReviewNo, MoneySafe, CaptureRefused,
	MoneyAppears, RescueOK, RescueNo, RescueNoCaptured, RefundSome, RefundAll, AllRefunded, RefundFailed, EventCancelled, DisputeOpened, DisputeWon,
	DisputeLostBefore, DisputeLostAfter}

// Move is the answer of the machine: the new state, and the cause to remember
// from now on (ByNobody keeps the old one).
type Move struct {
	To    State
	Cause Cause
}

type edge struct {
	from State
	ev   Event
}

var table = map[edge]Move{
	{None, Create}: {Draft, ByNobody},

	{Draft, LeaseOver}:    {Expired, ByTimer},
	{Draft, Cancel}:       {Cancelled, ByFan},
	{Draft, CheckOut}:     {Paying, ByNobody},
	{Draft, CheckOutFree}: {Securing, ByNobody},

	{Paying, AttemptFailed}: {Paying, ByNobody},
	{Paying, FailedForGood}: {Cancelled, ByPayment},
	{Paying, PinNearlyOver}: {Closing, ByTimer},
	{Paying, Cancel}:        {Closing, ByFan},
	{Paying, Authorised}:    {Securing, ByNobody},

	{Closing, ProviderSilent}:      {Closing, ByNobody},
	{Closing, ProviderSilentAtCap}: {Expired, ByNobody},

	{Securing, AllSold}:            {Secured, ByNobody},
	{Securing, SecureLost}:         {Cancelled, BySeats},
	{Securing, SecureLostCaptured}: {Refunding, BySeats},
	{Securing, SecureUnknown}:      {Securing, ByNobody},

	{Secured, ReviewNo}:       {Cancelled, ByReview},
	{Secured, MoneySafe}:      {Paid, ByNobody},
	{Secured, CaptureRefused}: {Cancelled, ByCapture},

	{Expired, MoneyAppears}:   {Late, ByNobody},
	{Cancelled, MoneyAppears}: {Late, ByNobody},

	{Late, RescueOK}:         {Securing, ByNobody},
	{Late, RescueNo}:         {Cancelled, ByLateness},
	{Late, RescueNoCaptured}: {Refunding, ByLateness},

	{Paid, RefundSome}:             {PartRefunded, ByNobody},
	{Paid, RefundAll}:              {Refunding, ByNobody},
	{Paid, EventCancelled}:         {Refunding, ByEvent},
	{PartRefunded, RefundSome}:     {PartRefunded, ByNobody},
	{PartRefunded, RefundAll}:      {Refunding, ByNobody},
	{PartRefunded, EventCancelled}: {Refunding, ByEvent},

	{Refunding, AllRefunded}:  {Refunded, ByNobody},
	{Refunding, RefundFailed}: {Refunding, ByNobody},

	{Paid, DisputeOpened}:             {Paid, ByNobody},
	{Paid, DisputeWon}:                {Paid, ByNobody},
	{Paid, DisputeLostAfter}:          {Paid, ByNobody},
	{Paid, DisputeLostBefore}:         {Revoked, ByNobody},
	{PartRefunded, DisputeOpened}:     {PartRefunded, ByNobody},
	{PartRefunded, DisputeWon}:        {PartRefunded, ByNobody},
	{PartRefunded, DisputeLostAfter}:  {PartRefunded, ByNobody},
	{PartRefunded, DisputeLostBefore}: {Revoked, ByNobody},
}

// closing holds the answers of Closing that depend on who is closing.
var closing = map[Event]map[Cause]Move{
	ProviderCancelled: {
		ByTimer: {Expired, ByNobody},
		ByFan:   {Cancelled, ByNobody},
	},
	Authorised: {
		ByTimer: {Securing, ByNobody},
		ByFan:   {Cancelled, ByNobody},
	},
}

// ErrImpossible is returned by Next for a pair the machine does not know.
type ErrImpossible struct {
	From  State
	Event Event
}

func (e *ErrImpossible) Error() string {
	return fmt.Sprintf("order in %q cannot take %s", e.From, e.Event)
}

// Next is the order state machine: pure, total, and the only place that knows
// which change is allowed. cause matters in Closing alone.
func Next(from State, cause Cause, ev Event) (Move, error) {
	if from == Closing {
		if m, ok := closing[ev][cause]; ok {
			return m, nil
		}
	}
	if m, ok := table[edge{from, ev}]; ok {
		return m, nil
	}
	return Move{}, &ErrImpossible{From: from, Event: ev}
}
