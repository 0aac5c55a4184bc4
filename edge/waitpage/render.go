package waitpage

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stanchion-queue/stanchion/queue/line"
)

//go:embed page.html
var pageHTML string

//go:embed built/page.js
var script []byte

//go:embed built/page.css
var style []byte

// Asset is a file the page needs.
type Asset struct {
	ContentType string
	Body, Gzip  []byte // Gzip is empty where it would not be smaller
}

// Pages renders pages. It is safe for concurrent use.
type Pages struct {
	prefix string
	mark   string // what holds a fan's texts' places; random, so that no text of an operator can be one
	tmpl   *template.Template
	words  *catalogue
	langs  []Language
	css    string
	js     map[string]scriptRef // by language

	mu        sync.RWMutex
	assets    map[string]Asset
	looks     map[string]look // by room
	skeletons map[skeletonKey]*skeleton
}

// Language is one that the page speaks.
type Language struct{ Code, Name string }

type scriptRef struct{ URL, SRI string }

// look is what a room's brand became.
type look struct {
	css, logo, logoText string
}

// New prepares the pages for endpoints under prefix.
func New(prefix string) (*Pages, error) {
	p := &Pages{
		prefix: prefix, mark: "y" + rand.Text() + "x", js: map[string]scriptRef{}, assets: map[string]Asset{}, looks: map[string]look{},
		skeletons: map[skeletonKey]*skeleton{},
	}
	dir, err := fs.Sub(langFiles, "lang")
	if err != nil {
		return nil, fmt.Errorf("read the page's words: %w", err)
	}
	if p.words, err = loadWords(dir); err != nil {
		return nil, fmt.Errorf("read the page's words: %w", err)
	}
	for _, s := range p.words.order {
		p.langs = append(p.langs, Language{s.code, s.name})
		words, err := json.Marshal(s.words)
		if err != nil {
			return nil, fmt.Errorf("write the words of %s: %w", s.code, err)
		}
		// One file holds the script and the words of its language, so that the page needs one request for both.
		body := bytes.Join([][]byte{[]byte("globalThis.stanchionWords="), words, []byte(";\n"), script}, nil)
		url, err := p.asset("page-"+s.code, ".js", "text/javascript; charset=utf-8", body)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(body)
		p.js[s.code] = scriptRef{url, "sha256-" + base64.StdEncoding.EncodeToString(sum[:])}
	}
	if p.css, err = p.asset("page", ".css", "text/css; charset=utf-8", style); err != nil {
		return nil, err
	}
	p.tmpl, err = template.New("page").Funcs(template.FuncMap{"in": in}).Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("read the page's template: %w", err)
	}
	return p, nil
}

// Languages are those the page speaks, English first, the others by code.
func (p *Pages) Languages() []Language { return append([]Language(nil), p.langs...) }

// Language is the language to speak to a fan who chose one before (or "") and whose browser sends this Accept-Language.
func (p *Pages) Language(chosen, accept string) string { return p.words.match(chosen, accept) }

