package edge

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// TestBodiesAreUntouched: what the origin sends arrives byte for byte, with its own headers and nothing of ours in between.
func TestBodiesAreUntouched(t *testing.T) {
	dir := t.TempDir()
	content := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	if err := os.WriteFile(filepath.Join(dir, "file.bin"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(content)
	_ = z.Close()
	files := http.StripPrefix("/static", http.FileServer(http.Dir(dir)))
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/static/gz":
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped.Bytes())
		case "/static/headers":
			h := w.Header()
			h["x-lower-case"] = []string{"a", "b"}
			h.Add("Set-Cookie", "sid=1; Path=/; HttpOnly")
			h.Add("Set-Cookie", "csrf=2")
			h.Set("ETag", `"v1"`)
			h.Set("Location", "http://"+req.Host+"/elsewhere")
			h.Set("Stanchion-Decision", "spoofed")
			h.Set("Connection", "X-Private")
			h.Set("X-Private", "hop")
			w.WriteHeader(302)
		case "/static/none":
			w.WriteHeader(204)
		default:
			files.ServeHTTP(w, req)
		}
	})
	whole := r.ask("GET", "/static/file.bin", nil)
	if whole.StatusCode != 200 || text(whole) != string(content) || whole.ContentLength != int64(len(content)) || whole.Header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("file: %d, %d bytes, %v", whole.StatusCode, len(text(whole)), whole.Header)
	}
	part := r.ask("GET", "/static/file.bin", nil, "Range", "bytes=5-9")
	if part.StatusCode != 206 || text(part) != "56789" || part.Header.Get("Content-Range") != fmt.Sprintf("bytes 5-9/%d", len(content)) {
		t.Errorf("range: %d %q %v", part.StatusCode, text(part), part.Header)
	}
	multi := r.ask("GET", "/static/file.bin", nil, "Range", "bytes=0-1,5-6")
	if multi.StatusCode != 206 || !strings.HasPrefix(multi.Header.Get("Content-Type"), "multipart/byteranges") {
		t.Errorf("ranges: %d %v", multi.StatusCode, multi.Header)
	}
	if cached := r.ask("GET", "/static/file.bin", nil, "If-Modified-Since", whole.Header.Get("Last-Modified")); cached.StatusCode != 304 || text(cached) != "" {
		t.Errorf("revalidation: %d", cached.StatusCode)
	}
	if head := r.ask("HEAD", "/static/file.bin", nil); head.ContentLength != int64(len(content)) || text(head) != "" {
		t.Errorf("HEAD: %d", head.ContentLength)
	}
	gz := r.ask("GET", "/static/gz", nil, "Accept-Encoding", "gzip")
	if text(gz) != zipped.String() || gz.Header.Get("Content-Encoding") != "gzip" || r.last.Load().Header.Get("Accept-Encoding") != "gzip" {
		t.Errorf("gzip: %d bytes, %v", len(text(gz)), gz.Header)
	}
	h := r.ask("GET", "/static/headers", nil)
	if h.StatusCode != 302 || h.Header.Get("Location") != r.url+"/elsewhere" || len(h.Header.Values("Set-Cookie")) != 2 || len(h.Header.Values("X-Lower-Case")) != 2 ||
		h.Header.Get("Etag") != `"v1"` || h.Header.Get("X-Private") != "" || h.Header.Get("Stanchion-Decision") != "free" {
		t.Errorf("headers: %d %v", h.StatusCode, h.Header)
	}
	if n := len(h.Header.Values("Date")); n != 1 {
		t.Errorf("%d Date fields", n)
	}
	if none := r.ask("GET", "/static/none", nil); none.StatusCode != 204 || none.Header.Get("Content-Type") != "" {
		t.Errorf("204: %d %v", none.StatusCode, none.Header)
	}
}

