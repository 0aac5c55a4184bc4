package officetest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/buyer"
	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/payment/pspsim"
	office "github.com/stanchion-queue/stanchion/tools/journeys/officetest"
)

type object = map[string]any

const (
	get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	holdsOfGala         = "/api/v1/performances/gala/holds"
	holdsOfMatinee      = "/api/v1/performances/matinee/holds"
)

// want fails unless an answer has the status and, with one, the problem.
func want(t *testing.T, a office.Answer, status int, problem string) {
	t.Helper()
	if a.Status != status || a.Problem() != problem {
		t.Fatalf("answered %d %q, want %d %q: %s", a.Status, a.Problem(), status, problem, a.Body)
	}
}

func TestCatalogIsRead(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	for _, test := range []struct{ path, has string }{
		{"/api/v1/events", `"slug":"matinee"`},
		{"/api/v1/events/gala", `"title":"Gala at the theatre"`},
		{"/api/v1/events/" + office.ID("event").String(), `"title":"Gala at the theatre"`},
		{"/api/v1/events/gala/performances/matinee", `"slug":"matinee"`},
		{"/api/v1/events/gala/performances/" + office.ID("gala").String(), `"room":"onsale"`},
		{"/api/v1/performances/gala", `"time_zone":"Europe/Berlin"`},
		{"/api/v1/performances/" + office.ID("gala").String(), `"slug":"gala"`},
		{"/api/v1/venues", `"name":"Stadttheater"`},
	} {
		a := fan.Do(get, test.path, nil)
		want(t, a, 200, "")
		if !strings.Contains(string(a.Body), test.has) {
			t.Errorf("%s lacks %s: %s", test.path, test.has, a.Body)
		}
		if !strings.HasPrefix(a.Header.Get("Cache-Control"), "public") {
			t.Errorf("%s: Cache-Control is %q", test.path, a.Header.Get("Cache-Control"))
		}
		if a.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s sets a cookie on an answer that caches share", test.path)
		}
		tag := a.Header.Get("ETag")
		if again := fan.Do(get, test.path, nil, "If-None-Match", `"other", W/`+tag); again.Status != 304 || len(again.Body) > 0 || again.Header.Get("ETag") != tag {
			t.Errorf("%s with its ETag %s answered %d, %d bytes", test.path, tag, again.Status, len(again.Body))
		}
		if head := fan.Do(http.MethodHead, test.path, nil); head.Status != 200 || head.Header.Get("ETag") != tag {
			t.Errorf("HEAD %s: %d, ETag %q", test.path, head.Status, head.Header.Get("ETag"))
		}
	}
	for _, path := range []string{"/events/none", "/events/gala/performances/none", "/events/none/performances/gala", "/performances/none", "/performances/none/chart",
		"/performances/none/availability", "/performances/gala/chart?section=none"} {
		want(t, fan.Do(get, "/api/v1"+path, nil), 404, "not-found")
	}
	want(t, fan.Do(get, "/api/v1/performances/"+strings.Repeat("x", 65), nil), 422, "invalid")
}

func TestEntityTagFollowsEveryChange(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	tag := func(path string) string { return fan.Do(get, path, nil).Header.Get("ETag") }
	event, performance := tag("/api/v1/events/gala"), tag("/api/v1/performances/gala")
	f.Change(office.Gala, func(p *catalog.Performance) { p.Offers[0].Price++ })
	f.Clock.Advance(time.Second)
	if tag("/api/v1/events/gala") == event || tag("/api/v1/performances/gala") == performance {
		t.Error("a new price kept an old entity tag: caches would show the old one")
	}
}

func TestChart(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	plain := fan.Do(get, "/api/v1/performances/gala/chart", nil, "Accept-Encoding", "identity")
	want(t, plain, 200, "")
	sum := sha256.Sum256(plain.Body)
	if tag := plain.Header.Get("ETag"); tag != `"`+hex.EncodeToString(sum[:])+`"` {
		t.Errorf("the ETag %s is not the document's hash", tag)
	}
	if starts := plain.Header.Get("Stanchion-Block-Starts"); starts != "0,10,20,30,40,50" {
		t.Errorf("blocks start at %s", starts)
	}
	packed := fan.Do(get, "/api/v1/performances/gala/chart", nil, "Accept-Encoding", "br, gzip;q=0.5")
	if packed.Header.Get("Content-Encoding") != "gzip" || packed.Header.Get("Vary") != "Accept-Encoding" || packed.Header.Get("ETag") == plain.Header.Get("ETag") {
		t.Errorf("compressed: %v", packed.Header)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed.Body))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, plain.Body) {
		t.Errorf("the compressed chart is another: %v", err)
	}
	if a := fan.Do(get, "/api/v1/performances/gala/chart", nil, "Accept-Encoding", "gzip;q=0"); a.Header.Get("Content-Encoding") != "" {
		t.Error("compressed although the client refuses it")
	}
	part := fan.Do(get, "/api/v1/performances/gala/chart?section=arena", nil)
	var plan struct {
		Landmarks []object
		Sections  []struct{ ID string }
	}
	part.Into(t, &plan)
	if len(plan.Sections) != 1 || plan.Sections[0].ID != "arena" || len(plan.Landmarks) != 1 {
		t.Errorf("the part is %s", part.Body)
	}
}

func free(t *testing.T, fan *office.Fan, since int64) (ver int64, free, blocks int, state string) {
	t.Helper()
	a := fan.Do(get, "/api/v1/performances/gala/availability?since="+strconv.FormatInt(since, 10), nil)
	want(t, a, 200, "")
	var av struct {
		Ver    int64
		State  string
		Blocks []struct{ Free []byte }
	}
	a.Into(t, &av)
	for _, b := range av.Blocks {
		for _, v := range b.Free {
			for ; v > 0; v &= v - 1 {
				free++
			}
		}
	}
	return av.Ver, free, len(av.Blocks), av.State
}

