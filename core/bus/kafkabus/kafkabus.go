// Package kafkabus is the bus over Kafka. Publishing waits for all replicas
// that are in sync; consuming commits after the handler, so every event comes
// at least once. Per key the order is kept, because a key has one partition.
package kafkabus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/segmentio/kafka-go"
	"go.opentelemetry.io/otel/trace"

	"github.com/stanchion-queue/stanchion/core/bus"
)

// Options configures both halves.
type Options struct {
	Addresses []string
	Prefix    string       // of topic names, for tests and shared clusters
	ClientID  string       // shown in the brokers' logs
	Log       *slog.Logger // nil: discard
	Tracer    trace.Tracer // makes a span for each event that is handled; nil: none
	// RetryMin and RetryMax bound the wait after a handler's error; 0 = 100 ms
	// and 10 s.
	RetryMin, RetryMax time.Duration
	// Poll is how long a broker holds a fetch that has nothing; 0 = 250 ms.
	Poll time.Duration
}

func (o *Options) defaults() error {
	if len(o.Addresses) == 0 {
		return errors.New("kafkabus: a broker's address is needed")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, f := range []struct {
		d *time.Duration
		v time.Duration
	}{{&o.RetryMin, 100 * time.Millisecond}, {&o.RetryMax, 10 * time.Second}, {&o.Poll, 250 * time.Millisecond}} {
		if *f.d <= 0 {
			*f.d = f.v
		}
	}
	return nil
}

// The headers of a message. The payload is the message's value, untouched.
const (
	headerType        = "type"
	headerVersion     = "version"
	headerGeneration  = "generation"
	headerSubject     = "subject"
	headerTraceparent = "traceparent"
)

// Publisher implements bus.Publisher.
type Publisher struct {
	w      *kafka.Writer
	prefix string
}

var _ bus.Publisher = (*Publisher)(nil)

// NewPublisher returns a Publisher. Close it at the end.
func NewPublisher(o Options) (*Publisher, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	return &Publisher{prefix: o.Prefix, w: &kafka.Writer{
		Addr:         kafka.TCP(o.Addresses...),
		Balancer:     kafka.Murmur2Balancer{Consistent: true}, // as other languages' clients do
		RequiredAcks: kafka.RequireAll,
		BatchSize:    1000, // more than one Publish: its messages for a partition stay one batch
		BatchTimeout: 5 * time.Millisecond,
		WriteTimeout: 10 * time.Second,
		ReadTimeout:  10 * time.Second,
		MaxAttempts:  3,
		Transport:    &kafka.Transport{ClientID: o.ClientID},
	}}, nil
}

// Publish implements bus.Publisher.
func (p *Publisher) Publish(ctx context.Context, es []bus.Event) error {
	ms := make([]kafka.Message, len(es))
	for i, e := range es {
		ms[i] = message(p.prefix, e)
	}
	// One call, one relay per shard: the writer keeps the order per partition.
	if err := p.w.WriteMessages(ctx, ms...); err != nil {
		return fmt.Errorf("write to Kafka: %w", err)
	}
	return nil
}

// Close flushes and closes the connections.
func (p *Publisher) Close() error { return p.w.Close() }

func message(prefix string, e bus.Event) kafka.Message {
	m := kafka.Message{Topic: prefix + e.Topic, Key: []byte(e.Key), Value: e.Payload, Time: e.At, Headers: []kafka.Header{
		{Key: headerType, Value: []byte(e.Type)},
		{Key: headerVersion, Value: strconv.AppendInt(nil, e.Version, 10)},
		{Key: headerGeneration, Value: strconv.AppendInt(nil, e.Generation, 10)},
		{Key: headerSubject, Value: []byte(e.Subject.String())},
	}}
	if e.Traceparent != "" {
		m.Headers = append(m.Headers, kafka.Header{Key: headerTraceparent, Value: []byte(e.Traceparent)})
	}
	return m
}

// event reads a message. What is not ours is an error.
func event(prefix string, m kafka.Message) (bus.Event, error) {
	e := bus.Event{Topic: m.Topic[min(len(prefix), len(m.Topic)):], Key: string(m.Key), At: m.Time.UTC(), Payload: json.RawMessage(m.Value)}
	for _, h := range m.Headers {
		var err error
		switch h.Key {
		case headerType:
			e.Type = string(h.Value)
		case headerVersion:
			e.Version, err = strconv.ParseInt(string(h.Value), 10, 64)
		case headerGeneration:
			e.Generation, err = strconv.ParseInt(string(h.Value), 10, 64)
		case headerSubject:
			e.Subject, err = uuid.ParseBytes(h.Value)
		case headerTraceparent:
			e.Traceparent = string(h.Value)
		}
		if err != nil {
			return e, fmt.Errorf("header %s: %w", h.Key, err)
		}
	}
	if e.Type == "" {
		return e, errors.New("no type header")
	}
	e.Shard = bus.ShardOf(e.Key)
	return e, nil
}

// Subscriber implements bus.Subscriber by consumer groups: several processes
// that subscribe under one name share the work.
type Subscriber struct{ o Options }

var _ bus.Subscriber = (*Subscriber)(nil)

// NewSubscriber returns a Subscriber.
func NewSubscriber(o Options) (*Subscriber, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	return &Subscriber{o}, nil
}

// Subscribe implements bus.Subscriber. A consumer that is new gets everything
// the topics still hold.
func (s *Subscriber) Subscribe(ctx context.Context, consumer string, topics []string, h bus.Handler) error {
	log := s.o.Log.With("consumer", consumer)
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = s.o.Prefix + t
	}
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers:               s.o.Addresses,
		GroupID:               s.o.Prefix + consumer,
		GroupTopics:           names,
		StartOffset:           kafka.FirstOffset,
		MinBytes:              1,
		MaxBytes:              1 << 20,
		MaxWait:               s.o.Poll,
		WatchPartitionChanges: true,
		Dialer:                &kafka.Dialer{ClientID: s.o.ClientID, Timeout: 10 * time.Second, DualStack: true},
	})
	defer func() { _ = r.Close() }() // leaves the group; what is not committed comes again
	wait := s.o.RetryMin
	for {
		m, err := r.FetchMessage(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			log.Warn("cannot read from Kafka now", "error", err)
			pause(ctx, wait)
			wait = min(2*wait, s.o.RetryMax)
			continue
		}
		wait = s.o.RetryMin
		if err := s.deliver(ctx, log, consumer, m, h); err != nil {
			return err
		}
		if err := r.CommitMessages(ctx, m); err != nil && ctx.Err() == nil {
			log.Warn("an event will come again: its offset could not be committed", "error", err)
		}
	}
}

