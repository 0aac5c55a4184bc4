package controller

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/forecast"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/pace"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// seal freezes the windows that every living edge has reported. An edge silent for 3 s is not waited for; its silence counts only while
// the store answers.
func (l *leader) seal(ctx context.Context, c *queue.Control, edges []queue.EdgeState) error {
	epoch := l.opened.Record.EpochMs
	to := line.WindowAt(epoch, c.StoreMs)
	living := false
	for _, e := range edges {
		if e.Bye || c.StoreMs-max(e.SeenMs, l.healthyMs) > silentMs {
			continue
		}
		living = true
		to = min(to, e.Complete)
	}
	if !living { // nobody can have stamped in the last 3 s and not be waited for
		to = line.WindowAt(epoch, max(min(c.StoreMs, l.healthyMs), c.StoreMs-silentMs))
	}
	to = min(to, c.Sealed+sealAtMost)
	if to <= c.Sealed {
		return nil
	}
	if err := l.sealTo(ctx, c, c.Line(), to); err != nil {
		return err
	}
	l.m.sealLag.WithLabelValues(l.name).Observe(float64(max(c.StoreMs-to.StartMs(epoch), 0)) / 1000)
	return nil
}

// sealTo seals a line's windows from c.Sealed to to; c's part of that line is brought up to date.
func (l *leader) sealTo(ctx context.Context, c *queue.Control, id line.ID, to line.Window) error {
	s := queue.Seal{Gen: c.Gen, Token: l.token, Line: id, From: c.Sealed, To: to, Prev: c.Chain}
	err := l.call(ctx, func(ctx context.Context) error {
		rows, err := l.store.Unsealed(ctx, l.name, s.Line, s.From, s.To)
		if err != nil {
			return err
		}
		s.Counts = make([][]uint64, len(c.Lanes))
		for i := range s.Counts {
			s.Counts[i] = make([]uint64, s.To-s.From)
		}
		for _, r := range rows {
			if r.Win >= s.From && r.Win < s.To && int(r.Lane) < len(s.Counts) {
				s.Counts[r.Lane][r.Win-s.From] += uint64(r.Count)
			}
		}
		s.Next = line.SealChain(s.Prev, s.Line, s.From, s.To, s.Counts)
		return l.store.Seal(ctx, l.name, s)
	})
	if err != nil {
		return fmt.Errorf("seal windows %d to %d: %w", s.From, s.To, err)
	}
	c.Sealed, c.Chain = s.To, s.Next
	for i, counts := range s.Counts {
		for _, n := range counts {
			c.Lanes[i].Total += n
		}
	}
	return nil
}

// sealHonoured closes the lines that the current one honours: what was stamped in them up to the change of lines is sealed once every
// living edge has changed over, or 3 s later.
func (l *leader) sealHonoured(ctx context.Context, c *queue.Control, edges []queue.EdgeState) error {
	if len(c.Honoured) == 0 || l.closedBefore == c.Line() {
		return nil
	}
	changed := l.opened.Record.EpochMs
	if c.StoreMs-max(changed, l.healthyMs) <= silentMs {
		for _, e := range edges {
			if !e.Bye && e.Complete == 0 {
				return nil
			}
		}
	}
	for _, id := range c.Lines[:len(c.Lines)-1] {
		var s queue.LineState
		if err := l.call(ctx, func(ctx context.Context) (err error) { s, err = l.store.Line(ctx, l.name, id); return err }); err != nil {
			return fmt.Errorf("read honoured line %s: %w", id, err)
		}
		opened, err := s.Published.Open()
		if err != nil {
			return fmt.Errorf("read honoured line %s: %w", id, err)
		}
		old := *c
		old.Sealed, old.Chain, old.Lanes = s.Sealed, s.Chain, s.Lanes
		end := line.WindowAt(opened.Record.EpochMs, changed+silentMs)
		for old.Sealed < end {
			if err := l.sealTo(ctx, &old, id, min(end, old.Sealed+sealAtMost)); err != nil {
				return err
			}
		}
	}
	l.closedBefore = c.Line()
	return nil
}

