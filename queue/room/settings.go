package room

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// MaxDocumentBytes bounds a settings document.
const MaxDocumentBytes = 512 << 10

// Mode is what an operator wants of a room.
type Mode string

// The modes of a room.
const (
	ModeNormal      Mode = "normal"      // open while uncrowded, else a line
	ModeQueueAll    Mode = "queue-all"   // everybody takes a place, however empty the room is
	ModeAdmitAll    Mode = "admit-all"   // the room is switched off: everybody passes, the cap is not kept
	ModePaused      Mode = "paused"      // nobody is let in, places are kept
	ModeDraining    Mode = "draining"    // nobody is let in, those inside finish
	ModeMaintenance Mode = "maintenance" // nobody is let in, the page says the site is being worked on
	ModeEnded       Mode = "ended"       // the sale is over
)

// Modes are all modes.
var Modes = []Mode{ModeNormal, ModeQueueAll, ModeAdmitAll, ModePaused, ModeDraining, ModeMaintenance, ModeEnded}

// Admits reports whether fans are called and let in one by one.
func (m Mode) Admits() bool { return m == ModeNormal || m == ModeQueueAll }

// OutageMode says when an edge refills a place of its own while the room's store does not answer.
type OutageMode string

// The outage modes.
const (
	OutageStrict OutageMode = "strict" // once the place's pass has run out
	OutageEarly  OutageMode = "early"  // also at once when its fan says they are done
)

// AfterOutage says what an edge does when the store stayed away longer than the outage bound.
type AfterOutage string

// The choices after the outage bound.
const (
	AfterHold   AfterOutage = "hold"   // nobody in, places are kept
	AfterOpen   AfterOutage = "open"   // everybody passes
	AfterClosed AfterOutage = "closed" // nobody passes
)

// Who is the scarce thing that a place in line asks for.
type Who string

// The kinds of scarce thing.
const (
	WhoNone    Who = "none"
	WhoAccount Who = "account"
	WhoInvite  Who = "invite"
	WhoPresale Who = "presale"
	WhoWork    Who = "work"
	WhoToken   Who = "token"
)

// Kind is the holder kind that tickets of this room carry.
func (w Who) Kind() line.WhoKind {
	switch w {
	case WhoAccount:
		return line.WhoAccount
	case WhoInvite, WhoPresale:
		return line.WhoInvite
	case WhoWork:
		return line.WhoWork
	case WhoToken:
		return line.WhoPrivate
	}
	return line.WhoNone
}

// Lane is one order within the line.
type Lane struct {
	Name   string `json:"name"`
	Weight int    `json:"weight"` // 1 to 1000
	Code   bool   `json:"code"`   // only with a code of the room's codes
}

// Draw says how a lobby is ordered.
type Draw struct {
	Kind   line.DrawKind `json:"kind"`             // empty: by arrival
	Chain  string        `json:"chain,omitempty"`  // drand: chain hash, hexadecimal
	Round  uint64        `json:"round,omitempty"`  // drand: round; 0: chosen by the beacon for the time it is due
	Source string        `json:"source,omitempty"` // announced: which number, published where
	DueInS int           `json:"due_in_s"`         // announced, drand: seconds after the opening at which the value is public
}

// Opening says when the room opens. Without OpensAtMs it is open from its creation.
type Opening struct {
	Lobby     bool  `json:"lobby"`       // those who come before the opening wait in a lobby
	OpensAtMs int64 `json:"opens_at_ms"` // Unix milliseconds; 0: from the start
	Draw      Draw  `json:"draw"`        // with a lobby
}

// RequestBudget bounds the requests of one session.
type RequestBudget struct {
	PerSecond float64 `json:"per_second"`
	Burst     int     `json:"burst"`
}

// Origin is what the room expects of what it protects. While it is missed, the rate falls.
type Origin struct {
	P99MS      int     `json:"p99_ms"`
	ErrorRatio float64 `json:"error_ratio"`
}

