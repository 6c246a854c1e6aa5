package authserver_test

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// register posts client metadata and returns the registered metadata or the error.
func (s *scene) register(metadata map[string]any) (status int, response map[string]any) {
	s.t.Helper()
	body, err := json.Marshal(metadata)
	if err != nil {
		s.t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, scriptIssuer+"/register", strings.NewReader(string(body)))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &response); err != nil {
		s.t.Fatal(err)
	}
	return w.Code, response
}

func openRegistration(c *authserver.Config) { c.Registration.Mode = authserver.RegistrationOpen }

// The values in a software statement take precedence over those in the request (RFC 7591,
// section 2.3).
func TestSoftwareStatementOfATrustedIssuer(t *testing.T) {
	private, err := jose.GenerateKey(jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.ES256, "k", private)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.KeySet{Keys: []jose.JWK{signer.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	s := newSceneOn(t, scriptSetup{}, memory.New(), func(c *authserver.Config) {
		openRegistration(c)
		c.Registration.RequireSoftwareStatement = true
		c.Registration.SoftwareStatements = []authserver.SoftwareStatementIssuer{{Issuer: "https://federation.example", JWKS: keys}}
	})
	statement := func(claims map[string]any) string {
		payload, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		token, err := signer.Sign("JWT", payload)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := map[string]any{"iss": "https://federation.example", "client_name": "Vouched for", "software_id": "4NRB1-0XZABZI9E6-5SM3R"}
	status, response := s.register(map[string]any{"redirect_uris": []string{"https://c.example/cb"}, "client_name": "My Bank", "software_statement": statement(good)})
	if status != http.StatusCreated || response["client_name"] != "Vouched for" || response["software_id"] != "4NRB1-0XZABZI9E6-5SM3R" {
		t.Errorf("status %d: %v", status, response)
	}
	for name, bad := range map[string]struct{ statement, code string }{
		"missing":          {"", "unapproved_software_statement"},
		"expired":          {statement(map[string]any{"iss": "https://federation.example", "exp": time.Now().Add(-time.Hour).Unix()}), "invalid_software_statement"},
		"forged":           {statement(good)[:80] + "AAAA" + statement(good)[84:], "invalid_software_statement"},
		"untrusted issuer": {statement(map[string]any{"iss": "https://evil.example"}), "unapproved_software_statement"},
	} {
		status, response := s.register(map[string]any{"redirect_uris": []string{"https://c.example/cb"}, "software_statement": bad.statement})
		if status != http.StatusBadRequest || response["error"] != bad.code {
			t.Errorf("%s: status %d: %v", name, status, response)
		}
	}
}

// A registered client is removed if it is not used within a day.
func TestRegisteredClientsInUseAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSceneOn(t, scriptSetup{}, memory.New(), openRegistration)
		metadata := map[string]any{"redirect_uris": []string{"https://app.example/cb"}, "token_endpoint_auth_method": "client_secret_post"}
		_, used := s.register(metadata)
		_, idle := s.register(metadata)
		authorize := func(client any) int {
			r := httptest.NewRequest(http.MethodGet, scriptIssuer+"/authorize?response_type=code&scope=openid&nonce=n&prompt=none&redirect_uri=https%3A%2F%2Fapp.example%2Fcb&client_id="+client.(string), nil)
			w := httptest.NewRecorder()
			who := s.signIn(httptest.NewRecorder(), "ada")
			r.AddCookie(&http.Cookie{Name: sessionCookie, Value: who.Session})
			s.server.ServeHTTP(w, r)
			return w.Code
		}
		_, err := s.store.UpdateGrant(t.Context(), "ada", used["client_id"].(string), func(grant *record.Grant) error {
			grant.Scope, grant.CreatedAt = []string{"openid"}, time.Now()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if status := authorize(used["client_id"]); status != http.StatusSeeOther {
			t.Fatalf("status %d", status)
		}
		time.Sleep(25 * time.Hour)
		if status := authorize(used["client_id"]); status != http.StatusSeeOther {
			t.Errorf("a client in use was removed: status %d", status)
		}
		if status := authorize(idle["client_id"]); status != http.StatusBadRequest {
			t.Errorf("an unused client exists after a day: status %d", status)
		}
	})
}

func TestRegistrationIsLimited(t *testing.T) {
	store := memory.New()
	s := newSceneOn(t, scriptSetup{}, store, func(c *authserver.Config) {
		openRegistration(c)
		c.Registration.MaxClients, c.Registration.PerMinute = 2, 4
	})
	register := func(want int) string {
		t.Helper()
		status, response := s.register(map[string]any{"redirect_uris": []string{"https://c.example/cb"}})
		if status != want {
			t.Errorf("status %d, want %d: %v", status, want, response)
		}
		id, _ := response["client_id"].(string)
		return id
	}
	// New clients replace clients that were never used, but not those in use.
	register(http.StatusCreated)
	for range 2 {
		err := store.UpdateClient(t.Context(), register(http.StatusCreated), func(client *record.Client) error {
			client.Registration.UnusedUntil = time.Time{}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	register(http.StatusServiceUnavailable)
	register(http.StatusTooManyRequests)
}

// The document at the sector_identifier_uri must list the redirect URIs (OpenID Connect Core, section
// 8.1).
func TestSectorIdentifierURIMustListTheRedirectURIs(t *testing.T) {
	sector := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`["https://one.example/cb","https://two.example/cb"]`))
	}))
	defer sector.Close()
	pool := x509.NewCertPool()
	pool.AddCert(sector.Certificate())
	s := newSceneOn(t, scriptSetup{}, memory.New(), func(c *authserver.Config) {
		openRegistration(c)
		c.Outgoing = authserver.Outgoing{InsecureOutsiderNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, CertificateAuthorities: pool}
	})
	for uri, want := range map[string]int{"https://two.example/cb": 201, "https://three.example/cb": 400} {
		status, response := s.register(map[string]any{
			"redirect_uris": []string{"https://one.example/cb", uri}, "subject_type": "pairwise", "sector_identifier_uri": sector.URL,
		})
		if status != want {
			t.Errorf("%s: status %d: %v", uri, status, response)
		}
	}
}

