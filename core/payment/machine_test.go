package payment

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// spec is the payment's state machine: from, what happens, to. What is not
// here must be refused. "late" lines lead out of a settled state and need a
// fresh look.
const spec = `
NEW          send             AUTHORISING
NEW          drop             FAILED
AUTHORISING  saw-asked        ASKED
AUTHORISING  saw-authorised   AUTHORISED
AUTHORISING  saw-captured     CAPTURED
AUTHORISING  saw-failed       FAILED
AUTHORISING  saw-voided       FAILED
ASKED        saw-asked        ASKED
ASKED        saw-authorised   AUTHORISED
ASKED        saw-captured     CAPTURED
ASKED        saw-failed       FAILED
ASKED        saw-voided       VOIDED
ASKED        void             VOIDING
AUTHORISED   saw-authorised   AUTHORISED
AUTHORISED   saw-captured     CAPTURED
AUTHORISED   saw-voided       LAPSED
AUTHORISED   saw-lapsed       LAPSED
AUTHORISED   capture          CAPTURING
AUTHORISED   void             VOIDING
CAPTURING    saw-authorised   CAPTURING
CAPTURING    saw-captured     CAPTURED
CAPTURING    saw-voided       FAILED
CAPTURING    saw-lapsed       FAILED
CAPTURING    saw-failed       FAILED
CAPTURING    capture-refused  FAILED
CAPTURED     saw-captured     CAPTURED
VOIDING      saw-asked        VOIDING
VOIDING      saw-authorised   VOIDING
VOIDING      saw-voided       VOIDED
VOIDING      saw-failed       VOIDED
VOIDING      saw-lapsed       VOIDED
VOIDING      saw-captured     CAPTURED
FAILED       saw-failed       FAILED
FAILED       saw-voided       FAILED
FAILED       saw-lapsed       FAILED
FAILED       saw-authorised   AUTHORISED
FAILED       saw-captured     CAPTURED
VOIDED       saw-voided       VOIDED
VOIDED       saw-failed       VOIDED
VOIDED       saw-lapsed       VOIDED
VOIDED       saw-authorised   AUTHORISED
VOIDED       saw-captured     CAPTURED
LAPSED       saw-lapsed       LAPSED
LAPSED       saw-voided       LAPSED
LAPSED       saw-failed       LAPSED
LAPSED       saw-authorised   AUTHORISED
LAPSED       saw-captured     CAPTURED
`

func TestNextIsTheSpecification(t *testing.T) {
	want := map[step]State{}
	for line := range strings.SplitSeq(strings.TrimSpace(spec), "\n") {
		f := strings.Fields(line)
		want[step{State(f[0]), Event(f[1])}] = State(f[2])
	}
	for _, from := range States {
		for _, ev := range Events {
			to, allowed := want[step{from, ev}]
			got, err := Next(from, ev)
			var wrong *ErrWrongState
			switch {
			case allowed && (err != nil || got != to):
				t.Errorf("%s + %s: want %s, got %s, %v", from, ev, to, got, err)
			case !allowed && !errors.As(err, &wrong):
				t.Errorf("%s + %s: must be refused, got %s, %v", from, ev, got, err)
			case !allowed && got != from:
				t.Errorf("%s + %s: refused, but the state became %s", from, ev, got)
			}
		}
	}
}

func TestStatesAreSortedIntoKinds(t *testing.T) {
	for _, s := range States {
		if s.Open() && (s.HoldsMoney() || s.Settled()) {
			t.Errorf("%s is open and something else", s)
		}
	}
	if !Captured.HoldsMoney() || !Captured.Settled() || Voiding.HoldsMoney() || Voiding.Open() || Voiding.Settled() {
		t.Error("CAPTURED or VOIDING is of the wrong kind")
	}
}

func sample() Payment {
	return Payment{ID: uuid.New(), State: Authorising, Currency: "EUR", Amount: 9000}
}

