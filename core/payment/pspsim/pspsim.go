// Package pspsim is a payment provider that moves no money: the simulator
// behind demos, tests and rehearsals. It behaves as providers of the field do
// (intents, manual capture, voids, refunds, idempotency keys, signed webhooks
// with retries, its own payment page) and keeps its own file, so that it
// survives being killed apart from the shop.
//
// It is also unkind on demand: Faults lose answers, send webhooks twice, late
// and out of order, and some test cards make the bank slow or silent.
package pspsim

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"database/sql"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Options configures a Server.
type Options struct {
	Path          string // of the SQLite file
	PublicURL     string // where fans reach the payment page, such as http://127.0.0.1:9092
	SecretKey     string // bearer token of the API
	WebhookURL    string // where webhooks go; empty: nowhere
	WebhookSecret string // signs them
	Client        *http.Client
	Faults        Faults
	Seed          uint64 // of the faults' dice; 0: random
	Now           func() time.Time
	Log           *slog.Logger
	// Retry is the wait before the first repetition of a webhook; it doubles
	// up to an hour. 0 = 1 s.
	Retry time.Duration
	// AuthorisationLives is how long reserved money stays reserved; 0 = 7
	// days.
	AuthorisationLives time.Duration
	// Hang is how long a lost answer keeps the caller waiting before the
	// connection breaks; 0: it breaks at once.
	Hang time.Duration
	// SlowBank is how long the bank behind a slow card thinks; 0 = 5 s.
	SlowBank time.Duration
}

// Server is the simulator. Safe for concurrent use.
type Server struct {
	o     Options
	db    *sql.DB
	log   *slog.Logger
	now   func() time.Time
	dice  *dice
	poke  chan struct{}
	pages *pages
	done  chan struct{} // closed by Close: hanging answers let go
	once  sync.Once
}

// Intent statuses, in the words of the field.
const (
	statusAction     = "requires_action"
	statusProcessing = "processing"
	statusCapture    = "requires_capture"
	statusSucceeded  = "succeeded"
	statusCanceled   = "canceled"
	statusFailed     = "failed"
)

// Intent is the provider's object, as the API shows it.
type Intent struct {
	ID               string            `json:"id"`
	Object           string            `json:"object"`
	Amount           int64             `json:"amount"`
	AmountCapturable int64             `json:"amount_capturable"`
	AmountReceived   int64             `json:"amount_received"`
	AmountRefunded   int64             `json:"amount_refunded"`
	Currency         string            `json:"currency"`
	Status           string            `json:"status"`
	CaptureMethod    string            `json:"capture_method"`
	CaptureBefore    *time.Time        `json:"capture_before,omitempty"`
	CanceledBecause  string            `json:"cancellation_reason,omitempty"`
	Description      string            `json:"description"`
	Metadata         map[string]string `json:"metadata"`
	NextAction       *NextAction       `json:"next_action,omitempty"`
	LastError        *APIError         `json:"last_payment_error,omitempty"`
	Card             string            `json:"card,omitempty"` // the last four digits
	Created          time.Time         `json:"created"`
	ReturnURL        string            `json:"return_url"`

	// What the API does not show.
	Private private `json:"-"`
}

// NextAction sends the fan to the payment page.
type NextAction struct {
	Type string `json:"type"`
	URL  string `json:"url"`
}

// private is the part of an intent that stays here.
type private struct {
	Key       string     `json:"key"`                 // the payment page's unguessable part
	Behaviour string     `json:"behaviour,omitempty"` // of the card in use
	Challenge bool       `json:"challenge,omitempty"` // 3-D Secure is going on
	DueAt     *time.Time `json:"due_at,omitempty"`    // when the slow bank answers
}

// Refund is money on its way back.
type Refund struct {
	ID            string    `json:"id"`
	Object        string    `json:"object"`
	PaymentIntent string    `json:"payment_intent"`
	Amount        int64     `json:"amount"`
	Status        string    `json:"status"` // pending, succeeded, failed
	FailureReason string    `json:"failure_reason,omitempty"`
	Created       time.Time `json:"created"`

	dueAt *time.Time
}

// APIError is what the API answers instead of an object.
type APIError struct {
	Type    string `json:"type"` // card_error, invalid_request_error, idempotency_error, api_error
	Code    string `json:"code"`
	Message string `json:"message"`

	status int
}

func (e *APIError) Error() string { return e.Code + ": " + e.Message }

func bad(status int, code, format string, args ...any) *APIError {
	return &APIError{Type: "invalid_request_error", Code: code, Message: fmt.Sprintf(format, args...), status: status}
}

