package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage/record"
)

// The user of the scene, and the one who is attacked. They are not the user of the other scenes,
// because a password is not enough any more for a user with a second factor.
const (
	factorName     = "dorothy"
	factorPassword = "fortran-no-1"
	victimName     = "katherine"
	victimPassword = "orbit-no-1"
)

func secondFactorScene() scene {
	return scene{
		key: "secondfactor", title: "Second factor: an app that asks for more than a password", button: "Sign in with two factors",
		about: "A bank asks for the class 2, two factors, and checks acr in the ID token. Sign in as " + factorName + " with the password " + factorPassword +
			". The first time, you set up an authenticator app: scan the QR code with your own, or copy the key into the authenticator app of this demo (linked at the top of this page). After that, the app's code is asked for at each sign-in. Sign out before you go on with other scenes.",
		clientID: "bank", clientSecret: "demo-secret-of-the-bank-01234567890", clientName: "Bank",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeAuthorizationCode}, scopes: []string{oauth.ScopeOpenID, oauth.ScopeProfile},
		callback:  "/secondfactor/callback",
		configure: declareSecondFactor, start: startSecondFactor, run: runSecondFactor,
		user: func(d *Demo) *person.Person { return d.apps.user(factorName, factorPassword) },
		breaks: []breakage{
			{key: "replay", title: "Replay the code", about: "A thief knows the password of another user, has read the code over their shoulder, and enters it right after them.", only: true, code: pageError},
			{key: "guess", title: "Guess the code", about: "A thief knows the password of another user and tries a code.", only: true, code: pageError},
		},
	}
}

func declareSecondFactor(_ *Demo, c *configuration.Configuration) error {
	c.Users = append(c.Users,
		configuration.User{Username: factorName, Password: factorPassword, Name: "Dorothy Vaughan"},
		configuration.User{Username: victimName, Password: victimPassword, Name: "Katherine Johnson"})
	return nil
}

// startSecondFactor requires a class. prompt=login asks for all factors, even in a browser whose user
// is signed in.
func startSecondFactor(ctx context.Context, d *Demo, w *walk) error {
	var err error
	w.address, w.transaction, err = d.clients[w.scene.key].AuthorizationURL(ctx, client.AuthorizationOptions{
		Prompt: []string{"login"}, LoginHint: factorName,
		Claims: &oauth.ClaimsRequest{IDToken: map[string]*oauth.ClaimRequest{"acr": {Essential: true, Value: json.RawMessage(`"2"`)}}},
	})
	return err
}

func runSecondFactor(ctx context.Context, d *Demo, w *walk) error {
	switch w.breakKey() {
	case "replay", "guess":
		return d.attackSecondFactor(ctx, w)
	}
	identity := w.tokens.Identity
	shown, err := json.MarshalIndent(map[string]any{"sub": identity.Subject, "acr": identity.ACR, "amr": identity.AMR}, "", "  ")
	if err != nil {
		return fmt.Errorf("show the ID token: %w", err)
	}
	w.result = "The ID token says how the user signed in (OpenID Connect Core, section 2): " + string(shown)
	// The server has refused, or has asked for two factors. The app checks what it got anyway.
	if w.failed = identity.ACR != "2"; w.failed {
		w.result = "The app requires acr 2. " + w.result
	}
	return nil
}

// attackSecondFactor signs a user in to the account page with two factors. Then a thief, who has the
// password, sends a code in another browser.
func (d *Demo) attackSecondFactor(ctx context.Context, w *walk) error {
	d.apps.attack.Lock()
	defer d.apps.attack.Unlock()
	code, rule := "000000", record.Check{Rule: "the code is that of the user's app", Section: "RFC 6238, section 4"}
	purpose := "The thief sends a guessed code. A code has six digits, and attempts are limited (RFC 6238, section 5.1)."
	address, _, err := d.clients[w.scene.key].AuthorizationURL(ctx, client.AuthorizationOptions{
		Claims: &oauth.ClaimsRequest{IDToken: map[string]*oauth.ClaimRequest{"acr": {Essential: true, Value: json.RawMessage(`"2"`)}}},
	})
	if err != nil {
		return err
	}
	victim := d.apps.user(victimName, victimPassword)
	if !d.apps.has(victimName) {
		if _, err := victim.Visit(address, d.app+w.scene.callback); err != nil {
			return fmt.Errorf("set up the app of a user: %w", err)
		}
		victim = d.apps.user(victimName, victimPassword)
	}
	if w.breakKey() == "replay" {
		rule = record.Check{Rule: "a code is used once", Section: "RFC 6238, section 5.2"}
		purpose = "The thief sends the same code in another browser. It is still valid by the clock, but a code works once (RFC 6238, section 5.2)."
		if code, err = d.apps.code(victimName, ""); err != nil {
			return err
		}
		victim.Code = func(string) (string, error) { return code, nil }
		victim.Through(d.watchCodes(ctx, w, partyBrowser, "The user sends the code that the app shows. The server compares it with its own, and remembers that it was used (RFC 6238, section 5.2)."))
		if _, err := victim.Visit(address, d.app+w.scene.callback); err != nil && !w.failed {
			return fmt.Errorf("sign in with two factors: %w", err)
		}
	}
	if !w.failed { // the user's own code was used already if someone pressed the button twice
		thief := person.New(victimName, victimPassword)
		thief.Code = func(string) (string, error) { return code, nil }
		thief.Through(d.watchCodes(ctx, w, partyThief, purpose))
		if _, err := thief.Visit(address, d.app+w.scene.callback); err != nil && !w.failed {
			return fmt.Errorf("sign in as a thief: %w", err)
		}
	}
	if !w.failed {
		w.result = "The thief is signed in."
		return nil
	}
	if m := w.recording.last(); strings.Contains(m.Response, "429 ") {
		rule = record.Check{Rule: "the number of wrong codes is limited; try again in five minutes", Section: "RFC 6238, section 5.1"}
	}
	w.recording.refuse(rule)
	w.result = "Refused: " + rule.Rule
	return nil
}

// watchCodes records the requests that send a code of an authenticator app.
func (d *Demo) watchCodes(ctx context.Context, w *walk, from, purpose string) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodPost || r.URL.Path != "/sign-in/totp" {
			return http.DefaultTransport.RoundTrip(r)
		}
		response, err := d.recorder().RoundTrip(r.WithContext(recordedFrom(ctx, &w.recording, from, purpose)))
		w.failed = err == nil && response.StatusCode >= 400
		return response, err
	})
}

// apps are the authenticator apps of simulated users.
type apps struct {
	attack sync.Mutex // one at a time
	mu     sync.Mutex
	keys   map[string]string // by username
}

var errNoApp = errors.New("the user has no authenticator app")

// user returns a user with an authenticator app.
func (a *apps) user(username, password string) *person.Person {
	p := person.New(username, password)
	p.Code = func(key string) (string, error) { return a.code(username, key) }
	return p
}

func (a *apps) has(username string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.keys[username] != ""
}

// code returns a code for a new key, which the app keeps, or else for the key that it has. A code
// works once, so after the one that confirmed the key, it is the next one, which is valid too.
func (a *apps) code(username, key string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := time.Now()
	if key == "" {
		key, at = a.keys[username], at.Add(totpPeriod)
	} else {
		a.keys[username] = key
	}
	if key == "" {
		return "", errNoApp
	}
	return totp.GenerateCode(key, at)
}

// totpPeriod is how long a code of an authenticator app is shown.
const totpPeriod = 30 * time.Second
