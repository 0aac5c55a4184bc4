package guard

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Network is the network a client is counted under: IPv4 /24, IPv6 /48.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// Caps bound open connections. A value below 1 means no cap.
type Caps struct {
	Total      int
	PerNetwork int
	// Exempt says who is a trusted proxy, which stands for many clients. Nil: nobody.
	Exempt func(netip.Addr) bool
	// Full is asked for each connection that is not exempt; true closes it. Nil: never.
	Full func() bool
	// Dropped is told why a connection was closed at once: "total", "network" or "pressure". Nil: nobody.
	Dropped func(reason string)
	// Starved is told when a connection could not be accepted for want of descriptors or memory. Nil: nobody.
	Starved func(error)
}

// While the system has no descriptor or no memory for another connection, accepting is tried again after a pause that
// doubles.
const (
	starvedFirst = 5 * time.Millisecond
	starvedMost  = 500 * time.Millisecond
)

// passing reports whether accepting may work again later.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Listener hands out guarded connections and closes those over a cap without a word.
type Listener struct {
	net.Listener
	cfg  *Config
	caps Caps

	open   atomic.Int64
	closed chan struct{}
	once   sync.Once
	mu     sync.Mutex
	nets   map[netip.Prefix]int // holds open networks only, so it is bounded by Total
}

// NewListener wraps l.
func NewListener(l net.Listener, cfg *Config, caps Caps) *Listener {
	return &Listener{Listener: l, cfg: cfg, caps: caps, nets: make(map[netip.Prefix]int), closed: make(chan struct{})}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// Open is the number of open connections.
func (l *Listener) Open() int { return int(l.open.Load()) }

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for pause := starvedFirst; ; {
		nc, err := l.Listener.Accept()
		if err != nil {
			if !passing(err) {
				return nil, err
			}
			if l.caps.Starved != nil {
				l.caps.Starved(err)
			}
			if !l.wait(pause) {
				return nil, net.ErrClosed
			}
			pause = min(2*pause, starvedMost)
			continue
		}
		pause = starvedFirst
		c := NewConn(nc, l.cfg)
		if reason := l.admit(c); reason != "" {
			if t, ok := nc.(*net.TCPConn); ok {
				_ = t.SetLinger(0) // no memory in the kernel for those we turn away
			}
			_ = nc.Close()
			if l.caps.Dropped != nil {
				l.caps.Dropped(reason)
			}
			continue
		}
		return c, nil
	}
}

// wait reports whether the listener is still open after d.
func (l *Listener) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.closed:
		return false
	}
}

// admit counts the connection in, or says which cap it is over.
func (l *Listener) admit(c *Conn) string {
	if l.caps.Full != nil && (l.caps.Exempt == nil || !l.caps.Exempt(c.peer.Addr())) && l.caps.Full() {
		return "pressure"
	}
	if n := l.open.Add(1); l.caps.Total > 0 && n > int64(l.caps.Total) {
		l.open.Add(-1)
		return "total"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	held, ok := l.count(c.peer.Addr())
	if !ok {
		l.open.Add(-1)
		return "network"
	}
	closed := false
	c.recount = func(client netip.Addr) bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		next, ok := l.count(client)
		if !ok || closed {
			l.uncount(next)
			return false
		}
		l.uncount(held)
		held = next
		return true
	}
	c.onClose = func() {
		l.open.Add(-1)
		l.mu.Lock()
		defer l.mu.Unlock()
		closed = true
		l.uncount(held)
	}
	return ""
}

// count counts a connection under its network and returns what to uncount: nothing when its network has no cap. ok is false
// when the network is full. The caller holds mu.
func (l *Listener) count(a netip.Addr) (held netip.Prefix, ok bool) {
	if l.caps.PerNetwork <= 0 || !a.IsValid() || l.caps.Exempt != nil && l.caps.Exempt(a) {
		return netip.Prefix{}, true
	}
	n := Network(a)
	if l.nets[n] >= l.caps.PerNetwork {
		return netip.Prefix{}, false
	}
	l.nets[n]++
	return n, true
}

func (l *Listener) uncount(held netip.Prefix) {
	if n, ok := l.nets[held]; ok && n > 1 {
		l.nets[held] = n - 1
	} else {
		delete(l.nets, held)
	}
}
