package authserver

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// grantType is a way to get tokens: a name and what it makes of a request. Exactly one
// runs. The token endpoint owns what all have in common, before and after.
type grantType struct {
	name string
	// entitle says what the client may have and what it uses up by that. It changes
	// nothing in the store: issue does, all at once. When somebody else used it up
	// meanwhile, exchange is asked again.
	entitle func(*call) (*entitlement, error)
	// confidential says that a public client cannot have it.
	confidential bool
	// offered reports whether it is named to everybody; nil: always. To those who are not
	// registered for it, others are not there.
	offered func(*Server) bool
}

// grantTypes is the table of grant types.
func grantTypes() []grantType {
	return []grantType{
		{name: oauth.GrantTypeAuthorizationCode, entitle: (*call).grantAuthorizationCode},
		{name: oauth.GrantTypeRefreshToken, entitle: (*call).grantRefreshToken},
		{name: oauth.GrantTypeClientCredentials, entitle: (*call).grantClientCredentials, confidential: true},
		{name: oauth.GrantTypePassword, entitle: (*call).grantPassword, offered: (*Server).offersPasswordGrant},
		{name: oauth.GrantTypeDeviceCode, entitle: (*call).grantDeviceCode},
		{name: oauth.GrantTypeJWTBearer, entitle: (*call).grantJWTBearer, confidential: true, offered: (*Server).offersJWTBearer},
		{name: oauth.GrantTypeSAMLBearer, entitle: (*call).grantSAMLBearer, confidential: true, offered: (*Server).offersSAMLBearer},
		{name: oauth.GrantTypeTokenExchange, entitle: (*call).grantTokenExchange, confidential: true, offered: (*Server).offersTokenExchange},
	}
}

func (g *grantType) offeredBy(s *Server) bool { return g.offered == nil || g.offered(s) }

// entitlement is what a grant type found a client entitled to.
type entitlement struct {
	// authorization is what the tokens descend from; for a client's own tokens it has no
	// subject and no family.
	authorization authorization
	// resources narrows authorization.Resources; scope narrows its Scope.
	scope     oauth.Scope
	resources []string
	// spend are the tickets that this uses up.
	spend []storage.Key
	// retried says that an earlier exchange for the same may have taken effect, and that nobody
	// heard of it (unknownoutcome.go).
	retried bool
	// put are tickets that are stored with the tokens. Where one is there already, the
	// exchange is asked again.
	put []storage.Ticket
	// anchorKey is what the tokens hang from where there is neither code nor refresh token.
	anchorKey storage.Key
	// subjectToken is the token of this server that these are exchanged for; nil if there is none.
	// Where these expire with it, subjectAnchor is its anchor, and after their own id their jti has
	// its ids.
	subjectToken  *presentedToken
	subjectAnchor string
	// ownID is the tokens' own part of the jti; "" if it is not made yet.
	ownID string
	// outlives says that these do not expire with the token that they are exchanged for.
	outlives bool
	// issueInstead makes what is issued in place of an access token; nil for an access token.
	issueInstead func(context.Context) (*oauth.TokenResponse, []storage.Ticket, error)
	// code is the code that the tokens are for, or come with; zero if there is none.
	code storage.Key
	// refreshToken is the refresh token to hand out, "" for none; storeRefresh says that
	// it is new.
	refreshToken string
	storeRefresh bool
	// reusedRefreshToken is the ticket of a refresh token that was used and stays as it is; zero if there
	// is none.
	reusedRefreshToken storage.Ticket
	// issuedTokenType is named in the answer (RFC 8693, section 2.2.1); "" for none.
	issuedTokenType string
	// lifetime shortens that of the access token; 0 leaves it.
	lifetime time.Duration
	// idToken says that an ID token goes with it; nonce is what the client bound it to.
	idToken bool
	nonce   string
}

var (
	ruleGrantTypeSent = rule{
		must:    "the request has a grant_type",
		section: "RFC 6749, section 5.2", code: oauth.InvalidRequest,
		says: "grant_type is missing",
		fix:  "send grant_type in the body",
	}
	ruleGrantTypeKnown = rule{
		must:    "grant_type is one that this server has",
		section: "RFC 6749, section 5.2", code: oauth.UnsupportedGrantType,
		says: "grant_type is not supported by this server",
		fix:  "send one of grant_types_supported of the server metadata",
	}
	ruleGrantTypeAllowed = rule{
		must:    "the client is registered for the grant type",
		section: "RFC 6749, section 5.2", code: oauth.UnauthorizedClient,
		says: "the client is not registered for this grant_type",
		fix:  "add the grant type to the client's grant_types",
	}
	ruleResourceSyntax = rule{
		must:    "resource is an absolute URI without a fragment, named at most 16 times",
		section: "RFC 8707, section 2", code: oauth.InvalidTarget,
		says: "resource must be an absolute URI without a fragment, at most 16 of them",
		fix:  "send the API's identifier as it is declared",
	}
	ruleResourceKnown = rule{
		must:    "each resource is declared and open to the client",
		section: "RFC 8707, section 2", code: oauth.InvalidTarget,
		says: "the resource is unknown, or not for this client",
		fix:  "declare the resource, or add it to the client's resources",
	}
)

// maxTokenAttempts bounds how often a request is looked at anew because another one spent
// the same ticket in between.
const maxTokenAttempts = 3

// token is the token endpoint (RFC 6749, section 3.2).
func (c *call) token() error {
	if err := c.parseForm(); err != nil {
		return err
	}
	name := c.params.get("grant_type")
	grant := c.s.grantTypeNamed(name)
	cl, err := c.authenticateClient()
	if err != nil {
		return err
	}
	if name == "" {
		return c.refuse(&ruleGrantTypeSent, "")
	}
	allowed := cl.HasGrantType(name)
	if grant == nil || !allowed && !grant.offeredBy(c.s) {
		return c.refuse(&ruleGrantTypeKnown, "grant_type: "+name)
	}
	if !allowed {
		return c.refuse(&ruleGrantTypeAllowed, "grant_type: "+name)
	}
	for range maxTokenAttempts {
		ent, err := grant.entitle(c)
		if err != nil {
			return err
		}
		response, err := c.issue(ent)
		if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrExists) {
			continue
		}
		if err != nil {
			return err
		}
		return writeJSON(c.w, http.StatusOK, response)
	}
	return oauth.NewError(oauth.TemporarilyUnavailable, "another request is using the same grant; try again")
}

func (s *Server) grantTypeNamed(name string) *grantType {
	for i := range s.grantTypes {
		if s.grantTypes[i].name == name {
			return &s.grantTypes[i]
		}
	}
	return nil
}
