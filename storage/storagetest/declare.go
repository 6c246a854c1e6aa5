package storagetest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// reconcile applies an input and returns the changes, such as "retire user ada".
func reconcile(t *testing.T, s Database, in declaration.Input) (plan declaration.Plan, happened []string) {
	t.Helper()
	if in.Now.IsZero() {
		in.Now = noon
	}
	err := s.Reconcile(t.Context(), in.Now, in.Selection(), func(state *declaration.State) (*declaration.Plan, error) {
		plan = declaration.Reconcile(&in, state)
		return &plan, nil
	})
	want(t, "Reconcile", err, nil)
	for _, c := range plan.Changes {
		if c.Action == declaration.ActionNone {
			continue
		}
		happened = append(happened, c.Action+" "+c.Kind+" "+c.Name)
	}
	return plan, happened
}

func members(text string) (m declaration.Members) {
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		panic(err)
	}
	return m
}

func userNamed(t *testing.T, s Database, name string) *identity.User {
	t.Helper()
	return must(s.UserByIdentifier(t.Context(), name))(t)
}

func declareRetires(t *testing.T, s Database) {
	ctx := t.Context()
	want(t, "Declare", s.Declare(ctx, noon, "", declarationOf("hand")), nil)
	want(t, "Declare", s.Declare(ctx, noon, "other", declarationOf("other")), nil)
	want(t, "Declare", s.Declare(ctx, noon, "file", declarationOf("file")), nil)
	before := version(t, s)
	put(t, s, ofGrant(grant(t, s, "another", "file").ID, ticket(refresh, "a")))
	file := userNamed(t, s, "file")
	put(t, s, inFamily(identity.SessionFamily(file.ID), ticket(sessions, "a")))

	want(t, "Declare", s.Declare(ctx, noon.Add(time.Hour), "file", declarationOf("new")), nil)
	names := declaredNames(t, s)
	for _, name := range []string{"client ", "resource https://", "scope ", "user "} {
		for _, stays := range []string{"hand", "new", "other"} {
			if !strings.Contains(names, name+stays+", ") {
				t.Errorf("%s%s is no longer declared", name, stays)
			}
		}
		if strings.Contains(names, name+"file, ") {
			t.Errorf("%sfile is still declared", name)
		}
	}
	if version(t, s) <= before {
		t.Error("the version does not grow")
	}
	if u := userNamed(t, s, "file"); u.ID != file.ID || u.Active() || !u.RetiredAt.Equal(noon.Add(time.Hour)) {
		t.Errorf("the retired user is %+v", u)
	}
	if c := must(s.Client(ctx, "file"))(t); c.Active() {
		t.Error("the retired client is active")
	}
	wantEqual(t, "Scopes", 3, len(must(s.Scopes(ctx))(t)))
	wantEqual(t, "Resources", 3, len(must(s.Resources(ctx))(t)))
	wantLive(t, s, noon, refresh.Hash("a"), false)
	wantLive(t, s, noon, sessions.Hash("a"), false)

	want(t, "Declare", s.Declare(ctx, noon, "", declaration.Declaration{}), nil)
	if c := must(s.Client(ctx, "new"))(t); !c.Active() {
		t.Error("a declaration without a source retires something")
	}
	// A record that another source declares then belongs to that source.
	want(t, "Declare", s.Declare(ctx, noon, "other", declarationOf("new")), nil)
	want(t, "Declare", s.Declare(ctx, noon, "file", declaration.Declaration{}), nil)
	if !must(s.Client(ctx, "new"))(t).Active() || must(s.Client(ctx, "other"))(t).Active() {
		t.Error("a source retires the record of another one, or does not retire its own")
	}
}

const chosenHash = "$2b$04$abcdefghijklmnopqrstuuKkLVUdkCTAC5JGfXpqxu1OZ8qVKlN3y"

