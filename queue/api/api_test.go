package api_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue/agent"
	"github.com/stanchion-queue/stanchion/queue/api"
	"github.com/stanchion-queue/stanchion/queue/controller"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/localqueue"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// desk is a queue role: a store, two controllers of which one leads, and an agent.
type desk struct {
	room   *agent.Room
	leader *api.Local
	other  *api.Local
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	store, err := localqueue.Open(t.Context(), localqueue.Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := pass.NewKeys(pass.Key{Private: ed25519.NewKeyFromSeed(make([]byte, 32))})
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(agent.Options{
		Store: store, Rooms: []string{"onsale"}, TicketKeys: []line.TicketKey{{KID: 1, Secret: make([]byte, 32)}}, RoomMaster: make([]byte, 32), Passes: keys, Issuer: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := a.Room("onsale")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = a.Run(ctx) })
	var cs []*controller.Controller
	for range 2 {
		set := room.Defaults()
		set.Lanes = []room.Lane{{Name: "general", Weight: 1}}
		c, err := controller.New(controller.Options{Store: store, Rooms: map[string]room.Settings{"onsale": set}, RecordKey: ed25519.NewKeyFromSeed(make([]byte, 32))})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = c.Run(ctx) })
		cs = append(cs, c)
	}
	t.Cleanup(func() { cancel(); wg.Wait(); store.Close() })
	waitFor(t, func() bool { return r.View().Open })
	d := &desk{room: r}
	sessions := func(name string) (api.Sessions, bool) { return a.Room(name) }
	if cs[1].Leading("onsale") {
		cs[0], cs[1] = cs[1], cs[0]
	}
	d.leader, d.other = api.NewLocal(cs[0], sessions), api.NewLocal(cs[1], sessions)
	return d
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 10 s")
		}
	}
}

// In process and over HTTP the service is the same, errors included. Over HTTP the client finds the leader among the processes.
func TestService(t *testing.T) {
	d := newDesk(t)
	standby := httptest.NewServer(api.Handler(d.other, nil))
	defer standby.Close()
	leads := httptest.NewServer(api.Handler(d.leader, nil))
	defer leads.Close()
	away := httptest.NewServer(nil)
	away.Close()
	client, err := api.NewClient(nil, away.URL, standby.URL, leads.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]api.Service{"in process": d.leader, "over HTTP": client} {
		t.Run(name, func(t *testing.T) { testService(t, s, d.room) })
	}
}

