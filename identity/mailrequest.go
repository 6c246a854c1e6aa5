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
)

// MailRequest asks for a message to the verified address of an account, from someone who is not signed in.
type MailRequest struct {
	// Identifier is a username or an email address, as typed.
	Identifier string
	// Remote and Device are as in Attempt.
	Remote netip.Addr
	Device string
	// Browser is the secret of the browser's cookie (BrowserCookie).
	Browser string
	// Language is that of the page, for users who have not chosen one.
	Language string
	// Path returns the path and query of the link with a token.
	Path func(token string) string
}

// Format keeps the identifier and the secrets out of logs and messages.
func (r MailRequest) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[request for a message]") }

// LogValue keeps the identifier and the secrets out of structured logs.
func (r MailRequest) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(r)) }

// accountMail is a message that strangers can ask for.
type accountMail struct {
	purpose  Purpose
	kind     mail.Kind
	lifetime time.Duration
	event    *event.Kind
	// take counts the message against the limits, and reports whether it may be sent.
	take func(*place) bool
	// refuses returns why a user gets no message, for the log; "" if the user gets one.
	refuses func(*User) string
}

// sendToAccount sends a message with a proof, and returns the public name of the request. It does the same
// work, stores the same and takes the same time whether or not there is such an account. The error is
// ErrNoMail, *ThrottledError, if the network sends too many requests, or an internal error.
func (a *Accounts) sendToAccount(ctx context.Context, now time.Time, r MailRequest, k accountMail) (request string, err error) {
	if a.mail == nil {
		return "", ErrNoMail
	}
	if wait := takeShared(ctx, a.limits.mailsByNetwork, now, ratelimit.NewKey(ratelimit.Network(r.Remote))); wait > 0 {
		return "", throttled(wait)
	}
	user, err := a.find(ctx, r.Identifier)
	if err != nil {
		return "", fmt.Errorf("find the user who asks for a message: %w", err)
	}
	account, who := "unknown:"+mask(a.countKey, r.Identifier), slog.String("unknown_account", mask(a.logKey, r.Identifier)[:8])
	if user != nil {
		account, who = user.ID, named(user)
	}
	from, err := a.placeOf(ctx, now, account, Attempt{Remote: r.Remote, Device: r.Device})
	if err != nil {
		return "", err
	}
	allowed := k.take(&from)
	data, m := proofData{Purpose: k.purpose}, mail.Message{Kind: k.kind, Lifetime: k.lifetime, Expires: now.Add(k.lifetime)}
	family, reason := "", event.ReasonUnknown
	if user != nil {
		reason = k.refuses(user)
	}
	switch {
	case reason != "":
	case !user.EmailVerified() || !mail.Deliverable(user.Email()):
		reason = event.ReasonNoAddress
	case !allowed:
		reason = event.ReasonThrottled
	default:
		data.User, data.Email, data.Password = user.ID, user.Email(), hashOf("password", user.PasswordHash)
		m.To, m.Subject, m.Username, m.Language = user.Email(), user.ID, user.Username, cmp.Or(user.locale(), r.Language)
		family = SessionFamily(user.ID)
	}
	proof, err := newProof(now, data, r.Browser, family, k.lifetime)
	if err != nil {
		return "", err
	}
	m.Code, m.Path = codeOf(proof.token), r.Path(proof.token)
	if err := a.store.Put(ctx, now, proof.tickets...); err != nil {
		return "", fmt.Errorf("store a request for a message: %w", err)
	}
	if err := a.mail.Send(ctx, now, m); err != nil && !errors.Is(err, mail.ErrTooManyWaiting) {
		return "", err
	}
	a.events.Record(ctx, k.event, who, slog.String("reason", reason), event.Address(r.Remote))
	return proof.request, nil
}
