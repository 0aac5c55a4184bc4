// Package pressure says how near a process is to the end of what it may use: descriptors, memory, goroutines. What to do about
// it is the caller's business; this package measures and decides on a level, with hysteresis so that the level does not flap.
package pressure

import (
	"errors"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// Level is how near the end is.
type Level uint8

// The levels.
const (
	Calm     Level = iota
	High           // stop holding on to what can be let go
	Critical       // take nothing new on that can wait
)

// Shares of a limit at which a level begins, and how many looks in a row below it end it.
const (
	HighShare     = 0.85
	CriticalShare = 0.95
	calmLooks     = 8
	slackShare    = 0.05 // below the beginning of a level
)

// Usage is what is used of each limit, as shares. A resource without a known limit is 0.
type Usage struct {
	Descriptors, Memory, Goroutines float64
}

// Highest is the largest share.
func (u Usage) Highest() float64 { return max(u.Descriptors, u.Memory, u.Goroutines) }

// Gauge turns usage into a level. It rises at once and falls step by step. The zero value is calm. It is not safe for
// concurrent use.
type Gauge struct {
	level Level
	below int
}

// Look takes one measurement; starved says that something could not be had since the last one.
func (g *Gauge) Look(u Usage, starved bool) Level {
	share := u.Highest()
	now := levelOf(share)
	if starved {
		now = Critical
	}
	switch {
	case now >= g.level:
		g.level, g.below = now, 0
	case levelOf(share+slackShare) >= g.level:
		g.below = 0
	default:
		if g.below++; g.below >= calmLooks {
			g.level, g.below = g.level-1, 0
		}
	}
	return g.level
}

func levelOf(share float64) Level {
	switch {
	case share >= CriticalShare:
		return Critical
	case share >= HighShare:
		return High
	}
	return Calm
}

// Probe measures this process. It is not safe for concurrent use.
type Probe struct {
	descriptors uint64 // limits; 0: unknown
	memory      uint64
	goroutines  int
	samples     []metrics.Sample
}

// NewProbe finds the limits: of descriptors the process's own, of memory the smallest of memory (bytes, 0: none given), the Go
// runtime's soft limit and the control group's. goroutines is given.
func NewProbe(memory uint64, goroutines int) *Probe {
	p := &Probe{descriptors: descriptorLimit(), memory: memory, goroutines: goroutines}
	for _, limit := range []uint64{softLimit(), groupLimit("/sys/fs/cgroup/memory.max")} {
		if limit > 0 && (p.memory == 0 || limit < p.memory) {
			p.memory = limit
		}
	}
	p.samples = []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	return p
}

func softLimit() uint64 {
	if l := debug.SetMemoryLimit(-1); l > 0 && l < math.MaxInt64 {
		return uint64(l)
	}
	return 0
}

// groupLimit reads a control group's limit; 0 when there is none.
func groupLimit(file string) uint64 {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil { // "max"
		return 0
	}
	return n
}

// Read measures. What cannot be measured is 0 and named in the error.
func (p *Probe) Read() (Usage, error) {
	var u Usage
	var errs []error
	if p.descriptors > 0 {
		n, err := openDescriptors()
		if err != nil {
			errs = append(errs, err)
		}
		u.Descriptors = float64(n) / float64(p.descriptors)
	}
	if p.memory > 0 {
		metrics.Read(p.samples)
		u.Memory = float64(p.samples[0].Value.Uint64()-p.samples[1].Value.Uint64()) / float64(p.memory)
	}
	if p.goroutines > 0 {
		u.Goroutines = float64(runtime.NumGoroutine()) / float64(p.goroutines)
	}
	return u, errors.Join(errs...)
}
