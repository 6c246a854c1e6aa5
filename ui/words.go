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
	// own marks one that is nothing an application's developer could mend.
	own bool
}

var deadEnds = map[oauth.ErrorCode]deadEnd{
	authserver.PageUnknownClient: {
		Title:    "This application is not known here",
		Happened: "The link that brought you here names an application that is not registered with this service, or no longer is.",
		Next:     "Go back to the application and try once more. If that does not help, tell its makers, and give them the reference below.",
	},
	authserver.PageRedirectURI: {
		Title:    "We stopped for your safety",
		Happened: "The application asked us to send you to an address that it has not registered. That can be a mistake of its makers, or somebody who tries to reach your account. Nothing was sent.",
		Next:     "Start again from the application's own site. If you land here again, tell its makers, and give them the reference below.",
	},
	authserver.PageRedirectURIMissing: {
		Title:    "The application's link is incomplete",
		Happened: "The application did not say which of its addresses we should send you back to. Nothing was sent.",
		Next:     "Start again from the application's own site. If you land here again, tell its makers, and give them the reference below.",
	},
	authserver.PageClientDocument: {
		Title:    "We cannot tell what this application is",
		Happened: "The application is known by a document on its makers' site. That could not be read just now, or is not as it should be. Nothing was sent.",
		Next:     "Wait a moment and start again from the application. If you land here again, tell its makers, and give them the reference below.",
	},
	authserver.PageExpired: {
		Title:    "This page is too old",
		Happened: "What you were about to do was left open for too long, or is finished already.",
		Next:     "Go back to the application and start again. You will not have to sign in twice.",
		own:      true,
	},
	authserver.PageOtherBrowser: {
		Title:    "This began in another browser",
		Happened: "For your safety, what begins in one browser must be finished there.",
		Next:     "Return to the browser in which you began, or go to the application in this one and start again.",
		own:      true,
	},
	pageNoCookies: {
		Title:    "Your browser sent no cookies",
		Happened: "We need one cookie to know that it is still you from one page to the next. Cookies seem to be switched off, or this address was opened in another browser than the one in which you began.",
		Next:     "Allow cookies for this site in your browser's settings. Then go back to the application and start again.",
		own:      true,
	},
	pageForeignForm: {
		Title:    "This came from another site",
		Happened: "The form that reached us was not sent from one of our own pages, so nothing was done.",
		Next:     "If you did mean to do this, open the page here and try again. If you did not, there is nothing that you need to do.",
		own:      true,
	},
	pageBadForm: {
		Title:    "We could not read the form",
		Happened: "What your browser sent was not what the form asks for, so nothing was done.",
		Next:     "Go back, load the page again and fill it in once more.",
		own:      true,
	},
	pageNotFound: {
		Title:    "There is nothing here",
		Happened: "The address may be mistyped, or the page may be gone.",
		Next:     "Check the address, or go to your account.",
		own:      true,
	},
	pageSetupOver: {
		Title:    "This link does not work any more",
		Happened: "It creates the first user, once, within a day. It was used, or it is old, or it is incomplete.",
		Next:     "Sign in if you have an account. If there are no users at all, start the server again: it prints a new link.",
		own:      true,
	},
	pageMethod: {
		Title:    "This page cannot be opened like that",
		Happened: "The address belongs to a form, and does nothing by itself.",
		Next:     "Go to your account and use the form there.",
		own:      true,
	},
	oauth.InvalidRequest: {
		Title:    "The application's request was not right",
		Happened: "The link that brought you here is incomplete or damaged, so we could not tell what the application wants.",
		Next:     "Go back to the application and try once more. If that does not help, tell its makers, and give them the reference below.",
	},
	oauth.TemporarilyUnavailable: {
		Title:    "We cannot get to your request right now",
		Happened: "Very many people are here, or a part of the service is not available.",
		Next:     "Wait a moment and load the page again.",
		own:      true,
	},
	oauth.ServerError: {
		Title:    "Something went wrong on our side",
		Happened: "That was not your mistake. What went wrong has been noted.",
		Next:     "Try again in a moment. If it happens again, tell us, and give us the reference below.",
		own:      true,
	},
}

// standardScopes are the words for the scopes of OpenID Connect Core, sections 5.4 and 11.
var standardScopes = map[string]string{
	oauth.ScopeOpenID:        "Sign you in, and recognise you when you return",
	oauth.ScopeProfile:       "See your profile, such as your name and picture",
	oauth.ScopeEmail:         "See your e-mail address",
	oauth.ScopeAddress:       "See your postal address",
	oauth.ScopePhone:         "See your phone number",
	oauth.ScopeOfflineAccess: "Keep this access while you are away, until you end it",
}

// inWords says what a scope allows. ok is false if nobody wrote it down, and the words
// are but the scope's name.
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

// httpsLink returns uri if it may stand in a link to a site of the application's makers.
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
	return "An unknown browser"
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

// day says when something was.
func day(t time.Time) string { return t.UTC().Format("2 January 2006") }

func minute(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") }

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
