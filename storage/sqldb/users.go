package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/audited"
	"github.com/valetkey/valetkey/storage/record"
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
	found, err := rawUsers(ctx, q, where, args...)
	if err != nil {
		return nil, err
	}
	users := make([]identity.User, len(found))
	for i := range found {
		users[i] = found[i].user
		if err := json.Unmarshal([]byte(found[i].claims), &users[i].Claims); err != nil {
			return nil, fmt.Errorf("read users: claims of user %q: %w", users[i].ID, err)
		}
		if users[i].Authenticators, err = identity.DecodeAuthenticators(found[i].authenticators); err != nil {
			return nil, fmt.Errorf("read users: user %q: %w", users[i].ID, err)
		}
		if users[i].External, err = identity.DecodeExternal(found[i].external); err != nil {
			return nil, fmt.Errorf("read users: user %q: %w", users[i].ID, err)
		}
	}
	return users, nil
}

// rawUser is a user whose claims, authenticators and links are not decoded yet.
type rawUser struct {
	user           identity.User
	claims         string
	authenticators string
	external       string
}

func rawUsers(ctx context.Context, q querier, where string, args ...any) ([]rawUser, error) {
	found, err := collect(ctx, q, func(rows row) (raw rawUser, err error) {
		u := &raw.user
		var kept, account string
		var created, updated, retired, ended int64
		err = rows.Scan(&u.ID, &u.Username, &u.PasswordHash, &u.DeclaredPassword, &raw.claims, &u.Disabled, &u.Administrator, &created, &updated, &retired, &ended, &kept, &u.Origin, &raw.authenticators, &u.UserCodeHash, &account, &raw.external, &u.DeclaredBy)
		if err == nil {
			err = u.DecodeAccountData(account)
		}
		if err != nil {
			return raw, err
		}
		u.CreatedAt, u.UpdatedAt = fromMilliseconds(created), fromMilliseconds(updated)
		u.RetiredAt, u.EndedAt = fromMilliseconds(retired), fromMilliseconds(ended)
		u.Kept = strings.Fields(kept) // names of sessions contain no spaces
		return raw, nil
	}, `SELECT id, username, password_hash, declared_password, claims, disabled, administrator, created, updated, retired, ended, kept, origin, authenticators, user_code_hash, account, external, source FROM users `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	return found, nil
}

// CreateUser implements identity.Store.
func (s *Store) CreateUser(ctx context.Context, user *identity.User) error {
	defer s.users.forget(user.ID) // it may have been deleted on another node just now
	err := s.transact(ctx, func(tx *sql.Tx) error { return s.createUser(ctx, tx, user) })
	if err != nil {
		return fmt.Errorf("create user: %w", err)
	}
	return nil
}

func (s *Store) createUser(ctx context.Context, tx *sql.Tx, user *identity.User) error {
	if user.ID == "" {
		return errors.New("the user has no ID")
	}
	claims, err := json.Marshal(user.Claims)
	if err != nil {
		return fmt.Errorf("claims of user %q: %w", user.Username, err)
	}
	authenticators, err := identity.EncodeAuthenticators(user.Authenticators)
	if err != nil {
		return err
	}
	external, err := identity.EncodeExternal(user.External)
	if err != nil {
		return err
	}
	account, err := user.EncodeAccountData()
	if err != nil {
		return err
	}
	result, err := tx.ExecContext(ctx, `INSERT INTO users (id, username, password_hash, declared_password, claims, disabled, administrator, created, updated, retired, ended, kept, origin, authenticators, user_code_hash, account, delete_after, due, external, source)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, '') ON CONFLICT (id) DO NOTHING`,
		user.ID, user.Username, user.PasswordHash, user.DeclaredPassword, string(claims), user.Disabled, user.Administrator,
		milliseconds(user.CreatedAt), milliseconds(user.UpdatedAt), milliseconds(user.RetiredAt), milliseconds(user.EndedAt), strings.Join(user.Kept, " "), user.Origin,
		authenticators, user.UserCodeHash, account, milliseconds(user.Account.DeleteAfter), milliseconds(user.Due()), external)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(storage.ErrExists, err)
	}
	if err := putIdentifiers(ctx, tx, user); err != nil {
		return err
	}
	if err := putExternal(ctx, tx, user); err != nil {
		return err
	}
	return s.auditChange(ctx, tx, audited.User(nil, user))
}

