package ui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// The language is that of ui_locales, or else the user's setting, or else the browser's.
func TestLanguageOfAPage(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	b := w.newBrowser()
	get := func(path, accept string) response {
		r := b.request("GET", path, nil)
		if accept != "" {
			r.Header.Set("Accept-Language", accept)
		}
		return b.do(r)
	}
	want := func(r response, language string) {
		t.Helper()
		if r.Header.Get("Content-Language") != language || !strings.Contains(r.body, `<html lang="`+language+`"`) {
			t.Errorf("%s: the language is %q, want %q", r.Request.URL, r.Header.Get("Content-Language"), language)
		}
		if vary := r.Header.Values("Vary"); !strings.Contains(strings.Join(vary, ", "), "Accept-Language") {
			t.Errorf("%s: Vary is %q", r.Request.URL, vary)
		}
	}
	want(get("/sign-in", ""), "en")
	want(get("/sign-in", "fi, de-AT;q=0.9, en;q=0.5"), "de")
	want(get("/sign-in?ui_locales=fr-CA+en", "de"), "fr")
	want(get("/no-such-page?ui_locales=fr", "de"), "fr")
	want(get("/no-such-page", "ar"), "ar")

	// The language that the application asks for stays on the pages that follow.
	page := get(b.get(w.authorizeURL(url.Values{"ui_locales": {"nl it"}})).redirected(t), "de")
	want(page, "nl")
	if page.hidden().Get("ui_locales") != "nl it" || !strings.Contains(page.body, "ui_locales=nl&#43;it") && !strings.Contains(page.body, "ui_locales=nl%20it") && !strings.Contains(page.body, "ui_locales=nl+it") {
		t.Errorf("the form or the links have no ui_locales:\n%s", page.body)
	}

	b.signIn("alice", password)
	want(get("/account", "de"), "de")
	saved := b.post("/account/language", url.Values{"locale": {"pl"}})
	saved.redirectedTo(t, "/account")
	want(get("/account", "de"), "pl")
	want(get("/account?ui_locales=es", "de"), "es")
	want(get("/no-such-page", "de"), "pl")
	if user, err := w.accounts.FindAny(t.Context(), "alice"); err != nil || user.Claims["locale"] != "pl" {
		t.Errorf("the claim locale is %v, %v", user.Claims["locale"], err)
	}
	b.post("/account/language", url.Values{"locale": {"tlh"}}).want(t, http.StatusBadRequest)
	b.post("/account/language", url.Values{"locale": {""}})
	want(get("/account", "de"), "de")
}
