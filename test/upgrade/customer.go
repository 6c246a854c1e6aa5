package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/storage"
)

const (
	clientSecret = "photos-3b1f8c2d7e6a4950-b7c1"
	redirectURI  = "http://127.0.0.1:9/callback" // nothing listens here: the browser stops before it
	password     = "engine-no-1-of-1843"
	verifier     = "a-verifier-that-is-long-enough-for-RFC-7636-0123456789"
)

// customer is a user at a browser, and what a client has for the user.
type customer struct {
	issuer, clientID string
	http             *http.Client
	person           *person.Person
	access, refresh  string
	redemption       url.Values
}

// newCustomer returns a customer whose requests take a transport; nil means the usual one.
func newCustomer(transport http.RoundTripper, issuer, clientID, username string) *customer {
	c := &customer{issuer: issuer, clientID: clientID, person: person.New(username, password), http: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
	if transport != nil {
		c.person.Through(transport)
	}
	return c
}

// signIn runs a code flow. With silent, the user's session and consent must be there already.
func (c *customer) signIn(silent bool) error {
	back, err := c.person.Visit(c.authorizationRequest(silent), redirectURI)
	if err != nil {
		return fmt.Errorf("%s signs in: %w", c.person.Username, err)
	}
	return c.redeem(back)
}

func (c *customer) authorizationRequest(silent bool) string {
	challenge := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"response_type": {"code"}, "client_id": {c.clientID}, "redirect_uri": {redirectURI}, "scope": {"openid photos.read"}, "state": {storage.NewID()},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	if silent {
		query.Set("prompt", "none")
	}
	return c.issuer + "/authorize?" + query.Encode()
}

// redeem exchanges the code of an authorization response.
func (c *customer) redeem(response *url.URL) error {
	code := response.Query().Get("code")
	if code == "" {
		return fmt.Errorf("%s: no code: %s", c.person.Username, response.RawQuery)
	}
	c.redemption = url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirectURI}, "code_verifier": {verifier}}
	return c.token(c.redemption)
}

// replayed redeems the code again, which ends what it gave, on every node.
func (c *customer) replayed() error {
	again := *c
	for range 2 {
		if err := again.token(c.redemption); !errors.Is(err, errInvalidGrant) {
			return fmt.Errorf("a code is accepted twice: %w", err)
		}
	}
	return c.ended()
}

// refreshed exchanges the refresh token.
func (c *customer) refreshed() error {
	before := c.refresh
	if err := c.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {c.refresh}}); err != nil {
		return err
	}
	if c.refresh == before {
		return errors.New("a refresh token was not rotated")
	}
	return nil
}

var errInvalidGrant = errors.New("invalid_grant")

func (c *customer) token(form url.Values) error {
	var tokens struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
		Error   string `json:"error"`
	}
	if err := c.post("/token", form, &tokens); err != nil {
		return err
	}
	switch {
	case tokens.Error == "invalid_grant":
		return fmt.Errorf("%s: %w", form.Get("grant_type"), errInvalidGrant)
	case tokens.Access == "" || tokens.Refresh == "":
		return fmt.Errorf("%s: no tokens: %s", form.Get("grant_type"), tokens.Error)
	}
	c.access, c.refresh = tokens.Access, tokens.Refresh
	return nil
}

// check says whether the access token must be active.
func (c *customer) check(active bool) error {
	var introspected struct{ Active bool }
	if err := c.post("/introspect", url.Values{"token": {c.access}}, &introspected); err != nil {
		return err
	}
	if introspected.Active != active {
		return fmt.Errorf("introspection: active is %t", introspected.Active)
	}
	return nil
}

// revoked revokes the refresh token, and checks that nothing of it works.
func (c *customer) revoked() error {
	if err := c.post("/revoke", url.Values{"token": {c.refresh}}, nil); err != nil {
		return err
	}
	return c.ended()
}

// ended checks on both nodes that the tokens do not work.
func (c *customer) ended() error {
	for range 2 {
		if err := c.refreshed(); !errors.Is(err, errInvalidGrant) {
			return fmt.Errorf("a revoked refresh token: %w", err)
		}
	}
	for range 2 {
		if err := c.check(false); err != nil {
			return fmt.Errorf("a revoked access token: %w", err)
		}
	}
	return nil
}

func (c *customer) post(path string, form url.Values, result any) error {
	request, err := http.NewRequest(http.MethodPost, c.issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(c.clientID, clientSecret)
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 500 || response.StatusCode == http.StatusUnauthorized {
		return fmt.Errorf("%s: %s", path, response.Status)
	}
	if result == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(result)
}
