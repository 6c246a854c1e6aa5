package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/audited"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// Declaration is what Declare takes.
type Declaration = declaration.Declaration

// Declare stores records exactly as given, in one transaction, and does not write those that are
// already stored like that. If source is not "", it retires the records that the same source
// declared before and no longer declares. A user is identified by the username, and keeps the
// ID. If another user has the email address or username, it returns
// identity.ErrIdentifierTaken. If it returns an error, nothing changes.
func (s *Store) Declare(ctx context.Context, now time.Time, source string, d Declaration) error {
	in, err := d.Whole(now, source)
	if err != nil {
		return fmt.Errorf("declare: %w", err)
	}
	err = s.Reconcile(ctx, now, in.Selection(), func(state *declaration.State) (*declaration.Plan, error) {
		plan := declaration.Reconcile(in, state)
		return &plan, declaration.Conflicts(plan.Changes)
	})
	if err != nil {
		return fmt.Errorf("declare: %w", err)
	}
	return nil
}

// Reconcile calls decide with the selected records and writes the plan that it returns, in one
// transaction: the records cannot change in between. decide may be called again if the database
// needs another attempt; if it returns an error, nothing changes. If an identifier has been taken
// in the meantime, Reconcile returns identity.ErrIdentifierTaken.
func (s *Store) Reconcile(ctx context.Context, now time.Time, selection declaration.Selection, decide func(*declaration.State) (*declaration.Plan, error)) error {
	ctx, cancel := context.WithTimeout(ctx, longTransactTimeout)
	defer cancel()
	defer s.users.clear()
	var ended []*identity.User
	err := s.patiently(ctx, func() (err error) {
		ended, err = s.reconcile(ctx, now, selection, decide)
		return err
	})
	if err != nil {
		return err
	}
	for _, user := range ended {
		if err := s.patiently(ctx, func() error { return s.endAgain(ctx, user) }); err != nil {
			return fmt.Errorf("end again what was issued to user %q: %w", user.Username, err)
		}
	}
	return nil
}

// patiently repeats a transaction that waits for a lock, until ctx is done. A node that declares
// thousands of records holds its locks longer than others wait for one.
func (s *Store) patiently(ctx context.Context, transaction func() error) error {
	for {
		if err := transaction(); !s.database.locked(err) || ctx.Err() != nil {
			return err
		}
	}
}

// reconcile returns the users whose change ended what was issued to them.
func (s *Store) reconcile(ctx context.Context, now time.Time, selection declaration.Selection, decide func(*declaration.State) (*declaration.Plan, error)) (ended []*identity.User, err error) {
	err = s.transactLong(ctx, func(tx *sql.Tx) error {
		if err := lockCatalogue(ctx, tx); err != nil {
			return err
		}
		state, err := s.declaredState(ctx, tx, selection, s.database.forUpdate())
		if err != nil {
			return err
		}
		plan, err := decide(state)
		if err != nil {
			return err
		}
		administered := false
		if plan.KeepAdministrator {
			if err := s.database.lockAdministrators(ctx, tx); err != nil {
				return fmt.Errorf("lock administrators: %w", err)
			}
			if err := tx.QueryRowContext(ctx, hasAdministrator, "").Scan(&administered); err != nil {
				return fmt.Errorf("look for an administrator: %w", err)
			}
		}
		c := declaring{s: s, ctx: ctx, tx: tx, now: now, source: selection.Source}
		if plan.TakeOver {
			if err := c.takeOver(selection.Formerly); err != nil {
				return err
			}
		}
		if err := c.write(plan, state); err != nil {
			return err
		}
		ended = c.ended
		if administered {
			if err := s.mustLeaveAdministrator(ctx, tx, ""); err != nil {
				return err
			}
		}
		if changes := declaration.Count(plan.Changes); changes > 0 {
			if err := s.insertAudit(ctx, tx, audited.Declarations(selection.Source, changes)); err != nil {
				return err
			}
		}
		if plan.Bumps() {
			return bumpVersion(ctx, tx)
		}
		return nil
	})
	return ended, err
}

