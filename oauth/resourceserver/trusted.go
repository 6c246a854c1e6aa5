package resourceserver

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// Issuer is an authorization server whose access tokens an API accepts, and says in what
// they differ from RFC 9068. With nothing but the name, they are treated as those of
// Config.Issuer.
type Issuer struct {
	// Issuer is the value of iss, exactly. It selects the keys by which a token is verified:
	// no token is tried against the keys of several issuers.
	Issuer string
	// JWKSURI is where the issuer publishes its keys. Empty takes it from the issuer's
	// metadata.
	JWKSURI string
	// Audiences are the values of aud of which a token must have one; nil means
	// Config.Resource. They need not be URIs: some servers put a client ID there, or a name
	// such as api://default.
	Audiences []string
	// Algorithms are those that may have signed a token; nil means those of Config.
	Algorithms []jose.Algorithm
	// ScopeClaims are the claims in which scopes are looked for, such as scp, roles or
	// permissions. Each may be a string, as scope is, or an array of strings; what several
	// say is put together. Nil means scope, as a string (RFC 9068, section 2.2.3).
	ScopeClaims []string
	// ClientIDClaim is the claim that names the client, such as azp, appid or cid; empty
	// means client_id.
	ClientIDClaim string
	// CheckStatus looks up whether a token was revoked, as Config.CheckStatus does.
	CheckStatus bool

	// InsecureTypes are values of typ that are accepted besides at+jwt, such as JWT; "" among
	// them accepts a token that has none. By typ alone such tokens cannot be told from ID
	// tokens and others (RFC 8725, section 3.11). They must therefore name their client, and
	// are refused if they say in another way that they are no access tokens: by token_use, by
	// Keycloak's claim typ, by nonce, at_hash or c_hash, or by events.
	InsecureTypes []string
	// InsecureClientIDs are clients whose tokens are accepted whatever their audience is, or
	// without any. Such a client's token for another API can be used at this one.
	InsecureClientIDs []string
}

// trusted is an issuer with the documents that it publishes.
type trusted struct {
	Issuer
	documents *issuer
}

// trust completes an Issuer from the configuration of the API, and checks it.
func trust(config Config, i Issuer) (*trusted, error) {
	// Some providers' identifiers end with a slash, which CheckIssuer refuses.
	if err := oauth.CheckIssuer(strings.TrimSuffix(i.Issuer, "/")); err != nil {
		return nil, fmt.Errorf("resourceserver: issuer: %w", err)
	}
	if i.Audiences == nil && config.Resource != "" {
		i.Audiences = []string{config.Resource}
	}
	if len(i.Audiences) == 0 && len(i.InsecureClientIDs) == 0 {
		return nil, fmt.Errorf("resourceserver: issuer %s: say by Resource or Audiences which tokens are for this API", i.Issuer)
	}
	for _, list := range [][]string{i.Audiences, i.ScopeClaims, i.InsecureClientIDs} {
		if slices.Contains(list, "") {
			return nil, fmt.Errorf("resourceserver: issuer %s: an audience, a claim or a client is empty", i.Issuer)
		}
	}
	if i.Algorithms == nil {
		i.Algorithms = config.Algorithms
	}
	if i.ClientIDClaim == "" {
		i.ClientIDClaim = "client_id"
	}
	t := &trusted{i, newIssuer(config, i.Issuer, i.JWKSURI)}
	if i.JWKSURI != "" {
		if err := t.documents.checkEndpoint(i.JWKSURI); err != nil {
			return nil, fmt.Errorf("resourceserver: issuer %s: JWKSURI: %w", i.Issuer, err)
		}
	}
	return t, nil
}

// accepts reports whether a token is meant for the API.
func (i *trusted) accepts(t *Token) bool {
	return slices.ContainsFunc(i.Audiences, func(audience string) bool { return oauth.ContainsResource(t.Audience, audience) }) ||
		t.ClientID != "" && slices.Contains(i.InsecureClientIDs, t.ClientID)
}

// types are the values of typ that an access token may have.
func (i *trusted) types() []string { return append([]string{oauth.TypAccessToken}, i.InsecureTypes...) }

// isAccessTokenType reports whether typ itself says that a JWT is an access token (RFC 9068,
// section 2.1).
func isAccessTokenType(typ string) bool {
	return strings.TrimPrefix(strings.ToLower(typ), "application/") == oauth.TypAccessToken
}

// checkKind refuses a JWT that says, in another way than by its typ, that it is no access
// token. Keycloak writes into the claim typ what a token is, and Cognito into token_use; ID
// tokens have what belongs to a sign-in; logout tokens and security events have events.
func checkKind(t *Token) error {
	kind, hasKind := t.Claims["typ"]
	use, hasUse := t.Claims["token_use"]
	_, hasNonce := t.Claims["nonce"]
	switch {
	case hasKind && !isText(kind, "Bearer"), hasUse && !isText(use, "access"):
		return errors.New("its claims name another kind of token")
	case hasNonce && !hasKind && !hasUse:
		return errors.New("it has a nonce, as ID tokens have")
	case t.ClientID == "":
		return errors.New("it names no client")
	}
	for _, claim := range [...]string{"at_hash", "c_hash", "events"} {
		if _, ok := t.Claims[claim]; ok {
			return errors.New("it has the claim " + claim)
		}
	}
	return nil
}

func isText(claim any, want string) bool {
	text, ok := claim.(string)
	return ok && strings.EqualFold(text, want)
}

// scopeOf puts together what claims say of the scope.
func scopeOf(claims map[string]any, names []string) (oauth.Scope, error) {
	var scope oauth.Scope
	for _, name := range names {
		switch value := claims[name].(type) {
		case nil:
		case string:
			some, err := oauth.ParseScope(value)
			if err != nil {
				return nil, fmt.Errorf("%s is malformed", name)
			}
			scope = scope.Union(some)
		case []any:
			for _, member := range value {
				text, _ := member.(string)
				some, err := oauth.ParseScope(text)
				if err != nil || len(some) != 1 || some[0] != text {
					return nil, fmt.Errorf("%s is malformed", name)
				}
				scope = scope.Union(some)
			}
		default:
			return nil, fmt.Errorf("%s is neither a string nor an array", name)
		}
	}
	return scope, nil
}
