package simulate

// wheel is a calendar of events with one slot per millisecond: both adding and taking cost the same however many wait.
type wheel struct {
	heads []int32 // first event of each millisecond, plus one; 0: none
	pool  []event
	free  []int32
}

type event struct {
	next  int32 // plus one
	who   int32 // fan, or edge
	kind  kind
	epoch uint8 // of the fan; an event of an older epoch is void
}

type kind uint8

const (
	evStamp   kind = iota // a fan whose edge was paused gets a place
	evPoll                // a fan's page asks for the status
	evCome                // a fan's claim reaches an edge
	evUse                 // a fan inside asks for something, or is done
	evLease               // a session's lease may be over
	evFlush               // an edge reports
	evAttempt             // an edge sends the claims at its door
)

func newWheel(horizonMs int32) *wheel { return &wheel{heads: make([]int32, horizonMs+1)} }

// add plans an event; those beyond the end of the run never happen.
func (w *wheel) add(at int32, k kind, who int32, epoch uint8) {
	if int(at) >= len(w.heads) {
		return
	}
	var i int32
	if n := len(w.free); n > 0 {
		i = w.free[n-1]
		w.free = w.free[:n-1]
	} else {
		w.pool = append(w.pool, event{})
		i = int32(len(w.pool) - 1)
	}
	w.pool[i] = event{next: w.heads[at], who: who, kind: k, epoch: epoch}
	w.heads[at] = i + 1
}

// take removes one event of a millisecond, also one that was added while others of the same were handled.
func (w *wheel) take(at int32) (event, bool) {
	i := w.heads[at]
	if i == 0 {
		return event{}, false
	}
	e := w.pool[i-1]
	w.heads[at] = e.next
	w.free = append(w.free, i-1)
	return e, true
}

// next is the first millisecond in [from, to) with an event, or to.
func (w *wheel) next(from, to int32) int32 {
	for at := from; at < to; at++ {
		if w.heads[at] != 0 {
			return at
		}
	}
	return to
}

// door is an edge's parked claims, lowest rank first.
type door struct{ heap []parked }

type parked struct {
	rank    uint64
	fan     int32
	sinceMs int32 // when which the fan was parked
}

func (d *door) len() int { return len(d.heap) }

func (d *door) push(p parked) {
	d.heap = append(d.heap, p)
	i := len(d.heap) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !before(d.heap[i], d.heap[up]) {
			break
		}
		d.heap[i], d.heap[up] = d.heap[up], d.heap[i]
		i = up
	}
}

func (d *door) pop() parked {
	top := d.heap[0]
	n := len(d.heap) - 1
	d.heap[0] = d.heap[n]
	d.heap = d.heap[:n]
	d.sink(0)
	return top
}

func (d *door) sink(i int) {
	n := len(d.heap)
	for {
		c := 2*i + 1
		if c >= n {
			return
		}
		if c+1 < n && before(d.heap[c+1], d.heap[c]) {
			c++
		}
		if !before(d.heap[c], d.heap[i]) {
			return
		}
		d.heap[i], d.heap[c] = d.heap[c], d.heap[i]
		i = c
	}
}

func before(a, b parked) bool { return a.rank < b.rank || a.rank == b.rank && a.fan < b.fan }

// expire removes those parked before a time and hands them to f.
func (d *door) expire(beforeMs int32, f func(fan int32)) {
	kept := d.heap[:0]
	for _, p := range d.heap {
		if p.sinceMs < beforeMs {
			f(p.fan)
		} else {
			kept = append(kept, p)
		}
	}
	if len(kept) == len(d.heap) {
		return
	}
	d.heap = kept
	for i := len(d.heap)/2 - 1; i >= 0; i-- {
		d.sink(i)
	}
}