// TestUploadsStream: bodies of known and unknown length arrive whole while being sent, in bounded memory.
func TestUploadsStream(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, req.Body)
		if err != nil {
			w.WriteHeader(499)
			return
		}
		_, _ = fmt.Fprintf(w, "%d %x %d %v", n, h.Sum(nil), req.ContentLength, req.TransferEncoding)
	})
	body := bytes.Repeat([]byte("upload, "), 1<<20)
	sum := sha256.Sum256(body)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		known := r.ask(method, "/free/up", bytes.NewReader(body))
		if got, want := text(known), fmt.Sprintf("%d %x %d []", len(body), sum, len(body)); got != want {
			t.Errorf("%s: %s, want %s", method, got, want)
		}
	}
	chunked := r.ask("POST", "/free/up", io.MultiReader(bytes.NewReader(body))) // of unknown length
	if got, want := text(chunked), fmt.Sprintf("%d %x -1 [chunked]", len(body), sum); got != want {
		t.Errorf("chunked: %s, want %s", got, want)
	}
	if empty := r.ask("POST", "/free/up", nil); !strings.HasPrefix(text(empty), "0 ") {
		t.Errorf("empty: %s", text(empty))
	}
	small := newRig(t, nil, func(o *Options) { o.Routes[0].MaxBody = 10 })
	if resp := small.ask("POST", "/free", strings.NewReader("12345678901")); resp.StatusCode != 413 || small.hits.Load() != 0 {
		t.Errorf("too large: %d", resp.StatusCode)
	}
	if resp := small.ask("POST", "/free", io.MultiReader(strings.NewReader("12345678901"))); resp.StatusCode != 413 {
		t.Errorf("too large, chunked: %d", resp.StatusCode)
	}
}

// TestUploadArrivesWhileSent: the origin sees the first bytes of a body before the last are sent.
func TestUploadArrivesWhileSent(t *testing.T) {
	got := make(chan string, 2)
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		b := make([]byte, 5)
		_, _ = io.ReadFull(req.Body, b)
		got <- string(b)
		rest, _ := io.ReadAll(req.Body)
		got <- string(rest)
	})
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "POST /free/x HTTP/1.1\r\nHost: "+r.addr+"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
	if first := <-got; first != "first" {
		t.Fatalf("got %q", first)
	}
	_, _ = io.WriteString(c, "4\r\nlast\r\n0\r\nX-User: admin\r\n\r\n")
	if last := <-got; last != "last" {
		t.Fatalf("got %q", last)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
}

// TestTrailersAreDropped: a trailer never becomes a header, and never reaches the origin.
func TestTrailersAreDropped(t *testing.T) {
	var trailer, header atomic.Value
	r := newRig(t, func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.ReadAll(req.Body)
		trailer.Store(fmt.Sprint(req.Trailer))
		header.Store(req.Header.Get("X-User"))
	})
	for _, head := range []string{"", "Trailer: X-User\r\n"} {
		out := r.raw("POST /free HTTP/1.1\r\nHost: " + r.addr + "\r\n" + head + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\na\r\n0\r\nX-User: admin\r\n\r\n")
		if !strings.HasPrefix(out, "HTTP/1.1 200") {
			t.Fatal(out)
		}
		if trailer.Load() != "map[]" || header.Load() != "" {
			t.Errorf("origin saw trailer %v, header %q", trailer.Load(), header.Load())
		}
	}
}

func TestContinue(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Expect") != "" {
			w.WriteHeader(500)
			return
		}
		_, _ = io.Copy(w, req.Body)
	})
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	_, _ = io.WriteString(c, "POST /free HTTP/1.1\r\nHost: "+r.addr+"\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	if l, _ := br.ReadString('\n'); l != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q", l)
	}
	_, _ = br.ReadString('\n')
	_, _ = io.WriteString(c, "hello")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(b) != "hello" {
		t.Fatalf("%d %q", resp.StatusCode, b)
	}

	// Refused before the body: no 100, and the connection ends, since nobody knows whether the body will come.
	_, _ = io.WriteString(c, "POST /gala HTTP/1.1\r\nHost: "+r.addr+"\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	resp, err = http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 503 || !resp.Close {
		t.Fatal(resp, err)
	}
}

