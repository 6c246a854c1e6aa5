package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/declaration"
)

// Declaration is what Declare takes.
type Declaration = declaration.Declaration

// Declare inserts or updates all of d in one transaction; what is stored like that already
// is left alone. With source != "" (the name of a configuration file), what the same source
// declared before and no longer declares is removed; "" removes nothing. A user is who has
// the username, and keeps their ID; an e-mail address or username of somebody else is
// identity.ErrIdentifierTaken.
func (s *Store) Declare(ctx context.Context, now time.Time, source string, d Declaration) error {
	if err := d.Check(); err != nil {
		return fmt.Errorf("declare: %w", err)
	}
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if err := lockCatalogue(ctx, tx); err != nil {
			return err
		}
		c := declaring{s: s, ctx: ctx, tx: tx, now: now, source: source}
		// What is gone goes first: its names are free for what is new.
		if err := errors.Join(c.removeUsers(d.Users), c.removeOthers(d)); err != nil {
			return err
		}
		for _, client := range d.Clients {
			if err := c.client(client); err != nil {
				return err
			}
		}
		for _, scope := range d.Scopes {
			if err := c.record("scopes", "name", scope.Name, scope); err != nil {
				return err
			}
		}
		for _, resource := range d.Resources {
			if err := c.record("resources", "identifier", resource.Identifier, resource); err != nil {
				return err
			}
		}
		for _, user := range d.Users {
			if err := c.user(user); err != nil {
				return err
			}
		}
		if c.changed {
			return bumpVersion(ctx, tx)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("declare: %w", err)
	}
	return nil
}

// Declared returns every client, user, scope and resource that is stored, but for clients
// that registered themselves.
func (s *Store) Declared(ctx context.Context) (Declaration, error) {
	var d Declaration
	var err error
	if d.Clients, err = s.clients(ctx, s.database.read(), `WHERE registered = 0 ORDER BY client_id`); err != nil {
		return d, err
	}
	if d.Scopes, err = s.Scopes(ctx); err != nil {
		return d, err
	}
	if d.Resources, err = s.Resources(ctx); err != nil {
		return d, err
	}
	d.Users, err = users(ctx, s.database.read(), `ORDER BY id`)
	return d, err
}

// declaring is one call of Declare.
type declaring struct {
	s       *Store
	ctx     context.Context
	tx      *sql.Tx
	now     time.Time
	source  string
	changed bool // a client, scope or resource
}

// gone returns the keys in a table that the source declared before and that declared does
// not hold.
func (c *declaring) gone(table, key string, declared func(string) bool) ([]string, error) {
	if c.source == "" {
		return nil, nil
	}
	keys, err := collect(c.ctx, c.tx, func(rows *sql.Rows) (k string, err error) {
		err = rows.Scan(&k)
		return k, err
	}, `SELECT `+key+` FROM `+table+` WHERE source = $1`, c.source)
	if err != nil {
		return nil, fmt.Errorf("read %s of source: %w", table, err)
	}
	return slices.DeleteFunc(keys, declared), nil
}

