package storagetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/jose"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// Database is what every store implements.
type Database interface {
	record.Store
	identity.Store
	Declare(ctx context.Context, now time.Time, source string, d declaration.Declaration) error
	Declared(ctx context.Context) (declaration.Declaration, error)
	Reconcile(ctx context.Context, now time.Time, selection declaration.Selection, decide func(*declaration.State) (*declaration.Plan, error)) error
	RemoveRetired(ctx context.Context, before time.Time) ([]declaration.Name, error)
	Reclaim(ctx context.Context, now time.Time) (removed int, err error)
	Mail() storage.Outbox
	audit.Log
	SealAudit(ctx context.Context) (sealed int, err error)
	AuditChain(ctx context.Context) (audit.Chain, error)
}

// Store checks the contracts of record.Store and identity.Store, including that of
// storage.Tickets, and the methods that declare records. open returns a new, empty store.
func Store(t *testing.T, open func(t *testing.T) Database) {
	t.Run("Tickets", func(t *testing.T) {
		Tickets(t, func(t *testing.T) storage.Tickets { return open(t) })
	})
	for _, c := range []struct {
		promise string
		check   func(t *testing.T, s Database)
	}{
		{"SG-14 Reclaim deletes expired tickets and nothing else", reclaim},
		{"AD-16 every change writes one audit record, with its author, and nothing else does", auditChanges},
		{"AD-16 a change that fails writes no audit record", auditFailures},
		{"audit records contain no secret", auditSecrets},
		{"a change of tickets writes the audit record of its caller if it changes something", auditTickets},
		{"of callers that race for the same change of tickets, one writes an audit record", raceAuditTickets},
		{"audit records are found by actor, subject, client, event and time, in pages", auditFilters},
		{"LO-09 every audit record gets a place in the chain, once", auditChain},
		{"Version grows whenever a client, resource, scope or key changes", versionGrows},
		{"a lookup that finds nothing returns ErrNotFound", lookupNotFound},
		{"Client returns a client with its secrets and metadata, as a copy", clientReturns},
		{"RegisterClient stores a client once, and at most a given number of clients", registerClient},
		{"RegisterClient removes unused clients when the limit is reached", registerTooMany},
		{"DC-01 clients that register concurrently do not exceed the limit", raceRegisterClient},
		{"UpdateClient and DeleteClient raise the version, so that every node sees them", changeClient},
		{"Reclaim removes registered clients that were not used in time, and no others", reclaimClients},
		{"ClientNeeds returns what clients need, without duplicates", clientNeeds},
		{"Keys returns every key, including the private parts", keysReturn},
		{"UpdateKeys changes nothing if update returns an error", updateKeysFails},
		{"RE-18 nodes that rotate keys concurrently do not overwrite each other's changes", raceUpdateKeys},
		{"there is one grant for each subject and client; UpdateGrant creates and changes it", oneGrant},
		{"OP-07 no concurrent consent is lost", raceUpdateGrant},
		{"GrantsOf returns all grants of a subject", grantsOf},
		{"DeleteGrant removes a grant and every ticket that belongs to it", deleteGrant},
		{"RT-11 no ticket of a grant survives a DeleteGrant that races refreshes", raceDeleteGrant},
		{"PutAndFind stores tickets and finds the grant and the ticket that they depend on", putAndFind},
		{"CN-07 no ticket survives a DeleteGrant of which PutAndFind sees nothing", racePutAndFind},
		{"SaveTraces keeps at most max traces, the newest", saveTraces},
		{"CreateUser stores a user, who is found by ID and by each identifier", createUser},
		{"UpdateUser changes nothing if update returns an error", updateUser},
		{"OP-07 no concurrent change of a user is lost", raceUpdateUser},
		{"FD-03 a user is found by each link, which is an issuer and a subject", externalUsers},
		{"a link belongs to one user, also if two create or link it at once", raceExternalUsers},
		{"UpdateUser deletes the grants of a user who is forgotten, in the same transaction", forgetUser},
		{"UpdateUser loses no authenticator", raceAuthenticators},
		{"Declarations keep authenticators, and an adopted account loses them", declaredAuthenticators},
		{"CachedUser returns a user without password hashes, as a copy", cachedUserIsACopy},
		{"CachedUser and UserValidity see every change that has returned", cachedUserSeesChanges},
		{"AC-09 CachedUser sees every concurrent change that has returned", raceCachedUser},
		{"a change to another user's identifier returns ErrIdentifierTaken and changes nothing", identifierTaken},
		{"of several users that are created concurrently with the same name, one succeeds", raceIdentifier},
		{"SG-12 DeleteUser removes a user and the user's grants, sessions and tickets", deleteUser},
		{"the sessions of a deleted or disabled user end, each with a note", endedNotes},
		{"AC-09 what was issued to a user ends when the user becomes inactive, and stays ended", userEnds},
		{"AC-10 what was issued to a client ends when the client becomes inactive, and stays ended", clientEnds},
		{"User.End ends everything except one session and what was issued in it", endKeepsOneSession},
		{"AC-09 a concurrent refresh does not survive the disabling of its user", raceDisableUser},
		{"AC-10 a concurrent refresh does not survive the disabling of its client", raceDisableClient},
		{"Reclaim ends what was issued to users and clients after they became inactive", reclaimInactive},
		{"OP-07 a client's update and its concurrent first use both take effect", raceFirstUse},
		{"OP-08 Reclaim keeps what is renewed concurrently", raceReclaim},
		{"Users lists users in the order of their IDs", usersList},
		{"HasAdministrator does not count disabled and retired users", hasAdministrator},
		{"of two administrators who resign concurrently, one stays", raceLastAdministrator},
		{"the data of an account is stored, and its events are not in a CachedUser", accountData},
		{"a former username finds its user and is taken, until it is dropped", formerNames},
		{"DueUsers lists users with something due, and EraseUser removes those whose deletion is due", eraseUser},
		{"OP-07 of EraseUser and a concurrent cancellation, one succeeds", raceErase},
		{"RecordUses keeps the last use of each thing, until it expires or its owner is deleted", uses},
		{"Claim returns messages that are due, counts the attempt, and makes them due again later", outboxClaim},
		{"Enqueue stores all messages or none", outboxAllOrNone},
		{"Claim lets owners take turns, and limits the claimed messages of each", outboxTurns},
		{"Fail takes a message out of the outbox; the same message can be enqueued again", outboxFail},
		{"of several callers that claim, one gets a message", raceClaim},
		{"Waiting counts the messages of an owner, claimed or not", outboxWaiting},
		{"messages to users and messages to clients are in different outboxes", outboxMail},
		{"AddCounts adds to what is still counted, and Reset sets that to zero first", countsAddUp},
		{"counts of concurrent callers add up", raceCounts},
		{"PasswordHashKinds lists each combination of algorithm and parameters once", passwordHashKinds},
		{"Declare inserts or updates records, and Declared returns all of them", declare},
		{"OP-02 Declare retires records that the same source no longer declares, and no others", declareRetires},
		{"OP-02 a retired record that is declared again is restored unchanged", declareRestores},
		{"RemoveRetired removes records that were retired before a time, and no others", removeRetired},
		{"the identifiers of a retired user are still taken", retiredNames},
		{"OP-03 a file that was replaced, or was modified earlier, is older", olderVersions},
		{"a source takes over the records that it declared under an earlier name", takeOver},
		{"OP-04 Reconcile changes the named members, and null removes one", reconcileMembers},
		{"OP-05 a signed-up account is adopted only on request, and its former owner keeps nothing", adoptUser},
		{"OP-05 a signed-up account loses an identifier that is declared, and keeps everything else", displaceUser},
		{"a client that registered itself is adopted only on request, and keeps nothing of its registration", adoptClient},
		{"OP-06 a conflict affects only its record", conflicts},
		{"the declared sub of a user cannot change", declareSubject},
		{"two declared users can swap their email addresses", swapAddresses},
		{"a password that was declared before does not replace the one that the user has chosen since", declaredPassword},
		{"Declare keeps the ID of a user and matches users by canonical username", declareUser},
		{"Declare changes nothing if it fails", declareFails},
	} {
		t.Run(c.promise, func(t *testing.T) {
			t.Parallel()
			c.check(t, open(t))
		})
	}
}

