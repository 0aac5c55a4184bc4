// Package access decides who may use the console, as long as there are no operators with roles: people on the same machine who hold
// the start token.
//
// The token comes in a printed link that works once and gives the browser a session; sessions live in memory, so a restart asks
// again. Programs send the token itself as a bearer token. Every request must come from a loopback address and name a loopback
// host, which keeps other machines and rebound names out; requests that a page of another origin makes are refused, which keeps
// other pages in the same browser out.
package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stanchion-queue/stanchion/admin/problem"
)

// Bounds of what is kept. The oldest goes first.
const (
	MaxSessions = 64
	maxLinks    = 16
	linkLife    = 10 * time.Minute
	MaxName     = 60 // characters of an operator's name
)

// MinToken is the shortest start token, in characters.
const MinToken = 20

// Options are what a gate is built from.
type Options struct {
	Token string        // the start token, from NewToken or at least MinToken characters
	Life  time.Duration // of a session; 0: 12 h
	// Refuse writes a page that says no; problems of the API are JSON.
	Refuse func(w http.ResponseWriter, r *http.Request, d *problem.Details)
	Log    *slog.Logger
}

// Gate lets operators in. Safe for concurrent use.
type Gate struct {
	token  [sha256.Size]byte
	life   time.Duration
	refuse func(w http.ResponseWriter, r *http.Request, d *problem.Details)
	log    *slog.Logger
	cross  *http.CrossOriginProtection

	mu       sync.Mutex
	links    map[[sha256.Size]byte]time.Time // one use each, until then; the zero time: for ever
	sessions map[[sha256.Size]byte]*session
}

type session struct {
	until time.Time
	tag   string // in the log of changes
	name  string // as the operator gave it
}

// Operator is who makes a request.
type Operator struct {
	Who     string // for the log of changes
	Name    string // as they gave it; may be empty
	Browser bool   // a session, not a bearer token
	key     [sha256.Size]byte
}

type operatorKey struct{}

// From is the operator of a request that passed the gate.
func From(ctx context.Context) Operator {
	o, _ := ctx.Value(operatorKey{}).(Operator)
	return o
}

// NewToken makes a start token.
func NewToken() string {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// New returns a gate.
func New(o Options) (*Gate, error) {
	if len(o.Token) < MinToken {
		return nil, errors.New("access: the start token is too short")
	}
	if o.Refuse == nil || o.Log == nil {
		return nil, errors.New("access: Refuse and Log are needed")
	}
	if o.Life <= 0 {
		o.Life = 12 * time.Hour
	}
	g := &Gate{token: sha256.Sum256([]byte(o.Token)), life: o.Life, refuse: o.Refuse, log: o.Log, cross: http.NewCrossOriginProtection(),
		links: map[[sha256.Size]byte]time.Time{}, sessions: map[[sha256.Size]byte]*session{}}
	g.links[g.token] = time.Time{}
	return g, nil
}

// LoginPath is the path and query that exchange a token for a session.
func LoginPath(token string) string { return "/login?token=" + url.QueryEscape(token) }

// NewLink makes a path that signs one more browser in, once, within ten minutes.
func (g *Gate) NewLink() string {
	token := NewToken()
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	var oldest [sha256.Size]byte
	n, first := 0, time.Time{}
	for k, until := range g.links {
		switch {
		case until.IsZero():
		case until.Before(now):
			delete(g.links, k)
		default:
			n++
			if first.IsZero() || until.Before(first) {
				oldest, first = k, until
			}
		}
	}
	if n >= maxLinks {
		delete(g.links, oldest)
	}
	g.links[sha256.Sum256([]byte(token))] = now.Add(linkLife)
	return LoginPath(token)
}

// Guard lets requests of operators through to next. open says which paths need no session: they show nothing of the system.
func (g *Gate) Guard(next http.Handler, open func(path string) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d := local(r); d != nil {
			g.deny(w, r, d)
			return
		}
		switch {
		case r.URL.Path == "/login":
			g.login(w, r)
			return
		case open(r.URL.Path):
			next.ServeHTTP(w, r)
			return
		}
		op, d := g.operator(r)
		if d != nil {
			g.deny(w, r, d)
			return
		}
		if r.URL.Path == "/logout" && r.Method == http.MethodPost {
			g.end(op)
			http.SetCookie(w, &http.Cookie{Name: cookieName(r), Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), operatorKey{}, op)))
	})
}

func (g *Gate) deny(w http.ResponseWriter, r *http.Request, d *problem.Details) {
	if strings.HasPrefix(r.URL.Path, "/api/") {
		problem.Write(w, r, d)
		return
	}
	d.Header(w.Header())
	g.refuse(w, r, d)
}

