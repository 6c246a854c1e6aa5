package audited

import (
	"slices"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/identity"
)

// User returns the audit record of a change of a user; nil if nothing changed that the log shows,
// such as when an authenticator was used last. before is nil for a new user, after for one that was
// deleted.
func User(before, after *identity.User) *audit.Record {
	user := after
	if user == nil {
		user = before
	}
	r := &audit.Record{Object: audit.Object{Kind: audit.ObjectUser, ID: user.ID, Name: user.Username}, Subject: user.ID}
	switch {
	case before == nil:
		r.Event = "user.created"
		compare(r, nil, userMembers(after, nil))
		return r
	case after == nil:
		// The log outlives the account. It says who was deleted, and keeps no more than that.
		r.Event = "user.deleted"
		m := members{}
		m.set("username", before.Username)
		compare(r, m, nil)
		return r
	}
	if !compare(r, userMembers(before, before), userMembers(after, before)) {
		return nil
	}
	r.Event = userEvent(before, after, r)
	return r
}

// userMembers returns what the log shows of a user. before is the user before the change.
func userMembers(u, before *identity.User) members {
	m := members{}
	if before == nil {
		before = &identity.User{}
	}
	m.set("username", u.Username)
	m.secret("password", u.PasswordHash, before.PasswordHash)
	m.secret("declared_password", u.DeclaredPassword, before.DeclaredPassword)
	m.secret("user_code", u.UserCodeHash, before.UserCodeHash)
	m.set("authenticators", authenticators(u))
	m.set("external", links(u))
	m.set("claims", u.Claims)
	m.set("disabled", u.Disabled)
	m.set("administrator", u.Administrator)
	m.set("origin", u.Origin)
	m.setTime("retired_at", u.RetiredAt)
	m.setTime("ended_at", u.EndedAt)
	m.set("former_names", u.Account.FormerNames)
	m.setTime("delete_after", u.Account.DeleteAfter)
	m.setTime("locked_at", u.Account.LockedAt)
	m.set("role", u.Account.Role)
	m.setTime("recovering_since", u.Account.RecoveringSince)
	if r := u.Account.Recovery; r != nil {
		m.setTime("recovery_ready_at", r.ReadyAt)
	}
	return m
}

// authenticator is what the log shows of an authenticator: nothing that changes when it is used,
// except the number of recovery codes that are left.
type authenticator struct {
	ID   string          `json:"id"`
	Kind identity.Method `json:"kind"`
	Name string          `json:"name,omitempty"`
	Left int             `json:"left,omitempty"`
}

func authenticators(u *identity.User) []authenticator {
	var all []authenticator
	for _, a := range u.Authenticators {
		shown := authenticator{ID: a.ID, Kind: a.Kind, Name: a.Name}
		if a.RecoveryCodes != nil {
			shown.Left = len(a.RecoveryCodes.Hashes)
		}
		all = append(all, shown)
	}
	return all
}

// link is what the log shows of a link to a user of another provider.
type link struct {
	ID       string    `json:"id"`
	Provider string    `json:"provider"`
	Issuer   string    `json:"issuer"`
	Subject  string    `json:"subject"`
	LinkedAt time.Time `json:"linked_at"`
	Groups   []string  `json:"groups,omitempty"`
}

func links(u *identity.User) []link {
	var all []link
	for _, l := range u.External {
		all = append(all, link{l.ID, l.Provider, l.Issuer, l.Subject, l.LinkedAt.UTC().Truncate(time.Millisecond), l.Groups})
	}
	return all
}

// userEvent returns the name of the most important part of a change.
func userEvent(before, after *identity.User, r *audit.Record) string {
	differ := func(name string) bool {
		_, was := r.Before[name]
		_, is := r.After[name]
		return was || is
	}
	switch {
	case differ("disabled"):
		return choose(after.Disabled, "user.disabled", "user.enabled")
	case differ("retired_at"):
		return choose(!after.RetiredAt.IsZero(), "user.retired", "user.restored")
	case differ("delete_after"):
		return choose(after.BeingDeleted(), "account.deletion_requested", "account.deletion_canceled")
	case differ("locked_at"):
		return choose(!after.Account.LockedAt.IsZero(), "account.locked_down", "account.unlocked")
	case differ("administrator"), differ("role"):
		return "user.role_changed"
	case differ("password"):
		return "password.changed"
	case differ("authenticators"):
		return authenticatorEvent(before, after)
	case differ("external"):
		switch {
		case len(after.External) > len(before.External):
			return "external.linked"
		case len(after.External) < len(before.External):
			return "external.unlinked"
		}
		return "user.updated"
	case differ("user_code"):
		return choose(after.UserCodeHash != "", "user_code.set", "user_code.removed")
	case differ("username"):
		return "username.changed"
	case before.Email() != after.Email() || before.EmailVerified() != after.EmailVerified():
		return "email.changed"
	case differ("ended_at"):
		return "session.all_ended"
	}
	return "user.updated"
}

func authenticatorEvent(before, after *identity.User) string {
	old, current := authenticators(before), authenticators(after)
	has := func(all []authenticator, id string) bool {
		return slices.ContainsFunc(all, func(a authenticator) bool { return a.ID == id })
	}
	if slices.ContainsFunc(current, func(a authenticator) bool { return !has(old, a.ID) }) {
		return "method.added"
	}
	if slices.ContainsFunc(old, func(a authenticator) bool { return !has(current, a.ID) }) {
		return "method.removed"
	}
	for _, a := range current {
		if slices.ContainsFunc(old, func(o authenticator) bool { return o.ID == a.ID && a.Left < o.Left }) {
			return "recovery_code.used"
		}
	}
	return "user.updated"
}

func choose(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}
