package ui

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valetkey/valetkey/authserver"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/passkey"
	"github.com/valetkey/valetkey/internal/softauthenticator"
	"github.com/valetkey/valetkey/ui/messages"
)

// What the pages say about passkeys that are not accepted.
var (
	passkeyFailed  = messages.English.Text(text("alert.passkey"))
	passkeyTooLate = messages.English.Text(text("alert.passkey-too-late"))
)

// newPasskeyWorld returns a world whose issuer has a domain, and thus passkeys.
func newPasskeyWorld(t *testing.T, change func(*passkey.Config)) *world {
	t.Helper()
	return newWorldAt(t, "localhost", func(c *Config) {
		config := passkey.Config{Issuer: c.Issuer, Name: "Valetkey", Secret: []byte("0123456789abcdef0123456789abcdef")}
		if change != nil {
			change(&config)
		}
		var err error
		if c.Passkeys, err = passkey.New(config); err != nil {
			t.Fatal(err)
		}
	}, func(*authserver.Config) {})
}

// options asks for the options of a ceremony.
func (b *browserClient) options(purpose passkey.Purpose, more ...string) []byte {
	b.t.Helper()
	resp := b.post(passkeyOptionsPath, with(url.Values{"for": {string(purpose)}}, more...))
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("options for %s: status %d: %s", purpose, resp.StatusCode, resp.body)
	}
	return []byte(resp.body)
}

// signedIn signs Alice in with the password.
func (w *world) signedIn() *browserClient {
	w.t.Helper()
	b := w.newBrowser()
	b.signIn("alice", password).redirectedTo(w.t, "/account?signed_in=1")
	return b
}

// addPasskey adds a passkey of an authenticator to the account of a signed-in user.
func (b *browserClient) addPasskey(device *softauthenticator.Authenticator) {
	b.t.Helper()
	answer, err := device.Create(b.options(passkey.Create))
	if err != nil {
		b.t.Fatal(err)
	}
	b.post(passkeysPath, url.Values{"response": {string(answer)}}).redirectedTo(b.t, passkeysPath)
}

// withPasskey returns a world in which Alice has a passkey.
func withPasskey(t *testing.T, device func(origin string) *softauthenticator.Authenticator) (*world, *softauthenticator.Authenticator) {
	t.Helper()
	w := newPasskeyWorld(t, nil)
	w.addAlice()
	authenticator := device(w.url)
	w.signedIn().addPasskey(authenticator)
	return w, authenticator
}

// securityKey returns an authenticator whose passkeys cannot be copied, and which counts.
func securityKey(origin string) *softauthenticator.Authenticator {
	device := softauthenticator.New(origin)
	device.Flags, device.Counting = softauthenticator.UserPresent|softauthenticator.UserVerified, true
	return device
}

// signInWith answers the options of a sign-in.
func (b *browserClient) signInWith(device *softauthenticator.Authenticator) response {
	b.t.Helper()
	return b.respond(device, b.options(passkey.SignIn))
}

func (b *browserClient) respond(device *softauthenticator.Authenticator, options []byte) response {
	b.t.Helper()
	answer, err := device.Get(options)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.post(passkeyPath, url.Values{"response": {string(answer)}})
}