// local refuses other machines and names that are not this machine's.
func local(r *http.Request) *problem.Details {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return problem.New(http.StatusForbidden, "not-local", "The console answers on this machine only", "Forward a port to it, for example with ssh -L 9090:127.0.0.1:9090.")
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	ip, err := netip.ParseAddr(host)
	if !strings.EqualFold(host, "localhost") && (err != nil || !ip.Unmap().IsLoopback()) {
		return problem.New(http.StatusMisdirectedRequest, "unknown-host", "The console has another name", "Open it as http://127.0.0.1 or http://localhost with its port.")
	}
	return nil
}

func cookieName(r *http.Request) string {
	_, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		port = "80"
	}
	return "stanchion-console-" + port // cookies know no ports: two consoles on one machine must not sign each other out
}

func (g *Gate) operator(r *http.Request) (Operator, *problem.Details) {
	signIn := problem.New(http.StatusUnauthorized, "sign-in-required", "Sign in first", "Open the link that stanchion printed when it started.")
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
		if subtle.ConstantTimeCompare(sum[:], g.token[:]) != 1 {
			return Operator{}, problem.New(http.StatusUnauthorized, "sign-in-required", "The token is not valid", "A restart makes a new one.")
		}
		return Operator{Who: "start token"}, nil
	}
	c, err := r.Cookie(cookieName(r))
	if err != nil {
		return Operator{}, signIn
	}
	key := sha256.Sum256([]byte(c.Value))
	g.mu.Lock()
	s := g.sessions[key]
	var op Operator
	if s != nil && time.Now().Before(s.until) {
		op = Operator{Who: "console " + s.tag, Name: s.name, Browser: true, key: key}
		if s.name != "" {
			op.Who = s.name + " (" + op.Who + ")"
		}
	}
	g.mu.Unlock()
	if !op.Browser {
		return Operator{}, signIn
	}
	if d := g.foreign(r); d != nil {
		return Operator{}, d
	}
	return op, nil
}

// foreign refuses what a page of another origin sends with our cookie. Other servers on this machine are such pages: to a browser
// they are the same site.
func (g *Gate) foreign(r *http.Request) *problem.Details {
	d := problem.New(http.StatusForbidden, "cross-origin", "Requests of other pages are refused", "Open the page in the console and do it there.")
	if g.cross.Check(r) != nil {
		return d
	}
	site := r.Header.Get("Sec-Fetch-Site")
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !safe && site == "" && r.Header.Get("Origin") == "" {
		return d // every browser sends one of them with a form or a script's request
	}
	if site == "cross-site" || site == "same-site" {
		if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "navigate" {
			return d // a stream opened by another page would cost a viewer's place
		}
	}
	return nil
}

func (g *Gate) login(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		g.deny(w, r, problem.New(http.StatusMethodNotAllowed, "method-not-allowed", "Open the link instead", ""))
		return
	}
	key := sha256.Sum256([]byte(r.URL.Query().Get("token")))
	g.mu.Lock()
	until, ok := g.links[key]
	if ok {
		delete(g.links, key)
		ok = until.IsZero() || time.Now().Before(until)
	}
	g.mu.Unlock()
	if !ok {
		if _, d := g.operator(r); d == nil { // the link again, in the browser that it signed in
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		detail := "Each link works once. Make another in a browser that is signed in, or restart the console's process: it prints a new one."
		if key != g.token {
			g.log.WarnContext(r.Context(), "console: sign-in refused", "peer", r.RemoteAddr)
		}
		g.deny(w, r, problem.New(http.StatusForbidden, "link-used", "This link does not sign you in", detail))
		return
	}
	secret, tag := g.begin()
	http.SetCookie(w, &http.Cookie{Name: cookieName(r), Value: secret, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil, MaxAge: int(g.life / time.Second)})
	g.log.InfoContext(r.Context(), "console: signed in", "peer", r.RemoteAddr, "session", tag)
	w.Header().Set("Cache-Control", "no-store")
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		// Followed from another page, a redirect would not carry the strict cookie; a navigation of our own page does.
		w.Header().Set("Refresh", "0; url=/")
		g.refuse(w, r, problem.New(http.StatusOK, "signed-in", "You are signed in", "The console opens in a moment."))
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (g *Gate) begin() (secret, tag string) {
	secret = NewToken()
	key := sha256.Sum256([]byte(secret))
	tag = hex.EncodeToString(key[:3])
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	var oldest [sha256.Size]byte
	first := time.Time{}
	for k, s := range g.sessions {
		if s.until.Before(now) {
			delete(g.sessions, k)
		} else if first.IsZero() || s.until.Before(first) {
			oldest, first = k, s.until
		}
	}
	if len(g.sessions) >= MaxSessions {
		delete(g.sessions, oldest)
	}
	g.sessions[key] = &session{until: now.Add(g.life), tag: tag}
	return secret, tag
}

func (g *Gate) end(op Operator) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.sessions, op.key)
}

// Name sets what an operator is called in the log of changes. A name has at most MaxName printable characters; false: it has not.
func (g *Gate) Name(op Operator, name string) bool {
	name = strings.TrimSpace(name)
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > MaxName || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sessions[op.key]
	if s == nil {
		return false
	}
	s.name = name
	return true
}
