package ui

import (
	"net/url"

	"github.com/valetkey/valetkey/authserver"
)

// applicationURI is where the user goes back to an application whose request is gone: where a
// sign-in to it begins, or its home page, or the site to which all its redirect URIs belong. It
// is what is stored for the client, never what a request says; "" for a client that nobody
// vouches for, and if there is no such address.
func applicationURI(c *authserver.Client, issuer string) string {
	if c == nil || !c.Vouched() {
		return ""
	}
	if uri := initiateLogin(c.InitiateLoginURI, issuer); uri != "" {
		return uri
	}
	return homeURI(c)
}

// homeURI is applicationURI without beginning a sign-in.
func homeURI(c *authserver.Client) string {
	if c == nil || !c.Vouched() {
		return ""
	}
	if u, err := url.Parse(c.ClientURI); err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil {
		return c.ClientURI
	}
	origin := ""
	for _, uri := range c.RedirectURIs {
		u, err := url.Parse(uri)
		// A public client on http is a native one with a port that is long gone.
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
