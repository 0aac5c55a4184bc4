// Command guardcheck sends guard's whole corpus to an edge and prints how much of it was refused and accepted as it must be. It
// exits 1 unless all of it was.
//
// Without -addr it starts an edge and an origin of its own on free ports of loopback, and also judges what reached the origin:
// nothing of a refused request, all of an accepted one. With -addr it tries a running edge, which must lead every path and host
// to an origin that answers below 400, without a room.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/edge"
	"github.com/stanchion-queue/stanchion/edge/guard/corpus"
)

func main() {
	addr := flag.String("addr", "", "a running edge's public listener; empty: start one")
	dir := flag.String("cases", "edge/guard/testdata", "directory of cases")
	flag.Parse()
	ok, err := run(context.Background(), *addr, os.DirFS(*dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, "guardcheck:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, addr string, dir fs.FS) (bool, error) {
	cases, err := corpus.Load(dir)
	if err != nil {
		return false, err
	}
	if addr != "" {
		return check(ctx, addr, cases, nil), nil
	}
	origin := &corpus.Origin{}
	addr, stop, err := start(origin)
	if err != nil {
		return false, err
	}
	ok := check(ctx, addr, cases, origin)
	return ok, stop()
}

// check tries every case and prints the sum. origin may be nil.
func check(ctx context.Context, addr string, cases []corpus.Case, origin *corpus.Origin) bool {
	var refused, refuse, accepted, accept int
	for _, c := range cases {
		if origin != nil {
			origin.Reset()
		}
		err := corpus.Try(ctx, addr, c)
		if err == nil && origin != nil {
			err = origin.Judge(c)
		}
		if err != nil {
			fmt.Printf("%s: %v\n", c.Name, err)
		}
		if c.Refuse {
			refuse++
		} else {
			accept++
		}
		switch {
		case err != nil:
		case c.Refuse:
			refused++
		default:
			accepted++
		}
	}
	fmt.Printf("%d of %d refused, %d of %d accepted\n", refused, refuse, accepted, accept)
	return refused == refuse && accepted == accept
}

// start runs an edge in front of the origin; stop ends both.
func start(origin http.Handler) (addr string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("open the origin's listener: %w", err)
	}
	back := &http.Server{Handler: origin, ReadHeaderTimeout: 10 * time.Second}
	e, err := edge.New(edge.Options{
		Address:    "127.0.0.1:0",
		Routes:     []edge.Route{{Upstream: "origin", Priority: edge.PriorityDefault}},
		Upstreams:  map[string]edge.Upstream{"origin": {Targets: []string{"http://" + l.Addr().String()}}},
		Limits:     edge.Limits{NetworkPerSecond: -1}, // one client sends it all
		Logger:     slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return "", nil, errors.Join(err, l.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 2)
	go func() {
		if err := back.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			served <- fmt.Errorf("serve the origin: %w", err)
			return
		}
		served <- nil
	}()
	go func() { served <- e.Run(ctx) }()
	return e.Addr().String(), func() error {
		cancel()
		first := <-served
		return errors.Join(first, back.Close(), <-served)
	}, nil
}
