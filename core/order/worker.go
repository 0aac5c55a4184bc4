package order

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/payment"
)

// drivers is how many orders the worker of one process drives at once.
const drivers = 8

// Run continues unfinished orders until ctx ends: those whose time has come,
// those a webhook is about, and those whose driver died. Several processes may
// run it on one store.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.rematch(ctx) })
	defer wg.Wait()
	slots := make(chan struct{}, drivers)
	for {
		ids, err := s.store.Due(ctx, s.now(), s.t.DriveLease, drivers)
		if err != nil && ctx.Err() == nil {
			s.log.Error("cannot read which orders are due", "error", err)
		}
		for _, id := range ids {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			wg.Go(func() {
				defer func() { <-slots }()
				if _, err := s.driveAlone(ctx, id); err != nil && ctx.Err() == nil {
					s.log.Error("cannot continue an order now", "order", id, "error", err)
				}
			})
		}
		if len(ids) == drivers {
			continue
		}
		t := time.NewTimer(s.nap(ctx, err))
		select {
		case <-t.C:
		case <-s.wake:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// nap says how long nothing is due. It is bounded, because other processes
// also write orders.
func (s *Service) nap(ctx context.Context, failed error) time.Duration {
	const longest, shortest = time.Second, 5 * time.Millisecond
	if failed != nil {
		return longest
	}
	at, err := s.store.NextDue(ctx)
	if err != nil || at.IsZero() {
		s.met.overdue.Set(0)
		return longest
	}
	d := at.Sub(s.now())
	s.met.overdue.Set(max(-d.Seconds(), 0))
	return min(max(d, shortest), longest)
}

// Drive continues one order now. It is what Run does for every due order.
func (s *Service) Drive(ctx context.Context, id uuid.UUID) (Order, error) {
	return s.driveAlone(ctx, id)
}

// Webhook takes a provider's webhook: nil means it is stored and will be acted
// upon (answer 200). It may be repeated. payment.ErrBadSignature is 400;
// ErrNotFound: there is no such provider.
func (s *Service) Webhook(ctx context.Context, provider string, header map[string][]string, body []byte) error {
	prov, ok := s.providers[provider]
	if !ok {
		return ErrNotFound
	}
	n, err := prov.Verify(header, body)
	if err != nil {
		return err
	}
	w := payment.Webhook{Provider: provider, EventID: n.EventID, Type: n.Type, Ref: n.Ref, PaymentID: n.PaymentID, Body: body, Received: s.now()}
	open, err := s.store.AddWebhook(ctx, w)
	if err != nil {
		return fmt.Errorf("store a webhook: %w", err)
	}
	s.at(PointWebhookStored)
	if !open {
		return nil
	}
	if err := s.match(ctx, w); err != nil {
		s.log.Warn("a stored webhook must be matched later", "provider", provider, "event", w.EventID, "error", err)
	}
	return nil
}

// match tells the order of a webhook to look at its payment.
func (s *Service) match(ctx context.Context, w payment.Webhook) error {
	order, pay, ok, err := s.store.OrderOf(ctx, w.Provider, w.Ref, w.PaymentID)
	if err != nil {
		return err
	}
	if !ok {
		if s.now().Sub(w.Received) < payment.KeyLifetime {
			return nil // it may be faster than the answer that names its payment
		}
		s.met.alarms.WithLabelValues("webhook-unmatched").Inc()
		return s.store.CloseWebhook(ctx, w.Provider, w.EventID, uuid.Nil)
	}
	if err := s.look(ctx, order, pay); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return s.store.CloseWebhook(ctx, w.Provider, w.EventID, pay)
}

// rematch acts upon stored webhooks that nobody has acted upon.
func (s *Service) rematch(ctx context.Context) {
	t := time.NewTicker(s.t.WebhookRetry)
	defer t.Stop()
	for {
		ws, err := s.store.OpenWebhooks(ctx, 256)
		if err != nil && ctx.Err() == nil {
			s.log.Error("cannot read stored webhooks", "error", err)
		}
		for _, w := range ws {
			if err := s.match(ctx, w); err != nil && ctx.Err() == nil {
				s.log.Warn("a stored webhook must be matched later", "provider", w.Provider, "event", w.EventID, "error", err)
			}
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}
