package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/internal/softauthenticator"
	"github.com/valetkey/valetkey/oauth"
	"github.com/valetkey/valetkey/oauth/client"
	"github.com/valetkey/valetkey/storage/record"
)

// The user of the scene, and the one who is attacked.
const (
	passkeyName           = "margaret"
	passkeyPassword       = "apollo-no-11"
	passkeyVictimName     = "hedy"
	passkeyVictimPassword = "hopping-no-1"
)

// fakeSite is the origin of a page that looks like the server's.
const fakeSite = "http://login.example.net"

func passkeyScene() scene {
	return scene{
		key: "passkey", title: "Passkey: a sign-in that cannot be phished", button: "Sign in with a passkey",
		about: "An archive asks for the class phr: two factors, of which one works only at the right site. Sign in as " + passkeyName + " with the password " + passkeyPassword +
			". The first time, you set up a passkey on your device; from then on, the button “Sign in with a passkey” is enough. Sign out before you go on with other scenes.",
		clientID: "archive", clientSecret: "demo-secret-of-the-archive-0123456789", clientName: "Archive",
		applicationType: oauth.ApplicationWeb,
		grantTypes:      []string{oauth.GrantTypeAuthorizationCode}, scopes: []string{oauth.ScopeOpenID, oauth.ScopeProfile},
		callback:  "/passkey/callback",
		configure: declarePasskeyUsers, start: startPasskey, run: runPasskey,
		user: func(d *Demo) *person.Person { return d.passkeys.user(d, passkeyName, passkeyPassword) },
		breaks: []breakage{
			{key: "phishing", title: "Fake site", about: "A page at another address passes the server's challenge on to the user's device, and sends the response to the server.", only: true, code: pageError},
			{key: "replay", title: "Replay the response", about: "A thief has seen the response of the user's device, and sends it again from another browser.", only: true, code: pageError},
			{key: "unlocked", title: "No PIN", about: "A thief has the user's security key, and uses it without the PIN.", only: true, code: pageError},
		},
	}
}

func declarePasskeyUsers(_ *Demo, c *configuration.Configuration) error {
	c.Users = append(c.Users,
		configuration.User{Username: passkeyName, Password: passkeyPassword, Name: "Margaret Hamilton"},
		configuration.User{Username: passkeyVictimName, Password: passkeyVictimPassword, Name: "Hedy Lamarr"})
	return nil
}

// phishingResistant requires the class phr.
func phishingResistant() *oauth.ClaimsRequest {
	return &oauth.ClaimsRequest{IDToken: map[string]*oauth.ClaimRequest{"acr": {Essential: true, Value: json.RawMessage(`"phr"`)}}}
}

func startPasskey(ctx context.Context, d *Demo, w *walk) error {
	var err error
	w.address, w.transaction, err = d.clients[w.scene.key].AuthorizationURL(ctx, client.AuthorizationOptions{
		Prompt: []string{"login"}, LoginHint: passkeyName, Claims: phishingResistant(),
	})
	return err
}

func runPasskey(ctx context.Context, d *Demo, w *walk) error {
	if w.breakKey() != "" {
		return d.attackPasskey(ctx, w)
	}
	identity := w.tokens.Identity
	shown, err := json.MarshalIndent(map[string]any{"sub": identity.Subject, "acr": identity.ACR, "amr": identity.AMR}, "", "  ")
	if err != nil {
		return fmt.Errorf("show the ID token: %w", err)
	}
	w.result = "The ID token says how the user signed in (OpenID Connect Core, section 2): " + string(shown)
	if w.failed = identity.ACR != "phr"; w.failed {
		w.result = "The app requires acr phr. " + w.result
	}
	return nil
}

