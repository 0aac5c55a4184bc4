package room

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/queue/line"
)

func TestDefaultsAreValid(t *testing.T) {
	if err := Defaults().Validate(); err != nil {
		t.Fatal(err)
	}
	s, err := Parse([]byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := s.Changes(Defaults()); err != nil || len(c) != 0 {
		t.Errorf("an empty document differs from the defaults: %v, %v", c, err)
	}
}

// Everything that is wrong is named at once, with key, value and what would be allowed.
func TestValidateNamesEverything(t *testing.T) {
	hash := strings.Repeat("a", 64)
	for key, spoil := range map[string]func(*Settings){
		"host":                      func(s *Settings) { s.Host = strings.Repeat("h", 300) },
		"entry":                     func(s *Settings) { s.Entry = "//evil.example" },
		"title":                     func(s *Settings) { s.Title = strings.Repeat("t", 121) },
		"mode":                      func(s *Settings) { s.Mode = "open-sesame" },
		"cap":                       func(s *Settings) { s.Cap = 0 },
		"rate_per_second":           func(s *Settings) { s.RatePerSecond = math.NaN() },
		"seat_limit":                func(s *Settings) { s.SeatLimit = 0 },
		"first_lease_s":             func(s *Settings) { s.FirstLeaseS = 1 },
		"idle_s":                    func(s *Settings) { s.IdleS = -1 },
		"stay_max_s":                func(s *Settings) { s.StayMaxS = 1 << 30 },
		"grace_s":                   func(s *Settings) { s.GraceS = 0 },
		"return_s":                  func(s *Settings) { s.ReturnS = -1 },
		"outage_bound_s":            func(s *Settings) { s.OutageBoundS = 3601 },
		"outage_mode":               func(s *Settings) { s.OutageMode = "" },
		"after_outage":              func(s *Settings) { s.AfterOutage = "panic" },
		"request_budget.per_second": func(s *Settings) { s.RequestBudget.PerSecond = math.Inf(1) },
		"request_budget.burst":      func(s *Settings) { s.RequestBudget.Burst = 0 },
		"late_share":                func(s *Settings) { s.LateShare = 1.1 },
		"late_min_per_minute":       func(s *Settings) { s.LateMin = -1 },
		"network_share":             func(s *Settings) { s.NetworkShare = 0 },
		"network_min_per_minute":    func(s *Settings) { s.NetworkMin = 0 },
		"door_dial":                 func(s *Settings) { s.DoorDial = 6 },
		"parked_per_edge":           func(s *Settings) { s.ParkedPerEdge = 0 },
		"who":                       func(s *Settings) { s.Who = "anybody" },
		"work_bits":                 func(s *Settings) { s.WorkBits = 64 },
		"code_hashes[1]":            func(s *Settings) { s.CodeHashes = []string{hash, "secret-code"} },
		"lanes":                     func(s *Settings) { s.Lanes = nil },
		"lanes[1].name":             func(s *Settings) { s.Lanes = append(s.Lanes, s.Lanes[0]) },
		"lanes[0].weight":           func(s *Settings) { s.Lanes = []Lane{{Name: "x"}} },
		"opening.opens_at_ms":       func(s *Settings) { s.Opening.OpensAtMs = -1 },
		"opening.lobby":             func(s *Settings) { s.Opening.Lobby = true },
		"opening.draw.kind":         func(s *Settings) { s.Opening.Draw.Kind = "dice" },
		"opening.draw.chain":        func(s *Settings) { s.Opening.Draw = Draw{Kind: line.DrawDrand, Chain: "XYZ"} },
		"opening.draw.source":       func(s *Settings) { s.Opening.Draw = Draw{Kind: line.DrawAnnounced} },
		"opening.draw.due_in_s":     func(s *Settings) { s.Opening.Draw.DueInS = -1 },
		"origin.p99_ms":             func(s *Settings) { s.Origin.P99MS = 0 },
		"origin.error_ratio":        func(s *Settings) { s.Origin.ErrorRatio = 2 },
		"message":                   func(s *Settings) { s.Message = strings.Repeat("m", 281) },
		"policy":                    func(s *Settings) { s.Policy = strings.Repeat("p", 1001) },
	} {
		s := Defaults()
		spoil(&s)
		err := s.Validate()
		var p Problems
		if !errors.As(err, &p) || !errors.Is(err, ErrSettings) {
			t.Errorf("%s: %v", key, err)
			continue
		}
		if len(p) != 1 || p[0].Key != key || p[0].Want == "" {
			t.Errorf("%s: named %v", key, p)
		}
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%s: the message does not name it: %s", key, err)
		}
		s.Cap = -5
		if key != "cap" && !errors.As(s.Validate(), &p) || len(p) != 2 && key != "cap" {
			t.Errorf("%s and cap: named %v", key, p)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, doc := range map[string]string{
		"unknown key":     `{"capp": 5}`,
		"not JSON":        `cap: 5`,
		"two documents":   `{} {}`,
		"wrong type":      `{"cap": "many"}`,
		"too long":        `{"message": "` + strings.Repeat("x", MaxDocumentBytes) + `"}`,
		"fraction of fan": `{"cap": 1.5}`,
		"empty":           ``,
	} {
		if _, err := Parse([]byte(doc)); !errors.Is(err, ErrSettings) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"cap": 5, "lanes": [{"name": "a", "weight": 1}]}`))
	f.Add([]byte(`{"opening": {"lobby": true, "opens_at_ms": 5, "draw": {"kind": "drand"}}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := Parse(doc)
		if err != nil {
			return
		}
		again, err := s.Document()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(again)
		if err != nil {
			t.Fatalf("a document of ours is refused: %v", err)
		}
		if c, err := s.Changes(back); err != nil || len(c) != 0 {
			t.Fatalf("changed on the way: %v, %v", c, err)
		}
	})
}

func FuzzParseForecast(f *testing.F) {
	f.Add([]byte(`{"velocity": [1], "published": 3}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, doc []byte) {
		fc, err := ParseForecast(doc)
		if err != nil {
			return
		}
		if _, err := fc.Encode(); err != nil {
			t.Fatalf("cannot be written again: %v", err)
		}
	})
}

func TestStoreSettings(t *testing.T) {
	s := Defaults()
	s.RatePerSecond, s.FirstLeaseS = 20, 8
	q, err := s.Store(7, "paused", 5)
	if err != nil {
		t.Fatal(err)
	}
	if q.Version != 7 || q.Pause != "paused" || q.RatePerSecond != 5 || q.FirstLeaseMs != 8000 || q.EnterLeaseMs != 8000 || q.Cap != 100 ||
		q.IdleMs != 300_000 || q.LateFloor != 20 || q.NetworkFloor != 20 || q.OutageBoundMs != 240_000 {
		t.Errorf("store settings = %+v", q)
	}
	if q, _ := s.Store(7, "", 50); q.RatePerSecond != 20 {
		t.Errorf("rate %v, above the operator's", q.RatePerSecond)
	}
	back, err := Parse(q.Document)
	if err != nil || back.FirstLeaseS != 8 {
		t.Errorf("the document in it: %v", err)
	}
}

func TestChangesAndWithin(t *testing.T) {
	a := Defaults()
	b := a
	b.Cap, b.Message = 5, "hello"
	c, err := a.Changes(b)
	if err != nil || len(c) != 2 || c[0].Key != "cap" || string(c[0].From) != "100" || string(c[0].To) != "5" || c[1].Key != "message" {
		t.Errorf("changes = %v, %v", c, err)
	}
	a.Opening.OpensAtMs = 1000
	for key, spoil := range map[string]func(*Settings){
		"who":                 func(s *Settings) { s.Who = WhoWork },
		"lanes":               func(s *Settings) { s.Lanes = []Lane{{Name: "other", Weight: 1}} },
		"opening.lobby":       func(s *Settings) { s.Opening.Lobby = true },
		"opening.draw.kind":   func(s *Settings) { s.Opening.Draw.Kind = line.DrawOperator },
		"opening.opens_at_ms": func(s *Settings) { s.Opening.OpensAtMs = 2000 },
	} {
		next := a
		spoil(&next)
		var p Problems
		if err := a.Within(next, true); !errors.As(err, &p) || len(p) != 1 || p[0].Key != key {
			t.Errorf("%s: %v", key, err)
		}
	}
	moved := a
	moved.Opening.OpensAtMs = 2000
	moved.Lanes = []Lane{{Name: "general", Weight: 9, Code: true}}
	if err := a.Within(moved, false); err != nil {
		t.Errorf("a moved opening and another weight before the opening: %v", err)
	}
}

func TestModes(t *testing.T) {
	for _, m := range Modes {
		if m.Admits() != (m == ModeNormal || m == ModeQueueAll) {
			t.Errorf("%s admits: %v", m, m.Admits())
		}
	}
	if k := []line.WhoKind{WhoNone.Kind(), WhoAccount.Kind(), WhoInvite.Kind(), WhoPresale.Kind(), WhoWork.Kind(), WhoToken.Kind()}; !slices.Equal(k,
		[]line.WhoKind{line.WhoNone, line.WhoAccount, line.WhoInvite, line.WhoInvite, line.WhoWork, line.WhoPrivate}) {
		t.Errorf("kinds = %v", k)
	}
}

func TestOpensAt(t *testing.T) {
	if !(Opening{}).OpensAt().IsZero() {
		t.Error("no opening has a time")
	}
	if got := (Opening{OpensAtMs: 1500}).OpensAt(); !got.Equal(time.UnixMilli(1500)) {
		t.Errorf("opens at %s", got)
	}
}
