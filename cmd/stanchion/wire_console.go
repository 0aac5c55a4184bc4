package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/admin"
	"github.com/stanchion-queue/stanchion/admin/desk"
	"github.com/stanchion-queue/stanchion/config"
	"github.com/stanchion-queue/stanchion/core/catalog"
	"github.com/stanchion-queue/stanchion/inventory"
	queueapi "github.com/stanchion-queue/stanchion/queue/api"
	"github.com/stanchion-queue/stanchion/queue/controller"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// consoleRooms are the waiting rooms as the console sees them: the live picture comes from the controller, settings from their
// store, which the controllers follow.
type consoleRooms struct {
	service  queueapi.Service
	settings config.Settings
	beacon   string // chain of the beacon, for settings that name a round
}

var (
	_ desk.Rooms = consoleRooms{}
	_ desk.Fleet = consoleRooms{}
)

func (c consoleRooms) Names(ctx context.Context) ([]string, error) { return c.service.Rooms(ctx) }

func (c consoleRooms) Live(ctx context.Context, room string) (desk.Live, error) {
	l, err := c.service.Live(ctx, room)
	if errors.Is(err, controller.ErrNoRoom) {
		return desk.Live{}, desk.ErrNoRoom
	}
	if err != nil {
		return desk.Live{}, err
	}
	g, st := l.Forecast.Gauges, l.Forecast.Status
	out := desk.Live{
		At: time.UnixMilli(l.TickMs).UTC(), Phase: string(st.Phase), Mode: string(l.Settings.Settings.Mode), LimitedBy: string(st.LimitedBy), Message: st.Message,
		OpensAt: st.OpensAt, Inside: l.Active, Cap: l.Settings.Settings.Cap, AtDoor: g.Parked, RatePerSecond: g.RatePerSecond, CorePerSecond: g.CorePerSecond,
		ShowUp: g.ShowUp, AnswerS: g.AnswerS, FreedPerSecond: g.FreedPerS, AdmittedPerMinute: g.Granted60, Edges: len(l.Edges),
	}
	if l.GrantedTotal > 0 {
		out.AdmittedTotal = uint64(l.GrantedTotal)
	}
	if o := l.Origin; o != nil {
		out.Origin = &desk.Origin{P99MS: o.P99MS, ErrorRatio: o.ErrorRatio}
	}
	for _, lane := range st.Lanes {
		out.Lanes = append(out.Lanes, desk.Lane{Name: lane.Name, Waiting: int64(lane.Total - min(lane.Called, lane.Total)), Called: lane.Called, Total: lane.Total,
			PerMinute: lane.PerMinute, Low: lane.ETA.Low, High: lane.ETA.High})
		out.JoinedTotal += lane.Total
		if out.Cause == "" {
			out.Cause = lane.ETA.Cause
		}
	}
	return out, nil
}

func (c consoleRooms) Settings(ctx context.Context, room string) (desk.Document, error) {
	doc, version, err := c.settings.Get(ctx, room)
	if errors.Is(err, config.ErrNoSettings) {
		return desk.Document{}, desk.ErrNoRoom
	}
	return desk.Document{Version: version, JSON: doc}, err
}

func (c consoleRooms) PutSettings(ctx context.Context, room string, doc []byte, ifVersion, who, why string) (string, error) {
	if p := c.Check(room, doc); len(p) > 0 {
		return "", &desk.Invalid{Problems: p}
	}
	r, err := config.ParseRoom(room, doc)
	if err != nil {
		return "", err
	}
	full, err := r.Document()
	if err != nil {
		return "", err
	}
	if err := c.acceptable(ctx, room, r); err != nil {
		return "", err
	}
	version, err := c.settings.Put(ctx, room, full, ifVersion, who, why)
	if errors.Is(err, config.ErrConflict) {
		return "", desk.ErrConflict
	}
	return version, err
}

// acceptable asks the room itself, which refuses what cannot change any more: the lanes of a line that has begun, an opening that is
// over. A room whose controller does not answer takes the document when it does.
func (c consoleRooms) acceptable(ctx context.Context, name string, r config.Room) error {
	doc, err := roomSettings(r, c.beacon, time.Now()).Document()
	if err != nil {
		return err
	}
	var problems room.Problems
	if _, err = c.service.Preview(ctx, name, doc); errors.As(err, &problems) {
		out := &desk.Invalid{}
		for _, p := range problems {
			out.Problems = append(out.Problems, desk.Problem{Key: p.Key, Value: p.Value, Want: p.Want})
		}
		return out
	}
	if errors.Is(err, room.ErrSettings) {
		return &desk.Invalid{Problems: []desk.Problem{{Key: "(document)", Value: err.Error(), Want: "settings that this room can take now"}}}
	}
	return nil
}

