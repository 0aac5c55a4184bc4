package edge

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue/line"
)

func (f *fakeRoom) passFor(t testing.TB, change func(*pass.Claims)) string {
	t.Helper()
	now := time.Now()
	c := pass.Claims{Room: f.name, Session: line.SessionID{5}.String(), IssuedAt: now.Add(-time.Minute), NotBefore: now.Add(-time.Minute),
		ExpiresAt: now.Add(time.Minute), StayUntil: now.Add(10 * time.Minute)}
	if change != nil {
		change(&c)
	}
	return f.sign(c)
}

func TestPassIsForwarded(t *testing.T) {
	r := newRig(t, nil)
	token := r.room.passFor(t, nil)
	for name, headers := range map[string][]string{
		"cookie": {"Cookie", "theme=dark; stanchion-pass-onsale=" + token + "; stanchion-js=1; lang=de"},
		"header": {"Stanchion-Pass", token, "Cookie", "theme=dark; lang=de"},
	} {
		t.Run(name, func(t *testing.T) {
			headers = append(headers, "Stanchion-Session", "spoof", "Stanchion-Room", "spoof", "X-Forwarded-For", "6.6.6.6", "Forwarded", "for=6.6.6.6",
				"X-Real-IP", "6.6.6.6", "Authorization", "Bearer origin's own", "Connection", "X-Mine", "X-Mine", "1", "X-Yours", "2")
			resp := r.ask("GET", "/gala?x=1&y", nil, headers...)
			if resp.StatusCode != 200 || text(resp) != "origin says hello" {
				t.Fatalf("%d %s", resp.StatusCode, text(resp))
			}
			if got := resp.Header.Get("Stanchion-Decision"); got != "pass" {
				t.Errorf("decision %q", got)
			}
			q := r.last.Load()
			want := map[string]string{
				"Stanchion-Session": line.SessionID{5}.String(), "Stanchion-Room": "onsale", "Stanchion-Pass": token,
				"Cookie": "theme=dark; lang=de", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": r.addr,
				"Forwarded": `for=127.0.0.1;host="` + r.addr + `";proto=http`, "Authorization": "Bearer origin's own", "X-Mine": "", "X-Yours": "2", "X-Real-Ip": "",
			}
			for name, v := range want {
				if got := strings.Join(q.Header.Values(name), "|"); got != v {
					t.Errorf("origin saw %s: %q, want %q", name, got, v)
				}
			}
			if q.Host != r.addr || q.RequestURI != "/gala?x=1&y" {
				t.Errorf("origin saw %s %s", q.Host, q.RequestURI)
			}
			if q.Header.Get("X-Request-Id") == "" || q.Header.Get("X-Request-Id") != resp.Header.Get("X-Request-Id") {
				t.Errorf("request ids: origin %q, client %q", q.Header.Get("X-Request-Id"), resp.Header.Get("X-Request-Id"))
			}
		})
	}
}

