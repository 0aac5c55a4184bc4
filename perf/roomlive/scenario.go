package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// scenario is an on-sale that two cores bear in less than four minutes. Where the simulator has one of the same name, this is a
// smaller one of the same shape: absence in blocks of about the same number of places, and times divided alike.
type scenario struct {
	name, title                      string
	fans, cap                        int
	seconds                          float64
	spike, spikeS                    float64 // share of the fans who come evenly in the first seconds; the others spread
	dwell                            float64
	idle, bound                      int
	outage                           string
	absence                          absence
	noScript, hidden, silent, ghosts float64
	leave                            float64 // mean time after which an absent fan closes the page
	faults                           string
}

// spread is over how many seconds the fans behind the spike come.
func (s scenario) spread() float64 { return s.seconds * 0.55 }

const storm = "edge-pause@40+5,edge-kill@60+5,controller-kill@80+4,store-kill@100+1,store-pause@120+20"

func scenarios() []scenario {
	base := scenario{
		fans: 3000, cap: 300, seconds: 200, spike: 0.3, spikeS: 10, dwell: 60, idle: 30, bound: 60, outage: "strict",
		absence: absence{Kind: "even", Share: 0.4}, noScript: 0.08, silent: 0.1, ghosts: 0.2, leave: 60,
	}
	with := func(name, title string, change func(*scenario)) scenario {
		s := base
		s.name, s.title = name, title
		change(&s)
		return s
	}
	outage := func(mode string) func(*scenario) { // the simulator's, with every time divided by four
		return func(s *scenario) {
			s.outage, s.faults, s.silent = mode, "store-pause@75+57", 0.3
			if mode == "early" {
				s.ghosts = 0 // a goodbye that other edges cannot hear of is what early leaves open
			}
		}
	}
	return []scenario{
		with("storm", "40% absent evenly; an edge paused and one killed, the controller killed, Redis killed and paused 20 s", func(s *scenario) {
			s.faults, s.cap, s.dwell, s.seconds = storm, 200, 20, 185 // more comings and goings while things break
		}),
		with("even", "40% absent, evenly", func(*scenario) {}),
		with("blocky", "the absent share jumps between 10% and 88% every 400 ranks", func(s *scenario) {
			s.absence = absence{Kind: "blocky", Low: 0.10, High: 0.88, Block: 400}
		}),
		with("hoard", "blocks of 500 tickets that nobody claims", func(s *scenario) {
			s.absence = absence{Kind: "hoard", Share: 0.4, High: 0.99, Block: 500, Gap: 500}
			s.fans = 4000
		}),
		with("edge-crash", "an edge is killed and comes back", func(s *scenario) { s.faults = "edge-kill@60+5" }),
		with("controller-crash", "the leading controller is killed", func(s *scenario) { s.faults = "controller-kill@60+5" }),
		with("store-restart", "Redis is killed and starts again on its files", func(s *scenario) { s.faults = "store-kill@60+2" }),
		with("store-gone-strict", "the store is gone for 57 s, edges refill places whose passes have run out", outage("strict")),
		with("store-gone-early", "the store is gone for 57 s, edges refill a place as soon as its fan is done", outage("early")),
	}
}

func scenarioNames() (names []string) {
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

// scenarioOf finds a scenario by name; the first is the default.
func scenarioOf(name string) (scenario, error) {
	all := scenarios()
	if name == "" {
		return all[0], nil
	}
	for _, s := range all {
		if s.name == name {
			return s, nil
		}
	}
	return scenario{}, fmt.Errorf("no scenario %q: want one of %s", name, strings.Join(scenarioNames(), ", "))
}

// check refuses a run that cannot work.
func (s scenario) check(edges int, faults []planned) error {
	between := func(what string, v, least, most float64) error {
		if v >= least && v <= most {
			return nil
		}
		return fmt.Errorf("%s is %v, want %v to %v", what, v, least, most)
	}
	for _, err := range []error{
		between("fans", float64(s.fans), 1, 12_000), // each has a connection: descriptors of one process
		between("cap", float64(s.cap), 1, 100_000), between("edges", float64(edges), 1, 16), between("seconds", s.seconds, 20, 7200),
		between("dwell", s.dwell, 1, 3600), between("hidden", s.hidden, 0, 1),
	} {
		if err != nil {
			return err
		}
	}
	if s.outage != "strict" && s.outage != "early" {
		return fmt.Errorf("outage is %q, want strict or early", s.outage)
	}
	for _, f := range faults {
		if f.at+f.for_ > time.Duration(s.seconds*float64(time.Second)) {
			return fmt.Errorf("fault %s ends after the run of %v s", f, s.seconds)
		}
		if f.kind == edgeKill && edges < 2 {
			return fmt.Errorf("fault %s: the only edge cannot be killed", f)
		}
	}
	return nil
}

// loadAverage is the machine's load of the last minute; 0 when it does not say.
func loadAverage() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	v, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return v
}
