package edge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/stanchion-queue/stanchion/edge/guard"
	"github.com/stanchion-queue/stanchion/edge/shed"
	"github.com/stanchion-queue/stanchion/edge/upstream"
)

// forward sends the request to the route's origin and the response back, both streaming.
func (s *Server) forward(x *exchange) {
	o := x.route.upstream
	whole, repeatable, ok := x.repeatable()
	if !ok {
		x.refuse(x.conn.BodyRefused())
		return
	}
	if !o.shed.Acquire(x.route.Priority) {
		x.overloaded()
		return
	}
	if x.req.WebSocket && x.route.WebSocket {
		s.upgrade(x)
		return
	}
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	resp.Header.SetNoDefaultContentType(true)
	x.prepare(req)
	if whole != nil {
		req.SetBodyRaw(whole)
	}
	start := time.Now()
	err := o.pool.Do(req, resp, func() bool { return x.conn.BodyRead() > 0 }, repeatable)
	end := time.Now()
	took := end.Sub(start)
	fasthttp.ReleaseRequest(req)
	if err != nil {
		fasthttp.ReleaseResponse(resp)
		o.shed.Release(x.route.kind(x.req.Method), took, outcome(err), end)
		x.originFailed(err)
		return
	}
	status := resp.StatusCode()
	switch {
	case status == fasthttp.StatusServiceUnavailable || status == fasthttp.StatusTooManyRequests:
		o.shed.Release(x.route.kind(x.req.Method), took, shed.Overload, end)
	case status >= 400 || x.req.Length != 0:
		o.shed.Release(x.route.kind(x.req.Method), took, shed.Ignore, end) // an error or an upload's duration says nothing about latency
	default:
		o.shed.Release(x.route.kind(x.req.Method), took, shed.OK, end)
	}
	o.seconds.Observe(took.Seconds())
	x.respond(resp)
}

// repeatable reports whether the request may be sent to the origin twice: it carries an idempotency key, by which the origin
// knows a repetition, and its body, if it has one, is small enough to be held: whole is that body then, read before a slot of
// the origin is taken. ok is false when the client did not send it to its end.
func (x *exchange) repeatable() (whole []byte, repeatable, ok bool) {
	n := x.req.Length
	switch {
	case len(x.req.Get(guard.FieldIdempotencyKey)) == 0 || n < 0 || n > smallBody:
		return nil, false, true
	case n == 0:
		return nil, true, true
	}
	whole = make([]byte, n)
	if _, err := io.ReadFull(x.conn.Body(), whole); err != nil {
		return nil, false, false
	}
	return whole, true, true
}

func outcome(err error) shed.Outcome {
	if upstream.TimedOut(err) {
		return shed.Overload
	}
	return shed.Ignore
}

// overloaded answers a request that the origin has no room for.
func (x *exchange) overloaded() {
	x.s.metrics.shed.WithLabelValues(x.route.upstream.name, itoa(int64(x.route.Priority))).Inc()
	x.decide("shed", "")
	p := problemOverloaded
	p.RetryAfterMs = jitter(time.Second)
	x.problem(p)
}

// originFailed answers for an origin that did not.
func (x *exchange) originFailed(err error) {
	if ref := x.conn.BodyRefused(); ref != nil {
		x.refuse(ref)
		return
	}
	reason, p := "", problem{}
	switch {
	case errors.Is(err, upstream.ErrUnavailable), upstream.NotSent(err):
		reason, p = "origin-unreachable", problemUnreachable
		p.RetryAfterMs = jitter(time.Second)
	case errors.Is(err, fasthttp.ErrNoFreeConns):
		x.overloaded()
		return
	case upstream.TimedOut(err):
		reason, p = "origin-timeout", problemTimeout
	default:
		reason, p = "origin-failed", problemOrigin
	}
	x.s.metrics.originErrors.WithLabelValues(x.route.upstream.name, reason).Inc()
	x.s.log.Warn("origin did not answer", "upstream", x.route.upstream.name, "reason", reason, "error", err, "request_id", x.requestID)
	x.reason = reason
	x.problem(p)
	if x.grant != nil && !x.renewal {
		x.setPass(x.grant) // the fan is inside although the origin is not well
	}
}

