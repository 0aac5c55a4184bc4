package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/forecast"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/pace"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// Pace of a room's controller.
const (
	beatEvery    = 50 * time.Millisecond // the loop's own step
	sealEvery    = 100 * time.Millisecond
	callEvery    = 250 * time.Millisecond
	standbyEvery = 500 * time.Millisecond
	storeTimeout = time.Second

	leaderDeadMs  = 1500 // a leader silent for longer may be replaced
	silentMs      = 3000 // an edge silent for longer is not waited for
	failoverMs    = 4000 // claims on the old store process have stopped by then
	failoverMost  = 8 * time.Second
	recentEdgeMs  = 5000 // edges seen so recently are waited for in a failover
	sealAtMost    = line.Window(6000)
	drawRetry     = 2 * time.Second
	newRoomWait   = 300 * time.Millisecond // an edge that knows an emptied room has given it back by then
	rateTolerance = 0.01                   // a core rate that moved less than this is not written to the store
)

// leader is one room's controller in this process: standing by, or leading. Its loop is the only goroutine that touches the fields
// below commands.
type leader struct {
	name     string
	store    queue.Store
	o        Options
	log      *slog.Logger
	m        *metrics
	first    room.Settings
	reports  reports
	leading  atomic.Bool
	commands chan command

	token     string
	law       *pace.Law
	bear      pace.Bear
	health    health
	coreRate  float64
	forecasts []forecast.Lane
	came      []float64 // per lane: fans who came to the door
	turnover  turnover
	filled    room.Filled
	filledOf  line.ID // the line that filled speaks of
	lineMs    int64   // store time since which there is a line, 0 while there is none
	reply     queue.CallReply
	replied   bool

	settings   room.Settings
	settingsOf []byte // the document that settings was read from
	opened     *line.Opened
	openedOf   line.ID
	published  line.Published
	pubCount   uint64
	lobby      []uint64 // per lane, once the lobby is sealed
	status     []byte   // last published status without its version
	version    uint64

	healthyMs    int64 // store time since which the store has answered without a break
	fenceSince   time.Time
	waitFor      map[line.Incarnation]int64 // edges that should restore, by when they were last seen
	emptied      bool                       // the store came back without the room
	memory       memory
	capHigh      int64
	lastSealAt   time.Time
	lastCallAt   time.Time
	lastOpenAt   time.Time
	lastDrawAt   time.Time
	draws        chan drawn
	drawing      bool
	wasOpenedMs  int64 // store time at which this leader saw the line open for calls
	lastPhase    line.Phase
	pasts        [][]past // per lane
	closedBefore line.ID  // the current line, once the lines it honours are sealed to their end
	lastLimit    line.Limit
}

// memory is what a leader remembers of the store for the case that the store forgets it.
type memory struct {
	line      line.ID // zero: nothing
	published line.Published
	honours   []line.ID
	lanes     int
	settings  queue.Settings
	edges     map[line.Incarnation]time.Time // when each was last known to live
	tick      time.Time                      // last call
}

type drawn struct {
	line   line.ID
	result line.DrawResult
	err    error
}

type command struct {
	do   func(context.Context) error
	done chan error
}

func newLeader(name string, o Options, first room.Settings, m *metrics) *leader {
	return &leader{
		name: name, store: o.Store, o: o, log: o.Logger.With("room", name), m: m, first: first,
		commands: make(chan command), draws: make(chan drawn, 1),
	}
}

