package api

import (
	"context"
	"crypto/subtle"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/buyer"
	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/counter"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/problem"
	"github.com/stanchion-queue/stanchion/core/ticketing"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// body is an answer with a body and the usual headers.
type body[T any] struct {
	CacheControl string `header:"Cache-Control"`
	Body         T
}

func fresh[T any](v T) *body[T] { return &body[T]{CacheControl: "no-store", Body: v} }

func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// Catalog.

// PerformanceDetails is a performance as the API shows it.
type PerformanceDetails struct {
	ID       uuid.UUID       `json:"id"`
	Slug     string          `json:"slug"`
	Event    uuid.UUID       `json:"event_id"`
	Title    string          `json:"title"`
	Venue    catalog.Venue   `json:"venue"`
	Starts   time.Time       `json:"starts_at"`
	Room     string          `json:"room,omitempty" doc:"Waiting room whose pass is needed to buy."`
	Currency string          `json:"currency"`
	Offers   []catalog.Offer `json:"offers"`
	SaleOpen bool            `json:"sale_open"`
	Version  int64           `json:"version"`
}

// EventDetails is an event with its performances.
type EventDetails struct {
	ID           uuid.UUID            `json:"id"`
	Slug         string               `json:"slug"`
	Title        string               `json:"title"`
	Summary      string               `json:"summary"`
	Version      int64                `json:"version"`
	Performances []PerformanceDetails `json:"performances"`
}

func performanceOf(s catalog.Show) PerformanceDetails {
	return PerformanceDetails{s.ID, s.Slug, s.Event, s.Title, s.House, s.Starts, s.Room, s.Currency, s.Offers, s.SaleOpen, s.Version}
}

func (a *api) events(ctx context.Context) ([]EventDetails, error) {
	events, err := a.Catalog.Events(ctx)
	if err != nil {
		return nil, err
	}
	shows, err := a.Catalog.Shows(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]EventDetails, 0, len(events))
	for _, e := range events {
		ev := EventDetails{e.ID, e.Slug, e.Title, e.Summary, e.Version, []PerformanceDetails{}}
		for _, s := range shows {
			if s.Event == e.ID {
				ev.Performances = append(ev.Performances, performanceOf(s))
			}
		}
		out = append(out, ev)
	}
	return out, nil
}

const publicShort = "public, max-age=5"

func (a *api) listEvents(ctx context.Context, _ *struct{}) (*body[[]EventDetails], error) {
	events, err := a.events(ctx)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return &body[[]EventDetails]{CacheControl: publicShort, Body: events}, nil
}

// EventPath names an event in a path.
type EventPath struct {
	Event string `path:"event" maxLength:"64" doc:"Id or slug."`
}

func (a *api) event(ctx context.Context, idOrSlug string) (EventDetails, error) {
	events, err := a.events(ctx)
	if err != nil {
		return EventDetails{}, err
	}
	for _, e := range events {
		if e.Slug == idOrSlug || e.ID.String() == idOrSlug {
			return e, nil
		}
	}
	return EventDetails{}, catalog.ErrNotFound
}

func (a *api) getEvent(ctx context.Context, in *EventPath) (*body[EventDetails], error) {
	e, err := a.event(ctx, in.Event)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return &body[EventDetails]{CacheControl: publicShort, Body: e}, nil
}

// PerformancePath names a performance in a path.
type PerformancePath struct {
	Performance string `path:"performance" maxLength:"64" doc:"Id or slug."`
}

func (a *api) getEventPerformance(ctx context.Context, in *struct {
	EventPath
	PerformancePath
}) (*body[PerformanceDetails], error) {
	e, err := a.event(ctx, in.Event)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	for _, p := range e.Performances {
		if p.Slug == in.Performance || p.ID.String() == in.Performance {
			return &body[PerformanceDetails]{CacheControl: publicShort, Body: p}, nil
		}
	}
	return nil, a.fail(ctx, catalog.ErrNotFound)
}

func (a *api) getPerformance(ctx context.Context, in *PerformancePath) (*body[PerformanceDetails], error) {
	s, err := a.Catalog.Find(ctx, in.Performance)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return &body[PerformanceDetails]{CacheControl: publicShort, Body: performanceOf(s)}, nil
}

