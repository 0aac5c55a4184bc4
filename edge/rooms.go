package edge

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/stanchion-queue/stanchion/edge/admit"
	"github.com/stanchion-queue/stanchion/edge/guard"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// callTimeout bounds calls into a room that do not wait at the door.
const callTimeout = 3 * time.Second

// maxOwnBody bounds the bodies of our own endpoints.
const maxOwnBody = 8 << 10

func millis(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

func (s *Server) call(_ *exchange, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.base, d)
}

// serveOwn serves the edge's own endpoints; rest is the path behind the prefix.
func (s *Server) serveOwn(x *exchange, rest []byte) {
	x.decide("own", "")
	path := strings.TrimPrefix(string(rest), "/")
	if x.conn.SetBodyLimit(maxOwnBody) != nil {
		x.refuse(guard.ErrBodyTooLarge)
		return
	}
	switch {
	case path == "keys":
		if x.methods(guard.GET, guard.HEAD) {
			s.keys(x)
		}
	case strings.HasPrefix(path, "assets/"):
		if x.methods(guard.GET, guard.HEAD) {
			s.asset(x, path[len("assets/"):])
		}
	case strings.HasPrefix(path, "rooms/"):
		name, tail, ok := strings.Cut(path[len("rooms/"):], "/")
		room := x.live.rooms[name]
		if room == nil {
			x.decide("", "")
			x.problem(problemUnknownRoom)
			return
		}
		if !ok {
			x.redirect(s.o.Prefix + "/rooms/" + name + "/")
			return
		}
		x.room = room
		x.kind = kindOf(x.req)
		x.cookies = readCookies(x.req, room.cookies(x.secure))
		s.serveRoom(x, tail)
	default:
		x.decide("", "")
		x.problem(problemNotFound)
	}
}

// methods answers 405 unless the request's method is one of those given.
func (x *exchange) methods(allowed ...guard.Method) bool {
	names := make([]string, 0, len(allowed))
	for _, m := range allowed {
		if x.req.Method == m {
			return true
		}
		names = append(names, m.String())
	}
	x.decide("", "")
	p := problemMethod
	p.Detail = "Use " + strings.Join(names, " or ") + "."
	x.problem(p)
	x.header("Allow", strings.Join(names, ", "))
	return false
}

// serveRoom serves one endpoint of a room.
func (s *Server) serveRoom(x *exchange, tail string) {
	switch tail {
	case "":
		if x.methods(guard.GET, guard.HEAD) {
			s.roomPage(x)
		}
		return
	case "status":
		if x.methods(guard.GET, guard.HEAD) {
			s.status(x)
		}
		return
	case "place":
		if x.methods(guard.GET, guard.HEAD) {
			s.place(x)
		}
		return
	case "join", "claim", "leave":
		if !x.methods(guard.POST) {
			return
		}
		if !sameOrigin(x.req) {
			x.decide("", "")
			x.problem(problemCrossSite)
			return
		}
		in, ok := s.input(x)
		if !ok {
			return
		}
		switch tail {
		case "join":
			s.join(x, in)
		case "claim":
			s.claim(x, in)
		case "leave":
			s.leave(x, in)
		}
		return
	}
	if rest, ok := strings.CutPrefix(tail, "lines/"); ok {
		if x.methods(guard.GET, guard.HEAD) {
			s.lines(x, rest)
		}
		return
	}
	x.decide("", "")
	x.problem(problemNotFound)
}

// input is what join, claim and leave are sent, as JSON or as a form.
type input struct {
	Lane   string `json:"lane"`
	Invite string `json:"invite"`
	Key    string `json:"key"`
	Work   string `json:"work"`
	Ticket string `json:"ticket"`
	Pass   string `json:"pass"`
	Proof  string `json:"proof"`
	To     string `json:"to"`

	form bool // sent by a page without script: the answer is a redirect to a page
	key  [16]byte
}

