package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/record"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// AD-16: a process is killed while it makes changes. There is never a change without its audit record,
// nor a record without its change.

const auditedSession storage.Kind = "session"

// subject is what one round of changes is about.
func subject(run string, round int) string { return fmt.Sprintf("%s round %d", run, round) }

// changeAudited makes changes until it is killed, and writes a line before each.
func changeAudited() error {
	store, err := sqldb.Open(context.Background(), os.Getenv(databaseVariable), sqldb.Config{MasterKey: masterKey})
	if err != nil {
		return err
	}
	failed := make(chan error)
	go func() {
		for { // on another node, perhaps: the chain grows while changes are made
			if _, err := store.SealAudit(context.Background()); err != nil {
				failed <- err
				return
			}
			<-time.After(time.Millisecond)
		}
	}()
	go func() {
		for round := 0; ; round++ {
			if err := changeAll(store, subject(os.Getenv(runVariable), round)); err != nil {
				failed <- err
				return
			}
		}
	}()
	return <-failed
}

// changeAll makes one change of each kind to what has a name.
func changeAll(store *sqldb.Store, name string) error {
	ctx := audit.WithActor(context.Background(), audit.Actor{Kind: audit.KindOperator, ID: "test"})
	session := func(event string) context.Context {
		return audit.WithRecord(ctx, audit.Record{Event: event, Subject: name})
	}
	key := auditedSession.Hash(name)
	var grant *record.Grant
	setGrant := func(scope ...string) (err error) {
		grant, err = store.UpdateGrant(ctx, name, "client "+name, func(g *record.Grant) error {
			g.Scope, g.CreatedAt = scope, time.Now()
			return nil
		})
		return err
	}
	for _, step := range []func() error{
		func() error { return store.CreateUser(ctx, &identity.User{ID: name, Username: "name of " + name}) },
		func() error {
			return store.UpdateUser(ctx, name, func(u *identity.User) error { u.Claims = map[string]any{"n": 1}; return nil })
		},
		func() error {
			return store.RegisterClient(ctx, &record.Client{ID: "client " + name, Registration: &record.Registration{TokenHash: []byte("x"), CreatedAt: time.Now()}}, 1e6)
		},
		func() error { return setGrant("openid") },
		func() error { return setGrant("openid", "email") },
		func() error {
			return store.Put(session("sign_in.succeeded"), time.Now(), storage.Ticket{Key: key, Family: "family " + name, Expires: time.Now().Add(time.Hour)})
		},
		func() error {
			return store.UpdateUser(ctx, name, func(u *identity.User) error { u.Claims = map[string]any{"n": 2}; return nil })
		},
		func() error { return store.Delete(session("session.ended"), key) },
		func() error { return store.DeleteGrant(ctx, grant.ID) },
		func() error {
			return store.UpdateClient(ctx, "client "+name, func(c *record.Client) error { c.ClientName = "changed"; return nil })
		},
		func() error { return store.DeleteClient(ctx, "client "+name) },
		func() error { return store.DeleteUser(ctx, name) },
	} {
		fmt.Fprintln(os.Stdout, ".")
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// state is what is stored under one name.
type state struct {
	User    string // the claims in JSON; "" for no user
	Client  string // "registered" or its name; "" for none
	Grant   string // the scope
	Session bool
}

// stored reads the state from the records.
func stored(t *testing.T, s *sqldb.Store, name string) (is state) {
	t.Helper()
	user, err := s.User(t.Context(), name)
	switch {
	case err == nil:
		encoded, err := json.Marshal(user.Claims)
		if err != nil {
			t.Fatal(err)
		}
		is.User = string(encoded)
	case !errors.Is(err, storage.ErrNotFound):
		t.Fatal(err)
	}
	client, err := s.Client(t.Context(), "client "+name)
	switch {
	case err == nil:
		is.Client = "registered" + client.ClientName
	case !errors.Is(err, storage.ErrNotFound):
		t.Fatal(err)
	}
	grant, err := s.Grant(t.Context(), name, "client "+name)
	switch {
	case err == nil:
		is.Grant = grant.Scope.String()
	case !errors.Is(err, storage.ErrNotFound):
		t.Fatal(err)
	}
	_, err = s.Get(t.Context(), time.Now(), auditedSession.Hash(name))
	is.Session = err == nil
	return is
}

// told computes the state from the audit records alone.
func told(t *testing.T, records []audit.Record) (is state) {
	t.Helper()
	for _, r := range records {
		switch r.Event {
		case "user.created":
			is.User = "null"
		case "user.updated":
			is.User = string(r.After["claims"])
		case "user.deleted":
			is.User = ""
		case "client.registered":
			is.Client = "registered"
		case "client.updated":
			is.Client = "registered" + strings.Trim(string(r.After["client_name"]), `"`)
		case "client.deleted":
			is.Client = ""
		case "consent.granted":
			var scope []string
			if err := json.Unmarshal(r.After["scope"], &scope); err != nil {
				t.Fatal(err)
			}
			is.Grant = "openid"
			if len(scope) > 1 {
				is.Grant = "openid email"
			}
		case "consent.revoked":
			is.Grant = ""
		case "sign_in.succeeded":
			is.Session = true
		case "session.ended":
			is.Session = false
		default:
			t.Errorf("unexpected record %s", r.Text)
		}
	}
	return is
}

// recordsOf returns the records about a name, the oldest first.
func recordsOf(t *testing.T, s *sqldb.Store, name string) []audit.Record {
	t.Helper()
	var all []audit.Record
	for _, f := range []audit.Filter{{Subject: name}, {ClientID: "client " + name}} {
		f.Ascending, f.Limit = true, audit.MaxLimit
		found, err := s.AuditRecords(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range found {
			if f.ClientID == "" || r.Subject == "" { // grants have both
				all = append(all, r)
			}
		}
	}
	return all
}

func TestAD16_KilledDuringAuditedChanges(t *testing.T) {
	onBoth(t, func(t *testing.T, databaseURL string) {
		n, delay := 200, 40*time.Microsecond
		if !strings.HasPrefix(databaseURL, "sqlite:") {
			n, delay = 15, 300*time.Microsecond
		}
		if testing.Short() {
			n /= 10
		}
		// settle waits for those who are called killed.
		s, err := sqldb.Open(t.Context(), strings.Replace(databaseURL, "application_name=killed", "application_name=watching", 1), sqldb.Config{MasterKey: masterKey})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		between, changes := 0, 0
		for i := range n {
			run := fmt.Sprint("run ", i)
			var stdout *bufio.Scanner
			c := start(t, "audit", func(command *exec.Cmd) {
				command.Env = append(command.Env, databaseVariable+"="+databaseURL, runVariable+"="+run)
				pipe, err := command.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				stdout = bufio.NewScanner(pipe)
			})
			// Each step of each change gets its turn: the line before it, and a time after that line.
			lines, after := 1+i%12+12*(i%2), time.Duration(i%25)*delay
			for count := 0; stdout.Scan(); {
				if count++; count == lines {
					for began := time.Now(); time.Since(began) < after; {
					}
					c.kill(t)
				}
			}
			c.waitKilled(t)
			settle(t, databaseURL)
			// On a busy machine, the process may get far before it is killed.
			for round := 0; ; round++ {
				name := subject(run, round)
				records := recordsOf(t, s, name)
				changes += len(records)
				if is, want := stored(t, s, name), told(t, records); is != want {
					t.Errorf("%s: the database has %+v, the audit log says %+v", name, is, want)
				}
				if len(records) < 12 {
					if len(records) > 0 {
						between++
					}
					break
				}
			}
		}
		if _, err := s.SealAudit(t.Context()); err != nil {
			t.Fatal(err)
		}
		report, err := audit.Verify(t.Context(), s, nil, s.AuditKey())
		if err != nil || len(report.Problems) > 0 || report.Last != int64(changes) {
			t.Errorf("the chain has %d records of %d: %v %v", report.Last, changes, report.Problems, err)
		}
		t.Logf("%d kills, %d of them between the first and the last change of a round; %d changes", n, between, changes)
		checkIntegrity(t, databaseURL)
	})
}
