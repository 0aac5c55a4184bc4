package shop

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
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
	Show   catalog.Show
	Offers []offerData
	Plan   *plan
	Groups []groupData
	Open   *sectionData // the section whose rows are listed
	Chosen []chosenData // seats that stay chosen outside of the open section
	Held   *heldData    // what the fan has held already
	Stay   time.Time    // when the fan's time inside ends; zero: no pass
	Max    int
	State  string
	Free   int
	Colors string // name of the stylesheet of the categories
	Locale string
	Wish   wishData
}

// wishData is what was asked for in the form for the best seats, so that a refusal keeps it.
type wishData struct {
	Qty        int
	Offer      string
	Accessible bool
}

type offerData struct {
	Category string
	Class    string
	Shape    int // 0 circle, 1 square, 2 diamond
	Price    string
	Minor    int64
}

// groupData is a run of sections of one category, in a house with many.
type groupData struct {
	Title    string
	Free     int
	Open     bool // it has the open section
	Sections []sectionData
}

type sectionData struct {
	ID, Name string
	Price    string
	Free     int
	Level    int
	Open     bool
	Part     part
	Rows     []rowData
}

type rowData struct {
	Label    string
	General  bool
	Free     int
	Category string // of all its seats; empty when they are of several
	Class    string
	Price    string
	Seats    []seatData
}

type seatData struct {
	ID, Label, Category, Price, Class string
	Free, Chosen, Gap                 bool
	Accessible, Companion             bool
}

type chosenData struct{ ID, Label, Price string }

// heldData is what a fan who comes back to the seat page has already.
type heldData struct {
	Labels []string
	Holds  []string
	Until  time.Time
	Order  string // link of the order that has the seats
}

// defaultMax is how many seats a fan may choose when no pass says it.
const defaultMax = 4

