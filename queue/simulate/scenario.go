package simulate

import (
	"embed"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

//go:embed scenarios/*.yaml
var scenarios embed.FS

// MaxScenarioBytes bounds a scenario file. A recorded trace of an hour by the second is about 20 KB.
const MaxScenarioBytes = 1 << 20

// Scenario is one on-sale: a room, the fans who come to it, and what breaks. Times are seconds from the start of the run.
type Scenario struct {
	Name      string    `yaml:"name"`
	Title     string    `yaml:"title"`
	DurationS float64   `yaml:"duration_s"`
	Fans      int       `yaml:"fans"`
	Edges     int       `yaml:"edges"`
	Seed      uint64    `yaml:"seed"` // used when none is asked for
	Room      Room      `yaml:"room"`
	Arrivals  Arrivals  `yaml:"arrivals"`
	Absence   Absence   `yaml:"absence"`
	Crowd     Crowd     `yaml:"crowd"`
	Stock     *Stock    `yaml:"stock"`
	Faults    []Fault   `yaml:"faults"`
	Protocol  *Measures `yaml:"protocol"` // what the protocol's own table says of this case, for comparison
}

// Room is the protected room, as in its settings.
type Room struct {
	Cap           int     `yaml:"cap"`
	RatePerSecond float64 `yaml:"rate_per_second"` // 0: unlimited
	FirstLeaseS   float64 `yaml:"first_lease_s"`
	IdleS         float64 `yaml:"idle_s"`
	StayMaxS      float64 `yaml:"stay_max_s"`
	GraceS        float64 `yaml:"grace_s"`
	LateShare     float64 `yaml:"late_share"`
	LateMin       int     `yaml:"late_min_per_minute"`
	OutageMode    string  `yaml:"outage_mode"` // strict or early
	OutageBoundS  float64 `yaml:"outage_bound_s"`
	DoorDial      float64 `yaml:"door_dial"`
	ParkedPerEdge int     `yaml:"parked_per_edge"`
	Lanes         []Lane  `yaml:"lanes"`
	LobbyS        float64 `yaml:"lobby_s"`    // the opening is this long after the start; those before it are drawn
	DrawAfterS    float64 `yaml:"draw_s"`     // the draw is public this long after the opening
	OnePerHolder  bool    `yaml:"one_holder"` // tickets name a scarce holder: one claim each
}

// Lane is one order within the line.
type Lane struct {
	Name   string  `yaml:"name"`
	Weight uint32  `yaml:"weight"`
	Share  float64 `yaml:"share"` // of the fans
}

// Arrivals say when fans come: a spike, then Poisson, or a recorded trace.
type Arrivals struct {
	SpikeShare float64   `yaml:"spike_share"` // this share comes evenly in the first spike_s
	SpikeS     float64   `yaml:"spike_s"`
	SpreadS    float64   `yaml:"spread_s"` // the others come as a Poisson stream over this time
	Trace      []float64 `yaml:"trace"`    // arrivals per trace_step_s, scaled to the number of fans; instead of the above
	TraceStepS float64   `yaml:"trace_step_s"`
}

// Absence says who has gone without a word by the time of being called.
type Absence struct {
	Kind       string  `yaml:"kind"`  // even, blocky or hoard
	Share      float64 `yaml:"share"` // even: of all; hoard: of the fans between the blocks
	Low        float64 `yaml:"low"`   // blocky: share in every other block
	High       float64 `yaml:"high"`  // blocky, hoard: share in the blocks
	Block      int     `yaml:"block"` // ranks in a block
	Gap        int     `yaml:"gap"`   // hoard: ranks between blocks
	LeaveMeanS float64 `yaml:"leave_mean_s"`
}

// Crowd is how fans behave.
type Crowd struct {
	HiddenShare   float64 `yaml:"hidden_share"` // tabs in the background: they hear once a minute
	NoScriptShare float64 `yaml:"noscript_share"`
	SilentShare   float64 `yaml:"silent_share"` // leave the room without a word, until their lease ends
	IdlerShare    float64 `yaml:"idler_share"`  // take a place and never use it
	DwellMeanS    float64 `yaml:"dwell_mean_s"` // lognormal
	DwellSigma    float64 `yaml:"dwell_sigma"`
	Holders       int     `yaml:"holders"`        // this many holders of
	HolderTickets int     `yaml:"holder_tickets"` // so many tickets each, all of whom come
	BuyShare      float64 `yaml:"buy_share"`
	SeatsEach     int     `yaml:"seats_each"`
}

// Stock is what there is to sell.
type Stock struct {
	Seats int `yaml:"seats"`
}

// Fault is something that breaks.
type Fault struct {
	Kind string  `yaml:"kind"` // edge-crash, edge-pause, store-gone, failover, controller-pause
	AtS  float64 `yaml:"at_s"`
	ForS float64 `yaml:"for_s"`
	Edge int     `yaml:"edge"`
}

// The kinds of faults.
const (
	FaultEdgeCrash       = "edge-crash"
	FaultEdgePause       = "edge-pause"
	FaultStoreGone       = "store-gone"
	FaultFailover        = "failover"
	FaultControllerPause = "controller-pause"
)

// defaults are a scenario's values before its file is read.
func defaults() Scenario {
	return Scenario{
		DurationS: 3600, Fans: 60_000, Edges: 8, Seed: 1,
		Room: Room{
			Cap: 1000, FirstLeaseS: 30, IdleS: 120, StayMaxS: 900, GraceS: 120, LateShare: 0.1, LateMin: 20,
			OutageMode: "strict", OutageBoundS: 240, DoorDial: 0.5, ParkedPerEdge: 2000, DrawAfterS: 60,
		},
		Arrivals: Arrivals{SpikeShare: 0.3, SpikeS: 10},
		Absence:  Absence{Kind: "even", Share: 0.4, LeaveMeanS: 120},
		Crowd: Crowd{HiddenShare: 0.15, NoScriptShare: 0.08, SilentShare: 0.3, DwellMeanS: 240, DwellSigma: 0.8,
			BuyShare: 0.5, SeatsEach: 2},
	}
}

// Names lists the scenarios that come with the program.
func Names() []string {
	entries, err := fs.ReadDir(scenarios, "scenarios")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

var plainName = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// Load reads a scenario: one that comes with the program by its name, else the file at the path.
func Load(nameOrPath string) (Scenario, error) {
	if plainName.MatchString(nameOrPath) {
		if doc, err := scenarios.ReadFile(path.Join("scenarios", nameOrPath+".yaml")); err == nil {
			return Parse(nameOrPath, doc)
		}
	}
	f, err := os.Open(nameOrPath)
	if err != nil {
		return Scenario{}, fmt.Errorf("scenario %q is none of %s and cannot be read as a file: %w", nameOrPath, strings.Join(Names(), ", "), err)
	}
	defer f.Close()
	doc, err := io.ReadAll(io.LimitReader(f, MaxScenarioBytes+1))
	if err != nil {
		return Scenario{}, fmt.Errorf("read scenario: %w", err)
	}
	return Parse(strings.TrimSuffix(path.Base(nameOrPath), ".yaml"), doc)
}

// Parse reads a scenario from YAML or JSON and validates it. Unknown keys are refused.
func Parse(name string, doc []byte) (Scenario, error) {
	if len(doc) > MaxScenarioBytes {
		return Scenario{}, fmt.Errorf("scenario %s: more than %d bytes", name, MaxScenarioBytes)
	}
	s := defaults()
	if err := yaml.UnmarshalWithOptions(doc, &s, yaml.Strict()); err != nil {
		return Scenario{}, fmt.Errorf("scenario %s: %s", name, yaml.FormatError(err, false, false))
	}
	if s.Name == "" {
		s.Name = name
	}
	if err := s.Validate(); err != nil {
		return Scenario{}, err
	}
	return s, nil
}

// Validate names every number that is impossible, with its allowed range.
func (s *Scenario) Validate() error {
	var problems []string
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	between := func(key string, v, least, most float64) {
		if !(v >= least && v <= most) {
			bad("%s is %v, want %v to %v", key, v, least, most)
		}
	}
	between("duration_s", s.DurationS, 10, 86_400)
	between("fans", float64(s.Fans), 1, 5_000_000)
	between("edges", float64(s.Edges), 1, 64)
	r := &s.Room
	between("room.cap", float64(r.Cap), 1, 1_000_000)
	between("room.rate_per_second", r.RatePerSecond, 0, 100_000)
	between("room.first_lease_s", r.FirstLeaseS, 5, 600)
	between("room.idle_s", r.IdleS, 10, 86_400)
	between("room.stay_max_s", r.StayMaxS, 30, 86_400)
	between("room.grace_s", r.GraceS, 10, 86_400)
	between("room.late_share", r.LateShare, 0, 1)
	between("room.late_min_per_minute", float64(r.LateMin), 0, 1_000_000)
	between("room.outage_bound_s", r.OutageBoundS, 0, 3600)
	between("room.door_dial", r.DoorDial, 0, 5)
	between("room.parked_per_edge", float64(r.ParkedPerEdge), 1, 1_000_000)
	between("room.lobby_s", r.LobbyS, 0, s.DurationS)
	between("room.draw_s", r.DrawAfterS, 1, 3600)
	if r.OutageMode != "strict" && r.OutageMode != "early" {
		bad("room.outage_mode is %q, want strict or early", r.OutageMode)
	}
	if len(r.Lanes) == 0 {
		r.Lanes = []Lane{{Name: "general", Weight: 1, Share: 1}}
	}
	if len(r.Lanes) > 16 {
		bad("room.lanes has %d lanes, want at most 16", len(r.Lanes))
	}
	shares := 0.0
	for i, l := range r.Lanes {
		between(fmt.Sprintf("room.lanes[%d].weight", i), float64(l.Weight), 1, 1000)
		between(fmt.Sprintf("room.lanes[%d].share", i), l.Share, 0, 1)
		shares += l.Share
	}
	if math.Abs(shares-1) > 1e-6 {
		bad("room.lanes: the shares add up to %v, want 1", shares)
	}
	a := &s.Arrivals
	if a.SpreadS == 0 {
		a.SpreadS = s.DurationS
	}
	between("arrivals.spike_share", a.SpikeShare, 0, 1)
	between("arrivals.spike_s", a.SpikeS, 0.001, s.DurationS)
	between("arrivals.spread_s", a.SpreadS, 0.001, s.DurationS)
	if len(a.Trace) > 0 {
		between("arrivals.trace_step_s", a.TraceStepS, 0.1, 3600)
		sum := 0.0
		for i, n := range a.Trace {
			between(fmt.Sprintf("arrivals.trace[%d]", i), n, 0, 1e9)
			sum += n
		}
		if !(sum > 0) {
			bad("arrivals.trace: nobody comes")
		}
		if float64(len(a.Trace))*a.TraceStepS > s.DurationS {
			bad("arrivals.trace is longer than duration_s")
		}
	}
	b := s.Absence
	switch b.Kind {
	case "even":
		between("absence.share", b.Share, 0, 1)
	case "blocky":
		between("absence.low", b.Low, 0, 1)
		between("absence.high", b.High, 0, 1)
		between("absence.block", float64(b.Block), 1, 1e6)
	case "hoard":
		between("absence.share", b.Share, 0, 1)
		between("absence.high", b.High, 0, 1)
		between("absence.block", float64(b.Block), 1, 1e6)
		between("absence.gap", float64(b.Gap), 1, 1e6)
	default:
		bad("absence.kind is %q, want even, blocky or hoard", b.Kind)
	}
	between("absence.leave_mean_s", b.LeaveMeanS, 0, 86_400)
	c := s.Crowd
	for key, v := range map[string]float64{"hidden_share": c.HiddenShare, "noscript_share": c.NoScriptShare, "silent_share": c.SilentShare,
		"idler_share": c.IdlerShare, "buy_share": c.BuyShare} {
		between("crowd."+key, v, 0, 1)
	}
	if c.HiddenShare+c.NoScriptShare > 1 {
		bad("crowd: hidden_share and noscript_share add up to more than 1")
	}
	between("crowd.dwell_mean_s", c.DwellMeanS, 1, 86_400)
	between("crowd.dwell_sigma", c.DwellSigma, 0, 3)
	between("crowd.holders", float64(c.Holders), 0, 1e6)
	between("crowd.holder_tickets", float64(c.HolderTickets), 0, 1e6)
	if c.Holders*c.HolderTickets > s.Fans {
		bad("crowd: %d holders of %d tickets are more than %d fans", c.Holders, c.HolderTickets, s.Fans)
	}
	between("crowd.seats_each", float64(c.SeatsEach), 1, 100)
	if s.Stock != nil {
		between("stock.seats", float64(s.Stock.Seats), 0, 1e7)
	}
	gone := []Fault{}
	for i, f := range s.Faults {
		key := fmt.Sprintf("faults[%d]", i)
		between(key+".at_s", f.AtS, 0, s.DurationS)
		switch f.Kind {
		case FaultEdgeCrash, FaultEdgePause:
			between(key+".edge", float64(f.Edge), 0, float64(s.Edges-1))
			if f.Kind == FaultEdgeCrash && s.Edges < 2 {
				bad("%s: the only edge cannot crash", key)
			}
		case FaultStoreGone, FaultFailover:
			gone = append(gone, f)
		case FaultControllerPause:
		default:
			bad("%s.kind is %q, want edge-crash, edge-pause, store-gone, failover or controller-pause", key, f.Kind)
		}
		if f.Kind != FaultEdgeCrash {
			between(key+".for_s", f.ForS, 0.1, s.DurationS)
		}
	}
	slices.SortFunc(gone, func(a, b Fault) int { return int(math.Copysign(1, a.AtS-b.AtS)) })
	for i := 1; i < len(gone); i++ {
		if gone[i].AtS < gone[i-1].AtS+gone[i-1].ForS {
			bad("faults: the store cannot go twice at the same time")
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("scenario %s: %s", s.Name, strings.Join(problems, "; "))
	}
	return nil
}