// Settings is a room's settings document. Durations are whole seconds, shares are 0 to 1. A document is a value: change a copy.
type Settings struct {
	Host  string `json:"host"`
	Entry string `json:"entry"`
	Title string `json:"title"`

	Mode          Mode    `json:"mode"`
	Cap           int64   `json:"cap"`             // fans inside at once
	RatePerSecond float64 `json:"rate_per_second"` // fans let in a second, at most
	SeatLimit     int     `json:"seat_limit"`      // seats one fan may buy

	FirstLeaseS  int `json:"first_lease_s"`  // a fresh pass must be used within this
	IdleS        int `json:"idle_s"`         // asks for nothing this long: has left
	StayMaxS     int `json:"stay_max_s"`     // longest stay
	GraceS       int `json:"grace_s"`        // later than this after the call: served through the late budget
	ReturnS      int `json:"return_s"`       // lapsed less than this ago: let in again first
	OutageBoundS int `json:"outage_bound_s"` // how long edges go on without the store

	OutageMode  OutageMode  `json:"outage_mode"`
	AfterOutage AfterOutage `json:"after_outage"`

	RequestBudget RequestBudget `json:"request_budget"`
	LateShare     float64       `json:"late_share"`
	LateMin       int64         `json:"late_min_per_minute"`
	NetworkShare  float64       `json:"network_share"`
	NetworkMin    int64         `json:"network_min_per_minute"`
	DoorDial      float64       `json:"door_dial"` // k of the controller's law
	ParkedPerEdge int           `json:"parked_per_edge"`

	Who        Who      `json:"who"`
	CodeHashes []string `json:"code_hashes,omitempty"` // SHA-256 of each accepted code, hexadecimal
	WorkBits   int      `json:"work_bits"`             // leading zero bits of a solved challenge

	Lanes   []Lane  `json:"lanes"`
	Opening Opening `json:"opening"`
	Origin  Origin  `json:"origin"`

	Message     string `json:"message"` // at most 280 characters
	MessageAtMs int64  `json:"message_at_ms,omitempty"`
	Policy      string `json:"policy,omitempty"` // the organiser's words in the line record
}

// Defaults is a document with every default; it is valid but for its empty host, which means any host.
func Defaults() Settings {
	return Settings{
		Entry: "/", Mode: ModeNormal, Cap: 100, RatePerSecond: 10, SeatLimit: 4,
		FirstLeaseS: 30, IdleS: 300, StayMaxS: 900, GraceS: 120, ReturnS: 600, OutageBoundS: 240,
		OutageMode: OutageStrict, AfterOutage: AfterHold,
		RequestBudget: RequestBudget{PerSecond: 5, Burst: 40},
		LateShare:     0.10, LateMin: 20, NetworkShare: 0.05, NetworkMin: 20, DoorDial: 0.5, ParkedPerEdge: 2000,
		Who: WhoNone, WorkBits: 18,
		Lanes:  []Lane{{Name: "general", Weight: 1}},
		Origin: Origin{P99MS: 1000, ErrorRatio: 0.05},
	}
}

// ErrSettings is wrapped by every error about the content of a document.
var ErrSettings = errors.New("room settings are not valid")

// Problem is one thing wrong with a document.
type Problem struct {
	Key   string `json:"key"`   // JSON path
	Value string `json:"value"` // what the document says
	Want  string `json:"want"`  // what would be allowed
}

// Problems is all that is wrong with a document.
type Problems []Problem

// Error lists every problem with key, value and allowed range.
func (p Problems) Error() string {
	var b strings.Builder
	b.WriteString(ErrSettings.Error())
	for _, x := range p {
		fmt.Fprintf(&b, "; %s is %s, want %s", x.Key, x.Value, x.Want)
	}
	return b.String()
}

// Is makes errors.Is(err, ErrSettings) true.
func (p Problems) Is(target error) bool { return target == ErrSettings }

// Parse reads a JSON document over the defaults and validates it. Unknown keys are refused. The error is a Problems or wraps
// ErrSettings.
func Parse(doc []byte) (Settings, error) {
	if len(doc) > MaxDocumentBytes {
		return Settings{}, fmt.Errorf("%w: %d bytes, at most %d", ErrSettings, len(doc), MaxDocumentBytes)
	}
	s := Defaults()
	s.Lanes = nil
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return Settings{}, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Settings{}, fmt.Errorf("%w: something follows the document", ErrSettings)
	}
	if s.Lanes == nil {
		s.Lanes = Defaults().Lanes
	}
	if err := s.Validate(); err != nil {
		return Settings{}, err
	}
	return s, nil
}