type chartAnswer struct {
	CacheControl    string `header:"Cache-Control"`
	ETag            string `header:"ETag"`
	BlockStarts     string `header:"Stanchion-Block-Starts" doc:"Position in chart order of each block's first seat, comma separated."`
	ContentType     string `header:"Content-Type"`
	ContentEncoding string `header:"Content-Encoding"`
	Vary            string `header:"Vary"`
	Body            []byte
}

// getChart answers the canonical plan document itself, so that its hash can be checked; where each block begins in chart order
// is in a header. It is the largest answer of all, so it is kept compressed.
func (a *api) getChart(ctx context.Context, in *struct {
	PerformancePath
	Section string `query:"section" maxLength:"64" doc:"Only this section, as a plan of its own. Its seats follow those of the sections before it in chart order."`
	Accept  string `header:"Accept-Encoding"`
}) (*chartAnswer, error) {
	s, err := a.Catalog.Find(ctx, in.Performance)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	hall, err := a.Catalog.Hall(ctx, s.ID)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	d, err := hall.Document(in.Section)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	starts := make([]string, len(hall.BlockStarts))
	for i, n := range hall.BlockStarts {
		starts[i] = strconv.Itoa(n)
	}
	out := &chartAnswer{CacheControl: "public, max-age=300", ETag: `"` + hall.Hash + `"`, BlockStarts: strings.Join(starts, ","),
		ContentType: "application/json", Vary: "Accept-Encoding", Body: d.Plain}
	if acceptsGzip(in.Accept) {
		out.ContentEncoding, out.ETag, out.Body = "gzip", `"`+hall.Hash+`.gz"`, d.Gzip
	}
	return out, nil
}

// acceptsGzip reads Accept-Encoding; a client that refuses gzip by name (q=0) is obeyed.
func acceptsGzip(header string) bool {
	for _, part := range strings.Split(header, ",") {
		name, parameters, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			q, found := strings.CutPrefix(strings.ReplaceAll(parameters, " ", ""), "q=")
			weight, err := strconv.ParseFloat(q, 64)
			return !found || err != nil || weight > 0
		}
	}
	return false
}

func (a *api) getAvailability(ctx context.Context, in *struct {
	PerformancePath
	Since int64 `query:"since" minimum:"0" doc:"Version of the answer you have; 0 or absent: everything."`
}) (*body[chart.Availability], error) {
	s, err := a.Catalog.Find(ctx, in.Performance)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	av, err := a.Seats.Availability(ctx, s.ID, in.Since)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return &body[chart.Availability]{CacheControl: "public, max-age=1", Body: av}, nil
}

func (a *api) listVenues(ctx context.Context, _ *struct{}) (*body[[]catalog.Venue], error) {
	v, err := a.Catalog.Venues(ctx)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return &body[[]catalog.Venue]{CacheControl: publicShort, Body: v}, nil
}

// Staff.

func (a *api) staff(ctx context.Context, token string) error {
	if a.StaffToken == "" || subtle.ConstantTimeCompare([]byte(token), []byte(a.StaffToken)) != 1 {
		return a.fail(ctx, problem.New(problem.StaffOnly, "Send it in the header Stanchion-Staff-Token."))
	}
	return nil
}

// StaffHeader carries the token of the staff.
type StaffHeader struct {
	StaffToken string `header:"Stanchion-Staff-Token"`
}

func (a *api) putVenue(ctx context.Context, in *struct {
	StaffHeader
	ID   uuid.UUID `path:"id"`
	Body catalog.Venue
}) (*body[catalog.Venue], error) {
	if err := a.staff(ctx, in.StaffToken); err != nil {
		return nil, err
	}
	in.Body.ID = in.ID
	if err := a.Catalog.PutVenue(ctx, in.Body); err != nil {
		return nil, a.fail(ctx, err)
	}
	in.Body.Version++
	return fresh(in.Body), nil
}

func (a *api) putEvent(ctx context.Context, in *struct {
	StaffHeader
	Event uuid.UUID `path:"event"`
	Body  catalog.Event
}) (*body[catalog.Event], error) {
	if err := a.staff(ctx, in.StaffToken); err != nil {
		return nil, err
	}
	in.Body.ID = in.Event
	if err := a.Catalog.PutEvent(ctx, in.Body); err != nil {
		return nil, a.fail(ctx, err)
	}
	in.Body.Version++
	return fresh(in.Body), nil
}