func TestApply(t *testing.T) {
	before := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	p := sample()
	look := func(s Snapshot) Snapshot {
		s.PaymentID, s.Ref, s.Amount, s.Currency = p.ID, "pi_1", 9000, "EUR"
		return s
	}
	p.UnknownSince = before
	p, err := Apply(p, look(Snapshot{Status: StatusAsked, NextAction: "https://psp.test/pay"}))
	if err != nil || p.State != Asked || p.Ref != "pi_1" || p.NextAction == "" || !p.UnknownSince.IsZero() {
		t.Fatalf("asked: %+v, %v", p, err)
	}
	if p, err = Apply(p, look(Snapshot{Status: StatusProcessing})); err != nil || p.State != Asked {
		t.Fatalf("processing must change nothing: %+v, %v", p, err)
	}
	if p, err = Apply(p, look(Snapshot{Status: StatusAuthorised, Authorised: 9000, CaptureBefore: before})); err != nil || p.State != Authorised || p.Authorised != 9000 || p.NextAction != "" {
		t.Fatalf("authorised: %+v, %v", p, err)
	}
	if p, err = Apply(p, look(Snapshot{Status: StatusAsked})); err != nil || p.State != Authorised {
		t.Fatalf("an older view won: %+v, %v", p, err)
	}
	if p, err = Apply(p, look(Snapshot{Status: StatusCaptured, Captured: 9000})); err != nil || p.State != Captured || p.Captured != 9000 || p.Undecided() != 9000 {
		t.Fatalf("captured: %+v, %v", p, err)
	}
	self := sample()
	self, err = Apply(self, Snapshot{PaymentID: self.ID, Ref: "pi_2", Amount: 9000, Currency: "EUR", Status: StatusCaptured, Captured: 9000})
	if err != nil || self.Authorised != 9000 {
		t.Fatalf("money that was taken without asking was never authorised: %+v, %v", self, err)
	}
	for name, s := range map[string]Snapshot{
		"amount":   {PaymentID: p.ID, Ref: "pi_1", Amount: 1, Currency: "EUR", Status: StatusCaptured},
		"currency": {PaymentID: p.ID, Ref: "pi_1", Amount: 9000, Currency: "USD", Status: StatusCaptured},
		"metadata": {PaymentID: uuid.New(), Ref: "pi_1", Amount: 9000, Currency: "EUR", Status: StatusCaptured},
		"ref":      {PaymentID: p.ID, Ref: "pi_9", Amount: 9000, Currency: "EUR", Status: StatusCaptured},
	} {
		if _, err := Apply(p, s); !errors.Is(err, ErrMismatch) {
			t.Errorf("an object with another %s was applied: %v", name, err)
		}
	}
	if _, err := Apply(p, look(Snapshot{Status: "exploded"})); err == nil || errors.Is(err, ErrMismatch) {
		t.Errorf("an unknown status: %v", err)
	}
}

// Whatever a provider shows in whatever order, the money on a payment stays
// within its bounds and a settled payment never becomes open again.
func TestApplyKeepsTheBounds(t *testing.T) {
	statuses := []Status{StatusAsked, StatusProcessing, StatusAuthorised, StatusCaptured, StatusFailed, StatusVoided, StatusLapsed}
	rapid.Check(t, func(t *rapid.T) {
		p := sample()
		p.State = rapid.SampledFrom(States).Draw(t, "from")
		if p.State == Captured {
			p.Authorised, p.Captured = 9000, 9000
		}
		for range rapid.IntRange(1, 8).Draw(t, "looks") {
			was := p.State
			s := Snapshot{PaymentID: p.ID, Ref: "pi_1", Amount: p.Amount, Currency: p.Currency, Status: rapid.SampledFrom(statuses).Draw(t, "status")}
			switch s.Status {
			case StatusAuthorised:
				s.Authorised = p.Amount
			case StatusCaptured:
				s.Captured = p.Amount
			}
			var err error
			if p, err = Apply(p, s); err != nil {
				t.Fatalf("%s + %s: %v", was, s.Status, err)
			}
			if p.Captured > p.Authorised || p.Refunding+p.Refunded > p.Captured {
				t.Fatalf("money out of bounds: %+v", p)
			}
			if (was.Settled() || was.HoldsMoney()) && p.State.Open() {
				t.Fatalf("%s became %s", was, p.State)
			}
			if was == Captured && p.State != Captured {
				t.Fatalf("captured money became %s", p.State)
			}
		}
	})
}

func TestKeyIsStable(t *testing.T) {
	id := uuid.MustParse("018f6b6e-0000-7000-8000-000000000001")
	if got := Key(id, KindCapture, 1); got != "stn-018f6b6e-0000-7000-8000-000000000001-capture" {
		t.Errorf("the key changed: %s. A running payment would be captured twice after an update.", got)
	}
	if Key(id, KindRefund, 1) == Key(id, KindRefund, 2) || Key(id, KindVoid, 1) == Key(id, KindCapture, 1) {
		t.Error("different calls share a key")
	}
}
