package demo

import (
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pquerna/otp/totp"
)

var authenticatorPage = sync.OnceValue(func() *template.Template {
	return template.Must(template.ParseFS(files, "authenticator.html"))
})

// maxKey is the length of the longest key that the authenticator app accepts.
const maxKey = 128

// setAuthenticatorKey keeps the key of an account for this visitor, like an authenticator app.
func (d *Demo) setAuthenticatorKey(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	v := d.visitors.of(w, r)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.appKey, v.appAlert = strings.ToUpper(strings.Join(strings.Fields(r.PostFormValue("key")), "")), ""
	if _, err := totp.GenerateCode(v.appKey, time.Now()); err != nil || v.appKey == "" || len(v.appKey) > maxKey {
		v.appKey, v.appAlert = "", "That is not a key. Copy all of its letters and digits."
	}
	http.Redirect(w, r, "/authenticator", http.StatusSeeOther)
}

// showAuthenticator shows the current code, or asks for a key.
func (d *Demo) showAuthenticator(w http.ResponseWriter, r *http.Request) {
	v := d.visitors.of(w, r)
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	view := struct {
		Code, Alert string
		Seconds     int
	}{"", v.appAlert, int((totpPeriod - time.Duration(now.UnixNano())%totpPeriod) / time.Second)}
	if v.appKey != "" {
		code, err := totp.GenerateCode(v.appKey, now)
		if err != nil {
			d.logger.ErrorContext(r.Context(), "code not computed", "error", err)
		}
		view.Code = code
	}
	v.appAlert = ""
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	if err := authenticatorPage().Execute(w, view); err != nil {
		d.logger.ErrorContext(r.Context(), "authenticator app not shown", "error", err)
	}
}
