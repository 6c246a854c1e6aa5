package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/mail"
	"github.com/valetkey/valetkey/storage"
)

// RecoveryCodes are what is left of a set of recovery codes.
type RecoveryCodes struct {
	// Hashes are keyed, so a copy of the database is not enough to try codes.
	Hashes [][]byte `json:"hashes"`
}

// Format keeps the hashes out of logs and messages.
func (r RecoveryCodes) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[recovery codes]") }

// LogValue keeps the hashes out of structured logs.
func (r RecoveryCodes) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(r)) }

const (
	// recoveryCodes is the size of a set.
	recoveryCodes = 10
	// FewRecoveryCodes is when users are warned.
	FewRecoveryCodes = 3
	// A code has 80 bits: 16 characters of Crockford's base 32, which has no letters that look like
	// digits. Recovery codes must have at least 64 bits (NIST SP 800-63B-4, section 4.2), and groups
	// of four are easy to type.
	recoveryCodeLength = 16
	recoveryAlphabet   = "0123456789abcdefghjkmnpqrstvwxyz"
)

// newRecoveryCode returns a code in groups.
func newRecoveryCode() string {
	random := make([]byte, recoveryCodeLength)
	rand.Read(random)
	var code strings.Builder
	for i, b := range random {
		if i > 0 && i%4 == 0 {
			code.WriteByte('-')
		}
		code.WriteByte(recoveryAlphabet[b%32])
	}
	return code.String()
}

// recoveryTypos are characters that users may type for those of the alphabet.
var recoveryTypos = strings.NewReplacer("o", "0", "i", "1", "l", "1")

// typedRecoveryCode returns a code as it is hashed; "" if it cannot be one.
func typedRecoveryCode(s string) string {
	code := recoveryTypos.Replace(strings.ToLower(typedCode(s)))
	if len(code) != recoveryCodeLength || strings.Trim(code, recoveryAlphabet) != "" {
		return ""
	}
	return code
}

// FormatRecoveryCode returns a recovery code in the form in which it is shown; "" if s cannot be one.
func FormatRecoveryCode(s string) string {
	code := typedRecoveryCode(s)
	if code == "" {
		return ""
	}
	return code[:4] + "-" + code[4:8] + "-" + code[8:12] + "-" + code[12:]
}

func (a *Accounts) recoveryHash(userID, code string) []byte {
	mac := hmac.New(sha256.New, a.macKey)
	mac.Write([]byte(userID + "\x00" + code))
	return mac.Sum(nil)
}

// NewRecoveryCodes gives a user a new set of recovery codes, and returns them. The former set ends. The
// error is that of AddAuthenticator.
func (a *Accounts) NewRecoveryCodes(ctx context.Context, now time.Time, userID string, from Activity) ([]string, error) {
	var codes []string
	set := &RecoveryCodes{}
	for range recoveryCodes {
		code := newRecoveryCode()
		codes, set.Hashes = append(codes, code), append(set.Hashes, a.recoveryHash(userID, typedRecoveryCode(code)))
	}
	_, err := a.AddAuthenticator(ctx, now, userID, Authenticator{Kind: MethodRecoveryCode, RecoveryCodes: set}, from)
	return codes, err
}

// RecoveryCodesLeft returns how many recovery codes a user has. has is false if the user never had any.
func (u *User) RecoveryCodesLeft() (left int, has bool) {
	for _, a := range u.Authenticators {
		if a.RecoveryCodes != nil {
			return len(a.RecoveryCodes.Hashes), true
		}
	}
	return 0, false
}

// ProveRecoveryCode uses one of the user's recovery codes, and returns how many are left. Of several
// callers with one code, one succeeds. The user is notified. The error is that of TryFactor.
func (a *Accounts) ProveRecoveryCode(ctx context.Context, now time.Time, f FactorAttempt, code string, from Activity) (proof ProvedMethod, left int, err error) {
	hash := a.recoveryHash(f.User.ID, typedRecoveryCode(code))
	var user User
	err = a.TryFactor(ctx, now, f, func() (bool, error) {
		current, err := a.userWhoSignsIn(ctx, f.User.ID)
		if errors.Is(err, storage.ErrNotFound) || err == nil && !current.Clone().useRecoveryCode(hash, now) {
			return false, nil // the database is locked only for a right code
		}
		if err != nil {
			return false, err
		}
		err = a.store.UpdateUser(ctx, f.User.ID, func(stored *User) error {
			if !stored.MaySignIn() || !stored.useRecoveryCode(hash, now) {
				return ErrWrongCode // used or replaced concurrently
			}
			user = *stored
			return nil
		})
		if errors.Is(err, ErrWrongCode) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return ProvedMethod{}, 0, err
	}
	left, _ = user.RecoveryCodesLeft()
	proof = ProvedMethod{Method: MethodRecoveryCode, At: now}
	for _, a := range user.Authenticators {
		if a.Kind == MethodRecoveryCode {
			proof.Authenticator = a.ID
		}
	}
	a.events.Record(ctx, event.RecoveryCodeUsed, named(&user), slog.Int("left", left))
	m := from.message(mail.KindRecoveryCodeUsed, now)
	if left <= FewRecoveryCodes {
		m.Kind = mail.KindRecoveryCodesLow
	}
	m.Path, m.Count = a.pages.Account, left
	a.notify(ctx, now, &user, m)
	return proof, left, nil
}

// useRecoveryCode removes a code from the user's set, and reports whether it was there.
func (u *User) useRecoveryCode(hash []byte, now time.Time) bool {
	for i := range u.Authenticators {
		a := &u.Authenticators[i]
		if a.RecoveryCodes == nil {
			continue
		}
		kept := slices.DeleteFunc(slices.Clone(a.RecoveryCodes.Hashes), func(h []byte) bool { return subtle.ConstantTimeCompare(h, hash) == 1 })
		if len(kept) < len(a.RecoveryCodes.Hashes) {
			a.RecoveryCodes, a.LastUsedAt = &RecoveryCodes{Hashes: kept}, now
			return true
		}
	}
	return false
}
