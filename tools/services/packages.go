package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A tool is a program and the Debian package that brings it.
type tool struct{ program, debian string }

// find returns the path of a program given by name, by path, or by a pattern
// of paths.
func find(program string) (string, error) {
	if matches, err := filepath.Glob(program); err == nil && len(matches) > 0 && strings.Contains(program, "/") {
		program = matches[0]
	}
	return exec.LookPath(program)
}

// installPackages brings all missing tools in one go, because only one apt-get
// can work at a time.
func installPackages(ctx context.Context, missing []tool, out io.Writer) error {
	var packages []string
	for _, t := range missing {
		packages = append(packages, t.debian)
	}
	slices.Sort(packages)
	packages = slices.Compact(packages)
	command := installCommand(packages)

	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("missing: %s, and there is no apt-get to install them with", programs(missing))
	}
	if os.Getuid() != 0 {
		return fmt.Errorf("missing: %s, and only root can install them. Run:\n  sudo apt-get update && sudo %s", programs(missing), strings.Join(command, " "))
	}
	fmt.Fprintf(out, "installing: %s\n", strings.Join(packages, " "))
	if _, err := apt(ctx, command); err == nil {
		return nil
	}
	// A fresh machine has no package lists, an old one has stale ones.
	if text, err := apt(ctx, []string{"apt-get", "update"}); err != nil {
		return fmt.Errorf("apt-get update: %w\n%s", err, tail(text, 12))
	}
	if text, err := apt(ctx, command); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, tail(text, 12))
	}
	return nil
}

func installCommand(packages []string) []string {
	return append([]string{"apt-get", "install", "-y", "--no-install-recommends"}, packages...)
}

// apt runs apt-get without questions and waits for another apt-get to finish.
func apt(ctx context.Context, command []string) (string, error) {
	args := append([]string{"-o", "DPkg::Lock::Timeout=300"}, command[1:]...)
	cmd := exec.CommandContext(ctx, command[0], args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	text, err := cmd.CombinedOutput()
	return string(text), err
}

func programs(tools []tool) string {
	var out []string
	for _, t := range tools {
		out = append(out, filepath.Base(t.program))
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ", ")
}
