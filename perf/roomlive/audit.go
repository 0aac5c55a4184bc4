package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/stanchion-queue/stanchion/perf/load"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/simulate"
)

const (
	second       = int64(1e6)
	freshTickMs  = 1000        // the controller acts while its last call is no older
	stall        = 10 * second // how long nobody may be called while there is room and somebody waits
	afterOutage  = 10 * second // the controller catches up with what edges admitted by the schedule
	rateWindow   = 60 * second
	firstOpening = 0.98 // share of the places that counts as full
)

// result is what a run prints: the simulator's fields, and what a live run can say besides.
type result struct {
	Scenario string `json:"scenario"`
	Title    string `json:"title"`
	Seed     uint64 `json:"seed"`
	simulate.Measures
	Overshoot       int64    `json:"overshoot"`        // the greater of the next two
	OvershootStore  int64    `json:"overshoot_store"`  // most sessions over the cap in the store's own count
	OvershootPasses int64    `json:"overshoot_passes"` // most passes over the cap that edges honoured at one instant
	PassesAtOnce    int64    `json:"passes_at_once"`   // most passes honoured at one instant
	PlacesMerging   int64    `json:"places_merging"`   // early mode: most places over the cap while an outage is merged, ended sessions included
	ETACoverage     *float64 `json:"eta_coverage"`
	ETAMedianError  *float64 `json:"eta_median_error"`
	ETAForecasts    int      `json:"eta_forecasts"`
	Inversions      int      `json:"inversions"`
	InversionS      float64  `json:"inversion_s"`
	Violations      int      `json:"violations"`
	ViolationKinds  []string `json:"violation_kinds"`
	Stamped         int      `json:"stamped"`
	Admitted        int      `json:"admitted"` // sessions
	Called          uint64   `json:"called"`
	LateTickets     int64    `json:"late_tickets"`
	SealLagP99      float64  `json:"seal_lag_s_p99"`
	DoorP99         float64  `json:"door_wait_s_p99"`
	GhostsHonoured  int      `json:"ghosts_honoured"`           // passes let through once more after the goodbye, because that edge had not heard: counted as inside
	LongestPauseS   float64  `json:"longest_admission_pause_s"` // longest time without a grant while fans waited

	Samples     int                  `json:"samples"`
	SamplesLost int                  `json:"samples_without_answer"`
	Outcomes    map[load.Outcome]int `json:"outcomes"`
	Requests    int64                `json:"requests"`
	LoadAverage [2]float64           `json:"load_average"` // of one minute, before and at the end of the run
	Faults      []string             `json:"faults"`
	Simulated   *simulate.Result     `json:"simulated"` // the same under virtual time
	Setting     map[string]any       `json:"setting"`
}

// auditor walks through a history.
type auditor struct {
	h     *history
	r     *result
	kinds map[string]string
	t0    int64
}

// audit checks the protocol's promises against what was recorded and measures how well they were kept.
func audit(h *history, dwell, rate float64) *result {
	a := &auditor{h: h, r: &result{ViolationKinds: []string{}}, kinds: map[string]string{}}
	if len(h.Samples) > 0 {
		a.t0 = h.Samples[0].At
	}
	slices.SortStableFunc(h.Facts, func(x, y fact) int { return cmp.Compare(x.At, y.At) })
	a.store(rate)
	a.passes()
	a.fans()
	a.forecasts(dwell)
	a.told()
	a.r.Overshoot = max(a.r.OvershootStore, a.r.OvershootPasses)
	for _, k := range a.kinds {
		a.r.ViolationKinds = append(a.r.ViolationKinds, k)
	}
	slices.Sort(a.r.ViolationKinds)
	return a.r
}

func (a *auditor) violate(at int64, kind, format string, args ...any) {
	a.r.Violations++
	if _, ok := a.kinds[kind]; !ok {
		a.kinds[kind] = fmt.Sprintf("%s (%s), at %.3f s", kind, fmt.Sprintf(format, args...), float64(at-a.t0)/1e6)
	}
}

