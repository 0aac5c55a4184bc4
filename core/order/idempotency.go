package order

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Answered is a stored HTTP answer.
type Answered struct {
	Status int
	Header map[string]string // the few headers a repetition must have, such as Location
	Body   []byte
}

// Idempotency makes a write happen once per (principal, key), however often it
// is sent. It is safe for concurrent use.
//
// A key also owns a subject: an id made with the key, before anything else
// happens. Handlers use it as the id of what they make, so that a repetition
// after a crash finds the first attempt's hold or order instead of making a
// second one.
type Idempotency struct {
	Store KeyStore
	Now   func() time.Time
	// Lock is how long one attempt may take before a repetition takes over.
	Lock time.Duration
	// Live is how long a key is remembered; 0 = 48 h.
	Live time.Duration
}

// Run forgets old keys, until ctx ends.
func (i *Idempotency) Run(ctx context.Context) error {
	live := i.Live
	if live <= 0 {
		live = 48 * time.Hour
	}
	t := time.NewTicker(min(live, 10*time.Minute))
	defer t.Stop()
	for {
		// What cannot be forgotten now is forgotten next time.
		_ = i.Store.PruneKeys(ctx, i.Now().Add(-live))
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Fingerprint of a request: its method, path and body.
func Fingerprint(method, path string, body []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n", method, path)
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// Do runs work once for the key, and returns its answer or, of a repetition,
// the stored one with replayed = true. work's keep = false says that the
// answer is not final (an unknown outcome, an overload): it is returned but
// not stored, and the next repetition works again with the same subject. The
// errors of Do itself are ErrKeyReused, *KeyInFlight and those of the store.
func (i *Idempotency) Do(ctx context.Context, who Principal, key, fingerprint string,
	work func(ctx context.Context, subject uuid.UUID) (a Answered, keep bool)) (a Answered, replayed bool, err error) {

	now := i.Now()
	subject, err := uuid.NewV7()
	if err != nil {
		return Answered{}, false, fmt.Errorf("make an id: %w", err)
	}
	want := KeyState{Fingerprint: fingerprint, Owner: uuid.New(), LockedUntil: now.Add(i.Lock), Subject: subject}
	got, taken, err := i.Store.TakeKey(ctx, who, key, want, now)
	if err != nil {
		return Answered{}, false, fmt.Errorf("take the idempotency key: %w", err)
	}
	switch {
	case got.Fingerprint != fingerprint:
		return Answered{}, false, ErrKeyReused
	case got.Done:
		return got.Answer, true, nil
	case !taken:
		return Answered{}, false, &KeyInFlight{RetryAfter: max(got.LockedUntil.Sub(now), time.Second)}
	}

	// A fan who goes away does not stop the work, and must find its answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.Lock)
	defer cancel()
	finished := false
	defer func() {
		if !finished {
			// Also after a panic that a server recovers. Should it fail, the
			// lock ends by itself.
			_ = i.Store.LeaveKey(ctx, who, key, want.Owner)
		}
	}()
	a, keep := work(ctx, got.Subject)
	if !keep {
		return a, false, nil
	}
	if err := i.Store.FinishKey(ctx, who, key, want.Owner, a); err != nil {
		return Answered{}, false, fmt.Errorf("store the answer: %w", err)
	}
	finished = true
	return a, false, nil
}
