// Package health is the operations listener: liveness (/healthz), readiness (/readyz), Prometheus metrics (/metrics), the
// effective configuration (/config), plain tables of what the process holds in memory (/debug/) and profiles
// (/debug/pprof/), which are served nowhere else. The listener is for operators and machines, never for the public.
//
// Parts of the program tell their condition as values: a [Check] answers a [Result], and a [Board] collects them.
package health

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// State is how a part of the process is doing.
type State string

// The states. A process with a failed part takes no traffic; with degraded parts it does, and says so.
const (
	OK       State = "ok"
	Degraded State = "degraded"
	Failed   State = "failed"
)

// Result is one answer of a check.
type Result struct {
	State   State  `json:"state"`
	Message string `json:"message,omitempty"` // what is wrong and since when, for people
}

// Check probes one part. Probe must return when ctx ends; it is called at most twice a second.
type Check struct {
	Name  string
	Probe func(ctx context.Context) Result
}

// Phase is where the process is in its life.
type Phase string

// The phases. Only a Serving process is ready.
const (
	Starting Phase = "starting"
	Serving  Phase = "serving"
	Draining Phase = "draining"
)

// Part is a named result.
type Part struct {
	Name string `json:"name"`
	Result
}

// Readiness is the answer of /readyz.
type Readiness struct {
	Ready bool   `json:"ready"`
	Phase Phase  `json:"phase"`
	Parts []Part `json:"parts"` // by name
}

// Table is a picture of some state, shown under /debug/.
type Table struct {
	Columns []string
	Rows    [][]string
}

// Board holds the checks and tables of a process. It may be used from many goroutines.
type Board struct {
	mu     sync.Mutex
	phase  Phase
	checks []Check
	tables map[string]func(context.Context) (Table, error)

	probing sync.Mutex // one round of probes at a time; the others share its answer
	last    []Part
	lastAt  time.Time
}

// NewBoard is an empty board in phase Starting.
func NewBoard() *Board {
	return &Board{phase: Starting, tables: map[string]func(context.Context) (Table, error){}}
}

// SetPhase moves the process to a phase.
func (b *Board) SetPhase(p Phase) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.phase = p
}

// Add adds checks.
func (b *Board) Add(checks ...Check) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.checks = append(b.checks, checks...)
	b.lastAt = time.Time{}
}

// AddTable adds, or replaces, the table /debug/name. Name is made of a-z, 0-9 and -.
func (b *Board) AddTable(name string, table func(context.Context) (Table, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tables[name] = table
}

func (b *Board) table(name string) (func(context.Context) (Table, error), bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.tables[name]
	return t, ok
}

func (b *Board) tableNames() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, 0, len(b.tables))
	for name := range b.tables {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

const (
	probeTimeout = time.Second
	probeEvery   = 500 * time.Millisecond
)

// Readiness probes all parts at once, each for at most a second; answers younger than half a second are used again.
func (b *Board) Readiness(ctx context.Context) Readiness {
	b.probing.Lock()
	defer b.probing.Unlock()
	b.mu.Lock()
	checks, phase, fresh := slices.Clone(b.checks), b.phase, time.Since(b.lastAt) < probeEvery
	b.mu.Unlock()
	if !fresh {
		// Not under the asker's context: its answer is shared with others, who may wait longer.
		parts := probe(context.WithoutCancel(ctx), checks)
		b.mu.Lock()
		b.last, b.lastAt = parts, time.Now()
		b.mu.Unlock()
	}
	r := Readiness{Ready: phase == Serving, Phase: phase, Parts: slices.Clone(b.last)}
	for _, p := range r.Parts {
		if p.State == Failed {
			r.Ready = false
		}
	}
	return r
}

func probe(ctx context.Context, checks []Check) []Part {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	answers := make([]chan Result, len(checks))
	for i, c := range checks {
		answers[i] = make(chan Result, 1)
		go func() { answers[i] <- c.Probe(ctx) }()
	}
	parts := make([]Part, len(checks))
	for i, c := range checks {
		parts[i] = Part{Name: c.Name}
		select {
		case parts[i].Result = <-answers[i]:
		case <-ctx.Done():
			select { // both may be there: the answer wins
			case parts[i].Result = <-answers[i]:
			default:
				parts[i].Result = Result{State: Failed, Message: "no answer within " + probeTimeout.String()}
			}
		}
	}
	slices.SortStableFunc(parts, func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	return parts
}

// Pinged is a check that fails while ping returns an error.
func Pinged(name string, ping func(context.Context) error) Check {
	return Check{Name: name, Probe: func(ctx context.Context) Result {
		if err := ping(ctx); err != nil {
			return Result{State: Failed, Message: err.Error()}
		}
		return Result{State: OK}
	}}
}
