package declaration

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/storage"
)

// plannedUser is a declared user without a conflict so far.
type plannedUser struct {
	index    int // in Input.Users
	old      *Row[identity.User]
	write    Write[identity.User]
	change   Change
	unhashed bool
}

// usersNow finds stored users by username, ID and identifiers.
type usersNow struct {
	byName, byID, byIdentifier map[string]*Row[identity.User]
}

func (r *reconciling) declareUsers() {
	now := usersNow{map[string]*Row[identity.User]{}, map[string]*Row[identity.User]{}, map[string]*Row[identity.User]{}}
	for i := range r.state.Users {
		row := &r.state.Users[i]
		now.byID[row.Record.ID] = row
		if canonical, err := identity.CanonicalIdentifier(row.Record.Username); err == nil {
			now.byName[canonical] = row
		}
		for _, identifier := range row.Record.Identifiers() {
			now.byIdentifier[identifier] = row
		}
	}
	// named are the IDs of the declared users, including those with a conflict.
	named, means := map[string]bool{}, map[string]string{}
	planned := make([]*plannedUser, 0, len(r.in.Users))
	for i := range r.in.Users {
		d := &r.in.Users[i]
		old, adopted, err := now.match(d)
		if old != nil {
			named[old.Record.ID] = true
		}
		var p *plannedUser
		if err == nil {
			p, err = r.user(d, old, adopted)
		}
		if err == nil && means[p.write.Record.ID] != "" {
			err = fmt.Errorf("this is the same user as %q", means[p.write.Record.ID])
		}
		if err != nil {
			r.conflict(KindUser, d.Username, err)
			continue
		}
		p.index, means[p.write.Record.ID] = i, d.Username
		planned = append(planned, p)
	}
	planned = r.withoutTaken(planned, named)
	r.displace(planned)
	for _, p := range planned {
		r.note(p.change)
		if p.unhashed {
			r.plan.Unhashed = append(r.plan.Unhashed, p.index)
		}
		if p.old == nil || differs(p.old, &p.write) || !sameUser(p.old.Record, p.write.Record) {
			r.plan.Users = append(r.plan.Users, p.write)
		}
	}
	for i := range r.state.Users {
		old := &r.state.Users[i]
		if !named[old.Record.ID] && r.unnamed(KindUser, old.Record.Username, old.Record.ID, old.Source, old.RetiredAt) {
			row := *old
			row.RetiredAt, row.Record.RetiredAt, row.Record.UpdatedAt = r.in.Now, r.in.Now, r.in.Now
			r.plan.Users = append(r.plan.Users, Write[identity.User]{Row: row, Visible: true})
		}
	}
}

var errSignedUp = errors.New("the sub is that of a signed-up account; leave it out, or take the account over with adopt: true, which ends everything that was issued to its owner")

// match returns the stored user of a declaration, nil if the user is new, and whether it is a
// signed-up account to adopt.
func (now *usersNow) match(d *User) (old *Row[identity.User], adopted bool, err error) {
	canonical, err := identity.CanonicalIdentifier(d.Username)
	if err != nil {
		return nil, false, fmt.Errorf("username: %w", err)
	}
	old = now.byName[canonical]
	if old != nil && old.Record.Origin == identity.OriginSignedUp && d.exact == nil && !d.Adopt && d.Subject != old.Record.ID {
		old = nil // it loses the name
	}
	if same := now.byID[d.Subject]; same != nil {
		if old != nil && old != same {
			return old, false, fmt.Errorf("the username belongs to another user: %w", identity.ErrIdentifierTaken)
		}
		old = same // the username changes
	}
	if old == nil && d.Adopt {
		for _, identifier := range d.identifiers() {
			holder := now.byIdentifier[identifier]
			if holder == nil || holder.Record.Origin != identity.OriginSignedUp {
				continue
			}
			if old != nil && old != holder {
				return nil, false, errors.New("the username and the email address belong to two different accounts")
			}
			old = holder
		}
	}
	if old == nil {
		return nil, false, nil
	}
	if d.Subject != "" && d.Subject != old.Record.ID {
		return old, false, fmt.Errorf("the user's sub is %q and cannot change", old.Record.ID)
	}
	if old.Record.Origin == identity.OriginSignedUp && d.exact == nil {
		if !d.Adopt {
			return old, false, errSignedUp
		}
		return old, true, nil
	}
	return old, false, nil
}

func (d *User) identifiers() []string {
	u := identity.User{Username: d.Username, Claims: d.Claims}
	return u.Identifiers()
}

