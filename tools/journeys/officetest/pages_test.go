package officetest_test

import (
	"bytes"
	"image/png"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/makiuchi-d/gozxing"
	zxing "github.com/makiuchi-d/gozxing/qrcode"

	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/payment/pspsim"
	"github.com/stanchion-queue/stanchion/inventory/chart"
	"github.com/stanchion-queue/stanchion/tools/halls/halls"
	office "github.com/stanchion-queue/stanchion/tools/journeys/officetest"
)

func TestHomePage(t *testing.T) {
	f := office.Open(t, office.Options{})
	f.Fan("s1").See("/").Is(200).Says("What is on", "Gala at the theatre", "Stadttheater, Köln", "One evening, one orchestra.", "from €49.25", "from €0.00")
}

func TestSeatPageWithoutAPassCanBeLookedAt(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	fan.Pass = ""
	p := fan.See("/performances/gala").Is(200).Says("Best seats together", "Stalls 30 free", "Arena 30 free", "Front · €89.25", "Choose up to 4 seats").SaysNot("You are in")
	// Whoever tries to buy is told why it does not go on, and where it does.
	p = fan.Follow(p.Form("Take the best")).Is(401).Says("Your time in the shop is over")
	if p.Link("Choose seats for") != "/performances/gala" {
		t.Error("no way back to the line")
	}
}

func TestSeatPage(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	p := fan.See("/performances/gala").Is(200).Says("You are in. Your time to choose and pay runs until")
	if there, _, _ := p.Box("stalls-A-1"); there {
		t.Error("all rows of the house are listed at once")
	}
	p = fan.See(p.Link("Stalls")).Is(200).Says("Row A Front €89.25 · 10 free", "Row C Rear €69.25")
	if there, free, chosen := p.Box("stalls-A-5"); !there || !free || chosen {
		t.Error("a free seat cannot be chosen")
	}
	fan.See(strings.Replace(p.Path(), "stalls", "arena", 1)).Is(200).Says("Standing · €49.25 · 30 free. These places are not numbered")
	fan.See("/performances/gala?section=none").Is(200).Says("Stalls 30 free")
	fan.See("/performances/none").Is(404).Says("There is nothing here", "See what is on")

	f.Fan("s2").MustHold(office.Gala, "stalls-A-5")
	f.Clock.Advance(2 * time.Second)
	p = fan.See("/performances/gala?section=stalls").Says("Stalls 29 free")
	if there, free, _ := p.Box("stalls-A-5"); !there || free {
		t.Error("a taken seat can be chosen")
	}

	must(t, f.Stock.PauseSale(t.Context(), office.ID(office.Gala)))
	f.Clock.Advance(2 * time.Second)
	p = fan.See("/performances/gala").Is(200).Says("The sale is paused. You can look around, but not buy at the moment.")
	fan.Follow(p.Form("Take the best")).Is(409).Says("The sale is not open")
}

// A large house is a picture of its parts and folded lists; one part's seats come when it is chosen.
func TestSeatPageOfAStadium(t *testing.T) {
	hall := halls.Stadium()
	all := hall.Sections
	hall.Sections = nil
	for i := range all { // a tenth of it
		if i%10 == 0 {
			hall.Sections = append(hall.Sections, all[i])
		}
	}
	f := office.Open(t, office.Options{Hall: hall, Block: chart.DefaultBlockSeats})
	fan := f.Fan("s1")
	p := fan.See("/performances/matinee").Is(200).Says("Lower tier · €0.00 2,000 free", "Block 111 500 free", "Upper tier · €49.25 2,000 free", "Pitch")
	if there, _, _ := p.Box("111-1-1"); there || len(p.Body) > 24<<10 {
		t.Errorf("the page has %d bytes", len(p.Body))
	}
	p = fan.See(p.Link("Block 111")).Is(200).Says("Block 111 Row 1 Lower tier €0.00 · 25 free")
	if there, free, _ := p.Box("111-20-25"); !there || !free {
		t.Error("the part's last seat is not listed")
	}
}