func TestRegistrationIsOffByDefault(t *testing.T) {
	s := newScene(t, scriptSetup{})
	if s.server.Handles("/register") {
		t.Error("registration is on by default")
	}
}

// registrationScene returns a scene with a registration policy.
func registrationScene(t *testing.T, store database, policy authserver.RegistrationPolicy) *scene {
	t.Helper()
	return newSceneOn(t, scriptSetup{Clients: []testClient{confidential("api")}}, store, func(c *authserver.Config) { c.Registration = policy })
}

// manage sends a request with a JSON body to the registration endpoint.
func (s *scene) manage(method, query, token, body string) (apiResponse, oauth.ClientInformation) {
	s.t.Helper()
	r := httptest.NewRequest(method, "/register"+query, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	a := s.do(r)
	var information oauth.ClientInformation
	if a.status < 300 && a.body != "" {
		if err := json.Unmarshal([]byte(a.body), &information); err != nil {
			s.t.Fatal(err)
		}
	}
	return a, information
}

// registered registers a client, and fails the test if that fails.
func (s *scene) registered(metadata string) oauth.ClientInformation {
	s.t.Helper()
	a, information := s.manage(http.MethodPost, "", "", metadata)
	if a.status != http.StatusCreated {
		s.t.Fatalf("register: %d %s", a.status, a.body)
	}
	return information
}

const webClient = `{"redirect_uris": ["` + testCallback + `"], "token_endpoint_auth_method": "client_secret_post"}`

func TestDC01_RegistrationModes(t *testing.T) {
	for mode, want := range map[authserver.RegistrationMode]string{
		"": "", authserver.RegistrationOff: "", authserver.RegistrationInitialAccessToken: scriptIssuer + "/register", authserver.RegistrationOpen: scriptIssuer + "/register",
	} {
		s := registrationScene(t, memory.New(), authserver.RegistrationPolicy{Mode: mode})
		a := s.do(httptest.NewRequest(http.MethodGet, oauth.WellKnownOpenIDConfiguration, nil))
		var metadata oauth.ServerMetadata
		if err := json.Unmarshal([]byte(a.body), &metadata); err != nil {
			t.Fatal(err)
		}
		if metadata.RegistrationEndpoint != want {
			t.Errorf("mode %q: registration_endpoint is %q, want %q", mode, metadata.RegistrationEndpoint, want)
		}
		if a, _ := s.manage(http.MethodPost, "", "", webClient); want == "" && a.status != http.StatusNotFound {
			t.Errorf("mode %q: POST /register is %d", mode, a.status)
		}
	}
}

func TestDC01_AnInitialAccessTokenHasLimitedUses(t *testing.T) {
	const uses = 3
	stores(t, func(t *testing.T, store database) {
		s := registrationScene(t, store, authserver.RegistrationPolicy{Mode: authserver.RegistrationInitialAccessToken})
		token, err := authserver.NewInitialAccessToken(t.Context(), store, time.Now(), authserver.InitialAccessToken{Uses: uses, ExpiresAt: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		statuses := map[int]int{}
		for range 4 * uses {
			wg.Go(func() {
				a, _ := s.manage(http.MethodPost, "", token, webClient)
				mu.Lock()
				defer mu.Unlock()
				statuses[a.status]++
			})
		}
		wg.Wait()
		if statuses[http.StatusCreated] != uses || statuses[http.StatusUnauthorized] != 3*uses {
			t.Errorf("the statuses are %v", statuses)
		}
		tokens, err := authserver.InitialAccessTokens(t.Context(), store, time.Now())
		if err != nil || len(tokens) != 1 || tokens[0].Left != 0 || tokens[0].Uses != uses {
			t.Errorf("the tokens are %v %v", tokens, err)
		}
	})
}

func TestRevokeInitialAccessToken(t *testing.T) {
	s := registrationScene(t, memory.New(), authserver.RegistrationPolicy{Mode: authserver.RegistrationInitialAccessToken})
	ctx := t.Context()
	token, err := authserver.NewInitialAccessToken(ctx, s.store, time.Now(), authserver.InitialAccessToken{Uses: 2, Note: "for Ada", ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := authserver.InitialAccessTokens(ctx, s.store, time.Now())
	if err != nil || len(tokens) != 1 || tokens[0].Note != "for Ada" || tokens[0].Left != 2 {
		t.Fatalf("the tokens are %v %v", tokens, err)
	}
	if err := authserver.RevokeInitialAccessToken(ctx, s.store, time.Now(), tokens[0].ID); err != nil {
		t.Fatal(err)
	}
	a, _ := s.manage(http.MethodPost, "", token, webClient)
	a.want(t, http.StatusUnauthorized, oauth.InvalidToken)
	if tokens, err := authserver.InitialAccessTokens(ctx, s.store, time.Now()); err != nil || len(tokens) != 0 {
		t.Errorf("the tokens are %v %v", tokens, err)
	}
}

// A client credentials token does not belong to a grant, but it ends when the client is deleted.
func TestDC03_TokensOfADeletedClientEnd(t *testing.T) {
	s := registrationScene(t, memory.New(), authserver.RegistrationPolicy{Mode: authserver.RegistrationInitialAccessToken})
	token, err := authserver.NewInitialAccessToken(t.Context(), s.store, time.Now(), authserver.InitialAccessToken{Uses: 1, ExpiresAt: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	_, client := s.manage(http.MethodPost, "", token, `{"grant_types": ["client_credentials"], "token_endpoint_auth_method": "client_secret_post"}`)
	tokens := s.post("/token", "", "grant_type", "client_credentials", "client_id", client.ClientID, "client_secret", client.ClientSecret)
	tokens.want(t, http.StatusOK, "")
	introspect := func() bool {
		return s.post("/introspect", "", "token", tokens.AccessToken, "client_id", client.ClientID, "client_secret", client.ClientSecret).Active
	}
	if !introspect() {
		t.Fatal("the token is not active")
	}
	a, _ := s.manage(http.MethodDelete, "?client_id="+client.ClientID, client.RegistrationAccessToken, "")
	a.want(t, http.StatusNoContent, "")
	if s.post("/introspect", "api", "token", tokens.AccessToken).Active {
		t.Error("the token is active after its client was deleted")
	}
	s.post("/token", "", "grant_type", "client_credentials", "client_id", client.ClientID, "client_secret", client.ClientSecret).want(t, http.StatusUnauthorized, oauth.InvalidClient)
}

// Every change makes all nodes reload their catalogue, so changes are rate-limited.
func TestDC01_ChangesAreLimited(t *testing.T) {
	s := registrationScene(t, memory.New(), authserver.RegistrationPolicy{Mode: authserver.RegistrationOpen, PerMinute: 3})
	client := s.registered(webClient)
	change := func() apiResponse {
		a, _ := s.manage(http.MethodPut, "?client_id="+client.ClientID, client.RegistrationAccessToken, `{"client_id": "`+client.ClientID+`", "redirect_uris": ["`+testCallback+`"]}`)
		return a
	}
	change().want(t, http.StatusOK, "")
	change().want(t, http.StatusOK, "")
	change().want(t, http.StatusTooManyRequests, oauth.InvalidRequest)
	a, _ := s.manage(http.MethodGet, "?client_id="+client.ClientID, client.RegistrationAccessToken, "")
	a.want(t, http.StatusOK, "")
}

// The store does not contain the client secret or the registration access token.
func TestDC03_RegistrationAccessTokensAreHashed(t *testing.T) {
	s := registrationScene(t, memory.New(), authserver.RegistrationPolicy{Mode: authserver.RegistrationOpen})
	registered := s.registered(webClient)
	client, err := s.store.Client(t.Context(), registered.ClientID)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(client)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{registered.RegistrationAccessToken, registered.ClientSecret} {
		if secret == "" || strings.Contains(string(encoded), secret) {
			t.Errorf("the record contains %q", secret)
		}
	}
	if len(client.Registration.TokenHash) < 32 {
		t.Errorf("the hash is %q", client.Registration.TokenHash)
	}
}

// No input causes a server error, and every registered client would be a valid declared client.
func FuzzRegistration(f *testing.F) {
	s := newSceneOn(f, scriptSetup{}, memory.New(), func(c *authserver.Config) {
		c.Registration = authserver.RegistrationPolicy{Mode: authserver.RegistrationOpen, PerMinute: 1 << 30, Scope: oauth.Scope{"openid"}}
	})
	for _, seed := range []string{
		webClient, `{}`, `null`, `[]`, `{"redirect_uris": null}`, `{"redirect_uris": ["https://a.example/cb"], "client_name#ja": "x", "policy_uri#de": "javascript:alert(1)"}`,
		`{"redirect_uris": ["com.example:/cb"], "application_type": "native", "token_endpoint_auth_method": "none", "grant_types": ["refresh_token", "implicit"]}`,
		`{"jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}, "response_types": ["code id_token"], "scope": "openid admin"}`,
		`{"redirect_uris": ["https://a.example/cb"], "skip_consent": true, "client_id": "x", "software_statement": "a.b.c", "default_max_age": 1e400}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest(http.MethodPost, "/register", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%q: %d %s", body, w.Code, w.Body)
		}
		if w.Code != http.StatusCreated {
			return
		}
		var registered oauth.ClientInformation
		if err := json.Unmarshal(w.Body.Bytes(), &registered); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		client, err := s.store.Client(t.Context(), registered.ClientID)
		if err != nil {
			t.Fatal(err)
		}
		if problems := authserver.CheckClient(*client); len(problems) > 0 || client.SkipConsent || client.Registration.Vouched || client.Scope != "openid" {
			t.Errorf("%q registers %+v, with the problems %v", body, client, problems)
		}
		if err := s.store.DeleteClient(t.Context(), client.ID); err != nil {
			t.Fatal(err)
		}
	})
}
