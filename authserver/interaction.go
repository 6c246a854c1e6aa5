package authserver

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/valetkey/valetkey/internal/cookiename"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
)

// Interaction is an authorization or logout request that waits for the user.
type Interaction struct {
	ID     string
	Client *record.Client // nil for a logout request without a client
	// Scopes are what the user is asked to allow.
	Scopes []InteractionScope
	// Resources are the APIs that the access token will be for.
	Resources []record.Resource
	// AuthorizationDetails are what the client requests in more detail (RFC 9396).
	AuthorizationDetails []InteractionDetail
	// Subject is the user who is signed in at this browser; "" if there is none, or if the user
	// must sign in again.
	Subject string
	// LoginHint is the user's identifier as far as the client knows it.
	LoginHint string
	// ACRValues are the authentication context classes that the client asks for, in its order of
	// preference (acr_values).
	ACRValues []string
	UILocales []string
	// Scope is everything that the client requests.
	Scope oauth.Scope
	// EssentialACRValues are the classes of which the client requires one (OpenID Connect Core, section
	// 5.5.1.1). The policy may require more (SignInPolicy).
	EssentialACRValues []string
	// ProvedSince is the time since which the user must have authenticated (max_age, prompt=login);
	// zero if any time is recent enough.
	ProvedSince time.Time
	// Reauthenticate is set if the client asks the user to authenticate again (prompt=login), and
	// MaxAge is how long ago the user may have authenticated (max_age); zero means any time. Pages for
	// which another provider authenticates users pass both on.
	Reauthenticate bool
	MaxAge         time.Duration
	// Selectable is the signed-in user who may continue, if the client asks the user to choose
	// an account; "" if there is nothing to choose.
	Selectable string
	// RedirectURI is the verified URI to which the browser will return.
	RedirectURI string
	// FormAction is a source for the form-action directive of the page's
	// Content-Security-Policy, without which Chromium refuses the redirect after the form.
	FormAction string
	// SignedOut is set if the session has ended. The page then loads Frames and continues to
	// ContinueTo, unless that is "".
	SignedOut  bool
	Frames     []string
	ContinueTo string
	// FirstTime is set if the user has not allowed the client anything yet. Newcomer is set if
	// no user of this server has for a year; it applies to clients with a metadata document.
	FirstTime, Newcomer bool
	// Device is the device without a browser that sent the request (RFC 8628); nil if there is
	// none. The page shows its user code, so that the user can compare it.
	Device *Device
	// Backchannel is the backchannel authentication request (CIBA); nil if this is none.
	Backchannel *BackchannelRequest
	// OfflineAccess is set if the client will have access while the user is away.
	OfflineAccess bool
}

// InteractionScope is one scope on the consent page.
type InteractionScope struct {
	record.Scope
	// Granted is set if the user has allowed the scope before, and Declined if the user has
	// declined it before.
	Granted, Declined bool
}

// ConsentAnswer is what the user decided on the consent page.
type ConsentAnswer struct {
	// Subject is the user who saw the page. If another user is signed in by now, that user is
	// asked.
	Subject string
	// Scope is what the user allowed. Required scopes are added.
	Scope oauth.Scope
}

// Errors of Server.Interaction.
var (
	ErrInteractionExpired = errors.New("authserver: the interaction has expired or is finished")
	ErrOtherBrowser       = errors.New("authserver: the interaction belongs to another browser, or cookies are off")
)

