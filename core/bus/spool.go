package bus

import "context"

// Spool is the outbox as the bus inside the process reads it: events stay
// until every enrolled consumer has handled them.
type Spool interface {
	// Enrol makes consumer known for the topics; from then on events wait for
	// it.
	Enrol(ctx context.Context, consumer string, topics []string) error
	// Unhandled returns events the consumer has not handled, in the order of
	// their ids.
	Unhandled(ctx context.Context, consumer string, limit int) ([]Event, error)
	// Handled notes that it has.
	Handled(ctx context.Context, consumer string, ids []int64) error
	// Sweep deletes at most limit events that nobody waits for, and says how
	// many.
	Sweep(ctx context.Context, limit int) (int, error)
}
