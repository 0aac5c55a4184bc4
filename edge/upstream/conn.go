package upstream

import (
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// DialError is a connection that could not be made: nothing of the request was sent.
type DialError struct {
	Target string
	Err    error
}

// Error implements error.
func (e *DialError) Error() string { return "connect to " + e.Target + ": " + e.Err.Error() }

// Unwrap implements errors.Unwrap.
func (e *DialError) Unwrap() error { return e.Err }

// conn is a pooled connection to a target. The client above it treats it as one connection that lives long; underneath, when
// the origin has closed it while it was idle, a fresh one takes its place before the first byte of the next request
// is written. So a request never fails on a dead idle connection, whatever its method, and none is sent twice.
type conn struct {
	net.Conn
	dial     func() (net.Conn, error)
	check    liveness
	reading  bool // the last thing done was a read: the next write begins a request
	fresh    bool
	response time.Duration // wait for the first byte of a response
	stall    time.Duration // silence inside a body
	writing  time.Duration
	replaced *atomic.Uint64

	writeUntil, readUntil time.Time // deadlines in force
	readFor               time.Duration
}

// Moving a deadline costs about as much as the rest of a small read. So one is set a quarter later than asked for and kept as
// long as it leaves the time asked for.
func keeps(until, now time.Time, d time.Duration) bool { return until.Sub(now) >= d }

func later(now time.Time, d time.Duration) time.Time { return now.Add(d + d/4) }

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if c.reading || c.fresh {
		c.reading = false
		if !c.fresh && !c.check.alive() {
			if err := c.redial(); err != nil {
				return 0, err
			}
		}
		c.fresh = false
	}
	if now := time.Now(); !keeps(c.writeUntil, now, c.writing) {
		c.writeUntil = later(now, c.writing)
		if err := c.Conn.SetWriteDeadline(c.writeUntil); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	d := c.stall
	if !c.reading {
		c.reading = true
		d = c.response
	}
	if now := time.Now(); d != c.readFor || !keeps(c.readUntil, now, d) {
		c.readFor, c.readUntil = d, later(now, d)
		if err := c.Conn.SetReadDeadline(c.readUntil); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(p)
}

// The client's own deadlines would cover a whole response, however long it streams; ours cover each wait.
func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

func (c *conn) redial() error {
	fresh, err := c.dial()
	if err != nil {
		return err
	}
	_ = c.Conn.Close()
	c.Conn, c.check = fresh, newLiveness(fresh)
	c.writeUntil, c.readUntil = time.Time{}, time.Time{}
	c.replaced.Add(1)
	return nil
}

// TimedOut reports whether an error is the target's silence.
func TimedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// NotSent reports whether an error means that no connection could be made, so that nothing was sent.
func NotSent(err error) bool {
	var d *DialError
	return errors.As(err, &d)
}