// TestBadPasses: nothing but a genuine pass of this room, in time, reaches the origin.
func TestBadPasses(t *testing.T) {
	r := newRig(t, nil)
	other := newFakeRoom(t, "onsale")
	good := r.room.passFor(t, nil)
	part := strings.Split(good, ".")
	flipped := []byte(good)
	flipped[len(flipped)-3] ^= 1
	cases := map[string][]string{
		"none":                 nil,
		"garbage":              {"Stanchion-Pass", "abc"},
		"unsigned":             {"Stanchion-Pass", "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + part[1] + "."},
		"flipped bit":          {"Stanchion-Pass", string(flipped)},
		"another key":          {"Stanchion-Pass", other.passFor(t, nil)},
		"another room":         {"Stanchion-Pass", r.room.passFor(t, func(c *pass.Claims) { c.Room = "other" })},
		"expired":              {"Stanchion-Pass", r.room.passFor(t, func(c *pass.Claims) { c.ExpiresAt = time.Now().Add(-2 * time.Second) })},
		"not yet":              {"Stanchion-Pass", r.room.passFor(t, func(c *pass.Claims) { c.NotBefore = time.Now().Add(30 * time.Second) })},
		"too long":             {"Stanchion-Pass", good + strings.Repeat("A", 4000)},
		"two different":        {"Cookie", "stanchion-pass-onsale=" + good + "; stanchion-pass-onsale=" + r.room.passFor(t, func(c *pass.Claims) { c.Lane = 1 })},
		"cookie of other room": {"Cookie", "stanchion-pass-other=" + good},
		"host cookie no tls":   {"Cookie", "__Host-stanchion-pass-onsale=" + good},
	}
	r.room.use = func(pass.Claims) line.Use { return line.Use{} } // no session of this edge
	for name, headers := range cases {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the second time through what was remembered
				before := r.hits.Load()
				resp := r.ask("GET", "/gala/api", nil, headers...)
				p := wantProblem(t, resp, 503, "admission-required")
				if p["status_url"] != "/.stanchion/rooms/onsale/status" || p["join_url"] != "/.stanchion/rooms/onsale/join" || p["room"] != "onsale" {
					t.Errorf("problem %v", p)
				}
				if resp.Header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
				if r.hits.Load() != before {
					t.Fatal("the origin was asked")
				}
			}
		})
	}
}