// opened is when the first fan came.
func (a *auditor) opened() int64 {
	first := int64(math.MaxInt64)
	for _, f := range a.h.Facts {
		if f.Sent > 0 {
			first = min(first, f.Sent)
		}
	}
	return first
}

// store reads the samples: the cap, the frontier, idle places, seals.
func (a *auditor) store(rate float64) {
	h, r := a.h, a.r
	var (
		prev           *sample
		filled, opened = int64(-1), a.opened()
		empty          []int64 // since when each empty place is empty; -1: not measured
		idle, lags     []float64
		use, steady    float64
		quietSince     int64    = -1 // nobody called although there is room
		grants         []sample      // for the rate
	)
	for i := range h.Samples {
		s := &h.Samples[i]
		r.Samples++
		if !s.OK {
			r.SamplesLost++
			quietSince = -1
			continue
		}
		over := s.Active - h.Cap
		if h.Early && a.storeFault(s.At) {
			// In early mode an edge refills a place when its fan says goodbye, before other edges can hear of it. When the outage is over,
			// both are merged, and the one that is over stays counted until all have heard.
			r.PlacesMerging = max(r.PlacesMerging, over)
			over -= s.Ended
		}
		if over > 0 {
			r.OvershootStore = max(r.OvershootStore, over)
			a.violate(s.At, "1 more sessions than places in the store", "%d of %d, %d of them over but not known to be over everywhere", s.Active, h.Cap, s.Ended)
		}
		if s.Counted >= 0 && s.Counted != s.Active {
			a.violate(s.At, "8 the store's count is not what its sets hold", "%d and %d", s.Active, s.Counted)
		}
		r.LateTickets = max(r.LateTickets, s.Late)
		if s.Line == "" {
			continue
		}
		r.Called = max(r.Called, s.Called)
		if s.Called > s.Total {
			a.violate(s.At, "3 more called than sealed", "%d of %d", s.Called, s.Total)
		}
		if filled < 0 && float64(s.Active) >= firstOpening*float64(h.Cap) {
			filled = s.At
			r.Fill98 = float64(filled-opened) / 1e6
		}
		isSteady := filled >= 0 && filled < s.At && s.StoreMs-s.TickMs < freshTickMs && s.Called < s.Total && s.LimitedBy == line.LimitCap
		if prev != nil && prev.Line == s.Line {
			if s.Called < prev.Called || s.Total < prev.Total || s.Sealed < prev.Sealed {
				a.violate(s.At, "3 a frontier went back", "called %d to %d, sealed %d to %d", prev.Called, s.Called, prev.Sealed, s.Sealed)
			}
			if s.Granted < prev.Granted || s.Freed < prev.Freed {
				a.violate(s.At, "3 grants were forgotten", "granted %d to %d, freed %d to %d", prev.Granted, s.Granted, prev.Freed, s.Freed)
			}
			apart := s.At-prev.At > second // an outage lies between: nobody saw what changed when
			if isSteady && !apart {
				use += float64(prev.Active) / float64(h.Cap) * float64(s.At-prev.At)
				steady += float64(s.At - prev.At)
			}
			if s.Sealed > prev.Sealed && h.EpochMs > 0 && !apart {
				lags = append(lags, float64(s.StoreMs-line.Window(s.Sealed).StartMs(h.EpochMs))/1000)
			}
			if apart {
				for i := range empty {
					empty[i] = -1
				}
			}
			if filled >= 0 && filled < s.At {
				// A place counts as free from the sample before, so its idle time is never made shorter than it was.
				since := prev.At
				if apart {
					since = -1
				}
				for range s.Freed - prev.Freed {
					empty = append(empty, since)
				}
				for range s.Granted - prev.Granted {
					if len(empty) == 0 {
						break
					}
					if since := empty[0]; since >= 0 && isSteady {
						idle = append(idle, float64(s.At-since)/1e6)
					}
					empty = empty[1:]
				}
				// Places change hands without being freed or granted when a session is reused or an outage is merged.
				for int64(len(empty)) > max(h.Cap-s.Active, 0) {
					empty = empty[1:]
				}
				for int64(len(empty)) < h.Cap-s.Active {
					empty = append(empty, -1)
				}
			}
			waits := s.Called < s.Total && s.Active < h.Cap && s.StoreMs-s.TickMs < freshTickMs && s.LimitedBy == line.LimitCap
			if !waits || apart || s.Called != prev.Called || s.Granted != prev.Granted {
				quietSince = -1
			} else if quietSince < 0 {
				quietSince = prev.At
			} else if s.At-quietSince > stall {
				a.violate(s.At, "6 room, somebody waiting, and nobody called", "%d of %d inside for %d s", s.Active, h.Cap, stall/second)
				quietSince = -1
			}
		}
		if rate > 0 {
			grants = append(grants, *s)
			for s.At-grants[0].At > rateWindow {
				grants = grants[1:]
			}
			if n := float64(s.Granted - grants[0].Granted); n > rate*61+1 {
				a.violate(s.At, "9 more grants in 60 s than the rate allows", "%.0f", n)
			}
		}
		prev = s
	}
	if steady > 0 {
		r.CapUse = use / steady
	}
	r.IdleP50, r.IdleP95 = quantile(idle, 0.5), quantile(idle, 0.95)
	r.SealLagP99 = quantile(lags, 0.99)
}

