// Package settingstest is the conformance suite of config.Settings: what the embedded store and Consul must both do.
package settingstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/stanchion-queue/stanchion/config"
)

// patience bounds every wait for something that must happen.
const patience = 10 * time.Second

// Run runs the suite. open returns an empty store and is called once a test.
func Run(t *testing.T, open func(t *testing.T) config.Settings) {
	t.Run("no document yet", func(t *testing.T) {
		s := open(t)
		if _, _, err := s.Get(t.Context(), "main"); !errors.Is(err, config.ErrNoSettings) {
			t.Errorf("Get of an unknown room: %v, want ErrNoSettings", err)
		}
		if _, err := s.Put(t.Context(), "main", Document(t, 1), "1", "ada", "first"); !errors.Is(err, config.ErrConflict) {
			t.Errorf("Put over a version that is not there: %v, want ErrConflict", err)
		}
		if h, err := s.History(t.Context(), "main", 10); err != nil || len(h) != 0 {
			t.Errorf("History of an unknown room: %v, %v", h, err)
		}
	})

	t.Run("put, get, history", func(t *testing.T) {
		s := open(t)
		before := time.Now().Add(-time.Second)
		version := ""
		for i := 1; i <= 3; i++ {
			version = put(t, s, "main", Document(t, i), version, fmt.Sprintf("change %d", i))
		}
		doc, got, err := s.Get(t.Context(), "main")
		if err != nil || got != version || !bytes.Equal(doc, Document(t, 3)) {
			t.Fatalf("Get: %s, version %q, %v; want the third document at %q", doc, got, err, version)
		}
		h, err := s.History(t.Context(), "main", 2)
		if err != nil || len(h) != 2 {
			t.Fatalf("History of 2: %d entries, %v", len(h), err)
		}
		for i, r := range h {
			if r.Room != "main" || r.Who != "ada" || r.Why != fmt.Sprintf("change %d", 3-i) || !bytes.Equal(r.Doc, Document(t, 3-i)) || r.At.Before(before) || r.At.After(time.Now().Add(time.Second)) {
				t.Errorf("History[%d] = %+v", i, r)
			}
		}
		if h[0].Version != version {
			t.Errorf("newest revision is %q, want %q", h[0].Version, version)
		}
	})

	t.Run("stale version changes nothing", func(t *testing.T) {
		s := open(t)
		first := put(t, s, "main", Document(t, 1), "", "first")
		second := put(t, s, "main", Document(t, 2), first, "second")
		for _, stale := range []string{"", first, "999", "abc"} {
			if _, err := s.Put(t.Context(), "main", Document(t, 3), stale, "eve", "late"); !errors.Is(err, config.ErrConflict) {
				t.Errorf("Put over %q: %v, want ErrConflict", stale, err)
			}
		}
		if doc, v, err := s.Get(t.Context(), "main"); err != nil || v != second || !bytes.Equal(doc, Document(t, 2)) {
			t.Errorf("after stale writes: %s at %q, %v", doc, v, err)
		}
		if h, err := s.History(t.Context(), "main", 10); err != nil || len(h) != 2 {
			t.Errorf("stale writes left %d revisions, %v", len(h), err)
		}
	})

	t.Run("refused documents", func(t *testing.T) {
		s := open(t)
		for name, p := range map[string]struct {
			room, who, why string
			doc            []byte
		}{
			"room name":       {"Main Room", "ada", "why", Document(t, 1)},
			"path in room":    {"a/b", "ada", "why", Document(t, 1)},
			"no reason":       {"main", "ada", "", Document(t, 1)},
			"nobody":          {"main", "", "why", Document(t, 1)},
			"out of range":    {"main", "ada", "why", []byte(`{"host":"a.example","cap":0}`)},
			"unknown key":     {"main", "ada", "why", []byte(`{"host":"a.example","cup":1}`)},
			"yaml":            {"main", "ada", "why", []byte("host: a.example\n")},
			"not a document":  {"main", "ada", "why", []byte(`{{`)},
			"too long":        {"main", "ada", "why", bytes.Repeat([]byte("#"), config.MaxDocumentBytes+1)},
			"reason too long": {"main", "ada", string(bytes.Repeat([]byte("x"), 1001)), Document(t, 1)},
		} {
			if _, err := s.Put(t.Context(), p.room, p.doc, "", p.who, p.why); !errors.Is(err, config.ErrInvalid) {
				t.Errorf("%s: %v, want ErrInvalid", name, err)
			}
		}
		if _, _, err := s.Get(t.Context(), "main"); !errors.Is(err, config.ErrNoSettings) {
			t.Errorf("a refused document was stored: %v", err)
		}
	})

	t.Run("hundred versions are kept", func(t *testing.T) {
		s := open(t)
		version := ""
		for i := 1; i <= 105; i++ {
			version = put(t, s, "main", Document(t, i), version, fmt.Sprintf("change %d", i))
		}
		h, err := s.History(t.Context(), "main", 1000)
		if err != nil || len(h) < 100 {
			t.Fatalf("History: %d versions, %v; want 100 or more", len(h), err)
		}
		for i, r := range h {
			if want := fmt.Sprintf("change %d", 105-i); r.Why != want {
				t.Fatalf("History[%d] is %q, want %q", i, r.Why, want)
			}
		}
	})

	t.Run("one of many writers wins", func(t *testing.T) {
		s := open(t)
		version := put(t, s, "main", Document(t, 1), "", "first")
		for range 5 {
			var mu sync.Mutex
			var won []string
			var writers sync.WaitGroup
			for i := range 8 {
				writers.Go(func() {
					v, err := s.Put(t.Context(), "main", Document(t, i+10), version, fmt.Sprintf("writer %d", i), "race")
					switch {
					case err == nil:
						mu.Lock()
						won = append(won, v)
						mu.Unlock()
					case !errors.Is(err, config.ErrConflict):
						t.Errorf("writer %d: %v", i, err)
					}
				})
			}
			writers.Wait()
			if len(won) != 1 {
				t.Fatalf("%d writers won, want exactly one", len(won))
			}
			version = won[0]
		}
	})

	t.Run("watch", func(t *testing.T) {
		s := open(t)
		a := put(t, s, "a", Document(t, 1), "", "before the watch")
		w := watch(t, s)
		w.want("a", Document(t, 1), a)
		b := put(t, s, "b", Document(t, 2), "", "while watching")
		w.want("b", Document(t, 2), b)
		for i := range 5 {
			a = put(t, s, "a", Document(t, 100+i), a, "again")
		}
		w.want("a", Document(t, 104), a)
		w.stop()
		if want := []string{"a", "b"}; !slices.Equal(w.rooms(), want) {
			t.Errorf("watched rooms %v, want %v", w.rooms(), want)
		}
	})

	t.Run("watchers do not hold each other up", func(t *testing.T) {
		s := open(t)
		slow := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Watch(ctx, func(string, []byte, string) { <-slow }) }()
		w := watch(t, s)
		v := put(t, s, "a", Document(t, 1), "", "x")
		w.want("a", Document(t, 1), v)
		w.stop()
		close(slow)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("slow watch ended with %v", err)
		}
	})

	t.Run("as a model", func(t *testing.T) {
		s := open(t)
		serial := 0
		rapid.Check(t, func(rt *rapid.T) {
			serial++
			type state struct {
				doc     []byte
				version string
				changes int
			}
			model := map[string]state{}
			room := func() string { return fmt.Sprintf("r%d-%d", serial, rapid.IntRange(0, 2).Draw(rt, "room")) }
			for range rapid.IntRange(1, 12).Draw(rt, "steps") {
				r := room()
				have := model[r]
				switch rapid.IntRange(0, 2).Draw(rt, "step") {
				case 0:
					doc := Document(t, rapid.IntRange(1, 1000).Draw(rt, "cap"))
					at := have.version
					if rapid.Bool().Draw(rt, "stale") {
						at = have.version + "0"
					}
					v, err := s.Put(t.Context(), r, doc, at, "ada", "model")
					if at != have.version {
						if !errors.Is(err, config.ErrConflict) {
							rt.Fatalf("stale put: %v", err)
						}
						continue
					}
					if err != nil || v == have.version {
						rt.Fatalf("put over %q: %q, %v", at, v, err)
					}
					model[r] = state{doc, v, have.changes + 1}
				case 1:
					doc, v, err := s.Get(t.Context(), r)
					if have.version == "" {
						if !errors.Is(err, config.ErrNoSettings) {
							rt.Fatalf("get: %v", err)
						}
						continue
					}
					if err != nil || v != have.version || !bytes.Equal(doc, have.doc) {
						rt.Fatalf("get: %s at %q, %v; want %s at %q", doc, v, err, have.doc, have.version)
					}
				case 2:
					h, err := s.History(t.Context(), r, 100)
					if err != nil || len(h) != have.changes {
						rt.Fatalf("history: %d, %v; want %d", len(h), err, have.changes)
					}
				}
			}
		})
	})
}

