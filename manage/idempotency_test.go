package manage_test

import (
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/valetkey/valetkey/manage"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

func newApp(name string) *api.NewClient {
	return &api.NewClient{ClientMembers: api.ClientMembers{ClientMetadata: oauth.ClientMetadata{ClientName: name, RedirectURIs: []string{"https://app.example.com/cb"}}}}
}

func TestARepeatedRequestHappensOnce(t *testing.T) {
	s := start(t, nil)
	c := s.connect(s.token(t, "operator", nil))
	count := func() (n int) {
		for client, err := range c.AllClients(t.Context(), api.List{}) {
			if err != nil {
				t.Fatal(err)
			}
			if client.DeclaredBy == "" {
				n++
			}
		}
		return n
	}
	// Eight at the same moment: each gets the response of the one that ran, or is told that it runs.
	created := make([]*api.CreatedClient, 8)
	errs := make([]error, len(created))
	var all sync.WaitGroup
	for i := range created {
		all.Go(func() {
			created[i], errs[i] = c.CreateClient(t.Context(), newApp("app"), api.Change{IdempotencyKey: "k1"})
		})
	}
	all.Wait()
	if n := count(); n != 1 {
		t.Fatalf("%d clients were created", n)
	}
	again, err := c.CreateClient(t.Context(), newApp("app"), api.Change{IdempotencyKey: "k1"})
	if err != nil || again.Secret == "" {
		t.Fatalf("repeated: %+v, %v", again, err)
	}
	for i := range created {
		if errs[i] == nil && (created[i].ID != again.ID || created[i].Secret != again.Secret || created[i].ETag != again.ETag) {
			t.Errorf("request %d got another response: %+v", i, created[i].Client)
		}
		if errs[i] != nil {
			wantStatus(t, fmt.Sprintf("request %d", i), errs[i], http.StatusConflict)
		}
	}
	_, err = c.CreateClient(t.Context(), newApp("another"), api.Change{IdempotencyKey: "k1"})
	wantStatus(t, "the key of another request", err, http.StatusUnprocessableEntity)
	// The key belongs to the caller.
	other := s.connect(s.token(t, "administrator", nil))
	if _, err = other.CreateClient(t.Context(), newApp("another"), api.Change{IdempotencyKey: "k1"}); err != nil {
		t.Errorf("the key of another caller: %v", err)
	}
	if n := count(); n != 2 {
		t.Errorf("there are %d clients", n)
	}
}

func TestARefusedRequestCanBeRepeated(t *testing.T) {
	s := start(t, nil)
	c := s.connect(s.token(t, "operator", nil))
	bad := newApp("app")
	bad.RedirectURIs = []string{"http://example.com/cb"}
	_, err := c.CreateClient(t.Context(), bad, api.Change{IdempotencyKey: "k"})
	wantStatus(t, "an invalid client", err, http.StatusUnprocessableEntity)
	if _, err = c.CreateClient(t.Context(), newApp("app"), api.Change{IdempotencyKey: "k"}); err != nil {
		t.Errorf("the corrected request: %v", err)
	}
	// A caller who may not use the operation does not get a stored response either.
	auditor := s.connect(s.token(t, "auditor", nil))
	_, err = auditor.CreateClient(t.Context(), newApp("app"), api.Change{IdempotencyKey: "k"})
	wantStatus(t, "another role", err, http.StatusForbidden)
}

// The stored response has the secret of a client that the weaker token must not create.
func TestAD02_AWeakerTokenDoesNotGetTheResponseOfAStrongerOne(t *testing.T) {
	s := start(t, people)
	connect := func(scope string) *api.Connection {
		token, _, problem := s.userToken(t, "tool", "ada", "", url.Values{"scope": {scope}, "resource": {manage.Identifier(s.url)}})
		if problem != "" {
			t.Fatal(problem)
		}
		return s.connect(token)
	}
	account := &api.NewClient{ClientMembers: api.ClientMembers{
		ClientMetadata: oauth.ClientMetadata{GrantTypes: []string{oauth.GrantTypeClientCredentials}, Scope: "clients:read"},
		ClientSettings: record.ClientSettings{Role: string(api.RoleAdministrator), Resources: []string{manage.Identifier(s.url)}}}}
	change := api.Change{IdempotencyKey: "deploy-1"}
	strong := connect(allScopes())
	created, err := strong.CreateClient(t.Context(), account, change)
	if err != nil {
		t.Fatal(err)
	}
	again, err := strong.CreateClient(t.Context(), account, change)
	if err != nil || again.Secret != created.Secret {
		t.Errorf("repeated: %+v, %v", again, err)
	}
	stolen, err := connect("clients:read clients:write").CreateClient(t.Context(), account, change)
	if err == nil && stolen.Secret == created.Secret {
		t.Error("a token without roles:write gets the secret of an administrator")
	}
	wantStatus(t, "a weaker token that repeats the request", err, http.StatusForbidden)
}
