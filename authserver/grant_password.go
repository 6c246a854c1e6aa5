package authserver

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

var (
	rulePasswordSent = rule{
		must:    "the request has a username and a password",
		section: "RFC 6749, section 4.3.2", code: oauth.InvalidRequest,
		says: "username or password is missing",
		fix:  "send both in the body",
	}
	rulePasswordCorrect = rule{
		must:    "the username and the password are correct",
		section: "RFC 6749, section 5.2", code: oauth.InvalidGrant,
		says: "the username or the password is wrong",
		fix:  "use the code flow: there users sign in themselves, also with more than a password",
	}
	rulePasswordPace = rule{
		must:    "not too many attempts failed for this account or from this address",
		section: "RFC 6749, section 4.3.2", code: oauth.TemporarilyUnavailable,
		says: "too many attempts; try again later",
		fix:  "wait as long as Retry-After says",
	}
)

// offersPasswordGrant returns false, because the grant is an exception for individual clients.
func (s *Server) offersPasswordGrant() bool { return false }

// grantPassword is the resource owner password credentials grant (RFC 6749, section 4.3). RFC 9700,
// section 2.4 forbids it, because the client sees the password. It is for clients that have it in
// their grant_types until they use the code flow, and for accounts that need only a password.
func (c *call) grantPassword() (*entitlement, error) {
	username, password := c.params.get("username"), c.params.get("password")
	if err := c.must(username != "" && password != "", &rulePasswordSent); err != nil {
		return nil, err
	}
	scope, err := c.passwordScope()
	if err != nil {
		return nil, err
	}
	resources, err := c.requestedResources()
	if err != nil {
		return nil, err
	}
	who, err := c.checkPassword(username, password, &rulePasswordCorrect)
	if err != nil {
		return nil, err
	}
	required, err := c.requiredACR(c.client, scope, who.Subject)
	if err != nil {
		return nil, err
	}
	if !c.includes(who.ACR, required) {
		// The response does not tell that the password is correct.
		return nil, c.refuse(&rulePasswordCorrect, "more than a password is needed: acr "+required)
	}
	grant, err := c.recordGrant(who.Subject, scope, resources)
	if err != nil {
		return nil, err
	}
	ent := &entitlement{
		authorization: authorization{
			ClientID: c.client.ID, Subject: who.Subject, Grant: grant.ID, Family: newFamily(c.now), Scope: scope, Resources: resources,
			AuthTime: who.Time.Unix(), ACR: who.ACR, AMR: who.AMR,
		},
		scope: scope, resources: resources, idToken: scope.Has(oauth.ScopeOpenID),
	}
	if c.client.HasGrantType(oauth.GrantTypeRefreshToken) {
		ent.refreshToken, ent.storeRefresh = newSecret(prefixRefreshToken, c.now), true
	}
	return ent, nil
}

// checkPassword authenticates a user. It costs a password hash, so everything else is checked before.
// correct is the rule that a wrong password breaks.
func (c *call) checkPassword(username, password string, correct *rule) (*Authentication, error) {
	who, err := c.s.config.Users.CheckPassword(c.r, username, password)
	if later, ok := errors.AsType[*TryLaterError](err); ok {
		c.w.Header().Set("Retry-After", strconv.Itoa(int(max(1, later.After.Round(time.Second)/time.Second))))
		refusal := c.refuse(&rulePasswordPace, "")
		oauth.AsError(refusal).Status = http.StatusTooManyRequests
		return nil, refusal
	}
	if errors.Is(err, ErrWrongPassword) {
		return nil, c.refuse(correct, "")
	}
	if err != nil {
		return nil, fmt.Errorf("check a password: %w", err)
	}
	return who, c.must(true, correct)
}

// passwordScope returns the requested part of the client's scope; all of it if the request has no
// scope.
func (c *call) passwordScope() (oauth.Scope, error) {
	requested, err := oauth.ParseScope(c.params.get("scope"))
	if err != nil {
		return nil, err
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	if requested == nil {
		unknown := func(name string) bool { _, ok := catalogue.scopes[name]; return !ok }
		return slices.DeleteFunc(slices.Clone(c.client.scope), unknown), nil
	}
	for _, name := range requested {
		if _, known := catalogue.scopes[name]; !known || !c.client.scope.Has(name) {
			return nil, c.refuse(&ruleClientScope, "scope "+name+"; the client's scope is "+c.client.scope.String())
		}
	}
	return requested, nil
}

// recordGrant records that the user gave the client access without a consent page, so that they
// see it and can end it. A user who gives a client their password consents to what it requests.
func (c *call) recordGrant(subject string, scope oauth.Scope, resources []string) (*record.Grant, error) {
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	audience := catalogue.reaches(c.client, resources, scope, nil)
	grant, err := c.s.config.Store.Grant(c.r.Context(), subject, c.client.ID)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("look up grant: %w", err)
	}
	if grant != nil && grant.Scope.Covers(scope) && catalogue.covers(c.client, grant, audience) {
		return grant, nil
	}
	return c.putGrant(catalogue, &authorizationRequest{client: c.client, consent: scope, audience: audience}, subject, scope)
}
