// Package verify checks a published line with public data only: that its record was signed before, that amendments kept the rules of
// the draw, that the randomness is the beacon's, that the ledger is the one whose chain was published, and what place a ticket has in it.
package verify

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stanchion-queue/stanchion/queue/beacon"
	"github.com/stanchion-queue/stanchion/queue/line"
)

// Source is where a line was published.
type Source interface {
	// Record is what `GET lines/{line}/record` answers.
	Record(ctx context.Context) ([]byte, error)
	// Chunk is what `GET lines/{line}/ledger/{lane}/{chunk}` answers; ErrNoLedger when this source has no ledger at all.
	Chunk(ctx context.Context, lane int, chunk uint32) ([]byte, error)
}

// ErrNoLedger is what a Source that holds a record alone answers for its ledger.
var ErrNoLedger = errors.New("the ledger is not there")

// Options of Line.
type Options struct {
	Trusted  []ed25519.PublicKey // the organiser's record keys; empty: any signer, who is named
	Chain    beacon.Chain        // zero: beacon.Quicknet
	Tickets  []string            // whose places to compute
	Entrants io.Reader           // optional list of all stamps, see Entrants
}

// Status of a check.
type Status string

// A check passed, failed, or could not be made from what is published; the last is said, but is no failure.
const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	Skipped Status = "skipped"
)

// Check is one thing that was checked.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
}

// Place is a ticket's place.
type Place struct {
	Ticket string  `json:"ticket"`
	Lane   string  `json:"lane"`
	Window uint32  `json:"window"`
	Rank   *uint64 `json:"rank"` // counted from 0; null: not known yet
	Note   string  `json:"note,omitempty"`
}

// Report is what was found.
type Report struct {
	Room   string  `json:"room"`
	Line   string  `json:"line"`
	Signer string  `json:"signer"`
	OK     bool    `json:"ok"` // nothing failed
	Checks []Check `json:"checks"`
	Places []Place `json:"places"`
}

func (r *Report) add(name string, status Status, format string, args ...any) {
	if status == Failed {
		r.OK = false
	}
	r.Checks = append(r.Checks, Check{name, status, fmt.Sprintf(format, args...)})
}

