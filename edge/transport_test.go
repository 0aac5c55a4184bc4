package edge

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func testCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	cert, pool := testCertificate(t)
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) { _, _ = io.Copy(w, req.Body) }, func(o *Options) {
		o.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
		o.Timeouts.Head = 300 * time.Millisecond
	})
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	defer c.CloseIdleConnections()
	for range 3 {
		resp, err := c.Post("https://"+r.addr+"/free", "text/plain", strings.NewReader("over TLS"))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(b) != "over TLS" || resp.ProtoMajor != 1 || resp.TLS.Version != tls.VersionTLS13 {
			t.Fatalf("%q over %s", b, resp.Proto)
		}
		if resp.Header.Get("Stanchion-Decision") != "free" || r.last.Load().Header.Get("X-Forwarded-Proto") != "https" {
			t.Errorf("%v", r.last.Load().Header)
		}
	}
	req, _ := http.NewRequest("GET", "https://"+r.addr+"/gala", nil)
	req.Header.Set("Accept", nav)
	req.AddCookie(&http.Cookie{Name: "stanchion-ticket-onsale", Value: "planted-by-a-sibling"})
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if k := cookie(resp, "__Host-stanchion-probe-onsale"); k == nil || !k.Secure || k.Path != "/" || k.Domain != "" {
		t.Errorf("under TLS only __Host- cookies count: %v", resp.Header)
	}

	// Whoever does not shake hands is let go.
	raw, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadAll(raw); err != nil {
		t.Errorf("a silent client is held: %v", err)
	}
}

func TestProxyProtocol(t *testing.T) {
	r := newRig(t, nil, func(o *Options) {
		o.TrustedHops, o.ProxyProtocol = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, true
		o.Limits.ConnectionsPerNetwork = 2
	})
	ask := func(from net.IP, head func(*proxyproto.Header), extra string) (net.Conn, string) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
		c, err := d.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if head != nil {
			h := &proxyproto.Header{Version: 2, Command: proxyproto.PROXY, TransportProtocol: proxyproto.TCPv4,
				SourceAddr: &net.TCPAddr{IP: net.IPv4(203, 0, 113, 9), Port: 4711}, DestinationAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80}}
			head(h)
			if _, err := h.WriteTo(c); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = fmt.Fprintf(c, "GET /free HTTP/1.1\r\nHost: a\r\n%s\r\n", extra)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return c, "closed"
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return c, r.last.Load().Header.Get("X-Forwarded-For")
	}
	local := net.IPv4(127, 0, 0, 1)
	first, got := ask(local, func(*proxyproto.Header) {}, "X-Forwarded-For: 6.6.6.6\r\n")
	if got != "203.0.113.9" {
		t.Errorf("version 2: %q", got)
	}
	if _, got := ask(local, func(h *proxyproto.Header) { h.Version = 1 }, ""); got != "203.0.113.9" {
		t.Errorf("version 1: %q", got)
	}
	if _, got := ask(local, func(*proxyproto.Header) {}, ""); got != "closed" {
		t.Errorf("a third connection of the client's network: %q", got)
	}
	_ = first.Close()
	waitFor(t, func() bool {
		c, got := ask(local, func(*proxyproto.Header) {}, "")
		_ = c.Close()
		return got == "203.0.113.9"
	})
	if _, got := ask(local, func(h *proxyproto.Header) { h.Command = proxyproto.LOCAL }, ""); got != "127.0.0.1" {
		t.Errorf("the hop's own check: %q", got)
	}
	if _, got := ask(local, nil, ""); got != "closed" {
		t.Errorf("without a head: %q", got)
	}
	if _, got := ask(net.IPv4(127, 5, 5, 5), func(*proxyproto.Header) {}, ""); got == "203.0.113.9" {
		t.Error("a stranger's head was believed")
	}
}

