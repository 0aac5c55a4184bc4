package admin_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/admin"
	"github.com/stanchion-queue/stanchion/admin/desk"
	"github.com/stanchion-queue/stanchion/admin/desktest"
)

const token = "start-token-of-the-tests"

type console struct {
	*admin.Console
	house *desktest.House
	log   *strings.Builder
	t     *testing.T
}

// open makes a console over one room, onsale, that has been looked at once.
func open(t *testing.T) console {
	t.Helper()
	h := desktest.New("onsale")
	h.Show("onsale", desktest.Evening(time.Now(), 10*time.Minute))
	h.Sell("onsale", desk.Sale{At: time.Now(), Sellable: 1200, Held: 40, Sold: 300, Orders: map[string]int64{"paid": 120}})
	h.Join(desk.Edge{ID: "abc", Label: "edge-1", SeenAt: time.Now(), Parked: 3, Sessions: 200})
	return over(t, h)
}

func over(t *testing.T, h *desktest.House) console {
	t.Helper()
	return overClock(t, h, nil)
}

func overClock(t *testing.T, h *desktest.House, now func() time.Time) console {
	t.Helper()
	var log strings.Builder
	c, err := admin.New(admin.Options{Rooms: h, Sales: h, Fleet: h, Token: token, Version: "test", MaxViewers: 3, Now: now,
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return console{c, h, &log, t}
}

// run looks at the rooms until stop is called or the test ends.
func (c console) run() (stop func()) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	c.t.Cleanup(stop)
	return stop
}

type with func(*http.Request)

func bearer(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }

func header(k, v string) with { return func(r *http.Request) { r.Header.Set(k, v) } }

func form(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }

func same(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }

func (c console) do(method, path, body string, more ...with) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:9090"+path, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:50000"
	if strings.HasPrefix(body, "{") {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, f := range more {
		f(r)
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w
}

// signIn follows the printed link and returns what presents the session.
func (c console) signIn() with {
	c.t.Helper()
	w := c.do("GET", c.LoginPath(), "")
	cookies := w.Result().Cookies()
	if w.Code != http.StatusSeeOther || len(cookies) != 1 {
		c.t.Fatalf("sign-in: %d, cookies %v", w.Code, cookies)
	}
	return func(r *http.Request) { r.AddCookie(cookies[0]) }
}

func TestAccess(t *testing.T) {
	c := open(t)
	session := c.signIn()
	from := func(peer string) with { return func(r *http.Request) { r.RemoteAddr = peer } }
	host := func(h string) with { return func(r *http.Request) { r.Host = h } }
	tests := []struct {
		name         string
		method, path string
		with         []with
		status       int
		code         string // of the problem, in API answers
	}{
		{"page without session", "GET", "/", nil, 401, ""},
		{"API without session", "GET", "/api/v1/rooms", nil, 401, "sign-in-required"},
		{"API description without session", "GET", "/api/openapi.json", nil, 401, "sign-in-required"},
		{"stream without session", "GET", "/rooms/onsale/feed", nil, 401, ""},
		{"change without session", "POST", "/rooms/onsale/actions/pause", []with{form, same}, 401, ""},
		{"wrong token", "GET", "/api/v1/rooms", []with{header("Authorization", "Bearer wrong-token-of-some-length")}, 401, "sign-in-required"},
		{"right token", "GET", "/api/v1/rooms", []with{bearer}, 200, ""},
		{"session, page", "GET", "/", []with{session}, 200, ""},
		{"session, API", "GET", "/api/v1/rooms", []with{session}, 200, ""},
		{"forged session", "GET", "/", []with{header("Cookie", "stanchion-console-9090=forged")}, 401, ""},
		{"another machine", "GET", "/api/v1/rooms", []with{bearer, from("192.0.2.1:50000")}, 403, "not-local"},
		{"another machine, link", "GET", c.LoginPath(), []with{from("192.0.2.1:50000")}, 403, ""},
		{"IPv6 loopback", "GET", "/api/v1/rooms", []with{bearer, from("[::1]:50000"), host("[::1]:9090")}, 200, ""},
		{"mapped loopback", "GET", "/api/v1/rooms", []with{bearer, from("[::ffff:127.0.0.1]:50000")}, 200, ""},
		{"localhost", "GET", "/api/v1/rooms", []with{bearer, host("localhost:9090")}, 200, ""},
		{"rebound name", "GET", "/api/v1/rooms", []with{bearer, host("evil.example:9090")}, 421, "unknown-host"},
		{"name that begins like ours", "GET", "/", []with{session, host("127.0.0.1.evil.example:9090")}, 421, ""},
		{"no host", "GET", "/", []with{session, host("")}, 421, ""},
		{"form of ours", "POST", "/you", []with{session, form, same}, 303, ""},
		{"form of ours, by Origin alone", "POST", "/you", []with{session, form, header("Origin", "http://127.0.0.1:9090")}, 303, ""},
		{"form without a sender", "POST", "/you", []with{session, form}, 403, ""},
		{"form of another site", "POST", "/you", []with{session, form, header("Sec-Fetch-Site", "cross-site")}, 403, ""},
		{"form of another port", "POST", "/you", []with{session, form, header("Sec-Fetch-Site", "same-site")}, 403, ""},
		{"form of another port, by Origin alone", "POST", "/you", []with{session, form, header("Origin", "http://127.0.0.1:8080")}, 403, ""},
		{"change of another port", "POST", "/api/v1/rooms/onsale/actions/end", []with{session, header("Origin", "http://127.0.0.1:8080")}, 403, "cross-origin"},
		{"read by a script of another port", "GET", "/api/v1/rooms", []with{session, header("Sec-Fetch-Site", "same-site"), header("Sec-Fetch-Mode", "cors")}, 403, "cross-origin"},
		{"link from another port", "GET", "/", []with{session, header("Sec-Fetch-Site", "same-site"), header("Sec-Fetch-Mode", "navigate")}, 200, ""},
		{"programs need no Origin", "POST", "/api/v1/rooms/onsale/settings/preview", []with{bearer, header("Content-Type", "application/json")}, 400, "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := c.do(tt.method, tt.path, "", tt.with...)
			if w.Code != tt.status {
				t.Fatalf("got %d, want %d: %s", w.Code, tt.status, w.Body)
			}
			wantProblem(t, w, tt.code)
			if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
				t.Errorf("policy %q", csp)
			}
		})
	}
	if strings.Contains(c.log.String(), token) {
		t.Errorf("the log holds the start token:\n%s", c.log)
	}
}

