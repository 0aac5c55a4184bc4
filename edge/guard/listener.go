package guard

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
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
	// Exempt are networks of trusted proxies, which stand for many clients.
	Exempt []netip.Prefix
	// Dropped is told why a connection was closed at once: "total" or "network". Nil: nobody.
	Dropped func(reason string)
}

// Listener hands out guarded connections and closes those over a cap without a word.
type Listener struct {
	net.Listener
	cfg  *Config
	caps Caps

	open atomic.Int64
	mu   sync.Mutex
	nets map[netip.Prefix]int // holds open networks only, so it is bounded by Total
}

// NewListener wraps l.
func NewListener(l net.Listener, cfg *Config, caps Caps) *Listener {
	return &Listener{Listener: l, cfg: cfg, caps: caps, nets: make(map[netip.Prefix]int)}
}

// Open is the number of open connections.
func (l *Listener) Open() int { return int(l.open.Load()) }

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
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

// admit counts the connection in, or says which cap it is over.
func (l *Listener) admit(c *Conn) string {
	if n := l.open.Add(1); l.caps.Total > 0 && n > int64(l.caps.Total) {
		l.open.Add(-1)
		return "total"
	}
	network := Network(c.peer.Addr())
	counted := l.caps.PerNetwork > 0 && network.IsValid()
	for _, p := range l.caps.Exempt {
		if p.Contains(c.peer.Addr()) {
			counted = false
		}
	}
	if counted {
		l.mu.Lock()
		n := l.nets[network]
		if n >= l.caps.PerNetwork {
			l.mu.Unlock()
			l.open.Add(-1)
			return "network"
		}
		l.nets[network] = n + 1
		l.mu.Unlock()
	}
	c.onClose = func() {
		l.open.Add(-1)
		if !counted {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if n := l.nets[network]; n > 1 {
			l.nets[network] = n - 1
		} else {
			delete(l.nets, network)
		}
	}
	return ""
}
