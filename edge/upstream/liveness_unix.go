//go:build unix

package upstream

import (
	"crypto/tls"
	"net"
	"syscall"
)

// liveness looks, without waiting, whether an idle connection still lives: nothing to read is life; an end, an error or bytes
// that nobody asked for are death.
type liveness struct {
	raw syscall.RawConn
	p   *probe
}

type probe struct {
	tls  bool
	live bool
	buf  [1]byte
	fn   func(fd uintptr) bool // made once, so that a check does not allocate
}

func newLiveness(c net.Conn) liveness {
	p := &probe{}
	if t, ok := c.(*tls.Conn); ok {
		p.tls = true
		c = t.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return liveness{}
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return liveness{}
	}
	p.fn = func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), p.buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR:
			p.live = true
		case err != nil || n == 0:
			p.live = false
		default:
			p.live = p.tls // a TLS peer may send session tickets at any time
		}
		return true
	}
	return liveness{raw: raw, p: p}
}

func (l liveness) alive() bool {
	if l.raw == nil {
		return true
	}
	if err := l.raw.Read(l.p.fn); err != nil {
		return false
	}
	return l.p.live
}