// TestServerSentEvents: each event arrives when it is sent.
func TestServerSentEvents(t *testing.T) {
	next := make(chan string)
	gone := make(chan struct{})
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		for {
			select {
			case e := <-next:
				if _, err := io.WriteString(w, "data: "+e+"\n\n"); err != nil {
					return
				}
				w.(http.Flusher).Flush()
			case <-req.Context().Done():
				close(gone)
				return
			}
		}
	})
	req, _ := http.NewRequest("GET", r.url+"/free/events", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(resp.Body)
	for i := range 3 {
		next <- strconv.Itoa(i)
		if l, err := br.ReadString('\n'); err != nil || l != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %q %v", l, err)
		}
		_, _ = br.ReadString('\n')
	}
	_ = resp.Body.Close()
	// The next writes meet a closed connection; the origin is let go.
	for {
		select {
		case next <- "x":
			continue
		case <-gone:
		case <-time.After(10 * time.Second):
			t.Fatal("the origin still streams to nobody")
		}
		break
	}
}

// echoWebSocket is an origin that accepts any upgrade and echoes bytes; the edge does not look into frames.
func echoWebSocket(w http.ResponseWriter, req *http.Request) {
	if !strings.EqualFold(req.Header.Get("Upgrade"), "websocket") {
		http.Error(w, "not an upgrade", http.StatusUpgradeRequired)
		return
	}
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\nearly", base64.StdEncoding.EncodeToString(sum[:]))
	_ = rw.Flush()
	_, _ = io.Copy(c, rw)
}

func TestWebSocket(t *testing.T) {
	r := newRig(t, echoWebSocket)
	head := func(path, extra string) string {
		return "GET " + path + " HTTP/1.1\r\nHost: " + r.addr + "\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + extra + "\r\n"
	}
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, head("/ws", "")+"hello")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || resp.Header.Get("Upgrade") != "websocket" {
		t.Fatal(resp, err)
	}
	buf := make([]byte, 10)
	if _, err := io.ReadFull(br, buf); err != nil || string(buf) != "earlyhello" {
		t.Fatalf("%q %v", buf, err)
	}
	_, _ = io.WriteString(c, "again")
	if _, err := io.ReadFull(br, buf[:5]); err != nil || string(buf[:5]) != "again" {
		t.Fatalf("%q %v", buf[:5], err)
	}
	_ = c.Close()

	// On other routes the upgrade is not passed on.
	if out := r.raw(head("/free/ws", "Connection: close\r\n")); !strings.HasPrefix(out, "HTTP/1.1 426") {
		t.Error(out)
	}
	// Behind a room it needs a pass.
	if out := r.raw(head("/gala/ws", "")); !strings.Contains(out, "admission-required") {
		t.Error(out)
	}
	if out := r.raw(head("/gala/ws", "Stanchion-Pass: "+r.room.passFor(t, nil)+"\r\n")); !strings.HasPrefix(out, "HTTP/1.1 101") {
		t.Error(out)
	}
}

// TestDeadIdleConnections: an origin that closes idle connections, as all do, costs no request, whatever its method.
func TestDeadIdleConnections(t *testing.T) {
	var sent atomic.Int64
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		sent.Add(1)
		_, _ = io.Copy(w, req.Body)
	})
	for i := range 20 {
		if resp := r.ask("POST", "/free", strings.NewReader("body")); resp.StatusCode != 200 || text(resp) != "body" {
			t.Fatalf("%d: %d %s", i, resp.StatusCode, text(resp))
		}
		r.origin.CloseClientConnections()
		// The kernel hands the end over asynchronously; on loopback it is there when the next call returns.
		_ = r.ask("GET", "/.stanchion/keys", nil)
	}
	if sent.Load() != 20 {
		t.Errorf("the origin saw %d requests, want 20", sent.Load())
	}
}

// lyingOrigin answers each connection's request with fixed bytes and closes.
func lyingOrigin(t *testing.T, answer string) (addr string, requests *atomic.Int64) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	requests = new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				br := bufio.NewReader(c)
				req, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				requests.Add(1)
				_, _ = io.WriteString(c, answer)
			}()
		}
	}()
	return l.Addr().String(), requests
}

