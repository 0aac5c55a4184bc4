package localqueue

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	commit    prometheus.Histogram
	encode    prometheus.Histogram
	snapshots prometheus.Counter
	failures  prometheus.Counter
	all       []prometheus.Collector
}

func (m *metrics) register(reg prometheus.Registerer, s *Store) error {
	const ns = "stanchion_roomstore_"
	m.commit = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: ns + "commit_seconds", Help: "Time to make one group of steps durable.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 12),
	})
	m.encode = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: ns + "snapshot_pause_seconds", Help: "Time for which a snapshot stops decisions.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8),
	})
	m.snapshots = prometheus.NewCounter(prometheus.CounterOpts{Name: ns + "snapshots_total", Help: "Snapshots written."})
	m.failures = prometheus.NewCounter(prometheus.CounterOpts{Name: ns + "write_failures_total", Help: "Writes that failed and were repeated."})
	backlog := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: ns + "backlog_steps", Help: "Steps decided and not yet durable; at 8192 the store refuses more.",
	}, func() float64 { return float64(s.backlog()) })
	rows := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: ns + "journal_rows", Help: "Journal rows since the last snapshot.",
	}, func() float64 { return float64(s.journalRows()) })
	if reg == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.commit, m.encode, m.snapshots, m.failures, backlog, rows} {
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

func (s *Store) backlog() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, b := range []*batch{s.filling, s.flying} {
		if b != nil {
			n += len(b.rows)
		}
	}
	return n
}

func (s *Store) journalRows() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal
}
