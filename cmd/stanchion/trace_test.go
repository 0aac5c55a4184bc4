package main

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// One request's trace runs from the edge into the core: both send their spans of it to the collector.
func TestTraceRunsThroughTheRoles(t *testing.T) {
	var mu sync.Mutex
	parts := map[string]map[string]bool{} // trace id -> parts that made spans of it
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body io.Reader = r.Body
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = z
		}
		raw, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
		}
		var req collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(raw, &req); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range req.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					id := string(s.GetTraceId())
					if parts[id] == nil {
						parts[id] = map[string]bool{}
					}
					parts[id][ss.GetScope().GetName()] = true
				}
			}
		}
	}))
	defer sink.Close()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, done := &output{}, make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"demo", "--data_dir=" + t.TempDir(), "--demo.fans=0", "--demo.stadium=false", "--tracing.endpoint=" + sink.URL, "--tracing.sample_ratio=1",
			"--listeners.public.address=127.0.0.1:0", "--listeners.console.address=127.0.0.1:0", "--listeners.operations.address=127.0.0.1:0",
			"--listeners.provider.address=127.0.0.1:0"}, nil, out, io.Discard)
	}()
	base := awaitAddress(t, out, done)
	resp, err := http.Get(base + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("home page: %d", resp.StatusCode)
	}
	cancel() // a stop sends what is left
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, p := range parts {
		if p["stanchion/edge"] && p["stanchion/core"] {
			return
		}
	}
	t.Fatalf("no trace has spans of edge and core: %v", parts)
}

var fansAddress = regexp.MustCompile(`fans\s+(http://\S+)`)

// awaitAddress is the public address that a starting program prints.
func awaitAddress(t *testing.T, out *output, done <-chan error) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if m := fansAddress.FindStringSubmatch(out.String()); m != nil {
			return m[1]
		}
		select {
		case err := <-done:
			t.Fatalf("the program ended: %v\n%s", err, out)
		case <-time.After(20 * time.Millisecond): // poll
		}
		if time.Now().After(deadline) {
			t.Fatalf("no address after 20 s:\n%s", out)
		}
	}
}
