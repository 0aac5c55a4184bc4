package desk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// Options are what a desk is built from.
type Options struct {
	Rooms      Rooms
	Sales      Sales            // nil: nothing is sold behind any room
	Fleet      Fleet            // nil: edges are not known
	Every      time.Duration    // between two looks at a room; 0: 1 s
	MaxViewers int              // live streams at once; 0: 64
	Now        func() time.Time // nil: time.Now
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Desk answers what is going on and makes changes. Safe for concurrent use.
type Desk struct {
	*Recorder
	rooms   Rooms
	log     *slog.Logger
	changes *prometheus.CounterVec
}

// New returns a desk; Run keeps it informed.
func New(o Options) (*Desk, error) {
	if o.Rooms == nil || o.Log == nil || o.Registerer == nil {
		return nil, errors.New("desk: Rooms, Log and Registerer are needed")
	}
	d := &Desk{rooms: o.Rooms, log: o.Log, changes: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "stanchion_console_changes_total", Help: "Changes of rooms' settings asked for in the console, by outcome.",
	}, []string{"outcome"})}
	var err error
	if d.Recorder, err = newRecorder(o); err != nil {
		return nil, err
	}
	if err := o.Registerer.Register(d.changes); err != nil {
		return nil, fmt.Errorf("register the desk's metrics: %w", err)
	}
	for _, outcome := range []string{"stored", "invalid", "conflict", "unknown"} {
		d.changes.WithLabelValues(outcome)
	}
	return d, nil
}

// Fields describes the keys of a settings document.
func (d *Desk) Fields() []Field { return d.rooms.Fields() }

// Field looks up one of them.
func (d *Desk) Field(key string) (Field, bool) { return find(d.rooms.Fields(), key) }

// Settings is a room's current settings document. ErrNoRoom.
func (d *Desk) Settings(ctx context.Context, room string) (Document, error) {
	doc, err := d.rooms.Settings(ctx, room)
	if err != nil {
		return Document{}, fmt.Errorf("read the settings of %s: %w", room, err)
	}
	return doc, nil
}

// Preview is what a document would change.
type Preview struct {
	Version  string    `json:"version" doc:"Version that the document was compared with."`
	Changes  []Change  `json:"changes"`
	Problems []Problem `json:"problems" doc:"Why the document would be refused; empty: it would not."`
	Effects  []string  `json:"effects" doc:"What it will do to the room as it is now, in words."`
	Danger   bool      `json:"danger" doc:"It does what cannot be taken back for the fans it reaches."`
}

// Preview compares a document with the current one and says what would happen. Nothing is stored. ErrNoRoom, *Invalid for what
// is not a JSON object.
func (d *Desk) Preview(ctx context.Context, room string, doc []byte) (Preview, error) {
	cur, err := d.Settings(ctx, room)
	if err != nil {
		return Preview{}, err
	}
	return d.preview(room, cur, doc)
}

func (d *Desk) preview(room string, cur Document, doc []byte) (Preview, error) {
	if _, err := Values(doc); err != nil {
		return Preview{}, err
	}
	p := Preview{Version: cur.Version, Changes: Diff(cur.JSON, doc, d.rooms.Fields()), Problems: d.rooms.Check(room, doc), Effects: []string{}}
	if p.Problems == nil {
		p.Problems = []Problem{}
	}
	var live *Live
	if look, ok := d.Look(room); ok && !look.Stale {
		live = &look.Live
	}
	p.Effects = append(p.Effects, effects(live, p.Changes, d.rooms.Fields())...)
	p.Danger = slices.ContainsFunc(p.Changes, func(c Change) bool {
		a, ok := ActionFor(c.To)
		return c.Key == ModeKey && ok && a.Danger
	})
	return p, nil
}

// Applied is a change that was made.
type Applied struct {
	Version string   `json:"version" doc:"Version now."`
	Before  string   `json:"before" doc:"Version before; the same if nothing differed."`
	Changes []Change `json:"changes"`
	Effects []string `json:"effects"`
}

// PreviewEdits is Preview of the current document with values set at dotted paths.
func (d *Desk) PreviewEdits(ctx context.Context, room string, edits map[string]any) (Preview, error) {
	cur, err := d.Settings(ctx, room)
	if err != nil {
		return Preview{}, err
	}
	doc, err := Edit(cur.JSON, edits)
	if err != nil {
		return Preview{}, err
	}
	return d.preview(room, cur, doc)
}