// span is a time during which edges honoured a session for certain.
type span struct{ from, to int64 }

// passes counts how many sessions edges honoured at one instant. A pass is honoured from its receipt to its end or its fan's goodbye, and
// wherever it was seen to be let through after that.
func (a *auditor) passes() {
	type held struct {
		span
		session string
	}
	passes := map[string]*held{} // by token
	gone := map[string]bool{}    // tokens whose fan has said goodbye
	for _, f := range a.h.Facts {
		switch f.Kind {
		case load.FactGrant:
			p, err := readPass(f.Text)
			if err != nil {
				a.violate(f.At, "a pass cannot be read", "%v", err)
				continue
			}
			if passes[f.Text] == nil {
				passes[f.Text] = &held{span{f.At, p.Exp * second}, p.Session}
			}
		case load.FactLeave:
			if p := passes[f.Text]; p != nil {
				gone[f.Text] = true
				for _, q := range passes {
					if q.session == p.session {
						q.to = min(q.to, f.Sent)
					}
				}
			}
		case load.FactUse:
			if p := passes[f.Text]; p != nil && gone[f.Text] {
				a.r.GhostsHonoured++
				p.to = max(p.to, f.Sent)
			}
		}
	}
	sessions := map[string][]span{}
	for _, p := range passes {
		if p.to > p.from {
			sessions[p.session] = append(sessions[p.session], p.span)
		}
	}
	type step struct {
		at    int64
		delta int64
	}
	var steps []step
	for _, spans := range sessions {
		slices.SortFunc(spans, func(x, y span) int { return cmp.Compare(x.from, y.from) })
		open := spans[0]
		for _, s := range spans[1:] {
			if s.from <= open.to {
				open.to = max(open.to, s.to)
				continue
			}
			steps = append(steps, step{open.from, 1}, step{open.to, -1})
			open = s
		}
		steps = append(steps, step{open.from, 1}, step{open.to, -1})
	}
	slices.SortFunc(steps, func(x, y step) int { return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.delta, y.delta)) })
	now := int64(0)
	for _, s := range steps {
		now += s.delta
		a.r.PassesAtOnce = max(a.r.PassesAtOnce, now)
		if over := now - a.h.Cap; over > 0 && s.delta > 0 {
			a.r.OvershootPasses = max(a.r.OvershootPasses, over)
			a.violate(s.at, "1 more passes honoured than places", "%d of %d", now, a.h.Cap)
		}
	}
}

// place is what one fan was told about one ticket.
type place struct {
	fan        int
	stamp      stamp
	sent, at   int64 // of the join
	rank       uint64
	known      bool
	session    string
	admittedAt int64
}

