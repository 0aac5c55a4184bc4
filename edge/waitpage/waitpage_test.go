package waitpage

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/queue/line"
)

var now = time.Date(2026, 11, 24, 18, 0, 0, 0, time.UTC)

func render(t testing.TB, p *Page) string {
	t.Helper()
	pages, err := New("/.stanchion")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := pages.Render(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestEveryState: each state has words of its own and is complete without a script.
func TestEveryState(t *testing.T) {
	out := os.Getenv("WAITPAGE_OUT") // a directory: the pages are written there to be looked at
	seen := map[string]State{}
	for _, s := range States() {
		t.Run(string(s), func(t *testing.T) {
			page := render(t, Sample(s, "onsale", "The Gala", "City Opera", now))
			if out != "" {
				if err := os.WriteFile(filepath.Join(out, string(s)+".html"), []byte(page), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			h1 := regexp.MustCompile(`<h1[^>]*>([^<]+)</h1>`).FindAllStringSubmatch(page, -1)
			if len(h1) != 1 {
				t.Fatalf("%d headings", len(h1))
			}
			if other, ok := seen[h1[0][1]]; ok {
				t.Errorf("the same heading as %s", other)
			}
			seen[h1[0][1]] = s
			for _, bad := range []string{"<no value>", "%!", "{{", "<nil>", "style=", "<script>", "javascript:", "!</p>", "!</h1>"} {
				if strings.Contains(page, bad) {
					t.Errorf("%q in the page", bad)
				}
			}
			if n := len(page); n > 8<<10 {
				t.Errorf("%d bytes", n)
			}
			for _, want := range []string{`lang="en"`, "The Gala", "City Opera", `name="viewport"`, `aria-live="polite"`, "<main", "<footer"} {
				if !strings.Contains(page, want) {
					t.Errorf("%q is missing", want)
				}
			}
		})
	}
}

// shown is the text of the page that is not hidden, roughly.
func shown(page string) string {
	hidden := regexp.MustCompile(`(?s)<(section|p|div|aside|details)[^>]* hidden[^>]*>.*?</(section|p|div|aside|details)>`)
	return hidden.ReplaceAllString(page, "")
}

func TestWhatEachStateOffers(t *testing.T) {
	for state, want := range map[State][]string{
		Lobby:   {"Opens in", "12:30", "drawn at random", "give it up"},
		Waiting: {"about ", "13,100", "14,322", "In about 46 to 66 minutes", "There are still seats", "17:56 UTC", "give it up"},
		Near:    {"63", "Stay here"},
		Called:  {"Go in now", "/.stanchion/rooms/onsale/claim", "120"},
		Door:    {"Go in now", "as soon as somebody leaves"},
		Inside:  {"Continue", "14:07", "free my place"},
		Left:    {"Take a new place", "/.stanchion/rooms/onsale/join"},
		Refused: {"Take a new place"},
		Spent:   {"Take a new place"},
		Paused:  {"Your place is safe", "14,322"},
	} {
		page := shown(render(t, Sample(state, "onsale", "The Gala", "City Opera", now)))
		for _, w := range want {
			if !strings.Contains(page, w) {
				t.Errorf("%s: %q is missing", state, w)
			}
		}
	}
	for _, s := range []State{Ended, SoldOut, HolderUsed, CookiesBlocked, NeedsAccount} {
		if page := shown(render(t, Sample(s, "onsale", "x", "", now))); strings.Contains(page, "Go in now") || strings.Contains(page, "Take a new place") {
			t.Errorf("%s offers what it cannot give", s)
		}
	}
}

// TestOnlyUsableForms: a form that cannot help in a state is not in its page, hidden or not: browsers that know neither style
// nor script show everything.
func TestOnlyUsableForms(t *testing.T) {
	for _, s := range States() {
		page := render(t, Sample(s, "onsale", "x", "", now))
		for form, states := range map[string][]State{"/claim": {Called, Door, Moment}, "/join": {Left, Refused, Spent}} {
			if got, want := strings.Contains(page, `onsale`+form+`"`), slices.Contains(states, s); got != want {
				t.Errorf("%s: form %s: %v, want %v", s, form, got, want)
			}
		}
	}
}

// TestHostileText: whatever an operator or a client can put into a page stays text.
func TestHostileText(t *testing.T) {
	evil := `"><script>alert(1)</script><img src=x onerror=alert(1)> javascript:alert(1) {{.Back}}`
	for _, s := range States() {
		p := Sample(s, "onsale", evil, evil, now)
		p.Back = "/x?" + evil
		p.Status.Message = evil
		p.Note = evil
		p.ticket, p.lane = evil, evil
		page := render(t, p)
		if strings.Contains(page, "<script>alert") || strings.Contains(page, "<img src=x") {
			t.Errorf("%s: %s", s, page)
		}
	}
}

func TestAbsurdNumbers(t *testing.T) {
	p := Sample(Waiting, "onsale", "x", "", now)
	p.known, p.rank, p.ahead = true, 1<<63, 1<<63-1200
	p.Status.Lanes[0].ETA = line.ETA{PerSecond: 1e-300, Low: 1e300, High: 1e308}
	render(t, p)
	p.Status.Lanes = nil
	render(t, p)
}

func TestStates(t *testing.T) {
	place := func(st line.State, phase line.Phase, known bool, rank, ahead uint64) State {
		p := Sample(Waiting, "r", "t", "", now)
		p.Status.Phase = phase
		p.SetPlace(line.Place{State: st, Known: known, Rank: rank, Ahead: ahead, Lane: "general"})
		return p.State
	}
	for _, tt := range []struct {
		st    line.State
		phase line.Phase
		known bool
		ahead uint64
		want  State
	}{
		{line.StateLobby, line.PhaseLobby, false, 0, Lobby},
		{line.StateLobby, line.PhaseDrawing, false, 0, Drawing},
		{line.StateWaiting, line.PhaseWaiting, false, 0, Waiting},
		{line.StateWaiting, line.PhaseWaiting, true, 20000, Waiting},
		{line.StateWaiting, line.PhaseWaiting, true, 900, Near}, // 225 s at 4 a second
		{line.StateWaiting, line.PhaseWaiting, true, 100, Near},
		{line.StateCalled, line.PhaseWaiting, true, 0, Called},
		{line.StateCalled, line.PhasePaused, true, 0, Paused},
		{line.StateWaiting, line.PhaseSoldOut, true, 9, SoldOut},
		{line.StateWaiting, line.PhaseMaintenance, true, 9, Maintenance},
		{line.StateWaiting, line.PhaseEnded, true, 9, Ended},
		{line.StateWaiting, line.PhaseDraining, true, 9, Draining},
	} {
		if got := place(tt.st, tt.phase, tt.known, 1200+tt.ahead, tt.ahead); got != tt.want {
			t.Errorf("%s in phase %s, %d ahead: %s, want %s", tt.st, tt.phase, tt.ahead, got, tt.want)
		}
	}
	for code, want := range map[line.RefusalCode]State{
		line.RefusedFull: Door, line.RefusedMoment: Moment, line.RefusedShare: Moment, line.RefusedHolder: HolderUsed, line.RefusedSpent: Spent,
		line.RefusedTicket: Refused, line.RefusedLineOver: Refused, line.RefusedAccount: NeedsAccount, line.RefusedClosed: Ended,
	} {
		if got := OfRefusal(code, line.PhaseWaiting); got != want {
			t.Errorf("%s: %s, want %s", code, got, want)
		}
	}
	if OfRefusal(line.RefusedMoment, line.PhasePaused) != Paused || OfRefusal(line.RefusedClosed, line.PhaseSoldOut) != SoldOut {
		t.Error("a phase explains the refusal better")
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 7: "7", 999: "999", 1000: "about 1,000", 1004: "about 1,000", 1234: "about 1,230", 56789: "about 56,800", 1234567: "about 1,230,000"} {
		about, count := Round(n)
		if got := about + count; got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-time.Hour: "0:00", 0: "0:00", time.Second / 2: "0:01", 61 * time.Second: "1:01", time.Hour: "1:00:00", 25*time.Hour + 61*time.Second: "25:01:01"} {
		if got := Countdown(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// TestBuiltIsCurrent: the committed bundle holds today's words and only what the security policy allows.
func TestBuiltIsCurrent(t *testing.T) {
	var w map[State]words
	if err := json.Unmarshal(wordsJSON, &w); err != nil {
		t.Fatal(err)
	}
	for s, x := range w {
		if !bytes.Contains(script, []byte(x.Headline)) || x.Lead != "" && !bytes.Contains(script, []byte(x.Lead)) {
			t.Errorf("the words of %s are not in built/page.js: run go generate", s)
		}
	}
	for _, s := range States() {
		if w[s].Headline == "" {
			t.Errorf("%s has no words", s)
		}
	}
	for _, bad := range []string{"eval(", "new Function", "innerHTML", "document.write", "http://", "https://"} {
		if bytes.Contains(script, []byte(bad)) {
			t.Errorf("%s in the script", bad)
		}
	}
	for name := range map[string][]byte{"page.js": script, "page.css": style} {
		pages, err := New("/.stanchion")
		if err != nil {
			t.Fatal(err)
		}
		for n, a := range pages.assets {
			if len(a.Gzip) >= len(a.Body) || len(a.Gzip) > 10<<10 {
				t.Errorf("%s (%s): %d bytes, %d compressed", n, name, len(a.Body), len(a.Gzip))
			}
		}
	}
}

// TestSkeletonsAreShared: fans with different places get pages from one skeleton, each with their own numbers; a new status
// makes a new one; memory is bounded.
func TestSkeletonsAreShared(t *testing.T) {
	pages, err := New("/.stanchion")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		p := Sample(Waiting, "onsale", "The Gala", "City Opera", now)
		p.rank, p.ahead, p.Back = uint64(2000+i), uint64(800+i), "/seat/"+strings.Repeat("x", i%7)
		p.Now = now.Add(time.Duration(i) * time.Millisecond)
		var a, b bytes.Buffer
		if err := pages.Render(&a, p); err != nil {
			t.Fatal(err)
		}
		if i%250 == 0 {
			fresh, err := New("/.stanchion")
			if err != nil {
				t.Fatal(err)
			}
			if err := fresh.Render(&b, p); err != nil {
				t.Fatal(err)
			}
			if a.String() != b.String() {
				t.Fatalf("page %d differs from one rendered alone", i)
			}
		}
		if !strings.Contains(a.String(), number(p.rank+1)) || !strings.Contains(a.String(), `value="`+p.Back+`"`) {
			t.Fatalf("page %d has not its own numbers", i)
		}
	}
	if n := len(pages.skeletons); n != 1 {
		t.Errorf("%d skeletons for one status", n)
	}
	for i := range 2 * maxSkeletons {
		p := Sample(Waiting, "onsale", "The Gala", "City Opera", now)
		p.Status.ServerTime = now.Add(time.Duration(i) * time.Second)
		if err := pages.Render(&bytes.Buffer{}, p); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(pages.skeletons); n > maxSkeletons {
		t.Errorf("%d skeletons are kept, at most %d may be", n, maxSkeletons)
	}
}

func BenchmarkRender(b *testing.B) {
	pages, err := New("/.stanchion")
	if err != nil {
		b.Fatal(err)
	}
	p := Sample(Waiting, "onsale", "The Gala", "City Opera", now)
	var buf bytes.Buffer
	b.ReportAllocs()
	for b.Loop() {
		buf.Reset()
		if err := pages.Render(&buf, p); err != nil {
			b.Fatal(err)
		}
	}
}
