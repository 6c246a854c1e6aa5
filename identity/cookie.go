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

// The base names of the cookies; internal/cookiename derives the full names from the issuer.
const (
	sessionCookie  = "valetkey_session"
	deviceCookie   = "valetkey_device"
	stateCookie    = "valetkey_state"
	noticeCookie   = "valetkey_notice"
	checkCookie    = "valetkey_check"
	browserCookie  = "valetkey_asked"
	signInCookie   = "valetkey_signin"
	passkeyCookie  = "valetkey_passkey"
	upgradeCookie  = "valetkey_upgrade"
	factorCookie   = "valetkey_factor"
	upstreamCookie = "valetkey_upstream"
	nextCookie     = "valetkey_next"
)

// SetSessionCookie sets a cookie with the secret of a session, which lasts until the browser is
// closed. For an http issuer, which is allowed only on loopback, the cookie has neither Secure
// nor the __Host- prefix.
//
// It also sets a cookie that scripts of this origin can read. Its value changes when a user signs
// in or out, and reveals nothing else (OpenID Connect Session Management, section 3.2).
func SetSessionCookie(w http.ResponseWriter, issuer, secret string) {
	http.SetCookie(w, newCookie(issuer, sessionCookie, secret))
	http.SetCookie(w, newStateCookie(issuer, BrowserState(sid(ticketkind.Session.Hash(secret)))))
}

