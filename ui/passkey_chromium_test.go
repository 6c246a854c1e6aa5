package ui

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/internal/chromium"
)

// virtualAuthenticator is an authenticator in Chromium, and what happened to its passkeys.
type virtualAuthenticator struct {
	t   *testing.T
	ctx context.Context
	id  webauthn.AuthenticatorID

	mu      sync.Mutex
	deleted []string
}

// newAuthenticator adds an authenticator to a browser.
func newAuthenticator(t *testing.T, ctx context.Context, synced bool) *virtualAuthenticator {
	t.Helper()
	a := &virtualAuthenticator{t: t, ctx: ctx}
	if _, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	added, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: "ctap2", Ctap2version: "ctap2_1", Transport: "internal", HasResidentKey: true, HasUserVerification: true,
		IsUserVerified: true, AutomaticPresenceSimulation: true, DefaultBackupEligibility: synced, DefaultBackupState: synced,
	}})
	if err != nil {
		t.Fatal(err)
	}
	a.id = added.AuthenticatorID
	err = chromedp.Listen(ctx, func(event any) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if event, ok := event.(*webauthn.EventCredentialDeleted); ok {
			a.deleted = append(a.deleted, string(event.CredentialID))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *virtualAuthenticator) credentials() []*webauthn.Credential {
	a.t.Helper()
	result, err := chromedp.Call(a.ctx, webauthn.GetCredentials, webauthn.GetCredentialsParams{AuthenticatorID: a.id})
	if err != nil {
		a.t.Fatal(err)
	}
	return result.Credentials
}

// forgotten returns the credential IDs of passkeys that were removed from the authenticator.
func (a *virtualAuthenticator) forgotten() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.deleted)
}

// presence sets whether the user touches the authenticator at once.
func (a *virtualAuthenticator) presence(on bool) {
	a.t.Helper()
	if _, err := chromedp.Call(a.ctx, webauthn.SetAutomaticPresenceSimulation, webauthn.SetAutomaticPresenceSimulationParams{AuthenticatorID: a.id, Enabled: on}); err != nil {
		a.t.Fatal(err)
	}
}

// eventually waits until the authenticator has received a signal.
func (a *virtualAuthenticator) eventually(what string, done func() bool) {
	a.t.Helper()
	for a.ctx.Err() == nil {
		if done() {
			return
		}
		_ = chromedp.Do(a.ctx, chromedp.Sleep(20*time.Millisecond)) // polls; the context has a deadline
	}
	a.t.Fatalf("%s: %s", what, chromium.WhereIs(context.WithoutCancel(a.ctx)))
}

func (w *world) do(ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		w.t.Fatalf("%v: %s", err, chromium.WhereIs(ctx))
	}
}

// evalPromise returns the result of a promise.
func evalPromise(t *testing.T, ctx context.Context, expression string) string {
	t.Helper()
	result, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%v: %s", err, chromium.WhereIs(ctx))
	}
	return result
}

const (
	passkeyButton = `form[data-passkey="sign_in"] button`
	addButton     = `form[data-passkey="create"] button`
)

// signInWithPassword signs Alice in and waits for the account page.
func (w *world) signInWithPassword(ctx context.Context) {
	w.t.Helper()
	w.do(ctx,
		chromedp.Navigate(w.url+"/sign-in"),
		chromedp.SendKeys(chromedp.CSS("#identifier"), "alice"),
		chromedp.SendKeys(chromedp.CSS("#password"), password),
		chromedp.Click(chromedp.CSS("main form .primary")),
		chromedp.WaitVisible(chromedp.CSS("#methods")),
	)
}

func (w *world) signOut(ctx context.Context) {
	w.t.Helper()
	w.do(ctx, chromedp.Navigate(w.url+"/account"), chromedp.Click(chromedp.CSS("header button")), chromedp.WaitVisible(chromedp.CSS("a[href='/sign-in']")))
}