// user merges a declaration into the stored user.
func (r *reconciling) user(d *User, old *Row[identity.User], adopted bool) (*plannedUser, error) {
	p := &plannedUser{old: old}
	var row Row[identity.User]
	u := identity.User{ID: cmp.Or(d.Subject, storage.NewID()), CreatedAt: r.in.Now, UpdatedAt: r.in.Now}
	switch {
	case old == nil && r.clientIDs[u.ID]:
		return nil, errors.New("the sub is the client_id of a client")
	case adopted:
		// Nothing that the former owner chose is kept.
		row = *old
		u.ID, u.CreatedAt = old.Record.ID, old.Record.CreatedAt
	case old != nil:
		row, u = *old, old.Record
	}
	u.Username, u.RetiredAt = d.Username, time.Time{}
	if old == nil || u.Origin == "" {
		u.Origin = identity.OriginDeclared
	}
	passwordChanged := false
	if d.exact != nil {
		u.Claims, u.Disabled, u.Administrator = d.exact.Claims, d.exact.Disabled, d.exact.Administrator
		u.PasswordHash, u.DeclaredPassword = d.exact.PasswordHash, d.exact.DeclaredPassword
	} else {
		u.Claims = d.mergeClaims(u.Claims)
		if d.Disabled != nil {
			u.Disabled = *d.Disabled
		}
		if d.Administrator != nil {
			u.Administrator = *d.Administrator
		}
		passwordChanged, p.unhashed = d.Password.set(&u)
	}
	if err := u.Check(); err != nil {
		return nil, err
	}
	// Whoever could control the account before must not control that of an administrator: with a session,
	// or with a link that an operator created.
	becameAdministrator := old != nil && u.Administrator && !old.Record.Administrator
	if old != nil && (passwordChanged || adopted || becameAdministrator) {
		u.End(r.in.Now, nil)
	}
	row.Record = u
	p.write, p.change = declare(r, KindUser, d.Username, old, row, d.members(), "password", passwordChanged)
	p.write.Forget, p.change.Adopted = adopted, adopted
	if p.write.Visible {
		p.write.Record.UpdatedAt = r.in.Now
	}
	return p, nil
}

// mergeClaims returns the claims with the named ones replaced.
func (d *User) mergeClaims(before map[string]any) map[string]any {
	claims := map[string]any{}
	for name, value := range before {
		if !d.OnlyTheseClaims || d.IsStandardClaim(name) {
			claims[name] = value
		}
	}
	for name, value := range d.Claims {
		if value == nil {
			delete(claims, name)
			continue
		}
		claims[name] = value
	}
	// A new address is not verified because the old one was.
	for name, verified := range map[string]string{"email": "email_verified", "phone_number": "phone_number_verified"} {
		if _, ok := d.Claims[verified]; !ok && !reflect.DeepEqual(before[name], claims[name]) {
			delete(claims, verified)
		}
	}
	return claims
}

// set sets the declared password, unless it was declared before: a password that the user has
// chosen since then is kept. unhashed reports that the password is new and has no hash.
func (p *Password) set(u *identity.User) (changed, unhashed bool) {
	if !p.Named {
		return false, false
	}
	if p.Mark == nil {
		changed = u.PasswordHash != "" || u.DeclaredPassword != ""
		u.PasswordHash, u.DeclaredPassword = "", ""
		return changed, false
	}
	mark := p.Mark(u.ID)
	switch u.DeclaredPassword {
	case mark:
		return false, false
	case "":
	case p.SameAs:
		u.DeclaredPassword = mark
		return false, false
	}
	u.PasswordHash, u.DeclaredPassword = p.Hash, mark
	return true, p.Hash == ""
}

// members returns the members that are reported when a later version of the file no longer
// names them. A declared password is often removed on purpose, once the user has chosen another.
func (d *User) members() Members {
	named, removed := json.RawMessage("true"), json.RawMessage("null")
	members := Members{}
	if d.Disabled != nil {
		members["disabled"] = named
	}
	if d.Administrator != nil {
		members["administrator"] = named
	}
	for name, value := range d.Claims {
		members[name] = named
		if value == nil {
			members[name] = removed
		}
	}
	return members
}

// withoutTaken returns the users whose identifiers are free, and adds conflicts for the others.
// Two declared users may swap an address.
func (r *reconciling) withoutTaken(planned []*plannedUser, named map[string]bool) []*plannedUser {
	for {
		changes := map[string]bool{}
		for _, p := range planned {
			changes[p.write.Record.ID] = true
		}
		owners := map[string]*identity.User{}
		for i := range r.state.Users {
			row := &r.state.Users[i]
			goes := r.in.prunes(KindUser, row.Record.Username) && r.in.Source != "" && row.Source == r.in.Source && !named[row.Record.ID]
			if goes || changes[row.Record.ID] {
				continue
			}
			for _, identifier := range row.Record.Identifiers() {
				owners[identifier] = &row.Record
			}
		}
		var free []*plannedUser
		for _, p := range planned {
			u := &p.write.Record
			if err := taken(u, owners, changes); err != nil {
				r.conflict(KindUser, u.Username, err)
				continue
			}
			for _, identifier := range u.Identifiers() {
				owners[identifier] = u
			}
			free = append(free, p)
		}
		if len(free) == len(planned) {
			return planned
		}
		planned = free
	}
}

// taken reports why a user cannot have the identifiers; nil if no other user has them, or only
// signed-up accounts that lose them. changes are the IDs of the declared users.
func taken(u *identity.User, owners map[string]*identity.User, changes map[string]bool) error {
	for _, identifier := range u.Identifiers() {
		owner := owners[identifier]
		if owner == nil || owner.ID == u.ID {
			continue
		}
		who := fmt.Sprintf("the user %q has", owner.Username)
		switch {
		case owner.Origin == identity.OriginSignedUp && !changes[owner.ID]:
			continue
		case !owner.RetiredAt.IsZero():
			who = fmt.Sprintf("the retired user %q (rename it by declaring its sub: %s) has", owner.Username, owner.ID)
		}
		return fmt.Errorf("%s %q: %w", who, identifier, identity.ErrIdentifierTaken)
	}
	return nil
}

// sameUser compares two users as they are stored.
func sameUser(a, b identity.User) bool {
	claimsA, errA := json.Marshal(a.Claims)
	claimsB, errB := json.Marshal(b.Claims)
	if errA != nil || errB != nil || string(claimsA) != string(claimsB) && len(a.Claims)+len(b.Claims) > 0 {
		return false
	}
	a.Claims, b.Claims = nil, nil
	return reflect.DeepEqual(a, b)
}
