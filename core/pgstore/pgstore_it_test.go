//go:build it

package pgstore_test

import (
	"context"
	"database/sql"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/stanchion-queue/stanchion/core/pgstore"
	"github.com/stanchion-queue/stanchion/core/sqlstore"
	"github.com/stanchion-queue/stanchion/core/storetest"
)

// open makes a database of its own on the server that STANCHION_TEST_POSTGRES
// names.
func open(t *testing.T) func(now func() time.Time) *sqlstore.Store {
	t.Helper()
	server := os.Getenv("STANCHION_TEST_POSTGRES")
	if server == "" {
		t.Fatal("STANCHION_TEST_POSTGRES is not set: this test needs a PostgreSQL server")
	}
	admin, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatal(err)
	}
	name := "stn_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := admin.ExecContext(t.Context(), `CREATE DATABASE `+name); err != nil {
		t.Fatalf("make a database: %v", err)
	}
	t.Cleanup(func() {
		if _, err := admin.ExecContext(context.Background(), `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Errorf("drop the database: %v", err)
		}
		_ = admin.Close()
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return func(func() time.Time) *sqlstore.Store {
		db, err := pgstore.Open(t.Context(), u.String(), 8)
		if err != nil {
			t.Fatal(err)
		}
		return sqlstore.NewStore(db)
	}
}

func TestStore(t *testing.T) { storetest.Run(t, open) }
