package edge

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/queue/line"
)

func parseResponse(t testing.TB, raw string) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), nil)
	if err != nil {
		t.Fatalf("response %q: %v", raw, err)
	}
	return resp
}

func decode(t *testing.T, resp *http.Response) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text(resp)), &m); err != nil {
		t.Fatalf("%v: %q", err, text(resp))
	}
	return m
}

const rooms = "/.stanchion/rooms/onsale/"

func TestStatus(t *testing.T) {
	r := newRig(t, nil)
	resp := r.ask("GET", rooms+"status", nil)
	m := decode(t, resp)
	if resp.StatusCode != 200 || m["room"] != "onsale" || m["phase"] != "waiting" {
		t.Errorf("%d %v", resp.StatusCode, m)
	}
	if resp.Header.Get("Cache-Control") != "public, max-age=1" || resp.Header.Get("ETag") != `W/"7-1"` || len(resp.Cookies()) != 0 {
		t.Errorf("headers %v", resp.Header)
	}
	other := r.ask("GET", rooms+"status", nil, "Cookie", "stanchion-ticket-onsale=x", "User-Agent", "y")
	if text(other) != text(resp) {
		t.Error("status differs between fans")
	}
	if got := r.ask("GET", rooms+"status", nil, "If-None-Match", `"a", W/"7-1"`); got.StatusCode != 304 || text(got) != "" {
		t.Errorf("revalidation: %d", got.StatusCode)
	}
	if got := r.ask("HEAD", rooms+"status", nil); got.StatusCode != 200 || text(got) != "" || got.ContentLength != int64(len(text(resp))) {
		t.Errorf("HEAD: %d %d", got.StatusCode, got.ContentLength)
	}
}

func TestJoinAndPlace(t *testing.T) {
	r := newRig(t, nil)
	resp := r.ask("POST", rooms+"join", strings.NewReader(`{"lane":"general","invite":"i","work":"w","key":"AAECAwQFBgcICQoLDA0ODw"}`), "Content-Type", "application/json")
	m := decode(t, resp)
	if resp.StatusCode != 200 || m["ticket"] != "ticket-1" || m["state"] != "waiting" {
		t.Fatalf("%d %v", resp.StatusCode, m)
	}
	if pl, ok := m["place"].(map[string]any); !ok || pl["rank"] != nil || pl["lane"] != "general" {
		t.Errorf("place %v", m["place"])
	}
	if c := cookie(resp, "stanchion-ticket-onsale"); c == nil || c.Value != "ticket-1" {
		t.Errorf("cookie %v", c)
	}
	j := r.room.joins[0]
	if j.Group != "127.0.0.0/24" || j.Invite != "i" || j.Work != "w" || j.Key[15] != 15 || !j.Admit {
		t.Errorf("join request %+v", j)
	}

	for name, headers := range map[string][]string{
		"cookie": {"Cookie", "stanchion-ticket-onsale=ticket-1"}, "authorization": {"Authorization", "Stanchion ticket-1"},
	} {
		if m := decode(t, r.ask("POST", rooms+"join", nil, headers...)); m["ticket"] != "ticket-1" {
			t.Errorf("%s: joined again as %v", name, m["ticket"])
		}
		if m := decode(t, r.ask("GET", rooms+"place", nil, headers...)); m["ticket"] != "ticket-1" || m["rank"] != nil || m["state"] != "waiting" {
			t.Errorf("%s: place %v", name, m)
		}
	}
	if m := decode(t, r.ask("POST", rooms+"join", strings.NewReader(`{"ticket":"ticket-1"}`), "Content-Type", "application/json")); m["ticket"] != "ticket-1" {
		t.Errorf("json: joined again as %v", m["ticket"])
	}
	r.room.put(line.Place{Ticket: "ticket-1", State: line.StateWaiting, Known: true, Rank: 321, Ahead: 221, Lane: "general", Sample: true})
	m = decode(t, r.ask("GET", rooms+"place", nil, "Authorization", "Stanchion ticket-1"))
	if m["rank"] != 321.0 || m["ahead"] != 221.0 || m["sample"] != true {
		t.Errorf("place %v", m)
	}

	r.room.set(line.PhaseOpen, true)
	resp = r.ask("POST", rooms+"join", nil)
	if m := decode(t, resp); m["state"] != "admitted" || m["pass"] == nil || cookie(resp, "stanchion-pass-onsale") == nil {
		t.Errorf("join of an open room: %v", m)
	}
}

