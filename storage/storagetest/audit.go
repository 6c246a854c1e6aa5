package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// alice is the author of the changes.
var alice = audit.Actor{Kind: audit.KindUser, ID: "alice-id", Name: "alice", Address: "192.0.2.7", Reference: "ABCD-EFGH", TraceID: "0af7651916cd43dd8448eb211c80319c"}

// auditEvents returns the events of all records, the oldest first, and forgets what an earlier call
// returned.
type auditReader struct {
	s     Database
	after string
}

func (a *auditReader) next(t *testing.T) []audit.Record {
	t.Helper()
	found := must(a.s.AuditRecords(context.Background(), audit.Filter{After: a.after, Ascending: true, Limit: audit.MaxLimit}))(t)
	if len(found) > 0 {
		a.after = found[len(found)-1].ID
	}
	return found
}

func eventsOf(records []audit.Record) []string {
	events := []string{}
	for _, r := range records {
		events = append(events, r.Event)
	}
	return events
}

func auditChanges(t *testing.T, s Database) {
	ctx := audit.WithActor(t.Context(), alice)
	log := &auditReader{s: s}
	user := &identity.User{ID: "u1", Username: "bob", PasswordHash: "$argon2id$secret", Claims: map[string]any{"email": "bob@example.com"}, CreatedAt: noon}
	nothing := func(*identity.User) error { return nil }
	var grant *record.Grant
	for _, step := range []struct {
		name   string
		change func() error
		events []string
	}{
		{"create a user", func() error { return s.CreateUser(ctx, user) }, []string{"user.created"}},
		{"change nothing", func() error { return s.UpdateUser(ctx, "u1", nothing) }, nil},
		{"use an account", func() error {
			return s.UpdateUser(ctx, "u1", func(u *identity.User) error {
				u.UpdatedAt = noon.Add(time.Hour)
				u.AddEvent(noon, identity.SecurityEvent{Kind: identity.EventRecovered})
				return nil
			})
		}, nil},
		{"change a password", func() error {
			return s.UpdateUser(ctx, "u1", func(u *identity.User) error { u.PasswordHash = "$argon2id$other"; return nil })
		}, []string{"password.changed"}},
		{"change the email address", func() error {
			return s.UpdateUser(ctx, "u1", func(u *identity.User) error { u.Claims["email"] = "robert@example.com"; return nil })
		}, []string{"email.changed"}},
		{"disable", func() error {
			return s.UpdateUser(ctx, "u1", func(u *identity.User) error { u.Disabled = true; return nil })
		}, []string{"user.disabled"}},
		{"enable", func() error {
			return s.UpdateUser(ctx, "u1", func(u *identity.User) error { u.Disabled = false; return nil })
		}, []string{"user.enabled"}},
		{"an event that the caller names", func() error {
			ctx := audit.WithRecord(ctx, audit.Record{Event: "password.reset", Details: map[string]string{"by": "mail"}})
			return s.UpdateUser(ctx, "u1", func(u *identity.User) error { u.PasswordHash = "$argon2id$third"; return nil })
		}, []string{"password.reset"}},
		{"register a client", func() error { return s.RegisterClient(ctx, registered("c1", noon.Add(time.Hour)), 10) }, []string{"client.registered"}},
		{"use a client", func() error {
			return s.UpdateClient(ctx, "c1", func(c *record.Client) error { c.Registration.UnusedUntil = time.Time{}; return nil })
		}, nil},
		{"change a client", func() error {
			return s.UpdateClient(ctx, "c1", func(c *record.Client) error {
				c.RedirectURIs = []string{"https://app.example/callback"}
				return nil
			})
		}, []string{"client.updated"}},
		{"change a secret", func() error {
			return s.UpdateClient(ctx, "c1", func(c *record.Client) error { c.Secrets = []string{"another"}; return nil })
		}, []string{"client.secret_changed"}},
		{"grant", func() (err error) {
			grant, err = s.UpdateGrant(ctx, "u1", "c1", func(g *record.Grant) error {
				g.Scope, g.CreatedAt, g.UpdatedAt = oauth.Scope{"openid"}, noon, noon
				return nil
			})
			return err
		}, []string{"consent.granted"}},
		{"grant the same", func() error {
			_, err := s.UpdateGrant(ctx, "u1", "c1", func(g *record.Grant) error { g.UpdatedAt = noon.Add(time.Hour); return nil })
			return err
		}, nil},
		{"revoke", func() error { return s.DeleteGrant(ctx, grant.ID) }, []string{"consent.revoked"}},
		{"revoke again", func() error { return s.DeleteGrant(ctx, grant.ID) }, nil},
		{"create a key", func() error {
			return s.UpdateKeys(ctx, func([]record.Key) ([]record.Key, error) { return []record.Key{newKey(t, "k1")}, nil })
		}, []string{"signing_key.created"}},
		{"keep the keys", func() error {
			return s.UpdateKeys(ctx, func(keys []record.Key) ([]record.Key, error) { return keys, nil })
		}, nil},
		{"retire a key", func() error {
			return s.UpdateKeys(ctx, func(keys []record.Key) ([]record.Key, error) {
				keys[0].PublishedUntil = noon.Add(time.Hour)
				return keys, nil
			})
		}, []string{"signing_key.updated"}},
		{"remove a key", func() error {
			return s.UpdateKeys(ctx, func([]record.Key) ([]record.Key, error) { return nil, nil })
		}, []string{"signing_key.removed"}},
		{"declare", func() error {
			return s.Declare(ctx, noon, "file", declaration.Declaration{
				Clients: []record.Client{{ID: "d1"}}, Scopes: []record.Scope{{Name: "read"}}, Resources: []record.Resource{{Identifier: "https://api.example"}},
			})
		}, []string{"client.created", "declarations.applied", "resource.created", "scope.created"}},
		{"declare the same", func() error {
			return s.Declare(ctx, noon, "file", declaration.Declaration{
				Clients: []record.Client{{ID: "d1"}}, Scopes: []record.Scope{{Name: "read"}}, Resources: []record.Resource{{Identifier: "https://api.example"}},
			})
		}, nil},
		{"declare less", func() error {
			return s.Declare(ctx, noon, "file", declaration.Declaration{Clients: []record.Client{{ID: "d1"}}})
		}, []string{"declarations.applied", "resource.retired", "scope.retired"}},
		{"remove what is retired", func() error {
			_, err := s.RemoveRetired(ctx, noon.Add(time.Hour))
			return err
		}, []string{"resource.deleted", "scope.deleted"}},
		{"grant again", func() error {
			_, err := s.UpdateGrant(ctx, "u1", "c1", func(g *record.Grant) error { g.Scope, g.CreatedAt = oauth.Scope{"openid"}, noon; return nil })
			return err
		}, []string{"consent.granted"}},
		{"delete a user", func() error { return s.DeleteUser(ctx, "u1") }, []string{"consent.revoked", "user.deleted"}},
		{"delete a user again", func() error { return s.DeleteUser(ctx, "u1") }, nil},
		{"delete a client", func() error { return s.DeleteClient(ctx, "c1") }, []string{"client.deleted"}},
		{"delete a client again", func() error { return s.DeleteClient(ctx, "c1") }, nil},
	} {
		want(t, step.name, step.change(), nil)
		found := log.next(t)
		events := eventsOf(found)
		slices.Sort(events)
		if !slices.Equal(events, step.events) {
			t.Errorf("%s: records %q, want %q", step.name, events, step.events)
		}
		for _, r := range found {
			if r.Actor != alice {
				t.Errorf("%s: the actor of %s is %+v", step.name, r.Event, r.Actor)
			}
			if audit.EventByName(r.Event) == nil {
				t.Errorf("%s: the event %s is not in the table", step.name, r.Event)
			}
			if time.Since(r.Time) > time.Hour || len(r.ID) != 32 {
				t.Errorf("%s: ID %q, time %v", step.name, r.ID, r.Time)
			}
			switch step.name {
			case "change the email address":
				if b, a := string(r.Before["claims"]), string(r.After["claims"]); b != `{"email":"bob@example.com"}` || a != `{"email":"robert@example.com"}` || len(r.Before)+len(r.After) != 2 {
					t.Errorf("before %s, after %s", r.Before, r.After)
				}
			case "an event that the caller names":
				if r.Details["by"] != "mail" || string(r.After["password"]) != audit.NewSecret || r.Subject != "u1" {
					t.Errorf("record %+v", r)
				}
			}
		}
	}
}

