package demo

import "github.com/valetkey/valetkey/oauth"

func webScene() scene {
	return scene{
		key: "web", title: "Web application", button: "Sign in and show my photos",
		about:    "Runs on a server and keeps a secret. The person signs in at the authorization server, not here; the application redeems the code with its own credentials and PKCE.",
		clientID: "album", clientSecret: "demo-secret-of-the-album-0123456789", clientName: "Holiday album",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
		scopes:          []string{oauth.ScopeOpenID, oauth.ScopeProfile, oauth.ScopeEmail, scopeRead},
		callback:        "/web/callback", breaks: codeBreaks(),
	}
}

func nativeScene() scene {
	return scene{
		key: "native", title: "Native application", button: "Sign in and show my photos",
		about:    "Runs on the person's own machine, where no secret stays secret: a public client. PKCE takes the secret's place, and the code comes back to a loopback port.",
		clientID: "sync", clientName: "Photo sync", applicationType: oauth.ApplicationNative,
		grantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
		scopes:     []string{oauth.ScopeOpenID, oauth.ScopeProfile, scopeRead},
		callback:   "/native/callback", breaks: codeBreaks(),
	}
}

// codeBreaks are the ways to do the code flow wrong.
func codeBreaks() []breakage {
	return []breakage{
		{key: "replay", title: "Replay the code", about: "Redeem the same code twice, as a thief with a copy of the URL would.", fresh: true, code: oauth.InvalidGrant},
		{key: "verifier", title: "Wrong verifier", about: "Redeem the code without the secret that only the application which began the request knows.", fresh: true, code: oauth.InvalidGrant},
		{key: "redirect", title: "Changed redirect URI", about: "Ask for the code to be sent to another address.", only: true, code: pageError},
		{key: "redirect-token", title: "Another redirect URI at redemption", about: "Redeem the code under another redirect URI than it was asked for.", fresh: true, code: oauth.InvalidGrant},
		{key: "expired", title: "Expired token", about: "Call the API with an access token that has expired; the demo waits until it has.", code: oauth.InvalidToken},
		{key: "scope", title: "Scope not granted", about: "Ask the API to delete a photo, which nobody allowed.", code: oauth.InsufficientScope},
	}
}