func TestAvailabilityTellsChanges(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	ver, n, _, state := free(t, fan, 0)
	if n != 60 || state != "open" {
		t.Fatalf("%d of 60 free, the sale is %s", n, state)
	}
	fan.MustHold(office.Gala, "stalls-A-3", "stalls-A-4")
	f.Clock.Advance(2 * time.Second)
	if _, n, _, _ = free(t, fan, 0); n != 58 {
		t.Errorf("%d free after two were held", n)
	}
	if _, _, blocks, _ := free(t, fan, ver); blocks != 1 {
		t.Errorf("%d blocks changed, want 1", blocks)
	}
	want(t, fan.Do(get, "/api/v1/performances/gala/availability?since=-1", nil), 422, "invalid")
	want(t, fan.Do(get, "/api/v1/performances/gala/availability?since=soon", nil), 422, "invalid")
}

func TestHoldAndItsRefusals(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan, other := f.Fan("s1"), f.Fan("s2")

	a := fan.Do(post, holdsOfGala, object{"seats": []string{"stalls-A-5", "stalls-A-4"}})
	want(t, a, 201, "")
	var h office.Hold
	a.Into(t, &h)
	if h.State != "held" || h.SeatIDs() != "stalls-A-4 stalls-A-5" || h.Seats[0].Label != "Stalls, row A, seat 4" {
		t.Errorf("held %+v", h)
	}
	if h.SecondsLeft < 470 || h.SecondsLeft > 480 || !h.Until.After(f.Clock.Now()) {
		t.Errorf("%d seconds left until %v", h.SecondsLeft, h.Until)
	}
	if a.Header.Get("Location") != "/api/v1/holds/"+h.ID || a.Header.Get("Stanchion-Guest") == "" {
		t.Errorf("headers %v", a.Header)
	}

	a = other.Do(post, holdsOfGala, object{"seats": []string{"stalls-A-5", "stalls-A-6"}})
	want(t, a, 409, "seats-taken")
	var p struct{ Seats []struct{ ID string } }
	a.Into(t, &p)
	if len(p.Seats) != 1 || p.Seats[0].ID != "stalls-A-5" {
		t.Errorf("taken: %s", a.Body)
	}
	if _, n, _, _ := free(t, other, 0); n != 58 {
		t.Errorf("a refused hold left %d of 58 free", n)
	}

	a = other.Do(post, holdsOfGala, object{"seats": []string{"stalls-Z-1", "stalls-A-6", "nowhere"}})
	want(t, a, 422, "no-such-seat")
	a.Into(t, &p)
	if len(p.Seats) != 2 || p.Seats[0].ID != "stalls-Z-1" || p.Seats[1].ID != "nowhere" {
		t.Errorf("missing: %s", a.Body)
	}

	many := func(n int) (ids []string) {
		for i := range n {
			ids = append(ids, fmt.Sprintf("stalls-A-%d", i+1))
		}
		return ids
	}
	for _, test := range []struct {
		name    string
		fan     *office.Fan
		path    string
		body    any
		status  int
		problem string
	}{
		{"no pass", &office.Fan{Office: f, Client: other.Client}, holdsOfGala, object{"seats": many(1)}, 401, "pass-required"},
		{"a forged pass", &office.Fan{Office: f, Client: other.Client, Pass: other.Pass + "x"}, holdsOfGala, object{"seats": many(1)}, 403, "pass-invalid"},
		{"a pass of another room", &office.Fan{Office: f, Client: other.Client, Pass: f.Pass("s9", "elsewhere", 4)}, holdsOfGala, object{"seats": many(1)}, 403, "pass-invalid"},
		{"more than the pass allows", other, holdsOfGala, object{"seats": []string{"stalls-B-1", "stalls-B-2", "stalls-B-3", "stalls-B-4", "stalls-B-5"}}, 409, "pass-limit"},
		{"seats of two blocks", other, holdsOfGala, object{"seats": []string{"stalls-A-9", "stalls-B-9"}}, 422, "many-blocks"},
		{"a seat twice", other, holdsOfGala, object{"seats": []string{"stalls-B-1", "stalls-B-1"}}, 422, "no-seats"},
		{"neither seats nor best", other, holdsOfGala, object{}, 422, "invalid"},
		{"an empty list", other, holdsOfGala, object{"seats": []string{}}, 422, "invalid"},
		{"seats and best", other, holdsOfGala, object{"seats": many(1), "best": object{"qty": 1}}, 422, "invalid"},
		{"more than a request takes", other, holdsOfGala, object{"seats": many(21)}, 422, "invalid"},
		{"best of none", other, holdsOfGala, object{"best": object{"qty": 0}}, 422, "invalid"},
		{"best of an unknown category", other, holdsOfGala, object{"best": object{"qty": 1, "offer": "Royal box"}}, 422, "invalid"},
		{"more side by side than there are", other, holdsOfGala, object{"best": object{"qty": 20, "offer": "Rear"}}, 409, "no-seats-left"},
		{"an unknown performance", other, "/api/v1/performances/none/holds", object{"seats": many(1)}, 404, "not-found"},
	} {
		t.Run(test.name, func(t *testing.T) { want(t, test.fan.Do(post, test.path, test.body), test.status, test.problem) })
	}
	if _, n, _, _ := free(t, other, 0); n != 58 {
		t.Errorf("refusals left %d of 58 free", n)
	}

	t.Run("best seats together", func(t *testing.T) {
		a := other.Do(post, holdsOfGala, object{"best": object{"qty": 3}})
		want(t, a, 201, "")
		var h office.Hold
		a.Into(t, &h)
		if len(h.Seats) != 3 {
			t.Errorf("held %+v", h)
		}
	})
	t.Run("a wheelchair space and a companion", func(t *testing.T) {
		a := f.Fan("s3").Do(post, holdsOfGala, object{"best": object{"qty": 2, "accessible": true}})
		want(t, a, 201, "")
		var h office.Hold
		a.Into(t, &h)
		if h.SeatIDs() != "stalls-A-1 stalls-A-2" {
			t.Errorf("held %s", h.SeatIDs())
		}
	})
	t.Run("a standing place", func(t *testing.T) {
		a := f.Fan("s4").Do(post, holdsOfGala, object{"best": object{"qty": 2, "offer": "Standing"}})
		want(t, a, 201, "")
		if !strings.Contains(string(a.Body), "Arena, Standing") {
			t.Errorf("held %s", a.Body)
		}
	})
}