// choose presses seats of the list.
func choose(t *testing.T, fan *office.Fan, seats ...string) *office.Page {
	t.Helper()
	p := fan.See("/performances/gala?section=stalls").Is(200)
	for _, s := range seats {
		if there, free, _ := p.Box(s); !there || !free {
			t.Fatalf("%s cannot be chosen", s)
		}
	}
	return fan.Follow(p.Form("").With("seat", seats...))
}

func TestFromSeatsToTickets(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	p := choose(t, fan, "stalls-A-5", "stalls-A-6").Is(200).Says("Check and pay", "Stalls, row A, seat 5", "includes a fee of €4.25", "Total €178.50", "Your seats are kept until", "2 Check")
	p = fan.Follow(p.Form("Pay €178.50")).Is(303)
	at := p.Header.Get("Location")
	if !strings.HasPrefix(at, f.SimURL+"/pay/") {
		t.Fatalf("to pay one is sent to %s", at)
	}
	if csp := fan.See("/").Header.Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' "+f.SimURL) {
		t.Errorf("a browser would not follow the form to the provider: %s", csp)
	}
	back := fan.PayAtProvider(at, office.Pays)
	p = fan.See(strings.TrimPrefix(back, f.URL)).Is(200).Says("Your tickets", "Stalls, row A, seat 6", "Paid €178.50", "4 Tickets")
	if p.Header.Get("Refresh") != "" {
		t.Error("a page that is done reloads itself")
	}
	tickets := fan.Tickets(orderID(back))
	page, query, _ := strings.Cut(tickets[0].Link, "?")
	if got := p.Link("Open this ticket"); got != tickets[0].Link {
		t.Errorf("the ticket's link is %s", got)
	}
	fan.See(tickets[0].Link).Is(200).Says("Gala at the theatre", "Stalls, row A, seat 5", "Stadttheater, Köln", "€89.25", "lets one person in, once")

	a := fan.Read(page + ".png?" + query)
	if a.Status != 200 || a.Header.Get("Content-Type") != "image/png" || !strings.HasPrefix(a.Header.Get("Cache-Control"), "private") {
		t.Errorf("the picture: %d %v", a.Status, a.Header)
	}
	if code := decode(t, a.Body); code != tickets[0].Code {
		t.Errorf("the picture says %s", code)
	}
	a = fan.Read(page + ".svg?" + query)
	if a.Header.Get("Content-Type") != "image/svg+xml" || !bytes.Contains(a.Body, []byte("<svg")) {
		t.Errorf("the drawing: %d %v", a.Status, a.Header)
	}
	for _, path := range []string{page + ".pdf?" + query, p.Link("All tickets as PDF")} {
		a = fan.Read(path)
		if a.Header.Get("Content-Type") != "application/pdf" || !bytes.HasPrefix(a.Body, []byte("%PDF-")) || !strings.Contains(a.Header.Get("Content-Disposition"), "inline") {
			t.Errorf("the paper: %d %v", a.Status, a.Header)
		}
	}
	// Printed on paper that is asked for before there is any.
	o := f.Fan("s2")
	draft := o.MustOrder(o.MustHold(office.Gala, "stalls-C-1").ID)
	o.See(strings.Replace(draft.Link, "?", "/tickets.pdf?", 1)).Is(409).Says("There are no tickets yet")
	if strings.Contains(f.Log.String(), "level=ERROR") {
		t.Error(f.Log)
	}
}

// orderID takes the id out of an order's link.
func orderID(link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(u.Path, "/orders/")
}

// decode reads a QR code as a scanner does.
func decode(t *testing.T, picture []byte) string {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(picture))
	must(t, err)
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	must(t, err)
	result, err := zxing.NewQRCodeReader().Decode(bitmap, nil)
	must(t, err)
	return result.GetText()
}

