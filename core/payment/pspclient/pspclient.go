// Package pspclient speaks to the payment provider (the simulator of
// payment/pspsim, whose API is in the style of the field) and implements
// payment.Provider.
package pspclient

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/payment"
)

// Options configures a Client.
type Options struct {
	Name           string   // of the provider, a part of webhook paths; default "simulator"
	URL            string   // of the API, without /v1
	SecretKey      string   // bearer token
	WebhookSecrets []string // those that may sign a webhook: the one in use and, while it changes, the next
	HTTP           *http.Client
	Now            func() time.Time
	// Tolerance is how old a webhook's signature may be; 0 = 5 min.
	Tolerance time.Duration
}

// Client implements payment.Provider. Safe for concurrent use.
type Client struct{ o Options }

var _ payment.Provider = (*Client)(nil)

// New returns a Client.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("pspclient: URL %q is not absolute", o.URL)
	}
	if o.SecretKey == "" || len(o.WebhookSecrets) == 0 {
		return nil, errors.New("pspclient: a secret key and a webhook secret are needed")
	}
	o.URL = strings.TrimSuffix(o.URL, "/")
	if o.Name == "" {
		o.Name = "simulator"
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{} // every call brings a deadline
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Tolerance <= 0 {
		o.Tolerance = 5 * time.Minute
	}
	return &Client{o}, nil
}

// Name implements payment.Provider.
func (c *Client) Name() string { return c.o.Name }

type intent struct {
	ID               string            `json:"id"`
	Status           string            `json:"status"`
	Amount           int64             `json:"amount"`
	AmountCapturable int64             `json:"amount_capturable"`
	AmountReceived   int64             `json:"amount_received"`
	AmountRefunded   int64             `json:"amount_refunded"`
	Currency         string            `json:"currency"`
	CanceledBecause  string            `json:"cancellation_reason"`
	CaptureBefore    time.Time         `json:"capture_before"`
	Metadata         map[string]string `json:"metadata"`
	NextAction       struct {
		URL string `json:"url"`
	} `json:"next_action"`
	LastError struct {
		Code string `json:"code"`
	} `json:"last_payment_error"`
}

func (in intent) snapshot() payment.Snapshot {
	s := payment.Snapshot{Ref: in.ID, Currency: in.Currency, Amount: in.Amount, Authorised: in.AmountCapturable, Captured: in.AmountReceived,
		Refunded: in.AmountRefunded, NextAction: in.NextAction.URL, FailureCode: in.LastError.Code, CaptureBefore: in.CaptureBefore}
	s.PaymentID, _ = uuid.Parse(in.Metadata["payment_id"]) // an intent that is not ours has none
	switch in.Status {
	case "requires_action":
		s.Status = payment.StatusAsked
	case "processing":
		s.Status = payment.StatusProcessing
	case "requires_capture":
		s.Status = payment.StatusAuthorised
	case "succeeded":
		s.Status, s.Authorised = payment.StatusCaptured, in.AmountReceived
	case "failed":
		s.Status = payment.StatusFailed
	case "canceled":
		s.Status = payment.StatusVoided
		switch in.CanceledBecause {
		case "expired":
			s.Status = payment.StatusLapsed
		case "abandoned": // by the fan, on the provider's page
			s.Status, s.FailureCode = payment.StatusFailed, "abandoned"
		}
	default:
		s.Status = payment.Status(in.Status) // unknown: payment.Apply refuses it
	}
	return s
}

// Create implements payment.Provider.
func (c *Client) Create(ctx context.Context, in payment.Intent) (payment.Snapshot, error) {
	return c.intent(ctx, "/v1/payment_intents", in.Key, map[string]any{
		"amount": in.Amount, "currency": in.Currency, "capture_method": "manual", "description": in.Description, "payment_method": in.Method,
		"return_url": in.ReturnURL, "metadata": map[string]string{"payment_id": in.PaymentID.String(), "order_id": in.OrderID.String()},
	})
}

// Capture implements payment.Provider.
func (c *Client) Capture(ctx context.Context, ref, key string, amount int64) (payment.Snapshot, error) {
	return c.intent(ctx, "/v1/payment_intents/"+url.PathEscape(ref)+"/capture", key, map[string]any{"amount_to_capture": amount})
}

// Void implements payment.Provider.
func (c *Client) Void(ctx context.Context, ref, key string) (payment.Snapshot, error) {
	return c.intent(ctx, "/v1/payment_intents/"+url.PathEscape(ref)+"/cancel", key, map[string]any{"cancellation_reason": "requested_by_shop"})
}

// Fetch implements payment.Provider.
func (c *Client) Fetch(ctx context.Context, ref string) (payment.Snapshot, error) {
	var in intent
	err := c.do(ctx, http.MethodGet, "/v1/payment_intents/"+url.PathEscape(ref), "", nil, &in)
	return in.snapshot(), err
}

// Find implements payment.Provider.
func (c *Client) Find(ctx context.Context, id uuid.UUID) (payment.Snapshot, error) {
	var list struct {
		Data []intent `json:"data"`
	}
	q := url.Values{"metadata[payment_id]": {id.String()}}
	if err := c.do(ctx, http.MethodGet, "/v1/payment_intents?"+q.Encode(), "", nil, &list); err != nil {
		return payment.Snapshot{}, err
	}
	if len(list.Data) == 0 {
		return payment.Snapshot{}, payment.ErrNoObject
	}
	return list.Data[0].snapshot(), nil
}

