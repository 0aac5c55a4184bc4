package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
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

// replayed are the headers of an answer that its repetition must have.
var replayedHeaders = []string{"Content-Type", "Location", "ETag", "Retry-After"}

// guarded wraps all operations: who asks is found out once, and a write with an Idempotency-Key happens once. Webhooks
// (deduplicated by event id) and scans (by nonce) bring their own key in the body.
func (a *api) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if crossSite(r) {
			problem.Write(w, r, a.Log, problem.New(http.StatusForbidden, "cross-site", "Requests of other sites are refused", ""))
			return
		}
		if strings.HasPrefix(r.URL.Path, "/api/v1/webhooks/") || r.URL.Path == "/api/v1/scans" {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), keyRequest, r)))
			return
		}
		b, err := a.Buyers.Identify(r)
		if err != nil {
			problem.Write(w, r, a.Log, err)
			return
		}
		ctx := context.WithValue(context.WithValue(r.Context(), keyRequest, r), keyBuyer, b)
		r = r.WithContext(ctx)
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		if b.New { // a reader needs no name; an owner does, and must learn it
			w.Header().Set("Stanchion-Guest", b.Token)
			a.Buyers.Remember(w, r, b)
		}
		key := r.Header.Get("Idempotency-Key")
		if key == "" {
			next.ServeHTTP(w, r)
			return
		}
		if !keyPattern.MatchString(key) {
			problem.Write(w, r, a.Log, problem.New(http.StatusBadRequest, "bad-key", "The Idempotency-Key is not usable", "Want 1 to 255 visible ASCII characters."))
			return
		}
		if b.New {
			problem.Write(w, r, a.Log, problem.New(http.StatusBadRequest, "guest-needed", "An Idempotency-Key needs a guest",
				"This answer carries your guest token in Stanchion-Guest and as a cookie. Send it as a bearer token or cookie and repeat the request."))
			return
		}
		a.once(w, r, next, b.Principal, key)
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

func (a *api) once(w http.ResponseWriter, r *http.Request, next http.Handler, who order.Principal, key string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			err = problem.New(http.StatusRequestEntityTooLarge, "too-large", "The body is too large", "At most 64 KiB.")
		} else {
			err = problem.New(http.StatusBadRequest, "malformed", "The body could not be read", "")
		}
		problem.Write(w, r, a.Log, err)
		return
	}
	path := r.URL.RequestURI()
	answer, again, err := a.Idempotency.Do(r.Context(), who, key, order.Fingerprint(r.Method, path, body), func(ctx context.Context, subject uuid.UUID) (order.Answered, bool) {
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
		// An outcome that is not known yet, a conflict with a request on its way, and our own faults are not final.
		keep := rec.status < 500 && rec.status != http.StatusAccepted && rec.status != http.StatusTooManyRequests
		return out, keep
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

// recorder holds an answer until it is stored.
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
