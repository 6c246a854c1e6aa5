package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// maxPasswordHashKinds is the maximum length of the list.
const maxPasswordHashKinds = 64

// nextPasswordHashKind uses the index users_password_hash_kind, so that it costs one lookup for
// each kind instead of one for each user. Its expression is the same as that of the index, and
// computes the same as identity.PasswordHashKind.
const nextPasswordHashKind = `SELECT ` + passwordHashKind + ` AS kind FROM users WHERE ` + passwordHashKind + ` > $1 ORDER BY kind LIMIT 1`

const (
	passwordHashKind = `(CASE WHEN substr(password_hash, 1, 10) = '$argon2id$'
		THEN rtrim(rtrim(rtrim(password_hash, ` + base64Letters + `), '$'), ` + base64Letters + `)
		ELSE rtrim(password_hash, ` + base64Letters + `) END)`
	base64Letters = `'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=.'`
)

// PasswordHashKinds implements identity.Store.
func (s *Store) PasswordHashKinds(ctx context.Context) ([]string, error) {
	var kinds []string
	last := ""
	for len(kinds) < maxPasswordHashKinds {
		err := s.database.read().QueryRowContext(ctx, nextPasswordHashKind, last).Scan(&last)
		if errors.Is(err, sql.ErrNoRows) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list the kinds of password hashes: %w", err)
		}
		kinds = append(kinds, last)
	}
	return kinds, nil
}
