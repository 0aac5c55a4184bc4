package localqueue

import (
	"container/heap"

	"github.com/stanchion-queue/stanchion/queue/line"
)

// leases is a set of sessions ordered by a time (the end of their lease). Changes are pushed on a heap and old entries are
// passed over when they surface, so a change costs a logarithm and a look-up nothing.
type leases struct {
	end map[line.SessionID]int64
	due dueHeap
}

func newLeases() *leases { return &leases{end: map[line.SessionID]int64{}} }

type due struct {
	ms  int64
	sid line.SessionID
}

type dueHeap []due

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].ms < h[j].ms }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(due)) }
func (h *dueHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// set puts sid at ms and says whether it is new here.
func (l *leases) set(sid line.SessionID, ms int64) (added bool) {
	old, ok := l.end[sid]
	if ok && old == ms {
		return false
	}
	l.end[sid] = ms
	heap.Push(&l.due, due{ms, sid})
	if len(l.due) > 64+2*len(l.end) {
		l.compact()
	}
	return !ok
}

func (l *leases) get(sid line.SessionID) (ms int64, ok bool) {
	ms, ok = l.end[sid]
	return ms, ok
}

func (l *leases) remove(sid line.SessionID) bool {
	if _, ok := l.end[sid]; !ok {
		return false
	}
	delete(l.end, sid)
	return true
}

func (l *leases) len() int { return len(l.end) }

// popUntil removes up to limit sessions whose time is at or before ms, earliest first, and hands each to f.
func (l *leases) popUntil(ms int64, limit int, f func(sid line.SessionID, end int64)) {
	for len(l.due) > 0 && l.due[0].ms <= ms && limit > 0 {
		top := heap.Pop(&l.due).(due)
		if cur, ok := l.end[top.sid]; !ok || cur != top.ms {
			continue
		}
		delete(l.end, top.sid)
		limit--
		f(top.sid, top.ms)
	}
}

// compact forgets the entries that were overtaken.
func (l *leases) compact() {
	l.due = l.due[:0]
	for sid, ms := range l.end {
		l.due = append(l.due, due{ms, sid})
	}
	heap.Init(&l.due)
}
