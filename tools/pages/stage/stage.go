// Package stage is a real edge before a waiting room that a test plays: it says what the room does, and a browser sees the fan's page as a
// fan would. Tickets, ledger, record and draw are genuine, so that the page can check them.
package stage

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/edge"
	"github.com/stanchion-queue/stanchion/edge/waitpage"
	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// Scene is what the room does; the zero value of a field leaves it out. It is also the body of POST /control.
type Scene struct {
	Phase     line.Phase       `json:"phase"`
	Called    uint64           `json:"called"`
	PerSecond float64          `json:"per_second"`
	Cause     string           `json:"cause"`
	Message   string           `json:"message"`
	OpensInMs int64            `json:"opens_in_ms"`
	Drawn     bool             `json:"drawn"`  // the draw's value is public
	Lie       bool             `json:"lie"`    // places are told that do not follow from the record
	Refuse    line.RefusalCode `json:"refuse"` // what claims are refused with
	Join      line.RefusalCode `json:"join"`   // what joins are refused with
	Place     line.RefusalCode `json:"place"`
	Raw       string           `json:"raw"` // takes the place of the status object
	MinMs     int64            `json:"min_ms"`
	MaxMs     int64            `json:"max_ms"`
	Lobby     bool             `json:"lobby"` // new tickets are of the lobby
	Stale     bool             `json:"stale"`
	Sample    bool             `json:"sample"`
}

// Stage is a running edge with its room.
type Stage struct {
	URL   string // of the edge; /gala is in the room, /control changes the scene
	stop  func()
	keys  *pass.Keys
	ring  *line.Tickets
	start time.Time

	mu      sync.Mutex
	scene   Scene
	version uint64
	made    time.Time // when the scene was set
	seq     uint32
	joins   int

	record  []byte
	result  line.DrawResult
	opening line.Opening
	ledger  line.Ledger
}

var id = line.ID{0xa1, 0xb2, 0xc3}

const (
	lobbyWindows = 100
	perWindow    = 200 // tickets in each window of the ledger
	windows      = 700
	announced    = "12 17 23 31 40 44"
)

// Start begins with an open lobby's successor: a line that waits.
func Start() (*Stage, error) {
	s := &Stage{start: time.Now()}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	s.Set(Scene{Phase: line.PhaseWaiting, Called: 1200, PerSecond: 4, MinMs: 1000, MaxMs: 2000})
	origin := httptest.NewServer(http.HandlerFunc(s.origin))
	ctx, cancel := context.WithCancel(context.Background())
	e, err := edge.New(edge.Options{
		Address:    "127.0.0.1:0",
		Routes:     []edge.Route{{Paths: []string{"/gala", "/gala/*"}, Upstream: "shop", Room: "onsale", Priority: edge.PriorityDefault}, {Paths: []string{"/*"}, Upstream: "shop", Priority: edge.PriorityDefault}},
		Upstreams:  map[string]edge.Upstream{"shop": {Targets: []string{origin.URL}}},
		Rooms:      map[string]edge.RoomOptions{"onsale": {Room: room{s}, Entry: "/gala", Title: "The Gala", Organiser: "City Opera"}},
		Passes:     s.keys.Verifier(),
		JWKS:       s.keys.JWKS,
		Logger:     slog.New(slog.NewTextHandler(io.Discard, nil)),
		Registerer: prometheus.NewRegistry(),
		Limits:     edge.Limits{JoinPerSecond: 1000},
	})
	if err != nil {
		cancel()
		origin.Close()
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	s.URL = "http://" + e.Addr().String()
	s.stop = func() {
		cancel()
		<-done
		origin.Close()
	}
	return s, e.SetBrand("members", waitpage.Brand{})
}

// Close stops the edge and the origin.
func (s *Stage) Close() { s.stop() }

// Set changes the scene.
func (s *Stage) Set(sc Scene) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scene, s.made = sc, time.Now()
	s.version++
}

