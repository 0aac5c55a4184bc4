package buyer

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/core/guest"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/pass"
)

var now = time.Date(2027, 1, 1, 20, 0, 0, 0, time.UTC)

func newDesk(t *testing.T) (*Desk, *pass.Keys) {
	t.Helper()
	guests, err := guest.NewKeys(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := pass.NewKeys(pass.Key{Private: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))})
	if err != nil {
		t.Fatal(err)
	}
	return &Desk{Guests: guests, Passes: keys.Verifier(), Now: func() time.Time { return now }}, keys
}

func TestWhoIsAsking(t *testing.T) {
	d, _ := newDesk(t)
	principal, token := d.Guests.New()
	_, other := d.Guests.New()
	for _, test := range []struct {
		name    string
		bearer  string
		cookies []http.Cookie
		want    order.Principal // empty: somebody new
		err     error
	}{
		{"nobody yet", "", nil, "", nil},
		{"a bearer token", token, nil, order.Principal(principal), nil},
		{"a cookie", "", []http.Cookie{{Name: Cookie, Value: token}}, order.Principal(principal), nil},
		{"a cookie under TLS", "", []http.Cookie{{Name: "__Host-" + Cookie, Value: token}}, order.Principal(principal), nil},
		{"the token wins over the cookie", token, []http.Cookie{{Name: Cookie, Value: other}}, order.Principal(principal), nil},
		{"a forged token is refused", token + "x", nil, "", guest.ErrForged},
		{"a stale cookie does not lock out", "", []http.Cookie{{Name: Cookie, Value: "old"}}, "", nil},
		{"a stale cookie beside a good one", "", []http.Cookie{{Name: "__Host-" + Cookie, Value: "old"}, {Name: Cookie, Value: token}}, order.Principal(principal), nil},
		// The edge strips nobody's cookies but ours; a fan cannot name themselves.
		{"a principal as a cookie", "", []http.Cookie{{Name: Cookie, Value: principal}}, "", nil},
		{"staff as a bearer", string(order.Staff), nil, "", guest.ErrForged},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			if test.bearer != "" {
				r.Header.Set("Authorization", "Bearer "+test.bearer)
			}
			for _, c := range test.cookies {
				r.AddCookie(&c)
			}
			b, err := d.Identify(r)
			if !errors.Is(err, test.err) {
				t.Fatalf("Identify: %v, want %v", err, test.err)
			}
			if err != nil {
				return
			}
			if test.want != "" && (b.Principal != test.want || b.New) || test.want == "" && (!b.New || b.Principal == order.Principal(principal)) {
				t.Errorf("Identify = %+v", b)
			}
			if p, err := d.Guests.Principal(b.Token); err != nil || order.Principal(p) != b.Principal {
				t.Errorf("the token of %s says %s, %v", b.Principal, p, err)
			}
		})
	}
}

func TestTheCookieComesBack(t *testing.T) {
	d, _ := newDesk(t)
	for _, secure := range []bool{false, true} {
		r := httptest.NewRequest("GET", "/", nil)
		if secure {
			r.Header.Set("X-Forwarded-Proto", "https")
		}
		b, err := d.Identify(r)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		d.Remember(w, r, b)
		c := w.Result().Cookies()[0]
		if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Secure != secure || c.Domain != "" || c.MaxAge < 365*24*3600 {
			t.Errorf("cookie %+v", c)
		}
		next := httptest.NewRequest("GET", "/", nil)
		next.AddCookie(c)
		if again, err := d.Identify(next); err != nil || again.New || again.Principal != b.Principal {
			t.Errorf("came back as %+v, %v", again, err)
		}
	}
}

func TestBaseURL(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Host = "shop.example:8080"
	if got := BaseURL(r); got != "http://shop.example:8080" {
		t.Error(got)
	}
	r.Header.Set("X-Forwarded-Proto", "https")
	if got := BaseURL(r); got != "https://shop.example:8080" {
		t.Error(got)
	}
	r.Header.Del("X-Forwarded-Proto")
	r.TLS = &tls.ConnectionState{}
	if got := BaseURL(r); got != "https://shop.example:8080" {
		t.Error(got)
	}
}

func TestPass(t *testing.T) {
	d, keys := newDesk(t)
	claims := pass.Claims{Issuer: "edge", Room: "onsale", Session: "s1", IssuedAt: now, ExpiresAt: now.Add(time.Minute), StayUntil: now.Add(time.Hour), SeatLimit: 4}
	sign := func(change func(*pass.Claims)) string {
		c := claims
		change(&c)
		token, err := keys.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := sign(func(*pass.Claims) {})
	for _, test := range []struct {
		name, token, room string
		want              bool
		err               error
	}{
		{"a good one", good, "onsale", true, nil},
		{"none", "", "onsale", false, nil},
		{"no room to need one", good, "", false, nil},
		{"of another room", good, "other", false, order.ErrPassInvalid},
		{"expired", sign(func(c *pass.Claims) { c.IssuedAt, c.ExpiresAt = now.Add(-time.Hour), now.Add(-time.Second) }), "onsale", false, order.ErrPassInvalid},
		{"damaged", good[:len(good)-4] + "AAAA", "onsale", false, order.ErrPassInvalid},
		{"no pass at all", "hello", "onsale", false, order.ErrPassInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			if test.token != "" {
				r.Header.Set(PassHeader, test.token)
			}
			p, err := d.Pass(r, test.room)
			if !errors.Is(err, test.err) || (p != nil) != test.want {
				t.Fatalf("Pass = %+v, %v", p, err)
			}
			if p != nil && *p != (order.Pass{ID: "s1", Room: "onsale", SeatLimit: 4, StayUntil: now.Add(time.Hour)}) {
				t.Errorf("Pass = %+v", p)
			}
		})
	}
}
