package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/storage"
)

// RegisterClient implements authserver.Store.
func (s *Store) RegisterClient(ctx context.Context, client *authserver.Client, most int) error {
	if client.Registration == nil {
		return fmt.Errorf("register client %q: it has no registration", client.ID)
	}
	metadata, sealed, err := s.encodeClient(client)
	if err != nil {
		return err
	}
	err = s.transact(ctx, func(tx *sql.Tx) error {
		if err := lockCatalogue(ctx, tx); err != nil { // nobody registers between counting and storing
			return err
		}
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM clients WHERE registered <> 0`).Scan(&n); err != nil {
			return err
		}
		if n >= most {
			return authserver.ErrTooManyClients
		}
		result, err := tx.ExecContext(ctx, `INSERT INTO clients (client_id, metadata, secrets, source, registered, unused_until)
			VALUES ($1, $2, $3, '', $4, $5) ON CONFLICT (client_id) DO NOTHING`,
			client.ID, metadata, sealed, milliseconds(client.Registration.CreatedAt), milliseconds(client.Registration.UnusedUntil))
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(storage.ErrExists, err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("register client: %w", err)
	}
	return nil
}

// UpdateClient implements authserver.Store.
func (s *Store) UpdateClient(ctx context.Context, client *authserver.Client) error {
	metadata, sealed, err := s.encodeClient(client)
	if err != nil {
		return err
	}
	err = s.transact(ctx, func(tx *sql.Tx) error {
		if err := lockCatalogue(ctx, tx); err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, `UPDATE clients SET metadata = $1, secrets = $2 WHERE client_id = $3 AND registered <> 0`, metadata, sealed, client.ID)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(storage.ErrNotFound, err)
		}
		return bumpVersion(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("update client: %w", err)
	}
	return nil
}

// KeepClient implements authserver.Store.
func (s *Store) KeepClient(ctx context.Context, clientID string) error {
	err := s.transact(ctx, func(tx *sql.Tx) error {
		var metadata string
		var unusedUntil int64
		err := tx.QueryRowContext(ctx, `SELECT metadata, unused_until FROM clients WHERE client_id = $1`, clientID).Scan(&metadata, &unusedUntil)
		if errors.Is(err, sql.ErrNoRows) {
			return storage.ErrNotFound
		}
		if err != nil || unusedUntil == 0 {
			return err
		}
		var client authserver.Client
		if err := json.Unmarshal([]byte(metadata), &client); err != nil {
			return err
		}
		if client.Registration != nil {
			client.Registration.UnusedUntil = time.Time{}
		}
		kept, err := json.Marshal(client)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE clients SET metadata = $1, unused_until = 0 WHERE client_id = $2`, string(kept), clientID)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep client: %w", err)
	}
	return nil
}

func (s *Store) encodeClient(client *authserver.Client) (metadata string, sealed []byte, err error) {
	encoded, err := json.Marshal(client)
	if err != nil {
		return "", nil, fmt.Errorf("client %q: %w", client.ID, err)
	}
	sealed, err = s.sealSecrets(client.Secrets, client.ID)
	return string(encoded), sealed, err
}
