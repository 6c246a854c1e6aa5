package oauth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// CheckRedirectScheme reports why scheme may not be listed as a private-use scheme of redirect
// URIs, or nil. One without a dot belongs to nobody, so that another application can take it
// (RFC 8252, sections 7.1 and 8.4): it is for the operator to list. What a browser does
// itself with a URI is never a way to an application.
func CheckRedirectScheme(scheme string) error {
	valid := len(scheme) >= 2 && len(scheme) <= 64 && 'a' <= scheme[0] && scheme[0] <= 'z' &&
		strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+-.") == ""
	switch {
	case !valid:
		return fmt.Errorf("%q is not a scheme in lower case such as cursor, without the colon (RFC 3986, section 3.1)", scheme)
	case scheme == "http" || scheme == "https":
		return errors.New("https, and http on loopback, need no listing")
	case slices.Contains(browserSchemes, scheme) || strings.HasPrefix(scheme, "ms-") || strings.HasPrefix(scheme, "view-source"):
		return fmt.Errorf("the scheme %q is never one of redirect URIs: browsers or systems act on it themselves", scheme)
	}
	return nil
}

// browserSchemes are schemes by which a URI runs code, shows a document of its own, reads
// files, opens any program, or goes over the network.
var browserSchemes = []string{
	"javascript", "vbscript", "livescript", "mocha", "data", "blob", "filesystem", "file", "about", "jar", "wyciwyg", "resource", "res", "mhtml", "mk", "its",
	"chrome", "chrome-extension", "chrome-search", "chrome-untrusted", "devtools", "edge", "brave", "opera", "moz-extension", "moz-icon", "safari-extension", "safari-web-extension", "extension",
	"intent", "android-app", "market", "itms", "itms-apps", "itms-services", "shell", "search-ms", "search", "cid", "mid", "content",
	"ws", "wss", "ftp", "ftps", "sftp", "ssh", "telnet", "gopher", "nfs", "smb", "afp", "dav", "davs", "ldap", "ldaps", "rtsp", "git", "ipp", "imap", "pop", "nntp", "news", "irc",
	"mailto", "tel", "sms", "smsto", "mms", "mmsto", "facetime", "geo", "webcal", "urn", "tag", "acct", "did", "magnet", "httpx", "shttp", "feed", "pcast",
}
