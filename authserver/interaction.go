package authserver

import (
	"net/http"

	"github.com/valetkey/valetkey/oauth"
)

// Interaction is an authorization or logout request that waits for a person.
type Interaction struct {
	ID     string
	Client *Client // nil for a logout request that names none
	// Scopes are what consent is asked for, with what the person granted before first.
	Scopes []InteractionScope
	// Resources are the APIs that the access token will be for.
	Resources []Resource
	// Subject is who is signed in at this browser; "" if nobody is, or if the client asks
	// that they prove it again.
	Subject string
	// LoginHint is what the client believes the person's identifier to be.
	LoginHint string
	UILocales []string
	// SelectAccount says that the client wants the person to choose who they are.
	SelectAccount bool
	// RedirectURI is the verified place to which the browser will return.
	RedirectURI string
	// FormAction is a source for the form-action directive of the page's
	// Content-Security-Policy, without which Chromium refuses the redirect after the form.
	FormAction string
	// OfflineAccess says that the client will have access while the person is away.
	OfflineAccess bool
}

// InteractionScope is one scope on the consent page.
type InteractionScope struct {
	Scope
	// Granted says that the person allowed it before.
	Granted bool
}

// ConsentAnswer is what a person said on the consent page.
type ConsentAnswer struct {
	// Subject is whom the page was shown to; if somebody else is signed in by now, the
	// engine asks again.
	Subject string
	// Scope is what they allow; required scopes are added.
	Scope oauth.Scope
}

// TODO(engine): bodies below are being written.

// Interaction returns the interaction that the browser of r has open. The error is
// ErrInteractionExpired or ErrOtherBrowser, for which ErrorPage has the right page, or a
// fault.
func (s *Server) Interaction(r *http.Request, id string) (*Interaction, error) { panic("") }

// Authenticated tells the engine that the person at the browser of r has proved who they
// are, and writes the answer: a redirect to the next page, or to the client.
func (s *Server) Authenticated(w http.ResponseWriter, r *http.Request, id string, a Authentication) {}

// Consented tells the engine what the person allowed, and writes the answer.
func (s *Server) Consented(w http.ResponseWriter, r *http.Request, id string, answer ConsentAnswer) {}

// Refused tells the engine that the person allowed nothing, and writes the answer:
// access_denied to the client.
func (s *Server) Refused(w http.ResponseWriter, r *http.Request, id string) {}

// LoggedOut tells the engine that the person confirmed a logout, and writes the answer:
// it ends the session (Config.SignOut) and returns to the client, if one may be returned to.
func (s *Server) LoggedOut(w http.ResponseWriter, r *http.Request, id string) {}

// InteractionError writes the page for an error of Interaction.
func (s *Server) InteractionError(w http.ResponseWriter, r *http.Request, err error) {}

// ContinueURL is where a page sends the browser to have the engine decide anew, after
// switching accounts for instance.
func (s *Server) ContinueURL(id string) string { return "" }
