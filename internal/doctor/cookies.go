package doctor

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/internal/cookiename"
	"github.com/valetkey/valetkey/internal/probe"
)

// checkCookies asks for a cookie like the server's own, and judges it as a browser would
// (RFC 6265bis, section 5.7).
func (r *run) checkCookies(ctx context.Context) string {
	if r.answer == nil {
		return r.unanswered()
	}
	_, received, err := r.ask(ctx, probe.Question{Cookies: true}, http.MethodGet, "/doctor", nil)
	if err != nil {
		return "the server did not answer: " + err.Error()
	}
	name := cookiename.Of(r.options.Issuer, "probe")
	var got *http.Cookie
	for _, cookie := range (&http.Response{Header: received.header}).Cookies() {
		if cookie.Name == name {
			got = cookie
		}
	}
	if got == nil {
		r.find("cookies.removed", "the response has no cookie %s", name)
	} else {
		r.judgeCookie(got)
	}
	a, _, err := r.ask(ctx, probe.Question{}, http.MethodGet, "/doctor", nil, "Cookie", name+"=1; second=2")
	if err == nil && !slices.Contains(a.Cookies, name) {
		r.find("cookies.not_forwarded", "the browser's cookies do not reach the server")
	}
	return ""
}

func (r *run) judgeCookie(got *http.Cookie) {
	consequence := ""
	if strings.HasPrefix(got.Name, "__Host-") {
		consequence = "; browsers drop cookies with the prefix __Host- unless they are Secure, have Path=/ and no Domain"
	}
	if r.issuer.Scheme == "https" && !got.Secure {
		r.find("cookies.not_secure", "Secure was removed%s", consequence)
	}
	if !got.HttpOnly {
		r.find("cookies.not_httponly", "HttpOnly was removed, so scripts can read the cookie")
	}
	if got.SameSite != http.SameSiteLaxMode {
		r.find("cookies.samesite_changed", "SameSite=Lax became %s", sameSite(got.SameSite))
	}
	if got.Path != "/" {
		r.find("cookies.path_changed", "Path=/ became Path=%s%s", got.Path, consequence)
	}
	if got.Domain != "" {
		r.find("cookies.domain_added", "Domain=%s was added%s", got.Domain, consequence)
	}
}

func sameSite(mode http.SameSite) string {
	switch mode {
	case http.SameSiteStrictMode:
		return "Strict, and the browser leaves the cookie out when an application sends the user here"
	case http.SameSiteNoneMode:
		return "None, and other sites can send requests with the cookie"
	}
	return "nothing"
}
