package inventory

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// request is one thing asked of an owner. Exactly one of change, set, look and suggest is used.
type request struct {
	change  Change
	want    *chart.Want   // the owner chooses change.Seats
	promise time.Duration // of a hold or pin, as told to the buyer
	set     *transition
	look    *look
	suggest bool // with want: name seats, change nothing

	tries int // batches it was part of that were not applied

	mu    sync.Mutex
	phase phase
	done  chan answer // one answer
}

type transition struct {
	from []State
	to   State
}

// look asks for the block as it is once nothing sent before can still happen.
type look struct {
	mode ReadMode
	// enough tells whether the block shows what was looked for. If it does not, and others may write to the block, a
	// fence makes sure that it will not appear later. nil: whatever is there is enough.
	enough func(Block) bool
	id     uuid.UUID // what is looked for
}

type answer struct {
	seats   []int16
	expires time.Time
	block   Block
	err     error
}

type phase uint8

const (
	waiting phase = iota // not in any batch that could still be applied
	flying               // part of a batch whose outcome is open
	gone                 // its caller has left
)

func newRequest() *request { return &request{done: make(chan answer, 1)} }

// answer settles the request; its owner calls it once.
func (r *request) answer(a answer) { r.done <- a }

// fly marks the request as part of a batch; false when its caller has left before.
func (r *request) fly() bool { return r.move(flying) }

// land marks that the batch it was part of is dead; false when its caller has left.
func (r *request) land() bool { return r.move(waiting) }

func (r *request) move(to phase) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase == gone {
		return false
	}
	r.phase = to
	return true
}

// wait returns the answer, or what is known when ctx ends first: while the request flies its outcome is unknown, before
// it has had no effect and never will.
func (r *request) wait(ctx context.Context) answer {
	select {
	case a := <-r.done:
		return a
	case <-ctx.Done():
	}
	r.mu.Lock()
	was := r.phase
	r.phase = gone
	r.mu.Unlock()
	select {
	case a := <-r.done: // it came just now
		return a
	default:
	}
	if was == flying {
		return answer{err: ErrUnknownOutcome.with(uuid.Nil, 0, nil, ctx.Err())}
	}
	return answer{err: ErrUnavailable.because("gave up while waiting for the block").with(uuid.Nil, 0, nil, ctx.Err())}
}
