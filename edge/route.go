package edge

import (
	"strings"

	"github.com/stanchion-queue/stanchion/edge/guard"
)

// route is a Route ready for use.
type route struct {
	Route
	host     string
	methods  uint16 // bit per guard.Method; 0: all
	upstream *origin
	room     *roomServer // nil: passes freely
	cost     float64
	index    int // among the routes
}

// kind groups requests that take about the same time.
func (t *route) kind(m guard.Method) uint8 { return uint8(t.index*8) + uint8(m) }

// routes are tried in order.
type routes []*route

// find returns the first route that matches the request, reading its path as given.
func (rs routes) find(r *guard.Request, path []byte) *route {
next:
	for _, t := range rs {
		if t.host != "" && t.host != string(r.Hostname) {
			continue
		}
		if t.methods != 0 && t.methods&(1<<r.Method) == 0 {
			continue
		}
		if !t.matchPath(path) {
			continue
		}
		for name, want := range t.Headers {
			if string(r.Find(name)) != want {
				continue next
			}
		}
		return t
	}
	return nil
}

func (t *route) matchPath(path []byte) bool {
	if len(t.Paths) == 0 {
		return true
	}
	for _, p := range t.Paths {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			if len(path) >= len(prefix) && string(path[:len(prefix)]) == prefix {
				return true
			}
		} else if string(path) == p {
			return true
		}
	}
	return false
}

// lookup routes a request. ambiguous is true when an origin that reads the path in another way would serve what another
// route stands for.
func (rs routes) lookup(r *guard.Request) (t *route, ambiguous bool) {
	t = rs.find(r, r.Match)
	if r.Alt != nil && rs.find(r, r.Alt) != t {
		return nil, true
	}
	return t, false
}
