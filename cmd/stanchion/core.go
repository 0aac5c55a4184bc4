package main

import "github.com/stanchion-queue/stanchion/config"

// coreCmd runs orders, payments and tickets.
type coreCmd struct{ configFlags }

func (c *coreCmd) Run(p *process) error {
	return c.start(p, "core", config.Base{}, config.CoreRole)
}
