// Command guardcheck sends guard's whole corpus to a running edge and prints how much of it was refused and accepted as it
// must be. It exits 1 unless all of it was.
//
// The edge must lead every path and host to an origin that answers below 400, without a room.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/stanchion-queue/stanchion/edge/guard/corpus"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "the edge's public listener")
	dir := flag.String("cases", "edge/guard/testdata", "directory of cases")
	flag.Parse()
	ok, err := run(*addr, *dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "guardcheck:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(addr, dir string) (bool, error) {
	cases, err := corpus.Load(os.DirFS(dir))
	if err != nil {
		return false, err
	}
	var refused, refuse, accepted, accept int
	for _, c := range cases {
		err := corpus.Try(context.Background(), addr, c)
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
	return refused == refuse && accepted == accept, nil
}