func wantEqual[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func reclaim(t *testing.T, s Database) {
	for i := range 12 {
		var batch []storage.Ticket
		for k := range 100 {
			c := ticket(codes, fmt.Sprint(i, " ", k))
			c.Expires = noon.Add(time.Duration(k) * time.Millisecond)
			batch = append(batch, c)
		}
		if err := s.Put(t.Context(), noon.Add(-time.Minute), batch...); err != nil {
			t.Fatal(err)
		}
	}
	at := noon.Add(89 * time.Millisecond)
	wantEqual(t, "reclaimed", 12*90, must(s.Reclaim(t.Context(), at))(t))
	wantEqual(t, "reclaimed again", 0, must(s.Reclaim(t.Context(), at))(t))
	// An earlier time shows which tickets are left.
	wantLive(t, s, noon.Add(-time.Minute), codes.Hash("3 89"), false)
	wantLive(t, s, noon.Add(-time.Minute), codes.Hash("3 90"), true)
}

func version(t *testing.T, s Database) int64 {
	t.Helper()
	return must(s.Version(t.Context()))(t)
}

func versionGrows(t *testing.T, s Database) {
	last := version(t, s)
	grows := func(what string, want bool) {
		t.Helper()
		next := version(t, s)
		if want != (next > last) {
			t.Errorf("%s: version %d after %d", what, next, last)
		}
		last = next
	}
	d := declaration.Declaration{
		Clients:   []record.Client{{ID: "c", Secrets: []string{"one"}}},
		Scopes:    []record.Scope{{Name: "read"}},
		Resources: []record.Resource{{Identifier: "https://api.example"}},
	}
	apply := func() { t.Helper(); want(t, "Declare", s.Declare(t.Context(), noon, "file", d), nil) }
	apply()
	grows("first Declare", true)
	apply()
	grows("the same Declare", false)
	d.Clients[0].Secrets = []string{"two"}
	apply()
	grows("new client secret", true)
	d.Clients[0].ClientName = "C"
	apply()
	grows("new client name", true)
	d.Scopes[0].Description = "Read"
	apply()
	grows("new scope description", true)
	d.Resources[0].Name = "API"
	apply()
	grows("new resource name", true)
	d.Scopes = nil
	apply()
	grows("a scope removed", true)
	want(t, "UpdateKeys", s.UpdateKeys(t.Context(), func([]record.Key) ([]record.Key, error) { return []record.Key{newKey(t, "k")}, nil }), nil)
	grows("a key added", true)
	put(t, s, ticket(codes, "a"))
	grows("a ticket", false)
}

func lookupNotFound(t *testing.T, s Database) {
	ctx := t.Context()
	_, err := s.Grant(ctx, "missing", "missing")
	want(t, "Grant", err, storage.ErrNotFound)
	_, err = s.User(ctx, "missing")
	want(t, "User", err, storage.ErrNotFound)
	for _, strange := range []string{"missing", "", "a\x00b", "\xff", "' OR 1=1 --"} {
		_, err = s.UserByIdentifier(ctx, strange)
		want(t, "UserByIdentifier", err, storage.ErrNotFound)
		_, err = s.Client(ctx, strange)
		want(t, "Client", err, storage.ErrNotFound)
		_, err = s.Trace(ctx, strange)
		want(t, "Trace", err, storage.ErrNotFound)
	}
}

func clientReturns(t *testing.T, s Database) {
	age := int64(60)
	c := record.Client{
		ID: "app", Secrets: []string{"old", "new"},
		ClientMetadata: oauth.ClientMetadata{
			RedirectURIs: []string{"https://app.example/callback"}, ClientName: "Ünïcode 'App'",
			JWKS: []byte(`{"keys":[]}`), DefaultMaxAge: &age, Scope: "openid email",
		},
		ClientSettings: record.ClientSettings{SkipConsent: true, Resources: []string{"https://api.example"}},
	}
	want(t, "Declare", s.Declare(t.Context(), noon, "", declaration.Declaration{Clients: []record.Client{c}}), nil)
	got := must(s.Client(t.Context(), "app"))(t)
	wantEqual(t, "Client", &c, got)
	got.Secrets[0], got.RedirectURIs[0] = "x", "x"
	wantEqual(t, "Client, after the caller changed its copy", &c, must(s.Client(t.Context(), "app"))(t))
}

func newKey(t *testing.T, id string) record.Key {
	t.Helper()
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	return record.Key{ID: id, Algorithm: jose.ES256, Private: private, CreatedAt: noon, SignsFrom: noon.Add(time.Hour)}
}

func keyIDs(keys []record.Key) (ids []string) {
	for _, k := range keys {
		ids = append(ids, k.ID)
	}
	return ids
}

func keysReturn(t *testing.T, s Database) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := newKey(t, "a")
	b := record.Key{ID: "b", Algorithm: jose.EdDSA, Private: private, CreatedAt: noon.Add(time.Second), SignsFrom: noon.Add(time.Minute), PublishedUntil: noon.Add(time.Hour)}
	want(t, "UpdateKeys", s.UpdateKeys(t.Context(), func(keys []record.Key) ([]record.Key, error) {
		if len(keys) != 0 {
			t.Errorf("a new store has %d keys", len(keys))
		}
		return []record.Key{b, a}, nil
	}), nil)
	got := must(s.Keys(t.Context()))(t)
	wantEqual(t, "Keys", []record.Key{a, b}, got)
	want(t, "UpdateKeys", s.UpdateKeys(t.Context(), func(keys []record.Key) ([]record.Key, error) {
		return slices.DeleteFunc(keys, func(k record.Key) bool { return k.ID == "a" }), nil
	}), nil)
	wantEqual(t, "Keys after one was removed", []record.Key{b}, must(s.Keys(t.Context()))(t))
}

