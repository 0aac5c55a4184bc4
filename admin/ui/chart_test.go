package ui

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stanchion-queue/stanchion/admin/desk"
)

func inside(p desk.Point) float32 { return p.Inside }

func at(t int64, v float64) desk.Point { return desk.Point{At: t, Inside: float32(v)} }

func TestTrace(t *testing.T) {
	nan := math.NaN()
	tests := []struct {
		name   string
		points []desk.Point
		from   int64
		to     int64
		want   string
	}{
		{"nothing", nil, 0, 100, ""},
		{"one line", []desk.Point{at(0, 0), at(50, 5), at(100, 10)}, 0, 100, "M0.0 100.0M500.0 50.0M1000.0 0.0"}, // gaps of 50 s are breaks
		{"joined", []desk.Point{at(0, 0), at(1, 5), at(2, 10)}, 0, 100, "M0.0 100.0L10.0 50.0L20.0 0.0"},
		{"broken where nothing is known", []desk.Point{at(0, 0), at(1, nan), at(2, 10)}, 0, 100, "M0.0 100.0M20.0 0.0"},
		{"only within the range", []desk.Point{at(-5, 1), at(1, 5), at(101, 1)}, 0, 100, "M10.0 50.0"},
		{"above the scale", []desk.Point{at(0, 50)}, 0, 100, "M0.0 0.0"},
		{"the peak of each column", []desk.Point{at(0, 1), at(1, 9), at(2, 2), at(3, 3)}, 0, 1000, "M1.0 10.0L3.0 70.0"},
	}
	for _, tt := range tests {
		if got := trace(tt.points, inside, tt.from, tt.to, 10); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

// A path stays in its plane, goes forwards, and is short, however long and broken the past is.
func TestTraceStaysInItsPlane(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var points []desk.Point
		now := int64(0)
		for range rapid.IntRange(0, 4000).Draw(t, "points") {
			now += rapid.SampledFrom([]int64{1, 1, 1, 2, 30}).Draw(t, "step")
			points = append(points, at(now, rapid.SampledFrom([]float64{0, 1, 500, 1e9, math.NaN()}).Draw(t, "value")))
		}
		d := trace(points, inside, now-3600, now, 500)
		words := strings.FieldsFunc(d, func(r rune) bool { return r == 'M' || r == 'L' })
		if len(words) > columns+1 {
			t.Fatalf("%d points", len(words))
		}
		last := -1.0
		for _, w := range words {
			var x, y float64
			if _, err := fmt.Sscan(w, &x, &y); err != nil || x < last || x > plotW || y < 0 || y > plotH {
				t.Fatalf("%q after %v: %v", w, last, err)
			}
			last = x
		}
	})
}

func TestNiceAndLabel(t *testing.T) {
	for v, want := range map[float64]string{0: "1", 1: "1", 1.1: "2", 3: "5", 7: "10", 480: "500", 501: "1,000", 0.3: "0.5", 7928: "10,000"} {
		if got := label(nice(v)); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
}

// The table says what the charts show: the newest value of each series at evenly spaced moments.
func TestTableTwin(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var points []desk.Point
	for i := range 900 {
		p := at(now.Unix()-899+int64(i), float64(i))
		p.P99MS = float32(math.NaN())
		points = append(points, p)
	}
	d := draw(points, []desk.Mark{{At: now.Add(-time.Minute), Kind: "change", Text: "x"}, {At: now.Add(-time.Hour), Kind: "change", Text: "old"}}, now, 15)
	if len(d.Rows) != tableRows || !d.Rows[0].Time.Equal(now) {
		t.Fatalf("%d rows from %v", len(d.Rows), d.Rows[0].Time)
	}
	if got := d.Rows[0].Cells[4]; got != "899" {
		t.Errorf("newest inside: %s", got)
	}
	if got := d.Rows[1].Cells[4]; got != "839" {
		t.Errorf("a minute earlier: %s", got)
	}
	if got := d.Rows[0].Cells[7]; got != dash {
		t.Errorf("latency nobody knows: %s", got)
	}
	if len(d.Marks) != 1 || d.Marks[0].X != "93.33%" {
		t.Errorf("marks %+v", d.Marks)
	}
	for _, c := range d.Charts {
		if c.Blank {
			t.Errorf("%s is blank", c.ID)
		}
	}
	if d := draw(nil, nil, now, 15); !d.Charts[3].Blank || len(d.Rows) != 0 {
		t.Error("without points nothing is blank")
	}
}

func TestWords(t *testing.T) {
	opens := time.Unix(1000, 0)
	l := desk.Look{Time: time.Unix(900, 0), AgeMS: 400, Live: desk.Live{At: time.Unix(899, 0), Phase: "sold_out", Mode: "queue-all", LimitedBy: "stock", Cause: "paused", Inside: 1234, Cap: 5000, OpensAt: &opens,
		Lanes: []desk.Lane{{Name: "a", Waiting: 1000}, {Name: "b", Waiting: 5}}}, Sale: &desk.Sale{Sellable: 7, Held: 2, Sold: 1000}, Drain: desk.Drain{Known: true, LowS: 60, HighS: 600}}
	w := words(l)
	for k, want := range map[string]string{"age": "0.4 s", "phase": "sold out", "mode": "everybody queues", "waiting": "1,005", "lanes": "a 1,000, b 5", "inside": "1,234",
		"limit": "what is left to sell", "left": "7", "sold": "1,000 sold, 2 held", "drain": "60 s to 10 min", "opens": "opens in 100 s", "cause": "Forecast grew: admission was paused."} {
		if w[k] != want {
			t.Errorf("%s: got %q, want %q", k, w[k], want)
		}
	}
	for mode, want := range map[string]string{"normal": "", "paused": "warm", "admit-all": "bad"} {
		if got := tone(desk.Look{Live: desk.Live{Mode: mode}}); got != want {
			t.Errorf("%s: tone %q, want %q", mode, got, want)
		}
	}
	if got := tone(desk.Look{Stale: true, Live: desk.Live{Mode: "admit-all"}}); got != "stale" {
		t.Errorf("stale: tone %q", got)
	}
}
