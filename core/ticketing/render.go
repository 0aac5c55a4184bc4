package ticketing

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"time"

	"codeberg.org/go-pdf/fpdf"
	qr "github.com/piglig/go-qr"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
)

// Printed is what a person reads on a ticket.
type Printed struct {
	Code     string
	Event    string
	Venue    string
	Starts   time.Time // shown in its own location
	Seat     string    // "Stalls, row C, seat 12"
	Price    string    // formatted with its currency
	Order    string    // short order reference
	Holder   string    // empty when nobody is named
	Language string    // BCP 47, for the document's language
}

// qrModulePx and qrQuiet are the picture's scale: 8 px a module and the standard's quiet zone of 4 modules.
const (
	qrModulePx = 8
	qrQuiet    = 4
)

func encodeQR(code string) (*qr.QrCode, *qr.QrCodeImgConfig, error) {
	q, err := qr.EncodeText(code, qr.Medium)
	if err != nil {
		return nil, nil, fmt.Errorf("encode ticket QR: %w", err)
	}
	return q, qr.NewQrCodeImgConfig(qrModulePx, qrQuiet, qr.WithLight(color.White), qr.WithDark(color.Black), qr.WithOptimalSVG()), nil
}

// PNG is the QR of a code as a PNG picture, black on white whatever the viewer's theme, so that scanners read it.
func PNG(code string) ([]byte, error) {
	q, cfg, err := encodeQR(code)
	if err != nil {
		return nil, err
	}
	return q.ToPNGBytes(cfg)
}

// SVG is the QR of a code as an SVG picture.
func SVG(code string) ([]byte, error) {
	q, cfg, err := encodeQR(code)
	if err != nil {
		return nil, err
	}
	return q.ToSVGBytes(cfg)
}

// WritePDF writes one A5 page per ticket, made to be printed at home or kept on a phone.
func WritePDF(w io.Writer, tickets []Printed) error {
	pdf := fpdf.New("P", "mm", "A5", "")
	pdf.AddUTF8FontFromBytes("go", "", goregular.TTF)
	pdf.AddUTF8FontFromBytes("go", "B", gobold.TTF)
	pdf.SetTitle("Tickets", true)
	pdf.SetMargins(12, 12, 12)
	pdf.SetAutoPageBreak(false, 0)
	for i, t := range tickets {
		png, err := PNG(t.Code)
		if err != nil {
			return err
		}
		if t.Language != "" {
			pdf.SetLang(t.Language)
		}
		pdf.AddPage()
		pdf.SetFont("go", "B", 20)
		pdf.MultiCell(0, 9, t.Event, "", "L", false)
		pdf.SetFont("go", "", 11)
		pdf.MultiCell(0, 6, t.Venue, "", "L", false)
		pdf.MultiCell(0, 6, t.Starts.Format("Monday 2 January 2006, 15:04 MST"), "", "L", false)
		pdf.Ln(3)
		pdf.SetFont("go", "B", 16)
		pdf.MultiCell(0, 8, t.Seat, "", "L", false)
		name := fmt.Sprintf("qr%d", i)
		options := fpdf.ImageOptions{ImageType: "PNG"}
		pdf.RegisterImageOptionsReader(name, options, bytes.NewReader(png))
		const side = 84.0
		width, _ := pdf.GetPageSize()
		pdf.ImageOptions(name, (width-side)/2, pdf.GetY()+4, side, side, true, options, 0, "")
		pdf.SetFont("go", "", 10)
		pdf.Ln(4)
		if t.Holder != "" {
			pdf.MultiCell(0, 5, t.Holder, "", "L", false)
		}
		pdf.MultiCell(0, 5, fmt.Sprintf("%s   ·   Order %s   ·   Ticket %d of %d", t.Price, t.Order, i+1, len(tickets)), "", "L", false)
		pdf.MultiCell(0, 5, "This code lets one person in, once. Do not share a picture of it.", "", "L", false)
	}
	if err := pdf.Output(w); err != nil {
		return fmt.Errorf("write ticket PDF: %w", err)
	}
	return nil
}