func updateKeysFails(t *testing.T, s Database) {
	a := newKey(t, "a")
	want(t, "UpdateKeys", s.UpdateKeys(t.Context(), func([]record.Key) ([]record.Key, error) { return []record.Key{a}, nil }), nil)
	before, failed := version(t, s), errors.New("no")
	want(t, "UpdateKeys", s.UpdateKeys(t.Context(), func([]record.Key) ([]record.Key, error) { return nil, failed }), failed)
	wantEqual(t, "Keys", []string{"a"}, keyIDs(must(s.Keys(t.Context()))(t)))
	wantEqual(t, "Version", before, version(t, s))
}

func raceUpdateKeys(t *testing.T, s Database) {
	const nodes = 10
	key := newKey(t, "")
	errs := together(nodes, func(i int) error {
		return s.UpdateKeys(t.Context(), func(keys []record.Key) ([]record.Key, error) {
			k := key
			k.ID = fmt.Sprint(len(keys)) // two calls that read the same keys would use the same ID
			return append(keys, k), nil
		})
	})
	for _, err := range errs {
		want(t, "UpdateKeys", err, nil)
	}
	wantEqual(t, "number of keys", nodes, len(must(s.Keys(t.Context()))(t)))
	// Each caller that finds a key missing adds it; only the first one does.
	for _, err := range together(nodes, func(i int) error {
		return s.UpdateKeys(t.Context(), func(keys []record.Key) ([]record.Key, error) {
			if len(keys) > nodes {
				return keys, nil
			}
			k := key
			k.ID = fmt.Sprint("new ", i)
			return append(keys, k), nil
		})
	}) {
		want(t, "UpdateKeys", err, nil)
	}
	wantEqual(t, "number of keys", nodes+1, len(must(s.Keys(t.Context()))(t)))
}

