package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/net/html"
)

// provider talks to the payment page, which is another server.
const providerTimeout = 15 * time.Second

// testCards are the provider simulator's; the plan's card is a percentile.
func cardOf(percentile int) (number string, declines bool) {
	if percentile < 8 {
		return "4000000000000002", true
	}
	return "4242424242424242", false
}

// shop is what a fan does inside.
func (f *fan) shop(ctx context.Context) (Outcome, error) {
	if _, err := f.patient(ctx, request{kind: "entry", method: "GET", url: f.Entry, nav: true}); err != nil {
		return Failed, err
	}
	if f.Performance == "" {
		if err := f.browse(ctx); err != nil {
			return Unfinished, err
		}
		return f.goAway(ctx)
	}
	api := "/api/v1/performances/" + f.Performance
	if _, err := f.patient(ctx, request{kind: "availability", method: "GET", url: api + "/availability"}); err != nil {
		return Failed, err
	}
	if !sleep(ctx, f.stay/2) {
		return Unfinished, ctx.Err()
	}
	if !f.buy {
		if !sleep(ctx, f.stay/2) {
			return Unfinished, ctx.Err()
		}
		return f.goAway(ctx)
	}
	return f.purchase(ctx, api)
}

// browse opens pages until the fan has seen enough.
func (f *fan) browse(ctx context.Context) error {
	until := time.Now().Add(f.stay)
	dice := rand.New(rand.NewPCG(f.Seed, uint64(f.id)<<1|1))
	for {
		left, wait := time.Until(until), time.Until(until)
		if f.BrowseEvery > 0 {
			wait = min(left, time.Duration((0.5+dice.ExpFloat64()/2)*float64(f.BrowseEvery)))
		}
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
		if time.Until(until) <= 0 {
			return nil
		}
		if _, err := f.patient(ctx, request{kind: "entry", method: "GET", url: f.Entry, nav: true}); err != nil {
			return err
		}
	}
}

// goAway leaves with a word or without.
func (f *fan) goAway(ctx context.Context) (Outcome, error) {
	if f.silent {
		return Silent, nil
	}
	pass := f.pass()
	f.sent = time.Now()
	f.witness(Fact{Kind: FactLeave, Text: pass})
	_, err := f.patient(ctx, request{kind: "leave", method: "POST", url: f.room("leave"), json: struct{}{}})
	if err == nil && f.ghost && pass != "" {
		f.haunt(ctx, pass)
	}
	return Left, err
}

// haunt tries a pass once more within three seconds of the goodbye. It may still be let through until every edge has heard of the end,
// and then counts as a fan inside for so long; what becomes of the request is for the witness to judge.
func (f *fan) haunt(ctx context.Context, pass string) {
	if !sleep(ctx, time.Duration(f.jitter*f.jitter*3*float64(time.Second))) {
		return
	}
	if len(f.targets) > 1 {
		f.moveOn()
	}
	f.cookies = map[string]string{"stanchion-pass-" + f.Room: pass}
	if _, err := f.do(ctx, request{kind: "ghost", method: "GET", url: f.Entry, nav: true}); err != nil {
		f.Log.Debug("ghost", "fan", f.id, "err", err)
	}
}

func (f *fan) purchase(ctx context.Context, api string) (Outcome, error) {
	a, err := f.patient(ctx, request{kind: "hold", method: "POST", url: api + "/holds", key: true, json: map[string]any{"best": map[string]any{"qty": f.seats}}})
	if err != nil {
		return Failed, err
	}
	if a.status == 409 {
		_, err := f.goAway(ctx)
		return NoSeats, err
	}
	var hold struct {
		ID    string    `json:"id"`
		Until time.Time `json:"until"`
	}
	if err := f.want(a, 201, &hold); err != nil {
		return Failed, fmt.Errorf("hold: %w", err)
	}
	f.witness(Fact{Kind: FactHold, ID: hold.ID, Until: hold.Until})
	if !sleep(ctx, f.stay/2) {
		return Unfinished, ctx.Err()
	}
	var quote struct {
		Currency string `json:"currency"`
		Total    int64  `json:"total"`
	}
	a, err = f.patient(ctx, request{kind: "quote", method: "POST", url: "/api/v1/holds/quote", key: true, json: map[string]any{"holds": []string{hold.ID}}})
	if err != nil {
		return Failed, err
	}
	if err := f.want(a, 200, &quote); err != nil {
		return Failed, fmt.Errorf("quote: %w", err)
	}
	var o orderAnswer
	a, err = f.patient(ctx, request{kind: "order", method: "POST", url: "/api/v1/orders", key: true, json: map[string]any{"holds": []string{hold.ID}, "quote": quote}})
	if err != nil {
		return Failed, err
	}
	if err := f.want(a, 201, &o); err != nil {
		return Failed, fmt.Errorf("order: %w", err)
	}
	f.witness(Fact{Kind: FactOrder, ID: o.ID, Text: o.Link})
	a, err = f.patient(ctx, request{kind: "checkout", method: "POST", url: "/api/v1/orders/" + o.ID + "/checkout", key: true, json: struct{}{}})
	if err != nil {
		return Failed, err
	}
	if err := a.json(&o); err != nil {
		return Failed, err
	}
	number, declines := cardOf(f.card)
	if o.NextAction != "" {
		if err := f.pay(ctx, o.NextAction, number); err != nil {
			return Failed, err
		}
	}
	return f.settled(ctx, o, declines)
}