func wantProblem(t *testing.T, w *httptest.ResponseRecorder, code string) {
	t.Helper()
	if code == "" {
		return
	}
	if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q", ct)
	}
	if !strings.Contains(w.Body.String(), `"type":"/problems/`+code+`"`) {
		t.Errorf("want problem %s, got %s", code, w.Body)
	}
}

func TestSignIn(t *testing.T) {
	c := open(t)
	w := c.do("GET", c.LoginPath(), "")
	cookie := w.Result().Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.MaxAge <= 0 || cookie.Name != "stanchion-console-9090" {
		t.Errorf("cookie %v", cookie)
	}
	if strings.Contains(cookie.Value, token) || w.Header().Get("Location") != "/" || w.Header().Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("the token goes on: %v", w.Header())
	}
	if w := c.do("GET", c.LoginPath(), ""); w.Code != http.StatusForbidden || len(w.Result().Cookies()) != 0 {
		t.Errorf("the link worked twice: %d", w.Code)
	}
	if w := c.do("GET", "/login?token=nonsense", ""); w.Code != http.StatusForbidden {
		t.Errorf("a wrong token: %d", w.Code)
	}
	session := func(r *http.Request) { r.AddCookie(cookie) }
	if w := c.do("GET", c.LoginPath(), "", session); w.Code != http.StatusSeeOther {
		t.Errorf("the link again in the browser that it signed in: %d", w.Code)
	}

	// One browser signs in another.
	w = c.do("POST", "/links", "", session, form, same)
	_, link, ok := strings.Cut(w.Body.String(), "http://127.0.0.1:9090/login?token=")
	if !ok {
		t.Fatalf("no link in %s", w.Body)
	}
	link, _, _ = strings.Cut(link, `"`)
	if w := c.do("GET", "/login?token="+link, ""); w.Code != http.StatusSeeOther || len(w.Result().Cookies()) != 1 {
		t.Errorf("a made link: %d", w.Code)
	}
	if w := c.do("GET", "/login?token="+link, ""); w.Code != http.StatusForbidden {
		t.Errorf("a made link worked twice: %d", w.Code)
	}

	// A strict cookie would be missing from a redirect that another page began.
	w = c.do("POST", "/links", "", session, form, same)
	_, link, _ = strings.Cut(w.Body.String(), "/login?token=")
	link, _, _ = strings.Cut(link, `"`)
	if w := c.do("GET", "/login?token="+link, "", header("Sec-Fetch-Site", "cross-site")); w.Code != 200 || w.Header().Get("Refresh") != "0; url=/" {
		t.Errorf("followed from another page: %d %v", w.Code, w.Header())
	}

	if w := c.do("POST", "/logout", "", session, form, same); w.Code != http.StatusSeeOther {
		t.Errorf("sign-out: %d", w.Code)
	}
	if w := c.do("GET", "/", "", session); w.Code != http.StatusUnauthorized {
		t.Errorf("the session outlived its end: %d", w.Code)
	}
}

