package theme

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Every color that the pages show on another one can be read, whatever the operator chooses.
func checkPalette(t interface{ Errorf(string, ...any) }, p *Palette) {
	for _, pair := range []struct {
		name, front, behind string
		least               float64
	}{
		{"text on card", p.Text, p.Card, 4.5}, {"text on ground", p.Text, p.Ground, 4.5}, {"text on raised", p.Text, p.Raised, 4.5},
		{"soft on card", p.Soft, p.Card, 4.5}, {"soft on ground", p.Soft, p.Ground, 4.5}, {"soft on raised", p.Soft, p.Raised, 4.5},
		{"accent on card", p.Accent, p.Card, 4.5}, {"accent on ground", p.Accent, p.Ground, 4.5}, {"on-accent on accent", p.OnAccent, p.Accent, 4.5},
		{"danger on card", p.Danger, p.Card, 4.5}, {"danger on its tint", p.Danger, p.DangerTint, 4.5}, {"warn on its tint", p.Warn, p.WarnTint, 4.5},
		{"accent-strong on tint", p.AccentStrong, p.Tint, 4.5},
		{"field on card", p.Field, p.Card, 3},
	} {
		if have := contrast(must(pair.front), must(pair.behind)); have < pair.least {
			t.Errorf("%s: %s on %s has the contrast %.2f, and needs %.1f", pair.name, pair.front, pair.behind, have, pair.least)
		}
	}
}

func TestDefaultIsReadable(t *testing.T) {
	l := Default()
	checkPalette(t, &l.Light)
	checkPalette(t, &l.Dark)
}

func TestAcceptedColorsAreReadable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hex := rapid.StringMatching(`#[0-9a-f]{6}`)
		theme := Theme{Light: &Colors{Accent: hex.Draw(t, "accent")}}
		if rapid.Bool().Draw(t, "all") {
			theme.Light.Background, theme.Light.Surface, theme.Light.Text = hex.Draw(t, "background"), hex.Draw(t, "surface"), hex.Draw(t, "text")
		}
		l, err := theme.Load()
		if err != nil {
			return
		}
		checkPalette(t, &l.Light)
		checkPalette(t, &l.Dark)
	})
}

// The color that an error suggests is accepted.
func TestFaintColorsAreRefused(t *testing.T) {
	for _, theme := range []Theme{
		{Light: &Colors{Accent: "#ffcc00"}}, {Light: &Colors{Text: "#999999"}}, {Dark: &Colors{Accent: "#333366"}},
		{Light: &Colors{Accent: "#1d6b55", OnAccent: "#1d6b60"}},
	} {
		_, err := theme.Load()
		if err == nil {
			t.Errorf("%+v is accepted", theme.Light)
			continue
		}
		_, better, ok := strings.Cut(err.Error(), "the nearest color that does is ")
		if !ok {
			t.Errorf("no suggestion: %v", err)
			continue
		}
		switch {
		case strings.HasPrefix(err.Error(), "light.on_accent"):
			theme.Light.OnAccent = better
		case strings.HasPrefix(err.Error(), "light.accent"):
			theme.Light.Accent = better
		case strings.HasPrefix(err.Error(), "light.text"):
			theme.Light.Text = better
		case strings.HasPrefix(err.Error(), "dark.accent"):
			theme.Dark.Accent = better
		default:
			t.Errorf("the error does not begin with the member: %v", err)
		}
		if _, err := theme.Load(); err != nil {
			t.Errorf("the suggestion is refused: %v", err)
		}
	}
	for _, wrong := range []string{"red", "#fff", "#12345g", "", "1d6b555"} {
		if _, err := (&Theme{Light: &Colors{Accent: "#1d6b55", Background: "#ffffff", OnAccent: wrong + "x"}}).Load(); err == nil {
			t.Errorf("%q is a color", wrong)
		}
	}
}

// A client's theme changes only what it names.
func TestOver(t *testing.T) {
	radius := 4
	base := Theme{Light: &Colors{Accent: "#1d3b85", OnAccent: "#eeeeff", Background: "#fafafa"}, Radius: &radius}
	merged := Theme{Light: &Colors{Accent: "#7a1f3d"}}.Over(base)
	if merged.Light.Background != "#fafafa" || merged.Light.Accent != "#7a1f3d" || merged.Light.OnAccent != "" || *merged.Radius != 4 {
		t.Errorf("%+v", merged.Light)
	}
}

func TestFiles(t *testing.T) {
	directory := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	svg := write("logo.svg", `<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><rect width="1" height="1"/></svg>`)
	if l, err := (&Theme{Logo: svg}).Load(); err != nil || l.Logo.ContentType != "image/svg+xml" {
		t.Errorf("%v", err)
	}
	for name, theme := range map[string]Theme{
		"HTML":           {Logo: write("page.svg", "<html><script>1</script></html>")},
		"no XML":         {Logo: write("text.svg", "hello")},
		"missing":        {Logo: filepath.Join(directory, "missing.svg")},
		"large":          {Logo: write("large.svg", "<svg>"+strings.Repeat(" ", maxPicture)+"</svg>")},
		"no font":        {Font: &Font{Family: "Inter", File: svg}},
		"a wrong family": {Font: &Font{Family: `a"; } body { display: none`, File: svg}},
		"only dark":      {LogoDark: svg},
	} {
		if _, err := theme.Load(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
