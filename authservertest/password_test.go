package authservertest_test

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/valetkey/valetkey/authservertest"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/oauth"
)

// The password grant reveals no more about accounts than the sign-in page, and limits guesses in
// the same way.
func TestLG01_LG04_PasswordGrant(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	s := authservertest.NewServer(t, authservertest.Config{Declarations: configuration.Declarations{
		Clients: []configuration.Client{{ID: "terminal", Secret: secret, ClientMetadata: oauth.ClientMetadata{GrantTypes: []string{oauth.GrantTypePassword}}}},
		Users: []configuration.User{
			{Username: "ada", Password: "engine no. 1"}, {Username: "grace", Password: "compiler no. 1", Disabled: true},
		},
	}})
	try := func(username, password string) (*http.Response, string) {
		t.Helper()
		form := url.Values{"grant_type": {"password"}, "username": {username}, "password": {password}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Issuer+"/token", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth("terminal", secret)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response, regexp.MustCompile(`ref [0-9A-Z-]+`).ReplaceAllString(string(body), "ref")
	}
	if response, body := try("ada", "engine no. 1"); response.StatusCode != http.StatusOK {
		t.Fatalf("the correct password: %s", body)
	}
	_, wrong := try("ada", "engine no. 2")
	for _, who := range []string{"grace", "nobody"} {
		if _, body := try(who, "compiler no. 1"); body != wrong || !strings.Contains(body, string(oauth.InvalidGrant)) {
			t.Errorf("%s: %s, not %s", who, body, wrong)
		}
	}
	for range 20 {
		response, _ := try("ada", "guess")
		if response.StatusCode == http.StatusTooManyRequests {
			if response.Header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
			if response, _ := try("ada", "engine no. 1"); response.StatusCode != http.StatusTooManyRequests {
				t.Errorf("the correct password was checked: %s", response.Status)
			}
			return
		}
	}
	t.Error("guesses are not limited")
}