var (
	ruleInteraction = rule{
		must:    "the interaction began less than half an hour ago and is not finished",
		section: "Valetkey", code: PageExpired,
		says: "this sign-in request has expired or was finished already",
		fix:  "go back to the application and start again",
	}
	ruleInteractionBrowser = rule{
		must:    "the browser is the one in which the interaction began",
		section: "RFC 9700, section 4.7", code: PageOtherBrowser,
		says: "this sign-in request began in another browser, or the browser keeps no cookies",
		fix:  "allow cookies for this site, and start again in this browser",
	}
	ruleInteractions = rule{
		must:    "not too many requests for a sign-in page came from this address",
		section: "Valetkey", code: oauth.TemporarilyUnavailable,
		says: "too many requests; try again in a minute",
		fix:  "wait a minute",
	}
	ruleLogin = rule{
		must:    "with prompt=none, the user is signed in already, and recently enough",
		section: "OpenID Connect Core, section 3.1.2.6", code: oauth.LoginRequired,
		says: "the user must sign in",
		fix:  "send the request without prompt=none",
	}
	ruleSameSubject = rule{
		must:    "the user who signs in is the one that id_token_hint or the claims parameter names",
		section: "OpenID Connect Core, section 3.1.2.1", code: oauth.LoginRequired,
		says: "a different user is signed in",
		fix:  "have the named user sign in, or leave out the hint",
	}
	ruleConsent = rule{
		must:    "with prompt=none, the user has consented before",
		section: "OpenID Connect Core, section 3.1.2.6", code: oauth.ConsentRequired,
		says: "the user must give consent",
		fix:  "send the request without prompt=none",
	}
	ruleACR = rule{
		must:    "the authentication context is one of those that the client calls essential",
		section: "OpenID Connect Core, section 5.5.1.1", code: oauth.UnmetAuthenticationRequirement,
		says: "the essential acr cannot be reached",
		fix:  "request one of acr_values_supported",
	}
	ruleNotCanceled = rule{
		must:    "the user does not cancel the sign-in, or the browser may be sent back to the client",
		section: "RFC 9700, section 4.11.2", code: oauth.AccessDenied,
		says: "the user canceled the sign-in",
		fix:  "nothing: the user decides",
	}
	ruleNotRefused = rule{
		must:    "the user allows the request",
		section: "RFC 6749, section 4.1.2.1", code: oauth.AccessDenied,
		says: "the user refused the request",
		fix:  "nothing: the user decides",
	}
)

// interaction is a verified request that has no response yet.
type interaction struct {
	request *authorizationRequest
	params  params
	// id and began belong to the stored interaction; zero if it is not stored.
	id    string
	began time.Time
	// ended is the rest of a logout whose session has ended.
	ended *endedLogout
	// device is the device that gets the response instead of a redirect URI; nil if there is
	// none.
	device *device
	// backchannel is the backchannel authentication request, whose client does not get a redirect;
	// nil if this is none.
	backchannel *backchannel
	// challenge is set if the application shows its own sign-in window instead of this server's
	// pages.
	challenge *challenge
	// selected is the subject that the user chose (prompt=select_account).
	selected string
	// ticket is that of a request that gets one response; nil if there is none.
	ticket *requestTicket
	// allowed is set if the user has just allowed this request on the consent page.
	allowed bool
}

// advance decides what happens next, from what is stored: who is signed in, since when, and what
// the user granted. It redirects the user to a page, or responds to the client.
func (c *call) advance(i *interaction, who *Authentication) error {
	next, grant, err := c.decide(i, who)
	if e := oauth.AsError(err); e != nil && e.Code == PageNotAllowed {
		return err // a page: only the user can ask for access
	}
	if err != nil {
		return c.refuseAuthorization(i.request, err)
	}
	switch next {
	case nextSignIn:
		page := c.s.config.Pages.SignIn
		if slices.Contains(i.request.prompt, promptCreate) {
			page = c.s.config.Pages.SignUp
		}
		return c.sendTo(page, i, false)
	case nextConsent:
		return c.sendTo(c.s.config.Pages.Consent, i, false)
	}
	if err := c.complete(i, who, grant); err != nil {
		return c.refuseAuthorization(i.request, err)
	}
	return nil
}

type nextStep int

const (
	nextComplete nextStep = iota
	nextSignIn
	nextConsent
)

