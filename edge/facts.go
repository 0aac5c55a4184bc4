package edge

import (
	"bytes"
	"net/netip"
	"strconv"

	"github.com/stanchion-queue/stanchion/edge/admit"
	"github.com/stanchion-queue/stanchion/edge/guard"
)

// jsCookie is set by the page's own script; its presence says that scripts run, so that no Refresh is needed.
const jsCookie = "stanchion-js"

// ownCookie reports whether a cookie is the edge's; such cookies never reach an origin.
func ownCookie(name []byte) bool {
	return bytes.HasPrefix(name, []byte("stanchion-")) || bytes.HasPrefix(name, []byte("__Host-stanchion-"))
}

// cookieNames are a room's cookie names, with and without TLS. The __Host- prefix makes browsers refuse the cookie from
// anybody but this very host over TLS.
type cookieNames struct{ ticket, pass, probe string }

func namesFor(room string, secure bool) cookieNames {
	prefix := "stanchion-"
	if secure {
		prefix = "__Host-stanchion-"
	}
	return cookieNames{prefix + "ticket-" + room, prefix + "pass-" + room, prefix + "probe-" + room}
}

// cookies are what a request's Cookie fields hold for one room. The slices point into the request.
type cookies struct {
	ticket, pass []byte
	probe, js    bool
	own          bool // there is a cookie of ours, of whatever room
}

// readCookies finds our cookies. A cookie that comes twice with different values counts as none: somebody may have planted
// one of them.
func readCookies(r *guard.Request, n *cookieNames) (c cookies) {
	for i := range r.Fields {
		if r.Fields[i].ID != guard.FieldCookie {
			continue
		}
		for rest := r.Fields[i].Value; len(rest) > 0; {
			var name, value []byte
			name, value, rest = nextCookie(rest)
			if !ownCookie(name) {
				continue
			}
			c.own = true
			switch string(name) {
			case n.ticket:
				c.ticket = single(c.ticket, value)
			case n.pass:
				c.pass = single(c.pass, value)
			case n.probe:
				c.probe = true
			case jsCookie:
				c.js = string(value) == "1"
			}
		}
	}
	if string(c.ticket) == twice {
		c.ticket = nil
	}
	if string(c.pass) == twice {
		c.pass = nil
	}
	return c
}

const twice = "\x00"

func single(have, value []byte) []byte {
	if have == nil || bytes.Equal(have, value) {
		return value
	}
	return []byte(twice)
}

// nextCookie cuts the first pair off a Cookie field.
func nextCookie(v []byte) (name, value, rest []byte) {
	pair, rest, _ := bytes.Cut(v, []byte(";"))
	name, value, _ = bytes.Cut(pair, []byte("="))
	return bytes.TrimLeft(name, " \t"), bytes.TrimSpace(value), rest
}

// appendForeignCookies appends a Cookie field's value without our cookies.
func appendForeignCookies(dst, v []byte) []byte {
	start := len(dst)
	for len(v) > 0 {
		pair, rest, _ := bytes.Cut(v, []byte(";"))
		v = rest
		pair = bytes.TrimLeft(pair, " \t")
		name, _, _ := bytes.Cut(pair, []byte("="))
		if len(pair) == 0 || ownCookie(name) {
			continue
		}
		if len(dst) > start {
			dst = append(dst, "; "...)
		}
		dst = append(dst, pair...)
	}
	return dst
}

// hasOwnCookie reports whether a Cookie field's value must be rewritten.
func hasOwnCookie(v []byte) bool { return bytes.Contains(v, []byte("stanchion-")) }

// kindOf says what a request is to its browser. Fetch metadata decides where there is any; programs that send none are
// judged by what they would rather have.
func kindOf(r *guard.Request) admit.Kind {
	navigation := false
	if mode := r.Get(guard.FieldSecFetchMode); mode != nil {
		navigation = string(mode) == "navigate"
	} else {
		navigation = r.Get(guard.FieldXRequestedWith) == nil && prefersHTML(r.Get(guard.FieldAccept))
	}
	switch {
	case !navigation:
		return admit.Other
	case bytes.Contains(r.Get(guard.FieldSecPurpose), []byte("prefetch")), string(r.Get(guard.FieldPurpose)) == "prefetch":
		return admit.Prefetch
	case r.Method == guard.GET || r.Method == guard.HEAD:
		return admit.Navigation
	}
	return admit.Form
}

