// Command lighthouse scores the fan's page with a pinned Lighthouse on a throttled mobile phone, and fails below 95 in any category. The audit is-crawlable is
// left out, since a waiting page must not be indexed. It needs Chromium, Node.js and, once, the network.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/stanchion-queue/stanchion/tools/pages/stage"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "lighthouse:", err)
		os.Exit(1)
	}
}

func run() error {
	dir := filepath.Join("tools", "lighthouse")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "lighthouse")); err != nil {
		install := exec.Command("npm", "ci", "--no-audit", "--no-fund")
		install.Dir, install.Stdout, install.Stderr = dir, os.Stderr, os.Stderr
		if err := install.Run(); err != nil {
			return fmt.Errorf("install: %w", err)
		}
	}
	s, err := stage.Start()
	if err != nil {
		return err
	}
	defer s.Close()
	chromium := os.Getenv("STANCHION_TEST_CHROMIUM")
	if chromium == "" {
		chromium = "/usr/bin/chromium"
	}
	given, err := json.Marshal(map[string]any{"url": s.URL + "/gala", "chromium": chromium, "least": 95})
	if err != nil {
		return err
	}
	cmd := exec.Command("node", "score.mjs")
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, bytes.NewReader(given), os.Stdout, os.Stderr
	return cmd.Run()
}
