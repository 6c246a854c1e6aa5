package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"github.com/valetkey/valetkey/internal/event"
	"github.com/valetkey/valetkey/internal/ticketkind"
	"github.com/valetkey/valetkey/storage"
)

// Authenticator applications show a code that changes every 30 seconds (RFC 6238). The code of the
// current step, of the one before and of the next one are valid (section 5.2), each of them once.

// TOTP is an authenticator application.
type TOTP struct {
	// Secret is sealed for the user.
	Secret []byte `json:"secret"`
}

// Format keeps the sealed secret out of logs and messages.
func (t TOTP) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[authenticator application]") }

// LogValue keeps the sealed secret out of structured logs.
func (t TOTP) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(t)) }

const (
	totpPeriod = 30 * time.Second
	// totpSecretBytes is the length of a secret: that of the hash (RFC 4226, section 4, R6).
	totpSecretBytes = 20
	// totpSkew is how many steps before and after the current one are valid.
	totpSkew = 1
	// maxTOTP is how many authenticator applications a user may have. Each one adds three codes that
	// are valid at a time.
	maxTOTP = 5
	// enrolmentLifetime is how long the page of a new authenticator may be open.
	enrolmentLifetime = time.Hour
)

// totpOptions are what every authenticator application supports.
var totpOptions = totp.ValidateOpts{Period: uint(totpPeriod / time.Second), Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1}

// ErrEnrolmentOver means that the page of a new authenticator was open for too long, was made for
// another user, or was sent already.
var ErrEnrolmentOver = errors.New("identity: the enrolment of an authenticator has expired")

// CanAddTOTP reports whether the user may have another authenticator application.
func (u *User) CanAddTOTP() bool {
	have := 0
	for _, a := range u.Authenticators {
		if a.Kind == MethodTOTP {
			have++
		}
	}
	return have < maxTOTP
}

// Enrolment is a new authenticator application that does not count yet. It is not stored: the page has
// it, sealed, until a code confirms it.
type Enrolment struct {
	// URI is for a QR code.
	URI string
	// Secret is the same secret in base32.
	Secret string
	// Sealed is for ConfirmTOTP.
	Sealed string
}

// Format keeps the secret out of logs and messages.
func (e Enrolment) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[new authenticator]") }

// LogValue keeps the secret out of structured logs.
func (e Enrolment) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(e)) }

// sealedEnrolment is the content of Enrolment.Sealed.
type sealedEnrolment struct {
	Secret  []byte `json:"secret"`
	Expires int64  `json:"expires"` // milliseconds
}

// EnrolTOTP returns a new authenticator for a user of a service. It stores nothing.
func (a *Accounts) EnrolTOTP(now time.Time, user *User, service string) (*Enrolment, error) {
	secret := make([]byte, totpSecretBytes)
	rand.Read(secret)
	plain, err := json.Marshal(sealedEnrolment{secret, now.Add(enrolmentLifetime).UnixMilli()})
	if err != nil {
		return nil, fmt.Errorf("encode a new authenticator: %w", err)
	}
	sealed := base64.RawURLEncoding.EncodeToString(a.seal(plain, "enrolment", user.ID))
	return newEnrolment(user, service, secret, sealed), nil
}

// EnrolmentOf returns an enrolment again, for a page that is shown again after a wrong code. The error
// is ErrEnrolmentOver.
func (a *Accounts) EnrolmentOf(now time.Time, user *User, service, sealed string) (*Enrolment, error) {
	secret, err := a.openEnrolment(now, user, sealed)
	if err != nil {
		return nil, err
	}
	return newEnrolment(user, service, secret, sealed), nil
}

func newEnrolment(user *User, service string, secret []byte, sealed string) *Enrolment {
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	// The applications separate the two parts of the label at the colon.
	issuer := strings.ReplaceAll(service, ":", " ")
	uri := url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + issuer + ":" + user.Username}
	// A space is %20: some applications show a plus sign as such.
	uri.RawQuery = "secret=" + text + "&issuer=" + url.PathEscape(issuer)
	return &Enrolment{URI: uri.String(), Secret: text, Sealed: sealed}
}

func (a *Accounts) openEnrolment(now time.Time, user *User, sealed string) (secret []byte, err error) {
	decoded, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil || len(sealed) > 1024 {
		return nil, ErrEnrolmentOver
	}
	plain, err := a.unseal(decoded, "enrolment", user.ID)
	if err != nil {
		return nil, ErrEnrolmentOver
	}
	var e sealedEnrolment
	if err := json.Unmarshal(plain, &e); err != nil {
		return nil, fmt.Errorf("decode a new authenticator: %w", err)
	}
	if now.UnixMilli() > e.Expires {
		return nil, ErrEnrolmentOver
	}
	return e.Secret, nil
}

