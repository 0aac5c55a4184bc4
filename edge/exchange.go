package edge

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/stanchion-queue/stanchion/edge/admit"
	"github.com/stanchion-queue/stanchion/edge/guard"
	"github.com/stanchion-queue/stanchion/edge/limit"
	"github.com/stanchion-queue/stanchion/edge/pressure"
	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// exchange is one request and what has been found out about it on its way. Steps get it instead of fasthttp's context.
type exchange struct {
	s    *Server
	live *live
	ctx  *fasthttp.RequestCtx
	conn *guard.Conn
	req  *guard.Request
	now  time.Time

	client  netip.Addr
	trusted bool // a trusted hop handed the request over
	secure  bool // the client speaks TLS, to us or to a trusted hop

	route *route
	room  *roomServer
	kind  admit.Kind

	cookies cookies
	token   []byte // pass as sent
	claims  pass.Claims
	passed  admit.Pass
	grant   *line.Grant // a pass to hand to the fan with the response
	renewal bool        // the grant only renews: it can wait for a better response

	word, reason string
	requestID    string
	span         trace.Span

	limitName   string
	limited     limit.Verdict
	limitedRate limit.Rate

	status    int
	bytes     int64
	streaming bool // the response's body ends the exchange
	scratch   []byte
	head      *headSeed
}

var exchanges = sync.Pool{New: func() any { return &exchange{head: newHeadSeed()} }}

// headSeed gives a response its Date. The HTTP library either writes the time of its own clock over an origin's Date or, told
// not to, takes no Date from anybody; but it keeps what it reads, so responses begin by reading a head that has one.
type headSeed struct {
	src  bytes.Reader
	buf  *bufio.Reader
	raw  []byte
	date []byte                  // of head
	head fasthttp.ResponseHeader // the last one read: a Date changes once a second

	second int64 // Unix time of own
	own    []byte
}

func newHeadSeed() *headSeed {
	s := &headSeed{raw: make([]byte, 0, 64)}
	s.buf = bufio.NewReaderSize(&s.src, 128)
	return s
}

// plant resets the header and sets its Date.
func (s *headSeed) plant(h *fasthttp.ResponseHeader, date []byte) {
	if !bytes.Equal(date, s.date) || len(date) == 0 {
		s.read(date)
	}
	s.head.CopyTo(h)
}

func (s *headSeed) read(date []byte) {
	s.raw = append(append(append(s.raw[:0], "HTTP/1.1 200 OK\r\nDate: "...), date...), "\r\n\r\n"...)
	s.src.Reset(s.raw)
	s.buf.Reset(&s.src)
	h := &s.head
	h.DisableNormalizing() // as the server's own responses are
	h.SetNoDefaultContentType(true)
	if h.Read(s.buf) != nil { // an origin's Date that does not fit: one that is no date
		h.Reset()
	}
	h.ResetConnectionClose() // set for want of a length, which comes later
	h.SetStatusMessage(nil)
	s.date = append(s.date[:0], date...)
}

// now is the Date of a moment.
func (s *headSeed) now(t time.Time) []byte {
	if u := t.Unix(); u != s.second || len(s.own) == 0 {
		s.own, s.second = fasthttp.AppendHTTPDate(s.own[:0], t), u
	}
	return s.own
}

// serve is the handler of every request.
func (s *Server) serve(ctx *fasthttp.RequestCtx) {
	x := exchanges.Get().(*exchange) //nolint:forcetypeassert // the pool holds nothing else
	conn := ctx.Conn().(*guard.Conn) //nolint:forcetypeassert // our listener makes no other connection
	*x = exchange{s: s, live: s.live.Load(), ctx: ctx, conn: conn, req: conn.Request(), now: s.o.Now(), scratch: x.scratch[:0], head: x.head}
	x.head.plant(&ctx.Response.Header, x.head.now(x.now))
	x.client, x.trusted = s.clientOf(conn.Peer().Addr(), x.req)
	x.secure = conn.TLS() || x.trusted && string(x.req.Get(guard.FieldXForwardedProto)) == "https"
	defer x.end()
	x.start()
	s.handle(x)
}

// start gives the request its identity.
func (x *exchange) start() {
	if x.trusted {
		if id := x.req.Get(guard.FieldXRequestID); len(id) > 0 && len(id) <= 128 {
			x.requestID = string(id)
		}
	}
	if x.requestID == "" {
		x.requestID = newRequestID()
	}
	x.startSpan()
}

