package main

import (
	"bytes"
	"testing"

	"github.com/stanchion-queue/stanchion/inventory/chart"
)

func TestRun(t *testing.T) {
	for _, args := range [][]string{{"theatre"}, {"theatre", "--format", "pretix"}, {"stadium", "-format=stanchion"}} {
		var out bytes.Buffer
		if err := run(args, &out); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		if c, err := chart.Import(&out); err != nil || c.SeatCount() < 800 {
			t.Errorf("%v printed no plan: %v", args, err)
		}
	}
	for _, args := range [][]string{nil, {"arena"}, {"theatre", "--format", "xml"}, {"theatre", "--size", "3"}} {
		if err := run(args, &bytes.Buffer{}); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}