func TestHoldsDependOnTheSale(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	seat := object{"seats": []string{"stalls-A-5"}}

	must(t, f.Stock.PauseSale(t.Context(), office.ID(office.Gala)))
	want(t, fan.Do(post, holdsOfGala, seat), 409, "sale-not-open")
	want(t, fan.Do(post, holdsOfGala, object{"best": object{"qty": 2}}), 409, "sale-not-open")
	must(t, f.Stock.OpenSale(t.Context(), office.ID(office.Gala)))

	f.Change(office.Gala, func(p *catalog.Performance) { p.SaleOpen = false })
	want(t, fan.Do(post, holdsOfGala, seat), 409, "sale-not-open")
	f.Change(office.Gala, func(p *catalog.Performance) { p.SaleOpen = true })

	must(t, f.Stock.FreezeBlock(t.Context(), office.ID(office.Gala), f.Place(office.Gala, "stalls-A-5").Block))
	a := fan.Do(post, holdsOfGala, seat)
	want(t, a, 503, "block-frozen")
	if a.Header.Get("Retry-After") != "1" || a.Field("retry_after_ms") != "1000" {
		t.Errorf("when may it be repeated? %v %s", a.Header, a.Body)
	}
	must(t, f.Stock.UnfreezeBlock(t.Context(), office.ID(office.Gala), f.Place(office.Gala, "stalls-A-5").Block))
	want(t, fan.Do(post, holdsOfGala, seat), 201, "")
}

func TestAHoldsLife(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan, other := f.Fan("s1"), f.Fan("s2")
	h := fan.MustHold(office.Gala, "stalls-A-4", "stalls-A-5")
	path := "/api/v1/holds/" + h.ID
	other.MustHold(office.Gala, "stalls-C-1") // so that it has a name of its own

	want(t, fan.Do(get, path, nil), 200, "")
	for _, m := range []struct{ method, path string }{{get, path}, {post, path + "/extend"}, {del, path}} {
		want(t, other.Do(m.method, m.path, nil), 404, "not-found")
		want(t, fan.Do(m.method, strings.Replace(m.path, h.ID, uuid.NewString(), 1), nil), 404, "not-found")
		want(t, fan.Do(m.method, strings.Replace(m.path, h.ID, "no-id", 1), nil), 422, "invalid")
	}

	// Extended until its last possible end.
	f.Clock.Advance(6 * time.Minute)
	a := fan.Do(post, path+"/extend", nil)
	want(t, a, 200, "")
	var longer office.Hold
	a.Into(t, &longer)
	if d := longer.Until.Sub(h.Until); d < 5*time.Minute || longer.SecondsLeft < 470 {
		t.Errorf("extended by %v", d)
	}
	f.Clock.Advance(7 * time.Minute)
	want(t, fan.Do(post, path+"/extend", nil), 200, "")
	f.Clock.Advance(6*time.Minute + 59*time.Second)
	want(t, fan.Do(post, path+"/extend", nil), 409, "at-the-cap")

	// Over.
	f.Clock.Advance(2 * time.Second)
	want(t, fan.Do(get, path, nil), 410, "hold-expired")
	want(t, fan.Do(post, path+"/extend", nil), 410, "hold-expired")
	want(t, fan.Do(post, "/api/v1/orders", object{"holds": []string{h.ID}, "quote": object{"currency": "EUR", "total": 17850}}), 410, "hold-expired")
	f.Clock.Advance(time.Minute) // and the seats' own lease with it
	other.MustHold(office.Gala, "stalls-A-4", "stalls-A-5")

	// Released, as often as one likes.
	h = fan.MustHold(office.Gala, "stalls-B-1", "stalls-B-2")
	for range 2 {
		want(t, fan.Do(del, "/api/v1/holds/"+h.ID, nil), 204, "")
	}
	want(t, fan.Do(get, "/api/v1/holds/"+h.ID, nil), 410, "hold-expired")
	h = fan.MustHold(office.Gala, "stalls-B-1", "stalls-B-2")

	// In an order.
	o := fan.MustOrder(h.ID)
	a = fan.Do(get, "/api/v1/holds/"+h.ID, nil)
	want(t, a, 200, "")
	if a.Field("order_id") != o.ID {
		t.Errorf("the hold is in order %q", a.Field("order_id"))
	}
	want(t, fan.Do(del, "/api/v1/holds/"+h.ID, nil), 409, "hold-in-checkout")
	want(t, fan.Do(post, "/api/v1/orders", object{"holds": []string{h.ID}, "quote": object{"currency": "EUR", "total": 17850}}), 409, "hold-in-checkout")
	fan.MustCheckOut(o.ID)
	want(t, fan.Do(post, "/api/v1/holds/"+h.ID+"/extend", nil), 409, "hold-in-checkout")
}

func TestOrderRefusals(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan, other := f.Fan("s1"), f.Fan("s2")
	h := fan.MustHold(office.Gala, "stalls-A-4", "stalls-A-5")
	strange := other.MustHold(office.Gala, "stalls-C-1")
	q := fan.MustQuote(h.ID)
	if q.Total != 2*8925 || q.Currency != "EUR" {
		t.Fatalf("two seats cost %+v", q)
	}
	free := fan.MustHold(office.Matinee, "stalls-A-4")
	var more []string
	for range 5 {
		more = append(more, uuid.NewString())
	}
	for _, test := range []struct {
		name    string
		holds   []string
		quote   any
		status  int
		problem string
	}{
		{"somebody else's hold", []string{strange.ID}, q, 404, "not-found"},
		{"an unknown hold", []string{uuid.NewString()}, q, 404, "not-found"},
		{"no holds", []string{}, q, 422, "invalid"},
		{"five holds", more, q, 422, "invalid"},
		{"no id", []string{"x"}, q, 422, "invalid"},
		{"another price", []string{h.ID}, object{"currency": "EUR", "total": 1}, 409, "price-changed"},
		{"another currency", []string{h.ID}, object{"currency": "USD", "total": 17850}, 409, "price-changed"},
		{"a negative price", []string{h.ID}, object{"currency": "EUR", "total": -1}, 422, "invalid"},
		{"two performances", []string{h.ID, free.ID}, q, 422, "mixed-holds"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := fan.Do(post, "/api/v1/orders", object{"holds": test.holds, "quote": test.quote})
			want(t, a, test.status, test.problem)
			if test.problem == "price-changed" && (a.Field("total") != "17850" || a.Field("currency") != "EUR") {
				t.Errorf("what does it cost now? %s", a.Body)
			}
		})
	}
	for _, path := range []string{"", "/payments", "/tickets"} {
		want(t, fan.Do(get, "/api/v1/orders/"+uuid.NewString()+path, nil), 404, "not-found")
		want(t, fan.Do(get, "/api/v1/orders/none"+path, nil), 422, "invalid")
	}
	for _, path := range []string{"/checkout", "/cancel"} {
		want(t, fan.Do(post, "/api/v1/orders/"+uuid.NewString()+path, object{}), 404, "not-found")
	}
}

