package storagetest

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

func newUser(id, username, email string) *identity.User {
	u := &identity.User{ID: id, Username: username, CreatedAt: noon, UpdatedAt: noon.Add(time.Second)}
	if email != "" {
		u.Claims = map[string]any{"email": email}
	}
	return u
}

// create stores new users.
func create(t *testing.T, s Database, users ...*identity.User) {
	t.Helper()
	for _, u := range users {
		want(t, "CreateUser", patiently(func() error { return s.CreateUser(t.Context(), u) }), nil)
	}
}

// update changes a user.
func update(t *testing.T, s Database, id string, change func(*identity.User)) {
	t.Helper()
	want(t, "UpdateUser", s.UpdateUser(t.Context(), id, func(u *identity.User) error {
		change(u)
		return nil
	}), nil)
}

func createUser(t *testing.T, s Database) {
	u := &identity.User{
		ID: "id-1", Username: "Alice", PasswordHash: "hash", UserCodeHash: "code", Disabled: true, Administrator: true, CreatedAt: noon, UpdatedAt: noon.Add(time.Hour),
		Claims:    map[string]any{"email": "alice@example.org", "email_verified": true, "updated_at": 1234.0, "address": map[string]any{"country": "CH"}},
		RetiredAt: noon.Add(2 * time.Hour), EndedAt: noon.Add(3 * time.Hour), Kept: []string{"a", "b"},
		Authenticators: []identity.Authenticator{{ID: "one", Kind: identity.MethodTOTP, Name: "Phone", CreatedAt: noon}},
	}
	create(t, s, u)
	wantEqual(t, "User", u, must(s.User(t.Context(), "id-1"))(t))
	wantEqual(t, "UserByIdentifier, username", u, must(s.UserByIdentifier(t.Context(), "alice"))(t))
	got := must(s.UserByIdentifier(t.Context(), "alice@example.org"))(t)
	wantEqual(t, "UserByIdentifier, email address", u, got)
	got.Claims["email"], got.Authenticators[0].Name = "x", "x"
	wantEqual(t, "User, after the caller changed its copy", u, must(s.User(t.Context(), "id-1"))(t))
	wantEqual(t, "UserValidity", u.Validity(), must(s.UserValidity(t.Context(), "id-1"))(t))
	want(t, "CreateUser again", s.CreateUser(t.Context(), newUser("id-1", "another", "")), storage.ErrExists)

	update(t, s, "id-1", func(got *identity.User) {
		wantEqual(t, "what update gets", u, got)
		got.Username, got.Claims["email"], got.UserCodeHash = "alicia", "alicia@example.org", "another code"
	})
	u.Username, u.Claims["email"], u.UserCodeHash = "alicia", "alicia@example.org", "another code"
	for _, name := range []string{"alicia", "alicia@example.org"} {
		wantEqual(t, "UserByIdentifier", u, must(s.UserByIdentifier(t.Context(), name))(t))
	}
	for _, old := range []string{"alice", "alice@example.org"} {
		_, err := s.UserByIdentifier(t.Context(), old)
		want(t, "UserByIdentifier, of an old name", err, storage.ErrNotFound)
	}
	create(t, s, newUser("id-2", "alice", ""))
	wantEqual(t, "UserValidity of an active user", identity.Validity{Active: true}, must(s.UserValidity(t.Context(), "id-2"))(t))
	update(t, s, "id-2", func(u *identity.User) { u.RetiredAt = noon })
	if must(s.UserValidity(t.Context(), "id-2"))(t).Active {
		t.Error("UserValidity says that a retired user is active")
	}
	_, err := s.UserValidity(t.Context(), "id-3")
	want(t, "UserValidity of a user that does not exist", err, storage.ErrNotFound)
}

func updateUser(t *testing.T, s Database) {
	u := newUser("a", "alice", "alice@example.org")
	create(t, s, u)
	refused := errors.New("refused")
	want(t, "UpdateUser", s.UpdateUser(t.Context(), "a", func(u *identity.User) error {
		u.Username, u.Disabled, u.Claims["email"] = "bob", true, "bob@example.org"
		return refused
	}), refused)
	if err := s.UpdateUser(t.Context(), "a", func(u *identity.User) error {
		u.ID = "b"
		return nil
	}); err == nil {
		t.Error("UpdateUser changes an ID")
	}
	wantEqual(t, "User", u, must(s.User(t.Context(), "a"))(t))
	want(t, "UpdateUser of a user that does not exist", s.UpdateUser(t.Context(), "b", func(*identity.User) error { return nil }), storage.ErrNotFound)
}

