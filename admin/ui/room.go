package ui

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stanchion-queue/stanchion/admin/access"
	"github.com/stanchion-queue/stanchion/admin/api"
	"github.com/stanchion-queue/stanchion/admin/desk"
	"github.com/stanchion-queue/stanchion/admin/problem"
)

// control is one setting that can be changed on the room's page.
type control struct {
	desk.Field
	Label string
	Now   string // in force
	Typed string // as it stands in the form
	Wrong string // what is allowed, if Typed is not
}

// quick are the settings that an operator turns while a sale is running.
var quick = []struct{ key, label string }{
	{"rate_per_second", "Rate, fans a second"},
	{"cap", "Cap, fans inside"},
	{"message", "Message to everybody in line"},
}

// minutes are the ranges that the charts can show.
var minutes = []int{5, 15, 60}

type actionView struct {
	desk.Action
	Current bool
}

type roomPage struct {
	Room             string
	Look             desk.Look
	W                map[string]string
	Tone             string
	Drawing          drawing
	Ranges           []int
	Hold, Refreshing bool

	Version  string
	Mode     string // that the operator wants; the look may not have it yet
	Controls []control
	Reason   string
	Preview  *desk.Preview
	Problem  *problem.Details
	Done     *desk.Entry
	Same     bool
	Last     *desk.Entry
	CanUndo  bool
	Stop     desk.Action // the one at the top: pause, or resume while nobody is let in
	Calm     []actionView
	Danger   []actionView
}

// known makes sure of a room before anything is said about it. A room that was not looked at yet is stale.
func (u *UI) known(ctx context.Context, room string) (desk.Look, error) {
	if l, ok := u.Desk.Look(room); ok {
		return l, nil
	}
	if _, err := u.Desk.Settings(ctx, room); err != nil {
		return desk.Look{}, err
	}
	return desk.Look{Room: room, Time: time.Now().UTC(), Stale: true, Error: "The room's controller has not reported yet.", Drain: desk.Drain{Why: "no data yet"}}, nil
}

func (u *UI) roomPage(ctx context.Context, room string, typed url.Values) (roomPage, error) {
	look, err := u.known(ctx, room)
	if err != nil {
		return roomPage{}, err
	}
	doc, err := u.Desk.Settings(ctx, room)
	if err != nil {
		return roomPage{}, err
	}
	values, err := desk.Values(doc.JSON)
	if err != nil {
		return roomPage{}, err
	}
	past, err := u.Desk.History(ctx, room, 2)
	if err != nil {
		return roomPage{}, err
	}
	p := roomPage{Room: room, Look: look, W: words(look), Tone: tone(look), Ranges: minutes, Version: doc.Version, Mode: modeName(values[desk.ModeKey]),
		Reason: typed.Get("reason"), CanUndo: len(past) > 1}
	if p.W["mode"] == "" { // no look yet: what the operator wants is known all the same
		p.W["mode"] = p.Mode
	}
	if len(past) > 0 {
		p.Last = &past[0]
	}
	for _, q := range quick {
		f, ok := u.Desk.Field(q.key)
		if !ok {
			continue
		}
		c := control{Field: f, Label: q.label, Now: values[q.key], Typed: values[q.key]}
		if typed.Has(q.key) {
			c.Typed = typed.Get(q.key)
			if _, wrong := f.Parse(c.Typed); wrong != nil {
				c.Wrong = wrong.Want
			}
		}
		p.Controls = append(p.Controls, c)
	}
	stop := "pause"
	if mode := values[desk.ModeKey]; mode != "normal" && mode != "queue-all" && mode != "admit-all" {
		stop = "resume"
	}
	if p.Stop, err = desk.FindAction(stop); err != nil {
		return roomPage{}, err
	}
	for _, a := range desk.Actions {
		v := actionView{a, a.Mode == values[desk.ModeKey]}
		if a.Danger {
			p.Danger = append(p.Danger, v)
		} else {
			p.Calm = append(p.Calm, v)
		}
	}
	return p, nil
}

func (u *UI) room(w http.ResponseWriter, r *http.Request) {
	p, err := u.roomPage(r.Context(), r.PathValue("room"), nil)
	if err != nil {
		u.fail(w, r, err)
		return
	}
	query := r.URL.Query()
	p.Hold, p.Refreshing = live(w, r)
	if query.Has("same") {
		p.Same = true
	}
	if v := query.Get("done"); v != "" && p.Last != nil && p.Last.Version == v {
		p.Done = p.Last
	}
	u.show(w, r, http.StatusOK, p)
}

func (u *UI) show(w http.ResponseWriter, r *http.Request, status int, p roomPage) {
	span, _ := strconv.Atoi(r.FormValue("minutes"))
	if !slices.Contains(minutes, span) {
		span = 15
	}
	now := time.Now()
	from := now.Add(-time.Duration(span) * time.Minute)
	p.Drawing = draw(u.Desk.Points(p.Room, from), u.Desk.Marks(p.Room, from), now, span)
	u.render(w, r, status, "room", p.Room, p)
}