// tick frees, reaps, draws, calls and publishes.
func (l *leader) tick(ctx context.Context, c queue.Control, edges []queue.EdgeState) error {
	if err := l.tidy(ctx, &c, edges); err != nil {
		return err
	}
	if err := l.sealHonoured(ctx, &c, edges); err != nil {
		return err
	}
	if err := l.draw(ctx, &c); err != nil {
		return err
	}
	l.observeCore(&c)
	if err := l.adjust(ctx, &c); err != nil {
		return err
	}

	opens := l.opened.Record.OpensAtMs
	opened := c.StoreMs >= opens && !l.drawPending()
	if opened && l.wasOpenedMs == 0 {
		l.wasOpenedMs = c.StoreMs
	}
	if !l.replied { // a new leader learns the counters first, or the law would take all that was ever freed for a moment's work
		if err := l.firstCall(ctx, &c); err != nil {
			return err
		}
	}
	if err := l.readLobby(ctx, &c); err != nil {
		return err
	}
	in := pace.Input{
		NowMs: c.StoreMs, Cap: c.Settings.Cap, Active: c.Active, Parked: parked(c.StoreMs, edges),
		FreedTotal: l.reply.FreedTotal, OperatorRate: l.settings.RatePerSecond, CoreRate: l.coreRate, Stock: l.health.stock,
		Hold: !opened || c.Settings.Pause != "" || !l.settings.Mode.Admits(),
	}
	settling := opened && l.settling(&c)
	in.Hold = in.Hold || settling
	for _, a := range l.reply.Arrivals {
		in.Arrivals = append(in.Arrivals, pace.Arrival{AgeMs: a.AgeMs, Count: float64(a.Count)})
		if int(a.Lane) < len(l.came) {
			l.came[a.Lane] += float64(a.Count)
		}
	}
	sum := l.lanes(&c)
	in.Lanes = sum
	out := l.law.Tick(in)
	if settling {
		out.LimitedBy = line.LimitSchedule
	}
	l.turnover.observe(c.StoreMs, c.Active, l.reply.FreedTotal)

	call := queue.Call{Gen: c.Gen, Token: l.token, Line: c.Line()}
	call.Called, call.Honoured = spread(&c, sum, out.Called)
	told := l.foresee(&c, edges, in, out, call.Called, opened)
	doc, err := told.Encode()
	if err != nil {
		return err
	}
	call.Forecast = doc
	var reply queue.CallReply
	if err := l.call(ctx, func(ctx context.Context) (err error) { reply, err = l.store.Call(ctx, l.name, call); return err }); err != nil {
		return fmt.Errorf("call: %w", err)
	}
	l.reply, l.replied, l.memory.tick = reply, true, time.Now()
	l.measure(&c, out, told)
	if err := l.renewLine(ctx, &c); err != nil {
		return err
	}
	return l.open(ctx, &c, in, opened)
}

// firstCall calls nobody.
func (l *leader) firstCall(ctx context.Context, c *queue.Control) error {
	call := queue.Call{Gen: c.Gen, Token: l.token, Line: c.Line(), Forecast: c.Forecast}
	for _, lane := range c.Lanes {
		call.Called = append(call.Called, lane.Called)
	}
	if err := l.call(ctx, func(ctx context.Context) (err error) { l.reply, err = l.store.Call(ctx, l.name, call); return err }); err != nil {
		return fmt.Errorf("call: %w", err)
	}
	l.replied = true
	return nil
}

// tidy takes over dead edges and frees ended places.
func (l *leader) tidy(ctx context.Context, c *queue.Control, edges []queue.EdgeState) error {
	bound := c.Settings.OutageBoundMs + 1000
	for _, e := range edges {
		if !e.Bye && c.StoreMs-max(e.SeenMs, l.healthyMs) <= bound {
			continue
		}
		var moved int
		err := l.call(ctx, func(ctx context.Context) (err error) {
			moved, err = l.store.Reap(ctx, l.name, c.Gen, l.token, e.Edge, bound, e.Bye)
			return err
		})
		if err != nil {
			return fmt.Errorf("reap edge %s: %w", e.Edge, err)
		}
		l.log.Info("edge reaped", "edge", e.Edge.String(), "label", e.Label, "bye", e.Bye, "sessions", moved)
	}
	if err := l.call(ctx, func(ctx context.Context) error { _, err := l.store.Free(ctx, l.name, c.Gen, l.token); return err }); err != nil {
		return fmt.Errorf("free places: %w", err)
	}
	return nil
}

