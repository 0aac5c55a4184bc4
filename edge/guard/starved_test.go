package guard

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// poorListener fails a number of times before it accepts.
type poorListener struct {
	fails  int
	err    error
	closed chan struct{}
}

func (l *poorListener) Accept() (net.Conn, error) {
	if l.fails > 0 {
		l.fails--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", l.err)}
	}
	a, _ := net.Pipe()
	return a, nil
}
func (l *poorListener) Close() error   { close(l.closed); return nil }
func (l *poorListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestStarvedListenerGoesOn: no descriptor left is no reason to stop serving for ever.
func TestStarvedListenerGoesOn(t *testing.T) {
	for _, errno := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.ECONNABORTED} {
		synctest.Test(t, func(t *testing.T) {
			starved := 0
			l := NewListener(&poorListener{fails: 10, err: errno, closed: make(chan struct{})}, &Config{}, Caps{Starved: func(err error) {
				if !errors.Is(err, errno) {
					t.Error(err)
				}
				starved++
			}})
			start := time.Now()
			c, err := l.Accept()
			if err != nil {
				t.Fatalf("%v: %v", errno, err)
			}
			_ = c.Close()
			if took := time.Since(start); starved != 10 || took < 500*time.Millisecond || took > 3*time.Second {
				t.Errorf("%v: told %d times, took %v", errno, starved, took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		l := NewListener(&poorListener{fails: 1 << 30, err: syscall.EMFILE, closed: make(chan struct{})}, &Config{}, Caps{})
		time.AfterFunc(time.Second, func() { _ = l.Close() })
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed while starved: %v", err)
		}
	})
	l := NewListener(&poorListener{fails: 1, err: syscall.EINVAL, closed: make(chan struct{})}, &Config{}, Caps{})
	if _, err := l.Accept(); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("an error that does not pass: %v", err)
	}
}

// TestFullListenerTakesHopsOnly: under pressure only trusted hops get new connections.
func TestFullListenerTakesHopsOnly(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hop, full, dropped := false, true, 0
	l := NewListener(inner, &Config{}, Caps{
		Full: func() bool { return full }, Exempt: func(netip.Addr) bool { return hop }, Dropped: func(why string) {
			if why != "pressure" {
				t.Errorf("dropped for %q", why)
			}
			dropped++
			hop = true // the next one
		},
	})
	defer l.Close()
	for range 2 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if dropped != 1 || l.Open() != 0 {
		t.Errorf("%d dropped, %d open", dropped, l.Open())
	}
}
