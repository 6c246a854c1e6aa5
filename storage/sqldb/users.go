package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
)

// User implements identity.Store.
func (s *Store) User(ctx context.Context, id string) (*identity.User, error) {
	return oneUser(ctx, s.database.read(), `WHERE id = $1`, id)
}

// UserByIdentifier implements identity.Store.
func (s *Store) UserByIdentifier(ctx context.Context, identifier string) (*identity.User, error) {
	if !storable(identifier) {
		return nil, storage.ErrNotFound
	}
	return oneUser(ctx, s.database.read(), `WHERE id = (SELECT user_id FROM identifiers WHERE identifier = $1)`, identifier)
}

func oneUser(ctx context.Context, q querier, where string, args ...any) (*identity.User, error) {
	found, err := users(ctx, q, where, args...)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, storage.ErrNotFound
	}
	return &found[0], nil
}

func users(ctx context.Context, q querier, where string, args ...any) ([]identity.User, error) {
	found, err := collect(ctx, q, func(rows *sql.Rows) (u identity.User, err error) {
		var claims string
		var created, updated int64
		err = rows.Scan(&u.ID, &u.Username, &u.PasswordHash, &u.DeclaredPassword, &claims, &u.Disabled, &u.Administrator, &created, &updated)
		if err != nil {
			return u, err
		}
		u.CreatedAt, u.UpdatedAt = fromMilliseconds(created), fromMilliseconds(updated)
		if err := json.Unmarshal([]byte(claims), &u.Claims); err != nil {
			return u, fmt.Errorf("claims of user %q: %w", u.ID, err)
		}
		return u, nil
	}, `SELECT id, username, password_hash, declared_password, claims, disabled, administrator, created, updated FROM users `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	return found, nil
}

// PutUser implements identity.Store.
func (s *Store) PutUser(ctx context.Context, user *identity.User) error {
	if user.ID == "" {
		return errors.New("store user: it has no ID")
	}
	err := s.transact(ctx, func(tx *sql.Tx) error { return s.putUser(ctx, tx, user) })
	if err != nil {
		return fmt.Errorf("store user: %w", err)
	}
	return nil
}

func (s *Store) putUser(ctx context.Context, tx *sql.Tx, user *identity.User) error {
	claims, err := json.Marshal(user.Claims)
	if err != nil {
		return fmt.Errorf("claims of user %q: %w", user.Username, err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO users (id, username, password_hash, declared_password, claims, disabled, administrator, created, updated, source)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, '')
		ON CONFLICT (id) DO UPDATE SET username = excluded.username, password_hash = excluded.password_hash,
			declared_password = excluded.declared_password, claims = excluded.claims,
			disabled = excluded.disabled, administrator = excluded.administrator, created = excluded.created, updated = excluded.updated`,
		user.ID, user.Username, user.PasswordHash, user.DeclaredPassword, string(claims), user.Disabled, user.Administrator,
		milliseconds(user.CreatedAt), milliseconds(user.UpdatedAt))
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM identifiers WHERE user_id = $1`, user.ID); err != nil {
		return err
	}
	for _, identifier := range user.Identifiers() {
		result, err := tx.ExecContext(ctx, `INSERT INTO identifiers (identifier, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, identifier, user.ID)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("user %q: %w", user.Username, identity.ErrIdentifierTaken)
		}
	}
	if user.Disabled {
		return s.endSessions(ctx, tx, user.ID)
	}
	return nil
}

const (
	sessionsOfUser = `SELECT ` + ticketColumns + ` FROM tickets WHERE family = $1 AND family <> '' AND kind = $2`
	putEndedNote   = `INSERT INTO tickets (` + ticketColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (kind, id) DO NOTHING`
)

// endSessions deletes a person's sessions and stores the notes that they ended.
func (s *Store) endSessions(ctx context.Context, tx *sql.Tx, userID string) error {
	family, kind := identity.SessionFamily(userID), string(identity.KindSession)
	sessions, err := collect(ctx, tx, func(rows *sql.Rows) (storage.Ticket, error) {
		var row ticketRow
		if err := rows.Scan(row.fields()...); err != nil {
			return storage.Ticket{}, err
		}
		return row.ticket()
	}, sessionsOfUser, family, kind)
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	for _, session := range sessions {
		note := identity.EndedNote(session)
		if note == nil {
			continue
		}
		_, err := tx.ExecContext(ctx, putEndedNote, string(note.Kind), note.ID[:], note.Grant, note.Family, note.Data, milliseconds(note.Expires), 0)
		if err != nil {
			return fmt.Errorf("note the end of a session: %w", err)
		}
	}
	return s.deleteTickets(ctx, tx, keysOfFamilyKind, family, storage.AfterFamily(family), kind)
}

// DeleteUser implements identity.Store.
func (s *Store) DeleteUser(ctx context.Context, id string) error {
	err := s.transact(ctx, func(tx *sql.Tx) error { return s.deleteUser(ctx, tx, id) })
	if err != nil {
		return fmt.Errorf("delete user: %w", err)
	}
	return nil
}

func (s *Store) deleteUser(ctx context.Context, tx *sql.Tx, id string) error {
	if err := s.endSessions(ctx, tx, id); err != nil {
		return err
	}
	if err := s.deleteTickets(ctx, tx, keysOfUser, id, identity.SessionFamily(id)); err != nil {
		return err
	}
	for _, query := range []string{`DELETE FROM grants WHERE subject = $1`, `DELETE FROM users WHERE id = $1`} {
		if _, err := tx.ExecContext(ctx, query, id); err != nil {
			return err
		}
	}
	return nil
}

// Users implements identity.Store.
func (s *Store) Users(ctx context.Context, after string, limit int) ([]identity.User, error) {
	return users(ctx, s.database.read(), `WHERE id > $1 ORDER BY id LIMIT $2`, after, max(limit, 0))
}

// HasAdministrator implements identity.Store.
func (s *Store) HasAdministrator(ctx context.Context) (has bool, err error) {
	err = s.database.read().QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM users WHERE administrator AND NOT disabled)`).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("look for an administrator: %w", err)
	}
	return has, nil
}
