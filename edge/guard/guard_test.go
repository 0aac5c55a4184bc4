package guard

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stanchion-queue/stanchion/edge/guard/corpus"
)

var testLimits = Limits{HeadBytes: 16 << 10, Fields: 100, TargetBytes: 8 << 10, BodyBytes: 1 << 30}

var testConfig = Config{Limits: testLimits, Timeouts: Timeouts{Idle: time.Second, Head: time.Second, Body: time.Second, Write: time.Second}}

// script is a connection whose client has sent fixed bytes, which arrive in pieces of a given size.
type script struct {
	in    []byte
	piece int
	out   bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := min(len(p), len(s.in), s.piece)
	copy(p, s.in[:n])
	s.in = s.in[n:]
	return n, nil
}
func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// seen is one request as a server above guard sees it.
type seen struct {
	method, target, match, host, body string
	fields                            []string
	ref                               *Refusal
}

// serve reads requests as a server does, until the connection ends.
func serve(in []byte, piece int) (all []seen, ref *Refusal, answer string) {
	s := &script{in: append([]byte(nil), in...), piece: piece}
	cfg := testConfig
	cfg.Refused = func(_ *Conn, r *Refusal) { ref = r }
	c := NewConn(s, &cfg)
	for {
		var head []byte
		for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			p := make([]byte, 7)
			n, err := c.Read(p)
			if err != nil {
				return all, ref, s.out.String()
			}
			head = append(head, p[:n]...)
		}
		r := c.Request()
		x := seen{method: r.Method.String(), target: string(r.Target), match: string(r.Match), host: string(r.Host)}
		for _, f := range r.Fields {
			if !f.Drop {
				x.fields = append(x.fields, string(f.Name))
			}
		}
		body, err := io.ReadAll(c.Body())
		x.body = string(body)
		if err != nil {
			if !errors.As(err, &x.ref) {
				panic(err)
			}
			return append(all, x), x.ref, s.out.String()
		}
		all = append(all, x)
	}
}

// TestCorpus: each case gets its verdict, however the bytes arrive.
func TestCorpus(t *testing.T) {
	cases, err := corpus.Load(os.DirFS("testdata"))
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < 250 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			for _, piece := range []int{1 << 20, 1, 3, 1460} {
				all, ref, answer := serve(c.Bytes, piece)
				if !c.Refuse {
					if ref != nil {
						t.Fatalf("in pieces of %d: refused: %v", piece, ref)
					}
					if len(all) != c.Count {
						t.Fatalf("in pieces of %d: %d requests, want %d", piece, len(all), c.Count)
					}
					check(t, c, all[0])
					continue
				}
				if ref == nil || ref.Status != c.Status || ref.Reason != c.Reason {
					t.Fatalf("in pieces of %d: got %v, want %d %s", piece, ref, c.Status, c.Reason)
				}
				whole := 0
				for _, x := range all {
					if x.ref == nil {
						whole++
					}
				}
				if whole != c.After {
					t.Fatalf("in pieces of %d: %d requests before the refusal, want %d", piece, whole, c.After)
				}
				if len(all) == whole && !strings.Contains(answer, "Connection: close\r\n") {
					t.Fatalf("answer %q", answer)
				}
			}
		})
	}
}

func check(t *testing.T, c corpus.Case, x seen) {
	t.Helper()
	if x.body != c.Body {
		t.Errorf("body %q, want %q", x.body, c.Body)
	}
	if c.Target != "" && x.target != c.Target {
		t.Errorf("target %q, want %q", x.target, c.Target)
	}
	if c.Match != "" && x.match != c.Match {
		t.Errorf("match %q, want %q", x.match, c.Match)
	}
	has := func(name string) bool {
		for _, f := range x.fields {
			if strings.EqualFold(f, name) {
				return true
			}
		}
		return false
	}
	for _, n := range c.Lacks {
		if has(n) {
			t.Errorf("field %s was let through", n)
		}
	}
	for _, n := range c.Keeps {
		if !has(n) {
			t.Errorf("field %s was removed", n)
		}
	}
}

// TestEveryRefusalHasACase: no reason exists that no case shows, but those that need time.
func TestEveryRefusalHasACase(t *testing.T) {
	cases, err := corpus.Load(os.DirFS("testdata"))
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{ErrHeadTimeout.Reason: true, ErrBodyTimeout.Reason: true, ErrBodyTruncated.Reason: true}
	for _, c := range cases {
		shown[c.Reason] = true
	}
	for _, r := range Refusals() {
		if !shown[r.Reason] {
			t.Errorf("no case is refused as %s", r.Reason)
		}
	}
}

func TestTruncatedBody(t *testing.T) {
	for _, in := range []string{
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n",
	} {
		if _, ref, _ := serve([]byte(in), 100); ref != ErrBodyTruncated {
			t.Errorf("%q: %v", in, ref)
		}
	}
}

