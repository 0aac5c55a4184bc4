package verify

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/queue/beacon"
	"github.com/stanchion-queue/stanchion/queue/line"
)

const (
	round     = 657413
	signature = "b713718a38ae728dfd477991af2822e08d2f305e47718cef9f7848ce4050e7be41076862b98fad56e91a6b85b89cd97b"
)

var key = ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize)))

// sale is a published line with all its entrants.
type sale struct {
	record    line.Record
	published line.Published
	ledgers   []line.Ledger
	opening   line.Opening
	entrants  []entrant
}

type entrant struct {
	lane  uint8
	stamp line.Stamp
	who   line.Who
}

// newSale makes a line with a lobby of a minute, a drand draw and n entrants on two lanes.
func newSale(t testing.TB, n int) *sale {
	t.Helper()
	q := beacon.Quicknet()
	due := q.DueMs(round)
	rec := line.Record{
		Version: 1, Room: "onsale", Line: line.ID{1}, EpochMs: due - 90_000, OpensAtMs: due - 30_000,
		Lanes: []line.LaneSpec{{Name: "general", Weight: 3}, {Name: "access", Weight: 1}},
		Draw:  line.Draw{Kind: line.DrawDrand, Chain: q.Hash, Round: round, DueAt: due},
	}
	signed, err := line.SignRecord(key, rec)
	if err != nil {
		t.Fatal(err)
	}
	result, err := beacon.ParseRound([]byte(fmt.Sprintf(`{"round":%d,"signature":%q}`, round, signature)))
	if err != nil {
		t.Fatal(err)
	}
	s := &sale{record: rec, published: line.Published{Record: signed, Result: &result, Sealed: 1300}, ledgers: make([]line.Ledger, 2)}
	rng := rand.New(rand.NewPCG(1, 2))
	counts := [][]uint64{make([]uint64, s.published.Sealed), make([]uint64, s.published.Sealed)}
	for i := range n {
		e := entrant{lane: uint8(rng.IntN(4) / 3), stamp: line.Stamp{Win: line.Window(rng.IntN(1300)), Inc: line.Incarnation(i%8 + 1), Seq: uint32(i)}}
		for j := range e.who {
			e.who[j] = byte(rng.Uint32())
		}
		counts[e.lane][e.stamp.Win]++
		s.entrants = append(s.entrants, e)
	}
	for lane := range counts {
		s.ledgers[lane] = s.ledgers[lane].Append(counts[lane]...)
		lobby, _ := s.ledgers[lane].Before(rec.LobbyEnd())
		s.published.Totals = append(s.published.Totals, s.ledgers[lane].Total())
		s.published.Lobby = append(s.published.Lobby, lobby)
	}
	chain := line.SealChain([32]byte{}, rec.Line, 0, s.published.Sealed, counts)
	s.published.Chain = hex.EncodeToString(chain[:])
	opened, err := s.published.Open()
	if err != nil {
		t.Fatal(err)
	}
	if s.opening, err = opened.Opening(&result); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sale) Record(context.Context) ([]byte, error) { return json.Marshal(s.published) }

func (s *sale) Chunk(_ context.Context, lane int, chunk uint32) ([]byte, error) {
	return s.ledgers[lane].AppendChunk(nil, chunk), nil
}

func (s *sale) rank(e entrant) uint64 {
	r, _ := line.Rank(s.opening, s.ledgers[e.lane], e.stamp, e.who)
	return r
}

func (s *sale) list() []byte {
	var b bytes.Buffer
	b.WriteString("# lane,window,incarnation,sequence,who,rank\n")
	for _, e := range s.entrants {
		fmt.Fprintf(&b, "%d,%d,%s,%d,%x,%d\n", e.lane, e.stamp.Win, e.stamp.Inc, e.stamp.Seq, e.who, s.rank(e))
	}
	return b.Bytes()
}

