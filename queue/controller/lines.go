package controller

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// startLine signs a line record by the room's settings and makes the line current. It honours the given lines.
func (l *leader) startLine(ctx context.Context, c *queue.Control, honours []line.ID) error {
	rec, err := l.record(c.StoreMs, honours)
	if err != nil {
		return err
	}
	signed, err := line.SignRecord(l.o.RecordKey, rec)
	if err != nil {
		return err
	}
	state := queue.LineState{
		Line: rec.Line, Published: line.Published{Record: signed}, Honours: honours, Lanes: make([]queue.LaneControl, len(rec.Lanes)),
	}
	if err := l.call(ctx, func(ctx context.Context) error { return l.store.StartLine(ctx, l.name, c.Gen, l.token, state) }); err != nil {
		return err
	}
	l.log.Info("line started", "line", rec.Line.String(), "opens_at_ms", rec.OpensAtMs, "draw", string(rec.Draw.Kind))
	next := c.StoreMs
	gen := c.Gen
	if err := l.call(ctx, func(ctx context.Context) (err error) { *c, err = l.store.Control(ctx, l.name); return err }); err != nil {
		return err
	}
	if c.Gen != gen || c.StoreMs < next {
		return &queue.GenError{Gen: c.Gen, RunID: c.RunID}
	}
	return nil
}

// record is the statement of a new line.
func (l *leader) record(nowMs int64, honours []line.ID) (line.Record, error) {
	s := l.settings
	rec := line.Record{
		Version: 1, Room: l.name, EpochMs: nowMs, OpensAtMs: nowMs, WhoKind: s.Who.Kind(), Honours: honours, Policy: s.Policy,
	}
	_, _ = rand.Read(rec.Line[:]) // never fails
	for _, lane := range s.Lanes {
		rec.Lanes = append(rec.Lanes, line.LaneSpec{Name: lane.Name, Weight: uint32(lane.Weight)})
	}
	if s.Opening.OpensAtMs > nowMs {
		rec.OpensAtMs = s.Opening.OpensAtMs
		if s.Opening.Lobby {
			var err error
			if rec.Draw, err = l.fixDraw(s, rec.OpensAtMs); err != nil {
				return line.Record{}, err
			}
		}
	}
	return rec, nil
}

// operatorDelayMs is how long after the opening an operator's draw is due: as soon as it has happened.
const operatorDelayMs = 1

// fixDraw says how the lobby of an opening is drawn. The value becomes public after the lobby is closed.
func (l *leader) fixDraw(s room.Settings, opensAtMs int64) (line.Draw, error) {
	d := s.Opening.Draw
	due := opensAtMs + max(int64(d.DueInS)*1000, operatorDelayMs)
	switch d.Kind {
	case line.DrawOperator:
		return line.Draw{Kind: d.Kind, DueAt: opensAtMs + operatorDelayMs}, nil
	case line.DrawAnnounced:
		return line.Draw{Kind: d.Kind, Source: d.Source, DueAt: due}, nil
	case line.DrawDrand:
		fixed, err := l.o.Beacon.Fix(line.Draw{Kind: d.Kind, Chain: d.Chain, Round: d.Round}, due)
		if err != nil {
			return line.Draw{}, fmt.Errorf("fix the draw's round: %w", err)
		}
		return fixed, nil
	}
	return line.Draw{}, nil
}

// lobbyClosed reports whether every window of the lobby is sealed.
func (l *leader) lobbyClosed(c *queue.Control) bool { return c.Sealed >= l.opened.Record.LobbyEnd() }

// drawPending reports whether the line cannot be called because its draw has no value yet.
func (l *leader) drawPending() bool {
	return l.opened.Record.Draw.Kind != line.DrawNone && l.published.Result == nil
}

// draw brings a draw that is due forward. An operator's draw is made here, at the seal of the lobby and not before.
func (l *leader) draw(ctx context.Context, c *queue.Control) error {
	d := l.opened.Record.Draw
	if !l.drawPending() || !l.lobbyClosed(c) || c.StoreMs < d.DueAt {
		return nil
	}
	switch d.Kind {
	case line.DrawOperator:
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails
		return l.publish(ctx, c, line.DrawResult{Value: hex.EncodeToString(b[:])})
	case line.DrawDrand:
		if l.drawing || time.Since(l.lastDrawAt) < drawRetry || l.o.Beacon == nil {
			return nil
		}
		l.drawing, l.lastDrawAt = true, time.Now()
		id := l.openedOf
		go func() { // the beacon is on the network; the loop goes on meanwhile
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			r, err := l.o.Beacon.Value(ctx, d)
			l.draws <- drawn{id, r, err} // buffered, and only one is under way
		}()
	}
	return nil
}

