package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// writeTable prints a result for people, beside the same on-sale under virtual time and the protocol's goals, which are for rooms of 1,000
// places over an hour on a machine that is not busy with anything else.
func writeTable(w io.Writer, r *result) error {
	s := r.Simulated
	f := func(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }
	opt := func(v *float64, digits int) string {
		if v == nil {
			return "-"
		}
		return f(*v, digits)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s: %s (seed %d, load average %.1f before and %.1f after)\n", r.Scenario, r.Title, r.Seed, r.LoadAverage[0], r.LoadAverage[1])
	if len(r.Faults) > 0 {
		fmt.Fprintf(t, "faults: %s\n", strings.Join(r.Faults, ", "))
	}
	fmt.Fprintln(t, "measure\tlive\tsimulated\tgoal\t")
	for _, row := range [][4]string{
		{"overshoot", strconv.FormatInt(r.Overshoot, 10), strconv.Itoa(s.Overshoot), fmt.Sprintf("0 (store %d, passes honoured at once %d over; at most %d were)", r.OvershootStore, r.OvershootPasses, r.PassesAtOnce)},
		{"cap use", f(r.CapUse, 4), f(s.CapUse, 4), ">= 0.995, 0.99 with hoards"},
		{"idle place p50 / p95, s", f(r.IdleP50, 2) + " / " + f(r.IdleP95, 2), f(s.IdleP50, 2) + " / " + f(s.IdleP95, 2), "<= 0.2 / 4"},
		{"door wait p50 / p95 / p99, s", f(r.DoorP50, 2) + " / " + f(r.DoorP95, 1) + " / " + f(r.DoorP99, 1), f(s.DoorP50, 2) + " / " + f(s.DoorP95, 1) + " / " + f(s.DoorP99, 1), "p95 <= 20 at cap 100, 8 at cap 1,000"},
		{"fill to 98%, s", f(r.Fill98, 1), f(s.Fill98, 1), "<= 25"},
		{"admissions during outages", opt(r.OutageRatio, 3), opt(s.OutageRatio, 3), ">= 0.55 strict, 0.85 early, over 1.9 idle times"},
		{"80% interval held", opt(r.ETACoverage, 3), opt(s.ETACoverage, 3), fmt.Sprintf("0.70 to 0.90 (%d forecasts)", r.ETAForecasts)},
		{"forecast, median error", opt(r.ETAMedianError, 3), opt(s.ETAMedianError, 3), "<= 0.12"},
		{"inversions", strconv.Itoa(r.Inversions), strconv.Itoa(s.Inversions), "0; longest against true arrival " + f(r.InversionS, 3) + " s"},
		{"seal lag p99, s", f(r.SealLagP99, 2), f(s.SealLagP99, 2), fmt.Sprintf("<= 0.5 with all edges alive; %d late tickets", r.LateTickets)},
		{"longest time without a grant, s", f(r.LongestPauseS, 1), "", ""},
		{"stamped / called / let in", fmt.Sprintf("%d / %d / %d", r.Stamped, r.Called, r.Admitted), fmt.Sprintf("%d / %d / %d", s.Stamped, s.Called, s.Admitted), fmt.Sprintf("%d passes used once more after the goodbye, before that edge had heard", r.GhostsHonoured)},
		{"samples / without answer", fmt.Sprintf("%d / %d", r.Samples, r.SamplesLost), "", ""},
		{"violations", strconv.Itoa(r.Violations), strconv.Itoa(s.Violations), "0 " + strings.Join(r.ViolationKinds, "; ")},
	} {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\n", row[0], row[1], row[2], row[3])
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	return nil
}
