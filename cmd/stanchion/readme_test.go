package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The README's configuration must be one that the program takes.
func TestReadmeConfiguration(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatal("the README shows no configuration any more")
	}
	for _, b := range blocks {
		file := filepath.Join(t.TempDir(), "room.yaml")
		if err := os.WriteFile(file, b[1], 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		if err := run(t.Context(), []string{"config", "check", "--config", file}, nil, &out, &errs); err != nil {
			t.Errorf("%v\n%s", err, b[1])
		}
	}
}

// Five minutes to protect an own origin: the command as written, before an origin that knows nothing of us.
func TestProtectAnyOrigin(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Stanchion-Session") == "" {
			t.Error("the origin is not told the session")
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "hello from the origin, "+r.Host)
	}))
	defer origin.Close()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, done := &output{}, make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"edge", "--protect", origin.URL, "--data_dir=" + t.TempDir(), "--listeners.public.address=127.0.0.1:0",
			"--listeners.console.address=127.0.0.1:0", "--listeners.operations.address=127.0.0.1:0"}, nil, out, io.Discard)
	}()
	base := awaitAddress(t, out, done)
	for deadline := time.Now().Add(20 * time.Second); ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/some/page", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			body, rerr := io.ReadAll(resp.Body)
			resp.Body.Close()
			if rerr != nil {
				t.Fatal(rerr)
			}
			if decision := resp.Header.Get("Stanchion-Decision"); decision == "open" {
				if want := "hello from the origin, " + strings.TrimPrefix(base, "http://"); string(body) != want {
					t.Fatalf("got %q, want %q", body, want)
				}
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody is let into an empty room: %v", err)
		}
		<-time.After(50 * time.Millisecond) // poll: the room opens within a second
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatalf("the edge did not stop cleanly: %v", err)
	}
}
