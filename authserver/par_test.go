package authserver_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

// push pushes the request that query returns.
func (s *scene) push(client string, changes ...string) (requestURI string, a apiResponse) {
	s.t.Helper()
	values, err := url.ParseQuery(query(client, changes...))
	if err != nil {
		s.t.Fatal(err)
	}
	var form []string
	for name := range values {
		form = append(form, name, values.Get(name))
	}
	a = s.post("/par", client, form...)
	return a.RequestURI, a
}

func pushedQuery(client, requestURI string) string {
	return url.Values{"client_id": {client}, "request_uri": {requestURI}}.Encode()
}

// One request_uri is open in many tabs, and each of them could complete it.
func TestPR01_ConcurrentTabsGetOneResponse(t *testing.T) {
	stores(t, func(t *testing.T, store database) {
		s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, store, nil)
		who := s.signIn(httptest.NewRecorder(), "ada")
		for range 5 {
			requestURI, a := s.push("app", "scope", "openid")
			if a.status != http.StatusCreated {
				t.Fatalf("%d %s", a.status, a.body)
			}
			var codes, pages atomic.Int64
			race(20, func(int) {
				r := httptest.NewRequest(http.MethodGet, "/authorize?"+pushedQuery("app", requestURI), nil)
				r.AddCookie(&http.Cookie{Name: sessionCookie, Value: who.Session})
				w := httptest.NewRecorder()
				s.server.ServeHTTP(w, r)
				switch {
				case strings.Contains(w.Header().Get("Location"), "code="):
					codes.Add(1)
				case w.Code == http.StatusBadRequest && w.Header().Get("Location") == "":
					pages.Add(1)
				default:
					t.Errorf("%d %s %s", w.Code, w.Header().Get("Location"), w.Body)
				}
			})
			if codes.Load() != 1 || pages.Load() != 19 {
				t.Errorf("%d tabs got a code and %d a page, want 1 and 19", codes.Load(), pages.Load())
			}
		}
	})
}

// Two tabs show the sign-in page of one request_uri. The user finishes in the second, and the first
// gets no response, whichever interaction it continues.
func TestPR01_AnInteractionEndsWithItsPushedRequest(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	requestURI, _ := s.push("app", "scope", "openid")
	b := &tabs{s, map[string]*http.Cookie{}}
	first := b.begin(http.MethodGet, "/authorize?"+pushedQuery("app", requestURI), s.server.ServeHTTP)
	second := b.begin(http.MethodGet, "/authorize?"+pushedQuery("app", requestURI), s.server.ServeHTTP)
	b.signIn()
	if location := b.resume(second); !strings.Contains(location, "code=") {
		t.Fatalf("the second tab is redirected to %q, want a code", location)
	}
	if location := b.resume(first); location != "" {
		t.Errorf("the first tab is redirected to %q, want a page", location)
	}
}

// The user has longer to sign in than the request_uri is valid.
func TestPR03_SigningInTakesLongerThanTheLifetime(t *testing.T) {
	synctestScene(t, scriptSetup{Clients: []testClient{confidential("app")}}, func(t *testing.T, s *scene) {
		requestURI, a := s.push("app", "scope", "openid")
		if !strings.Contains(a.body, `"expires_in":300`) {
			t.Errorf("the response is %s, want a lifetime of 300 s", a.body)
		}
		b := &tabs{s, map[string]*http.Cookie{}}
		time.Sleep(299 * time.Second)
		interaction := b.begin(http.MethodGet, "/authorize?"+pushedQuery("app", requestURI), s.server.ServeHTTP)
		time.Sleep(29 * time.Minute)
		if location := b.do(http.MethodGet, "/authorize?"+pushedQuery("app", requestURI), s.server.ServeHTTP); location != "" {
			t.Errorf("after its lifetime, the request_uri leads to %q", location)
		}
		b.signIn()
		if location := b.resume(interaction); !strings.Contains(location, "code=") {
			t.Errorf("the interaction ends at %q, want a code", location)
		}
	})
}

func TestPR03_TheLifetimeIsConfigurable(t *testing.T) {
	synctestScene(t, scriptSetup{Clients: []testClient{confidential("app")}, Lifetimes: authserver.Lifetimes{PushedAuthorizationRequest: time.Minute}}, func(t *testing.T, s *scene) {
		requestURI, _ := s.push("app", "scope", "openid")
		time.Sleep(61 * time.Second)
		if response := s.authorize("ada", pushedQuery("app", requestURI)); response.StatusCode != http.StatusBadRequest {
			t.Errorf("after 61 s: %d %s", response.StatusCode, response.Header.Get("Location"))
		}
	})
}

func TestPR04_TheServerRequiresPushedRequestsOfEveryClient(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}, RequirePushed: true})
	if location := s.authorize("ada", query("app", "scope", "openid")).Header.Get("Location"); !strings.Contains(location, "error=invalid_request") {
		t.Errorf("a plain request is redirected to %s", location)
	}
	requestURI, _ := s.push("app", "scope", "openid")
	if location := s.authorize("ada", pushedQuery("app", requestURI)).Header.Get("Location"); !strings.Contains(location, "code=") {
		t.Errorf("a pushed request is redirected to %s", location)
	}
	if !s.metadata().RequirePushedAuthorizationRequests {
		t.Error("the metadata does not say so")
	}
}

