package authserver

import (
	"context"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/lastuse"
	"github.com/valetkey/valetkey/internal/outgoing"
	"github.com/valetkey/valetkey/internal/statusindex"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// Server is the engine of one issuer. It is safe for concurrent use.
type Server struct {
	config    Config
	lifetimes Lifetimes
	log       *slog.Logger
	events    *event.Log
	basePath  string // path of the issuer, without a final slash
	secure    bool   // the issuer is https
	origin    string // scheme and host of the issuer
	routes    map[string]*endpoint

	detailsTypes map[string]*authorizationDetailsType // by type

	refreshKey  []byte // derives successors of refresh tokens
	codeKey     []byte // derives the keys of sealed codes
	pairwiseKey []byte // derives pairwise subjects
	// external are the keys of Config.ExternalKeys.
	external   []record.Key
	logKey     []byte // masks unverified input before it is logged
	nonces     *dpop.Nonces
	challenges *dpop.Nonces // of proofs of possession with a client attestation

	backchannelCipher cipher.AEAD // seals what notifications contain

	latestCodeCipher atomic.Pointer[codeCipher]

	catalogueNow  atomic.Pointer[catalogue]
	catalogueLoad contextLock
	uses          *lastuse.Recorder
	// issued caches codes and refresh tokens that this node stored and has not seen spent. It
	// saves a read. Only spending a ticket in the store decides whether it is valid.
	issued          recent[storage.Key, storage.Ticket]
	unknownOutcomes unknownOutcomes
	// redeemed has the sealed codes that this node has tried to redeem.
	redeemed recent[storage.Key, struct{}]
	// participating caches which clients are recorded for a session.
	participating recent[storage.Key, struct{}]
	logoutsDue    chan struct{}
	keysDue       chan struct{}
	rotating      sync.Mutex // held while keys are created

	checkSessionPage   []byte
	checkSessionPolicy string

	limits    limits
	polls     recent[storage.Key, pollPace] // of devices, and of clients with backchannel requests
	documents clientDocuments
	traces    *traceLog // of refused requests
	accepted  *traceLog // of accepted ones
	// recordings are those that this node knows; nil if there are none. recordingsRead is when they were
	// read, in Unix nanoseconds.
	recordings     atomic.Pointer[[]*recording]
	recordingsRead atomic.Int64

	operatorOutgoing *outgoing.Client // for addresses that the operator configured
	outsiderOutgoing *outgoing.Client // for all other addresses

	statusLists    statusLists
	endedOfClients endedOfClients
	statusIndexes  *statusindex.Indexes

	grantTypes         []grantType
	authMethods        []clientAuthMethod
	protocolParams     []string
	mappings           []claimMapping
	webhooks           []*webhook
	profile            *profile // of clients that have none
	registrationPolicy RegistrationPolicy
	statementIssuers   map[string]*client
	trusted            map[string]*trustedIssuer // by issuer
}

// New returns an engine. It returns an error if the configuration is incomplete or unsafe.
func New(config Config) (*Server, error) {
	if err := oauth.CheckIssuer(config.Issuer); err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	switch {
	case config.Store == nil:
		return nil, errors.New("authserver: Config.Store is missing")
	case len(config.Secret) < 32:
		return nil, errors.New("authserver: Config.Secret has fewer than 32 bytes")
	case config.Users == nil:
		return nil, errors.New("authserver: Config.Users is missing")
	}
	mappings, err := newClaimMappings(config.Claims.Mappings)
	if err != nil {
		return nil, err
	}
	grants, err := newGrantTypes(config.Hooks.GrantTypes)
	if err != nil {
		return nil, err
	}
	webhooks, err := newWebhooks(config.Hooks.Webhooks)
	if err != nil {
		return nil, err
	}
	detailsTypes, err := newAuthorizationDetailsTypes(config.AuthorizationDetailsTypes)
	if err != nil {
		return nil, err
	}
	for i := range config.TokenExchange {
		if err := config.TokenExchange[i].Check(); err != nil {
			return nil, fmt.Errorf("token exchange rule %d: %w", i, err)
		}
	}
	for _, source := range config.Claims.Sources {
		if err := source.Check(); err != nil {
			return nil, fmt.Errorf("claim source: %w", err)
		}
	}
	if err := config.MutualTLS.check(); err != nil {
		return nil, err
	}
	if err := config.checkProfiles(); err != nil {
		return nil, err
	}
	issuer, err := url.Parse(config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	config.Pages = config.Pages.withDefaults()
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	s := &Server{
		config:       config,
		lifetimes:    config.Lifetimes.withDefaults(),
		log:          config.Logger,
		events:       event.New(config.Logger),
		basePath:     issuer.Path,
		detailsTypes: detailsTypes,
		secure:       issuer.Scheme == "https",
		origin:       issuer.Scheme + "://" + issuer.Host,
		traces:       newTraceLog(config.Store, config.Logger, maxStoredRefusals),
		accepted:     newTraceLog(config.Store, config.Logger, maxStoredAccepted),
		mappings:     mappings,

		profile:        profileNamed(config.Profile),
		grantTypes:     grants,
		authMethods:    clientAuthMethods(),
		protocolParams: protocolParams(),
		statusIndexes:  statusindex.New(config.Store),
		webhooks:       webhooks,

		logoutsDue: make(chan struct{}, 1),
		keysDue:    make(chan struct{}, 1),
	}
	if s.external, err = newExternalKeys(config.ExternalKeys, config.Logger); err != nil {
		return nil, err
	}
	s.issued.limit, s.redeemed.limit = maxIssued, maxIssued
	s.operatorOutgoing, s.outsiderOutgoing = newOutgoing(config.Outgoing, s.events)
	s.registrationPolicy = config.Registration.withDefaults()
	s.uses = lastuse.New(s.config.Store, s.config.Logger)
	s.limits = newLimits(&s.config, s.registrationPolicy.PerMinute)
	s.documents.limit()
	s.statementIssuers = s.newStatementIssuers()
	if s.trusted, err = s.newTrustedIssuers(); err != nil {
		return nil, err
	}
	if s.refreshKey, err = deriveKey(config.Secret, "valetkey refresh token successor"); err != nil {
		return nil, err
	}
	if s.codeKey, err = deriveKey(config.Secret, "valetkey authorization code"); err != nil {
		return nil, err
	}
	if s.backchannelCipher, err = s.newBackchannelCipher(); err != nil {
		return nil, err
	}
	if s.pairwiseKey, err = deriveKey(config.Secret, "valetkey pairwise subject"); err != nil {
		return nil, err
	}
	if s.nonces, err = s.newNonces(); err != nil {
		return nil, err
	}
	if s.challenges, err = s.newChallenges(); err != nil {
		return nil, err
	}
	s.catalogueLoad, s.statusLists.mu = newContextLock(), newContextLock()
	if s.logKey, err = deriveKey(config.Secret, "valetkey log"); err != nil {
		return nil, err
	}
	if s.routes, err = s.newRoutes(); err != nil {
		return nil, err
	}
	s.checkSessionPage, s.checkSessionPolicy = newCheckSessionPage(config.SignIn.BrowserStateCookie)
	s.startUnknownOutcomes()
	return s, nil
}

// Close waits until the background work of the engine is done.
func (s *Server) Close() {
	s.unknownOutcomes.stop()
	s.unknownOutcomes.work.Wait()
	s.operatorOutgoing.Wait()
	s.outsiderOutgoing.Wait()
	s.documents.fetches.Wait()
	s.traces.wait()
	s.accepted.wait()
	s.limits.close()
	s.uses.Close()
	s.events.Close()
}

func (p Pages) withDefaults() Pages {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&p.SignIn, "/sign-in")
	set(&p.Consent, "/consent")
	set(&p.Device, "/device")
	set(&p.Approve, "/approve")
	set(&p.SignOut, "/sign-out")
	set(&p.SignedOut, "/signed-out")
	return p
}

// Handles reports whether path is one of the engine's endpoints.
func (s *Server) Handles(path string) bool {
	_, ok := s.routes[path]
	return ok
}

// call is one request to the engine.
type call struct {
	s        *Server
	w        http.ResponseWriter
	r        *http.Request
	now      time.Time
	endpoint *endpoint
	params   params
	client   *client // once it is known
	subject  string  // the user, once the request names one; "" otherwise
	// proven are the keys whose possession the request proves (senderconstraint.go).
	proven oauth.Confirmation
	// certificates are those of the client, once they are read (mutualtls.go).
	certificates *clientCertificates
	proof        *sentProof // the DPoP proof; nil if there is none
	// instance is the thumbprint of the key of the client instance that authenticated with an
	// attestation; "" otherwise.
	instance string
	// schemeDPoP: the access token was sent with the scheme DPoP.
	schemeDPoP bool
	// loaded is the catalogue that the whole request uses (catalogue).
	loaded *catalogue
	// documentClient is the client whose metadata document the request names.
	documentClient *documentClient
	// credentials is the form of the credentials, if several are accepted; "" otherwise.
	credentials string
	rungs       []rung
	firstRungs  [16]rung // where rungs begins; most requests have no more
	refusal     refusal
	ref         string
	// interactionID is the x-fapi-interaction-id; "" if there is none.
	interactionID string
	// basic are the decoded credentials of HTTP Basic, once they were needed.
	basic string
	// assertionAlgorithm is the alg of client_assertion, if assertionRead is set.
	assertionAlgorithm jose.Algorithm
	assertionRead      bool
	// leftOutIfLong is a parameter that is ignored if it is too long; leftOut is set if it was.
	leftOutIfLong string
	leftOut       bool
	pending       *requestTicket // of a request that gets one response; nil if there is none
	direct        bool           // the browser has just arrived, and the user has done nothing here yet
}

// ServeHTTP serves the protocol endpoints. Paths are compared unchanged: nothing is cleaned or
// redirected, so that no spelling of a path escapes a rule.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, ok := s.routes[r.URL.Path]
	if !ok || r.URL.RawPath != "" && r.URL.RawPath != r.URL.Path {
		writeJSONError(w, http.StatusNotFound, oauth.NewError(oauth.InvalidRequest, "there is no endpoint at this address"))
		return
	}
	c := &call{s: s, w: w, r: r, now: time.Now(), endpoint: e}
	c.crossOrigin()
	c.echoInteractionID()
	if r.Method == http.MethodOptions && e.cors != corsNone {
		c.preflight()
		return
	}
	if !e.allows(r.Method) {
		w.Header().Set("Allow", strings.Join(e.methods, ", "))
		c.fail(&oauth.Error{Code: oauth.InvalidRequest, Description: "the method is not allowed for this endpoint", Status: http.StatusMethodNotAllowed})
		return
	}
	err := e.serve(c)
	if err != nil {
		c.fail(err)
	}
	c.ended(err)
}