// Put replaces a room's document if its version is ifVersion. who is the operator; why is the reason, 1 to MaxReason characters.
// A document equal to the current one changes nothing. ErrNoRoom, ErrConflict, ErrReason, *Invalid; another error leaves open whether the
// document was stored.
func (d *Desk) Put(ctx context.Context, room string, doc []byte, ifVersion, who, why string) (Applied, error) {
	cur, err := d.Settings(ctx, room)
	if err != nil {
		return Applied{}, err
	}
	if cur.Version != ifVersion {
		d.changes.WithLabelValues("conflict").Inc()
		return Applied{}, ErrConflict
	}
	return d.put(ctx, room, cur, doc, who, why)
}

// Set changes values at dotted paths. With ifVersion empty it is made over whatever version is current: for decisions that mean
// the same whoever else changed something.
func (d *Desk) Set(ctx context.Context, room string, edits map[string]any, ifVersion, who, why string) (Applied, error) {
	const tries = 4 // others can win in between; each of them made a change of their own
	for try := 1; ; try++ {
		cur, err := d.Settings(ctx, room)
		if err != nil {
			return Applied{}, err
		}
		if ifVersion != "" && cur.Version != ifVersion {
			d.changes.WithLabelValues("conflict").Inc()
			return Applied{}, ErrConflict
		}
		doc, err := Edit(cur.JSON, edits)
		if err != nil {
			return Applied{}, err
		}
		done, err := d.put(ctx, room, cur, doc, who, why)
		if errors.Is(err, ErrConflict) && ifVersion == "" && try < tries {
			continue
		}
		return done, err
	}
}

// Act does an action. ErrNoAction; else as Set.
func (d *Desk) Act(ctx context.Context, room, action, ifVersion, who, why string) (Applied, error) {
	a, err := FindAction(action)
	if err != nil {
		return Applied{}, err
	}
	return d.Set(ctx, room, map[string]any{ModeKey: a.Mode}, ifVersion, who, why)
}

// Undo puts the document back that was in force before the current one. The current version must be ifVersion unless that is
// empty. ErrNoUndo: there is no earlier version; else as Put.
func (d *Desk) Undo(ctx context.Context, room, ifVersion, who, why string) (Applied, error) {
	cur, err := d.Settings(ctx, room)
	if err != nil {
		return Applied{}, err
	}
	if ifVersion != "" && cur.Version != ifVersion {
		d.changes.WithLabelValues("conflict").Inc()
		return Applied{}, ErrConflict
	}
	past, err := d.rooms.History(ctx, room, 2)
	if err != nil {
		return Applied{}, fmt.Errorf("read the history of %s: %w", room, err)
	}
	if len(past) < 2 {
		return Applied{}, ErrNoUndo
	}
	if past[0].Version != cur.Version {
		return Applied{}, ErrConflict
	}
	return d.put(ctx, room, cur, past[1].JSON, who, why)
}

func (d *Desk) put(ctx context.Context, room string, cur Document, doc []byte, who, why string) (Applied, error) {
	why = strings.TrimSpace(why)
	if why == "" || !utf8.ValidString(why) || utf8.RuneCountInString(why) > MaxReason {
		return Applied{}, ErrReason
	}
	p, err := d.preview(room, cur, doc)
	if err == nil && len(p.Problems) > 0 {
		err = &Invalid{p.Problems}
	}
	if err != nil {
		d.changes.WithLabelValues("invalid").Inc()
		return Applied{}, err
	}
	out := Applied{Version: cur.Version, Before: cur.Version, Changes: p.Changes, Effects: p.Effects}
	if len(p.Changes) == 0 {
		return out, nil
	}
	out.Version, err = d.rooms.PutSettings(ctx, room, doc, cur.Version, who, why)
	var invalid *Invalid
	switch {
	case err == nil:
		d.changes.WithLabelValues("stored").Inc()
	case errors.Is(err, ErrConflict):
		d.changes.WithLabelValues("conflict").Inc()
		return Applied{}, ErrConflict
	case errors.As(err, &invalid):
		d.changes.WithLabelValues("invalid").Inc()
		return Applied{}, err
	default:
		d.changes.WithLabelValues("unknown").Inc()
		return Applied{}, fmt.Errorf("store the settings of %s: %w", room, err)
	}
	d.log.InfoContext(ctx, "room settings changed", "room", room, "version", out.Version, "who", who, "why", why, "keys", keys(p.Changes))
	d.refresh()
	return out, nil
}

func keys(changes []Change) []string {
	out := make([]string, len(changes))
	for i, c := range changes {
		out[i] = c.Key
	}
	return out
}