func (c consoleRooms) History(ctx context.Context, room string, limit int) ([]desk.Revision, error) {
	all, err := c.settings.History(ctx, room, limit)
	if err != nil {
		return nil, err
	}
	out := make([]desk.Revision, len(all))
	for i, r := range all {
		out[i] = desk.Revision{Version: r.Version, JSON: r.Doc, Who: r.Who, Why: r.Why, At: r.At}
	}
	return out, nil
}

func (c consoleRooms) Check(room string, doc []byte) []desk.Problem {
	_, err := config.ParseRoom(room, doc)
	var problems *config.Problems
	switch {
	case errors.As(err, &problems):
		out := make([]desk.Problem, len(problems.List))
		for i, p := range problems.List {
			out[i] = desk.Problem{Key: strings.TrimPrefix(p.Key, "rooms."+room+"."), Value: p.Value, Want: p.Allowed}
			if out[i].Want == "" {
				out[i].Want = p.Do
			}
		}
		return out
	case err != nil:
		return []desk.Problem{{Key: "(document)", Value: err.Error(), Want: "a settings document"}}
	}
	return nil
}

func (c consoleRooms) Fields() []desk.Field {
	all := config.DescribeRoom()
	out := make([]desk.Field, len(all))
	for i, d := range all {
		out[i] = desk.Field{Key: d.Key, Kind: desk.Kind(d.Kind), Min: d.Min, Max: d.Max, MaxLength: d.MaxLength, Choices: d.Choices, Default: d.Default, Doc: d.Doc, Secret: d.Secret}
	}
	return out
}

func (c consoleRooms) Edges(ctx context.Context) ([]desk.Edge, error) {
	names, err := c.service.Rooms(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[string]*desk.Edge{}
	for _, name := range names {
		l, err := c.service.Live(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, e := range l.Edges {
			id := e.Edge.String()
			d := byID[id]
			if d == nil {
				d = &desk.Edge{ID: id, Label: e.Label}
				byID[id] = d
			}
			if seen := time.UnixMilli(e.SeenMs).UTC(); seen.After(d.SeenAt) {
				d.SeenAt = seen
			}
			for _, n := range e.Parked {
				d.Parked += n
			}
			d.Sessions += e.Sessions
			d.Leaving = d.Leaving || e.Bye
		}
	}
	out := make([]desk.Edge, 0, len(byID))
	for _, e := range byID {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b desk.Edge) int { return strings.Compare(a.Label+a.ID, b.Label+b.ID) })
	return out, nil
}

// consoleSales counts the seats behind a room.
type consoleSales struct {
	catalog *catalog.Service
	seats   inventory.Desk
}

func (c consoleSales) Sales(ctx context.Context, room string) (desk.Sale, error) {
	all, err := c.catalog.Performances(ctx)
	if err != nil {
		return desk.Sale{}, err
	}
	var ids []uuid.UUID
	for _, p := range all {
		if p.Room == room {
			ids = append(ids, p.ID)
		}
	}
	if len(ids) == 0 {
		return desk.Sale{}, desk.ErrNoSales
	}
	s := desk.Sale{At: time.Now().UTC()}
	for _, id := range ids {
		free, held, sold, err := c.seats.Counts(ctx, id)
		if err != nil {
			return desk.Sale{}, fmt.Errorf("count seats: %w", err)
		}
		s.Sellable, s.Held, s.Sold = s.Sellable+int64(free), s.Held+int64(held), s.Sold+int64(sold)
	}
	return s, nil
}

func (p *plant) buildConsole(ctx context.Context, rooms *waiting, shop *core, seats inventory.Desk) error {
	var service queueapi.Service
	settings := config.Settings(nil)
	if rooms != nil {
		service, settings = rooms.service, rooms.settings
	}
	if service == nil {
		client, err := p.queueClient()
		if err != nil {
			return err
		}
		service = client
	}
	if settings == nil {
		var err error
		if settings, err = p.openSettings(ctx); err != nil {
			return err
		}
	}
	r := consoleRooms{service: service, settings: settings, beacon: p.cfg.Beacon.Chain}
	o := admin.Options{Rooms: r, Fleet: r, Token: admin.NewToken(), SessionLife: time.Duration(p.cfg.Admin.SessionS) * time.Second,
		LookEvery: time.Duration(p.cfg.Admin.LiveMS) * time.Millisecond, Version: p.version, Log: p.log, Registerer: p.registry}
	if shop != nil && seats != nil {
		o.Sales = consoleSales{shop.catalog, seats}
	}
	c, err := admin.New(o)
	if err != nil {
		return err
	}
	ln := p.listeners["console"]
	p.goes("console", func(ctx context.Context) error { c.Run(ctx); return nil })
	// The link is for whoever reads this terminal; it works once, and logs never hold it.
	if _, err := fmt.Fprintf(p.stdout, "  %-27s %s\n", "operators sign in here", "http://"+ln.Addr().String()+c.LoginPath()); err != nil {
		return fmt.Errorf("print the console's address: %w", err)
	}
	return p.serves("console", p.cfg.Listeners.Console, ln, c)
}
