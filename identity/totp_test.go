package identity

import (
	"context"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// nodesOf returns the accounts of two nodes.
func nodesOf(t *testing.T, store Store) [2]*Accounts {
	t.Helper()
	var nodes [2]*Accounts
	for i := range nodes {
		var err error
		if nodes[i], err = New(Config{Store: store, Logger: slog.New(slog.DiscardHandler), Secret: []byte(strings.Repeat("k", 32))}); err != nil {
			t.Fatal(err)
		}
	}
	return nodes
}

// enrol adds an authenticator application to a user, and returns its secret in base32.
func enrol(t *testing.T, a *Accounts, now time.Time, userID, name string) string {
	t.Helper()
	user, err := a.User(t.Context(), userID)
	if err != nil {
		t.Fatal(err)
	}
	e, err := a.EnrolTOTP(now, user, "Example")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.ConfirmTOTP(t.Context(), now, user, e.Sealed, codeAt(e.Secret, now), name, Activity{}); err != nil {
		t.Fatal(err)
	}
	return e.Secret
}

func codeAt(secret string, at time.Time) string {
	code, err := totp.GenerateCodeCustom(secret, at, totpOptions)
	if err != nil {
		panic(err)
	}
	return code
}

func attemptBy(t *testing.T, a *Accounts, userID string) FactorAttempt {
	t.Helper()
	user, err := a.User(t.Context(), userID)
	if err != nil {
		t.Fatal(err)
	}
	return FactorAttempt{User: user, Method: MethodTOTP, Remote: home}
}

// The vectors of RFC 6238, appendix B, with 6 of their 8 digits.
func TestTOTPVectors(t *testing.T) {
	secret := []byte("12345678901234567890")
	for at, code := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if step, ok := totpStep(time.Unix(at, 0), secret, code); !ok || step != at/30 {
			t.Errorf("at %d, the code %s is of step %d, %v", at, code, step, ok)
		}
	}
}

func TestTOTPStepsAroundTheCurrentOne(t *testing.T) {
	a := nodesOf(t, newMapStore(alice(t)))[0]
	secret := enrol(t, a, start.Add(-time.Hour), "a", "Phone")
	for _, c := range []struct {
		off  time.Duration
		want error
	}{{-61 * time.Second, ErrWrongCode}, {-30 * time.Second, nil}, {0, nil}, {30 * time.Second, nil}, {61 * time.Second, ErrWrongCode}} {
		_, err := a.ProveTOTP(t.Context(), start, attemptBy(t, a, "a"), codeAt(secret, start.Add(c.off)))
		if !errors.Is(err, c.want) {
			t.Errorf("a code of %v: %v, want %v", c.off, err, c.want)
		}
	}
	later := start.Add(48 * time.Hour)
	if _, err := a.ProveTOTP(t.Context(), later, attemptBy(t, a, "a"), codeAt(secret, later)); err != nil {
		t.Fatal(err)
	}
	user, _ := a.User(t.Context(), "a")
	if used := user.Authenticators[0].LastUsedAt; !used.Equal(later) {
		t.Errorf("LastUsedAt is %v", used)
	}
}