func auditFailures(t *testing.T, s Database) {
	ctx := audit.WithActor(t.Context(), alice)
	log := &auditReader{s: s}
	failed := errors.New("refused")
	want(t, "CreateUser", s.CreateUser(ctx, &identity.User{ID: "u1", Username: "bob"}), nil)
	want(t, "RegisterClient", s.RegisterClient(ctx, registered("c1", noon), 10), nil)
	log.next(t)
	want(t, "CreateUser again", s.CreateUser(ctx, &identity.User{ID: "u1", Username: "bob"}), storage.ErrExists)
	want(t, "CreateUser with a taken name", s.CreateUser(ctx, &identity.User{ID: "u2", Username: "bob"}), identity.ErrIdentifierTaken)
	want(t, "UpdateUser", s.UpdateUser(ctx, "u1", func(u *identity.User) error { u.Disabled = true; return failed }), failed)
	want(t, "UpdateClient", s.UpdateClient(ctx, "c1", func(c *record.Client) error { c.Disabled = true; return failed }), failed)
	want(t, "RegisterClient again", s.RegisterClient(ctx, registered("c1", noon), 10), storage.ErrExists)
	want(t, "UpdateKeys", s.UpdateKeys(ctx, func([]record.Key) ([]record.Key, error) { return nil, failed }), failed)
	_, err := s.UpdateGrant(ctx, "u1", "c1", func(g *record.Grant) error { g.Scope = oauth.Scope{"openid"}; return failed })
	want(t, "UpdateGrant", err, failed)
	if found := log.next(t); len(found) > 0 {
		t.Errorf("changes that failed wrote %q", eventsOf(found))
	}
}

