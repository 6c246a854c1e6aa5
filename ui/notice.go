package ui

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/valetkey/valetkey/identity"
)

// notices are the messages that the account page shows once after a form.
var notices = map[string]string{
	"revoked":         "Access revoked.",
	"ended":           "Signed out on that device.",
	"request-denied":  "Request denied.",
	"request-gone":    "This request has expired or was already decided.",
	"password":        "Your password has been changed.",
	"password-others": "Your password has been changed, and you have been signed out on all other devices. Applications and devices that you connected there have no access until you sign in again. You stay signed in here.",
	"email":           "Your email address is confirmed.",
	"welcome":         "Welcome! Your account is ready.",
	"setup":           "Welcome! You are the administrator of this service.",
}

// notify redirects to the account page, which shows a notice once. The name of the notice is in
// a cookie that is bound to this session, so that a link on another site cannot make the page
// show one.
func (s *session) notify(w http.ResponseWriter, notice string) error {
	identity.SetNoticeCookie(w, s.config.Issuer, notice+"."+noticeMAC(s.secret, notice))
	return s.redirect(w, "/account")
}

// notice returns the notice to show and clears its cookie; "" if there is none.
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