// deliver gives one message to the handler until it is handled.
func (s *Subscriber) deliver(ctx context.Context, log *slog.Logger, consumer string, m kafka.Message, h bus.Handler) error {
	e, err := event(s.o.Prefix, m)
	if err != nil { // it will never be readable: waiting would stop the partition for ever
		log.Error("a message that is not an event is passed over", "topic", m.Topic, "partition", m.Partition, "offset", m.Offset, "error", err)
		return nil
	}
	for wait := s.o.RetryMin; ; wait = min(2*wait, s.o.RetryMax) {
		err := bus.Handle(ctx, s.o.Tracer, consumer, e, h)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		log.Warn("an event waits: a consumer failed", "type", e.Type, "key", e.Key, "error", err)
		pause(ctx, wait)
	}
}

// EnsureTopics makes the topics that do not exist yet.
func EnsureTopics(ctx context.Context, o Options, partitions, replicas int, topics ...string) error {
	if err := o.defaults(); err != nil {
		return err
	}
	c := &kafka.Client{Addr: kafka.TCP(o.Addresses...), Timeout: 10 * time.Second, Transport: &kafka.Transport{ClientID: o.ClientID}}
	req := &kafka.CreateTopicsRequest{}
	for _, t := range topics {
		req.Topics = append(req.Topics, kafka.TopicConfig{Topic: o.Prefix + t, NumPartitions: partitions, ReplicationFactor: replicas})
	}
	res, err := c.CreateTopics(ctx, req)
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	for t, err := range res.Errors {
		if err != nil && !errors.Is(err, kafka.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", t, err)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