func (c *declaring) removeUsers(declared []identity.User) error {
	kept := map[string]bool{}
	for _, u := range declared {
		canonical, err := identity.CanonicalIdentifier(u.Username)
		if err != nil {
			return fmt.Errorf("user %q: %w", u.Username, err)
		}
		kept[canonical] = true
	}
	names, err := c.gone("users", "username", func(name string) bool {
		canonical, err := identity.CanonicalIdentifier(name)
		return err == nil && kept[canonical]
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		user, err := c.userNamed(name)
		if err != nil {
			return err
		}
		if err := c.s.deleteUser(c.ctx, c.tx, user.ID); err != nil {
			return fmt.Errorf("remove user %q: %w", name, err)
		}
	}
	return nil
}

func (c *declaring) removeOthers(d Declaration) error {
	clients, err := c.gone("clients", "client_id", func(id string) bool {
		return slices.ContainsFunc(d.Clients, func(have authserver.Client) bool { return have.ID == id })
	})
	if err != nil {
		return err
	}
	for _, id := range clients {
		if err := c.s.deleteClient(c.ctx, c.tx, id); err != nil {
			return fmt.Errorf("remove client %q: %w", id, err)
		}
	}
	scopes, err := c.gone("scopes", "name", func(name string) bool {
		return slices.ContainsFunc(d.Scopes, func(have authserver.Scope) bool { return have.Name == name })
	})
	if err != nil {
		return err
	}
	for _, name := range scopes {
		if _, err := c.tx.ExecContext(c.ctx, `DELETE FROM scopes WHERE name = $1`, name); err != nil {
			return fmt.Errorf("remove scope %q: %w", name, err)
		}
	}
	resources, err := c.gone("resources", "identifier", func(identifier string) bool {
		return slices.ContainsFunc(d.Resources, func(have authserver.Resource) bool { return have.Identifier == identifier })
	})
	if err != nil {
		return err
	}
	for _, identifier := range resources {
		if _, err := c.tx.ExecContext(c.ctx, `DELETE FROM resources WHERE identifier = $1`, identifier); err != nil {
			return fmt.Errorf("remove resource %q: %w", identifier, err)
		}
	}
	c.changed = c.changed || len(clients)+len(scopes)+len(resources) > 0
	return nil
}

// own notes that the source declares a row. "" takes nothing over.
func (c *declaring) own(table, key, value string) error {
	if c.source == "" {
		return nil
	}
	_, err := c.tx.ExecContext(c.ctx, `UPDATE `+table+` SET source = $1 WHERE `+key+` = $2 AND source <> $1`, c.source, value)
	return err
}

func (c *declaring) client(client authserver.Client) error {
	metadata, sealed, err := c.s.encodeClient(&client)
	if err != nil {
		return err
	}
	changed, err := c.s.updateClient(c.ctx, c.tx, c.now, client.ID, func(stored *authserver.Client) error {
		client.EndedAt = stored.EndedAt
		*stored = client
		return nil
	})
	if errors.Is(err, storage.ErrNotFound) {
		changed = true
		_, err = c.tx.ExecContext(c.ctx, `INSERT INTO clients (client_id, metadata, secrets, source) VALUES ($1, $2, $3, '')`, client.ID, metadata, sealed)
	}
	if err != nil {
		return fmt.Errorf("client %q: %w", client.ID, err)
	}
	c.changed = c.changed || changed
	return c.own("clients", "client_id", client.ID)
}

func (c *declaring) record(table, key, name string, value any) error {
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("%s %q: %w", table, name, err)
	}
	result, err := c.tx.ExecContext(c.ctx, `INSERT INTO `+table+` (`+key+`, record, source) VALUES ($1, $2, '')
		ON CONFLICT (`+key+`) DO UPDATE SET record = excluded.record WHERE `+table+`.record <> excluded.record`, name, string(encoded))
	if err != nil {
		return fmt.Errorf("%s %q: %w", table, name, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return fmt.Errorf("%s %q: %w", table, name, err)
	}
	c.changed = c.changed || n > 0
	return c.own(table, key, name)
}

func (c *declaring) user(user identity.User) error {
	old, err := c.userNamed(user.Username)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		user.ID, user.CreatedAt, user.UpdatedAt = storage.NewID(), c.now, c.now
	case err != nil:
		return err
	default:
		user.ID, user.CreatedAt, user.UpdatedAt = old.ID, old.CreatedAt, old.UpdatedAt
		user.EndedAt, user.Kept = old.EndedAt, old.Kept
	}
	if err := user.Check(); err != nil {
		return fmt.Errorf("user %q: %w", user.Username, err)
	}
	switch {
	case old == nil:
		err = createUser(c.ctx, c.tx, &user)
	case !sameUser(user, *old):
		user.UpdatedAt = c.now
		err = c.s.updateUser(c.ctx, c.tx, c.now, user.ID, func(stored *identity.User) error {
			*stored = user
			return nil
		})
	}
	if err != nil {
		return err
	}
	return c.own("users", "id", user.ID)
}

// userNamed finds a person by username alone: an e-mail address that is spelt like that
// belongs to somebody else.
func (c *declaring) userNamed(username string) (*identity.User, error) {
	canonical, err := identity.CanonicalIdentifier(username)
	if err != nil {
		return nil, fmt.Errorf("user %q: %w", username, err)
	}
	user, err := oneUser(c.ctx, c.tx, `WHERE id = (SELECT user_id FROM identifiers WHERE identifier = $1)`, canonical)
	if err != nil {
		return nil, err
	}
	if !declaration.SameUser(user, username) {
		return nil, storage.ErrNotFound
	}
	return user, nil
}

// sameUser compares records as they are stored.
func sameUser(a, b identity.User) bool {
	claimsA, errA := json.Marshal(a.Claims)
	claimsB, errB := json.Marshal(b.Claims)
	if errA != nil || errB != nil || string(claimsA) != string(claimsB) {
		return false
	}
	a.Claims, b.Claims = nil, nil
	return reflect.DeepEqual(a, b)
}
