package resourceserver

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
)

// Issuer is an authorization server whose access tokens an API accepts, with the ways in
// which they differ from RFC 9068. If only the field Issuer is set, its tokens are treated
// like those of Config.Issuer.
type Issuer struct {
	// Issuer is the exact value of iss. It selects the keys that must verify a token: no
	// token is tried with the keys of several issuers.
	Issuer string
	// JWKSURI is the URL of the issuer's keys. Empty means the one in the issuer's metadata.
	JWKSURI string
	// Audiences are the accepted values of aud; nil means Config.Resource. They need not be
	// URIs: some servers use a client ID, or a name such as api://default.
	Audiences []string
	// Algorithms are the accepted signature algorithms; nil means those of Config.
	Algorithms []jose.Algorithm
	// ScopeClaims are the claims that contain scopes, such as scp, roles or permissions. Each
	// may be a space-separated string or an array of strings; several are combined. Nil means
	// scope, as a string (RFC 9068, section 2.2.3).
	ScopeClaims []string
	// ClientIDClaim is the claim with the client ID, such as azp, appid or cid; empty means
	// client_id.
	ClientIDClaim string
	// CheckStatus checks whether a token was revoked, like Config.CheckStatus.
	CheckStatus bool

	// InsecureTypes are values of typ that are accepted in addition to at+jwt, such as JWT; ""
	// accepts tokens without a typ. Such tokens cannot be distinguished from ID tokens by their
	// typ (RFC 8725, section 3.11). They must therefore have a client ID, and are rejected if
	// another claim shows that they are not access tokens: token_use, Keycloak's claim typ,
	// nonce, at_hash, c_hash or events.
	InsecureTypes []string
	// InsecureClientIDs are clients whose tokens are accepted with any audience, or without
	// one. A token that such a client gets for another API can be used at this one.
	InsecureClientIDs []string
}

// trusted is an issuer with its published documents.
type trusted struct {
	Issuer
	documents *issuer
}

// trust completes an Issuer with the defaults of the configuration, and checks it.
func trust(config Config, i Issuer) (*trusted, error) {
	// Some providers' identifiers end with a slash, which CheckIssuer rejects.
	if err := oauth.CheckIssuer(strings.TrimSuffix(i.Issuer, "/")); err != nil {
		return nil, fmt.Errorf("resourceserver: issuer: %w", err)
	}
	if i.Audiences == nil && config.Resource != "" {
		i.Audiences = []string{config.Resource}
	}
	if len(i.Audiences) == 0 && len(i.InsecureClientIDs) == 0 {
		return nil, fmt.Errorf("resourceserver: issuer %s: set Resource or Audiences, so that tokens for other APIs are rejected", i.Issuer)
	}
	for _, list := range [][]string{i.Audiences, i.ScopeClaims, i.InsecureClientIDs} {
		if slices.Contains(list, "") {
			return nil, fmt.Errorf("resourceserver: issuer %s: Audiences, ScopeClaims and InsecureClientIDs must not contain empty strings", i.Issuer)
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

// accepts reports whether a token is for the API.
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

// checkKind rejects a JWT whose claims show that it is not an access token. Keycloak has the
// kind of token in the claim typ, and Cognito in token_use. ID tokens have claims of a
// sign-in; logout tokens and security event tokens have events.
func checkKind(t *Token) error {
	kind, hasKind := t.Claims["typ"]
	use, hasUse := t.Claims["token_use"]
	_, hasNonce := t.Claims["nonce"]
	switch {
	case hasKind && !isText(kind, "Bearer"), hasUse && !isText(use, "access"):
		return errors.New("its claims say that it is another kind of token")
	case hasNonce && !hasKind && !hasUse:
		return errors.New("it has a nonce, like an ID token")
	case t.ClientID == "":
		return errors.New("it has no client ID")
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

// scopeOf returns the combined scope of several claims.
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
			return nil, fmt.Errorf("%s must be a string or an array", name)
		}
	}
	return scope, nil
}
