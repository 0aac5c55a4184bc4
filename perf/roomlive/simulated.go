package main

import (
	"context"
	"fmt"

	"github.com/stanchion-queue/stanchion/queue/simulate"
)

// simulated runs the same on-sale under virtual time, so that a live number can be told from one that its small size explains.
func (s scenario) simulated(ctx context.Context, edges int, faults []planned, rate float64, seed uint64) (*simulate.Result, error) {
	sc, err := simulate.Parse(s.name, []byte("{}"))
	if err != nil {
		return nil, err
	}
	sc.Title, sc.DurationS, sc.Fans, sc.Edges = s.title, s.seconds, s.fans, edges
	r := &sc.Room
	r.Cap, r.RatePerSecond, r.FirstLeaseS, r.IdleS, r.GraceS = s.cap, rate, float64(s.idle)/3, float64(s.idle), 30
	r.OutageMode, r.OutageBoundS = s.outage, float64(s.bound)
	sc.Arrivals = simulate.Arrivals{SpikeShare: s.spike, SpikeS: s.spikeS, SpreadS: s.spikeS + s.spread()}
	sc.Absence = simulate.Absence{Kind: s.absence.Kind, Share: s.absence.Share, Low: s.absence.Low, High: s.absence.High,
		Block: int(s.absence.Block), Gap: int(s.absence.Gap), LeaveMeanS: s.leave}
	sc.Crowd.HiddenShare, sc.Crowd.NoScriptShare, sc.Crowd.SilentShare, sc.Crowd.DwellMeanS = s.hidden, s.noScript, s.silent, s.dwell
	for n, p := range faults {
		f := simulate.Fault{AtS: p.at.Seconds(), ForS: p.for_.Seconds(), Edge: (n + 1) % edges}
		switch p.kind {
		case edgeKill:
			f.Kind = simulate.FaultEdgeCrash // for good: its places come back after the outage bound, as live
		case edgePause:
			f.Kind = simulate.FaultEdgePause
		case controllerKill:
			f.Kind = simulate.FaultControllerPause
		case storeKill, storePause:
			f.Kind = simulate.FaultStoreGone
		}
		sc.Faults = append(sc.Faults, f)
	}
	if err := sc.Validate(); err != nil {
		return nil, fmt.Errorf("simulate the same: %w", err)
	}
	res, err := simulate.Run(ctx, sc, seed)
	if err != nil {
		return nil, fmt.Errorf("simulate the same: %w", err)
	}
	return res, nil
}
