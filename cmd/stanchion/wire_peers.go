package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stanchion-queue/stanchion/config"
	"github.com/stanchion-queue/stanchion/config/consulkv"
)

// peers are the internal listeners of one role, as they are now.
type peers struct {
	static []string     // base URLs; nil with discovery by Consul
	scheme string       // of discovered ones
	found  atomic.Value // []string, host:port
	next   atomic.Uint64

	mu      sync.Mutex
	changed []func(urls []string)
}

// peersOf finds a role's internal listeners: those the configuration names, or Consul's healthy ones. With Consul it does not wait for
// any to be there; calls fail until one is.
func (p *plant) peersOf(role config.Role) (*peers, error) {
	if ps := p.known[role]; ps != nil {
		return ps, nil
	}
	d := p.cfg.Stores.Discovery
	ps := &peers{static: d.Peers[string(role)], scheme: "http"}
	if d.Engine == "consul" {
		c, err := p.consul(d.Consul)
		if err != nil {
			return nil, fmt.Errorf("stores.discovery: %w", err)
		}
		ps.static = nil
		if p.cfg.Listeners.Internal.TLS.CertFile != "" {
			ps.scheme = "https"
		}
		ps.found.Store([]string(nil))
		p.goes("discovery of "+string(role), func(ctx context.Context) error {
			return c.WatchTargets(ctx, d.Service+"-"+string(role), ps.set)
		})
	} else if len(ps.static) == 0 {
		return nil, fmt.Errorf("the %s role is needed and runs elsewhere: name it under stores.discovery.peers.%s", role, role)
	}
	p.known[role] = ps
	return ps, nil
}

func (ps *peers) set(targets []consulkv.Target) {
	hosts := make([]string, len(targets))
	for i, t := range targets {
		hosts[i] = t.Address
	}
	ps.found.Store(hosts)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, f := range ps.changed {
		f(ps.urlsOf(hosts))
	}
}

func (ps *peers) urlsOf(hosts []string) []string {
	urls := make([]string, len(hosts))
	for i, h := range hosts {
		urls[i] = ps.scheme + "://" + h
	}
	return urls
}

// urls are the base URLs now, and f is told of each change from then on.
func (ps *peers) urls(f func(urls []string)) []string {
	if ps.static != nil {
		return ps.static
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.changed = append(ps.changed, f)
	return ps.urlsOf(ps.found.Load().([]string))
}

var errNoPeer = errors.New("no healthy process of this role is known")

// client is an HTTP client for the role and the base URLs to call it by. Discovered processes stand behind one name, and each new
// connection goes to the next healthy one. timeout bounds one call; 0 leaves it to the call's context.
func (p *plant) client(role config.Role, timeout time.Duration) (bases []string, c *http.Client, err error) {
	ps, err := p.peersOf(role)
	if err != nil {
		return nil, nil, err
	}
	t := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second}
	if internal := p.cfg.Listeners.Internal.TLS; internal.CertFile != "" {
		if t.TLSClientConfig, err = mutualTLS(internal); err != nil {
			return nil, nil, fmt.Errorf("listeners.internal.tls: %w", err)
		}
	}
	c = &http.Client{Timeout: timeout, Transport: t}
	if ps.static != nil {
		return ps.static, c, nil
	}
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		hosts := ps.found.Load().([]string)
		if len(hosts) == 0 {
			return nil, fmt.Errorf("%s: %w", role, errNoPeer)
		}
		return dialer.DialContext(ctx, network, hosts[ps.next.Add(1)%uint64(len(hosts))])
	}
	return []string{ps.scheme + "://" + string(role) + ".stanchion.internal"}, c, nil
}

// mutualTLS is the process's own certificate as a client, and the authorities of its peers.
func mutualTLS(c config.TLS) (*tls.Config, error) {
	certs := &certificate{certFile: c.CertFile, keyFile: c.KeyFile}
	if _, err := certs.get(); err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS13, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certs.get() }}
	if c.ClientCAFile != "" {
		pool, err := authorities(c.ClientCAFile)
		if err != nil {
			return nil, err
		}
		t.RootCAs = pool
	}
	return t, nil
}

// serviceTTL is how long a process may be silent before others stop calling it.
const serviceTTL = 5 * time.Second

// announce tells Consul where this process's roles are, for as long as it lives.
func (p *plant) announce() error {
	d, ln := p.cfg.Stores.Discovery, p.listeners["internal"]
	if d.Engine != "consul" || ln == nil {
		return nil
	}
	c, err := p.consul(d.Consul)
	if err != nil {
		return fmt.Errorf("stores.discovery: %w", err)
	}
	addr, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("announce roles: internal listener has no TCP address: %v", ln.Addr())
	}
	host := addr.IP
	if host.IsUnspecified() {
		if host, err = firstAddress(); err != nil {
			return err
		}
	}
	for _, role := range p.roles {
		if !slices.Contains([]config.Role{config.CoreRole, config.QueueRole, config.InventoryRole}, role) {
			continue
		}
		svc := consulkv.Service{Name: d.Service + "-" + string(role), ID: fmt.Sprintf("%s-%s-%s-%d", d.Service, role, p.node, addr.Port),
			Address: host.String(), Port: addr.Port, TTL: serviceTTL}
		p.goes("announcement of "+string(role), func(ctx context.Context) error {
			err := c.Register(ctx, svc, func() error { return nil })
			if ctx.Err() != nil {
				return nil // Consul drops what could not be withdrawn
			}
			return err
		})
	}
	return nil
}

// firstAddress is this machine's first address that others may reach.
func firstAddress() (net.IP, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("find this machine's address: %w", err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP, nil
		}
	}
	return nil, errors.New("find this machine's address: none but loopback; set listeners.internal.address")
}
