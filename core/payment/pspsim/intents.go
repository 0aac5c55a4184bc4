package pspsim

import (
	"context"
	"database/sql"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"time"
)

// newIntent is what POST /v1/payment_intents takes.
type newIntent struct {
	Amount        int64             `json:"amount"`
	Currency      string            `json:"currency"`
	CaptureMethod string            `json:"capture_method"`
	Description   string            `json:"description"`
	PaymentMethod string            `json:"payment_method"` // "", or card_ with a test card's number
	ReturnURL     string            `json:"return_url"`
	Metadata      map[string]string `json:"metadata"`
}

var currencyCode = regexp.MustCompile(`^[A-Z]{3}$`)

const maxAmount = 99_999_999_99

func (s *Server) createIntent(ctx context.Context, c call) (any, error) {
	var n newIntent
	if err := c.decode(&n); err != nil {
		return nil, err
	}
	u, err := url.Parse(n.ReturnURL)
	switch {
	case n.Amount <= 0 || n.Amount > maxAmount:
		return nil, bad(http.StatusBadRequest, "amount", "the amount must be between 1 and %d minor units", int64(maxAmount))
	case !currencyCode.MatchString(n.Currency):
		return nil, bad(http.StatusBadRequest, "currency", "the currency must be three capital letters")
	case n.CaptureMethod != "manual":
		return nil, bad(http.StatusBadRequest, "capture_method", "only manual capture is offered")
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return nil, bad(http.StatusBadRequest, "return_url", "the return_url must be an absolute http or https URL")
	case len(n.Description) > 500 || len(n.Metadata) > 20:
		return nil, bad(http.StatusBadRequest, "too_long", "the description may have 500 bytes, the metadata 20 entries")
	}
	in := &Intent{ID: newID("pi_"), Object: "payment_intent", Amount: n.Amount, Currency: n.Currency, Status: statusAction, CaptureMethod: n.CaptureMethod,
		Description: n.Description, Metadata: n.Metadata, ReturnURL: n.ReturnURL, Created: s.now().UTC(), Private: private{Key: newID("")}}
	in.NextAction = &NextAction{Type: "redirect_to_url", URL: s.o.PublicURL + "/pay/" + in.ID + "/" + in.Private.Key}
	if n.PaymentMethod != "" { // a saved card: no page needed, unless the bank wants one
		card, ok := cardOf(n.PaymentMethod)
		if !ok {
			return nil, bad(http.StatusBadRequest, "payment_method", "only numbers of test cards are known here")
		}
		if err := s.charge(ctx, txOf(ctx), in, card); err != nil {
			return nil, err
		}
		return in, nil
	}
	return in, putIntent(ctx, txOf(ctx), in)
}

// charge lets a card's bank decide about an intent, and stores it.
func (s *Server) charge(ctx context.Context, tx *sql.Tx, in *Intent, c Card) error {
	in.Private.Behaviour, in.Card, in.LastError = c.Behaviour, c.Number[len(c.Number)-4:], nil
	in.Private.Challenge = false
	decline := func(code, message string) {
		in.LastError = &APIError{Type: "card_error", Code: code, Message: message}
	}
	switch c.Behaviour {
	case declines:
		decline("card_declined", "The bank declined the card.")
	case insufficient:
		decline("insufficient_funds", "The card has not enough money.")
	case stolen:
		decline("stolen_card", "The card was reported stolen.")
		s.end(in, statusFailed)
	case challenges:
		in.Private.Challenge = true
	case slow, slowDeclines:
		at := s.now().Add(s.o.SlowBank)
		in.Status, in.Private.DueAt = statusProcessing, &at
	case selfCaptures:
		s.succeed(in)
	default:
		s.authorise(in)
	}
	return s.changed(ctx, tx, in)
}

func (s *Server) authorise(in *Intent) {
	before := s.now().Add(s.o.AuthorisationLives).UTC()
	in.Status, in.AmountCapturable, in.CaptureBefore = statusCapture, in.Amount, &before
	in.NextAction, in.LastError, in.Private.Challenge, in.Private.DueAt = nil, nil, false, nil
}

func (s *Server) succeed(in *Intent) {
	s.end(in, statusSucceeded)
	in.AmountReceived, in.LastError = in.Amount, nil
}

func (s *Server) end(in *Intent, status string) {
	in.Status, in.AmountCapturable, in.CaptureBefore, in.NextAction = status, 0, nil, nil
	in.Private.Challenge, in.Private.DueAt = false, nil
}

