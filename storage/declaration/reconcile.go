package declaration

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/storage/record"
)

// reconciling is one call of Reconcile.
type reconciling struct {
	in    *Input
	state *State
	plan  Plan
	known Known
	// The IDs of users and clients: a token's sub must not identify both.
	userIDs, clientIDs map[string]bool
}

// Reconcile returns what must be written to make the state match the declarations. It depends
// only on its arguments, so it can run inside a transaction that is retried.
//
// A record that cannot be declared becomes a Change with ActionConflict and is not written; the
// others are.
func Reconcile(in *Input, state *State) Plan {
	r := reconciling{in: in, state: state, userIDs: map[string]bool{}, clientIDs: map[string]bool{}}
	if in.Formerly != "" && in.Version != nil && len(state.Versions) == 0 {
		r.plan.TakeOver = true
		takeOver(state.Clients, in)
		takeOver(state.Users, in)
		takeOver(state.Scopes, in)
		takeOver(state.Resources, in)
	}
	if in.Version != nil && in.Source != "" {
		if !in.Force && in.Version.older(state.Versions) {
			return Plan{Older: true}
		}
		r.plan.Version = in.nextVersion(state.Versions)
	}
	for i := range state.Users {
		r.userIDs[state.Users[i].Record.ID] = true
	}
	for i := range state.Clients {
		r.clientIDs[state.Clients[i].Record.ID] = true
	}
	for _, c := range in.Clients {
		r.clientIDs[c.ID] = true
	}
	r.known = r.names()
	r.clients()
	reconcileRecords(&r, KindScope, in.Scopes, state.Scopes, &r.plan.Scopes, func(s *record.Scope) *string { return &s.Name })
	reconcileRecords(&r, KindResource, in.Resources, state.Resources, &r.plan.Resources, func(v *record.Resource) *string { return &v.Identifier })
	r.declareUsers()
	return r.plan
}

// takeOver gives the source the records that it owns under its former name.
func takeOver[T any](rows []Row[T], in *Input) {
	for i := range rows {
		if rows[i].Source == in.Formerly {
			rows[i].Source = in.Source
		}
	}
}

// nextVersion returns the version to store; nil if it is stored already.
func (in *Input) nextVersion(versions []Version) *Version {
	next := *in.Version
	next.Applied = in.Now
	if len(versions) == 0 {
		return &next
	}
	last := versions[0]
	if last.Digest == next.Digest && !next.Modified.After(last.Modified) {
		return nil
	}
	if !next.Applied.After(last.Applied) {
		next.Applied = last.Applied.Add(time.Millisecond)
	}
	return &next
}

// names returns the records that other records may refer to.
func (r *reconciling) names() Known {
	known := Known{map[string]bool{}, map[string]bool{}, map[string]bool{}}
	for i := range r.state.Clients {
		known.Clients[r.state.Clients[i].Record.ID] = r.state.Clients[i].RetiredAt.IsZero()
	}
	for i := range r.state.Scopes {
		known.Scopes[r.state.Scopes[i].Record.Name] = r.state.Scopes[i].RetiredAt.IsZero()
	}
	for i := range r.state.Resources {
		known.Resources[r.state.Resources[i].Record.Identifier] = r.state.Resources[i].RetiredAt.IsZero()
	}
	for _, c := range r.in.Clients {
		known.Clients[c.ID] = true
	}
	for _, s := range r.in.Scopes {
		known.Scopes[s.Name] = true
	}
	for _, v := range r.in.Resources {
		known.Resources[v.Name] = true
	}
	return known
}

// checked handles a merged record that must not be stored. If it is new, the declarations are
// invalid and nothing is applied; otherwise the stored record is not changed.
func (r *reconciling) checked(kind, name string, isNew bool, err error) {
	if isNew {
		r.plan.Invalid = append(r.plan.Invalid, fmt.Errorf("%s %q: %w", kind, name, err))
		return
	}
	r.conflict(kind, name, err)
}

func (r *reconciling) conflict(kind, name string, err error) {
	r.plan.Changes = append(r.plan.Changes, Change{Kind: kind, Name: name, Action: ActionConflict, Problem: err.Error(), Err: err})
}

// note adds a change, if there is anything to report.
func (r *reconciling) note(change Change) {
	if change.Action != ActionNone || len(change.NotNamed) > 0 {
		r.plan.Changes = append(r.plan.Changes, change)
	}
}

func (r *reconciling) check(value any) error {
	if r.in.Check == nil {
		return nil
	}
	return r.in.Check(value, &r.known)
}

// merge returns a record with the named members replaced. before is nil for a new record.
func merge[T any](before *T, members Members) (T, error) {
	var merged T
	object := Members{}
	if before != nil {
		document, err := json.Marshal(before)
		if err != nil {
			return merged, err
		}
		if err := json.Unmarshal(document, &object); err != nil {
			return merged, err
		}
	}
	for name, value := range members {
		if isNull(value) {
			delete(object, name)
			continue
		}
		object[name] = value
	}
	document, err := json.Marshal(object)
	if err != nil {
		return merged, err
	}
	return merged, json.Unmarshal(document, &merged)
}