func raceUpdateUser(t *testing.T, s Database) {
	u := newUser("a", "alice", "")
	u.Claims = map[string]any{}
	create(t, s, u)
	n := rounds(20)
	for _, err := range together(n, func(i int) error {
		return s.UpdateUser(t.Context(), "a", func(u *identity.User) error {
			u.Claims[fmt.Sprint("claim", i)] = true
			return nil
		})
	}) {
		want(t, "UpdateUser", err, nil)
	}
	wantEqual(t, "number of stored changes", n, len(must(s.User(t.Context(), "a"))(t).Claims))
}

// raceAuthenticators adds authenticators at the same time, while the password hash is replaced.
func raceAuthenticators(t *testing.T, s Database) {
	create(t, s, newUser("a", "alice", ""))
	n := rounds(20)
	for _, err := range together(n, func(i int) error {
		return s.UpdateUser(t.Context(), "a", func(u *identity.User) error {
			if i%2 == 0 {
				u.PasswordHash = fmt.Sprint("hash", i)
				return nil
			}
			u.Authenticators = append(u.Authenticators, identity.Authenticator{ID: fmt.Sprint(i), Kind: identity.MethodTOTP, CreatedAt: noon})
			return nil
		})
	}) {
		want(t, "UpdateUser", err, nil)
	}
	wantEqual(t, "number of authenticators", n/2, len(must(s.User(t.Context(), "a"))(t).Authenticators))
	wantEqual(t, "authenticators of CachedUser", 0, len(must(s.CachedUser(t.Context(), "a"))(t).Authenticators))
	update(t, s, "a", func(u *identity.User) { u.Authenticators = nil })
	err := s.UpdateUser(t.Context(), "a", func(u *identity.User) error {
		u.Authenticators = make([]identity.Authenticator, 1000)
		return nil
	})
	want(t, "UpdateUser with too many authenticators", err, identity.ErrTooManyAuthenticators)
	wantEqual(t, "authenticators after that", 0, len(must(s.User(t.Context(), "a"))(t).Authenticators))
}

// declaredAuthenticators checks that declarations keep authenticators, and that an adopted account loses
// those of its former owner.
func declaredAuthenticators(t *testing.T, s Database) {
	ctx := t.Context()
	has := func(want int, when string) {
		t.Helper()
		wantEqual(t, "authenticators "+when, want, len(userNamed(t, s, "alice").Authenticators))
	}
	one := []identity.Authenticator{{ID: "one", Kind: identity.MethodTOTP, CreatedAt: noon}}
	input := declaration.Input{Source: "file", Users: []declaration.User{{Username: "alice", Claims: map[string]any{"name": "Alice"}}}}
	reconcile(t, s, input)
	update(t, s, userNamed(t, s, "alice").ID, func(u *identity.User) { u.Authenticators = one })
	input.Users[0].Claims = map[string]any{"name": "Alicia"}
	reconcile(t, s, input)
	has(1, "after another declaration")
	reconcile(t, s, declaration.Input{Source: "file"})
	has(1, "of the retired user")
	reconcile(t, s, input)
	has(1, "of the user who returns")

	eve := signedUp("eve", "admin", "eve@example.org")
	eve.Authenticators = one
	create(t, s, eve)
	reconcile(t, s, declaration.Input{Source: "other", Users: []declaration.User{{Username: "admin", Adopt: true}}})
	wantEqual(t, "authenticators of the adopted user", 0, len(must(s.User(ctx, "eve"))(t).Authenticators))
}

