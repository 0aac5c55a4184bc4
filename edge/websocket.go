package edge

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/stanchion-queue/stanchion/edge/guard"
	"github.com/stanchion-queue/stanchion/edge/shed"
)

// upgrades are the open WebSockets. The HTTP server no longer knows of them, so a drain has to close them itself.
type upgrades struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

func (u *upgrades) add(c net.Conn) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return false
	}
	if u.open == nil {
		u.open = map[net.Conn]struct{}{}
	}
	u.open[c] = struct{}{}
	return true
}

func (u *upgrades) remove(c net.Conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.open, c)
}

func (u *upgrades) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.open)
}

func (u *upgrades) closeAll() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for c := range u.open {
		_ = c.Close()
	}
}

// upgradeWait bounds how long an origin may take to accept an upgrade.
const upgradeWait = 10 * time.Second

// upgrade asks the origin for a WebSocket and, once it agrees, passes bytes both ways until one side ends. The caller has
// taken a slot of the origin's concurrency limit; it covers the handshake only.
func (s *Server) upgrade(x *exchange) {
	o := x.route.upstream
	start := time.Now()
	outcome, kind := shed.Ignore, x.route.kind(x.req.Method)
	defer func() { o.shed.Release(kind, time.Since(start), outcome, time.Now()) }()

	origin, err := o.pool.Pick(nil).Dial()
	if err != nil {
		x.originFailed(err)
		return
	}
	_ = origin.SetDeadline(time.Now().Add(upgradeWait))
	if _, err = origin.Write(x.upgradeHead()); err != nil {
		_ = origin.Close()
		x.originFailed(err)
		return
	}
	br := bufio.NewReader(origin)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		_ = origin.Close()
		x.originFailed(err)
		return
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		x.refusedUpgrade(resp)
		_ = origin.Close()
		return
	}
	outcome = shed.OK
	_ = origin.SetDeadline(time.Time{})
	head := []byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")
	for name, values := range resp.Header {
		if responseField([]byte(name)) == fieldDrop && name != "Upgrade" {
			continue
		}
		for _, v := range values {
			head = append(append(append(append(head, name...), ": "...), v...), "\r\n"...)
		}
	}
	head = append(head, "Stanchion-Decision: "+x.word+"\r\nX-Request-Id: "+x.requestID+"\r\n\r\n"...)

	client, logged := x.conn, x.requestID
	x.ctx.Response.SetStatusCode(http.StatusSwitchingProtocols)
	x.ctx.HijackSetNoResponse(true)
	x.ctx.Hijack(func(net.Conn) {
		client.Upgrade()
		defer origin.Close()
		if !s.upgrades.add(client) {
			return
		}
		defer s.upgrades.remove(client)
		if _, err := client.Write(head); err != nil {
			return
		}
		both := make(chan struct{}, 2)
		go func() {
			_, _ = io.Copy(origin, client)
			closeWrite(origin)
			both <- struct{}{}
		}()
		_, _ = io.Copy(client, br)
		_ = client.Close() // ends the other direction, which reads from it
		both <- struct{}{}
		<-both
		<-both
		s.log.Debug("upgrade ended", "request_id", logged)
	})
}

func closeWrite(c net.Conn) {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
		return
	}
	_ = c.Close()
}

// upgradeHead is the request as it goes to the origin.
func (x *exchange) upgradeHead() []byte {
	r := x.req
	b := append([]byte("GET "), r.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, r.Host...)
	b = append(b, "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"...)
	add := func(name string, value []byte) {
		b = append(append(append(append(b, name...), ": "...), value...), "\r\n"...)
	}
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.Drop || x.ours(f.ID) {
			continue
		}
		value := f.Value
		if f.ID == guard.FieldCookie && hasOwnCookie(value) {
			if value = appendForeignCookies(nil, value); len(value) == 0 {
				continue
			}
		}
		add(string(f.Name), value)
	}
	x.vouch(add)
	return append(b, "\r\n"...)
}

// refusedUpgrade hands on an origin's answer that is not an upgrade. Its body is short; more than 64 KiB is cut with the
// connection.
func (x *exchange) refusedUpgrade(resp *http.Response) {
	out := &x.ctx.Response
	out.SetStatusCode(resp.StatusCode)
	for name, values := range resp.Header {
		if responseField([]byte(name)) == fieldDrop {
			continue
		}
		for _, v := range values {
			out.Header.Add(name, v)
		}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
	if err != nil {
		out.Reset()
		x.originFailed(err)
		return
	}
	out.SetBodyRaw(body)
	x.marks()
}
