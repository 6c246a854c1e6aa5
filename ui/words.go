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
	"github.com/valetkey/valetkey/storage/record"
)

// errorText is the text of an error page.
type errorText struct {
	Title, Happened, Next string
	// hideDetails is set where the application's developers can do nothing about the error.
	hideDetails bool
}

// contactDevelopers is the advice where the application's request is at fault.
const contactDevelopers = "If this keeps happening, contact its developers and include the reference below."

var errorTexts = map[oauth.ErrorCode]errorText{
	authserver.PageUnknownClient: {
		Title:    "Unknown application",
		Happened: "The link you followed is for an application that is not registered with this service.",
		Next:     "Go back to the application and try again. " + contactDevelopers,
	},
	authserver.PageRedirectURI: {
		Title:    "Request blocked",
		Happened: "The application asked us to send you to an address that it has not registered. This may be a mistake by its developers, or an attempt to get into your account. Nothing was sent.",
		Next:     "Start again from the application’s own website. " + contactDevelopers,
	},
	authserver.PageRedirectURIMissing: {
		Title:    "Incomplete link",
		Happened: "The application did not say where to send you after you sign in. Nothing was sent.",
		Next:     "Start again from the application’s own website. " + contactDevelopers,
	},
	authserver.PageClientDocument: {
		Title:    "We could not identify this application",
		Happened: "The application’s developers publish its details on their website. We could not read these details, or they are not valid. Nothing was sent.",
		Next:     "Wait a moment, then start again from the application. " + contactDevelopers,
	},
	authserver.PageExpired: {
		Title:       "This page has expired",
		Happened:    "It has already been used or was open for too long. Pages like this one cannot be bookmarked.",
		Next:        "Go back to the application and start again. If you are still signed in here, you will not need your password.",
		hideDetails: true,
	},
	oauth.InvalidRequestURI: {
		Title:    "This link has expired",
		Happened: "The application’s link to this page was used already, or was open for too long.",
		Next:     "Go back to the application and start again. " + contactDevelopers,
	},
	authserver.PageOtherBrowser: {
		Title:       "Continue in the browser where you started",
		Happened:    "To protect your account, a sign-in must be completed in the browser where it was started. You also see this page if this browser has deleted its cookies since then.",
		Next:        "Go back to the browser where you started, or start again from the application in this one.",
		hideDetails: true,
	},
	authserver.PageOtherUser: {
		Title:       "This request is for another account",
		Happened:    "The application asked a different user for approval, not the one who is signed in here. Nothing was approved.",
		Next:        "Sign out, and open the link again to sign in with the other account. If you did not expect this request, you can close this page.",
		hideDetails: true,
	},
	pageNoCookies: {
		Title:       "Cookies are blocked",
		Happened:    "Your browser did not accept our cookie. We cannot sign you in without it.",
		Next:        "Allow cookies for this site in your browser’s settings. Then go back to the application and start again.",
		hideDetails: true,
	},
	oauth.AccessDenied: {
		Title:       "Sign-in canceled",
		Happened:    "The application did not get access to your account.",
		Next:        "You can close this page. To sign in, start again from the application.",
		hideDetails: true,
	},
	pageForeignForm: {
		Title:       "This form was sent from another site",
		Happened:    "To protect your account, we ignored it. Nothing was changed.",
		Next:        "If you meant to do this, open the page on this site and try again. Otherwise, you do not need to do anything.",
		hideDetails: true,
	},
	pageBadForm: {
		Title:       "We could not read the form",
		Happened:    "Your browser sent data that we did not expect. Nothing was changed.",
		Next:        "Go back, reload the page and try again.",
		hideDetails: true,
	},
	pageNotFound: {
		Title:       "Page not found",
		Happened:    "The address may be mistyped, or the page may have been removed.",
		Next:        "Check the address, or go to your account.",
		hideDetails: true,
	},
	pageSetupOver: {
		Title:       "This setup link is not valid",
		Happened:    "A setup link creates the first account. It works once and expires after a day. This one has been used, has expired or is incomplete.",
		Next:        "If you have an account, sign in. If there are no accounts yet, restart the server: it prints a new link.",
		hideDetails: true,
	},
	pageLinkOver: {
		Title:       "This link or code is no longer valid",
		Happened:    "It has been used or has expired, or a wrong code was entered too often. Nothing was changed.",
		Next:        "Ask for another message where you asked for the first one.",
		hideDetails: true,
	},
	pageAddressTaken: {
		Title:       "This address belongs to another account",
		Happened:    "The address is yours, but another account already has it. Nothing was changed.",
		Next:        "Sign in to the other account, or contact the people who run this service.",
		hideDetails: true,
	},
	pageMethod: {
		Title:       "This page cannot be opened directly",
		Happened:    "The address belongs to a form. Nothing was changed.",
		Next:        "Go to your account and use the form there.",
		hideDetails: true,
	},
	oauth.InvalidRequest: {
		Title:    "The application sent an invalid request",
		Happened: "The link you followed is incomplete or damaged.",
		Next:     "Go back to the application and try again. " + contactDevelopers,
	},
	oauth.TemporarilyUnavailable: {
		Title:       "The service is busy",
		Happened:    "We could not process your request right now.",
		Next:        "Wait a moment, then reload the page.",
		hideDetails: true,
	},
	oauth.ServerError: {
		Title:       "Something went wrong on our side",
		Happened:    "We could not complete your request. The error has been logged.",
		Next:        "Try again in a moment. If this keeps happening, contact support and include the reference below.",
		hideDetails: true,
	},
}

