// Package sqlsession stores the sessions of a client.RelyingParty in PostgreSQL or SQLite, for
// applications that run in several processes, or whose users stay signed in after a restart.
// It uses database/sql with the driver of the application.
//
// Sessions, with their tokens, are encrypted with AES-256-GCM: read access to the database or
// to a backup is not enough to use a token. Only issuer, sub and sid are stored in plain text,
// because the provider identifies sessions by them at sign-out.
package sqlsession

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/valetkey/valetkey/oauth/client"
)

// Dialect is the SQL dialect of a database.
type Dialect string

// The supported databases.
const (
	PostgreSQL Dialect = "postgresql"
	SQLite     Dialect = "sqlite"
)

// Config configures a Store. DB, Dialect and Key are required.
type Config struct {
	// DB is the application's database. For SQLite, set a busy timeout in its data source
	// name, so that processes wait for each other.
	DB      *sql.DB
	Dialect Dialect
	// Key is a key of 32 bytes that encrypts sessions. All processes need the same key.
	Key []byte `json:"-"`
	// OlderKeys decrypt sessions from before Key was replaced. When a session is stored again,
	// it is encrypted with Key.
	OlderKeys [][]byte `json:"-"`
	// Table is the name of the table; empty means relying_party_sessions.
	Table string
}

// Format keeps the keys out of logs and error messages, for every verb.
func (c Config) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[%s sessions]", c.Dialect) }

// LogValue keeps the keys out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Store is a client.SessionStore. It is safe for concurrent use, and several Stores can use
// the same database.
type Store struct {
	db      *sql.DB
	dialect Dialect
	table   string
	seals   []cipher.AEAD // the first encrypts, all decrypt
}

// Format keeps the keys out of logs and error messages, for every verb.
func (s *Store) Format(state fmt.State, _ rune) { fmt.Fprintf(state, "[%s sessions]", s.dialect) }

const (
	defaultTable = "relying_party_sessions"
	// expiredAtOnce limits how many expired sessions one Put removes. On average, one in
	// putsPerRemoval Puts does so.
	expiredAtOnce  = 200
	putsPerRemoval = 20
	// maxConflicts limits how often a statement is tried again after a serialization failure
	// or deadlock.
	maxConflicts = 5
)

