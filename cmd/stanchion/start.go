package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/admin/health"
	"github.com/stanchion-queue/stanchion/config"
	"github.com/stanchion-queue/stanchion/telemetry"
)

// launch is everything a process has when its roles start.
type launch struct {
	cfg       config.Config
	report    config.Report
	roles     []config.Role
	demo      bool
	listeners map[string]net.Listener // by key under listeners; whoever serves one closes it
	ports     []port
	board     *health.Board
	registry  *prometheus.Registry
	tracing   telemetry.Tracing
	log       *slog.Logger
	level     *slog.LevelVar
	node      string
	version   string
	stdout    io.Writer
	stderr    io.Writer

	current *atomic.Pointer[config.Config] // in force now: cfg, with what was reloaded since
	reload  func() (config.Config, config.Report, error)
}

// start loads the configuration over base and runs roles until the process is told to stop.
func (f configFlags) start(p *process, command string, base config.Base, roles ...config.Role) error {
	cfg, report, err := f.load(p, base)
	return f.startLoaded(p, command, base, cfg, report, err, roles...)
}

// startLoaded is start with the configuration already read; loadErr is what was wrong with it.
func (f configFlags) startLoaded(p *process, command string, base config.Base, cfg config.Config, report config.Report, loadErr error, roles ...config.Role) (err error) {
	check := func(cfg config.Config, report config.Report, err error) error {
		err = config.Join(err, cfg.CheckRoles(report, roles...))
		if command != demoName {
			err = config.Join(err, cfg.CheckOpening(report))
		}
		return err
	}
	if err := check(cfg, report, loadErr); err != nil {
		return err
	}
	v, revision := build()
	l := &launch{cfg: cfg, report: report, roles: roles, demo: command == demoName, version: v, stdout: p.stdout, stderr: p.stderr, level: new(slog.LevelVar),
		board: health.NewBoard(), registry: telemetry.NewRegistry(v, revision), current: new(atomic.Pointer[config.Config])}
	l.current.Store(&cfg)
	l.reload = func() (config.Config, config.Report, error) {
		cfg, report, err := f.load(p, base)
		return cfg, report, check(cfg, report, err)
	}
	if err := l.level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		return fmt.Errorf("set log level: %w", err)
	}
	l.log = telemetry.NewLogger(p.stderr, l.level, cfg.Log.Format)
	node := cfg.Node
	if node == "" {
		if node, err = os.Hostname(); err != nil {
			return fmt.Errorf("ask for the host's name (or set --node): %w", err)
		}
	}
	if needsDataDir(cfg, roles) {
		unlock, lockErr := lockDataDir(cfg.DataDir)
		if lockErr != nil {
			return lockErr
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	l.node = node
	l.tracing, err = telemetry.NewTracing(p.ctx, telemetry.TracingOptions{Endpoint: cfg.Tracing.Endpoint, SampleRatio: cfg.Tracing.SampleRatio,
		Timeout: seconds(cfg.Tracing.TimeoutS), Service: "stanchion-" + command, Version: v, Node: node, Logger: l.log})
	if err != nil {
		return err
	}
	l.ports = ports(cfg, roles)
	if l.listeners, err = listenAll(p.ctx, l.ports); err != nil {
		return err
	}
	for _, w := range report.Warnings {
		l.log.Warn("configuration: " + w)
	}
	l.log.Info("starting", "command", command, "version", v, "revision", revision, "digest", report.Digest, "file", report.File)
	if _, err := fmt.Fprint(p.stdout, l.addresses(command)); err != nil {
		closeAll(l.listeners)
		return fmt.Errorf("print addresses: %w", err)
	}
	return runRoles(p.ctx, l)
}

// addresses is what the operator reads first.
func (l *launch) addresses(command string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "stanchion %s %s\n", command, l.version)
	for _, p := range l.ports {
		fmt.Fprintf(&b, "  %-27s %s\n", p.use, p.url(l.listeners[p.name].Addr()))
	}
	return b.String()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// drainContext bounds a graceful stop. It does not end with ctx, which has ended already when a stop begins.
func (l *launch) drainContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Duration(l.cfg.DrainS)*time.Second)
}