func TestFromHoldToTicket(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	h := fan.MustHold(office.Gala, "stalls-A-4", "stalls-A-5")
	o := fan.MustOrder(h.ID)
	if o.State != "DRAFT" || o.Total != 17850 || len(o.Units) != 2 || o.PayBy == nil || o.NextAction != "" {
		t.Fatalf("ordered %+v", o)
	}
	path := "/api/v1/orders/" + o.ID
	want(t, fan.Do(get, path+"/tickets", nil), 409, "not-paid")
	want(t, fan.Do(post, path+"/refunds", object{"units": []int{1}}), 409, "wrong-state")
	for _, url := range []string{"/orders", "https://elsewhere.example/back", "javascript:alert(1)", f.URL + ".example/"} {
		want(t, fan.Do(post, path+"/checkout", object{"return_url": url}), 422, "bad-return-url")
	}

	a := fan.Do(post, path+"/checkout", object{"return_url": f.URL + o.Link})
	want(t, a, 202, "")
	a.Into(t, &o)
	if o.State != "PAYING" || !strings.HasPrefix(o.NextAction, f.SimURL+"/pay/") {
		t.Fatalf("checked out %+v", o)
	}
	if a.Header.Get("Location") != path || a.Header.Get("ETag") != `"`+strconv.FormatInt(o.Version, 10)+`"` {
		t.Errorf("headers %v", a.Header)
	}
	a = fan.Do(post, path+"/checkout", object{})
	want(t, a, 409, "attempt-open")
	if a.Field("next_action") != o.NextAction {
		t.Errorf("where does the open payment go on? %s", a.Body)
	}

	if back := fan.PayAtProvider(o.NextAction, office.Pays); back != f.URL+o.Link {
		t.Errorf("the provider sends the fan to %s", back)
	}
	fan.Read(o.Link)
	if o = fan.GetOrder(o.ID); o.State != "PAID" || o.PayBy != nil {
		t.Fatalf("paid %+v", o)
	}
	a = fan.Do(get, path+"/payments", nil)
	var ps []struct {
		State            string
		Amount, Captured int64
	}
	a.Into(t, &ps)
	if len(ps) != 1 || ps[0].State != "CAPTURED" || ps[0].Captured != 17850 {
		t.Errorf("payments %s", a.Body)
	}
	want(t, fan.Do(post, path+"/checkout", object{}), 409, "wrong-state")
	want(t, fan.Do(post, path+"/cancel", nil), 409, "wrong-state")

	tickets := fan.Tickets(o.ID)
	if len(tickets) != 2 || tickets[0].Label != "Stalls, row A, seat 4" || !strings.HasPrefix(tickets[0].Code, "STN1.") {
		t.Fatalf("tickets %+v", tickets)
	}
	if parsed, err := f.Tickets.Codes.Parse(tickets[1].Code); err != nil || parsed.ID.String() != tickets[1].ID || parsed.Performance != office.ID(office.Gala) {
		t.Errorf("the code says %+v, %v", parsed, err)
	}
	want(t, fan.Do(get, "/api/v1/tickets/"+tickets[0].ID, nil), 200, "")
	for _, ext := range []string{"", ".png", ".svg", ".pdf"} {
		page, query, _ := strings.Cut(tickets[0].Link, "?")
		if a := f.Fan("x").Read(page + ext + "?" + query); a.Status != 200 {
			t.Errorf("%s%s: %d", page, ext, a.Status)
		}
	}

	// The pass has bought.
	want(t, fan.Do(post, holdsOfGala, object{"seats": []string{"stalls-B-1"}}), 403, "pass-used")

	// Strangers see nothing, the bearer of the link everything of this order.
	stranger := f.Fan("s9")
	stranger.MustHold(office.Gala, "stalls-C-9")
	for _, p := range []string{path, path + "/payments", path + "/tickets", "/api/v1/tickets/" + tickets[0].ID} {
		want(t, stranger.Do(get, p, nil), 404, "not-found")
	}
	_, key, _ := strings.Cut(o.Link, "?")
	for _, p := range []string{path, path + "/payments", path + "/tickets"} {
		want(t, stranger.Do(get, p+"?"+key, nil), 200, "")
		want(t, stranger.Do(get, p+"?k=wrong", nil), 404, "not-found")
	}
	_, ticketKey, _ := strings.Cut(tickets[0].Link, "?")
	want(t, stranger.Do(get, "/api/v1/tickets/"+tickets[0].ID+"?"+ticketKey, nil), 200, "")
	want(t, stranger.Do(get, "/api/v1/tickets/"+tickets[1].ID+"?"+ticketKey, nil), 404, "not-found")
	want(t, stranger.Do(get, "/api/v1/tickets/"+uuid.NewString(), nil), 404, "not-found")

	// Given back, one by one.
	want(t, stranger.Do(post, path+"/refunds", object{"units": []int{1}}), 404, "not-found")
	want(t, fan.Do(post, path+"/refunds", object{"units": []int{7}}), 409, "unit-refunded")
	want(t, fan.Do(post, path+"/refunds", object{"units": []int{}}), 422, "invalid")
	a = fan.Do(post, path+"/refunds", object{"units": []int{1}, "reason": "ill"})
	want(t, a, 202, "")
	if a.Field("state") != "PART_REFUNDED" {
		t.Errorf("refunded one: %s", a.Body)
	}
	want(t, fan.Do(get, "/api/v1/tickets/"+tickets[0].ID, nil), 410, "revoked")
	if left := fan.Tickets(o.ID); len(left) != 1 || left[0].ID != tickets[1].ID {
		t.Errorf("left %+v", left)
	}
	want(t, fan.Do(post, path+"/refunds", object{"units": []int{1}}), 409, "unit-refunded")
	want(t, fan.Do(post, path+"/refunds", object{"units": []int{2}}), 202, "")
	f.Settle(time.Hour)
	if o = fan.GetOrder(o.ID); o.State != "REFUNDED" {
		t.Errorf("in the end %s", o.State)
	}
	want(t, fan.Do(get, path+"/tickets", nil), 409, "not-paid")
	if strings.Contains(f.Log.String(), "level=ERROR") {
		t.Error(f.Log)
	}
}

