package ui

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth"
)

// deadEnd says what happened, and what to do next.
type deadEnd struct {
	Title, Happened, Next string
	// own marks one that the application's developer can do nothing about.
	own bool
}

// tellDevelopers is what helps where the application's request is at fault.
const tellDevelopers = "If this keeps happening, contact its developers and give them the reference below."

var deadEnds = map[oauth.ErrorCode]deadEnd{
	authserver.PageUnknownClient: {
		Title:    "Unknown application",
		Happened: "The link that brought you here is for an application that is not registered with this service.",
		Next:     "Go back to the application and try again. " + tellDevelopers,
	},
	authserver.PageRedirectURI: {
		Title:    "Stopped for your safety",
		Happened: "The application asked us to send you to an address that it has not registered. It may be a mistake by its developers, or someone may be trying to get into your account. Nothing was sent.",
		Next:     "Start again from the application's own site. " + tellDevelopers,
	},
	authserver.PageRedirectURIMissing: {
		Title:    "Incomplete link",
		Happened: "The application did not say which of its addresses to send you back to. Nothing was sent.",
		Next:     "Start again from the application's own site. " + tellDevelopers,
	},
	authserver.PageClientDocument: {
		Title:    "We could not identify this application",
		Happened: "The application describes itself in a document on its developers' site. We could not read the document, or it is not valid. Nothing was sent.",
		Next:     "Wait a moment, then start again from the application. " + tellDevelopers,
	},
	authserver.PageExpired: {
		Title:    "This page has expired",
		Happened: "It was already used, or it was open for too long. Pages like this one cannot be bookmarked.",
		Next:     "Go back to the application and start again. If you are still signed in here, you will not need your password.",
		own:      true,
	},
	authserver.PageOtherBrowser: {
		Title:    "This was started in another browser",
		Happened: "For your safety, a sign-in has to be finished in the browser where it was started. The same happens if this browser has deleted its cookies since then.",
		Next:     "Go back to the browser where you started, or start again from the application in this one.",
		own:      true,
	},
	pageNoCookies: {
		Title:    "Cookies are turned off",
		Happened: "Your browser did not keep the cookie that we set just now. Without cookies, we cannot sign you in.",
		Next:     "Allow cookies for this site in your browser's settings. Then go back to the application and start again.",
		own:      true,
	},
	oauth.AccessDenied: {
		Title:    "You canceled the sign-in",
		Happened: "The application did not get access to anything.",
		Next:     "You can close this page. To sign in after all, start again from the application.",
		own:      true,
	},
	pageForeignForm: {
		Title:    "This form came from another site",
		Happened: "The form was not sent from one of our pages, so we ignored it.",
		Next:     "If you meant to do this, open the page here and try again. Otherwise, there is nothing you need to do.",
		own:      true,
	},
	pageBadForm: {
		Title:    "We could not read the form",
		Happened: "Your browser sent something that the form does not ask for, so we ignored it.",
		Next:     "Go back, reload the page and fill it in again.",
		own:      true,
	},
	pageNotFound: {
		Title:    "Page not found",
		Happened: "The address may be mistyped, or the page may have been removed.",
		Next:     "Check the address, or go to your account.",
		own:      true,
	},
	pageSetupOver: {
		Title:    "This link no longer works",
		Happened: "It creates the first account. It works once, and only for a day. It was already used, has expired or is incomplete.",
		Next:     "Sign in if you have an account. If there are no accounts yet, restart the server: it prints a new link.",
		own:      true,
	},
	pageMethod: {
		Title:    "This address cannot be opened directly",
		Happened: "It belongs to a form, and nothing happened.",
		Next:     "Go to your account and use the form there.",
		own:      true,
	},
	oauth.InvalidRequest: {
		Title:    "Something is wrong with the application's request",
		Happened: "The link that brought you here is incomplete or damaged.",
		Next:     "Go back to the application and try again. " + tellDevelopers,
	},
	oauth.TemporarilyUnavailable: {
		Title:    "The service is very busy",
		Happened: "We could not handle your request right now.",
		Next:     "Wait a moment, then reload the page.",
		own:      true,
	},
	oauth.ServerError: {
		Title:    "Something went wrong on our side",
		Happened: "This was not your fault. The error has been logged.",
		Next:     "Try again in a moment. If it happens again, contact us and give us the reference below.",
		own:      true,
	},
}

