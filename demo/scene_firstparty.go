package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
)

func firstPartyScene() scene {
	return scene{
		key: "firstparty", title: "First-party mobile app: sign in without a browser (experimental)", button: "Sign in here and show my photos",
		about:    "The operator's own native app asks for the password in its own window and gets a code for it. The server can require a browser at any step. Both the server and the client must be configured for this. A browser is safer.",
		clientID: "photos-app", clientName: "Valetkey Photos", applicationType: oauth.ApplicationNative,
		grantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
		scopes:     []string{oauth.ScopeOpenID, oauth.ScopeProfile, scopeRead},
		configure:  declareFirstParty, run: runFirstParty,
		breaks: []breakage{
			{key: "guess", title: "Wrong password", about: "Guess the password. The response is the same for a user who does not exist, and each auth_session allows five guesses.", code: oauth.InsufficientAuthorization},
			{key: "again", title: "Replay the auth_session", about: "Send an auth_session that has already been used.", code: oauth.InvalidSession},
			{key: "browser", title: "Browser required", about: "Request consent, which is only possible in a browser.", code: oauth.RedirectToWeb},
			{key: "another", title: "Another app", about: "Send the user's password as an app that is not the operator's own.", code: oauth.UnauthorizedClient},
			{key: "thief", title: "Stolen code", about: "Exchange the code without the PKCE verifier, which never left the app.", code: oauth.InvalidGrant},
		},
	}
}

func declareFirstParty(_ *Demo, c *configuration.Configuration) error {
	c.FirstPartyApplications = true
	for i := range c.Clients {
		if app := &c.Clients[i]; app.ID == firstPartyScene().clientID {
			app.FirstParty, app.SkipConsent = true, true
			app.RedirectURIs = []string{"com.example.photos:/callback"} // used when a browser is required
		}
	}
	return nil
}

func runFirstParty(ctx context.Context, d *Demo, w *walk) error {
	verifier := oauth.NewCodeVerifier()
	form := url.Values{
		"response_type": {"code"}, "client_id": {w.scene.clientID}, "scope": {strings.Join(w.scene.scopes, " ")},
		"code_challenge": {oauth.S256Challenge(verifier)}, "code_challenge_method": {oauth.CodeChallengeMethodS256},
		"username": {Username}, "password": {Password},
	}
	purpose := "Send the username and password to get a code. Only first-party clients may do this (draft-ietf-oauth-first-party-apps, section 5). PKCE ties the code to this app (RFC 7636)."
	switch w.breakKey() {
	case "guess":
		form.Set("password", "engine-no-2")
		purpose = "Send a wrong password. The response has an auth_session for another attempt, and attempts are limited (draft-ietf-oauth-first-party-apps, section 5)."
	case "again":
		return d.sameAuthSession(ctx, w, form)
	case "browser":
		form.Set("prompt", "consent")
		purpose = "Send the username and password and request consent. The server requires a browser for it (draft-ietf-oauth-first-party-apps, section 5)."
	case "another":
		form.Set("client_id", nativeScene().clientID)
		purpose = "Send the username and password as another app. It is not a first-party client, so it must use the browser."
	}
	response, err := d.challenge(ctx, w, form, purpose)
	if err != nil || w.failed {
		return err
	}
	redeem := url.Values{"grant_type": {oauth.GrantTypeAuthorizationCode}, "code": {response.AuthorizationCode}, "code_verifier": {verifier}}
	if w.breakKey() == "thief" {
		redeem.Set("code_verifier", oauth.NewCodeVerifier())
		return d.ask(ctx, w, redeem, "Exchange the code with a wrong verifier. The server compares its hash with the code_challenge (RFC 7636, section 4.6).")
	}
	if err := d.ask(ctx, w, redeem, "Exchange the code for tokens. The code works once, and only with the PKCE verifier, which never left the app (RFC 7636, section 4.6)."); err != nil || w.failed {
		return err
	}
	return d.request(ctx, w, http.MethodGet, "/photos", callPurpose)
}

// sameAuthSession begins without a password, continues with the auth_session, and then replays
// it.
func (d *Demo) sameAuthSession(ctx context.Context, w *walk, form url.Values) error {
	begin := url.Values{}
	for name, values := range form {
		if name != "username" && name != "password" {
			begin[name] = values
		}
	}
	response, err := d.challenge(ctx, w, begin, "Begin without a password. The response has an auth_session, which identifies this request from now on.")
	if err != nil {
		return err
	}
	goOn := url.Values{"auth_session": {response.AuthSession}, "username": {Username}, "password": {Password}}
	if _, err := d.challenge(ctx, w, goOn, "Send the auth_session with the username and password to get a code."); err != nil || w.failed {
		return err
	}
	_, err = d.challenge(ctx, w, goOn, "Send the same request again. An auth_session that has led to a code cannot be used again.")
	return err
}

type challengeResponse struct {
	oauth.AuthorizationChallengeResponse
	AuthSession string `json:"auth_session"`
}

func (d *Demo) challenge(ctx context.Context, w *walk, form url.Values, purpose string) (challengeResponse, error) {
	var response challengeResponse
	body, err := d.exchange(ctx, w, http.MethodPost, d.issuer+"/authorize-challenge", form.Encode(), "", purpose)
	if err != nil {
		return response, err
	}
	if err := json.Unmarshal(body, &response); err != nil {
		return response, fmt.Errorf("read the response to a challenge: %w", err)
	}
	return response, nil
}
