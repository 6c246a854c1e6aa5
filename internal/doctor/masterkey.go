package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/valetkey/valetkey/internal/database"
	"github.com/valetkey/valetkey/storage/sqldb"
)

// checkMasterKey compares the master keys with what the database is sealed with.
func (r *run) checkMasterKey(ctx context.Context) string {
	c := r.options.Configuration
	switch {
	case c == nil:
		return noConfiguration
	case r.found("database.unreachable", "files.unusable", "files.master_key_readable"):
		return "the database or the master key cannot be read"
	case databaseOf(c) == "sqlite::memory:":
		return "the database is in memory"
	case !r.prepared:
		return "no server of this version has prepared the database yet"
	}
	read := r.options.MasterKeys
	if read == nil {
		read = func(ctx context.Context) (database.MasterKeys, error) { return database.InspectMasterKeys(ctx, c) }
	}
	ctx, cancel := context.WithTimeout(ctx, 2*requestTime)
	defer cancel()
	m, err := read(ctx)
	if errors.Is(err, sqldb.ErrWrongMasterKey) {
		r.find("master_key.wrong", "%v", err)
		return ""
	}
	if err != nil {
		return err.Error()
	}
	r.judgeMasterKey(&m)
	return ""
}

func (r *run) judgeMasterKey(m *database.MasterKeys) {
	sealed := fmt.Sprintf("%d secrets of the server, %d keys, and the secrets of %d clients", m.Secrets, m.Keys, m.Clients)
	switch {
	case m.PreviousAt == "" && m.NeedsPrevious():
		r.find("master_key.previous_missing", "the master key does not open %s", sealed)
	case m.Unfinished, !m.Previous && m.NeedsPrevious():
		r.find("master_key.rotation_unfinished", "the previous master key still seals %s", sealed)
	case m.Previous:
		r.find("master_key.not_rotated", "the previous master key (%s) is in force", m.PreviousAt)
	case m.PreviousAt != "":
		r.find("master_key.previous_unused", "the master key seals everything, and there is a previous one: %s", m.PreviousAt)
	}
}