// attackPasskey answers a challenge of the server in a way that it must refuse.
func (d *Demo) attackPasskey(ctx context.Context, w *walk) error {
	d.passkeys.attack.Lock()
	defer d.passkeys.attack.Unlock()
	victim := d.passkeys.user(d, passkeyVictimName, passkeyVictimPassword)
	device := victim.Passkeys
	if len(device.Credentials) == 0 {
		address, _, err := d.clients[w.scene.key].AuthorizationURL(ctx, client.AuthorizationOptions{Claims: phishingResistant()})
		if err != nil {
			return err
		}
		if _, err := victim.Visit(address, d.app+w.scene.callback); err != nil {
			return fmt.Errorf("set up the passkey of a user: %w", err)
		}
	}
	browser, err := newPasskeyBrowser(d)
	if err != nil {
		return err
	}
	options, err := browser.options(ctx)
	if err != nil {
		return err
	}
	attacked := *device
	from, purpose, rule := partyThief, "", record.Check{}
	switch w.breakKey() {
	case "phishing":
		attacked.Origin = fakeSite
		purpose = "The fake site sends the response of the user's device. A browser would not have asked the device, because the passkey belongs to another domain. If it had, the signed data would name the fake site (Web Authentication, section 7.2, step 12)."
		rule = record.Check{Rule: "the signed origin is that of the server", Section: "Web Authentication Level 3, section 7.2"}
	case "unlocked":
		attacked.Flags &^= softauthenticator.UserVerified
		purpose = "The thief uses the key without its PIN. The signed data says that the user was not verified (Web Authentication, section 7.2, step 16)."
		rule = record.Check{Rule: "the user was verified, by a PIN or biometrics", Section: "Web Authentication Level 3, section 7.2"}
	case "replay":
		purpose = "The thief sends the same response. Its challenge belongs to the browser that got it, and works once (Web Authentication, section 13.4.3)."
		rule = record.Check{Rule: "the challenge was issued to this browser, and is used for the first time", Section: "Web Authentication Level 3, section 13.4.3"}
	}
	response, err := attacked.Get(options)
	if err != nil {
		return fmt.Errorf("use a passkey: %w", err)
	}
	if w.breakKey() == "replay" {
		status, err := browser.send(recordedFrom(ctx, &w.recording, partyBrowser, "The user's device has signed the server's challenge, the origin of the page and the domain. The browser sends that (Web Authentication, section 7.2)."), response)
		if err != nil {
			return err
		}
		if status >= http.StatusBadRequest {
			return fmt.Errorf("the passkey was refused with status %d", status)
		}
		if browser, err = newPasskeyBrowser(d); err != nil {
			return err
		}
	}
	status, err := browser.send(recordedFrom(ctx, &w.recording, from, purpose), response)
	if err != nil {
		return err
	}
	if w.failed = status >= http.StatusBadRequest; !w.failed {
		w.result = "The thief is signed in."
		return nil
	}
	w.recording.refuse(rule)
	w.result = "Refused: " + rule.Rule
	return nil
}

// passkeyBrowser is a browser that sends the requests of the script for passkeys.
type passkeyBrowser struct {
	d    *Demo
	http http.Client
}

func newPasskeyBrowser(d *Demo) (*passkeyBrowser, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, fmt.Errorf("start a browser: %w", err)
	}
	return &passkeyBrowser{d, http.Client{
		Jar: jar, Transport: d.recorder(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// options asks for the options of a sign-in.
func (b *passkeyBrowser) options(ctx context.Context) ([]byte, error) {
	_, body, err := b.post(ctx, "/passkey/options", url.Values{"for": {"sign_in"}})
	return body, err
}

// send sends the response of a device, and returns the status.
func (b *passkeyBrowser) send(ctx context.Context, response []byte) (status int, err error) {
	status, _, err = b.post(ctx, "/sign-in/passkey", url.Values{"response": {string(response)}})
	return status, err
}

func (b *passkeyBrowser) post(ctx context.Context, path string, form url.Values) (status int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.d.issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, nil, fmt.Errorf("send a form: %w", err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", b.d.issuer)
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	response, err := b.http.Do(request)
	if err != nil {
		return 0, nil, fmt.Errorf("send a form: %w", err)
	}
	defer response.Body.Close()
	var content bytes.Buffer
	if _, err := io.Copy(&content, io.LimitReader(response.Body, 1<<20)); err != nil {
		return 0, nil, fmt.Errorf("read a response: %w", err)
	}
	return response.StatusCode, content.Bytes(), nil
}

// devices have the passkeys of simulated users.
type devices struct {
	attack sync.Mutex // one at a time
	mu     sync.Mutex
	byUser map[string]*softauthenticator.Authenticator
}

// user returns a user with a device that has passkeys.
func (s *devices) user(d *Demo, username, password string) *person.Person {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byUser[username] == nil {
		s.byUser[username] = softauthenticator.New(d.issuer)
	}
	p := person.New(username, password)
	p.Passkeys = s.byUser[username]
	return p
}