// observeCore takes in the reports on what the room protects.
func (l *leader) observeCore(c *queue.Control) {
	l.health = l.reports.sum(time.Now(), l.settings.Origin, l.reply.FreedTotal, l.settings.SeatLimit)
	for _, name := range l.health.silent {
		l.log.Warn("reports have stopped, the last one is ignored", "source", name)
	}
	if !l.health.known {
		l.bear, l.coreRate = pace.Bear{}, 0
		return
	}
	l.coreRate = l.bear.Observe(pace.Report{
		NowMs: c.StoreMs, Over: l.health.over, Max: l.settings.RatePerSecond, Using: float64(c.Granted60) / 60,
	})
}

// adjust writes the limits that follow from the core's state when they have changed.
func (l *leader) adjust(ctx context.Context, c *queue.Control) error {
	rate, pause := l.rate(l.settings), l.pause(l.settings)
	if pause == c.Settings.Pause && math.Abs(rate-c.Settings.RatePerSecond) <= rateTolerance*max(rate, c.Settings.RatePerSecond) {
		return nil
	}
	if err := l.configure(ctx, c, l.settings, c.Settings.Version); err != nil {
		return fmt.Errorf("write limits: %w", err)
	}
	l.settingsOf = c.Settings.Document
	return nil
}

// parked sums the fans at the doors of living edges.
func parked(nowMs int64, edges []queue.EdgeState) (n int64) {
	for _, e := range edges {
		if e.Bye || nowMs-e.SeenMs > silentMs {
			continue
		}
		for _, p := range e.Parked {
			n += p
		}
	}
	return n
}

// lanes are the law's lanes: a lane of the current line together with the same lane of the lines it honours.
func (l *leader) lanes(c *queue.Control) []pace.Lane {
	out := make([]pace.Lane, len(c.Lanes))
	for i, lane := range c.Lanes {
		spec := l.opened.Record.Lanes[i]
		out[i] = pace.Lane{Called: lane.Called, Total: lane.Total, Weight: spec.Weight}
		for _, now := range l.settings.Lanes { // weights are hot
			if now.Name == spec.Name {
				out[i].Weight = uint32(now.Weight)
			}
		}
		for _, honoured := range c.Honoured {
			if i < len(honoured) {
				out[i].Called += honoured[i].Called
				out[i].Total += honoured[i].Total
			}
		}
	}
	return out
}

// spread turns the law's sums back into lines: honoured ones first, oldest first, to their sealed total.
func spread(c *queue.Control, sum []pace.Lane, called []uint64) (current []uint64, honoured map[line.ID][]uint64) {
	current = make([]uint64, len(c.Lanes))
	if len(c.Honoured) > 0 {
		honoured = map[line.ID][]uint64{}
	}
	for id, lanes := range c.Honoured {
		honoured[id] = make([]uint64, len(lanes))
		for i, lane := range lanes {
			honoured[id][i] = lane.Called
		}
	}
	for i := range c.Lanes {
		more := called[i] - sum[i].Called
		for _, id := range c.Lines[:len(c.Lines)-1] {
			if lanes := c.Honoured[id]; i < len(lanes) {
				step := min(more, lanes[i].Total-min(lanes[i].Called, lanes[i].Total))
				honoured[id][i] += step
				more -= step
			}
		}
		current[i] = min(c.Lanes[i].Called+more, max(c.Lanes[i].Total, c.Lanes[i].Called))
	}
	return current, honoured
}

// open lets arrivals go straight in again once the line is gone.
func (l *leader) open(ctx context.Context, c *queue.Control, in pace.Input, opened bool) error {
	if c.Open || !opened || l.settings.Mode != room.ModeNormal || c.Settings.Pause != "" || in.Parked > 0 ||
		float64(c.Active) >= 0.9*float64(c.Settings.Cap) || time.Since(l.lastOpenAt) < time.Second {
		return nil
	}
	for _, lane := range in.Lanes {
		if lane.Called < lane.Total {
			return nil
		}
	}
	l.lastOpenAt = time.Now()
	err := l.call(ctx, func(ctx context.Context) error { return l.store.Open(ctx, l.name, c.Gen, l.token) })
	if err != nil && !errors.Is(err, queue.ErrNotIdle) {
		return fmt.Errorf("open the room: %w", err)
	}
	return nil
}