// SetBrand gives a room's pages an organiser's look, from the next page on. It refuses what Brand.Check refuses.
func (p *Pages) SetBrand(room string, b Brand) error {
	if err := b.Check(); err != nil {
		return fmt.Errorf("branding of room %s: %w", room, err)
	}
	l := look{css: p.css, logoText: b.LogoText}
	if add := b.css(); add != "" {
		var err error
		if l.css, err = p.asset("page", ".css", "text/css; charset=utf-8", append(bytes.Clone(style), add...)); err != nil {
			return err
		}
	}
	if len(b.Logo) > 0 {
		contentType, err := logoType(b.Logo)
		if err != nil {
			return fmt.Errorf("branding of room %s: %w", room, err)
		}
		ext := map[string]string{"image/png": ".png", "image/webp": ".webp", "image/svg+xml": ".svg"}[contentType]
		if l.logo, err = p.asset("logo", ext, contentType, bytes.Clone(b.Logo)); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks[room] = l
	clear(p.skeletons)
	return nil
}

// asset keeps a file under a name that holds its hash, and returns its path.
func (p *Pages) asset(name, ext, contentType string, body []byte) (string, error) {
	var z bytes.Buffer
	w, err := gzip.NewWriterLevel(&z, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return "", fmt.Errorf("compress %s%s: %w", name, ext, err)
	}
	a := Asset{ContentType: contentType, Body: body}
	if z.Len() < len(body) {
		a.Gzip = z.Bytes()
	}
	sum := sha256.Sum256(body)
	file := name + "-" + hex.EncodeToString(sum[:8]) + ext
	p.mu.Lock()
	defer p.mu.Unlock()
	p.assets[file] = a
	return p.prefix + "/assets/" + file, nil
}

// Asset is the asset of that name. Assets of an earlier brand stay, since pages that use them are still open.
func (p *Pages) Asset(name string) (Asset, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	a, ok := p.assets[name]
	return a, ok
}

func in(s State, states ...string) bool {
	for _, x := range states {
		if string(s) == x {
			return true
		}
	}
	return false
}

// view is what the template sees: everything in words and numbers already. Fields that end in Text differ from fan to fan; the
// template gets marks in their place (see skeleton).
type view struct {
	*Page
	speech              *speech
	CSS, Logo, LogoText string
	JS                  scriptRef
	Endpoint            string
	Languages           []Language
	HasPlace, Known     bool
	Offline, Sampled    bool
	OpensAt, OpensWords string
	MessageAt, HeardAt  string
	LineID              string
	LobbyTicket         bool
	Lane                string
	Headline            string
	Lead, Todo          string
	NoteKey, CauseKey   string
	DrawKey             string
	GraceText           string
	GraceS              int
	fanTexts
}

// T is a message in the page's language.
func (v *view) T(key string) string { return v.speech.say(key) }

// Dir is the direction in which the page's language is written.
func (v *view) Dir() string { return v.speech.dir }

// Renews reports whether the page renews itself without a script, as the edge's Refresh field has it.
func (v *view) Renews() bool {
	return !in(v.State, "inside", "ended", "left", "spent", "refused", "holder_used", "cookies_blocked")
}

// HasLine reports whether there is a line with a public record.
func (v *view) HasLine() bool { return !v.Status.Line.IsZero() }

// fanTexts are the parts of a page that differ from fan to fan.
type fanTexts struct {
	NowText, BackText, RankText, AboutText, AheadText, AfterText, PlaceText, WhenText, TicketText, CountdownText, StayText, StayUntilText, RetryText string
}

func (f *fanTexts) all() [13]*string {
	return [...]*string{&f.NowText, &f.BackText, &f.RankText, &f.AboutText, &f.AheadText, &f.AfterText, &f.PlaceText, &f.WhenText, &f.TicketText, &f.CountdownText,
		&f.StayText, &f.StayUntilText, &f.RetryText}
}

const stampForm = "2006-01-02T15:04:05.000Z07:00"

// texts of one fan.
func (p *Page) texts(s *speech) (f fanTexts) {
	f.NowText = p.Now.UTC().Format(stampForm)
	f.BackText = p.Back
	if p.known {
		f.RankText = strconv.FormatUint(p.rank, 10)
		f.AboutText, f.AheadText, f.AfterText = s.people(p.ahead)
		f.PlaceText = s.number(p.rank + 1)
	}
	if p.State == Lobby || p.State == Drawing {
		f.TicketText = p.ticket
	}
	if at := p.Status.OpensAt; at != nil {
		f.CountdownText = Countdown(at.Sub(p.Now))
	}
	if p.State == Waiting || p.State == Near {
		f.WhenText = s.when(p)
	}
	if !p.StayUntil.IsZero() {
		f.StayUntilText, f.StayText = p.StayUntil.UTC().Format(time.RFC3339Nano), Countdown(p.StayUntil.Sub(p.Now))
	}
	if p.RetryAfter > 0 {
		f.RetryText = strconv.FormatInt(p.RetryAfter.Milliseconds(), 10)
	}
	return f
}

// skeletonKey is all that a page depends on but the fan's own texts.
type skeletonKey struct {
	room, title, organiser, lang  string
	state                         State
	serverTime                    int64
	version                       uint64
	stale, known, place, sample   bool
	stay, retry, preview, offline bool
	lane, note                    string
	grace                         time.Duration
}

// skeleton is a rendered page with holes for the fan's own texts: at an opening, when everybody loads the page at once, the
// template runs once per second, state and language, not once per fan.
type skeleton struct {
	parts [][]byte // len(holes)+1
	holes []int    // index into fanTexts.all
}

// maxSkeletons bounds the memory of skeletons: a status lasts a second, and there are a few dozen variants of each in each language.
const maxSkeletons = 512

// Render writes the page.
func (p *Pages) Render(w io.Writer, page *Page) error {
	s := p.words.byCode[page.Lang]
	if s == nil {
		s = p.words.byCode[fallback]
	}
	key := skeletonKey{
		room: page.Room, title: page.Title, organiser: page.Organiser, lang: s.code, state: page.State, serverTime: page.Status.ServerTime.UnixMilli(),
		version: page.Status.Version, stale: page.Stale, known: page.known, place: page.ticket != "", sample: page.sample, stay: !page.StayUntil.IsZero(),
		retry: page.RetryAfter > 0, preview: page.Preview, offline: page.offline, lane: page.lane, note: noteKey(page.Note), grace: page.ReturnWithin,
	}
	p.mu.RLock()
	sk := p.skeletons[key]
	p.mu.RUnlock()
	if sk == nil {
		var err error
		if sk, err = p.skeleton(page, s); err != nil {
			return err
		}
		p.mu.Lock()
		if len(p.skeletons) >= maxSkeletons {
			clear(p.skeletons)
		}
		p.skeletons[key] = sk
		p.mu.Unlock()
	}
	texts := page.texts(s)
	all := texts.all()
	for i, hole := range sk.holes {
		if _, err := w.Write(sk.parts[i]); err != nil {
			return err
		}
		// Every hole is an attribute's value or text; a path in href begins with a slash, so it cannot name a scheme.
		template.HTMLEscape(w, []byte(*all[hole]))
	}
	_, err := w.Write(sk.parts[len(sk.holes)])
	return err
}

// Preview writes a page of the room as a fan would see it in a state of Previews, in a language, with the room's brand. It needs no script and
// changes nothing. The error is of a state there is not.
func (p *Pages) Preview(w io.Writer, state State, room, title, organiser, lang string, now time.Time) error {
	for _, s := range Previews() {
		if s == state {
			page := Sample(state, room, title, organiser, now)
			page.Lang, page.Preview = lang, true
			return p.Render(w, page)
		}
	}
	return fmt.Errorf("there is no state %q to preview", state)
}

// shared are the states that say what to do in the same words.
var shared = map[State]string{Door: "stay.todo", Moment: "stay.todo", Paused: "back.todo", Draining: "back.todo", Maintenance: "back.todo",
	Left: "again.todo", Spent: "again.todo", Refused: "again.todo"}

// skeleton renders the page with marks for the fan's texts, and cuts it at them.
func (p *Pages) skeleton(page *Page, s *speech) (*skeleton, error) {
	p.mu.RLock()
	l, ok := p.looks[page.Room]
	p.mu.RUnlock()
	if !ok {
		l.css = p.css
	}
	v := view{
		Page: page, speech: s, CSS: l.css, Logo: l.logo, LogoText: l.logoText, JS: p.js[s.code], Languages: p.langs,
		Endpoint: p.prefix + "/rooms/" + page.Room, Known: page.known, Sampled: page.sample, Offline: page.offline, Lane: page.lane,
		LineID: page.Status.Line.String(), HeardAt: page.Status.ServerTime.UTC().Format("15:04:05"), GraceText: Countdown(page.ReturnWithin), GraceS: int(page.ReturnWithin / time.Second),
		HasPlace: page.ticket != "", NoteKey: noteKey(page.Note), DrawKey: drawKey(page.Status.Draw),
		LobbyTicket: page.ticket != "" && (page.State == Lobby || page.State == Drawing),
		Headline:    s.say(string(page.State) + ".headline"), Lead: s.say(string(page.State) + ".lead"), Todo: s.say(string(page.State) + ".todo"),
	}
	if v.Headline == "" {
		return nil, fmt.Errorf("page state %q has no words", page.State)
	}
	if v.Todo == "" {
		v.Todo = s.say(shared[page.State])
	}
	if at := page.Status.OpensAt; at != nil {
		v.OpensAt, v.OpensWords = at.UTC().Format(time.RFC3339Nano), at.UTC().Format("2006-01-02 15:04 MST")
	}
	if i := page.LaneIndex(); i < len(page.Status.Lanes) {
		v.CauseKey = causeKey(page.Status.Lanes[i].ETA.Cause)
	}
	if at := page.Status.MessageAt; at != nil {
		v.MessageAt = at.UTC().Format("15:04 MST")
	}
	for i, text := range v.fanTexts.all() {
		*text = p.mark + strconv.Itoa(i) + "z"
	}
	var b bytes.Buffer
	if err := p.tmpl.Execute(&b, &v); err != nil {
		return nil, fmt.Errorf("render page: %w", err)
	}
	sk := &skeleton{}
	rest := b.Bytes()
	for {
		before, after, ok := bytes.Cut(rest, []byte(p.mark))
		sk.parts = append(sk.parts, before)
		if !ok {
			return sk, nil
		}
		num, after, _ := bytes.Cut(after, []byte("z"))
		hole, err := strconv.Atoi(string(num))
		if err != nil {
			return nil, fmt.Errorf("render page: mark: %w", err)
		}
		sk.holes = append(sk.holes, hole)
		rest = after
	}
}

// when is the interval in words. Without a script the page cannot know the fan's time zone, so it counts minutes.
func (s *speech) when(p *Page) string {
	i, ok := p.interval()
	switch {
	case !p.known:
		return s.say("when.place")
	case !ok:
		return s.say("when.still")
	case i.High < time.Minute:
		return s.say("when.soon")
	}
	low, high := uint64(i.Low/time.Minute), uint64((i.High+time.Minute-1)/time.Minute)
	switch {
	case high >= 120:
		return s.count("when.hours", (high+30)/60)
	case low == high || high <= 1:
		return s.count("when.minutes", high)
	}
	return s.count("when.range", high, "low", s.number(low))
}

// Round is a number of people as it may honestly be said: exact below 1,000, then to three digits.
func Round(n uint64) (rounded uint64, exact bool) {
	step := uint64(1)
	for m := n; m >= 1000; m /= 10 {
		step *= 10
	}
	return (n + step/2) / step * step, step == 1
}

// people is a number of people, said honestly, with what the language puts before and after a number that is not exact.
func (s *speech) people(n uint64) (before, count, after string) {
	r, exact := Round(n)
	if !exact {
		before, after, _ = strings.Cut(s.words["about"]["other"], "{n}")
	}
	return before, s.number(r), after
}

// Countdown is a time to come as h:mm:ss; never below zero.
func Countdown(d time.Duration) string {
	s := max(0, int64((d+time.Second-1)/time.Second))
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// noteKey is the message for how the fan came here, empty when there is nothing to say.
func noteKey(note string) string {
	switch note {
	case "form":
		return "note.form"
	case string(line.RefusedFull), string(line.RefusedMoment), string(line.RefusedShare):
		return "note.moment"
	case string(line.RefusedEarly):
		return "note.early"
	case string(line.RefusedInvite):
		return "note.invite"
	}
	return ""
}

func causeKey(cause string) string {
	switch cause {
	case "":
		return ""
	case "paused", "slower-core", "rate", "fewer-absent":
		return "cause." + cause
	}
	return "cause.other"
}

func drawKey(d *line.DrawStatus) string {
	if d != nil {
		switch string(d.Kind) {
		case "drand", "announced":
			return "draw.public"
		case "operator":
			return "draw.operator"
		}
	}
	return "draw.arrival"
}