func cachedUserIsACopy(t *testing.T, s Database) {
	stored := func() *identity.User {
		return &identity.User{
			ID: "a", Username: "alice", PasswordHash: "hash", DeclaredPassword: "declared", UserCodeHash: "code", EndedAt: noon, Kept: []string{"kept"}, Origin: identity.OriginSignedUp,
			Claims: map[string]any{"email": "alice@example.org", "address": map[string]any{"country": "CH"}, "groups": []any{"a", map[string]any{"name": "b"}}},
		}
	}
	create(t, s, stored())
	expected := stored()
	expected.PasswordHash, expected.DeclaredPassword, expected.UserCodeHash = "", "", ""
	for range 3 {
		got := must(s.CachedUser(t.Context(), "a"))(t)
		wantEqual(t, "CachedUser", expected, got)
		got.Username, got.Disabled, got.Kept[0] = "mallory", true, "changed"
		got.Claims["address"].(map[string]any)["country"] = "changed"
		groups := got.Claims["groups"].([]any)
		groups[1].(map[string]any)["name"] = "changed"
		groups[0] = "changed"
		got.Claims["email"] = "changed"
		got.Claims["new"] = "changed"
		validity := must(s.UserValidity(t.Context(), "a"))(t)
		wantEqual(t, "UserValidity", expected.Validity(), validity)
		validity.Kept[0] = "changed"
	}
	wantEqual(t, "User", stored(), must(s.User(t.Context(), "a"))(t))
	create(t, s, newUser("no claims", "bob", ""))
	wantEqual(t, "claims of a user without claims", 0, len(must(s.CachedUser(t.Context(), "no claims"))(t).Claims))
}

func cachedUserSeesChanges(t *testing.T, s Database) {
	ctx := t.Context()
	check := func(after string) {
		t.Helper()
		user, err := s.User(ctx, "a")
		cached, cachedErr := s.CachedUser(ctx, "a")
		validity, validityErr := s.UserValidity(ctx, "a")
		want(t, "CachedUser after "+after, cachedErr, err)
		want(t, "UserValidity after "+after, validityErr, err)
		if err != nil {
			return
		}
		user.PasswordHash, user.DeclaredPassword, user.UserCodeHash = "", "", ""
		wantEqual(t, "CachedUser after "+after, user, cached)
		wantEqual(t, "UserValidity after "+after, user.Validity(), validity)
	}
	declared := func(name string) declaration.Declaration {
		user := newUser("a", "alice", "")
		user.Claims = map[string]any{"name": name}
		return declaration.Declaration{Users: []identity.User{*user}}
	}
	check("nothing")
	create(t, s, newUser("a", "alice", "alice@example.org"))
	check("CreateUser")
	update(t, s, "a", func(u *identity.User) { u.Username, u.Claims = "alicia", map[string]any{"name": "Alicia"} })
	check("a change of the name")
	update(t, s, "a", func(u *identity.User) { u.Disabled = true })
	check("disabling")
	update(t, s, "a", func(u *identity.User) { u.Disabled = false })
	check("enabling")
	update(t, s, "a", func(u *identity.User) { u.End(time.Now(), nil) })
	check("the end of all access")
	want(t, "DeleteUser", s.DeleteUser(ctx, "a"), nil)
	check("DeleteUser")
	want(t, "Declare", s.Declare(ctx, noon, "file", declared("one")), nil)
	check("Declare")
	want(t, "Declare", s.Declare(ctx, noon, "file", declared("two")), nil)
	check("another Declare")
	want(t, "Declare", s.Declare(ctx, noon, "file", declaration.Declaration{}), nil)
	check("retirement")
	must(s.RemoveRetired(ctx, noon.Add(time.Hour)))(t)
	check("RemoveRetired")
}

// raceCachedUser numbers the changes of a user. A reader that begins after a change has returned
// must not get an earlier number.
func raceCachedUser(t *testing.T, s Database) {
	create(t, s, newUser("a", "alice", ""))
	update(t, s, "a", func(u *identity.User) { u.Claims = map[string]any{"number": 0.0} })
	readers := 4
	if raceDetector {
		readers = 2 // they never pause, and the writer needs a processor, too
	}
	var returned atomic.Int64
	done := make(chan struct{})
	for i, err := range together(1+readers, func(i int) error {
		if i == 0 {
			defer close(done)
			for n := range rounds(200) {
				err := patiently(func() error {
					return s.UpdateUser(t.Context(), "a", func(u *identity.User) error {
						u.Claims["number"] = float64(n + 1)
						return nil
					})
				})
				if err != nil {
					return err
				}
				returned.Store(int64(n + 1))
			}
			return nil
		}
		for {
			select {
			case <-done:
				return nil
			default:
			}
			least := returned.Load()
			var user *identity.User
			err := patiently(func() (err error) {
				user, err = s.CachedUser(t.Context(), "a")
				return err
			})
			if err != nil {
				return err
			}
			if number := int64(user.Claims["number"].(float64)); number < least {
				return fmt.Errorf("CachedUser returns change %d after %d", number, least)
			}
		}
	}) {
		want(t, fmt.Sprint("caller ", i), err, nil)
	}
}

