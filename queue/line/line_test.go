package line

import (
	"crypto/ed25519"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func testTickets(t testing.TB) *Tickets {
	t.Helper()
	ts, err := NewTickets("onsale", TicketKey{KID: 7, Secret: []byte(strings.Repeat("k", 32))}, TicketKey{KID: 3, Secret: []byte(strings.Repeat("o", 32))})
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func drawTicket(t *rapid.T) Ticket {
	var tk Ticket
	copy(tk.Line[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "line"))
	copy(tk.Who[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "who"))
	copy(tk.Key[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "key"))
	tk.Lane = rapid.Uint8().Draw(t, "lane")
	tk.Stamp = Stamp{
		Win: Window(rapid.Uint32().Draw(t, "win")),
		Inc: Incarnation(rapid.Uint64().Draw(t, "inc")),
		Seq: rapid.Uint32().Draw(t, "seq"),
	}
	tk.WhoKind = WhoKind(rapid.IntRange(0, int(WhoPrivate)).Draw(t, "kind"))
	tk.Coarse = rapid.Bool().Draw(t, "coarse")
	tk.IssuedAt = rapid.Uint32().Draw(t, "iat")
	tk.Rank = rapid.Uint64().Draw(t, "rank")
	tk.Door = Door(rapid.IntRange(0, int(DoorLate)).Draw(t, "door"))
	return tk
}

func TestTicketRoundTrip(t *testing.T) {
	ts := testTickets(t)
	rapid.Check(t, func(t *rapid.T) {
		want := drawTicket(t)
		text := ts.Issue(want)
		if len(text) != TicketChars {
			t.Fatalf("%d characters, want %d", len(text), TicketChars)
		}
		got, err := ts.Parse(text)
		if err != nil || got != want {
			t.Fatalf("Parse = %+v, %v; want %+v", got, err, want)
		}
		if got, err := PeekTicket(text); err != nil || got != want {
			t.Fatalf("PeekTicket = %+v, %v; want %+v", got, err, want)
		}
	})
}

// Whatever single character changes, the ticket is refused: no part of it is outside the signature, and no second text
// reads as the same ticket.
func TestTicketEveryCharacterCounts(t *testing.T) {
	ts := testTickets(t)
	text := ts.Issue(Ticket{Rank: NoRank})
	for i := range text {
		for _, c := range "AZaz09-_=+/\n " {
			changed := text[:i] + string(c) + text[i+1:]
			if changed == text {
				continue
			}
			if _, err := ts.Parse(changed); err == nil {
				t.Fatalf("character %d changed from %q to %q is accepted", i, text[i], c)
			}
		}
	}
}

func TestTicketRefusals(t *testing.T) {
	ts := testTickets(t)
	text := ts.Issue(Ticket{})
	other, _ := NewTickets("other", TicketKey{KID: 7, Secret: []byte(strings.Repeat("k", 32))})
	unknown, _ := NewTickets("onsale", TicketKey{KID: 9, Secret: []byte(strings.Repeat("k", 32))})
	forged, _ := NewTickets("onsale", TicketKey{KID: 7, Secret: []byte(strings.Repeat("x", 32))})
	for _, tc := range []struct {
		name, text string
		want       error
	}{
		{"empty", "", ErrTicketMalformed},
		{"short", text[:TicketChars-1], ErrTicketMalformed},
		{"long", text + "A", ErrTicketMalformed},
		{"padded", text[:TicketChars-2] + "==", ErrTicketMalformed},
		{"line breaks", text[:TicketChars-4] + "\r\n\r\n", ErrTicketMalformed},
		{"another version", "Ag" + text[2:], ErrTicketMalformed},
		{"another room", other.Issue(Ticket{}), ErrTicketForged},
		{"unknown key", unknown.Issue(Ticket{}), ErrTicketKey},
		{"another secret", forged.Issue(Ticket{}), ErrTicketForged},
		{"unknown kind of holder", ts.Issue(Ticket{WhoKind: 5}), ErrTicketMalformed},
		{"unknown door", ts.Issue(Ticket{Door: 3}), ErrTicketMalformed},
	} {
		if _, err := ts.Parse(tc.text); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestTicketRotation(t *testing.T) {
	old := TicketKey{KID: 1, Secret: []byte(strings.Repeat("1", 32))}
	fresh := TicketKey{KID: 2, Secret: []byte(strings.Repeat("2", 32))}
	before, _ := NewTickets("onsale", old)
	published, _ := NewTickets("onsale", old, fresh)
	after, _ := NewTickets("onsale", fresh, old)
	for name, ring := range map[string]*Tickets{"published": published, "after": after} {
		if _, err := ring.Parse(before.Issue(Ticket{})); err != nil {
			t.Errorf("%s: an old ticket is refused: %v", name, err)
		}
	}
	if _, err := published.Parse(after.Issue(Ticket{})); err != nil {
		t.Errorf("a ring that only knows the new key refuses it: %v", err)
	}
}

func TestTicketRingRefusals(t *testing.T) {
	good := TicketKey{KID: 1, Secret: make([]byte, 32)}
	for name, ring := range map[string][]TicketKey{
		"empty": nil, "reserved id": {{KID: 0, Secret: make([]byte, 32)}}, "twice": {good, good}, "short": {{KID: 1, Secret: make([]byte, 31)}},
	} {
		if _, err := NewTickets("onsale", ring...); !errors.Is(err, ErrTicketRing) {
			t.Errorf("%s: %v, want ErrTicketRing", name, err)
		}
	}
}

func TestLedgerValuesStayImmutable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			l    Ledger
			want []uint64
		}
		versions := []version{{}}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			from := versions[rapid.IntRange(0, len(versions)-1).Draw(t, "from")]
			add := rapid.SliceOfN(rapid.Uint64Range(0, 1000), 0, 80).Draw(t, "add")
			versions = append(versions, version{from.l.Append(add...), slices.Concat(from.want, add)})
		}
		for i, v := range versions {
			if got := v.l.Counts(0, ^Window(0)); !slices.Equal(got, v.want) {
				t.Fatalf("version %d holds %v, want %v", i, got, v.want)
			}
		}
	})
}

