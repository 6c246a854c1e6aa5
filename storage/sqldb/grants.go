package sqldb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/storage"
	"github.com/valetkey/valetkey/storage/audited"
	"github.com/valetkey/valetkey/storage/record"
)

const keysOfGrant = `SELECT kind, id FROM tickets WHERE grant_id = $1 AND grant_id <> ''` + notEnded

const deleteGrant = `DELETE FROM grants WHERE id = $1`

// Grant implements record.Store.
func (s *Store) Grant(ctx context.Context, subject, clientID string) (*record.Grant, error) {
	grant, err := s.database.grant(ctx, subject, clientID)
	if err != nil {
		return nil, fmt.Errorf("read grant: %w", fault(err))
	}
	if grant == nil {
		return nil, storage.ErrNotFound
	}
	return grant, nil
}

// GrantsOf implements record.Store.
func (s *Store) GrantsOf(ctx context.Context, subject string) ([]record.Grant, error) {
	return s.grants(ctx, `WHERE subject = $1 ORDER BY client_id`, subject)
}

func (s *Store) grants(ctx context.Context, where string, args ...any) ([]record.Grant, error) {
	return grants(ctx, s.database.read(), where, args...)
}

const (
	selectGrants = `SELECT id, subject, client_id, scope, declined, resources, details, created, updated FROM grants `
	selectGrant  = selectGrants + `WHERE subject = $1 AND client_id = $2`
)

// scanGrant reads a row of selectGrants.
func scanGrant(rows row) (g record.Grant, err error) {
	var scope, declined, details string
	var resources sql.NullString
	var created, updated int64
	if err := rows.Scan(&g.ID, &g.Subject, &g.ClientID, &scope, &declined, &resources, &details, &created, &updated); err != nil {
		return g, err
	}
	if resources.Valid {
		if err := json.Unmarshal([]byte(resources.String), &g.Resources); err != nil {
			return g, fmt.Errorf("read the resources of a grant: %w", err)
		}
	}
	if g.Details, err = record.DecodeGrantedDetails(details); err != nil {
		return g, err
	}
	// A scope contains no spaces (RFC 6749, section 3.3).
	g.Scope, g.Declined = strings.Fields(scope), strings.Fields(declined)
	g.CreatedAt, g.UpdatedAt = fromMilliseconds(created), fromMilliseconds(updated)
	return g, nil
}

