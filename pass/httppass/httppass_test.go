package httppass

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stanchion-queue/stanchion/pass"
)

func keys(t *testing.T, seed byte) *pass.Keys {
	t.Helper()
	k, err := pass.NewKeys(pass.Key{Private: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t *testing.T, k *pass.Keys, at time.Time) string {
	t.Helper()
	token, err := k.Sign(pass.Claims{Issuer: "i", Room: "onsale", Session: "fan", IssuedAt: at, ExpiresAt: at.Add(time.Minute), StayUntil: at.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestRequire(t *testing.T) {
	k, now := keys(t, 1), time.Unix(1_900_000_000, 0)
	token := sign(t, k, now)
	handler := Require(Options{Room: "onsale", Verifier: k.Verifier(), Now: func() time.Time { return now }})(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, ok := Claims(r.Context())
			if !ok {
				t.Error("the handler finds no claims")
			}
			io.WriteString(w, c.Session)
		}))
	for _, tc := range []struct {
		name   string
		header http.Header
		status int
	}{
		{"header", http.Header{"Stanchion-Pass": {token}}, 200},
		{"cookie", http.Header{"Cookie": {"a=b; __Host-stanchion-pass-onsale=" + token}}, 200},
		{"cookie without TLS", http.Header{"Cookie": {"stanchion-pass-onsale=" + token}}, 200},
		{"nothing", http.Header{}, 503},
		{"another room's cookie", http.Header{"Cookie": {"stanchion-pass-vip=" + token}}, 503},
		{"forged", http.Header{"Stanchion-Pass": {sign(t, keys(t, 2), now)}}, 503},
		{"expired", http.Header{"Stanchion-Pass": {sign(t, k, now.Add(-time.Hour))}}, 503},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header = tc.header
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != tc.status {
			t.Errorf("%s: %d, want %d", tc.name, w.Code, tc.status)
		}
		if w.Code == 200 && w.Body.String() != "fan" {
			t.Errorf("%s: the handler saw %q", tc.name, w.Body)
		}
		if w.Code == 503 {
			var problem struct{ Type string }
			if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || problem.Type != "/problems/admission-required" || w.Header().Get("Retry-After") == "" {
				t.Errorf("%s: refused with %q, %v", tc.name, w.Body, err)
			}
		}
	}
}

// roundTrip answers requests without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		first, second := keys(t, 1), keys(t, 2)
		var set atomic.Pointer[[]byte]
		var status atomic.Int64
		publish := func(code int, doc []byte) { status.Store(int64(code)); set.Store(&doc) }
		publish(500, nil)
		o := FollowOptions{URL: "http://edge/.stanchion/keys", Client: &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: int(status.Load()), Status: "status", Body: io.NopCloser(bytes.NewReader(*set.Load()))}, nil
		})}}
		if _, err := Follow(ctx, o); err == nil {
			t.Fatal("a failing key server is followed")
		}
		publish(200, first.JWKS())
		k, err := Follow(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		v := k.Verifier()
		check := func(what string, by *pass.Keys, ok bool) {
			t.Helper()
			if _, err := v.Verify(sign(t, by, time.Now()), "onsale", time.Now()); (err == nil) != ok {
				t.Errorf("%s: %v", what, err)
			}
		}
		check("published key", first, true)
		check("key of nobody", second, false)
		publish(200, []byte("{}"))
		time.Sleep(61 * time.Second)
		synctest.Wait()
		check("after an empty answer", first, true)
		publish(200, second.JWKS())
		time.Sleep(61 * time.Second)
		synctest.Wait()
		check("after the ring changed", second, true)
		check("a key no longer published", first, false)
	})
}
