// Package api is the console's JSON API under /api/v1, described by OpenAPI 3.1 at /api/openapi.json.
//
// Handlers translate and nothing else; the desk decides. Reads come from the recorder's memory. Changes of settings name the version
// that they were decided upon (If-Match) and a reason; errors are RFC 9457 problem details.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"path"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/stanchion-queue/stanchion/admin/access"
	"github.com/stanchion-queue/stanchion/admin/desk"
	"github.com/stanchion-queue/stanchion/admin/problem"
)

// MaxBodyBytes bounds a request body: a settings document and a reason.
const MaxBodyBytes = desk.MaxDocumentBytes + 4<<10

// Options are what the API is built from.
type Options struct {
	Desk    *desk.Desk
	Stop    <-chan struct{} // closed when streams must end
	Version string
	Log     *slog.Logger
}

type api struct{ Options }

// New returns the handler of /api/.
func New(o Options) http.Handler {
	a := &api{o}
	mux := http.NewServeMux()
	config := huma.DefaultConfig("Stanchion console", o.Version)
	config.OpenAPIPath = "/api/openapi"
	config.DocsPath = ""    // the built-in page loads scripts from elsewhere
	config.SchemasPath = "" // no $schema links in answers
	config.CreateHooks = nil
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	config.Transformers = append(config.Transformers, ours)
	config.Info.Description = "What operators see and do: rooms, their settings, the fleet, limits, the log of changes. Errors are RFC 9457 problem details."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":   {Type: "http", Scheme: "bearer", Description: "The start token."},
		"session": {Type: "apiKey", In: "cookie", Name: "stanchion-console-{port}", Description: "What the printed link gives a browser."},
	}
	config.Security = []map[string][]string{{"token": {}}, {"session": {}}}
	h := humago.New(mux, config)
	a.register(h)
	forget(h.OpenAPI().Components.Schemas)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, r, problem.New(http.StatusNotFound, "not-found", "There is no such resource", "See /api/openapi.json for what there is."))
	})
	return mux
}

// schemaName keeps our own types' names plain and those of others apart: the process may hold another API, whose error type huma
// registers here too.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := huma.DefaultSchemaNamer(t, hint)
	if p := t.PkgPath(); p != "" && !strings.Contains(p, "/admin/") {
		name = "Foreign" + strings.ToUpper(path.Base(p)) + name
	}
	return name
}

// forget drops what huma registered and no answer here uses.
func forget(r huma.Registry) {
	for name := range r.Map() {
		if strings.HasPrefix(name, "Foreign") {
			delete(r.Map(), name)
		}
	}
}

// ours gives the errors that huma makes itself (malformed JSON, wrong parameters) our shape. huma has one constructor of errors for
// the whole process, which another API in it may have taken.
func ours(_ huma.Context, _ string, v any) (any, error) {
	made, ok := v.(huma.StatusError)
	if !ok {
		return v, nil
	}
	if d, ok := v.(*problem.Details); ok {
		return d, nil
	}
	status := made.GetStatus()
	d := problem.New(status, codeOf(status), http.StatusText(status), "")
	var there struct {
		Detail string `json:"detail"`
		Errors []struct {
			Field, Location string
			Message, Want   string
		} `json:"errors"`
	}
	if text, err := json.Marshal(v); err == nil && json.Unmarshal(text, &there) == nil {
		d.Detail = there.Detail
		for _, e := range there.Errors {
			d.Errors = append(d.Errors, desk.Problem{Key: e.Field + e.Location, Want: e.Message + e.Want})
		}
	}
	return d, nil
}

func codeOf(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "malformed"
	case http.StatusNotFound:
		return "not-found"
	case http.StatusNotAcceptable:
		return "not-acceptable"
	case http.StatusRequestTimeout:
		return "too-slow"
	case http.StatusRequestEntityTooLarge:
		return "too-large"
	case http.StatusUnsupportedMediaType:
		return "media-type"
	case http.StatusUnprocessableEntity:
		return "invalid"
	}
	return "internal"
}

func (a *api) fail(ctx context.Context, err error) error {
	d := problem.From(err)
	if d.Internal() {
		a.Log.ErrorContext(ctx, "console: request failed", "err", err)
	}
	h := http.Header{}
	d.Header(h)
	return huma.ErrorWithHeaders(d, h)
}

