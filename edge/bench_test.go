//go:build unix

package edge

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/stanchion-queue/stanchion/edge/admit"
	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// benchOrigin is a fast origin that answers 512 bytes.
func benchOrigin(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 512)
	s := &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.Response.Header.Set("Cache-Control", "no-store")
		ctx.SetBody(body)
	}}
	go func() { _ = s.Serve(l) }()
	b.Cleanup(func() { _ = s.Shutdown() })
	return "http://" + l.Addr().String()
}

// drive sends one keep-alive request after the other over several connections.
func drive(b *testing.B, addr, path, headers string) {
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\nUser-Agent: Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36\r\n" +
		"Accept: text/html,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate, br\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nCookie: session=0123456789abcdef" + headers + "\r\n\r\n")
	b.ReportAllocs()
	b.SetParallelism(16)
	// Wall time depends on what else the machine does; the processor's does much less. It holds generator and origin too.
	start := cpu()
	defer func() { b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op") }()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		buf := make([]byte, 8192)
		for pb.Next() {
			if _, err := c.Write(request); err != nil {
				b.Error(err)
				return
			}
			n := 0
			for want := -1; want < 0 || n < want; {
				m, err := c.Read(buf[n:])
				if err != nil {
					b.Error(err)
					return
				}
				n += m
				if want < 0 {
					want = responseLength(buf[:n])
				}
			}
			if string(buf[9:12]) != "200" {
				b.Errorf("%s", buf[:n])
				return
			}
		}
	})
}

// cpu is the processor time this process has used, in nanoseconds.
func cpu() int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

// responseLength is the whole length of the response that begins in b, or -1 while its head is not complete.
func responseLength(b []byte) int {
	var length, end int
	for i := 0; i+3 < len(b); i++ {
		if b[i] == '\r' && b[i+1] == '\n' {
			if b[i+2] == '\r' && b[i+3] == '\n' {
				end = i + 4
				break
			}
			if i+18 < len(b) && (string(b[i+2:i+18]) == "Content-Length: ") {
				length = 0
				for j := i + 18; j < len(b) && b[j] >= '0' && b[j] <= '9'; j++ {
					length = length*10 + int(b[j]-'0')
				}
			}
		}
	}
	if end == 0 {
		return -1
	}
	return end + length
}

// quietRoom answers without locks or allocations: the edge is measured, not the room.
type quietRoom struct {
	*fakeRoom
	view line.View
}

func (q *quietRoom) View() *line.View                    { return &q.view }
func (q *quietRoom) Use(pass.Claims, time.Time) line.Use { return line.Use{Alive: true} }

// BenchmarkProxy compares an admitted request through the edge, all checks on, with a bare fasthttp proxy and with
// net/http's ReverseProxy, in one run.
func BenchmarkProxy(b *testing.B) {
	origin := benchOrigin(b)
	target, err := url.Parse(origin)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("edge", func(b *testing.B) {
		room := newFakeRoom(b, "onsale")
		r := newRig(b, nil, func(o *Options) {
			o.Routes = []Route{{Upstream: "shop", Room: "onsale", Priority: PriorityDefault}}
			o.Upstreams = map[string]Upstream{"shop": {Targets: []string{origin}, MinConcurrent: 256}}
			o.Rooms = map[string]RoomOptions{"onsale": {Room: &quietRoom{room, line.View{Phase: line.PhaseWaiting}}}}
			o.Passes = room.keys.Verifier()
			o.Limits.SessionPerSecond, o.Limits.SessionBurst = 1e9, 1e9
			o.Limits.NetworkPerSecond, o.Limits.NetworkBurst = 1e9, 1e9
			o.AccessLog = AccessLog{Logger: slog.New(slog.NewJSONHandler(io.Discard, nil)), OneIn: 100}
		})
		token := room.passFor(b, func(c *pass.Claims) { c.ExpiresAt = time.Now().Add(time.Hour) })
		drive(b, r.addr, "/gala", "; stanchion-pass-onsale="+token)
	})
	b.Run("fasthttp", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		hc := &fasthttp.HostClient{Addr: target.Host, MaxConns: 4096}
		s := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.Request.Header.Del("Connection")
			if err := hc.Do(&ctx.Request, &ctx.Response); err != nil {
				ctx.Error(err.Error(), 502)
			}
			ctx.Response.Header.Del("Connection")
		}}
		go func() { _ = s.Serve(l) }()
		defer func() { _ = s.Shutdown() }()
		drive(b, l.Addr().String(), "/gala", "")
	})
	b.Run("nethttp", func(b *testing.B) {
		p := httputil.NewSingleHostReverseProxy(target)
		p.Transport = &http.Transport{MaxIdleConnsPerHost: 4096, MaxIdleConns: 4096}
		s := &http.Server{Handler: p, ReadHeaderTimeout: time.Second}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		go func() { _ = s.Serve(l) }()
		defer s.Close()
		drive(b, l.Addr().String(), "/gala", "")
	})
	b.Run("refusal", func(b *testing.B) {
		r := newRig(b, nil, func(o *Options) { o.Limits.NetworkPerSecond = -1; o.AccessLog = AccessLog{} })
		drive503(b, r.addr)
	})
}

// drive503 measures the cheap answer to what has no pass.
func drive503(b *testing.B, addr string) {
	request := fmt.Appendf(nil, "GET /gala HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\n\r\n", addr)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		buf := make([]byte, 8192)
		for pb.Next() {
			if _, err := c.Write(request); err != nil {
				b.Error(err)
				return
			}
			if _, err := c.Read(buf); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// TestVerifiedPassIsRemembered: the second look at a pass costs a lookup, in bounded memory.
func TestVerifiedPassIsRemembered(t *testing.T) {
	room := newFakeRoom(t, "onsale")
	calls := 0
	k := newKnown(verifierFunc(func(token, name string, now time.Time) (pass.Claims, error) {
		calls++
		return room.keys.Verifier().Verify(token, name, now)
	}), 128)
	token := []byte(room.passFor(t, nil))
	now := time.Now()
	for range 3 {
		if c, st := k.verify(token, "onsale", now); st != admit.PassGenuine || c.Room != "onsale" {
			t.Fatal(c, st)
		}
	}
	if calls != 1 {
		t.Errorf("verified %d times", calls)
	}
	if _, st := k.verify(token, "other", now); st != admit.PassInvalid {
		t.Error("a remembered pass opened another room")
	}
	if a := testing.AllocsPerRun(100, func() { k.verify(token, "onsale", now) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
	for i := range 1000 {
		p := room.passFor(t, func(c *pass.Claims) { c.Identifier = fmt.Sprint(i) })
		if _, st := k.verify([]byte(p), "onsale", now); st != admit.PassGenuine {
			t.Fatal(st)
		}
	}
	if n := k.size(); n > 128 {
		t.Errorf("remembers %d passes, at most 128 may be", n)
	}
}

type verifierFunc func(token, room string, now time.Time) (pass.Claims, error)

func (f verifierFunc) Verify(token, room string, now time.Time) (pass.Claims, error) {
	return f(token, room, now)
}
