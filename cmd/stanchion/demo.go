package main

import "github.com/stanchion-queue/stanchion/config"

// demoCmd runs every role with simulated surroundings.
type demoCmd struct{ configFlags }

func (c *demoCmd) Run(p *process) error {
	base, err := config.DemoBase()
	if err != nil {
		return err
	}
	return c.start(p, demoName, base, append(config.AllRoles(), config.PSPSimulator)...)
}

const demoName = "demo"
