package memory

import (
	"cmp"
	"context"
	"slices"

	"github.com/valetkey/valetkey/audit"
)

// record adds a record to the audit log; nothing if r is nil. s.mu is locked.
func (s *Store) record(ctx context.Context, r *audit.Record) {
	if r == nil {
		return
	}
	if known, ok := audit.RecordOf(ctx); ok {
		r.Refine(known)
	}
	s.recordAs(ctx, *r)
}

// recordTickets adds the record of the context, which describes a change of tickets.
func (s *Store) recordTickets(ctx context.Context, changed bool) {
	if r, ok := audit.RecordOf(ctx); ok && changed {
		s.recordAs(ctx, r)
	}
}

func (s *Store) recordAs(ctx context.Context, r audit.Record) {
	if err := r.Complete(ctx); err != nil {
		panic("memory: an audit record cannot be encoded: " + err.Error())
	}
	s.audit = append(s.audit, r)
}

// SealAudit adds the records that are not in the chain yet to its end, and returns how many.
func (s *Store) SealAudit(context.Context) (sealed int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.audit {
		r := &s.audit[i]
		if r.Sequence != 0 {
			continue
		}
		s.chain.Sequence++
		s.chain.Hash = audit.NextHash(s.chain.Hash, s.chain.Sequence, false, r.Text)
		r.Sequence, r.Hash = s.chain.Sequence, s.chain.Hash
		sealed++
	}
	return sealed, nil
}

// AuditChain returns the end of the chain.
func (s *Store) AuditChain(context.Context) (audit.Chain, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chain, nil
}

// AuditRecords implements audit.Log.
func (s *Store) AuditRecords(_ context.Context, filter audit.Filter) ([]audit.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, before := filter.Bounds()
	names := filter.EventNames()
	matches := func(want, is string) bool { return want == "" || want == is }
	var found []audit.Record
	for _, r := range s.audit {
		if matches(filter.Actor, r.Actor.ID) && matches(filter.Subject, r.Subject) && matches(filter.ClientID, r.ClientID) &&
			(names == nil || slices.Contains(names, r.Event)) && r.ID >= from && (before == "" || r.ID < before) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b audit.Record) int {
		if filter.Ascending {
			return cmp.Compare(a.ID, b.ID)
		}
		return cmp.Compare(b.ID, a.ID)
	})
	return found[:min(len(found), filter.Size())], nil
}

// AuditSealed implements audit.Log.
func (s *Store) AuditSealed(_ context.Context, after int64, limit int) ([]audit.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []audit.Record
	for _, r := range s.audit {
		if r.Sequence > after && len(found) < limit {
			found = append(found, r)
		}
	}
	return found, nil
}

// WriteAudit implements audit.Log.
func (s *Store) WriteAudit(ctx context.Context, records ...audit.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		s.recordAs(ctx, r)
	}
	return nil
}
