package identity

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/valetkey/valetkey/audit"
	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// InvalidUserError is the reason why a record cannot be stored, in words for its author.
type InvalidUserError struct{ Reason error }

func (e *InvalidUserError) Error() string { return e.Reason.Error() }
func (e *InvalidUserError) Unwrap() error { return e.Reason }

// NewAccount is an account that a user creates.
type NewAccount struct {
	Username, Password string
	// Passkey is what the user signs in with instead of a password, and ID the sub that it belongs to. nil
	// if the account has a password.
	Passkey *Authenticator
	ID      string
	Remote  netip.Addr
	// Proof is an invitation, or the proof of an address, which becomes the verified address of
	// the account. It is spent, and creates one account only. nil if neither is required.
	Proof *Proof
}

// Format keeps the password out of logs and messages.
func (n NewAccount) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[new account]") }

// LogValue keeps the password out of structured logs.
func (n NewAccount) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(n)) }

// SignUp creates an account at a user's own request. The error is *ThrottledError,
// *WeakPasswordError, ErrPasswordTooLong, *InvalidUserError, ErrIdentifierTaken, ErrProofOver,
// ErrBusy or an internal error. It cannot hide that a username is taken, but limits the rate of
// attempts from one network.
func (a *Accounts) SignUp(ctx context.Context, now time.Time, n NewAccount) (*User, error) {
	network := ratelimit.Network(n.Remote)
	if wait := takeShared(ctx, a.limits.signUps, now, ratelimit.NewKey(network)); wait > 0 {
		refused := throttled(wait)
		a.events.Record(ctx, event.SignUpThrottled, slog.Duration("retry_after", refused.RetryAfter), event.Address(n.Remote))
		return nil, refused
	}
	user := &User{ID: newAccountID(n.Proof), Username: n.Username, Origin: OriginSignedUp, CreatedAt: now, UpdatedAt: now}
	if n.Passkey != nil {
		added := *n.Passkey
		added.ID, added.Kind, added.CreatedAt, added.Name = storage.NewID(), MethodPasskey, now, cut(added.Name, maxAuthenticatorName)
		user.ID, user.Authenticators = n.ID, []Authenticator{added}
	}
	if p := n.Proof; p != nil && p.Email != "" && (p.data.Purpose == PurposeSignUp || p.data.Mailed) {
		if err := a.releaseAddress(ctx, now, p.Email, user.ID); err != nil {
			return nil, err
		}
		user.setEmail(p.Email, now)
	}
	if err := a.prepare(ctx, user, n.Password, a.hashing, network); err != nil {
		return nil, err
	}
	if n.Passkey != nil && n.Proof != nil { // the ID does not follow from the proof
		if err := a.spend(ctx, now, n.Proof); err != nil {
			return nil, err
		}
	}
	err := a.store.CreateUser(ctx, user)
	switch {
	case errors.Is(err, ErrIdentifierTaken):
		return nil, ErrIdentifierTaken // by a concurrent sign-up
	case errors.Is(err, storage.ErrExists) && n.Proof != nil:
		return nil, ErrProofOver // it has created this account
	case err != nil:
		return nil, fmt.Errorf("store a new user: %w", err)
	}
	if n.Proof != nil {
		if err := a.spend(ctx, now, n.Proof); err != nil && !errors.Is(err, ErrProofOver) {
			// The account exists, and the proof cannot create another one with the same ID.
			a.logger.ErrorContext(ctx, "proof of a new account not spent", "user", user.ID, "error", err)
		}
	}
	a.events.Record(ctx, event.SignUpSucceeded, named(user), event.Address(n.Remote))
	return user, nil
}

// newAccountID returns the ID of an account that a proof creates: always the same one, so that a proof
// creates one account, even if the server dies before the proof is spent. Without a proof, it is random.
func newAccountID(p *Proof) string {
	if p == nil {
		return storage.NewID()
	}
	return base64.RawURLEncoding.EncodeToString(hashOf("account", string(p.key.ID[:]))[:16])
}

// SignUpRequest asks for a message that proves an address before there is an account.
type SignUpRequest struct {
	Email  string
	Remote netip.Addr
	// Browser, Language and Path are as in MailRequest.
	Browser  string
	Language string
	Path     func(token string) string
}

// Format keeps the address and the secret out of logs and messages.
func (r SignUpRequest) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[request for an account]") }

// LogValue keeps the address and the secret out of structured logs.
func (r SignUpRequest) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(r)) }