// New opens the file and returns a Server. Call Run to deliver webhooks, Close
// at the end.
func New(ctx context.Context, o Options) (*Server, error) {
	if o.SecretKey == "" {
		return nil, errors.New("pspsim: a secret key is needed")
	}
	if u, err := url.Parse(o.PublicURL); err != nil || u.Host == "" {
		return nil, fmt.Errorf("pspsim: public URL %q is not absolute", o.PublicURL)
	}
	if o.WebhookURL != "" && o.WebhookSecret == "" {
		return nil, errors.New("pspsim: webhooks need a secret")
	}
	if err := o.Faults.validate(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Client == nil {
		o.Client = &http.Client{Timeout: 10 * time.Second}
	}
	for _, f := range []struct {
		d *time.Duration
		v time.Duration
	}{{&o.Retry, time.Second}, {&o.AuthorisationLives, 7 * 24 * time.Hour}, {&o.SlowBank, 5 * time.Second}} {
		if *f.d <= 0 {
			*f.d = f.v
		}
	}
	o.PublicURL = strings.TrimSuffix(o.PublicURL, "/")
	db, err := openFile(ctx, o.Path)
	if err != nil {
		return nil, err
	}
	pages, err := newPages()
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Server{o: o, db: db, log: o.Log, now: o.Now, dice: newDice(o.Seed, o.Faults), poke: make(chan struct{}, 1), pages: pages, done: make(chan struct{})}, nil
}

// Close ends hanging answers and closes the file.
func (s *Server) Close() error {
	s.once.Do(func() { close(s.done) })
	return s.db.Close()
}

// Handler serves the API, the payment page and its assets.
func (s *Server) Handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST /v1/payment_intents", s.api(s.createIntent))
	m.HandleFunc("GET /v1/payment_intents", s.api(s.listIntents))
	m.HandleFunc("GET /v1/payment_intents/{id}", s.api(s.getIntent))
	m.HandleFunc("POST /v1/payment_intents/{id}/capture", s.api(s.captureIntent))
	m.HandleFunc("POST /v1/payment_intents/{id}/cancel", s.api(s.cancelIntent))
	m.HandleFunc("POST /v1/refunds", s.api(s.createRefund))
	m.HandleFunc("GET /v1/refunds/{id}", s.api(s.getRefund))
	m.HandleFunc("GET /v1/faults", s.api(s.getFaults))
	m.HandleFunc("PUT /v1/faults", s.api(s.putFaults))
	m.HandleFunc("GET /pay/{id}/{key}", s.showPage)
	m.HandleFunc("POST /pay/{id}/{key}", s.submitPage)
	m.HandleFunc("GET /assets/{name}", s.pages.asset)
	m.HandleFunc("GET /{$}", s.home)
	return secure(m)
}

// secure sets the headers every answer has.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", policy("'none'"))
		next.ServeHTTP(w, r)
	})
}

// policy is the content security policy of a page whose forms may lead to the
// given places (browsers also check where a form's answer redirects to).
func policy(formAction string) string {
	return "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action " + formAction
}

const maxBody = 64 << 10

// call is one API request.
type call struct {
	r    *http.Request
	body []byte
	key  string // Idempotency-Key
}

// form decodes the JSON body, refusing what it does not know.
func (c call) decode(v any) error {
	d := json.NewDecoder(strings.NewReader(string(c.body)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return bad(http.StatusBadRequest, "malformed", "the body is not the JSON object this call takes: %v", err)
	}
	return nil
}

// api wraps a call: bearer key, size limit, idempotency, faults, JSON.
func (s *Server) api(f func(context.Context, call) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || subtle.ConstantTimeCompare([]byte(token), []byte(s.o.SecretKey)) != 1 {
			s.answer(w, http.StatusUnauthorized, errorBody(&APIError{Type: "invalid_request_error", Code: "unauthorised", Message: "the secret key is missing or wrong"}))
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			s.answer(w, http.StatusRequestEntityTooLarge, errorBody(bad(0, "too_large", "the body is larger than 64 KiB or broke off")))
			return
		}
		c := call{r: r, body: body, key: r.Header.Get("Idempotency-Key")}
		if r.Method == http.MethodGet || r.Method == http.MethodPut {
			status, b := s.run(r.Context(), c, f)
			s.answer(w, status, b)
			return
		}
		if c.key == "" || len(c.key) > 255 {
			s.answer(w, http.StatusBadRequest, errorBody(bad(0, "idempotency_key_needed", "send an Idempotency-Key of at most 255 characters")))
			return
		}
		fault := s.dice.answer()
		if fault == loseRequest {
			s.hang(r)
			return
		}
		ctx := context.WithoutCancel(r.Context()) // who asks may go away; the work is done
		status, b, err := s.once1(ctx, c, f)
		if err != nil {
			s.log.Error("a call failed", "path", r.URL.Path, "error", err)
			s.answer(w, http.StatusInternalServerError, errorBody(&APIError{Type: "api_error", Code: "internal", Message: "something went wrong here"}))
			return
		}
		if fault == loseAnswer || s.silent(ctx, c, b) {
			s.hang(r)
			return
		}
		s.answer(w, status, b)
	}
}

// hang never answers: the caller cannot know what happened. The connection
// breaks, at once or after a while.
func (s *Server) hang(r *http.Request) {
	t := time.NewTimer(s.o.Hang)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	case <-s.done:
	}
	panic(http.ErrAbortHandler)
}

func (s *Server) run(ctx context.Context, c call, f func(context.Context, call) (any, error)) (int, []byte) {
	v, err := f(ctx, c)
	var e *APIError
	switch {
	case errors.As(err, &e):
		return e.status, errorBody(e)
	case err != nil:
		s.log.Error("a call failed", "path", c.r.URL.Path, "error", err)
		return http.StatusInternalServerError, errorBody(&APIError{Type: "api_error", Code: "internal", Message: "something went wrong here"})
	}
	b, err := json.Marshal(v)
	if err != nil {
		s.log.Error("an answer cannot be encoded", "path", c.r.URL.Path, "error", err)
		return http.StatusInternalServerError, nil
	}
	return http.StatusOK, b
}

func errorBody(e *APIError) []byte {
	b, err := json.Marshal(map[string]*APIError{"error": e})
	if err != nil {
		return []byte(`{"error":{"type":"api_error","code":"internal","message":""}}`)
	}
	return b
}

func (s *Server) answer(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // who asked is gone when this fails; they will ask again
}

func newID(prefix string) string {
	b := make([]byte, 15)
	_, _ = rand.Read(b) // never fails
	return prefix + strings.ToLower(base32.StdEncoding.EncodeToString(b))
}