// fail responds with an error: a page for users, JSON for programs.
func (c *call) fail(err error) {
	if event.ClientGone(c.r.Context(), err) {
		return // nobody would read the response
	}
	e := c.s.protocolError(err)
	if e.Code == oauth.AuthorizationPending || e.Code == oauth.SlowDown || e.Code == oauth.UseDPoPNonce || e.Code == oauth.UseAttestationChallenge {
		writeJSONError(c.w, e.HTTPStatus(), e) // not a failure, so there is no trace to refer to
		return
	}
	if c.endpoint.page {
		c.failPage(err)
		return
	}
	status := e.HTTPStatus()
	if e.Code == oauth.InvalidClient {
		// RFC 6749, section 5.2: the response names the scheme that the client used.
		if c.r.Header.Get("Authorization") != "" {
			c.w.Header().Set("WWW-Authenticate", oauth.NewChallenge("Basic", "realm", c.s.config.Issuer).String())
		}
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		if c.w.Header().Get("Retry-After") == "" {
			c.w.Header().Set("Retry-After", retryAfter)
		}
	}
	writeJSONError(c.w, status, c.referenced(e, err))
}

// referenced logs a refusal, and returns e with the reference of its trace in the description.
func (c *call) referenced(e *oauth.Error, err error) *oauth.Error {
	c.logRefusal(e, err)
	named := *e
	named.Description = strings.TrimSpace(e.Description + " (ref " + c.refused(err) + ")")
	return &named
}

