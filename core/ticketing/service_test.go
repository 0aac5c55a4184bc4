package ticketing_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/catalogsql"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/sqlitestore"
	"github.com/stanchion-queue/stanchion/core/sqlstore"
	"github.com/stanchion-queue/stanchion/core/ticketing"
)

type gate struct {
	*ticketing.Service
	store *sqlstore.Store
	order uuid.UUID
	perf  uuid.UUID
	now   time.Time
}

// newGate opens a gate with an order of three tickets; the third is revoked.
func newGate(t *testing.T) *gate {
	t.Helper()
	db, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "orders.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	g := &gate{store: sqlstore.NewStore(db), order: uuid.New(), perf: uuid.New(), now: time.Date(2027, 1, 23, 19, 0, 0, 0, time.UTC)}
	g.Service = &ticketing.Service{Store: catalogsql.New(db), Codes: ticketing.NewCodes(1, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)), nil),
		Now: func() time.Time { return g.now }}
	err = g.store.Tx(t.Context(), func(tx order.Tx) error {
		o := order.Order{ID: g.order, Principal: "guest:1", Performance: g.perf, State: order.Paid, Currency: "EUR", Created: g.now, Updated: g.now, Version: 1}
		if err := tx.InsertOrder(t.Context(), o); err != nil {
			return err
		}
		var issued []order.Ticket
		for unit := 1; unit <= 3; unit++ {
			issued = append(issued, order.Ticket{ID: uuid.New(), OrderID: g.order, Performance: g.perf, Unit: unit, Version: 1,
				Label: "Stalls, row A, seat " + string(rune('0'+unit)), Issued: g.now})
		}
		if err := tx.IssueTickets(t.Context(), issued); err != nil {
			return err
		}
		return tx.RevokeTickets(t.Context(), g.order, []int{3}, "refund")
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// all lists the tickets, the revoked one too.
func (g *gate) all(t *testing.T) []ticketing.Issued {
	t.Helper()
	all, err := g.Store.IssuedTickets(t.Context(), g.order)
	if err != nil || len(all) != 3 {
		t.Fatalf("issued %+v, %v", all, err)
	}
	return all
}

func TestGoodTickets(t *testing.T) {
	g := newGate(t)
	all := g.all(t)
	good, err := g.Tickets(t.Context(), g.order)
	if err != nil || len(good) != 2 || good[0].Unit != 1 || good[1].Label != "Stalls, row A, seat 2" {
		t.Errorf("Tickets = %+v, %v", good, err)
	}
	if _, err := g.Tickets(t.Context(), uuid.New()); !errors.Is(err, ticketing.ErrNotPaid) {
		t.Errorf("of an unknown order: %v", err)
	}
	if one, err := g.Ticket(t.Context(), all[0].ID); err != nil || one.OrderID != g.order {
		t.Errorf("Ticket = %+v, %v", one, err)
	}
	if _, err := g.Ticket(t.Context(), all[2].ID); !errors.Is(err, ticketing.ErrRevoked) {
		t.Errorf("the revoked one: %v", err)
	}
	if _, err := g.Ticket(t.Context(), uuid.New()); !errors.Is(err, ticketing.ErrNoTicket) {
		t.Errorf("an unknown one: %v", err)
	}
}

func TestScanReasons(t *testing.T) {
	g := newGate(t)
	all := g.all(t)
	older := all[1].Ticket
	older.Version = 0
	stranger := ticketing.Ticket{ID: uuid.New(), Version: 1, Performance: g.perf, Unit: 1}
	other := ticketing.NewCodes(1, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32)), nil)
	for i, test := range []struct {
		name, code  string
		performance uuid.UUID
		want        ticketing.Reason
		known       bool // the answer names the ticket
	}{
		{"no code", "hello", uuid.Nil, ticketing.ReasonMalformed, false},
		{"nothing", "", uuid.Nil, ticketing.ReasonMalformed, false},
		{"signed by somebody else", other.Code(all[0].Ticket), uuid.Nil, ticketing.ReasonForged, false},
		{"never issued", g.Codes.Code(stranger), uuid.Nil, ticketing.ReasonUnknown, true},
		{"revoked", g.Codes.Code(all[2].Ticket), uuid.Nil, ticketing.ReasonRevoked, true},
		{"of an older version", g.Codes.Code(older), uuid.Nil, ticketing.ReasonOldVersion, true},
		{"for another evening", g.Codes.Code(all[1].Ticket), uuid.New(), ticketing.ReasonPerformance, true},
		{"good", g.Codes.Code(all[1].Ticket), g.perf, ticketing.ReasonNone, true},
		{"used", g.Codes.Code(all[1].Ticket), uuid.Nil, ticketing.ReasonUsed, true},
	} {
		s, err := g.Scan(t.Context(), "north", string(rune('a'+i)), test.code, test.performance)
		if err != nil || s.Reason != test.want || s.Accepted != (test.want == ticketing.ReasonNone) || (s.Ticket != uuid.Nil) != test.known {
			t.Errorf("%s: %+v, %v", test.name, s, err)
		}
	}
}

func TestAScanIsRepeatedByItsNonce(t *testing.T) {
	g := newGate(t)
	code := g.Codes.Code(g.all(t)[0].Ticket)
	first, err := g.Scan(t.Context(), "north", "n1", code, uuid.Nil)
	if err != nil || !first.Accepted {
		t.Fatalf("%+v, %v", first, err)
	}
	g.now = g.now.Add(time.Minute)
	again, err := g.Scan(t.Context(), "north", "n1", code, uuid.Nil)
	if err != nil || !again.Accepted || !again.At.Equal(first.At) {
		t.Errorf("the repetition: %+v, %v", again, err)
	}
	second, err := g.Scan(t.Context(), "south", "n2", code, uuid.Nil)
	if err != nil || second.Accepted || second.Reason != ticketing.ReasonUsed || second.FirstAtG != "north" || !second.FirstAt.Equal(first.At) {
		t.Errorf("at another gate: %+v, %v", second, err)
	}
}

// Two gates scan one picture at the same time: one person comes in.
func TestOnePersonATicket(t *testing.T) {
	g := newGate(t)
	code := g.Codes.Code(g.all(t)[0].Ticket)
	var mu sync.Mutex
	accepted := 0
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			s, err := g.Scan(context.Background(), "gate", "n"+string(rune('a'+i)), code, uuid.Nil)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			} else if s.Accepted {
				accepted++
			}
		})
	}
	wg.Wait()
	if accepted != 1 {
		t.Errorf("%d came in", accepted)
	}
}

func TestScannersThatSendNonsense(t *testing.T) {
	g := newGate(t)
	long := string(bytes.Repeat([]byte{'x'}, 65))
	for _, test := range []struct{ gate, nonce string }{{"", "n"}, {"g", ""}, {"north gate", "n"}, {"g", "ü"}, {long, "n"}, {"g", long}, {"g\n", "n"}} {
		if _, err := g.Scan(t.Context(), test.gate, test.nonce, "x", uuid.Nil); !errors.Is(err, ticketing.ErrBadScan) {
			t.Errorf("gate %q, nonce %q: %v", test.gate, test.nonce, err)
		}
	}
}
