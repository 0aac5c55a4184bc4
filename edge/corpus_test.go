package edge

import (
	"os"
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
	origin := &corpus.Origin{}
	r := newRig(t, origin.ServeHTTP, func(o *Options) {
		o.Routes = []Route{{Upstream: "shop", Priority: PriorityDefault}}
		o.Limits.NetworkPerSecond = -1
	})
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			origin.Reset()
			if err := corpus.Try(t.Context(), r.addr, c); err != nil {
				t.Fatal(err)
			}
			if err := origin.Judge(c); err != nil {
				t.Error(err)
			}
		})
	}
}
