// Package controller is the half of the waiting room that runs once per room: it starts lines, seals windows, decides how far each lane
// is called, hands freed places back, follows operators and the core, and brings a room through the failover of its store.
//
// Any number of processes may run a controller; the room's own store decides which one leads. The others stand by and take over
// within 2 s. What the leader knows that is worth keeping it publishes with every call, so that a successor goes on where it
// stopped. No fan depends on a controller to stay inside; without one for 3 s nobody new is let in.
package controller

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/pace"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// Beacon finds the public randomness of draws that are not drawn by the operator's own machine.
type Beacon interface {
	// Fix completes a draw of a line record: the chain and round whose value becomes public after afterMs (Unix milliseconds), and
	// when that is.
	Fix(d line.Draw, afterMs int64) (line.Draw, error)
	// Value fetches and verifies the value of a fixed draw. ErrNotYet (wrapped or not) means that it is not public yet.
	Value(ctx context.Context, d line.Draw) (line.DrawResult, error)
	// Check verifies a value that an operator typed in.
	Check(d line.Draw, r line.DrawResult) error
}

// Errors of the controller; test with errors.Is. Settings that are not valid are room.ErrSettings.
var (
	ErrNotYet     = errors.New("controller: the draw's value is not public yet")
	ErrNotLeading = errors.New("controller: another process leads this room")
	ErrNoRoom     = errors.New("controller: no such room")
	ErrConflict   = errors.New("controller: the settings were changed by somebody else meanwhile")
	ErrReason     = errors.New("controller: a change needs a name and a reason")
	ErrNoDraw     = errors.New("controller: no draw waits for a value")
	ErrNotReady   = errors.New("controller: the room is starting or its store is away")
)

// Options are what a controller needs. Constants, Beacon, Logger and Registerer may be left out.
type Options struct {
	Store     queue.Store
	Rooms     map[string]room.Settings // the first version of each room's document
	RecordKey ed25519.PrivateKey       // signs line records
	Beacon    Beacon                   // needed by rooms whose draw is drand
	Constants pace.Constants           // zero: pace.Defaults; each room's door dial replaces Dial
	Label     string                   // this process, for people

	// LineMaxAge is how old the line of a room grows that is open: then an empty line takes its place, so that a room that stands before
	// a site for months does not keep every window since its first day. 24 h when zero.
	LineMaxAge time.Duration

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Controller runs the rooms of one process. Its methods are safe for concurrent use.
type Controller struct {
	o     Options
	rooms map[string]*leader
}

// New checks the options; nothing runs before Run.
func New(o Options) (*Controller, error) {
	if o.Store == nil {
		return nil, errors.New("controller: a store is needed")
	}
	if len(o.RecordKey) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("controller: record key has %d bytes, want %d", len(o.RecordKey), ed25519.PrivateKeySize)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Constants == (pace.Constants{}) {
		o.Constants = pace.Defaults()
	}
	if o.LineMaxAge <= 0 {
		o.LineMaxAge = 24 * time.Hour
	}
	if err := o.Constants.Validate(); err != nil {
		return nil, fmt.Errorf("controller: %w", err)
	}
	m := newMetrics(o.Registerer)
	c := &Controller{o: o, rooms: map[string]*leader{}}
	for name, s := range o.Rooms {
		if !room.ValidName(name) {
			return nil, fmt.Errorf("controller: room %q: a name has 1 to 32 of a-z 0-9 -", name)
		}
		if err := s.Validate(); err != nil {
			return nil, fmt.Errorf("controller: room %q: %w", name, err)
		}
		if s.Opening.Draw.Kind == line.DrawDrand && o.Beacon == nil {
			return nil, fmt.Errorf("controller: room %q: a draw by drand needs a beacon", name)
		}
		c.rooms[name] = newLeader(name, o, s, m)
	}
	return c, nil
}

// Run keeps all rooms until ctx ends. It may be called once.
func (c *Controller) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, l := range c.rooms {
		wg.Go(func() { l.run(ctx) })
	}
	wg.Wait()
	return nil
}

