// Package telemetry sets up what a process tells about itself: logs (log/slog, secrets masked), metrics (a Prometheus
// registry), traces (OpenTelemetry over OTLP/HTTP, off by default), and the orderly end, [Drain], whose every step is
// logged with its duration.
//
// Nothing here is global: callers get values and pass them on. The one exception is named at [NewTracing].
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry is a registry that already holds the Go runtime's and the process' metrics and
// stanchion_build_info{version,revision}.
func NewRegistry(version, revision string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "stanchion_build_info",
		Help:        "1, labelled with the version and revision that runs.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision},
	})
	info.Set(1)
	r.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Step is one part of a graceful stop.
type Step struct {
	Name string
	Run  func(ctx context.Context) error
}

// Drain runs the steps in order and logs how long each took. A step that fails, or is cut off by the end of ctx, does
// not keep the later ones from running: with ctx over they are still called, so that they can close what they hold.
// The error names every step that failed.
func Drain(ctx context.Context, log *slog.Logger, steps ...Step) error {
	var errs []error
	began := time.Now()
	for _, s := range steps {
		start := time.Now()
		err := s.Run(ctx)
		took := slog.Duration("took", time.Since(start))
		if err != nil {
			log.LogAttrs(ctx, slog.LevelError, "stop: "+s.Name+" failed", took, slog.Any("error", err))
			errs = append(errs, fmt.Errorf("stop %s: %w", s.Name, err))
			continue
		}
		log.LogAttrs(ctx, slog.LevelInfo, "stop: "+s.Name+" done", took)
	}
	log.LogAttrs(ctx, slog.LevelInfo, "stopped", slog.Duration("took", time.Since(began)), slog.Int("failed_steps", len(errs)))
	return errors.Join(errs...)
}