func declareRestores(t *testing.T, s Database) {
	ctx := t.Context()
	want(t, "Declare", s.Declare(ctx, noon, "file", declarationOf("file")), nil)
	user := userNamed(t, s, "file")
	want(t, "UpdateUser", s.UpdateUser(ctx, user.ID, func(u *identity.User) error { u.PasswordHash = chosenHash; return nil }), nil)
	consent := grant(t, s, user.ID, "file")
	scopes, resources := must(s.Scopes(ctx))(t), must(s.Resources(ctx))(t)
	want(t, "Declare nothing", s.Declare(ctx, noon, "file", declaration.Declaration{}), nil)
	wantEqual(t, "Scopes", 0, len(must(s.Scopes(ctx))(t)))

	in := declaration.Input{
		Source: "file", Clients: []declaration.Client{{ID: "file"}}, Users: []declaration.User{{Username: "file"}},
		Scopes: []declaration.Record{{Name: "file"}}, Resources: []declaration.Record{{Name: "https://file"}},
	}
	_, happened := reconcile(t, s, in)
	wantEqual(t, "what happened", []string{"restore client file", "restore scope file", "restore resource https://file", "restore user file"}, happened)
	back := userNamed(t, s, "file")
	if back.ID != user.ID || back.PasswordHash != chosenHash || !back.Active() {
		t.Errorf("the restored user is %+v", back)
	}
	wantEqual(t, "secrets of the client", []string{"secret"}, must(s.Client(ctx, "file"))(t).Secrets)
	wantEqual(t, "Scopes", scopes, must(s.Scopes(ctx))(t))
	wantEqual(t, "Resources", resources, must(s.Resources(ctx))(t))
	wantEqual(t, "consent", consent.ID, must(s.Grant(ctx, user.ID, "file"))(t).ID)
	_, happened = reconcile(t, s, in)
	wantEqual(t, "what happens the second time", nil, happened)

	// The source that restores a record owns it: the one that retired it must not retire it again.
	reconcile(t, s, declaration.Input{Source: "file"})
	reconcile(t, s, declaration.Input{Users: in.Users})
	reconcile(t, s, declaration.Input{Source: "file"})
	if !userNamed(t, s, "file").Active() {
		t.Error("a user who was restored by hand is retired again")
	}
}

func removeRetired(t *testing.T, s Database) {
	ctx := t.Context()
	want(t, "Declare", s.Declare(ctx, noon, "file", declarationOf("early")), nil)
	user := userNamed(t, s, "early")
	grant(t, s, user.ID, "early")
	want(t, "Declare", s.Declare(ctx, noon, "file", declarationOf("late")), nil)
	want(t, "Declare", s.Declare(ctx, noon.Add(2*time.Hour), "file", declarationOf("now")), nil)
	removed := must(s.RemoveRetired(ctx, noon.Add(time.Hour)))(t)
	var names []string
	for _, r := range removed {
		names = append(names, r.Kind+" "+r.Name)
	}
	slices.Sort(names)
	wantEqual(t, "removed", []string{"client early", "resource https://early", "scope early", "user early"}, names)
	_, err := s.User(ctx, user.ID)
	want(t, "User", err, storage.ErrNotFound)
	_, err = s.Grant(ctx, user.ID, "early")
	want(t, "Grant", err, storage.ErrNotFound)
	must(s.Client(ctx, "late"))(t)
	must(s.Client(ctx, "now"))(t)
	wantEqual(t, "removed again", 0, len(must(s.RemoveRetired(ctx, noon.Add(time.Hour)))(t)))

	// Prune does not wait.
	_, happened := reconcile(t, s, declaration.Input{Source: "file", Prune: true, Clients: []declaration.Client{{ID: "now"}}})
	slices.Sort(happened)
	wantEqual(t, "pruned", []string{"remove client late", "remove resource https://late", "remove resource https://now",
		"remove scope late", "remove scope now", "remove user late", "remove user now"}, happened)
	_, err = s.UserByIdentifier(ctx, "late")
	want(t, "the pruned user", err, storage.ErrNotFound)
	must(s.Client(ctx, "now"))(t)
}

