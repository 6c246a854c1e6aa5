package demo

import "github.com/valetkey/valetkey/oauth"

// scene is one client type.
type scene struct {
	key, title, about string

	clientID, clientSecret, clientName string
	applicationType                    string
	grantTypes, scopes                 []string
	callback                           string // path of the redirect URI; "" without a browser

	breaks []breakage
}

// breakage is a way to do a scene wrong.
type breakage struct {
	key, title, about string
	// fresh says that it needs a new code, so that the browser is sent round first.
	fresh bool
	// code is the error that must come back.
	code oauth.ErrorCode
}

// pageError is the code of an error that the authorization server shows to the person
// instead of sending it to the application.
const pageError = oauth.ErrorCode("redirect_uri_mismatch")

func scenes() []scene {
	person := []breakage{
		{"replay", "Replay the code", "Redeem the same code twice, as a thief with a copy of the URL would.", true, oauth.InvalidGrant},
		{"verifier", "Wrong verifier", "Redeem the code without the secret that only the application which began the request knows.", true, oauth.InvalidGrant},
		{"redirect", "Changed redirect URI", "Ask for the code to be sent to another address.", false, pageError},
		{"redirect-token", "Another redirect URI at redemption", "Redeem the code under another redirect URI than it was asked for.", true, oauth.InvalidGrant},
		{"expired", "Expired token", "Call the API with an access token that has expired; the demo waits until it has.", false, oauth.InvalidToken},
		{"scope", "Scope not granted", "Ask the API to delete a photo, which nobody allowed.", false, oauth.InsufficientScope},
	}
	return []scene{
		{
			key: "web", title: "Web application",
			about:    "Runs on a server and keeps a secret. The person signs in at the authorization server, not here; the application redeems the code with its own credentials and PKCE.",
			clientID: "album", clientSecret: "demo-secret-of-the-album-0123456789", clientName: "Holiday album",
			applicationType: oauth.ApplicationWeb,
			grantTypes:      []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
			scopes:          []string{oauth.ScopeOpenID, oauth.ScopeProfile, oauth.ScopeEmail, scopeRead},
			callback:        "/web/callback", breaks: person,
		},
		{
			key: "native", title: "Native application",
			about:    "Runs on the person's own machine, where no secret stays secret: a public client. PKCE takes the secret's place, and the code comes back to a loopback port.",
			clientID: "sync", clientName: "Photo sync", applicationType: oauth.ApplicationNative,
			grantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
			scopes:     []string{oauth.ScopeOpenID, oauth.ScopeProfile, scopeRead},
			callback:   "/native/callback", breaks: person,
		},
		{
			key: "service", title: "Server to server",
			about:    "No person takes part: a service calls the API in its own name, with its own credentials.",
			clientID: "report", clientSecret: "demo-secret-of-the-report-012345678", clientName: "Nightly report",
			applicationType: oauth.ApplicationWeb,
			grantTypes:      []string{oauth.GrantTypeClientCredentials},
			scopes:          []string{scopeRead},
			breaks: []breakage{
				{"secret", "Wrong secret", "Ask for a token with another secret.", false, oauth.InvalidClient},
				{"ask-scope", "Scope not registered", "Ask for a scope that the client is not registered for.", false, oauth.InvalidScope},
				{"expired", "Expired token", "Call the API with an access token that has expired; the demo waits until it has.", false, oauth.InvalidToken},
				{"scope", "Scope not granted", "Ask the API to delete a photo with a token for reading.", false, oauth.InsufficientScope},
			},
		},
	}
}

func sceneNamed(key string) *scene {
	for _, s := range scenes() {
		if s.key == key {
			return &s
		}
	}
	return nil
}

func (s *scene) breakNamed(key string) *breakage {
	for _, b := range s.breaks {
		if b.key == key {
			return &b
		}
	}
	return nil
}
