package ui

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// preferredLanguage returns the language tag that comes first for the user, whether or not the pages
// have the language: clients have their names in any language.
func (s *session) preferredLanguage(r *http.Request, in *authserver.Interaction) string {
	if in != nil && len(in.UILocales) > 0 {
		return in.UILocales[0]
	}
	if s.who != nil {
		if locale, _ := s.who.User.Claims["locale"].(string); locale != "" {
			return locale
		}
	}
	accepted := r.Header.Get("Accept-Language")
	if len(accepted) > 200 {
		return ""
	}
	tags, _, err := language.ParseAcceptLanguage(accepted)
	if err != nil || len(tags) == 0 {
		return ""
	}
	return tags[0].String()
}

// inLanguage returns a client's metadata member in a language: in exactly that language, in
// another variety of it, or else the member without a language tag (OpenID Connect
// Registration, section 2.1).
func inLanguage(c *record.Client, member, value, wanted string) string {
	if c.Registration == nil || wanted == "" {
		return value
	}
	base, _, _ := strings.Cut(wanted, "-")
	nearest := ""
	for name, text := range c.Registration.Localized {
		tag, ok := strings.CutPrefix(name, member+"#")
		if !ok {
			continue
		}
		if strings.EqualFold(tag, wanted) {
			return text
		}
		// The alphabetically first text, so that the result is deterministic.
		if have, _, _ := strings.Cut(tag, "-"); strings.EqualFold(have, base) && (nearest == "" || text < nearest) {
			nearest = text
		}
	}
	if nearest != "" {
		return nearest
	}
	return value
}

// translated returns a copy of a client whose displayed members are in the given language.
func translated(c *record.Client, wanted string) *record.Client {
	t := *c
	t.ClientName = inLanguage(c, "client_name", c.ClientName, wanted)
	t.ClientURI = inLanguage(c, "client_uri", c.ClientURI, wanted)
	t.LogoURI = inLanguage(c, "logo_uri", c.LogoURI, wanted)
	t.PolicyURI = inLanguage(c, "policy_uri", c.PolicyURI, wanted)
	t.TOSURI = inLanguage(c, "tos_uri", c.TOSURI, wanted)
	return &t
}

// clientOf returns the client's name as shown in a page's lead. The name of an unvouched
// client is followed by the host of its metadata document or of its redirect URI.
func (s *session) clientOf(r *http.Request, in *authserver.Interaction) string {
	name := clientName(translated(in.Client, s.preferredLanguage(r, in)))
	if oauth.IsClientIDURL(in.Client.ID) {
		if host := webHost(in.Client.ID); host != name {
			return name + " (" + host + ")"
		}
		return name
	}
	if u, err := url.Parse(in.RedirectURI); err == nil && !in.Client.Vouched() && !onThisDevice(u) && cleanName(u.Host) != name {
		return name + " (" + cleanName(u.Host) + ")"
	}
	return name
}

// logoPatience is how long a page waits for a logo that is not cached yet. The next page
// shows it.
const logoPatience = time.Second

// logoURL returns the URL of the logo of an interaction's client on this server; "" if there
// is no logo to show.
func (s *session) logoURL(r *http.Request, c *record.Client, interaction string) string {
	ctx, cancel := context.WithTimeout(r.Context(), logoPatience)
	defer cancel()
	if _, _, err := s.server.Logo(ctx, c, httpsLink(c.LogoURI)); err != nil {
		return "" // the engine has logged the reason
	}
	return s.base + "/logo?interaction=" + url.QueryEscape(interaction)
}

// showLogo serves the logo of an interaction's client. The request must belong to an open
// interaction, so that outsiders cannot make the server fetch URLs of their choice.
func (s *session) showLogo(w http.ResponseWriter, r *http.Request) error {
	in, err := s.server.Interaction(r, param(r, "interaction"))
	if err != nil || in.Client == nil {
		s.NotFound(w, r)
		return nil
	}
	contentType, body, err := s.server.Logo(r.Context(), in.Client, httpsLink(translated(in.Client, s.preferredLanguage(r, in)).LogoURI))
	if errors.Is(err, authserver.ErrNoLogo) || r.Context().Err() != nil {
		s.NotFound(w, r)
		return nil
	}
	if err != nil {
		return err
	}
	s.setCommonHeaders(w.Header())
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	w.Header().Set("Cache-Control", "private, max-age=600")
	w.Header().Set("Vary", "Cookie, Accept-Language")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	w.Write(body) // the browser went away if this fails
	return nil
}
