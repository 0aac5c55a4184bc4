package room

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
)

// Change is one key that differs between two documents.
type Change struct {
	Key  string          `json:"key"`
	From json.RawMessage `json:"from"`
	To   json.RawMessage `json:"to"`
}

// Changes lists what differs from s to next, by JSON key, sorted.
func (s Settings) Changes(next Settings) ([]Change, error) {
	a, err := s.keys()
	if err != nil {
		return nil, err
	}
	b, err := next.keys()
	if err != nil {
		return nil, err
	}
	var out []Change
	for k, from := range a {
		if to := b[k]; string(from) != string(to) {
			out = append(out, Change{k, from, to})
		}
	}
	for k, to := range b {
		if _, ok := a[k]; !ok {
			out = append(out, Change{k, json.RawMessage("null"), to})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out, nil
}

func (s Settings) keys() (map[string]json.RawMessage, error) {
	doc, err := s.Document()
	if err != nil {
		return nil, err
	}
	keys := map[string]json.RawMessage{}
	if err := json.Unmarshal(doc, &keys); err != nil {
		return nil, fmt.Errorf("read own settings: %w", err)
	}
	return keys, nil
}

// Within names what of next cannot hold in the line that s began, a Problems: a line's record is signed and public, so its lanes,
// what it asks of fans and how it is drawn stay, and after the opening (opened) a sale can only be paused.
func (s Settings) Within(next Settings, opened bool) error {
	var p Problems
	fixed := func(key string, from, to any) {
		p = append(p, Problem{key, fmt.Sprintf("%v", to), fmt.Sprintf("%v, as the line's signed record says; a new line can differ", from)})
	}
	if s.Who.Kind() != next.Who.Kind() {
		fixed("who", s.Who, next.Who)
	}
	names := func(x Settings) []string {
		out := make([]string, len(x.Lanes))
		for i, l := range x.Lanes {
			out[i] = l.Name
		}
		return out
	}
	if !slices.Equal(names(s), names(next)) {
		fixed("lanes", names(s), names(next))
	}
	a, b := s.Opening, next.Opening
	if a.Lobby != b.Lobby {
		fixed("opening.lobby", a.Lobby, b.Lobby)
	}
	if a.Draw.Kind != b.Draw.Kind || a.Draw.Chain != b.Draw.Chain {
		fixed("opening.draw.kind", a.Draw.Kind, b.Draw.Kind)
	}
	if opened && a.OpensAtMs != b.OpensAtMs {
		fixed("opening.opens_at_ms", a.OpensAtMs, b.OpensAtMs)
	}
	if p == nil {
		return nil
	}
	return p
}