func verify(t *testing.T, src Source, o Options) *Report {
	t.Helper()
	r, err := Line(context.Background(), src, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func failed(r *Report) (names string) {
	for _, c := range r.Checks {
		if c.Status == Failed {
			names += c.Name + ": " + c.Detail
		}
	}
	return names
}

func TestGenuineLine(t *testing.T) {
	s := newSale(t, 5000)
	tickets, err := line.NewTickets("onsale", line.TicketKey{KID: 1, Secret: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Trusted: []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}, Entrants: bytes.NewReader(s.list())}
	for _, e := range s.entrants[:50] {
		o.Tickets = append(o.Tickets, tickets.Issue(line.Ticket{Line: s.record.Line, Lane: e.lane, Stamp: e.stamp, Who: e.who, Rank: line.NoRank}))
	}
	r := verify(t, s, o)
	if !r.OK || len(r.Checks) != 6 {
		t.Fatalf("%+v", r.Checks)
	}
	for i, p := range r.Places {
		if p.Rank == nil || *p.Rank != s.rank(s.entrants[i]) {
			t.Fatalf("place %d: %+v, want %d", i, p, s.rank(s.entrants[i]))
		}
	}
}

// Whatever is changed in what was published, it shows.
func TestChangesShow(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(t *testing.T, s *sale)
		check  string
	}{
		"record":       {func(t *testing.T, s *sale) { s.published.Record.Body = "A" + s.published.Record.Body[1:] }, "record"},
		"signer":       {func(t *testing.T, s *sale) { s.published.Record = resign(t, s.record) }, "record"},
		"value":        {func(t *testing.T, s *sale) { s.published.Result.Value = strings.Repeat("0", 64) }, "draw value"},
		"proof":        {func(t *testing.T, s *sale) { s.published.Result.Proof = strings.Repeat("00", 48) }, "draw value"},
		"round":        {func(t *testing.T, s *sale) { s.published.Result.Round++ }, "draw value"},
		"chain":        {func(t *testing.T, s *sale) { s.published.Chain = strings.Repeat("0", 64) }, "ledger"},
		"total":        {func(t *testing.T, s *sale) { s.published.Totals[1]++ }, "ledger"},
		"totals":       {func(t *testing.T, s *sale) { s.published.Totals = nil }, "ledger"},
		"lobby count":  {func(t *testing.T, s *sale) { s.published.Lobby[0]-- }, "ledger"},
		"sealed":       {func(t *testing.T, s *sale) { s.published.Sealed++ }, "ledger"},
		"endless":      {func(t *testing.T, s *sale) { s.published.Sealed = 1 << 31 }, "ledger"},
		"one count":    {func(t *testing.T, s *sale) { s.ledgers[0] = recount(s.ledgers[0], 700, +1) }, "ledger"},
		"a moved one":  {func(t *testing.T, s *sale) { s.ledgers[0] = recount(recount(s.ledgers[0], 700, +1), 900, -1) }, "ledger"},
		"lanes":        {func(t *testing.T, s *sale) { s.ledgers[0], s.ledgers[1] = s.ledgers[1], s.ledgers[0] }, "ledger"},
		"short ledger": {func(t *testing.T, s *sale) { s.ledgers[1] = line.Ledger{}.Append(s.ledgers[1].Counts(0, 1299)...) }, "ledger"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSale(t, 3000)
			tc.change(t, s)
			r := verify(t, s, Options{Trusted: []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}})
			if r.OK || !strings.HasPrefix(failed(r), tc.check) {
				t.Errorf("OK is %v, failed: %q; want %s", r.OK, failed(r), tc.check)
			}
		})
	}
}

