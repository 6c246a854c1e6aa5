package authserver

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"github.com/valetkey/valetkey/oauth"
)

// sessionState returns the session_state of an answer (OpenID Connect Session Management,
// section 3.2): the client, the origin of its page, the browser's state and a salt under a
// hash, so that the page can ask the frame below whether somebody else is signed in by now.
// It is "" where no page can ask.
func (c *call) sessionState(request *authorizationRequest, who *Authentication) string {
	if c.s.config.SignIn.BrowserStateCookie == "" || who.BrowserState == "" || !request.scope.Has(oauth.ScopeOpenID) {
		return ""
	}
	u, err := url.Parse(request.to.uri)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	salt := rand.Text()
	hash := sha256.Sum256([]byte(request.client.ID + " " + originOf(u) + " " + who.BrowserState + " " + salt))
	return hex.EncodeToString(hash[:]) + "." + salt
}

// originOf is what browsers call the origin of a page at u (HTML, section 7.1.1): without
// the port that its scheme has by default.
func originOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + host
}

// The frame answers "unchanged", "changed" or "error" (section 3.1). It asks nobody: the
// browser's state is in a cookie, which it can read as far as the browser lets frames on
// other sites do so.
const checkSessionScript = `"use strict";
const name = "COOKIE" + "=";
const state = () => (document.cookie.split("; ").find((c) => c.startsWith(name)) || name).slice(name.length);
addEventListener("message", async (event) => {
  const answer = (text) => event.source && event.source.postMessage(text, event.origin);
  try {
    const message = /^([\x21-\x7e]{1,512}) ([0-9a-f]{64})\.([0-9A-Za-z]{1,64})$/.exec(event.data);
    if (typeof event.data !== "string" || !message || event.origin === "null") return answer("error");
    const [, client, hash, salt] = message;
    const text = new TextEncoder().encode([client, event.origin, state(), salt].join(" "));
    const digest = Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", text)), (b) => b.toString(16).padStart(2, "0")).join("");
    answer(digest === hash ? "unchanged" : "changed");
  } catch {
    answer("error");
  }
});
`

// newCheckSessionPage makes the page and its Content-Security-Policy, once.
func newCheckSessionPage(cookie string) (page []byte, policy string) {
	script := strings.Replace(checkSessionScript, "COOKIE", template.JSEscapeString(cookie), 1)
	hash := sha256.Sum256([]byte(script))
	page = []byte(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Session</title></head><body><script>` + script + "</script></body></html>\n")
	policy = "default-src 'none'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors *"
	return page, policy
}

// checkSession is the OP iframe, the one page that anybody may frame: it shows nothing, can
// be given nothing but a question, and answers it for the asker's own origin.
func (c *call) checkSession() error {
	if c.s.config.SignIn.BrowserStateCookie == "" {
		return &oauth.Error{Code: oauth.InvalidRequest, Description: "there is no endpoint at this address", Status: http.StatusNotFound}
	}
	h := c.w.Header()
	h.Set("Content-Security-Policy", c.s.checkSessionPolicy)
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "public, max-age=3600")
	writeBytes(c.w, http.StatusOK, "text/html; charset=utf-8", c.s.checkSessionPage)
	return nil
}