// Line checks a published line. The error is about reading it; what is wrong with it is in the report.
func Line(ctx context.Context, src Source, o Options) (*Report, error) {
	if o.Chain.Hash == "" {
		o.Chain = beacon.Quicknet()
	}
	doc, err := src.Record(ctx)
	if err != nil {
		return nil, fmt.Errorf("read published record: %w", err)
	}
	r := &Report{OK: true, Checks: []Check{}, Places: []Place{}}
	p, err := line.ParsePublished(doc)
	if err != nil {
		r.add("record", Failed, "%v", err)
		return r, nil
	}
	opened, err := p.Open(o.Trusted...)
	if err != nil {
		r.add("record", Failed, "%v", err)
		return r, nil
	}
	rec := opened.Record
	r.Room, r.Line, r.Signer = rec.Room, rec.Line.String(), line.RecordKID(opened.Signer)
	whose := "whose key is not pinned: compare it with the one the organiser publishes"
	if len(o.Trusted) > 0 {
		whose = "a trusted key"
	}
	r.add("record", Passed, "signed by %s, %s", r.Signer, whose)
	r.add("amendments", Passed, "%d, each before what it changes was due; opens %s", len(opened.Amendments), at(rec.OpensAtMs))

	checkFixed(r, o.Chain, rec)
	opening, drawn := checkValue(r, o.Chain, opened, p.Result)
	ledgers := checkLedger(ctx, r, src, rec, p)
	if ledgers == nil {
		return r, nil
	}
	if drawn {
		for _, text := range o.Tickets {
			place(r, opening, rec, ledgers, text)
		}
		if o.Entrants != nil {
			if err := entrants(r, opening, ledgers, o.Entrants); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

func at(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// checkFixed checks that the draw was fixed in the record in a way that nobody could know its outcome.
func checkFixed(r *Report, chain beacon.Chain, rec line.Record) {
	if err := chain.CheckDraw(rec.Draw); err != nil {
		r.add("draw fixed ahead", Failed, "%v", err)
		return
	}
	switch rec.Draw.Kind {
	case line.DrawNone:
		r.add("draw fixed ahead", Passed, "no draw: places are in order of arrival")
	case line.DrawDrand:
		r.add("draw fixed ahead", Passed, "drand round %d, public at %s, after the lobby", rec.Draw.Round, at(rec.Draw.DueAt))
	case line.DrawAnnounced:
		r.add("draw fixed ahead", Passed, "announced by %q at %s, after the lobby", rec.Draw.Source, at(rec.Draw.DueAt))
	case line.DrawOperator:
		r.add("draw fixed ahead", Skipped, "drawn by the operator's own machine: this proves nothing about how it was drawn")
	}
}

// checkValue checks the published randomness. drawn is false when places cannot be computed from it.
func checkValue(r *Report, chain beacon.Chain, opened line.Opened, result *line.DrawResult) (o line.Opening, drawn bool) {
	const name = "draw value"
	kind := opened.Record.Draw.Kind
	if kind != line.DrawNone && result != nil {
		if err := chain.Check(opened.Record.Draw, *result); err != nil {
			r.add(name, Failed, "%v", err)
			return o, false
		}
	}
	o, err := opened.Opening(result)
	if err != nil {
		r.add(name, Failed, "%v", err)
		return o, false
	}
	switch {
	case kind == line.DrawNone && result != nil:
		r.add(name, Failed, "a value is published for a line without a draw")
	case kind == line.DrawNone:
	case result == nil:
		r.add(name, Skipped, "not public yet")
	case kind == line.DrawDrand:
		r.add(name, Passed, "the network's signature of round %d gives %s", result.Round, result.Value)
	case kind == line.DrawAnnounced && result.Proof != "":
		r.add(name, Passed, "the SHA-256 of %q; compare the text with its source", result.Proof)
	case kind == line.DrawAnnounced:
		r.add(name, Skipped, "%s: compare it with its source", result.Value)
	case kind == line.DrawOperator:
		r.add(name, Skipped, "%s, the operator's word", result.Value)
	}
	return o, true
}

// checkLedger reads the ledger and compares it with the published chain, totals and lobby counts. nil: there is none to go on with.
func checkLedger(ctx context.Context, r *Report, src Source, rec line.Record, p line.Published) []line.Ledger {
	const name = "ledger"
	if p.Sealed > line.WindowAt(rec.EpochMs, time.Now().UnixMilli())+10*60*60 { // an hour of clock error
		r.add(name, Failed, "%d windows are said to be sealed, which is in the future", p.Sealed)
		return nil
	}
	ledgers := make([]line.Ledger, len(rec.Lanes))
	for lane := range ledgers {
		for c := uint32(0); uint64(c)*line.ChunkWindows < uint64(p.Sealed); c++ {
			chunk, err := src.Chunk(ctx, lane, c)
			if errors.Is(err, ErrNoLedger) {
				r.add(name, Skipped, "%v: places and counts are not checked", ErrNoLedger)
				return nil
			}
			if err == nil {
				ledgers[lane], err = ledgers[lane].AppendChunkBytes(chunk)
			}
			if err != nil {
				r.add(name, Failed, "lane %s, chunk %d: %v", rec.Lanes[lane].Name, c, err)
				return nil
			}
		}
		if got := ledgers[lane].Sealed(); got < p.Sealed {
			r.add(name, Failed, "lane %s holds %d windows, the record says %d are sealed", rec.Lanes[lane].Name, got, p.Sealed)
			return nil
		}
	}
	// The last chunk may have grown since the record was read: judge what the record speaks of.
	counts := make([][]uint64, len(ledgers))
	for lane := range ledgers {
		counts[lane] = ledgers[lane].Counts(0, p.Sealed)
	}
	if chain := line.SealChain([32]byte{}, rec.Line, 0, p.Sealed, counts); hex.EncodeToString(chain[:]) != p.Chain && !(p.Sealed == 0 && p.Chain == "") {
		r.add(name, Failed, "its chain is %x, published is %s: some count was changed", chain, p.Chain)
		return nil
	}
	if len(p.Totals) != len(ledgers) {
		r.add(name, Failed, "%d totals are published for %d lanes", len(p.Totals), len(ledgers))
		return nil
	}
	for lane, l := range ledgers {
		if total, _ := l.Before(p.Sealed); total != p.Totals[lane] {
			r.add(name, Failed, "lane %s adds up to %d tickets, published are %d", rec.Lanes[lane].Name, total, p.Totals[lane])
			return nil
		}
		if lobby, sealed := l.Before(rec.LobbyEnd()); len(p.Lobby) > 0 && (lane >= len(p.Lobby) || !sealed || lobby != p.Lobby[lane]) {
			r.add(name, Failed, "lane %s adds up to %d tickets of the lobby, published are %v", rec.Lanes[lane].Name, lobby, p.Lobby)
			return nil
		}
	}
	r.add(name, Passed, "%d windows, tickets by lane %v, chain %s", p.Sealed, p.Totals, p.Chain)
	return ledgers
}

// place computes the place of a ticket. Its signature is for edges to check; its place anybody can compute.
func place(r *Report, o line.Opening, rec line.Record, ledgers []line.Ledger, text string) {
	out := Place{Ticket: text}
	t, err := line.PeekTicket(strings.TrimSpace(text))
	switch {
	case err != nil:
		out.Note = err.Error()
	case t.Line != rec.Line:
		out.Note = "the ticket is of another line: " + t.Line.String()
	case int(t.Lane) >= len(ledgers):
		out.Note = "the line has no such lane"
	default:
		out.Lane, out.Window = rec.Lanes[t.Lane].Name, uint32(t.Stamp.Win)
		rank, known := line.Rank(o, ledgers[t.Lane], t.Stamp, t.Who)
		switch {
		case !known:
			out.Note = "not known yet"
		case t.Rank != line.NoRank && t.Rank != rank:
			out.Rank = &rank
			out.Note = fmt.Sprintf("the ticket says %d", t.Rank)
			r.add("ticket", Failed, "a ticket of window %d says place %d, the ledger gives %d", t.Stamp.Win, t.Rank, rank)
		default:
			out.Rank = &rank
		}
	}
	r.Places = append(r.Places, out)
}

// MaxEntrants bounds a list of entrants.
const MaxEntrants = 50_000_000

// entrants checks a list of all stamps against the ledger: one a line, "lane,window,incarnation,sequence,who,rank" with incarnation (16
// digits) and who (32) in hexadecimal. Each rank is computed again, no stamp may appear twice, and the stamps of each window must be as
// many as were sealed: so a changed, added or dropped entrant shows.
func entrants(r *Report, o line.Opening, ledgers []line.Ledger, list io.Reader) error {
	const name = "entrants"
	type stamp struct {
		inc line.Incarnation
		seq uint32
	}
	seen := make(map[stamp]struct{}, 1<<16)
	counts := make([][]uint64, len(ledgers))
	for lane := range counts {
		counts[lane] = make([]uint64, ledgers[lane].Sealed())
	}
	scanner := bufio.NewScanner(list)
	scanner.Buffer(make([]byte, 4096), 4096)
	n := 0
	for scanner.Scan() {
		text := scanner.Text()
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if n++; n > MaxEntrants {
			return fmt.Errorf("read entrants: more than %d", MaxEntrants)
		}
		lane, s, who, rank, err := parseEntrant(text)
		if err != nil {
			r.add(name, Failed, "line %d: %v", n, err)
			return nil
		}
		if int(lane) >= len(ledgers) {
			r.add(name, Failed, "line %d: there is no lane %d", n, lane)
			return nil
		}
		id := stamp{s.Inc, s.Seq}
		if _, twice := seen[id]; twice {
			r.add(name, Failed, "line %d: stamp %s/%d appears twice", n, s.Inc, s.Seq)
			return nil
		}
		seen[id] = struct{}{}
		got, known := line.Rank(o, ledgers[lane], s, who)
		if !known {
			r.add(name, Failed, "line %d: window %d is not sealed or not drawn", n, s.Win)
			return nil
		}
		if got != rank {
			r.add(name, Failed, "line %d: place %d is stated, the ledger gives %d", n, rank, got)
			return nil
		}
		counts[lane][s.Win]++
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("read entrants: %w", err)
	}
	for lane, l := range ledgers {
		sealed := l.Counts(0, l.Sealed())
		for w := range sealed {
			if counts[lane][w] != sealed[w] {
				r.add(name, Failed, "lane %d, window %d: %d stamps are listed, %d were sealed", lane, w, counts[lane][w], sealed[w])
				return nil
			}
		}
	}
	r.add(name, Passed, "%d, each in the place that follows from its stamp, and as many in each window as were sealed", n)
	return nil
}

func parseEntrant(text string) (lane uint8, s line.Stamp, who line.Who, rank uint64, err error) {
	fields := make([]string, 0, 6)
	for f := range strings.SplitSeq(text, ",") {
		if len(fields) == 6 {
			fields = append(fields, "")
			break
		}
		fields = append(fields, f)
	}
	if len(fields) != 6 || len(fields[2]) != 16 || len(fields[4]) != 32 {
		return 0, s, who, 0, errors.New("want lane,window,incarnation,sequence,who,rank")
	}
	var errs [6]error
	number := func(i, base, bits int) uint64 {
		v, err := strconv.ParseUint(fields[i], base, bits)
		errs[i] = err
		return v
	}
	lane = uint8(number(0, 10, 8))
	s.Win = line.Window(number(1, 10, 32))
	s.Inc = line.Incarnation(number(2, 16, 64))
	s.Seq = uint32(number(3, 10, 32))
	_, errs[4] = hex.Decode(who[:], []byte(fields[4]))
	rank = number(5, 10, 64)
	if i := slices.IndexFunc(errs[:], func(e error) bool { return e != nil }); i >= 0 {
		return 0, s, who, 0, fmt.Errorf("field %d: %w", i+1, errs[i])
	}
	return lane, s, who, rank, nil
}
