// Package shop is the core's web shop: choose seats, pay, get tickets. Every page works without JavaScript; with it the seat map is
// live.
//
// The performance's pages lie behind the waiting room and need its pass to hold seats; an order's and a ticket's pages are opened by
// a signed link and need none, so that nobody is locked out of what they bought.
package shop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/bojanz/currency"
	"github.com/google/uuid"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/stanchion-queue/stanchion/core/buyer"
	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/counter"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/problem"
	"github.com/stanchion-queue/stanchion/core/ticketing"
	"github.com/stanchion-queue/stanchion/inventory/chart"
)

//go:embed pages/*.html
var pageFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// Orders is the order service as the shop needs it; order.Service implements it.
type Orders interface {
	GetHold(ctx context.Context, who order.Principal, id uuid.UUID) (order.Hold, error)
	ExtendHold(ctx context.Context, who order.Principal, id uuid.UUID) (order.Hold, error)
	ReleaseHold(ctx context.Context, who order.Principal, id uuid.UUID) error
	QuoteHolds(ctx context.Context, who order.Principal, holds []uuid.UUID) (order.Quote, []order.Unit, error)
	CreateOrder(ctx context.Context, r order.OrderRequest) (order.Order, error)
	GetOrder(ctx context.Context, who order.Principal, id uuid.UUID) (order.Order, error)
	Checkout(ctx context.Context, r order.CheckoutRequest) (order.Order, error)
	Look(ctx context.Context, who order.Principal, id uuid.UUID) (order.Order, error)
	Cancel(ctx context.Context, who order.Principal, id uuid.UUID) (order.Order, error)
}

// Seats is what the inventory says is free.
type Seats interface {
	Availability(ctx context.Context, performance uuid.UUID, since int64) (chart.Availability, error)
}

// Options are what the shop is built from.
type Options struct {
	Name           string // of the organiser, in every page's head
	Orders         Orders
	Catalog        *catalog.Service
	Counter        *counter.Counter
	Seats          Seats
	Tickets        *ticketing.Service
	Buyers         *buyer.Desk
	Idempotency    *order.Idempotency
	ProviderOrigin string // origin of the payment provider's page, for the form-action policy
	Prefix         string // of the waiting room's own endpoints, "/.stanchion"
	Log            *slog.Logger
	Now            func() time.Time
}

// Shop serves the pages. Safe for concurrent use.
type Shop struct {
	Options
	pages  map[string]*template.Template
	assets map[string]asset  // by hashed name
	hashed map[string]string // plain name -> path
	plans  sync.Map          // hash of a chart -> *plan
	policy string
	mux    *http.ServeMux
}

type asset struct {
	body        []byte
	contentType string
}

// New parses the pages and returns the shop.
func New(o Options) (*Shop, error) {
	s := &Shop{Options: o, assets: map[string]asset{}, hashed: map[string]string{}, pages: map[string]*template.Template{}, mux: http.NewServeMux()}
	if err := s.loadAssets(); err != nil {
		return nil, err
	}
	if err := s.loadPages(); err != nil {
		return nil, err
	}
	forms := "'self'"
	if o.ProviderOrigin != "" { // a form that is redirected to the provider's page is judged by its last address
		forms += " " + o.ProviderOrigin
	}
	s.policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; form-action " +
		forms + "; base-uri 'none'; frame-ancestors 'none'"
	s.routes()
	return s, nil
}

func (s *Shop) routes() {
	s.mux.HandleFunc("GET /{$}", s.home)
	s.mux.HandleFunc("GET /performances/{performance}", s.performance)
	s.mux.HandleFunc("POST /performances/{performance}/hold", s.postHold)
	s.mux.HandleFunc("GET /performances/{performance}/checkout", s.checkout)
	s.mux.HandleFunc("POST /performances/{performance}/release", s.postRelease)
	s.mux.HandleFunc("POST /performances/{performance}/extend", s.postExtend)
	s.mux.HandleFunc("POST /performances/{performance}/order", s.postOrder)
	s.mux.HandleFunc("GET /orders/{order}", s.order)
	s.mux.HandleFunc("POST /orders/{order}/pay", s.postPay)
	s.mux.HandleFunc("POST /orders/{order}/cancel", s.postCancel)
	s.mux.HandleFunc("GET /orders/{order}/tickets.pdf", s.orderPDF)
	s.mux.HandleFunc("GET /tickets/{file}", s.ticket)
	s.mux.HandleFunc("GET /static/{name}", s.static)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, catalog.ErrNotFound) })
}