func TestAFreeOrderNeedsNoProvider(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	fan.Pass = "" // nor a pass
	h := fan.MustHold(office.Matinee, "stalls-A-4")
	o := fan.MustOrder(h.ID)
	a := fan.Do(post, "/api/v1/orders/"+o.ID+"/checkout", object{})
	want(t, a, 200, "")
	if a.Field("state") != "PAID" || len(fan.Tickets(o.ID)) != 1 {
		t.Errorf("checked out %s", a.Body)
	}
}

func TestDeclinedThenPaid(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	o := fan.MustOrder(fan.MustHold(office.Gala, "stalls-A-4").ID)
	o = fan.MustCheckOut(o.ID)
	fan.PayAtProvider(o.NextAction, office.Stolen) // the provider gives this payment up
	fan.Read(o.Link)
	o = fan.GetOrder(o.ID)
	if o.State != "PAYING" || o.NextAction != "" {
		t.Fatalf("after the refusal %+v", o)
	}
	o = fan.MustCheckOut(o.ID)
	fan.PayAtProvider(o.NextAction, office.Pays)
	fan.Read(o.Link)
	if o = fan.GetOrder(o.ID); o.State != "PAID" {
		t.Fatalf("after the second card %s", o.State)
	}
	var ps []struct{ State, Failure string }
	fan.Do(get, "/api/v1/orders/"+o.ID+"/payments", nil).Into(t, &ps)
	if len(ps) != 2 || ps[0].State != "FAILED" || ps[0].Failure == "" || ps[1].State != "CAPTURED" {
		t.Errorf("payments %+v", ps)
	}
}

func TestCancel(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	o := fan.MustOrder(fan.MustHold(office.Gala, "stalls-A-4").ID)
	for range 2 {
		a := fan.Do(post, "/api/v1/orders/"+o.ID+"/cancel", nil)
		want(t, a, 200, "")
		if a.Field("state") != "CANCELLED" || a.Field("cause") != "fan" {
			t.Errorf("cancelled %s", a.Body)
		}
	}
	want(t, fan.Do(post, "/api/v1/orders/"+o.ID+"/checkout", object{}), 409, "wrong-state")

	// While a payment is open the provider is asked first.
	o = fan.MustOrder(fan.MustHold(office.Gala, "stalls-A-4").ID)
	o = fan.MustCheckOut(o.ID)
	a := fan.Do(post, "/api/v1/orders/"+o.ID+"/cancel", nil)
	if a.Status != 200 && a.Status != 202 {
		t.Fatalf("cancel while paying: %d %s", a.Status, a.Body)
	}
	f.Settle(time.Minute)
	if o = fan.GetOrder(o.ID); o.State != "CANCELLED" {
		t.Errorf("the order is %s", o.State)
	}
	fan.MustHold(office.Gala, "stalls-A-4")
}

func TestAnUnpaidOrderEnds(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	draft := fan.MustOrder(fan.MustHold(office.Gala, "stalls-A-4").ID)
	f.Clock.Advance(office.HoldLease)
	want(t, fan.Do(post, "/api/v1/orders/"+draft.ID+"/checkout", object{}), 410, "hold-expired")
	f.Settle(time.Minute)
	if o := fan.GetOrder(draft.ID); o.State != "EXPIRED" || o.Cause != "timer" {
		t.Errorf("the draft is %+v", o)
	}
	paying := fan.MustCheckOut(fan.MustOrder(fan.MustHold(office.Gala, "stalls-B-4").ID).ID)
	f.Settle(office.Pin + time.Minute)
	if o := fan.GetOrder(paying.ID); o.State != "EXPIRED" || o.NextAction != "" {
		t.Errorf("the order nobody paid is %+v", o)
	}
}

