package ui

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/passkey"
	"github.com/valetkey/valetkey/internal/chromium"
	"github.com/valetkey/valetkey/internal/softauthenticator"
)

// An account can be created with a passkey and no password.
func TestSignUpWithPasskey(t *testing.T) {
	w := newPasskeyWorld(t, nil)
	w.addAlice()
	b := w.newBrowser()
	b.get(SignUpPath).want(t, 200, `data-passkey="sign_up"`)
	for name, status := range map[string]int{"alice": http.StatusBadRequest, "a b": http.StatusBadRequest} {
		b.post(passkeyOptionsPath, url.Values{"for": {string(passkey.SignUp)}, "username": {name}}).want(t, status, "message")
	}
	device := softauthenticator.New(w.url)
	options := b.options(passkey.SignUp, "username", "bob")
	var shown struct{ User struct{ ID, Name string } }
	if err := json.Unmarshal(options, &shown); err != nil || shown.User.Name != "bob" {
		t.Fatalf("the options are %s (%v)", options, err)
	}
	answer, err := device.Create(options)
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"username": {"bob"}, "user": {shown.User.ID}, "response": {string(answer)}}
	// The passkey belongs to one new account, and to this browser.
	other := url.Values{"username": {"bob"}, "user": {base64.RawURLEncoding.EncodeToString([]byte("a"))}, "response": {string(answer)}}
	b.post(SignUpPath, other).want(t, http.StatusBadRequest)
	w.newBrowser().post(SignUpPath, form).want(t, http.StatusBadRequest)
	b.post(SignUpPath, form).redirectedTo(t, "/account")
	b.get("/account").want(t, 200, "bob")
	b.post(SignUpPath, form).want(t, http.StatusBadRequest)
	bob, err := w.accounts.FindAny(t.Context(), "bob")
	if err != nil || bob.Has(identity.MethodPassword) || len(bob.Passkeys()) != 1 {
		t.Errorf("the account is %v (%v)", bob, err)
	}
	again := w.newBrowser()
	again.signInWith(device).redirectedTo(t, "/account?signed_in=1")
	if session := w.sessionOf(again); session.ACR != "phr" || session.User.ID != bob.ID {
		t.Errorf("signed in as %s with acr %s", session.User.ID, session.ACR)
	}
	// Without sign-up there are no options.
	closed := newPasskeyWorld(t, nil)
	closed.ui.config.SignUp = false
	closed.newBrowser().post(passkeyOptionsPath, url.Values{"for": {string(passkey.SignUp)}, "username": {"bob"}}).want(t, http.StatusNotFound)
}

// A stranger who may not sign up does not learn from the options which names are taken.
func TestLG01_OptionsForAPasskeyDoNotTellNames(t *testing.T) {
	for requires, status := range map[string]int{SignUpInvitation: http.StatusForbidden, SignUpEmailDomain: http.StatusForbidden} {
		w := newPasskeyWorld(t, nil)
		w.ui.config.SignUpRequires, w.ui.config.SignUpEmailDomains = requires, []string{"example.com"}
		w.addAlice()
		b := w.newBrowser()
		ask := func(name, proof, value string, want int) {
			t.Helper()
			b.post(passkeyOptionsPath, url.Values{"for": {string(passkey.SignUp)}, "username": {name}, proof: {value}}).want(t, want)
		}
		for _, proof := range []string{"none", "invitation", "token"} {
			ask("alice", proof, "made-up", status)
			ask("bob", proof, "made-up", status)
		}
		invitation, err := w.accounts.Invite(t.Context(), time.Now(), "", time.Hour, nil)
		if err != nil {
			t.Fatal(err)
		}
		ask("alice", "invitation", invitation, http.StatusBadRequest)
		ask("bob", "invitation", invitation, http.StatusOK)
		if requires == SignUpEmailDomain { // the code is checked, and counted, with the passkey
			ask("alice", "request", "made-up", http.StatusOK)
			ask("bob", "request", "made-up", http.StatusOK)
			ask("a b", "request", "made-up", http.StatusBadRequest)
		}
	}
}

func TestSignUpWithPasskeyInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	w := newPasskeyWorld(t, nil)
	w.addAlice()
	device := newAuthenticator(t, ctx, true)
	button := `form[data-passkey="sign_up"] button`
	w.do(ctx,
		chromedp.Navigate(w.url+SignUpPath), chromedp.WaitVisible(chromedp.CSS(button)),
		chromedp.SendKeys(chromedp.CSS("#username"), "alice"), chromedp.Click(chromedp.CSS(button)),
		chromedp.WaitVisible(chromedp.CSS(`form[data-passkey="sign_up"] [data-message]`)),
		chromedp.SendKeys(chromedp.CSS("#username"), "2"), chromedp.Click(chromedp.CSS(button)),
		chromedp.WaitVisible(chromedp.CSS("#methods")),
	)
	if made := device.credentials(); len(made) != 1 || made[0].UserName != "alice2" {
		t.Errorf("the authenticator has %v", made)
	}
	if u, err := w.accounts.FindAny(t.Context(), "alice2"); err != nil || u.Has(identity.MethodPassword) || !strings.Contains(u.Username, "alice2") {
		t.Errorf("the account is %v (%v)", u, err)
	}
}