func newRequestID() string {
	var raw [16]byte
	a, b := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		raw[i], raw[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	var text [32]byte
	hex.Encode(text[:], raw[:])
	return string(text[:])
}

// end runs after the handler, also when it panicked.
func (x *exchange) end() {
	if p := recover(); p != nil {
		x.s.metrics.panics.Inc()
		x.s.log.Error("request handler panicked", "request_id", x.requestID, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		x.streaming = false
		x.ctx.Response.ResetBody()
		x.head.plant(&x.ctx.Response.Header, x.head.now(x.now))
		x.word, x.reason = "", ""
		x.problem(problemInternal)
		x.ctx.SetConnectionClose()
	}
	if !x.conn.KeepsAfter() {
		x.ctx.SetConnectionClose()
		x.conn.Linger()
	}
	x.status = x.ctx.Response.StatusCode()
	if !x.streaming {
		x.bytes = int64(len(x.ctx.Response.Body()))
		x.done()
	}
}

// done writes the exchange off: the response has been handed to the connection, or, when it streams, sent.
func (x *exchange) done() {
	took := x.s.o.Now().Sub(x.now)
	x.s.metrics.done(x, took)
	x.s.access.done(x, took)
	x.endSpan()
	*x = exchange{scratch: x.scratch, head: x.head}
	exchanges.Put(x)
}

// decide notes the decision for the response, the log and the metrics.
func (x *exchange) decide(word, reason string) {
	x.word, x.reason = word, reason
}

// network is the client's network as the limits of the door know it.
func (x *exchange) network() netip.Prefix { return guard.Network(x.client) }

// header sets a response field.
func (x *exchange) header(name, value string) { x.ctx.Response.Header.Set(name, value) }

// own sets what every answer of the edge itself carries.
func (x *exchange) own() {
	h := &x.ctx.Response.Header
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Request-Id", x.requestID)
	if !x.trusted && x.s.pressure() >= pressure.High {
		h.SetConnectionClose()
	}
	x.marks()
}

// marks says what was decided.
func (x *exchange) marks() {
	h := &x.ctx.Response.Header
	if x.word != "" {
		h.Set("Stanchion-Decision", x.word)
	}
	if x.reason != "" {
		h.Set("Stanchion-Reason", x.reason)
	}
	if x.limitName != "" {
		l, p := x.limited.AppendHeaders(nil, nil, x.limitName, x.limitedRate)
		h.SetBytesV("RateLimit", l)
		h.SetBytesV("RateLimit-Policy", p)
	}
}

// setCookie sets one of our own cookies. maxAge below 0 deletes it.
func (x *exchange) setCookie(name, value string, maxAge time.Duration) {
	b := append(x.scratch[:0], name...)
	b = append(b, '=')
	b = append(b, value...)
	b = append(b, "; Path=/; HttpOnly; SameSite=Lax"...)
	if maxAge != 0 {
		b = append(b, "; Max-Age="...)
		b = strconv.AppendInt(b, max(0, int64(maxAge/time.Second)), 10)
	}
	if x.secure {
		b = append(b, "; Secure"...)
	}
	x.ctx.Response.Header.AddBytesV("Set-Cookie", b)
	x.scratch = b[:0]
}

// ticketKeeps is how long a browser keeps a ticket. The line's end decides whether it is still worth anything.
const ticketKeeps = 7 * 24 * time.Hour

func (x *exchange) setTicket(ticket string) {
	if ticket != "" && ticket != string(x.cookies.ticket) {
		x.setCookie(x.room.cookies(x.secure).ticket, ticket, ticketKeeps)
	}
}

// setPass hands a pass to the fan. The cookie lives as long as the session may, since an expired pass still says whose it is.
func (x *exchange) setPass(g *line.Grant) {
	keep := max(g.StayUntil.Sub(x.now), g.ExpiresAt.Sub(x.now), time.Minute)
	x.setCookie(x.room.cookies(x.secure).pass, g.Pass, keep)
}

// setProbe asks the browser to show that it keeps cookies.
func (x *exchange) setProbe() {
	x.setCookie(x.room.cookies(x.secure).probe, "1", time.Hour)
}
