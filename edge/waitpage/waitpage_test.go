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

	"github.com/stanchion-queue/stanchion/edge/waitpage/build/bundle"
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
			if n := len(page); n > 12<<10 {
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
		Lobby:   {"Opens in", "12:30", "drawn by lot", "give it up"},
		Waiting: {"about ", "13,100", "14,322", "In about 46 to 66 minutes", "There are still seats", "17:56 UTC", "give it up"},
		slower:  {"because the shop is slower than usual"},
		closing: {"Nothing was bought"},
		offline: {"No connection"},
		Near:    {"63", "Stay here"},
		Called:  {"Go in now", "/.stanchion/rooms/onsale/claim", "2:00"},
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
	pages, err := New("/.stanchion")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		lang string
		n    uint64
		want string
	}{
		{"en", 0, "0"}, {"en", 7, "7"}, {"en", 999, "999"}, {"en", 1000, "about 1,000"}, {"en", 1004, "about 1,000"}, {"en", 1234, "about 1,230"},
		{"en", 56789, "about 56,800"}, {"en", 1234567, "about 1,230,000"}, {"en", 999999, "about 1,000,000"},
		{"de", 56789, "etwa 56.800"}, {"ja", 56789, "約56,800"}, {"ar", 56789, "نحو 56,800"}, {"he", 56789, "כ־56,800"},
	} {
		before, n, after := pages.words.byCode[tt.lang].people(tt.n)
		if got := before + n + after; got != tt.want {
			t.Errorf("%s %d: %q, want %q", tt.lang, tt.n, got, tt.want)
		}
	}
	for d, want := range map[time.Duration]string{-time.Hour: "0:00", 0: "0:00", time.Second / 2: "0:01", 61 * time.Second: "1:01", time.Hour: "1:00:00", 25*time.Hour + 61*time.Second: "25:01:01"} {
		if got := Countdown(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// TestBuiltIsCurrent: the committed bundles are those of today's sources, and hold only what the security policy allows.
func TestBuiltIsCurrent(t *testing.T) {
	files, err := bundle.Files(".")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not current (%v): run go generate ./edge/waitpage", name, err)
		}
	}
	for _, bad := range []string{"eval(", "new Function", "innerHTML", "document.write", "http://", "https://"} {
		if bytes.Contains(script, []byte(bad)) {
			t.Errorf("%s in the script", bad)
		}
	}
}

// TestFirstLoad: page, script and style of every language are 30 KB together on the wire, the page itself compressed by nobody; a poll is 1 KB.
func TestFirstLoad(t *testing.T) {
	pages, err := New("/.stanchion")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range pages.Languages() {
		for _, s := range Previews() {
			p := Sample(s, "onsale", "The Gala", "City Opera", now)
			p.Lang = l.Code
			var b bytes.Buffer
			if err := pages.Render(&b, p); err != nil {
				t.Fatal(err)
			}
			sum := b.Len()
			for _, link := range regexp.MustCompile(`/assets/([^"]+)`).FindAllStringSubmatch(b.String(), -1) {
				a, ok := pages.Asset(link[1])
				if !ok || len(a.Gzip) == 0 {
					t.Fatalf("%s: no compressed asset", link[1])
				}
				sum += len(a.Gzip)
			}
			if sum > 30_000 {
				t.Errorf("%s in %s: %d bytes", s, l.Code, sum)
			}
		}
	}
	raw, err := json.Marshal(Sample(Waiting, "onsale", "The Gala", "City Opera", now).Status)
	if err != nil || len(raw) > 1000 {
		t.Errorf("a poll is %d bytes, %v", len(raw), err)
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
		if !strings.Contains(a.String(), pages.words.byCode["en"].number(p.rank+1)) || !strings.Contains(a.String(), `value="`+p.Back+`"`) {
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
