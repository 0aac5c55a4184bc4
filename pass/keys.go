package pass

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"sync/atomic"
	"time"
)

var b64 = base64.RawURLEncoding.Strict()

// PublishLead is how long a new key is published before it signs, so that every verifier knows it in time.
const PublishLead = 5 * time.Minute

// Key is one Ed25519 key of a ring.
type Key struct {
	ID        string             // kid; KeyID(Public) when empty
	Private   ed25519.PrivateKey // nil: verifies only
	Public    ed25519.PublicKey  // derived from Private when nil
	SignsFrom time.Time          // the newest key whose SignsFrom has passed signs; zero: from the start
	Until     time.Time          // passes signed by it are refused from then on; zero: never
}

// KeyID is a key's usual id: the first 12 bytes of the SHA-256 of the public key, in base64url.
func KeyID(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(pub)
	return b64.EncodeToString(sum[:12])
}

// Keys is a ring of signing or verifying keys. Replace swaps it whole; all methods are safe for concurrent use.
type Keys struct {
	ring atomic.Pointer[ring]
}

type ring struct {
	keys []Key
	byID map[string]int
}

// NewKeys makes a ring. It refuses an empty or huge (more than 64) ring, an id used twice and malformed keys with ErrKeys.
func NewKeys(keys ...Key) (*Keys, error) {
	k := &Keys{}
	if err := k.Replace(keys...); err != nil {
		return nil, err
	}
	return k, nil
}

// Replace swaps the ring for another, under the rules of NewKeys; on an error the old one stays.
func (k *Keys) Replace(keys ...Key) error {
	r, err := newRing(keys)
	if err != nil {
		return err
	}
	k.ring.Store(r)
	return nil
}

func newRing(keys []Key) (*ring, error) {
	if len(keys) == 0 || len(keys) > 64 {
		return nil, fmt.Errorf("%w: %d keys, want 1 to 64", ErrKeys, len(keys))
	}
	r := &ring{byID: make(map[string]int, len(keys))}
	for _, key := range keys {
		if len(key.Private) == ed25519.PrivateKeySize {
			key.Public = key.Private.Public().(ed25519.PublicKey)
		} else if key.Private != nil {
			return nil, fmt.Errorf("%w: a private key has %d bytes, want %d", ErrKeys, len(key.Private), ed25519.PrivateKeySize)
		}
		if len(key.Public) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: a public key has %d bytes, want %d", ErrKeys, len(key.Public), ed25519.PublicKeySize)
		}
		if key.ID == "" {
			key.ID = KeyID(key.Public)
		}
		if _, twice := r.byID[key.ID]; twice || len(key.ID) > 128 {
			return nil, fmt.Errorf("%w: key id %.40q is used twice or too long", ErrKeys, key.ID)
		}
		r.byID[key.ID] = len(r.keys)
		r.keys = append(r.keys, key)
	}
	return r, nil
}

// signer is the key that signs at t: of those that may, the one that began last; of those that began together, the first.
func (r *ring) signer(t time.Time) (Key, bool) {
	best := -1
	for i, key := range r.keys {
		if key.Private == nil || key.SignsFrom.After(t) || !key.Until.IsZero() && !t.Before(key.Until) {
			continue
		}
		if best < 0 || key.SignsFrom.After(r.keys[best].SignsFrom) {
			best = i
		}
	}
	if best < 0 {
		return Key{}, false
	}
	return r.keys[best], true
}

func (r *ring) verifying(id string, now time.Time) (ed25519.PublicKey, bool) {
	i, ok := r.byID[id]
	if !ok || !r.keys[i].Until.IsZero() && !now.Before(r.keys[i].Until) {
		return nil, false
	}
	return r.keys[i].Public, true
}

// Verifier checks passes signed by this ring's keys, also after Replace.
func (k *Keys) Verifier() *Verifier { return newVerifier(k, "") }