// protocolError turns any other error into a protocol error that reveals nothing.
func (s *Server) protocolError(err error) *oauth.Error {
	if e := oauth.AsError(err); e != nil {
		return e
	}
	if errors.Is(err, storage.ErrUnavailable) {
		return oauth.NewError(oauth.TemporarilyUnavailable, "the server cannot reach its database; try again")
	}
	if errors.Is(err, errCannotSign) {
		return oauth.NewError(oauth.TemporarilyUnavailable, "the server cannot sign tokens at the moment; try again")
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return oauth.NewError(oauth.TemporarilyUnavailable, "the server is busy; try again")
	}
	return oauth.NewError(oauth.ServerError, "the request failed; the operator can look up the reference")
}

func (s *Server) remoteAddr(r *http.Request) netip.Addr {
	if s.config.RemoteAddr != nil {
		return s.config.RemoteAddr(r)
	}
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// Trace returns the trace of a request by its reference, or storage.ErrNotFound.
func (s *Server) Trace(ctx context.Context, ref string) (*record.Trace, error) {
	for _, log := range []*traceLog{s.traces, s.accepted} {
		if t, ok := log.find(ref); ok {
			return &t, nil
		}
	}
	t, err := s.config.Store.Trace(ctx, ref)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("look up trace: %w", err)
	}
	return t, err
}

