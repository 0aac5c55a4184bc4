package pspclient_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/payment"
	"github.com/stanchion-queue/stanchion/core/payment/pspclient"
	"github.com/stanchion-queue/stanchion/core/payment/pspsim"
)

// bench is a client and the simulator it speaks to.
type bench struct {
	t      *testing.T
	client *pspclient.Client
	sim    *pspsim.Server
	mu     sync.Mutex
	now    time.Time
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Now()}
	srv := httptest.NewUnstartedServer(nil)
	var err error
	b.sim, err = pspsim.New(t.Context(), pspsim.Options{Path: filepath.Join(t.TempDir(), "psp.db"), PublicURL: "http://" + srv.Listener.Addr().String(), SecretKey: "sk", Now: b.clock, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	srv.Config.Handler = b.sim.Handler()
	srv.Start()
	t.Cleanup(func() {
		srv.Close()
		if err := b.sim.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	b.client, err = pspclient.New(pspclient.Options{URL: srv.URL + "/", SecretKey: "sk", WebhookSecrets: []string{"old", "new"}, Now: b.clock,
		// On a connection that was used before, net/http repeats a call with an
		// idempotency key by itself.
		HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) intent(card string) payment.Intent {
	id := uuid.New()
	return payment.Intent{PaymentID: id, OrderID: uuid.New(), Key: payment.Key(id, payment.KindCreate, 1), Currency: "EUR", Amount: 9000, Description: "Gala", Method: card, ReturnURL: "http://shop.test/back"}
}

func (b *bench) create(card string) payment.Snapshot {
	b.t.Helper()
	s, err := b.client.Create(b.t.Context(), b.intent(card))
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// press sends a form to a payment page and returns where it leads.
func (b *bench) press(page string, form url.Values) string {
	b.t.Helper()
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := c.PostForm(page, form)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusSeeOther {
		body, _ := io.ReadAll(res.Body)
		b.t.Fatalf("the page answered %d: %s", res.StatusCode, body)
	}
	return res.Header.Get("Location")
}

func card(number string) url.Values {
	return url.Values{"do": {"pay"}, "card": {number}, "expiry": {"12/99"}, "cvc": {"123"}}
}

func refusedAs(err error) string {
	var r *payment.Refusal
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}

func TestAPaymentsLife(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	in := b.intent("")
	s, err := b.client.Create(ctx, in)
	if err != nil || s.Status != payment.StatusAsked || s.PaymentID != in.PaymentID || s.NextAction == "" || s.Amount != 9000 {
		t.Fatalf("created: %+v, %v", s, err)
	}
	if again, err := b.client.Create(ctx, in); err != nil || again.Ref != s.Ref {
		t.Errorf("the same create made another intent: %+v, %v", again, err)
	}
	other := in
	other.Amount = 1
	if _, err := b.client.Create(ctx, other); err == nil || refusedAs(err) != "" {
		t.Errorf("a key that was used for something else says nothing about the payment: %v", err)
	}
	if _, err := b.client.Capture(ctx, s.Ref, "c0", 9000); refusedAs(err) != "intent_not_capturable" {
		t.Errorf("captured before the fan paid: %v", err)
	}
	if to := b.press(s.NextAction, card("4242424242424242")); to != in.ReturnURL {
		t.Errorf("the page leads to %q", to)
	}
	s, err = b.client.Fetch(ctx, s.Ref)
	if err != nil || s.Status != payment.StatusAuthorised || s.Authorised != 9000 || s.CaptureBefore.IsZero() || s.NextAction != "" {
		t.Fatalf("authorised: %+v, %v", s, err)
	}
	if _, err := b.client.Capture(ctx, s.Ref, "c1", 9001); refusedAs(err) != "amount_too_large" {
		t.Errorf("captured more than was authorised: %v", err)
	}
	for range 2 {
		if s, err = b.client.Capture(ctx, s.Ref, "c2", 9000); err != nil || s.Status != payment.StatusCaptured || s.Captured != 9000 {
			t.Fatalf("captured: %+v, %v", s, err)
		}
	}
	if _, err := b.client.Void(ctx, s.Ref, "v1"); refusedAs(err) != "intent_not_cancelable" {
		t.Errorf("voided captured money: %v", err)
	}
	if _, err := b.client.Refund(ctx, s.Ref, "r0", 9001); refusedAs(err) != "amount_too_large" {
		t.Errorf("refunded too much: %v", err)
	}
	for range 2 {
		if r, err := b.client.Refund(ctx, s.Ref, "r1", 4000); err != nil || r.State != payment.RefundDone || r.Ref == "" {
			t.Fatalf("refunded: %+v, %v", r, err)
		}
	}
	found, err := b.client.Find(ctx, in.PaymentID)
	if err != nil || found.Ref != s.Ref || found.Refunded != 4000 {
		t.Errorf("found: %+v, %v", found, err)
	}
	if _, err := b.client.Find(ctx, uuid.New()); !errors.Is(err, payment.ErrNoObject) {
		t.Errorf("found what is not there: %v", err)
	}
	if _, err := b.client.Fetch(ctx, "pi_nothing"); !errors.Is(err, payment.ErrNoObject) {
		t.Errorf("fetched what is not there: %v", err)
	}
}

func TestTheCards(t *testing.T) {
	for number, want := range map[string]payment.Status{
		"4242424242424242": payment.StatusAuthorised,
		"4000000000000002": payment.StatusAsked, // another card may be tried
		"4000000000009995": payment.StatusAsked,
		"4000000000009979": payment.StatusFailed,
		"4000000000003220": payment.StatusAsked,
		"4000000000000077": payment.StatusProcessing,
		"4000000000000085": payment.StatusProcessing,
		"4000000000000127": payment.StatusCaptured,
	} {
		b := newBench(t)
		s := b.create(number)
		if s.Status != want {
			t.Errorf("%s: %s, want %s", number, s.Status, want)
		}
		b.advance(6 * time.Second)
		s, err := b.client.Fetch(t.Context(), s.Ref)
		if err != nil {
			t.Fatal(err)
		}
		switch number {
		case "4000000000000077":
			want = payment.StatusAuthorised
		case "4000000000000085":
			want = payment.StatusFailed
		}
		if s.Status != want {
			t.Errorf("%s, after a while: %s, want %s", number, s.Status, want)
		}
		if want == payment.StatusFailed && s.FailureCode == "" {
			t.Errorf("%s failed without saying why", number)
		}
	}
}

func TestVoidAndLapse(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	for _, number := range []string{"", "4242424242424242"} {
		s := b.create(number)
		for range 2 {
			if v, err := b.client.Void(ctx, s.Ref, "v-"+s.Ref); err != nil || v.Status != payment.StatusVoided {
				t.Errorf("void: %+v, %v", v, err)
			}
		}
		if v, err := b.client.Void(ctx, s.Ref, "again-"+s.Ref); err != nil || v.Status != payment.StatusVoided {
			t.Errorf("void what is void: %+v, %v", v, err)
		}
	}
	s := b.create("4242424242424242")
	b.advance(8 * 24 * time.Hour)
	if l, err := b.client.Fetch(ctx, s.Ref); err != nil || l.Status != payment.StatusLapsed {
		t.Errorf("after eight days: %+v, %v", l, err)
	}
	s = b.create("")
	if to := b.press(s.NextAction, url.Values{"do": {"cancel"}}); to != "http://shop.test/back" {
		t.Errorf("the page leads to %q", to)
	}
	if l, err := b.client.Fetch(ctx, s.Ref); err != nil || l.Status != payment.StatusFailed || l.FailureCode != "abandoned" {
		t.Errorf("abandoned: %+v, %v", l, err)
	}
}

func TestRefundsThatTakeTimeOrFail(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	for number, then := range map[string]payment.RefundState{"4000000000007726": payment.RefundDone, "4000000000005126": payment.RefundFailed} {
		s := b.create(number)
		if _, err := b.client.Capture(ctx, s.Ref, "c-"+s.Ref, 9000); err != nil {
			t.Fatal(err)
		}
		if _, err := b.client.Refund(ctx, s.Ref, "r-"+s.Ref, 9000); err != nil {
			t.Fatal(err)
		}
		b.advance(6 * time.Second)
		if r, err := b.client.Refund(ctx, s.Ref, "r-"+s.Ref, 9000); err != nil || r.State != then {
			t.Errorf("%s: %+v, %v", number, r, err)
		}
	}
}

func TestALostAnswerIsUnknown(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	for name, f := range map[string]pspsim.Faults{"request": {LoseRequest: 1}, "answer": {LoseAnswer: 1}} {
		in := b.intent("4242424242424242")
		if err := b.sim.SetFaults(f); err != nil {
			t.Fatal(err)
		}
		_, err := b.client.Create(ctx, in)
		if err == nil || refusedAs(err) != "" {
			t.Fatalf("lost %s: %v", name, err)
		}
		if err := b.sim.SetFaults(pspsim.Faults{}); err != nil {
			t.Fatal(err)
		}
		_, err = b.client.Find(ctx, in.PaymentID)
		if there := err == nil; there != (name == "answer") {
			t.Errorf("lost %s: the intent is there: %v", name, there)
		}
		if s, err := b.client.Create(ctx, in); err != nil || s.Status != payment.StatusAuthorised {
			t.Errorf("lost %s, again: %+v, %v", name, s, err)
		}
	}
	s := b.create("4000000000000341")
	if _, err := b.client.Capture(ctx, s.Ref, "c", 9000); err == nil || refusedAs(err) != "" {
		t.Errorf("the card that loses an answer: %v", err)
	}
	if s, err := b.client.Capture(ctx, s.Ref, "c", 9000); err != nil || s.Captured != 9000 {
		t.Errorf("again: %+v, %v", s, err)
	}
}

// What is not a clear answer of the provider is never taken for a no.
func TestStrangeAnswersAreUnknown(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"html": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			_, _ = w.Write([]byte("<html>proxy error"))
		},
		"empty 404": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"server error": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			_, _ = w.Write([]byte(`{"error":{"code":"internal"}}`))
		},
		"rate limit": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(429)
			_, _ = w.Write([]byte(`{"error":{"code":"slow_down"}}`))
		},
		"wrong key": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(401)
			_, _ = w.Write([]byte(`{"error":{"code":"unauthorised"}}`))
		},
		"half an object": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"id":"pi_1","sta`)) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		},
	} {
		srv := httptest.NewServer(h)
		c, err := pspclient.New(pspclient.Options{URL: srv.URL, SecretKey: "sk", WebhookSecrets: []string{"x"}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err = c.Capture(ctx, "pi_1", "k", 1)
		if err == nil || refusedAs(err) != "" || errors.Is(err, payment.ErrNoObject) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		srv.Close()
	}
}

const webhook = `{"id":"evt_1","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","status":"succeeded","metadata":{"payment_id":"018f6b6e-0000-7000-8000-000000000001"}}}}`

func TestVerify(t *testing.T) {
	b := newBench(t)
	now := b.clock()
	header := func(v string) map[string][]string { return map[string][]string{pspclient.SignatureHeader: {v}} }
	for _, secret := range []string{"old", "new"} {
		n, err := b.client.Verify(header(pspsim.Sign(secret, now, []byte(webhook))), []byte(webhook))
		if err != nil || n.EventID != "evt_1" || n.Ref != "pi_1" || n.PaymentID.String() != "018f6b6e-0000-7000-8000-000000000001" {
			t.Errorf("signed with the %s secret: %+v, %v", secret, n, err)
		}
	}
	good := pspsim.Sign("new", now, []byte(webhook))
	for name, tc := range map[string]struct{ header, body string }{
		"no signature":     {"", webhook},
		"another secret":   {pspsim.Sign("other", now, []byte(webhook)), webhook},
		"another body":     {good, strings.Replace(webhook, "pi_1", "pi_2", 1)},
		"another time":     {strings.Replace(good, "t=", "t=1", 1), webhook},
		"replayed":         {pspsim.Sign("new", now.Add(-6*time.Minute), []byte(webhook)), webhook},
		"from the future":  {pspsim.Sign("new", now.Add(6*time.Minute), []byte(webhook)), webhook},
		"signed nonsense":  {pspsim.Sign("new", now, []byte("hi")), "hi"},
		"signed emptiness": {pspsim.Sign("new", now, []byte("{}")), "{}"},
	} {
		if n, err := b.client.Verify(header(tc.header), []byte(tc.body)); !errors.Is(err, payment.ErrBadSignature) {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	c, err := pspclient.New(pspclient.Options{URL: "http://psp.test", SecretKey: "sk", WebhookSecrets: []string{"x"}})
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	f.Add("", []byte(nil), false)
	f.Add("t=1,v1=00", []byte("{}"), false)
	f.Add("t=,v1=", []byte(webhook), true)
	f.Add("t=99999999999999999999,v1=zz", []byte(`{"id":1}`), true)
	f.Add("v1=00,t=1,t=2,,=", []byte(`{"id":"e","data":{"object":{"id":"p","metadata":{"payment_id":"x"}}}}`), true)
	f.Fuzz(func(t *testing.T, header string, body []byte, sign bool) {
		if sign {
			header = pspsim.Sign("x", now, body)
		}
		n, err := c.Verify(map[string][]string{pspclient.SignatureHeader: {header}}, body)
		if err != nil && !errors.Is(err, payment.ErrBadSignature) {
			t.Errorf("an error of its own: %v", err)
		}
		if err == nil && (n.EventID == "" || n.Ref == "") {
			t.Errorf("a notice about nothing: %+v", n)
		}
	})
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	for name, o := range map[string]pspclient.Options{
		"no url":    {SecretKey: "sk", WebhookSecrets: []string{"x"}},
		"no host":   {URL: "/v1", SecretKey: "sk", WebhookSecrets: []string{"x"}},
		"no key":    {URL: "http://psp.test", WebhookSecrets: []string{"x"}},
		"no secret": {URL: "http://psp.test", SecretKey: "sk"},
	} {
		if _, err := pspclient.New(o); err == nil {
			t.Errorf("%s: made", name)
		}
	}
}
