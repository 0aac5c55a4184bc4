package main

import "github.com/stanchion-queue/stanchion/config"

// inventoryCmd runs seats and holds.
type inventoryCmd struct{ configFlags }

func (c *inventoryCmd) Run(p *process) error {
	return c.start(p, "inventory", config.Base{}, config.InventoryRole)
}
