package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSecretsAreMasked(t *testing.T) {
	const secret = "hunter2"
	token := "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJmYW4ifQ.c2lnbmF0dXJl"
	u, err := url.Parse("redis://user:" + secret + "@db:6379/0")
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]any{
		"by key":           {"password", secret},
		"key in a group":   {slog.Group("redis", "Password", secret)},
		"key with hyphens": {"Set-Cookie", secret},
		"bytes":            {"webhook_secret", []byte(secret)},
		"struct":           {"token", struct{ V string }{secret}},
		"url in a text":    {"url", "postgres://app:" + secret + "@db/x"},
		"url in an error":  {"error", fmt.Errorf("dial: %w", errors.New("postgres://app:"+secret+"@db/x refused"))},
		"url value":        {"target", u},
		"token in a text":  {"line", "GET / " + token},
	} {
		for _, format := range []string{"text", "json"} {
			var out bytes.Buffer
			NewLogger(&out, slog.LevelInfo, format).With("kept", "yes").Info("said", args...)
			if got := out.String(); strings.Contains(got, secret) || strings.Contains(got, token[:20]) || !strings.Contains(got, "yes") || !strings.Contains(got, "said") {
				t.Errorf("%s, %s: %s", name, format, got)
			}
		}
	}
}

func TestWhatIsNoSecretIsWritten(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(&out, slog.LevelInfo, "json")
	log.Info("x", "token", 7, "url", "http://a.example/b", "error", errors.New("refused"), "took", 3*time.Second, "room", "main", "password", "")
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"token": 7.0, "url": "http://a.example/b", "error": "refused", "took": 3e9, "room": "main", "password": ""} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
}

func TestLevelMoves(t *testing.T) {
	var out bytes.Buffer
	level := new(slog.LevelVar)
	log := NewLogger(&out, level, "text")
	log.Debug("first")
	level.Set(slog.LevelDebug)
	log.Debug("second")
	if got := out.String(); strings.Contains(got, "first") || !strings.Contains(got, "second") {
		t.Errorf("wrote %q", got)
	}
}

func TestRegistry(t *testing.T) {
	families, err := NewRegistry("1.2.3", "abc").Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	for _, want := range []string{"stanchion_build_info", "go_goroutines", "process_start_time_seconds"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is missing from %v", want, names)
		}
	}
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var ran []string
		boom := errors.New("boom")
		step := func(name string, took time.Duration, err error) Step {
			return Step{name, func(ctx context.Context) error {
				ran = append(ran, name)
				select {
				case <-time.After(took):
					return err
				case <-ctx.Done():
					return ctx.Err()
				}
			}}
		}
		err := Drain(ctx, NewLogger(&out, slog.LevelInfo, "text"),
			step("listeners", 2*time.Second, nil), step("orders", time.Second, boom), step("slow", time.Hour, nil), step("stores", 0, nil))
		if want := []string{"listeners", "orders", "slow", "stores"}; !slices.Equal(ran, want) {
			t.Errorf("ran %v, want %v", ran, want)
		}
		if !errors.Is(err, boom) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "stop orders: boom") || !strings.Contains(err.Error(), "stop slow") {
			t.Errorf("error %v", err)
		}
		for _, want := range []string{`"stop: listeners done" took=2s`, `"stop: orders failed" took=1s error=boom`, `"stop: slow failed" took=2s`, `msg=stopped took=5s`} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("the log lacks %s:\n%s", want, out.String())
			}
		}
	})
}

func TestTracingIsOffByDefault(t *testing.T) {
	tracing, err := NewTracing(t.Context(), TracingOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracing.Tracer("x").Start(t.Context(), "y")
	if span.IsRecording() || span.SpanContext().IsValid() || tracing.Enabled() {
		t.Error("spans are made with no endpoint")
	}
	if err := tracing.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTracesReachTheCollector(t *testing.T) {
	type export struct {
		path string
		body []byte
	}
	got := make(chan export, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- export{r.URL.Path, body}
	}))
	defer collector.Close()
	for _, base := range []string{"", "/", "/v1/traces", "/otlp"} {
		tracing, err := NewTracing(t.Context(), TracingOptions{Endpoint: collector.URL + base, SampleRatio: 1, Timeout: 5 * time.Second, Service: "stanchion-test", Version: "1", Node: "n1", Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		_, span := tracing.Tracer("edge").Start(t.Context(), "the-span")
		span.End()
		if err := tracing.Shutdown(t.Context()); err != nil {
			t.Fatalf("%q: %v", base, err)
		}
		e := <-got
		want := "/v1/traces"
		if base == "/otlp" {
			want = "/otlp/v1/traces"
		}
		if e.path != want || !bytes.Contains(e.body, []byte("the-span")) || !bytes.Contains(e.body, []byte("stanchion-test")) || !tracing.Enabled() {
			t.Errorf("%q: collector got %s, %q", base, e.path, e.body)
		}
	}
}

func TestSampleRatio(t *testing.T) {
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer collector.Close()
	tracing, err := NewTracing(t.Context(), TracingOptions{Endpoint: collector.URL, SampleRatio: 0, Timeout: time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, span := tracing.Tracer("x").Start(t.Context(), "y"); span.SpanContext().IsSampled() {
			t.Fatal("sampled with ratio 0")
		}
	}
	if err := tracing.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