// prepare makes the request for the origin: canonical target, the client's end-to-end fields, and what the edge vouches for.
func (x *exchange) prepare(req *fasthttp.Request) {
	r := x.req
	h := &req.Header
	h.DisableSpecialHeader() // fields pass as they are, in their order
	h.DisableNormalizing()
	h.SetNoDefaultContentType(true)
	h.SetMethod(r.Method.String())
	h.AddBytesV("Host", r.Host)
	req.UseHostHeader = true
	uri := req.URI()
	uri.DisablePathNormalizing = true
	uri.SetPathBytes(r.Target) // "original path" is written as it is, so the query travels with it

	for i := range r.Fields {
		f := &r.Fields[i]
		if f.Drop || x.ours(f.ID) {
			continue
		}
		if f.ID == guard.FieldCookie && hasOwnCookie(f.Value) {
			x.scratch = appendForeignCookies(x.scratch[:0], f.Value)
			if len(x.scratch) > 0 {
				h.AddBytesKV(f.Name, x.scratch)
			}
			continue
		}
		h.AddBytesKV(f.Name, f.Value)
	}
	x.vouch(func(name string, value []byte) { h.AddBytesV(name, value) })

	if r.Length != 0 {
		req.SetBodyStream(x.conn.Body(), int(r.Length))
		if r.Method != guard.POST && r.Method != guard.PUT && r.Method != guard.PATCH {
			// An origin that does not expect a body with this method may take it for the next request.
			req.SetConnectionClose()
		}
	}
}

// ours reports whether a request field is written by the edge alone.
func (x *exchange) ours(id guard.FieldID) bool {
	switch id {
	case guard.FieldHost, guard.FieldStanchion, guard.FieldStanchionPass, guard.FieldXForwardedFor, guard.FieldXForwardedProto,
		guard.FieldXForwardedHost, guard.FieldForwarded, guard.FieldXRequestID:
		return true
	case guard.FieldXForwarded, guard.FieldXRealIP:
		return !x.trusted
	case guard.FieldTraceparent, guard.FieldTracestate:
		return x.span != nil
	}
	return false
}

// vouch adds the fields by which an origin knows the client, the scheme, the session and the request.
func (x *exchange) vouch(add func(name string, value []byte)) {
	r, b := x.req, x.scratch[:0]

	public, host := x.seenAs()
	proto := []byte(public)
	peer := x.conn.Peer().Addr()
	if x.trusted {
		for i := range r.Fields {
			if r.Fields[i].ID == guard.FieldXForwardedFor {
				b = append(append(b, r.Fields[i].Value...), ", "...)
			}
		}
	}
	b = peer.AppendTo(b)
	add("X-Forwarded-For", b)
	add("X-Forwarded-Proto", proto)
	add("X-Forwarded-Host", host)

	b = b[:0]
	if x.trusted {
		for i := range r.Fields {
			if r.Fields[i].ID == guard.FieldForwarded {
				b = append(append(b, r.Fields[i].Value...), ", "...)
			}
		}
	}
	b = append(b, "for="...)
	b = appendForwardedNode(b, peer)
	b = append(b, `;host="`...)
	b = append(b, r.Host...)
	b = append(b, `";proto=`...)
	b = append(b, proto...)
	add("Forwarded", b)

	b = append(b[:0], x.requestID...)
	add("X-Request-Id", b)
	if x.room != nil && len(x.token) > 0 && (x.word == "pass" || x.word == "open") {
		b = append(b[:0], x.claims.Session...)
		add("Stanchion-Session", b)
		b = append(b[:0], x.room.name...)
		add("Stanchion-Room", b)
		token := x.token
		if x.grant != nil {
			token = append(b[:0], x.grant.Pass...)
		}
		add("Stanchion-Pass", token)
	}
	x.inject(add)
	x.scratch = b[:0]
}

func appendForwardedNode(b []byte, a netip.Addr) []byte {
	if a.Is6() {
		b = append(b, `"[`...)
		b = a.AppendTo(b)
		return append(b, `]"`...)
	}
	return a.AppendTo(b)
}

// smallBody is up to where a body is read before the response begins.
const smallBody = 16 << 10

