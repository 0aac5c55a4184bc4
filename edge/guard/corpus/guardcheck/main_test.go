package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

// TestOwnEdge is what the command does without arguments.
func TestOwnEdge(t *testing.T) {
	ok, err := run(t.Context(), "", os.DirFS("../../testdata"))
	if err != nil || !ok {
		t.Errorf("ok %v, %v", ok, err)
	}
}

// TestALenientServerFails: a server that takes what it should refuse is found out, and so is one that is not there.
func TestALenientServerFails(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "taken") }))
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "http://")
	cases := fstest.MapFS{"method.case": {Data: []byte("verdict: refuse 405 method-forbidden\nbytes:\nTRACE / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n\n")}}
	if ok, err := run(t.Context(), addr, cases); err != nil || ok {
		t.Errorf("ok %v, %v", ok, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if ok, err := run(t.Context(), l.Addr().String(), cases); err != nil || ok {
		t.Errorf("nobody there: ok %v, %v", ok, err)
	}
	if _, err := run(t.Context(), addr, fstest.MapFS{}); err == nil {
		t.Error("an empty corpus passed")
	}
}
