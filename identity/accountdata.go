package identity

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/valetkey/valetkey/mail"
)

// AccountData is what is kept about an account besides how its user signs in. Stores keep it in
// columns of its own (EncodeAccountData), and leave Events, FormerNames, Notices and Recovery out of a CachedUser.
type AccountData struct {
	// Events are the recent security events, the oldest first (User.AddEvent).
	Events []SecurityEvent `json:"events,omitempty"`
	// FormerNames are usernames that the user had. They still find the user, so nobody else can
	// take them.
	FormerNames []FormerName `json:"former_names,omitempty"`
	// DeleteAfter is when the account is erased because its user has asked for it; zero if not.
	// Until then, it is treated as disabled, except that the user can sign in and cancel it.
	DeleteAfter time.Time `json:"delete_after,omitzero"`
	// LockedAt is when the account was locked down (Accounts.LockDown); zero if it is not. Nobody can
	// sign in until a new password was chosen with a mailed proof.
	LockedAt time.Time `json:"locked_at,omitzero"`
	// RecoveringSince is when the user got back in with messages: a new password was set with one, or a
	// sign-in needed nothing but a message and a recovery code. It is zero again when another second factor
	// was proved or added (User.Recovering).
	RecoveringSince time.Time `json:"recovering_since,omitzero"`
	// Recovery is a recovery by mail that waits; nil if there is none. What it points to does not change.
	Recovery *MailRecovery `json:"recovery,omitempty"`
	// Notices are messages that are due (Accounts.Maintain). They are stored with a change by those
	// who cannot send messages.
	Notices []PendingNotice `json:"notices,omitempty"`
	// Role is what the user may manage, one of record.Roles; "" is nothing.
	// User.Administrator is the role administrator, whatever this is.
	Role string `json:"role,omitempty"`
}

// FormerName is a username that is reserved for the user who had it.
type FormerName struct {
	Name  string    `json:"name"`
	Until time.Time `json:"until"`
}

// PendingNotice is a message that tells a user about a change by the operator.
type PendingNotice struct {
	Kind mail.Kind `json:"kind"`
	// To is the verified address that the account had before.
	To string    `json:"to"`
	At time.Time `json:"at"`
}

// maxFormerNames limits the reserved names of a user.
const maxFormerNames = 5

// EncodeAccountData encodes what stores keep in a column; "" if there is nothing.
func (u *User) EncodeAccountData() (string, error) {
	d := u.Account
	if len(d.Events) == 0 && len(d.FormerNames) == 0 && d.DeleteAfter.IsZero() && d.LockedAt.IsZero() && d.RecoveringSince.IsZero() && d.Recovery == nil && len(d.Notices) == 0 && d.Role == "" {
		return "", nil
	}
	encoded, err := json.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("account data of user %q: %w", u.Username, err)
	}
	return string(encoded), nil
}

// DecodeAccountData sets u.Account.
func (u *User) DecodeAccountData(encoded string) error {
	u.Account = AccountData{}
	if encoded == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(encoded), &u.Account); err != nil {
		return fmt.Errorf("account data of user %q: %w", u.ID, err)
	}
	return nil
}

// ForMemory leaves out what a CachedUser does not have.
func (d *AccountData) ForMemory() {
	d.Events, d.FormerNames, d.Notices, d.Recovery = nil, nil, nil, nil
}

// Due returns when something in the account is due: its deletion, a notice, a recovery, or the end of a
// reserved name; zero if nothing is.
func (u *User) Due() time.Time {
	due := u.Account.DeleteAfter
	for _, notice := range u.Account.Notices {
		if due.IsZero() || notice.At.Before(due) {
			due = notice.At
		}
	}
	if r := u.Account.Recovery; r != nil && (due.IsZero() || r.due().Before(due)) {
		due = r.due()
	}
	for _, name := range u.Account.FormerNames {
		if due.IsZero() || name.Until.Before(due) {
			due = name.Until
		}
	}
	return due
}

// Erasable reports whether the account is to be erased now. Stores call it in EraseUser.
func (u *User) Erasable(now time.Time) bool {
	return !u.Account.DeleteAfter.IsZero() && !now.Before(u.Account.DeleteAfter)
}

// BeingDeleted reports whether the user has asked for the deletion of the account.
func (u *User) BeingDeleted() bool { return !u.Account.DeleteAfter.IsZero() }

// MaySignIn reports whether the user may sign in. A user whose account is being deleted may, only to
// cancel that. A user whose account is locked down must choose a new password first.
func (u *User) MaySignIn() bool { return !u.suspended() && u.Account.LockedAt.IsZero() }

// suspended reports whether the operator has disabled or retired the user.
func (u *User) suspended() bool { return u.Disabled || !u.RetiredAt.IsZero() }

// dropFormerNames drops the names whose time is over, and those that limit allows no more.
func (u *User) dropFormerNames(now time.Time) {
	u.Account.FormerNames = slices.DeleteFunc(u.Account.FormerNames, func(n FormerName) bool { return !now.Before(n.Until) })
	u.Account.FormerNames = u.Account.FormerNames[max(0, len(u.Account.FormerNames)-maxFormerNames):]
}

func (d *AccountData) clone() AccountData {
	c := *d
	c.Events, c.FormerNames, c.Notices = slices.Clone(d.Events), slices.Clone(d.FormerNames), slices.Clone(d.Notices)
	return c
}

// LoseIdentifiers takes identifiers from a signed-up account because the operator has declared them
// for another one, and reports whether it had any. name replaces a username that is lost. The user is
// told on the account page, and by a message to the verified address that the account had.
func (u *User) LoseIdentifiers(now time.Time, lost map[string]bool, name string) bool {
	has := func(s string) bool {
		canonical, err := CanonicalIdentifier(s)
		return err == nil && lost[canonical]
	}
	before, to := len(u.Account.FormerNames), ""
	if u.EmailVerified() {
		to = u.Email()
	}
	u.Account.FormerNames = slices.DeleteFunc(u.Account.FormerNames, func(n FormerName) bool { return has(n.Name) })
	changed := len(u.Account.FormerNames) < before
	if has(u.Username) {
		u.AddEvent(now, SecurityEvent{Kind: EventUsernameTaken, Detail: u.Username})
		u.Username, changed = name, true
	}
	if email := u.Email(); email != "" && has(email) {
		u.AddEvent(now, SecurityEvent{Kind: EventAddressTaken, Detail: email})
		delete(u.Claims, "email")
		delete(u.Claims, "email_verified")
		changed = true
	}
	if !changed {
		return false
	}
	u.UpdatedAt = now
	if to != "" {
		u.Account.Notices = append(u.Account.Notices, PendingNotice{Kind: mail.KindIdentifierTaken, To: to, At: now.Truncate(time.Millisecond).UTC()})
		u.Account.Notices = u.Account.Notices[max(0, len(u.Account.Notices)-maxFormerNames):]
	}
	return true
}
