package agent

import "github.com/prometheus/client_golang/prometheus"

// metrics of all rooms of one edge.
type metrics struct {
	flushSeconds  *prometheus.HistogramVec
	claimSeconds  *prometheus.HistogramVec
	doorSeconds   *prometheus.HistogramVec
	joins         *prometheus.CounterVec
	claims        *prometheus.CounterVec
	renewals      *prometheus.CounterVec
	incarnations  *prometheus.CounterVec
	outageGrants  *prometheus.CounterVec
	lateRows      *prometheus.CounterVec
	parked        *prometheus.GaugeVec
	homeSessions  *prometheus.GaugeVec
	clockOff      *prometheus.GaugeVec
	outageSeconds *prometheus.GaugeVec
	sealLag       *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	room := []string{"room"}
	hist := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "stanchion", Subsystem: "room", Name: name, Help: help, Buckets: buckets}, room)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "stanchion", Subsystem: "room", Name: name, Help: help}, append([]string{"room"}, labels...))
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "stanchion", Subsystem: "room", Name: name, Help: help}, room)
	}
	fast := []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 3}
	m := &metrics{
		flushSeconds:  hist("flush_seconds", "Time of one flush, from sending to its answer.", fast),
		claimSeconds:  hist("claim_batch_seconds", "Time of one batch of claims.", fast),
		doorSeconds:   hist("door_wait_seconds", "Time from a fan's first claim to being let in.", []float64{.05, .1, .25, .5, 1, 2, 4, 8, 16, 32, 64, 128}),
		joins:         counter("joins_total", "Places given in line, by whether the edge's clock was certain.", "clock"),
		claims:        counter("claims_total", "Claims answered, by result.", "result"),
		renewals:      counter("renewals_total", "Leases the store has prolonged for this edge."),
		incarnations:  counter("incarnations_total", "Identities this edge had to draw, by cause.", "cause"),
		outageGrants:  counter("outage_grants_total", "Fans let in into places of this edge while the store did not answer."),
		lateRows:      counter("late_rows_total", "Stamps whose window had been sealed without them."),
		parked:        gauge("parked_claims", "Called fans who wait at this edge for a place."),
		homeSessions:  gauge("home_sessions", "Sessions whose home this edge is."),
		clockOff:      gauge("clock_uncertainty_seconds", "How far the estimate of store time may be off."),
		outageSeconds: gauge("store_outage_seconds", "How long the store has not answered; 0 while it does."),
		sealLag:       hist("seal_lag_seconds", "Age of a window when this edge learns that it is sealed.", []float64{.1, .2, .3, .4, .5, .75, 1, 2, 4, 8}),
	}
	if reg != nil {
		reg.MustRegister(m.flushSeconds, m.claimSeconds, m.doorSeconds, m.joins, m.claims, m.renewals, m.incarnations, m.outageGrants, m.lateRows,
			m.parked, m.homeSessions, m.clockOff, m.outageSeconds, m.sealLag)
	}
	return m
}