func (s *Shop) performance(w http.ResponseWriter, r *http.Request) {
	b, err := s.identify(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.seatPage(w, r, b, http.StatusOK, nil, asked{section: r.URL.Query().Get("section")})
}

// asked is what a form asked for before it was refused, and which section is open.
type asked struct {
	section string
	seats   []string
	wish    wishData
}

// seatPage renders the seat page, also after a refusal: what was chosen stays chosen where it still can be.
func (s *Shop) seatPage(w http.ResponseWriter, r *http.Request, b buyer.Buyer, status int, refusal *problem.Problem, in asked) {
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
	av, err := s.Seats.Availability(ctx, show.ID, 0)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	d := performanceData{Show: show, Plan: s.plan(hall), Max: defaultMax, State: av.State, Colors: "/static/" + colorsOf(hall.Chart), Locale: localeOf(r), Wish: in.wish}
	if d.Wish.Qty == 0 {
		d.Wish.Qty = 2
	}
	if pass, err := s.Buyers.Pass(r, show.Room); err == nil && pass != nil {
		d.Stay = pass.StayUntil.In(show.Local().Location())
		if pass.SeatLimit > 0 {
			d.Max = pass.SeatLimit
		}
	}
	d.Held = s.held(r, b, show, hall)
	for _, o := range show.Offers {
		if i := hall.Chart.CategoryIndex(o.Category); i >= 0 {
			d.Offers = append(d.Offers, offerData{o.Category, categoryClass(i), i % 3, Money(r, o.Total(), show.Currency), o.Total()})
		}
	}
	chosen := s.stillChosen(hall, refusal, in.seats)
	if in.section == "" && len(chosen) > 0 { // the list opens where the first of them is
		place, _ := hall.Layout.Find(in.seats[0])
		if section, _, _, ok := hall.Layout.At(place); ok {
			in.section = section.ID
		}
	}
	l := lister{hall: hall, show: show, request: r, free: freeSeats(hall, av), bits: bitsOf(av), chosen: chosen, plan: d.Plan}
	for i := range hall.Chart.Sections {
		sd := l.section(i)
		d.Free += sd.Free
		if sd.Open = sd.ID == in.section; sd.Open {
			sd.Rows = l.rows(i)
			open := sd
			d.Open = &open
		}
		d.Groups = l.group(d.Groups, sd)
	}
	for _, id := range in.seats {
		if chosen[id] && !l.listed[id] {
			if section, row, seat, ok := hall.Layout.At(mustFind(hall, id)); ok {
				price := ""
				if o, ok := show.Offer(hall.Chart.Categories[seat.Category].Name); ok {
					price = Money(r, o.Total(), show.Currency)
				}
				d.Chosen = append(d.Chosen, chosenData{id, catalog.Label(section, row, seat), price})
			}
		}
	}
	s.render(w, r, status, "performance", page{Title: show.Title, Error: refusal, Wide: true, Styles: []string{d.Colors}, Data: d})
}

// mustFind is the place of a seat that is known to be there; any other finds nothing.
func mustFind(hall *catalog.Hall, id string) chart.Place {
	place, ok := hall.Layout.Find(id)
	if !ok {
		return chart.Place{Block: -1}
	}
	return place
}

// plan draws each house once.
func (s *Shop) plan(hall *catalog.Hall) *plan {
	if p, ok := s.plans.Load(hall.Hash); ok {
		return p.(*plan)
	}
	p, _ := s.plans.LoadOrStore(hall.Hash, drawPlan(hall))
	return p.(*plan)
}

// stillChosen are the seats of a refused form that the refusal is not about; the refusal is given their printed names.
func (s *Shop) stillChosen(hall *catalog.Hall, refusal *problem.Problem, seats []string) map[string]bool {
	chosen := map[string]bool{}
	for _, id := range seats {
		if _, ok := hall.Layout.Find(id); ok {
			chosen[id] = true
		}
	}
	if refusal == nil {
		return chosen
	}
	for i, t := range refusal.Seats {
		place := chart.Place{Block: int16(t.Block), Seat: int16(t.Seat)}
		if t.ID != "" {
			place = mustFind(hall, t.ID)
		}
		if section, row, seat, ok := hall.Layout.At(place); ok {
			delete(chosen, seat.ID)
			refusal.Seats[i].ID = catalog.Label(section, row, seat)
		}
	}
	return chosen
}

// lister turns a house into lists of sections and rows.
type lister struct {
	hall    *catalog.Hall
	show    catalog.Show
	request *http.Request
	free    [][]int
	bits    map[int16]chart.Bits
	chosen  map[string]bool
	plan    *plan
	listed  map[string]bool // seats that have a box in the open section
}

func bitsOf(av chart.Availability) map[int16]chart.Bits {
	out := make(map[int16]chart.Bits, len(av.Blocks))
	for _, b := range av.Blocks {
		out[b.Block] = b.Free
	}
	return out
}

func (l *lister) section(i int) sectionData {
	sec := &l.hall.Chart.Sections[i]
	free := sum(l.free[i])
	d := sectionData{ID: sec.ID, Name: sec.Name, Free: free, Part: l.plan.Parts[i], Level: level(free, l.plan.Parts[i].Count)}
	if low, high, ok := lowHigh(l.hall, sec, l.show); ok {
		d.Price = Money(l.request, low, l.show.Currency)
		if high != low {
			d.Price += " to " + Money(l.request, high, l.show.Currency)
		}
	}
	return d
}

// group puts a section into the last group, or into a new one where the category changes; small houses are one group.
func (l *lister) group(groups []groupData, d sectionData) []groupData {
	title := ""
	if l.plan.Big && d.Part.Class != "" {
		for i := range l.hall.Chart.Categories {
			if categoryClass(i) == d.Part.Class {
				title = l.hall.Chart.Categories[i].Name + " · " + d.Price
			}
		}
	}
	if n := len(groups); n == 0 || groups[n-1].Title != title {
		groups = append(groups, groupData{Title: title})
	}
	g := &groups[len(groups)-1]
	g.Sections, g.Free, g.Open = append(g.Sections, d), g.Free+d.Free, g.Open || d.Open
	return groups
}

func (l *lister) rows(i int) []rowData {
	sec := &l.hall.Chart.Sections[i]
	l.listed = map[string]bool{}
	out := make([]rowData, 0, len(sec.Rows))
	for j := range sec.Rows {
		row := &sec.Rows[j]
		d := rowData{Label: row.Label, General: row.General != nil, Free: l.free[i][j]}
		if len(row.Seats) > 0 {
			d.Category, d.Class, d.Price = l.price(row.Seats[0].Category)
			for k := range row.Seats {
				if row.Seats[k].Category != row.Seats[0].Category {
					d.Category, d.Price = "", ""
				}
			}
		}
		if !d.General {
			for k := range row.Seats {
				d.Seats = append(d.Seats, l.seat(&row.Seats[k], k > 0))
			}
		}
		out = append(out, d)
	}
	return out
}

func (l *lister) seat(seat *chart.Seat, follows bool) seatData {
	place := mustFind(l.hall, seat.ID)
	d := seatData{ID: seat.ID, Label: seat.Label, Free: l.bits[place.Block].Has(int(place.Seat)), Gap: follows && seat.Gap,
		Accessible: seat.Accessible, Companion: seat.Companion}
	d.Category, d.Class, d.Price = l.price(seat.Category)
	if d.Price == "" { // what has no price is not on sale
		d.Free = false
	}
	d.Chosen = d.Free && l.chosen[seat.ID]
	l.listed[seat.ID] = d.Free
	return d
}

func (l *lister) price(category int) (name, class, price string) {
	name, class = l.hall.Chart.Categories[category].Name, categoryClass(category)
	if o, ok := l.show.Offer(name); ok {
		price = Money(l.request, o.Total(), l.show.Currency)
	}
	return name, class, price
}

// heldCookie remembers a fan's last holds, for the case that they come back to the seat page with the back button. It proves
// nothing: whose the holds are is asked of the order service.
const heldCookie = "shop-held"

func rememberHolds(w http.ResponseWriter, r *http.Request, holds []string) {
	http.SetCookie(w, &http.Cookie{Name: heldCookie, Value: strings.Join(holds, "."), Path: "/performances/", HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: buyer.Secure(r), MaxAge: 3600})
}

// held are the fan's live holds of a performance, nil if there are none.
func (s *Shop) held(r *http.Request, b buyer.Buyer, show catalog.Show, hall *catalog.Hall) *heldData {
	c, err := r.Cookie(heldCookie)
	if err != nil || b.New {
		return nil
	}
	ids, err := holdIDs(strings.Split(c.Value, "."))
	if err != nil || len(ids) > maxHolds {
		return nil
	}
	d := &heldData{}
	for _, id := range ids {
		h, err := s.Orders.GetHold(r.Context(), b.Principal, id)
		if err != nil || h.Performance != show.ID {
			continue // let go, run out, or never theirs
		}
		if h.OrderID != uuid.Nil {
			o, err := s.Orders.GetOrder(r.Context(), b.Principal, h.OrderID)
			if err != nil || o.State != order.Draft && o.State != order.Paying {
				continue
			}
			d.Order, d.Until = s.orderLink(o.ID), o.PayBy()
		} else if d.Until.IsZero() || h.Until.Before(d.Until) {
			d.Until = h.Until
		}
		_, labels := counter.SeatsOf(hall, h)
		d.Labels = append(d.Labels, labels...)
		d.Holds = append(d.Holds, id.String())
	}
	if len(d.Holds) == 0 {
		return nil
	}
	d.Until = d.Until.In(show.Local().Location())
	return d
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
		ids := make([]uuid.UUID, len(holds))
		for i, h := range holds {
			ids[i] = h.ID
		}
		return checkoutPath(show.Slug, ids), nil
	})
	if err != nil {
		p := problem.From(err)
		if p.Status >= 500 && p.RetryAfter == 0 || p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden {
			s.failAt(w, r, show, err)
			return
		}
		s.seatPage(w, r, b, p.Status, p, asked{r.PostForm.Get("section"), r.PostForm["seat"], wishData{wish.Qty, wish.Offer, wish.Accessible}})
	}
}