// again shows the room's page with what was typed and what is wrong with it.
func (u *UI) again(w http.ResponseWriter, r *http.Request, err error) {
	d := u.explain(r.Context(), err)
	p, pageErr := u.roomPage(r.Context(), r.PathValue("room"), r.PostForm)
	if pageErr != nil {
		u.fail(w, r, pageErr)
		return
	}
	p.Problem = d
	u.show(w, r, d.Status, p)
}

// edits reads the settings of a form. The error is a *desk.Invalid that names every wrong value.
func edits(form url.Values, fields []desk.Field) (map[string]any, error) {
	out := map[string]any{}
	var bad []desk.Problem
	for _, f := range fields {
		if f.Kind == desk.Flag && form.Has("has:"+f.Key) && !form.Has(f.Key) {
			out[f.Key] = false // an unticked box is not sent
			continue
		}
		if !form.Has(f.Key) {
			continue
		}
		v, wrong := f.Parse(form.Get(f.Key))
		if wrong != nil {
			bad = append(bad, *wrong)
			continue
		}
		out[f.Key] = v
	}
	if bad != nil {
		return nil, &desk.Invalid{Problems: bad}
	}
	return out, nil
}

func (u *UI) postSet(w http.ResponseWriter, r *http.Request) {
	room := r.PathValue("room")
	var fields []desk.Field
	for _, q := range quick {
		if f, ok := u.Desk.Field(q.key); ok {
			fields = append(fields, f)
		}
	}
	e, err := edits(r.PostForm, fields)
	if err != nil {
		u.again(w, r, err)
		return
	}
	if r.PostForm.Get("do") == "preview" {
		preview, err := u.Desk.PreviewEdits(r.Context(), room, e)
		if err != nil {
			u.again(w, r, err)
			return
		}
		p, err := u.roomPage(r.Context(), room, r.PostForm)
		if err != nil {
			u.fail(w, r, err)
			return
		}
		p.Preview = &preview
		u.show(w, r, http.StatusOK, p)
		return
	}
	version := r.PostForm.Get("version")
	if version == "" {
		u.again(w, r, desk.ErrConflict)
		return
	}
	done, err := u.Desk.Set(r.Context(), room, e, version, access.From(r.Context()).Who, r.PostForm.Get("reason"))
	if err != nil {
		u.again(w, r, err)
		return
	}
	u.done(w, r, room, done)
}

// done leads back to the room's page, which says what was done and how to undo it.
func (u *UI) done(w http.ResponseWriter, r *http.Request, room string, done desk.Applied) {
	query := "?done=" + url.QueryEscape(done.Version)
	if done.Version == done.Before {
		query = "?same"
	}
	http.Redirect(w, r, "/rooms/"+url.PathEscape(room)+query, http.StatusSeeOther)
}

func (u *UI) postUndo(w http.ResponseWriter, r *http.Request) {
	room := r.PathValue("room")
	past, err := u.Desk.History(r.Context(), room, 1)
	if err != nil {
		u.fail(w, r, err)
		return
	}
	if len(past) == 0 {
		u.again(w, r, desk.ErrNoUndo)
		return
	}
	for _, c := range past[0].Changes {
		if a, ok := desk.ActionFor(c.From); ok && c.Key == desk.ModeKey && a.Danger {
			http.Redirect(w, r, confirmPath(room, a), http.StatusSeeOther) // what it would bring back takes two steps
			return
		}
	}
	reason := r.PostForm.Get("reason")
	if strings.TrimSpace(reason) == "" {
		reason = "Undo of version " + past[0].Version
	}
	done, err := u.Desk.Undo(r.Context(), room, r.PostForm.Get("version"), access.From(r.Context()).Who, reason)
	if err != nil {
		u.again(w, r, err)
		return
	}
	u.done(w, r, room, done)
}

func confirmPath(room string, a desk.Action) string {
	return "/rooms/" + url.PathEscape(room) + "/actions/" + a.Name
}

type confirmPage struct {
	Room    string
	Action  desk.Action
	Look    desk.Look
	W       map[string]string
	Mode    string
	Version string
	Reason  string
	Problem *problem.Details
}

func (u *UI) confirm(w http.ResponseWriter, r *http.Request) {
	u.ask(w, r, http.StatusOK, nil)
}

// ask is the second step of a dangerous action.
func (u *UI) ask(w http.ResponseWriter, r *http.Request, status int, d *problem.Details) {
	room := r.PathValue("room")
	a, err := desk.FindAction(r.PathValue("action"))
	if err != nil {
		u.fail(w, r, err)
		return
	}
	look, err := u.known(r.Context(), room)
	if err != nil {
		u.fail(w, r, err)
		return
	}
	doc, err := u.Desk.Settings(r.Context(), room)
	if err != nil {
		u.fail(w, r, err)
		return
	}
	values, err := desk.Values(doc.JSON)
	if err != nil {
		u.fail(w, r, err)
		return
	}
	u.render(w, r, status, "confirm", a.Title+" · "+room, confirmPage{Room: room, Action: a, Look: look, W: words(look),
		Mode: modeName(values[desk.ModeKey]), Version: doc.Version, Reason: r.FormValue("reason"), Problem: d})
}

