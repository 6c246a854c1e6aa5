package identity

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// An address that a user enters is not part of the account until a mailed proof has shown that
// the user receives messages there. Until then it is only in the data of that proof: it is not
// found at sign-in, is not a claim, and others can still use it.

// ErrManaged is the reason why a user cannot change what the operator has declared.
var ErrManaged = errors.New("the operator of this service manages your email address")

// EmailRequest asks for a message that proves an address.
type EmailRequest struct {
	// UserID is the sub of the account.
	UserID string
	Email  string
	// Current is the password of the user. New is set instead for an account that was created
	// just now.
	Current string
	New     bool
	Remote  netip.Addr
	// Browser, Language and Path are as in MailRequest.
	Browser  string
	Language string
	Path     func(token string) string
}

// Format keeps the password and the address out of logs and messages.
func (r EmailRequest) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[request for a new address]") }

// LogValue keeps the password and the address out of structured logs.
func (r EmailRequest) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(r)) }

// RequestEmail sends a message to a new address of a user, and returns the public name of the
// request. If the address belongs to another account, the message tells that to its owner, and
// nothing here does. The error is *InvalidUserError, ErrWrongCredentials, *ThrottledError, ErrBusy,
// ErrPasswordTooLong or an internal error.
func (a *Accounts) RequestEmail(ctx context.Context, now time.Time, r EmailRequest) (request string, err error) {
	if a.mail == nil {
		return "", ErrNoMail
	}
	address, err := checkAddress(r.Email)
	if err != nil {
		return "", err
	}
	user, err := a.User(ctx, r.UserID)
	if err != nil {
		return "", fmt.Errorf("request an address: %w", err)
	}
	if user.Origin == OriginDeclared && user.Email() != "" && address != user.Email() {
		// The next start of the server would restore the address of the file.
		return "", &InvalidUserError{ErrManaged}
	}
	if !r.New && user.PasswordHash != "" {
		if err := a.proveAgain(ctx, now, user, r.Current); err != nil {
			return "", err
		}
	}
	if err := a.takeMail(ctx, now, user.ID, address, r.Remote); err != nil {
		return "", err
	}
	if err := a.takeChange(ctx, now, user.ID); err != nil {
		return "", err
	}
	proof, err := newProof(now, proofData{Purpose: PurposeEmail, User: user.ID, Email: address}, r.Browser, SessionFamily(user.ID), emailLifetime)
	if err != nil {
		return "", err
	}
	m := mail.Message{Kind: mail.KindVerify, To: address, Subject: user.ID, Language: cmp.Or(user.locale(), r.Language), Code: codeOf(proof.token), Path: r.Path(proof.token), Lifetime: emailLifetime}
	if err := a.sendProof(ctx, now, proof, m, user.ID); err != nil {
		return "", err
	}
	return proof.request, nil
}

// checkAddress returns the normal form of an address that may become part of an account. The error
// is *InvalidUserError.
func checkAddress(s string) (string, error) {
	address, err := mail.ParseAddress(s)
	if err == nil {
		err = checkEmail(address)
	}
	if err != nil {
		return "", &InvalidUserError{fmt.Errorf("email: %w", err)}
	}
	return address, nil
}

// takeMail counts a message that a user or a network causes. The limits are those of the caller;
// how many messages may wait for one recipient is limited by package mail.
func (a *Accounts) takeMail(ctx context.Context, now time.Time, who, address string, remote netip.Addr) error {
	network := ratelimit.Network(remote)
	canonical, err := CanonicalIdentifier(address)
	if err != nil {
		canonical = address
	}
	for _, key := range []ratelimit.Key{ratelimit.NewKey("user", who), ratelimit.NewKey("address", network, canonical)} {
		if wait := takeShared(ctx, a.limits.mails, now, key); wait > 0 {
			return throttled(wait)
		}
	}
	// Last, so that a user over their own limit uses up nothing of their network's.
	if wait := takeShared(ctx, a.limits.mailsByNetwork, now, ratelimit.NewKey(network)); wait > 0 {
		return throttled(wait)
	}
	return nil
}

// sendProof stores a proof and sends its message. If the address belongs to an account other than
// that of a user, the message is replaced by one to its owner. An account that never verified the
// address does not own it.
func (a *Accounts) sendProof(ctx context.Context, now time.Time, proof *pendingProof, m mail.Message, userID string) error {
	m.Expires = now.Add(m.Lifetime)
	owner, err := a.find(ctx, m.To)
	if err != nil {
		return fmt.Errorf("look for a user with that address: %w", err)
	}
	if owner != nil && owner.ID != userID && !owner.releases(m.To) {
		m = mail.Message{Kind: mail.KindAddressInUse, To: m.To, Subject: owner.ID, Language: cmp.Or(owner.locale(), m.Language), Path: a.pages.SignIn, Expires: m.Expires}
		if owner.EmailVerified() {
			m.Username = owner.Username
		}
	}
	if err := a.store.Put(ctx, now, proof.tickets...); err != nil {
		return fmt.Errorf("store a proof: %w", err)
	}
	if err := a.mail.Send(ctx, now, m); err != nil && !errors.Is(err, mail.ErrTooManyWaiting) {
		return err
	}
	return nil
}

