package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// MetadataDocumentPolicy says which Client ID Metadata Documents are accepted. With such a document,
// the client_id is the https URL of the client's metadata, and the client is not registered.
type MetadataDocumentPolicy struct {
	// AllowedHosts are hosts such as "app.example.com", "*.example.com" for all subdomains, or
	// "*" for any host. A port other than 443 is accepted only if it is listed, as in
	// "app.example.com:8443". If AllowedHosts is empty, no documents are accepted.
	AllowedHosts []string
	// Scope limits what such a client may request; nil means the standard scopes.
	Scope oauth.Scope
	// RedirectSchemes have the meaning that they have in RegistrationPolicy.
	RedirectSchemes []string
}

func (p MetadataDocumentPolicy) on() bool { return len(p.AllowedHosts) > 0 }

// allows reports whether a client_id is the URL of a document that may be fetched.
func (p MetadataDocumentPolicy) allows(clientID string) bool {
	if !p.on() || oauth.CheckClientIDURL(clientID) != nil {
		return false
	}
	u, err := url.Parse(clientID)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Host)
	return slices.ContainsFunc(p.AllowedHosts, func(allowed string) bool {
		if allowed == "*" {
			return u.Port() == ""
		}
		if domain, ok := strings.CutPrefix(allowed, "*."); ok {
			return strings.HasSuffix(host, "."+strings.ToLower(domain))
		}
		return host == strings.ToLower(allowed)
	})
}

const maxClientDocumentBytes = 5 << 10 // Client ID Metadata Document, section 8.7

var (
	ruleClientDocument = rule{
		must:    "the document at client_id can be fetched, and describes a valid client",
		section: "Client ID Metadata Document, section 5", code: PageClientDocument,
		says: "the document at client_id cannot be fetched, or does not describe a valid client",
		fix:  "serve it at exactly that URL: status 200, no redirect, application/json, at most 5 kB; client_id is the URL itself, token_endpoint_auth_method none or private_key_jwt, redirect_uris as for registration",
	}
	// A program gets an error that makes it try again, because its tokens are still valid.
	ruleClientDocumentNow = rule{
		must: ruleClientDocument.must, section: ruleClientDocument.section, code: oauth.TemporarilyUnavailable,
		says: ruleClientDocument.says + "; try again", fix: ruleClientDocument.fix,
	}
	ruleClientDocumentPace = rule{
		must:    "not too many documents are fetched for one address, or from one host",
		section: "Client ID Metadata Document, section 8.6", code: oauth.TemporarilyUnavailable,
		says: "too many documents are being fetched; try again in a minute",
		fix:  "wait a minute",
	}
)

// errClientDocument is returned if a client's document cannot be fetched or is not valid. The error
// that it wraps is for the operator alone. If others saw it, they could use this server as a port
// scanner.
var errClientDocument = errors.New("the client's metadata document cannot be used")

// clientByDocument returns the client of a stored token or grant. The last document is used for a
// day if the current one cannot be fetched.
func (s *Server) clientByDocument(ctx context.Context, id string) (*client, error) {
	if cl := s.documents.last(id, time.Now()); cl != nil && s.config.MetadataDocuments.allows(id) {
		return cl, nil
	}
	cl, err := s.documentClient(ctx, id, netip.Addr{})
	if errors.Is(err, errClientDocument) || errors.Is(err, errDocumentPace) {
		return nil, oauth.NewError(oauth.TemporarilyUnavailable, ruleClientDocumentNow.says).WithCause(err)
	}
	return cl, err
}

// documentClient is the result of looking up a client_id that is a URL.
type documentClient struct {
	id     string
	client *client
	err    error
}

// knownDocumentLifetime is how long a client counts as known after a user has allowed it something.
const knownDocumentLifetime = 365 * 24 * time.Hour

// newcomer reports whether the client has a metadata document and no user has allowed it anything
// yet.
func (c *call) newcomer() (bool, error) {
	if !oauth.IsClientIDURL(c.client.ID) {
		return false, nil
	}
	_, err := c.s.config.Store.Get(c.r.Context(), c.now, ticketkind.KnownDocument.Hash(c.client.ID))
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return false, fmt.Errorf("look up whether a client is known: %w", err)
	}
	return err != nil, nil
}

// recordKnownDocument records that a user has allowed the client something, if it has a metadata
// document.
func (c *call) recordKnownDocument() error {
	if isNew, err := c.newcomer(); err != nil || !isNew {
		return err
	}
	known := storage.Ticket{Key: ticketkind.KnownDocument.Hash(c.client.ID), Expires: c.now.Add(knownDocumentLifetime)}
	if err := c.s.config.Store.Put(c.r.Context(), c.now, known); err != nil && !errors.Is(err, storage.ErrExists) {
		return fmt.Errorf("record that a client is known: %w", err)
	}
	return nil
}