// standardScopes describes the scopes of OpenID Connect Core, sections 5.4 and 11.
var standardScopes = map[string]string{
	oauth.ScopeOpenID:        "Sign you in and recognize you when you return",
	oauth.ScopeProfile:       "See your profile, such as your name and picture",
	oauth.ScopeEmail:         "See your email address",
	oauth.ScopeAddress:       "See your postal address",
	oauth.ScopePhone:         "See your phone number",
	oauth.ScopeOfflineAccess: "Keep this access when you are not using the application",
}

// inWords returns the description of a scope. If there is none, it returns the scope's name
// and ok is false.
func inWords(scope record.Scope) (words string, ok bool) {
	if scope.Description != "" {
		return cutRunes(clean(scope.Description), 300), true
	}
	if words, ok = standardScopes[scope.Name]; ok {
		return words, true
	}
	return scope.Name, false
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

// browser returns a short name for the browser that sent a User-Agent.
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

// inTime describes how long to wait.
func inTime(d time.Duration) string {
	if d <= time.Second {
		return "in a second"
	}
	if d < 2*time.Minute {
		return fmt.Sprintf("in %d seconds", (d+time.Second-1)/time.Second)
	}
	return fmt.Sprintf("in %d minutes", (d+time.Minute-1)/time.Minute)
}

// ago describes how long ago something happened.
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

// moment is a time on a page, shown as a date or with the time of day. The server does not
// know the browser's time zone, so it renders UTC and says so; a script converts it.
type moment struct {
	time.Time
	Minute bool
}

// Machine returns the value of the datetime attribute.
func (m moment) Machine() string { return m.UTC().Format(time.RFC3339) }

// Words returns the text that is shown without scripts.
func (m moment) Words() string {
	if m.Minute {
		return m.UTC().Format("2 January 2006, 15:04 UTC")
	}
	return m.UTC().Format("2 January 2006")
}

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
	name, _ := user.Claims["name"].(string)
	v := personView{Name: cleanName(name), Detail: cleanName(user.Username)}
	if v.Name == "" {
		v.Name, v.Detail = v.Detail, cleanName(user.Email())
	}
	v.Badge = initial(v.Name)
	return &v
}