// changed stores an intent and queues the webhook that says so.
func (s *Server) changed(ctx context.Context, tx *sql.Tx, in *Intent) error {
	if err := putIntent(ctx, tx, in); err != nil {
		return err
	}
	types := map[string]string{
		statusAction:     "payment_intent.requires_action",
		statusProcessing: "payment_intent.processing",
		statusCapture:    "payment_intent.amount_capturable_updated",
		statusSucceeded:  "payment_intent.succeeded",
		statusCanceled:   "payment_intent.canceled",
		statusFailed:     "payment_intent.payment_failed",
	}
	return s.queueHook(ctx, tx, types[in.Status], in)
}

// mature lets time pass for an intent: a slow bank answers, an authorisation
// lapses. It says whether anything changed.
func (s *Server) mature(in *Intent) bool {
	now := s.now()
	switch {
	case in.Status == statusProcessing && in.Private.DueAt != nil && !now.Before(*in.Private.DueAt):
		if in.Private.Behaviour == slowDeclines {
			s.end(in, statusFailed)
			in.LastError = &APIError{Type: "card_error", Code: "card_declined", Message: "The bank declined the card."}
		} else {
			s.authorise(in)
		}
		return true
	case in.Status == statusCapture && in.CaptureBefore != nil && now.After(*in.CaptureBefore):
		s.end(in, statusCanceled)
		in.CanceledBecause = "expired"
		return true
	}
	return false
}

// ripe reads an intent as it is now, in a transaction.
func (s *Server) ripe(ctx context.Context, tx *sql.Tx, id string) (*Intent, error) {
	in, err := readIntent(ctx, tx, "id = $1", id)
	if err != nil {
		return nil, err
	}
	if s.mature(in) {
		return in, s.changed(ctx, tx, in)
	}
	return in, nil
}

func (s *Server) getIntent(ctx context.Context, c call) (any, error) {
	var in *Intent
	err := s.tx(ctx, func(tx *sql.Tx) (err error) {
		in, err = s.ripe(ctx, tx, c.r.PathValue("id"))
		return err
	})
	return in, err
}

func (s *Server) listIntents(ctx context.Context, c call) (any, error) {
	id := c.r.URL.Query().Get("metadata[payment_id]")
	if id == "" {
		return nil, bad(http.StatusBadRequest, "metadata", "ask for metadata[payment_id]")
	}
	list := struct {
		Object string    `json:"object"`
		Data   []*Intent `json:"data"`
	}{Object: "list", Data: []*Intent{}}
	err := s.tx(ctx, func(tx *sql.Tx) error {
		in, err := readIntent(ctx, tx, "payment_id = $1", id)
		if err == errNoIntent {
			return nil
		}
		if err != nil {
			return err
		}
		if s.mature(in) {
			err = s.changed(ctx, tx, in)
		}
		list.Data = append(list.Data, in)
		return err
	})
	return list, err
}

