package config

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestDigestIsOfWhatHolds(t *testing.T) {
	a, reportA, errA := load("node: x\nrooms: {a: {cap: 5}, b: {}}\ndrain_timeout_s: 20", nil)
	b, reportB, errB := load("rooms:\n  b:\n  a:\n    cap: 5.0 # the same\n", []string{"STANCHION_NODE=x"})
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if reportA.Digest != reportB.Digest || a.Digest() != b.Digest() {
		t.Errorf("the same configuration, written in two ways, has two digests:\n%v", Changes(a, b))
	}
	c, _, err := load("node: x\nrooms: {a: {cap: 6}, b: {}}", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Digest() == a.Digest() {
		t.Error("another cap, the same digest")
	}
}

func TestMasked(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	cfg, _, err := load("rooms: {a: {who: invite, codes: {sha256: ["+hash+"]}}}\nadmin: {users_file: /etc/users}", nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.PublicURL = "https://u:hunter2@a.example" // Load would refuse it
	text, err := cfg.Masked()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte(hash)) || bytes.Contains(text, []byte("hunter2")) {
		t.Errorf("secrets are shown:\n%s", text)
	}
	for _, want := range []string{"users_file: /etc/users", mask, "address: 127.0.0.1:8080"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("%q is not shown", want)
		}
	}
	if cfg.Rooms["a"].Codes.SHA256[0] != hash {
		t.Error("masking changed the configuration itself")
	}
}

func TestChanges(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	before, _, err := load("node: x\nrooms: {a: {cap: 5}}\nlog: {level: info}\ntrusted_hops: [10.0.0.0/8]", nil)
	if err != nil {
		t.Fatal(err)
	}
	after, _, err := load("node: y\nrooms: {a: {cap: 6, codes: {sha256: ["+hash+"]}}}\nlog: {level: debug}", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Change{
		{"log.level", "info", "debug", true},
		{"node", "x", "y", false},
		{"rooms.a.cap", "5", "6", true},
		{"rooms.a.codes.sha256[0]", "", mask, true},
		{"trusted_hops[0]", "10.0.0.0/8", "", true},
	}
	if got := Changes(before, after); !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := Changes(before, before); len(got) != 0 {
		t.Errorf("changes against itself: %v", got)
	}
}

// TestRoomDocument: what the settings store holds comes back as it was, whatever a room says.
func TestRoomDocument(t *testing.T) {
	keys := scalarKeys()
	var roomKeys []string
	for key := range keys {
		if name, ok := strings.CutPrefix(key, "rooms.a."); ok {
			roomKeys = append(roomKeys, name)
		}
	}
	slices.Sort(roomKeys)
	rapid.Check(t, func(rt *rapid.T) {
		cfg := Config{Rooms: map[string]Room{}}
		b := newBinder()
		b.defaults(&cfg)
		b.assign(&cfg, []string{"rooms", "a"}, "{}", Source{})
		for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom(roomKeys), 0, 8, rapid.ID[string]).Draw(rt, "keys") {
			b.assign(&cfg, strings.Split("rooms.a."+key, "."), drawValue(rt, keys["rooms.a."+key], key), Source{})
		}
		room := cfg.Rooms["a"]
		doc, err := room.Document()
		if err != nil {
			rt.Fatal(err)
		}
		again, err := ParseRoom("a", doc)
		if err != nil { // impossible together, not one by one
			validateRoom(&b.problems, b.sources, "a", room)
			if b.problems.err() == nil {
				rt.Fatalf("a valid room is refused as a document: %v\n%s", err, doc)
			}
			return
		}
		doc2, err := again.Document()
		if err != nil || !bytes.Equal(doc, doc2) {
			rt.Fatalf("came back as another:\n%s\n%s %v", doc, doc2, err)
		}
	})
}

func TestParseRoomRefusals(t *testing.T) {
	for doc, want := range map[string]string{
		"":                             `settings of room a: are empty; give a document, {} for all defaults`,
		"null":                         `settings of room a: are empty; give a document, {} for all defaults`,
		"[]":                           `settings of room a:1: rooms.a: is a list; allowed: a block of keys; see the reference of this key`,
		`{"cap": 0}`:                   `settings of room a:1: rooms.a.cap = "0": is out of range; allowed: 1 to 10000000; choose a value in it`,
		"{\n\"cap\": 5,\n\"caps\": 5}": `settings of room a:3: rooms.a.caps: is not a known key; did you mean "cap"?`,
		`{"idle_s": 901}`:              `settings of room a:1: rooms.a.idle_s = 901: is longer than stay_max_s (900); lower it, or raise stay_max_s`,
	} {
		_, err := ParseRoom("a", []byte(doc))
		if err == nil || !strings.HasSuffix(err.Error(), "\n  "+want) {
			t.Errorf("%q: %v\nwant %s", doc, err, want)
		}
	}
	if r, err := ParseRoom("a", []byte("{}")); err != nil || r.Cap != 100 {
		t.Errorf("{}: %+v, %v", r, err)
	}
	if _, err := ParseRoom("A", []byte("{}")); err == nil {
		t.Error("a room called A was accepted")
	}
}

func FuzzParseRoom(f *testing.F) {
	f.Add([]byte(`{"host": "a.example", "cap": 5, "lanes": [{"name": "general"}]}`))
	f.Add([]byte("host: a\nopening: {opens_at: 2030-01-01T00:00:00Z}"))
	f.Add([]byte(`{"cap": 1e300}`))
	f.Add([]byte("\xff\xfe"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		room, err := ParseRoom("a", doc)
		if err != nil {
			return
		}
		text, err := room.Document()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRoom("a", text); err != nil {
			t.Fatalf("accepted once, refused when stored: %v\n%s", err, text)
		}
	})
}
