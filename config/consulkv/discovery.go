package consulkv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/consul/api"
)

// Service is what a process registers.
type Service struct {
	Name    string // e.g. "stanchion-core"
	ID      string // unique in the datacenter
	Address string // host or IP under which others reach it
	Port    int
	TTL     time.Duration // not renewed for this long: unhealthy; at least a second
	Meta    map[string]string
}

// deregisterAfter is how long a service may be unhealthy before Consul forgets it (Consul's least is a minute).
const deregisterAfter = 10 * time.Minute

// Register announces svc and renews it three times per TTL until ctx ends, then withdraws it and returns ctx's error.
// healthy is asked at each renewal: a nil error is passing, any other is critical with its text. While the agent cannot
// be reached it tries on; after the agent has lost the registration (restart), it registers again.
func (c *Client) Register(ctx context.Context, svc Service, healthy func() error) error {
	if svc.TTL < time.Second {
		return fmt.Errorf("register %s in consul: TTL %s is under a second", svc.ID, svc.TTL)
	}
	check := "service:" + svc.ID
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = retryFirst, min(retryLongest, svc.TTL)
	registered, failing := false, false
	for {
		err := func() error {
			if !registered {
				if err := c.register(ctx, svc, check); err != nil {
					return err
				}
				registered = true
			}
			return c.renew(ctx, check, healthy())
		}()
		wait := svc.TTL / 3
		if err != nil && ctx.Err() == nil {
			if !failing {
				c.log.Warn("consul does not take the registration; trying on", slog.String("service", svc.ID), slog.Any("error", err))
			}
			c.metrics.errors.WithLabelValues("register").Inc()
			registered = registered && !unknownCheck(err)
			wait = min(pause.NextBackOff(), svc.TTL/3)
		} else {
			pause.Reset()
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			last := context.WithoutCancel(ctx)
			if err := call(last, "withdraw "+svc.ID, func(ctx context.Context) error {
				return c.api.Agent().ServiceDeregisterOpts(svc.ID, (&api.QueryOptions{}).WithContext(ctx))
			}); err != nil && registered {
				return errors.Join(ctx.Err(), err)
			}
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (c *Client) register(ctx context.Context, svc Service, check string) error {
	return call(ctx, "register "+svc.ID, func(ctx context.Context) error {
		return c.api.Agent().ServiceRegisterOpts(&api.AgentServiceRegistration{
			ID: svc.ID, Name: svc.Name, Address: svc.Address, Port: svc.Port, Meta: svc.Meta,
			Check: &api.AgentServiceCheck{CheckID: check, TTL: svc.TTL.String(), DeregisterCriticalServiceAfter: deregisterAfter.String()},
		}, api.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(ctx))
	})
}

func (c *Client) renew(ctx context.Context, check string, unhealthy error) error {
	status, text := api.HealthPassing, ""
	if unhealthy != nil {
		status, text = api.HealthCritical, unhealthy.Error()
	}
	return call(ctx, "renew "+check, func(ctx context.Context) error {
		return c.api.Agent().UpdateTTLOpts(check, text, status, (&api.QueryOptions{}).WithContext(ctx))
	})
}

// unknownCheck tells that the agent answered, and does not know the check: it has lost the registration.
func unknownCheck(err error) bool {
	var status api.StatusError
	return errors.As(err, &status) && (status.Code == http.StatusNotFound || status.Code == http.StatusInternalServerError)
}

// Target is a healthy instance of a service.
type Target struct {
	ID      string
	Address string // host:port
	Meta    map[string]string
}

// WatchTargets calls changed with the healthy instances of a service, sorted by address, first as they are and then at
// each change, until ctx ends. When Consul suddenly names none, the last good list stays in force: a list of nobody is
// more often Consul's trouble than the service's, and the callers' own health checks know better.
func (c *Client) WatchTargets(ctx context.Context, service string, changed func([]Target)) error {
	var last []Target
	kept := c.metrics.kept.WithLabelValues(service)
	return c.watch(ctx, "service "+service, func(ctx context.Context, index uint64) (uint64, error) {
		entries, meta, err := c.api.Health().Service(service, "", true, (&api.QueryOptions{WaitIndex: index, WaitTime: waitMost, AllowStale: true}).WithContext(ctx))
		if err != nil {
			return 0, err
		}
		targets := targetsOf(entries)
		if len(targets) == 0 {
			if len(last) > 0 {
				kept.Set(float64(len(last)))
				c.log.Warn("consul names no healthy instance; the last good ones stay in force", slog.String("service", service), slog.Int("kept", len(last)))
			}
			return meta.LastIndex, nil
		}
		kept.Set(0)
		if !slices.EqualFunc(targets, last, sameTarget) {
			last = targets
			changed(slices.Clone(targets))
		}
		return meta.LastIndex, nil
	})
}

func targetsOf(entries []*api.ServiceEntry) []Target {
	targets := make([]Target, 0, len(entries))
	for _, e := range entries {
		host := e.Service.Address
		if host == "" && e.Node != nil {
			host = e.Node.Address
		}
		targets = append(targets, Target{ID: e.Service.ID, Address: net.JoinHostPort(host, strconv.Itoa(e.Service.Port)), Meta: e.Service.Meta})
	}
	slices.SortFunc(targets, func(a, b Target) int { return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.ID, b.ID)) })
	return targets
}

func sameTarget(a, b Target) bool {
	if a.ID != b.ID || a.Address != b.Address || len(a.Meta) != len(b.Meta) {
		return false
	}
	for k, v := range a.Meta {
		if other, ok := b.Meta[k]; !ok || other != v {
			return false
		}
	}
	return true
}
