package shop

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"

	"github.com/stanchion-queue/stanchion/inventory/chart"
)

// Categories have colours of the chart's, which must be seen on light and on dark ground. Inline styles are forbidden by our own
// policy, so each set of colours is a stylesheet whose name says all of its content: it needs no look-up and is cached for ever.

func categoryClass(i int) string { return fmt.Sprintf("k%d", i) }

// palette is for categories without a colour of their own.
var palette = []rgb{{0x2f, 0x6f, 0x9f}, {0xb3, 0x40, 0x3a}, {0x4b, 0x8b, 0x57}, {0x8a, 0x5a, 0xa8}, {0xa8, 0x6a, 0x12}, {0x2a, 0x85, 0x85}}

type rgb [3]uint8

func parseColor(s string) (c rgb, ok bool) {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "#"))
	if err != nil || len(b) != 3 {
		return rgb{}, false
	}
	return rgb(b), true
}

func (c rgb) String() string { return hex.EncodeToString(c[:]) }

// luminance is that of WCAG 2.2.
func (c rgb) luminance() float64 {
	f := func(v uint8) float64 {
		x := float64(v) / 255
		if x <= 0.04045 {
			return x / 12.92
		}
		return math.Pow((x+0.055)/1.055, 2.4)
	}
	return 0.2126*f(c[0]) + 0.7152*f(c[1]) + 0.0722*f(c[2])
}

// contrast is that of WCAG 2.2, from 1 to 21.
func contrast(a, b rgb) float64 {
	x, y := a.luminance(), b.luminance()
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// on moves a colour towards black or white until it stands out from the ground.
func (c rgb) on(ground, towards rgb) rgb {
	const least = 3.2 // WCAG asks 3 of graphics
	for step := 0; step <= 20; step++ {
		var m rgb
		for i := range m {
			m[i] = uint8((int(c[i])*(20-step) + int(towards[i])*step) / 20)
		}
		if contrast(m, ground) >= least {
			return m
		}
	}
	return towards
}

// The grounds on which seats are drawn: --surface of shop.css, light and dark.
var (
	light, dark  = rgb{0xff, 0xff, 0xff}, rgb{0x1c, 0x1e, 0x22}
	black, white = rgb{0, 0, 0}, rgb{0xff, 0xff, 0xff}
)

const colorsPrefix, colorsSuffix = "seats-", ".css"

// colorsOf is the name of the stylesheet of a chart's categories.
func colorsOf(c *chart.Chart) string {
	var all []string
	for i, k := range c.Categories {
		color, ok := parseColor(k.Color)
		if !ok {
			color = palette[i%len(palette)]
		}
		all = append(all, color.String())
	}
	return colorsPrefix + strings.Join(all, "-") + colorsSuffix
}

// colorSheet writes the stylesheet of a name; ok is false for a name that colorsOf never makes.
func colorSheet(name string) (css []byte, ok bool) {
	inner, ok := strings.CutPrefix(name, colorsPrefix)
	inner, ok2 := strings.CutSuffix(inner, colorsSuffix)
	parts := strings.Split(inner, "-")
	if !ok || !ok2 || len(parts) > chart.MaxCategories {
		return nil, false
	}
	var day, night strings.Builder
	for i, p := range parts {
		c, ok := parseColor(p)
		if !ok || c.String() != p {
			return nil, false
		}
		fmt.Fprintf(&day, ".%s{color:#%s}\n", categoryClass(i), c.on(light, black))
		fmt.Fprintf(&night, ".%s{color:#%s}\n", categoryClass(i), c.on(dark, white))
	}
	return []byte(day.String() + "@media (prefers-color-scheme:dark){\n" + night.String() + "}\n"), true
}
