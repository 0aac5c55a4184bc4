package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/stanchion-queue/stanchion/config"
	"github.com/stanchion-queue/stanchion/edge"
)

// priorities are the classes of config.Route, the first shed last.
var priorities = []string{"finish", "pay", "hold", "session", "browse", "background"}

// nobody is where requests go while no process of the core is known: a port that refuses at once, so that fans are told to come again.
const nobody = "http://127.0.0.1:1"

// edgeOptions translates the configuration of the edge role. coreURLs are the core's internal addresses, for upstreams that name the
// role.
func (l *launch) edgeOptions(cfg config.Config, rooms map[string]edge.Room, coreURLs []string) (edge.Options, error) {
	public := cfg.Listeners.Public
	o := edge.Options{
		Listener: l.listeners["public"], ProxyProtocol: public.ProxyProtocol, Prefix: cfg.Prefix, KnownPasses: cfg.Edge.PassesKept,
		Upstreams: map[string]edge.Upstream{}, Rooms: map[string]edge.RoomOptions{},
		Limits: edge.Limits{
			HeadBytes: public.HeaderBytes, BodyBytes: public.BodyBytes, Connections: public.Connections, ConnectionsPerNetwork: public.PerNetwork,
			Headers: cfg.Edge.Headers, TargetBytes: cfg.Edge.TargetBytes, NetworkPerSecond: cfg.Edge.NetworkPerSecond,
			NetworkBurst: float64(cfg.Edge.NetworkBurst), OutsidePerSecond: cfg.Edge.OutsidePerSecond, Keys: cfg.Edge.LimitKeys,
		},
		Timeouts: edge.Timeouts{
			Idle: seconds(public.IdleS), Head: seconds(public.ReadHeaderS), Body: seconds(cfg.Edge.BodySilenceS), Write: seconds(public.WriteS),
			Claim: seconds(cfg.Edge.ParkS) + time.Second, Drain: time.Duration(cfg.DrainS) * time.Second,
		},
		Logger: l.log, Registerer: l.registry,
	}
	if l.tracing.Enabled() {
		o.Tracer = l.tracing.Tracer("edge")
	}
	for _, cidr := range cfg.TrustedHop {
		p, err := netip.ParsePrefix(cidr)
		if err != nil {
			return o, fmt.Errorf("trusted_hops: %w", err)
		}
		o.TrustedHops = append(o.TrustedHops, p)
	}
	if public.TLS.CertFile != "" {
		t, err := serverTLS(public.TLS)
		if err != nil {
			return o, fmt.Errorf("listeners.public.tls: %w", err)
		}
		o.TLS = t
	}
	for name, u := range cfg.Upstreams {
		up := edge.Upstream{
			Targets: u.Targets, ResponseTimeout: seconds(u.ResponseS), ConnectTimeout: time.Duration(u.ConnectMS) * time.Millisecond,
			StallTimeout: seconds(u.StallS),
			IdleTimeout:  seconds(u.IdleS), MaxConcurrent: min(u.Connections, cfg.Edge.Inflight), HealthPath: u.HealthPath, HealthEvery: seconds(u.HealthS),
		}
		if u.Role != "" {
			up.Targets = coreURLs
			if len(coreURLs) == 0 {
				up.Targets = []string{nobody}
			}
			if internal := cfg.Listeners.Internal.TLS; internal.CertFile != "" {
				t, err := mutualTLS(internal)
				if err != nil {
					return o, fmt.Errorf("listeners.internal.tls: %w", err)
				}
				up.TLS = t
			}
		}
		if u.TLS.Enabled {
			t, err := clientTLS(u.TLS)
			if err != nil {
				return o, fmt.Errorf("upstreams.%s.tls: %w", name, err)
			}
			up.TLS = t
		}
		o.Upstreams[name] = up
	}
	for name, r := range cfg.Rooms {
		o.Rooms[name] = edge.RoomOptions{
			Room: rooms[name], Entry: r.Entry, Title: r.Title, Organiser: r.Branding.Name, ReturnWithin: time.Duration(r.GraceS) * time.Second,
			JoinPerSecond: r.JoinLimits.NetworkPerSecond, JoinBurst: float64(r.JoinLimits.NetworkBurst),
			SessionPerSecond: r.RequestBudget.PerSecond, SessionBurst: float64(r.RequestBudget.Burst),
		}
	}
	for _, r := range cfg.Routes {
		o.Routes = append(o.Routes, edge.Route{
			Host: r.Host, Paths: r.Paths, Methods: r.Methods, Headers: r.Headers, Upstream: r.Upstream, Room: r.Room,
			Priority: slices.Index(priorities, r.Priority), Cost: r.Cost, MaxBody: r.BodyBytes, WebSocket: r.WebSocket,
		})
	}
	switch cfg.Log.Access {
	case "json":
		o.AccessLog = edge.AccessLog{Logger: slog.New(slog.NewJSONHandler(l.stderr, nil))}
	case "combined":
		o.AccessLog = edge.AccessLog{Combined: true, Writer: l.stderr}
	}
	if share := cfg.Log.AccessSample; share > 0 {
		o.AccessLog.OneIn = max(1, int(1/share))
	}
	return o, nil
}

// serverTLS reads a listener's certificate anew for each handshake whose file has changed.
func serverTLS(c config.TLS) (*tls.Config, error) {
	certs := &certificate{certFile: c.CertFile, keyFile: c.KeyFile}
	if _, err := certs.get(); err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certs.get() }}
	if c.ClientCAFile != "" {
		pool, err := authorities(c.ClientCAFile)
		if err != nil {
			return nil, err
		}
		t.ClientCAs, t.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return t, nil
}

func clientTLS(c config.ClientTLS) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pool, err := authorities(c.CAFile)
		if err != nil {
			return nil, err
		}
		t.RootCAs = pool
	}
	if c.CertFile != "" {
		certs := &certificate{certFile: c.CertFile, keyFile: c.KeyFile}
		if _, err := certs.get(); err != nil {
			return nil, err
		}
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certs.get() }
	}
	return t, nil
}