// takeDraw publishes what the beacon brought.
func (l *leader) takeDraw(ctx context.Context, d drawn) {
	switch {
	case !l.leading.Load() || d.line != l.openedOf:
		return
	case errors.Is(d.err, ErrNotYet):
		return
	case d.err != nil:
		l.log.Warn("the draw's value cannot be had yet", "error", d.err)
		return
	}
	var c queue.Control
	err := l.call(ctx, func(ctx context.Context) (err error) { c, err = l.store.Control(ctx, l.name); return err })
	if err == nil && c.Line() == d.line && l.drawPending() {
		err = l.publish(ctx, &c, d.result)
	}
	if err != nil {
		l.log.Warn("the draw's value is not published yet", "error", err)
	}
}

// announce takes a value that an operator typed in.
func (l *leader) announce(ctx context.Context, r line.DrawResult, who, reason string) error {
	if l.opened == nil {
		return ErrNotReady
	}
	d := l.opened.Record.Draw
	if !l.drawPending() || d.Kind == line.DrawOperator {
		return ErrNoDraw
	}
	var c queue.Control
	if err := l.call(ctx, func(ctx context.Context) (err error) { c, err = l.store.Control(ctx, l.name); return err }); err != nil {
		return fmt.Errorf("read control record: %w", err)
	}
	if c.Line() != l.openedOf || !l.lobbyClosed(&c) || c.StoreMs < d.DueAt {
		return fmt.Errorf("%w: the lobby is not closed or the value is not due", ErrNoDraw)
	}
	r.Round = d.Round
	if d.Kind == line.DrawDrand {
		if l.o.Beacon == nil {
			return ErrNoDraw
		}
		if err := l.o.Beacon.Check(d, r); err != nil {
			return fmt.Errorf("check the draw's value: %w", err)
		}
	}
	if _, err := l.opened.Opening(&r); err != nil {
		return room.Problems{{Key: "value", Value: "not usable", Want: "32 to 128 hexadecimal digits"}}
	}
	if err := l.publish(ctx, &c, r); err != nil {
		return err
	}
	l.log.Info("draw's value announced", "who", who, "reason", reason)
	return nil
}

// publish makes the draw's value part of the line.
func (l *leader) publish(ctx context.Context, c *queue.Control, r line.DrawResult) error {
	if _, err := l.opened.Opening(&r); err != nil {
		return err
	}
	p := l.published
	p.Result = &r
	return l.update(ctx, c, p)
}

// update replaces the current line's published part.
func (l *leader) update(ctx context.Context, c *queue.Control, p line.Published) error {
	state := queue.LineState{Line: l.openedOf, Published: p, Honours: l.opened.Record.Honours, Lanes: c.Lanes}
	if err := l.call(ctx, func(ctx context.Context) error { return l.store.UpdateLine(ctx, l.name, c.Gen, l.token, state) }); err != nil {
		return fmt.Errorf("publish line %s: %w", l.openedOf, err)
	}
	if err := l.readLine(ctx, l.openedOf); err != nil {
		return err
	}
	l.pubCount++
	l.log.Info("line's record grew", "line", l.openedOf.String(), "amendments", len(p.Amendments), "drawn", p.Result != nil)
	return nil
}

// moveOpening signs an amendment for a new opening time.
func (l *leader) moveOpening(ctx context.Context, c *queue.Control, s room.Settings, reason string) error {
	a := line.Amendment{OpensAtMs: s.Opening.OpensAtMs, MadeAtMs: c.StoreMs, Reason: reason}
	if l.opened.Record.Draw.Kind != line.DrawNone {
		var err error
		if a.Draw, err = l.fixDraw(s, a.OpensAtMs); err != nil {
			return err
		}
	}
	signed, err := line.Amend(l.o.RecordKey, l.published, a)
	if err != nil {
		return room.Problems{{Key: "opening.opens_at_ms", Value: fmt.Sprint(s.Opening.OpensAtMs), Want: "an opening that the record's rules allow: " + err.Error()}}
	}
	p := l.published
	p.Amendments = append(p.Amendments[:len(p.Amendments):len(p.Amendments)], signed)
	return l.update(ctx, c, p)
}

