// Package order turns held seats into paid orders with tickets, and never
// loses what it acknowledged. It declares what it needs from others (Seats,
// Prices, Rooms, Store, payment.Provider) and drives one saga: hold, order,
// authorise, claim, sell, capture, tickets.
//
// Every step is: decide from the stored rows what to do next (decide.go,
// pure), do it outside of any transaction, store what came of it under the
// order's lock if nobody changed the order meanwhile. A process may die
// between any two instructions; whoever reads the rows next continues. Three
// rules make that safe. An error of a call is unknown, never no, and the call
// is repeated with the same ids until it is known. A seat is claimed here
// before it is sold in the inventory. Money is authorised before and captured
// after the seats are safe.
package order

import (
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/payment"
)

// Principal is who owns a hold or an order: an account, or the pass of a
// guest. The HTTP layer decides how it is proved.
type Principal string

// Staff may read and change every order. No request of a fan may carry it.
const Staff Principal = "staff:"

// Pass is a verified pass of the waiting room: the right to buy.
type Pass struct {
	ID        string    // session id (the pass's sub)
	Room      string    // the room it was issued for (aud)
	SeatLimit int       // seats this fan may hold or own at once; 0 = Options.SeatLimit
	StayUntil time.Time // when the session ends at the latest
}

// Seat is a seat inside one performance: its block and its number there.
type Seat struct {
	Block int `json:"block"` // 0..32767
	Seat  int `json:"seat"`  // 0..32767, inside the block
}

// HoldState is where one acquisition of seats stands.
type HoldState string

// The states of a hold. Placing and its seats may or may not be ours; asking
// again settles it. Selling means a sale was begun and the seats may be sold.
const (
	HoldPlacing  HoldState = "placing"
	HoldHeld     HoldState = "held"
	HoldPinned   HoldState = "pinned"
	HoldSelling  HoldState = "selling"
	HoldSold     HoldState = "sold"
	HoldReleased HoldState = "released"
	HoldRefused  HoldState = "refused" // the inventory said no
)

// Hold is one acquisition of seats in one block. A seat that is held again is
// a new hold with a new id.
type Hold struct {
	ID          uuid.UUID
	Principal   Principal
	PassID      string
	Room        string
	Performance uuid.UUID
	Block       int
	Seats       []int // ascending, inside Block
	State       HoldState
	Until       time.Time // promised end; the inventory keeps the seats a little longer
	CapAt       time.Time // no extension reaches beyond
	OrderID     uuid.UUID // zero until an order takes it
	Created     time.Time
}

// Live says whether the promise still stands at now.
func (h Hold) Live(now time.Time) bool {
	return (h.State == HoldHeld || h.State == HoldPinned) && now.Before(h.Until)
}

// UnitState is where one seat of an order stands.
type UnitState string

// The states of a unit.
const (
	UnitLive      UnitState = "live"
	UnitRefunding UnitState = "refunding" // its ticket is void, the money is on its way
	UnitRefunded  UnitState = "refunded"  // the money is back, the seat is still sold
	UnitCooling   UnitState = "cooling"   // the seat is taken back, not yet on offer
	UnitReturned  UnitState = "returned"
)

// Unit is one line of an order: one seat at one price. Amounts are minor
// units of the order's currency.
type Unit struct {
	Unit   int // 1, 2, …
	HoldID uuid.UUID
	Seat   Seat
	Label  string // as printed, such as "Stalls, row 4, seat 12"
	Offer  string // name of the price, such as "Standard"
	Price  int64
	Fee    int64
	Tax    int64 // contained in Price + Fee, not on top
	State  UnitState
}

// Total is what the fan pays for the unit.
func (u Unit) Total() int64 { return u.Price + u.Fee }

// Order is what a fan buys, with everything a page shows of it.
type Order struct {
	ID          uuid.UUID
	Principal   Principal
	PassID      string
	Room        string
	Performance uuid.UUID
	State       State
	Cause       Cause
	Version     int64
	Generation  int64
	Currency    string
	Total       int64
	PinUntil    time.Time // when the seats are let go if nothing is paid; zero before checkout
	Dispute     string    // "", opened, won, lost
	NextAt      time.Time // when the saga looks at it next; zero = only when woken
	Created     time.Time
	Updated     time.Time

	Units    []Unit
	Holds    []Hold
	Payments []payment.Payment // oldest first
	Refunds  []payment.Refund  // oldest first
}

// Attempt returns the newest payment, or nil.
func (o *Order) Attempt() *payment.Payment {
	if len(o.Payments) == 0 {
		return nil
	}
	return &o.Payments[len(o.Payments)-1]
}

// NextAction is the provider's page the fan must visit now, or "".
func (o *Order) NextAction() string {
	if p := o.Attempt(); p != nil && o.State == Paying && p.State == payment.Asked {
		return p.NextAction
	}
	return ""
}

// PayBy is the latest moment at which the fan may still pay; zero if unknown.
func (o *Order) PayBy() time.Time {
	if !o.PinUntil.IsZero() {
		return o.PinUntil
	}
	var t time.Time
	for _, h := range o.Holds {
		if t.IsZero() || h.Until.Before(t) {
			t = h.Until
		}
	}
	return t
}

// Ticket is the row issued at PAID. What its code looks like is not decided
// here.
type Ticket struct {
	ID          uuid.UUID
	OrderID     uuid.UUID
	Performance uuid.UUID
	Unit        int
	Version     int // raised when it is issued anew; older codes are void
	Seat        Seat
	Label       string
	Issued      time.Time
}

// Quote is a price a fan has seen and agreed to.
type Quote struct {
	Currency string
	Total    int64
}

// Transition is one line of an order's history.
type Transition struct {
	OrderID uuid.UUID
	Seq     int64 // the order's version it made
	From    State
	To      State
	Event   Event
	CauseID string // what caused it: a payment, hold or refund id; unique with Event where an event can repeat
	At      time.Time
}
