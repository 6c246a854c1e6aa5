package ui

import (
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/ui/messages"
)

// errorText is the text of an error page.
type errorText struct {
	// Key is the beginning of the keys of the texts.
	Key string
	// Developers is set where the application's developers may be able to do something about the error.
	Developers bool
}

// Title returns the heading of the page.
func (e errorText) Title() *messages.Text { return text("error." + e.Key + ".title") }

// Happened returns what happened.
func (e errorText) Happened() *messages.Text { return text("error." + e.Key + ".happened") }

// Next returns what the user can do.
func (e errorText) Next() *messages.Text { return text("error." + e.Key + ".next") }

var errorTexts = map[oauth.ErrorCode]errorText{
	authserver.PageUnknownClient:      {"unknown-client", true},
	authserver.PageRedirectURI:        {"redirect-uri", true},
	authserver.PageRedirectURIMissing: {"redirect-uri-missing", true},
	authserver.PageClientDocument:     {"client-document", true},
	authserver.PageExpired:            {"expired", false},
	oauth.InvalidRequestURI:           {"request-uri", true},
	authserver.PageOtherBrowser:       {"other-browser", false},
	authserver.PageOtherUser:          {"other-user", false},
	authserver.PageNotAllowed:         {"not-allowed", false},
	pageNoCookies:                     {"no-cookies", false},
	oauth.AccessDenied:                {"canceled", false},
	pageForeignForm:                   {"foreign-form", false},
	pageBadForm:                       {"bad-form", false},
	pageNotFound:                      {"not-found", false},
	pageSetupOver:                     {"setup-over", false},
	pageLinkOver:                      {"link-over", false},
	pageAddressTaken:                  {"address-taken", false},
	pageMethod:                        {"method", false},
	oauth.InvalidRequest:              {"invalid-request", true},
	oauth.TemporarilyUnavailable:      {"busy", false},
	oauth.ServerError:                 {"server", false},
}

// standardScopes are the keys of the descriptions of the scopes of OpenID Connect Core, sections 5.4 and 11.
var standardScopes = map[string]string{
	oauth.ScopeOpenID:        "scope.openid",
	oauth.ScopeProfile:       "scope.profile",
	oauth.ScopeEmail:         "scope.email",
	oauth.ScopeAddress:       "scope.address",
	oauth.ScopePhone:         "scope.phone",
	oauth.ScopeOfflineAccess: "scope.offline-access",
}

// inWords returns the description of a scope. If there is none, it returns the scope's name
// and ok is false.
func inWords(scope record.Scope) (words *messages.Text, ok bool) {
	if scope.Description != "" {
		return messages.Plain(cutRunes(clean(scope.Description), 300)), true
	}
	if key, ok := standardScopes[scope.Name]; ok {
		return text(key), true
	}
	return messages.Plain(scope.Name), false
}

// maxNameRunes limits the length of a displayed name.
const maxNameRunes = 100

// cleanName makes an untrusted name safe to show within a page's own text: one line, at most
// maxNameRunes characters, none of them invisible or changing the text direction.
func cleanName(s string) string { return cutRunes(clean(s), maxNameRunes) }

func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == unicode.ReplacementChar, unicode.In(r, unicode.C, unicode.Variation_Selector), !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

func cutRunes(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// clientName returns the name of an application as shown on the pages.
func clientName(c *record.Client) string {
	if name := cleanName(c.ClientName); name != "" {
		return name
	}
	if host := webHost(c.ClientURI); host != "" {
		return host
	}
	if oauth.IsClientIDURL(c.ID) {
		return webHost(c.ID)
	}
	return cleanName(c.ID)
}

// initial returns the letter for the badge of a name.
func initial(name string) string {
	for _, r := range name {
		if unicode.IsLetter(r) || unicode.IsNumber(r) {
			return string(unicode.ToUpper(r))
		}
	}
	return "•"
}

// webHost returns the host of an https or http URL, "" for anything else.
func webHost(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return cleanName(u.Host)
}

// httpsLink returns uri if a page may link to it as the site of the application's developers,
// and "" otherwise.
func httpsLink(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	return uri
}

// destination describes where a redirect URI leads. native is true for an application on the
// user's own device, which other programs there can impersonate (RFC 8252, section 8.6).
func destination(redirectURI string) (where *messages.Text, native bool) {
	u, err := url.Parse(redirectURI)
	if err != nil {
		return nil, false
	}
	if onThisDevice(u) {
		where := cleanName(u.Scheme)
		if u.Scheme == "https" || u.Scheme == "http" {
			where = cleanName(u.Host)
		}
		return text("destination.device", "where", where), true
	}
	return messages.Plain(cleanName(u.Host)), false
}

// onThisDevice reports whether a redirect URI leads to an application on the user's own device.
func onThisDevice(u *url.URL) bool {
	if u.Scheme != "https" && u.Scheme != "http" {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && addr.IsLoopback()
}

// browser returns a short name for the browser that sent a User-Agent.
func browser(userAgent string) *messages.Text {
	first := func(names ...[2]string) string {
		for _, n := range names {
			if strings.Contains(userAgent, n[0]) {
				return n[1]
			}
		}
		return ""
	}
	name := first([2]string{"Edg", "Edge"}, [2]string{"OPR/", "Opera"}, [2]string{"Firefox/", "Firefox"}, [2]string{"FxiOS/", "Firefox"},
		[2]string{"CriOS/", "Chrome"}, [2]string{"Chrome/", "Chrome"}, [2]string{"Safari/", "Safari"})
	system := first([2]string{"iPhone", "iPhone"}, [2]string{"iPad", "iPad"}, [2]string{"Android", "Android"}, [2]string{"Windows", "Windows"},
		[2]string{"Mac OS X", "macOS"}, [2]string{"CrOS", "ChromeOS"}, [2]string{"Linux", "Linux"})
	switch {
	case name != "" && system != "":
		return text("browser.on", "browser", name, "system", system)
	case name != "":
		return messages.Plain(name)
	case userAgent != "":
		return messages.Plain(cutRunes(clean(userAgent), 40))
	}
	return text("browser.unknown")
}

// inTime describes how long to wait.
func inTime(d time.Duration) *messages.Text {
	if d < 2*time.Minute {
		return text("time.in-seconds", "count", int(max(d+time.Second-1, time.Second)/time.Second))
	}
	return text("time.in-minutes", "count", int((d+time.Minute-1)/time.Minute))
}

// ago describes how long ago something happened.
func ago(d time.Duration) *messages.Text {
	return text("time.minutes-ago", "count", int(d/time.Minute))
}

// moment is a time on a page, shown as a date or with the time of day. The server does not
// know the browser's time zone, so it renders UTC and says so; a script converts it.
type moment struct {
	time.Time
	Minute bool
}

// Machine returns the value of the datetime attribute.
func (m moment) Machine() string { return m.UTC().Format(time.RFC3339) }

// sentence turns an error message that is written for end users into a sentence.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// personView is a user's name next to a round badge.
type personView struct{ Name, Detail, Badge string }

// person returns how a user is shown: full name, if known, and username.
func person(user *identity.User) *personView {
	if user == nil {
		return nil
	}
	name, _ := user.AllClaims()["name"].(string)
	v := personView{Name: cleanName(name), Detail: cleanName(user.Username)}
	if v.Name == "" {
		v.Name, v.Detail = v.Detail, cleanName(user.Email())
	}
	v.Badge = initial(v.Name)
	return &v
}