// do runs f in the room's loop, when this process leads.
func (l *leader) do(ctx context.Context, f func(context.Context) error) error {
	if !l.leading.Load() {
		return ErrNotLeading
	}
	c := command{do: f, done: make(chan error, 1)}
	select {
	case l.commands <- c:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *leader) report(r Report) error {
	if err := r.Validate(); err != nil {
		return err
	}
	l.reports.put(r, time.Now())
	if !l.leading.Load() {
		return ErrNotLeading
	}
	return nil
}

// run stands by and leads by turns, until ctx ends.
func (l *leader) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			l.leading.Store(false)
			return
		case c := <-l.commands:
			if l.leading.Load() {
				c.done <- c.do(ctx)
			} else {
				c.done <- ErrNotLeading
			}
			continue
		case d := <-l.draws:
			l.drawing = false
			l.takeDraw(ctx, d)
			continue
		case <-timer.C:
		}
		wait := standbyEvery
		if l.leading.Load() {
			l.lead(ctx)
			wait = beatEvery
		} else if err := l.standBy(ctx); err != nil && ctx.Err() == nil {
			l.log.Warn("room's store cannot be reached", "error", err)
		} else if l.leading.Load() {
			wait = 0
		}
		timer.Reset(wait)
	}
}

// call bounds one store call.
func (l *leader) call(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return f(ctx)
}

// standBy watches the leader and takes its place when it is silent.
func (l *leader) standBy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	c, err := l.store.Control(ctx, l.name)
	if errors.Is(err, queue.ErrNoRoom) {
		if err := l.store.Create(ctx, l.name); err != nil {
			return fmt.Errorf("create room: %w", err)
		}
		c, err = l.store.Control(ctx, l.name)
	}
	if err != nil {
		return fmt.Errorf("read control record: %w", err)
	}
	if c.Token != "" && c.StoreMs-c.BeatMs <= leaderDeadMs {
		return l.watch(ctx, &c)
	}
	token := random()
	switch err := l.store.Lead(ctx, l.name, c.Token, token); {
	case errors.Is(err, queue.ErrNotLeader):
		return nil // another was quicker
	case err != nil:
		return fmt.Errorf("take the lead: %w", err)
	}
	l.take(token, c)
	return nil
}

// watch keeps in memory what this process would need if it had to lead and the store had lost it.
func (l *leader) watch(ctx context.Context, c *queue.Control) error {
	if c.Gen == "" || len(c.Lines) == 0 {
		return nil
	}
	fc, err := room.ParseForecast(c.Forecast)
	if err != nil {
		return err
	}
	if l.memory.line != c.Line() || l.pubCount != fc.Published {
		if err := l.readLine(ctx, c.Line()); err != nil {
			return err
		}
		l.pubCount = fc.Published
	}
	l.version = fc.Status.Version
	edges, err := l.store.Edges(ctx, l.name)
	if err != nil {
		return fmt.Errorf("read edges: %w", err)
	}
	l.memorize(c, edges)
	l.memory.tick = time.Now().Add(-time.Duration(max(c.StoreMs-c.TickMs, 0)) * time.Millisecond)
	return nil
}

// take begins to lead where the last leader stopped.
func (l *leader) take(token string, c queue.Control) {
	l.token = token
	law, err := pace.NewLaw(l.o.Constants)
	if err != nil { // the constants were checked by New
		l.log.Error("law refused", "error", err)
		return
	}
	l.law, l.bear, l.coreRate = law, pace.Bear{}, 0
	l.reply, l.replied = queue.CallReply{}, false
	l.forecasts, l.came, l.turnover, l.lineMs, l.opened, l.openedOf = nil, nil, turnover{}, 0, nil, line.ID{}
	l.filled, l.filledOf = room.Filled{}, line.ID{}
	l.settings, l.settingsOf = l.first, nil
	if doc := l.memory.settings.Document; len(doc) > 0 {
		if s, err := room.Parse(doc); err == nil {
			l.settings = s
		}
	}
	l.healthyMs, l.fenceSince, l.waitFor, l.emptied = c.StoreMs, time.Time{}, nil, false
	l.capHigh = c.Settings.Cap
	l.lastPhase, l.lastLimit, l.wasOpenedMs, l.closedBefore = "", "", 0, line.ID{}
	fc, err := room.ParseForecast(c.Forecast)
	if err != nil {
		l.log.Warn("the last leader's forecast cannot be read", "error", err)
	}
	if fc.Filled != nil {
		l.filled, l.filledOf = *fc.Filled, fc.Status.Line
	}
	l.version, l.pubCount, l.status = max(l.version, fc.Status.Version), max(l.pubCount, fc.Published), nil
	if fc.Law != nil {
		if err := law.Restore(*fc.Law); err != nil {
			l.log.Warn("the last leader's law cannot be continued", "error", err)
		}
	}
	l.leading.Store(true)
	l.m.leading.WithLabelValues(l.name).Set(1)
	l.log.Info("leading the room", "label", l.o.Label)
}