func identifierTaken(t *testing.T, s Database) {
	alice, bob := newUser("1", "alice", "shared@example.org"), newUser("2", "bob", "bob@example.org")
	create(t, s, alice, bob)
	for name, u := range map[string]*identity.User{
		"a username that is taken":                        newUser("3", "ALICE", ""),
		"an email address that is taken":                  newUser("3", "carol", "Shared@Example.org"),
		"a username that is another user's email address": newUser("3", "bob@example.org", ""),
	} {
		want(t, name, s.CreateUser(t.Context(), u), identity.ErrIdentifierTaken)
	}
	want(t, "a change to another user's name", s.UpdateUser(t.Context(), "2", func(u *identity.User) error {
		u.Username, u.Disabled = "alice", true
		return nil
	}), identity.ErrIdentifierTaken)
	_, err := s.User(t.Context(), "3")
	want(t, "User who was not stored", err, storage.ErrNotFound)
	wantEqual(t, "User who was not changed", bob, must(s.User(t.Context(), "2"))(t))
	wantEqual(t, "who has the name", bob, must(s.UserByIdentifier(t.Context(), "bob"))(t))
}

func raceIdentifier(t *testing.T, s Database) {
	for round := range rounds(10) {
		name := fmt.Sprint("name", round)
		wantOne(t, together(20, func(i int) error {
			return s.CreateUser(t.Context(), newUser(fmt.Sprint(round, "-", i), name, ""))
		}), identity.ErrIdentifierTaken)
	}
}

func deleteUser(t *testing.T, s Database) {
	alice, bob := newUser("a", "alice", ""), newUser("b", "bob", "")
	create(t, s, alice, bob)
	for _, u := range []*identity.User{alice, bob} {
		put(t, s, inFamily(identity.SessionFamily(u.ID), ticket(sessions, u.ID)), ofGrant(grant(t, s, u.ID, "c").ID, ticket(refresh, u.ID)))
		for _, family := range identity.AccountFamilies(u.ID) {
			put(t, s, inFamily(family, ticket("kept", family)))
		}
	}
	update(t, s, "a", func(u *identity.User) { u.End(noon, nil) })
	wantLive(t, s, noon, storage.Kind("kept").Hash(identity.AccountFamilies("a")[0]), true)
	put(t, s, inFamily(identity.SessionFamily("a"), ticket(sessions, "a")))
	want(t, "DeleteUser", s.DeleteUser(t.Context(), "a"), nil)
	_, err := s.User(t.Context(), "a")
	want(t, "User", err, storage.ErrNotFound)
	_, err = s.UserByIdentifier(t.Context(), "alice")
	want(t, "UserByIdentifier", err, storage.ErrNotFound)
	_, err = s.Grant(t.Context(), "a", "c")
	want(t, "Grant", err, storage.ErrNotFound)
	for id, stays := range map[string]bool{"a": false, "b": true} {
		wantLive(t, s, noon, sessions.Hash(id), stays)
		wantLive(t, s, noon, refresh.Hash(id), stays)
		for _, family := range identity.AccountFamilies(id) {
			wantLive(t, s, noon, storage.Kind("kept").Hash(family), stays)
		}
	}
	create(t, s, newUser("a2", "alice", ""))
	wantEqual(t, "grants of the new user", nil, must(s.GrantsOf(t.Context(), "a2"))(t))
	want(t, "DeleteUser of a user that does not exist", s.DeleteUser(t.Context(), "a"), nil)
}