// Document is the settings as JSON, every key written out.
func (s Settings) Document() ([]byte, error) {
	doc, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode room settings: %w", err)
	}
	return doc, nil
}

var nameRule = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// ValidName reports whether name can be a room's or lane's name.
func ValidName(name string) bool { return nameRule.MatchString(name) }

// Validate names everything that is wrong; the error is a Problems.
func (s Settings) Validate() error {
	var p Problems
	bad := func(key string, value any, want string) { p = append(p, Problem{key, fmt.Sprintf("%v", value), want}) }
	integer := func(key string, v, lo, hi int64) {
		if v < lo || v > hi {
			bad(key, v, fmt.Sprintf("%d to %d", lo, hi))
		}
	}
	number := func(key string, v, lo, hi float64) {
		if !(v >= lo && v <= hi) { // also refuses NaN
			bad(key, v, fmt.Sprintf("%g to %g", lo, hi))
		}
	}
	text := func(key, v string, most int) {
		if !utf8.ValidString(v) || utf8.RuneCountInString(v) > most {
			bad(key, fmt.Sprintf("%d characters", utf8.RuneCountInString(v)), fmt.Sprintf("UTF-8 of at most %d characters", most))
		}
	}

	text("host", s.Host, 253)
	if !strings.HasPrefix(s.Entry, "/") || len(s.Entry) > 2048 || strings.ContainsAny(s.Entry, "\r\n\\ ") || strings.HasPrefix(s.Entry, "//") {
		bad("entry", fmt.Sprintf("%q", s.Entry), "a path that begins with one /")
	}
	text("title", s.Title, 120)
	if !slices.Contains(Modes, s.Mode) {
		bad("mode", fmt.Sprintf("%q", s.Mode), "one of "+join(Modes))
	}
	integer("cap", s.Cap, 1, 10_000_000)
	number("rate_per_second", s.RatePerSecond, 0.01, 100_000)
	integer("seat_limit", int64(s.SeatLimit), 1, 100)
	integer("first_lease_s", int64(s.FirstLeaseS), 2, 600)
	integer("idle_s", int64(s.IdleS), 2, 86_400)
	integer("stay_max_s", int64(s.StayMaxS), 5, 86_400)
	integer("grace_s", int64(s.GraceS), 1, 86_400)
	integer("return_s", int64(s.ReturnS), 0, 86_400)
	integer("outage_bound_s", int64(s.OutageBoundS), 0, 3600)
	if s.OutageMode != OutageStrict && s.OutageMode != OutageEarly {
		bad("outage_mode", fmt.Sprintf("%q", s.OutageMode), "strict or early")
	}
	if s.AfterOutage != AfterHold && s.AfterOutage != AfterOpen && s.AfterOutage != AfterClosed {
		bad("after_outage", fmt.Sprintf("%q", s.AfterOutage), "hold, open or closed")
	}
	number("request_budget.per_second", s.RequestBudget.PerSecond, 0.1, 10_000)
	integer("request_budget.burst", int64(s.RequestBudget.Burst), 1, 100_000)
	number("late_share", s.LateShare, 0, 1)
	integer("late_min_per_minute", s.LateMin, 0, 1_000_000)
	number("network_share", s.NetworkShare, 0.0001, 1)
	integer("network_min_per_minute", s.NetworkMin, 1, 1_000_000)
	number("door_dial", s.DoorDial, 0, 5)
	integer("parked_per_edge", int64(s.ParkedPerEdge), 1, 100_000)
	switch s.Who {
	case WhoNone, WhoAccount, WhoInvite, WhoPresale, WhoWork, WhoToken:
	default:
		bad("who", fmt.Sprintf("%q", s.Who), "none, account, invite, presale, work or token")
	}
	integer("work_bits", int64(s.WorkBits), 1, 32)
	for i, h := range s.CodeHashes {
		if raw, err := hex.DecodeString(h); err != nil || len(raw) != sha256.Size {
			bad(fmt.Sprintf("code_hashes[%d]", i), "not a hash", "64 hexadecimal digits")
			break // one is enough: a list in another format is wrong throughout
		}
	}
	integer("lanes", int64(len(s.Lanes)), 1, line.MaxLanes)
	for i, l := range s.Lanes {
		key := fmt.Sprintf("lanes[%d]", i)
		if !ValidName(l.Name) || slices.ContainsFunc(s.Lanes[:i], func(o Lane) bool { return o.Name == l.Name }) {
			bad(key+".name", fmt.Sprintf("%q", l.Name), "a name of its own, 1 to 32 of a-z 0-9 -")
		}
		integer(key+".weight", int64(l.Weight), 1, 1000)
	}
	s.Opening.validate(bad)
	integer("origin.p99_ms", int64(s.Origin.P99MS), 1, 600_000)
	number("origin.error_ratio", s.Origin.ErrorRatio, 0.0001, 1)
	text("message", s.Message, 280)
	text("policy", s.Policy, 1000)
	if p == nil {
		return nil
	}
	return p
}