// TestBodiesSurviveChunking: whatever is sent in whatever chunks and pieces is read back, and the next request is found.
func TestBodiesSurviveChunking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in, want bytes.Buffer
		in.WriteString("POST /first HTTP/1.1\r\nHost: a\r\n")
		body := rapid.SliceOfN(rapid.Byte(), 0, 20000).Draw(t, "body")
		want.Write(body)
		if rapid.Bool().Draw(t, "chunked") {
			in.WriteString("Transfer-Encoding: chunked\r\n\r\n")
			for len(body) > 0 {
				n := rapid.IntRange(1, len(body)).Draw(t, "chunk")
				in.WriteString(rapid.SampledFrom([]string{"", "0", "000"}).Draw(t, "zeros"))
				in.WriteString(strings.ToUpper(hexOf(n)) + rapid.SampledFrom([]string{"", ";a", `;a="b;c"`}).Draw(t, "ext") + "\r\n")
				in.Write(body[:n])
				in.WriteString("\r\n")
				body = body[n:]
				if n < 3 && in.Len() > 100000 {
					in.Reset()
					return
				}
			}
			in.WriteString("0\r\n" + rapid.SampledFrom([]string{"", "X-T: v\r\n"}).Draw(t, "trailer") + "\r\n")
		} else {
			in.WriteString("Content-Length: " + decOf(len(body)) + "\r\n\r\n")
			in.Write(body)
		}
		in.WriteString("GET /second HTTP/1.1\r\nHost: b\r\n\r\n")
		all, ref, _ := serve(in.Bytes(), rapid.IntRange(1, 5000).Draw(t, "piece"))
		if ref == ErrChunkExtension {
			return // many small chunks with extensions are refused
		}
		if ref != nil || len(all) != 2 || all[0].body != want.String() || all[1].target != "/second" || all[1].host != "b" {
			t.Fatalf("ref %v, %d requests, body of %d bytes, want %d", ref, len(all), len(all[0].body), want.Len())
		}
	})
}

func hexOf(n int) string {
	const d = "0123456789abcdef"
	s := ""
	for ; n > 0; n /= 16 {
		s = string(d[n%16]) + s
	}
	return s
}

func decOf(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return decOf(n/10) + string(rune('0'+n%10))
}

// TestParseDoesNotAllocate: a browser's head is parsed in place.
func TestParseDoesNotAllocate(t *testing.T) {
	head := []byte(browserHead)
	var r Request
	if n, ref := Parse(head, &testLimits, &r); ref != nil || n != len(head) {
		t.Fatal(n, ref)
	}
	if a := testing.AllocsPerRun(100, func() {
		if _, ref := Parse(head, &testLimits, &r); ref != nil {
			t.Fatal(ref)
		}
	}); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

const browserHead = "GET /performances/gala?block=12&row=4 HTTP/1.1\r\nHost: tickets.example:8443\r\nConnection: keep-alive\r\n" +
	"sec-ch-ua: \"Chromium\";v=\"140\"\r\nsec-ch-ua-mobile: ?1\r\nUpgrade-Insecure-Requests: 1\r\n" +
	"User-Agent: Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\nSec-Fetch-Site: same-origin\r\n" +
	"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nReferer: https://tickets.example:8443/\r\nAccept-Encoding: gzip, deflate, br\r\n" +
	"Accept-Language: de-DE,de;q=0.9,en;q=0.8\r\nCookie: session=abcdef0123456789; theme=dark\r\n\r\n"

func BenchmarkParse(b *testing.B) {
	head := []byte(browserHead)
	var r Request
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ref := Parse(head, &testLimits, &r); ref != nil {
			b.Fatal(ref)
		}
	}
}

func TestDeadlines(t *testing.T) {
	cfg := testConfig
	cfg.Timeouts = Timeouts{Idle: 50 * time.Millisecond, Head: 50 * time.Millisecond, Body: 50 * time.Millisecond, Write: 50 * time.Millisecond}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pair := func() (net.Conn, *Conn) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
		return c, NewConn(s, &cfg)
	}
	p := make([]byte, 100)

	_, g := pair()
	if _, err := g.Read(p); err != io.EOF {
		t.Errorf("idle: %v", err)
	}
	c, g := pair()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n")
	if _, err := g.Read(p); err != io.EOF {
		t.Errorf("head: %v", err)
	}
	c, g = pair()
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
	if _, err := g.Read(p); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(g.Body()); !errors.Is(err, error(ErrBodyTimeout)) || string(b) != "ab" {
		t.Errorf("body: %q %v", b, err)
	}
	if g.KeepsAfter() {
		t.Error("a connection whose body failed cannot go on")
	}
	_, g = pair()
	big := make([]byte, 64<<20)
	if _, err := g.Write(big); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"203.0.113.77": "203.0.113.0/24", "::ffff:203.0.113.77": "203.0.113.0/24", "2001:db8:1:2:3::4": "2001:db8:1::/48", "fe80::1%eth0": "fe80::/48",
	} {
		if got := Network(mustAddr(t, in)); got.String() != want {
			t.Errorf("%s: %v, want %s", in, got, want)
		}
	}
}
