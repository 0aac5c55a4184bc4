package health

import (
	"encoding/json"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options configures NewHandler. All fields are needed.
type Options struct {
	Board    *Board
	Gatherer prometheus.Gatherer
	Config   func() ([]byte, error) // effective configuration as YAML, secrets masked
	Digest   func() string          // of that configuration
	Version  string
	Logger   *slog.Logger
}

// NewHandler serves the operations endpoints.
func NewHandler(o Options) http.Handler {
	h := &handler{Options: o, started: time.Now()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/debug/", http.StatusFound) })
	mux.HandleFunc("GET /healthz", h.healthz)
	mux.HandleFunc("GET /readyz", h.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4}))
	mux.HandleFunc("GET /config", h.config)
	mux.HandleFunc("GET /debug/{$}", h.index)
	mux.HandleFunc("GET /debug/{table}", h.table)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		mux.ServeHTTP(w, r)
	})
}

type handler struct {
	Options
	started time.Time
}

// healthz says that the process lives and can answer; nothing it depends on is asked.
func (h *handler) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "ok\nversion %s\nup %.0f s\n", h.Version, time.Since(h.started).Seconds())
}

func (h *handler) readyz(w http.ResponseWriter, r *http.Request) {
	ready := h.Board.Readiness(r.Context())
	status := http.StatusOK
	if !ready.Ready {
		status = http.StatusServiceUnavailable
	}
	if strings.Contains(r.Header.Get("Accept"), "json") || r.URL.Query().Get("format") == "json" {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(ready); err != nil {
			h.Logger.Debug("write readiness", slog.Any("error", err))
		}
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprint(w, ready)
}

// String is the readiness for people: what is not well first, one part a line.
func (r Readiness) String() string {
	var b strings.Builder
	word := "not ready"
	if r.Ready {
		word = "ready"
	}
	fmt.Fprintf(&b, "%s (%s)\n", word, r.Phase)
	for _, state := range []State{Failed, Degraded, OK} {
		for _, p := range r.Parts {
			if p.State != state {
				continue
			}
			fmt.Fprintf(&b, "%-8s %s", p.State, p.Name)
			if p.Message != "" {
				fmt.Fprintf(&b, ": %s", strings.Join(strings.Fields(p.Message), " "))
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func (h *handler) config(w http.ResponseWriter, _ *http.Request) {
	text, err := h.Config()
	if err != nil {
		h.Logger.Error("show configuration", slog.Any("error", err))
		http.Error(w, "cannot show the configuration; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "# digest: %s\n%s", h.Digest(), text)
}

// page is one of the /debug/ pages.
type page struct {
	Title string
	Lines []string
	Links []string
	Table *Table
	Error string
}

var pages = template.Must(template.New("debug").Parse(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.Title}}</title><style>:root{color-scheme:light dark}body{font:14px/20px system-ui;margin:16px}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid #8886;vertical-align:top}</style>
<h1>{{.Title}}</h1>{{range .Lines}}<p>{{.}}</p>{{end}}{{with .Error}}<p role="alert">{{.}}</p>{{end}}
{{with .Links}}<ul>{{range .}}<li><a href="{{.}}">{{.}}</a></li>{{end}}</ul>{{end}}
{{with .Table}}<table><thead><tr>{{range .Columns}}<th scope="col">{{.}}</th>{{end}}</tr></thead><tbody>{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>{{else}}<tr><td>nothing</td></tr>{{end}}</tbody></table>{{end}}
</html>
`))

func (h *handler) show(w http.ResponseWriter, p page) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if p.Error != "" {
		w.WriteHeader(http.StatusInternalServerError)
	}
	if err := pages.Execute(w, p); err != nil {
		h.Logger.Debug("write debug page", slog.Any("error", err))
	}
}

func (h *handler) index(w http.ResponseWriter, r *http.Request) {
	p := page{Title: "Stanchion " + h.Version, Lines: []string{
		"Up " + time.Since(h.started).Round(time.Second).String() + ", configuration " + h.Digest()}}
	for _, name := range h.Board.tableNames() {
		p.Links = append(p.Links, "/debug/"+name)
	}
	p.Links = append(p.Links, "/healthz", "/readyz", "/metrics", "/config", "/debug/pprof/")
	t := Table{Columns: []string{"part", "state", "message"}}
	for _, part := range h.Board.Readiness(r.Context()).Parts {
		t.Rows = append(t.Rows, []string{part.Name, string(part.State), part.Message})
	}
	p.Table = &t
	h.show(w, p)
}

func (h *handler) table(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("table")
	make, ok := h.Board.table(name)
	if !ok {
		http.NotFound(w, r)
		return
	}
	t, err := make(r.Context())
	if err != nil {
		h.show(w, page{Title: name, Error: err.Error()})
		return
	}
	h.show(w, page{Title: name, Links: []string{"/debug/"}, Table: &t})
}
