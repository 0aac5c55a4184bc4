// Package waitpage is what a fan sees: one page for every state of waiting, rendered on the server so that it is complete
// without JavaScript, and one small script that keeps it live from the room's public status.
//
// The words are in words.json, which the page and the script share. The script and the style are built by go generate from
// src into built and served under names that hold their hash.
package waitpage

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"strconv"
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

// Pages renders pages. It is immutable and safe for concurrent use.
type Pages struct {
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
	p := &Pages{prefix: prefix, assets: map[string]Asset{}}
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

// view is what the template sees: everything in words and numbers already.
type view struct {
	*Page
	Words
	Prefix, CSS, JS, SRI string
	Endpoint             string
	HasPlace             bool
	Known                bool
	Rank, Ahead          string // as data
	AheadText, PlaceText string
	WhenText             string
	OpensAt, OpensText   string
	CountdownText        string
	StayText, StayUntil  string
	MessageAt            string
	HeardAt              string
	LineID               string
	LobbyTicket          string
	Lane                 string
	NoteText             string
	CauseText            string
	DrawText             string
	NoScriptText         string
	GraceS               int
}

// Words are exported to the template under their own names.
type Words = words

// Render writes the page.
func (p *Pages) Render(w io.Writer, page *Page) error {
	v := view{
		Page: page, Words: p.words[page.State], Prefix: p.prefix, CSS: p.css, JS: p.js, SRI: p.jsSRI,
		Endpoint: p.prefix + "/rooms/" + page.Room, Known: page.known, Lane: page.lane, LineID: page.Status.Line.String(),
		HeardAt: page.Status.ServerTime.UTC().Format("15:04:05"), GraceS: int(page.ReturnWithin / time.Second),
		HasPlace: page.ticket != "", NoteText: noteText(page.Note),
	}
	if v.Headline == "" {
		return fmt.Errorf("page state %q has no words", page.State)
	}
	if page.known {
		v.Rank, v.Ahead = strconv.FormatUint(page.rank, 10), strconv.FormatUint(page.ahead, 10)
		v.AheadText, v.PlaceText = Round(page.ahead), number(page.rank+1)
	}
	if page.State == Lobby || page.State == Drawing {
		v.LobbyTicket = page.ticket
	}
	if at := page.Status.OpensAt; at != nil {
		v.OpensAt, v.OpensText = at.UTC().Format(time.RFC3339Nano), at.UTC().Format("2 January 15:04 MST")
		v.CountdownText = Countdown(at.Sub(page.Now))
	}
	if page.State == Waiting || page.State == Near {
		v.WhenText = when(page)
	}
	if i := page.LaneIndex(); i < len(page.Status.Lanes) {
		v.CauseText = causeText(page.Status.Lanes[i].ETA.Cause)
	}
	if !page.StayUntil.IsZero() {
		v.StayUntil, v.StayText = page.StayUntil.UTC().Format(time.RFC3339Nano), Countdown(page.StayUntil.Sub(page.Now))
	}
	if at := page.Status.MessageAt; at != nil {
		v.MessageAt = at.UTC().Format("15:04 MST")
	}
	v.DrawText = drawText(page.Status.Draw)
	return p.tmpl.Execute(w, &v)
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
		return "In less than a minute."
	}
	low, high := int64(i.Low/time.Minute), int64((i.High+time.Minute-1)/time.Minute)
	if low == high || high <= 1 {
		return "In about " + minutes(high) + "."
	}
	return "In about " + strconv.FormatInt(low, 10) + " to " + minutes(high) + "."
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

// Round is a number of people as it may honestly be said: exact below 1,000, then to three digits.
func Round(n uint64) string {
	step := uint64(1)
	for m := n; m >= 1000; m /= 10 {
		step *= 10
	}
	if step == 1 {
		return number(n)
	}
	return "about " + number((n+step/2)/step*step)
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

func noteText(note string) string {
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

func causeText(cause string) string {
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

func drawText(d *line.DrawStatus) string {
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
