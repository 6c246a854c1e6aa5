package storagetest

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

func setDisabled(t *testing.T, s Database, id string, disabled bool) error {
	return s.UpdateUser(t.Context(), id, func(u *identity.User) error {
		u.Disabled = disabled
		return nil
	})
}

func userEnds(t *testing.T, s Database) {
	create(t, s, newUser("a", "alice", ""), newUser("b", "bob", ""))
	g := grant(t, s, "a", "c").ID
	issue := func(name string) (tickets []storage.Ticket) {
		return []storage.Ticket{
			ofGrant(g, ticket(codes, name)), ofGrant(g, inFamily("family", ticket(refresh, name))),
			inFamily(identity.SessionFamily("a"), ticket("device", name)),
		}
	}
	others := ofGrant(grant(t, s, "b", "c").ID, ticket(refresh, "others"))
	put(t, s, others)
	for name, change := range map[string]func(u *identity.User){
		"disabled":     func(u *identity.User) { u.Disabled = true },
		"also retired": func(u *identity.User) { u.RetiredAt = noon }, // ended already
		"active again": func(u *identity.User) { u.Disabled, u.RetiredAt = false, time.Time{} },
		"retired":      func(u *identity.User) { u.RetiredAt = noon },
	} {
		// The user is active before the change, except before "active again".
		update(t, s, "a", func(u *identity.User) {
			u.Disabled, u.RetiredAt = name == "active again", time.Time{}
		})
		before := must(s.User(t.Context(), "a"))(t).EndedAt
		issued := issue(name)
		put(t, s, issued...)
		time.Sleep(2 * time.Millisecond) // stores keep milliseconds
		update(t, s, "a", change)
		for _, ticket := range issued {
			wantLive(t, s, noon, ticket.Key, false)
		}
		if u := must(s.User(t.Context(), "a"))(t); !u.EndedAt.After(before) {
			t.Errorf("%s: EndedAt is %v, before %v", name, u.EndedAt, before)
		}
	}
	wantLive(t, s, noon, others.Key, true)
	wantEqual(t, "remaining grants of the user", 1, len(must(s.GrantsOf(t.Context(), "a"))(t)))

	// Other changes end nothing.
	update(t, s, "a", func(u *identity.User) { u.RetiredAt = time.Time{} })
	issued := issue("another")
	put(t, s, issued...)
	update(t, s, "a", func(u *identity.User) { u.PasswordHash, u.Administrator = "hash", true })
	for _, ticket := range issued {
		wantLive(t, s, noon, ticket.Key, true)
	}
}

func clientEnds(t *testing.T, s Database) {
	ctx := t.Context()
	want(t, "Declare", s.Declare(ctx, noon, "", declaration.Declaration{Clients: []record.Client{{ID: "c"}, {ID: "d"}}}), nil)
	g, other := grant(t, s, "a", "c").ID, grant(t, s, "a", "d").ID
	for name, change := range map[string]func(c *record.Client){
		"disabled":     func(c *record.Client) { c.Disabled = true },
		"retired":      func(c *record.Client) { c.RetiredAt = noon },
		"active again": func(c *record.Client) { c.Disabled = false },
	} {
		updateClient(t, s, "c", func(c *record.Client) { c.Disabled, c.RetiredAt = name == "active again", time.Time{} })
		issued := []storage.Ticket{
			ofGrant(g, ticket(codes, name)), ofGrant(g, inFamily("family", ticket(refresh, name))),
			ofGrant(record.ClientGrant("c"), ticket("access", name)),
		}
		status, others := ofGrant(g, ticket(storage.KindStatus, name)), ofGrant(other, ticket(refresh, "others "+name))
		put(t, s, append(issued, status, others)...)
		before := version(t, s)
		updateClient(t, s, "c", change)
		for _, ticket := range issued {
			wantLive(t, s, noon, ticket.Key, false)
		}
		if ended := must(s.Get(ctx, noon, status.Key))(t); ended.Spent.IsZero() {
			t.Errorf("%s: the status of a token says that it is valid", name)
		}
		wantLive(t, s, noon, others.Key, true)
		if version(t, s) <= before {
			t.Errorf("%s: the version does not grow", name)
		}
	}
	wantEqual(t, "remaining grants", 2, len(must(s.GrantsOf(ctx, "a"))(t)))
}

// issuedIn returns the ticket as issued in a session, with the data of a client's authorization.
func issuedIn(t *testing.T, session string, ticket storage.Ticket) storage.Ticket {
	t.Helper()
	data, err := json.Marshal(map[string]string{"i": session})
	if err != nil {
		t.Fatal(err)
	}
	ticket.Data = data
	wantEqual(t, "SessionOf", session, record.SessionOf(ticket))
	return ticket
}