// TestProtectedPath is the contract's table of protected paths.
func TestProtectedPath(t *testing.T) {
	type want struct {
		status   int
		decision string
		page     bool
		hit      bool
		location string
		refresh  string // prefix; "-" for none
		sets     []string
	}
	waiting := func(r *rig) {}
	open := func(r *rig) { r.room.set(line.PhaseOpen, true) }
	openButFull := func(r *rig) {
		r.room.set(line.PhaseOpen, true)
		r.room.enter = &line.Refusal{Code: line.RefusedNotOpen}
	}
	inLine := func(r *rig) {
		r.room.put(line.Place{Ticket: "mine", State: line.StateWaiting, Known: true, Rank: 400, Ahead: 300, Lane: "general"})
	}
	called := func(r *rig) {
		r.room.put(line.Place{Ticket: "mine", State: line.StateCalled, Known: true, Rank: 40, Lane: "general"})
	}
	phase := func(p line.Phase) func(*rig) { return func(r *rig) { r.room.set(p, false) } }
	tests := []struct {
		name    string
		before  func(*rig)
		method  string
		path    string
		headers []string
		want    want
	}{
		{"first visit", waiting, "GET", "/gala?a=b", []string{"Accept", nav}, want{200, "wait", true, false, "", "2; url=/.stanchion/rooms/onsale/?to=/gala%3Fa%3Db&probe=1", []string{"probe"}}},
		{"first visit, fetch metadata", waiting, "GET", "/gala", []string{"Sec-Fetch-Mode", "navigate", "Accept", "*/*"}, want{200, "wait", true, false, "", "2; url=", []string{"probe"}}},
		{"first visit, HEAD", waiting, "HEAD", "/gala", []string{"Accept", nav}, want{200, "wait", true, false, "", "2; url=", []string{"probe"}}},
		{"first visit with script", waiting, "GET", "/gala", []string{"Accept", nav, "Cookie", "stanchion-js=1"}, want{200, "wait", true, false, "", "-", []string{"probe"}}},
		{"browser came back", waiting, "GET", "/gala", []string{"Accept", nav, "Cookie", "stanchion-probe-onsale=1"}, want{200, "wait", true, false, "", "", []string{"ticket"}}},
		{"in line", inLine, "GET", "/gala", []string{"Accept", nav, "Cookie", "stanchion-ticket-onsale=mine"}, want{200, "wait", true, false, "", "", nil}},
		{"called", called, "GET", "/gala", []string{"Accept", nav, "Cookie", "stanchion-ticket-onsale=mine"}, want{200, "open", false, true, "", "-", []string{"pass"}}},
		{"called, HEAD claims nothing", called, "HEAD", "/gala", []string{"Accept", nav, "Cookie", "stanchion-ticket-onsale=mine"}, want{200, "wait", true, false, "", "", nil}},
		{"forged ticket", waiting, "GET", "/gala", []string{"Accept", nav, "Cookie", "stanchion-ticket-onsale=forged"}, want{200, "wait", true, false, "", "-", []string{"ticket"}}},
		{"open", open, "GET", "/gala", []string{"Accept", nav}, want{200, "open", false, true, "", "-", []string{"pass"}}},
		{"open, but full this moment", openButFull, "GET", "/gala", []string{"Accept", nav}, want{200, "wait", true, false, "", "2; url=", []string{"probe"}}},
		{"open, not a navigation", open, "GET", "/gala", []string{"Accept", "application/json"}, want{status: 503, decision: "wait"}},
		{"open, a form", open, "POST", "/gala/holds", []string{"Accept", nav}, want{303, "open", false, false, "/gala/holds", "-", []string{"pass"}}},
		{"a form", waiting, "POST", "/gala/holds", []string{"Accept", nav, "Referer", "HOST/gala/seats?b=2"}, want{303, "wait", false, false, "/.stanchion/rooms/onsale/?to=/gala/seats%3Fb%3D2&note=form", "-", nil}},
		{"a form from elsewhere", waiting, "POST", "/gala/holds", []string{"Accept", nav, "Referer", "https://evil.example/gala"}, want{303, "wait", false, false, "/.stanchion/rooms/onsale/?to=/gala&note=form", "-", nil}},
		{"XHR", waiting, "GET", "/gala", []string{"Accept", nav, "X-Requested-With", "XMLHttpRequest"}, want{status: 503, decision: "wait"}},
		{"fetch", waiting, "GET", "/gala", []string{"Accept", nav, "Sec-Fetch-Mode", "cors"}, want{status: 503, decision: "wait"}},
		{"image", waiting, "GET", "/gala/x.png", []string{"Accept", "image/avif,image/webp,*/*"}, want{status: 503, decision: "wait"}},
		{"curl", waiting, "GET", "/gala", []string{"Accept", "*/*"}, want{status: 503, decision: "wait"}},
		{"API that would also take HTML", waiting, "GET", "/gala", []string{"Accept", "application/json, text/html;q=0.5"}, want{status: 503, decision: "wait"}},
		{"API post", waiting, "POST", "/gala", []string{"Content-Type", "application/json"}, want{status: 503, decision: "wait"}},
		{"prefetch", called, "GET", "/gala", []string{"Sec-Fetch-Mode", "navigate", "Sec-Purpose", "prefetch;prerender", "Cookie", "stanchion-ticket-onsale=mine"}, want{status: 503, decision: "wait"}},
		{"admit-all", func(r *rig) { r.room.view.Bypass = true }, "GET", "/gala", nil, want{200, "bypass", false, true, "", "-", nil}},
		{"closed", func(r *rig) { r.room.view.Closed = true }, "GET", "/gala", []string{"Accept", nav}, want{status: 503, decision: "wait"}},
		{"ended", phase(line.PhaseEnded), "GET", "/gala", []string{"Accept", nav, "Cookie", "stanchion-probe-onsale=1"}, want{200, "wait", true, false, "", "-", nil}},
		{"sold out", phase(line.PhaseSoldOut), "GET", "/gala", []string{"Accept", nav}, want{200, "wait", true, false, "", "", nil}},
		{"lobby", phase(line.PhaseLobby), "GET", "/gala", []string{"Accept", nav, "Cookie", "stanchion-probe-onsale=1"}, want{200, "wait", true, false, "", "", []string{"ticket"}}},
		{"no room on the route", waiting, "GET", "/free/x", nil, want{200, "free", false, true, "", "-", nil}},
		{"the room's path spelled otherwise", waiting, "GET", "/g%61la", nil, want{status: 503, decision: "wait"}},
		{"the room's path with an empty segment", waiting, "GET", "//gala", nil, want{status: 503, decision: "wait"}},
		{"out of a free path", waiting, "GET", "/free/../gala", nil, want{status: 503, decision: "wait"}},
		{"out of a free path, escaped", waiting, "GET", "/free/%2e%2E/gala", nil, want{status: 503, decision: "wait"}},
		{"out of a free path, escaped slash", waiting, "GET", "/free/..%2fgala", nil, want{status: 400, decision: "refused"}},
		{"path parameter", waiting, "GET", "/gala;v=1", nil, want{status: 400, decision: "refused"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			tt.before(r)
			headers := append([]string(nil), tt.headers...)
			for i := range headers {
				headers[i] = strings.Replace(headers[i], "HOST", r.url, 1)
			}
			var resp *http.Response
			if strings.Contains(tt.path, "%2") || strings.Contains(tt.path, "..") || strings.HasPrefix(tt.path, "//") {
				resp = r.askRaw(tt.method, tt.path)
			} else {
				resp = r.ask(tt.method, tt.path, nil, headers...)
			}
			if resp.StatusCode != tt.want.status {
				t.Errorf("status %d, want %d: %s", resp.StatusCode, tt.want.status, text(resp))
			}
			if got := resp.Header.Get("Stanchion-Decision"); got != tt.want.decision {
				t.Errorf("decision %q, want %q", got, tt.want.decision)
			}
			if got := r.hits.Load() > 0; got != tt.want.hit {
				t.Errorf("origin asked: %v, want %v", got, tt.want.hit)
			}
			if got := resp.Header.Get("Location"); got != tt.want.location {
				t.Errorf("location %q, want %q", got, tt.want.location)
			}
			if tt.want.refresh == "-" && resp.Header.Get("Refresh") != "" || !strings.HasPrefix(resp.Header.Get("Refresh"), strings.TrimPrefix(tt.want.refresh, "-")) {
				t.Errorf("refresh %q, want %q", resp.Header.Get("Refresh"), tt.want.refresh)
			}
			if tt.want.page {
				if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Robots-Tag") != "noindex" || resp.Header.Get("Content-Security-Policy") == "" {
					t.Errorf("page headers: %v", resp.Header)
				}
				if tt.method == "GET" {
					wantContains(t, text(resp), "<!doctype html>", "The Gala", "City Opera")
				} else if text(resp) != "" {
					t.Errorf("HEAD has a body: %q", text(resp))
				}
			}
			var set []string
			for _, c := range resp.Cookies() {
				set = append(set, strings.TrimSuffix(strings.TrimPrefix(c.Name, "stanchion-"), "-onsale"))
				if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Secure {
					t.Errorf("cookie %v", c)
				}
			}
			if strings.Join(set, ",") != strings.Join(tt.want.sets, ",") {
				t.Errorf("cookies set: %v, want %v", set, tt.want.sets)
			}
		})
	}
}