// UserByExternal implements identity.Store.
func (s *Store) UserByExternal(ctx context.Context, issuer, subject string) (*identity.User, error) {
	if !storable(issuer) || !storable(subject) {
		return nil, storage.ErrNotFound
	}
	return oneUser(ctx, s.database.read(), `WHERE id = (SELECT user_id FROM external_users WHERE issuer = $1 AND subject = $2)`, issuer, subject)
}

// putExternal stores which user the links belong to.
func putExternal(ctx context.Context, tx *sql.Tx, user *identity.User) error {
	// In a fixed order, like identifiers.
	for _, key := range user.ExternalKeys() {
		result, err := tx.ExecContext(ctx, `INSERT INTO external_users (issuer, subject, user_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, key.Issuer, key.Subject, user.ID)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("user %q: %w", user.Username, identity.ErrExternalTaken)
		}
	}
	return nil
}

// UpdateUser implements identity.Store.
func (s *Store) UpdateUser(ctx context.Context, id string, update func(*identity.User) error) error {
	defer s.users.forget(id) // even after an error: the transaction may have been committed
	var ended *identity.User
	err := s.transact(ctx, func(tx *sql.Tx) (err error) {
		resigns := false
		ended, err = s.updateUser(ctx, tx, time.Now(), id, func(user *identity.User) error {
			before := user.Administers()
			err := update(user)
			resigns = before && !user.Administers()
			return err
		})
		if err == nil && resigns {
			err = s.mustLeaveAdministrator(ctx, tx, id)
		}
		return err
	})
	if err == nil && ended != nil {
		err = s.endAgain(ctx, ended)
	}
	if err != nil {
		return fmt.Errorf("update user: %w", err)
	}
	return nil
}

// endAgain ends, after the commit of a transaction that ended everything of a user, what other
// transactions stored while that one was running, with the session and the time as they were before: a
// code that was issued and redeemed meanwhile, for example. Its time is later, so that nothing remains
// valid that was issued before the commit.
func (s *Store) endAgain(ctx context.Context, ended *identity.User) error {
	if s.database.alone() { // no other transaction can have run meanwhile
		return nil
	}
	return s.transact(ctx, func(tx *sql.Tx) error { return s.endUserAgain(ctx, tx, ended) })
}

func (s *Store) endUserAgain(ctx context.Context, tx *sql.Tx, ended *identity.User) error {
	user, err := oneUser(ctx, tx, `WHERE id = $1`+s.database.forUpdate(), ended.ID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if milliseconds(user.EndedAt) != milliseconds(ended.EndedAt) {
		return nil // another change has ended everything since
	}
	user.EndedAt = time.Now()
	if _, err := tx.ExecContext(ctx, `UPDATE users SET ended = $1 WHERE id = $2`, milliseconds(user.EndedAt), user.ID); err != nil {
		return err
	}
	return s.endUser(ctx, tx, user)
}

// updateUser returns the user if the change ended what was issued to it, and otherwise nil.
func (s *Store) updateUser(ctx context.Context, tx *sql.Tx, now time.Time, id string, update func(*identity.User) error) (*identity.User, error) {
	user, err := oneUser(ctx, tx, `WHERE id = $1`+s.database.forUpdate(), id)
	if err != nil {
		return nil, err
	}
	before, names, links := user.Clone(), user.Identifiers(), user.ExternalKeys()
	if err := update(user); err != nil {
		return nil, err
	}
	if user.ID != id {
		return nil, fmt.Errorf("the ID of user %q cannot change", id)
	}
	ends := user.Settle(now, before)
	claims, err := json.Marshal(user.Claims)
	if err != nil {
		return nil, fmt.Errorf("claims of user %q: %w", user.Username, err)
	}
	authenticators, err := identity.EncodeAuthenticators(user.Authenticators)
	if err != nil {
		return nil, err
	}
	external, err := identity.EncodeExternal(user.External)
	if err != nil {
		return nil, err
	}
	account, err := user.EncodeAccountData()
	if err != nil {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE users SET username = $1, password_hash = $2, declared_password = $3, claims = $4,
			disabled = $5, administrator = $6, created = $7, updated = $8, retired = $9, ended = $10, kept = $11, origin = $12,
			authenticators = $13, user_code_hash = $14, account = $15, delete_after = $16, due = $17, external = $18 WHERE id = $19`,
		user.Username, user.PasswordHash, user.DeclaredPassword, string(claims), user.Disabled, user.Administrator,
		milliseconds(user.CreatedAt), milliseconds(user.UpdatedAt), milliseconds(user.RetiredAt), milliseconds(user.EndedAt), strings.Join(user.Kept, " "), user.Origin,
		authenticators, user.UserCodeHash, account, milliseconds(user.Account.DeleteAfter), milliseconds(user.Due()), external, id)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(user.Identifiers(), names) {
		if _, err := tx.ExecContext(ctx, `DELETE FROM identifiers WHERE user_id = $1`, id); err != nil {
			return nil, err
		}
		if err := putIdentifiers(ctx, tx, user); err != nil {
			return nil, err
		}
	}
	if !slices.Equal(user.ExternalKeys(), links) {
		if _, err := tx.ExecContext(ctx, `DELETE FROM external_users WHERE user_id = $1`, id); err != nil {
			return nil, err
		}
		if err := putExternal(ctx, tx, user); err != nil {
			return nil, err
		}
	}
	if user.Forgotten {
		if err := s.deleteGrants(ctx, tx, `subject = $1`, id); err != nil {
			return nil, err
		}
	}
	if err := s.auditChange(ctx, tx, audited.User(before, user)); err != nil {
		return nil, err
	}
	if !ends {
		return nil, nil
	}
	return user, s.endUser(ctx, tx, user)
}

func putIdentifiers(ctx context.Context, tx *sql.Tx, user *identity.User) error {
	// In a fixed order, so that two users who swap names do not deadlock.
	for _, identifier := range slices.Sorted(slices.Values(user.Identifiers())) {
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
	return nil
}

const (
	sessionsOfUser = `SELECT ` + ticketColumns + ` FROM tickets WHERE family = $1 AND family <> '' AND kind = $2`
	endSession     = `DELETE FROM tickets WHERE kind = $1 AND id = $2 RETURNING ` + ticketColumns
	putEndedNote   = `INSERT INTO tickets (` + ticketColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (kind, id) DO NOTHING`
)

// endUser ends what was issued to a user, except what belongs to a session in user.Kept.
func (s *Store) endUser(ctx context.Context, tx *sql.Tx, user *identity.User) error {
	if err := s.endSessions(ctx, tx, user); err != nil {
		return err
	}
	family := ofFamily(identity.SessionFamily(user.ID))
	if len(user.Kept) == 0 {
		return s.deleteTickets(ctx, tx, ofGrantsOfUser(user.ID), family)
	}
	// Only sessions are kept in this family; remembered devices, for example, end.
	if err := s.deleteTickets(ctx, tx, family.but(identity.KindSession)); err != nil {
		return err
	}
	return s.deleteUnkept(ctx, tx, user)
}

// deleteUnkept deletes the tickets of a user's grants, except those of families that began in a
// session in user.Kept. It repeats the query for the reason in writer.removeAll.
func (s *Store) deleteUnkept(ctx context.Context, tx *sql.Tx, user *identity.User) error {
	ofUser := ofGrantsOfUser(user.ID)
	for {
		tickets, err := collectTickets(ctx, tx, `SELECT `+ticketColumns+` FROM tickets WHERE `+ofUser.where+notEnded, ofUser.args...)
		if err != nil {
			return fmt.Errorf("list tickets: %w", err)
		}
		kept, ended := map[string]bool{}, map[string]bool{}
		for _, t := range tickets {
			root := storage.RootFamily(t.Family)
			ended[root] = true
			if root != "" && slices.Contains(user.Kept, record.SessionOf(t)) {
				kept[root] = true
			}
		}
		maps.DeleteFunc(ended, func(root string, _ bool) bool { return kept[root] })
		if len(ended) == 0 {
			return nil
		}
		for _, root := range slices.Sorted(maps.Keys(ended)) {
			set := ofLine(root)
			if root == "" {
				set = ofUser
				set.where += ` AND family = ''`
			}
			if err := s.deleteTickets(ctx, tx, set); err != nil {
				return err
			}
		}
	}
}

// endSessions deletes a user's sessions, except those in user.Kept, and stores a note about the
// end of each. It repeats the query to find a session that gets another name in the meantime.
func (s *Store) endSessions(ctx context.Context, tx *sql.Tx, user *identity.User) error {
	for {
		sessions, err := collectTickets(ctx, tx, sessionsOfUser, identity.SessionFamily(user.ID), string(identity.KindSession))
		if err != nil {
			return fmt.Errorf("list sessions: %w", err)
		}
		sessions = slices.DeleteFunc(sessions, func(t storage.Ticket) bool { return user.Keeps(t) })
		if len(sessions) == 0 {
			return nil
		}
		for _, key := range keysOf(sessions) {
			// The row that was deleted: a session that was spent since continues under another name.
			ended, err := collectTickets(ctx, tx, endSession, string(key.Kind), key.ID[:])
			if err != nil {
				return fmt.Errorf("end a session: %w", err)
			}
			for _, session := range ended {
				if err := noteEnded(ctx, tx, session); err != nil {
					return err
				}
			}
		}
	}
}

func noteEnded(ctx context.Context, tx *sql.Tx, session storage.Ticket) error {
	note := identity.EndedNote(session)
	if note == nil {
		return nil
	}
	_, err := tx.ExecContext(ctx, putEndedNote, string(note.Kind), note.ID[:], note.Grant, note.Family, note.Data, milliseconds(note.Expires), 0)
	if err != nil {
		return fmt.Errorf("store the note about an ended session: %w", err)
	}
	return nil
}

// DeleteUser implements identity.Store.
func (s *Store) DeleteUser(ctx context.Context, id string) error {
	// Grants may be of a subject who is no user of this store.
	return s.deleteUserIf(ctx, id, func(*identity.User) error { return nil })
}

// DeleteUserIf is DeleteUser if check, which is called with the current record, returns no error;
// otherwise it returns that error. The record cannot change in between. It returns
// storage.ErrNotFound if there is no such user.
func (s *Store) DeleteUserIf(ctx context.Context, id string, check func(*identity.User) error) error {
	return s.deleteUserIf(ctx, id, func(user *identity.User) error {
		if user == nil {
			return storage.ErrNotFound
		}
		return check(user)
	})
}

// deleteUserIf calls check with nil if there is no such user.
func (s *Store) deleteUserIf(ctx context.Context, id string, check func(*identity.User) error) error {
	defer s.users.forget(id)
	err := s.transactLong(ctx, func(tx *sql.Tx) error {
		user, err := oneUser(ctx, tx, `WHERE id = $1`+s.database.forUpdate(), id)
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if err := check(user); err != nil {
			return err
		}
		if user != nil && user.Administers() {
			if err := s.mustLeaveAdministrator(ctx, tx, id); err != nil {
				return err
			}
		}
		return s.deleteUser(ctx, tx, id)
	})
	if err != nil {
		return fmt.Errorf("delete user: %w", err)
	}
	return nil
}

// mustLeaveAdministrator returns identity.ErrLastAdministrator if nobody but a user administers.
// Until the transaction ends, no other one can pass this check: it would wait, and then count again.
func (s *Store) mustLeaveAdministrator(ctx context.Context, tx *sql.Tx, id string) error {
	if err := s.database.lockAdministrators(ctx, tx); err != nil {
		return fmt.Errorf("lock administrators: %w", err)
	}
	var others bool
	if err := tx.QueryRowContext(ctx, hasAdministrator, id).Scan(&others); err != nil {
		return fmt.Errorf("look for another administrator: %w", err)
	}
	if !others {
		return identity.ErrLastAdministrator
	}
	return nil
}

const hasAdministrator = `SELECT EXISTS (SELECT 1 FROM users WHERE administrator AND NOT disabled AND retired = 0 AND delete_after = 0 AND id <> $1)`

func (s *Store) deleteUser(ctx context.Context, tx *sql.Tx, id string) error {
	// Records are locked before tickets, as in updateUser.
	user, err := oneUser(ctx, tx, `WHERE id = $1`+s.database.forUpdate(), id)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if err := s.endUser(ctx, tx, &identity.User{ID: id}); err != nil {
		return err
	}
	var families []ticketSet
	for _, family := range identity.AccountFamilies(id) {
		families = append(families, ofFamily(family))
	}
	if err := s.deleteTickets(ctx, tx, families...); err != nil {
		return err
	}
	if err := s.deleteGrants(ctx, tx, `subject = $1`, id); err != nil {
		return err
	}
	for _, query := range []string{`DELETE FROM uses WHERE owner = $1`, `DELETE FROM users WHERE id = $1`} {
		if _, err := tx.ExecContext(ctx, query, id); err != nil {
			return err
		}
	}
	if user == nil {
		return nil
	}
	return s.auditChange(ctx, tx, audited.User(user, nil))
}

// DueUsers implements identity.Store.
func (s *Store) DueUsers(ctx context.Context, now time.Time, limit int) ([]string, error) {
	ids, err := collect(ctx, s.database.read(), func(rows row) (id string, err error) {
		err = rows.Scan(&id)
		return id, err
	}, `SELECT id FROM users WHERE due <> 0 AND due <= $1 ORDER BY due, id LIMIT $2`, now.UnixMilli(), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("list users with something due: %w", err)
	}
	return ids, nil
}

// EraseUser implements identity.Store. The row is locked before it is checked, so a user who cancels
// the deletion at the same time either succeeds before or finds no account.
func (s *Store) EraseUser(ctx context.Context, now time.Time, id string) error {
	defer s.users.forget(id)
	err := s.transactLong(ctx, func(tx *sql.Tx) error {
		user, err := oneUser(ctx, tx, `WHERE id = $1`+s.database.forUpdate(), id)
		if err != nil {
			return err
		}
		if !user.Erasable(now) {
			return storage.ErrNotFound
		}
		return s.deleteUser(ctx, tx, id)
	})
	if err != nil {
		return fmt.Errorf("erase user: %w", err)
	}
	return nil
}

// Users implements identity.Store.
func (s *Store) Users(ctx context.Context, after string, limit int) ([]identity.User, error) {
	return users(ctx, s.database.read(), `WHERE id > $1 ORDER BY id LIMIT $2`, after, max(limit, 0))
}

// HasAdministrator implements identity.Store.
func (s *Store) HasAdministrator(ctx context.Context, except string) (has bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err = s.database.read().QueryRowContext(ctx, hasAdministrator, except).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("look for an administrator: %w", fault(err))
	}
	return has, nil
}
