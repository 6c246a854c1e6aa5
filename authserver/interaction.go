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

// Interaction is an authorization or logout request that waits for a person.
type Interaction struct {
	ID     string
	Client *record.Client // nil for a logout request that names none
	// Scopes are what consent is asked for.
	Scopes []InteractionScope
	// Resources are the APIs that the access token will be for.
	Resources []record.Resource
	// Subject is who is signed in at this browser; "" if nobody is, or if the client asks
	// that they prove it again.
	Subject string
	// LoginHint is what the client believes the person's identifier to be.
	LoginHint string
	UILocales []string
	// Selectable is who is signed in and can go on as that, where the client wants the
	// person to choose who they are; "" if there is nothing to choose.
	Selectable string
	// RedirectURI is the verified place to which the browser will return.
	RedirectURI string
	// FormAction is a source for the form-action directive of the page's
	// Content-Security-Policy, without which Chromium refuses the redirect after the form.
	FormAction string
	// SignedOut says that the session has ended, and what is left is to show Frames and to
	// go on to ContinueTo, "" if there is nowhere to go.
	SignedOut  bool
	Frames     []string
	ContinueTo string
	// FirstTime says that the person never allowed the client anything, and Newcomer that
	// nobody here did for a year, which is known of clients with a metadata document.
	FirstTime, Newcomer bool
	// Device is what asks, where it is a device without a browser (RFC 8628). The page shows
	// its code, and lets the person compare.
	Device *Device
	// OfflineAccess says that the client will have access while the person is away.
	OfflineAccess bool
}

// InteractionScope is one scope on the consent page.
type InteractionScope struct {
	record.Scope
	// Granted says that the person allowed it before, Declined that they were asked and did not.
	Granted, Declined bool
}

// ConsentAnswer is what a person said on the consent page.
type ConsentAnswer struct {
	// Subject is whom the page was shown to; if somebody else is signed in by now, the
	// engine asks again.
	Subject string
	// Scope is what they allow; required scopes are added.
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
		fix:  "nothing: the person decides",
	}
)

// interaction is a verified request on its way to an answer.
type interaction struct {
	request *authorizationRequest
	params  params
	// id and began are of the stored interaction; zero while nothing had to be stored.
	id    string
	began time.Time
	// ended is what is left of a logout.
	ended *endedLogout
	// device is what waits for the answer in the place of a redirect URI; nil if none does.
	device *device
	// challenge is what an application's own window shows in the place of our pages; nil if
	// none does.
	challenge *challenge
	// selected is the subject whom the person chose to be (prompt=select_account).
	selected string
	// allowed says that this very request is the answer to the interaction's consent page.
	allowed bool
}

// advance is the one dispatcher. From what is stored (who is signed in, since when, what
// they granted) it decides what the person must still do, and sends them there, or
// answers the client.
func (c *call) advance(i *interaction, who *Authentication) error {
	next, grant, err := c.decide(i, who)
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
	if err := c.answer(i, who, grant); err != nil {
		return c.refuseAuthorization(i.request, err)
	}
	return nil
}

type nextStep int

const (
	nextAnswer nextStep = iota
	nextSignIn
	nextConsent
)