// A request that the authorization endpoint would refuse is refused when it is pushed.
func TestPR05_ThePushedRequestIsFullyChecked(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	for _, test := range []struct {
		change []string
		want   oauth.ErrorCode
	}{
		{[]string{"response_type", ""}, oauth.InvalidRequest},
		{[]string{"response_type", "token"}, oauth.UnauthorizedClient},
		{[]string{"response_type", "nonsense"}, oauth.UnsupportedResponseType},
		{[]string{"response_mode", "nonsense"}, oauth.InvalidRequest},
		{[]string{"scope", "unknown"}, oauth.InvalidScope},
		{[]string{"resource", "https://unknown.example"}, oauth.InvalidTarget},
		{[]string{"code_challenge", ""}, oauth.InvalidRequest},
		{[]string{"code_challenge_method", "plain"}, oauth.InvalidRequest},
		{[]string{"prompt", "none login"}, oauth.InvalidRequest},
		{[]string{"max_age", "-1"}, oauth.InvalidRequest},
		{[]string{"scope", "openid", "claims", "{"}, oauth.InvalidRequest},
		{[]string{"id_token_hint", "a.b.c"}, oauth.InvalidRequest},
		{[]string{"redirect_uri", "https://evil.example/cb"}, oauth.InvalidRequest},
		{[]string{"redirect_uri", "", "scope", "openid"}, oauth.InvalidRequest},
		{[]string{"state", strings.Repeat("x", 5000)}, oauth.InvalidRequest},
		{[]string{"request", "a.b.c"}, oauth.InvalidRequestObject},
		{[]string{"request_uri", "https://app.example/object"}, oauth.InvalidRequest},
	} {
		_, a := s.push("app", test.change...)
		if a.status != http.StatusBadRequest || a.Error != string(test.want) {
			t.Errorf("%q: %d %s, want 400 %s", test.change, a.status, a.body, test.want)
		}
	}
}

func TestPR08_RequestURIsCannotBeGuessed(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	seen := map[string]bool{}
	for range 100 {
		requestURI, _ := s.push("app", "scope", "openid")
		reference, ok := strings.CutPrefix(requestURI, "urn:ietf:params:oauth:request_uri:")
		if !ok || seen[requestURI] || len(reference) < len("vk_pr_")+43 {
			t.Fatalf("%q repeats, has a wrong prefix, or has fewer than 256 bits", requestURI)
		}
		seen[requestURI] = true
		other := reference[:len(reference)-1] + "A"
		if response := s.authorize("ada", pushedQuery("app", oauth.RequestURIPrefix+other)); other != reference && response.StatusCode != http.StatusBadRequest {
			t.Errorf("a changed reference gets %d", response.StatusCode)
		}
	}
}

// A client that never finishes its requests is stopped before the store fills up, without effect on
// other clients. One that finishes them has no limit.
func TestPR09_UnfinishedRequestsOfAClientAreLimited(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("flood"), confidential("app"), confidential("native", func(c *record.Client) {
		c.TokenEndpointAuthMethod = oauth.AuthMethodNone
	})}})
	accepted := 0
	for range 12_000 {
		_, a := s.push("flood", "scope", "openid")
		if a.status == http.StatusTooManyRequests {
			if a.header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
			break
		}
		accepted++
	}
	if accepted < 10_000 || accepted == 12_000 {
		t.Errorf("%d unfinished requests are accepted", accepted)
	}
	requestURI, a := s.push("app", "scope", "openid")
	if a.status != http.StatusCreated {
		t.Fatalf("another client gets %d", a.status)
	}
	if location := s.authorize("ada", pushedQuery("app", requestURI)).Header.Get("Location"); !strings.Contains(location, "code=") {
		t.Errorf("the other client's user is redirected to %s", location)
	}
	public := func() apiResponse {
		return s.post("/par", "", "client_id", "native", "response_type", "code", "scope", "openid", "redirect_uri", testCallback,
			"code_challenge", oauth.S256Challenge(testVerifier), "code_challenge_method", "S256")
	}
	refused := false
	for range 1000 {
		refused = refused || public().status == http.StatusTooManyRequests
	}
	if !refused {
		t.Error("a thousand requests of a public client from one address are accepted")
	}
}

func TestPR09_FinishedRequestsDoNotCount(t *testing.T) {
	if testing.Short() {
		t.Skip("many requests")
	}
	s := newSceneOn(t, scriptSetup{Clients: []testClient{confidential("app")}}, memory.New(), nil)
	who := s.signIn(httptest.NewRecorder(), "ada")
	for i := range 12_000 {
		requestURI, a := s.push("app", "scope", "openid")
		if a.status != http.StatusCreated {
			t.Fatalf("request %d: %d %s", i, a.status, a.body)
		}
		if location := s.authorizeIn(who.Session, pushedQuery("app", requestURI)).Header.Get("Location"); !strings.Contains(location, "code=") {
			t.Fatalf("request %d is redirected to %s", i, location)
		}
	}
}
