package vitals

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestSnapshotLooksBackFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := New(prometheus.NewRegistry(), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		h := r.Wrap(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			switch req.URL.Path {
			case "/slow":
				time.Sleep(800 * time.Millisecond) // virtual
			case "/fail":
				w.WriteHeader(http.StatusInternalServerError)
			case "/moment":
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		get := func(path string) { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)) }
		if e, p, n := r.Snapshot(); e != 0 || p != 0 || n != 0 {
			t.Fatalf("idle: %v %v %v", e, p, n)
		}
		for range 8 {
			get("/")
		}
		get("/fail")
		get("/moment")
		if e, p, n := r.Snapshot(); e != 0.1 || p > 10*time.Millisecond || n != 10 {
			t.Fatalf("one of ten failed: ratio %v, p99 %v, %d answers", e, p, n)
		}
		get("/slow")
		if _, p, _ := r.Snapshot(); p < 790*time.Millisecond || p > 820*time.Millisecond {
			t.Fatalf("p99 = %v, want about 800 ms", p)
		}
		time.Sleep(6 * time.Second) // virtual
		if _, _, n := r.Snapshot(); n != 0 {
			t.Fatalf("%d answers are remembered after six seconds", n)
		}
	})
}