// grant returns the grant of a subject to a client, and creates it if there is none.
func grant(t *testing.T, s Database, subject, clientID string) *record.Grant {
	t.Helper()
	return must(s.UpdateGrant(t.Context(), subject, clientID, func(*record.Grant) error { return nil }))(t)
}

func oneGrant(t *testing.T, s Database) {
	var id string
	first := must(s.UpdateGrant(t.Context(), "u", "c", func(g *record.Grant) error {
		id = g.ID
		wantEqual(t, "a new grant", &record.Grant{ID: id, Subject: "u", ClientID: "c"}, g)
		g.Scope, g.Declined, g.CreatedAt, g.UpdatedAt = oauth.Scope{"a", "b"}, oauth.Scope{"d"}, noon, noon
		g.Resources = []string{}
		return nil
	}))(t)
	stored := &record.Grant{ID: id, Subject: "u", ClientID: "c", Scope: oauth.Scope{"a", "b"}, Declined: oauth.Scope{"d"}, Resources: []string{}, CreatedAt: noon, UpdatedAt: noon}
	wantEqual(t, "what UpdateGrant returns", stored, first)
	wantEqual(t, "Grant", stored, must(s.Grant(t.Context(), "u", "c"))(t))
	later := must(s.UpdateGrant(t.Context(), "u", "c", func(g *record.Grant) error {
		wantEqual(t, "what update gets", stored, g)
		g.Scope, g.Declined, g.UpdatedAt = oauth.Scope{"a"}, nil, noon.Add(time.Hour)
		g.Resources = []string{"https://api.example.com/a b", "urn:api"}
		g.Details.Add(noon, []json.RawMessage{json.RawMessage(`{"type":"payment","to":"<A & B>","amount":1.50}`)})
		return nil
	}))(t)
	stored.Scope, stored.Declined, stored.UpdatedAt = oauth.Scope{"a"}, nil, noon.Add(time.Hour)
	stored.Resources = []string{"https://api.example.com/a b", "urn:api"}
	stored.Details.Latest = []record.GrantedDetail{{Detail: json.RawMessage(`{"type":"payment","to":"<A & B>","amount":1.50}`), At: noon}}
	wantEqual(t, "what UpdateGrant returns", stored, later)
	refused := errors.New("refused")
	for _, client := range []string{"c", "another"} {
		_, err := s.UpdateGrant(t.Context(), "u", client, func(g *record.Grant) error {
			g.Scope = oauth.Scope{"x"}
			return refused
		})
		want(t, "UpdateGrant", err, refused)
	}
	wantEqual(t, "grants", []record.Grant{*stored}, must(s.GrantsOf(t.Context(), "u"))(t))
}

