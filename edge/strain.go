package edge

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/stanchion-queue/stanchion/edge/pressure"
)

// strain is how near the process is to the end of what it may use, and what is done about it:
//
//   - high: answers of the edge itself close their connections, so that those who wait hold no descriptor and no memory
//     between two polls;
//   - critical: no new connections but those of trusted hops, and requests without a pass are turned away, so that the fans who
//     are inside can go on.
type strain struct {
	level   atomic.Uint32
	starved atomic.Bool // accepting has failed since the last look
	usage   atomic.Pointer[pressure.Usage]
}

func (s *Server) pressure() pressure.Level { return pressure.Level(s.strain.level.Load()) }

// starving is told that the system could not give another connection.
func (s *Server) starving(err error) {
	s.metrics.dropped("starved")
	if !s.strain.starved.Swap(true) {
		s.strain.level.Store(uint32(pressure.Critical))
		s.log.Warn("connections cannot be accepted", "error", err, "connections", s.listener.Open())
	}
}

// watchPressure measures until ctx ends.
func (s *Server) watchPressure(ctx context.Context) {
	read := s.o.usage
	if read == nil {
		read = pressure.NewProbe(uint64(max(0, s.o.Limits.MemoryBytes)), s.o.Limits.Goroutines).Read
	}
	var gauge pressure.Gauge
	tick := time.NewTicker(s.o.usageEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		usage, err := read()
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				s.log.Warn("process cannot be measured in full", "error", err)
			}
		}
		s.strain.usage.Store(&usage)
		was := s.pressure()
		now := gauge.Look(usage, s.strain.starved.Swap(false))
		s.strain.level.Store(uint32(now))
		if now != was {
			s.log.Warn("pressure on the process changed", "level", now, "was", was, "descriptors", usage.Descriptors, "memory", usage.Memory,
				"goroutines", usage.Goroutines, "connections", s.listener.Open())
		}
	}
}

// refusePressed turns a request away that the process has no room for; it reports whether it did.
func (s *Server) refusePressed(x *exchange) bool {
	if s.pressure() < pressure.Critical {
		return false
	}
	s.metrics.limited.WithLabelValues("pressure").Inc()
	x.decide("shed", "pressure")
	p := problemOverloaded
	p.Detail = "This server has all it can do. Please try again in a moment; your place or your pass is kept."
	p.RetryAfterMs = jitter(2 * time.Second)
	x.problem(p)
	return true
}
