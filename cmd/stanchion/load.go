package main

import (
	"os"

	"github.com/stanchion-queue/stanchion/config"
)

// configFlags are the flags of every command that reads the configuration.
type configFlags struct {
	Config string   `placeholder:"FILE" help:"YAML file with the configuration (also STANCHION_CONFIG)."`
	Set    []string `placeholder:"KEY=VALUE" sep:"none" help:"Set one key, e.g. --set rooms.main.cap=200; may be repeated. --KEY=VALUE does the same."`
}

// load reads the configuration over base. The error holds everything that is wrong with it.
func (f configFlags) load(p *process, base config.Base) (config.Config, config.Report, error) {
	var args []string
	if f.Config != "" {
		args = append(args, "--config="+f.Config)
	}
	for _, s := range f.Set {
		args = append(args, "--set="+s)
	}
	return config.LoadOver(base, append(args, p.keys...), p.env, os.ReadFile)
}