func TestClaim(t *testing.T) {
	r := newRig(t, nil)
	r.room.put(line.Place{Ticket: "mine", State: line.StateWaiting, Known: true, Rank: 141, Ahead: 41})
	p := wantProblem(t, r.ask("POST", rooms+"claim", nil, "Authorization", "Stanchion mine"), 409, "not-called")
	if p["ahead"] != 41.0 || p["retry_after_ms"] != 5000.0 {
		t.Errorf("problem %v", p)
	}
	r.room.put(line.Place{Ticket: "mine", State: line.StateCalled, Known: true, Rank: 41})
	resp := r.ask("POST", rooms+"claim", strings.NewReader(`{"to":"/gala/seats"}`), "Content-Type", "application/json", "Cookie", "stanchion-ticket-onsale=mine")
	m := decode(t, resp)
	if resp.StatusCode != 200 || m["pass"] == "" || m["return_to"] != "/gala/seats" || cookie(resp, "stanchion-pass-onsale").Value != m["pass"] {
		t.Errorf("%d %v", resp.StatusCode, m)
	}
	if _, err := time.Parse(timeFormat, m["expires_at"].(string)); err != nil {
		t.Error(err)
	}
	if !r.room.claims[len(r.room.claims)-1].Wait {
		t.Error("a claim by script may wait at the door")
	}
	for _, evil := range []string{"//evil.example/", "https://evil.example/", `/\evil.example`, "javascript:alert(1)", "/a\r\nSet-Cookie: x=1"} {
		body, _ := json.Marshal(map[string]string{"to": evil})
		if m := decode(t, r.ask("POST", rooms+"claim", strings.NewReader(string(body)), "Content-Type", "application/json", "Authorization", "Stanchion mine")); m["return_to"] != "/gala" {
			t.Errorf("led to %v", m["return_to"])
		}
	}
}

// TestRefusals is the contract's list of what a claim can be told.
func TestRefusals(t *testing.T) {
	r := newRig(t, nil)
	r.room.put(line.Place{Ticket: "mine", State: line.StateCalled, Known: true})
	tests := []struct {
		err    error
		status int
		code   string
		retry  bool
	}{
		{&line.Refusal{Code: line.RefusedFull, RetryAfter: 1500 * time.Millisecond, Detail: "d"}, 409, "room-full", true},
		{&line.Refusal{Code: line.RefusedMoment, RetryAfter: time.Second, Detail: "d"}, 503, "one-moment", true},
		{&line.Refusal{Code: line.RefusedShare, RetryAfter: time.Second, Detail: "d"}, 429, "share", true},
		{&line.Refusal{Code: line.RefusedHolder, Detail: "d"}, 403, "holder-used", false},
		{&line.Refusal{Code: line.RefusedSpent, Detail: "d"}, 410, "place-spent", false},
		{&line.Refusal{Code: line.RefusedLineOver, Detail: "d"}, 410, "line-over", false},
		{&line.Refusal{Code: line.RefusedKeyProof, Detail: "d"}, 403, "key-proof", false},
		{&line.Refusal{Code: line.RefusedClosed, Detail: "d"}, 410, "room-closed", false},
		{errors.New("store is on fire"), 503, "one-moment", true},
	}
	for _, tt := range tests {
		t.Run(tt.code, func(t *testing.T) {
			r.room.claim = func(line.ClaimRequest) error { return tt.err }
			resp := r.ask("POST", rooms+"claim", nil, "Authorization", "Stanchion mine")
			p := wantProblem(t, resp, tt.status, tt.code)
			if _, ok := p["retry_after_ms"]; ok != tt.retry {
				t.Errorf("retry_after_ms: %v", p)
			}
			if strings.Contains(text(resp), "fire") {
				t.Error("an inner error was shown")
			}
			form := r.ask("POST", rooms+"claim", strings.NewReader("to=/gala"), "Content-Type", "application/x-www-form-urlencoded", "Cookie", "stanchion-ticket-onsale=mine")
			if form.StatusCode != 303 || !strings.Contains(form.Header.Get("Location"), rooms) {
				t.Errorf("form: %d %q", form.StatusCode, form.Header.Get("Location"))
			}
		})
	}
}

