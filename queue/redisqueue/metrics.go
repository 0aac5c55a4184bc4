package redisqueue

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/queue"
)

type metrics struct {
	seconds      *prometheus.HistogramVec
	failures     *prometheus.CounterVec
	busy         prometheus.Counter
	unreplicated prometheus.Counter
	all          []prometheus.Collector
}

func (m *metrics) register(reg prometheus.Registerer, s *Store) error {
	const ns = "stanchion_roomstore_"
	m.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: ns + "step_seconds", Help: "Time of one step in Redis, with the wait for replicas.", Buckets: prometheus.ExponentialBuckets(0.0002, 2, 12),
	}, []string{"step"})
	m.failures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: ns + "step_failures_total", Help: "Steps without an answer: their outcome is unknown.",
	}, []string{"step"})
	m.busy = prometheus.NewCounter(prometheus.CounterOpts{Name: ns + "busy_total", Help: "Steps refused because too many were under way."})
	m.unreplicated = prometheus.NewCounter(prometheus.CounterOpts{Name: ns + "unreplicated_total", Help: "Steps that too few replicas confirmed in time."})
	flying := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: ns + "flying_steps", Help: "Steps under way; at 2048 more are refused.",
	}, func() float64 { return float64(len(s.flying)) })
	if reg == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.seconds, m.failures, m.busy, m.unreplicated, flying} {
		if err := reg.Register(c); err != nil {
			m.unregister(reg)
			return err
		}
		m.all = append(m.all, c)
	}
	return nil
}

func (m *metrics) unregister(reg prometheus.Registerer) {
	for _, c := range m.all {
		reg.Unregister(c)
	}
}

// verdict says whether an error is an answer of the store.
func verdict(err error) bool {
	var g *queue.GenError
	if errors.As(err, &g) || errors.Is(err, queue.ErrReplication) {
		return true
	}
	for _, v := range verdicts {
		if errors.Is(err, v) {
			return true
		}
	}
	return false
}

func (m *metrics) observe(sc *script, d time.Duration, err error) {
	m.seconds.WithLabelValues(sc.name).Observe(d.Seconds())
	if err != nil && !verdict(err) {
		m.failures.WithLabelValues(sc.name).Inc()
	}
}
