package guard

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"
)

// Timeouts against slow clients. All are positive.
type Timeouts struct {
	Idle  time.Duration // until the first byte of a request
	Head  time.Duration // from the first byte of a request to the end of its head; also a TLS handshake
	Body  time.Duration // for the body's first bytes; afterwards it must keep minBodyRate on average
	Write time.Duration // for each write of a response to make progress
}

// minBodyRate in bytes per second is what a client must keep up on average, beyond Timeouts.Body.
const minBodyRate = 500

// Unread bodies up to drainBody bytes are read and thrown away to keep a connection; beyond that it is closed. A closing
// connection is drained for lingerFor and lingerBytes so that the client can read the answer before the reset.
const (
	drainBody   = 64 << 10
	lingerFor   = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// Config is shared by all connections of a listener. It must not change once in use.
type Config struct {
	Limits   Limits
	Timeouts Timeouts
	TLS      *tls.Config
	// Proxied says whose connections begin with a PROXY protocol head, version 1 or 2, that names the client. A connection of
	// theirs without one is closed. Nil: nobody's.
	Proxied func(peer netip.Addr) bool
	// Refused is told of every refusal that Guard answered itself, and of the end of a connection in the middle of a head
	// (ErrNotHTTP is not used for that). Nil: nobody.
	Refused func(c *Conn, ref *Refusal)
	// Broken is told of connections that ended before their first request: "proxy-protocol" or "tls". Nil: nobody.
	Broken func(reason string)
}

// Conn is a connection whose requests are read by Guard. The server on top of it reads a constant stand-in for each head and
// must finish one request before it reads the next one; Request and Body are valid in between.
//
// Close may be called at any time from any goroutine; all else is for one goroutine at a time.
type Conn struct {
	net.Conn          // the TLS connection when there is one
	raw      net.Conn // below TLS
	cfg      *Config
	peer     netip.AddrPort
	onClose  func()
	recount  func(client netip.Addr) bool // counts the connection under another network; false: that one is full

	buf        *[]byte // nil while idle
	r, w       int     // unread bytes are (*buf)[r:w]
	bodyAt     int     // where in buf bytes of the body may be buffered: behind the head
	standIn    string  // not yet handed to the server
	req        Request
	body       framing
	bodyStart  time.Time
	inRequest  bool
	shaken     bool // TLS handshake done
	rawMode    bool // upgraded: bytes pass
	continued  bool // 100 Continue has been sent
	writeUntil time.Time
	idleUntil  time.Time // the read deadline in force while it is that of an idle connection; otherwise zero

	linger atomic.Bool
	closed atomic.Bool
}

// stand-ins for the heads that the server on top reads. Only what shapes its response is kept.
const (
	standGet    = "GET / HTTP/1.1\r\nHost: -\r\n\r\n"
	standHead   = "HEAD / HTTP/1.1\r\nHost: -\r\n\r\n"
	standGetX   = "GET / HTTP/1.1\r\nHost: -\r\nConnection: close\r\n\r\n"
	standHeadX  = "HEAD / HTTP/1.1\r\nHost: -\r\nConnection: close\r\n\r\n"
	standGet10  = "GET / HTTP/1.0\r\nHost: -\r\nConnection: keep-alive\r\n\r\n"
	standHead10 = "HEAD / HTTP/1.0\r\nHost: -\r\nConnection: keep-alive\r\n\r\n"
	standGet0X  = "GET / HTTP/1.0\r\nHost: -\r\nConnection: close\r\n\r\n"
	standHead0X = "HEAD / HTTP/1.0\r\nHost: -\r\nConnection: close\r\n\r\n"
)

func (r *Request) standIn() string {
	i := 0
	if r.Method == HEAD {
		i |= 1
	}
	if r.Close {
		i |= 2
	}
	if r.HTTP10 {
		i |= 4
	}
	return [...]string{standGet, standHead, standGetX, standHeadX, standGet10, standHead10, standGet0X, standHead0X}[i]
}

// NewConn wraps a fresh connection.
func NewConn(c net.Conn, cfg *Config) *Conn {
	return &Conn{Conn: c, raw: c, cfg: cfg, peer: addrPort(c.RemoteAddr())}
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Peer is the other end of the TCP connection, or the client that a PROXY protocol head named; the zero value when it is not TCP.
func (c *Conn) Peer() netip.AddrPort { return c.peer }

// TLS reports whether TLS ends here.
func (c *Conn) TLS() bool { return c.cfg.TLS != nil }

// Request is the request being served.
func (c *Conn) Request() *Request { return &c.req }

// SetBodyLimit bounds the body of the request being served. It answers ErrBodyTooLarge when the announced length is over it.
func (c *Conn) SetBodyLimit(n int64) *Refusal {
	c.body.limit = n
	if c.req.Length > n {
		return ErrBodyTooLarge
	}
	return nil
}

// Body reads the body of the request being served; errors are io.EOF and *Refusal. A client that waits for 100 Continue gets
// it at the first read.
func (c *Conn) Body() io.Reader { return bodyReader{c} }

// BodyRead is how many bytes of the body have been read.
func (c *Conn) BodyRead() int64 { return c.body.got }

// BodyDone reports whether the body has been read to its end.
func (c *Conn) BodyDone() bool { return c.body.finished }

// KeepsAfter reports whether the connection can serve another request if the rest of the body is left unread: when not, the
// response must say Connection: close.
func (c *Conn) KeepsAfter() bool {
	switch {
	case c.body.failed != nil:
		return false
	case c.body.finished:
		return true
	case c.req.Expect && !c.continued:
		return false
	case c.req.Length > 0:
		return c.body.left <= drainBody
	}
	return true
}

type bodyReader struct{ c *Conn }

// Read implements io.Reader.
func (b bodyReader) Read(p []byte) (int, error) { return b.c.body.read(b.c, p) }

// Read implements net.Conn for the server on top. Errors end the connection; whatever had to be answered has been.
func (c *Conn) Read(p []byte) (int, error) {
	if c.rawMode {
		return c.readRaw(p)
	}
	if c.standIn == "" {
		if c.inRequest && !c.finish() {
			c.linger.Store(true)
			return 0, io.EOF
		}
		if err := c.next(p); err != nil {
			return 0, err
		}
		c.standIn = c.req.standIn()
	}
	n := copy(p, c.standIn)
	c.standIn = c.standIn[n:]
	return n, nil
}

// finish gets rid of what the last request left; it reports whether the connection can go on.
func (c *Conn) finish() bool {
	c.inRequest = false
	if !c.body.finished {
		if !c.KeepsAfter() {
			return false
		}
		var waste [4096]byte
		for n := 0; !c.body.finished; {
			m, err := c.body.read(c, waste[:])
			if n += m; err != nil && err != io.EOF || n > drainBody {
				return false
			}
		}
	}
	if c.r == c.w {
		c.release()
	} else {
		c.w = copy(*c.buf, (*c.buf)[c.r:c.w])
		c.r = 0
	}
	return true
}

// next reads the next head. scratch is memory of the caller's to wait in while there is none of our own.
func (c *Conn) next(scratch []byte) error {
	if !c.shaken {
		c.shaken = true
		if reason := c.handshake(); reason != "" {
			if c.cfg.Broken != nil {
				c.cfg.Broken(reason)
			}
			return io.EOF
		}
	}
	if c.w == 0 {
		// Moving a deadline costs: one is set a quarter later than need be and kept while it leaves the time there must be.
		if now, idle := time.Now(), c.cfg.Timeouts.Idle; c.idleUntil.Sub(now) < idle {
			c.idleUntil = now.Add(idle + idle/4)
			if err := c.Conn.SetReadDeadline(c.idleUntil); err != nil {
				return io.EOF
			}
		}
		n, _ := c.Conn.Read(scratch)
		if n == 0 {
			return io.EOF // whatever it was, there is nothing to answer
		}
		c.acquire()
		c.w = copy(*c.buf, scratch[:n])
	}
	scanned, skipped, slow := 0, false, false
	for {
		head := (*c.buf)[c.r:c.w]
		// One empty line before a request is allowed.
		if !skipped && len(head) >= 2 && head[0] == '\r' && head[1] == '\n' {
			skipped = true
			c.r += 2
			head = head[2:]
		}
		if len(head) > 0 && (skipped || head[0] != '\r' || len(head) > 1) {
			end, next, ref := headEnd(head, scanned, &c.cfg.Limits)
			if ref != nil {
				return c.refuse(ref)
			}
			if end > 0 {
				if ref := parseHead(head[:end], &c.cfg.Limits, &c.req); ref != nil {
					return c.refuse(ref)
				}
				c.r += end
				c.startRequest()
				return nil
			}
			scanned = next
		}
		if !slow {
			slow = true
			c.idleUntil = time.Time{}
			if err := c.Conn.SetReadDeadline(time.Now().Add(c.cfg.Timeouts.Head)); err != nil {
				return io.EOF
			}
		}
		if c.w == len(*c.buf) {
			c.grow()
		}
		n, err := c.Conn.Read((*c.buf)[c.w:])
		c.w += n
		if n == 0 {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return c.refuse(ErrHeadTimeout)
			}
			return io.EOF
		}
	}
}

func (c *Conn) startRequest() {
	c.inRequest = true
	c.continued = false
	c.bodyAt = c.r
	c.body.start(c.req.Length, c.cfg.Limits.BodyBytes)
	c.bodyStart = time.Time{}
}

// refuse answers and ends the connection.
func (c *Conn) refuse(ref *Refusal) error {
	if c.cfg.Refused != nil {
		c.cfg.Refused(c, ref)
	}
	if _, err := c.Write(answers[ref]); err == nil {
		c.linger.Store(true)
	}
	return io.EOF
}

// handshake does what comes before the first request: the PROXY protocol's head, then TLS. It returns what went wrong.
func (c *Conn) handshake() string {
	proxied := c.cfg.Proxied != nil && c.cfg.Proxied(c.peer.Addr())
	if !proxied && c.cfg.TLS == nil {
		return ""
	}
	if c.raw.SetDeadline(time.Now().Add(c.cfg.Timeouts.Head)) != nil {
		return "closed"
	}
	if proxied {
		// A head has at most 536 bytes that matter; what follows it in the buffer belongs to the client.
		br := bufio.NewReaderSize(c.raw, 536)
		head, err := proxyproto.Read(br)
		if err != nil {
			return "proxy-protocol"
		}
		if a := addrPort(head.SourceAddr); !head.Command.IsLocal() && a.IsValid() {
			c.peer = a
			if c.recount != nil && !c.recount(a.Addr()) {
				return "network"
			}
		}
		c.Conn = &prefixed{Conn: c.raw, br: br}
	}
	if c.cfg.TLS != nil {
		t := tls.Server(c.Conn, c.cfg.TLS)
		c.Conn = t
		ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Timeouts.Head)
		defer cancel()
		if t.HandshakeContext(ctx) != nil {
			return "tls"
		}
	}
	if c.raw.SetDeadline(time.Time{}) != nil {
		return "closed"
	}
	return ""
}