// decide returns the next step, and the user's grant if there is one. It stores nothing, and leaves
// out of the request the scopes that the user could not get.
func (c *call) decide(i *interaction, who *Authentication) (nextStep, *record.Grant, error) {
	request := i.request
	if who != nil {
		c.subject = who.Subject
	}
	silent := slices.Contains(request.prompt, promptNone)
	signIn, err := c.mustSignIn(i, who)
	if err == nil && !signIn {
		signIn, err = c.lacksClass(i, who)
	}
	if err != nil {
		return 0, nil, err
	}
	if signIn {
		if silent {
			return 0, nil, c.must(false, &ruleLogin)
		}
		return nextSignIn, nil, nil
	}
	if err := c.checkGroups(who.Subject, silent); err != nil {
		return 0, nil, err
	}
	// A user is not asked for scopes that they could not get.
	if request.scope, err = c.allowedScope(c.r.Context(), who.Subject, request.scope); err != nil {
		return 0, nil, err
	}
	if request.consent, err = c.allowedScope(c.r.Context(), who.Subject, request.consent); err != nil {
		return 0, nil, err
	}
	if err := c.checkACR(request, who); err != nil {
		return 0, nil, err
	}
	grant, err := c.s.config.Store.Grant(c.r.Context(), who.Subject, request.client.ID)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return 0, nil, fmt.Errorf("look up grant: %w", err)
	}
	catalogue, err := c.catalogue()
	if err != nil {
		return 0, nil, err
	}
	if !i.consented(catalogue, grant) {
		if silent {
			return 0, nil, c.must(false, &ruleConsent)
		}
		return nextConsent, grant, nil
	}
	_ = c.must(true, &ruleConsent)
	return nextComplete, grant, nil
}

// since reports whether at is within this interaction.
func (i *interaction) since(at time.Time) bool {
	return !i.began.IsZero() && !at.Before(i.began)
}

func (c *call) mustSignIn(i *interaction, who *Authentication) (bool, error) {
	request := i.request
	if who == nil {
		return true, nil
	}
	// A user who has signed in through another provider may have authenticated there before.
	fresh := i.since(who.Time) || i.since(who.SignedInAt)
	authenticate := slices.Contains(request.prompt, promptLogin) || request.maxAge >= 0 && c.now.Sub(who.Time) > request.maxAge
	signIn := slices.Contains(request.prompt, promptCreate) ||
		slices.Contains(request.prompt, promptSelectAccount) && i.selected != who.Subject || c.needsStepUp(request, who)
	if authenticate && !i.since(who.Time) || signIn && !fresh {
		return true, nil
	}
	if request.subject != "" && request.subject != who.Subject && fresh {
		return false, c.must(false, &ruleBackchannelSubject)
	}
	if !c.acceptsSubject(request, who.Subject) {
		if fresh || slices.Contains(request.prompt, promptNone) {
			return false, c.must(false, &ruleSameSubject)
		}
		return true, nil
	}
	return false, nil
}

// acceptsSubject reports whether id_token_hint and the claims parameter allow a subject (OpenID
// Connect Core, sections 3.1.2.1 and 5.5.1).
func (c *call) acceptsSubject(r *authorizationRequest, subject string) bool {
	if r.subject != "" && r.subject != subject {
		return false
	}
	if r.hintSubject != "" && r.hintSubject != c.s.subjectFor(r.hintClient, subject) {
		return false
	}
	return r.claims == nil || r.claims.IDToken["sub"].Accepts(c.s.subjectFor(r.client, subject))
}

// checkACR enforces an acr that the claims parameter requests as essential. Otherwise acr is
// voluntary, and the ID token says which one was reached.
func (c *call) checkACR(request *authorizationRequest, who *Authentication) error {
	if request.essentialACR() == nil {
		return nil
	}
	_, ok := c.reportedACR(request, who.ACR)
	return c.must(ok, &ruleACR)
}