func TestLeave(t *testing.T) {
	r := newRig(t, nil)
	token := r.room.passFor(t, nil)
	for range 2 { // a double click
		resp := r.ask("POST", rooms+"leave", nil, "Cookie", "stanchion-pass-onsale="+token)
		if resp.StatusCode != 204 || cookie(resp, "stanchion-pass-onsale") == nil || cookie(resp, "stanchion-pass-onsale").MaxAge >= 0 {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
	}
	if len(r.room.left) != 2 || r.room.left[0] != (line.SessionID{5}) {
		t.Errorf("left %v", r.room.left)
	}
	r.room.put(line.Place{Ticket: "mine"})
	if resp := r.ask("POST", rooms+"leave", nil, "Authorization", "Stanchion mine"); resp.StatusCode != 204 || len(r.room.gone) != 1 {
		t.Errorf("%d %v", resp.StatusCode, r.room.gone)
	}
	wantProblem(t, r.ask("POST", rooms+"leave", nil), 400, "ticket-missing")
	wantProblem(t, r.ask("POST", rooms+"leave", nil, "Authorization", "Stanchion forged"), 400, "ticket-invalid")
}

func TestCrossSitePosts(t *testing.T) {
	r := newRig(t, nil)
	for name, headers := range map[string][]string{
		"fetch metadata": {"Sec-Fetch-Site", "cross-site"},
		"a sibling site": {"Sec-Fetch-Site", "same-site"},
		"origin":         {"Origin", "https://evil.example"},
		"null origin":    {"Origin", "null"},
	} {
		for _, what := range []string{"join", "claim", "leave"} {
			t.Run(name+" "+what, func(t *testing.T) {
				wantProblem(t, r.ask("POST", rooms+what, nil, headers...), 403, "cross-site")
			})
		}
	}
	if len(r.room.joins) != 0 {
		t.Error("a cross-site post joined")
	}
	if resp := r.ask("POST", rooms+"join", nil, "Origin", r.url, "Sec-Fetch-Site", "same-origin"); resp.StatusCode != 200 {
		t.Errorf("same origin: %d", resp.StatusCode)
	}
}

func TestOwnEndpointsBadInput(t *testing.T) {
	r := newRig(t, nil)
	json := []string{"Content-Type", "application/json"}
	tests := []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code                     string
	}{
		{"unknown room", "GET", "/.stanchion/rooms/nope/status", "", nil, 404, "unknown-room"},
		{"unknown endpoint", "GET", rooms + "nope", "", nil, 404, "not-found"},
		{"unknown own path", "GET", "/.stanchion/nope", "", nil, 404, "not-found"},
		{"prefix alone", "GET", "/.stanchion", "", nil, 404, "not-found"},
		{"unknown asset", "GET", "/.stanchion/assets/../../etc/passwd.js", "", nil, 404, "no-route"},
		{"get join", "GET", rooms + "join", "", nil, 405, "method-not-allowed"},
		{"post status", "POST", rooms + "status", "", nil, 405, "method-not-allowed"},
		{"malformed JSON", "POST", rooms + "join", `{"lane":`, json, 400, "invalid"},
		{"wrong type", "POST", rooms + "join", `{"lane":1}`, json, 400, "invalid"},
		{"two objects", "POST", rooms + "join", `{}{}`, json, 400, "invalid"},
		{"bad key", "POST", rooms + "join", `{"key":"AAA"}`, json, 400, "invalid"},
		{"other media type", "POST", rooms + "join", `<x/>`, []string{"Content-Type", "text/xml"}, 415, "unsupported-media-type"},
		{"no ticket", "GET", rooms + "place", "", nil, 400, "ticket-missing"},
		{"forged ticket", "GET", rooms + "place", "", []string{"Authorization", "Stanchion x"}, 400, "ticket-invalid"},
		{"no ticket to claim", "POST", rooms + "claim", "", nil, 400, "ticket-missing"},
		{"bad line", "GET", rooms + "lines/xyz/record", "", nil, 404, "not-found"},
		{"foreign line", "GET", rooms + "lines/" + (line.ID{2}).String() + "/record", "", nil, 410, "line-over"},
		{"bad lane", "GET", rooms + "lines/" + (line.ID{1}).String() + "/ledger/300/0", "", nil, 404, "not-found"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var resp *http.Response
			if tt.body == "" {
				resp = r.ask(tt.method, tt.path, nil, tt.headers...)
			} else {
				resp = r.ask(tt.method, tt.path, strings.NewReader(tt.body), tt.headers...)
			}
			if tt.code == "no-route" {
				if resp.StatusCode != 200 || r.last.Load().URL.Path != "/etc/passwd.js" {
					t.Errorf("%d", resp.StatusCode) // dot segments are resolved first: this is the origin's path
				}
				return
			}
			wantProblem(t, resp, tt.status, tt.code)
		})
	}
	big := r.ask("POST", rooms+"join", strings.NewReader(`{"lane":"`+strings.Repeat("a", 9000)+`"}`), json...)
	if big.StatusCode != 413 {
		t.Errorf("large body: %d", big.StatusCode)
	}
}

