package desk_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stanchion-queue/stanchion/admin/desk"
	"github.com/stanchion-queue/stanchion/admin/desktest"
)

func newDesk(t *testing.T, h *desktest.House, viewers int) *desk.Desk {
	t.Helper()
	d, err := desk.New(desk.Options{Rooms: h, Sales: h, Fleet: h, MaxViewers: viewers, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// recorded runs a desk in virtual time. step lets one second pass, with what the controller says in it.
func recorded(t *testing.T, f func(h *desktest.House, d *desk.Desk, step func(*desk.Live))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := desktest.New("onsale")
		d := newDesk(t, h, 2)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		time.Sleep(500 * time.Millisecond) // looks fall between the controller's reports, which come on the second
		go d.Run(ctx)
		synctest.Wait()
		f(h, d, func(l *desk.Live) {
			time.Sleep(500 * time.Millisecond)
			if l != nil {
				l.At = time.Now()
				h.Show("onsale", *l)
			}
			time.Sleep(500 * time.Millisecond)
			synctest.Wait()
		})
	})
}

func TestRatesComeFromTotals(t *testing.T) {
	recorded(t, func(h *desktest.House, d *desk.Desk, step func(*desk.Live)) {
		if l, ok := d.Look("onsale"); !ok || !l.Stale || l.Error == "" {
			t.Errorf("before the first report: %+v, %v", l, ok)
		}
		l := desk.Live{Phase: "waiting", Cap: 50, JoinedTotal: 100, AdmittedTotal: 20, AdmittedPerMinute: 6}
		step(&l)
		if p := last(d); !math.IsNaN(float64(p.Arrivals)) {
			t.Errorf("arrivals are known from one look: %v", p.Arrivals)
		}
		l.JoinedTotal, l.AdmittedTotal, l.Inside = 107, 23, 23
		step(&l)
		if p := last(d); p.Arrivals != 7 || p.Admissions != 3 || p.Inside != 23 {
			t.Errorf("want 7 arrivals, 3 admissions, 23 inside: %+v", p)
		}
		// A new line begins at zero, which is no negative arrival; only the last minute is known.
		l.JoinedTotal, l.AdmittedTotal = 2, 0
		step(&l)
		if p := last(d); !math.IsNaN(float64(p.Arrivals)) || math.Abs(float64(p.Admissions)-0.1) > 1e-6 {
			t.Errorf("new line: %+v", p)
		}
		l.JoinedTotal = 6
		step(&l)
		if p := last(d); p.Arrivals != 4 {
			t.Errorf("want 4 arrivals in the new line: %+v", p)
		}
	})
}

func last(d *desk.Desk) desk.Point {
	p := d.Points("onsale", time.Time{})
	return p[len(p)-1]
}

func TestStaleAfterThreeSeconds(t *testing.T) {
	recorded(t, func(h *desktest.House, d *desk.Desk, step func(*desk.Live)) {
		l := desk.Live{Phase: "waiting", Cap: 50, Edges: 2, Lanes: []desk.Lane{{Waiting: 10, PerMinute: 60}}}
		step(&l)
		step(&l)
		if look, _ := d.Look("onsale"); look.Stale || look.AgeMS != 0 || !look.Drain.Known {
			t.Errorf("fresh: %+v", look)
		}
		for i := range 3 {
			step(nil)
			if look, _ := d.Look("onsale"); look.Stale || look.AgeMS != int64(i+1)*1000 {
				t.Errorf("after %d s: stale %v, age %d", i+1, look.Stale, look.AgeMS)
			}
		}
		step(nil)
		look, _ := d.Look("onsale")
		if !look.Stale || look.AgeMS != 4000 || look.Drain.Known || look.Live.Cap != 50 {
			t.Errorf("after 4 s: %+v", look)
		}
		if p := last(d); !math.IsNaN(float64(p.Inside)) || !math.IsNaN(float64(p.Cap)) {
			t.Errorf("a stale look is drawn: %+v", p)
		}
		step(&l)
		l.Edges, l.Phase = 1, "sold_out"
		step(&l)
		l.LimitedBy = "store"
		step(&l)
		var got []string
		for _, m := range d.Marks("onsale", time.Time{}) {
			got = append(got, m.Kind+": "+m.Text)
		}
		want := "change: first version that is kept\nfault: No new data from the room's controller\nphase: Data from the room's controller again\n" +
			"phase: Phase waiting to sold out\nfault: Edges 2 to 1\nfault: The room store does not answer"
		if s := strings.Join(got, "\n"); s != want {
			t.Errorf("marks:\n%s\nwant:\n%s", s, want)
		}
	})
}

// A controller whose clock is minutes off is fresh as long as it moves.
func TestAgeDoesNotTrustTheOtherClock(t *testing.T) {
	h := desktest.New("onsale")
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, h, 1)
		show := func(off time.Duration) {
			h.Show("onsale", desk.Live{At: time.Now().Add(off), Cap: 1})
			d.Record(t.Context())
		}
		show(-5 * time.Minute)
		if l, _ := d.Look("onsale"); !l.Stale || l.AgeMS != 300_000 {
			t.Errorf("an old report at the start: stale %v, age %d", l.Stale, l.AgeMS)
		}
		time.Sleep(time.Second)
		show(-5 * time.Minute)
		if l, _ := d.Look("onsale"); l.Stale || l.AgeMS != 0 {
			t.Errorf("it moves: stale %v, age %d", l.Stale, l.AgeMS)
		}
		time.Sleep(time.Second)
		show(5 * time.Minute)
		time.Sleep(4 * time.Second)
		d.Record(t.Context())
		if l, _ := d.Look("onsale"); !l.Stale || l.AgeMS != 4000 {
			t.Errorf("a clock ahead that stands still: stale %v, age %d", l.Stale, l.AgeMS)
		}
	})
}

