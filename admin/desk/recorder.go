package desk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Sizes of what the recorder keeps. A room takes about 160 KB when its hour is full.
const (
	Keep     = 3600 // points, one a second
	MaxRooms = 256  // rooms recorded; the configuration allows no more
	maxMarks = 100  // of each kind and room
)

// How often the recorder asks, beside its looks.
const (
	refreshEvery = 5 * time.Second // sales, edges, changes, list of rooms
	lookTimeout  = 2 * time.Second
)

// StaleAfter is the age at which a look is called stale: by then claims have stopped at a room whose controller is gone.
const StaleAfter = 3 * time.Second

// Point is one second of a room. Values that are not known are NaN.
type Point struct {
	At         int64 // Unix seconds
	Arrivals   float32
	Admissions float32
	Waiting    float32
	Inside     float32
	Cap        float32
	AtDoor     float32
	Rate       float32
	P99MS      float32
	Errors     float32
}

// Mark is an event that is drawn on every chart.
type Mark struct {
	At   time.Time `json:"at"`
	Kind string    `json:"kind" doc:"change: an operator's. phase: the room went on. fault: something broke."`
	Text string    `json:"text"`
}

// Look is all that is known of a room at a moment.
type Look struct {
	Room  string    `json:"room"`
	Time  time.Time `json:"time" doc:"Now, at the console."`
	AgeMS int64     `json:"age_ms" doc:"How old live is."`
	Stale bool      `json:"stale" doc:"Too old to act upon."`
	Error string    `json:"error,omitempty" doc:"Why nothing newer is known."`
	Live  Live      `json:"live"`
	Sale  *Sale     `json:"sale,omitempty"`
	Drain Drain     `json:"drain"`
	Point Point     `json:"-"`
	Last  *Entry    `json:"last_change,omitempty" doc:"Newest change of the settings."`
}

// Recorder looks at rooms once a second and keeps an hour of it. Everybody who shows rooms reads it.
type Recorder struct {
	rooms      Rooms
	sales      Sales
	fleet      Fleet
	every      time.Duration
	maxViewers int
	now        func() time.Time
	nudge      chan struct{}

	mu     sync.Mutex
	order  []string
	kept   map[string]*kept
	edges  []Edge
	seen   time.Time // when edges was read
	edgeOf error
	views  map[*Viewer]struct{}

	failures prometheus.Counter
	refused  prometheus.Counter
	dropped  prometheus.Counter
}

// kept is what is remembered of one room.
type kept struct {
	ring    []Point // grows to Keep, then next wraps
	next    int
	look    Look
	known   bool      // look.Live was read at least once
	changed time.Time // when Live.At was last seen to move; zero: not since the start
	sale    *Sale
	changes []Mark
	last    *Entry
	events  []Mark
	joined  uint64
	let     uint64
	at      time.Time // of joined and let
}

func newRecorder(o Options) (*Recorder, error) {
	r := &Recorder{rooms: o.Rooms, sales: o.Sales, fleet: o.Fleet, every: o.Every, maxViewers: o.MaxViewers, now: o.Now,
		nudge: make(chan struct{}, 1), kept: map[string]*kept{}, views: map[*Viewer]struct{}{},
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "stanchion_console_look_failures_total", Help: "Looks at a room that failed."}),
		refused:  prometheus.NewCounter(prometheus.CounterOpts{Name: "stanchion_console_viewers_refused_total", Help: "Live streams refused because too many were open."}),
		dropped:  prometheus.NewCounter(prometheus.CounterOpts{Name: "stanchion_console_viewers_dropped_total", Help: "Live streams ended because the viewer did not read."}),
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.every <= 0 {
		r.every = time.Second
	}
	if r.maxViewers <= 0 {
		r.maxViewers = 64
	}
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "stanchion_console_viewers", Help: "Live streams open now."},
		func() float64 { return float64(r.viewers()) })
	for _, c := range []prometheus.Collector{r.failures, r.refused, r.dropped, open} {
		if err := o.Registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register the recorder's metrics: %w", err)
		}
	}
	return r, nil
}

