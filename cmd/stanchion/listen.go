package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"

	"github.com/stanchion-queue/stanchion/config"
)

// port is one listener that a process opens.
type port struct {
	name string // key under listeners
	config.Listener
	use string // what the operator finds there
}

// ports are the listeners that roles need: those of the roles, operations always, and internal when roles run apart.
func ports(cfg config.Config, roles []config.Role) []port {
	has := func(r config.Role) bool { return slices.Contains(roles, r) }
	apart := !has(config.EdgeRole) && (has(config.QueueRole) || has(config.CoreRole) || has(config.InventoryRole))
	var open []port
	if has(config.EdgeRole) {
		open = append(open, port{"public", cfg.Listeners.Public, "fans"})
	}
	if has(config.AdminRole) {
		open = append(open, port{"console", cfg.Listeners.Console, "operators"})
	}
	open = append(open, port{"operations", cfg.Listeners.Operations, "metrics and health"})
	if has(config.PSPSimulator) {
		open = append(open, port{"provider", cfg.Listeners.Provider, "payment provider simulator"})
	}
	if apart {
		open = append(open, port{"internal", cfg.Listeners.Internal, "other roles"})
	}
	return open
}

// listenAll opens every port, or none: all that cannot be opened are named at once.
func listenAll(ctx context.Context, open []port) (map[string]net.Listener, error) {
	listeners := map[string]net.Listener{}
	var errs []error
	for _, p := range open {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", p.Address)
		if err != nil {
			errs = append(errs, portError(p, err))
			continue
		}
		listeners[p.name] = l
	}
	if len(errs) > 0 {
		closeAll(listeners)
		return nil, errors.Join(errs...)
	}
	return listeners, nil
}

func closeAll(listeners map[string]net.Listener) {
	for _, l := range listeners {
		_ = l.Close() // nothing was served yet
	}
}

// portError says which key, which address, and what to do.
func portError(p port, err error) error {
	key := "listeners." + p.name + ".address"
	do := "check the address"
	what := "cannot be opened"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		what = "is taken by another program"
		do = fmt.Sprintf("stop that one, or choose another with --%s=HOST:PORT", key)
	case errors.Is(err, syscall.EACCES):
		what = "may not be opened by this user"
		do = "choose a port above 1023, or give the program cap_net_bind_service"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		what = "is no address of this machine"
	}
	return fmt.Errorf("%s: %s %s; %s: %w", key, p.Address, what, do, err)
}

// url is where p answers, once open at a.
func (p port) url(a net.Addr) string {
	scheme := "http"
	if p.TLS.CertFile != "" {
		scheme = "https"
	}
	host, number, err := net.SplitHostPort(a.String())
	if err != nil {
		return scheme + "://" + a.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, number)
}
