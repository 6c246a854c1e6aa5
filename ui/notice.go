package ui

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/valetkey/valetkey/identity"
)

// notices are what the account page says once after a form.
var notices = map[string]string{
	"revoked":         "Access has been revoked.",
	"ended":           "That browser has been signed out.",
	"password":        "Your password has been changed.",
	"password-others": "Your password has been changed and you have been signed out everywhere else. Other browsers, and the applications and devices that you connected there, have no access until you sign in again. This browser stays signed in, and so do the applications you use in it.",
	"welcome":         "Welcome. Your account is ready.",
	"setup":           "Welcome. You are the first user of this service.",
}

// notify sends the browser to the account page, which says something once. What it says
// travels in a cookie that only this session can have been given: a link from elsewhere must
// not put words on the page.
func (s *session) notify(w http.ResponseWriter, notice string) error {
	identity.SetNoticeCookie(w, s.config.Issuer, notice+"."+noticeMAC(s.secret, notice))
	return s.redirect(w, "/account")
}

// notice returns what the page must say, once; "" if that is nothing.
func (s *session) notice(w http.ResponseWriter, r *http.Request) string {
	value := identity.NoticeCookie(r, s.config.Issuer)
	if value == "" {
		return ""
	}
	identity.ClearNoticeCookie(w, s.config.Issuer)
	name, mac, _ := strings.Cut(value, ".")
	if !hmac.Equal([]byte(mac), []byte(noticeMAC(s.secret, name))) {
		return ""
	}
	return notices[name]
}

func noticeMAC(secret, notice string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("valetkey notice\x00" + notice))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
