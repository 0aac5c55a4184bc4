package main

import (
	"fmt"
	"time"

	"github.com/stanchion-queue/stanchion/pass/keyring"
)

// keysCmd makes and rotates the keys of an installation.
type keysCmd struct {
	Init   keysInitCmd   `cmd:"" help:"Make a directory with every key that an installation needs; keys that are there stay."`
	Rotate keysRotateCmd `cmd:"" help:"Add new ticket and pass keys beside the old ones; they sign five minutes later."`
}

type keysInitCmd struct {
	Dir string `arg:"" help:"Directory, for keys.dir; made with mode 0700."`
}

// installationSecrets are the secrets beside the key ring.
var installationSecrets = []string{"guest", "provider", "webhook", "staff"}

func (c *keysInitCmd) Run(p *process) error {
	if _, err := keyring.Load(c.Dir, keyring.Options{Now: time.Now(), Create: true}); err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	for _, name := range installationSecrets {
		if _, err := loadSecret(c.Dir, name, true); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(p.stdout, "keys are in %s; copy it to every node, mode 0700, files 0600\n", c.Dir)
	return err
}

type keysRotateCmd struct {
	Dir string `arg:"" help:"The installation's keys.dir."`
}

func (c *keysRotateCmd) Run(p *process) error {
	if err := keyring.Rotate(c.Dir, time.Now()); err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	_, err := fmt.Fprintf(p.stdout, "new keys are in %s; bring it to every node within four minutes; they read it by themselves\n", c.Dir)
	return err
}
