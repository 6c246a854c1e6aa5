package authserver_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"crypto/x509"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// register posts client metadata and returns what was registered, or the error.
func (s *scene) register(metadata map[string]any) (status int, answer map[string]any) {
	s.t.Helper()
	body, err := json.Marshal(metadata)
	if err != nil {
		s.t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, scriptIssuer+"/register", strings.NewReader(string(body)))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		s.t.Fatal(err)
	}
	return w.Code, answer
}

func openRegistration(c *authserver.Config) { c.Registration.Mode = authserver.RegistrationOpen }

// RFC 7591, section 2.3: what a trusted issuer says counts more than what the client says.
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
	status, answer := s.register(map[string]any{"redirect_uris": []string{"https://c.example/cb"}, "client_name": "My Bank", "software_statement": statement(good)})
	if status != http.StatusCreated || answer["client_name"] != "Vouched for" || answer["software_id"] != "4NRB1-0XZABZI9E6-5SM3R" {
		t.Errorf("status %d: %v", status, answer)
	}
	for name, bad := range map[string]struct{ statement, code string }{
		"none":     {"", "unapproved_software_statement"},
		"expired":  {statement(map[string]any{"iss": "https://federation.example", "exp": time.Now().Add(-time.Hour).Unix()}), "invalid_software_statement"},
		"forged":   {statement(good)[:80] + "AAAA" + statement(good)[84:], "invalid_software_statement"},
		"stranger": {statement(map[string]any{"iss": "https://evil.example"}), "unapproved_software_statement"},
	} {
		status, answer := s.register(map[string]any{"redirect_uris": []string{"https://c.example/cb"}, "software_statement": bad.statement})
		if status != http.StatusBadRequest || answer["error"] != bad.code {
			t.Errorf("%s: status %d: %v", name, status, answer)
		}
	}
}

// What is registered and never used disappears; what is used stays.
func TestRegisteredClientThatIsUsedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSceneOn(t, scriptSetup{}, memory.New(), openRegistration)
		metadata := map[string]any{"redirect_uris": []string{"https://app.example/cb"}, "token_endpoint_auth_method": "client_secret_post"}
		_, used := s.register(metadata)
		_, idle := s.register(metadata)
		ask := func(client any) int {
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
		if status := ask(used["client_id"]); status != http.StatusSeeOther {
			t.Fatalf("status %d", status)
		}
		time.Sleep(25 * time.Hour)
		if status := ask(used["client_id"]); status != http.StatusSeeOther {
			t.Errorf("a client that was used is gone: status %d", status)
		}
		if status := ask(idle["client_id"]); status != http.StatusBadRequest {
			t.Errorf("a client that was not used is there after a day: status %d", status)
		}
	})
}

func TestRegistrationIsBounded(t *testing.T) {
	s := newSceneOn(t, scriptSetup{}, memory.New(), func(c *authserver.Config) {
		openRegistration(c)
		c.Registration.MaxClients, c.Registration.PerMinute = 2, 4
	})
	want := []int{201, 201, 503, 503, 429}
	for i, status := range want {
		if got, answer := s.register(map[string]any{"redirect_uris": []string{"https://c.example/cb"}}); got != status {
			t.Errorf("registration %d: status %d, want %d: %v", i, got, status, answer)
		}
	}
}

// OpenID Connect Core, section 8.1: the document of the sector lists the redirect URIs.
func TestSectorIdentifierURIIsRead(t *testing.T) {
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
		status, answer := s.register(map[string]any{
			"redirect_uris": []string{"https://one.example/cb", uri}, "subject_type": "pairwise", "sector_identifier_uri": sector.URL,
		})
		if status != want {
			t.Errorf("%s: status %d: %v", uri, status, answer)
		}
	}
}

func TestRegistrationIsOffUnlessTheOperatorWantsIt(t *testing.T) {
	s := newScene(t, scriptSetup{})
	if s.server.Handles("/register") {
		t.Error("anybody can register")
	}
}