func (l *leader) resign(why error) {
	if !l.leading.Load() {
		return
	}
	l.leading.Store(false)
	l.m.leading.WithLabelValues(l.name).Set(0)
	l.log.Warn("no longer leading the room", "why", why)
}

// lead does what is due: each 250 ms a tick, in between seals.
func (l *leader) lead(ctx context.Context) {
	now := time.Now()
	callDue, sealDue := now.Sub(l.lastCallAt) >= callEvery, now.Sub(l.lastSealAt) >= sealEvery
	if !callDue && !sealDue {
		return
	}
	err := l.step(ctx, callDue)
	if callDue {
		l.lastCallAt = now
		l.m.tickTime.WithLabelValues(l.name).Observe(time.Since(now).Seconds())
	}
	l.lastSealAt = now
	var g *queue.GenError
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.Is(err, queue.ErrNotLeader), errors.Is(err, queue.ErrNoRoom):
		l.resign(err)
	case errors.As(err, &g):
		l.log.Warn("store is at another generation", "error", err) // the next step reads which
	case errors.Is(err, queue.ErrChain), errors.Is(err, queue.ErrBackwards), errors.Is(err, queue.ErrReplication):
		l.log.Warn("step refused, repeated with the next", "error", err)
	default:
		l.m.storeError.WithLabelValues(l.name).Inc()
		l.healthyMs = 0 // silence of edges counts anew once the store answers
		l.log.Warn("room's store does not answer", "error", err)
	}
}

// step is one round with the store.
func (l *leader) step(ctx context.Context, callDue bool) error {
	var c queue.Control
	if err := l.call(ctx, func(ctx context.Context) (err error) {
		if callDue {
			if err = l.store.Beat(ctx, l.name, l.token); err != nil {
				return err
			}
		}
		c, err = l.store.Control(ctx, l.name)
		return err
	}); err != nil {
		return fmt.Errorf("read control record: %w", err)
	}
	if c.Token != l.token {
		return queue.ErrNotLeader
	}
	if l.healthyMs == 0 {
		l.healthyMs = c.StoreMs
	}
	if c.Gen == "" || !l.fenceSince.IsZero() {
		return l.recover(ctx, c)
	}
	if err := l.prepare(ctx, &c); err != nil {
		return err
	}
	var edges []queue.EdgeState
	if err := l.call(ctx, func(ctx context.Context) (err error) { edges, err = l.store.Edges(ctx, l.name); return err }); err != nil {
		return fmt.Errorf("read edges: %w", err)
	}
	l.memorize(&c, edges)
	if err := l.seal(ctx, &c, edges); err != nil {
		return err
	}
	if !callDue {
		return nil
	}
	return l.tick(ctx, c, edges)
}

// memorize keeps what a store that lost it would have to be told.
func (l *leader) memorize(c *queue.Control, edges []queue.EdgeState) {
	now := time.Now()
	m := &l.memory
	m.line, m.published, m.honours, m.lanes, m.settings = c.Line(), l.published, l.opened.Record.Honours, len(c.Lanes), c.Settings
	m.edges = make(map[line.Incarnation]time.Time, len(edges))
	for _, e := range edges {
		if !e.Bye {
			m.edges[e.Edge] = now.Add(-time.Duration(max(c.StoreMs-e.SeenMs, 0)) * time.Millisecond)
		}
	}
}