func auditSecrets(t *testing.T, s Database) {
	ctx := t.Context()
	const secret = "hunter2"
	user := &identity.User{
		ID: "u1", Username: "bob", PasswordHash: "hash of " + secret, DeclaredPassword: "declared " + secret, UserCodeHash: "code " + secret,
		Authenticators: []identity.Authenticator{
			{ID: "a1", Kind: identity.MethodTOTP, TOTP: &identity.TOTP{Secret: []byte(secret)}},
			{ID: "a2", Kind: identity.MethodRecoveryCode, RecoveryCodes: &identity.RecoveryCodes{Hashes: [][]byte{[]byte(secret)}}},
		},
	}
	want(t, "CreateUser", s.CreateUser(ctx, user), nil)
	want(t, "UpdateUser", s.UpdateUser(ctx, "u1", func(u *identity.User) error {
		u.PasswordHash, u.DeclaredPassword, u.UserCodeHash = "new "+secret, "newer "+secret, "newest "+secret
		u.Authenticators = u.Authenticators[:1]
		return nil
	}), nil)
	client := registered("c1", noon)
	client.Secrets, client.Registration.TokenHash = []string{secret}, []byte(secret)
	client.Registration.SoftwareStatement = secret
	client.JWKS = []byte(`{"keys":[{"kty":"oct","k":"` + secret + `"}]}`)
	want(t, "RegisterClient", s.RegisterClient(ctx, client, 10), nil)
	want(t, "UpdateClient", s.UpdateClient(ctx, "c1", func(c *record.Client) error {
		c.Secrets, c.Registration.TokenHash = []string{secret, secret + secret}, []byte(secret+secret)
		return nil
	}), nil)
	want(t, "DeleteClient", s.DeleteClient(ctx, "c1"), nil)
	want(t, "DeleteUser", s.DeleteUser(ctx, "u1"), nil)
	found := (&auditReader{s: s}).next(t)
	if len(found) != 6 {
		t.Errorf("records %q", eventsOf(found))
	}
	for _, r := range found {
		for _, form := range []string{secret, "aHVudGVyMg"} { // as it is, and in base64
			if strings.Contains(r.Text, form) {
				t.Errorf("%s contains a secret: %s", r.Event, r.Text)
			}
		}
	}
}