func (a *api) register(h huma.API) {
	details := h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[problem.Details](), true, "")
	op := func(method, id, at, summary, tag string) huma.Operation {
		o := huma.Operation{OperationID: id, Method: method, Path: "/api/v1" + at, Summary: summary, Tags: []string{tag}, Responses: map[string]*huma.Response{
			"default": {Description: "Problem", Content: map[string]*huma.MediaType{"application/problem+json": {Schema: details}}},
		}}
		if method != http.MethodGet {
			o.MaxBodyBytes = MaxBodyBytes
		}
		return o
	}
	const get, put, post = http.MethodGet, http.MethodPut, http.MethodPost
	huma.Register(h, op(get, "list-rooms", "/rooms", "All rooms as last looked at", "rooms"), a.listRooms)
	huma.Register(h, op(get, "get-room", "/rooms/{room}", "A room as last looked at", "rooms"), a.getRoom)
	huma.Register(h, op(get, "get-history", "/rooms/{room}/history", "The last hour of a room, one point a second, and its marks", "rooms"), a.getHistory)
	live := op(get, "watch-room", "/rooms/{room}/live", "A room, each second, as server-sent events named look", "rooms")
	live.Responses["200"] = &huma.Response{Description: "One event a second; its data is what get-room answers.", Content: map[string]*huma.MediaType{
		"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}}
	huma.Register(h, live, a.watchRoom)
	huma.Register(h, op(get, "get-settings", "/rooms/{room}/settings", "A room's settings document, with its version as ETag", "settings"), a.getSettings)
	huma.Register(h, op(put, "put-settings", "/rooms/{room}/settings", "Replace the settings document, over the version in If-Match", "settings"), a.putSettings)
	huma.Register(h, op(post, "preview-settings", "/rooms/{room}/settings/preview", "What a document would change, and why it would be refused", "settings"), a.previewSettings)
	huma.Register(h, op(post, "undo-settings", "/rooms/{room}/settings/undo", "Put the version before the current one back", "settings"), a.undoSettings)
	huma.Register(h, op(get, "list-changes", "/rooms/{room}/settings/history", "The settings' changes, newest first", "settings"), a.listChanges)
	huma.Register(h, op(post, "act", "/rooms/{room}/actions/{action}", "Pause, resume, queue-all, admit-all, drain, maintenance, end, or set", "rooms"), a.act)
	huma.Register(h, op(get, "list-fields", "/fields", "The keys of a settings document with their allowed ranges", "settings"), a.listFields)
	huma.Register(h, op(get, "list-actions", "/actions", "What can be done to a room, and what it does", "rooms"), a.listActions)
	huma.Register(h, op(get, "get-fleet", "/fleet", "All edges", "system"), a.getFleet)
	huma.Register(h, op(get, "list-limits", "/limits", "All limits, and how near each is", "system"), a.listLimits)
	huma.Register(h, op(get, "list-audit", "/audit", "Changes of all rooms, newest first", "system"), a.listAudit)
}

type body[T any] struct {
	CacheControl string `header:"Cache-Control"`
	ETag         string `header:"ETag"`
	Body         T
}

func fresh[T any](v T) *body[T] { return &body[T]{CacheControl: "no-store", Body: v} }

type none struct{}

// RoomIn names the room of a path. It is exported for huma, which looks into exported fields only.
type RoomIn struct {
	Room string `path:"room" maxLength:"64" doc:"Name of the room."`
}

// look is a room's newest look; a room that exists and was not looked at yet is stale.
func (a *api) look(ctx context.Context, room string) (desk.Look, error) {
	if l, ok := a.Desk.Look(room); ok {
		return l, nil
	}
	if _, err := a.Desk.Settings(ctx, room); err != nil {
		return desk.Look{}, err
	}
	return desk.Look{Room: room, Time: time.Now().UTC(), Stale: true, Error: "The room was not looked at yet.", Drain: desk.Drain{Why: "the data is old"}}, nil
}

func (a *api) listRooms(ctx context.Context, _ *none) (*body[[]desk.Look], error) {
	names, err := a.Desk.Names(ctx)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	out := make([]desk.Look, 0, len(names))
	for _, name := range names {
		l, err := a.look(ctx, name)
		if errors.Is(err, desk.ErrNoRoom) {
			continue // removed in between
		} else if err != nil {
			return nil, a.fail(ctx, err)
		}
		out = append(out, l)
	}
	return fresh(out), nil
}

func (a *api) getRoom(ctx context.Context, in *RoomIn) (*body[desk.Look], error) {
	l, err := a.look(ctx, in.Room)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return fresh(l), nil
}

// History is a room's recent past in columns. A value that is not known is null.
type History struct {
	At         []int64     `json:"at" doc:"Unix seconds, ascending; seconds without a look are left out."`
	Arrivals   []*float64  `json:"arrivals_per_second"`
	Admissions []*float64  `json:"admissions_per_second"`
	Rate       []*float64  `json:"rate_per_second"`
	Waiting    []*float64  `json:"waiting"`
	Inside     []*float64  `json:"inside"`
	Cap        []*float64  `json:"cap"`
	AtDoor     []*float64  `json:"at_door"`
	P99MS      []*float64  `json:"p99_ms"`
	Errors     []*float64  `json:"error_ratio"`
	Marks      []desk.Mark `json:"marks"`
}

func (a *api) getHistory(ctx context.Context, in *struct {
	RoomIn
	Seconds int `query:"seconds" default:"3600" minimum:"1" maximum:"3600" doc:"How far back."`
}) (*body[History], error) {
	if _, err := a.look(ctx, in.Room); err != nil {
		return nil, a.fail(ctx, err)
	}
	from := time.Now().Add(-time.Duration(in.Seconds) * time.Second)
	points := a.Desk.Points(in.Room, from)
	column := func(of func(desk.Point) float32) []*float64 {
		out := make([]*float64, len(points))
		for i, p := range points {
			if v := float64(of(p)); !math.IsNaN(v) {
				v = math.Round(v*1000) / 1000
				out[i] = &v
			}
		}
		return out
	}
	h := History{At: make([]int64, len(points)), Marks: a.Desk.Marks(in.Room, from)}
	for i, p := range points {
		h.At[i] = p.At
	}
	h.Arrivals = column(func(p desk.Point) float32 { return p.Arrivals })
	h.Admissions = column(func(p desk.Point) float32 { return p.Admissions })
	h.Rate = column(func(p desk.Point) float32 { return p.Rate })
	h.Waiting = column(func(p desk.Point) float32 { return p.Waiting })
	h.Inside = column(func(p desk.Point) float32 { return p.Inside })
	h.Cap = column(func(p desk.Point) float32 { return p.Cap })
	h.AtDoor = column(func(p desk.Point) float32 { return p.AtDoor })
	h.P99MS = column(func(p desk.Point) float32 { return p.P99MS })
	h.Errors = column(func(p desk.Point) float32 { return p.Errors })
	return fresh(h), nil
}

func (a *api) watchRoom(ctx context.Context, in *RoomIn) (*huma.StreamResponse, error) {
	if _, err := a.look(ctx, in.Room); err != nil {
		return nil, a.fail(ctx, err)
	}
	v, err := a.Desk.Watch(in.Room)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer v.Close()
		r, w := humago.Unwrap(hc)
		Stream(w, r, v, a.Stop, "look", func(l desk.Look) any { return l })
	}}, nil
}