func TestOneHourIsKept(t *testing.T) {
	h := desktest.New("onsale")
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, h, 1)
		for i := range desk.Keep + 500 {
			h.Show("onsale", desk.Live{At: time.Now(), Inside: int64(i), Cap: 1})
			d.Record(t.Context())
			time.Sleep(time.Second)
		}
		p := d.Points("onsale", time.Time{})
		if len(p) != desk.Keep || p[0].Inside != 500 || p[len(p)-1].Inside != desk.Keep+499 {
			t.Fatalf("%d points, from %v to %v", len(p), p[0].Inside, p[len(p)-1].Inside)
		}
		for i := range p[1:] {
			if p[i+1].At != p[i].At+1 {
				t.Fatalf("point %d is at %d, the next at %d", i, p[i].At, p[i+1].At)
			}
		}
		from := time.Now().Add(-10 * time.Second)
		if p := d.Points("onsale", from); len(p) != 10 {
			t.Errorf("last ten seconds: %d points", len(p))
		}
		// Two looks within a second are one point.
		h.Show("onsale", desk.Live{At: time.Now(), Inside: 1, Cap: 1})
		d.Record(t.Context())
		h.Show("onsale", desk.Live{At: time.Now(), Inside: 2, Cap: 1})
		d.Record(t.Context())
		p = d.Points("onsale", time.Time{})
		if len(p) != desk.Keep || p[len(p)-1].Inside != 2 || p[len(p)-2].Inside == 1 {
			t.Errorf("after two looks within a second: %d points, %v then %v", len(p), p[len(p)-2].Inside, p[len(p)-1].Inside)
		}
	})
}

// However the controller and the store fail, the desk goes on and says so.
func TestFailuresAreTold(t *testing.T) {
	recorded(t, func(h *desktest.House, d *desk.Desk, step func(*desk.Live)) {
		l := desk.Live{Cap: 5}
		step(&l)
		h.Fail(errors.New("down"))
		for range 5 {
			step(nil)
		}
		look, _ := d.Look("onsale")
		if !look.Stale || look.Error == "" || strings.Contains(look.Error, "down") || look.Live.Cap != 5 {
			t.Errorf("store down: %+v", look)
		}
		if _, at, err := d.Edges(); err == nil || at.IsZero() {
			t.Errorf("fleet: read at %v, error %v", at, err)
		}
		h.Fail(nil)
		h.Hang(true)
		for range 4 {
			step(nil)
		}
		if look, _ := d.Look("onsale"); !strings.Contains(look.Error, "in time") {
			t.Errorf("controller hangs: %q", look.Error)
		}
		h.Hang(false)
		for range 3 {
			step(&l)
		}
		if look, _ := d.Look("onsale"); look.Stale || look.Error != "" {
			t.Errorf("all well again: %+v", look)
		}
	})
}

// Viewers share one look a second, and one who does not read has the newest when they do.
func TestViewersCostNothing(t *testing.T) {
	recorded(t, func(h *desktest.House, d *desk.Desk, step func(*desk.Live)) {
		a, err := d.Watch("onsale")
		if err != nil {
			t.Fatal(err)
		}
		b, err := d.Watch("onsale")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Watch("onsale"); !errors.Is(err, desk.ErrViewers) {
			t.Errorf("a third viewer of two: %v", err)
		}
		before := h.Looks()
		for i := range 10 {
			step(&desk.Live{Inside: int64(i), Cap: 10})
			if got := (<-a.Looks()).Live.Inside; got != int64(i) {
				t.Errorf("look %d found %d inside", i, got)
			}
		}
		if n := h.Looks() - before; n != 10 {
			t.Errorf("%d looks for two viewers in ten seconds", n)
		}
		if got := (<-b.Looks()).Live.Inside; got != 9 {
			t.Errorf("the slow viewer got look %d, not the newest", got)
		}
		select {
		case l := <-b.Looks():
			t.Errorf("the slow viewer got an old look too: %+v", l)
		default:
		}
		a.Close()
		c, err := d.Watch("onsale")
		if err != nil {
			t.Errorf("after one left: %v", err)
		} else if got := (<-c.Looks()).Live.Inside; got != 9 {
			t.Errorf("a new viewer begins with %d", got)
		}
	})
}

// A change shows as a mark at once, not at the next round.
func TestChangesAreMarkedAtOnce(t *testing.T) {
	recorded(t, func(h *desktest.House, d *desk.Desk, step func(*desk.Live)) {
		step(nil)
		if _, err := d.Set(t.Context(), "onsale", map[string]any{"cap": 60}, "", "Ada", "more room"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		marks := d.Marks("onsale", time.Time{})
		if m := marks[len(marks)-1]; m.Kind != "change" || m.Text != "cap 500 → 60" {
			t.Errorf("last mark %+v", m)
		}
		step(nil)
		if l, _ := d.Look("onsale"); l.Last == nil || l.Last.Who != "Ada" || l.Last.Version != "2" {
			t.Errorf("last change %+v", l.Last)
		}
	})
}
