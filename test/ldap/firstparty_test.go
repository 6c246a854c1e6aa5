package ldap

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity/directory"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage/record"
)

// withNative adds a first-party application.
func withNative(c *configuration.Configuration) {
	withApp(c)
	c.FirstPartyApplications = true
	c.Clients = append(c.Clients, configuration.Client{ID: "native", ClientMetadata: oauth.ClientMetadata{
		ClientName: "Native", ApplicationType: oauth.ApplicationNative, RedirectURIs: []string{"com.example.native:/callback"},
		TokenEndpointAuthMethod: oauth.AuthMethodNone, Scope: "openid profile groups",
	}, ClientSettings: record.ClientSettings{SkipConsent: true, FirstParty: true}})
}

// native returns a function with which the first-party application sends a password.
func native(t *testing.T, issuer string) func(username, password string) (*client.Tokens, error) {
	t.Helper()
	c, err := client.Discover(t.Context(), client.Config{Issuer: issuer, ClientID: "native", RedirectURI: "com.example.native:/callback", Scopes: []string{"openid", "profile", "groups"}})
	if err != nil {
		t.Fatal(err)
	}
	return func(username, password string) (*client.Tokens, error) {
		return c.SignIn(t.Context(), c.AuthorizationChallenge(), username, password)
	}
}

func refusedWith(err error, code oauth.ErrorCode) bool {
	return errors.Is(err, &client.Error{Code: code})
}

// Users of a directory sign in to a first-party application, and are known by the same account as in a
// browser.
func TestFirstPartyApplication(t *testing.T) {
	s := startSlapd(t)
	s.addUser(t, "eve", nil)
	issuer := serve(t, []directory.Config{openLDAP(s)}, withNative)
	signIn := native(t, issuer)
	tokens, err := signIn("alice", userPassword)
	if err != nil {
		t.Fatal(err)
	}
	claims, _, err := authorize(t, issuer, "app", "alice", userPassword)
	if err != nil || claims["sub"] != tokens.Identity.Subject || fmt.Sprint(tokens.Identity.AMR) != "[pwd]" || tokens.Identity.ACR != "1" {
		t.Errorf("in a browser %v (%v), in the application %s with amr %v and acr %q", claims["sub"], err, tokens.Identity.Subject, tokens.Identity.AMR, tokens.Identity.ACR)
	}
	if _, err := signIn("carol", userPassword+" local"); err != nil {
		t.Errorf("a local user: %v", err)
	}
	for username, password := range map[string]string{"alice": "wrong", "bob": userPassword + "!", "nobody": userPassword, "carol": userPassword, "*": userPassword} {
		if _, err := signIn(username, password); !refusedWith(err, oauth.InsufficientAuthorization) {
			t.Errorf("%s: %v", username, err)
		}
	}
	// Eve is disabled, and her right password is refused like a wrong one.
	s.modify(t, userDN("eve"), "pwdAccountLockedTime", "000001010000Z")
	if _, err := signIn("eve", userPassword); !refusedWith(err, oauth.InsufficientAuthorization) || s.binds(userDN("eve")) > 0 {
		t.Errorf("a locked user: %v, %d binds", err, s.binds(userDN("eve")))
	}
}

// A guesser does not get more passwords to the directory by way of an application, and does not learn
// that a password is right if the account needs a second factor.
func TestFirstPartyGuessersAreStoppedBeforeTheBind(t *testing.T) {
	s := startSlapd(t)
	config := openLDAP(s)
	config.FailedAttempts = 3
	issuer := serve(t, []directory.Config{config}, withNative)
	signIn := native(t, issuer)
	setUpTOTP(t, issuer, "bob", userPassword)
	before := s.binds(userDN("bob"))
	for _, attempt := range []struct{ username, password string }{{"alice", "wrong"}, {"bob", userPassword}} {
		var last error
		for i := range 6 {
			_, last = signIn(attempt.username, attempt.password)
			if last == nil {
				t.Fatalf("%s: attempt %d succeeded", attempt.username, i)
			}
		}
		if !refusedWith(last, oauth.TemporarilyUnavailable) {
			t.Errorf("%s: after 6 attempts: %v", attempt.username, last)
		}
	}
	if n := s.binds(userDN("alice")); n == 0 || n > 3 {
		t.Errorf("%d binds of alice", n)
	}
	if n := s.binds(userDN("bob")) - before; n == 0 || n > 3 {
		t.Errorf("%d binds of bob", n)
	}
	// The page to sign in has the same limits.
	if status, _, _ := newBrowser(t, issuer).post("/sign-in", url.Values{"identifier": {"alice"}, "password": {userPassword}}); status != http.StatusTooManyRequests {
		t.Errorf("the page to sign in: %d", status)
	}
}

// A directory that is down is not a wrong password.
func TestFirstPartyApplicationWithoutTheDirectory(t *testing.T) {
	s := startSlapd(t)
	config := openLDAP(s)
	config.URLs = []string{fmt.Sprintf("ldap://127.0.0.1:%d", freePort(t))}
	signIn := native(t, serve(t, []directory.Config{config}, withNative))
	if _, err := signIn("alice", userPassword); !refusedWith(err, oauth.TemporarilyUnavailable) {
		t.Errorf("a user of the directory: %v", err)
	}
	if _, err := signIn("carol", userPassword+" local"); err != nil {
		t.Errorf("a local user: %v", err)
	}
}
