package edge

import (
	"cmp"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/stanchion-queue/stanchion/queue/line"
)

// problem is an RFC 9457 answer. Types are stable; docs/reference/problems.md explains each.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`

	Reason       string `json:"reason,omitempty"` // with bad-request
	RetryAfterMs int64  `json:"retry_after_ms,omitempty"`

	Room      string  `json:"room,omitempty"`
	StatusURL string  `json:"status_url,omitempty"`
	JoinURL   string  `json:"join_url,omitempty"`
	Ahead     *uint64 `json:"ahead,omitempty"`
	Ticket    string  `json:"ticket,omitempty"`
	RequestID string  `json:"request_id,omitempty"`
}

const problemTypes = "/problems/"

// The edge's problems that are not a room's refusals.
var (
	problemInternal    = problem{Type: problemTypes + "internal", Title: "Something went wrong here", Status: 500, Detail: "The request could not be served. Nothing is lost; please try again."}
	problemNoRoute     = problem{Type: problemTypes + "no-route", Title: "Not found", Status: 404, Detail: "Nothing is served under this host and path."}
	problemNotFound    = problem{Type: problemTypes + "not-found", Title: "Not found", Status: 404, Detail: "There is no such endpoint."}
	problemUnknownRoom = problem{Type: problemTypes + "unknown-room", Title: "Unknown room", Status: 404, Detail: "There is no room of this name."}
	problemMethod      = problem{Type: problemTypes + "method-not-allowed", Title: "Method not allowed", Status: 405}
	problemCrossSite   = problem{Type: problemTypes + "cross-site", Title: "Cross-site request", Status: 403, Detail: "This may only be sent from pages of this very site."}
	problemBody        = problem{Type: problemTypes + "invalid", Title: "The request is malformed", Status: 400}
	problemMedia       = problem{Type: problemTypes + "unsupported-media-type", Title: "Unsupported media type", Status: 415, Detail: "Send application/json or application/x-www-form-urlencoded."}
	problemTicket      = problem{Type: problemTypes + "ticket-missing", Title: "No place in line", Status: 400, Detail: "Send your ticket as a cookie, as JSON, or as Authorization: Stanchion."}
	problemAdmission   = problem{Type: problemTypes + "admission-required", Title: "A pass is needed", Status: 503, Detail: "This is behind a waiting room. Join, wait until your place is called, then come back with the pass."}
	problemClosed      = problem{Type: problemTypes + "room-closed", Title: "The room is closed", Status: 503, Detail: "The waiting room has lost its store for too long and is closed until it is back. Places are kept."}
	problemLimited     = problem{Type: problemTypes + "rate-limited", Title: "Too many requests", Status: 429, Detail: "Please slow down."}
	problemOverloaded  = problem{Type: problemTypes + "overloaded", Title: "Busy at the moment", Status: 503, Detail: "The origin has all it can do. Please try again in a moment; your place or your pass is kept."}
	problemUnreachable = problem{Type: problemTypes + "origin-unreachable", Title: "The origin cannot be reached", Status: 502, Detail: "Nothing was sent; trying again is safe."}
	problemOrigin      = problem{Type: problemTypes + "origin-failed", Title: "The origin did not answer properly", Status: 502, Detail: "It is not known whether the request took effect."}
	problemTimeout     = problem{Type: problemTypes + "origin-timeout", Title: "The origin did not answer in time", Status: 504, Detail: "It is not known whether the request took effect."}
	problemMoment      = problem{Type: problemTypes + string(line.RefusedMoment), Title: "One moment", Status: 503, Detail: "Please try again in a moment. Your place is kept."}
)

// refusals maps a room's refusals to HTTP.
var refusals = map[line.RefusalCode]struct {
	status int
	title  string
}{
	line.RefusedEarly:    {409, "Not called yet"},
	line.RefusedFull:     {409, "The room is full at the moment"},
	line.RefusedMoment:   {503, "One moment"},
	line.RefusedShare:    {429, "Many from your network at the moment"},
	line.RefusedHolder:   {403, "Already used"},
	line.RefusedSpent:    {410, "This place has been used"},
	line.RefusedLineOver: {410, "This line is over"},
	line.RefusedTicket:   {400, "The ticket is not valid"},
	line.RefusedInvite:   {403, "The invitation is not valid"},
	line.RefusedAccount:  {401, "An account is needed"},
	line.RefusedWork:     {403, "The work is not valid"},
	line.RefusedLane:     {422, "There is no such lane"},
	line.RefusedKeyProof: {403, "The key proof is not valid"},
	line.RefusedNotOpen:  {409, "The room is not open"},
	line.RefusedClosed:   {410, "The room is closed"},
}

// refusal makes the problem of a room's refusal.
func refusal(r *line.Refusal) problem {
	e, ok := refusals[r.Code]
	if !ok {
		e.status, e.title = 503, "One moment"
	}
	p := problem{Type: problemTypes + string(r.Code), Title: e.title, Status: e.status, Detail: r.Detail, Ticket: r.Ticket}
	if r.RetryAfter > 0 {
		p.RetryAfterMs = max(1, r.RetryAfter.Milliseconds())
	}
	if r.Code == line.RefusedEarly {
		ahead := r.Ahead
		p.Ahead = &ahead
	}
	return p
}

// ProblemKind is one kind of problem the edge answers with, for documentation.
type ProblemKind struct {
	Type   string
	Status int
	Title  string
	Detail string // what it says unless it has something better to say
}

// ProblemKinds lists every problem the edge can answer with, in the order of their types.
func ProblemKinds() []ProblemKind {
	var all []ProblemKind
	for _, p := range []problem{
		problemInternal, problemNoRoute, problemNotFound, problemUnknownRoom, problemMethod, problemCrossSite, problemBody, problemMedia,
		problemTicket, problemAdmission, problemClosed, problemLimited, problemOverloaded, problemUnreachable, problemOrigin, problemTimeout,
	} {
		all = append(all, ProblemKind{p.Type, p.Status, p.Title, p.Detail})
	}
	all = append(all, ProblemKind{problemTypes + "bad-request", 400, "The request cannot be served", "The request is not HTTP as every program reads it; the status and the member reason say why."})
	for code, r := range refusals {
		all = append(all, ProblemKind{problemTypes + string(code), r.status, r.title, ""})
	}
	slices.SortFunc(all, func(a, b ProblemKind) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Status, b.Status))
	})
	return all
}

// problem answers with a problem. The decision is "refused" unless a step has said otherwise.
func (x *exchange) problem(p problem) {
	if x.word == "" {
		x.decide("refused", p.Type[len(problemTypes):])
	}
	p.RequestID = x.requestID
	body, err := json.Marshal(p)
	if err != nil { // cannot be: the struct holds nothing that JSON cannot
		body = []byte(`{"type":"/problems/internal","status":500}`)
		p.Status = 500
	}
	r := &x.ctx.Response
	r.SetStatusCode(p.Status)
	r.Header.SetContentType("application/problem+json")
	r.Header.Set("Cache-Control", "no-store")
	if p.RetryAfterMs > 0 {
		r.Header.Set("Retry-After", strconv.FormatInt((p.RetryAfterMs+999)/1000, 10))
	}
	r.SetBodyRaw(body)
	x.own()
}

// jitter spreads retries: d to 1.5 d, in milliseconds.
func jitter(d time.Duration) int64 {
	return (d + rand.N(d/2+1)).Milliseconds()
}
