package main

import (
	"time"

	"github.com/stanchion-queue/stanchion/config"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// roomSettings is a configured room as the waiting room understands it. firstStart fixes an opening that is given as seconds from
// the first start (the demo's).
func roomSettings(c config.Room, beaconChain string, firstStart time.Time) room.Settings {
	s := room.Settings{
		Host: c.Host, Entry: c.Entry, Title: c.Title,
		Mode: room.Mode(c.Mode), Cap: int64(c.Cap), RatePerSecond: c.RatePerSecond, SeatLimit: c.SeatLimit,
		FirstLeaseS: c.FirstLeaseS, IdleS: c.IdleS, StayMaxS: c.StayMaxS, GraceS: c.GraceS, ReturnS: c.ReturnS, OutageBoundS: c.OutageBoundS,
		OutageMode: room.OutageMode(c.OutageMode), AfterOutage: room.AfterOutage(c.AfterOutage),
		RequestBudget: room.RequestBudget{PerSecond: c.RequestBudget.PerSecond, Burst: c.RequestBudget.Burst},
		LateShare:     c.LateShare, LateMin: int64(c.LateMin), NetworkShare: c.NetworkShare, NetworkMin: int64(c.NetworkMin),
		DoorDial: c.DoorDial, ParkedPerEdge: c.ParkedPerEdge,
		Who: room.Who(c.Who), CodeHashes: c.Codes.SHA256, WorkBits: c.Work.Bits,
		Origin: room.Origin{P99MS: c.Origin.P99MS, ErrorRatio: c.Origin.ErrorRatio}, Message: c.Message, Policy: c.Policy,
	}
	for _, l := range c.Lanes {
		s.Lanes = append(s.Lanes, room.Lane{Name: l.Name, Weight: l.Weight, Code: l.Code})
	}
	opens := c.Opening.OpensAtTime()
	if opens.IsZero() && c.Opening.OpensInS > 0 {
		opens = firstStart.Add(time.Duration(c.Opening.OpensInS) * time.Second)
	}
	if !opens.IsZero() {
		s.Opening.OpensAtMs = opens.UnixMilli()
		s.Opening.Lobby = c.Opening.Lobby
	}
	if s.Opening.Lobby {
		d := c.Opening.Draw
		s.Opening.Draw = room.Draw{Kind: line.DrawKind(d.Kind), Source: d.Source}
		switch s.Opening.Draw.Kind {
		case line.DrawDrand:
			s.Opening.Draw.Chain, s.Opening.Draw.Round, s.Opening.Draw.DueInS = beaconChain, d.Round, d.DueInS
		case line.DrawAnnounced:
			s.Opening.Draw.DueInS = d.DueInS
		}
	}
	return s
}