func (s *Stage) prepare() error {
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	if s.keys, err = pass.NewKeys(pass.Key{Private: priv}); err != nil {
		return err
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	if s.ring, err = line.NewTickets("onsale", line.TicketKey{KID: 1, Secret: secret}); err != nil {
		return err
	}
	epoch := s.start.Add(-time.Hour).UnixMilli()
	rec := line.Record{
		Version: 1, Room: "onsale", Line: id, EpochMs: epoch, OpensAtMs: epoch + lobbyWindows*line.WindowMs, Lanes: []line.LaneSpec{{Name: "general", Weight: 1}},
		Draw: line.Draw{Kind: line.DrawAnnounced, Source: "the lottery", DueAt: epoch + lobbyWindows*line.WindowMs + 60_000},
	}
	signed, err := line.SignRecord(priv, rec)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(announced))
	s.result = line.DrawResult{Value: hex.EncodeToString(sum[:]), Proof: announced}
	opened, err := (line.Published{Record: signed}).Open()
	if err != nil {
		return err
	}
	if s.opening, err = opened.Opening(&s.result); err != nil {
		return err
	}
	counts := make([]uint64, windows)
	for i := range counts {
		counts[i] = perWindow
	}
	s.ledger = s.ledger.Append(counts...)
	s.record, err = json.Marshal(line.Published{Record: signed, Result: &s.result, Sealed: windows, Totals: []uint64{s.ledger.Total()}, Lobby: []uint64{lobbyWindows * perWindow}})
	return err
}

// origin is the shop, and the test's way to change the scene.
func (s *Stage) origin(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/control" {
		var sc Scene
		if err := json.NewDecoder(r.Body).Decode(&sc); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.Set(sc)
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]int{"joins": s.joins})
		return
	}
	if r.URL.Path == "/robots.txt" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/html")
	_, _ = fmt.Fprintf(w, "<!doctype html><title>Shop</title><h1>The shop</h1>")
}

// room plays the waiting room.
type room struct{ s *Stage }

// View implements edge.Room.
func (r room) View() *line.View {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	sc := s.scene
	opens := s.made.Add(time.Duration(sc.OpensInMs) * time.Millisecond).UTC()
	st := line.Status{
		Room: "onsale", Line: id, Phase: sc.Phase, ServerTime: time.Now().UTC().Truncate(time.Millisecond), OpensAt: &opens, Version: s.version, Message: sc.Message,
		Lanes: []line.LaneStatus{{Name: "general", Called: sc.Called, Total: s.ledger.Total(), LobbyCount: lobbyWindows * perWindow, PerMinute: sc.PerSecond * 60,
			ETA: line.ETA{Kind: line.ETAVelocity, PerSecond: sc.PerSecond, Low: 0.85, High: 1.2, Cause: sc.Cause}}},
		Draw: &line.DrawStatus{Kind: line.DrawAnnounced}, Poll: line.Poll{MinMs: sc.MinMs, MaxMs: sc.MaxMs, Spread: 0.2},
	}
	if sc.Drawn {
		st.Draw.Value = s.result.Value
	}
	raw, err := json.Marshal(st)
	if err != nil {
		raw = []byte("{}")
	}
	if sc.Raw != "" {
		raw = []byte(sc.Raw)
	}
	return &line.View{Room: "onsale", Line: id, Phase: sc.Phase, Open: sc.Phase == line.PhaseOpen, Stale: sc.Stale, Status: st, StatusRaw: raw, ETag: fmt.Sprintf(`W/"%d"`, time.Now().UnixMilli())}
}

// Join implements edge.Room.
func (r room) Join(ctx context.Context, req line.JoinRequest) (line.Place, error) {
	s := r.s
	s.mu.Lock()
	refuse := s.scene.Join
	if req.Ticket == "" && refuse == "" {
		s.joins++
		s.seq++
		// All who come now have the same place: the test compares numbers.
		win, seq := line.Window(300), uint32(2)
		if s.scene.Lobby {
			win, seq = 50, s.seq
		}
		who := line.Who{}
		who[15] = byte(s.seq)
		req.Ticket = s.ring.Issue(line.Ticket{Line: id, Stamp: line.Stamp{Win: win, Inc: 77, Seq: seq}, Who: who, IssuedAt: uint32(s.start.Unix()), Rank: line.NoRank}) //nolint:gosec // a time of today
	}
	s.mu.Unlock()
	if refuse != "" {
		return line.Place{}, &line.Refusal{Code: refuse, Detail: "As the test wants it."}
	}
	return r.Place(ctx, req.Ticket)
}

