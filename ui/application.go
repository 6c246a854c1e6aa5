package ui

import (
	"net/url"

	"github.com/valetkey/valetkey/storage/record"
)

// applicationURI returns the URL that leads back to an application whose request is gone: the
// URL that starts a sign-in, its home page, or the site that all its redirect URIs belong to. It
// comes from the stored client, never from the request. It is "" for an unvouched client and if
// there is no such URL.
func applicationURI(c *record.Client, issuer string) string {
	if c == nil || !c.Vouched() {
		return ""
	}
	if uri := initiateLogin(c.InitiateLoginURI, issuer); uri != "" {
		return uri
	}
	return homeURI(c)
}

// homeURI is like applicationURI, but does not start a sign-in.
func homeURI(c *record.Client) string {
	if c == nil || !c.Vouched() {
		return ""
	}
	if u, err := url.Parse(c.ClientURI); err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil {
		return c.ClientURI
	}
	origin := ""
	for _, uri := range c.RedirectURIs {
		u, err := url.Parse(uri)
		// A public client on http is a native one, whose port is no longer open.
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || c.Public()) {
			return ""
		}
		if at := u.Scheme + "://" + u.Host + "/"; origin == "" {
			origin = at
		} else if origin != at {
			return ""
		}
	}
	return origin
}
