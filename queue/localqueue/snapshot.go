package localqueue

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// A snapshot replaces the journal. It is cut into parts so that only what has changed since the last one is written: a part is a
// run of the same records that the journal holds, under a key that sorts in the order in which parts must be replayed.
type partKey struct {
	kind partKind
	line line.ID
	lane uint8
	inc  line.Incarnation
	n    uint32
}

type partKind uint8

// Kinds of parts, in the order in which they are read. Part of the file format.
const (
	partLine     partKind = 1 // a line: record, lanes, seals
	partControl  partKind = 2 // the control record
	partLedger   partKind = 3 // one ledger chunk of one lane
	partRows     partKind = 4 // counts of unsealed windows
	partSpent    partKind = 5 // one spent bitmap
	partHolders  partKind = 6 // holders by first byte
	partSessions partKind = 7 // sessions by first byte
	partFeed     partKind = 8 // the end feed
)

// bytes is the key as stored: fixed width, so that it sorts by kind, line, lane, edge, number.
func (k partKey) bytes() []byte {
	b := make([]byte, 0, 30)
	b = append(b, byte(k.kind))
	b = append(b, k.line[:]...)
	b = append(b, k.lane)
	b = binary.BigEndian.AppendUint64(b, uint64(k.inc))
	return binary.BigEndian.AppendUint32(b, k.n)
}

// part is one part as stored; an empty body deletes it.
type part struct {
	key  []byte
	body []byte
}

// takeParts encodes the parts that are out of date. The caller forgets that they are, once it has those of all rooms.
func (r *room) takeParts() ([]part, error) {
	var sessions map[uint8]*encoder
	out := make([]part, 0, len(r.mod))
	for k := range r.mod {
		if k.kind == partSessions {
			if sessions == nil {
				sessions = map[uint8]*encoder{}
			}
			sessions[uint8(k.n)] = &encoder{}
			continue
		}
		e := &encoder{}
		if err := r.encodePart(k, e); err != nil {
			return nil, err
		}
		out = append(out, part{k.bytes(), e.buf})
	}
	if sessions != nil {
		for sid, s := range r.sx {
			if e := sessions[sid[0]]; e != nil {
				r.encodeSession(e, sid, s)
			}
		}
		for first, e := range sessions {
			out = append(out, part{partKey{kind: partSessions, n: uint32(first)}.bytes(), e.buf})
		}
	}
	return out, nil
}

func (r *room) encodePart(k partKey, e *encoder) error {
	l := r.byLine[k.line]
	switch k.kind {
	case partControl:
		return r.encodeControl(e)
	case partFeed:
		for _, f := range r.feed {
			if f.Kind == queue.FeedEnded { // a move means nothing once all homes are gone
				e.op(opFeed)
				e.i64(f.Position)
				e.raw(f.Session[:])
			}
		}
		return nil
	}
	if l == nil {
		return nil
	}
	switch k.kind {
	case partLine:
		return l.encode(e)
	case partLedger:
		if b := l.chunk(k.lane, k.n); len(b) > 0 {
			e.op(opBases)
			e.raw(l.id[:])
			e.u8(k.lane)
			e.u64(uint64(k.n))
			e.bytes(b)
		}
	case partRows:
		for _, row := range l.unsealed(0, ^line.Window(0)) {
			e.op(opRow)
			e.raw(l.id[:])
			e.u64(uint64(row.Win))
			e.u8(row.Lane)
			e.fixed64(uint64(row.Edge))
			e.u64(uint64(row.Count))
		}
	case partSpent:
		if bits := l.spent[spentKey{k.inc, k.n}]; len(bits) > 0 {
			e.op(opBits)
			e.raw(l.id[:])
			e.fixed64(uint64(k.inc))
			e.u64(uint64(k.n))
			e.bytes(bits)
		}
	case partHolders:
		for w := range l.holders[uint8(k.n)] {
			e.op(opHolder)
			e.raw(l.id[:])
			e.raw(w[:])
		}
	}
	return nil
}

func (r *room) encodeControl(e *encoder) error {
	e.op(opGen)
	e.str(r.gen)
	e.op(opToken)
	e.str(r.token)
	settings, err := json.Marshal(r.settings)
	if err != nil {
		return fmt.Errorf("encode settings: %w", err)
	}
	e.op(opSettings)
	e.bytes(settings)
	e.op(opLines)
	e.u64(uint64(len(r.lines)))
	for _, id := range r.lines {
		e.raw(id[:])
	}
	e.op(opOpen)
	e.bool(r.open)
	e.op(opCounters)
	e.i64(r.granted)
	e.i64(r.freed)
	e.i64(r.late)
	e.f64(r.tat)
	e.i64(r.ring.sec)
	for i := range r.ring.all {
		e.i64(r.ring.all[i])
		e.i64(r.ring.late[i])
	}
	return nil
}

func (l *lineState) encode(e *encoder) error {
	body, err := json.Marshal(queue.LineState{
		Line: l.id, Published: l.published, Honours: l.honours, Lanes: l.control(), Sealed: l.sealed, Chain: l.chain,
	})
	if err != nil {
		return fmt.Errorf("encode line: %w", err)
	}
	e.op(opLine)
	e.bytes(body)
	e.i64(l.retired)
	e.u64(uint64(l.rowsFrom))
	kept := l.seals[max(0, len(l.seals)-keepSeals):]
	e.u64(uint64(len(kept)))
	for _, s := range kept {
		e.u64(uint64(s.from))
		e.u64(uint64(s.to))
		e.raw(s.chain[:])
	}
	return nil
}

func (r *room) encodeSession(e *encoder, sid line.SessionID, s *session) {
	if s.ended {
		e.op(opEnded)
		e.raw(sid[:])
		e.i64(s.end)
		e.i64(s.stay)
		e.i64(s.pos)
		return
	}
	set, end, _ := r.where(sid, s)
	if set != nil {
		e.op(opPlace)
	} else {
		end, _ = r.lapsed.get(sid)
		e.op(opLapsed)
	}
	e.raw(sid[:])
	e.i64(end)
	e.i64(s.stay)
}

// checkLedgers says whether every line's ledger reaches as far as its seal.
func (r *room) checkLedgers() error {
	for id, l := range r.byLine {
		for i := range l.lanes {
			if n := max(0, len(l.lanes[i].bases)-1); n != int(l.sealed) {
				return fmt.Errorf("line %s lane %d: ledger of %d windows, sealed are %d", id, i, n, l.sealed)
			}
		}
	}
	for _, id := range r.lines {
		if r.byLine[id] == nil {
			return fmt.Errorf("line %s is not there", id)
		}
	}
	return nil
}
