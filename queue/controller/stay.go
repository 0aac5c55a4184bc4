package controller

import (
	"math"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// turnover measures how long fans stay: time spent inside by everybody, over places freed. That counts those who are still inside for as
// long as they have been there, so it can be asked before most have left.
type turnover struct {
	ms      int64
	freed0  int64
	freed   float64
	insideS float64
}

// observe takes in how many are inside and how many places have been freed since the room was created.
func (t *turnover) observe(nowMs, active, freedTotal int64) {
	if t.ms == 0 || freedTotal < t.freed0 {
		*t = turnover{ms: nowMs, freed0: freedTotal}
		return
	}
	t.insideS += float64(max(active, 0)) * float64(max(nowMs-t.ms, 0)) / 1000
	t.freed, t.ms = float64(freedTotal-t.freed0), max(t.ms, nowMs)
}

// stayS is how long a place is held by one fan, in seconds: what was expected until more has been seen, and never longer. Nobody
// leaves in the first moments of a sale, which says nothing about the stay; whoever does leave says that it is short.
func (t *turnover) stayS(inside int64, expectedS float64) float64 {
	known := max(2, 0.02*float64(inside)) // this many fans' worth is the expectation
	perSecond := (t.freed + known) / (t.insideS + known*expectedS)
	return min(max(1/perSecond, 5), expectedS)
}

// expectedStayS is how long a place is held by one fan, before anything is known: a third of the longest stay, and those who leave
// silently, three in ten, hold it for the idle time.
func (l *leader) expectedStayS() float64 {
	const silent = 0.3
	return float64(l.settings.StayMaxS)/3 + silent*float64(l.settings.IdleS)
}

// earlySpeed is how many ranks a second are called in a room that turns over once per stay.
func earlySpeed(inside int64, stayS, rate, showUp float64) float64 {
	speed := float64(inside) / stayS
	if rate > 0 {
		speed = min(speed, rate)
	}
	return speed / max(showUp, 0.05)
}

// Of the fill of a room.
const (
	rateStayMs   = 20_000 // a line that a rate limits moves from the start: its speed counts from half of this on
	slowFillMs   = 60_000 // a room that has not filled by then moves as fast as fans come
	fullFrom     = 0.95
	frontS       = 4     // pages ask every two seconds at most: so far ahead the rate may call them between two answers
	settleMostMs = 9_000 // pages learn of a draw within their poll interval of 7.5 s and its spread
)

// fill notes when the line's speed begins to mean something: the calls that fill an empty room say nothing about the line behind it.
func (l *leader) fill(c *queue.Control, st line.Status, stayS, rate float64) {
	now := c.StoreMs
	switch st.Phase {
	case line.PhaseOpen, line.PhaseLobby, line.PhaseDrawing:
		l.lineMs, l.filled = 0, room.Filled{}
		return
	case line.PhaseWaiting:
	default:
		return
	}
	if l.lineMs == 0 {
		l.lineMs = now
	}
	full := float64(c.Active) >= fullFrom*float64(c.Settings.Cap)
	// A rate that fills the room before anybody leaves is not the line's speed.
	limited := (st.LimitedBy == line.LimitRate || st.LimitedBy == line.LimitCore) && rate*stayS < fullFrom*float64(c.Settings.Cap)
	switch f := &l.filled; {
	case f.AtMs == 0 && (full || limited || now-l.lineMs >= slowFillMs):
		*f = room.Filled{AtMs: now, Full: full}
	case !f.Full && full:
		if float64(now-f.AtMs) < 1000*stayS { // filled quicker than anybody leaves: the line stands still first
			f.AtMs = now
		}
		f.Full = true
	}
}

// front is how many ranks may be called at any moment: twice the free places, as far as the rate allows.
func front(free int64, rate float64) uint64 {
	n := float64(max(free, 0))
	if rate > 0 {
		n = min(n, math.Ceil(rate*frontS))
	}
	return uint64(2 * n)
}

// settling reports whether the first call after a draw should wait until pages have learned their places: fans who do not know that they
// are called leave places empty that others wait for. Of a small lobby the next are called seconds later anyhow: the wait is a
// millisecond for each fan beyond the room's size.
func (l *leader) settling(c *queue.Control) bool {
	if l.opened.Record.Draw.Kind == line.DrawNone || len(l.lobby) == 0 {
		return false
	}
	lobby := uint64(0)
	for i, lane := range c.Lanes {
		if lane.Called > 0 {
			return false
		}
		if i < len(l.lobby) {
			lobby += l.lobby[i]
		}
	}
	return c.StoreMs-l.wasOpenedMs < settle(lobby, c.Settings.Cap).Milliseconds()
}

// settle is how long the first call waits after a draw.
func settle(lobby uint64, inside int64) time.Duration {
	beyond := lobby - min(lobby, uint64(max(inside, 0)))
	return time.Duration(min(beyond, settleMostMs)) * time.Millisecond
}