// TestLyingOrigins: whatever an origin sends, the client gets one well-framed answer or a broken-off one, and the request
// is sent once.
func TestLyingOrigins(t *testing.T) {
	tests := []struct {
		name, answer string
		status       int
		broken       bool
		body         string
	}{
		{"nothing", "", 502, false, ""},
		{"garbage", "SSH-2.0-OpenSSH_9.2\r\n", 502, false, ""},
		{"half a head", "HTTP/1.1 200 OK\r\nContent-Le", 502, false, ""},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 502, false, ""},
		{"bad length", "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc", 502, false, ""},
		{"odd coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 502, false, ""},
		{"endless head", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Filler: "+strings.Repeat("x", 90)+"\r\n", 2000) + "\r\n", 502, false, ""},
		{"endless 1xx", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 1000) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 502, false, ""},
		{"one 1xx", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, false, "ok"},
		{"too short", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 502, false, ""},
		{"too short, long", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc", 200, true, "abc"},
		{"broken chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", 200, true, "abc"},
		{"until it closes", "HTTP/1.0 200 OK\r\n\r\nabc", 200, false, "abc"},
		{"more than said", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale", 200, false, "ok"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr, requests := lyingOrigin(t, tt.answer)
			for i := range 2 {
				// An edge of its own for each request: what a closing idle connection does to the next one is another test's matter.
				r := newRig(t, nil, func(o *Options) { o.Upstreams = map[string]Upstream{"shop": {Targets: []string{"http://" + addr}}} })
				requests.Store(0)
				req, _ := http.NewRequest([]string{"GET", "PUT"}[i], r.url+"/free", nil)
				resp, err := noRedirects.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != tt.status || tt.status == 200 && (!strings.HasPrefix(tt.body, string(b)) || (err != nil) != tt.broken || err == nil && string(b) != tt.body) {
					t.Errorf("%s: %d %q %v, want %d %q broken %v", req.Method, resp.StatusCode, b, err, tt.status, tt.body, tt.broken)
				}
				if n := requests.Load(); n != 1 {
					t.Errorf("%s was sent %d times", req.Method, n)
				}
			}
		})
	}
}

func TestOriginUnreachableAndSlow(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	_ = l.Close()
	r := newRig(t, nil, func(o *Options) { o.Upstreams = map[string]Upstream{"shop": {Targets: []string{"http://" + dead}}} })
	p := wantProblem(t, r.ask("POST", "/free", strings.NewReader("x")), 502, "origin-unreachable")
	if p["retry_after_ms"] == nil {
		t.Error("trying again is safe and may help")
	}

	stop := make(chan struct{})
	slow := newRig(t, func(http.ResponseWriter, *http.Request) { <-stop }, func(o *Options) {
		u := o.Upstreams["shop"]
		u.ResponseTimeout = 100 * time.Millisecond
		o.Upstreams = map[string]Upstream{"shop": u}
	})
	defer close(stop)
	wantProblem(t, slow.ask("GET", "/free", nil), 504, "origin-timeout")
	if slow.hits.Load() != 1 {
		t.Errorf("%d copies of a request that timed out", slow.hits.Load())
	}
}

// TestFailover: with a dead target beside a living one nothing fails, and bodies are sent whole.
func TestFailover(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	_ = l.Close()
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) { _, _ = io.Copy(w, req.Body) }, func(o *Options) {
		u := o.Upstreams["shop"]
		u.Targets = append(u.Targets, "http://"+dead)
		o.Upstreams = map[string]Upstream{"shop": u}
	})
	for range 60 {
		if resp := r.ask("POST", "/free", strings.NewReader("body")); resp.StatusCode != 200 || text(resp) != "body" {
			t.Fatalf("%d %s", resp.StatusCode, text(resp))
		}
	}
	if r.hits.Load() != 60 {
		t.Errorf("%d requests arrived", r.hits.Load())
	}
}

