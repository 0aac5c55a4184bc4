package desk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Rooms is what the desk needs of waiting rooms and their settings store. All methods may be called from many goroutines and
// must return when ctx ends.
type Rooms interface {
	// Names lists the rooms in the order in which they are shown.
	Names(ctx context.Context) ([]string, error)

	// Live is the newest look at a room, from memory if possible: it is called once a second for each room. ErrNoRoom: there is
	// none of that name. Another error: nothing is known, the last look ages. A zero Live.At: the controller has never reported.
	Live(ctx context.Context, room string) (Live, error)

	// Settings is the room's current settings document, a JSON object. ErrNoRoom as above.
	Settings(ctx context.Context, room string) (Document, error)

	// PutSettings stores doc if the current version is ifVersion and returns the new version. ErrConflict: it is not, and
	// nothing was changed. *Invalid: doc is refused. Another error leaves open whether the document was stored.
	PutSettings(ctx context.Context, room string, doc []byte, ifVersion, who, why string) (version string, err error)

	// History lists the versions of a room's document, newest first, at most limit.
	History(ctx context.Context, room string, limit int) ([]Revision, error)

	// Check names everything that is wrong with a document. It is pure.
	Check(room string, doc []byte) []Problem

	// Fields describes the keys of a document, in the order in which they are shown. It is pure.
	Fields() []Field
}

// Sales tells what a room's performances have sold.
type Sales interface {
	// Sales of a room. ErrNoSales: the room sells nothing that this installation knows of.
	Sales(ctx context.Context, room string) (Sale, error)
}

// Fleet tells which edges there are.
type Fleet interface {
	Edges(ctx context.Context) ([]Edge, error)
}

// Errors of the desk and of what it is built on.
var (
	ErrNoRoom   = errors.New("there is no such room")
	ErrNoSales  = errors.New("nothing is sold behind this room")
	ErrConflict = errors.New("the settings were changed meanwhile")
	ErrNoUndo   = errors.New("there is no earlier version")
	ErrNoAction = errors.New("there is no such action")
	ErrReason   = fmt.Errorf("a reason has 1 to %d characters", MaxReason)
	ErrViewers  = errors.New("too many viewers")
)

// MaxReason bounds the reason of a change, in characters; in bytes it is at most 1,000.
const MaxReason = 240

// Document is a version of a settings document.
type Document struct {
	Version string `json:"version"`
	JSON    []byte `json:"-"`
}

// Revision is one stored version of a room's settings document.
type Revision struct {
	Version string
	JSON    []byte
	Who     string
	Why     string
	At      time.Time
}

// Problem is one thing wrong with a document.
type Problem struct {
	Key   string `json:"key" doc:"Path of the key in the document."`
	Value string `json:"value,omitempty" doc:"What the document says."`
	Want  string `json:"want" doc:"What would be allowed."`
}

// Invalid is all that is wrong with a document.
type Invalid struct{ Problems []Problem }

// Error names every problem.
func (e *Invalid) Error() string {
	var b strings.Builder
	b.WriteString("the settings are not valid")
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "; %s is %s, allowed: %s", p.Key, p.Value, p.Want)
	}
	return b.String()
}

// Kind is how a field is written.
type Kind string

// The kinds of fields.
const (
	Integer Kind = "integer"
	Number  Kind = "number"
	Text    Kind = "text"
	Flag    Kind = "flag"
	Choice  Kind = "choice"
)

// Field describes one scalar key of a settings document.
type Field struct {
	Key       string   `json:"key" doc:"Path in the document, with dots."`
	Kind      Kind     `json:"kind"`
	Min       float64  `json:"min,omitempty" doc:"integer, number: smallest allowed value."`
	Max       float64  `json:"max,omitempty" doc:"integer, number: largest allowed value."`
	MaxLength int      `json:"max_length,omitempty" doc:"text: most characters; 0: no limit of its own."`
	Choices   []string `json:"choices,omitempty" doc:"choice: the allowed words."`
	Default   string   `json:"default,omitempty"`
	Doc       string   `json:"doc,omitempty" doc:"What it means, in a sentence."`
	Secret    bool     `json:"secret,omitempty" doc:"Never shown in pages and lists of changes."`
}

// Allowed is the allowed range in words.
func (f Field) Allowed() string {
	switch f.Kind {
	case Integer, Number:
		return number(f.Min) + " to " + number(f.Max)
	case Flag:
		return "true or false"
	case Choice:
		return strings.Join(f.Choices, ", ")
	case Text:
		if f.MaxLength > 0 {
			return fmt.Sprintf("at most %d characters", f.MaxLength)
		}
	}
	return "text"
}

