package desk_test

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stanchion-queue/stanchion/admin/desk"
	"github.com/stanchion-queue/stanchion/admin/desktest"
)

func TestPutNeedsTheVersionThatWasSeen(t *testing.T) {
	h := desktest.New("onsale")
	d := newDesk(t, h, 1)
	ctx := t.Context()
	set := func(key string, v any) []byte {
		_, doc := h.Current("onsale")
		out, err := desk.Edit(doc, map[string]any{key: v})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	done, err := d.Put(ctx, "onsale", set("cap", 60), "1", "Ada", "more room")
	if err != nil || done.Version != "2" || done.Before != "1" || len(done.Changes) != 1 || done.Changes[0].Allowed != "1 to 10000000" {
		t.Fatalf("%+v, %v", done, err)
	}
	same, err := d.Put(ctx, "onsale", set("cap", json.Number("60.0")), "2", "Ada", "again")
	if err != nil || same.Version != "2" || same.Before != "2" || len(same.Changes) != 0 {
		t.Errorf("nothing differs, yet: %+v, %v", same, err)
	}
	tests := []struct {
		name         string
		room         string
		doc          []byte
		version, why string
		want         error
	}{
		{"old version", "onsale", set("cap", 70), "1", "late", desk.ErrConflict},
		{"no room", "nowhere", set("cap", 70), "1", "lost", desk.ErrNoRoom},
		{"no reason", "onsale", set("cap", 70), "2", "  ", desk.ErrReason},
		{"long reason", "onsale", set("cap", 70), "2", strings.Repeat("ä", desk.MaxReason+1), desk.ErrReason},
		{"broken reason", "onsale", set("cap", 70), "2", "\xff", desk.ErrReason},
		{"out of range", "onsale", set("cap", 0), "2", "oops", &desk.Invalid{}},
		{"unknown key", "onsale", set("caps", 70), "2", "oops", &desk.Invalid{}},
		{"a list", "onsale", []byte(`[]`), "2", "oops", &desk.Invalid{}},
		{"null", "onsale", []byte(`null`), "2", "oops", &desk.Invalid{}},
		{"two documents", "onsale", []byte(`{} {}`), "2", "oops", &desk.Invalid{}},
		{"too long", "onsale", []byte(`{"host":"` + strings.Repeat("x", desk.MaxDocumentBytes) + `"}`), "2", "oops", &desk.Invalid{}},
	}
	for _, tt := range tests {
		_, err := d.Put(ctx, tt.room, tt.doc, tt.version, "Ada", tt.why)
		var invalid *desk.Invalid
		if _, want := tt.want.(*desk.Invalid); want && !errors.As(err, &invalid) || !want && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if v, _ := h.Current("onsale"); v != "2" {
		t.Errorf("a refused change was stored: version %s", v)
	}
	h.Lose(true)
	if _, err := d.Put(ctx, "onsale", set("cap", 70), "2", "Ada", "who knows"); err == nil || errors.Is(err, desk.ErrConflict) {
		t.Errorf("an answer that was lost: %v", err)
	}
}

func TestUndo(t *testing.T) {
	h := desktest.New("onsale")
	d := newDesk(t, h, 1)
	ctx := t.Context()
	if _, err := d.Undo(ctx, "onsale", "", "Ada", "nothing there"); !errors.Is(err, desk.ErrNoUndo) {
		t.Errorf("undo of the first version: %v", err)
	}
	_, first := h.Current("onsale")
	if _, err := d.Act(ctx, "onsale", "pause", "", "Ada", "stop"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Undo(ctx, "onsale", "1", "Ada", "too late"); !errors.Is(err, desk.ErrConflict) {
		t.Errorf("undo of a version that is not current: %v", err)
	}
	done, err := d.Undo(ctx, "onsale", "2", "Ada", "go on")
	if err != nil || done.Version != "3" || done.Changes[0] != (desk.Change{Key: "mode", From: "paused", To: "normal", Allowed: done.Changes[0].Allowed}) {
		t.Fatalf("%+v, %v", done, err)
	}
	if _, doc := h.Current("onsale"); string(doc) != string(first) {
		t.Errorf("the document is not what it was:\n%s\n%s", doc, first)
	}
	if done, err = d.Undo(ctx, "onsale", "", "Ada", "no, stop"); err != nil || done.Changes[0].To != "paused" {
		t.Errorf("undo of an undo: %+v, %v", done, err)
	}
	list, err := d.History(ctx, "onsale", 10)
	if err != nil || len(list) != 4 || list[0].What() != "mode normal → paused" || list[3].What() != "first version that is kept" {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err = d.History(ctx, "onsale", 2); err != nil || len(list) != 2 || len(list[1].Changes) != 1 {
		t.Errorf("a short list must still know what its oldest entry changed: %+v, %v", list, err)
	}
}

func TestEveryActionSetsItsMode(t *testing.T) {
	h := desktest.New("onsale")
	d := newDesk(t, h, 1)
	for _, a := range desk.Actions {
		p, err := d.PreviewEdits(t.Context(), "onsale", map[string]any{desk.ModeKey: a.Mode})
		if err != nil || len(p.Changes) > 0 && p.Danger != a.Danger {
			t.Errorf("%s: preview %+v, %v", a.Name, p, err)
		}
		if _, err := d.Act(t.Context(), "onsale", a.Name, "", "Ada", "try "+a.Name); err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
		_, doc := h.Current("onsale")
		if values, err := desk.Values(doc); err != nil || values["mode"] != a.Mode {
			t.Errorf("%s: mode %q, %v", a.Name, values["mode"], err)
		}
	}
	if _, err := d.Act(t.Context(), "onsale", "explode", "", "Ada", "why not"); !errors.Is(err, desk.ErrNoAction) {
		t.Errorf("an unknown action: %v", err)
	}
}

func TestEffectsAreToldInWords(t *testing.T) {
	h := desktest.New("onsale")
	d := newDesk(t, h, 1)
	h.Show("onsale", desk.Live{At: time.Now(), Mode: "normal", LimitedBy: "cap", Inside: 480, Cap: 500, RatePerSecond: 5, ShowUp: 0.5, FreedPerSecond: 2,
		Lanes: []desk.Lane{{Waiting: 6000, PerMinute: 300}}})
	d.Record(t.Context())
	tests := []struct {
		edits map[string]any
		want  []string
	}{
		{map[string]any{"rate_per_second": 10}, []string{"At most 600 fans", "take 5 min at least, instead of 10 min", "cap is), so a higher one changes nothing yet"}},
		{map[string]any{"cap": 600}, []string{"100 more fans", "480 of the 600 places are taken"}},
		{map[string]any{"cap": 400}, []string{"Nobody is put out", "until 80 of the 480 fans inside have left, in about 40 s"}},
		{map[string]any{"cap": 490}, []string{"480 of 490 places are taken now; fewer fans will be called"}},
		{map[string]any{"message": "Hello"}, []string{"Everybody in line reads it", "6,000 fans now"}},
		{map[string]any{"mode": "admit-all"}, []string{"everybody passes at once", "ahead of fans who came before"}},
		{map[string]any{"seat_limit": 2}, []string{"seat_limit: Seats one fan may buy"}},
		{map[string]any{}, nil},
	}
	for _, tt := range tests {
		p, err := d.PreviewEdits(t.Context(), "onsale", tt.edits)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(p.Effects, "\n")
		for _, want := range tt.want {
			if !strings.Contains(text, want) {
				t.Errorf("%v: want %q in\n%s", tt.edits, want, text)
			}
		}
		if tt.want == nil && text != "" {
			t.Errorf("%v: %s", tt.edits, text)
		}
	}
	h.Show("onsale", desk.Live{})
	fresh := newDesk(t, h, 1)
	p, err := fresh.PreviewEdits(t.Context(), "onsale", map[string]any{"cap": 600})
	if err != nil || len(p.Effects) != 1 || !strings.Contains(p.Effects[0], "not known now") {
		t.Errorf("without a look: %+v, %v", p, err)
	}
}

func TestDrain(t *testing.T) {
	tests := []struct {
		name string
		live desk.Live
		want desk.Drain
	}{
		{"nobody waits", desk.Live{Lanes: []desk.Lane{{PerMinute: 10}}}, desk.Drain{Known: true}},
		{"by calls alone", desk.Live{Lanes: []desk.Lane{{Waiting: 600, PerMinute: 60}}}, desk.Drain{Known: true, LowS: 600, HighS: 600}},
		{"the slowest lane decides", desk.Live{Lanes: []desk.Lane{{Waiting: 60, PerMinute: 60}, {Waiting: 60, PerMinute: 6}}}, desk.Drain{Known: true, LowS: 600, HighS: 600}},
		{"an opening called many at once, the rate takes longer", desk.Live{LimitedBy: "rate", RatePerSecond: 2, ShowUp: 0.5, Lanes: []desk.Lane{{Waiting: 1200, PerMinute: 720}}}, desk.Drain{Known: true, LowS: 100, HighS: 300}},
		{"a full room takes what becomes free", desk.Live{LimitedBy: "cap", RatePerSecond: 10, FreedPerSecond: 1, Lanes: []desk.Lane{{Waiting: 300, PerMinute: 100}}}, desk.Drain{Known: true, LowS: 180, HighS: 300}},
		{"the origin bears less", desk.Live{LimitedBy: "core", RatePerSecond: 10, CorePerSecond: 2, Lanes: []desk.Lane{{Waiting: 300, PerMinute: 300}}}, desk.Drain{Known: true, LowS: 60, HighS: 150}},
		{"paused a moment ago", desk.Live{LimitedBy: "paused", RatePerSecond: 10, Lanes: []desk.Lane{{Waiting: 60, PerMinute: 500}}}, desk.Drain{Why: "admission is paused"}},
		{"nobody called", desk.Live{LimitedBy: "rate", Lanes: []desk.Lane{{Waiting: 60}}}, desk.Drain{Why: "nobody was called in the last minute"}},
	}
	for _, tt := range tests {
		if got := desk.DrainOf(tt.live); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestSecretsStayOutOfLists(t *testing.T) {
	fields := []desk.Field{{Key: "codes.sha256", Kind: desk.Text, Secret: true}}
	got := desk.Diff([]byte(`{"codes":{"sha256":["aa"]}}`), []byte(`{"codes":{"sha256":["bb","cc"]}}`), fields)
	want := []desk.Change{{Key: "codes.sha256[0]", From: "(secret)", To: "(secret)", Allowed: "text"}, {Key: "codes.sha256[1]", To: "(secret)", Allowed: "text"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestLimitsTellHowNearTheyAre(t *testing.T) {
	h := desktest.New("onsale")
	d := newDesk(t, h, 7)
	h.Show("onsale", desk.Live{At: time.Now(), Inside: 480, Cap: 500, AdmittedPerMinute: 120})
	d.Record(t.Context())
	list, err := d.Limits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, l := range list {
		if l.Used != nil {
			got[l.Room+"/"+l.Key] = *l.Used
		}
	}
	if want := (map[string]float64{"/viewers": 0, "onsale/cap": 480, "onsale/rate_per_second": 2}); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// What is put in comes out: editing a document sets the value and leaves everything else as it was.
func TestEditChangesOneThing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := desktest.Document()
		key := rapid.SampledFrom([]string{"cap", "message", "opening.lobby", "request_budget.burst", "new", "new.er"}).Draw(t, "key")
		value := rapid.OneOf(rapid.Map(rapid.String(), func(s string) any { return strings.ToValidUTF8(s, "") }), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
			rapid.Map(rapid.Int64Range(-1e9, 1e9), func(n int64) any { return n })).Draw(t, "value")
		out, err := desk.Edit(doc, map[string]any{key: value})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range desk.Diff(doc, out, nil) {
			if c.Key != key {
				t.Fatalf("%s changed too: %+v", c.Key, c)
			}
		}
		back, err := desk.Edit(out, map[string]any{})
		if err != nil || len(desk.Diff(out, back, nil)) != 0 {
			t.Fatalf("a document changes when it is read: %v", err)
		}
	})
}

func FuzzEdit(f *testing.F) {
	for _, doc := range []string{string(desktest.Document()), `{}`, `[]`, `{"a":{"b":1e400}}`, `{"a":null}`, `{"a":1}{"b":2}`, "\xff", `{"a":[[[1]]]}`, `{"":{"":1}}`} {
		f.Add([]byte(doc), "a.b")
	}
	f.Fuzz(func(t *testing.T, doc []byte, key string) {
		out, err := desk.Edit(doc, map[string]any{key: "x"})
		if err != nil {
			var invalid *desk.Invalid
			if !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
				t.Fatalf("an error that names no problem: %v", err)
			}
			return
		}
		if !json.Valid(out) {
			t.Fatalf("no JSON: %q", out)
		}
		if _, err := desk.Values(out); err != nil && len(out) <= desk.MaxDocumentBytes && len(doc) < 1000 {
			t.Fatalf("what Edit wrote cannot be read: %v", err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "1", "-1", "1e3", "NaN", "Inf", "0x10", "9223372036854775808", " 5 ", "on", "true", "strict", "\xff", "Zeile\r\nzwei", strings.Repeat("ü", 300)} {
		f.Add(text)
	}
	fields := desktest.New().Fields()
	f.Fuzz(func(t *testing.T, text string) {
		for _, field := range fields {
			v, problem := field.Parse(text)
			if (v == nil) == (problem == nil) {
				t.Fatalf("%s: %q gave %v and %v", field.Key, text, v, problem)
			}
			if problem != nil {
				if problem.Want == "" {
					t.Fatalf("%s: %q is refused without saying what is allowed", field.Key, text)
				}
				continue
			}
			raw, err := json.Marshal(v)
			if err != nil {
				t.Fatalf("%s: %q became %v: %v", field.Key, text, v, err)
			}
			doc, err := desk.Edit([]byte(`{}`), map[string]any{field.Key: v})
			if err != nil {
				t.Fatal(err)
			}
			values, err := desk.Values(doc)
			if err != nil {
				t.Fatal(err)
			}
			if again, wrong := field.Parse(values[field.Key]); wrong != nil || !reflect.DeepEqual(again, v) {
				t.Fatalf("%s: %q became %s, which reads as %v (%v)", field.Key, text, raw, again, wrong)
			}
		}
	})
}

func TestCountAndSpan(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", -999: "-999"} {
		if got := desk.Count(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0 s", -time.Second: "0 s", 119 * time.Second: "119 s", 120 * time.Second: "2 min", 59 * time.Minute: "59 min", 90 * time.Minute: "1 h 30 min", 50 * time.Hour: "2 days"} {
		if got := desk.Span(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