// New checks the configuration and returns a Store. It sends nothing to the database; call
// CreateTable before using the Store.
func New(config Config) (*Store, error) {
	s := &Store{db: config.DB, dialect: config.Dialect, table: config.Table}
	switch {
	case config.DB == nil:
		return nil, errors.New("sqlsession: DB is required")
	case config.Dialect != PostgreSQL && config.Dialect != SQLite:
		return nil, fmt.Errorf("sqlsession: the Dialect %q is not supported", config.Dialect)
	}
	if s.table == "" {
		s.table = defaultTable
	}
	if strings.Trim(s.table, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return nil, errors.New("sqlsession: Table must have only lower-case letters, digits and underscores")
	}
	for _, key := range append([][]byte{config.Key}, config.OlderKeys...) {
		if len(key) != 32 {
			return nil, errors.New("sqlsession: Key and OlderKeys must have 32 bytes each")
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("sqlsession: key: %w", err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("sqlsession: key: %w", err)
		}
		s.seals = append(s.seals, aead)
	}
	return s, nil
}

// CreateTable creates the table and its indexes if they do not exist.
func (s *Store) CreateTable(ctx context.Context) error {
	blob := "BLOB"
	if s.dialect == PostgreSQL {
		blob = "BYTEA"
	}
	for _, statement := range []string{
		`CREATE TABLE IF NOT EXISTS {table} (id TEXT PRIMARY KEY, issuer TEXT NOT NULL, subject TEXT NOT NULL, sid TEXT NOT NULL,
			expires BIGINT NOT NULL, version BIGINT NOT NULL, sealed ` + blob + ` NOT NULL)`,
		`CREATE INDEX IF NOT EXISTS {table}_sid ON {table} (issuer, sid)`,
		`CREATE INDEX IF NOT EXISTS {table}_subject ON {table} (issuer, subject)`,
		`CREATE INDEX IF NOT EXISTS {table}_expires ON {table} (expires)`,
	} {
		if _, err := s.exec(ctx, statement); err != nil {
			return fmt.Errorf("sqlsession: create the table: %w", err)
		}
	}
	return nil
}

// Put implements client.SessionStore. From time to time it also removes expired sessions.
func (s *Store) Put(ctx context.Context, session *client.Session) error {
	if rand.N(putsPerRemoval) == 0 {
		if _, err := s.exec(ctx, `DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE expires <= $1 LIMIT $2)`,
			time.Now().UnixMilli(), expiredAtOnce); err != nil {
			return fmt.Errorf("sqlsession: remove expired sessions: %w", err)
		}
	}
	sealed, err := s.seal(session)
	if err != nil {
		return err
	}
	if _, err := s.exec(ctx, `INSERT INTO {table} (id, issuer, subject, sid, expires, version, sealed) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		session.ID, session.Issuer, session.Subject, session.SessionID, session.Expires.UnixMilli(), session.Version, sealed); err != nil {
		return fmt.Errorf("sqlsession: put: %w", err)
	}
	return nil
}

// Get implements client.SessionStore.
func (s *Store) Get(ctx context.Context, id string) (*client.Session, error) {
	var sealed []byte
	var version int64
	err := s.db.QueryRowContext(ctx, s.sql(`SELECT sealed, version FROM {table} WHERE id = $1 AND expires > $2`), text(id), time.Now().UnixMilli()).
		Scan(&sealed, &version)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("sqlsession: get: %w", err)
	}
	session, err := s.open(id, sealed)
	if err != nil {
		return nil, err
	}
	session.Version = version
	return session, nil
}

// Replace implements client.SessionStore.
func (s *Store) Replace(ctx context.Context, session *client.Session) (bool, error) {
	sealed, err := s.seal(session)
	if err != nil {
		return false, err
	}
	changed, err := s.exec(ctx, `UPDATE {table} SET version = version + 1, subject = $1, sid = $2, expires = $3, sealed = $4
		WHERE id = $5 AND version = $6 AND expires > $7`,
		session.Subject, session.SessionID, session.Expires.UnixMilli(), sealed, session.ID, session.Version, time.Now().UnixMilli())
	if err != nil {
		return false, fmt.Errorf("sqlsession: replace: %w", err)
	}
	return changed == 1, nil
}

// Delete implements client.SessionStore.
func (s *Store) Delete(ctx context.Context, id string) error {
	if _, err := s.exec(ctx, `DELETE FROM {table} WHERE id = $1`, text(id)); err != nil {
		return fmt.Errorf("sqlsession: delete: %w", err)
	}
	return nil
}

// DeleteSignedOut implements client.SessionStore.
func (s *Store) DeleteSignedOut(ctx context.Context, issuer, subject, sessionID string) error {
	query, arguments := `DELETE FROM {table} WHERE issuer = $1`, []any{issuer}
	if subject != "" {
		arguments = append(arguments, text(subject))
		query += fmt.Sprintf(" AND subject = $%d", len(arguments))
	}
	if sessionID != "" {
		arguments = append(arguments, text(sessionID))
		query += fmt.Sprintf(" AND sid = $%d", len(arguments))
	}
	if len(arguments) == 1 {
		return errors.New("sqlsession: sub and sid are both empty, which would end all sessions of the issuer")
	}
	if _, err := s.exec(ctx, query, arguments...); err != nil {
		return fmt.Errorf("sqlsession: delete sessions: %w", err)
	}
	return nil
}

// DeleteExpired removes all expired sessions and returns their number. Put removes them too,
// a few at a time, so calling it is optional.
func (s *Store) DeleteExpired(ctx context.Context) (int64, error) {
	removed, err := s.exec(ctx, `DELETE FROM {table} WHERE expires <= $1`, time.Now().UnixMilli())
	if err != nil {
		return 0, fmt.Errorf("sqlsession: remove expired sessions: %w", err)
	}
	return removed, nil
}

// text makes an untrusted string valid for a database: PostgreSQL rejects invalid UTF-8 and
// zero bytes. A string that text changes is not equal to any stored value.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// exec runs a statement and returns how many rows it changed. It tries again after a
// serialization failure or deadlock (SQLSTATE 40001 and 40P01).
func (s *Store) exec(ctx context.Context, statement string, arguments ...any) (int64, error) {
	for conflicts := 0; ; conflicts++ {
		result, err := s.db.ExecContext(ctx, s.sql(statement), arguments...)
		if err == nil {
			return result.RowsAffected()
		}
		state, ok := errors.AsType[interface {
			error
			SQLState() string
		}](err)
		if !ok || state.SQLState() != "40001" && state.SQLState() != "40P01" || conflicts == maxConflicts {
			return 0, err
		}
	}
}

// sql inserts the name of the table, and converts placeholders to the dialect.
func (s *Store) sql(statement string) string {
	statement = strings.ReplaceAll(statement, "{table}", s.table)
	if s.dialect == SQLite {
		statement = strings.ReplaceAll(statement, "$", "?")
	}
	return statement
}

// seal encrypts a session for its row; it cannot be decrypted in another row.
func (s *Store) seal(session *client.Session) ([]byte, error) {
	document, err := json.Marshal(session)
	if err != nil {
		return nil, fmt.Errorf("sqlsession: encode a session: %w", err)
	}
	return s.seals[0].Seal(nil, nil, document, []byte("session\x00"+session.ID)), nil
}

func (s *Store) open(id string, sealed []byte) (*client.Session, error) {
	for _, aead := range s.seals {
		document, err := aead.Open(nil, nil, sealed, []byte("session\x00"+id))
		if err != nil {
			continue
		}
		var session client.Session
		if err := json.Unmarshal(document, &session); err != nil {
			return nil, fmt.Errorf("sqlsession: decode a session: %w", err)
		}
		return &session, nil
	}
	return nil, errors.New("sqlsession: a session was encrypted with another key or for another row")
}
