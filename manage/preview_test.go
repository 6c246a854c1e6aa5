package manage_test

import (
	"testing"

	"github.com/valetkey/valetkey"
	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/manage/api"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"

	"github.com/valetkey/valetkey/authserver"
)

// TestAPreviewNamesTheRules compares it with the claims that the records and rules cause.
func TestAPreviewNamesTheRules(t *testing.T) {
	s := start(t, func(c *valetkey.Config) {
		people(c)
		c.Users[1].Email, c.Users[1].Groups = "bob@example.com", []string{"staff"}
		c.Claims = []authserver.ClaimMapping{{Name: "team", Expression: "person.groups[0]"}}
		c.Scopes = []record.Scope{{Name: "notes"}}
		c.Resources = []record.Resource{{Identifier: "https://notes.example.com", Scopes: []string{"notes"}, AccessTokenClaims: []string{"team"}}}
		c.Clients = append(c.Clients, configuration.Client{ID: "notes", Secret: secret,
			ClientMetadata: oauth.ClientMetadata{RedirectURIs: []string{"https://notes.example.com/cb"}, Scope: "openid email notes"},
			ClientSettings: record.ClientSettings{IDTokenClaims: []string{"email"}}})
		c.Clients = append(c.Clients, configuration.Client{ID: "board", Secret: secret,
			ClientMetadata: oauth.ClientMetadata{RedirectURIs: []string{"https://board.example.com/cb"}},
			ClientSettings: record.ClientSettings{AllowedGroups: []string{"board"}}})
	})
	c := s.connect(s.token(t, "support", nil))
	got, err := c.Preview(t.Context(), api.PreviewRequest{Subject: "bob-sub", ClientID: "notes"})
	if err != nil || got.Refused {
		t.Fatalf("%+v, %v", got, err)
	}
	find := func(claims []api.PreviewClaim, name string) string {
		for _, c := range claims {
			if c.Name == name {
				return string(c.Value) + " by " + c.Rule
			}
		}
		return ""
	}
	for _, claim := range []struct{ what, got, want string }{
		{"team of the access token", find(got.AccessToken, "team"), `"staff" by access_token_claims of the resource https://notes.example.com; claims[0] computes it`},
		{"email of the ID token", find(got.IDToken, "email"), `"bob@example.com" by id_token_claims of the client`},
		{"email of UserInfo", find(got.Userinfo, "email"), `"bob@example.com" by the scope email`},
		{"scope", got.Scope, "openid email notes"},
	} {
		if claim.got != claim.want {
			t.Errorf("%s is %s, want %s", claim.what, claim.got, claim.want)
		}
	}
	got, err = c.Preview(t.Context(), api.PreviewRequest{Subject: "bob-sub", ClientID: "board"})
	if err != nil || !got.Refused || got.Checks[len(got.Checks)-1].OK || got.Checks[len(got.Checks)-1].Rule != "the user is in one of the groups that may use the client" {
		t.Errorf("a client for other groups: %+v, %v", got, err)
	}
	got, err = c.Preview(t.Context(), api.PreviewRequest{ClientID: "auditor"})
	if err != nil || got.Refused || len(got.IDToken) > 0 {
		t.Errorf("a client's own token: %+v, %v", got, err)
	}
	got, err = c.Preview(t.Context(), api.PreviewRequest{Subject: "nobody", ClientID: "notes"})
	if err != nil || !got.Refused {
		t.Errorf("an unknown user: %+v, %v", got, err)
	}
}