func auditTickets(t *testing.T, s Database) {
	ctx := audit.WithRecord(audit.WithActor(t.Context(), alice), audit.Record{Event: "session.ended", Subject: "u1", Object: audit.Object{Kind: audit.ObjectSession, ID: "s1"}})
	log := &auditReader{s: s}
	a, b := ticket(codes, "a"), ticket(codes, "b")
	a.Family, b.Family = "family", "family"
	for _, step := range []struct {
		name   string
		change func() error
		err    error
		events int
	}{
		{"put", func() error { return s.Put(ctx, noon, a) }, nil, 1},
		{"put again", func() error { return s.Put(ctx, noon, a) }, storage.ErrExists, 0},
		{"put without a record", func() error { return s.Put(t.Context(), noon, b) }, nil, 0},
		{"spend", func() error { return s.Spend(ctx, noon, []storage.Key{a.Key}) }, nil, 1},
		{"spend again", func() error { return s.Spend(ctx, noon, []storage.Key{a.Key}) }, storage.ErrSpent, 0},
		{"spend one of two", func() error { return s.Spend(ctx, noon, []storage.Key{a.Key, b.Key}) }, storage.ErrSpent, 0},
		{"delete", func() error { return s.Delete(ctx, a.Key) }, nil, 1},
		{"delete again", func() error { return s.Delete(ctx, a.Key) }, nil, 0},
		{"delete a family", func() error { return s.DeleteFamily(ctx, "family") }, nil, 1},
		{"delete it again", func() error { return s.DeleteFamily(ctx, "family") }, nil, 0},
	} {
		want(t, step.name, step.change(), step.err)
		found := log.next(t)
		if len(found) != step.events {
			t.Errorf("%s: records %q, want %d", step.name, eventsOf(found), step.events)
		}
		for _, r := range found {
			if r.Event != "session.ended" || r.Subject != "u1" || r.Object.ID != "s1" || r.Actor != alice {
				t.Errorf("%s: record %+v", step.name, r)
			}
		}
	}
}

func raceAuditTickets(t *testing.T, s Database) {
	log := &auditReader{s: s}
	for round := range rounds(10) {
		a := ticket(codes, fmt.Sprint("race ", round))
		a.Family = fmt.Sprint("family ", round)
		put(t, s, a)
		grant := must(s.UpdateGrant(t.Context(), fmt.Sprint("u", round), "c", func(g *record.Grant) error { g.Scope, g.CreatedAt = oauth.Scope{"openid"}, noon; return nil }))(t)
		log.next(t)
		ctx := audit.WithRecord(t.Context(), audit.Record{Event: "token.revoked", ClientID: a.Family})
		errs := together(12, func(i int) error {
			switch i % 3 {
			case 0:
				return s.Delete(ctx, a.Key)
			case 1:
				return s.DeleteFamily(ctx, a.Family)
			default:
				return s.DeleteGrant(t.Context(), grant.ID)
			}
		})
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		events := eventsOf(log.next(t))
		slices.Sort(events)
		if !slices.Equal(events, []string{"consent.revoked", "token.revoked"}) {
			t.Errorf("records %q, want one of each change", events)
		}
	}
}

