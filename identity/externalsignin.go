package identity

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/storage"
)

// ExternalSignIn is an external user who has just authenticated at a provider.
type ExternalSignIn struct {
	User *ExternalUser
	// Decide applies the operator's rule. newUser is set if the user has no account yet.
	Decide func(user *ExternalUser, newUser bool) (Admission, error)
	Remote netip.Addr
}

// Format keeps what the provider says about the user out of logs and messages.
func (e ExternalSignIn) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[external sign-in]") }

// LogValue keeps what the provider says about the user out of structured logs.
func (e ExternalSignIn) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(e)) }

// externalAttempts is how often a sign-in begins again because another one was faster.
const externalAttempts = 4

// SignInExternal returns the account of an external user: the one that is linked with it, or a new one
// if the operator's rule creates it. Mapped claims and groups are refreshed. Two first sign-ins at
// once have the same account.
//
// The error is *RefusedError, ErrNoAccount, *LinkNeededError or an internal error.
func (a *Accounts) SignInExternal(ctx context.Context, now time.Time, e ExternalSignIn) (*User, error) {
	if e.User.Issuer == "" || e.User.Subject == "" || len(e.User.Issuer) > 2048 || len(e.User.Subject) > 255 {
		return nil, errors.New("identity: an external user needs an issuer and a subject")
	}
	if _, err := checkAddress(e.User.Email); err != nil {
		e.User.EmailTrusted = false
	}
	var user *User
	var err error
	for range externalAttempts {
		user, err = a.signInExternal(ctx, now, e)
		if !errors.Is(err, errAgain) {
			break
		}
	}
	if err != nil {
		a.recordExternalRefusal(ctx, user, e, err)
		return nil, err
	}
	return user, nil
}

// errAgain means that another request changed what a decision was based on.
var errAgain = errors.New("identity: another sign-in was faster")

func (a *Accounts) recordExternalRefusal(ctx context.Context, user *User, e ExternalSignIn, err error) {
	reason := "error"
	_, needed := errors.AsType[*LinkNeededError](err)
	_, refused := errors.AsType[*RefusedError](err)
	switch {
	case needed:
		reason = "link_needed"
	case refused:
		reason = "refused"
	case errors.Is(err, ErrNoAccount):
		reason = "no_account"
	}
	who := slog.Attr{}
	if user != nil {
		who = named(user)
	}
	a.events.Record(ctx, event.ExternalRefused, who, slog.String("provider", e.User.Provider), slog.String("reason", reason), event.Address(e.Remote))
}

func (a *Accounts) signInExternal(ctx context.Context, now time.Time, e ExternalSignIn) (*User, error) {
	user, err := a.store.UserByExternal(ctx, e.User.Issuer, e.User.Subject)
	if err == nil {
		return a.refreshExternal(ctx, now, user, e)
	}
	if !errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("find the account of an external user: %w", err)
	}
	admission, err := e.decide(true)
	if err != nil {
		return nil, err
	}
	link, err := newLink(now, e.User, admission)
	if err != nil {
		return nil, err
	}
	var holder *User
	if e.User.EmailTrusted {
		if holder, err = a.find(ctx, e.User.Email); err != nil {
			return nil, fmt.Errorf("look for an account with the address: %w", err)
		}
	}
	switch {
	case holder != nil && holder.externalLink(e.User.Issuer, e.User.Subject) != nil:
		return nil, errAgain // created or linked at this moment
	case holder != nil && holder.claimable():
		return a.claimAccount(ctx, now, holder.ID, e, link)
	case holder != nil && holder.Active():
		return nil, &LinkNeededError{UserID: holder.ID}
	case holder != nil: // disabled: its owner does not get around that with another account
		return holder, &RefusedError{}
	case !admission.Create:
		return nil, ErrNoAccount
	}
	return a.createExternal(ctx, now, e, admission, link)
}

// decide applies the rule, and turns a refusal into an error.
func (e ExternalSignIn) decide(newUser bool) (Admission, error) {
	admission, err := e.Decide(e.User, newUser)
	if err != nil {
		return admission, err
	}
	if admission.Refused {
		return admission, &RefusedError{Reason: admission.Reason}
	}
	return admission, admission.check()
}

