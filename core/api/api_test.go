package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stanchion-queue/stanchion/core/buyer"
	"github.com/stanchion-queue/stanchion/core/guest"
	"github.com/stanchion-queue/stanchion/core/problem"
)

// What needs seats, orders and money is tested with all of them in tools/journeys/officetest.

func handler(t *testing.T) http.Handler {
	t.Helper()
	keys, err := guest.NewKeys(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{Buyers: &buyer.Desk{Guests: keys}, Version: "1.2.3"})
}

type document struct {
	OpenAPI    string
	Info       struct{ Title, Version, Description string }
	Paths      map[string]map[string]operationObject
	Components struct {
		Schemas map[string]json.RawMessage
	}
}

type operationObject struct {
	ID          string `json:"operationId"`
	Summary     string
	Tags        []string
	Parameters  []struct{ Name, In string }
	RequestBody *struct {
		Required bool
		Content  map[string]json.RawMessage
	}
	Responses map[string]struct {
		Description string
		Content     map[string]struct{ Schema json.RawMessage }
		Types       []string `json:"x-problem-types"`
	}
}

func description(t *testing.T) (document, []byte) {
	t.Helper()
	w := httptest.NewRecorder()
	handler(t).ServeHTTP(w, httptest.NewRequest("GET", "/api/openapi.json", nil))
	if w.Code != 200 {
		t.Fatalf("the description: %d %s", w.Code, w.Body)
	}
	var d document
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	return d, w.Body.Bytes()
}

func TestDescriptionIsWhole(t *testing.T) {
	d, raw := description(t)
	if d.OpenAPI != "3.1.0" || d.Info.Version != "1.2.3" || d.Info.Title == "" {
		t.Errorf("OpenAPI %s of %+v", d.OpenAPI, d.Info)
	}
	var paths []string
	for p := range d.Paths {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	want := []string{
		"/api/v1/events", "/api/v1/events/{event}", "/api/v1/events/{event}/performances/{performance}", "/api/v1/holds/quote", "/api/v1/holds/{hold}",
		"/api/v1/holds/{hold}/extend", "/api/v1/orders", "/api/v1/orders/{order}", "/api/v1/orders/{order}/cancel", "/api/v1/orders/{order}/checkout",
		"/api/v1/orders/{order}/payments", "/api/v1/orders/{order}/refunds", "/api/v1/orders/{order}/tickets", "/api/v1/performances/{performance}",
		"/api/v1/performances/{performance}/availability", "/api/v1/performances/{performance}/chart", "/api/v1/performances/{performance}/holds",
		"/api/v1/performances/{performance}/plan", "/api/v1/performances/{performance}/sale",
		"/api/v1/scans", "/api/v1/tickets/{ticket}", "/api/v1/venues", "/api/v1/venues/{id}", "/api/v1/webhooks/{provider}",
	}
	slices.Sort(want)
	// Staff writes events and performances under the paths that fans read.
	if !slices.Equal(paths, want) {
		t.Errorf("paths\n%s\nwant\n%s", strings.Join(paths, "\n"), strings.Join(want, "\n"))
	}

	// Every reference leads somewhere, and every schema is used.
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`"\$ref":"([^"]*)"`).FindAllSubmatch(raw, -1) {
		name, ok := strings.CutPrefix(string(m[1]), "#/components/schemas/")
		if _, there := d.Components.Schemas[name]; !ok || !there {
			t.Errorf("%s leads nowhere", m[1])
		}
		used[name] = true
	}
	for name := range d.Components.Schemas {
		if !used[name] && name != "ErrorModel" && name != "ErrorDetail" {
			t.Errorf("nothing uses the schema %s", name)
		}
	}
}

