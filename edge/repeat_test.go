package edge

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// TestIdempotencyKeyAllowsRepetition: when the origin breaks off, a request with a key is sent once more with the same body; one
// without is not, nor one whose body is too large to hold.
func TestIdempotencyKeyAllowsRepetition(t *testing.T) {
	var tries atomic.Int64
	var bodies atomic.Value
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		bodies.Store(string(b))
		if tries.Add(1) == 1 {
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = c.Close()
			}
			return
		}
		_, _ = io.WriteString(w, "ordered")
	})
	for _, k := range []struct {
		name, body string
		headers    []string
		status     int
		tries      int64
	}{
		{"with a key", "seat=A1", []string{"Idempotency-Key", `"k1"`}, 200, 2},
		{"with a key and no body", "", []string{"Idempotency-Key", `"k2"`}, 200, 2},
		{"as large as may be", strings.Repeat("x", smallBody), []string{"Idempotency-Key", `"k3"`}, 200, 2},
		{"too large", strings.Repeat("x", smallBody+1), []string{"Idempotency-Key", `"k4"`}, 502, 1},
		{"without a key", "seat=A1", nil, 502, 1},
	} {
		tries.Store(0)
		resp := r.ask("POST", "/free/orders", strings.NewReader(k.body), k.headers...)
		if resp.StatusCode != k.status || tries.Load() != k.tries || bodies.Load() != k.body {
			t.Errorf("%s: %d after %d tries with %d bytes", k.name, resp.StatusCode, tries.Load(), len(bodies.Load().(string)))
		}
	}
	// A client that does not send its body to the end is told so, and the origin hears nothing.
	tries.Store(0)
	got := r.raw("POST /free/orders HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 10\r\n\r\nhalf")
	wantContains(t, got, "HTTP/1.1 400 Bad Request", "body-truncated")
	if tries.Load() != 0 {
		t.Error("half a request reached the origin")
	}
}
