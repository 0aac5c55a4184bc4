package line

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Bounds of statements.
const (
	MaxStatementBytes = 32 << 10 // JSON of one record or amendment
	MaxLanes          = 16
	MaxAmendments     = 64
	MaxHonours        = 16
)

// Errors of records and amendments; test with errors.Is.
var (
	ErrStatementMalformed = errors.New("statement is malformed")
	ErrStatementForged    = errors.New("statement signature does not match")
	ErrStatementKey       = errors.New("statement is signed by a key that is not trusted")
	ErrRecordInvalid      = errors.New("line record is not valid")
	ErrAmendmentChain     = errors.New("amendment does not continue the record")
	ErrAmendmentRule      = errors.New("amendment breaks the rule of the draw")
)

// SignRecord signs a valid record. The statement's key id is the public key itself, so that a published record can be checked
// without any other source; whether that key is the organiser's is for the verifier to pin.
func SignRecord(key ed25519.PrivateKey, r Record) (Signed, error) {
	if err := r.Validate(); err != nil {
		return Signed{}, err
	}
	return signStatement(key, tagRecord, r)
}

// VerifyRecord checks the signature over the exact bytes of the statement, then reads and validates it. With trusted keys the
// signer must be one of them; without, any signer is accepted and Signed.Signer says who it was.
func VerifyRecord(s Signed, trusted ...ed25519.PublicKey) (Record, error) {
	var r Record
	if err := verifyStatement(s, tagRecord, &r, trusted); err != nil {
		return Record{}, fmt.Errorf("line record: %w", err)
	}
	if err := r.Validate(); err != nil {
		return Record{}, err
	}
	return r, nil
}

// Amend signs a change of the opening as the next statement after the published ones. It fills in Version, Line and Prev,
// and refuses a change that breaks a rule (see Opened).
func Amend(key ed25519.PrivateKey, p Published, a Amendment) (Signed, error) {
	state, err := p.Open()
	if err != nil {
		return Signed{}, err
	}
	a.Version, a.Line, a.Prev = 1, state.Record.Line, state.Last
	if err := state.apply(a); err != nil {
		return Signed{}, err
	}
	return signStatement(key, tagAmendment, a)
}

// ParsePublished reads what `GET lines/{line}/record` answers. It bounds sizes but checks no signature: Open does.
func ParsePublished(doc []byte) (Published, error) {
	const most = (MaxAmendments + 2) * 2 * MaxStatementBytes
	if len(doc) > most {
		return Published{}, fmt.Errorf("published record: %w: %d bytes, at most %d", ErrStatementMalformed, len(doc), most)
	}
	var p Published
	if err := json.Unmarshal(doc, &p); err != nil {
		return Published{}, fmt.Errorf("published record: %w: %w", ErrStatementMalformed, err)
	}
	return p, nil
}

// Opened is a published record after its amendments.
type Opened struct {
	Record     Record // with the opening and draw now in force
	Original   Record // as first signed
	Amendments []Amendment
	Signer     ed25519.PublicKey
	Last       string // SHA-256 of the last statement, hexadecimal: what the next amendment must name
}

// Open checks the record's and every amendment's signature, their hash chain and their rules, and returns the opening in force.
// Trusted keys are as for VerifyRecord; without them all statements must come from one signer.
//
// The rules of an amendment: it keeps the draw's kind and chain; it is made before the opening it replaces, and with a draw
// before that draw is due; it does not open in its own past; and a draw it names comes later than the one it replaces, so
// that nobody who amends has seen either value. From the opening on, a sale can only be paused.
func (p Published) Open(trusted ...ed25519.PublicKey) (Opened, error) {
	if len(p.Amendments) > MaxAmendments {
		return Opened{}, fmt.Errorf("line record: %w: %d amendments, at most %d", ErrStatementMalformed, len(p.Amendments), MaxAmendments)
	}
	r, err := VerifyRecord(p.Record, trusted...)
	if err != nil {
		return Opened{}, err
	}
	signer, err := p.Record.Signer()
	if err != nil {
		return Opened{}, err
	}
	if len(trusted) == 0 {
		trusted = []ed25519.PublicKey{signer}
	}
	o := Opened{Record: r, Original: r, Signer: signer, Last: p.Record.digest()}
	for i, s := range p.Amendments {
		var a Amendment
		if err := verifyStatement(s, tagAmendment, &a, trusted); err != nil {
			return Opened{}, fmt.Errorf("amendment %d: %w", i+1, err)
		}
		if err := o.apply(a); err != nil {
			return Opened{}, fmt.Errorf("amendment %d: %w", i+1, err)
		}
		o.Last = s.digest()
	}
	return o, nil
}

