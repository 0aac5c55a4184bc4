package admin_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/admin/desk"
	"github.com/stanchion-queue/stanchion/admin/desktest"
)

// looked is a console that has looked at its room once and knows what was sold.
func looked(t *testing.T) console {
	c := open(t)
	c.Desk().Record(t.Context())
	return c
}

func TestAPIAnswers(t *testing.T) {
	c := looked(t)
	put := func(doc, why string) string {
		b, err := json.Marshal(map[string]any{"document": json.RawMessage(doc), "reason": why})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	doc := string(desktest.Document())
	more := strings.Replace(doc, `"cap":500`, `"cap":700`, 1)
	tests := []struct { // in order: each sees what those before it did
		name         string
		method, path string
		body         string
		with         []with
		status       int
		code         string // of the problem
		want         []string
	}{
		{"rooms", "GET", "/rooms", "", nil, 200, "", []string{`"room":"onsale"`, `"phase":"waiting"`}},
		{"room", "GET", "/rooms/onsale", "", nil, 200, "", []string{`"stale":false`, `"cap":500`, `"drain":{"known":true`}},
		{"unknown room", "GET", "/rooms/nowhere", "", nil, 404, "no-such-room", nil},
		{"unknown room's history", "GET", "/rooms/nowhere/history", "", nil, 404, "no-such-room", nil},
		{"unknown room's stream", "GET", "/rooms/nowhere/live", "", nil, 404, "no-such-room", nil},
		{"unknown room's settings", "GET", "/rooms/nowhere/settings", "", nil, 404, "no-such-room", nil},
		{"history", "GET", "/rooms/onsale/history?seconds=60", "", nil, 200, "", []string{`"inside":[4`, `"arrivals_per_second":[null]`, `"marks":[`}},
		{"history of too long", "GET", "/rooms/onsale/history?seconds=3601", "", nil, 422, "invalid", []string{`"key":"query.seconds"`, "3600"}},
		{"settings", "GET", "/rooms/onsale/settings", "", nil, 200, "", []string{`"version":"1"`, `"rate_per_second":5`}},
		{"preview", "POST", "/rooms/onsale/settings/preview", `{"edits":{"cap":600}}`, nil, 200, "", []string{`"from":"500","to":"600"`, "100 more fans", `"problems":[]`}},
		{"preview of a whole document", "POST", "/rooms/onsale/settings/preview", `{"document":` + more + `}`, nil, 200, "", []string{`"to":"700"`}},
		{"preview of a bad value", "POST", "/rooms/onsale/settings/preview", `{"edits":{"cap":0}}`, nil, 200, "", []string{`"key":"cap","value":"0","want":"1 to 10000000"`}},
		{"preview of both", "POST", "/rooms/onsale/settings/preview", `{"edits":{"cap":1},"document":{}}`, nil, 422, "invalid", nil},
		{"preview of nothing", "POST", "/rooms/onsale/settings/preview", `{}`, nil, 422, "invalid", nil},
		{"preview of a danger", "POST", "/rooms/onsale/settings/preview", `{"edits":{"mode":"ended"}}`, nil, 200, "", []string{`"danger":true`}},
		{"put without If-Match", "PUT", "/rooms/onsale/settings", put(more, "more"), nil, 428, "if-match-required", nil},
		{"put with a bad tag", "PUT", "/rooms/onsale/settings", put(more, "more"), []with{header("If-Match", "1")}, 400, "malformed", nil},
		{"put over another version", "PUT", "/rooms/onsale/settings", put(more, "more"), []with{header("If-Match", `"7"`)}, 412, "changed-meanwhile", nil},
		{"put without a reason", "PUT", "/rooms/onsale/settings", put(more, " "), []with{header("If-Match", `"1"`)}, 422, "reason-required", nil},
		{"put of a bad value", "PUT", "/rooms/onsale/settings", put(strings.Replace(doc, `"cap":500`, `"cap":-1`, 1), "less"), []with{header("If-Match", `"1"`)}, 422, "invalid", []string{`"key":"cap"`, `"want":"1 to 10000000"`}},
		{"put of an unknown key", "PUT", "/rooms/onsale/settings", put(`{"cpa":1}`, "less"), []with{header("If-Match", `"1"`)}, 422, "invalid", []string{`"key":"cpa"`}},
		{"put of no JSON", "PUT", "/rooms/onsale/settings", `{"document":`, []with{header("If-Match", `"1"`)}, 400, "malformed", nil},
		{"put of too much", "PUT", "/rooms/onsale/settings", put(`{"x":"`+strings.Repeat("x", 140<<10)+`"}`, "much"), []with{header("If-Match", `"1"`)}, 413, "too-large", nil},
		{"put", "PUT", "/rooms/onsale/settings", put(more, "more"), []with{header("If-Match", `"1"`)}, 200, "", []string{`"version":"2"`, `"before":"1"`, `"key":"cap"`}},
		{"the same put again", "PUT", "/rooms/onsale/settings", put(more, "more"), []with{header("If-Match", `"1"`)}, 412, "changed-meanwhile", nil},
		{"put over any version", "PUT", "/rooms/onsale/settings", put(doc, "back"), []with{header("If-Match", "*")}, 200, "", []string{`"version":"3"`}},
		{"undo of another version", "POST", "/rooms/onsale/settings/undo", `{"reason":"no"}`, []with{header("If-Match", `"2"`)}, 412, "changed-meanwhile", nil},
		{"undo", "POST", "/rooms/onsale/settings/undo", `{"reason":"no"}`, []with{header("If-Match", `"3"`)}, 200, "", []string{`"to":"700"`}},
		{"pause", "POST", "/rooms/onsale/actions/pause", `{"reason":"smoke"}`, nil, 200, "", []string{`"to":"paused"`, "Nobody is let in"}},
		{"pause again", "POST", "/rooms/onsale/actions/pause", `{"reason":"smoke"}`, nil, 200, "", []string{`"changes":[]`}},
		{"action without a reason", "POST", "/rooms/onsale/actions/resume", `{"reason":""}`, nil, 422, "reason-required", nil},
		{"action over another version", "POST", "/rooms/onsale/actions/resume", `{"reason":"air"}`, []with{header("If-Match", `"1"`)}, 412, "changed-meanwhile", nil},
		{"resume", "POST", "/rooms/onsale/actions/resume", `{"reason":"air"}`, nil, 200, "", nil},
		{"unknown action", "POST", "/rooms/onsale/actions/explode", `{"reason":"x"}`, nil, 404, "no-such-action", nil},
		{"unknown room's action", "POST", "/rooms/nowhere/actions/pause", `{"reason":"x"}`, nil, 404, "no-such-room", nil},
		{"action with edits", "POST", "/rooms/onsale/actions/pause", `{"reason":"x","edits":{"cap":1}}`, nil, 422, "invalid", nil},
		{"set", "POST", "/rooms/onsale/actions/set", `{"reason":"x","edits":{"rate_per_second":7.5,"message":"Hello"}}`, nil, 200, "", []string{`"to":"7.5"`, `"to":"Hello"`}},
		{"set of nothing", "POST", "/rooms/onsale/actions/set", `{"reason":"x"}`, nil, 422, "invalid", nil},
		{"set of a bad value", "POST", "/rooms/onsale/actions/set", `{"reason":"x","edits":{"rate_per_second":"fast"}}`, nil, 422, "invalid", []string{`"want":"0.01 to 100000"`}},
		{"changes", "GET", "/rooms/onsale/settings/history?limit=2", "", nil, 200, "", []string{`"who":"start token"`, `"why":"x"`}},
		{"audit", "GET", "/audit", "", nil, 200, "", []string{`"why":"smoke"`}},
		{"audit of a room", "GET", "/audit?room=onsale", "", nil, 200, "", []string{`"room":"onsale"`}},
		{"audit of an unknown room", "GET", "/audit?room=nowhere", "", nil, 404, "no-such-room", nil},
		{"fields", "GET", "/fields", "", nil, 200, "", []string{`"key":"rate_per_second"`, `"min":0.01`}},
		{"actions", "GET", "/actions", "", nil, 200, "", []string{`"name":"admit-all"`}},
		{"fleet before it was read", "GET", "/fleet", "", nil, 200, "", []string{`"edges":[]`}},
		{"limits", "GET", "/limits", "", nil, 200, "", []string{`"key":"viewers"`, `"key":"cap"`}},
		{"no such resource", "GET", "/nothing", "", nil, 404, "not-found", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := c.do(tt.method, "/api/v1"+tt.path, tt.body, append(tt.with, bearer)...)
			if w.Code != tt.status {
				t.Fatalf("got %d, want %d: %s", w.Code, tt.status, w.Body)
			}
			wantProblem(t, w, tt.code)
			for _, want := range tt.want {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("want %s in %s", want, w.Body)
				}
			}
			if !json.Valid(w.Body.Bytes()) {
				t.Errorf("no JSON: %s", w.Body)
			}
		})
	}
	w := c.do("GET", "/api/v1/rooms/onsale/settings", "", bearer)
	version, _ := c.house.Current("onsale")
	if w.Header().Get("ETag") != `"`+version+`"` || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", w.Header())
	}
}