// Settings is a version of a room's settings.
type Settings struct {
	Room     string          `json:"room"`
	Version  string          `json:"version"`
	Document json.RawMessage `json:"document" doc:"The whole document. list-fields describes its keys."`
}

func etag(version string) string { return `"` + version + `"` }

func (a *api) getSettings(ctx context.Context, in *RoomIn) (*body[Settings], error) {
	doc, err := a.Desk.Settings(ctx, in.Room)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	out := fresh(Settings{in.Room, doc.Version, doc.JSON})
	out.ETag = etag(doc.Version)
	return out, nil
}

// matched is the version in an If-Match header; empty stands for any.
func matched(header string) (version string, err error) {
	header = strings.TrimSpace(header)
	if header == "" || header == "*" {
		return "", nil
	}
	version = strings.TrimPrefix(header, "W/")
	if len(version) < 3 || version[0] != '"' || version[len(version)-1] != '"' || strings.Contains(version[1:len(version)-1], `"`) {
		return "", problem.New(http.StatusBadRequest, "malformed", "If-Match is not one entity tag", `Send the ETag of the settings, quotes included, as in If-Match: "12".`)
	}
	return version[1 : len(version)-1], nil
}

// Reason says why something is changed.
type Reason struct {
	Reason string `json:"reason" maxLength:"240" doc:"Why; kept in the log of changes."`
}

// Put is a new settings document.
type Put struct {
	Document json.RawMessage `json:"document" doc:"The whole document."`
	Reason
}

func changed(d desk.Applied) *body[desk.Applied] {
	out := fresh(d)
	out.ETag = etag(d.Version)
	return out
}

func (a *api) putSettings(ctx context.Context, in *struct {
	RoomIn
	IfMatch string `header:"If-Match" doc:"ETag of the version that was looked at. * replaces whatever there is."`
	Body    Put
}) (*body[desk.Applied], error) {
	version, err := matched(in.IfMatch)
	if err == nil && in.IfMatch == "" {
		err = problem.New(http.StatusPreconditionRequired, "if-match-required", "Name the version that you looked at", "Read the settings, and send their ETag as If-Match.")
	}
	if err == nil && version == "" {
		var doc desk.Document
		doc, err = a.Desk.Settings(ctx, in.Room)
		version = doc.Version
	}
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	done, err := a.Desk.Put(ctx, in.Room, in.Body.Document, version, access.From(ctx).Who, in.Body.Reason.Reason)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return changed(done), nil
}