// Run records until ctx ends.
func (r *Recorder) Run(ctx context.Context) {
	refreshed := make(chan struct{})
	go func() {
		defer close(refreshed)
		r.runRefresh(ctx)
	}()
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for {
		r.Record(ctx)
		select {
		case <-ctx.Done():
			<-refreshed
			return
		case <-tick.C:
		}
	}
}

func (r *Recorder) runRefresh(ctx context.Context) {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		r.refreshAll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.nudge:
		}
	}
}

// refresh asks for the slow things now: a change was made.
func (r *Recorder) refresh() {
	select {
	case r.nudge <- struct{}{}:
	default:
	}
}

func (r *Recorder) names(ctx context.Context) []string {
	r.mu.Lock()
	known := r.order
	r.mu.Unlock()
	if known != nil {
		return known
	}
	r.refreshNames(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.order
}

func (r *Recorder) refreshNames(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	names, err := r.rooms.Names(ctx)
	if err != nil {
		return // the rooms known so far go on
	}
	names = names[:min(len(names), MaxRooms)]
	r.mu.Lock()
	defer r.mu.Unlock()
	r.order = slices.Clone(names)
	for name := range r.kept {
		if !slices.Contains(names, name) {
			delete(r.kept, name)
		}
	}
}

// several is how many rooms are asked at the same time.
const several = 8

// Record looks at every room once. Run does it again and again.
func (r *Recorder) Record(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(several)
	for _, room := range r.names(ctx) {
		g.Go(func() error {
			r.lookAt(ctx, room)
			return nil
		})
	}
	_ = g.Wait() // no error is returned above
}

func (r *Recorder) lookAt(ctx context.Context, room string) {
	asked, cancel := context.WithTimeout(ctx, lookTimeout)
	live, err := r.rooms.Live(asked, room)
	cancel()
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		r.failures.Inc()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.kept[room]
	if k == nil {
		k = &kept{}
		r.kept[room] = k
	}
	now := r.now()
	before := k.look
	k.note(room, now, live, err)
	k.push(k.point(now))
	k.events = mark(k.events, events(before, k.look, before.Room != "")...)
	for v := range r.views {
		if v.room == room {
			v.offer(k.look)
		}
	}
}

// note takes in the answer to one look.
func (k *kept) note(room string, now time.Time, live Live, err error) {
	k.look.Room, k.look.Time, k.look.Error = room, now.UTC(), ""
	if err != nil {
		k.look.Error = "The room's controller cannot be asked."
		if errors.Is(err, context.DeadlineExceeded) {
			k.look.Error = "The room's controller does not answer in time."
		}
	} else {
		if live.At.UnixMilli() <= 0 {
			live.At = time.Time{} // a store's zero
		}
		if k.known && !live.At.Equal(k.look.Live.At) {
			k.changed = now
		}
		k.known, k.look.Live = true, live
	}
	k.look.AgeMS = k.age(now).Milliseconds()
	k.look.Stale = !k.known || k.look.Live.At.IsZero() || k.age(now) > StaleAfter
	if err == nil && live.At.IsZero() {
		k.look.Error = "The room's controller has not reported yet."
	}
	k.look.Drain = DrainOf(k.look.Live)
	if k.look.Stale {
		k.look.Drain = Drain{Why: "the data is old"}
	}
	k.look.Sale, k.look.Last = k.sale, k.last
}

// age of what is known. The controller's clock is compared with ours only until its time has been seen to move: from then on our
// own clock alone tells how long it has stood still.
func (k *kept) age(now time.Time) time.Duration {
	since := k.changed
	if since.IsZero() {
		since = k.look.Live.At
	}
	if !k.known || since.IsZero() {
		return 0
	}
	return max(0, now.Sub(since))
}

// point is what the charts get of this look.
func (k *kept) point(now time.Time) Point {
	nan := float32(math.NaN())
	p := Point{At: now.Unix(), Arrivals: nan, Admissions: nan, Waiting: nan, Inside: nan, Cap: nan, AtDoor: nan, Rate: nan, P99MS: nan, Errors: nan}
	l := k.look.Live
	if k.look.Stale {
		k.at = time.Time{}
		k.look.Point = p
		return p
	}
	p.Waiting, p.Inside, p.Cap, p.AtDoor = float32(l.Waiting()), float32(l.Inside), float32(l.Cap), float32(l.AtDoor)
	p.Rate = float32(l.RatePerSecond)
	if l.Origin != nil {
		p.P99MS, p.Errors = float32(l.Origin.P99MS), float32(l.Origin.ErrorRatio)
	}
	p.Arrivals, p.Admissions = nan, float32(l.AdmittedPerMinute)/60
	if dt := l.At.Sub(k.at).Seconds(); !k.at.IsZero() && dt > 0 && l.JoinedTotal >= k.joined {
		p.Arrivals = float32(float64(l.JoinedTotal-k.joined) / dt)
		if l.AdmittedTotal > 0 && l.AdmittedTotal >= k.let {
			p.Admissions = float32(float64(l.AdmittedTotal-k.let) / dt)
		}
	} else if dt == 0 { // nothing newer than at the last look
		p.Arrivals, p.Admissions = k.look.Point.Arrivals, k.look.Point.Admissions
	}
	k.joined, k.let, k.at = l.JoinedTotal, l.AdmittedTotal, l.At
	k.look.Point = p
	return p
}

// push keeps a point; a second look within the same second replaces the first.
func (k *kept) push(p Point) {
	if n := len(k.ring); n > 0 {
		last := (k.next + n - 1) % n
		if k.ring[last].At == p.At {
			k.ring[last] = p
			return
		}
	}
	if len(k.ring) < Keep {
		k.ring = append(k.ring, p)
		return
	}
	k.ring[k.next] = p
	k.next = (k.next + 1) % Keep
}

// points are the kept ones from a time on, oldest first.
func (k *kept) points(from int64) []Point {
	n := len(k.ring)
	out := make([]Point, 0, n)
	for i := range n {
		if p := k.ring[(k.next+i)%n]; p.At >= from {
			out = append(out, p)
		}
	}
	return out
}

// events are the marks that follow from two looks in a row.
func events(before, after Look, had bool) []Mark {
	var out []Mark
	add := func(kind, text string) { out = append(out, Mark{At: after.Time, Kind: kind, Text: text}) }
	switch {
	case had && !before.Stale && after.Stale:
		add("fault", "No new data from the room's controller")
	case had && before.Stale && !after.Stale && !before.Live.At.IsZero():
		add("phase", "Data from the room's controller again")
	}
	if after.Stale || before.Live.At.IsZero() {
		return out
	}
	if b, a := before.Live.Phase, after.Live.Phase; b != a {
		add("phase", "Phase "+PhaseName(b)+" to "+PhaseName(a))
	}
	if before.Live.LimitedBy != "store" && after.Live.LimitedBy == "store" {
		add("fault", "The room store does not answer")
	}
	if b, a := before.Live.Edges, after.Live.Edges; a < b {
		add("fault", fmt.Sprintf("Edges %d to %d", b, a))
	}
	return out
}

func mark(kept []Mark, more ...Mark) []Mark {
	kept = append(kept, more...)
	if len(kept) > maxMarks {
		kept = slices.Clone(kept[len(kept)-maxMarks:])
	}
	return kept
}

// PhaseName is a phase as people read it.
func PhaseName(phase string) string {
	switch phase {
	case "sold_out":
		return "sold out"
	case "":
		return "not known"
	}
	return phase
}

func (r *Recorder) refreshAll(ctx context.Context) {
	r.refreshNames(ctx)
	var g errgroup.Group
	g.SetLimit(several)
	for _, room := range r.names(ctx) {
		g.Go(func() error {
			r.refreshRoom(ctx, room)
			return nil
		})
	}
	if r.fleet != nil {
		g.Go(func() error {
			r.refreshFleet(ctx)
			return nil
		})
	}
	_ = g.Wait() // no error is returned above
}

func (r *Recorder) refreshFleet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	edges, err := r.fleet.Edges(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.edgeOf = err
	if err == nil {
		r.edges, r.seen = edges, r.now().UTC()
	}
}

func (r *Recorder) refreshRoom(ctx context.Context, room string) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var sale *Sale
	saleErr := ErrNoSales
	if r.sales != nil {
		var s Sale
		if s, saleErr = r.sales.Sales(ctx, room); saleErr == nil {
			sale = &s
		}
	}
	past, pastErr := r.rooms.History(ctx, room, maxMarks+1)
	var changes []Mark
	var last *Entry
	if pastErr == nil {
		list := entries(room, past, maxMarks, r.rooms.Fields())
		if len(list) > 0 {
			last = &list[0]
		}
		for _, e := range slices.Backward(list) {
			changes = append(changes, Mark{At: e.At, Kind: "change", Text: e.What()})
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.kept[room]
	if k == nil {
		k = &kept{}
		r.kept[room] = k
	}
	if saleErr == nil || errors.Is(saleErr, ErrNoSales) {
		k.sale = sale
	}
	if pastErr == nil {
		k.changes, k.last = changes, last
	}
	k.look.Sale, k.look.Last = k.sale, k.last
}

// Look is the newest look at a room; false: there was none yet.
func (r *Recorder) Look(room string) (Look, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.kept[room]
	if k == nil || k.look.Room == "" {
		return Look{}, false
	}
	return k.look, k.known
}

// Points are a room's points from a time on, oldest first, at most Keep.
func (r *Recorder) Points(room string, from time.Time) []Point {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.kept[room]
	if k == nil {
		return nil
	}
	return k.points(from.Unix())
}

// Marks are a room's marks from a time on, oldest first.
func (r *Recorder) Marks(room string, from time.Time) []Mark {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.kept[room]
	out := []Mark{}
	if k == nil {
		return out
	}
	for _, m := range slices.Concat(k.changes, k.events) {
		if !m.At.Before(from) {
			out = append(out, m)
		}
	}
	slices.SortStableFunc(out, func(a, b Mark) int { return a.At.Compare(b.At) })
	return out
}

// Edges is the fleet as last read, and when; the time is zero if it never was.
func (r *Recorder) Edges() ([]Edge, time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.edges), r.seen, r.edgeOf
}

// Viewer is one live stream. It holds the newest look only: a slow reader misses looks and never delays anybody.
type Viewer struct {
	room string
	r    *Recorder
	next chan Look
}

// Watch begins a live stream of a room; Close it. ErrViewers: as many as allowed are open.
func (r *Recorder) Watch(room string) (*Viewer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.views) >= r.maxViewers {
		r.refused.Inc()
		return nil, ErrViewers
	}
	v := &Viewer{room: room, r: r, next: make(chan Look, 1)}
	r.views[v] = struct{}{}
	if k := r.kept[room]; k != nil && k.look.Room != "" {
		v.offer(k.look)
	}
	return v, nil
}

// Looks delivers each new look, or only the newest of several.
func (v *Viewer) Looks() <-chan Look { return v.next }

// Dropped counts the viewer as one that did not read.
func (v *Viewer) Dropped() { v.r.dropped.Inc() }

// Close ends the stream. It may be called once.
func (v *Viewer) Close() {
	v.r.mu.Lock()
	defer v.r.mu.Unlock()
	delete(v.r.views, v)
}

// offer replaces what the viewer has not taken yet. The caller holds the recorder's lock, so offers do not race.
func (v *Viewer) offer(l Look) {
	select {
	case <-v.next:
	default:
	}
	v.next <- l
}

func (r *Recorder) viewers() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.views)
}
