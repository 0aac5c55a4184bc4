// Package pass signs and verifies admission passes: the short-lived tokens by which a fan whom a waiting room has let in is
// recognised.
//
// A pass is a JWT signed with Ed25519 (RFC 7519, RFC 8037). Edges sign and verify passes; an origin written in Go that wants to
// check them itself needs this package alone, or the ready middlewares httppass and fasthttppass. Only EdDSA is accepted, whatever
// a token's header says; keys are found by key id in a ring and never taken from the token.
package pass

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// MaxBytes bounds a pass as text. Longer ones are refused unread.
const MaxBytes = 2048

// NotBeforeLeeway is how far a verifier's clock may be behind the signer's.
const NotBeforeLeeway = 2 * time.Second

// Errors of Sign and Verify; test with errors.Is.
var (
	ErrMalformed  = errors.New("pass is malformed")
	ErrAlgorithm  = errors.New("pass is not signed with EdDSA")
	ErrUnknownKey = errors.New("pass is signed by an unknown or retired key")
	ErrForged     = errors.New("pass signature does not match")
	ErrIssuer     = errors.New("pass is from another issuer")
	ErrAudience   = errors.New("pass is for another room")
	ErrNotYet     = errors.New("pass is not valid yet")
	ErrExpired    = errors.New("pass has expired")
	ErrKeys       = errors.New("pass keys are unusable")
	ErrClaims     = errors.New("pass claims are incomplete")
)

// Claims is what a pass says. Times have a resolution of one second; Sign rounds them down, so that a pass never outlives
// its lease.
type Claims struct {
	Issuer     string    // iss
	Room       string    // aud
	Session    string    // sub: the session id
	Line       string    // line
	Lane       uint8     // lane
	IssuedAt   time.Time // iat
	NotBefore  time.Time // nbf
	ExpiresAt  time.Time // exp
	StayUntil  time.Time // stay_until: no renewal goes beyond it
	Home       string    // home: the edge that last renewed the session
	KeyHash    string    // cnf.kh: hash of the fan's public key, empty when the pass is not bound to one
	SeatLimit  int       // seat_limit: seats this fan may buy, 0: not said
	Identifier string    // jti, empty unless the signer sets one
}

// wire is a pass's payload.
type wire struct {
	Iss       string `json:"iss"`
	Aud       string `json:"aud"`
	Sub       string `json:"sub"`
	Line      string `json:"line"`
	Lane      uint8  `json:"lane"`
	Iat       int64  `json:"iat"`
	Nbf       int64  `json:"nbf"`
	Exp       int64  `json:"exp"`
	StayUntil int64  `json:"stay_until"`
	Home      string `json:"home,omitempty"`
	Cnf       *cnf   `json:"cnf,omitempty"`
	SeatLimit int    `json:"seat_limit,omitempty"`
	Jti       string `json:"jti,omitempty"`
}

type cnf struct {
	KeyHash string `json:"kh"`
}

// The library asks for these while it signs; validation is ours (see check), with an error of its own for each refusal.
func (w *wire) GetExpirationTime() (*jwt.NumericDate, error) { return numeric(w.Exp), nil }
func (w *wire) GetIssuedAt() (*jwt.NumericDate, error)       { return numeric(w.Iat), nil }
func (w *wire) GetNotBefore() (*jwt.NumericDate, error)      { return numeric(w.Nbf), nil }
func (w *wire) GetIssuer() (string, error)                   { return w.Iss, nil }
func (w *wire) GetSubject() (string, error)                  { return w.Sub, nil }
func (w *wire) GetAudience() (jwt.ClaimStrings, error)       { return jwt.ClaimStrings{w.Aud}, nil }

func numeric(s int64) *jwt.NumericDate { return jwt.NewNumericDate(time.Unix(s, 0)) }

