package memory

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage/audited"
	"github.com/valetkey/valetkey/storage/declaration"
	"github.com/valetkey/valetkey/storage/record"
)

// Declaration is what Declare takes.
type Declaration = declaration.Declaration

// recordName names a declared record.
type recordName struct{ kind, name string }

// note is what is known about the declaration of a record.
type note struct {
	source    string
	named     []string
	retiredAt time.Time // of a scope or resource
}

// Declare stores records exactly as given, or changes nothing. If source is not "", it retires
// the records that the same source declared before and no longer declares.
func (s *Store) Declare(ctx context.Context, now time.Time, source string, d Declaration) error {
	in, err := d.Whole(now, source)
	if err != nil {
		return fmt.Errorf("declare: %w", err)
	}
	err = s.Reconcile(ctx, now, in.Selection(), func(state *declaration.State) (*declaration.Plan, error) {
		plan := declaration.Reconcile(in, state)
		return &plan, declaration.Conflicts(plan.Changes)
	})
	if err != nil {
		return fmt.Errorf("declare: %w", err)
	}
	return nil
}

// Reconcile calls decide with what is stored and writes the plan that it returns. decide must
// not call the store; if it returns an error, nothing changes.
func (s *Store) Reconcile(ctx context.Context, now time.Time, selection declaration.Selection, decide func(*declaration.State) (*declaration.Plan, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.declaredState(selection)
	plan, err := decide(state)
	if err != nil {
		return err
	}
	if plan.TakeOver {
		for r, n := range s.notes {
			if n.source == selection.Formerly {
				n.source = selection.Source
				s.notes[r] = n
			}
		}
	}
	for _, r := range plan.Remove {
		s.remove(ctx, r)
	}
	for _, w := range plan.Clients {
		s.declareClient(ctx, now, w)
	}
	for _, w := range plan.Scopes {
		s.record(ctx, audited.Scope(row(state.Scopes, func(v *record.Scope) bool { return v.Name == w.Record.Name }), &w.Row))
		s.scopes[w.Record.Name] = cloneJSON(w.Record)
		s.notes[recordName{declaration.KindScope, w.Record.Name}] = note{w.Source, w.Named, milliseconds(w.RetiredAt)}
	}
	for _, w := range plan.Resources {
		s.record(ctx, audited.Resource(row(state.Resources, func(v *record.Resource) bool { return v.Identifier == w.Record.Identifier }), &w.Row))
		s.resources[w.Record.Identifier] = cloneJSON(w.Record)
		s.notes[recordName{declaration.KindResource, w.Record.Identifier}] = note{w.Source, w.Named, milliseconds(w.RetiredAt)}
	}
	// declaration.Reconcile has checked the identifiers, and two users may swap theirs.
	before := maps.Clone(s.users)
	for _, w := range plan.Users {
		delete(s.users, w.Record.ID)
	}
	for _, w := range plan.Users {
		if err := s.declareUser(ctx, now, before, w); err != nil {
			return err
		}
	}
	if plan.Version != nil {
		versions := slices.DeleteFunc(s.versions[selection.Source], func(v declaration.Version) bool { return v.Digest == plan.Version.Digest })
		s.versions[selection.Source] = slices.Insert(versions, 0, *plan.Version)
	}
	if plan.Bumps() {
		s.version++
	}
	if n := declaration.Count(plan.Changes); n > 0 {
		s.record(ctx, audited.Declarations(selection.Source, n))
	}
	return nil
}

// row returns the row of a record; nil if there is none.
func row[T any](rows []declaration.Row[T], is func(*T) bool) *declaration.Row[T] {
	for i := range rows {
		if is(&rows[i].Record) {
			return &rows[i]
		}
	}
	return nil
}

func (s *Store) declareClient(ctx context.Context, now time.Time, w declaration.Write[record.Client]) {
	id := w.Record.ID
	if before, ok := s.clients[id]; ok {
		if !w.Forget {
			w.Record.EndedAt = before.EndedAt
		}
		s.storeClient(ctx, now, before, w.Record)
	} else {
		s.clients[id] = cloneClient(w.Record)
		s.record(ctx, audited.Client(nil, &w.Record))
	}
	if w.Forget {
		s.endClient(id)
		s.deleteGrants(ctx, func(g record.Grant) bool { return g.ClientID == id })
	}
	s.notes[recordName{declaration.KindClient, id}] = note{source: w.Source, named: w.Named}
}

func (s *Store) declareUser(ctx context.Context, now time.Time, stored map[string]identity.User, w declaration.Write[identity.User]) error {
	u := w.Record
	s.notes[recordName{declaration.KindUser, u.ID}] = note{source: w.Source, named: w.Named}
	before, ok := stored[u.ID]
	if !ok {
		return s.createUser(ctx, u)
	}
	ends := u.Settle(now, &before)
	if err := s.storeUser(u); err != nil {
		return err
	}
	s.record(ctx, audited.User(&before, &u))
	if ends {
		s.endUser(&u)
	}
	if w.Forget {
		s.deleteGrants(ctx, func(g record.Grant) bool { return g.Subject == u.ID })
	}
	return nil
}

func (s *Store) remove(ctx context.Context, r declaration.Name) {
	switch r.Kind {
	case declaration.KindUser:
		s.deleteUser(ctx, r.ID)
		delete(s.notes, recordName{r.Kind, r.ID})
		return
	case declaration.KindClient:
		if client, ok := s.clients[r.Name]; ok {
			s.record(ctx, audited.Client(&client, nil))
		}
		delete(s.clients, r.Name)
		s.endClient(r.Name)
		s.deleteGrants(ctx, func(g record.Grant) bool { return g.ClientID == r.Name })
	case declaration.KindScope:
		if scope, ok := s.scopes[r.Name]; ok {
			s.record(ctx, audited.Scope(&declaration.Row[record.Scope]{Record: scope}, nil))
		}
		delete(s.scopes, r.Name)
	case declaration.KindResource:
		if resource, ok := s.resources[r.Name]; ok {
			s.record(ctx, audited.Resource(&declaration.Row[record.Resource]{Record: resource}, nil))
		}
		delete(s.resources, r.Name)
	}
	delete(s.notes, recordName{r.Kind, r.Name})
	s.version++
}

// declaredState returns all records, which are few in a test.
func (s *Store) declaredState(selection declaration.Selection) *declaration.State {
	state := &declaration.State{Versions: slices.Clone(s.versions[selection.Source])}
	for _, c := range s.clients {
		if c.Registration == nil || slices.Contains(selection.ClientIDs, c.ID) {
			n := s.notes[recordName{declaration.KindClient, c.ID}]
			state.Clients = append(state.Clients, declaration.Row[record.Client]{Record: cloneClient(c), Source: n.source, Named: n.named, RetiredAt: c.RetiredAt})
		}
	}
	for _, u := range s.users {
		n := s.notes[recordName{declaration.KindUser, u.ID}]
		state.Users = append(state.Users, declaration.Row[identity.User]{Record: cloneJSON(u), Source: n.source, Named: n.named, RetiredAt: u.RetiredAt})
	}
	for name, scope := range s.scopes {
		n := s.notes[recordName{declaration.KindScope, name}]
		state.Scopes = append(state.Scopes, declaration.Row[record.Scope]{Record: cloneJSON(scope), Source: n.source, Named: n.named, RetiredAt: n.retiredAt})
	}
	for identifier, resource := range s.resources {
		n := s.notes[recordName{declaration.KindResource, identifier}]
		state.Resources = append(state.Resources, declaration.Row[record.Resource]{Record: cloneJSON(resource), Source: n.source, Named: n.named, RetiredAt: n.retiredAt})
	}
	return state
}

// RemoveRetired removes the records that were retired before a time, and returns their names.
func (s *Store) RemoveRetired(ctx context.Context, before time.Time) ([]declaration.Name, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var removed []declaration.Name
	due := func(at time.Time) bool { return !at.IsZero() && !at.After(before) }
	for _, u := range s.users {
		if due(u.RetiredAt) {
			removed = append(removed, declaration.Name{Kind: declaration.KindUser, Name: u.Username, ID: u.ID})
		}
	}
	for _, c := range s.clients {
		if due(c.RetiredAt) {
			removed = append(removed, declaration.Name{Kind: declaration.KindClient, Name: c.ID, ID: c.ID})
		}
	}
	for r, n := range s.notes {
		if due(n.retiredAt) {
			removed = append(removed, declaration.Name{Kind: r.kind, Name: r.name, ID: r.name})
		}
	}
	for _, r := range removed {
		s.remove(ctx, r)
	}
	return removed, nil
}

// Declared returns every active client, user, scope and resource that is stored, except
// clients that registered themselves.
func (s *Store) Declared(context.Context) (Declaration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := Declaration{Scopes: active(s, declaration.KindScope, s.scopes), Resources: active(s, declaration.KindResource, s.resources), Users: sortedClones(s.users)}
	d.Users = slices.DeleteFunc(d.Users, func(u identity.User) bool { return !u.RetiredAt.IsZero() })
	for _, id := range slices.Sorted(maps.Keys(s.clients)) {
		if s.clients[id].Registration == nil && s.clients[id].RetiredAt.IsZero() {
			d.Clients = append(d.Clients, cloneClient(s.clients[id]))
		}
	}
	return d, nil
}

// active returns scopes or resources that are not retired, by name.
func active[T any](s *Store, kind string, m map[string]T) []T {
	var values []T
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if s.notes[recordName{kind, name}].retiredAt.IsZero() {
			values = append(values, cloneJSON(m[name]))
		}
	}
	return values
}

func sortedClones[T any](m map[string]T) []T {
	var values []T
	for _, name := range slices.Sorted(maps.Keys(m)) {
		values = append(values, cloneJSON(m[name]))
	}
	return values
}

func cloneClient(c record.Client) record.Client {
	clone := cloneJSON(c)
	clone.Secrets, clone.RetiredAt, clone.EndedAt = slices.Clone(c.Secrets), c.RetiredAt, c.EndedAt
	return clone
}

func cloneGrant(g record.Grant) record.Grant {
	g.Scope, g.Declined, g.Resources = slices.Clone(g.Scope), slices.Clone(g.Declined), slices.Clone(g.Resources)
	g.Details = g.Details.Clone()
	return g
}

// cloneJSON returns a record as a database does, which stores it as JSON: every number in it
// is a float64.
func cloneJSON[T any](value T) T {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic("memory: a record cannot be encoded as JSON: " + err.Error())
	}
	var clone T
	if err := json.Unmarshal(encoded, &clone); err != nil {
		panic("memory: a record cannot be encoded as JSON: " + err.Error())
	}
	return clone
}
