package authserver_test

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage/memory"
)

// documentHost is a TLS server for client metadata documents.
type documentHost struct {
	server *httptest.Server

	mu        sync.Mutex
	documents map[string]servedDocument // by path
	fetched   map[string]int            // by path, since the last call of fetches
}

type servedDocument struct {
	status int
	header http.Header
	body   []byte
}

func newDocumentHost(t testing.TB) *documentHost {
	d := &documentHost{documents: map[string]servedDocument{}, fetched: map[string]int{}}
	d.server = httptest.NewUnstartedServer(d)
	// A connection that stays open would keep a testing/synctest bubble from becoming idle.
	d.server.Config.SetKeepAlivesEnabled(false)
	d.server.StartTLS()
	t.Cleanup(d.server.Close)
	return d
}

// admit configures an engine to accept documents from this host.
func (d *documentHost) admit(config *authserver.Config) {
	config.Outgoing.InsecureOutsiderNetworks = append(config.Outgoing.InsecureOutsiderNetworks, netip.MustParsePrefix("127.0.0.1/32"))
	config.Outgoing.CertificateAuthorities = d.server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	config.MetadataDocuments.AllowedHosts = append(config.MetadataDocuments.AllowedHosts, d.server.Listener.Addr().String())
}

func (d *documentHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fetched[r.URL.Path]++
	document, ok := d.documents[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	for name, values := range document.header {
		w.Header()[name] = values
	}
	w.WriteHeader(document.status)
	_, _ = w.Write(document.body)
}

// serve publishes a document and returns its URL.
func (d *documentHost) serve(path string, document servedDocument) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.documents[path] = document
	return d.server.URL + path
}

// fetches returns how often a path was requested since the last call.
func (d *documentHost) fetches(path string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.fetched[path]
	delete(d.fetched, path)
	return n
}

// SERVE /client.json [200] [Header=value…], with a body: a client publishes a document.
func (s *scene) verbServe(w http.ResponseWriter, r *http.Request, words []string) error {
	document := servedDocument{status: http.StatusOK, header: http.Header{"Content-Type": {"application/json"}}}
	for _, word := range words[1:] {
		if name, value, ok := strings.Cut(word, "="); ok {
			document.header.Set(name, value)
			continue
		}
		var err error
		if document.status, err = strconv.Atoi(word); err != nil {
			return err
		}
	}
	var err error
	if document.body, err = io.ReadAll(r.Body); err != nil {
		return err
	}
	fmt.Fprintln(w, s.documents.serve(words[0], document))
	return nil
}

// FETCHED /client.json: how often the document was fetched since the last FETCHED.
func (s *scene) verbFetched(w http.ResponseWriter, _ *http.Request, words []string) error {
	if len(words) != 1 {
		return errors.New("usage: FETCHED PATH")
	}
	fmt.Fprintf(w, "%d times\n", s.documents.fetches(words[0]))
	return nil
}

// newDescribedScene returns a scene with a document host whose documents are accepted.
func newDescribedScene(t *testing.T) *scene {
	return newScene(t, scriptSetup{documents: newDocumentHost(t)})
}

// publish serves a valid document with additional members, and returns its URL.
func (s *scene) publish(path, members string) string {
	id := s.documents.server.URL + path
	return s.documents.serve(path, servedDocument{http.StatusOK, http.Header{"Content-Type": {"application/json"}},
		[]byte(fmt.Sprintf(`{"client_id": %q, "redirect_uris": [%q]%s}`, id, testCallback, members))})
}

