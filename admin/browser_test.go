//go:build ui

package admin_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/admin/desk"
	"github.com/stanchion-queue/stanchion/admin/desktest"
)

// TestPagesInABrowser looks at every page in Chromium: as it is, as its live parts change, by keyboard, without JavaScript, in each
// width and colour scheme, and through axe. Screenshots go to the folder in STANCHION_TEST_SCREENSHOTS, if it is set.
func TestPagesInABrowser(t *testing.T) {
	chromium, modules := os.Getenv("STANCHION_TEST_CHROMIUM"), os.Getenv("STANCHION_TEST_NODE_MODULES")
	if chromium == "" || modules == "" {
		t.Fatal("STANCHION_TEST_CHROMIUM and STANCHION_TEST_NODE_MODULES are not set: go run ./tools/services up browser sets them")
	}
	c, stopped := evening(t)
	s := httptest.NewUnstartedServer(c)
	s.Config.ReadTimeout, s.Config.WriteTimeout = 5*time.Second, 5*time.Second // streams must live longer than these
	s.Start()
	defer s.Close()
	// How the test makes the controller stop and start.
	control := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stopped.Store(r.URL.Path == "/stop") }))
	defer control.Close()

	shots := os.Getenv("STANCHION_TEST_SCREENSHOTS")
	if shots == "" {
		shots = t.TempDir()
	}
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	given, err := json.Marshal(map[string]string{"base": "http://127.0.0.1:" + port, "login": c.LoginPath(), "control": control.URL,
		"chromium": chromium, "modules": modules, "shots": shots})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", filepath.Join("testdata", "console.js"), string(given))
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// evening is a console that has watched a sale for an hour, and goes on watching. While stopped is set the controller is silent.
func evening(t *testing.T) (c console, stopped *atomic.Bool) {
	const hour = 3600
	began := time.Now().Add(-hour * time.Second)
	h := desktest.New("onsale", "members")
	at := began
	var live atomic.Bool
	clock := func() time.Time {
		if live.Load() {
			return time.Now()
		}
		return at
	}
	c = overClock(t, h, clock)
	for i := range hour - 2 {
		at = began.Add(time.Duration(i) * time.Second)
		if i < 1500 || i > 1560 { // the controller was away for a minute
			h.Show("onsale", desktest.Evening(at, at.Sub(began)))
		}
		c.Desk().Record(t.Context())
	}
	h.Sell("onsale", desk.Sale{At: time.Now(), Sellable: 1240, Held: 96, Sold: 2664, Orders: map[string]int64{"paid": 1100, "open": 31}})
	h.Join(desk.Edge{ID: "5f0c2a9b11d04e77", Label: "edge-a", SeenAt: time.Now(), Parked: 3, Sessions: 260},
		desk.Edge{ID: "99ab2a9b11d04e12", Label: "edge-b", SeenAt: time.Now().Add(-time.Minute), Parked: 0, Sessions: 240})
	live.Store(true)
	stopped = new(atomic.Bool)
	go func() {
		tick := time.NewTicker(time.Second / 4)
		defer tick.Stop()
		for {
			if now := time.Now(); !stopped.Load() {
				l := desktest.Evening(now, now.Sub(began))
				_, doc := h.Current("onsale")
				var set struct {
					Mode string
					Cap  int64
					Rate float64 `json:"rate_per_second"`
				}
				if json.Unmarshal(doc, &set) == nil {
					l.Mode, l.Cap, l.RatePerSecond = set.Mode, set.Cap, set.Rate
				}
				if l.Mode == "paused" {
					l.Phase, l.LimitedBy = "paused", "paused"
				}
				h.Show("onsale", l)
			}
			select {
			case <-t.Context().Done():
				return
			case <-tick.C:
			}
		}
	}()
	c.run()
	return c, stopped
}
