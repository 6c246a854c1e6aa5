package ldap

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/valetkey/valetkey/configuration"
	"github.com/valetkey/valetkey/identity"
	"github.com/valetkey/valetkey/identity/directory"
	"github.com/valetkey/valetkey/internal/person"
	"github.com/valetkey/valetkey/internal/softauthenticator"
	"github.com/valetkey/valetkey/oauth/client"
)

var (
	shownKey = regexp.MustCompile(`<p class="key"><code>([A-Z2-7 ]+)</code>`)
	sealed   = regexp.MustCompile(`name="sealed" value="([^"]+)"`)
	unlinkID = regexp.MustCompile(`name="unlink" value="([^"]+)"`)
)

// codeOf returns the code of an authenticator app, a number of steps from now. Each code is valid once.
func codeOf(t *testing.T, key string, steps int) string {
	t.Helper()
	code, err := totp.GenerateCode(strings.ReplaceAll(key, " ", ""), time.Now().Add(time.Duration(steps)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// addsTOTP sets up an authenticator app in a browser that is signed in, and returns its key.
func (b *browser) addsTOTP() (key string) {
	b.t.Helper()
	status, _, body := b.get("/account/totp/new")
	shown, form := shownKey.FindStringSubmatch(body), sealed.FindStringSubmatch(body)
	if shown == nil || form == nil {
		b.t.Fatalf("the page of a new app: %d", status)
	}
	if status, _, _ := b.post("/account/totp/new", url.Values{"sealed": {form[1]}, "code": {codeOf(b.t, shown[1], -1)}}); status != http.StatusSeeOther {
		b.t.Fatalf("confirm the app: %d", status)
	}
	return shown[1]
}

// setUpTOTP signs a user of the directory in and sets up an authenticator app.
func setUpTOTP(t *testing.T, issuer, username, password string) (key string) {
	t.Helper()
	b := newBrowser(t, issuer)
	if status, _, _ := b.signIn(username, password); status != http.StatusSeeOther {
		t.Fatalf("sign in as %s: %d", username, status)
	}
	return b.addsTOTP()
}

// identityOf signs a person in to the client app.
func identityOf(t *testing.T, issuer string, p *person.Person) (*client.IDToken, error) {
	t.Helper()
	c, err := client.Discover(t.Context(), client.Config{Issuer: issuer, ClientID: "app", RedirectURI: callback, Scopes: []string{"openid"}})
	if err != nil {
		t.Fatal(err)
	}
	address, transaction, err := c.AuthorizationURL(t.Context(), client.AuthorizationOptions{})
	if err != nil {
		t.Fatal(err)
	}
	response, err := p.Visit(address, callback)
	if err != nil {
		return nil, err
	}
	tokens, err := c.Callback(t.Context(), transaction, response.Query())
	if err != nil {
		return nil, err
	}
	return tokens.Identity, nil
}

// An authenticator app that a user of a directory has set up is asked for after the password there.
func TestAuthenticatorAppAfterTheDirectoryPassword(t *testing.T) {
	s := startSlapd(t)
	issuer := serve(t, []directory.Config{openLDAP(s)}, withApp)
	key := setUpTOTP(t, issuer, "alice", userPassword)
	b := newBrowser(t, issuer)
	if _, location, _ := b.signIn("alice", userPassword); !strings.HasSuffix(location, "/sign-in/factor") {
		t.Fatalf("after the password: %s", location)
	}
	if _, location, _ := b.get("/account"); !strings.Contains(location, "/sign-in") {
		t.Error("the password alone signs in")
	}
	if status, _, _ := b.post("/sign-in/totp", url.Values{"code": {"000000"}}); status != http.StatusForbidden {
		t.Errorf("a wrong code: %d", status)
	}
	if _, location, _ := b.post("/sign-in/totp", url.Values{"code": {codeOf(t, key, 0)}}); !strings.Contains(location, "/account?signed_in") {
		t.Errorf("the code: %s", location)
	}
	second := b.addsTOTP() // each code is valid once
	alice := person.New("alice", userPassword)
	alice.Code = func(string) (string, error) { return codeOf(t, key, 1), nil }
	who, err := identityOf(t, issuer, alice)
	if err != nil || who.ACR != "2" || !slices.Equal(who.AMR, []string{"pwd", "otp", "mfa"}) {
		t.Errorf("%+v, %v", who, err)
	}
	// The directory lets alice in no more, between the password and the code.
	b = newBrowser(t, issuer)
	b.signIn("alice", userPassword)
	s.modify(t, userDN("alice"), "pwdAccountLockedTime", "000001010000Z")
	if status, location, body := b.post("/sign-in/totp", url.Values{"code": {codeOf(t, second, 0)}}); status != http.StatusForbidden || !strings.Contains(body, "You cannot sign in with") {
		t.Errorf("a code of a user who was disabled in the directory: %d %s", status, location)
	}
}

// The policy names a group of the directory. Its members set up a second factor when they sign in, and
// those who have left the group need none.
func TestPolicyForAGroupOfTheDirectory(t *testing.T) {
	s := startSlapd(t)
	s.addUser(t, "dave", nil)
	issuer := serve(t, []directory.Config{openLDAP(s)}, func(c *configuration.Configuration) {
		withApp(c)
		c.SignIn.Rules = []configuration.SignInRule{{ACR: string(identity.ClassTwoFactors), Groups: []string{"engineering"}}}
	})
	if who, err := identityOf(t, issuer, person.New("dave", userPassword)); err != nil || who.ACR != "1" {
		t.Errorf("a user who is not in the group: %+v, %v", who, err)
	}
	s.modify(t, groupDN("engineering"), "member", userDN("alice"), userDN("dave"))
	if who, err := identityOf(t, issuer, person.New("dave", userPassword)); err == nil {
		t.Errorf("a member of the group signed in with the password alone: %+v", who)
	}
	dave, key := person.New("dave", userPassword), ""
	steps := -1
	dave.Code = func(shown string) (string, error) {
		if shown != "" {
			key = shown
		}
		steps++
		return codeOf(t, key, steps), nil
	}
	who, err := identityOf(t, issuer, dave)
	if err != nil || who.ACR != "2" || key == "" {
		t.Errorf("with an app that is set up at the sign-in: %+v, %v", who, err)
	}
	// alice leaves the group before she has set anything up.
	s.modify(t, groupDN("engineering"), "member", userDN("dave"))
	if who, err := identityOf(t, issuer, person.New("alice", userPassword)); err != nil || who.ACR != "1" {
		t.Errorf("a user who left the group: %+v, %v", who, err)
	}
}

// A passkey of a user of a directory takes the place of the password there as long as the directory lets
// the user in, and does not keep the account open afterwards.
func TestPasskeyOfAUserOfTheDirectory(t *testing.T) {
	s := startSlapd(t)
	issuer := serve(t, []directory.Config{openLDAP(s)}, func(c *configuration.Configuration) {
		withApp(c)
		c.Issuer = strings.Replace(c.Issuer, "127.0.0.1", "localhost", 1)
		c.SignIn.Rules = []configuration.SignInRule{{ACR: string(identity.ClassPhishingResistant), Groups: []string{"engineering"}}}
	})
	alice := person.New("alice", userPassword)
	alice.Passkeys = softauthenticator.New(issuer)
	who, err := identityOf(t, issuer, alice)
	if err != nil || who.ACR != "phr" || len(alice.Passkeys.Credentials) != 1 {
		t.Fatalf("a passkey that is set up at the sign-in: %+v, %v", who, err)
	}
	again := person.New("nobody", "")
	again.Passkeys = alice.Passkeys
	other, err := identityOf(t, issuer, again)
	if err != nil || other.Subject != who.Subject || slices.Contains(other.AMR, "pwd") || s.binds(userDN("alice")) != 1 {
		t.Errorf("the passkey alone: %+v, %v, %d binds", other, err, s.binds(userDN("alice")))
	}
	s.modify(t, userDN("alice"), "pwdAccountLockedTime", "000001010000Z")
	again = person.New("nobody", "") // without the session
	again.Passkeys = alice.Passkeys
	if who, err := identityOf(t, issuer, again); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a passkey of a user who is disabled in the directory: %+v, %v", who, err)
	}
}

// After a sign-in with the password of the directory, the browser may create a passkey without asking, as after
// one with a password here. It ends with the account in the directory, like any other passkey.
func TestPasskeyUpgradeAfterTheDirectoryPassword(t *testing.T) {
	s := startSlapd(t)
	issuer := serve(t, []directory.Config{openLDAP(s)}, func(c *configuration.Configuration) {
		withApp(c)
		c.Issuer = strings.Replace(c.Issuer, "127.0.0.1", "localhost", 1)
	})
	b := newBrowser(t, issuer)
	status, location, _ := b.post("/sign-in", url.Values{"identifier": {"alice"}, "password": {userPassword}, "upgrade": {"1"}})
	if status != http.StatusSeeOther || location != "/passkey/upgrade" {
		t.Fatalf("after the password: %d %s", status, location)
	}
	if status, _, body := b.get(location); status != http.StatusOK || !strings.Contains(body, `data-passkey="upgrade"`) {
		t.Fatalf("the page: %d", status)
	}
	device := softauthenticator.New(issuer)
	device.Flags &^= softauthenticator.UserPresent | softauthenticator.UserVerified
	status, _, options := b.post("/passkey/options", url.Values{"for": {"upgrade"}})
	if status != http.StatusOK {
		t.Fatalf("options: %d %s", status, options)
	}
	created, err := device.Create([]byte(options))
	if err != nil {
		t.Fatal(err)
	}
	if status, location, _ := b.post("/passkey/upgrade", url.Values{"response": {string(created)}}); status != http.StatusSeeOther || !strings.HasPrefix(location, "/account") {
		t.Errorf("the passkey: %d %s", status, location)
	}
	device.Flags |= softauthenticator.UserPresent | softauthenticator.UserVerified
	withPasskey := func() (*client.IDToken, error) {
		p := person.New("nobody", "")
		p.Passkeys = device
		return identityOf(t, issuer, p)
	}
	if who, err := withPasskey(); err != nil || who.ACR != "phr" {
		t.Errorf("sign-in with the passkey: %+v, %v", who, err)
	}
	s.modify(t, userDN("alice"), "pwdAccountLockedTime", "000001010000Z")
	if who, err := withPasskey(); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a passkey of a user who is disabled in the directory: %+v, %v", who, err)
	}
}

// signedUp returns a browser in which grace has created an account with a password.
func signedUp(t *testing.T, issuer string) *browser {
	t.Helper()
	b := newBrowser(t, issuer)
	if status, _, body := b.post("/sign-up", url.Values{"username": {"grace"}, "password": {userPassword + " local"}}); status != http.StatusSeeOther {
		t.Fatalf("sign up: %d %s", status, body)
	}
	return b
}

// The directory is a way to sign in like others: it can be unlinked if there is another one. An app is not
// another one, and neither is a directory that is no longer configured.
func TestLastMethodOfAUserOfTheDirectory(t *testing.T) {
	s := startSlapd(t)
	file := "sqlite:" + t.TempDir() + "/valetkey.db"
	onFile := func(c *configuration.Configuration) { c.Database, c.SignUp = file, true }
	issuer := serve(t, []directory.Config{openLDAP(s)}, onFile)
	b := newBrowser(t, issuer)
	b.signIn("alice", userPassword)
	b.addsTOTP()
	unlink := func(b *browser) int {
		t.Helper()
		_, _, body := b.get("/account/linked")
		id := unlinkID.FindStringSubmatch(body)
		if id == nil {
			t.Fatal("the page has no button to unlink")
		}
		status, _, _ := b.post("/account/linked", url.Values{"unlink": {id[1]}})
		return status
	}
	if status := unlink(b); status != http.StatusConflict {
		t.Errorf("the only way to sign in was unlinked: %d", status)
	}
	// grace has signed up: the operator has not declared her password.
	grace := signedUp(t, issuer)
	link := url.Values{"directory": {"corp"}, "identifier": {"bob"}, "password": {userPassword}}
	if status, _, _ := grace.post("/account/linked", link); status != http.StatusSeeOther {
		t.Fatalf("link: %d", status)
	}
	if status := unlink(grace); status != http.StatusSeeOther {
		t.Errorf("a link next to a password: %d", status)
	}
	if status, _, _ := grace.post("/account/linked", link); status != http.StatusSeeOther {
		t.Fatalf("link again: %d", status)
	}
	// With the directory, grace does not need the password here.
	if _, location, body := grace.post("/account/password/remove", url.Values{}); location == "/account/password" {
		t.Errorf("the password cannot be removed next to a directory: %s %s", location, body)
	}
	if signedIn(t, issuer, "grace", userPassword+" local") || !signedIn(t, issuer, "bob", userPassword) {
		t.Error("the password was not removed, or the directory does not open the account")
	}
	if status := unlink(grace); status != http.StatusConflict {
		t.Errorf("the directory was unlinked after the password was removed: %d", status)
	}
}

// A password is not removed if the only other way to sign in is a directory that is no longer configured.
func TestADirectoryThatIsGoneIsNoWayToSignIn(t *testing.T) {
	s := startSlapd(t)
	file := "sqlite:" + t.TempDir() + "/valetkey.db"
	onFile := func(c *configuration.Configuration) { c.Database, c.SignUp = file, true }
	first := serve(t, []directory.Config{openLDAP(s)}, onFile)
	b := signedUp(t, first)
	if status, _, _ := b.post("/account/linked", url.Values{"directory": {"corp"}, "identifier": {"bob"}, "password": {userPassword}}); status != http.StatusSeeOther {
		t.Fatalf("link: %d", status)
	}
	other := openLDAP(s)
	other.ID = "other"
	again := newBrowser(t, serve(t, []directory.Config{other}, onFile))
	again.signIn("grace", userPassword+" local")
	if _, location, _ := again.post("/account/password/remove", url.Values{}); location != "/account/password" {
		t.Errorf("the last way to sign in was removed: %s", location)
	}
	if !signedIn(t, again.issuer, "grace", userPassword+" local") {
		t.Error("grace cannot sign in any more")
	}
	_, _, body := again.get("/account/linked")
	if id := unlinkID.FindStringSubmatch(body); id == nil {
		t.Error("the link to the directory that is gone is not listed")
	} else if status, _, _ := again.post("/account/linked", url.Values{"unlink": {id[1]}}); status != http.StatusSeeOther {
		t.Errorf("a link that is of no use cannot be removed: %d", status)
	}
}