// input reads the request's body; when it cannot be read it answers and returns false.
func (s *Server) input(x *exchange) (in input, ok bool) {
	bad := func(detail string) (input, bool) {
		x.decide("", "")
		p := problemBody
		p.Detail = detail
		x.problem(p)
		return input{}, false
	}
	raw, err := io.ReadAll(x.conn.Body())
	if err != nil {
		var ref *guard.Refusal
		if errors.As(err, &ref) {
			x.refuse(ref)
			return input{}, false
		}
		return bad("The body could not be read.")
	}
	typ, _, _ := strings.Cut(string(x.req.Get(guard.FieldContentType)), ";")
	switch typ = strings.ToLower(strings.TrimSpace(typ)); {
	case typ == "application/x-www-form-urlencoded":
		v, err := url.ParseQuery(string(raw))
		if err != nil {
			return bad("The form is not well-formed.")
		}
		in = input{Lane: v.Get("lane"), Invite: v.Get("invite"), Key: v.Get("key"), Work: v.Get("work"), To: v.Get("to"), form: true}
	case len(bytes.TrimSpace(raw)) == 0:
		in.form = x.kind == admit.Form
	case typ == "application/json":
		dec := json.NewDecoder(bytes.NewReader(raw))
		if err := dec.Decode(&in); err != nil {
			return bad("The JSON could not be read: " + jsonError(err) + ".")
		}
		if _, err := dec.Token(); err != io.EOF {
			return bad("There is something behind the JSON object.")
		}
	default:
		x.decide("", "")
		x.problem(problemMedia)
		return input{}, false
	}
	if in.Key != "" {
		k, err := base64.RawURLEncoding.DecodeString(in.Key)
		if err != nil || len(k) != len(in.key) {
			return bad("key must be 16 bytes in unpadded base64url.")
		}
		copy(in.key[:], k)
	}
	if in.To != "" && !safeReturn(in.To) {
		in.To = ""
	}
	s.credentials(x, &in)
	return in, true
}

// jsonError says what is wrong without repeating input.
func jsonError(err error) string {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("syntax error at byte %d", syntax.Offset)
	case errors.As(err, &typ):
		return "wrong type for " + typ.Field
	}
	return "it ends too early"
}

// credentials finds ticket and pass where the body did not bring them: in our Authorization scheme, then in cookies.
func (s *Server) credentials(x *exchange, in *input) {
	auth := string(x.req.Get(guard.FieldAuthorization))
	if scheme, token, ok := strings.Cut(auth, " "); ok && strings.EqualFold(scheme, "Stanchion") {
		token = strings.TrimSpace(token)
		if strings.Count(token, ".") == 2 { // a pass is a JWT; tickets have no dots
			in.Pass = orElse(in.Pass, token)
		} else {
			in.Ticket = orElse(in.Ticket, token)
		}
	}
	in.Pass = orElse(in.Pass, string(x.req.Get(guard.FieldStanchionPass)))
	in.Pass = orElse(in.Pass, string(x.cookies.pass))
	in.Ticket = orElse(in.Ticket, string(x.cookies.ticket))
}

