// Package beacon finds and verifies the public randomness that decides the order of a lobby: rounds of the drand network
// (https://drand.love), and values that a public source announces.
//
// A round is verified offline against the network's public key, so no relay it came through is trusted: the BLS signature over the
// round's number is checked with github.com/cloudflare/circl, and the randomness is the signature's hash.
package beacon

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/cloudflare/circl/ecc/bls12381"

	"github.com/stanchion-queue/stanchion/queue/line"
)

// Errors of this package; test with errors.Is.
var (
	ErrChain  = errors.New("beacon chain is unknown")
	ErrRound  = errors.New("beacon round is not valid")
	ErrNotYet = errors.New("the draw's value is not public yet")
	ErrDraw   = errors.New("draw is not fixed as its kind asks")
	ErrValue  = errors.New("the draw's value does not follow from its source")
)

// Chain is a drand network of the scheme bls-unchained-g1-rfc9380: signatures on G1 over the hash of the round's number.
type Chain struct {
	Hash      string // hexadecimal
	PublicKey []byte // on G2, 96 bytes
	GenesisS  int64  // Unix seconds of round 1
	PeriodS   int64
}

// Quicknet is drand's fast unchained network: a round every three seconds.
func Quicknet() Chain {
	key, _ := hex.DecodeString("83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d1064510d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a")
	return Chain{
		Hash: "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971", PublicKey: key, GenesisS: 1692803367, PeriodS: 3,
	}
}

const signatureDST = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"

// Verify checks a round's signature, 48 bytes, and returns its randomness.
func (c Chain) Verify(round uint64, signature []byte) (randomness [32]byte, err error) {
	if round == 0 || len(signature) != bls12381.G1SizeCompressed {
		return randomness, fmt.Errorf("%w: round %d with a signature of %d bytes", ErrRound, round, len(signature))
	}
	var key bls12381.G2
	if err := key.SetBytes(c.PublicKey); err != nil || key.IsIdentity() {
		return randomness, fmt.Errorf("%w: its public key is not a point of G2", ErrChain)
	}
	var sig bls12381.G1
	if err := sig.SetBytes(signature); err != nil || sig.IsIdentity() {
		return randomness, fmt.Errorf("%w: its signature is not a point of G1", ErrRound)
	}
	number := binary.BigEndian.AppendUint64(nil, round)
	message := sha256.Sum256(number)
	var h bls12381.G1
	h.Hash(message[:], []byte(signatureDST))
	// e(sig, g2) = e(h, key)
	if !bls12381.ProdPairFrac([]*bls12381.G1{&sig, &h}, []*bls12381.G2{bls12381.G2Generator(), &key}, []int{1, -1}).IsIdentity() {
		return randomness, fmt.Errorf("%w: its signature is not the network's for round %d", ErrRound, round)
	}
	return sha256.Sum256(signature), nil
}

// DueMs is when a round becomes public, in Unix milliseconds.
func (c Chain) DueMs(round uint64) int64 {
	if round == 0 || round > 1<<40 {
		return 0
	}
	return (c.GenesisS + c.PeriodS*int64(round-1)) * 1000
}

// RoundAfter is the first round that becomes public after a time in Unix milliseconds.
func (c Chain) RoundAfter(ms int64) uint64 {
	since := ms - c.GenesisS*1000
	if since < 0 {
		return 1
	}
	return uint64(since/(c.PeriodS*1000)) + 2
}

// CheckDraw checks that a draw is fixed as its kind asks: a drand round of this chain whose time is the stated one, or a named
// public source.
func (c Chain) CheckDraw(d line.Draw) error {
	switch d.Kind {
	case line.DrawDrand:
		if d.Chain != c.Hash {
			return fmt.Errorf("%w: %s", ErrChain, d.Chain)
		}
		if due := c.DueMs(d.Round); due != d.DueAt {
			return fmt.Errorf("%w: round %d is due at %d, the record says %d", ErrDraw, d.Round, due, d.DueAt)
		}
	case line.DrawAnnounced:
		if strings.TrimSpace(d.Source) == "" {
			return fmt.Errorf("%w: it names no source", ErrDraw)
		}
	}
	return nil
}

// Check verifies that a draw's value follows from its source: for drand by the round's signature, for an announced value by the text that
// was announced, where it is given. An operator's value proves nothing and is not checked.
func (c Chain) Check(d line.Draw, r line.DrawResult) error {
	switch d.Kind {
	case line.DrawDrand:
		if err := c.CheckDraw(d); err != nil {
			return err
		}
		if r.Round != d.Round {
			return fmt.Errorf("%w: it is of round %d, the record names round %d", ErrValue, r.Round, d.Round)
		}
		signature, err := hex.DecodeString(r.Proof)
		if err != nil {
			return fmt.Errorf("%w: its proof is not hexadecimal", ErrValue)
		}
		randomness, err := c.Verify(r.Round, signature)
		if err != nil {
			return err
		}
		if r.Value != hex.EncodeToString(randomness[:]) {
			return fmt.Errorf("%w: the round's randomness is %x", ErrValue, randomness)
		}
	case line.DrawAnnounced:
		if r.Proof == "" {
			return nil // the operator gave the number itself: compare it with the source
		}
		if sum := sha256.Sum256([]byte(r.Proof)); r.Value != hex.EncodeToString(sum[:]) {
			return fmt.Errorf("%w: the announced text's SHA-256 is %x", ErrValue, sum)
		}
	}
	return nil
}