// checkoutPath is the page on which holds are looked at and paid.
func checkoutPath(slug string, holds []uuid.UUID) string {
	q := url.Values{}
	for _, id := range holds {
		q.Add("hold", id.String())
	}
	return "/performances/" + url.PathEscape(slug) + "/checkout?" + q.Encode()
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
	Unit       int
	Label      string
	Offer      string
	Price      string
	Fee        string
	TicketID   string
	TicketLink string
	HasFee     bool
	Refund     string // what became of it, in words
}

func unitsOf(r *http.Request, units []order.Unit, code string) []unitData {
	out := make([]unitData, len(units))
	for i, u := range units {
		out[i] = unitData{Unit: u.Unit, Label: u.Label, Offer: u.Offer, Price: Money(r, u.Total(), code), HasFee: u.Fee > 0, Fee: Money(r, u.Fee, code)}
		if u.State != order.UnitLive {
			out[i].Refund = refundWords[u.State]
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
	if len(out) == 0 || len(out) > maxHolds {
		return nil, order.ErrNotFound
	}
	return out, nil
}

// maxHolds is how many holds an order takes.
const maxHolds = 4

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
			s.failAt(w, r, show, err)
			return
		}
		if h.OrderID != uuid.Nil {
			http.Redirect(w, r, s.orderLink(h.OrderID), http.StatusSeeOther)
			return
		}
		if h.State == order.HoldPlacing { // not known yet: ask again in a moment
			s.render(w, r, http.StatusOK, "message", page{Title: "One moment", Refresh: 1, Steps: stepCheck,
				Data: messageData{Text: "We are taking your seats. This page goes on by itself."}})
			return
		}
		if d.Until.IsZero() || h.Until.Before(d.Until) {
			d.Until = h.Until
		}
		d.Holds = append(d.Holds, id.String())
	}
	quote, units, err := s.Orders.QuoteHolds(ctx, b.Principal, ids)
	if err != nil {
		s.failAt(w, r, show, err)
		return
	}
	rememberHolds(w, r, d.Holds)
	d.Until = d.Until.In(show.Local().Location())
	d.Units, d.Total, d.Minor = unitsOf(r, units, quote.Currency), Money(r, quote.Total, quote.Currency), quote.Total
	s.render(w, r, status, "checkout", page{Title: "Check and pay", Error: refusal, Steps: stepCheck, Data: d})
}

// postExtend gives a fan who needs longer more time, as often as the holds' last possible end allows.
func (s *Shop) postExtend(w http.ResponseWriter, r *http.Request) {
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
		if _, err := s.Orders.ExtendHold(r.Context(), b.Principal, id); err != nil {
			p := problem.From(err)
			s.checkoutPage(w, r, b, p.Status, p, ids)
			return
		}
	}
	http.Redirect(w, r, checkoutPath(r.PathValue("performance"), ids), http.StatusSeeOther)
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
		s.failAt(w, r, show, err)
	}
}
