// Package waitpage is what a fan sees: one page for every state of waiting, rendered on the server so that it is complete
// without JavaScript, and one small script that keeps it live from the room's public status.
//
// The words are in words.json, which the page and the script share. The script and the style are built by go generate from
// src into built and served under names that hold their hash.
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
	"strconv"
	"sync"
	"time"

	"github.com/stanchion-queue/stanchion/queue/line"
)

//go:generate go run ./build

// CSP is the page's content security policy: nothing from elsewhere, nothing inline, and no page may frame it but its own.
const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"

// State is what the page has to say. It is also the key of its words.
type State string

// The states of the page.
const (
	Probe          State = "probe"   // first visit: does this browser keep cookies?
	Lobby          State = "lobby"   // before the opening
	Drawing        State = "drawing" // the lobby is closed, the draw is not known yet
	Waiting        State = "waiting"
	Near           State = "near"   // called within minutes
	Called         State = "called" // may come in
	Door           State = "door"   // called, and the room is full
	Moment         State = "moment" // called, and it did not work this second
	Inside         State = "inside"
	Paused         State = "paused"
	Draining       State = "draining"
	SoldOut        State = "sold_out"
	Maintenance    State = "maintenance"
	Ended          State = "ended"
	Left           State = "left"  // gave the place up
	Spent          State = "spent" // the place became a session that is over
	HolderUsed     State = "holder_used"
	Refused        State = "refused" // the ticket is not valid here
	NeedsAccount   State = "needs_account"
	CookiesBlocked State = "cookies_blocked"
)

// States are all states, in the order a fan may meet them.
func States() []State {
	return []State{Probe, Lobby, Drawing, Waiting, Near, Called, Door, Moment, Inside, Paused, Draining, SoldOut, Maintenance, Ended, Left, Spent,
		HolderUsed, Refused, NeedsAccount, CookiesBlocked}
}

// nearAhead and nearWithin say when a fan should stay at the page.
const (
	nearAhead  = 100
	nearWithin = 5 * time.Minute
)

// OfPhase is the state of a fan without a place in a phase.
func OfPhase(p line.Phase) State {
	switch p {
	case line.PhaseLobby:
		return Lobby
	case line.PhaseDrawing:
		return Drawing
	case line.PhasePaused:
		return Paused
	case line.PhaseDraining:
		return Draining
	case line.PhaseSoldOut:
		return SoldOut
	case line.PhaseMaintenance:
		return Maintenance
	case line.PhaseEnded:
		return Ended
	}
	return Waiting
}

// OfRefusal is the state after a room's refusal.
func OfRefusal(code line.RefusalCode, phase line.Phase) State {
	switch code {
	case line.RefusedFull:
		return Door
	case line.RefusedMoment, line.RefusedShare:
		if s := OfPhase(phase); s == Paused || s == Draining || s == Maintenance {
			return s
		}
		return Moment
	case line.RefusedHolder:
		return HolderUsed
	case line.RefusedSpent:
		return Spent
	case line.RefusedAccount, line.RefusedInvite, line.RefusedWork:
		return NeedsAccount
	case line.RefusedClosed:
		if phase == line.PhaseSoldOut {
			return SoldOut
		}
		return Ended
	}
	return Refused
}

// Page is one page to render.
type Page struct {
	State     State
	Room      string
	Title     string // the event
	Organiser string
	Status    *line.Status // not nil
	Stale     bool         // the room has not heard from its store for a while
	Back      string       // the path that the fan wants
	Note      string       // how the fan came here: "form", "left" or a refusal's code
	Script    bool         // the page's script has run in this browser before
	Now       time.Time

	Refusal    line.RefusalCode
	RetryAfter time.Duration

	ReturnWithin time.Duration // how long a called fan has to come
	StayUntil    time.Time     // with Inside

	ticket string
	lane   string
	known  bool
	rank   uint64
	ahead  uint64
}

