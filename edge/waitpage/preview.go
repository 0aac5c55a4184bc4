package waitpage

import (
	"bytes"
	"net/http"
	"strings"
	"time"
)

// Previewed is what a preview shows of a room.
type Previewed struct {
	Title, Organiser string
	Brand            Brand
}

// PreviewHandler serves GET /rooms/{room}/preview/{state}, with ?lang= for another language than the reader's, and the assets of these pages
// under the prefix that Pages were made with. lookup finds a room by name. A brand that fans would not get is answered by 422 and its faults,
// a room or state there is not by 404. Whoever mounts it says who may look.
func (p *Pages) PreviewHandler(lookup func(room string) (Previewed, bool)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rooms/{room}/preview/{state}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("room")
		room, ok := lookup(name)
		if !ok {
			http.NotFound(w, r)
			return
		}
		if err := p.SetBrand(name, room.Brand); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		var page bytes.Buffer
		lang := p.Language(r.URL.Query().Get("lang"), r.Header.Get("Accept-Language"))
		if err := p.Preview(&page, State(r.PathValue("state")), name, room.Title, room.Organiser, lang, time.Now()); err != nil {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", CSP)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(page.Bytes())
	})
	mux.HandleFunc("GET "+p.prefix+"/assets/{name}", func(w http.ResponseWriter, r *http.Request) {
		a, ok := p.Asset(r.PathValue("name"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", a.ContentType)
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("X-Content-Type-Options", "nosniff")
		body := a.Body
		if len(a.Gzip) > 0 && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			body = a.Gzip
		}
		h.Set("Vary", "Accept-Encoding")
		_, _ = w.Write(body)
	})
	return mux
}
