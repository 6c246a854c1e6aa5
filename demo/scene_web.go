package demo

import "github.com/valetkey/valetkey/oauth"

func webScene() scene {
	return scene{
		key: "web", title: "Web app: authorization code flow", button: "Sign in and show my photos",
		about:    "A web app runs on a server, so it can keep a secret. The user signs in at the authorization server, not in the app. The browser brings back a code, which the app exchanges for tokens with its secret and PKCE.",
		clientID: "album", clientSecret: "demo-secret-of-the-album-0123456789", clientName: "Holiday album",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
		scopes:          []string{oauth.ScopeOpenID, oauth.ScopeProfile, oauth.ScopeEmail, scopeRead},
		callback:        "/web/callback", breaks: codeBreaks(),
	}
}

func nativeScene() scene {
	return scene{
		key: "native", title: "Desktop or mobile app: public client with PKCE", button: "Sign in and show my photos",
		about:    "This app runs on the user's device, where it cannot keep a secret: it is a public client. PKCE proves that the code is redeemed by the app that started the sign-in, and the code comes back to a port on the device.",
		clientID: "sync", clientName: "Photo sync", applicationType: oauth.ApplicationNative,
		grantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
		scopes:     []string{oauth.ScopeOpenID, oauth.ScopeProfile, scopeRead},
		callback:   "/native/callback", breaks: codeBreaks(),
	}
}

// codeBreaks returns the ways to break the code flow.
func codeBreaks() []breakage {
	return []breakage{
		{key: "replay", title: "Replay the code", about: "Exchange the same code twice, like a thief with a copy of the URL.", fresh: true, code: oauth.InvalidGrant},
		{key: "verifier", title: "Wrong verifier", about: "Exchange a stolen code without the PKCE verifier, which only the app knows.", fresh: true, code: oauth.InvalidGrant},
		{key: "redirect", title: "Changed redirect URI", about: "Ask the server to send the code to an address that is not registered.", only: true, code: pageError},
		{key: "redirect-token", title: "Different redirect URI at the token endpoint", about: "Exchange the code with another redirect URI than in the authorization request.", fresh: true, code: oauth.InvalidGrant},
		{key: "expired", title: "Expired token", about: "Call the API with an expired access token. The demo waits until it has expired.", code: oauth.InvalidToken},
		{key: "scope", title: "Scope not granted", about: "Ask the API to delete a photo, which the user did not allow.", code: oauth.InsufficientScope},
	}
}
