package controller

import "github.com/prometheus/client_golang/prometheus"

// metrics of all rooms that a process leads.
type metrics struct {
	leading    *prometheus.GaugeVec
	phase      *prometheus.GaugeVec
	limited    *prometheus.GaugeVec
	inside     *prometheus.GaugeVec
	capacity   *prometheus.GaugeVec
	idle       *prometheus.GaugeVec
	overshoot  *prometheus.GaugeVec
	rate       *prometheus.GaugeVec
	coreRate   *prometheus.GaugeVec
	called     *prometheus.GaugeVec
	total      *prometheus.GaugeVec
	parked     *prometheus.GaugeVec
	showUp     *prometheus.GaugeVec
	answer     *prometheus.GaugeVec
	freed      *prometheus.GaugeVec
	expected   *prometheus.GaugeVec
	etaError   *prometheus.GaugeVec
	late       *prometheus.GaugeVec
	edges      *prometheus.GaugeVec
	sealLag    *prometheus.HistogramVec
	tickTime   *prometheus.HistogramVec
	failovers  *prometheus.CounterVec
	storeError *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	var all []prometheus.Collector
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "stanchion", Subsystem: "room", Name: name, Help: help}, append([]string{"room"}, labels...))
		all = append(all, g)
		return g
	}
	hist := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "stanchion", Subsystem: "room", Name: name, Help: help, Buckets: buckets}, []string{"room"})
		all = append(all, h)
		return h
	}
	counter := func(name, help string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "stanchion", Subsystem: "room", Name: name, Help: help}, []string{"room"})
		all = append(all, c)
		return c
	}
	m := &metrics{
		leading:    gauge("leading", "1 in the process that leads the room."),
		phase:      gauge("phase", "1 for the phase the room is in.", "phase"),
		limited:    gauge("limited_by", "1 for what limits admission at the moment.", "limit"),
		inside:     gauge("inside_sessions", "Sessions inside."),
		capacity:   gauge("cap_sessions", "The room's cap."),
		idle:       gauge("idle_places", "Free places while fans wait, as far as the rate and stock allow them to be filled."),
		overshoot:  gauge("overshoot_sessions", "Sessions above the highest cap in force since the room was last within it. Must be 0."),
		rate:       gauge("rate_per_second", "Fans let in a second at most, in force."),
		coreRate:   gauge("core_rate_per_second", "What the core bears, found by trial; 0 without a limit."),
		called:     gauge("called_ranks", "Ranks called.", "lane"),
		total:      gauge("sealed_ranks", "Ranks given out.", "lane"),
		parked:     gauge("door_fans", "Called fans who wait at the doors of all edges."),
		showUp:     gauge("show_up_ratio", "Share of called fans who come."),
		answer:     gauge("answer_mean_seconds", "Mean time from a fan's call to their coming."),
		freed:      gauge("freed_places_per_second", "Places that become free, averaged over 20 s."),
		expected:   gauge("expected_fans", "Called fans who are still expected."),
		etaError:   gauge("eta_error_median", "Median of |ln(actual/forecast)| of waiting times.", "lane"),
		late:       gauge("late_tickets", "Tickets reported after their window was sealed, since the room was created."),
		edges:      gauge("edges", "Edges registered with the room."),
		sealLag:    hist("seal_age_seconds", "Age of a window when it is sealed.", []float64{.1, .2, .3, .4, .5, .75, 1, 2, 4, 8}),
		tickTime:   hist("tick_seconds", "Time of one controller tick.", []float64{.001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 3}),
		failovers:  counter("failovers_total", "Restores of the room's store this process has led."),
		storeError: counter("store_errors_total", "Store calls of the controller without an answer."),
	}
	if reg != nil {
		reg.MustRegister(all...)
	}
	return m
}