// PendingEmail returns the address that a user has entered last and not verified yet; "" if there
// is none.
func (a *Accounts) PendingEmail(ctx context.Context, now time.Time, user *User) (string, error) {
	tickets, err := a.store.FindFamily(ctx, now, SessionFamily(user.ID), ticketkind.MailedProof, 20)
	if err != nil {
		return "", fmt.Errorf("list proofs: %w", err)
	}
	for _, ticket := range tickets { // the latest first
		var data proofData
		if err := json.Unmarshal(ticket.Data, &data); err != nil {
			return "", fmt.Errorf("decode a proof: %w", err)
		}
		if data.Purpose == PurposeEmail && ticket.Spent.IsZero() && (data.Email != user.Email() || !user.EmailVerified()) {
			return data.Email, nil
		}
	}
	return "", nil
}

// ConfirmEmail makes the address of a proof the verified address of its user. The former address
// receives a link that undoes this. The error is ErrProofOver, ErrIdentifierTaken or an internal
// error.
func (a *Accounts) ConfirmEmail(ctx context.Context, now time.Time, p *Proof, from Activity) error {
	if err := a.releaseAddress(ctx, now, p.Email, p.User); err != nil {
		return err
	}
	var before, after User
	err := a.store.UpdateUser(ctx, p.User, func(stored *User) error {
		if !stored.Active() {
			return ErrProofOver
		}
		before = *stored.Clone()
		if before.Email() != p.Email || !before.EmailVerified() {
			stored.AddEvent(now, from.event(EventAddressChanged, p.Email))
		}
		stored.setEmail(p.Email, now)
		after = *stored.Clone()
		return nil
	})
	switch {
	case errors.Is(err, ErrProofOver), errors.Is(err, storage.ErrNotFound):
		return ErrProofOver
	case errors.Is(err, ErrIdentifierTaken):
		return ErrIdentifierTaken
	case err != nil:
		return fmt.Errorf("store a verified address: %w", err)
	}
	if err := a.spend(ctx, now, p); err != nil && !errors.Is(err, ErrProofOver) { // of two callers, both have set the same address
		return err
	}
	a.events.Record(ctx, event.EmailVerified, named(&after))
	if !before.EmailVerified() || before.Email() == after.Email() {
		return nil
	}
	m := from.message(mail.KindAddressChanged, now)
	m.Address = after.Email()
	a.notifyWithUndo(ctx, now, &before, m, proofData{Purpose: purposeUndo, User: p.User, Email: before.Email()})
	return nil
}

// setEmail sets the verified address.
func (u *User) setEmail(address string, now time.Time) {
	if u.Claims == nil {
		u.Claims = map[string]any{}
	}
	u.Claims["email"], u.Claims["email_verified"], u.UpdatedAt = address, true, now
	if r := u.Account.Recovery; r != nil && r.Email != address {
		u.Account.Recovery = nil
	}
}

// NewSignIn sends a notice about a sign-in in a browser that the account was not used in before.
func (a *Accounts) NewSignIn(ctx context.Context, now time.Time, user *User, from Activity) {
	a.AddEvent(ctx, now, user.ID, EventNewDevice, "", from)
	m := from.message(mail.KindNewSignIn, now)
	m.Path = a.pages.Account
	a.notify(ctx, now, user, m)
}

// releaseAddress removes an address from an account that never verified it, before its owner, who has
// just proved it with a message, gets it for another account. Someone who only wrote the address into
// an account, or chose it as a username, cannot keep it from its owner. Nothing else of that account
// changes: its user is someone else, and does not share it with the owner of the address.
func (a *Accounts) releaseAddress(ctx context.Context, now time.Time, address, userID string) error {
	holder, err := a.find(ctx, address)
	if err != nil {
		return fmt.Errorf("look for an account with the address: %w", err)
	}
	if holder == nil || holder.ID == userID || !holder.releases(address) {
		return nil
	}
	err = a.store.UpdateUser(ctx, holder.ID, func(stored *User) error {
		if !stored.releases(address) {
			return storage.ErrNotFound // it was verified, changed or declared at this moment
		}
		if sameIdentifier(stored.Email(), address) {
			delete(stored.Claims, "email")
			delete(stored.Claims, "email_verified")
		}
		stored.Account.FormerNames = slices.DeleteFunc(slices.Clone(stored.Account.FormerNames), func(n FormerName) bool { return sameIdentifier(n.Name, address) })
		if sameIdentifier(stored.Username, address) {
			stored.AddEvent(now, SecurityEvent{Kind: EventUsernameReleased, Detail: stored.Username})
			stored.Username = "user-" + strings.ToLower(rand.Text()[:12])
		}
		stored.UpdatedAt = now
		return nil
	})
	if errors.Is(err, storage.ErrNotFound) {
		return nil // whoever has the address now keeps it
	}
	if err != nil {
		return fmt.Errorf("remove an address from an account that never verified it: %w", err)
	}
	a.events.Record(ctx, event.EmailReleased, named(holder))
	return nil
}

// releases reports whether an account that someone signed up for has an address that it never verified. It
// may be its username.
func (u *User) releases(address string) bool {
	return u.Origin == OriginSignedUp && u.Active() && !(u.EmailVerified() && sameIdentifier(u.Email(), address))
}
