package ui

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/ui/theme"
)

const logoWithScript = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 1"><script>alert(1)</script><rect width="2" height="1"/></svg>`

// The theme is a style sheet with a hash in its name. A client has its own on its pages. An SVG logo
// is served so that its scripts do not run.
func TestTheme(t *testing.T) {
	logo := filepath.Join(t.TempDir(), "logo.svg")
	if err := os.WriteFile(logo, []byte(logoWithScript), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(t2 theme.Theme) *theme.Loaded {
		loaded, err := t2.Load()
		if err != nil {
			t.Fatal(err)
		}
		return loaded
	}
	server := theme.Theme{Light: &theme.Colors{Accent: "#1d4ed8"}, Logo: logo}
	printer := theme.Theme{Light: &theme.Colors{Accent: "#9d174d"}}
	w := newWorldWithMail(t, func(c *Config) {
		c.Theme, c.ClientThemes = load(server), map[string]*theme.Loaded{"printer": load(printer.Over(server))}
	})
	w.addAlice()
	b := w.newBrowser()
	style := func(page response) string {
		t.Helper()
		match := regexp.MustCompile(`<link rel="stylesheet" href="(/assets/style\.[0-9a-f]{12}\.css)">`).FindStringSubmatch(page.body)
		if match == nil {
			t.Fatalf("no style sheet:\n%s", page.body)
		}
		css := b.get(match[1])
		css.want(t, 200, ".card")
		if cache := css.Header.Get("Cache-Control"); !strings.Contains(cache, "immutable") {
			t.Errorf("Cache-Control is %q", cache)
		}
		return css.body
	}
	if css := style(b.get("/sign-in")); !strings.Contains(css, "--accent: #1d4ed8;") {
		t.Errorf("the style sheet has another accent:\n%s", css[:800])
	}
	page := b.get(b.get(w.authorizeURL(nil)).redirected(t))
	if css := style(page); !strings.Contains(css, "--accent: #9d174d;") {
		t.Errorf("the client's page has another accent:\n%s", css[:800])
	}
	match := regexp.MustCompile(`<img class="logo" src="([^"]+)"`).FindStringSubmatch(page.body)
	if match == nil {
		t.Fatalf("no logo:\n%s", page.body)
	}
	served := b.get(match[1])
	served.want(t, http.StatusOK, "<svg")
	policy := served.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || !strings.HasSuffix(policy, "sandbox") || served.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("the policy of the logo is %q", policy)
	}
}
