package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ratelimit"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// PurposeSignIn is a sign-in.
const PurposeSignIn Purpose = "sign_in"

// signInLifetime is how long the code and the link of a sign-in are valid.
const signInLifetime = 15 * time.Minute

// SignInRequest asks for a message with which a user can sign in.
type SignInRequest struct {
	// Identifier is a username or an email address, as typed.
	Identifier string
	// The other fields are as in ResetRequest.
	Remote   netip.Addr
	Device   string
	Browser  string
	Language string
	Path     func(token string) string
}

// Format keeps the identifier and the secrets out of logs and messages.
func (r SignInRequest) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[request for a sign-in]") }

// LogValue keeps the identifier and the secrets out of structured logs.
func (r SignInRequest) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(r)) }

// RequestSignIn sends a message to the verified address of an account, and returns the public name of
// the request. It does the same work, stores the same and takes the same time whether or not there is
// such an account. The error is *ThrottledError, if the network sends too many requests, or an internal
// error.
//
// Each device and network from which the account was used has its own budget of messages. Each other
// network has one too, and all of them share another, so that a stranger in one network cannot use up
// what others need to sign in on a new device, and many of them cannot flood the mailbox.
func (a *Accounts) RequestSignIn(ctx context.Context, now time.Time, r SignInRequest) (request string, err error) {
	if a.mail == nil {
		return "", ErrNoMail
	}
	if wait := takeShared(ctx, a.limits.mailsByNetwork, now, ratelimit.NewKey(ratelimit.Network(r.Remote))); wait > 0 {
		return "", throttled(wait)
	}
	user, err := a.find(ctx, r.Identifier)
	if err != nil {
		return "", fmt.Errorf("find the user who signs in: %w", err)
	}
	account, who := "unknown:"+mask(a.countKey, r.Identifier), slog.String("unknown_account", mask(a.logKey, r.Identifier)[:8])
	if user != nil {
		account, who = user.ID, named(user)
	}
	from, err := a.placeOf(ctx, now, account, Attempt{Remote: r.Remote, Device: r.Device})
	if err != nil {
		return "", err
	}
	allowed := takeShared(ctx, a.limits.signInMails, now, from.pace) == 0 && takeShared(ctx, a.limits.signInMailsTotal, now, from.total) == 0
	data, m := proofData{Purpose: PurposeSignIn}, mail.Message{Kind: mail.KindSignIn, Lifetime: signInLifetime, Expires: now.Add(signInLifetime)}
	family, reason := "", ""
	switch {
	case user == nil:
		reason = event.ReasonUnknown
	case !user.MaySignIn():
		reason = failureReason(user)
	case !user.EmailVerified() || !mail.Deliverable(user.Email()):
		reason = event.ReasonNoAddress
	case !allowed:
		reason = event.ReasonThrottled
	default:
		data.User, data.Email = user.ID, user.Email()
		m.To, m.Subject, m.Username, m.Language = user.Email(), user.ID, user.Username, cmp.Or(user.locale(), r.Language)
		family = SessionFamily(user.ID)
	}
	proof, err := newProof(now, data, r.Browser, family, signInLifetime)
	if err != nil {
		return "", err
	}
	m.Code, m.Path = codeOf(proof.token), r.Path(proof.token)
	if err := a.store.Put(ctx, now, proof.tickets...); err != nil {
		return "", fmt.Errorf("store a request for a sign-in: %w", err)
	}
	if err := a.mail.Send(ctx, now, m); err != nil && !errors.Is(err, mail.ErrTooManyWaiting) {
		return "", err
	}
	a.events.Record(ctx, event.SignInRequested, who, slog.String("reason", reason), event.Address(r.Remote))
	return proof.request, nil
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