func auditFilters(t *testing.T, s Database) {
	ctx := t.Context()
	for i := range 30 {
		actor := audit.Actor{Kind: audit.KindOperator, ID: fmt.Sprint("operator ", i%3)}
		r := audit.Record{Event: []string{"user.updated", "user.created", "client.updated"}[i%3], Actor: actor, Subject: fmt.Sprint("u", i%5), ClientID: fmt.Sprint("c", i%2)}
		want(t, "WriteAudit", s.WriteAudit(ctx, r), nil)
	}
	count := func(f audit.Filter) int { return len(must(s.AuditRecords(ctx, f))(t)) }
	for _, c := range []struct {
		name   string
		filter audit.Filter
		want   int
	}{
		{"all", audit.Filter{}, 30},
		{"actor", audit.Filter{Actor: "operator 1"}, 10},
		{"subject", audit.Filter{Subject: "u4"}, 6},
		{"client", audit.Filter{ClientID: "c0"}, 15},
		{"event", audit.Filter{Event: "user.created"}, 10},
		{"events", audit.Filter{Event: "user.*"}, 20},
		{"an unknown event", audit.Filter{Event: "nothing.*"}, 0},
		{"several", audit.Filter{Event: "user.*", Subject: "u4", ClientID: "c0"}, 2},
		{"since an hour", audit.Filter{From: time.Now().Add(-time.Hour)}, 30},
		{"until an hour ago", audit.Filter{Until: time.Now().Add(-time.Hour)}, 0},
		{"from tomorrow", audit.Filter{From: time.Now().Add(24 * time.Hour)}, 0},
	} {
		if n := count(c.filter); n != c.want {
			t.Errorf("%s: %d records, want %d", c.name, n, c.want)
		}
	}
	for _, ascending := range []bool{false, true} {
		var ids []string
		filter := audit.Filter{Event: "user.*", Ascending: ascending, Limit: 7}
		for {
			page := must(s.AuditRecords(ctx, filter))(t)
			if len(page) == 0 {
				break
			}
			for _, r := range page {
				ids = append(ids, r.ID)
			}
			filter.After = page[len(page)-1].ID
		}
		sorted := slices.Clone(ids)
		slices.Sort(sorted)
		if !ascending {
			slices.Reverse(sorted)
		}
		if len(ids) != 20 || !slices.Equal(ids, sorted) || len(slices.Compact(sorted)) != 20 {
			t.Errorf("the pages have %d records, ascending: %v", len(ids), ascending)
		}
	}
}

func auditChain(t *testing.T, s Database) {
	ctx := t.Context()
	const writers, each = 4, 25
	errs := together(writers+2, func(i int) error {
		for range each {
			var err error
			if i < writers {
				err = s.WriteAudit(ctx, audit.Record{Event: "user.updated", Subject: fmt.Sprint("u", i)})
			} else {
				_, err = s.SealAudit(ctx)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	_, err := s.SealAudit(ctx)
	want(t, "SealAudit", err, nil)
	records := must(s.AuditSealed(ctx, 0, 1000))(t)
	if len(records) != writers*each {
		t.Errorf("%d records are in the chain, want %d", len(records), writers*each)
	}
	var hash []byte
	for i, r := range records {
		hash = audit.NextHash(hash, int64(i+1), false, r.Text)
		if r.Sequence != int64(i+1) || r.Foreign || !bytes.Equal(r.Hash, hash) {
			t.Fatalf("record %d has the sequence %d, foreign: %v, hash %x, want %x", i, r.Sequence, r.Foreign, r.Hash, hash)
		}
	}
	chain := must(s.AuditChain(ctx))(t)
	if chain.Sequence != writers*each || !bytes.Equal(chain.Hash, hash) {
		t.Errorf("the chain ends at %d with %x", chain.Sequence, chain.Hash)
	}
	if page := must(s.AuditSealed(ctx, 10, 5))(t); len(page) != 5 || page[0].Sequence != 11 {
		t.Errorf("AuditSealed(10, 5) returns %d records", len(page))
	}
}