func testService(t *testing.T, s api.Service, r *agent.Room) {
	ctx := t.Context()
	if names, err := s.Rooms(ctx); err != nil || len(names) != 1 || names[0] != "onsale" {
		t.Fatalf("rooms = %v, %v", names, err)
	}
	doc, err := s.Settings(ctx, "onsale")
	if err != nil {
		t.Fatal(err)
	}
	next := doc.Settings
	next.Cap++
	next.Message = fmt.Sprintf("cap %d – bald", next.Cap)
	body, err := next.Document()
	if err != nil {
		t.Fatal(err)
	}
	changes, err := s.Preview(ctx, "onsale", body)
	if err != nil || len(changes) != 2 {
		t.Errorf("preview = %v, %v", changes, err)
	}
	if changes, err := s.Preview(ctx, "onsale", mustDoc(t, doc.Settings)); err != nil || len(changes) != 0 {
		t.Errorf("preview of no change = %v, %v", changes, err)
	}
	if _, err := s.Apply(ctx, "onsale", body, doc.Version+9, "op", "x"); !errors.Is(err, controller.ErrConflict) {
		t.Errorf("another version: %v", err)
	}
	ch, err := s.Apply(ctx, "onsale", body, doc.Version, "Zoë", "größere Halle\r\nInjected: yes")
	if err != nil || ch.Version != doc.Version+1 || ch.Who != "Zoë" || ch.Reason != "größere Halle\r\nInjected: yes" || len(ch.Changes) < 2 {
		t.Errorf("apply = %+v, %v", ch, err)
	}
	var problems room.Problems
	if _, err := s.Apply(ctx, "onsale", []byte(`{"cap": 0, "idle_s": -1}`), ch.Version, "op", "x"); !errors.As(err, &problems) || len(problems) != 2 {
		t.Errorf("an impossible document: %v", err)
	}
	if _, err := s.Settings(ctx, "elsewhere"); !errors.Is(err, controller.ErrNoRoom) {
		t.Errorf("another room: %v", err)
	}
	for _, a := range []api.Action{{Kind: api.KindPause}, {Kind: api.KindQueueAll}, {Kind: api.KindRate, Rate: 33}, {Kind: api.KindCap, Cap: 44}, {Kind: api.KindMessage, Message: "hi"}, {Kind: api.KindResume}} {
		if _, err := s.Act(ctx, "onsale", a, "op", "test"); err != nil {
			t.Errorf("%s: %v", a.Kind, err)
		}
	}
	if _, err := s.Act(ctx, "onsale", api.Action{Kind: "explode"}, "op", "x"); !errors.Is(err, api.ErrAction) {
		t.Errorf("no such action: %v", err)
	}
	if _, err := s.Act(ctx, "onsale", api.Action{Kind: api.KindPause}, "", ""); !errors.Is(err, controller.ErrReason) {
		t.Errorf("nobody's action: %v", err)
	}
	doc, err = s.Settings(ctx, "onsale")
	if err != nil || doc.Settings.RatePerSecond != 33 || doc.Settings.Cap != 44 || doc.Settings.Message != "hi" || doc.Settings.Mode != room.ModeNormal {
		t.Errorf("settings after the actions = %+v, %v", doc, err)
	}
	if err := s.Announce(ctx, "onsale", line.DrawResult{Value: "00"}, "op", "x"); !errors.Is(err, controller.ErrNoDraw) {
		t.Errorf("a value for no draw: %v", err)
	}
	sellable := int64(7)
	if err := s.Report(ctx, "onsale", controller.Report{Source: "core", Sellable: &sellable, Held: 1, P99MS: 12}); err != nil {
		t.Error(err)
	}
	waitFor(t, func() bool { st := r.View().Status; return st.Stock != nil && *st.Stock == 7 })
	if err := s.Report(ctx, "onsale", controller.Report{ErrorRatio: 7}); !errors.As(err, &problems) {
		t.Errorf("an impossible report: %v", err)
	}
	live, err := s.Live(ctx, "onsale")
	if err != nil || live.Room != "onsale" || live.Settings.Settings.Cap != 44 || live.Forecast.Status.Phase == "" {
		t.Errorf("live = %+v, %v", live, err)
	}

	waitFor(t, func() bool { return r.View().Open })
	g, err := r.Enter(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	c := pass.Claims{Session: g.Session.String(), ExpiresAt: g.ExpiresAt}
	if err := s.ExtendSession(ctx, "onsale", g.Session, time.Now().Add(5*time.Minute)); err != nil {
		t.Error(err)
	}
	waitFor(t, func() bool { return r.Use(c, time.Now()).Renewed != nil })
	if err := s.EndSession(ctx, "onsale", g.Session); err != nil {
		t.Error(err)
	}
	waitFor(t, func() bool { return r.Use(c, time.Now()).Ended })
	if err := s.EndSession(ctx, "elsewhere", g.Session); !errors.Is(err, controller.ErrNoRoom) {
		t.Errorf("a session of another room: %v", err)
	}
	first := r.View().Line
	if _, err := s.NewLine(ctx, "onsale", mustDoc(t, doc.Settings), doc.Version, true, "op", "start over"); err != nil {
		t.Errorf("new line: %v", err)
	}
	waitFor(t, func() bool { return r.View().Line != first })
}

func mustDoc(t *testing.T, s room.Settings) []byte {
	t.Helper()
	doc, err := s.Document()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// Requests that no client of ours would send are refused with a problem that says why.
func TestBadRequests(t *testing.T) {
	d := newDesk(t)
	srv := httptest.NewServer(api.Handler(d.leader, nil))
	defer srv.Close()
	for name, tc := range map[string]struct {
		method, path, body, match string
		status                    int
		typ                       string
	}{
		"no version":         {"PUT", "/rooms/onsale/settings", "{}", "", 400, "bad-request"},
		"version in words":   {"PUT", "/rooms/onsale/settings", "{}", "newest", 400, "bad-request"},
		"not JSON":           {"PUT", "/rooms/onsale/report", "sellable=3", "", 400, "bad-request"},
		"unknown field":      {"PUT", "/rooms/onsale/report", `{"selable": 3}`, "", 400, "bad-request"},
		"two documents":      {"PUT", "/rooms/onsale/report", `{}{}`, "", 400, "bad-request"},
		"huge":               {"PUT", "/rooms/onsale/report", `{"source":"` + strings.Repeat("x", 1<<20) + `"}`, "", 400, "bad-request"},
		"no session":         {"POST", "/rooms/onsale/sessions/me/end", "", "", 400, "bad-request"},
		"extend to when":     {"POST", "/rooms/onsale/sessions/AAAAAAAAAAAAAAAAAAAAAA/extend", `{"until": "later"}`, "", 400, "bad-request"},
		"honour or not":      {"POST", "/rooms/onsale/lines", "{}", `"1"`, 400, "bad-request"},
		"no such room":       {"GET", "/rooms/nowhere/live", "", "", 404, "no-such-room"},
		"nobody's action":    {"POST", "/rooms/onsale/actions/pause", "", "", 422, "reason-needed"},
		"no such action":     {"POST", "/rooms/onsale/actions/explode", "", "", 404, "no-such-action"},
		"preview of nothing": {"POST", "/rooms/onsale/settings/preview", "", "", 422, "invalid"},
	} {
		req, err := http.NewRequest(tc.method, srv.URL+api.Prefix+tc.path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		if tc.match != "" {
			req.Header.Set("If-Match", tc.match)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		var p struct {
			Type, Title, Detail string
			Status              int
		}
		if err := json.Unmarshal(body, &p); err != nil || resp.StatusCode != tc.status || p.Status != tc.status || p.Type != "/problems/"+tc.typ ||
			p.Detail == "" || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: status %d, %s; want %d %s", name, resp.StatusCode, bytes.TrimSpace(body), tc.status, tc.typ)
		}
	}
	resp, err := http.Get(srv.URL + api.Prefix + "/rooms/onsale/settings")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get("ETag") != `"1"` || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("settings headers = %v", resp.Header)
	}
}

func TestNewClientRefuses(t *testing.T) {
	for _, bases := range [][]string{nil, {""}, {"queue-1:9093"}, {"ftp://queue-1"}} {
		if _, err := api.NewClient(nil, bases...); err == nil {
			t.Errorf("%q accepted", bases)
		}
	}
}

// Nobody answers, or with something else than the contract: an error, never a wrong value.
func TestClientErrors(t *testing.T) {
	odd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/live") {
			w.Write([]byte("<html>"))
			return
		}
		http.Error(w, "tired", http.StatusBadGateway)
	}))
	defer odd.Close()
	c, err := api.NewClient(&http.Client{Timeout: time.Second}, odd.URL+"/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Live(t.Context(), "onsale"); err == nil {
		t.Error("HTML was taken for a room")
	}
	if _, err := c.Rooms(t.Context()); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("a bad gateway: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.EndSession(ctx, "onsale", line.SessionID{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