// Lane is one order within a room's line.
type Lane struct {
	Name      string  `json:"name"`
	Waiting   int64   `json:"waiting" doc:"Fans with a place who have not been called."`
	Called    uint64  `json:"called" doc:"Places called so far."`
	Total     uint64  `json:"total" doc:"Places given out so far, as sealed."`
	PerMinute float64 `json:"per_minute" doc:"Places called in the last minute."`
	// Low and High are the factors by which fans' own forecast spans its 80% interval.
	Low  float64 `json:"low,omitempty" doc:"Lower factor of the 80% interval that fans are shown."`
	High float64 `json:"high,omitempty" doc:"Upper factor of the 80% interval that fans are shown."`
}

// Origin is how what the room protects is doing.
type Origin struct {
	P99MS      float64 `json:"p99_ms" doc:"99th percentile of its answers' time, milliseconds."`
	ErrorRatio float64 `json:"error_ratio" doc:"Share of its answers that are server errors, 0 to 1."`
}

// Live is one look at a room.
type Live struct {
	At        time.Time  `json:"at" doc:"When the room's controller measured it."`
	Phase     string     `json:"phase" doc:"What fans are told: open, lobby, drawing, waiting, paused, draining, sold_out, maintenance or ended."`
	Mode      string     `json:"mode" doc:"What the operator wants: normal, queue-all, admit-all, paused, draining, maintenance or ended."`
	LimitedBy string     `json:"limited_by" doc:"What bounds admission now: cap, rate, core, stock, paused, nobody, store, schedule, or empty."`
	Cause     string     `json:"cause,omitempty" doc:"Why the forecast has worsened, if it has."`
	Message   string     `json:"message" doc:"What fans in line read."`
	OpensAt   *time.Time `json:"opens_at,omitempty"`
	Lanes     []Lane     `json:"lanes"`

	Inside int64 `json:"inside" doc:"Fans inside."`
	Cap    int64 `json:"cap" doc:"Most fans inside at once."`
	AtDoor int64 `json:"at_door" doc:"Called fans who stand at the door."`

	RatePerSecond float64 `json:"rate_per_second" doc:"Most fans let in a second, in force now."`
	CorePerSecond float64 `json:"core_per_second,omitempty" doc:"What the origin can bear; 0: not known."`

	ShowUp         float64 `json:"show_up" doc:"Share of called fans who come, 0 to 1."`
	AnswerS        float64 `json:"answer_s" doc:"Mean time from call to door, seconds."`
	FreedPerSecond float64 `json:"freed_per_second" doc:"Places inside that become free each second."`

	JoinedTotal       uint64 `json:"joined_total" doc:"Places given out in this line."`
	AdmittedTotal     uint64 `json:"admitted_total,omitempty" doc:"Fans let in so far; 0 where only the last minute is known."`
	AdmittedPerMinute int64  `json:"admitted_per_minute" doc:"Fans let in during the last minute."`

	Edges  int     `json:"edges" doc:"Edges that serve the room."`
	Origin *Origin `json:"origin,omitempty"`
}

// Waiting is how many fans wait in all lanes.
func (l Live) Waiting() int64 {
	var n int64
	for _, lane := range l.Lanes {
		n += lane.Waiting
	}
	return n
}

// Sale is what has become of the seats behind a room.
type Sale struct {
	At       time.Time        `json:"at"`
	Sellable int64            `json:"sellable" doc:"Seats that can be bought now."`
	Held     int64            `json:"held" doc:"Seats in somebody's hands, not paid."`
	Sold     int64            `json:"sold" doc:"Seats paid for."`
	Orders   map[string]int64 `json:"orders,omitempty" doc:"Number of orders by state."`
}

// Edge is one edge process.
type Edge struct {
	ID       string    `json:"id" doc:"Incarnation: a new one at each start."`
	Label    string    `json:"label" doc:"Configured name."`
	SeenAt   time.Time `json:"seen_at" doc:"When the room store last heard from it."`
	Parked   int64     `json:"parked" doc:"Claims that stand at its door."`
	Sessions int64     `json:"sessions" doc:"Sessions inside whose home it is."`
	Leaving  bool      `json:"leaving,omitempty" doc:"It has drained and said goodbye."`
}
