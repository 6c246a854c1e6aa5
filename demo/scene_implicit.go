package demo

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/valetkey/valetkey/oauth"
)

func implicitScene() scene {
	return scene{
		key: "implicit", title: "Legacy: the implicit grant", button: "Sign in and show my photos",
		about:    "Before browsers could call a token endpoint, tokens came back in the fragment of the redirect URI, where scripts, the history and extensions can read them. The grant is off unless a client is registered for it. Use the code flow with PKCE instead.",
		clientID: "gallery", clientName: "Old gallery", applicationType: oauth.ApplicationWeb,
		grantTypes: []string{oauth.GrantTypeImplicit}, responseType: "id_token token",
		scopes:   []string{oauth.ScopeOpenID, scopeRead},
		callback: "/implicit/callback",
		breaks: []breakage{
			{key: "nonce", title: "Without a nonce", about: "Request an ID token without a nonce, which binds it to this browser.", only: true, code: oauth.InvalidRequest},
			{key: "unregistered", title: "Another application", about: "Request a token in the fragment as an application that is registered only for the code flow.", only: true, code: oauth.UnauthorizedClient},
			{key: "redirect", title: "Changed redirect URI", about: "Ask the server to send the token to another address.", only: true, code: pageError},
			{key: "expired", title: "Expired token", about: "Call the API with an access token that has expired; there is no refresh token.", code: oauth.InvalidToken},
		},
	}
}

const sendFragment = `const f = document.forms[0]; f.answer.value = location.hash.slice(1); history.replaceState(null, "", location.pathname); f.submit()`

// readFragment is the page at the redirect URI: the fragment stays in the browser, so a
// script brings it to the application.
func readFragment(w http.ResponseWriter, _ *http.Request) {
	hash := sha256.Sum256([]byte(sendFragment))
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; script-src 'sha256-"+base64.StdEncoding.EncodeToString(hash[:])+"'")
	// An error means that the client left.
	_, _ = fmt.Fprintf(w, `<!DOCTYPE html><html lang="en"><title>Valetkey demo</title><form method="post"><input type="hidden" name="answer"></form>`+
		`<noscript><p>The answer is in the fragment of this page's address, which only a script can read. The code flow needs none.</p></noscript><script>%s</script></html>`, sendFragment)
}
