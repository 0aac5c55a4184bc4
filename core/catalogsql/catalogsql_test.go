package catalogsql_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/core/catalogsql"
	"github.com/stanchion-queue/stanchion/core/sqlitestore"
	"github.com/stanchion-queue/stanchion/core/sqlstore"
	"github.com/stanchion-queue/stanchion/core/ticketing"
)

func TestSQLite(t *testing.T) {
	db, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "orders.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	suite(t, db)
}

// suite is the conformance suite of both databases.
func suite(t *testing.T, db *sqlstore.DB) {
	ctx := t.Context()
	s := catalogsql.New(db)

	t.Run("documents keep their versions", func(t *testing.T) {
		v := catalog.Venue{ID: uuid.New(), Slug: "house-" + uuid.NewString()[:8], Name: "Großes Haus", City: "Köln", Country: "DE", TimeZone: "Europe/Berlin"}
		if err := s.PutVenue(ctx, v); err != nil {
			t.Fatal(err)
		}
		if err := s.PutVenue(ctx, v); !errors.Is(err, catalog.ErrExists) {
			t.Fatalf("made twice: %v", err)
		}
		twin := v
		twin.ID = uuid.New()
		if err := s.PutVenue(ctx, twin); !errors.Is(err, catalog.ErrExists) {
			t.Fatalf("slug taken twice: %v", err)
		}
		v.Version, v.Name = 1, "Kleines Haus"
		if err := s.PutVenue(ctx, v); err != nil {
			t.Fatal(err)
		}
		if err := s.PutVenue(ctx, v); !errors.Is(err, catalog.ErrStale) {
			t.Fatalf("old version accepted: %v", err)
		}
		all, err := s.Venues(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range all {
			if got.ID == v.ID && (got.Name != "Kleines Haus" || got.Version != 2) {
				t.Fatalf("stored %+v", got)
			}
		}
	})

	t.Run("performances come by time", func(t *testing.T) {
		e := catalog.Event{ID: uuid.New(), Slug: "e-" + uuid.NewString()[:8], Title: "Gala"}
		if err := s.PutEvent(ctx, e); err != nil {
			t.Fatal(err)
		}
		for i, day := range []int{9, 3, 6} {
			p := catalog.Performance{ID: uuid.New(), Slug: fmt.Sprintf("p%d-%s", i, e.Slug), Event: e.ID, Venue: uuid.New(), Currency: "EUR",
				Starts: time.Date(2027, 1, day, 20, 0, 0, 0, time.UTC), Offers: []catalog.Offer{{Category: "A", Price: 4500}}}
			if err := s.PutPerformance(ctx, p); err != nil {
				t.Fatal(err)
			}
		}
		all, err := s.Performances(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(all); i++ {
			if all[i].Starts.Before(all[i-1].Starts) {
				t.Fatalf("performance %d starts before the one before it", i)
			}
		}
	})

	t.Run("a ticket lets one person in", func(t *testing.T) {
		ticket := issue(t, db)
		issued, err := s.IssuedTicket(ctx, ticket)
		if err != nil || issued.Version != 1 || issued.Unit != 1 || issued.Revoked {
			t.Fatalf("issued %+v, %v", issued, err)
		}
		if _, err := s.IssuedTicket(ctx, uuid.New()); !errors.Is(err, ticketing.ErrNoTicket) {
			t.Fatalf("unknown ticket: %v", err)
		}
		const gates = 12
		scans := make([]ticketing.Scan, gates)
		var wg sync.WaitGroup
		for i := range gates {
			wg.Go(func() {
				scan := ticketing.Scan{Nonce: uuid.NewString(), Gate: fmt.Sprintf("g%d", i), Ticket: ticket, Accepted: true, At: time.Now().UTC().Truncate(time.Millisecond)}
				got, err := s.RecordScan(context.Background(), scan)
				if err != nil {
					t.Error(err)
				}
				scans[i] = got
			})
		}
		wg.Wait()
		var accepted ticketing.Scan
		n := 0
		for _, sc := range scans {
			if sc.Accepted {
				accepted = sc
				n++
			}
		}
		if n != 1 {
			t.Fatalf("%d of %d gates let the ticket in", n, gates)
		}
		for _, sc := range scans {
			if !sc.Accepted && (sc.Reason != ticketing.ReasonUsed || sc.FirstAtG != accepted.Gate || !sc.FirstAt.Equal(accepted.At)) {
				t.Fatalf("refusal does not name the first entry: %+v, first %+v", sc, accepted)
			}
		}
		again, err := s.RecordScan(ctx, ticketing.Scan{Nonce: accepted.Nonce, Gate: "other", Ticket: ticket, Accepted: true, At: time.Now()})
		if err != nil || !again.Accepted || again.Gate != accepted.Gate {
			t.Fatalf("the repeated scan got another answer: %+v, %v", again, err)
		}
	})
}

// issue writes a paid order's ticket as the order service does.
func issue(t *testing.T, db *sqlstore.DB) uuid.UUID {
	t.Helper()
	id, order := uuid.New(), uuid.New()
	err := db.InTx(t.Context(), func(q sqlstore.Querier) error {
		now := time.Now().UnixMilli()
		if _, err := q.ExecContext(t.Context(), `INSERT INTO orders (id, principal, pass_id, room, performance_id, state, close_reason, version, generation,
			currency, total, pin_until_ms, created_ms, updated_ms) VALUES ($1, 'guest:x', '', '', $2, 'PAID', '', 1, 1, 'EUR', 100, 0, $3, $3)`, order.String(), uuid.NewString(), now); err != nil {
			return err
		}
		_, err := q.ExecContext(t.Context(), `INSERT INTO ticket (id, order_id, performance_id, unit, version, block, seat, label, issued_ms)
			VALUES ($1, $2, $3, 1, 1, 0, 0, 'Stalls, row A, seat 1', $4)`, id.String(), order.String(), uuid.NewString(), now)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}