func (a *api) previewSettings(ctx context.Context, in *struct {
	RoomIn
	Body struct {
		Document json.RawMessage `json:"document,omitempty" doc:"The whole document; or:"`
		Edits    map[string]any  `json:"edits,omitempty" doc:"Values by dotted path, laid over the current document."`
	}
}) (*body[desk.Preview], error) {
	var p desk.Preview
	var err error
	switch {
	case (in.Body.Document == nil) == (in.Body.Edits == nil):
		err = problem.New(http.StatusUnprocessableEntity, "invalid", "Send either document or edits", "")
	case in.Body.Edits != nil:
		p, err = a.Desk.PreviewEdits(ctx, in.Room, in.Body.Edits)
	default:
		p, err = a.Desk.Preview(ctx, in.Room, in.Body.Document)
	}
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return fresh(p), nil
}

func (a *api) undoSettings(ctx context.Context, in *struct {
	RoomIn
	IfMatch string `header:"If-Match" doc:"ETag of the version to undo. Without it: the current one."`
	Body    Reason
}) (*body[desk.Applied], error) {
	version, err := matched(in.IfMatch)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	done, err := a.Desk.Undo(ctx, in.Room, version, access.From(ctx).Who, in.Body.Reason)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return changed(done), nil
}

// LimitIn bounds a list.
type LimitIn struct {
	Limit int `query:"limit" default:"100" minimum:"1" maximum:"500" doc:"At most so many."`
}

func (a *api) listChanges(ctx context.Context, in *struct {
	RoomIn
	LimitIn
}) (*body[[]desk.Entry], error) {
	list, err := a.Desk.History(ctx, in.Room, in.Limit)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return fresh(list), nil
}

func (a *api) act(ctx context.Context, in *struct {
	RoomIn
	Action  string `path:"action" maxLength:"32" doc:"A name of list-actions, or set."`
	IfMatch string `header:"If-Match" doc:"ETag of the settings that were looked at. Without it, whatever version is current."`
	Body    struct {
		Reason
		Edits map[string]any `json:"edits,omitempty" doc:"With set: values by dotted path, as in {\"rate_per_second\": 5}."`
	}
}) (*body[desk.Applied], error) {
	version, err := matched(in.IfMatch)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	who, why := access.From(ctx).Who, in.Body.Reason.Reason
	var done desk.Applied
	switch {
	case in.Action != "set" && in.Body.Edits != nil:
		err = problem.New(http.StatusUnprocessableEntity, "invalid", "Only set takes edits", "")
	case in.Action != "set":
		done, err = a.Desk.Act(ctx, in.Room, in.Action, version, who, why)
	case len(in.Body.Edits) == 0:
		err = problem.New(http.StatusUnprocessableEntity, "invalid", "set needs edits", `As in {"edits": {"rate_per_second": 5}, "reason": "…"}.`)
	default:
		done, err = a.Desk.Set(ctx, in.Room, in.Body.Edits, version, who, why)
	}
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return changed(done), nil
}

func (a *api) listFields(context.Context, *none) (*body[[]desk.Field], error) {
	return fresh(a.Desk.Fields()), nil
}

func (a *api) listActions(context.Context, *none) (*body[[]desk.Action], error) {
	return fresh(desk.Actions), nil
}

// Edges is the fleet.
type Edges struct {
	ReadAt *time.Time  `json:"read_at,omitempty" doc:"When it was read; absent: not yet."`
	Error  string      `json:"error,omitempty" doc:"Why nothing newer is known."`
	Edges  []desk.Edge `json:"edges"`
}

func (a *api) getFleet(context.Context, *none) (*body[Edges], error) {
	edges, at, err := a.Desk.Edges()
	out := Edges{Edges: append([]desk.Edge{}, edges...)}
	if !at.IsZero() {
		out.ReadAt = &at
	}
	if err != nil {
		out.Error = "The room store does not answer."
	}
	return fresh(out), nil
}

func (a *api) listLimits(ctx context.Context, _ *none) (*body[[]desk.Limit], error) {
	list, err := a.Desk.Limits(ctx)
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return fresh(list), nil
}

func (a *api) listAudit(ctx context.Context, in *struct {
	LimitIn
	Room string `query:"room" maxLength:"64" doc:"Only this room."`
}) (*body[[]desk.Entry], error) {
	var list []desk.Entry
	var err error
	if in.Room != "" {
		list, err = a.Desk.History(ctx, in.Room, in.Limit)
	} else {
		list, err = a.Desk.Audit(ctx, in.Limit)
	}
	if err != nil {
		return nil, a.fail(ctx, err)
	}
	return fresh(list), nil
}
