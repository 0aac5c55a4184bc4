package config

import (
	"slices"
	"testing"
)

func TestDescribeRoomCoversTheDials(t *testing.T) {
	all := DescribeRoom()
	for _, want := range []Described{
		{Key: "cap", Kind: "integer", Min: 1, Max: 10_000_000},
		{Key: "rate_per_second", Kind: "number", Min: 0.01, Max: 100_000},
		{Key: "message", Kind: "text", MaxLength: 280},
		{Key: "request_budget.burst", Kind: "integer", Min: 1, Max: 100_000},
	} {
		i := slices.IndexFunc(all, func(d Described) bool { return d.Key == want.Key })
		if i < 0 {
			t.Errorf("%s is not described", want.Key)
			continue
		}
		got := all[i]
		if got.Kind != want.Kind || got.Min != want.Min || got.Max != want.Max || got.MaxLength != want.MaxLength || got.Doc == "" {
			t.Errorf("%s is described as %+v", want.Key, got)
		}
	}
	for _, d := range all {
		if (d.Kind == "integer" || d.Kind == "number") && d.Max <= d.Min {
			t.Errorf("%s has no range: %+v", d.Key, d)
		}
		if d.Kind == "choice" && len(d.Choices) == 0 {
			t.Errorf("%s has no choices", d.Key)
		}
	}
}
