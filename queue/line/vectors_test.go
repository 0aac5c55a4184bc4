package line

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

var update = flag.Bool("update", false, "write the test vectors anew; only for formats that were never published")

// golden compares v with a committed file of vectors, or writes it.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: the frozen format has changed; got\n%s", path, got)
	}
}

func u64(v uint64) string { return strconv.FormatUint(v, 10) } // JSON numbers lose digits above 2^53 in browsers

func same(t *testing.T, what, first, second string) string {
	t.Helper()
	if first != second {
		t.Errorf("%s: the package says %s, the second implementation %s", what, first, second)
	}
	return first
}

// words is the vectors' source of numbers: xorshift32, which any language writes in three lines.
type words uint32

func (w *words) next() uint32 {
	x := uint32(*w)
	x ^= x << 13
	x ^= x >> 17
	x ^= x << 5
	*w = words(x)
	return x
}

func (w *words) u64() uint64 { hi := uint64(w.next()); return hi<<32 | uint64(w.next()) }

func (w *words) fill(b []byte) {
	for i := 0; i < len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], w.next())
	}
}

func (w *words) id() (id ID)    { w.fill(id[:]); return id }
func (w *words) who() (who Who) { w.fill(who[:]); return who }

func TestTicketVectors(t *testing.T) {
	type vector struct {
		Name     string `json:"name"`
		Room     string `json:"room"`
		KID      uint8  `json:"kid"`
		Secret   string `json:"secret"`
		Line     ID     `json:"line"`
		Lane     uint8  `json:"lane"`
		Win      Window `json:"win"`
		Inc      string `json:"inc"`
		Seq      uint32 `json:"seq"`
		Who      string `json:"who"`
		WhoKind  uint8  `json:"who_kind"`
		Coarse   bool   `json:"coarse"`
		Door     uint8  `json:"door"`
		Key      string `json:"key"`
		IssuedAt uint32 `json:"iat"`
		Rank     string `json:"rank"` // 18446744073709551615: not sealed yet
		Ticket   string `json:"ticket"`
	}
	type refused struct {
		Name   string `json:"name"`
		Room   string `json:"room"`
		KID    uint8  `json:"kid"`
		Secret string `json:"secret"`
		Ticket string `json:"ticket"`
		Error  string `json:"error"`
	}
	w := words(1)
	secret := make([]byte, 32)
	w.fill(secret)
	var key [16]byte
	w.fill(key[:])
	tickets := []struct {
		name string
		t    Ticket
	}{
		{"just stamped", Ticket{Line: w.id(), Stamp: Stamp{Win: 12, Inc: Incarnation(w.u64()), Seq: 0}, Who: w.who(), IssuedAt: 1_800_000_000, Rank: NoRank}},
		{"sealed, first in line", Ticket{Line: w.id(), Stamp: Stamp{Win: 0, Inc: 1, Seq: 1}, Who: w.who(), IssuedAt: 1_800_000_001}},
		{"account, second lane, coarse clock, came late, key-bound", Ticket{Line: w.id(), Lane: 1, Stamp: Stamp{Win: 86_400_0, Inc: Incarnation(w.u64()), Seq: 131_072}, Who: w.who(), WhoKind: WhoAccount, Coarse: true, Key: key, IssuedAt: 1_800_086_400, Rank: 1 << 40, Door: DoorLate}},
		{"every number at its end", Ticket{Line: ID(bytes.Repeat([]byte{255}, 16)), Lane: 255, Stamp: Stamp{Win: ^Window(0), Inc: ^Incarnation(0), Seq: ^uint32(0)}, Who: Who(bytes.Repeat([]byte{255}, 16)), WhoKind: WhoPrivate, Key: key, IssuedAt: ^uint32(0), Rank: NoRank - 1, Door: DoorInTime}},
	}
	ring, err := NewTickets("onsale", TicketKey{KID: 3, Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	out := struct {
		Tickets []vector  `json:"tickets"`
		Refused []refused `json:"refused"`
	}{}
	for _, tc := range tickets {
		text := same(t, tc.name, ring.Issue(tc.t), secondTicket("onsale", 3, secret, tc.t))
		if back, err := ring.Parse(text); err != nil || back != tc.t {
			t.Errorf("%s: read back as %+v, %v", tc.name, back, err)
		}
		out.Tickets = append(out.Tickets, vector{tc.name, "onsale", 3, hex.EncodeToString(secret), tc.t.Line, tc.t.Lane, tc.t.Stamp.Win,
			tc.t.Stamp.Inc.String(), tc.t.Stamp.Seq, hex.EncodeToString(tc.t.Who[:]), uint8(tc.t.WhoKind), tc.t.Coarse, uint8(tc.t.Door),
			hex.EncodeToString(tc.t.Key[:]), tc.t.IssuedAt, u64(tc.t.Rank), text})
	}
	good := out.Tickets[0].Ticket
	elsewhere, _ := NewTickets("vip", TicketKey{KID: 3, Secret: secret})
	for _, tc := range []struct{ name, text string }{
		{"one bit changed", flip(good)},
		{"another room", elsewhere.Issue(tickets[0].t)},
		{"key id not in the ring", secondTicket("onsale", 4, secret, tickets[0].t)},
		{"trailing bits not zero", good[:len(good)-1] + string(good[len(good)-1]+1)},
		{"padded", good + "=="},
		{"truncated", good[:129]},
		{"door 3", secondTicket("onsale", 3, secret, Ticket{Door: 3})},
		{"kind of holder 5", secondTicket("onsale", 3, secret, Ticket{WhoKind: 5})},
	} {
		_, err := ring.Parse(tc.text)
		word := map[error]string{ErrTicketMalformed: "malformed", ErrTicketForged: "forged", ErrTicketKey: "unknown-key"}[err]
		if word == "" {
			t.Errorf("%s: %v", tc.name, err)
		}
		out.Refused = append(out.Refused, refused{tc.name, "onsale", 3, hex.EncodeToString(secret), tc.text, word})
	}
	golden(t, "tickets.json", out)
}

func flip(text string) string {
	c := byte('A')
	if text[60] == 'A' {
		c = 'B'
	}
	return text[:60] + string(c) + text[61:]
}

func TestHashVectors(t *testing.T) {
	w := words(2)
	type who struct {
		Room  string `json:"room"`
		Kind  uint8  `json:"kind"`
		Value string `json:"value"`
		Who   string `json:"who"`
	}
	var whos []who
	for _, tc := range []struct {
		room  string
		kind  WhoKind
		value string
	}{
		{"onsale", WhoAccount, "fan-1@example.org"}, {"onsale", WhoInvite, "fan-1@example.org"}, {"vip", WhoAccount, "fan-1@example.org"},
		{"onsale", WhoAccount, ""}, {"onsale", WhoInvite, "Größe \x00 ☃"},
	} {
		h := HashWho(tc.room, tc.kind, tc.value)
		whos = append(whos, who{tc.room, uint8(tc.kind), tc.value, same(t, "who", hex.EncodeToString(h[:]), hex.EncodeToString(secondWho(tc.room, tc.kind, tc.value)))})
	}
	golden(t, "who.json", whos)

	type sid struct {
		Master  string    `json:"master"`
		Room    string    `json:"room"`
		Line    ID        `json:"line"`
		RoomKey string    `json:"room_key"`
		Inc     string    `json:"inc"`
		Seq     uint32    `json:"seq"`
		Session SessionID `json:"session"`
	}
	var sids []sid
	master := make([]byte, 32)
	w.fill(master)
	for _, room := range []string{"onsale", "vip"} {
		for seq := range uint32(3) {
			id, inc := w.id(), Incarnation(w.u64())
			key, err := RoomKey(master, room, id)
			if err != nil {
				t.Fatal(err)
			}
			s := NewSessionID(key, id, inc, seq)
			var second SessionID
			copy(second[:], secondSession(secondRoomKey(master, room, id), id, inc, seq))
			same(t, "session", s.String(), second.String())
			sids = append(sids, sid{hex.EncodeToString(master), room, id, hex.EncodeToString(key), inc.String(), seq, s})
		}
	}
	golden(t, "sid.json", sids)

	type draw struct {
		Room       string `json:"room"`
		Line       ID     `json:"line"`
		Round      string `json:"round"`
		Randomness string `json:"randomness"`
		Who        string `json:"who"`
		Score      string `json:"score"`
		N          string `json:"n"`
		Place      string `json:"place"`
	}
	var draws []draw
	for i := range 8 {
		id, round, randomness, who, n := w.id(), uint64(5_000_000+i), make([]byte, 32), w.who(), uint64(100_000)
		w.fill(randomness)
		switch i {
		case 0:
			n = 0
		case 1:
			n = 1
		case 2:
			n = ^uint64(0)
		case 3:
			round = 0 // announced or operator
		case 4:
			randomness = randomness[:16]
		}
		score := DrawScore("onsale", id, round, randomness, who)
		second := secondScore("onsale", id, round, randomness, who)
		same(t, "score", u64(score), u64(binary.BigEndian.Uint64(second)))
		place := same(t, "place", u64(Hi64(score, n)), u64(secondScale(second, n)))
		draws = append(draws, draw{"onsale", id, u64(round), hex.EncodeToString(randomness), hex.EncodeToString(who[:]), u64(score), u64(n), place})
	}
	golden(t, "draw.json", draws)

	type seal struct {
		Line   ID         `json:"line"`
		Counts [][]uint64 `json:"counts"` // by lane, then window
		Chain  string     `json:"chain"`
		Chunks []string   `json:"first_chunks"` // by lane: the ledger's chunk 0
	}
	var seals []seal
	for _, counts := range [][][]uint64{{{0}}, {{3, 0, 5}}, {{1, 2, 3, 4}, {0, 0, 7, 0}}} {
		id := w.id()
		chain := SealChain([32]byte{}, id, 0, Window(len(counts[0])), counts)
		s := seal{Line: id, Counts: counts, Chain: same(t, "chain", hex.EncodeToString(chain[:]), secondChain(id, counts))}
		for _, lane := range counts {
			s.Chunks = append(s.Chunks, hex.EncodeToString(Ledger{}.Append(lane...).AppendChunk(nil, 0)))
		}
		seals = append(seals, s)
	}
	golden(t, "seals.json", seals)
}

// A chain does not tell in how many steps it was made.
func TestSealChainIgnoresBatches(t *testing.T) {
	id := ID{1}
	counts := [][]uint64{{1, 2, 3, 4, 5}, {9, 8, 7, 6, 5}}
	whole := SealChain([32]byte{}, id, 0, 5, counts)
	part := SealChain([32]byte{}, id, 0, 2, [][]uint64{counts[0][:2], counts[1][:2]})
	part = SealChain(part, id, 2, 5, [][]uint64{counts[0][2:], counts[1][2:]})
	if whole != part {
		t.Error("sealing in two steps gives another chain")
	}
	for name, other := range map[string][32]byte{
		"another count":   SealChain([32]byte{}, id, 0, 5, [][]uint64{{1, 2, 3, 4, 6}, counts[1]}),
		"lanes swapped":   SealChain([32]byte{}, id, 0, 5, [][]uint64{counts[1], counts[0]}),
		"another line":    SealChain([32]byte{}, ID{2}, 0, 5, counts),
		"shorter":         SealChain([32]byte{}, id, 0, 4, counts),
		"a missing count": SealChain([32]byte{}, id, 0, 5, [][]uint64{counts[0], counts[1][:4]}),
	} {
		if other == whole {
			t.Errorf("%s: the chain is the same", name)
		}
	}
}

func TestRankVectors(t *testing.T) {
	type vector struct {
		Name   string `json:"name"`
		Win    Window `json:"win"`
		Inc    string `json:"inc"`
		Seq    uint32 `json:"seq"`
		Who    string `json:"who"`
		Lobby  Window `json:"lobby_end"`
		Drawn  bool   `json:"drawn"`
		Rank   string `json:"rank,omitempty"`
		Sealed int    `json:"sealed"`
	}
	w := words(3)
	counts := []uint64{4, 0, 100, 1, 0, 0, 7, 65_536, 2, 0}
	id, randomness := w.id(), make([]byte, 32)
	w.fill(randomness)
	out := struct {
		Room       string   `json:"room"`
		Line       ID       `json:"line"`
		Round      string   `json:"round"`
		Randomness string   `json:"randomness"`
		Counts     []uint64 `json:"counts"`
		Ranks      []vector `json:"ranks"`
	}{"onsale", id, "5000000", hex.EncodeToString(randomness), counts, nil}
	for _, tc := range []struct {
		name   string
		win    Window
		lobby  Window
		drawn  bool
		sealed int
	}{
		{"first window", 0, 0, false, 10}, {"empty window: a late ticket", 1, 0, false, 10}, {"big window", 7, 0, false, 10},
		{"last window, late", 9, 0, false, 10}, {"not sealed: no rank", 7, 0, false, 7}, {"far future: no rank", 4_000_000_000, 0, false, 10},
		{"lobby, not drawn: no rank", 2, 4, false, 10}, {"lobby, not sealed: no rank", 2, 4, true, 3}, {"lobby, drawn", 2, 4, true, 4},
		{"lobby, empty window", 1, 4, true, 10}, {"after the lobby", 7, 4, true, 10}, {"after the lobby, not drawn yet", 7, 4, false, 10},
	} {
		s, who := Stamp{Win: tc.win, Inc: Incarnation(w.u64()), Seq: w.next()}, w.who()
		o := Opening{Room: "onsale", Line: id, LobbyEnd: tc.lobby, Drawn: tc.drawn, Round: 5_000_000, Randomness: randomness}
		rank, ok := Rank(o, Ledger{}.Append(counts[:tc.sealed]...), s, who)
		second, ok2 := secondRank(o, counts[:tc.sealed], s, who)
		v := vector{tc.name, s.Win, s.Inc.String(), s.Seq, hex.EncodeToString(who[:]), tc.lobby, tc.drawn, "", tc.sealed}
		if ok != ok2 {
			t.Errorf("%s: the package knows a rank: %v, the second implementation: %v", tc.name, ok, ok2)
		}
		if ok {
			v.Rank = same(t, tc.name, u64(rank), u64(second))
		}
		out.Ranks = append(out.Ranks, v)
	}
	golden(t, "ranks.json", out)
}

// million is a million ranks, as the recipe in formats.md makes them.
type million struct {
	counts  []uint64
	ledger  Ledger
	opening Opening
	w       words
}

const (
	millionSeed    = 2463534242
	millionWindows = 1000
	millionLobby   = 200
	millionCount   = 1_000_000
)

func newMillion() *million {
	m := &million{w: millionSeed}
	m.opening = Opening{Room: "onsale", Line: m.w.id(), LobbyEnd: millionLobby, Drawn: true, Round: m.w.u64(), Randomness: make([]byte, 32)}
	m.w.fill(m.opening.Randomness)
	for range millionWindows {
		m.counts = append(m.counts, uint64(m.w.next()%5000))
	}
	m.ledger = m.ledger.Append(m.counts...)
	return m
}

func (m *million) next() (Stamp, Who) {
	s := Stamp{Win: Window(m.w.next() % millionWindows)}
	s.Inc = Incarnation(m.w.u64())
	s.Seq = m.w.next()
	return s, m.w.who()
}

// The package and the second implementation agree on a million ranks, and on the published digests of them: the same that
// the browser's code must give.
func TestMillionRanks(t *testing.T) {
	type checkpoint struct {
		N      int    `json:"n"`
		SHA256 string `json:"sha256"`
	}
	out := struct {
		Recipe  string       `json:"recipe"`
		Seed    uint32       `json:"seed"`
		Windows int          `json:"windows"`
		Lobby   Window       `json:"lobby_end"`
		Line    ID           `json:"line"`
		Round   string       `json:"round"`
		First   []string     `json:"first_ranks"`
		Digests []checkpoint `json:"digests"`
	}{Recipe: "docs/reference/formats.md#a-million-ranks", Seed: millionSeed, Windows: millionWindows, Lobby: millionLobby}
	m := newMillion()
	out.Line, out.Round = m.opening.Line, u64(m.opening.Round)
	digest, second := sha256.New(), sha256.New()
	prefix := make([]uint64, millionWindows+1) // the second implementation's own sums, or it would take hours
	for i, c := range m.counts {
		prefix[i+1] = prefix[i] + c
	}
	for n := 1; n <= millionCount; n++ {
		s, who := m.next()
		rank, ok := Rank(m.opening, m.ledger, s, who)
		if !ok {
			t.Fatalf("vector %d has no rank", n)
		}
		var want uint64
		if s.Win < millionLobby {
			want = secondScale(secondScore(m.opening.Room, m.opening.Line, m.opening.Round, m.opening.Randomness, who), prefix[millionLobby])
		} else {
			h := secondHash([]byte("window-order1"), secondInt(uint64(s.Inc), 8), secondInt(uint64(s.Seq), 4))
			want = prefix[s.Win] + secondScale(h, m.counts[s.Win])
		}
		write(digest, rank)
		write(second, want)
		if n <= 16 {
			out.First = append(out.First, u64(rank))
		}
		if n == 1 || n == 1000 || n == 100_000 || n == millionCount {
			out.Digests = append(out.Digests, checkpoint{n, same(t, fmt.Sprintf("first %d", n), sum(digest), sum(second))})
		}
	}
	golden(t, "million.json", out)
}

func write(h hash.Hash, v uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	h.Write(b[:])
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

func testRecord() Record {
	return Record{
		Version: 1, Room: "onsale", Line: ID{1, 2, 3}, EpochMs: 1_800_000_000_000, OpensAtMs: 1_800_003_600_000,
		Lanes: []LaneSpec{{"general", 4}, {"presale", 1}},
		Draw:  Draw{Kind: DrawDrand, Chain: "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971", Round: 35_737_000, DueAt: 1_800_003_660_000},
	}
}

func testAmendment(r Record) Amendment {
	d := r.Draw
	d.Round += 1200
	d.DueAt += 3_600_000
	return Amendment{OpensAtMs: r.OpensAtMs + 3_600_000, Draw: d, MadeAtMs: r.EpochMs + 1000, Reason: "the doors open late"}
}

func TestRecordVectors(t *testing.T) {
	key := testKey('r')
	s, err := SignRecord(key, testRecord())
	if err != nil {
		t.Fatal(err)
	}
	p := Published{Record: s}
	a, err := Amend(key, p, testAmendment(testRecord()))
	if err != nil {
		t.Fatal(err)
	}
	p.Amendments = []Signed{a}
	o, err := p.Open(key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "records.json", struct {
		Seed      string `json:"seed"` // of the Ed25519 key, RFC 8032
		Record    Signed `json:"record"`
		Amendment Signed `json:"amendment"`
		Body      string `json:"record_body"`
		Last      string `json:"last"`
		OpensAtMs int64  `json:"opens_at_ms"`
		Round     uint64 `json:"round"`
	}{hex.EncodeToString(key.Seed()), s, a, string(mustBody(t, s)), o.Last, o.Record.OpensAtMs, o.Record.Draw.Round})
}

func mustBody(t *testing.T, s Signed) []byte {
	t.Helper()
	b, err := ticketText.DecodeString(s.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRecordRefusals(t *testing.T) {
	key, other := testKey('r'), testKey('o')
	for name, change := range map[string]func(*Record){
		"version":         func(r *Record) { r.Version = 2 },
		"room":            func(r *Record) { r.Room = "On Sale" },
		"no line":         func(r *Record) { r.Line = ID{} },
		"no epoch":        func(r *Record) { r.EpochMs = 0 },
		"opens before":    func(r *Record) { r.OpensAtMs = r.EpochMs - 1 },
		"no lane":         func(r *Record) { r.Lanes = nil },
		"too many lanes":  func(r *Record) { r.Lanes = make([]LaneSpec, MaxLanes+1) },
		"lane twice":      func(r *Record) { r.Lanes[1].Name = "general" },
		"weight":          func(r *Record) { r.Lanes[0].Weight = 0 },
		"draw in lobby":   func(r *Record) { r.Draw.DueAt = r.OpensAtMs },
		"draw kind":       func(r *Record) { r.Draw.Kind = "dice" },
		"no round":        func(r *Record) { r.Draw.Round = 0 },
		"no source":       func(r *Record) { r.Draw.Kind = DrawAnnounced },
		"draw of no kind": func(r *Record) { r.Draw.Kind = DrawNone },
		"honours itself":  func(r *Record) { r.Honours = []ID{r.Line} },
		"who":             func(r *Record) { r.WhoKind = 9 },
	} {
		r := testRecord()
		change(&r)
		if _, err := SignRecord(key, r); !errors.Is(err, ErrRecordInvalid) {
			t.Errorf("%s: SignRecord = %v, want ErrRecordInvalid", name, err)
		}
	}
	s, err := SignRecord(key, testRecord())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := SignRecord(other, testRecord())
	if err != nil {
		t.Fatal(err)
	}
	change := func(f func(*Signed)) Signed { c := s; f(&c); return c }
	for _, tc := range []struct {
		name string
		s    Signed
		want error
	}{
		{"another key", foreign, ErrStatementKey},
		{"another key under this one's name", change(func(c *Signed) { c.Sig = foreign.Sig }), ErrStatementForged},
		{"another body", change(func(c *Signed) { c.Body = c.Body[:40] + "A" + c.Body[41:] }), ErrStatementForged},
		{"no key id", change(func(c *Signed) { c.KID = "" }), ErrStatementMalformed},
		{"body is not base64url", change(func(c *Signed) { c.Body = "%%%" }), ErrStatementMalformed},
		{"signature is too long", change(func(c *Signed) { c.Sig += string(make([]byte, 200)) }), ErrStatementMalformed},
		{"an amendment in a record's place", mustSign(t, key, tagAmendment, testRecord()), ErrStatementForged},
		{"an unknown field", mustSign(t, key, tagRecord, map[string]any{"version": 1, "odds": "good"}), ErrStatementMalformed},
	} {
		if _, err := VerifyRecord(tc.s, key.Public().(ed25519.PublicKey)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

func mustSign(t *testing.T, key ed25519.PrivateKey, tag string, v any) Signed {
	t.Helper()
	s, err := signStatement(key, tag, v)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What an amendment may not do, whether it is asked for honestly (Amend) or signed past the rules by whoever holds the key.
func TestAmendmentRules(t *testing.T) {
	key := testKey('r')
	r := testRecord()
	s, err := SignRecord(key, r)
	if err != nil {
		t.Fatal(err)
	}
	base := Published{Record: s}
	opened, err := base.Open()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(*Amendment)
		want   error
	}{
		{"allowed", func(a *Amendment) {}, nil},
		{"earlier opening, later round", func(a *Amendment) { a.OpensAtMs = r.OpensAtMs - 60_000 }, nil},
		{"the same round", func(a *Amendment) { a.Draw.Round = r.Draw.Round }, ErrAmendmentRule},
		{"an earlier round", func(a *Amendment) { a.Draw.Round = r.Draw.Round - 1 }, ErrAmendmentRule},
		{"a round due no later", func(a *Amendment) { a.Draw.DueAt = r.Draw.DueAt; a.OpensAtMs = r.OpensAtMs }, ErrAmendmentRule},
		{"made when the old round was due", func(a *Amendment) { a.MadeAtMs = r.Draw.DueAt }, ErrAmendmentRule},
		{"made after the opening", func(a *Amendment) { a.MadeAtMs = r.OpensAtMs }, ErrAmendmentRule},
		{"opens in its past", func(a *Amendment) { a.OpensAtMs = a.MadeAtMs - 1 }, ErrAmendmentRule},
		{"from beacon to the operator's word", func(a *Amendment) { a.Draw = Draw{Kind: DrawOperator, DueAt: a.Draw.DueAt} }, ErrAmendmentRule},
		{"another beacon", func(a *Amendment) { a.Draw.Chain = a.Draw.Chain[2:] + "00" }, ErrAmendmentRule},
		{"no draw any more", func(a *Amendment) { a.Draw = Draw{} }, ErrAmendmentRule},
		{"dated before the record", func(a *Amendment) { a.MadeAtMs = r.EpochMs - 1 }, ErrAmendmentChain},
		{"round due before its opening", func(a *Amendment) { a.OpensAtMs = a.Draw.DueAt }, ErrRecordInvalid},
	} {
		a := testAmendment(r)
		tc.change(&a)
		if _, err := Amend(key, base, a); !errors.Is(err, tc.want) {
			t.Errorf("%s: Amend = %v, want %v", tc.name, err, tc.want)
		}
		a.Version, a.Line, a.Prev = 1, r.Line, opened.Last
		p := Published{Record: s, Amendments: []Signed{mustSign(t, key, tagAmendment, a)}}
		if _, err := p.Open(); !errors.Is(err, tc.want) {
			t.Errorf("%s: Open = %v, want %v", tc.name, err, tc.want)
		}
	}

	first, err := Amend(key, base, testAmendment(r))
	if err != nil {
		t.Fatal(err)
	}
	once := Published{Record: s, Amendments: []Signed{first}}
	o, err := once.Open()
	if err != nil {
		t.Fatal(err)
	}
	later := testAmendment(o.Record)
	later.MadeAtMs += 1000
	second, err := Amend(key, once, later)
	if err != nil {
		t.Fatal(err)
	}
	for name, amendments := range map[string][]Signed{
		"one left out": {second}, "swapped": {second, first}, "twice": {first, first},
	} {
		p := Published{Record: s, Amendments: amendments}
		if _, err := p.Open(); !errors.Is(err, ErrAmendmentChain) {
			t.Errorf("%s: %v, want ErrAmendmentChain", name, err)
		}
	}
	if _, err := (Published{Record: s, Amendments: make([]Signed, MaxAmendments+1)}).Open(); !errors.Is(err, ErrStatementMalformed) {
		t.Errorf("endless amendments: %v", err)
	}
	forged, err := Amend(testKey('o'), base, testAmendment(r))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Published{Record: s, Amendments: []Signed{forged}}).Open(); !errors.Is(err, ErrStatementKey) {
		t.Errorf("an amendment by somebody else: %v, want ErrStatementKey", err)
	}
}

func TestOpening(t *testing.T) {
	o := Opened{Record: testRecord()}
	if op, err := o.Opening(nil); err != nil || op.Drawn || op.LobbyEnd != 36_000 {
		t.Errorf("before the draw: %+v, %v", op, err)
	}
	value := hex.EncodeToString(make([]byte, 32))
	if op, err := o.Opening(&DrawResult{Round: o.Record.Draw.Round, Value: value}); err != nil || !op.Drawn {
		t.Errorf("after the draw: %+v, %v", op, err)
	}
	for name, r := range map[string]DrawResult{
		"another round": {Round: o.Record.Draw.Round + 1, Value: value}, "short value": {Round: o.Record.Draw.Round, Value: "00"}, "not hexadecimal": {Round: o.Record.Draw.Round, Value: "zz"},
	} {
		if _, err := o.Opening(&r); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	o.Record.Draw = Draw{}
	if op, err := o.Opening(nil); err != nil || op.LobbyEnd != 0 {
		t.Errorf("without a draw the lobby keeps its order of arrival: %+v, %v", op, err)
	}
}
