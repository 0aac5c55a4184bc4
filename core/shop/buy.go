package shop

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/buyer"
	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/counter"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/problem"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

type showCard struct {
	catalog.Show
	From string // cheapest price
}

func (s *Shop) home(w http.ResponseWriter, r *http.Request) {
	shows, err := s.Catalog.Shows(r.Context())
	if err != nil {
		s.fail(w, r, err)
		return
	}
	cards := make([]showCard, len(shows))
	for i, sh := range shows {
		cards[i] = showCard{Show: sh}
		if len(sh.Offers) > 0 {
			low := sh.Offers[0]
			for _, o := range sh.Offers {
				if o.Total() < low.Total() {
					low = o
				}
			}
			cards[i].From = Money(r, low.Total(), sh.Currency)
		}
	}
	s.render(w, r, http.StatusOK, "home", page{Title: "What is on", Data: cards})
}

// performanceData is what the seat page shows.
type performanceData struct {
	Show     catalog.Show
	Offers   []offerData
	Sections []sectionData
	Open     *sectionData // the section whose rows are listed
	Chosen   map[string]bool
	Stay     time.Time // when the fan's time inside ends; zero: no pass
	Max      int
	State    string
	Free     int
	MapHash  string
}

type offerData struct {
	Category string
	Color    string
	Price    string
	Minor    int64
}

type sectionData struct {
	ID, Name string
	Free     int
	Rows     []rowData
}

type rowData struct {
	Label   string
	General bool
	Free    int
	Seats   []seatData
}

type seatData struct {
	ID, Label, Category, Price string
	Free, Accessible           bool
	Companion                  bool
}

// defaultMax is how many seats a fan may choose when no pass says it.
const defaultMax = 4

func (s *Shop) performance(w http.ResponseWriter, r *http.Request) {
	if _, err := s.identify(w, r); err != nil {
		s.fail(w, r, err)
		return
	}
	s.seatPage(w, r, http.StatusOK, nil, r.URL.Query().Get("section"), nil)
}