func TestIdempotencyKeys(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	body := object{"seats": []string{"stalls-A-4"}}

	// A key needs a name to belong to.
	a := fan.Do(post, holdsOfGala, body, "Idempotency-Key", office.Key())
	want(t, a, 400, "guest-needed")
	fan.Guest = a.Header.Get("Stanchion-Guest")

	for _, bad := range []string{"", strings.Repeat("k", 256), "with space", "ümlaut"} {
		want(t, fan.Do(post, holdsOfGala, body, "Idempotency-Key", bad), 400, "bad-key")
	}

	key := office.Key()
	first := fan.Do(post, holdsOfGala, body, "Idempotency-Key", key)
	want(t, first, 201, "")
	if first.Header.Get("Idempotency-Replayed") != "" {
		t.Error("the first answer says it is a repetition")
	}
	again := fan.Do(post, holdsOfGala, body, "Idempotency-Key", key)
	want(t, again, 201, "")
	if again.Header.Get("Idempotency-Replayed") != "true" || !bytes.Equal(again.Body, first.Body) || again.Header.Get("Location") != first.Header.Get("Location") {
		t.Errorf("the repetition differs: %v %s", again.Header, again.Body)
	}
	want(t, fan.Do(post, holdsOfGala, object{"seats": []string{"stalls-A-5"}}, "Idempotency-Key", key), 422, "key-reused")
	want(t, fan.Do(post, holdsOfMatinee, body, "Idempotency-Key", key), 422, "key-reused")
	want(t, fan.Do(del, "/api/v1/holds/"+first.Field("id"), nil, "Idempotency-Key", key), 422, "key-reused")

	// Another guest's equal key is another key.
	other := f.Fan("s2")
	other.MustHold(office.Gala, "stalls-C-1")
	want(t, other.Do(post, holdsOfGala, object{"seats": []string{"stalls-C-2"}}, "Idempotency-Key", key), 201, "")

	// A refusal for good is remembered too; one for the moment, or for want of a pass, is not.
	taken := office.Key()
	want(t, other.Do(post, holdsOfGala, body, "Idempotency-Key", taken), 409, "seats-taken")
	want(t, fan.Do(del, "/api/v1/holds/"+first.Field("id"), nil), 204, "")
	want(t, other.Do(post, holdsOfGala, body, "Idempotency-Key", taken), 409, "seats-taken")

	passless := office.Key()
	pass := other.Pass
	other.Pass = ""
	want(t, other.Do(post, holdsOfGala, body, "Idempotency-Key", passless), 401, "pass-required")
	other.Pass = pass
	want(t, other.Do(post, holdsOfGala, body, "Idempotency-Key", passless), 201, "")

	frozen := office.Key()
	block := f.Place(office.Gala, "stalls-B-1").Block
	must(t, f.Stock.FreezeBlock(t.Context(), office.ID(office.Gala), block))
	want(t, fan.Do(post, holdsOfGala, object{"seats": []string{"stalls-B-1"}}, "Idempotency-Key", frozen), 503, "block-frozen")
	must(t, f.Stock.UnfreezeBlock(t.Context(), office.ID(office.Gala), block))
	want(t, fan.Do(post, holdsOfGala, object{"seats": []string{"stalls-B-1"}}, "Idempotency-Key", frozen), 201, "")

	// Deletions and empty bodies take keys as well.
	release := office.Key()
	h := fan.MustHold(office.Gala, "stalls-B-2")
	for range 2 {
		want(t, fan.Do(del, "/api/v1/holds/"+h.ID, nil, "Idempotency-Key", release), 204, "")
	}
}

func TestAKeyInFlight(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	h := fan.MustHold(office.Gala, "stalls-A-4")
	// The key is taken as a request that is still being worked on has it.
	key, now := office.Key(), f.Clock.Now()
	who, err := f.Guests.Principal(fan.Guest)
	must(t, err)
	path := "/api/v1/holds/" + h.ID + "/extend"
	_, _, err = f.Store.TakeKey(t.Context(), order.Principal(who), key, order.KeyState{Fingerprint: order.Fingerprint(post, path, nil), Owner: uuid.New(),
		LockedUntil: now.Add(5 * time.Second), Subject: uuid.New()}, now)
	must(t, err)
	a := fan.Do(post, path, nil, "Idempotency-Key", key)
	want(t, a, 409, "key-in-flight")
	if s, _ := strconv.Atoi(a.Header.Get("Retry-After")); s < 1 || s > 5 {
		t.Errorf("Retry-After is %q", a.Header.Get("Retry-After"))
	}
	f.Clock.Advance(6 * time.Second) // whoever had it is given up
	want(t, fan.Do(post, path, nil, "Idempotency-Key", key), 200, "")
}

func TestOneKeyManyAtOnce(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	fan.MustHold(office.Gala, "stalls-C-1")
	key := office.Key()
	var mu sync.Mutex
	ids := map[string]int{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				a := fan.Do(post, holdsOfGala, object{"seats": []string{"stalls-A-4"}}, "Idempotency-Key", key)
				if a.Problem() == "key-in-flight" {
					continue
				}
				mu.Lock()
				defer mu.Unlock()
				ids[a.Field("id")]++
				return
			}
		})
	}
	wg.Wait()
	if len(ids) != 1 {
		t.Errorf("one key made %v", ids)
	}
}

func TestUnreadableRequests(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	fan.MustHold(office.Gala, "stalls-C-1")
	send := func(contentType, body string, header ...string) office.Answer {
		a := fan.Send(post, holdsOfGala, contentType, strings.NewReader(body), header...)
		fan.Hold(post, holdsOfGala, a)
		return a
	}
	const good = `{"seats":["stalls-A-4"]}`
	large := `{"seats":["` + strings.Repeat("x", 70<<10) + `"]}`
	for _, test := range []struct {
		name, contentType, body string
		status                  int
		problem                 string
	}{
		{"not JSON", "application/json", "{", 400, "malformed"},
		{"another type of value", "application/json", `{"seats":"stalls-A-4"}`, 422, "invalid"},
		{"an unknown field", "application/json", `{"seats":["stalls-A-4"],"discount":1}`, 422, "invalid"},
		{"a list", "application/json", `[]`, 422, "invalid"},
		{"nothing", "application/json", "", 400, "malformed"},
		{"a form", "application/x-www-form-urlencoded", "seats=stalls-A-4", 415, "unsupported-media-type"},
		{"plain text, which needs no preflight", "text/plain", good, 415, "unsupported-media-type"},
		{"too large", "application/json", large, 413, "too-large"},
	} {
		t.Run(test.name, func(t *testing.T) {
			want(t, send(test.contentType, test.body), test.status, test.problem)
			want(t, send(test.contentType, test.body, "Idempotency-Key", office.Key()), test.status, test.problem)
		})
	}
	a := send("application/json", `{"seats":["stalls-A-4"],"discount":1}`)
	if !strings.Contains(string(a.Body), `"field":"discount"`) {
		t.Errorf("which field is unknown? %s", a.Body)
	}
	for _, site := range []string{"cross-site", "same-site"} {
		a := send("application/json", good, "Sec-Fetch-Site", site)
		want(t, a, 403, "cross-site")
		if a.Header.Get("Set-Cookie") != "" {
			t.Error("a refused request of another site gets a cookie")
		}
	}
	fan.Guest += "x"
	want(t, send("application/json", good), 401, "guest-invalid")
	want(t, fan.Do(get, "/api/v1/events", nil), 401, "guest-invalid")
}

