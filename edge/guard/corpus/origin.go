package corpus

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Origin is an origin that remembers what reached it, so that a case can be judged from behind the edge too. It answers 200.
type Origin struct {
	mu   sync.Mutex
	hits int // requests that arrived as a whole
	last *sight
}

// sight is one request whose body arrived as a whole.
type sight struct {
	target, body, host string
	header             http.Header
}

// ServeHTTP implements http.Handler.
func (o *Origin) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return // the edge broke off a bad body, perhaps that of the case before
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hits++
	o.last = &sight{target: r.RequestURI, body: string(b), host: r.Host, header: r.Header}
}

// Reset forgets what was seen; call it before each case.
func (o *Origin) Reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hits, o.last = 0, nil
}

// Judge says what was wrong with what reached the origin since Reset; nil means that it was as the case says.
func (o *Origin) Judge(c Case) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.last
	switch {
	case c.Refuse:
		// A body that turns out bad may have begun to arrive; it must not have arrived as a whole.
		if s != nil && c.After == 0 {
			return fmt.Errorf("the origin has read a refused request: %s", s.target)
		}
		return nil
	case c.Local:
		if o.hits != 0 {
			return fmt.Errorf("the origin was asked for what the edge answers itself")
		}
		return nil
	case s == nil || o.hits != c.Count:
		return fmt.Errorf("the origin saw %d requests, want %d", o.hits, c.Count)
	case s.body != c.Body || c.Target != "" && s.target != c.Target:
		return fmt.Errorf("the origin saw %s with body %q, want %s, %q", s.target, s.body, c.Target, c.Body)
	}
	for _, n := range c.Lacks {
		if s.header.Get(n) != "" {
			return fmt.Errorf("%s reached the origin", n)
		}
	}
	for _, n := range c.Keeps {
		if s.header.Get(n) == "" && (!strings.EqualFold(n, "Host") || s.host == "") {
			return fmt.Errorf("%s did not reach the origin", n)
		}
	}
	return nil
}