// TestPasskeysInChromium goes through the life of a passkey with the virtual authenticator.
func TestPasskeysInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	w := newPasskeyWorld(t, nil)
	w.addAlice()
	device := newAuthenticator(t, ctx, true)

	// Adding one: the first password sign-in, then the button.
	w.signInWithPassword(ctx)
	w.do(ctx, chromedp.Navigate(w.url+passkeysPath), chromedp.Click(chromedp.CSS(addButton)), chromedp.WaitVisible(chromedp.CSS(".passkey-row")))
	if have := device.credentials(); len(have) != 1 || string(have[0].UserHandle) != "a" || have[0].UserName != "alice" {
		t.Fatalf("the authenticator has %v", have)
	}

	// Signing in by the button, in a browser without autofill.
	w.signOut(ctx)
	without, err := chromedp.Call(ctx, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: `PublicKeyCredential.isConditionalMediationAvailable = async () => false`})
	if err != nil {
		t.Fatal(err)
	}
	w.do(ctx, chromedp.Navigate(w.url+"/sign-in"), chromedp.Click(chromedp.CSS(passkeyButton)), chromedp.WaitVisible(chromedp.CSS("#methods")))
	if _, err := chromedp.Call(ctx, cdppage.RemoveScriptToEvaluateOnNewDocument, cdppage.RemoveScriptToEvaluateOnNewDocumentParams(without)); err != nil {
		t.Fatal(err)
	}

	// Signing in by autofill: the request waits, and the user chooses a passkey in the field.
	w.signOut(ctx)
	w.do(ctx, chromedp.Navigate(w.url+"/sign-in"), chromedp.WaitVisible(chromedp.CSS("#methods")))
	sessions, err := w.accounts.Sessions(t.Context(), time.Now(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if s := sessions[0]; s.ACR != "phr" || strings.Join(s.AMR, " ") != "swk user mfa" {
		t.Errorf("the session has acr %q, amr %q", s.ACR, s.AMR)
	}

	// A changed name reaches the password manager.
	w.updateUser("a", func(u *identity.User) { u.Username = "alice.liddell" })
	w.do(ctx, chromedp.Navigate(w.url+"/account"), chromedp.WaitVisible(chromedp.CSS("#methods")))
	device.eventually("the user was renamed", func() bool { return device.credentials()[0].UserName == "alice.liddell" })

	// Backup state.
	if _, err := chromedp.Call(ctx, webauthn.SetCredentialProperties, webauthn.SetCredentialPropertiesParams{
		AuthenticatorID: device.id, CredentialID: device.credentials()[0].CredentialID, BackupState: new(bool),
	}); err != nil {
		t.Fatal(err)
	}
	w.signOut(ctx)
	w.do(ctx, chromedp.Navigate(w.url+"/sign-in"), chromedp.WaitVisible(chromedp.CSS("#methods")))
	if w.alicesPasskeys()[0].Passkey.BackedUp {
		t.Error("the backup state was not updated")
	}

	// Removing it: the password manager forgets it.
	w.do(ctx, chromedp.Navigate(w.url+passkeysPath), chromedp.Click(chromedp.CSS(".passkey-row summary")), chromedp.Click(chromedp.CSS(".passkey-row .danger")), chromedp.WaitVisible(chromedp.CSS(".notice")))
	device.eventually("the passkey was removed", func() bool { return len(device.forgotten()) == 1 })
	if have := device.credentials(); len(have) != 0 {
		t.Errorf("the authenticator still has %v", have)
	}
}

// A removed passkey that is used again is forgotten, at the sign-in.
func TestRemovedPasskeyInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	w := newPasskeyWorld(t, nil)
	w.addAlice()
	device := newAuthenticator(t, ctx, false)
	w.signInWithPassword(ctx)
	w.do(ctx, chromedp.Navigate(w.url+passkeysPath), chromedp.Click(chromedp.CSS(addButton)), chromedp.WaitVisible(chromedp.CSS(".passkey-row")))
	// The passkey stays on its device, so that a second one is offered at once.
	if label := eval(t, ctx, fmt.Sprintf("document.querySelector('%s').innerText", addButton)); label != "Add a second passkey" {
		t.Errorf("the button says %q", label)
	}
	w.signOut(ctx)
	user, err := w.store.User(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.accounts.RemovePasskey(t.Context(), time.Now(), user, user.Authenticators[0].ID, identity.Activity{}); err != nil {
		t.Fatal(err)
	}
	w.do(ctx, chromedp.Navigate(w.url+"/sign-in"), chromedp.WaitVisible(chromedp.CSS("#alert")))
	device.eventually("the passkey is unknown", func() bool { return len(device.forgotten()) == 1 })
}

// At a confirmation, the dialog has the passkeys of this user, and there is another way.
func TestConfirmWithPasskeyInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	w := newPasskeyWorld(t, nil)
	w.addAlice()
	device := newAuthenticator(t, ctx, true)
	w.signInWithPassword(ctx)
	w.do(ctx, chromedp.Navigate(w.url+passkeysPath), chromedp.Click(chromedp.CSS(addButton)), chromedp.WaitVisible(chromedp.CSS(".passkey-row")))
	w.signOut(ctx)
	device.presence(false) // no autofill
	w.signInWithPassword(ctx)
	device.presence(true)
	w.do(ctx, chromedp.Navigate(w.url+passkeysPath), chromedp.Click(chromedp.CSS("ul.choices a")), chromedp.WaitVisible(chromedp.CSS(".passkey-row")))
}

// A page of another site cannot use the passkeys, in a frame or with the RP ID of the issuer.
func TestLG23_PasskeyOnAnotherSite(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	w := newPasskeyWorld(t, nil)
	w.addAlice()
	evil := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(rw, `<!DOCTYPE html><iframe id=frame src="%s/sign-in"></iframe><p id=here>here`, w.url)
	}))
	defer evil.Close()
	newAuthenticator(t, ctx, true)
	w.do(ctx, chromedp.Navigate(evil.URL), chromedp.WaitVisible(chromedp.CSS("#here")))
	if got := eval(t, ctx, `document.getElementById("frame").contentDocument === null ? "blocked" : "same origin"`); got != "blocked" {
		t.Errorf("the frame is %s", got)
	}
	if got := evalPromise(t, ctx, `(async () => { try {
		await navigator.credentials.get({ publicKey: { challenge: new Uint8Array(32), rpId: "localhost" } });
		return "signed";
	} catch (error) { return error.name; } })()`); got != "SecurityError" {
		t.Errorf("another site gets %s", got)
	}
}