func retiredNames(t *testing.T, s Database) {
	ctx := t.Context()
	ada := declaration.User{Username: "ada", Claims: map[string]any{"email": "ada@example.org"}}
	reconcile(t, s, declaration.Input{Source: "file", Users: []declaration.User{ada}})
	reconcile(t, s, declaration.Input{Source: "file"})
	for _, u := range []*identity.User{newUser("x", "ada", ""), newUser("x", "eve", "ada@example.org")} {
		want(t, "CreateUser with a name of a retired user", s.CreateUser(ctx, u), identity.ErrIdentifierTaken)
	}
	other := declaration.User{Username: "grace", Claims: map[string]any{"email": "ada@example.org"}}
	plan, happened := reconcile(t, s, declaration.Input{Source: "file", Users: []declaration.User{other}})
	wantEqual(t, "what happened", []string{"conflict user grace"}, happened)
	id := userNamed(t, s, "ada").ID
	if !strings.Contains(plan.Changes[0].Problem, "sub: "+id) {
		t.Errorf("the conflict does not say how to rename: %s", plan.Changes[0].Problem)
	}
	other.Subject = id
	reconcile(t, s, declaration.Input{Source: "file", Users: []declaration.User{other}})
	if u := userNamed(t, s, "grace"); u.ID != id || !u.Active() {
		t.Errorf("the renamed user is %+v", u)
	}
}

func olderVersions(t *testing.T, s Database) {
	at := func(digest string, modified time.Duration) *declaration.Version {
		return &declaration.Version{Digest: digest, Modified: noon.Add(modified)}
	}
	apply := func(scope string, v *declaration.Version, force bool) bool {
		t.Helper()
		plan, _ := reconcile(t, s, declaration.Input{Source: "file", Version: v, Force: force, Scopes: []declaration.Record{{Name: scope}}})
		return !plan.Older
	}
	for _, step := range []struct {
		what    string
		version *declaration.Version
		force   bool
		applies bool
	}{
		{"the first file", at("one", 0), false, true},
		{"the same file", at("one", 0), false, true},
		{"a newer one", at("two", time.Hour), false, true},
		{"the first again", at("one", 0), false, false},
		{"a copy of the first, made later", at("one", 5*time.Hour), false, false},
		{"an unknown one that was modified earlier", at("zero", -time.Hour), false, false},
		{"the first, on request", at("one", 0), true, true},
		{"the second, which was replaced", at("two", time.Hour), false, false},
		{"a third", at("three", 2*time.Hour), false, true},
		{"one without a time", &declaration.Version{Digest: "four"}, false, true},
	} {
		if got := apply(step.version.Digest, step.version, step.force); got != step.applies {
			t.Errorf("%s: applied %v", step.what, got)
		}
		scopes := must(s.Scopes(t.Context()))(t)
		if applied := scopes[0].Name == step.version.Digest; applied != step.applies || len(scopes) != 1 {
			t.Errorf("%s: the scopes are %v", step.what, scopes)
		}
	}
	plan, _ := reconcile(t, s, declaration.Input{Source: "other", Version: at("one", 0)})
	if plan.Older {
		t.Error("one source's file is older than another's")
	}
}

func takeOver(t *testing.T, s Database) {
	want(t, "Declare", s.Declare(t.Context(), noon, "file:a.yaml", declarationOf("kept")), nil)
	want(t, "Declare", s.Declare(t.Context(), noon, "file:b.yaml", declarationOf("other")), nil)
	in := declaration.Input{Source: "https://login.example.com", Formerly: "file:a.yaml", Version: &declaration.Version{Digest: "1"}, Users: []declaration.User{{Username: "kept"}}}
	_, happened := reconcile(t, s, in)
	slices.Sort(happened)
	wantEqual(t, "what happened", []string{"retire client kept", "retire resource https://kept", "retire scope kept"}, happened)
	in.Version, in.Users = &declaration.Version{Digest: "2"}, nil
	_, happened = reconcile(t, s, in)
	wantEqual(t, "what happens then", []string{"retire user kept"}, happened)
}

