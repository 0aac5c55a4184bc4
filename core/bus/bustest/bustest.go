// Package bustest holds what every bus must do with what was written into the
// outbox: one suite for the bus inside the process and the one over Kafka.
package bustest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/core/bus"
)

// Bench is a bus on an outbox of its own.
type Bench struct {
	// Emit writes events in one committed transaction.
	Emit func(ctx context.Context, es ...bus.Event) error
	// Subscriber returns a new subscriber, as a new process would have.
	Subscriber func() bus.Subscriber
	// Topics are two topics that this bench alone uses.
	Topics [2]string
}

// Run runs the suite. open makes a bench that lives as long as the test.
func Run(t *testing.T, open func(t *testing.T) Bench) {
	for name, f := range map[string]func(*testing.T, Bench){
		"everything arrives whole":           testWhole,
		"order per key":                      testOrder,
		"an error repeats":                   testError,
		"a restart loses nothing":            testRestart,
		"consumers do not hold up another":   testApart,
		"only the topics that are asked for": testTopics,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, open(t))
		})
	}
}

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// reader is a consumer that runs in the background and collects.
type reader struct {
	t     *testing.T
	got   chan bus.Event
	hello chan struct{} // closed when the first hello came
	stop  func() error
}

// read subscribes; handle, if set, may refuse an event.
func read(t *testing.T, s bus.Subscriber, consumer string, topics []string, handle func(bus.Event) error) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &reader{t: t, got: make(chan bus.Event, 10_000), hello: make(chan struct{})}
	var heard sync.Once
	ended := make(chan error, 1)
	go func() {
		ended <- s.Subscribe(ctx, consumer, topics, func(_ context.Context, e bus.Event) error {
			if e.Key == hello {
				heard.Do(func() { close(r.hello) })
				return nil
			}
			if handle != nil {
				if err := handle(e); err != nil {
					return err
				}
			}
			r.got <- e
			return nil
		})
	}()
	var once sync.Once
	var err error
	r.stop = func() error {
		once.Do(func() {
			cancel()
			err = <-ended
		})
		return err
	}
	t.Cleanup(func() {
		if err := r.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("a subscription ended with %v", err)
		}
	})
	return r
}

func (r *reader) next() bus.Event {
	r.t.Helper()
	select {
	case e := <-r.got:
		return e
	case <-time.After(patience):
		r.t.Fatal("no event came")
		return bus.Event{}
	}
}

// until reads until an event of the key has the version.
func (r *reader) until(key string, version int64) (es []bus.Event) {
	r.t.Helper()
	for {
		e := r.next()
		es = append(es, e)
		if e.Key == key && e.Version == version {
			return es
		}
	}
}

func event(topic, key string, version int64) bus.Event {
	return bus.Event{Shard: bus.ShardOf(key), Topic: topic, Key: key, Type: "thing.changed", Version: version, Subject: uuid.New(),
		At: time.Now().UTC().Truncate(time.Millisecond), Payload: json.RawMessage(fmt.Sprintf(`{"version":%d}`, version))}
}

func emit(t *testing.T, b Bench, es ...bus.Event) {
	t.Helper()
	if err := b.Emit(t.Context(), es...); err != nil {
		t.Fatal(err)
	}
}

// hello is the key of events that only find out who listens already.
const hello = "hello"

// enrolled waits until the consumers are known to the bus: what was written
// before may not be for them.
func enrolled(t *testing.T, b Bench, topic string, rs ...*reader) {
	t.Helper()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(patience)
	for v, i := int64(1), 0; i < len(rs); {
		emit(t, b, event(topic, hello, v))
		v++
		select {
		case <-rs[i].hello:
			i++
		case <-again.C:
		case <-deadline:
			t.Fatal("a consumer hears nothing")
		}
	}
}

func testWhole(t *testing.T, b Bench) {
	r := read(t, b.Subscriber(), "mail", b.Topics[:1], nil)
	enrolled(t, b, b.Topics[0], r)
	want := event(b.Topics[0], "order-1", 7)
	want.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	emit(t, b, want)
	got := r.next()
	if got.Generation < 1 {
		t.Errorf("generation %d", got.Generation)
	}
	want.ID, want.Generation = got.ID, got.Generation
	x, _ := json.Marshal(want)
	y, _ := json.Marshal(got)
	if string(x) != string(y) {
		t.Errorf("want %s\ngot  %s", x, y)
	}
	if want.DedupeKey() != got.DedupeKey() {
		t.Errorf("an inbox would not know it: %s, %s", want.DedupeKey(), got.DedupeKey())
	}
}

