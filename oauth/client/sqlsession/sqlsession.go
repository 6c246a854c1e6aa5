// Package sqlsession keeps the sessions of a client.RelyingParty in an SQL database, for
// applications that run in several processes or keep their users signed in over a restart. It
// works over database/sql and brings no driver.
//
// What is in a session, its tokens above all, is sealed by AES-256-GCM: who reads the database
// or a copy of it can use none of them. Issuer, sub and sid are stored as they are, for the
// provider names sessions by them.
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

// Dialect is a kind of database.
type Dialect string

// The databases that are supported.
const (
	PostgreSQL Dialect = "postgresql"
	SQLite     Dialect = "sqlite"
)

// Config says where sessions are kept. DB, Dialect and Key are required.
type Config struct {
	// DB is the application's own database. For SQLite, set a busy timeout in its data source
	// name, so that processes wait for each other.
	DB      *sql.DB
	Dialect Dialect
	// Key, of 32 bytes, seals sessions. All processes have the same.
	Key []byte `json:"-"`
	// OlderKeys open sessions that were sealed before Key was replaced. A session that is
	// renewed is sealed by Key.
	OlderKeys [][]byte `json:"-"`
	// Table is the name of the table; empty means relying_party_sessions.
	Table string
}

// Format keeps the keys out of logs and messages, whatever the verb.
func (c Config) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "[%s sessions]", c.Dialect) }

// LogValue keeps the keys out of structured logs.
func (c Config) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Store is a client.SessionStore. It is safe for concurrent use, and so are several Stores
// over one database.
type Store struct {
	db      *sql.DB
	dialect Dialect
	table   string
	seals   []cipher.AEAD // the first seals, all open
}

// Format keeps the keys out of logs and messages, whatever the verb.
func (s *Store) Format(state fmt.State, _ rune) { fmt.Fprintf(state, "[%s sessions]", s.dialect) }

const (
	defaultTable = "relying_party_sessions"
	// expiredAtOnce bounds how many expired sessions one Put removes, and putsPerRemoval says
	// for how many Puts on average one does.
	expiredAtOnce  = 200
	putsPerRemoval = 20
	// maxConflicts bounds how often a statement is tried again that the database gave up in
	// favour of another.
	maxConflicts = 5
)

// New checks the configuration. It sends nothing to the database; see CreateTable.
func New(config Config) (*Store, error) {
	s := &Store{db: config.DB, dialect: config.Dialect, table: config.Table}
	switch {
	case config.DB == nil:
		return nil, errors.New("sqlsession: DB is missing")
	case config.Dialect != PostgreSQL && config.Dialect != SQLite:
		return nil, fmt.Errorf("sqlsession: the Dialect %q is not supported", config.Dialect)
	}
	if s.table == "" {
		s.table = defaultTable
	}
	if strings.Trim(s.table, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return nil, errors.New("sqlsession: Table has lower case letters, digits and underscores")
	}
	for _, key := range append([][]byte{config.Key}, config.OlderKeys...) {
		if len(key) != 32 {
			return nil, errors.New("sqlsession: a key has 32 bytes")
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

// CreateTable creates the table and its indexes, unless they are there.
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

// Put implements client.SessionStore. Now and then it removes some sessions that have expired.
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
		return errors.New("sqlsession: neither sub nor sid says whose sessions are to end")
	}
	if _, err := s.exec(ctx, query, arguments...); err != nil {
		return fmt.Errorf("sqlsession: end sessions: %w", err)
	}
	return nil
}

// DeleteExpired removes all sessions that have expired, and returns how many they were. Put
// does this in small steps; it is for those who want the table small at once.
func (s *Store) DeleteExpired(ctx context.Context) (int64, error) {
	removed, err := s.exec(ctx, `DELETE FROM {table} WHERE expires <= $1`, time.Now().UnixMilli())
	if err != nil {
		return 0, fmt.Errorf("sqlsession: remove expired sessions: %w", err)
	}
	return removed, nil
}

// text makes a stranger's string one that a database can compare: PostgreSQL refuses bytes
// that are not UTF-8, and zero bytes. What is changed by it equals nothing that is stored.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// exec runs a statement, again if the database gave it up in favour of another transaction
// (SQLSTATE 40001 and 40P01), and returns how many rows it changed.
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

// sql names the table, and writes parameters as the dialect has them.
func (s *Store) sql(statement string) string {
	statement = strings.ReplaceAll(statement, "{table}", s.table)
	if s.dialect == SQLite {
		statement = strings.ReplaceAll(statement, "$", "?")
	}
	return statement
}

// seal closes a session for its own row: it opens in no other.
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
	return nil, errors.New("sqlsession: a session was sealed by another key, or for another row")
}