func TestRecordLedgerKeysAssets(t *testing.T) {
	r := newRig(t, nil)
	id := line.ID{1}.String()
	if resp := r.ask("GET", rooms+"lines/"+id+"/record", nil); text(resp) != `{"record":true}` {
		t.Errorf("record %q", text(resp))
	}
	full := r.ask("GET", rooms+"lines/"+id+"/ledger/0/0", nil)
	if !strings.Contains(full.Header.Get("Cache-Control"), "immutable") || text(full) != "\x01\x02\x03" {
		t.Errorf("full chunk %v", full.Header)
	}
	if last := r.ask("GET", rooms+"lines/"+id+"/ledger/0/1", nil); last.Header.Get("Cache-Control") != "public, max-age=1" {
		t.Errorf("last chunk %v", last.Header)
	}
	keys := r.ask("GET", "/.stanchion/keys", nil)
	if m := decode(t, keys); m["keys"] == nil {
		t.Errorf("keys %v", m)
	}
	page := text(r.ask("GET", "/gala", nil, "Accept", nav))
	for _, kind := range []string{".css", ".js"} {
		end := strings.Index(page, kind)
		start := strings.LastIndex(page[:end], `"`) + 1
		path := page[start : end+len(kind)]
		resp := r.ask("GET", path, nil)
		if resp.StatusCode != 200 || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") || len(text(resp)) < 1000 {
			t.Errorf("asset %s: %d %v", path, resp.StatusCode, resp.Header)
		}
		z := r.ask("GET", path, nil, "Accept-Encoding", "br, gzip;q=0.8")
		if z.Header.Get("Content-Encoding") != "gzip" || len(text(z)) >= len(text(resp)) {
			t.Errorf("asset %s compressed: %v", path, z.Header)
		}
	}
}

func TestRoomPageLeadsBack(t *testing.T) {
	r := newRig(t, nil)
	token := r.room.passFor(t, nil)
	resp := r.ask("GET", rooms+"?to=/gala/seats", nil, "Accept", nav, "Cookie", "stanchion-pass-onsale="+token)
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "/gala/seats" {
		t.Errorf("%d %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	wantContains(t, text(r.ask("GET", rooms+"?to=/gala/seats&note=form", nil, "Accept", nav)), "Your form was not sent")
	for _, evil := range []string{"//evil.example", "https%3A%2F%2Fevil.example", "/.stanchion/rooms/onsale/"} {
		page := text(r.ask("GET", rooms+"?to="+evil, nil, "Accept", nav))
		if strings.Contains(page, "evil") || !strings.Contains(page, `data-back="/gala"`) {
			t.Errorf("to=%s leads astray", evil)
		}
	}
	if resp := r.ask("GET", "/.stanchion/rooms/onsale", nil); resp.StatusCode != 303 || resp.Header.Get("Location") != rooms {
		t.Errorf("without slash: %d %q", resp.StatusCode, resp.Header.Get("Location"))
	}
}

// TestClosedTab: a fan who is gone before the answer loses nothing and costs nothing.
func TestClosedTab(t *testing.T) {
	r := newRig(t, nil)
	asked, hold := make(chan struct{}), make(chan struct{})
	r.room.put(line.Place{Ticket: "mine", State: line.StateCalled, Known: true})
	r.room.claim = func(line.ClaimRequest) error { close(asked); <-hold; return nil }
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "POST "+rooms+"claim HTTP/1.1\r\nHost: a\r\nAuthorization: Stanchion mine\r\nContent-Length: 0\r\n\r\n")
	<-asked
	_ = c.Close()
	close(hold)
	waitFor(t, func() bool { return strings.Contains(r.logs.String(), rooms+"claim") })
	r.room.mu.Lock()
	r.room.claim = nil
	r.room.mu.Unlock()
	if resp := r.ask("POST", rooms+"claim", nil, "Authorization", "Stanchion mine"); resp.StatusCode != 200 {
		t.Errorf("coming back: %d %s", resp.StatusCode, text(resp))
	}
}

// TestEarlyAnswer: an answer given before the body has been read arrives although the client is still sending.
func TestEarlyAnswer(t *testing.T) {
	r := newRig(t, nil)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "POST /gala HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"+strings.Repeat("x", 100000))
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 503 || !resp.Close || !strings.Contains(string(body), "admission-required") {
		t.Errorf("%d %v %q %v", resp.StatusCode, resp.Close, body, err)
	}
	if r.hits.Load() != 0 {
		t.Error("the origin was asked")
	}
}