// askRaw sends a target as it is, which net/http's client would clean.
func (r *rig) askRaw(method, target string, headers ...string) *http.Response {
	r.t.Helper()
	var b strings.Builder
	b.WriteString(method + " " + target + " HTTP/1.1\r\nHost: " + r.addr + "\r\nConnection: close\r\n")
	for i := 0; i+1 < len(headers); i += 2 {
		b.WriteString(headers[i] + ": " + headers[i+1] + "\r\n")
	}
	b.WriteString("\r\n")
	return parseResponse(r.t, r.raw(b.String()))
}

// TestNoScriptJourney: from the first visit to the pass and out again, with forms and redirects alone.
func TestNoScriptJourney(t *testing.T) {
	r := newRig(t, nil)
	jar := map[string]string{}
	ask := func(method, path string, form string) *http.Response {
		var cookies []string
		for k, v := range jar {
			cookies = append(cookies, k+"="+v)
		}
		headers := []string{"Accept", nav, "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "same-origin", "Cookie", strings.Join(cookies, "; ")}
		var resp *http.Response
		if method == "POST" {
			resp = r.ask(method, path, strings.NewReader(form), append(headers, "Content-Type", "application/x-www-form-urlencoded")...)
		} else {
			resp = r.ask(method, path, nil, headers...)
		}
		for _, c := range resp.Cookies() {
			if c.MaxAge < 0 {
				delete(jar, c.Name)
			} else {
				jar[c.Name] = c.Value
			}
		}
		return resp
	}

	first := ask("GET", "/gala", "")
	wantContains(t, text(first), "Getting your place")
	_, next, ok := strings.Cut(first.Header.Get("Refresh"), "url=")
	if !ok {
		t.Fatalf("refresh %q", first.Header.Get("Refresh"))
	}
	if r.room.n != 0 {
		t.Fatal("the first visit was stamped")
	}
	back := ask("GET", next, "")
	if back.StatusCode != 303 || back.Header.Get("Location") != "/gala" {
		t.Fatalf("probe answered %d to %q", back.StatusCode, back.Header.Get("Location"))
	}
	if r.room.n != 1 {
		t.Fatalf("%d stamps, want 1", r.room.n)
	}
	wantContains(t, text(ask("GET", "/gala", "")), "You are in line", "place becomes known")

	ticket := jar["stanchion-ticket-onsale"]
	r.room.put(line.Place{Ticket: ticket, State: line.StateWaiting, Known: true, Rank: 2345, Ahead: 2245, Lane: "general"})
	page := text(ask("GET", "/gala", ""))
	wantContains(t, page, "about ", "2,250", "2,346", "In about 33 to 45 minutes", `action="/.stanchion/rooms/onsale/leave"`)

	r.room.put(line.Place{Ticket: ticket, State: line.StateCalled, Known: true, Rank: 2345, Lane: "general"})
	r.room.claim = func(line.ClaimRequest) error {
		return &line.Refusal{Code: line.RefusedFull, RetryAfter: time.Second, Detail: "full"}
	}
	door := ask("GET", "/gala", "")
	wantContains(t, text(door), "You are at the door", `action="/.stanchion/rooms/onsale/claim"`, `name="to" value="/gala"`)
	if door.Header.Get("Refresh") == "" {
		t.Error("a fan at the door must be tried again without script")
	}

	r.room.claim = nil
	in := ask("POST", "/.stanchion/rooms/onsale/claim", "to=%2Fgala")
	if in.StatusCode != 303 || in.Header.Get("Location") != "/gala" || jar["stanchion-pass-onsale"] == "" {
		t.Fatalf("claim: %d %q %v", in.StatusCode, in.Header.Get("Location"), jar)
	}
	twice := ask("POST", "/.stanchion/rooms/onsale/claim", "to=%2Fgala")
	if twice.StatusCode != 303 || twice.Header.Get("Location") != "/gala" {
		t.Errorf("the second click: %d", twice.StatusCode)
	}
	if got := text(ask("GET", "/gala", "")); got != "origin says hello" {
		t.Errorf("inside: %q", got)
	}
	wantContains(t, text(ask("GET", "/.stanchion/rooms/onsale/", "")), "You are in", `href="/gala"`)

	out := ask("POST", "/.stanchion/rooms/onsale/leave", "")
	if out.StatusCode != 303 || len(r.room.left) != 1 || jar["stanchion-pass-onsale"] != "" || jar["stanchion-ticket-onsale"] != "" {
		t.Errorf("leave: %d %v %v", out.StatusCode, r.room.left, jar)
	}
	wantContains(t, text(ask("GET", out.Header.Get("Location"), "")), "You have left", "Take a new place")
}

func TestCookiesBlocked(t *testing.T) {
	r := newRig(t, nil)
	first := r.ask("GET", "/gala", nil, "Accept", nav)
	_, next, _ := strings.Cut(first.Header.Get("Refresh"), "url=")
	resp := r.ask("GET", next, nil, "Accept", nav) // without the cookie
	wantContains(t, text(resp), "does not keep your place")
	if r.room.n != 0 || resp.Header.Get("Refresh") != "" {
		t.Errorf("stamps %d, refresh %q", r.room.n, resp.Header.Get("Refresh"))
	}
}

func TestExpiredPassOfLivingSession(t *testing.T) {
	r := newRig(t, nil)
	old := r.room.passFor(t, func(c *pass.Claims) { c.ExpiresAt = time.Now().Add(-time.Second) })
	fresh := r.room.grant(5)
	r.room.use = func(pass.Claims) line.Use { return line.Use{Alive: true, Renewed: &fresh} }
	resp := r.ask("GET", "/gala", nil, "Cookie", "stanchion-pass-onsale="+old)
	if resp.StatusCode != 200 || text(resp) != "origin says hello" {
		t.Fatalf("%d %s", resp.StatusCode, text(resp))
	}
	c := cookie(resp, "stanchion-pass-onsale")
	if c == nil || c.Value != fresh.Pass {
		t.Errorf("the pass was not replaced: %v", resp.Header)
	}
	if got := r.last.Load().Header.Get("Stanchion-Pass"); got != fresh.Pass {
		t.Error("the origin must see the pass that is valid")
	}
	if cc := resp.Header.Get("Cache-Control"); cc != "private" {
		t.Errorf("a response with a pass may be stored: %q", cc)
	}

	r.room.use = func(pass.Claims) line.Use { return line.Use{Ended: true} }
	valid := r.room.passFor(t, nil)
	wantProblem(t, r.ask("GET", "/gala", nil, "Cookie", "stanchion-pass-onsale="+valid), 503, "admission-required")
}

// TestPassNeverInSharedCaches: a renewal waits for a response that no shared cache stores; a first pass makes its response
// private.
func TestPassNeverInSharedCaches(t *testing.T) {
	tests := []struct {
		origin      string
		renewalSet  bool
		cacheOfNew  string
		cacheOfOld  string
		description string
	}{
		{"", true, "private", "private", "nothing said"},
		{"no-store", true, "no-store", "no-store", "never stored"},
		{"private, max-age=60", true, "private, max-age=60", "private, max-age=60", "private"},
		{"public, max-age=60", false, "private", "public, max-age=60", "public"},
		{"max-age=60", false, "private", "max-age=60", "storable"},
	}
	for _, tt := range tests {
		t.Run(tt.description, func(t *testing.T) {
			r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
				if tt.origin != "" {
					w.Header().Set("Cache-Control", tt.origin)
				}
				w.WriteHeader(200)
			})
			g := r.room.grant(5)
			r.room.use = func(pass.Claims) line.Use { return line.Use{Alive: true, Renewed: &g} }
			resp := r.ask("GET", "/gala", nil, "Stanchion-Pass", r.room.passFor(t, nil))
			if got := cookie(resp, "stanchion-pass-onsale") != nil; got != tt.renewalSet {
				t.Errorf("renewal set: %v", got)
			}
			if got := resp.Header.Get("Cache-Control"); got != tt.cacheOfOld {
				t.Errorf("cache control with a renewal %q, want %q", got, tt.cacheOfOld)
			}
			r.room.set(line.PhaseOpen, true)
			resp = r.ask("GET", "/gala", nil, "Accept", nav)
			if cookie(resp, "stanchion-pass-onsale") == nil {
				t.Error("a first pass must be set")
			}
			if got := strings.Join(resp.Header.Values("Cache-Control"), "; "); got != tt.cacheOfNew {
				t.Errorf("cache control with a first pass %q, want %q", got, tt.cacheOfNew)
			}
		})
	}
}
