package authserver

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/valetkey/valetkey/internal/cookiename"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

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
