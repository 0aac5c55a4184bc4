// Command stanchion is the whole product in one program: every role, the demo, and the tools of its operators. This
// package is the only one that knows all others; it reads the configuration, opens the listeners and wires the roles.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/stanchion-queue/stanchion/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(exitCode(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr), os.Stderr))
}

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2 // wrong command line or configuration
)

// exitCode says what went wrong and how the process ends.
func exitCode(err error, stderr io.Writer) int {
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(stderr, "stanchion:", err)
	var problems *config.Problems
	var usage *kong.ParseError
	if errors.As(err, &problems) || errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailure
}

// cli is the command line. Configuration keys are flags too; config.SplitArgs takes them out before kong looks.
type cli struct {
	All       allCmd       `cmd:"" help:"Run every role in one process, on embedded stores unless configured otherwise."`
	Demo      demoCmd      `cmd:"" help:"Run every role with a payment simulator, a generated theatre and simulated fans."`
	Edge      edgeCmd      `cmd:"" help:"Run the edge: the front door. With embedded rooms it brings the waiting room and console along."`
	Queue     queueCmd     `cmd:"" help:"Run the waiting rooms' controller."`
	Core      coreCmd      `cmd:"" help:"Run orders, payments and tickets."`
	Inventory inventoryCmd `cmd:"" help:"Run seats and holds."`
	Admin     adminCmd     `cmd:"" help:"Run the operators' console."`
	PSP       pspCmd       `cmd:"" name:"psp-simulator" help:"Run the payment-provider simulator."`
	Config    configCmd    `cmd:"" help:"Check a configuration, or print the reference of all keys."`
	Keys      keysCmd      `cmd:"" help:"Make or rotate the signing keys of an installation."`
	Simulate  simulateCmd  `cmd:"" help:"Play an on-sale in virtual time and measure it."`
	Verify    verifyCmd    `cmd:"" help:"Check a published line, its draw and a place in it, with public data only."`
	Version   versionCmd   `cmd:"" help:"Print the version."`
}

// process is what a command may use of the process it runs in.
type process struct {
	ctx            context.Context
	keys           []string // command-line flags that name configuration keys
	env            []string
	stdout, stderr io.Writer
}

const description = `Front door for ticket on-sales: edge, fair waiting room, and the back end behind it.

Every key of the configuration is also a flag (--listeners.public.address=127.0.0.1:80) and an environment variable
(STANCHION_LISTENERS_PUBLIC_ADDRESS); "stanchion config reference" prints them all.`

// run is the program. It returns when the command is done, or, for roles, after a graceful stop once ctx has ended.
func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) error {
	keys, rest := config.SplitArgs(args)
	p := &process{ctx: ctx, keys: keys, env: env, stdout: stdout, stderr: stderr}
	var grammar cli
	helped := false
	parser, err := kong.New(&grammar, kong.Name("stanchion"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.Exit(func(int) { helped = true }), kong.Bind(p), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		return fmt.Errorf("build command line: %w", err)
	}
	if len(rest) == 0 {
		rest = []string{"--help"}
	}
	command, err := parser.Parse(rest)
	if helped {
		return nil
	}
	if err != nil {
		return fmt.Errorf(`%w; "stanchion --help" lists commands and flags`, err)
	}
	return command.Run()
}