// SetPlace fills in a fan's place and the state that follows from it.
func (p *Page) SetPlace(pl line.Place) {
	p.ticket, p.lane, p.known, p.rank, p.ahead = pl.Ticket, pl.Lane, pl.Known, pl.Rank, pl.Ahead
	switch s := OfPhase(p.Status.Phase); {
	case s == Paused || s == Draining || s == SoldOut || s == Maintenance || s == Ended:
		p.State = s
	case pl.State == line.StateCalled:
		p.State = Called
	case pl.State == line.StateAdmitted:
		p.State = Inside
	case s == Drawing:
		p.State = Drawing
	case pl.State == line.StateLobby:
		p.State = Lobby
	default:
		p.State = Waiting
		if i, ok := p.interval(); pl.Known && (pl.Ahead <= nearAhead || ok && i.High <= nearWithin) {
			p.State = Near
		}
	}
}

// Sample is a page in the given state with everything on it that the state can show, for previews and tests.
func Sample(state State, room, title, organiser string, now time.Time) *Page {
	opens, said := now.Add(12*time.Minute+30*time.Second), now.Add(-4*time.Minute)
	stock := int64(1840)
	p := &Page{
		State: state, Room: room, Title: title, Organiser: organiser, Back: "/", Now: now, ReturnWithin: 2 * time.Minute,
		Status: &line.Status{
			Room: room, Line: line.ID{0xa1, 0xb2}, Phase: line.PhaseWaiting, ServerTime: now, OpensAt: &opens, Stock: &stock,
			Lanes:   []line.LaneStatus{{Name: "general", Called: 1200, Total: 48000, PerMinute: 240, ETA: line.ETA{Kind: "velocity", PerSecond: 4, Low: 0.85, High: 1.2}}},
			Message: "There are still seats in all blocks.", MessageAt: &said, Draw: &line.DrawStatus{Kind: "drand", Round: 4242},
		},
	}
	switch state {
	case Lobby, Drawing, Called, Door, Moment:
		p.ticket, p.lane = "sample", "general"
	case Waiting, Paused, Draining, SoldOut, Maintenance:
		p.ticket, p.lane, p.known, p.rank, p.ahead = "sample", "general", true, 14321, 13121
	case Near:
		p.ticket, p.lane, p.known, p.rank, p.ahead = "sample", "general", true, 1263, 63
	case Inside:
		p.StayUntil = now.Add(14*time.Minute + 7*time.Second)
	}
	return p
}

// LaneIndex is the place of the fan's lane in the status, 0 when it is not known.
func (p *Page) LaneIndex() int {
	for i, l := range p.Status.Lanes {
		if l.Name == p.lane {
			return i
		}
	}
	return 0
}

// RankOr is the fan's rank, or d while it is not known.
func (p *Page) RankOr(d uint64) uint64 {
	if p.known {
		return p.rank
	}
	return d
}

func (p *Page) interval() (line.Interval, bool) {
	i := p.LaneIndex()
	if !p.known || i >= len(p.Status.Lanes) {
		return line.Interval{}, false
	}
	return p.Status.Lanes[i].Estimate(p.rank)
}

// words of one state.
type words struct {
	Title    string `json:"title"`
	Headline string `json:"headline"`
	Lead     string `json:"lead"`
	Todo     string `json:"todo"`
}

// Asset is a file the page needs.
type Asset struct {
	ContentType string
	Body, Gzip  []byte
}

// Pages renders pages. It is safe for concurrent use.
type Pages struct {
	mark      string // what holds a fan's texts' places; random, so that no text of an operator can be one
	mu        sync.Mutex
	skeletons map[skeletonKey]*skeleton

	prefix string
	tmpl   *template.Template
	words  map[State]words
	assets map[string]Asset
	css    string
	js     string
	jsSRI  string
}

//go:embed page.html
var pageHTML string

//go:embed words.json
var wordsJSON []byte

//go:embed built/page.js
var script []byte

//go:embed built/page.css
var style []byte

