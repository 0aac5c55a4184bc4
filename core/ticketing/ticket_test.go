package ticketing

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"image/png"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/makiuchi-d/gozxing"
	zxing "github.com/makiuchi-d/gozxing/qrcode"
	"pgregory.net/rapid"
)

func testCodes(kid uint8) *Codes {
	seed := bytes.Repeat([]byte{kid}, ed25519.SeedSize)
	return NewCodes(kid, ed25519.NewKeyFromSeed(seed), nil)
}

func anyTicket(t *rapid.T) Ticket {
	var tk Ticket
	copy(tk.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	copy(tk.Performance[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "performance"))
	tk.Version = rapid.Uint16().Draw(t, "version")
	tk.Unit = rapid.Uint32().Draw(t, "unit")
	return tk
}

func TestCodeRoundTrip(t *testing.T) {
	codes := testCodes(7)
	rapid.Check(t, func(t *rapid.T) {
		want := anyTicket(t)
		got, err := codes.Parse(codes.Code(want))
		if err != nil || got != want {
			t.Fatalf("Parse(Code(%+v)) = %+v, %v", want, got, err)
		}
	})
}

func TestEveryChangedCharacterIsRefused(t *testing.T) {
	codes := testCodes(7)
	code := codes.Code(Ticket{ID: uuid.MustParse("018f0000-0000-7000-8000-000000000001"), Version: 1, Unit: 3})
	for i := range code {
		for _, c := range []byte("A_-z9") {
			if code[i] == c {
				continue
			}
			changed := code[:i] + string(c) + code[i+1:]
			if _, err := codes.Parse(changed); err == nil {
				t.Fatalf("code with character %d changed to %q was accepted", i, c)
			}
		}
	}
}

func TestParseRefusals(t *testing.T) {
	codes := testCodes(7)
	good := codes.Code(Ticket{Version: 1})
	for _, c := range []struct {
		name, code string
		want       error
	}{
		{"empty", "", ErrCodeMalformed},
		{"other prefix", "STN2." + good[5:], ErrCodeMalformed},
		{"short", good[:len(good)-1], ErrCodeMalformed},
		{"long", good + "A", ErrCodeMalformed},
		{"line end inside", good[:20] + "\n" + good[21:], ErrCodeMalformed},
		{"unknown key", testCodes(9).Code(Ticket{Version: 1}), ErrCodeKey},
		{"other signer, same key id", NewCodes(7, ed25519.NewKeyFromSeed(make([]byte, 32)), nil).Code(Ticket{}), ErrCodeForged},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := codes.Parse(c.code); !errors.Is(err, c.want) {
				t.Fatalf("Parse = %v, want %v", err, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	codes := testCodes(7)
	f.Add(codes.Code(Ticket{Version: 1}))
	f.Add("STN1.")
	f.Fuzz(func(t *testing.T, code string) {
		tk, err := codes.Parse(code)
		if err == nil && codes.Code(tk) != code {
			t.Fatalf("accepted a code that is not canonical: %q", code)
		}
	})
}

// The picture must be readable by a scanner that shares no code with the encoder.
func TestPNGIsReadableByAnotherDecoder(t *testing.T) {
	code := testCodes(7).Code(Ticket{ID: uuid.New(), Version: 2, Performance: uuid.New(), Unit: 1})
	raw, err := PNG(code)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		t.Fatal(err)
	}
	got, err := zxing.NewQRCodeReader().Decode(bitmap, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.GetText() != code {
		t.Fatalf("decoded %q, want %q", got.GetText(), code)
	}
}

func TestSVGAndPDF(t *testing.T) {
	code := testCodes(7).Code(Ticket{Version: 1})
	svg, err := SVG(code)
	if err != nil || !bytes.Contains(svg, []byte("<svg")) {
		t.Fatalf("SVG = %.60q, %v", svg, err)
	}
	var pdf bytes.Buffer
	printed := Printed{Code: code, Event: "Été à Łódź — Ночь", Venue: "Großes Haus", Seat: "Stalls, row C, seat 12",
		Starts: time.Date(2027, 5, 1, 20, 0, 0, 0, time.UTC), Price: "€45.00", Order: "K7QF", Language: "en"}
	if err := WritePDF(&pdf, []Printed{printed, printed}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(pdf.String(), "%PDF-") || bytes.Count(pdf.Bytes(), []byte("/Type /Page\n")) != 2 {
		t.Fatalf("not a PDF of two pages: %.20q", pdf.String())
	}
}
