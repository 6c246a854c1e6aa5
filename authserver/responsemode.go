package authserver

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
)

// responseMode is a way to carry the authorization response (OAuth 2.0 Multiple Response
// Type Encoding Practices, section 2.1; OAuth 2.0 Form Post Response Mode).
type responseMode struct {
	name  string
	write func(c *call, to redirectTarget, response params) error
}

func responseModes() []responseMode {
	return []responseMode{
		{"query", (*call).respondInQuery},
		{"fragment", (*call).respondInFragment},
		{"form_post", (*call).respondByForm},
	}
}

// redirectTarget is a redirect URI that was found to be the client's own. Only
// verifyRedirectURI makes one, and the writers below need one: a redirect to anywhere
// else does not compile.
type redirectTarget struct {
	uri  string
	mode string
}

// respond sends the browser back to the client with the response.
func (c *call) respond(to redirectTarget, response params) error {
	for _, m := range responseModes() {
		if m.name == to.mode {
			return m.write(c, to, response)
		}
	}
	return fmt.Errorf("respond: no response mode %q", to.mode)
}

func (c *call) respondInQuery(to redirectTarget, response params) error {
	c.redirect(to.uri + querySeparator(to.uri) + response.encode())
	return nil
}

// querySeparator is what stands between a URI and further query parameters.
func querySeparator(uri string) string {
	switch {
	case !strings.Contains(uri, "?"):
		return "?"
	case strings.HasSuffix(uri, "?") || strings.HasSuffix(uri, "&"):
		return ""
	}
	return "&"
}

func (c *call) respondInFragment(to redirectTarget, response params) error {
	c.redirect(to.uri + "#" + response.encode())
	return nil
}

// redirect answers 303: a browser that posted a password never posts it again (RFC 9700,
// section 4.12).
func (c *call) redirect(location string) {
	noStore(c.w)
	c.w.Header()["Referrer-Policy"] = []string{"no-referrer"}
	c.w.Header()["Location"] = []string{location}
	c.w.Header()["Content-Length"] = []string{"0"}
	c.w.WriteHeader(http.StatusSeeOther)
}

// The page of form_post sends itself where scripts run, and has a button where not.
const submitScript = `document.forms[0].submit()`

var formPostPage = template.Must(template.New("form_post").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Returning to the application</title></head>
<body><form method="post" action="{{.Action}}">
{{range .Fields}}<input type="hidden" name="{{.Name}}" value="{{.Value}}">
{{end}}<noscript><p>Press the button to return to the application.</p><button type="submit">Continue</button></noscript>
</form><script>` + submitScript + `</script></body></html>
`))

func (c *call) respondByForm(to redirectTarget, response params) error {
	type field struct{ Name, Value string }
	page := struct {
		Action template.URL // verified: it is a registered redirect URI
		Fields []field
	}{Action: template.URL(to.uri)}
	for _, p := range response {
		page.Fields = append(page.Fields, field{p.name, p.value})
	}
	var b strings.Builder
	if err := formPostPage.Execute(&b, page); err != nil {
		return fmt.Errorf("write form_post page: %w", err)
	}
	hash := sha256.Sum256([]byte(submitScript))
	h := c.w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'sha256-"+base64.StdEncoding.EncodeToString(hash[:])+
		"'; form-action "+formAction(to.uri)+"; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	if c.s.secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	noStore(c.w)
	writeBytes(c.w, http.StatusOK, "text/html; charset=utf-8", []byte(b.String()))
	return nil
}

// formAction returns the form-action source that lets a form lead to a redirect URI. It
// names the scheme and not the host: Chromium applies the directive to each further
// redirect that the client makes, to its own pages on other hosts for instance.
func formAction(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return "'none'"
	}
	if host := u.Hostname(); u.Scheme == "http" && (host == "localhost" || host == "127.0.0.1") {
		return "http://127.0.0.1:* http://localhost:*"
	}
	return u.Scheme + ":" // a source cannot name an IPv6 address
}
