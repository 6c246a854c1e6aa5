package demo

import "github.com/valetkey/valetkey/oauth"

func serviceScene() scene {
	return scene{
		key: "service", title: "Server to server", button: "Get a token and call the API",
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
	}
}
