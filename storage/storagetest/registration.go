package storagetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/declaration"
)

func registered(id string, unusedUntil time.Time) *authserver.Client {
	return &authserver.Client{
		ID: id, Secrets: []string{"secret of " + id}, ClientMetadata: oauth.ClientMetadata{ClientName: "App"},
		Registration: &authserver.Registration{TokenHash: []byte("hash"), CreatedAt: noon, UnusedUntil: unusedUntil},
	}
}

func registerClient(t *testing.T, s Database) {
	ctx := t.Context()
	want(t, "Declare", s.Declare(ctx, noon, "file", declaration.Declaration{Clients: []authserver.Client{{ID: "declared"}}}), nil)
	before := version(t, s)
	want(t, "RegisterClient", s.RegisterClient(ctx, registered("a", noon.Add(time.Hour)), 2), nil)
	wantEqual(t, "Client", registered("a", noon.Add(time.Hour)), must(s.Client(ctx, "a"))(t))
	want(t, "RegisterClient again", s.RegisterClient(ctx, registered("a", noon), 2), storage.ErrExists)
	want(t, "RegisterClient of a declared ID", s.RegisterClient(ctx, registered("declared", noon), 2), storage.ErrExists)
	want(t, "RegisterClient", s.RegisterClient(ctx, registered("b", time.Time{}), 2), nil)
	want(t, "RegisterClient of one too many", s.RegisterClient(ctx, registered("c", noon), 2), authserver.ErrTooManyClients)
	if version(t, s) != before {
		t.Error("a registration makes every node forget what it knows")
	}
	d := must(s.Declared(ctx))(t)
	if len(d.Clients) != 1 || d.Clients[0].ID != "declared" {
		t.Errorf("Declared returns %d clients", len(d.Clients))
	}
	want(t, "Declare nothing", s.Declare(ctx, noon, "file", declaration.Declaration{}), nil)
	must(s.Client(ctx, "a"))(t)
}

func changeClient(t *testing.T, s Database) {
	ctx := t.Context()
	want(t, "Declare", s.Declare(ctx, noon, "", declaration.Declaration{Clients: []authserver.Client{{ID: "declared"}}}), nil)
	want(t, "RegisterClient", s.RegisterClient(ctx, registered("a", noon), 10), nil)
	before := version(t, s)
	changed := registered("a", noon)
	changed.ClientName, changed.Secrets = "Another", nil
	want(t, "UpdateClient", s.UpdateClient(ctx, changed), nil)
	wantEqual(t, "Client", changed, must(s.Client(ctx, "a"))(t))
	if version(t, s) <= before {
		t.Error("nobody hears of an update")
	}
	want(t, "UpdateClient of a declared one", s.UpdateClient(ctx, registered("declared", noon)), storage.ErrNotFound)
	want(t, "UpdateClient of nobody", s.UpdateClient(ctx, registered("nobody", noon)), storage.ErrNotFound)

	grant := &authserver.Grant{ID: "g", Subject: "ada", ClientID: "a", CreatedAt: noon, UpdatedAt: noon}
	want(t, "PutGrant", s.PutGrant(ctx, grant), nil)
	c := ticket(codes, "c")
	c.Grant = grant.ID
	put(t, s, c)
	before = version(t, s)
	want(t, "DeleteClient", s.DeleteClient(ctx, "a"), nil)
	want(t, "DeleteClient again", s.DeleteClient(ctx, "a"), nil)
	_, err := s.Client(ctx, "a")
	want(t, "Client", err, storage.ErrNotFound)
	_, err = s.Grant(ctx, "ada", "a")
	want(t, "Grant", err, storage.ErrNotFound)
	wantLive(t, s, noon, c.Key, false)
	if version(t, s) <= before {
		t.Error("nobody hears of a deletion")
	}
}

func reclaimClients(t *testing.T, s Database) {
	ctx := t.Context()
	for i := range 3 {
		want(t, "RegisterClient", s.RegisterClient(ctx, registered(fmt.Sprint(i), noon.Add(time.Duration(i)*time.Hour)), 10), nil)
	}
	want(t, "KeepClient", s.KeepClient(ctx, "0"), nil)
	want(t, "KeepClient of nobody", s.KeepClient(ctx, "nobody"), storage.ErrNotFound)
	wantEqual(t, "Client", registered("0", time.Time{}), must(s.Client(ctx, "0"))(t))
	wantEqual(t, "reclaimed", 1, must(s.Reclaim(ctx, noon.Add(time.Hour)))(t))
	_, err := s.Client(ctx, "1")
	want(t, "Client that was not used", err, storage.ErrNotFound)
	must(s.Client(ctx, "0"))(t)
	must(s.Client(ctx, "2"))(t)
}

func raceRegisterClient(t *testing.T, s Database) {
	const most = 5
	stored := 0
	for _, err := range together(4*most, func(i int) error {
		return s.RegisterClient(t.Context(), registered(fmt.Sprint(i), noon), most)
	}) {
		if err == nil {
			stored++
		} else {
			want(t, "RegisterClient", err, authserver.ErrTooManyClients)
		}
	}
	wantEqual(t, "registered clients", most, stored)
}
