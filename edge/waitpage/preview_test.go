package waitpage

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func TestPreviewHandler(t *testing.T) {
	pages, err := New("/preview")
	if err != nil {
		t.Fatal(err)
	}
	h := pages.PreviewHandler(func(room string) (Previewed, bool) {
		p := Previewed{Title: "The Gala", Organiser: "City Opera", Brand: Brand{Accent: "#7a1030"}}
		if room == "pale" {
			p.Brand.Accent = "#ffff00"
		}
		return p, room != "nowhere"
	})
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Accept-Language", "nl")
		h.ServeHTTP(w, r)
		return w
	}
	for _, s := range Previews() {
		w := get("/rooms/onsale/preview/" + string(s))
		if w.Code != 200 || w.Header().Get("Content-Security-Policy") != CSP || !strings.Contains(w.Body.String(), `lang="nl"`) || strings.Contains(w.Body.String(), "<script") {
			t.Fatalf("%s: %d %s", s, w.Code, w.Body)
		}
		for _, link := range regexp.MustCompile(`"(/preview/assets/[^"]+)"`).FindAllStringSubmatch(w.Body.String(), -1) {
			if a := get(link[1]); a.Code != 200 || !strings.Contains(a.Body.String(), "#7a1030") {
				t.Fatalf("%s: %d", link[1], a.Code)
			}
		}
	}
	if w := get("/rooms/onsale/preview/waiting?lang=de"); !strings.Contains(w.Body.String(), `lang="de"`) {
		t.Error("the language was not followed")
	}
	for path, want := range map[string]int{"/rooms/nowhere/preview/waiting": 404, "/rooms/onsale/preview/nonsense": 404, "/rooms/pale/preview/waiting": 422, "/preview/assets/x.js": 404} {
		if w := get(path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}
