// Package admin is the operators' console: one handler for a listener of its own, with pages that work without JavaScript, a JSON API
// under /api/v1 and live streams. It joins the desk (what is known and can be done), the gate (who may), the API and the pages; what
// it shows comes through small interfaces that package desk declares.
package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/admin/access"
	"github.com/stanchion-queue/stanchion/admin/api"
	"github.com/stanchion-queue/stanchion/admin/desk"
	"github.com/stanchion-queue/stanchion/admin/ui"
)

// Options are what a console is built from.
type Options struct {
	Rooms desk.Rooms
	Sales desk.Sales // nil: nothing is sold behind any room
	Fleet desk.Fleet // nil: edges are not known

	Token       string        // start token of at least access.MinToken characters; see NewToken
	SessionLife time.Duration // of an operator's session; 0: 12 h
	LookEvery   time.Duration // between two looks at a room; 0: 1 s
	MaxViewers  int           // live streams at once; 0: 64

	Now        func() time.Time // of the recorder; nil: time.Now
	Version    string
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Console is the handler of the console's listener. The server around it sets the time limits; streams lift them for themselves.
type Console struct {
	token   string
	desk    *desk.Desk
	stop    chan struct{}
	handler http.Handler
}

// NewToken makes a start token.
func NewToken() string { return access.NewToken() }

// New builds a console; Run brings it to life.
func New(o Options) (*Console, error) {
	if o.Log == nil {
		return nil, errors.New("console: Log is needed")
	}
	d, err := desk.New(desk.Options{Rooms: o.Rooms, Sales: o.Sales, Fleet: o.Fleet, Every: o.LookEvery, MaxViewers: o.MaxViewers,
		Now: o.Now, Log: o.Log, Registerer: o.Registerer})
	if err != nil {
		return nil, err
	}
	c := &Console{token: o.Token, desk: d, stop: make(chan struct{})}
	pages, err := ui.New(ui.Options{Desk: d, Stop: c.stop, Version: o.Version, Log: o.Log})
	if err != nil {
		return nil, err
	}
	gate, err := access.New(access.Options{Token: o.Token, Life: o.SessionLife, Refuse: pages.Refuse, Log: o.Log})
	if err != nil {
		return nil, err
	}
	pages.Gate = gate
	mux := http.NewServeMux()
	mux.Handle("/api/", api.New(api.Options{Desk: d, Stop: c.stop, Version: o.Version, Log: o.Log}))
	mux.Handle("/", pages)
	c.handler = gate.Guard(mux, func(path string) bool { return strings.HasPrefix(path, ui.AssetPrefix) })
	return c, nil
}

// Run records the rooms until ctx ends, then ends all live streams, so that a graceful shutdown need not wait for them. It must be
// called once.
func (c *Console) Run(ctx context.Context) {
	c.desk.Run(ctx)
	close(c.stop)
}

// Desk is what the console knows and can do, for those who show it elsewhere.
func (c *Console) Desk() *desk.Desk { return c.desk }

// LoginPath is the path, with its query, that signs the first browser in. It works once; treat it as a secret.
func (c *Console) LoginPath() string { return access.LoginPath(c.token) }

// policy allows what lies on this listener and nothing else: no inline script or style, no frame, no form to elsewhere.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP implements http.Handler.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // the sign-in link carries a token
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Robots-Tag", "noindex")
	c.handler.ServeHTTP(w, r)
}
