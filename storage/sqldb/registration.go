package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/audited"
	"github.com/valetkey/valetkey/storage/record"
)

// RegisterClient implements record.Store.
func (s *Store) RegisterClient(ctx context.Context, client *record.Client, most int) error {
	if client.Registration == nil {
		return fmt.Errorf("register client %q: it has no Registration", client.ID)
	}
	metadata, err := encodeClient(client)
	if err != nil {
		return err
	}
	registered, unusedUntil := registrationTimes(client)
	err = s.transact(ctx, func(tx *sql.Tx) error {
		if err := lockCatalogue(ctx, tx); err != nil { // no other client is registered between counting and storing
			return err
		}
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM clients WHERE registered <> 0`).Scan(&n); err != nil {
			return err
		}
		if n >= most {
			if err := s.removeUnused(ctx, tx, max(1, most/1000)); err != nil {
				return err
			}
		}
		sealed, err := s.sealSecrets(ctx, tx, client.Secrets, client.ID)
		if err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, `INSERT INTO clients (client_id, metadata, secrets, source, registered, unused_until)
			VALUES ($1, $2, $3, '', $4, $5) ON CONFLICT (client_id) DO NOTHING`,
			client.ID, metadata, sealed, registered, unusedUntil)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(storage.ErrExists, err)
		}
		return s.auditChange(ctx, tx, audited.Client(nil, client))
	})
	if err != nil {
		return fmt.Errorf("register client: %w", err)
	}
	return nil
}

// removeUnused removes at most n clients that were never used, the oldest first. The error is
// record.ErrTooManyClients if there are none.
func (s *Store) removeUnused(ctx context.Context, tx *sql.Tx, n int) error {
	// Some candidates stay, because a trusted party let them register.
	candidates, err := s.clients(ctx, tx, `WHERE unused_until <> 0 ORDER BY unused_until LIMIT $1`, 10*n)
	if err != nil {
		return err
	}
	removed := 0
	for i := range candidates {
		if removed == n || !candidates[i].Registration.Removable() {
			continue
		}
		// The client cannot be marked as used in between: UpdateClient takes the same lock.
		if _, err := tx.ExecContext(ctx, `DELETE FROM clients WHERE client_id = $1 AND unused_until <> 0`, candidates[i].ID); err != nil {
			return err
		}
		if err := s.insertAudit(ctx, tx, unusedClient(&candidates[i])); err != nil {
			return err
		}
		if err := s.deleteTicketsOfClient(ctx, tx, candidates[i].ID); err != nil {
			return err
		}
		removed++
	}
	if removed == 0 {
		return record.ErrTooManyClients
	}
	return bumpVersion(ctx, tx)
}

// UpdateClient implements record.Store.
func (s *Store) UpdateClient(ctx context.Context, clientID string, update func(*record.Client) error) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		if err := lockCatalogue(ctx, tx); err != nil {
			return err
		}
		changed, err := s.updateClient(ctx, tx, time.Now(), clientID, update)
		if err != nil || !changed {
			return err
		}
		return bumpVersion(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("update client: %w", err)
	}
	return nil
}

// updateClient changes a client, and reports whether anything changed that nodes keep in memory.
func (s *Store) updateClient(ctx context.Context, tx *sql.Tx, now time.Time, clientID string, update func(*record.Client) error) (changed bool, err error) {
	found, err := s.clients(ctx, tx, `WHERE client_id = $1`+s.database.forUpdate(), clientID)
	if err != nil {
		return false, err
	}
	if len(found) == 0 {
		return false, storage.ErrNotFound
	}
	client := &found[0]
	before, err := copyClient(client)
	if err != nil {
		return false, err
	}
	oldMetadata, err := encodeClient(client)
	if err != nil {
		return false, err
	}
	if err := update(client); err != nil {
		return false, err
	}
	if client.ID != clientID {
		return false, fmt.Errorf("the ID of client %q cannot change", clientID)
	}
	ends := client.Settle(now, before)
	metadata, err := encodeClient(client)
	if err != nil {
		return false, err
	}
	sealed, err := s.sealSecrets(ctx, tx, client.Secrets, clientID)
	if err != nil {
		return false, err
	}
	registered, unusedUntil := registrationTimes(client)
	_, err = tx.ExecContext(ctx, `UPDATE clients SET metadata = $1, secrets = $2, registered = $3, unused_until = $4, retired = $5, ended = $6 WHERE client_id = $7`,
		metadata, sealed, registered, unusedUntil, milliseconds(client.RetiredAt), milliseconds(client.EndedAt), clientID)
	if err != nil {
		return false, err
	}
	if ends {
		if err := s.deleteTicketsOfClient(ctx, tx, clientID); err != nil {
			return false, err
		}
	}
	compared := before
	if oldMetadata == newClient(clientID) && len(before.Secrets) == 0 {
		compared = nil // a declaration has just inserted it
	}
	if err := s.auditChange(ctx, tx, audited.Client(compared, client)); err != nil {
		return false, err
	}
	return metadata != oldMetadata || !slices.Equal(before.Secrets, client.Secrets) || !client.RetiredAt.Equal(before.RetiredAt) || !client.EndedAt.Equal(before.EndedAt), nil
}

// copyClient returns a copy that shares nothing with the client.
func copyClient(client *record.Client) (*record.Client, error) {
	encoded, err := json.Marshal(client)
	if err != nil {
		return nil, fmt.Errorf("client %q: %w", client.ID, err)
	}
	c := *client
	c.ClientMetadata, c.ClientSettings, c.Registration = oauth.ClientMetadata{}, record.ClientSettings{}, nil
	if err := json.Unmarshal(encoded, &c); err != nil {
		return nil, fmt.Errorf("client %q: %w", client.ID, err)
	}
	c.Secrets = slices.Clone(client.Secrets)
	return &c, nil
}

// newClient returns the metadata of a client that has none yet.
func newClient(clientID string) string {
	encoded, err := json.Marshal(record.Client{ID: clientID})
	if err != nil { // strings always encode
		return ""
	}
	return string(encoded)
}

// unusedClient returns the audit record of a client that is removed because it was never used.
func unusedClient(client *record.Client) *audit.Record {
	r := audited.Client(client, nil)
	r.Details = map[string]string{"reason": "never used"}
	return r
}

func registrationTimes(client *record.Client) (registered, unusedUntil int64) {
	if client.Registration == nil {
		return 0, 0
	}
	return milliseconds(client.Registration.CreatedAt), milliseconds(client.Registration.UnusedUntil)
}

// encodeClient returns the stored form of a client, without what has its own column.
func encodeClient(client *record.Client) (metadata string, err error) {
	stored := *client
	if client.Registration != nil {
		registration := *client.Registration
		registration.UnusedUntil = time.Time{}
		stored.Registration = &registration
	}
	encoded, err := json.Marshal(stored)
	if err != nil {
		return "", fmt.Errorf("client %q: %w", client.ID, err)
	}
	return string(encoded), nil
}