func (c Claims) wire() *wire {
	w := &wire{
		Iss: c.Issuer, Aud: c.Room, Sub: c.Session, Line: c.Line, Lane: c.Lane,
		Iat: c.IssuedAt.Unix(), Nbf: c.NotBefore.Unix(), Exp: c.ExpiresAt.Unix(), StayUntil: c.StayUntil.Unix(),
		Home: c.Home, SeatLimit: c.SeatLimit, Jti: c.Identifier,
	}
	if c.KeyHash != "" {
		w.Cnf = &cnf{KeyHash: c.KeyHash}
	}
	return w
}

func (w *wire) claims() Claims {
	at := func(s int64) time.Time { return time.Unix(s, 0).UTC() }
	c := Claims{
		Issuer: w.Iss, Room: w.Aud, Session: w.Sub, Line: w.Line, Lane: w.Lane,
		IssuedAt: at(w.Iat), NotBefore: at(w.Nbf), ExpiresAt: at(w.Exp), StayUntil: at(w.StayUntil),
		Home: w.Home, SeatLimit: w.SeatLimit, Identifier: w.Jti,
	}
	if w.Cnf != nil {
		c.KeyHash = w.Cnf.KeyHash
	}
	return c
}

// Sign makes a pass with the key that is due to sign at IssuedAt. It refuses claims without issuer, room, session or times, and
// those that would make a pass longer than MaxBytes, with ErrClaims. An unset NotBefore is IssuedAt.
func (k *Keys) Sign(c Claims) (string, error) {
	if c.NotBefore.IsZero() {
		c.NotBefore = c.IssuedAt
	}
	switch {
	case c.Issuer == "" || c.Room == "" || c.Session == "":
		return "", fmt.Errorf("sign pass: %w: issuer, room and session are needed", ErrClaims)
	case c.IssuedAt.Unix() <= 0 || !c.ExpiresAt.After(c.IssuedAt) || c.StayUntil.Unix() <= 0:
		return "", fmt.Errorf("sign pass: %w: it must be issued before it expires, and say until when its session may stay", ErrClaims)
	}
	key, ok := k.ring.Load().signer(c.IssuedAt)
	if !ok {
		return "", fmt.Errorf("sign pass: %w: none may sign now", ErrKeys)
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c.wire())
	t.Header["kid"] = key.ID
	text, err := t.SignedString(key.Private)
	if err != nil {
		return "", fmt.Errorf("sign pass: %w", err)
	}
	if len(text) > MaxBytes {
		return "", fmt.Errorf("sign pass: %w: %d bytes, at most %d", ErrClaims, len(text), MaxBytes)
	}
	return text, nil
}

// Verifier checks passes against a ring of public keys. It is safe for concurrent use.
type Verifier struct {
	keys   *Keys
	issuer string
	parser *jwt.Parser
}

func newVerifier(k *Keys, issuer string) *Verifier {
	return &Verifier{keys: k, issuer: issuer, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())}
}

// Issuer returns a verifier of the same keys that accepts passes of one issuer only.
func (v *Verifier) Issuer(issuer string) *Verifier { return newVerifier(v.keys, issuer) }

// Verify checks a pass for a room at a moment. Errors wrap one of the package's; with ErrExpired the claims are returned all the same: the
// pass is genuine and its session may live on.
func (v *Verifier) Verify(token, room string, now time.Time) (Claims, error) {
	if len(token) > MaxBytes {
		return Claims{}, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(token), MaxBytes)
	}
	ring := v.keys.ring.Load()
	var w wire
	t, err := v.parser.ParseWithClaims(token, &w, func(t *jwt.Token) (any, error) {
		// Only what Sign writes is read; anything else in the header (crit, jwk, jku, x5c, …) is somebody else's token.
		if kid, ok := t.Header["kid"].(string); ok && len(t.Header) == 3 && t.Header["typ"] == "JWT" {
			if key, ok := ring.verifying(kid, now); ok {
				return key, nil
			}
			return nil, ErrUnknownKey
		}
		return nil, ErrMalformed
	})
	if err != nil {
		return Claims{}, refusal(t, err)
	}
	return v.check(w.claims(), room, now)
}