// MaxFormBytes bounds a posted form.
const MaxFormBytes = 32 << 10

// ServeHTTP implements http.Handler.
func (s *Shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", s.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if r.Method == http.MethodPost {
		if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
			s.fail(w, r, problem.New(problem.CrossSite, "Open the page here and try again."))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, MaxFormBytes)
		if err := r.ParseForm(); err != nil {
			s.fail(w, r, problem.New(problem.Malformed, "The form could not be read. Go back and try again."))
			return
		}
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Shop) loadAssets() error {
	types := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	return fs.WalkDir(assetFiles, "assets", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := assetFiles.ReadFile(p)
		if err != nil {
			return fmt.Errorf("read asset: %w", err)
		}
		sum := sha256.Sum256(body)
		ext := path.Ext(p)
		name := strings.TrimSuffix(path.Base(p), ext)
		hashed := name + "." + hex.EncodeToString(sum[:6]) + ext
		s.assets[hashed] = asset{body, types[ext]}
		s.hashed[path.Base(p)] = "/static/" + hashed
		return nil
	})
}

func (s *Shop) static(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if a, ok := s.assets[name]; ok {
		serveAsset(w, r, a)
	} else if css, ok := colorSheet(name); ok {
		serveAsset(w, r, asset{css, "text/css; charset=utf-8"})
	} else {
		http.NotFound(w, r)
	}
}

// serveAsset serves what has all of its content in its name.
func serveAsset(w http.ResponseWriter, r *http.Request, a asset) {
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
}

func (s *Shop) loadPages() error {
	funcs := template.FuncMap{
		"asset": func(name string) (string, error) {
			p, ok := s.hashed[name]
			if !ok {
				return "", fmt.Errorf("no asset %q", name)
			}
			return p, nil
		},
		"list": func(n int) []int {
			out := make([]int, max(n, 1))
			for i := range out {
				out[i] = i + 1
			}
			return out
		},
		// The clock of a promise names its zone: a fan may be in another one than the house. The page's script shows the fan's own.
		"clock":      func(t time.Time) string { return t.Format("15:04 MST") },
		"said":       inWords,
		"steps":      func() []string { return []string{"Seats", "Check", "Pay", "Tickets"} },
		"inc":        func(i int) step { return step(i + 1) },
		"count":      func(n int) string { return english.Sprint(n) },
		"month":      func(t time.Time) string { return t.Format("Jan") },
		"dayOfMonth": func(t time.Time) string { return t.Format("2") },
		"iso":        func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") },
		"day":        func(t time.Time) string { return t.Format("Monday 2 January 2006, 15:04") },
	}
	names, err := fs.Glob(pageFiles, "pages/*.html")
	if err != nil {
		return fmt.Errorf("list pages: %w", err)
	}
	for _, n := range names {
		base := path.Base(n)
		if base == "layout.html" {
			continue
		}
		t, err := template.New(base).Funcs(funcs).ParseFS(pageFiles, "pages/layout.html", n)
		if err != nil {
			return fmt.Errorf("parse page: %w", err)
		}
		s.pages[strings.TrimSuffix(base, ".html")] = t
	}
	return nil
}

// english writes numbers as the pages' words do.
var english = message.NewPrinter(language.English)

// page is what every template gets.
type page struct {
	Shop    string
	Title   string
	Prefix  string
	Styles  []string // further stylesheets
	Wide    bool
	Steps   step // where the fan is on the way to a ticket; zero: nowhere
	Error   *problem.Problem
	Key     string // idempotency key of the page's form
	Key2    string // and of its second one
	Refresh int    // seconds
	Data    any
}

// step is a stage on the way to a ticket.
type step int

// The stages.
const (
	stepSeats step = iota + 1
	stepCheck
	stepPay
	stepTickets
)

