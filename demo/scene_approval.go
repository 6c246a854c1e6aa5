package demo

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
)

func approvalScene() scene {
	return scene{
		key: "approval", title: "Call center: approval on another device (CIBA)", button: "Call the photo shop",
		about:    "You are on the phone with a photo shop, and its employee needs to see your photos. The application of the call center names you to the authorization server, and you approve the request on your account page. No browser is redirected, and you tell the employee no password (OpenID Connect CIBA).",
		clientID: "call-center", clientSecret: "demo-secret-of-the-call-center-0123", clientName: "Photo shop call center",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeCIBA, oauth.GrantTypeRefreshToken}, scopes: []string{oauth.ScopeOpenID, scopeRead},
		configure: declareCallCenter, run: runApproval, resume: resumeApproval,
		breaks: []breakage{
			{key: "refuse", title: "User denies the request", about: "A simulated user did not call the shop, and clicks Deny.", code: oauth.AccessDenied},
			{key: "stranger", title: "Another user decides", about: "The link to the request reaches another user, who signs in with their own account.", code: pageError},
			{key: "message", title: "Misleading text", about: "Put a character into the binding message that changes the direction of the text, so that the page would show something else than the employee says.", code: oauth.InvalidBindingMessage},
			{key: "replay", title: "Replay the auth_req_id", about: "Request tokens twice for one approval.", code: oauth.InvalidGrant},
		},
	}
}

// The user who gets a link that is not for them.
const (
	strangerName     = "grace"
	strangerPassword = "compiler-no-1"
)

func declareCallCenter(_ *Demo, c *configuration.Configuration) error {
	c.Users = append(c.Users, configuration.User{Username: strangerName, Password: strangerPassword, Name: "Grace Hopper"})
	for i := range c.Clients {
		if client := &c.Clients[i]; client.ID == "call-center" {
			client.BackchannelTokenDeliveryMode = oauth.DeliveryPoll
		}
	}
	return nil
}

func runApproval(ctx context.Context, d *Demo, w *walk) error {
	asked := client.BackchannelRequest{LoginHint: Username, BindingMessage: "W4SCT"}
	purpose := "Ask the user for approval. The call center names the user and sends a short text that its employee reads out (CIBA Core, section 7.1)."
	if w.breakKey() == "message" {
		asked.BindingMessage = "W4\u202eSCT"
		purpose = "Send a text with an invisible character that reverses what follows. Both sides must see the same text, so only printable characters are accepted (CIBA Core, section 7.1)."
	}
	request, err := d.clients[w.scene.key].BackchannelAuthentication(recorded(ctx, &w.recording, purpose), asked)
	if err != nil {
		return w.refused(err)
	}
	w.state = request
	poll := url.Values{"grant_type": {oauth.GrantTypeCIBA}, "auth_req_id": {request.AuthReqID}}
	user := person.New(Username, Password)
	switch w.breakKey() {
	case "refuse":
		user.Deny = true
		if err := user.Approve(d.issuer); err != nil {
			return fmt.Errorf("deny the request on the account page: %w", err)
		}
		return d.ask(ctx, w, poll, "Poll for the tokens. The user denied the request, so the call center must stop (CIBA Core, section 11).")
	case "stranger":
		link, err := user.Waiting(d.issuer)
		if err != nil {
			return fmt.Errorf("find the request on the account page: %w", err)
		}
		return d.strangerDecides(ctx, w, link)
	case "replay":
		if err := user.Approve(d.issuer); err != nil {
			return fmt.Errorf("approve the request on the account page: %w", err)
		}
		if err := d.ask(ctx, w, poll, "Poll for the tokens. The user has approved the request (CIBA Core, section 10.1)."); err != nil || w.failed {
			return err
		}
		return d.ask(ctx, w, poll, "Poll again with the same auth_req_id. It works once (CIBA Core, section 10.1).")
	}
	w.waits = d.issuer + accountPath
	w.waitsFor = "The employee says: my screen shows " + asked.BindingMessage + ".\nOpen your account page. It shows the same text, and what the call center would get. Approve the request, or deny it if you did not call (CIBA Core, section 14)."
	w.result = "The call center shows " + asked.BindingMessage + " and is waiting."
	return nil
}

const accountPath = "/account"

// strangerDecides opens the link to the request as another user, who signs in.
func (d *Demo) strangerDecides(ctx context.Context, w *walk, link string) error {
	stranger := person.New(strangerName, strangerPassword)
	stranger.Through(roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost {
			r = r.WithContext(recordedFrom(ctx, &w.recording, partyBrowser, "Open the link and sign in as another user. Only the user that the request names can decide; the link gives others access to nothing (CIBA Core, section 8)."))
		}
		response, err := d.recorder().RoundTrip(r)
		w.failed = err == nil && response.StatusCode >= 400
		return response, err
	}))
	if err := stranger.Allow(link); err != nil && !w.failed {
		return fmt.Errorf("open the link as another user: %w", err)
	}
	// Pages report what was checked under this endpoint.
	t := d.traces.newest("/authorize", w.scene.clientID)
	if !w.failed || t == nil {
		return nil
	}
	for _, check := range t.Checks {
		if !check.OK {
			w.recording.refuse(check)
			w.result = "Refused: " + check.Rule
		}
	}
	return nil
}

func resumeApproval(ctx context.Context, d *Demo, w *walk) error {
	tokens, err := d.clients[w.scene.key].PollBackchannel(recorded(ctx, &w.recording, "Poll for the tokens with the auth_req_id. It works once, for this client, and only after the user has approved the request (CIBA Core, section 10.1)."), w.state.(*client.BackchannelAuthentication))
	if err != nil {
		return w.refused(err)
	}
	w.waits, w.tokens, w.failed = "", tokens, false
	return d.callAPI(ctx, w)
}
