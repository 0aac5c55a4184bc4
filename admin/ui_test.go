package admin_test

import (
	"encoding/csv"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stanchion-queue/stanchion/admin/desk"
	"github.com/stanchion-queue/stanchion/admin/desktest"
)

func values(pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return v.Encode()
}

// Every page is complete as it comes from the server.
func TestPages(t *testing.T) {
	c := looked(t)
	session := c.signIn()
	tests := []struct {
		path   string
		status int
		want   []string
	}{
		{"/", 200, []string{`href="/rooms/onsale"`, "waiting", "469"}},
		{"/rooms/onsale", 200, []string{`data-w="waiting"`, "Pause admission", "Admit everybody…", "<svg", "The charts as a table", "Allowed: 0.01 to 100000", `name="version" value="1"`}},
		{"/rooms/onsale?minutes=60", 200, []string{"Last 60 minutes"}},
		{"/rooms/onsale?minutes=7", 200, []string{"Last 15 minutes"}},
		{"/rooms/nowhere", 404, []string{"There is no such room"}},
		{"/rooms/onsale/settings", 200, []string{`name="request_budget.burst"`, `name="has:opening.lobby"`, "The whole document"}},
		{"/rooms/nowhere/settings", 404, nil},
		{"/rooms/onsale/actions/end", 200, []string{"End the sale?", "required", "How to undo it", "normal admission"}},
		{"/rooms/onsale/actions/explode", 404, nil},
		{"/rooms/nowhere/actions/end", 404, nil},
		{"/fleet", 200, []string{"No edge has reported"}},
		{"/limits", 200, []string{"rate_per_second", "viewers"}},
		{"/audit", 200, []string{"first start"}},
		{"/audit?q=nothing+like+this", 200, []string{"Nothing matches"}},
		{"/audit?room=nowhere", 404, nil},
		{"/you", 200, []string{"Sign out"}},
		{"/nothing", 404, []string{"There is no such page"}},
		{"/static/nothing.css", 404, nil},
	}
	for _, tt := range tests {
		w := c.do("GET", tt.path, "", session)
		if w.Code != tt.status {
			t.Errorf("%s: got %d, want %d", tt.path, w.Code, tt.status)
		}
		for _, want := range tt.want {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: want %q", tt.path, want)
			}
		}
		if body := w.Body.String(); strings.Contains(body, " style=") || strings.Contains(body, "<script>") || strings.Contains(body, " onclick=") {
			t.Errorf("%s: holds what the policy forbids", tt.path)
		}
	}
	if w := c.do("GET", "/rooms/onsale", "", session); w.Header().Get("Refresh") != "10" {
		t.Errorf("without JavaScript a page refreshes itself: %q", w.Header().Get("Refresh"))
	}
	script := func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "stanchion-console-js", Value: "1"}) }
	if w := c.do("GET", "/rooms/onsale", "", session, script); w.Code != 200 || w.Header().Get("Refresh") != "" {
		t.Errorf("with the script it does not: %q", w.Header().Get("Refresh"))
	}
	if w := c.do("GET", "/rooms/onsale?hold", "", session); w.Header().Get("Refresh") != "" {
		t.Errorf("nor while somebody types: %q", w.Header().Get("Refresh"))
	}
}

// An empty house teaches how to fill it.
func TestEmptyStates(t *testing.T) {
	c := over(t, desktest.New())
	session := c.signIn()
	for path, want := range map[string]string{"/": "There are no rooms yet", "/audit": "Nothing was changed yet", "/fleet": "No edge has reported"} {
		if w := c.do("GET", path, "", session); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d, want %q", path, w.Code, want)
		}
	}
	c = over(t, desktest.New("onsale"))
	session = c.signIn()
	if w := c.do("GET", "/rooms/onsale", "", session); w.Code != 200 || !strings.Contains(w.Body.String(), "appears here") || !strings.Contains(w.Body.String(), "never") {
		t.Errorf("a room that never reported: %d", w.Code)
	}
}