// named returns the new Row.Named, and the members in it that the source named before and no
// longer names, although they have a value.
func (in *Input) named(before []string, owned bool, now Members, merged map[string]any) (named, left []string) {
	for name, value := range now {
		if !isNull(value) {
			named = append(named, name)
		}
	}
	if owned {
		for _, name := range before {
			if _, still := now[name]; !still && merged[name] != nil {
				named, left = append(named, name), append(left, name)
			}
		}
	}
	slices.Sort(named)
	slices.Sort(left)
	return named, left
}

// declare sets what is the same for every kind: source, named members and action. The row
// contains the new record.
func declare[T any](r *reconciling, kind, name string, old *Row[T], row Row[T], members Members, secret string, secretChanged bool) (Write[T], Change) {
	change := Change{Kind: kind, Name: name, Action: ActionAdd}
	var before any
	if old != nil {
		before = comparable(&old.Record)
	}
	after := comparable(&row.Record)
	change.Members = memberChanges(before, after, secret, secretChanged)
	row.RetiredAt = time.Time{}
	source := row.Source
	if r.in.Source != "" {
		row.Source = r.in.Source
		row.Named, change.NotNamed = r.in.named(row.Named, source == r.in.Source, members, jsonMembers(after))
	}
	if old == nil {
		return Write[T]{Row: row, Visible: true}, change
	}
	change.Action = ActionNone
	if len(change.Members) > 0 {
		change.Action = ActionChange
	}
	if !old.RetiredAt.IsZero() {
		change.Action = ActionRestore
		// The old source no longer names it, and would retire it again.
		row.Source = r.in.Source
	}
	return Write[T]{Row: row, Visible: change.Action != ActionNone}, change
}

// comparable returns a record as a diff shows it.
func comparable[T any](value *T) any {
	if user, ok := any(value).(*identity.User); ok {
		members := map[string]any{"username": user.Username, "disabled": user.Disabled, "administrator": user.Administrator}
		maps.Copy(members, user.Claims)
		return members
	}
	return value
}

// differs reports whether a row must be written.
func differs[T any](old *Row[T], w *Write[T]) bool {
	return old == nil || w.Visible || old.Source != w.Source || !slices.Equal(old.Named, w.Named)
}

// nameMember is the member that identifies a record.
var nameMember = map[string]string{KindClient: "client_id", KindScope: "name", KindResource: "identifier"}

func reconcileRecords[T any](r *reconciling, kind string, declared []Record, stored []Row[T], writes *[]Write[T], name func(*T) *string) {
	rows := index(stored, func(v *T) string { return *name(v) })
	named := map[string]bool{}
	for _, d := range declared {
		named[d.Name] = true
	}
	for _, d := range declared {
		old := rows[d.Name]
		if kind == KindResource && (old == nil || !old.RetiredAt.IsZero()) {
			if same := r.sameResource(d.Name, named); same != "" {
				r.conflict(kind, d.Name, fmt.Errorf("%w: %q", errSameResource, same))
				continue
			}
		}
		var row Row[T]
		var before *T
		if old != nil {
			row, before = *old, &old.Record
			if d.whole {
				before = nil
			}
		}
		merged, err := merge(before, d.Members)
		*name(&merged) = d.Name
		if err == nil {
			err = r.check(merged)
		}
		if err != nil {
			r.checked(kind, d.Name, old == nil, err)
			continue
		}
		row.Record = merged
		members := maps.Clone(d.Members)
		delete(members, nameMember[kind])
		w, change := declare(r, kind, d.Name, old, row, members, "", false)
		r.note(change)
		if differs(old, &w) {
			*writes = append(*writes, w)
		}
	}
	for i := range stored {
		old := &stored[i]
		if id := *name(&old.Record); !named[id] && r.unnamed(kind, id, "", old.Source, old.RetiredAt) {
			row := *old
			row.RetiredAt = r.in.Now
			*writes = append(*writes, Write[T]{Row: row, Visible: true})
		}
	}
}

var errSameResource = errors.New("the resource is stored under another spelling (the case of the host, the default port and the path / are ignored: RFC 3986, section 6.2.3); declare the stored spelling, or remove it first")

// sameResource returns another spelling of a resource that is stored and remains stored; "" if
// there is none.
func (r *reconciling) sameResource(identifier string, named map[string]bool) string {
	for i := range r.state.Resources {
		row := &r.state.Resources[i]
		stored := row.Record.Identifier
		if stored == identifier || !row.RetiredAt.IsZero() || !oauth.SameResource(stored, identifier) {
			continue
		}
		owned := r.in.Source != "" && row.Source == r.in.Source && !named[stored]
		if owned && (!r.in.KeepUnnamed || r.in.prunes(KindResource, stored)) {
			continue // it is retired or removed
		}
		return stored
	}
	return ""
}