// BrowserState returns the value of the readable cookie during a session.
func BrowserState(session string) string {
	sum := sha256.Sum256([]byte("valetkey browser state\x00" + session))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// BrowserStateCookie returns the name of the readable cookie.
func BrowserStateCookie(issuer string) string { return cookiename.Of(issuer, stateCookie) }

// newStateCookie returns a cookie that frames on other sites receive too, if the browser allows
// it.
func newStateCookie(issuer, value string) *http.Cookie {
	cookie := newCookie(issuer, stateCookie, value)
	cookie.HttpOnly = false
	if cookie.Secure { // browsers accept SameSite=None only with Secure
		cookie.SameSite = http.SameSiteNoneMode
	}
	return cookie
}

// ClearSessionCookie deletes the session cookie and the readable cookie.
func ClearSessionCookie(w http.ResponseWriter, issuer string) {
	for _, cookie := range []*http.Cookie{newCookie(issuer, sessionCookie, ""), newStateCookie(issuer, "")} {
		cookie.MaxAge = -1
		http.SetCookie(w, cookie)
	}
}

// SessionCookie returns the secret that a browser sent; "" if it sent none, or several, of which
// one may have been planted.
func SessionCookie(r *http.Request, issuer string) string {
	return readCookie(r, issuer, sessionCookie)
}

// SetDeviceCookie sets a cookie with the secret of RememberDevice, for half a year.
func SetDeviceCookie(w http.ResponseWriter, issuer, secret string) {
	cookie := newCookie(issuer, deviceCookie, secret)
	cookie.MaxAge = int(deviceLifetime / time.Second)
	http.SetCookie(w, cookie)
}

// SetNoticeCookie sets a cookie with the notice for the next page, for a minute.
func SetNoticeCookie(w http.ResponseWriter, issuer, value string) {
	cookie := newCookie(issuer, noticeCookie, value)
	cookie.MaxAge = 60
	http.SetCookie(w, cookie)
}

// NoticeCookie returns the notice that a browser sent; "" if it sent none or several.
func NoticeCookie(r *http.Request, issuer string) string { return readCookie(r, issuer, noticeCookie) }

// ClearNoticeCookie deletes the notice.
func ClearNoticeCookie(w http.ResponseWriter, issuer string) {
	cookie := newCookie(issuer, noticeCookie, "")
	cookie.MaxAge = -1
	http.SetCookie(w, cookie)
}

// SetNextCookie sets a cookie with the page to show after a sign-in, a path below the issuer, for ten
// minutes.
func SetNextCookie(w http.ResponseWriter, issuer, path string) {
	cookie := newCookie(issuer, nextCookie, base64.RawURLEncoding.EncodeToString([]byte(path)))
	cookie.MaxAge = 600
	http.SetCookie(w, cookie)
}

// NextCookie returns the page to show after a sign-in; "" if the browser sent none or several.
func NextCookie(r *http.Request, issuer string) string {
	path, err := base64.RawURLEncoding.DecodeString(readCookie(r, issuer, nextCookie))
	if err != nil {
		return ""
	}
	return string(path)
}

// ClearNextCookie deletes the page to show after a sign-in.
func ClearNextCookie(w http.ResponseWriter, issuer string) {
	cookie := newCookie(issuer, nextCookie, "")
	cookie.MaxAge = -1
	http.SetCookie(w, cookie)
}

// SetCheckCookie sets a cookie for a minute, to find out whether the browser accepts cookies.
func SetCheckCookie(w http.ResponseWriter, issuer string) {
	cookie := newCookie(issuer, checkCookie, "1")
	cookie.MaxAge = 60
	http.SetCookie(w, cookie)
}

// SetBrowserCookie sets a cookie with a secret that identifies the browser that asked for a message.
// It is kept for a day after the last request.
func SetBrowserCookie(w http.ResponseWriter, issuer, secret string) {
	cookie := newCookie(issuer, browserCookie, secret)
	cookie.MaxAge = int(emailLifetime / time.Second)
	http.SetCookie(w, cookie)
}

// BrowserCookie returns the secret that a browser sent; "" if it sent none or several, or one that
// this server did not make.
func BrowserCookie(r *http.Request, issuer string) string {
	secret := readCookie(r, issuer, browserCookie)
	if len(secret) != 43 {
		return ""
	}
	return secret
}

// SetSignInCookie sets a cookie with the secret of a sign-in in progress.
func SetSignInCookie(w http.ResponseWriter, issuer, secret string) {
	cookie := newCookie(issuer, signInCookie, secret)
	cookie.MaxAge = int(progressLifetime / time.Second)
	http.SetCookie(w, cookie)
}

// SignInCookie returns the secret that a browser sent; "" if it sent none or several.
func SignInCookie(r *http.Request, issuer string) string { return readCookie(r, issuer, signInCookie) }

// ClearSignInCookie deletes that cookie.
func ClearSignInCookie(w http.ResponseWriter, issuer string) {
	cookie := newCookie(issuer, signInCookie, "")
	cookie.MaxAge = -1
	http.SetCookie(w, cookie)
}

// SetPasskeyCookie sets a cookie with a secret to which the challenges for passkeys are bound, until the
// browser is closed.
func SetPasskeyCookie(w http.ResponseWriter, issuer, secret string) {
	http.SetCookie(w, newCookie(issuer, passkeyCookie, secret))
}

// PasskeyCookie returns the secret that a browser sent; "" if it sent none or several, or one that this
// server did not make.
func PasskeyCookie(r *http.Request, issuer string) string {
	secret := readCookie(r, issuer, passkeyCookie)
	if len(secret) != 43 {
		return ""
	}
	return secret
}

// SetUpgradeCookie remembers for 30 days that the browser could create a passkey after a sign-in with a
// password.
func SetUpgradeCookie(w http.ResponseWriter, issuer string) {
	cookie := newCookie(issuer, upgradeCookie, "1")
	cookie.MaxAge = 30 * 24 * 60 * 60
	http.SetCookie(w, cookie)
}

// UpgradeCookie returns the value of that cookie; "" if there is none.
func UpgradeCookie(r *http.Request, issuer string) string {
	return readCookie(r, issuer, upgradeCookie)
}

// SetFactorCookie sets a cookie with the secret of RememberFactor.
func SetFactorCookie(w http.ResponseWriter, issuer, secret string, lifetime time.Duration) {
	cookie := newCookie(issuer, factorCookie, secret)
	cookie.MaxAge = int(lifetime / time.Second)
	http.SetCookie(w, cookie)
}

// FactorCookie returns the secret that a browser sent; "" if it sent none or several.
func FactorCookie(r *http.Request, issuer string) string { return readCookie(r, issuer, factorCookie) }

// DeviceCookie returns the secret that a browser sent; "" if it sent none or several.
func DeviceCookie(r *http.Request, issuer string) string { return readCookie(r, issuer, deviceCookie) }

// SetUpstreamCookie sets a cookie with a secret that binds sign-ins at other providers to the browser.
// All tabs share it. It lasts until the browser is closed.
func SetUpstreamCookie(w http.ResponseWriter, issuer, secret string) {
	http.SetCookie(w, newCookie(issuer, upstreamCookie, secret))
}

// UpstreamCookie returns the secret that a browser sent; "" if it sent none or several.
func UpstreamCookie(r *http.Request, issuer string) string {
	secret := readCookie(r, issuer, upstreamCookie)
	if len(secret) > 128 {
		return ""
	}
	return secret
}

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