// prefixed is a connection of which some bytes have been read ahead.
type prefixed struct {
	net.Conn
	br *bufio.Reader
}

// Read implements net.Conn.
func (p *prefixed) Read(b []byte) (int, error) {
	if p.br.Buffered() > 0 {
		return p.br.Read(b)
	}
	return p.Conn.Read(b)
}

// CloseWrite ends the writing side, where the connection can.
func (p *prefixed) CloseWrite() error {
	if w, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// peek implements source.
func (c *Conn) peek(more bool) ([]byte, *Refusal) {
	if c.r < c.w && !more {
		return (*c.buf)[c.r:c.w], nil
	}
	c.makeRoom()
	if ref := c.awaitBody(); ref != nil {
		return nil, ref
	}
	n, err := c.Conn.Read((*c.buf)[c.w:])
	if n == 0 {
		return nil, bodyError(err)
	}
	c.w += n
	return (*c.buf)[c.r:c.w], nil
}

// take implements source.
func (c *Conn) take(n int) { c.r += n }

// read implements source.
func (c *Conn) read(p []byte) (int, *Refusal) {
	if c.r < c.w {
		n := copy(p, (*c.buf)[c.r:c.w])
		c.r += n
		return n, nil
	}
	if ref := c.awaitBody(); ref != nil {
		return 0, ref
	}
	n, err := c.Conn.Read(p)
	if n == 0 {
		return 0, bodyError(err)
	}
	return n, nil
}

// awaitBody sends 100 Continue when it is due and sets the deadline, which moves as bytes come in.
func (c *Conn) awaitBody() *Refusal {
	if c.bodyStart.IsZero() {
		c.bodyStart = time.Now()
	}
	if c.req.Expect && !c.continued {
		c.continued = true
		if _, err := c.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
			return ErrBodyTruncated
		}
	}
	earned := time.Duration(c.body.got) * (time.Second / minBodyRate)
	// Banking more than one period would let a client stall for long at the end of a large body.
	deadline := c.bodyStart.Add(c.cfg.Timeouts.Body + earned)
	if limit := time.Now().Add(2 * c.cfg.Timeouts.Body); deadline.After(limit) {
		deadline = limit
	}
	c.idleUntil = time.Time{}
	if c.Conn.SetReadDeadline(deadline) != nil {
		return ErrBodyTruncated
	}
	return nil
}