func TestEveryOperationListsItsProblems(t *testing.T) {
	d, _ := description(t)
	known := map[string]*problem.Kind{}
	for _, k := range problem.Kinds() {
		known[k.Type()] = k
	}
	documented := map[string]bool{}
	ids := map[string]bool{}
	for path, operations := range d.Paths {
		for method, op := range operations {
			if op.ID == "" || op.Summary == "" || len(op.Tags) != 1 || ids[op.ID] {
				t.Errorf("%s %s: id %q (used twice: %v), summary %q, tags %v", method, path, op.ID, ids[op.ID], op.Summary, op.Tags)
			}
			ids[op.ID] = true
			success, failures := 0, 0
			var all []string
			for status, r := range op.Responses {
				if status[0] == '2' {
					success++
					continue
				}
				failures++
				if len(r.Types) == 0 || r.Description == "" {
					t.Errorf("%s: %s says nothing of its problems", op.ID, status)
				}
				if string(r.Content["application/problem+json"].Schema) != `{"$ref":"#/components/schemas/Problem"}` {
					t.Errorf("%s: %s is no problem document: %v", op.ID, status, r.Content)
				}
				for _, typ := range r.Types {
					k := known[typ]
					if k == nil {
						t.Errorf("%s: there is no problem %s", op.ID, typ)
					} else if status != itoa(k.Status) {
						t.Errorf("%s: %s is listed under %s", op.ID, typ, status)
					}
					documented[typ] = true
					all = append(all, typ)
				}
			}
			if success != 1 || failures == 0 {
				t.Errorf("%s: %d successes, %d failures", op.ID, success, failures)
			}
			has := func(code string) bool { return slices.Contains(all, problem.TypePrefix+code) }
			if !has("internal") {
				t.Errorf("%s cannot fail", op.ID)
			}
			if strings.Contains(path, "{") && !has("not-found") && op.Tags[0] != "staff" {
				t.Errorf("%s: what if there is no such thing?", op.ID)
			}
			if method != "get" && op.Tags[0] != "provider" && op.ID != "scan" && !(has("key-reused") && has("key-in-flight") && has("cross-site")) {
				t.Errorf("%s is a write that may carry a key", op.ID)
			}
			if op.RequestBody != nil && op.ID != "webhook" {
				if !op.RequestBody.Required || len(op.RequestBody.Content) != 1 {
					t.Errorf("%s: the body %+v", op.ID, op.RequestBody)
				}
				if !(has("malformed") && has("invalid") && has("too-large") && has("unsupported-media-type")) {
					t.Errorf("%s reads a body that may be unreadable", op.ID)
				}
			}
		}
	}
	// Only these come from outside an operation.
	for typ, k := range known {
		outside := []string{"method-not-allowed", "cookies-needed"}
		if !documented[typ] && !slices.Contains(outside, k.Code) {
			t.Errorf("no operation lists %s", typ)
		}
	}
}

func itoa(n int) string {
	b, _ := json.Marshal(n) // an integer always encodes
	return string(b)
}

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{"": false, "gzip": true, "br, gzip": true, "gzip;q=0": false, "GZIP; q=0.5": true, "deflate": false, "gzip;q=0.0, br": false,
		"gzip;q=x": true, "*": false, "x-gzip": false} {
		if got := acceptsGzip(header); got != want {
			t.Errorf("acceptsGzip(%q) = %v", header, got)
		}
	}
}

func TestEntityTagsMatchWeakly(t *testing.T) {
	for header, want := range map[string]bool{`"a"`: true, `W/"a"`: true, `"b", "a"`: true, `*`: true, `"b"`: false, ``: false, `a`: false, `"a`: false} {
		if got := matches(header, `"a"`); got != want {
			t.Errorf("matches(%q) = %v", header, got)
		}
	}
	if matches("*", "") {
		t.Error("an answer without a tag matched")
	}
}

func TestFinalAnswers(t *testing.T) {
	for status, want := range map[int]bool{200: true, 201: true, 204: true, 400: true, 402: true, 404: true, 409: true, 410: true, 412: true, 422: true,
		202: false, 401: false, 403: false, 408: false, 429: false, 500: false, 503: false} {
		if final(status) != want {
			t.Errorf("final(%d) = %v", status, !want)
		}
	}
}
