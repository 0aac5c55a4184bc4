package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the release build (-ldflags "-X main.version=1.2.3").
var version = ""

// versionCmd prints what runs.
type versionCmd struct{}

func (c *versionCmd) Run(p *process) error {
	v, revision := build()
	if _, err := fmt.Fprintf(p.stdout, "stanchion %s (%s, %s %s/%s)\n", v, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH); err != nil {
		return fmt.Errorf("print version: %w", err)
	}
	return nil
}

// build is the version and the revision it was built from, "+" at its end if files had been changed.
func build() (v, revision string) {
	v, revision = version, "unknown revision"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v, revision
	}
	if v == "" {
		v = info.Main.Version
	}
	changed := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				changed = "+"
			}
		}
	}
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	return v, revision + changed
}