func TestUnknownPathsAndMethods(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	for _, path := range []string{"/api/", "/api/v1", "/api/v2/events", "/api/v1/performances", "/api/v1/performances/gala/holds/x"} {
		want(t, fan.Do(get, path, nil), 404, "not-found")
	}
	for _, test := range []struct{ method, path, allow string }{
		{post, "/api/v1/events", "GET, HEAD"},
		{get, holdsOfGala, "POST"},
		{http.MethodPatch, "/api/v1/holds/" + uuid.NewString(), "GET, DELETE, HEAD"},
		{del, "/api/v1/venues/" + uuid.NewString(), "PUT"},
	} {
		a := fan.Do(test.method, test.path, nil)
		want(t, a, 405, "method-not-allowed")
		if a.Header.Get("Allow") != test.allow {
			t.Errorf("%s %s allows %q, want %q", test.method, test.path, a.Header.Get("Allow"), test.allow)
		}
	}
}

func TestStaffWritesTheCatalog(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	token := []string{"Stanchion-Staff-Token", office.StaffToken}
	id := uuid.NewString()
	venue := object{"slug": "halle", "name": "Stadthalle", "city": "Köln", "country": "DE", "time_zone": "Europe/Berlin"}
	for _, header := range [][]string{nil, {"Stanchion-Staff-Token", "wrong"}, {"Stanchion-Staff-Token", office.StaffToken + "x"}} {
		want(t, fan.Do(put, "/api/v1/venues/"+id, venue, header...), 403, "staff-only")
		want(t, fan.Do(put, "/api/v1/events/"+id, object{"slug": "x", "title": "X"}, header...), 403, "staff-only")
		want(t, fan.Do(put, "/api/v1/performances/"+id, performance("x"), header...), 403, "staff-only")
	}
	a := fan.Do(put, "/api/v1/venues/"+id, venue, token...)
	want(t, a, 200, "")
	if a.Field("version") != "1" || a.Field("id") != id {
		t.Errorf("stored %s", a.Body)
	}
	want(t, fan.Do(put, "/api/v1/venues/"+id, venue, token...), 409, "exists")
	venue["version"], venue["name"] = 1, "Große Stadthalle"
	want(t, fan.Do(put, "/api/v1/venues/"+id, venue, token...), 200, "")
	want(t, fan.Do(put, "/api/v1/venues/"+id, venue, token...), 412, "changed-meanwhile")
	if a := fan.Do(get, "/api/v1/venues", nil); !strings.Contains(string(a.Body), "Große Stadthalle") {
		t.Errorf("venues %s", a.Body)
	}

	a = fan.Do(put, "/api/v1/venues/"+uuid.NewString(), object{"slug": "Bad Slug", "name": "", "country": "Germany", "time_zone": "Mars/Base"}, token...)
	want(t, a, 422, "invalid")
	var p struct {
		Errors []struct{ Field, Want string }
	}
	a.Into(t, &p)
	var fields []string
	for _, e := range p.Errors {
		fields = append(fields, e.Field)
	}
	if !slices.Equal(fields, []string{"slug", "name", "country", "time_zone"}) {
		t.Errorf("wrong fields %v: %s", fields, a.Body)
	}

	event := uuid.NewString()
	want(t, fan.Do(put, "/api/v1/events/"+event, object{"slug": "ball", "title": "Ball"}, token...), 200, "")
	want(t, fan.Do(put, "/api/v1/performances/"+uuid.NewString(), performance("ball-1"), token...), 200, "")
	want(t, fan.Do(get, "/api/v1/performances/ball-1", nil), 200, "")
	// It has no chart yet.
	want(t, fan.Do(get, "/api/v1/performances/ball-1/chart", nil), 404, "not-found")
	want(t, fan.Do(get, "/api/v1/performances/ball-1/availability", nil), 404, "not-found")
	want(t, fan.Do(post, "/api/v1/performances/ball-1/holds", object{"seats": []string{"a"}}), 404, "not-found")
	want(t, fan.Do(post, "/api/v1/performances/ball-1/holds", object{"best": object{"qty": 1}}), 404, "not-found")
}

func performance(slug string) object {
	return object{"slug": slug, "event_id": office.ID("event"), "venue_id": office.ID("venue"), "starts_at": "2027-03-01T19:30:00Z", "currency": "EUR",
		"offers": []object{{"category": "Front", "price": 1000, "fee": 0, "tax": 0}}, "sale_open": true}
}

func TestScans(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	o := fan.Buy(office.Gala, "stalls-A-4", "stalls-A-5", "stalls-A-6")
	tickets := fan.Tickets(o.ID)
	scan := func(nonce, code string, more ...string) office.Answer {
		body := object{"gate": "north-1", "nonce": nonce, "code": code}
		if len(more) > 0 {
			body["performance_id"] = more[0]
		}
		return fan.Do(post, "/api/v1/scans", body, "Stanchion-Staff-Token", office.StaffToken)
	}
	want(t, fan.Do(post, "/api/v1/scans", object{"gate": "n", "nonce": "1", "code": "x"}), 403, "staff-only")
	want(t, scan("", tickets[0].Code), 422, "invalid")
	want(t, scan("with space", tickets[0].Code), 422, "invalid")

	a := scan("n1", tickets[0].Code)
	want(t, a, 200, "")
	if a.Field("accepted") != "true" || a.Field("label") != "Stalls, row A, seat 4" || a.Field("ticket_id") != tickets[0].ID {
		t.Fatalf("scanned %s", a.Body)
	}
	if again := scan("n1", tickets[0].Code); !bytes.Equal(again.Body, a.Body) {
		t.Errorf("the repetition differs: %s", again.Body)
	}
	a = scan("n2", tickets[0].Code)
	if a.Field("accepted") != "false" || a.Field("reason") != "already-used" || a.Field("first_gate") != "north-1" || a.Field("first_at") == "" {
		t.Errorf("used twice: %s", a.Body)
	}
	forged := []byte(tickets[1].Code) // one character of the signature is another
	if at := len(forged) - 10; forged[at] == 'A' {
		forged[at] = 'B'
	} else {
		forged[at] = 'A'
	}
	want(t, fan.Do(post, "/api/v1/orders/"+o.ID+"/refunds", object{"units": []int{3}}), 202, "")
	for i, test := range []struct{ code, performance, reason string }{
		{"hello", "", "malformed"},
		{string(forged), "", "forged"},
		{tickets[1].Code, office.ID(office.Matinee).String(), "other-performance"},
		{tickets[2].Code, "", "revoked"},
	} {
		var more []string
		if test.performance != "" {
			more = append(more, test.performance)
		}
		a := scan(fmt.Sprintf("m%d", i), test.code, more...)
		want(t, a, 200, "")
		if a.Field("accepted") != "false" || a.Field("reason") != test.reason {
			t.Errorf("%s: %s", test.reason, a.Body)
		}
	}
	if a = scan("n3", tickets[1].Code, office.ID(office.Gala).String()); a.Field("accepted") != "true" {
		t.Errorf("after all the refusals: %s", a.Body)
	}
}