// Entry is one change of a room's settings.
type Entry struct {
	Room    string    `json:"room"`
	Version string    `json:"version"`
	At      time.Time `json:"at"`
	Who     string    `json:"who"`
	Why     string    `json:"why"`
	Changes []Change  `json:"changes" doc:"What differs from the version before; empty for the oldest that is kept."`
}

// What names the changes in one line.
func (e Entry) What() string {
	if len(e.Changes) == 0 {
		return "first version that is kept"
	}
	words := make([]string, 0, 3)
	for i, c := range e.Changes {
		if i == 3 {
			words = append(words, fmt.Sprintf("and %d more", len(e.Changes)-i))
			break
		}
		words = append(words, fmt.Sprintf("%s %s → %s", c.Key, shown(c.From), shown(c.To)))
	}
	return strings.Join(words, ", ")
}

func shown(v string) string {
	if v == "" {
		return "(none)"
	}
	return clip(v)
}

// History is a room's changes, newest first, at most limit (1 to 500). ErrNoRoom.
func (d *Desk) History(ctx context.Context, room string, limit int) ([]Entry, error) {
	past, err := d.rooms.History(ctx, room, limit+1) // one more: what the oldest changed is known by the one before it
	if err != nil {
		return nil, fmt.Errorf("read the history of %s: %w", room, err)
	}
	if len(past) == 0 { // a store may not tell a room without a history from one that does not exist
		if _, err := d.Settings(ctx, room); err != nil {
			return nil, err
		}
	}
	return entries(room, past, limit, d.rooms.Fields()), nil
}

func entries(room string, past []Revision, limit int, fields []Field) []Entry {
	out := make([]Entry, 0, min(len(past), limit))
	for i, r := range past[:min(len(past), limit)] {
		e := Entry{Room: room, Version: r.Version, At: r.At.UTC(), Who: r.Who, Why: r.Why, Changes: []Change{}}
		if i+1 < len(past) {
			e.Changes = Diff(past[i+1].JSON, r.JSON, fields)
		}
		out = append(out, e)
	}
	return out
}

// Audit is the changes of all rooms, newest first, at most limit (1 to 500) for each room and in all.
func (d *Desk) Audit(ctx context.Context, limit int) ([]Entry, error) {
	names, err := d.Names(ctx)
	if err != nil {
		return nil, err
	}
	all := []Entry{}
	for _, room := range names {
		e, err := d.History(ctx, room, limit)
		if err != nil {
			return nil, err
		}
		all = append(all, e...)
	}
	slices.SortStableFunc(all, func(a, b Entry) int { return b.At.Compare(a.At) })
	return all[:min(len(all), limit)], nil
}

// Names lists the rooms.
func (d *Desk) Names(ctx context.Context) ([]string, error) {
	names, err := d.rooms.Names(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the rooms: %w", err)
	}
	return names, nil
}

// Limit is one limit, and how near it is.
type Limit struct {
	Room    string   `json:"room,omitempty" doc:"Empty: the console's own."`
	Key     string   `json:"key"`
	Value   string   `json:"value"`
	Allowed string   `json:"allowed,omitempty"`
	Used    *float64 `json:"used,omitempty" doc:"How much of it is in use now, in its own unit."`
	Doc     string   `json:"doc,omitempty"`
}

// Limits lists the limits of every room, in the order of Fields, and the console's own.
func (d *Desk) Limits(ctx context.Context) ([]Limit, error) {
	names, err := d.Names(ctx)
	if err != nil {
		return nil, err
	}
	viewers := float64(d.viewers())
	out := []Limit{{Key: "viewers", Value: Count(int64(d.maxViewers)), Used: &viewers, Doc: "Live streams of the console at once."}}
	for _, room := range names {
		doc, err := d.Settings(ctx, room)
		if err != nil {
			return nil, err
		}
		values, err := Values(doc.JSON)
		if err != nil {
			return nil, fmt.Errorf("read the settings of %s: %w", room, err)
		}
		look, known := d.Look(room)
		for _, f := range d.rooms.Fields() {
			if f.Kind != Integer && f.Kind != Number {
				continue
			}
			l := Limit{Room: room, Key: f.Key, Value: values[f.Key], Allowed: f.Allowed(), Doc: f.Doc}
			if known && !look.Stale {
				l.Used = used(look.Live, f.Key)
			}
			out = append(out, l)
		}
	}
	return out, nil
}

func used(l Live, key string) *float64 {
	var v float64
	switch key {
	case "cap":
		v = float64(l.Inside)
	case "rate_per_second":
		v = float64(l.AdmittedPerMinute) / 60
	case "parked_per_edge":
		v = float64(l.AtDoor) / float64(max(l.Edges, 1))
	default:
		return nil
	}
	return &v
}
