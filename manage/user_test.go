package manage_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/pgtest"
	"github.com/valetkey/valetkey/manage"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

var (
	noChange api.Change
	noLink   api.LinkRequest
)

// createUser creates a user with a role.
func (s *server) createUser(t *testing.T, by *api.Connection, name string, role api.Role) *api.User {
	t.Helper()
	user, err := by.CreateUser(t.Context(), &api.UserMembers{Username: name, Claims: map[string]any{"email": name + "@example.com"}}, noChange)
	if err == nil && role != "" {
		user, err = by.SetUserRole(t.Context(), user.ID, user.ETag, role, noChange)
	}
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func userMembers(u *api.User) *api.UserMembers {
	return &api.UserMembers{Username: u.Username, Claims: u.Claims, Disabled: u.Disabled}
}

func TestTheLastAdministratorStays(t *testing.T) {
	for name, database := range map[string]func(*testing.T) string{
		"SQLite":     func(*testing.T) string { return "" },
		"PostgreSQL": func(t *testing.T) string { return pgtest.Database(t) },
	} {
		t.Run(name, func(t *testing.T) {
			url := database(t)
			s := start(t, func(c *valetkey.Config) {
				if url != "" {
					t.Setenv(configuration.MasterKeyVariable, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE")
					c.Database = url
				}
			})
			root := s.connect(s.token(t, "administrator", nil))
			first, second := s.createUser(t, root, "first", api.RoleAdministrator), s.createUser(t, root, "second", api.RoleAdministrator)
			// Each of the two removes the other at the same moment, in each of the ways.
			for _, way := range []struct {
				name string
				do   func(c *api.Connection, u *api.User) error
			}{
				{"demoted", func(c *api.Connection, u *api.User) error {
					_, err := c.SetUserRole(t.Context(), u.ID, u.ETag, "", noChange)
					return err
				}},
				{"disabled", func(c *api.Connection, u *api.User) error {
					members := userMembers(u)
					members.Disabled = true
					_, err := c.UpdateUser(t.Context(), u.ID, u.ETag, members, noChange)
					return err
				}},
				{"deleted", func(c *api.Connection, u *api.User) error { return c.DeleteUser(t.Context(), u.ID, u.ETag, noChange) }},
			} {
				for range 5 {
					users := []*api.User{first, second}
					errs := make([]error, 2)
					var both sync.WaitGroup
					for i := range users {
						both.Go(func() {
							errs[i] = way.do(s.Management().Connect(manage.Caller{UserID: users[i].ID}), users[1-i])
						})
					}
					both.Wait()
					if errs[0] == nil && errs[1] == nil {
						t.Fatalf("both administrators were %s", way.name)
					}
					if errs[0] != nil && errs[1] != nil {
						t.Fatalf("neither was %s: %v", way.name, errors.Join(errs...))
					}
					survivor := users[0]
					if errs[0] != nil {
						survivor = users[1]
					}
					c := s.Management().Connect(manage.Caller{UserID: survivor.ID})
					err := way.do(c, survivor)
					if api.StatusOf(err) != http.StatusConflict {
						t.Fatalf("the last administrator was %s by themselves: %v", way.name, err)
					}
					// Both are administrators again.
					other := users[0]
					if other == survivor {
						other = users[1]
					}
					if way.name == "deleted" {
						other = s.createUser(t, c, other.Username, api.RoleAdministrator)
					} else {
						other = s.restore(t, c, other.ID)
					}
					survivor, err = c.User(t.Context(), survivor.ID)
					if err != nil {
						t.Fatal(err)
					}
					first, second = survivor, other
				}
			}
		})
	}
}

// restore makes a user an enabled administrator.
func (s *server) restore(t *testing.T, c *api.Connection, id string) *api.User {
	t.Helper()
	user, err := c.User(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if user.Disabled {
		members := userMembers(user)
		members.Disabled = false
		if user, err = c.UpdateUser(t.Context(), id, user.ETag, members, noChange); err != nil {
			t.Fatal(err)
		}
	}
	if user, err = c.SetUserRole(t.Context(), id, user.ETag, api.RoleAdministrator, noChange); err != nil {
		t.Fatal(err)
	}
	return user
}

func TestALinkForAUserEndsWhenTheyGetARole(t *testing.T) {
	s := start(t, func(c *valetkey.Config) {
		c.Users = []configuration.User{{Username: "ada", Subject: "ada-sub", Administrator: true}}
	})
	ada := s.Management().Connect(manage.Caller{UserID: "ada-sub"})
	operator := s.Management().Connect(manage.Caller{UserID: s.createUser(t, ada, "olga", api.RoleOperator).ID})
	bob := s.createUser(t, ada, "bob", "")
	link, err := operator.CreateRecovery(t.Context(), bob.ID, noLink, noChange)
	if err != nil || !strings.HasPrefix(link.URL, s.url+"/") {
		t.Fatalf("%+v, %v", link, err)
	}
	if status := s.pageStatus(t, link.URL); status != http.StatusOK {
		t.Fatalf("the page of the link returns %d", status)
	}
	if _, err := ada.SetUserRole(t.Context(), bob.ID, bob.ETag, api.RoleAdministrator, noChange); err != nil {
		t.Fatal(err)
	}
	if status := s.pageStatus(t, link.URL); status == http.StatusOK {
		t.Error("an operator's link opens the account of an administrator")
	}
}

// A declaration gives the role, as a reload of the file or an apply does.
func TestAD02_AnOperatorsLinkEndsWhenADeclarationMakesTheUserAnAdministrator(t *testing.T) {
	s := start(t, nil)
	root := s.connect(s.token(t, "administrator", nil))
	operator := s.connect(s.token(t, "operator", nil))
	bob := s.createUser(t, root, "bob", "")
	link, err := operator.CreateRecovery(t.Context(), bob.ID, noLink, noChange)
	if err != nil {
		t.Fatal(err)
	}
	apply := func(declarations string) {
		t.Helper()
		result, err := root.ApplyDeclarations(t.Context(), &api.NewDeclarations{Declarations: json.RawMessage(declarations)}, "", noChange)
		if err != nil || len(result.Changes) != 1 || result.Changes[0].Problem != "" {
			t.Fatalf("%+v, %v", result, err)
		}
	}
	apply(`{"users": [{"username": "bob", "name": "Bob"}]}`)
	if status := s.pageStatus(t, link.URL); status != http.StatusOK {
		t.Fatalf("after a declaration that gives nothing, the page of the link returns %d", status)
	}
	apply(`{"users": [{"username": "bob", "administrator": true}]}`)
	if status := s.pageStatus(t, link.URL); status == http.StatusOK {
		t.Error("an operator's link opens the account of an administrator")
	}
}

func (s *server) pageStatus(t *testing.T, url string) int {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func TestEachChangeNamesItsAuthor(t *testing.T) {
	s := start(t, people)
	token, _, _ := s.userToken(t, "tool", "ada", "", map[string][]string{"scope": {"users:write users:read audit:read"}, "resource": {manage.Identifier(s.url)}})
	c := s.connect(token)
	user := s.createUser(t, c, "carol", "")
	page, err := c.Audit(t.Context(), api.List{Filter: map[string][]string{"sub": {user.ID}}})
	if err != nil || len(page.Records) != 1 {
		t.Fatalf("audit: %+v, %v", page, err)
	}
	actor := page.Records[0].Actor
	if actor.Kind != "user" || actor.ID != "ada-sub" || actor.Name != "ada" || actor.ClientID != "tool" || actor.Address != "127.0.0.1" {
		t.Errorf("the author is %+v", actor)
	}

	// A program that calls the API without an address of the user leaves it out.
	inside := s.Management().Connect(manage.Caller{UserID: "ada-sub"})
	user = s.createUser(t, inside, "dora", "")
	page, err = inside.Audit(t.Context(), api.List{Filter: map[string][]string{"sub": {user.ID}}})
	if err != nil || len(page.Records) != 1 {
		t.Fatalf("audit: %+v, %v", page, err)
	}
	if actor := page.Records[0].Actor; actor.Name != "ada" || actor.Address != "" {
		t.Errorf("the author is %+v", actor)
	}
}

// Whoever ends a token is in the audit log.
func TestAD16_AnEndedTokenIsInTheAuditLog(t *testing.T) {
	s := start(t, func(c *valetkey.Config) {
		c.Resources = []record.Resource{{Identifier: "https://api.example.com", AccessTokenFormat: "opaque"}}
		c.Clients = append(c.Clients, configuration.Client{ID: "batch", Secret: secret,
			ClientMetadata: oauth.ClientMetadata{GrantTypes: []string{oauth.GrantTypeClientCredentials}},
			ClientSettings: record.ClientSettings{Resources: []string{"https://api.example.com"}}})
	})
	root := s.connect(s.token(t, "administrator", nil))
	support := s.connect(s.token(t, "support", nil))
	s.token(t, "batch", map[string][]string{"resource": {"https://api.example.com"}})
	for _, refused := range []bool{true, false} {
		tokens, err := root.ClientTokens(t.Context(), "batch")
		if err != nil || len(tokens.Tokens) == 0 {
			t.Fatalf("%+v, %v", tokens, err)
		}
		if err := support.EndToken(t.Context(), tokens.Tokens[0].Reference, api.Change{DryRun: refused}); err != nil {
			t.Fatal(err)
		}
		page, err := root.Audit(t.Context(), api.List{Filter: map[string][]string{"event": {"token.revoked"}}})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case refused && len(page.Records) != 0:
			t.Errorf("a dry run is in the log: %+v", page.Records)
		case !refused && (len(page.Records) != 1 || page.Records[0].Actor.ID != "support" || page.Records[0].ClientID != "batch" || page.Records[0].ObjectID != tokens.Tokens[0].Reference):
			t.Errorf("the log has %+v", page.Records)
		}
	}
}
