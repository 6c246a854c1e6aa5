package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/resourceserver"
	"github.com/valetkey/valetkey/storage/record"
)

const (
	clientID = "photos"
	// oddSecret requires the form-encoding of RFC 6749, section 2.3.1, which Authlib omits.
	oddSecret        = "7Ph0tos: a secret+with/odd characters%"
	plainSecret      = "7Ph0tos-e2b35a960f1c7d84"
	serviceID        = "nightly-report"
	serviceSecret    = "9Rep0rt-4f1c7d8e2b3a5960"
	keyholderID      = "keyholder"
	olderKeyholderID = "older-keyholder"
	apiID            = "albums"
	apiSecret        = "3A1bums-0d5b7c9e1f2a4860"
	redirectURI      = "http://127.0.0.1:9/callback" // nothing listens here: the browser stops before it
	apiScope         = "albums.read"
)

// world is a server, an API that trusts it, and a user at a browser.
type world struct {
	key    *ecdsa.PrivateKey // of the clients that authenticate with private_key_jwt
	issuer string
	api    string // its URL and resource indicator
	secret string // of the client
	alice  *person.Person
	// certificate is the certificate that clients must trust; nil for http.
	certificate *x509.Certificate
}

// newWorld starts a world in which the API's access tokens have the given format.
func newWorld(t *testing.T, secret, format string) *world {
	t.Helper()
	return startWorld(t, secret, format, false)
}

// newHTTPSWorld is newWorld with an https issuer.
func newHTTPSWorld(t *testing.T, secret, format string) *world {
	t.Helper()
	return startWorld(t, secret, format, true)
}

func startWorld(t *testing.T, secret, format string, https bool) *world {
	t.Helper()
	api := httptest.NewUnstartedServer(nil)
	t.Cleanup(api.Close)
	resource := "http://" + api.Listener.Addr().String()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyholder := configuration.Client{ID: keyholderID, ClientMetadata: oauth.ClientMetadata{
		GrantTypes: []string{oauth.GrantTypeClientCredentials}, Scope: apiScope,
		TokenEndpointAuthMethod: oauth.AuthMethodPrivateKeyJWT, JWKS: json.RawMessage(keySet(t, key, "one")),
	}}
	// Clients from before RFC 10070 send the token endpoint's URL as the audience.
	older := keyholder
	older.ID, older.InsecureAssertionAudience = olderKeyholderID, true
	server := authservertest.NewServer(t, authservertest.Config{HTTPS: https, Declarations: configuration.Declarations{
		Clients: []configuration.Client{
			{ID: clientID, Secret: secret, ClientMetadata: oauth.ClientMetadata{
				ClientName: "Photos", RedirectURIs: []string{redirectURI},
				GrantTypes: []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken},
				Scope:      "openid profile email offline_access " + apiScope,
			}},
			{ID: serviceID, Secret: serviceSecret, ClientMetadata: oauth.ClientMetadata{
				GrantTypes:              []string{oauth.GrantTypeClientCredentials},
				TokenEndpointAuthMethod: oauth.AuthMethodClientSecretPost,
				Scope:                   apiScope,
			}},
			keyholder,
			older,
			{ID: apiID, Secret: apiSecret, ClientMetadata: oauth.ClientMetadata{
				GrantTypes: []string{oauth.GrantTypeClientCredentials}, Scope: apiScope,
			}},
		},
		Users: []configuration.User{{
			Username: "alice", Password: "correct horse battery", Name: "Alice Example", Email: "alice@example.com",
		}},
		Scopes: []record.Scope{{Name: apiScope, Description: "See your albums"}},
		Resources: []record.Resource{{Identifier: resource, Name: "Albums", Scopes: []string{apiScope},
			AccessTokenFormat: format, IntrospectionClients: []string{apiID}}},
	}})
	client := http.DefaultClient
	alice := person.New("alice", "correct horse battery")
	if server.Certificate != nil {
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate)
		client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
		alice.Trust(server.Certificate)
	}
	api.Config.Handler = albums(t, server.Issuer, resource, client)
	api.Start()
	return &world{
		issuer: server.Issuer, api: api.URL, secret: secret, key: key, alice: alice, certificate: server.Certificate,
	}
}

// albums is the API. It returns its caller.
func albums(t *testing.T, issuer, resource string, client *http.Client) http.Handler {
	guard, err := resourceserver.New(resourceserver.Config{
		Issuer: issuer, Resource: resource, ClientID: apiID, ClientSecret: apiSecret, IntrospectionCache: -1, HTTPClient: client,
	})
	if err != nil {
		t.Fatal(err)
	}
	return guard.Require(apiScope)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := resourceserver.TokenFromContext(r.Context())
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(caller{Subject: token.Subject, Client: token.ClientID})
	}))
}

// caller is what the API returns about its caller.
type caller struct {
	Subject string `json:"subject"`
	Client  string `json:"client"`
}

// environment returns the settings of a script.
func (w *world) environment(t *testing.T) []string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(w.key)
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		"KEYHOLDER_ID=" + keyholderID, "OLDER_KEYHOLDER_ID=" + olderKeyholderID,
		"KEY=" + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"ISSUER=" + w.issuer, "CLIENT_ID=" + clientID, "CLIENT_SECRET=" + w.secret, "REDIRECT_URI=" + redirectURI,
		"API_URL=" + w.api + "/albums", "API_SCOPE=" + apiScope, "RESOURCE=" + w.api,
		"SERVICE_ID=" + serviceID, "SERVICE_SECRET=" + serviceSecret,
	}
}