func TestTheBestSeats(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	p := fan.See("/performances/gala").Is(200)
	best := p.Form("Take the best")
	if best.Values.Get("qty") != "2" || best.Values.Get("offer") != "" {
		t.Errorf("asked for by itself: %v", best.Values)
	}
	fan.Follow(best.With("qty", "3").With("offer", "Rear")).Is(200).Says("Check and pay", "Stalls, row C", "Total €207.75")

	// A refusal keeps what was asked for.
	p = fan.Follow(fan.See("/performances/gala").Form("Take the best").With("qty", "4").With("offer", "Standing").With("accessible", "1")).Is(409).
		Says("There are no free seats that fit")
	again := p.Form("Take the best")
	if again.Values.Get("qty") != "4" || again.Values.Get("offer") != "Standing" || again.Values.Get("accessible") != "1" {
		t.Errorf("the form forgot %v", again.Values)
	}
	for _, qty := range []string{"0", "-1", "21", "", "many"} {
		fan.Follow(p.Form("Take the best").Anew().With("qty", qty)).Is(422).Says("No seats were chosen")
	}
	fan.Follow(p.Form("Take the best").Anew().With("offer", "Royal box")).Is(422)
}

func TestTakenSeatsKeepTheRestChosen(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	p := fan.See("/performances/gala?section=stalls")
	f.Fan("s2").MustHold(office.Gala, "stalls-A-6")
	p = fan.Follow(p.Form("").With("seat", "stalls-A-5", "stalls-A-6", "stalls-B-1")).Is(409).
		Says("Somebody else was faster", "Taken meanwhile: Stalls, row A, seat 6")
	for seat, want := range map[string]bool{"stalls-A-5": true, "stalls-A-6": false, "stalls-B-1": true, "stalls-A-7": false} {
		if there, _, chosen := p.Box(seat); !there || chosen != want {
			t.Errorf("%s is chosen: %v, want %v", seat, chosen, want)
		}
	}
	// They can be kept with one more press, and no half of them was taken before.
	fan.Follow(p.Form("")).Is(200).Says("Check and pay", "Stalls, row A, seat 5", "Stalls, row B, seat 1")

	// The map's form names no section: the list opens where the seats are, and those elsewhere are named under it.
	g := f.Fan("s3")
	p = g.See("/performances/gala")
	p = g.Follow(p.Form("").With("seat", "stalls-C-5", "arena-Standing-3", "stalls-A-6")).Is(409).Says("Stalls, row A, seat 6", "Arena, Standing · €49.25")
	if _, _, chosen := p.Box("stalls-C-5"); !chosen {
		t.Error("a seat chosen on the map was forgotten")
	}
	if there, _, chosen := p.Box("arena-Standing-3"); !there || !chosen {
		t.Error("a place elsewhere was forgotten")
	}
}

func TestSeatRefusals(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	p := fan.See("/performances/gala?section=stalls")
	five := []string{"stalls-A-3", "stalls-A-4", "stalls-A-5", "stalls-A-6", "stalls-A-7"}
	fan.Follow(p.Form("")).Is(422).Says("No seats were chosen")
	fan.Follow(p.Form("").Anew().With("seat", five...)).Is(409).Says("That is more seats than your pass allows", "It allows 4 in all; 0 are held or bought already, and 5 more were asked for.")
	fan.Follow(p.Form("").Anew().With("seat", "stalls-A-3", "stalls-A-3")).Is(422)
	fan.Follow(p.Form("").Anew().With("seat", "nothing")).Is(422).Says("Some of these seats do not exist")
	fan.Follow(p.Form("").Anew().With("seat", strings.Split(strings.Repeat("stalls-A-3 ", 21), " ")[:21]...)).Is(422).Says("Too many seats at once")
	fan.Follow(p.Form("").With("key", "")).Is(400).Says("The form is incomplete")

	// Seats of four rows are four holds, of five are too many: nothing is left behind.
	free := func() string { f.Clock.Advance(2 * time.Second); return fan.See("/performances/gala").Text() }
	fan.Follow(p.Form("").Anew().With("seat", "stalls-A-3", "stalls-B-3", "stalls-C-3", "arena-Standing-1")).Is(200).Says("Check and pay")
	if !strings.Contains(free(), "Stalls 27 free") {
		t.Error("not all four were taken")
	}
	other := f.Fan("s2")
	p = other.See("/performances/gala?section=stalls")
	other.Follow(p.Form("").Anew().With("seat", "stalls-A-4", "stalls-B-4", "stalls-C-3", "stalls-C-4")).Is(409).Says("Stalls, row C, seat 3")
	if !strings.Contains(free(), "Stalls 27 free") {
		t.Error("half of a refused wish was kept")
	}
	many := f.Fan("s4")
	many.Pass = f.Pass("s4", office.Room, 20)
	p = many.See("/performances/gala")
	many.Follow(p.Form("").Anew().With("seat", "stalls-A-9", "stalls-B-9", "stalls-C-9", "arena-Standing-1", "arena-Standing-11", "arena-Standing-21")).Is(422).Says("These seats are too far apart")
}

