package fasthttppass

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/stanchion-queue/stanchion/pass"
)

func TestRequire(t *testing.T) {
	k, err := pass.NewKeys(pass.Key{Private: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_900_000_000, 0)
	sign := func(room string, at time.Time) string {
		token, err := k.Sign(pass.Claims{Issuer: "i", Room: room, Session: "fan", IssuedAt: at, ExpiresAt: at.Add(time.Minute), StayUntil: at.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	handler := Require(Options{Room: "onsale", Verifier: k.Verifier(), Now: func() time.Time { return now }}, func(ctx *fasthttp.RequestCtx) {
		c, ok := Claims(ctx)
		if !ok {
			t.Error("the handler finds no claims")
		}
		ctx.WriteString(c.Session)
	})
	for _, tc := range []struct {
		name, header, value string
		status              int
	}{
		{"header", "Stanchion-Pass", sign("onsale", now), 200},
		{"cookie", "Cookie", "a=b; __Host-stanchion-pass-onsale=" + sign("onsale", now), 200},
		{"cookie without TLS", "Cookie", "stanchion-pass-onsale=" + sign("onsale", now), 200},
		{"nothing", "Accept", "*/*", 503},
		{"another room", "Stanchion-Pass", sign("vip", now), 503},
		{"expired", "Stanchion-Pass", sign("onsale", now.Add(-time.Hour)), 503},
	} {
		var ctx fasthttp.RequestCtx
		ctx.Request.Header.Set(tc.header, tc.value)
		handler(&ctx)
		if got := ctx.Response.StatusCode(); got != tc.status {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.status)
		}
		body := ctx.Response.Body()
		if tc.status == 200 && string(body) != "fan" {
			t.Errorf("%s: the handler saw %q", tc.name, body)
		}
		var problem struct{ Type string }
		if tc.status == 503 && (json.Unmarshal(body, &problem) != nil || problem.Type != "/problems/admission-required") {
			t.Errorf("%s: refused with %q", tc.name, body)
		}
	}
}