func (v *Verifier) check(c Claims, room string, now time.Time) (Claims, error) {
	switch {
	case c.Session == "" || c.Issuer == "":
		return Claims{}, ErrMalformed
	case v.issuer != "" && c.Issuer != v.issuer:
		return Claims{}, ErrIssuer
	case c.Room != room:
		return Claims{}, ErrAudience
	case now.Add(NotBeforeLeeway).Before(c.NotBefore):
		return Claims{}, ErrNotYet
	case !now.Before(c.ExpiresAt):
		return c, ErrExpired
	}
	return c, nil
}

// refusal names a parser's error by the package's own.
func refusal(t *jwt.Token, err error) error {
	switch {
	case errors.Is(err, ErrUnknownKey):
		return ErrUnknownKey
	case errors.Is(err, ErrMalformed), errors.Is(err, jwt.ErrTokenMalformed), t == nil:
		return ErrMalformed
	case t.Header["alg"] != jwt.SigningMethodEdDSA.Alg():
		return ErrAlgorithm
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return ErrForged
	}
	return ErrMalformed
}

// JWKS is the ring's public half as a JSON Web Key Set (RFC 7517), for `GET /.stanchion/keys`: every key that verifies now or is
// announced to sign soon.
func (k *Keys) JWKS() []byte {
	set := jwks{Keys: []jwk{}}
	for _, key := range k.ring.Load().keys {
		j := jwk{Kty: "OKP", Crv: "Ed25519", Use: "sig", Alg: "EdDSA", KID: key.ID, X: b64.EncodeToString(key.Public)}
		if !key.Until.IsZero() {
			j.Until = key.Until.Unix()
		}
		set.Keys = append(set.Keys, j)
	}
	doc, err := json.Marshal(set)
	if err != nil { // strings and numbers always encode
		return []byte(`{"keys":[]}`)
	}
	return doc
}

type jwks struct {
	Keys []jwk `json:"keys"`
}

type jwk struct {
	Kty   string `json:"kty"`
	Crv   string `json:"crv"`
	Use   string `json:"use,omitempty"`
	Alg   string `json:"alg,omitempty"`
	KID   string `json:"kid"`
	X     string `json:"x"`
	Until int64  `json:"exp,omitempty"`
}

// ParseJWKS reads a key set that JWKS wrote, to verify with. Keys of another kind are skipped, as RFC 7517 asks; a set without one
// Ed25519 signing key, of more than 64 keys or 64 KiB is refused with ErrKeys.
func ParseJWKS(doc []byte) (*Keys, error) {
	keys, err := parseJWKS(doc)
	if err != nil {
		return nil, err
	}
	return NewKeys(keys...)
}

// ReplaceJWKS swaps the ring for a published one, under the rules of ParseJWKS; on an error the old one stays.
func (k *Keys) ReplaceJWKS(doc []byte) error {
	keys, err := parseJWKS(doc)
	if err != nil {
		return err
	}
	return k.Replace(keys...)
}

func parseJWKS(doc []byte) ([]Key, error) {
	if len(doc) > 64<<10 {
		return nil, fmt.Errorf("read key set: %w: %d bytes", ErrKeys, len(doc))
	}
	var set jwks
	if err := json.Unmarshal(doc, &set); err != nil {
		return nil, fmt.Errorf("read key set: %w: %w", ErrKeys, err)
	}
	var keys []Key
	for _, j := range set.Keys {
		if j.Kty != "OKP" || j.Crv != "Ed25519" || j.Alg != "" && j.Alg != "EdDSA" || j.Use != "" && j.Use != "sig" {
			continue
		}
		x, err := b64.DecodeString(j.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("read key set: %w: key %q is not an Ed25519 public key", ErrKeys, j.KID)
		}
		key := Key{ID: j.KID, Public: x}
		if j.Until != 0 {
			key.Until = time.Unix(j.Until, 0).UTC()
		}
		keys = append(keys, key)
	}
	return keys, nil
}
