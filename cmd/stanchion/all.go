package main

import "github.com/stanchion-queue/stanchion/config"

// allCmd runs every role in one process.
type allCmd struct{ configFlags }

func (c *allCmd) Run(p *process) error {
	return c.start(p, "all", config.AllBase(), config.AllRoles()...)
}