// Place implements edge.Room.
func (r room) Place(_ context.Context, ticket string) (line.Place, error) {
	s := r.s
	t, err := s.ring.Parse(ticket)
	if err != nil {
		return line.Place{}, &line.Refusal{Code: line.RefusedTicket, Detail: "The ticket is not valid."}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.scene.Place != "" {
		return line.Place{}, &line.Refusal{Code: s.scene.Place, Detail: "As the test wants it."}
	}
	p := line.Place{Ticket: ticket, State: line.StateWaiting, Lane: "general", Sample: s.scene.Sample}
	o := s.opening
	o.Drawn = s.scene.Drawn
	if t.Stamp.Win < o.LobbyEnd && (s.scene.Phase == line.PhaseLobby || s.scene.Phase == line.PhaseDrawing) {
		p.State = line.StateLobby
		return p, nil
	}
	if p.Rank, p.Known = line.Rank(o, s.ledger, t.Stamp, t.Who); !p.Known {
		return p, nil
	}
	if s.scene.Lie {
		p.Rank += 5
	}
	if p.Rank < s.scene.Called {
		p.State = line.StateCalled
	} else {
		p.Ahead = p.Rank - s.scene.Called
	}
	return p, nil
}

func (s *Stage) grant() (line.Grant, error) {
	now := time.Now().Truncate(time.Second)
	g := line.Grant{Session: line.SessionID{7}, ExpiresAt: now.Add(2 * time.Minute), StayUntil: now.Add(15 * time.Minute)}
	var err error
	g.Pass, err = s.keys.Sign(pass.Claims{Issuer: "stanchion", Room: "onsale", Session: g.Session.String(), Line: id.String(), Home: "e", IssuedAt: now, NotBefore: now, ExpiresAt: g.ExpiresAt, StayUntil: g.StayUntil})
	return g, err
}

// Enter implements edge.Room.
func (r room) Enter(context.Context, string) (line.Grant, error) {
	return line.Grant{}, &line.Refusal{Code: line.RefusedNotOpen}
}

// Claim implements edge.Room.
func (r room) Claim(ctx context.Context, req line.ClaimRequest) (line.Grant, line.Place, error) {
	p, err := r.Place(ctx, req.Ticket)
	if err != nil {
		return line.Grant{}, p, err
	}
	r.s.mu.Lock()
	refuse := r.s.scene.Refuse
	r.s.mu.Unlock()
	switch {
	case refuse == line.RefusedSpent || refuse == line.RefusedHolder:
		return line.Grant{}, p, &line.Refusal{Code: refuse}
	case refuse != "":
		return line.Grant{}, p, &line.Refusal{Code: refuse, RetryAfter: 500 * time.Millisecond}
	case p.State != line.StateCalled:
		return line.Grant{}, p, &line.Refusal{Code: line.RefusedEarly, Ahead: p.Ahead, RetryAfter: time.Second}
	}
	g, err := r.s.grant()
	return g, p, err
}

// Use implements edge.Room.
func (r room) Use(pass.Claims, time.Time) line.Use { return line.Use{Alive: true} }

// Leave implements edge.Room.
func (r room) Leave(context.Context, line.SessionID) error { return nil }

// Abandon implements edge.Room.
func (r room) Abandon(string) error { return nil }

// Record implements edge.Room.
func (r room) Record(context.Context, line.ID) ([]byte, error) { return r.s.record, nil }

// LedgerChunk implements edge.Room.
func (r room) LedgerChunk(_ context.Context, _ line.ID, _ uint8, chunk uint32) ([]byte, bool, error) {
	return r.s.ledger.AppendChunk(nil, chunk), false, nil
}