// A store that does not answer is told as such, and what it said goes to the log alone.
func TestAPIWhenTheStoreIsGone(t *testing.T) {
	c := looked(t)
	c.house.Fail(errors.New("dial tcp 10.0.0.7: refused"))
	for _, path := range []string{"/rooms/onsale/settings", "/audit", "/limits", "/rooms"} {
		w := c.do("GET", "/api/v1"+path, "", bearer)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "2" || strings.Contains(w.Body.String(), "10.0.0.7") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		wantProblem(t, w, "no-answer")
	}
	if !strings.Contains(c.log.String(), "10.0.0.7") {
		t.Errorf("the cause is nowhere:\n%s", c.log)
	}
	// What was seen before can still be read.
	if w := c.do("GET", "/api/v1/rooms/onsale", "", bearer); w.Code != 200 {
		t.Errorf("the last look: %d", w.Code)
	}
}

func TestAPIDescription(t *testing.T) {
	c := open(t)
	var d struct {
		OpenAPI    string                    `json:"openapi"`
		Paths      map[string]map[string]any `json:"paths"`
		Components struct {
			Schemas map[string]any `json:"schemas"`
		} `json:"components"`
	}
	w := c.do("GET", "/api/openapi.json", "", bearer)
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || !strings.HasPrefix(d.OpenAPI, "3.1") {
		t.Fatalf("%v %s", err, w.Body)
	}
	for _, p := range []string{"/rooms", "/rooms/{room}", "/rooms/{room}/live", "/rooms/{room}/history", "/rooms/{room}/settings", "/rooms/{room}/settings/preview",
		"/rooms/{room}/settings/undo", "/rooms/{room}/actions/{action}", "/fleet", "/limits", "/audit", "/fields", "/actions"} {
		if d.Paths["/api/v1"+p] == nil {
			t.Errorf("%s is not described", p)
		}
	}
	for name := range d.Components.Schemas {
		if strings.HasPrefix(name, "Foreign") || name == "ErrorModel" {
			t.Errorf("schema %s is nobody's here", name)
		}
	}
	if d.Components.Schemas["Details"] == nil {
		t.Error("problems are not described")
	}
	// Every reference leads somewhere.
	for rest := w.Body.String(); ; {
		_, after, ok := strings.Cut(rest, `"#/components/schemas/`)
		if !ok {
			break
		}
		name, next, _ := strings.Cut(after, `"`)
		if d.Components.Schemas[name] == nil {
			t.Errorf("reference to %s leads nowhere", name)
		}
		rest = next
	}
}

// A look that was never taken is stale, not empty and well.
func TestRoomBeforeItsFirstLook(t *testing.T) {
	c := over(t, desktest.New("onsale"))
	w := c.do("GET", "/api/v1/rooms/onsale", "", bearer)
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"stale":true`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	c.house.Show("onsale", desk.Live{At: time.Now(), Cap: 1})
	c.Desk().Record(t.Context())
	if w := c.do("GET", "/api/v1/rooms/onsale", "", bearer); !strings.Contains(w.Body.String(), `"stale":false`) {
		t.Errorf("%s", w.Body)
	}
}
