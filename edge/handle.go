package edge

import (
	"bytes"
	"strconv"

	"github.com/stanchion-queue/stanchion/edge/admit"
	"github.com/stanchion-queue/stanchion/edge/guard"
	"github.com/stanchion-queue/stanchion/edge/limit"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// handle leads one request through the steps.
func (s *Server) handle(x *exchange) {
	if len(x.req.Target) == 1 && x.req.Target[0] == '*' {
		x.decide("pass", "options")
		x.own()
		x.header("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		x.ctx.Response.SetStatusCode(204)
		return
	}
	if !s.allowNetwork(x) {
		return
	}
	if rest, ok := bytes.CutPrefix(x.req.Match, []byte(s.o.Prefix)); ok && (len(rest) == 0 || rest[0] == '/') {
		s.serveOwn(x, rest)
		return
	}
	route, ambiguous := x.live.routes.lookup(x.req)
	if ambiguous {
		x.refuse(guard.ErrTargetAmbiguous)
		return
	}
	if route == nil {
		x.problem(problemNoRoute)
		return
	}
	x.route = route
	if ref := x.conn.SetBodyLimit(route.MaxBody); ref != nil {
		x.refuse(ref)
		return
	}
	if route.room == nil {
		if route.Priority >= PriorityDefault && s.refusePressed(x) || !s.allowOutside(x) {
			return
		}
		x.decide("free", "")
		s.forward(x)
		return
	}
	s.protect(x)
}

// refuse answers for guard what only the edge could find out.
func (x *exchange) refuse(ref *guard.Refusal) {
	x.s.metrics.refused.WithLabelValues(ref.Reason).Inc()
	x.decide("refused", ref.Reason)
	x.problem(problem{Type: problemTypes + "bad-request", Title: "The request cannot be served", Status: ref.Status, Detail: ref.Detail, Reason: ref.Reason})
	x.ctx.SetConnectionClose()
	x.conn.Linger()
}

// allowNetwork takes the request from the budget of the client's network.
func (s *Server) allowNetwork(x *exchange) bool {
	if x.live.networks == nil {
		return true
	}
	v := x.live.networks.Allow(s.networkKey(x.live.networks, x), 1, x.now)
	return v.OK || s.tooMany(x, "network", x.live.networks, v)
}

// allowOutside takes a request without a pass from the process-wide budget.
func (s *Server) allowOutside(x *exchange) bool {
	if x.live.outside == nil || x.live.outside.AllowN(x.now, 1) {
		return true
	}
	return s.tooMany(x, "outside", nil, limit.Verdict{RetryAfter: 1e9})
}

// allowJoin takes a new place from the budget of the client's network.
func (s *Server) allowJoin(x *exchange) bool {
	if x.room.joins == nil {
		return true
	}
	v := x.room.joins.Allow(s.networkKey(x.room.joins, x), 1, x.now)
	return v.OK || s.tooMany(x, "join", x.room.joins, v)
}

// allowSession takes the request from its session's budget. A page's own parts cost a quarter.
func (s *Server) allowSession(x *exchange) bool {
	if x.room.sessions == nil {
		return true
	}
	cost := x.route.cost
	if subResource(x.req) {
		cost /= 4
	}
	v := x.room.sessions.Allow(x.room.sessions.KeyString(x.claims.Session), cost, x.now)
	return v.OK || s.tooMany(x, "session", x.room.sessions, v)
}

func (s *Server) networkKey(l *limit.Limiter, x *exchange) uint64 {
	a := x.network().Addr().As16()
	return l.Key(a[:])
}

// tooMany answers 429; it always returns false.
func (s *Server) tooMany(x *exchange, name string, l *limit.Limiter, v limit.Verdict) bool {
	s.metrics.limited.WithLabelValues(name).Inc()
	x.decide("limited", name)
	if l != nil {
		x.limitName, x.limited, x.limitedRate = name, v, l.Rate()
	}
	p := problemLimited
	p.RetryAfterMs = max(1, v.RetryAfter.Milliseconds())
	x.problem(p)
	return false
}

// protect serves a path inside a room.
func (s *Server) protect(x *exchange) {
	x.room = x.route.room
	x.kind = kindOf(x.req)
	x.cookies = readCookies(x.req, x.room.cookies(x.secure))
	facts := admit.Facts{
		Kind: x.kind, Head: x.req.Method == guard.HEAD, Ticket: len(x.cookies.ticket) > 0, Probe: x.cookies.probe,
	}
	x.readPass(&facts)
	if facts.Pass == admit.PassGenuine && !s.allowSession(x) {
		return
	}
	view := x.room.Room.View()
	snapshot := admit.Of(view)
	v := admit.Decide(facts, snapshot, x.now)
	if v.Action != admit.Forward && (s.refusePressed(x) || !s.allowOutside(x)) {
		return
	}
	if v.Action == admit.Enter {
		if s.enter(x) {
			return
		}
		if x.word != "" { // limited
			return
		}
		snapshot.Open = false
		v = admit.Decide(facts, snapshot, x.now)
	}
	x.decide(string(v.Word), v.Reason)
	switch v.Action {
	case admit.Forward:
		s.forward(x)
	case admit.ShowPlace, admit.Join, admit.Probe, admit.ShowState:
		s.page(x, pageRequest{action: v.Action, view: view, back: string(x.req.Target), here: true})
	case admit.ToRoom:
		s.toRoom(x)
	case admit.Close:
		p := problemClosed
		p.Room, p.RetryAfterMs = x.room.name, jitter(10e9)
		x.problem(p)
	default:
		s.admissionRequired(x, view)
	}
}

// readPass finds and judges the request's pass, and tells the room that it is in use.
func (x *exchange) readPass(f *admit.Facts) {
	x.token = x.req.Get(guard.FieldStanchionPass)
	if x.token == nil {
		x.token = x.cookies.pass
	}
	if len(x.token) == 0 {
		return
	}
	x.claims, x.passed = x.s.known.verify(x.token, x.room.name, x.now)
	f.Pass = x.passed
	if x.passed != admit.PassGenuine {
		return
	}
	f.ExpiresAt = x.claims.ExpiresAt
	use := x.room.Room.Use(x.claims, x.now)
	f.Alive, f.Ended = use.Alive, use.Ended
	if use.Renewed != nil {
		x.grant, x.renewal = use.Renewed, x.now.Before(x.claims.ExpiresAt)
	}
}

// enter tries to let the fan in at once. It reports whether it has answered the request.
func (s *Server) enter(x *exchange) bool {
	if !s.allowJoin(x) {
		return true
	}
	ctx, cancel := s.call(x, callTimeout)
	defer cancel()
	g, err := x.room.Room.Enter(ctx, x.network().String())
	if err != nil {
		if r, ok := line.AsRefusal(err); !ok || r.Code != line.RefusedNotOpen && r.Code != line.RefusedFull && r.Code != line.RefusedMoment && r.Code != line.RefusedShare {
			s.roomTrouble(x, "enter", err)
		}
		return false
	}
	s.metrics.admitted.WithLabelValues(x.room.name, "enter").Inc()
	x.decide(string(admit.WordOpen), "")
	x.admit(&g)
	if x.kind == admit.Navigation {
		s.forward(x)
	} else {
		x.setPass(&g)
		x.redirect(string(x.req.Target))
	}
	return true
}

// admit makes the grant the request's own pass.
func (x *exchange) admit(g *line.Grant) {
	x.grant, x.renewal = g, false
	x.token = []byte(g.Pass)
	x.claims.Session = g.Session.String()
	x.passed = admit.PassGenuine
}

// toRoom leads a form that needs a pass to the room's page, and from there back to the page the form was on.
func (s *Server) toRoom(x *exchange) {
	back := x.room.Entry
	if ref := x.req.Get(guard.FieldReferer); ref != nil {
		if _, rest, ok := bytes.Cut(ref, []byte("://")); ok {
			host, path, ok := bytes.Cut(rest, []byte("/"))
			if p := "/" + string(path); ok && bytes.EqualFold(host, x.req.Host) && safeReturn(p) {
				back = p
			}
		}
	}
	x.redirect(s.roomURL(x.room.name, back, "form"))
}

// admissionRequired answers what is not a navigation.
func (s *Server) admissionRequired(x *exchange, v *line.View) {
	p := problemAdmission
	base := s.o.Prefix + "/rooms/" + x.room.name
	p.Room, p.StatusURL, p.JoinURL = x.room.name, base+"/status", base+"/join"
	p.RetryAfterMs = jitter(millis(max(v.Status.Poll.MinMs, 1000)))
	x.problem(p)
}

// redirect answers 303: the browser asks for the target with GET and without the body.
func (x *exchange) redirect(to string) {
	r := &x.ctx.Response
	r.SetStatusCode(303)
	r.Header.Set("Location", to)
	r.Header.Set("Cache-Control", "no-store")
	r.Header.SetContentLength(0)
	x.own()
}

// roomURL is the room's own page with where it leads back to and a note about how the fan came there.
func (s *Server) roomURL(room, back, note string) string {
	b := append([]byte(s.o.Prefix), "/rooms/"...)
	b = append(b, room...)
	b = append(b, '/')
	sep := byte('?')
	if back != "" {
		b = append(append(b, sep), "to="...)
		b = appendQueryEscaped(b, back)
		sep = '&'
	}
	if note != "" {
		b = append(append(b, sep), "note="...)
		b = append(b, note...)
	}
	return string(b)
}

func appendQueryEscaped(dst []byte, s string) []byte {
	const hexdigits = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '/', c == '-', c == '_', c == '.', c == '~':
			dst = append(dst, c)
		default:
			dst = append(dst, '%', hexdigits[c>>4], hexdigits[c&15])
		}
	}
	return dst
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
