package main

import "github.com/stanchion-queue/stanchion/config"

// adminCmd runs the operators' console.
type adminCmd struct{ configFlags }

func (c *adminCmd) Run(p *process) error {
	return c.start(p, "admin", config.Base{}, config.AdminRole)
}
