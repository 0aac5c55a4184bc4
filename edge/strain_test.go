package edge

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/edge/pressure"
)

// TestPressure: near the end of what the process may use, those who wait hold no connections; at its end those inside go on and
// nobody new is taken in; afterwards all is as before.
func TestPressure(t *testing.T) {
	var used atomic.Uint64
	r := newRig(t, nil, func(o *Options) {
		o.Routes = append([]Route{{Paths: []string{"/pay"}, Upstream: "shop", Priority: 0}}, o.Routes...)
		o.usageEvery = 5 * time.Millisecond
		o.usage = func() (pressure.Usage, error) {
			return pressure.Usage{Descriptors: math.Float64frombits(used.Load())}, nil
		}
	})
	reach := func(share float64, want pressure.Level) {
		t.Helper()
		used.Store(math.Float64bits(share))
		waitFor(t, func() bool { return r.edge.pressure() == want })
	}
	pass := "stanchion-pass-onsale=" + r.room.passFor(t, nil)
	type conn struct {
		net.Conn
		br *bufio.Reader
	}
	dial := func() conn {
		t.Helper()
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		return conn{c, bufio.NewReader(c)}
	}
	ask := func(c conn, path, cookie string) *http.Response {
		t.Helper()
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\nCookie: a=b; %s\r\n\r\n", path, r.addr, cookie); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(c.br, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body = io.NopCloser(strings.NewReader(string(b)))
		return resp
	}
	status := DefaultPrefix + "/rooms/onsale/status"
	cases := []struct {
		path, cookie         string
		calm, high, critical int
	}{
		{"/gala", pass, 200, 200, 200},
		{"/pay", "", 200, 200, 200}, // of the top class
		{"/free", "", 200, 200, 503},
		{"/gala", "", 503, 503, 503},
		{status, "", 200, 200, 200}, // cheap, and what those who wait live on
	}
	var inside [3][]conn
	for i := range inside {
		for _, k := range cases {
			c := dial()
			if resp := ask(c, k.path, k.cookie); resp.StatusCode != k.calm || resp.Close {
				t.Errorf("calm, %s: %d, closed %v", k.path, resp.StatusCode, resp.Close)
			}
			inside[i] = append(inside[i], c)
		}
	}

	reach(0.9, pressure.High)
	for i, k := range cases {
		resp := ask(inside[0][i], k.path, k.cookie)
		own := k.path == status || k.high != 200
		if resp.StatusCode != k.high || resp.Close != own {
			t.Errorf("high, %s: %d, closed %v", k.path, resp.StatusCode, resp.Close)
		}
	}

	reach(0.99, pressure.Critical)
	for i, k := range cases {
		resp := ask(inside[1][i], k.path, k.cookie)
		if resp.StatusCode != k.critical {
			t.Errorf("critical, %s: %d, want %d", k.path, resp.StatusCode, k.critical)
		}
		if k.path == "/free" {
			wantProblem(t, resp, 503, "overloaded")
			if resp.Header.Get("Stanchion-Decision") != "shed" || resp.Header.Get("Stanchion-Reason") != "pressure" {
				t.Errorf("%v", resp.Header)
			}
		}
	}
	if c, err := net.Dial("tcp", r.addr); err == nil { // it may be reset before it is made
		if b, err := io.ReadAll(c); len(b) > 0 {
			t.Errorf("a new connection was served: %q %v", b, err)
		}
		_ = c.Close()
	}

	reach(0.1, pressure.Calm)
	if resp := ask(dial(), "/free", ""); resp.StatusCode != 200 || resp.Close {
		t.Errorf("calm again: %d, closed %v", resp.StatusCode, resp.Close)
	}
}