// unnamed handles a record that is not declared, and reports whether it must be retired.
func (r *reconciling) unnamed(kind, name, id, source string, retired time.Time) bool {
	switch {
	case r.in.Source == "" || source != r.in.Source:
		return false
	case r.in.prunes(kind, name):
		r.plan.Remove = append(r.plan.Remove, Name{kind, name, id})
		r.plan.Changes = append(r.plan.Changes, Change{Kind: kind, Name: name, Action: ActionRemove})
		return false
	case r.in.KeepUnnamed || !retired.IsZero():
		return false
	}
	r.plan.Changes = append(r.plan.Changes, Change{Kind: kind, Name: name, Action: ActionRetire})
	return true
}

func (in *Input) prunes(kind, name string) bool {
	return in.Prune || in.Pruned[Name{Kind: kind, Name: name}]
}

// index maps the names of records to their rows. A file may declare thousands.
func index[T any](rows []Row[T], name func(*T) string) map[string]*Row[T] {
	found := make(map[string]*Row[T], len(rows))
	for i := range rows {
		found[name(&rows[i].Record)] = &rows[i]
	}
	return found
}

var (
	errClientIsUser     = errors.New("the client_id is a user's subject identifier")
	errClientRegistered = errors.New("a client with this client_id registered itself; declare another client_id, or take it over with adopt: true, which ends everything that was issued to it")
)

func (r *reconciling) clients() {
	rows := index(r.state.Clients, func(c *record.Client) string { return c.ID })
	named := map[string]bool{}
	for i := range r.in.Clients {
		d := &r.in.Clients[i]
		named[d.ID] = true
		if err := r.client(d, rows[d.ID]); err != nil {
			r.conflict(KindClient, d.ID, err)
		}
	}
	for i := range r.state.Clients {
		old := &r.state.Clients[i]
		if !named[old.Record.ID] && r.unnamed(KindClient, old.Record.ID, "", old.Source, old.RetiredAt) {
			row := *old
			row.RetiredAt, row.Record.RetiredAt = r.in.Now, r.in.Now
			r.plan.Clients = append(r.plan.Clients, Write[record.Client]{Row: row, Visible: true})
		}
	}
}

func (r *reconciling) client(d *Client, old *Row[record.Client]) error {
	// The sub of a token that a client gets for itself is its client_id. It must not be mistaken
	// for a user (RFC 9700, section 4.15).
	if r.userIDs[d.ID] {
		return errClientIsUser
	}
	var row Row[record.Client]
	var before *record.Client
	adopted := false
	if old != nil {
		row, before = *old, &old.Record
		if adopted = before.Registration != nil; adopted && !d.Adopt && d.whole == nil {
			return errClientRegistered
		}
		if adopted || d.whole != nil {
			before = nil
		}
	}
	merged, err := merge(before, d.Members)
	if err != nil {
		return err
	}
	merged.ID = d.ID
	if before != nil {
		merged.Secrets, merged.EndedAt = before.Secrets, before.EndedAt
		if _, ok := d.Members["token_endpoint_auth_method"]; !ok && before.TokenEndpointAuthMethod == DefaultAuthMethod(before) {
			merged.TokenEndpointAuthMethod = ""
		}
	}
	d.setSecrets(&merged)
	if merged.TokenEndpointAuthMethod == "" && d.whole == nil {
		merged.TokenEndpointAuthMethod = DefaultAuthMethod(&merged)
	}
	if err := r.check(merged); err != nil {
		r.checked(KindClient, d.ID, old == nil, err)
		return nil
	}
	secretChanged := len(merged.Secrets) > 0
	if old != nil {
		secretChanged = !slices.Equal(old.Record.Secrets, merged.Secrets)
	}
	row.Record = merged
	members := maps.Clone(d.Members)
	delete(members, nameMember[KindClient])
	w, change := declare(r, KindClient, d.ID, old, row, members, "client_secret", secretChanged)
	w.Record.RetiredAt = time.Time{}
	change.Adopted, w.Forget = adopted, adopted
	if adopted {
		w.Record.EndedAt = r.in.Now
	}
	r.note(change)
	if differs(old, &w) {
		r.plan.Clients = append(r.plan.Clients, w)
	}
	return nil
}

func (d *Client) setSecrets(c *record.Client) {
	switch {
	case d.whole != nil:
		c.Secrets = d.whole.Secrets
		return
	case d.Secret != nil:
		c.Secrets = []string{*d.Secret}
	case d.SecretNext != nil:
		c.Secrets = slices.Clone(c.Secrets[:min(1, len(c.Secrets))])
	}
	if d.SecretNext != nil {
		c.Secrets = append(c.Secrets, *d.SecretNext)
	}
	c.Secrets = slices.DeleteFunc(c.Secrets, func(secret string) bool { return secret == "" })
}

// DefaultAuthMethod returns the token_endpoint_auth_method of a declared client that names
// none. It depends on the client's credentials.
func DefaultAuthMethod(c *record.Client) string {
	switch {
	case len(c.Secrets) > 0:
		return "" // the default of OpenID Connect Registration, section 2
	case len(c.JWKS) > 0 || c.JWKSURI != "":
		return oauth.AuthMethodPrivateKeyJWT
	}
	return oauth.AuthMethodNone
}
