package pass

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var now = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

func testPrivate(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func testKeys(t testing.TB) *Keys {
	t.Helper()
	k, err := NewKeys(Key{Private: testPrivate(1)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testClaims() Claims {
	return Claims{
		Issuer: "https://tickets.example", Room: "onsale", Session: "c2Vzc2lvbg", Line: strings.Repeat("a1", 16), Lane: 2,
		IssuedAt: now, NotBefore: now, ExpiresAt: now.Add(30 * time.Second), StayUntil: now.Add(15 * time.Minute),
		Home: "00000000000000ff", KeyHash: "a2V5", SeatLimit: 4,
	}
}

func mustSign(t testing.TB, k *Keys, c Claims) string {
	t.Helper()
	text, err := k.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRoundTrip(t *testing.T) {
	k := testKeys(t)
	got, err := k.Verifier().Verify(mustSign(t, k, testClaims()), "onsale", now)
	if err != nil || got != testClaims() {
		t.Fatalf("Verify = %+v, %v", got, err)
	}
	public, err := ParseJWKS(k.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := public.Verifier().Verify(mustSign(t, k, testClaims()), "onsale", now); err != nil {
		t.Errorf("an origin that only has the published keys refuses the pass: %v", err)
	}
	if _, err := public.Sign(testClaims()); !errors.Is(err, ErrKeys) {
		t.Errorf("public keys sign: %v", err)
	}
}

// A pass says whole seconds; rounding must never make it outlive the lease.
func TestExpiryIsRoundedDown(t *testing.T) {
	k := testKeys(t)
	c := testClaims()
	c.ExpiresAt = now.Add(1999 * time.Millisecond)
	got, err := k.Verifier().Verify(mustSign(t, k, c), "onsale", now)
	if err != nil || !got.ExpiresAt.Equal(now.Add(time.Second)) {
		t.Fatalf("expires at %v, %v; want %v", got.ExpiresAt, err, now.Add(time.Second))
	}
}

// forge signs header and payload as given, with whatever method an attacker likes.
func forge(t *testing.T, header map[string]any, payload any, sign func([]byte) []byte) string {
	t.Helper()
	h, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	p, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	signed := b64.EncodeToString(h) + "." + b64.EncodeToString(p)
	return signed + "." + b64.EncodeToString(sign([]byte(signed)))
}

func TestRefusals(t *testing.T) {
	k := testKeys(t)
	good := mustSign(t, k, testClaims())
	private := testPrivate(1)
	public := private.Public().(ed25519.PublicKey)
	kid := KeyID(public)
	genuine := func(b []byte) []byte { return ed25519.Sign(private, b) }
	header := func(alg string, more ...any) map[string]any {
		h := map[string]any{"alg": alg, "typ": "JWT", "kid": kid}
		for i := 0; i < len(more); i += 2 {
			h[more[i].(string)] = more[i+1]
		}
		return h
	}
	payload := testClaims().wire()
	with := func(change func(*Claims)) string {
		c := testClaims()
		change(&c)
		return mustSign(t, k, c)
	}
	attacker, _ := NewKeys(Key{ID: kid, Private: testPrivate(2)})
	stranger, _ := NewKeys(Key{Private: testPrivate(2)})
	parts := strings.Split(good, ".")
	for _, tc := range []struct {
		name, token string
		want        error
	}{
		{"empty", "", ErrMalformed},
		{"not a token", "hello", ErrMalformed},
		{"two parts", parts[0] + "." + parts[1], ErrMalformed},
		{"four parts", good + ".x", ErrMalformed},
		{"too long", good + strings.Repeat("A", MaxBytes), ErrMalformed},
		{"padded", good + "=", ErrMalformed},
		{"alg none", forge(t, header("none"), payload, func([]byte) []byte { return nil }), ErrAlgorithm},
		{"HMAC with the public key as secret", forge(t, header("HS256"), payload, func(b []byte) []byte {
			m := hmac.New(sha256.New, public)
			m.Write(b)
			return m.Sum(nil)
		}), ErrAlgorithm},
		{"alg in lower case", forge(t, header("eddsa"), payload, genuine), ErrAlgorithm},
		{"key in the header", forge(t, header("EdDSA", "jwk", map[string]string{"kty": "OKP"}), payload, genuine), ErrMalformed},
		{"critical extension", forge(t, header("EdDSA", "crit", []string{"b64"}), payload, genuine), ErrMalformed},
		{"no key id", forge(t, map[string]any{"alg": "EdDSA", "typ": "JWT"}, payload, genuine), ErrMalformed},
		{"another type", forge(t, map[string]any{"alg": "EdDSA", "typ": "at+jwt", "kid": kid}, payload, genuine), ErrMalformed},
		{"number as key id", forge(t, map[string]any{"alg": "EdDSA", "typ": "JWT", "kid": 1}, payload, genuine), ErrMalformed},
		{"unknown key", mustSign(t, stranger, testClaims()), ErrUnknownKey},
		{"known key id, another key", mustSign(t, attacker, testClaims()), ErrForged},
		{"truncated signature", good[:len(good)-2], ErrForged},
		{"payload of another pass", parts[0] + "." + strings.Split(with(func(c *Claims) { c.Session = "x" }), ".")[1] + "." + parts[2], ErrForged},
		{"another room", with(func(c *Claims) { c.Room = "vip" }), ErrAudience},
		{"expired", with(func(c *Claims) { c.IssuedAt = now.Add(-time.Hour); c.ExpiresAt = now }), ErrExpired},
		{"from the future", with(func(c *Claims) { c.NotBefore = now.Add(NotBeforeLeeway + time.Second) }), ErrNotYet},
		{"clock behind by less than the leeway", with(func(c *Claims) { c.NotBefore = now.Add(NotBeforeLeeway) }), nil},
		{"without expiry", forge(t, header("EdDSA"), map[string]any{"iss": "x", "aud": "onsale", "sub": "s"}, genuine), ErrExpired},
		{"without session", forge(t, header("EdDSA"), map[string]any{"iss": "x", "aud": "onsale", "exp": now.Unix() + 9}, genuine), ErrMalformed},
		{"audience as list", forge(t, header("EdDSA"), map[string]any{"aud": []string{"onsale"}}, genuine), ErrMalformed},
		{"expiry as text", forge(t, header("EdDSA"), map[string]any{"aud": "onsale", "exp": "never"}, genuine), ErrMalformed},
	} {
		if _, err := k.Verifier().Verify(tc.token, "onsale", now); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if _, err := k.Verifier().Issuer("https://other.example").Verify(good, "onsale", now); !errors.Is(err, ErrIssuer) {
		t.Errorf("another issuer: %v", err)
	}
}

func TestExpiredCarriesClaims(t *testing.T) {
	k := testKeys(t)
	c, err := k.Verifier().Verify(mustSign(t, k, testClaims()), "onsale", now.Add(time.Minute))
	if !errors.Is(err, ErrExpired) || c.Session != testClaims().Session {
		t.Fatalf("Verify = %+v, %v; want the claims and ErrExpired", c, err)
	}
}

func TestRotation(t *testing.T) {
	next := now.Add(PublishLead)
	retired := next.Add(time.Hour)
	k, err := NewKeys(
		Key{ID: "old", Private: testPrivate(1), Until: retired},
		Key{ID: "new", Private: testPrivate(2), SignsFrom: next})
	if err != nil {
		t.Fatal(err)
	}
	kidAt := func(at time.Time) string {
		c := testClaims()
		c.IssuedAt, c.ExpiresAt = at, at.Add(2*time.Hour)
		c.NotBefore = time.Time{}
		token, _, err := jwt.NewParser().ParseUnverified(mustSign(t, k, c), &wire{})
		if err != nil {
			t.Fatal(err)
		}
		return token.Header["kid"].(string)
	}
	if got := kidAt(next.Add(-time.Second)); got != "old" {
		t.Errorf("before the new key is due %q signs", got)
	}
	if got := kidAt(next); got != "new" {
		t.Errorf("when the new key is due %q signs", got)
	}
	published, err := ParseJWKS(k.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	c := testClaims()
	c.ExpiresAt = now.Add(100 * time.Hour)
	token := mustSign(t, k, c)
	if _, err := published.Verifier().Verify(token, "onsale", retired.Add(-time.Second)); err != nil {
		t.Errorf("a pass of the old key is refused before the key retires: %v", err)
	}
	if _, err := published.Verifier().Verify(token, "onsale", retired); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("a pass of a retired key: %v, want ErrUnknownKey", err)
	}
}

func TestVerifierFollowsReplace(t *testing.T) {
	k := testKeys(t)
	v, token := k.Verifier(), mustSign(t, k, testClaims())
	if err := k.Replace(Key{Private: testPrivate(9)}); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(token, "onsale", now); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("after the ring was replaced: %v, want ErrUnknownKey", err)
	}
	if err := k.Replace(); !errors.Is(err, ErrKeys) {
		t.Errorf("an empty ring: %v, want ErrKeys", err)
	}
	if _, err := v.Verify(mustSign(t, k, testClaims()), "onsale", now); err != nil {
		t.Errorf("a refused replacement changed the ring: %v", err)
	}
}

func TestSignRefusesHalfClaims(t *testing.T) {
	k := testKeys(t)
	for name, change := range map[string]func(*Claims){
		"no issuer":             func(c *Claims) { c.Issuer = "" },
		"no room":               func(c *Claims) { c.Room = "" },
		"no session":            func(c *Claims) { c.Session = "" },
		"no time":               func(c *Claims) { c.IssuedAt = time.Time{} },
		"expires when issued":   func(c *Claims) { c.ExpiresAt = c.IssuedAt },
		"no end of stay":        func(c *Claims) { c.StayUntil = time.Time{} },
		"longer than a pass is": func(c *Claims) { c.Home = strings.Repeat("h", MaxBytes) },
	} {
		c := testClaims()
		change(&c)
		if _, err := k.Sign(c); !errors.Is(err, ErrClaims) {
			t.Errorf("%s: %v, want ErrClaims", name, err)
		}
	}
}

func TestParseJWKS(t *testing.T) {
	for name, doc := range map[string]string{
		"not JSON":       "{",
		"no key":         `{"keys":[]}`,
		"RSA only":       `{"keys":[{"kty":"RSA","kid":"a","n":"x","e":"AQAB"}]}`,
		"short key":      `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AAAA"}]}`,
		"same id twice":  `{"keys":[` + strings.Repeat(`{"kty":"OKP","crv":"Ed25519","kid":"a","x":"`+strings.Repeat("A", 43)+`"},`, 2) + `{"kty":"oct"}]}`,
		"longer than 64": `{"keys":["` + strings.Repeat(" ", 64<<10) + `"]}`,
	} {
		if _, err := ParseJWKS([]byte(doc)); !errors.Is(err, ErrKeys) {
			t.Errorf("%s: %v, want ErrKeys", name, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	k := testKeys(f)
	f.Add(mustSign(f, k, testClaims()))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	v := k.Verifier()
	f.Fuzz(func(t *testing.T, token string) {
		c, err := v.Verify(token, "onsale", now)
		if err != nil {
			return
		}
		again, err := k.Sign(c) // Ed25519 is deterministic: whatever is accepted is what Sign makes of the same claims
		if err != nil || again != token {
			t.Fatalf("accepted a token that was never signed: %q", token)
		}
	})
}

func FuzzParseJWKS(f *testing.F) {
	f.Add(testKeys(f).JWKS())
	f.Add([]byte(`{"keys":[{"kty":"RSA"},{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		k, err := ParseJWKS(doc)
		if err != nil {
			return
		}
		if _, err := ParseJWKS(k.JWKS()); err != nil {
			t.Fatalf("what was read cannot be written and read again: %v", err)
		}
	})
}
