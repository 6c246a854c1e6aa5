package interop

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity/upstream"
)

// startUpstream starts oidc-provider as the identity provider "node" of a server, and returns both issuers.
func startUpstream(t *testing.T) (issuer, provider string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	issuer = "http://" + listener.Addr().String()
	const secret = "7Provider-e2b35a960f1c7d84-4f1c7d8e2b3a5960"
	command := exec.CommandContext(t.Context(), need(t, "node"), filepath.Join(installNode(t, "node"), "upstream.mjs"))
	command.Env = append(os.Environ(), "CLIENT_ID=valetkey", "CLIENT_SECRET="+secret, "ISSUER="+issuer)
	command.Stderr = t.Output()
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		command.Wait() // it ends with its standard input
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	provider = strings.TrimSpace(line)
	config := configuration.Configuration{Issuer: issuer, Database: "sqlite::memory:", IdentityProviders: []upstream.Config{{
		ID: "node", Name: "Node", Issuer: provider, ClientID: "valetkey", ClientSecret: secret, Scope: "openid profile email",
		TrustEmail: true, RPInitiatedLogout: true, Rule: `{claims: {name: claims.name}, create: claims.sub != "bob"}`,
	}}, Declarations: configuration.Declarations{Users: []configuration.User{{Username: "carol", Password: userPassword}}}}
	config.Outgoing.Networks = []string{"127.0.0.1"}
	server, err := valetkey.New(valetkey.Config{Configuration: config, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	web := &httptest.Server{Listener: listener, Config: &http.Server{Handler: server}}
	web.Start()
	t.Cleanup(func() {
		web.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return issuer, provider
}

const userPassword = "correct horse battery"

// surfer is a browser without scripts that keeps the cookies of both servers, and presses the buttons of the
// provider's own pages.
type surfer struct {
	*http.Client
	t     *testing.T
	login string // the name at the provider
}

func newSurfer(t *testing.T, login string) *surfer {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &surfer{&http.Client{Jar: jar}, t, login}
}

var (
	formOf   = regexp.MustCompile(`(?s)<form[^>]*action="([^"]+)"`)
	hiddenOf = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`)
)

// send sends a request and follows redirects. At the provider, it signs in, consents, and confirms the logout,
// until a page of ours is reached.
func (s *surfer) send(method, address string, form url.Values, provider string) (status int, at *url.URL, body string) {
	s.t.Helper()
	for range 8 {
		request, err := http.NewRequestWithContext(s.t.Context(), method, address, strings.NewReader(form.Encode()))
		if err != nil {
			s.t.Fatal(err)
		}
		if method == http.MethodPost {
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			request.Header.Set("Origin", request.URL.Scheme+"://"+request.URL.Host)
		}
		response, err := s.Do(request)
		if err != nil {
			s.t.Fatal(err)
		}
		content, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			s.t.Fatal(err)
		}
		status, at, body = response.StatusCode, response.Request.URL, string(content)
		action := formOf.FindStringSubmatch(body)
		if !strings.HasPrefix(at.String(), provider) || action == nil {
			return status, at, body
		}
		next, err := at.Parse(strings.ReplaceAll(action[1], "&amp;", "&"))
		if err != nil {
			s.t.Fatal(err)
		}
		method, address, form = http.MethodPost, next.String(), url.Values{}
		for _, hidden := range hiddenOf.FindAllStringSubmatch(body, -1) {
			form.Set(hidden[1], hidden[2])
		}
		switch {
		case strings.Contains(body, `name="login"`):
			form.Set("login", s.login)
			form.Set("password", "any")
		case strings.Contains(body, `name="logout"`), strings.Contains(at.Path, "/session/end"):
			form.Set("logout", "yes")
		}
	}
	s.t.Fatalf("no end at %s", at)
	return 0, nil, ""
}

// Users of oidc-provider sign in, are linked, get their claims refreshed, and sign out at both.
func TestOIDCProviderAsUpstream(t *testing.T) {
	issuer, provider := startUpstream(t)
	alice := newSurfer(t, "alice")
	signIn := func(s *surfer) (int, *url.URL, string) {
		return s.send(http.MethodPost, issuer+"/sign-in/upstream", url.Values{"provider": {"node"}}, provider)
	}
	status, at, body := signIn(alice)
	if status != http.StatusOK || at.Path != "/account" || !strings.Contains(body, "Alice Example") || !strings.Contains(body, "alice@node.example") {
		t.Fatalf("sign in: %d at %s\n%.400s", status, at, body)
	}
	// Claims are refreshed at the next sign-in.
	if response, err := http.Post(provider+"/test/name", "", nil); err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response, err)
	}
	if _, _, body := signIn(newSurfer(t, "alice")); !strings.Contains(body, "Alice Married") {
		t.Error("the name was not refreshed")
	}
	// bob gets no account of his own, until carol links him with hers.
	if status, _, _ := signIn(newSurfer(t, "bob")); status != http.StatusForbidden {
		t.Errorf("a user whom the rule creates no account for: %d", status)
	}
	carol := newSurfer(t, "bob")
	carol.send(http.MethodPost, issuer+"/sign-in", url.Values{"identifier": {"carol"}, "password": {userPassword}}, provider)
	if status, at, body := carol.send(http.MethodPost, issuer+"/account/linked", url.Values{"provider": {"node"}}, provider); status != http.StatusOK || at.Path != "/account/linked" || !strings.Contains(body, "bob@node.example") {
		t.Errorf("link: %d at %s", status, at)
	}
	bob := newSurfer(t, "bob")
	if _, _, body := signIn(bob); !strings.Contains(body, "carol") {
		t.Error("the linked user does not get to the account")
	}
	// The logout here is one at the provider, which comes back to us.
	if status, at, _ := alice.send(http.MethodPost, issuer+"/sign-out", nil, provider); status != http.StatusOK || at.String() != issuer+"/signed-out" {
		t.Errorf("sign out: %d at %s", status, at)
	}
	asked := &surfer{alice.Client, t, "bob"} // a new name is asked for only without a session there
	if _, _, body := signIn(asked); !strings.Contains(body, "carol") {
		t.Error("the session at the provider continues")
	}
	// A logout at the provider reaches the session here by the back channel, before the provider confirms it.
	bob.send(http.MethodGet, provider+"/session/end", nil, provider)
	if _, at, _ := bob.send(http.MethodGet, issuer+"/account", nil, provider); at.Path == "/account" {
		t.Error("after the logout at the provider, the session here continues")
	}
}