// Declared returns every active client, user, scope and resource that is stored, except
// clients that registered themselves.
func (s *Store) Declared(ctx context.Context) (Declaration, error) {
	var d Declaration
	var err error
	if d.Clients, err = s.clients(ctx, s.database.read(), `WHERE registered = 0 AND retired = 0 ORDER BY client_id`); err != nil {
		return d, err
	}
	if d.Scopes, err = s.Scopes(ctx); err != nil {
		return d, err
	}
	if d.Resources, err = s.Resources(ctx); err != nil {
		return d, err
	}
	d.Users, err = users(ctx, s.database.read(), `WHERE retired = 0 ORDER BY id`)
	return d, err
}

// declaring writes one plan.
type declaring struct {
	s      *Store
	ctx    context.Context
	tx     *sql.Tx
	now    time.Time
	source string
	ended  []*identity.User // the users whose change ended what was issued to them
}

func (c *declaring) write(plan *declaration.Plan, state *declaration.State) error {
	// New records may have the names of those that are removed.
	for _, r := range plan.Remove {
		if err := c.remove(r); err != nil {
			return fmt.Errorf("remove %s %q: %w", r.Kind, r.Name, err)
		}
	}
	for i := range plan.Clients {
		if err := c.client(&plan.Clients[i]); err != nil {
			return fmt.Errorf("client %q: %w", plan.Clients[i].Record.ID, err)
		}
	}
	for i := range plan.Scopes {
		w := &plan.Scopes[i]
		if err := storeRecord(c, "scopes", "name", w.Record.Name, w); err != nil {
			return err
		}
		before := find(state.Scopes, func(s *record.Scope) bool { return s.Name == w.Record.Name })
		if err := c.s.auditChange(c.ctx, c.tx, audited.Scope(before, &w.Row)); err != nil {
			return err
		}
	}
	for i := range plan.Resources {
		w := &plan.Resources[i]
		if err := storeRecord(c, "resources", "identifier", w.Record.Identifier, w); err != nil {
			return err
		}
		before := find(state.Resources, func(r *record.Resource) bool { return r.Identifier == w.Record.Identifier })
		if err := c.s.auditChange(c.ctx, c.tx, audited.Resource(before, &w.Row)); err != nil {
			return err
		}
	}
	if err := c.users(plan.Users, state); err != nil {
		return err
	}
	return c.version(plan.Version)
}

// find returns the row of a record; nil if there is none.
func find[T any](rows []declaration.Row[T], is func(*T) bool) *declaration.Row[T] {
	for i := range rows {
		if is(&rows[i].Record) {
			return &rows[i]
		}
	}
	return nil
}

// takeOver renames a source.
func (c *declaring) takeOver(formerly string) error {
	for _, table := range [...]string{"clients", "users", "scopes", "resources"} {
		if err := c.exec(`UPDATE `+table+` SET source = $1 WHERE source = $2 AND source <> ''`, c.source, formerly); err != nil {
			return fmt.Errorf("rename the source of %s: %w", table, err)
		}
	}
	return nil
}

func (c *declaring) exec(query string, args ...any) error {
	_, err := c.tx.ExecContext(c.ctx, query, args...)
	return err
}

func (c *declaring) remove(r declaration.Name) error {
	switch r.Kind {
	case declaration.KindUser:
		return c.s.deleteUser(c.ctx, c.tx, r.ID)
	case declaration.KindClient:
		return c.s.deleteClient(c.ctx, c.tx, r.Name)
	case declaration.KindScope:
		return removeRecord(c, "scopes", "name", r.Name, audited.Scope)
	}
	return removeRecord(c, "resources", "identifier", r.Name, audited.Resource)
}