// fans checks order, single use and the door.
func (a *auditor) fans() {
	r := a.r
	places := map[int]*place{}
	owner := map[string]int{}        // session -> fan
	session := map[[28]byte]string{} // ticket -> session
	came := map[int]int64{}
	var doors []float64
	var grants []int64
	for _, f := range a.h.Facts {
		p := places[f.Fan]
		switch f.Kind {
		case load.FactPlace, load.FactRank:
			s, err := readTicket(f.Text)
			if err != nil {
				a.violate(f.At, "a ticket cannot be read", "%v", err)
				continue
			}
			if p == nil {
				p = &place{fan: f.Fan, stamp: s, sent: f.Sent, at: f.At}
				places[f.Fan] = p
				r.Stamped++
			}
			if p.stamp != s {
				if p.session == "" {
					a.violate(f.At, "4 a fan in line was given another ticket", "fan %d", f.Fan)
				}
				continue
			}
			if f.Kind == load.FactRank {
				if p.known && p.rank != f.Rank {
					a.violate(f.At, "5 a rank changed", "fan %d from %d to %d", f.Fan, p.rank, f.Rank)
				}
				p.rank, p.known = f.Rank, true
			}
		case load.FactDoor:
			if _, ok := came[f.Fan]; !ok {
				came[f.Fan] = f.At
			}
		case load.FactGrant:
			q, err := readPass(f.Text)
			if err != nil {
				continue // counted by passes
			}
			if fan, ok := owner[q.Session]; ok && fan != f.Fan {
				a.violate(f.At, "2 two fans have one session", "fans %d and %d", fan, f.Fan)
			} else if !ok {
				owner[q.Session] = f.Fan
				grants = append(grants, f.At)
			}
			if p == nil {
				continue
			}
			if p.session == "" {
				p.session, p.admittedAt = q.Session, f.At
				if from, ok := came[f.Fan]; ok {
					doors = append(doors, float64(f.At-from)/1e6)
				}
				if other, ok := session[p.stamp.id]; ok && other != q.Session {
					a.violate(f.At, "2 one ticket became two sessions", "fan %d", f.Fan)
				}
				session[p.stamp.id] = q.Session
			}
		case load.FactGone:
			if f.Text == "/problems/place-spent" && (p == nil || p.session == "") {
				a.violate(f.At, "2 a place was lost", "fan %d was never let in", f.Fan)
			}
		}
	}
	r.Admitted = len(owner)
	r.DoorP50, r.DoorP95, r.DoorP99 = quantile(doors, 0.5), quantile(doors, 0.95), quantile(doors, 0.99)
	a.order(places)
	a.frontier(places)
	a.pauses(grants)
}

// order checks that nobody ranks before a fan of an earlier window.
func (a *auditor) order(places map[int]*place) {
	var ranked []*place
	for _, p := range places {
		if p.known {
			ranked = append(ranked, p)
		}
	}
	slices.SortFunc(ranked, func(x, y *place) int {
		return cmp.Or(cmp.Compare(x.stamp.win, y.stamp.win), cmp.Compare(x.rank, y.rank))
	})
	var before, here uint64 // highest rank of earlier windows, and including this one
	for i, p := range ranked {
		if i > 0 && p.stamp.win != ranked[i-1].stamp.win {
			before = here
		}
		if p.rank < before {
			a.r.Inversions++
			a.violate(p.at, "4 a fan ranks before one of an earlier window", "fan %d, rank %d below %d", p.fan, p.rank, before)
		}
		here = max(here, p.rank)
	}
	// Against true arrival: who was surely stamped before whom.
	slices.SortFunc(ranked, func(x, y *place) int { return cmp.Or(cmp.Compare(y.rank, x.rank), cmp.Compare(x.at, y.at)) })
	earliest, group := int64(math.MaxInt64), int64(math.MaxInt64)
	for i, p := range ranked {
		if i > 0 && p.rank != ranked[i-1].rank {
			earliest = min(earliest, group)
		}
		if earliest < p.sent {
			a.r.InversionS = max(a.r.InversionS, float64(p.sent-earliest)/1e6)
		}
		group = min(group, p.at)
	}
}

