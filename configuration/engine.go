package configuration

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/internal/clientaddress"
	"github.com/valetkey/valetkey/oauth"
)

// Engine returns the fields of an authserver.Config that a configuration decides. It reads
// the files that the configuration names. The caller adds the store, the secret and the
// users.
func (c *Configuration) Engine() (authserver.Config, error) {
	outgoing, outgoingErr := c.Outgoing.Engine()
	registration, registrationErr := c.Registration.engine()
	documents, documentsErr := c.MetadataDocuments.engine()
	webhooks, webhooksErr := c.webhooks()
	mutualTLS, mutualTLSErr := c.mutualTLS()
	if err := errors.Join(outgoingErr, webhooksErr, mutualTLSErr, registrationErr, documentsErr); err != nil {
		return authserver.Config{}, err
	}
	return authserver.Config{
		Issuer:                             c.Issuer,
		Lifetimes:                          c.Lifetimes.Engine(),
		Profile:                            c.Profile,
		RequireCodeChallenge:               c.RequireCodeChallenge,
		RequirePushedAuthorizationRequests: c.RequirePushedAuthorizationRequests,
		RequireSignedRequestObject:         c.RequireSignedRequestObject,
		DPoP:                               authserver.DPoPPolicy{RequireNonce: c.DPoP.RequireNonce, MaxAge: time.Duration(c.DPoP.MaxAge)},
		FirstPartyApplications:             c.FirstPartyApplications,
		Claims:                             authserver.ClaimSettings{Mappings: c.Claims, Sources: c.ClaimSources},
		Hooks:                              authserver.Hooks{Webhooks: webhooks},
		TokenExchange:                      c.TokenExchange,
		AuthorizationDetailsTypes:          c.AuthorizationDetailsTypes,
		TrustedIssuers:                     c.TrustedIssuers,
		Outgoing:                           outgoing,
		Registration:                       registration,
		MetadataDocuments:                  documents,
		MutualTLS:                          mutualTLS,
	}, nil
}

// Engine returns the lifetimes that the engine knows.
func (l Lifetimes) Engine() authserver.Lifetimes {
	return authserver.Lifetimes{
		AuthorizationCode:          time.Duration(l.AuthorizationCode),
		AccessToken:                time.Duration(l.AccessToken),
		IDToken:                    time.Duration(l.IDToken),
		RefreshToken:               time.Duration(l.RefreshToken),
		RefreshTokenMax:            time.Duration(l.RefreshTokenMax),
		RefreshRetry:               time.Duration(l.RefreshRetry),
		Interaction:                time.Duration(l.Interaction),
		PushedAuthorizationRequest: time.Duration(l.PushedAuthorizationRequest),
		KeyRotation:                time.Duration(l.KeyRotation),
		KeyPublishAhead:            time.Duration(l.KeyPublishAhead),
	}
}

// Engine returns the policies of the engine. It reads the certificate authorities.
func (o Outgoing) Engine() (authserver.Outgoing, error) {
	var engine authserver.Outgoing
	var err error
	if engine.Networks, err = clientaddress.ParseNetworks(o.Networks); err != nil {
		return engine, fmt.Errorf("outgoing.networks: %w", err)
	}
	if engine.InsecureOutsiderNetworks, err = clientaddress.ParseNetworks(o.InsecureOutsiderNetworks); err != nil {
		return engine, fmt.Errorf("outgoing.insecure_outsider_networks: %w", err)
	}
	if o.CertificateAuthorities == "" {
		return engine, nil
	}
	certificates, err := os.ReadFile(o.CertificateAuthorities)
	if err != nil {
		return engine, fmt.Errorf("read outgoing.certificate_authorities: %w", err)
	}
	engine.CertificateAuthorities = x509.NewCertPool()
	if !engine.CertificateAuthorities.AppendCertsFromPEM(certificates) {
		return engine, fmt.Errorf("outgoing.certificate_authorities: %s contains no certificate in PEM format", o.CertificateAuthorities)
	}
	return engine, nil
}

func (r Registration) engine() (authserver.RegistrationPolicy, error) {
	scope, err := oauth.ParseScope(r.Scope)
	if err != nil {
		return authserver.RegistrationPolicy{}, fmt.Errorf("registration.scope: %w", err)
	}
	return authserver.RegistrationPolicy{
		Mode:                      authserver.RegistrationMode(r.Mode),
		Scope:                     scope,
		AnyAllowedScope:           r.AnyAllowedScope,
		RedirectSchemes:           r.RedirectSchemes,
		UnusedLifetime:            time.Duration(r.UnusedLifetime),
		MaxClients:                r.MaxClients,
		PerMinute:                 r.PerMinute,
		Profile:                   r.Profile,
		SoftwareStatements:        r.SoftwareStatements,
		RequireSoftwareStatement:  r.RequireSoftwareStatement,
		InsecureNoCodeChallenge:   r.InsecureNoCodeChallenge,
		InsecureAssertionAudience: r.InsecureAssertionAudience,
		InsecureErrorRedirects:    r.InsecureErrorRedirects,
	}, nil
}

func (m MetadataDocuments) engine() (authserver.MetadataDocumentPolicy, error) {
	scope, err := oauth.ParseScope(m.Scope)
	if err != nil {
		return authserver.MetadataDocumentPolicy{}, fmt.Errorf("client_id_metadata_documents.scope: %w", err)
	}
	return authserver.MetadataDocumentPolicy{
		AllowedHosts:    m.AllowedHosts,
		Scope:           scope,
		RedirectSchemes: m.RedirectSchemes,
	}, nil
}

func (h *Hook) engine() (authserver.Webhook, error) {
	w := authserver.Webhook{
		URL:        h.URL,
		Secret:     h.Secret,
		Events:     h.Events,
		Timeout:    time.Duration(h.Timeout),
		Clients:    h.Clients,
		Resources:  h.Resources,
		GrantTypes: h.GrantTypes,
	}
	if h.SecretFile != "" {
		secret, err := readSecretFile(h.SecretFile)
		if err != nil {
			return w, fmt.Errorf("secret_file: %w", err)
		}
		w.Secret = secret
	}
	return w, nil
}

// webhooks returns the hooks with their secrets.
func (c *Configuration) webhooks() ([]authserver.Webhook, error) {
	var webhooks []authserver.Webhook
	for i := range c.Hooks {
		w, err := c.Hooks[i].engine()
		if err != nil {
			return nil, fmt.Errorf("hooks[%d]: %w", i, err)
		}
		webhooks = append(webhooks, w)
	}
	return webhooks, nil
}