// seatPage renders the seat page, also after a refusal: what was chosen stays chosen where it still can be.
func (s *Shop) seatPage(w http.ResponseWriter, r *http.Request, status int, refusal *problem.Problem, section string, chosen []string) {
	ctx := r.Context()
	show, err := s.Catalog.Find(ctx, r.PathValue("performance"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	hall, err := s.Catalog.Hall(ctx, show.ID)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	free, state, err := s.free(ctx, show.ID)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	d := performanceData{Show: show, Chosen: map[string]bool{}, Max: defaultMax, State: state, MapHash: hall.Hash}
	if pass, err := s.Buyers.Pass(r, show.Room); err == nil && pass != nil {
		d.Stay = pass.StayUntil.In(show.Local().Location())
		if pass.SeatLimit > 0 {
			d.Max = pass.SeatLimit
		}
	}
	prices := map[string]string{}
	for _, o := range show.Offers {
		color := ""
		if i := hall.Chart.CategoryIndex(o.Category); i >= 0 {
			color = hall.Chart.Categories[i].Color
		}
		prices[o.Category] = Money(r, o.Total(), show.Currency)
		d.Offers = append(d.Offers, offerData{o.Category, color, prices[o.Category], o.Total()})
	}
	taken := map[string]bool{}
	if refusal != nil {
		for i, t := range refusal.Seats {
			if t.ID == "" {
				if _, _, seat, ok := hall.Layout.At(chart.Place{Block: int16(t.Block), Seat: int16(t.Seat)}); ok {
					refusal.Seats[i].ID = seat.ID
				}
			}
			taken[refusal.Seats[i].ID] = true
		}
	}
	for _, id := range chosen {
		if !taken[id] {
			d.Chosen[id] = true
		}
	}
	for i := range hall.Chart.Sections {
		sec := &hall.Chart.Sections[i]
		sd := s.section(hall, sec, free, prices, sec.ID == section)
		d.Free += sd.Free
		d.Sections = append(d.Sections, sd)
		if sec.ID == section {
			d.Open = &d.Sections[len(d.Sections)-1]
		}
	}
	s.render(w, r, status, "performance", page{Title: show.Title, Error: refusal, Data: d})
}

func (s *Shop) section(hall *catalog.Hall, sec *chart.Section, free map[int16]chart.Bits, prices map[string]string, rows bool) sectionData {
	out := sectionData{ID: sec.ID, Name: sec.Name}
	for j := range sec.Rows {
		row := &sec.Rows[j]
		rd := rowData{Label: row.Label, General: row.General != nil}
		for k := range row.Seats {
			seat := &row.Seats[k]
			place, _ := hall.Layout.Find(seat.ID)
			isFree := free[place.Block].Has(int(place.Seat))
			if isFree {
				rd.Free++
			}
			if rows && row.General == nil {
				category := hall.Chart.Categories[seat.Category].Name
				rd.Seats = append(rd.Seats, seatData{seat.ID, seat.Label, category, prices[category], isFree, seat.Accessible, seat.Companion})
			}
		}
		out.Free += rd.Free
		if rows {
			out.Rows = append(out.Rows, rd)
		}
	}
	return out
}

func (s *Shop) free(ctx context.Context, performance uuid.UUID) (map[int16]chart.Bits, string, error) {
	av, err := s.Seats.Availability(ctx, performance, 0)
	if err != nil {
		return nil, "", err
	}
	out := make(map[int16]chart.Bits, len(av.Blocks))
	for _, b := range av.Blocks {
		out[b.Block] = b.Free
	}
	return out, av.State, nil
}

func (s *Shop) postHold(w http.ResponseWriter, r *http.Request) {
	b, err := s.identify(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	show, err := s.Catalog.Find(r.Context(), r.PathValue("performance"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	wish := counter.Wish{IDs: r.PostForm["seat"], Offer: r.PostForm.Get("offer"), Accessible: r.PostForm.Get("accessible") != ""}
	if r.PostForm.Get("how") == "best" {
		wish.IDs = nil
		wish.Qty, _ = strconv.Atoi(r.PostForm.Get("qty")) // 0 is refused by the counter
	}
	err = s.once(w, r, b, func(ctx context.Context, subject uuid.UUID) (string, error) {
		pass, err := s.Buyers.Pass(r, show.Room)
		if err != nil {
			return "", err
		}
		holds, err := s.Counter.Hold(ctx, order.HoldRequest{ID: subject, Principal: b.Principal, Pass: pass, Performance: show.ID}, wish)
		if err != nil {
			return "", err
		}
		q := url.Values{}
		for _, h := range holds {
			q.Add("hold", h.ID.String())
		}
		return "/performances/" + show.Slug + "/checkout?" + q.Encode(), nil
	})
	if err != nil {
		p := problem.From(err)
		if p.Status >= 500 && p.RetryAfter == 0 || p.Status == http.StatusUnauthorized {
			s.fail(w, r, err)
			return
		}
		s.seatPage(w, r, p.Status, p, r.PostForm.Get("section"), wish.IDs)
	}
}

type checkoutData struct {
	Show  catalog.Show
	Units []unitData
	Total string
	Minor int64
	Holds []string
	Until time.Time
}

type unitData struct {
	Unit        int
	Label       string
	Offer       string
	Price       string
	Fee         string
	TicketID    string
	TicketLink  string
	HasFee      bool
	Refundable  bool
	RefundState string
}

func unitsOf(r *http.Request, units []order.Unit, code string) []unitData {
	out := make([]unitData, len(units))
	for i, u := range units {
		out[i] = unitData{Unit: u.Unit, Label: u.Label, Offer: u.Offer, Price: Money(r, u.Total(), code), HasFee: u.Fee > 0, Fee: Money(r, u.Fee, code)}
		if u.State != order.UnitLive {
			out[i].RefundState = string(u.State)
		}
	}
	return out
}

func holdIDs(values []string) ([]uuid.UUID, error) {
	out := make([]uuid.UUID, len(values))
	for i, v := range values {
		id, err := uuid.Parse(v)
		if err != nil {
			return nil, order.ErrNotFound
		}
		out[i] = id
	}
	if len(out) == 0 {
		return nil, order.ErrNotFound
	}
	return out, nil
}

func (s *Shop) checkout(w http.ResponseWriter, r *http.Request) {
	ids, err := holdIDs(r.URL.Query()["hold"])
	if err != nil {
		s.fail(w, r, err)
		return
	}
	b, err := s.identify(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.checkoutPage(w, r, b, http.StatusOK, nil, ids)
}

// checkoutPage shows holds and their price; a hold that an order has already leads to the order, so that the back button is
// harmless.
func (s *Shop) checkoutPage(w http.ResponseWriter, r *http.Request, b buyer.Buyer, status int, refusal *problem.Problem, ids []uuid.UUID) {
	ctx := r.Context()
	show, err := s.Catalog.Find(ctx, r.PathValue("performance"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	d := checkoutData{Show: show}
	for _, id := range ids {
		h, err := s.Orders.GetHold(ctx, b.Principal, id)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if h.OrderID != uuid.Nil {
			http.Redirect(w, r, s.orderLink(h.OrderID), http.StatusSeeOther)
			return
		}
		if h.State == order.HoldPlacing { // not known yet: ask again in a moment
			s.render(w, r, http.StatusOK, "message", page{Title: "One moment", Refresh: 1,
				Error: problem.New(problem.OneMoment, "We are taking your seats. This page goes on by itself.")})
			return
		}
		if !h.Live(s.Now()) {
			s.fail(w, r, order.ErrHoldExpired)
			return
		}
		if d.Until.IsZero() || h.Until.Before(d.Until) {
			d.Until = h.Until
		}
		d.Holds = append(d.Holds, id.String())
	}
	quote, units, err := s.Orders.QuoteHolds(ctx, b.Principal, ids)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	d.Until = d.Until.In(show.Local().Location())
	d.Units, d.Total, d.Minor = unitsOf(r, units, quote.Currency), Money(r, quote.Total, quote.Currency), quote.Total
	s.render(w, r, status, "checkout", page{Title: "Check and pay", Error: refusal, Data: d})
}

func (s *Shop) postRelease(w http.ResponseWriter, r *http.Request) {
	b, err := s.identify(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ids, err := holdIDs(r.PostForm["hold"])
	if err != nil {
		s.fail(w, r, err)
		return
	}
	for _, id := range ids {
		if err := s.Orders.ReleaseHold(r.Context(), b.Principal, id); err != nil && !errors.Is(err, order.ErrHoldExpired) {
			s.fail(w, r, err)
			return
		}
	}
	http.Redirect(w, r, "/performances/"+url.PathEscape(r.PathValue("performance")), http.StatusSeeOther)
}

// postOrder makes the order and begins to pay: one press, one redirect to the provider's page.
func (s *Shop) postOrder(w http.ResponseWriter, r *http.Request) {
	b, err := s.identify(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	ids, err := holdIDs(r.PostForm["hold"])
	if err != nil {
		s.fail(w, r, err)
		return
	}
	show, err := s.Catalog.Find(r.Context(), r.PathValue("performance"))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	total, err := strconv.ParseInt(r.PostForm.Get("total"), 10, 64)
	if err != nil {
		s.fail(w, r, problem.New(problem.Malformed, incomplete))
		return
	}
	err = s.once(w, r, b, func(ctx context.Context, subject uuid.UUID) (string, error) {
		o, err := s.Orders.CreateOrder(ctx, order.OrderRequest{ID: subject, Principal: b.Principal, Holds: ids, Quote: order.Quote{Currency: show.Currency, Total: total}})
		if err != nil {
			return "", err
		}
		return s.pay(ctx, r, b.Principal, o.ID, uuid.NewSHA1(subject, []byte("payment 1")))
	})
	var inOrder *order.HoldInOrder
	switch {
	case errors.As(err, &inOrder):
		http.Redirect(w, r, s.orderLink(inOrder.OrderID), http.StatusSeeOther)
	case err != nil:
		p := problem.From(err)
		if p.Status == http.StatusConflict || p.Status == http.StatusPaymentRequired {
			s.checkoutPage(w, r, b, p.Status, p, ids)
			return
		}
		s.fail(w, r, err)
	}
}
