package chart

import "math"

// AnyCategory in Want.Category accepts seats of every category.
const AnyCategory = -1

// Want is what a buyer asks best-available for.
type Want struct {
	Qty        int
	Category   int  // index into Chart.Categories, or AnyCategory
	Accessible bool // an accessible place with companions beside it
}

// Best chooses Want.Qty free seats of a block that sit side by side, or free units of one general admission area. The
// best row is the first in chart order; within it seats that leave no single seat alone come first, then those nearest
// to the middle of the row. Accessible and companion places are given only to those who ask for them. ok is false when
// the block has no such seats. It is a pure function of its arguments.
func (l *Layout) Best(block int, free Bits, want Want) (seats []int16, ok bool) {
	if block < 0 || block >= len(l.Blocks) || want.Qty < 1 || want.Qty > len(l.Blocks[block].Seats) {
		return nil, false
	}
	b := l.Blocks[block].Seats
	for start := 0; start < len(b); {
		end := start + 1
		for end < len(b) && b[end].Section == b[start].Section && b[end].Row == b[start].Row {
			end++
		}
		if seats = l.bestInRow(b, start, end, free, want); seats != nil {
			return seats, true
		}
		start = end
	}
	return nil, false
}

// bestInRow looks at the seats start … end-1 of a block, all of one row.
func (l *Layout) bestInRow(b []Ref, start, end int, free Bits, want Want) []int16 {
	row := &l.Chart.Sections[b[start].Section].Rows[b[start].Row]
	fits := func(n int) bool {
		s := &row.Seats[b[n].Seat]
		if !free.Has(n) || (want.Category != AnyCategory && s.Category != want.Category) {
			return false
		}
		return want.Accessible == (s.Accessible || s.Companion)
	}
	if row.General != nil {
		var seats []int16
		for n := start; n < end && len(seats) < want.Qty; n++ {
			if fits(n) {
				seats = append(seats, int16(n))
			}
		}
		if len(seats) < want.Qty {
			return nil
		}
		return seats
	}
	beside := func(n int) bool { return n > start && n < end && !row.Seats[b[n].Seat].Gap } // n and n-1
	lone := func(from, to int) bool {
		// A window from … to-1 leaves a seat alone when exactly one free seat stays between it and the next taken one.
		left := beside(from) && fits(from-1) && (!beside(from-1) || !fits(from-2))
		right := beside(to) && fits(to) && (!beside(to+1) || !fits(to+1))
		return left || right
	}
	middle := float64(len(row.Seats)-1) / 2
	best, bestLone, bestAway := -1, false, math.Inf(1)
	for from := start; from+want.Qty <= end; from++ {
		to := from + want.Qty
		wheelchair := false
		good := true
		for n := from; n < to && good; n++ {
			good = fits(n) && (n == from || beside(n))
			wheelchair = wheelchair || row.Seats[b[n].Seat].Accessible
		}
		if !good || want.Accessible && !wheelchair {
			continue
		}
		alone := lone(from, to)
		away := math.Abs(float64(b[from].Seat) + float64(want.Qty-1)/2 - middle)
		if best < 0 || bestLone && !alone || bestLone == alone && away < bestAway {
			best, bestLone, bestAway = from, alone, away
		}
	}
	if best < 0 {
		return nil
	}
	seats := make([]int16, want.Qty)
	for i := range seats {
		seats[i] = int16(best + i)
	}
	return seats
}