// standardScopes are the words for the scopes of OpenID Connect Core, sections 5.4 and 11.
var standardScopes = map[string]string{
	oauth.ScopeOpenID:        "Sign you in and recognize you when you return",
	oauth.ScopeProfile:       "See your profile, such as your name and picture",
	oauth.ScopeEmail:         "See your email address",
	oauth.ScopeAddress:       "See your postal address",
	oauth.ScopePhone:         "See your phone number",
	oauth.ScopeOfflineAccess: "Keep this access while you are away, until you revoke it",
}

// inWords says what a scope allows. ok is false if it has no description, and the words are
// the scope's name.
func inWords(scope authserver.Scope) (words string, ok bool) {
	if scope.Description != "" {
		return cutRunes(clean(scope.Description), 300), true
	}
	if words, ok = standardScopes[scope.Name]; ok {
		return words, true
	}
	return scope.Name, false
}

// maxNameRunes is how much of a name is shown.
const maxNameRunes = 100

// cleanName returns a name as it may be shown among our own words: in one line, without
// characters that are invisible or change the direction of what follows, at most 100
// characters.
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

// clientName is how an application is called on the pages.
func clientName(c *authserver.Client) string {
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

// initial is the letter in the badge of a name.
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

// httpsLink returns uri if a page may link to it as a site of the application's developers.
func httpsLink(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	return uri
}

// destination says where a redirect URI leads. native is true for an application on the
// person's own device, which others there can impersonate (RFC 8252, section 8.6).
func destination(redirectURI string) (where string, native bool) {
	u, err := url.Parse(redirectURI)
	if err != nil {
		return "", false
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return "an application on this device (" + cleanName(u.Scheme) + ")", true
	}
	if addr, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || err == nil && addr.IsLoopback() {
		return "an application on this device (" + cleanName(u.Host) + ")", true
	}
	return cleanName(u.Host), false
}

// browser says in a few words which browser sent a User-Agent.
func browser(userAgent string) string {
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
		return name + " on " + system
	case name != "":
		return name
	case userAgent != "":
		return cutRunes(clean(userAgent), 40)
	}
	return "Unknown browser"
}

// inTime says how long to wait.
func inTime(d time.Duration) string {
	if d <= time.Second {
		return "in a second"
	}
	if d < 2*time.Minute {
		return fmt.Sprintf("in %d seconds", (d+time.Second-1)/time.Second)
	}
	return fmt.Sprintf("in %d minutes", (d+time.Minute-1)/time.Minute)
}

// ago says how long something is past.
func ago(d time.Duration) string {
	switch minutes := int(d / time.Minute); minutes {
	case 0:
		return "less than a minute ago"
	case 1:
		return "a minute ago"
	default:
		return fmt.Sprintf("%d minutes ago", minutes)
	}
}

// moment is a time on a page: a day, or a minute too. The server does not know the browser's
// time zone, so it writes UTC and says so; a script shows the time there.
type moment struct {
	time.Time
	Minute bool
}

// Machine is the value of the attribute datetime.
func (m moment) Machine() string { return m.UTC().Format(time.RFC3339) }

func (m moment) Words() string {
	if m.Minute {
		return m.UTC().Format("2 January 2006, 15:04 UTC")
	}
	return m.UTC().Format("2 January 2006")
}

// sentence makes a sentence of an error that was written for people.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// personView is a person beside a round badge.
type personView struct{ Name, Detail, Badge string }

// person says who somebody is: their full name, if it is known, and how they sign in.
func person(user *identity.User) *personView {
	if user == nil {
		return nil
	}
	name, _ := user.Claims["name"].(string)
	v := personView{Name: cleanName(name), Detail: cleanName(user.Username)}
	if v.Name == "" {
		v.Name, v.Detail = v.Detail, cleanName(user.Email())
	}
	v.Badge = initial(v.Name)
	return &v
}
