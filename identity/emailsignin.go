package identity

import (
	"context"
	"errors"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// PurposeSignIn is a sign-in.
const PurposeSignIn Purpose = "sign_in"

// signInLifetime is how long the code and the link of a sign-in are valid.
const signInLifetime = 15 * time.Minute

// RequestSignIn sends a message with which a user can sign in, and returns the public name of the request.
// The error is that of sendToAccount.
//
// Each device and network from which the account was used has its own budget of messages. Each other
// network has one too, and all of them share another, so that a stranger in one network cannot use up
// what others need to sign in on a new device, and many of them cannot flood the mailbox.
func (a *Accounts) RequestSignIn(ctx context.Context, now time.Time, r MailRequest) (request string, err error) {
	return a.sendToAccount(ctx, now, r, accountMail{
		purpose: PurposeSignIn, kind: mail.KindSignIn, lifetime: signInLifetime, event: event.SignInRequested,
		take: func(from *place) bool {
			return takeShared(ctx, a.limits.signInMails, now, from.pace) == 0 && takeShared(ctx, a.limits.signInMailsTotal, now, from.total) == 0
		},
		refuses: func(user *User) string {
			if !user.MaySignIn() {
				return failureReason(user)
			}
			return ""
		},
	})
}

// ProveEmail uses a proof to sign in, and returns its user. Only the browser that asked for the message
// may call it: p is the result of ProofByCode, or of ProofByLink with SameBrowser. The error is
// ErrProofOver or an internal error.
func (a *Accounts) ProveEmail(ctx context.Context, now time.Time, p *Proof) (*User, ProvedMethod, error) {
	if p.data.Purpose != PurposeSignIn || !p.SameBrowser {
		return nil, ProvedMethod{}, ErrProofOver
	}
	if err := a.spend(ctx, now, p); err != nil {
		return nil, ProvedMethod{}, err
	}
	user, err := a.userWhoSignsIn(ctx, p.User)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ProvedMethod{}, ErrProofOver
	}
	if err != nil {
		return nil, ProvedMethod{}, err
	}
	// The address may have been changed since the message was sent.
	if !user.EmailVerified() || user.Email() != p.Email {
		return nil, ProvedMethod{}, ErrProofOver
	}
	return user, ProvedMethod{Method: MethodEmail, At: now}, nil
}
