package controller

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/stanchion-queue/stanchion/queue/pace"
	"github.com/stanchion-queue/stanchion/queue/room"
)

// reportLivesFor is how long a report counts.
const reportLivesFor = 5 * time.Second

// stockAfter is how many sessions must have ended before the mean of their purchases replaces the seat limit.
const stockAfter = 100

// Report is how one part of what the room protects is doing. The core sends one with its stock, an edge in front of a foreign origin one
// without.
type Report struct {
	Source     string  `json:"source"`               // who reports: reports of several sources are all heeded
	Sellable   *int64  `json:"sellable,omitempty"`   // seats that can be sold now; absent: no stock is known
	Held       int64   `json:"held,omitempty"`       // seats in baskets
	SoldTotal  *int64  `json:"sold_total,omitempty"` // seats sold so far
	ErrorRatio float64 `json:"error_ratio"`          // share of failed answers in the last second, 0 to 1
	P99MS      float64 `json:"p99_ms"`               // of the answers' time in the last second
}

// Validate refuses impossible numbers.
func (r Report) Validate() error {
	bad := func(key string, v any, want string) error {
		return room.Problems{{Key: key, Value: fmt.Sprint(v), Want: want}}
	}
	switch {
	case len(r.Source) > 64:
		return bad("source", len(r.Source), "at most 64 bytes")
	case r.Sellable != nil && (*r.Sellable < 0 || *r.Sellable > 1e9):
		return bad("sellable", *r.Sellable, "0 to 1000000000")
	case r.Held < 0 || r.Held > 1e9:
		return bad("held", r.Held, "0 to 1000000000")
	case r.SoldTotal != nil && (*r.SoldTotal < 0 || *r.SoldTotal > 1e9):
		return bad("sold_total", *r.SoldTotal, "0 to 1000000000")
	case !(r.ErrorRatio >= 0 && r.ErrorRatio <= 1):
		return bad("error_ratio", r.ErrorRatio, "0 to 1")
	case !(r.P99MS >= 0 && r.P99MS <= 1e7):
		return bad("p99_ms", r.P99MS, "0 to 10000000")
	}
	return nil
}

// reports keeps the last report of each source. Safe for concurrent use.
type reports struct {
	mu       sync.Mutex
	bySource map[string]dated
	sold0    int64 // of the first report that told what was sold
	hasSold0 bool
	most     int64 // most stock ever reported: the 100% of "below 5% left"
}

type dated struct {
	Report
	at time.Time
}

func (r *reports) put(x Report, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bySource == nil {
		r.bySource = map[string]dated{}
	}
	if len(r.bySource) >= 1000 { // sources are trusted, yet they restart under new names
		for k, d := range r.bySource {
			if now.Sub(d.at) > reportLivesFor {
				delete(r.bySource, k)
			}
		}
	}
	r.bySource[x.Source] = dated{x, now}
	if x.SoldTotal != nil && !r.hasSold0 {
		r.sold0, r.hasSold0 = *x.SoldTotal, true
	}
}

// health is what the living reports add up to.
type health struct {
	known    bool // somebody reports
	over     bool // somebody is over the target
	stock    *pace.Stock
	sellable int64
	soldOut  bool
	scarce   bool // below 5% of the most that was ever there
	silent   []string
	origin   *room.OriginState // AtMs is the age here, in milliseconds
}

// origin is the worst that living reports say, or the last report when none lives; its AtMs is the age of the newest. The lock is held.
func (r *reports) origin(now time.Time) *room.OriginState {
	var out *room.OriginState
	for _, d := range r.bySource {
		age := now.Sub(d.at).Milliseconds()
		one := room.OriginState{P99MS: d.P99MS, ErrorRatio: d.ErrorRatio, AtMs: age}
		lives := age <= reportLivesFor.Milliseconds()
		switch {
		case out == nil, lives && out.AtMs > reportLivesFor.Milliseconds(), !lives && age < out.AtMs:
			out = &one
		case lives:
			*out = room.OriginState{P99MS: max(out.P99MS, one.P99MS), ErrorRatio: max(out.ErrorRatio, one.ErrorRatio), AtMs: min(out.AtMs, age)}
		}
	}
	return out
}

// sum adds up the living reports. ended is how many sessions have ended, seatLimit what one fan may buy.
func (r *reports) sum(now time.Time, origin room.Origin, ended int64, seatLimit int) (h health) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held, sold, stocked, soldKnown := int64(0), int64(0), false, false
	h.origin = r.origin(now)
	for name, d := range r.bySource {
		age := now.Sub(d.at)
		if age > reportLivesFor {
			if age < reportLivesFor+2*time.Second {
				h.silent = append(h.silent, name)
			}
			continue
		}
		h.known = true
		h.over = h.over || d.P99MS > float64(origin.P99MS) || d.ErrorRatio > origin.ErrorRatio
		if d.Sellable != nil {
			stocked = true
			h.sellable += *d.Sellable
			held += d.Held
		}
		if d.SoldTotal != nil {
			soldKnown = true
			sold += *d.SoldTotal
		}
	}
	if !stocked {
		return h
	}
	per := float64(seatLimit)
	if soldKnown && ended >= stockAfter && sold > r.sold0 {
		per = float64(sold-r.sold0) / float64(ended)
	}
	h.stock = &pace.Stock{Sellable: float64(h.sellable), Held: float64(held), SeatsPerSession: math.Max(per, 0.001)}
	h.soldOut = h.sellable == 0 && held == 0
	r.most = max(r.most, h.sellable+held)
	h.scarce = float64(h.sellable+held) < 0.05*float64(r.most)
	return h
}