func raceUpdateGrant(t *testing.T, s Database) {
	for round := range rounds(10) {
		ids := make([]string, 20)
		for _, err := range together(len(ids), func(i int) error {
			g, err := s.UpdateGrant(t.Context(), "u", fmt.Sprint(round), func(g *record.Grant) error {
				g.Scope = g.Scope.Union(oauth.Scope{fmt.Sprint("scope", i)})
				return nil
			})
			if err == nil {
				ids[i] = g.ID
			}
			return err
		}) {
			want(t, "UpdateGrant", err, nil)
		}
		if ids = slices.Compact(ids); len(ids) != 1 {
			t.Errorf("UpdateGrant returns different IDs: %q", ids)
		}
		wantEqual(t, "number of granted scopes", 20, len(must(s.Grant(t.Context(), "u", fmt.Sprint(round)))(t).Scope))
	}
}

func grantsOf(t *testing.T, s Database) {
	var ids []string
	for _, g := range [][2]string{{"u", "a"}, {"u", "b"}, {"v", "a"}} {
		ids = append(ids, grant(t, s, g[0], g[1]).ID)
	}
	var got []string
	for _, g := range must(s.GrantsOf(t.Context(), "u"))(t) {
		got = append(got, g.ID)
	}
	wantEqual(t, "GrantsOf", ids[:2], got)
}

func deleteGrant(t *testing.T, s Database) {
	one, two := grant(t, s, "u", "a").ID, grant(t, s, "u", "b").ID
	a, b, c := ofGrant(one, ticket(refresh, "a")), ofGrant(two, ticket(refresh, "b")), ticket(refresh, "c")
	statusA, statusB := ofGrant(one, ticket(storage.KindStatus, "a")), ofGrant(two, ticket(storage.KindStatus, "b"))
	put(t, s, a, b, c, statusA, statusB)
	want(t, "DeleteGrant", s.DeleteGrant(t.Context(), one), nil)
	ended := func() (ids []storage.Key) {
		for _, ticket := range must(s.FindEnded(t.Context(), noon, 10))(t) {
			ids = append(ids, ticket.Key)
		}
		return ids
	}
	wantEqual(t, "what has ended", []storage.Key{statusA.Key}, ended())
	_, err := s.Grant(t.Context(), "u", "a")
	want(t, "Grant", err, storage.ErrNotFound)
	wantLive(t, s, noon, a.Key, false)
	want(t, "DeleteGrant without an ID", s.DeleteGrant(t.Context(), ""), nil)
	wantLive(t, s, noon, b.Key, true)
	wantLive(t, s, noon, c.Key, true)
	want(t, "DeleteUser", s.DeleteUser(t.Context(), "u"), nil)
	wantEqual(t, "number of tickets that have ended after DeleteUser", 2, len(ended()))
}

func raceDeleteGrant(t *testing.T, s Database) {
	raceRefreshes(t, s, 4, numberedGrant, func(round int) error { return s.DeleteGrant(t.Context(), numberedGrant(round)) })
}

