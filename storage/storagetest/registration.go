package storagetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

func registered(id string, unusedUntil time.Time) *record.Client {
	return &record.Client{
		ID: id, Secrets: []string{"secret of " + id}, ClientMetadata: oauth.ClientMetadata{ClientName: "App"},
		Registration: &record.Registration{TokenHash: []byte("hash"), CreatedAt: noon, UnusedUntil: unusedUntil},
	}
}

func registerClient(t *testing.T, s Database) {
	ctx := t.Context()
	want(t, "Declare", s.Declare(ctx, noon, "file", declaration.Declaration{Clients: []record.Client{{ID: "declared"}}}), nil)
	before := version(t, s)
	want(t, "RegisterClient", s.RegisterClient(ctx, registered("a", noon.Add(time.Hour)), 2), nil)
	wantEqual(t, "Client", registered("a", noon.Add(time.Hour)), must(s.Client(ctx, "a"))(t))
	want(t, "RegisterClient again", s.RegisterClient(ctx, registered("a", noon), 2), storage.ErrExists)
	want(t, "RegisterClient of a declared ID", s.RegisterClient(ctx, registered("declared", noon), 2), storage.ErrExists)
	want(t, "RegisterClient", s.RegisterClient(ctx, registered("b", time.Time{}), 2), nil)
	if version(t, s) != before {
		t.Error("a registration makes every node reload its records")
	}
	d := must(s.Declared(ctx))(t)
	if len(d.Clients) != 1 || d.Clients[0].ID != "declared" {
		t.Errorf("Declared returns %d clients", len(d.Clients))
	}
	want(t, "Declare nothing", s.Declare(ctx, noon, "file", declaration.Declaration{}), nil)
	must(s.Client(ctx, "a"))(t)
}

// SH04: outsiders who register clients and never use them cannot keep other clients out. Clients
// that were used, or that a trusted party let register, stay.
func registerTooMany(t *testing.T, s Database) {
	ctx := t.Context()
	vouched := registered("vouched", noon)
	vouched.Registration.Vouched = true
	for _, c := range []*record.Client{
		vouched, registered("used", time.Time{}), registered("newer", noon.Add(2*time.Hour)), registered("older", noon.Add(time.Hour)),
	} {
		want(t, "RegisterClient", s.RegisterClient(ctx, c, 4), nil)
	}
	before := version(t, s)
	want(t, "RegisterClient that exists", s.RegisterClient(ctx, registered("newer", noon), 4), storage.ErrExists)
	must(s.Client(ctx, "older"))(t)
	want(t, "RegisterClient of one too many", s.RegisterClient(ctx, registered("honest", noon.Add(3*time.Hour)), 4), nil)
	if _, err := s.Client(ctx, "older"); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the client that was unused for longest: %v", err)
	}
	for _, id := range []string{"vouched", "used", "newer", "honest"} {
		must(s.Client(ctx, id))(t)
	}
	if version(t, s) <= before {
		t.Error("the version does not grow when a client is removed")
	}
	keep(t, s, "newer")
	keep(t, s, "honest")
	want(t, "RegisterClient of one too many", s.RegisterClient(ctx, registered("c", noon), 4), record.ErrTooManyClients)
}

func updateClient(t *testing.T, s Database, id string, change func(*record.Client)) {
	t.Helper()
	want(t, "UpdateClient", s.UpdateClient(t.Context(), id, func(c *record.Client) error {
		change(c)
		return nil
	}), nil)
}

// keep marks a client as used.
func keep(t *testing.T, s Database, id string) {
	t.Helper()
	updateClient(t, s, id, func(c *record.Client) { c.Registration.UnusedUntil = time.Time{} })
}

func changeClient(t *testing.T, s Database) {
	ctx := t.Context()
	want(t, "Declare", s.Declare(ctx, noon, "", declaration.Declaration{Clients: []record.Client{{ID: "declared"}}}), nil)
	want(t, "RegisterClient", s.RegisterClient(ctx, registered("a", noon), 10), nil)
	before := version(t, s)
	changed := registered("a", noon)
	changed.ClientName, changed.Secrets = "Another", nil
	updateClient(t, s, "a", func(c *record.Client) {
		wantEqual(t, "what update gets", registered("a", noon), c)
		c.ClientName, c.Secrets = "Another", nil
	})
	wantEqual(t, "Client", changed, must(s.Client(ctx, "a"))(t))
	if version(t, s) <= before {
		t.Error("the version does not grow with an update")
	}
	before = version(t, s)
	updateClient(t, s, "declared", func(c *record.Client) { c.RetiredAt = noon })
	if retired := must(s.Client(ctx, "declared"))(t); !retired.RetiredAt.Equal(noon) || retired.EndedAt.IsZero() {
		t.Errorf("a retired client: RetiredAt %v, EndedAt %v", retired.RetiredAt, retired.EndedAt)
	}
	if version(t, s) <= before {
		t.Error("the version does not grow when a client is retired")
	}
	nothing := func(*record.Client) error { return nil }
	want(t, "UpdateClient of a client that does not exist", s.UpdateClient(ctx, "missing", nothing), storage.ErrNotFound)
	before = version(t, s)
	refused := errors.New("refused")
	want(t, "UpdateClient", s.UpdateClient(ctx, "a", func(c *record.Client) error {
		c.ClientName, c.Secrets = "Third", []string{"other"}
		return refused
	}), refused)
	wantEqual(t, "Client", changed, must(s.Client(ctx, "a"))(t))
	want(t, "UpdateClient that changes nothing", s.UpdateClient(ctx, "a", nothing), nil)
	wantEqual(t, "Version", before, version(t, s))

	c := ofGrant(grant(t, s, "ada", "a").ID, ticket(codes, "c"))
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
		t.Error("the version does not grow with a deletion")
	}
}

func reclaimClients(t *testing.T, s Database) {
	ctx := t.Context()
	for i := range 3 {
		want(t, "RegisterClient", s.RegisterClient(ctx, registered(fmt.Sprint(i), noon.Add(time.Duration(i)*time.Hour)), 10), nil)
	}
	before := version(t, s)
	keep(t, s, "0")
	wantEqual(t, "Version", before, version(t, s))
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
		return s.RegisterClient(t.Context(), registered(fmt.Sprint(i), time.Time{}), most)
	}) {
		if err == nil {
			stored++
		} else {
			want(t, "RegisterClient", err, record.ErrTooManyClients)
		}
	}
	wantEqual(t, "registered clients", most, stored)
}