// After a sign-in with a password, Chromium is asked to create a passkey without a dialog: create() with the
// mediation "conditional". Chromium lets only Google Password Manager answer that, for a user who is signed in
// to Google and has just used a saved password, and it leaves that out as soon as there is a virtual
// authenticator. So it does not answer, and the page goes on after five seconds. TestUpgradeOnlyAfterPassword
// shows what the server does with a passkey that is created. The immediate mode needs a press of the button.
func TestConditionalCreateAndImmediateModeInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 5*time.Minute)
	w := newPasskeyWorld(t, nil)
	w.addAlice()
	device := newAuthenticator(t, ctx, true)
	w.do(ctx, chromedp.Navigate(w.url+"/sign-in"), chromedp.WaitVisible(chromedp.CSS("#password")))
	var can struct{ ConditionalCreate, ImmediateGet bool }
	capabilities := evalPromise(t, ctx, `PublicKeyCredential.getClientCapabilities().then(c => JSON.stringify(c))`)
	if err := json.Unmarshal([]byte(capabilities), &can); err != nil {
		t.Fatal(err)
	}
	t.Logf("conditional create: %v, immediate mode: %v", can.ConditionalCreate, can.ImmediateGet)
	w.do(ctx, chromium.OnNewDocument(`{
		const create = navigator.credentials.create.bind(navigator.credentials);
		navigator.credentials.create = async (options) => {
			try {
				const created = await create(options);
				localStorage.setItem("create", options.mediation + ": created");
				return created;
			} catch (error) {
				localStorage.setItem("create", options.mediation + ": " + error.name);
				throw error;
			}
		};
	}`))
	w.signInWithPassword(ctx)
	if said := eval(t, ctx, `localStorage.getItem("create") || "not called"`); can.ConditionalCreate && !strings.HasPrefix(said, "conditional: ") {
		t.Errorf("create(): %s", said)
	} else {
		t.Logf("create(): %s", said)
	}
	// The page that asks for the passkey is shown once a month, which a cookie remembers.
	cookies, err := chromedp.Call(ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{w.url + "/"}})
	if err != nil {
		t.Fatal(err)
	}
	asked := slices.ContainsFunc(cookies.Cookies, func(c *network.Cookie) bool { return strings.Contains(c.Name, "upgrade") })
	if asked != can.ConditionalCreate {
		t.Errorf("Chromium can create a passkey: %v, and was asked to: %v", can.ConditionalCreate, asked)
	}
	t.Logf("passkeys created: %d", len(device.credentials()))
	if !can.ImmediateGet {
		return
	}
	// With a passkey, one press of the button is enough in the immediate mode.
	w.do(ctx, chromedp.Navigate(w.url+passkeysPath), chromedp.Click(chromedp.CSS(addButton)), chromedp.WaitVisible(chromedp.CSS(".passkey-row")))
	w.signOut(ctx)
	device.presence(false) // or else the suggestions of the field sign in at once
	w.do(ctx, chromedp.Navigate(w.url+"/sign-in"), chromedp.WaitVisible(chromedp.CSS(passkeyButton)))
	device.presence(true)
	w.do(ctx, chromedp.Click(chromedp.CSS(passkeyButton)), chromedp.WaitVisible(chromedp.CSS("#methods")))
}

// What a password manager does that accepts the request is played by the virtual authenticator, which gets it
// without the mediation: the page sends the new passkey, and the sign-in continues.
func TestUpgradeInChromium(t *testing.T) {
	if testing.Short() {
		t.Skip("starting a browser takes seconds")
	}
	ctx := chromium.Start(t, 2*time.Minute)
	w := newPasskeyWorld(t, nil)
	w.addAlice()
	device := newAuthenticator(t, ctx, true)
	w.do(ctx, chromium.OnNewDocument(`{
		PublicKeyCredential.getClientCapabilities = async () => ({ conditionalCreate: true });
		const create = navigator.credentials.create.bind(navigator.credentials);
		navigator.credentials.create = async ({ publicKey, mediation, signal }) => {
			localStorage.setItem("mediation", mediation);
			return create({ publicKey, signal });
		};
	}`))
	w.signInWithPassword(ctx)
	if mediation := eval(t, ctx, `localStorage.getItem("mediation") || "not called"`); mediation != "conditional" {
		t.Errorf("create() was called with the mediation %q", mediation)
	}
	if made := device.credentials(); len(made) != 1 || len(w.alicesPasskeys()) != 1 {
		t.Errorf("the authenticator has %d passkeys, the account %d", len(made), len(w.alicesPasskeys()))
	}
	w.signOut(ctx)
	w.do(ctx, chromedp.Navigate(w.url+"/sign-in"), chromedp.WaitVisible(chromedp.CSS("#methods"))) // from the suggestions of the field
}

// After a password and a code too, the browser may create a passkey, and at no other time.
func TestUpgradeAfterTwoFactors(t *testing.T) {
	w := newPasskeyWorld(t, nil)
	w.addAlice()
	b := w.signedIn()
	key := b.setsUpTOTP()
	again := w.newBrowser()
	again.post("/sign-in", url.Values{"identifier": {"alice"}, "password": {password}, upgradeParam: {"1"}}).redirectedTo(t, factorPath)
	page := again.get(proveTOTPPath)
	page.want(t, 200, "data-upgrade")
	again.post(proveTOTPPath, with(page.hidden(), "code", codeOf(t, key, 0), upgradeParam, "1")).redirectedTo(t, upgradePath)
	again.get(upgradePath).want(t, 200, `data-passkey="upgrade"`)
	// To confirm a change of the account is no sign-in.
	w.age(again)
	again.post(confirmPath, url.Values{"return": {totpPath}, "password": {password}}).redirectedTo(t, factorPath+"?return=%2Faccount%2Ftotp")
	if confirm := again.get(proveTOTPPath + "?return=%2Faccount%2Ftotp"); strings.Contains(confirm.body, "data-upgrade") {
		t.Error("a confirmation offers a passkey")
	}
}
