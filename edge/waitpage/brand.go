package waitpage

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Brand is an organiser's look. The zero value is the page's own.
type Brand struct {
	Logo       []byte // SVG, PNG or WebP, at most 64 KiB
	LogoText   string // what the logo shows; required with a logo
	Accent     string // buttons, bar and links, #rrggbb
	Background string // behind the page in its light look, #rrggbb
}

const maxLogo = 64 << 10

// The page's own colours that an organiser's meet, as in page.css.
const (
	surfaceLight, surfaceDark, backLight, backDark = "#ffffff", "#1c1e22", "#f7f6f3", "#131417"
	textLight, mutedLight, accentLight             = "#1c1d21", "#585a63", "#1d4f8f"
	white, ink                                     = "#ffffff", "#10131a"
	leastContrast                                  = 4.5 // WCAG 2.2, 1.4.3: text
)

// A BrandError names one thing that cannot be shown.
type BrandError struct {
	Key     string // logo, logo_text, accent or background
	Problem string
}

// Error implements error.
func (e *BrandError) Error() string { return e.Key + ": " + e.Problem }

// Check refuses what people could not read or what could run. The error joins one *BrandError per fault.
func (b Brand) Check() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, &BrandError{key, fmt.Sprintf(format, args...)})
	}
	contrast := func(key, what, color, on string) {
		if c := contrastOf(color, on); c < leastContrast {
			bad(key, "%s %s on %s has a contrast of %.2f, at least %.1f is needed", what, color, on, math.Floor(c*100)/100, leastContrast)
		}
	}
	back, accent := backLight, accentLight
	if b.Background != "" {
		if !isColor(b.Background) {
			bad("background", "%q is not a colour like #f7f6f3", b.Background)
		} else {
			back = b.Background
			contrast("background", "text", textLight, back)
			contrast("background", "small text", mutedLight, back)
		}
	}
	if b.Accent != "" {
		if !isColor(b.Accent) {
			bad("accent", "%q is not a colour like #1d4f8f", b.Accent)
		} else {
			accent = b.Accent
			contrast("accent", "a link", accent, surfaceLight)
		}
	}
	if len(errs) == 0 {
		contrast("accent", "a link", accent, back)
	}
	if len(b.Logo) > 0 {
		if _, err := logoType(b.Logo); err != nil {
			bad("logo", "%s", err)
		}
		if strings.TrimSpace(b.LogoText) == "" {
			bad("logo_text", "is needed for those who cannot see the logo")
		}
	}
	if !utf8.ValidString(b.LogoText) || utf8.RuneCountInString(b.LogoText) > 120 {
		bad("logo_text", "may have 120 characters")
	}
	return errors.Join(errs...)
}

// css is what the brand adds to the page's style. The brand has been checked.
func (b Brand) css() string {
	var light, dark string
	if b.Accent != "" {
		d := b.Accent
		for share := 0.05; share < 1 && (contrastOf(d, surfaceDark) < leastContrast || contrastOf(d, backDark) < leastContrast); share += 0.05 {
			d = mix(b.Accent, white, share)
		}
		light += "--accent:" + b.Accent + ";--on-accent:" + on(b.Accent) + ";"
		dark += "--accent:" + d + ";--on-accent:" + on(d) + ";"
	}
	if b.Background != "" {
		light += "--bg:" + b.Background + ";"
		dark += "--bg:" + backDark + ";"
	}
	if light == "" {
		return ""
	}
	return "\n:root{" + light + "}@media (prefers-color-scheme:dark){:root{" + dark + "}}\n"
}

// on is the text colour for a ground: whichever of light and dark can be read better. One of them always has the least contrast.
func on(ground string) string {
	if contrastOf(white, ground) >= contrastOf(ink, ground) {
		return white
	}
	return ink
}

var colorForm = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

func isColor(s string) bool { return colorForm.MatchString(s) }

func rgb(c string) [3]float64 {
	n, err := strconv.ParseUint(c[1:], 16, 32)
	if err != nil {
		return [3]float64{}
	}
	return [3]float64{float64(n >> 16), float64(n >> 8 & 255), float64(n & 255)}
}

func mix(a, b string, share float64) string {
	x, y := rgb(a), rgb(b)
	m := func(i int) int { return int(math.Round(x[i] + (y[i]-x[i])*share)) }
	return fmt.Sprintf("#%02x%02x%02x", m(0), m(1), m(2))
}

// contrastOf is the contrast ratio of WCAG 2.2 of two sRGB colours.
func contrastOf(a, b string) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(c string) float64 {
	lin := func(v float64) float64 {
		if v /= 255; v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	v := rgb(c)
	return 0.2126*lin(v[0]) + 0.7152*lin(v[1]) + 0.0722*lin(v[2])
}

// logoType is the media type of a logo, told by its content.
func logoType(raw []byte) (string, error) {
	switch {
	case len(raw) > maxLogo:
		return "", fmt.Errorf("has %d bytes, at most %d are allowed", len(raw), maxLogo)
	case bytes.HasPrefix(raw, []byte("\x89PNG\r\n\x1a\n")):
		return "image/png", nil
	case len(raw) > 12 && string(raw[:4]) == "RIFF" && string(raw[8:12]) == "WEBP":
		return "image/webp", nil
	}
	if err := checkSVG(raw); err != nil {
		return "", err
	}
	return "image/svg+xml", nil
}

// svgElements are what a logo may consist of: shapes and paint. Scripts, foreign content, animation and references to elsewhere are not among them, since
// whoever opens the file itself would run them with the page's own rights.
var svgElements = map[string]bool{
	"svg": true, "g": true, "defs": true, "title": true, "desc": true, "path": true, "rect": true, "circle": true, "ellipse": true, "line": true, "polyline": true,
	"polygon": true, "text": true, "tspan": true, "use": true, "symbol": true, "linearGradient": true, "radialGradient": true, "stop": true, "clipPath": true, "mask": true,
}

func checkSVG(raw []byte) error {
	d := xml.NewDecoder(bytes.NewReader(raw))
	first := true
	for {
		t, err := d.Token()
		if err == io.EOF && !first {
			return nil
		}
		if err != nil {
			return errors.New("is neither PNG, WebP nor well-formed SVG")
		}
		switch t := t.(type) {
		case xml.Directive:
			return errors.New("an SVG with a document type is not allowed")
		case xml.ProcInst:
			if t.Target != "xml" {
				return fmt.Errorf("<?%s?> is not allowed in an SVG logo", t.Target)
			}
		case xml.StartElement:
			if first && t.Name.Local != "svg" {
				return errors.New("is neither PNG, WebP nor SVG")
			}
			first = false
			if !svgElements[t.Name.Local] {
				return fmt.Errorf("<%s> is not allowed in an SVG logo", t.Name.Local)
			}
			for _, a := range t.Attr {
				name, value := strings.ToLower(a.Name.Local), strings.ToLower(strings.TrimSpace(a.Value))
				if strings.HasPrefix(name, "on") || name == "href" && !strings.HasPrefix(value, "#") || strings.Contains(value, "javascript:") || outward.MatchString(value) {
					return fmt.Errorf("the attribute %s of <%s> is not allowed in an SVG logo", a.Name.Local, t.Name.Local)
				}
			}
		}
	}
}

// outward finds a reference to something outside of the file.
var outward = regexp.MustCompile(`url\(\s*['"]?\s*[^#'"\s]`)
