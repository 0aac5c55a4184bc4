// Package ticketing makes sold tickets: the signed code inside the QR, its pictures and papers, and the scan at the gate.
//
// A sold Ticket is what a fan buys; the fan's place in the waiting room is another thing (package line) and is called "your
// place" wherever people read it. A gate verifies a code offline with the public entry key; whether the ticket was revoked or
// already used is asked of the Service.
package ticketing

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Ticket is one sold unit of a performance. Version grows when the ticket is issued again (new holder, new device): only the
// newest version is let in.
type Ticket struct {
	ID          uuid.UUID
	Version     uint16
	Performance uuid.UUID
	Unit        uint32 // number of the unit in its order
}

const (
	codePrefix = "STN1."
	codeBody   = 1 + 16 + 2 + 16 + 4
	codeLen    = codeBody + ed25519.SignatureSize
	// signTag keeps an entry signature from meaning anything else under the same key.
	signTag = "stanchion entry ticket 1\x00"
)

// Errors of Codes.Parse; test with errors.Is.
var (
	ErrCodeMalformed = errors.New("ticket code is malformed")
	ErrCodeKey       = errors.New("ticket code is signed by an unknown key")
	ErrCodeForged    = errors.New("ticket code signature does not match")
)

// Codes signs and verifies ticket codes. The zero value verifies nothing. It is immutable and safe for concurrent use.
type Codes struct {
	kid     uint8
	private ed25519.PrivateKey
	public  map[uint8]ed25519.PublicKey
}

// NewCodes returns Codes that sign with private under kid and verify with every key of public, and with its own. A nil
// private key gives a verifier only.
func NewCodes(kid uint8, private ed25519.PrivateKey, public map[uint8]ed25519.PublicKey) *Codes {
	c := &Codes{kid: kid, private: private, public: make(map[uint8]ed25519.PublicKey, len(public)+1)}
	for k, p := range public {
		c.public[k] = p
	}
	if private != nil {
		c.public[kid] = private.Public().(ed25519.PublicKey)
	}
	return c
}

// Code is the ticket's text inside the QR: "STN1." and base64url of kid u8, ticket id 16 bytes, version u16, performance 16
// bytes, unit u32, Ed25519 signature 64 bytes; integers big-endian. 143 characters. It is the same for the same ticket.
func (c *Codes) Code(t Ticket) string {
	body := make([]byte, 0, codeLen)
	body = append(body, c.kid)
	body = append(body, t.ID[:]...)
	body = binary.BigEndian.AppendUint16(body, t.Version)
	body = append(body, t.Performance[:]...)
	body = binary.BigEndian.AppendUint32(body, t.Unit)
	body = append(body, ed25519.Sign(c.private, append([]byte(signTag), body...))...)
	return codePrefix + base64.RawURLEncoding.EncodeToString(body)
}

// Parse reads and verifies a code. Nothing of an unverified ticket is returned.
func (c *Codes) Parse(code string) (Ticket, error) {
	rest, ok := strings.CutPrefix(code, codePrefix)
	if !ok {
		return Ticket{}, fmt.Errorf("%w: does not begin with %s", ErrCodeMalformed, codePrefix)
	}
	if want := base64.RawURLEncoding.EncodedLen(codeLen); len(rest) != want {
		return Ticket{}, fmt.Errorf("%w: %d characters after the prefix, want %d", ErrCodeMalformed, len(rest), want)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || len(raw) != codeLen { // the decoder skips line ends, which then leave too few bytes
		return Ticket{}, fmt.Errorf("%w: not base64url", ErrCodeMalformed)
	}
	key, ok := c.public[raw[0]]
	if !ok {
		return Ticket{}, fmt.Errorf("%w: key %d", ErrCodeKey, raw[0])
	}
	if !ed25519.Verify(key, append([]byte(signTag), raw[:codeBody]...), raw[codeBody:]) {
		return Ticket{}, ErrCodeForged
	}
	var t Ticket
	copy(t.ID[:], raw[1:17])
	t.Version = binary.BigEndian.Uint16(raw[17:19])
	copy(t.Performance[:], raw[19:35])
	t.Unit = binary.BigEndian.Uint32(raw[35:39])
	return t, nil
}
