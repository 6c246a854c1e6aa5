package authserver

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/internal/outgoing"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// catalogue is the configuration from the store, cached in memory: scopes, resources, keys,
// clients (on demand), and the documents that are generated from them. It is replaced when the
// store's version changes.
type catalogue struct {
	version int64
	checked atomic.Int64 // when the version was last compared, Unix nanoseconds

	scopes     map[string]record.Scope
	scopeNames []string
	resources  []record.Resource
	// issuer is an audience without being a declared resource, except ofIssuer if that is not nil.
	issuer      string
	ofIssuer    *record.Resource
	keys        keyRing
	clientNeeds combinedNeeds
	// verified caches access tokens with a valid signature, by their hash. It is dropped when
	// a key is removed.
	verified *recent[[sha256.Size]byte, *accessTokenClaims]
	// signed caches more about fewer of them.
	signed   *recent[[sha256.Size]byte, *signedToken]
	jwks     *document
	metadata *document

	mu      sync.RWMutex
	clients map[string]*client
	// registeredBytes estimates the memory of the clients that registered themselves.
	registeredBytes int
}

// catalogueMaxStale is how long the engine keeps using a catalogue when the store does not
// respond. After that it issues nothing, because a client may have been disabled.
const catalogueMaxStale = time.Minute

// catalogue returns the current catalogue. Once a second, one caller compares its version with
// the store's. The others do not wait for that.
func (s *Server) catalogue(ctx context.Context) (*catalogue, error) {
	now := time.Now()
	current := s.catalogueNow.Load()
	if current != nil {
		age := now.Sub(time.Unix(0, current.checked.Load()))
		if age >= 0 && age < catalogueMaxAge {
			return current, nil
		}
		if age < catalogueMaxStale && !s.catalogueLoad.tryLock() {
			return current, nil
		} else if age >= catalogueMaxStale {
			if err := s.catalogueLoad.lock(ctx); err != nil {
				return nil, err
			}
		}
	} else if err := s.catalogueLoad.lock(ctx); err != nil {
		return nil, err
	}
	defer s.catalogueLoad.unlock()
	next, err := s.reloadCatalogue(ctx, now)
	if err == nil {
		return next, nil
	}
	if current != nil && now.Sub(time.Unix(0, current.checked.Load())) < catalogueMaxStale {
		s.log.WarnContext(ctx, "the store does not respond; clients and keys may be up to a minute old", "error", err)
		return current, nil
	}
	return nil, oauth.NewError(oauth.TemporarilyUnavailable, "the server cannot reach its database; try again").WithCause(err)
}

// newestInterval is how often a node asks the store for keys that it does not know yet. Outsiders can
// send tokens with any kid.
const newestInterval = 20 * time.Millisecond

// newestCatalogue returns a catalogue with the keys that the store has now, or known if they are not
// known to have changed: it was compared a moment ago, or the store does not respond.
func (s *Server) newestCatalogue(ctx context.Context, known *catalogue) *catalogue {
	if err := s.catalogueLoad.lock(ctx); err != nil {
		return known
	}
	defer s.catalogueLoad.unlock()
	now := time.Now()
	current := s.catalogueNow.Load()
	if age := now.Sub(time.Unix(0, current.checked.Load())); age >= 0 && age < newestInterval {
		return current
	}
	next, err := s.reloadCatalogue(ctx, now)
	if err != nil {
		return current // the next request logs it
	}
	return next
}