func putAndFind(t *testing.T, s Database) {
	grant := must(s.UpdateGrant(t.Context(), "u", "c", func(*record.Grant) error { return nil }))(t)
	session, spent := inFamily("u", ticket(refresh, "session")), ticket(refresh, "spent")
	expired := ticket(refresh, "expired")
	expired.Expires = noon.Add(-time.Second)
	put(t, s, session, spent, expired)
	want(t, "Spend", s.Spend(t.Context(), noon, []storage.Key{spent.Key}), nil)
	spent.Spent = noon
	for i, c := range []struct {
		find record.Find
		want record.Found
	}{
		{record.Find{Grant: grant.ID, Key: session.Key}, record.Found{Grant: true, Ticket: &session}},
		{record.Find{Grant: grant.ID, Key: spent.Key}, record.Found{Grant: true, Ticket: &spent}},
		{record.Find{Grant: grant.ID, Key: expired.Key}, record.Found{Grant: true}},
		{record.Find{Grant: grant.ID}, record.Found{Grant: true}},
		{record.Find{Grant: "another", Key: session.Key}, record.Found{Ticket: &session}},
		{record.Find{}, record.Found{}},
	} {
		a, b := ticket("code", fmt.Sprint("a", i)), ticket("code", fmt.Sprint("b", i))
		wantEqual(t, "found", c.want, must(s.PutAndFind(t.Context(), noon, c.find, a, b))(t))
		wantLive(t, s, noon, a.Key, true)
		wantLive(t, s, noon, b.Key, true)
		_, err := s.PutAndFind(t.Context(), noon, c.find, ticket("code", fmt.Sprint("c", i)), b)
		want(t, "PutAndFind of a ticket that exists", err, storage.ErrExists)
		wantLive(t, s, noon, ticket("code", fmt.Sprint("c", i)).Key, false)
		wantEqual(t, "found without a ticket to store", c.want, must(s.PutAndFind(t.Context(), noon, c.find))(t))
	}
	self := ticket("code", "self")
	wantEqual(t, "what was just stored", &self, must(s.PutAndFind(t.Context(), noon, record.Find{Key: self.Key}, self))(t).Ticket)
}

func racePutAndFind(t *testing.T, s Database) {
	const callers = 4
	for round := range rounds(40) {
		client := fmt.Sprint("client ", round)
		grant := must(s.UpdateGrant(t.Context(), "u", client, func(*record.Grant) error { return nil }))(t)
		session := ticket(refresh, fmt.Sprint("session ", round))
		put(t, s, session)
		stored := func(caller int) storage.Ticket {
			return ofGrant(grant.ID, ticket("code", fmt.Sprint(round, " ", caller)))
		}
		var seen [callers]bool
		errs := together(callers+1, func(i int) error {
			if i == callers {
				return s.DeleteGrant(t.Context(), grant.ID)
			}
			found, err := s.PutAndFind(t.Context(), noon, record.Find{Grant: grant.ID, Key: session.Key}, stored(i), ticket(refresh, fmt.Sprint(round, " other ", i)))
			seen[i] = found.Grant
			return err
		})
		for _, err := range errs {
			want(t, "PutAndFind or DeleteGrant", err, nil)
		}
		for i, saw := range seen {
			if saw {
				wantLive(t, s, noon, stored(i).Key, false)
			}
		}
	}
}

func saveTraces(t *testing.T, s Database) {
	trace := func(i int) record.Trace {
		return record.Trace{
			Ref: fmt.Sprint("ref", i), Time: noon.Add(time.Duration(i) * time.Second), Endpoint: "/token", ClientID: "c",
			Checks: []record.Check{{Rule: "the code is known", Section: "RFC 6749, section 4.1.3", Detail: "d"}}, Error: "invalid_grant",
		}
	}
	want(t, "SaveTraces", s.SaveTraces(t.Context(), 3, trace(1), trace(2)), nil)
	want(t, "SaveTraces", s.SaveTraces(t.Context(), 3, trace(3), trace(4), trace(5)), nil)
	for i := 1; i <= 5; i++ {
		got, err := s.Trace(t.Context(), fmt.Sprint("ref", i))
		if i <= 2 {
			want(t, "Trace that is old", err, storage.ErrNotFound)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		wantEqual(t, "Trace", trace(i), *got)
	}
	accepted := func(i int) record.Trace {
		a := trace(i)
		a.Ref, a.Error, a.Subject = fmt.Sprint("accepted", i), "", "alice-id"
		return a
	}
	want(t, "SaveTraces of accepted requests", s.SaveTraces(t.Context(), 1, accepted(6), accepted(7)), nil)
	for _, ref := range []string{"ref3", "ref4", "ref5", "accepted7"} {
		if _, err := s.Trace(t.Context(), ref); err != nil {
			t.Errorf("Trace of %s: %v: accepted requests displace others", ref, err)
		}
	}
	_, err := s.Trace(t.Context(), "accepted6")
	want(t, "Trace of an accepted request that is old", err, storage.ErrNotFound)
}