// Announced is the value of an announced draw: the SHA-256 of the text exactly as its source published it.
func Announced(text string) line.DrawResult {
	sum := sha256.Sum256([]byte(text))
	return line.DrawResult{Value: hex.EncodeToString(sum[:]), Proof: text}
}

// maxRoundBytes bounds a relay's answer.
const maxRoundBytes = 4096

// ParseRound reads a round as a relay answers it, or as an operator pastes it. It is not verified.
func ParseRound(doc []byte) (line.DrawResult, error) {
	if len(doc) > maxRoundBytes {
		return line.DrawResult{}, fmt.Errorf("%w: %d bytes, at most %d", ErrRound, len(doc), maxRoundBytes)
	}
	var r struct {
		Round      uint64 `json:"round"`
		Randomness string `json:"randomness"`
		Signature  string `json:"signature"`
	}
	if err := json.Unmarshal(doc, &r); err != nil {
		return line.DrawResult{}, fmt.Errorf("%w: %w", ErrRound, err)
	}
	signature, err := hex.DecodeString(r.Signature)
	if err != nil || r.Round == 0 {
		return line.DrawResult{}, fmt.Errorf("%w: it needs round and signature (hexadecimal)", ErrRound)
	}
	sum := sha256.Sum256(signature)
	value := hex.EncodeToString(sum[:])
	if r.Randomness != "" && !strings.EqualFold(r.Randomness, value) {
		return line.DrawResult{}, fmt.Errorf("%w: its randomness is not the hash of its signature", ErrRound)
	}
	return line.DrawResult{Round: r.Round, Value: value, Proof: hex.EncodeToString(signature)}, nil
}

// Options of New.
type Options struct {
	URLs    []string      // relays, asked in turn
	Chain   Chain         // zero: Quicknet
	Timeout time.Duration // for one relay; 0: 5 s
	Client  *http.Client  // nil: http.DefaultTransport without redirects
}

// Net is a drand network as seen through its relays. It is safe for concurrent use.
type Net struct {
	o     Options
	chain Chain
}

// New makes a network's client. It asks nobody yet.
func New(o Options) *Net {
	if o.Chain.Hash == "" {
		o.Chain = Quicknet()
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Client == nil {
		o.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return &Net{o: o, chain: o.Chain}
}

// Fix completes a drand draw whose value shall become public after a time in Unix milliseconds: with a round of its own it is checked,
// else the first round due after that time is taken.
func (n *Net) Fix(d line.Draw, afterMs int64) (line.Draw, error) {
	if d.Kind != line.DrawDrand {
		return d, nil
	}
	if d.Chain != "" && d.Chain != n.chain.Hash {
		return line.Draw{}, fmt.Errorf("%w: %s", ErrChain, d.Chain)
	}
	d.Chain = n.chain.Hash
	if d.Round == 0 {
		d.Round = n.chain.RoundAfter(afterMs)
	}
	if d.DueAt = n.chain.DueMs(d.Round); d.DueAt <= afterMs {
		return line.Draw{}, fmt.Errorf("%w: round %d is public at %s, not after %s", ErrDraw, d.Round, stamp(d.DueAt), stamp(afterMs))
	}
	return d, nil
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// Check verifies a value against its draw.
func (n *Net) Check(d line.Draw, r line.DrawResult) error { return n.chain.Check(d, r) }

// Value fetches a drand draw's round from the first relay that has it, and verifies it. ErrNotYet means that no relay has it yet; other
// errors name what each relay did.
func (n *Net) Value(ctx context.Context, d line.Draw) (line.DrawResult, error) {
	if err := n.chain.CheckDraw(d); err != nil {
		return line.DrawResult{}, err
	}
	if len(n.o.URLs) == 0 {
		return line.DrawResult{}, errors.New("fetch beacon round: no relay is configured")
	}
	var errs []error
	for _, base := range n.o.URLs {
		r, err := n.fetch(ctx, base, d.Round)
		if err == nil {
			err = n.chain.Check(d, r)
		}
		if err == nil {
			return r, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", base, err))
		if ctx.Err() != nil {
			break
		}
	}
	return line.DrawResult{}, fmt.Errorf("fetch beacon round %d: %w", d.Round, errors.Join(errs...))
}

func (n *Net) fetch(ctx context.Context, base string, round uint64) (line.DrawResult, error) {
	ctx, cancel := context.WithTimeout(ctx, n.o.Timeout)
	defer cancel()
	url := fmt.Sprintf("%s/%s/public/%d", strings.TrimRight(base, "/"), n.chain.Hash, round)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return line.DrawResult{}, err
	}
	res, err := n.o.Client.Do(req)
	if err != nil {
		return line.DrawResult{}, err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusTooEarly:
		return line.DrawResult{}, ErrNotYet
	default:
		return line.DrawResult{}, fmt.Errorf("answered %s", res.Status)
	}
	doc, err := io.ReadAll(io.LimitReader(res.Body, maxRoundBytes+1))
	if err != nil {
		return line.DrawResult{}, err
	}
	return ParseRound(doc)
}