func bodyError(err error) *Refusal {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrBodyTimeout
	}
	return ErrBodyTruncated
}

// Upgrade ends HTTP on the connection: Read and Write pass bytes from now on, starting with those already buffered.
func (c *Conn) Upgrade() {
	c.rawMode = true
	_ = c.Conn.SetReadDeadline(time.Time{})
}

func (c *Conn) readRaw(p []byte) (int, error) {
	if c.r < c.w {
		n := copy(p, (*c.buf)[c.r:c.w])
		if c.r += n; c.r == c.w {
			c.release()
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn. Each write must be taken by the client within Timeouts.Write.
func (c *Conn) Write(p []byte) (int, error) {
	// Moving a deadline costs; one that still has three quarters of its time left is kept.
	if now := time.Now(); c.writeUntil.Sub(now) < c.cfg.Timeouts.Write*3/4 {
		c.writeUntil = now.Add(c.cfg.Timeouts.Write)
		if err := c.Conn.SetWriteDeadline(c.writeUntil); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// SetDeadline implements net.Conn. Deadlines are Guard's own business; the server's are ignored.
func (c *Conn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn; see SetDeadline.
func (c *Conn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn; see SetDeadline.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// Linger makes Close wait a moment for the client to take the answer although it has sent more than was read.
func (c *Conn) Linger() { c.linger.Store(true) }

// Close implements net.Conn.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	if c.linger.Load() {
		c.lingerClose()
	}
	err := c.Conn.Close()
	if c.onClose != nil {
		c.onClose()
	}
	return err
}

// lingerClose says that nothing more will be written and reads what is under way, so that the kernel does not answer it with
// a reset that destroys the response in the client's buffer.
func (c *Conn) lingerClose() {
	hc, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || hc.CloseWrite() != nil {
		return
	}
	if c.raw.SetReadDeadline(time.Now().Add(lingerFor)) != nil {
		return
	}
	var waste [2048]byte
	for n := 0; n < lingerBytes; {
		m, err := c.raw.Read(waste[:])
		if n += m; err != nil {
			return
		}
	}
}

// Buffers start small; a head that does not fit makes its buffer grow up to the limit and the buffer is not pooled then.
const (
	bufferSize = 4096
	bodyRoom   = 1024
)

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

func (c *Conn) acquire() {
	c.buf = buffers.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	c.r, c.w = 0, 0
}

func (c *Conn) release() {
	if c.buf != nil && len(*c.buf) == bufferSize {
		buffers.Put(c.buf)
	}
	c.buf = nil
	c.r, c.w = 0, 0
}

// grow doubles the buffer while a head is being read; no slice points into it yet.
func (c *Conn) grow() {
	b := make([]byte, 2*len(*c.buf))
	c.w = copy(b, (*c.buf)[c.r:c.w])
	c.r = 0
	old := c.buf
	if len(*old) == bufferSize {
		buffers.Put(old)
	}
	c.buf = &b
}

// makeRoom frees space in the buffer for a body's framing lines. The head must stay where it is; when there is too little
// space behind it, the unread bytes move to a buffer of their own, and the old one lives as long as the request's slices.
func (c *Conn) makeRoom() {
	if full := c.r == c.bodyAt && c.w == len(*c.buf); full || len(*c.buf)-c.bodyAt < bodyRoom {
		b := make([]byte, max(bufferSize, 2*(c.w-c.r)))
		c.w = copy(b, (*c.buf)[c.r:c.w])
		c.r, c.bodyAt, c.buf = 0, 0, &b
		return
	}
	if c.r > c.bodyAt {
		c.w = c.bodyAt + copy((*c.buf)[c.bodyAt:], (*c.buf)[c.r:c.w])
		c.r = c.bodyAt
	}
}

// BodyRefused is why the body of the request being served could not be read to its end, nil while there is no such reason.
func (c *Conn) BodyRefused() *Refusal { return c.body.failed }
