package main

import "github.com/stanchion-queue/stanchion/config"

// queueCmd runs a room's controller.
type queueCmd struct{ configFlags }

func (c *queueCmd) Run(p *process) error {
	return c.start(p, "queue", config.Base{}, config.QueueRole)
}
