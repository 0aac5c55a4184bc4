package localqueue

import (
	"bytes"
	"context"
	"testing"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// FuzzReplay feeds records to a room: whatever they hold, they are applied or refused, and what was applied can be written down and
// read again.
func FuzzReplay(f *testing.F) {
	c := newClock()
	s, err := Open(context.Background(), Options{Volatile: true, Clock: c.now})
	if err != nil {
		f.Fatal(err)
	}
	use(f, s, "a", 10)
	if _, err := claim(s, "a", 1, 2, 3); err != nil {
		f.Fatal(err)
	}
	if _, err := s.Flush(context.Background(), "a", queue.Flush{Gen: "gen", Edge: 1, No: 2, Ends: []line.SessionID{fan(2).Session}, Rows: []queue.Row{{Line: line.ID{1}, Edge: 1, Win: 9, Count: 1}}}); err != nil {
		f.Fatal(err)
	}
	parts, err := s.rooms["a"].takeParts()
	if err != nil {
		f.Fatal(err)
	}
	whole := &encoder{}
	for kind := partLine; kind <= partFeed; kind++ { // in the order of reading
		for _, p := range parts {
			if partKind(p.key[0]) == kind {
				whole.raw(p.body)
			}
			f.Add(p.body)
		}
	}
	f.Add(whole.buf)
	f.Fuzz(func(t *testing.T, body []byte) {
		r := newRoom("a")
		if err := r.replay(body); err != nil || r.checkLedgers() != nil {
			return
		}
		first, err := r.takeParts()
		if err != nil {
			t.Fatal(err)
		}
		again := newRoom("a")
		for kind := partLine; kind <= partFeed; kind++ {
			for _, p := range sorted(first) {
				if partKind(p.key[0]) == kind {
					if err := again.replay(p.body); err != nil {
						t.Fatalf("part %x: %v", p.key, err)
					}
				}
			}
		}
	})
}

func sorted(parts []part) []part {
	out := append([]part(nil), parts...)
	for i := range out {
		for j := i + 1; j < len(out); j++ {
			if bytes.Compare(out[j].key, out[i].key) < 0 {
				out[i], out[j] = out[j], out[i]
			}
		}
	}
	return out
}

// FuzzUnseal checks that a checksum is what lets a body through.
func FuzzUnseal(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0})
	f.Add(seal([]byte("body")))
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := unseal(b)
		if err == nil && !bytes.Equal(seal(body), b) {
			t.Fatalf("%x passed as %x", b, body)
		}
	})
}
