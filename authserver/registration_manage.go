package authserver

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

var (
	ruleRegistrationToken = rule{
		must:    "the request carries the registration access token of the client in client_id",
		section: "RFC 7592, section 2", code: oauth.InvalidToken,
		says: "the registration access token is missing, or not that of this client",
		fix:  "send Authorization: Bearer with the registration_access_token of the registration",
	}
	ruleReplacement = rule{
		must:    "a replacement names the client, and its present secret if it names one",
		section: "RFC 7592, section 2.2", code: oauth.InvalidClientMetadata,
		says: "client_id or client_secret in the body is not that of this client",
		fix:  "send the client_id, and the client_secret that was issued or none",
	}
)

// manageRegistration is the client configuration endpoint (RFC 7592, section 2): the client
// reads, replaces or deletes its own record.
func (c *call) manageRegistration() error {
	client, token, err := c.registeredClient()
	if oauth.AsError(err) != nil {
		c.challenge(err)
		return nil
	}
	if err != nil {
		return err
	}
	switch c.r.Method {
	case http.MethodPut:
		return c.replaceClient(client, token)
	case http.MethodDelete:
		if err := c.s.config.Store.DeleteClient(c.r.Context(), client.ID); err != nil {
			return fmt.Errorf("delete client: %w", err)
		}
		c.s.forget()
		c.s.events.Record(c.r.Context(), event.ClientDeleted, clientMembers(client), event.Address(c.s.remoteAddr(c.r)))
		noStore(c.w)
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return c.writeClient(http.StatusOK, client, token)
}

// registeredClient finds the client that a registration access token is for. That there is
// no such client looks like a wrong token (RFC 7592, section 2.1).
func (c *call) registeredClient() (*record.Client, string, error) {
	p, err := c.parseParams(c.r.URL.RawQuery)
	if err != nil {
		return nil, "", err
	}
	token, err := c.bearerToken()
	if err != nil {
		return nil, "", err
	}
	if !isSecret(prefixRegistrationToken, token) {
		return nil, "", c.refuse(&ruleRegistrationToken, "it has not the form of one that this server issues")
	}
	client, err := c.s.config.Store.Client(c.r.Context(), p.get("client_id"))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, "", c.refuse(&ruleRegistrationToken, "there is no such client")
	}
	if err != nil {
		return nil, "", fmt.Errorf("read client: %w", err)
	}
	hash := sha256.Sum256([]byte(token))
	if !active(client, c.now) || client.Registration == nil || subtle.ConstantTimeCompare(hash[:], client.Registration.TokenHash) != 1 {
		return nil, "", c.refuse(&ruleRegistrationToken, "it is not the token of "+client.ID)
	}
	return client, token, c.must(true, &ruleRegistrationToken)
}

// replaceClient puts new metadata in the place of the old; what is left out takes its
// default (RFC 7592, section 2.2).
func (c *call) replaceClient(client *record.Client, token string) error {
	// Each one makes every node read again what it knows of clients.
	if err := c.pace(ratelimit.NewKey(c.network())); err != nil {
		return err
	}
	request, err := c.readRegistration()
	if err != nil {
		return err
	}
	secret := ""
	if len(client.Secrets) > 0 {
		secret = client.Secrets[0]
	}
	if request.ClientID != client.ID || request.ClientSecret != "" && subtle.ConstantTimeCompare([]byte(request.ClientSecret), []byte(secret)) != 1 {
		return c.refuse(&ruleReplacement, "client_id: "+request.ClientID)
	}
	if !needsSecret(&request.ClientMetadata) && request.TokenEndpointAuthMethod != "" {
		client.Secrets = nil
	}
	if err := c.fillClient(client, request); err != nil {
		return err
	}
	err = c.s.config.Store.UpdateClient(c.r.Context(), client.ID, func(stored *record.Client) error {
		if stored.Registration == nil || !active(stored, c.now) || !bytes.Equal(stored.Registration.TokenHash, client.Registration.TokenHash) {
			return storage.ErrNotFound // by now
		}
		replaceMetadata(stored, client)
		*client = *stored
		return nil
	})
	if errors.Is(err, storage.ErrNotFound) {
		return c.refuse(&ruleRegistrationToken, "the client is gone")
	}
	if err != nil {
		return fmt.Errorf("replace client: %w", err)
	}
	if err := c.s.prepareKeysFor(c.r.Context(), client, c.now); err != nil {
		return err
	}
	c.s.forget()
	return c.writeClient(http.StatusOK, client, token)
}

// replaceMetadata puts in a stored client what a replacement decides, and leaves the rest as
// it is by now: whether the client was used, and what an operator has set.
func replaceMetadata(stored, replacement *record.Client) {
	stored.ClientMetadata = replacement.ClientMetadata
	stored.RedirectSchemes = replacement.RedirectSchemes
	stored.InsecureNoCodeChallenge = replacement.InsecureNoCodeChallenge
	stored.InsecureAssertionAudience = replacement.InsecureAssertionAudience
	if len(replacement.Secrets) == 0 || len(stored.Secrets) == 0 {
		stored.Secrets = replacement.Secrets
	}
	r := stored.Registration
	r.Localized, r.SoftwareStatement, r.Vouched = replacement.Registration.Localized, replacement.Registration.SoftwareStatement, replacement.Registration.Vouched
}
