package theme

import (
	"fmt"
	"strings"
)

// Variables returns the CSS that sets the variables of the pages' style sheet. fontURL and boldURL are
// the URLs of the font's files, "" if there are none.
func (l *Loaded) Variables(fontURL, boldURL string) string {
	var b strings.Builder
	face := func(url, weight string) {
		fmt.Fprintf(&b, "@font-face { font-family: \"%s\"; src: url(\"%s\") format(\"woff2\"); font-weight: %s; font-display: swap; }\n", l.FontFamily, url, weight)
	}
	switch {
	case boldURL != "":
		face(fontURL, "100 549")
		face(boldURL, "550 900")
	case fontURL != "":
		face(fontURL, "100 900")
	}
	fmt.Fprintf(&b, ":root {\n  --radius: %dpx;\n", l.Radius)
	if fontURL != "" {
		fmt.Fprintf(&b, "  --font: \"%s\", ", l.FontFamily)
		b.WriteString("system-ui, sans-serif;\n")
	}
	l.Light.write(&b, "  ")
	b.WriteString("}\n@media (prefers-color-scheme: dark) {\n  :root {\n")
	l.Dark.write(&b, "    ")
	b.WriteString("  }\n}\n")
	return b.String()
}

func (p *Palette) write(b *strings.Builder, indent string) {
	for _, v := range [...]struct{ name, value string }{
		{"ground", p.Ground}, {"card", p.Card}, {"raised", p.Raised}, {"text", p.Text}, {"soft", p.Soft}, {"line", p.Line}, {"field", p.Field},
		{"accent", p.Accent}, {"accent-strong", p.AccentStrong}, {"on-accent", p.OnAccent}, {"tint", p.Tint},
		{"danger", p.Danger}, {"danger-tint", p.DangerTint}, {"warn", p.Warn}, {"warn-tint", p.WarnTint},
	} {
		fmt.Fprintf(b, "%s--%s: %s;\n", indent, v.name, v.value)
	}
}
