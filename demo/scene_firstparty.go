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
		key: "firstparty", title: "Your own mobile app: sign in without a browser (experimental)", button: "Sign in here and show my photos",
		about:    "A native app that users know as the operator's own asks for the password in its own window and gets a code for it. The server can send the user to a browser at any step. Both the server and the client must be set up for this. A browser is safer.",
		clientID: "photos-app", clientName: "Valetkey Photos", applicationType: oauth.ApplicationNative,
		grantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
		scopes:     []string{oauth.ScopeOpenID, oauth.ScopeProfile, scopeRead},
		configure:  declareFirstParty, run: runFirstParty,
		breaks: []breakage{
			{key: "guess", title: "Wrong password", about: "Guess. The response is the same for a user who does not exist, and each auth_session allows five guesses.", code: oauth.InsufficientAuthorization},
			{key: "again", title: "The same auth_session twice", about: "Send an auth_session that was used before.", code: oauth.InvalidSession},
			{key: "browser", title: "Browser required", about: "Ask for consent, which is only possible in a browser.", code: oauth.RedirectToWeb},
			{key: "another", title: "Another application", about: "Send the user's password as an app that is not the operator's own.", code: oauth.UnauthorizedClient},
			{key: "thief", title: "A stolen code", about: "Exchange the code without the verifier, which never left the app.", code: oauth.InvalidGrant},
		},
	}
}

func declareFirstParty(_ *Demo, c *configuration.Configuration) error {
	c.FirstPartyApplications = true
	for i := range c.Clients {
		if app := &c.Clients[i]; app.ID == firstPartyScene().clientID {
			app.FirstParty, app.SkipConsent = true, true
			app.RedirectURIs = []string{"com.example.photos:/callback"} // for the browser, where that is needed
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
	purpose := "Send the username and password that the user typed into the app, to get a code"
	switch w.breakKey() {
	case "guess":
		form.Set("password", "engine-no-2")
		purpose = "Send a wrong password; the response has an auth_session for another attempt"
	case "again":
		return d.sameAuthSession(ctx, w, form)
	case "browser":
		form.Set("prompt", "consent")
		purpose = "Send the username and password, and request consent"
	case "another":
		form.Set("client_id", nativeScene().clientID)
		purpose = "Send the username and password as another app"
	}
	answer, err := d.challenge(ctx, w, form, purpose)
	if err != nil || w.failed {
		return err
	}
	redeem := url.Values{"grant_type": {oauth.GrantTypeAuthorizationCode}, "code": {answer.AuthorizationCode}, "code_verifier": {verifier}}
	if w.breakKey() == "thief" {
		redeem.Set("code_verifier", oauth.NewCodeVerifier())
		return d.ask(ctx, w, redeem, "Exchange the code with a wrong verifier")
	}
	if err := d.ask(ctx, w, redeem, "Redeem the code, with the verifier, for tokens"); err != nil || w.failed {
		return err
	}
	return d.request(ctx, w, http.MethodGet, "/photos", "Call the API with the access token")
}

// sameAuthSession begins without a password, goes on with the auth_session, and sends it
// once more.
func (d *Demo) sameAuthSession(ctx context.Context, w *walk, form url.Values) error {
	begin := url.Values{}
	for name, values := range form {
		if name != "username" && name != "password" {
			begin[name] = values
		}
	}
	answer, err := d.challenge(ctx, w, begin, "Begin without a password; the answer has an auth_session, which stands for the request")
	if err != nil {
		return err
	}
	goOn := url.Values{"auth_session": {answer.AuthSession}, "username": {Username}, "password": {Password}}
	if _, err := d.challenge(ctx, w, goOn, "Send the auth_session with name and password for a code"); err != nil || w.failed {
		return err
	}
	_, err = d.challenge(ctx, w, goOn, "Send the same again")
	return err
}

type challengeAnswer struct {
	oauth.AuthorizationChallengeResponse
	AuthSession string `json:"auth_session"`
}

func (d *Demo) challenge(ctx context.Context, w *walk, form url.Values, purpose string) (challengeAnswer, error) {
	var answer challengeAnswer
	body, err := d.exchange(ctx, w, http.MethodPost, d.issuer+"/authorize-challenge", form.Encode(), "", purpose)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return answer, fmt.Errorf("read the answer to a challenge: %w", err)
	}
	return answer, nil
}
