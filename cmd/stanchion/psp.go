package main

import "github.com/stanchion-queue/stanchion/config"

// pspCmd runs the payment-provider simulator.
type pspCmd struct{ configFlags }

func (c *pspCmd) Run(p *process) error {
	return c.start(p, "psp-simulator", config.Base{}, config.PSPSimulator)
}
