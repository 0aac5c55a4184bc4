package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/admin/health"
	"github.com/stanchion-queue/stanchion/config"
	"github.com/stanchion-queue/stanchion/config/consulkv"
	"github.com/stanchion-queue/stanchion/config/sqlitesettings"
	"github.com/stanchion-queue/stanchion/queue/controller"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// openSettings opens the store of the rooms' settings documents.
func (p *plant) openSettings(ctx context.Context) (config.Settings, error) {
	if s := p.cfg.Stores.Settings; s.Engine == "consul" {
		c, err := p.consul(s.Consul)
		if err != nil {
			return nil, fmt.Errorf("stores.settings: %w", err)
		}
		p.board.Add(health.Pinged("settings store (consul)", c.Ping))
		return c.Settings(s.KVPath), nil
	}
	s, err := sqlitesettings.Open(ctx, filepath.Join(p.cfg.DataDir, "settings.db"))
	if err != nil {
		return nil, fmt.Errorf("stores.settings: %w", err)
	}
	p.closing("settings store", func(context.Context) error { return s.Close() })
	p.board.Add(health.Pinged("settings store", s.Ping))
	return s, nil
}

// consul is the process's connection to an agent; settings and discovery share it when they name the same one.
func (p *plant) consul(c config.Consul) (*consulkv.Client, error) {
	if p.agents[c] != nil {
		return p.agents[c], nil
	}
	client, err := consulkv.New(consulkv.Options{
		Address: c.Address, Datacenter: c.Datacenter, TokenFile: c.TokenFile, TLS: c.TLS.Enabled, CAFile: c.TLS.CAFile, CertFile: c.TLS.CertFile,
		KeyFile: c.TLS.KeyFile, ServerName: c.TLS.ServerName, Logger: p.log,
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"agent": c.Address}, p.registry),
	})
	if err != nil {
		return nil, err
	}
	p.agents[c] = client
	return client, nil
}

// firstSettings returns each room's document in force, and stores the configured one for rooms that have none. An opening given
// in seconds is fixed to a time then, so that a restart does not move it.
func (p *plant) firstSettings(ctx context.Context, store config.Settings) (map[string]config.Room, error) {
	out := map[string]config.Room{}
	for name, r := range p.cfg.Rooms {
		doc, _, err := store.Get(ctx, name)
		if errors.Is(err, config.ErrNoSettings) {
			if r.Opening.OpensInS > 0 {
				r.Opening.OpensAt = time.Now().Add(time.Duration(r.Opening.OpensInS) * time.Second).UTC().Format("2006-01-02T15:04:05.000Z")
				r.Opening.OpensInS = 0
			}
			if doc, err = r.Document(); err != nil {
				return nil, err
			}
			_, err = store.Put(ctx, name, doc, "", "stanchion", "first version, from the configuration")
			if errors.Is(err, config.ErrConflict) { // another process was faster
				doc, _, err = store.Get(ctx, name)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read settings of room %s: %w", name, err)
		}
		if out[name], err = config.ParseRoom(name, doc); err != nil {
			return nil, fmt.Errorf("read settings of room %s: %w", name, err)
		}
	}
	return out, nil
}

// followSettings brings each newer document to the room's control record, where edges read it. A document that the room cannot take
// (an opening that is moved after the fact) is named in the log and on the board, and the old one stays in force.
func (p *plant) followSettings(ctx context.Context, store config.Settings, c *controller.Controller) error {
	refusals := &refusals{by: map[string]string{}}
	p.board.Add(health.Check{Name: "room settings", Probe: refusals.probe})
	return store.Watch(ctx, func(name string, doc []byte, version string) {
		refusals.set(name, p.applySettings(ctx, c, name, doc, version))
	})
}

// applyTries is how often a document is brought to a room whose controller is starting or is led elsewhere.
const (
	applyTries = 60
	applyPause = 500 * time.Millisecond
)

func (p *plant) applySettings(ctx context.Context, c *controller.Controller, name string, doc []byte, version string) error {
	r, err := config.ParseRoom(name, doc)
	if err != nil {
		return err
	}
	want := roomSettings(r, p.cfg.Beacon.Chain, time.Now())
	for try := 0; ; try++ {
		err := applyOnce(ctx, c, name, want, version)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, controller.ErrNoRoom):
			return nil // a room that this process does not serve
		case errors.Is(err, room.ErrSettings), try == applyTries, ctx.Err() != nil:
			p.log.Error("room settings not in force", "room", name, "version", version, slog.Any("error", err))
			return err
		}
		select { // not leading, starting, changed meanwhile: the leader of the moment does it, or we do in a moment
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(applyPause):
		}
	}
}

// applyOnce does nothing when the document is in force already, whoever brought it there.
func applyOnce(ctx context.Context, c *controller.Controller, name string, want room.Settings, version string) error {
	now, err := c.Settings(ctx, name)
	if err != nil {
		return err
	}
	want.MessageAtMs = now.Settings.MessageAtMs // the controller's own note of when the message changed
	next, err := want.Document()
	if err != nil {
		return err
	}
	if now.Version > 0 {
		if have, err := now.Settings.Document(); err == nil && string(have) == string(next) {
			return nil
		}
	}
	_, err = c.Apply(ctx, name, next, now.Version, "settings store", "version "+version)
	return err
}

// refusals are the rooms whose newest document is not in force, for the readiness page.
type refusals struct {
	mu sync.Mutex
	by map[string]string
}

func (r *refusals) set(room string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.by, room)
	if err != nil && !errors.Is(err, context.Canceled) {
		r.by[room] = err.Error()
	}
}

func (r *refusals) probe(context.Context) health.Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, why := range r.by {
		return health.Result{State: health.Degraded, Message: fmt.Sprintf("room %s keeps its old settings: %s", name, why)}
	}
	return health.Result{State: health.OK}
}
