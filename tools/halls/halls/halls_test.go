package halls_test

import (
	"bytes"
	"os"
	"reflect"
	"testing"

	"github.com/stanchion-queue/stanchion/inventory/chart"
	"github.com/stanchion-queue/stanchion/tools/halls/halls"
)

func TestHalls(t *testing.T) {
	for _, hall := range []struct {
		name       string
		c          *chart.Chart
		seats      int
		accessible int
		blocks     int
	}{{"theatre", halls.Theatre(), 836, 4, 4}, {"stadium", halls.Stadium(), 60_000, 160, 240}} {
		if n := hall.c.SeatCount(); n != hall.seats {
			t.Errorf("%s has %d seats, want %d", hall.name, n, hall.seats)
		}
		accessible, alone := 0, 0
		for _, s := range hall.c.Sections {
			for _, r := range s.Rows {
				for i, seat := range r.Seats {
					if seat.Accessible {
						accessible++
						if i+1 == len(r.Seats) || !r.Seats[i+1].Companion || r.Seats[i+1].Gap {
							alone++
						}
					}
				}
			}
		}
		if accessible != hall.accessible || alone != 0 {
			t.Errorf("%s has %d accessible places, %d of them without a companion's seat; want %d", hall.name, accessible, alone, hall.accessible)
		}
		l, err := hall.c.Layout(0)
		if err != nil || len(l.Blocks) != hall.blocks {
			t.Errorf("%s has %d blocks, want %d (%v)", hall.name, len(l.Blocks), hall.blocks, err)
		}
		document, err := hall.c.Encode()
		if err != nil || len(document) > 4<<20 {
			t.Errorf("%s as a document: %d bytes, %v", hall.name, len(document), err)
		}
	}
	if !reflect.DeepEqual(halls.Theatre(), halls.Theatre()) {
		t.Error("the theatre is not the same twice")
	}
}

// The inventory's tests sell the theatre from a file, because they may not depend on tools.
func TestTestdataIsTheTheatre(t *testing.T) {
	want, err := halls.Theatre().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../../inventory/testdata/theatre.json")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("inventory/testdata/theatre.json is not what `go run ./tools/halls theatre` prints (%v)", err)
	}
}

// The generated halls survive the foreign format with all seats, and with the aisles found again by geometry.
func TestPretixOfGeneratedHalls(t *testing.T) {
	for _, c := range []*chart.Chart{halls.Theatre(), halls.Stadium()} {
		var b bytes.Buffer
		if err := halls.WritePretix(&b, c); err != nil {
			t.Fatal(err)
		}
		back, err := chart.Import(&b)
		if err != nil {
			t.Fatal(err)
		}
		if back.SeatCount() != c.SeatCount() || len(back.Sections) != len(c.Sections) || len(back.Landmarks) != len(c.Landmarks) {
			t.Errorf("%s came back with %d seats in %d sections", c.Name, back.SeatCount(), len(back.Sections))
		}
		for i := range c.Sections {
			for j := range c.Sections[i].Rows {
				for k, want := range c.Sections[i].Rows[j].Seats {
					got := back.Sections[i].Rows[j].Seats[k]
					if got.ID != want.ID || got.Label != want.Label || got.X != want.X || got.Y != want.Y || got.Category != want.Category {
						t.Fatalf("%s: seat %+v came back as %+v", c.Name, want, got)
					}
				}
			}
		}
	}
}