func reconcileMembers(t *testing.T, s Database) {
	ctx := t.Context()
	want(t, "Declare", s.Declare(ctx, noon, "", declaration.Declaration{
		Clients: []record.Client{{ID: "c", Secrets: []string{"secret"}, ClientMetadata: oauth.ClientMetadata{RedirectURIs: []string{"https://c/cb"}, ClientName: "C", JWKS: []byte(`{"keys":[]}`)}}},
		Scopes:  []record.Scope{{Name: "s", Description: "S", Optional: true}},
		Users:   []identity.User{{Username: "ada", Claims: map[string]any{"email": "ada@example.org", "email_verified": true, "name": "Ada", "x": 1.0, "y": 2.0}, Administrator: true}},
	}), nil)
	before := userNamed(t, s, "ada")
	disabled := true
	in := declaration.Input{
		Now:     noon.Add(time.Hour),
		Clients: []declaration.Client{{ID: "c", Members: members(`{"client_name": null, "skip_consent": true}`)}},
		Scopes:  []declaration.Record{{Name: "s", Members: members(`{"optional": false}`)}},
		Users:   []declaration.User{{Username: "ada", Disabled: &disabled, Claims: map[string]any{"x": nil}}},
	}
	reconcile(t, s, in)
	c := must(s.Client(ctx, "c"))(t)
	wantEqual(t, "Client", &record.Client{ID: "c", Secrets: []string{"secret"},
		ClientMetadata: oauth.ClientMetadata{RedirectURIs: []string{"https://c/cb"}, JWKS: []byte(`{"keys":[]}`)}, ClientSettings: record.ClientSettings{SkipConsent: true}}, c)
	wantEqual(t, "Scopes", []record.Scope{{Name: "s", Description: "S"}}, must(s.Scopes(ctx))(t))
	u := userNamed(t, s, "ada")
	wantEqual(t, "claims", map[string]any{"email": "ada@example.org", "email_verified": true, "name": "Ada", "y": 2.0}, u.Claims)
	if !u.Disabled || !u.Administrator || u.ID != before.ID || u.PasswordHash != before.PasswordHash {
		t.Errorf("the user is %+v", u)
	}
	// A new address is not verified.
	in.Users[0].Claims = map[string]any{"email": "king@example.org"}
	reconcile(t, s, in)
	if u := userNamed(t, s, "king@example.org"); u.Claims["email_verified"] != nil {
		t.Error("a new address that was not verified is stored as verified")
	}
	// A member that the source no longer names keeps its value, and is reported.
	in = declaration.Input{Source: "file", Clients: []declaration.Client{{ID: "c", Members: members(`{"skip_consent": true, "client_name": "C"}`)}}}
	reconcile(t, s, in)
	in.Clients[0].Members = members(`{"client_name": "C"}`)
	for range 2 {
		plan, happened := reconcile(t, s, in)
		if len(happened) != 0 || len(plan.Changes) != 1 || !slices.Equal(plan.Changes[0].NotNamed, []string{"skip_consent"}) || plan.Changes[0].Happens() {
			t.Errorf("a member that is no longer named: %+v", plan.Changes)
		}
		if !must(s.Client(ctx, "c"))(t).SkipConsent {
			t.Error("a member that is not named changes")
		}
	}
	in.Clients[0].Members = members(`{"client_name": "C", "skip_consent": null}`)
	if _, happened := reconcile(t, s, in); !slices.Equal(happened, []string{"change client c"}) {
		t.Errorf("null: %v", happened)
	}
}

func signedUp(id, username, email string) *identity.User {
	u := newUser(id, username, email)
	u.Origin, u.PasswordHash, u.UserCodeHash, u.Claims = identity.OriginSignedUp, "a stranger's", "a stranger's code", map[string]any{"email": email, "email_verified": false, "name": "Eve"}
	return u
}