func TestFormsSentTwice(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	form := fan.See("/performances/gala?section=stalls").Form("").With("seat", "stalls-A-5")
	first := fan.Press(form.Action, form.Values)
	second := fan.Press(form.Action, form.Values)
	if first.Status != 303 || second.Status != 303 || first.Header.Get("Location") != second.Header.Get("Location") {
		t.Fatalf("held twice: %d %s, %d %s", first.Status, first.Header.Get("Location"), second.Status, second.Header.Get("Location"))
	}
	// The same form with other seats is another wish, which its key cannot be used for.
	fan.Follow(form.With("seat", "stalls-A-6")).Is(422).Says("This page was used already")

	check := fan.See(first.Header.Get("Location"))
	pay := check.Form("Pay")
	var wg sync.WaitGroup
	var mu sync.Mutex
	to := map[string]int{}
	for range 4 { // a nervous finger
		wg.Go(func() {
			a := fan.Press(pay.Action, pay.Values)
			mu.Lock()
			defer mu.Unlock()
			if a.Status == http.StatusSeeOther {
				to[a.Header.Get("Location")]++
			} else if !strings.Contains(string(a.Body), "We are working on it") && a.Status != http.StatusConflict {
				t.Errorf("pressed at once: %d %s", a.Status, a.Body)
			}
		})
	}
	wg.Wait()
	// The first press goes on to the provider; the others to the order, which goes on to the same page.
	var at string
	for address := range to {
		if strings.HasPrefix(address, "/orders/") {
			address = fan.Go(address).Link("Go to the payment page")
		}
		if at != "" && at != address {
			t.Fatalf("one press led to %v", to)
		}
		at = address
	}
	fan.PayAtProvider(at, office.Pays)
	o := settled(t, f)
	if len(o) != 1 || o[0].Total != 8925 {
		t.Errorf("orders %+v", o)
	}
	// The same form after it was paid gets its first answer, and the provider's page leads back.
	if a := fan.Press(pay.Action, pay.Values); a.Header.Get("Location") != at || !strings.Contains(string(fan.Read(at).Body), "went through") {
		t.Errorf("pressed after all was paid: %d %s", a.Status, a.Header.Get("Location"))
	}
}

func TestBackDuringPayment(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	check := choose(t, fan, "stalls-A-5")
	pay := fan.Follow(check.Form("Pay"))
	at := pay.Header.Get("Location")

	// Back from the provider's page to the check: the order has the seats already.
	p := fan.Go(check.Path()).Is(200).Says("Your order", "Stalls, row A, seat 5", "Your seats are kept until")
	if p.Link("Go to the payment page") != at {
		t.Error("the way to the open payment is lost")
	}
	// Further back to the seats: they are still the fan's, and the page says where.
	p = fan.See("/performances/gala").Says("You are keeping seats already", "Stalls, row A, seat 5")
	if to := p.Link("Go on to pay"); !strings.HasPrefix(to, "/orders/") {
		t.Errorf("that leads to %s", to)
	}
	// Paying in the first tab still works, and both tabs then show tickets.
	back := fan.PayAtProvider(at, office.Pays)
	fan.Go(strings.TrimPrefix(back, f.URL)).Says("Your tickets")
	fan.Go(check.Path()).Says("Your tickets")
	fan.See("/performances/gala").SaysNot("You are keeping seats already")
	choose(t, fan, "stalls-A-7").Is(403).Says("You have your tickets", "take a new place")
}

