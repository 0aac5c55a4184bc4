package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/stanchion-queue/stanchion/admin/access"
	"github.com/stanchion-queue/stanchion/admin/desk"
	"github.com/stanchion-queue/stanchion/admin/problem"
)

type group struct {
	Name   string
	Fields []control
}

type settingsPage struct {
	Room     string
	Version  string
	Groups   []group
	Document string
	Reason   string
	Preview  *desk.Preview
	Problem  *problem.Details
	History  []desk.Entry
	Whole    bool // the document's form was used
}

// editable are the fields of the form: all but the mode, which actions set, and secrets, which are not shown.
func (u *UI) editable() []desk.Field {
	var out []desk.Field
	for _, f := range u.Desk.Fields() {
		if f.Key != desk.ModeKey && !f.Secret {
			out = append(out, f)
		}
	}
	return out
}

func (u *UI) settingsPage(ctx context.Context, room string, typed url.Values) (settingsPage, error) {
	doc, err := u.Desk.Settings(ctx, room)
	if err != nil {
		return settingsPage{}, err
	}
	values, err := desk.Values(doc.JSON)
	if err != nil {
		return settingsPage{}, err
	}
	history, err := u.Desk.History(ctx, room, 20)
	if err != nil {
		return settingsPage{}, err
	}
	p := settingsPage{Room: room, Version: doc.Version, Reason: typed.Get("reason"), Whole: typed.Has("document"), History: history, Document: typed.Get("document")}
	if p.Document == "" {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, doc.JSON, "", "  "); err != nil {
			return settingsPage{}, err
		}
		p.Document = pretty.String()
	}
	for _, f := range u.editable() {
		name, _, nested := strings.Cut(f.Key, ".")
		if !nested {
			name = "room"
		}
		c := control{Field: f, Label: f.Key, Now: values[f.Key], Typed: values[f.Key]}
		switch {
		case typed.Has(f.Key):
			c.Typed = typed.Get(f.Key)
			if _, wrong := f.Parse(c.Typed); wrong != nil {
				c.Wrong = wrong.Want
			}
		case typed.Has("has:" + f.Key):
			c.Typed = "false"
		}
		i := slices.IndexFunc(p.Groups, func(g group) bool { return g.Name == name })
		if i < 0 {
			i = len(p.Groups)
			p.Groups = append(p.Groups, group{Name: name})
		}
		p.Groups[i].Fields = append(p.Groups[i].Fields, c)
	}
	return p, nil
}

func (u *UI) settings(w http.ResponseWriter, r *http.Request) {
	u.showSettings(w, r, http.StatusOK, nil, nil)
}

func (u *UI) showSettings(w http.ResponseWriter, r *http.Request, status int, preview *desk.Preview, d *problem.Details) {
	room := r.PathValue("room")
	p, err := u.settingsPage(r.Context(), room, r.PostForm)
	if err != nil {
		u.fail(w, r, err)
		return
	}
	p.Preview, p.Problem = preview, d
	u.render(w, r, status, "settings", "Settings · "+room, p)
}

func (u *UI) postSettings(w http.ResponseWriter, r *http.Request) {
	room := r.PathValue("room")
	ctx, who, form := r.Context(), access.From(r.Context()).Who, r.PostForm
	refuse := func(err error) {
		d := u.explain(ctx, err)
		u.showSettings(w, r, d.Status, nil, d)
	}
	doc := []byte(form.Get("document"))
	if !form.Has("document") {
		e, err := edits(form, u.editable())
		if err != nil {
			refuse(err)
			return
		}
		cur, err := u.Desk.Settings(ctx, room)
		if err == nil {
			doc, err = desk.Edit(cur.JSON, e)
		}
		if err != nil {
			refuse(err)
			return
		}
	}
	preview, err := u.Desk.Preview(ctx, room, doc)
	if err != nil {
		refuse(err)
		return
	}
	if form.Get("do") == "preview" || preview.Danger && form.Get("confirmed") != "yes" {
		u.showSettings(w, r, http.StatusOK, &preview, nil)
		return
	}
	done, err := u.Desk.Put(ctx, room, doc, form.Get("version"), who, form.Get("reason"))
	if err != nil {
		refuse(err)
		return
	}
	u.done(w, r, room, done)
}