func (a *api) putPerformance(ctx context.Context, in *struct {
	StaffHeader
	Performance uuid.UUID `path:"performance"`
	Body        catalog.Performance
}) (*body[catalog.Performance], error) {
	if err := a.staff(ctx, in.StaffToken); err != nil {
		return nil, err
	}
	in.Body.ID = in.Performance
	if err := a.Catalog.PutPerformance(ctx, in.Body); err != nil {
		return nil, a.fail(ctx, err)
	}
	in.Body.Version++
	return fresh(in.Body), nil
}

// Holds.

// HoldSeat is one held seat.
type HoldSeat struct {
	ID    string `json:"id" doc:"Seat id in the chart."`
	Label string `json:"label"`
}

// Hold is a hold as the API shows it.
type Hold struct {
	ID          uuid.UUID       `json:"id"`
	Performance uuid.UUID       `json:"performance_id"`
	State       order.HoldState `json:"state"`
	Seats       []HoldSeat      `json:"seats"`
	Until       time.Time       `json:"until" doc:"End of the promise."`
	SecondsLeft int             `json:"seconds_left"`
	Order       *uuid.UUID      `json:"order_id,omitempty"`
}

func (a *api) hold(ctx context.Context, h order.Hold) (Hold, error) {
	out := Hold{ID: h.ID, Performance: h.Performance, State: h.State, Until: h.Until.UTC(), Seats: []HoldSeat{}}
	if left := h.Until.Sub(a.Now()); left > 0 {
		out.SecondsLeft = int(left / time.Second)
	}
	if h.OrderID != uuid.Nil {
		out.Order = &h.OrderID
	}
	hall, err := a.Catalog.Hall(ctx, h.Performance)
	if err != nil {
		return Hold{}, err
	}
	ids, labels := counter.SeatsOf(hall, h)
	for i := range ids {
		out.Seats = append(out.Seats, HoldSeat{ids[i], labels[i]})
	}
	return out, nil
}

// HoldBody asks for named seats or for the best ones; exactly one of the two.
type HoldBody struct {
	Seats []string  `json:"seats,omitempty" maxItems:"20" doc:"Seat ids of the chart, all in one block."`
	Best  *BestSeat `json:"best,omitempty" doc:"The best adjacent seats."`
}

// BestSeat asks for the best adjacent seats.
type BestSeat struct {
	Qty        int    `json:"qty" minimum:"1" maximum:"20"`
	Offer      string `json:"offer,omitempty" doc:"Category; empty: any."`
	Accessible bool   `json:"accessible,omitempty" doc:"An accessible place with companions beside it."`
}

type holdAnswer struct {
	Status       int
	Location     string `header:"Location"`
	CacheControl string `header:"Cache-Control"`
	Body         Hold
}

func (a *api) createHold(ctx context.Context, in *struct {
	PerformancePath
	Body HoldBody
}) (*holdAnswer, error) {
	s, err := a.Catalog.Find(ctx, in.Performance)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	pass, err := a.Buyers.Pass(requestOf(ctx), s.Room)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	if (len(in.Body.Seats) == 0) == (in.Body.Best == nil) {
		return nil, a.fail(ctx, problem.New(problem.Invalid, "Send exactly one of seats and best."))
	}
	base := order.HoldRequest{ID: subjectOf(ctx), Principal: buyerOf(ctx).Principal, Pass: pass, Performance: s.ID}
	wish := counter.Wish{IDs: in.Body.Seats, OneBlock: true}
	if b := in.Body.Best; b != nil {
		wish = counter.Wish{Qty: b.Qty, Offer: b.Offer, Accessible: b.Accessible}
	}
	holds, err := a.Counter.Hold(ctx, base, wish)
	if err != nil {
		return nil, a.fail(ctx, a.named(ctx, s.ID, err))
	}
	h := holds[0]
	shown, err := a.hold(ctx, h)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	out := &holdAnswer{Status: http.StatusCreated, CacheControl: "no-store", Location: "/api/v1/holds/" + h.ID.String(), Body: shown}
	if h.State == order.HoldPlacing {
		out.Status = http.StatusAccepted
	}
	return out, nil
}

// named fills the chart's ids into a problem about seats.
func (a *api) named(ctx context.Context, performance uuid.UUID, err error) error {
	p := problem.From(err)
	if len(p.Seats) == 0 {
		return err
	}
	hall, herr := a.Catalog.Hall(ctx, performance)
	if herr != nil {
		return err
	}
	for i, s := range p.Seats {
		if _, _, seat, ok := hall.Layout.At(chart.Place{Block: int16(s.Block), Seat: int16(s.Seat)}); ok {
			p.Seats[i].ID = seat.ID
		}
	}
	return p
}

