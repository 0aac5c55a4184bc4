package pspsim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Faults are the probabilities (0 to 1) of unkindness, per API write or per
// webhook.
type Faults struct {
	LoseRequest float64 `json:"lose_request"` // the request is never seen, the caller waits in vain
	LoseAnswer  float64 `json:"lose_answer"`  // the request is done, the caller waits in vain
	LoseHook    float64 `json:"lose_hook"`    // a webhook is never sent
	DoubleHook  float64 `json:"double_hook"`  // a webhook is sent twice
	DelayHook   float64 `json:"delay_hook"`   // a webhook comes late, by up to DelayMaxMS
	ReorderHook float64 `json:"reorder_hook"` // a webhook comes after the next one
	DelayMaxMS  int64   `json:"delay_max_ms"` // 0 = 3,000
}

func (f Faults) validate() error {
	for _, p := range []float64{f.LoseRequest, f.LoseAnswer, f.LoseHook, f.DoubleHook, f.DelayHook, f.ReorderHook} {
		if !(p >= 0 && p <= 1) {
			return fmt.Errorf("pspsim: %v is not a probability", p)
		}
	}
	if f.DelayMaxMS < 0 || f.DelayMaxMS > 3_600_000 {
		return fmt.Errorf("pspsim: a delay of %d ms is not between 0 and an hour", f.DelayMaxMS)
	}
	return nil
}

// SetFaults changes the faults of a running server.
func (s *Server) SetFaults(f Faults) error {
	if err := f.validate(); err != nil {
		return err
	}
	s.dice.set(f)
	return nil
}

func (s *Server) getFaults(context.Context, call) (any, error) { return s.dice.get(), nil }

func (s *Server) putFaults(_ context.Context, c call) (any, error) {
	var f Faults
	if err := c.decode(&f); err != nil {
		return nil, err
	}
	if err := s.SetFaults(f); err != nil {
		return nil, bad(http.StatusBadRequest, "bad_faults", "%v", err)
	}
	return f, nil
}

type fate int

const (
	asUsual fate = iota
	loseRequest
	loseAnswer
)

// dice decides which fault happens; a seed makes it repeatable.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
	f  Faults
}

func newDice(seed uint64, f Faults) *dice {
	if seed == 0 {
		seed = rand.Uint64()
	}
	return &dice{r: rand.New(rand.NewPCG(seed, 0x57a9)), f: f}
}

func (d *dice) set(f Faults) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.f = f
}

func (d *dice) get() Faults {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.f
}

func (d *dice) answer() fate {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch x := d.r.Float64(); {
	case x < d.f.LoseRequest:
		return loseRequest
	case x < d.f.LoseRequest+d.f.LoseAnswer:
		return loseAnswer
	}
	return asUsual
}

// hook decides how often and how late a webhook is sent.
func (d *dice) hook() (copies int, delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.r.Float64() < d.f.LoseHook {
		return 0, 0
	}
	copies = 1
	if d.r.Float64() < d.f.DoubleHook {
		copies = 2
	}
	most := d.f.DelayMaxMS
	if most == 0 {
		most = 3000
	}
	if d.r.Float64() < d.f.DelayHook {
		delay = time.Duration(1+d.r.Int64N(most)) * time.Millisecond
	} else if d.r.Float64() < d.f.ReorderHook {
		delay = time.Duration(most) * time.Millisecond / 10
	}
	return copies, delay
}
