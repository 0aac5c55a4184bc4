package officetest

import (
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Hold is a hold as the API answers it.
type Hold struct {
	ID          string    `json:"id"`
	State       string    `json:"state"`
	Until       time.Time `json:"until"`
	SecondsLeft int       `json:"seconds_left"`
	Order       string    `json:"order_id"`
	Seats       []struct{ ID, Label string }
}

// SeatIDs are the ids of the held seats.
func (h Hold) SeatIDs() string {
	var ids []string
	for _, s := range h.Seats {
		ids = append(ids, s.ID)
	}
	return strings.Join(ids, " ")
}

// Order is an order as the API answers it.
type Order struct {
	ID         string     `json:"id"`
	State      string     `json:"state"`
	Cause      string     `json:"cause"`
	Currency   string     `json:"currency"`
	Total      int64      `json:"total"`
	NextAction string     `json:"next_action"`
	Link       string     `json:"link"`
	Version    int64      `json:"version"`
	PayBy      *time.Time `json:"pay_by"`
	Units      []struct {
		Unit  int
		Label string
		State string
	}
}

// Quote is what a hold costs.
type Quote struct {
	Currency string `json:"currency"`
	Total    int64  `json:"total"`
}

// Ticket is a ticket as the API answers it.
type Ticket struct {
	ID      string `json:"id"`
	Unit    int    `json:"unit"`
	Version int    `json:"version"`
	Label   string `json:"label"`
	Code    string `json:"code"`
	Link    string `json:"link"`
}

// Key draws an idempotency key.
func Key() string { return uuid.NewString() }

// MustHold holds named seats of a performance.
func (f *Fan) MustHold(slug string, seats ...string) (h Hold) {
	t := f.Office.T
	t.Helper()
	a := f.Do(http.MethodPost, "/api/v1/performances/"+slug+"/holds", map[string]any{"seats": seats})
	if a.Status != http.StatusCreated {
		t.Fatalf("hold %v: %d %s", seats, a.Status, a.Body)
	}
	f.remember(a)
	a.Into(t, &h)
	return h
}

// remember keeps the guest token of a first answer; the cookie would do as well.
func (f *Fan) remember(a Answer) {
	if g := a.Header.Get("Stanchion-Guest"); g != "" {
		f.Guest = g
	}
}

// MustQuote prices holds.
func (f *Fan) MustQuote(holds ...string) (q Quote) {
	t := f.Office.T
	t.Helper()
	a := f.Do(http.MethodPost, "/api/v1/holds/quote", map[string]any{"holds": holds})
	if a.Status != http.StatusOK {
		t.Fatalf("quote: %d %s", a.Status, a.Body)
	}
	a.Into(t, &q)
	return q
}

// MustOrder makes an order of holds.
func (f *Fan) MustOrder(holds ...string) (o Order) {
	t := f.Office.T
	t.Helper()
	a := f.Do(http.MethodPost, "/api/v1/orders", map[string]any{"holds": holds, "quote": f.MustQuote(holds...)})
	if a.Status != http.StatusCreated {
		t.Fatalf("order: %d %s", a.Status, a.Body)
	}
	a.Into(t, &o)
	return o
}

// MustCheckOut begins to pay.
func (f *Fan) MustCheckOut(id string) (o Order) {
	t := f.Office.T
	t.Helper()
	a := f.Do(http.MethodPost, "/api/v1/orders/"+id+"/checkout", map[string]any{})
	if a.Status != http.StatusAccepted {
		t.Fatalf("check out: %d %s", a.Status, a.Body)
	}
	a.Into(t, &o)
	return o
}

// GetOrder reads an order.
func (f *Fan) GetOrder(id string) (o Order) {
	t := f.Office.T
	t.Helper()
	a := f.Do(http.MethodGet, "/api/v1/orders/"+id, nil)
	if a.Status != http.StatusOK {
		t.Fatalf("order %s: %d %s", id, a.Status, a.Body)
	}
	a.Into(t, &o)
	return o
}

// Buy buys seats with a card that pays and returns the paid order.
func (f *Fan) Buy(slug string, seats ...string) Order {
	t := f.Office.T
	t.Helper()
	h := f.MustHold(slug, seats...)
	o := f.MustOrder(h.ID)
	o = f.MustCheckOut(o.ID)
	f.PayAtProvider(o.NextAction, Pays)
	// The fan's way back to the shop makes it look at the payment.
	if a := f.Read(o.Link); a.Status != http.StatusOK {
		t.Fatalf("the order's page answered %d", a.Status)
	}
	o = f.GetOrder(o.ID)
	if o.State != "PAID" {
		t.Fatalf("the order is %s", o.State)
	}
	return o
}

// Test cards of the simulator.
const (
	Pays           = "4242 4242 4242 4242"
	Declines       = "4000 0000 0000 0002"
	Stolen         = "4000 0000 0000 9979"
	RefusesCapture = "4000 0000 0000 0101"
)

// Tickets lists the tickets of an order.
func (f *Fan) Tickets(order string) (out []Ticket) {
	t := f.Office.T
	t.Helper()
	a := f.Do(http.MethodGet, "/api/v1/orders/"+order+"/tickets", nil)
	if a.Status != http.StatusOK {
		t.Fatalf("tickets: %d %s", a.Status, a.Body)
	}
	a.Into(t, &out)
	return out
}
