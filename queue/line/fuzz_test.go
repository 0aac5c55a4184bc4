package line

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"
)

// Whatever is accepted as a ticket is what Issue would have written.
func FuzzTicket(f *testing.F) {
	ts := testTickets(f)
	f.Add(ts.Issue(Ticket{}))
	f.Add(ts.Issue(Ticket{Door: DoorLate, Coarse: true, Rank: NoRank}))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		tk, err := ts.Parse(text)
		if err != nil {
			return
		}
		if again := ts.Issue(tk); again != text && text[1] == again[1] {
			t.Fatalf("%q reads as a ticket whose text is %q", text, again)
		}
	})
}

func FuzzLedgerChunk(f *testing.F) {
	f.Add([]byte{}, uint16(3))
	f.Add(Ledger{}.Append(1, 2, 3).AppendChunk(nil, 0), uint16(0))
	f.Fuzz(func(t *testing.T, chunk []byte, before uint16) {
		var l Ledger
		for range before % 4 {
			l = l.Append(uint64(before))
		}
		next, err := l.AppendChunkBytes(chunk)
		if err != nil {
			if next.Sealed() != l.Sealed() {
				t.Fatal("a refused chunk changed the ledger")
			}
			return
		}
		if next.Total() < l.Total() || next.Sealed() != l.Sealed()+Window(len(chunk)/8-1) {
			t.Fatalf("%d windows of %d became %d of %d", l.Sealed(), l.Total(), next.Sealed(), next.Total())
		}
		if before%4 == 0 && len(chunk)/8-1 <= ChunkWindows && !bytes.Equal(next.AppendChunk(nil, 0), chunk) {
			t.Fatal("the chunk does not come back as it was")
		}
	})
}

func FuzzPublished(f *testing.F) {
	key := testKey('r')
	s, err := SignRecord(key, testRecord())
	if err != nil {
		f.Fatal(err)
	}
	p := Published{Record: s}
	a, err := Amend(key, p, testAmendment(testRecord()))
	if err != nil {
		f.Fatal(err)
	}
	p.Amendments = []Signed{a}
	doc, err := json.Marshal(p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add([]byte(`{"record":{"kid":"","body":"e30"}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		p, err := ParsePublished(doc)
		if err != nil {
			return
		}
		o, err := p.Open()
		if err != nil {
			return
		}
		if o.Record.Validate() != nil || o.Original.Validate() != nil {
			t.Fatal("an invalid record was opened")
		}
	})
}

func FuzzIDs(f *testing.F) {
	f.Add(ID{1}.String())
	f.Add(SessionID{1}.String())
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseID(s); err == nil && id.String() != s {
			t.Fatalf("%q is read as line %s", s, id)
		}
		if id, err := ParseSessionID(s); err == nil && id.String() != s {
			t.Fatalf("%q is read as session %s", s, id)
		}
	})
}

// No status object, however wrong, gives a negative or endless wait or poll.
func FuzzStatus(f *testing.F) {
	f.Add([]byte(`{"phase":"waiting","lanes":[{"called":5,"total":900,"per_minute":60,"eta":{"kind":"sample","per_second":1,"low":0.5,"high":2,"block_size":100,"present":"gP//"}}],"poll":{"min_ms":2000,"max_ms":60000,"spread":0.2}}`), uint64(700), 0.5)
	f.Add([]byte(`{"phase":"waiting","lanes":[{"eta":{"per_second":1e-300,"high":1e300,"block_size":1,"from_block":18446744073709551615,"present":"AA=="}}]}`), uint64(math.MaxUint64-1), 0.0)
	f.Fuzz(func(t *testing.T, doc []byte, rank uint64, u float64) {
		var s Status
		if json.Unmarshal(doc, &s) != nil || !(u >= 0 && u < 1) {
			return
		}
		for lane := range s.Lanes {
			i, _ := s.Lanes[lane].Estimate(rank)
			if i.Low < 0 || i.Point < 0 || i.High < 0 {
				t.Fatalf("estimate %+v", i)
			}
			if p := s.NextPoll(lane, rank, u); p < time.Second/2 || p > 8*time.Minute {
				t.Fatalf("next poll in %v", p)
			}
		}
	})
}
