package ui

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

// notify redirects to the account page, which shows a notice once: the text with the key notice.NAME. The name of the notice is in
// a cookie that is bound to this session, so that a link on another site cannot make the page
// show one.
func (s *session) notify(w http.ResponseWriter, notice string) error {
	return s.notifyAt(w, "/account", notice)
}

// notifyAt is notify for another page that shows notices.
func (s *session) notifyAt(w http.ResponseWriter, path, notice string) error {
	identity.SetNoticeCookie(w, s.config.Issuer, notice+"."+noticeMAC(s.secret, notice))
	return s.redirect(w, path)
}

// notice returns the notice to show and clears its cookie; nil if there is none.
func (s *session) notice(w http.ResponseWriter, r *http.Request) *messages.Text {
	value := identity.NoticeCookie(r, s.config.Issuer)
	if value == "" {
		return nil
	}
	identity.ClearNoticeCookie(w, s.config.Issuer)
	name, mac, _ := strings.Cut(value, ".")
	if !hmac.Equal([]byte(mac), []byte(noticeMAC(s.secret, name))) || !messages.Has("notice."+name) {
		return nil
	}
	return text("notice." + name)
}

func noticeMAC(secret, notice string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("valetkey notice\x00" + notice))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