// sendTo stores the request, bound to this browser, and redirects the user to a page.
func (c *call) sendTo(page string, i *interaction, logout bool) error {
	if i.id == "" {
		if err := c.takeInteraction(c.client, &ruleInteractions); err != nil {
			return err
		}
		if err := c.storeInteraction(i, logout); err != nil {
			return err
		}
	}
	c.redirect(c.s.basePath + page + "?" + c.interactionQuery(i.id))
	return nil
}

// interactionQuery returns the query of the URL of a page: the interaction, and the client, which
// the page needs after the interaction has expired. A client that no one vouches for is left out,
// because pages do not link to it.
func (c *call) interactionQuery(id string) string {
	query := "interaction=" + url.QueryEscape(id)
	if c.client != nil && c.client.Vouched() {
		query += "&client_id=" + url.QueryEscape(c.client.ID)
	}
	return query
}

// interactionData is a stored interaction. It has the parameters of the request, which are
// verified again at each step.
type interactionData struct {
	Query   string `json:"q"`
	Browser []byte `json:"b"` // hash of the browser's cookie
	Began   int64  `json:"t"` // Unix milliseconds
	Logout  bool   `json:"l,omitempty"`
	// Selected is the subject that the user chose.
	Selected string `json:"s,omitempty"`
	// UserCode is the user code of the device; "" if there is none.
	UserCode string `json:"u,omitempty"`
	// Backchannel is the ID of the backchannel authentication request; "" if this is none.
	Backchannel string `json:"h,omitempty"`
	// Ended is the rest of a logout whose session has ended.
	Ended *endedLogout `json:"e,omitempty"`
	// TicketKind and Ticket are the key of interaction.ticket; "" and nil if there is none.
	TicketKind storage.Kind `json:"k,omitempty"`
	Ticket     []byte       `json:"p,omitempty"`
}

func (c *call) storeInteraction(i *interaction, logout bool) error {
	i.began = c.now
	ticket, err := c.interactionTicket(i, logout)
	if err != nil {
		return err
	}
	if err := c.s.config.Store.Put(c.r.Context(), c.now, ticket); err != nil {
		return fmt.Errorf("store interaction: %w", err)
	}
	return nil
}

// selectAccount replaces the interaction by one that contains the user's choice of account.
func (c *call) selectAccount(i *interaction, subject string) error {
	spent := ticketkind.Interaction.Hash(i.id)
	i.selected = subject
	ticket, err := c.interactionTicket(i, false)
	if err != nil {
		return err
	}
	err = c.s.config.Store.Spend(c.r.Context(), c.now, []storage.Key{spent}, ticket)
	if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
		return c.must(false, &ruleInteraction)
	}
	if err != nil {
		return fmt.Errorf("store selected account: %w", err)
	}
	return nil
}

// interactionTicket gives an interaction a new ID, and binds it to the browser.
func (c *call) interactionTicket(i *interaction, logout bool) (storage.Ticket, error) {
	query := i.params.storable()
	if err := c.countStoredBytes(c.client, len(query)); err != nil {
		return storage.Ticket{}, err
	}
	browser := c.browser()
	if browser == "" {
		browser = rand.Text()
		http.SetCookie(c.w, c.s.browserCookie(browser))
	}
	hash := sha256.Sum256([]byte(browser))
	stored := interactionData{
		Query: query, Browser: hash[:], Began: i.began.UnixMilli(), Logout: logout, Selected: i.selected, Ended: i.ended,
	}
	if i.device != nil {
		stored.UserCode = i.device.code
	}
	if i.backchannel != nil {
		stored.Backchannel = backchannelID(i.backchannel.key)
	}
	if i.ticket != nil {
		stored.TicketKind, stored.Ticket = i.ticket.key.Kind, i.ticket.key.ID[:]
	}
	data, err := json.Marshal(stored)
	if err != nil {
		return storage.Ticket{}, fmt.Errorf("encode interaction: %w", err)
	}
	i.id = storage.NewID()
	lifetime := c.s.lifetimes.Interaction
	if i.ended != nil {
		lifetime = endedLifetime
	}
	return storage.Ticket{Key: ticketkind.Interaction.Hash(i.id), Data: data, Expires: c.now.Add(lifetime)}, nil
}