// messageData is a page that only says something.
type messageData struct {
	Text   string
	Seats  []problem.Seat
	Again  string // path of where to go on
	AndSay string // words of that link
}

func (s *Shop) render(w http.ResponseWriter, r *http.Request, status int, name string, p page) {
	p.Shop, p.Prefix = s.Name, s.Prefix
	p.Key, p.Key2 = uuid.NewString(), uuid.NewString()
	var b bytes.Buffer
	if err := s.pages[name].ExecuteTemplate(&b, "layout", p); err != nil {
		s.Log.ErrorContext(r.Context(), "render page", "page", name, "err", err)
		http.Error(w, "Something went wrong on our side. Nothing was lost; please reload.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	if p.Refresh > 0 {
		h.Set("Refresh", fmt.Sprint(p.Refresh))
	}
	w.WriteHeader(status)
	_, _ = b.WriteTo(w) // the fan is gone when this fails
}

// fail shows a refusal as a page of its own.
func (s *Shop) fail(w http.ResponseWriter, r *http.Request, err error) {
	s.refuse(w, r, err, messageData{Again: "/", AndSay: "See what is on"})
}

// failAt shows a refusal as a page of its own that leads back to the seats of a performance, through its waiting room if it has
// one.
func (s *Shop) failAt(w http.ResponseWriter, r *http.Request, show catalog.Show, err error) {
	s.refuse(w, r, err, messageData{Again: "/performances/" + show.Slug, AndSay: "Choose seats for " + show.Title})
}

func (s *Shop) refuse(w http.ResponseWriter, r *http.Request, err error, d messageData) {
	p := problem.From(err)
	if p.Of(problem.Internal) {
		s.Log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	problem.SetRetryAfter(w.Header(), p)
	read := inWords(p)
	d.Text = read.Text
	out := page{Title: read.Title, Data: d}
	if p.RetryAfter > 0 && r.Method == http.MethodGet {
		out.Refresh = int((p.RetryAfter + 999) / 1000)
	}
	s.render(w, r, p.Status, "message", out)
}

// Money formats minor units for a reader.
func Money(r *http.Request, minor int64, code string) string {
	amount, err := currency.NewAmountFromInt64(minor, code)
	if err != nil {
		return fmt.Sprintf("%d %s", minor, code)
	}
	return currency.NewFormatter(currency.NewLocale(localeOf(r))).Format(amount)
}

// localeOf is the reader's first language, for numbers only: the shop's words are English.
func localeOf(r *http.Request) string {
	tags, _, err := language.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	if err != nil || len(tags) == 0 {
		return "en"
	}
	return tags[0].String()
}

// identify returns who asks and makes sure that they will be recognised.
func (s *Shop) identify(w http.ResponseWriter, r *http.Request) (buyer.Buyer, error) {
	b, err := s.Buyers.Identify(r)
	if err == nil && b.New {
		s.Buyers.Remember(w, r, b)
	}
	return b, err
}

// once makes a form's work happen once, however often it is sent, and answers with a redirect. The error of work is shown by the
// caller and not kept: the fan may choose anew under a new key.
func (s *Shop) once(w http.ResponseWriter, r *http.Request, b buyer.Buyer, work func(ctx context.Context, subject uuid.UUID) (location string, err error)) error {
	key := r.PostForm.Get("key")
	if _, err := uuid.Parse(key); err != nil {
		return problem.New(problem.Malformed, incomplete)
	}
	if b.New {
		return problem.New(problem.CookiesNeeded, "Allow cookies for this site: they are how we know that the seats are yours.")
	}
	var failed error
	answer, _, err := s.Idempotency.Do(r.Context(), b.Principal, key, order.Fingerprint(r.Method, r.URL.Path, []byte(r.PostForm.Encode())),
		func(ctx context.Context, subject uuid.UUID) (order.Answered, bool) {
			location, err := work(ctx, subject)
			if err != nil {
				failed = err
				return order.Answered{}, false
			}
			return order.Answered{Status: http.StatusSeeOther, Header: map[string]string{"Location": location}}, true
		})
	if err = errors.Join(failed, err); err != nil {
		return err
	}
	http.Redirect(w, r, answer.Header["Location"], http.StatusSeeOther)
	return nil
}