// endedNotes checks that a session that continues another one also leaves a note.
func endedNotes(t *testing.T, s Database) {
	accounts := must(identity.New(identity.Config{Store: s, Logger: slog.New(slog.DiscardHandler)}))(t)
	alice, bob, carol := newUser("a", "alice", ""), newUser("b", "bob", ""), newUser("c", "carol", "")
	sid := map[string]string{}
	for _, u := range []*identity.User{alice, bob, carol} {
		create(t, s, u)
		_, first, err := accounts.StartSession(t.Context(), noon, u, identity.SessionDetails{}, nil)
		want(t, "StartSession", err, nil)
		_, second, err := accounts.StartSession(t.Context(), noon, u, identity.SessionDetails{}, first)
		want(t, "StartSession", err, nil)
		sid[u.ID] = second.ID
	}
	want(t, "DeleteUser", s.DeleteUser(t.Context(), "a"), nil)
	update(t, s, "b", func(u *identity.User) { u.Disabled = true })
	update(t, s, "b", func(*identity.User) {})
	update(t, s, "c", func(*identity.User) {})
	ended := map[string]string{}
	for _, e := range must(accounts.EndedSessions(t.Context(), noon, 10))(t) {
		ended[e.UserID] = e.Names[0]
	}
	wantEqual(t, "EndedSessions", map[string]string{"a": sid["a"], "b": sid["b"]}, ended)
	update(t, s, "b", func(u *identity.User) { u.Disabled = false })
	wantEqual(t, "sessions of the disabled user", 0, len(must(accounts.Sessions(t.Context(), noon, "b"))(t)))
	wantEqual(t, "sessions of another user", 1, len(must(accounts.Sessions(t.Context(), noon, "c"))(t)))
}

func usersList(t *testing.T, s Database) {
	for _, id := range []string{"c", "a", "d", "b"} {
		create(t, s, newUser(id, "name-"+id, ""))
	}
	ids := func(users []identity.User) (ids string) {
		for _, u := range users {
			ids += u.ID
		}
		return ids
	}
	wantEqual(t, "Users from the start", "ab", ids(must(s.Users(t.Context(), "", 2))(t)))
	wantEqual(t, "Users after b", "cd", ids(must(s.Users(t.Context(), "b", 10))(t)))
	wantEqual(t, "Users after d", "", ids(must(s.Users(t.Context(), "d", 10))(t)))
}

func hasAdministrator(t *testing.T, s Database) {
	check := func(what string, want bool) {
		t.Helper()
		wantEqual(t, what, want, must(s.HasAdministrator(t.Context(), ""))(t))
	}
	check("an empty store", false)
	u := newUser("a", "alice", "")
	u.Administrator, u.Disabled = true, true
	create(t, s, u)
	check("a disabled user", false)
	update(t, s, "a", func(u *identity.User) { u.Disabled, u.RetiredAt = false, noon })
	check("a retired user", false)
	update(t, s, "a", func(u *identity.User) { u.RetiredAt = time.Time{} })
	check("an active user", true)
}

func declaredNames(t *testing.T, s Database) (names string) {
	t.Helper()
	d := must(s.Declared(t.Context()))(t)
	for _, c := range d.Clients {
		names += "client " + c.ID + ", "
	}
	for _, r := range d.Resources {
		names += "resource " + r.Identifier + ", "
	}
	for _, scope := range d.Scopes {
		names += "scope " + scope.Name + ", "
	}
	for _, u := range d.Users {
		names += "user " + u.Username + ", "
	}
	return names
}

func declarationOf(name string) declaration.Declaration {
	return declaration.Declaration{
		Clients:   []record.Client{{ID: name, Secrets: []string{"secret"}}},
		Resources: []record.Resource{{Identifier: "https://" + name, Scopes: []string{name}}},
		Scopes:    []record.Scope{{Name: name, Claims: []string{"email"}}},
		Users:     []identity.User{{Username: name}},
	}
}

