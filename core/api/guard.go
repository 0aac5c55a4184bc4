package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/buyer"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/problem"
)

type contextKey int

const (
	keyBuyer contextKey = iota
	keySubject
	keyRequest
)

// buyerOf is who asks, as guarded found out.
func buyerOf(ctx context.Context) buyer.Buyer { b, _ := ctx.Value(keyBuyer).(buyer.Buyer); return b }

// requestOf is the request itself, for the pass and the base URL.
func requestOf(ctx context.Context) *http.Request {
	r, _ := ctx.Value(keyRequest).(*http.Request)
	return r
}

// subjectOf is the id that a write's idempotency key owns; without a key, a new one.
func subjectOf(ctx context.Context) uuid.UUID {
	if id, ok := ctx.Value(keySubject).(uuid.UUID); ok {
		return id
	}
	return uuid.Must(uuid.NewV7())
}

var keyPattern = regexp.MustCompile(`^[\x21-\x7e]{1,255}$`)

// replayedHeaders are the headers of an answer that its repetition must have.
var replayedHeaders = []string{"Content-Type", "Cache-Control", "Location", "ETag", "Retry-After"}

// guarded wraps all operations: who asks is found out once, and a write with an Idempotency-Key happens once. Webhooks
// (deduplicated by event id) and scans (by nonce) bring their own key in the body.
func (a *api) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if crossSite(r) {
			problem.Write(w, r, a.Log, problem.New(problem.CrossSite, "Open the page here and try again."))
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), keyRequest, r))
		if strings.HasPrefix(r.URL.Path, "/api/v1/webhooks/") || r.URL.Path == "/api/v1/scans" {
			next.ServeHTTP(w, r)
			return
		}
		b, err := a.Buyers.Identify(r)
		if err != nil {
			problem.Write(w, r, a.Log, err)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), keyBuyer, b))
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		if b.New { // a reader needs no name; an owner does, and must learn it
			w.Header().Set("Stanchion-Guest", b.Token)
			a.Buyers.Remember(w, r, b)
		}
		key, sent := r.Header["Idempotency-Key"]
		if !sent {
			next.ServeHTTP(w, r)
			return
		}
		if len(key) != 1 || !keyPattern.MatchString(key[0]) {
			problem.Write(w, r, a.Log, problem.New(problem.BadKey, "Want 1 to 255 visible ASCII characters."))
			return
		}
		if b.New {
			problem.Write(w, r, a.Log, problem.New(problem.GuestNeeded,
				"This answer carries your guest token in Stanchion-Guest and as a cookie. Send it as a bearer token or cookie and repeat the request."))
			return
		}
		a.once(w, r, next, b.Principal, key[0])
	})
}

// crossSite says whether a browser sends this write on behalf of another site. Cookies are Lax, so this is the second lock.
func crossSite(r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return false
	}
	site := r.Header.Get("Sec-Fetch-Site")
	return site == "cross-site" || site == "same-site"
}

// final says whether an answer is stored for its key. What is not known yet, what may be otherwise once the client has shown a
// better pass, and our own faults are worked on anew.
func final(status int) bool {
	switch status {
	case http.StatusAccepted, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	}
	return status < 500
}

func (a *api) once(w http.ResponseWriter, r *http.Request, next http.Handler, who order.Principal, key string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			err = problem.New(problem.TooLarge, "At most 64 KiB.")
		} else {
			err = problem.New(problem.Malformed, "The body broke off.")
		}
		problem.Write(w, r, a.Log, err)
		return
	}
	answer, again, err := a.Idempotency.Do(r.Context(), who, key, order.Fingerprint(r.Method, r.URL.RequestURI(), body), func(ctx context.Context, subject uuid.UUID) (order.Answered, bool) {
		in := r.WithContext(context.WithValue(ctx, keySubject, subject))
		in.Body = io.NopCloser(bytes.NewReader(body))
		rec := &recorder{header: http.Header{}, status: http.StatusOK}
		next.ServeHTTP(rec, in)
		out := order.Answered{Status: rec.status, Header: map[string]string{}, Body: rec.body.Bytes()}
		for _, h := range replayedHeaders {
			if v := rec.header.Get(h); v != "" {
				out.Header[h] = v
			}
		}
		return out, final(rec.status)
	})
	if err != nil {
		problem.Write(w, r, a.Log, err)
		return
	}
	for k, v := range answer.Header {
		w.Header().Set(k, v)
	}
	if again {
		w.Header().Set("Idempotency-Replayed", "true")
	}
	w.WriteHeader(answer.Status)
	_, _ = w.Write(answer.Body) // the client is gone when this fails; the answer is stored
}

// recorder holds an answer until it is stored or judged.
type recorder struct {
	header http.Header
	status int
	wrote  bool
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if !r.wrote {
		r.status, r.wrote = status, true
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.wrote = true
	return r.body.Write(b)
}

// conditional answers reads of what the client has already with 304. Public answers that bring no entity tag of their own get
// one from their content.
func conditional(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		rec := &recorder{header: w.Header(), status: http.StatusOK}
		next.ServeHTTP(rec, r)
		h := w.Header()
		if rec.status == http.StatusOK && h.Get("ETag") == "" && strings.HasPrefix(h.Get("Cache-Control"), "public") {
			sum := sha256.Sum256(rec.body.Bytes())
			h.Set("ETag", `"`+hex.EncodeToString(sum[:12])+`"`)
		}
		if rec.status == http.StatusOK && matches(r.Header.Get("If-None-Match"), h.Get("ETag")) {
			h.Del("Content-Type")
			h.Del("Content-Encoding")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.WriteHeader(rec.status)
		_, _ = w.Write(rec.body.Bytes()) // the client is gone when this fails
	})
}

// matches compares entity tags weakly, as RFC 9110 asks of If-None-Match.
func matches(header, etag string) bool {
	if etag == "" {
		return false
	}
	return slices.ContainsFunc(strings.Split(header, ","), func(t string) bool {
		t = strings.TrimPrefix(strings.TrimSpace(t), "W/")
		return t == etag || t == "*"
	})
}
