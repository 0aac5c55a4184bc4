package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const chromium = "/usr/bin/chromium"

// browser is no server: it is Chromium, and the Node modules that drive it and
// judge a page's accessibility. The page tests start it themselves.
func (s site) browser() engine {
	project := filepath.Join(s.root, "tools", "browser")
	modules := filepath.Join(project, "node_modules")
	stamp := filepath.Join(modules, ".installed-for")
	e := engine{
		name:      "browser",
		version:   "Chromium of Debian",
		onRequest: true,
		dir:       s.run("browser"),
		needs:     []tool{{chromium, "chromium"}},
		env: []variable{
			{"STANCHION_TEST_CHROMIUM", chromium},
			{"STANCHION_TEST_NODE_MODULES", modules},
		},
	}
	e.obtain = func(ctx context.Context) error {
		version, err := output(ctx, project, "node", "--version")
		if err != nil || !newEnough(version) {
			return fmt.Errorf("needs Node.js 20 or newer with npm, and Debian 12 has only 18 (node --version: %q, %v)", strings.TrimSpace(version), err)
		}
		lock, err := os.ReadFile(filepath.Join(project, "package-lock.json"))
		if err != nil {
			return err
		}
		sum := fmt.Sprintf("%x", sha256.Sum256(lock))
		if have, err := os.ReadFile(stamp); err == nil && string(have) == sum {
			return nil
		}
		if _, err := output(ctx, project, "npm", "ci", "--no-audit", "--no-fund"); err != nil {
			return err
		}
		return os.WriteFile(stamp, []byte(sum), 0o644)
	}
	e.ready = func(ctx context.Context) error {
		if _, err := output(ctx, project, chromium, "--version"); err != nil {
			return err
		}
		_, err := output(ctx, project, "node", "-e", "require('playwright-core'); require('axe-core')")
		return err
	}
	return e
}

// newEnough reads what node --version prints, such as v20.20.2.
func newEnough(version string) bool {
	major, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(version), "v"), ".")
	n, err := strconv.Atoi(major)
	return err == nil && n >= 20
}