func adoptUser(t *testing.T, s Database) {
	ctx := t.Context()
	create(t, s, signedUp("eve", "admin", "eve@example.org"))
	create(t, s, signedUp("bob", "bob", "shared@example.org"))
	for _, id := range []string{"eve", "bob"} {
		put(t, s, inFamily(identity.SessionFamily(id), ticket(sessions, id)), ofGrant(grant(t, s, id, "c").ID, ticket(refresh, id)))
	}
	yes := true
	declared := []declaration.User{
		{Username: "admin", Administrator: &yes},
		{Username: "root", Claims: map[string]any{"email": "shared@example.org", "email_verified": true}},
	}
	declared[0].Adopt, declared[1].Adopt = true, true
	reconcile(t, s, declaration.Input{Source: "file", Users: declared, Now: noon.Add(time.Hour)})
	for name, id := range map[string]string{"admin": "eve", "root": "bob"} {
		u := userNamed(t, s, name)
		if u.ID != id || u.PasswordHash != "" || u.UserCodeHash != "" || u.Origin != identity.OriginDeclared || u.Claims["name"] != nil || u.EndedAt.IsZero() {
			t.Errorf("the adopted user is %+v", u)
		}
		wantLive(t, s, noon, sessions.Hash(id), false)
		wantLive(t, s, noon, refresh.Hash(id), false)
		wantEqual(t, "grants", 0, len(must(s.GrantsOf(ctx, id))(t)))
	}
	if u := userNamed(t, s, "admin"); !u.Administrator || u.Email() != "" {
		t.Errorf("the adopted administrator is %+v", u)
	}
	if u := userNamed(t, s, "shared@example.org"); u.Username != "root" || u.Claims["email_verified"] != true {
		t.Errorf("the adopted user is %+v", u)
	}
	_, happened := reconcile(t, s, declaration.Input{Source: "file", Users: declared})
	wantEqual(t, "the same again", nil, happened)
}

func displaceUser(t *testing.T, s Database) {
	ctx := t.Context()
	create(t, s, signedUp("eve", "alice@corp.example", "eve@example.org"))
	bob := signedUp("bob", "bob", "shared@example.org")
	bob.Claims["email_verified"] = true
	create(t, s, bob)
	for _, id := range []string{"eve", "bob"} {
		put(t, s, inFamily(identity.SessionFamily(id), ticket(sessions, id)), ofGrant(grant(t, s, id, "c").ID, ticket(refresh, id)))
	}
	declared := []declaration.User{
		{Username: "alice", Claims: map[string]any{"email": "alice@corp.example", "email_verified": true}},
		{Username: "carol", Claims: map[string]any{"email": "shared@example.org"}},
		{Username: "BOB"},
	}
	_, happened := reconcile(t, s, declaration.Input{Source: "file", Users: declared, Now: noon})
	slices.Sort(happened)
	wantEqual(t, "what happened", []string{"add user BOB", "add user alice", "add user carol", "displace user alice@corp.example", "displace user bob"}, happened)
	for name, username := range map[string]string{"alice@corp.example": "alice", "shared@example.org": "carol", "bob": "BOB"} {
		if u := userNamed(t, s, name); u.Username != username || u.Origin != identity.OriginDeclared || u.PasswordHash != "" || u.ID == "eve" || u.ID == "bob" {
			t.Errorf("the user %q is %+v", name, u)
		}
	}
	for _, id := range []string{"eve", "bob"} {
		u := must(s.User(ctx, id))(t)
		if !strings.HasPrefix(u.Username, "user-") || u.PasswordHash != "a stranger's" || u.Origin != identity.OriginSignedUp || len(u.RecentEvents(noon)) == 0 {
			t.Errorf("the displaced user is %+v", u)
		}
		wantEqual(t, "user with the new name", id, userNamed(t, s, u.Username).ID)
		wantLive(t, s, noon, sessions.Hash(id), true)
		wantEqual(t, "grants", 1, len(must(s.GrantsOf(ctx, id))(t)))
	}
	eve, displaced := must(s.User(ctx, "eve"))(t), must(s.User(ctx, "bob"))(t)
	if eve.Email() != "eve@example.org" || displaced.Email() != "" || displaced.EmailVerified() {
		t.Errorf("addresses of the displaced users: %v, %v", eve.Claims, displaced.Claims)
	}
	if n := displaced.Account.Notices; len(n) != 1 || n[0].To != "shared@example.org" || len(eve.Account.Notices) != 0 {
		t.Errorf("notices: %+v, and to an address that is not verified: %+v", n, eve.Account.Notices)
	}
	wantEqual(t, "users with a notice", []string{"bob"}, must(s.DueUsers(ctx, noon, 10))(t))
	_, happened = reconcile(t, s, declaration.Input{Source: "file", Users: declared})
	wantEqual(t, "the same again", nil, happened)

	// What is declared cannot be taken back by the account that lost it.
	want(t, "UpdateUser with a declared name", s.UpdateUser(ctx, "eve", func(u *identity.User) error {
		u.Username = "alice@corp.example"
		return nil
	}), identity.ErrIdentifierTaken)
	_, happened = reconcile(t, s, declaration.Input{Source: "file", Users: []declaration.User{{Username: "mallory", Subject: "eve"}}, KeepUnnamed: true})
	wantEqual(t, "the sub of a signed-up account", []string{"conflict user mallory"}, happened)
}

