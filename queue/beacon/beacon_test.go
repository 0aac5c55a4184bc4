package beacon

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stanchion-queue/stanchion/queue/line"
)

// A round that drand published.
const (
	round      = 657413
	signature  = "b713718a38ae728dfd477991af2822e08d2f305e47718cef9f7848ce4050e7be41076862b98fad56e91a6b85b89cd97b"
	randomness = "fc1873a13f3545aeade8401532ef5519920652eee6b0d2b19ca12643b87b3587"
)

func testDraw() line.Draw {
	q := Quicknet()
	return line.Draw{Kind: line.DrawDrand, Chain: q.Hash, Round: round, DueAt: q.DueMs(round)}
}

func roundJSON() string {
	return fmt.Sprintf(`{"round":%d,"randomness":%q,"signature":%q}`, round, randomness, signature)
}

func TestVerifyPublishedRound(t *testing.T) {
	q := Quicknet()
	sig, err := hex.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	r, err := q.Verify(round, sig)
	if err != nil || hex.EncodeToString(r[:]) != randomness {
		t.Fatalf("randomness %x, %v", r, err)
	}
	for i := range sig { // whatever byte changes
		bad := append([]byte(nil), sig...)
		bad[i] ^= 1
		if i%7 == 0 {
			if _, err := q.Verify(round, bad); !errors.Is(err, ErrRound) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
		}
	}
	infinity := append([]byte{0xc0}, make([]byte, 47)...)
	for name, tc := range map[string]struct {
		round uint64
		sig   []byte
	}{"another round": {round + 1, sig}, "round 0": {0, sig}, "short": {round, sig[:47]}, "empty": {round, nil}, "point at infinity": {round, infinity}} {
		if _, err := q.Verify(tc.round, tc.sig); !errors.Is(err, ErrRound) {
			t.Errorf("%s: %v, want ErrRound", name, err)
		}
	}
	other := q
	other.PublicKey = append([]byte{0xc0}, make([]byte, 95)...)
	if _, err := other.Verify(round, sig); !errors.Is(err, ErrChain) {
		t.Errorf("a chain without a key: %v", err)
	}
}

func TestRoundTimes(t *testing.T) {
	q := Quicknet()
	if got := q.DueMs(round); got != (1692803367+3*(round-1))*1000 {
		t.Errorf("due at %d", got)
	}
	for _, ms := range []int64{q.DueMs(1) - 1, q.DueMs(1), q.DueMs(1000) - 1, q.DueMs(1000), q.DueMs(1000) + 2999} {
		r := q.RoundAfter(ms)
		if q.DueMs(r) <= ms || r > 1 && q.DueMs(r-1) > ms {
			t.Errorf("the first round after %d is %d, due at %d", ms, r, q.DueMs(r))
		}
	}
}

func TestFix(t *testing.T) {
	n := New(Options{})
	after := n.chain.DueMs(round) - 1500
	d, err := n.Fix(line.Draw{Kind: line.DrawDrand}, after)
	if err != nil || d != testDraw() {
		t.Errorf("Fix = %+v, %v", d, err)
	}
	if d, err = n.Fix(line.Draw{Kind: line.DrawDrand, Round: round}, after); err != nil || d != testDraw() {
		t.Errorf("with its round: %+v, %v", d, err)
	}
	if _, err = n.Fix(line.Draw{Kind: line.DrawDrand, Round: round - 1}, after); !errors.Is(err, ErrDraw) {
		t.Errorf("a round that is public before the lobby is closed: %v", err)
	}
	if _, err = n.Fix(line.Draw{Kind: line.DrawDrand, Chain: strings.Repeat("0", 64)}, after); !errors.Is(err, ErrChain) {
		t.Errorf("another chain: %v", err)
	}
}