// F-01: a code is used once, on all nodes together, however many requests have it.
func TestTOTPCodeIsSingleUse(t *testing.T) {
	nodes := nodesOf(t, newMapStore(alice(t)))
	secret := enrol(t, nodes[0], start.Add(-time.Hour), "a", "Phone")
	code, attempt := codeAt(secret, start), attemptBy(t, nodes[0], "a")
	var proved atomic.Int64
	var requests sync.WaitGroup
	for i := range 8 {
		requests.Go(func() {
			if _, err := nodes[i%2].ProveTOTP(t.Context(), start, attempt, code); err == nil {
				proved.Add(1)
			}
		})
	}
	requests.Wait()
	if proved.Load() != 1 {
		t.Errorf("the code was accepted %d times", proved.Load())
	}
	// Signing out everywhere does not make it valid again.
	if err := nodes[0].store.DeleteFamily(t.Context(), SessionFamily("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := nodes[1].ProveTOTP(t.Context(), start, attempt, code); !errors.Is(err, ErrWrongCode) {
		t.Errorf("after the sign-out, the code is used again: %v", err)
	}
}

// The code that confirmed an authenticator does not sign in, and a form that is sent twice adds one.
func TestTOTPEnrolment(t *testing.T) {
	a := nodesOf(t, newMapStore(alice(t), &User{ID: "b", Username: "bob"}))[0]
	user, _ := a.User(t.Context(), "a")
	e, err := a.EnrolTOTP(start, user, "Example: Login")
	if err != nil {
		t.Fatal(err)
	}
	if want := "otpauth://totp/Example%20%20Login:alice?secret=" + e.Secret + "&issuer=Example%20%20Login"; e.URI != want {
		t.Errorf("the URI is %s, want %s", e.URI, want)
	}
	if strings.Contains(fmt.Sprint(e, *e), e.Secret) || strings.Contains(e.Sealed, e.Secret) {
		t.Error("the secret is readable")
	}
	code := codeAt(e.Secret, start)
	bob, _ := a.User(t.Context(), "b")
	confirm := func(now time.Time, user *User, sealed, code, name string, from Activity) error {
		_, err := a.ConfirmTOTP(t.Context(), now, user, sealed, code, name, from)
		return err
	}
	for name, err := range map[string]error{
		"a wrong code":      confirm(start, user, e.Sealed, "000000", "Phone", Activity{}),
		"another user":      confirm(start, bob, e.Sealed, code, "Phone", Activity{}),
		"a changed form":    confirm(start, user, "A"+e.Sealed, code, "Phone", Activity{}),
		"an old form":       confirm(start.Add(2*time.Hour), user, e.Sealed, codeAt(e.Secret, start.Add(2*time.Hour)), "Phone", Activity{}),
		"a form of 1 MiB":   confirm(start, user, strings.Repeat("A", 1<<20), code, "Phone", Activity{}),
		"an empty form":     confirm(start, user, "", code, "Phone", Activity{}),
		"a code of 1 MiB":   confirm(start, user, e.Sealed, strings.Repeat("0", 1<<20), "Phone", Activity{}),
		"a code of nothing": confirm(start, user, e.Sealed, "", "Phone", Activity{}),
	} {
		if !errors.Is(err, ErrWrongCode) && !errors.Is(err, ErrEnrolmentOver) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if user, _ := a.User(t.Context(), "a"); len(user.Authenticators) > 0 {
		t.Fatalf("there are authenticators: %v", user.Authenticators)
	}
	if _, err := a.ConfirmTOTP(t.Context(), start, user, e.Sealed, code[:3]+" "+code[3:], "Phone", Activity{}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.ConfirmTOTP(t.Context(), start, user, e.Sealed, code, "Phone", Activity{}); !errors.Is(err, ErrEnrolmentOver) {
		t.Errorf("the form is accepted again: %v", err)
	}
	if _, err := a.ProveTOTP(t.Context(), start, attemptBy(t, a, "a"), code); !errors.Is(err, ErrWrongCode) {
		t.Errorf("the code of the enrolment signs in: %v", err)
	}
}

// F-02: the record of the user does not contain the secret, and a record that is copied to another user
// is of no use.
func TestTOTPSecretIsSealed(t *testing.T) {
	store := newMapStore(alice(t), &User{ID: "b", Username: "bob"})
	a := nodesOf(t, store)[0]
	secret := enrol(t, a, start.Add(-time.Hour), "a", "Phone")
	user, _ := a.User(t.Context(), "a")
	encoded, err := EncodeAuthenticators(user.Authenticators)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if strings.Contains(encoded, secret) || strings.Contains(encoded, string(raw)) {
		t.Errorf("the record contains the secret: %s", encoded)
	}
	err = store.UpdateUser(t.Context(), "b", func(stored *User) error {
		stored.Authenticators = user.Authenticators
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.ProveTOTP(t.Context(), start, attemptBy(t, a, "b"), codeAt(secret, start)); err == nil {
		t.Error("bob uses the authenticator of alice")
	}
}

// A code does not work for another user, or after its authenticator was removed.
func TestTOTPOfAnotherUserOrRemoved(t *testing.T) {
	a := nodesOf(t, newMapStore(alice(t), &User{ID: "b", Username: "bob"}))[0]
	alices, bobs := enrol(t, a, start.Add(-time.Hour), "a", "Phone"), enrol(t, a, start.Add(-time.Hour), "b", "Phone")
	if _, err := a.ProveTOTP(t.Context(), start, attemptBy(t, a, "a"), codeAt(bobs, start)); !errors.Is(err, ErrWrongCode) {
		t.Errorf("bob's code signs alice in: %v", err)
	}
	attempt := attemptBy(t, a, "a") // before the removal
	if err := a.RemoveAuthenticator(t.Context(), start, "a", attempt.User.Authenticators[0].ID, Activity{}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.ProveTOTP(t.Context(), start, attempt, codeAt(alices, start)); !errors.Is(err, ErrWrongCode) {
		t.Errorf("a removed authenticator is accepted: %v", err)
	}
}

func TestTOTPIsLimitedInNumber(t *testing.T) {
	a := nodesOf(t, newMapStore(alice(t)))[0]
	for i := range maxTOTP {
		enrol(t, a, start, "a", fmt.Sprint("Phone ", i))
	}
	user, _ := a.User(t.Context(), "a")
	e, _ := a.EnrolTOTP(start, user, "Example")
	if _, err := a.ConfirmTOTP(t.Context(), start, user, e.Sealed, codeAt(e.Secret, start), "One more", Activity{}); !errors.Is(err, ErrTooManyAuthenticators) {
		t.Errorf("ConfirmTOTP = %v", err)
	}
}

// F-03: guesses are limited for each user, also over many sign-ins, and a known device keeps its own.
func TestTOTPGuessesAreLimited(t *testing.T) {
	nodes := nodesOf(t, newMapStore(alice(t)))
	secret := enrol(t, nodes[0], start.Add(-time.Hour), "a", "Phone")
	device, err := nodes[0].RememberDevice(t.Context(), start, "a", "")
	if err != nil {
		t.Fatal(err)
	}
	evaluated := 0
	for i := range 200 {
		attempt := attemptBy(t, nodes[0], "a")
		attempt.Remote = address(i)
		_, err := nodes[0].ProveTOTP(t.Context(), start, attempt, "000000")
		if errors.Is(err, ErrWrongCode) {
			evaluated++
		} else if !isThrottled(err) {
			t.Fatal(err)
		}
	}
	if evaluated > 10 {
		t.Errorf("%d guesses were evaluated", evaluated)
	}
	attempt := attemptBy(t, nodes[0], "a")
	attempt.Device = device
	if _, err := nodes[0].ProveTOTP(t.Context(), start, attempt, codeAt(secret, start)); err != nil {
		t.Errorf("the user's own device: %v", err)
	}
}

func TestRecoveryCodes(t *testing.T) {
	a := nodesOf(t, newMapStore(alice(t), &User{ID: "b", Username: "bob"}))[0]
	codes, err := a.NewRecoveryCodes(t.Context(), start, "a", Activity{})
	if err != nil || len(codes) != 10 {
		t.Fatal(codes, err)
	}
	prove := func(userID, code string) (int, error) {
		_, left, err := a.ProveRecoveryCode(t.Context(), start, attemptBy(t, a, userID), code, Activity{})
		return left, err
	}
	if _, err := prove("b", codes[0]); !errors.Is(err, ErrWrongCode) {
		t.Errorf("bob uses a code of alice: %v", err)
	}
	for _, wrong := range []string{"", codes[0][:18], strings.Repeat("0", 1<<20), "0000-0000-0000-0000"} {
		if _, err := prove("a", wrong); !errors.Is(err, ErrWrongCode) {
			t.Errorf("%.20q: %v", wrong, err)
		}
	}
	// It may be typed in capitals, with other separators, and with letters that look like digits.
	typed := strings.NewReplacer("0", "O", "1", "l", "-", " ").Replace(strings.ToUpper(codes[0]))
	if left, err := prove("a", typed); err != nil || left != 9 {
		t.Errorf("%q: %d left, %v", typed, left, err)
	}
	if _, err := prove("a", codes[0]); !errors.Is(err, ErrWrongCode) {
		t.Errorf("a code works twice: %v", err)
	}
	user, _ := a.User(t.Context(), "a")
	encoded, _ := EncodeAuthenticators(user.Authenticators)
	for _, code := range codes {
		if strings.Contains(encoded, code) || strings.Contains(encoded, typedRecoveryCode(code)) {
			t.Error("the record contains a code")
		}
	}
	// A new set replaces the former one.
	newCodes, err := a.NewRecoveryCodes(t.Context(), start, "a", Activity{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := prove("a", codes[1]); !errors.Is(err, ErrWrongCode) {
		t.Errorf("a code of the former set: %v", err)
	}
	if left, err := prove("a", newCodes[1]); err != nil || left != 9 {
		t.Errorf("a code of the new set: %d left, %v", left, err)
	}
}

// readTogether is a store whose callers of User all have their result before any of them continues.
type readTogether struct {
	*mapStore
	readers *sync.WaitGroup
}

func (s readTogether) User(ctx context.Context, id string) (*User, error) {
	user, err := s.mapStore.User(ctx, id)
	if err == nil {
		user = user.Clone()
	}
	s.readers.Done()
	s.readers.Wait()
	return user, err
}

// F-04: of several requests with one recovery code, one succeeds, and the others use up nothing.
func TestRecoveryCodeIsSingleUse(t *testing.T) {
	store := newMapStore(alice(t))
	nodes := nodesOf(t, store)
	codes, err := nodes[0].NewRecoveryCodes(t.Context(), start, "a", Activity{})
	if err != nil {
		t.Fatal(err)
	}
	attempt := attemptBy(t, nodes[0], "a")
	var proved atomic.Int64
	var requests, readers sync.WaitGroup
	readers.Add(8)
	nodes = nodesOf(t, readTogether{store, &readers})
	for i := range 8 {
		requests.Go(func() {
			if _, _, err := nodes[i%2].ProveRecoveryCode(t.Context(), start, attempt, codes[4], Activity{}); err == nil {
				proved.Add(1)
			}
		})
	}
	requests.Wait()
	user, err := store.User(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := user.RecoveryCodesLeft(); proved.Load() != 1 || left != 9 {
		t.Errorf("the code was accepted %d times, and %d are left", proved.Load(), left)
	}
}

func TestRecoveryCodesHaveEnoughEntropy(t *testing.T) {
	seen := map[rune]int{}
	for range 2000 {
		code := newRecoveryCode()
		if typedRecoveryCode(code) != strings.ReplaceAll(code, "-", "") || FormatRecoveryCode(code) != code {
			t.Fatalf("%q", code)
		}
		for _, r := range code {
			seen[r]++
		}
	}
	if len(recoveryAlphabet) != 32 || len(seen) != 33 {
		t.Errorf("the codes have the characters %v", seen)
	}
}