func (o *Opened) apply(a Amendment) error {
	was := o.Record
	switch {
	case a.Version != 1:
		return fmt.Errorf("%w: version %d", ErrStatementMalformed, a.Version)
	case a.Line != was.Line:
		return fmt.Errorf("%w: it names line %s, not %s", ErrAmendmentChain, a.Line, was.Line)
	case a.Prev != o.Last:
		return fmt.Errorf("%w: it follows another statement", ErrAmendmentChain)
	case a.MadeAtMs < was.EpochMs || len(o.Amendments) > 0 && a.MadeAtMs < o.Amendments[len(o.Amendments)-1].MadeAtMs:
		return fmt.Errorf("%w: it is dated before the statement it amends", ErrAmendmentChain)
	case a.MadeAtMs >= was.OpensAtMs:
		return fmt.Errorf("%w: it was made after the opening", ErrAmendmentRule)
	case a.OpensAtMs < a.MadeAtMs:
		return fmt.Errorf("%w: it opens in its own past", ErrAmendmentRule)
	case a.Draw.Kind != was.Draw.Kind || a.Draw.Chain != was.Draw.Chain:
		return fmt.Errorf("%w: it changes the kind of draw", ErrAmendmentRule)
	}
	if was.Draw.Kind != DrawNone {
		switch {
		case a.MadeAtMs >= was.Draw.DueAt:
			return fmt.Errorf("%w: it was made when the old draw was already due", ErrAmendmentRule)
		case a.Draw.DueAt <= was.Draw.DueAt:
			return fmt.Errorf("%w: its draw is not later than the one it replaces", ErrAmendmentRule)
		case was.Draw.Kind == DrawDrand && a.Draw.Round <= was.Draw.Round:
			return fmt.Errorf("%w: round %d is not later than round %d", ErrAmendmentRule, a.Draw.Round, was.Draw.Round)
		}
	}
	now := was
	now.OpensAtMs, now.Draw = a.OpensAtMs, a.Draw
	if err := now.Validate(); err != nil {
		return err
	}
	o.Record = now
	o.Amendments = append(slices.Clip(o.Amendments), a)
	return nil
}

// Opening is what ranks of this line depend on. Without a lobby or with DrawNone nothing is drawn; else result is nil until the
// randomness is public.
func (o Opened) Opening(result *DrawResult) (Opening, error) {
	op := Opening{Room: o.Record.Room, Line: o.Record.Line}
	if o.Record.Draw.Kind == DrawNone {
		return op, nil // the lobby keeps its order of arrival: its windows are windows like all others
	}
	op.LobbyEnd = o.Record.LobbyEnd()
	if result == nil {
		return op, nil
	}
	value, err := hex.DecodeString(result.Value)
	if err != nil {
		return Opening{}, fmt.Errorf("draw result: value: %w", err)
	}
	if len(value) < 16 || len(value) > 64 {
		return Opening{}, fmt.Errorf("draw result: value has %d bytes, want 16 to 64", len(value))
	}
	if result.Round != o.Record.Draw.Round {
		return Opening{}, fmt.Errorf("draw result: round %d, the record names round %d", result.Round, o.Record.Draw.Round)
	}
	op.Drawn, op.Round, op.Randomness = true, result.Round, value
	return op, nil
}

