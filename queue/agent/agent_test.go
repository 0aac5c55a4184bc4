package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/stanchion-queue/stanchion/pass"
	"github.com/stanchion-queue/stanchion/queue"
	"github.com/stanchion-queue/stanchion/queue/line"
	"github.com/stanchion-queue/stanchion/queue/pace"
	"github.com/stanchion-queue/stanchion/queue/room"
)

func testPasses(t testing.TB) *pass.Keys {
	t.Helper()
	k, err := pass.NewKeys(pass.Key{Private: ed25519.NewKeyFromSeed([]byte(strings.Repeat("p", 32)))})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var recordKey = ed25519.NewKeyFromSeed([]byte(strings.Repeat("r", 32)))

// testRecord is a line of two lanes that began at store time epoch.
func testRecord(epochMs int64) line.Record {
	return line.Record{
		Version: 1, Room: "onsale", Line: line.ID{1}, EpochMs: epochMs, OpensAtMs: epochMs,
		Lanes: []line.LaneSpec{{Name: "general", Weight: 1}, {Name: "presale", Weight: 3}},
	}
}

func testBook(t testing.TB, epochMs int64) *book {
	t.Helper()
	signed, err := line.SignRecord(recordKey, testRecord(epochMs))
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBook([]byte(strings.Repeat("m", 32)), "onsale", queue.LineState{
		Line: line.ID{1}, Published: line.Published{Record: signed}, Lanes: make([]queue.LaneControl, 2),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// testRoom is a room that has heard of its line and settings, without a store behind it.
func testRoom(t testing.TB, s room.Settings) *Room {
	t.Helper()
	a, err := New(Options{
		Store: struct{ queue.Store }{}, Rooms: []string{"onsale"}, TicketKeys: []line.TicketKey{{KID: 1, Secret: []byte(strings.Repeat("t", 32))}},
		RoomMaster: []byte(strings.Repeat("m", 32)), Passes: testPasses(t), Issuer: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := a.Room("onsale")
	now := time.Now()
	r.clock.observe(now, now, now.UnixMilli())
	b := testBook(t, now.UnixMilli())
	set, err := s.Store(1, "", s.RatePerSecond)
	if err != nil {
		t.Fatal(err)
	}
	snap := &snapshot{
		control:  queue.Control{Gen: "g", Lines: []line.ID{{1}}, StoreMs: now.UnixMilli(), Settings: set, Lanes: make([]queue.LaneControl, 2)},
		settings: s, codes: codeSet(s.CodeHashes), books: map[line.ID]*book{{1}: b},
	}
	snap.forecast.Status.Phase = line.PhaseWaiting
	snap.view = snap.makeView("onsale", now.UnixMilli(), false, false)
	r.snap.Store(snap)
	return r
}

func TestNewRefuses(t *testing.T) {
	good := Options{
		Store: struct{ queue.Store }{}, Rooms: []string{"a"}, TicketKeys: []line.TicketKey{{KID: 1, Secret: make([]byte, 32)}},
		RoomMaster: make([]byte, 32), Passes: testPasses(t), Issuer: "test",
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Options){
		"no store":          func(o *Options) { o.Store = nil },
		"no passes":         func(o *Options) { o.Passes = nil },
		"no issuer":         func(o *Options) { o.Issuer = "" },
		"bad room name":     func(o *Options) { o.Rooms = []string{"A room"} },
		"room twice":        func(o *Options) { o.Rooms = []string{"a", "a"} },
		"no ticket key":     func(o *Options) { o.TicketKeys = nil },
		"short room master": func(o *Options) { o.RoomMaster = make([]byte, 31) },
	} {
		o := good
		spoil(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestAgeBucketsAreTheLaws(t *testing.T) {
	if !slices.Equal(ageBuckets[:], pace.AgeBoundsMs[:]) {
		t.Fatalf("agents count in %v, the law learns from %v", ageBuckets, pace.AgeBoundsMs)
	}
	for age, want := range map[int64]int64{-5: 500, 0: 500, 500: 500, 501: 1000, 7000: 8000, 80_000: 80_000, 200_000: 80_000} {
		if got := ageBucket(age); got != want {
			t.Errorf("bucket of %d ms is %d, want %d", age, got, want)
		}
	}
}

func TestParseSession(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.StringMatching(`[A-Za-z0-9_-]{21,23}`), rapid.String()).Draw(t, "text")
		want, err := line.ParseSessionID(text)
		got, ok := parseSession(text)
		if ok != (err == nil) || ok && got != want {
			t.Fatalf("parseSession(%q) = %v, %v; ParseSessionID = %v, %v", text, got, ok, want, err)
		}
	})
}

// A pass in use costs no allocation, unless a fresh one is signed.
func TestUseDoesNotAllocate(t *testing.T) {
	r := testRoom(t, room.Defaults())
	now := time.Now()
	var id line.SessionID
	id[3] = 7
	r.admitted(queue.Claim{Session: id}, queue.ClaimResult{EndMs: now.Add(30 * time.Second).UnixMilli(), StayMs: now.Add(time.Hour).UnixMilli()}, now.UnixMilli())
	c := pass.Claims{Session: id.String(), ExpiresAt: now.Add(29 * time.Second).Truncate(time.Second), Line: line.ID{1}.String()}
	if u := r.Use(c, now); !u.Alive || u.Ended || u.Renewed != nil {
		t.Fatalf("use = %+v", u)
	}
	if n := testing.AllocsPerRun(1000, func() { r.Use(c, now) }); n != 0 {
		t.Errorf("%v allocations a use", n)
	}
	if w := r.sessions.takeWishes(now.UnixMilli(), 5); len(w) != 1 || w[0].Session != id {
		t.Errorf("renewals = %v, want the one session once", w)
	}
	r.confirm([]queue.Lease{{Session: id, EndMs: now.Add(5 * time.Minute).UnixMilli(), StayMs: now.Add(time.Hour).UnixMilli(), Home: r.inc}}, r.inc, now.UnixMilli())
	u := r.Use(c, now)
	if u.Renewed == nil {
		t.Fatal("no fresh pass after the lease grew")
	}
	if end := u.Renewed.ExpiresAt; end.After(now.Add(5*time.Minute - passMarginMs*time.Millisecond)) {
		t.Errorf("pass ends %s, less than half a second before its lease", end)
	}
	if again := r.Use(c, now).Renewed; again != u.Renewed {
		t.Error("the fresh pass is signed anew for each request of the old one")
	}
}

func TestUseJudgesByTheRoomsClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := testRoom(t, room.Defaults())
		c := pass.Claims{Session: line.SessionID{9}.String(), ExpiresAt: time.Now().Add(10 * time.Second)}
		slow := time.Now().Add(-time.Minute) // the edge's own clock is behind
		if u := r.Use(c, slow); u != (line.Use{}) {
			t.Errorf("use of a pass from elsewhere = %+v, want: judge by the pass", u)
		}
		time.Sleep(time.Minute)
		if u := r.Use(c, slow); !u.Ended {
			t.Errorf("use of a pass that is over by the room's clock = %+v", u)
		}
		if u := r.Use(c, time.Now()); u.Ended {
			t.Errorf("use of a pass that is over by both clocks = %+v, want: goes through the claim", u)
		}
		if u := r.Use(pass.Claims{Session: "nonsense"}, slow); u != (line.Use{}) {
			t.Errorf("use of nonsense = %+v", u)
		}
	})
}

// seals makes seals of one lane pair, from window 0 on.
func seals(prev [32]byte, from line.Window, counts ...[2]uint64) (out []queue.SealedRange) {
	for _, c := range counts {
		s := queue.SealedRange{Line: line.ID{1}, From: from, To: from + 1, Counts: [][]uint64{{c[0]}, {c[1]}}}
		s.Chain = line.SealChain(prev, s.Line, s.From, s.To, s.Counts)
		prev, from = s.Chain, s.To
		out = append(out, s)
	}
	return out
}

func TestBookSeals(t *testing.T) {
	b := testBook(t, 1)
	ss := seals([32]byte{}, 0, [2]uint64{5, 1}, [2]uint64{0, 0}, [2]uint64{7, 2})
	next, err := b.with(ss)
	if err != nil {
		t.Fatal(err)
	}
	if next.sealed != 3 || next.ledgers[0].Total() != 12 || next.ledgers[1].Total() != 3 || b.sealed != 0 {
		t.Fatalf("sealed %d, totals %d and %d", next.sealed, next.ledgers[0].Total(), next.ledgers[1].Total())
	}
	if again, err := next.with(ss); err != nil || again != next {
		t.Errorf("seals it holds: %v", err)
	}
	if _, err := b.with(ss[1:]); !errors.Is(err, errSealGap) {
		t.Errorf("a gap: %v", err)
	}
	forged := slices.Clone(ss)
	forged[1].Counts = [][]uint64{{1}, {0}}
	if _, err := b.with(forged); !errors.Is(err, errSealChain) {
		t.Errorf("other counts: %v", err)
	}
	short := slices.Clone(ss)
	short[0].Counts = [][]uint64{{5, 6}, {1}}
	if _, err := b.with(short); !errors.Is(err, errSealGap) {
		t.Errorf("uneven counts: %v", err)
	}
	if !next.continues(b) || b.continues(next) {
		t.Error("continues is wrong about more and less")
	}
	other, err := b.with(seals([32]byte{}, 0, [2]uint64{4, 1}, [2]uint64{1, 0}, [2]uint64{7, 2}))
	if err != nil {
		t.Fatal(err)
	}
	if other.continues(next) {
		t.Error("a ledger that moved a ticket continues the other")
	}
	moved := next.withLanes([]queue.LaneControl{{Called: 4, Total: 12}, {}}).withLanes([]queue.LaneControl{{Called: 2, Total: 12}, {}})
	if moved.lanes[0].Called != 4 {
		t.Errorf("called went back to %d", moved.lanes[0].Called)
	}
	p := next.publish()
	if p.Sealed != 3 || !slices.Equal(p.Totals, []uint64{12, 3}) || p.Chain != hex.EncodeToString(next.chain[:]) {
		t.Errorf("published = %+v", p)
	}
}

// Claims leave the door in rank order, late ones last; two requests of one ticket are one claim with one answer.
func TestDoorOrder(t *testing.T) {
	d := newDoor()
	park := func(rank uint64, door line.Door, patient bool) chan outcome {
		c := queue.Claim{Rank: rank, Door: door}
		c.Session[0] = byte(rank)
		w, ok := d.park(c, 0, patient, 5)
		if !ok {
			t.Fatalf("rank %d not parked", rank)
		}
		return w
	}
	first := park(30, line.DoorInTime, true)
	park(10, line.DoorLate, true)
	second := park(30, line.DoorInTime, true)
	hasty := park(20, line.DoorInTime, false)
	if n, total := d.count(1, time.Now()); n[0] != 3 || total != 3 {
		t.Fatalf("parked %v, %d", n, total)
	}
	batch, others := d.take(2, time.Now())
	if len(batch) != 2 || batch[0].claim.Rank != 20 || batch[1].claim.Rank != 30 || !others {
		t.Fatalf("first batch of %d", len(batch))
	}
	d.mu.Lock()
	for _, p := range batch {
		p.last = outcome{status: queue.ClaimFull}
		d.putBack(p)
	}
	d.mu.Unlock()
	if o := <-hasty; o.status != queue.ClaimFull {
		t.Errorf("who would not wait got %+v", o)
	}
	batch, _ = d.take(5, time.Now())
	if len(batch) != 2 || batch[0].claim.Rank != 30 || batch[1].claim.Rank != 10 {
		t.Fatalf("second batch: %d claims", len(batch))
	}
	d.mu.Lock()
	d.answer(batch[0], outcome{status: queue.ClaimOK, endMs: 5})
	d.putBack(batch[1])
	d.mu.Unlock()
	if a, b := <-first, <-second; a.status != queue.ClaimOK || b != a {
		t.Errorf("answers %+v and %+v", a, b)
	}
	for rank := uint64(100); rank < 104; rank++ {
		park(rank, line.DoorInTime, true)
	}
	if _, ok := d.park(queue.Claim{Session: line.SessionID{200}}, 0, true, 5); ok {
		t.Error("a sixth claim at a door for five")
	}
}

func TestDoorGivesUp(t *testing.T) {
	d := newDoor()
	id := line.SessionID{1}
	w, _ := d.park(queue.Claim{Session: id}, 0, true, 5)
	batch, _ := d.take(1, time.Now())
	if o := d.leave(id, w); o.status != 0 {
		t.Errorf("left with %+v", o)
	}
	d.mu.Lock()
	d.putBack(batch[0])
	n := len(d.byID) + len(d.queue)
	d.mu.Unlock()
	if n != 0 {
		t.Error("a claim nobody waits for stays")
	}
	now := time.Now()
	if !d.first(id, now) || d.first(id, now) {
		t.Error("a second coming counts as a first")
	}
	if d.first(id, now.Add(3*time.Minute)) {
		t.Error("forgotten after one generation")
	}
	for i := range 3 {
		d.first(line.SessionID{byte(10 + i)}, now.Add(time.Duration(6+3*i)*time.Minute))
	}
	if !d.first(id, now.Add(13*time.Minute)) {
		t.Error("never forgotten")
	}
}

func TestHolder(t *testing.T) {
	sum := sha256.Sum256([]byte("FRIENDS"))
	solution := ""
	for i := 0; solution == ""; i++ {
		if s := fmt.Sprint(i); WorkSolved("onsale", line.ID{1}, s, 8) {
			solution = s
		}
	}
	for _, tc := range []struct {
		name string
		who  room.Who
		req  line.JoinRequest
		kind line.WhoKind
		code line.RefusalCode
	}{
		{"nothing", room.WhoNone, line.JoinRequest{}, line.WhoNone, ""},
		{"account", room.WhoAccount, line.JoinRequest{Account: "ann"}, line.WhoAccount, ""},
		{"no account", room.WhoAccount, line.JoinRequest{}, 0, line.RefusedAccount},
		{"code", room.WhoInvite, line.JoinRequest{Invite: " FRIENDS\n"}, line.WhoInvite, ""},
		{"code of the file", room.WhoInvite, line.JoinRequest{Invite: "MORE"}, line.WhoInvite, ""},
		{"wrong code", room.WhoPresale, line.JoinRequest{Invite: "friends"}, 0, line.RefusedInvite},
		{"no code", room.WhoPresale, line.JoinRequest{}, 0, line.RefusedInvite},
		{"work", room.WhoWork, line.JoinRequest{Work: solution}, line.WhoWork, ""},
		{"no work", room.WhoWork, line.JoinRequest{}, 0, line.RefusedWork},
		{"work of a stranger", room.WhoWork, line.JoinRequest{Work: strings.Repeat("x", 65)}, 0, line.RefusedWork},
		{"a presale lane in a room for all", room.WhoNone, line.JoinRequest{Lane: "presale"}, 0, line.RefusedInvite},
		{"its code", room.WhoNone, line.JoinRequest{Lane: "presale", Invite: "FRIENDS"}, line.WhoInvite, ""},
		{"no such lane", room.WhoNone, line.JoinRequest{Lane: "vip"}, 0, line.RefusedLane},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := room.Defaults()
			s.Who, s.WorkBits, s.CodeHashes = tc.who, 8, []string{strings.ToUpper(hex.EncodeToString(sum[:]))}
			s.Lanes = []room.Lane{{Name: "general", Weight: 1}, {Name: "presale", Weight: 3, Code: true}}
			r := testRoom(t, s)
			r.o.Codes = func(name string, sum [32]byte) bool { return name == "onsale" && sum == sha256.Sum256([]byte("MORE")) }
			p, err := r.Join(t.Context(), tc.req)
			if tc.code != "" {
				if x, ok := line.AsRefusal(err); !ok || x.Code != tc.code {
					t.Fatalf("join: %v, want %s", err, tc.code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			one, err := r.tickets.Parse(p.Ticket)
			if err != nil || one.WhoKind != tc.kind {
				t.Fatalf("ticket = %+v, %v", one, err)
			}
			p, err = r.Join(t.Context(), tc.req)
			if err != nil {
				t.Fatal(err)
			}
			two, _ := r.tickets.Parse(p.Ticket)
			if same := one.Who == two.Who; same != (tc.kind != line.WhoNone) {
				t.Errorf("two tickets have the same holder: %v", same)
			}
			if one.Stamp == two.Stamp {
				t.Error("two tickets have one stamp")
			}
		})
	}
}

func FuzzWork(f *testing.F) {
	f.Add("123", 1)
	f.Add("", 0)
	f.Add("a b", 0)
	f.Fuzz(func(t *testing.T, s string, bits int) {
		if WorkSolved("r", line.ID{}, s, bits) && (s == "" || len(s) > MaxWorkChars || strings.ContainsAny(s, " \n\x00") || bits > 64) {
			t.Fatalf("accepted %q with %d bits", s, bits)
		}
	})
}

func proofOf(t testing.TB, key *ecdsa.PrivateKey, id line.SessionID, at time.Time) string {
	t.Helper()
	pub, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	sec := fmt.Sprint(at.Unix())
	digest := sha256.Sum256([]byte("claim1\nonsale\n" + id.String() + "\n" + sec))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	b64 := base64.RawURLEncoding
	return b64.EncodeToString(pub) + "." + sec + "." + b64.EncodeToString(sig)
}

func TestKeyProof(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(pub)
	hash, id, now := [16]byte(sum[:16]), line.SessionID{5}, time.Now()
	good := proofOf(t, key, id, now)
	if err := checkProof("onsale", id, hash, good, now.UnixMilli()); err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	for name, tc := range map[string]struct {
		proof string
		want  error
	}{
		"none":                 {"", errProofMissing},
		"nonsense":             {"abc", errProofBad},
		"too long":             {strings.Repeat("a", 300), errProofBad},
		"another key":          {proofOf(t, other, id, now), errProofBad},
		"another session":      {proofOf(t, key, line.SessionID{6}, now), errProofBad},
		"old":                  {proofOf(t, key, id, now.Add(-2*time.Minute)), errProofOld},
		"from the future":      {proofOf(t, key, id, now.Add(2*time.Minute)), errProofOld},
		"another time claimed": {parts[0] + "." + fmt.Sprint(now.Unix()+1) + "." + parts[2], errProofBad},
		"cut signature":        {good[:len(good)-4], errProofBad},
		"not a number":         {parts[0] + ".now." + parts[2], errProofBad},
	} {
		if err := checkProof("onsale", id, hash, tc.proof, now.UnixMilli()); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func FuzzKeyProof(f *testing.F) {
	f.Add("")
	f.Add("a.1.b")
	f.Add("BA.1700000000.AAAA")
	f.Fuzz(func(t *testing.T, proof string) {
		if checkProof("onsale", line.SessionID{}, [16]byte{1}, proof, 1) == nil {
			t.Fatalf("accepted %q", proof)
		}
	})
}

// Tickets that are broken, of another room, of an ended line, or of a lane that is not there are refused by name, and nothing is asked of
// a store that a broken ticket could load.
func TestBadTickets(t *testing.T) {
	r := testRoom(t, room.Defaults())
	p, err := r.Join(t.Context(), line.JoinRequest{})
	if err != nil {
		t.Fatal(err)
	}
	good, err := r.tickets.Parse(p.Ticket)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(edit func(*line.Ticket)) string { x := good; edit(&x); return r.tickets.Issue(x) }
	foreign, err := line.NewTickets("elsewhere", line.TicketKey{KID: 1, Secret: []byte(strings.Repeat("t", 32))})
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := line.NewTickets("onsale", line.TicketKey{KID: 2, Secret: []byte(strings.Repeat("t", 32))})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		ticket string
		code   line.RefusalCode
	}{
		"empty":           {"", line.RefusedTicket},
		"nonsense":        {"nonsense", line.RefusedTicket},
		"truncated":       {p.Ticket[:50], line.RefusedTicket},
		"another room's":  {foreign.Issue(good), line.RefusedTicket},
		"an unknown key":  {unknown.Issue(good), line.RefusedTicket},
		"an ended line's": {issue(func(x *line.Ticket) { x.Line = line.ID{2} }), line.RefusedLineOver},
		"no such lane":    {issue(func(x *line.Ticket) { x.Lane = 7 }), line.RefusedTicket},
		"from the future": {issue(func(x *line.Ticket) { x.Stamp.Win = 1 << 31 }), line.RefusedEarly},
		"a made-up rank":  {issue(func(x *line.Ticket) { x.Rank = 0; x.Door = line.DoorInTime }), line.RefusedEarly},
	} {
		_, place, err := r.Claim(t.Context(), line.ClaimRequest{Ticket: tc.ticket, Wait: true})
		if x, ok := line.AsRefusal(err); !ok || x.Code != tc.code {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		}
		if place.Pass != nil || place.State == line.StateAdmitted {
			t.Errorf("%s: let in", name)
		}
	}
	// Join replaces what is of no use any more.
	if p2, err := r.Join(t.Context(), line.JoinRequest{Ticket: issue(func(x *line.Ticket) { x.Line = line.ID{2} })}); err != nil || p2.Ticket == "" {
		t.Errorf("join with an ended line's ticket: %+v, %v", p2, err)
	}
}

func TestClosedDoor(t *testing.T) {
	for pause, want := range map[string]line.RefusalCode{
		"paused": line.RefusedMoment, "maintenance": line.RefusedMoment, "draining": line.RefusedMoment, "ended": line.RefusedClosed, "sold_out": line.RefusedClosed,
	} {
		s := &snapshot{view: &line.View{}}
		s.control.Settings.Pause = pause
		if x := closedDoor(s); x == nil || x.Code != want {
			t.Errorf("%s: %v, want %s", pause, x, want)
		}
	}
	if x := closedDoor(&snapshot{view: &line.View{}}); x != nil {
		t.Errorf("an open door: %v", x)
	}
}

func TestRefusals(t *testing.T) {
	for status := queue.ClaimStatus(0); status <= queue.ClaimQueue; status++ {
		x := refusalOf(outcome{status: status, retry: 3 * time.Second})
		if (x == nil) != (status == queue.ClaimOK) {
			t.Errorf("status %d: %v", status, x)
		}
		if x != nil && x.Detail == "" {
			t.Errorf("status %d says nothing", status)
		}
		if x != nil && x.RetryAfter != 0 && x.RetryAfter < 3*time.Second {
			t.Errorf("status %d: retry after %s, the store said 3 s", status, x.RetryAfter)
		}
	}
}

// The status of a room whose estimates went wrong is still JSON.
func TestViewSurvivesNaN(t *testing.T) {
	s := firstSnapshot("onsale")
	s.forecast.Status = line.Status{Phase: line.PhaseWaiting, Lanes: []line.LaneStatus{{Name: "general", PerMinute: math.NaN()}}}
	v := s.makeView("onsale", 1234, false, false)
	var st line.Status
	if err := json.Unmarshal(v.StatusRaw, &st); err != nil || st.Lanes[0].Name != "general" || st.ServerTime.UnixMilli() != 1234 {
		t.Fatalf("status = %s, %v", v.StatusRaw, err)
	}
	if first := firstSnapshot("onsale").view; !first.Stale || first.Open || first.Status.LimitedBy != line.LimitStore {
		t.Errorf("before the first answer: %+v", first)
	}
}

func TestOutageSchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := &outage{
			admits: true, answerMs: 1000, called: []uint64{rapid.Uint64Range(0, 1000).Draw(t, "called")},
			totals: []uint64{rapid.Uint64Range(0, 2000).Draw(t, "total")}, perS: []float64{rapid.Float64Range(0, 100).Draw(t, "speed")},
		}
		last := uint64(0)
		for now := int64(0); now < 60_000; now += 1000 {
			n := o.schedule(0, now)
			if n < last || n < o.called[0] || n > max(o.called[0], o.totals[0]) {
				t.Fatalf("at %d: %d after %d; called %d, total %d", now, n, last, o.called[0], o.totals[0])
			}
			last = n
		}
		if o.schedule(1, 5000) != 0 {
			t.Fatal("a lane that is not there is called")
		}
		o.admits = false
		if o.schedule(0, 5000) != 0 {
			t.Fatal("a paused room calls")
		}
	})
}

// The store hangs at the start: the room says so, and join and claim answer at once.
func TestStoreAwayFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a, err := New(Options{
			Store: hangs{}, Rooms: []string{"onsale"}, TicketKeys: []line.TicketKey{{KID: 1, Secret: make([]byte, 32)}},
			RoomMaster: make([]byte, 32), Passes: testPasses(t), Issuer: "test",
		})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { _ = a.Run(ctx); close(done) }()
		r, _ := a.Room("onsale")
		time.Sleep(10 * time.Second)
		start := time.Now()
		_, err = r.Join(ctx, line.JoinRequest{Admit: true})
		if x, ok := line.AsRefusal(err); !ok || x.Code != line.RefusedMoment {
			t.Errorf("join: %v", err)
		}
		if _, err := r.Enter(ctx, ""); err == nil {
			t.Error("entered")
		}
		if time.Since(start) > time.Second {
			t.Errorf("answers took %s", time.Since(start))
		}
		if !r.View().Stale || !r.Now().IsZero() {
			t.Error("the room does not say that it knows nothing")
		}
		cancel()
		<-done
	})
}

// hangs is a store that does not answer.
type hangs struct{ queue.Store }

func (hangs) Control(ctx context.Context, _ string) (queue.Control, error) {
	<-ctx.Done()
	return queue.Control{}, ctx.Err()
}