func (s *Server) reloadCatalogue(ctx context.Context, now time.Time) (*catalogue, error) {
	version, err := s.config.Store.Version(ctx)
	if err != nil {
		return nil, fmt.Errorf("read version: %w", err)
	}
	if current := s.catalogueNow.Load(); current != nil && current.version == version {
		current.checked.Store(now.UnixNano())
		s.loadRecordings(ctx, now)
		return current, nil
	}
	next := &catalogue{version: version, clients: make(map[string]*client)}
	next.checked.Store(now.UnixNano())
	if err := next.loadScopes(ctx, s.config.Store); err != nil {
		return nil, err
	}
	if next.resources, err = s.config.Store.Resources(ctx); err != nil {
		return nil, fmt.Errorf("read resources: %w", err)
	}
	next.addOwnAPI(s.config.OwnAPI)
	next.issuer, next.ofIssuer = s.config.Issuer, next.findResource(s.config.Issuer)
	keys, err := s.config.Store.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	if next.keys, err = newKeyRing(append(keys, s.external...)); err != nil {
		return nil, err
	}
	if current := s.catalogueNow.Load(); current != nil && next.keys.hasAll(current.keys) {
		next.verified, next.signed = current.verified, current.signed
	} else {
		next.verified = &recent[[sha256.Size]byte, *accessTokenClaims]{}
		next.signed = &recent[[sha256.Size]byte, *signedToken]{limit: maxSigned}
	}
	if next.jwks, err = next.keys.publish(now); err != nil {
		return nil, err
	}
	if next.clientNeeds, err = s.readClientNeeds(ctx); err != nil {
		return nil, err
	}
	if next.metadata, err = s.newMetadata(next); err != nil {
		return nil, err
	}
	s.catalogueNow.Store(next)
	s.noteKeysDue(next)
	return next, nil
}

// catalogue returns the catalogue of this request. It is loaded once, so that a request sees
// one state of scopes, resources, keys and clients even if they change in the meantime.
func (c *call) catalogue() (*catalogue, error) {
	if c.loaded == nil {
		loaded, err := c.s.catalogue(c.r.Context())
		if err != nil {
			return nil, err
		}
		c.loaded = loaded
	}
	return c.loaded, nil
}

// forget makes the next request read the store's version again.
func (s *Server) forget() {
	if current := s.catalogueNow.Load(); current != nil {
		current.checked.Store(0)
	}
}

// standardScopes are defined without being declared. On the consent page, users can deselect
// all of them except openid.
func standardScopes() []record.Scope {
	scope := func(name string) record.Scope {
		return record.Scope{Name: name, Claims: oauth.ScopeClaims[name], Optional: true}
	}
	return []record.Scope{
		{Name: oauth.ScopeOpenID},
		scope(oauth.ScopeProfile), scope(oauth.ScopeEmail), scope(oauth.ScopeAddress), scope(oauth.ScopePhone),
		scope(oauth.ScopeOfflineAccess),
	}
}

func (c *catalogue) loadScopes(ctx context.Context, store record.Store) error {
	declared, err := store.Scopes(ctx)
	if err != nil {
		return fmt.Errorf("read scopes: %w", err)
	}
	c.scopes = make(map[string]record.Scope)
	for _, scope := range append(standardScopes(), declared...) {
		if standard, ok := c.scopes[scope.Name]; ok && scope.Claims == nil {
			scope.Claims = standard.Claims
		} else if !ok {
			c.scopeNames = append(c.scopeNames, scope.Name)
		}
		c.scopes[scope.Name] = scope
	}
	return nil
}

// resource returns the declared resource with an identifier, or nil. An exact match comes
// first, then one that is equal according to oauth.SameResource.
func (c *catalogue) resource(identifier string) *record.Resource {
	if identifier == c.issuer {
		return c.ofIssuer
	}
	return c.findResource(identifier)
}

func (c *catalogue) findResource(identifier string) *record.Resource {
	for i := range c.resources {
		if c.resources[i].Identifier == identifier {
			return &c.resources[i]
		}
	}
	for i := range c.resources {
		if oauth.SameResource(c.resources[i].Identifier, identifier) {
			return &c.resources[i]
		}
	}
	return nil
}

// client is a record.Client with values that are derived from it once. It is never changed.
type client struct {
	*record.Client
	scope        oauth.Scope
	secretHashes [][sha256.Size]byte
	keys         *jose.KeySet // of jwks; nil if there is none
	// profile is the client's own, or else the server's. unmet is what keeps the client from meeting it.
	profile    *profile
	unmet      []ClientProblem
	remoteKeys *outgoing.KeySet
	origins    []string
	sector     string // for pairwise subjects
	// ownAPI is Config.OwnAPI; nil if there is none.
	ownAPI *OwnAPI
	// anySecretMethod: client_secret_basic and client_secret_post are both accepted.
	anySecretMethod bool
	bytes           int         // estimated memory, if the client registered itself
	usedBefore      atomic.Bool // the first use is recorded in the store
}