// Refund implements payment.Provider.
func (c *Client) Refund(ctx context.Context, ref, key string, amount int64) (payment.RefundSnapshot, error) {
	var r struct {
		ID     string `json:"id"`
		Status string `json:"status"`
		Reason string `json:"failure_reason"`
	}
	if err := c.do(ctx, http.MethodPost, "/v1/refunds", key, map[string]any{"payment_intent": ref, "amount": amount}, &r); err != nil {
		return payment.RefundSnapshot{}, err
	}
	if r.Status == "pending" { // a repeated call gets the old answer; the object knows better
		if err := c.do(ctx, http.MethodGet, "/v1/refunds/"+url.PathEscape(r.ID), "", nil, &r); err != nil {
			return payment.RefundSnapshot{}, err
		}
	}
	s := payment.RefundSnapshot{Ref: r.ID, State: payment.RefundSent, Code: r.Reason}
	switch r.Status {
	case "succeeded":
		s.State = payment.RefundDone
	case "failed":
		s.State = payment.RefundFailed
	}
	return s, nil
}

func (c *Client) intent(ctx context.Context, path, key string, body any) (payment.Snapshot, error) {
	var in intent
	err := c.do(ctx, http.MethodPost, path, key, body, &in)
	return in.snapshot(), err
}

const maxAnswer = 1 << 20

// do makes a call. Only a well-formed answer that refuses is a refusal; all
// else leaves the outcome unknown.
func (c *Client) do(ctx context.Context, method, path, key string, body, into any) error {
	var b io.Reader
	if body != nil {
		j, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode a call to the provider: %w", err)
		}
		b = bytes.NewReader(j)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.o.URL+path, b)
	if err != nil {
		return fmt.Errorf("make a call to the provider: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+c.o.SecretKey)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", key)
	}
	res, err := c.o.HTTP.Do(r)
	if err != nil {
		return fmt.Errorf("call the provider: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the provider's answer: %w", err)
	}
	if res.StatusCode/100 == 2 {
		if err := json.Unmarshal(answer, into); err != nil {
			return fmt.Errorf("read the provider's answer: %w", err)
		}
		return nil
	}
	var e struct {
		Error struct{ Type, Code, Message string }
	}
	if err := json.Unmarshal(answer, &e); err != nil || e.Error.Code == "" {
		return fmt.Errorf("the provider answered %d with something that is not its own", res.StatusCode)
	}
	switch {
	case res.StatusCode == http.StatusNotFound && method == http.MethodGet:
		return payment.ErrNoObject
	case res.StatusCode >= 500, res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusUnauthorized, e.Error.Type == "idempotency_error":
		// Not about the payment: our key or configuration is wrong, or the
		// provider is unwell. Asking again later may help.
		return fmt.Errorf("the provider answered %d %s: %s", res.StatusCode, e.Error.Code, e.Error.Message)
	}
	return &payment.Refusal{Code: e.Error.Code, Message: e.Error.Message}
}

// SignatureHeader carries a webhook's signature.
const SignatureHeader = "Psp-Signature"

// Verify implements payment.Provider.
func (c *Client) Verify(header map[string][]string, body []byte) (payment.Notice, error) {
	at, given, ok := signature(http.Header(header).Get(SignatureHeader))
	if !ok || c.o.Now().Sub(at).Abs() > c.o.Tolerance {
		return payment.Notice{}, payment.ErrBadSignature
	}
	good := false
	for _, secret := range c.o.WebhookSecrets {
		m := hmac.New(sha256.New, []byte(secret))
		m.Write([]byte(strconv.FormatInt(at.Unix(), 10) + "."))
		m.Write(body)
		good = hmac.Equal(m.Sum(nil), given) || good
	}
	if !good {
		return payment.Notice{}, payment.ErrBadSignature
	}
	var e struct {
		ID   string `json:"id"`
		Type string `json:"type"`
		Data struct {
			Object intent `json:"object"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &e); err != nil || e.ID == "" || e.Data.Object.ID == "" {
		return payment.Notice{}, fmt.Errorf("a signed webhook is not an event of this API: %w", payment.ErrBadSignature)
	}
	s := e.Data.Object.snapshot()
	return payment.Notice{EventID: e.ID, Type: e.Type, Ref: s.Ref, PaymentID: s.PaymentID}, nil
}

// signature reads "t=…,v1=…".
func signature(h string) (at time.Time, mac []byte, ok bool) {
	if len(h) > 256 {
		return at, nil, false
	}
	for part := range strings.SplitSeq(h, ",") {
		k, v, _ := strings.Cut(part, "=")
		switch k {
		case "t":
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return at, nil, false
			}
			at = time.Unix(n, 0)
		case "v1":
			b, err := hex.DecodeString(v)
			if err != nil {
				return at, nil, false
			}
			mac = b
		}
	}
	return at, mac, !at.IsZero() && len(mac) == sha256.Size
}
