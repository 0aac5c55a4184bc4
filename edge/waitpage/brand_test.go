package waitpage

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestBrandIsChecked(t *testing.T) {
	svg := `<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0h9v9z"/></svg>`
	for name, tt := range map[string]struct {
		brand Brand
		key   string // of the fault, "" is fine
		says  string
	}{
		"nothing":            {Brand{}, "", ""},
		"good":               {Brand{Accent: "#7a1030", Background: "#fff8f0", Logo: []byte(svg), LogoText: "City Opera"}, "", ""},
		"yellow":             {Brand{Accent: "#ffff00"}, "accent", "#ffff00 on #ffffff has a contrast of 1.07, at least 4.5"},
		"dark ground":        {Brand{Background: "#303030"}, "background", "text #1c1d21 on #303030"},
		"accent on ground":   {Brand{Accent: "#737373", Background: "#dddddd"}, "accent", "on #dddddd"},
		"no colour":          {Brand{Accent: "red"}, "accent", "is not a colour"},
		"style in a colour":  {Brand{Background: "#fff}body{display:none"}, "background", "is not a colour"},
		"logo without words": {Brand{Logo: []byte(svg)}, "logo_text", "cannot see"},
		"huge logo":          {Brand{Logo: bytes.Repeat([]byte("x"), maxLogo+1), LogoText: "x"}, "logo", "at most 65536"},
		"logo is a page":     {Brand{Logo: []byte("<html><script>1</script></html>"), LogoText: "x"}, "logo", "neither"},
		"script":             {Brand{Logo: []byte(`<svg><script>alert(1)</script></svg>`), LogoText: "x"}, "logo", "<script> is not allowed"},
		"handler":            {Brand{Logo: []byte(`<svg onload="alert(1)"/>`), LogoText: "x"}, "logo", "onload"},
		"foreign":            {Brand{Logo: []byte(`<svg><foreignObject/></svg>`), LogoText: "x"}, "logo", "foreignObject"},
		"animation":          {Brand{Logo: []byte(`<svg><set attributeName="href" to="javascript:1"/></svg>`), LogoText: "x"}, "logo", "<set>"},
		"link":               {Brand{Logo: []byte(`<svg><use xlink:href="https://evil.example/x#a" xmlns:xlink="http://www.w3.org/1999/xlink"/></svg>`), LogoText: "x"}, "logo", "href"},
		"outward paint":      {Brand{Logo: []byte(`<svg><rect fill="url(https://evil.example/)"/></svg>`), LogoText: "x"}, "logo", "fill"},
		"style":              {Brand{Logo: []byte(`<svg><style>*{}</style></svg>`), LogoText: "x"}, "logo", "<style>"},
		"entities":           {Brand{Logo: []byte(`<!DOCTYPE svg [<!ENTITY a "b">]><svg/>`), LogoText: "x"}, "logo", "document type"},
		"stylesheet":         {Brand{Logo: []byte(`<?xml-stylesheet href="x"?><svg/>`), LogoText: "x"}, "logo", "xml-stylesheet"},
		"cut off":            {Brand{Logo: []byte(`<svg><path`), LogoText: "x"}, "logo", "neither"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.brand.Check()
			var fault *BrandError
			switch {
			case tt.key == "" && err != nil:
				t.Error(err)
			case tt.key != "" && (!errors.As(err, &fault) || fault.Key != tt.key || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("%v, want %s: %s", err, tt.key, tt.says)
			}
		})
	}
}

// TestBrandOnThePage: the brand is in an asset with a hash of its own, and no rule or markup of it is in the page.
func TestBrandOnThePage(t *testing.T) {
	pages, err := New("/.stanchion")
	if err != nil {
		t.Fatal(err)
	}
	if err := pages.SetBrand("onsale", Brand{Accent: "#ffff00"}); err == nil || !strings.Contains(err.Error(), "branding of room onsale: accent") {
		t.Errorf("%v", err)
	}
	if err := pages.SetBrand("onsale", Brand{Accent: "#7a1030", Logo: []byte(`<svg><path d="M0 0"/></svg>`), LogoText: `"><script>x`}); err != nil {
		t.Fatal(err)
	}
	var own, other bytes.Buffer
	if err := pages.Preview(&own, Waiting, "onsale", "The Gala", "City Opera", "de", now); err != nil {
		t.Fatal(err)
	}
	if err := pages.Preview(&other, Waiting, "members", "The Gala", "City Opera", "de", now); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(own.String(), "<script") || !strings.Contains(own.String(), "/assets/logo-") || strings.Contains(other.String(), "/assets/logo-") {
		t.Error(own.String())
	}
	if strings.Contains(other.String(), "Öffentliches Protokoll") && !strings.Contains(other.String(), "<script") && pages.css != "" && strings.Contains(own.String(), pages.css) {
		t.Error("the brand did not change the style")
	}
	found := false
	for name, a := range pages.assets {
		found = found || strings.HasSuffix(name, ".css") && bytes.Contains(a.Body, []byte("--accent:#7a1030;--on-accent:#ffffff;"))
	}
	if !found {
		t.Error("no style holds the brand's colour")
	}
	if err := pages.Preview(&own, "nonsense", "onsale", "", "", "en", now); err == nil {
		t.Error("a state that does not exist was shown")
	}
}

// TestAcceptedColorsCanBeRead: whatever accent is accepted, all that is written in or on it can be read in both looks.
func TestAcceptedColorsCanBeRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Brand{Accent: rapid.StringMatching(`#[0-9a-f]{6}`).Draw(t, "accent")}
		if b.Check() != nil {
			return
		}
		css := b.css()
		for look, grounds := range map[string][]string{":root{--accent:": {surfaceLight, backLight}, "dark){:root{--accent:": {surfaceDark, backDark}} {
			i := strings.Index(css, look)
			accent, on := css[i+len(look):i+len(look)+7], css[i+len(look)+20:i+len(look)+27]
			for _, g := range grounds {
				if c := contrastOf(accent, g); c < leastContrast {
					t.Fatalf("%s on %s: %.2f", accent, g, c)
				}
			}
			if c := contrastOf(on, accent); c < leastContrast {
				t.Fatalf("text %s on %s: %.2f", on, accent, c)
			}
		}
	})
}

func FuzzLogo(f *testing.F) {
	f.Add([]byte(`<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>`))
	f.Add([]byte(`<svg><a href="javascript:1"/></svg>`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		kind, err := logoType(raw)
		if err == nil && kind == "image/svg+xml" && bytes.Contains(bytes.ToLower(raw), []byte("<script")) {
			d := raw // only inside text or a comment, where it is no element
			if !bytes.Contains(d, []byte("<!--")) && !bytes.Contains(d, []byte("CDATA")) {
				t.Fatalf("%q", raw)
			}
		}
	})
}
