package payment

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// ErrMismatch is returned by Apply for an object that is not this payment's:
// its amount, currency or metadata differ. It is an alarm, never applied.
var ErrMismatch = errors.New("the provider's object does not fit the payment")

// seen maps what the provider shows to the machine's events.
var seen = map[Status]Event{
	StatusAsked:      SawAsked,
	StatusAuthorised: SawAuthorised,
	StatusCaptured:   SawCaptured,
	StatusFailed:     SawFailed,
	StatusVoided:     SawVoided,
	StatusLapsed:     SawLapsed,
}

// Apply is what a fresh look at the provider's object makes of a payment. It
// is pure. StatusProcessing changes nothing but what is known of the object. A
// state the machine refuses is an older view, and p comes back with its old
// state and no error: the caller applies only looks that began after the last
// change of p, so this is a provider that lags behind itself.
func Apply(p Payment, s Snapshot) (Payment, error) {
	if s.Amount != p.Amount || s.Currency != p.Currency ||
		(s.PaymentID != uuid.Nil && s.PaymentID != p.ID) ||
		(p.Ref != "" && s.Ref != "" && s.Ref != p.Ref) {
		return p, fmt.Errorf("payment %s: %w", p.ID, ErrMismatch)
	}
	if p.Ref == "" {
		p.Ref = s.Ref
	}
	if s.Status == StatusProcessing {
		return p, nil
	}
	ev, ok := seen[s.Status]
	if !ok {
		return p, fmt.Errorf("payment %s: unknown status %q of the provider", p.ID, s.Status)
	}
	to, err := Next(p.State, ev)
	if err != nil {
		return p, nil
	}
	p.State = to
	p.UnknownSince = time.Time{}
	p.NextAction = ""
	switch to {
	case Asked:
		p.NextAction = s.NextAction
	case Authorised, Capturing:
		p.Authorised = s.Authorised
		p.CaptureBefore = s.CaptureBefore
	case Captured:
		p.Captured = s.Captured
		// Methods that take the money by themselves never authorise.
		p.Authorised = max(p.Authorised, s.Authorised, s.Captured)
	case Failed:
		p.FailureCode = s.FailureCode
	}
	return p, nil
}

// Key is the provider's idempotency key of a call that belongs to a payment or
// refund id. It derives from the id alone, so that every repetition, by
// whatever process, is the same call.
func Key(id uuid.UUID, k Kind, attempt int) string {
	if attempt > 1 {
		return fmt.Sprintf("stn-%s-%s-%d", id, k, attempt)
	}
	return fmt.Sprintf("stn-%s-%s", id, k)
}

// KeyLifetime is how long providers remember idempotency keys. A call that is
// still unknown after it must only be looked for, never sent again.
const KeyLifetime = 24 * time.Hour