func TestHeldSeatsAreRememberedAndLetGo(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	check := choose(t, fan, "stalls-A-5", "stalls-B-5")
	p := fan.See("/performances/gala").Says("You are keeping seats already", "Stalls, row A, seat 5", "Stalls, row B, seat 5")
	fan.Follow(p.Form("Go on to pay")).Is(200).Says("Check and pay", "Total €178.50")
	// Another performance is not told of them.
	fan.See("/performances/matinee").SaysNot("You are keeping seats already")
	fan.Follow(p.Form("Let them go")).Is(200).SaysNot("You are keeping seats already")
	fan.Follow(check.Form("Choose other seats")).Is(200) // again, from an old tab
	fan.Go(check.Path()).Is(410).Says("Your seats are back on sale", "You were not charged")
	f.Fan("s2").MustHold(office.Gala, "stalls-A-5")

	// A cookie of somebody else's holds shows nothing.
	thief := f.Fan("s9")
	mine := choose(t, fan, "stalls-C-5")
	thief.See("/performances/gala")
	thief.Client.Jar.SetCookies(nil, fan.Client.Jar.Cookies(nil)[:0])
	for _, c := range fan.Client.Jar.Cookies(nil) {
		if c.Name == "shop-held" {
			thief.Client.Jar.SetCookies(nil, []*http.Cookie{c})
		}
	}
	thief.See("/performances/gala").SaysNot("You are keeping seats already")
	thief.Go(mine.Path()).Is(404)
	thief.Follow(mine.Form("Choose other seats")).Is(404)
	thief.Follow(mine.Form("Pay")).Is(404)
}

func TestMoreTime(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	check := choose(t, fan, "stalls-A-5")
	f.Clock.Advance(6 * time.Minute)
	check = fan.Follow(check.Form("I need more time")).Is(200).Says("Check and pay")
	f.Clock.Advance(6 * time.Minute) // later than the first promise
	check = fan.Follow(check.Form("I need more time")).Is(200)
	f.Clock.Advance(7*time.Minute + 59*time.Second)
	fan.Follow(check.Form("I need more time")).Is(409).Says("There is no more time to add", "Pay now")
}

func TestExpiredHold(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	check := choose(t, fan, "stalls-A-5")
	f.Clock.Advance(office.HoldLease + time.Second)
	for _, press := range []string{"Pay", "I need more time"} {
		p := fan.Follow(check.Form(press)).Is(410).Says("Your seats are back on sale", "You were not charged")
		if p.Link("Choose seats for Gala at the theatre") != "/performances/gala" {
			t.Error("no way to other seats")
		}
	}
	fan.Go(check.Path()).Is(410)
	fan.Follow(check.Form("Choose other seats")).Is(200).Says("Best seats together")
	for _, path := range []string{"/performances/gala/checkout", "/performances/gala/checkout?hold=x", "/performances/gala/checkout?hold=" + uuid.NewString(),
		"/performances/gala/checkout?" + strings.Repeat("hold="+uuid.NewString()+"&", 9)} {
		fan.See(path).Is(404).Says("There is nothing here")
	}
}

func TestPriceChangedMeanwhile(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	check := choose(t, fan, "stalls-A-5")
	f.Change(office.Gala, func(p *catalog.Performance) { p.Offers[0].Price += 100 })
	f.Clock.Advance(2 * time.Second)
	p := fan.Follow(check.Form("Pay €89.25")).Is(409).Says("The price has changed", "Total €90.25")
	fan.Follow(p.Form("Pay €90.25")).Is(303)
}

