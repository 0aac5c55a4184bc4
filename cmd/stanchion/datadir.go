package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/stanchion-queue/stanchion/config"
)

// needsDataDir tells whether these roles keep anything in data_dir.
func needsDataDir(cfg config.Config, roles []config.Role) bool {
	has := func(r config.Role) bool { return slices.Contains(roles, r) }
	s := cfg.Stores
	return cfg.Keys.Dir == "" || has(config.PSPSimulator) ||
		(has(config.EdgeRole) || has(config.QueueRole)) && s.Rooms.Engine == "embedded" ||
		(has(config.AdminRole) || has(config.QueueRole)) && s.Settings.Engine == "embedded" ||
		has(config.InventoryRole) && s.Seats.Engine == "embedded" ||
		has(config.CoreRole) && (s.Orders.Engine == "embedded" || s.Bus.Engine == "embedded")
}

// lockDataDir makes dir and takes its lock, which the system gives back however the process ends. The file holds the
// holder's process id for the message of the next one.
func lockDataDir(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: make %s (choose another with --data_dir=DIR): %w", dir, err)
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data_dir: open lock of %s: %w", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(f, 32)) // only for the message
		_ = f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("data_dir: lock %s (network file systems may not support it): %w", dir, err)
		}
		pid := strings.TrimSpace(string(holder))
		if pid == "" {
			pid = "unknown"
		}
		return nil, fmt.Errorf("data_dir: %s is in use by process %s; stop that one, or give this one another with --data_dir=DIR", dir, pid)
	}
	if err := writePID(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("data_dir: write lock of %s: %w", dir, err)
	}
	return f.Close, nil
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}
