// Package problem is how the console says no: RFC 9457 problem details with stable types, and the one table that maps the desk's
// errors to them. docs/reference/problems.md explains each type.
package problem

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/stanchion-queue/stanchion/admin/desk"
)

// TypePrefix precedes the code in a problem's type, a URI relative to the host.
const TypePrefix = "/problems/"

// Details is one RFC 9457 answer.
type Details struct {
	Type       string         `json:"type" doc:"Stable URI of the kind of problem, relative to the host." example:"/problems/changed-meanwhile"`
	Title      string         `json:"title" doc:"The kind of problem in words."`
	Status     int            `json:"status" doc:"HTTP status."`
	Detail     string         `json:"detail,omitempty" doc:"What to do."`
	Instance   string         `json:"instance,omitempty" doc:"Path of the request."`
	RetryAfter int64          `json:"retry_after_ms,omitempty" doc:"The very same request may succeed after so long."`
	Errors     []desk.Problem `json:"errors,omitempty" doc:"Each wrong value with what is allowed."`
}

// Error implements error.
func (d *Details) Error() string { return d.Title + ": " + d.Detail }

// GetStatus is the HTTP status, for huma.
func (d *Details) GetStatus() int { return d.Status }

// ContentType is that of RFC 9457, for huma.
func (d *Details) ContentType(string) string { return "application/problem+json" }

// Code is the last part of the type.
func (d *Details) Code() string { return d.Type[len(TypePrefix):] }

// New makes a problem.
func New(status int, code, title, detail string) *Details {
	return &Details{Type: TypePrefix + code, Title: title, Status: status, Detail: detail}
}

type row struct {
	err         error
	status      int
	code        string
	title, tell string
}

var table = []row{
	{desk.ErrNoRoom, 404, "no-such-room", "There is no such room", "GET /api/v1/rooms lists those there are."},
	{desk.ErrNoAction, 404, "no-such-action", "There is no such action", "Actions are pause, resume, queue-all, admit-all, drain, maintenance, end and set."},
	{desk.ErrNoUndo, 409, "nothing-to-undo", "There is nothing to undo", "The room has only one version of its settings."},
	{desk.ErrConflict, 412, "changed-meanwhile", "The settings were changed meanwhile", "Nothing was changed. Look at the settings as they are now, and decide again."},
	{desk.ErrReason, 422, "reason-required", "A reason is required", "Say why, in 1 to " + strconv.Itoa(desk.MaxReason) + " characters."},
	{desk.ErrViewers, 503, "too-many-viewers", "Too many live views are open", "Close a page that shows a room, or read GET /api/v1/rooms/{room}."},
}

// From maps an error of the desk to what a client is told. One it does not know becomes a 503 that says nothing of its inside; the
// caller logs it.
func From(err error) *Details {
	var d *Details
	if errors.As(err, &d) {
		return d
	}
	var invalid *desk.Invalid
	if errors.As(err, &invalid) {
		d := New(http.StatusUnprocessableEntity, "invalid", "Some values are not allowed", "Nothing was changed.")
		d.Errors = invalid.Problems
		return d
	}
	for _, r := range table {
		if errors.Is(err, r.err) {
			d := New(r.status, r.code, r.title, r.tell)
			if r.status == http.StatusServiceUnavailable {
				d.RetryAfter = 2000
			}
			return d
		}
	}
	d = New(http.StatusServiceUnavailable, "no-answer", "A part of the system did not answer", "If this was a change, it may or may not have been made: look at the settings before you try again.")
	d.RetryAfter = 2000
	return d
}

// Internal reports whether the operator was told less than is known, so that it has to be logged.
func (d *Details) Internal() bool {
	return d.Code() == "no-answer" || d.Status == http.StatusInternalServerError
}

// Header is what goes with a problem beside its body.
func (d *Details) Header(h http.Header) {
	h.Set("Cache-Control", "no-store")
	if d.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt((d.RetryAfter+999)/1000, 10))
	}
	if d.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="console"`)
	}
}

// Write answers a request with a problem.
func Write(w http.ResponseWriter, r *http.Request, d *Details) {
	shown := *d
	shown.Instance = r.URL.Path
	d.Header(w.Header())
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(d.Status)
	_ = json.NewEncoder(w).Encode(shown) // the client is gone when this fails
}
