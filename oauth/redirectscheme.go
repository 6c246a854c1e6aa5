package oauth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// CheckRedirectScheme returns an error if scheme must not be listed as a private-use scheme
// of redirect URIs. A scheme without a dot has no owner, so another application can register
// it too (RFC 8252, sections 7.1 and 8.4); only the operator may allow it. Schemes that
// browsers handle themselves never open an application.
func CheckRedirectScheme(scheme string) error {
	valid := len(scheme) >= 2 && len(scheme) <= 64 && 'a' <= scheme[0] && scheme[0] <= 'z' &&
		strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+-.") == ""
	switch {
	case !valid:
		return fmt.Errorf("%q is not a valid scheme: use lower case, without the colon, for example cursor (RFC 3986, section 3.1)", scheme)
	case scheme == "http" || scheme == "https":
		return errors.New("https and loopback http are always allowed: remove it from the list")
	case slices.Contains(browserSchemes, scheme) || strings.HasPrefix(scheme, "ms-") || strings.HasPrefix(scheme, "view-source"):
		return fmt.Errorf("the scheme %q cannot be used for redirect URIs: browsers or operating systems handle it themselves", scheme)
	}
	return nil
}

// browserSchemes are schemes whose URIs run code, contain their own document, read files,
// open arbitrary programs, or send network requests.
var browserSchemes = []string{
	"javascript", "vbscript", "livescript", "mocha", "data", "blob", "filesystem", "file", "about", "jar", "wyciwyg", "resource", "res", "mhtml", "mk", "its",
	"chrome", "chrome-extension", "chrome-search", "chrome-untrusted", "devtools", "edge", "brave", "opera", "moz-extension", "moz-icon", "safari-extension", "safari-web-extension", "extension",
	"intent", "android-app", "market", "itms", "itms-apps", "itms-services", "shell", "search-ms", "search", "cid", "mid", "content",
	"ws", "wss", "ftp", "ftps", "sftp", "ssh", "telnet", "gopher", "nfs", "smb", "afp", "dav", "davs", "ldap", "ldaps", "rtsp", "git", "ipp", "imap", "pop", "nntp", "news", "irc",
	"mailto", "tel", "sms", "smsto", "mms", "mmsto", "facetime", "geo", "webcal", "urn", "tag", "acct", "did", "magnet", "httpx", "shttp", "feed", "pcast",
}
