package theme

import (
	"fmt"
	"math"
	"strconv"
)

// color is a color in sRGB, each channel from 0 to 1.
type color struct{ r, g, b float64 }

// parseColor reads a color like #1d6b55.
func parseColor(s string) (color, error) {
	n, err := strconv.ParseUint(s[min(1, len(s)):], 16, 32)
	if err != nil || len(s) != 7 || s[0] != '#' {
		return color{}, fmt.Errorf("%q is not a color: use a form like #1d6b55", s)
	}
	return color{float64(n>>16) / 255, float64(n>>8&255) / 255, float64(n&255) / 255}, nil
}

// must is parseColor for colors of this program.
func must(s string) color {
	c, err := parseColor(s)
	if err != nil {
		panic(err)
	}
	return c
}

func (c color) String() string {
	channel := func(v float64) int { return int(math.Round(min(max(v, 0), 1) * 255)) }
	return fmt.Sprintf("#%02x%02x%02x", channel(c.r), channel(c.g), channel(c.b))
}

// rounded returns the color as it is written.
func (c color) rounded() color { return must(c.String()) }

func linear(v float64) float64 {
	if v <= 0.04045 {
		return v / 12.92
	}
	return math.Pow((v+0.055)/1.055, 2.4)
}

func gamma(v float64) float64 {
	if v <= 0.0031308 {
		return v * 12.92
	}
	return 1.055*math.Pow(v, 1/2.4) - 0.055
}

func (c color) luminance() float64 {
	return 0.2126*linear(c.r) + 0.7152*linear(c.g) + 0.0722*linear(c.b)
}

// contrast returns the contrast ratio of two colors, from 1 to 21 (WCAG 2.2).
func contrast(a, b color) float64 {
	x, y := a.luminance(), b.luminance()
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// mix returns a color between a and b: a if share is 1.
func mix(a, b color, share float64) color {
	between := func(x, y float64) float64 { return x*share + y*(1-share) }
	return color{between(a.r, b.r), between(a.g, b.g), between(a.b, b.b)}.rounded()
}

// lab is a color in Oklab, where a difference in lightness looks the same for all hues.
type lab struct{ l, a, b float64 }

func (c color) lab() lab {
	r, g, b := linear(c.r), linear(c.g), linear(c.b)
	l := math.Cbrt(0.4122214708*r + 0.5363325363*g + 0.0514459929*b)
	m := math.Cbrt(0.2119034982*r + 0.6806995451*g + 0.1073969566*b)
	s := math.Cbrt(0.0883024619*r + 0.2817188376*g + 0.6299787005*b)
	return lab{
		0.2104542553*l + 0.7936177850*m - 0.0040720468*s,
		1.9779984951*l - 2.4285922050*m + 0.4505937099*s,
		0.0259040371*l + 0.7827717662*m - 0.8086757660*s,
	}
}

func (c lab) color() color {
	cube := func(v float64) float64 { return v * v * v }
	l := cube(c.l + 0.3963377774*c.a + 0.2158037573*c.b)
	m := cube(c.l - 0.1055613458*c.a - 0.0638541728*c.b)
	s := cube(c.l - 0.0894841775*c.a - 1.2914855480*c.b)
	channel := func(v float64) float64 { return min(max(gamma(max(v, 0)), 0), 1) }
	return color{
		channel(4.0767416621*l - 3.3077115913*m + 0.2309699292*s),
		channel(-1.2684380046*l + 2.6097574011*m - 0.3413193965*s),
		channel(-0.0041960863*l - 0.7034186147*m + 1.7076147010*s),
	}.rounded()
}

// nearest returns the color with the same hue and the least different lightness that passes a test;
// black or white if there is none.
func nearest(c color, passes func(color) bool) color {
	if passes(c) {
		return c
	}
	from := c.lab()
	for step := 0.002; step <= 1; step += 0.002 {
		for _, l := range []float64{from.l - step, from.l + step} {
			if l < 0 || l > 1 {
				continue
			}
			if candidate := (lab{l, from.a, from.b}).color(); passes(candidate) {
				return candidate
			}
		}
	}
	if passes(color{}) {
		return color{}
	}
	return color{1, 1, 1}
}