func resign(t *testing.T, rec line.Record) line.Signed {
	t.Helper()
	s, err := line.SignRecord(ed25519.NewKeyFromSeed([]byte(strings.Repeat("x", ed25519.SeedSize))), rec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func recount(l line.Ledger, w line.Window, by int64) line.Ledger {
	counts := l.Counts(0, l.Sealed())
	counts[w] = uint64(int64(counts[w]) + by)
	return line.Ledger{}.Append(counts...)
}

func TestEntrantsShow(t *testing.T) {
	s := newSale(t, 2000)
	good := strings.Split(strings.TrimSpace(string(s.list())), "\n")
	for name, change := range map[string]func(l []string) []string{
		"dropped":           func(l []string) []string { return append(l[:500:500], l[501:]...) },
		"added":             func(l []string) []string { return append(l, added(s)) },
		"twice":             func(l []string) []string { return append(l, l[700]) },
		"another who":       func(l []string) []string { l[lobby(s)] = field(l[lobby(s)], 4, strings.Repeat("ab", 16)); return l },
		"another rank":      func(l []string) []string { l[9] = field(l[9], 5, "123456"); return l },
		"another window":    func(l []string) []string { l[9] = field(l[9], 1, "3"); return l },
		"another lane":      func(l []string) []string { l[9] = field(l[9], 0, "7"); return l },
		"unsealed window":   func(l []string) []string { l[9] = field(l[9], 1, "99999"); return l },
		"a field too many":  func(l []string) []string { l[9] += ",1"; return l },
		"a field too few":   func(l []string) []string { l[9] = "0,1,2"; return l },
		"not a number":      func(l []string) []string { l[9] = field(l[9], 3, "x"); return l },
		"who is not hex":    func(l []string) []string { l[9] = field(l[9], 4, strings.Repeat("zz", 16)); return l },
		"negative sequence": func(l []string) []string { l[9] = field(l[9], 3, "-1"); return l },
	} {
		list := change(append([]string(nil), good...))
		r := verify(t, s, Options{Entrants: strings.NewReader(strings.Join(list, "\n"))})
		if r.OK || !strings.HasPrefix(failed(r), "entrants") {
			t.Errorf("%s: OK is %v, failed: %q", name, r.OK, failed(r))
		}
	}
	if _, err := Line(context.Background(), s, Options{Entrants: strings.NewReader(strings.Repeat("x", 1<<16))}); err == nil {
		t.Error("an endless line is read")
	}
}

// lobby is the line of the list of somebody who was in the lobby: only their place follows from who they are.
func lobby(s *sale) int {
	for i, e := range s.entrants {
		if e.stamp.Win < s.record.LobbyEnd() {
			return i + 1
		}
	}
	return -1
}

func added(s *sale) string {
	e := entrant{stamp: line.Stamp{Win: 1000, Inc: 99, Seq: 1}}
	return fmt.Sprintf("0,1000,%s,1,%x,%d", e.stamp.Inc, e.who, s.rank(e))
}

func field(text string, i int, v string) string {
	f := strings.Split(text, ",")
	f[i] = v
	return strings.Join(f, ",")
}

func TestKinds(t *testing.T) {
	for name, tc := range map[string]struct {
		draw   line.Draw
		result *line.DrawResult
		ok     bool
		value  Status
	}{
		"no draw":               {line.Draw{}, nil, true, ""},
		"value without a draw":  {line.Draw{}, &line.DrawResult{Value: strings.Repeat("00", 32)}, false, Failed},
		"operator":              {line.Draw{Kind: line.DrawOperator}, &line.DrawResult{Value: strings.Repeat("00", 32)}, true, Skipped},
		"announced":             {line.Draw{Kind: line.DrawAnnounced, Source: "lottery"}, ptr(beacon.Announced("1 2 3")), true, Passed},
		"announced, bare value": {line.Draw{Kind: line.DrawAnnounced, Source: "lottery"}, &line.DrawResult{Value: strings.Repeat("00", 32)}, true, Skipped},
		"not drawn yet":         {line.Draw{Kind: line.DrawOperator}, nil, true, Skipped},
		"short value":           {line.Draw{Kind: line.DrawOperator}, &line.DrawResult{Value: "00"}, false, Failed},
		"drand, time is wrong":  {line.Draw{Kind: line.DrawDrand, Chain: beacon.Quicknet().Hash, Round: 5}, nil, false, Skipped},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSale(t, 100)
			s.record.Draw = tc.draw
			if tc.draw.Kind != line.DrawNone {
				s.record.Draw.DueAt = s.record.OpensAtMs + 1000
			}
			signed, err := line.SignRecord(key, s.record)
			if err != nil {
				t.Fatal(err)
			}
			s.published.Record, s.published.Result = signed, tc.result
			r := verify(t, s, Options{})
			if r.OK != tc.ok {
				t.Errorf("OK is %v: %+v", r.OK, r.Checks)
			}
			for _, c := range r.Checks {
				if c.Name == "draw value" && c.Status != tc.value {
					t.Errorf("draw value: %+v, want %q", c, tc.value)
				}
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// The three ways to publish a line give the same report; a record alone says that its ledger was not checked.
func TestSources(t *testing.T) {
	s := newSale(t, 1000)
	dir := t.TempDir()
	write := func(name string, b []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	record, err := s.Record(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	write("record", record)
	for lane := range s.ledgers {
		for c := range uint32(3) {
			chunk, err := s.Chunk(context.Background(), lane, c)
			if err != nil {
				t.Fatal(err)
			}
			write(filepath.Join("ledger", strconv.Itoa(lane), strconv.Itoa(int(c))), chunk)
		}
	}
	server := httptest.NewServer(http.StripPrefix("/.stanchion/rooms/onsale/lines/x", http.FileServer(http.Dir(dir))))
	defer server.Close()
	report := func(where string) string {
		t.Helper()
		src, err := Open(where, nil)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := json.Marshal(verify(t, src, Options{}))
		if err != nil {
			t.Fatal(err)
		}
		return string(doc)
	}
	want := report(dir)
	if !strings.Contains(want, `"ok":true`) || strings.Contains(want, "skipped") {
		t.Errorf("folder: %s", want)
	}
	base := server.URL + "/.stanchion/rooms/onsale/lines/x"
	for _, where := range []string{base, base + "/", base + "/record"} {
		if got := report(where); got != want {
			t.Errorf("%s: %s\nwant %s", where, got, want)
		}
	}
	if alone := report(filepath.Join(dir, "record")); !strings.Contains(alone, `"ok":true`) || !strings.Contains(alone, "skipped") {
		t.Errorf("record alone: %s", alone)
	}
	for _, where := range []string{filepath.Join(dir, "nothing"), "http://%zz"} {
		if _, err := Open(where, nil); err == nil {
			t.Errorf("%s was opened", where)
		}
	}
	src, err := Open(server.URL+"/elsewhere", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Line(context.Background(), src, Options{}); err == nil {
		t.Error("a page that is not there is verified")
	}
}

// A million entrants are checked in seconds.
func TestMillionEntrants(t *testing.T) {
	n := 1_000_000
	if raceDetector {
		n = 50_000
	}
	s := newSale(t, n)
	list := s.list()
	start := time.Now()
	r := verify(t, s, Options{Entrants: bytes.NewReader(list)})
	if !r.OK {
		t.Fatal(failed(r))
	}
	t.Logf("verified in %v", time.Since(start))
}

func FuzzEntrant(f *testing.F) {
	f.Add("0,700,00000000000000ff,9,000102030405060708090a0b0c0d0e0f,12")
	f.Add(",,,,,")
	f.Fuzz(func(t *testing.T, text string) {
		lane, s, who, rank, err := parseEntrant(text)
		if err != nil {
			return
		}
		again := fmt.Sprintf("%d,%d,%s,%d,%x,%d", lane, s.Win, s.Inc, s.Seq, who, rank)
		if l2, s2, w2, r2, err := parseEntrant(again); err != nil || l2 != lane || s2 != s || w2 != who || r2 != rank {
			t.Fatalf("%q reads as %q", text, again)
		}
	})
}