func (s *Server) captureIntent(ctx context.Context, c call) (any, error) {
	var b struct {
		Amount int64 `json:"amount_to_capture"`
	}
	if err := c.decode(&b); err != nil {
		return nil, err
	}
	tx := txOf(ctx)
	in, err := s.ripe(ctx, tx, c.r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	switch {
	case in.Status != statusCapture:
		return nil, bad(http.StatusConflict, "intent_not_capturable", "an intent that is %s cannot be captured", in.Status)
	case b.Amount <= 0 || b.Amount > in.AmountCapturable:
		return nil, bad(http.StatusBadRequest, "amount_too_large", "between 1 and %d can be captured", in.AmountCapturable)
	case in.Private.Behaviour == refusesCapture:
		s.end(in, statusFailed)
		in.LastError = &APIError{Type: "card_error", Code: "capture_refused", Message: "The bank will not give the money."}
		if err := s.changed(ctx, tx, in); err != nil {
			return nil, err
		}
		return nil, bad(http.StatusConflict, "capture_refused", "the bank will not give the money")
	}
	s.end(in, statusSucceeded)
	in.AmountReceived = b.Amount
	return in, s.changed(ctx, tx, in)
}

// silent says whether the answer to this call is lost because of the card: the
// first answer to a capture with a silent card is.
func (s *Server) silent(ctx context.Context, c call, body []byte) bool {
	id := c.r.PathValue("id")
	if id == "" {
		return false
	}
	in, err := readIntent(ctx, s.db, "id = $1", id)
	if err != nil || in.Private.Behaviour != silentCapture || in.Status != statusSucceeded {
		return false
	}
	res, err := s.db.ExecContext(ctx, `UPDATE answered SET silent = 1 WHERE key = $1 AND silent = 0`, c.key)
	if err != nil {
		return false
	}
	n, err := res.RowsAffected()
	return err == nil && n == 1
}

func (s *Server) cancelIntent(ctx context.Context, c call) (any, error) {
	var b struct {
		Because string `json:"cancellation_reason"`
	}
	if err := c.decode(&b); err != nil {
		return nil, err
	}
	tx := txOf(ctx)
	in, err := s.ripe(ctx, tx, c.r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	switch in.Status {
	case statusAction, statusCapture:
	case statusCanceled, statusFailed:
		return in, nil
	default:
		return nil, bad(http.StatusConflict, "intent_not_cancelable", "an intent that is %s cannot be cancelled", in.Status)
	}
	s.end(in, statusCanceled)
	in.CanceledBecause = b.Because
	return in, s.changed(ctx, tx, in)
}

func (s *Server) createRefund(ctx context.Context, c call) (any, error) {
	var b struct {
		Intent string `json:"payment_intent"`
		Amount int64  `json:"amount"`
	}
	if err := c.decode(&b); err != nil {
		return nil, err
	}
	tx := txOf(ctx)
	in, err := s.ripe(ctx, tx, b.Intent)
	if err != nil {
		return nil, err
	}
	if in.Status != statusSucceeded {
		return nil, bad(http.StatusConflict, "charge_not_refundable", "an intent that is %s has nothing to refund", in.Status)
	}
	if left := in.AmountReceived - in.AmountRefunded; b.Amount <= 0 || b.Amount > left {
		return nil, bad(http.StatusBadRequest, "amount_too_large", "between 1 and %d can be refunded", left)
	}
	r := &Refund{ID: newID("re_"), Object: "refund", PaymentIntent: in.ID, Amount: b.Amount, Status: "succeeded", Created: s.now().UTC()}
	switch in.Private.Behaviour {
	case refundPends:
		at := s.now().Add(s.o.SlowBank)
		r.Status, r.dueAt = "pending", &at
	case refundFails:
		r.Status, r.FailureReason = "failed", "lost_or_stolen_card"
	}
	if r.Status != "failed" {
		in.AmountRefunded += r.Amount
	}
	if err := putIntent(ctx, tx, in); err != nil {
		return nil, err
	}
	return r, s.refundChanged(ctx, tx, r, in)
}

func (s *Server) refundChanged(ctx context.Context, tx *sql.Tx, r *Refund, in *Intent) error {
	if err := putRefund(ctx, tx, r); err != nil {
		return err
	}
	return s.queueHook(ctx, tx, "refund.updated", in)
}

func (s *Server) getRefund(ctx context.Context, c call) (any, error) {
	var r *Refund
	err := s.tx(ctx, func(tx *sql.Tx) (err error) {
		r, err = s.ripeRefund(ctx, tx, c.r.PathValue("id"))
		return err
	})
	return r, err
}

// ripeRefund reads a refund as it is now.
func (s *Server) ripeRefund(ctx context.Context, tx *sql.Tx, id string) (*Refund, error) {
	r, err := readRefund(ctx, tx, id)
	if err != nil || r.dueAt == nil || s.now().Before(*r.dueAt) {
		return r, err
	}
	in, err := readIntent(ctx, tx, "id = $1", r.PaymentIntent)
	if err != nil {
		return nil, err
	}
	r.Status, r.dueAt = "succeeded", nil
	return r, s.refundChanged(ctx, tx, r, in)
}

// ripen lets time pass for everything that is due.
func (s *Server) ripen(ctx context.Context) error {
	now := s.now().UnixMilli()
	return s.tx(ctx, func(tx *sql.Tx) error {
		ids, err := column(ctx, tx, `SELECT id FROM intent WHERE due_ms <= $1 LIMIT 100`, now)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := s.ripe(ctx, tx, id); err != nil {
				return err
			}
		}
		ids, err = column(ctx, tx, `SELECT id FROM refund WHERE due_ms <= $1 LIMIT 100`, now)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := s.ripeRefund(ctx, tx, id); err != nil {
				return err
			}
		}
		return nil
	})
}

func column(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]string, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []string
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// event is a webhook's body.
type event struct {
	ID      string    `json:"id"`
	Object  string    `json:"object"`
	Type    string    `json:"type"`
	Created time.Time `json:"created"`
	Data    struct {
		Object *Intent `json:"object"`
	} `json:"data"`
}

func (s *Server) queueHook(ctx context.Context, tx *sql.Tx, kind string, in *Intent) error {
	if s.o.WebhookURL == "" {
		return nil
	}
	copies, delay := s.dice.hook()
	e := event{ID: newID("evt_"), Object: "event", Type: kind, Created: s.now().UTC()}
	e.Data.Object = in
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	for range copies {
		if _, err := tx.ExecContext(ctx, `INSERT INTO hook (id, body, tries, next_ms) VALUES ($1, $2, 0, $3)`, e.ID, body, s.now().Add(delay).UnixMilli()); err != nil {
			return err
		}
	}
	return nil
}
