package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
)

// grantType is a row of the table of grant types. The token endpoint does what all grants have in
// common: it authenticates the client and issues the tokens.
type grantType struct {
	name string
	// entitle decides what the client gets, and what is spent for it. It changes nothing in the
	// store; issue does, in one operation. If another request spends the same tickets first,
	// entitle is called again.
	entitle func(*call) (*entitlement, error)
	// params are the parameters of the grant, besides those that every grant has.
	params []string
	// confidential refuses public clients.
	confidential bool
	// offered reports whether the metadata lists the grant; nil means always. A client that is
	// not registered for an unlisted grant gets unsupported_grant_type.
	offered func(*Server) bool
}

// grantTypes is the table of grant types.
func grantTypes() []grantType {
	return []grantType{
		{
			name:    oauth.GrantTypeAuthorizationCode,
			entitle: (*call).grantAuthorizationCode,
			params:  []string{"code", "code_verifier"},
		},
		{
			name:    oauth.GrantTypeRefreshToken,
			entitle: (*call).grantRefreshToken,
			params:  []string{"refresh_token"},
		},
		{
			name:         oauth.GrantTypeClientCredentials,
			entitle:      (*call).grantClientCredentials,
			confidential: true,
		},
		{
			name:    oauth.GrantTypePassword,
			entitle: (*call).grantPassword,
			params:  []string{"username", "password"},
			offered: (*Server).offersPasswordGrant,
		},
		{
			name:    oauth.GrantTypeDeviceCode,
			entitle: (*call).grantDeviceCode,
			params:  []string{"device_code"},
		},
		{
			name:         oauth.GrantTypeCIBA,
			entitle:      (*call).grantCIBA,
			params:       []string{"auth_req_id"},
			confidential: true,
		},
		{
			name:         oauth.GrantTypeJWTBearer,
			entitle:      (*call).grantJWTBearer,
			params:       []string{"assertion"},
			confidential: true,
			offered:      (*Server).offersJWTBearer,
		},
		{
			name:         oauth.GrantTypeSAMLBearer,
			entitle:      (*call).grantSAMLBearer,
			params:       []string{"assertion"},
			confidential: true,
			offered:      (*Server).offersSAMLBearer,
		},
		{
			name:    oauth.GrantTypeTokenExchange,
			entitle: (*call).grantTokenExchange,
			params: []string{
				"actor_token", "actor_token_type", "audience", "requested_token_type", "subject_token", "subject_token_type",
			},
			confidential: true,
			offered:      (*Server).offersTokenExchange,
		},
	}
}

func (g *grantType) offeredBy(s *Server) bool { return g.offered == nil || g.offered(s) }

// entitlement is what a grant entitles the client to, and what is spent for it. issue turns it
// into tokens.
type entitlement struct {
	// authorization is what the tokens descend from. A client's own tokens have no subject and
	// no family.
	authorization authorization
	// scope narrows authorization.Scope, and resources narrows authorization.Resources.
	scope     oauth.Scope
	resources []string
	// details narrows authorization.Details.
	details []json.RawMessage
	// spend are the tickets that are spent.
	spend []storage.Key
	// retried is set if an earlier attempt may have taken effect without a response
	// (unknownOutcomes).
	retried bool
	// put are tickets that are stored with the tokens. If one exists already, entitle is called
	// again.
	put []storage.Ticket
	// anchorKey is the ticket that the tokens belong to if there is neither a code nor a refresh
	// token.
	anchorKey storage.Key
	// subjectToken is the token of this server that is exchanged; nil if there is none. If the
	// new tokens expire with it, subjectAnchor is its anchor, and its ids follow their own in
	// the jti.
	subjectToken  *presentedToken
	subjectAnchor string
	// ownID is the tokens' own part of the jti; "" until it is generated.
	ownID string
	// outlives is set if the tokens do not expire with the token that is exchanged.
	outlives bool
	// issueInstead issues something else than an access token; nil for an access token.
	issueInstead func(context.Context) (*oauth.TokenResponse, []storage.Ticket, error)
	// code is the stored code that the tokens are for, or are issued with; zero if there is none.
	code storage.Key
	// sealed is set if the tokens are for a sealed code. used is the ticket to store, which says
	// that the code was used; nil if it is stored already.
	sealed bool
	used   *storage.Ticket
	// refreshToken is returned to the client, "" for none; storeRefresh is set if it is new.
	refreshToken string
	storeRefresh bool
	// refreshTokenExpires is when the returned refresh token, or the one that is not rotated,
	// expires; zero until it is known.
	refreshTokenExpires time.Time
	// reusedRefreshToken is the ticket of a refresh token that is not rotated; zero if there is
	// none.
	reusedRefreshToken storage.Ticket
	// issuedTokenType is for the response (RFC 8693, section 2.2.1); "" for none.
	issuedTokenType string
	// lifetime shortens that of the access token; 0 leaves it.
	lifetime time.Duration
	// idToken adds an ID token; nonce is what the client bound it to.
	idToken bool
	nonce   string
	// state adds s_hash to the ID token; "" leaves it out.
	state string
	// authReqID is the request that pushed tokens are for; "" if they are not pushed. sealPush
	// returns the ticket from which the push is repeated.
	authReqID string
	sealPush  func(*oauth.TokenResponse) (storage.Ticket, error)
}