// renewLine puts an empty line in the place of an old one while the room is open and nobody waits. The old one is honoured until the next
// time, for fans who come back.
func (l *leader) renewLine(ctx context.Context, c *queue.Control) error {
	if !c.Open || l.settings.Mode != room.ModeNormal || c.StoreMs-l.opened.Record.EpochMs < l.o.LineMaxAge.Milliseconds() {
		return nil
	}
	if err := l.startLine(ctx, c, []line.ID{c.Line()}); err != nil {
		return fmt.Errorf("renew the line: %w", err)
	}
	l.pubCount++
	l.lastOpenAt = time.Time{}
	return l.readLine(ctx, c.Line())
}

// phase is what fans are told.
func (l *leader) phase(c *queue.Control) line.Phase {
	switch l.settings.Mode {
	case room.ModePaused:
		return line.PhasePaused
	case room.ModeDraining:
		return line.PhaseDraining
	case room.ModeMaintenance:
		return line.PhaseMaintenance
	case room.ModeEnded:
		return line.PhaseEnded
	}
	switch {
	case l.health.soldOut:
		return line.PhaseSoldOut
	case l.settings.Mode == room.ModeAdmitAll:
		return line.PhaseOpen
	case c.StoreMs < l.opened.Record.OpensAtMs:
		return line.PhaseLobby
	case l.drawPending():
		return line.PhaseDrawing
	case c.Open && l.settings.Mode == room.ModeNormal:
		return line.PhaseOpen
	}
	return line.PhaseWaiting
}

// Polls: the bounds told to pages.
const (
	pollMinMs   = 2_000
	pollMaxMs   = 60_000
	pollFrontMs = 12_000 // in the first tenth of the line once stock is scarce
	pollSpread  = 0.2
	samplesPerS = 200 // presence samples a second, over the whole room
)

