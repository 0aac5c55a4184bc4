package main

import (
	"testing"
)

func TestEveryScenarioCanBeSimulatedAndRun(t *testing.T) {
	for _, s := range scenarios() {
		plan, err := parseFaults(s.faults)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.check(3, plan); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if s.seconds > 200 {
			t.Errorf("%s lasts %v s", s.name, s.seconds)
		}
		r, err := s.simulated(t.Context(), 3, plan, 10_000, 1)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		t.Logf("%-20s use %.4f idle %.2f/%.2f door %.2f/%.2f fill %.1f outage %v eta %v %v (%d) admitted %d viol %d %v", s.name, r.CapUse, r.IdleP50, r.IdleP95, r.DoorP50, r.DoorP95, r.Fill98,
			deref(r.OutageRatio), deref(r.ETACoverage), deref(r.ETAMedianError), r.ETAForecasts, r.Admitted, r.Violations, r.ViolationKinds)
		if r.Overshoot > 0 || r.Inversions > 0 || r.Admitted == 0 {
			t.Errorf("%s: overshoot %d, inversions %d, admitted %d", s.name, r.Overshoot, r.Inversions, r.Admitted)
		}
	}
}

func deref(v *float64) float64 {
	if v == nil {
		return -1
	}
	return *v
}
