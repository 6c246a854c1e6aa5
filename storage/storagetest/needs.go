package storagetest

import (
	"cmp"
	"slices"
	"testing"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

func clientNeeds(t *testing.T, s Database) {
	hybrid := oauth.ClientMetadata{
		IDTokenSignedResponseAlg: "PS256", UserinfoSignedResponseAlg: "ES384", AuthorizationSignedResponseAlg: "PS384",
		IntrospectionSignedResponseAlg: "ES512", IDTokenEncryptedResponseAlg: "ECDH-ES",
		RequestObjectEncryptionAlg: "RSA-OAEP", RequestObjectSigningAlg: "none", ResponseTypes: []string{"code id_token", "code"},
		BackchannelUserCodeParameter: true,
	}
	settings := record.ClientSettings{AccessTokenSignedResponseAlg: "EdDSA"}
	clients := []record.Client{
		{ID: "a", ClientMetadata: hybrid, ClientSettings: settings}, {ID: "b", ClientMetadata: hybrid, ClientSettings: settings}, {ID: "plain"},
		{ID: "retired", ClientMetadata: oauth.ClientMetadata{IDTokenSignedResponseAlg: "RS512"}},
	}
	want(t, "Declare", s.Declare(t.Context(), noon, "file", declaration.Declaration{Clients: clients}), nil)
	err := s.UpdateClient(t.Context(), "retired", func(c *record.Client) error { c.RetiredAt = noon; return nil })
	want(t, "UpdateClient", err, nil)
	want(t, "RegisterClient", s.RegisterClient(t.Context(), registered("c", noon), 5), nil)
	got := must(s.ClientNeeds(t.Context()))(t)
	slices.SortFunc(got, func(a, b record.ClientNeeds) int {
		return cmp.Compare(a.IDTokenSignedResponseAlg, b.IDTokenSignedResponseAlg)
	})
	wantEqual(t, "ClientNeeds", []record.ClientNeeds{clients[2].Needs(), clients[0].Needs()}, got)
}
