package authserver_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/storage/sqldb"
)

const (
	testSecret   = "7Fjfp0ZBr1KtDRbnfVdmIw7Fjfp0ZBr1KtDRbnfVdmIw"
	testCallback = "https://client.example.com/cb"
	testVerifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

// confidential returns a confidential client that skips consent.
func confidential(id string, change ...func(*record.Client)) testClient {
	c := testClient{Secret: testSecret, Client: record.Client{ID: id, ClientMetadata: oauth.ClientMetadata{
		RedirectURIs: []string{testCallback},
		GrantTypes:   []string{"authorization_code", "refresh_token", "client_credentials"},
	}, ClientSettings: record.ClientSettings{SkipConsent: true}}}
	for _, f := range change {
		f(&c.Client)
	}
	return c
}

// stores runs a test on every kind of store.
func stores(t *testing.T, run func(t *testing.T, store database)) {
	t.Run("memory", func(t *testing.T) { run(t, memory.New()) })
	t.Run("SQLite", func(t *testing.T) { run(t, openStore(t, "sqlite:"+filepath.Join(t.TempDir(), "test.db"))) })
	t.Run("PostgreSQL", func(t *testing.T) { run(t, openStore(t, pgtest.Database(t))) })
}

func openStore(t *testing.T, url string) database {
	store, err := sqldb.Open(t.Context(), url, sqldb.Config{MasterKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the engine has stored its last traces
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// apiResponse is the response of an endpoint for clients.
type apiResponse struct {
	status int
	header http.Header
	body   string
	oauth.TokenResponse
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Active      bool   `json:"active"`
	RequestURI  string `json:"request_uri"`
	Sub         string `json:"sub"`
}

func (s *scene) do(r *http.Request) apiResponse {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, r)
	a := apiResponse{status: w.Code, header: w.Header(), body: w.Body.String()}
	if strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			s.t.Errorf("the response is not JSON: %v", err)
		}
	}
	return a
}

// post sends a form. If client is "", it sends no credentials.
func (s *scene) post(path, client string, form ...string) apiResponse {
	s.t.Helper()
	values := url.Values{}
	for i := 0; i+1 < len(form); i += 2 {
		values.Add(form[i], form[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if client != "" {
		r.SetBasicAuth(url.QueryEscape(client), testSecret)
	}
	return s.do(r)
}

func (s *scene) userinfo(token string) apiResponse {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/userinfo", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return s.do(r)
}

// query returns an authorization request with PKCE. changes replace parameters or, if "", remove
// them.
func query(client string, changes ...string) string {
	q := map[string]string{
		"response_type": "code", "client_id": client, "redirect_uri": testCallback, "state": "xyz",
		"code_challenge": oauth.S256Challenge(testVerifier), "code_challenge_method": "S256",
	}
	for i := 0; i+1 < len(changes); i += 2 {
		q[changes[i]] = changes[i+1]
	}
	values := url.Values{}
	for name := range maps.Keys(q) {
		if q[name] != "" {
			values.Set(name, q[name])
		}
	}
	return values.Encode()
}

// authorize sends an authorization request from a browser in which subject is signed in. If subject
// is "", no user is signed in.
func (s *scene) authorize(subject, rawQuery string) *http.Response {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/authorize?"+rawQuery, nil)
	if subject != "" {
		w := httptest.NewRecorder()
		s.signIn(w, subject)
		for _, cookie := range w.Result().Cookies() {
			r.AddCookie(cookie)
		}
	}
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, r)
	return w.Result()
}

// latest returns the ID of the newest session.
func (s *scene) latest() string { return "session-" + strconv.Itoa(s.sessionCount) }

// authorizeIn sends an authorization request from the browser of a session.
func (s *scene) authorizeIn(session, rawQuery string) *http.Response {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/authorize?"+rawQuery, nil)
	r.AddCookie(&http.Cookie{Name: sessionCookie, Value: session})
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, r)
	return w.Result()
}

// code returns an authorization code for a user and a client.
func (s *scene) code(subject, client string, changes ...string) string {
	s.t.Helper()
	response := s.authorize(subject, query(client, changes...))
	location, err := response.Location()
	if err != nil || location.Query().Get("code") == "" {
		body, _ := io.ReadAll(response.Body)
		s.t.Fatalf("no code: %d %s %s", response.StatusCode, response.Header.Get("Location"), body)
	}
	return location.Query().Get("code")
}

func (s *scene) redeem(client, code string, more ...string) apiResponse {
	s.t.Helper()
	return s.post("/token", client, append([]string{"grant_type", "authorization_code", "code", code,
		"redirect_uri", testCallback, "code_verifier", testVerifier}, more...)...)
}

func (s *scene) refresh(client, token string, more ...string) apiResponse {
	s.t.Helper()
	return s.post("/token", client, append([]string{"grant_type", "refresh_token", "refresh_token", token}, more...)...)
}

// tokens runs the code flow and returns the token response.
func (s *scene) tokens(subject, client, scope string) apiResponse {
	s.t.Helper()
	a := s.redeem(client, s.code(subject, client, "scope", scope))
	if a.status != http.StatusOK {
		s.t.Fatalf("redeem: %d %s", a.status, a.body)
	}
	return a
}

func (a apiResponse) want(t *testing.T, status int, code oauth.ErrorCode) {
	t.Helper()
	if a.status != status || a.Error != string(code) {
		t.Errorf("got %d %s, want %d %s: %s", a.status, a.Error, status, code, a.body)
	}
}

// interactionOf returns the ID of the interaction in the URL of a page.
func interactionOf(location string) string {
	_, id, _ := strings.Cut(location, "interaction=")
	id, _, _ = strings.Cut(id, "&")
	return id
}
