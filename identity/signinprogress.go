package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// progressLifetime is how long a sign-in may take after its first proof.
const progressLifetime = 10 * time.Minute

// ErrSignInOver means that a sign-in in progress has expired or was continued in another tab, or that
// the user was disabled or changed the password in the meantime.
var ErrSignInOver = errors.New("identity: the sign-in has expired")

// SignInProgress is a sign-in of one user in one browser that needs more proofs. Only the browser
// whose cookie opens it can continue it. It ends with everything else that was issued to the user,
// and with a change of the password.
type SignInProgress struct {
	// User is the current record of the user.
	User    *User
	Proofs  []ProvedMethod
	Expires time.Time

	key storage.Key
}

// Format keeps the proofs out of logs and messages.
func (p SignInProgress) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[sign-in in progress]") }

// LogValue keeps the proofs out of structured logs.
func (p SignInProgress) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(p)) }

// progressData is the Data of a ticket.
type progressData struct {
	User   string   `json:"user"`
	Proofs []string `json:"proofs"`
	// Ended is the user's EndedAt in milliseconds, Password a hash of the PasswordHash.
	Ended    int64  `json:"ended"`
	Password []byte `json:"password"`
}

// ContinueSignIn stores a sign-in that needs more proofs, and returns the secret for the cookie. The
// secret is new after each step. previous is what the browser had before; nil if this is the first
// step. The error is ErrSignInOver or an internal error.
func (a *Accounts) ContinueSignIn(ctx context.Context, now time.Time, user *User, proofs []ProvedMethod, previous *SignInProgress) (secret string, err error) {
	secret = newSecret()
	data, err := json.Marshal(progressData{
		User: user.ID, Proofs: encodeProofs(proofs), Ended: user.EndedAt.UnixMilli(), Password: hashOf("password", user.PasswordHash),
	})
	if err != nil {
		return "", fmt.Errorf("encode a sign-in: %w", err)
	}
	ticket := storage.Ticket{Key: ticketkind.SignInProgress.Hash(secret), Family: SessionFamily(user.ID), Data: data, Expires: now.Add(progressLifetime)}
	if previous == nil || previous.User.ID != user.ID {
		err = a.store.Put(ctx, now, ticket)
	} else {
		ticket.Expires = previous.Expires
		err = a.store.Spend(ctx, now, []storage.Key{previous.key}, ticket)
	}
	if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
		return "", ErrSignInOver
	}
	if err != nil {
		return "", fmt.Errorf("store a sign-in: %w", err)
	}
	return secret, nil
}

// SignInProgress returns the sign-in of a cookie's secret. The error is ErrSignInOver or an internal
// error.
func (a *Accounts) SignInProgress(ctx context.Context, now time.Time, secret string) (*SignInProgress, error) {
	if secret == "" {
		return nil, ErrSignInOver
	}
	ticket, err := a.store.Get(ctx, now, ticketkind.SignInProgress.Hash(secret))
	if errors.Is(err, storage.ErrNotFound) || err == nil && !ticket.Spent.IsZero() {
		return nil, ErrSignInOver
	}
	if err != nil {
		return nil, fmt.Errorf("find a sign-in: %w", err)
	}
	var data progressData
	if err := json.Unmarshal(ticket.Data, &data); err != nil {
		return nil, fmt.Errorf("decode a sign-in: %w", err)
	}
	p := &SignInProgress{Proofs: decodeProofs(data.Proofs), Expires: ticket.Expires, key: ticket.Key}
	p.User, err = a.AnyUser(ctx, data.User)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !p.User.MaySignIn() {
		return nil, ErrSignInOver
	}
	if err != nil {
		return nil, err
	}
	// The end of all access deletes the ticket. One that was stored at the same moment is refused
	// here.
	if p.User.EndedAt.UnixMilli() != data.Ended || string(hashOf("password", p.User.PasswordHash)) != string(data.Password) {
		return nil, ErrSignInOver
	}
	return p, nil
}

// FinishSignIn ends a sign-in in progress, before its session starts. Of several callers, one
// succeeds; the others get ErrSignInOver.
func (a *Accounts) FinishSignIn(ctx context.Context, now time.Time, p *SignInProgress) error {
	err := a.store.Spend(ctx, now, []storage.Key{p.key})
	if errors.Is(err, storage.ErrSpent) || errors.Is(err, storage.ErrNotFound) {
		return ErrSignInOver
	}
	if err != nil {
		return fmt.Errorf("finish a sign-in: %w", err)
	}
	return nil
}

// encodeProofs returns proofs as strings without quotes and spaces other than separators, which
// sessiondata.go reads fast.
func encodeProofs(proofs []ProvedMethod) []string {
	var encoded []string
	for _, p := range proofs {
		amr := "-"
		if p.AMR != nil {
			amr = "," + strings.Join(p.AMR, ",")
		}
		verified := "-"
		if p.UserVerified {
			verified = "uv"
		}
		encoded = append(encoded, strings.Join([]string{
			string(p.Method), strconv.FormatInt(p.At.UnixMilli(), 10), orDash(p.Authenticator), verified, orDash(string(p.Class)), amr,
		}, " "))
	}
	return encoded
}

// decodeProofs is the reverse of encodeProofs. It leaves out what it cannot read: a proof of a later
// version.
func decodeProofs(encoded []string) []ProvedMethod {
	var proofs []ProvedMethod
	for _, s := range encoded {
		fields := strings.Split(s, " ")
		if len(fields) != 6 {
			continue
		}
		at, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			continue
		}
		p := ProvedMethod{
			Method: Method(fields[0]), At: time.UnixMilli(at).UTC(), Authenticator: fromDash(fields[2]),
			UserVerified: fields[3] == "uv", Class: Class(fromDash(fields[4])),
		}
		if fields[5] != "-" {
			p.AMR = strings.FieldsFunc(fields[5], func(r rune) bool { return r == ',' })
		}
		proofs = append(proofs, p)
	}
	return proofs
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func fromDash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}
