// Package stocktest is the conformance suite of seat stores: what inventory.Stock promises, each trap that a store with
// leases and conditional batches can fall into, and races. Run takes any inventory.Store; both adapters call it.
//
// WithFaults wraps a store so that answers get lost in all three ways that happen.
package stocktest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"

	"github.com/stanchion-queue/stanchion/inventory"
)

// Faults are the chances, 0 to 1, that the answer to a batch is lost.
type Faults struct {
	AppliedButError    float64 // the store did what it does with the batch; the caller hears "unknown"
	NotAppliedButError float64 // the batch never arrives; the caller hears "unknown"
	AppliedLater       float64 // the batch arrives later, perhaps after the next ones
}

// Faulty is a store whose answers get lost. All but Apply goes straight through.
type Faulty struct {
	inventory.Store

	mu      sync.Mutex
	faults  Faults
	rng     *rand.Rand
	late    map[inventory.Key][]inventory.Batch
	unknown int
	alive   int
}

// ErrLost is the cause of every forced unknown outcome.
var ErrLost = errors.New("stocktest: the answer was lost")

// WithFaults wraps a store. The same seed gives the same faults for the same order of calls.
func WithFaults(store inventory.Store, seed uint64, faults Faults) *Faulty {
	return &Faulty{
		Store: store, faults: faults, rng: rand.New(rand.NewPCG(seed, 1)),
		late: map[inventory.Key][]inventory.Batch{},
	}
}

// Set changes the chances.
func (f *Faulty) Set(faults Faults) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = faults
}

// Unknowns counts the forced unknown outcomes, Alive how many late batches were applied when they arrived.
func (f *Faulty) Unknowns() (unknowns, alive int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unknown, f.alive
}

type fault uint8

const (
	none fault = iota
	appliedButError
	notAppliedButError
	appliedLater
)

// draw decides the fate of one batch and which late ones arrive before and after it.
func (f *Faulty) draw(key inventory.Key, batch inventory.Batch) (fate fault, before, after []inventory.Batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch x := f.rng.Float64(); {
	case x < f.faults.AppliedButError:
		fate = appliedButError
	case x < f.faults.AppliedButError+f.faults.NotAppliedButError:
		fate = notAppliedButError
	case x < f.faults.AppliedButError+f.faults.NotAppliedButError+f.faults.AppliedLater:
		fate = appliedLater
	}
	if fate != none {
		f.unknown++
	}
	var stay []inventory.Batch
	for _, b := range f.late[key] {
		switch f.rng.IntN(3) {
		case 0:
			before = append(before, b)
		case 1:
			after = append(after, b)
		default:
			stay = append(stay, b)
		}
	}
	if fate == appliedLater {
		stay = append(stay, batch)
	}
	f.late[key] = stay
	return fate, before, after
}

// Apply implements inventory.Stock.
func (f *Faulty) Apply(ctx context.Context, key inventory.Key, batch inventory.Batch) (inventory.Outcome, error) {
	if err := batch.Check(); err != nil {
		return f.Store.Apply(ctx, key, batch)
	}
	fate, before, after := f.draw(key, batch)
	if err := f.arrive(ctx, key, before); err != nil {
		return inventory.Outcome{}, err
	}
	var out inventory.Outcome
	var err error
	switch fate {
	case none:
		out, err = f.Store.Apply(ctx, key, batch)
	case appliedButError:
		_, _ = f.Store.Apply(ctx, key, batch) // its answer is what gets lost
		err = ErrLost
	default:
		err = ErrLost
	}
	return out, errors.Join(err, f.arrive(ctx, key, after))
}

func (f *Faulty) arrive(ctx context.Context, key inventory.Key, late []inventory.Batch) error {
	for _, b := range late {
		out, err := f.Store.Apply(ctx, key, b)
		if err != nil {
			return err
		}
		if out.Verdict == inventory.Applied {
			f.mu.Lock()
			f.alive++
			f.mu.Unlock()
		}
	}
	return nil
}

// Flush lets all late batches arrive and counts those that were applied.
func (f *Faulty) Flush(ctx context.Context) (applied int, err error) {
	f.mu.Lock()
	late := f.late
	f.late = map[inventory.Key][]inventory.Batch{}
	before := f.alive
	f.mu.Unlock()
	for key, batches := range late {
		if err := f.arrive(ctx, key, batches); err != nil {
			return 0, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.alive - before, nil
}
