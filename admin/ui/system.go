package ui

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/stanchion-queue/stanchion/admin/access"
	"github.com/stanchion-queue/stanchion/admin/desk"
	"github.com/stanchion-queue/stanchion/admin/problem"
)

type homeRoom struct {
	Room string
	W    map[string]string
	Tone string
}

type homePage struct {
	Rooms            []homeRoom
	Hold, Refreshing bool
}

func (u *UI) home(w http.ResponseWriter, r *http.Request) {
	names, err := u.Desk.Names(r.Context())
	if err != nil {
		u.fail(w, r, err)
		return
	}
	var p homePage
	for _, name := range names {
		l, err := u.known(r.Context(), name)
		if errors.Is(err, desk.ErrNoRoom) {
			continue // removed in between
		} else if err != nil {
			u.fail(w, r, err)
			return
		}
		p.Rooms = append(p.Rooms, homeRoom{name, words(l), tone(l)})
	}
	p.Hold, p.Refreshing = live(w, r)
	u.render(w, r, http.StatusOK, "home", "Rooms", p)
}

type fleetEdge struct {
	desk.Edge
	Stale bool
}

type fleetPage struct {
	Edges            []fleetEdge
	ReadAt           time.Time
	Error            string
	Hold, Refreshing bool
}

// edgeStaleAfter is how long an edge may be silent before its row greys out; edges report each second at least.
const edgeStaleAfter = 3 * time.Second

func (u *UI) fleet(w http.ResponseWriter, r *http.Request) {
	edges, at, err := u.Desk.Edges()
	p := fleetPage{ReadAt: at}
	if err != nil {
		p.Error = "The room store does not answer; this is what was last known."
	}
	for _, e := range edges {
		p.Edges = append(p.Edges, fleetEdge{e, at.Sub(e.SeenAt) > edgeStaleAfter})
	}
	p.Hold, p.Refreshing = live(w, r)
	u.render(w, r, http.StatusOK, "fleet", "Fleet", p)
}

type limitRow struct {
	desk.Limit
	UsedText string
}

func (u *UI) limits(w http.ResponseWriter, r *http.Request) {
	list, err := u.Desk.Limits(r.Context())
	if err != nil {
		u.fail(w, r, err)
		return
	}
	rows := make([]limitRow, len(list))
	for i, l := range list {
		rows[i].Limit = l
		if l.Used != nil {
			rows[i].UsedText = strconv.FormatFloat(*l.Used, 'f', -1, 64)
			if *l.Used != float64(int64(*l.Used)) {
				rows[i].UsedText = strconv.FormatFloat(*l.Used, 'f', 2, 64)
			}
		}
	}
	u.render(w, r, http.StatusOK, "limits", "Limits", rows)
}

const auditRows = 200

type auditPage struct {
	Rooms   []string
	Room    string
	Query   string
	Entries []desk.Entry
	Total   int
	Export  string
}

func (u *UI) auditPage(r *http.Request) (auditPage, error) {
	names, err := u.Desk.Names(r.Context())
	if err != nil {
		return auditPage{}, err
	}
	query := r.URL.Query()
	p := auditPage{Rooms: names, Room: query.Get("room"), Query: query.Get("q"), Export: "/audit.csv?" + query.Encode()}
	var all []desk.Entry
	if p.Room != "" {
		all, err = u.Desk.History(r.Context(), p.Room, auditRows)
	} else {
		all, err = u.Desk.Audit(r.Context(), auditRows)
	}
	if err != nil {
		return auditPage{}, err
	}
	p.Total = len(all)
	for _, e := range all {
		if has(e, p.Query) {
			p.Entries = append(p.Entries, e)
		}
	}
	return p, nil
}

func has(e desk.Entry, query string) bool {
	query = strings.ToLower(strings.TrimSpace(query))
	text := []string{e.Room, e.Who, e.Why, e.Version}
	for _, c := range e.Changes {
		text = append(text, c.Key, c.From, c.To)
	}
	return strings.Contains(strings.ToLower(strings.Join(text, "\n")), query)
}

func (u *UI) audit(w http.ResponseWriter, r *http.Request) {
	p, err := u.auditPage(r)
	if err != nil {
		u.fail(w, r, err)
		return
	}
	u.render(w, r, http.StatusOK, "audit", "Changes", p)
}

func (u *UI) auditCSV(w http.ResponseWriter, r *http.Request) {
	p, err := u.auditPage(r)
	if err != nil {
		u.fail(w, r, err)
		return
	}
	rows := [][]string{{"time", "room", "version", "who", "why", "key", "from", "to"}}
	for _, e := range p.Entries {
		head := []string{e.At.Format("2006-01-02T15:04:05.000Z"), e.Room, plain(e.Version), plain(e.Who), plain(e.Why)}
		if len(e.Changes) == 0 {
			rows = append(rows, append(head, "", "", ""))
		}
		for _, c := range e.Changes {
			rows = append(rows, append(head[:5:5], plain(c.Key), plain(c.From), plain(c.To)))
		}
	}
	u.csv(w, r, "changes.csv", rows)
}

// plain keeps a spreadsheet from taking somebody's text for a formula.
func plain(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

type youPage struct {
	Link    string
	Problem *problem.Details
	Saved   bool
	MaxName int
}

func (u *UI) you(w http.ResponseWriter, r *http.Request) {
	u.render(w, r, http.StatusOK, "you", "You", youPage{Saved: r.URL.Query().Has("saved"), MaxName: access.MaxName})
}

func (u *UI) postYou(w http.ResponseWriter, r *http.Request) {
	if !u.Gate.Name(access.From(r.Context()), r.PostForm.Get("name")) {
		d := problem.New(http.StatusUnprocessableEntity, "invalid", "That name cannot be kept", "A name has at most "+strconv.Itoa(access.MaxName)+" printable characters.")
		u.render(w, r, d.Status, "you", "You", youPage{Problem: d, MaxName: access.MaxName})
		return
	}
	http.Redirect(w, r, "/you?saved", http.StatusSeeOther)
}

func (u *UI) postLink(w http.ResponseWriter, r *http.Request) {
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	u.render(w, r, http.StatusOK, "you", "You", youPage{Link: scheme + r.Host + u.Gate.NewLink(), MaxName: access.MaxName})
}
