package shop

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/buyer"
	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/payment"
	"github.com/stanchion-queue/stanchion/core/problem"
	"github.com/stanchion-queue/stanchion/core/ticketing"
)

// incomplete is said of a form without the fields that our pages always send.
const incomplete = "The form is incomplete. Go back, reload the page and try again."

// orderLink is the signed path of an order's page.
func (s *Shop) orderLink(id uuid.UUID) string {
	return "/orders/" + id.String() + "?k=" + s.Buyers.Guests.Link("order", id)
}

// opener returns the order a request names and who may act on it: the bearer of its signed link is the master of this one order,
// otherwise it must be the guest's own.
func (s *Shop) opener(r *http.Request) (uuid.UUID, order.Principal, error) {
	id, err := uuid.Parse(r.PathValue("order"))
	if err != nil {
		return uuid.Nil, "", order.ErrNotFound
	}
	if s.Buyers.Guests.CheckLink("order", id, r.FormValue("k")) {
		return id, order.Staff, nil
	}
	b, err := s.Buyers.Identify(r)
	if err != nil {
		return uuid.Nil, "", err
	}
	return id, b.Principal, nil
}

// pay begins an attempt to pay and says where the fan goes: to the provider's page, or back to the order.
func (s *Shop) pay(ctx context.Context, r *http.Request, who order.Principal, id, attempt uuid.UUID) (string, error) {
	o, err := s.Orders.Checkout(ctx, order.CheckoutRequest{Principal: who, OrderID: id, PaymentID: attempt, ReturnURL: buyer.BaseURL(r) + s.orderLink(id)})
	var open *order.AttemptOpen
	var declined *order.Declined
	var wrong *order.WrongState
	switch {
	case errors.As(err, &open) && open.NextAction != "":
		return open.NextAction, nil
	case errors.As(err, &open), errors.As(err, &declined), errors.As(err, &wrong): // the order's page says it all
		return s.orderLink(id), nil
	case err != nil:
		return "", err
	}
	if next := o.NextAction(); next != "" {
		return next, nil
	}
	return s.orderLink(id), nil
}

type orderData struct {
	Show    catalog.Show
	Order   order.Order
	Short   string
	Units   []unitData
	Total   string
	Link    string
	K       string
	PayBy   time.Time
	Next    string
	Failure string // why the last attempt to pay failed
	Closed  string // why the order ended unpaid
	Tickets bool
	Waits   bool // something is on its way; the page goes on by itself
	CanPay  bool
	CanStop bool
	Unpaid  bool // ended without anything charged
}

// refreshS is how often a page on its way reloads itself, in seconds.
const refreshS = 2