// check reports an admission that is too large to be stored.
func (m *Admission) check() error {
	if len(m.Groups) > maxExternalGroups {
		return fmt.Errorf("identity: the rule assigns more than %d groups", maxExternalGroups)
	}
	for _, group := range m.Groups {
		if group == "" || len(group) > maxGroupBytes || strings.ContainsFunc(group, unicode.IsControl) {
			return fmt.Errorf("identity: the rule assigns a group whose name is empty, longer than %d bytes, or has control characters", maxGroupBytes)
		}
	}
	encoded, err := json.Marshal(m.Claims)
	if err != nil {
		return fmt.Errorf("identity: encode the claims of a rule: %w", err)
	}
	if len(encoded) > MaxExternalClaimBytes {
		return fmt.Errorf("identity: the claims of a rule have more than %d bytes", MaxExternalClaimBytes)
	}
	return nil
}

func newLink(now time.Time, e *ExternalUser, admission Admission) (ExternalLink, error) {
	link := ExternalLink{ID: storage.NewID(), Issuer: e.Issuer, Subject: e.Subject, LinkedAt: now}
	link.refresh(now, e, admission)
	return link, admission.check()
}

// refresh replaces what the provider says about the user.
func (l *ExternalLink) refresh(now time.Time, e *ExternalUser, admission Admission) {
	l.Provider, l.LastUsedAt, l.SuspendedAt = e.Provider, now, time.Time{}
	former, formerLabel := l.Claims, l.Label
	l.Email, l.Label = cut(e.Email, 254), ""
	for _, name := range []string{"name", "preferred_username"} {
		if label, ok := e.Claims[name].(string); ok && l.Label == "" {
			l.Label = cut(label, 200)
		}
	}
	l.Claims, l.Groups = maps.Clone(admission.Claims), admission.Groups
	if e.NameOnce {
		l.Label = cmp.Or(l.Label, formerLabel)
		for _, name := range []string{"name", "given_name", "family_name"} {
			if former[name] == nil || l.Claims[name] != nil {
				continue
			}
			if l.Claims == nil {
				l.Claims = map[string]any{}
			}
			l.Claims[name] = former[name]
		}
	}
	if len(l.Claims) == 0 {
		l.Claims = nil
	}
	if len(l.Groups) == 0 {
		l.Groups = nil
	}
}

// lastUsedStep is how precisely the last use of a link is stored: more would be a write for each
// sign-in.
const lastUsedStep = time.Hour