func TestCheck(t *testing.T) {
	q := Quicknet()
	good, err := ParseRound([]byte(roundJSON()))
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*line.Draw, *line.DrawResult)) error {
		d, r := testDraw(), good
		change(&d, &r)
		return q.Check(d, r)
	}
	for name, tc := range map[string]struct {
		change func(*line.Draw, *line.DrawResult)
		want   error
	}{
		"genuine":              {func(*line.Draw, *line.DrawResult) {}, nil},
		"another value":        {func(_ *line.Draw, r *line.DrawResult) { r.Value = strings.Repeat("0", 64) }, ErrValue},
		"another round":        {func(_ *line.Draw, r *line.DrawResult) { r.Round++ }, ErrValue},
		"no proof":             {func(_ *line.Draw, r *line.DrawResult) { r.Proof = "" }, ErrRound},
		"proof in words":       {func(_ *line.Draw, r *line.DrawResult) { r.Proof = "trust me" }, ErrValue},
		"stated time is wrong": {func(d *line.Draw, _ *line.DrawResult) { d.DueAt += 3000 }, ErrDraw},
		"a chain of one's own": {func(d *line.Draw, _ *line.DrawResult) { d.Chain = strings.Repeat("a", 64) }, ErrChain},
		"operator":             {func(d *line.Draw, r *line.DrawResult) { d.Kind, r.Value = line.DrawOperator, "00" }, nil},
		"announced, other text": {func(d *line.Draw, r *line.DrawResult) {
			d.Kind, *r = line.DrawAnnounced, Announced("7 12 30")
			r.Proof = "7 12 31"
		}, ErrValue},
		"announced": {func(d *line.Draw, r *line.DrawResult) { d.Kind, *r = line.DrawAnnounced, Announced("7 12 30") }, nil},
	} {
		if err := with(tc.change); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestParseRoundRefusals(t *testing.T) {
	for name, doc := range map[string]string{
		"empty": "", "not JSON": "round 5", "no round": `{"signature":"` + signature + `"}`, "no signature": `{"round":5,"signature":"xx"}`,
		"randomness of another": `{"round":5,"signature":"` + signature + `","randomness":"` + strings.Repeat("0", 64) + `"}`,
		"huge":                  `{"round":5` + strings.Repeat(" ", maxRoundBytes) + `}`,
	} {
		if _, err := ParseRound([]byte(doc)); !errors.Is(err, ErrRound) {
			t.Errorf("%s: %v, want ErrRound", name, err)
		}
	}
}

func TestValue(t *testing.T) {
	relay := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL
	}
	answer := func(status int, body string) string {
		return relay(func(w http.ResponseWriter, r *http.Request) {
			if want := fmt.Sprintf("/%s/public/%d", Quicknet().Hash, round); r.URL.Path != want {
				t.Errorf("asked for %s, want %s", r.URL.Path, want)
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		})
	}
	good := answer(200, roundJSON())
	forged := answer(200, strings.Replace(strings.Replace(roundJSON(), `"randomness":"`+randomness+`",`, "", 1), "b713", "b714", 1))
	late := answer(404, "not found")
	broken := answer(500, "oops")
	flood := answer(200, strings.Repeat("x", 1<<20))
	hangs := relay(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	moved := relay(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, good+r.URL.Path, http.StatusFound) })
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, tc := range []struct {
		name string
		urls []string
		want error
		ok   bool
	}{
		{"genuine", []string{good}, nil, true},
		{"the first ones fail", []string{closed.URL, broken, forged, flood, moved, late, good}, nil, true},
		{"one hangs", []string{hangs, good}, nil, true},
		{"not yet", []string{late}, ErrNotYet, false},
		{"forged", []string{forged}, ErrRound, false},
		{"no relay", nil, nil, false},
	} {
		n := New(Options{URLs: tc.urls, Timeout: 200 * time.Millisecond})
		r, err := n.Value(context.Background(), testDraw())
		if (err == nil) != tc.ok || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if tc.ok && r.Value != randomness {
			t.Errorf("%s: %+v", tc.name, r)
		}
	}
}

func FuzzParseRound(f *testing.F) {
	f.Add([]byte(roundJSON()))
	f.Add([]byte(`{"round":1e3,"signature":"00"}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		r, err := ParseRound(doc)
		if err == nil && (r.Round == 0 || len(r.Value) != 64) {
			t.Fatalf("%+v", r)
		}
	})
}