func grants(ctx context.Context, q querier, where string, args ...any) ([]record.Grant, error) {
	grants, err := collect(ctx, q, scanGrant, selectGrants+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	return grants, nil
}

// UpdateGrant implements record.Store.
func (s *Store) UpdateGrant(ctx context.Context, subject, clientID string, update func(*record.Grant) error) (grant *record.Grant, err error) {
	if subject == "" || clientID == "" {
		return nil, errors.New("update grant: the subject or client is missing")
	}
	err = s.transact(ctx, func(tx *sql.Tx) error {
		grant, err = s.lockGrant(ctx, tx, subject, clientID)
		if err != nil {
			return err
		}
		id, before := grant.ID, copyGrant(grant)
		if err := update(grant); err != nil {
			return err
		}
		if grant.ID != id || grant.Subject != subject || grant.ClientID != clientID {
			return fmt.Errorf("the ID, subject and client of grant %q cannot change", id)
		}
		var resources sql.NullString
		if grant.Resources != nil {
			document, err := json.Marshal(grant.Resources)
			if err != nil {
				return fmt.Errorf("encode the resources of a grant: %w", err)
			}
			resources = sql.NullString{String: string(document), Valid: true}
		}
		details, err := grant.Details.Encode()
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE grants SET scope = $1, declined = $2, resources = $3, details = $4, created = $5, updated = $6 WHERE id = $7`,
			grant.Scope.String(), grant.Declined.String(), resources, details, milliseconds(grant.CreatedAt), milliseconds(grant.UpdatedAt), id)
		if err != nil {
			return err
		}
		return s.auditChange(ctx, tx, audited.Grant(before, grant))
	})
	if err != nil {
		return nil, fmt.Errorf("update grant: %w", err)
	}
	grant.CreatedAt, grant.UpdatedAt = fromMilliseconds(milliseconds(grant.CreatedAt)), fromMilliseconds(milliseconds(grant.UpdatedAt))
	return grant, nil
}

// copyGrant returns a copy that shares nothing with the grant; nil for one that was just created.
func copyGrant(g *record.Grant) *record.Grant {
	if g.CreatedAt.IsZero() && g.UpdatedAt.IsZero() {
		return nil
	}
	return cloneGrant(g)
}

func cloneGrant(g *record.Grant) *record.Grant {
	c := *g
	c.Scope, c.Declined, c.Resources = slices.Clone(g.Scope), slices.Clone(g.Declined), slices.Clone(g.Resources)
	c.Details = g.Details.Clone()
	return &c
}

// deleteGrants deletes the grants that a condition selects, with a record of each.
func (s *Store) deleteGrants(ctx context.Context, tx *sql.Tx, where, arg string) error {
	found, err := grants(ctx, tx, `WHERE `+where+` ORDER BY id`+s.database.forUpdate(), arg)
	if err != nil {
		return err
	}
	for i := range found {
		if _, err := tx.ExecContext(ctx, deleteGrant, found[i].ID); err != nil {
			return fmt.Errorf("delete a grant: %w", err)
		}
		if err := s.insertAudit(ctx, tx, audited.Grant(&found[i], nil)); err != nil {
			return err
		}
	}
	// What was granted since the first statement.
	if _, err := tx.ExecContext(ctx, `DELETE FROM grants WHERE `+where, arg); err != nil {
		return fmt.Errorf("delete grants: %w", err)
	}
	return nil
}

// deleteGrantsOfClient deletes the grants to a client. There may be very many, so it returns how many
// for the record of the client.
func deleteGrantsOfClient(ctx context.Context, tx *sql.Tx, clientID string) (details map[string]string, err error) {
	result, err := tx.ExecContext(ctx, `DELETE FROM grants WHERE client_id = $1`, clientID)
	if err != nil {
		return nil, fmt.Errorf("delete the grants to a client: %w", err)
	}
	n, err := result.RowsAffected()
	if err != nil || n == 0 {
		return nil, err
	}
	return map[string]string{"grants": strconv.FormatInt(n, 10)}, nil
}

// lockGrant returns the grant of a subject to a client, and creates it if there is none. It
// locks the grant until the end of the transaction.
func (s *Store) lockGrant(ctx context.Context, tx *sql.Tx, subject, clientID string) (*record.Grant, error) {
	for {
		found, err := grants(ctx, tx, `WHERE subject = $1 AND client_id = $2`+s.database.forUpdate(), subject, clientID)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 {
			return &found[0], nil
		}
		// If another transaction stores it first, this waits for that one and stores nothing.
		_, err = tx.ExecContext(ctx, `INSERT INTO grants (id, subject, client_id, scope, declined, created, updated)
			VALUES ($1, $2, $3, '', '', 0, 0) ON CONFLICT (subject, client_id) DO NOTHING`, storage.NewID(), subject, clientID)
		if err != nil {
			return nil, err
		}
	}
}

// DeleteGrant implements record.Store.
func (s *Store) DeleteGrant(ctx context.Context, id string) error {
	op := &operation{
		removeAll: []statement{{keysOfGrant, []any{id}}},
		after:     []statement{{deleteGrant, []any{id}}},
	}
	err := s.auditDeletedGrant(ctx, op, id)
	if err == nil {
		err = s.writer.do(ctx, id, op)
	}
	if err != nil {
		return fmt.Errorf("delete grant: %w", err)
	}
	return nil
}

// auditDeletedGrant makes an operation that deletes a grant store a record of it. A grant that is
// extended at this moment may be in the record as it was before.
func (s *Store) auditDeletedGrant(ctx context.Context, op *operation, id string) error {
	if s.auditOff {
		return nil
	}
	found, err := s.grants(ctx, `WHERE id = $1`, id)
	if err != nil || len(found) == 0 {
		return err
	}
	r := audited.Grant(&found[0], nil)
	if known, ok := audit.RecordOf(ctx); ok {
		r.Refine(known)
	}
	op.audit, err = s.audited(ctx, r)
	op.auditAfter = true
	return err
}

// ticketSet is a condition on tickets with its arguments.
type ticketSet struct {
	where string
	args  []any
}

func ofGrantsOfUser(userID string) ticketSet {
	return ticketSet{`grant_id IN (SELECT id FROM grants WHERE subject = $1) AND grant_id <> ''`, []any{userID}}
}

func ofGrantsOfClient(clientID string) ticketSet {
	return ticketSet{`grant_id IN (SELECT id FROM grants WHERE client_id = $1) AND grant_id <> ''`, []any{clientID}}
}

func ofGrant(id string) ticketSet {
	return ticketSet{`grant_id = $1 AND grant_id <> ''`, []any{id}}
}

// but returns the set without the tickets of a kind.
func (t ticketSet) but(kind storage.Kind) ticketSet {
	return ticketSet{fmt.Sprintf("%s AND kind <> $%d", t.where, len(t.args)+1), append(slices.Clone(t.args), string(kind))}
}

func ofFamily(family string) ticketSet {
	return ticketSet{`family = $1 AND family <> ''`, []any{family}}
}

// ofLine is the tickets of a family and its descendants.
func ofLine(family string) ticketSet {
	return ticketSet{`family >= $1 AND family < $2 AND family <> ''`, []any{family, storage.AfterFamily(family)}}
}

// deleteTickets removes tickets by sets: there may be a million, and concurrent requests could
// derive new tickets faster than they are deleted one by one. It waits for such requests, and
// runs again to find what they stored, for the reason in writer.removeAll. Call it before
// deleting the grants that the sets refer to.
func (s *Store) deleteTickets(ctx context.Context, tx *sql.Tx, sets ...ticketSet) error {
	for removed := true; removed; {
		removed = false
		for _, set := range sets {
			for _, query := range s.removals(set) {
				result, err := tx.ExecContext(ctx, query, set.args...)
				if err != nil {
					return fmt.Errorf("delete tickets: %w", err)
				}
				n, err := result.RowsAffected()
				if err != nil {
					return fmt.Errorf("delete tickets: %w", err)
				}
				removed = removed || n > 0
			}
		}
	}
	return nil
}

// removals returns the statements that remove a set, each in the order in which all nodes lock
// tickets. Those of storage.KindStatus are marked as spent instead.
func (s *Store) removals(set ticketSet) []string {
	selected := ` WHERE (kind, id) IN (SELECT kind, id FROM tickets WHERE ` + set.where + ` AND %s ORDER BY kind, id` + s.database.forUpdate() + `)`
	return []string{
		`DELETE FROM tickets` + fmt.Sprintf(selected, `kind <> 'status'`),
		`UPDATE tickets SET spent = 1` + fmt.Sprintf(selected, `kind = 'status' AND spent = 0`),
	}
}

func collectTickets(ctx context.Context, q querier, query string, args ...any) ([]storage.Ticket, error) {
	return collect(ctx, q, func(rows row) (storage.Ticket, error) {
		var row ticketRow
		if err := rows.Scan(row.fields()...); err != nil {
			return storage.Ticket{}, err
		}
		return row.ticket()
	}, query, args...)
}

// keysOf returns the keys of tickets, sorted.
func keysOf(tickets []storage.Ticket) []storage.Key {
	keys := make([]storage.Key, len(tickets))
	for i := range tickets {
		keys[i] = tickets[i].Key
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}
