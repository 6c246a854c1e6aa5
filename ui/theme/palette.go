package theme

import (
	"cmp"
	"fmt"
)

// Colors are the colors of a scheme, such as #1d6b55. Those that are not set are the default, or follow
// from the others.
type Colors struct {
	// Accent is the color of buttons and links, OnAccent that of the text on such a button.
	Accent   string `json:"accent,omitempty"`
	OnAccent string `json:"on_accent,omitempty"`
	// Background is behind the cards, whose color is Surface.
	Background string `json:"background,omitempty"`
	Surface    string `json:"surface,omitempty"`
	Text       string `json:"text,omitempty"`
}

// Palette has every color of a scheme that the pages and messages use, by the name of the CSS variable.
type Palette struct {
	Ground, Card, Raised, Text, Soft, Line, Field string
	Accent, AccentStrong, OnAccent, Tint          string
	Danger, DangerTint, Warn, WarnTint            string
}

// The built-in colors that other colors follow from.
var (
	defaultLight = Colors{Accent: "#1d6b55", Background: "#f3f5f2", Surface: "#ffffff", Text: "#18211d"}
	defaultDark  = Colors{Accent: "#74d3b0", Background: "#0f1412", Surface: "#171e1b", Text: "#e7ede9"}
)

const (
	textContrast  = 4.5 // WCAG 2.2, section 1.4.3
	otherContrast = 3.0 // section 1.4.11
)

// over returns the colors, with those that are not set from base.
func (c *Colors) over(base *Colors) *Colors {
	if c == nil {
		c = &Colors{}
	}
	if base == nil {
		base = &Colors{}
	}
	merged := Colors{
		Accent: cmp.Or(c.Accent, base.Accent), OnAccent: cmp.Or(c.OnAccent, base.OnAccent),
		Background: cmp.Or(c.Background, base.Background), Surface: cmp.Or(c.Surface, base.Surface), Text: cmp.Or(c.Text, base.Text),
	}
	if c.Accent != "" && c.OnAccent == "" {
		merged.OnAccent = "" // it was chosen for the other accent
	}
	return &merged
}

// palette returns all colors of a scheme, or what is wrong with those that the operator has chosen.
func (c *Colors) palette(dark bool, accentOfLight color) (*Palette, error) {
	defaults := &defaultLight
	if dark {
		defaults = &defaultDark
	}
	set := c.over(defaults)
	var all [5]color
	for i, named := range [...]struct{ name, value string }{
		{"background", set.Background}, {"surface", set.Surface}, {"text", set.Text}, {"accent", set.Accent}, {"on_accent", cmp.Or(set.OnAccent, "#ffffff")},
	} {
		var err error
		if all[i], err = parseColor(named.value); err != nil {
			return nil, fmt.Errorf("%s: %w", named.name, err)
		}
	}
	ground, card, text, accent, onAccent := all[0], all[1], all[2], all[3], all[4]
	// on reports whether text in a color is readable on every one of the others.
	on := func(behind ...color) func(color) bool {
		return func(c color) bool {
			for _, b := range behind {
				if contrast(c, b) < textContrast {
					return false
				}
			}
			return true
		}
	}
	raised := mix(text, card, 0.03)
	readable := on(card, ground, raised)
	if !readable(text) {
		return nil, tooFaint("text", text, "surface and background", readable)
	}
	if dark && c.accent() == "" && accentOfLight != must(defaultLight.Accent) {
		accent = nearest(accentOfLight, readable)
	}
	tint := func(c color) color { return mix(c, card, 0.1) }
	// Links are on both; small texts on the tint have the accent's stronger shade.
	if !readable(accent) {
		return nil, tooFaint("accent", accent, "surface and background", readable)
	}
	if set.OnAccent == "" {
		onAccent = readableOn(accent)
	} else if !on(accent)(onAccent) {
		return nil, tooFaint("on_accent", onAccent, "accent", on(accent))
	}
	strong := accent.lab()
	if strong.l += 0.07; !dark {
		strong.l -= 0.14
	}
	accentStrong := nearest(strong.color(), func(c color) bool { return on(card, ground, tint(accent))(c) && contrast(c, onAccent) >= textContrast })
	if !on(tint(accent))(accentStrong) {
		accentStrong = nearest(accentStrong, on(card, tint(accent)))
	}
	soft := text
	for share := 0.7; share < 1; share += 0.03 {
		if s := mix(text, card, share); readable(s) {
			soft = s
			break
		}
	}
	field := nearest(mix(text, card, 0.5), func(c color) bool {
		return contrast(c, card) >= otherContrast+0.1 && contrast(c, ground) >= otherContrast
	})
	signal := func(light, darker string) color {
		s := must(light)
		if dark {
			s = must(darker)
		}
		return nearest(s, func(c color) bool { return on(card, tint(c))(c) })
	}
	danger, warn := signal("#a92a22", "#ff9d94"), signal("#7a4b00", "#f2c879")
	return &Palette{
		Ground: ground.String(), Card: card.String(), Raised: raised.String(), Text: text.String(), Soft: soft.String(),
		Line: mix(text, card, 0.14).String(), Field: field.String(),
		Accent: accent.String(), AccentStrong: accentStrong.String(), OnAccent: onAccent.String(), Tint: tint(accent).String(),
		Danger: danger.String(), DangerTint: tint(danger).String(), Warn: warn.String(), WarnTint: tint(warn).String(),
	}, nil
}

func (c *Colors) accent() string {
	if c == nil {
		return ""
	}
	return c.Accent
}

// readableOn returns white or a dark shade of a color: one of them is readable on every color.
func readableOn(c color) color {
	if white := (color{1, 1, 1}); contrast(white, c) >= textContrast {
		return white
	}
	dark := c.lab()
	dark.l, dark.a, dark.b = 0.22, dark.a/3, dark.b/3
	return nearest(dark.color(), func(d color) bool { return contrast(d, c) >= textContrast })
}

func tooFaint(name string, c color, behind string, passes func(color) bool) error {
	better := nearest(c, passes)
	if !passes(better) {
		return fmt.Errorf("%s: %s cannot be read on %s, and no other color can: they are too different from each other", name, c, behind)
	}
	return fmt.Errorf("%s: %s does not differ enough from %s to be read (WCAG 2.2, level AA, requires a contrast of 4.5); the nearest color that does is %s", name, c, behind, better)
}