// age replaces the session of Alice's browser with one whose proofs are an hour old.
func (w *world) age(b *browserClient) {
	w.t.Helper()
	user, err := w.accounts.User(w.t.Context(), "a")
	if err != nil {
		w.t.Fatal(err)
	}
	at := time.Now().Add(-time.Hour)
	proofs := []identity.ProvedMethod{{Method: identity.MethodPassword, At: at}}
	secret, _, err := w.accounts.StartSession(w.t.Context(), time.Now(), user, identity.SessionDetails{AuthTime: at, Proofs: proofs, ACR: "1"}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	identity.SetSessionCookie(recorder, w.url, secret)
	address, err := url.Parse(w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	b.client.Jar.SetCookies(address, recorder.Result().Cookies())
}

func (w *world) alicesPasskeys() []identity.Authenticator {
	w.t.Helper()
	user, err := w.store.User(w.t.Context(), "a")
	if err != nil {
		w.t.Fatal(err)
	}
	return user.Authenticators
}

func TestPasskeySignsInWithoutPassword(t *testing.T) {
	w, device := withPasskey(t, softauthenticator.New)
	w.updateUser("a", func(u *identity.User) { u.PasswordHash = "" })
	b := w.newBrowser()
	b.signInWith(device).redirectedTo(t, "/account?signed_in=1")
	b.get("/account").want(t, 200, "Alice Liddell", "Passkeys")
	sessions, err := w.accounts.Sessions(t.Context(), time.Now(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if s := sessions[0]; s.ACR != "phr" || strings.Join(s.AMR, " ") != "swk user mfa" {
		t.Errorf("the session has acr %q, amr %q", s.ACR, s.AMR)
	}
	// The last way to sign in stays.
	b.get(passkeysPath).want(t, 200, "This is your only way to sign in")
	b.post(passkeysPath+"/remove", url.Values{"passkey": {w.alicesPasskeys()[0].ID}}).want(t, http.StatusConflict, "only way to sign in")
	if len(w.alicesPasskeys()) != 1 {
		t.Error("the last passkey was removed")
	}
}

func TestPasskeyContinuesInteraction(t *testing.T) {
	w, device := withPasskey(t, softauthenticator.New)
	b := w.newBrowser()
	page := b.get(b.get(w.authorizeURL(nil)).redirected(t))
	page.want(t, 200, `data-passkey="sign_in" data-autofill`, `autocomplete="username webauthn"`, `hidden>`)
	answer, err := device.Get(b.options(passkey.SignIn))
	if err != nil {
		t.Fatal(err)
	}
	next := b.post(passkeyPath, with(page.hidden(), "response", string(answer))).redirected(t)
	if !strings.HasPrefix(next, "/consent?") {
		t.Errorf("after the sign-in, the browser goes to %s", next)
	}
}

// What a stranger asks for is not stored.
func TestOptionsStoreNothing(t *testing.T) {
	w, _ := withPasskey(t, softauthenticator.New)
	later := time.Now().AddDate(10, 0, 0) // when every ticket has expired
	if _, err := w.store.Reclaim(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		w.newBrowser().options(passkey.SignIn)
	}
	if stored, err := w.store.Reclaim(t.Context(), later); err != nil || stored != 0 {
		t.Errorf("%d tickets were stored, %v", stored, err)
	}
}

func TestLG22_AssertionWorksOnceAndInOneBrowser(t *testing.T) {
	w, device := withPasskey(t, softauthenticator.New)
	b, other := w.newBrowser(), w.newBrowser()
	answer, err := device.Get(b.options(passkey.SignIn))
	if err != nil {
		t.Fatal(err)
	}
	other.options(passkey.SignIn) // it has a cookie of its own
	other.post(passkeyPath, url.Values{"response": {string(answer)}}).want(t, http.StatusForbidden, passkeyFailed)
	w.newBrowser().post(passkeyPath, url.Values{"response": {string(answer)}}).want(t, http.StatusForbidden, passkeyFailed)
	b.post(passkeyPath, url.Values{"response": {string(answer)}}).redirectedTo(t, "/account?signed_in=1")
	b.post(passkeyPath, url.Values{"response": {string(answer)}}).want(t, http.StatusForbidden, passkeyTooLate)
}

func TestPasskeyRefusalsLookTheSame(t *testing.T) {
	w, device := withPasskey(t, softauthenticator.New)
	stranger := softauthenticator.New(w.url)
	if _, err := stranger.Create([]byte(`{"rp":{"id":"localhost"},"user":{"id":"bm9ib2R5","name":"x"}}`)); err != nil {
		t.Fatal(err)
	}
	impostor := softauthenticator.New(w.url) // has the ID of Alice's passkey, and another key
	if _, err := impostor.Create([]byte(`{"rp":{"id":"localhost"},"user":{"id":"YQ","name":"alice"}}`)); err != nil {
		t.Fatal(err)
	}
	impostor.Credentials[0].ID = device.Credentials[0].ID
	without := softauthenticator.New(w.url)
	*without = *device
	without.Flags &^= softauthenticator.UserVerified
	var bodies []string
	for what, attacker := range map[string]*softauthenticator.Authenticator{
		"a passkey of nobody": stranger, "a wrong key": impostor, "no user verification": without,
	} {
		resp := w.newBrowser().signInWith(attacker)
		resp.want(t, http.StatusForbidden, passkeyFailed)
		bodies = append(bodies, resp.body)
		if bodies[0] != resp.body {
			t.Errorf("the page for %s differs", what)
		}
		if strings.Contains(resp.body, "data-unknown") {
			t.Errorf("%s: the page reveals that the passkey is unknown", what)
		}
	}
	for _, change := range []func(*identity.User){func(u *identity.User) { u.Disabled = true }, func(u *identity.User) { u.Disabled, u.RetiredAt = false, time.Now() }} {
		w.updateUser("a", change)
		resp := w.newBrowser().signInWith(device)
		resp.want(t, http.StatusForbidden, passkeyFailed)
		if resp.body != bodies[0] {
			t.Error("the page for a user who is not active differs")
		}
	}
}

func TestRemovedPasskeyIsForgottenByItsManager(t *testing.T) {
	w, device := withPasskey(t, softauthenticator.New)
	b := w.newBrowser()
	b.signInWith(device).redirectedTo(t, "/account?signed_in=1")
	b.post(passkeysPath+"/remove", url.Values{"passkey": {w.alicesPasskeys()[0].ID}}).redirectedTo(t, passkeysPath)
	b.get(passkeysPath).want(t, 200, messages.English.Text(text("notice.passkey-removed")), `allAcceptedCredentialIds&#34;:[]`)
	// Who has the passkey is told; who only knows its ID is not.
	resp := w.newBrowser().signInWith(device)
	id := base64.RawURLEncoding.EncodeToString(device.Credentials[0].ID)
	resp.want(t, http.StatusForbidden, passkeyFailed, "data-unknown=", id)
	impostor := softauthenticator.New(w.url)
	if _, err := impostor.Create([]byte(`{"rp":{"id":"localhost"},"user":{"id":"YQ","name":"alice"}}`)); err != nil {
		t.Fatal(err)
	}
	impostor.Credentials[0].ID = device.Credentials[0].ID
	if resp := w.newBrowser().signInWith(impostor); strings.Contains(resp.body, id) {
		t.Error("someone without the key learns that the passkey was removed")
	}
}

func TestLG25_SignCount(t *testing.T) {
	for name, attempt := range map[string]struct {
		device  func(string) *softauthenticator.Authenticator
		refused bool
	}{
		"a security key": {securityKey, true},
		"a synced passkey": {func(origin string) *softauthenticator.Authenticator {
			device := softauthenticator.New(origin)
			device.Counting = true
			return device
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w, device := withPasskey(t, attempt.device)
			w.newBrowser().signInWith(device).redirectedTo(t, "/account?signed_in=1")
			w.newBrowser().signInWith(device).redirectedTo(t, "/account?signed_in=1")
			clone := *device
			clone.Count = 0 // a copy that was made before
			resp := w.newBrowser().signInWith(&clone)
			if attempt.refused {
				resp.want(t, http.StatusForbidden, passkeyFailed)
			} else {
				resp.redirectedTo(t, "/account?signed_in=1")
			}
			w.accounts.Close()
			if !strings.Contains(w.log.String(), "passkey.sign_count") {
				t.Errorf("the log has no event:\n%s", w.log.String())
			}
			w.newBrowser().signInWith(device).redirectedTo(t, "/account?signed_in=1")
		})
	}
}

// Most sign-ins leave the record of the user as it is.
func TestSignInWithPasskeyDoesNotWriteTheUser(t *testing.T) {
	w, device := withPasskey(t, softauthenticator.New)
	w.newBrowser().signInWith(device).redirectedTo(t, "/account?signed_in=1")
	first := w.alicesPasskeys()[0].LastUsedAt
	if first.IsZero() {
		t.Error("the first use is not recorded")
	}
	w.newBrowser().signInWith(device).redirectedTo(t, "/account?signed_in=1")
	if again := w.alicesPasskeys()[0].LastUsedAt; !again.Equal(first) {
		t.Errorf("the second use was recorded %v after the first", again.Sub(first))
	}
	device.Flags &^= softauthenticator.BackedUp
	w.newBrowser().signInWith(device).redirectedTo(t, "/account?signed_in=1")
	if w.alicesPasskeys()[0].Passkey.BackedUp {
		t.Error("the backup state is not updated")
	}
}

func TestPasskeysNeedRecentProof(t *testing.T) {
	w, device := withPasskey(t, softauthenticator.New)
	b := w.newBrowser()
	b.signInWith(device).redirectedTo(t, "/account?signed_in=1")
	answer, err := softauthenticator.New(w.url).Create(b.options(passkey.Create))
	if err != nil {
		t.Fatal(err)
	}
	w.age(b)
	for _, path := range []string{passkeysPath, passkeysPath + "/rename", passkeysPath + "/remove"} {
		resp := b.post(path, url.Values{"response": {string(answer)}, "passkey": {w.alicesPasskeys()[0].ID}, "name": {"Mallory"}})
		resp.redirectedTo(t, "/account/confirm?return=%2Faccount%2Fpasskeys")
	}
	if got := w.alicesPasskeys(); len(got) != 1 || got[0].Name == "Mallory" {
		t.Errorf("something changed: %v", got)
	}
	resp := b.post(passkeyOptionsPath, url.Values{"for": {"create"}})
	resp.want(t, http.StatusForbidden, `"location":"/account/passkeys"`)
	// The confirmation accepts the passkeys of this user only.
	mallory := softauthenticator.New(w.url)
	w.addUser(identity.User{ID: "m", Username: "mallory", PasswordHash: passwordHash()})
	m := w.newBrowser()
	m.signIn("mallory", password).redirectedTo(t, "/account?signed_in=1")
	m.addPasskey(mallory)
	confirming := url.Values{"for": {"confirm"}, "return": {passkeysPath}}
	options := b.options(passkey.Confirm, "return", passkeysPath)
	if !strings.Contains(string(options), base64.RawURLEncoding.EncodeToString(device.Credentials[0].ID)) {
		t.Errorf("the options do not name the user's passkey: %s", options)
	}
	mallory.Credentials[0].ID, mallory.Credentials[0].UserHandle = device.Credentials[0].ID, []byte("a")
	forged, err := mallory.Get(options)
	if err != nil {
		t.Fatal(err)
	}
	b.post(passkeyPath, with(url.Values{"response": {string(forged)}}, "for", "confirm", "return", passkeysPath)).want(t, http.StatusForbidden, passkeyFailed)
	right, err := device.Get(b.options(passkey.Confirm, "return", passkeysPath))
	if err != nil {
		t.Fatal(err)
	}
	b.post(passkeyPath, with(confirming, "response", string(right))).redirectedTo(t, passkeysPath)
	b.get(passkeysPath).want(t, 200, "Add a passkey")
}

func TestPasskeysAreNamedAndLimited(t *testing.T) {
	w := newPasskeyWorld(t, nil)
	w.addAlice()
	device, b := securityKey(w.url), w.signedIn()
	b.addPasskey(device)
	b.get(passkeysPath).want(t, 200, "Add a second passkey", "exists in one place only", "Only on this device")
	if _, err := device.Create(b.options(passkey.Create)); err == nil {
		t.Error("the options do not exclude the passkey that the authenticator has")
	}
	id := w.alicesPasskeys()[0].ID
	b.post(passkeysPath+"/rename", url.Values{"passkey": {id}, "name": {"Blue \u202ekey<script>"}}).redirectedTo(t, passkeysPath)
	b.get(passkeysPath).want(t, 200, messages.English.Text(text("notice.passkey-renamed")), "Blue key&lt;script&gt;")
	for i := 1; i < identity.MaxPasskeys; i++ {
		b.addPasskey(softauthenticator.New(w.url))
	}
	b.get(passkeysPath).want(t, 200, "You cannot add more passkeys")
	answer, err := softauthenticator.New(w.url).Create(b.options(passkey.Create))
	if err != nil {
		t.Fatal(err)
	}
	b.post(passkeysPath, url.Values{"response": {string(answer)}}).want(t, http.StatusBadRequest, "maximum number of passkeys")
	if n := len(w.alicesPasskeys()); n != identity.MaxPasskeys {
		t.Errorf("there are %d passkeys", n)
	}
}

// A passkey without user verification is one factor, and an account with a second factor needs it.
func TestPasskeyWithoutVerificationIsOneFactor(t *testing.T) {
	w := newPasskeyWorld(t, func(c *passkey.Config) { c.OptionalUserVerification = true })
	w.addAlice()
	device := softauthenticator.New(w.url)
	w.signedIn().addPasskey(device)
	w.updateUser("a", func(u *identity.User) {
		u.Authenticators = append(u.Authenticators, identity.Authenticator{ID: "totp-1", Kind: identity.MethodTOTP})
	})
	w.newBrowser().signInWith(device).redirectedTo(t, "/account?signed_in=1")
	device.Flags &^= softauthenticator.UserVerified
	b := w.newBrowser()
	if next := b.signInWith(device).redirected(t); next != factorPath {
		t.Errorf("without verification, the browser goes to %s", next)
	}
	if b.cookie("valetkey_session") != "" {
		t.Error("a session began")
	}
}

// The browser creates a passkey after a sign-in with a password, and at no other time.
func TestUpgradeOnlyAfterPassword(t *testing.T) {
	w := newPasskeyWorld(t, nil)
	w.addAlice()
	b := w.newBrowser()
	page := b.get(b.get(w.authorizeURL(nil)).redirected(t))
	next := b.post("/sign-in", with(page.hidden(), "identifier", "alice", "password", password, upgradeParam, "1")).redirected(t)
	if !strings.HasPrefix(next, upgradePath+"?interaction=") {
		t.Fatalf("after the password, the browser goes to %s", next)
	}
	page = b.get(next)
	page.want(t, 200, "/authorize/continue?interaction=")
	device := softauthenticator.New(w.url)
	device.Flags &^= softauthenticator.UserPresent | softauthenticator.UserVerified
	answer, err := device.Create(b.options(passkey.Upgrade))
	if err != nil {
		t.Fatal(err)
	}
	if onward := b.post(upgradePath, with(page.hidden(), "response", string(answer))).redirected(t); !strings.HasPrefix(onward, "/authorize/continue?") {
		t.Errorf("then it goes to %s", onward)
	}
	if n := len(w.alicesPasskeys()); n != 1 {
		t.Errorf("there are %d passkeys", n)
	}
	// Now the user has one.
	b.post(passkeyOptionsPath, url.Values{"for": {"upgrade"}}).want(t, http.StatusForbidden)
	again := w.newBrowser()
	again.post("/sign-in", url.Values{"identifier": {"alice"}, "password": {password}, upgradeParam: {"1"}}).redirectedTo(t, "/account?signed_in=1")
	// Not without a password, and not much later.
	w.updateUser("a", func(u *identity.User) { u.Authenticators = nil })
	w.newBrowser().post(passkeyOptionsPath, url.Values{"for": {"upgrade"}}).want(t, http.StatusForbidden)
	late := w.signedIn()
	w.age(late)
	late.post(passkeyOptionsPath, url.Values{"for": {"upgrade"}}).want(t, http.StatusForbidden)
	late.get(upgradePath).redirectedTo(t, "/account?signed_in=1")
}

func TestWellKnownDocuments(t *testing.T) {
	w := newPasskeyWorld(t, nil)
	resp := w.newBrowser().get("/.well-known/passkey-endpoints")
	var endpoints map[string]string
	if err := json.Unmarshal([]byte(resp.body), &endpoints); err != nil || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%v, %q", err, resp.Header)
	}
	if want := w.url + passkeysPath; len(endpoints) != 2 || endpoints["enroll"] != want || endpoints["manage"] != want {
		t.Errorf("the endpoints are %v", endpoints)
	}
	w.newBrowser().get("/.well-known/webauthn").want(t, http.StatusNotFound)
	related := newWorldAt(t, "localhost", func(c *Config) {
		c.Passkeys = w.ui.config.Passkeys
		c.RelatedOrigins = []string{"https://login.example.de"}
	}, func(*authserver.Config) {})
	related.newBrowser().get("/.well-known/webauthn").want(t, 200, `{"origins":["https://login.example.de"]}`)
	// Without a domain there are no passkeys.
	plain := newWorld(t)
	plain.newBrowser().get("/.well-known/passkey-endpoints").want(t, http.StatusNotFound)
	if page := plain.newBrowser().get("/sign-in"); strings.Contains(page.body, "passkey") {
		t.Error("the sign-in page mentions passkeys")
	}
}

func TestPasskeyInputIsBounded(t *testing.T) {
	w, _ := withPasskey(t, softauthenticator.New)
	b := w.newBrowser()
	b.options(passkey.SignIn)
	for _, answer := range []string{"", "{}", "null", strings.Repeat("[", 9000), `{"id":"` + strings.Repeat("A", 9000) + `"}`, strings.Repeat("x", 60<<10)} {
		b.post(passkeyPath, url.Values{"response": {answer}}).want(t, http.StatusForbidden, passkeyFailed)
	}
	b.post(passkeyOptionsPath, url.Values{"for": {"anything"}}).want(t, http.StatusBadRequest)
	b.get(passkeyOptionsPath).want(t, http.StatusMethodNotAllowed)
}
