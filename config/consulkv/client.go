// Package consulkv connects the program to Consul: rooms' settings documents in its KV store ([Settings]), and service
// discovery ([Discovery]). Both keep the last good answer: Consul may be gone for hours and nothing that runs changes.
//
// Watches are blocking queries that follow Consul's documented duties: the index is sane and goes back to the start
// when it falls, one query waits at most five minutes, failures are retried with growing, jittered pauses, and a
// churning key is read at a bounded rate.
package consulkv

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"
)

// Options is how to reach a Consul agent. Address, Logger and Registerer are needed. What is empty here may still come
// from Consul's own variables (CONSUL_HTTP_TOKEN and so on), as with all its clients.
type Options struct {
	Address    string // host:port
	Datacenter string // empty: the agent's own
	TokenFile  string
	TLS        bool
	CAFile     string
	CertFile   string
	KeyFile    string
	ServerName string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Client is a connection to an agent. It may be used from many goroutines.
type Client struct {
	api     *api.Client
	log     *slog.Logger
	metrics metrics
}

// callTimeout bounds every call that is not meant to wait.
const callTimeout = 5 * time.Second

// New makes a client; it does not talk to the agent yet.
func New(o Options) (*Client, error) {
	c := api.Config{Address: o.Address, Datacenter: o.Datacenter, TokenFile: o.TokenFile, Scheme: "http"}
	if o.TLS {
		c.Scheme = "https"
		c.TLSConfig = api.TLSConfig{Address: o.ServerName, CAFile: o.CAFile, CertFile: o.CertFile, KeyFile: o.KeyFile}
	}
	client, err := api.NewClient(&c)
	if err != nil {
		return nil, fmt.Errorf("set up consul client for %s: %w", o.Address, err)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Client{api: client, log: o.Logger, metrics: m}, nil
}

type metrics struct {
	errors  *prometheus.CounterVec // by watch
	contact *prometheus.GaugeVec   // by watch
	kept    *prometheus.GaugeVec   // by service
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	m := metrics{
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "stanchion_consul_watch_errors_total",
			Help: "Failed queries of a watch; the last good answer stays in force."}, []string{"watch"}),
		contact: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "stanchion_consul_watch_contact_timestamp_seconds",
			Help: "When a watch last had an answer."}, []string{"watch"}),
		kept: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "stanchion_consul_targets_kept",
			Help: "Targets kept in force although Consul names no healthy one any more; 0 is well."}, []string{"service"}),
	}
	for _, c := range []prometheus.Collector{m.errors, m.contact, m.kept} {
		if err := r.Register(c); err != nil {
			return metrics{}, fmt.Errorf("register consul metrics: %w", err)
		}
	}
	return m, nil
}
