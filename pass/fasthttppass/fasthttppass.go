// Package fasthttppass is the fasthttp middleware for origins that check admission passes themselves.
package fasthttppass

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/stanchion-queue/stanchion/pass"
)

// Verifier is what checks a pass; *pass.Verifier is one.
type Verifier interface {
	Verify(token, room string, now time.Time) (pass.Claims, error)
}

// Options of Require.
type Options struct {
	Room     string
	Verifier Verifier
	Now      func() time.Time // nil: time.Now
	// Refuse answers a request without a valid pass; err is one of package pass, or ErrNone. nil: 503 with a problem of type
	// admission-required, as the edge answers.
	Refuse func(ctx *fasthttp.RequestCtx, err error)
}

// ErrNone says that a request carried no pass at all.
var ErrNone = errors.New("request carries no pass")

type claimsKey struct{}

// Require lets only requests with a valid pass through to next, which finds its claims with Claims.
func Require(o Options, next fasthttp.RequestHandler) fasthttp.RequestHandler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Refuse == nil {
		o.Refuse = refuse
	}
	names := [2]string{"__Host-stanchion-pass-" + o.Room, "stanchion-pass-" + o.Room}
	return func(ctx *fasthttp.RequestCtx) {
		token := ctx.Request.Header.Peek("Stanchion-Pass")
		for i := 0; len(token) == 0 && i < len(names); i++ {
			token = ctx.Request.Header.Cookie(names[i])
		}
		if len(token) == 0 {
			o.Refuse(ctx, ErrNone)
			return
		}
		c, err := o.Verifier.Verify(string(token), o.Room, o.Now())
		if err != nil {
			o.Refuse(ctx, err)
			return
		}
		ctx.SetUserValue(claimsKey{}, c)
		next(ctx)
	}
}

// Claims are those of the pass that Require let through.
func Claims(ctx *fasthttp.RequestCtx) (pass.Claims, bool) {
	c, ok := ctx.UserValue(claimsKey{}).(pass.Claims)
	return c, ok
}

func refuse(ctx *fasthttp.RequestCtx, err error) {
	doc, encodeErr := json.Marshal(map[string]any{
		"type": "/problems/admission-required", "title": "A pass is needed", "status": fasthttp.StatusServiceUnavailable,
		"detail": err.Error(), "retry_after_ms": 5000,
	})
	if encodeErr != nil {
		doc = []byte(`{"status":503}`)
	}
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ctx.Response.Header.Set("Retry-After", "5")
	ctx.SetContentType("application/problem+json")
	ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
	ctx.SetBody(doc)
}
