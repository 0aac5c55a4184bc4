package pspsim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/bojanz/currency"
)

//go:embed assets/page.html assets/page.css
var files embed.FS

// pages renders the payment page.
type pages struct {
	tmpl    *template.Template
	css     []byte
	cssName string // with the hash of its content
}

func newPages() (*pages, error) {
	css, err := files.ReadFile("assets/page.css")
	if err != nil {
		return nil, fmt.Errorf("pspsim: %w", err)
	}
	sum := sha256.Sum256(css)
	t, err := template.ParseFS(files, "assets/page.html")
	if err != nil {
		return nil, fmt.Errorf("pspsim: %w", err)
	}
	return &pages{tmpl: t, css: css, cssName: hex.EncodeToString(sum[:8]) + ".css"}, nil
}

func (p *pages) asset(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("name") != p.cssName {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(p.css)
}

// view is what the page shows.
type view struct {
	CSS     string
	Title   string
	Step    string // pay, challenge, waiting, over, home, missing
	In      *Intent
	Amount  string
	Action  string
	Card    string // what was typed, without which a second try is a chore
	Name    string
	Expiry  string
	Faults  map[string]string // field -> what to do about it
	Order   []string          // of the faults, as the fields come
	Failure string
	Back    string
	Cards   []Card
}

// Spaced is a card's number as it is printed.
func (c Card) Spaced() string {
	n := c.Number
	return n[:4] + " " + n[4:8] + " " + n[8:12] + " " + n[12:]
}

func (s *Server) render(w http.ResponseWriter, status int, v view) {
	v.CSS = "/assets/" + s.pages.cssName
	form := "'self'"
	if v.In != nil {
		// A form's answer may lead back to the shop, so the policy must name it.
		if u, err := url.Parse(v.In.ReturnURL); err == nil {
			form += " " + u.Scheme + "://" + u.Host
		}
		v.Back = v.In.ReturnURL
		v.Amount = money(v.In.Amount, v.In.Currency)
	}
	var b bytes.Buffer
	if err := s.pages.tmpl.Execute(&b, v); err != nil {
		s.log.Error("the payment page cannot be rendered", "error", err)
		http.Error(w, "The payment page is out of order.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", policy(form))
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

func money(amount int64, code string) string {
	a, err := currency.NewAmountFromInt64(amount, code)
	if err != nil {
		return fmt.Sprintf("%d %s (minor units)", amount, code)
	}
	return currency.NewFormatter(currency.NewLocale("en")).Format(a)
}

func (s *Server) home(w http.ResponseWriter, _ *http.Request) {
	s.render(w, http.StatusOK, view{Title: "Payment provider simulator", Step: "home", Cards: Cards})
}

// intentOf finds the intent of a payment page; a wrong key is as good as no
// intent.
func (s *Server) intentOf(ctx context.Context, tx *sql.Tx, r *http.Request) (*Intent, error) {
	in, err := s.ripe(ctx, tx, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(in.Private.Key), []byte(r.PathValue("key"))) != 1 {
		return nil, errNoIntent
	}
	return in, nil
}

func (s *Server) pageError(w http.ResponseWriter, err error) {
	if errors.Is(err, errNoIntent) {
		s.render(w, http.StatusNotFound, view{Title: "Payment not found", Step: "missing"})
		return
	}
	s.log.Error("the payment page failed", "error", err)
	http.Error(w, "The payment page is out of order. Nothing was charged by this click; please load it again.", http.StatusInternalServerError)
}

func (s *Server) showPage(w http.ResponseWriter, r *http.Request) {
	var in *Intent
	err := s.tx(r.Context(), func(tx *sql.Tx) (err error) {
		in, err = s.intentOf(r.Context(), tx, r)
		return err
	})
	if err != nil {
		s.pageError(w, err)
		return
	}
	s.show(w, r, in, view{})
}

// show renders the step an intent is at.
func (s *Server) show(w http.ResponseWriter, r *http.Request, in *Intent, v view) {
	v.In, v.Action, v.Cards = in, r.URL.Path, Cards
	status := http.StatusOK
	switch {
	case in.Status == statusAction && in.Private.Challenge:
		v.Title, v.Step = "Confirm your payment", "challenge"
	case in.Status == statusAction:
		v.Title, v.Step = "Pay", "pay"
		if in.LastError != nil && len(v.Faults) == 0 {
			v.Failure = in.LastError.Message + " You have not been charged. Try another card, or go back to the shop."
		}
		if len(v.Faults) > 0 {
			status = http.StatusUnprocessableEntity
		}
	case in.Status == statusProcessing:
		v.Title, v.Step = "Your bank is thinking", "waiting"
		w.Header().Set("Refresh", "2")
	default:
		v.Title, v.Step = "This payment is over", "over"
	}
	s.render(w, status, v)
}

func (s *Server) submitPage(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "The form could not be read. Nothing was charged; please go back and try again.", http.StatusBadRequest)
		return
	}
	var in *Intent
	var v view
	var back bool
	err := s.tx(r.Context(), func(tx *sql.Tx) (err error) {
		ctx := r.Context()
		if in, err = s.intentOf(ctx, tx, r); err != nil {
			return err
		}
		if in.Status != statusAction { // sent twice, or the back button
			back = true
			return nil
		}
		switch r.PostForm.Get("do") {
		case "cancel":
			s.end(in, statusCanceled)
			in.CanceledBecause = "abandoned"
			back = true
			return s.changed(ctx, tx, in)
		case "confirm", "refuse":
			if !in.Private.Challenge {
				return nil
			}
			if r.PostForm.Get("do") == "refuse" {
				in.Private.Challenge = false
				in.LastError = &APIError{Type: "card_error", Code: "authentication_failed", Message: "The bank could not confirm that it is you."}
			} else {
				s.authorise(in)
				back = true
			}
			return s.changed(ctx, tx, in)
		}
		var card Card
		if card, v = s.checkForm(r.PostForm); len(v.Faults) > 0 {
			return nil
		}
		if err := s.charge(ctx, tx, in, card); err != nil {
			return err
		}
		back = in.Status != statusAction && in.Status != statusProcessing
		return nil
	})
	if err != nil {
		s.pageError(w, err)
		return
	}
	s.wakeUp()
	switch {
	case back:
		http.Redirect(w, r, in.ReturnURL, http.StatusSeeOther)
	case len(v.Faults) > 0:
		s.show(w, r, in, v)
	default:
		http.Redirect(w, r, r.URL.Path, http.StatusSeeOther) // so that a reload does not send the form again
	}
}

var (
	cvcForm    = regexp.MustCompile(`^[0-9]{3,4}$`)
	expiryForm = regexp.MustCompile(`^(0[1-9]|1[0-2]) ?/ ?([0-9]{2})$`)
)

// checkForm reads the card; everything wrong is said at once, and what was
// typed is kept, except for the security code.
func (s *Server) checkForm(f url.Values) (Card, view) {
	v := view{Card: f.Get("card"), Name: f.Get("name"), Expiry: f.Get("expiry"), Faults: map[string]string{}}
	fault := func(field, what string) {
		v.Faults[field] = what
		v.Order = append(v.Order, field)
	}
	card, ok := cardOf(v.Card)
	if !ok {
		fault("card", "Use one of the test card numbers below. Never type a real one here.")
	}
	if m := expiryForm.FindStringSubmatch(strings.TrimSpace(v.Expiry)); m == nil {
		fault("expiry", "Write month and year, such as 12/34.")
	} else {
		month, _ := strconv.Atoi(m[1])
		year, _ := strconv.Atoi(m[2])
		if end := time.Date(2000+year, time.Month(month)+1, 1, 0, 0, 0, 0, time.UTC); !s.now().Before(end) {
			fault("expiry", "This date is over. Use one in the future.")
		}
	}
	if !cvcForm.MatchString(strings.TrimSpace(f.Get("cvc"))) {
		fault("cvc", "Write the three or four digits of the security code. Any do.")
	}
	return card, v
}