// recover brings a room whose gen is unset to a new one. A room without edges or history, as at the first start or after a restart of an
// embedded store, gets it at once. After a failover the edges give back what they know first, and claims on the old process must have
// stopped for sure. A store that came back empty gets the line and settings back from this leader's memory, and its door stays shut until
// every pass of edges that nobody knows any more has run out.
func (l *leader) recover(ctx context.Context, c queue.Control) error {
	if c.Gen != "" { // set, though the answer was lost
		l.endFence()
		return nil
	}
	now := time.Now()
	var edges []queue.EdgeState
	if err := l.call(ctx, func(ctx context.Context) (err error) { edges, err = l.store.Edges(ctx, l.name); return err }); err != nil {
		return fmt.Errorf("read edges: %w", err)
	}
	if l.fenceSince.IsZero() {
		l.fence(now, &c, edges)
	}
	if len(c.Lines) == 0 && !l.emptied {
		if len(edges) == 0 && now.Sub(l.fenceSince) < newRoomWait {
			return nil
		}
		l.emptied = len(edges) > 0 // edges that gave something back to a room that has no line
	}
	if l.emptied && len(c.Lines) == 0 && !l.memory.line.IsZero() {
		if err := l.giveBack(ctx, &c); err != nil {
			return fmt.Errorf("give the line back to an emptied store: %w", err)
		}
	}
	for _, e := range edges {
		if was, ok := l.waitFor[e.Edge]; ok && e.SeenMs > was {
			delete(l.waitFor, e.Edge)
		}
	}
	fenced := now.Sub(l.fenceSince)
	if l.emptied {
		if fenced < time.Duration(l.settings.IdleS+1)*time.Second {
			return nil
		}
	} else {
		tickOver := c.TickMs == 0 || c.StoreMs-c.TickMs >= failoverMs
		tickOver = tickOver && now.Sub(l.memory.tick) >= failoverMs*time.Millisecond
		if (len(l.waitFor) > 0 || !tickOver) && fenced < failoverMost {
			return nil
		}
	}
	if len(l.waitFor) > 0 {
		l.log.Warn("edges gave nothing back in time", "edges", len(l.waitFor))
	}
	if err := l.prepare(ctx, &c); err != nil {
		return err
	}
	if err := l.call(ctx, func(ctx context.Context) error { return l.store.Regen(ctx, l.name, l.token, random()) }); err != nil {
		return fmt.Errorf("set generation: %w", err)
	}
	l.m.failovers.WithLabelValues(l.name).Inc()
	l.log.Info("store has a generation again", "after", fenced, "emptied", l.emptied)
	l.endFence()
	return nil
}

// fence begins to wait for the edges.
func (l *leader) fence(now time.Time, c *queue.Control, edges []queue.EdgeState) {
	l.fenceSince, l.waitFor = now, map[line.Incarnation]int64{}
	for inc, seen := range l.memory.edges {
		if now.Sub(seen) <= recentEdgeMs*time.Millisecond {
			l.waitFor[inc] = 0
		}
	}
	for _, e := range edges {
		if !e.Bye && (e.SeenMs > c.StoreMs-recentEdgeMs || l.waitFor[e.Edge] == 0 && len(l.memory.edges) > 0) {
			l.waitFor[e.Edge] = e.SeenMs
		}
	}
	l.emptied = len(c.Lines) == 0 && !l.memory.line.IsZero()
	l.log.Info("store has no generation, it is asked for what edges know", "edges", len(l.waitFor), "emptied", l.emptied, "run_id", c.RunID)
}

func (l *leader) endFence() {
	l.fenceSince, l.waitFor, l.emptied, l.healthyMs = time.Time{}, nil, false, 0
}

