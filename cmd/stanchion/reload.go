package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/stanchion-queue/stanchion/config"
)

// reloadOnHangup reads the configuration again at each SIGHUP until ctx ends. apply gets the new one and either takes
// all of it or refuses it with an error; then the old one stays.
func (l *launch) reloadOnHangup(ctx context.Context, apply func(config.Config) error) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			if err := l.reloadOnce(apply); err != nil {
				l.log.Error("configuration not reloaded; the old one stays", slog.Any("error", err))
			}
		}
	}
}

// reloadOnce swaps the whole configuration or nothing. Keys that need a restart are refused by name.
func (l *launch) reloadOnce(apply func(config.Config) error) error {
	next, report, err := l.reload()
	if err != nil {
		return err
	}
	changes := config.Changes(*l.current.Load(), next)
	var refused config.Problems
	for _, c := range changes {
		if !c.Hot {
			refused.List = append(refused.List, config.Problem{Source: report.Source(c.Key), Key: c.Key, Value: c.New,
				What: fmt.Sprintf("cannot change while the program runs (now %s)", c.Old), Do: "restart, or take it back"})
		}
	}
	if len(refused.List) > 0 {
		return &refused
	}
	if len(changes) == 0 {
		l.log.Info("configuration read again, nothing changed")
		return nil
	}
	if err := apply(next); err != nil {
		return err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(next.Log.Level)); err != nil {
		return fmt.Errorf("set log level: %w", err)
	}
	l.level.Set(level)
	l.current.Store(&next)
	for _, c := range changes {
		l.log.Info("reloaded", "key", c.Key, "was", c.Old, "now", c.New)
	}
	return nil
}