// New prepares the pages for endpoints under prefix.
func New(prefix string) (*Pages, error) {
	p := &Pages{prefix: prefix, assets: map[string]Asset{}, mark: "y" + rand.Text() + "x", skeletons: map[skeletonKey]*skeleton{}}
	if err := json.Unmarshal(wordsJSON, &p.words); err != nil {
		return nil, fmt.Errorf("read the page's words: %w", err)
	}
	var err error
	if p.js, err = p.asset("page", ".js", "text/javascript; charset=utf-8", script); err != nil {
		return nil, err
	}
	if p.css, err = p.asset("page", ".css", "text/css; charset=utf-8", style); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(script)
	p.jsSRI = "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
	p.tmpl, err = template.New("page").Funcs(template.FuncMap{"in": in}).Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("read the page's template: %w", err)
	}
	return p, nil
}

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
	sum := sha256.Sum256(body)
	file := name + "-" + hex.EncodeToString(sum[:8]) + ext
	p.assets[file] = Asset{ContentType: contentType, Body: body, Gzip: z.Bytes()}
	return p.prefix + "/assets/" + file, nil
}

// Asset is the asset of that name.
func (p *Pages) Asset(name string) (Asset, bool) {
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
	Words
	Prefix, CSS, JS, SRI string
	Endpoint             string
	HasPlace, Known      bool
	OpensAt              string
	OpensWords           string
	MessageAt            string
	HeardAt              string
	LineID               string
	LobbyTicket          bool
	Lane                 string
	NoteWords            string
	CauseWords           string
	DrawWords            string
	GraceS               int
	fanTexts
}

// Words are exported to the template under their own names.
type Words = words

// fanTexts are the parts of a page that differ from fan to fan.
type fanTexts struct {
	NowText, BackText, RankText, AboutText, AheadText, PlaceText, WhenText, TicketText, CountdownText, StayText, StayUntilText, RetryText string
}

func (f *fanTexts) all() [12]*string {
	return [...]*string{&f.NowText, &f.BackText, &f.RankText, &f.AboutText, &f.AheadText, &f.PlaceText, &f.WhenText, &f.TicketText, &f.CountdownText,
		&f.StayText, &f.StayUntilText, &f.RetryText}
}

