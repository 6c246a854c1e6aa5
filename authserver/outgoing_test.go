package authserver_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// assert authenticates a client with an assertion at the token endpoint.
func (s *scene) assert(id string, form ...string) apiResponse {
	s.t.Helper()
	assertion, err := s.sign(jose.ES256, "client-authentication+jwt", "", map[string]any{
		"iss": id, "sub": id, "aud": scriptIssuer, "jti": rand.Text(), "exp": time.Now().Add(time.Minute).Unix(),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.post("/token", "", append(form, "client_id", id, "client_assertion", assertion, "client_assertion_type", oauth.ClientAssertionTypeJWTBearer)...)
}

// serveKeys publishes the test's key at a path of the document host.
func (s *scene) serveKeys(path string) string {
	keys, err := json.Marshal(jose.KeySet{Keys: []jose.JWK{s.key.Public()}})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.documents.serve(path, servedDocument{http.StatusOK, http.Header{"Content-Type": {"application/json"}}, keys})
}

func keyClient(id, jwksURI string) record.Client {
	return record.Client{ID: id, ClientMetadata: oauth.ClientMetadata{
		RedirectURIs: []string{testCallback}, GrantTypes: []string{"client_credentials"}, Scope: "openid",
		TokenEndpointAuthMethod: oauth.AuthMethodPrivateKeyJWT, JWKSURI: jwksURI, LogoURI: jwksURI,
		BackchannelLogoutURI: jwksURI, SectorIdentifierURI: jwksURI,
	}}
}

// Networks that the operator allows for hooks and declared clients are not reachable through URLs of
// outsiders: registered clients, and clients with a metadata document.
func TestDC07_OutsidersCannotReachPrivateNetworks(t *testing.T) {
	documents := newDocumentHost(t)
	s := newSceneOn(t, scriptSetup{}, memory.New(), func(c *authserver.Config) {
		openRegistration(c)
		documents.admit(c)
		c.Outgoing.Networks, c.Outgoing.InsecureOutsiderNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, nil
	})
	s.documents = documents
	declared, registered := keyClient("declared", s.serveKeys("/declared")), keyClient("registered", s.serveKeys("/registered"))
	registered.Registration = &record.Registration{CreatedAt: time.Now(), Vouched: true}
	if err := s.store.Declare(t.Context(), time.Now(), "test", memory.Declaration{Clients: []record.Client{declared}}); err != nil {
		t.Fatal(err)
	}
	if err := s.store.RegisterClient(t.Context(), &registered, 10); err != nil {
		t.Fatal(err)
	}
	s.assert("declared", "grant_type", "client_credentials").want(t, http.StatusOK, "")
	s.assert("registered", "grant_type", "client_credentials").want(t, http.StatusUnauthorized, "invalid_client")
	if _, _, err := s.server.Logo(t.Context(), &registered, registered.LogoURI); err == nil {
		t.Error("the logo of a registered client is fetched")
	}
	if status, response := s.register(map[string]any{"redirect_uris": []string{testCallback}, "subject_type": "pairwise", "sector_identifier_uri": registered.JWKSURI}); status != http.StatusBadRequest {
		t.Errorf("the sector_identifier_uri of a registered client is fetched: %d %v", status, response)
	}
	if response := s.authorize("ada", query(s.publish("/document", ""))); response.StatusCode != http.StatusBadRequest {
		t.Errorf("the metadata document is fetched: %d", response.StatusCode)
	}
	if n := documents.fetches("/declared"); n != 1 {
		t.Errorf("the keys of the declared client were fetched %d times", n)
	}
	if n := documents.fetches("/registered") + documents.fetches("/document"); n != 0 {
		t.Errorf("%d requests to the private network were sent for outsiders", n)
	}
}

// When another client changes, the cached keys of a client are kept, even while their host is
// unavailable.
func TestKeySetsAreKeptWhenTheCatalogueChanges(t *testing.T) {
	documents := newDocumentHost(t) // outside the synctest bubble, which would wait for its listener
	synctest.Test(t, func(t *testing.T) {
		s := newSceneOn(t, scriptSetup{}, memory.New(), func(c *authserver.Config) {
			documents.admit(c)
			c.Outgoing.Networks = c.Outgoing.InsecureOutsiderNetworks
		})
		s.documents = documents
		app := keyClient("app", s.serveKeys("/keys"))
		declare := func(more ...record.Client) {
			t.Helper()
			d := memory.Declaration{Clients: append(more, app)}
			if err := s.store.Declare(t.Context(), time.Now(), "test", d); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second) // until the engine has read the new version
		}
		declare()
		s.assert("app", "grant_type", "client_credentials").want(t, http.StatusOK, "")
		documents.serve("/keys", servedDocument{status: http.StatusBadGateway})
		declare(confidential("other").Client)
		s.assert("app", "grant_type", "client_credentials").want(t, http.StatusOK, "")
		time.Sleep(12 * time.Hour)
		s.assert("app", "grant_type", "client_credentials").want(t, http.StatusOK, "")
		time.Sleep(13 * time.Hour)
		s.assert("app", "grant_type", "client_credentials").want(t, http.StatusUnauthorized, "invalid_client")
	})
}

// When a client starts to use encryption or changes its key type, it does not have to wait until the
// cached key set expires.
func TestAKeySetIsFetchedAgainIfNoKeyMatches(t *testing.T) {
	documents := newDocumentHost(t)
	synctest.Test(t, func(t *testing.T) {
		const point = `"crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"`
		s := newSceneOn(t, scriptSetup{}, memory.New(), func(c *authserver.Config) {
			documents.admit(c)
			c.Outgoing.Networks = c.Outgoing.InsecureOutsiderNetworks
		})
		keys := func(id, use string) string {
			return documents.serve("/keys", servedDocument{http.StatusOK, nil, []byte(`{"keys":[{"kty":"EC","kid":"` + id + `","use":"` + use + `",` + point + `}]}`)})
		}
		app := confidential("app").Client
		app.Secrets, app.JWKSURI, app.IDTokenEncryptedResponseAlg = []string{testSecret}, keys("s", "sig"), "ECDH-ES"
		if err := s.store.Declare(t.Context(), time.Now(), "test", memory.Declaration{Clients: []record.Client{app}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if a := s.redeem("app", s.code("ada", "app", "scope", "openid")); a.status == http.StatusOK {
			t.Error("an ID token is encrypted with a signing key")
		}
		keys("e", "enc")
		time.Sleep(30 * time.Second)
		if a := s.redeem("app", s.code("ada", "app", "scope", "openid")); a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}

// A logo_uri cannot be used to send requests into the server's network.
func TestDC07_LogosInPrivateNetworksAreNotFetched(t *testing.T) {
	site := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }))
	defer site.Close()
	s := newScene(t, scriptSetup{})
	for _, uri := range []string{site.URL, "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "data:image/png;base64,AAAA", "https://u:p@example.com/"} {
		if _, _, err := s.server.Logo(t.Context(), &record.Client{}, uri); !errors.Is(err, authserver.ErrNoLogo) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}
