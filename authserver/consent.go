package authserver

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

var ruleResourceConsented = rule{
	must:    "the user was asked about the resource when they allowed the client's request",
	section: "RFC 8707, section 2.2", code: oauth.InvalidTarget,
	says: "the user was not asked about this resource",
	fix:  "send the same resource parameter in the authorization request",
}

// reaches returns the resources that the tokens of a request can be for: the resources that it
// names, or else those that have one of its scopes or are a location of its authorization details. It is never nil.
func (c *catalogue) reaches(cl *client, named []string, scope oauth.Scope, details []json.RawMessage) []string {
	if len(named) > 0 {
		return named
	}
	reached := []string{}
	for i := range c.resources {
		if r := &c.resources[i]; cl.mayUse(r.Identifier) && (slices.ContainsFunc(r.Scopes, scope.Has) || located(details, r.Identifier)) {
			reached = append(reached, r.Identifier)
		}
	}
	return reached
}

// granted returns the resources that a grant covers.
func (c *catalogue) granted(cl *client, grant *record.Grant) []string {
	if grant.Resources != nil {
		return grant.Resources
	}
	return c.reaches(cl, nil, grant.Scope, nil)
}

// covers reports whether a grant covers all of the resources. Consent is for a scope at an API,
// because the same scope may allow more at another API.
func (c *catalogue) covers(cl *client, grant *record.Grant, resources []string) bool {
	granted := c.granted(cl, grant)
	return !slices.ContainsFunc(resources, func(r string) bool { return !oauth.ContainsResource(granted, r) })
}

// consented reports whether the user need not be asked for consent.
func (i *interaction) consented(catalogue *catalogue, grant *record.Grant) bool {
	request := i.request
	// A user who enters the code of a device is asked every time, because an attacker may have
	// sent it to them (RFC 8628, section 5.4; RFC 10027, section 6.1).
	// A backchannel request begins with the client, so the user's approval is the only proof that
	// they want it (CIBA Core, section 8).
	again := slices.Contains(request.prompt, promptConsent) || i.device != nil || i.backchannel != nil
	if request.client.SkipConsent && !again {
		return true
	}
	// Consent to authorization details is for one request.
	again = again || len(request.details) > 0
	if grant == nil || !grant.Scope.Union(grant.Declined).Covers(request.consent) || !catalogue.covers(request.client, grant, request.audience) {
		return false
	}
	// Any program that can use a private-use scheme or a loopback port can pretend to be a
	// public native client. An earlier consent may have been for another program (RFC 8252,
	// section 8.6).
	again = again || request.client.Public() && !claimedHTTPS(request.to.uri)
	return !again || i.allowed
}

func claimedHTTPS(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && u.Scheme == "https"
}

// putGrant adds what a user allowed to their grant.
func (c *call) putGrant(catalogue *catalogue, request *authorizationRequest, subject string, allowed oauth.Scope) (*record.Grant, error) {
	grant, err := c.s.config.Store.UpdateGrant(c.r.Context(), subject, request.client.ID, func(grant *record.Grant) error {
		if grant.CreatedAt.IsZero() {
			grant.CreatedAt = c.now
		}
		resources := slices.Clone(catalogue.granted(request.client, grant))
		for _, r := range request.audience {
			if !oauth.ContainsResource(resources, r) {
				resources = append(resources, r)
			}
		}
		grant.Resources = resources
		grant.Details.Add(c.now, request.details)
		grant.Scope = grant.Scope.Without(request.consent).Union(allowed)
		grant.Declined = grant.Declined.Without(request.consent).Union(request.consent.Without(allowed))
		grant.UpdatedAt = c.now
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("store grant: %w", err)
	}
	if err := c.recordKnownDocument(); err != nil {
		return nil, err
	}
	if ctx := c.r.Context(); c.s.events.Enabled(ctx, event.ConsentGranted) {
		c.s.events.Record(ctx, event.ConsentGranted, c.s.namedSubject(ctx, subject), namedClient(request.client),
			slog.String("scope", allowed.String()), slog.String("resource", strings.Join(request.audience, " ")), event.Address(c.s.remoteAddr(c.r)))
	}
	return grant, nil
}

// narrowAudience is narrowResources for tokens that the user was asked about. If the
// authorization request named no resource, the token request may name only resources that the
// user was asked about.
func (c *call) narrowAudience(a *authorization) ([]string, error) {
	resources, err := c.narrowResources(a.Resources)
	if err != nil || a.Audience == nil || len(a.Resources) > 0 {
		return resources, err
	}
	for _, r := range resources {
		if !oauth.ContainsResource(a.Audience, r) {
			return nil, c.refuse(&ruleResourceConsented, r)
		}
	}
	return resources, nil
}
