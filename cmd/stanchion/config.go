package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/stanchion-queue/stanchion/config"
)

// configCmd groups the commands about the configuration.
type configCmd struct {
	Check     configCheckCmd     `cmd:"" help:"Check a configuration without running anything; prints its digest and which commands can run on it."`
	Reference configReferenceCmd `cmd:"" help:"Print the reference of all keys (Markdown)."`
}

// configCheckCmd checks a configuration. Exit code 2: it is refused.
type configCheckCmd struct {
	configFlags
	As string `enum:",all,demo,edge,queue,core,inventory,admin,psp-simulator" default:"" help:"Also require that this command can run on it."`
}

// runnable are the commands that run roles.
func runnable(cfg config.Config) []struct {
	name  string
	roles []config.Role
} {
	type one = struct {
		name  string
		roles []config.Role
	}
	all := []one{{"all", config.AllRoles()}, {demoName, append(config.AllRoles(), config.PSPSimulator)}, {"edge", edgeRoles(cfg)}}
	for _, role := range append(config.AllRoles()[1:], config.PSPSimulator) {
		all = append(all, one{string(role), []config.Role{role}})
	}
	return all
}

func (c *configCheckCmd) Run(p *process) error {
	cfg, report, err := c.load(p, config.Base{})
	var runs, not []string
	for _, command := range runnable(cfg) {
		checked := cfg.CheckRoles(report, command.roles...)
		if command.name != demoName {
			checked = config.Join(checked, cfg.CheckOpening(report))
		}
		if c.As == command.name {
			err = config.Join(err, checked)
		}
		if checked == nil {
			runs = append(runs, command.name)
			continue
		}
		var problems *config.Problems
		if errors.As(checked, &problems) {
			not = append(not, command.name+" ("+problems.List[0].Key+" "+problems.List[0].What+")")
		}
	}
	if err != nil {
		return err
	}
	file := report.File
	if file == "" {
		file = "defaults, environment and flags"
	}
	fmt.Fprintf(p.stdout, "valid: %s\ndigest: %s\nruns as: %s\n", file, report.Digest, strings.Join(runs, ", "))
	for _, n := range not {
		fmt.Fprintln(p.stdout, "not as:", n)
	}
	for _, w := range report.Warnings {
		fmt.Fprintln(p.stdout, "warning:", w)
	}
	return nil
}

// configReferenceCmd prints docs/reference/config.md.
type configReferenceCmd struct{}

func (c *configReferenceCmd) Run(p *process) error {
	_, err := fmt.Fprint(p.stdout, config.Reference())
	if err != nil {
		return fmt.Errorf("print reference: %w", err)
	}
	return nil
}
