package edge

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// TestRedirectsLeadBackThroughTheEdge: an origin that names its own address in a redirect does not lead clients around the
// edge; all other redirects pass as they are.
func TestRedirectsLeadBackThroughTheEdge(t *testing.T) {
	var to string
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}, func(o *Options) { o.TrustedHops = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	origin := strings.TrimPrefix(r.origin.URL, "http://")
	_, port, _ := strings.Cut(origin, ":")
	for _, k := range []struct{ to, want string }{
		{"http://" + origin + "/dir/?a=1", "http://tickets.example:8080/dir/?a=1"},
		{"HTTP://" + origin, "http://tickets.example:8080"},
		{"http://Tickets.example:" + port + "/dir/", "http://tickets.example:8080/dir/"},
		{"http://tickets.example:8080/dir/", "http://tickets.example:8080/dir/"},
		{"https://tickets.example:8080/", "https://tickets.example:8080/"},
		{"http://other.example:" + port + "/", "http://other.example:" + port + "/"},
		{"https://pay.example/x?back=http://" + origin, "https://pay.example/x?back=http://" + origin},
		{"/login?next=/", "/login?next=/"},
		{"//elsewhere.example/", "//elsewhere.example/"},
		{"mailto:a@b.example", "mailto:a@b.example"},
	} {
		to = k.to
		if got := r.ask("GET", "/free", nil, "Host", "tickets.example:8080").Header.Get("Location"); got != k.want {
			t.Errorf("%s: %s, want %s", k.to, got, k.want)
		}
	}
	to = "http://" + origin + "/a"
	if got := r.ask("GET", "/free", nil, "Host", "inner", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "tickets.example").Header.Get("Location"); got != "https://tickets.example/a" {
		t.Errorf("behind a trusted hop: %s", got)
	}
}