// prefersHTML reports whether an Accept field names HTML with a quality no other named type exceeds.
func prefersHTML(accept []byte) bool {
	html, other := 0.0, 0.0
	for len(accept) > 0 {
		item, rest, _ := bytes.Cut(accept, []byte(","))
		accept = rest
		typ, params, _ := bytes.Cut(item, []byte(";"))
		typ = bytes.TrimSpace(typ)
		q := 1.0
		for len(params) > 0 {
			p, rest, _ := bytes.Cut(params, []byte(";"))
			params = rest
			if k, v, ok := bytes.Cut(bytes.TrimSpace(p), []byte("=")); ok && (string(k) == "q" || string(k) == "Q") {
				f, err := strconv.ParseFloat(string(v), 64)
				if err != nil {
					f = 0
				}
				q = f
			}
		}
		switch {
		case bytes.EqualFold(typ, []byte("text/html")), bytes.EqualFold(typ, []byte("application/xhtml+xml")):
			html = max(html, q)
		case bytes.HasSuffix(typ, []byte("*")):
		default:
			other = max(other, q)
		}
	}
	return html > 0 && html >= other
}

// subResource reports whether a page's own parts are asked for: those cost a fan little of the request budget.
func subResource(r *guard.Request) bool {
	switch string(r.Get(guard.FieldSecFetchDest)) {
	case "script", "style", "image", "font", "audio", "video", "track", "manifest", "worker", "serviceworker", "sharedworker", "xslt":
		return true
	}
	return false
}

// sameOrigin reports whether a state-changing request comes from our own pages or from a program, not from another site.
func sameOrigin(r *guard.Request) bool {
	switch site := r.Get(guard.FieldSecFetchSite); {
	case site == nil:
	case string(site) == "same-origin", string(site) == "none":
		return true
	default:
		return false
	}
	origin := r.Get(guard.FieldOrigin)
	if origin == nil {
		return true
	}
	_, host, ok := bytes.Cut(origin, []byte("://"))
	return ok && bytes.EqualFold(host, r.Host)
}

// clientOf finds the client's address. Behind trusted hops it is the last address of X-Forwarded-For that is not a hop's own.
func (s *Server) clientOf(peer netip.Addr, r *guard.Request) (client netip.Addr, trusted bool) {
	client = peer
	if !s.isHop(peer) {
		return client, false
	}
	for i := len(r.Fields) - 1; i >= 0; i-- {
		if r.Fields[i].ID != guard.FieldXForwardedFor {
			continue
		}
		for v := r.Fields[i].Value; len(v) > 0; {
			at := bytes.LastIndexByte(v, ',')
			a, ok := parseHop(bytes.TrimSpace(v[at+1:]))
			if !ok {
				return client, true // whatever is further left was not written by a hop we know
			}
			client = a
			if !s.isHop(a) {
				return client, true
			}
			v = v[:max(at, 0)]
		}
	}
	return client, true
}

func (s *Server) isHop(a netip.Addr) bool {
	for _, p := range s.live.Load().o.TrustedHops {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func parseHop(v []byte) (netip.Addr, bool) {
	str := string(v)
	if a, err := netip.ParseAddr(str); err == nil {
		return a.Unmap(), true
	}
	if ap, err := netip.ParseAddrPort(str); err == nil {
		return ap.Addr().Unmap(), true
	}
	if len(str) > 2 && str[0] == '[' && str[len(str)-1] == ']' {
		if a, err := netip.ParseAddr(str[1 : len(str)-1]); err == nil {
			return a.Unmap(), true
		}
	}
	return netip.Addr{}, false
}

// safeReturn reports whether a path may be returned to: an absolute path of this very host.
func safeReturn(p string) bool {
	if len(p) == 0 || len(p) > 2048 || p[0] != '/' || len(p) > 1 && (p[1] == '/' || p[1] == '\\') {
		return false
	}
	for i := range len(p) {
		if p[i] <= ' ' || p[i] >= 0x7f || p[i] == '\\' {
			return false
		}
	}
	return true
}