// HoldPath names a hold in a path.
type HoldPath struct {
	Hold uuid.UUID `path:"hold"`
}

func (a *api) getHold(ctx context.Context, in *HoldPath) (*body[Hold], error) {
	return a.shownHold(ctx)(a.Orders.GetHold(ctx, buyerOf(ctx).Principal, in.Hold))
}

func (a *api) extendHold(ctx context.Context, in *HoldPath) (*body[Hold], error) {
	return a.shownHold(ctx)(a.Orders.ExtendHold(ctx, buyerOf(ctx).Principal, in.Hold))
}

func (a *api) shownHold(ctx context.Context) func(order.Hold, error) (*body[Hold], error) {
	return func(h order.Hold, err error) (*body[Hold], error) {
		if err != nil {
			return nil, a.fail(ctx, err)
		}
		shown, err := a.hold(ctx, h)
		if err != nil {
			return nil, a.fail(ctx, err)
		}
		return fresh(shown), nil
	}
}

func (a *api) releaseHold(ctx context.Context, in *HoldPath) (*struct{}, error) {
	if err := a.Orders.ReleaseHold(ctx, buyerOf(ctx).Principal, in.Hold); err != nil {
		return nil, a.fail(ctx, err)
	}
	return nil, nil
}

// Quote is a price.
type Quote struct {
	Currency string `json:"currency"`
	Total    int64  `json:"total" minimum:"0" doc:"Minor units."`
}

// Unit is one line of an order.
type Unit struct {
	Unit  int             `json:"unit"`
	Label string          `json:"label"`
	Offer string          `json:"offer"`
	Price int64           `json:"price"`
	Fee   int64           `json:"fee"`
	Tax   int64           `json:"tax" doc:"Contained in price + fee."`
	State order.UnitState `json:"state,omitempty"`
}

func units(in []order.Unit) []Unit {
	out := make([]Unit, len(in))
	for i, u := range in {
		out[i] = Unit{u.Unit, u.Label, u.Offer, u.Price, u.Fee, u.Tax, u.State}
	}
	return out
}

// QuoteAnswer is what holds cost.
type QuoteAnswer struct {
	Quote
	Units []Unit `json:"units"`
}

// HoldList names holds.
type HoldList struct {
	Holds []uuid.UUID `json:"holds" minItems:"1" maxItems:"4"`
}

func (a *api) quoteHolds(ctx context.Context, in *struct{ Body HoldList }) (*body[QuoteAnswer], error) {
	q, u, err := a.Orders.QuoteHolds(ctx, buyerOf(ctx).Principal, in.Body.Holds)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return fresh(QuoteAnswer{Quote{q.Currency, q.Total}, units(u)}), nil
}

// Orders.

// Order is an order as the API shows it.
type Order struct {
	ID          uuid.UUID   `json:"id"`
	Performance uuid.UUID   `json:"performance_id"`
	State       order.State `json:"state"`
	Cause       order.Cause `json:"cause,omitempty"`
	Currency    string      `json:"currency"`
	Total       int64       `json:"total" doc:"Minor units."`
	PayBy       *time.Time  `json:"pay_by,omitempty"`
	NextAction  string      `json:"next_action,omitempty" doc:"The provider's page to visit now."`
	Units       []Unit      `json:"units"`
	Link        string      `json:"link" doc:"Signed link to the order's page."`
	Version     int64       `json:"version"`
	Created     time.Time   `json:"created_at"`
}

func (a *api) order(ctx context.Context, o order.Order) Order {
	out := Order{
		ID: o.ID, Performance: o.Performance, State: o.State, Cause: o.Cause, Currency: o.Currency, Total: o.Total,
		NextAction: o.NextAction(), Units: units(o.Units), Version: o.Version, Created: o.Created.UTC(),
		Link: "/orders/" + o.ID.String() + "?k=" + a.Buyers.Guests.Link("order", o.ID),
	}
	if by := o.PayBy(); !by.IsZero() && !o.State.Over() {
		by = by.UTC()
		out.PayBy = &by
	}
	return out
}

type orderAnswer struct {
	Status       int
	Location     string `header:"Location"`
	ETag         string `header:"ETag"`
	CacheControl string `header:"Cache-Control"`
	Body         Order
}

func (a *api) answerOrder(ctx context.Context, status int, o order.Order) *orderAnswer {
	return &orderAnswer{Status: status, Location: "/api/v1/orders/" + o.ID.String(), ETag: etag(o.Version), CacheControl: "no-store", Body: a.order(ctx, o)}
}

