package identity

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/cookiename"
	"github.com/valetkey/valetkey/internal/ticketkind"
)

// The cookies; internal/cookiename makes their full names of these and the issuer.
const (
	sessionCookie = "valetkey_session"
	deviceCookie  = "valetkey_device"
	stateCookie   = "valetkey_state"
	noticeCookie  = "valetkey_notice"
	checkCookie   = "valetkey_check"
)

// SetSessionCookie gives the browser the secret of a session, for as long as it is open.
// An issuer of http, which only loopback may have, gets a cookie without Secure and
// without the prefix that demands it.
//
// Beside it goes a cookie that scripts of this origin may read: a value that changes when
// somebody signs in or out here, and says nothing else (OpenID Connect Session Management,
// section 3.2).
func SetSessionCookie(w http.ResponseWriter, issuer, secret string) {
	http.SetCookie(w, newCookie(issuer, sessionCookie, secret))
	http.SetCookie(w, newStateCookie(issuer, BrowserState(sid(ticketkind.Session.Hash(secret)))))
}

// BrowserState returns what the readable cookie holds during a session.
func BrowserState(session string) string {
	sum := sha256.Sum256([]byte("valetkey browser state\x00" + session))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// BrowserStateCookie is the name of the readable cookie.
func BrowserStateCookie(issuer string) string { return cookiename.Of(issuer, stateCookie) }

// newStateCookie returns a cookie that frames on other sites see too, where the browser
// lets them.
func newStateCookie(issuer, value string) *http.Cookie {
	cookie := newCookie(issuer, stateCookie, value)
	cookie.HttpOnly = false
	if cookie.Secure { // browsers take SameSite=None with it alone
		cookie.SameSite = http.SameSiteNoneMode
	}
	return cookie
}

// ClearSessionCookie takes the cookies back.
func ClearSessionCookie(w http.ResponseWriter, issuer string) {
	for _, cookie := range []*http.Cookie{newCookie(issuer, sessionCookie, ""), newStateCookie(issuer, "")} {
		cookie.MaxAge = -1
		http.SetCookie(w, cookie)
	}
}

// SessionCookie returns the secret that a browser sent; "" if it sent none, or several,
// of which one may be somebody else's.
func SessionCookie(r *http.Request, issuer string) string {
	return readCookie(r, issuer, sessionCookie)
}

// SetDeviceCookie gives the browser the secret of RememberDevice, for half a year.
func SetDeviceCookie(w http.ResponseWriter, issuer, secret string) {
	cookie := newCookie(issuer, deviceCookie, secret)
	cookie.MaxAge = int(deviceLifetime / time.Second)
	http.SetCookie(w, cookie)
}

// SetNoticeCookie gives the browser what the next page says, for a minute.
func SetNoticeCookie(w http.ResponseWriter, issuer, value string) {
	cookie := newCookie(issuer, noticeCookie, value)
	cookie.MaxAge = 60
	http.SetCookie(w, cookie)
}

// NoticeCookie returns the notice that a browser sent; "" if it sent none or several.
func NoticeCookie(r *http.Request, issuer string) string { return readCookie(r, issuer, noticeCookie) }

// ClearNoticeCookie takes the notice back.
func ClearNoticeCookie(w http.ResponseWriter, issuer string) {
	cookie := newCookie(issuer, noticeCookie, "")
	cookie.MaxAge = -1
	http.SetCookie(w, cookie)
}

// SetCheckCookie gives the browser a cookie for a minute, to see whether it keeps any.
func SetCheckCookie(w http.ResponseWriter, issuer string) {
	cookie := newCookie(issuer, checkCookie, "1")
	cookie.MaxAge = 60
	http.SetCookie(w, cookie)
}

// DeviceCookie returns the secret that a browser sent; "" if it sent none or several.
func DeviceCookie(r *http.Request, issuer string) string { return readCookie(r, issuer, deviceCookie) }

func newCookie(issuer, name, value string) *http.Cookie {
	secure := !strings.HasPrefix(issuer, "http://")
	return &http.Cookie{Name: cookiename.Of(issuer, name), Value: value, Path: "/", Secure: secure, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

func readCookie(r *http.Request, issuer, name string) string {
	cookies := r.CookiesNamed(cookiename.Of(issuer, name))
	if len(cookies) != 1 {
		return ""
	}
	return cookies[0].Value
}
