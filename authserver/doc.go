// Package authserver is the authorization server: the protocol engine of OAuth 2 and
// OpenID Connect, an http.Handler for one issuer. It knows clients, grants, tokens and
// keys; it knows no people and draws no pages, but asks about the ones and redirects to
// the others (Config).
//
// A request passes through one of the functions in the table of endpoints.go:
//
//	authorize   authorize.go → jar.go → interaction.go (what must the person still do?) → answer.go → responsemode.go
//	challenge   firstparty.go → answer.go, for an application that shows its own sign-in
//	token       token.go → clientauth*.go → grant_*.go → issue.go
//	resources   introspect.go  revoke.go  userinfo.go
//	metadata    metadata.go  keys.go
//	clients     registration.go  registration_manage.go  client_check.go
//	logout      logout.go → logout_backchannel.go  logout_frontchannel.go  sessionmanagement.go
//
// Each check on the way is a rule, with the section that asks for it, and leaves a rung
// on the ladder that "valetkey explain" prints (rule.go, trace.go).
package authserver
