package inventory

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	batches                                *prometheus.CounterVec
	merged, waiting                        prometheus.Histogram
	applySeconds, settleSeconds            prometheus.Histogram
	stale, lost, fences, reads, remembered prometheus.Counter
	unsettled, importing                   prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "stanchion", Subsystem: "inventory", Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "stanchion", Subsystem: "inventory", Name: name, Help: help})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "stanchion", Subsystem: "inventory", Name: name, Help: help, Buckets: buckets})
	}
	m := &metrics{
		batches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "stanchion", Subsystem: "inventory", Name: "batches_total", Help: "Batches sent to the seat store, by verdict.",
		}, []string{"verdict"}),
		merged:        histogram("batch_changes", "Changes merged into one batch (at most 64).", prometheus.ExponentialBuckets(1, 2, 7)),
		waiting:       histogram("block_waiting", "Requests that waited when a block's owner took them up (at most 20000).", prometheus.ExponentialBuckets(1, 4, 8)),
		applySeconds:  histogram("apply_seconds", "Time the seat store took for one batch.", prometheus.ExponentialBuckets(0.0005, 2, 14)),
		settleSeconds: histogram("settle_seconds", "Time until an unknown outcome was known.", prometheus.ExponentialBuckets(0.001, 2, 14)),
		stale:         counter("stale_batches_total", "Batches refused because another process changed the block first."),
		lost:          counter("lost_changes_total", "Changes refused by the store although memory let them pass."),
		fences:        counter("fences_total", "Fences sent to settle unknown outcomes."),
		reads:         counter("block_reads_total", "Whole blocks read from the store."),
		remembered:    counter("remembered_answers_total", "Requests answered from memory, without the store."),
		unsettled:     gauge("unsettled_blocks", "Blocks that wait for an unknown outcome to be settled."),
		importing:     gauge("importing_performances", "Performances whose seats are being created."),
	}
	for _, c := range []prometheus.Collector{
		m.batches, m.merged, m.waiting, m.applySeconds, m.settleSeconds, m.stale, m.lost, m.fences, m.reads, m.remembered, m.unsettled, m.importing,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