func orElse(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// json answers 200 with a value nobody may cache.
func (x *exchange) json(v any) {
	body, err := json.Marshal(v)
	if err != nil {
		x.problem(problemInternal)
		return
	}
	x.raw("application/json", "no-store", body)
}

func (x *exchange) raw(contentType, cache string, body []byte) {
	r := &x.ctx.Response
	r.Header.SetContentType(contentType)
	r.Header.Set("Cache-Control", cache)
	r.SetBodyRaw(body)
	x.own()
}

// public lets any page and any program read what everybody may know.
func (x *exchange) public() { x.header("Access-Control-Allow-Origin", "*") }

func (s *Server) keys(x *exchange) {
	if s.o.JWKS == nil {
		x.decide("", "")
		x.problem(problemNotFound)
		return
	}
	x.public()
	x.raw("application/jwk-set+json", "public, max-age=60", s.o.JWKS())
}

func (s *Server) asset(x *exchange, name string) {
	a, ok := s.pages.Asset(name)
	if !ok {
		x.decide("", "")
		x.problem(problemNotFound)
		return
	}
	x.header("Vary", "Accept-Encoding")
	body := a.Body
	if acceptsGzip(x.req.Find("Accept-Encoding")) && len(a.Gzip) > 0 {
		body = a.Gzip
		x.header("Content-Encoding", "gzip")
	}
	x.raw(a.ContentType, "public, max-age=31536000, immutable", body)
}

func acceptsGzip(v []byte) bool {
	for len(v) > 0 {
		item, rest, _ := bytes.Cut(v, []byte(","))
		v = rest
		coding, params, _ := bytes.Cut(bytes.TrimSpace(item), []byte(";"))
		if bytes.EqualFold(bytes.TrimSpace(coding), []byte("gzip")) {
			return !bytes.Contains(params, []byte("q=0")) || bytes.Contains(params, []byte("q=0."))
		}
	}
	return false
}

// status answers the one public object: the same bytes for everybody.
func (s *Server) status(x *exchange) {
	v := x.room.Room.View()
	x.public()
	x.header("ETag", v.ETag)
	if etagMatches(x.req.Get(guard.FieldIfNoneMatch), v.ETag) {
		x.ctx.Response.SetStatusCode(304)
		x.header("Cache-Control", "public, max-age=1")
		x.own()
		return
	}
	x.raw("application/json", "public, max-age=1", v.StatusRaw)
}

func etagMatches(v []byte, etag string) bool {
	want := strings.TrimPrefix(etag, "W/")
	for len(v) > 0 {
		item, rest, _ := bytes.Cut(v, []byte(","))
		v = rest
		item = bytes.TrimPrefix(bytes.TrimSpace(item), []byte("W/"))
		if string(item) == want || string(item) == "*" {
			return want != ""
		}
	}
	return false
}

// placeJSON is a fan's situation.
type placeJSON struct {
	Ticket string     `json:"ticket,omitempty"`
	State  line.State `json:"state"`
	Lane   string     `json:"lane,omitempty"`
	Line   *line.ID   `json:"line,omitempty"`
	Rank   *uint64    `json:"rank"`
	Ahead  *uint64    `json:"ahead"`
	Sample bool       `json:"sample,omitempty"`
}

// joinJSON is the answer to join. Rank and ahead stand in place, and for convenience nowhere else.
type joinJSON struct {
	Ticket    string     `json:"ticket,omitempty"`
	State     line.State `json:"state"`
	Place     placeJSON  `json:"place"`
	Pass      string     `json:"pass,omitempty"`
	ExpiresAt string     `json:"expires_at,omitempty"`
	StayUntil string     `json:"stay_until,omitempty"`
	ServerNow string     `json:"server_time"`
}

type claimJSON struct {
	Pass      string `json:"pass"`
	ExpiresAt string `json:"expires_at"`
	StayUntil string `json:"stay_until"`
	ReturnTo  string `json:"return_to"`
	ServerNow string `json:"server_time"`
}

const timeFormat = "2006-01-02T15:04:05.000Z07:00"

func stamp(t time.Time) string { return t.UTC().Format(timeFormat) }

func placeOf(p line.Place, v *line.View) placeJSON {
	j := placeJSON{Ticket: p.Ticket, State: p.State, Lane: p.Lane, Sample: p.Sample}
	if !v.Line.IsZero() {
		id := v.Line
		j.Line = &id
	}
	if p.Known {
		rank, ahead := p.Rank, p.Ahead
		j.Rank, j.Ahead = &rank, &ahead
	}
	return j
}

// join gives the fan a place, or lets them in while the room is open.
func (s *Server) join(x *exchange, in input) {
	if in.Ticket == "" && !s.allowJoin(x) {
		return
	}
	p, err := s.callJoin(x, in)
	if err != nil {
		s.answerRefusal(x, in, "join", err)
		return
	}
	x.decide("wait", "")
	x.setTicket(p.Ticket)
	if p.Pass != nil {
		x.decide("open", "")
		s.metrics.admitted.WithLabelValues(x.room.name, "join").Inc()
		x.setPass(p.Pass)
	}
	if in.form {
		x.redirect(orElse(in.To, x.room.Entry))
		return
	}
	j := joinJSON{Ticket: p.Ticket, State: p.State, Place: placeOf(p, x.room.Room.View()), ServerNow: stamp(x.now)}
	j.Place.Ticket = ""
	if p.Pass != nil {
		j.Pass, j.ExpiresAt, j.StayUntil = p.Pass.Pass, stamp(p.Pass.ExpiresAt), stamp(p.Pass.StayUntil)
	}
	x.json(j)
}

func (s *Server) callJoin(x *exchange, in input) (line.Place, error) {
	ctx, cancel := s.call(x, callTimeout)
	defer cancel()
	return x.room.Room.Join(ctx, line.JoinRequest{
		Ticket: in.Ticket, Lane: in.Lane, Group: x.network().String(), Invite: in.Invite, Account: x.account(), Work: in.Work, Key: in.key, Admit: true,
	})
}

// account is the fan's account where the room asks for one.
func (x *exchange) account() string {
	if x.room.Account == nil {
		return ""
	}
	cookie := func(name string) string {
		for i := range x.req.Fields {
			if x.req.Fields[i].ID != guard.FieldCookie {
				continue
			}
			for rest := x.req.Fields[i].Value; len(rest) > 0; {
				var n, v []byte
				if n, v, rest = nextCookie(rest); string(n) == name {
					return string(v)
				}
			}
		}
		return ""
	}
	header := func(name string) string { return string(x.req.Find(name)) }
	sub, ok := x.room.Account(cookie, header)
	if !ok {
		return ""
	}
	return sub
}

func (s *Server) place(x *exchange) {
	var in input
	s.credentials(x, &in)
	if in.Ticket == "" {
		x.decide("", "")
		x.problem(problemTicket)
		return
	}
	ctx, cancel := s.call(x, callTimeout)
	defer cancel()
	p, err := x.room.Room.Place(ctx, in.Ticket)
	if err != nil {
		s.answerRefusal(x, in, "place", err)
		return
	}
	x.decide("wait", "")
	x.setTicket(p.Ticket)
	x.json(placeOf(p, x.room.Room.View()))
}

func (s *Server) claim(x *exchange, in input) {
	if in.Ticket == "" {
		x.decide("", "")
		if in.form {
			x.redirect(s.roomURL(x.room.name, in.To, ""))
			return
		}
		x.problem(problemTicket)
		return
	}
	g, p, err := s.callClaim(x, in.Ticket, in.Proof, true)
	x.setTicket(p.Ticket)
	if err != nil {
		s.answerRefusal(x, in, "claim", err)
		return
	}
	x.decide("pass", "claimed")
	x.setPass(&g)
	to := orElse(in.To, x.room.Entry)
	if in.form {
		x.redirect(to)
		return
	}
	x.json(claimJSON{Pass: g.Pass, ExpiresAt: stamp(g.ExpiresAt), StayUntil: stamp(g.StayUntil), ReturnTo: to, ServerNow: stamp(x.now)})
}

func (s *Server) callClaim(x *exchange, ticket, proof string, wait bool) (line.Grant, line.Place, error) {
	d := callTimeout
	if wait {
		d = x.live.o.Timeouts.Claim
	}
	ctx, cancel := s.call(x, d)
	defer cancel()
	g, p, err := x.room.Room.Claim(ctx, line.ClaimRequest{Ticket: ticket, Group: x.network().String(), Proof: proof, Wait: wait})
	if err == nil {
		s.metrics.admitted.WithLabelValues(x.room.name, "claim").Inc()
	}
	return g, p, err
}

// leave gives a session or a place up. It succeeds also when there is nothing left to give up: closing twice is harmless.
func (s *Server) leave(x *exchange, in input) {
	if in.Pass == "" && in.Ticket == "" {
		x.decide("", "")
		if in.form {
			x.redirect(s.roomURL(x.room.name, "", "left"))
			return
		}
		x.problem(problemTicket)
		return
	}
	done := false
	if in.Pass != "" {
		if c, st := s.known.verify([]byte(in.Pass), x.room.name, x.now); st == admit.PassGenuine {
			id, err := line.ParseSessionID(c.Session)
			if err == nil {
				ctx, cancel := s.call(x, callTimeout)
				err = x.room.Room.Leave(ctx, id)
				cancel()
			}
			if err != nil {
				s.answerRefusal(x, in, "leave", err)
				return
			}
			done = true
		}
	}
	if !done && in.Ticket != "" {
		if err := x.room.Room.Abandon(in.Ticket); err != nil {
			s.answerRefusal(x, in, "leave", err)
			return
		}
		done = true
	}
	if !done {
		x.decide("", "")
		p := problemTicket
		p.Detail = "Neither the pass nor the ticket is valid."
		x.problem(p)
		return
	}
	x.decide("own", "left")
	names := x.room.cookies(x.secure)
	x.setCookie(names.pass, "", -1)
	x.setCookie(names.ticket, "", -1)
	if in.form {
		x.redirect(s.roomURL(x.room.name, "", "left"))
		return
	}
	x.ctx.Response.SetStatusCode(204)
	x.header("Cache-Control", "no-store")
	x.own()
}

// answerRefusal answers what a room refused. Pages without script are led to the room's page, which says it in words.
func (s *Server) answerRefusal(x *exchange, in input, what string, err error) {
	p := s.refusalProblem(x, what, err)
	x.decide("wait", p.Type[len(problemTypes):])
	if p.Ticket != "" {
		x.setTicket(p.Ticket)
	}
	if in.form {
		x.redirect(s.roomURL(x.room.name, in.To, p.Type[len(problemTypes):]))
		return
	}
	x.problem(p)
}

// refusalProblem turns an error of a room into a problem. Whatever is not a refusal is ours to explain, not the fan's.
func (s *Server) refusalProblem(x *exchange, what string, err error) problem {
	if r, ok := line.AsRefusal(err); ok {
		return refusal(r)
	}
	s.roomTrouble(x, what, err)
	p := problemMoment
	p.RetryAfterMs = jitter(time.Second)
	return p
}

// roomTrouble logs an error that is not a refusal.
func (s *Server) roomTrouble(x *exchange, what string, err error) {
	if errors.Is(err, context.Canceled) {
		return // we are shutting down
	}
	s.log.Warn("room did not answer", "room", x.room.name, "call", what, "error", err, "request_id", x.requestID)
}

// lines serves a line's record and ledger.
func (s *Server) lines(x *exchange, rest string) {
	part := strings.Split(rest, "/")
	id, err := line.ParseID(part[0])
	if err != nil {
		x.decide("", "")
		x.problem(problemNotFound)
		return
	}
	ctx, cancel := s.call(x, callTimeout)
	defer cancel()
	switch {
	case len(part) == 2 && part[1] == "record":
		doc, err := x.room.Room.Record(ctx, id)
		if err != nil {
			s.answerRefusal(x, input{}, "record", err)
			return
		}
		x.public()
		x.raw("application/json", "public, max-age=1", doc)
	case len(part) == 4 && part[1] == "ledger":
		lane, err1 := strconv.ParseUint(part[2], 10, 8)
		chunk, err2 := strconv.ParseUint(part[3], 10, 32)
		if err1 != nil || err2 != nil {
			x.decide("", "")
			x.problem(problemNotFound)
			return
		}
		body, full, err := x.room.Room.LedgerChunk(ctx, id, uint8(lane), uint32(chunk))
		if err != nil {
			s.answerRefusal(x, input{}, "ledger", err)
			return
		}
		cache := "public, max-age=1"
		if full {
			cache = "public, max-age=31536000, immutable"
		}
		x.public()
		x.raw("application/octet-stream", cache, body)
	default:
		x.decide("", "")
		x.problem(problemNotFound)
	}
}
