package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An engine that cannot be reached ends the start at once, with the key that names it, and no secret in the words.
func TestEngineOutOfReachIsNamed(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if code, _, errs := command(t, "keys", "init", keys); code != exitOK {
		t.Fatal(errs)
	}
	url := filepath.Join(dir, "postgres-url")
	if err := os.WriteFile(url, []byte("postgres://shop:hidden-word@127.0.0.1:1/shop"), 0o600); err != nil {
		t.Fatal(err)
	}
	const nowhere = "['127.0.0.1:1']" // a port that nobody may listen on
	for _, c := range []struct {
		key   string
		flags []string
	}{
		{"stores.rooms", []string{"--stores.rooms.engine=redis", "--stores.rooms.addresses=" + nowhere}},
		{"stores.seats", []string{"--stores.seats.engine=cql", "--stores.seats.addresses=" + nowhere, "--stores.seats.datacenter=dc1"}},
		{"stores.orders", []string{"--stores.orders.engine=postgres", "--stores.orders.url_file=" + url}},
		{"stores.bus", []string{"--stores.bus.engine=kafka", "--stores.bus.addresses=" + nowhere}},
	} {
		t.Run(c.key, func(t *testing.T) {
			args := append([]string{"all", "--keys.dir=" + keys, "--data_dir=" + t.TempDir(), "--listeners.public.address=127.0.0.1:0",
				"--listeners.console.address=127.0.0.1:0", "--listeners.operations.address=127.0.0.1:0"}, c.flags...)
			code, out, errs := command(t, args...)
			if code != exitFailure || !strings.Contains(errs, c.key) {
				t.Fatalf("exit code %d, want %d and %s named:\n%s", code, exitFailure, c.key, errs)
			}
			if strings.Contains(out+errs, "hidden-word") {
				t.Fatal("the password is shown")
			}
		})
	}
}
