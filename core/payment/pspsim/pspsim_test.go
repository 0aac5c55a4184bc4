package pspsim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// stage is a simulator over HTTP, a clock, and a shop that takes webhooks.
type stage struct {
	t      *testing.T
	s      *Server
	web    *httptest.Server
	path   string
	mu     sync.Mutex
	at     time.Time
	refuse int         // webhooks to refuse
	hooks  chan string // event id and type of those taken
}

func (g *stage) now() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.at
}

func (g *stage) advance(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at = g.at.Add(d)
}

func (g *stage) takeHook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var at int64
	if _, serr := fmt.Sscanf(r.Header.Get(SignatureHeader), "t=%d,", &at); err != nil || serr != nil || r.Header.Get(SignatureHeader) != Sign("whsec", time.Unix(at, 0), body) {
		g.t.Errorf("a webhook with signature %q, %v", r.Header.Get(SignatureHeader), err)
	}
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		g.t.Error(err)
	}
	g.mu.Lock()
	no := g.refuse > 0
	if no {
		g.refuse--
	}
	g.mu.Unlock()
	if no {
		w.WriteHeader(http.StatusBadGateway)
	}
	g.hooks <- e.ID + " " + e.Type
}

func newStage(t *testing.T, hooks bool) *stage {
	t.Helper()
	g := &stage{t: t, at: time.Now(), path: filepath.Join(t.TempDir(), "psp.db"), hooks: make(chan string, 100)}
	g.web = httptest.NewUnstartedServer(nil)
	shop := httptest.NewServer(http.HandlerFunc(g.takeHook))
	t.Cleanup(shop.Close)
	o := Options{Path: g.path, PublicURL: "http://" + g.web.Listener.Addr().String(), SecretKey: "sk", Now: g.now, Seed: 1}
	if hooks {
		o.WebhookURL, o.WebhookSecret = shop.URL, "whsec"
	}
	var err error
	if g.s, err = New(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	g.web.Config.Handler = g.s.Handler()
	g.web.Start()
	t.Cleanup(func() {
		g.web.Close()
		if err := g.s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return g
}

// call makes an API call.
func (g *stage) call(method, path, key string, body any) (int, map[string]any) {
	g.t.Helper()
	var b io.Reader
	if body != nil {
		j, err := json.Marshal(body)
		if err != nil {
			g.t.Fatal(err)
		}
		b = bytes.NewReader(j)
	}
	return g.send(method, path, key, "Bearer sk", b)
}

func (g *stage) send(method, path, key, auth string, body io.Reader) (int, map[string]any) {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), method, g.web.URL+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Authorization", auth)
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var v map[string]any
	if err := json.NewDecoder(res.Body).Decode(&v); err != nil {
		g.t.Fatalf("%s %s: %d: %v", method, path, res.StatusCode, err)
	}
	return res.StatusCode, v
}

func (g *stage) intent() (id, page string) {
	g.t.Helper()
	status, v := g.call("POST", "/v1/payment_intents", newID("k"), map[string]any{"amount": 12350, "currency": "EUR", "capture_method": "manual",
		"description": "Gala <b>&amp; friends", "return_url": "https://shop.test/orders/7?sig=a%2Fb&x=1", "metadata": map[string]string{"payment_id": "p1"}})
	if status != 200 {
		g.t.Fatalf("create: %d %v", status, v)
	}
	return v["id"].(string), v["next_action"].(map[string]any)["url"].(string)
}

// visit loads a page or sends it a form, without following where it leads.
func (g *stage) visit(page string, form url.Values) (*http.Response, string) {
	g.t.Helper()
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := c.Get(page)
	if form != nil {
		if err == nil {
			_ = res.Body.Close()
		}
		res, err = c.PostForm(page, form)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return res, string(body)
}

func errorCode(v map[string]any) string {
	e, _ := v["error"].(map[string]any)
	s, _ := e["code"].(string)
	return s
}

func TestTheAPIRefuses(t *testing.T) {
	g := newStage(t, false)
	good := `{"amount":1,"currency":"EUR","capture_method":"manual","return_url":"http://shop.test/"}`
	for name, tc := range map[string]struct {
		auth, key, body string
		status          int
		code            string
	}{
		"no key":            {"", "k", good, 401, "unauthorised"},
		"a wrong key":       {"Bearer nope", "k", good, 401, "unauthorised"},
		"no idempotency":    {"Bearer sk", "", good, 400, "idempotency_key_needed"},
		"a long key":        {"Bearer sk", strings.Repeat("k", 256), good, 400, "idempotency_key_needed"},
		"no JSON":           {"Bearer sk", "k1", "amount=1", 400, "malformed"},
		"an unknown field":  {"Bearer sk", "k2", strings.Replace(good, "amount", "amuont", 1), 400, "malformed"},
		"a broken number":   {"Bearer sk", "k3", strings.Replace(good, ":1,", ":1.5,", 1), 400, "malformed"},
		"nothing to pay":    {"Bearer sk", "k4", strings.Replace(good, ":1,", ":0,", 1), 400, "amount"},
		"too much to pay":   {"Bearer sk", "k5", strings.Replace(good, ":1,", ":10000000000,", 1), 400, "amount"},
		"no currency":       {"Bearer sk", "k6", strings.Replace(good, "EUR", "eur", 1), 400, "currency"},
		"automatic capture": {"Bearer sk", "k7", strings.Replace(good, "manual", "automatic", 1), 400, "capture_method"},
		"nowhere to return": {"Bearer sk", "k8", strings.Replace(good, "http://shop.test/", "javascript:x", 1), 400, "return_url"},
		"a huge body":       {"Bearer sk", "k9", `{"description":"` + strings.Repeat("x", 70_000) + `"}`, 413, "too_large"},
	} {
		status, v := g.send("POST", "/v1/payment_intents", tc.key, tc.auth, strings.NewReader(tc.body))
		if status != tc.status || errorCode(v) != tc.code {
			t.Errorf("%s: %d %v, want %d %s", name, status, v, tc.status, tc.code)
		}
	}
	if status, v := g.send("PUT", "/v1/faults", "", "Bearer sk", strings.NewReader(`{"lose_answer":2}`)); status != 400 || errorCode(v) != "bad_faults" {
		t.Errorf("an impossible fault: %d %v", status, v)
	}
	if status, v := g.send("PUT", "/v1/faults", "", "Bearer sk", strings.NewReader(`{"double_hook":0.5}`)); status != 200 || g.s.dice.get().DoubleHook != 0.5 {
		t.Errorf("a fault: %d %v", status, v)
	}
}

func TestAnIdempotencyKeyIsOneCall(t *testing.T) {
	g := newStage(t, false)
	body := map[string]any{"amount": 1, "currency": "EUR", "capture_method": "manual", "return_url": "http://shop.test/"}
	var ids [8]string
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			_, v := g.call("POST", "/v1/payment_intents", "same", body)
			ids[i], _ = v["id"].(string)
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("one key made %v", ids)
		}
	}
	body["amount"] = 2
	if status, v := g.call("POST", "/v1/payment_intents", "same", body); status != 409 || errorCode(v) != "key_reused" {
		t.Errorf("the key with another body: %d %v", status, v)
	}
	// A refusal is an answer, too.
	for range 2 {
		if status, v := g.call("POST", "/v1/payment_intents/"+ids[0]+"/capture", "cap", map[string]any{"amount_to_capture": 1}); status != 409 || errorCode(v) != "intent_not_capturable" {
			t.Errorf("capture too early: %d %v", status, v)
		}
	}
}

func TestNothingIsForgotten(t *testing.T) {
	g := newStage(t, false)
	id, page := g.intent()
	if res, _ := g.visit(page, url.Values{"do": {"pay"}, "card": {"4242 4242 4242 4242"}, "expiry": {"12/99"}, "cvc": {"123"}}); res.StatusCode != 303 {
		t.Fatalf("pay: %d", res.StatusCode)
	}
	if err := g.s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := New(t.Context(), Options{Path: g.path, PublicURL: g.web.URL, SecretKey: "sk", Now: g.now})
	if err != nil {
		t.Fatal(err)
	}
	g.s, g.web.Config.Handler = again, again.Handler()
	if status, v := g.call("GET", "/v1/payment_intents/"+id, "", nil); status != 200 || v["status"] != "requires_capture" {
		t.Errorf("after a restart: %d %v", status, v)
	}
}

func TestWebhooksComeAgain(t *testing.T) {
	g := newStage(t, true)
	g.refuse = 2
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.s.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	_, page := g.intent()
	g.visit(page, url.Values{"do": {"pay"}, "card": {"4242424242424242"}, "expiry": {"12/99"}, "cvc": {"123"}})
	var seen []string
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(seen) < 3 {
		select {
		case h := <-g.hooks:
			seen = append(seen, h)
		case <-tick.C:
			g.advance(time.Second)
		case <-deadline:
			t.Fatalf("webhooks: %v", seen)
		}
	}
	if seen[0] != seen[1] || seen[1] != seen[2] || !strings.HasSuffix(seen[0], " payment_intent.amount_capturable_updated") {
		t.Errorf("webhooks: %v", seen)
	}
	var left int
	for left = 1; left > 0; {
		if err := g.s.db.QueryRowContext(ctx, `SELECT count(*) FROM hook`).Scan(&left); err != nil {
			t.Fatal(err)
		}
		select {
		case <-tick.C:
		case h := <-g.hooks:
			t.Fatalf("a delivered webhook came again: %s", h)
		case <-deadline:
			t.Fatalf("%d delivered webhooks are still queued", left)
		}
	}
}

func TestFaultsOfWebhooks(t *testing.T) {
	d := newDice(7, Faults{LoseHook: 0.2, DoubleHook: 0.3, DelayHook: 0.2, ReorderHook: 0.2, DelayMaxMS: 1000})
	lost, double, late := 0, 0, 0
	const n = 10_000
	for range n {
		copies, delay := d.hook()
		switch {
		case copies == 0:
			lost++
		case copies == 2:
			double++
		}
		if delay > 0 {
			late++
		}
		if delay > time.Second {
			t.Fatalf("a delay of %s", delay)
		}
	}
	for name, tc := range map[string]struct{ got, want int }{"lost": {lost, n * 20 / 100}, "double": {double, n * 24 / 100}, "late": {late, n * 29 / 100}} {
		if d := tc.got - tc.want; d < -n*2/100 || d > n*2/100 {
			t.Errorf("%s: %d, want about %d", name, tc.got, tc.want)
		}
	}
}

// The page says everything that is wrong at once, keeps what was typed but for
// the security code, and never shows what it was given as markup.
func TestThePageHelps(t *testing.T) {
	g := newStage(t, false)
	id, page := g.intent()
	res, body := g.visit(page, nil)
	if res.StatusCode != 200 || !strings.Contains(body, "€123.50") || !strings.Contains(body, "Gala &lt;b&gt;&amp;amp; friends") {
		t.Fatalf("the page: %d\n%s", res.StatusCode, body)
	}
	for _, h := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "X-Frame-Options"} {
		if res.Header.Get(h) == "" {
			t.Errorf("no %s", h)
		}
	}
	if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.HasSuffix(csp, "form-action 'self' https://shop.test") {
		t.Errorf("the policy is %q", csp)
	}
	if res.Header.Get("Cache-Control") != "no-store" {
		t.Error("the page may be stored")
	}
	res, body = g.visit(page, url.Values{"do": {"pay"}, "card": {`4111 1111 1111 1111"><script>`}, "expiry": {"13/20"}, "cvc": {"12x"}, "name": {"Ann O'Neil"}})
	if res.StatusCode != 422 {
		t.Errorf("a wrong form: %d", res.StatusCode)
	}
	for _, want := range []string{`id="card-fault"`, `id="expiry-fault"`, `id="cvc-fault"`, `value="4111 1111 1111 1111&#34;&gt;&lt;script&gt;"`, `value="Ann O&#39;Neil"`, `aria-invalid="true"`, `href="#card"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if strings.Contains(body, "12x") || strings.Contains(body, "<script") {
		t.Error("the page repeats the security code, or what it was given as markup")
	}
	for expiry, ok := range map[string]bool{"12/99": true, "1/99": false, "00/99": false, "12 / 99": true, g.now().Format("01/06"): true, g.now().AddDate(0, -2, 0).Format("01/06"): false} {
		_, v := g.s.checkForm(url.Values{"card": {"4242424242424242"}, "expiry": {expiry}, "cvc": {"123"}})
		if _, fault := v.Faults["expiry"]; fault == ok {
			t.Errorf("valid until %q: %v", expiry, v.Faults)
		}
	}
	// Declined: said on the page, another card may be tried.
	res, _ = g.visit(page, url.Values{"do": {"pay"}, "card": {"4000000000000002"}, "expiry": {"12/99"}, "cvc": {"123"}})
	if res.StatusCode != 303 || !strings.HasPrefix(res.Header.Get("Location"), "/pay/"+id) {
		t.Errorf("declined: %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	if _, body = g.visit(page, nil); !strings.Contains(body, "The bank declined the card. You have not been charged.") {
		t.Errorf("a decline is not said:\n%s", body)
	}
	// 3-D Secure, refused, confirmed.
	g.visit(page, url.Values{"do": {"pay"}, "card": {"4000000000003220"}, "expiry": {"12/99"}, "cvc": {"123"}})
	if _, body = g.visit(page, nil); !strings.Contains(body, "Yes, it is me") {
		t.Errorf("no challenge:\n%s", body)
	}
	g.visit(page, url.Values{"do": {"refuse"}})
	g.visit(page, url.Values{"do": {"confirm"}}) // a stale tab: there is no challenge any more
	if status, v := g.call("GET", "/v1/payment_intents/"+id, "", nil); status != 200 || v["status"] != "requires_action" {
		t.Errorf("after a failed check: %v", v)
	}
	g.visit(page, url.Values{"do": {"pay"}, "card": {"4000000000003220"}, "expiry": {"12/99"}, "cvc": {"123"}})
	for range 2 { // and a double click
		if res, _ = g.visit(page, url.Values{"do": {"confirm"}}); res.Header.Get("Location") != "https://shop.test/orders/7?sig=a%2Fb&x=1" {
			t.Errorf("confirmed: to %q", res.Header.Get("Location"))
		}
	}
	if _, body = g.visit(page, nil); !strings.Contains(body, "went through") || strings.Contains(body, "<form") {
		t.Errorf("the page of a payment that is over:\n%s", body)
	}
	// Nobody finds a page without its key.
	if res, body = g.visit(page[:len(page)-1], nil); res.StatusCode != 404 || !strings.Contains(body, "no such payment") {
		t.Errorf("a page with a wrong key: %d", res.StatusCode)
	}
}

func TestAPageOfAClosedPayment(t *testing.T) {
	g := newStage(t, false)
	id, page := g.intent()
	if status, v := g.call("POST", "/v1/payment_intents/"+id+"/cancel", "v", map[string]any{}); status != 200 || v["status"] != "canceled" {
		t.Fatalf("cancel: %d %v", status, v)
	}
	res, _ := g.visit(page, url.Values{"do": {"pay"}, "card": {"4242424242424242"}, "expiry": {"12/99"}, "cvc": {"123"}})
	if res.StatusCode != 303 || !strings.HasPrefix(res.Header.Get("Location"), "https://shop.test/") {
		t.Errorf("paid after the shop closed it: %d %q", res.StatusCode, res.Header.Get("Location"))
	}
	if _, body := g.visit(page, nil); !strings.Contains(body, "The shop has closed this payment. Nothing was charged.") {
		t.Errorf("the page:\n%s", body)
	}
	if _, v := g.call("GET", "/v1/payment_intents/"+id, "", nil); v["status"] != "canceled" {
		t.Errorf("a closed payment is %v", v["status"])
	}
}

// Every page is one document with a language, a title, one h1, labels for all
// fields, and nothing inline.
func TestThePagesAreSound(t *testing.T) {
	g := newStage(t, false)
	pages := map[string]string{"home": g.web.URL + "/", "missing": g.web.URL + "/pay/pi_x/y"}
	_, pages["pay"] = g.intent()
	for name, card := range map[string]string{"challenge": "4000000000003220", "waiting": "4000000000000077", "over": "4242424242424242", "declined": "4000000000000002"} {
		_, page := g.intent()
		g.visit(page, url.Values{"do": {"pay"}, "card": {card}, "expiry": {"12/99"}, "cvc": {"123"}})
		pages[name] = page
	}
	css := ""
	for name, page := range pages {
		_, body := g.visit(page, nil)
		doc, err := html.Parse(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		h1, title, lang := 0, "", ""
		labels, ids := map[string]bool{}, map[string]bool{}
		var fields []string
		for n := range doc.Descendants() {
			if n.Type != html.ElementNode {
				continue
			}
			at := map[string]string{}
			for _, a := range n.Attr {
				at[a.Key] = a.Val
				if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
					t.Errorf("%s: inline %s on <%s>", name, a.Key, n.Data)
				}
			}
			if id := at["id"]; id != "" {
				if ids[id] {
					t.Errorf("%s: two elements are called %s", name, id)
				}
				ids[id] = true
			}
			switch n.Data {
			case "html":
				lang = at["lang"]
			case "h1":
				h1++
			case "title":
				title = n.FirstChild.Data
			case "label":
				labels[at["for"]] = true
			case "input":
				fields = append(fields, at["id"])
			case "script", "style", "iframe":
				t.Errorf("%s: <%s>", name, n.Data)
			case "link":
				css = at["href"]
			}
		}
		if h1 != 1 || title == "" || lang != "en" {
			t.Errorf("%s: %d h1, title %q, language %q", name, h1, title, lang)
		}
		for _, f := range fields {
			if !labels[f] {
				t.Errorf("%s: the field %q has no label", name, f)
			}
		}
	}
	res, body := g.visit(g.web.URL+css, nil)
	if res.StatusCode != 200 || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") || len(body) == 0 {
		t.Errorf("the style sheet %s: %d", css, res.StatusCode)
	}
	if res, _ := g.visit(g.web.URL+"/assets/other.css", nil); res.StatusCode != 404 {
		t.Errorf("another style sheet: %d", res.StatusCode)
	}
}

// Contrast of the colours, computed: text 4.5 to 1, borders of fields 3 to 1.
func TestTheColoursCanBeRead(t *testing.T) {
	css, err := files.ReadFile("assets/page.css")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile(`:root \{([^}]*)\}`).FindAllStringSubmatch(string(css), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d sets of colours, want light and dark", len(blocks))
	}
	for i, b := range blocks {
		c := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6})`).FindAllStringSubmatch(b[1], -1) {
			c[m[1]] = luminance(t, m[2])
		}
		for _, p := range []struct {
			on, what string
			least    float64
		}{{"ground", "ink", 4.5}, {"ground", "soft", 4.5}, {"panel", "ink", 4.5}, {"panel", "soft", 4.5}, {"ground", "accent", 4.5}, {"accent", "on-accent", 4.5},
			{"ground", "bad", 4.5}, {"bad-ground", "ink", 4.5}, {"note", "ink", 4.5}, {"ground", "line", 3}} {
			hi, lo := max(c[p.on], c[p.what]), min(c[p.on], c[p.what])
			if r := (hi + 0.05) / (lo + 0.05); r < p.least {
				t.Errorf("set %d: %s on %s has a contrast of %.2f, want %.1f", i, p.what, p.on, r, p.least)
			}
		}
	}
}