// OrderBody makes an order of holds at the price the fan has seen.
type OrderBody struct {
	HoldList
	Quote Quote `json:"quote"`
}

func (a *api) createOrder(ctx context.Context, in *struct{ Body OrderBody }) (*orderAnswer, error) {
	o, err := a.Orders.CreateOrder(ctx, order.OrderRequest{
		ID: subjectOf(ctx), Principal: buyerOf(ctx).Principal, Holds: in.Body.Holds,
		Quote: order.Quote{Currency: in.Body.Quote.Currency, Total: in.Body.Quote.Total},
	})
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return a.answerOrder(ctx, http.StatusCreated, o), nil
}

// OrderPath names an order in a path. The fields of embedded structs are seen by huma only when the type is exported.
type OrderPath struct {
	Order uuid.UUID `path:"order"`
	Key   string    `query:"k" maxLength:"64" doc:"Signature of the order's link, instead of the guest token."`
}

// owner is who may act on an order: the guest who made it, or the bearer of its signed link, whom the signature makes the
// master of this one order.
func (a *api) owner(ctx context.Context, in OrderPath) order.Principal {
	if in.Key != "" && a.Buyers.Guests.CheckLink("order", in.Order, in.Key) {
		return order.Staff
	}
	return buyerOf(ctx).Principal
}

func (a *api) getOrder(ctx context.Context, in *OrderPath) (*orderAnswer, error) {
	o, err := a.Orders.GetOrder(ctx, a.owner(ctx, *in), in.Order)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return a.answerOrder(ctx, http.StatusOK, o), nil
}

// CheckoutBody begins an attempt to pay.
type CheckoutBody struct {
	PaymentToken string `json:"payment_token,omitempty" maxLength:"256" doc:"The provider's name for a payment method."`
	ReturnURL    string `json:"return_url,omitempty" maxLength:"2048" doc:"Absolute URL on this host to come back to by GET; absent: the order's page."`
}

func (a *api) checkout(ctx context.Context, in *struct {
	OrderPath
	Body CheckoutBody
}) (*orderAnswer, error) {
	base := buyer.BaseURL(requestOf(ctx))
	back := in.Body.ReturnURL
	if back == "" {
		back = base + "/orders/" + in.Order.String() + "?k=" + a.Buyers.Guests.Link("order", in.Order)
	} else if !strings.HasPrefix(back, base+"/") {
		return nil, a.fail(ctx, order.ErrBadReturnURL)
	}
	o, err := a.Orders.Checkout(ctx, order.CheckoutRequest{
		Principal: a.owner(ctx, in.OrderPath), OrderID: in.Order, PaymentID: subjectOf(ctx), PaymentToken: in.Body.PaymentToken, ReturnURL: back,
	})
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return a.answerOrder(ctx, statusOf(o), o), nil
}

// statusOf is 200 for an order that is settled and 202 for one that is still on its way.
func statusOf(o order.Order) int {
	if o.State.Over() {
		return http.StatusOK
	}
	return http.StatusAccepted
}

func (a *api) cancelOrder(ctx context.Context, in *OrderPath) (*orderAnswer, error) {
	o, err := a.Orders.Cancel(ctx, a.owner(ctx, *in), in.Order)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return a.answerOrder(ctx, statusOf(o), o), nil
}

// Payment is an attempt to pay as its owner sees it.
type Payment struct {
	ID       uuid.UUID `json:"id"`
	State    string    `json:"state"`
	Currency string    `json:"currency"`
	Amount   int64     `json:"amount"`
	Captured int64     `json:"captured"`
	Refunded int64     `json:"refunded"`
	Failure  string    `json:"failure,omitempty"`
	Created  time.Time `json:"created_at"`
}

func (a *api) listPayments(ctx context.Context, in *OrderPath) (*body[[]Payment], error) {
	o, err := a.Orders.GetOrder(ctx, a.owner(ctx, *in), in.Order)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	out := make([]Payment, len(o.Payments))
	for i, p := range o.Payments {
		out[i] = Payment{p.ID, string(p.State), p.Currency, p.Amount, p.Captured, p.Refunded, p.FailureCode, p.Created.UTC()}
	}
	return fresh(out), nil
}