// browserCookieName returns the name of the cookie that binds interactions to a browser. Its
// value is random, and all tabs share it.
func (s *Server) browserCookieName() string {
	return cookiename.Of(s.config.Issuer, "valetkey_browser")
}

func (s *Server) browserCookie(value string) *http.Cookie {
	return &http.Cookie{
		Name: s.browserCookieName(), Value: value, Path: "/",
		Secure: s.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

func (c *call) browser() string {
	cookies := c.r.CookiesNamed(c.s.browserCookieName())
	if len(cookies) != 1 || len(cookies[0].Value) > 64 {
		return ""
	}
	return cookies[0].Value
}

// loadInteraction returns an unfinished interaction of this browser.
func (c *call) loadInteraction(id string) (*interactionData, error) {
	if len(id) != 22 {
		return nil, ErrInteractionExpired
	}
	ticket, err := c.s.config.Store.Get(c.r.Context(), c.now, ticketkind.Interaction.Hash(id))
	if errors.Is(err, storage.ErrNotFound) || err == nil && !ticket.Spent.IsZero() {
		return nil, ErrInteractionExpired
	}
	if err != nil {
		return nil, fmt.Errorf("look up interaction: %w", err)
	}
	var data interactionData
	if err := json.Unmarshal(ticket.Data, &data); err != nil {
		return nil, fmt.Errorf("read interaction: %w", err)
	}
	hash := sha256.Sum256([]byte(c.browser()))
	if subtle.ConstantTimeCompare(hash[:], data.Browser) != 1 {
		return nil, ErrOtherBrowser
	}
	return &data, nil
}

// resume loads an authorization request and verifies it again.
func (c *call) resume(id string) (*interaction, error) {
	data, err := c.loadInteraction(id)
	if err != nil {
		return nil, err
	}
	if data.Logout {
		return nil, ErrInteractionExpired
	}
	if data.UserCode != "" {
		return c.resumeDevice(id, data)
	}
	if data.Backchannel != "" {
		return c.resumeBackchannel(id, data)
	}
	if c.params, err = c.parseParams(data.Query); err != nil {
		return nil, err
	}
	i := &interaction{id: id, began: time.UnixMilli(data.Began), params: c.params, selected: data.Selected}
	if len(data.Ticket) == len(storage.ID{}) {
		i.ticket = &requestTicket{key: storage.Key{Kind: data.TicketKind, ID: storage.ID(data.Ticket)}, size: len(data.Query)}
	}
	if i.request, err = c.verifyAuthorizationRequest(); err != nil {
		return i, err
	}
	return i, nil
}

// pageError turns an error of loadInteraction into the refusal of a rule.
func (c *call) pageError(err error) error {
	if c.client == nil {
		c.client = c.s.pageClient(c.r)
	}
	switch {
	case errors.Is(err, ErrInteractionExpired):
		return c.must(false, &ruleInteraction)
	case errors.Is(err, ErrOtherBrowser):
		return c.must(false, &ruleInteractionBrowser)
	}
	return err
}

// continueInteraction decides again, after a page has changed who is signed in.
func (c *call) continueInteraction() error {
	c.direct = true
	p, err := c.parseParams(c.r.URL.RawQuery)
	if err != nil {
		return err
	}
	return c.withInteraction(p.get("interaction"), func(i *interaction) error {
		who, err := c.s.config.Users.SignedIn(c.r)
		if err != nil {
			return err
		}
		return c.advance(i, who)
	})
}

func (c *call) withInteraction(id string, then func(*interaction) error) error {
	i, err := c.resume(id)
	if err != nil {
		if i != nil {
			return c.refuseAuthorization(i.request, err)
		}
		return c.pageError(err)
	}
	return then(i)
}
