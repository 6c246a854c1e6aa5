package authserver_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
)

func contains(a apiResponse, text string) bool {
	return strings.Contains(a.body, text) || strings.Contains(fmt.Sprint(a.header), text)
}

// countingReader is a request body that counts the bytes that were read.
type countingReader struct{ left, read int }

func (r *countingReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), r.left)
	for i := range n {
		p[i] = 'a'
	}
	r.left, r.read = r.left-n, r.read+n
	return n, nil
}

func TestDS01_BodiesHaveASizeLimit(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	for _, path := range []string{"/token", "/introspect", "/revoke", "/userinfo", "/authorize", "/logout"} {
		for _, length := range []int64{-1, 10 << 20} { // chunked, and with Content-Length
			body := &countingReader{left: 10 << 20}
			r := httptest.NewRequest(http.MethodPost, path, body)
			r.ContentLength = length
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if a := s.do(r); a.status != http.StatusRequestEntityTooLarge {
				t.Errorf("%s with 10 MB: %d", path, a.status)
			}
			if body.read > 80<<10 {
				t.Errorf("%s read %d bytes", path, body.read)
			}
		}
	}
}

func TestDS04_TooManyParametersAndScopesAreRefused(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	var params, scopes strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&params, "a%d=1&", i)
		fmt.Fprintf(&scopes, "s%d ", i)
	}
	started := time.Now()
	r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(params.String()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	s.do(r).want(t, http.StatusBadRequest, oauth.InvalidRequest)
	s.post("/token", "app", "grant_type", "client_credentials", "scope", scopes.String()[:16000]).want(t, http.StatusBadRequest, oauth.InvalidScope)
	values := make([]string, 0, 40)
	for i := range 20 {
		values = append(values, "resource", fmt.Sprintf("https://%d.example", i))
	}
	s.post("/token", "app", append(values, "grant_type", "client_credentials")...).want(t, http.StatusBadRequest, oauth.InvalidTarget)
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("the refusals took %s", took)
	}
}

func TestHP01_RepeatedParametersAreRefused(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	for path, names := range map[string][]string{
		"/token":      {"grant_type", "code", "redirect_uri", "code_verifier", "refresh_token", "scope", "client_id", "client_secret", "client_assertion", "unknown"},
		"/introspect": {"token", "token_type_hint"}, "/revoke": {"token", "token_type_hint"}, "/userinfo": {"access_token"},
		"/logout": {"id_token_hint"},
	} {
		for _, name := range names {
			if path == "/logout" {
				r := httptest.NewRequest(http.MethodGet, path+"?"+name+"=a&"+name+"=a", nil)
				if a := s.do(r); a.status != http.StatusBadRequest {
					t.Errorf("%s with %s twice: %d", path, name, a.status)
				}
				continue
			}
			s.post(path, "", name, "a", name, "b").want(t, http.StatusBadRequest, oauth.InvalidRequest)
		}
	}
}

func TestHP02_CredentialsInTheURLOfAPostAreRefused(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	for _, path := range []string{"/token", "/introspect", "/revoke"} {
		s.post(path+"?client_secret="+testSecret, "app", "grant_type", "client_credentials", "token", "x").want(t, http.StatusBadRequest, oauth.InvalidRequest)
	}
}

func TestHP04_OtherMethodsAreRefused(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	allowed := map[string]string{
		"/authorize": "GET, POST", "/token": "POST", "/introspect": "POST", "/revoke": "POST", "/userinfo": "GET, POST",
		"/logout": "GET, POST", "/jwks": "GET, HEAD", "/.well-known/openid-configuration": "GET, HEAD",
	}
	for path, methods := range allowed {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "PROPFIND"} {
			if strings.Contains(", "+methods+",", " "+method+",") {
				continue
			}
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Method = method
			r.Header.Set("X-HTTP-Method-Override", "POST")
			a := s.do(r)
			if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != methods {
				t.Errorf("%s %s: %d, Allow %q", method, path, a.status, a.header.Get("Allow"))
			}
		}
	}
}

func TestHP06_PathsMustMatchExactly(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	for _, path := range []string{"//token", "/token/", "/%74oken", "/./token", "/x/../token", "/token;x", "/token.", "/TOKEN", "/token%2f", "/public%23/../token", "/token%00"} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("grant_type=client_credentials"))
		u, err := url.ParseRequestURI(path)
		if err != nil {
			continue // net/http refuses it before it reaches the engine
		}
		r.URL = u
		r.SetBasicAuth("app", testSecret)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if a := s.do(r); a.status != http.StatusNotFound {
			t.Errorf("%s: status %d", path, a.status)
		}
	}
}

