// Package buyer finds out who is asking: the guest behind a request, and the pass of the waiting room it carries.
//
// A guest is recognised by the cookie `shop-guest` or a bearer token. The pass comes from the edge, which has checked it, in
// the header Stanchion-Pass; it is verified again here, offline, because the core trusts a signature and not a header.
package buyer

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/stanchion-queue/stanchion/core/guest"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/pass"
)

// Cookie is the guest token's cookie. Under TLS it carries the __Host- prefix. Names that begin with stanchion- belong to the edge, which
// keeps them from origins.
const Cookie = "shop-guest"

// PassHeader is where the edge puts the pass.
const PassHeader = "Stanchion-Pass"

// cookieLife is long: an order's page is looked up again on the evening itself.
const cookieLife = 400 * 24 * time.Hour

// Passes verifies passes. pass.Verifier implements it.
type Passes interface {
	Verify(token, room string, now time.Time) (pass.Claims, error)
}

// Desk recognises buyers. Safe for concurrent use.
type Desk struct {
	Guests guest.Keys
	Passes Passes
	Now    func() time.Time
}

// Buyer is who asks.
type Buyer struct {
	Principal order.Principal
	Token     string // the guest token; New tells that the fan does not have it yet
	New       bool
}

// Identify returns the guest of a request; a request without a token gets a new guest. A token that is there but not ours is
// guest.ErrForged when it came as a bearer token, and is replaced when it came as a cookie: a stale cookie must not lock a
// fan out.
func (d *Desk) Identify(r *http.Request) (Buyer, error) {
	if b, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		p, err := d.Guests.Principal(b)
		if err != nil {
			return Buyer{}, err
		}
		return Buyer{Principal: order.Principal(p), Token: b}, nil
	}
	for _, name := range []string{"__Host-" + Cookie, Cookie} {
		if c, err := r.Cookie(name); err == nil {
			if p, err := d.Guests.Principal(c.Value); err == nil {
				return Buyer{Principal: order.Principal(p), Token: c.Value}, nil
			}
		}
	}
	p, token := d.Guests.New()
	return Buyer{Principal: order.Principal(p), Token: token, New: true}, nil
}

// Remember sets the guest's cookie. It is Lax, so that it comes along when the payment provider sends the fan back.
func (d *Desk) Remember(w http.ResponseWriter, r *http.Request, b Buyer) {
	c := &http.Cookie{Name: Cookie, Value: b.Token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: int(cookieLife.Seconds())}
	if Secure(r) {
		c.Name, c.Secure = "__Host-"+Cookie, true
	}
	http.SetCookie(w, c)
}

// Secure says whether the fan's own connection is TLS, as the edge reports it.
func Secure(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
}

// BaseURL is scheme and host as the fan sees them.
func BaseURL(r *http.Request) string {
	if Secure(r) {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// Pass returns the verified pass for a room, nil when the request carries none, and order.ErrPassInvalid when it carries one that
// is not good here.
func (d *Desk) Pass(r *http.Request, room string) (*order.Pass, error) {
	token := r.Header.Get(PassHeader)
	if token == "" || room == "" {
		return nil, nil
	}
	c, err := d.Passes.Verify(token, room, d.Now())
	if err != nil {
		return nil, errors.Join(order.ErrPassInvalid, err)
	}
	return &order.Pass{ID: c.Session, Room: c.Room, SeatLimit: c.SeatLimit, StayUntil: c.StayUntil}, nil
}
