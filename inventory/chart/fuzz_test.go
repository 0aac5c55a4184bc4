package chart_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// check holds what must be true of every document: an error about its format and nothing else, or a valid chart that
// survives its own format and can be split.
func check(t *testing.T, c *chart.Chart, err error) {
	t.Helper()
	if err != nil {
		var f *chart.FormatError
		if !errors.As(err, &f) || c != nil {
			t.Fatalf("refused with %T %v and chart %v", err, err, c)
		}
		return
	}
	document, err := c.Encode()
	if err != nil {
		t.Fatalf("a decoded chart is not valid: %v", err)
	}
	back, err := chart.Decode(document)
	if err != nil {
		t.Fatalf("our own document is refused: %v", err)
	}
	again, err := back.Encode()
	if err != nil || !bytes.Equal(document, again) {
		t.Fatalf("the chart changed on its way (%v):\n%s\n%s", err, document, again)
	}
	if _, err := c.Layout(0); err != nil {
		t.Fatal(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(small))
	theatre, err := os.ReadFile("../testdata/theatre.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(theatre)
	f.Add([]byte(`{"format":"stanchion-seating-plan","version":1}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		c, err := chart.Decode(document)
		check(t, c, err)
	})
}

func FuzzDecodePretix(f *testing.F) {
	f.Add([]byte(cabaret))
	f.Add([]byte(`{"zones":[{"position":{"x":0,"y":0},"rows":[]}],"name":"x","categories":[]}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		c, err := chart.DecodePretix(document)
		check(t, c, err)
	})
}