func (a *api) refund(ctx context.Context, in *struct {
	OrderPath
	Body struct {
		Units  []int  `json:"units" minItems:"1" maxItems:"100" doc:"Numbers of the units to give back."`
		Reason string `json:"reason,omitempty" maxLength:"280"`
	}
}) (*orderAnswer, error) {
	o, err := a.Orders.Refund(ctx, a.owner(ctx, in.OrderPath), in.Order, in.Body.Units, in.Body.Reason)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return a.answerOrder(ctx, http.StatusAccepted, o), nil
}

// Tickets.

// Ticket is a sold ticket.
type Ticket struct {
	ID          uuid.UUID `json:"id"`
	Order       uuid.UUID `json:"order_id"`
	Performance uuid.UUID `json:"performance_id"`
	Unit        uint32    `json:"unit"`
	Version     uint16    `json:"version"`
	Label       string    `json:"label"`
	Code        string    `json:"code" doc:"The text of the QR."`
	Link        string    `json:"link" doc:"Signed path of the ticket; append .png, .svg or .pdf before the query."`
}

func (a *api) ticket(t ticketing.Issued) Ticket {
	return Ticket{t.ID, t.OrderID, t.Performance, t.Unit, t.Version, t.Label, a.Tickets.Codes.Code(t.Ticket),
		"/tickets/" + t.ID.String() + "?k=" + a.Buyers.Guests.Link("ticket", t.ID)}
}

func (a *api) listTickets(ctx context.Context, in *OrderPath) (*body[[]Ticket], error) {
	o, err := a.Orders.GetOrder(ctx, a.owner(ctx, *in), in.Order)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	issued, err := a.Tickets.Tickets(ctx, o.ID)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	out := make([]Ticket, len(issued))
	for i, t := range issued {
		out[i] = a.ticket(t)
	}
	return fresh(out), nil
}

func (a *api) getTicket(ctx context.Context, in *struct {
	Ticket uuid.UUID `path:"ticket"`
	Key    string    `query:"k" maxLength:"64"`
}) (*body[Ticket], error) {
	t, err := a.Tickets.Ticket(ctx, in.Ticket)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	if !a.Buyers.Guests.CheckLink("ticket", in.Ticket, in.Key) {
		if _, err := a.Orders.GetOrder(ctx, buyerOf(ctx).Principal, t.OrderID); err != nil {
			return nil, a.fail(ctx, ticketing.ErrNoTicket)
		}
	}
	return fresh(a.ticket(t)), nil
}

// ScanAnswer is what a gate is told.
type ScanAnswer struct {
	Accepted bool       `json:"accepted"`
	Reason   string     `json:"reason,omitempty" doc:"Why not."`
	Ticket   *uuid.UUID `json:"ticket_id,omitempty"`
	Label    string     `json:"label,omitempty"`
	FirstAt  *time.Time `json:"first_at,omitempty" doc:"When it was let in before."`
	FirstGat string     `json:"first_gate,omitempty"`
}

func (a *api) scan(ctx context.Context, in *struct {
	StaffHeader
	Body struct {
		Gate        string    `json:"gate" maxLength:"64"`
		Nonce       string    `json:"nonce" maxLength:"64" doc:"Drawn by the scanner for this scan; a repetition gets the same answer."`
		Code        string    `json:"code" maxLength:"256"`
		Performance uuid.UUID `json:"performance_id,omitempty"`
	}
}) (*body[ScanAnswer], error) {
	if err := a.staff(ctx, in.StaffToken); err != nil {
		return nil, err
	}
	s, err := a.Tickets.Scan(ctx, in.Body.Gate, in.Body.Nonce, in.Body.Code, in.Body.Performance)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	out := ScanAnswer{Accepted: s.Accepted, Reason: string(s.Reason)}
	if s.Ticket != uuid.Nil {
		out.Ticket = &s.Ticket
		if t, err := a.Tickets.Store.IssuedTicket(ctx, s.Ticket); err == nil {
			out.Label = t.Label
		}
	}
	if !s.FirstAt.IsZero() {
		out.FirstAt, out.FirstGat = &s.FirstAt, s.FirstAtG
	}
	return fresh(out), nil
}

func (a *api) webhook(ctx context.Context, in *struct {
	Provider string `path:"provider" maxLength:"32"`
	RawBody  []byte
}) (*struct{}, error) {
	if err := a.Orders.Webhook(ctx, in.Provider, requestOf(ctx).Header, in.RawBody); err != nil {
		return nil, a.fail(ctx, err)
	}
	return nil, nil
}