// texts of one fan.
func (p *Page) texts() (f fanTexts) {
	f.NowText = p.Now.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	f.BackText = p.Back
	if p.known {
		f.RankText = strconv.FormatUint(p.rank, 10)
		f.AboutText, f.AheadText = Round(p.ahead)
		f.PlaceText = number(p.rank + 1)
	}
	if p.State == Lobby || p.State == Drawing {
		f.TicketText = p.ticket
	}
	if at := p.Status.OpensAt; at != nil {
		f.CountdownText = Countdown(at.Sub(p.Now))
	}
	if p.State == Waiting || p.State == Near {
		f.WhenText = when(p)
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
	room, title, organiser string
	state                  State
	serverTime             int64
	version                uint64
	stale, known, place    bool
	stay, retry            bool
	lane, note             string
	grace                  time.Duration
}

// skeleton is a rendered page with holes for the fan's own texts: at an opening, when everybody loads the page at once, the
// template runs once per second and state, not once per fan.
type skeleton struct {
	parts [][]byte // len(holes)+1
	holes []int    // index into fanTexts.all
}

// maxSkeletons bounds the memory of skeletons: a status lasts a second, and there are a few dozen variants of each.
const maxSkeletons = 256

// Render writes the page.
func (p *Pages) Render(w io.Writer, page *Page) error {
	key := skeletonKey{
		room: page.Room, title: page.Title, organiser: page.Organiser, state: page.State, serverTime: page.Status.ServerTime.UnixMilli(),
		version: page.Status.Version, stale: page.Stale, known: page.known, place: page.ticket != "", stay: !page.StayUntil.IsZero(),
		retry: page.RetryAfter > 0, lane: page.lane, note: noteWords(page.Note), grace: page.ReturnWithin,
	}
	p.mu.Lock()
	sk := p.skeletons[key]
	p.mu.Unlock()
	if sk == nil {
		var err error
		if sk, err = p.skeleton(page); err != nil {
			return err
		}
		p.mu.Lock()
		if len(p.skeletons) >= maxSkeletons {
			clear(p.skeletons)
		}
		p.skeletons[key] = sk
		p.mu.Unlock()
	}
	texts := page.texts()
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

// skeleton renders the page with marks for the fan's texts, and cuts it at them.
func (p *Pages) skeleton(page *Page) (*skeleton, error) {
	v := view{
		Page: page, Words: p.words[page.State], Prefix: p.prefix, CSS: p.css, JS: p.js, SRI: p.jsSRI,
		Endpoint: p.prefix + "/rooms/" + page.Room, Known: page.known, Lane: page.lane, LineID: page.Status.Line.String(),
		HeardAt: page.Status.ServerTime.UTC().Format("15:04:05"), GraceS: int(page.ReturnWithin / time.Second),
		HasPlace: page.ticket != "", NoteWords: noteWords(page.Note), DrawWords: drawWords(page.Status.Draw),
		LobbyTicket: page.ticket != "" && (page.State == Lobby || page.State == Drawing),
	}
	if v.Headline == "" {
		return nil, fmt.Errorf("page state %q has no words", page.State)
	}
	if at := page.Status.OpensAt; at != nil {
		v.OpensAt, v.OpensWords = at.UTC().Format(time.RFC3339Nano), at.UTC().Format("2 January 15:04 MST")
	}
	if i := page.LaneIndex(); i < len(page.Status.Lanes) {
		v.CauseWords = causeWords(page.Status.Lanes[i].ETA.Cause)
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
func when(p *Page) string {
	i, ok := p.interval()
	switch {
	case !p.known:
		return "We cannot say yet: your place becomes known in a second or two."
	case !ok:
		return "We cannot say yet, because nobody has been let in for a while."
	case i.High < time.Minute:
		return "In less than a minute"
	}
	low, high := int64(i.Low/time.Minute), int64((i.High+time.Minute-1)/time.Minute)
	if low == high || high <= 1 {
		return "In about " + minutes(high)
	}
	return "In about " + strconv.FormatInt(low, 10) + " to " + minutes(high)
}

func minutes(n int64) string {
	switch {
	case n == 1:
		return "1 minute"
	case n >= 120:
		return strconv.FormatInt((n+30)/60, 10) + " hours"
	}
	return strconv.FormatInt(n, 10) + " minutes"
}

// Round is a number of people as it may honestly be said: exact below 1,000, then to three digits, with the word that says so.
func Round(n uint64) (about, count string) {
	step := uint64(1)
	for m := n; m >= 1000; m /= 10 {
		step *= 10
	}
	if step == 1 {
		return "", number(n)
	}
	return "about ", number((n + step/2) / step * step)
}

func number(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Countdown is a time to come as h:mm:ss; never below zero.
func Countdown(d time.Duration) string {
	s := max(0, int64((d+time.Second-1)/time.Second))
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

func noteWords(note string) string {
	switch note {
	case "":
		return ""
	case "form":
		return "Your form was not sent, because your time inside had run out. Nothing was bought. Once you are in again you come back to the page it was on."
	case "left":
		return ""
	case string(line.RefusedFull), string(line.RefusedMoment), string(line.RefusedShare):
		return "That did not work this second. Your place is kept."
	case string(line.RefusedEarly):
		return "It is not your turn yet. Your place is kept."
	case string(line.RefusedLane):
		return "There is no such lane."
	case string(line.RefusedInvite):
		return "This invitation or code is not valid."
	case string(line.RefusedAccount):
		return "Please sign in first."
	}
	return ""
}

func causeWords(cause string) string {
	switch cause {
	case "":
		return ""
	case "paused":
		return "It takes longer than planned, because the line was paused."
	case "slower-core":
		return "It takes longer than planned, because the shop is slower than usual."
	case "rate":
		return "It takes longer than planned, because fewer people are let in at a time."
	case "fewer-absent":
		return "It takes longer than planned, because more people have come back for their turn than expected."
	}
	return "It takes longer than planned."
}

func drawWords(d *line.DrawStatus) string {
	if d == nil {
		return "Places are in the order of arrival."
	}
	switch string(d.Kind) {
	case "drand":
		return "The order of those who were here before the opening is drawn at random, from a public number that nobody can know beforehand."
	case "announced":
		return "The order of those who were here before the opening is drawn at random, from a public draw that was named beforehand."
	case "operator":
		return "The order of those who were here before the opening is drawn by the organiser. This kind of draw cannot be checked from outside."
	}
	return "Places are in the order of arrival."
}