// RequestSignUp sends a message to an address, and returns the public name of the request. If the
// address belongs to an account, the message says so, and nothing here does. The error is
// *InvalidUserError, *ThrottledError or an internal error.
func (a *Accounts) RequestSignUp(ctx context.Context, now time.Time, r SignUpRequest) (request string, err error) {
	if a.mail == nil {
		return "", ErrNoMail
	}
	address, err := checkAddress(r.Email)
	if err != nil {
		return "", err
	}
	if err := a.takeMail(ctx, now, "new "+ratelimit.Network(r.Remote)+" "+address, address, r.Remote); err != nil {
		return "", err
	}
	proof, err := newProof(now, proofData{Purpose: PurposeSignUp, Email: address}, r.Browser, "", signUpLifetime)
	if err != nil {
		return "", err
	}
	m := mail.Message{Kind: mail.KindSignUp, To: address, Language: r.Language, Code: codeOf(proof.token), Path: r.Path(proof.token), Lifetime: signUpLifetime}
	if err := a.sendProof(ctx, now, proof, m, ""); err != nil {
		return "", err
	}
	return proof.request, nil
}

// Invite stores an invitation to create an account and returns the secret of its link. If email is
// not "", only a message to that address will contain the link, and the address counts as verified
// when the invitation is used. The error is *InvalidUserError or an internal error.
func (a *Accounts) Invite(ctx context.Context, now time.Time, email string, lifetime time.Duration, path func(token string) string) (token string, err error) {
	data := proofData{Purpose: purposeInvitation}
	if email != "" {
		if a.mail == nil {
			return "", ErrNoMail
		}
		if data.Email, err = checkAddress(email); err != nil {
			return "", err
		}
		data.Mailed = true
	}
	proof, err := newProof(now, data, "", "", lifetime)
	if err != nil {
		return "", err
	}
	invited := audit.WithRecord(ctx, audit.Record{Event: "user.invited", Details: map[string]string{"email": data.Email}})
	if err := a.store.Put(invited, now, proof.tickets...); err != nil {
		return "", fmt.Errorf("store an invitation: %w", err)
	}
	if email == "" {
		return proof.token, nil
	}
	m := mail.Message{Kind: mail.KindInvitation, To: data.Email, Path: path(proof.token), Lifetime: lifetime, Expires: now.Add(lifetime)}
	return "", a.mail.Send(ctx, now, m)
}

// Invitation returns an invitation by the secret of its link. It changes nothing. The error is
// ErrProofOver or an internal error.
func (a *Accounts) Invitation(ctx context.Context, now time.Time, token string) (*Proof, error) {
	return a.proof(ctx, now, purposeInvitation, ticketkind.MailedProof.Hash(token))
}

// prepare checks a new user's record and password, and stores the hash of the password in the
// record, computed in the owner's turn.
func (a *Accounts) prepare(ctx context.Context, user *User, password string, turns *hashTurns, owner string) error {
	if err := user.Check(); err != nil {
		return &InvalidUserError{err}
	}
	if err := CheckNewUsername(user.Username); err != nil {
		return &InvalidUserError{fmt.Errorf("username: %w", err)}
	}
	for _, identifier := range user.Identifiers() {
		if other, err := a.find(ctx, identifier); err != nil {
			return fmt.Errorf("look for a user with that name: %w", err)
		} else if other != nil {
			return ErrIdentifierTaken
		}
	}
	if user.Has(MethodPasskey) {
		return nil
	}
	if err := a.checkNewPassword(ctx, password, user); err != nil {
		return err
	}
	var err error
	user.PasswordHash, err = hashInTurn(ctx, turns, owner, password)
	return err
}

// NewPasskeyAccount reports whether a username is valid for an account with a passkey and, if tell is set,
// whether it is free. It returns the sub that the account would have. The attempt is counted like a
// sign-up. The error is *ThrottledError, *InvalidUserError, ErrIdentifierTaken or an internal error.
func (a *Accounts) NewPasskeyAccount(ctx context.Context, now time.Time, username string, remote netip.Addr, tell bool) (id string, err error) {
	if wait := takeShared(ctx, a.limits.signUps, now, ratelimit.NewKey(ratelimit.Network(remote))); wait > 0 {
		return "", throttled(wait)
	}
	user := &User{ID: storage.NewID(), Username: username, Origin: OriginSignedUp, Authenticators: []Authenticator{{Kind: MethodPasskey}}}
	err = a.prepare(ctx, user, "", a.hashing, "")
	if errors.Is(err, ErrIdentifierTaken) && !tell {
		err = nil
	}
	return user.ID, err
}
