//go:build it

package pgstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/stanchion-queue/stanchion/core/bus"
	"github.com/stanchion-queue/stanchion/core/order"
	"github.com/stanchion-queue/stanchion/core/pgstore"
	"github.com/stanchion-queue/stanchion/core/sqlstore"
	"github.com/stanchion-queue/stanchion/core/storetest"
)

// The tests share a few databases of their own: making one takes longer than
// a test. Whoever has finished with one empties it.
var (
	free = make(chan string, 64)
	mu   sync.Mutex
	made []string
)

func server() (*sql.DB, *url.URL, error) {
	addr := os.Getenv("STANCHION_TEST_POSTGRES")
	if addr == "" {
		return nil, nil, errors.New("STANCHION_TEST_POSTGRES is not set: this test needs a PostgreSQL server")
	}
	u, err := url.Parse(addr)
	if err != nil {
		return nil, nil, err
	}
	db, err := sql.Open("pgx", addr)
	return db, u, err
}

func TestMain(m *testing.M) {
	code := m.Run()
	if db, _, err := server(); err == nil {
		for _, name := range made {
			if _, err := db.ExecContext(context.Background(), `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
				fmt.Fprintln(os.Stderr, "drop a test's database:", err)
				code = 1
			}
		}
		_ = db.Close()
	}
	os.Exit(code)
}

// database gives a test an empty database.
func database(t *testing.T) (addr string) {
	t.Helper()
	admin, u, err := server()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	var name string
	select {
	case name = <-free:
	default:
		name = "stn_" + strings.ReplaceAll(uuid.NewString(), "-", "")
		if _, err := admin.ExecContext(t.Context(), `CREATE DATABASE `+name); err != nil {
			t.Fatalf("make a database: %v", err)
		}
		mu.Lock()
		made = append(made, name)
		mu.Unlock()
	}
	u.Path = "/" + name
	t.Cleanup(func() {
		if err := empty(context.Background(), u.String()); err != nil {
			t.Errorf("empty the database: %v", err)
			return
		}
		free <- name
	})
	return u.String()
}

func open(t *testing.T) func(now func() time.Time) *sqlstore.Store {
	t.Helper()
	addr := database(t)
	return func(now func() time.Time) *sqlstore.Store {
		db, err := pgstore.Open(t.Context(), addr, 8)
		if err != nil {
			t.Fatal(err)
		}
		db.SetClock(now)
		return sqlstore.NewStore(db)
	}
}

func empty(ctx context.Context, addr string) error {
	db, err := sql.Open("pgx", addr)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, `DO $$ DECLARE t text; BEGIN
		SET LOCAL session_replication_role = replica; -- foreign keys are not looked at
		FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'goose_db_version' LOOP
			EXECUTE format('DELETE FROM %I', t);
		END LOOP; END $$`)
	return err
}

func TestStore(t *testing.T) { storetest.Run(t, open) }

func TestJourneys(t *testing.T) { storetest.Journeys(t, open) }

func TestStorm(t *testing.T) { storetest.Storm(t, open, 4) }

func TestCrowd(t *testing.T) { storetest.Crowd(t, open, 24) }

// printer is a publisher that remembers.
type printer struct{ got chan bus.Event }

func (p printer) Publish(_ context.Context, es []bus.Event) error {
	for _, e := range es {
		p.got <- e
	}
	return nil
}

// A transaction that stays open holds a small id back; events with larger ids
// are published meanwhile, and its own when it commits, also if the low-water
// mark has passed it long ago.
func TestAnOpenTransactionStopsNothingAndIsNotLost(t *testing.T) {
	s := open(t)(time.Now)
	defer func() { _ = s.Close() }()
	clock := &storetest.Clock{}
	clock.Advance(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	p := printer{make(chan bus.Event, 1000)}
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = (&bus.Relay{Outbox: s, Publisher: p, Now: clock.Now, Poll: 5 * time.Millisecond, Lag: 5 * time.Second, Full: time.Minute}).Run(ctx)
	})
	defer wg.Wait()
	defer cancel()
	event := func(version int64) bus.Event {
		return bus.Event{Shard: 2, Topic: "t", Key: "k", Type: "x", Version: version, At: time.Now(), Payload: []byte("{}")}
	}
	next := func() int64 {
		t.Helper()
		select {
		case e := <-p.got:
			return e.Version
		case <-time.After(30 * time.Second):
			t.Fatal("no event was published")
			return 0
		}
	}
	err := s.Tx(ctx, func(slow order.Tx) error {
		if err := slow.Emit(ctx, event(1000)); err != nil {
			return err
		}
		for v := int64(1); v <= 20; v++ { // the mark passes the open one's id
			if err := s.Tx(ctx, func(tx order.Tx) error { return tx.Emit(ctx, event(v)) }); err != nil {
				return err
			}
			if got := next(); got != v {
				t.Errorf("published %d, want %d", got, v)
			}
			clock.Advance(time.Second)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Minute) // the time of a full look
	if got := next(); got != 1000 {
		t.Errorf("published %d, want the one that was held back", got)
	}
}

// The store's clock is the server's, and a standby's promotion raises the
// generation; both are expressions of the dialect that other tests pass by.
func TestClockAndGenerationAreTheServers(t *testing.T) {
	db, err := pgstore.Open(t.Context(), database(t), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	now, err := db.Now(t.Context(), db.Read())
	if err != nil || time.Since(now).Abs() > time.Minute {
		t.Errorf("the server's clock says %s, %v", now, err)
	}
	var gen, timeline int64
	if err := db.Read().QueryRowContext(t.Context(), `SELECT `+db.Dialect().Generation+`, timeline_id FROM pg_control_checkpoint()`).Scan(&gen, &timeline); err != nil || gen != timeline {
		t.Errorf("generation %d, timeline %d, %v", gen, timeline, err)
	}
}