// refreshExternal returns the account of a linked external user, with the claims and groups of now.
func (a *Accounts) refreshExternal(ctx context.Context, now time.Time, user *User, e ExternalSignIn) (*User, error) {
	if !user.MaySignIn() {
		return user, &RefusedError{}
	}
	admission, err := e.decide(false)
	if err != nil {
		return user, err
	}
	before := user.externalLink(e.User.Issuer, e.User.Subject)
	if before == nil {
		return nil, errAgain
	}
	after := *before
	after.refresh(now, e.User, admission)
	if now.Sub(before.LastUsedAt) < lastUsedStep {
		after.LastUsedAt = before.LastUsedAt
	}
	if same(*before, after) {
		return user, nil
	}
	var updated User
	err = a.store.UpdateUser(ctx, user.ID, func(stored *User) error {
		link := stored.externalLink(e.User.Issuer, e.User.Subject)
		if link == nil || !stored.MaySignIn() {
			return errAgain // unlinked or disabled at this moment
		}
		link.refresh(now, e.User, admission)
		stored.UpdatedAt = now
		updated = *stored.Clone()
		return nil
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errAgain
	}
	if err != nil && !errors.Is(err, errAgain) {
		return nil, fmt.Errorf("refresh an external user: %w", err)
	}
	return &updated, err
}

// same compares links as they are stored.
func same(a, b ExternalLink) bool {
	encodedA, errA := json.Marshal(a)
	encodedB, errB := json.Marshal(b)
	return errA == nil && errB == nil && reflect.DeepEqual(encodedA, encodedB)
}

// createExternal creates an account for an external user.
func (a *Accounts) createExternal(ctx context.Context, now time.Time, e ExternalSignIn, admission Admission, link ExternalLink) (*User, error) {
	for _, username := range usernames(e.User, admission.Username) {
		user := &User{
			ID: storage.NewID(), Username: username, Origin: OriginSignedUp, CreatedAt: now, UpdatedAt: now,
			External: []ExternalLink{link},
		}
		if e.User.EmailTrusted {
			user.setEmail(e.User.Email, now)
		}
		if user.Check() != nil {
			continue
		}
		err := a.store.CreateUser(ctx, user)
		switch {
		case err == nil:
			a.events.Record(ctx, event.ExternalSignedUp, named(user), slog.String("provider", link.Provider), event.Address(e.Remote))
			return user, nil
		case errors.Is(err, ErrExternalTaken):
			return nil, errAgain // by a sign-in at the same moment
		case !errors.Is(err, ErrIdentifierTaken):
			return nil, fmt.Errorf("store the account of an external user: %w", err)
		}
		if e.User.EmailTrusted {
			if holder, err := a.find(ctx, e.User.Email); err != nil || holder != nil {
				return nil, errors.Join(errAgain, err)
			}
		}
	}
	return nil, errors.New("identity: no username is free for an external user")
}

// usernames returns usernames for a new account, the best first. A name in the form of an address is
// cut before the @, unless it is the trusted address: otherwise the account could be found by an
// address that is not the user's.
func usernames(e *ExternalUser, chosen string) []string {
	var names []string
	add := func(name string) {
		if local, _, found := strings.Cut(name, "@"); found && !(e.EmailTrusted && strings.EqualFold(name, e.Email)) {
			name = local
		}
		if name = strings.TrimSpace(name); name != "" && len(name) <= 64 {
			names = append(names, name)
		}
	}
	add(chosen)
	for _, claim := range []string{"preferred_username", "nickname"} {
		if name, ok := e.Claims[claim].(string); ok {
			add(name)
		}
	}
	if local, _, found := strings.Cut(e.Email, "@"); found {
		add(local)
	}
	if name, ok := e.Claims["name"].(string); ok {
		add(strings.ToLower(strings.Join(strings.Fields(name), ".")))
	}
	base := "user"
	for _, name := range names {
		if _, err := CanonicalIdentifier(name); err == nil && !strings.Contains(name, "@") {
			base = name
			break
		}
	}
	for digits := int64(100); digits <= 100_000_000; digits *= 1000 {
		n, err := rand.Int(rand.Reader, big.NewInt(9*digits))
		if err == nil {
			names = append(names, fmt.Sprintf("%s-%d", base, n.Int64()+digits))
		}
	}
	return append(names, "user-"+strings.ToLower(rand.Text()[:16]))
}

// claimable reports whether the verified owner of the account's address gets the account: someone
// signed up with an address and never verified it. An account of the operator is never claimed.
func (u *User) claimable() bool {
	return u.Origin == OriginSignedUp && u.Email() != "" && !u.EmailVerified() && u.Active()
}

// claimAccount gives an account to the verified owner of its address. Whoever created it with an
// address that is not theirs must not share it with the owner, who would fill it with their own data
// (the attack is known as pre-hijacking). So, in one transaction, the account loses everything that its
// creator could use: password, other methods, links, claims, sessions, tokens and grants. Only then
// does it have the link and the verified address. A session is started from the new record only, so
// there is no moment at which both can use the account.
func (a *Accounts) claimAccount(ctx context.Context, now time.Time, id string, e ExternalSignIn, link ExternalLink) (*User, error) {
	var claimed User
	err := a.store.UpdateUser(ctx, id, func(stored *User) error {
		if !stored.claimable() || !sameIdentifier(stored.Email(), e.User.Email) {
			return errAgain // it was verified, changed or declared at this moment
		}
		stored.PasswordHash, stored.DeclaredPassword, stored.Authenticators = "", "", nil
		stored.UserCodeHash = ""
		stored.Claims = nil
		stored.setEmail(e.User.Email, now)
		stored.External = []ExternalLink{link}
		stored.Forget(now)
		claimed = *stored
		return nil
	})
	switch {
	case errors.Is(err, errAgain), errors.Is(err, ErrExternalTaken), errors.Is(err, storage.ErrNotFound):
		return nil, errAgain
	case err != nil:
		return nil, fmt.Errorf("give an account to the owner of its address: %w", err)
	}
	a.events.Record(ctx, event.AccountClaimed, named(&claimed), slog.String("provider", link.Provider), event.Address(e.Remote))
	// The record as the store has it: EndedAt is set when the change is stored.
	return a.User(ctx, id)
}

func sameIdentifier(a, b string) bool {
	canonicalA, errA := CanonicalIdentifier(a)
	canonicalB, errB := CanonicalIdentifier(b)
	return errA == nil && errB == nil && canonicalA == canonicalB
}
