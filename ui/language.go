package ui

import (
	"context"
	"net/http"
	"strings"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/ui/messages"
)

// localesParam is the parameter with which applications, and links between pages, ask for a language.
const localesParam = "ui_locales"

// Locales returns the languages of the pages, as BCP 47 tags.
func Locales() []string {
	var tags []string
	for _, l := range messages.All() {
		tags = append(tags, l.Tag)
	}
	return tags
}

// languageFor returns the language of a page: the one that the application asked for (ui_locales,
// OpenID Connect Core, section 3.1.2.1), or else the user's own setting, or else the browser's.
func (s *session) languageFor(r *http.Request, in *authserver.Interaction) *messages.Language {
	locales := param(r, localesParam)
	if in != nil && len(in.UILocales) > 0 {
		locales = strings.Join(in.UILocales, " ")
	}
	if l := messages.Match(strings.Fields(locales)...); l != nil {
		return l
	}
	if s.who != nil {
		if l := userLanguage(s.who.User); l != nil {
			return l
		}
	}
	return browserLanguage(r)
}

// cutLocales returns a list of preferred languages for links and forms; "" if it is too long.
func cutLocales(locales string) string {
	if len(locales) > 100 {
		return ""
	}
	return locales
}

// userLanguage returns the language that a user has chosen; nil if there is none.
func userLanguage(user *identity.User) *messages.Language {
	locale, _ := user.Claims["locale"].(string)
	return messages.Match(locale)
}

func browserLanguage(r *http.Request) *messages.Language {
	if l := messages.Accepted(r.Header.Get("Accept-Language")); l != nil {
		return l
	}
	return messages.English
}

// languageKey is the key of the language in the context of a request for a page.
type languageKey struct{}

func withLanguage(r *http.Request, s *session) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), languageKey{}, s))
}

// errorLanguage returns the language of an error page. The request may be one to the engine, which has
// no session of the pages.
func (u *UI) errorLanguage(r *http.Request, status int) *messages.Language {
	if s, ok := r.Context().Value(languageKey{}).(*session); ok {
		return s.language
	}
	s := &session{UI: u}
	if status < http.StatusInternalServerError {
		s.who, _ = u.signedIn(r) // without it, the language is the browser's
	}
	return s.languageFor(r, nil)
}

// text returns a text that is translated when the page is written.
func text(key string, args ...any) *messages.Text { return messages.New(key, args...) }
