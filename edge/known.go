package edge

import (
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/stanchion-queue/stanchion/edge/admit"
	"github.com/stanchion-queue/stanchion/pass"
)

// known remembers passes whose signature has been checked, so that a fan's next request costs a lookup instead of an Ed25519
// verification. Only genuine passes are kept; their times are judged anew at each use. Its memory is bounded: each shard
// forgets its oldest passes first, by the clock algorithm.
type known struct {
	verifier Verifier
	seed     maphash.Seed
	shards   [knownShards]knownShard
}

const knownShards = 64

type knownShard struct {
	mu   sync.Mutex
	at   map[string]int
	ring []knownPass
	hand int
	full int
}

type knownPass struct {
	token  string
	claims pass.Claims
	used   bool
}

func newKnown(v Verifier, size int) *known {
	k := &known{verifier: v, seed: maphash.MakeSeed()}
	for i := range k.shards {
		k.shards[i] = knownShard{at: map[string]int{}, full: max(1, size/knownShards)}
	}
	return k
}

// verify checks a token for a room. It does not allocate for a token it remembers.
func (k *known) verify(token []byte, room string, now time.Time) (pass.Claims, admit.Pass) {
	if len(token) > pass.MaxBytes {
		return pass.Claims{}, admit.PassInvalid
	}
	sh := &k.shards[maphash.Bytes(k.seed, token)%knownShards]
	sh.mu.Lock()
	if i, ok := sh.at[string(token)]; ok {
		sh.ring[i].used = true
		c := sh.ring[i].claims
		sh.mu.Unlock()
		if c.Room != room || now.Before(c.NotBefore.Add(-pass.NotBeforeLeeway)) {
			return pass.Claims{}, admit.PassInvalid
		}
		return c, admit.PassGenuine
	}
	sh.mu.Unlock()

	str := string(token)
	c, err := k.verifier.Verify(str, room, now)
	if err != nil && !errors.Is(err, pass.ErrExpired) {
		return pass.Claims{}, admit.PassInvalid
	}
	sh.mu.Lock()
	sh.add(knownPass{token: str, claims: c})
	sh.mu.Unlock()
	return c, admit.PassGenuine
}

func (sh *knownShard) add(p knownPass) {
	if _, ok := sh.at[p.token]; ok {
		return
	}
	if len(sh.ring) < sh.full {
		sh.at[p.token] = len(sh.ring)
		sh.ring = append(sh.ring, p)
		return
	}
	for sh.ring[sh.hand].used {
		sh.ring[sh.hand].used = false
		sh.hand = (sh.hand + 1) % len(sh.ring)
	}
	delete(sh.at, sh.ring[sh.hand].token)
	sh.ring[sh.hand] = p
	sh.at[p.token] = sh.hand
	sh.hand = (sh.hand + 1) % len(sh.ring)
}

// size is how many passes are remembered.
func (k *known) size() int {
	n := 0
	for i := range k.shards {
		k.shards[i].mu.Lock()
		n += len(k.shards[i].ring)
		k.shards[i].mu.Unlock()
	}
	return n
}