func TestTrustedHops(t *testing.T) {
	r := newRig(t, nil, func(o *Options) {
		o.TrustedHops = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	})
	r.ask("GET", "/free", nil, "X-Forwarded-For", "6.6.6.6, 203.0.113.9", "X-Forwarded-For", "10.1.1.1", "X-Forwarded-Proto", "https",
		"X-Forwarded-Host", "shop.example", "Forwarded", "for=203.0.113.9", "X-Request-Id", "from-hop")
	h := r.last.Load().Header
	for name, want := range map[string]string{
		"X-Forwarded-For": "6.6.6.6, 203.0.113.9, 10.1.1.1, 127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example",
		"Forwarded": `for=203.0.113.9, for=127.0.0.1;host="` + r.addr + `";proto=https`, "X-Request-Id": "from-hop",
	} {
		if got := strings.Join(h.Values(name), "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	wantContains(t, r.logs.String(), `"client":"203.0.113.9"`)
	resp := r.ask("GET", "/gala", nil, "Accept", nav, "X-Forwarded-Proto", "https")
	if c := cookie(resp, "__Host-stanchion-probe-onsale"); c == nil || !c.Secure {
		t.Errorf("behind TLS cookies carry the __Host- prefix: %v", resp.Header)
	}
}

func TestLimits(t *testing.T) {
	r := newRig(t, nil, func(o *Options) {
		o.Limits.SessionPerSecond, o.Limits.SessionBurst = 0.001, 4
		o.Limits.JoinPerSecond, o.Limits.JoinBurst = 0.001, 2
	})
	token := r.room.passFor(t, nil)
	for range 8 { // a page's own parts cost a quarter
		if resp := r.ask("GET", "/gala/a.css", nil, "Stanchion-Pass", token, "Sec-Fetch-Dest", "style"); resp.StatusCode != 200 {
			t.Fatal(resp.StatusCode)
		}
	}
	for range 2 {
		if resp := r.ask("GET", "/gala", nil, "Stanchion-Pass", token); resp.StatusCode != 200 {
			t.Fatal(resp.StatusCode)
		}
	}
	resp := r.ask("GET", "/gala", nil, "Stanchion-Pass", token)
	p := wantProblem(t, resp, 429, "rate-limited")
	if resp.Header.Get("Stanchion-Decision") != "limited" || resp.Header.Get("RateLimit-Policy") != `"session";q=4;w=4000` ||
		!strings.HasPrefix(resp.Header.Get("RateLimit"), `"session";r=0;t=`) || p["retry_after_ms"] == nil {
		t.Errorf("%v %v", resp.Header, p)
	}
	if resp := r.ask("GET", "/gala", nil, "Stanchion-Pass", r.room.passFor(t, func(c *pass.Claims) { c.Session = "AAAAAAAAAAAAAAAAAAAAAA" })); resp.StatusCode != 200 {
		t.Errorf("another session: %d", resp.StatusCode)
	}

	for range 2 {
		if resp := r.ask("POST", rooms+"join", nil); resp.StatusCode != 200 {
			t.Fatal(resp.StatusCode)
		}
	}
	wantProblem(t, r.ask("POST", rooms+"join", nil), 429, "rate-limited")
	if resp := r.ask("POST", rooms+"join", nil, "Authorization", "Stanchion ticket-1"); resp.StatusCode != 200 {
		t.Errorf("a fan with a ticket pays for no new place: %d", resp.StatusCode)
	}
}

func TestShed(t *testing.T) {
	hold := make(chan struct{})
	r := newRig(t, func(http.ResponseWriter, *http.Request) { <-hold }, func(o *Options) {
		u := o.Upstreams["shop"]
		u.MaxConcurrent = 4
		o.Upstreams = map[string]Upstream{"shop": u}
		o.Routes[0].Priority = 5
		o.Routes[3].Priority = 0
	})
	answered := make(chan int, 4)
	for range 2 {
		go func() { answered <- r.ask("GET", "/free", nil).StatusCode }()
	}
	waitFor(t, func() bool { return r.hits.Load() == 2 })
	resp := r.ask("GET", "/free", nil) // 4 slots, of which the lowest class may fill 70%
	wantProblem(t, resp, 503, "overloaded")
	if resp.Header.Get("Stanchion-Decision") != "shed" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%v", resp.Header)
	}
	for range 2 {
		go func() { answered <- r.ask("GET", "/pay", nil).StatusCode }()
	}
	waitFor(t, func() bool { return r.hits.Load() == 4 })
	close(hold)
	for range 4 {
		if s := <-answered; s != 200 {
			t.Errorf("status %d", s)
		}
	}
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal("it did not happen in time")
		case <-tick.C:
		}
	}
}

