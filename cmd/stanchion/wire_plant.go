package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/stanchion-queue/stanchion/config"
	"github.com/stanchion-queue/stanchion/config/consulkv"
	"github.com/stanchion-queue/stanchion/telemetry"
)

// plant is a process's roles while they run: what runs in the background, and how each part stops. Parts stop in the reverse of the
// order in which they were built, so that nothing is closed under those who still use it.
type plant struct {
	*launch
	life   context.Context // of background work; ends when the work is to stop, after the listeners have drained
	end    context.CancelFunc
	wg     sync.WaitGroup
	failed chan error
	steps  []telemetry.Step // in the order in which parts were built
	agents map[config.Consul]*consulkv.Client
	known  map[config.Role]*peers
	takes  []func(config.Config) error // what takes a new configuration, all or nothing each
}

func newPlant(ctx context.Context, l *launch) *plant {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	return &plant{launch: l, life: life, end: end, failed: make(chan error, 16), agents: map[config.Consul]*consulkv.Client{}, known: map[config.Role]*peers{}}
}

// goes runs f in the background until the plant's life ends. An f that returns before that with an error stops the process.
func (p *plant) goes(name string, f func(ctx context.Context) error) {
	p.wg.Go(func() {
		if err := f(p.life); err != nil && p.life.Err() == nil {
			p.fail(fmt.Errorf("%s: %w", name, err))
		}
	})
}

func (p *plant) fail(err error) {
	select {
	case p.failed <- err:
	default: // the process is stopping for another reason already
	}
}

// closing adds a step of the stop.
func (p *plant) closing(name string, f func(ctx context.Context) error) {
	p.steps = append(p.steps, telemetry.Step{Name: name, Run: f})
}

// serves runs an HTTP server on a listener and drains it at the stop.
func (p *plant) serves(name string, c config.Listener, ln net.Listener, h http.Handler) error {
	s := httpServer(c, h, p.log)
	if c.TLS.CertFile != "" {
		t, err := serverTLS(c.TLS)
		if err != nil {
			return fmt.Errorf("listeners.%s.tls: %w", name, err)
		}
		s.TLSConfig = t
	}
	p.wg.Go(func() {
		var err error
		if s.TLSConfig != nil {
			err = s.ServeTLS(ln, "", "")
		} else {
			err = s.Serve(ln)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			p.fail(fmt.Errorf("serve listeners.%s: %w", name, err))
		}
	})
	p.closing(name+" listener", func(ctx context.Context) error { return shutdown(ctx, s) })
	return nil
}

// stop ends everything in order and waits for it.
func (p *plant) stop(ctx context.Context) error {
	slices.Reverse(p.steps)
	err := telemetry.Drain(ctx, p.log, p.steps...)
	p.end()
	p.wg.Wait()
	return err
}

// background is the step after which no background work runs; stores are closed after it.
func (p *plant) background() {
	p.closing("background work", func(context.Context) error {
		p.end()
		return nil
	})
}
