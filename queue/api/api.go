// Package api is the queue role's door for the other roles: settings and actions for operators, reports and the end of sessions
// for the core. Service is what it offers; Local does it in process, Client over HTTP, Handler serves it under /internal/v1.
//
// The listener behind Handler belongs to the inside of a deployment: whoever reaches it may do everything. Apart from loopback
// it is served with mutual TLS.
package api

import (
	"context"
	"errors"
	"time"

	"github.com/stanchion-queue/stanchion/queue/controller"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// Service is all that other roles ask of the queue role. Methods are safe for concurrent use. Errors are those of package controller
// and room.ErrSettings, over HTTP too.
type Service interface {
	// Rooms are the rooms' names, sorted.
	Rooms(ctx context.Context) ([]string, error)
	// Settings reads the document in force.
	Settings(ctx context.Context, room string) (controller.Document, error)
	// Preview says what a document would change.
	Preview(ctx context.Context, room string, doc []byte) ([]room.Change, error)
	// Apply replaces the document when ifVersion is in force.
	Apply(ctx context.Context, room string, doc []byte, ifVersion uint64, who, reason string) (controller.Change, error)
	// NewLine starts another line under a new document; with honour the lines before are called first.
	NewLine(ctx context.Context, room string, doc []byte, ifVersion uint64, honour bool, who, reason string) (controller.Change, error)
	// Act does an operator's action.
	Act(ctx context.Context, room string, a Action, who, reason string) (controller.Change, error)
	// Announce gives a draw its public value.
	Announce(ctx context.Context, room string, result line.DrawResult, who, reason string) error
	// Report says how what the room protects is doing; once a second.
	Report(ctx context.Context, room string, r controller.Report) error
	// Live is the room at this moment.
	Live(ctx context.Context, room string) (controller.Live, error)
	// EndSession ends a session: its fan is done, the place is free.
	EndSession(ctx context.Context, room string, session line.SessionID) error
	// ExtendSession keeps a session alive until then, as far as its stay allows: a payment is in progress.
	ExtendSession(ctx context.Context, room string, session line.SessionID, until time.Time) error
}

// Action is an operator's action.
type Action struct {
	Kind    Kind    `json:"kind"`
	Rate    float64 `json:"rate_per_second,omitempty"` // with KindRate
	Cap     int64   `json:"cap,omitempty"`             // with KindCap
	Message string  `json:"message,omitempty"`         // with KindMessage
}

// Kind names an action.
type Kind string

// The actions. All but the last three set the room's mode.
const (
	KindPause       Kind = "pause"
	KindResume      Kind = "resume"
	KindQueueAll    Kind = "queue-all"
	KindAdmitAll    Kind = "admit-all"
	KindDrain       Kind = "drain"
	KindMaintenance Kind = "maintenance"
	KindEnd         Kind = "end"
	KindRate        Kind = "rate"
	KindCap         Kind = "cap"
	KindMessage     Kind = "message"
)

var modeOf = map[Kind]room.Mode{
	KindPause: room.ModePaused, KindResume: room.ModeNormal, KindQueueAll: room.ModeQueueAll, KindAdmitAll: room.ModeAdmitAll,
	KindDrain: room.ModeDraining, KindMaintenance: room.ModeMaintenance, KindEnd: room.ModeEnded,
}

// ErrAction is returned for an action that does not exist.
var ErrAction = errors.New("queue api: no such action")

// Sessions ends and prolongs sessions in one room; *agent.Room does.
type Sessions interface {
	Leave(ctx context.Context, session line.SessionID) error
	Extend(ctx context.Context, session line.SessionID, until time.Time) error
}

// Local is the service of this process.
type Local struct {
	controller *controller.Controller
	sessions   func(room string) (Sessions, bool)
}

// NewLocal joins a controller and an agent (its Room method, wrapped) to a service. Sessions are ended by the agent because only an edge
// reports ends; a queue role without an edge runs an agent for it.
func NewLocal(c *controller.Controller, sessions func(room string) (Sessions, bool)) *Local {
	return &Local{controller: c, sessions: sessions}
}

var _ Service = (*Local)(nil)

// Rooms implements Service.
func (l *Local) Rooms(context.Context) ([]string, error) { return l.controller.Rooms(), nil }

// Settings implements Service.
func (l *Local) Settings(ctx context.Context, room string) (controller.Document, error) {
	return l.controller.Settings(ctx, room)
}

// Preview implements Service.
func (l *Local) Preview(ctx context.Context, room string, doc []byte) ([]room.Change, error) {
	return l.controller.Preview(ctx, room, doc)
}

// Apply implements Service.
func (l *Local) Apply(ctx context.Context, room string, doc []byte, ifVersion uint64, who, reason string) (controller.Change, error) {
	return l.controller.Apply(ctx, room, doc, ifVersion, who, reason)
}

// NewLine implements Service.
func (l *Local) NewLine(ctx context.Context, room string, doc []byte, ifVersion uint64, honour bool, who, reason string) (controller.Change, error) {
	return l.controller.NewLine(ctx, room, doc, ifVersion, honour, who, reason)
}

// Act implements Service.
func (l *Local) Act(ctx context.Context, room string, a Action, who, reason string) (controller.Change, error) {
	switch a.Kind {
	case KindRate:
		return l.controller.SetRate(ctx, room, a.Rate, who, reason)
	case KindCap:
		return l.controller.SetCap(ctx, room, a.Cap, who, reason)
	case KindMessage:
		return l.controller.SetMessage(ctx, room, a.Message, who, reason)
	}
	mode, ok := modeOf[a.Kind]
	if !ok {
		return controller.Change{}, ErrAction
	}
	return l.controller.SetMode(ctx, room, mode, who, reason)
}

// Announce implements Service.
func (l *Local) Announce(ctx context.Context, room string, r line.DrawResult, who, reason string) error {
	return l.controller.Announce(ctx, room, r, who, reason)
}

// Report implements Service.
func (l *Local) Report(ctx context.Context, room string, r controller.Report) error {
	return l.controller.Report(ctx, room, r)
}

// Live implements Service.
func (l *Local) Live(ctx context.Context, room string) (controller.Live, error) {
	return l.controller.Live(ctx, room)
}

// EndSession implements Service.
func (l *Local) EndSession(ctx context.Context, room string, id line.SessionID) error {
	s, ok := l.sessions(room)
	if !ok {
		return controller.ErrNoRoom
	}
	return s.Leave(ctx, id)
}

// ExtendSession implements Service.
func (l *Local) ExtendSession(ctx context.Context, room string, id line.SessionID, until time.Time) error {
	s, ok := l.sessions(room)
	if !ok {
		return controller.ErrNoRoom
	}
	return s.Extend(ctx, id, until)
}