func adoptClient(t *testing.T, s Database) {
	ctx := t.Context()
	want(t, "RegisterClient", s.RegisterClient(ctx, registered("a", noon.Add(time.Hour)), 10), nil)
	put(t, s, ofGrant(grant(t, s, "ada", "a").ID, ticket(refresh, "a")))
	declared := declaration.Client{ID: "a", Members: members(`{"redirect_uris": ["https://a.example/cb"]}`)}
	_, happened := reconcile(t, s, declaration.Input{Source: "file", Clients: []declaration.Client{declared}})
	wantEqual(t, "without adopt", []string{"conflict client a"}, happened)
	declared.Adopt = true
	reconcile(t, s, declaration.Input{Source: "file", Clients: []declaration.Client{declared}})
	c := must(s.Client(ctx, "a"))(t)
	if c.Registration != nil || c.ClientName != "" || len(c.Secrets) != 0 || !c.EndedAt.Equal(noon) {
		t.Errorf("the adopted client keeps what a stranger registered: %+v", c)
	}
	wantLive(t, s, noon, refresh.Hash("a"), false)
	_, err := s.Grant(ctx, "ada", "a")
	want(t, "Grant", err, storage.ErrNotFound)
}

func conflicts(t *testing.T, s Database) {
	ctx := t.Context()
	create(t, s, signedUp("eve", "eve", "taken@example.org"))
	create(t, s, newUser("known", "known", "known@example.org"))
	plan, happened := reconcile(t, s, declaration.Input{
		Source: "file",
		Clients: []declaration.Client{
			{ID: "known"}, // a user's ID
			{ID: "fine"},
		},
		Users: []declaration.User{
			{Username: "ada", Subject: "eve"},
			{Username: "grace", Claims: map[string]any{"email": "known@example.org"}},
			{Username: "hopper", Subject: "fine"}, // a client_id
			{Username: "alan"},
		},
	})
	slices.Sort(happened)
	wantEqual(t, "what happened", []string{"add client fine", "add user alan", "conflict client known", "conflict user ada", "conflict user grace", "conflict user hopper"},
		happened)
	if !strings.Contains(declaration.Conflicts(plan.Changes).Error(), `user "ada"`) {
		t.Error("the error does not name the user")
	}
	userNamed(t, s, "alan")
	_, err := s.UserByIdentifier(ctx, "ada")
	want(t, "the user with a conflict", err, storage.ErrNotFound)

	// A record with a conflict is still named: it is not retired.
	reconcile(t, s, declaration.Input{Source: "file", Users: []declaration.User{{Username: "alan", Claims: map[string]any{"email": "known@example.org"}}}})
	if u := userNamed(t, s, "alan"); !u.Active() || u.Email() != "" {
		t.Errorf("the user with a conflict is %+v", u)
	}
}

