package redisqueue

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
)

func itoa(n int64) string   { return strconv.FormatInt(n, 10) }
func utoa(n uint64) string  { return strconv.FormatUint(n, 10) }
func ftoa(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func lineArg(id line.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

// spentKey and spentBit address a stamp's bit: bitmaps of 131,072 stamps, 16 KB each.
func spentKey(id string, s line.Stamp) string {
	return "sp:" + id + ":" + s.Inc.String() + ":" + utoa(uint64(s.Seq/131_072))
}

func spentBit(s line.Stamp) string { return utoa(uint64(s.Seq % 131_072)) }

// holdersKey and holderMember address a holder: 4,096 sets a line, by 12 bits of the hash, of the whole hash folded to 64 bits. Sets of
// up to 512 integers are packed, so a holder costs 18 bytes or less as long as a line has fewer than 2 million; that any two of
// a million are taken for one has a probability of 10^-11. The key is empty when there is nothing to hold.
func holdersKey(id string, kind line.WhoKind, w line.Who) string {
	if kind == line.WhoNone {
		return ""
	}
	return "who:" + id + ":" + hex.EncodeToString(w[:2])[:3]
}

func holderMember(w line.Who) string {
	return itoa(int64(binary.BigEndian.Uint64(w[:8]) ^ binary.BigEndian.Uint64(w[8:])))
}

func counts(c []uint64) string {
	b := make([]byte, 0, 8*len(c))
	for _, n := range c {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return rueidis.BinaryString(b)
}

// reader reads a script's reply; the first surprise sticks.
type reader struct {
	runID string // of the server that answered
	items []rueidis.RedisMessage
	err   error
}

var errReply = errors.New("unexpected reply of a script")

func (r *reader) next() (m rueidis.RedisMessage) {
	if len(r.items) == 0 {
		r.fail(errReply)
		return m
	}
	m, r.items = r.items[0], r.items[1:]
	return m
}

func (r *reader) fail(err error) {
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("%w: %w", errReply, err)
	}
}

func (r *reader) str() string {
	m := r.next()
	if r.err != nil || m.IsNil() {
		return ""
	}
	s, err := m.ToString()
	r.fail(err)
	return s
}

// raw is str, with nil for "not sent".
func (r *reader) raw() []byte {
	m := r.next()
	if r.err != nil || m.IsNil() {
		return nil
	}
	b, err := m.AsBytes()
	r.fail(err)
	return append([]byte{}, b...)
}

func (r *reader) int() int64 {
	m := r.next()
	if r.err != nil {
		return 0
	}
	n, err := m.AsInt64()
	r.fail(err)
	return n
}

func (r *reader) uint() uint64 {
	m := r.next()
	if r.err != nil {
		return 0
	}
	n, err := m.AsUint64()
	r.fail(err)
	return n
}

func (r *reader) list() *reader {
	m := r.next()
	if r.err != nil {
		return &reader{}
	}
	items, err := m.ToArray()
	r.fail(err)
	return &reader{items: items}
}

// done joins the errors of the lists that were read.
func (r *reader) done(lists ...*reader) error {
	for _, l := range lists {
		if r.err == nil {
			r.err = l.err
		}
	}
	return r.err
}

func (r *reader) id() (id line.ID) {
	r.fail(id.UnmarshalText([]byte(r.str())))
	return id
}

func (r *reader) session() (s line.SessionID) {
	r.fixed(s[:])
	return s
}

// fixed reads exactly len(dst) bytes; an empty string leaves zeros.
func (r *reader) fixed(dst []byte) {
	b := r.str()
	if b != "" && len(b) != len(dst) {
		r.fail(fmt.Errorf("%d bytes, want %d", len(b), len(dst)))
		return
	}
	copy(dst, b)
}

func parseIncarnation(s string) (line.Incarnation, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	return line.Incarnation(n), err
}

// known is what a reader of the control record has already, so that it is not sent ten times a second.
type known struct {
	settingsDigest, forecastDigest string
	settings                       queue.Settings
	forecast                       []byte
}

// control reads a control record and returns what is known from then on.
func (r *reader) control(k *known) (queue.Control, *known) {
	in := r.list()
	c := queue.Control{
		Gen: in.str(), Token: in.str(), BeatMs: in.int(), TickMs: in.int(), StoreMs: in.int(), Open: in.int() == 1, Active: in.int(),
		Granted60: in.int(), Late: in.int(),
	}
	next := known{settingsDigest: in.str()}
	settings := in.raw()
	next.forecastDigest = in.str()
	forecast := in.raw()
	switch {
	case settings != nil:
		if err := json.Unmarshal(settings, &next.settings); err != nil {
			in.fail(fmt.Errorf("settings: %w", err))
		}
	case next.settingsDigest == k.settingsDigest:
		next.settings = k.settings
	}
	switch {
	case forecast != nil:
		next.forecast = forecast
	case next.forecastDigest == k.forecastDigest:
		next.forecast = k.forecast
	}
	c.RunID = r.runID
	c.Settings, c.Forecast = next.settings, next.forecast
	lines := in.list()
	for len(lines.items) > 0 && lines.err == nil {
		l := lines.list()
		s := l.lineState()
		lines.fail(l.err)
		c.Lines = append(c.Lines, s.Line)
		c.Lanes, c.Sealed, c.Chain = s.Lanes, s.Sealed, s.Chain
		if len(lines.items) > 0 { // all but the last are honoured
			if c.Honoured == nil {
				c.Honoured = map[line.ID][]queue.LaneControl{}
			}
			c.Honoured[s.Line] = s.Lanes
		}
	}
	r.fail(in.done(lines))
	return c, &next
}

// lineState reads id, seal, link, and called, due, total per lane.
func (r *reader) lineState() queue.LineState {
	s := queue.LineState{Line: r.id(), Sealed: line.Window(r.uint())}
	r.fixed(s.Chain[:])
	s.Lanes = []queue.LaneControl{}
	for len(r.items) > 0 && r.err == nil {
		s.Lanes = append(s.Lanes, queue.LaneControl{Called: r.uint(), Due: r.uint(), Total: r.uint()})
	}
	return s
}

// seals cuts the bases of a run of seals into the seals' counts.
func (r *reader) seals(id line.ID, seals, bases *reader) (out []queue.SealedRange) {
	for len(seals.items) > 0 && seals.err == nil {
		g := queue.SealedRange{Line: id, From: line.Window(seals.uint()), To: line.Window(seals.uint())}
		seals.fixed(g.Chain[:])
		out = append(out, g)
	}
	for len(bases.items) > 0 && len(out) > 0 && bases.err == nil {
		b := bases.str()
		first, last := out[0].From, out[len(out)-1].To
		if len(b) != 8*(int(last-first)+1) {
			bases.fail(fmt.Errorf("%d bytes of bases for windows %d to %d", len(b), first, last))
			break
		}
		at := func(w line.Window) uint64 { return binary.BigEndian.Uint64([]byte(b[8*(w-first) : 8*(w-first)+8])) }
		for i := range out {
			g := &out[i]
			lane := make([]uint64, 0, g.To-g.From)
			for w := g.From; w < g.To; w++ {
				lane = append(lane, at(w+1)-at(w))
			}
			g.Counts = append(g.Counts, lane)
		}
	}
	r.fail(seals.done(bases))
	return out
}

// feed reads positions and entries.
func (r *reader) feed() (out []queue.FeedEntry) {
	in := r.list()
	for len(in.items) > 0 && in.err == nil {
		e := queue.FeedEntry{Position: in.int()}
		body := in.str()
		switch {
		case len(body) == 17 && body[0] == 'E':
			e.Kind = queue.FeedEnded
		case len(body) == 33 && body[0] == 'M':
			e.Kind = queue.FeedMoved
			var err error
			e.NewHome, err = parseIncarnation(body[17:])
			in.fail(err)
		default:
			in.fail(fmt.Errorf("feed entry of %d bytes", len(body)))
			continue
		}
		copy(e.Session[:], body[1:17])
		out = append(out, e)
	}
	r.fail(in.err)
	return out
}

// rows reads "window:lane:edge" and count.
func (r *reader) rows(id line.ID) (out []queue.Row) {
	in := r.list()
	for len(in.items) > 0 && in.err == nil {
		f := strings.Split(in.str(), ":")
		n := in.uint()
		if in.err != nil || len(f) != 3 {
			in.fail(errReply)
			break
		}
		w, err1 := strconv.ParseUint(f[0], 10, 32)
		lane, err2 := strconv.ParseUint(f[1], 10, 8)
		inc, err3 := parseIncarnation(f[2])
		in.fail(errors.Join(err1, err2, err3))
		out = append(out, queue.Row{Line: id, Edge: inc, Win: line.Window(w), Lane: uint8(lane), Count: uint32(n)})
	}
	slices.SortFunc(out, func(a, b queue.Row) int {
		switch {
		case a.Win != b.Win:
			return int(a.Win) - int(b.Win)
		case a.Lane != b.Lane:
			return int(a.Lane) - int(b.Lane)
		case a.Edge < b.Edge:
			return -1
		case a.Edge > b.Edge:
			return 1
		}
		return 0
	})
	r.fail(in.err)
	return out
}

// arrivals reads "edge:lane:age" and count.
func (r *reader) arrivals() map[line.Incarnation][]queue.Arrival {
	in, out := r.list(), map[line.Incarnation][]queue.Arrival{}
	for len(in.items) > 0 && in.err == nil {
		f := strings.Split(in.str(), ":")
		n := in.uint()
		if in.err != nil || len(f) != 3 {
			in.fail(errReply)
			break
		}
		inc, err1 := parseIncarnation(f[0])
		lane, err2 := strconv.ParseUint(f[1], 10, 8)
		age, err3 := strconv.ParseInt(f[2], 10, 64)
		in.fail(errors.Join(err1, err2, err3))
		out[inc] = append(out[inc], queue.Arrival{Lane: uint8(lane), AgeMs: age, Count: uint32(n)})
	}
	r.fail(in.err)
	return out
}

func sortArrivals(a []queue.Arrival) {
	slices.SortFunc(a, func(x, y queue.Arrival) int {
		if x.Lane != y.Lane {
			return int(x.Lane) - int(y.Lane)
		}
		return int(x.AgeMs - y.AgeMs)
	})
}

// edge reads an edge's text: no digest mark cursor seen complete bye line parked label.
func parseEdge(inc, text, current string) (e queue.EdgeState, err error) {
	f := strings.SplitN(text, " ", 10)
	if len(f) != 10 {
		return e, fmt.Errorf("%w: edge of %d fields", errReply, len(f))
	}
	var errs [6]error
	e.Edge, errs[0] = parseIncarnation(inc)
	e.No, errs[1] = strconv.ParseUint(f[0], 10, 64)
	e.MarkMs, errs[2] = strconv.ParseInt(f[2], 10, 64)
	e.Cursor, errs[3] = strconv.ParseInt(f[3], 10, 64)
	e.SeenMs, errs[4] = strconv.ParseInt(f[4], 10, 64)
	complete, cerr := strconv.ParseUint(f[5], 10, 32)
	errs[5] = cerr
	e.Bye, e.Label = f[6] == "1", f[9]
	if f[7] == current {
		e.Complete = line.Window(complete)
	}
	if f[8] != "-" {
		e.Parked, err = parseParked(f[8])
	}
	if err := errors.Join(append(errs[:], err)...); err != nil {
		return e, fmt.Errorf("%w: edge: %w", errReply, err)
	}
	return e, nil
}

func parseParked(s string) (out []int64, err error) {
	for f := range strings.SplitSeq(s, ",") {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

func parkedArg(p []int64) string {
	var b strings.Builder
	for i, n := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(itoa(max(0, n)))
	}
	return b.String()
}
