package guest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"testing"

	"github.com/google/uuid"
)

func keys(t testing.TB, b byte) Keys {
	t.Helper()
	k, err := NewKeys(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTokenNamesItsGuest(t *testing.T) {
	k := keys(t, 1)
	p, token := k.New()
	got, err := k.Principal(token)
	if err != nil || got != p {
		t.Fatalf("Principal = %q, %v; want %q", got, err, p)
	}
	if p2, _ := k.New(); p2 == p {
		t.Fatal("two guests have one principal")
	}
	if _, err := keys(t, 2).Principal(token); !errors.Is(err, ErrForged) {
		t.Fatalf("another key accepted the token: %v", err)
	}
}

func TestChangedTokensAreForged(t *testing.T) {
	k := keys(t, 1)
	_, token := k.New()
	for i := range token {
		b := []byte(token)
		b[i] ^= 1
		if _, err := k.Principal(string(b)); !errors.Is(err, ErrForged) {
			t.Fatalf("token with byte %d changed: %v", i, err)
		}
	}
	for _, s := range []string{"", token + "A", token[:10], token + "\n", "====", token[:20] + "\n" + token[20:]} {
		if _, err := k.Principal(s); !errors.Is(err, ErrForged) {
			t.Fatalf("Principal(%q) = %v", s, err)
		}
	}
}

func TestLinkOpensOneThing(t *testing.T) {
	k := keys(t, 1)
	a, b := uuid.New(), uuid.New()
	sig := k.Link("order", a)
	if !k.CheckLink("order", a, sig) {
		t.Fatal("own link refused")
	}
	if k.CheckLink("order", b, sig) || k.CheckLink("ticket", a, sig) || keys(t, 2).CheckLink("order", a, sig) || k.CheckLink("order", a, "") {
		t.Fatal("link opens something else")
	}
}

func TestShortSecretIsRefused(t *testing.T) {
	if _, err := NewKeys(make([]byte, 31)); err == nil {
		t.Fatal("a secret of 31 bytes was accepted")
	}
}

func FuzzPrincipal(f *testing.F) {
	k := keys(f, 1)
	raw := make([]byte, 16, 32) // a fixed guest: fuzzing runs in several processes
	raw = append(raw, k.mac("guest1", raw)...)
	token := base64.RawURLEncoding.EncodeToString(raw)
	f.Add(token)
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := k.Principal(s); err == nil && s != token {
			t.Fatalf("accepted %q", s)
		}
	})
}
