package valetkey

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/pgtest"
)

// The other node has the user in memory. What was issued to the user ends at once all the same,
// because it was deleted.
func TestAC09_ADisabledUserIsRefusedOnEveryNodeAtOnce(t *testing.T) {
	database := pgtest.Database(t)
	node, other := endedServer(t, database), endedServer(t, database)
	ada, err := node.accounts.FindAny(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	secret, _, err := node.accounts.StartSession(t.Context(), time.Now(), ada, identity.SessionDetails{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tokens := tokensOfAda(t, node)
	wantWorks(t, other, "before", tokens, true)
	if _, err := other.accounts.SignedIn(t.Context(), time.Now(), secret); err != nil {
		t.Fatal(err)
	}
	setDisabled(t, node, ada.ID, true)
	wantWorks(t, other, "disabled", tokens, false)
	if _, err := other.accounts.SignedIn(t.Context(), time.Now(), secret); err == nil {
		t.Error("the session is active")
	}
	if status, response := post(t, other, "app", "/token", url.Values{"grant_type": {"password"}, "username": {"ada"}, "password": {endedPassword}}); status == http.StatusOK {
		t.Errorf("the password is accepted: %v", response)
	}
}

// A code of an authenticator application and a recovery code work once, however many requests on how many
// nodes have them.
func TestCodesWorkOnceOnAllNodes(t *testing.T) {
	database := pgtest.Database(t)
	nodes := [2]*Server{endedServer(t, database), endedServer(t, database)}
	ctx, now := t.Context(), time.Now()
	ada, err := nodes[0].accounts.FindAny(ctx, "ada")
	if err != nil {
		t.Fatal(err)
	}
	e, err := nodes[0].accounts.EnrolTOTP(now, ada, "Example")
	if err != nil {
		t.Fatal(err)
	}
	code := func(at time.Time) string {
		code, err := totp.GenerateCode(e.Secret, at)
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	if _, err := nodes[0].accounts.ConfirmTOTP(ctx, now, ada, e.Sealed, code(now.Add(-30*time.Second)), "Phone", identity.Activity{}); err != nil {
		t.Fatal(err)
	}
	codes, err := nodes[0].accounts.NewRecoveryCodes(ctx, now, ada.ID, identity.Activity{})
	if err != nil {
		t.Fatal(err)
	}
	attempt := identity.FactorAttempt{User: ada, Method: identity.MethodTOTP, Remote: netip.MustParseAddr("192.0.2.1")}
	for name, prove := range map[string]func(a *identity.Accounts) error{
		"authenticator application": func(a *identity.Accounts) error {
			_, err := a.ProveTOTP(ctx, now, attempt, code(now))
			return err
		},
		"recovery code": func(a *identity.Accounts) error {
			_, _, err := a.ProveRecoveryCode(ctx, now, attempt, codes[0], identity.Activity{})
			return err
		},
	} {
		var requests sync.WaitGroup
		var proved, wrong atomic.Int64
		for i := range 4 {
			requests.Go(func() {
				switch err := prove(nodes[i%2].accounts); {
				case err == nil:
					proved.Add(1)
				case errors.Is(err, identity.ErrWrongCode):
					wrong.Add(1)
				default:
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		requests.Wait()
		if proved.Load() != 1 || wrong.Load() != 3 {
			t.Errorf("%s: accepted %d times", name, proved.Load())
		}
	}
}
