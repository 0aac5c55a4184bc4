package edge

import (
	"bytes"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/stanchion-queue/stanchion/edge/admit"
	"github.com/stanchion-queue/stanchion/edge/guard"
	"github.com/stanchion-queue/stanchion/edge/waitpage"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// pageRequest asks for the fan's page.
type pageRequest struct {
	action admit.Action
	view   *line.View
	back   string // the path the fan wants
	here   bool   // the request is for that very path
	note   string // how the fan came here
}

// page answers a navigation with the fan's page, or lets the fan in if it is their turn.
func (s *Server) page(x *exchange, pr pageRequest) {
	p := &waitpage.Page{
		Room: x.room.name, Title: x.room.Title, Organiser: x.room.Organiser, Status: &pr.view.Status, Stale: pr.view.Stale,
		Back: pr.back, Note: pr.note, Script: x.cookies.js, Now: x.now, ReturnWithin: x.room.ReturnWithin,
	}
	switch pr.action {
	case admit.Probe:
		x.setProbe()
		p.State = waitpage.Probe
	case admit.ShowState:
		p.State = waitpage.OfPhase(pr.view.Phase)
	case admit.Join:
		if !s.allowJoin(x) {
			return
		}
		place, err := s.callJoin(x, input{Ticket: string(x.cookies.ticket)})
		if err != nil {
			s.refusedPage(x, p, "join", err)
			break
		}
		if place.Pass != nil {
			s.metrics.admitted.WithLabelValues(x.room.name, "join").Inc()
			x.setTicket(place.Ticket)
			s.letIn(x, pr, place.Pass)
			return
		}
		x.setTicket(place.Ticket)
		p.SetPlace(place)
	case admit.ShowPlace:
		if s.showPlace(x, pr, p) {
			return
		}
	}
	s.render(x, p)
}

// showPlace fills the page for a fan with a ticket. It reports whether the fan was let in instead.
func (s *Server) showPlace(x *exchange, pr pageRequest, p *waitpage.Page) bool {
	ctx, cancel := s.call(x, callTimeout)
	defer cancel()
	place, err := x.room.Room.Place(ctx, string(x.cookies.ticket))
	if err != nil {
		s.refusedPage(x, p, "place", err)
		return false
	}
	ticket := orElse(place.Ticket, string(x.cookies.ticket))
	if place.State == line.StateCalled && x.req.Method == guard.GET {
		// Whoever comes back to the page when called is let in at once; who has to wait at the door waits on the page.
		g, claimed, err := s.callClaim(x, ticket, "", false)
		ticket = orElse(claimed.Ticket, ticket)
		if err == nil {
			x.setTicket(ticket)
			s.letIn(x, pr, &g)
			return true
		}
		if r, ok := line.AsRefusal(err); !ok || r.Code == line.RefusedEarly {
			if !ok {
				s.roomTrouble(x, "claim", err)
			}
		} else {
			ticket = orElse(r.Ticket, ticket)
			x.setTicket(ticket)
			p.SetPlace(place)
			s.refusedPage(x, p, "claim", err)
			return false
		}
	}
	x.setTicket(ticket)
	p.SetPlace(place)
	return false
}

// letIn gives the fan what they came for.
func (s *Server) letIn(x *exchange, pr pageRequest, g *line.Grant) {
	x.decide(string(admit.WordOpen), "admitted")
	x.admit(g)
	if pr.here && x.req.Method == guard.GET {
		s.forward(x)
		return
	}
	x.setPass(g)
	x.redirect(pr.back)
}

// refusedPage says a refusal in the page.
func (s *Server) refusedPage(x *exchange, p *waitpage.Page, what string, err error) {
	pr := s.refusalProblem(x, what, err)
	code := line.RefusalCode(pr.Type[len(problemTypes):])
	x.reason = string(code)
	p.State = waitpage.OfRefusal(code, p.Status.Phase)
	p.Refusal = code
	p.RetryAfter = millis(pr.RetryAfterMs)
	switch code {
	case line.RefusedTicket, line.RefusedLineOver, line.RefusedSpent:
		// The ticket is worth nothing any more; without it the fan can take a new place.
		x.setCookie(x.room.cookies(x.secure).ticket, "", -1)
	}
}

// render writes the page.
func (s *Server) render(x *exchange, p *waitpage.Page) {
	p.Lang = s.pages.Language(x.languageCookie(), string(x.req.Find("Accept-Language")))
	var buf bytes.Buffer
	buf.Grow(12 << 10)
	if err := s.pages.Render(&buf, p); err != nil {
		s.log.Error("page not rendered", "state", p.State, "error", err)
		x.problem(problemInternal)
		return
	}
	if r := s.refresh(p); r != "" {
		x.header("Refresh", r)
	}
	x.header("X-Robots-Tag", "noindex")
	x.header("Content-Security-Policy", waitpage.CSP)
	x.header("Cross-Origin-Opener-Policy", "same-origin")
	x.header("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	x.raw("text/html; charset=utf-8", "no-store", buf.Bytes())
}

// refresh is the Refresh field of a page for browsers without script; empty when nothing would change, or a script looks
// after the page.
func (s *Server) refresh(p *waitpage.Page) string {
	if p.Script {
		return ""
	}
	switch p.State {
	case waitpage.Probe:
		return "2; url=" + s.roomURL(p.Room, p.Back, "") + "&probe=1"
	case waitpage.Called, waitpage.Door, waitpage.Moment:
		return itoa(2 + int64(rand.IntN(2)))
	case waitpage.Inside, waitpage.Ended, waitpage.Left, waitpage.Refused, waitpage.CookiesBlocked, waitpage.HolderUsed, waitpage.Spent:
		return ""
	case waitpage.Lobby:
		if at := p.Status.OpensAt; at != nil {
			if left := at.Sub(p.Now); left > 0 && left < time.Minute {
				return itoa(int64(left/time.Second) + 1 + int64(rand.IntN(3)))
			}
		}
		return itoa(45 + int64(rand.IntN(30)))
	}
	d := p.Status.NextPoll(p.LaneIndex(), p.RankOr(line.NoRank), rand.Float64())
	// A page costs more than a poll, and the reader of a page more than that.
	return itoa(max(5, int64(d/time.Second)))
}

// roomPage is the room's own page, for those who come without a page of the origin to come back to.
func (s *Server) roomPage(x *exchange) {
	x.decide("wait", "")
	q, err := url.ParseQuery(string(x.req.Query))
	if err != nil {
		q = nil
	}
	to, asked := q.Get("to"), false
	if to != "" && safeReturn(to) && !hasPathPrefix(to, s.o.Prefix) {
		asked = true
	} else {
		to = x.room.Entry
	}
	note := q.Get("note")
	if lang := q.Get("lang"); lang != "" {
		// The fan has chosen a language; it holds for all rooms, and the page comes up where it was.
		if lang == s.pages.Language(lang, "") {
			x.setCookie(langCookie, lang, 365*24*time.Hour)
		}
		if asked {
			x.redirect(to)
		} else {
			x.redirect(s.roomURL(x.room.name, "", ""))
		}
		return
	}
	view := x.room.Room.View()
	snapshot := admit.Of(view)
	if snapshot.Bypass && asked {
		x.redirect(to)
		return
	}

	var facts admit.Facts
	x.readPass(&facts)
	if facts.Pass == admit.PassGenuine && !facts.Ended && (x.now.Before(facts.ExpiresAt) || facts.Alive) {
		if x.grant != nil {
			x.setPass(x.grant)
		}
		if asked && note != "form" {
			x.redirect(to)
			return
		}
		x.decide("pass", "")
		p := &waitpage.Page{
			State: waitpage.Inside, Room: x.room.name, Title: x.room.Title, Organiser: x.room.Organiser, Status: &view.Status, Back: to, Note: note,
			Script: x.cookies.js, Now: x.now, StayUntil: x.claims.StayUntil,
		}
		s.render(x, p)
		return
	}

	pr := pageRequest{view: view, back: to, note: note}
	switch {
	case note == "left" && len(x.cookies.ticket) == 0:
		p := &waitpage.Page{State: waitpage.Left, Room: x.room.name, Title: x.room.Title, Organiser: x.room.Organiser, Status: &view.Status, Back: to, Script: x.cookies.js, Now: x.now}
		s.render(x, p)
		return
	case len(x.cookies.ticket) > 0:
		pr.action = admit.ShowPlace
	case snapshot.Open && note == "":
		x.redirect(to) // the way in is the page itself
		return
	case q.Get("probe") == "1" && !x.cookies.probe:
		p := &waitpage.Page{State: waitpage.CookiesBlocked, Room: x.room.name, Title: x.room.Title, Organiser: x.room.Organiser, Status: &view.Status, Back: to, Script: x.cookies.js, Now: x.now}
		s.render(x, p)
		return
	default:
		pr.action = admit.Decide(admit.Facts{Kind: admit.Navigation, Head: x.req.Method == guard.HEAD, Probe: x.cookies.probe},
			admit.Snapshot{Phase: view.Phase}, x.now).Action
	}
	if pr.action == admit.Join && q.Get("probe") == "1" {
		s.joinAndReturn(x, pr)
		return
	}
	s.page(x, pr)
}

// joinAndReturn stamps for a browser without script that has shown it keeps cookies, and leads it back to the path it wanted.
func (s *Server) joinAndReturn(x *exchange, pr pageRequest) {
	if !s.allowJoin(x) {
		return
	}
	place, err := s.callJoin(x, input{})
	if err != nil {
		s.answerRefusal(x, input{form: true, To: pr.back}, "join", err)
		return
	}
	x.setTicket(place.Ticket)
	if place.Pass != nil {
		x.setPass(place.Pass)
	}
	x.redirect(pr.back)
}

func hasPathPrefix(p, prefix string) bool {
	return len(p) >= len(prefix) && p[:len(prefix)] == prefix && (len(p) == len(prefix) || p[len(prefix)] == '/' || p[len(prefix)] == '?')
}

// langCookie holds the language that a fan has chosen.
const langCookie = "stanchion-lang"

func (x *exchange) languageCookie() string {
	for i := range x.req.Fields {
		if x.req.Fields[i].ID != guard.FieldCookie {
			continue
		}
		for rest := x.req.Fields[i].Value; len(rest) > 0; {
			var name, value []byte
			if name, value, rest = nextCookie(rest); string(name) == langCookie {
				return string(value)
			}
		}
	}
	return ""
}

// SetBrand gives a room's pages an organiser's look, from the next page on. The error names every colour or file that cannot be used;
// then the look stays as it was.
func (s *Server) SetBrand(room string, b waitpage.Brand) error { return s.pages.SetBrand(room, b) }
