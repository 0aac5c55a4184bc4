package edge

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the edge's RED metrics and the state of its limits.
type metrics struct {
	requests      *prometheus.CounterVec
	seconds       *prometheus.HistogramVec
	refused       *prometheus.CounterVec
	droppedConns  *prometheus.CounterVec
	brokenConns   *prometheus.CounterVec
	limited       *prometheus.CounterVec
	shed          *prometheus.CounterVec
	admitted      *prometheus.CounterVec
	originErrors  *prometheus.CounterVec
	originSeconds *prometheus.HistogramVec
	panics        prometheus.Counter

	decisions sync.Map // word to *decisionMetrics
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "stanchion", Subsystem: "edge", Name: name, Help: help}, labels)
	}
	return &metrics{
		requests: counter("requests_total", "Requests served, by decision and class of status.", "decision", "class"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "stanchion", Subsystem: "edge", Name: "request_seconds", Help: "Time from the request's head to the end of its response.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"decision"}),
		refused:      counter("refused_total", "Requests refused as HTTP, by reason.", "reason"),
		droppedConns: counter("connections_dropped_total", "Connections closed at once for being over a cap.", "cap"),
		brokenConns:  counter("connections_broken_total", "Connections that ended before their first request, by what failed.", "reason"),
		limited:      counter("limited_total", "Requests over a rate limit.", "limit"),
		shed:         counter("shed_total", "Requests turned away because their origin was full.", "upstream", "priority"),
		admitted:     counter("admitted_total", "Fans let in through this edge.", "room", "way"),
		originErrors: counter("origin_errors_total", "Requests an origin did not answer properly.", "upstream", "reason"),
		originSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "stanchion", Subsystem: "edge", Name: "origin_seconds", Help: "Time from sending a request to an origin to the head of its response.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"upstream"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "stanchion", Subsystem: "edge", Name: "panics_total", Help: "Requests whose handler panicked."}),
	}
}

func (m *metrics) register(s *Server, reg prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{
		m.requests, m.seconds, m.refused, m.droppedConns, m.brokenConns, m.limited, m.shed, m.admitted, m.originErrors, m.originSeconds, m.panics, stateCollector{s},
	} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *metrics) dropped(cap string) { m.droppedConns.WithLabelValues(cap).Inc() }

func (m *metrics) broken(reason string) { m.brokenConns.WithLabelValues(reason).Inc() }

var classes = [...]string{"0xx", "1xx", "2xx", "3xx", "4xx", "5xx"}

func (m *metrics) done(x *exchange, took time.Duration) {
	d, ok := m.decisions.Load(x.word)
	if !ok {
		d, _ = m.decisions.LoadOrStore(x.word, m.decision(x.word))
	}
	of := d.(*decisionMetrics) //nolint:forcetypeassert // the map holds nothing else
	of.classes[min(max(x.status/100, 0), 5)].Inc()
	of.seconds.Observe(took.Seconds())
}

// decisionMetrics are the metrics of one decision. Finding them by their labels for each request would cost more than
// counting.
type decisionMetrics struct {
	classes [len(classes)]prometheus.Counter
	seconds prometheus.Observer
}

func (m *metrics) decision(word string) *decisionMetrics {
	d := &decisionMetrics{seconds: m.seconds.WithLabelValues(word)}
	for i, class := range classes {
		d.classes[i] = m.requests.WithLabelValues(word, class)
	}
	return d
}

// stateCollector reads the state of the limits when it is asked for.
type stateCollector struct{ s *Server }

var (
	descConns    = prometheus.NewDesc("stanchion_edge_connections", "Open connections.", nil, nil)
	descConnsMax = prometheus.NewDesc("stanchion_edge_connections_limit", "Open connections allowed.", nil, nil)
	descUpgrades = prometheus.NewDesc("stanchion_edge_upgrades", "Open WebSockets.", nil, nil)
	descKnown    = prometheus.NewDesc("stanchion_edge_known_passes", "Verified passes remembered.", nil, nil)
	descKnownMax = prometheus.NewDesc("stanchion_edge_known_passes_limit", "Verified passes remembered at most.", nil, nil)
	descLimit    = prometheus.NewDesc("stanchion_edge_origin_concurrency_limit", "Requests in flight the origin is trusted with at the moment.", []string{"upstream"}, nil)
	descInflight = prometheus.NewDesc("stanchion_edge_origin_inflight", "Requests in flight to the origin.", []string{"upstream"}, nil)
	descWaiting  = prometheus.NewDesc("stanchion_edge_origin_waiting", "Requests that wait for a slot of the origin.", []string{"upstream"}, nil)
	descTypical  = prometheus.NewDesc("stanchion_edge_origin_typical_seconds", "Median time to an origin's response, of the last interval with traffic.", []string{"upstream"}, nil)
	descRetries  = prometheus.NewDesc("stanchion_edge_origin_retries_total", "Requests tried on another target.", []string{"upstream", "allowed"}, nil)
	descReplaced = prometheus.NewDesc("stanchion_edge_origin_replaced_connections_total", "Idle connections found dead before use.", []string{"upstream"}, nil)
	descPressure = prometheus.NewDesc("stanchion_edge_pressure_level", "Pressure on the process: 0 calm, 1 high, 2 critical.", nil, nil)
	descUsed     = prometheus.NewDesc("stanchion_edge_pressure_used_ratio", "Use of what the process may use.", []string{"resource"}, nil)
	descHealthy  = prometheus.NewDesc("stanchion_edge_origin_target_healthy", "1 when the target takes part.", []string{"upstream", "target"}, nil)
)

// Describe implements prometheus.Collector.
func (stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descConns, descConnsMax, descUpgrades, descKnown, descKnownMax, descLimit, descInflight, descWaiting, descTypical, descRetries, descReplaced, descHealthy, descPressure, descUsed} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c stateCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	s := c.s
	gauge(descConns, float64(s.listener.Open()))
	gauge(descConnsMax, float64(s.o.Limits.Connections))
	gauge(descUpgrades, float64(s.upgrades.count()))
	gauge(descKnown, float64(s.known.size()))
	gauge(descKnownMax, float64(s.o.KnownPasses))
	gauge(descPressure, float64(s.pressure()))
	if u := s.strain.usage.Load(); u != nil {
		gauge(descUsed, u.Descriptors, "descriptors")
		gauge(descUsed, u.Memory, "memory")
		gauge(descUsed, u.Goroutines, "goroutines")
	}
	for name, o := range s.live.Load().origins {
		st, ps := o.shed.State(), o.pool.Stats()
		gauge(descLimit, st.Limit, name)
		gauge(descInflight, float64(st.Inflight), name)
		gauge(descWaiting, float64(st.Waiting), name)
		gauge(descTypical, st.TypicalS, name)
		count(descRetries, ps.Retries, name, strconv.FormatBool(true))
		count(descRetries, ps.RetriesDenied, name, strconv.FormatBool(false))
		count(descReplaced, ps.Replaced, name)
		for _, t := range ps.Targets {
			healthy := 0.0
			if t.Healthy {
				healthy = 1
			}
			gauge(descHealthy, healthy, name, t.URL)
		}
	}
}
