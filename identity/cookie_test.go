package identity_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/identity"
)

// set returns the cookies that a function sets.
func set(f func(w http.ResponseWriter)) []*http.Cookie {
	w := httptest.NewRecorder()
	f(w)
	return w.Result().Cookies()
}

func requestWith(cookies ...*http.Cookie) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://login.example.com/", nil)
	for _, cookie := range cookies {
		r.AddCookie(cookie)
	}
	return r
}

const cookieIssuer = "https://login.example.com"

func TestSE01_CookieAttributes(t *testing.T) {
	session := set(func(w http.ResponseWriter) { identity.SetSessionCookie(w, cookieIssuer, "session-secret") })
	device := set(func(w http.ResponseWriter) { identity.SetDeviceCookie(w, cookieIssuer, "device-secret") })
	secrets := 0
	for _, cookie := range append(session, device...) {
		if !strings.HasPrefix(cookie.Name, "__Host-") || !cookie.Secure || cookie.Path != "/" || cookie.Domain != "" {
			t.Errorf("%s can be planted or read by another host: %v", cookie.Name, cookie)
		}
		if strings.Contains(cookie.Value, "secret") {
			secrets++
			if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode {
				t.Errorf("%s can be read by scripts, or is sent with requests of other sites: %v", cookie.Name, cookie)
			}
		}
	}
	if secrets != 2 {
		t.Errorf("%d cookies contain a secret: the one that scripts read must not", secrets)
	}
	if got := identity.SessionCookie(requestWith(session...), cookieIssuer); got != "session-secret" {
		t.Errorf("the session is %q", got)
	}
	for _, cookie := range set(func(w http.ResponseWriter) { identity.ClearSessionCookie(w, cookieIssuer) }) {
		if cookie.MaxAge >= 0 || cookie.Value != "" {
			t.Errorf("%s is not deleted", cookie.Name)
		}
	}
}

// Only a single cookie with the exact name and for the issuer's scheme is accepted.
func TestSE01_OtherCookiesAreIgnored(t *testing.T) {
	session := set(func(w http.ResponseWriter) { identity.SetSessionCookie(w, cookieIssuer, "secret") })[0]
	device := set(func(w http.ResponseWriter) { identity.SetDeviceCookie(w, cookieIssuer, "device") })[0]
	bare := &http.Cookie{Name: strings.TrimPrefix(session.Name, "__Host-"), Value: "planted"}
	for name, cookies := range map[string][]*http.Cookie{
		"none":                         nil,
		"two, of which one is planted": {session, {Name: session.Name, Value: "planted"}},
		"the device's":                 {device},
		"without the prefix":           {bare},
		"under another case":           {{Name: strings.ToUpper(session.Name), Value: "secret"}},
	} {
		if got := identity.SessionCookie(requestWith(cookies...), cookieIssuer); got != "" {
			t.Errorf("%s: the session is %q", name, got)
		}
	}
	if got := identity.SessionCookie(requestWith(session, bare, device), cookieIssuer); got != "secret" {
		t.Errorf("with other cookies: %q", got)
	}
	if got := identity.DeviceCookie(requestWith(session), cookieIssuer); got != "" {
		t.Errorf("the session cookie is accepted as a device cookie: %q", got)
	}
}

// The value that scripts can read changes with the session, and does not reveal it.
func TestReadableCookieRevealsNothing(t *testing.T) {
	value := func(secret string) string {
		for _, cookie := range set(func(w http.ResponseWriter) { identity.SetSessionCookie(w, cookieIssuer, secret) }) {
			if !cookie.HttpOnly {
				return cookie.Value
			}
		}
		return ""
	}
	one, two := value("one"), value("two")
	if one == "" || one == two || one != value("one") || strings.Contains(one, "one") {
		t.Errorf("%q and %q", one, two)
	}
}