var (
	roomName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	hex32    = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Validate checks a record against its bounds and names every problem; the error wraps ErrRecordInvalid.
func (r Record) Validate() error {
	var problems []string
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if r.Version != 1 {
		bad("version is %d, want 1", r.Version)
	}
	if !roomName.MatchString(r.Room) {
		bad("room %q, want 1 to 32 of a-z 0-9 -", r.Room)
	}
	if r.Line.IsZero() {
		bad("line id is missing")
	}
	if r.EpochMs <= 0 || r.EpochMs > maxUnixMs {
		bad("epoch_ms %d is not a time", r.EpochMs)
	}
	if r.OpensAtMs < r.EpochMs || r.OpensAtMs > r.EpochMs+maxLobbyMs {
		bad("opens_at_ms %d, want from epoch_ms to a year after it", r.OpensAtMs)
	}
	if len(r.Lanes) == 0 || len(r.Lanes) > MaxLanes {
		bad("%d lanes, want 1 to %d", len(r.Lanes), MaxLanes)
	}
	seen := map[string]bool{}
	for i, l := range r.Lanes {
		if !roomName.MatchString(l.Name) || seen[l.Name] {
			bad("lane %d: name %q, want a unique one of 1 to 32 a-z 0-9 -", i, l.Name)
		}
		seen[l.Name] = true
		if l.Weight < 1 || l.Weight > 1000 {
			bad("lane %d: weight %d, want 1 to 1000", i, l.Weight)
		}
	}
	switch r.Draw.Kind {
	case DrawNone:
		if r.Draw != (Draw{}) {
			bad("draw has no kind but other fields")
		}
	case DrawDrand:
		if !hex32.MatchString(r.Draw.Chain) || r.Draw.Round == 0 {
			bad("draw of kind drand needs chain (64 hexadecimal digits) and round")
		}
	case DrawAnnounced:
		if strings.TrimSpace(r.Draw.Source) == "" || len(r.Draw.Source) > 1000 {
			bad("draw of kind announced needs source, at most 1000 bytes")
		}
	case DrawOperator:
	default:
		bad("draw kind %q is unknown", r.Draw.Kind)
	}
	if r.Draw.Kind != DrawNone && (r.Draw.DueAt <= r.OpensAtMs || r.Draw.DueAt > r.OpensAtMs+maxLobbyMs) {
		bad("draw due_at_ms %d must come after opens_at_ms, within a year", r.Draw.DueAt)
	}
	if r.WhoKind > WhoPrivate {
		bad("who_kind %d is unknown", r.WhoKind)
	}
	if len(r.Honours) > MaxHonours {
		bad("honours %d lines, at most %d", len(r.Honours), MaxHonours)
	}
	for i, id := range r.Honours {
		if id.IsZero() || id == r.Line || slices.Contains(r.Honours[:i], id) {
			bad("honours: line %s is missing, itself or named twice", id)
		}
	}
	if len(r.Policy) > 4000 {
		bad("policy has %d bytes, at most 4000", len(r.Policy))
	}
	if len(problems) > 0 {
		return fmt.Errorf("%w: %s", ErrRecordInvalid, strings.Join(problems, "; "))
	}
	return nil
}

const (
	maxUnixMs  = int64(1) << 46 // year 4199
	maxLobbyMs = int64(366*24) * 3600 * 1000
)

// Signer is the public key that a statement says it is signed by.
func (s Signed) Signer() (ed25519.PublicKey, error) {
	key, err := base64.RawURLEncoding.Strict().DecodeString(s.KID)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: kid is not an Ed25519 public key in base64url", ErrStatementMalformed)
	}
	return key, nil
}

// RecordKID is the key id of statements signed by the key that belongs to pub.
func RecordKID(pub ed25519.PublicKey) string { return base64.RawURLEncoding.EncodeToString(pub) }

// digest is the SHA-256 of the statement's exact bytes. A body that does not decode was refused before.
func (s Signed) digest() string {
	body, _ := base64.RawURLEncoding.Strict().DecodeString(s.Body)
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// signedBytes is what the signature covers: the length-prefixed tag, then the statement to the end.
func signedBytes(tag string, body []byte) []byte { return append(appendString(nil, tag), body...) }

func signStatement(key ed25519.PrivateKey, tag string, v any) (Signed, error) {
	if len(key) != ed25519.PrivateKeySize {
		return Signed{}, fmt.Errorf("sign statement: %w: private key has %d bytes", ErrStatementKey, len(key))
	}
	body, err := json.Marshal(v)
	if err != nil {
		return Signed{}, fmt.Errorf("sign statement: %w", err)
	}
	if len(body) > MaxStatementBytes {
		return Signed{}, fmt.Errorf("sign statement: %w: %d bytes, at most %d", ErrStatementMalformed, len(body), MaxStatementBytes)
	}
	return Signed{
		KID:  RecordKID(key.Public().(ed25519.PublicKey)),
		Body: base64.RawURLEncoding.EncodeToString(body),
		Sig:  base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, signedBytes(tag, body))),
	}, nil
}

func verifyStatement(s Signed, tag string, into any, trusted []ed25519.PublicKey) error {
	if len(s.Body) > base64.RawURLEncoding.EncodedLen(MaxStatementBytes) || len(s.Sig) > 128 || len(s.KID) > 64 {
		return fmt.Errorf("%w: it is too long", ErrStatementMalformed)
	}
	signer, err := s.Signer()
	if err != nil {
		return err
	}
	if len(trusted) > 0 && !slices.ContainsFunc(trusted, func(k ed25519.PublicKey) bool { return k.Equal(signer) }) {
		return fmt.Errorf("%w: %s", ErrStatementKey, s.KID)
	}
	strict := base64.RawURLEncoding.Strict()
	body, err := strict.DecodeString(s.Body)
	if err != nil {
		return fmt.Errorf("%w: body: %w", ErrStatementMalformed, err)
	}
	sig, err := strict.DecodeString(s.Sig)
	if err != nil {
		return fmt.Errorf("%w: sig: %w", ErrStatementMalformed, err)
	}
	if !ed25519.Verify(signer, signedBytes(tag, body), sig) {
		return ErrStatementForged
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", ErrStatementMalformed, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("%w: something follows it", ErrStatementMalformed)
	}
	return nil
}