// fetchClientDocument fetches the document at client_id. It returns the client, and how long the
// document is fresh.
func (s *Server) fetchClientDocument(ctx context.Context, id string) (*client, time.Duration, error) {
	body, header, err := s.outsiderOutgoing.Get(ctx, id, "application/json", maxClientDocumentBytes)
	if err != nil {
		return nil, 0, err
	}
	if contentType := header.Get("Content-Type"); !isJSON(contentType) {
		return nil, 0, fmt.Errorf("its Content-Type is %q", clip(contentType))
	}
	catalogue, err := s.catalogue(ctx)
	if err != nil {
		return nil, 0, err
	}
	described, err := s.readClientDocument(catalogue, id, body)
	if err != nil {
		return nil, 0, err
	}
	if err := s.prepareKeysFor(ctx, described, time.Now()); err != nil {
		return nil, 0, err
	}
	return s.newClient(described), documentLifetime(header, time.Now()), nil
}

// isJSON reports whether a Content-Type is application/json or application/…+json (Client ID
// Metadata Document, section 4).
func isJSON(contentType string) bool {
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && (mediaType == "application/json" ||
		strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json"))
}

// readClientDocument returns the client that a document describes. It must pass the checks of a
// registration, and must not have a secret (Client ID Metadata Document, section 4.1).
func (s *Server) readClientDocument(catalogue *catalogue, id string, body []byte) (*record.Client, error) {
	var members map[string]json.RawMessage
	if err := jose.ParseJSON(body, &members); err != nil {
		return nil, err
	}
	for _, secret := range []string{"client_secret", "client_secret_expires_at"} {
		if _, ok := members[secret]; ok {
			return nil, errors.New("a metadata document must not have " + secret)
		}
	}
	request := &registrationRequest{}
	problem, err := request.read(body)
	if err != nil {
		return nil, err
	}
	if problem == nil {
		problem = request.checkSizes()
	}
	if problem != nil {
		return nil, errors.New(problem.String())
	}
	if request.ClientID != id {
		return nil, fmt.Errorf("its client_id is %q", clip(request.ClientID))
	}
	m := request.ClientMetadata
	switch m.TokenEndpointAuthMethod {
	case "": // the default of RFC 7591 needs a secret, which a document must not have
		m.TokenEndpointAuthMethod = oauth.AuthMethodNone
	case oauth.AuthMethodNone, oauth.AuthMethodPrivateKeyJWT:
	default:
		return nil, fmt.Errorf("token_endpoint_auth_method: %q is neither none nor private_key_jwt", clip(m.TokenEndpointAuthMethod))
	}
	if needsSecret(&m) {
		return nil, errors.New("it has an algorithm that needs a client_secret")
	}
	if m.SectorIdentifierURI != "" {
		return nil, errors.New("sector_identifier_uri is not supported in a metadata document")
	}
	client := &record.Client{ID: id, ClientMetadata: m, Registration: &record.Registration{Localized: request.localized}}
	problems := s.limitRegistered(client, RegistrationPolicy{
		Scope: s.config.MetadataDocuments.Scope, RedirectSchemes: s.config.MetadataDocuments.RedirectSchemes,
	})
	if problems = append(problems, s.registeredProblems(client, catalogue)...); len(problems) > 0 {
		return nil, errors.New(problems[0].String())
	}
	return client, nil
}

// documentHost returns the host of a document, for the limit on fetches.
func documentHost(id string) string {
	u, err := url.Parse(id)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

// documentClient returns the client that the document at client_id describes. It fetches the
// document if there is no fresh copy. from is the address that sent the request; zero if there is
// none.
func (s *Server) documentClient(ctx context.Context, id string, from netip.Addr) (*client, error) {
	if !s.config.MetadataDocuments.allows(id) {
		return nil, errUnknownClient
	}
	d, fetch, err := s.documents.find(id, from, false, time.Now())
	if errors.Is(err, errDocumentHostPace) {
		if _, unknown := s.config.Store.Get(ctx, time.Now(), ticketkind.KnownDocument.Hash(id)); unknown == nil {
			d, fetch, err = s.documents.find(id, netip.Addr{}, true, time.Now())
		}
	}
	if err != nil {
		return nil, err
	}
	if fetch {
		s.documents.fetches.Go(func() {
			// Others may wait for the document too, so the fetch goes on if the browser leaves.
			cl, lifetime, err := s.fetchClientDocument(context.WithoutCancel(ctx), id)
			if err != nil {
				s.events.Record(ctx, event.ClientMetadataFetchFailed, slog.String("client_id", id), slog.Any("cause", err))
			}
			s.documents.finish(id, d, cl, lifetime, err, time.Now())
		})
	}
	return s.documents.wait(ctx, d, time.Now())
}