// respond copies the origin's response to the client. The body is not touched; of the head only what belongs to the
// connection is left out, and what the edge vouches for added.
func (x *exchange) respond(resp *fasthttp.Response) {
	out := &x.ctx.Response
	if date := resp.Header.Peek("Date"); len(date) > 0 && !bytes.Equal(date, x.head.date) {
		x.head.plant(&out.Header, date)
	}
	out.SetStatusCode(resp.StatusCode())
	if m := resp.Header.StatusMessage(); len(m) > 0 {
		out.Header.SetStatusMessage(m)
	}
	var nominated []byte
	if c := resp.Header.Peek("Connection"); len(c) > 0 {
		nominated = c
	}
	cacheControl, expires := cacheUnknown, false
	for name, value := range resp.Header.All() {
		switch responseField(name) {
		case fieldDrop:
			continue
		case fieldCacheControl:
			cacheControl = max(cacheControl, cacheability(value))
		case fieldExpires:
			expires = true
		case fieldLocation:
			value = x.relocate(value)
		}
		if nominated != nil && listed(nominated, name) {
			continue
		}
		out.Header.AddBytesKV(name, value)
	}
	if cacheControl == cacheUnknown && expires {
		cacheControl = cacheShared
	}
	if x.grant != nil {
		x.deliver(cacheControl)
	}
	x.marks()
	out.Header.Set("X-Request-Id", x.requestID)

	length := resp.Header.ContentLength()
	stream := resp.BodyStream()
	if stream == nil {
		if length >= 0 {
			out.Header.SetContentLength(length)
		}
		out.SkipBody = true
		fasthttp.ReleaseResponse(resp)
		return
	}
	if length >= 0 && length <= smallBody {
		// Read before the answer has begun, so that an origin that breaks off gets a proper one.
		x.scratch = slices.Grow(x.scratch[:0], length)[:length]
		if _, err := io.ReadFull(stream, x.scratch); err != nil {
			fasthttp.ReleaseResponse(resp)
			out.ResetBody()
			x.head.plant(&out.Header, x.head.now(x.now))
			x.originFailed(fmt.Errorf("read response of %d bytes: %w", length, err))
			return
		}
		out.SetBody(x.scratch)
		fasthttp.ReleaseResponse(resp)
		return
	}
	x.streaming = true
	b := &body{x: x, r: stream, resp: resp}
	if length < 0 && x.req.HTTP10 {
		x.untilClose(b)
		return
	}
	out.ImmediateHeaderFlush = true // an event stream's head must not wait for its first event
	length = max(length, -1)
	out.SetBodyStream(b, length)
}

// untilClose sends a body of unknown length to a client that does not know chunks: its end is the connection's.
func (x *exchange) untilClose(b *body) {
	x.ctx.Response.Header.SetConnectionClose()
	head := x.ctx.Response.Header.AppendBytes(nil)
	conn := x.conn
	x.ctx.HijackSetNoResponse(true)
	x.ctx.Hijack(func(net.Conn) {
		defer b.Close()
		if _, err := conn.Write(head); err == nil {
			_, _ = io.Copy(conn, b)
		}
	})
}

// relocate turns a Location that names the origin's own address, which a client may not be able to reach and which would lead
// around the edge, into the same place as the client knows it. Origins make such redirects of their own accord: nginx, for
// one, puts the port that it listens on behind the name that the client has asked for.
func (x *exchange) relocate(to []byte) []byte {
	scheme, rest, ok := bytes.Cut(to, []byte("://"))
	if !ok || !bytes.EqualFold(scheme, []byte("http")) && !bytes.EqualFold(scheme, []byte("https")) {
		return to
	}
	end := bytes.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	if bytes.EqualFold(authority, x.req.Host) {
		return to
	}
	for _, t := range x.route.upstream.authorities {
		named := bytes.EqualFold(authority, []byte(t.host))
		if !named && t.port != "" {
			name, ok := bytes.CutSuffix(authority, []byte(t.port))
			named = ok && bytes.EqualFold(name, x.req.Hostname)
		}
		if named {
			proto, host := x.seenAs()
			b := append(append(append(x.scratch[:0], proto...), "://"...), host...)
			x.scratch = append(b, rest[end:]...)
			return x.scratch
		}
	}
	return to
}

