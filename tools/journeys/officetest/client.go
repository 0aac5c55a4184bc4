package officetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// spec is what the API's own description says about it.
type spec struct{ operations []described }

type described struct {
	method string
	path   *regexp.Regexp
	id     string
	types  map[string][]string // status -> problem types
}

var parameter = regexp.MustCompile(`\\\{[^}]*\\\}`)

func readSpec(t testing.TB, base string) *spec {
	t.Helper()
	res, err := http.Get(base + "/api/openapi.json")
	must(t, err)
	defer res.Body.Close()
	var doc struct {
		Paths map[string]map[string]struct {
			ID        string `json:"operationId"`
			Responses map[string]struct {
				Types []string `json:"x-problem-types"`
			}
		}
	}
	must(t, json.NewDecoder(res.Body).Decode(&doc))
	s := &spec{}
	for path, methods := range doc.Paths {
		// A fixed word wins over a parameter, as in the server.
		quoted := regexp.QuoteMeta(path)
		pattern := regexp.MustCompile("^" + parameter.ReplaceAllString(quoted, `[^/]+`) + "$")
		for method, op := range methods {
			d := described{method: strings.ToUpper(method), path: pattern, id: op.ID, types: map[string][]string{}}
			for status, r := range op.Responses {
				d.types[status] = r.Types
			}
			s.operations = append(s.operations, d)
		}
	}
	slices.SortFunc(s.operations, func(a, b described) int {
		return strings.Count(a.path.String(), "[^/]+") - strings.Count(b.path.String(), "[^/]+")
	})
	return s
}

// check fails the test when an answer is a problem that the operation's description does not list.
func (s *spec) check(t testing.TB, method, path string, a Answer) {
	t.Helper()
	path, _, _ = strings.Cut(path, "?")
	for _, d := range s.operations {
		if d.method != method || !d.path.MatchString(path) {
			continue
		}
		if typ := a.Field("type"); !slices.Contains(d.types[fmt.Sprint(a.Status)], typ) {
			t.Errorf("%s answered %d %s, which its description does not list: %s", d.id, a.Status, typ, a.Body)
		}
		return
	}
}

// Fan is a client with cookies, as a browser or an app is.
type Fan struct {
	Office *Office
	Client *http.Client
	Guest  string // sent as a bearer token when set
	Pass   string // sent as the edge would
	// Header is added to every request.
	Header http.Header
}

// jar keeps cookies by name; the office has one host.
type jar struct{ m sync.Map }

func (j *jar) SetCookies(_ *url.URL, cs []*http.Cookie) {
	for _, c := range cs {
		j.m.Store(c.Name, c)
	}
}

func (j *jar) Cookies(*url.URL) (out []*http.Cookie) {
	j.m.Range(func(_, c any) bool {
		out = append(out, c.(*http.Cookie))
		return true
	})
	return out
}

// Fan returns a new fan with a pass of the room for a session of their own.
func (f *Office) Fan(session string) *Fan {
	f.T.Helper()
	return &Fan{Office: f, Pass: f.Pass(session, Room, SeatLimit), Header: http.Header{}, Client: &http.Client{Jar: &jar{}, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Field is a string field of a JSON body, "" if it is not there.
func (a Answer) Field(name string) string {
	var m map[string]any
	if json.Unmarshal(a.Body, &m) != nil || m[name] == nil {
		return ""
	}
	return fmt.Sprint(m[name])
}

// Problem is the code of a problem, "" if the answer is none.
func (a Answer) Problem() string {
	if a.Header.Get("Content-Type") != "application/problem+json" {
		return ""
	}
	return strings.TrimPrefix(a.Field("type"), "/problems/")
}

// Into decodes a JSON body.
func (a Answer) Into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.Body, v); err != nil {
		t.Fatalf("%v: %s", err, a.Body)
	}
}

// Send sends a request as it is.
func (f *Fan) Send(method, path, contentType string, body io.Reader, header ...string) Answer {
	t := f.Office.T
	t.Helper()
	target := path
	if strings.HasPrefix(path, "/") {
		target = f.Office.URL + path
	}
	r, err := http.NewRequestWithContext(t.Context(), method, target, body)
	must(t, err)
	for k, v := range f.Header {
		r.Header[k] = v
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if f.Guest != "" {
		r.Header.Set("Authorization", "Bearer "+f.Guest)
	}
	if f.Pass != "" && strings.HasPrefix(target, f.Office.URL) {
		r.Header.Set("Stanchion-Pass", f.Pass)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := f.Client.Do(r)
	must(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	return Answer{res.StatusCode, res.Header, b}
}

// Do sends JSON (nil: no body) to the API and holds a refusal to the API's description. header is name, value, name, value, …
func (f *Fan) Do(method, path string, body any, header ...string) Answer {
	t := f.Office.T
	t.Helper()
	var in io.Reader
	contentType := ""
	if body != nil {
		b, err := json.Marshal(body)
		must(t, err)
		in, contentType = bytes.NewReader(b), "application/json"
	}
	a := f.Send(method, path, contentType, in, header...)
	f.Hold(method, path, a)
	return a
}

// Hold holds an answer to the API's rules: every refusal is a complete problem that the operation's description lists.
func (f *Fan) Hold(method, path string, a Answer) {
	t := f.Office.T
	t.Helper()
	if !strings.HasPrefix(path, "/api/") || a.Status < 400 {
		return
	}
	p, _, _ := strings.Cut(path, "?")
	switch {
	case a.Problem() == "":
		t.Errorf("%s %s: %d without a problem: %s", method, path, a.Status, a.Body)
	case a.Field("title") == "" || a.Field("status") != fmt.Sprint(a.Status):
		t.Errorf("%s %s: an incomplete problem: %s", method, path, a.Body)
	case method != http.MethodHead && a.Field("instance") != p:
		t.Errorf("%s %s: instance is %q", method, path, a.Field("instance"))
	}
	f.Office.spec.check(t, method, path, a)
}

// Press sends a form, as a browser would.
func (f *Fan) Press(path string, form url.Values, header ...string) Answer {
	f.Office.T.Helper()
	return f.Send(http.MethodPost, path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()), append([]string{"Sec-Fetch-Site", "same-origin"}, header...)...)
}

// Read opens a page.
func (f *Fan) Read(path string) Answer {
	f.Office.T.Helper()
	return f.Send(http.MethodGet, path, "", nil, "Accept", "text/html")
}

// PayAtProvider fills the provider's page in and returns where it sends the fan.
func (f *Fan) PayAtProvider(page, card string) string {
	t := f.Office.T
	t.Helper()
	form := url.Values{"do": {"pay"}, "card": {card}, "expiry": {"12/60"}, "cvc": {"123"}}
	a := f.Send(http.MethodPost, page, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
	if a.Status != http.StatusSeeOther {
		t.Fatalf("the provider's page answered %d: %s", a.Status, a.Body)
	}
	return a.Header.Get("Location")
}
