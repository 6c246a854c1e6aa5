package manage_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/manage"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/dpop"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/record"
)

const password = "correct horse battery staple"

// people has an administrator and a user without a role, and two clients that get tokens for users:
// only one of them may ask for the management API.
func people(c *valetkey.Config) {
	c.Users = []configuration.User{
		{Username: "ada", Subject: "ada-sub", Password: password, Administrator: true},
		{Username: "bob", Subject: "bob-sub", Password: password},
	}
	client := func(id string, resources ...string) configuration.Client {
		return configuration.Client{ID: id, Secret: secret,
			ClientMetadata: oauth.ClientMetadata{GrantTypes: []string{oauth.GrantTypePassword}, Scope: "openid " + allScopes()},
			ClientSettings: record.ClientSettings{Resources: resources}}
	}
	c.Clients = append(c.Clients, client("tool", manage.Identifier(c.Issuer)), client("app"))
}

// userToken returns the response of the token endpoint for a user.
func (s *server) userToken(t *testing.T, client, user, proof string, form url.Values) (token, scope, problem string) {
	t.Helper()
	form.Set("grant_type", oauth.GrantTypePassword)
	form.Set("username", user)
	form.Set("password", password)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(client, secret)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if proof != "" {
		r.Header.Set("DPoP", proof)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body struct {
		AccessToken string `json:"access_token"`
		Scope       string `json:"scope"`
		Error       string `json:"error"`
	}
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return body.AccessToken, body.Scope, body.Error
}

func TestOnlyUsersWithARoleGetTheScopes(t *testing.T) {
	s := start(t, people)
	wanted := url.Values{"scope": {"openid users:read roles:write"}, "resource": {manage.Identifier(s.url)}}
	token, scope, _ := s.userToken(t, "tool", "ada", "", wanted)
	if scope != "openid users:read roles:write" {
		t.Errorf("an administrator got the scope %q", scope)
	}
	ada := s.connect(token)
	who, err := ada.Whoami(t.Context())
	if err != nil || who.Name != "ada" || len(who.Permissions) != 2 {
		t.Errorf("ada: %+v, %v", who, err)
	}
	_, err = ada.Keys(t.Context())
	wantStatus(t, "a permission that the token does not have", err, http.StatusForbidden)

	token, scope, _ = s.userToken(t, "tool", "bob", "", wanted)
	if scope != "openid" {
		t.Errorf("a user without a role got the scope %q", scope)
	}
	_, err = s.connect(token).Whoami(t.Context())
	wantStatus(t, "a user without a role", err, http.StatusForbidden)

	if _, _, problem := s.userToken(t, "app", "ada", "", wanted); problem != string(oauth.InvalidTarget) {
		t.Errorf("a client whose resources do not name the API: %q", problem)
	}
	token, _, _ = s.userToken(t, "app", "ada", "", url.Values{"scope": {"openid users:read"}})
	_, err = s.connect(token).Users(t.Context(), api.List{})
	wantStatus(t, "such a client without naming the API", err, http.StatusUnauthorized)
	// A token for two audiences could be used by the other one.
	token, _, _ = s.userToken(t, "tool", "ada", "", url.Values{"scope": {"openid users:read"}})
	_, err = s.connect(token).Users(t.Context(), api.List{})
	wantStatus(t, "a token for UserInfo and the API", err, http.StatusOK)
}

// TestATokenIsAsStrongAsTheRecordsAreNow: a token that was issued before a demotion, or before its user
// or client was disabled.
func TestATokenIsAsStrongAsTheRecordsAreNow(t *testing.T) {
	s := start(t, people)
	console := s.Management().Connect(manage.Caller{UserID: "ada-sub"})
	bob, err := console.User(t.Context(), "bob-sub")
	if err != nil {
		t.Fatal(err)
	}
	if bob, err = console.SetUserRole(t.Context(), "bob-sub", bob.ETag, api.RoleOperator, noChange); err != nil {
		t.Fatal(err)
	}
	token, _, _ := s.userToken(t, "tool", "bob", "", url.Values{"scope": {"users:read keys:read"}, "resource": {manage.Identifier(s.url)}})
	c := s.connect(token)
	if _, err := c.Keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err = console.SetUserRole(t.Context(), "bob-sub", bob.ETag, api.RoleSupport, noChange); err != nil {
		t.Fatal(err)
	}
	_, err = c.Keys(t.Context())
	wantStatus(t, "after the demotion", err, http.StatusForbidden)
	if _, err = c.Users(t.Context(), api.List{}); err != nil {
		t.Errorf("what the new role allows: %v", err)
	}
	if err := console.EndUser(t.Context(), "bob-sub", noChange); err != nil {
		t.Fatal(err)
	}
	_, err = c.Users(t.Context(), api.List{})
	wantStatus(t, "after everything of the user ended", err, http.StatusUnauthorized)
}

func TestABoundTokenNeedsAProof(t *testing.T) {
	s := start(t, people)
	private, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	key, err := dpop.NewKey(jose.ES256, private)
	if err != nil {
		t.Fatal(err)
	}
	proof := func(method, uri, token string) string {
		text, err := key.Proof(method, uri, token, "")
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	token, _, problem := s.userToken(t, "tool", "ada", proof(http.MethodPost, s.url+"/token", ""), url.Values{"scope": {"users:read"}, "resource": {manage.Identifier(s.url)}})
	if token == "" {
		t.Fatal(problem)
	}
	address := s.url + "/manage/v1/users"
	once := proof(http.MethodGet, address, token)
	for _, c := range []struct {
		name, scheme, proof string
		want                int
	}{
		{"as a bearer token", "Bearer", "", http.StatusUnauthorized},
		{"without a proof", "DPoP", "", http.StatusUnauthorized},
		{"with a proof for another address", "DPoP", proof(http.MethodGet, s.url+"/manage/v1/clients", token), http.StatusUnauthorized},
		{"with a proof for another method", "DPoP", proof(http.MethodPost, address, token), http.StatusUnauthorized},
		{"with a proof", "DPoP", once, http.StatusOK},
		{"with the same proof again", "DPoP", once, http.StatusUnauthorized},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", c.scheme+" "+token)
		if c.proof != "" {
			r.Header.Set("DPoP", c.proof)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", c.name, response.StatusCode, c.want)
		}
	}
}

// The client of the command line is public: what it cannot get for its user, nobody can pretend to get.
func TestTheClientOfTheCommandLine(t *testing.T) {
	authorize := func(s *server, redirect string) int {
		query := url.Values{"client_id": {api.CommandLineClientID}, "response_type": {"code"}, "redirect_uri": {redirect}, "scope": {"users:read"},
			"resource": {manage.Identifier(s.url)}, "code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}}
		browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		response, err := browser.Get(s.url + "/authorize?" + query.Encode())
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	for _, mode := range []string{"", configuration.CommandLineDevice, configuration.CommandLineOff} {
		s := start(t, func(c *valetkey.Config) { c.Management.CommandLine = mode })
		off := mode == configuration.CommandLineOff
		if status := authorize(s, "http://127.0.0.1:49152/callback"); (status < 400) == off {
			t.Errorf("mode %q: a request with a redirect to loopback gets the status %d", mode, status)
		}
		for _, redirect := range []string{"https://evil.example/callback", "http://localhost.evil.example/callback", "http://127.0.0.1:1/elsewhere"} {
			if status := authorize(s, redirect); status < 400 {
				t.Errorf("mode %q: a request with a redirect to %s gets the status %d", mode, redirect, status)
			}
		}
		response, err := http.PostForm(s.url+"/device_authorization", url.Values{"client_id": {api.CommandLineClientID}, "scope": {"users:read"}})
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if allowed := response.StatusCode == http.StatusOK; allowed != (mode == configuration.CommandLineDevice) {
			t.Errorf("mode %q: the device flow gets the status %d", mode, response.StatusCode)
		}
		administrator := s.connect(s.token(t, "administrator", nil))
		_, err = administrator.CreateClient(t.Context(), &api.NewClient{ID: api.CommandLineClientID, ClientMembers: api.ClientMembers{
			ClientMetadata: oauth.ClientMetadata{RedirectURIs: []string{"https://evil.example/callback"}}}}, noChange)
		wantStatus(t, "creating a client with this client_id", err, http.StatusUnprocessableEntity)
	}
}