func declare(t *testing.T, s Database) {
	d := declarationOf("one")
	want(t, "Declare", s.Declare(t.Context(), noon, "", d), nil)
	got := must(s.Declared(t.Context()))(t)
	u := &got.Users[0]
	if u.ID == "" || !u.CreatedAt.Equal(noon) || !u.UpdatedAt.Equal(noon) {
		t.Errorf("a declared user has no ID or times: %+v", u)
	}
	d.Users[0].ID, d.Users[0].CreatedAt, d.Users[0].UpdatedAt, d.Users[0].Origin = u.ID, noon, noon, identity.OriginDeclared
	wantEqual(t, "Declared", d, got)
	wantEqual(t, "Scopes", d.Scopes, must(s.Scopes(t.Context()))(t))
	wantEqual(t, "Resources", d.Resources, must(s.Resources(t.Context()))(t))

	want(t, "Declare", s.Declare(t.Context(), noon.Add(time.Hour), "", d), nil)
	wantEqual(t, "Declared, after the same declaration", d, must(s.Declared(t.Context()))(t))

	d.Clients[0].Secrets, d.Clients[0].ClientName, d.Scopes[0].Optional, d.Resources[0].AccessTokenFormat = []string{"new"}, "One", true, "opaque"
	d.Users[0].Administrator, d.Users[0].UpdatedAt = true, noon.Add(2*time.Hour)
	want(t, "Declare", s.Declare(t.Context(), noon.Add(2*time.Hour), "", d), nil)
	got = must(s.Declared(t.Context()))(t)
	// The access of whoever could control the account before has ended. A store that ends it a second
	// time uses its own clock.
	if d.Users[0].EndedAt = got.Users[0].EndedAt; d.Users[0].EndedAt.IsZero() {
		t.Error("the access of a user who becomes an administrator has not ended")
	}
	wantEqual(t, "Declared, after a change", d, got)
}

func declareFails(t *testing.T, s Database) {
	ctx := t.Context()
	create(t, s, newUser("a", "alice", "alice@example.org"))
	want(t, "Declare", s.Declare(ctx, noon, "file", declarationOf("file")), nil)
	before, names := version(t, s), declaredNames(t, s)

	taken := declarationOf("new")
	taken.Users = append(taken.Users, identity.User{Username: "bob", Claims: map[string]any{"email": "alice@example.org"}})
	want(t, "Declare with another user's email address", s.Declare(ctx, noon, "file", taken), identity.ErrIdentifierTaken)
	taken.Users[1] = identity.User{Username: "alice@example.org"}
	want(t, "Declare with another user's email address as username", s.Declare(ctx, noon, "file", taken), identity.ErrIdentifierTaken)
	for name, d := range map[string]declaration.Declaration{
		"a name twice":     {Scopes: []record.Scope{{Name: "s"}, {Name: "s"}}},
		"no name":          {Clients: []record.Client{{}}},
		"a username twice": {Users: []identity.User{{Username: "x"}, {Username: "X"}}},
		"a bad username":   {Users: []identity.User{{Username: "a b"}}},
		"a bad hash":       {Users: []identity.User{{Username: "x", PasswordHash: "plain"}}},
		"metadata that is not valid JSON": {Clients: []record.Client{func() record.Client {
			c := record.Client{ID: "c"}
			c.JWKS = []byte("{")
			return c
		}()}},
	} {
		if err := s.Declare(ctx, noon, "file", d); err == nil {
			t.Errorf("Declare with %s: no error", name)
		}
	}
	wantEqual(t, "Declared", names, declaredNames(t, s))
	wantEqual(t, "Version", before, version(t, s))
}

func link(id, issuer, subject string) identity.ExternalLink {
	return identity.ExternalLink{
		ID: id, Provider: "corp", Issuer: issuer, Subject: subject, Email: "alice@corp.example", Claims: map[string]any{"name": "Alice"},
		Groups: []string{"staff"}, LinkedAt: noon, LastUsedAt: noon.Add(time.Hour),
	}
}