// luminance is the relative luminance of WCAG 2.
func luminance(t *testing.T, hex string) float64 {
	var rgb [3]int
	if _, err := fmt.Sscanf(hex, "%02x%02x%02x", &rgb[0], &rgb[1], &rgb[2]); err != nil {
		t.Fatal(err)
	}
	l := 0.0
	for i, w := range []float64{0.2126, 0.7152, 0.0722} {
		v := float64(rgb[i]) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		l += w * v
	}
	return l
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	ok := Options{Path: filepath.Join(t.TempDir(), "psp.db"), PublicURL: "http://psp.test", SecretKey: "sk"}
	for name, change := range map[string]func(*Options){
		"no key":             func(o *Options) { o.SecretKey = "" },
		"no public url":      func(o *Options) { o.PublicURL = "" },
		"no webhook secret":  func(o *Options) { o.WebhookURL = "http://shop.test/" },
		"an odd probability": func(o *Options) { o.Faults.LoseAnswer = -1 },
		"a long delay":       func(o *Options) { o.Faults.DelayMaxMS = 1 << 40 },
		"no folder":          func(o *Options) { o.Path = filepath.Join(t.TempDir(), "a", "b", "psp.db") },
	} {
		o := ok
		change(&o)
		if s, err := New(t.Context(), o); err == nil {
			t.Errorf("%s: made", name)
			_ = s.Close()
		}
	}
}

func FuzzForm(f *testing.F) {
	s := &Server{now: func() time.Time { return time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) }}
	f.Add("4242 4242 4242 4242", "12/26", "123")
	f.Add("", "", "")
	f.Add("4000-0000-0000-0002", "99/99", "12345")
	f.Fuzz(func(t *testing.T, card, expiry, cvc string) {
		c, v := s.checkForm(url.Values{"card": {card}, "expiry": {expiry}, "cvc": {cvc}})
		if len(v.Faults) == 0 && (c.Number == "" || len(strings.TrimSpace(cvc)) > 4) {
			t.Errorf("accepted %q %q %q", card, expiry, cvc)
		}
		if len(v.Faults) != len(v.Order) {
			t.Errorf("%d faults, %d in order", len(v.Faults), len(v.Order))
		}
	})
}
