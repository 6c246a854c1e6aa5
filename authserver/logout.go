package authserver

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

var (
	ruleLogoutHint = rule{
		must:    "id_token_hint is an ID token of this server",
		section: "OpenID Connect RP-Initiated Logout, section 2", code: oauth.InvalidRequest,
		says: "id_token_hint is not an ID token that this server issued",
		fix:  "send the ID token that the application received at sign-in",
	}
	ruleLogoutClient = rule{
		must:    "client_id is the audience of id_token_hint",
		section: "OpenID Connect RP-Initiated Logout, section 2", code: oauth.InvalidRequest,
		says: "client_id is not the client that id_token_hint was issued to",
		fix:  "send the client_id of the ID token",
	}
	rulePostLogoutRedirectURI = rule{
		must:    "post_logout_redirect_uri is registered for the client, which id_token_hint or client_id names",
		section: "OpenID Connect RP-Initiated Logout, section 3", code: oauth.InvalidRequest,
		says: "post_logout_redirect_uri is not registered for the client, or no client is named",
		fix:  "register it in post_logout_redirect_uris, and send id_token_hint",
	}
)

// logoutRequest is a verified logout request.
type logoutRequest struct {
	client *client // nil if none is named
	hint   *idTokenHint
	to     redirectTarget // zero: no return
	state  string
}

// logout is the end session endpoint (OpenID Connect RP-Initiated Logout, section 2).
func (c *call) logout() error {
	// An ID token with many claims is no reason to keep anyone signed in. Without the hint the
	// person is asked.
	c.leftOutIfLong = "id_token_hint"
	if c.r.Method == http.MethodPost {
		return c.postAsGet()
	}
	var err error
	if c.params, err = c.parseParams(c.r.URL.RawQuery); err != nil {
		return err
	}
	c.params = c.withoutReturn(c.params)
	request, err := c.verifyLogout()
	if err != nil {
		return err
	}
	who, err := c.s.config.Users.SignedIn(c.r)
	if err != nil {
		return fmt.Errorf("find out who is signed in: %w", err)
	}
	// A hint that names this very session is proof that the application means it. Without
	// one, any page could sign people out, so the person is asked.
	if who != nil && !c.names(request, who) {
		return c.sendTo(c.s.config.Pages.SignOut, &interaction{params: c.params}, true)
	}
	if request.to.uri != "" && !c.trusted(request.client) {
		// A hint proves nothing about this browser: whoever registered the client can get one.
		request.to = redirectTarget{}
	}
	return c.endSession(request, who)
}

// withoutReturn leaves out post_logout_redirect_uri where only a hint that was left out said
// which client it is of.
func (c *call) withoutReturn(p params) params {
	if !c.leftOut || p.has("client_id") {
		return p
	}
	return slices.DeleteFunc(p, func(one param) bool { return one.name == "post_logout_redirect_uri" })
}

func (c *call) names(r *logoutRequest, who *Authentication) bool {
	return r.hint != nil && r.hint.Session != "" && r.client != nil && r.hint.Subject == c.s.subjectFor(r.client, who.Subject) &&
		slices.ContainsFunc(who.sessionNames(), func(name string) bool { return c.s.sessionFor(r.client, name) == r.hint.Session })
}

func (c *call) verifyLogout() (*logoutRequest, error) {
	request := &logoutRequest{state: c.params.get("state")}
	clientID := c.params.get("client_id")
	if token := c.params.get("id_token_hint"); token != "" {
		hint, err := c.readIDTokenHint(token)
		switch {
		case errors.Is(err, jose.ErrUnknownKey):
			// Signed by a key that has been retired since, or by a stranger: no hint at all.
		case err != nil:
			return nil, c.because(&ruleLogoutHint, err)
		default:
			request.hint = hint
			if clientID != "" && !hint.Audience.Has(clientID) {
				return nil, c.refuse(&ruleLogoutClient, "client_id: "+clientID)
			}
			if clientID == "" {
				clientID = hint.Audience[0]
			}
		}
	}
	if clientID != "" {
		cl, err := c.namedClient(clientID)
		if err != nil && !errors.Is(err, errUnknownClient) && !errors.Is(err, errClientDocument) {
			return nil, err
		}
		c.client, request.client = cl, cl
	}
	uri := c.params.get("post_logout_redirect_uri")
	if uri == "" {
		return request, nil
	}
	if request.client == nil {
		return nil, c.refuse(&rulePostLogoutRedirectURI, "no client is named")
	}
	if !slices.Contains(request.client.PostLogoutRedirectURIs, uri) {
		return nil, c.refuse(&rulePostLogoutRedirectURI, nearestDifference(request.client.PostLogoutRedirectURIs, uri))
	}
	request.to = redirectTarget{uri: uri, mode: "query"}
	return request, c.must(len(request.state) <= maxStateBytes, &ruleStateLength)
}

// endSession signs the browser out and returns to the client. Refresh tokens without
// offline_access end with the session (Users.SessionActive).
func (c *call) endSession(request *logoutRequest, who *Authentication) error {
	frames, err := c.frames(who)
	if err != nil {
		return err
	}
	if who != nil {
		if err := c.s.config.Users.SignOut(c.w, c.r); err != nil {
			return fmt.Errorf("sign out: %w", err)
		}
	}
	to := request.to.uri
	if to != "" && request.state != "" {
		to += querySeparator(to) + params{{"state", request.state}}.encode()
	}
	return c.signedOut(frames, to)
}

// resumeLogout verifies a stored logout request anew.
func (c *call) resumeLogout(data *interactionData) (*logoutRequest, error) {
	var err error
	if c.params, err = c.parseParams(data.Query); err != nil {
		return nil, err
	}
	return c.verifyLogout()
}

func (c *call) logoutInteraction(id string, data *interactionData, who *Authentication) (*Interaction, error) {
	request, err := c.resumeLogout(data)
	if err != nil {
		return nil, err
	}
	shown := &Interaction{ID: id, RedirectURI: request.to.uri}
	if request.client != nil {
		shown.Client = request.client.Client
	}
	if request.to.uri != "" {
		shown.FormAction = formAction(request.to.uri)
	}
	if who != nil {
		shown.Subject = who.Subject
	}
	return shown, nil
}

// LoggedOut tells the engine that the person confirmed a logout, and writes the answer:
// it ends the session (Users.SignOut) and returns to the client, if one may be returned
// to.
func (s *Server) LoggedOut(w http.ResponseWriter, r *http.Request, id string) {
	c := s.newCall(w, r)
	c.endpoint = s.routes[s.basePath+"/logout"]
	c.finish(c.loggedOut(id))
}

func (c *call) loggedOut(id string) error {
	data, err := c.loadInteraction(id)
	if err != nil {
		return c.pageError(err)
	}
	if !data.Logout || data.Ended != nil {
		return c.must(false, &ruleInteraction)
	}
	request, err := c.resumeLogout(data)
	if err != nil {
		return err
	}
	who, err := c.s.config.Users.SignedIn(c.r)
	if err != nil {
		return fmt.Errorf("find out who is signed in: %w", err)
	}
	if err := c.s.config.Store.Delete(c.r.Context(), ticketkind.Interaction.Hash(id)); err != nil {
		return fmt.Errorf("end interaction: %w", err)
	}
	return c.endSession(request, who)
}