func TestPipelining(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) { _, _ = io.WriteString(w, req.URL.Path) })
	var b strings.Builder
	for i := range 50 {
		fmt.Fprintf(&b, "POST /free/%d HTTP/1.1\r\nHost: %s\r\nContent-Length: 3\r\n\r\nabc", i, r.addr)
	}
	b.WriteString("GET /free/last HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET /free/never HTTP/1.1\r\nHost: a\r\n\r\n")
	br := bufio.NewReader(strings.NewReader(r.raw(b.String())))
	for i := range 50 {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(i, err)
		}
		if body, _ := io.ReadAll(resp.Body); string(body) != fmt.Sprintf("/free/%d", i) {
			t.Fatalf("answer %d: %q", i, body)
		}
	}
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 400 || resp.Header.Get("Stanchion-Reason") != "host" {
		t.Fatal(resp, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	if _, err := br.ReadByte(); err != io.EOF {
		t.Error("something follows a refused request")
	}
	if r.hits.Load() != 50 {
		t.Errorf("the origin saw %d requests", r.hits.Load())
	}
}

func TestAmbiguousTargetsKeepTheirSpelling(t *testing.T) {
	var target atomic.Value
	r := newRig(t, func(_ http.ResponseWriter, req *http.Request) { target.Store(req.RequestURI) })
	for sent, want := range map[string]string{
		"/free//a%2Fb%2fc?":        "/free//a%2Fb%2fc?",
		"/free/x/../y/./z?a=../b":  "/free/y/z?a=../b",
		"/free/%7euser/%C3%A4?q=%": "/free/%7euser/%C3%A4?q=%",
		"//x://y/z":                "//x://y/z",
	} {
		resp := r.askRaw("GET", sent)
		if resp.StatusCode != 200 || target.Load() != want {
			t.Errorf("%s: %d, origin saw %v, want %s", sent, resp.StatusCode, target.Load(), want)
		}
	}
	resp := parseResponse(t, r.raw("GET http://"+r.addr+"/free?x HTTP/1.1\r\nHost: "+r.addr+"\r\nConnection: close\r\n\r\n"))
	if resp.StatusCode != 200 || target.Load() != "/free?x" {
		t.Errorf("absolute form: %d %v", resp.StatusCode, target.Load())
	}
}

func TestOptionsStar(t *testing.T) {
	r := newRig(t, nil)
	resp := parseResponse(t, r.raw("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
	if resp.StatusCode != 204 || resp.Header.Get("Allow") == "" || r.hits.Load() != 0 {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

func TestHTTP10(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = io.WriteString(w, "streamed")
	})
	out := r.raw("GET /free HTTP/1.0\r\nHost: a\r\n\r\n")
	if !strings.HasPrefix(out, "HTTP/1.") || !strings.HasSuffix(out, "streamed") || strings.Contains(out, "chunked") {
		t.Errorf("%q", out)
	}
}

func TestAccessLogAndMetrics(t *testing.T) {
	r := newRig(t, nil)
	r.ask("GET", "/free/x?secret=1", nil, "User-Agent", "test \"agent\"")
	r.raw("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n")
	waitFor(t, func() bool { return strings.Contains(r.logs.String(), "bare-lf") })
	logs := r.logs.String()
	wantContains(t, logs, `"path":"/free/x"`, `"status":200`, `"decision":"free"`, `"reason":"bare-lf"`, `"bytes":17`)
	if strings.Contains(logs, "secret=1") {
		t.Error("queries must not be logged")
	}
	mf, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range mf {
		names[f.GetName()] = true
	}
	for _, n := range []string{"stanchion_edge_requests_total", "stanchion_edge_request_seconds", "stanchion_edge_refused_total", "stanchion_edge_connections",
		"stanchion_edge_origin_concurrency_limit", "stanchion_edge_origin_seconds"} {
		if !names[n] {
			t.Errorf("metric %s is missing", n)
		}
	}
}

func TestCombinedLog(t *testing.T) {
	out := &syncBuffer{}
	r := newRig(t, nil, func(o *Options) { o.AccessLog = AccessLog{Combined: true, Writer: out} })
	r.ask("GET", "/free/x", nil, "User-Agent", "a\"b", "Referer", "http://r/")
	wantContains(t, out.String(), `127.0.0.1 - - [`, `"GET /free/x HTTP/1.1" 200 17 "http://r/" "a\"b"`+"\n")
}

// TestSlowClients: each kind is cut off in time, and each is counted.
func TestSlowClients(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) { _, _ = io.Copy(w, req.Body) }, func(o *Options) {
		o.Timeouts.Idle, o.Timeouts.Head, o.Timeouts.Body = 150*time.Millisecond, 150*time.Millisecond, 150*time.Millisecond
	})
	tests := map[string]struct {
		first, drip string
		want        string
	}{
		"idle":         {"", "", ""},
		"empty lines":  {"\r\n", "", "408"},
		"header":       {"GET /free HTTP/1.1\r\nHost: a\r\n", "X: y\r\n", "408"},
		"body":         {"POST /free HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", "x", "408"},
		"chunked body": {"POST /free HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", "408"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			start := time.Now()
			_, _ = io.WriteString(c, tt.first)
			stop := make(chan struct{})
			go func() {
				tick := time.NewTicker(30 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-stop:
						return
					case <-tick.C:
						if _, err := io.WriteString(c, tt.drip); err != nil {
							return
						}
					}
				}
			}()
			out, _ := io.ReadAll(c)
			close(stop)
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("held for %v", took)
			}
			if tt.want != "" && !strings.HasPrefix(string(out), "HTTP/1.1 "+tt.want) || tt.want == "" && len(out) > 0 {
				t.Errorf("answered %q", out)
			}
		})
	}
}