// Responses for programs. The redirects are in authorize_response.go, and the challenges of
// UserInfo in userinfo.go.

// writeJSON responds with v, which must not be cached (RFC 6749, section 5.1).
func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode response: %w", err)
	}
	noStore(w)
	writeBytes(w, status, mediaTypeJSON, body)
	return nil
}

// writeObject is writeJSON for an object that is encoded already.
func writeObject(w http.ResponseWriter, status int, o *jsonObject) error {
	body, err := o.end()
	if err != nil {
		return fmt.Errorf("encode response: %w", err)
	}
	noStore(w)
	writeBytes(w, status, mediaTypeJSON, body)
	return nil
}

const mediaTypeJSON = "application/json"

// retryAfter is the default of the Retry-After header.
const retryAfter = "5"

func noStore(w http.ResponseWriter) {
	h := w.Header()
	h["Cache-Control"] = valueNoStore
	h["Pragma"] = valueNoCache
}

// Header values that all responses share. net/http does not modify them.
var (
	valueNoStore = []string{"no-store"}
	valueNoCache = []string{"no-cache"}
	valueNosniff = []string{"nosniff"}
	valueJSON    = []string{mediaTypeJSON}
	valueAny     = []string{"*"}
	valueOrigin  = []string{"Origin"}
	valueZero    = []string{"0"}

	valueNoReferrer = []string{"no-referrer"}
)

func writeBytes(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	if contentType == mediaTypeJSON {
		h["Content-Type"] = valueJSON
	} else {
		h["Content-Type"] = []string{contentType}
	}
	h["X-Content-Type-Options"] = valueNosniff
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	// An error means that the client has closed the connection.
	_, _ = w.Write(body)
}

func writeJSONError(w http.ResponseWriter, status int, e *oauth.Error) {
	o := newJSONObject()
	defer o.release()
	o.anyText("error", string(e.Code))
	o.text("error_description", e.Description)
	o.text("error_uri", e.URI)
	o.text("auth_session", e.AuthSession)
	o.text("request_uri", e.RequestURI)
	if e.RequestURI != "" {
		o.number("expires_in", e.ExpiresIn)
	}
	_ = writeObject(w, status, o) // strings always encode
}

// failPage shows an error to the user.
func (c *call) failPage(err error) {
	e := c.s.protocolError(err)
	c.logRefusal(e, err)
	page := PageError{Status: e.HTTPStatus(), Code: e.Code, Description: e.Description, Reference: c.refused(err)}
	if e.Code == oauth.InvalidClient {
		page.Status = http.StatusBadRequest // 401 would make the browser ask for a password
	}
	if c.client != nil {
		page.ClientName = c.client.name()
		if c.client.Vouched() {
			page.Client = c.client.Client
		}
	}
	c.s.writePage(c.w, c.r, page)
}

func (s *Server) writePage(w http.ResponseWriter, r *http.Request, page PageError) {
	if s.config.Pages.Error != nil {
		s.config.Pages.Error(w, r, page)
		return
	}
	noStore(w)
	if page.Status == http.StatusServiceUnavailable || page.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", retryAfter)
	}
	text := fmt.Sprintf("%s\n\n%s\n\nReference: %s\n", page.Code, page.Description, page.Reference)
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	writeBytes(w, page.Status, "text/plain; charset=utf-8", []byte(text))
}
