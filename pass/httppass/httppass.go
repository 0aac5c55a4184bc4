// Package httppass is the net/http middleware for origins that check admission passes themselves, behind an edge or without one.
package httppass

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/stanchion-queue/stanchion/pass"
)

// Header carries a pass where there are no cookies; the edge also hands a verified pass to the origin in it.
const Header = "Stanchion-Pass"

// CookieNames are the cookies that may carry a room's pass, in the order in which they are looked at.
func CookieNames(room string) [2]string {
	return [2]string{"__Host-stanchion-pass-" + room, "stanchion-pass-" + room}
}

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
	Refuse func(w http.ResponseWriter, r *http.Request, err error)
}

// ErrNone says that a request carried no pass at all.
var ErrNone = errors.New("request carries no pass")

// Require lets only requests with a valid pass through to the handler, which finds its claims with Claims.
func Require(o Options) func(http.Handler) http.Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Refuse == nil {
		o.Refuse = refuse
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			token := Token(r, o.Room)
			if token == "" {
				o.Refuse(w, r, ErrNone)
				return
			}
			c, err := o.Verifier.Verify(token, o.Room, o.Now())
			if err != nil {
				o.Refuse(w, r, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), claimsKey{}, c)))
		})
	}
}

type claimsKey struct{}

// Claims are those of the pass that Require let through.
func Claims(ctx context.Context) (pass.Claims, bool) {
	c, ok := ctx.Value(claimsKey{}).(pass.Claims)
	return c, ok
}

// Token is the pass a request carries for a room, unverified: from the header, else from a cookie. Empty: none.
func Token(r *http.Request, room string) string {
	if t := r.Header.Get(Header); t != "" {
		return t
	}
	for _, name := range CookieNames(room) {
		if c, err := r.Cookie(name); err == nil && c.Value != "" {
			return c.Value
		}
	}
	return ""
}

func refuse(w http.ResponseWriter, r *http.Request, err error) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("Retry-After", "5")
	w.WriteHeader(http.StatusServiceUnavailable)
	json.NewEncoder(w).Encode(map[string]any{ // the client may have gone: nothing to do about it
		"type": "/problems/admission-required", "title": "A pass is needed", "status": http.StatusServiceUnavailable,
		"detail": err.Error(), "retry_after_ms": 5000,
	})
}

// FollowOptions say where the keys are published.
type FollowOptions struct {
	URL    string        // of an edge's /.stanchion/keys
	Client *http.Client  // nil: one with a timeout of 5 s
	Every  time.Duration // 0: a minute, which is well within the time a key is published before it signs
	Logger *slog.Logger  // nil: failures to refresh are not told; the last keys stay in use
}

// Follow fetches the published keys and keeps them fresh until ctx ends. The first fetch must succeed.
func Follow(ctx context.Context, o FollowOptions) (*pass.Keys, error) {
	if o.Client == nil {
		o.Client = &http.Client{Timeout: 5 * time.Second}
	}
	if o.Every <= 0 {
		o.Every = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	doc, err := fetch(ctx, o)
	if err != nil {
		return nil, err
	}
	keys, err := pass.ParseJWKS(doc)
	if err != nil {
		return nil, err
	}
	go func() {
		tick := time.NewTicker(o.Every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			doc, err := fetch(ctx, o)
			if err == nil {
				err = keys.ReplaceJWKS(doc)
			}
			if err != nil && ctx.Err() == nil {
				o.Logger.WarnContext(ctx, "pass keys not refreshed", "url", o.URL, "error", err)
			}
		}
	}()
	return keys, nil
}

func fetch(ctx context.Context, o FollowOptions) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch pass keys: %w", err)
	}
	res, err := o.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch pass keys: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch pass keys: %s answered %s", o.URL, res.Status)
	}
	doc, err := io.ReadAll(io.LimitReader(res.Body, 64<<10+1)) // one more than ParseJWKS takes
	if err != nil {
		return nil, fmt.Errorf("fetch pass keys: %w", err)
	}
	return doc, nil
}
