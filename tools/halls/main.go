// Command halls prints the seating plan of an invented venue.
//
//	go run ./tools/halls theatre|stadium [--format stanchion|pretix]
//
// The plans themselves are made by the package halls below this folder, which other programs may import.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/stanchion-queue/stanchion/inventory/chart"
	"github.com/stanchion-queue/stanchion/tools/halls/halls"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "halls:", err)
		os.Exit(2)
	}
}

func run(args []string, out io.Writer) error {
	const usage = "usage: halls theatre|stadium [--format stanchion|pretix]"
	if len(args) == 0 {
		return errors.New(usage)
	}
	flags := flag.NewFlagSet("halls", flag.ContinueOnError)
	format := flags.String("format", "stanchion", "stanchion or pretix")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	var c *chart.Chart
	switch args[0] {
	case "theatre":
		c = halls.Theatre()
	case "stadium":
		c = halls.Stadium()
	default:
		return fmt.Errorf("no hall %q; %s", args[0], usage)
	}
	w := bufio.NewWriter(out)
	switch *format {
	case "stanchion":
		document, err := c.Encode()
		if err != nil {
			return err
		}
		if _, err := w.Write(document); err != nil {
			return err
		}
	case "pretix":
		if err := halls.WritePretix(w, c); err != nil {
			return err
		}
	default:
		return fmt.Errorf("no format %q; %s", *format, usage)
	}
	return w.Flush()
}
