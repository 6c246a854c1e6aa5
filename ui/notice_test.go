package ui

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// The account page shows a notice once, after a form of the same session. Neither a link on
// another site nor a cookie of another session can make it show one.
func TestNoticesCannotBeForged(t *testing.T) {
	w := newWorld(t)
	w.addAlice()
	w.ui.config.SignUp = true
	b := w.newBrowser()
	page := b.get("/sign-up")
	b.post("/sign-up", with(page.hidden(), "username", "carol", "password", password)).redirectedTo(t, "/account")
	address, err := url.Parse(b.url)
	if err != nil {
		t.Fatal(err)
	}
	var planted, name string
	for _, cookie := range b.client.Jar.Cookies(address) {
		if strings.HasPrefix(cookie.Name, "valetkey_notice_") {
			planted, name = cookie.Value, cookie.Name
		}
	}
	if !strings.HasPrefix(planted, "welcome.") {
		t.Fatalf("the notice is %q", planted)
	}
	first := b.get("/account")
	first.want(t, 200, "Welcome! Your account is ready.")
	if strings.Contains(first.body, "dministrator") {
		t.Error("someone who signed up is told about administrators")
	}
	for _, target := range []string{"/account", "/account?done=password", "/account?done=welcome", "/account?done=setup"} {
		if again := b.get(target); strings.Contains(again.body, "Welcome!") || strings.Contains(again.body, "Your password has been changed") {
			t.Errorf("%s shows a notice of something that did not happen", target)
		}
	}
	other := w.newBrowser()
	other.signIn("alice", password).redirected(t)
	for _, value := range []string{planted, "password", "password.", strings.Replace(planted, "welcome", "password", 1)} {
		other.client.Jar.SetCookies(address, []*http.Cookie{{Name: name, Value: value, Path: "/"}})
		if page := other.get("/account"); strings.Contains(page.body, "Welcome!") || strings.Contains(page.body, "Your password has been changed") {
			t.Errorf("with the cookie %q, the page shows a notice of something that did not happen", value)
		}
	}
}