func TestForms(t *testing.T) {
	c := looked(t)
	session := c.signIn()
	tests := []struct { // in order
		name     string
		path     string
		body     string
		status   int
		location string
		want     []string
		version  string // in force afterwards
	}{
		{"bad rate", "/rooms/onsale/set", values("version", "1", "rate_per_second", "fast", "cap", "500", "reason", "why"), 422, "",
			[]string{`value="fast"`, `aria-invalid="true"`, "<code>rate_per_second</code> is fast; allowed: 0.01 to 100000", `value="why"`}, "1"},
		{"rate out of range", "/rooms/onsale/set", values("version", "1", "rate_per_second", "0", "reason", "why"), 422, "", []string{"allowed: 0.01 to 100000"}, "1"},
		{"no reason", "/rooms/onsale/set", values("version", "1", "rate_per_second", "9"), 422, "", []string{"A reason is required", `value="9"`}, "1"},
		{"no version", "/rooms/onsale/set", values("rate_per_second", "9", "reason", "why"), 412, "", []string{"changed meanwhile", `value="9"`}, "1"},
		{"preview", "/rooms/onsale/set", values("version", "1", "rate_per_second", "9", "do", "preview"), 200, "", []string{"At most 540 fans", `value="9"`}, "1"},
		{"nothing differs", "/rooms/onsale/set", values("version", "1", "rate_per_second", "5.0", "reason", "why"), 303, "/rooms/onsale?same", nil, "1"},
		{"rate", "/rooms/onsale/set", values("version", "1", "rate_per_second", "9", "message", "Hello\r\nyou", "reason", "why"), 303, "/rooms/onsale?done=2", nil, "2"},
		{"old version", "/rooms/onsale/set", values("version", "1", "cap", "600", "reason", "why"), 412, "", []string{"changed meanwhile", `value="600"`, `name="version" value="2"`}, "2"},
		{"unknown room", "/rooms/nowhere/set", values("version", "1", "cap", "600", "reason", "why"), 404, "", nil, "2"},
		{"mode is no setting here", "/rooms/onsale/set", values("version", "2", "mode", "ended", "reason", "why"), 303, "/rooms/onsale?same", nil, "2"},
		{"undo of an old version", "/rooms/onsale/undo", values("version", "1"), 412, "", nil, "2"},
		{"undo", "/rooms/onsale/undo", values("version", "2"), 303, "/rooms/onsale?done=3", nil, "3"},
		{"undo in an unknown room", "/rooms/nowhere/undo", "", 404, "", nil, "3"},
		{"pause needs no reason", "/rooms/onsale/actions/pause", "", 303, "/rooms/onsale?done=4", nil, "4"},
		{"pause again", "/rooms/onsale/actions/pause", "", 303, "/rooms/onsale?same", nil, "4"},
		{"danger in one step", "/rooms/onsale/actions/admit-all", values("reason", "now"), 200, "", []string{"Admit everybody?", `value="now"`}, "4"},
		{"danger without a reason", "/rooms/onsale/actions/admit-all", values("confirmed", "yes", "version", "4"), 422, "", []string{"A reason is required"}, "4"},
		{"danger without a version", "/rooms/onsale/actions/admit-all", values("confirmed", "yes", "reason", "now"), 412, "", nil, "4"},
		{"danger over another version", "/rooms/onsale/actions/admit-all", values("confirmed", "yes", "reason", "now", "version", "3"), 412, "", []string{`value="now"`, `name="version" value="4"`}, "4"},
		{"danger", "/rooms/onsale/actions/admit-all", values("confirmed", "yes", "reason", "now", "version", "4"), 303, "/rooms/onsale?done=5", nil, "5"},
		{"resume", "/rooms/onsale/actions/resume", values("reason", "enough"), 303, "/rooms/onsale?done=6", nil, "6"},
		{"undo that would bring danger back asks first", "/rooms/onsale/undo", values("version", "6"), 303, "/rooms/onsale/actions/admit-all", nil, "6"},
		{"unknown action", "/rooms/onsale/actions/explode", "", 404, "", nil, "6"},
		{"unknown room's action", "/rooms/nowhere/actions/pause", "", 404, "", nil, "6"},
		{"settings, bad value", "/rooms/onsale/settings", values("version", "6", "seat_limit", "0", "reason", "why"), 422, "", []string{"allowed: 1 to 100", `name="seat_limit" type="number"`}, "6"},
		{"settings, bad choice", "/rooms/onsale/settings", values("version", "6", "outage_mode", "late", "reason", "why"), 422, "", []string{"allowed: strict, early"}, "6"},
		{"settings, preview", "/rooms/onsale/settings", values("version", "6", "seat_limit", "2", "has:opening.lobby", "1", "do", "preview"), 200, "", []string{"seat_limit", "What would change"}, "6"},
		{"settings", "/rooms/onsale/settings", values("version", "6", "seat_limit", "2", "has:opening.lobby", "1", "opening.lobby", "true", "reason", "why"), 303, "/rooms/onsale?done=7", nil, "7"},
		{"box unticked", "/rooms/onsale/settings", values("version", "7", "has:opening.lobby", "1", "reason", "why"), 303, "/rooms/onsale?done=8", nil, "8"},
		{"document, no JSON", "/rooms/onsale/settings", values("version", "8", "document", `{"cap":`, "reason", "why"), 422, "", []string{"a JSON object", "{&#34;cap&#34;:"}, "8"},
		{"document, danger in one step", "/rooms/onsale/settings", values("version", "8", "document", `{"mode":"ended"}`, "reason", "why"), 200, "", []string{"This is dangerous", `name="confirmed" value="yes"`}, "8"},
		{"document, old version", "/rooms/onsale/settings", values("version", "7", "document", `{"cap":9}`, "reason", "why"), 412, "", nil, "8"},
		{"document", "/rooms/onsale/settings", values("version", "8", "document", `{"mode":"normal","cap":9}`, "reason", "why"), 303, "/rooms/onsale?done=9", nil, "9"},
		{"broken form", "/rooms/onsale/set", "version=%zz", 400, "", nil, "9"},
		{"form that is too long", "/rooms/onsale/set", "message=" + strings.Repeat("x", 65<<10), 400, "", nil, "9"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := c.do("POST", tt.path, tt.body, session, form, same)
			if w.Code != tt.status || w.Header().Get("Location") != tt.location {
				t.Fatalf("got %d to %q, want %d to %q\n%s", w.Code, w.Header().Get("Location"), tt.status, tt.location, w.Body)
			}
			for _, want := range tt.want {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("want %q in\n%s", want, w.Body)
				}
			}
			if v, _ := c.house.Current("onsale"); v != tt.version {
				t.Errorf("version %s is in force, want %s", v, tt.version)
			}
		})
	}
	w := c.do("GET", "/rooms/onsale?done=9", "", session)
	if !strings.Contains(w.Body.String(), "<strong>Done:</strong>") || !strings.Contains(w.Body.String(), "Undo</button>") {
		t.Errorf("what was done is not said: %s", w.Body)
	}
	if w := c.do("GET", "/rooms/onsale?done=2", "", session); strings.Contains(w.Body.String(), "<strong>Done:</strong>") {
		t.Error("an old change is announced as just done")
	}
}