func TestLedgerAppendIsCheap(t *testing.T) {
	var l Ledger
	l = l.Append(make([]uint64, 1_000_000)...)
	if n := testing.AllocsPerRun(1000, func() { l = l.Append(1) }); n > 0.01 {
		t.Errorf("appending one window to a million allocates %v times", n)
	}
}

func TestLedgerChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Uint64Range(0, 50), 0, 1500).Draw(t, "counts")
		l := Ledger{}.Append(want...)
		var back Ledger
		for c := uint32(0); ; c++ {
			chunk := l.AppendChunk(nil, c)
			if len(chunk) == 0 {
				break
			}
			var err error
			if back, err = back.AppendChunkBytes(chunk); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(back.Counts(0, back.Sealed()), l.Counts(0, l.Sealed())) {
			t.Fatal("chunks do not give the ledger back")
		}
	})
}

func TestRankIsNeverGuessed(t *testing.T) {
	l := Ledger{}.Append(5, 0, 7)
	open := Opening{LobbyEnd: 2}
	for _, tc := range []struct {
		name string
		o    Opening
		win  Window
		ok   bool
	}{
		{"unsealed window", Opening{}, 3, false},
		{"sealed window", Opening{}, 2, true},
		{"lobby without draw", open, 0, false},
		{"lobby with draw", Opening{LobbyEnd: 2, Drawn: true}, 0, true},
		{"lobby not sealed", Opening{LobbyEnd: 4, Drawn: true}, 0, false},
		{"after the lobby, not drawn", open, 2, true},
	} {
		r, ok := Rank(tc.o, l, Stamp{Win: tc.win, Inc: 1, Seq: 1}, Who{})
		if ok != tc.ok || !ok && r != NoRank {
			t.Errorf("%s: Rank = %d, %v; want ok %v", tc.name, r, ok, tc.ok)
		}
	}
}

// Of two tickets of one lane in different windows the earlier has the lower rank; inside a window ranks stay inside its range.
func TestRankFollowsWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := rapid.SliceOfN(rapid.Uint64Range(0, 20), 1, 50).Draw(t, "counts")
		l := Ledger{}.Append(counts...)
		w := rapid.IntRange(0, len(counts)-1).Draw(t, "win")
		s := Stamp{Win: Window(w), Inc: Incarnation(rapid.Uint64().Draw(t, "inc")), Seq: rapid.Uint32().Draw(t, "seq")}
		r, ok := Rank(Opening{}, l, s, Who{})
		base, count, _ := l.Window(s.Win)
		if !ok || r < base || r > base+count || count > 0 && r == base+count {
			t.Fatalf("rank %d outside [%d, %d)", r, base, base+count)
		}
	})
}

func TestRankAllocatesNothing(t *testing.T) {
	pooled := 0.05
	if raceDetector {
		pooled = 5 // it lets pools lose a part of what they hold
	}
	l := Ledger{}.Append(make([]uint64, 100)...)
	o := Opening{Room: "onsale", LobbyEnd: 50, Drawn: true, Round: 9, Randomness: make([]byte, 32)}
	ts := testTickets(t)
	text := ts.Issue(Ticket{})
	for name, f := range map[string]func(){
		"rank in the lobby": func() { Rank(o, l, Stamp{Win: 3}, Who{}) },
		"rank after it":     func() { Rank(o, l, Stamp{Win: 70}, Who{}) },
		"parse":             func() { ts.Parse(text) },
	} {
		if n := testing.AllocsPerRun(1000, f); n > pooled {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	if n := testing.AllocsPerRun(1000, func() { ts.Issue(Ticket{}) }); n > 1+pooled {
		t.Errorf("issue allocates %v times, want the text alone", n)
	}
}

func testKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), ed25519.SeedSize)))
}