func TestReload(t *testing.T) {
	second := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "second") }))
	defer second.Close()
	var o Options
	r := newRig(t, nil, func(x *Options) {
		x.Limits.SessionPerSecond, x.Limits.SessionBurst = 0.001, 1
		o = *x
	})
	token := r.room.passFor(t, nil)
	if resp := r.ask("GET", "/gala", nil, "Stanchion-Pass", token); resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode)
	}
	shop := r.edge.live.Load().origins["shop"]

	bad := o
	bad.Routes = append([]Route{{Paths: []string{"nonsense"}, Upstream: "nowhere", Room: "none", Priority: 9}}, o.Routes...)
	err := r.edge.Reload(bad)
	if err == nil {
		t.Fatal("nonsense was taken")
	}
	for _, part := range []string{"nonsense", "nowhere", "none", "priority 9"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
	if resp := r.ask("GET", "/free", nil); text(resp) != "origin says hello" {
		t.Errorf("after a refused reload: %s", text(resp))
	}

	next := o
	next.Upstreams = map[string]Upstream{"shop": o.Upstreams["shop"], "other": {Targets: []string{second.URL}}}
	next.Routes = append([]Route{{Paths: []string{"/free"}, Upstream: "other"}}, o.Routes...)
	if err := r.edge.Reload(next); err != nil {
		t.Fatal(err)
	}
	if resp := r.ask("GET", "/free", nil); text(resp) != "second" {
		t.Errorf("the new route is not in force: %s", text(resp))
	}
	if r.edge.live.Load().origins["shop"] != shop {
		t.Error("an upstream that did not change lost its connections")
	}
	if resp := r.ask("GET", "/gala", nil, "Stanchion-Pass", token); resp.StatusCode != 429 {
		t.Errorf("a reload emptied the limiter's memory: %d", resp.StatusCode)
	}
	next.Limits.SessionBurst = 100
	if err := r.edge.Reload(next); err != nil {
		t.Fatal(err)
	}
	if resp := r.ask("GET", "/gala", nil, "Stanchion-Pass", token); resp.StatusCode != 200 {
		t.Errorf("the new limit is not in force: %d", resp.StatusCode)
	}
	if err := r.edge.Reload(o); err != nil {
		t.Fatal(err)
	}
	if resp := r.ask("GET", "/free", nil); text(resp) != "origin says hello" {
		t.Errorf("back again: %s", text(resp))
	}
}

// TestReloadUnderLoad: no request is lost while everything is swapped.
func TestReloadUnderLoad(t *testing.T) {
	var o Options
	r := newRig(t, nil, func(x *Options) { o = *x })
	ctx, stop := context.WithCancel(context.Background())
	failed := make(chan string, 4)
	for range 4 {
		go func() {
			c := &http.Client{Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for ctx.Err() == nil {
				resp, err := c.Get(r.url + "/free")
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				if err != nil || resp.StatusCode != 200 {
					failed <- fmt.Sprint(resp, err)
					return
				}
			}
			failed <- ""
		}()
	}
	for i := range 50 {
		next := o
		u := o.Upstreams["shop"]
		u.MaxConcurrent = 400 + i // another pool each time
		next.Upstreams = map[string]Upstream{"shop": u}
		if err := r.edge.Reload(next); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	for range 4 {
		if s := <-failed; s != "" {
			t.Error(s)
		}
	}
}

func TestTracing(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	defer func() { _ = provider.Shutdown(context.Background()) }()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

	plain := newRig(t, nil)
	plain.ask("GET", "/free", nil, "traceparent", parent)
	if got := plain.last.Load().Header.Get("Traceparent"); got != parent {
		t.Errorf("without a tracer: %q", got)
	}

	r := newRig(t, nil, func(o *Options) { o.Tracer = provider.Tracer("edge") })
	r.ask("GET", "/free", nil, "traceparent", parent)
	got := r.last.Load().Header.Values("Traceparent")
	if len(got) != 1 || strings.Contains(got[0], "0af7651916cd43dd8448eb211c80319c") {
		t.Errorf("a stranger's trace was continued: %v", got)
	}
	waitFor(t, func() bool { return len(spans.GetSpans()) == 1 })
	s := spans.GetSpans()[0]
	if !strings.Contains(got[0], s.SpanContext.TraceID().String()) || s.Name != "GET" {
		t.Errorf("origin was handed %v, span is %v", got, s.SpanContext)
	}

	hop := newRig(t, nil, func(o *Options) {
		o.Tracer = provider.Tracer("edge")
		o.TrustedHops = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	hop.ask("GET", "/free", nil, "traceparent", parent)
	if got := hop.last.Load().Header.Get("Traceparent"); !strings.Contains(got, "0af7651916cd43dd8448eb211c80319c") || strings.Contains(got, "b7ad6b7169203331") {
		t.Errorf("a trusted hop's trace is continued with a span of ours: %q", got)
	}
}

func TestOptionsProblemsAreReportedAtOnce(t *testing.T) {
	_, err := New(Options{
		Prefix: "x/", Routes: []Route{{Upstream: "a", Room: "b", Cost: -1, Paths: []string{"/a*b"}}},
		Upstreams: map[string]Upstream{"u": {Targets: []string{"ftp://x", "http://h/path"}, MaxConcurrent: -1}}, Rooms: map[string]RoomOptions{"Bad Name": {Entry: "//x"}},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{"neither an address", "logger", "registerer", `prefix "x/"`, "ftp://x", "http://h/path", "concurrency", `"Bad Name"`, "no implementation", "//x", "unknown upstream", "unknown room", "cost -1", "/a*b", "verifier"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not named in:\n%v", part, err)
		}
	}
}
