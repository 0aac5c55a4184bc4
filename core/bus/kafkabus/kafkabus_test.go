package kafkabus

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"
	"pgregory.net/rapid"

	"github.com/stanchion-queue/stanchion/core/bus"
)

func TestMessageAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := bus.Event{Topic: "stanchion.orders", Key: rapid.String().Draw(t, "key"), Type: rapid.StringN(1, 20, -1).Draw(t, "type"),
			Version: rapid.Int64().Draw(t, "version"), Generation: rapid.Int64().Draw(t, "generation"), Subject: uuid.New(),
			At: time.UnixMilli(rapid.Int64Range(1, 1<<42).Draw(t, "at")).UTC(), Traceparent: rapid.SampledFrom([]string{"", "00-a-b-01"}).Draw(t, "trace"),
			Payload: json.RawMessage(`{"a":1}`)}
		e.Shard = bus.ShardOf(e.Key)
		got, err := event("p.", message("p.", e))
		if err != nil {
			t.Fatal(err)
		}
		x, _ := json.Marshal(e)
		y, _ := json.Marshal(got)
		if string(x) != string(y) {
			t.Fatalf("want %s, got %s", x, y)
		}
	})
}

func TestForeignMessagesAreRefused(t *testing.T) {
	for name, m := range map[string]kafka.Message{
		"no headers":  {Topic: "p.x", Value: []byte("hi")},
		"bad version": {Topic: "p.x", Headers: []kafka.Header{{Key: "type", Value: []byte("t")}, {Key: "version", Value: []byte("one")}}},
		"bad subject": {Topic: "p.x", Headers: []kafka.Header{{Key: "type", Value: []byte("t")}, {Key: "subject", Value: []byte("me")}}},
		"short topic": {Topic: "p"},
	} {
		if _, err := event("p.", m); err == nil {
			t.Errorf("%s: taken for an event", name)
		}
	}
}

func FuzzEvent(f *testing.F) {
	f.Add("p.orders", "k", "type", []byte("x"), "version", []byte("1"))
	f.Add("", "", "", []byte(nil), "subject", []byte("00000000-0000-0000-0000-000000000000"))
	f.Fuzz(func(t *testing.T, topic, key, h1 string, v1 []byte, h2 string, v2 []byte) {
		e, err := event("p.", kafka.Message{Topic: topic, Key: []byte(key), Headers: []kafka.Header{{Key: h1, Value: v1}, {Key: h2, Value: v2}}})
		if err == nil && e.Type == "" {
			t.Error("an event without a type")
		}
	})
}

func TestOptionsSayWhatIsMissing(t *testing.T) {
	if _, err := NewPublisher(Options{}); err == nil {
		t.Error("a publisher without a broker")
	}
	if _, err := NewSubscriber(Options{}); err == nil {
		t.Error("a subscriber without a broker")
	}
	if err := EnsureTopics(t.Context(), Options{}, 1, 1, "x"); err == nil {
		t.Error("topics without a broker")
	}
}