// giveBack makes the remembered line and settings the store's again. Seals, calls, sessions and used stamps come from the edges.
func (l *leader) giveBack(ctx context.Context, c *queue.Control) error {
	m := &l.memory
	if err := l.call(ctx, func(ctx context.Context) error { return l.store.Configure(ctx, l.name, "", l.token, m.settings) }); err != nil {
		return err
	}
	state := queue.LineState{Line: m.line, Published: m.published, Honours: m.honours, Lanes: make([]queue.LaneControl, m.lanes)}
	if err := l.call(ctx, func(ctx context.Context) error { return l.store.StartLine(ctx, l.name, "", l.token, state) }); err != nil {
		return err
	}
	l.pubCount++
	return l.call(ctx, func(ctx context.Context) (err error) { *c, err = l.store.Control(ctx, l.name); return err })
}

// prepare makes sure that the room has settings and a line, and brings what this leader knows of both up to date.
func (l *leader) prepare(ctx context.Context, c *queue.Control) error {
	if len(c.Settings.Document) == 0 {
		first := l.first
		if first.Message != "" {
			first.MessageAtMs = c.StoreMs
		}
		if err := l.configure(ctx, c, first, 1); err != nil {
			return fmt.Errorf("write first settings: %w", err)
		}
		l.log.Info("first settings written")
	}
	if !bytes.Equal(l.settingsOf, c.Settings.Document) {
		s, err := room.Parse(c.Settings.Document)
		if err != nil {
			l.log.Error("settings in the store cannot be read, the last good ones stay", "version", c.Settings.Version, "error", err)
		} else {
			l.settings = s
			if err := l.law.SetDial(s.DoorDial); err != nil {
				l.log.Warn("door dial refused", "error", err)
			}
		}
		l.settingsOf = c.Settings.Document
	}
	if len(c.Lines) == 0 {
		if err := l.startLine(ctx, c, nil); err != nil {
			return fmt.Errorf("start the first line: %w", err)
		}
	}
	if l.openedOf != c.Line() {
		return l.readLine(ctx, c.Line())
	}
	return nil
}

// readLine reads the current line's published part.
func (l *leader) readLine(ctx context.Context, id line.ID) error {
	var s queue.LineState
	if err := l.call(ctx, func(ctx context.Context) (err error) { s, err = l.store.Line(ctx, l.name, id); return err }); err != nil {
		return fmt.Errorf("read line %s: %w", id, err)
	}
	opened, err := s.Published.Open()
	if err != nil {
		return fmt.Errorf("read line %s: %w", id, err)
	}
	if l.openedOf != id {
		l.forecasts, l.came = make([]forecast.Lane, len(opened.Record.Lanes)), make([]float64, len(opened.Record.Lanes))
		if l.filledOf != id {
			l.filled, l.filledOf, l.lineMs = room.Filled{}, id, 0
		}
		l.pasts = make([][]past, len(opened.Record.Lanes))
		l.wasOpenedMs, l.lobby = 0, nil
	}
	l.opened, l.openedOf, l.published = &opened, id, s.Published
	return nil
}

// configure writes a document and what follows from the room's state; c is brought up to date.
func (l *leader) configure(ctx context.Context, c *queue.Control, s room.Settings, version uint64) error {
	set, err := s.Store(version, l.pause(s), l.rate(s))
	if err != nil {
		return err
	}
	if err := l.call(ctx, func(ctx context.Context) error { return l.store.Configure(ctx, l.name, c.Gen, l.token, set) }); err != nil {
		return err
	}
	c.Settings = set.WithDefaults()
	return nil
}

// pause is why the store admits nobody; empty when it may.
func (l *leader) pause(s room.Settings) string {
	switch s.Mode {
	case room.ModePaused:
		return string(line.PhasePaused)
	case room.ModeDraining:
		return string(line.PhaseDraining)
	case room.ModeMaintenance:
		return string(line.PhaseMaintenance)
	case room.ModeEnded:
		return string(line.PhaseEnded)
	}
	if l.health.soldOut {
		return string(line.PhaseSoldOut)
	}
	return ""
}

// rate is the rate in force: the operator's, or what the core bears if that is less.
func (l *leader) rate(s room.Settings) float64 {
	if l.coreRate > 0 && l.coreRate < s.RatePerSecond {
		return l.coreRate
	}
	return s.RatePerSecond
}