// frontier checks that nobody was let in before being called. While the store is gone, edges follow the schedule that was signed before.
func (a *auditor) frontier(places map[int]*place) {
	for _, p := range places {
		if p.session == "" || !p.known || a.storeFault(p.admittedAt) {
			continue
		}
		i, _ := slices.BinarySearchFunc(a.h.Samples, p.admittedAt, func(s sample, at int64) int { return cmp.Compare(s.At, at) })
		for i < len(a.h.Samples) && (!a.h.Samples[i].OK || a.h.Samples[i].Line == "") {
			i++
		}
		if i < len(a.h.Samples) && p.rank >= a.h.Samples[i].Called {
			a.violate(p.admittedAt, "3 a fan was let in before being called", "rank %d, called %d", p.rank, a.h.Samples[i].Called)
		}
	}
}

func (a *auditor) storeFault(at int64) bool {
	for _, f := range a.h.Faults {
		if f.Store && at >= f.From && at < f.To+afterOutage {
			return true
		}
	}
	return false
}

// pauses measures how admissions went on through outages.
func (a *auditor) pauses(grants []int64) {
	slices.Sort(grants)
	during, before := 0, 0
	for _, f := range a.h.Faults {
		if !f.Store || f.To-f.From < 5*second {
			continue
		}
		for _, t := range grants {
			switch {
			case t >= f.From && t < f.To:
				during++
			case t >= f.From-(f.To-f.From) && t < f.From:
				before++
			}
		}
	}
	if before > 0 {
		ratio := float64(during) / float64(before)
		a.r.OutageRatio = &ratio
	}
	// Fans wait as long as the store knows of ranks that are not called.
	waiting := int64(0)
	for _, s := range a.h.Samples {
		if s.OK && s.Called < s.Total {
			waiting = s.At
		}
	}
	for i := 1; i < len(grants) && grants[i] <= waiting; i++ {
		a.r.LongestPauseS = max(a.r.LongestPauseS, float64(grants[i]-grants[i-1])/1e6)
	}
}

// told checks that no edge ever tells fans of fewer called than before: a fan who was called stays so.
func (a *auditor) told() {
	last := map[int]told{}
	for _, t := range a.h.Told {
		if l, ok := last[t.Edge]; ok && l.Line == t.Line && t.Called < l.Called {
			a.violate(t.At, "5 an edge takes back that fans were called", "edge %d from %d to %d", t.Edge, l.Called, t.Called)
		}
		last[t.Edge] = t
	}
}

// forecasts compares what was forecast, after the first dwell time, with when the rank was called.
func (a *auditor) forecasts(dwell float64) {
	from := int64(math.MaxInt64)
	for _, s := range a.h.Samples {
		if s.OK && float64(s.Active) >= firstOpening*float64(a.h.Cap) {
			from = s.At + int64(dwell*1e6)
			break
		}
	}
	var errs []float64
	held := 0
	for _, g := range a.h.Guesses {
		if g.At < from {
			continue
		}
		i, _ := slices.BinarySearchFunc(a.h.Samples, g.At, func(s sample, at int64) int { return cmp.Compare(s.At, at) })
		for i < len(a.h.Samples) && (!a.h.Samples[i].OK || a.h.Samples[i].Called <= g.Rank) {
			i++
		}
		if i == len(a.h.Samples) {
			continue // not called within the run
		}
		took := max(float64(a.h.Samples[i].At-g.At)/1e6, 0.25)
		errs = append(errs, math.Abs(g.Point-took)/took)
		if g.Low <= took && took <= g.High {
			held++
		}
	}
	if a.r.ETAForecasts = len(errs); len(errs) > 0 {
		coverage, median := float64(held)/float64(len(errs)), quantile(errs, 0.5)
		a.r.ETACoverage, a.r.ETAMedianError = &coverage, &median
	}
}

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[int(q*float64(len(v)-1)+0.5)]
}
