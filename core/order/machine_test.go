package order

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// spec is the order's state machine as it was specified. A cause in brackets
// is who is closing; what is not here must be refused.
const spec = `
-               create                DRAFT
DRAFT           lease-over            EXPIRED
DRAFT           cancel                CANCELLED
DRAFT           check-out             PAYING
DRAFT           check-out-free        SECURING
PAYING          attempt-failed        PAYING
PAYING          failed-for-good       CANCELLED
PAYING          pin-nearly-over       CLOSING
PAYING          cancel                CLOSING
PAYING          authorised            SECURING
CLOSING(timer)  provider-cancelled    EXPIRED
CLOSING(fan)    provider-cancelled    CANCELLED
CLOSING(timer)  provider-silent       CLOSING
CLOSING(fan)    provider-silent       CLOSING
CLOSING(timer)  provider-silent-cap   EXPIRED
CLOSING(fan)    provider-silent-cap   EXPIRED
CLOSING(timer)  authorised            SECURING
CLOSING(fan)    authorised            CANCELLED
SECURING        all-sold              SECURED
SECURING        secure-lost           CANCELLED
SECURING        secure-lost-captured  REFUNDING
SECURING        secure-unknown        SECURING
SECURED         review-no             CANCELLED
SECURED         captured              PAID
SECURED         capture-refused       CANCELLED
EXPIRED         money-appears         LATE
CANCELLED       money-appears         LATE
LATE            rescue-ok             SECURING
LATE            rescue-no             CANCELLED
LATE            rescue-no-captured    REFUNDING
PAID            refund-some           PART_REFUNDED
PAID            refund-all            REFUNDING
PART_REFUNDED   refund-some           PART_REFUNDED
PART_REFUNDED   refund-all            REFUNDING
REFUNDING       all-refunded          REFUNDED
REFUNDING       refund-failed         REFUNDING
PAID            event-cancelled       REFUNDING
PART_REFUNDED   event-cancelled       REFUNDING
PAID            dispute-opened        PAID
PAID            dispute-won           PAID
PAID            dispute-lost-after    PAID
PAID            dispute-lost-before   REVOKED
PART_REFUNDED   dispute-opened        PART_REFUNDED
PART_REFUNDED   dispute-won           PART_REFUNDED
PART_REFUNDED   dispute-lost-after    PART_REFUNDED
PART_REFUNDED   dispute-lost-before   REVOKED
`

func TestNextIsTheSpecification(t *testing.T) {
	type key struct {
		from  State
		cause Cause
		ev    Event
	}
	want := map[key]State{}
	for line := range strings.SplitSeq(strings.TrimSpace(spec), "\n") {
		f := strings.Fields(line)
		from, cause, _ := strings.Cut(strings.TrimSuffix(f[0], ")"), "(")
		if from == "-" {
			from = ""
		}
		k := key{State(from), Cause(cause), Event(f[1])}
		if _, twice := want[k]; twice || !slices.Contains(Events, k.ev) {
			t.Fatalf("the specification's line %q is wrong", line)
		}
		want[k] = State(f[2])
	}
	causes := []Cause{ByNobody, ByFan, ByTimer, ByPayment, BySeats, ByReview, ByCapture, ByLateness, ByEvent}
	checked := 0
	for _, from := range append([]State{None}, States...) {
		for _, cause := range causes {
			for _, ev := range Events {
				to, allowed := want[key{from, cause, ev}]
				if from != Closing { // who closes matters nowhere else
					to, allowed = want[key{from, ByNobody, ev}]
				} else if _, any := want[key{from, ByTimer, ev}]; any && cause != ByFan && cause != ByTimer {
					continue // Closing has one of the two
				}
				m, err := Next(from, cause, ev)
				switch {
				case allowed && (err != nil || m.To != to):
					t.Errorf("%s(%s) + %s: want %s, got %s, %v", from, cause, ev, to, m.To, err)
				case !allowed && err == nil:
					t.Errorf("%s(%s) + %s: must be refused, got %s", from, cause, ev, m.To)
				case !allowed:
					var imp *ErrImpossible
					if !errors.As(err, &imp) || imp.From != from || imp.Event != ev {
						t.Errorf("%s + %s: refused as %v", from, ev, err)
					}
				}
				checked++
			}
		}
	}
	if least := len(States) * len(Events); checked < least {
		t.Fatalf("only %d pairs were checked", checked)
	}
}

func TestWhoClosesIsRemembered(t *testing.T) {
	for _, tc := range []struct {
		from State
		ev   Event
		want Cause
	}{
		{Draft, LeaseOver, ByTimer}, {Draft, Cancel, ByFan}, {Paying, Cancel, ByFan}, {Paying, PinNearlyOver, ByTimer}, {Paying, FailedForGood, ByPayment},
		{Securing, SecureLost, BySeats}, {Secured, CaptureRefused, ByCapture}, {Late, RescueNo, ByLateness}, {Expired, MoneyAppears, ByNobody},
	} {
		m, err := Next(tc.from, ByNobody, tc.ev)
		if err != nil || m.Cause != tc.want {
			t.Errorf("%s + %s: cause %q, %v, want %q", tc.from, tc.ev, m.Cause, err, tc.want)
		}
	}
}