var (
	ruleGrantTypeSent = rule{
		must:    "the request has a grant_type",
		section: "RFC 6749, section 5.2", code: oauth.InvalidRequest,
		says: "grant_type is missing",
		fix:  "send grant_type in the body",
	}
	ruleGrantTypeKnown = rule{
		must:    "grant_type is supported by this server",
		section: "RFC 6749, section 5.2", code: oauth.UnsupportedGrantType,
		says: "grant_type is not supported by this server",
		fix:  "send one of the grant_types_supported of the server metadata",
	}
	ruleGrantTypeAllowed = rule{
		must:    "the client is registered for the grant type",
		section: "RFC 6749, section 5.2", code: oauth.UnauthorizedClient,
		says: "the client is not registered for this grant_type",
		fix:  "add the grant type to the client's grant_types",
	}
	ruleResourceSyntax = rule{
		must:    "resource is an absolute URI without a fragment, and there are at most 16",
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

// maxTokenAttempts bounds how often entitle is called because another request has spent the
// same ticket meanwhile.
const maxTokenAttempts = 3

// token is the token endpoint (RFC 6749, section 3.2).
func (c *call) token() error {
	if err := c.parseForm(); err != nil {
		return err
	}
	name := c.params.get("grant_type")
	grant := c.s.grantTypeNamed(name)
	if err := c.readProof(""); err != nil {
		return err
	}
	cl, err := c.authenticateClient()
	if err != nil {
		return err
	}
	if err := c.checkProof(cl); err != nil {
		return err
	}
	if err := c.checkProofSent(); err != nil {
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
	if err := c.proveCertificate(); err != nil {
		return err
	}
	if err := c.checkTokenBinding(); err != nil {
		return err
	}
	for range maxTokenAttempts {
		ent, err := grant.entitle(c)
		if err != nil {
			return err
		}
		if err := c.narrowDetails(ent); err != nil {
			return err
		}
		response, err := c.issue(ent)
		if replayed := c.proofReplayed(err); replayed != nil {
			return replayed
		}
		if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrExists) {
			continue
		}
		if err != nil {
			return err
		}
		o := newJSONObject()
		defer o.release()
		encodeTokenResponse(o, response)
		return writeObject(c.w, http.StatusOK, o)
	}
	return oauth.NewError(oauth.TemporarilyUnavailable, "another request is using the same grant; try again")
}

func encodeTokenResponse(o *jsonObject, r *oauth.TokenResponse) {
	o.anyText("access_token", r.AccessToken)
	o.anyText("token_type", r.TokenType)
	o.number("expires_in", r.ExpiresIn)
	o.text("refresh_token", r.RefreshToken)
	o.text("scope", r.Scope)
	o.text("id_token", r.IDToken)
	o.text("issued_token_type", r.IssuedTokenType)
	o.objects("authorization_details", r.Details)
	o.number("refresh_token_timeout", r.RefreshTokenTimeout)
	o.number("authorization_expires_in", r.AuthorizationExpiresIn)
}

func (s *Server) grantTypeNamed(name string) *grantType {
	for i := range s.grantTypes {
		if s.grantTypes[i].name == name {
			return &s.grantTypes[i]
		}
	}
	return nil
}

const (
	// unknownOutcomeLifetime is how long the client may try again.
	unknownOutcomeLifetime = 10 * time.Minute
	// unknownOutcomeRetry is the pause between two attempts to store a note, which lets other
	// nodes see it. unknownOutcomePatience bounds one attempt.
	unknownOutcomeRetry    = 250 * time.Millisecond
	unknownOutcomePatience = 3 * time.Second
	maxUnknownOutcomes     = 1000
)

// unknownOutcome is an attempt to spend a ticket that got no response.
type unknownOutcome struct {
	Spent int64         `json:"s"` // when, in Unix milliseconds
	Put   []storage.Key `json:"p"` // the tickets that exist if it took effect
}

// unknownOutcomes has the notes that are not in the store yet.
type unknownOutcomes struct {
	known recent[storage.Key, storage.Ticket]
	queue chan storage.Ticket
	stop  context.CancelFunc
	work  sync.WaitGroup
}

func (s *Server) startUnknownOutcomes() {
	ctx, cancel := context.WithCancel(context.Background())
	s.unknownOutcomes.queue, s.unknownOutcomes.stop = make(chan storage.Ticket, maxUnknownOutcomes), cancel
	s.unknownOutcomes.work.Go(func() {
		for {
			select {
			case note := <-s.unknownOutcomes.queue:
				s.storeUnknownOutcome(ctx, note)
			case <-ctx.Done():
				return
			}
		}
	})
}

// storeUnknownOutcome tries to store a note until the store is available again.
func (s *Server) storeUnknownOutcome(ctx context.Context, note storage.Ticket) {
	for time.Now().Before(note.Expires) {
		try, cancel := context.WithTimeout(ctx, unknownOutcomePatience)
		err := s.config.Store.Put(try, time.Now(), note)
		cancel()
		if err == nil || errors.Is(err, storage.ErrExists) {
			return
		}
		select {
		case <-ctx.Done():
			s.log.WarnContext(ctx, "outcome of a request not stored; if the client repeats the request, it may be refused as a replay", "error", err)
			return
		case <-time.After(unknownOutcomeRetry):
		}
	}
}

// noteUnknownOutcome records that the request may or may not have taken effect.
func (c *call) noteUnknownOutcome(ent *entitlement, put []storage.Ticket) {
	var spent storage.Key
	if ent.used != nil {
		spent = ent.used.Key
	} else {
		spent = ent.spend[0]
	}
	if spent.Kind == ticketkind.UnknownOutcome {
		return // there is a note already, and it may be spent
	}
	note := unknownOutcome{Spent: c.now.UnixMilli()}
	for _, ticket := range put {
		if ticket.Kind != ticketkind.Authorization && ticket.Kind != ticketkind.DPoPProof && ticket.Key != spent {
			note.Put = append(note.Put, ticket.Key)
		}
	}
	data, err := json.Marshal(note)
	if err != nil { // numbers and bytes always encode
		return
	}
	ticket := storage.Ticket{
		Key: storage.Key{Kind: ticketkind.UnknownOutcome, ID: spent.ID}, Grant: ent.authorization.Grant, Family: ent.authorization.Family,
		Data: data, Expires: c.now.Add(unknownOutcomeLifetime),
	}
	c.s.unknownOutcomes.known.put(ticket.Key, ticket)
	select {
	case c.s.unknownOutcomes.queue <- ticket:
	default: // the queue is full; this node has the note in memory
	}
}

// unansweredAttempt returns the note about a ticket that was spent by an attempt that got no
// response; nil if there is none.
func (c *call) unansweredAttempt(ticket storage.Ticket) (*unknownOutcome, error) {
	key := storage.Key{Kind: ticketkind.UnknownOutcome, ID: ticket.ID}
	stored, known := c.s.unknownOutcomes.known.get(key)
	if known {
		// It is spent later, so it must be in the store.
		err := c.s.config.Store.Put(c.r.Context(), c.now, stored)
		if err != nil && !errors.Is(err, storage.ErrExists) {
			return nil, fmt.Errorf("store the note about an unknown outcome: %w", err)
		}
	}
	stored, err := c.s.config.Store.Get(c.r.Context(), c.now, key)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !stored.Spent.IsZero() {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up an unknown outcome: %w", err)
	}
	var note unknownOutcome
	if err := json.Unmarshal(stored.Data, &note); err != nil {
		return nil, fmt.Errorf("read the note about an unknown outcome: %w", err)
	}
	if note.Spent != ticket.Spent.UnixMilli() {
		return nil, nil // another attempt spent the ticket, and got a response
	}
	if len(note.Put) == 0 {
		return &note, nil
	}
	_, err = c.s.config.Store.Get(c.r.Context(), c.now, note.Put[0])
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up an unknown outcome: %w", err)
	}
	return &note, nil
}

// replaceUnanswered replaces an attempt that got no response: the note is spent, once, and what
// the attempt stored is removed, because no client has received it.
func (c *call) replaceUnanswered(ent *entitlement, spent storage.Key, note *unknownOutcome) error {
	if err := c.s.config.Store.Delete(c.r.Context(), note.Put...); err != nil {
		return fmt.Errorf("remove what an unanswered attempt stored: %w", err)
	}
	ent.spend, ent.retried = []storage.Key{{Kind: ticketkind.UnknownOutcome, ID: spent.ID}}, true
	return nil
}