func (u *UI) postAction(w http.ResponseWriter, r *http.Request) {
	room := r.PathValue("room")
	a, err := desk.FindAction(r.PathValue("action"))
	if err != nil {
		u.fail(w, r, err)
		return
	}
	reason := r.PostForm.Get("reason")
	switch {
	case a.Danger && r.PostForm.Get("confirmed") != "yes":
		u.ask(w, r, http.StatusOK, nil)
		return
	case !a.Danger && strings.TrimSpace(reason) == "":
		reason = a.Title + ", no reason given" // stopping a crowd must not wait for an essay
	}
	// A calm action means the same whatever else was changed; a dangerous one was decided upon a page, which must still be true.
	version := ""
	if a.Danger {
		if version = r.PostForm.Get("version"); version == "" {
			version = "none"
		}
	}
	done, err := u.Desk.Act(r.Context(), room, a.Name, version, access.From(r.Context()).Who, reason)
	switch {
	case err == nil:
		u.done(w, r, room, done)
	case errors.Is(err, desk.ErrNoRoom):
		u.fail(w, r, err)
	case a.Danger:
		d := u.explain(r.Context(), err)
		u.ask(w, r, d.Status, d)
	default:
		u.again(w, r, err)
	}
}

// feed is the stream that keeps a room's page live: the same words as the page, and one more point for the charts.
func (u *UI) feed(w http.ResponseWriter, r *http.Request) {
	room := r.PathValue("room")
	_, err := u.known(r.Context(), room)
	if err != nil {
		problem.Write(w, r, u.explain(r.Context(), err))
		return
	}
	v, err := u.Desk.Watch(room)
	if err != nil {
		problem.Write(w, r, u.explain(r.Context(), err))
		return
	}
	defer v.Close()
	api.Stream(w, r, v, u.Stop, "look", u.picture)
}

// picture is what the page's script is sent each second.
type picture struct {
	Words   map[string]string `json:"words"`
	Tone    string            `json:"tone"`
	Inside  float64           `json:"fill"` // share of the cap that is taken
	Point   map[string]any    `json:"point"`
	Marks   []desk.Mark       `json:"marks"` // of the last half minute
	Version string            `json:"version"`
	Who     string            `json:"who"`
}

func (u *UI) picture(l desk.Look) any {
	p := picture{Words: words(l), Tone: tone(l), Inside: fill(l), Point: map[string]any{"at": l.Time.Unix()},
		Marks: u.Desk.Marks(l.Room, l.Time.Add(-30*time.Second))}
	for _, c := range charts() {
		for _, s := range c.Series {
			if v := float64(s.of(l.Point)); l.Point.At != 0 && !math.IsNaN(v) {
				p.Point[s.Key] = math.Round(v*1000) / 1000
			} else {
				p.Point[s.Key] = nil
			}
		}
	}
	if l.Last != nil {
		p.Version, p.Who = l.Last.Version, l.Last.Who
	}
	return p
}

func fill(l desk.Look) float64 {
	if l.Live.Cap <= 0 {
		return 0
	}
	return min(1, float64(l.Live.Inside)/float64(l.Live.Cap))
}

// Fill is the share of the cap that is taken, for the meter.
func (p roomPage) Fill() string { return strconv.FormatFloat(fill(p.Look), 'f', 3, 64) }

// Undoes names what an undo takes back.
func (p roomPage) Undoes() string {
	if p.Last == nil {
		return ""
	}
	return p.Last.What()
}

func (u *UI) historyCSV(w http.ResponseWriter, r *http.Request) {
	room := r.PathValue("room")
	if _, err := u.known(r.Context(), room); err != nil {
		u.fail(w, r, err)
		return
	}
	head := []string{"time"}
	var all []series
	for _, c := range charts() {
		for _, s := range c.Series {
			head, all = append(head, s.Key), append(all, s)
		}
	}
	rows := [][]string{head}
	for _, p := range u.Desk.Points(room, time.Now().Add(-desk.Keep*time.Second)) {
		cells := []string{time.Unix(p.At, 0).UTC().Format(time.RFC3339)}
		for _, s := range all {
			v := float64(s.of(p))
			cell := ""
			if !math.IsNaN(v) {
				cell = strconv.FormatFloat(math.Round(v*1000)/1000, 'f', -1, 64)
			}
			cells = append(cells, cell)
		}
		rows = append(rows, cells)
	}
	u.csv(w, r, room+"-history.csv", rows)
}

func (u *UI) csv(w http.ResponseWriter, r *http.Request, name string, rows [][]string) {
	h := w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
	out := csv.NewWriter(w)
	if err := out.WriteAll(rows); err != nil {
		u.Log.DebugContext(r.Context(), "console: export not read to its end", "err", err)
	}
}
