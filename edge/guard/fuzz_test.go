package guard

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stanchion-queue/stanchion/edge/guard/corpus"
)

func mustAddr(t *testing.T, s string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// FuzzAgainstNetHTTP: whatever guard lets through, net/http reads as the same requests with the same bodies; how the bytes
// arrive changes nothing. Guard may refuse what net/http takes, never the other way round.
func FuzzAgainstNetHTTP(f *testing.F) {
	cases, err := corpus.Load(os.DirFS("testdata"))
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range cases {
		if len(c.Bytes) < 4096 {
			f.Add(c.Bytes, 1460)
		}
	}
	f.Add([]byte(browserHead), 100)
	f.Fuzz(func(t *testing.T, in []byte, piece int) {
		if len(in) > 64<<10 {
			return
		}
		piece = 1 + int(uint(piece)%5000)
		whole, wholeRef, _ := serve(in, len(in)+1)
		parts, partsRef, _ := serve(in, piece)
		if wholeRef != partsRef || len(whole) != len(parts) {
			t.Fatalf("whole: %d requests, %v; in pieces of %d: %d requests, %v", len(whole), wholeRef, piece, len(parts), partsRef)
		}
		br := bufio.NewReader(bytes.NewReader(in))
		for i, x := range whole {
			if x.body != parts[i].body || x.target != parts[i].target {
				t.Fatalf("request %d differs by how it arrives", i)
			}
			if x.ref != nil {
				return // its body was refused; what net/http makes of it is its own business
			}
			// net/http takes no empty line before a request.
			for {
				b, err := br.Peek(2)
				if err != nil || string(b) != "\r\n" {
					break
				}
				_, _ = br.Discard(2)
			}
			r, err := http.ReadRequest(br)
			if err != nil {
				t.Fatalf("guard let request %d through (%s %s), net/http does not: %v", i, x.method, x.target, err)
			}
			if r.Method != x.method || !strings.EqualFold(r.Host, x.host) {
				t.Fatalf("request %d: guard sees %s %s, net/http %s %s", i, x.method, x.host, r.Method, r.Host)
			}
			body, err := io.ReadAll(r.Body)
			if err != nil || string(body) != x.body {
				t.Fatalf("request %d: guard sees a body of %d bytes, net/http of %d (%v)", i, len(x.body), len(body), err)
			}
		}
	})
}

// FuzzForwarded: what is forwarded is parsed by guard again as the very same request, so nothing in a canonical request is
// ambiguous.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"/", "/a/../b?c", "/%2e%2e/a", "//a//b", "/a%2fb;c/..x", "/.", "/..;/a", "/a/%2E/b?/../"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		var r, again Request
		if _, ref := Parse([]byte("GET "+target+" HTTP/1.1\r\nHost: a\r\n\r\n"), &testLimits, &r); ref != nil || len(r.Target) == 0 {
			return
		}
		if hasDotSegment(r.Path) {
			t.Fatalf("%q is forwarded with dot segments: %q", target, r.Target)
		}
		if r.Alt != nil && hasDotSegment(r.Alt) {
			t.Fatalf("%q may be read with dot segments: %q", target, r.Alt)
		}
		n, ref := Parse([]byte("GET "+string(r.Target)+" HTTP/1.1\r\nHost: a\r\n\r\n"), &testLimits, &again)
		if ref != nil || n == 0 {
			t.Fatalf("%q became %q, which is refused: %v", target, r.Target, ref)
		}
		if !bytes.Equal(r.Target, again.Target) || !bytes.Equal(r.Match, again.Match) || !bytes.Equal(r.Alt, again.Alt) || !bytes.Equal(r.Query, again.Query) {
			t.Fatalf("%q is not canonical: %q, then %q", target, r.Target, again.Target)
		}
	})
}