func TestDeclinedCard(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	pay := fan.Follow(choose(t, fan, "stalls-A-5").Form("Pay"))
	back := fan.PayAtProvider(pay.Header.Get("Location"), office.Stolen)
	p := fan.Go(strings.TrimPrefix(back, f.URL)).Is(200).Says("Your payment did not go through. The bank has blocked the card. Nothing was charged.", "Your seats are kept until")
	again := fan.Follow(p.Form("Try again to pay")).Is(303)
	if next := again.Header.Get("Location"); next == pay.Header.Get("Location") || !strings.HasPrefix(next, f.SimURL) {
		t.Errorf("the second attempt is at %s", next)
	}
	back = fan.PayAtProvider(again.Header.Get("Location"), office.Pays)
	fan.Go(strings.TrimPrefix(back, f.URL)).Says("Your tickets")
}

func TestCancelledOrder(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	pay := fan.Follow(choose(t, fan, "stalls-A-5").Form("Pay"))
	at := pay.Header.Get("Location")
	p := fan.Go("/performances/gala")
	order := fan.Go(p.Link("Go on to pay")).Is(200)
	stop := order.Form("Cancel this order")
	fan.Follow(stop).Is(200)
	f.Settle(time.Minute)
	p = fan.Follow(stop).Is(200).Says("Your order was cancelled", "You cancelled it. You were not charged, and the seats are back on sale.").SaysNot("Pay €")
	if p.Link("Choose seats again") != "/performances/gala" {
		t.Error("no way to other seats")
	}
	// The provider's page says the same, and a paid order cannot be cancelled any more.
	if a := fan.Read(at); !strings.Contains(string(a.Body), "Nothing was charged") {
		t.Errorf("the provider's page: %s", a.Body)
	}
	other := f.Fan("s2")
	o := other.Buy(office.Gala, "stalls-A-5")
	other.Follow(office.Form{Action: "/orders/" + o.ID + "/cancel", Method: "post", Values: stop.With("k", o.Link[strings.Index(o.Link, "k=")+2:]).Values}).Is(200).Says("Your tickets")
}

func TestOrderThatRanOut(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	fan.Follow(choose(t, fan, "stalls-A-5").Form("Pay"))
	order := fan.See("/performances/gala").Link("Go on to pay")
	f.Settle(office.Pin + time.Minute)
	fan.Go(order).Is(200).Says("Your time to pay ran out", "You were not charged, and the seats are back on sale.")
}

func TestBankThatKeepsTheMoney(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	pay := fan.Follow(choose(t, fan, "stalls-A-5").Form("Pay"))
	back := strings.TrimPrefix(fan.PayAtProvider(pay.Header.Get("Location"), office.RefusesCapture), f.URL)
	fan.Go(back)
	f.Settle(time.Minute)
	fan.Go(back).Is(200).Says("Your order was cancelled", "The bank would not give the money. You were not charged")
}

// While nobody knows, the page says so, goes on by itself, and loses nothing.
func TestUnknownOutcomesWait(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	check := choose(t, fan, "stalls-A-5")
	must(t, f.Sim.SetFaults(pspsim.Faults{LoseAnswer: 1}))
	p := fan.Follow(check.Form("Pay")).Is(200).Says("This takes a moment. The page goes on by itself.")
	if p.Header.Get("Refresh") != "2" {
		t.Errorf("it goes on after %q", p.Header.Get("Refresh"))
	}
	must(t, f.Sim.SetFaults(pspsim.Faults{}))
	f.Settle(30 * time.Second)
	p = fan.Go(p.Path()).Is(200)
	back := fan.PayAtProvider(p.Link("Go to the payment page"), office.Pays)
	fan.Go(strings.TrimPrefix(back, f.URL)).Says("Your tickets")
}

