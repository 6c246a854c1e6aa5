package authserver

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// These are the functions that pages call, those of package ui and an embedder's own.

// newCall returns a call for a request to a page.
func (s *Server) newCall(w http.ResponseWriter, r *http.Request) *call {
	return &call{s: s, w: w, r: r, now: time.Now(), endpoint: s.routes[s.basePath+"/authorize"]}
}

// finish responds with an error, if there is one, and ends the call.
func (c *call) finish(err error) {
	if err != nil {
		c.fail(err)
	}
	c.ended(err)
}

// Interaction returns an interaction of the browser that sent r. The error is
// ErrInteractionExpired, ErrOtherBrowser or another one. InteractionError writes the page for
// each of them.
func (s *Server) Interaction(r *http.Request, id string) (*Interaction, error) {
	c := s.newCall(nil, r)
	data, err := c.loadInteraction(id)
	if err != nil {
		return nil, err
	}
	who, err := s.config.Users.SignedIn(r)
	if err != nil {
		return nil, fmt.Errorf("get the signed-in user: %w", err)
	}
	if data.Ended != nil {
		return endedInteraction(id, data.Ended), nil
	}
	if data.Logout {
		return c.logoutInteraction(id, data, who)
	}
	i, err := c.resume(id)
	if err != nil {
		return nil, err
	}
	return c.describe(i, who)
}