// issuedSince reports whether issued is after the time at which the client's tokens were last
// revoked, so that a token from that time can be valid.
func (c *client) issuedSince(issued time.Time) bool {
	return c.EndedAt.IsZero() || issued.UnixMilli() >= c.EndedAt.UnixMilli()
}

func (c *client) name() string {
	if c.ClientName != "" {
		return c.ClientName
	}
	return c.ID
}

// active reports whether a client is enabled and its registration has not lapsed.
func active(c *record.Client, now time.Time) bool { return c.Active() && !lapsed(c, now) }

// lapsed reports whether a client registered itself and was not used within
// RegistrationPolicy.UnusedLifetime.
func lapsed(c *record.Client, now time.Time) bool {
	return c.Registration != nil && !c.Registration.UnusedUntil.IsZero() && expired(now, c.Registration.UnusedUntil)
}

// errUnknownClient is returned if a client does not exist or is disabled.
var errUnknownClient = errors.New("no such client")

// client returns an active client, or errUnknownClient.
func (s *Server) client(ctx context.Context, id string) (*client, error) {
	if oauth.IsClientIDURL(id) {
		return s.clientByDocument(ctx, id)
	}
	catalogue, err := s.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	return s.clientIn(ctx, catalogue, id)
}

// clientByID is like Server.client, with the catalogue of this request.
func (c *call) clientByID(id string) (*client, error) {
	if oauth.IsClientIDURL(id) {
		return c.s.clientByDocument(c.r.Context(), id)
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	return c.s.clientIn(c.r.Context(), catalogue, id)
}

// namedClient returns the client in the client_id of an unauthenticated request. With
// errClientDocument, the client is the one from its document of the last day, or nil.
func (c *call) namedClient(id string) (*client, error) {
	if !oauth.IsClientIDURL(id) {
		return c.clientByID(id)
	}
	// A request that looks up its client twice must not fetch the document twice.
	if c.documentClient == nil || c.documentClient.id != id {
		found := &documentClient{id: id}
		found.client, found.err = c.s.documentClient(c.r.Context(), id, c.s.remoteAddr(c.r))
		c.documentClient = found
	}
	if errors.Is(c.documentClient.err, errDocumentPace) {
		err := c.refuse(&ruleClientDocumentPace, c.documentClient.err.Error())
		oauth.AsError(err).Status = http.StatusTooManyRequests
		return nil, err
	}
	return c.documentClient.client, c.documentClient.err
}

// clientIn returns a client from the catalogue, or else from the store.
func (s *Server) clientIn(ctx context.Context, catalogue *catalogue, id string) (*client, error) {
	catalogue.mu.RLock()
	known, ok := catalogue.clients[id]
	catalogue.mu.RUnlock()
	// A client that seems to have lapsed is read again: it may have been used on another node.
	if ok && (known.usedBefore.Load() || !lapsed(known.Client, time.Now())) {
		return known, nil
	}
	if id == "" || len(id) > 512 {
		return nil, errUnknownClient
	}
	stored, err := s.storedClient(ctx, id)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !active(stored, time.Now()) {
		return nil, errUnknownClient
	}
	if err != nil {
		return nil, fmt.Errorf("read client: %w", err)
	}
	known = s.newClient(stored)
	catalogue.mu.Lock()
	defer catalogue.mu.Unlock()
	if known.Registration != nil {
		catalogue.registeredBytes += known.bytes
	}
	if len(catalogue.clients) >= maxCachedClients || catalogue.registeredBytes > maxCachedRegisteredBytes {
		// Outsiders may be able to register clients. Those must not evict the others.
		maps.DeleteFunc(catalogue.clients, func(_ string, c *client) bool { return c.Registration != nil })
		catalogue.registeredBytes = 0
		if known.Registration != nil {
			catalogue.registeredBytes = known.bytes
		}
	}
	if len(catalogue.clients) >= maxCachedClients {
		clear(catalogue.clients)
	}
	catalogue.clients[id] = known
	return known, nil
}

func (s *Server) newClient(stored *record.Client) *client {
	// A client that registered itself received its method in the response.
	anySecretMethod := stored.TokenEndpointAuthMethod == "" && stored.Registration == nil
	profile, problem := effectiveProfile(stored, s.config.Profile)
	var unmet []ClientProblem
	if problem != nil {
		profile, unmet = s.profile, []ClientProblem{*problem}
	} else {
		unmet = profile.problems(stored)
	}
	profile.preset(stored)
	stored.ClientMetadata = stored.ClientMetadata.WithDefaults()
	c := &client{Client: stored, profile: profile, unmet: unmet, anySecretMethod: anySecretMethod, origins: originsOf(stored), sector: sectorOf(&stored.ClientMetadata), ownAPI: s.config.OwnAPI}
	// Values that cannot be parsed were refused when the client was stored. A client without
	// keys or scopes can do less, never more.
	c.scope, _ = oauth.ParseScope(stored.Scope)
	if stored.Scope == "" {
		for _, standard := range standardScopes() {
			c.scope = append(c.scope, standard.Name)
		}
	}
	if s.registrationPolicy.AnyAllowedScope && stored.Registration != nil && !stored.Registration.Vouched && !oauth.IsClientIDURL(stored.ID) {
		c.scope = c.scope.Union(s.registrationPolicy.allowedScope())
	}
	for _, secret := range stored.Secrets {
		c.secretHashes = append(c.secretHashes, sha256.Sum256([]byte(secret)))
	}
	if len(stored.JWKS) > 0 {
		keys, err := jose.ParseKeySet(stored.JWKS)
		if err != nil {
			s.log.Error("client has a jwks that cannot be read", "client_id", stored.ID, "error", err)
		}
		c.keys = keys
	} else if stored.JWKSURI != "" {
		c.remoteKeys = s.outgoingFor(stored).KeySetAt(stored.JWKSURI)
	}
	if stored.Registration != nil {
		document, _ := json.Marshal(stored) // it was read from JSON
		c.bytes = clientMemory + clientMemoryFactor*(len(document)+len(stored.Registration.SoftwareStatement))
	}
	return c
}

// mayUse reports whether a client may request tokens for a resource.
func (c *client) mayUse(resource string) bool {
	if c.ownAPI != nil && c.ownAPI.is(resource) {
		return c.Registration == nil && oauth.ContainsResource(c.Resources, c.ownAPI.Resource.Identifier)
	}
	return c.Resources == nil || oauth.ContainsResource(c.Resources, resource)
}

// recent is a cache of at most limit entries. It keeps two generations: when the current one is
// full, it replaces the old one. It is safe for concurrent use, and its zero value is ready to
// use.
type recent[K comparable, V any] struct {
	limit    int // 0 means maxRecent
	mu       sync.RWMutex
	now, old map[K]V
}

const maxRecent = 10_000

// maxIssued limits Server.issued. What is used again within moments is enough: most refresh tokens
// come back when the access token has expired. An entry takes about 600 bytes.
const maxIssued = 1_000

func (r *recent[K, V]) get(key K) (V, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	value, ok := r.now[key]
	if !ok {
		value, ok = r.old[key]
	}
	return value, ok
}

func (r *recent[K, V]) put(key K, value V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.now) >= cmp.Or(r.limit, maxRecent)/2 || r.now == nil {
		r.old, r.now = r.now, r.old
		if r.now == nil {
			r.now = make(map[K]V)
		}
		clear(r.now) // keeps its space for the next generation
	}
	r.now[key] = value
}

func (r *recent[K, V]) drop(key K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.now, key)
	delete(r.old, key)
}

// contextLock is a mutex for work that calls the store. Waiting for it ends with the context.
type contextLock chan struct{}

func newContextLock() contextLock { return make(contextLock, 1) }

func (l contextLock) lock(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l contextLock) tryLock() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
		return false
	}
}

func (l contextLock) unlock() { <-l }
