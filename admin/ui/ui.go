// Package ui is the console's pages: a list of rooms, one dense page a room with charts and controls, the fleet, the limits and the
// log of changes.
//
// Every page is complete as the server sends it: reading, the emergency stop and every setting work without JavaScript, by plain
// forms and a Refresh header. One script makes them live. Whatever a chart shows is also in a table; whatever the script writes, the
// server has put into words.
package ui

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/stanchion-queue/stanchion/admin/access"
	"github.com/stanchion-queue/stanchion/admin/desk"
	"github.com/stanchion-queue/stanchion/admin/problem"
)

//go:embed pages/*.html
var pageFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// AssetPrefix is where style and script lie; they are the same for everybody and need no session.
const AssetPrefix = "/static/"

// MaxFormBytes bounds a posted form.
const MaxFormBytes = 64 << 10

// refreshS is how often a page asks for itself without JavaScript.
const refreshS = 10

// scriptCookie says that the script runs, so that no Refresh header is needed. The script sets it.
const scriptCookie = "stanchion-console-js"

// Options are what the pages are built from.
type Options struct {
	Desk    *desk.Desk
	Stop    <-chan struct{} // closed when streams must end
	Version string
	Log     *slog.Logger
}

// UI serves the pages. Safe for concurrent use.
type UI struct {
	Options
	Gate   *access.Gate // set before the first request
	pages  map[string]*template.Template
	assets map[string]asset  // by hashed name
	hashed map[string]string // plain name -> path
	mux    *http.ServeMux
}

type asset struct {
	body        []byte
	contentType string
}

// New parses the pages.
func New(o Options) (*UI, error) {
	u := &UI{Options: o, pages: map[string]*template.Template{}, assets: map[string]asset{}, hashed: map[string]string{}, mux: http.NewServeMux()}
	if err := u.loadAssets(); err != nil {
		return nil, err
	}
	if err := u.loadPages(); err != nil {
		return nil, err
	}
	u.mux.HandleFunc("GET /{$}", u.home)
	u.mux.HandleFunc("GET /rooms/{room}", u.room)
	u.mux.HandleFunc("GET /rooms/{room}/feed", u.feed)
	u.mux.HandleFunc("GET /rooms/{room}/history.csv", u.historyCSV)
	u.mux.HandleFunc("POST /rooms/{room}/set", u.postSet)
	u.mux.HandleFunc("POST /rooms/{room}/undo", u.postUndo)
	u.mux.HandleFunc("GET /rooms/{room}/actions/{action}", u.confirm)
	u.mux.HandleFunc("POST /rooms/{room}/actions/{action}", u.postAction)
	u.mux.HandleFunc("GET /rooms/{room}/settings", u.settings)
	u.mux.HandleFunc("POST /rooms/{room}/settings", u.postSettings)
	u.mux.HandleFunc("GET /fleet", u.fleet)
	u.mux.HandleFunc("GET /limits", u.limits)
	u.mux.HandleFunc("GET /audit", u.audit)
	u.mux.HandleFunc("GET /audit.csv", u.auditCSV)
	u.mux.HandleFunc("GET /you", u.you)
	u.mux.HandleFunc("POST /you", u.postYou)
	u.mux.HandleFunc("POST /links", u.postLink)
	u.mux.HandleFunc("GET "+AssetPrefix+"{name}", u.static)
	u.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		u.Refuse(w, r, problem.New(http.StatusNotFound, "not-found", "There is no such page", "All rooms are on the first page."))
	})
	return u, nil
}

// ServeHTTP implements http.Handler.
func (u *UI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, MaxFormBytes)
		if err := r.ParseForm(); err != nil {
			u.Refuse(w, r, problem.New(http.StatusBadRequest, "malformed", "The form could not be read", "Go back and try again."))
			return
		}
	}
	u.mux.ServeHTTP(w, r)
}

func (u *UI) loadAssets() error {
	types := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	return fs.WalkDir(assetFiles, "assets", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := assetFiles.ReadFile(p)
		if err != nil {
			return fmt.Errorf("read asset: %w", err)
		}
		sum := sha256.Sum256(body)
		ext := path.Ext(p)
		hashed := strings.TrimSuffix(path.Base(p), ext) + "." + hex.EncodeToString(sum[:6]) + ext
		u.assets[hashed] = asset{body, types[ext]}
		u.hashed[path.Base(p)] = AssetPrefix + hashed
		return nil
	})
}

func (u *UI) static(w http.ResponseWriter, r *http.Request) {
	a, ok := u.assets[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
}

func (u *UI) loadPages() error {
	funcs := template.FuncMap{
		"asset": func(name string) (string, error) {
			p, ok := u.hashed[name]
			if !ok {
				return "", fmt.Errorf("no asset %q", name)
			}
			return p, nil
		},
		"iso":   func(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") },
		"clock": func(t time.Time) string { return t.UTC().Format("15:04:05") + " UTC" },
		"day":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") + " UTC" },
		"count": desk.Count,
		"phase": desk.PhaseName,
		"since": func(t time.Time) string { return desk.Span(max(0, time.Since(t))) + " ago" },
	}
	layout, err := template.New("layout.html").Funcs(funcs).ParseFS(pageFiles, "pages/layout.html")
	if err != nil {
		return fmt.Errorf("parse layout: %w", err)
	}
	names, err := fs.Glob(pageFiles, "pages/*.html")
	if err != nil {
		return fmt.Errorf("list pages: %w", err)
	}
	for _, p := range names {
		name := strings.TrimSuffix(path.Base(p), ".html")
		if name == "layout" {
			continue
		}
		t, err := layout.Clone()
		if err == nil {
			t, err = t.ParseFS(pageFiles, p)
		}
		if err != nil {
			return fmt.Errorf("parse page %s: %w", name, err)
		}
		u.pages[name] = t
	}
	return nil
}

// page is what every page is given.
type page struct {
	Title    string
	Here     string // path, for the menu
	Version  string
	Operator access.Operator
	Data     any
}

func (u *UI) render(w http.ResponseWriter, r *http.Request, status int, name, title string, data any) {
	var out bytes.Buffer
	p := page{Title: title, Here: r.URL.Path, Version: u.Version, Operator: access.From(r.Context()), Data: data}
	if err := u.pages[name].ExecuteTemplate(&out, "layout", p); err != nil {
		u.Log.ErrorContext(r.Context(), "console: page failed", "page", name, "err", err)
		http.Error(w, "The page could not be made.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // the reader is gone when this fails
}

// live lets a page refresh itself where no script does it. hold: the reader asked to be left alone, to type.
func live(w http.ResponseWriter, r *http.Request) (hold, refreshing bool) {
	if _, err := r.Cookie(scriptCookie); err == nil {
		return false, false
	}
	if r.URL.Query().Has("hold") {
		return true, false
	}
	w.Header().Set("Refresh", fmt.Sprint(refreshS))
	return false, true
}

// Refuse writes a page that says no, or that something is done and where to go on.
func (u *UI) Refuse(w http.ResponseWriter, r *http.Request, d *problem.Details) {
	d.Header(w.Header())
	u.render(w, r, d.Status, "message", d.Title, d)
}

// fail writes what an error means, and logs what the operator is not told.
func (u *UI) fail(w http.ResponseWriter, r *http.Request, err error) {
	u.Refuse(w, r, u.explain(r.Context(), err))
}

func (u *UI) explain(ctx context.Context, err error) *problem.Details {
	d := problem.From(err)
	if d.Internal() {
		u.Log.ErrorContext(ctx, "console: request failed", "err", err)
	}
	return d
}