// seenAs is the scheme and the authority by which the client knows this place.
func (x *exchange) seenAs() (proto string, host []byte) {
	proto, host = "http", x.req.Host
	if x.secure {
		proto = "https"
	}
	if x.trusted {
		if v := x.req.Get(guard.FieldXForwardedHost); v != nil {
			host = v
		}
	}
	return proto, host
}

// authority is where a target of an origin is, as it may call itself: host, with its port unless that is the scheme's own.
type authority struct {
	host string
	port string // ":8081"; empty when it is the scheme's own
}

// What a response's Cache-Control means to caches that serve many people.
const (
	cacheUnknown = iota // it says nothing
	cacheShared         // they may store it
	cachePrivate        // they may not
)

func cacheability(v []byte) int {
	for len(v) > 0 {
		item, rest, _ := bytes.Cut(v, []byte(","))
		v = rest
		d, _, _ := bytes.Cut(bytes.TrimSpace(item), []byte("="))
		if bytes.EqualFold(d, []byte("no-store")) || bytes.EqualFold(d, []byte("private")) {
			return cachePrivate
		}
	}
	return cacheShared
}

// deliver sets the new pass if no shared cache can hand it to somebody else. A mere renewal waits for a better response; a
// first pass cannot, so the response becomes private.
func (x *exchange) deliver(cache int) {
	switch {
	case cache == cachePrivate:
	case cache == cacheUnknown:
		x.header("Cache-Control", "private")
	case x.renewal:
		return
	default:
		x.header("Cache-Control", "private")
	}
	x.setPass(x.grant)
}

type responseKind uint8

const (
	fieldPlain responseKind = iota
	fieldDrop
	fieldCacheControl
	fieldExpires
	fieldLocation
)

// responseField sorts the fields of a response. Lengths first: this runs for every field of every response.
func responseField(name []byte) responseKind {
	is := func(s string) bool { return len(name) == len(s) && bytes.EqualFold(name, []byte(s)) }
	switch len(name) {
	case 2:
		if is("TE") {
			return fieldDrop
		}
	case 4:
		if is("Date") {
			return fieldDrop // planted
		}
	case 7:
		switch {
		case is("Upgrade"), is("Trailer"):
			return fieldDrop
		case is("Expires"):
			return fieldExpires
		}
	case 8:
		if is("Location") {
			return fieldLocation
		}
	case 10:
		if is("Connection") || is("Keep-Alive") {
			return fieldDrop
		}
	case 12:
		if is("X-Request-Id") {
			return fieldDrop
		}
	case 13:
		if is("Cache-Control") {
			return fieldCacheControl
		}
	case 14:
		if is("Content-Length") {
			return fieldDrop // kept by number
		}
	case 16:
		if is("Proxy-Connection") || is("Stanchion-Reason") {
			return fieldDrop
		}
	case 17:
		if is("Transfer-Encoding") {
			return fieldDrop
		}
	case 18:
		if is("Proxy-Authenticate") || is("Stanchion-Decision") {
			return fieldDrop
		}
	}
	return fieldPlain
}

// listed reports whether a Connection field names a field, other than those that are never connection-bound.
func listed(connection, name []byte) bool {
	for len(connection) > 0 {
		item, rest, _ := bytes.Cut(connection, []byte(","))
		connection = rest
		if bytes.EqualFold(bytes.TrimSpace(item), name) {
			return !bytes.EqualFold(name, []byte("Set-Cookie")) && !bytes.EqualFold(name, []byte("Content-Type"))
		}
	}
	return false
}

// body streams an origin's response body and ends the exchange.
type body struct {
	x    *exchange
	r    io.Reader
	resp *fasthttp.Response
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.x.bytes += int64(n)
	if err != nil && err != io.EOF {
		b.x.reason = "origin-broke-off"
		b.x.s.metrics.originErrors.WithLabelValues(b.x.route.upstream.name, "origin-broke-off").Inc()
	}
	return n, err
}

// Close implements io.Closer. What the client did not want is not read; the origin's connection is closed then.
func (b *body) Close() error {
	fasthttp.ReleaseResponse(b.resp)
	b.x.done()
	return nil
}