// ConfirmTOTP adds the authenticator of an enrolment to its user, if the code is right, which also
// proves it. The error is ErrWrongCode, ErrEnrolmentOver, ErrTooManyAuthenticators, storage.ErrNotFound if the user is not active,
// or an internal error.
func (a *Accounts) ConfirmTOTP(ctx context.Context, now time.Time, user *User, sealed, code, name string, from Activity) (ProvedMethod, error) {
	secret, err := a.openEnrolment(now, user, sealed)
	if err != nil {
		return ProvedMethod{}, err
	}
	step, ok := totpStep(now, secret, typedCode(code))
	if !ok {
		return ProvedMethod{}, ErrWrongCode
	}
	if current, err := a.User(ctx, user.ID); err != nil {
		return ProvedMethod{}, err
	} else if !current.CanAddTOTP() {
		return ProvedMethod{}, ErrTooManyAuthenticators
	}
	// A form that is sent twice adds one authenticator, and its code does not sign in.
	if first, err := a.useStep(ctx, now, user.ID, secret, step); err != nil {
		return ProvedMethod{}, err
	} else if !first {
		return ProvedMethod{}, ErrEnrolmentOver
	}
	added := Authenticator{Kind: MethodTOTP, Name: name, LastUsedAt: now, TOTP: &TOTP{Secret: a.seal(secret, "totp", user.ID)}}
	id, err := a.AddAuthenticator(ctx, now, user.ID, added, from)
	if err != nil {
		return ProvedMethod{}, err
	}
	return ProvedMethod{Method: MethodTOTP, At: now, Authenticator: id}, nil
}

// ProveTOTP checks a code of one of the user's authenticator applications. The error is that of
// TryFactor.
func (a *Accounts) ProveTOTP(ctx context.Context, now time.Time, f FactorAttempt, code string) (ProvedMethod, error) {
	var used *Authenticator
	err := a.TryFactor(ctx, now, f, func() (bool, error) {
		// The record of the attempt may be older than the removal of an authenticator.
		user, err := a.userWhoSignsIn(ctx, f.User.ID)
		if errors.Is(err, storage.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		used, err = a.matchTOTP(ctx, now, user, typedCode(code))
		return used != nil, err
	})
	if err != nil {
		return ProvedMethod{}, err
	}
	a.usedAuthenticator(ctx, now, f.User.ID, used)
	return ProvedMethod{Method: MethodTOTP, At: now, Authenticator: used.ID}, nil
}

// matchTOTP returns the authenticator whose code it is; nil if there is none or the code was used.
func (a *Accounts) matchTOTP(ctx context.Context, now time.Time, user *User, code string) (*Authenticator, error) {
	for i := range user.Authenticators {
		authenticator := &user.Authenticators[i]
		if authenticator.Kind != MethodTOTP || authenticator.TOTP == nil {
			continue
		}
		secret, err := a.unseal(authenticator.TOTP.Secret, "totp", user.ID)
		if err != nil {
			return nil, fmt.Errorf("secret of an authenticator: %w", err)
		}
		step, ok := totpStep(now, secret, code)
		if !ok {
			continue
		}
		first, err := a.useStep(ctx, now, user.ID, secret, step)
		if err != nil {
			return nil, err
		}
		if first {
			return authenticator, nil
		}
	}
	return nil, nil
}

// totpStep returns the step whose code it is.
func totpStep(now time.Time, secret []byte, code string) (step int64, ok bool) {
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	for skew := -totpSkew; skew <= totpSkew; skew++ {
		at := now.Add(time.Duration(skew) * totpPeriod)
		expected, err := totp.GenerateCodeCustom(text, at, totpOptions)
		if err == nil && subtle.ConstantTimeCompare([]byte(expected), []byte(code)) == 1 {
			step, ok = at.Unix()/int64(totpPeriod/time.Second), true
		}
	}
	return step, ok
}

// useStep marks the code of a step as used, and reports whether it was not used before (RFC 6238,
// section 5.2). Of any number of callers, on any node, one is the first. A ticket costs less than a
// change of the user's record, which every node would have to read again. It has no family, so that
// signing out everywhere does not make a code valid again.
func (a *Accounts) useStep(ctx context.Context, now time.Time, userID string, secret []byte, step int64) (first bool, err error) {
	key := ticketkind.TOTPCode.Hash(userID + "\x00" + string(secret) + "\x00" + strconv.FormatInt(step, 10))
	// The clocks of nodes may differ.
	err = a.store.Put(ctx, now, storage.Ticket{Key: key, Expires: now.Add(10 * totpPeriod)})
	if errors.Is(err, storage.ErrExists) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("mark a code as used: %w", err)
	}
	return true, nil
}

// usedAuthenticatorEvery is how exact LastUsedAt is. The record is not changed at each sign-in.
const usedAuthenticatorEvery = 24 * time.Hour

// usedAuthenticator notes the use of an authenticator.
func (a *Accounts) usedAuthenticator(ctx context.Context, now time.Time, userID string, used *Authenticator) {
	if now.Sub(used.LastUsedAt) < usedAuthenticatorEvery {
		return
	}
	err := a.UpdateAuthenticator(ctx, userID, used.ID, func(stored *Authenticator) error {
		stored.LastUsedAt = now
		return nil
	})
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		// The method is proved. Its use is noted next time.
		a.logger.Log(ctx, event.LevelOf(ctx, err), "use of an authenticator not noted", "user", userID, "error", err)
	}
}
