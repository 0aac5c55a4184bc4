package ticketing

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
)

// Errors of Service; test with errors.Is.
var (
	ErrNoTicket = errors.New("no such ticket")
	ErrRevoked  = errors.New("the ticket was revoked")
	ErrNotPaid  = errors.New("the order is not paid")
	ErrBadScan  = errors.New("a scan needs a gate and a nonce of 1 to 64 letters, digits, dots, dashes or underscores")
)

// Issued is a ticket row as it was made when its order was paid.
type Issued struct {
	Ticket
	OrderID uuid.UUID
	Label   string // "Stalls, row C, seat 12"
	Issued  time.Time
	Revoked bool
}

// Scan is one look at a code at a gate.
type Scan struct {
	Nonce    string // drawn by the scanner; a repeated scan with the same nonce gets the same answer
	Gate     string
	Ticket   uuid.UUID // zero when the code was not readable
	Accepted bool
	Reason   Reason
	At       time.Time
	FirstAt  time.Time // when the ticket was let in, with ReasonUsed
	FirstAtG string    // at which gate
}

// Reason says why a scan was refused.
type Reason string

// The reasons of a refusal.
const (
	ReasonNone        Reason = ""
	ReasonMalformed   Reason = "malformed"
	ReasonForged      Reason = "forged"
	ReasonUnknown     Reason = "unknown-ticket"
	ReasonRevoked     Reason = "revoked"
	ReasonOldVersion  Reason = "old-version"
	ReasonUsed        Reason = "already-used"
	ReasonPerformance Reason = "other-performance"
)

// Store keeps tickets and scans.
type Store interface {
	// IssuedTicket answers ErrNoTicket for an unknown id.
	IssuedTicket(ctx context.Context, id uuid.UUID) (Issued, error)
	// IssuedTickets lists an order's tickets by unit, revoked ones too.
	IssuedTickets(ctx context.Context, order uuid.UUID) ([]Issued, error)
	// RecordScan stores a scan unless its nonce is known, in which case it returns the stored one. Of all accepted scans of one
	// ticket only the first stays accepted: the others are stored and returned as ReasonUsed. One transaction.
	RecordScan(ctx context.Context, s Scan) (Scan, error)
}

// Service issues codes for tickets and judges scans. Safe for concurrent use.
type Service struct {
	Store Store
	Codes *Codes
	Now   func() time.Time
}

// Tickets lists an order's tickets that are good, by unit. ErrNotPaid when it has none.
func (s *Service) Tickets(ctx context.Context, order uuid.UUID) ([]Issued, error) {
	all, err := s.Store.IssuedTickets(ctx, order)
	if err != nil {
		return nil, fmt.Errorf("read tickets: %w", err)
	}
	good := make([]Issued, 0, len(all))
	for _, t := range all {
		if !t.Revoked {
			good = append(good, t)
		}
	}
	if len(good) == 0 {
		return nil, ErrNotPaid
	}
	return good, nil
}

// Ticket returns a good ticket; ErrNoTicket or ErrRevoked otherwise.
func (s *Service) Ticket(ctx context.Context, id uuid.UUID) (Issued, error) {
	t, err := s.Store.IssuedTicket(ctx, id)
	if err != nil {
		return Issued{}, err
	}
	if t.Revoked {
		return Issued{}, ErrRevoked
	}
	return t, nil
}

var scanWord = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Scan judges a code at a gate and remembers the answer. A code that cannot be read is an answer too, not an error; ErrBadScan is
// a scanner that sends no proper gate or nonce. performance may be zero: then any performance is let in.
func (s *Service) Scan(ctx context.Context, gate, nonce, code string, performance uuid.UUID) (Scan, error) {
	if !scanWord.MatchString(gate) || !scanWord.MatchString(nonce) {
		return Scan{}, ErrBadScan
	}
	ticket, reason, err := s.judge(ctx, code, performance)
	if err != nil {
		return Scan{}, fmt.Errorf("judge scan: %w", err)
	}
	return s.Store.RecordScan(ctx, Scan{
		Nonce: nonce, Gate: gate, Ticket: ticket, Accepted: reason == ReasonNone, Reason: reason, At: s.Now().UTC(),
	})
}

func (s *Service) judge(ctx context.Context, code string, performance uuid.UUID) (uuid.UUID, Reason, error) {
	t, err := s.Codes.Parse(code)
	switch {
	case errors.Is(err, ErrCodeMalformed):
		return uuid.Nil, ReasonMalformed, nil
	case err != nil:
		return uuid.Nil, ReasonForged, nil
	}
	issued, err := s.Store.IssuedTicket(ctx, t.ID)
	switch {
	case errors.Is(err, ErrNoTicket):
		return t.ID, ReasonUnknown, nil
	case err != nil:
		return t.ID, ReasonNone, err
	case issued.Revoked:
		return t.ID, ReasonRevoked, nil
	case issued.Version != t.Version:
		return t.ID, ReasonOldVersion, nil
	case performance != uuid.Nil && t.Performance != performance:
		return t.ID, ReasonPerformance, nil
	}
	return t.ID, ReasonNone, nil
}