func (c *call) describe(i *interaction, who *Authentication) (*Interaction, error) {
	request := i.request
	shown := &Interaction{
		ID: i.id, Client: request.client.Client, LoginHint: request.loginHint, ACRValues: request.acrValues, UILocales: request.uiLocales,
		OfflineAccess:  request.scope.Has(oauth.ScopeOfflineAccess),
		Reauthenticate: slices.Contains(request.prompt, promptLogin) || request.maxAge == 0, MaxAge: max(request.maxAge, 0),
	}
	c.describeSignIn(shown, i, who)
	switch {
	case i.device != nil:
		shown.Device = i.device.describe()
	case i.backchannel != nil:
		shown.Backchannel = i.backchannel.describe()
	default:
		shown.RedirectURI, shown.FormAction = request.to.uri, formAction(request.to.uri)
	}
	var grant *record.Grant
	if who != nil {
		next, before, err := c.decide(i, who)
		if err != nil {
			return nil, err
		}
		if next != nextSignIn {
			shown.Subject = who.Subject
		}
		grant = before
		if next == nextSignIn && slices.Contains(request.prompt, promptSelectAccount) {
			chosen := *i
			chosen.selected = who.Subject
			if next, _, err := c.decide(&chosen, who); err == nil && next != nextSignIn {
				shown.Selectable = who.Subject
			}
		}
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	if shown.FirstTime = grant == nil; shown.FirstTime {
		if shown.Newcomer, err = c.newcomer(); err != nil {
			return nil, err
		}
	}
	for _, name := range request.consent {
		shown.Scopes = append(shown.Scopes, InteractionScope{
			Scope: catalogue.scopes[name], Granted: grant != nil && grant.Scope.Has(name),
			Declined: grant != nil && grant.Declined.Has(name),
		})
	}
	for j := range catalogue.resources {
		r := &catalogue.resources[j]
		if slices.Contains(request.audience, r.Identifier) {
			shown.Resources = append(shown.Resources, *r)
		}
	}
	shown.AuthorizationDetails, err = c.describeDetails(request)
	return shown, err
}

// Authenticated is called after the user has signed in. It writes the response: a redirect to the
// next page or to the client.
func (s *Server) Authenticated(w http.ResponseWriter, r *http.Request, id string, a Authentication) {
	c := s.newCall(w, r)
	c.finish(c.withInteraction(id, func(i *interaction) error { return c.advance(i, &a) }))
}

// Selected is called after the user has chosen to continue as the signed-in subject
// (Interaction.Selectable). It writes the response.
func (s *Server) Selected(w http.ResponseWriter, r *http.Request, id, subject string) {
	c := s.newCall(w, r)
	c.finish(c.withInteraction(id, func(i *interaction) error {
		who, err := s.config.Users.SignedIn(r)
		if err != nil {
			return fmt.Errorf("get the signed-in user: %w", err)
		}
		if err := c.selectAccount(i, subject); err != nil {
			return err
		}
		return c.advance(i, who)
	}))
}

// Consented is called with what the user allowed on the consent page. It writes the response.
func (s *Server) Consented(w http.ResponseWriter, r *http.Request, id string, answer ConsentAnswer) {
	c := s.newCall(w, r)
	c.finish(c.withInteraction(id, func(i *interaction) error { return c.consented(i, answer) }))
}

func (c *call) consented(i *interaction, answer ConsentAnswer) error {
	who, err := c.s.config.Users.SignedIn(c.r)
	if err != nil {
		return fmt.Errorf("get the signed-in user: %w", err)
	}
	next, _, err := c.decide(i, who)
	if err != nil {
		return c.refuseAuthorization(i.request, err)
	}
	if next == nextSignIn || who.Subject != answer.Subject {
		// The user who saw the page is not signed in any more.
		return c.advance(i, who)
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return err
	}
	var allowed oauth.Scope
	for _, name := range i.request.consent {
		if answer.Scope.Has(name) || !catalogue.scopes[name].Optional {
			allowed = append(allowed, name)
		}
	}
	if _, err := c.putGrant(catalogue, i.request, who.Subject, allowed); err != nil {
		return err
	}
	i.allowed = true
	return c.advance(i, who)
}

// Refused is called after the user has refused consent. It writes the response: access_denied to
// the client.
func (s *Server) Refused(w http.ResponseWriter, r *http.Request, id string) {
	c := s.newCall(w, r)
	c.finish(c.withInteraction(id, func(i *interaction) error {
		if i.backchannel != nil {
			return c.denyBackchannel(i)
		}
		c.refusal.kind = event.ConsentRefused
		if who, err := s.config.Users.SignedIn(r); err == nil && who != nil {
			c.refusal.members = []slog.Attr{s.namedSubject(r.Context(), who.Subject)}
		}
		return c.endRefused(i)
	}))
}

// Canceled is called after the user has canceled the sign-in. It writes the response:
// access_denied to the client. If no one vouches for the client, and the user has not allowed it
// anything before, the response is a page instead of a redirect (RFC 9700, section 4.11.2).
func (s *Server) Canceled(w http.ResponseWriter, r *http.Request, id string) {
	c := s.newCall(w, r)
	c.finish(c.withInteraction(id, func(i *interaction) error {
		if i.backchannel != nil {
			// Whoever has the link can get here without being the user, so the request stays.
			if err := c.abandonInteraction(i); err != nil {
				return err
			}
			c.redirect(s.basePath + s.config.Pages.Approve + "?answer=later")
			return nil
		}
		if i.device == nil && !c.trusted(i.request.client) {
			if err := c.abandonInteraction(i); err != nil {
				return err
			}
			return c.must(false, &ruleNotCanceled)
		}
		return c.endRefused(i)
	}))
}

// endRefused ends an interaction and returns access_denied to the client.
func (c *call) endRefused(i *interaction) error {
	if i.device != nil {
		c.logRefusal(oauth.NewError(ruleNotRefused.code, ruleNotRefused.says), nil)
		return c.decideDevice(i, deviceDecision{Denied: true})
	}
	if err := c.abandonInteraction(i); err != nil {
		return err
	}
	return c.refuseAuthorization(i.request, c.must(false, &ruleNotRefused))
}

// abandonInteraction ends an interaction without a code or token, and its request with it.
func (c *call) abandonInteraction(i *interaction) error {
	if i.ticket != nil {
		return c.endInteraction(i, nil)
	}
	if err := c.s.config.Store.Delete(c.r.Context(), ticketkind.Interaction.Hash(i.id)); err != nil {
		return fmt.Errorf("end interaction: %w", err)
	}
	return nil
}

// InteractionError writes the page for an error of Interaction.
func (s *Server) InteractionError(w http.ResponseWriter, r *http.Request, err error) {
	c := s.newCall(w, r)
	c.fail(c.pageError(err))
}

// PageClient returns the client that the URL or form of a page names, for pages whose interaction
// has expired; nil if it is unknown or no one vouches for it. Anyone can create such a URL, so use
// the client for nothing but a link to its site.
func (s *Server) PageClient(r *http.Request) *record.Client {
	if cl := s.pageClient(r); cl != nil {
		return cl.Client
	}
	return nil
}

func (s *Server) pageClient(r *http.Request) *client {
	id := r.URL.Query().Get("client_id")
	if r.Method == http.MethodPost {
		id = r.PostFormValue("client_id")
	}
	if id == "" || oauth.IsClientIDURL(id) { // a metadata document would be fetched
		return nil
	}
	cl, err := s.client(r.Context(), id)
	if err != nil {
		if !errors.Is(err, errUnknownClient) {
			s.log.WarnContext(r.Context(), "client of a page not read", "error", err)
		}
		return nil
	}
	if !cl.Vouched() {
		return nil
	}
	return cl
}

// ContinueURL returns the URL to which a page redirects the browser to continue the interaction,
// for example after the user has switched accounts.
func (s *Server) ContinueURL(in *Interaction) string {
	query := "?interaction=" + url.QueryEscape(in.ID)
	if in.Client != nil && in.Client.Vouched() {
		query += "&client_id=" + url.QueryEscape(in.Client.ID)
	}
	return s.basePath + continuePath + query
}
