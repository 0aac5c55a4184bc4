// Package desktest stands in for the waiting room, the sales and the fleet in the console's tests: a room that lives in memory, whose
// controller can be made to stop, fail or hang, and whose settings are versioned like the real ones.
package desktest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/stanchion-queue/stanchion/admin/desk"
)

// House is rooms in memory. It implements desk.Rooms, desk.Sales and desk.Fleet. Safe for concurrent use.
type House struct {
	mu    sync.Mutex
	rooms map[string]*room
	order []string
	edges []desk.Edge
	err   error
	hang  bool
	lose  bool // store, then say that nobody knows
	looks int
}

type room struct {
	live desk.Live
	sale *desk.Sale
	past []desk.Revision // oldest first
}

// New returns a house with rooms of these names, all with the settings of Document.
func New(names ...string) *House {
	h := &House{rooms: map[string]*room{}, order: names}
	for _, n := range names {
		h.rooms[n] = &room{past: []desk.Revision{{Version: "1", JSON: Document(), Who: "configuration", Why: "first start", At: time.Now()}}}
	}
	return h
}

// Document is a settings document.
func Document() []byte {
	return []byte(`{"host":"tickets.example","mode":"normal","cap":500,"rate_per_second":5,"message":"","seat_limit":4,` +
		`"lanes":[{"name":"general","weight":1}],"opening":{"lobby":false},"request_budget":{"per_second":5,"burst":40},"outage_mode":"strict","codes":{"sha256":[]}}`)
}

// Fields describes Document.
func (h *House) Fields() []desk.Field {
	return []desk.Field{
		{Key: "cap", Kind: desk.Integer, Min: 1, Max: 10_000_000, Default: "100", Doc: "Fans inside at once. Lowering it puts nobody out."},
		{Key: "rate_per_second", Kind: desk.Number, Min: 0.01, Max: 100_000, Default: "10", Doc: "Fans let in a second, at most."},
		{Key: "seat_limit", Kind: desk.Integer, Min: 1, Max: 100, Default: "4", Doc: "Seats one fan may buy; written into the pass."},
		{Key: "message", Kind: desk.Text, MaxLength: 280, Doc: "What the organiser says, shown with its time to everybody in line."},
		{Key: "mode", Kind: desk.Choice, Choices: []string{"normal", "queue-all", "admit-all", "paused", "draining", "maintenance", "ended"}, Default: "normal"},
		{Key: "host", Kind: desk.Text, MaxLength: 253, Doc: "The one host name the room lives on."},
		{Key: "outage_mode", Kind: desk.Choice, Choices: []string{"strict", "early"}, Default: "strict", Doc: "When an edge refills a place without the store."},
		{Key: "opening.lobby", Kind: desk.Flag, Default: "false", Doc: "Those who come before the opening wait in a lobby."},
		{Key: "request_budget.per_second", Kind: desk.Number, Min: 0.1, Max: 10_000, Default: "5", Doc: "Sustained requests a second."},
		{Key: "request_budget.burst", Kind: desk.Integer, Min: 1, Max: 100_000, Default: "40", Doc: "Requests at once."},
		{Key: "codes.sha256", Kind: desk.Text, Secret: true},
	}
}

// Check implements desk.Rooms: every field must be in its range.
func (h *House) Check(_ string, doc []byte) []desk.Problem {
	values, err := desk.Values(doc)
	if err != nil {
		return []desk.Problem{{Key: "(document)", Want: "a JSON object"}}
	}
	var out []desk.Problem
	for _, f := range h.Fields() {
		if v, ok := values[f.Key]; ok {
			if _, wrong := f.Parse(v); wrong != nil {
				out = append(out, *wrong)
			}
		}
	}
	var m map[string]any
	if json.Unmarshal(doc, &m) == nil {
		known := []string{"lanes", "opening", "request_budget", "codes"}
		for _, f := range h.Fields() {
			known = append(known, f.Key)
		}
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !slices.Contains(known, k) {
				out = append(out, desk.Problem{Key: k, Value: "set", Want: "no such key"})
			}
		}
	}
	return out
}

// Fail makes every answer of the controller and the store this error; nil: none.
func (h *House) Fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

// Hang makes looks wait until their context ends.
func (h *House) Hang(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hang = on
}

// Lose makes the next changes be stored with an answer that leaves it open.
func (h *House) Lose(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lose = on
}

// Looks is how often a room was looked at.
func (h *House) Looks() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.looks
}

// Show sets what the next looks at a room find.
func (h *House) Show(name string, l desk.Live) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rooms[name].live = l
}