// A client whose document contains keys must authenticate with one of them.
func TestClientsAuthenticateWithTheKeysInTheirDocument(t *testing.T) {
	s := newDescribedScene(t)
	keys, err := json.Marshal(jose.KeySet{Keys: []jose.JWK{s.key.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	id := s.publish("/client", `, "token_endpoint_auth_method": "private_key_jwt", "jwks": `+string(keys))
	response := s.authorize("ada", query(id, "scope", "openid", "nonce", "n"))
	consent, err := response.Location()
	if err != nil || consent.Path != "/consent" {
		t.Fatalf("%d %s", response.StatusCode, response.Header.Get("Location"))
	}
	r := httptest.NewRequest(http.MethodPost, "/consent", nil)
	for _, cookie := range response.Cookies() {
		r.AddCookie(cookie)
	}
	r.AddCookie(&http.Cookie{Name: sessionCookie, Value: s.latest()})
	w := httptest.NewRecorder()
	s.server.Consented(w, r, consent.Query().Get("interaction"), authserver.ConsentAnswer{Subject: "ada", Scope: []string{"openid"}})
	back, err := w.Result().Location()
	if err != nil || back.Query().Get("code") == "" {
		t.Fatalf("%d %s", w.Code, w.Header().Get("Location"))
	}
	form := []string{"grant_type", "authorization_code", "code", back.Query().Get("code"), "code_verifier", testVerifier}
	s.post("/token", "", append(form, "client_id", id)...).want(t, http.StatusUnauthorized, "invalid_client")
	assertion, err := s.sign(jose.ES256, "client-authentication+jwt", "", map[string]any{"iss": id, "sub": id, "aud": scriptIssuer, "jti": "1", "exp": "+60s"})
	if err != nil {
		t.Fatal(err)
	}
	form = append(form, "client_assertion", assertion, "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	a := s.post("/token", "", form...)
	a.want(t, http.StatusOK, "")
	if got := s.userinfo(a.AccessToken); got.status != http.StatusOK || got.Sub != "ada" {
		t.Errorf("UserInfo: %d %s", got.status, got.body)
	}
	if n := s.documents.fetches("/client"); n != 1 {
		t.Errorf("the document was fetched %d times", n)
	}
}

// Unless the operator allows the network, no request is sent to loopback. The error page is the same
// as for a document that does not exist.
func TestDC07_DC11_LoopbackDocumentsAreNotFetched(t *testing.T) {
	documents := newDocumentHost(t)
	host := documents.server.Listener.Addr().String()
	s := newSceneOn(t, scriptSetup{}, memory.New(), func(c *authserver.Config) {
		c.MetadataDocuments.AllowedHosts = []string{host, "localhost" + host[strings.LastIndex(host, ":"):]}
		c.Outgoing.CertificateAuthorities = x509.NewCertPool()
		c.Outgoing.CertificateAuthorities.AddCert(documents.server.Certificate())
	})
	s.documents = documents
	id := s.publish("/client", "")
	pages := map[string]bool{}
	for _, id := range []string{id, strings.Replace(id, "127.0.0.1", "localhost", 1), documents.server.URL + "/absent"} {
		response := s.authorize("ada", query(id))
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", id, response.StatusCode)
		}
		body := make([]byte, 200)
		n, _ := response.Body.Read(body)
		text, _, _ := strings.Cut(string(body[:n]), "Reference")
		pages[text] = true
	}
	if n := documents.fetches("/client") + documents.fetches("/absent"); n != 0 || len(pages) != 1 {
		t.Errorf("%d requests reached loopback; the pages are %v", n, pages)
	}
}

// Model Context Protocol clients use a metadata document only if the server metadata has these
// members.
func TestMetadataAnnouncesClientIDMetadataDocuments(t *testing.T) {
	metadata := func(s *scene) string {
		return s.do(httptest.NewRequest(http.MethodGet, "/.well-known/oauth-authorization-server", nil)).body
	}
	with, without := metadata(newDescribedScene(t)), metadata(newScene(t, scriptSetup{}))
	for _, member := range []string{`"client_id_metadata_document_supported":true`, `"none"`, `"code_challenge_methods_supported":["S256"]`, `"authorization_response_iss_parameter_supported":true`} {
		if !strings.Contains(with, member) {
			t.Errorf("%s is not in the metadata", member)
		}
	}
	if strings.Contains(without, "client_id_metadata_document") {
		t.Error("a server that does not accept documents announces them")
	}
}

func TestDC16_RegisteredClientIDsAreNotURLs(t *testing.T) {
	s := newScene(t, scriptSetup{Registration: authserver.RegistrationPolicy{Mode: authserver.RegistrationOpen, PerMinute: 100}})
	for range 50 {
		status, response := s.register(map[string]any{"redirect_uris": []string{testCallback}, "client_id": "https://app.example.com/client"})
		if id, _ := response["client_id"].(string); status != http.StatusCreated || !strings.HasPrefix(id, "client-") {
			t.Fatalf("%d: client_id %q", status, id)
		}
	}
}