// A message that looks like code stays text, on every page that shows it.
func TestTextsAreEscaped(t *testing.T) {
	c := looked(t)
	session := c.signIn()
	const evil = `"><script>alert(1)</script>`
	if w := c.do("POST", "/rooms/onsale/set", values("version", "1", "message", evil, "reason", evil), session, form, same); w.Code != 303 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for _, path := range []string{"/rooms/onsale?done=2", "/rooms/onsale/settings", "/audit", "/audit?q=" + url.QueryEscape(evil)} {
		w := c.do("GET", path, "", session)
		if strings.Contains(w.Body.String(), "<script>alert") || !strings.Contains(w.Body.String(), "&lt;script&gt;") {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
}

func TestPagesWhenTheStoreIsGone(t *testing.T) {
	c := looked(t)
	session := c.signIn()
	c.house.Fail(errors.New("secret cause"))
	for _, path := range []string{"/rooms/onsale", "/audit", "/limits", "/rooms/onsale/settings"} {
		w := c.do("GET", path, "", session)
		if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "secret cause") || !strings.Contains(w.Body.String(), "did not answer") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	c.house.Fail(nil)
	c.house.Lose(true)
	w := c.do("POST", "/rooms/onsale/set", values("version", "1", "cap", "600", "reason", "why"), session, form, same)
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "may or may not") {
		t.Errorf("an answer that was lost: %d %s", w.Code, w.Body)
	}
}

func TestExports(t *testing.T) {
	c := looked(t)
	session := c.signIn()
	c.do("POST", "/rooms/onsale/set", values("version", "1", "message", "=1+1", "reason", "@home"), session, form, same)
	read := func(path string) [][]string {
		w := c.do("GET", path, "", session)
		rows, err := csv.NewReader(w.Body).ReadAll()
		if err != nil || w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Disposition"), "attachment") {
			t.Fatalf("%s: %d %v", path, w.Code, err)
		}
		return rows
	}
	rows := read("/audit.csv?room=onsale&q=home")
	if len(rows) != 2 || rows[1][4] != "'@home" || rows[1][7] != "'=1+1" {
		t.Errorf("changes: %q", rows)
	}
	rows = read("/rooms/onsale/history.csv")
	if len(rows) != 2 || rows[0][5] != "inside" || !strings.HasPrefix(rows[1][5], "4") || rows[1][1] != "" {
		t.Errorf("history: %q", rows)
	}
	if w := c.do("GET", "/rooms/nowhere/history.csv", "", session); w.Code != 404 {
		t.Errorf("unknown room: %d", w.Code)
	}
}

func TestFleetPageTellsSilentEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t)
		c.house.Join(desk.Edge{ID: "a", Label: "quick", SeenAt: time.Now()}, desk.Edge{ID: "b", Label: "gone", SeenAt: time.Now().Add(-time.Minute)},
			desk.Edge{ID: "c", Label: "drained", SeenAt: time.Now(), Leaving: true})
		session := c.signIn()
		stop := c.run()
		defer stop()
		synctest.Wait()
		body := c.do("GET", "/fleet", "", session).Body.String()
		for _, want := range []string{"silent", "serving", "said goodbye"} {
			if !strings.Contains(body, want) {
				t.Errorf("want %q in %s", want, body)
			}
		}
	})
}

var customProperty = regexp.MustCompile(`(--[a-z0-9-]+):([^;}\n]+)`)

// All surfaces speak one visual language: what the shop and the console both name has one value.
func TestTokensAreTheShops(t *testing.T) {
	read := func(path string) map[string]string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		light, dark, _ := strings.Cut(string(text), "@media (prefers-color-scheme:dark)")
		dark, _, _ = strings.Cut(dark, "}}")
		out := map[string]string{}
		for scheme, part := range map[string]string{"light ": light, "dark ": dark} {
			for _, m := range customProperty.FindAllStringSubmatch(part, -1) {
				out[scheme+m[1]] = m[2]
			}
		}
		return out
	}
	shop, console := read("../core/shop/assets/shop.css"), read("ui/assets/console.css")
	if len(shop) < 20 || !maps.Equal(shop, console) {
		t.Errorf("shop:    %v\nconsole: %v", shop, console)
	}
}

// Whatever a form holds, the answer is a page that says what is wrong, and never a failure of the console.
func FuzzForms(f *testing.F) {
	for _, body := range []string{"", "version=1&cap=600&reason=x", "cap=%zz", "cap=1&cap=2", "rate_per_second=NaN&do=preview", "document={}&version=1&reason=x", "message=%ff&reason=%ff&version=1", strings.Repeat("&", 2000)} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		c := over(t, desktest.New("onsale"))
		session := c.signIn()
		for _, path := range []string{"/rooms/onsale/set", "/rooms/onsale/settings", "/rooms/onsale/undo", "/rooms/onsale/actions/end", "/you"} {
			if w := c.do("POST", path, body, session, form, same); w.Code >= 500 {
				t.Fatalf("%s: %d %s", path, w.Code, w.Body)
			}
		}
		if _, doc := c.house.Current("onsale"); len(c.house.Check("onsale", doc)) > 0 {
			t.Fatalf("a document that is not valid was stored: %s", doc)
		}
	})
}