// foresee makes what all edges answer from until the next tick.
func (l *leader) foresee(c *queue.Control, edges []queue.EdgeState, in pace.Input, out pace.Output, current []uint64, opened bool) room.Forecast {
	now := c.StoreMs
	st := line.Status{
		Room: l.name, Line: c.Line(), Phase: l.phase(c), Message: l.settings.Message,
		Poll: line.Poll{MinMs: pollMinMs, MaxMs: pollMaxMs, Spread: pollSpread}, LimitedBy: out.LimitedBy,
	}
	if l.health.scarce {
		st.Poll.FrontMaxMs = pollFrontMs
	}
	if l.settings.Who != room.WhoNone {
		st.Who = string(l.settings.Who)
	}
	if l.settings.Who == room.WhoWork {
		st.WorkBits = l.settings.WorkBits
	}
	if l.settings.MessageAtMs > 0 && st.Message != "" {
		at := time.UnixMilli(l.settings.MessageAtMs).UTC()
		st.MessageAt = &at
	}
	rec := l.opened.Record
	if rec.OpensAtMs > rec.EpochMs {
		at := time.UnixMilli(rec.OpensAtMs).UTC()
		st.OpensAt = &at
	}
	if rec.Draw.Kind != line.DrawNone {
		d := &line.DrawStatus{Kind: rec.Draw.Kind, Round: rec.Draw.Round}
		if r := l.published.Result; r != nil {
			d.Value = r.Value
		}
		st.Draw = d
	}
	if l.health.stock != nil {
		left := l.health.sellable
		st.Stock = &left
	}
	switch st.Phase {
	case line.PhaseLobby, line.PhaseDrawing:
		st.LimitedBy = line.LimitSchedule
	case line.PhaseSoldOut:
		st.LimitedBy = line.LimitStock
	case line.PhasePaused, line.PhaseDraining, line.PhaseMaintenance, line.PhaseEnded:
		st.LimitedBy = line.LimitPaused
	}

	rate := l.rate(l.settings)
	stayS := l.turnover.stayS(c.Settings.Cap, l.expectedStayS())
	l.fill(c, st, stayS, rate)
	if st.Phase == line.PhaseWaiting {
		st.Poll.Front = front(c.Settings.Cap-c.Active, rate)
	}
	velocity := make([]float64, len(c.Lanes))
	waiting := uint64(0)
	for i := range c.Lanes {
		called, total := out.Called[i], in.Lanes[i].Total
		lobby := uint64(0)
		waiting += total - min(called, total)
		if i < len(l.lobby) {
			lobby = l.lobby[i]
		}
		f := forecast.Input{
			NowMs: now, Called: called, Total: total, Came: l.came[i], FilledMs: l.filled.AtMs, StayMs: rateStayMs,
			EarlyPerSecond: earlySpeed(c.Settings.Cap, stayS, rate, out.Gauges.ShowUp) * share(in.Lanes, out.Called, i),
			LimitedBy:      st.LimitedBy, Paused: st.LimitedBy == line.LimitPaused,
		}
		if l.filled.Full {
			f.StayMs = int64(1000 * stayS)
		}
		eta := l.forecasts[i].Observe(f)
		velocity[i] = l.forecasts[i].Rate(now, 60_000, called)
		eta.Cause = l.cause(i, now, eta.PerSecond, out.Gauges.ShowUp, st)
		lane := line.LaneStatus{
			Name: rec.Lanes[i].Name, Called: current[i], Total: c.Lanes[i].Total,
			Before: total - min(called, total) - (c.Lanes[i].Total - min(current[i], c.Lanes[i].Total)), LobbyCount: lobby, PerMinute: math.Round(600*velocity[i]) / 10,
			ETA: eta,
		}
		st.Lanes = append(st.Lanes, lane)
	}
	if waiting > 0 {
		st.SampleOneIn = uint32(min(max((waiting+60*samplesPerS-1)/(60*samplesPerS), 1), math.MaxUint32))
	}

	st.Version = l.version
	if doc, err := json.Marshal(withoutTime(st)); err == nil && !bytes.Equal(doc, l.status) {
		l.version++
		l.status, st.Version = doc, l.version
	}
	origin := l.health.origin
	if origin != nil {
		at := *origin
		at.AtMs = now - at.AtMs
		origin = &at
	}
	var filled *room.Filled
	if l.filled.AtMs > 0 {
		at := l.filled
		filled = &at
	}
	law := l.law.State()
	g := out.Gauges
	return room.Forecast{
		Status: st, Velocity: velocity, Published: l.pubCount, Bypass: l.settings.Mode == room.ModeAdmitAll, Law: &law,
		Origin: origin, Filled: filled,
		Gauges: room.Gauges{
			Active: c.Active, Cap: c.Settings.Cap, Parked: in.Parked, RatePerSecond: rate, CorePerSecond: l.coreRate, ShowUp: g.ShowUp, AnswerS: g.LeadS,
			FreedPerS: g.FreedRate, Expected: g.Coming, Wanted: g.Want, Granted60: c.Granted60, GrantedTotal: l.reply.GrantedTotal, Edges: len(edges),
			SealLagMs: max(now-c.Sealed.StartMs(rec.EpochMs), 0),
		},
	}
}

// past is what a lane's forecast was made from some time ago.
type past struct {
	ms                        int64
	perSecond, showUp, orders float64
}

// cause names why a lane's waiting times have grown by more than a quarter in the last two minutes; empty when they have not, or when
// nothing explains it.
func (l *leader) cause(lane int, now int64, perSecond, showUp float64, st line.Status) string {
	const everyMs, backMs = 10_000, 120_000
	switch st.Phase {
	case line.PhasePaused, line.PhaseMaintenance, line.PhaseDraining:
		return "paused"
	case line.PhaseWaiting:
	default:
		return ""
	}
	h := l.pasts[lane]
	if n := len(h); n == 0 || now-h[n-1].ms >= everyMs {
		h = append(h, past{now, perSecond, showUp, l.settings.RatePerSecond})
	}
	for len(h) > 1 && h[1].ms <= now-backMs {
		h = h[1:]
	}
	l.pasts[lane] = h
	was := h[0]
	if perSecond*1.25 >= was.perSecond {
		return ""
	}
	switch {
	case l.coreRate > 0 && st.LimitedBy == line.LimitCore:
		return "slower-core"
	case l.settings.RatePerSecond < was.orders:
		return "rate"
	case showUp > 1.1*was.showUp:
		return "fewer-absent"
	}
	return ""
}

// withoutTime is the part of a status whose change makes a new version.
func withoutTime(st line.Status) line.Status {
	st.ServerTime, st.Version = time.Time{}, 0
	return st
}