func externalUsers(t *testing.T, s Database) {
	u := newUser("a", "alice", "")
	u.External = []identity.ExternalLink{link("1", "https://corp.example", "42"), link("2", "https://other.example", "42")}
	create(t, s, u)
	for _, l := range u.External {
		wantEqual(t, "UserByExternal", u, must(s.UserByExternal(t.Context(), l.Issuer, l.Subject))(t))
	}
	cached := must(s.CachedUser(t.Context(), "a"))(t)
	wantEqual(t, "links of CachedUser", u.External, cached.External)
	cached.External[0].Claims["name"], cached.External[0].Groups[0] = "changed", "changed"
	wantEqual(t, "links of CachedUser, after the caller changed its copy", u.External, must(s.CachedUser(t.Context(), "a"))(t).External)
	for _, key := range [][2]string{{"https://corp.example", "43"}, {"42", "https://corp.example"}, {"", "42"}, {"https://corp.example", ""}, {"https://corp.example\x00", "42"}} {
		_, err := s.UserByExternal(t.Context(), key[0], key[1])
		want(t, "UserByExternal of another", err, storage.ErrNotFound)
	}
	bob := newUser("b", "bob", "")
	bob.External = []identity.ExternalLink{link("3", "https://corp.example", "42")}
	want(t, "CreateUser with a link of another user", s.CreateUser(t.Context(), bob), identity.ErrExternalTaken)
	_, err := s.User(t.Context(), "b")
	want(t, "User after CreateUser failed", err, storage.ErrNotFound)
	bob.External = nil
	create(t, s, bob)
	want(t, "UpdateUser with a link of another user", s.UpdateUser(t.Context(), "b", func(u *identity.User) error {
		u.External = []identity.ExternalLink{link("3", "https://corp.example", "42")}
		return nil
	}), identity.ErrExternalTaken)
	wantEqual(t, "links after UpdateUser failed", 0, len(must(s.User(t.Context(), "b"))(t).External))
	update(t, s, "a", func(u *identity.User) { u.External = u.External[1:] })
	_, err = s.UserByExternal(t.Context(), "https://corp.example", "42")
	want(t, "UserByExternal of a removed link", err, storage.ErrNotFound)
	update(t, s, "b", func(u *identity.User) { u.External = []identity.ExternalLink{link("3", "https://corp.example", "42")} })
	wantEqual(t, "UserByExternal of a moved link", "b", must(s.UserByExternal(t.Context(), "https://corp.example", "42"))(t).ID)
	want(t, "DeleteUser", s.DeleteUser(t.Context(), "b"), nil)
	_, err = s.UserByExternal(t.Context(), "https://corp.example", "42")
	want(t, "UserByExternal of a deleted user", err, storage.ErrNotFound)
	if err := s.UpdateUser(t.Context(), "a", func(u *identity.User) error {
		for i := range 100 {
			u.External = append(u.External, link(fmt.Sprint(i), "https://corp.example", fmt.Sprint(i)))
		}
		return nil
	}); !errors.Is(err, identity.ErrTooManyLinks) {
		t.Errorf("100 links: %v", err)
	}
}

func raceExternalUsers(t *testing.T, s Database) {
	for round := range rounds(10) {
		subject := fmt.Sprint("subject ", round)
		create(t, s, newUser(fmt.Sprint("linking ", round), fmt.Sprint("linking-", round), ""))
		errs := together(4, func(i int) error {
			l := link("1", "https://corp.example", subject)
			if i == 0 {
				return s.UpdateUser(t.Context(), fmt.Sprint("linking ", round), func(u *identity.User) error {
					u.External = []identity.ExternalLink{l}
					return nil
				})
			}
			u := newUser(fmt.Sprint("new ", round, " ", i), fmt.Sprintf("new-%d-%d", round, i), "")
			u.External = []identity.ExternalLink{l}
			return s.CreateUser(t.Context(), u)
		})
		succeeded := 0
		for _, err := range errs {
			if err == nil {
				succeeded++
			} else {
				want(t, "the slower one", err, identity.ErrExternalTaken)
			}
		}
		wantEqual(t, "users with the link", 1, succeeded)
	}
}

func forgetUser(t *testing.T, s Database) {
	create(t, s, newUser("a", "alice", ""), newUser("b", "bob", ""))
	for _, id := range []string{"a", "b"} {
		must(s.UpdateGrant(t.Context(), id, "client", func(g *record.Grant) error { return nil }))(t)
	}
	refused := errors.New("refused")
	want(t, "UpdateUser", s.UpdateUser(t.Context(), "a", func(u *identity.User) error {
		u.Forget(noon)
		return refused
	}), refused)
	must(s.Grant(t.Context(), "a", "client"))(t)
	update(t, s, "a", func(u *identity.User) { u.Forget(noon) })
	_, err := s.Grant(t.Context(), "a", "client")
	want(t, "Grant of a user who was forgotten", err, storage.ErrNotFound)
	must(s.Grant(t.Context(), "b", "client"))(t)
	if must(s.User(t.Context(), "a"))(t).EndedAt.IsZero() {
		t.Error("nothing ended")
	}
}
