package main

import (
	"context"
	"errors"

	"github.com/stanchion-queue/stanchion/admin/health"
	"github.com/stanchion-queue/stanchion/config"
	"github.com/stanchion-queue/stanchion/telemetry"
)

// runRoles runs l's roles until ctx ends or one of them fails, then stops them gracefully.
func runRoles(ctx context.Context, l *launch) error {
	failed := make(chan error, 1)
	operations := httpServer(l.cfg.Listeners.Operations, l.operations(), l.log)
	go serve(operations, l.listeners["operations"], "operations", failed)

	reloading, stopReloading := context.WithCancel(ctx)
	defer stopReloading()
	go l.reloadOnHangup(reloading, func(config.Config) error { return nil })

	l.board.SetPhase(health.Serving)
	l.log.Info("ready")
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}

	l.board.SetPhase(health.Draining)
	draining, cancel := l.drainContext(ctx)
	defer cancel()
	return errors.Join(err, telemetry.Drain(draining, l.log,
		telemetry.Step{Name: "traces", Run: l.tracing.Shutdown},
		telemetry.Step{Name: "operations listener", Run: func(ctx context.Context) error { return shutdown(ctx, operations) }},
	))
}