func TestRefundedUnitsSaySo(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	o := fan.Buy(office.Gala, "stalls-A-5", "stalls-A-6")
	tickets := fan.Tickets(o.ID)
	want(t, fan.Do(post, "/api/v1/orders/"+o.ID+"/refunds", object{"units": []int{1}}), 202, "")
	f.Settle(time.Hour)
	p := fan.See(o.Link).Is(200).Says("Your tickets", "No longer valid. The money was sent back.")
	if n := strings.Count(p.Text(), "Open this ticket"); n != 1 {
		t.Errorf("%d tickets can be opened", n)
	}
	fan.See(tickets[0].Link).Is(410).Says("This ticket is no longer valid")
	want(t, fan.Do(post, "/api/v1/orders/"+o.ID+"/refunds", object{"units": []int{2}}), 202, "")
	f.Settle(time.Hour)
	fan.See(o.Link).Is(200).Says("Your refund")
}

func TestLinks(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	o := fan.Buy(office.Gala, "stalls-A-5")
	ticket := fan.Tickets(o.ID)[0]
	// Whoever has the link needs neither pass nor cookie.
	friend := f.Fan("s9")
	friend.Pass = ""
	friend.See(o.Link).Is(200).Says("Your tickets")
	friend.See(ticket.Link).Is(200).Says("Stalls, row A, seat 5")
	// The owner needs no link.
	fan.Guest = ""
	order, key, _ := strings.Cut(o.Link, "?")
	page, ticketKey, _ := strings.Cut(ticket.Link, "?")
	for _, path := range []string{order, order + "?k=", order + "?k=wrong", order + "?" + ticketKey, "/orders/" + uuid.NewString() + "?" + key, "/orders/x?" + key,
		page, page + "?k=wrong", page + "?" + key, page + ".png", page + ".pdf?k=wrong", page + ".gif?" + ticketKey, "/tickets/x?" + ticketKey,
		order + "/tickets.pdf", "/nowhere", "/performances/gala/nowhere"} {
		friend.See(path).Is(404).Says("There is nothing here")
	}
	friend.Follow(office.Form{Action: order + "/cancel", Method: "post", Values: url.Values{"k": {"wrong"}}}).Is(404)
	friend.Follow(office.Form{Action: order + "/pay", Method: "post", Values: url.Values{"k": {"wrong"}, "key": {uuid.NewString()}}}).Is(404)
	friend.Follow(office.Form{Action: order + "/pay", Method: "post", Values: url.Values{"k": {key[2:]}, "key": {"x"}}}).Is(400)
}

func TestCookiesBlocked(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	fan.Client.Jar = nil
	p := fan.See("/performances/gala?section=stalls").Is(200)
	fan.Follow(p.Form("").With("seat", "stalls-A-5")).Is(400).Says("Your browser did not send our cookie", "Allow cookies for this site")
	fan.Follow(p.Form("Take the best")).Is(400).Says("Your browser did not send our cookie")
	f.Clock.Advance(2 * time.Second)
	fan.See("/performances/gala").Says("Stalls 30 free")
}

func TestFormsOfOtherSites(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	form := fan.See("/performances/gala?section=stalls").Form("").With("seat", "stalls-A-5")
	for _, site := range []string{"cross-site", "same-site"} {
		if a := fan.Press(form.Action, form.Values, "Sec-Fetch-Site", site); a.Status != 403 || strings.Contains(string(a.Body), "Check and pay") {
			t.Errorf("a form of another site: %d", a.Status)
		}
	}
	a := fan.Send(post, form.Action, "application/x-www-form-urlencoded", strings.NewReader("seat="+strings.Repeat("x", 40<<10)))
	if a.Status != 400 {
		t.Errorf("a form of 40 KiB: %d", a.Status)
	}
	a = fan.Send(post, form.Action, "application/x-www-form-urlencoded", strings.NewReader("%zz"))
	if a.Status != 400 {
		t.Errorf("a form that is none: %d", a.Status)
	}
}