// Sell sets what was sold behind a room.
func (h *House) Sell(name string, s desk.Sale) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rooms[name].sale = &s
}

// Join sets the fleet.
func (h *House) Join(edges ...desk.Edge) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.edges = edges
}

// Current is a room's document.
func (h *House) Current(name string) (version string, doc []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.rooms[name].past
	return p[len(p)-1].Version, p[len(p)-1].JSON
}

func (h *House) room(name string) (*room, error) {
	if h.err != nil {
		return nil, h.err
	}
	r := h.rooms[name]
	if r == nil {
		return nil, fmt.Errorf("room %q: %w", name, desk.ErrNoRoom)
	}
	return r, nil
}

// Names implements desk.Rooms.
func (h *House) Names(context.Context) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.order), h.err
}

// Live implements desk.Rooms.
func (h *House) Live(ctx context.Context, name string) (desk.Live, error) {
	h.mu.Lock()
	hang := h.hang
	h.looks++
	h.mu.Unlock()
	if hang {
		<-ctx.Done()
		return desk.Live{}, ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.room(name)
	if err != nil {
		return desk.Live{}, err
	}
	return r.live, nil
}

// Settings implements desk.Rooms.
func (h *House) Settings(_ context.Context, name string) (desk.Document, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.room(name)
	if err != nil {
		return desk.Document{}, err
	}
	last := r.past[len(r.past)-1]
	return desk.Document{Version: last.Version, JSON: last.JSON}, nil
}

// PutSettings implements desk.Rooms.
func (h *House) PutSettings(_ context.Context, name string, doc []byte, ifVersion, who, why string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.room(name)
	if err != nil {
		return "", err
	}
	if r.past[len(r.past)-1].Version != ifVersion {
		return "", desk.ErrConflict
	}
	version := strconv.Itoa(len(r.past) + 1)
	r.past = append(r.past, desk.Revision{Version: version, JSON: slices.Clone(doc), Who: who, Why: why, At: time.Now()})
	var set struct {
		Mode    string
		Cap     int64
		Rate    float64 `json:"rate_per_second"`
		Message string
	}
	if json.Unmarshal(doc, &set) == nil {
		r.live.Mode, r.live.Cap, r.live.RatePerSecond, r.live.Message = set.Mode, set.Cap, set.Rate, set.Message
	}
	if h.lose {
		return "", fmt.Errorf("the store's answer was lost")
	}
	return version, nil
}

// History implements desk.Rooms.
func (h *House) History(_ context.Context, name string, limit int) ([]desk.Revision, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.room(name)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(r.past)
	slices.Reverse(out)
	return out[:min(limit, len(out))], nil
}

// Sales implements desk.Sales.
func (h *House) Sales(_ context.Context, name string) (desk.Sale, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.room(name)
	if err != nil {
		return desk.Sale{}, err
	}
	if r.sale == nil {
		return desk.Sale{}, desk.ErrNoSales
	}
	return *r.sale, nil
}

// Edges implements desk.Fleet.
func (h *House) Edges(context.Context) ([]desk.Edge, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.edges), h.err
}

// Evening is a sale t after its opening, for pages that should look alive: a rush that thins out, a room that fills to its cap.
func Evening(at time.Time, t time.Duration) desk.Live {
	s := t.Seconds()
	joined := 24_000*(1-math.Exp(-s/1200)) + 10*math.Sin(s/30) // who comes: many at first, then fewer
	admitted := min(4.1*s+12*math.Sin(s/40), joined)
	inside := min(480+20*math.Sin(s/50), admitted)
	limit := "rate"
	if inside >= 495 {
		limit = "cap"
	}
	return desk.Live{At: at, Phase: "waiting", Mode: "normal", LimitedBy: limit,
		Lanes:  []desk.Lane{{Name: "general", Waiting: int64(joined - admitted), Called: uint64(admitted), Total: uint64(joined), PerMinute: 310, Low: 0.9, High: 1.2}},
		Inside: int64(inside), Cap: 500, AtDoor: int64(6 + 5*math.Sin(s/20)), RatePerSecond: 5, ShowUp: 0.8, AnswerS: 2.4, FreedPerSecond: 1.7,
		JoinedTotal: uint64(joined), AdmittedTotal: uint64(admitted), AdmittedPerMinute: 246, Edges: 2,
		Origin: &desk.Origin{P99MS: 180 + 60*math.Sin(s/45), ErrorRatio: math.Max(0, 0.004*math.Sin(s/90))}}
}