// Document is a valid settings document; different caps make different ones.
func Document(t *testing.T, cap int) []byte {
	t.Helper()
	room, err := config.ParseRoom("main", fmt.Appendf(nil, `{"host": "a.example", "cap": %d}`, cap))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := room.Document()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func put(t *testing.T, s config.Settings, room string, doc []byte, over, why string) string {
	t.Helper()
	v, err := s.Put(t.Context(), room, doc, over, "ada", why)
	if err != nil {
		t.Fatalf("Put %s over %q: %v", room, over, err)
	}
	return v
}

// watching collects what a watch tells.
type watching struct {
	t      *testing.T
	cancel context.CancelFunc
	ended  chan error
	news   chan config.Revision
	seen   []config.Revision
}

func watch(t *testing.T, s config.Settings) *watching {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watching{t: t, cancel: cancel, ended: make(chan error, 1), news: make(chan config.Revision, 1000)}
	go func() {
		w.ended <- s.Watch(ctx, func(room string, doc []byte, version string) {
			w.news <- config.Revision{Room: room, Doc: slices.Clone(doc), Version: version}
		})
	}()
	return w
}

// want waits until the watch has told this; versions in between may have come or not.
func (w *watching) want(room string, doc []byte, version string) {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case r := <-w.news:
			w.seen = append(w.seen, r)
			if r.Room == room && r.Version == version {
				if !bytes.Equal(r.Doc, doc) {
					w.t.Fatalf("watch told %s for %s at %s, want %s", r.Doc, room, version, doc)
				}
				return
			}
		case err := <-w.ended:
			w.t.Fatalf("watch ended: %v", err)
		case <-deadline:
			w.t.Fatalf("watch did not tell %s at %s within %s", room, version, patience)
		}
	}
}

func (w *watching) stop() {
	w.t.Helper()
	w.cancel()
	select {
	case err := <-w.ended:
		if !errors.Is(err, context.Canceled) {
			w.t.Fatalf("watch ended with %v, want context.Canceled", err)
		}
	case <-time.After(patience):
		w.t.Fatalf("watch did not end within %s", patience)
	}
}

func (w *watching) rooms() []string {
	var all []string
	for _, r := range w.seen {
		if !slices.Contains(all, r.Room) {
			all = append(all, r.Room)
		}
	}
	slices.Sort(all)
	return all
}
