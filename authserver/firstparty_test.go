package authserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

const challengePath = "/authorize-challenge"

func firstPartySetup() scriptSetup {
	return scriptSetup{
		FirstPartyApplications: true, Passwords: map[string]string{"ada": "engine"},
		Clients: []testClient{confidential("app", func(c *record.Client) {
			c.FirstParty, c.ApplicationType = true, oauth.ApplicationNative
		})},
	}
}

// challenge sends a request that gets a code. changes replace parameters or, if "", remove them.
func (s *scene) challenge(changes ...string) apiResponse {
	s.t.Helper()
	form, err := url.ParseQuery(query("app", append([]string{"redirect_uri", "", "state", "", "username", "ada", "password", "engine"}, changes...)...))
	if err != nil {
		s.t.Fatal(err)
	}
	var sent []string
	for name := range form {
		sent = append(sent, name, form.Get(name))
	}
	return s.post(challengePath, "app", sent...)
}

// challenged returns the members that only the challenge endpoint returns.
func (a apiResponse) challenged(t *testing.T) (session, code string) {
	t.Helper()
	var members struct {
		AuthSession string `json:"auth_session"`
		oauth.AuthorizationChallengeResponse
	}
	if err := json.Unmarshal([]byte(a.body), &members); err != nil {
		t.Fatal(err)
	}
	return members.AuthSession, members.AuthorizationCode
}

// The endpoint accepts passwords, so it is off unless the operator turns it on.
func TestFirstPartyApplicationsAreOffByDefault(t *testing.T) {
	setup := firstPartySetup()
	for _, on := range []bool{false, true} {
		setup.FirstPartyApplications = on
		s := newScene(t, setup)
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/.well-known/openid-configuration", nil))
		if announced := strings.Contains(w.Body.String(), `"authorization_challenge_endpoint":"https://server.example.com/authorize-challenge"`); announced != on {
			t.Errorf("with FirstPartyApplications %v, the endpoint is in the metadata: %v", on, announced)
		}
		if a := s.challenge(); (a.status == http.StatusOK) != on || (a.status == http.StatusNotFound) == on {
			t.Errorf("with FirstPartyApplications %v: %d %s", on, a.status, a.body)
		}
	}
}

// Only one of many concurrent requests with the same auth_session gets a code.
func TestFirstPartyAuthSessionIsAcceptedOnce(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, firstPartySetup(), store, nil)
		session, _ := s.challenge("password", "").challenged(t)
		var codes atomic.Int64
		race(20, func(int) {
			switch a := s.challenge("auth_session", session); {
			case a.status == http.StatusOK:
				codes.Add(1)
			case a.Error != string(oauth.InvalidSession):
				t.Errorf("another request: %d %s", a.status, a.body)
			}
		})
		if codes.Load() != 1 {
			t.Errorf("%d codes were issued for one auth_session", codes.Load())
		}
	})
}

// Concurrent attempts are counted too. Only one of twenty requests with a wrong password and the same
// auth_session gets a new auth_session.
func TestLG04_FirstPartyAttemptsAreCounted(t *testing.T) {
	s := newScene(t, firstPartySetup())
	session, _ := s.challenge("password", "").challenged(t)
	var next atomic.Pointer[string]
	var sessions atomic.Int64
	race(20, func(int) {
		if got, _ := s.challenge("auth_session", session, "password", "wrong").challenged(t); got != "" {
			sessions.Add(1)
			next.Store(&got)
		}
	})
	if sessions.Load() != 1 {
		t.Fatalf("%d new auth_sessions were issued for one", sessions.Load())
	}
	session = *next.Load()
	for range 3 {
		if session, _ = s.challenge("auth_session", session, "password", "wrong").challenged(t); session == "" {
			t.Fatal("no new auth_session before the limit")
		}
	}
	s.challenge("auth_session", session, "password", "wrong").want(t, http.StatusForbidden, oauth.RedirectToWeb)
	s.challenge("auth_session", session).want(t, http.StatusBadRequest, oauth.InvalidSession)
}

func TestFirstPartySignUpIsRedirectedToTheWeb(t *testing.T) {
	s := newSceneOn(t, firstPartySetup(), memory.New(), func(c *authserver.Config) { c.Pages.SignUp = "/sign-up" })
	s.challenge("prompt", "create").want(t, http.StatusForbidden, oauth.RedirectToWeb)
}

// recordingStore records the tickets that are put into a store.
type recordingStore struct {
	database
	put []byte
}

func (w *recordingStore) Put(ctx context.Context, now time.Time, tickets ...storage.Ticket) error {
	for _, ticket := range tickets {
		w.put = append(w.put, ticket.Data...)
	}
	return w.database.Put(ctx, now, tickets...)
}

