//go:build it

package catalogsql_test

import (
	"database/sql"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/stanchion-queue/stanchion/core/pgstore"
)

func TestPostgres(t *testing.T) {
	server := os.Getenv("STANCHION_TEST_POSTGRES")
	if server == "" {
		t.Fatal("STANCHION_TEST_POSTGRES is not set; run make services")
	}
	admin, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	name := "catalog_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := admin.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cleanup, err := sql.Open("pgx", server); err == nil {
			_, _ = cleanup.Exec("DROP DATABASE " + name + " WITH (FORCE)")
			cleanup.Close()
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	db, err := pgstore.Open(t.Context(), u.String(), 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	suite(t, db)
}