func (s *Shop) order(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	id, who, err := s.opener(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	o, err := s.Orders.GetOrder(ctx, who, id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if o.State == order.Paying || o.State == order.Closing { // the fan comes back from the provider's page: look there
		if looked, err := s.Orders.Look(ctx, who, id); err == nil {
			o = looked
		} else {
			s.Log.WarnContext(ctx, "look at payment", "order", id, "err", err)
		}
	}
	show, err := s.Catalog.Find(ctx, o.Performance.String())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	d := orderData{Show: show, Order: o, Short: Short(id), Units: unitsOf(r, o.Units, o.Currency), Total: Money(r, o.Total, o.Currency),
		Link: s.orderLink(id), K: s.Buyers.Guests.Link("order", id), Next: o.NextAction(), Tickets: o.State.HasTickets()}
	if by := o.PayBy(); !by.IsZero() {
		d.PayBy = by.In(show.Local().Location())
	}
	if p := o.Attempt(); p != nil && p.State == payment.Failed {
		d.Failure = declined(p.FailureCode)
	}
	switch o.State {
	case order.Draft:
		d.CanPay, d.CanStop = true, true
	case order.Paying:
		d.CanStop = true
		d.CanPay = d.Failure != ""
		d.Waits = d.Next == "" && !d.CanPay
	case order.Closing, order.Securing, order.Secured, order.Late, order.Refunding:
		d.Waits = o.State != order.Refunding
	case order.Cancelled, order.Expired:
		d.Unpaid, d.Closed = true, closedWords[o.Cause]
	}
	if d.Tickets {
		issued, err := s.Tickets.Tickets(ctx, id)
		if err != nil && !errors.Is(err, ticketing.ErrNotPaid) {
			s.fail(w, r, err)
			return
		}
		for _, t := range issued {
			for i := range d.Units {
				if d.Units[i].Unit == int(t.Unit) {
					d.Units[i].TicketID = t.ID.String()
					d.Units[i].TicketLink = s.Buyers.Guests.Link("ticket", t.ID)
				}
			}
		}
	}
	p := page{Title: orderTitle(o.State), Steps: stepPay, Data: d}
	if d.Tickets {
		p.Steps = stepTickets
	} else if o.State.Over() || o.State == order.Refunding {
		p.Steps = 0
	}
	if d.Waits {
		p.Refresh = refreshS
	}
	s.render(w, r, http.StatusOK, "order", p)
}

func orderTitle(s order.State) string {
	switch s {
	case order.Paid, order.PartRefunded:
		return "Your tickets"
	case order.Cancelled:
		return "Your order was cancelled"
	case order.Expired:
		return "Your time to pay ran out"
	case order.Refunding, order.Refunded:
		return "Your refund"
	case order.Revoked:
		return "Your tickets are no longer valid"
	case order.Closing:
		return "We are closing your payment"
	case order.Securing, order.Secured, order.Late:
		return "We are confirming your seats"
	}
	return "Your order"
}

// Short is an order's reference as people read it out: the last eight characters of its id.
func Short(id uuid.UUID) string {
	s := strings.ToUpper(id.String())
	return s[len(s)-8:]
}

func (s *Shop) postPay(w http.ResponseWriter, r *http.Request) {
	id, who, err := s.opener(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	attempt, err := uuid.Parse(r.PostForm.Get("key")) // the form's key is the attempt's id: a double press is one attempt
	if err != nil {
		s.fail(w, r, problem.New(problem.Malformed, incomplete))
		return
	}
	next, err := s.pay(r.Context(), r, who, id, attempt)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (s *Shop) postCancel(w http.ResponseWriter, r *http.Request) {
	id, who, err := s.opener(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	var wrong *order.WrongState
	if _, err := s.Orders.Cancel(r.Context(), who, id); err != nil && !errors.As(err, &wrong) {
		s.fail(w, r, err)
		return
	}
	http.Redirect(w, r, s.orderLink(id), http.StatusSeeOther)
}

func (s *Shop) printed(ctx context.Context, r *http.Request, o order.Order, t ticketing.Issued) (ticketing.Printed, error) {
	show, err := s.Catalog.Find(ctx, o.Performance.String())
	if err != nil {
		return ticketing.Printed{}, err
	}
	p := ticketing.Printed{Code: s.Tickets.Codes.Code(t.Ticket), Event: show.Title, Venue: show.House.Name + ", " + show.House.City,
		Starts: show.Local(), Seat: t.Label, Order: Short(o.ID), Language: "en"}
	for _, u := range o.Units {
		if u.Unit == int(t.Unit) {
			p.Price = Money(r, u.Total(), o.Currency)
		}
	}
	return p, nil
}

func (s *Shop) orderPDF(w http.ResponseWriter, r *http.Request) {
	id, who, err := s.opener(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	o, err := s.Orders.GetOrder(r.Context(), who, id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	issued, err := s.Tickets.Tickets(r.Context(), id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.pdf(w, r, o, issued)
}

func (s *Shop) pdf(w http.ResponseWriter, r *http.Request, o order.Order, issued []ticketing.Issued) {
	var all []ticketing.Printed
	for _, t := range issued {
		p, err := s.printed(r.Context(), r, o, t)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		all = append(all, p)
	}
	var b bytes.Buffer
	if err := ticketing.WritePDF(&b, all); err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/pdf")
	w.Header().Set("Content-Disposition", `inline; filename="tickets-`+Short(o.ID)+`.pdf"`)
	_, _ = b.WriteTo(w) // the fan is gone when this fails
}

type ticketData struct {
	Printed ticketing.Printed
	ID, K   string
}

// ticket serves /tickets/{id} as a page and /tickets/{id}.png, .svg, .pdf as files, all by signed link.
func (s *Shop) ticket(w http.ResponseWriter, r *http.Request) {
	file := r.PathValue("file")
	ext := path.Ext(file)
	id, err := uuid.Parse(strings.TrimSuffix(file, ext))
	k := r.URL.Query().Get("k")
	if err != nil || !s.Buyers.Guests.CheckLink("ticket", id, k) {
		s.fail(w, r, ticketing.ErrNoTicket)
		return
	}
	t, err := s.Tickets.Ticket(r.Context(), id)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	picture := func(kind string, draw func(string) ([]byte, error)) {
		b, err := draw(s.Tickets.Codes.Code(t.Ticket))
		if err != nil {
			s.fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", "private, max-age=3600")
		_, _ = w.Write(b) // the fan is gone when this fails
	}
	switch ext {
	case ".png":
		picture("image/png", ticketing.PNG)
		return
	case ".svg":
		picture("image/svg+xml", ticketing.SVG)
		return
	}
	o, err := s.Orders.GetOrder(r.Context(), order.Staff, t.OrderID)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	switch ext {
	case ".pdf":
		s.pdf(w, r, o, []ticketing.Issued{t})
	case "":
		p, err := s.printed(r.Context(), r, o, t)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.render(w, r, http.StatusOK, "ticket", page{Title: p.Event, Data: ticketData{p, id.String(), k}})
	default:
		s.fail(w, r, ticketing.ErrNoTicket)
	}
}
