package demo

import "github.com/valetkey/valetkey/oauth"

func webScene() scene {
	return scene{
		key: "web", title: "Web app: sign in with a browser", button: "Sign in and show my photos",
		about:    "A web app runs on a server and can keep a secret. The user signs in at the authorization server, not in the app. The app exchanges the code for tokens, with its own credentials and PKCE.",
		clientID: "album", clientSecret: "demo-secret-of-the-album-0123456789", clientName: "Holiday album",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
		scopes:          []string{oauth.ScopeOpenID, oauth.ScopeProfile, oauth.ScopeEmail, scopeRead},
		callback:        "/web/callback", breaks: codeBreaks(),
	}
}

func nativeScene() scene {
	return scene{
		key: "native", title: "Desktop or mobile app: sign in with PKCE", button: "Sign in and show my photos",
		about:    "This app runs on the user's own device, where it cannot keep a secret: it is a public client. PKCE replaces the secret, and the code comes back to a port on the device.",
		clientID: "sync", clientName: "Photo sync", applicationType: oauth.ApplicationNative,
		grantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
		scopes:     []string{oauth.ScopeOpenID, oauth.ScopeProfile, scopeRead},
		callback:   "/native/callback", breaks: codeBreaks(),
	}
}

// codeBreaks are the ways to do the code flow wrong.
func codeBreaks() []breakage {
	return []breakage{
		{key: "replay", title: "Replay the code", about: "Exchange the same code twice, as a thief with a copy of the URL would.", fresh: true, code: oauth.InvalidGrant},
		{key: "verifier", title: "Wrong verifier", about: "Exchange the code without the secret that only the app that started the request knows.", fresh: true, code: oauth.InvalidGrant},
		{key: "redirect", title: "Changed redirect URI", about: "Ask the server to send the code to another address.", only: true, code: pageError},
		{key: "redirect-token", title: "Different redirect URI at the token endpoint", about: "Exchange the code with a redirect URI that differs from the one in the request.", fresh: true, code: oauth.InvalidGrant},
		{key: "expired", title: "Expired token", about: "Call the API with an expired access token. The demo waits until it has expired.", code: oauth.InvalidToken},
		{key: "scope", title: "Scope not granted", about: "Ask the API to delete a photo, which you did not allow.", code: oauth.InsufficientScope},
	}
}
