package authserver_test

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/memory"
	"github.com/valetkey/valetkey/storage/record"
)

func readSetup() scriptSetup {
	return scriptSetup{
		Clients: []testClient{confidential("app", func(c *record.Client) {
			c.Scope, c.SkipConsent = "read", false
			c.GrantTypes = []string{oauth.GrantTypeAuthorizationCode, oauth.GrantTypeRefreshToken}
		})},
		Scopes:    []record.Scope{{Name: "read"}},
		Resources: []record.Resource{{Identifier: "https://notes.example.com", Scopes: []string{"read"}}, {Identifier: "https://files.example.com"}},
	}
}

// allowed records what an earlier consent of ada's to the client app was to.
func (s *scene) allowed(scope oauth.Scope, resources []string) {
	s.t.Helper()
	_, err := s.store.UpdateGrant(s.t.Context(), "ada", "app", func(g *record.Grant) error {
		g.Scope, g.Resources, g.CreatedAt, g.UpdatedAt = scope, resources, time.Now(), time.Now()
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// asked reports whether the user must be asked.
func (s *scene) asked(changes ...string) bool {
	s.t.Helper()
	location, err := s.authorize("ada", query("app", append([]string{"scope", "read", "prompt", "none"}, changes...)...)).Location()
	if err != nil {
		s.t.Fatal(err)
	}
	if e := location.Query().Get("error"); e != "" && e != string(oauth.ConsentRequired) {
		s.t.Fatalf("refused: %s", location)
	}
	return location.Query().Get("code") == ""
}

// A grant from before resources were recorded covers the APIs that know its scopes.
func TestCN_ConsentOfAnEarlierVersion(t *testing.T) {
	s := newScene(t, readSetup())
	s.allowed(oauth.Scope{"read"}, nil)
	if s.asked() || s.asked("resource", "https://notes.example.com") {
		t.Error("the user is asked for the API of the scope that they allowed")
	}
	if !s.asked("resource", "https://files.example.com") {
		t.Error("an API that the scope does not belong to is covered")
	}
	s.allowed(oauth.Scope{"read"}, []string{})
	if !s.asked("resource", "https://notes.example.com") {
		t.Error("a grant for no API covers one")
	}
}

func TestCN_AnAPIThatIsDeclaredLaterIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		setup := readSetup()
		s := newScene(t, setup)
		s.allowed(oauth.Scope{"read"}, []string{"https://notes.example.com"})
		tokens := s.redeem("app", s.code("ada", "app", "scope", "read"))
		if tokens.status != http.StatusOK {
			t.Fatalf("%d %s", tokens.status, tokens.body)
		}
		d := memory.Declaration{Scopes: setup.Scopes, Resources: append(setup.Resources, record.Resource{Identifier: "https://payroll.example.com", Scopes: []string{"read"}})}
		for _, c := range setup.Clients {
			c.Secrets = []string{c.Secret}
			d.Clients = append(d.Clients, c.Client)
		}
		if err := s.store.Declare(t.Context(), time.Now(), "test", d); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if !s.asked() {
			t.Error("the user is not asked for the new API, whose scope they allowed to another")
		}
		refreshed := s.refresh("app", tokens.RefreshToken)
		if audience := s.claimsOf(refreshed.AccessToken)["aud"]; audience != "https://notes.example.com" {
			t.Errorf("a token of the earlier consent is for %v", audience)
		}
		refused := s.refresh("app", refreshed.RefreshToken, "resource", "https://payroll.example.com")
		if refused.status != http.StatusBadRequest || refused.Error != string(oauth.InvalidTarget) {
			t.Errorf("a token for the new API: %d %s", refused.status, refused.body)
		}
	})
}

// What the operator's own applications get is recorded too, so that it can be seen and ended.
func TestCN_SkippedConsentRecordsTheAPI(t *testing.T) {
	setup := readSetup()
	setup.Clients[0].SkipConsent = true
	s := newScene(t, setup)
	for _, resource := range []string{"https://notes.example.com", "https://files.example.com"} {
		s.code("ada", "app", "scope", "read", "resource", resource)
		grant, err := s.store.Grant(t.Context(), "ada", "app")
		if err != nil || !slices.Contains(grant.Resources, resource) {
			t.Errorf("the grant has %v, %v", grant, err)
		}
	}
}
