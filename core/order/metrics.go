package order

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	transitions *prometheus.CounterVec
	holds       *prometheus.CounterVec
	calls       *prometheus.CounterVec
	alarms      *prometheus.CounterVec
	driven      prometheus.Histogram
	overdue     prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "stanchion_order_transitions_total",
			Help: "Transitions of orders, by the state reached and the event that led there."}, []string{"to", "event"}),
		holds: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "stanchion_order_holds_total",
			Help: "Attempts to hold seats, by what came of them."}, []string{"outcome"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "stanchion_order_provider_calls_total",
			Help: "Calls to the payment provider, by kind and outcome."}, []string{"kind", "outcome"}),
		alarms: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "stanchion_order_alarms_total",
			Help: "Things a person should look at, by reason."}, []string{"reason"}),
		driven: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "stanchion_order_drive_seconds",
			Help: "Time one drive of an order took.", Buckets: prometheus.ExponentialBuckets(0.002, 2, 14)}),
		overdue: prometheus.NewGauge(prometheus.GaugeOpts{Name: "stanchion_order_overdue_seconds",
			Help: "How long the most overdue order has been waiting for the saga."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.transitions, m.holds, m.calls, m.alarms, m.driven, m.overdue} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