// A stored request does not contain the password or the client secret, however they were sent.
func TestFirstPartyPasswordsAreNotStored(t *testing.T) {
	setup := firstPartySetup()
	setup.Clients[0].TokenEndpointAuthMethod = oauth.AuthMethodClientSecretPost
	store := &recordingStore{database: memory.New()}
	s := newSceneOn(t, setup, store, nil)
	object, err := s.sign(jose.HS256, oauth.TypRequestObject, testSecret, map[string]any{
		"response_type": "code", "scope": "openid", "username": "ada", "password": "engine",
		"code_challenge": oauth.S256Challenge(testVerifier), "code_challenge_method": "S256",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range [][]string{
		{"request", object},
		{"response_type", "code", "code_challenge", oauth.S256Challenge(testVerifier), "code_challenge_method", "S256", "password", "engine"},
	} {
		a := s.post(challengePath, "", append(form, "client_id", "app", "client_secret", testSecret)...)
		a.want(t, http.StatusForbidden, oauth.InsufficientAuthorization)
	}
	a := s.post(challengePath, "", "response_type", "code", "code_challenge", oauth.S256Challenge(testVerifier), "code_challenge_method", "S256",
		"prompt", "consent", "username", "ada", "password", "engine", "client_id", "app", "client_secret", testSecret)
	if a.want(t, http.StatusForbidden, oauth.RedirectToWeb); !strings.Contains(a.body, oauth.RequestURIPrefix) {
		t.Errorf("no request_uri: %s", a.body)
	}
	for _, secret := range []string{"engine", testSecret} {
		if bytes.Contains(store.put, []byte(secret)) {
			t.Errorf("%s is stored: %s", secret, store.put)
		}
	}
	if !bytes.Contains(store.put, []byte(oauth.S256Challenge(testVerifier))) {
		t.Errorf("the request is not stored: %s", store.put)
	}
}

// Requests without a password are limited too, because each one stores an auth_session.
func TestFirstPartyRequestsAreLimited(t *testing.T) {
	s := newScene(t, firstPartySetup())
	for range 1000 {
		if a := s.challenge("password", ""); a.status == http.StatusTooManyRequests {
			a.want(t, http.StatusTooManyRequests, oauth.TemporarilyUnavailable)
			return
		}
	}
	t.Error("requests are not limited")
}

// Revoking the grant ends the tokens that were issued for the password.
func TestFirstPartyTokensEndWithTheGrant(t *testing.T) {
	s := newScene(t, firstPartySetup())
	_, code := s.challenge("scope", "openid").challenged(t)
	tokens := s.post("/token", "app", "grant_type", "authorization_code", "code", code, "code_verifier", testVerifier)
	if tokens.status != http.StatusOK {
		t.Fatalf("redeem: %d %s", tokens.status, tokens.body)
	}
	grant, err := s.store.Grant(t.Context(), "ada", "app")
	if err != nil {
		t.Fatalf("there is no grant: %v", err)
	}
	if err := s.store.DeleteGrant(t.Context(), grant.ID); err != nil {
		t.Fatal(err)
	}
	s.refresh("app", tokens.RefreshToken).want(t, http.StatusBadRequest, oauth.InvalidGrant)
	s.userinfo(tokens.AccessToken).want(t, http.StatusUnauthorized, oauth.InvalidToken)
}

// No request causes a server error, or gets a code without the correct password.
func FuzzAuthorizationChallenge(f *testing.F) {
	s := newScene(f, firstPartySetup())
	for _, seed := range []string{
		query("app", "username", "ada", "password", "wrong"), query("app", "auth_session", "vk_as_x"), query("app", "request", "a.b.c"),
		query("app", "username", "ada", "password", "engine", "prompt", "none"), query("app", "claims", "{}", "scope", "openid", "max_age", "0"),
		"client_id=app&response_type=code", "",
	} {
		f.Add(seed)
	}
	var requests atomic.Uint32
	f.Fuzz(func(t *testing.T, body string) {
		n := requests.Add(1)
		r := httptest.NewRequest(http.MethodPost, challengePath, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth("app", testSecret)
		r.RemoteAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 1).String()
		w := httptest.NewRecorder()
		s.server.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%q: %d %s", body, w.Code, w.Body)
		}
		form, err := url.ParseQuery(body)
		if _, code := (apiResponse{body: w.Body.String()}).challenged(t); code != "" && (err != nil || form.Get("password") != "engine" || form.Get("username") != "ada") {
			t.Errorf("%q gets a code", body)
		}
	})
}