// Whatever an organiser types stays text, on every page and in every header.
func TestScriptInTitles(t *testing.T) {
	const evil = `<script>alert(1)</script>"><img src=x onerror=alert(2)>'`
	hall := office.Hall()
	hall.Sections[0].Name = evil
	hall.Sections[0].Rows[0].Label = `"><u>A`
	hall.Categories[0].Name = `Front"><tt>`
	hall.Landmarks[0].Label = evil
	f := office.Open(t, office.Options{Title: evil, Hall: hall})
	fan := f.Fan("s1")
	pages := []*office.Page{fan.See("/"), fan.See("/performances/gala"), fan.See("/performances/gala?section=stalls")}
	pages = append(pages, fan.See("/performances/gala?section="+url.QueryEscape(evil)))
	check := choose(t, fan, "stalls-A-5").Is(200)
	pay := fan.Follow(check.Form("Pay"))
	order := fan.Go(fan.See("/performances/gala").Link("Go on to pay"))
	back := strings.TrimPrefix(fan.PayAtProvider(pay.Header.Get("Location"), office.Pays), f.URL)
	tickets := fan.Go(back).Is(200)
	ticket := fan.See(tickets.Link("Open this ticket"))
	pages = append(pages, check, order, tickets, ticket)
	for _, p := range pages {
		if b := string(p.Body); strings.Contains(b, "<script>alert") || strings.Contains(b, "<img src=x") || strings.Contains(b, "<u>") || strings.Contains(b, "<tt>") {
			t.Errorf("%s lets markup through", p.Path())
		}
	}
	pages[0].Says(evil)
	ticket.Says(evil)
	a := fan.Read(tickets.Link("All tickets as PDF"))
	if !bytes.HasPrefix(a.Body, []byte("%PDF-")) {
		t.Errorf("the paper: %d", a.Status)
	}
}

func TestPagesSpeakTheReadersMoney(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	fan.Header.Set("Accept-Language", "de-DE,de;q=0.9,en;q=0.5")
	p := fan.See("/performances/gala").Says("89,25 €")
	if !strings.Contains(string(p.Body), `data-locale="de-DE"`) {
		t.Error("the script is not told which locale the server wrote in")
	}
	fan.Follow(p.Form("Take the best")).Says("178,50 €")
}

func TestAFreeOrderGoesStraightToTickets(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	fan.Pass = ""
	p := fan.See("/performances/matinee")
	p = fan.Follow(p.Form("Take the best").With("offer", "Front")).Is(200).Says("Total €0.00").SaysNot("payment provider")
	fan.Follow(p.Form("Get the tickets")).Is(200).Says("Your tickets")
}

// Nothing of the shop may lie in a cache or be framed, and HEAD is as good as GET.
func TestHeaders(t *testing.T) {
	f := office.Open(t, office.Options{})
	fan := f.Fan("s1")
	a := fan.Send(http.MethodHead, "/performances/gala", "", nil)
	if a.Status != 200 || len(a.Body) != 0 {
		t.Errorf("HEAD: %d, %d bytes", a.Status, len(a.Body))
	}
	p := fan.See("/performances/gala")
	for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(p.Header.Get("Content-Security-Policy"), part) {
			t.Errorf("the policy lacks %s", part)
		}
	}
	if a := fan.Send(http.MethodPut, "/performances/gala", "", nil); a.Status != 404 && a.Status != 405 {
		t.Errorf("PUT: %d", a.Status)
	}
	// Everything a page names can be fetched.
	for _, path := range assets(string(p.Body)) {
		if a := fan.Read(path); a.Status != 200 || !strings.Contains(a.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d", path, a.Status)
		}
	}
}

func assets(body string) (out []string) {
	for _, part := range strings.Split(body, `"/static/`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		name, _, _ = strings.Cut(name, "#")
		out = append(out, "/static/"+name)
	}
	return out
}

// settled lets time pass and lists the orders there are.
func settled(t *testing.T, f *office.Office) (out []struct {
	State string
	Total int64
}) {
	t.Helper()
	f.Settle(time.Hour)
	rows, err := f.Store.Read().QueryContext(t.Context(), "SELECT state, total FROM orders")
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var o struct {
			State string
			Total int64
		}
		must(t, rows.Scan(&o.State, &o.Total))
		out = append(out, o)
	}
	must(t, rows.Err())
	return out
}
