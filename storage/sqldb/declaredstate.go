package sqldb

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// DeclaredState returns the selected records, without locking them.
func (s *Store) DeclaredState(ctx context.Context, selection declaration.Selection) (*declaration.State, error) {
	return s.declaredState(ctx, s.database.read(), selection, "")
}

// notes are what is stored about the declaration of a record.
type notes struct {
	source, named string
}

// manyNames is how many names one query selects, and fewNames how many if there are no more. Other
// numbers are not used, because each different query stays prepared. SQLite takes longer to parse
// a query with 200 parameters than to run it.
const (
	manyNames = 200
	fewNames  = 8
)

// inChunks calls query with all names, at most manyNames at a time; the last ones are repeated to
// fill the parameters of oneOf.
func inChunks(names []string, query func(oneOf string, args []any) error) error {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !storable(name) })
	slices.Sort(names)
	names = slices.Compact(names)
	size, oneOf := manyNames, oneOfMany
	if len(names) <= fewNames {
		size, oneOf = fewNames, oneOfFew
	}
	for chunk := range slices.Chunk(names, size) {
		args := make([]any, size)
		for i := range args {
			args[i] = chunk[min(i, len(chunk)-1)]
		}
		if err := query(oneOf, args); err != nil {
			return err
		}
	}
	return nil
}

var oneOfMany, oneOfFew = placeholders(manyNames), placeholders(fewNames)

func (s *Store) declaredState(ctx context.Context, q querier, selection declaration.Selection, lock string) (*declaration.State, error) {
	state := &declaration.State{}
	var err error
	if state.Scopes, err = recordRows[record.Scope](ctx, q, `SELECT record, source, named, retired FROM scopes`); err != nil {
		return nil, fmt.Errorf("read scopes: %w", err)
	}
	if state.Resources, err = recordRows[record.Resource](ctx, q, `SELECT record, source, named, retired FROM resources`); err != nil {
		return nil, fmt.Errorf("read resources: %w", err)
	}
	if state.Clients, err = s.clientRows(ctx, q, selection); err != nil {
		return nil, err
	}
	if state.Users, err = userRows(ctx, q, selection, lock); err != nil {
		return nil, err
	}
	state.Versions, err = collect(ctx, q, func(rows row) (v declaration.Version, err error) {
		var modified, applied int64
		err = rows.Scan(&v.Digest, &modified, &applied)
		v.Modified, v.Applied = fromMilliseconds(modified), fromMilliseconds(applied)
		return v, err
	}, `SELECT digest, modified, applied FROM declared_versions WHERE source = $1 AND source <> '' ORDER BY applied DESC`, selection.Source)
	if err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	return state, nil
}

func recordRows[T any](ctx context.Context, q querier, query string) ([]declaration.Row[T], error) {
	return collect(ctx, q, scanRecordRow[T], query)
}

func scanRecordRow[T any](rows row) (row declaration.Row[T], err error) {
	var encoded, named string
	var retired int64
	if err := rows.Scan(&encoded, &row.Source, &named, &retired); err != nil {
		return row, err
	}
	row.RetiredAt, row.Named = fromMilliseconds(retired), decodeNames(named)
	err = json.Unmarshal([]byte(encoded), &row.Record)
	return row, err
}

func decodeNames(encoded string) (names []string) {
	if json.Unmarshal([]byte(encoded), &names) != nil {
		return nil // '' means none
	}
	return names
}

// notesOf returns the notes of rows by key.
func notesOf(ctx context.Context, q querier, query string, args ...any) (map[string]notes, error) {
	found := map[string]notes{}
	_, err := collect(ctx, q, func(rows row) (struct{}, error) {
		var key string
		var n notes
		err := rows.Scan(&key, &n.source, &n.named)
		found[key] = n
		return struct{}{}, err
	}, query, args...)
	return found, err
}

func (s *Store) clientRows(ctx context.Context, q querier, selection declaration.Selection) ([]declaration.Row[record.Client], error) {
	var found []declaration.Row[record.Client]
	add := func(where string, args ...any) error {
		clients, err := s.clients(ctx, q, where, args...)
		if err != nil {
			return err
		}
		notes, err := notesOf(ctx, q, `SELECT client_id, source, named FROM clients `+where, args...)
		if err != nil {
			return fmt.Errorf("read clients: %w", err)
		}
		for _, c := range clients {
			n := notes[c.ID]
			found = append(found, declaration.Row[record.Client]{Record: c, Source: n.source, Named: decodeNames(n.named), RetiredAt: c.RetiredAt})
		}
		return nil
	}
	if err := add(`WHERE registered = 0`); err != nil {
		return nil, err
	}
	err := inChunks(selection.ClientIDs, func(oneOf string, args []any) error {
		return add(`WHERE registered <> 0 AND client_id IN `+oneOf, args...)
	})
	return found, err
}

func userRows(ctx context.Context, q querier, selection declaration.Selection, lock string) ([]declaration.Row[identity.User], error) {
	var found []declaration.Row[identity.User]
	seen := map[string]bool{}
	add := func(where string, args ...any) error {
		users, err := users(ctx, q, where+` ORDER BY id`+lock, args...)
		if err != nil {
			return err
		}
		notes, err := notesOf(ctx, q, `SELECT id, source, named FROM users `+where, args...)
		if err != nil {
			return fmt.Errorf("read users: %w", err)
		}
		for _, u := range users {
			if n := notes[u.ID]; !seen[u.ID] {
				seen[u.ID] = true
				found = append(found, declaration.Row[identity.User]{Record: u, Source: n.source, Named: decodeNames(n.named), RetiredAt: u.RetiredAt})
			}
		}
		return nil
	}
	for _, source := range []string{selection.Source, selection.Formerly} {
		if source != "" {
			if err := add(`WHERE source = $1 AND source <> ''`, source); err != nil {
				return nil, err
			}
		}
	}
	if err := inChunks(selection.UserIDs, func(oneOf string, args []any) error { return add(`WHERE id IN `+oneOf, args...) }); err != nil {
		return nil, err
	}
	err := inChunks(selection.Identifiers, func(oneOf string, args []any) error {
		return add(`WHERE id IN (SELECT user_id FROM identifiers WHERE identifier IN `+oneOf+`)`, args...)
	})
	return found, err
}

// PasswordFingerprint returns the fingerprint of a user's declared password. It is stored, so
// that the same password is recognized at the next start without hashing it. Its key is not in
// the database.
func (s *Store) PasswordFingerprint(userID, password string) string {
	return "fingerprint:" + s.keyed("declared password", userID, password)
}

// DeclarationDigest returns a digest that identifies the contents of declarations. They may
// contain passwords, so it is computed with a key that is not in the database.
func (s *Store) DeclarationDigest(document []byte) string {
	return s.keyed("declarations", string(document))
}

func (s *Store) keyed(parts ...string) string {
	mac := hmac.New(sha256.New, s.fingerprintKey)
	for _, part := range parts {
		fmt.Fprintf(mac, "%d:%s", len(part), part)
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