// newLine starts another line under a new document. With honour, everybody of the lines before is called first.
func (l *leader) newLine(ctx context.Context, next room.Settings, ifVersion uint64, honour bool, who, reason string) (Change, error) {
	var c queue.Control
	if err := l.call(ctx, func(ctx context.Context) (err error) { c, err = l.store.Control(ctx, l.name); return err }); err != nil {
		return Change{}, fmt.Errorf("read settings: %w", err)
	}
	if c.Token != l.token {
		return Change{}, ErrNotLeading
	}
	if len(c.Settings.Document) == 0 || c.Gen == "" {
		return Change{}, ErrNotReady
	}
	if c.Settings.Version != ifVersion {
		return Change{}, fmt.Errorf("%w: version %d is in force, not %d", ErrConflict, c.Settings.Version, ifVersion)
	}
	if next.Opening.Draw.Kind == line.DrawDrand && l.o.Beacon == nil {
		return Change{}, room.Problems{{Key: "opening.draw.kind", Value: "drand", Want: "another kind: this process has no beacon"}}
	}
	now, err := room.Parse(c.Settings.Document)
	if err != nil {
		return Change{}, fmt.Errorf("read settings: %w", err)
	}
	changes, err := now.Changes(next)
	if err != nil {
		return Change{}, err
	}
	var honours []line.ID
	if honour {
		honours = c.Lines
		if over := len(honours) - line.MaxHonours; over > 0 {
			honours = honours[over:]
		}
	}
	was := l.settings
	l.settings = next
	if err := l.startLine(ctx, &c, honours); err != nil {
		l.settings = was
		return Change{}, fmt.Errorf("start line: %w", err)
	}
	if err := l.configure(ctx, &c, next, c.Settings.Version+1); err != nil {
		return Change{}, fmt.Errorf("write settings: %w", err)
	}
	l.settingsOf = c.Settings.Document
	if err := l.readLine(ctx, c.Line()); err != nil {
		return Change{}, err
	}
	l.pubCount++
	l.lastCallAt = time.Time{}
	l.log.Info("another line", "line", c.Line().String(), "honours", len(honours), "who", who, "reason", reason)
	return Change{Room: l.name, Version: c.Settings.Version, Who: who, Reason: reason, At: time.UnixMilli(c.StoreMs).UTC(), Changes: changes}, nil
}

// changeSettings applies an edit to the document in force.
func (l *leader) changeSettings(ctx context.Context, who, reason string, edit func(*room.Settings, uint64) error) (Change, error) {
	var c queue.Control
	if err := l.call(ctx, func(ctx context.Context) (err error) { c, err = l.store.Control(ctx, l.name); return err }); err != nil {
		return Change{}, fmt.Errorf("read settings: %w", err)
	}
	if c.Token != l.token {
		return Change{}, ErrNotLeading
	}
	if len(c.Settings.Document) == 0 || l.opened == nil || l.openedOf != c.Line() || c.Gen == "" {
		return Change{}, ErrNotReady
	}
	now, err := room.Parse(c.Settings.Document)
	if err != nil {
		return Change{}, fmt.Errorf("read settings: %w", err)
	}
	next := now
	next.Lanes = append([]room.Lane(nil), now.Lanes...)
	if err := edit(&next, c.Settings.Version); err != nil {
		return Change{}, err
	}
	if next.Message != now.Message {
		next.MessageAtMs = c.StoreMs
		if next.Message == "" {
			next.MessageAtMs = 0
		}
	}
	if err := next.Validate(); err != nil {
		return Change{}, err
	}
	if err := now.Within(next, l.opened.Record.OpensAtMs <= c.StoreMs); err != nil {
		return Change{}, err
	}
	changes, err := now.Changes(next)
	if err != nil {
		return Change{}, err
	}
	out := Change{Room: l.name, Version: c.Settings.Version, Who: who, Reason: reason, At: time.UnixMilli(c.StoreMs).UTC(), Changes: changes}
	if len(changes) == 0 {
		return out, nil
	}
	if next.Opening.OpensAtMs != now.Opening.OpensAtMs {
		if err := l.moveOpening(ctx, &c, next, reason); err != nil {
			return Change{}, err
		}
	}
	if err := l.configure(ctx, &c, next, c.Settings.Version+1); err != nil {
		return Change{}, fmt.Errorf("write settings: %w", err)
	}
	out.Version = c.Settings.Version
	l.settings, l.settingsOf = next, c.Settings.Document
	l.lastCallAt = time.Time{} // tell everybody with the next step
	keys := make([]string, len(changes))
	for i, ch := range changes {
		keys[i] = ch.Key
	}
	l.log.Info("settings changed", "version", out.Version, "keys", keys, "who", who, "reason", reason)
	return out, nil
}