// Rooms are the rooms' names, sorted.
func (c *Controller) Rooms() []string {
	names := make([]string, 0, len(c.rooms))
	for n := range c.rooms {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (c *Controller) room(name string) (*leader, error) {
	l := c.rooms[name]
	if l == nil {
		return nil, fmt.Errorf("%w: %q", ErrNoRoom, name)
	}
	return l, nil
}

// Change is an accepted change of a room's settings, for the audit.
type Change struct {
	Room    string        `json:"room"`
	Version uint64        `json:"version"` // after the change
	Who     string        `json:"who"`
	Reason  string        `json:"reason"`
	At      time.Time     `json:"at"`
	Changes []room.Change `json:"changes"`
}

// Document is a room's settings document with its version.
type Document struct {
	Version  uint64        `json:"version"`
	Settings room.Settings `json:"settings"`
}

// Settings reads the document in force from the room's store.
func (c *Controller) Settings(ctx context.Context, name string) (Document, error) {
	l, err := c.room(name)
	if err != nil {
		return Document{}, err
	}
	ctl, err := c.o.Store.Control(ctx, name)
	if err != nil {
		return Document{}, fmt.Errorf("read settings of room %s: %w", name, err)
	}
	if len(ctl.Settings.Document) == 0 {
		return Document{Settings: l.first}, nil
	}
	s, err := room.Parse(ctl.Settings.Document)
	if err != nil {
		return Document{}, fmt.Errorf("read settings of room %s: %w", name, err)
	}
	return Document{Version: ctl.Settings.Version, Settings: s}, nil
}

// Preview says what a document would change, without changing anything. The error is room.ErrSettings with everything that is
// wrong with it.
func (c *Controller) Preview(ctx context.Context, name string, doc []byte) ([]room.Change, error) {
	now, err := c.Settings(ctx, name)
	if err != nil {
		return nil, err
	}
	next, err := room.Parse(doc)
	if err != nil {
		return nil, err
	}
	ctl, err := c.o.Store.Control(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read room %s: %w", name, err)
	}
	if len(ctl.Lines) > 0 {
		opened := now.Settings.Opening.OpensAtMs <= ctl.StoreMs
		if err := now.Settings.Within(next, opened); err != nil {
			return nil, err
		}
	}
	return now.Settings.Changes(next)
}

// Apply replaces a room's settings document. ifVersion is the version that the caller has seen: another one in force is ErrConflict. Who
// and reason go into the audit. It returns ErrNotLeading in a process that stands by.
func (c *Controller) Apply(ctx context.Context, name string, doc []byte, ifVersion uint64, who, reason string) (Change, error) {
	next, err := room.Parse(doc)
	if err != nil {
		return Change{}, err
	}
	return c.change(ctx, name, who, reason, func(now *room.Settings, version uint64) error {
		if version != ifVersion {
			return fmt.Errorf("%w: version %d is in force, not %d", ErrConflict, version, ifVersion)
		}
		*now = next
		return nil
	})
}

// NewLine starts another line under a new document, which may differ in everything. With honour, the tickets of the lines that are
// claimable now stay good, and their holders are called before those of the new line; without, those lines are over.
func (c *Controller) NewLine(ctx context.Context, name string, doc []byte, ifVersion uint64, honour bool, who, reason string) (Change, error) {
	l, err := c.room(name)
	if err != nil {
		return Change{}, err
	}
	if who == "" || reason == "" {
		return Change{}, ErrReason
	}
	next, err := room.Parse(doc)
	if err != nil {
		return Change{}, err
	}
	var out Change
	err = l.do(ctx, func(ctx context.Context) error {
		var err error
		out, err = l.newLine(ctx, next, ifVersion, honour, who, reason)
		return err
	})
	return out, err
}

// SetMode is an operator's action: pause, resume (room.ModeNormal), queue-all, admit-all, drain, maintenance, end.
func (c *Controller) SetMode(ctx context.Context, name string, mode room.Mode, who, reason string) (Change, error) {
	return c.change(ctx, name, who, reason, func(s *room.Settings, _ uint64) error { s.Mode = mode; return nil })
}

// SetRate changes how many fans are let in a second, at most.
func (c *Controller) SetRate(ctx context.Context, name string, perSecond float64, who, reason string) (Change, error) {
	return c.change(ctx, name, who, reason, func(s *room.Settings, _ uint64) error { s.RatePerSecond = perSecond; return nil })
}

// SetCap changes how many fans may be inside. Lowering it puts nobody out.
func (c *Controller) SetCap(ctx context.Context, name string, inside int64, who, reason string) (Change, error) {
	return c.change(ctx, name, who, reason, func(s *room.Settings, _ uint64) error { s.Cap = inside; return nil })
}

// SetMessage changes the organiser's words, shown with their time to everybody in line.
func (c *Controller) SetMessage(ctx context.Context, name, text, who, reason string) (Change, error) {
	return c.change(ctx, name, who, reason, func(s *room.Settings, _ uint64) error { s.Message = text; return nil })
}

func (c *Controller) change(ctx context.Context, name, who, reason string, edit func(*room.Settings, uint64) error) (Change, error) {
	l, err := c.room(name)
	if err != nil {
		return Change{}, err
	}
	if who == "" || reason == "" {
		return Change{}, ErrReason
	}
	var out Change
	err = l.do(ctx, func(ctx context.Context) error {
		var err error
		out, err = l.changeSettings(ctx, who, reason, edit)
		return err
	})
	return out, err
}

// Announce gives a draw its public value, typed in by an operator: the announced number, or a drand round's JSON taken apart. The value
// of a drand round is verified.
func (c *Controller) Announce(ctx context.Context, name string, result line.DrawResult, who, reason string) error {
	l, err := c.room(name)
	if err != nil {
		return err
	}
	if who == "" || reason == "" {
		return ErrReason
	}
	return l.do(ctx, func(ctx context.Context) error { return l.announce(ctx, result, who, reason) })
}

// Report takes in how what the room protects is doing; about one a second. It returns ErrNotLeading in a process that stands
// by, so that the sender can go to the next.
func (c *Controller) Report(_ context.Context, name string, r Report) error {
	l, err := c.room(name)
	if err != nil {
		return err
	}
	return l.report(r)
}

// Leading reports whether this process leads the room.
func (c *Controller) Leading(name string) bool {
	l := c.rooms[name]
	return l != nil && l.leading.Load()
}

// Live is a room at one moment, for consoles.
type Live struct {
	Room     string            `json:"room"`
	StoreMs  int64             `json:"store_ms"`
	TickMs   int64             `json:"tick_ms"`
	Active   int64             `json:"active"`
	Open     bool              `json:"open"`
	Late     int64             `json:"late"` // tickets reported after their window was sealed
	Settings Document          `json:"settings"`
	Forecast room.Forecast     `json:"forecast"`
	Edges    []queue.EdgeState `json:"edges"`
	Leading  bool              `json:"leading"` // this process leads

	Origin       *room.OriginState `json:"origin,omitempty"` // last word on what the room protects
	GrantedTotal int64             `json:"granted_total"`    // fans let in since the room was created, exactly
}

// Live reads a room's state from its store.
func (c *Controller) Live(ctx context.Context, name string) (Live, error) {
	l, err := c.room(name)
	if err != nil {
		return Live{}, err
	}
	ctl, err := c.o.Store.Control(ctx, name)
	if err != nil {
		return Live{}, fmt.Errorf("read room %s: %w", name, err)
	}
	edges, err := c.o.Store.Edges(ctx, name)
	if err != nil {
		return Live{}, fmt.Errorf("read edges of room %s: %w", name, err)
	}
	v := Live{
		Room: name, StoreMs: ctl.StoreMs, TickMs: ctl.TickMs, Active: ctl.Active, Open: ctl.Open, Late: ctl.Late,
		Settings: Document{Settings: l.first}, Edges: edges, Leading: l.leading.Load(),
	}
	if v.Forecast, err = room.ParseForecast(ctl.Forecast); err != nil {
		return Live{}, fmt.Errorf("read room %s: %w", name, err)
	}
	v.Forecast.Law = nil
	v.Origin, v.GrantedTotal = v.Forecast.Origin, v.Forecast.Gauges.GrantedTotal
	if len(ctl.Settings.Document) > 0 {
		if v.Settings.Settings, err = room.Parse(ctl.Settings.Document); err != nil {
			return Live{}, fmt.Errorf("read settings of room %s: %w", name, err)
		}
		v.Settings.Version = ctl.Settings.Version
	}
	return v, nil
}

// random is 128 random bits in hexadecimal.
func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
