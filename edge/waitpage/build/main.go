// Command build bundles the fan's script and style, and the client module, with esbuild. It is run by go generate in package waitpage; its
// output is committed, so that building the product needs Go alone.
package main

import (
	"fmt"
	"os"

	"github.com/stanchion-queue/stanchion/edge/waitpage/build/bundle"
)

func main() {
	files, err := bundle.Files(".")
	if err == nil {
		err = bundle.Write(".", files)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the fan's page:", err)
		os.Exit(1)
	}
}