func removeRecord[T any](c *declaring, table, key, name string, compare func(before, after *declaration.Row[T]) *audit.Record) error {
	found, err := records[T](c.ctx, c.tx, `SELECT record FROM `+table+` WHERE `+key+` = $1`+c.s.database.forUpdate(), name)
	if err != nil || len(found) == 0 {
		return err
	}
	if err := c.exec(`DELETE FROM `+table+` WHERE `+key+` = $1`, name); err != nil {
		return err
	}
	return c.s.auditChange(c.ctx, c.tx, compare(&declaration.Row[T]{Record: found[0]}, nil))
}

func (c *declaring) client(w *declaration.Write[record.Client]) error {
	id := w.Record.ID
	result, err := c.tx.ExecContext(c.ctx, `INSERT INTO clients (client_id, metadata, secrets, source) VALUES ($1, '{}', $2, '') ON CONFLICT (client_id) DO NOTHING`, id, []byte{})
	if err != nil {
		return err
	}
	_, err = c.s.updateClient(c.ctx, c.tx, c.now, id, func(stored *record.Client) error {
		ended := stored.EndedAt
		*stored = w.Record
		if !w.Forget {
			stored.EndedAt = ended
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n > 0 || !w.Forget {
		return errors.Join(err, c.note("clients", "client_id", id, w.Source, w.Named))
	}
	if err := c.s.deleteTicketsOfClient(c.ctx, c.tx, id); err != nil {
		return err
	}
	revoked, err := deleteGrantsOfClient(c.ctx, c.tx, id)
	if err == nil && revoked != nil {
		err = c.s.insertAudit(c.ctx, c.tx, &audit.Record{Event: "consent.revoked", Object: audit.Object{Kind: audit.ObjectClient, ID: id}, ClientID: id, Details: revoked})
	}
	if err != nil {
		return err
	}
	return c.note("clients", "client_id", id, w.Source, w.Named)
}

// note stores what is known about the declaration of a record.
func (c *declaring) note(table, key, name, source string, named []string) error {
	return c.exec(`UPDATE `+table+` SET source = $1, named = $2 WHERE `+key+` = $3`, source, encodeNames(named), name)
}

func storeRecord[T any](c *declaring, table, key, name string, w *declaration.Write[T]) error {
	encoded, err := json.Marshal(w.Record)
	if err == nil {
		err = c.exec(`INSERT INTO `+table+` (`+key+`, record, source, named, retired) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (`+key+`) DO UPDATE SET record = excluded.record, source = excluded.source, named = excluded.named, retired = excluded.retired`,
			name, string(encoded), w.Source, encodeNames(w.Named), milliseconds(w.RetiredAt))
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w", table, name, err)
	}
	return nil
}

func (c *declaring) users(writes []declaration.Write[identity.User], state *declaration.State) error {
	before := map[string]*identity.User{}
	for i := range state.Users {
		before[state.Users[i].Record.ID] = &state.Users[i].Record
	}
	// Two users may swap their email addresses.
	for i := range writes {
		u := &writes[i].Record
		if old := before[u.ID]; old != nil && !slices.Equal(old.Identifiers(), u.Identifiers()) {
			if err := c.exec(`DELETE FROM identifiers WHERE user_id = $1`, u.ID); err != nil {
				return fmt.Errorf("user %q: %w", u.Username, err)
			}
		}
	}
	for i := range writes {
		if err := c.user(&writes[i], before[writes[i].Record.ID] != nil); err != nil {
			return fmt.Errorf("user %q: %w", writes[i].Record.Username, err)
		}
	}
	return nil
}

func (c *declaring) user(w *declaration.Write[identity.User], known bool) error {
	u := w.Record
	if !known {
		if err := c.s.createUser(c.ctx, c.tx, &u); err != nil {
			return err
		}
		return c.note("users", "id", u.ID, w.Source, w.Named)
	}
	ended, err := c.s.updateUser(c.ctx, c.tx, c.now, u.ID, func(stored *identity.User) error {
		*stored = u
		return nil
	})
	if err != nil {
		return err
	}
	if ended != nil {
		c.ended = append(c.ended, ended)
	}
	if w.Forget {
		if err := c.s.deleteGrants(c.ctx, c.tx, `subject = $1`, u.ID); err != nil {
			return err
		}
	}
	return c.note("users", "id", u.ID, w.Source, w.Named)
}

// keptVersions is how many versions of a source's file are remembered.
const keptVersions = 200

func (c *declaring) version(v *declaration.Version) error {
	if v == nil {
		return nil
	}
	err := c.exec(`INSERT INTO declared_versions (source, digest, modified, applied) VALUES ($1, $2, $3, $4)
		ON CONFLICT (source, digest) DO UPDATE SET modified = excluded.modified, applied = excluded.applied`,
		c.source, v.Digest, milliseconds(v.Modified), milliseconds(v.Applied))
	if err == nil {
		err = c.exec(`DELETE FROM declared_versions WHERE source = $1 AND applied <
			(SELECT min(applied) FROM (SELECT applied FROM declared_versions WHERE source = $1 ORDER BY applied DESC LIMIT $2) AS latest)`, c.source, keptVersions)
	}
	if err != nil {
		return fmt.Errorf("store the version of the file: %w", err)
	}
	return nil
}

func encodeNames(names []string) string {
	if len(names) == 0 {
		return ""
	}
	encoded, err := json.Marshal(names)
	if err != nil { // strings always encode
		return ""
	}
	return string(encoded)
}

// RemoveRetired removes the records that were retired before a time, and returns their names.
func (s *Store) RemoveRetired(ctx context.Context, before time.Time) ([]declaration.Name, error) {
	var removed []declaration.Name
	for _, kind := range []struct{ kind, list, query string }{
		{declaration.KindUser, "users", `SELECT id, username FROM users WHERE retired <> 0 AND retired <= $1 ORDER BY id LIMIT 100`},
		{declaration.KindClient, "clients", `SELECT client_id, client_id FROM clients WHERE retired <> 0 AND retired <= $1 ORDER BY client_id LIMIT 100`},
		{declaration.KindScope, "scopes", `SELECT name, name FROM scopes WHERE retired <> 0 AND retired <= $1 ORDER BY name LIMIT 100`},
		{declaration.KindResource, "resources", `SELECT identifier, identifier FROM resources WHERE retired <> 0 AND retired <= $1 ORDER BY identifier LIMIT 100`},
	} {
		for {
			names, err := s.removeRetired(ctx, kind.kind, kind.query, before)
			removed = append(removed, names...)
			if err != nil {
				return removed, fmt.Errorf("remove retired %s: %w", kind.list, err)
			}
			if len(names) == 0 {
				break
			}
		}
	}
	return removed, nil
}

func (s *Store) removeRetired(ctx context.Context, kind, query string, before time.Time) (names []declaration.Name, err error) {
	find := func(q querier, more string) ([]declaration.Name, error) {
		return collect(ctx, q, func(rows row) (declaration.Name, error) {
			name := declaration.Name{Kind: kind}
			err := rows.Scan(&name.ID, &name.Name)
			return name, err
		}, query+more, milliseconds(before))
	}
	if names, err = find(s.database.read(), ""); err != nil || len(names) == 0 {
		return nil, err
	}
	defer s.users.clear()
	err = s.transactLong(ctx, func(tx *sql.Tx) error {
		if err := lockCatalogue(ctx, tx); err != nil {
			return err
		}
		// One of them may have been declared again in the meantime.
		if names, err = find(tx, s.database.forUpdate()); err != nil {
			return err
		}
		c := declaring{s: s, ctx: ctx, tx: tx}
		for _, r := range names {
			if err := c.remove(r); err != nil {
				return fmt.Errorf("%q: %w", r.Name, err)
			}
		}
		return bumpVersion(ctx, tx)
	})
	if err != nil {
		return nil, err
	}
	return names, nil
}

// placeholders returns "($1, …, $n)".
func placeholders(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ", $%d", i+1)
	}
	return "(" + strings.TrimPrefix(b.String(), ", ") + ")"
}
