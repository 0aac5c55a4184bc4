package pressure

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestGauge: up at once, down one step at a time after a while clearly below, never flapping at the edge.
func TestGauge(t *testing.T) {
	var g Gauge
	look := func(share float64, starved bool, want Level) {
		t.Helper()
		if got := g.Look(Usage{Descriptors: share}, starved); got != want {
			t.Fatalf("at %.2f (starved %v): %d, want %d", share, starved, got, want)
		}
	}
	look(0.5, false, Calm)
	look(0.86, false, High)
	look(0.97, false, Critical)
	for range 100 {
		look(0.93, false, Critical) // not clearly below
	}
	for range calmLooks - 1 {
		look(0.5, false, Critical)
	}
	look(0.5, false, High)
	for range calmLooks - 1 {
		look(0.5, false, High)
	}
	look(0.82, false, High) // begins anew
	for range calmLooks - 1 {
		look(0.5, false, High)
	}
	look(0.5, false, Calm)
	look(0.1, true, Critical)
	if u := (Usage{0.1, 0.7, 0.3}); u.Highest() != 0.7 {
		t.Errorf("highest of %v is %v", u, u.Highest())
	}
}

func TestProbe(t *testing.T) {
	p := NewProbe(1<<40, 10*runtime.NumGoroutine())
	before, err := p.Read()
	if err != nil {
		t.Fatal(err)
	}
	if before.Memory <= 0 || before.Memory >= 1 || before.Goroutines <= 0 || before.Goroutines > 0.5 {
		t.Errorf("%+v", before)
	}
	if runtime.GOOS != "linux" {
		return
	}
	for i := range 50 {
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(i, err)
		}
		defer f.Close()
	}
	after, err := p.Read()
	if err != nil {
		t.Fatal(err)
	}
	if got := (after.Descriptors - before.Descriptors) * float64(descriptorLimit()); got < 49.5 || got > 60 {
		t.Errorf("50 files more count as %.1f descriptors", got)
	}
}

func TestGroupLimit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "memory.max")
	for text, want := range map[string]uint64{"max\n": 0, "1073741824\n": 1 << 30, "": 0} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := groupLimit(file); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if got := groupLimit(file + "-not-there"); got != 0 {
		t.Errorf("no file: %d", got)
	}
}
