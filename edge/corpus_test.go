package edge

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stanchion-queue/stanchion/edge/guard/corpus"
)

// TestCorpusThroughTheEdge sends guard's whole corpus to a running edge: refused requests never reach the origin, accepted
// ones arrive as the case says.
func TestCorpusThroughTheEdge(t *testing.T) {
	cases, err := corpus.Load(os.DirFS("guard/testdata"))
	if err != nil {
		t.Fatal(err)
	}
	type sight struct {
		target, body string
		header       http.Header
		host         string
	}
	var last atomic.Pointer[sight]
	r := newRig(t, func(_ http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if err == nil {
			last.Store(&sight{req.RequestURI, string(b), req.Header, req.Host})
		}
	}, func(o *Options) {
		o.Routes = []Route{{Upstream: "shop", Priority: PriorityDefault}}
		o.Limits.NetworkPerSecond = -1
	})
	refused, accepted := 0, 0
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			last.Store(nil)
			before := r.hits.Load()
			if err := corpus.Try(context.Background(), r.addr, c); err != nil {
				t.Fatal(err)
			}
			hits := int(r.hits.Load() - before)
			s := last.Load()
			if c.Refuse {
				refused++
				// A body that turns out bad may have begun to arrive; it must not have arrived as a whole.
				if s != nil && c.After == 0 {
					t.Errorf("the origin has read a refused request: %+v", s)
				}
				return
			}
			accepted++
			if c.Local {
				if hits != 0 {
					t.Error("the origin was asked")
				}
				return
			}
			if hits != c.Count || s == nil {
				t.Fatalf("the origin saw %d requests, want %d", hits, c.Count)
			}
			if s.body != c.Body || c.Target != "" && s.target != c.Target {
				t.Errorf("the origin saw %s with body %q, want %s, %q", s.target, s.body, c.Target, c.Body)
			}
			for _, n := range c.Lacks {
				if s.header.Get(n) != "" {
					t.Errorf("%s reached the origin", n)
				}
			}
			for _, n := range c.Keeps {
				if s.header.Get(n) == "" && !(strings.EqualFold(n, "Host") && s.host != "") {
					t.Errorf("%s did not reach the origin", n)
				}
			}
		})
	}
	t.Logf("%d refused, %d accepted", refused, accepted)
}
