// Package guest recognises a fan who has no account: a random number in a signed token, kept in a cookie or sent as a bearer
// token, owns the holds and orders made with it. A signed link lets its bearer see one order.
//
// Nothing about a guest is stored. Whoever has the token is the guest, as with a paper ticket; the waiting room's pass, which
// is the right to buy, is another thing and expires sooner.
package guest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"

	"github.com/google/uuid"
)

// Errors of this package; test with errors.Is.
var ErrForged = errors.New("guest token or link is malformed or not signed by us")

// Keys signs guest tokens and order links with HMAC-SHA256. It is immutable and safe for concurrent use.
type Keys struct{ secret []byte }

// NewKeys takes a secret of at least 32 random bytes, the same on all nodes.
func NewKeys(secret []byte) (Keys, error) {
	if len(secret) < 32 {
		return Keys{}, errors.New("guest key: want at least 32 bytes")
	}
	return Keys{secret: append([]byte(nil), secret...)}, nil
}

const (
	idBytes  = 16
	macBytes = 16
)

func (k Keys) mac(tag string, b []byte) []byte {
	m := hmac.New(sha256.New, k.secret)
	m.Write([]byte(tag))
	m.Write([]byte{0})
	m.Write(b)
	return m.Sum(nil)[:macBytes]
}

// New draws a guest and returns its principal and token.
func (k Keys) New() (principal, token string) {
	var id [idBytes]byte
	rand.Read(id[:])
	raw := append(id[:], k.mac("guest1", id[:])...)
	return principalOf(id[:]), base64.RawURLEncoding.EncodeToString(raw)
}

func principalOf(id []byte) string { return "guest:" + base64.RawURLEncoding.EncodeToString(id) }

// Principal returns who a token belongs to; ErrForged for any text that New did not make.
func (k Keys) Principal(token string) (string, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != idBytes+macBytes || base64.RawURLEncoding.EncodeToString(raw) != token {
		return "", ErrForged
	}
	if !hmac.Equal(raw[idBytes:], k.mac("guest1", raw[:idBytes])) {
		return "", ErrForged
	}
	return principalOf(raw[:idBytes]), nil
}

// Link signs the right to see one thing of a kind ("order", "ticket"), for a URL.
func (k Keys) Link(kind string, id uuid.UUID) string {
	return base64.RawURLEncoding.EncodeToString(k.mac("link1/"+kind, id[:]))
}

// CheckLink says whether sig was made by Link for the same thing.
func (k Keys) CheckLink(kind string, id uuid.UUID, sig string) bool {
	return hmac.Equal([]byte(sig), []byte(k.Link(kind, id)))
}
