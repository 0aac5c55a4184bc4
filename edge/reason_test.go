package edge

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestReasonPhrase: the phrase of a status line is that of its status, also on a connection that has carried another answer.
func TestReasonPhrase(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/missing") {
			w.WriteHeader(http.StatusNotFound)
		}
	})
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for _, k := range []struct{ path, want string }{
		{"/free", "200 OK"},
		{"/gala", "503 Service Unavailable"},
		{"/free/missing", "404 Not Found"},
		{"/.stanchion/nothing", "404 Not Found"},
		{"/free", "200 OK"},
	} {
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", k.path); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := resp.Body.Read(make([]byte, 64<<10)); err != nil && resp.ContentLength > 0 && err.Error() != "EOF" {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if resp.Status != k.want {
			t.Errorf("%s: %q, want %q", k.path, resp.Status, k.want)
		}
	}
}