func testOrder(t *testing.T, b Bench) {
	const keys, versions = 10, 30
	one := read(t, b.Subscriber(), "mail", b.Topics[:1], nil)
	two := read(t, b.Subscriber(), "search", b.Topics[:1], nil)
	enrolled(t, b, b.Topics[0], one, two)
	for v := int64(1); v <= versions; v++ {
		var es []bus.Event
		for k := range keys {
			es = append(es, event(b.Topics[0], fmt.Sprintf("order-%d", k), v))
		}
		emit(t, b, es...)
	}
	for name, r := range map[string]*reader{"mail": one, "search": two} {
		last := map[string]int64{}
		for complete := 0; complete < keys; {
			e := r.next()
			switch {
			case e.Version <= last[e.Key]: // a repetition is allowed
			case e.Version == last[e.Key]+1:
				last[e.Key] = e.Version
				if e.Version == versions {
					complete++
				}
			default:
				t.Fatalf("%s: %s came in version %d after %d", name, e.Key, e.Version, last[e.Key])
			}
		}
	}
}

func testError(t *testing.T, b Bench) {
	var mu sync.Mutex
	refusals, after := 0, false
	r := read(t, b.Subscriber(), "mail", b.Topics[:1], func(e bus.Event) error {
		mu.Lock()
		defer mu.Unlock()
		if e.Key == "order-1" && e.Version == 1 && refusals < 3 {
			refusals++
			return errors.New("not now")
		}
		if e.Key == "order-1" && e.Version == 2 && refusals < 3 {
			after = true
		}
		return nil
	})
	enrolled(t, b, b.Topics[0], r)
	emit(t, b, event(b.Topics[0], "order-1", 1), event(b.Topics[0], "order-1", 2))
	es := r.until("order-1", 2)
	mu.Lock()
	defer mu.Unlock()
	if refusals != 3 || after || es[0].Version != 1 {
		t.Errorf("refused %d times, overtaken: %v, first version %d", refusals, after, es[0].Version)
	}
}

func testRestart(t *testing.T, b Bench) {
	r := read(t, b.Subscriber(), "mail", b.Topics[:1], nil)
	enrolled(t, b, b.Topics[0], r)
	emit(t, b, event(b.Topics[0], "order-1", 1))
	r.until("order-1", 1)
	if err := r.stop(); !errors.Is(err, context.Canceled) {
		t.Fatalf("stop: %v", err)
	}
	emit(t, b, event(b.Topics[0], "order-1", 2), event(b.Topics[0], "order-2", 1)) // nobody listens

	r = read(t, b.Subscriber(), "mail", b.Topics[:1], nil)
	r.until("order-2", 1)
	emit(t, b, event(b.Topics[0], "order-2", 2))
	r.until("order-2", 2)
	if err := r.stop(); !errors.Is(err, context.Canceled) {
		t.Fatalf("stop: %v", err)
	}

	// Killed in the middle of an event: it comes again.
	died := make(chan struct{})
	var once sync.Once
	r = read(t, b.Subscriber(), "mail", b.Topics[:1], func(e bus.Event) error {
		once.Do(func() { close(died) })
		return errors.New("killed")
	})
	emit(t, b, event(b.Topics[0], "order-3", 1))
	select {
	case <-died:
	case <-time.After(patience):
		t.Fatal("no event came")
	}
	_ = r.stop()
	r = read(t, b.Subscriber(), "mail", b.Topics[:1], nil)
	if e := r.next(); e.Key != "order-3" {
		t.Errorf("after a kill came %s", e.Key)
	}
}

func testApart(t *testing.T, b Bench) {
	stuck := read(t, b.Subscriber(), "room", b.Topics[:1], func(bus.Event) error { return errors.New("the room does not answer") })
	r := read(t, b.Subscriber(), "mail", b.Topics[:1], nil)
	enrolled(t, b, b.Topics[0], r, stuck)
	for v := int64(1); v <= 5; v++ {
		emit(t, b, event(b.Topics[0], "order-1", v))
	}
	r.until("order-1", 5)
	select {
	case e := <-stuck.got:
		t.Errorf("a stuck consumer took %+v", e)
	default:
	}
}

func testTopics(t *testing.T, b Bench) {
	both := read(t, b.Subscriber(), "mail", b.Topics[:], nil)
	second := read(t, b.Subscriber(), "room", b.Topics[1:], nil)
	enrolled(t, b, b.Topics[1], second, both)
	emit(t, b, event(b.Topics[0], "order-1", 1), event(b.Topics[1], "order-1", 2))
	seen := map[string]bool{}
	for len(seen) < 2 { // across topics there is no order
		seen[both.next().Topic] = true
	}
	if e := second.next(); e.Topic != b.Topics[1] || e.Version != 2 {
		t.Errorf("came from a topic that was not asked for: %+v", e)
	}
}
