package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/stanchion-queue/stanchion/queue/simulate"
)

// simulateCmd plays an on-sale in virtual time.
type simulateCmd struct {
	Scenario string `arg:"" optional:"" help:"Name of a scenario that comes with the program, or path of a YAML file; without one they are listed."`
	JSON     bool   `help:"Print one JSON object instead of the table."`
	HTML     string `type:"path" placeholder:"FILE" help:"Also write a self-contained page with charts."`
	Seed     uint64 `help:"Seed of the first run; 0: the scenario's own."`
	Runs     int    `default:"1" help:"Average so many runs with consecutive seeds."`
}

func (c *simulateCmd) Run(p *process) error {
	if c.Scenario == "" {
		for _, name := range simulate.Names() {
			scenario, err := simulate.Load(name)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(p.stdout, "%-18s %s\n", name, scenario.Title); err != nil {
				return fmt.Errorf("list scenarios: %w", err)
			}
		}
		return nil
	}
	if c.Runs < 1 || c.Runs > 1000 {
		return fmt.Errorf("--runs is %d, want 1 to 1000", c.Runs)
	}
	scenario, err := simulate.Load(c.Scenario)
	if err != nil {
		return err
	}
	seed := c.Seed
	if seed == 0 {
		seed = scenario.Seed
	}
	var runs []*simulate.Result
	for i := range c.Runs {
		r, err := simulate.Run(p.ctx, scenario, seed+uint64(i))
		if err != nil {
			return err
		}
		runs = append(runs, r)
	}
	result := simulate.Mean(runs)
	if c.HTML != "" {
		var page bytes.Buffer
		if err := simulate.WriteHTML(&page, result); err != nil {
			return err
		}
		if err := os.WriteFile(c.HTML, page.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	if !c.JSON {
		return simulate.WriteTable(p.stdout, result)
	}
	encoder := json.NewEncoder(p.stdout)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(result); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}
