package manage_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/upstream"
	"github.com/valetkey/valetkey/manage"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// An operator sees the links of a user and removes one, but not the last with which they can sign in.
func TestALinkIsRemovedUnlessItIsTheLastWayToSignIn(t *testing.T) {
	var config configuration.Configuration
	s := start(t, func(c *valetkey.Config) {
		c.IdentityProviders = []upstream.Config{provider("company"), provider("school")}
		config = c.Configuration
	})
	store := open(t, &config)
	operator := s.connect(s.token(t, "operator", nil))
	bob := s.createUser(t, s.connect(s.token(t, "administrator", nil)), "bob", "")
	linked := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	if err := store.UpdateUser(t.Context(), bob.ID, func(u *identity.User) error {
		u.External = []identity.ExternalLink{
			{ID: "first", Provider: "company", Issuer: "https://company.example", Subject: "b1", Email: "bob@company.example", LinkedAt: linked, LastUsedAt: linked},
			{ID: "second", Provider: "school", Issuer: "https://school.example", Subject: "b2", LinkedAt: linked},
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	bob, err := operator.User(t.Context(), bob.ID)
	if err != nil || len(bob.Links) != 2 {
		t.Fatalf("%+v, %v", bob, err)
	}
	if l := bob.Links[0]; l.Provider != "company" || l.Issuer != "https://company.example" || l.Subject != "b1" || l.Label != "bob@company.example" || !l.LinkedAt.Equal(linked) || l.LastUsedAt == nil || !l.LastUsedAt.Equal(linked) {
		t.Errorf("the link is %+v", l)
	}
	support := s.connect(s.token(t, "support", nil))
	_, err = support.RemoveUserMethod(t.Context(), bob.ID, bob.ETag, "first", noChange)
	wantStatus(t, "support removes a link", err, http.StatusForbidden)
	_, err = operator.RemoveUserMethod(t.Context(), bob.ID, bob.ETag, "third", noChange)
	wantStatus(t, "a link that does not exist", err, http.StatusNotFound)

	bob, err = operator.RemoveUserMethod(t.Context(), bob.ID, bob.ETag, "first", noChange)
	if err != nil || len(bob.Links) != 1 {
		t.Fatalf("%+v, %v", bob, err)
	}
	page, err := operator.Audit(t.Context(), api.List{Filter: url.Values{"sub": {bob.ID}, "event": {"external.unlinked"}}})
	if err != nil || len(page.Records) != 1 || page.Records[0].Actor.ID != "operator" {
		t.Errorf("audit: %+v, %v", page, err)
	}
	_, err = operator.RemoveUserMethod(t.Context(), bob.ID, bob.ETag, "second", noChange)
	wantStatus(t, "the last way to sign in", err, http.StatusConflict)
	if bob, err = operator.User(t.Context(), bob.ID); err != nil || len(bob.Links) != 1 {
		t.Errorf("%+v, %v", bob, err)
	}
}

func provider(name string) upstream.Config {
	return upstream.Config{ID: name, Issuer: "https://" + name + ".example", ClientID: "valetkey", ClientSecret: secret}
}

// An operator sees what a user has allowed in detail (RFC 9396), and revokes everything at once.
func TestGrantsHaveTheirAuthorizationDetails(t *testing.T) {
	var config configuration.Configuration
	s := start(t, func(c *valetkey.Config) { people(c); config = c.Configuration })
	store := open(t, &config)
	const payment = `{"type":"payment","amount":"12.50"}`
	for _, client := range []string{"tool", "app"} {
		_, err := store.UpdateGrant(t.Context(), "bob-sub", client, func(g *record.Grant) error {
			g.Scope = oauth.Scope{"openid"}
			if client == "tool" {
				g.Details.Add(time.Now(), []json.RawMessage{json.RawMessage(payment)})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	support := s.connect(s.token(t, "support", nil))
	for name, list := range map[string]func() (*api.GrantPage, error){
		"of the user":   func() (*api.GrantPage, error) { return support.UserGrants(t.Context(), "bob-sub", api.List{}) },
		"to the client": func() (*api.GrantPage, error) { return support.ClientGrants(t.Context(), "tool", api.List{}) },
	} {
		page, err := list()
		if err != nil || len(page.Grants) == 0 {
			t.Fatalf("%s: %+v, %v", name, page, err)
		}
		g := page.Grants[len(page.Grants)-1]
		if len(g.AuthorizationDetails) != 1 || string(g.AuthorizationDetails[0].Detail) != payment || g.AuthorizationDetails[0].At.IsZero() || g.EarlierDetails {
			t.Errorf("%s: %+v", name, g)
		}
	}
	wantStatus(t, "support revokes everything", support.DeleteUserGrants(t.Context(), "bob-sub", noChange), http.StatusForbidden)
	operator := s.connect(s.token(t, "operator", nil))
	for _, change := range []api.Change{{DryRun: true}, noChange} {
		if err := operator.DeleteUserGrants(t.Context(), "bob-sub", change); err != nil {
			t.Fatal(err)
		}
		page, err := operator.UserGrants(t.Context(), "bob-sub", api.List{})
		if err != nil || (len(page.Grants) == 2) != change.DryRun {
			t.Errorf("with %+v: %+v, %v", change, page, err)
		}
	}
	wantStatus(t, "of nobody", operator.DeleteUserGrants(t.Context(), "nobody", noChange), http.StatusNotFound)
}

// A token with manage:all has the permissions of the role, and no more. Who creates a client with this
// scope must have every permission.
func TestOneScopeStandsForEverythingThatTheRoleAllows(t *testing.T) {
	s := start(t, func(c *valetkey.Config) {
		for i := range c.Clients {
			c.Clients[i].Scope = api.ScopeAll
		}
		people(c)
		for i := range c.Clients {
			if c.Clients[i].ID == "tool" {
				c.Clients[i].Scope += " " + api.ScopeAll
			}
		}
	})
	for _, role := range api.Roles() {
		who, err := s.connect(s.token(t, string(role), nil)).Whoami(t.Context())
		if err != nil || len(who.Permissions) != len(role.Permissions()) {
			t.Errorf("%s: %+v, %v", role, who, err)
		}
	}
	_, err := s.connect(s.token(t, "nobody", nil)).Whoami(t.Context())
	wantStatus(t, "a client without a role", err, http.StatusForbidden)

	wanted := func() url.Values {
		return url.Values{"scope": {"openid " + api.ScopeAll}, "resource": {manage.Identifier(s.url)}}
	}
	token, _, problem := s.userToken(t, "tool", "ada", "", wanted())
	if who, err := s.connect(token).Whoami(t.Context()); err != nil || len(who.Permissions) != len(api.Permissions()) {
		t.Errorf("an administrator: %+v, %v %s", who, err, problem)
	}
	token, scope, _ := s.userToken(t, "tool", "bob", "", wanted())
	if scope != "openid" {
		t.Errorf("a user without a role gets the scope %q", scope)
	}
	_, err = s.connect(token).Whoami(t.Context())
	wantStatus(t, "a user without a role", err, http.StatusForbidden)

	account := func(role string) *api.NewClient {
		return &api.NewClient{ClientMembers: api.ClientMembers{
			ClientMetadata: oauth.ClientMetadata{GrantTypes: []string{oauth.GrantTypeClientCredentials}, Scope: api.ScopeAll},
			ClientSettings: record.ClientSettings{Role: role, Resources: []string{manage.Identifier(s.url)}}}}
	}
	_, err = s.connect(s.token(t, "operator", nil)).CreateClient(t.Context(), account("support"), noChange)
	wantStatus(t, "an operator creates a client that can ask administrators for everything", err, http.StatusForbidden)
	_, err = s.connect(s.token(t, "administrator", nil)).CreateClient(t.Context(), account("support"), noChange)
	wantStatus(t, "an administrator creates it", err, http.StatusOK)

	// It is a scope of the server, and cannot be declared.
	administrator := s.connect(s.token(t, "administrator", nil))
	_, err = administrator.CreateScope(t.Context(), api.ScopeAll, &api.ScopeMembers{Description: "Mine"}, noChange)
	wantStatus(t, "a scope with this name", err, http.StatusUnprocessableEntity)
	found := false
	for scope, err := range api.All(t.Context(), api.List{}, administrator.Scopes, func(p *api.ScopePage) ([]api.Scope, string) { return p.Scopes, p.Next }) {
		if err != nil {
			t.Fatal(err)
		}
		found = found || scope.Name == api.ScopeAll && scope.DeclaredBy == "server"
	}
	if !found {
		t.Error("the list of scopes lacks it")
	}
	result, err := administrator.ApplyDeclarations(t.Context(), &api.NewDeclarations{Declarations: json.RawMessage(`{"users": [{"username": "carol"}]}`)}, "", noChange)
	if err != nil || len(result.Changes) != 1 {
		t.Errorf("apply with this scope: %+v, %v", result, err)
	}
}
