package ui

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth"
)

// cookieCheck is the parameter that contains the time at which a test cookie was set.
const cookieCheck = "cookie_check"

// cookieCheckLasts limits the age of that parameter. An older one comes from a bookmark and
// proves nothing.
const cookieCheckLasts = 15 * time.Second

// missingCookies handles a request without cookies for a page that needs them. A fresh browser
// that opens a bookmark has no cookies either, so the first such request sets a cookie and
// redirects to the same page. If the cookie does not come back, the browser blocks cookies, and
// missingCookies writes the error page for that. It reports whether it wrote a pageResponse.
func (s *session) missingCookies(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Cookie") != "" {
		return false
	}
	now := time.Now()
	if set, err := strconv.ParseInt(param(r, cookieCheck), 10, 64); err == nil && now.Sub(time.Unix(set, 0)).Abs() < cookieCheckLasts {
		s.clientError(w, r, http.StatusBadRequest, pageNoCookies)
		return true
	}
	query := url.Values{cookieCheck: {strconv.FormatInt(now.Unix(), 10)}}
	for _, name := range []string{"interaction", "client_id", signedInParam} {
		if value := param(r, name); value != "" {
			query.Set(name, value)
		}
	}
	path := r.URL.Path[len(s.base):]
	if r.Method == http.MethodPost { // some pages have no GET
		path = "/sign-in"
	}
	identity.SetCheckCookie(w, s.config.Issuer)
	_ = s.redirect(w, path+"?"+query.Encode()) // returns no error
	return true
}

// clientError writes an error page with a link to the client that the request names.
func (s *session) clientError(w http.ResponseWriter, r *http.Request, status int, code oauth.ErrorCode) {
	e := authserver.PageError{Status: status, Code: code, Client: s.server.PageClient(r)}
	s.ErrorPage(w, r, e)
}