type orderAnswer struct {
	ID         string `json:"id"`
	State      string `json:"state"`
	NextAction string `json:"next_action"`
	Link       string `json:"link"`
}

// want decodes an answer of one status.
func (f *fan) want(a *answer, status int, v any) error {
	if a.status != status {
		return fmt.Errorf("status %d, want %d: %.300s", a.status, status, a.body)
	}
	return a.json(v)
}

// settled waits until the order has come to an end, as the order's page does.
func (f *fan) settled(ctx context.Context, o orderAnswer, declines bool) (Outcome, error) {
	give := time.Now().Add(2 * time.Minute)
	for time.Now().Before(give) {
		if _, err := f.patient(ctx, request{kind: "order page", method: "GET", url: o.Link, nav: true}); err != nil {
			return Failed, err
		}
		a, err := f.patient(ctx, request{kind: "order state", method: "GET", url: "/api/v1/orders/" + o.ID})
		if err != nil {
			return Failed, err
		}
		if err := f.want(a, 200, &o); err != nil {
			return Failed, err
		}
		switch o.State {
		case "PAID":
			f.report.sold(f.seats)
			f.witness(Fact{Kind: FactPaid, ID: o.ID, Text: o.Link, Seats: f.seats})
			return Bought, nil
		case "CANCELLED", "EXPIRED":
			return Declined, nil
		case "PAYING":
			if declines {
				_, err := f.patient(ctx, request{kind: "cancel", method: "POST", url: "/api/v1/orders/" + o.ID + "/cancel", key: true, json: struct{}{}})
				if err != nil {
					return Failed, err
				}
				_, err = f.goAway(ctx)
				return Declined, err
			}
		}
		if !sleep(ctx, time.Second) {
			return Unfinished, ctx.Err()
		}
	}
	return Failed, fmt.Errorf("order %s is still %s", o.ID, o.State)
}

// pay fills in the provider's page: the first form, with the test card in the field for the number. A page that asks once more
// (3-D Secure) is confirmed.
func (f *fan) pay(ctx context.Context, page, number string) error {
	provider := &fasthttp.Client{ReadTimeout: providerTimeout, WriteTimeout: providerTimeout, MaxIdleConnDuration: time.Second}
	defer provider.CloseIdleConnections()
	a, err := f.patient(ctx, request{kind: "payment page", method: "GET", url: page, nav: true, another: provider})
	if err != nil {
		return err
	}
	at := page
	for range 4 {
		action, fields, ok := firstForm(a.body)
		if !ok {
			return fmt.Errorf("payment page has no form: status %d", a.status)
		}
		for name := range fields {
			switch {
			case strings.Contains(name, "number") || name == "card":
				fields.Set(name, number)
			case strings.Contains(name, "exp"):
				fields.Set(name, "12/34")
			case name == "cvc" || strings.Contains(name, "code"):
				fields.Set(name, "123")
			case name == "name":
				fields.Set(name, "Simulated Fan")
			}
		}
		base, err := url.Parse(at)
		if err != nil {
			return fmt.Errorf("payment page address: %w", err)
		}
		target, err := base.Parse(action)
		if err != nil {
			return fmt.Errorf("payment form address: %w", err)
		}
		a, err = f.patient(ctx, request{kind: "pay", method: "POST", url: target.String(), form: fields, nav: true, another: provider})
		if err != nil {
			return err
		}
		if a.status != 302 && a.status != 303 { // declined pages show the form again; the order's page tells
			return nil
		}
		next, err := target.Parse(a.header["Location"])
		if err != nil {
			return fmt.Errorf("payment redirect: %w", err)
		}
		if next.Host != base.Host {
			return nil // back at the shop
		}
		at = next.String()
		if a, err = f.patient(ctx, request{kind: "payment page", method: "GET", url: at, nav: true, another: provider}); err != nil {
			return err
		}
		if a.status == 302 || a.status == 303 {
			return nil
		}
	}
	return nil
}

// firstForm reads the first form of a page: its address and what it would send as it is. The first of several submit buttons is
// pressed.
func firstForm(page []byte) (action string, fields url.Values, ok bool) {
	z := html.NewTokenizer(strings.NewReader(string(page)))
	fields = url.Values{}
	pressed := false
	for {
		switch z.Next() {
		case html.ErrorToken:
			return action, fields, ok
		case html.EndTagToken:
			if t := z.Token(); t.Data == "form" && ok {
				return action, fields, ok
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			attr := map[string]string{}
			for _, at := range t.Attr {
				attr[at.Key] = at.Val
			}
			switch {
			case t.Data == "form" && !ok:
				action, ok = attr["action"], true
			case !ok || attr["name"] == "":
			case t.Data == "button" && !pressed:
				fields.Set(attr["name"], attr["value"])
				pressed = true
			case t.Data == "input" && attr["type"] != "radio" && attr["type"] != "checkbox":
				fields.Set(attr["name"], attr["value"])
			case t.Data == "input":
				if _, checked := attr["checked"]; checked {
					fields.Set(attr["name"], attr["value"])
				}
			}
		}
	}
}
