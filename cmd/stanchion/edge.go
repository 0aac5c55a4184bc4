package main

import "github.com/stanchion-queue/stanchion/config"

// edgeCmd runs the front door. On embedded rooms, which exist inside one process only, the controller and the console
// come along; on Redis it is the edge alone.
type edgeCmd struct {
	configFlags
	Protect string `placeholder:"URL" help:"Put a waiting room (main) in front of this origin, e.g. http://127.0.0.1:9000."`
}

func (c *edgeCmd) Run(p *process) error {
	var base config.Base
	if c.Protect != "" {
		var err error
		if base, err = config.ProtectBase(c.Protect); err != nil {
			return err
		}
	}
	cfg, report, err := c.load(p, base)
	return c.startLoaded(p, "edge", base, cfg, report, err, edgeRoles(cfg)...)
}

func edgeRoles(cfg config.Config) []config.Role {
	if cfg.Stores.Rooms.Engine == "embedded" {
		return config.ProtectRoles()
	}
	return []config.Role{config.EdgeRole}
}