func declareSubject(t *testing.T, s Database) {
	_, happened := reconcile(t, s, declaration.Input{Users: []declaration.User{{Username: "ada", Subject: "248289761001"}}})
	wantEqual(t, "what happened", []string{"add user ada"}, happened)
	wantEqual(t, "ID", "248289761001", userNamed(t, s, "ada").ID)
	_, happened = reconcile(t, s, declaration.Input{Users: []declaration.User{{Username: "ada", Subject: "248289761001"}}})
	wantEqual(t, "the same again", nil, happened)
	_, happened = reconcile(t, s, declaration.Input{Users: []declaration.User{{Username: "ada", Subject: "another"}, {Username: "bob", Subject: "a b"}}})
	wantEqual(t, "another sub, and one that is not valid", []string{"conflict user ada", "conflict user bob"}, happened)
	wantEqual(t, "ID", "248289761001", userNamed(t, s, "ada").ID)
}

func swapAddresses(t *testing.T, s Database) {
	users := func(a, b string) []declaration.User {
		return []declaration.User{{Username: "a", Claims: map[string]any{"email": a}}, {Username: "b", Claims: map[string]any{"email": b}}}
	}
	reconcile(t, s, declaration.Input{Users: users("1@example.org", "2@example.org")})
	_, happened := reconcile(t, s, declaration.Input{Users: users("2@example.org", "1@example.org")})
	wantEqual(t, "what happened", []string{"change user a", "change user b"}, happened)
	wantEqual(t, "who has the address", "b", userNamed(t, s, "1@example.org").Username)
	wantEqual(t, "who has the address", "a", userNamed(t, s, "2@example.org").Username)
}

func declaredPassword(t *testing.T, s Database) {
	ctx := t.Context()
	hash := func(password string) string { return must(identity.HashPassword(password))(t) }
	first, second, own := hash("first"), hash("second"), hash("chosen by the user")
	declare := func(mark, hash string) declaration.Plan {
		t.Helper()
		plan, _ := reconcile(t, s, declaration.Input{Now: noon.Add(time.Hour), Users: []declaration.User{{
			Username: "ada", Password: declaration.Password{Named: true, Mark: func(id string) string { return mark + " of " + id }, Hash: hash},
		}}})
		return plan
	}
	declare("one", first)
	ada := userNamed(t, s, "ada")
	put(t, s, inFamily(identity.SessionFamily(ada.ID), ticket(sessions, "a")), ofGrant(grant(t, s, ada.ID, "c").ID, ticket(refresh, "a")))
	want(t, "UpdateUser", s.UpdateUser(ctx, ada.ID, func(u *identity.User) error { u.PasswordHash = own; return nil }), nil)
	if plan := declare("one", ""); len(plan.Unhashed) > 0 || userNamed(t, s, "ada").PasswordHash != own {
		t.Error("the same declaration replaces the user's own password, or hashes again")
	}
	wantLive(t, s, noon, sessions.Hash("a"), true)
	if plan := declare("two", second); len(plan.Unhashed) > 0 || userNamed(t, s, "ada").PasswordHash != second {
		t.Error("another declared password is not set")
	}
	wantLive(t, s, noon, sessions.Hash("a"), false)
	wantLive(t, s, noon, refresh.Hash("a"), false)
	// null removes it.
	reconcile(t, s, declaration.Input{Users: []declaration.User{{Username: "ada", Password: declaration.Password{Named: true}}}})
	wantEqual(t, "PasswordHash", "", userNamed(t, s, "ada").PasswordHash)
}

func declareUser(t *testing.T, s Database) {
	ctx := t.Context()
	create(t, s, newUser("kept", "Alice", "mail@example.org"))
	d := declaration.Declaration{Users: []identity.User{{ID: "ignored", Username: "ALICE", Claims: map[string]any{"name": "Alice"}}}}
	want(t, "Declare", s.Declare(ctx, noon.Add(time.Hour), "file", d), nil)
	got := userNamed(t, s, "alice")
	got.DeclaredBy = "" // only a database has it
	wantEqual(t, "User", &identity.User{ID: "kept", Username: "ALICE", Origin: identity.OriginDeclared, Claims: d.Users[0].Claims, CreatedAt: noon, UpdatedAt: noon.Add(time.Hour)}, got)
}
