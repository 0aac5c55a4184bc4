package pass

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the test vectors anew; only for formats that were never published")

// The published passes, and the tokens that every verifier must refuse.
func TestVectors(t *testing.T) {
	type vector struct {
		Name  string `json:"name"`
		Room  string `json:"room"`
		At    int64  `json:"at"` // Unix seconds
		Token string `json:"token"`
		Error string `json:"error,omitempty"`
	}
	private := testPrivate(7)
	k, err := NewKeys(Key{Private: private})
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := NewKeys(Key{Private: testPrivate(8)})
	if err != nil {
		t.Fatal(err)
	}
	full, plain := testClaims(), testClaims()
	plain.KeyHash, plain.SeatLimit, plain.Home = "", 0, ""
	good := mustSign(t, k, full)
	words := map[error]string{ErrMalformed: "malformed", ErrAlgorithm: "algorithm", ErrUnknownKey: "unknown-key", ErrForged: "forged",
		ErrAudience: "audience", ErrNotYet: "not-yet", ErrExpired: "expired"}
	hs := map[string]any{"alg": "HS256", "typ": "JWT", "kid": KeyID(k.ring.Load().keys[0].Public)}
	out := struct {
		Seed string          `json:"seed"` // of the Ed25519 key, RFC 8032
		JWKS json.RawMessage `json:"jwks"`
		Pass []vector        `json:"passes"`
	}{hex.EncodeToString(private.Seed()), k.JWKS(), nil}
	for _, tc := range []struct {
		name, room, token string
		at                time.Time
	}{
		{"every claim", "onsale", good, now},
		{"least claims", "onsale", mustSign(t, k, plain), now},
		{"last second", "onsale", good, full.ExpiresAt.Add(-time.Second)},
		{"expired", "onsale", good, full.ExpiresAt},
		{"another room", "vip", good, now},
		{"before it is valid", "onsale", good, now.Add(-time.Minute)},
		{"unknown key", "onsale", mustSign(t, stranger, full), now},
		{"signature cut", "onsale", good[:len(good)-2], now},
		{"HS256", "onsale", forge(t, hs, full.wire(), func(b []byte) []byte { return make([]byte, 32) }), now},
		{"two parts", "onsale", "e30.e30", now},
	} {
		_, err := k.Verifier().Verify(tc.token, tc.room, tc.at)
		v := vector{tc.name, tc.room, tc.at.Unix(), tc.token, ""}
		for is, word := range words {
			if errors.Is(err, is) {
				v.Error = word
			}
		}
		if err != nil && v.Error == "" {
			t.Errorf("%s: %v has no word", tc.name, err)
		}
		out.Pass = append(out.Pass, v)
	}
	got, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	const path = "testdata/passes.json"
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
