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
		key: "implicit", title: "Implicit grant: tokens in the URL", button: "Sign in and show my photos",
		about:    "The tokens come back in the fragment of the redirect URI, where scripts, the browser history and extensions can read them. RFC 9700, section 2.1.2, advises against it. The grant is off unless a client is registered for it. Use the code flow with PKCE instead.",
		clientID: "gallery", clientName: "Old gallery", applicationType: oauth.ApplicationWeb,
		grantTypes: []string{oauth.GrantTypeImplicit}, responseType: "id_token token",
		scopes:   []string{oauth.ScopeOpenID, scopeRead},
		callback: "/implicit/callback",
		breaks: []breakage{
			{key: "nonce", title: "Without a nonce", about: "Request an ID token without a nonce, which ties it to this sign-in.", only: true, code: oauth.InvalidRequest},
			{key: "unregistered", title: "Another app", about: "Request tokens in the URL as an app that is registered for the code flow only.", only: true, code: oauth.UnauthorizedClient},
			{key: "redirect", title: "Changed redirect URI", about: "Ask the server to send the tokens to an address that is not registered.", only: true, code: pageError},
			{key: "expired", title: "Expired token", about: "Call the API with an expired access token. There is no refresh token.", code: oauth.InvalidToken},
		},
	}
}

const sendFragment = `const f = document.forms[0]; f.answer.value = location.hash.slice(1); history.replaceState(null, "", location.pathname); f.submit()`

// readFragment serves the page at the redirect URI. The fragment stays in the browser, so a
// script sends it to the application.
func readFragment(w http.ResponseWriter, _ *http.Request) {
	hash := sha256.Sum256([]byte(sendFragment))
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; script-src 'sha256-"+base64.StdEncoding.EncodeToString(hash[:])+"'")
	// An error means that the client left.
	_, _ = fmt.Fprintf(w, `<!DOCTYPE html><html lang="en"><title>Valetkey demo</title><form method="post"><input type="hidden" name="answer"></form>`+
		`<noscript><p>The response is in the fragment of this page's URL, which only a script can read. The code flow works without scripts.</p></noscript><script>%s</script></html>`, sendFragment)
}
