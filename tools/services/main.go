// Command services obtains, starts and stops the real engines that the
// integration tests, drills and benchmarks talk to: Redis (alone, under
// Sentinel, as a cluster), PostgreSQL, Kafka, Cassandra (which speaks the CQL
// of ScyllaDB) and Consul, and the browser for the page tests. It needs no
// containers: Debian packages, Maven Central and the Go toolchain are enough.
//
//	go run ./tools/services up [-fsync=false] [engine...]
//	go run ./tools/services down [engine...]
//	go run ./tools/services status [engine...]
//	go run ./tools/services env
//
// Downloads, binaries, run folders and services.env, the file of addresses
// that tests source, live under ${STANCHION_CACHE:-~/.cache/stanchion}. An
// engine whose STANCHION_TEST_ variable is already set is taken as given and
// never started or stopped. All servers listen on loopback without passwords:
// they are for tests on a machine of your own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const usage = `usage: services up [-fsync=false] [engine...]   obtain and start
       services down [engine...]                stop what up has started
       services status [engine...]              one line per engine
       services env                             print "export NAME=value" lines

engines: `

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	site, err := newSite(os.Getenv)
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("services", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&site.fsync, "fsync", true, "let PostgreSQL wait for the disk; off is for functional tests only")
	if len(args) == 0 {
		return errors.New("say what to do\n" + usage + strings.Join(names(site.engines()), " "))
	}
	if err := flags.Parse(args[1:]); err != nil {
		return fmt.Errorf("%w\n%s%s", err, usage, strings.Join(names(site.engines()), " "))
	}
	chosen, err := choose(site.engines(), flags.Args(), args[0] == "up")
	if err != nil {
		return err
	}
	unlock, err := lock(ctx, site, out)
	if err != nil {
		return err
	}
	defer unlock()

	switch args[0] {
	case "up":
		return up(ctx, site, chosen, out)
	case "down":
		return down(ctx, site, chosen, out)
	case "status":
		return status(ctx, site, chosen, out)
	case "env":
		return printEnv(site, out)
	}
	return fmt.Errorf("%q is not a command\n%s%s", args[0], usage, strings.Join(names(site.engines()), " "))
}

// choose picks the engines named; with no names, those that up starts unasked,
// or all of them for the other commands.
func choose(all []engine, wanted []string, starting bool) ([]engine, error) {
	if len(wanted) == 0 {
		return slices.DeleteFunc(slices.Clone(all), func(e engine) bool { return starting && e.onRequest }), nil
	}
	var chosen []engine
	for _, name := range wanted {
		i := slices.IndexFunc(all, func(e engine) bool { return e.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no engine is called %q; there are: %s", name, strings.Join(names(all), " "))
		}
		if slices.Contains(names(chosen), name) {
			return nil, fmt.Errorf("%q is named twice", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func names(engines []engine) []string {
	var out []string
	for _, e := range engines {
		out = append(out, e.name)
	}
	return out
}

// up starts the engines side by side. One that fails does not stop the others:
// what works stays up, and every failure is reported.
func up(ctx context.Context, site site, engines []engine, out io.Writer) error {
	var missing []tool
	for _, e := range engines {
		if !site.given(e) {
			missing = append(missing, e.missing()...)
		}
	}
	install := sync.OnceValue(func() error { return installPackages(ctx, missing, out) })

	failures := make([]error, len(engines))
	var group sync.WaitGroup
	for i, e := range engines {
		group.Go(func() {
			begun := time.Now()
			how, err := site.bringUp(ctx, e, install, out)
			if err != nil {
				failures[i] = fmt.Errorf("%s: %w", e.name, err)
				report(out, e, "FAILED", "see below")
				return
			}
			report(out, e, how, fmt.Sprintf("%.1f s, %s", time.Since(begun).Seconds(), e.version))
		})
	}
	group.Wait()
	if err := site.writeEnv(); err != nil {
		failures = append(failures, err)
	}
	fmt.Fprintf(out, "addresses: %s\n", site.envFile())
	return errors.Join(failures...)
}

func down(ctx context.Context, site site, engines []engine, out io.Writer) error {
	var failures []error
	for _, e := range engines {
		stopped, err := site.bringDown(ctx, e)
		switch {
		case err != nil:
			failures = append(failures, fmt.Errorf("%s: %w", e.name, err))
			report(out, e, "FAILED", err.Error())
		case stopped > 0:
			report(out, e, "stopped", fmt.Sprintf("%d process(es)", stopped))
		default:
			report(out, e, "off", "")
		}
	}
	return errors.Join(append(failures, site.writeEnv())...)
}

func status(ctx context.Context, site site, engines []engine, out io.Writer) error {
	for _, e := range engines {
		switch state, err := site.state(ctx, e); {
		case err != nil:
			report(out, e, string(state), err.Error())
		case state == running || state == given:
			report(out, e, string(state), e.env[0].name+"="+site.value(e))
		default:
			report(out, e, string(state), "")
		}
	}
	return nil
}

func printEnv(site site, out io.Writer) error {
	lines, err := site.envLines()
	for _, line := range lines {
		fmt.Fprintln(out, "export", line)
	}
	return err
}

func report(out io.Writer, e engine, state, detail string) {
	fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("%-15s %-9s %s", e.name, state, detail), " "))
}
