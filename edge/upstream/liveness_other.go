//go:build !unix

package upstream

import "net"

// liveness is not looked at on this system: idle connections live until they are used.
type liveness struct{}

func newLiveness(net.Conn) liveness { return liveness{} }

func (liveness) alive() bool { return true }