// A name that the operator gives stands beside their changes.
func TestOperatorsName(t *testing.T) {
	c := open(t)
	session := c.signIn()
	for name, status := range map[string]int{"Ada": 303, "": 303, strings.Repeat("x", 61): 422, "a\x00b": 422, "a\nb": 422} {
		if w := c.do("POST", "/you", "name="+url.QueryEscape(name), session, form, same); w.Code != status {
			t.Errorf("name %q: %d, want %d", name, w.Code, status)
		}
	}
	c.do("POST", "/you", "name=Ada", session, form, same)
	if w := c.do("POST", "/rooms/onsale/actions/pause", "", session, form, same); w.Code != 303 {
		t.Fatalf("pause: %d %s", w.Code, w.Body)
	}
	if w := c.do("GET", "/audit", "", session); !strings.Contains(w.Body.String(), "Ada (console ") {
		t.Errorf("the log does not name Ada: %s", w.Body)
	}
}

func TestNewRefusesAWeakToken(t *testing.T) {
	h := desktest.New()
	_, err := admin.New(admin.Options{Rooms: h, Token: "short", Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err == nil {
		t.Error("accepted")
	}
	if a, b := admin.NewToken(), admin.NewToken(); len(a) < 32 || a == b {
		t.Errorf("tokens %q %q", a, b)
	}
}

// Streams end when the console stops, so that a graceful shutdown of the server is not held up.
func TestStreamsEndWithTheConsole(t *testing.T) {
	c := open(t)
	stop := c.run()
	s := httptest.NewServer(c)
	defer s.Close()
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/api/v1/rooms/onsale/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	bearer(r)
	answer, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	first := make([]byte, 16)
	if _, err := io.ReadFull(answer.Body, first); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Errorf("the stream broke instead of ending: %v", err)
	}
}

func Example() {
	house := desktest.New("onsale") // in the program: the queue, the core and the settings store
	c, err := admin.New(admin.Options{Rooms: house, Sales: house, Fleet: house, Token: admin.NewToken(),
		Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		fmt.Println(err)
		return
	}
	s := httptest.NewServer(c)
	defer s.Close()
	answer, err := http.Get(s.URL + "/")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Body.Close()
	fmt.Println(answer.StatusCode, strings.HasPrefix(c.LoginPath(), "/login?token="))
	// Output: 401 true
}
