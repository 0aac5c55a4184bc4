//go:build ui

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/edge/waitpage"
	"github.com/stanchion-queue/stanchion/tools/pages/stage"
)

// drive runs a script of testdata against a stage and the previews.
func drive(t *testing.T, script string) {
	t.Helper()
	chromium, modules := os.Getenv("STANCHION_TEST_CHROMIUM"), os.Getenv("STANCHION_TEST_NODE_MODULES")
	if chromium == "" || modules == "" {
		t.Fatal("STANCHION_TEST_CHROMIUM and STANCHION_TEST_NODE_MODULES are not set: go run ./tools/services up browser sets them")
	}
	s, err := stage.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	pages, err := waitpage.New("/.stanchion")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	previews := &http.Server{Handler: handler(pages), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = previews.Serve(l) }()
	defer previews.Close()
	client, err := filepath.Abs("../../edge/waitpage/built/client.js")
	if err != nil {
		t.Fatal(err)
	}
	million, err := filepath.Abs("../../queue/line/testdata/million.json")
	if err != nil {
		t.Fatal(err)
	}
	given, err := json.Marshal(map[string]any{"base": s.URL, "previews": "http://" + l.Addr().String(), "states": waitpage.Previews(), "chromium": chromium, "modules": modules,
		"client": client, "million": million})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", filepath.Join("testdata", script))
	cmd.Stdin = bytes.NewReader(given)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// TestJourneys plays a fan's ways through the page in Chromium.
func TestJourneys(t *testing.T) { drive(t, "journeys.js") }

// TestAxe judges the accessibility of every state, light and dark, left to right and right to left, with and without JavaScript.
func TestAxe(t *testing.T) { drive(t, "axe.js") }

// TestMillionRanks has the browser compute a million places and compares them with the digests that the Go program keeps.
func TestMillionRanks(t *testing.T) { drive(t, "million.js") }