// share is a lane's part of the calls while these lanes wait.
func share(lanes []pace.Lane, called []uint64, i int) float64 {
	sum := 0.0
	for j, lane := range lanes {
		if called[j] < lane.Total || j == i {
			sum += float64(max(lane.Weight, 1))
		}
	}
	return float64(max(lanes[i].Weight, 1)) / sum
}

// readLobby learns how many of each lane's tickets come from the lobby, once that is sealed.
func (l *leader) readLobby(ctx context.Context, c *queue.Control) error {
	end := l.opened.Record.LobbyEnd()
	if l.lobby != nil || end == 0 || l.opened.Record.Draw.Kind == line.DrawNone || !l.lobbyClosed(c) {
		return nil
	}
	counts := make([]uint64, len(c.Lanes))
	last := end - 1 // the base after the lobby's last window is in that window's chunk
	chunk, at := uint32(last/line.ChunkWindows), 8*(int(last%line.ChunkWindows)+1)
	for i := range counts {
		var body []byte
		if err := l.call(ctx, func(ctx context.Context) (err error) {
			body, err = l.store.LedgerChunk(ctx, l.name, c.Line(), uint8(i), chunk)
			return err
		}); err != nil {
			return fmt.Errorf("read the lobby's count: %w", err)
		}
		if len(body) < at+8 {
			return nil // not there yet: with the next tick
		}
		counts[i] = binary.BigEndian.Uint64(body[at:])
	}
	l.lobby = counts
	return nil
}

// measure sets the gauges.
func (l *leader) measure(c *queue.Control, out pace.Output, f room.Forecast) {
	m, g, st := l.m, f.Gauges, f.Status
	if c.Active <= c.Settings.Cap {
		l.capHigh = c.Settings.Cap
	} else {
		l.capHigh = max(l.capHigh, c.Settings.Cap)
	}
	if c.StoreMs-l.healthyMs > silentMs { // before, places of the time without a store are still being swept
		m.overshoot.WithLabelValues(l.name).Set(float64(max(c.Active-l.capHigh, 0)))
	}
	m.inside.WithLabelValues(l.name).Set(float64(c.Active))
	m.capacity.WithLabelValues(l.name).Set(float64(c.Settings.Cap))
	m.rate.WithLabelValues(l.name).Set(g.RatePerSecond)
	m.coreRate.WithLabelValues(l.name).Set(g.CorePerSecond)
	m.parked.WithLabelValues(l.name).Set(float64(g.Parked))
	m.showUp.WithLabelValues(l.name).Set(g.ShowUp)
	m.answer.WithLabelValues(l.name).Set(g.AnswerS)
	m.freed.WithLabelValues(l.name).Set(g.FreedPerS)
	m.expected.WithLabelValues(l.name).Set(g.Expected)
	m.late.WithLabelValues(l.name).Set(float64(c.Late))
	m.edges.WithLabelValues(l.name).Set(float64(g.Edges))
	idle := 0.0
	if st.Phase == line.PhaseWaiting && out.LimitedBy == line.LimitCap {
		idle = float64(max(c.Settings.Cap-c.Active, 0))
	}
	m.idle.WithLabelValues(l.name).Set(idle)
	for i, lane := range st.Lanes {
		m.called.WithLabelValues(l.name, lane.Name).Set(float64(lane.Called))
		m.total.WithLabelValues(l.name, lane.Name).Set(float64(lane.Total))
		if e, ok := l.forecasts[i].MedianError(); ok {
			m.etaError.WithLabelValues(l.name, lane.Name).Set(e)
		}
	}
	if st.Phase != l.lastPhase {
		l.log.Info("phase", "phase", string(st.Phase), "was", string(l.lastPhase))
		if l.lastPhase != "" {
			m.phase.WithLabelValues(l.name, string(l.lastPhase)).Set(0)
		}
		m.phase.WithLabelValues(l.name, string(st.Phase)).Set(1)
		l.lastPhase = st.Phase
	}
	if st.LimitedBy != l.lastLimit {
		m.limited.WithLabelValues(l.name, string(l.lastLimit)).Set(0)
		m.limited.WithLabelValues(l.name, string(st.LimitedBy)).Set(1)
		l.lastLimit = st.LimitedBy
	}
}