// TestSlowReader: a client that does not take its response is cut off.
func TestSlowReader(t *testing.T) {
	done := make(chan error, 1)
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for {
			if _, err := w.Write(chunk); err != nil {
				done <- err
				return
			}
		}
	}, func(o *Options) { o.Timeouts.Write = 200 * time.Millisecond })
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /free HTTP/1.1\r\nHost: a\r\n\r\n")
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the origin still writes to a client that does not read")
	}
}

func TestConnectionCaps(t *testing.T) {
	r := newRig(t, nil, func(o *Options) { o.Limits.ConnectionsPerNetwork = 3 })
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	talk := func(c net.Conn) error {
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		if _, err := io.WriteString(c, "GET /free HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			return err
		}
		_, err := http.ReadResponse(bufio.NewReader(c), nil)
		return err
	}
	for range 3 {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		if err := talk(c); err != nil {
			t.Fatal(err)
		}
	}
	c, err := net.Dial("tcp", r.addr)
	if err == nil {
		defer c.Close()
		err = talk(c)
	}
	if err == nil {
		t.Error("a fourth connection of the network was served")
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 7, 7, 7)}}
	other, err := d.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := talk(other); err != nil {
		t.Errorf("another network: %v", err)
	}
	_ = open[0].Close()
	waitFor(t, func() bool {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			return false
		}
		defer c.Close()
		return talk(c) == nil
	})
}

// TestDrain: requests under way are finished, new connections refused.
func TestDrain(t *testing.T) {
	started, hold := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		close(started)
		<-hold
		_, _ = io.WriteString(w, "finished")
	})
	got := make(chan string, 1)
	go func() { got <- text(r.ask("GET", "/free", nil)) }()
	<-started
	drained := make(chan error, 1)
	go func() { drained <- r.edge.Drain(context.Background()) }()
	waitFor(t, func() bool {
		c, err := net.Dial("tcp", r.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(hold)
	if s := <-got; s != "finished" {
		t.Errorf("got %q", s)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// TestPanicIsContained: a room that panics costs one request.
func TestPanicIsContained(t *testing.T) {
	r := newRig(t, nil)
	r.room.claim = func(line.ClaimRequest) error { panic("boom") }
	r.room.put(line.Place{Ticket: "mine", State: "called", Known: true})
	resp := r.ask("POST", rooms+"claim", nil, "Authorization", "Stanchion mine")
	wantProblem(t, resp, 500, "internal")
	if strings.Contains(text(resp), "boom") {
		t.Error("the panic was shown")
	}
	if resp := r.ask("GET", "/free", nil); resp.StatusCode != 200 {
		t.Error("the edge did not survive")
	}
}
