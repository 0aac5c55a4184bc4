package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math/big"
	"strconv"
	"strings"

	"github.com/stanchion-queue/stanchion/queue/line"
)

// proofWindowMs is how far a proof's server time may be from now.
const proofWindowMs = 60_000

var (
	errProofMissing = errors.New("key proof is missing")
	errProofBad     = errors.New("key proof does not match the ticket")
	errProofOld     = errors.New("key proof is too old or from the future")
)

// proofDetail is what the fan's script is told.
func proofDetail(err error) string {
	switch {
	case errors.Is(err, errProofMissing):
		return "This ticket is bound to a key: a proof is needed."
	case errors.Is(err, errProofOld):
		return "The key proof is too old: use the server's time."
	}
	return "The key proof does not match the ticket."
}

// checkProof verifies that a claim comes from the browser whose key the ticket is bound to. A proof is
// "<public key>.<seconds>.<signature>": the P-256 public key (65 bytes, uncompressed) and the ECDSA signature (64 bytes, r then s) in
// unpadded base64url, and the server's time from the status object in Unix seconds. Signed are, each followed by a line feed but for
// the last, "claim1", the room, the session id and the seconds. The ticket holds the first 16 bytes of the key's SHA-256.
func checkProof(roomName string, id line.SessionID, keyHash [16]byte, proof string, nowMs int64) error {
	if proof == "" {
		return errProofMissing
	}
	parts := strings.Split(proof, ".")
	if len(parts) != 3 || len(proof) > 256 {
		return errProofBad
	}
	b64 := base64.RawURLEncoding.Strict()
	pub, err := b64.DecodeString(parts[0])
	if err != nil {
		return errProofBad
	}
	sum := sha256.Sum256(pub)
	if [16]byte(sum[:16]) != keyHash {
		return errProofBad
	}
	sec, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return errProofBad
	}
	if d := nowMs - sec*1000; d > proofWindowMs || d < -proofWindowMs {
		return errProofOld
	}
	sig, err := b64.DecodeString(parts[2])
	if err != nil || len(sig) != 64 {
		return errProofBad
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), pub)
	if err != nil {
		return errProofBad
	}
	digest := sha256.Sum256([]byte("claim1\n" + roomName + "\n" + id.String() + "\n" + parts[1]))
	if !ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return errProofBad
	}
	return nil
}