// decide changes nothing.
func (c *call) decide(i *interaction, who *Authentication) (nextStep, *record.Grant, error) {
	request := i.request
	silent := slices.Contains(request.prompt, promptNone)
	if signIn, err := c.mustSignIn(i, who); err != nil {
		return 0, nil, err
	} else if signIn {
		if silent {
			return 0, nil, c.must(false, &ruleLogin)
		}
		return nextSignIn, nil, nil
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
	return nextAnswer, grant, nil
}

// since reports whether something happened in the course of this interaction.
func (i *interaction) since(at time.Time) bool {
	return !i.began.IsZero() && !at.Before(i.began)
}

func (c *call) mustSignIn(i *interaction, who *Authentication) (bool, error) {
	request := i.request
	if who == nil {
		return true, nil
	}
	fresh := i.since(who.Time)
	again := slices.Contains(request.prompt, promptLogin) || slices.Contains(request.prompt, promptCreate) ||
		slices.Contains(request.prompt, promptSelectAccount) && i.selected != who.Subject ||
		request.maxAge >= 0 && c.now.Sub(who.Time) > request.maxAge
	if again && !fresh {
		return true, nil
	}
	if !c.wants(request, who.Subject) {
		if fresh || slices.Contains(request.prompt, promptNone) {
			return false, c.must(false, &ruleSameSubject)
		}
		return true, nil
	}
	return false, nil
}

// wants reports whether the request is content with a subject (OpenID Connect Core,
// sections 3.1.2.1 and 5.5.1).
func (c *call) wants(r *authorizationRequest, subject string) bool {
	if r.hintSubject != "" && r.hintSubject != c.s.subjectFor(r.hintClient, subject) {
		return false
	}
	return r.claims == nil || r.claims.IDToken["sub"].Accepts(c.s.subjectFor(r.client, subject))
}

// checkACR holds an acr that the claims parameter calls essential. Without that word,
// acr_values is a wish, and the ID token says what was reached.
func (c *call) checkACR(request *authorizationRequest, who *Authentication) error {
	if request.claims == nil {
		return nil
	}
	asked := request.claims.IDToken["acr"]
	if asked == nil || !asked.Essential {
		return nil
	}
	return c.must(asked.Accepts(who.ACR), &ruleACR)
}

// sendTo keeps the request, bound to this browser, and sends the person to a page.
func (c *call) sendTo(page string, i *interaction, logout bool) error {
	if i.id == "" {
		if err := c.takeInteraction(c.client, &ruleInteractions); err != nil {
			return err
		}
		if err := c.keepInteraction(i, logout); err != nil {
			return err
		}
	}
	c.redirect(c.s.basePath + page + "?" + c.interactionQuery(i.id))
	return nil
}

// interactionQuery is what addresses of pages say: the interaction, and whose request it is,
// for when the interaction is gone. A client that nobody vouches for is not named: pages do not
// link to it.
func (c *call) interactionQuery(id string) string {
	query := "interaction=" + url.QueryEscape(id)
	if c.client != nil && c.client.Vouched() {
		query += "&client_id=" + url.QueryEscape(c.client.ID)
	}
	return query
}

// interactionData is what is stored: the request with the parameters that are read, verified
// again at each step.
type interactionData struct {
	Query   string `json:"q"`
	Browser []byte `json:"b"` // hash of the browser's cookie
	Began   int64  `json:"t"` // Unix milliseconds
	Logout  bool   `json:"l,omitempty"`
	// Selected is the subject whom the person chose to be.
	Selected string `json:"s,omitempty"`
	// UserCode is that of the device which waits, where one does.
	UserCode string `json:"u,omitempty"`
	// Ended is what is left to do of a logout.
	Ended *endedLogout `json:"e,omitempty"`
}

func (c *call) keepInteraction(i *interaction, logout bool) error {
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

// selectAccount notes who the person chose to be in a new interaction, which takes the
// place of the one in which they did.
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
		return fmt.Errorf("store the choice of an account: %w", err)
	}
	return nil
}

// interactionTicket gives an interaction a new name, and binds it to the browser.
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
	data, err := json.Marshal(stored)
	if err != nil {
		return storage.Ticket{}, fmt.Errorf("encode interaction: %w", err)
	}
	i.id = storage.NewID()
	lives := c.s.lifetimes.Interaction
	if i.ended != nil {
		lives = endedLifetime
	}
	return storage.Ticket{Key: ticketkind.Interaction.Hash(i.id), Data: data, Expires: c.now.Add(lives)}, nil
}

// The browser's cookie is a random name by which interactions know their browser again;
// all tabs share it.
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

// loadInteraction finds what a page's request belongs to.
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

// resume loads an authorization request and verifies it anew.
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
	if c.params, err = c.parseParams(data.Query); err != nil {
		return nil, err
	}
	i := &interaction{id: id, began: time.UnixMilli(data.Began), params: c.params, selected: data.Selected}
	if i.request, err = c.verifyAuthorizationRequest(); err != nil {
		return i, err
	}
	return i, nil
}

// pageError turns the errors of loadInteraction into the rules that they break.
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

// continueInteraction decides anew, after a page changed who is signed in.
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
