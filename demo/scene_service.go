package demo

import "github.com/valetkey/valetkey/oauth"

func serviceScene() scene {
	return scene{
		key: "service", title: "Service to service: client credentials", button: "Get a token and call the API",
		about:    "No user is involved. A service requests a token for itself with its own secret and calls the API.",
		clientID: "report", clientSecret: "demo-secret-of-the-report-012345678", clientName: "Nightly report",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeClientCredentials},
		scopes:          []string{scopeRead},
		breaks: []breakage{
			{key: "secret", title: "Wrong secret", about: "Request a token with a wrong secret.", code: oauth.InvalidClient},
			{key: "ask-scope", title: "Scope not registered", about: "Request a scope that the client is not registered for.", code: oauth.InvalidScope},
			{key: "expired", title: "Expired token", about: "Call the API with an expired access token. The demo waits until it has expired.", code: oauth.InvalidToken},
			{key: "scope", title: "Scope not granted", about: "Ask the API to delete a photo with a token that only allows reading.", code: oauth.InsufficientScope},
		},
	}
}