func (o Opening) validate(bad func(key string, value any, want string)) {
	const lastMs = int64(1) << 46
	if o.OpensAtMs < 0 || o.OpensAtMs > lastMs {
		bad("opening.opens_at_ms", o.OpensAtMs, "0 or Unix milliseconds")
	}
	if o.Lobby && o.OpensAtMs == 0 {
		bad("opening.lobby", true, "an opens_at_ms to go with it")
	}
	d := o.Draw
	switch d.Kind {
	case line.DrawNone, line.DrawOperator:
	case line.DrawDrand:
		if raw, err := hex.DecodeString(d.Chain); err != nil || len(raw) != 32 || d.Chain != strings.ToLower(d.Chain) {
			bad("opening.draw.chain", fmt.Sprintf("%q", d.Chain), "64 lower-case hexadecimal digits")
		}
	case line.DrawAnnounced:
		if strings.TrimSpace(d.Source) == "" {
			bad("opening.draw.source", `""`, "which number, published where and when")
		}
	default:
		bad("opening.draw.kind", fmt.Sprintf("%q", d.Kind), "empty, operator, announced or drand")
	}
	if d.DueInS < 0 || d.DueInS > 7*86_400 {
		bad("opening.draw.due_in_s", d.DueInS, "0 to 604800")
	}
	if len(d.Source) > 1000 {
		bad("opening.draw.source", fmt.Sprintf("%d bytes", len(d.Source)), "at most 1000 bytes")
	}
}

func join(modes []Mode) string {
	words := make([]string, len(modes))
	for i, m := range modes {
		words[i] = string(m)
	}
	return strings.Join(words, ", ")
}

// enterLeaseS is the first lease of a fan who entered without a ticket: until the pass has come back once.
const enterLeaseS = 10

// Store is what the room's store judges by. Pause is why nobody is admitted, empty if somebody may be; ratePerSecond is the
// rate in force, at most the document's; version counts the document's changes.
func (s Settings) Store(version uint64, pause string, ratePerSecond float64) (queue.Settings, error) {
	doc, err := s.Document()
	if err != nil {
		return queue.Settings{}, err
	}
	ms := func(sec int) int64 { return int64(sec) * 1000 }
	return queue.Settings{
		Version: version, Cap: s.Cap, RatePerSecond: math.Min(ratePerSecond, s.RatePerSecond), BurstS: 1, Pause: pause,
		FirstLeaseMs: ms(s.FirstLeaseS), EnterLeaseMs: ms(min(enterLeaseS, s.FirstLeaseS)), IdleMs: ms(s.IdleS), StayMaxMs: ms(s.StayMaxS),
		GraceMs: ms(s.GraceS), ReturnMs: ms(s.ReturnS), OutageBoundMs: ms(s.OutageBoundS),
		LateShare: s.LateShare, LateFloor: s.LateMin, NetworkShare: s.NetworkShare, NetworkFloor: s.NetworkMin,
		Document: doc,
	}, nil
}

// AcceptsCode reports whether a code is one of the room's.
func (s Settings) AcceptsCode(code string) bool {
	sum := sha256.Sum256([]byte(strings.TrimSpace(code)))
	want := hex.EncodeToString(sum[:])
	return slices.ContainsFunc(s.CodeHashes, func(h string) bool { return strings.EqualFold(h, want) })
}

// OpensAt is the opening's time, zero when the room is open from its creation.
func (o Opening) OpensAt() time.Time {
	if o.OpensAtMs == 0 {
		return time.Time{}
	}
	return time.UnixMilli(o.OpensAtMs).UTC()
}