func TestHP07_UN03_AmbiguousInputIsRefused(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	for _, raw := range []string{
		"scope=a;b", "scope=%zz", "scope=%", "scope=%00", "scope=%ff", "scope=%c0%af", "scope=%ed%a0%80", "%00=a", "sc%zzope=a", "scope=\xff",
	} {
		r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader("grant_type=client_credentials&"+raw))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth("app", testSecret)
		s.do(r).want(t, http.StatusBadRequest, oauth.InvalidRequest)
	}
}

func TestHP08_EmptyParametersAreIgnored(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader("grant_type=client_credentials&scope=&resource=&client_id=&client_secret=&client_assertion="))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("app", testSecret)
	s.do(r).want(t, http.StatusOK, "")
}

// Of two cookies with the same name, a sibling domain may have set one. Both are ignored.
func TestHP10_DuplicateCookiesAreIgnored(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	response := s.authorize("", query("app"))
	cookie := response.Cookies()[0]
	id := interactionOf(response.Header.Get("Location"))
	open := func(values ...string) error {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		for _, value := range values {
			r.AddCookie(&http.Cookie{Name: cookie.Name, Value: value})
		}
		_, err := s.server.Interaction(r, id)
		return err
	}
	if err := open(cookie.Value); err != nil {
		t.Errorf("the browser's own cookie: %v", err)
	}
	for _, values := range [][]string{{cookie.Value, "x"}, {"x", cookie.Value}, {cookie.Value, cookie.Value}, {strings.Repeat("x", 4000)}, {}} {
		if open(values...) == nil {
			t.Errorf("cookies %q are accepted", values)
		}
	}
}

func TestUN05_ScopesAreASCII(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	for _, scope := range []string{`"`, "é", "a\tb", `a\b`, "a\nb", "\u00a0", "x\u200b"} {
		s.post("/token", "app", "grant_type", "client_credentials", "scope", scope).want(t, http.StatusBadRequest, oauth.InvalidScope)
	}
}

var describable = regexp.MustCompile(`^[\x20-\x21\x23-\x5b\x5d-\x7e]*$`)

func TestLO07_ErrorsDoNotContainInput(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	for _, input := range []string{"<script>marker</script>", "marker\r\nX: y", strings.Repeat("marker", 1700), "marker\"\\é"} {
		for _, name := range []string{"grant_type", "scope", "code", "refresh_token", "resource", "code_verifier", "client_assertion", "client_assertion_type"} {
			form := []string{name, input}
			if name != "grant_type" {
				form = append(form, "grant_type", map[bool]string{true: "refresh_token", false: "client_credentials"}[name == "refresh_token"])
			}
			for _, client := range []string{"app", "marker"} {
				a := s.post("/token", client, form...)
				if contains(a, "marker") || !describable.MatchString(a.Description) {
					t.Errorf("%s=%q: %d %s", name, input, a.status, a.body)
				}
			}
		}
		for _, name := range []string{"client_id", "redirect_uri", "scope", "response_type", "response_mode", "prompt", "claims", "id_token_hint", "resource"} {
			response := s.authorize("", query("app", name, input))
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(body)+fmt.Sprint(response.Header), "marker") && !strings.HasPrefix(response.Header.Get("Location"), "/sign-in") {
				t.Errorf("%s=%q: %s %s", name, input, response.Header, body)
			}
		}
	}
}

func TestAC14_HD06_HD08_HD09_SecurityHeaders(t *testing.T) {
	s := newScene(t, scriptSetup{Clients: []testClient{confidential("app")}})
	a := s.tokens("ada", "app", "openid")
	for name, a := range map[string]apiResponse{
		"token": a, "token error": s.redeem("app", "x"), "userinfo": s.userinfo(a.AccessToken), "userinfo error": s.userinfo("x"),
		"introspect": s.post("/introspect", "app", "token", "x"), "revoke": s.post("/revoke", "app", "token", "x"),
	} {
		if a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be cached: %s", name, a.header)
		}
		if a.body != "" && (a.header.Get("Content-Type") != "application/json" || a.header.Get("X-Content-Type-Options") != "nosniff") {
			t.Errorf("browsers may guess the type of %s: %s", name, a.header)
		}
		if a.header.Get("Server") != "" || a.header.Get("X-Powered-By") != "" {
			t.Errorf("%s reveals the server software: %s", name, a.header)
		}
	}
}