func TestWebhooks(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	send := func(provider, body, signature string) office.Answer {
		path := "/api/v1/webhooks/" + provider
		a := fan.Send(post, path, "application/json", strings.NewReader(body), pspsim.SignatureHeader, signature)
		fan.Hold(post, path, a)
		return a
	}
	now := f.Clock.Now()
	want(t, send("simulator", `{}`, ""), 400, "bad-signature")
	want(t, send("simulator", `{}`, pspsim.Sign("another secret", now, []byte(`{}`))), 400, "bad-signature")
	want(t, send("simulator", `{}`, pspsim.Sign(office.HookSecret, now.Add(-time.Hour), []byte(`{}`))), 400, "bad-signature")
	want(t, send("simulator", `{}`, pspsim.Sign(office.HookSecret, now, []byte(`{} `))), 400, "bad-signature")
	want(t, send("nobody", `{}`, ""), 404, "not-found")
	want(t, send("simulator", strings.Repeat("x", 300<<10), ""), 413, "too-large")

	// The provider's own: a payment nobody comes back from is learned of all the same.
	o := fan.MustCheckOut(fan.MustOrder(fan.MustHold(office.Gala, "stalls-A-4").ID).ID)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.Orders.Run(ctx) })
	defer wg.Wait()
	defer stop()
	fan.PayAtProvider(o.NextAction, office.Pays)
	deadline := time.Now().Add(20 * time.Second)
	for fan.GetOrder(o.ID).State != "PAID" {
		if time.Now().After(deadline) {
			t.Fatalf("nobody told the shop: %s", f.Log)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestProviderThatLosesAnswers(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	o := fan.MustOrder(fan.MustHold(office.Gala, "stalls-A-4").ID)
	must(t, f.Sim.SetFaults(pspsim.Faults{LoseAnswer: 1}))
	a := fan.Do(post, "/api/v1/orders/"+o.ID+"/checkout", object{})
	want(t, a, 202, "") // unknown is not an error
	if a.Field("state") != "PAYING" || a.Field("next_action") != "" {
		t.Errorf("checked out %s", a.Body)
	}
	must(t, f.Sim.SetFaults(pspsim.Faults{}))
	f.Settle(20 * time.Second)
	o = fan.GetOrder(o.ID)
	if o.NextAction == "" {
		t.Fatalf("the payment was never found: %+v", o)
	}
	fan.PayAtProvider(o.NextAction, office.Pays)
	fan.Read(o.Link)
	if o = fan.GetOrder(o.ID); o.State != "PAID" {
		t.Errorf("the order is %s", o.State)
	}
}

func TestASlowStockIsUnknownAndNotAnError(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	h := fan.MustHold(office.Gala, "stalls-A-4")
	// Behind the API's back the row says that nobody knows: as after a crash between the two stores.
	must(t, f.Store.Tx(t.Context(), func(tx order.Tx) error {
		cur, err := tx.LockHold(t.Context(), uuid.MustParse(h.ID))
		if err != nil {
			return err
		}
		cur.State = order.HoldPlacing
		return tx.UpdateHold(t.Context(), cur)
	}))
	a := fan.Do(get, "/api/v1/holds/"+h.ID, nil)
	want(t, a, 200, "")
	if a.Field("state") != "held" {
		t.Errorf("asking again did not settle it: %s", a.Body)
	}
}

func TestGuestTokens(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	a := fan.Do(post, holdsOfGala, object{"seats": []string{"stalls-A-4"}})
	want(t, a, 201, "")
	cookie := a.Header.Get("Set-Cookie")
	for _, part := range []string{buyer.Cookie + "=" + a.Header.Get("Stanchion-Guest"), "HttpOnly", "SameSite=Lax", "Path=/"} {
		if !strings.Contains(cookie, part) {
			t.Errorf("the cookie %q lacks %s", cookie, part)
		}
	}
	if strings.Contains(cookie, "Secure") {
		t.Error("without TLS a Secure cookie is lost")
	}
	// With TLS at the edge.
	a = f.Fan("s2").Do(post, holdsOfGala, object{"seats": []string{"stalls-A-5"}}, "X-Forwarded-Proto", "https")
	if c := a.Header.Get("Set-Cookie"); !strings.HasPrefix(c, "__Host-"+buyer.Cookie+"=") || !strings.Contains(c, "Secure") {
		t.Errorf("with TLS the cookie is %q", c)
	}
	// The cookie alone is enough, and no second token is handed out.
	a = fan.Do(get, "/api/v1/holds/"+holdOf(t, f, fan), nil)
	want(t, a, 200, "")
	if a.Header.Get("Stanchion-Guest") != "" || a.Header.Get("Set-Cookie") != "" {
		t.Error("a known guest is given another name")
	}
}

// holdOf makes a hold by cookie and returns its id.
func holdOf(t *testing.T, f *office.Office, fan *office.Fan) string {
	t.Helper()
	if fan.Guest != "" {
		t.Fatal("the fan has a bearer token")
	}
	a := fan.Do(post, holdsOfGala, object{"seats": []string{"stalls-B-4"}})
	want(t, a, 201, "")
	return a.Field("id")
}

func TestDescription(t *testing.T) {
	f := office.Open(t, office.Options{})
	a := f.Fan("s1").Do(get, "/api/openapi.json", nil)
	want(t, a, 200, "")
	if !json.Valid(a.Body) || !strings.HasPrefix(a.Field("openapi"), "3.1") {
		t.Errorf("the description is OpenAPI %q", a.Field("openapi"))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