func endKeepsOneSession(t *testing.T, s Database) {
	accounts := must(identity.New(identity.Config{Store: s, Logger: slog.New(slog.DiscardHandler)}))(t)
	u := newUser("a", "alice", "")
	create(t, s, u)
	start := func(old *identity.Session) *identity.Session {
		t.Helper()
		_, session, err := accounts.StartSession(t.Context(), noon, u, identity.SessionDetails{}, old)
		want(t, "StartSession", err, nil)
		return session
	}
	former, other := start(nil), start(nil)
	kept := start(former)
	g := grant(t, s, "a", "c").ID
	at := func(session *identity.Session, family, name string) storage.Ticket {
		return issuedIn(t, session.ID, ofGrant(g, inFamily(family, ticket(refresh, name))))
	}
	status := ofGrant(g, inFamily("kept", ticket(storage.KindStatus, "kept")))
	device := inFamily(identity.SessionFamily("a"), ticket("device", "device"))
	put(t, s,
		at(former, "kept", "kept"), status, ofGrant(g, inFamily(storage.Descendant("kept", "x"), ticket(refresh, "exchanged"))),
		at(other, "other", "other"), at(&identity.Session{}, "none", "no session"), ofGrant(g, ticket(refresh, "no family")), device)

	update(t, s, "a", func(u *identity.User) { u.End(noon.Add(time.Second), kept) })
	for name, live := range map[string]bool{"kept": true, "exchanged": true, "other": false, "no session": false, "no family": false} {
		wantLive(t, s, noon, refresh.Hash(name), live)
	}
	wantLive(t, s, noon, device.Key, false)
	if still := must(s.Get(t.Context(), noon, status.Key))(t); !still.Spent.IsZero() {
		t.Error("the status of a token that is still valid says that it was revoked")
	}
	for _, id := range []string{kept.ID, former.ID} {
		must(accounts.SessionByID(t.Context(), noon, id))(t)
	}
	_, err := accounts.SessionByID(t.Context(), noon, other.ID)
	want(t, "another session", err, storage.ErrNotFound)
	wantEqual(t, "ended sessions", []identity.EndedSession{{UserID: "a", Names: []string{other.ID}}}, must(accounts.EndedSessions(t.Context(), noon, 10))(t))

	// The next End does not keep the session.
	update(t, s, "a", func(u *identity.User) { u.Disabled = true })
	wantLive(t, s, noon, refresh.Hash("kept"), false)
	wantEqual(t, "Kept", nil, must(s.User(t.Context(), "a"))(t).Kept)
}

func raceDisableUser(t *testing.T, s Database) {
	name := func(round int) string { return fmt.Sprint("user", round) }
	raceRefreshes(t, s, 4, func(round int) string {
		create(t, s, newUser(name(round), name(round), ""))
		return grant(t, s, name(round), "c").ID
	}, func(round int) error { return setDisabled(t, s, name(round), true) })
}

func raceDisableClient(t *testing.T, s Database) {
	name := func(round int) string { return fmt.Sprint("client", round) }
	raceRefreshes(t, s, 4, func(round int) string {
		want(t, "RegisterClient", s.RegisterClient(t.Context(), registered(name(round), time.Time{}), 1000), nil)
		return grant(t, s, "a", name(round)).ID
	}, func(round int) error {
		return s.UpdateClient(t.Context(), name(round), func(c *record.Client) error {
			c.Disabled = true
			return nil
		})
	})
}

func reclaimInactive(t *testing.T, s Database) {
	create(t, s, newUser("a", "alice", ""), newUser("b", "bob", ""))
	for _, id := range []string{"c", "d"} {
		want(t, "RegisterClient", s.RegisterClient(t.Context(), registered(id, time.Time{}), 10), nil)
	}
	want(t, "UpdateUser", setDisabled(t, s, "a", true), nil)
	updateClient(t, s, "c", func(c *record.Client) { c.RetiredAt = noon })
	// A node that does not know this yet stores more.
	put(t, s, ofGrant(grant(t, s, "a", "d").ID, ticket(refresh, "a")), ofGrant(grant(t, s, "b", "c").ID, ticket(refresh, "c")),
		ofGrant(grant(t, s, "b", "d").ID, ticket(refresh, "d")))
	must(s.Reclaim(t.Context(), time.Now()))(t)
	for name, live := range map[string]bool{"a": false, "c": false, "d": true} {
		wantLive(t, s, noon, refresh.Hash(name), live)
	}
}

func raceFirstUse(t *testing.T, s Database) {
	for round := range rounds(20) {
		id := fmt.Sprint(round)
		want(t, "RegisterClient", s.RegisterClient(t.Context(), registered(id, noon.Add(time.Hour)), 1000), nil)
		errs := together(10, func(i int) error {
			return s.UpdateClient(t.Context(), id, func(c *record.Client) error {
				if i < 5 {
					c.Registration.UnusedUntil = time.Time{}
				} else {
					c.ClientName += "x"
				}
				return nil
			})
		})
		for _, err := range errs {
			want(t, "UpdateClient", err, nil)
		}
		must(s.Reclaim(t.Context(), noon.Add(2*time.Hour)))(t)
		c := must(s.Client(t.Context(), id))(t)
		wantEqual(t, "UnusedUntil", time.Time{}, c.Registration.UnusedUntil)
		wantEqual(t, "ClientName", "Appxxxxx", c.ClientName)
	}
}

func raceReclaim(t *testing.T, s Database) {
	later := noon.Add(2 * time.Hour)
	for round := range rounds(20) {
		old, id := ticket(codes, fmt.Sprint(round)), fmt.Sprint(round)
		put(t, s, old)
		want(t, "RegisterClient", s.RegisterClient(t.Context(), registered(id, noon.Add(time.Hour)), 1000), nil)
		renewed := old
		renewed.Expires = later.Add(time.Hour)
		errs := together(8, func(i int) error {
			switch i {
			case 0:
				return s.Put(t.Context(), later, renewed)
			case 1:
				return s.UpdateClient(t.Context(), id, func(c *record.Client) error {
					c.Registration.UnusedUntil = time.Time{}
					return nil
				})
			}
			_, err := s.Reclaim(t.Context(), later)
			return err
		})
		want(t, "Put", errs[0], nil)
		wantLive(t, s, later, old.Key, true)
		// The client was used in time, or it is gone.
		_, err := s.Client(t.Context(), id)
		if used := errs[1] == nil; used != (err == nil) {
			t.Errorf("UpdateClient returns %v, and Client then %v", errs[1], err)
		}
	}
}
