package pspsim

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// SignatureHeader carries a webhook's signature: t=<unix seconds>,v1=<hex of
// HMAC-SHA256 over "t.body">.
const SignatureHeader = "Psp-Signature"

// Sign makes the value of SignatureHeader.
func Sign(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(t + "."))
	m.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(m.Sum(nil))
}

func (s *Server) wakeUp() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// hooksAtOnce bounds webhooks on their way.
const hooksAtOnce = 16

// Run delivers webhooks and lets slow banks answer, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		if err := s.ripen(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("cannot let time pass", "error", err)
		}
		hs, err := s.takeHooks(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Error("cannot read webhooks", "error", err)
		}
		for _, h := range hs {
			wg.Go(func() { s.deliver(ctx, h) })
		}
		if len(hs) == hooksAtOnce {
			wg.Wait()
			continue
		}
		t := time.NewTimer(100 * time.Millisecond)
		select {
		case <-t.C:
		case <-s.poke:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

type hook struct {
	seq   int64
	body  []byte
	tries int
}

// takeHooks takes webhooks that are due and puts their next try off, so that
// one that dies with us is sent again.
func (s *Server) takeHooks(ctx context.Context) ([]hook, error) {
	now := s.now()
	rows, err := s.db.QueryContext(ctx, `UPDATE hook SET tries = tries + 1, next_ms = $1 + $2 * (1 << min(tries, 12))
		WHERE seq IN (SELECT seq FROM hook WHERE next_ms <= $1 ORDER BY next_ms, seq LIMIT $3) RETURNING seq, body, tries`,
		now.UnixMilli(), s.o.Retry.Milliseconds(), hooksAtOnce)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var hs []hook
	for rows.Next() {
		var h hook
		if err := rows.Scan(&h.seq, &h.body, &h.tries); err != nil {
			return nil, err
		}
		hs = append(hs, h)
	}
	return hs, rows.Err()
}

// giveUp is how often a webhook is tried.
const giveUp = 16

func (s *Server) deliver(ctx context.Context, h hook) {
	err := s.post(ctx, h.body)
	if err != nil && h.tries < giveUp {
		s.log.Debug("a webhook was not taken", "tries", h.tries, "error", err)
		return
	}
	if _, err := s.db.ExecContext(context.WithoutCancel(ctx), `DELETE FROM hook WHERE seq = $1`, h.seq); err != nil {
		s.log.Error("a delivered webhook will be sent again", "error", err)
	}
}

func (s *Server) post(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.WebhookURL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(SignatureHeader, Sign(s.o.WebhookSecret, s.now(), body))
	res, err := s.o.Client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxBody)) // so that the connection can be used again
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("the shop answered %d", res.StatusCode)
	}
	return nil
}
